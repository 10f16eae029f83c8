//! A turn did not end well, or an input did not reach one.

use super::{CallError, Disconnect};
use crate::{
    id::{ThreadId, TurnId},
    protocol::SandboxPolicy,
    turn::{InputError, TurnResult},
};
use alloc::{boxed::Box, string::String};
use core::{fmt, time::Duration};

/// A turn did not run, or did not end well. What it produced until then is kept.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TurnError {
    /// The thread runs a turn already, and a start would join that one instead of running its own. Nothing was sent.
    Busy(ThreadId),
    /// The turn ended as failed; the report has the server's error.
    Failed(Box<TurnResult>),
    /// The input cannot be taken: nothing was sent, or the server refused it for that.
    Input(InputError),
    /// The connection ended first.
    Lost {
        /// Why the connection ended.
        cause: Disconnect,
        /// What was known of the turn by then.
        report: Box<TurnResult>,
    },
    /// The sandbox of the turn cannot be proved to allow no more than the thread's own, and nobody said that it may. Nothing
    /// was sent.
    Relaxes(Box<Relaxation>),
    /// The server did not take `turn/start`, or its answer did not come.
    Start(CallError),
    /// The caller's deadline passed. The turn is told to stop, and its thread stays busy until it does.
    TimedOut {
        /// The deadline, from the start of the turn.
        limit: Duration,
        /// What was known of the turn by then.
        report: Box<TurnResult>,
    },
    /// Nothing was heard of the turn for longer than its idle deadline allows. The turn is told to stop, and its thread
    /// stays busy until it does.
    IdleTimedOut {
        /// The idle deadline that held, from the last sign of life.
        limit: Duration,
        /// How long ago the last sign of life was.
        age: Duration,
        /// What was known of the turn by then.
        report: Box<TurnResult>,
    },
    /// So many starts wait for the thread already; see `Limits::max_queued_turns`. Nothing was sent.
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The turn ended with a status that this version of turnwire does not know, or with none. Never a success.
    UnknownStatus {
        /// The status as the server wrote it; empty if there was none.
        status: Box<str>,
        /// The turn.
        report: Box<TurnResult>,
    },
}

/// A turn's sandbox that may allow more than the thread's own.
#[derive(Clone)]
#[non_exhaustive]
pub struct Relaxation {
    /// The thread.
    pub thread: ThreadId,
    /// The thread's own sandbox; `None`: the server has not told this connection, which it does when the thread is started or
    /// resumed.
    pub own: Option<SandboxPolicy>,
    /// The turn's; `None`: a permission profile, which cannot be compared.
    pub asked: Option<SandboxPolicy>,
}

impl fmt::Debug for Relaxation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = |policy: &Option<SandboxPolicy>| policy.as_ref().map(|policy| String::from(policy.kind()));
        f.debug_struct("Relaxation")
            .field("thread", &self.thread)
            .field("own", &kind(&self.own))
            .field("asked", &kind(&self.asked))
            .finish()
    }
}

impl fmt::Display for Relaxation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { thread, own, asked } = self;
        let asked = asked.as_ref().map_or("of a permission profile", SandboxPolicy::kind);
        match own {
            Some(own) => write!(
                f,
                "the sandbox `{asked}` of the turn may allow more than `{}`, which thread {thread} has; only \
                 `allow_relaxing` permits that",
                own.kind()
            ),
            None => write!(
                f,
                "the sandbox `{asked}` of the turn may allow more than that of thread {thread}, which is not known here; \
                 only `allow_relaxing` permits that"
            ),
        }
    }
}

impl TurnError {
    /// What is known of the turn, if it came into being.
    #[must_use]
    pub fn report(&self) -> Option<&TurnResult> {
        match self {
            Self::Failed(report)
            | Self::Lost { report, .. }
            | Self::TimedOut { report, .. }
            | Self::IdleTimedOut { report, .. }
            | Self::UnknownStatus { report, .. } => Some(report),
            Self::Busy(_) | Self::Input(_) | Self::QueueFull { .. } | Self::Relaxes(_) | Self::Start(_) => None,
        }
    }

    /// Whether the same start may simply be tried again: it was refused without being executed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Start(error) => error.is_retryable(),
            Self::QueueFull { .. } => true,
            _ => false,
        }
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Start(error) => error.is_timeout(),
            Self::TimedOut { .. } | Self::IdleTimedOut { .. } => true,
            _ => false,
        }
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        match self {
            Self::Start(error) => error.is_closed(),
            Self::Lost { .. } => true,
            _ => false,
        }
    }
}

impl fmt::Display for TurnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Busy(thread) => {
                write!(f, "thread {thread} runs a turn already; wait for its end, steer it or interrupt it")
            }
            Self::Failed(report) => match report.error_message() {
                Some(message) => write!(f, "the turn failed: {message}"),
                None => f.write_str("the turn failed, and the server did not say why"),
            },
            Self::Input(error) => write!(f, "the turn did not start: {error}"),
            Self::Lost { cause, .. } => write!(f, "the turn was lost: {cause}"),
            Self::Relaxes(relaxation) => write!(f, "{relaxation}"),
            Self::Start(error) => write!(f, "the turn did not start: {error}"),
            Self::TimedOut { limit, .. } => {
                write!(f, "the turn did not end within {limit:.1?}; it was told to stop")
            }
            Self::IdleTimedOut { limit, age, .. } => write!(
                f,
                "nothing was heard of the turn for {age:.1?}, longer than its idle deadline of {limit:.1?}; it was told \
                 to stop"
            ),
            Self::QueueFull { limit } => {
                write!(f, "{limit} starts wait for the thread already (Limits::max_queued_turns)")
            }
            Self::UnknownStatus { status, .. } if status.is_empty() => f.write_str("the turn ended without a status"),
            Self::UnknownStatus { status, .. } => write!(f, "the turn ended with the unknown status `{status}`"),
        }
    }
}

impl core::error::Error for TurnError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Input(error) => Some(error),
            Self::Lost { cause, .. } => Some(cause),
            Self::Start(error) => Some(error),
            Self::Busy(_)
            | Self::Failed(_)
            | Self::Relaxes(_)
            | Self::TimedOut { .. }
            | Self::IdleTimedOut { .. }
            | Self::QueueFull { .. }
            | Self::UnknownStatus { .. } => None,
        }
    }
}

/// An input did not reach a running turn.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SteerError {
    /// The request itself did not work.
    Call(CallError),
    /// The turn was over. The input was not taken.
    Ended,
    /// The input cannot be taken: nothing was sent, or the server refused it for that.
    Input(InputError),
    /// Another turn runs on the thread. The input was not taken.
    Mismatch {
        /// The turn that was steered.
        expected: TurnId,
        /// The turn that runs.
        actual: TurnId,
    },
    /// The turn is of a kind that takes no input, such as a review or a compaction. The input was not taken.
    NotSteerable {
        /// The kind as the server named it.
        kind: Box<str>,
    },
}

impl SteerError {
    /// Whether the same steer may simply be tried again: it was refused without being executed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_retryable())
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_closed())
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Call(error) if error.is_timeout())
    }
}

impl fmt::Display for SteerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call(error) => write!(f, "{error}"),
            Self::Input(error) => write!(f, "the turn was not steered: {error}"),
            Self::Ended => f.write_str("the turn was over before it could be steered; start a new turn with the input"),
            Self::Mismatch { expected, actual } => {
                write!(f, "turn {expected} does not run any more; turn {actual} does")
            }
            Self::NotSteerable { kind } => write!(f, "a {kind} turn takes no input"),
        }
    }
}

impl core::error::Error for SteerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Call(error) => Some(error),
            Self::Input(error) => Some(error),
            Self::Ended | Self::Mismatch { .. } | Self::NotSteerable { .. } => None,
        }
    }
}
