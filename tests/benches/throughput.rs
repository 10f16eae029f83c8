//! How fast deltas go through the connection, as a ratio to two floors measured in the same run.
//!
//! `cargo bench -p turnwire-testkit --bench throughput`. Nothing is asserted about time; that every event and every
//! character arrived is. Numbers as arguments: the lines instead of 200,000,
//! and the only number of turns to run.
//!
//! - floor E: a loop over line ends and a borrowed envelope `{id, method, params}` with serde_json;
//! - floor T: the same and the delta as a struct of owned strings;
//! - core: `Connection::handle_input` in reads of 64 KiB, and every subscription drained after each read.

#![allow(clippy::print_stdout)] // It is what a bench is for.

use serde::Deserialize;
use serde_json::{json, value::RawValue};
use std::{
    collections::VecDeque,
    hint::black_box,
    time::{Duration, Instant},
};
use turnwire_core::{
    connection::{Config, Connection, Event, Scope, TurnOptions},
    protocol::{TurnStart, UserInput},
    time::Time,
    turn::{Next, RawEvent, SubscriptionKey},
};

const LINES: usize = 200_000;
const RUNS: usize = 5;
const READ: usize = 64 * 1024;

/// What arrived: proof, and the reason why nothing is optimised away.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    events: u64,
    characters: u64,
}

#[derive(Deserialize)]
struct Envelope<'a> {
    id: Option<i64>,
    #[serde(borrow)]
    method: Option<&'a str>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    thread_id: String,
    turn_id: String,
    item_id: String,
    delta: String,
}

fn thread(n: usize) -> String {
    format!("01a20327-0000-7000-8000-{n:012x}")
}

fn turn(n: usize) -> String {
    format!("01a20327-0001-7000-8000-{n:012x}")
}

/// The lines, one turn after the other in turn, and how many characters of text they hold.
fn render(lines: usize, turns: usize) -> (Vec<u8>, u64) {
    let mut bytes = Vec::with_capacity(lines * 260);
    let mut characters = 0;
    for n in 0..lines {
        let of = n % turns;
        let text = format!("word{:05} and some more ", n % 100_000);
        characters += text.len() as u64;
        // The order of members is the server's own.
        let line = format!(
            r#"{{"method":"item/agentMessage/delta","params":{{"threadId":"{}","turnId":"{}","itemId":"msg_0d5c40e0b1a2{of:06x}","delta":"{text}"}},"emittedAtMs":{}}}"#,
            thread(of),
            turn(of),
            1_795_349_155_000_u64 + n as u64
        );
        bytes.extend_from_slice(line.as_bytes());
        bytes.push(b'\n');
    }
    (bytes, characters)
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        let end = memchr::memchr(b'\n', rest)?;
        let (line, after) = rest.split_at(end);
        rest = &after[1..];
        Some(line)
    })
}

fn floor_e(bytes: &[u8]) -> Count {
    let mut count = Count::default();
    for line in lines(bytes) {
        let envelope: Envelope<'_> = serde_json::from_slice(line).expect("a message");
        black_box((envelope.id, envelope.method, envelope.params));
        count.events += 1;
    }
    count
}

fn floor_t(bytes: &[u8]) -> Count {
    let mut count = Count::default();
    for line in lines(bytes) {
        let envelope: Envelope<'_> = serde_json::from_slice(line).expect("a message");
        if envelope.method == Some("item/agentMessage/delta") {
            let params = envelope.params.expect("params").get();
            let delta: Delta = serde_json::from_str(params).expect("a delta");
            count.events += 1;
            count.characters += delta.delta.len() as u64;
            black_box((delta.thread_id, delta.turn_id, delta.item_id, delta.delta));
        }
    }
    count
}

/// A connection with that many running turns, each with a reader.
fn connected(turns: usize) -> (Connection, Vec<SubscriptionKey>) {
    let mut config = Config::default();
    config.limits.max_in_flight = turns.max(1);
    config.limits.merge_after = None;
    let now = Time::ZERO;
    let mut connection = Connection::new(now, config);
    let mut out = Vec::new();
    while connection.poll_transmit(now, &mut out) {}
    connection.handle_input(now, b"{\"id\":1,\"result\":{\"userAgent\":\"b/0.163.0 (x)\",\"codexHome\":\"/h\",\"platformFamily\":\"unix\",\"platformOs\":\"linux\"}}\n");
    let mut readers = Vec::new();
    for n in 0..turns {
        let params = TurnStart::new(thread(n), [UserInput::text("go")]);
        let key = connection.start_turn(now, &params, &TurnOptions::default()).expect("a turn starts");
        readers.push(connection.subscribe(Scope::Turn(key)));
    }
    while connection.poll_transmit(now, &mut out) {}
    for n in 0..turns {
        let reply = json!({"id": n + 2, "result": {"turn": {"id": turn(n)}}});
        connection.handle_input(now, format!("{reply}\n").as_bytes());
    }
    while connection.poll_event().is_some() {}
    assert!(readers.iter().all(|reader| matches!(connection.next_event(*reader), Next::Pending)));
    (connection, readers)
}

#[inline(never)]
fn core(bytes: &[u8], turns: usize) -> (Duration, Count) {
    let (mut connection, _readers) = connected(turns);
    let mut count = Count::default();
    let mut taken = VecDeque::new();
    let start = Instant::now();
    for read in bytes.chunks(READ) {
        connection.handle_input(Time::ZERO, read);
        while let Some(event) = connection.poll_event() {
            let Event::Readable(key) = event else { continue };
            connection.take_events(key, &mut taken);
            for event in taken.drain(..) {
                if let RawEvent::Delta(delta) = &event {
                    count.events += 1 + delta.merged;
                    count.characters += delta.text.len() as u64;
                }
                black_box(event);
            }
        }
    }
    let took = start.elapsed();
    assert_eq!((connection.counters().left_out, connection.counters().unread_bytes), (0, 0));
    (took, count)
}

fn median(mut run: impl FnMut() -> (Duration, Count)) -> (Duration, Count) {
    let mut runs: Vec<(Duration, Count)> = (0..RUNS).map(|_| run()).collect();
    assert!(runs.iter().all(|(_, count)| *count == runs[0].1), "each run gives the same");
    runs.sort_by_key(|(took, _)| *took);
    runs[RUNS / 2]
}

fn timed(run: impl Fn() -> Count) -> (Duration, Count) {
    let start = Instant::now();
    let count = run();
    (start.elapsed(), count)
}

fn main() {
    let mut wanted = std::env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let number = wanted.next().unwrap_or(LINES);
    let only = wanted.next();
    println!("{number} delta lines, median of {RUNS} runs; ratios to the floors of the same run");
    for turns in [1, 64, 1000].into_iter().filter(|turns| only.is_none_or(|only| only == *turns)) {
        let (bytes, characters) = render(number, turns);
        let all = Count { events: number as u64, characters };
        let (e, seen) = median(|| timed(|| floor_e(&bytes)));
        assert_eq!(seen.events, all.events);
        let (t, seen) = median(|| timed(|| floor_t(&bytes)));
        assert_eq!(seen, all);
        let (c, seen) = median(|| core(&bytes, turns));
        assert_eq!(seen, all);
        let per_line = |took: Duration| took.as_nanos() as f64 / number as f64;
        println!(
            "{turns:>5} turns, {:.0} bytes a line: floor E {:>5.0} ns, floor T {:>5.0} ns, core {:>5.0} ns a line; \
             core/E {:.2}, core/T {:.2}; {} events, {} characters",
            bytes.len() as f64 / number as f64,
            per_line(e),
            per_line(t),
            per_line(c),
            c.as_secs_f64() / e.as_secs_f64(),
            c.as_secs_f64() / t.as_secs_f64(),
            seen.events,
            seen.characters,
        );
    }
}
