//! What the benches of the core share: lines, floors, and a connection with running turns.

#![allow(dead_code)] // Not every bench needs all of it.

mod floor;

use self::floor::Envelope;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::{collections::VecDeque, fs, hint::black_box, path::Path, time::Duration};
use turnwire_core::{
    connection::{Config, Connection, Event, Scope, TurnOptions},
    protocol::{TurnStart, UserInput},
    time::Time,
    turn::{RawEvent, SubscriptionKey},
};
use turnwire_testkit::replay::Replay;

/// How much is handed to the connection at once, in bytes.
const READ: usize = 64 * 1024;

/// What arrived: proof, and the reason why nothing is optimised away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Count {
    pub(crate) events: u64,
    pub(crate) characters: u64,
}

/// CPU time of this thread so far.
pub(crate) fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

/// The lines, one turn after the other in turn, and how many characters of text they hold.
pub(crate) fn deltas(number: usize, turns: usize) -> (Vec<u8>, u64) {
    let mut replay = Replay::default();
    (replay.deltas, replay.turns) = (number, turns);
    let prepared = replay.prepare();
    let length = number * prepared.len() / prepared.iter().filter(|byte| **byte == b'\n').count();
    // In large pieces, so that it costs nothing beside what is done with each line.
    let mut bytes = prepared.repeat(length.div_ceil(prepared.len()));
    bytes.truncate(length);
    (bytes, replay.characters())
}

/// What servers wrote in the recorded sessions, all of it, once.
pub(crate) fn recorded() -> Vec<u8> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut files: Vec<_> =
        fs::read_dir(folder).expect("transcripts").map(|entry| entry.expect("a file").path()).collect();
    files.sort();
    let mut bytes = Vec::new();
    for file in files {
        for line in fs::read_to_string(file).expect("readable").lines() {
            let record: Value = serde_json::from_str(line).expect("a record");
            if let (Some("out"), Some(line)) = (record["dir"].as_str(), record["line"].as_str()) {
                bytes.extend_from_slice(line.as_bytes());
                bytes.push(b'\n');
            }
        }
    }
    bytes
}

pub(crate) fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        Some(line)
    })
}

#[inline(never)]
pub(crate) fn floor_e(bytes: &[u8]) -> Count {
    let mut count = Count::default();
    for line in lines(bytes) {
        let envelope: Envelope<'_> = serde_json::from_slice(line).expect("a message");
        black_box((envelope.id, envelope.method, envelope.params));
        count.events += 1;
    }
    count
}

#[inline(never)]
pub(crate) fn floor_t(bytes: &[u8]) -> Count {
    let mut count = Count::default();
    for line in lines(bytes) {
        let envelope: Envelope<'_> = serde_json::from_slice(line).expect("a message");
        if envelope.method == Some("item/agentMessage/delta") {
            count.events += 1;
            count.characters += envelope.typed();
        }
    }
    count
}

/// A connection with that many running turns, each with a reader, and one for what belongs to no turn.
pub(crate) fn connected(turns: usize) -> (Connection, Vec<SubscriptionKey>) {
    let mut config = Config::default();
    config.limits.max_in_flight = turns.max(1);
    config.limits.merge_after = None;
    let now = Time::ZERO;
    let mut connection = Connection::new(now, config);
    let mut out = Vec::new();
    while connection.poll_transmit(now, &mut out) {}
    connection.handle_input(now, b"{\"id\":1,\"result\":{\"userAgent\":\"b/0.163.0 (x)\",\"codexHome\":\"/h\",\"platformFamily\":\"unix\",\"platformOs\":\"linux\"}}\n");
    let mut readers = vec![connection.subscribe(Scope::Connection)];
    for n in 0..turns {
        let params = TurnStart::new(Replay::thread(n), [UserInput::text("go")]);
        let key = connection.start_turn(now, &params, &TurnOptions::default()).expect("a turn starts");
        readers.push(connection.subscribe(Scope::Turn(key)));
    }
    while connection.poll_transmit(now, &mut out) {}
    for n in 0..turns {
        let reply = json!({"id": n + 2, "result": {"turn": {"id": Replay::turn(n)}}});
        connection.handle_input(now, format!("{reply}\n").as_bytes());
    }
    while connection.poll_event().is_some() {}
    (connection, readers)
}

/// From bytes to events in the hands of their consumers, who let go of them at once.
#[inline(never)]
pub(crate) fn core(connection: &mut Connection, bytes: &[u8]) -> Count {
    let mut count = Count::default();
    let mut taken = VecDeque::new();
    for read in bytes.chunks(READ) {
        connection.handle_input(Time::ZERO, read);
        while let Some(event) = connection.poll_event() {
            let Event::Readable(key) = event else { continue };
            connection.take_events(key, &mut taken);
            for event in taken.drain(..) {
                match &event {
                    RawEvent::Delta(delta) => {
                        count.events += 1 + delta.merged;
                        count.characters += delta.text.len() as u64;
                    }
                    _ => count.events += 1,
                }
                black_box(event);
            }
        }
    }
    count
}
