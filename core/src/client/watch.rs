//! Those who look on: a recorder, a subscriber of traces, and whoever asks how long the start took.
//!
//! What they need is noticed under the lock and told after it.

use super::{Codex, Hub, record::Bell, trace};
use crate::{
    connection::{Config, Connection, TraceContext},
    time::Time,
};
use std::{
    fmt,
    sync::{Arc, OnceLock},
    time::Duration,
};

/// What one connection's hub keeps for them.
pub(super) struct Watch {
    bell: OnceLock<Arc<Bell>>,
    start: OnceLock<StartTimings>,
    trace_source: Option<TraceSource>,
    pub(super) trace: trace::Connection,
}

/// What was noticed under the lock.
pub(super) struct Noticed {
    has_tapped: bool,
    trace: trace::Noticed,
}

impl Watch {
    pub(super) fn new(config: &Config) -> Self {
        Self {
            bell: OnceLock::new(),
            start: OnceLock::new(),
            trace_source: config.trace_source.clone(),
            trace: trace::Connection::new(),
        }
    }

    /// Before the lock: what the requests of a command carry.
    pub(super) fn trace_context(&self) -> Option<TraceContext> {
        self.trace_source.as_ref()?.current()
    }

    /// Under the lock: looks, and calls nobody.
    #[inline]
    pub(super) fn notice(&self, connection: &Connection) -> Noticed {
        // Whoever keeps what is said also wants to know that no more will be.
        let has_tapped = connection.has_tapped() || connection.closed().is_some();
        Noticed { has_tapped, trace: self.trace.notice(connection) }
    }

    /// After the lock: tells.
    #[inline]
    pub(super) fn tell(&self, noticed: Noticed) {
        if let (true, Some(bell)) = (noticed.has_tapped, self.bell.get()) {
            bell.ring();
        }
        self.trace.tell(noticed.trace);
    }
}

impl Hub {
    /// Begins to keep what is said, for this bell's owner. False if there is one already.
    pub(super) fn set_bell(&self, bell: &Arc<Bell>) -> bool {
        let is_first = self.watch.bell.set(Arc::clone(bell)).is_ok();
        if is_first {
            self.read(|connection| connection.set_tap(true));
            // Something may have been kept already.
            bell.ring();
        }
        is_first
    }

    #[cfg(feature = "tracing")]
    pub(super) fn trace(&self) -> &trace::Connection {
        &self.watch.trace
    }

    /// The connection has a server from now on, which took so long to start.
    pub(crate) fn note_start(self: &Arc<Self>, start: StartTimings) {
        let _ = self.watch.start.set(start);
        if let Some(recorder) = self.read(|connection| connection.config().recorder.clone()) {
            recorder.attach(self);
        }
    }

    pub(super) fn read_now<R>(&self, look: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let now = self.clock.now();
        self.read(|connection| look(connection, now))
    }
}

/// Where trace contexts come from; see [`Config::trace_source`](crate::connection::Config::trace_source).
///
/// ```
/// use turnwire_core::{client::TraceSource, connection::{Config, TraceContext}};
///
/// let mut config = Config::default();
/// config.trace_source = Some(TraceSource::new(|| {
///     // What the tracing system of the program says is current on this thread.
///     Some(TraceContext::new("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
/// }));
/// ```
#[derive(Clone)]
pub struct TraceSource(Arc<dyn Fn() -> Option<TraceContext> + Send + Sync>);

impl TraceSource {
    /// A source that asks a function.
    #[must_use]
    pub fn new(current: impl Fn() -> Option<TraceContext> + Send + Sync + 'static) -> Self {
        Self(Arc::new(current))
    }

    pub(super) fn current(&self) -> Option<TraceContext> {
        (self.0)()
    }
}

impl fmt::Debug for TraceSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TraceSource")
    }
}

/// How long it took to start the server's process, as its transport knows it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StartTimings {
    /// From the command to the path of the program.
    pub resolve: Option<Duration>,
    /// From there to the running process.
    pub spawn: Option<Duration>,
}

impl StartTimings {
    /// The two that there are.
    #[must_use]
    pub const fn new(resolve: Duration, spawn: Duration) -> Self {
        Self { resolve: Some(resolve), spawn: Some(spawn) }
    }
}

/// How long each phase of a connection's beginning took. `None` is a phase that has not ended, or that there was none of.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timings {
    /// Finding the program: from the command to its path.
    pub resolve: Option<Duration>,
    /// Starting it: from its path to the running process.
    pub spawn: Option<Duration>,
    /// The handshake: from handing `initialize` to the transport to its answer. For a process it holds what the server does
    /// before it answers anything.
    pub initialize: Option<Duration>,
}

impl Timings {
    /// All that is known of, together.
    #[must_use]
    pub fn total(&self) -> Duration {
        [self.resolve, self.spawn, self.initialize].into_iter().flatten().sum()
    }
}

impl Codex {
    /// How long each phase of the connection's beginning took.
    #[must_use]
    pub fn timings(&self) -> Timings {
        let hub = &self.latest().hub;
        let StartTimings { resolve, spawn } = hub.watch.start.get().copied().unwrap_or_default();
        Timings { resolve, spawn, initialize: hub.read(|connection| connection.handshake_took()) }
    }
}
