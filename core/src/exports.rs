//! What programs name, whichever runtime they use: the adapters re-export this list.

pub use crate::{
    client::{
        Effective, Event, Generation, Input, ItemEvent, PageError, Paged, Recorder, Resume, ResumedBy, Timings,
        TraceSource, TreeEvent, TurnRequest, Unsubscribed, UsageEvent,
    },
    connection::{Config, Counters, Limits, RestartPolicy, ServerInfo, Timeouts, TraceContext, Tried},
    error::{
        CallError, ConnectError, Delivery, Disconnect, DisconnectReason, Error, Fault, Phase, RpcError, RpcErrorKind,
        SteerError, ThreadError, ThreadFault, TurnError,
    },
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    launch::{CloseLadder, Command, ConfigValue, Environment, ExitReport, ExitStatus, Forced, LaunchError},
    protocol,
    retry::{GaveUp, Retry, RetryError, RetryPolicy},
    turn::{
        Delta, DeltaKind, Diagnostic, DiagnosticKind, InterruptOutcome, RawNotification, Refused, State, TurnResult,
        TurnUsage,
    },
};
