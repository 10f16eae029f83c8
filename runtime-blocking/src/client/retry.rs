//! Waiting, and trying again.

use super::Codex;
use crate::wait::wait;
use std::time::Duration;
use turnwire_core::retry::{Retry, RetryError, RetryPolicy};

impl Codex {
    /// Waits. Ends early when the connection is over, and says whether it did not.
    #[must_use]
    pub fn pause(&self, duration: Duration) -> bool {
        wait(self.inner.pause(duration))
    }

    /// Does something again while the server refuses it for overload: any operation of this session, whose error says
    /// whether it was refused so. What may have had an effect is never done again.
    ///
    /// # Errors
    /// The last error, how often it was tried, and why it is not tried again.
    pub fn retry_on_overload<T, E: Retry>(
        &self,
        policy: &RetryPolicy,
        mut operation: impl FnMut() -> Result<T, E>,
    ) -> Result<T, RetryError<E>> {
        wait(self.inner.retry_on_overload(policy, || std::future::ready(operation())))
    }
}
