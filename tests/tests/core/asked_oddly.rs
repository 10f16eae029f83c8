//! Requests of the server as no server should make them: twice, under odd ids, with odd params, at odd times, in crowds.

use crate::{
    asks::{COMMAND, FILES, METHODS, accept, answer, ask, everything, refused, take},
    lab::{Lab, completed},
};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{AskEnd, AskKind, Config, Event, ListenFor, NextAsk},
    turn::{Next, RawEvent, RefusedWhy},
};

/// Tells the time to whoever has asked for it, and returns what was written, as it was written.
fn written(lab: &mut Lab) -> Vec<String> {
    for event in std::mem::take(&mut lab.events) {
        if let Event::TimeWanted(key) = event {
            lab.connection.respond_time(key, 1_000);
        }
    }
    let mut bytes = Vec::new();
    while lab.connection.poll_transmit(lab.now, &mut bytes) {}
    String::from_utf8(bytes).expect("UTF-8").lines().map(str::to_owned).collect()
}

const PARAMS: [&str; 12] = [
    r#"{"threadId":"T","turnId":"U","itemId":"i"}"#,
    r#"{"threadId":"T","turnId":"another","itemId":"i"}"#,
    r#"{"threadId":"nobody's","turnId":"U","itemId":"i"}"#,
    r#"{"threadId":"T"}"#,
    r#"{"threadId":7,"turnId":[],"itemId":{},"callId":null,"approvalId":false}"#,
    r#"{"conversationId":"T","callId":"c"}"#,
    r#"{"threadId":null,"turnId":null}"#,
    r#"{"threadId":"","turnId":"","itemId":""}"#,
    "{}",
    "[1]",
    r#""text""#,
    "null",
];

#[test]
fn sr_02_whatever_a_request_holds_it_is_refused_once_in_its_shape_under_its_id_as_written() {
    let ids = [
        "0",
        "-5",
        "9223372036854775807",
        "123456789012345678901234567890",
        "1.5",
        "-0",
        "1e3",
        "\"\"",
        "\"7\"",
        r#""\u0000 \"é""#,
        "true",
        "[1]",
    ];
    for method in METHODS {
        for id in ids {
            for params in PARAMS {
                for is_listened in [false, true] {
                    let mut lab = Lab::ready();
                    let (_, reader) = lab.turn("T", "U");
                    let listener = is_listened.then(|| lab.connection.listen(everything()));
                    lab.say_bytes(format!("{{\"method\":\"{method}\",\"id\":{id},\"params\":{params}}}\n").as_bytes());
                    if let Some(listener) = listener {
                        let asked = take(&mut lab, listener);
                        assert!(written(&mut lab).is_empty(), "it waits");
                        lab.connection.release_ask(asked.key);
                        lab.collect();
                    }
                    let lines = written(&mut lab);
                    assert_eq!(lines.len(), 1, "{method} {id} {params}: {lines:?}");
                    let given = lines[0].get(..6 + id.len()).expect("an id");
                    let is_given_back = match id {
                        // The same text, which JSON can write in several ways.
                        r#""\u0000 \"é""# => true,
                        _ => given == format!("{{\"id\":{id}"),
                    };
                    assert!(is_given_back, "{method} {id} {params}: {lines:?}");
                    let mut sent: Value = serde_json::from_str(&lines[0]).expect("JSON");
                    sent["id"] = json!(0);
                    assert_eq!(sent, refused(method, &json!(0)), "{method} {id} {params}");
                    assert_eq!(lab.connection.counters().asks, 0);
                    lab.read(reader);
                }
            }
        }
    }
}

#[test]
fn sr_13_a_replay_of_what_was_refused_at_once_is_not_refused_again() {
    for method in METHODS {
        let mut lab = Lab::ready();
        let (_, reader) = lab.turn("T", "U");
        ask(&mut lab, json!(3), method);
        assert_eq!(written(&mut lab).len(), 1, "{method}");
        let shown = lab.read(reader).len();
        ask(&mut lab, json!(3), method);
        if method == "currentTime/read" || method == "attestation/generate" || method.contains("refresh") {
            // No server says of these that they are resolved, or sends them again: the id means another request.
            assert_eq!(written(&mut lab).len(), 1, "{method}");
            continue;
        }
        assert!(written(&mut lab).is_empty(), "{method}");
        assert!(lab.read(reader).is_empty(), "{method} is shown once");
        assert_eq!((shown, lab.connection.counters().replayed), (1, 1), "{method}");
        // Once it is resolved, the id is free.
        lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 3}));
        ask(&mut lab, json!(3), method);
        assert_eq!(written(&mut lab).len(), 1, "{method}");
    }
}

#[test]
fn sr_13_under_the_same_id_another_item_part_or_call_is_another_request() {
    let about = [
        (COMMAND, "itemId", json!({"threadId": "T", "turnId": "U", "itemId": "i"})),
        (COMMAND, "approvalId", json!({"threadId": "T", "turnId": "U", "itemId": "i", "approvalId": "a"})),
        (FILES, "itemId", json!({"threadId": "T", "turnId": "U", "itemId": "i"})),
        ("item/tool/call", "callId", json!({"threadId": "T", "turnId": "U", "callId": "c"})),
        ("execCommandApproval", "callId", json!({"conversationId": "T", "callId": "c"})),
        (
            "mcpServer/elicitation/request",
            "elicitationId",
            json!({"threadId": "T", "turnId": "U", "elicitationId": "e"}),
        ),
    ];
    for (method, member, params) in about {
        for is_answered in [false, true] {
            let mut lab = Lab::ready();
            let listener = lab.connection.listen(everything());
            let mut other = params.clone();
            other[member] = json!("another");
            lab.say(json!({"method": method, "id": 1, "params": params}));
            let first = take(&mut lab, listener);
            if is_answered {
                lab.connection.respond(first.key, answer("{}")).expect("open");
                lab.sent_one();
            }
            lab.say(json!({"method": method, "id": 1, "params": params}));
            assert!(matches!(lab.connection.next_ask(listener), NextAsk::Pending), "{method}: the same");
            lab.say(json!({"method": method, "id": 1, "params": other}));
            let second = take(&mut lab, listener);
            assert_ne!(first.key, second.key);
            if !is_answered {
                let end = lab.connection.ask_end(first.key);
                assert!(
                    matches!(end, Some(AskEnd::Resolved)),
                    "{method}, {member}: the id is used for another: {end:?}"
                );
            }
            lab.connection.respond(second.key, answer("{}")).expect("open");
            assert_eq!(lab.sent_one()["id"], 1);
        }
    }
    // What names no thread is never sent again: under the id of one that was answered comes another.
    let mut lab = Lab::ready();
    let listener = lab.connection.listen(everything());
    for _ in 0..3 {
        lab.say(json!({"method": "account/chatgptAuthTokens/refresh", "id": 1, "params": {"reason": "unauthorized"}}));
        let asked = take(&mut lab, listener);
        lab.connection.respond(asked.key, answer("{}")).expect("open");
        assert_eq!(lab.sent_one()["id"], 1);
    }
}

#[test]
fn sr_01_a_call_names_its_item() {
    let mut lab = Lab::ready();
    let listener = lab.connection.listen(everything());
    for (id, method) in ["item/tool/call", "execCommandApproval", "applyPatchApproval"].into_iter().enumerate() {
        lab.say(json!({"method": method, "id": id, "params": {"threadId": "T", "turnId": "U", "callId": "c"}}));
        assert_eq!(take(&mut lab, listener).item.expect("an item").as_str(), "c", "{method}");
    }
}

#[test]
fn sr_02_who_wants_a_kind_refused_is_heard_over_those_before_and_not_over_those_after() {
    let mut refuses = ListenFor::default();
    refuses.refused.insert(AskKind::Command);
    let mut streams = ListenFor::default();
    streams.in_stream = true;
    let mut lab = Lab::ready();
    let (turn, reader) = lab.turn("T", "U");
    lab.connection.ask_reader(turn, reader, false);
    let before = lab.connection.listen(everything());
    lab.connection.listen(streams);
    let no = lab.connection.listen(refuses);
    ask(&mut lab, json!(1), COMMAND);
    assert_eq!(lab.sent_one(), refused(COMMAND, &json!(1)));
    assert_eq!(lab.read(reader), ["refused item/commandExecution/requestApproval"], "and the turn hears of it");
    // Of other kinds it has said nothing.
    ask(&mut lab, json!(2), FILES);
    assert!(matches!(lab.connection.next_event(reader), Next::Event(RawEvent::Asked(_))));
    let after = lab.connection.listen({
        let mut wants = ListenFor::default();
        wants.kinds.insert(AskKind::Command);
        wants
    });
    lab.say(json!({"method": COMMAND, "id": 3, "params": {"threadId": "T2", "turnId": "U2", "itemId": "i"}}));
    take(&mut lab, after);
    lab.connection.unlisten(after);
    lab.connection.unlisten(no);
    lab.say(json!({"method": COMMAND, "id": 4, "params": {"threadId": "T2", "turnId": "U2", "itemId": "i"}}));
    take(&mut lab, before);
}

#[test]
fn sr_14_resolved_before_anybody_looked_after_the_turn_and_of_what_never_was() {
    let mut lab = Lab::ready();
    lab.turn("T", "U");
    let listener = lab.connection.listen(everything());
    for id in [json!(9), json!("x"), json!(null), json!({}), json!(1.5)] {
        lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": id}));
    }
    lab.notify("serverRequest/resolved", json!({"threadId": "T"}));
    lab.notify("serverRequest/resolved", json!([]));
    ask(&mut lab, json!(1), COMMAND);
    lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 1}));
    assert!(matches!(lab.connection.next_ask(listener), NextAsk::Pending), "nobody is bothered with it");
    let (method, params) = completed("T", "U", "completed");
    lab.notify(method, params);
    // A server that asks for a turn that is over is asked back for nothing less.
    ask(&mut lab, json!(2), COMMAND);
    let late = take(&mut lab, listener);
    lab.connection.respond(late.key, accept()).expect("open");
    assert_eq!(lab.sent_one()["id"], 2);
    lab.connection.release_ask(late.key);
    assert_eq!(lab.connection.counters().asks, 0);
}

#[test]
fn sr_01_ten_thousand_requests_at_once_get_one_answer_each() {
    for is_answered in [true, false] {
        let mut lab = Lab::ready();
        lab.turn("T", "U");
        let listener = lab.connection.listen(everything());
        let max = Config::default().limits.max_asks;
        let mut lines = Vec::new();
        for id in 0..10_000 {
            let params = json!({"threadId": "T", "turnId": "U", "itemId": format!("i{id}")});
            lines.extend(format!("{}\n", json!({"method": COMMAND, "id": id, "params": params})).into_bytes());
        }
        lab.say_bytes(&lines);
        assert_eq!(lab.connection.counters().asks, max);
        let mut open = Vec::new();
        while let NextAsk::Asked(asked) = lab.connection.next_ask(listener) {
            open.push(asked.key);
        }
        assert_eq!(open.len(), max);
        if is_answered {
            for key in open {
                lab.connection.respond(key, accept()).expect("open");
                lab.connection.release_ask(key);
            }
        } else {
            lab.pass(Duration::from_secs(25 * 3600));
            for key in open {
                let end = lab.connection.ask_end(key);
                assert!(matches!(end, Some(AskEnd::Refused(RefusedWhy::Deadline))), "{end:?}");
                lab.connection.release_ask(key);
            }
        }
        let mut ids: Vec<i64> = lab.sent().iter().map(|line| line["id"].as_i64().expect("an id")).collect();
        ids.sort_unstable();
        assert!(ids.iter().copied().eq(0..10_000), "{} answers", ids.len());
        let counters = lab.connection.counters();
        assert_eq!((counters.asks, counters.refused), (0, if is_answered { 10_000 - max as u64 } else { 10_000 }));
    }
}
