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
use crate::client::{AccountError, LoginError, Mismatch, PageError, ToolError, ToolFailure, TypedError};
#[cfg(feature = "std")]
use crate::launch::LaunchError;
use crate::{
    connection::AnswerError,
    launch::ConfigValueError,
    protocol::DecodeError,
    record::FormatError,
    retry::{GaveUp, RetryError},
    schema::SchemaError,
    turn::InputError,
};
use alloc::{boxed::Box, sync::Arc};
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

/// Any error of turnwire: every other error of this crate becomes one with `?`.
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
    /// See [`ConfigValueError`].
    ConfigValue(ConfigValueError),
    /// See [`ConnectError`].
    Connect(ConnectError),
    /// See [`DecodeError`].
    Decode(DecodeError),
    /// See [`Disconnect`].
    Disconnected(Disconnect),
    /// See [`FormatError`].
    Format(FormatError),
    /// See [`InputError`].
    Input(InputError),
    /// See [`LoginError`].
    #[cfg(feature = "client")]
    Login(LoginError),
    /// See [`Mismatch`].
    #[cfg(feature = "client")]
    Mismatch(Mismatch),
    /// An error of a crate around this one, such as `turnwire_blocking::pinned::InstallError`.
    Other(Arc<dyn core::error::Error + Send + Sync>),
    /// See [`PageError`].
    #[cfg(feature = "client")]
    Page(PageError),
    /// See [`RetryError`].
    Retry(Box<RetryError<Self>>),
    /// See [`RpcError`].
    Rpc(RpcError),
    /// See [`SchemaError`].
    Schema(SchemaError),
    /// See [`SteerError`].
    Steer(SteerError),
    /// See [`ThreadError`].
    Thread(ThreadError),
    /// See [`ToolError`].
    #[cfg(feature = "client")]
    Tool(ToolError),
    /// See [`ToolFailure`].
    #[cfg(feature = "client")]
    ToolFailure(ToolFailure),
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
            Self::Page(error) => error.call().is_some_and(CallError::is_retryable),
            #[cfg(feature = "client")]
            Self::Mismatch(_) | Self::Tool(_) | Self::ToolFailure(_) => false,
            Self::Call(error) => error.is_retryable(),
            Self::Connect(error) => error.is_retryable(),
            Self::Retry(error) => error.last.is_retryable(),
            Self::Rpc(error) => error.is_overload(),
            Self::Steer(error) => error.is_retryable(),
            Self::Thread(error) => error.is_retryable(),
            Self::Turn(error) => error.is_retryable(),
            Self::Answer(_)
            | Self::ConfigValue(_)
            | Self::Decode(_)
            | Self::Disconnected(_)
            | Self::Format(_)
            | Self::Input(_)
            | Self::Other(_)
            | Self::Schema(_)
            | Self::Usage(_) => false,
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
            Self::Page(error) => error.call().is_some_and(CallError::is_timeout),
            #[cfg(feature = "client")]
            Self::Mismatch(_) | Self::Tool(_) | Self::ToolFailure(_) => false,
            Self::Answer(error) => error.is_timeout(),
            Self::Call(error) => error.is_timeout(),
            Self::Connect(error) => error.is_timeout(),
            Self::Retry(error) => error.last.is_timeout(),
            Self::Steer(error) => error.is_timeout(),
            Self::Thread(error) => error.is_timeout(),
            Self::Turn(error) => error.is_timeout(),
            Self::ConfigValue(_)
            | Self::Decode(_)
            | Self::Disconnected(_)
            | Self::Format(_)
            | Self::Input(_)
            | Self::Other(_)
            | Self::Rpc(_)
            | Self::Schema(_)
            | Self::Usage(_) => false,
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
            Self::Page(error) => error.call().is_some_and(CallError::is_closed),
            #[cfg(feature = "client")]
            Self::Mismatch(_) | Self::Tool(_) | Self::ToolFailure(_) => false,
            Self::Answer(error) => error.is_closed(),
            Self::Call(error) => error.is_closed(),
            Self::Connect(_) | Self::Disconnected(_) => true,
            Self::Retry(error) => error.gave_up == GaveUp::Closed || error.last.is_closed(),
            Self::Steer(error) => error.is_closed(),
            Self::Thread(error) => error.is_closed(),
            Self::Turn(error) => error.is_closed(),
            Self::ConfigValue(_)
            | Self::Decode(_)
            | Self::Format(_)
            | Self::Input(_)
            | Self::Other(_)
            | Self::Rpc(_)
            | Self::Schema(_)
            | Self::Usage(_) => false,
        }
    }

    /// The error that it is made of.
    fn inner(&self) -> &(dyn core::error::Error + 'static) {
        match self {
            #[cfg(feature = "client")]
            Self::Account(error) => error,
            Self::Answer(error) => error,
            Self::Call(error) => error,
            Self::ConfigValue(error) => error,
            Self::Connect(error) => error,
            Self::Decode(error) => error,
            Self::Disconnected(error) => error,
            Self::Format(error) => error,
            Self::Input(error) => error,
            #[cfg(feature = "client")]
            Self::Login(error) => error,
            #[cfg(feature = "client")]
            Self::Mismatch(error) => error,
            Self::Other(error) => &**error,
            #[cfg(feature = "client")]
            Self::Page(error) => error,
            Self::Retry(error) => &**error,
            Self::Rpc(error) => error,
            Self::Schema(error) => error,
            Self::Steer(error) => error,
            Self::Thread(error) => error,
            #[cfg(feature = "client")]
            Self::Tool(error) => error,
            #[cfg(feature = "client")]
            Self::ToolFailure(error) => error,
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
    ($($from:ident => $variant:ident),* $(,)?) => {$(
        impl From<$from> for Error {
            fn from(error: $from) -> Self {
                Self::$variant(error)
            }
        }
    )*};
}
into_error! {
    AnswerError => Answer,
    CallError => Call,
    ConfigValueError => ConfigValue,
    ConnectError => Connect,
    DecodeError => Decode,
    Disconnect => Disconnected,
    FormatError => Format,
    InputError => Input,
    RpcError => Rpc,
    SchemaError => Schema,
    SteerError => Steer,
    ThreadError => Thread,
    TurnError => Turn,
    UsageError => Usage,
}
#[cfg(feature = "client")]
into_error! {
    AccountError => Account,
    LoginError => Login,
    Mismatch => Mismatch,
    PageError => Page,
    ToolError => Tool,
    ToolFailure => ToolFailure,
}

#[cfg(feature = "std")]
impl From<LaunchError> for Error {
    fn from(error: LaunchError) -> Self {
        Self::Connect(error.into())
    }
}

/// Each of its variants is one here too, so a turn that failed is matched in one place, whichever method ran it.
#[cfg(feature = "client")]
impl From<TypedError> for Error {
    fn from(error: TypedError) -> Self {
        match error {
            TypedError::Mismatch(error) => error.into(),
            TypedError::Schema(error) => error.into(),
            TypedError::Turn(error) => error.into(),
        }
    }
}

impl<E: Into<Self>> From<RetryError<E>> for Error {
    fn from(error: RetryError<E>) -> Self {
        let RetryError { attempts, elapsed, gave_up, last } = error;
        Self::Retry(Box::new(RetryError::new(attempts, elapsed, gave_up, last.into())))
    }
}

/// The last line that is not blank.
fn last_line(text: &str) -> Option<&str> {
    text.lines().map(str::trim).rfind(|line| !line.is_empty())
}

/// The beginning of a text, so many characters at most.
fn cut(text: &str, characters: usize) -> &str {
    let end = text.char_indices().nth(characters).map_or(text.len(), |(at, _)| at);
    text.get(..end).unwrap_or_default()
}
