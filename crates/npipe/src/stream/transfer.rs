//! The caller's side of a read or a write: where bytes go to or come from.
//!
//! The machine decides in counts; these move the bytes, for each kind of buffer that a face accepts.

use std::io::{IoSlice, IoSliceMut};

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
    pub(crate) slices: &'a mut [IoSliceMut<'b>],
    pub(crate) filled: usize,
}

impl Slices<'_, '_> {
    /// The unfilled part of the first slice that has one.
    fn next(&mut self) -> &mut [u8] {
        let mut skip = self.filled;
        for slice in self.slices.iter_mut() {
            if skip < slice.len() {
                return &mut slice[skip..];
            }
            skip -= slice.len();
        }
        &mut []
    }
}

impl Destination for Slices<'_, '_> {
    fn room(&self) -> usize {
        total_length(self.slices.iter().map(|slice| slice.len())) - self.filled
    }

    fn put(&mut self, mut bytes: &[u8]) -> usize {
        let start = self.filled;
        while !bytes.is_empty() && self.room() > 0 {
            let next = self.next();
            let count = bytes.len().min(next.len());
            next[..count].copy_from_slice(&bytes[..count]);
            self.filled += count;
            bytes = &bytes[count..];
        }
        self.filled - start
    }

    fn fill(&mut self, read: &mut dyn FnMut(&mut [u8]) -> usize) -> usize {
        let count = read(self.next());
        self.filled += count;
        count
    }
}

/// A `BufMut`. It lends no memory that is known to be initialised, so what is read directly goes through a buffer of its
/// own.
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
