//! What happens, one after the other.

use crate::wait::wait;
use std::future::poll_fn;
use turnwire_core::client::{self, Event};

/// A stream of events, as an iterator. See [`turnwire_core::client::Events`].
#[derive(Debug)]
#[must_use = "events that nobody reads are kept in memory"]
pub struct Events {
    pub(crate) inner: client::Events,
}

impl Events {
    pub(crate) fn new(inner: client::Events) -> Self {
        Self { inner }
    }
}

impl Iterator for Events {
    type Item = Event;

    /// The next event; `None` when there will be no more. Blocks until there is one; another thread that closes the session
    /// ends that.
    fn next(&mut self) -> Option<Event> {
        wait(poll_fn(|cx| self.inner.poll_next(cx)))
    }
}
