//! What the application does when the server asks.

use super::{
    answers::{
        ApplyPatchApproval, AttestationRequest, CommandApproval, CurrentTimeRequest, Elicitation, ExecCommandApproval,
        FileChangeApproval, McpToolApproval, PermissionsApproval, TokenRefresh, ToolCall, UnknownRequest, UserInput,
    },
    approvals::{Approvals, Policy, decide},
    ask::AgentRequest,
    tools::{Running, Tools},
};
use crate::connection::{AnswerError, AskKind, ListenFor};
use std::{
    collections::{BTreeMap, BTreeSet},
    error::Error,
    fmt,
    future::{Future, ready},
    iter::successors,
    sync::Arc,
    time::Duration,
};

/// What a handler may end with: nothing, or whether it worked. One that did not work has its request refused, unless it was
/// answered, and counts in `Counters::handlers_failed`.
///
/// Any error will do that can be boxed: the application's own, a `Box<dyn Error + Send + Sync>`, an `anyhow::Error`, a text.
/// It is dropped where the handler ends; what it says is neither sent nor kept nor shown.
///
/// An answer that came too late is no failure of the handler: an [`AnswerError`] that says so may be the error itself, or a
/// cause of it by [`source`](Error::source). An `anyhow::Error` without a context hides what it was made of, so there it
/// counts as a failure.
///
/// ```
/// # use std::{fs, io};
/// # use turnwire_core::{client::{CurrentTimeRequest, Handlers}, connection::AnswerError};
/// #[derive(Debug)]
/// enum ClockError {
///     Answer(AnswerError),
///     File(io::Error),
/// }
/// # impl std::fmt::Display for ClockError {
/// #     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
/// #         f.write_str("no time")
/// #     }
/// # }
/// # impl std::error::Error for ClockError {}
/// # impl From<AnswerError> for ClockError {
/// #     fn from(error: AnswerError) -> Self {
/// #         Self::Answer(error)
/// #     }
/// # }
/// # impl From<io::Error> for ClockError {
/// #     fn from(error: io::Error) -> Self {
/// #         Self::File(error)
/// #     }
/// # }
/// // impl std::error::Error for ClockError, From<AnswerError> and From<io::Error> …
///
/// let handlers = Handlers::new().current_time(|asked| async move {
///     let modified = fs::metadata("clock")?.modified()?;
///     asked.answer(modified.elapsed().map_or(0, |age| age.as_secs()))?;
///     Ok::<_, ClockError>(())
/// });
/// ```
pub trait HandlerOutcome {
    /// Whether the handler failed.
    fn has_failed(self) -> bool;
}

impl HandlerOutcome for () {
    fn has_failed(self) -> bool {
        false
    }
}

impl<E: Into<Box<dyn Error + Send + Sync>>> HandlerOutcome for Result<(), E> {
    fn has_failed(self) -> bool {
        let Err(error) = self else { return false };
        let error: Box<dyn Error + Send + Sync> = error.into();
        let mut chain = successors(Some(&*error as &(dyn Error + 'static)), |&error| error.source());
        let answer = chain.find_map(|error| error.downcast_ref::<AnswerError>());
        answer.is_none_or(|error| matches!(error, AnswerError::Encode(_)))
    }
}

/// A handler of any kind of request. Says whether it worked.
pub(crate) type Handler = Arc<dyn Fn(AgentRequest) -> Running<bool> + Send + Sync>;

/// What the application does when the server asks: a handler for each kind of request that it wants to answer. Whatever has no
/// handler is refused; see [`Codex::serve`](super::Codex::serve).
///
/// Each request is given to its handler as a value of its own, which can be kept and answered later. Handlers run
/// side by side, off the path on which the connection is read: they may wait, and call the client. One that fails
/// or panics has its request refused, once.
///
/// ```
/// # use turnwire_core::client::{Approvals, Handlers};
/// let handlers = Handlers::new()
///     .approvals(Approvals::accept_for(|asked| asked.words().is_some_and(|words| words == ["git", "status"])))
///     .user_input(|asked| async move {
///         for question in asked.questions() {
///             println!("{}", question.question);
///         }
///         asked.answer([("colour", ["Red"])])
///     });
/// ```
#[derive(Clone, Default)]
#[must_use = "handlers do nothing until they are served"]
pub struct Handlers {
    handlers: BTreeMap<AskKind, Handler>,
    mcp_tool: Option<Handler>,
    deadlines: BTreeMap<AskKind, Duration>,
    /// The kinds that are refused on purpose: nobody else's handler gets them either.
    refused: BTreeSet<AskKind>,
    in_stream: bool,
}

impl fmt::Debug for Handlers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Handlers").field("kinds", &self.wants().kinds).finish_non_exhaustive()
    }
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident: $kind:ident($request:ty))*) => {$(
        $(#[$doc])*
        pub fn $name<F, Fut>(mut self, handler: F) -> Self
        where
            F: Fn($request) -> Fut + Send + Sync + 'static,
            Fut: Future<Output: HandlerOutcome> + Send + 'static,
        {
            let handler: Handler = Arc::new(move |request| match request {
                AgentRequest::$kind(request) => finish(handler(request)),
                other => pass(other),
            });
            self.set(AskKind::$kind, handler);
            self
        }
    )*};
}

impl Handlers {
    /// No handler: everything is refused.
    pub fn new() -> Self {
        Self::default()
    }

    setters! {
        /// Answers `applyPatchApproval`.
        apply_patch: ApplyPatch(ApplyPatchApproval)
        /// Answers `attestation/generate`, within `Timeouts::attestation`. The server asks only where
        /// `Config::request_attestation` is set.
        attestation: Attestation(AttestationRequest)
        /// Answers `item/commandExecution/requestApproval`.
        command: Command(CommandApproval)
        /// Answers `currentTime/read` with a time other than this machine's.
        current_time: CurrentTime(CurrentTimeRequest)
        /// Answers `mcpServer/elicitation/request`, those that ask for a tool aside.
        elicitation: Elicitation(Elicitation)
        /// Answers `execCommandApproval`.
        exec_command: ExecCommand(ExecCommandApproval)
        /// Answers `item/fileChange/requestApproval`.
        file_change: FileChange(FileChangeApproval)
        /// Answers `item/permissions/requestApproval`.
        permissions: Permissions(PermissionsApproval)
        /// Answers `account/chatgptAuthTokens/refresh`, within `Timeouts::token_refresh`.
        token_refresh: TokenRefresh(TokenRefresh)
        /// Answers `item/tool/call`. [`tools`](Self::tools) does it for tools that are described as such.
        tool_call: ToolCall(ToolCall)
        /// Answers requests of methods that are not known, and what does not fit the type of its method.
        unknown: Unknown(UnknownRequest)
        /// Answers `item/tool/requestUserInput`.
        user_input: UserInput(UserInput)
    }

    /// Answers `mcpServer/elicitation/request` that ask whether a tool of an MCP server may be called.
    pub fn mcp_tool<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(McpToolApproval) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutcome> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| match request {
            AgentRequest::McpTool(request) => finish(handler(request)),
            other => pass(other),
        });
        self.mcp_tool = Some(handler);
        self
    }

    /// Answers everything that has no handler yet, but attestations, the time of day, and what [`approvals`](Self::approvals)
    /// has said of already.
    pub fn all_others<F, Fut>(mut self, handler: F) -> Self
    where
        F: Fn(AgentRequest) -> Fut + Send + Sync + 'static,
        Fut: Future<Output: HandlerOutcome> + Send + 'static,
    {
        let handler: Handler = Arc::new(move |request| finish(handler(request)));
        for kind in AskKind::ALL {
            if !matches!(kind, AskKind::Attestation | AskKind::CurrentTime) && !self.refused.contains(&kind) {
                self.handlers.entry(kind).or_insert_with(|| Arc::clone(&handler));
            }
        }
        self.mcp_tool.get_or_insert(handler);
        self
    }

    /// Says who decides about commands and changes, in place of handlers for them. It holds against what was served before, and
    /// against [`all_others`](Self::all_others): with [`Approvals::deny`] nobody is asked, with [`Approvals::in_stream`]
    /// nobody but the readers of streams.
    pub fn approvals(mut self, approvals: Approvals) -> Self {
        const DECIDED: [AskKind; 4] =
            [AskKind::ApplyPatch, AskKind::Command, AskKind::ExecCommand, AskKind::FileChange];
        for kind in DECIDED {
            self.handlers.remove(&kind);
            self.refused.insert(kind);
        }
        self.in_stream = matches!(approvals.policy, Policy::InStream);
        if let Policy::AcceptFor(predicate) = approvals.policy {
            let handler: Handler = Arc::new(move |request| {
                decide(&*predicate, &request);
                Box::pin(ready(true))
            });
            for kind in DECIDED {
                self.set(kind, Arc::clone(&handler));
            }
        }
        self
    }

    fn set(&mut self, kind: AskKind, handler: Handler) {
        self.refused.remove(&kind);
        self.handlers.insert(kind, handler);
    }

    /// Answers the calls of these tools. Threads get them with `ThreadStart::tools`. A call of any other is a failed
    /// result.
    pub fn tools(self, tools: Tools) -> Self {
        self.tool_call(move |call| {
            let output = tools.run(&call);
            async move { call.answer(output.await) }
        })
    }

    /// For how long a request of a kind may be open, in place of the configured time (`Timeouts::ask` and its like). Then it
    /// is refused, whatever its handler does.
    pub fn deadline(mut self, kind: AskKind, deadline: Duration) -> Self {
        self.deadlines.insert(kind, deadline);
        self
    }

    pub(crate) fn wants(&self) -> ListenFor {
        let mut kinds: BTreeSet<AskKind> = self.handlers.keys().copied().collect();
        if self.mcp_tool.is_some() {
            kinds.insert(AskKind::Elicitation);
        }
        let (deadlines, refused) = (self.deadlines.clone(), self.refused.clone());
        ListenFor { kinds, deadlines, refused, in_stream: self.in_stream }
    }

    /// Starts the handler of a request. `None`: it has none.
    pub(crate) fn start(&self, request: AgentRequest) -> Option<Running<bool>> {
        let handler = match &request {
            AgentRequest::McpTool(_) => self.mcp_tool.as_ref(),
            AgentRequest::Unknown(_) => self.handlers.get(&AskKind::Unknown),
            request => self.handlers.get(&request.kind()),
        };
        handler.map(|handler| handler(request))
    }
}

impl From<Approvals> for Handlers {
    fn from(approvals: Approvals) -> Self {
        Self::new().approvals(approvals)
    }
}

fn finish<Fut: Future<Output: HandlerOutcome> + Send + 'static>(handling: Fut) -> Running<bool> {
    Box::pin(async move { !handling.await.has_failed() })
}

/// A request that came to the handler of another kind. It is dropped, and so refused.
fn pass(request: AgentRequest) -> Running<bool> {
    drop(request);
    Box::pin(ready(true))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{CallError, Error as AnyError, Fault};

    /// As `anyhow::Error`: no error itself, but one can be made of it.
    struct Report(Box<dyn Error + Send + Sync>);

    impl From<Report> for Box<dyn Error + Send + Sync> {
        fn from(report: Report) -> Self {
            report.0
        }
    }

    #[test]
    fn a_handler_may_end_with_any_error_that_can_be_boxed() {
        let boxed = || Box::<dyn Error + Send + Sync>::from("it broke");
        assert!(!().has_failed());
        assert!(!Ok::<(), Report>(()).has_failed());
        assert!(Err(boxed()).has_failed());
        assert!(Err(Report(boxed())).has_failed());
        assert!(Err("it broke").has_failed());
        assert!(Err(fmt::Error).has_failed());
        assert!(Err(AnyError::Call(CallError::new("model/list", Fault::Withdrawn))).has_failed());
    }

    #[test]
    fn an_answer_that_came_too_late_is_no_failure_however_it_is_wrapped() {
        let late = || AnswerError::AlreadyAnswered;
        assert!(!Err(late()).has_failed());
        assert!(!Err(Box::<dyn Error + Send + Sync>::from(late())).has_failed());
        assert!(!Err(Report(late().into())).has_failed());
        assert!(!Err(AnyError::Answer(late())).has_failed());
        let unwritten = || AnswerError::Encode("no".into());
        assert!(Err(unwritten()).has_failed());
        assert!(Err(AnyError::Answer(unwritten())).has_failed());
    }
}
