//! The requests of the server, each with the answers that it takes.
//!
//! Each type is an [`Ask`](super::Ask) with its params; what it says of answering, ending and dropping holds for all of them.
//! Each method that answers fails if the request is over already, and then nothing is written.

use super::tools::ToolOutput;
use super::{Ask, Secret, Tokens};
use crate::{
    connection::AnswerError,
    error::RpcError,
    id::{ItemId, ThreadId},
    json::Json,
    protocol::{
        self, AcceptWithExecpolicyAmendmentCommandExecutionApprovalDecision,
        ApplyNetworkPolicyAmendmentCommandExecutionApprovalDecision, ApplyPatchApprovalParams,
        ApplyPatchApprovalResponse, AttestationGenerateParams, AttestationGenerateResponse,
        ChatgptAuthTokensRefreshParams, ChatgptAuthTokensRefreshResponse, CommandExecutionApprovalDecision,
        CommandExecutionRequestApprovalParams, CommandExecutionRequestApprovalResponse, CurrentTimeReadParams,
        DeniedReviewDecision, DynamicToolCallParams, ExecCommandApprovalParams, ExecCommandApprovalResponse,
        FileChangeApprovalDecision, FileChangeRequestApprovalParams, FileChangeRequestApprovalResponse,
        FileUpdateChange, GrantedPermissionProfile, McpServerElicitationAction, McpServerElicitationRequestParams,
        McpServerElicitationRequestResponse, NetworkPolicyAmendment, PermissionGrantScope,
        PermissionsRequestApprovalParams, PermissionsRequestApprovalResponse, ReviewDecision,
        ToolRequestUserInputAnswer, ToolRequestUserInputParams, ToolRequestUserInputQuestion,
        ToolRequestUserInputResponse,
    },
};
use serde::Deserialize;
use std::{collections::BTreeMap, fmt, ops::Deref, sync::Arc};

/// What came of an answer.
pub(crate) type Answered = Result<(), AnswerError>;

macro_rules! requests {
    ($($(#[$doc:meta])* $name:ident($params:ty))*) => {$(
        $(#[$doc])*
        #[derive(Clone, Debug)]
        #[must_use = "a request that is dropped is refused"]
        pub struct $name {
            ask: Ask,
            params: Arc<$params>,
        }

        impl $name {
            /// `None` if the params do not fit.
            pub(crate) fn of(ask: &Ask) -> Option<Self> {
                let params = protocol::decode(ask.asked().request.params_text()).ok()?;
                Some(Self { ask: ask.clone(), params: Arc::new(params) })
            }

            /// The params.
            #[must_use]
            pub fn params(&self) -> &$params {
                &self.params
            }
        }

        impl Deref for $name {
            type Target = Ask;

            fn deref(&self) -> &Ask {
                &self.ask
            }
        }
    )*};
}

requests! {
    /// May these files be changed? From servers older than any that is tested (`applyPatchApproval`).
    ApplyPatchApproval(ApplyPatchApprovalParams)
    /// The server wants a proof of what this client is (`attestation/generate`).
    AttestationRequest(AttestationGenerateParams)
    /// May this command run? (`item/commandExecution/requestApproval`)
    CommandApproval(CommandExecutionRequestApprovalParams)
    /// The server asks for the time of day (`currentTime/read`).
    CurrentTimeRequest(CurrentTimeReadParams)
    /// An MCP server asks the user something, by a form or a page (`mcpServer/elicitation/request`). One of a mode that is not
    /// known comes as an [`UnknownRequest`].
    Elicitation(McpServerElicitationRequestParams)
    /// May this command run? From servers older than any that is tested (`execCommandApproval`).
    ExecCommandApproval(ExecCommandApprovalParams)
    /// May these files be changed? (`item/fileChange/requestApproval`)
    FileChangeApproval(FileChangeRequestApprovalParams)
    /// May the agent have more permissions? (`item/permissions/requestApproval`)
    PermissionsApproval(PermissionsRequestApprovalParams)
    /// The server's access token was refused, and it wants a new one (`account/chatgptAuthTokens/refresh`). Only with tokens
    /// that this client has supplied.
    TokenRefresh(ChatgptAuthTokensRefreshParams)
    /// The agent calls a tool that this client offered (`item/tool/call`).
    ToolCall(DynamicToolCallParams)
    /// The agent has questions to the user (`item/tool/requestUserInput`).
    UserInput(ToolRequestUserInputParams)
}

impl CommandApproval {
    /// The command line, as the server shows it, with the shell around it.
    #[must_use]
    pub fn command(&self) -> Option<&str> {
        self.params.command.as_deref()
    }

    /// The folder that it would run in.
    #[must_use]
    pub fn cwd(&self) -> Option<&str> {
        self.params.cwd.as_deref()
    }

    /// Why the agent wants it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.params.reason.as_deref()
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &ThreadId {
        &self.params.thread_id
    }

    /// The item, which `item/started` showed before.
    #[must_use]
    pub fn item(&self) -> &ItemId {
        &self.params.item_id
    }

    /// Lets it run, this once.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn accept(&self) -> Answered {
        self.answer(CommandExecutionApprovalDecision::Accept)
    }

    /// Lets it run, and the same command again without asking until the thread is closed.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_for_session(&self) -> Answered {
        self.answer(CommandExecutionApprovalDecision::AcceptForSession)
    }

    /// Lets it run, and writes a lasting rule: commands that begin with these words are allowed to every thread of the
    /// server's home, from now on and in other processes. The request proposes words in
    /// `params().proposed_execpolicy_amendment`.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_with_exec_policy(&self, words: impl IntoIterator<Item = impl Into<String>>) -> Answered {
        let amendment = AcceptWithExecpolicyAmendmentCommandExecutionApprovalDecision::new(words);
        self.answer(CommandExecutionApprovalDecision::AcceptWithExecpolicyAmendment(amendment))
    }

    /// For a command that wants to reach a host: applies a rule for the host, which allows it or denies it. The request
    /// proposes rules in `params().proposed_network_policy_amendments`.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_with_network_policy(&self, rule: NetworkPolicyAmendment) -> Answered {
        let amendment = ApplyNetworkPolicyAmendmentCommandExecutionApprovalDecision::new(rule);
        self.answer(CommandExecutionApprovalDecision::ApplyNetworkPolicyAmendment(amendment))
    }

    /// Does not let it run. The agent is told, and the turn goes on.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn decline(&self) -> Answered {
        self.answer(CommandExecutionApprovalDecision::Decline)
    }

    /// Does not let it run, and interrupts the turn.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn cancel(&self) -> Answered {
        self.answer(CommandExecutionApprovalDecision::Cancel)
    }

    /// Any decision.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn answer(&self, decision: CommandExecutionApprovalDecision) -> Answered {
        self.answer_raw(&CommandExecutionRequestApprovalResponse::new(decision))
    }
}

impl FileChangeApproval {
    /// The changes, which the request itself does not hold: those of the item that began before. `None` if it was not seen,
    /// as after a resume, or if they do not decode.
    #[must_use]
    pub fn changes(&self) -> Option<Vec<FileUpdateChange>> {
        // One that does not decode costs them all: half the truth is none.
        self.asked().changes.as_ref()?.decode().ok()
    }

    /// Why the agent wants it.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.params.reason.as_deref()
    }

    /// The thread.
    #[must_use]
    pub fn thread(&self) -> &ThreadId {
        &self.params.thread_id
    }

    /// The item, which `item/started` showed before, with the changes.
    #[must_use]
    pub fn item(&self) -> &ItemId {
        &self.params.item_id
    }

    /// Lets the changes be made, this once.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn accept(&self) -> Answered {
        self.answer(FileChangeApprovalDecision::Accept)
    }

    /// Lets the changes be made, and further ones to the same files without asking until the thread is closed.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_for_session(&self) -> Answered {
        self.answer(FileChangeApprovalDecision::AcceptForSession)
    }

    /// Does not let them be made. The agent is told, and the turn goes on.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn decline(&self) -> Answered {
        self.answer(FileChangeApprovalDecision::Decline)
    }

    /// Does not let them be made, and interrupts the turn. The item is not completed then.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn cancel(&self) -> Answered {
        self.answer(FileChangeApprovalDecision::Cancel)
    }

    /// Any decision.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn answer(&self, decision: FileChangeApprovalDecision) -> Answered {
        self.answer_raw(&FileChangeRequestApprovalResponse::new(decision))
    }
}

impl PermissionsApproval {
    /// Grants exactly what is asked for, until the turn ends.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn accept(&self) -> Answered {
        self.grant(self.wanted(), PermissionGrantScope::Turn)
    }

    /// Grants exactly what is asked for, until the thread is closed.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_for_session(&self) -> Answered {
        self.grant(self.wanted(), PermissionGrantScope::Session)
    }

    /// Grants this, for so long.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn grant(&self, permissions: GrantedPermissionProfile, scope: PermissionGrantScope) -> Answered {
        self.answer(PermissionsRequestApprovalResponse::new(permissions).scope(scope))
    }

    /// Grants nothing. The agent is told, and the turn goes on.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn decline(&self) -> Answered {
        self.answer(PermissionsRequestApprovalResponse::new(GrantedPermissionProfile::new()))
    }

    /// Any answer.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn answer(&self, response: PermissionsRequestApprovalResponse) -> Answered {
        self.answer_raw(&response)
    }

    fn wanted(&self) -> GrantedPermissionProfile {
        let mut granted = GrantedPermissionProfile::new();
        granted.file_system = self.params.permissions.file_system.clone();
        granted.network = self.params.permissions.network.clone();
        granted
    }
}

impl UserInput {
    /// The questions.
    #[must_use]
    pub fn questions(&self) -> &[ToolRequestUserInputQuestion] {
        &self.params.questions
    }

    /// Answers questions by their ids, each with the labels of the options that were chosen, or free text. What is left out
    /// is not answered.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn answer<Q, A>(&self, answers: impl IntoIterator<Item = (Q, A)>) -> Answered
    where
        Q: Into<String>,
        A: IntoIterator,
        A::Item: Into<String>,
    {
        let answers = answers.into_iter();
        let answers: BTreeMap<String, ToolRequestUserInputAnswer> =
            answers.map(|(question, given)| (question.into(), ToolRequestUserInputAnswer::new(given))).collect();
        self.answer_raw(&ToolRequestUserInputResponse::new(answers))
    }

    /// Answers none of the questions. The agent goes on without.
    ///
    /// # Errors
    /// As for [`answer`](Self::answer).
    pub fn decline(&self) -> Answered {
        self.answer_raw(&ToolRequestUserInputResponse::new(BTreeMap::<String, ToolRequestUserInputAnswer>::new()))
    }
}

impl Elicitation {
    /// `None` also if it is of a mode that is not known, or not whole: nobody is to say yes to what cannot be shown.
    pub(crate) fn understood(ask: &Ask) -> Option<Self> {
        type Params = McpServerElicitationRequestParams;
        Self::of(ask).filter(|asked| !matches!(*asked.params, Params::Unknown(_) | Params::Undecodable(_)))
    }

    /// The MCP server that asks.
    #[must_use]
    pub fn server_name(&self) -> &str {
        match &*self.params {
            McpServerElicitationRequestParams::OpenaiUserVerification(params) => &params.server_name,
            McpServerElicitationRequestParams::Form(params) => &params.server_name,
            McpServerElicitationRequestParams::OpenaiExtensionForm(params) => &params.server_name,
            McpServerElicitationRequestParams::OpenaiForm(params) => &params.server_name,
            McpServerElicitationRequestParams::Url(params) => &params.server_name,
            _ => "",
        }
    }

    /// What it says.
    #[must_use]
    pub fn message(&self) -> &str {
        match &*self.params {
            McpServerElicitationRequestParams::OpenaiUserVerification(params) => &params.description,
            McpServerElicitationRequestParams::Form(params) => &params.message,
            McpServerElicitationRequestParams::OpenaiExtensionForm(params) => &params.message,
            McpServerElicitationRequestParams::OpenaiForm(params) => &params.message,
            McpServerElicitationRequestParams::Url(params) => &params.message,
            _ => "",
        }
    }

    /// The page to visit, if it asks by a page. Whoever opens it asks the user first: the address is the MCP server's.
    #[must_use]
    pub fn url(&self) -> Option<&str> {
        match &*self.params {
            McpServerElicitationRequestParams::Url(params) => Some(&params.url),
            _ => None,
        }
    }

    /// Accepts, with what was filled into the form: an object, or `null` for a page.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn accept(&self, content: impl Into<Json>) -> Answered {
        let response = McpServerElicitationRequestResponse::new(McpServerElicitationAction::Accept);
        let content = content.into();
        self.answer(if content.is_null() { response } else { response.content(content) })
    }

    /// Says no.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn decline(&self) -> Answered {
        self.answer(McpServerElicitationRequestResponse::new(McpServerElicitationAction::Decline))
    }

    /// Says neither: the user dismissed it.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn cancel(&self) -> Answered {
        self.answer(McpServerElicitationRequestResponse::new(McpServerElicitationAction::Cancel))
    }

    /// Any answer.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn answer(&self, response: McpServerElicitationRequestResponse) -> Answered {
        self.answer_raw(&response)
    }
}

/// May the agent call this tool of an MCP server? It comes as an elicitation (`mcpServer/elicitation/request`) with
/// `codex_approval_kind` in its `_meta`.
#[derive(Clone)]
#[must_use = "a request that is dropped is refused"]
pub struct McpToolApproval {
    elicitation: Elicitation,
    meta: Arc<McpToolMeta>,
}

impl fmt::Debug for McpToolApproval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // What the tool is said to do is somebody's text.
        f.debug_struct("McpToolApproval").field("elicitation", &self.elicitation).finish_non_exhaustive()
    }
}

struct McpToolMeta {
    persist: Json,
    description: Option<String>,
    arguments: Json,
}

impl McpToolApproval {
    pub(crate) fn of(ask: &Ask) -> Option<Self> {
        #[derive(Deserialize)]
        struct Params {
            #[serde(rename = "_meta")]
            meta: Meta,
        }
        // Nothing but the kind makes it what it is: odd words beside it do not make it a question of another sort.
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Meta {
            codex_approval_kind: Json,
            persist: Json,
            tool_description: Json,
            tool_params: Json,
        }
        let Params { meta } = protocol::decode(ask.asked().request.params_text()).ok()?;
        let Meta { codex_approval_kind, persist, tool_description, tool_params } = meta;
        let is_tool = codex_approval_kind.decode::<String>().is_ok_and(|kind| kind == "mcp_tool_call");
        let meta = McpToolMeta { persist, description: tool_description.decode().ok(), arguments: tool_params };
        is_tool.then_some(Self { elicitation: Elicitation::understood(ask)?, meta: Arc::new(meta) })
    }

    /// The elicitation that it came as.
    pub fn elicitation(&self) -> &Elicitation {
        &self.elicitation
    }

    /// The MCP server.
    #[must_use]
    pub fn server_name(&self) -> &str {
        self.elicitation.server_name()
    }

    /// The question, which names the tool.
    #[must_use]
    pub fn message(&self) -> &str {
        self.elicitation.message()
    }

    /// What the tool is said to do.
    #[must_use]
    pub fn description(&self) -> Option<&str> {
        self.meta.description.as_deref()
    }

    /// The arguments that it would be called with.
    #[must_use]
    pub fn arguments(&self) -> &Json {
        &self.meta.arguments
    }

    /// How long the server can remember a yes: `session`, `always`.
    #[must_use]
    pub fn persist(&self) -> Vec<String> {
        self.meta.persist.decode().unwrap_or_else(|_| self.meta.persist.decode::<String>().into_iter().collect())
    }

    /// Lets it be called, this once.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn accept(&self) -> Answered {
        self.elicitation.answer(accepted())
    }

    /// Lets it be called, and again without asking until the thread is closed.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_for_session(&self) -> Answered {
        self.elicitation.answer(accepted().meta(json(r#"{"persist":"session"}"#)))
    }

    /// Lets it be called, and writes into the server's settings that it always may be.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn accept_always(&self) -> Answered {
        self.elicitation.answer(accepted().meta(json(r#"{"persist":"always"}"#)))
    }

    /// Does not let it be called. The agent is told, and the turn goes on.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn decline(&self) -> Answered {
        self.elicitation.decline()
    }

    /// Does not let it be called: the user dismissed the question.
    ///
    /// # Errors
    /// As for [`accept`](Self::accept).
    pub fn cancel(&self) -> Answered {
        self.elicitation.cancel()
    }
}

impl Deref for McpToolApproval {
    type Target = Ask;

    fn deref(&self) -> &Ask {
        &self.elicitation
    }
}

fn accepted() -> McpServerElicitationRequestResponse {
    McpServerElicitationRequestResponse::new(McpServerElicitationAction::Accept).content(json("{}"))
}

fn json(text: &str) -> Json {
    Json::parse(text).unwrap_or_default()
}

impl ToolCall {
    /// The tool's name.
    #[must_use]
    pub fn tool(&self) -> &str {
        &self.params.tool
    }

    /// The namespace that the tool was offered in.
    #[must_use]
    pub fn namespace(&self) -> Option<&str> {
        self.params.namespace.as_deref()
    }

    /// The arguments, which the model wrote: they need not fit the schema.
    #[must_use]
    pub fn arguments(&self) -> &Json {
        &self.params.arguments
    }

    /// Answers with what the tool gave.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn answer(&self, output: impl Into<ToolOutput>) -> Answered {
        self.answer_raw(&output.into().into_response())
    }

    /// Answers that the tool failed, with a text for the model. The turn goes on.
    ///
    /// # Errors
    /// As for [`answer`](Self::answer).
    pub fn fail(&self, message: impl Into<String>) -> Answered {
        self.answer(ToolOutput::failure(message))
    }
}

impl TokenRefresh {
    /// The account that the refused token was for.
    #[must_use]
    pub fn previous_account_id(&self) -> Option<&str> {
        self.params.previous_account_id.as_deref()
    }

    /// Supplies a new token.
    ///
    /// # Errors
    /// When the request is over already: servers wait ten seconds.
    pub fn answer(&self, tokens: &Tokens) -> Answered {
        let token = tokens.access_token.reveal();
        let mut response = ChatgptAuthTokensRefreshResponse::new(tokens.account_id.clone(), token);
        response.chatgpt_plan_type = tokens.plan_type.clone();
        self.answer_raw(&response)
    }

    /// Says that there is no new token. The turn fails, and the server's text says that for want of one; its kind may be
    /// no more than "other".
    ///
    /// # Errors
    /// As for [`answer`](Self::answer).
    pub fn fail(&self, message: impl Into<String>) -> Answered {
        self.answer_error(RpcError::new(-32603, message))
    }
}

impl AttestationRequest {
    /// Answers with a token.
    ///
    /// # Errors
    /// When the request is over already.
    pub fn answer(&self, token: &Secret) -> Answered {
        self.answer_raw(&AttestationGenerateResponse::new(token.reveal()))
    }
}

impl CurrentTimeRequest {
    /// Answers with the time of day, in Unix seconds.
    ///
    /// # Errors
    /// When the request is over already: servers wait ten seconds.
    pub fn answer(&self, unix_seconds: u64) -> Answered {
        let seconds = i64::try_from(unix_seconds).unwrap_or(i64::MAX);
        self.answer_raw(&protocol::CurrentTimeReadResponse::new(seconds))
    }
}

macro_rules! legacy {
    ($($name:ident => $response:ident),*) => {$(
        impl $name {
            /// Allows it, this once.
            ///
            /// # Errors
            /// When the request is over already.
            pub fn accept(&self) -> Answered {
                self.answer(ReviewDecision::Approved)
            }

            /// Allows it, and the same again without asking.
            ///
            /// # Errors
            /// As for [`accept`](Self::accept).
            pub fn accept_for_session(&self) -> Answered {
                self.answer(ReviewDecision::ApprovedForSession)
            }

            /// Does not allow it. The turn goes on.
            ///
            /// # Errors
            /// As for [`accept`](Self::accept).
            pub fn decline(&self) -> Answered {
                self.answer(ReviewDecision::Denied(DeniedReviewDecision::new("declined by the client")))
            }

            /// Does not allow it, and ends the turn.
            ///
            /// # Errors
            /// As for [`accept`](Self::accept).
            pub fn cancel(&self) -> Answered {
                self.answer(ReviewDecision::Abort)
            }

            /// Any decision.
            ///
            /// # Errors
            /// As for [`accept`](Self::accept).
            pub fn answer(&self, decision: ReviewDecision) -> Answered {
                self.answer_raw(&$response::new(decision))
            }
        }
    )*};
}
legacy!(ApplyPatchApproval => ApplyPatchApprovalResponse, ExecCommandApproval => ExecCommandApprovalResponse);

/// A request of a method that this version of turnwire does not know, or whose params do not fit its type. Answer it with
/// [`Ask::answer_raw`].
#[derive(Clone, Debug)]
#[must_use = "a request that is dropped is refused"]
pub struct UnknownRequest {
    ask: Ask,
}

impl UnknownRequest {
    pub(crate) fn new(ask: Ask) -> Self {
        Self { ask }
    }
}

impl Deref for UnknownRequest {
    type Target = Ask;

    fn deref(&self) -> &Ask {
        &self.ask
    }
}
