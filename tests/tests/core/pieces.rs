//! Most lines are pieces of text, and they take a short way once the first of an item has shown where they go. Whatever
//! happens between them, their turn has the same events as by the long way, which is forced here by listening to its thread.

use crate::lab::Lab;
use proptest::prelude::*;
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Event, Scope, TurnOptions},
    protocol::{TurnStart, UserInput},
    turn::{DropPolicy, Next, RawEvent, SubscriptionKey, TurnKey},
};

const THREAD: &str = "01a00000-0000-7000-8000-00000000000a";
const OTHER_THREAD: &str = "01a00000-0000-7000-8000-00000000000b";

fn turn_id(n: u8) -> String {
    format!("01b00000-0000-7000-8000-0000000000{n:02}")
}

#[derive(Clone, Debug)]
enum Act {
    Piece { method: &'static str, thread: &'static str, turns_back: u8, item: u8, text: String },
    Said { method: &'static str, turns_back: u8, item: u8, text: String },
    Idle,
    Ended { turns_back: u8, status: &'static str },
    Start { idle_deadline: bool, interrupt_on_drop: bool },
    Interrupt,
    Drop,
    Listen,
    Pass(u16),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    // The first of each list is the usual one.
    fn mostly<T: Clone + std::fmt::Debug + 'static>(usual: u32, all: Vec<T>) -> impl Strategy<Value = T> {
        let first = all[0].clone();
        prop_oneof![usual => Just(first), 1 => prop::sample::select(all)]
    }
    let method = || {
        let message = "item/agentMessage/delta";
        mostly(8, vec![message, "item/plan/delta", "item/commandExecution/outputDelta", "item/unheardOf/delta"])
    };
    let back = || mostly(20, vec![0_u8, 1, 99]);
    let item = || mostly(6, vec![0_u8, 1, 2]);
    let text = || prop::sample::select(vec!["a", "bc", "", "long enough for some words", "ü✓", "\"\\\n"]);
    let piece = (method(), mostly(20, vec![THREAD, OTHER_THREAD]), back(), item(), text()).prop_map(
        |(method, thread, turns_back, item, text)| Act::Piece { method, thread, turns_back, item, text: text.into() },
    );
    let said = vec!["item/started", "item/completed", "turn/started", "error", "thread/tokenUsage/updated"];
    let said = (prop::sample::select(said), back(), item(), text())
        .prop_map(|(method, turns_back, item, text)| Act::Said { method, turns_back, item, text: text.into() });
    let status = prop::sample::select(vec!["completed", "interrupted", "failed", "unheardOf"]);
    let ended = (back(), status).prop_map(|(turns_back, status)| Act::Ended { turns_back, status });
    let start = || {
        (any::<bool>(), any::<bool>())
            .prop_map(|(idle_deadline, interrupt_on_drop)| Act::Start { idle_deadline, interrupt_on_drop })
    };
    let rare = prop_oneof![
        Just(Act::Idle),
        Just(Act::Interrupt),
        Just(Act::Drop),
        Just(Act::Listen),
        (0..40_000_u16).prop_map(Act::Pass)
    ];
    let acts = prop::collection::vec(prop_oneof![24 => piece, 3 => said, 1 => ended, 2 => start(), 2 => rare], 1..80);
    (start(), acts).prop_map(|(start, acts)| std::iter::once(start).chain(acts).collect())
}

struct World {
    lab: Lab,
    thread_reader: Option<SubscriptionKey>,
    turn: Option<TurnKey>,
    reader: Option<SubscriptionKey>,
    turns: u8,
    log: Vec<String>,
}

impl World {
    fn new(long_way: bool, merge: bool) -> Self {
        let mut config = Config::default();
        config.limits.merge_after = merge.then_some(2);
        let mut lab = Lab::ready_with(config);
        // The short way may be gone by turns that nobody but their holders hear of.
        let thread_reader = long_way.then(|| lab.connection.subscribe(Scope::Thread(THREAD.into())));
        Self { lab, thread_reader, turn: None, reader: None, turns: 0, log: Vec::new() }
    }

    fn line(&mut self, method: &str, params: &str) {
        let line = format!("{{\"method\":\"{method}\",\"params\":{params},\"emittedAtMs\":17}}\n");
        self.lab.say_bytes(line.as_bytes());
    }

    fn act(&mut self, act: &Act) {
        let turn = |world: &Self, back: u8| turn_id(world.turns.wrapping_sub(back) % 100);
        match act {
            Act::Piece { method, thread, turns_back, item, text } => {
                let (turn, text) = (turn(self, *turns_back), Value::from(text.as_str()));
                let params = format!(
                    "{{\"threadId\":\"{thread}\",\"turnId\":\"{turn}\",\"itemId\":\"msg_{item}\",\"delta\":{text}}}"
                );
                self.line(method, &params);
            }
            Act::Said { method, turns_back, item, text } => {
                let turn = turn(self, *turns_back);
                let item = json!({"type": "agentMessage", "id": format!("msg_{item}"), "text": text, "phase": null});
                let params = json!({"threadId": THREAD, "turnId": turn, "item": item, "willRetry": true,
                    "error": {"message": "m"}, "turn": {"id": turn}});
                self.line(method, &params.to_string());
            }
            Act::Idle => {
                self.line("thread/status/changed", &json!({"threadId": THREAD, "status": {"type": "idle"}}).to_string())
            }
            Act::Ended { turns_back, status } => {
                let turn = json!({"id": turn(self, *turns_back), "status": status, "items": []});
                self.line("turn/completed", &json!({"threadId": THREAD, "turn": turn}).to_string());
            }
            Act::Start { idle_deadline, interrupt_on_drop } => {
                self.act(&Act::Drop);
                let mut options = TurnOptions::default();
                options.idle_deadline = idle_deadline.then_some(Duration::from_secs(30));
                options.on_drop = if *interrupt_on_drop { DropPolicy::Interrupt } else { DropPolicy::LeaveRunning };
                let params = TurnStart::new(THREAD, [UserInput::text("Hello")]);
                match self.lab.connection.start_turn(self.lab.now, &params, &options) {
                    Ok(key) => {
                        self.turn = Some(key);
                        self.reader = Some(self.lab.connection.subscribe(Scope::Turn(key)));
                        self.turns += 1;
                    }
                    Err(error) => self.log.push(format!("not started: {error}")),
                }
            }
            Act::Interrupt => {
                if let Some(key) = self.turn {
                    let asked = self.lab.connection.interrupt(self.lab.now, key);
                    self.log.push(format!("interrupt {}", asked.is_ok()));
                }
            }
            Act::Drop => {
                if let Some(reader) = self.reader.take() {
                    self.lab.connection.unsubscribe(reader);
                }
                if let Some(key) = self.turn.take() {
                    self.lab.connection.drop_turn(self.lab.now, key);
                }
            }
            Act::Listen => {
                if let Some(reader) = self.reader.take() {
                    self.lab.connection.unsubscribe(reader);
                }
                self.reader = self.turn.map(|key| self.lab.connection.subscribe(Scope::Turn(key)));
            }
            Act::Pass(millis) => self.lab.pass(Duration::from_millis(u64::from(*millis))),
        }
        self.look();
    }

    /// Writes down everything that anybody but the thread's listener can see.
    fn look(&mut self) {
        for line in self.lab.sent() {
            self.log.push(format!("sent {line}"));
            if line["method"] == "turn/start" {
                let turn = json!({"id": turn_id(self.turns), "status": "inProgress", "items": []});
                self.lab.say(json!({"id": line["id"], "result": {"turn": turn}}));
            }
        }
        let thread_reader = self.thread_reader;
        let (turn, reader) = (self.turn, self.reader);
        for event in self.lab.events.drain(..) {
            match event {
                Event::Readable(key) if Some(key) == thread_reader => {}
                // The keys of readers differ, because one side has one more.
                Event::Readable(key) => self.log.push(format!("readable {}", Some(key) == reader)),
                event => self.log.push(format!("{event:?}")),
            }
        }
        if let Some(reader) = thread_reader {
            while let Next::Event(_) = self.lab.connection.next_event(reader) {}
        }
        if let Some(reader) = reader {
            while let Next::Event(event) = self.lab.connection.next_event(reader) {
                self.log.push(match event {
                    RawEvent::Delta(delta) => format!("{delta:?} {:?} {:?} {:?}", delta.text, delta.origin, delta.raw),
                    RawEvent::Notification(raw) => format!("{raw:?} {}", raw.params_text()),
                    event => format!("{event:?}"),
                });
            }
        }
        if let Some(key) = turn {
            let connection = &self.lab.connection;
            self.log.push(format!("{:?} {:?}", connection.turn_state(key), connection.interrupt_outcome(key)));
            if let Some(report) = self.lab.connection.take_report(key) {
                let outcome = report.map(turnwire_core::turn::TurnReport::into_result);
                self.log.push(match outcome {
                    Ok(Ok(result)) => format!("{:?} {:?} {:?}", result.items, result.open_items, result.final_response),
                    other => format!("{other:?}"),
                });
            }
        }
        let counters = self.lab.connection.counters();
        self.log.push(format!("{} {} {} {}", counters.turns, counters.requests, counters.merged, counters.lines));
        let mismatches = self.lab.connection.diagnostics().count();
        self.log.push(format!("{mismatches} diagnostics"));
    }
}

fn both_ways(acts: &[Act], merge: bool) {
    let (mut long, mut short) = (World::new(true, merge), World::new(false, merge));
    for act in acts {
        long.act(act);
        short.act(act);
        assert_eq!(short.log, long.log, "after {act:?}");
        long.log.clear();
        short.log.clear();
    }
}

proptest! {
    #[test]
    fn pieces_of_text_are_the_same_events_by_the_short_way_and_by_the_long(acts in acts(), merge in any::<bool>()) {
        both_ways(&acts, merge);
    }
}

#[test]
fn a_piece_after_the_end_of_its_turn_is_the_connections_though_those_before_it_were_the_turns() {
    let mut world = World::new(false, false);
    let others = world.lab.connection.subscribe(Scope::Connection);
    let piece =
        Act::Piece { method: "item/agentMessage/delta", thread: THREAD, turns_back: 0, item: 0, text: "a".into() };
    world.act(&Act::Start { idle_deadline: false, interrupt_on_drop: false });
    for _ in 0..3 {
        world.act(&piece);
    }
    assert_eq!(world.log.iter().filter(|line| line.starts_with("Delta")).count(), 3, "{:?}", world.log);
    assert!(world.lab.read(others).is_empty());
    world.act(&Act::Ended { turns_back: 0, status: "completed" });
    world.log.clear();
    world.act(&piece);
    assert!(!world.log.iter().any(|line| line.starts_with("Delta")), "{:?}", world.log);
    assert_eq!(world.lab.read(others), ["delta msg_0 a"]);
}
