//! Answers in a form of the caller's own.

use super::Turn;
use crate::wait::wait;
use serde::de::DeserializeOwned;
use turnwire_core::client::{Typed, TypedError};

impl Turn {
    /// Waits for the end, and reads the answer as JSON of this type. See [`result`](Self::result).
    ///
    /// # Errors
    /// As for [`result`](Self::result), and when the answer does not fit.
    pub fn result_typed<T: DeserializeOwned>(&self) -> Result<Typed<T>, TypedError> {
        wait(self.inner.result_typed())
    }
}

#[cfg(feature = "schemars")]
impl super::Thread {
    /// Runs a turn whose answer is a value of this type: its schema is sent with the turn (`turn/start`, `outputSchema`), and
    /// the answer is read.
    ///
    /// # Errors
    /// Before anything is sent, when the type has no strict schema. As for [`run`](Self::run). When the answer does not fit;
    /// the error keeps the text and the tokens.
    pub fn run_typed<T: schemars::JsonSchema + DeserializeOwned>(
        &self,
        request: impl Into<turnwire_core::client::TurnRequest>,
    ) -> Result<Typed<T>, TypedError> {
        wait(self.inner.run_typed(request))
    }
}
