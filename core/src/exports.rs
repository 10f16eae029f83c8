//! What programs name, whichever runtime they use: the adapters re-export this list.

pub use crate::{
    client::{
        AccountError, AgentRequest, ApplyPatchApproval, Approval, Approvals, Ask, AttestationRequest, CommandApproval,
        CurrentTimeRequest, Effective, Elicitation, ErrorEvent, Event, ExecCommandApproval, ExternalMessage,
        FileChangeApproval, Generation, HandlerOutcome, Input, ItemEvent, LoginError, McpToolApproval, Mismatch,
        PageError, Paged, PermissionsApproval, Recorder, Resume, ResumedBy, Secret, Stopped, Timings, TokenRefresh,
        Tokens, ToolArguments, ToolCall, ToolError, ToolFailure, ToolOutput, TraceSource, TreeEvent, TurnRequest,
        Typed, TypedError, UnknownRequest, Unsubscribed, UsageEvent, UserInput,
    },
    connection::{
        AnswerError, AskEnd, AskKind, Asked, Config, Counters, KnownSettings, Limits, RestartPolicy, ServerInfo,
        Timeouts, TraceContext, Tried,
    },
    error::{
        CallError, ConnectError, Delivery, Disconnect, DisconnectReason, Error, Fault, Phase, Relaxation, RpcError,
        RpcErrorKind, SteerError, ThreadError, ThreadFault, TurnError,
    },
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    launch::{CloseLadder, Command, ConfigValue, Environment, ExitReport, ExitStatus, Forced, LaunchError},
    protocol,
    retry::{GaveUp, Retry, RetryError, RetryPolicy},
    sandbox::{ApprovalMode, Sandbox},
    schema,
    turn::{
        Delta, DeltaKind, DeltaOrigin, Diagnostic, DiagnosticKind, DropPolicy, InputError, InterruptOutcome,
        RawNotification, Refused, RefusedWhy, State, TurnOptions, TurnResult, TurnUsage, WhenBusy,
    },
};
