//! The scripted server over in-memory pipes, on threads and the real clock. Every wait is bounded.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use turnwire_testkit::scripted::{PipeReader, Rule, Script, State, duplex, pipe, serve, serve_duplex};

const LONG: Duration = Duration::from_secs(20);

/// Runs something that may block and fails when it does not end.
fn bounded<T: Send + 'static>(what: &str, job: impl FnOnce() -> T + Send + 'static) -> T {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || sender.send(job()));
    receiver.recv_timeout(LONG).unwrap_or_else(|_| panic!("{what} did not end"))
}

fn read_all(mut reader: PipeReader) -> Vec<u8> {
    bounded("reading", move || {
        let mut all = Vec::new();
        reader.read_to_end(&mut all).expect("a pipe reads");
        all
    })
}

#[test]
fn a_pipe_is_bounded_and_blocks_until_there_is_room() {
    let (mut reader, mut writer) = pipe(4);
    assert_eq!(writer.write(b"abcdef").expect("room"), 4);
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        let result = writer.write_all(b"ef");
        sender.send(()).expect("somebody waits");
        result
    });
    assert!(done.recv_timeout(Duration::from_millis(50)).is_err(), "a full pipe blocks");
    let mut two = [0; 2];
    reader.read_exact(&mut two).expect("bytes");
    done.recv_timeout(LONG).expect("room makes the writer go on");
    assert_eq!((&two, read_all(reader)), (b"ab", b"cdef".to_vec()));
}

#[test]
fn each_end_notices_when_the_other_is_gone() {
    let ((left_reader, mut left_writer), (right_reader, mut right_writer)) = duplex();
    right_writer.write_all(b"last words").expect("room");
    drop(right_writer);
    assert_eq!(read_all(left_reader), b"last words");
    drop(right_reader);
    let error = left_writer.write(b"x").expect_err("nobody reads");
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_closer_releases_an_end_that_is_blocked() {
    let (reader, writer) = pipe(1);
    let closer = reader.closer();
    let blocked = thread::spawn(move || read_all(reader));
    closer.close();
    assert_eq!(bounded("the reader", move || blocked.join().expect("no panic")), b"");
    drop(writer);

    let (reader, mut writer) = pipe(1);
    let closer = writer.closer();
    let blocked = thread::spawn(move || writer.write_all(b"more than fits"));
    thread::sleep(Duration::from_millis(10));
    closer.close();
    let result = bounded("the writer", move || blocked.join().expect("no panic"));
    assert_eq!(result.expect_err("closed").kind(), ErrorKind::BrokenPipe);
    drop(reader);
}

/// Reads lines until one fits.
fn read_until(reader: &mut BufReader<PipeReader>, mut fits: impl FnMut(&Value) -> bool) -> Vec<Value> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        assert!(reader.read_line(&mut line).expect("a pipe reads") > 0, "the server ended");
        lines.push(serde_json::from_str(&line).expect("JSON"));
        if lines.last().is_some_and(&mut fits) {
            return lines;
        }
    }
}

#[test]
fn a_turn_runs_over_in_memory_pipes() {
    let (reader, mut writer, serving) = serve_duplex(Script::new().delta_delay(2));
    let lines = bounded("the turn", move || {
        let mut reader = BufReader::new(reader);
        let mut send = |message: Value| writeln!(writer, "{message}").expect("the server reads");
        send(json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "n", "version": "1"}}}));
        send(json!({"method": "initialized"}));
        send(json!({"id": 2, "method": "thread/start", "params": {}}));
        let lines = read_until(&mut reader, |line| line["id"] == 2);
        let thread = lines.last().expect("a reply")["result"]["thread"]["id"].clone();
        let input = json!([{"type": "text", "text": "hello"}]);
        send(json!({"id": 3, "method": "turn/start", "params": {"threadId": thread, "input": input}}));
        read_until(&mut reader, |line| line["method"] == "turn/completed")
    });
    assert_eq!(lines.last().expect("the end")["params"]["turn"]["items"][0]["text"], "You said: hello");
    assert_eq!(serving.wait(LONG), Some(State::Exited { code: 0 }), "its input ended");
    let expected = ["initialize", "initialized", "thread/start", "turn/start"];
    assert_eq!(serving.with(|server| server.received_methods()), expected);
}

#[test]
fn when_the_server_exits_both_directions_end() {
    let script = Script::new().rule(Rule::on("x").raw("half a line").exit(7));
    let (reader, mut writer, serving) = serve_duplex(script);
    writer.write_all(b"{\"id\":1,\"method\":\"x\"}\n").expect("the server reads");
    assert_eq!(read_all(reader), b"half a line");
    assert_eq!(serving.wait(LONG), Some(State::Exited { code: 7 }));
    let error = bounded("writing", move || {
        loop {
            if let Err(error) = writer.write(&[0; 1024]) {
                return error;
            }
        }
    });
    assert_eq!(error.kind(), ErrorKind::BrokenPipe);
}

#[test]
fn a_server_that_does_not_read_makes_the_writer_wait() {
    let script = Script::new().rule(Rule::on("x").stop_reading().delay(1500).resume_reading());
    let (_reader, mut writer, serving) = serve_duplex(script);
    writer.write_all(b"{\"method\":\"x\"}\n").expect("the server reads");
    assert!(serving.wait_until(LONG, |server| !server.is_reading()));
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        let line = format!("{}\n", "y".repeat(1023));
        for _ in 0..1024 {
            writer.write_all(line.as_bytes()).expect("the server reads in the end");
        }
        sender.send(())
    });
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err(), "a megabyte fits in no pipe");
    done.recv_timeout(LONG).expect("the server reads again");
    assert_eq!(serving.wait(LONG), Some(State::Exited { code: 0 }));
    assert_eq!(serving.with(|server| server.ignored()), 1024);
}

#[test]
fn stopping_releases_a_server_that_is_blocked_in_a_write() {
    let script = Script::new().rule(Rule::at_start().flood(1_000_000, "f", json!({})));
    let (reader, writer, serving) = serve_duplex(script);
    assert_eq!(serving.wait(Duration::from_millis(50)), None, "nobody reads");
    serving.stop();
    assert!(serving.wait(LONG).is_some());
    drop((reader, writer));
}

#[test]
fn any_reader_and_writer_can_be_served() {
    let input = std::io::Cursor::new(b"{\"id\":1,\"method\":\"x\"}\n".to_vec());
    let (reader, writer) = pipe(1024);
    let script = Script::new().rule(Rule::on("x").reply(json!({}))).rule(Rule::on_eof().delay(5).exit(2));
    let serving = serve(input, writer, script);
    assert_eq!(read_all(reader), b"{\"id\":1,\"result\":{}}\n");
    assert_eq!(serving.wait(LONG), Some(State::Exited { code: 2 }));
}
