//! Commands about turns, and what follows from them.

use super::{Connection, Event, Lane, Pending, Prepared, Purpose, ThreadEntry};
use crate::{
    envelope::{JsonText, Keys},
    error::{CallError, Delivery, Disconnect, Fault, SteerError, TurnError, UsageError},
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{Request, TurnInterrupt, TurnStart, TurnSteer, UserInput},
    record::Step,
    time::Time,
    turn::{Cause, Interrupt, InterruptOutcome, RawEvent, State, Turn, TurnKey, TurnReport, steer_error},
};
use alloc::vec::Vec;
use core::time::Duration;
use serde_json::value::RawValue;

/// How often an interrupt is held again after the server refused it as too early.
const MAX_INTERRUPT_REFUSALS: u32 = 3;

/// What can be said of a turn beside its params.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TurnOptions {
    /// How long the turn may take from its start. Past that it ends as timed out, and the server is told to stop it.
    /// `None`: as long as it takes, which may be for ever.
    pub deadline: Option<Duration>,
}

impl TurnOptions {
    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }
}

/// What a timer of a turn is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum TurnTimer {
    Deadline,
    /// The thread was said to be idle, and the end of the turn is to follow.
    Idle,
    Interrupt,
}

/// Commands: turns.
impl Connection {
    /// Starts a turn (`turn/start`). The turn has its local name at once; [`Event::Turn`] says when the server has named
    /// it, or has refused.
    ///
    /// # Errors
    /// When the thread runs a turn of this connection, and as for [`request`](Self::request). Nothing was sent then.
    pub fn start_turn(&mut self, now: Time, params: &TurnStart, options: &TurnOptions) -> Result<TurnKey, TurnError> {
        let request = Prepared::new(params).map_err(TurnError::Start)?;
        self.enter_turn(now, params.thread_id.clone(), request, options)
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
        if self.threads.get(&thread).is_some_and(|entry| entry.live.is_some()) {
            return Err(TurnError::Busy(thread));
        }
        let key = TurnKey(self.next_turn);
        let request = self.enter_as(now, request, Purpose::StartTurn(key), Lane::Normal).map_err(TurnError::Start)?;
        self.next_turn += 1;
        let deadline = options.deadline.map(|limit| (now + limit, limit));
        if let Some((at, within)) = deadline {
            self.turn_timers.insert((at, key, TurnTimer::Deadline));
            self.tap(now, || Step::Deadline { request: request.0, within });
        }
        let mut turn = Turn::new(thread.clone(), request, deadline);
        let entry = self.threads.entry(thread).or_default();
        entry.live = Some(key);
        turn.running_before = entry.running.clone();
        self.turns.insert(key, turn);
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
        self.hold_interrupt(now, key);
        Ok(())
    }

    /// Says that nobody will ask for the turn any more. It runs on; what it produces is not collected.
    pub fn release_turn(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        turn.release();
        self.drop_unsent_start(key);
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
        self.turns.get(&key).map(Turn::state)
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
            Interrupt::Settled(outcome) => Some(outcome.clone()),
            Interrupt::Idle | Interrupt::Held { .. } | Interrupt::Sent { .. } => None,
        }
    }
}

/// What follows.
impl Connection {
    /// The answer to `turn/start` came, or will not come.
    pub(super) fn handle_turn_started(&mut self, now: Time, key: TurnKey, outcome: Result<Json, CallError>) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let named = outcome.and_then(|json| {
            let raw: Option<&RawValue> = json.decode().ok();
            let id = Keys::of(raw).turn().map(TurnId::from);
            id.ok_or_else(|| {
                let message = "there is no turn.id".into();
                CallError::new(TurnStart::METHOD, Fault::Decode { path: "turn.id".into(), message, raw: json })
            })
        });
        match named {
            Ok(id) => {
                turn.joined = turn.running_before.as_ref() == Some(&id);
                turn.is_evident |= turn.joined;
                turn.id = Some(id);
                turn.advance(Cause::Accepted);
                let thread = turn.thread.clone();
                if let Some(entry) = self.threads.get_mut(&thread) {
                    entry.in_doubt = false;
                }
                self.events.push_back(Event::Turn(key));
                self.replay_parked(now, key);
                self.send_held_steers(now, key);
                self.send_held_interrupt(now, key);
            }
            Err(fault) => {
                let thread = turn.thread.clone();
                // If the server may have it all the same, the turn may run, and nobody here can tell.
                let in_doubt = fault.may_have_effect();
                turn.was_seen = self.threads.get(&thread).is_some_and(ThreadEntry::has_parked);
                let ended = turn.end_unstarted(fault);
                turn.is_over_for_server = true;
                self.drop_parked(&thread);
                if let (true, Some(entry)) = (in_doubt, self.threads.get_mut(&thread)) {
                    entry.in_doubt = true;
                }
                self.handle_turn_over(key, ended);
            }
        }
    }

    /// Something proved that the turn runs.
    pub(super) fn handle_evidence_of_turn(&mut self, now: Time, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        // What is done here, `Turn::is_unmoved_by_evidence` knows of.
        turn.is_evident = true;
        if let Some(until) = turn.idle_until.take() {
            self.turn_timers.remove(&(until, key, TurnTimer::Idle));
        }
        match &turn.interrupt {
            Interrupt::Held { .. } => self.send_held_interrupt(now, key),
            // Past its deadline it is stopped, though an interrupt failed before.
            interrupt if turn.state() == State::TimedOut && interrupt.may_ask() => self.hold_interrupt(now, key),
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
        if !turn.state().is_end() && turn.is_evident && turn.idle_until.is_none() {
            let until = now + self.config.timeouts.idle;
            turn.idle_until = Some(until);
            self.turn_timers.insert((until, key, TurnTimer::Idle));
            return;
        }
        // Before it began, the thread may be idle after somebody else's.
        if turn.state().is_end() && turn.is_evident {
            turn.is_over_for_server = true;
            self.handle_turn_over(key, false);
        }
    }

    pub(super) fn handle_turn_timer(&mut self, now: Time, key: TurnKey, timer: TurnTimer) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        match timer {
            TurnTimer::Deadline => {
                let ended = turn.end_by_deadline();
                if ended && turn.interrupt.may_ask() {
                    self.hold_interrupt(now, key);
                }
                self.handle_turn_over(key, ended);
                self.drop_unsent_start(key);
            }
            TurnTimer::Idle => {
                turn.idle_until = None;
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
                let elapsed = self.config.timeouts.interrupt;
                let fault = Fault::TimedOut { delivery, elapsed };
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
                // It did not run yet after all, or not any more. The next sign of life, or the end, tells.
                turn.advance(Cause::InterruptRefused);
                turn.is_evident = false;
                turn.interrupt = Interrupt::Held { until };
            }
            Err(error) => {
                turn.advance(Cause::InterruptRefused);
                self.settle_interrupt(key, Err(error));
            }
        }
    }

    /// A turn is over, here (`ended`: just now) or for the server or both.
    pub(super) fn handle_turn_over(&mut self, key: TurnKey, ended: bool) {
        let Some(turn) = self.turns.get_mut(&key) else { return };
        let is_over_for_server = turn.is_over_for_server;
        let thread = turn.thread.clone();
        if ended {
            if let Some((at, _)) = turn.deadline {
                self.turn_timers.remove(&(at, key, TurnTimer::Deadline));
            }
            if let Some(until) = turn.idle_until.take() {
                self.turn_timers.remove(&(until, key, TurnTimer::Idle));
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
            if let Some(entry) = self.threads.get_mut(&thread) {
                if entry.live == Some(key) {
                    entry.live = None;
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
        let keys: Vec<TurnKey> = self.turns.keys().copied().collect();
        for key in keys {
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
        turn.interrupt = Interrupt::Settled(outcome);
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
        let is_wanted = turn.is_held && !turn.state().is_end();
        if turn.id.is_some() || is_wanted || self.requests.delivery(turn.start) == Delivery::Sent {
            return;
        }
        self.requests.abandon(turn.start);
        turn.is_over_for_server = true;
        if let Some((at, _)) = turn.deadline {
            self.turn_timers.remove(&(at, key, TurnTimer::Deadline));
        }
        self.handle_turn_over(key, false);
    }

    /// Forgets a turn that is over here and there and that nobody asks for.
    fn prune_turn(&mut self, key: TurnKey) {
        if self.turns.get(&key).is_some_and(|turn| !turn.is_held && turn.is_over_for_server) {
            self.turns.remove(&key);
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
