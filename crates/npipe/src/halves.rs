//! The two directions of a pipe end, for two owners. Of either face: a half holds the end and knows
//! nothing of it.

use std::error::Error;
use std::fmt;
use std::sync::Arc;

/// The reading direction of a pipe end `P`, by `into_split`; [`reunite`](Self::reunite) is the way
/// back.
///
/// It reads by the same traits as `P`. Everything else that `P` can do by reference is to be had
/// from [`as_ref`](Self::as_ref).
///
/// A pipe has no half-close: dropping one half tells the peer nothing. The pipe is closed when both
/// are gone.
///
/// ```no_run
/// # #[cfg(all(windows, feature = "tokio"))]
/// # async fn split() -> Result<(), Box<dyn std::error::Error>> {
/// use tokio::io::{AsyncReadExt, AsyncWriteExt};
///
/// let (mut reader, mut writer) = npipe::ClientOptions::new().open("inventory")?.into_split();
/// let reading = tokio::spawn(async move {
///     let mut answer = [0; 16];
///     reader.read_exact(&mut answer).await.map(|_| reader)
/// });
/// writer.write_all(b"how many apples?").await?;
/// let client = reading.await??.reunite(writer)?;
/// # Ok(())
/// # }
/// ```
pub struct OwnedReadHalf<P> {
    pub(crate) pipe: Arc<P>,
}

/// The writing direction of a pipe end `P`, by `into_split`; see [`OwnedReadHalf`].
///
/// It writes by the same traits as `P`. Dropping it leaves what was written on its way, as dropping
/// the pipe does.
pub struct OwnedWriteHalf<P> {
    pub(crate) pipe: Arc<P>,
}

/// Two halves that are not of the same pipe end, as they were.
pub struct ReuniteError<P>(
    /// The half that reads.
    pub OwnedReadHalf<P>,
    /// The half that writes.
    pub OwnedWriteHalf<P>,
);

pub(crate) fn split<P>(pipe: P) -> (OwnedReadHalf<P>, OwnedWriteHalf<P>) {
    let pipe = Arc::new(pipe);
    (OwnedReadHalf { pipe: pipe.clone() }, OwnedWriteHalf { pipe })
}

impl<P> OwnedReadHalf<P> {
    /// Whether `writer` is the other half of the same pipe end.
    pub fn is_pair_of(&self, writer: &OwnedWriteHalf<P>) -> bool {
        Arc::ptr_eq(&self.pipe, &writer.pipe)
    }

    /// The pipe end that the two halves were made of.
    ///
    /// # Errors
    ///
    /// [`ReuniteError`], which gives both back, when they are not of the same pipe end.
    pub fn reunite(self, writer: OwnedWriteHalf<P>) -> Result<P, ReuniteError<P>> {
        if !self.is_pair_of(&writer) {
            return Err(ReuniteError(self, writer));
        }
        drop(writer);
        Ok(Arc::into_inner(self.pipe).expect("a pipe end has two halves, and one is dropped"))
    }
}

impl<P> OwnedWriteHalf<P> {
    /// Whether `reader` is the other half of the same pipe end.
    pub fn is_pair_of(&self, reader: &OwnedReadHalf<P>) -> bool {
        reader.is_pair_of(self)
    }

    /// The pipe end that the two halves were made of: [`OwnedReadHalf::reunite`] from this side.
    ///
    /// # Errors
    ///
    /// As [`OwnedReadHalf::reunite`].
    pub fn reunite(self, reader: OwnedReadHalf<P>) -> Result<P, ReuniteError<P>> {
        reader.reunite(self)
    }
}

impl<P> AsRef<P> for OwnedReadHalf<P> {
    fn as_ref(&self) -> &P {
        &self.pipe
    }
}

impl<P> AsRef<P> for OwnedWriteHalf<P> {
    fn as_ref(&self) -> &P {
        &self.pipe
    }
}

impl<P: fmt::Debug> fmt::Debug for OwnedReadHalf<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("OwnedReadHalf").field(&self.pipe).finish()
    }
}

impl<P: fmt::Debug> fmt::Debug for OwnedWriteHalf<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("OwnedWriteHalf").field(&self.pipe).finish()
    }
}

impl<P: fmt::Debug> fmt::Debug for ReuniteError<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("ReuniteError").field(&self.0).field(&self.1).finish()
    }
}

impl<P> fmt::Display for ReuniteError<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("the two halves are not of the same pipe end; take each with its own")
    }
}

impl<P: fmt::Debug> Error for ReuniteError<P> {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn halves_of_one_end_make_it_whole_again() {
        let (reader, writer) = split("one");
        assert!(reader.is_pair_of(&writer));
        assert_eq!(reader.reunite(writer).unwrap(), "one");
    }

    #[test]
    fn halves_of_two_ends_come_back_as_they_were() {
        let (reader, writer) = split("one");
        let (other_reader, other_writer) = split("other");
        let ReuniteError(reader, other_writer) = reader.reunite(other_writer).unwrap_err();
        assert_eq!(reader.reunite(writer).unwrap(), "one");
        assert_eq!(other_reader.reunite(other_writer).unwrap(), "other");
    }

    #[test]
    fn the_end_lives_as_long_as_either_half() {
        let end = Arc::new(());
        let (reader, writer) = split(end.clone());
        drop(reader);
        assert_eq!(Arc::strong_count(&end), 2);
        drop(writer);
        assert_eq!(Arc::strong_count(&end), 1);
    }
}
