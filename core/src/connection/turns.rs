//! Commands about turns, and what follows from them.

use super::{Connection, Event, Lane, Pending, Prepared, Purpose, ThreadEntry};
use crate::{
    envelope::{JsonText, Keys},
    error::{CallError, Delivery, Disconnect, Fault, SteerError, TurnError, UsageError},
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{Request, TurnInterrupt, TurnStart, TurnSteer, UserInput},
    time::Time,
    turn::{
        Cause, DropPolicy, Interrupt, InterruptOutcome, Origin, RawEvent, State, Turn, TurnKey, TurnOptions,
        TurnReport, WhenBusy, actual_turn, mark_of_input, mark_of_message, steer_error,
    },
};
use alloc::{borrow::Cow, boxed::Box, collections::VecDeque, vec::Vec};
use core::time::Duration;
use serde_json::value::RawValue;

/// How often an interrupt is held again after the server refused it as too early.
const MAX_INTERRUPT_REFUSALS: u32 = 3;

/// How long a turn that has to be stopped is left alone after the server has refused to.
const INTERRUPT_PAUSE: Duration = Duration::from_secs(1);

/// How many turns that ended are remembered, to tell an end that comes twice or late from one under an unknown name.
const RECENT_ENDS: usize = 64;

/// What a timer of a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TurnTimer {
    Deadline,
    /// The thread was said to be idle, and the end of the turn is to follow.
    Idle,
    Interrupt,
    /// The turn of a compaction is to show itself.
    Naming,
    /// Nothing is heard of the turn.
    Silence,
}

/// The first server that answers a start on a busy thread with the turn that runs. Those before name a turn that never is:
/// the end of what runs instead is then the only sign that there will be.
const NO_DEAD_TURNS_SINCE: &str = "0.154.0";

/// Commands: turns.
impl Connection {
    /// Starts a turn (`turn/start`). The turn has its local name at once; [`Event::Turn`] says when the server has named
    /// it, or has refused.
    ///
    /// # Errors
    /// When the thread is busy, unless the options say what to do then, and as for [`request`](Self::request). Nothing was
    /// sent then.
    pub fn start_turn(&mut self, now: Time, params: &TurnStart, options: &TurnOptions) -> Result<TurnKey, TurnError> {
        let (mut params, mut options) = (params.clone(), options.clone());
        options.take_sandbox(&mut params);
        let request = Prepared::new(&params).map_err(TurnError::Start)?;
        self.enter_turn(now, params.thread_id, request, &options)
    }

    /// Starts a turn with a `turn/start` that is encoded already.
    ///
    /// # Errors
    /// As for [`start_turn`](Self::start_turn).
    pub fn enter_turn(
        &mut self,
        now: Time,
        thread: ThreadId,
        request: Prepared,
        options: &TurnOptions,
    ) -> Result<TurnKey, TurnError> {
        self.enter_turn_as(now, thread, request, options, Origin::Start)
    }

    pub(super) fn enter_turn_as(
        &mut self,
        now: Time,
        thread: ThreadId,
        request: Prepared,
        options: &TurnOptions,
        origin: Origin,
    ) -> Result<TurnKey, TurnError> {
        let on_own_thread = matches!(origin, Origin::Detached);
        let entry = self.threads.get(&thread);
        let is_ours = entry.is_some_and(|entry| entry.live.is_some() || !entry.queue.is_empty());
        let is_busy = !on_own_thread && (is_ours || self.is_busy_with_others(thread.as_str()));
        let waits = match options.when_busy {
            WhenBusy::Queue => is_busy,
            WhenBusy::Join if !is_ours => false,
            _ if is_busy => return Err(TurnError::Busy(thread)),
            _ => false,
        };
        if let Some(fault) = self.refusal() {
            return Err(TurnError::Start(CallError::new(request.method, fault)));
        }
        // What it may not have is told at once; what it gets is put in when it is sent.
        if options.sandbox.is_some() || options.profile.is_some() {
            self.arrange_sandbox(&thread, &mut request.clone(), options).map_err(TurnError::Relaxes)?;
        }
        let key = TurnKey(self.next_turn);
        if waits {
            let limit = self.config.limits.max_queued_turns;
            self.check(&request).map_err(TurnError::Start)?;
            let entry = self.threads.entry(thread.clone()).or_default();
            if entry.queue.len() >= limit {
                return Err(TurnError::QueueFull { limit });
            }
            entry.queue.push_back(key);
        }
        self.next_turn += 1;
        let turn = Turn::queued(now, thread.clone(), request, options, origin);
        if let Some((at, _)) = turn.deadline {
            self.turn_timers.insert((at, key, TurnTimer::Deadline));
        }
        self.turns.insert(key, turn.into());
        if !waits {
            self.send_queued(now, key);
            if self.turn_state(key) == Some(State::NotStarted) {
                // It is told at once, as with any other request.
                let fault = self.turns.get_mut(&key).and_then(|turn| turn.start_fault.take());
                self.turns.remove(&key);
                self.prune_thread(thread.as_str());
                self.events.retain(|event| *event != Event::Turn(key));
                return Err(TurnError::Start(
                    fault.unwrap_or_else(|| CallError::new(TurnStart::METHOD, Fault::Withdrawn)),
                ));
            }
        }
        Ok(key)
    }

    /// Gives a running turn more input (`turn/steer`). Before the server has named the turn, the input is held.
    ///
    /// # Errors
    /// When the turn is over, and as for [`request`](Self::request). Nothing was sent then. What the server refuses
    /// comes with the response; [`steer_error`] tells the kinds apart.
    pub fn steer(&mut self, now: Time, key: TurnKey, input: Vec<UserInput>) -> Result<Pending<TurnSteer>, SteerError> {
        if let Some(fault) = self.refusal() {
            return Err(SteerError::Call(CallError::new(TurnSteer::METHOD, fault)));
        }
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| !turn.state().is_end()) else {
            return Err(SteerError::Ended);
        };
        let limit = self.config.limits.max_queued_requests;
        if self.requests.len() >= limit.saturating_add(self.config.limits.max_in_flight) {
            return Err(SteerError::Call(CallError::new(TurnSteer::METHOD, Fault::QueueFull { limit })));
        }
        let within = (self.config.timeouts.call, self.config.timeouts.reply);
        let request = self.requests.enter_held(now, TurnSteer::METHOD.into(), Purpose::Call, within);
        turn.held_steers.push((request, input));
        self.send_held_steers(now, key);
        Ok(Pending::new(request))
    }

    /// Asks the server to end a turn (`turn/interrupt`), once: further calls join the first. Before there is evidence
    /// that the turn runs the request is held, because the server would refuse it and run the turn.
    /// [`interrupt_outcome`](Self::interrupt_outcome) has the outcome, and [`Event::Turn`] says when.
    ///
    /// # Errors
    /// When the turn was released.
    pub fn interrupt(&mut self, now: Time, key: TurnKey) -> Result<(), UsageError> {
        let turn = self.turns.get_mut(&key).ok_or(UsageError::NoSuchTurn)?;
        match &turn.interrupt {
            Interrupt::Idle => {}
            // The server has certainly not taken it, so it may be asked again.
            interrupt if interrupt.may_ask() && !turn.state().is_end() => {}
            Interrupt::Held { .. } | Interrupt::Sent { .. } | Interrupt::Settled(_) => return Ok(()),
        }
        if turn.state().is_end() {
            turn.interrupt = Interrupt::Settled(Ok(InterruptOutcome::AlreadyEnded));
            self.events.push_back(Event::Turn(key));
            return Ok(());
        }
        if self.is_queued(key) {
            self.withdraw(key);
            return self.interrupt(now, key);
        }
        self.hold_interrupt(now, key);
        Ok(())
    }

    /// Says that its holder will not ask for the turn any more, and does what the turn's [`DropPolicy`] says if it was the
    /// last. A start that was not sent is taken back.
    pub fn drop_turn(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let is_wanted = turn.holders > 1 || turn.on_drop == DropPolicy::LeaveRunning || turn.state() == State::Queued;
        if !is_wanted && !turn.state().is_end() {
            turn.wants_stop = true;
            if turn.interrupt.may_ask() {
                self.hold_interrupt(now, key);
            }
        }
        self.release_turn(key);
        self.start_queued(now);
    }

    /// Says that its holder will not ask for the turn any more. It runs on; if that was the last, what it produces is not
    /// collected. What waits for its thread is moved on by the next call that takes the time, if this made the thread free.
    pub fn release_turn(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        turn.release();
        if !turn.is_held() {
            self.drop_unsent_start(key);
        }
        self.prune_turn(key);
    }

    /// Fetches the report of an ended turn, once: `None` before the end and after it was fetched. A turn that did not
    /// start has an error instead.
    pub fn take_report(&mut self, key: TurnKey) -> Option<Result<TurnReport, CallError>> {
        let turn = self.turns.get_mut(&key)?;
        match turn.start_fault.take() {
            Some(fault) => Some(Err(fault)),
            None => turn.take_report().map(Ok),
        }
    }

    /// Where a turn stands.
    #[must_use]
    pub fn turn_state(&self, key: TurnKey) -> Option<State> {
        self.turns.get(&key).map(|turn| turn.state())
    }

    /// The server's name of a turn, once it is known.
    #[must_use]
    pub fn turn_id(&self, key: TurnKey) -> Option<&TurnId> {
        self.turns.get(&key)?.id.as_ref()
    }

    /// Whether something was heard of a turn, or of another on its thread, whose start was never answered. Then it may run,
    /// and starting it again could do its work twice.
    #[must_use]
    pub fn turn_was_seen(&self, key: TurnKey) -> bool {
        self.turns.get(&key).is_some_and(|turn| turn.was_seen || turn.id.is_some())
    }

    /// Whether the server put the input into a turn that ran already.
    #[must_use]
    pub fn turn_joined(&self, key: TurnKey) -> bool {
        self.turns.get(&key).is_some_and(|turn| turn.joined)
    }

    /// What became of the interrupt of a turn, once that is settled.
    #[must_use]
    pub fn interrupt_outcome(&self, key: TurnKey) -> Option<Result<InterruptOutcome, CallError>> {
        match &self.turns.get(&key)?.interrupt {
            Interrupt::Settled(outcome) => Some(outcome.clone().map_err(|error| *error)),
            Interrupt::Idle | Interrupt::Held { .. } | Interrupt::Sent { .. } => None,
        }
    }
}

/// What follows.
impl Connection {
    /// The answer to `turn/start` came, or will not come.
    pub(super) fn handle_turn_started(
        &mut self,
        now: Time,
        key: TurnKey,
        method: Cow<'static, str>,
        outcome: Result<Json, Fault>,
    ) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if let (Origin::Compaction { .. }, Ok(_)) = (&turn.origin, &outcome) {
            return self.handle_compaction_taken(now, key);
        }
        let detached = matches!(turn.origin, Origin::Detached);
        let mut strays = VecDeque::new();
        let named = outcome.and_then(|json| {
            let raw: Option<&RawValue> = json.decode().ok();
            let Some(id) = Keys::of(raw).turn().map(TurnId::from) else {
                let message = "there is no turn.id".into();
                return Err(Fault::Decode { path: "turn.id".into(), message, raw: json });
            };
            if detached {
                strays = self.move_review(key, json)?;
            }
            Ok(id)
        });
        match named.map_err(|fault| CallError::new(method, fault)) {
            Ok(id) => {
                self.name_turn(now, key, id);
                self.replay_strays(now, key, strays);
                self.end_if_remembered(key);
            }
            Err(fault) => {
                let Some(turn) = self.turns.get_mut(&key) else { return };
                let thread = turn.thread.clone();
                turn.was_seen = self.threads.get(&thread).is_some_and(ThreadEntry::has_parked);
                // If the server may have it all the same, its sandbox may be in force.
                if !fault.may_have_effect() {
                    self.sandbox_refused(&thread, key);
                }
                let Some(turn) = self.turns.get_mut(&key) else { return };
                let ended = turn.end_unstarted(fault);
                turn.is_over_for_server = true;
                self.leave_review(key);
                if !detached {
                    self.drop_parked(Some(now), &thread);
                }
                self.handle_turn_over(key, ended);
            }
        }
    }

    /// The server has named a turn.
    pub(super) fn name_turn(&mut self, now: Time, key: TurnKey, id: TurnId) {
        self.stop_naming_timer(key);
        let Some(turn) = self.turns.get_mut(&key) else { return };
        turn.joined = turn.running_before.as_ref() == Some(&id);
        turn.is_evident |= turn.joined;
        turn.set_id(id);
        turn.advance(Cause::Accepted);
        let thread = turn.thread.clone();
        self.sandbox_accepted(&thread, key);
        self.events.push_back(Event::Turn(key));
        self.arm_silence(now, key);
        if self.threads.get(&thread).is_some_and(|entry| entry.live == Some(key)) {
            self.replay_parked(now, key);
        }
        self.send_held_steers(now, key);
        self.send_held_interrupt(now, key);
    }

    /// Something proved that the turn runs.
    pub(super) fn handle_evidence_of_turn(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if !turn.is_evident {
            let thread = turn.thread.clone();
            self.sandbox_runs(&thread, key);
        }
        let Some(turn) = self.turns.get_mut(&key) else { return };
        // What is done here, `Turn::is_unmoved_by_evidence` knows of.
        turn.is_evident = true;
        if let Some(until) = turn.idle_until.take() {
            self.turn_timers.remove(&(until, key, TurnTimer::Idle));
        }
        match &turn.interrupt {
            Interrupt::Held { .. } => self.send_held_interrupt(now, key),
            // Past its deadline it is stopped, though an interrupt failed before; and so is one that was dropped for that.
            interrupt
                if (turn.wants_stop || turn.state() == State::TimedOut)
                    && interrupt.may_ask()
                    && turn.interrupt_again.is_none_or(|again| now >= again) =>
            {
                self.hold_interrupt(now, key);
            }
            _ => {}
        }
    }

    /// Another turn began on the thread of a turn that runs. The server runs one at a time, so that one is over, and its
    /// end was missed.
    pub(super) fn handle_overtaken(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| turn.is_evident) else { return };
        let ended = turn.end_by_server(None, JsonText::NULL);
        self.handle_turn_over(key, ended);
    }

    /// The server says that the thread of the turn is idle. For a turn that ended only here, that is the end there. For one
    /// that runs here, the end follows at once, or was missed.
    pub(super) fn handle_thread_idle(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if !turn.state().is_end() && turn.is_evident {
            return self.expect_end(now, key, self.config.timeouts.idle);
        }
        self.handle_end_of_other(now, key, None);
        let Some(turn) = self.turns.get_mut(&key) else { return };
        // Before it began, the thread may be idle after somebody else's.
        if turn.state().is_end() && turn.is_evident {
            turn.is_over_for_server = true;
            self.handle_turn_over(key, false);
        }
    }

    /// The server says that the thread of the turn is active, after it was idle or not: its end is not to be waited for yet.
    pub(super) fn handle_thread_active(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| turn.is_evident && !turn.state().is_end()) else {
            return;
        };
        if let Some(until) = turn.idle_until.take() {
            self.turn_timers.remove(&(until, key, TurnTimer::Idle));
        }
    }

    /// The server does not have the thread of the turn any more, so nothing runs there. The end follows, or was missed.
    pub(super) fn handle_thread_gone(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if turn.state().is_end() {
            turn.is_over_for_server = true;
            self.handle_turn_over(key, false);
        } else if turn.id.is_some() {
            self.expect_end(now, key, self.config.timeouts.idle);
        }
    }

    /// Ends the turn after this time, unless its end or a sign of life comes before.
    fn expect_end(&mut self, now: Time, key: TurnKey, within: Duration) {
        let until = now + within;
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| turn.idle_until.is_none()) else { return };
        turn.idle_until = Some(until);
        self.turn_timers.insert((until, key, TurnTimer::Idle));
    }

    pub(super) fn handle_turn_timer(&mut self, now: Time, key: TurnKey, timer: TurnTimer) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        match timer {
            TurnTimer::Silence => self.handle_silence(now, key),
            TurnTimer::Deadline => {
                let was_queued = turn.state() == State::Queued;
                let ended = turn.end_by_deadline();
                if was_queued {
                    self.leave_queue(key);
                } else if ended && turn.interrupt.may_ask() {
                    self.hold_interrupt(now, key);
                }
                self.handle_turn_over(key, ended);
                self.drop_unsent_start(key);
            }
            TurnTimer::Naming => self.handle_naming_timer(now, key),
            TurnTimer::Idle => {
                turn.idle_until = None;
                // Of one that there was no sign of, the server has named a turn that never was.
                turn.is_evident = true;
                self.forget_running(key);
                self.handle_overtaken(key);
            }
            TurnTimer::Interrupt => {
                let delivery = match turn.interrupt {
                    Interrupt::Held { .. } => Delivery::NotSent,
                    Interrupt::Sent { request, .. } => {
                        let delivery = self.requests.delivery(request);
                        self.requests.abandon(request);
                        delivery
                    }
                    Interrupt::Idle | Interrupt::Settled(_) => return,
                };
                let fault = self.timed_out(delivery, self.config.timeouts.interrupt);
                self.settle_interrupt(key, Err(CallError::new(TurnInterrupt::METHOD, fault)));
            }
        }
    }

    /// The answer to `turn/interrupt` came, or will not come.
    pub(super) fn handle_interrupted(&mut self, now: Time, key: TurnKey, outcome: Result<Json, CallError>) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let Interrupt::Sent { until, .. } = turn.interrupt else { return };
        match outcome {
            Ok(_) => self.settle_interrupt(key, Ok(InterruptOutcome::Acknowledged)),
            Err(error)
                if crate::turn::says_no_active_turn(&error)
                    && !turn.is_over_for_server
                    && now < until
                    && turn.interrupt_refusals < MAX_INTERRUPT_REFUSALS =>
            {
                turn.interrupt_refusals += 1;
                let thread = turn.thread.clone();
                // It did not run yet after all, or not any more. The next sign of life, or the end, tells.
                turn.advance(Cause::InterruptRefused);
                turn.is_evident = false;
                turn.interrupt = Interrupt::Held { until };
                let began = self.watched.get(&thread).and_then(|watched| watched.running.as_ref());
                if began.is_some_and(|began| turn.is_named(began.as_str())) {
                    // It had begun, so it is over.
                    self.expect_end(now, key, self.config.timeouts.idle);
                }
            }
            Err(error) => {
                turn.advance(Cause::InterruptRefused);
                turn.interrupt_again = Some(now + INTERRUPT_PAUSE);
                self.settle_interrupt(key, Err(other_turn(error)));
            }
        }
    }

    /// A turn is over, here (`ended`: just now) or for the server or both.
    pub(super) fn handle_turn_over(&mut self, key: TurnKey, ended: bool) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let is_over_for_server = turn.is_over_for_server;
        let thread = turn.thread.clone();
        if ended || is_over_for_server {
            if let Some(until) = turn.idle_until.take() {
                self.turn_timers.remove(&(until, key, TurnTimer::Idle));
            }
        }
        if is_over_for_server {
            // One that ended only here is still to be named, so that it can be stopped.
            self.stop_naming_timer(key);
        }
        if ended {
            let Some(turn) = self.turns.get_mut(&key) else { return };
            if let Some((at, _)) = turn.deadline {
                self.turn_timers.remove(&(at, key, TurnTimer::Deadline));
            }
            if let Some(at) = turn.silence.as_mut().and_then(|silence| silence.armed.take()) {
                self.turn_timers.remove(&(at, key, TurnTimer::Silence));
            }
            let state = turn.state();
            let steers = core::mem::take(&mut turn.held_steers);
            self.push_to_turn(key, RawEvent::Ended(state));
            if let Some(turn) = self.turns.get_mut(&key) {
                let events = &mut self.events;
                turn.log.finish(|subscription| events.push_back(Event::Readable(subscription)));
            }
            for (request, _) in steers {
                // Nothing follows from a steer, so no time is needed.
                let answered = self.requests.settle(request, Err(Fault::TurnEnded));
                self.tell_answered(request, &answered);
            }
            self.events.push_back(Event::Turn(key));
        }
        if is_over_for_server {
            self.sandbox_over(&thread);
            let names = self.turns.get(&key).map(|turn| [turn.id.clone(), turn.also.clone()]).unwrap_or_default();
            for name in names.iter().flatten() {
                self.end_asks_of_turn(thread.as_str(), name.as_str());
            }
            if let Some(entry) = self.threads.get_mut(&thread) {
                if entry.live == Some(key) {
                    entry.live = None;
                    self.note_freed(thread.as_str());
                }
            }
            if let Some(Interrupt::Held { .. } | Interrupt::Sent { .. }) =
                self.turns.get(&key).map(|turn| &turn.interrupt)
            {
                self.abandon_interrupt(key);
                let start_fault = self.turns.get(&key).and_then(|turn| turn.start_fault.clone());
                let outcome = match start_fault.filter(CallError::may_have_effect) {
                    Some(fault) => Err(fault),
                    None => Ok(InterruptOutcome::AlreadyEnded),
                };
                self.settle_interrupt(key, outcome);
            }
            self.prune_thread(thread.as_str());
        }
        self.prune_turn(key);
    }

    /// The connection is over, and with it every turn.
    pub(super) fn lose_turns(&mut self, cause: &Disconnect) {
        let mut keys: Vec<TurnKey> = self.turns.keys().copied().collect();
        keys.sort_unstable();
        for key in keys {
            if self.is_queued(key) {
                self.end_queued(
                    key,
                    CallError::new(
                        TurnStart::METHOD,
                        Fault::Disconnected { delivery: Delivery::NotSent, cause: cause.clone() },
                    ),
                );
            }
            let Some(turn) = self.turns.get_mut(&key) else { continue };
            let ended = turn.end_by_loss(cause.clone());
            if matches!(turn.interrupt, Interrupt::Held { .. } | Interrupt::Sent { .. }) {
                let delivery = match turn.interrupt {
                    Interrupt::Sent { .. } => Delivery::Sent,
                    _ => Delivery::NotSent,
                };
                let fault = Fault::Disconnected { delivery, cause: cause.clone() };
                self.settle_interrupt(key, Err(CallError::new(TurnInterrupt::METHOD, fault)));
            }
            self.handle_turn_over(key, ended);
        }
        self.give_restores_up();
    }

    /// Nothing was heard of a turn for as long as the timer was set for. It may be set for longer by now.
    fn handle_silence(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let Some(silence) = &mut turn.silence else { return };
        let due = silence.due();
        if due > now {
            silence.armed = Some(due);
            self.turn_timers.insert((due, key, TurnTimer::Silence));
            return;
        }
        silence.armed = None;
        let (limit, age) = (silence.limit(), silence.age(now));
        let ended = turn.end_by_silence(limit, age);
        if ended && turn.interrupt.may_ask() {
            self.hold_interrupt(now, key);
        }
        self.handle_turn_over(key, ended);
    }

    /// From here on the turn may not be silent for too long.
    pub(super) fn arm_silence(&mut self, now: Time, key: TurnKey) {
        let Some(silence) = self.turns.get_mut(&key).and_then(|turn| turn.silence.as_mut()) else { return };
        silence.hear(now);
        self.keep_silence_timer(key);
    }

    /// A sign of life of a turn.
    pub(super) fn hear_turn(
        &mut self,
        now: Time,
        key: TurnKey,
        method: &str,
        item: Option<&str>,
        params: Option<JsonText<'_>>,
    ) {
        let Some(silence) = self.turns.get_mut(&key).and_then(|turn| turn.silence.as_mut()) else { return };
        silence.hear(now);
        match (method, item, params) {
            ("item/started", Some(item), Some(params)) => {
                if let Some(kind) = crate::turn::kind_of_item(params) {
                    silence.begin(item, &kind);
                }
            }
            ("item/completed", Some(item), _) => silence.complete(item),
            _ => {}
        }
        self.keep_silence_timer(key);
    }

    /// The server says whether it waits for somebody, on the thread of a turn.
    pub(super) fn hear_asking(&mut self, now: Time, key: TurnKey, is_asking: bool) {
        let Some(silence) = self.turns.get_mut(&key).and_then(|turn| turn.silence.as_mut()) else { return };
        silence.hear(now);
        silence.ask(is_asking);
        self.keep_silence_timer(key);
    }

    /// Sets the timer of silence if there is none, or if it would fire too late.
    fn keep_silence_timer(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| turn.id.is_some() && !turn.state().is_end()) else {
            return;
        };
        let Some(silence) = &mut turn.silence else { return };
        let due = silence.due();
        if silence.armed.is_some_and(|armed| armed <= due) {
            return;
        }
        if let Some(armed) = silence.armed.replace(due) {
            self.turn_timers.remove(&(armed, key, TurnTimer::Silence));
        }
        self.turn_timers.insert((due, key, TurnTimer::Silence));
    }

    /// Whether the server may have named a turn that never is, and put the input into the one that runs.
    pub(super) fn may_name_dead_turns(&self) -> bool {
        self.may_be_older_than(NO_DEAD_TURNS_SINCE)
    }

    pub(super) fn may_be_dead(&self, key: TurnKey) -> bool {
        let turn = self.turns.get(&key);
        turn.is_some_and(|turn| turn.start.is_some() && turn.id.is_some() && !turn.is_evident)
            && self.may_name_dead_turns()
    }

    /// Whether this event of another turn is the input of this one, so that the other is what the input went into.
    pub(super) fn is_renamed(&self, key: TurnKey, method: &str, named: &str, params: Option<JsonText<'_>>) -> bool {
        let Some(turn) = self.turns.get(&key) else { return false };
        if turn.alias.as_ref().is_some_and(|alias| alias == named) {
            return true;
        }
        let Some(mark) = turn.input_mark else { return false };
        matches!(method, "item/started" | "item/completed")
            && self.may_be_dead(key)
            && params.and_then(mark_of_message) == Some(mark)
    }

    /// The turn is known by another name than the one that its start was answered with.
    pub(super) fn rename_turn(&mut self, now: Time, key: TurnKey, id: TurnId) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let is_second_name = turn.alias.take().as_ref() == Some(&id);
        turn.joined |= !is_second_name;
        let first = turn.id.clone();
        turn.set_id(id);
        turn.also = first.filter(|_| is_second_name);
        self.events.push_back(Event::Turn(key));
        self.handle_evidence_of_turn(now, key);
    }

    /// Something else ended on the thread of a turn: the turn of that name, if it is known.
    ///
    /// A turn that there is no sign of may be one that the server has named and that never is. From a server that is known to
    /// do that it is not waited for longer than after any end, and from others for as long as for an answer. A turn that does
    /// run may have ended under a name that nobody was told.
    pub(super) fn handle_end_of_other(&mut self, now: Time, key: TurnKey, named: Option<&str>) {
        let Some(turn) = self.turns.get(&key).filter(|turn| turn.id.is_some() && !turn.is_over_for_server) else {
            return;
        };
        let is_known = |named| self.recent_ends.iter().any(|recent| recent == named);
        let timeouts = &self.config.timeouts;
        let within = if turn.is_evident {
            if named.is_none_or(is_known) {
                return;
            }
            timeouts.idle
        } else if turn.interrupt_refusals > 0 || self.may_name_dead_turns() {
            timeouts.idle
        } else {
            timeouts.idle.max(timeouts.reply)
        };
        self.expect_end(now, key, within);
    }

    /// Remembers that a turn ended, whosever it was.
    pub(super) fn note_end(&mut self, keys: &Keys<'_>) {
        let Some(turn) = keys.turn() else { return };
        if self.recent_ends.len() >= RECENT_ENDS {
            self.recent_ends.pop_front();
        }
        self.recent_ends.push_back(turn.into());
    }

    fn hold_interrupt(&mut self, now: Time, key: TurnKey) {
        let until = now + self.config.timeouts.interrupt;
        let Some(turn) = self.turns.get_mut(&key) else { return };
        turn.interrupt = Interrupt::Held { until };
        self.turn_timers.insert((until, key, TurnTimer::Interrupt));
        self.send_held_interrupt(now, key);
    }

    fn send_held_interrupt(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let (Interrupt::Held { until }, Some(id), true) = (&turn.interrupt, &turn.id, turn.is_evident) else { return };
        let until = *until;
        let params = TurnInterrupt::new(turn.thread.clone(), id.clone());
        let entered = Prepared::new(&params)
            .and_then(|request| self.enter_as(now, request, Purpose::Interrupt(key), Lane::Urgent));
        let Some(turn) = self.turns.get_mut(&key) else { return };
        match entered {
            Ok(request) => {
                turn.interrupt = Interrupt::Sent { request, until };
                turn.advance(Cause::Interrupt);
            }
            Err(error) => self.settle_interrupt(key, Err(error)),
        }
    }

    fn abandon_interrupt(&mut self, key: TurnKey) {
        if let Some(Interrupt::Sent { request, .. }) = self.turns.get(&key).map(|turn| &turn.interrupt) {
            let request = *request;
            self.requests.abandon(request);
        }
    }

    fn settle_interrupt(&mut self, key: TurnKey, outcome: Result<InterruptOutcome, CallError>) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        if let Interrupt::Held { until } | Interrupt::Sent { until, .. } = turn.interrupt {
            self.turn_timers.remove(&(until, key, TurnTimer::Interrupt));
        }
        turn.interrupt = Interrupt::Settled(outcome.map_err(Box::new));
        self.events.push_back(Event::Turn(key));
    }

    fn send_held_steers(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let Some(id) = turn.id.clone() else { return };
        let thread = turn.thread.clone();
        for (request, input) in core::mem::take(&mut turn.held_steers) {
            let params = TurnSteer::new(thread.clone(), id.clone(), input);
            if let Err(fault) = self.requests.queue(request, &params, Lane::Urgent) {
                self.settle_request(now, request, Err(fault));
            }
        }
    }

    /// Takes a start back that was not sent and that nobody wants any more.
    fn drop_unsent_start(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let is_wanted = turn.is_held() && !turn.state().is_end();
        if turn.id.is_some() || is_wanted || turn.is_over_for_server || turn.origin.is_taken() {
            return;
        }
        if turn.state() == State::Queued {
            return self.withdraw(key);
        }
        let Some(start) = turn.start.filter(|start| self.requests.delivery(*start) == Delivery::NotSent) else {
            return;
        };
        self.requests.abandon(start);
        let ended = turn.end_unstarted(CallError::new(TurnStart::METHOD, Fault::Withdrawn));
        let thread = turn.thread.clone();
        self.sandbox_refused(&thread, key);
        if !matches!(self.turns.get(&key).map(|turn| &turn.origin), Some(Origin::Detached)) {
            self.drop_parked(None, &thread);
        }
        self.leave_review(key);
        self.handle_turn_over(key, ended);
    }

    fn leave_queue(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        turn.queued = None;
        if let Some(entry) = self.threads.get_mut(&turn.thread) {
            entry.queue.retain(|other| *other != key);
        }
    }

    /// Forgets a turn that is over here and there and that nobody asks for. Who listens to it still has its events to read.
    fn prune_turn(&mut self, key: TurnKey) {
        if self.turns.get(&key).is_none_or(|turn| turn.is_held() || !turn.is_over_for_server) {
            return;
        }
        self.asks.forget_turn(key);
        let Some(turn) = self.turns.remove(&key) else { return };
        let mut log = turn.log;
        if !log.is_unheard() {
            let events = &mut self.events;
            log.finish(|subscription| events.push_back(Event::Readable(subscription)));
            self.left_logs.insert(key, log);
        }
    }

    /// Fetches what came of a steer, once; see [`take_response`](Self::take_response).
    pub fn take_steer(
        &mut self,
        pending: &Pending<TurnSteer>,
        expected: &TurnId,
    ) -> Option<Result<TurnId, SteerError>> {
        let outcome = self.take_response(pending)?;
        Some(steered(outcome, expected))
    }
}

/// What the input of a `turn/start` says, in a number.
pub(super) fn mark_of_params(request: &Prepared) -> Option<u64> {
    mark_of_input(&request.params)
}

/// The error of an interrupt, with the turn that runs instead if the server named it.
pub(crate) fn other_turn(error: CallError) -> CallError {
    let actual = error.rpc().and_then(|rpc| actual_turn(&rpc.message)).map(TurnId::from);
    match (actual, error) {
        (Some(actual), CallError { method, fault: Fault::Rpc(error) }) => {
            CallError::new(method, Fault::OtherTurn { actual, error })
        }
        (_, error) => error,
    }
}

/// What came of a steer, in the caller's terms.
pub(crate) fn steered(
    outcome: Result<<TurnSteer as Request>::Response, CallError>,
    expected: &TurnId,
) -> Result<TurnId, SteerError> {
    match outcome {
        Ok(response) => Ok(response.turn_id),
        Err(error) if matches!(error.fault, Fault::TurnEnded) => Err(SteerError::Ended),
        Err(error) => Err(steer_error(error, expected)),
    }
}
