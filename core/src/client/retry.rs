//! Waiting, and trying again.

use super::{Codex, hub::Alarm};
use crate::retry::{GaveUp, Retry, RetryError, RetryPolicy};
use std::{
    future::Future,
    hash::{BuildHasher, RandomState},
    time::Duration,
};

impl Codex {
    /// Waits, on this session's own clock and with no timer of a runtime. Ends early when the connection is over, and says
    /// whether it did not.
    ///
    /// # Cancel safety
    /// Dropping the future takes the alarm back.
    pub async fn pause(&self, duration: Duration) -> bool {
        let session = self.session();
        Alarm::new(&session, duration).await;
        session.hub.read(|connection| connection.closed().is_none())
    }

    /// Does something again while the server refuses it for overload: any operation of this session, whose error says
    /// whether it was refused so. What may have had an effect is never done again. So one request to an operation: of two,
    /// the first has had its effect when the second is refused.
    ///
    /// # Errors
    /// The last error, how often it was tried, and why it is not tried again.
    ///
    /// # Cancel safety
    /// Dropping the future drops the attempt that is under way.
    pub async fn retry_on_overload<T, E, F>(
        &self,
        policy: &RetryPolicy,
        mut operation: impl FnMut() -> F,
    ) -> Result<T, RetryError<E>>
    where
        E: Retry,
        F: Future<Output = Result<T, E>>,
    {
        let clock = || self.latest().hub.now();
        let start = clock();
        let mut delays = policy.delays(RandomState::new().hash_one(start.as_nanos()));
        let mut attempts = 0;
        loop {
            attempts += 1;
            let error = match operation().await {
                Ok(value) => return Ok(value),
                Err(error) => error,
            };
            let elapsed = clock().since(start);
            match policy.after(&error, elapsed, &mut delays) {
                Ok(delay) => {
                    if !self.pause(delay).await {
                        return Err(RetryError::new(attempts, clock().since(start), GaveUp::Closed, error));
                    }
                }
                Err(gave_up) => return Err(RetryError::new(attempts, elapsed, gave_up, error)),
            }
        }
    }
}
