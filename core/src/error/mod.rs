//! What can go wrong, sorted by who must act.
//!
//! [`ConnectError`]: there is no server to talk to. [`CallError`]: one request did not work. [`TurnError`]: a turn did
//! not end well. [`SteerError`]: an input did not reach a turn. [`UsageError`]: the caller's code is wrong, and reading
//! it shows so. [`Error`] is their union, for `?`. Nobody has to match text: variants say what happened, and
//! `is_retryable`, `is_timeout` and `is_closed` answer what most callers ask.
//!
//! One rule holds for what they say of their causes. `Display` is complete: what happened, where, and what to do next, in one
//! line, so print it with `{}`. `source` gives the error that is inside, if there is one, so that whoever walks the chain can
//! ask for a [`CallError`], a [`Disconnect`] or an [`RpcError`] by its type. A report that prints the whole chain, as `{:#}`
//! of `anyhow` does, says the cause twice.
//!
//! ```
//! # use std::error::Error as _;
//! use turnwire_core::error::{Error, RpcError};
//!
//! /// The code that the server refused with, wherever in the chain it is.
//! fn refusal(error: &Error) -> Option<i64> {
//!     let mut cause = error.source();
//!     while let Some(error) = cause {
//!         if let Some(rpc) = error.downcast_ref::<RpcError>() {
//!             return Some(rpc.code);
//!         }
//!         cause = error.source();
//!     }
//!     None
//! }
//! ```

mod call;
mod connect;
mod rpc;
#[cfg(test)]
mod tests;
mod thread;
mod turn;

pub use call::{CallError, Delivery, Fault};
pub use connect::{ConnectError, Disconnect, DisconnectReason, Phase};
pub use rpc::{RpcError, RpcErrorKind};
pub use thread::{ThreadError, ThreadFault};
pub use turn::{Relaxation, SteerError, TurnError};

#[cfg(feature = "client")]
use crate::client::{AccountError, LoginError, ToolError};
use crate::connection::AnswerError;
use core::fmt;

/// An impossible state, met: a bug of turnwire, reported as data instead of a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug(pub &'static str);

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a bug in turnwire: {}", self.0)
    }
}

/// The caller's code is wrong in a way that reading it shows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum UsageError {
    /// A turn that was released already.
    NoSuchTurn,
}

impl fmt::Display for UsageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoSuchTurn => "the turn was released already",
        })
    }
}

impl core::error::Error for UsageError {}

/// Any error of turnwire.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Error {
    /// See [`AccountError`].
    #[cfg(feature = "client")]
    Account(AccountError),
    /// See [`AnswerError`].
    Answer(AnswerError),
    /// See [`CallError`].
    Call(CallError),
    /// See [`ConnectError`].
    Connect(ConnectError),
    /// See [`LoginError`].
    #[cfg(feature = "client")]
    Login(LoginError),
    /// See [`SteerError`].
    Steer(SteerError),
    /// See [`ThreadError`].
    Thread(ThreadError),
    /// See [`ToolError`].
    #[cfg(feature = "client")]
    Tool(ToolError),
    /// See [`TurnError`].
    Turn(TurnError),
    /// See [`UsageError`].
    Usage(UsageError),
}

impl Error {
    /// Whether the same operation may simply be tried again: it was refused without being executed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            #[cfg(feature = "client")]
            Self::Account(error) => error.is_retryable(),
            #[cfg(feature = "client")]
            Self::Login(error) => error.is_retryable(),
            #[cfg(feature = "client")]
            Self::Tool(_) => false,
            Self::Answer(_) => false,
            Self::Call(error) => error.is_retryable(),
            Self::Connect(error) => error.is_retryable(),
            Self::Steer(error) => error.is_retryable(),
            Self::Thread(error) => error.is_retryable(),
            Self::Turn(error) => error.is_retryable(),
            Self::Usage(_) => false,
        }
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            #[cfg(feature = "client")]
            Self::Account(error) => error.is_timeout(),
            #[cfg(feature = "client")]
            Self::Login(error) => error.is_timeout(),
            #[cfg(feature = "client")]
            Self::Tool(_) => false,
            Self::Answer(error) => error.is_timeout(),
            Self::Call(error) => error.is_timeout(),
            Self::Connect(error) => error.is_timeout(),
            Self::Steer(error) => error.is_timeout(),
            Self::Thread(error) => error.is_timeout(),
            Self::Turn(error) => error.is_timeout(),
            Self::Usage(_) => false,
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            #[cfg(feature = "client")]
            Self::Account(error) => error.is_closed(),
            #[cfg(feature = "client")]
            Self::Login(error) => error.is_closed(),
            #[cfg(feature = "client")]
            Self::Tool(_) => false,
            Self::Answer(error) => error.is_closed(),
            Self::Call(error) => error.is_closed(),
            Self::Connect(_) => true,
            Self::Steer(error) => error.is_closed(),
            Self::Thread(error) => error.is_closed(),
            Self::Turn(error) => error.is_closed(),
            Self::Usage(_) => false,
        }
    }

    /// The error that it is made of.
    fn inner(&self) -> &(dyn core::error::Error + 'static) {
        match self {
            #[cfg(feature = "client")]
            Self::Account(error) => error,
            Self::Answer(error) => error,
            Self::Call(error) => error,
            Self::Connect(error) => error,
            #[cfg(feature = "client")]
            Self::Login(error) => error,
            Self::Steer(error) => error,
            Self::Thread(error) => error,
            #[cfg(feature = "client")]
            Self::Tool(error) => error,
            Self::Turn(error) => error,
            Self::Usage(error) => error,
        }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.inner(), f)
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        Some(self.inner())
    }
}

macro_rules! into_error {
    ($($from:ident => $variant:ident),*) => {$(
        impl From<$from> for Error {
            fn from(error: $from) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}
into_error!(AnswerError => Answer, CallError => Call, ConnectError => Connect, SteerError => Steer, ThreadError => Thread, TurnError => Turn, UsageError => Usage);
#[cfg(feature = "client")]
into_error!(AccountError => Account, LoginError => Login, ToolError => Tool);

/// The last line that is not blank.
fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// The beginning of a text, so many characters at most.
fn cut(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
