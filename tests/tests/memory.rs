//! How much memory things take, by an allocator that counts.
//!
//! Each test runs in a process of its own, so that nothing but itself is counted: the test starts this program again for
//! itself alone.

#![allow(missing_docs, reason = "a test suite documents itself by the names of its tests")]

use cap::Cap;
use std::{alloc::System, process::Command};
use turnwire_core::{
    connection::{Config, Connection, Scope, TurnOptions},
    protocol::{ModelList, TurnStart, UserInput},
    time::Time,
    turn::{Next, RawEvent, SubscriptionKey, TurnKey},
};
use turnwire_testkit::replay::Replay;

#[global_allocator]
static MEMORY: Cap<System> = Cap::new(System, usize::MAX);

const MEBIBYTE: usize = 1 << 20;

/// Runs the body in a process in which nothing else runs.
fn alone(name: &str, body: impl FnOnce()) {
    const ALONE: &str = "TURNWIRE_MEMORY_TEST";
    if std::env::var(ALONE).is_ok_and(|only| only == name) {
        return body();
    }
    let program = std::env::current_exe().expect("this program");
    let arguments = ["--exact", name, "--nocapture", "--test-threads", "1"];
    let output = Command::new(program).args(arguments).env(ALONE, name).output().expect("it runs");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{}", String::from_utf8_lossy(&output.stderr));
}

/// How much the most that was ever held is more than what is held now, while `body` runs.
fn peak(body: impl FnOnce()) -> usize {
    let before = MEMORY.allocated();
    body();
    MEMORY.max_allocated().saturating_sub(before)
}

fn connected(config: Config) -> Connection {
    let mut connection = Connection::new(Time::ZERO, config);
    transmit(&mut connection);
    say(
        &mut connection,
        r#"{"id":1,"result":{"userAgent":"memory/0.163.0 (Linux) x","codexHome":"/h","platformFamily":"unix","platformOs":"linux"}}"#,
    );
    transmit(&mut connection);
    settle(&mut connection);
    connection
}

fn say(connection: &mut Connection, line: &str) {
    connection.handle_input(Time::ZERO, line.as_bytes());
    connection.handle_input(Time::ZERO, b"\n");
}

fn transmit(connection: &mut Connection) {
    let mut out = Vec::new();
    while connection.poll_transmit(Time::ZERO, &mut out) {
        out.clear();
    }
}

fn settle(connection: &mut Connection) {
    while connection.poll_event().is_some() {}
}

/// Starts a turn that is the `id`th request. It runs when this returns.
fn start(connection: &mut Connection, of: usize, id: usize, listen: bool) -> (TurnKey, Option<SubscriptionKey>) {
    let params = TurnStart::new(Replay::thread(of), [UserInput::text("go")]);
    let key = connection.start_turn(Time::ZERO, &params, &TurnOptions::default()).expect("a turn");
    let reader = listen.then(|| connection.subscribe(Scope::Turn(key)));
    transmit(connection);
    let turn = Replay::turn(of);
    say(connection, &format!(r#"{{"id":{id},"result":{{"turn":{{"id":"{turn}"}}}}}}"#));
    settle(connection);
    (key, reader)
}

fn end(connection: &mut Connection, of: usize) {
    let (thread, turn) = (Replay::thread(of), Replay::turn(of));
    let params = format!(r#"{{"threadId":"{thread}","turn":{{"id":"{turn}","status":"completed","items":[]}}}}"#);
    say(connection, &format!(r#"{{"method":"turn/completed","params":{params}}}"#));
    settle(connection);
}

/// A reply of that size in pieces of a kibibyte: what it takes at most, as a multiple of its size.
fn line_factor(size: usize) -> f64 {
    let mut connection = connected(Config::default());
    let request = connection.request(Time::ZERO, &ModelList::default()).expect("a request");
    transmit(&mut connection);
    let piece = [b'x'; 1024];
    let peak = peak(|| {
        let head = br#"{"id":2,"result":{"data":[],"x":""#;
        connection.handle_input(Time::ZERO, head);
        for _ in 0..(size - 64) / piece.len() {
            connection.handle_input(Time::ZERO, &piece);
        }
        connection.handle_input(Time::ZERO, b"\"}}\n");
    });
    connection.take_response(&request).expect("an outcome").expect("it is decoded");
    assert_eq!(connection.counters().oversized, 0);
    peak as f64 / size as f64
}

#[test]
fn fr_09_a_line_of_sixteen_mebibytes_takes_little_more_than_twice_its_size() {
    alone("fr_09_a_line_of_sixteen_mebibytes_takes_little_more_than_twice_its_size", || {
        let factor = line_factor(16 * MEBIBYTE);
        assert!(factor <= 2.2, "{factor} times its size");
        // What was asked for in all is of the size too: nothing is copied again with each piece.
        let total = MEMORY.total_allocated() / MEBIBYTE;
        assert!(total < 16 * 16, "{total} MiB asked for in all");
    });
}

#[test]
fn fr_09_the_longest_line_takes_little_more_than_twice_its_size() {
    alone("fr_09_the_longest_line_takes_little_more_than_twice_its_size", || {
        let factor = line_factor(128 * MEBIBYTE);
        assert!(factor <= 2.2, "{factor} times its size");
    });
}

#[test]
fn bp_06_a_million_notifications_that_nobody_reads_leave_nothing() {
    alone("bp_06_a_million_notifications_that_nobody_reads_leave_nothing", || {
        let mut connection = connected(Config::default());
        let (key, _) = start(&mut connection, 0, 2, false);
        // Of a turn that is ours, of a thread that nobody knows, and of no thread.
        let mut lines = Replay::delta(0, "some text");
        lines.push_str(&Replay::delta(1, "some text"));
        lines.push_str("{\"method\":\"account/rateLimits/updated\",\"params\":{\"rateLimits\":{\"primary\":null}}}\n");
        lines.push_str("{\"method\":\"configWarning\",\"params\":{\"summary\":\"x\"}}\n");
        let block = lines.repeat(250);
        connection.handle_input(Time::ZERO, block.as_bytes());
        let before = MEMORY.allocated();
        let peak = peak(|| {
            for _ in 0..1000 {
                connection.handle_input(Time::ZERO, block.as_bytes());
            }
        });
        assert!(connection.counters().lines >= 1_000_000);
        let grown = MEMORY.allocated().saturating_sub(before);
        // The thread of the test harness may begin to wait meanwhile, which takes it some bytes.
        assert!(grown < 1024 && peak < 64 * 1024, "{grown} bytes more than before, {peak} at most");
        assert_eq!(connection.counters().unread_bytes, 0);
        connection.release_turn(key);
    });
}

#[test]
fn bp_06_a_million_notifications_for_one_who_never_reads_stay_within_the_limit() {
    alone("bp_06_a_million_notifications_for_one_who_never_reads_stay_within_the_limit", || {
        let mut config = Config::default();
        config.limits.max_unread_bytes = 4 * MEBIBYTE;
        let mut connection = connected(config);
        let reader = connection.subscribe(Scope::Connection);
        let line = "{\"method\":\"account/rateLimits/updated\",\"params\":{\"rateLimits\":{\"primary\":null}}}\n";
        let block = line.repeat(1000);
        let peak = peak(|| {
            for _ in 0..1000 {
                connection.handle_input(Time::ZERO, block.as_bytes());
                settle(&mut connection);
            }
        });
        // A queue may be half empty, and the allocations of an event are rounded up.
        assert!(peak < 3 * 4 * MEBIBYTE, "{peak} bytes");
        let (mut events, mut left_out) = (0, 0);
        while let Next::Event(event) = connection.next_event(reader) {
            match event {
                RawEvent::Gap(count) => left_out += count,
                _ => events += 1,
            }
        }
        assert_eq!(events + left_out, 1_000_000);
    });
}

#[test]
fn a_sleeping_consumer_costs_the_text_and_little_more() {
    alone("a_sleeping_consumer_costs_the_text_and_little_more", || {
        const DELTAS: usize = 200_000;
        let mut replay = Replay::default();
        replay.deltas = DELTAS;
        let mut connection = connected(Config::default());
        let (_key, reader) = start(&mut connection, 0, 2, true);
        let line = Replay::delta(0, &"x".repeat(replay.text_length()));
        let text = replay.text_length() * DELTAS;
        let peak = peak(|| {
            for _ in 0..DELTAS {
                connection.handle_input(Time::ZERO, line.as_bytes());
            }
        });
        assert!(peak < text + 32 * MEBIBYTE, "{peak} bytes for {text} of text");
        let mut characters = 0;
        while let Next::Event(event) = connection.next_event(reader.expect("a reader")) {
            let RawEvent::Delta(delta) = event else { panic!("{event:?}") };
            characters += delta.text.len();
        }
        assert_eq!(characters, text);
        assert!(connection.counters().merged > DELTAS as u64 / 2, "{:?}", connection.counters());
    });
}

#[test]
fn ten_thousand_turns_that_nobody_listened_to_leave_nothing() {
    alone("ten_thousand_turns_that_nobody_listened_to_leave_nothing", || {
        let mut connection = connected(Config::default());
        let run = |connection: &mut Connection, turns: std::ops::Range<usize>| {
            for of in turns {
                let (key, _) = start(connection, of, of + 2, false);
                connection.handle_input(Time::ZERO, Replay::delta(of, "some text").as_bytes());
                end(connection, of);
                connection.release_turn(key);
                settle(connection);
            }
        };
        // The beginnings of lines that are remembered are bounded, and all there after this.
        run(&mut connection, 0..3000);
        let before = MEMORY.allocated();
        run(&mut connection, 3000..13_000);
        let grown = MEMORY.allocated().saturating_sub(before);
        assert!(grown < 1536 * 1024, "{grown} bytes more than before");
        let counters = connection.counters();
        assert_eq!((counters.turns, counters.threads, counters.requests, counters.unread_bytes), (0, 0, 0, 0));
    });
}

#[test]
fn ten_thousand_requests_that_were_dropped_leave_nothing() {
    alone("ten_thousand_requests_that_were_dropped_leave_nothing", || {
        let mut connection = connected(Config::default());
        let run = |connection: &mut Connection, ids: std::ops::Range<usize>| {
            for id in ids {
                let request = connection.request(Time::ZERO, &ModelList::default()).expect("a request");
                transmit(connection);
                connection.abandon(request.key());
                // Half of them are answered all the same.
                if id % 2 == 0 {
                    say(connection, &format!(r#"{{"id":{id},"result":{{"data":[]}}}}"#));
                } else {
                    say(connection, &format!(r#"{{"id":{id},"error":{{"code":1,"message":"no"}}}}"#));
                }
                settle(connection);
            }
        };
        run(&mut connection, 2..1002);
        let before = MEMORY.allocated();
        run(&mut connection, 1002..11_002);
        let grown = MEMORY.allocated().saturating_sub(before);
        assert!(grown < 16 * 1024, "{grown} bytes more than before");
        assert_eq!(connection.counters().requests, 0);
    });
}

#[test]
fn what_a_server_says_of_turns_of_nobody_and_what_was_taken_back_leave_little() {
    alone("what_a_server_says_of_turns_of_nobody_and_what_was_taken_back_leave_little", || {
        let mut config = Config::default();
        config.limits.max_parked_events = 4;
        config.limits.max_unread_bytes = 1000;
        config.limits.max_in_flight = 1;
        let mut connection = connected(config);
        let params = TurnStart::new("T", [UserInput::text("go")]);
        // It is not answered, so each of these may be the one.
        let key = connection.start_turn(Time::ZERO, &params, &TurnOptions::default()).expect("a turn");
        transmit(&mut connection);
        let pad = "x".repeat(50_000);
        let before = MEMORY.allocated();
        for n in 0..2_000 {
            let turn = format!(r#"{{"id":"V{n}","status":"completed","pad":"{pad}"}}"#);
            say(
                &mut connection,
                &format!(r#"{{"method":"turn/completed","params":{{"threadId":"T","turn":{turn}}}}}"#),
            );
            let named = format!(r#"{{"threadId":"t{n}","turn":{{"id":"{pad}"}}}}"#);
            say(&mut connection, &format!(r#"{{"method":"turn/started","params":{named}}}"#));
            let named = format!(r#"{{"threadId":"{pad}{n}","turn":{{"id":"U"}}}}"#);
            say(&mut connection, &format!(r#"{{"method":"turn/started","params":{named}}}"#));
            let request = connection.enter_unsubscribe(Time::ZERO, pad.as_str().into()).expect("it waits");
            connection.abandon(request);
            settle(&mut connection);
        }
        let left = MEMORY.allocated().saturating_sub(before);
        assert!(left < 8 * MEBIBYTE, "{left} bytes");
        connection.release_turn(key);
    });
}
