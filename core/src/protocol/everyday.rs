//! Shortcuts for the types one meets every day.

use super::{TextUserInput, TurnId, TurnStatus, UserInput};
use alloc::string::String;

impl UserInput {
    /// Plain text.
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(TextUserInput::new(text))
    }
}

impl From<&str> for UserInput {
    fn from(text: &str) -> Self {
        Self::text(text)
    }
}

impl From<String> for UserInput {
    fn from(text: String) -> Self {
        Self::text(text)
    }
}

/// The least that must be known of a turn: read when the whole does not decode.
#[derive(Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct TurnOutline {
    /// `id`.
    pub id: TurnId,
    /// `status`.
    pub status: TurnStatus,
}

object! { TurnOutline {
    id "id" required,
    status "status" required,
} }
