//! One request did not work.

use super::{Disconnect, Relaxation, RpcError, RpcErrorKind, cut, last_line};
use crate::{
    id::TurnId,
    json::Json,
    launch::ExitReport,
    protocol::{SandboxMode, SandboxPolicy},
};
use alloc::{borrow::Cow, boxed::Box, string::String};
use core::{fmt, time::Duration};

/// Whether a request can have reached the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Delivery {
    /// Not a byte of it was handed over: it had no effect.
    NotSent,
    /// It was handed over, wholly or in part: it may have had an effect.
    Sent,
}

impl fmt::Display for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotSent => "it was not sent, so it had no effect",
            Self::Sent => "it was sent, so it may have had an effect",
        })
    }
}

/// One request did not work.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CallError {
    /// The method of the request.
    pub method: Cow<'static, str>,
    /// What happened to it.
    pub fault: Fault,
}

/// What happened to a request.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Fault {
    /// The server answered with a result that does not fit its type. The connection lives on.
    Decode {
        /// Where in the result, as far as is known.
        path: String,
        /// What did not fit, without the value itself.
        message: String,
        /// The result.
        raw: Json,
    },
    /// The connection ended before the answer came.
    Disconnected {
        /// Whether the request can have reached the server.
        delivery: Delivery,
        /// Why the connection ended.
        cause: Disconnect,
    },
    /// The params cannot be written as JSON. Nothing was sent.
    Encode(String),
    /// The request, or a member of it, needs the experimental capability, and this connection does without
    /// (`Config::experimental_api`). Nothing was sent.
    NeedsExperimental {
        /// The method, or the member.
        what: Cow<'static, str>,
    },
    /// The request, or a member of it, is newer than the server. Nothing was sent. A server between two versions whose schemas
    /// are known is asked for a method that only the later has, since it refuses what it does not know. A member that only the
    /// later has it would pass over, so that is refused here. For servers that do not say their version rightly there is
    /// `Config::assume_version`.
    NeedsNewer {
        /// The method, or the member.
        what: Cow<'static, str>,
        /// The oldest version that has it, as far as was checked.
        required: &'static str,
        /// The server's version.
        actual: String,
    },
    /// Too many requests wait already; see `Limits::max_queued_requests`. Nothing was sent.
    QueueFull {
        /// The limit.
        limit: usize,
    },
    /// The server refused because another turn runs on the thread than the one that was named.
    OtherTurn {
        /// The turn that runs.
        actual: TurnId,
        /// The server's error.
        error: RpcError,
    },
    /// The sandbox of a turn that had waited for its thread may allow more than the thread's own does by now. Nothing was
    /// sent.
    Relaxes(Box<Relaxation>),
    /// The server answered with an error.
    Rpc(RpcError),
    /// The thread was loaded, with a looser sandbox than was asked for: a server does not change the sandbox of a thread that
    /// is loaded already.
    SandboxLooser {
        /// What was asked for.
        asked: SandboxMode,
        /// What the thread has.
        effective: Box<SandboxPolicy>,
    },
    /// The server's answer was longer than a line may be; see `Limits::max_line`. The connection lives on.
    TooLarge {
        /// Its length in bytes.
        length: u64,
        /// The limit in bytes.
        limit: usize,
    },
    /// The thread was stopped, or the turn was taken back, before the request was sent.
    Withdrawn,
    /// The handle that was called belongs to a server that is gone, and a later one has taken its place. Nothing was sent.
    /// `Codex::thread_resume` has the server of now load the same thread, and gives a handle to it.
    Stale {
        /// The generation of the handle.
        handle: u64,
        /// The generation that was current when the handle's server had been replaced.
        current: u64,
        /// Why the handle's server is gone.
        cause: Disconnect,
    },
    /// The turn that the request was about ended before the request could be sent.
    TurnEnded,
    /// No answer came in time. What the server did with the request is not known if it was sent.
    TimedOut {
        /// Whether the request can have reached the server.
        delivery: Delivery,
        /// How long was waited since the call.
        elapsed: Duration,
        /// What is known of the server's process, if there is one, with what it said on stderr since its last output: a server
        /// that cannot parse a request says so there and nowhere else.
        process: Option<Box<ExitReport>>,
    },
}

impl CallError {
    pub(crate) fn new(method: impl Into<Cow<'static, str>>, fault: Fault) -> Self {
        Self { method: method.into(), fault }
    }

    /// Whether the same call may simply be tried again: it was refused without being executed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match &self.fault {
            Fault::Rpc(error) => error.is_overload(),
            Fault::QueueFull { .. } => true,
            _ => false,
        }
    }

    /// Whether the request may have done something all the same: it was sent, and what came of it is not known, or is
    /// known to be a result.
    #[must_use]
    pub fn may_have_effect(&self) -> bool {
        match &self.fault {
            Fault::Decode { .. } | Fault::SandboxLooser { .. } | Fault::TooLarge { .. } => true,
            Fault::Disconnected { delivery, .. } | Fault::TimedOut { delivery, .. } => *delivery == Delivery::Sent,
            // The server may have begun before it failed.
            Fault::Rpc(error) => error.kind() == RpcErrorKind::Internal,
            Fault::Encode(_)
            | Fault::OtherTurn { .. }
            | Fault::NeedsExperimental { .. }
            | Fault::NeedsNewer { .. }
            | Fault::QueueFull { .. }
            | Fault::Relaxes(_)
            | Fault::Withdrawn
            | Fault::Stale { .. }
            | Fault::TurnEnded => false,
        }
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.fault, Fault::TimedOut { .. })
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.fault, Fault::Disconnected { .. } | Fault::Stale { .. })
    }

    /// Whether the handle that was called belongs to an earlier server than the one of now.
    #[must_use]
    pub fn is_stale(&self) -> bool {
        matches!(self.fault, Fault::Stale { .. })
    }

    /// The server's error object, if it answered with one.
    #[must_use]
    pub fn rpc(&self) -> Option<&RpcError> {
        match &self.fault {
            Fault::Rpc(error) | Fault::OtherTurn { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl fmt::Display for CallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let method = &self.method;
        match &self.fault {
            Fault::Decode { path, message, .. } if path.is_empty() => {
                write!(f, "the result of `{method}` does not fit its type: {message}")
            }
            Fault::Decode { path, message, .. } => {
                write!(f, "the result of `{method}` does not fit its type at `{path}`: {message}")
            }
            Fault::Disconnected { delivery, cause } => {
                write!(f, "`{method}` got no answer because {cause}; {delivery}")
            }
            Fault::Encode(message) => write!(f, "the params of `{method}` cannot be written as JSON: {message}"),
            Fault::NeedsExperimental { what } if *what == *method => {
                write!(f, "`{method}` needs the experimental capability (Config::experimental_api)")
            }
            Fault::NeedsExperimental { what } => {
                write!(f, "`{what}` of `{method}` needs the experimental capability (Config::experimental_api)")
            }
            Fault::NeedsNewer { what, required, actual } => write!(
                f,
                "`{what}` of `{method}` needs a server of version {required} or newer, and this one is {actual} \
                 (Config::assume_version overrides that)"
            ),
            Fault::QueueFull { limit } => {
                write!(
                    f,
                    "`{method}` was not queued because {limit} requests wait already (Limits::max_queued_requests)"
                )
            }
            Fault::Relaxes(relaxation) => write!(f, "`{method}` was not sent: {relaxation}"),
            Fault::Rpc(error) => match error.refused_value() {
                Some(value) if *value == **method => {
                    write!(
                        f,
                        "this server has no method `{method}`; it may be too old, or too new (code {})",
                        error.code
                    )
                }
                Some(value) => write!(
                    f,
                    "the server refused the value `{value}` in `{method}`: it does not know it, or does not any more; {error}"
                ),
                None => write!(f, "the server refused `{method}`: {error}"),
            },
            Fault::SandboxLooser { asked, effective } => write!(
                f,
                "`{method}` gave the thread the sandbox `{}` instead of the mode `{asked}` that was asked for: it was \
                 loaded already; `thread/settings/update` changes it",
                effective.kind()
            ),
            Fault::TooLarge { length, limit } => {
                write!(f, "the result of `{method}` has {length} bytes; at most {limit} are read (Limits::max_line)")
            }
            Fault::OtherTurn { actual, .. } => write!(f, "`{method}` was refused because turn {actual} runs instead"),
            Fault::Withdrawn => write!(f, "`{method}` was taken back before it was sent"),
            Fault::Stale { handle, current, cause } => write!(
                f,
                "`{method}` was not sent: its handle is stale, as it belongs to server {handle} of the session, and server \
                 {current} has taken its place because {cause}"
            ),
            Fault::TurnEnded => write!(f, "`{method}` was not sent because its turn ended first"),
            Fault::TimedOut { delivery, elapsed, process } => {
                match delivery {
                    Delivery::NotSent => write!(
                        f,
                        "`{method}` was not sent within {elapsed:.1?}: the server does not read, or too many requests are \
                         in flight; {delivery}"
                    )?,
                    Delivery::Sent => write!(
                        f,
                        "`{method}` got no answer within {elapsed:.1?}; {delivery}. The server does not answer input that \
                         it cannot parse, and drops requests under overload"
                    )?,
                }
                let said = process.as_ref().map_or("", |process| process.stderr_since_output());
                match last_line(said) {
                    Some(line) => write!(f, "; its last line on stderr since its last output: {}", cut(line, 240)),
                    None => Ok(()),
                }
            }
        }
    }
}

impl core::error::Error for CallError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.fault {
            Fault::Disconnected { cause, .. } | Fault::Stale { cause, .. } => Some(cause),
            Fault::OtherTurn { error, .. } | Fault::Rpc(error) => Some(error),
            Fault::Decode { .. }
            | Fault::Encode(_)
            | Fault::NeedsExperimental { .. }
            | Fault::NeedsNewer { .. }
            | Fault::QueueFull { .. }
            | Fault::Relaxes(_)
            | Fault::SandboxLooser { .. }
            | Fault::TooLarge { .. }
            | Fault::Withdrawn
            | Fault::TurnEnded
            | Fault::TimedOut { .. } => None,
        }
    }
}
