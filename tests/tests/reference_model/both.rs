//! The connection and the model, doing the same, and compared after each step.

use crate::model::{CALL, IN_FLIGHT, INTERRUPT, Model, Outcome, REPLY, State, Stopped, What};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Connection, Pending, Raw, Scope, TurnOptions},
    error::{CallError, Delivery, Fault},
    protocol::{TurnStart, TurnSteer, UserInput},
    time::Time,
    turn::{InterruptOutcome, Next, RawEvent, SubscriptionKey, TurnKey},
};

const THREADS: [&str; 2] = ["T", "U"];

/// What a number of three bytes does; each choice is among what there is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Act {
    Abandon(u8),
    Answer { which: u8, good: bool },
    Call,
    Close,
    End { thread: u8, how: u8 },
    Interrupt(u8),
    Pass(u8),
    Release(u8),
    Say { thread: u8, what: u8 },
    Start { thread: u8, deadline: u8 },
    Steer(u8),
}

impl From<[u8; 3]> for Act {
    fn from([kind, a, b]: [u8; 3]) -> Self {
        match kind % 32 {
            0..=3 => Self::Start { thread: a, deadline: b },
            4..=8 => Self::Answer { which: a, good: b % 4 != 0 },
            9..=13 => Self::Say { thread: a, what: b },
            14..=15 => Self::End { thread: a, how: b },
            16..=18 => Self::Interrupt(a),
            19..=21 => Self::Steer(a),
            22..=24 => Self::Call,
            25 => Self::Abandon(a),
            26 => Self::Release(a),
            27 if a > 240 => Self::Close,
            _ => Self::Pass(a),
        }
    }
}

/// A turn on the side of the server.
#[derive(Clone)]
struct Running {
    name: String,
    key: usize,
    is_over: bool,
}

pub(crate) struct Both {
    real: Connection,
    model: Model,
    calls: Vec<(usize, Pending<Raw>)>,
    steers: Vec<(usize, Pending<TurnSteer>)>,
    turns: Vec<(TurnKey, SubscriptionKey)>,
    listeners: [SubscriptionKey; 2],
    /// What runs on each thread, or would if its start was answered.
    running: [Option<Running>; 2],
    said: u32,
}

fn time(ms: u64) -> Time {
    Time::from_start(Duration::from_millis(ms))
}

fn outcome<T>(result: &Result<T, CallError>) -> Outcome {
    let is_sent = |delivery: Delivery| delivery == Delivery::Sent;
    match result {
        Ok(_) => Outcome::Answered,
        Err(error) => match &error.fault {
            Fault::Rpc(_) => Outcome::Refused,
            Fault::TimedOut { delivery, .. } => Outcome::TimedOut { sent: is_sent(*delivery) },
            Fault::Disconnected { delivery, .. } => Outcome::Disconnected { sent: is_sent(*delivery) },
            Fault::TurnEnded => Outcome::TurnEnded,
            other => panic!("{other:?}"),
        },
    }
}

impl Both {
    pub(crate) fn new() -> Self {
        let mut config = Config::default();
        config.limits.max_in_flight = IN_FLIGHT;
        config.limits.merge_after = None;
        config.timeouts.call = Duration::from_millis(CALL);
        config.timeouts.reply = Duration::from_millis(REPLY);
        config.timeouts.interrupt = Duration::from_millis(INTERRUPT);
        let mut real = Connection::new(Time::ZERO, config);
        let mut out = Vec::new();
        real.poll_transmit(Time::ZERO, &mut out);
        real.handle_input(Time::ZERO, b"{\"id\":1,\"result\":{\"userAgent\":\"model/0.163.0 (Linux)\"}}\n");
        real.poll_transmit(Time::ZERO, &mut out);
        let listeners = THREADS.map(|thread| real.subscribe(Scope::Thread(thread.into())));
        Self {
            real,
            model: Model::default(),
            calls: Vec::new(),
            steers: Vec::new(),
            turns: Vec::new(),
            listeners,
            running: [None, None],
            said: 0,
        }
    }

    /// Runs acts through both; panics where they differ.
    pub(crate) fn run(acts: &[Act]) {
        let mut both = Self::new();
        for act in acts {
            both.act(*act);
            both.compare(act);
        }
        both.act(Act::Close);
        both.compare(&Act::Close);
        for (key, turn) in both.model.turns.clone().iter().enumerate() {
            let report = both.real.take_report(both.turns[key].0);
            assert_eq!(report.is_some(), !turn.released, "turn {key} is to have a report, unless it was released");
            let is_unstarted = report.is_some_and(|report| report.is_err());
            assert_eq!(is_unstarted, !turn.released && turn.state == State::NotStarted);
        }
    }

    fn now(&self) -> Time {
        time(self.model.now)
    }

    fn say(&mut self, line: &Value) {
        self.real.handle_input(self.now(), format!("{line}\n").as_bytes());
    }

    fn held_turn(&self, which: u8) -> Option<usize> {
        let held: Vec<usize> = (0..self.turns.len()).filter(|key| !self.model.turns[*key].released).collect();
        held.get(usize::from(which).checked_rem(held.len())?).copied()
    }

    fn act(&mut self, act: Act) {
        let now = self.now();
        match act {
            Act::Call => {
                let params = json!({});
                let (real, model) = (self.real.request_raw(now, "call", &params).ok(), self.model.call());
                assert_eq!(real.is_some(), model.is_some(), "a call");
                self.calls.extend(model.zip(real));
            }
            Act::Abandon(which) => {
                let Some(place) = usize::from(which).checked_rem(self.calls.len()) else { return };
                let (n, pending) = self.calls.remove(place);
                self.real.abandon(pending.key());
                self.model.abandon(n);
            }
            Act::Start { thread, deadline } => self.start(usize::from(thread % 2), deadline),
            Act::Steer(which) => {
                let Some(key) = self.held_turn(which) else { return };
                let real = self.real.steer(now, self.turns[key].0, vec![UserInput::text("more")]).ok();
                let model = self.model.steer(key);
                assert_eq!(real.is_some(), model.is_some(), "a steer");
                self.steers.extend(model.zip(real));
            }
            Act::Interrupt(which) => {
                let Some(key) = self.held_turn(which) else { return };
                assert!(self.real.interrupt(now, self.turns[key].0).is_ok());
                self.model.interrupt(key);
            }
            Act::Release(which) => {
                let Some(key) = self.held_turn(which) else { return };
                self.real.unsubscribe(self.turns[key].1);
                self.real.release_turn(self.turns[key].0);
                self.model.release(key);
            }
            Act::Pass(steps) => self.pass(u64::from(steps) * 4),
            Act::Answer { which, good } => self.answer(which, good),
            Act::Say { thread, what } => self.notify(usize::from(thread % 2), what),
            Act::End { thread, how } => self.end(usize::from(thread % 2), how),
            Act::Close => {
                self.real.handle_eof(now);
                self.model.close();
                self.running = [None, None];
            }
        }
    }

    fn start(&mut self, thread: usize, deadline: u8) {
        // Of a thread whose start was given up on its way nobody knows what runs there.
        let is_in_doubt = self.running[thread].as_ref().is_some_and(|running| {
            let turn = &self.model.turns[running.key];
            turn.name.is_none() && self.model.live(thread) != Some(running.key)
        });
        if is_in_doubt {
            return;
        }
        let deadline = (deadline % 3 == 0).then(|| 1 + u64::from(deadline) * 3);
        let mut options = TurnOptions::default();
        if let Some(deadline) = deadline {
            options = options.deadline(Duration::from_millis(deadline));
        }
        let params = TurnStart::new(THREADS[thread], [UserInput::text("x")]);
        let real = self.real.start_turn(self.now(), &params, &options).ok();
        let model = self.model.start(thread, deadline);
        assert_eq!(real.is_some(), model.is_some(), "a start");
        if let Some(key) = real {
            let reader = self.real.subscribe(Scope::Turn(key));
            self.turns.push((key, reader));
        }
    }

    /// Time goes from deadline to deadline.
    fn pass(&mut self, ms: u64) {
        let until = self.model.now + ms;
        loop {
            let due = self.model.next_due().filter(|due| *due <= until);
            self.model.now = due.unwrap_or(until).max(self.model.now);
            let now = self.now();
            self.real.handle_timeout(now);
            self.model.time_out();
            self.compare(&Act::Pass(0));
            if due.is_none() {
                return;
            }
        }
    }

    fn answer(&mut self, which: u8, good: bool) {
        let open = self.model.unanswered();
        let Some(n) = usize::from(which).checked_rem(open.len()).map(|place| open[place]) else { return };
        let what = self.model.requests[n].what;
        let mut name = Some(String::new());
        let mut result = json!({});
        if let What::Start(key) = what {
            let thread = self.model.turns[key].thread;
            let Some(running) = &mut self.running[thread] else { return };
            // What has begun is not refused.
            let good = good || running.is_over || running.name.ends_with('!');
            if good {
                name = Some(running.name.trim_end_matches('!').to_owned());
                result = json!({"turn": {"id": name, "status": "inProgress", "items": []}});
            } else {
                name = None;
            }
            if !good || running.is_over {
                self.running[thread] = None;
            }
        } else if let What::Steer(key) = what {
            result = json!({"turnId": self.model.turns[key].name});
            name = name.filter(|_| good);
        } else {
            name = name.filter(|_| good);
        }
        let id = n + 2;
        match name {
            Some(_) => self.say(&json!({"id": id, "result": result})),
            None => self.say(&json!({"id": id, "error": {"code": -32000, "message": "not now"}})),
        }
        self.model.answer(n, name);
    }

    /// The turn that the server runs on a thread, if it does; from now on it has shown itself.
    fn shown(&mut self, thread: usize) -> Option<String> {
        let running = self.running[thread].as_mut().filter(|running| !running.is_over)?;
        let name = running.name.trim_end_matches('!').to_owned();
        running.name = format!("{name}!");
        Some(name)
    }

    fn notify(&mut self, thread: usize, what: u8) {
        let Some(turn) = self.shown(thread) else { return };
        self.said += 1;
        let text = format!("{} ", self.said);
        let (method, more) = match what % 5 {
            0 => ("turn/started", json!({"turn": {"id": turn, "status": "inProgress"}})),
            1 => ("item/started", json!({"item": {"type": "agentMessage", "id": "i", "text": ""}, "turnId": turn})),
            2 => ("item/completed", json!({"item": {"type": "agentMessage", "id": "i", "text": "t"}, "turnId": turn})),
            3 => ("something/new", json!({"turnId": turn, "said": self.said})),
            _ => ("item/agentMessage/delta", json!({"turnId": turn, "itemId": "i", "delta": text})),
        };
        let mut params = more;
        params["threadId"] = THREADS[thread].into();
        self.say(&json!({"method": method, "params": params}));
        let shown = if method.ends_with("delta") { text } else { method.to_owned() };
        self.model.notify(thread, &shown, None);
    }

    fn end(&mut self, thread: usize, how: u8) {
        let Some(turn) = self.shown(thread) else { return };
        let (status, state) = match how % 3 {
            0 => ("completed", State::Completed),
            1 => ("interrupted", State::Interrupted),
            _ => ("failed", State::Failed),
        };
        let params = json!({"threadId": THREADS[thread], "turn": {"id": turn, "status": status, "items": []}});
        self.say(&json!({"method": "turn/completed", "params": params}));
        self.model.notify(thread, "turn/completed", Some(state));
        if let Some(running) = &mut self.running[thread] {
            running.is_over = true;
            if self.model.turns[running.key].name.is_some() {
                self.running[thread] = None;
            }
        }
    }

    /// What both have written since, and that the server has now.
    fn compare_written(&mut self, after: &Act) {
        let mut out = Vec::new();
        while self.real.poll_transmit(self.now(), &mut out) {}
        let lines: Vec<Value> = out
            .split(|byte| *byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).expect("JSON"))
            .collect();
        self.model.write();
        let ids: Vec<u64> = lines.iter().filter_map(|line| line["id"].as_u64()).collect();
        let expected = std::mem::take(&mut self.model.written);
        assert_eq!(ids, expected, "what is written after {after:?}: {lines:?}");
        for (line, id) in lines.iter().zip(expected) {
            let what = self.model.requests[usize::try_from(id).expect("small") - 2].what;
            let method = match what {
                What::Call => "call",
                What::Start(_) => "turn/start",
                What::Steer(_) => "turn/steer",
                What::Interrupt(_) => "turn/interrupt",
            };
            assert_eq!(line["method"], method, "after {after:?}");
            match what {
                What::Start(key) => {
                    let thread = self.model.turns[key].thread;
                    assert_eq!(line["params"]["threadId"], THREADS[thread]);
                    self.running[thread] = Some(Running { name: format!("t{key}"), key, is_over: false });
                }
                What::Steer(key) => {
                    assert_eq!(Some(&line["params"]["expectedTurnId"]), self.name(key).as_ref());
                }
                What::Interrupt(key) => assert_eq!(Some(&line["params"]["turnId"]), self.name(key).as_ref()),
                What::Call => {}
            }
        }
    }

    fn name(&self, key: usize) -> Option<Value> {
        self.model.turns[key].name.clone().map(Value::from)
    }

    fn compare(&mut self, after: &Act) {
        self.compare_written(after);
        let Self { real, model, .. } = self;
        self.calls.retain(|(n, pending)| {
            let found = real.take_raw(pending);
            assert_eq!(found.as_ref().map(outcome), model.requests[*n].outcome, "call {n} after {after:?}");
            found.is_none()
        });
        self.steers.retain(|(n, pending)| {
            let found = real.take_response(pending);
            assert_eq!(found.as_ref().map(outcome), model.requests[*n].outcome, "steer {n} after {after:?}");
            found.is_none()
        });
        for (key, (turn, reader)) in self.turns.iter().enumerate() {
            let expected = &mut model.turns[key];
            let is_known = !(expected.released && expected.is_over_for_server());
            let state = real.turn_state(*turn).map(|state| format!("{state:?}"));
            assert_eq!(state, is_known.then(|| format!("{:?}", expected.state)), "turn {key} after {after:?}");
            if expected.released {
                continue;
            }
            let name = real.turn_id(*turn).map(|id| id.as_str().to_owned());
            assert_eq!(name, expected.name, "turn {key} after {after:?}");
            let is_end = expected.state.is_end();
            let events = std::mem::take(&mut expected.events);
            assert_eq!(read(real, *reader), (events, is_end), "turn {key} after {after:?}");
            let stopped = real.interrupt_outcome(*turn).map(|outcome_| match outcome_ {
                Ok(InterruptOutcome::Acknowledged) => Stopped::Acknowledged,
                Ok(_) => Stopped::AlreadyEnded,
                Err(_) => Stopped::Not(outcome(&outcome_)),
            });
            let same = match (stopped, model.stopped(key)) {
                // How far it had come is for the delivery of the last request to say.
                (
                    Some(Stopped::Not(Outcome::Disconnected { .. })),
                    Some(Stopped::Not(Outcome::Disconnected { .. })),
                ) => true,
                (stopped, expected) => stopped == expected,
            };
            assert!(same, "the interrupt of turn {key} after {after:?}: {stopped:?}, not {:?}", model.stopped(key));
        }
        for (thread, listener) in self.listeners.iter().enumerate() {
            let events = std::mem::take(&mut model.heard[thread]);
            assert_eq!(read(real, *listener), (events, model.closed), "thread {thread} after {after:?}");
        }
        while real.poll_event().is_some() {}
        let counters = real.counters();
        assert_eq!(counters.requests, model.open_requests(), "requests after {after:?}");
        let known = (0..model.turns.len()).filter(|key| model.is_known(*key)).count();
        assert_eq!(counters.turns, known, "turns after {after:?}");
        let due = real.poll_timeout().map(|timeout| timeout.at);
        assert_eq!(due, model.next_due().map(time), "the next deadline after {after:?}");
    }
}

/// All that a reader finds, in words, and whether that is all.
fn read(real: &mut Connection, key: SubscriptionKey) -> (Vec<String>, bool) {
    let mut seen = Vec::new();
    loop {
        match real.next_event(key) {
            Next::Event(RawEvent::Delta(delta)) => seen.push(delta.text),
            Next::Event(RawEvent::Notification(notification)) => seen.push(notification.method.into()),
            Next::Event(RawEvent::Ended(state)) => seen.push(format!("{state:?}")),
            Next::Event(other) => seen.push(format!("{other:?}")),
            Next::Finished => return (seen, true),
            _ => return (seen, false),
        }
    }
}
