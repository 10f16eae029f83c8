//! What came of taking a thread up again.

use super::{Thread, Turn};
use turnwire_core::{
    client::{self, Effective, ResumedBy},
    protocol::{self, SandboxMode},
};

/// A thread that was taken up again, and how. See [`turnwire_core::client::Resumed`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// The thread.
    pub thread: Thread,
    /// How it was come by.
    pub by: ResumedBy,
    /// The settings in force.
    pub settings: Effective,
    /// The sandbox that was asked for, if the one in force is another: a tighter one, because a looser one is an error.
    pub sandbox_not_taken: Option<SandboxMode>,
    /// The turn that runs on it, with its events from now on.
    pub running: Option<Turn>,
    /// What the server says of the thread, its turns included if they were asked for.
    pub info: protocol::Thread,
}

impl Resumed {
    pub(crate) fn new(inner: client::Resumed) -> Self {
        Self {
            thread: Thread::new(inner.thread),
            by: inner.by,
            settings: inner.settings,
            sandbox_not_taken: inner.sandbox_not_taken,
            running: inner.running.map(Turn::new),
            info: inner.info,
        }
    }
}
