//! A conversation.

use super::{Codex, Events, Generation, Turn, TurnRequest, hub::Session, restart::start_turn, trace};
use crate::{connection::Scope, error::TurnError, id::ThreadId, turn::TurnResult};
use std::{fmt, sync::Arc};

/// A thread: a conversation with the agent. A handle; the thread itself is the server's.
#[derive(Clone)]
pub struct Thread {
    pub(super) session: Arc<Session>,
    id: ThreadId,
    /// Lives as long as any handle that came from this one.
    _trace: trace::Thread,
}

impl fmt::Debug for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Thread").field("id", &self.id).finish_non_exhaustive()
    }
}

impl Thread {
    pub(crate) fn new(session: Arc<Session>, id: ThreadId) -> Self {
        let trace = trace::Thread::new(&session.hub, &id);
        Self { session, id, _trace: trace }
    }

    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// The server's name for it.
    #[must_use]
    pub fn id(&self) -> &ThreadId {
        &self.id
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.session.generation
    }

    /// The session.
    #[must_use]
    pub fn codex(&self) -> Codex {
        Codex::of(&self.session)
    }

    /// Runs a turn from its start to its end, and says what it produced (`turn/start`).
    ///
    /// Without a deadline in the request, this waits as long as the turn takes.
    ///
    /// # Errors
    /// When the turn does not start, or ends in any other way than completed or interrupted. What it produced is with
    /// the error.
    ///
    /// # Cancel safety
    /// Dropping the future drops the turn: it runs on, or is interrupted, as [`TurnRequest::on_drop`] says. A start that was
    /// not sent yet never is.
    pub async fn run(&self, request: impl Into<TurnRequest>) -> Result<TurnResult, TurnError> {
        start_turn(&self.session, &self.id, request.into(), false).await?.result().await
    }

    /// Starts a turn and waits until the server has named it (`turn/start`). Its events are kept for
    /// [`Turn::next`] from the first one on.
    ///
    /// # Errors
    /// When the turn does not start: [`TurnError::Busy`], [`TurnError::QueueFull`], [`TurnError::Input`],
    /// [`TurnError::Relaxes`] or [`TurnError::Start`]; or when its deadline passes before the server has named it:
    /// [`TurnError::TimedOut`].
    ///
    /// # Cancel safety
    /// As for [`run`](Self::run).
    pub async fn turn(&self, request: impl Into<TurnRequest>) -> Result<Turn, TurnError> {
        start_turn(&self.session, &self.id, request.into(), true).await
    }

    /// Listens to everything about the thread from now on: its own events, and those of its turns, whoever started them.
    pub fn events(&self) -> Events {
        Events::new(&self.session, Scope::Thread(self.id.clone()))
    }
}
