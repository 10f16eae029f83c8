//! There is no server to talk to, or none any more.

use super::{RpcError, cut, last_line};
use crate::launch::ExitReport;
#[cfg(feature = "std")]
use crate::launch::LaunchError;
use alloc::{string::String, sync::Arc};
use core::{fmt, time::Duration};

/// Why a connection is over. Shared by everything that ends with it.
#[derive(Clone)]
pub struct Disconnect(Arc<Ended>);

struct Ended {
    reason: DisconnectReason,
    exit: Option<ExitReport>,
}

impl Disconnect {
    pub(crate) fn new(reason: DisconnectReason, exit: Option<ExitReport>) -> Self {
        Self(Arc::new(Ended { reason, exit }))
    }

    /// What was seen first.
    #[must_use]
    pub fn reason(&self) -> &DisconnectReason {
        &self.0.reason
    }

    /// How the server's process ended, when there is one and its end was seen in time.
    #[must_use]
    pub fn exit(&self) -> Option<&ExitReport> {
        self.0.exit.as_ref()
    }

    /// The last that the server wrote on stderr; empty when there was nothing or no process.
    #[must_use]
    pub fn stderr_tail(&self) -> &str {
        self.0.exit.as_ref().map_or("", |exit| exit.stderr_tail())
    }
}

impl fmt::Debug for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Disconnect").field("reason", &self.0.reason).field("exit", &self.0.exit).finish()
    }
}

impl fmt::Display for Disconnect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0.reason)?;
        if let Some(exit) = &self.0.exit {
            if exit.status.is_some() {
                write!(f, "; its process: {exit}, {:.1?} after its start", exit.elapsed)?;
            }
            // The last line is nearly always the one that explains; the whole tail is in `stderr_tail`. What was written
            // before the last message has nothing to do with the end, as a rule.
            let said =
                [exit.stderr_since_output(), exit.stderr_tail()].into_iter().find(|text| !text.trim().is_empty());
            if let Some(line) = last_line(said.unwrap_or_default()) {
                write!(f, "; its last line on stderr: {}", cut(line, 240))?;
            }
        }
        Ok(())
    }
}

impl core::error::Error for Disconnect {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match &self.0.reason {
            DisconnectReason::InitializeRefused(error) => Some(error),
            #[cfg(feature = "std")]
            DisconnectReason::Launch(error) => Some(error),
            DisconnectReason::ClosedByCaller
            | DisconnectReason::DriverDropped
            | DisconnectReason::Eof
            | DisconnectReason::Exited
            | DisconnectReason::InitializeTimedOut { .. }
            | DisconnectReason::Io(_)
            | DisconnectReason::LaunchTimedOut { .. }
            | DisconnectReason::Protocol(_)
            | DisconnectReason::Wire(_) => None,
        }
    }
}

/// What ended a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DisconnectReason {
    /// The application closed it, or dropped its last handle.
    ClosedByCaller,
    /// The future that moves the bytes was dropped, or its runtime shut down.
    DriverDropped,
    /// The server closed its output.
    Eof,
    /// The server's process ended.
    Exited,
    /// The server refused to initialize.
    InitializeRefused(RpcError),
    /// The server did not answer `initialize` in time.
    InitializeTimedOut {
        /// How long it was waited for.
        elapsed: Duration,
    },
    /// Reading or writing failed.
    Io(String),
    /// The program was not found, or not started, in time: a disk that does not answer, as a rule.
    LaunchTimedOut {
        /// What was waited for: [`Phase::Resolve`] or [`Phase::Spawn`].
        phase: Phase,
        /// How long it was waited for.
        elapsed: Duration,
    },
    /// No server was started: it was not found, or the system would not start it. Only with std, as the launching itself.
    #[cfg(feature = "std")]
    Launch(LaunchError),
    /// The peer broke a rule that it must keep.
    Protocol(String),
    /// The runtime could not take over the pipes of the server's process, or is not there.
    Wire(String),
}

impl fmt::Display for DisconnectReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClosedByCaller => f.write_str("the connection was closed by this program"),
            Self::DriverDropped => {
                f.write_str("the connection's driver was dropped, so nothing moves its bytes any more")
            }
            Self::Eof => f.write_str("the server closed its output"),
            Self::Exited => f.write_str("the server's process ended"),
            Self::InitializeRefused(error) => write!(f, "the server refused to initialize: {error}"),
            Self::InitializeTimedOut { elapsed } => {
                write!(f, "the server did not answer `initialize` within {elapsed:.1?}; is this program an app-server?")
            }
            Self::Io(message) => write!(f, "moving bytes to or from the server failed: {message}"),
            Self::LaunchTimedOut { phase, elapsed } => write_launch_timed_out(f, *phase, *elapsed),
            #[cfg(feature = "std")]
            Self::Launch(error) => write!(f, "no server was started: {error}"),
            Self::Protocol(message) => write!(f, "the server broke the protocol: {message}"),
            Self::Wire(message) => write!(f, "the pipes of the server's process cannot be used: {message}"),
        }
    }
}

fn write_launch_timed_out(f: &mut fmt::Formatter<'_>, phase: Phase, elapsed: Duration) -> fmt::Result {
    let what = if phase == Phase::Resolve { "found" } else { "started" };
    write!(
        f,
        "the codex program was not {what} within {elapsed:.1?}: is it, or a folder of PATH, on a disk that does not answer?"
    )
}

/// There is no server to talk to.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ConnectError {
    /// It was started, or connected to, but the handshake did not succeed.
    Initialize(Disconnect),
    /// It was not found or could not be started. Only with std, as the launching itself.
    #[cfg(feature = "std")]
    Launch(LaunchError),
    /// It was not found, or not started, in time. If the system starts it later all the same, it is ended at once.
    TimedOut {
        /// What was waited for: [`Phase::Resolve`] or [`Phase::Spawn`].
        phase: Phase,
        /// How long it was waited for.
        elapsed: Duration,
    },
    /// The runtime could not take over the pipes of the process.
    Wire(String),
}

/// How far connecting came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Phase {
    /// The handshake.
    Initialize,
    /// Finding the program.
    Resolve,
    /// Starting it.
    Spawn,
}

impl ConnectError {
    /// What a connection that ended before its handshake was done says to those who wait for it.
    #[cfg(feature = "client")]
    pub(crate) fn of(cause: Disconnect) -> Self {
        match cause.reason() {
            DisconnectReason::Launch(error) => Self::Launch(error.clone()),
            DisconnectReason::LaunchTimedOut { phase, elapsed } => Self::TimedOut { phase: *phase, elapsed: *elapsed },
            DisconnectReason::Wire(message) => Self::Wire(message.clone()),
            _ => Self::Initialize(cause),
        }
    }

    /// The reason that a connection ends with when this kept it from beginning.
    #[cfg(feature = "client")]
    pub(crate) fn into_reason(self) -> DisconnectReason {
        match self {
            Self::Initialize(cause) => cause.reason().clone(),
            Self::Launch(error) => DisconnectReason::Launch(error),
            Self::TimedOut { phase, elapsed } => DisconnectReason::LaunchTimedOut { phase, elapsed },
            Self::Wire(message) => DisconnectReason::Wire(message),
        }
    }

    /// Whether the same may simply be tried again: the system was short of something for the moment.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            #[cfg(feature = "std")]
            Self::Launch(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// How far connecting came.
    #[must_use]
    pub fn phase(&self) -> Phase {
        match self {
            Self::Initialize(_) => Phase::Initialize,
            #[cfg(feature = "std")]
            Self::Launch(LaunchError::Spawn { .. }) => Phase::Spawn,
            #[cfg(feature = "std")]
            Self::Launch(_) => Phase::Resolve,
            Self::TimedOut { phase, .. } => *phase,
            Self::Wire(_) => Phase::Spawn,
        }
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::Initialize(cause) => matches!(cause.reason(), DisconnectReason::InitializeTimedOut { .. }),
            Self::TimedOut { .. } => true,
            _ => false,
        }
    }

    /// The last that the server wrote on stderr; empty when there was nothing.
    #[must_use]
    pub fn stderr_tail(&self) -> &str {
        match self {
            Self::Initialize(cause) => cause.stderr_tail(),
            _ => "",
        }
    }
}

impl fmt::Display for ConnectError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Initialize(cause) => write!(f, "the handshake with the server failed: {cause}"),
            #[cfg(feature = "std")]
            Self::Launch(error) => write!(f, "{error}"),
            Self::TimedOut { phase, elapsed } => write_launch_timed_out(f, *phase, *elapsed),
            Self::Wire(message) => write!(f, "the pipes of the server's process cannot be used: {message}"),
        }
    }
}

impl core::error::Error for ConnectError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Initialize(cause) => Some(cause),
            #[cfg(feature = "std")]
            Self::Launch(error) => Some(error),
            Self::TimedOut { .. } | Self::Wire(_) => None,
        }
    }
}

#[cfg(feature = "std")]
impl From<LaunchError> for ConnectError {
    fn from(error: LaunchError) -> Self {
        Self::Launch(error)
    }
}
