//! Which event belongs to whom.
//!
//! A notification goes to its turn, if that is one of ours, and to its thread, if anybody listens there. What belongs to
//! no thread, or to one that nobody here has to do with, goes to the connection. Events of a turn that the server has
//! named before it answered our `turn/start` are parked with the thread until the answer comes.

use super::{Connection, Counters, Event, Limits};
use crate::{
    envelope::{JsonText, Keys},
    id::{ThreadId, TurnId},
    time::Time,
    turn::{
        Delta, DeltaKind, DeltaOrigin, EventLog, Origin, Policy, RawEvent, RawNotification, SubscriptionKey, TurnKey,
    },
};
use alloc::{boxed::Box, collections::VecDeque, string::String, sync::Arc, vec::Vec};
use bytes::Bytes;
use serde::Serialize;

/// How many requests for the time of day may be open. Whoever drives the connection answers each at once.
pub(super) const MAX_TIME_WANTED: usize = 64;

/// The first server whose turns name the turn that they belong to.
const ROOTS_SINCE: &str = "0.163.0";

/// The longest end of a turn that is parked as it came where there is no room, in bytes. Of a longer one it is known how the
/// turn ended.
const MAX_PARKED_END: usize = 64 * 1024;

/// How many ends of turns are parked where there is no room for anything else.
const MAX_PARKED_ENDS: usize = 64;

/// The end of a turn without what it says beside that.
fn end_in_short(keys: &Keys<'_>) -> Vec<u8> {
    #[derive(Serialize)]
    struct Line<'a> {
        method: &'a str,
        params: Params<'a>,
    }
    #[derive(Serialize)]
    #[serde(rename_all = "camelCase")]
    struct Params<'a> {
        thread_id: Option<&'a str>,
        turn: Turn<'a>,
    }
    #[derive(Serialize)]
    struct Turn<'a> {
        id: Option<&'a str>,
        status: Option<&'a str>,
    }
    let turn = Turn { id: keys.turn(), status: keys.status.as_deref() };
    let params = Params { thread_id: keys.thread(), turn };
    // Nothing here can fail to encode.
    serde_json::to_vec(&Line { method: "turn/completed", params }).unwrap_or_default()
}

/// What a subscription listens to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Scope {
    /// What belongs to no thread, or to one that nobody here has to do with; and diagnostics.
    Connection,
    /// Everything about a thread, its turns included, whoever started them.
    Thread(ThreadId),
    /// The same about a thread and those of all sub-agents below it.
    Tree(ThreadId),
    /// One turn that was started here.
    Turn(TurnKey),
    /// The turns that begin on a thread and were not started here: goals, reviews, compactions, shell commands, what waits in
    /// the server's own queue, and what other clients start. Each comes as [`RawEvent::Turn`], which whoever reads it owns:
    /// [`Connection::claim_turn`] gives its events from the first one on, and it is released like any other.
    Turns(ThreadId),
}

/// A thread with a turn of ours that is not over, or with a subscription.
#[derive(Clone, Default)]
pub(super) struct ThreadEntry {
    /// The turn of ours that is not over for the server. At most one: the server would join a second to the first.
    pub(super) live: Option<TurnKey>,
    /// The turns that wait for their start, in the order of the calls. Length <= `Limits::max_queued_turns`.
    pub(super) queue: VecDeque<TurnKey>,
    pub(super) log: EventLog,
    /// For those who follow the turns that were not started here.
    pub(super) turns_log: EventLog,
    /// What came for turns that are not known, while a start of ours is not answered. Length <=
    /// twice `Limits::max_parked_events`.
    parked: VecDeque<Parked>,
    /// The sum of the lengths of the lines in `parked`.
    parked_bytes: usize,
    /// Events that found no room there.
    unparked: u64,
}

#[derive(Clone)]
struct Parked {
    turn: TurnId,
    worth: Worth,
    what: What,
}

#[derive(Clone)]
enum What {
    Line(Box<[u8]>),
    Event(RawEvent),
}

/// What is parked where room is short.
#[derive(Clone, Copy)]
enum Worth {
    Any,
    Delta,
    End,
}

impl ThreadEntry {
    pub(super) fn is_idle(&self) -> bool {
        self.live.is_none() && self.log.is_unheard() && self.turns_log.is_unheard() && self.queue.is_empty()
    }

    /// Whether there is no room for so many bytes more, but for what has to be kept.
    fn is_crammed(&self, more: usize, limits: &Limits) -> bool {
        let bytes = self.parked_bytes.saturating_add(more);
        self.parked.len() >= limits.max_parked_events.saturating_mul(2) || bytes > limits.max_unread_bytes
    }

    /// Parks something, if there is room: half of it is for what is no delta.
    fn park(&mut self, turn: &str, worth: Worth, limits: &Limits, what: What) {
        let line = match &what {
            What::Line(line) => line.len(),
            What::Event(event) => event.size(),
        };
        let (count, bytes) = (self.parked.len(), self.parked_bytes.saturating_add(line));
        let is_full = count >= limits.max_parked_events || bytes > limits.max_unread_bytes / 2;
        let is_crammed = self.is_crammed(line, limits);
        let has_room = match worth {
            Worth::Delta => !is_full,
            Worth::Any => !is_crammed,
            // Without it the turn would never end. One for each turn, and so many turns no server runs meanwhile.
            Worth::End => {
                let ends = || self.parked.iter().filter(|parked| matches!(parked.worth, Worth::End));
                !is_crammed || (ends().count() < MAX_PARKED_ENDS && !ends().any(|parked| parked.turn == turn))
            }
        };
        if !has_room {
            self.unparked += 1;
            return;
        }
        self.parked_bytes = bytes;
        self.parked.push_back(Parked { turn: turn.into(), what, worth });
    }

    /// Whether anything came for a turn that is not known.
    pub(super) fn has_parked(&self) -> bool {
        !self.parked.is_empty() || self.unparked > 0
    }

    /// Takes everything that is parked, and how much found no room.
    fn unpark(&mut self) -> (VecDeque<Parked>, u64) {
        self.parked_bytes = 0;
        (core::mem::take(&mut self.parked), core::mem::take(&mut self.unparked))
    }
}

/// Where the pieces of text of an item go, as long as nobody else is to hear of them.
#[derive(Clone)]
pub(super) struct Route {
    turn: TurnKey,
    kind: DeltaKind,
    /// That of the turn's last piece; when the turn has another, this leads nowhere.
    origin: Arc<DeltaOrigin>,
}

impl Connection {
    /// Gives a piece of text to the turn that it is for, if nothing else follows from it, as with most lines. Says whether it
    /// did; otherwise nothing was done.
    pub(super) fn handle_piece(&mut self, route: &Route, text: &str) -> bool {
        let (policy, is_overheard) = (self.policy(), self.is_overheard());
        let Some(turn) = self.turns.get_mut(&route.turn) else { return false };
        if is_overheard || !turn.goes_on_with(&route.origin) {
            return false;
        }
        if turn.is_held() {
            turn.note_text(route.kind, &route.origin.item, text);
        }
        if !turn.log.is_unheard() {
            let delta = Delta {
                kind: route.kind,
                origin: Arc::clone(&route.origin),
                index: None,
                text: String::from(text),
                merged: 0,
                raw: None,
            };
            push(&mut turn.log, RawEvent::Delta(delta), policy, &mut self.events, &mut self.counters);
        }
        true
    }

    /// Where the next pieces go that begin as this one did, which was handled just now.
    pub(super) fn route_of(&self, method: &str, keys: &Keys<'_>) -> Option<Route> {
        let kind = keys.delta.as_ref().and_then(|_| DeltaKind::of_method(method))?;
        if self.is_overheard() {
            return None;
        }
        let turn = self.threads.get(keys.thread()?)?.live?;
        let origin = self.turns.get(&turn)?.origin()?;
        let is_same = origin.item == keys.item()? && origin.turn == keys.turn()? && origin.thread == keys.thread()?;
        is_same.then(|| Route { turn, kind, origin: Arc::clone(origin) })
    }

    /// Whether anybody may hear of what goes to a turn beside those who listen to the turn.
    fn is_overheard(&self) -> bool {
        self.thread_listeners > 0 || self.kin.is_followed()
    }

    pub(super) fn handle_notification(
        &mut self,
        now: Time,
        line: &[u8],
        method: &str,
        params: Option<JsonText<'_>>,
        keys: &Keys<'_>,
        emitted_at_ms: Option<i64>,
    ) {
        let message = Incoming { method, kind: DeltaKind::of_method(method), params, keys, emitted_at_ms };
        let policy = self.policy();
        // A piece of text begins and ends nothing.
        if message.kind.is_none() {
            self.watch_for_asks(method, params, keys);
            self.watch_for_logins(method, params);
            self.watch(method, keys, params);
            self.note_kin(method, params, keys);
            self.note_settings(method, params);
        }
        let is_in_tree = match keys.thread().filter(|_| self.kin.is_followed()) {
            Some(thread) => {
                let event = message.event(None, || message.ids());
                self.offer_to_trees(thread, event)
            }
            None => false,
        };
        let Some(entry) = keys.thread().and_then(|thread| self.threads.get_mut(thread)) else {
            self.note_stray(line, keys);
            if !self.log.is_unheard() && !is_in_tree {
                let event = message.event(None, || message.ids());
                push(&mut self.log, event, policy, &mut self.events, &mut self.counters);
            }
            if method == "turn/completed" {
                self.remember_end(keys, params);
                self.note_end(keys);
            }
            return;
        };
        if !entry.log.is_unheard() {
            let event = message.event(None, || message.ids());
            push(&mut entry.log, event, policy, &mut self.events, &mut self.counters);
        }
        match (entry.live, keys.thread()) {
            (Some(key), _) => self.handle_for_turn(now, key, line, &message, false),
            (None, Some(thread)) => {
                self.note_stray(line, keys);
                if method == "turn/completed" {
                    self.remember_end(keys, params);
                }
                self.prune_thread(thread);
            }
            (None, None) => {}
        }
        match (method, keys.thread(), keys.turn()) {
            ("turn/started", Some(thread), Some(turn)) => {
                self.handle_turn_of_other(now, &thread.into(), &turn.into(), line, &message);
            }
            ("turn/completed", ..) => self.note_end(keys),
            _ => {}
        }
    }

    /// A turn began. If it is none of ours, those who follow the turns of its thread are told, and it gets its first event.
    fn handle_turn_of_other(
        &mut self,
        now: Time,
        thread: &ThreadId,
        turn: &TurnId,
        line: &[u8],
        message: &Incoming<'_>,
    ) {
        if !self.offer_turn(now, thread, turn, message.keys.root_turn_id.as_deref()) {
            return;
        }
        let live = self.threads.get(thread).and_then(|entry| entry.live);
        let Some(key) = live.filter(|key| self.turns.get(key).is_some_and(|turn| !turn.unclaimed.is_empty())) else {
            return;
        };
        self.handle_for_turn(now, key, line, message, false);
    }

    /// Gives a message of the turn's thread to the turn, if it is the turn's.
    fn handle_for_turn(&mut self, now: Time, key: TurnKey, line: &[u8], message: &Incoming<'_>, is_replay: bool) {
        let policy = self.policy();
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let Incoming { method, kind, params, keys, .. } = *message;
        let Some(named) = keys.turn() else {
            match (method, keys.status.as_deref()) {
                // After an error of the system as after idleness: the end follows at once, or was missed.
                ("thread/status/changed", Some("idle" | "systemError")) => self.handle_thread_idle(now, key),
                ("thread/status/changed", Some("notLoaded"))
                | ("thread/archived" | "thread/closed" | "thread/deleted", _) => self.handle_thread_gone(now, key),
                ("thread/status/changed", status) => {
                    if status == Some("active") {
                        self.handle_thread_active(key);
                    }
                    self.hear_asking(now, key, super::watch::is_asking(params));
                }
                _ => {}
            }
            return;
        };
        let Some(id) = &turn.id else {
            let shown = turn.shows_itself(method, keys, params);
            if let (false, Some(entry)) = (is_replay, self.threads.get_mut(&turn.thread)) {
                let worth = match method {
                    "turn/completed" => Worth::End,
                    _ if kind.is_some() => Worth::Delta,
                    _ => Worth::Any,
                };
                let limits = &self.config.limits;
                let is_too_long = line.len() > MAX_PARKED_END && entry.is_crammed(line.len(), limits);
                let line = match worth {
                    Worth::End if is_too_long => end_in_short(keys).into(),
                    _ => line.into(),
                };
                entry.park(named, worth, limits, What::Line(line));
            }
            if let Some(id) = shown {
                self.name_turn(now, key, id);
            }
            return;
        };
        if !turn.is_named(named) {
            if method == "turn/started" {
                // A review runs under another id than its own, and newer servers say so.
                let is_root = match (keys.root_turn_id.as_deref(), &turn.origin) {
                    (Some(root), _) => root == id.as_str(),
                    (None, Origin::Review) => true,
                    (None, Origin::Attached) => self.may_be_older_than(ROOTS_SINCE),
                    (None, _) => false,
                };
                if is_root {
                    if let (Some(_), Some(turn)) = (&keys.root_turn_id, self.turns.get_mut(&key)) {
                        turn.also = Some(named.into());
                    }
                    self.handle_evidence_of_turn(now, key);
                } else {
                    self.handle_overtaken(key);
                }
            } else if self.is_renamed(key, method, named, params) {
                // From here on the turn is this one.
                self.rename_turn(now, key, named.into());
                self.handle_for_turn(now, key, line, message, is_replay);
            } else if method == "turn/completed" {
                self.handle_end_of_other(now, key, Some(named));
            }
            return;
        }
        let is_end = kind.is_none() && method == "turn/completed";
        // Of an item that adds to its text there is nothing more to collect than that it was seen.
        let origin = kind.and(keys.delta.as_ref()).and(keys.item()).and_then(|item| turn.origin_of(item));
        let mut is_mismatch = false;
        if let (false, Some(params)) = (is_end, params) {
            match (kind, &origin, keys.delta.as_deref(), keys.item()) {
                _ if !turn.is_held() => {}
                (Some(kind), Some(origin), Some(text), _) => turn.note_text(kind, &origin.item, text),
                (None, _, _, Some(item)) if method == "item/completed" => {
                    is_mismatch = turn.is_other_text(item, params)
                }
                _ => {}
            }
            if origin.is_none() {
                turn.collect(method, keys.item(), params);
            }
        }
        if is_mismatch {
            self.diagnose(crate::turn::DiagnosticKind::TextMismatch, line, line.len() as u64);
        }
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if !turn.log.is_unheard() {
            let event = message.event(origin, || (Some(turn.thread.clone()), turn.id.clone()));
            push(&mut turn.log, event, policy, &mut self.events, &mut self.counters);
        }
        if turn.is_unmoved_by_evidence() && !is_end {
            return;
        }
        if is_end {
            let ended = turn.end_by_server(keys.status.as_deref(), params.unwrap_or(JsonText::NULL));
            self.handle_turn_over(key, ended);
        } else {
            self.hear_turn(now, key, method, keys.item(), params);
            self.handle_evidence_of_turn(now, key);
        }
    }

    /// Gives a turn a notification that came before it was known to be the turn's.
    pub(super) fn replay_for_turn(&mut self, now: Time, key: TurnKey, line: &[u8]) {
        let Ok(envelope) = crate::envelope::Envelope::parse(line) else { return };
        let crate::envelope::Message::Notification { method, params, keys } = envelope.message else { return };
        let (kind, emitted_at_ms) = (DeltaKind::of_method(&method), envelope.emitted_at_ms);
        let message = Incoming { method: &method, kind, params, keys: &keys, emitted_at_ms };
        self.handle_for_turn(now, key, line, &message, true);
    }

    /// Gives a turn that has just been named what came before its name.
    pub(super) fn replay_parked(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get(&key) else { return };
        let thread = turn.thread.clone();
        let Some(entry) = self.threads.get_mut(&thread) else { return };
        let (parked, unparked) = entry.unpark();
        if unparked > 0 {
            self.counters.left_out += unparked;
            if let Some(turn) = self.turns.get_mut(&key) {
                turn.is_partial = true;
                turn.written.give_up();
            }
        }
        let mut gap = (unparked > 0).then_some(RawEvent::Gap(unparked));
        for Parked { turn: named, what, worth } in parked {
            let id = self.turns.get(&key).and_then(|turn| turn.id.as_ref());
            if Some(&named) != id && !matches!((&what, self.may_be_dead(key)), (What::Line(_), true)) {
                continue;
            }
            if matches!(worth, Worth::End) {
                // What found no room came before the end.
                gap.take().into_iter().for_each(|gap| self.push_to_turn(key, gap));
            }
            match what {
                What::Event(event) => {
                    if let RawEvent::Asked(asked) = &event {
                        self.offer_parked(asked.key, key);
                    }
                    self.push_to_turn(key, event);
                }
                What::Line(line) => self.replay_for_turn(now, key, &line),
            }
        }
        gap.into_iter().for_each(|gap| self.push_to_turn(key, gap));
        self.unpark_asks(Some(now), &thread);
    }

    /// Forgets what was parked for a turn that will not be named.
    pub(super) fn drop_parked(&mut self, now: Option<Time>, thread: &ThreadId) {
        if let Some(entry) = self.threads.get_mut(thread) {
            drop(entry.unpark());
        }
        self.unpark_asks(now, thread);
    }

    /// Shows an event to whoever listens to its turn and its thread, or to the connection if it has nothing to do with
    /// either. Says whether the turn has it, or will have it once it is named.
    pub(super) fn show(&mut self, thread: Option<&ThreadId>, turn: Option<&TurnId>, event: RawEvent) -> bool {
        let policy = self.policy();
        if let Some(thread) = thread.filter(|_| self.kin.is_followed()) {
            self.offer_to_trees(thread.as_str(), event.clone());
        }
        let Some(entry) = thread.and_then(|thread| self.threads.get_mut(thread)) else {
            push(&mut self.log, event, policy, &mut self.events, &mut self.counters);
            return false;
        };
        if !entry.log.is_unheard() {
            push(&mut entry.log, event.clone(), policy, &mut self.events, &mut self.counters);
        }
        let (Some(key), Some(named)) = (entry.live, turn) else { return false };
        match self.turns.get(&key) {
            Some(turn) if turn.is_named(named.as_str()) => self.push_to_turn(key, event),
            Some(turn) if turn.id.is_none() => {
                entry.park(named.as_str(), Worth::Any, &self.config.limits, What::Event(event));
            }
            _ => return false,
        }
        true
    }

    pub(super) fn push_to_turn(&mut self, key: TurnKey, event: RawEvent) {
        let policy = self.policy();
        if let Some(turn) = self.turns.get_mut(&key) {
            push(&mut turn.log, event, policy, &mut self.events, &mut self.counters);
        }
    }

    /// The log of a scope. `make`: a thread that nothing is known of yet gets one.
    pub(super) fn log_of(&mut self, scope: &Scope, make: bool) -> Option<&mut EventLog> {
        match scope {
            Scope::Connection => Some(&mut self.log),
            Scope::Tree(root) => self.kin.tree(root, make, self.link.closed().is_some()),
            Scope::Turn(key) => match self.turns.get_mut(key) {
                Some(turn) => Some(&mut turn.log),
                // Nobody begins to listen to it.
                None => self.left_logs.get_mut(key).filter(|_| !make),
            },
            Scope::Thread(thread) | Scope::Turns(thread) => {
                if make && !self.threads.contains_key(thread) {
                    let mut entry = ThreadEntry::default();
                    if self.link.closed().is_some() {
                        entry.log.finish(|_| {});
                        entry.turns_log.finish(|_| {});
                    }
                    self.threads.insert(thread.clone(), entry);
                }
                let entry = self.threads.get_mut(thread)?;
                Some(if matches!(scope, Scope::Turns(_)) { &mut entry.turns_log } else { &mut entry.log })
            }
        }
    }

    /// Forgets a thread that nobody has to do with any more.
    pub(super) fn prune_thread(&mut self, thread: &str) {
        if self.threads.get(thread).is_some_and(ThreadEntry::is_idle) {
            self.threads.remove(thread);
        }
    }
}

/// A notification or request on its way to whoever it is for.
pub(super) struct Incoming<'a> {
    pub(super) method: &'a str,
    pub(super) kind: Option<DeltaKind>,
    pub(super) params: Option<JsonText<'a>>,
    pub(super) keys: &'a Keys<'a>,
    pub(super) emitted_at_ms: Option<i64>,
}

impl Incoming<'_> {
    /// The event that it is. A delta is taken apart here, in the pass that was made anyway; all else stays as it came.
    fn event(
        &self,
        origin: Option<Arc<DeltaOrigin>>,
        ids: impl FnOnce() -> (Option<ThreadId>, Option<TurnId>),
    ) -> RawEvent {
        let keys = self.keys;
        if let (Some(kind), Some(text)) = (self.kind, &keys.delta) {
            if let Some(origin) = origin.or_else(|| self.origin().map(Arc::new)) {
                return RawEvent::Delta(Delta {
                    kind,
                    origin,
                    index: keys.index,
                    text: String::from(&**text),
                    merged: 0,
                    raw: if keys.has_others { self.params.map(Into::into) } else { None },
                });
            }
        }
        let (thread, turn) = ids();
        RawEvent::Notification(self.raw(thread, turn))
    }

    fn origin(&self) -> Option<DeltaOrigin> {
        let (thread, turn, item) = (self.keys.thread()?, self.keys.turn()?, self.keys.item()?);
        Some(DeltaOrigin { thread: thread.into(), turn: turn.into(), item: item.into() })
    }

    fn ids(&self) -> (Option<ThreadId>, Option<TurnId>) {
        (self.keys.thread().map(ThreadId::from), self.keys.turn().map(TurnId::from))
    }

    pub(super) fn raw(&self, thread: Option<ThreadId>, turn: Option<TurnId>) -> RawNotification {
        RawNotification {
            method: self.method.into(),
            params: self.params.map_or_else(Bytes::new, |params| Bytes::copy_from_slice(params.as_bytes())),
            emitted_at_ms: self.emitted_at_ms,
            thread,
            turn,
        }
    }
}

fn push(log: &mut EventLog, event: RawEvent, policy: Policy, events: &mut VecDeque<Event>, counters: &mut Counters) {
    let pushed = log.push(event, policy, |key: SubscriptionKey| events.push_back(Event::Readable(key)));
    counters.merged += pushed.merged;
    counters.left_out += pushed.left_out;
}
