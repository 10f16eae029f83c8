//! What programs name, whichever runtime they use: the adapters re-export this list.

pub use crate::{
    client::{
        AccountError, AgentRequest, ApplyPatchApproval, Approval, Approvals, Ask, AttestationRequest, CommandApproval,
        CurrentTimeRequest, Elicitation, Event, ExecCommandApproval, ExternalMessage, FileChangeApproval, Generation,
        HandlerOutcome, Input, ItemEvent, LoginError, McpToolApproval, Mismatch, PermissionsApproval, Recorder, Secret,
        Stopped, Timings, TokenRefresh, Tokens, ToolArguments, ToolCall, ToolError, ToolFailure, ToolOutput,
        TraceSource, TreeEvent, TurnRequest, Typed, TypedError, UnknownRequest, UsageEvent, UserInput,
    },
    connection::{
        AnswerError, AskEnd, AskKind, Asked, Config, Counters, KnownSettings, Limits, RestartPolicy, ServerInfo,
        Timeouts, TraceContext, Tried,
    },
    error::{
        CallError, ConnectError, Delivery, Disconnect, DisconnectReason, Error, Fault, Phase, Relaxation, RpcError,
        RpcErrorKind, SteerError, TurnError,
    },
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    launch::{CloseLadder, Command, Environment, ExitReport, ExitStatus, Forced, LaunchError},
    protocol,
    sandbox::{ApprovalMode, Sandbox},
    schema,
    turn::{
        Delta, DeltaKind, DeltaOrigin, Diagnostic, DiagnosticKind, DropPolicy, InputError, InterruptOutcome,
        RawNotification, Refused, RefusedWhy, State, TurnOptions, TurnResult, TurnUsage, WhenBusy,
    },
};
