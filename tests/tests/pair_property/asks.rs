//! What the application does with the requests of the server, and what must hold of them.

use crate::{app::App, plan::ODD};
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};
use turnwire_core::{
    connection::{AskKind, Asked, ListenFor, ListenerKey, NextAsk, ServerRequestKey},
    json::Json,
    turn::RawEvent,
};
use turnwire_testkit::sim::{Crossing, Direction};

/// The kinds that somebody answers here.
const KINDS: [AskKind; 2] = [AskKind::Command, AskKind::ToolCall];

/// The requests of the server, as the application has them.
#[derive(Default)]
pub(crate) struct Asks {
    listeners: Vec<ListenerKey>,
    /// Those of whom an edge said that there is something to take.
    ready: BTreeSet<ListenerKey>,
    held: Vec<Asked>,
    /// All that were ever had. No request is had twice.
    had: BTreeSet<ServerRequestKey>,
    /// Those that are said to have ended.
    ended: BTreeSet<ServerRequestKey>,
    /// What was done with them, in words.
    pub(crate) log: Vec<String>,
}

impl Asks {
    pub(crate) fn note_edge(&mut self, listener: ListenerKey) {
        self.ready.insert(listener);
    }

    pub(crate) fn listens(&self, listener: ListenerKey) -> bool {
        self.listeners.contains(&listener)
    }

    pub(crate) fn note_end(&mut self, key: ServerRequestKey) {
        assert!(self.ended.insert(key), "{key:?} ends twice");
    }
}

impl App {
    /// Says what is answered here from now on.
    pub(crate) fn serve(&mut self, how: u64) {
        if self.asks.listeners.len() >= 3 {
            return;
        }
        let mut wants = ListenFor::default();
        match how % 6 {
            0..=2 => wants.kinds = KINDS.into(),
            3 => {
                wants.kinds = KINDS.into();
                wants.deadlines.insert(AskKind::Command, Duration::from_millis(1 + how % 700) + ODD);
            }
            4 => wants.in_stream = true,
            _ => drop(wants.refused.insert(AskKind::Command)),
        }
        self.asks.listeners.push(self.pair.client.listen(wants));
    }

    /// Stops one of those who answer.
    pub(crate) fn stop_serving(&mut self, which: u64) {
        if self.asks.listeners.is_empty() {
            return;
        }
        let place = usize::try_from(which % self.asks.listeners.len() as u64).expect("small");
        let listener = self.asks.listeners.remove(place);
        self.pair.client.unlisten(listener);
        assert!(matches!(self.pair.client.next_ask(listener), NextAsk::Finished), "{listener:?} still listens");
    }

    /// Takes what there is to take, and does something with one of those that are held.
    pub(crate) fn decide(&mut self, which: u64) {
        self.take_asks();
        if self.asks.held.is_empty() {
            return;
        }
        let place = usize::try_from(which % self.asks.held.len() as u64).expect("small");
        let asked = self.asks.held.remove(place);
        let (client, key) = (&mut self.pair.client, asked.key);
        let is_open = client.is_ask_open(key);
        assert!(!is_open || client.ask_end(key).is_none(), "{key:?} is open and has ended");
        let what = match (which / 97) % 10 {
            0..=3 => {
                let word = ["accept", "decline", "cancel"][usize::try_from((which / 997) % 3).expect("small")];
                let answer = Json::encode(&json!({"decision": word})).expect("JSON");
                let taken = client.respond(key, Ok(answer.clone())).is_ok();
                assert_eq!(taken, is_open, "{key:?} takes an answer if and only if it is open");
                assert!(client.respond(key, Ok(answer)).is_err(), "{key:?} takes two answers");
                if taken { word } else { "too late" }
            }
            4 => {
                client.fail_ask(key, &asked.request.method);
                "failed"
            }
            5 => {
                client.refuse(key);
                "refused"
            }
            6 => "let go",
            _ => {
                // It is kept, perhaps beyond its time.
                self.asks.held.push(asked);
                return;
            }
        };
        assert!(what == "let go" || !client.is_ask_open(key), "{key:?} is open after it was {what}");
        client.release_ask(key);
        assert!(client.ask_end(key).is_none() && !client.is_ask_open(key), "{key:?} is there after it was let go");
        self.asks.log.push(what.into());
    }

    /// Takes what the edges and the streams have told of.
    fn take_asks(&mut self) {
        for listener in std::mem::take(&mut self.asks.ready) {
            while let NextAsk::Asked(asked) = self.pair.client.next_ask(listener) {
                self.hold_ask(asked);
            }
        }
        for n in 0..self.turns.len() {
            let turn = &self.turns[n];
            let offered = turn.events.iter().filter_map(|event| match event {
                RawEvent::Asked(asked) => Some(asked.key),
                _ => None,
            });
            let (reader, offered) = (turn.reader, offered.collect::<Vec<_>>());
            for key in offered {
                if let Some(asked) = self.pair.client.claim_ask(key, reader) {
                    assert!(self.pair.client.claim_ask(key, reader).is_none(), "{key:?} is claimed twice");
                    self.hold_ask(asked);
                }
            }
        }
    }

    fn hold_ask(&mut self, asked: Asked) {
        assert!(KINDS.contains(&asked.kind), "nobody wants {:?}", asked.kind);
        assert!(self.asks.had.insert(asked.key), "{:?} is given to two", asked.key);
        self.asks.held.push(asked);
    }

    /// Lets go of everything.
    pub(crate) fn leave_asks(&mut self) {
        self.take_asks();
        for asked in std::mem::take(&mut self.asks.held) {
            if self.pair.client.ask_end(asked.key).is_none() {
                self.pair.fail(&format!("{:?} has not ended with the connection", asked.key));
            }
            self.pair.client.release_ask(asked.key);
        }
        while !self.asks.listeners.is_empty() {
            self.stop_serving(0);
        }
    }

    /// Each request of the server that arrived has one answer at most; exactly one, unless the server took it back, and a
    /// request that is sent again is the same request. `is_whole`: whether nothing was lost on the way.
    pub(crate) fn assert_one_answer_each(&self, is_whole: bool) {
        let mut asks: BTreeMap<String, (u64, Value)> = BTreeMap::new();
        let mut taken_back = BTreeSet::new();
        for line in lines(self.pair.trace(), Direction::ToClient) {
            let params = &line["params"];
            match (&line["id"], line["method"].as_str()) {
                (Value::Null, Some("serverRequest/resolved")) => {
                    taken_back.insert(params["requestId"].to_string());
                }
                (Value::Null, Some("turn/completed")) => {
                    let turn = &params["turn"]["id"];
                    let of_turn = asks.iter().filter(|(_, (_, asked))| asked == turn).map(|(id, _)| id.clone());
                    taken_back.extend(of_turn.collect::<Vec<_>>());
                }
                (id, Some(_)) if !id.is_null() => {
                    asks.entry(id.to_string()).or_insert((0, params["turnId"].clone())).0 += 1;
                }
                _ => {}
            }
        }
        let mut answers: BTreeMap<String, u64> = BTreeMap::new();
        for line in lines(self.pair.trace(), Direction::ToServer).filter(|line| line.get("method").is_none()) {
            *answers.entry(line["id"].to_string()).or_default() += 1;
        }
        for (id, count) in &answers {
            let asked = asks.get(id).map_or(0, |(times, _)| *times);
            if *count > asked {
                self.pair.fail(&format!("{id} was asked {asked} times and answered {count} times"));
            }
        }
        for id in asks.keys().filter(|id| is_whole && !taken_back.contains(*id)) {
            if !answers.contains_key(id) {
                self.pair.fail(&format!("{id} was asked and not answered"));
            }
        }
    }
}

/// The whole lines that arrived on one side and are JSON.
fn lines(trace: &[Crossing], direction: Direction) -> impl Iterator<Item = Value> {
    let arrived = trace.iter().filter(|crossing| crossing.direction == direction);
    let bytes: Vec<u8> = arrived.flat_map(|crossing| crossing.bytes.iter().copied()).collect();
    let lines = bytes.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n"));
    lines.filter_map(|line| serde_json::from_slice(line).ok()).collect::<Vec<Value>>().into_iter()
}
