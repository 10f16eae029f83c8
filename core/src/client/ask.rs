//! A request of the server in the application's hands.

use super::{
    answers::{
        ApplyPatchApproval, AttestationRequest, CommandApproval, CurrentTimeRequest, Elicitation, ExecCommandApproval,
        FileChangeApproval, McpToolApproval, PermissionsApproval, TokenRefresh, ToolCall, UnknownRequest, UserInput,
    },
    hub::Hub,
    waiting::Wait,
};
use crate::{
    connection::{AnswerError, AskEnd, AskKind, Asked, Connection, ServerRequestKey},
    envelope::RpcId,
    error::RpcError,
    id::{ItemId, ThreadId, TurnId},
    json::Json,
};
use serde::Serialize;
use std::{fmt, ops::Deref, sync::Arc, task::Poll};

/// A request of the server that is this program's to answer: what all kinds have in common.
///
/// It can be answered once, at any time, from any thread or task; nothing waits for it but its turn. When the last clone is
/// dropped and it was not answered, it is refused, in the shape that its method expects. It ends without an answer when
/// the server says that it is settled, when its turn or its thread ends, when its time is up, and with the connection. An answer
/// after that writes nothing and is an error.
#[derive(Clone)]
#[must_use = "a request that is dropped is refused"]
pub struct Ask {
    inner: Arc<Inner>,
}

struct Inner {
    /// Not the session: a request that somebody keeps does not keep the server alive.
    hub: Arc<Hub>,
    asked: Asked,
}

impl Drop for Inner {
    fn drop(&mut self) {
        let key = self.asked.key;
        self.hub.command(|connection, _| connection.release_ask(key));
        self.hub.forget(Wait::Ask(key));
    }
}

impl fmt::Debug for Ask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Asked { id, kind, request, item, .. } = &self.inner.asked;
        f.debug_struct("Ask")
            .field("id", id)
            .field("kind", kind)
            .field("thread", &request.thread)
            .field("turn", &request.turn)
            .field("item", item)
            .finish_non_exhaustive()
    }
}

impl Ask {
    pub(crate) fn new(hub: &Arc<Hub>, asked: Asked) -> Self {
        Self { inner: Arc::new(Inner { hub: Arc::clone(hub), asked }) }
    }

    pub(crate) fn key(&self) -> ServerRequestKey {
        self.inner.asked.key
    }

    /// The server's name for it. The integer 7 and the text "7" are two ids.
    #[must_use]
    pub fn id(&self) -> &RpcId {
        &self.inner.asked.id
    }

    /// What it asks for.
    #[must_use]
    pub fn kind(&self) -> AskKind {
        self.inner.asked.kind
    }

    /// The method on the wire.
    #[must_use]
    pub fn method(&self) -> &str {
        &self.inner.asked.request.method
    }

    /// The thread that it is about, if it names one. For a sub-agent this is the child's.
    #[must_use]
    pub fn thread_id(&self) -> Option<&ThreadId> {
        self.inner.asked.request.thread.as_ref()
    }

    /// The thread that started its thread, for a sub-agent whose beginning was seen.
    #[must_use]
    pub fn parent_id(&self) -> Option<&ThreadId> {
        self.inner.asked.parent.as_ref()
    }

    /// The turn that it is about, if it names one.
    #[must_use]
    pub fn turn_id(&self) -> Option<&TurnId> {
        self.inner.asked.request.turn.as_ref()
    }

    /// The item that it is about, if it names one.
    #[must_use]
    pub fn item_id(&self) -> Option<&ItemId> {
        self.inner.asked.item.as_ref()
    }

    /// The params as they came.
    #[must_use]
    pub fn params_json(&self) -> Json {
        self.inner.asked.request.params_json()
    }

    pub(crate) fn asked(&self) -> &Asked {
        &self.inner.asked
    }

    /// Whether it can still be answered.
    #[must_use]
    pub fn is_open(&self) -> bool {
        let key = self.key();
        self.inner.hub.read(|connection| connection.is_ask_open(key))
    }

    /// How it ended; `None` while it is open, and while the connection is ending.
    #[must_use]
    pub fn end(&self) -> Option<AskEnd> {
        let key = self.key();
        self.inner.hub.read(|connection| connection.ask_end(key).cloned())
    }

    /// Waits until it has ended, and says how.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> AskEnd {
        let key = self.key();
        let look = |connection: &mut Connection| match connection.ask_end(key) {
            Some(end) => Poll::Ready(end.clone()),
            None => Poll::Pending,
        };
        self.inner.hub.wait(Wait::Ask(key), look).await
    }

    /// Answers with any result. The server judges it.
    ///
    /// # Errors
    /// When it is over already, or when the result has no JSON form.
    pub fn answer_raw<T: Serialize + ?Sized>(&self, result: &T) -> Result<(), AnswerError> {
        // Encoding runs the code of the result's type, so it is done before any lock is taken.
        match Json::encode(result) {
            Ok(result) => self.respond(Ok(result)),
            Err(error) => Err(AnswerError::Encode(error.to_string().into())),
        }
    }

    /// Answers with an error. What that means depends on the method; a turn goes on, as a rule.
    ///
    /// # Errors
    /// When it is over already.
    pub fn answer_error(&self, error: RpcError) -> Result<(), AnswerError> {
        self.respond(Err(error))
    }

    /// Refuses it in the shape that its method expects, as if it were dropped.
    pub fn refuse(&self) {
        let key = self.key();
        self.inner.hub.command(|connection, _| connection.refuse(key));
    }

    fn respond(&self, answer: Result<Json, RpcError>) -> Result<(), AnswerError> {
        let key = self.key();
        self.inner.hub.command(|connection, _| connection.respond(key, answer))
    }
}

/// A request of the server, by what it asks for.
#[derive(Clone, Debug)]
#[non_exhaustive]
#[must_use = "a request that is dropped is refused"]
pub enum AgentRequest {
    /// `applyPatchApproval`, from old servers.
    ApplyPatch(ApplyPatchApproval),
    /// `attestation/generate`.
    Attestation(AttestationRequest),
    /// `item/commandExecution/requestApproval`.
    Command(CommandApproval),
    /// `currentTime/read`.
    CurrentTime(CurrentTimeRequest),
    /// `mcpServer/elicitation/request`: an MCP server asks something.
    Elicitation(Elicitation),
    /// `execCommandApproval`, from old servers.
    ExecCommand(ExecCommandApproval),
    /// `item/fileChange/requestApproval`.
    FileChange(FileChangeApproval),
    /// `mcpServer/elicitation/request` that asks whether a tool of an MCP server may be called.
    McpTool(McpToolApproval),
    /// `item/permissions/requestApproval`.
    Permissions(PermissionsApproval),
    /// `account/chatgptAuthTokens/refresh`.
    TokenRefresh(TokenRefresh),
    /// `item/tool/call`.
    ToolCall(ToolCall),
    /// Any other method, and what does not fit the type of its method.
    Unknown(UnknownRequest),
    /// `item/tool/requestUserInput`.
    UserInput(UserInput),
}

impl AgentRequest {
    pub(crate) fn new(ask: Ask) -> Self {
        let typed = match ask.kind() {
            AskKind::ApplyPatch => ApplyPatchApproval::of(&ask).map(Self::ApplyPatch),
            AskKind::Attestation => AttestationRequest::of(&ask).map(Self::Attestation),
            AskKind::Command => CommandApproval::of(&ask).map(Self::Command),
            AskKind::CurrentTime => CurrentTimeRequest::of(&ask).map(Self::CurrentTime),
            AskKind::Elicitation => match McpToolApproval::of(&ask) {
                Some(approval) => Some(Self::McpTool(approval)),
                None => Elicitation::understood(&ask).map(Self::Elicitation),
            },
            AskKind::ExecCommand => ExecCommandApproval::of(&ask).map(Self::ExecCommand),
            AskKind::FileChange => FileChangeApproval::of(&ask).map(Self::FileChange),
            AskKind::Permissions => PermissionsApproval::of(&ask).map(Self::Permissions),
            AskKind::TokenRefresh => TokenRefresh::of(&ask).map(Self::TokenRefresh),
            AskKind::ToolCall => ToolCall::of(&ask).map(Self::ToolCall),
            AskKind::UserInput => UserInput::of(&ask).map(Self::UserInput),
            AskKind::Unknown => None,
        };
        typed.unwrap_or_else(|| Self::Unknown(UnknownRequest::new(ask)))
    }
}

impl Deref for AgentRequest {
    type Target = Ask;

    fn deref(&self) -> &Ask {
        match self {
            Self::ApplyPatch(request) => request,
            Self::Attestation(request) => request,
            Self::Command(request) => request,
            Self::CurrentTime(request) => request,
            Self::Elicitation(request) => request,
            Self::ExecCommand(request) => request,
            Self::FileChange(request) => request,
            Self::McpTool(request) => request,
            Self::Permissions(request) => request,
            Self::TokenRefresh(request) => request,
            Self::ToolCall(request) => request,
            Self::Unknown(request) => request,
            Self::UserInput(request) => request,
        }
    }
}
