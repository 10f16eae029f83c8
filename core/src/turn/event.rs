//! What a turn, a thread or a connection has to tell, before anybody asks for its type.

use crate::{
    connection::{AskEnd, Asked},
    envelope::{Keys, RpcId},
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    protocol::Notification,
    turn::{State, TurnKey},
};
use alloc::{boxed::Box, string::String, sync::Arc};
use bytes::Bytes;
use core::{fmt, ops::Deref};

/// One event.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RawEvent {
    /// The server asks something that somebody here may answer.
    Asked(Box<Asked>),
    /// What the server asked was answered, or is closed. A refusal is [`Refused`](Self::Refused).
    AskEnded(Box<Asked>, AskEnd),
    /// A piece of text of an item that is being written.
    Delta(Delta),
    /// Something about the connection that its owner may want to know.
    Diagnostic(Diagnostic),
    /// The turn ended so: the last event of a turn.
    Ended(State),
    /// So many events were left out here, because nobody read and the bound of memory was reached.
    Gap(u64),
    /// Anything else that the server said.
    Notification(RawNotification),
    /// A request of the server was refused on the application's behalf.
    Refused(Box<Refused>),
    /// The application asked for no more events of the thread (`thread/unsubscribe`): the last event of its streams.
    Unsubscribed,
    /// A turn began that was not started here. Only from `Scope::Turns`.
    Turn(TurnKey),
}

impl RawEvent {
    /// The thread it belongs to, if it says so.
    #[must_use]
    pub fn thread(&self) -> Option<&ThreadId> {
        match self {
            Self::Asked(asked) | Self::AskEnded(asked, _) => asked.request.thread.as_ref(),
            Self::Delta(delta) => Some(&delta.thread),
            Self::Notification(notification) => notification.thread.as_ref(),
            Self::Refused(refused) => refused.notification.thread.as_ref(),
            Self::Diagnostic(_) | Self::Ended(_) | Self::Gap(_) | Self::Turn(_) | Self::Unsubscribed => None,
        }
    }

    /// Whether it may be left out when memory is short: whatever is neither a beginning nor an end, nor an error, nor a
    /// request.
    #[must_use]
    pub fn is_best_effort(&self) -> bool {
        match self {
            Self::Delta(_) | Self::Diagnostic(_) | Self::Gap(_) => true,
            Self::Asked(_)
            | Self::AskEnded(..)
            | Self::Ended(_)
            | Self::Refused(_)
            | Self::Turn(_)
            | Self::Unsubscribed => false,
            Self::Notification(notification) => !matches!(
                &*notification.method,
                "error"
                    | "item/completed"
                    | "item/started"
                    | "thread/tokenUsage/updated"
                    | "turn/completed"
                    | "turn/started"
            ),
        }
    }

    /// How much memory it is counted for, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        const BASE: usize = core::mem::size_of::<RawEvent>();
        BASE + match self {
            Self::Delta(delta) => {
                let raw = delta.raw.as_ref().map_or(0, |raw| raw.as_str().len());
                // Ids are shared with the events beside it, as a rule; a peer that sends long ones breaks it.
                let ids = delta.thread.as_str().len() + delta.turn.as_str().len() + delta.item.as_str().len();
                delta.text.len() + raw + ids.saturating_sub(USUAL_IDS)
            }
            Self::Diagnostic(diagnostic) => diagnostic.head.len(),
            Self::Notification(notification) => notification.method.len() + notification.params.len(),
            Self::Refused(refused) => refused.notification.method.len() + refused.notification.params.len(),
            Self::Asked(asked) | Self::AskEnded(asked, _) => {
                let changes = asked.changes.as_ref().map_or(0, |changes| changes.as_str().len());
                asked.request.method.len() + asked.request.params.len() + changes
            }
            Self::Ended(_) | Self::Gap(_) | Self::Turn(_) | Self::Unsubscribed => 0,
        }
    }
}

/// How long the three ids of a delta are at most when they are what servers use: UUIDs, or shorter.
const USUAL_IDS: usize = 3 * 64;

/// What a delta adds to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DeltaKind {
    /// `item/agentMessage/delta`: a message of the agent.
    AgentMessage,
    /// `item/commandExecution/outputDelta`: the output of a command. Its beginning may be missing here.
    CommandOutput,
    /// `item/fileChange/outputDelta`.
    FileChangeOutput,
    /// `item/plan/delta`: a proposed plan.
    Plan,
    /// `item/reasoning/textDelta`: the reasoning itself.
    Reasoning,
    /// `item/reasoning/summaryTextDelta`: a summary of the reasoning.
    ReasoningSummary,
}

impl DeltaKind {
    /// The kind that a method stands for.
    #[must_use]
    pub fn of_method(method: &str) -> Option<Self> {
        // Most notifications are messages in pieces: ask for them first.
        match method {
            "item/agentMessage/delta" => Some(Self::AgentMessage),
            "item/commandExecution/outputDelta" => Some(Self::CommandOutput),
            "item/reasoning/textDelta" => Some(Self::Reasoning),
            "item/reasoning/summaryTextDelta" => Some(Self::ReasoningSummary),
            "item/plan/delta" => Some(Self::Plan),
            "item/fileChange/outputDelta" => Some(Self::FileChangeOutput),
            _ => None,
        }
    }

    /// The method that stands for it.
    #[must_use]
    pub fn method(self) -> &'static str {
        match self {
            Self::AgentMessage => "item/agentMessage/delta",
            Self::CommandOutput => "item/commandExecution/outputDelta",
            Self::FileChangeOutput => "item/fileChange/outputDelta",
            Self::Plan => "item/plan/delta",
            Self::Reasoning => "item/reasoning/textDelta",
            Self::ReasoningSummary => "item/reasoning/summaryTextDelta",
        }
    }
}

/// A piece of text of an item.
///
/// Deltas are for display: they may lack the beginning of an output, and an item that is abandoned takes its deltas with
/// it. What counts is the item when it is completed.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Delta {
    /// What it adds to.
    pub kind: DeltaKind,
    /// Where it belongs. Its members can be named as if they were the delta's own.
    pub origin: Arc<DeltaOrigin>,
    /// Which part of the item: `summaryIndex` or `contentIndex`.
    pub index: Option<i64>,
    /// The text.
    pub text: String,
    /// How many further deltas of the server this one holds, because they piled up unread.
    pub merged: u64,
    /// The params, kept only when they have members beside those above.
    pub raw: Option<Json>,
}

/// Where a delta belongs. The deltas of one item share it, as a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeltaOrigin {
    /// The thread; with a sub-agent's thread this is the child's.
    pub thread: ThreadId,
    /// The turn.
    pub turn: TurnId,
    /// The item.
    pub item: ItemId,
}

impl Deref for Delta {
    type Target = DeltaOrigin;

    fn deref(&self) -> &DeltaOrigin {
        &self.origin
    }
}

impl Delta {
    /// Whether another delta may be appended to this one without losing anything.
    pub(crate) fn continues_as(&self, next: &Self) -> bool {
        self.kind == next.kind
            && self.index == next.index
            && (Arc::ptr_eq(&self.origin, &next.origin) || self.origin == next.origin)
            && self.raw.is_none()
            && next.raw.is_none()
    }
}

impl fmt::Debug for Delta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delta")
            .field("kind", &self.kind)
            .field("item", &self.item)
            .field("index", &self.index)
            .field("text", &format_args!("{} bytes", self.text.len()))
            .field("merged", &self.merged)
            .finish_non_exhaustive()
    }
}

/// A notification, not decoded.
#[derive(Clone)]
#[non_exhaustive]
pub struct RawNotification {
    /// The method.
    pub method: Box<str>,
    /// The params: valid JSON, or empty when there were none.
    pub params: Bytes,
    /// When the server says it sent it, in Unix milliseconds.
    pub emitted_at_ms: Option<i64>,
    /// The thread it belongs to.
    pub thread: Option<ThreadId>,
    /// The turn it belongs to.
    pub turn: Option<TurnId>,
}

impl RawNotification {
    /// The params as JSON text; `null` when there were none.
    #[must_use]
    pub fn params_text(&self) -> &str {
        match core::str::from_utf8(&self.params) {
            Ok(text) if !text.is_empty() => text,
            _ => "null",
        }
    }

    /// It as a type of its own, if it is of that type and fits it.
    #[must_use]
    pub fn decode<N: Notification>(&self) -> Option<N> {
        (*self.method == *N::METHOD).then(|| crate::protocol::decode(self.params_text()).ok()).flatten()
    }

    /// The item it is about, if it names one (`itemId`, else `item.id`). It is read out of the params at each call.
    #[must_use]
    pub fn item(&self) -> Option<ItemId> {
        Keys::of_text(self.params_text()).item_id.map(|id| ItemId::from(&*id))
    }

    /// The params.
    #[must_use]
    pub fn params_json(&self) -> Json {
        Json::parse(self.params_text()).unwrap_or_else(|_| Json::null())
    }
}

impl fmt::Debug for RawNotification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RawNotification")
            .field("method", &self.method)
            .field("params", &format_args!("{} bytes", self.params.len()))
            .field("thread", &self.thread)
            .field("turn", &self.turn)
            .finish_non_exhaustive()
    }
}

/// A request of the server that was refused, and why.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Refused {
    /// The id of the request.
    pub id: RpcId,
    /// The request: method, params, thread and turn.
    pub notification: RawNotification,
    /// Why it was refused.
    pub why: RefusedWhy,
}

/// Why a request of the server was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum RefusedWhy {
    /// Nobody answered in time.
    Deadline,
    /// The handler that was to answer failed, or panicked, and had not let go of the request before.
    HandlerFailed,
    /// Nobody here answers requests of its kind.
    NobodyAsked,
    /// The handlers that were to answer did not take it up: nobody runs them. See `Timeouts::take_ask`.
    NotTaken,
    /// It was longer than `Limits::max_line`, so that nobody could be shown what it asks.
    TooLarge,
    /// Too many are open; see `Limits::max_asks`.
    TooMany,
    /// Whoever was asked left without an answer.
    Unhandled,
}

impl fmt::Display for RefusedWhy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Deadline => "nobody answered in time",
            Self::HandlerFailed => "its handler failed",
            Self::NobodyAsked => "nobody here answers such requests",
            Self::NotTaken => "nobody runs the handlers that were to answer",
            Self::TooLarge => "it was too long to be shown to anybody",
            Self::TooMany => "too many are open",
            Self::Unhandled => "whoever was asked left without an answer",
        })
    }
}

/// Something that the connection met and went on from.
#[derive(Clone)]
#[non_exhaustive]
pub struct Diagnostic {
    /// What it was.
    pub kind: DiagnosticKind,
    /// The beginning of the line concerned. Not in `Debug`, because it may hold the user's text.
    pub head: Box<str>,
    /// The length of the line concerned in bytes.
    pub length: u64,
}

impl fmt::Debug for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnostic").field("kind", &self.kind).field("length", &self.length).finish_non_exhaustive()
    }
}

/// The kinds of [`Diagnostic`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DiagnosticKind {
    /// A second answer to one request.
    DuplicateResponse,
    /// A handler of the application failed or panicked. The head is the method that it was to answer.
    HandlerFailed,
    /// The answer to a request whose deadline had passed, or that nobody waits for any more.
    LateResponse,
    /// A line that looks like JSON and is not, or is no message.
    Malformed,
    /// A line that is no JSON object: a banner, a log line.
    Noise,
    /// The server's home is not the one that it was started with.
    OtherHome,
    /// A line longer than `Limits::max_line`.
    Oversized,
    /// A turn had a sandbox of its own, and the thread's own could not be restored after it. The head is the thread's id. Turns
    /// that are started here carry the thread's own sandbox; others do not.
    SandboxNotRestored,
    /// The pieces of a message do not add up to the message as it was completed. What was completed counts.
    TextMismatch,
    /// The last line had no end.
    Truncated,
    /// An answer to a request that was never made.
    UnknownResponse,
    /// The server's version is not one that this version of turnwire was tried with, or it does not say which it is.
    UntriedVersion,
}
