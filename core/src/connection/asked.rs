//! A request of the server, how it ends, and why an answer to it was not written.

use super::ServerRequestKey;
use crate::{
    envelope::RpcId,
    error::Disconnect,
    id::{ItemId, ThreadId},
    json::Json,
    turn::{RawNotification, RefusedWhy},
};
use alloc::boxed::Box;
use core::fmt;

/// What the server asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum AskKind {
    /// `applyPatchApproval`: may these files be changed? From old servers.
    ApplyPatch,
    /// `attestation/generate`: a token that proves what the client is.
    Attestation,
    /// `item/commandExecution/requestApproval`: may this command run?
    Command,
    /// `currentTime/read`: what time is it?
    CurrentTime,
    /// `mcpServer/elicitation/request`: an MCP server asks something, or may its tool be called?
    Elicitation,
    /// `execCommandApproval`: may this command run? From old servers.
    ExecCommand,
    /// `item/fileChange/requestApproval`: may these files be changed?
    FileChange,
    /// `item/permissions/requestApproval`: more permissions.
    Permissions,
    /// `account/chatgptAuthTokens/refresh`: new tokens.
    TokenRefresh,
    /// `item/tool/call`: a tool that the client offered is called.
    ToolCall,
    /// Any other method.
    Unknown,
    /// `item/tool/requestUserInput`: questions to the user.
    UserInput,
}

impl AskKind {
    /// All of them.
    pub const ALL: [Self; 12] = [
        Self::ApplyPatch,
        Self::Attestation,
        Self::Command,
        Self::CurrentTime,
        Self::Elicitation,
        Self::ExecCommand,
        Self::FileChange,
        Self::Permissions,
        Self::TokenRefresh,
        Self::ToolCall,
        Self::Unknown,
        Self::UserInput,
    ];

    /// The kind that a method stands for.
    #[must_use]
    pub fn of_method(method: &str) -> Self {
        match method {
            "applyPatchApproval" => Self::ApplyPatch,
            "attestation/generate" => Self::Attestation,
            "item/commandExecution/requestApproval" => Self::Command,
            "currentTime/read" => Self::CurrentTime,
            "mcpServer/elicitation/request" => Self::Elicitation,
            "execCommandApproval" => Self::ExecCommand,
            "item/fileChange/requestApproval" => Self::FileChange,
            "item/permissions/requestApproval" => Self::Permissions,
            "account/chatgptAuthTokens/refresh" => Self::TokenRefresh,
            "item/tool/call" => Self::ToolCall,
            "item/tool/requestUserInput" => Self::UserInput,
            _ => Self::Unknown,
        }
    }

    /// Whether the stream of a turn may take it: what a person decides, and what happens in a turn.
    pub(super) fn is_for_streams(self) -> bool {
        !matches!(self, Self::Attestation | Self::CurrentTime | Self::TokenRefresh | Self::Unknown)
    }

    /// Whether it belongs to whatever runs on its thread, though it names no turn.
    pub(super) fn is_legacy(self) -> bool {
        matches!(self, Self::ApplyPatch | Self::ExecCommand)
    }
}

/// A request of the server, as it came.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Asked {
    /// What this connection calls it.
    pub key: ServerRequestKey,
    /// What the server calls it. The integer 7 and the text "7" are two ids.
    pub id: RpcId,
    /// What it asks for.
    pub kind: AskKind,
    /// Method, params, thread and turn.
    pub request: RawNotification,
    /// The item that it is about.
    pub item: Option<ItemId>,
    /// The thread that started its thread, for a sub-agent.
    pub parent: Option<ThreadId>,
    /// For a file change: the `changes` of the item, which the request does not repeat. `None` if the item was not seen.
    pub changes: Option<Json>,
}

impl Asked {
    /// The bytes that it keeps of what the server sent.
    pub(super) fn size(&self) -> usize {
        self.request.params.len() + self.changes.as_ref().map_or(0, |changes| changes.as_str().len())
    }
}

/// How a request that somebody could answer ended.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AskEnd {
    /// It was answered here. The word is the decision, where there is one.
    Answered(Box<str>),
    /// The connection ended.
    Disconnected(Disconnect),
    /// It was refused here, for this reason.
    Refused(RefusedWhy),
    /// The server says that it is done: somebody else answered, or its turn was interrupted.
    Resolved,
    /// Its thread was closed.
    ThreadClosed,
    /// Its turn ended.
    TurnEnded,
}

impl fmt::Display for AskEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Answered(_) => f.write_str("it was answered"),
            Self::Disconnected(cause) => cause.fmt(f),
            Self::Refused(why) => write!(f, "it was refused because {why}"),
            Self::Resolved => f.write_str("the server says that it is settled"),
            Self::ThreadClosed => f.write_str("its thread was closed"),
            Self::TurnEnded => f.write_str("its turn ended"),
        }
    }
}

/// An answer was not written.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AnswerError {
    /// It was answered already.
    AlreadyAnswered,
    /// It is closed.
    Closed(AskEnd),
    /// The answer cannot be written as JSON. The request is still open.
    Encode(Box<str>),
}

impl AnswerError {
    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(AskEnd::Disconnected(_)))
    }

    /// Whether the request's time was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Closed(AskEnd::Refused(RefusedWhy::Deadline)))
    }
}

impl fmt::Display for AnswerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AlreadyAnswered => f.write_str("the request was answered already"),
            Self::Closed(end) => write!(f, "the answer came too late: {end}"),
            Self::Encode(message) => write!(f, "the answer cannot be written as JSON: {message}"),
        }
    }
}

impl core::error::Error for AnswerError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        match self {
            Self::Closed(AskEnd::Disconnected(cause)) => Some(cause),
            Self::AlreadyAnswered | Self::Closed(_) | Self::Encode(_) => None,
        }
    }
}
