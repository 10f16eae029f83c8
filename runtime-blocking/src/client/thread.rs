//! A conversation.

use super::{Codex, Events, Turn};
use crate::wait::wait;
use turnwire_core::{
    client::{self, Generation, TurnRequest},
    error::TurnError,
    id::ThreadId,
    turn::TurnResult,
};

/// A thread: a conversation with the agent. See [`turnwire_core::client::Thread`].
#[derive(Clone, Debug)]
pub struct Thread {
    pub(crate) inner: client::Thread,
}

impl Thread {
    pub(crate) fn new(inner: client::Thread) -> Self {
        Self { inner }
    }

    /// The server's name for it.
    #[must_use]
    pub fn id(&self) -> &ThreadId {
        self.inner.id()
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.generation()
    }

    /// The session.
    #[must_use]
    pub fn codex(&self) -> Codex {
        Codex::new(self.inner.codex())
    }

    /// Runs a turn from its start to its end, and says what it produced (`turn/start`).
    ///
    /// Without a deadline in the request, this waits as long as the turn takes.
    ///
    /// # Errors
    /// When the turn does not start, or ends in any other way than completed or interrupted. What it produced is with
    /// the error.
    pub fn run(&self, request: impl Into<TurnRequest>) -> Result<TurnResult, TurnError> {
        wait(self.inner.run(request))
    }

    /// Starts a turn and waits until the server has named it (`turn/start`). Its events are kept for [`Turn::next`] from
    /// the first one on.
    ///
    /// # Errors
    /// When the turn does not start: [`TurnError::Busy`], [`TurnError::QueueFull`], [`TurnError::Input`],
    /// [`TurnError::Relaxes`] or [`TurnError::Start`]; or when its deadline passes before the server has named it:
    /// [`TurnError::TimedOut`].
    pub fn turn(&self, request: impl Into<TurnRequest>) -> Result<Turn, TurnError> {
        wait(self.inner.turn(request)).map(Turn::new)
    }

    /// Listens to everything about the thread from now on: its own events, and those of its turns, whoever started them.
    pub fn events(&self) -> Events {
        Events::new(self.inner.events())
    }
}
