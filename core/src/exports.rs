//! What programs name, whichever runtime they use: the adapters re-export this list.

pub use crate::{
    client::{
        AccountError, AgentRequest, ApplyPatchApproval, Approval, Approvals, Ask, AttestationRequest, CommandApproval,
        CurrentTimeRequest, Elicitation, Event, ExecCommandApproval, FileChangeApproval, Generation, HandlerOutcome,
        Input, ItemEvent, LoginError, McpToolApproval, PermissionsApproval, Secret, TokenRefresh, Tokens,
        ToolArguments, ToolCall, ToolError, ToolFailure, ToolOutput, TreeEvent, TurnRequest, UnknownRequest,
        UsageEvent, UserInput,
    },
    connection::{
        AnswerError, AskEnd, AskKind, Asked, Config, Counters, Limits, RestartPolicy, ServerInfo, Timeouts, Tried,
    },
    error::{
        CallError, ConnectError, Delivery, Disconnect, DisconnectReason, Error, Fault, Phase, RpcError, RpcErrorKind,
        SteerError, TurnError,
    },
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    launch::{CloseLadder, Command, Environment, ExitReport, ExitStatus, Forced, LaunchError},
    protocol,
    turn::{
        Delta, DeltaKind, Diagnostic, DiagnosticKind, InterruptOutcome, RawNotification, Refused, RefusedWhy, State,
        TurnResult, TurnUsage,
    },
};
