use crate::lab::{Lab, completed, delta, describe, message, usage};
use serde_json::{Value, json};
use turnwire_core::{
    connection::{Config, Event, Scope, TurnOptions},
    error::{DisconnectReason, Fault},
    json::Json,
    protocol::{ModelList, TurnStart, UserInput},
    turn::{DiagnosticKind, Next},
};

/// A turn with a bit of everything, as one stretch of bytes.
fn stream() -> Vec<u8> {
    let mut bytes = b"ready \xe2\x9c\x93\r\n\n".to_vec();
    let mut line = |method: &str, params: Value| {
        bytes.extend(format!("{}\n", json!({"method": method, "params": params})).bytes());
    };
    line("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    line("item/started", json!({"threadId": "T", "turnId": "U", "item": message("m", "", None)}));
    for text in ["Ün", "ï\"\\co", "de 🎉\n"] {
        let (method, params) = delta("T", "U", "m", text);
        line(method, params);
    }
    line("item/completed", json!({"threadId": "T", "turnId": "U", "item": message("m", "Ünï\"\\code 🎉\n", None)}));
    let (method, params) = usage("T", "U", [10, 1, 5, 2], [10, 1, 5, 2]);
    line(method, params);
    line("account/rateLimits/updated", json!({"rateLimits": {}}));
    let (method, params) = completed("T", "U", "completed");
    line(method, params);
    bytes
}

/// What a connection makes of the pieces: the events of the turn and of the connection, and the result.
fn outcome(pieces: &[&[u8]]) -> (Vec<String>, Vec<String>, String) {
    let mut lab = Lab::ready();
    let connection_reader = lab.connection.subscribe(Scope::Connection);
    let (key, reader) = lab.turn("T", "U");
    for piece in pieces {
        lab.say_bytes(piece);
    }
    let result = lab.connection.take_report(key).expect("ended").expect("started").into_result().expect("completed");
    let told = format!("{:?} {:?} {:?}", result.final_response, result.usage, result.duration_ms);
    (lab.read(reader), lab.read(connection_reader), told)
}

#[test]
fn fr_01_wherever_the_bytes_are_cut_the_events_are_the_same() {
    let bytes = stream();
    let whole = outcome(&[&bytes]);
    assert_eq!(whole.0.last().map(String::as_str), Some("finished"));
    assert_eq!(whole.1, ["diagnostic Noise", "account/rateLimits/updated"]);
    for cut in 0..=bytes.len() {
        let (left, right) = bytes.split_at(cut);
        assert_eq!(outcome(&[left, right]), whole, "cut at {cut}");
    }
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(outcome(&single), whole, "byte by byte");
}

#[test]
fn fr_02_what_a_terminal_does_not_show_hides_no_message_at_any_time() {
    let mut lab = Lab::new(Config::default());
    let id = lab.sent_one()["id"].clone();
    lab.say_bytes(
        format!(
            "\u{feff}\u{1b}]0;title\u{7}{}\u{1b}[0m\r\n",
            json!({"id": id, "result": {"userAgent": "a/0.163.0 (b)"}})
        )
        .as_bytes(),
    );
    assert!(lab.connection.is_ready());
    lab.sent();
    let reader = lab.connection.subscribe(Scope::Connection);
    lab.say_bytes(
        b" 10%\r 99%\r{\"method\":\"one\"}\n\x1b[32m{\"method\":\"two\"}\x1b[0m\nlog: {\"method\":\"three\"}\n",
    );
    let seen = lab.read(reader);
    assert_eq!(seen, ["diagnostic Noise", "one", "diagnostic Noise", "two", "diagnostic Noise"]);
    assert_eq!((lab.connection.counters().noise, lab.connection.counters().malformed), (4, 0));
}

#[test]
fn fr_02_a_banner_that_does_not_end_its_line_hides_the_answer_of_the_handshake_from_nobody_else() {
    let mut lab = Lab::new(Config::default());
    let id = lab.sent_one()["id"].clone();
    let answer = json!({"id": id, "result": {"userAgent": "a/0.163.0 (b)"}}).to_string();
    // A log of our own request is no answer, and what is answered is taken once.
    lab.say_bytes(format!("got {}\n", json!({"id": id, "method": "initialize"})).as_bytes());
    assert!(!lab.connection.is_ready());
    lab.say_bytes(format!("Loading {{a, b}} ... {answer}\n{answer}\nsent {answer}\n").as_bytes());
    assert!(lab.connection.is_ready());
    let counters = lab.connection.counters();
    assert_eq!((counters.noise, counters.duplicate, counters.refused), (3, 1, 0), "{counters:?}");
}

#[test]
fn fr_02_banners_blank_lines_and_colours_before_the_first_message_are_counted_and_offered() {
    let mut lab = Lab::new(Config::default());
    let id = lab.sent_one()["id"].clone();
    lab.say_bytes(b"\x1b[32mCodex app-server\x1b[0m\n\n   \nlistening on stdio\r\n");
    lab.say(json!({"id": id, "result": {"userAgent": "a/0.163.0 (b)"}}));
    assert!(lab.connection.is_ready());
    assert_eq!(lab.connection.counters().noise, 2, "blank lines are nothing");
    let heads: Vec<String> = lab.connection.diagnostics().map(|diagnostic| diagnostic.head.to_string()).collect();
    assert_eq!(heads, ["\x1b[32mCodex app-server\x1b[0m", "listening on stdio"]);
}

#[test]
fn fr_04_a_cut_off_line_is_a_diagnostic_and_the_session_goes_on() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Connection);
    let models = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say_bytes(b"{\"method\":\"turn/started\",\"params\":{\"thre\n");
    assert_eq!(lab.read(reader), ["diagnostic Malformed"]);
    lab.say(json!({"id": id, "result": {"data": []}}));
    assert!(lab.connection.take_response(&models).expect("answered").is_ok());
}

#[test]
fn fr_04_in_strict_mode_a_cut_off_line_fails_everybody_who_waits() {
    let mut config = Config::default();
    config.strict = true;
    let mut lab = Lab::ready_with(config);
    let models = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    lab.sent();
    lab.say_bytes(b"{\"id\":2,\"resu\n");
    let error = lab.connection.take_response(&models).expect("has its outcome").expect_err("failed");
    let Fault::Disconnected { cause, .. } = error.fault else { panic!("{error}") };
    assert!(matches!(cause.reason(), DisconnectReason::Protocol(_)));
    assert_eq!(lab.events.last(), Some(&Event::Closed));
}

#[test]
fn fr_05_carriage_returns_are_taken_and_the_last_line_needs_no_end() {
    let mut lab = Lab::ready();
    let first = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let second = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let third = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let ids: Vec<Value> = lab.sent().iter().map(|line| line["id"].clone()).collect();
    lab.say_bytes(format!("{}\r\n", json!({"id": ids[0], "result": {"data": []}})).as_bytes());
    assert!(lab.connection.take_response(&first).expect("answered").is_ok());

    // A message is read with or without it; what is shown of a line tells whether it was taken off.
    lab.say_bytes(b"a log line\r\n");
    let heads: Vec<String> = lab.connection.diagnostics().map(|found| found.head.to_string()).collect();
    assert_eq!(heads, ["a log line"]);

    lab.say_bytes(json!({"id": ids[1], "result": {"data": []}}).to_string().as_bytes());
    lab.connection.handle_eof(lab.now);
    assert!(lab.connection.take_response(&second).expect("complete though without an end").is_ok());
    assert!(lab.connection.take_response(&third).expect("has its outcome").is_err());
}

#[test]
fn fr_05_an_incomplete_last_line_is_reported_as_truncated() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Connection);
    lab.say_bytes(b"{\"id\":2,\"result\":{\"da");
    lab.connection.handle_eof(lab.now);
    let Next::Event(event) = lab.connection.next_event(reader) else { panic!("an event") };
    assert_eq!(describe(&event), "diagnostic Truncated");
    assert_eq!(lab.connection.diagnostics().next().map(|found| found.kind), Some(DiagnosticKind::Truncated));
}

#[test]
fn an_oversized_answer_fails_only_its_own_request() {
    let mut config = Config::default();
    config.limits.max_line = 400;
    let mut lab = Lab::ready_with(config);
    let large = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let small = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let ids: Vec<Value> = lab.sent().iter().map(|line| line["id"].clone()).collect();
    lab.say_bytes(format!("{{\"id\":{},\"result\":{{\"data\":[\"{}\"]}}}}\n", ids[0], "x".repeat(1000)).as_bytes());
    lab.say(json!({"id": ids[1], "result": {"data": []}}));
    let error = lab.connection.take_response(&large).expect("has its outcome").expect_err("too large");
    assert!(matches!(error.fault, Fault::TooLarge { limit: 400, .. }), "{error}");
    assert!(lab.connection.take_response(&small).expect("answered").is_ok());
    assert_eq!(lab.connection.counters().oversized, 1);
}

#[test]
fn fr_10_any_text_is_one_line_and_arrives_as_it_was() {
    let text = "two\nlines \"quoted\" \\ \0 nul \u{2028} 🎉 \r\n end";
    let mut lab = Lab::ready();
    for _ in 0..32 {
        let _ = lab.connection.request_raw(lab.now, "echo", &json!({"text": text})).expect("queued");
    }
    let sent = lab.sent(); // which checks that each line is one JSON value
    assert_eq!(sent.len(), 32);
    assert!(sent.iter().all(|line| line["params"]["text"] == text));
}

#[test]
fn fr_10_json_that_is_spread_over_lines_goes_out_as_one() {
    let mut lab = Lab::ready();
    let pretty = Json::parse("{\n  \"schema\": {\r\n \"text\": \"a\\nb\"\n}\n}").expect("JSON");
    let _ = lab.connection.request_raw(lab.now, "echo", &pretty).expect("queued");
    let params = TurnStart::new("T", [UserInput::text("x")]).output_schema(pretty.clone());
    lab.connection.start_turn(lab.now, &params, &TurnOptions::default()).expect("queued");
    lab.connection.notify("said", &pretty).expect("queued");
    let sent = lab.sent(); // which checks that each line is one JSON value
    assert_eq!(sent.len(), 3);
    assert!(sent.iter().any(|line| line["params"]["schema"]["text"] == "a\nb"), "and means what it meant");
}

#[test]
fn fr_15_version_member_id_types_and_member_order_do_not_matter() {
    let mut lab = Lab::ready();
    let first = lab.connection.request(lab.now, &ModelList::default()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say_bytes(format!("{{\"result\":{{\"data\":[]}},\"jsonrpc\":\"2.0\",\"id\":{id}}}\n").as_bytes());
    assert!(lab.connection.take_response(&first).expect("answered").is_ok());

    // A server request is answered under the very id that it came with.
    for id in ["7", "\"7\"", "-3", "\"\"", "\"a\\\"b\""] {
        lab.say_bytes(format!("{{\"params\":{{}},\"id\":{id},\"method\":\"item/tool/call\"}}\n").as_bytes());
        let mut bytes = Vec::new();
        lab.connection.poll_transmit(lab.now, &mut bytes);
        let text = String::from_utf8(bytes).expect("UTF-8");
        assert!(text.starts_with(&format!("{{\"id\":{id},")), "{text}");
    }
}
