//! What can go wrong, sorted by who must act.
//!
//! [`ConnectError`]: there is no server to talk to. [`CallError`]: one request did not work. [`TurnError`]: a turn did
//! not end well. [`SteerError`]: an input did not reach a turn. [`UsageError`]: the caller's code is wrong, and reading
//! it shows so. [`Error`] is their union, for `?`. Nobody has to match text: variants say what happened, and
//! `is_retryable`, `is_timeout` and `is_closed` answer what most callers ask.

pub use crate::thread_error::{ThreadError, ThreadFault};

#[cfg(feature = "client")]
use crate::client::{AccountError, LoginError, ToolError};
#[cfg(feature = "std")]
use crate::launch::LaunchError;
use crate::{
    connection::AnswerError,
    id::{ThreadId, TurnId},
    json::Json,
    launch::ExitReport,
    protocol::{SandboxMode, SandboxPolicy},
    turn::{InputError, TurnResult},
};
use alloc::{borrow::Cow, boxed::Box, string::String, sync::Arc};
use core::{fmt, time::Duration};
use serde::Deserialize;

/// An impossible state, met: a bug of turnwire, reported as data instead of a panic.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bug(pub &'static str);

impl fmt::Display for Bug {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a bug in turnwire: {}", self.0)
    }
}

/// The error object of a response, as the server sent it.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RpcError {
    /// The code, for example -32600.
    pub code: i64,
    /// The text, written for people. It changes between versions of the server.
    pub message: String,
    /// Whatever else came with it.
    pub data: Option<Json>,
}

impl RpcError {
    /// An error object with no data.
    #[must_use]
    pub fn new(code: i64, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), data: None }
    }

    /// The kind of error that the code stands for.
    #[must_use]
    pub fn kind(&self) -> RpcErrorKind {
        match self.code {
            -32700 => RpcErrorKind::Parse,
            -32600 => RpcErrorKind::InvalidRequest,
            -32601 => RpcErrorKind::MethodNotFound,
            -32602 => RpcErrorKind::InvalidParams,
            -32603 => RpcErrorKind::Internal,
            -32001 => RpcErrorKind::Overloaded,
            -32099..=-32000 => RpcErrorKind::Server,
            _ => RpcErrorKind::Other,
        }
    }

    /// Whether the server says that it is overloaded and did not take the request, in any of its spellings: the code
    /// -32001, whatever its data; or, under any code, `serverOverloaded` or `server_overloaded` in the data.
    #[must_use]
    pub fn is_overload(&self) -> bool {
        self.kind() == RpcErrorKind::Overloaded || self.data.as_ref().is_some_and(says_overloaded)
    }

    /// The value that the server refused because it does not know it (any more), if that is what the error says: a
    /// retired approval policy, an unknown method. The server says so in its text only.
    #[must_use]
    pub fn refused_value(&self) -> Option<&str> {
        let (_, rest) = self.message.split_once("unknown variant `")?;
        Some(rest.split_once('`')?.0)
    }

    pub(crate) fn parse(raw: &serde_json::value::RawValue) -> Self {
        #[derive(Deserialize)]
        struct Wire {
            code: i64,
            #[serde(default)]
            message: String,
            data: Option<Json>,
        }
        match serde_json::from_str::<Wire>(raw.get()) {
            Ok(wire) => Self { code: wire.code, message: wire.message, data: wire.data },
            Err(_) => Self { code: 0, message: "an error object without a code".into(), data: Some(raw.into()) },
        }
    }
}

impl fmt::Debug for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RpcError")
            .field("code", &self.code)
            .field("message", &format_args!("{} bytes", self.message.len()))
            .field("data", &self.data)
            .finish()
    }
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An unknown method is answered with a list of all that are known.
        write!(f, "{} (code {})", cut(&self.message, 400), self.code)
    }
}

/// Whether the data of an error says that the server is overloaded: as a word of its own, or as the value of some member
/// at any depth.
fn says_overloaded(data: &Json) -> bool {
    // A text in JSON stands between quotes, whatever is around it; these words need no escapes.
    ["\"serverOverloaded\"", "\"server_overloaded\"", "\"server_is_overloaded\""]
        .iter()
        .any(|word| data.as_str().contains(word))
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

/// What the code of an [`RpcError`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RpcErrorKind {
    /// -32603: the server failed, or refused late.
    Internal,
    /// -32602: the params have the right form but cannot be taken, for example because the input is too large.
    InvalidParams,
    /// -32600: nearly everything that the client did wrong, unknown methods and wrong params included.
    InvalidRequest,
    /// -32601: not supported here.
    MethodNotFound,
    /// Any other code.
    Other,
    /// -32001: the server did not take the request because it is overloaded. It was not executed.
    Overloaded,
    /// -32700: the server could not parse the line.
    Parse,
    /// Another code between -32099 and -32000.
    Server,
}

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

impl core::error::Error for Disconnect {}

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
    /// The request, or a member of it, is newer than the server. Nothing was sent. For servers that do not say their
    /// version rightly there is `Config::assume_version`.
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
    /// `Codex::thread` gives a handle to the same thread on the server of now.
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
            _ => None,
        }
    }
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

impl core::error::Error for ConnectError {}

#[cfg(feature = "std")]
impl From<LaunchError> for ConnectError {
    fn from(error: LaunchError) -> Self {
        Self::Launch(error)
    }
}

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

impl core::error::Error for TurnError {}

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

impl core::error::Error for SteerError {}

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
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            #[cfg(feature = "client")]
            Self::Account(error) => error.fmt(f),
            Self::Answer(error) => error.fmt(f),
            #[cfg(feature = "client")]
            Self::Login(error) => error.fmt(f),
            #[cfg(feature = "client")]
            Self::Tool(error) => error.fmt(f),
            Self::Call(error) => error.fmt(f),
            Self::Connect(error) => error.fmt(f),
            Self::Steer(error) => error.fmt(f),
            Self::Thread(error) => error.fmt(f),
            Self::Turn(error) => error.fmt(f),
            Self::Usage(error) => error.fmt(f),
        }
    }
}

impl core::error::Error for Error {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            #[cfg(feature = "client")]
            Self::Account(_) | Self::Tool(_) => None,
            Self::Answer(_) => None,
            #[cfg(feature = "client")]
            Self::Login(error) => core::error::Error::source(error),
            Self::Call(error) => error.source(),
            Self::Thread(error) => error.source(),
            Self::Steer(SteerError::Call(error)) | Self::Turn(TurnError::Start(error)) => error.source(),
            Self::Connect(ConnectError::Initialize(cause)) | Self::Turn(TurnError::Lost { cause, .. }) => Some(cause),
            Self::Connect(_) | Self::Steer(_) | Self::Turn(_) | Self::Usage(_) => None,
        }
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
