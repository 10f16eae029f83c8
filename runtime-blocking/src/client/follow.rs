//! The turns that begin on a thread by themselves.

use super::Turn;
use crate::wait::wait;
use turnwire_core::client;

/// The turns that begin on a thread and that this session did not start, as an iterator. See
/// [`turnwire_core::client::Follow`].
#[derive(Debug)]
#[must_use = "turns that nobody fetches are kept in memory"]
pub struct Follow {
    inner: client::Follow,
}

impl Follow {
    pub(crate) fn new(inner: client::Follow) -> Self {
        Self { inner }
    }
}

impl Iterator for Follow {
    type Item = Turn;

    /// The next turn; `None` when the connection is over.
    fn next(&mut self) -> Option<Turn> {
        wait(self.inner.next()).map(Turn::new)
    }
}
