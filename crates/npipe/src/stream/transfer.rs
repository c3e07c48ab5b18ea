//! The caller's side of a read or a write: where bytes go to or come from.
//!
//! The machine decides in counts; these move the bytes, for each kind of buffer that a face
//! accepts.

use std::io::{IoSlice, IoSliceMut};
use std::mem;

use bytes::BufMut;

use crate::machine::total_length;

/// Where a read puts its bytes.
pub(crate) trait Destination {
    /// How many more bytes it takes.
    fn room(&self) -> usize;
    /// Copies as many of `bytes` as there is room for. Returns how many.
    fn put(&mut self, bytes: &[u8]) -> usize;
    /// Lets `read` fill memory of the destination, which may be less than all the room. Returns the
    /// count that `read` returned.
    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize;
}

/// A slice, filled from the front.
pub(crate) struct Slice<'a> {
    pub(crate) bytes: &'a mut [u8],
    pub(crate) filled: usize,
}

impl Destination for Slice<'_> {
    fn room(&self) -> usize {
        self.bytes.len() - self.filled
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.bytes[self.filled..][..count].copy_from_slice(&bytes[..count]);
        self.filled += count;
        count
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        let count = read(&mut self.bytes[self.filled..]);
        self.filled += count;
        count
    }
}

/// Several slices, filled one after the other.
pub(crate) struct Slices<'a, 'b> {
    /// The slices that are not full, and perhaps full ones before them.
    slices: &'a mut [IoSliceMut<'b>],
    /// The filled bytes of the first of them.
    filled: usize,
    /// The unfilled bytes of all of them.
    room: usize,
}

impl<'a, 'b> Slices<'a, 'b> {
    pub(crate) fn new(slices: &'a mut [IoSliceMut<'b>]) -> Self {
        let room = total_length(slices.iter().map(|slice| slice.len()));
        Self { slices, filled: 0, room }
    }

    /// Lets `fill` write to the rest of the first slice that is not full. Returns the count that
    /// `fill` returned, or 0 if all slices are full.
    fn fill_next(&mut self, fill: impl FnOnce(&mut [u8]) -> usize) -> usize {
        while self.slices.first().is_some_and(|first| first.len() == self.filled) {
            self.slices = &mut mem::take(&mut self.slices)[1..];
            self.filled = 0;
        }
        let Some(first) = self.slices.first_mut() else { return 0 };
        let count = fill(&mut first[self.filled..]);
        self.filled += count;
        self.room -= count;
        count
    }
}

impl Destination for Slices<'_, '_> {
    fn room(&self) -> usize {
        self.room
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let mut put = 0;
        while put < bytes.len() && self.room > 0 {
            put += self.fill_next(|next| {
                let count = next.len().min(bytes.len() - put);
                next[..count].copy_from_slice(&bytes[put..][..count]);
                count
            });
        }
        put
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        self.fill_next(read)
    }
}

/// A `BufMut`. It lends no memory that is known to be initialised, so what is read directly goes
/// through a buffer of its own.
pub(crate) struct Growing<'a, B> {
    buffer: &'a mut B,
    /// The number of bytes that this read may still append. The buffer's own room may be more than
    /// memory holds, and need not shrink.
    left: usize,
}

/// The most that one read appends to a growing buffer.
const GROWING_ROOM: usize = 64 * 1024;

impl<'a, B> Growing<'a, B> {
    pub(crate) fn new(buffer: &'a mut B) -> Self {
        Self { buffer, left: GROWING_ROOM }
    }
}

impl<B: BufMut> Destination for Growing<'_, B> {
    fn room(&self) -> usize {
        self.buffer.remaining_mut().min(self.left)
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.buffer.put_slice(&bytes[..count]);
        self.left -= count;
        count
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        let mut bytes = vec![0; self.room()];
        let count = read(&mut bytes);
        self.put(&bytes[..count])
    }
}

/// Where a write takes its bytes from.
pub(crate) trait Source {
    /// Possibly more than fits into memory, if slices overlap.
    fn length(&self) -> usize;
    /// Appends the first `count` bytes to `buffer`.
    fn copy(&self, count: usize, buffer: &mut Vec<u8>);
}

impl Source for &[u8] {
    fn length(&self) -> usize {
        self.len()
    }

    fn copy(&self, count: usize, buffer: &mut Vec<u8>) {
        buffer.extend_from_slice(&self[..count]);
    }
}

impl Source for &[IoSlice<'_>] {
    fn length(&self) -> usize {
        total_length(self.iter().map(|slice| slice.len()))
    }

    fn copy(&self, mut count: usize, buffer: &mut Vec<u8>) {
        for slice in self.iter() {
            let part = count.min(slice.len());
            buffer.extend_from_slice(&slice[..part]);
            count -= part;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slices_are_filled_one_after_the_other() {
        let (mut first, mut second) = ([0; 3], [0; 4]);
        let mut none = [[0; 0]; 3].into_iter();
        let mut none = || none.next().unwrap();
        let (mut a, mut b, mut c) = (none(), none(), none());
        let mut slices = [&mut a[..], &mut first, &mut b, &mut second, &mut c].map(IoSliceMut::new);
        let mut destination = Slices::new(&mut slices);
        assert_eq!(destination.put(b"12"), 2);
        let read = &mut |room: &mut [u8]| {
            assert_eq!(room.len(), 1, "the rest of a slice");
            room[0] = b'3';
            1
        };
        assert_eq!(destination.fill(read), 1);
        assert_eq!(destination.room(), 4);
        assert_eq!(destination.put(b"45678"), 4);
        assert_eq!(destination.room(), 0);
        assert_eq!((destination.put(b"9"), destination.fill(&mut |_| unreachable!())), (0, 0));
        assert_eq!((first, second), (*b"123", *b"4567"));
    }

    #[test]
    fn slices_are_written_one_after_the_other() {
        let slices = [&b"123"[..], b"", b"4567"].map(IoSlice::new);
        let (source, mut buffer) = (&slices[..], b"0".to_vec());
        assert_eq!(source.length(), 7);
        source.copy(5, &mut buffer);
        assert_eq!(buffer, b"012345");
    }

    /// A search from the first slice on for each byte would take hours.
    #[test]
    fn each_slice_is_passed_once() {
        let count = if cfg!(miri) { 1_000 } else { 1_000_000 };
        let mut bytes = vec![0; count];
        let mut slices: Vec<_> = bytes.chunks_mut(1).map(IoSliceMut::new).collect();
        assert_eq!(Slices::new(&mut slices).put(&vec![7; count]), count);
        assert!(bytes.iter().all(|byte| *byte == 7));
    }
}
