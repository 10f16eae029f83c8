//! Which threads are busy, whoever made them so; what waits for them, and how to take up a turn that runs already.

#[cfg(feature = "client")]
use super::RequestKey;
use super::{Connection, Event, Lane, Pending, Prepared, Purpose, Scope};
use crate::{
    envelope::{JsonText, Keys},
    error::{CallError, Fault, TurnError},
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{ThreadTokenUsageUpdatedNotification, TokenUsageBreakdown, TurnInterrupt},
    record::Step,
    time::Time,
    turn::{Cause, RawEvent, State, SubscriptionKey, Turn, TurnKey, TurnOptions},
};
use alloc::{string::String, vec::Vec};
use serde::Deserialize;
use serde_json::value::RawValue;

/// How many ends of turns that were nobody's are remembered, for those who attach too late.
const REMEMBERED_ENDS: usize = 64;
/// The longest of them that is kept as it came, in bytes. Of a longer one it is known that the turn ended.
const MAX_REMEMBERED_END: usize = 64 * 1024;

/// The longest name of a thread or turn that is remembered though nobody here has to do with it, in bytes.
const MAX_NAME: usize = 1024;

/// What is known of a thread, whether anybody here has to do with it or not.
#[derive(Clone, Default)]
pub(super) struct Watched {
    /// The turn that the server last said to have started and not said to have ended.
    pub(super) running: Option<TurnId>,
    /// The name under which that one ends, if it is another: a review's.
    root: Option<TurnId>,
    /// Whether the server says that it is active.
    is_active: bool,
    /// The last sum of tokens.
    pub(super) used: Option<TokenUsageBreakdown>,
}

impl Watched {
    fn is_busy(&self) -> bool {
        self.is_active || self.running.is_some()
    }
}

/// The end of a turn that was nobody's here.
#[derive(Clone)]
pub(super) struct EndOfOther {
    thread: ThreadId,
    turn: TurnId,
    status: String,
    params: Option<Json>,
}

/// What is to be interrupted so that a thread is stopped.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Running {
    /// A turn of this connection, held by somebody or not: see [`Connection::interrupt`].
    Ours(TurnKey),
    /// A turn that was not started here: see [`Connection::interrupt_other`].
    Other(TurnId),
    /// None that is known of.
    Unknown,
}

/// Commands: threads that are busy.
impl Connection {
    /// Takes up a turn that runs already, whoever started it: a turn of somebody else, one of this connection whose handles
    /// are gone, a review, or one that was found running by `thread/resume`. It collects from now on, so its usage is a
    /// lower bound. If the server has just said that the turn ended, it has ended.
    ///
    /// # Errors
    /// [`TurnError::Busy`] when another turn of this connection runs on the thread, or is being started there; and when
    /// the connection is over.
    pub fn attach_turn(
        &mut self,
        now: Time,
        thread: &ThreadId,
        turn: &TurnId,
        options: &TurnOptions,
    ) -> Result<TurnKey, TurnError> {
        let is_followed = self.threads.get(thread).is_some_and(|entry| entry.live.is_some());
        let key = self.take_up_turn(now, thread, turn, options)?;
        if !is_followed {
            self.end_if_remembered(key);
            self.start_queued(now);
        }
        Ok(key)
    }

    /// Takes up a turn, though it may have ended already: see [`end_if_remembered`](Self::end_if_remembered).
    pub(super) fn take_up_turn(
        &mut self,
        now: Time,
        thread: &ThreadId,
        turn: &TurnId,
        options: &TurnOptions,
    ) -> Result<TurnKey, TurnError> {
        if let Some(fault) = self.refusal() {
            return Err(TurnError::Start(CallError::new("turn/attach", fault)));
        }
        if let Some(live) = self.threads.get(thread).and_then(|entry| entry.live) {
            return match self.turns.get_mut(&live) {
                Some(known) if known.id.as_ref() == Some(turn) && !known.state().is_end() => {
                    known.is_partial |= !known.is_held();
                    known.holders += 1;
                    Ok(live)
                }
                _ => Err(TurnError::Busy(thread.clone())),
            };
        }
        let key = TurnKey(self.next_turn);
        self.next_turn += 1;
        let mut attached = Turn::attached(now, thread.clone(), turn.clone(), options);
        if let Some(used) = self.watched.get(thread).and_then(|watched| watched.used.as_ref()) {
            attached.set_usage_before(used);
        }
        if let Some(Watched { running: Some(running), root: Some(root), .. }) = self.watched.get(thread) {
            let other =
                [(running, root), (root, running)].into_iter().find(|(id, _)| *id == turn).map(|(_, other)| other);
            attached.also = other.filter(|other| *other != turn).cloned();
        }
        self.threads.entry(thread.clone()).or_default().live = Some(key);
        if let Some((at, _)) = attached.deadline {
            self.turn_timers.insert((at, key, super::turns::TurnTimer::Deadline));
        }
        self.turns.insert(key, attached.into());
        self.arm_silence(now, key);
        Ok(key)
    }

    /// Takes back every start that waits for the thread, and says what runs there: [`interrupt`](Self::interrupt) or
    /// [`interrupt_other`](Self::interrupt_other) ends that.
    pub fn withdraw_turns(&mut self, thread: &ThreadId) -> Running {
        let waiting = self.threads.get_mut(thread).map(|entry| core::mem::take(&mut entry.queue)).unwrap_or_default();
        for key in waiting {
            self.withdraw(key);
        }
        if let Some(live) = self.threads.get(thread).and_then(|entry| entry.live) {
            return Running::Ours(live);
        }
        let watched = self.watched.get(thread);
        match watched.and_then(|watched| watched.running.as_ref().or(watched.root.as_ref())) {
            Some(turn) => Running::Other(turn.clone()),
            None => Running::Unknown,
        }
    }

    /// Asks the server to end a turn that is none of this connection's (`turn/interrupt`), before all other requests and
    /// within `Timeouts::interrupt`. With an empty id the server ends whatever runs on the thread.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn interrupt_other(
        &mut self,
        now: Time,
        thread: &ThreadId,
        turn: &TurnId,
    ) -> Result<Pending<TurnInterrupt>, CallError> {
        let request = Prepared::new(&TurnInterrupt::new(thread.clone(), turn.clone()))?;
        if let Some(fault) = self.refusal() {
            return Err(CallError::new(request.method, fault));
        }
        let within = self.config.timeouts.interrupt;
        let Prepared { method, params, .. } = request;
        let entered = self.requests.enter(now, method.clone(), &params, Purpose::Call, Lane::Urgent, (within, within));
        entered.map(Pending::new).map_err(|fault| CallError::new(method, fault))
    }

    /// Makes a request that is encoded already and goes before all others, as [`enter`](Self::enter) otherwise.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    #[cfg(feature = "client")]
    pub(crate) fn enter_urgent(&mut self, now: Time, request: Prepared) -> Result<RequestKey, CallError> {
        let limit = self.config.limits.max_queued_requests;
        if self.requests.len() >= limit.saturating_add(self.config.limits.max_in_flight) {
            return Err(CallError::new(request.method, Fault::QueueFull { limit }));
        }
        self.enter_as(now, request, Purpose::Call, Lane::Urgent)
    }

    /// What runs on a thread; `None` if nothing is known to.
    #[must_use]
    pub fn running(&self, thread: &ThreadId) -> Option<Running> {
        let live = self.threads.get(thread).and_then(|entry| entry.live);
        let is_running = |key: &TurnKey| self.turns.get(key).is_some_and(|turn| !turn.state().is_end());
        match live.filter(is_running) {
            Some(key) => Some(Running::Ours(key)),
            None => self.running_turn(thread).map(|turn| Running::Other(turn.clone())),
        }
    }

    /// Holds a turn once more, so that it is there until it is dropped once more.
    #[cfg(feature = "client")]
    pub(crate) fn hold_turn(&mut self, key: TurnKey) {
        if let Some(turn) = self.turns.get_mut(&key) {
            turn.is_partial |= !turn.is_held();
            turn.holders += 1;
        }
    }

    /// The turn that runs on a thread, if the server has said so: whoever started it.
    #[must_use]
    pub fn running_turn(&self, thread: &ThreadId) -> Option<&TurnId> {
        let ours = self.threads.get(thread).and_then(|entry| entry.live).and_then(|key| self.turns.get(&key));
        let ours = ours.filter(|turn| !turn.is_over_for_server).and_then(|turn| turn.id.as_ref());
        ours.or_else(|| self.watched.get(thread)?.running.as_ref())
    }

    /// How many starts wait for a thread.
    #[must_use]
    pub fn queued_turns(&self, thread: &ThreadId) -> usize {
        self.threads.get(thread).map_or(0, |entry| entry.queue.len())
    }

    /// Takes the reader that a turn of [`Scope::Turns`] was given when it was found, so that nothing of it is missed.
    pub fn claim_turn(&mut self, key: TurnKey) -> Option<SubscriptionKey> {
        self.turns.get_mut(&key)?.unclaimed.pop()
    }
}

/// What follows.
impl Connection {
    /// Ends a turn that was taken up, if the server has just said that it ended, before it was anybody's.
    pub(super) fn end_if_remembered(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get(&key) else { return };
        let ended = self.ends.iter().position(|end| end.thread == turn.thread && Some(&end.turn) == turn.id.as_ref());
        let Some(EndOfOther { status, params, .. }) = ended.and_then(|place| self.ends.remove(place)) else { return };
        let params: Option<&RawValue> = params.as_ref().and_then(|params| params.decode().ok());
        if let Some(turn) = self.turns.get_mut(&key) {
            let ended = turn.end_by_server(Some(&status), params.map_or(JsonText::NULL, JsonText::from));
            self.handle_turn_over(key, ended);
        }
    }

    /// Forgets what a thread has used. It may use more now, of which nothing is heard.
    pub(super) fn forget_usage(&mut self, thread: &str) {
        let Some(watched) = self.watched.get_mut(thread) else { return };
        watched.used = None;
        if !watched.is_busy() {
            self.watched.remove(thread);
        }
    }

    /// Reads what a notification says of its thread as a whole.
    pub(super) fn watch(&mut self, method: &str, keys: &Keys<'_>, params: Option<JsonText<'_>>) {
        let Some(thread) = keys.thread() else { return };
        match method {
            "turn/started" => {
                // So long a name is no server's, and nobody waits for its end.
                let is_name = |id: &&str| id.len() <= MAX_NAME;
                let running = keys.turn().filter(is_name).map(TurnId::from);
                let root = keys.root_turn_id.as_deref().filter(is_name).map(TurnId::from);
                if let Some(watched) = self.watched(thread) {
                    watched.running = running;
                    watched.root = root;
                }
            }
            "turn/completed" => {
                let Some(watched) = self.watched.get_mut(thread) else { return };
                let ended = keys.turn();
                // The server runs one at a time, so with this one's end the thread is free, whether it says so before or
                // after.
                let is_the_one =
                    [&watched.running, &watched.root].into_iter().flatten().any(|id| Some(id.as_str()) == ended);
                if is_the_one || watched.running.is_none() {
                    self.note_free(thread);
                }
            }
            "thread/status/changed" if keys.status.as_deref() == Some("active") => {
                if let Some(watched) = self.watched(thread) {
                    watched.is_active = true;
                }
            }
            "thread/status/changed" => self.note_free(thread),
            "thread/archived" | "thread/closed" | "thread/deleted" => {
                self.note_free(thread);
                self.watched.remove(thread);
            }
            "thread/tokenUsage/updated" => self.watch_usage(thread, keys.turn(), params),
            _ => {}
        }
    }

    fn watch_usage(&mut self, thread: &str, named: Option<&str>, params: Option<JsonText<'_>>) {
        let Some(usage) = params.and_then(|params| crate::protocol::decode(params.get()).ok()) else { return };
        let ThreadTokenUsageUpdatedNotification { token_usage, .. } = usage;
        // What is repeated of an old turn says what the thread had used before this one.
        let live = self.threads.get(thread).and_then(|entry| entry.live).and_then(|key| self.turns.get_mut(&key));
        if let Some(turn) = live {
            let is_its_own = |named| turn.is_named(named) || turn.alias.as_ref().is_some_and(|alias| alias == named);
            if turn.id.is_some() && !named.is_some_and(is_its_own) {
                turn.set_usage_before(&token_usage.total);
            }
        }
        if let Some(watched) = self.watched(thread) {
            watched.used = Some(token_usage.total);
        }
    }

    fn watched(&mut self, thread: &str) -> Option<&mut Watched> {
        if !self.watched.contains_key(thread) {
            if thread.len() > MAX_NAME || self.watched.len() >= self.config.limits.max_watched_threads {
                return None;
            }
            self.watched.insert(thread.into(), Watched::default());
        }
        self.watched.get_mut(thread)
    }

    /// A turn is over though its end never came: what the server said of its beginning counts no more.
    pub(super) fn forget_running(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get(&key) else { return };
        let thread = turn.thread.clone();
        let running = self.watched.get(&thread).and_then(|watched| watched.running.as_ref());
        if running.is_some_and(|running| turn.is_named(running.as_str())) {
            self.note_free(thread.as_str());
        }
    }

    fn note_free(&mut self, thread: &str) {
        if let Some(watched) = self.watched.get_mut(thread) {
            watched.running = None;
            watched.root = None;
            watched.is_active = false;
            if watched.used.is_none() {
                self.watched.remove(thread);
            }
        }
        self.note_freed(thread);
    }

    /// Something that kept a thread busy is over.
    pub(super) fn note_freed(&mut self, thread: &str) {
        if self.threads.get(thread).is_some_and(|entry| !entry.queue.is_empty()) {
            self.freed.push(thread.into());
        }
    }

    /// Whether the server runs something on the thread that was not started here.
    pub(super) fn is_busy_with_others(&self, thread: &str) -> bool {
        self.watched.get(thread).is_some_and(Watched::is_busy)
    }

    /// Starts what waits for threads that have become free.
    pub(super) fn start_queued(&mut self, now: Time) {
        while let Some(thread) = self.freed.pop() {
            loop {
                if self.is_busy_with_others(thread.as_str()) {
                    break;
                }
                let Some(entry) = self.threads.get_mut(&thread).filter(|entry| entry.live.is_none()) else { break };
                let Some(key) = entry.queue.pop_front() else { break };
                self.send_queued(now, key);
            }
            self.prune_thread(thread.as_str());
        }
    }

    /// Sends the start of a turn that waits for nothing any more.
    pub(super) fn send_queued(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let (thread, Some((mut request, options))) = (turn.thread.clone(), turn.queued.take()) else { return };
        let arrangement = match self.arrange_sandbox(&thread, &mut request, &options) {
            Ok(arrangement) => arrangement,
            // The thread's own became tighter while the start waited.
            Err(relaxation) => return self.end_queued(key, CallError::new("turn/start", Fault::Relaxes(relaxation))),
        };
        // A server that names a turn of its own on a busy thread is told by what the input says.
        let mark = self.may_name_dead_turns().then(|| super::turns::mark_of_params(&request)).flatten();
        match self.enter_as(now, request, Purpose::StartTurn(key), Lane::Normal) {
            Ok(start) => {
                self.note_arrangement(&thread, key, arrangement);
                let Some(turn) = self.turns.get_mut(&key) else { return };
                turn.start = Some(start);
                turn.input_mark = mark;
                turn.advance(Cause::Sent);
                let watched = self.watched.get(&turn.thread);
                turn.running_before = watched.and_then(|watched| watched.running.clone());
                if let Some(used) = watched.and_then(|watched| watched.used.as_ref()) {
                    turn.set_usage_before(used);
                }
                let deadline = turn.deadline;
                if !matches!(turn.origin, crate::turn::Origin::Detached) {
                    self.threads.entry(turn.thread.clone()).or_default().live = Some(key);
                }
                if let Some((at, _)) = deadline {
                    self.tap(now, || Step::Deadline { request: start.0, within: at.since(now) });
                }
            }
            Err(error) => self.end_queued(key, error),
        }
    }

    /// Takes a turn back that was not sent.
    pub(super) fn withdraw(&mut self, key: TurnKey) {
        self.end_queued(key, CallError::new("turn/start", Fault::Withdrawn));
    }

    pub(super) fn end_queued(&mut self, key: TurnKey, error: CallError) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        turn.queued = None;
        let thread = turn.thread.clone();
        let ended = turn.end_unstarted(error);
        if let Some(entry) = self.threads.get_mut(&thread) {
            entry.queue.retain(|other| *other != key);
        }
        self.handle_turn_over(key, ended);
    }

    /// Remembers the end of a turn that was nobody's, for those who attach to it a moment later.
    pub(super) fn remember_end(&mut self, keys: &Keys<'_>, params: Option<JsonText<'_>>) {
        let (Some(thread), Some(turn)) = (keys.thread(), keys.turn()) else { return };
        if self.ends.len() >= REMEMBERED_ENDS {
            self.ends.pop_front();
        }
        let params = params.filter(|params| params.get().len() <= MAX_REMEMBERED_END).map(Json::from);
        let status = keys.status.as_deref().unwrap_or_default().into();
        self.ends.push_back(EndOfOther { thread: thread.into(), turn: turn.into(), status, params });
    }

    /// A turn began on a thread where somebody follows whatever turns there are. Says whether they were told.
    pub(super) fn offer_turn(&mut self, now: Time, thread: &ThreadId, turn: &TurnId, root: Option<&str>) -> bool {
        let Some(entry) = self.threads.get(thread) else { return false };
        let readers = entry.turns_log.readers();
        if readers == 0 || entry.live.is_some() {
            return false;
        }
        let unclaimed = self.turns.values().filter(|turn| turn.thread == *thread && !turn.unclaimed.is_empty()).count();
        let event = if unclaimed >= self.config.limits.max_unclaimed_turns {
            RawEvent::Gap(1)
        } else {
            let Ok(key) = self.attach_turn(now, thread, turn, &TurnOptions::default()) else { return false };
            let keys: Vec<SubscriptionKey> = (0..readers).map(|_| self.subscribe(Scope::Turn(key))).collect();
            if let Some(turn) = self.turns.get_mut(&key) {
                turn.holders = u32::try_from(readers).unwrap_or(u32::MAX);
                turn.unclaimed = keys;
                // It was seen from its beginning.
                turn.is_partial = false;
                // A review goes on under another name than it begins with.
                turn.alias = root.filter(|root| turn.id.as_ref().is_some_and(|id| id != root)).map(TurnId::from);
                turn.also = None;
            }
            RawEvent::Turn(key)
        };
        let policy = self.policy();
        let events = &mut self.events;
        if let Some(entry) = self.threads.get_mut(thread) {
            entry.turns_log.push(event, policy, |key| events.push_back(Event::Readable(key)));
        }
        true
    }

    /// A reader of a thread's turns goes, with the turns that it has not taken.
    pub(super) fn drop_offers(&mut self, offered: Vec<TurnKey>) {
        for key in offered {
            if let Some(reader) = self.claim_turn(key) {
                self.unsubscribe(reader);
            }
            self.release_turn(key);
        }
    }

    /// Whether the turn has not been sent, so that there is nothing to interrupt.
    pub(super) fn is_queued(&self, key: TurnKey) -> bool {
        self.turn_state(key) == Some(State::Queued)
    }
}

/// Whether the server waits for somebody, from the params of `thread/status/changed`.
pub(super) fn is_asking(params: Option<JsonText<'_>>) -> bool {
    #[derive(Deserialize)]
    struct Changed {
        status: Status,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Status {
        #[serde(default)]
        active_flags: Vec<serde::de::IgnoredAny>,
    }
    params
        .and_then(|params| serde_json::from_str::<Changed>(params.get()).ok())
        .is_some_and(|changed| !changed.status.active_flags.is_empty())
}
