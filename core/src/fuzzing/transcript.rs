//! Recorded conversations, with lines lost, doubled, swapped, cut and changed.

use super::Bench;
use crate::{
    connection::{Scope, TurnOptions},
    protocol::{TurnStart, UserInput},
};
use alloc::{
    collections::{BTreeMap, VecDeque},
    format,
    string::String,
    vec,
    vec::Vec,
};
use core::time::Duration;
use serde_json::Value;

/// A connection survives every variation of a conversation that happened.
///
/// The first line are edits, three bytes each: what, where, and how much; one or two bytes after them say who answers the
/// server. The others are the conversation: `>` and what the client wrote, `<` and what the server wrote. The bodies of what the
/// client wrote do not matter, its methods do, and that it answers.
pub fn transcript(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n');
    let edits = lines.next().unwrap_or_default();
    let mut lines: Vec<Vec<u8>> = lines.filter(|line| !line.is_empty()).map(<[u8]>::to_vec).collect();
    for edit in edits.chunks_exact(3) {
        if let [what, place, much] = edit {
            apply(&mut lines, *what, *place, *much);
        }
    }
    let mut player = Player { bench: Bench::new(), ids: BTreeMap::new(), waiting: BTreeMap::new(), turns: 0 };
    for answers in edits.chunks_exact(3).remainder() {
        player.bench.listen(*answers);
    }
    for (n, line) in lines.iter().enumerate() {
        match line.split_first() {
            Some((b'>', text)) => player.client(text),
            Some((b'<', text)) => player.server(text, n),
            Some((b'+', text)) => player.bench.pass(Duration::from_millis(text.len() as u64 * 100)),
            _ => player.server(line, n),
        }
        player.bench.check_limits();
    }
    player.bench.finish();
}

fn apply(lines: &mut Vec<Vec<u8>>, what: u8, place: u8, much: u8) {
    let Some(place) = usize::from(place).checked_rem(lines.len()) else { return };
    let other = (place + usize::from(much)) % lines.len();
    match what % 5 {
        0 => drop(lines.remove(place)),
        1 => {
            let copy = lines.get(place).cloned().unwrap_or_default();
            lines.insert(other, copy);
        }
        2 => lines.swap(place, other),
        3 => {
            let line = lines.remove(place);
            lines.insert(other.min(lines.len()), line);
        }
        _ => {
            if let Some(line) = lines.get_mut(place) {
                line.truncate(usize::from(much));
            }
        }
    }
}

struct Player {
    bench: Bench,
    /// The ids of the recorded client and those that stand for them here.
    ids: BTreeMap<String, Value>,
    /// The ids of the recorded client whose requests were made here and not written yet, by method.
    waiting: BTreeMap<String, VecDeque<String>>,
    turns: u8,
}

impl Player {
    fn client(&mut self, text: &[u8]) {
        let value: Value = serde_json::from_slice(text).unwrap_or_default();
        let (Some(id), method) = (value.get("id"), value.get("method").and_then(Value::as_str)) else { return };
        let Some(method) = method else {
            self.bench.decide(text.len().to_le_bytes()[0]);
            return self.transmit();
        };
        let thread = value.pointer("/params/threadId").and_then(Value::as_str).unwrap_or("T");
        // Everything else is the same to the connection.
        let named = match method {
            "initialize" | "turn/start" | "turn/steer" | "turn/interrupt" => method,
            _ => "m",
        };
        self.waiting.entry(named.into()).or_default().push_back(format!("{id}"));
        match named {
            // The connection has made its own.
            "initialize" => {}
            "turn/start" => {
                let params = TurnStart::new(thread, [UserInput::text("x")]);
                let options = TurnOptions::default();
                if let Ok(key) = self.bench.connection.start_turn(self.bench.now, &params, &options) {
                    let reader = self.bench.connection.subscribe(Scope::Turn(key));
                    self.bench.turns.push((key, Some(reader)));
                    self.turns = self.turns.wrapping_add(1);
                }
            }
            "turn/steer" => self.bench.steer(self.turns.wrapping_sub(1)),
            "turn/interrupt" => self.bench.interrupt(self.turns.wrapping_sub(1)),
            _ => self.bench.request(),
        }
        self.transmit();
    }

    /// Notes which of the recorded requests each written one stands for.
    fn transmit(&mut self) {
        let mut out = Vec::new();
        self.bench.connection.poll_transmit(self.bench.now, &mut out);
        for line in out.split(|byte| *byte == b'\n') {
            let Ok(value) = serde_json::from_slice::<Value>(line) else { continue };
            let (Some(id), Some(method)) = (value.get("id"), value.get("method").and_then(Value::as_str)) else {
                continue;
            };
            if let Some(recorded) = self.waiting.get_mut(method).and_then(VecDeque::pop_front) {
                self.ids.insert(recorded, id.clone());
            }
        }
        self.bench.poll(1);
    }

    fn server(&mut self, text: &[u8], n: usize) {
        let mut line = vec![];
        match serde_json::from_slice::<Value>(text) {
            Ok(Value::Object(mut message)) if !message.contains_key("method") => {
                let known = message.get("id").and_then(|id| self.ids.get(&format!("{id}")));
                if let Some(known) = known {
                    message.insert("id".into(), known.clone());
                }
                line.extend(serde_json::to_vec(&message).unwrap_or_default());
            }
            _ => line.extend_from_slice(text),
        }
        line.push(b'\n');
        // Cut in two, somewhere.
        let (head, tail) = line.split_at(n * 37 % line.len());
        self.bench.connection.handle_input(self.bench.now, head);
        self.bench.connection.handle_input(self.bench.now, tail);
        if n % 3 != 0 {
            self.transmit();
        }
    }
}
