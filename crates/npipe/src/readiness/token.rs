//! The user's name for what it registered.

/// Tells events apart: chosen by the caller of [`Registry::register`](super::Registry::register),
/// and part of each [`Event`](super::Event).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub usize);

impl From<Token> for usize {
    fn from(token: Token) -> Self {
        token.0
    }
}
