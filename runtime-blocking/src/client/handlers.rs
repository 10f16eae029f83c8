//! What the application does when the server asks, in plain closures.

use super::{Codex, Tools};
use crate::wait::wait;
use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, PoisonError},
    task::{Poll, Waker},
    thread,
    time::Duration,
};
use turnwire_core::{
    client::{
        self, AgentRequest, ApplyPatchApproval, Approvals, Ask, AttestationRequest, CommandApproval,
        CurrentTimeRequest, Elicitation, ExecCommandApproval, FileChangeApproval, HandlerOutcome, McpToolApproval,
        PermissionsApproval, StopServing, TokenRefresh, ToolCall, UnknownRequest, UserInput,
    },
    connection::{AskEnd, AskKind},
};

impl Codex {
    /// Answers what the server asks with these handlers, from this call on, until what it returns is dropped. Each handler
    /// runs on a thread of its own, so it may block, and call the client. The predicate of `Approvals::accept_for` is no
    /// handler: it runs on the one thread that serves, and must not block.
    ///
    /// Without this, everything is refused, in the shape that each method expects, but the time of day, which is told. Of several
    /// that are served at once the latest is asked, for the kinds that it has a handler for.
    ///
    /// # Panics
    /// When the system has no thread to give.
    pub fn serve(&self, handlers: impl Into<Handlers>) -> Serving {
        let serving = self.inner.serve(handlers.into().inner);
        let stop = serving.stopper();
        thread::Builder::new()
            .name("turnwire-handlers".into())
            .spawn(move || wait(serving))
            .expect("a thread for the handlers");
        Serving { stop }
    }
}

/// The application's handlers, being served; see [`Codex::serve`]. When it is dropped they are taken back: a handler that runs
/// then can still answer, and what no handler has is refused.
#[derive(Debug)]
#[must_use = "the handlers are taken back when this is dropped"]
pub struct Serving {
    stop: StopServing,
}

impl Serving {
    /// What takes the handlers back from elsewhere.
    pub fn stopper(&self) -> StopServing {
        self.stop.clone()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.stop.stop();
    }
}

/// Waits for the end of a request of the server.
pub trait WaitClosed {
    /// Waits until it has ended, and says how.
    fn wait_closed(&self) -> AskEnd;
}

impl WaitClosed for Ask {
    fn wait_closed(&self) -> AskEnd {
        wait(self.closed())
    }
}

/// What the application does when the server asks: a handler for each kind of request that it wants to answer. See
/// [`turnwire_core::client::Handlers`]; here each is a plain closure that may block.
#[derive(Clone, Debug, Default)]
#[must_use = "handlers do nothing until they are served"]
pub struct Handlers {
    inner: client::Handlers,
}

macro_rules! setters {
    ($($(#[$doc:meta])* $name:ident($request:ty))*) => {$(
        $(#[$doc])*
        pub fn $name<F, O>(self, handler: F) -> Self
        where
            F: Fn($request) -> O + Send + Sync + 'static,
            O: HandlerOutcome,
        {
            let handler = Arc::new(handler);
            Self { inner: self.inner.$name(move |request| {
                let handler = Arc::clone(&handler);
                on_a_thread(move || !handler(request).has_failed())
            }) }
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
        apply_patch(ApplyPatchApproval)
        /// Answers `attestation/generate`, within `Timeouts::attestation`. The server asks only where
        /// `Config::request_attestation` is set.
        attestation(AttestationRequest)
        /// Answers `item/commandExecution/requestApproval`.
        command(CommandApproval)
        /// Answers `currentTime/read` with a time other than this machine's.
        current_time(CurrentTimeRequest)
        /// Answers `mcpServer/elicitation/request`, those that ask for a tool aside.
        elicitation(Elicitation)
        /// Answers `execCommandApproval`.
        exec_command(ExecCommandApproval)
        /// Answers `item/fileChange/requestApproval`.
        file_change(FileChangeApproval)
        /// Answers `item/permissions/requestApproval`.
        permissions(PermissionsApproval)
        /// Answers `account/chatgptAuthTokens/refresh`, within `Timeouts::token_refresh`.
        token_refresh(TokenRefresh)
        /// Answers `item/tool/call`. [`tools`](Self::tools) does it for tools that are described as such.
        tool_call(ToolCall)
        /// Answers requests of methods that are not known, and what does not fit the type of its method.
        unknown(UnknownRequest)
        /// Answers `item/tool/requestUserInput`.
        user_input(UserInput)
    }

    /// Answers everything that has no handler yet, but attestations, the time of day, and what `approvals` has said of already.
    pub fn all_others<F, O>(self, handler: F) -> Self
    where
        F: Fn(AgentRequest) -> O + Send + Sync + 'static,
        O: HandlerOutcome,
    {
        let handler = Arc::new(handler);
        let inner = self.inner.all_others(move |request| {
            let handler = Arc::clone(&handler);
            on_a_thread(move || !handler(request).has_failed())
        });
        Self { inner }
    }

    /// Answers `mcpServer/elicitation/request` that ask whether a tool of an MCP server may be called.
    pub fn mcp_tool<F, O>(self, handler: F) -> Self
    where
        F: Fn(McpToolApproval) -> O + Send + Sync + 'static,
        O: HandlerOutcome,
    {
        let handler = Arc::new(handler);
        let inner = self.inner.mcp_tool(move |request| {
            let handler = Arc::clone(&handler);
            on_a_thread(move || !handler(request).has_failed())
        });
        Self { inner }
    }

    /// Says who decides about commands and changes, in place of handlers for them. It holds against what was served before, and
    /// against `all_others`.
    pub fn approvals(self, approvals: Approvals) -> Self {
        Self { inner: self.inner.approvals(approvals) }
    }

    /// Answers the calls of these tools. Threads get them with `ThreadStart::tools`. A call of any other is a failed
    /// result.
    pub fn tools(self, tools: Tools) -> Self {
        Self { inner: self.inner.tools(tools) }
    }

    /// For how long a request of a kind may be open, in place of the configured time (`Timeouts::ask` and its like). Then it
    /// is refused, whatever its handler does.
    pub fn deadline(self, kind: AskKind, deadline: Duration) -> Self {
        Self { inner: self.inner.deadline(kind, deadline) }
    }
}

impl From<Approvals> for Handlers {
    fn from(approvals: Approvals) -> Self {
        Self::new().approvals(approvals)
    }
}

/// What a thread has to say, and who waits for it.
struct Saying<T> {
    said: Option<Result<T, ThreadFailed>>,
    waker: Option<Waker>,
}

/// The thread panicked, or there was none to be had.
#[derive(Debug)]
pub(crate) struct ThreadFailed;

impl HandlerOutcome for ThreadFailed {
    fn has_failed(self) -> bool {
        true
    }
}

/// What a handler's thread ends with.
pub(crate) struct Worked(bool);

impl HandlerOutcome for Worked {
    fn has_failed(self) -> bool {
        !self.0
    }
}

/// Runs a handler on a thread of its own.
fn on_a_thread(work: impl FnOnce() -> bool + Send + 'static) -> impl Future<Output = Worked> + Send {
    let outcome = off_thread(work);
    async move { Worked(outcome.await.unwrap_or(false)) }
}

/// Runs something that blocks on a thread of its own, begun at once.
pub(crate) fn off_thread<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> impl Future<Output = Result<T, ThreadFailed>> + Send {
    let saying = Arc::new(Mutex::new(Saying { said: None, waker: None }));
    let on_thread = Arc::clone(&saying);
    let say = move |outcome| {
        let mut saying = on_thread.lock().unwrap_or_else(PoisonError::into_inner);
        saying.said = Some(outcome);
        let waker = saying.waker.take();
        drop(saying);
        if let Some(waker) = waker {
            waker.wake();
        }
    };
    let started = thread::Builder::new()
        .name("turnwire-handler".into())
        .spawn(move || say(catch_unwind(AssertUnwindSafe(work)).map_err(|_| ThreadFailed)));
    if started.is_err() {
        saying.lock().unwrap_or_else(PoisonError::into_inner).said = Some(Err(ThreadFailed));
    }
    std::future::poll_fn(move |cx| {
        let mut saying = saying.lock().unwrap_or_else(PoisonError::into_inner);
        match saying.said.take() {
            Some(outcome) => Poll::Ready(outcome),
            None => {
                let replaced = saying.waker.replace(cx.waker().clone());
                drop(saying);
                drop(replaced);
                Poll::Pending
            }
        }
    })
}
