//! Reproducible data for transfers: what is written and what is expected come from the same seed,
//! so that every byte of any volume is compared without keeping it. Knows no pipe.

const BLOCK: usize = 64 * 1024;

/// An endless pseudo-random sequence of bytes that a seed determines, whatever the pieces it is
/// taken in.
pub(crate) struct StreamData {
    generator: fastrand::Rng,
    block: Vec<u8>,
    used: usize,
    offset: u64,
}

impl StreamData {
    pub(crate) fn new(seed: u64) -> Self {
        let mut data =
            Self { generator: fastrand::Rng::with_seed(seed), block: vec![0; BLOCK], used: 0, offset: 0 };
        data.generator.fill(&mut data.block);
        data
    }

    /// The next bytes, at most `limit`, at least one.
    pub(crate) fn peek(&mut self, limit: usize) -> &[u8] {
        if self.used == BLOCK {
            self.generator.fill(&mut self.block);
            self.used = 0;
        }
        &self.block[self.used..BLOCK.min(self.used + limit)]
    }

    /// Marks the first `count` bytes of the last `peek` as used.
    pub(crate) fn advance(&mut self, count: usize) {
        self.used += count;
        self.offset += count as u64;
    }

    /// The next `count` bytes.
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let mut taken = Vec::with_capacity(count);
        while taken.len() < count {
            let piece = self.peek(count - taken.len());
            let used = piece.len();
            taken.extend_from_slice(piece);
            self.advance(used);
        }
        taken
    }

    /// Asserts that `received` is what comes next.
    #[track_caller]
    pub(crate) fn expect(&mut self, mut received: &[u8]) {
        while !received.is_empty() {
            let offset = self.offset;
            let expected = self.peek(received.len());
            let count = expected.len();
            // Whole slices first: byte by byte is slow in a debug build.
            if *expected != received[..count] {
                let at = (0..count).find(|&at| expected[at] != received[at]).expect("they differ");
                panic!(
                    "byte {} of the stream is {:#04x} instead of {:#04x}",
                    offset + at as u64,
                    received[at],
                    expected[at]
                );
            }
            received = &received[count..];
            self.advance(count);
        }
    }

    /// How many bytes were used so far.
    pub(crate) fn offset(&self) -> u64 {
        self.offset
    }
}

/// Chunk sizes as programs use them: mostly small, sometimes large, now and then just around a page
/// or a buffer.
pub(crate) fn random_chunk(generator: &mut fastrand::Rng, largest: usize) -> usize {
    let size = match generator.u8(0..10) {
        0 => 1,
        1 | 2 => generator.usize(1..=128),
        3 => 4095 + generator.usize(0..3),
        4 => 65535 + generator.usize(0..3),
        _ => generator.usize(1..=largest),
    };
    size.min(largest)
}
