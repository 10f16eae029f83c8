//! Which event belongs to whom.
//!
//! A notification goes to its turn, if that is one of ours, and to its thread, if anybody listens there. What belongs to
//! no thread, or to one that nobody here has to do with, goes to the connection. Events of a turn that the server has
//! named before it answered our `turn/start` are parked with the thread until the answer comes.

use super::{Connection, Counters, Event, Limits, ServerRequestKey, refusals};
use crate::{
    envelope::{JsonText, Keys, RpcId},
    error::RpcError,
    id::{ThreadId, TurnId},
    time::Time,
    turn::{Delta, DeltaKind, EventLog, Policy, RawEvent, RawNotification, Refused, SubscriptionKey, TurnKey},
};
use alloc::{boxed::Box, collections::VecDeque, string::String};
use bytes::Bytes;
use serde_json::value::RawValue;

/// How many requests for the time of day may be open. Whoever drives the connection answers each at once.
const MAX_TIME_WANTED: usize = 64;

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
}

/// A thread with a turn of ours that is not over, or with a subscription.
#[derive(Default)]
pub(super) struct ThreadEntry {
    /// The turn of ours that is not over for the server. At most one: the server would join a second to the first.
    pub(super) live: Option<TurnKey>,
    /// The turn that the server last said to have started and not said to have ended.
    pub(super) running: Option<TurnId>,
    pub(super) log: EventLog,
    /// What came for turns that are not known, while a start of ours is not answered. Length <=
    /// twice `Limits::max_parked_events`.
    parked: VecDeque<Parked>,
    /// Whether a start of ours may have reached the server that was given up here. Then what runs on the thread is watched,
    /// so that a further start can say that it joined.
    pub(super) in_doubt: bool,
    /// The sum of the lengths of the lines in `parked`.
    parked_bytes: usize,
    /// Events that found no room there.
    unparked: u64,
}

struct Parked {
    turn: TurnId,
    worth: Worth,
    what: What,
}

enum What {
    Line(Box<[u8]>),
    Refused(Refused),
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
        self.live.is_none() && self.log.is_unheard() && !self.in_doubt
    }

    /// Parks something, if there is room: half of it is for what is no delta.
    fn park(&mut self, turn: &str, worth: Worth, limits: &Limits, what: What) {
        let line = match &what {
            What::Line(line) => line.len(),
            What::Refused(refused) => refused.notification.params.len(),
        };
        let (count, bytes) = (self.parked.len(), self.parked_bytes.saturating_add(line));
        let is_full = count >= limits.max_parked_events || bytes > limits.max_unread_bytes / 2;
        let is_crammed = count >= limits.max_parked_events.saturating_mul(2) || bytes > limits.max_unread_bytes;
        let has_room = match worth {
            Worth::Delta => !is_full,
            Worth::Any => !is_crammed,
            // One for each turn, and without it the turn would never end.
            Worth::End => true,
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

impl Connection {
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
        self.note_kin(method, params, keys);
        let is_in_tree = match keys.thread().filter(|_| self.kin.is_followed()) {
            Some(thread) => {
                let event = message.event(Some(thread.into()), keys.turn().map(TurnId::from), None);
                self.offer_to_trees(thread, event)
            }
            None => false,
        };
        let Some(entry) = keys.thread().and_then(|thread| self.threads.get_mut(thread)) else {
            if !self.log.is_unheard() && !is_in_tree {
                let event = message.event(keys.thread().map(ThreadId::from), keys.turn().map(TurnId::from), None);
                push(&mut self.log, event, policy, &mut self.events, &mut self.counters);
            }
            return;
        };
        if message.kind.is_some() {
            // A piece of text begins and ends nothing.
        } else if method == "turn/started" {
            entry.running = keys.turn().map(TurnId::from);
        } else if method == "turn/completed" && keys.turn() == entry.running.as_ref().map(TurnId::as_str) {
            entry.running = None;
            entry.in_doubt = false;
        }
        if !entry.log.is_unheard() {
            let event = message.event(keys.thread().map(ThreadId::from), keys.turn().map(TurnId::from), None);
            push(&mut entry.log, event, policy, &mut self.events, &mut self.counters);
        }
        match (entry.live, keys.thread()) {
            (Some(key), _) => self.handle_for_turn(now, key, line, &message, false),
            (None, Some(thread)) => self.prune_thread(thread),
            (None, None) => {}
        }
    }

    /// Gives a message of the turn's thread to the turn, if it is the turn's.
    fn handle_for_turn(&mut self, now: Time, key: TurnKey, line: &[u8], message: &Incoming<'_>, is_replay: bool) {
        let policy = self.policy();
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let Incoming { method, kind, params, keys, .. } = *message;
        let Some(named) = keys.turn() else {
            if method == "thread/status/changed" && keys.status.as_deref() == Some("idle") {
                self.handle_thread_idle(now, key);
            }
            return;
        };
        let Some(id) = &turn.id else {
            if let (false, Some(entry)) = (is_replay, self.threads.get_mut(&turn.thread)) {
                let worth = match method {
                    "turn/completed" => Worth::End,
                    _ if kind.is_some() => Worth::Delta,
                    _ => Worth::Any,
                };
                entry.park(named, worth, &self.config.limits, What::Line(line.into()));
            }
            return;
        };
        if id.as_str() != named {
            if method == "turn/started" {
                // A review runs under another id than its own, and says so.
                let is_root = keys.root_turn_id.as_deref() == Some(id.as_str());
                if is_root {
                    self.handle_evidence_of_turn(now, key);
                } else {
                    self.handle_overtaken(key);
                }
            }
            return;
        }
        let is_end = kind.is_none() && method == "turn/completed";
        // Of an item that adds to its text there is nothing more to collect than that it was seen.
        let item = kind.and(keys.delta.as_ref()).and(keys.item()).map(|item| turn.intern_item(item));
        if let (false, None, Some(params)) = (is_end, &item, params) {
            turn.collect(method, keys.item(), params);
        }
        if !turn.log.is_unheard() {
            let event = message.event(Some(turn.thread.clone()), turn.id.clone(), item);
            push(&mut turn.log, event, policy, &mut self.events, &mut self.counters);
        }
        if turn.is_unmoved_by_evidence() && !is_end {
            return;
        }
        if is_end {
            let ended = turn.end_by_server(keys.status.as_deref(), params.unwrap_or(JsonText::NULL));
            self.handle_turn_over(key, ended);
        } else {
            self.handle_evidence_of_turn(now, key);
        }
    }

    /// Gives a turn that has just been named what came before its name.
    pub(super) fn replay_parked(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get(&key) else { return };
        let (thread, id) = (turn.thread.clone(), turn.id.clone());
        let Some(entry) = self.threads.get_mut(&thread) else { return };
        let (parked, unparked) = entry.unpark();
        if unparked > 0 {
            self.counters.left_out += unparked;
        }
        let mut gap = (unparked > 0).then_some(RawEvent::Gap(unparked));
        for Parked { turn: named, what, worth } in parked {
            if Some(&named) != id.as_ref() {
                continue;
            }
            if matches!(worth, Worth::End) {
                // What found no room came before the end.
                gap.take().into_iter().for_each(|gap| self.push_to_turn(key, gap));
            }
            match what {
                What::Refused(refused) => self.push_to_turn(key, RawEvent::Refused(refused)),
                What::Line(line) => {
                    let Ok(envelope) = crate::envelope::Envelope::parse(&line) else { continue };
                    let crate::envelope::Message::Notification { method, params, keys } = envelope.message else {
                        continue;
                    };
                    let (kind, emitted_at_ms) = (DeltaKind::of_method(&method), envelope.emitted_at_ms);
                    let message = Incoming { method: &method, kind, params, keys: &keys, emitted_at_ms };
                    self.handle_for_turn(now, key, &line, &message, true);
                }
            }
        }
        gap.into_iter().for_each(|gap| self.push_to_turn(key, gap));
    }

    /// Forgets what was parked for a turn that will not be named.
    pub(super) fn drop_parked(&mut self, thread: &ThreadId) {
        if let Some(entry) = self.threads.get_mut(thread) {
            drop(entry.unpark());
        }
    }

    pub(super) fn handle_server_request(
        &mut self,
        id: RpcId,
        method: &str,
        params: Option<&RawValue>,
        keys: &Keys<'_>,
    ) {
        match refusals::refusal(method) {
            refusals::Refusal::Time if self.time_wanted.len() >= MAX_TIME_WANTED => {
                self.answer::<()>(&id, &Err(RpcError::new(-32603, "too many requests for the time of day are open")));
            }
            refusals::Refusal::Time => {
                let key = ServerRequestKey(self.next_server_request);
                self.next_server_request += 1;
                self.time_wanted.insert(key, id);
                self.events.push_back(Event::TimeWanted(key));
                return;
            }
            refusals::Refusal::Error(error) => self.answer::<()>(&id, &Err(error)),
            refusals::Refusal::Result(result) => {
                if let Ok(result) = serde_json::from_str::<&RawValue>(result) {
                    self.answer(&id, &Ok(result));
                }
            }
        }
        self.counters.refused += 1;
        let params = params.map(JsonText::from);
        let message = Incoming { method, kind: None, params, keys, emitted_at_ms: None };
        let thread = keys.thread().map(ThreadId::from);
        let refused = Refused { id, notification: message.raw(thread, keys.turn().map(TurnId::from)) };
        let policy = self.policy();
        if let Some(thread) = keys.thread().filter(|_| self.kin.is_followed()) {
            self.offer_to_trees(thread, RawEvent::Refused(refused.clone()));
        }
        let Some(entry) = keys.thread().and_then(|thread| self.threads.get_mut(thread)) else {
            let event = RawEvent::Refused(refused);
            push(&mut self.log, event, policy, &mut self.events, &mut self.counters);
            return;
        };
        if !entry.log.is_unheard() {
            let event = RawEvent::Refused(refused.clone());
            push(&mut entry.log, event, policy, &mut self.events, &mut self.counters);
        }
        let (Some(key), Some(named)) = (entry.live, keys.turn()) else { return };
        match self.turns.get(&key).map(|turn| turn.id.as_ref()) {
            Some(Some(id)) if id == named => self.push_to_turn(key, RawEvent::Refused(refused)),
            Some(None) => {
                entry.park(named, Worth::Any, &self.config.limits, What::Refused(refused));
            }
            _ => {}
        }
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
            Scope::Turn(key) => self.turns.get_mut(key).map(|turn| &mut turn.log),
            Scope::Thread(thread) => {
                if make && !self.threads.contains_key(thread) {
                    let mut entry = ThreadEntry::default();
                    if self.link.closed().is_some() {
                        entry.log.finish(|_| {});
                    }
                    self.threads.insert(thread.clone(), entry);
                }
                self.threads.get_mut(thread).map(|entry| &mut entry.log)
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
struct Incoming<'a> {
    method: &'a str,
    kind: Option<DeltaKind>,
    params: Option<JsonText<'a>>,
    keys: &'a Keys<'a>,
    emitted_at_ms: Option<i64>,
}

impl Incoming<'_> {
    /// The event that it is. A delta with nothing but the known members is taken apart here, in the pass that was made
    /// anyway; all else stays as it came.
    fn event(&self, thread: Option<ThreadId>, turn: Option<TurnId>, item: Option<crate::id::ItemId>) -> RawEvent {
        let keys = self.keys;
        let item = item.or_else(|| self.kind.and(keys.item()).map(Into::into));
        match (self.kind, thread, turn, item, &keys.delta) {
            (Some(kind), Some(thread), Some(turn), Some(item), Some(text)) => RawEvent::Delta(Delta {
                kind,
                thread,
                turn,
                item,
                index: keys.index,
                text: String::from(&**text),
                merged: 0,
                raw: if keys.has_others { self.params.map(Into::into) } else { None },
            }),
            (_, thread, turn, ..) => RawEvent::Notification(self.raw(thread, turn)),
        }
    }

    fn raw(&self, thread: Option<ThreadId>, turn: Option<TurnId>) -> RawNotification {
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
