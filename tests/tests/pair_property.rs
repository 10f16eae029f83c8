//! Random conversations on random wires: what must hold whatever happens, and that polling changes nothing.
//!
//! `TURNWIRE_SEEDS=100000 cargo test --release -p turnwire-testkit --test pair_property` runs more of them than the usual
//! few hundred; `TURNWIRE_SEED=17` runs that one alone, and prints what crossed the wire if it fails.

#![allow(clippy::print_stdout)] // Only for who asks for one seed.

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
    turn::{DropPolicy, RawEvent, State, SubscriptionKey, TurnKey, WhenBusy},
};
use turnwire_testkit::{
    scripted::{Early, Rule, Script, TurnPlan},
    sim::{Faults, Pair, Polling, Rng},
};

/// Seeds to try.
fn seeds(usual: u64) -> Vec<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    match number("TURNWIRE_SEED") {
        Some(seed) => vec![seed],
        None => (0..number("TURNWIRE_SEEDS").unwrap_or(usual)).collect(),
    }
}

/// What the conversation consists of, apart from the wire and the polls.
struct Plan {
    script: Script,
    config: Config,
    /// What the model says to the prompt with this number; `None` where it fails.
    texts: Vec<Option<String>>,
    /// When the application does something.
    moments: Vec<Duration>,
    rng: Rng,
}

const PROMPTS: usize = 24;
/// What deadlines have on top: none falls on the moment at which something arrives, where either may be first.
const ODD: Duration = Duration::from_nanos(111);

/// `approvals`: whether turns ask before they run commands.
fn plan(seed: u64, approvals: bool) -> Plan {
    let mut rng = Rng::new(seed.wrapping_mul(0x5851_f42d_4c95_7f2d) ^ 0x7475_726e);
    let early = [Early::None, Early::None, Early::Started, Early::Completed];
    let mut script = Script::new()
        .early(*rng.pick(&early).expect("some"))
        .reply_delay(rng.below(60))
        .started_delay(rng.below(80))
        .delta_delay(rng.below(30));
    let mut texts = Vec::new();
    for n in 0..PROMPTS {
        let text: String =
            (0..rng.below(40)).map(|_| *rng.pick(&['a', 'é', '世', '"', '\\', '\n', ' ']).expect("some")).collect();
        let mut turn = TurnPlan::when(format!("<{n}>")).text(text.clone());
        if rng.one_in(2) {
            turn = turn.deltas(1 + rng.index(90));
        }
        if rng.one_in(4) {
            turn = turn.reasoning("thinking it over");
        }
        if rng.one_in(4) {
            turn = turn.command("ls", "one\ntwo\nthree\n", i32::from(rng.one_in(2)));
            if rng.one_in(2) && approvals {
                turn = turn.with_approval();
            }
        }
        let fails = rng.one_in(8);
        if fails {
            turn = turn.fail("no luck", json!("other"), 1);
        } else if rng.one_in(4) {
            turn = turn.hold();
        }
        texts.push((!fails).then_some(text));
        script = script.turn(turn);
    }
    let mut trouble = Rule::at_start();
    for _ in 0..rng.below(5) {
        trouble = trouble.delay(rng.below(400));
        trouble = match rng.below(6) {
            0 => trouble.raw_line("npm warn something"),
            1 => trouble.raw_line("{\"method\":\"turn/st"),
            2 => trouble.reply_to_id(rng.below(12), json!({"turn": {"id": "who"}})),
            3 => trouble.ask("item/tool/call", 900, json!({"threadId": "nobody", "tool": "t"})),
            4 => trouble.ask("currentTime/read", 901, json!({"threadId": "nobody"})),
            _ => trouble.notify(
                "item/agentMessage/delta",
                json!({"threadId": "x", "turnId": "y", "itemId": "z", "delta": "q"}),
            ),
        };
    }
    if rng.one_in(3) {
        trouble = trouble.delay(rng.below(2_500));
        trouble = match rng.below(4) {
            0 => trouble.raw("{\"half\":").exit(3),
            1 => trouble.die(9),
            2 => trouble.close_stdout(),
            _ => trouble.stderr("bye\n").exit(0),
        };
    }
    script = script.rule(trouble);
    // The application asks for these; some answers come late, some never.
    script = script
        .rule(Rule::on("fast").reply(json!("$params")))
        .rule(Rule::on("slow").delay(300).reply(json!("$params")))
        .rule(Rule::on("never"))
        .rule(Rule::on("refused").reply_error(-32001, "Server overloaded"));
    let mut config = Config::default();
    config.limits.max_in_flight = 1 + rng.index(6);
    config.limits.merge_after = *rng.pick(&[Some(1), Some(8), Some(64), None]).expect("some");
    config.limits.max_queued_turns = 1 + rng.index(4);
    config.timeouts.call = Duration::from_millis(2_000 + rng.below(8_000)) + ODD * 2;
    config.timeouts.reply = Duration::from_millis(1_500 + rng.below(3_000)) + ODD * 3;
    config.timeouts.interrupt = Duration::from_millis(3_000) + ODD * 4;
    // Not at whole milliseconds: nothing of the server's falls on the same moment.
    let mut at = Duration::from_micros(137);
    let moments = (0..20 + rng.below(40)).map(|_| {
        at += Duration::from_millis(rng.below(120)) + Duration::from_micros(1);
        at
    });
    Plan { moments: moments.collect(), script, config, texts, rng }
}

/// A turn as the application sees it.
struct Seen {
    key: TurnKey,
    reader: SubscriptionKey,
    thread: ThreadId,
    prompts: Vec<usize>,
    events: Vec<RawEvent>,
    is_over: bool,
    released: bool,
    interrupted: bool,
}

enum Asked {
    Answered(String),
    Dropped,
    Open(Pending<Raw>, Value),
}

struct Steered {
    pending: Pending<TurnSteer>,
    turn: usize,
    outcome: Option<String>,
}

struct App {
    pair: Pair,
    plan: Plan,
    starting: Vec<Pending<ThreadStart>>,
    threads: Vec<ThreadId>,
    turns: Vec<Seen>,
    asked: Vec<(RequestKey, Asked)>,
    steered: Vec<Steered>,
    /// Requests that were reported as done.
    done: BTreeSet<u64>,
    readable: BTreeSet<SubscriptionKey>,
    is_closed: bool,
    next_prompt: usize,
    /// Refusals of commands, and what came of requests of the kinds that have no list of their own.
    log: Vec<String>,
    thread_outcomes: Vec<String>,
}

/// What an application can tell about a conversation; ids and the cut of deltas do not count.
#[derive(Debug, PartialEq, Eq)]
struct Outcome {
    turns: Vec<Vec<String>>,
    asked: Vec<String>,
    steered: Vec<String>,
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

impl App {
    fn new(seed: u64, approvals: bool, faults: Faults, polling: Polling) -> Self {
        let plan = plan(seed, approvals);
        let pair = Pair::with(plan.script.clone(), plan.config.clone(), faults, seed).polling(polling);
        Self {
            pair,
            plan,
            starting: Vec::new(),
            threads: Vec::new(),
            turns: Vec::new(),
            asked: Vec::new(),
            steered: Vec::new(),
            done: BTreeSet::new(),
            readable: BTreeSet::new(),
            is_closed: false,
            next_prompt: 0,
            log: Vec::new(),
            thread_outcomes: Vec::new(),
        }
    }

    /// The whole conversation.
    fn run(mut self) -> (Outcome, u64) {
        for at in std::mem::take(&mut self.plan.moments) {
            self.pair.pass(at - self.pair.now());
            self.look();
            self.act();
        }
        // A turn that holds ends only when asked to.
        for _ in 0..40 {
            self.pair.pass(Duration::from_millis(500));
            self.look();
            let open = (0..self.turns.len()).filter(|n| !self.turns[*n].is_over && !self.turns[*n].released);
            let open: Vec<usize> = open.collect();
            for n in open {
                self.interrupt(n);
            }
        }
        self.pair.run_until_quiet();
        self.look();
        self.assert_one_outcome_each();
        self.pair.close();
        self.look();
        assert_eq!(self.done_edges_of_close(), 0, "edges after the end");
        self.clean_up();
        let outcome = self.outcome();
        let mut hasher = DefaultHasher::new();
        for crossing in self.pair.trace() {
            (crossing.at, crossing.direction == turnwire_testkit::sim::Direction::ToClient, &crossing.bytes)
                .hash(&mut hasher);
        }
        (outcome, hasher.finish())
    }

    /// Takes the edges and fetches what they speak of. Nothing is fetched of which no edge spoke.
    fn look(&mut self) {
        while let Some(edge) = self.pair.next_edge() {
            // An interrupt may still be asked for, and is settled at once.
            assert!(!self.is_closed || matches!(edge, Event::Turn(_)), "{edge:?} after the end");
            match edge {
                Event::Closed => self.is_closed = true,
                Event::Readable(key) => drop(self.readable.insert(key)),
                Event::Response(key) => {
                    let first = self.done.insert(id_of(key));
                    assert!(first, "{key:?} is done twice");
                    self.fetch(key);
                }
                _ => {}
            }
        }
        for key in std::mem::take(&mut self.readable) {
            let (events, is_over) = self.pair.read(key);
            let Some(turn) = self.turns.iter_mut().find(|turn| turn.reader == key) else { continue };
            assert!(!turn.is_over || events.is_empty(), "events after the end");
            turn.events.extend(events);
            turn.is_over |= is_over;
        }
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

    /// Does one thing of those that can be done.
    fn act(&mut self) {
        let now = self.pair.time();
        match self.plan.rng.below(12) {
            0 => match self.pair.client.request(now, &ThreadStart::default()) {
                Ok(pending) => self.starting.push(pending),
                Err(error) => self.log.push(describe_fault(&error.fault)),
            },
            1..=4 => {
                if self.threads.len() + self.starting.len() < 2 {
                    match self.pair.client.request(now, &ThreadStart::default()) {
                        Ok(pending) => self.starting.push(pending),
                        Err(error) => self.log.push(describe_fault(&error.fault)),
                    }
                }
                self.start_turn();
            }
            5 | 6 => self.steer(),
            7 => {
                let n = self.plan.rng.index(self.turns.len());
                if n < self.turns.len() && !self.turns[n].released {
                    self.interrupt(n);
                }
            }
            8 | 9 => {
                let method = *self.plan.rng.pick(&["fast", "slow", "never", "refused"]).expect("some");
                let params = json!({"n": self.asked.len()});
                match self.pair.client.request_raw(now, method, &params) {
                    Ok(pending) => self.asked.push((pending.key(), Asked::Open(pending, params))),
                    Err(error) => self.log.push(describe_fault(&error.fault)),
                }
            }
            10 => {
                let open: Vec<usize> =
                    (0..self.asked.len()).filter(|n| matches!(self.asked[*n].1, Asked::Open(..))).collect();
                if let Some(n) = self.plan.rng.pick(&open).copied() {
                    self.pair.client.abandon(self.asked[n].0);
                    self.asked[n].1 = Asked::Dropped;
                }
            }
            _ => {
                if self.plan.rng.one_in(4) {
                    let n = self.plan.rng.index(self.turns.len());
                    if let Some(turn) = self.turns.get_mut(n) {
                        turn.released = true;
                        self.pair.client.unsubscribe(turn.reader);
                        self.pair.client.drop_turn(now, turn.key);
                    }
                }
            }
        }
    }

    fn start_turn(&mut self) {
        let Some(thread) = self.plan.rng.pick(&self.threads).cloned() else { return };
        let prompt = self.next_prompt % PROMPTS;
        let params = TurnStart::new(thread.clone(), [UserInput::text(format!("<{prompt}>"))]);
        let mut options = TurnOptions::default();
        if self.plan.rng.one_in(10) {
            options = options.deadline(Duration::from_millis(1 + self.plan.rng.below(600)) + ODD);
        }
        if self.plan.rng.one_in(8) {
            options = options.idle_deadline(Duration::from_millis(20 + self.plan.rng.below(800)) + ODD * 5);
        }
        if self.plan.rng.one_in(2) {
            options = options
                .when_busy(*self.plan.rng.pick(&[WhenBusy::Queue, WhenBusy::Queue, WhenBusy::Join]).expect("some"));
        }
        if self.plan.rng.one_in(2) {
            options = options.on_drop(DropPolicy::Interrupt);
        }
        match self.pair.client.start_turn(self.pair.time(), &params, &options) {
            Ok(key) => {
                if self.pair.client.turn_state(key) == Some(State::Queued) {
                    self.log.push("queued".into());
                }
                self.next_prompt += 1;
                let reader = self.pair.client.subscribe(Scope::Turn(key));
                let (events, prompts) = (Vec::new(), vec![prompt]);
                let flags = (false, false, false);
                let (is_over, released, interrupted) = flags;
                self.turns.push(Seen { key, reader, thread, prompts, events, is_over, released, interrupted });
            }
            Err(TurnError::Busy(_)) => self.log.push("busy".into()),
            Err(TurnError::QueueFull { .. }) => self.log.push("full".into()),
            Err(TurnError::Start(error)) => self.log.push(describe_fault(&error.fault)),
            Err(error) => self.log.push(format!("{error}")),
        }
    }

    fn steer(&mut self) {
        let running: Vec<usize> = (0..self.turns.len()).filter(|n| !self.turns[*n].released).collect();
        let Some(n) = self.plan.rng.pick(&running).copied() else { return };
        let prompt = self.next_prompt % PROMPTS;
        let input = vec![UserInput::text(format!("<{prompt}>"))];
        match self.pair.client.steer(self.pair.time(), self.turns[n].key, input) {
            Ok(pending) => {
                self.next_prompt += 1;
                self.turns[n].prompts.push(prompt);
                self.steered.push(Steered { pending, turn: n, outcome: None });
            }
            Err(SteerError::Call(error)) => self.log.push(describe_fault(&error.fault)),
            Err(error) => self.log.push(format!("{error}")),
        }
    }

    fn interrupt(&mut self, n: usize) {
        self.turns[n].interrupted = true;
        self.pair.client.interrupt(self.pair.time(), self.turns[n].key).expect("it is known");
    }

    /// Once all is quiet nobody waits.
    fn assert_one_outcome_each(&mut self) {
        if let Some(pending) = self.starting.first() {
            self.pair.fail(&format!("{pending:?} has no outcome"));
        }
        for (key, asked) in &self.asked {
            if matches!(asked, Asked::Open(..)) {
                self.pair.fail(&format!("{key:?} has no outcome"));
            }
        }
        for steered in &self.steered {
            if steered.outcome.is_none() && !self.turns[steered.turn].released {
                self.pair.fail(&format!("a steer {:?} has no outcome", steered.pending));
            }
        }
        for n in 0..self.turns.len() {
            if !self.turns[n].released {
                self.assert_turn(n);
            }
        }
    }

    /// What must hold of each turn that was read to its end.
    fn assert_turn(&mut self, n: usize) {
        let turn = &self.turns[n];
        let state = self.pair.client.turn_state(turn.key).expect("known");
        let fail = |what: &str| -> ! {
            if std::env::var_os("TURNWIRE_SEED").is_some() {
                for crossing in self.pair.trace() {
                    println!("{:?} {:?} {}", crossing.at, crossing.direction, String::from_utf8_lossy(&crossing.bytes));
                }
            }
            self.pair.fail(&format!("turn {n} {state}: {what}: {:?}", turn.events))
        };
        if self.pair.client.turn_id(turn.key).is_some_and(|id| *id == "who") {
            // A made up answer has given it a name that the server does not know: it runs as long as the connection.
            return;
        }
        if !state.is_end() || !turn.is_over {
            fail("it has not ended");
        }
        let ends: Vec<_> = turn.events.iter().filter(|event| matches!(event, RawEvent::Ended(_))).collect();
        if ends.len() != 1 || !matches!(turn.events.last(), Some(RawEvent::Ended(last)) if *last == state) {
            fail("not one end, last and the same");
        }
        if turn.interrupted && self.pair.client.interrupt_outcome(turn.key).is_none() {
            fail("an interrupt without outcome");
        }
        let id = self.pair.client.turn_id(turn.key).cloned();
        // A start that was given up while it was on its way may run on the server, and the next start on its thread joins
        // it in the middle. Of such a turn only the end is compared.
        let starts_late = !turn
            .events
            .first()
            .is_some_and(|event| matches!(event, RawEvent::Notification(first) if &*first.method == "turn/started"));
        let lost_a_start = self.turns[..n].iter().any(|before| {
            let state = self.pair.client.turn_state(before.key);
            let gave_up = before.released || matches!(state, Some(State::NotStarted | State::TimedOut));
            before.thread == turn.thread && gave_up
        });
        let joins = starts_late && lost_a_start && id.is_some();
        // The items: started, deltas, completed, in this order and once.
        let mut items: BTreeMap<String, (String, Option<String>, bool)> = BTreeMap::new();
        for event in turn.events.iter().filter(|_| !joins) {
            let (thread, named) = match event {
                RawEvent::Delta(delta) => {
                    let Some((text, None, true)) = items.get_mut(delta.item.as_str()) else {
                        fail("a delta outside its item")
                    };
                    text.push_str(&delta.text);
                    (Some(&delta.thread), Some(&delta.turn))
                }
                RawEvent::Notification(notification) => {
                    let params: Value = serde_json::from_str(notification.params_text()).expect("JSON");
                    let item = params["item"]["id"].as_str().unwrap_or("").to_owned();
                    match &*notification.method {
                        "item/started" if items.insert(item.clone(), (String::new(), None, true)).is_some() => {
                            fail("an item started twice")
                        }
                        "item/completed" => {
                            let whole = match params["item"]["type"].as_str() {
                                Some("agentMessage") => params["item"]["text"].as_str().map(String::from),
                                Some("commandExecution") => {
                                    Some(params["item"]["aggregatedOutput"].as_str().unwrap_or("").into())
                                }
                                _ => Some(String::from("?")),
                            };
                            match items.get_mut(&item) {
                                Some((_, completed @ None, true)) => *completed = whole,
                                _ => fail("an item completed twice or before it started"),
                            }
                        }
                        _ => {}
                    }
                    (notification.thread.as_ref(), notification.turn.as_ref())
                }
                RawEvent::Refused(refused) => {
                    (refused.notification.thread.as_ref(), refused.notification.turn.as_ref())
                }
                RawEvent::Gap(_) => fail("a gap, though the bounds are far"),
                _ => continue,
            };
            if thread != Some(&turn.thread) || named != id.as_ref() {
                fail("an event of another turn");
            }
        }
        let mut said = Vec::new();
        for (id, (text, completed, _)) in &items {
            if let Some(whole) = completed.as_ref().filter(|whole| *whole != "?") {
                // A refused command has no output.
                if whole != text {
                    fail(&format!("the deltas of {id} are not its text"));
                }
            }
            if id.starts_with("msg") {
                said.push((text.clone(), completed.is_some()));
            }
        }
        for (text, is_whole) in &said {
            let planned = turn.prompts.iter().filter_map(|prompt| self.plan.texts[*prompt].as_ref());
            let mut planned = planned.filter(|planned| match is_whole {
                true => *planned == text,
                false => planned.starts_with(text.as_str()),
            });
            if planned.next().is_none() {
                fail("it says what nobody planned");
            }
        }
        let report = self.pair.client.take_report(turn.key);
        if self.pair.client.take_report(turn.key).is_some() {
            self.pair.fail("a report was fetched twice");
        }
        let turn = &self.turns[n];
        match report {
            None => self.pair.fail(&format!("turn {n} {state}: no report")),
            Some(Err(_)) if state == State::NotStarted => {}
            Some(Err(error)) => self.pair.fail(&format!("turn {n} {state}: {error}")),
            Some(Ok(report)) => {
                let (result, is_good) = match report.into_result() {
                    Ok(result) => (result, true),
                    Err(TurnError::Failed(report)) if state == State::Failed => (*report, false),
                    Err(TurnError::Lost { report, .. }) if state == State::Lost => (*report, false),
                    Err(TurnError::TimedOut { report, .. }) if state == State::TimedOut => (*report, false),
                    Err(TurnError::IdleTimedOut { limit, age, report }) if state == State::TimedOut => {
                        assert!(age >= limit, "turn {n}: silent for {age:?} of {limit:?}");
                        self.log.push("silent".into());
                        (*report, false)
                    }
                    Err(error) => self.pair.fail(&format!("turn {n} {state}: {error}")),
                };
                let completed = items.values().filter(|(_, completed, _)| completed.is_some()).count();
                assert_eq!(is_good, matches!(state, State::Completed | State::Interrupted));
                if joins {
                    return;
                }
                assert_eq!(result.items.len(), completed, "turn {n}: the items of the report");
                if state == State::Completed {
                    let first = &self.plan.texts[turn.prompts[0]];
                    let is_said = first.as_ref().is_some_and(|text| said.iter().any(|(said, _)| said == text));
                    if !is_said {
                        self.pair.fail(&format!("turn {n}: the planned text was not said"));
                    }
                }
            }
        }
    }

    fn done_edges_of_close(&mut self) -> usize {
        std::iter::from_fn(|| self.pair.next_edge()).count()
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
        let left = self.pair.client.counters();
        let tables = (left.requests, left.turns, left.threads, left.subscriptions, left.unread_bytes);
        if tables != (0, 0, 0, 0, 0) {
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
            threads: self.thread_outcomes.clone(),
            log: self.log.clone(),
            closed: self.pair.client.closed().map(|cause| format!("{:?}", cause.reason())).unwrap_or_default(),
        }
    }
}

fn id_of(key: RequestKey) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}

fn faults(seed: u64) -> Faults {
    let mut rng = Rng::new(seed ^ 0x6661_756c);
    match rng.below(4) {
        0 => Faults::pieces(),
        1 => Faults::rough().cut_after(rng.below(60_000)),
        _ => Faults::rough(),
    }
}

#[test]
fn whatever_happens_everything_has_one_outcome_and_nothing_is_left() {
    let pollings = [Polling::Eager, Polling::Lazy, Polling::Nervous, Polling::Random];
    let mut states: BTreeMap<String, u64> = BTreeMap::new();
    let seeds = seeds(300);
    for &seed in &seeds {
        let polling = pollings[usize::try_from(seed % 4).expect("small")];
        let (outcome, trace) = App::new(seed, true, faults(seed), polling).run();
        let (again, same_trace) = App::new(seed, true, faults(seed), polling).run();
        assert_eq!(trace, same_trace, "seed {seed}: the same bytes at the same times");
        assert_eq!(outcome, again, "seed {seed}: the same outcome");
        for turn in &outcome.turns {
            *states.entry(turn.last().cloned().unwrap_or_default()).or_default() += 1;
        }
        for what in outcome.asked.iter().chain(&outcome.steered).chain(&outcome.log) {
            *states.entry(what.split(' ').next().unwrap_or("").into()).or_default() += 1;
        }
    }
    // A test that meets only peace proves nothing.
    if seeds.len() >= 300 {
        for wanted in ["Completed", "Interrupted", "Failed", "Lost", "NotStarted", "TimedOut"] {
            let count = states.get(&format!("Ended({wanted})")).copied().unwrap_or(0);
            assert!(count >= 10, "{wanted} happened {count} times: {states:?}");
        }
        let answers = ["answered", "refused", "timed", "disconnected", "steered", "dropped", "ended"];
        for wanted in answers.into_iter().chain(["queued", "busy", "full", "silent"]) {
            assert!(states.get(wanted).copied().unwrap_or(0) >= 10, "{wanted}: {states:?}");
        }
    }
}

#[test]
fn the_order_of_polls_never_changes_the_outcome() {
    for seed in seeds(100) {
        // Without approvals: a refusal and an interrupt that fall on one moment are two lines whose order on the wire is
        // decided by whether the first was polled for before the second came to be, and the server's answer by that.
        let run = |faults: Faults, polling| App::new(seed, false, faults, polling).run().0;
        let expected = run(Faults::default(), Polling::Eager);
        for polling in [Polling::Eager, Polling::Lazy, Polling::Nervous, Polling::Random] {
            // The pieces differ with the polls, the times do not.
            assert_eq!(run(Faults::pieces(), polling), expected, "seed {seed}, {polling:?}");
        }
    }
}
