//! What can be asked of a thread beside turns.

use super::{
    Pages, Thread, Turn,
    hub::Reply,
    threads::{about, sort},
};
use crate::{
    connection::{Prepared, Scope, TurnOptions, decode_response},
    error::{ThreadError, TurnError},
    id::TurnId,
    protocol::{
        ReviewDelivery, ReviewStart, ReviewTarget, ThreadArchive, ThreadDelete, ThreadFork, ThreadGoal,
        ThreadGoalClear, ThreadGoalGet, ThreadGoalSet, ThreadItemsList, ThreadRead, ThreadReadResponse, ThreadRevert,
        ThreadRevertResponse, ThreadSetName, ThreadSettingsUpdate, ThreadTurnsList, ThreadUnsubscribe,
        ThreadUnsubscribeStatus,
    },
    turn::TurnResult,
};
use std::sync::Arc;

/// What came of [`Thread::unsubscribe`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Unsubscribed {
    /// This session listened, and does no longer.
    Done,
    /// The server does not have the thread in memory.
    NotLoaded,
    /// This session did not listen.
    NotSubscribed,
    /// Something else, in the server's word. No more is to be expected from the thread all the same.
    Other(Box<str>),
}

impl Thread {
    /// Reads the thread (`thread/read`), with all its turns if so asked. For long histories there is
    /// [`history`](Self::history).
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when its turns are asked for and it has none; others as named there.
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn read(&self, include_turns: bool) -> Result<ThreadReadResponse, ThreadError> {
        about(&self.session, self.id(), ThreadRead::new(self.id()).include_turns(include_turns)).await
    }

    /// Names the thread (`thread/name/set`). The server refuses a blank name.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn set_name(&self, name: impl Into<String>) -> Result<(), ThreadError> {
        about(&self.session, self.id(), ThreadSetName::new(self.id(), name)).await.map(drop)
    }

    /// The turns of the thread (`thread/turns/list`), the latest first, with summaries of their items unless the params say
    /// otherwise. The session's server of now is asked, though the one that this handle came from was replaced.
    pub fn history(&self) -> Pages<ThreadTurnsList> {
        Pages::new(self.codex(), ThreadTurnsList::new(self.id()))
    }

    /// The items of the thread (`thread/items/list`), or of one turn if the params name one. Asked as for
    /// [`history`](Self::history).
    pub fn items(&self) -> Pages<ThreadItemsList> {
        Pages::new(self.codex(), ThreadItemsList::new(self.id()))
    }

    /// Copies the thread into a new one, as it stands (`thread/fork`). [`Codex::thread_fork`](super::Codex::thread_fork)
    /// can say more.
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn fork(&self) -> Result<Thread, ThreadError> {
        let response = about(&self.session, self.id(), ThreadFork::new(self.id()).exclude_turns(true)).await?;
        Ok(Thread::new(Arc::clone(&self.session), response.thread.id))
    }

    /// Drops a turn of the thread and all later ones (`thread/revert`).
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn revert(&self, before: impl Into<TurnId>) -> Result<ThreadRevertResponse, ThreadError> {
        about(&self.session, self.id(), ThreadRevert::new(self.id(), before)).await
    }

    /// Puts the thread away; see [`Codex::thread_archive`](super::Codex::thread_archive).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn archive(&self) -> Result<(), ThreadError> {
        about(&self.session, self.id(), ThreadArchive::new(self.id())).await.map(drop)
    }

    /// Deletes the thread; see [`Codex::thread_delete`](super::Codex::thread_delete).
    ///
    /// # Errors
    /// As there.
    ///
    /// # Cancel safety
    /// As there.
    pub async fn delete(&self) -> Result<(), ThreadError> {
        about(&self.session, self.id(), ThreadDelete::new(self.id())).await.map(drop)
    }

    /// Changes settings of the thread for its later turns (`thread/settings/update`, which is experimental). What is left
    /// out stays; the service tier can also be set to `null`, which resets it. Streams of the thread tell of the change.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn update_settings(
        &self,
        set: impl FnOnce(ThreadSettingsUpdate) -> ThreadSettingsUpdate,
    ) -> Result<(), ThreadError> {
        let mut params = set(ThreadSettingsUpdate::new(self.id()));
        params.thread_id = self.id().clone();
        about(&self.session, self.id(), params).await.map(drop)
    }

    /// Compacts the thread's history (`thread/compact/start`) and waits for the end of that. It is a turn of its own, and
    /// the thread is busy meanwhile; what still arrives about earlier turns does not end it.
    ///
    /// # Errors
    /// [`TurnError::Busy`] while a turn of this session runs on the thread; otherwise as for [`run`](Self::run).
    ///
    /// # Cancel safety
    /// Dropping the future leaves a compaction that was started running on the server.
    pub async fn compact(&self) -> Result<TurnResult, TurnError> {
        self.compact_with(&TurnOptions::default()).await
    }

    /// [`compact`](Self::compact) with deadlines, which count from now on, and a drop policy. Past a deadline the server is asked
    /// to stop.
    ///
    /// # Errors
    /// As for [`compact`](Self::compact), and [`TurnError::TimedOut`].
    ///
    /// # Cancel safety
    /// As for [`compact`](Self::compact).
    pub async fn compact_with(&self, options: &TurnOptions) -> Result<TurnResult, TurnError> {
        let (session, thread) = (&self.session, self.id());
        let key = session.hub.command(|connection, now| connection.start_compaction(now, thread, options))?;
        Turn::of(session, key, thread, None).named().await?.result().await
    }

    /// Has something reviewed on this thread (`review/start`, inline). The review is the turn; the thread is busy meanwhile.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    ///
    /// # Cancel safety
    /// As for [`turn`](Self::turn).
    pub async fn review(&self, target: impl Into<ReviewTarget>) -> Result<Turn, TurnError> {
        self.review_with(target, &TurnOptions::default()).await
    }

    /// [`review`](Self::review) with deadlines, which count from now on, and a drop policy.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    ///
    /// # Cancel safety
    /// As for [`turn`](Self::turn).
    pub async fn review_with(&self, target: impl Into<ReviewTarget>, options: &TurnOptions) -> Result<Turn, TurnError> {
        self.start_review(target.into(), false, options).await
    }

    /// Has something reviewed on a thread of its own (`review/start`, detached), which is
    /// [`Turn::thread_id`]. This thread is not busy meanwhile.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    ///
    /// # Cancel safety
    /// As for [`turn`](Self::turn).
    pub async fn review_detached(&self, target: impl Into<ReviewTarget>) -> Result<Turn, TurnError> {
        self.review_detached_with(target, &TurnOptions::default()).await
    }

    /// [`review_detached`](Self::review_detached) with deadlines, which count from now on, and a drop policy.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    ///
    /// # Cancel safety
    /// As for [`turn`](Self::turn).
    pub async fn review_detached_with(
        &self,
        target: impl Into<ReviewTarget>,
        options: &TurnOptions,
    ) -> Result<Turn, TurnError> {
        self.start_review(target.into(), true, options).await
    }

    async fn start_review(
        &self,
        target: ReviewTarget,
        detached: bool,
        options: &TurnOptions,
    ) -> Result<Turn, TurnError> {
        let (session, thread) = (&self.session, self.id());
        let delivery = if detached { ReviewDelivery::Detached } else { ReviewDelivery::Inline };
        let params = ReviewStart::new(thread, target).delivery(delivery);
        let request = Prepared::new(&params).map_err(TurnError::Start)?;
        drop(params);
        let (key, events) = session.hub.command(|connection, now| {
            let key = connection.enter_review(now, thread.clone(), request, detached, options)?;
            Ok::<_, TurnError>((key, connection.subscribe(Scope::Turn(key))))
        })?;
        Turn::of(session, key, thread, Some(events)).named().await
    }

    /// Gives the thread a goal, or changes it (`thread/goal/set`): objective, status, budget of tokens. While its status is
    /// `active` the server starts turn after turn; [`turns`](Self::turns), called before this, has them.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn goal_set(&self, set: impl FnOnce(ThreadGoalSet) -> ThreadGoalSet) -> Result<ThreadGoal, ThreadError> {
        let mut params = set(ThreadGoalSet::new(self.id()));
        params.thread_id = self.id().clone();
        Ok(about(&self.session, self.id(), params).await?.goal)
    }

    /// The goal of the thread, if it has one (`thread/goal/get`).
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn goal_get(&self) -> Result<Option<ThreadGoal>, ThreadError> {
        Ok(about(&self.session, self.id(), ThreadGoalGet::new(self.id())).await?.goal)
    }

    /// Takes the goal of the thread away (`thread/goal/clear`), and says whether there was one. A turn that runs for it runs
    /// on.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request).
    pub async fn goal_clear(&self) -> Result<bool, ThreadError> {
        Ok(about(&self.session, self.id(), ThreadGoalClear::new(self.id())).await?.cleared)
    }

    /// Asks for no more events of the thread (`thread/unsubscribe`). Its streams that are open end with
    /// [`Event::Unsubscribed`](super::Event::Unsubscribed). To listen again, resume it.
    ///
    /// # Errors
    /// [`ThreadError::Busy`] while a turn runs on the thread, whoever started it, because its end would never come; others as
    /// named there.
    ///
    /// # Cancel safety
    /// As for [`Codex::request`](super::Codex::request); the streams end with the answer, whoever waits for it.
    pub async fn unsubscribe(&self) -> Result<Unsubscribed, ThreadError> {
        self.end_subscription(false).await
    }

    /// [`unsubscribe`](Self::unsubscribe), even while a turn runs. The turn runs on, and nothing more is
    /// heard of it here but that the thread is idle: then it ends here without a status, after `Timeouts::idle`.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    ///
    /// # Cancel safety
    /// As for [`unsubscribe`](Self::unsubscribe).
    pub async fn unsubscribe_anyway(&self) -> Result<Unsubscribed, ThreadError> {
        self.end_subscription(true).await
    }

    async fn end_subscription(&self, anyway: bool) -> Result<Unsubscribed, ThreadError> {
        let (session, thread) = (&self.session, self.id());
        let key = session.hub.command(|connection, now| {
            let is_running = connection.is_thread_busy(thread) || connection.running_turn(thread).is_some();
            if !anyway && is_running {
                return Err(ThreadError::Busy(thread.clone()));
            }
            Ok(connection.enter_unsubscribe(now, thread.clone())?)
        })?;
        let outcome = Reply::new(session, key).await.and_then(|json| decode_response::<ThreadUnsubscribe>(&json));
        match outcome {
            Ok(response) => Ok(match response.status {
                ThreadUnsubscribeStatus::Unsubscribed => Unsubscribed::Done,
                ThreadUnsubscribeStatus::NotLoaded => Unsubscribed::NotLoaded,
                ThreadUnsubscribeStatus::NotSubscribed => Unsubscribed::NotSubscribed,
                other => Unsubscribed::Other(other.as_str().into()),
            }),
            Err(error) => Err(sort(session, thread, error).await),
        }
    }
}
