//! A thread and its sub-agents.

use super::{
    Event, Thread,
    hub::{Mailbox, Session},
    waiting::WaiterId,
};
use crate::{connection::Scope, id::ThreadId, turn::RawEvent};
use std::{
    collections::HashMap,
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

/// One event of a thread or of a sub-agent's thread below it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TreeEvent {
    /// The thread that it is about; `None` for a gap.
    pub thread: Option<ThreadId>,
    /// The thread whose agent made that thread; `None` if nobody's did, as far as the server has told.
    pub parent: Option<ThreadId>,
    /// What happened.
    pub event: Event,
}

/// A stream of the events of a thread and of the threads of all sub-agents below it.
///
/// It sees what comes from the moment of its making on. What a child says before the server has said whose child it is
/// comes as soon as that is known. It lasts as long as the connection: the end of a child's turn, or of the parent's, is an
/// event among others.
#[must_use = "events that nobody reads are kept in memory"]
pub struct Tree {
    session: Arc<Session>,
    mailbox: Mailbox,
    /// What was learnt about the threads of earlier events.
    parents: HashMap<ThreadId, ThreadId>,
}

impl fmt::Debug for Tree {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tree").finish_non_exhaustive()
    }
}

impl Tree {
    fn new(session: &Arc<Session>, root: ThreadId) -> Self {
        let key = session.hub.read(|connection| connection.subscribe(Scope::Tree(root)));
        Self { session: Arc::clone(session), mailbox: Mailbox::new(key), parents: HashMap::new() }
    }

    /// The next event; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<TreeEvent> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<TreeEvent>> {
        self.mailbox
            .poll_next(&self.session.hub, cx, &WaiterId::sole())
            .map(|event| event.map(|event| self.label(event)))
    }

    fn label(&mut self, event: RawEvent) -> TreeEvent {
        let thread = event.thread().cloned();
        let parent = thread.as_ref().and_then(|thread| self.parent(thread));
        TreeEvent { thread, parent, event: event.into() }
    }

    fn parent(&mut self, thread: &ThreadId) -> Option<ThreadId> {
        if let Some(parent) = self.parents.get(thread) {
            return Some(parent.clone());
        }
        let parent = self.session.hub.read(|connection| connection.parent_of(thread.as_str()).cloned())?;
        self.parents.insert(thread.clone(), parent.clone());
        Some(parent)
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.mailbox.close(&self.session.hub);
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Tree {
    type Item = TreeEvent;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<TreeEvent>> {
        Tree::poll_next(&mut self, cx)
    }
}

impl Thread {
    /// Listens to everything about the thread and about the threads of all sub-agents below it, from now on.
    ///
    /// To follow the parent alone, use [`events`](Self::events) or a turn; to follow one child, make a handle of its id with
    /// [`Codex::thread`](super::Codex::thread).
    pub fn tree(&self) -> Tree {
        Tree::new(self.session(), self.id().clone())
    }

    /// The threads of the sub-agents that this thread's agent has started, as far as the server has told this connection,
    /// the oldest first. Nothing is sent.
    #[must_use]
    pub fn children(&self) -> Vec<ThreadId> {
        self.session().hub.read(|connection| connection.children_of(self.id().as_str()))
    }

    /// The thread whose agent made this one, as far as the server has told this connection. Nothing is sent.
    #[must_use]
    pub fn parent(&self) -> Option<ThreadId> {
        self.session().hub.read(|connection| connection.parent_of(self.id().as_str()).cloned())
    }
}
