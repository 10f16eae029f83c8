//! The application: it does what the plan says, and keeps what it hears.

use crate::{
    asks::Asks,
    check::Watch,
    plan::{Act, ODD, PROMPTS, Plan},
};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};
use turnwire_core::{
    connection::{Config, Event, Pending, Raw, RequestKey, Scope, TurnOptions},
    error::{Fault, SteerError, TurnError},
    id::ThreadId,
    protocol::{ThreadStart, TurnStart, TurnSteer, UserInput},
    turn::{RawEvent, SubscriptionKey, TurnKey},
};
use turnwire_testkit::sim::{Direction, Pair};

/// A turn as the application sees it.
pub(crate) struct Seen {
    pub(crate) key: TurnKey,
    pub(crate) reader: SubscriptionKey,
    pub(crate) thread: ThreadId,
    pub(crate) prompts: Vec<usize>,
    pub(crate) events: Vec<RawEvent>,
    pub(crate) is_over: bool,
    pub(crate) released: bool,
    pub(crate) interrupted: bool,
    /// Nobody reads it unless told so.
    slow: bool,
}

/// Somebody who listens to more than a turn.
pub(crate) struct Listener {
    pub(crate) key: SubscriptionKey,
    pub(crate) scope: Scope,
    pub(crate) events: Vec<RawEvent>,
    pub(crate) is_over: bool,
    pub(crate) has_left: bool,
}

pub(crate) enum Asked {
    Answered(String),
    Dropped,
    Open(Pending<Raw>, Value),
}

pub(crate) struct Steered {
    pub(crate) pending: Pending<TurnSteer>,
    pub(crate) turn: usize,
    pub(crate) outcome: Option<String>,
}

pub(crate) struct App {
    pub(crate) pair: Pair,
    pub(crate) plan: Plan,
    pub(crate) starting: Vec<Pending<ThreadStart>>,
    pub(crate) threads: Vec<ThreadId>,
    pub(crate) turns: Vec<Seen>,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) asked: Vec<(RequestKey, Asked)>,
    pub(crate) steered: Vec<Steered>,
    pub(crate) is_closed: bool,
    /// How many requests of any kind were made.
    pub(crate) made: usize,
    /// Requests that were reported as done.
    done: BTreeSet<RequestKey>,
    readable: BTreeSet<SubscriptionKey>,
    next_prompt: usize,
    /// Refusals of commands, and what came of requests of the kinds that have no list of their own.
    log: Vec<String>,
    thread_outcomes: Vec<String>,
    pub(crate) asks: Asks,
    watch: Watch,
}

/// What an application can tell about a conversation; ids and the cut of deltas do not count.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Outcome {
    pub(crate) turns: Vec<Vec<String>>,
    pub(crate) asked: Vec<String>,
    pub(crate) steered: Vec<String>,
    /// What was done with the requests of the server.
    pub(crate) decided: Vec<String>,
    threads: Vec<String>,
    log: Vec<String>,
    closed: String,
}

fn describe_fault(fault: &Fault) -> String {
    match fault {
        // Whether it was polled for just before the end is the one thing that polls decide.
        Fault::Disconnected { cause, .. } => format!("disconnected {:?}", cause.reason()),
        Fault::TimedOut { .. } => "timed out".into(),
        Fault::Rpc(error) => format!("refused {} {}", error.code, error.message.split('`').next().unwrap_or("")),
        other => format!("{other:?}"),
    }
}

/// One of those that there are.
fn choose(number: u64, among: &[usize]) -> Option<usize> {
    let place = usize::try_from(number % (among.len() as u64).max(1)).expect("small");
    among.get(place).copied()
}

impl App {
    pub(crate) fn new(plan: Plan) -> Self {
        let config = plan.config.clone();
        Self::with(plan, config)
    }

    /// One whose connection has another configuration than the plan's, against which it is checked.
    pub(crate) fn with(plan: Plan, config: Config) -> Self {
        let pair = Pair::with(plan.script(), config, plan.wire(), plan.seed).polling(plan.polling);
        Self {
            pair,
            plan,
            starting: Vec::new(),
            threads: Vec::new(),
            turns: Vec::new(),
            listeners: Vec::new(),
            asked: Vec::new(),
            steered: Vec::new(),
            is_closed: false,
            made: 0,
            done: BTreeSet::new(),
            readable: BTreeSet::new(),
            next_prompt: 0,
            log: Vec::new(),
            thread_outcomes: Vec::new(),
            asks: Asks::default(),
            watch: Watch::default(),
        }
    }

    /// The whole conversation; what came of it, and a number that stands for all that crossed the wire.
    pub(crate) fn run(mut self) -> (Outcome, u64) {
        self.run_through();
        let mut hasher = DefaultHasher::new();
        for crossing in self.pair.trace() {
            (crossing.at, crossing.direction == Direction::ToClient, &crossing.bytes).hash(&mut hasher);
        }
        (self.outcome(), hasher.finish())
    }

    pub(crate) fn run_through(&mut self) {
        for (at, act) in self.plan.acts.clone() {
            self.pass_until(at);
            self.act(act);
            // What followed from it at once is told and read like anything else.
            self.pair.settle();
            self.look(false);
            self.check_step();
        }
        // A turn that holds ends only when asked to.
        let until = self.pair.now().max(Duration::from_micros(500_137));
        for n in 1..=40 {
            self.pass_until(until + Duration::from_millis(500) * n);
            let open = (0..self.turns.len()).filter(|n| !self.turns[*n].released);
            let open: Vec<usize> = open.filter(|n| !self.turns[*n].is_over).collect();
            for n in open {
                self.interrupt(n);
            }
        }
        while self.pair.step() {
            self.look(false);
            self.check_step();
        }
        self.look(true);
        self.assert_one_outcome_each();
        self.assert_one_answer_each(self.pair.client.closed().is_none());
        self.pair.close();
        self.look(true);
        assert_eq!(self.pair.edges().count(), 0, "edges after the end");
        self.assert_one_answer_each(false);
        self.leave_asks();
        self.clean_up();
    }

    /// Lets time pass, and looks after each moment at which anything happened.
    fn pass_until(&mut self, at: Duration) {
        loop {
            let goes_on = self.pair.step_until(at);
            self.look(false);
            self.check_step();
            if !goes_on {
                return;
            }
        }
    }

    /// The readers that have something to read and have not read it.
    pub(crate) fn behind(&self) -> Vec<SubscriptionKey> {
        self.readable.iter().copied().collect()
    }

    fn check_step(&mut self) {
        let mut watch = std::mem::take(&mut self.watch);
        watch.check(self);
        self.watch = watch;
    }

    /// Takes the edges and fetches what they speak of. Nothing is fetched of which no edge spoke. `all`: also for those who
    /// have fallen behind.
    fn look(&mut self, all: bool) {
        while let Some(edge) = self.pair.next_edge() {
            // An interrupt may still be asked for, and is settled at once; and who answers may be told to stop.
            let is_late = match &edge {
                Event::Turn(_) => false,
                Event::Asked(listener) => self.asks.listens(*listener),
                _ => true,
            };
            assert!(!(self.is_closed && is_late), "{edge:?} after the end");
            match edge {
                Event::Closed => self.is_closed = true,
                Event::Asked(listener) => self.asks.note_edge(listener),
                Event::AskEnded(key) => self.asks.note_end(key),
                Event::Readable(key) => drop(self.readable.insert(key)),
                Event::Response(key) => {
                    assert!(self.done.insert(key), "{key:?} is done twice");
                    self.fetch(key);
                }
                _ => {}
            }
        }
        for key in std::mem::take(&mut self.readable) {
            let turn = self.turns.iter().find(|turn| turn.reader == key);
            if !all && turn.is_some_and(|turn| turn.slow) {
                self.readable.insert(key);
                continue;
            }
            self.read(key);
        }
    }

    fn read(&mut self, key: SubscriptionKey) {
        let (events, is_over) = self.pair.read(key);
        let (kept, was_over) = if let Some(turn) = self.turns.iter_mut().find(|turn| turn.reader == key) {
            (&mut turn.events, &mut turn.is_over)
        } else if let Some(listener) = self.listeners.iter_mut().find(|listener| listener.key == key) {
            (&mut listener.events, &mut listener.is_over)
        } else {
            panic!("{key:?} is nobody's");
        };
        assert!(!*was_over || events.is_empty(), "events after the end");
        kept.extend(events);
        *was_over |= is_over;
    }

    fn fetch(&mut self, key: RequestKey) {
        if let Some(place) = self.starting.iter().position(|pending| pending.key() == key) {
            let pending = self.starting.remove(place);
            match self.pair.client.take_response(&pending).expect("an edge spoke of it") {
                Ok(response) => {
                    self.threads.push(response.thread.id);
                    self.thread_outcomes.push("started".into());
                }
                Err(error) => self.thread_outcomes.push(describe_fault(&error.fault)),
            }
            assert!(self.pair.client.take_response(&pending).is_none(), "fetched twice");
            return;
        }
        if let Some(steered) = self.steered.iter_mut().find(|steered| steered.pending.key() == key) {
            let id = self.pair.client.turn_id(self.turns[steered.turn].key).cloned().unwrap_or_default();
            let outcome = self.pair.client.take_steer(&steered.pending, &id).expect("an edge spoke of it");
            assert!(steered.outcome.is_none(), "steered twice");
            steered.outcome = Some(match outcome {
                Ok(actual) => {
                    let is_released = self.turns[steered.turn].released;
                    assert!(is_released || actual == id, "steered into another turn");
                    "steered".into()
                }
                Err(SteerError::Ended) => "ended".into(),
                Err(SteerError::Call(error)) => describe_fault(&error.fault),
                Err(error) => format!("{error}"),
            });
            return;
        }
        let (_, asked) = self.asked.iter_mut().find(|(other, _)| *other == key).expect("somebody asked");
        match std::mem::replace(asked, Asked::Dropped) {
            Asked::Open(pending, wanted) => {
                let outcome = self.pair.client.take_raw(&pending).expect("an edge spoke of it");
                assert!(self.pair.client.take_raw(&pending).is_none(), "fetched twice");
                *asked = Asked::Answered(match outcome {
                    Ok(json) => {
                        let params: Value = json.decode().expect("JSON");
                        // The script may have answered it out of turn.
                        assert!(params == wanted || params["turn"]["id"] == "who", "{params} instead of {wanted}");
                        format!("answered {params}")
                    }
                    Err(error) => describe_fault(&error.fault),
                });
            }
            _ => panic!("{key:?} was dropped or answered before"),
        }
    }

    fn act(&mut self, act: Act) {
        let held = |app: &Self| (0..app.turns.len()).filter(|n| !app.turns[*n].released).collect::<Vec<usize>>();
        match act {
            Act::StartThread => self.start_thread(),
            Act::Serve { how } => self.serve(how),
            Act::StopServing { which } => self.stop_serving(which),
            Act::Decide { which } => self.decide(which),
            Act::StartTurn { thread, deadline, slow, asks } => {
                if self.threads.len() + self.starting.len() < 2 {
                    self.start_thread();
                }
                self.start_turn(thread, deadline, slow, asks);
            }
            Act::Steer { which } => {
                if let Some(n) = choose(which, &held(self)) {
                    self.steer(n);
                }
            }
            Act::Interrupt { which } => {
                if let Some(n) = choose(which, &held(self)) {
                    self.interrupt(n);
                }
            }
            Act::Read { which } => {
                if let Some(n) = choose(which, &held(self)) {
                    let reader = self.turns[n].reader;
                    if self.readable.remove(&reader) {
                        self.read(reader);
                    }
                }
            }
            Act::Release { which } => {
                if let Some(n) = choose(which, &held(self)) {
                    self.turns[n].released = true;
                    self.readable.remove(&self.turns[n].reader);
                    self.pair.client.unsubscribe(self.turns[n].reader);
                    self.pair.client.release_turn(self.turns[n].key);
                }
            }
            Act::Ask { what } => self.ask(what),
            Act::Drop { which } => {
                let open = (0..self.asked.len()).filter(|n| matches!(self.asked[*n].1, Asked::Open(..)));
                if let Some(n) = choose(which, &open.collect::<Vec<usize>>()) {
                    self.pair.client.abandon(self.asked[n].0);
                    self.asked[n].1 = Asked::Dropped;
                }
            }
            Act::Listen { which } => self.listen(which),
            Act::Unlisten { which } => {
                let there = (0..self.listeners.len()).filter(|n| !self.listeners[*n].has_left);
                if let Some(n) = choose(which, &there.collect::<Vec<usize>>()) {
                    self.listeners[n].has_left = true;
                    self.readable.remove(&self.listeners[n].key);
                    self.pair.client.unsubscribe(self.listeners[n].key);
                }
            }
        }
    }

    fn ask(&mut self, what: u64) {
        let method = ["fast", "slow", "never", "refused"][usize::try_from(what % 4).expect("small")];
        let params = json!({"n": self.asked.len()});
        match self.pair.client.request_raw(self.pair.time(), method, &params) {
            Ok(pending) => {
                self.made += 1;
                self.asked.push((pending.key(), Asked::Open(pending, params)));
            }
            Err(error) => self.log.push(describe_fault(&error.fault)),
        }
    }

    fn listen(&mut self, which: u64) {
        if self.listeners.iter().filter(|listener| !listener.has_left).count() >= 6 {
            return;
        }
        let threads: Vec<usize> = (0..self.threads.len()).collect();
        let scope = match (which % 3, choose(which / 3, &threads)) {
            (0, Some(n)) => Scope::Thread(self.threads[n].clone()),
            (1, Some(n)) => Scope::Tree(self.threads[n].clone()),
            _ => Scope::Connection,
        };
        let key = self.pair.client.subscribe(scope.clone());
        self.listeners.push(Listener { key, scope, events: Vec::new(), is_over: false, has_left: false });
        // Who comes after the end finds it, and is told nothing.
        self.read(key);
    }

    fn start_thread(&mut self) {
        match self.pair.client.request(self.pair.time(), &ThreadStart::default()) {
            Ok(pending) => {
                self.made += 1;
                self.starting.push(pending);
            }
            Err(error) => self.log.push(describe_fault(&error.fault)),
        }
    }

    fn start_turn(&mut self, thread: u64, deadline: Option<u64>, slow: bool, asks: Option<bool>) {
        let threads: Vec<usize> = (0..self.threads.len()).collect();
        let Some(thread) = choose(thread, &threads).map(|n| self.threads[n].clone()) else { return };
        let prompt = self.next_prompt % PROMPTS;
        let params = TurnStart::new(thread.clone(), [UserInput::text(format!("<{prompt}>"))]);
        let mut options = TurnOptions::default();
        if let Some(deadline) = deadline {
            options = options.deadline(Duration::from_millis(deadline) + ODD);
        }
        match self.pair.client.start_turn(self.pair.time(), &params, &options) {
            Ok(key) => {
                self.made += 1;
                self.next_prompt += 1;
                let reader = self.pair.client.subscribe(Scope::Turn(key));
                if let Some(at_all_events) = asks {
                    self.pair.client.ask_reader(key, reader, at_all_events);
                }
                let (events, prompts) = (Vec::new(), vec![prompt]);
                let flags = (false, false, false);
                let (is_over, released, interrupted) = flags;
                self.turns.push(Seen { key, reader, thread, prompts, events, is_over, released, interrupted, slow });
            }
            Err(TurnError::Busy(_)) => self.log.push("busy".into()),
            Err(TurnError::Start(error)) => self.log.push(describe_fault(&error.fault)),
            Err(error) => self.log.push(format!("{error}")),
        }
    }

    fn steer(&mut self, n: usize) {
        let prompt = self.next_prompt % PROMPTS;
        let input = vec![UserInput::text(format!("<{prompt}>"))];
        match self.pair.client.steer(self.pair.time(), self.turns[n].key, input) {
            Ok(pending) => {
                self.made += 1;
                self.next_prompt += 1;
                self.turns[n].prompts.push(prompt);
                self.steered.push(Steered { pending, turn: n, outcome: None });
            }
            Err(SteerError::Call(error)) => self.log.push(describe_fault(&error.fault)),
            Err(error) => self.log.push(format!("{error}")),
        }
    }

    fn interrupt(&mut self, n: usize) {
        self.made += 1;
        self.turns[n].interrupted = true;
        self.pair.client.interrupt(self.pair.time(), self.turns[n].key).expect("it is known");
    }

    fn clean_up(&mut self) {
        for steered in &self.steered {
            if steered.outcome.is_none() {
                self.pair.client.abandon(steered.pending.key());
            }
        }
        for turn in &self.turns {
            self.pair.client.unsubscribe(turn.reader);
            self.pair.client.release_turn(turn.key);
        }
        for listener in &self.listeners {
            if !listener.has_left && !listener.is_over {
                self.pair.fail(&format!("{:?} did not end", listener.scope));
            }
            self.pair.client.unsubscribe(listener.key);
        }
        let left = self.pair.client.counters();
        let requests = (left.requests, left.pending, left.queued, left.asks, left.logins);
        let others = (left.turns, left.threads, left.subscriptions, left.unread_bytes);
        if (requests, others) != ((0, 0, 0, 0, 0), (0, 0, 0, 0)) {
            self.pair.fail("something is left in the tables");
        }
        if !self.is_closed || self.pair.client.closed().is_none() {
            self.pair.fail("the end was not told");
        }
    }

    fn outcome(&self) -> Outcome {
        let turns = self.turns.iter().filter(|turn| !turn.released).map(|turn| {
            let mut seen: Vec<String> = Vec::new();
            let mut last = None;
            for event in &turn.events {
                let item = match event {
                    RawEvent::Delta(delta) => Some(delta.item.clone()),
                    _ => None,
                };
                match event {
                    RawEvent::Delta(delta) if last.is_some() && last == item => {
                        if let Some(text) = seen.last_mut() {
                            text.push_str(&delta.text);
                        }
                    }
                    RawEvent::Delta(delta) => seen.push(format!("delta {:?} {}", delta.kind, delta.text)),
                    RawEvent::Notification(notification) => seen.push(notification.method.to_string()),
                    RawEvent::Refused(refused) => seen.push(format!("refused {}", refused.notification.method)),
                    other => seen.push(format!("{other:?}")),
                }
                last = item;
            }
            seen
        });
        let asked = self.asked.iter().map(|(_, asked)| match asked {
            Asked::Answered(what) => what.clone(),
            Asked::Dropped => "dropped".into(),
            Asked::Open(..) => "open".into(),
        });
        Outcome {
            turns: turns.collect(),
            asked: asked.collect(),
            steered: self.steered.iter().map(|steered| steered.outcome.clone().unwrap_or_default()).collect(),
            decided: self.asks.log.clone(),
            threads: self.thread_outcomes.clone(),
            log: self.log.clone(),
            closed: self.pair.client.closed().map(|cause| format!("{:?}", cause.reason())).unwrap_or_default(),
        }
    }

    pub(crate) fn print_trace(&self) {
        for crossing in self.pair.trace() {
            println!("{:?} {:?} {}", crossing.at, crossing.direction, String::from_utf8_lossy(&crossing.bytes));
        }
    }

    /// How many events of each kind about the same thing there are, such as `item/started` of one item.
    pub(crate) fn beginnings_and_ends(events: &[RawEvent]) -> BTreeMap<(String, String), u32> {
        let mut counts = BTreeMap::new();
        for event in events {
            let RawEvent::Notification(notification) = event else { continue };
            let params: Value = serde_json::from_str(notification.params_text()).expect("JSON");
            let of = match &*notification.method {
                "item/started" | "item/completed" => format!("{} {}", params["turnId"], params["item"]["id"]),
                "turn/started" | "turn/completed" => params["turn"]["id"].to_string(),
                _ => continue,
            };
            *counts.entry((notification.method.to_string(), of)).or_default() += 1;
        }
        counts
    }
}
