//! A thread and its sub-agents.

use super::Thread;
use crate::wait::wait;
use std::future::poll_fn;
use turnwire_core::{
    client::{self, TreeEvent},
    id::ThreadId,
};

/// A stream of the events of a thread and of its sub-agents, as an iterator. See [`turnwire_core::client::Tree`].
#[derive(Debug)]
#[must_use = "events that nobody reads are kept in memory"]
pub struct Tree {
    inner: client::Tree,
}

impl Iterator for Tree {
    type Item = TreeEvent;

    /// The next event; `None` when there will be no more.
    fn next(&mut self) -> Option<TreeEvent> {
        wait(poll_fn(|cx| self.inner.poll_next(cx)))
    }
}

impl Thread {
    /// Listens to everything about the thread and about the threads of all sub-agents below it, from now on.
    ///
    /// To follow the parent alone, use [`events`](Self::events) or a turn; to follow one child, make a handle of its id with
    /// [`Codex::thread`](super::Codex::thread).
    pub fn tree(&self) -> Tree {
        Tree { inner: self.inner.tree() }
    }

    /// The threads of the sub-agents that this thread's agent has started, as far as the server has told this connection,
    /// the oldest first. Nothing is sent.
    #[must_use]
    pub fn children(&self) -> Vec<ThreadId> {
        self.inner.children()
    }

    /// The thread whose agent made this one, as far as the server has told this connection. Nothing is sent.
    #[must_use]
    pub fn parent(&self) -> Option<ThreadId> {
        self.inner.parent()
    }
}
