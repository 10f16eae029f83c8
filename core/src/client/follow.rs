//! The turns that begin on a thread by themselves.

use super::{
    Turn,
    hub::{Session, Wait},
};
use crate::{connection::Followed, id::ThreadId, turn::SubscriptionKey};
use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

/// The turns that begin on a thread and that this session did not start: those of a goal, of the queue, of another client.
///
/// Each is a [`Turn`] with its events from the first one on, and its thread is busy for this session until it ends. Turns
/// that wait here collect their events; past 64 of them, further ones are not kept. If several follow one thread, each
/// turn goes to one of them. When this is dropped, what was not fetched is let go; the turns themselves run on.
#[must_use = "turns that nobody fetches are kept in memory"]
pub struct Follow {
    session: Arc<Session>,
    thread: ThreadId,
    key: SubscriptionKey,
}

impl fmt::Debug for Follow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Follow").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Follow {
    pub(super) fn new(session: &Arc<Session>, thread: ThreadId) -> Self {
        let key = session.hub.read(|connection| connection.follow(thread.clone()));
        Self { session: Arc::clone(session), thread, key }
    }

    /// The next turn; `None` when the connection is over.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Turn> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next turn, for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        let Self { session, thread, key } = self;
        let found = session.hub.poll(cx, Wait::Subscription(*key), |connection| match connection.next_followed(*key) {
            Followed::Turn(turn, events) => Poll::Ready(Some((turn, events))),
            Followed::Pending => Poll::Pending,
            Followed::Finished => Poll::Ready(None),
        });
        found.map(|found| found.map(|(turn, events)| Turn::adopt(session, turn, thread.clone(), Some(events))))
    }
}

impl Drop for Follow {
    fn drop(&mut self) {
        // Whoever waited for it has gone with it.
        self.session.hub.read(|connection| connection.unfollow(self.key));
    }
}
