//! Reading into buffers, and writing from buffers, that the caller gives away: without a copy of
//! ours.
//!
//! What is given away may stay with the kernel for as long as the operation takes, whatever becomes
//! of the caller.

use std::io;
use std::mem;
use std::task::{Context, Poll};

use bytes::{Bytes, BytesMut};

use super::read::{Progress, Skips};
use super::transfer::Destination;
use super::write::refusal;
use super::{Inbound, Key, Outbound, Stream, system_error, wait};
use crate::coop::poll_fn;
use crate::error::too_long_to_send;
use crate::machine::{Framing, WriteStep, is_sendable, total_length};
use crate::sync::lock;

/// Room for a buffer that comes without.
const LEAST_ROOM: usize = 4 * 1024;

/// What one read without waiting brings into such a buffer at most.
const LARGEST_FILL: usize = 64 * 1024;

/// What small pieces that are written together come to at most.
const LARGEST_GATHERED: usize = 64 * 1024;

/// What a `BytesMut` has room for without growing, as a destination.
struct Spare<'a> {
    buffer: &'a mut BytesMut,
}

impl Destination for Spare<'_> {
    fn room(&self) -> usize {
        self.buffer.capacity() - self.buffer.len()
    }

    fn put(&mut self, bytes: &[u8]) -> usize {
        let count = bytes.len().min(self.room());
        self.buffer.extend_from_slice(&bytes[..count]);
        count
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        let start = self.buffer.len();
        // A read that may not wait seldom brings more, and the memory has to have values.
        self.buffer.resize(start + self.room().min(LARGEST_FILL), 0);
        let count = read(&mut self.buffer[start..]);
        self.buffer.truncate(start + count);
        count
    }
}

/// Puts pieces together that follow each other and are small: a copy costs less than a call.
fn gather(pieces: &[Bytes]) -> Vec<Bytes> {
    let mut gathered = Vec::new();
    let mut rest = pieces;
    while !rest.is_empty() {
        let (together, behind) = rest.split_at(count_together(rest));
        gathered.push(match together {
            [one] => one.clone(),
            several => several.concat().into(),
        });
        rest = behind;
    }
    gathered
}

/// The number of pieces at the front that go into one write.
fn count_together(pieces: &[Bytes]) -> usize {
    let mut length = 0;
    let small = pieces.iter().take_while(|piece| {
        length += piece.len();
        piece.len() < LEAST_ROOM && length <= LARGEST_GATHERED
    });
    small.count().max(1)
}

impl Stream {
    /// Reads behind what `buffer` holds. Nothing more in it: the end.
    pub(crate) async fn read_owned(&self, mut buffer: BytesMut) -> io::Result<BytesMut> {
        if buffer.len() == buffer.capacity() {
            buffer.reserve(LEAST_ROOM);
        }
        // What it had room for counts, also after it was given away.
        let room = buffer.capacity() - buffer.len();
        let waiter = self.reader();
        poll_fn(|context| self.poll_read_owned(context, waiter.key(), &mut buffer, room)).await?;
        Ok(buffer)
    }

    pub(crate) fn poll_read_owned(
        &self,
        context: &Context<'_>,
        key: Key,
        buffer: &mut BytesMut,
        room: usize,
    ) -> Poll<io::Result<()>> {
        self.reporting("read", || {
            let mut inbound = lock(&self.core.inbound);
            let mut skips = Skips::new();
            loop {
                if buffer.is_empty() {
                    if let Some(whole) = inbound.machine.take(room) {
                        *buffer = BytesMut::from(Bytes::from(whole));
                        return Poll::Ready(Ok(()));
                    }
                }
                let ready = inbound.machine.is_ready();
                if buffer.capacity() == 0 && ready {
                    // It was given away, and what came instead is not to be had without a copy.
                    *buffer = BytesMut::with_capacity(room);
                }
                // An empty buffer is submitted, which costs no more than a read that must not wait, and needs
                // no memory with values.
                let mut nothing = BytesMut::new();
                let destination = if buffer.is_empty() && !ready { &mut nothing } else { &mut *buffer };
                match self.fill(&mut inbound, &mut Spare { buffer: destination }, &mut skips)? {
                    Progress::Read(_) => return Poll::Ready(Ok(())),
                    Progress::Submit(size) => self.submit_given(&mut inbound, buffer, size),
                    Progress::Wait(wait) => {
                        wait.leave(&self.core.inbound, inbound, key, context);
                        return Poll::Pending;
                    }
                }
            }
        })
    }

    /// Submits a read into `buffer`, if it is empty, nobody else has a part of it, and it takes as
    /// much as a buffer of ours of `size` would: else the copy costs less than the calls.
    fn submit_given(&self, inbound: &mut Inbound, buffer: &mut BytesMut, size: usize) {
        let is_given = buffer.is_empty() && buffer.capacity() >= size;
        let given = if is_given { Vec::from(mem::take(buffer)) } else { Vec::new() };
        if given.capacity() > 0 {
            self.submit_read_into(inbound, given);
            inbound.machine.on_given();
        } else {
            self.submit_read(inbound, size);
        }
    }

    /// [`read_owned`](Self::read_owned) into the first buffer, and of what is there then into the
    /// next ones, as far as that goes on: without waiting, and not into the next message.
    pub(crate) async fn read_owned_vectored(&self, mut buffers: Vec<BytesMut>) -> io::Result<Vec<BytesMut>> {
        let Some(first) = buffers.first_mut() else { return Ok(buffers) };
        let full = if first.len() < first.capacity() { first.capacity() } else { first.len() + LEAST_ROOM };
        *first = self.read_owned(mem::take(first)).await?;
        if first.len() < full {
            return Ok(buffers);
        }
        let mut inbound = lock(&self.core.inbound);
        let mut skips = Skips::new();
        for buffer in &mut buffers[1..] {
            let mut spare = Spare { buffer };
            let ends_here = inbound.machine.reads_messages() && inbound.machine.is_message_complete();
            if ends_here || spare.room() == 0 || inbound.machine.is_ended() {
                break;
            }
            if !matches!(self.fill(&mut inbound, &mut spare, &mut skips), Ok(Progress::Read(_)))
                || spare.room() > 0
            {
                break;
            }
        }
        drop(inbound);
        Ok(buffers)
    }

    /// Has all of `pieces` accepted, one behind the other, or, on a message pipe, as one message.
    pub(crate) async fn write_owned(&self, mut pieces: Vec<Bytes>) -> io::Result<()> {
        let waiter = self.writer();
        poll_fn(|context| self.poll_write_owned(context, waiter.key(), &mut pieces)).await
    }

    pub(crate) fn poll_write_owned(
        &self,
        context: &Context<'_>,
        key: Key,
        pieces: &mut Vec<Bytes>,
    ) -> Poll<io::Result<()>> {
        self.reporting("write", || {
            let mut outbound = lock(&self.core.outbound);
            if self.accept_given(&mut outbound, pieces)? {
                return Poll::Ready(Ok(()));
            }
            wait(&self.core.outbound, outbound, key, context)
        })
    }

    /// Accepts all or nothing. An error may come after a part of it.
    fn accept_given(&self, outbound: &mut Outbound, pieces: &mut Vec<Bytes>) -> io::Result<bool> {
        if pieces.len() != 1 {
            if outbound.machine.framing() == Framing::Unknown {
                self.classify(outbound)?;
            }
            if outbound.machine.framing() == Framing::Messages {
                if !is_sendable(total_length(pieces.iter().map(Bytes::len))) {
                    return Err(too_long_to_send());
                }
                // Windows takes a message in one piece.
                *pieces = vec![pieces.concat().into()];
            } else {
                *pieces = gather(pieces);
            }
        }
        let mut rest = mem::take(pieces).into_iter();
        while let Some(mut piece) = rest.next() {
            loop {
                match outbound.machine.step(piece.len()) {
                    WriteStep::Fail(code) => return Err(system_error(code)),
                    WriteStep::Refuse(refused) => return Err(refusal(refused)),
                    WriteStep::Classify => self.classify(outbound)?,
                    WriteStep::Nothing => break,
                    WriteStep::Wait => {
                        // Only before the first: what is behind an accepted one is queued with it.
                        pieces.push(piece);
                        pieces.extend(rest);
                        return Ok(false);
                    }
                    WriteStep::Queue(_) => {
                        outbound.machine.queue_given(piece);
                        rest.filter(|piece| !piece.is_empty())
                            .for_each(|piece| outbound.machine.queue_given(piece));
                        return Ok(true);
                    }
                    WriteStep::Submit(count) => {
                        let goes_on = self.submit(outbound, piece.split_to(count))?;
                        if goes_on {
                            std::iter::once(piece)
                                .chain(rest)
                                .filter(|piece| !piece.is_empty())
                                .for_each(|piece| outbound.machine.queue_given(piece));
                            return Ok(true);
                        }
                        if piece.is_empty() {
                            break;
                        }
                    }
                }
            }
        }
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(pieces: &[&'static [u8]]) -> Vec<usize> {
        let pieces: Vec<_> = pieces.iter().copied().map(Bytes::from_static).collect();
        gather(&pieces).iter().map(Bytes::len).collect()
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of buffers, without pointers of ours")]
    fn small_pieces_are_written_together() {
        static LARGE: [u8; LEAST_ROOM] = [0; LEAST_ROOM];
        static SMALL: [u8; LEAST_ROOM - 1] = [0; LEAST_ROOM - 1];
        assert_eq!(lengths(&vec![&SMALL[..1]; 100_000]), [LARGEST_GATHERED, 100_000 - LARGEST_GATHERED]);
        assert_eq!(lengths(&vec![&SMALL[..]; 17]), [16 * SMALL.len(), SMALL.len()]);
        assert_eq!(
            lengths(&[b"a", b"bc", &LARGE, b"d", &LARGE, &LARGE, b"", b"e"]),
            [3, 4096, 1, 4096, 4096, 1]
        );
    }

    #[test]
    #[cfg_attr(miri, ignore = "tens of thousands of buffers, without pointers of ours")]
    fn what_is_put_together_keeps_its_order() {
        let pieces: Vec<_> = (0..=255).cycle().take(70_000).map(|byte| Bytes::from(vec![byte])).collect();
        assert_eq!(gather(&pieces).concat(), pieces.concat());
    }

    #[test]
    fn a_piece_beside_large_ones_is_not_copied() {
        let (header, body) = (Bytes::from(vec![1; 100]), Bytes::from(vec![2; LEAST_ROOM]));
        let gathered = gather(&[header.clone(), body.clone()]);
        assert_eq!([gathered[0].as_ptr(), gathered[1].as_ptr()], [header.as_ptr(), body.as_ptr()]);
    }
}
