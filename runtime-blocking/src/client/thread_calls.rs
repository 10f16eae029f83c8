//! What can be asked of a thread beside turns.

use super::{Pages, Thread, Turn};
use crate::wait::wait;
use turnwire_core::{
    client::Unsubscribed,
    error::{ThreadError, TurnError},
    id::TurnId,
    protocol::{
        ReviewTarget, ThreadGoal, ThreadGoalSet, ThreadItemsList, ThreadReadResponse, ThreadRevertResponse,
        ThreadSettingsUpdate, ThreadTurnsList,
    },
    turn::{TurnOptions, TurnResult},
};

impl Thread {
    /// Reads the thread (`thread/read`), with all its turns if so asked. For long histories there is
    /// [`history`](Self::history).
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when its turns are asked for and it has none; others as named there.
    pub fn read(&self, include_turns: bool) -> Result<ThreadReadResponse, ThreadError> {
        wait(self.inner.read(include_turns))
    }

    /// Names the thread (`thread/name/set`). The server refuses a blank name.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn set_name(&self, name: impl Into<String>) -> Result<(), ThreadError> {
        wait(self.inner.set_name(name))
    }

    /// The turns of the thread (`thread/turns/list`), the latest first, with summaries of their items unless the params say
    /// otherwise.
    pub fn history(&self) -> Pages<ThreadTurnsList> {
        Pages::new(self.inner.history())
    }

    /// The items of the thread (`thread/items/list`), or of one turn if the params name one.
    pub fn items(&self) -> Pages<ThreadItemsList> {
        Pages::new(self.inner.items())
    }

    /// Copies the thread into a new one, as it stands (`thread/fork`). [`Codex::thread_fork`](super::Codex::thread_fork)
    /// can say more.
    ///
    /// # Errors
    /// As there.
    pub fn fork(&self) -> Result<Thread, ThreadError> {
        wait(self.inner.fork()).map(Thread::new)
    }

    /// Drops a turn of the thread and all later ones (`thread/revert`).
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn revert(&self, before: impl Into<TurnId>) -> Result<ThreadRevertResponse, ThreadError> {
        wait(self.inner.revert(before))
    }

    /// Puts the thread away; see [`Codex::thread_archive`](super::Codex::thread_archive).
    ///
    /// # Errors
    /// As there.
    pub fn archive(&self) -> Result<(), ThreadError> {
        wait(self.inner.archive())
    }

    /// Deletes the thread; see [`Codex::thread_delete`](super::Codex::thread_delete).
    ///
    /// # Errors
    /// As there.
    pub fn delete(&self) -> Result<(), ThreadError> {
        wait(self.inner.delete())
    }

    /// Changes settings of the thread for its later turns (`thread/settings/update`, which is experimental). What is left
    /// out stays; the service tier can also be set to `null`, which resets it. Streams of the thread tell of the change.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn update_settings(
        &self,
        set: impl FnOnce(ThreadSettingsUpdate) -> ThreadSettingsUpdate,
    ) -> Result<(), ThreadError> {
        wait(self.inner.update_settings(set))
    }

    /// Compacts the thread's history (`thread/compact/start`) and waits for the end of that. It is a turn of its own, and
    /// the thread is busy meanwhile; what still arrives about earlier turns does not end it.
    ///
    /// # Errors
    /// [`TurnError::Busy`] while a turn of this session runs on the thread; otherwise as for [`run`](Self::run).
    pub fn compact(&self) -> Result<TurnResult, TurnError> {
        wait(self.inner.compact())
    }

    /// [`compact`](Self::compact) with deadlines, which count from now on, and a drop policy. Past a deadline the server is asked
    /// to stop.
    ///
    /// # Errors
    /// As for [`compact`](Self::compact), and [`TurnError::TimedOut`].
    pub fn compact_with(&self, options: &TurnOptions) -> Result<TurnResult, TurnError> {
        wait(self.inner.compact_with(options))
    }

    /// Has something reviewed on this thread (`review/start`, inline). The review is the turn; the thread is busy meanwhile.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    pub fn review(&self, target: impl Into<ReviewTarget>) -> Result<Turn, TurnError> {
        wait(self.inner.review(target)).map(Turn::new)
    }

    /// [`review`](Self::review) with deadlines, which count from now on, and a drop policy.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    pub fn review_with(&self, target: impl Into<ReviewTarget>, options: &TurnOptions) -> Result<Turn, TurnError> {
        wait(self.inner.review_with(target, options)).map(Turn::new)
    }

    /// Has something reviewed on a thread of its own (`review/start`, detached), which is
    /// [`Turn::thread_id`]. This thread is not busy meanwhile.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    pub fn review_detached(&self, target: impl Into<ReviewTarget>) -> Result<Turn, TurnError> {
        wait(self.inner.review_detached(target)).map(Turn::new)
    }

    /// [`review_detached`](Self::review_detached) with deadlines, which count from now on, and a drop policy.
    ///
    /// # Errors
    /// As for [`turn`](Self::turn).
    pub fn review_detached_with(
        &self,
        target: impl Into<ReviewTarget>,
        options: &TurnOptions,
    ) -> Result<Turn, TurnError> {
        wait(self.inner.review_detached_with(target, options)).map(Turn::new)
    }

    /// Gives the thread a goal, or changes it (`thread/goal/set`): objective, status, budget of tokens. While its status is
    /// `active` the server starts turn after turn; [`turns`](Self::turns), called before this, has them.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn goal_set(&self, set: impl FnOnce(ThreadGoalSet) -> ThreadGoalSet) -> Result<ThreadGoal, ThreadError> {
        wait(self.inner.goal_set(set))
    }

    /// The goal of the thread, if it has one (`thread/goal/get`).
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn goal_get(&self) -> Result<Option<ThreadGoal>, ThreadError> {
        wait(self.inner.goal_get())
    }

    /// Takes the goal of the thread away (`thread/goal/clear`), and says whether there was one. A turn that runs for it runs
    /// on.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn goal_clear(&self) -> Result<bool, ThreadError> {
        wait(self.inner.goal_clear())
    }

    /// Asks for no more events of the thread (`thread/unsubscribe`). Its streams that are open end with
    /// [`Event::Unsubscribed`](turnwire_core::client::Event::Unsubscribed). To listen again, resume it.
    ///
    /// # Errors
    /// [`ThreadError::Busy`] while a turn runs on the thread, whoever started it, because its end would never come; others as
    /// named there.
    pub fn unsubscribe(&self) -> Result<Unsubscribed, ThreadError> {
        wait(self.inner.unsubscribe())
    }

    /// [`unsubscribe`](Self::unsubscribe), even while a turn runs. The turn runs on, and nothing more is
    /// heard of it here but that the thread is idle: then it ends here without a status, after `Timeouts::idle`.
    ///
    /// # Errors
    /// As named with [`ThreadError`].
    pub fn unsubscribe_anyway(&self) -> Result<Unsubscribed, ThreadError> {
        wait(self.inner.unsubscribe_anyway())
    }
}
