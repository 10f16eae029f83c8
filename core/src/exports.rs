//! What programs name, whichever runtime they use: the adapters re-export this list.

pub use crate::{
    client::{Event, Generation, Input, ItemEvent, Recorder, Timings, TraceSource, TreeEvent, TurnRequest, UsageEvent},
    connection::{Config, Counters, Limits, RestartPolicy, ServerInfo, Timeouts, TraceContext, Tried},
    error::{
        CallError, ConnectError, Delivery, Disconnect, DisconnectReason, Error, Fault, Phase, RpcError, RpcErrorKind,
        SteerError, TurnError,
    },
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    launch::{CloseLadder, Command, Environment, ExitReport, ExitStatus, Forced, LaunchError},
    protocol,
    turn::{
        Delta, DeltaKind, Diagnostic, DiagnosticKind, InterruptOutcome, RawNotification, Refused, State, TurnResult,
        TurnUsage,
    },
};
