//! The requests that are not done with: who asked, what was sent, until when, and what came back.

use super::TraceContext;
use super::settings::Note;
use crate::{
    error::{Delivery, Fault},
    json::Json,
    time::Time,
    turn::TurnKey,
};
use alloc::{
    borrow::Cow,
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use core::time::Duration;
use serde::Serialize;

/// Names a request locally. It is also the id on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestKey(pub(crate) u64);

/// How many ids of requests that were given up are remembered, to tell late answers from double ones.
const REMEMBERED: usize = 256;

/// Who asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// The application, which will fetch the answer.
    Call,
    /// The application did, and has gone.
    Abandoned,
    /// The handshake.
    Initialize,
    /// The interrupt of a turn.
    Interrupt(TurnKey),
    /// The taking back of a turn's sandbox.
    RestoreSandbox,
    /// The start of a turn.
    StartTurn(TurnKey),
}

/// Which requests go first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lane {
    /// As soon as fewer requests are in flight than may be.
    Normal,
    /// Before all others, and while twice as many are in flight: it helps to end work that is under way.
    Urgent,
}

#[derive(Clone)]
enum Phase {
    /// Not to be sent yet.
    Held,
    /// To be sent.
    Queued { line: Vec<u8>, lane: Lane },
    /// Handed over.
    Sent { lane: Lane },
    /// Done, and to be fetched.
    Done(Result<Json, Fault>),
}

#[derive(Clone)]
struct Slot {
    method: Cow<'static, str>,
    purpose: Purpose,
    phase: Phase,
    called: Time,
    /// When it is given up. Set if and only if it is not done; then `(due, key)` is in `timers`.
    due: Time,
    reply_within: Duration,
    note: Option<Box<Note>>,
}

/// What an answer is for.
pub(crate) enum Answered {
    /// Nobody: a request of this id was done before.
    Duplicate,
    /// Nobody any more: a request of this id was given up.
    Late,
    /// Nobody ever: no request had this id.
    Unknown,
    /// A request of the application, which can now fetch it.
    Ready,
    /// A request of the connection itself.
    Own(Purpose, Cow<'static, str>, Result<Json, Fault>),
}

/// Makes JSON a line. What the caller passed through may be spread over several; within JSON their ends are no more than
/// white space.
pub(super) fn end_line(json: &mut Vec<u8>) {
    if memchr::memchr2(b'\n', b'\r', json).is_some() {
        for byte in json.iter_mut().filter(|byte| matches!(byte, b'\n' | b'\r')) {
            *byte = b' ';
        }
    }
    json.push(b'\n');
}

/// The table of requests.
#[derive(Clone)]
pub(crate) struct Requests {
    next: u64,
    slots: BTreeMap<RequestKey, Slot>,
    /// Slots in phase `Queued`. Keys rise, so the smallest was asked for first.
    normal: BTreeSet<RequestKey>,
    urgent: BTreeSet<RequestKey>,
    /// Slots in phase `Sent` of the normal lane.
    in_flight: usize,
    /// Slots in phase `Sent` of the urgent lane.
    urgent_in_flight: usize,
    timers: BTreeSet<(Time, RequestKey)>,
    given_up: VecDeque<RequestKey>,
    /// What requests carry that are given their params from now on.
    pub(super) trace: Option<Box<TraceContext>>,
}

#[derive(Serialize)]
struct Line<'a, P: ?Sized> {
    id: u64,
    method: &'a str,
    params: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    trace: Option<&'a TraceContext>,
}

impl Requests {
    pub(crate) fn new() -> Self {
        Self {
            next: 1,
            slots: BTreeMap::new(),
            normal: BTreeSet::new(),
            urgent: BTreeSet::new(),
            in_flight: 0,
            urgent_in_flight: 0,
            timers: BTreeSet::new(),
            given_up: VecDeque::new(),
            trace: None,
        }
    }

    /// Enters a request that is to be sent.
    pub(crate) fn enter<P: Serialize + ?Sized>(
        &mut self,
        now: Time,
        method: Cow<'static, str>,
        params: &P,
        purpose: Purpose,
        lane: Lane,
        within: (Duration, Duration),
    ) -> Result<RequestKey, Fault> {
        let key = self.enter_held(now, method, purpose, within);
        match self.queue(key, params, lane) {
            Ok(()) => Ok(key),
            Err(fault) => {
                self.remove(key);
                Err(fault)
            }
        }
    }

    /// Enters a request whose params are not known yet. `within`: from the call, and from the hand-over.
    pub(crate) fn enter_held(
        &mut self,
        now: Time,
        method: Cow<'static, str>,
        purpose: Purpose,
        (within, reply_within): (Duration, Duration),
    ) -> RequestKey {
        let key = RequestKey(self.next);
        self.next += 1;
        let due = now + within;
        self.timers.insert((due, key));
        self.slots
            .insert(key, Slot { method, purpose, phase: Phase::Held, called: now, due, reply_within, note: None });
        key
    }

    /// Counts the time of a request from now on, if it was to count from a later moment.
    pub(crate) fn count_from(&mut self, now: Time, purpose: Purpose, within: Duration) {
        let waits = |slot: &Slot| slot.purpose == purpose && slot.called > now && !matches!(slot.phase, Phase::Done(_));
        let Some((key, slot)) = self.slots.iter_mut().find(|(_, slot)| waits(slot)) else { return };
        if self.timers.remove(&(slot.due, *key)) {
            (slot.called, slot.due) = (now, slot.due.min(now + within));
            self.timers.insert((slot.due, *key));
        }
    }

    /// Gives a held request its params and lets it be sent.
    pub(crate) fn queue<P: Serialize + ?Sized>(
        &mut self,
        key: RequestKey,
        params: &P,
        lane: Lane,
    ) -> Result<(), Fault> {
        let Some(slot) = self.slots.get_mut(&key) else { return Ok(()) };
        if !matches!(slot.phase, Phase::Held) {
            return Ok(());
        }
        let mut line =
            serde_json::to_vec(&Line { id: key.0, method: &slot.method, params, trace: self.trace.as_deref() })
                .map_err(|error| Fault::Encode(alloc::format!("{error}")))?;
        end_line(&mut line);
        slot.phase = Phase::Queued { line, lane };
        match lane {
            Lane::Normal => self.normal.insert(key),
            Lane::Urgent => self.urgent.insert(key),
        };
        Ok(())
    }

    /// Appends the next request that may be sent: an urgent one while fewer than `urgent` are in flight in all, else a
    /// normal one while fewer than `normal` normal ones are.
    pub(crate) fn send_next(&mut self, now: Time, normal: usize, urgent: usize, out: &mut Vec<u8>) -> bool {
        loop {
            let mut next = None;
            if self.in_flight + self.urgent_in_flight < urgent {
                next = self.urgent.pop_first();
            }
            if next.is_none() && self.in_flight < normal {
                next = self.normal.pop_first();
            }
            let Some(key) = next else { return false };
            let Some(slot) = self.slots.get_mut(&key) else { continue };
            let Phase::Queued { line, lane } = &slot.phase else { continue };
            out.extend_from_slice(line);
            let lane = *lane;
            slot.phase = Phase::Sent { lane };
            match lane {
                Lane::Normal => self.in_flight += 1,
                Lane::Urgent => self.urgent_in_flight += 1,
            }
            let due = slot.due.min(now + slot.reply_within);
            self.timers.remove(&(slot.due, key));
            self.timers.insert((due, key));
            slot.due = due;
            return true;
        }
    }

    /// Whether anything may be sent.
    pub(crate) fn has_next(&self, normal: usize, urgent: usize) -> bool {
        let has_urgent = self.in_flight + self.urgent_in_flight < urgent && !self.urgent.is_empty();
        has_urgent || (self.in_flight < normal && !self.normal.is_empty())
    }

    /// Keeps what the answer is to be looked at with.
    pub(super) fn keep_note(&mut self, key: RequestKey, note: Note) {
        if let Some(slot) = self.slots.get_mut(&key) {
            slot.note = Some(Box::new(note));
        }
    }

    /// The method of a request of the application that was sent and is not answered, and the note that was kept.
    pub(super) fn open_call(&self, key: RequestKey) -> Option<(&str, Option<&Note>)> {
        let slot = self.slots.get(&key)?;
        let is_open = matches!(slot.phase, Phase::Sent { .. });
        let is_call = matches!(slot.purpose, Purpose::Call | Purpose::Abandoned);
        (is_open && is_call).then(|| (&*slot.method, slot.note.as_deref()))
    }

    /// Takes an answer of the server.
    pub(crate) fn answer(&mut self, key: RequestKey, outcome: Result<Json, Fault>) -> Answered {
        match self.slots.get(&key) {
            Some(Slot { phase: Phase::Sent { .. }, .. }) => self.settle(key, outcome),
            Some(Slot { phase: Phase::Done(_), .. }) if self.given_up.contains(&key) => Answered::Late,
            Some(Slot { phase: Phase::Done(_), .. }) => Answered::Duplicate,
            Some(Slot { phase: Phase::Held | Phase::Queued { .. }, .. }) => Answered::Unknown,
            None if key.0 >= self.next || key.0 == 0 => Answered::Unknown,
            None => match self.given_up.iter().position(|given_up| *given_up == key) {
                Some(place) => {
                    self.given_up.remove(place);
                    Answered::Late
                }
                None => Answered::Duplicate,
            },
        }
    }

    /// Ends a request, whoever or whatever ends it.
    pub(crate) fn settle(&mut self, key: RequestKey, outcome: Result<Json, Fault>) -> Answered {
        let Some(slot) = self.slots.get_mut(&key) else { return Answered::Unknown };
        let purpose = slot.purpose;
        if purpose == Purpose::Call {
            if matches!(slot.phase, Phase::Done(_)) {
                return Answered::Duplicate;
            }
            let before = core::mem::replace(&mut slot.phase, Phase::Done(outcome));
            let due = slot.due;
            self.leave(key, &before, due);
            return Answered::Ready;
        }
        match self.remove(key) {
            Some(_) if purpose == Purpose::Abandoned => Answered::Late,
            Some(slot) => Answered::Own(purpose, slot.method, outcome),
            None => Answered::Unknown,
        }
    }

    /// Fetches what came of a request, once.
    pub(crate) fn take(&mut self, key: RequestKey) -> Option<(Cow<'static, str>, Result<Json, Fault>)> {
        if !matches!(self.slots.get(&key)?.phase, Phase::Done(_)) {
            return None;
        }
        let slot = self.slots.remove(&key)?;
        match slot.phase {
            Phase::Done(outcome) => Some((slot.method, outcome)),
            _ => None,
        }
    }

    /// Gives a request up because nobody will fetch it. What was not sent is never sent.
    pub(crate) fn abandon(&mut self, key: RequestKey) {
        match self.slots.get_mut(&key) {
            Some(slot) if matches!(slot.phase, Phase::Sent { .. }) => slot.purpose = Purpose::Abandoned,
            Some(_) => drop(self.remove(key)),
            None => {}
        }
    }

    /// The next deadline.
    pub(crate) fn next_due(&self) -> Option<Time> {
        self.timers.first().map(|(due, _)| *due)
    }

    /// Takes the next request whose deadline has passed, with whether it was sent, and the time since the call.
    pub(crate) fn expire(&mut self, now: Time) -> Option<(RequestKey, Delivery, Duration)> {
        let (due, key) = *self.timers.first()?;
        if due > now {
            return None;
        }
        self.timers.remove(&(due, key));
        let slot = self.slots.get(&key)?;
        let delivery = self.delivery(key);
        let elapsed = now.since(slot.called);
        if delivery == Delivery::Sent {
            self.given_up.push_back(key);
            if self.given_up.len() > REMEMBERED {
                self.given_up.pop_front();
            }
        }
        Some((key, delivery, elapsed))
    }

    /// Whether a request can have reached the server.
    pub(crate) fn delivery(&self, key: RequestKey) -> Delivery {
        match self.slots.get(&key) {
            Some(Slot { phase: Phase::Sent { .. } | Phase::Done(_), .. }) => Delivery::Sent,
            _ => Delivery::NotSent,
        }
    }

    /// The requests that are not done, in the order in which they were made.
    pub(crate) fn open(&self) -> Vec<RequestKey> {
        let open = |slot: &Slot| !matches!(slot.phase, Phase::Done(_));
        self.slots.iter().filter(|(_, slot)| open(slot)).map(|(key, _)| *key).collect()
    }

    /// Requests that wait to be sent.
    pub(crate) fn queued(&self) -> usize {
        self.normal.len() + self.urgent.len()
    }

    /// The method of a request in the table.
    pub(crate) fn method_of(&self, key: RequestKey) -> Option<Cow<'static, str>> {
        self.slots.get(&key).map(|slot| slot.method.clone())
    }

    /// Requests that were sent and are not answered.
    pub(crate) fn pending(&self) -> usize {
        self.in_flight + self.urgent_in_flight
    }

    /// All requests in the table.
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    fn remove(&mut self, key: RequestKey) -> Option<Slot> {
        let slot = self.slots.remove(&key)?;
        self.leave(key, &slot.phase, slot.due);
        Some(slot)
    }

    /// Takes a request out of what its phase had put it in.
    fn leave(&mut self, key: RequestKey, phase: &Phase, due: Time) {
        self.timers.remove(&(due, key));
        match phase {
            Phase::Sent { lane: Lane::Normal } => self.in_flight -= 1,
            Phase::Queued { lane: Lane::Normal, .. } => drop(self.normal.remove(&key)),
            Phase::Queued { lane: Lane::Urgent, .. } => drop(self.urgent.remove(&key)),
            Phase::Sent { lane: Lane::Urgent } => self.urgent_in_flight -= 1,
            Phase::Held | Phase::Done(_) => {}
        }
    }
}
