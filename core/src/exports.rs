//! What programs name, whichever runtime they use: the adapters re-export this list.

pub use crate::{
    client::{
        Event, ExternalMessage, Generation, Input, ItemEvent, Mismatch, Recorder, Stopped, Timings, TraceSource,
        TreeEvent, TurnRequest, Typed, TypedError, UsageEvent,
    },
    connection::{Config, Counters, KnownSettings, Limits, RestartPolicy, ServerInfo, Timeouts, TraceContext, Tried},
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
        Delta, DeltaKind, Diagnostic, DiagnosticKind, DropPolicy, InputError, InterruptOutcome, RawNotification,
        Refused, State, TurnOptions, TurnResult, TurnUsage, WhenBusy,
    },
};
