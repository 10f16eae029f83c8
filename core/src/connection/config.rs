//! What a connection is told when it is made.

use alloc::{string::String, vec::Vec};
use core::time::Duration;

/// How a connection behaves. `Default` is right for most programs.
///
/// Later versions may have more members, so one is made by [`new`](Self::new) or `Default` and then changed, member by member:
///
/// ```
/// use std::time::Duration;
/// use turnwire_core::connection::{Config, RestartPolicy};
///
/// let mut config = Config::new("my-tool", "1.2.0");
/// config.experimental_api = false;
/// config.opt_out_notifications.push("item/agentMessage/delta".into());
/// config.limits.max_line = 16 * 1024 * 1024;
/// config.timeouts.call = Duration::from_secs(30);
/// config.restart = Some(RestartPolicy::new());
/// # assert_eq!(config.client_title.as_deref(), Some("my-tool"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Config {
    /// The client's name, which becomes the `originator` of threads and a part of the user agent towards the model.
    /// It must be usable as an HTTP header value.
    pub client_name: String,
    /// The client's name for people.
    pub client_title: Option<String>,
    /// The client's version.
    pub client_version: String,
    /// Whether the server may be asked for what it calls experimental. On by default: without it a client is not told
    /// when the settings of a thread change.
    pub experimental_api: bool,
    /// Notifications that the server shall not send, by their exact method.
    pub opt_out_notifications: Vec<String>,
    /// Takes the server to be of this version, such as `0.163.0`, whatever it says. Requests that need a newer one are
    /// refused before they are sent ([`Fault::NeedsNewer`](crate::error::Fault::NeedsNewer)); where no version is known,
    /// nothing is refused.
    pub assume_version: Option<String>,
    /// Whether the server may ask for attestations (`attestation/generate`). Only for who has a handler for them.
    pub request_attestation: bool,
    /// Whether a line that looks like JSON and is none ends the connection. Off by default: it is a diagnostic.
    pub strict: bool,
    /// Whether every line of both directions is kept for [`Connection::poll_tap`](super::Connection::poll_tap), and what else
    /// moves the connection. Off by default.
    pub tap: bool,
    /// Who records the connection, from its handshake on.
    #[cfg(feature = "client")]
    pub recorder: Option<crate::client::Recorder>,
    /// Where requests have their trace context from; `None`: they carry none. It is asked on the caller's thread, under no
    /// lock, when a request or a turn is made. The handshake, and interrupts that had to be held back, carry none.
    #[cfg(feature = "client")]
    pub trace_source: Option<crate::client::TraceSource>,
    /// Bounds of memory and number.
    pub limits: Limits,
    /// Bounds of time.
    pub timeouts: Timeouts,
    /// The home (`CODEX_HOME`) that the server is expected to report in its handshake. Another is a diagnostic.
    pub expected_home: Option<String>,
    /// When a server that died is replaced. `None`, the default: never. Only a session that starts its servers (`spawn`, `lazy`)
    /// can; over a reader and a writer it does nothing.
    pub restart: Option<RestartPolicy>,
    /// Whether the server is a process whose end will be reported with `handle_exit`.
    pub expects_exit: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            client_name: "turnwire".into(),
            client_title: Some("turnwire".into()),
            client_version: env!("CARGO_PKG_VERSION").into(),
            experimental_api: true,
            opt_out_notifications: Vec::new(),
            assume_version: None,
            request_attestation: false,
            strict: false,
            tap: false,
            #[cfg(feature = "client")]
            recorder: None,
            #[cfg(feature = "client")]
            trace_source: None,
            limits: Limits::default(),
            timeouts: Timeouts::default(),
            expected_home: None,
            restart: None,
            expects_exit: false,
        }
    }
}

impl Config {
    /// Whether anybody wants what is said to be kept.
    pub(crate) fn wants_tap(&self) -> bool {
        #[cfg(feature = "client")]
        let is_recorded = self.recorder.is_some();
        #[cfg(not(feature = "client"))]
        let is_recorded = false;
        self.tap || is_recorded
    }

    /// The default, under the client's own name and version.
    #[must_use]
    pub fn new(client_name: impl Into<String>, client_version: impl Into<String>) -> Self {
        let client_name = client_name.into();
        Self {
            client_title: Some(client_name.clone()),
            client_name,
            client_version: client_version.into(),
            ..Self::default()
        }
    }
}

/// When a server that died is replaced by another.
///
/// Nothing is restarted behind the caller's back: the next call that needs a server starts one. What was lost stays lost: each
/// call and turn that the server may have taken ends with its error. A turn alone whose start the server had certainly not
/// taken is started again, once, on the new server, after its thread was resumed there.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RestartPolicy {
    /// How many restarts there may be within [`window`](Self::window). Past that, calls fail with the end of the last server.
    pub max_restarts: usize,
    /// The time over which restarts are counted.
    pub window: Duration,
    /// How long the second restart within the window waits. The first does not wait, and each further one twice as long
    /// as the one before.
    pub backoff: Duration,
    /// The longest that a restart waits.
    pub max_backoff: Duration,
}

impl RestartPolicy {
    /// Three restarts a minute, the second after 250 ms, none after more than 5 s.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            max_restarts: 3,
            window: Duration::from_secs(60),
            backoff: Duration::from_millis(250),
            max_backoff: Duration::from_secs(5),
        }
    }

    /// Sets how many restarts there may be within which time.
    #[must_use]
    pub const fn at_most(mut self, restarts: usize, window: Duration) -> Self {
        self.max_restarts = restarts;
        self.window = window;
        self
    }

    /// Sets how long the second restart waits, and how long any of them waits at most.
    #[must_use]
    pub const fn backoff(mut self, backoff: Duration, at_most: Duration) -> Self {
        self.backoff = backoff;
        self.max_backoff = at_most;
        self
    }

    /// How long a restart waits that comes after so many within the window.
    #[must_use]
    pub fn delay(&self, restarts: usize) -> Duration {
        let Some(doublings) = restarts.checked_sub(1) else { return Duration::ZERO };
        let factor =
            u32::try_from(doublings).ok().and_then(|doublings| 2_u32.checked_pow(doublings)).unwrap_or(u32::MAX);
        self.backoff.saturating_mul(factor).min(self.max_backoff)
    }
}

impl Default for RestartPolicy {
    fn default() -> Self {
        Self::new()
    }
}

/// Bounds of memory and number. Every one is finite.
///
/// Later versions may have more, so they are changed one by one, where they are in a [`Config`]:
///
/// ```
/// # use turnwire_core::connection::{Config, Limits};
/// let mut config = Config::default();
/// config.limits.max_line = 16 * 1024 * 1024;
/// config.limits.merge_after = None;
/// # let default = Limits::default();
/// # assert_eq!(config.limits.max_in_flight, default.max_in_flight);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Limits {
    /// The longest line that is read, in bytes. A longer one is skipped; if it was an answer, its request fails.
    pub max_line: usize,
    /// How many requests may be unanswered at once. Servers refuse, or silently drop, what exceeds about 160.
    pub max_in_flight: usize,
    /// How many further requests may wait to be sent. Past that, a call fails at once.
    pub max_queued_requests: usize,
    /// How many events are kept for a turn that the server has not named yet. Past that, deltas are left out, and past
    /// twice that everything. `max_unread_bytes` bounds their bytes.
    pub max_parked_events: usize,
    /// How many unread events a consumer may have before adjacent deltas of one item are merged into one. `None`: they
    /// are never merged, and only `max_unread_bytes` bounds them.
    pub merge_after: Option<usize>,
    /// How many bytes a consumer may have unread. Past that, what can be done without is left out and
    /// a gap says how much. The beginnings and ends of items and turns, token counts, errors and refusals are always kept:
    /// they are bounded by what the agent does.
    pub max_unread_bytes: usize,
    /// Of how many threads the settings are remembered that the server told. The one used least recently is forgotten first;
    /// its sandbox has to be told again (by resuming the thread) before a turn of it can have another.
    pub max_thread_settings: usize,
    /// How many starts may wait for one thread (`WhenBusy::Queue`).
    pub max_queued_turns: usize,
    /// Of how many threads it is known whether they are busy, and what they have used. Of more than that nothing is known:
    /// a start there is sent whatever runs.
    pub max_watched_threads: usize,
    /// How many turns that were not started here may wait to be taken by one reader of a thread's turns.
    pub max_unclaimed_turns: usize,
    /// How many requests of the server may be open at once, and how many that were answered are remembered until the server
    /// says that they are settled. Past that, they are refused. `max_unread_bytes` bounds their bytes.
    pub max_asks: usize,
    /// Of how many threads of sub-agents it is remembered whose they are. Past that, the oldest is forgotten.
    pub max_known_children: usize,
    /// How many diagnostics are remembered.
    pub max_diagnostics: usize,
    /// How many bytes of answers may wait for a server that does not read. Past that, the connection ends.
    pub max_unsent_bytes: usize,
    /// How many bytes of records may wait to be taken, when there is a tap. Past that records are lost, and counted.
    pub max_tap_bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_line: 128 * 1024 * 1024,
            max_in_flight: 64,
            max_queued_requests: 16 * 1024,
            max_parked_events: 4096,
            merge_after: Some(64),
            max_unread_bytes: 64 * 1024 * 1024,
            max_thread_settings: 4096,
            max_queued_turns: 64,
            max_watched_threads: 16 * 1024,
            max_unclaimed_turns: 64,
            max_asks: 1024,
            max_known_children: 4096,
            max_diagnostics: 64,
            max_unsent_bytes: 64 * 1024 * 1024,
            max_tap_bytes: 64 * 1024 * 1024,
        }
    }
}

/// Bounds of time. Every one is finite, except that a turn, and a login by browser or device code, takes as long as it takes
/// unless the caller sets a deadline.
///
/// Later versions may have more, so they are changed one by one, where they are in a [`Config`]:
///
/// ```
/// use std::time::Duration;
/// # use turnwire_core::connection::{Config, Timeouts};
///
/// let mut config = Config::default();
/// config.timeouts.call = Duration::from_secs(30);
/// config.timeouts.ask = Duration::from_secs(600);
/// # let default = Timeouts::default();
/// # assert_eq!(config.timeouts.close, default.close);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeouts {
    /// From a request of the server to its answer, where it is a person's or a tool's to give. Past that, it is refused.
    pub ask: Duration,
    /// From a request of the server that handlers answer to their taking it up, which they do at once if they are run. Past that,
    /// it is refused: handlers that nobody runs must not hold up the agent.
    pub take_ask: Duration,
    /// From the server's request for an attestation to the answer. Servers go on without it after a tenth of a second.
    pub attestation: Duration,
    /// From the server's request for new tokens, or for the time, to the answer. Servers wait ten seconds.
    pub token_refresh: Duration,
    /// From the start of the connection, or from the first call that needs a server, to the answer to `initialize`. It bounds
    /// [`resolve`](Self::resolve) and [`spawn`](Self::spawn) too.
    pub initialize: Duration,
    /// From the start of the search for the program to its being found: a look at some places on the disk.
    pub resolve: Duration,
    /// From then to the program's being started. A disk on a network may take long.
    pub spawn: Duration,
    /// From the call to the answer. Starting a hundred threads at once takes seconds, so this is generous.
    pub call: Duration,
    /// From handing a request to the transport to its answer.
    pub reply: Duration,
    /// From the server's word that a thread is idle to the end of its turn, which comes in the same burst. Past that, the
    /// turn ends without a status.
    pub idle: Duration,
    /// From the call of an interrupt to its acknowledgement.
    pub interrupt: Duration,
    /// From closing to the end of the server. Longer than a process may take that has to be killed.
    ///
    /// Kept above the sum of the command's `CloseLadder`, 10 s by default: past it the end of the process is not known.
    pub close: Duration,
    /// From the end of the server's output to its exit status, or the other way round.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            ask: Duration::from_secs(24 * 3600),
            take_ask: Duration::from_secs(30),
            attestation: Duration::from_secs(1),
            token_refresh: Duration::from_secs(9),
            initialize: Duration::from_secs(30),
            resolve: Duration::from_secs(10),
            spawn: Duration::from_secs(20),
            call: Duration::from_secs(120),
            reply: Duration::from_secs(60),
            idle: Duration::from_secs(10),
            interrupt: Duration::from_secs(30),
            close: Duration::from_secs(15),
            drain: Duration::from_secs(2),
        }
    }
}
