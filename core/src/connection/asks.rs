//! The requests of the server that the application answers.
//!
//! A request that somebody wants to answer is entered in a table and offered: to the stream of its turn, if the reader of
//! that stream takes requests; else to the latest [listener](Connection::listen) for its kind. All others are refused at
//! once. What a listener does not take in its time is refused too: code that is never run answers nothing. While one is open
//! everything else flows. It ends once: answered, refused, or closed because the server says that it is resolved, because its
//! turn or its thread ended, because its time is up (then the refusal is written), or with the connection. An answer after
//! that writes nothing and says why.
//!
//! The server sends a request again, under its id, when a thread is resumed. It is the same request then: it is not offered
//! twice, and one answer settles it.

use super::{AnswerError, AskEnd, AskKind, Asked, Connection, Event, ServerRequestKey, refusals, routing::Incoming};
use crate::{
    envelope::{JsonText, Keys, RpcId},
    error::{Disconnect, RpcError},
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    record::Step,
    time::Time,
    turn::{DiagnosticKind, RawEvent, RawNotification, Refused, RefusedWhy, SubscriptionKey, TurnKey},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;
use serde_json::value::RawValue;

/// How far up the tree of threads somebody is looked for who takes a sub-agent's requests.
const MAX_DEPTH: usize = 16;

/// Names one who answers requests. Local to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ListenerKey(u64);

/// What a listener wants.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct ListenFor {
    /// The kinds that are offered to it.
    pub kinds: BTreeSet<AskKind>,
    /// For how long a request of a kind may be open, in place of the configured time.
    pub deadlines: BTreeMap<AskKind, Duration>,
    /// The kinds that it wants refused at once, whoever has said before that he answers them.
    pub refused: BTreeSet<AskKind>,
    /// Whether the requests of every turn whose stream is read go there first.
    pub in_stream: bool,
}

/// What a listener finds.
#[derive(Debug)]
#[non_exhaustive]
pub enum NextAsk {
    /// The next request. From now on it is the application's, until [`Connection::release_ask`].
    Asked(Asked),
    /// No more will come.
    Finished,
    /// Nothing yet. An edge will say when there is.
    Pending,
}

/// Where an open request is.
#[derive(Clone, Debug)]
enum Stage {
    /// With the application.
    Held,
    /// In the stream of a turn, not read yet.
    Offered(SubscriptionKey),
    /// For the stream of a turn that the server has not named yet.
    Parked,
    /// With a listener, not taken yet.
    Queued(ListenerKey),
    /// Over, and the application still has it.
    Settled(AskEnd),
}

#[derive(Clone, Debug)]
struct Entry {
    asked: Asked,
    part: Option<Box<str>>,
    stage: Stage,
    /// When its timer is due: `until`, or before that when a listener has to take it.
    due: Time,
    /// Until when it may be open.
    until: Time,
}

#[derive(Clone, Debug, Default)]
struct Listener {
    wants: ListenFor,
    queue: VecDeque<ServerRequestKey>,
}

/// What makes a request the one that came before under the same id: what it is about. The text is the part of the item, or the
/// page, that it names beside the item.
type Identity = (RpcId, AskKind, Option<ThreadId>, Option<TurnId>, Option<ItemId>, Option<Box<str>>);

/// The table of open requests, and what is kept for them.
#[derive(Clone, Default)]
pub(super) struct Asks {
    /// Those that are open, and those that are over while the application still holds them.
    entries: BTreeMap<ServerRequestKey, Entry>,
    /// The open ones. Length <= `Limits::max_asks`.
    by_id: BTreeMap<RpcId, ServerRequestKey>,
    /// The last that were answered or refused and may be sent again, oldest first, until the server says that they are
    /// resolved. Length <= `Limits::max_asks`.
    answered: VecDeque<Identity>,
    /// One for each open request.
    timers: BTreeSet<(Time, ServerRequestKey)>,
    listeners: BTreeMap<ListenerKey, Listener>,
    next_listener: u64,
    /// Those whose code runs at this moment, and whether it has let go of them.
    guarded: BTreeMap<ServerRequestKey, bool>,
    /// The readers of turns: who would take the turn's requests, and whether for itself or only if a listener says so.
    readers: BTreeMap<TurnKey, (SubscriptionKey, bool)>,
    /// The changes of the file changes under way, oldest first. Length <= `Limits::max_asks`.
    changes: VecDeque<(ThreadId, ItemId, Json)>,
    /// The sum of the lengths of `changes` and of the sizes of the open `entries`. Bounded by `Limits::max_unread_bytes`.
    bytes: usize,
}

/// Commands: the requests of the server.
impl Connection {
    /// Wants to answer requests of these kinds, or have them refused, from now on. For a kind of which several speak, the
    /// latest counts.
    pub fn listen(&mut self, wants: ListenFor) -> ListenerKey {
        self.asks.next_listener += 1;
        let key = ListenerKey(self.asks.next_listener);
        self.asks.listeners.insert(key, Listener { wants, queue: VecDeque::new() });
        key
    }

    /// Stops that. What was offered and not taken is refused; what was taken stays open.
    pub fn unlisten(&mut self, key: ListenerKey) {
        let Some(listener) = self.asks.listeners.remove(&key) else { return };
        for ask in listener.queue {
            self.refuse_ask(ask, RefusedWhy::Unhandled);
        }
        self.events.push_back(Event::Asked(key));
    }

    /// The next request for a listener.
    pub fn next_ask(&mut self, key: ListenerKey) -> NextAsk {
        let is_over = self.link.closed().is_some();
        let Some(listener) = self.asks.listeners.get_mut(&key) else { return NextAsk::Finished };
        while let Some(ask) = listener.queue.pop_front() {
            if let Some(entry) = self.asks.entries.get_mut(&ask) {
                entry.stage = Stage::Held;
                self.asks.timers.remove(&(entry.due, ask));
                entry.due = entry.until;
                self.asks.timers.insert((entry.due, ask));
                return NextAsk::Asked(entry.asked.clone());
            }
        }
        if is_over { NextAsk::Finished } else { NextAsk::Pending }
    }

    /// Makes a reader of a turn the one who is offered the turn's requests, and those of its sub-agents. `at_all_events`:
    /// for itself; otherwise only while a listener says that streams are asked. What it has not taken when it stops
    /// reading is refused.
    pub fn ask_reader(&mut self, turn: TurnKey, reader: SubscriptionKey, at_all_events: bool) {
        if self.turns.contains_key(&turn) {
            self.asks.readers.insert(turn, (reader, at_all_events));
        }
    }

    /// Takes a request that came in the stream of a turn, once: from now on it is the application's, until
    /// [`release_ask`](Self::release_ask). `None`: it is for somebody else, or it is over.
    pub fn claim_ask(&mut self, key: ServerRequestKey, reader: SubscriptionKey) -> Option<Asked> {
        let entry = self.asks.entries.get_mut(&key)?;
        match entry.stage {
            Stage::Offered(to) if to == reader => {
                entry.stage = Stage::Held;
                Some(entry.asked.clone())
            }
            _ => None,
        }
    }

    /// Answers a request, once.
    ///
    /// # Errors
    /// When it is over. Nothing is written then.
    pub fn respond(&mut self, key: ServerRequestKey, answer: Result<Json, RpcError>) -> Result<(), AnswerError> {
        let Some(entry) = self.asks.entries.get(&key) else {
            return Err(AnswerError::AlreadyAnswered);
        };
        match &entry.stage {
            Stage::Settled(AskEnd::Answered(_)) => return Err(AnswerError::AlreadyAnswered),
            Stage::Settled(end) => return Err(AnswerError::Closed(end.clone())),
            _ => {}
        }
        if let Some(cause) = self.link.cause() {
            let end = AskEnd::Disconnected(cause);
            self.end_ask(key, end.clone());
            return Err(AnswerError::Closed(end));
        }
        let (id, kind) = (entry.asked.id.clone(), entry.asked.kind);
        let word = refusals::decision(kind, answer.as_ref().ok());
        self.answer(&id, &answer);
        self.end_ask(key, AskEnd::Answered(word));
        Ok(())
    }

    /// Refuses a request in the shape that its method expects, unless it is over.
    pub fn refuse(&mut self, key: ServerRequestKey) {
        self.refuse_ask(key, RefusedWhy::Unhandled);
    }

    /// Says that the code that was to answer a request of this method failed: it is refused, unless it is over, and a diagnostic
    /// says so.
    pub fn fail_ask(&mut self, key: ServerRequestKey, method: &str) {
        self.counters.handlers_failed += 1;
        self.diagnose(DiagnosticKind::HandlerFailed, method.as_bytes(), method.len() as u64);
        self.refuse_ask(key, RefusedWhy::HandlerFailed);
    }

    /// Keeps a request that the application lets go of, until [`unguard_ask`](Self::unguard_ask): while its code runs that is to
    /// answer, it is not known yet whether it fails.
    pub fn guard_ask(&mut self, key: ServerRequestKey) {
        self.asks.guarded.entry(key).or_insert(false);
    }

    /// Says that the code that was to answer a request has run, for now. If it has failed, [`fail_ask`](Self::fail_ask) is to be
    /// called before.
    pub fn unguard_ask(&mut self, key: ServerRequestKey) {
        if self.asks.guarded.remove(&key) == Some(true) {
            self.release_ask(key);
        }
    }

    /// Says that the application has a request no longer. If it is open it is refused.
    pub fn release_ask(&mut self, key: ServerRequestKey) {
        if let Some(was_let_go) = self.asks.guarded.get_mut(&key) {
            *was_let_go = true;
            return;
        }
        self.refuse_ask(key, RefusedWhy::Unhandled);
        self.asks.entries.remove(&key);
    }

    /// How a request ended; `None` while it is open, while the connection is ending, and once it was released.
    #[must_use]
    pub fn ask_end(&self, key: ServerRequestKey) -> Option<&AskEnd> {
        match &self.asks.entries.get(&key)?.stage {
            Stage::Settled(end) => Some(end),
            _ => None,
        }
    }

    /// Whether a request can still be answered: it is open, and so is the way to the server.
    #[must_use]
    pub fn is_ask_open(&self, key: ServerRequestKey) -> bool {
        let is_open = |entry: &Entry| !matches!(entry.stage, Stage::Settled(_));
        self.link.cause().is_none() && self.asks.entries.get(&key).is_some_and(is_open)
    }
}

/// What comes in.
impl Connection {
    pub(super) fn handle_server_request(
        &mut self,
        now: Time,
        id: RpcId,
        method: &str,
        params: Option<&RawValue>,
        keys: &Keys<'_>,
    ) {
        let kind = AskKind::of_method(method);
        let thread = keys.thread().map(ThreadId::from);
        let turn = keys.turn().map(TurnId::from);
        let named = Named::of(params);
        // A call of a tool, and what old servers ask, name their item by this.
        let item = keys.item().map(ItemId::from).or(named.call);
        let identity = (id, kind, thread, turn, item, named.part);
        if self.is_known_ask(&identity, method) {
            self.counters.replayed += 1;
            return;
        }
        let (id, _, thread, turn, item, part) = identity.clone();
        let message = Incoming { method, kind: None, params: params.map(JsonText::from), keys, emitted_at_ms: None };
        let request = message.raw(thread.clone(), turn.clone());
        let Some(stage) = self.who_is_asked(kind, thread.as_ref(), turn.as_ref()) else {
            self.remember_answered(identity);
            return self.refuse_at_once(id, request, RefusedWhy::NobodyAsked);
        };
        let changes = match (kind, &thread, &item) {
            (AskKind::FileChange, Some(thread), Some(item)) => {
                let mut known = self.asks.changes.iter();
                known.find(|(of, id, _)| of == thread && id == item).map(|(.., changes)| changes.clone())
            }
            _ => None,
        };
        let key = ServerRequestKey(self.next_server_request);
        let parent = thread.as_ref().and_then(|thread| self.parent_of(thread.as_str())).cloned();
        let asked = Asked { key, id: id.clone(), kind, request, item, parent, changes };
        let limits = &self.config.limits;
        if self.asks.by_id.len() < limits.max_asks && asked.size() <= limits.max_unread_bytes {
            self.asks.make_room(asked.size(), usize::MAX, limits.max_unread_bytes);
        }
        let bytes = self.asks.bytes.saturating_add(asked.size());
        if self.asks.by_id.len() >= limits.max_asks || bytes > limits.max_unread_bytes {
            self.remember_answered(identity);
            return self.refuse_at_once(id, asked.request, RefusedWhy::TooMany);
        }
        self.next_server_request += 1;
        let until = now + self.time_for(kind, &stage);
        let event = RawEvent::Asked(Box::new(asked.clone()));
        let queued = match stage {
            Stage::Queued(listener) => Some(listener),
            _ => None,
        };
        let offered = match stage {
            Stage::Offered(reader) => Some(reader),
            _ => None,
        };
        self.tap(now, || Step::Asked);
        self.asks.bytes = bytes;
        self.asks.by_id.insert(id, key);
        self.asks.timers.insert((until, key));
        self.asks.entries.insert(key, Entry { asked, part, stage, due: until, until });
        let shown = self.show(thread.as_ref(), turn.as_ref(), event.clone());
        if let (Some(reader), false) = (offered, shown) {
            // A sub-agent's: its own thread is nobody's here.
            if let Some(turn) = self.asks.reader_turn(reader) {
                self.push_to_turn(turn, event);
            }
        }
        if let Some(listener) = queued {
            self.offer(Some(now), key, listener);
        }
    }

    /// A request that was too long to be kept. Nobody can judge what he has not seen, and silence would stall its turn.
    pub(super) fn refuse_oversized(&mut self, id: RpcId, method: &str) {
        if let Some(known) = self.asks.by_id.get(&id).copied() {
            // The server uses the id for something else, so it has done with the first.
            self.end_ask(known, AskEnd::Resolved);
        }
        let keys = Keys::default();
        let request = Incoming { method, kind: None, params: None, keys: &keys, emitted_at_ms: None }.raw(None, None);
        self.refuse_at_once(id, request, RefusedWhy::TooLarge);
    }

    /// Looks at a notification for what it says about requests.
    pub(super) fn watch_for_asks(&mut self, method: &str, params: Option<JsonText<'_>>, keys: &Keys<'_>) {
        match method {
            "serverRequest/resolved" => {
                if let Some(id) = keys.request_id.map(|id| RpcId::parse(id.get())) {
                    self.asks.answered.retain(|(answered, ..)| *answered != id);
                    let key = self.asks.by_id.get(&id).copied();
                    let fits = |key: &ServerRequestKey| match self.asks.entries.get(key) {
                        Some(Entry { asked: Asked { request, .. }, .. }) => {
                            request.thread.is_none()
                                || keys.thread().is_none()
                                || request.thread.as_ref().map(ThreadId::as_str) == keys.thread()
                        }
                        None => false,
                    };
                    if let Some(key) = key.filter(fits) {
                        self.end_ask(key, AskEnd::Resolved);
                    }
                }
            }
            "turn/completed" => {
                if let (Some(thread), Some(turn)) = (keys.thread(), keys.turn()) {
                    self.end_asks_of_turn(thread, turn);
                }
            }
            "thread/closed" | "thread/deleted" => {
                if let Some(thread) = keys.thread() {
                    self.asks.forget_changes(thread, None);
                    self.end_asks(
                        |asked| asked.request.thread.as_ref().is_some_and(|of| of == thread),
                        &AskEnd::ThreadClosed,
                    );
                }
            }
            "item/started" | "item/fileChange/patchUpdated" => {
                if let (Some(thread), Some(item), Some(params)) = (keys.thread(), keys.item(), params) {
                    let limits = (self.config.limits.max_asks, self.config.limits.max_unread_bytes);
                    self.asks.note_changes(thread, item, params, limits);
                }
            }
            "item/completed" => {
                if let (Some(thread), Some(item)) = (keys.thread(), keys.item()) {
                    self.asks.forget_changes(thread, Some(item));
                }
            }
            _ => {}
        }
    }

    /// Time has passed.
    pub(super) fn expire_asks(&mut self, now: Time) {
        while let Some((due, key)) = self.asks.timers.first().copied() {
            if due > now {
                break;
            }
            self.asks.timers.remove(&(due, key));
            let is_before = self.asks.entries.get(&key).is_some_and(|entry| entry.due < entry.until);
            self.refuse_ask(key, if is_before { RefusedWhy::NotTaken } else { RefusedWhy::Deadline });
        }
    }

    pub(super) fn next_ask_due(&self) -> Option<Time> {
        self.asks.timers.first().map(|(due, _)| *due)
    }

    /// A turn is over for the server.
    pub(super) fn end_asks_of_turn(&mut self, thread: &str, turn: &str) {
        self.asks.forget_changes(thread, None);
        let is_of_turn = |asked: &Asked| {
            let request = &asked.request;
            request.thread.as_ref().is_some_and(|of| of == thread)
                && match &request.turn {
                    Some(of) => of == turn,
                    None => asked.kind.is_legacy(),
                }
        };
        self.end_asks(is_of_turn, &AskEnd::TurnEnded);
    }

    /// The connection is over.
    pub(super) fn lose_asks(&mut self, cause: &Disconnect) {
        self.end_asks(|_| true, &AskEnd::Disconnected(cause.clone()));
        self.asks.answered.clear();
        self.asks.changes.clear();
        self.asks.bytes = 0;
        for key in self.asks.listeners.keys() {
            self.events.push_back(Event::Asked(*key));
        }
    }

    /// A reader leaves: what it did not take is refused.
    pub(super) fn leave_asks(&mut self, reader: SubscriptionKey) {
        self.asks.readers.retain(|_, (known, _)| *known != reader);
        let is_offered = |entry: &Entry| matches!(entry.stage, Stage::Offered(to) if to == reader);
        let left: Vec<ServerRequestKey> =
            self.asks.entries.iter().filter(|(_, entry)| is_offered(entry)).map(|(key, _)| *key).collect();
        for key in left {
            self.refuse_ask(key, RefusedWhy::Unhandled);
        }
    }

    /// A turn was named: a request that waited for that and was put into its stream is offered there.
    pub(super) fn offer_parked(&mut self, key: ServerRequestKey, turn: TurnKey) {
        let reader = self.asks.readers.get(&turn).map(|(reader, _)| *reader);
        if let (Some(entry), Some(reader)) = (self.asks.entries.get_mut(&key), reader) {
            if matches!(entry.stage, Stage::Parked) {
                entry.stage = Stage::Offered(reader);
            }
        }
    }

    /// No turn of this thread waits for its name any more: what waited with it goes to the next who may answer.
    /// `now`: `None` where that is not known; then a listener has all of their time to take them up.
    pub(super) fn unpark_asks(&mut self, now: Option<Time>, thread: &ThreadId) {
        let is_parked =
            |entry: &Entry| matches!(entry.stage, Stage::Parked) && entry.asked.request.thread.as_ref() == Some(thread);
        let parked = self.asks.entries.iter().filter(|(_, entry)| is_parked(entry));
        let parked: Vec<(ServerRequestKey, AskKind)> = parked.map(|(key, entry)| (*key, entry.asked.kind)).collect();
        for (key, kind) in parked {
            match self.asks.listener_for(kind) {
                Some(listener) => self.offer(now, key, listener),
                None => self.refuse_ask(key, RefusedWhy::NobodyAsked),
            }
        }
    }

    pub(super) fn open_asks(&self) -> usize {
        self.asks.entries.len()
    }
}

/// Within.
impl Connection {
    /// Whether the request is one that is open, or was answered and is not resolved.
    fn is_known_ask(&mut self, identity: &Identity, method: &str) -> bool {
        if self.asks.answered.contains(identity) {
            return true;
        }
        let (id, _, thread, turn, item, part) = identity;
        let Some(known) = self.asks.by_id.get(id).copied() else { return false };
        let is_same = self.asks.entries.get(&known).is_some_and(|entry| {
            let Asked { request, item: known, .. } = &entry.asked;
            *request.method == *method
                && (&request.thread, &request.turn, known, &entry.part) == (thread, turn, item, part)
        });
        if !is_same {
            // The server uses the id for something else, so it has done with the first.
            self.end_ask(known, AskEnd::Resolved);
        }
        is_same
    }

    /// Remembers a request that has its answer: a replay that was under way then is the same request still.
    fn remember_answered(&mut self, identity: Identity) {
        let (_, kind, thread, ..) = &identity;
        // Only what belongs to a thread is sent again, and no server says of these that they are resolved.
        if thread.is_none() || matches!(kind, AskKind::Attestation | AskKind::CurrentTime | AskKind::TokenRefresh) {
            return;
        }
        if self.asks.answered.len() >= self.config.limits.max_asks {
            self.asks.answered.pop_front();
        }
        self.asks.answered.push_back(identity);
    }

    /// Whose the request is; `None`: nobody's.
    fn who_is_asked(&self, kind: AskKind, thread: Option<&ThreadId>, turn: Option<&TurnId>) -> Option<Stage> {
        if self.link.is_over() {
            return None;
        }
        let listener = || self.asks.listener_for(kind).map(Stage::Queued);
        let stream = || if kind.is_for_streams() { self.stream_for(kind, thread?, turn) } else { None };
        // A tool has somebody who registered it; a person who reads the stream is the second choice.
        if kind == AskKind::ToolCall { listener().or_else(stream) } else { stream().or_else(listener) }
    }

    /// The stream that takes the request.
    fn stream_for(&self, kind: AskKind, thread: &ThreadId, named: Option<&TurnId>) -> Option<Stage> {
        let mut latest_first = self.asks.listeners.values().rev().map(|listener| &listener.wants);
        let decides = latest_first.find(|wants| wants.in_stream || wants.refused.contains(&kind));
        let in_stream = decides.is_some_and(|wants| wants.in_stream);
        let (mut thread, mut named, mut is_own) = (thread, named, true);
        for _ in 0..MAX_DEPTH {
            if let Some(live) = self.threads.get(thread).and_then(|entry| entry.live) {
                let (reader, at_all_events) = *self.asks.readers.get(&live)?;
                let turn = self.turns.get(&live)?;
                return match (&turn.id, named) {
                    _ if !at_all_events && !in_stream => None,
                    (Some(_), Some(named)) if !turn.is_named(named.as_str()) => None,
                    (None, Some(_)) => Some(Stage::Parked),
                    // A sub-agent's turn is not the turn that waits above it.
                    (None, None) if is_own => None,
                    _ => Some(Stage::Offered(reader)),
                };
            }
            thread = self.parent_of(thread.as_str())?;
            (named, is_own) = (None, false);
        }
        None
    }

    /// How long it may be open.
    fn time_for(&self, kind: AskKind, stage: &Stage) -> Duration {
        let own = match stage {
            Stage::Queued(listener) => self.asks.listeners.get(listener),
            _ => None,
        };
        let timeouts = &self.config.timeouts;
        own.and_then(|listener| listener.wants.deadlines.get(&kind).copied()).unwrap_or(match kind {
            AskKind::Attestation => timeouts.attestation,
            AskKind::CurrentTime | AskKind::TokenRefresh => timeouts.token_refresh,
            _ => timeouts.ask,
        })
    }

    fn offer(&mut self, now: Option<Time>, key: ServerRequestKey, to: ListenerKey) {
        let Some(entry) = self.asks.entries.get_mut(&key) else { return };
        entry.stage = Stage::Queued(to);
        self.asks.timers.remove(&(entry.due, key));
        let soon = now.map_or(entry.until, |now| now + self.config.timeouts.take_ask);
        entry.due = entry.until.min(soon);
        self.asks.timers.insert((entry.due, key));
        if let Some(listener) = self.asks.listeners.get_mut(&to) {
            listener.queue.push_back(key);
            self.events.push_back(Event::Asked(to));
        }
    }

    /// Refuses what was never open.
    pub(super) fn refuse_at_once(&mut self, id: RpcId, request: RawNotification, why: RefusedWhy) {
        match refusals::refusal(&request.method) {
            refusals::Refusal::Time if self.time_wanted.len() >= super::routing::MAX_TIME_WANTED => {
                self.answer::<()>(&id, &Err(RpcError::new(-32603, "too many requests for the time of day are open")));
            }
            refusals::Refusal::Time => {
                let key = ServerRequestKey(self.next_server_request);
                self.next_server_request += 1;
                self.time_wanted.insert(key, id);
                self.events.push_back(Event::TimeWanted(key));
                return;
            }
            refusal => self.write_refusal(&id, refusal),
        }
        self.show_refused(id, request, why);
    }

    /// Refuses what is open.
    fn refuse_ask(&mut self, key: ServerRequestKey, why: RefusedWhy) {
        let Some(entry) = self.asks.entries.get(&key).filter(|entry| !matches!(entry.stage, Stage::Settled(_))) else {
            return;
        };
        let (id, request) = (entry.asked.id.clone(), entry.asked.request.clone());
        match refusals::refusal(&request.method) {
            // Somebody wanted to tell the time and did not. The time of day grants nothing.
            refusals::Refusal::Time if self.time_wanted.len() < super::routing::MAX_TIME_WANTED => {
                self.time_wanted.insert(key, id.clone());
                self.events.push_back(Event::TimeWanted(key));
            }
            refusals::Refusal::Time => {
                self.answer::<()>(&id, &Err(RpcError::new(-32603, "the time of day is not known")));
            }
            refusal => self.write_refusal(&id, refusal),
        }
        self.end_ask(key, AskEnd::Refused(why));
        self.show_refused(id, request, why);
    }

    fn write_refusal(&mut self, id: &RpcId, refusal: refusals::Refusal) {
        match refusal {
            refusals::Refusal::Error(error) => self.answer::<()>(id, &Err(error)),
            refusals::Refusal::Result(result) => {
                if let Ok(result) = serde_json::from_str::<&RawValue>(result) {
                    self.answer(id, &Ok(result));
                }
            }
            refusals::Refusal::Time => {}
        }
    }

    fn show_refused(&mut self, id: RpcId, request: RawNotification, why: RefusedWhy) {
        self.counters.refused += 1;
        let (thread, turn) = (request.thread.clone(), request.turn.clone());
        let event = RawEvent::Refused(Refused { id, notification: request, why }.into());
        self.show(thread.as_ref(), turn.as_ref(), event);
    }

    fn end_asks(&mut self, is_meant: impl Fn(&Asked) -> bool, end: &AskEnd) {
        let open = self.asks.entries.iter().filter(|(_, entry)| !matches!(entry.stage, Stage::Settled(_)));
        let meant: Vec<ServerRequestKey> =
            open.filter(|(_, entry)| is_meant(&entry.asked)).map(|(key, _)| *key).collect();
        for key in meant {
            self.end_ask(key, end.clone());
        }
    }

    /// Ends a request that is open: the only way in which one does.
    fn end_ask(&mut self, key: ServerRequestKey, end: AskEnd) {
        let Some(entry) = self.asks.entries.get_mut(&key) else { return };
        let is_held = match &entry.stage {
            Stage::Settled(_) => return,
            Stage::Held => true,
            Stage::Queued(listener) => {
                if let Some(listener) = self.asks.listeners.get_mut(listener) {
                    listener.queue.retain(|queued| *queued != key);
                }
                false
            }
            Stage::Offered(_) | Stage::Parked => false,
        };
        entry.stage = Stage::Settled(end.clone());
        let (asked, part) = (entry.asked.clone(), entry.part.clone());
        self.asks.timers.remove(&(entry.due, key));
        self.asks.by_id.remove(&asked.id);
        self.asks.bytes = self.asks.bytes.saturating_sub(asked.size());
        if !is_held {
            self.asks.entries.remove(&key);
        }
        self.events.push_back(Event::AskEnded(key));
        if let AskEnd::Answered(_) | AskEnd::Refused(_) = &end {
            let Asked { id, kind, request, item, .. } = asked.clone();
            self.remember_answered((id, kind, request.thread, request.turn, item, part));
        }
        if !matches!(end, AskEnd::Refused(_)) {
            let (thread, turn) = (asked.request.thread.clone(), asked.request.turn.clone());
            self.show(thread.as_ref(), turn.as_ref(), RawEvent::AskEnded(Box::new(asked), end));
        }
    }
}

/// What a request names beside the keys by which it is routed.
#[derive(Default)]
struct Named {
    call: Option<ItemId>,
    part: Option<Box<str>>,
}

impl Named {
    /// What is missing, or is no text, is not named.
    fn of(params: Option<&RawValue>) -> Self {
        #[derive(Default, serde::Deserialize)]
        #[serde(default, rename_all = "camelCase")]
        struct Params {
            call_id: Option<Json>,
            approval_id: Option<Json>,
            elicitation_id: Option<Json>,
        }
        let read = params.and_then(|params| serde_json::from_str::<Params>(params.get()).ok());
        let Params { call_id, approval_id, elicitation_id } = read.unwrap_or_default();
        let text = |json: Option<Json>| json.and_then(|json| json.decode::<Box<str>>().ok());
        Self { call: text(call_id).map(|call| ItemId::from(&*call)), part: text(approval_id).or(text(elicitation_id)) }
    }
}

impl Asks {
    /// The latest who has something to say about a kind, unless that is no.
    fn listener_for(&self, kind: AskKind) -> Option<ListenerKey> {
        let mut latest_first = self.listeners.iter().rev().map(|(key, listener)| (*key, &listener.wants));
        let decides = latest_first.find(|(_, wants)| wants.kinds.contains(&kind) || wants.refused.contains(&kind));
        decides.filter(|(_, wants)| wants.kinds.contains(&kind)).map(|(key, _)| key)
    }

    fn reader_turn(&self, reader: SubscriptionKey) -> Option<TurnKey> {
        self.readers.iter().find(|(_, (known, _))| *known == reader).map(|(turn, _)| *turn)
    }

    pub(super) fn forget_turn(&mut self, turn: TurnKey) {
        self.readers.remove(&turn);
    }

    fn note_changes(&mut self, thread: &str, item: &str, params: JsonText<'_>, limits: (usize, usize)) {
        #[derive(serde::Deserialize)]
        struct Params<'a> {
            #[serde(borrow)]
            item: Option<Item<'a>>,
            #[serde(borrow)]
            changes: Option<&'a RawValue>,
        }
        #[derive(serde::Deserialize)]
        struct Item<'a> {
            #[serde(borrow)]
            changes: Option<&'a RawValue>,
        }
        if memchr::memmem::find(params.as_bytes(), b"\"changes\"").is_none() {
            return;
        }
        let Ok(params) = serde_json::from_slice::<Params<'_>>(params.as_bytes()) else { return };
        let Some(changes) = params.changes.or(params.item.and_then(|item| item.changes)) else { return };
        self.forget_changes(thread, Some(item));
        let (max, max_bytes) = limits;
        self.bytes = self.bytes.saturating_add(changes.get().len());
        self.changes.push_back((thread.into(), item.into(), changes.into()));
        self.make_room(0, max, max_bytes);
    }

    /// Forgets the oldest changes until there are no more than so many, and so many bytes more find room.
    fn make_room(&mut self, more: usize, max: usize, max_bytes: usize) {
        while self.changes.len() > max || self.bytes.saturating_add(more) > max_bytes {
            let Some((.., gone)) = self.changes.pop_front() else { return };
            self.bytes = self.bytes.saturating_sub(gone.as_str().len());
        }
    }

    /// Forgets the changes of an item, or of all items of a thread.
    fn forget_changes(&mut self, thread: &str, item: Option<&str>) {
        let bytes = &mut self.bytes;
        self.changes.retain(|(of, id, changes)| {
            let is_meant = of == thread && item.is_none_or(|item| id == item);
            if is_meant {
                *bytes = bytes.saturating_sub(changes.as_str().len());
            }
            !is_meant
        });
    }
}
