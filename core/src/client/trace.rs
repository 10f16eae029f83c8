//! Spans and events for the crate `tracing`, with its feature; without it, nothing at all.
//!
//! All have the target `turnwire`. They hold ids, methods, kinds, lengths and states, and never a text of the user, of the
//! model or of the server.
//!
//! | span | fields | from | to | parent |
//! |---|---|---|---|---|
//! | `turnwire.connection` | `server` | its making | the last handle is gone | whoever made it |
//! | `turnwire.thread` | `thread` | a handle of it | the last of these handles is gone | the connection |
//! | `turnwire.turn` | `thread`, `turn`, `state` | its start | its last handle is gone | the caller; without one, the connection |
//! | `turnwire.request` | `method`, `id`, `outcome` | its making | its answer, or it is given up | as for a turn |
//!
//! Spans whose parent is the caller follow from the connection's. Events: `diagnostic` (`kind`, `length`; warning), `ready`
//! (`server`) and `closed` (`reason`).

#[cfg(feature = "tracing")]
pub(crate) use on::*;

#[cfg(not(feature = "tracing"))]
pub(crate) use off::*;

#[cfg(feature = "tracing")]
mod on {
    use crate::{
        client::Hub,
        connection::{self, RequestKey},
        error::{CallError, DisconnectReason},
        id::{ThreadId, TurnId},
        turn::{DiagnosticKind, State},
    };
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
    use tracing::{Span, debug_span, field::Empty};

    const TARGET: &str = "turnwire";

    /// The span of a connection, and what was told of it.
    pub(crate) struct Connection {
        span: Span,
        /// How many diagnostics were told.
        diagnosed: AtomicU64,
        told_ready: AtomicBool,
        told_closed: AtomicBool,
    }

    #[derive(Default)]
    pub(crate) struct Noticed {
        diagnostics: Vec<(DiagnosticKind, u64)>,
        ready: Option<String>,
        closed: Option<&'static str>,
    }

    impl Connection {
        pub(crate) fn new() -> Self {
            Self {
                span: debug_span!(target: TARGET, "turnwire.connection", server = Empty),
                diagnosed: AtomicU64::new(0),
                told_ready: AtomicBool::new(false),
                told_closed: AtomicBool::new(false),
            }
        }

        /// Called under the lock, so whoever is here is alone.
        pub(crate) fn notice(&self, connection: &connection::Connection) -> Noticed {
            let mut noticed = Noticed::default();
            let (seen, all) = (self.diagnosed.load(Ordering::Relaxed), connection.diagnosed());
            if all > seen {
                self.diagnosed.store(all, Ordering::Relaxed);
                let kept = connection.diagnostics().count();
                let new = usize::try_from(all - seen).unwrap_or(usize::MAX).min(kept);
                let new = connection.diagnostics().skip(kept - new);
                noticed.diagnostics = new.map(|diagnostic| (diagnostic.kind, diagnostic.length)).collect();
            }
            if connection.is_ready() && !self.told_ready.swap(true, Ordering::Relaxed) {
                let version = connection.server().and_then(|server| server.version.clone());
                noticed.ready = Some(version.filter(|version| is_version(version)).unwrap_or_default());
            }
            if let Some(cause) = connection.closed() {
                if !self.told_closed.swap(true, Ordering::Relaxed) {
                    noticed.closed = Some(reason(cause.reason()));
                }
            }
            noticed
        }

        pub(crate) fn tell(&self, noticed: Noticed) {
            for (kind, length) in noticed.diagnostics {
                tracing::warn!(target: TARGET, parent: &self.span, ?kind, length, "diagnostic");
            }
            if let Some(server) = noticed.ready {
                self.span.record("server", server.as_str());
                tracing::debug!(target: TARGET, parent: &self.span, %server, "ready");
            }
            if let Some(reason) = noticed.closed {
                tracing::debug!(target: TARGET, parent: &self.span, reason, "closed");
            }
        }

        /// The caller's span with this one linked, or this one.
        fn relate(&self, make: impl Fn(&Span) -> Span) -> Span {
            let caller = Span::current();
            if caller.is_none() {
                return make(&self.span);
            }
            let span = make(&caller);
            span.follows_from(&self.span);
            span
        }
    }

    /// The span of a thread.
    #[derive(Clone)]
    pub(crate) struct Thread(#[allow(dead_code, reason = "held until the last handle is gone")] Span);

    impl Thread {
        pub(crate) fn new(hub: &Hub, thread: &ThreadId) -> Self {
            let parent = &hub.trace().span;
            Self(debug_span!(target: TARGET, parent: parent, "turnwire.thread", thread = thread.as_str()))
        }
    }

    /// The span of a turn.
    pub(crate) struct Turn(Span);

    impl Turn {
        pub(crate) fn new(hub: &Hub, thread: &ThreadId) -> Self {
            Self(hub.trace().relate(|parent| {
                debug_span!(target: TARGET, parent: parent, "turnwire.turn", thread = thread.as_str(), turn = Empty, state = Empty)
            }))
        }

        pub(crate) fn named(&self, id: Option<&TurnId>) {
            if let Some(id) = id {
                self.0.record("turn", id.as_str());
            }
        }

        pub(crate) fn ended(&self, state: State) {
            self.0.record("state", tracing::field::debug(state));
        }
    }

    /// The span of a request.
    pub(crate) struct Request(Span);

    impl Request {
        pub(crate) fn new(hub: &Hub, key: RequestKey) -> Self {
            let method = hub.read(|connection| connection.method_of(key));
            // Of a method that no schema knows nobody knows what it says.
            let method = method.filter(|method| crate::record::is_method(method));
            let method = method.as_deref().unwrap_or("unknown");
            Self(hub.trace().relate(|parent| {
                debug_span!(target: TARGET, parent: parent, "turnwire.request", method, id = key.0, outcome = Empty)
            }))
        }

        pub(crate) fn ended<T>(&self, outcome: &Result<T, CallError>) {
            let outcome = match outcome {
                Ok(_) => "ok",
                Err(error) if error.is_timeout() => "timed_out",
                Err(error) if error.is_closed() => "disconnected",
                Err(error) if error.rpc().is_some() => "refused",
                Err(_) => "failed",
            };
            self.0.record("outcome", outcome);
        }
    }

    fn is_version(text: &str) -> bool {
        text.len() <= 32 && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.')
    }

    fn reason(reason: &DisconnectReason) -> &'static str {
        match reason {
            DisconnectReason::ClosedByCaller => "closed_by_caller",
            DisconnectReason::DriverDropped => "driver_dropped",
            DisconnectReason::Eof => "eof",
            DisconnectReason::Exited => "exited",
            DisconnectReason::InitializeRefused(_) => "initialize_refused",
            DisconnectReason::InitializeTimedOut { .. } => "initialize_timed_out",
            DisconnectReason::LaunchTimedOut { .. } => "launch_timed_out",
            DisconnectReason::Io(_) => "io",
            DisconnectReason::Protocol(_) => "protocol",
            #[allow(unreachable_patterns, reason = "there may be more")]
            _ => "other",
        }
    }
}

#[cfg(not(feature = "tracing"))]
mod off {
    #![allow(clippy::unused_self, reason = "the same as with the feature")]

    use crate::{
        client::Hub,
        connection::{self, RequestKey},
        error::CallError,
        id::{ThreadId, TurnId},
        turn::State,
    };

    pub(crate) struct Connection;
    pub(crate) struct Noticed;
    #[derive(Clone)]
    pub(crate) struct Thread;
    pub(crate) struct Turn;
    pub(crate) struct Request;

    impl Connection {
        pub(crate) fn new() -> Self {
            Self
        }

        pub(crate) fn notice(&self, _: &connection::Connection) -> Noticed {
            Noticed
        }

        pub(crate) fn tell(&self, _: Noticed) {}
    }

    impl Thread {
        pub(crate) fn new(_: &Hub, _: &ThreadId) -> Self {
            Self
        }
    }

    impl Turn {
        pub(crate) fn new(_: &Hub, _: &ThreadId) -> Self {
            Self
        }

        pub(crate) fn named(&self, _: Option<&TurnId>) {}

        pub(crate) fn ended(&self, _: State) {}
    }

    impl Request {
        pub(crate) fn new(_: &Hub, _: RequestKey) -> Self {
            Self
        }

        pub(crate) fn ended<T>(&self, _: &Result<T, CallError>) {}
    }
}
