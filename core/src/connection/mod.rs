//! Who is waiting for what.
//!
//! A [`Connection`] is the whole of the protocol as a state machine. It does no input or output, reads no clock and
//! draws no random number. It has four kinds of method and no others:
//!
//! - getters;
//! - `handle_*`: what the outside did (bytes came, the output ended, the process ended, time passed);
//! - commands of the application: [`request`](Connection::request), [`start_turn`](Connection::start_turn),
//!   [`steer`](Connection::steer), [`interrupt`](Connection::interrupt), [`subscribe`](Connection::subscribe),
//!   [`close`](Connection::close) …;
//! - `poll_*`: what the outside must do: write these bytes, call again at this time, look at this.
//!
//! Any number of commands and inputs may come before any poll, and the order of polls never changes the outcome. Events
//! are small edges ("this response is ready", "this subscription is readable"); what they speak of is fetched.
//!
//! ```
//! use turnwire_core::{
//!     connection::{Config, Connection, Event},
//!     protocol::ModelList,
//!     time::Time,
//! };
//!
//! let now = Time::ZERO; // nobody reads a clock here
//! let mut connection = Connection::new(now, Config::default());
//! let models = connection.request(now, &ModelList::default()).unwrap();
//!
//! let mut out = Vec::new();
//! connection.poll_transmit(now, &mut out);
//! assert!(out.starts_with(br#"{"id":1,"method":"initialize","#)); // and nothing else before its answer
//!
//! connection.handle_input(now, b"{\"id\":1,\"result\":{\"userAgent\":\"me/0.163.0 (Linux)\"}}\n");
//! assert_eq!(connection.poll_event(), Some(Event::Ready));
//! out.clear();
//! connection.poll_transmit(now, &mut out);
//! assert!(out.starts_with(b"{\"method\":\"initialized\"}\n{\"id\":2,\"method\":\"model/list\","));
//!
//! connection.handle_input(now, b"{\"id\":2,\"result\":{\"data\":[]}}\n");
//! assert_eq!(connection.poll_event(), Some(Event::Response(models.key())));
//! let models = connection.take_response(&models).unwrap().unwrap();
//! assert!(models.data.is_empty());
//! ```

mod alarms;
mod asked;
mod asks;
mod config;
mod follow;
mod kin;
mod lines;
mod link;
mod logins;
mod needs;
pub(crate) mod noise;
mod propagation;
pub(crate) mod refusals;
mod requests;
mod routing;
mod settings;
mod tap;
#[cfg(all(test, feature = "client"))]
mod tests;
mod turns;
mod watch;

pub use crate::turn::TurnOptions;
pub use alarms::AlarmKey;
pub use asked::{AnswerError, AskEnd, AskKind, Asked};
pub use asks::{ListenFor, ListenerKey, NextAsk};
pub use config::{Config, Limits, RestartPolicy, Timeouts};
pub use link::{ServerInfo, Tried};
pub use logins::{LoginEnd, LoginKey};
pub use needs::Prepared;
pub use propagation::TraceContext;
pub use requests::RequestKey;
pub use routing::Scope;
pub use settings::KnownSettings;
#[cfg(feature = "client")]
pub(crate) use turns::{other_turn, steered};
pub use watch::Running;

use crate::record::Step;
use crate::{
    envelope::{Reader, RpcId},
    error::{CallError, Delivery, Disconnect, DisconnectReason, Fault},
    frame::Framer,
    id::TurnId,
    json::Json,
    launch::ExitReport,
    numbers::NumberMap,
    protocol::Request,
    time::Time,
    turn::{Diagnostic, EventLog, Next, RawEvent, Rest, SubscriptionKey, Turn, TurnKey},
};
use alloc::{
    borrow::Cow,
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::String,
    vec::Vec,
};
use core::{fmt, marker::PhantomData, time::Duration};
use hashbrown::HashMap;
use link::Link;
use requests::{Lane, Purpose, Requests};
use routing::ThreadEntry;
use serde::Serialize;
use turns::TurnTimer;
use watch::{EndOfOther, Watched};

/// How many bytes one `poll_transmit` gathers before it says that it is enough for now.
const TRANSMIT_CHUNK: usize = 64 * 1024;

/// How much of a line a diagnostic shows, in bytes.
const DIAGNOSTIC_HEAD: usize = 200;

/// A request that was made and not fetched yet. It can only be redeemed for the response of its own type.
#[must_use = "an answer that is neither fetched nor abandoned stays in the table"]
pub struct Pending<R> {
    key: RequestKey,
    response_of: PhantomData<fn() -> R>,
}

impl<R> Pending<R> {
    /// The request's local name.
    #[must_use]
    pub fn key(&self) -> RequestKey {
        self.key
    }

    pub(crate) fn new(key: RequestKey) -> Self {
        Self { key, response_of: PhantomData }
    }
}

impl<R> fmt::Debug for Pending<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pending({})", self.key.0)
    }
}

/// A request for which there is no type: stands in for it in [`Pending`].
#[derive(Clone, Copy, Debug)]
pub struct Raw;

/// Names a request of the server locally.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerRequestKey(u64);

/// An edge: something is new and can be fetched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The alarm rang, or the connection is over.
    Alarm(AlarmKey),
    /// A request of the server can be fetched with [`Connection::next_ask`], or no more will come.
    Asked(ListenerKey),
    /// A request of the server is over.
    AskEnded(ServerRequestKey),
    /// The connection is over, and everything that waited has its outcome. The last event.
    Closed,
    /// A login that is waited for ended.
    Login(LoginKey),
    /// The subscription has something to read, or its end.
    Readable(SubscriptionKey),
    /// The handshake succeeded.
    Ready,
    /// The request is done.
    Response(RequestKey),
    /// The server asks for the time of day: answer with [`Connection::respond_time`].
    TimeWanted(ServerRequestKey),
    /// The turn was named, ended, or its interrupt was settled.
    Turn(TurnKey),
}

/// When to call [`Connection::handle_timeout`], and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Timeout {
    /// When.
    pub at: Time,
    /// Why.
    pub reason: TimeoutReason,
}

/// What a deadline is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum TimeoutReason {
    /// An alarm of the application.
    Alarm,
    /// A request of the server that was not answered.
    Ask,
    /// The connection ends, whatever is still missing.
    Drain,
    /// The program is not found, or not started, in time.
    Launch,
    /// A login that is waited for.
    Login,
    /// A request, the handshake included.
    Request,
    /// A turn, or the interrupt of one.
    Turn,
}

/// What was counted since the start, and what is held now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Lines received.
    pub lines: u64,
    /// Bytes received.
    pub bytes: u64,
    /// Lines that are no JSON object.
    pub noise: u64,
    /// Lines that look like JSON and are none, or are no message.
    pub malformed: u64,
    /// Lines longer than the limit.
    pub oversized: u64,
    /// Answers to requests that were given up.
    pub late: u64,
    /// Second answers to one request.
    pub duplicate: u64,
    /// Answers to requests that were never made.
    pub unknown_responses: u64,
    /// Requests of the server that were refused.
    pub refused: u64,
    /// Requests of the server that came again.
    pub replayed: u64,
    /// Handlers of the application that failed or panicked.
    pub handlers_failed: u64,
    /// Deltas that were merged into the one before.
    pub merged: u64,
    /// Deltas that were left out.
    pub left_out: u64,
    /// Records of the tap that found no room.
    pub tap_lost: u64,
    /// Requests of the server that are open now, or over and still held.
    pub asks: usize,
    /// Logins that are waited for now.
    pub logins: usize,
    /// Requests in the table now.
    pub requests: usize,
    /// Those of them that were sent and are not answered.
    pub pending: usize,
    /// Those of them that wait to be sent.
    pub queued: usize,
    /// Turns in the table now.
    pub turns: usize,
    /// Threads in the table now.
    pub threads: usize,
    /// Subscriptions in the table now.
    pub subscriptions: usize,
    /// Bytes of unread events now.
    pub unread_bytes: usize,
}

/// One connection to one server.
///
/// A clone goes on by itself from the same point, and the keys that were given out name the same things in both: so a test
/// can try, at any point of a conversation, what would come of it.
#[derive(Clone)]
pub struct Connection {
    config: Config,
    link: Link,
    /// Set while the program is looked for or started, and that is to have an end.
    launching: Option<link::Launching>,
    /// The generation of this connection and the one that stands in for it. Set only when it is over.
    superseded: Option<(u64, u64)>,
    server: Option<ServerInfo>,
    framer: Framer,
    /// Set but while it reads.
    reader: Option<Box<Reader<routing::Route>>>,
    requests: Requests,
    /// Whole lines that go before any request: `initialized` and the answers to the server's requests.
    answers: VecDeque<Vec<u8>>,
    /// The sum of the lengths of `answers`.
    answers_bytes: usize,
    turns: NumberMap<TurnKey, Box<Turn>>,
    /// What there is still to read of turns that are forgotten, for those who listen to them.
    left_logs: NumberMap<TurnKey, EventLog>,
    next_turn: u64,
    turn_timers: BTreeSet<(Time, TurnKey, TurnTimer)>,
    /// The threads with a turn that is not over, or with a subscription.
    threads: HashMap<crate::id::ThreadId, ThreadEntry>,
    /// What is known of threads as such. Length <= `Limits::max_watched_threads`.
    watched: HashMap<crate::id::ThreadId, Watched>,
    /// Threads that were busy, and have starts that wait for them. Empty between calls.
    freed: Vec<crate::id::ThreadId>,
    /// The last ends of turns that were nobody's here. Bounded by `watch::REMEMBERED_ENDS`.
    ends: VecDeque<EndOfOther>,
    subscriptions: NumberMap<SubscriptionKey, Scope>,
    /// How many of them listen to a thread.
    thread_listeners: usize,
    next_subscription: u64,
    /// What belongs to no thread that anybody here has to do with.
    log: EventLog,
    kin: kin::Kin,
    /// The requests that were made before the server's version was known, and what they need.
    unchecked: Vec<(RequestKey, Vec<needs::Need>)>,
    /// What is known of the process of a connection that is not ending.
    evidence: Option<ExitReport>,
    /// Requests of the server that wait for the time of day.
    time_wanted: BTreeMap<ServerRequestKey, RpcId>,
    next_server_request: u64,
    alarms: alarms::Alarms,
    /// What is to be done with the answers to certain requests beside handing them out.
    afters: BTreeMap<RequestKey, follow::After>,
    /// The turns that a resumed thread was found running, until they are fetched with the answer.
    attached: BTreeMap<RequestKey, (TurnKey, SubscriptionKey)>,
    /// What came for turns that are nobody's, while a review on a thread of its own is not answered, or a thread is being
    /// resumed: it may be theirs.
    strays: follow::Strays,
    /// The turns that ended last, whosever they were.
    recent_ends: VecDeque<TurnId>,
    /// What the server told of the settings of threads, and whose sandbox is to be restored.
    settings: settings::Settings,
    /// The requests of the server that the application answers.
    asks: asks::Asks,
    logins: logins::Logins,
    events: VecDeque<Event>,
    diagnostics: VecDeque<Diagnostic>,
    counters: Counters,
    /// Set if and only if what is said and heard is to be kept.
    tap: Option<Box<tap::Tap>>,
    /// When the first line, which is `initialize`, was handed over.
    opened: Option<Time>,
    /// From there to its answer.
    handshake_took: Option<core::time::Duration>,
    /// How many diagnostics there were.
    diagnosed: u64,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("link", &self.link)
            .field("counters", &self.counters())
            .finish_non_exhaustive()
    }
}

/// Making one, and what the outside did.
impl Connection {
    /// A connection that begins with its handshake.
    #[must_use]
    pub fn new(now: Time, config: Config) -> Self {
        let mut connection = Self { link: Link::Connecting, ..Self::unstarted(config) };
        connection.initialize(now);
        connection
    }

    /// A connection without a server yet. What is asked of it waits until somebody [begins](Self::begin) it.
    #[must_use]
    pub fn unstarted(config: Config) -> Self {
        Self {
            framer: Framer::new(config.limits.max_line),
            reader: None,
            link: Link::Idle,
            launching: None,
            superseded: None,
            server: None,
            requests: Requests::new(),
            answers: VecDeque::new(),
            answers_bytes: 0,
            turns: NumberMap::default(),
            left_logs: NumberMap::default(),
            next_turn: 1,
            turn_timers: BTreeSet::new(),
            threads: HashMap::new(),
            watched: HashMap::new(),
            freed: Vec::new(),
            ends: VecDeque::new(),
            subscriptions: NumberMap::default(),
            thread_listeners: 0,
            next_subscription: 1,
            log: EventLog::default(),
            kin: kin::Kin::default(),
            unchecked: Vec::new(),
            evidence: None,
            time_wanted: BTreeMap::new(),
            next_server_request: 1,
            alarms: alarms::Alarms::default(),
            afters: BTreeMap::new(),
            attached: BTreeMap::new(),
            strays: follow::Strays::default(),
            recent_ends: VecDeque::new(),
            settings: settings::Settings::default(),
            asks: asks::Asks::default(),
            logins: logins::Logins::default(),
            events: VecDeque::new(),
            diagnostics: VecDeque::new(),
            counters: Counters::default(),
            tap: config.wants_tap().then(|| tap::Tap::new(config.limits.max_tap_bytes)),
            opened: None,
            handshake_took: None,
            diagnosed: 0,
            config,
        }
    }

    /// Takes bytes that the server wrote, cut anywhere.
    pub fn handle_input(&mut self, now: Time, mut bytes: &[u8]) {
        self.counters.bytes += bytes.len() as u64;
        // The framer lends out its lines, so it stands apart while they are handled.
        let mut framer = core::mem::replace(&mut self.framer, Framer::new(0));
        while let Some(frame) = framer.next_frame(&mut bytes) {
            self.tap_frame(now, &frame);
            self.handle_frame(now, frame);
            if self.has_restores() {
                self.send_restores(now);
            }
            self.start_queued(now);
            if self.answers_bytes > self.config.limits.max_unsent_bytes {
                let waiting = self.answers_bytes;
                let reason = alloc::format!("it asks and does not read: {waiting} bytes of answers wait for it");
                self.drain(now, DisconnectReason::Protocol(reason));
            }
        }
        self.framer = framer;
    }

    /// Takes the end of the server's output. What is complete is delivered first.
    pub fn handle_eof(&mut self, now: Time) {
        let mut framer = core::mem::replace(&mut self.framer, Framer::new(0));
        if let Some(frame) = framer.finish() {
            self.tap_frame(now, &frame);
            self.handle_frame(now, frame);
        }
        self.tap(now, || Step::Eof);
        self.drain(now, DisconnectReason::Eof);
        self.note_eof();
    }

    /// Takes the end of the server's process. Output that is still on its way is waited for, within bounds.
    pub fn handle_exit(&mut self, now: Time, report: ExitReport) {
        self.tap(now, || Step::Exit(report.clone()));
        self.drain(now, DisconnectReason::Exited);
        self.note_exit(now, report);
    }

    /// Takes what is known of the server's process while its end is not: for errors that cannot wait for it.
    pub fn handle_evidence(&mut self, report: ExitReport) {
        self.tap_untimed(|| Step::Evidence(report.clone()));
        self.note_evidence(report);
    }

    /// Takes the failure of the transport. [`DisconnectReason::DriverDropped`] ends everything at once; after any other
    /// failure the server's last words and its exit are waited for, within bounds.
    pub fn handle_disconnect(&mut self, now: Time, reason: DisconnectReason) {
        self.tap(now, || Step::Disconnect(reason.clone()));
        let at_once = matches!(reason, DisconnectReason::DriverDropped);
        self.drain(now, reason);
        if at_once {
            self.finish_link();
        }
    }

    /// Takes that time has passed. Early calls do nothing.
    pub fn handle_timeout(&mut self, now: Time) {
        if self.tap.is_some() && self.poll_timeout().is_some_and(|timeout| timeout.at <= now) {
            self.tap(now, || Step::Timeout);
        }
        while let Some((key, delivery, elapsed)) = self.requests.expire(now) {
            let fault = self.timed_out(delivery, elapsed);
            self.settle_request(now, key, Err(fault));
        }
        self.start_queued(now);
        while let Some((at, key, timer)) = self.turn_timers.first().copied() {
            if at > now {
                break;
            }
            self.turn_timers.remove(&(at, key, timer));
            self.handle_turn_timer(now, key, timer);
        }
        self.send_restores(now);
        self.start_queued(now);
        self.expire_asks(now);
        self.expire_logins(now);
        self.handle_launch_timeout(now);
        self.handle_link_timeout(now);
        self.ring_alarms(now);
        // It was of this moment.
        if self.link.closed().is_none() {
            self.evidence = None;
        }
    }

    fn timed_out(&self, delivery: Delivery, elapsed: Duration) -> Fault {
        Fault::TimedOut { delivery, elapsed, process: self.evidence.clone().map(Box::new) }
    }
}

/// What the outside must do.
impl Connection {
    /// Appends bytes to be written to the server, some tens of kilobytes at a time, and says whether there were any.
    /// From then on they count as sent: whoever polls must write them, in order, or report the failure.
    pub fn poll_transmit(&mut self, now: Time, out: &mut Vec<u8>) -> bool {
        self.send_restores(now);
        let before = out.len();
        while out.len() - before < TRANSMIT_CHUNK {
            if self.link.is_over() {
                break;
            }
            let start = out.len();
            // Before the handshake nothing goes out but `initialize`.
            let answer = if self.is_ready() { self.answers.pop_front() } else { None };
            if let Some(line) = answer {
                self.answers_bytes -= line.len();
                out.extend_from_slice(&line);
            } else if !self.requests.send_next(now, self.window(), self.urgent_window(), out) {
                break;
            }
            self.opened.get_or_insert(now);
            self.tap_sent(now, out, start);
        }
        out.len() > before
    }

    /// Whether [`poll_transmit`](Self::poll_transmit) would yield anything.
    #[must_use]
    pub fn has_transmit(&self) -> bool {
        let has_answer = self.is_ready() && (!self.answers.is_empty() || self.has_restores());
        !self.link.is_over() && (has_answer || self.requests.has_next(self.window(), self.urgent_window()))
    }

    /// Whether the server's input is to be closed, once what was polled is written.
    #[must_use]
    pub fn wants_close_write(&self) -> bool {
        self.link.is_over()
    }

    /// The next moment at which [`handle_timeout`](Self::handle_timeout) is wanted.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Timeout> {
        let request = self.requests.next_due().map(|at| (at, TimeoutReason::Request));
        let turn = self.turn_timers.first().map(|(at, ..)| (*at, TimeoutReason::Turn));
        let drain = self.link.drains_until().map(|at| (at, TimeoutReason::Drain));
        let alarm = self.alarms.next_due().map(|at| (at, TimeoutReason::Alarm));
        let ask = self.next_ask_due().map(|at| (at, TimeoutReason::Ask));
        let login = self.next_login_due().map(|at| (at, TimeoutReason::Login));
        let launch = self.launch_due().map(|at| (at, TimeoutReason::Launch));
        let all = [request, turn, drain, ask, login, alarm, launch];
        all.into_iter().flatten().min().map(|(at, reason)| Timeout { at, reason })
    }

    /// The next edge.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }
}

/// Commands: requests and subscriptions.
impl Connection {
    /// Makes a request.
    ///
    /// # Errors
    /// When the connection is over, when too many requests wait, or when the params cannot be encoded. Nothing was sent
    /// then.
    pub fn request<R: Request>(&mut self, now: Time, params: &R) -> Result<Pending<R>, CallError> {
        self.enter(now, Prepared::new(params)?).map(Pending::new)
    }

    /// Makes a request for which there is no type.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn request_raw<P: Serialize + ?Sized>(
        &mut self,
        now: Time,
        method: impl Into<Cow<'static, str>>,
        params: &P,
    ) -> Result<Pending<Raw>, CallError> {
        self.enter(now, Prepared::raw(method, params)?).map(Pending::new)
    }

    /// Makes a request that is encoded already. [`take_json`](Self::take_json) fetches what came of it.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn enter(&mut self, now: Time, request: Prepared) -> Result<RequestKey, CallError> {
        self.enter_as(now, request, Purpose::Call, Lane::Normal)
    }

    /// Sends a notification.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn notify<P: Serialize + ?Sized>(&mut self, method: &str, params: &P) -> Result<(), CallError> {
        #[derive(Serialize)]
        struct Line<'a, P: ?Sized> {
            method: &'a str,
            params: &'a P,
        }
        if let Some(fault) = self.refusal() {
            return Err(CallError::new(String::from(method), fault));
        }
        let line = serde_json::to_vec(&Line { method, params });
        let line =
            line.map_err(|error| CallError::new(String::from(method), Fault::Encode(alloc::format!("{error}"))))?;
        self.push_answer(line);
        Ok(())
    }

    /// Fetches what came of a request, once: `None` before it is done and after it was fetched.
    pub fn take_response<R: Request>(&mut self, pending: &Pending<R>) -> Option<Result<R::Response, CallError>> {
        let json = self.take_json(pending.key)?;
        Some(json.and_then(|json| decode_response::<R>(&json)))
    }

    /// Fetches what came of a request without a type, once.
    pub fn take_raw(&mut self, pending: &Pending<Raw>) -> Option<Result<Json, CallError>> {
        self.take_json(pending.key)
    }

    /// Fetches what came of a request, not decoded, once.
    pub fn take_json(&mut self, key: RequestKey) -> Option<Result<Json, CallError>> {
        let (method, outcome) = self.requests.take(key)?;
        Some(outcome.map_err(|fault| CallError::new(method, fault)))
    }

    /// Gives a request up because nobody waits any more. If it was not sent, it never is.
    pub fn abandon(&mut self, key: RequestKey) {
        self.tap_untimed(|| Step::Abandon { request: key.0 });
        self.requests.abandon(key);
        self.forget_after(key);
    }

    /// Listens to a turn, a thread or the connection from now on.
    pub fn subscribe(&mut self, scope: Scope) -> SubscriptionKey {
        let turn = if let Scope::Turn(turn) = scope { Some(turn) } else { None };
        let key = SubscriptionKey::new(self.next_subscription, turn);
        self.next_subscription += 1;
        if let Some(log) = self.log_of(&scope, true) {
            log.subscribe(key);
            self.thread_listeners += usize::from(matches!(scope, Scope::Thread(_)));
            self.subscriptions.insert(key, scope);
        }
        key
    }

    /// Stops listening, and forgets what was not read.
    pub fn unsubscribe(&mut self, key: SubscriptionKey) {
        let Some(scope) = self.subscriptions.remove(&key) else { return };
        self.thread_listeners -= usize::from(matches!(scope, Scope::Thread(_)));
        let mut offered = Vec::new();
        self.leave_asks(key);
        if let Some(log) = self.log_of(&scope, false) {
            if let Scope::Turns(_) = scope {
                while let Next::Event(event) = log.next(key) {
                    offered.extend(if let RawEvent::Turn(turn) = event { Some(turn) } else { None });
                }
            }
            log.unsubscribe(key);
        }
        self.drop_offers(offered);
        self.prune_scope(&scope);
    }

    /// The next event of a subscription.
    pub fn next_event(&mut self, key: SubscriptionKey) -> Next {
        self.log_read_by(key).map_or(Next::Finished, |log| log.next(key))
    }

    /// What a subscription reads, if that is still there.
    fn log_read_by(&mut self, key: SubscriptionKey) -> Option<&mut EventLog> {
        match key.turn() {
            Some(turn) => match self.turns.get_mut(&turn) {
                Some(turn) => Some(&mut turn.log),
                None => self.left_logs.get_mut(&turn),
            },
            None => {
                let scope = self.subscriptions.get(&key)?.clone();
                self.log_of(&scope, false)
            }
        }
    }

    /// Takes the events of a subscription that wait, in their order, and appends them to `into`: all of them, unless they
    /// are many. Says whether there will be no more; until then an edge says when there are.
    ///
    /// If `into` is empty it may change places with the queue that it is filled from. So one who takes everything each
    /// time does best to hand in the same queue again.
    pub fn take_events(&mut self, key: SubscriptionKey, into: &mut VecDeque<RawEvent>) -> bool {
        self.take_some(key, into) == Rest::Never
    }

    /// As [`take_events`](Self::take_events); says more of what comes after.
    pub(crate) fn take_some(&mut self, key: SubscriptionKey, into: &mut VecDeque<RawEvent>) -> Rest {
        self.log_read_by(key).map_or(Rest::Never, |log| log.take(key, into))
    }

    /// Answers a request for the time of day, in Unix seconds.
    pub fn respond_time(&mut self, key: ServerRequestKey, unix_seconds: u64) {
        #[derive(Serialize)]
        #[serde(rename_all = "camelCase")]
        struct Time {
            current_time_at: u64,
        }
        if let Some(id) = self.time_wanted.remove(&key) {
            self.answer(&id, &Ok(Time { current_time_at: unix_seconds }));
        }
    }
}

/// Getters.
impl Connection {
    /// What the server said of itself in the handshake.
    #[must_use]
    pub fn server(&self) -> Option<&ServerInfo> {
        self.server.as_ref()
    }

    /// Whether requests can reach the server: the handshake is done and nothing has ended.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        matches!(self.link, Link::Ready)
    }

    /// Why the connection is over, once it is.
    #[must_use]
    pub fn closed(&self) -> Option<&Disconnect> {
        self.link.closed()
    }

    /// What was counted, and what is held.
    #[must_use]
    pub fn counters(&self) -> Counters {
        let turns: usize = self.turns.values().map(|turn| turn.unread_bytes()).sum();
        let turns = turns + self.left_logs.values().map(EventLog::bytes).sum::<usize>();
        let threads: usize = self.threads.values().map(|entry| entry.log.bytes()).sum();
        Counters {
            asks: self.open_asks(),
            logins: self.open_logins(),
            requests: self.requests.len(),
            pending: self.requests.pending(),
            queued: self.requests.queued(),
            tap_lost: self.tap.as_ref().map_or(0, |tap| tap.lost()),
            turns: self.turns.len(),
            threads: self.threads.len(),
            subscriptions: self.subscriptions.len(),
            unread_bytes: self.log.bytes() + self.kin.bytes() + turns + threads,
            ..self.counters
        }
    }

    /// From handing `initialize` over to its answer; `None` before the handshake is done.
    #[must_use]
    pub fn handshake_took(&self) -> Option<core::time::Duration> {
        self.handshake_took
    }

    /// How many diagnostics there were, those that are not remembered any more included.
    #[must_use]
    pub fn diagnosed(&self) -> u64 {
        self.diagnosed
    }

    /// The method of a request that was not fetched yet.
    #[must_use]
    pub fn method_of(&self, key: RequestKey) -> Option<Cow<'static, str>> {
        self.requests.method_of(key)
    }

    /// The last diagnostics, oldest first; see [`Limits::max_diagnostics`].
    pub fn diagnostics(&self) -> impl Iterator<Item = &Diagnostic> {
        self.diagnostics.iter()
    }

    /// The configuration.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }
}

/// Decodes the result of a request into its type.
///
/// # Errors
/// When it does not fit.
pub fn decode_response<R: Request>(json: &Json) -> Result<R::Response, CallError> {
    R::decode_response(json.as_str()).map_err(|error| {
        CallError::new(R::METHOD, Fault::Decode { path: error.path, message: error.message, raw: json.clone() })
    })
}
