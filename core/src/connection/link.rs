//! The state of the connection itself: its handshake, its end, and what the server is.

use super::{Connection, Event, Lane, Purpose};
use crate::{
    error::{Delivery, Disconnect, DisconnectReason, Fault, Phase},
    json::Json,
    launch::ExitReport,
    protocol::{ClientInfo, Initialize, InitializeCapabilities, InitializeResponse},
    record::Step,
    time::Time,
    turn::DiagnosticKind,
};
use alloc::{boxed::Box, string::String, vec::Vec};
use core::time::Duration;

/// What the server said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct ServerInfo {
    /// The whole user agent.
    pub user_agent: String,
    /// The server's version: the part of the user agent between the first `/` and the space after it.
    pub version: Option<String>,
    /// Its home folder (`CODEX_HOME`).
    pub codex_home: String,
    /// For example `unix`.
    pub platform_family: String,
    /// For example `linux`.
    pub platform_os: String,
}

/// Whether a server's version is one that turnwire was tried with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Tried {
    /// Newer than the newest. It probably works: what is new is passed through as it comes.
    Newer,
    /// Older than the oldest. What it lacks is refused.
    Older,
    /// Not known: the server does not say its version, or not as three numbers.
    Unknown,
    /// Within the range.
    Yes,
}

impl ServerInfo {
    /// The oldest version that turnwire was tried with.
    pub const OLDEST_TRIED: &str = "0.133.0";
    /// The newest version that turnwire was tried with, whatever its third number; the types are made from it.
    pub const NEWEST_TRIED: &str = "0.163.0";

    /// Whether its version lies between [`OLDEST_TRIED`](Self::OLDEST_TRIED) and [`NEWEST_TRIED`](Self::NEWEST_TRIED). If
    /// not, there is a diagnostic too.
    #[must_use]
    pub fn tried(&self) -> Tried {
        let parse = super::needs::Version::parse;
        let (Some(version), Some(oldest), Some(newest)) =
            (self.version.as_deref().and_then(parse), parse(Self::OLDEST_TRIED), parse(Self::NEWEST_TRIED))
        else {
            return Tried::Unknown;
        };
        match version {
            version if version < oldest => Tried::Older,
            version if version.minor() > newest.minor() => Tried::Newer,
            _ => Tried::Yes,
        }
    }

    fn new(response: InitializeResponse) -> Self {
        let version = response.user_agent.split_once('/').map(|(_, rest)| rest.split(' ').next().unwrap_or(rest));
        Self {
            version: version.filter(|version| !version.is_empty()).map(String::from),
            user_agent: response.user_agent,
            codex_home: response.codex_home,
            platform_family: response.platform_family,
            platform_os: response.platform_os,
        }
    }
}

/// How the connection stands.
#[derive(Clone, Debug)]
pub(super) enum Link {
    /// Over: everybody knows.
    Closed(Disconnect),
    /// The handshake is on its way.
    Connecting,
    /// There is no server yet, and nobody has asked for one. What is asked of it waits.
    Idle,
    /// Ending: nothing is sent any more, and what is still missing is waited for until then.
    Draining(Box<Draining>),
    /// In use.
    Ready,
}

#[derive(Clone, Debug)]
pub(super) struct Draining {
    reason: DisconnectReason,
    until: Time,
    eof: bool,
    exit: Option<ExitReport>,
    /// What is known of a process whose end is not.
    evidence: Option<ExitReport>,
}

/// What is done to have a server, before there is any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Launching {
    phase: Phase,
    since: Time,
    due: Time,
}

impl Link {
    /// Whether nothing can be sent any more.
    pub(super) fn is_over(&self) -> bool {
        matches!(self, Self::Draining(_) | Self::Closed(_))
    }

    /// Why nothing can be sent any more, as far as is known.
    pub(super) fn cause(&self) -> Option<Disconnect> {
        match self {
            Self::Closed(cause) => Some(cause.clone()),
            Self::Draining(draining) => Some(Disconnect::new(draining.reason.clone(), draining.exit.clone())),
            Self::Connecting | Self::Idle | Self::Ready => None,
        }
    }

    pub(super) fn closed(&self) -> Option<&Disconnect> {
        match self {
            Self::Closed(cause) => Some(cause),
            _ => None,
        }
    }

    pub(super) fn drains_until(&self) -> Option<Time> {
        match self {
            Self::Draining(draining) => Some(draining.until),
            _ => None,
        }
    }
}

impl Connection {
    /// Ends the connection from this side: whatever waits fails now, the server's input is closed, and the server's end
    /// is waited for, for at most `within`.
    pub fn close(&mut self, now: Time, within: Duration) {
        if self.link.is_over() {
            return;
        }
        self.tap(now, || Step::Close { within });
        self.drain(now, DisconnectReason::ClosedByCaller);
        if let Link::Draining(draining) = &mut self.link {
            draining.until = now + within;
        }
        if self.config.expects_exit {
            self.fail_everything(now, &Disconnect::new(DisconnectReason::ClosedByCaller, None));
        } else {
            // There is nothing to wait for: whether and when the peer closes its side is its own affair.
            self.finish_link();
        }
    }

    /// Begins the handshake of a connection that was made [without a server](Self::unstarted), at `now`: a moment that may
    /// lie ahead. Whoever calls this sees to it that there is a server, or says why there is none
    /// ([`handle_launch_failure`](Self::handle_launch_failure)).
    pub fn begin(&mut self, now: Time) {
        if matches!(self.link, Link::Idle) {
            self.link = Link::Connecting;
            // Until it is known what was started: who closes now waits for the launch to be called off.
            self.config.expects_exit = true;
            self.initialize(now);
        }
    }

    /// Takes that what the start had to wait for is over: the time of the handshake counts from now on, if it was to count from
    /// a moment that lay ahead.
    pub fn handle_due(&mut self, now: Time) {
        self.requests.count_from(now, Purpose::Initialize, self.config.timeouts.initialize);
    }

    /// Takes that the program is looked for now ([`Phase::Resolve`]), or started ([`Phase::Spawn`]). From now on each of the
    /// two has its own time ([`Timeouts::resolve`](super::Timeouts::resolve), [`Timeouts::spawn`](super::Timeouts::spawn)).
    pub fn handle_launching(&mut self, now: Time, phase: Phase) {
        let within = match phase {
            Phase::Resolve => self.config.timeouts.resolve,
            Phase::Spawn => self.config.timeouts.spawn,
            Phase::Initialize => return,
        };
        if matches!(self.link, Link::Connecting) {
            self.launching = Some(Launching { phase, since: now, due: now + within });
        }
    }

    pub(super) fn launch_due(&self) -> Option<Time> {
        self.launching.map(|launching| launching.due)
    }

    pub(super) fn handle_launch_timeout(&mut self, now: Time) {
        let Some(Launching { phase, since, .. }) = self.launching.filter(|launching| launching.due <= now) else {
            return;
        };
        self.drain(now, DisconnectReason::LaunchTimedOut { phase, elapsed: now.since(since) });
        self.finish_link();
    }

    /// Takes that there is a transport now, and whether a process stands behind it.
    pub fn handle_launched(&mut self, expects_exit: bool) {
        self.launching = None;
        self.config.expects_exit = expects_exit;
        if self.link.is_over() && !expects_exit {
            self.finish_link();
        }
    }

    /// Takes that no server came of the launch. Everything that waits ends at once.
    pub fn handle_launch_failure(&mut self, now: Time, reason: DisconnectReason) {
        self.drain(now, reason);
        self.finish_link();
    }

    /// Takes that a connection of a later generation stands in for this one, which is over. Handles that still point here
    /// are told so.
    pub fn handle_superseded(&mut self, handle: u64, current: u64) {
        self.superseded = Some((handle, current));
    }

    /// Whether there is no server yet ([`begin`](Self::begin) was not called) and something waits for one.
    #[must_use]
    pub fn wants_begin(&self) -> bool {
        let has_work = self.requests.queued() > 0
            || !self.answers.is_empty()
            || self.alarms.next_due().is_some()
            // Only a driver keeps their time, and only a server ends them.
            || !self.turns.is_empty()
            || self.open_logins() > 0;
        matches!(self.link, Link::Idle) && has_work
    }

    /// Whether there is no server yet.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        matches!(self.link, Link::Idle)
    }

    /// Why the connection is over or about to be, as far as is known.
    #[must_use]
    pub fn ending(&self) -> Option<Disconnect> {
        self.link.cause()
    }

    /// As [`closed`](Self::closed), with the end of a process that has outlived the connection, once that came.
    #[must_use]
    pub fn gone(&self) -> Option<Disconnect> {
        let cause = self.link.closed()?;
        Some(match &self.evidence {
            Some(exit) => Disconnect::new(cause.reason().clone(), Some(exit.clone())),
            None => cause.clone(),
        })
    }

    /// What is to be said to whoever still calls; `None` while calls can be made.
    pub(super) fn refusal(&self) -> Option<Fault> {
        let cause = self.link.cause()?;
        Some(match self.superseded {
            Some((handle, current)) => Fault::Stale { handle, current, cause },
            None => Fault::Disconnected { delivery: Delivery::NotSent, cause },
        })
    }

    pub(super) fn initialize(&mut self, now: Time) {
        let config = &self.config;
        let mut client_info = ClientInfo::new(config.client_name.clone(), config.client_version.clone());
        client_info.title = config.client_title.clone();
        let mut capabilities = InitializeCapabilities::new().experimental_api(config.experimental_api);
        if config.request_attestation {
            capabilities = capabilities.request_attestation(true);
        }
        if !config.opt_out_notifications.is_empty() {
            capabilities = capabilities.opt_out_notification_methods(config.opt_out_notifications.clone());
        }
        let params = Initialize::new(client_info).capabilities(capabilities);
        let within = (config.timeouts.initialize, config.timeouts.initialize);
        let entered = self.requests.enter(now, "initialize".into(), &params, Purpose::Initialize, Lane::Urgent, within);
        if let Err(fault) = entered {
            self.drain(now, DisconnectReason::Protocol(alloc::format!("initialize cannot be encoded: {fault:?}")));
            self.finish_link();
        }
    }

    pub(super) fn handle_initialized(&mut self, now: Time, outcome: Result<Json, Fault>) {
        let reason = match outcome {
            Ok(json) => match json.decode::<InitializeResponse>() {
                Ok(response) => {
                    self.server = Some(ServerInfo::new(response));
                    if self.link.is_over() {
                        // The answer was still in the pipe of a server that is gone: there is no way back.
                        return;
                    }
                    self.link = Link::Ready;
                    self.handshake_took = self.opened.map(|opened| now.since(opened));
                    self.look_at_server();
                    self.refuse_what_is_too_new(now);
                    self.push_answer(br#"{"method":"initialized"}"#.to_vec());
                    self.events.push_back(Event::Ready);
                    return;
                }
                Err(_) => DisconnectReason::Protocol("the result of `initialize` is no object".into()),
            },
            Err(Fault::Rpc(error)) => DisconnectReason::InitializeRefused(error),
            Err(Fault::TimedOut { elapsed, .. }) => DisconnectReason::InitializeTimedOut { elapsed },
            // The connection is ending already.
            Err(Fault::Disconnected { .. }) => return,
            Err(fault) => DisconnectReason::Protocol(alloc::format!("`initialize` failed: {fault:?}")),
        };
        let at_once = matches!(reason, DisconnectReason::InitializeTimedOut { .. });
        self.drain(now, reason);
        if at_once {
            // Who waits was promised an answer by now.
            self.finish_link();
        }
    }

    /// Reports what is odd about a server that has just said what it is.
    fn look_at_server(&mut self) {
        let Some(server) = &self.server else { return };
        let version = (server.tried() != Tried::Yes).then(|| {
            let version = server.version.as_deref().unwrap_or("unknown");
            let (oldest, newest) = (ServerInfo::OLDEST_TRIED, ServerInfo::NEWEST_TRIED);
            alloc::format!("the server's version is {version}; turnwire was tried with {oldest} to {newest}")
        });
        let home = self.config.expected_home.as_deref().filter(|home| *home != server.codex_home);
        let home =
            home.map(|home| alloc::format!("the server's home is {}, and {home} was asked for", server.codex_home));
        let said = [(DiagnosticKind::UntriedVersion, version), (DiagnosticKind::OtherHome, home)];
        for (kind, text) in said {
            if let Some(text) = text {
                self.diagnose(kind, text.as_bytes(), text.len() as u64);
            }
        }
    }

    /// Takes the home that the server is expected to report.
    pub fn expect_home(&mut self, home: String) {
        self.config.expected_home = Some(home);
    }

    /// Begins to end, unless that has begun: the first reason stays.
    pub(super) fn drain(&mut self, now: Time, reason: DisconnectReason) {
        if self.link.is_over() {
            return;
        }
        let until = now + self.config.timeouts.drain;
        self.launching = None;
        self.link = Link::Draining(Box::new(Draining {
            reason,
            until,
            eof: false,
            exit: None,
            evidence: self.evidence.take(),
        }));
        self.answers.clear();
        self.answers_bytes = 0;
        self.ring_alarms(Time::MAX);
    }

    pub(super) fn note_eof(&mut self) {
        if let Link::Draining(draining) = &mut self.link {
            draining.eof = true;
        }
        self.finish_link_if_complete();
    }

    pub(super) fn note_exit(&mut self, now: Time, report: ExitReport) {
        match &mut self.link {
            Link::Draining(draining) => {
                // What it left in its pipe is read meanwhile; who else holds that pipe open is not waited for.
                draining.until = draining.until.min(now + self.config.timeouts.drain);
                draining.exit = Some(report);
            }
            Link::Closed(_) => self.evidence = Some(report),
            Link::Connecting | Link::Idle | Link::Ready => {}
        }
        self.finish_link_if_complete();
    }

    pub(super) fn note_evidence(&mut self, report: ExitReport) {
        match &mut self.link {
            Link::Draining(draining) => draining.evidence = Some(report),
            Link::Connecting | Link::Idle | Link::Ready => self.evidence = Some(report),
            Link::Closed(_) => {}
        }
    }

    pub(super) fn handle_link_timeout(&mut self, now: Time) {
        if self.link.drains_until().is_some_and(|until| until <= now) {
            self.finish_link();
        }
    }

    fn finish_link_if_complete(&mut self) {
        if let Link::Draining(draining) = &self.link {
            if draining.eof && (draining.exit.is_some() || !self.config.expects_exit) {
                self.finish_link();
            }
        }
    }

    /// Ends: everybody who waits gets the outcome, and then everybody is told.
    pub(super) fn finish_link(&mut self) {
        let Link::Draining(draining) = &mut self.link else { return };
        let until = draining.until;
        let exit = draining.exit.take().or(draining.evidence.take());
        let cause = Disconnect::new(draining.reason.clone(), exit);
        self.link = Link::Closed(cause.clone());
        self.fail_everything(until, &cause);
        let events = &mut self.events;
        let mut tell = |key| events.push_back(Event::Readable(key));
        self.log.finish(&mut tell);
        self.kin.finish();
        let mut subscriptions: Vec<_> = self.subscriptions.keys().copied().collect();
        subscriptions.sort_unstable();
        subscriptions.into_iter().for_each(tell);
        self.threads.retain(|_, entry| {
            // Its consumers were told above, in the order of the subscriptions.
            entry.log.finish(|_| {});
            entry.turns_log.finish(|_| {});
            !entry.is_idle()
        });
        self.watched.clear();
        self.ends.clear();
        self.freed.clear();
        self.time_wanted.clear();
        self.unchecked.clear();
        self.strays = super::follow::Strays::default();
        self.events.push_back(Event::Closed);
    }

    fn fail_everything(&mut self, now: Time, cause: &Disconnect) {
        for key in self.requests.open() {
            let delivery = self.requests.delivery(key);
            self.settle_request(now, key, Err(Fault::Disconnected { delivery, cause: cause.clone() }));
        }
        self.lose_asks(cause);
        self.lose_logins(cause);
        self.lose_turns(cause);
    }
}
