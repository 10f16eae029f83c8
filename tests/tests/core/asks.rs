//! The requests of the server: who is asked, and that each gets one answer.

use crate::lab::{Lab, completed, delta};
use serde_json::{Value, json};
use std::{collections::BTreeMap, time::Duration};
use turnwire_core::{
    connection::{AnswerError, AskEnd, AskKind, Asked, Config, Event, ListenFor, ListenerKey, NextAsk, TimeoutReason},
    error::DisconnectReason,
    json::Json,
    turn::{DiagnosticKind, Next, RawEvent, RefusedWhy, SubscriptionKey, TurnKey},
};

pub(crate) const COMMAND: &str = "item/commandExecution/requestApproval";
pub(crate) const FILES: &str = "item/fileChange/requestApproval";

/// Every request that a server may make, and one that nobody knows.
pub(crate) const METHODS: [&str; 12] = [
    COMMAND,
    FILES,
    "item/permissions/requestApproval",
    "item/tool/requestUserInput",
    "mcpServer/elicitation/request",
    "item/tool/call",
    "account/chatgptAuthTokens/refresh",
    "attestation/generate",
    "currentTime/read",
    "applyPatchApproval",
    "execCommandApproval",
    "brand/new",
];

pub(crate) fn everything() -> ListenFor {
    let mut wants = ListenFor::default();
    wants.kinds = AskKind::ALL.into();
    wants
}

pub(crate) fn ask(lab: &mut Lab, id: Value, method: &str) {
    lab.say(json!({"method": method, "id": id, "params": {"threadId": "T", "turnId": "U", "itemId": "i"}}));
}

pub(crate) fn take(lab: &mut Lab, listener: ListenerKey) -> Asked {
    match lab.connection.next_ask(listener) {
        NextAsk::Asked(asked) => asked,
        other => panic!("a request, not {other:?}"),
    }
}

pub(crate) fn answer(text: &str) -> Result<Json, turnwire_core::error::RpcError> {
    Ok(Json::parse(text).expect("JSON"))
}

pub(crate) fn accept() -> Result<Json, turnwire_core::error::RpcError> {
    answer(r#"{"decision":"accept"}"#)
}

/// Whether an answer grants anything.
fn grants(answer: &Value) -> bool {
    let result = &answer["result"];
    let is_yes = |word: &Value| match word.as_str() {
        Some(word) => !matches!(word, "decline" | "denied" | "cancel" | "abort"),
        None => !word.is_null(),
    };
    let has_members = |value: &Value| value.as_object().is_some_and(|object| !object.is_empty());
    is_yes(&result["decision"])
        || is_yes(&result["action"])
        || has_members(&result["permissions"])
        || has_members(&result["answers"])
        || result["success"] == true
        || !result["token"].is_null()
        || !result["accessToken"].is_null()
}

/// The whole of the answer that refuses a method; the time of day is told.
pub(crate) fn refused(method: &str, id: &Value) -> Value {
    let error = |code: i64, message: &str| json!({"id": id, "error": {"code": code, "message": message}});
    let result = match method {
        COMMAND | FILES => json!({"decision": "decline"}),
        "item/permissions/requestApproval" => json!({"permissions": {}}),
        "item/tool/requestUserInput" => json!({"answers": {}}),
        "mcpServer/elicitation/request" => json!({"action": "decline"}),
        "item/tool/call" => {
            let text = json!({"type": "inputText", "text": "This client does not run tools."});
            json!({"contentItems": [text], "success": false})
        }
        "applyPatchApproval" | "execCommandApproval" => json!({"decision": "denied"}),
        "currentTime/read" => json!({"currentTimeAt": 1_000}),
        "account/chatgptAuthTokens/refresh" => return error(-32603, "this client has no provider of tokens"),
        "attestation/generate" => return error(-32603, "this client does not attest"),
        _ => return error(-32601, "method not found"),
    };
    json!({"id": id, "result": result})
}

#[test]
fn sr_02_with_nobody_who_answers_nothing_is_granted_by_any_method_known_or_not() {
    for method in METHODS {
        let mut lab = Lab::ready();
        lab.turn("T", "U");
        ask(&mut lab, json!(5), method);
        for event in std::mem::take(&mut lab.events) {
            if let Event::TimeWanted(key) = event {
                lab.connection.respond_time(key, 1_000);
            }
        }
        let sent = lab.sent_one();
        assert!(!grants(&sent), "{method}: {sent}");
        assert_eq!(sent, refused(method, &json!(5)), "{method}");
        assert_eq!(lab.connection.counters().asks, 0);
    }
}

#[test]
fn sr_02_whoever_is_asked_and_leaves_in_any_way_has_granted_nothing() {
    for method in METHODS {
        for way in 0..5 {
            let mut lab = Lab::ready();
            lab.turn("T", "U");
            let listener = lab.connection.listen(everything());
            ask(&mut lab, json!("x"), method);
            match way {
                0 => lab.connection.unlisten(listener),
                1 => {
                    let asked = take(&mut lab, listener);
                    lab.connection.release_ask(asked.key);
                }
                2 => {
                    let asked = take(&mut lab, listener);
                    lab.connection.fail_ask(asked.key, &asked.request.method);
                    lab.connection.release_ask(asked.key);
                }
                3 => {
                    let asked = take(&mut lab, listener);
                    lab.connection.refuse(asked.key);
                    lab.connection.refuse(asked.key);
                    lab.connection.release_ask(asked.key);
                }
                _ => lab.pass(Duration::from_secs(48 * 3600)),
            }
            lab.collect();
            for event in std::mem::take(&mut lab.events) {
                if let Event::TimeWanted(key) = event {
                    lab.connection.respond_time(key, 1_000);
                }
            }
            let sent = lab.sent_one();
            assert_eq!(sent["id"], "x");
            assert!(!grants(&sent), "{method}, {way}: {sent}");
            assert_eq!(lab.connection.counters().asks, 0, "{method}, {way}");
        }
    }
}

#[test]
fn sr_01_an_answer_is_written_once_under_the_id_as_it_came() {
    for id in [json!(7), json!("7"), json!(0)] {
        let mut lab = Lab::ready();
        let (_, reader) = lab.turn("T", "U");
        let listener = lab.connection.listen(everything());
        ask(&mut lab, id.clone(), COMMAND);
        assert!(lab.events.contains(&Event::Asked(listener)));
        assert!(lab.sent().is_empty(), "it waits");
        let asked = take(&mut lab, listener);
        assert_eq!((asked.kind, asked.item.as_ref().map(|item| item.as_str())), (AskKind::Command, Some("i")));
        assert_eq!(asked.request.turn.as_ref().map(|turn| turn.as_str()), Some("U"));
        lab.connection.respond(asked.key, accept()).expect("open");
        assert_eq!(lab.sent(), [json!({"id": id, "result": {"decision": "accept"}})]);
        let again = lab.connection.respond(asked.key, accept());
        assert!(matches!(again, Err(AnswerError::AlreadyAnswered)), "{again:?}");
        assert!(matches!(lab.connection.ask_end(asked.key), Some(AskEnd::Answered(word)) if &**word == "accept"));
        lab.connection.release_ask(asked.key);
        assert!(lab.sent().is_empty());
        let seen = lab.read(reader);
        assert_eq!(seen.len(), 2, "asked and answered: {seen:?}");
        assert_eq!(lab.connection.counters().asks, 0);
    }
}

#[test]
fn sr_01_the_integer_7_and_the_text_7_are_two_requests() {
    let mut lab = Lab::ready();
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(7), COMMAND);
    ask(&mut lab, json!("7"), COMMAND);
    let (number, text) = (take(&mut lab, listener), take(&mut lab, listener));
    lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": "7"}));
    assert!(lab.connection.is_ask_open(number.key) && !lab.connection.is_ask_open(text.key));
    lab.connection.respond(number.key, accept()).expect("open");
    assert_eq!(lab.sent_one()["id"], 7);
}

#[test]
fn sr_03_while_a_request_waits_for_a_minute_all_else_goes_on_and_the_late_answer_counts() {
    let mut lab = Lab::ready();
    let (_, waiting) = lab.turn("T", "U");
    let (_, other) = lab.turn("T2", "U2");
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(1), COMMAND);
    let slow = take(&mut lab, listener);
    lab.read(waiting);
    for (thread, turn, reader) in [("T", "U", waiting), ("T2", "U2", other)] {
        let (method, params) = delta(thread, turn, "m", "on it goes");
        lab.notify(method, params);
        assert_eq!(lab.read(reader), ["delta m on it goes"]);
    }
    lab.say(json!({"method": FILES, "id": 2, "params": {"threadId": "T2", "turnId": "U2", "itemId": "j"}}));
    let quick = take(&mut lab, listener);
    lab.connection.respond(quick.key, accept()).expect("open");
    assert_eq!(lab.sent_one()["id"], 2);
    lab.pass(Duration::from_secs(60));
    lab.connection.respond(slow.key, accept()).expect("still open");
    assert_eq!(lab.sent_one(), json!({"id": 1, "result": {"decision": "accept"}}));
}

/// Why requests were refused, as a reader hears it.
fn why_refused(lab: &mut Lab, reader: SubscriptionKey) -> Vec<RefusedWhy> {
    let mut seen = Vec::new();
    while let Next::Event(event) = lab.connection.next_event(reader) {
        if let RawEvent::Refused(refused) = event {
            seen.push(refused.why);
        }
    }
    seen
}

#[test]
fn what_nobody_takes_up_is_refused_soon_and_what_was_taken_up_has_its_time() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(1), COMMAND);
    let slow = take(&mut lab, listener);
    ask(&mut lab, json!(2), FILES);
    lab.pass(Duration::from_secs(29));
    assert!(lab.sent().is_empty());
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.sent(), [refused(FILES, &json!(2))], "nobody runs the handlers");
    assert!(matches!(lab.connection.next_ask(listener), NextAsk::Pending), "it is not there any more");
    assert_eq!(why_refused(&mut lab, reader), [RefusedWhy::NotTaken]);
    lab.pass(Duration::from_secs(24 * 3600 - 31));
    assert!(lab.connection.is_ask_open(slow.key));
    lab.pass(Duration::from_secs(1));
    assert!(matches!(lab.connection.ask_end(slow.key), Some(AskEnd::Refused(RefusedWhy::Deadline))));
    assert_eq!(lab.sent(), [refused(COMMAND, &json!(1))]);
    // A time of its own that is shorter is the one that counts.
    let mut wants = everything();
    wants.deadlines.insert(AskKind::Command, Duration::from_secs(5));
    let hasty = lab.connection.listen(wants);
    ask(&mut lab, json!(3), COMMAND);
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.sent(), [refused(COMMAND, &json!(3))]);
    assert_eq!(why_refused(&mut lab, reader), [RefusedWhy::Deadline, RefusedWhy::Deadline]);
    lab.connection.unlisten(hasty);
    lab.connection.release_ask(slow.key);
    assert_eq!(lab.connection.counters().asks, 0);
}

#[test]
fn sr_13_a_replay_under_the_same_id_is_the_same_request() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(3), COMMAND);
    ask(&mut lab, json!(3), COMMAND);
    let asked = take(&mut lab, listener);
    ask(&mut lab, json!(3), COMMAND);
    assert!(matches!(lab.connection.next_ask(listener), NextAsk::Pending), "it is not offered twice");
    assert_eq!(lab.read(reader).len(), 1, "nor shown");
    lab.connection.respond(asked.key, accept()).expect("open");
    lab.connection.release_ask(asked.key);
    // One that was on its way when the answer was written.
    ask(&mut lab, json!(3), COMMAND);
    assert!(matches!(lab.connection.next_ask(listener), NextAsk::Pending));
    assert_eq!(lab.sent().len(), 1, "one answer");
    assert_eq!(lab.connection.counters().replayed, 3);
    // Another method under that id is another request.
    ask(&mut lab, json!(3), FILES);
    assert_eq!(take(&mut lab, listener).kind, AskKind::FileChange);
}

#[test]
fn sr_14_what_the_server_has_settled_is_closed_and_a_late_answer_writes_nothing() {
    type Closing = fn(&mut Lab);
    type IsRight = fn(&AskEnd) -> bool;
    let closings: [(Closing, IsRight); 5] = [
        (
            |lab| lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 1})),
            |end| matches!(end, AskEnd::Resolved),
        ),
        (
            |lab| {
                // As after an interrupt: the end of the turn first.
                let (method, params) = completed("T", "U", "interrupted");
                lab.notify(method, params);
                lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 1}));
            },
            |end| matches!(end, AskEnd::TurnEnded),
        ),
        (|lab| lab.notify("thread/closed", json!({"threadId": "T"})), |end| matches!(end, AskEnd::ThreadClosed)),
        (
            |lab| lab.connection.handle_disconnect(lab.now, DisconnectReason::DriverDropped),
            |end| matches!(end, AskEnd::Disconnected(_)),
        ),
        (|lab| lab.pass(Duration::from_secs(25 * 3600)), |end| matches!(end, AskEnd::Refused(RefusedWhy::Deadline))),
    ];
    for (number, (close, is_right)) in closings.into_iter().enumerate() {
        for is_taken in [true, false] {
            let mut lab = Lab::ready();
            lab.turn("T", "U");
            let listener = lab.connection.listen(everything());
            ask(&mut lab, json!(1), COMMAND);
            let asked = is_taken.then(|| take(&mut lab, listener));
            close(&mut lab);
            lab.collect();
            let written = lab.sent();
            assert_eq!(written.len(), usize::from(number == 4), "only a deadline writes, the refusal: {written:?}");
            if let Some(asked) = asked {
                assert!(!lab.connection.is_ask_open(asked.key));
                assert!(lab.connection.ask_end(asked.key).is_some_and(is_right), "{number}");
                assert!(lab.events.contains(&Event::AskEnded(asked.key)));
                let late = lab.connection.respond(asked.key, accept());
                assert!(matches!(&late, Err(AnswerError::Closed(end)) if is_right(end)), "{number}: {late:?}");
                lab.connection.release_ask(asked.key);
            } else {
                assert!(!matches!(lab.connection.next_ask(listener), NextAsk::Asked(_)), "it is not offered any more");
            }
            assert!(lab.sent().is_empty(), "a late answer writes nothing");
            assert_eq!(lab.connection.counters().asks, 0, "{number}");
            let left = lab.connection.poll_timeout();
            assert!(left.is_none_or(|timeout| timeout.reason != TimeoutReason::Ask), "no timer is left");
        }
    }
}

#[test]
fn sr_14_another_turn_or_thread_closes_nothing_here() {
    let mut lab = Lab::ready();
    lab.turn("T", "U");
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(1), COMMAND);
    let asked = take(&mut lab, listener);
    for (thread, turn) in [("T", "other"), ("T2", "U")] {
        let (method, params) = completed(thread, turn, "completed");
        lab.notify(method, params);
    }
    lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 2}));
    lab.notify("serverRequest/resolved", json!({"threadId": "T2", "requestId": 1}));
    lab.notify("thread/closed", json!({"threadId": "T2"}));
    assert!(lab.connection.is_ask_open(asked.key));
}

#[test]
fn sr_17_an_answer_after_the_end_of_the_connection_is_an_error_that_says_so() {
    let mut lab = Lab::ready();
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(1), "item/tool/call");
    let asked = take(&mut lab, listener);
    lab.connection.handle_eof(lab.now);
    let late = lab.connection.respond(asked.key, answer("{}")).expect_err("closed");
    assert!(late.is_closed(), "{late}");
    assert!(lab.sent().is_empty());
    assert!(matches!(lab.connection.next_ask(listener), NextAsk::Finished));
    // What comes in the last words of a server that is gone is nobody's.
    assert_eq!(lab.connection.counters().refused, 0);
}

#[test]
fn a_request_that_comes_before_its_turn_is_named_reaches_the_stream_that_takes_it() {
    let mut lab = Lab::ready();
    let (turn, reader, id) = lab.start_turn("T");
    lab.connection.ask_reader(turn, reader, true);
    ask(&mut lab, json!(1), COMMAND);
    lab.say(json!({"method": COMMAND, "id": 2, "params": {"threadId": "T", "turnId": "another", "itemId": "i"}}));
    assert!(lab.sent().is_empty(), "both wait for the name");
    lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
    // That of a turn which nobody here has is refused now.
    assert_eq!(lab.sent(), [json!({"id": 2, "result": {"decision": "decline"}})]);
    let turnwire_core::turn::Next::Event(turnwire_core::turn::RawEvent::Asked(asked)) =
        lab.connection.next_event(reader)
    else {
        panic!("the request is in the stream")
    };
    let claimed = lab.connection.claim_ask(asked.key, reader).expect("it is this reader's");
    assert!(lab.connection.claim_ask(asked.key, reader).is_none(), "once");
    lab.connection.respond(claimed.key, accept()).expect("open");
    assert_eq!(lab.sent_one()["id"], 1);
}

#[test]
fn what_a_stream_was_offered_and_did_not_take_is_refused_when_it_is_left() {
    for is_named in [true, false] {
        let mut lab = Lab::ready();
        let (turn, reader, id) = lab.start_turn("T");
        lab.connection.ask_reader(turn, reader, true);
        if is_named {
            lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
        }
        ask(&mut lab, json!(1), COMMAND);
        lab.connection.unsubscribe(reader);
        lab.connection.release_turn(turn);
        if !is_named {
            lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
        }
        assert_eq!(lab.sent_one(), json!({"id": 1, "result": {"decision": "decline"}}), "{is_named}");
        assert_eq!(lab.connection.counters().asks, 0);
    }
}

/// What a sub-agent of `T` asks, as the reader of that thread's turn finds it.
fn asked_below(lab: &mut Lab, turn: TurnKey, reader: SubscriptionKey) -> Box<Asked> {
    lab.connection.ask_reader(turn, reader, true);
    lab.notify("thread/started", json!({"thread": {"id": "child", "parentThreadId": "T"}}));
    lab.say(json!({"method": COMMAND, "id": 1, "params": {"threadId": "child", "turnId": "C", "itemId": "i"}}));
    match lab.connection.next_event(reader) {
        Next::Event(RawEvent::Asked(asked)) => asked,
        other => panic!("the request is not in the stream: {other:?}"),
    }
}

#[test]
fn a_sub_agents_request_reaches_the_stream_of_the_turn_above_it() {
    let mut lab = Lab::ready();
    let (turn, reader) = lab.turn("T", "U");
    let asked = asked_below(&mut lab, turn, reader);
    assert_eq!(asked.parent.as_ref().map(|parent| parent.as_str()), Some("T"));
    lab.connection.claim_ask(asked.key, reader).expect("this reader's");
    let (method, params) = completed("child", "C", "completed");
    lab.notify(method, params);
    assert!(!lab.connection.is_ask_open(asked.key), "the child's turn ended");
}

#[test]
fn the_changes_of_a_file_change_come_with_its_request_and_are_forgotten_with_the_item() {
    let mut lab = Lab::ready();
    lab.turn("T", "U");
    let listener = lab.connection.listen(everything());
    let changes = json!([{"path": "/w/a.txt", "kind": {"type": "add"}, "diff": "x\n"}]);
    let item = json!({"type": "fileChange", "id": "i", "changes": changes, "status": "inProgress"});
    lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": item}));
    ask(&mut lab, json!(1), FILES);
    let asked = take(&mut lab, listener);
    let known: Value = asked.changes.expect("known").decode().expect("JSON");
    assert_eq!(known, changes);
    lab.notify("item/completed", json!({"threadId": "T", "turnId": "U", "item": item}));
    ask(&mut lab, json!(2), FILES);
    assert!(take(&mut lab, listener).changes.is_none());
}

#[test]
fn too_many_open_requests_are_refused_and_counted() {
    let mut config = Config::default();
    config.limits.max_asks = 3;
    let mut lab = Lab::ready_with(config);
    let listener = lab.connection.listen(everything());
    for id in 0..5 {
        ask(&mut lab, json!(id), COMMAND);
    }
    assert_eq!(lab.sent().len(), 2);
    let counters = lab.connection.counters();
    assert_eq!((counters.asks, counters.refused), (3, 2));
    lab.connection.unlisten(listener);
    assert_eq!(lab.sent().len(), 3);
}

#[test]
fn a_handler_that_fails_has_its_request_refused_once_and_is_a_diagnostic() {
    let mut lab = Lab::ready();
    let listener = lab.connection.listen(everything());
    ask(&mut lab, json!(1), "item/tool/call");
    let asked = take(&mut lab, listener);
    lab.connection.fail_ask(asked.key, &asked.request.method);
    lab.connection.release_ask(asked.key);
    assert_eq!(lab.sent_one()["result"]["success"], false);
    assert_eq!(lab.connection.counters().handlers_failed, 1);
    let kinds: Vec<DiagnosticKind> = lab.connection.diagnostics().map(|diagnostic| diagnostic.kind).collect();
    assert_eq!(kinds, [DiagnosticKind::HandlerFailed]);
}

#[test]
fn sr_19_a_kind_has_its_own_time_and_then_the_default_is_written() {
    let mut lab = Lab::ready();
    let listener = lab.connection.listen(everything());
    lab.say(json!({"method": "account/chatgptAuthTokens/refresh", "id": 0, "params": {"reason": "unauthorized"}}));
    lab.say(json!({"method": "attestation/generate", "id": 1, "params": {}}));
    let (refresh, attestation) = (take(&mut lab, listener), take(&mut lab, listener));
    assert!(lab.jump(), "there is a deadline");
    assert_eq!(lab.sent_one()["id"], 1, "attestations first");
    assert!(!lab.connection.is_ask_open(attestation.key) && lab.connection.is_ask_open(refresh.key));
    assert!(lab.jump());
    let sent = lab.sent_one();
    assert_eq!((&sent["id"], &sent["error"]["code"]), (&json!(0), &json!(-32603)));
    assert!(lab.now <= turnwire_core::time::Time::ZERO + Duration::from_secs(10), "before the server gives up");

    // And the listener's own.
    let mut wants = everything();
    wants.deadlines.insert(AskKind::Command, Duration::from_secs(5));
    let listener = lab.connection.listen(wants);
    ask(&mut lab, json!(2), COMMAND);
    take(&mut lab, listener);
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.sent_one(), json!({"id": 2, "result": {"decision": "decline"}}));
}

#[test]
fn sr_20_the_time_is_told_where_nobody_wants_to_and_attestation_is_refused_cleanly() {
    let mut lab = Lab::ready();
    let mut wants = ListenFor::default();
    wants.kinds.insert(AskKind::Command);
    lab.connection.listen(wants);
    lab.say(json!({"method": "currentTime/read", "id": 0, "params": {"threadId": "T"}}));
    let wanted = lab.events.iter().find_map(|event| match event {
        Event::TimeWanted(key) => Some(*key),
        _ => None,
    });
    lab.connection.respond_time(wanted.expect("asked for"), 1_234);
    assert_eq!(lab.sent_one(), json!({"id": 0, "result": {"currentTimeAt": 1234}}));
    lab.say(json!({"method": "attestation/generate", "id": 1, "params": {}}));
    assert_eq!(lab.sent_one()["error"]["code"], -32603);

    // The capability is off unless somebody has a handler.
    for wanted in [false, true] {
        let mut config = Config::default();
        config.request_attestation = wanted;
        let mut lab = Lab::new(config);
        let capabilities = &lab.sent()[0]["params"]["capabilities"];
        assert_eq!(capabilities["requestAttestation"] == true, wanted);
    }
}

#[test]
fn the_latest_listener_for_a_kind_is_asked() {
    let mut lab = Lab::ready();
    let first = lab.connection.listen(everything());
    let mut wants = ListenFor::default();
    wants.kinds.insert(AskKind::Command);
    let second = lab.connection.listen(wants);
    ask(&mut lab, json!(1), COMMAND);
    ask(&mut lab, json!(2), FILES);
    assert_eq!(take(&mut lab, second).kind, AskKind::Command);
    assert_eq!(take(&mut lab, first).kind, AskKind::FileChange);
    lab.connection.unlisten(second);
    ask(&mut lab, json!(3), COMMAND);
    assert_eq!(take(&mut lab, first).kind, AskKind::Command);
}

/// A request gets exactly one answer, or none if it was closed first, whatever is done in whatever order.
#[test]
fn each_request_gets_at_most_one_answer_and_exactly_one_unless_the_server_closed_it() {
    for seed in 0..300_u64 {
        let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut roll = |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let mut lab = Lab::ready();
        let (turn, reader, start) = lab.start_turn("T");
        lab.connection.ask_reader(turn, reader, roll(2) == 0);
        let (mut listener, mut named, mut held) = (None, false, Vec::new());
        let (mut asked, mut closed) = (0_u64, BTreeMap::new());
        for _ in 0..24 {
            match roll(10) {
                0 | 1 => {
                    let method = METHODS[roll(6) as usize];
                    ask(&mut lab, json!(asked), method);
                    asked += 1;
                }
                2 if asked > 0 => {
                    // Again.
                    let id = roll(asked);
                    lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": id}));
                    closed.insert(id, ());
                }
                3 if !named => {
                    named = true;
                    lab.say(json!({"id": start, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
                }
                4 => listener = Some(lab.connection.listen(everything())),
                5 => listener.take().into_iter().for_each(|key| lab.connection.unlisten(key)),
                6 | 7 => {
                    if let Some(NextAsk::Asked(asked)) = listener.map(|key| lab.connection.next_ask(key)) {
                        held.push(asked.key);
                    }
                    if let turnwire_core::turn::Next::Event(turnwire_core::turn::RawEvent::Asked(asked)) =
                        lab.connection.next_event(reader)
                    {
                        held.extend(lab.connection.claim_ask(asked.key, reader).map(|asked| asked.key));
                    }
                }
                8 => {
                    if let Some(key) = held.last() {
                        let _ = lab.connection.respond(*key, accept());
                    }
                }
                _ => held.pop().into_iter().for_each(|key| lab.connection.release_ask(key)),
            }
        }
        lab.connection.unsubscribe(reader);
        lab.connection.release_turn(turn);
        held.into_iter().for_each(|key| lab.connection.release_ask(key));
        lab.pass(Duration::from_secs(30 * 3600));
        let mut answers: BTreeMap<u64, usize> = BTreeMap::new();
        for line in lab.sent() {
            if let (true, Some(id)) = (line.get("method").is_none(), line["id"].as_u64()) {
                *answers.entry(id).or_default() += 1;
            }
        }
        for id in 0..asked {
            let count = answers.get(&id).copied().unwrap_or(0);
            assert!(count <= 1, "seed {seed}: {count} answers to {id}");
            assert!(count == 1 || closed.contains_key(&id), "seed {seed}: no answer to {id}");
        }
        assert_eq!(lab.connection.counters().asks, 0, "seed {seed}");
    }
}

#[test]
fn what_no_person_decides_and_what_nobody_knows_is_not_offered_to_the_stream_of_a_turn() {
    for method in ["attestation/generate", "currentTime/read", "account/chatgptAuthTokens/refresh", "brand/new"] {
        let mut lab = Lab::ready();
        let (turn, reader) = lab.turn("T", "U");
        lab.connection.ask_reader(turn, reader, true);
        ask(&mut lab, json!(1), method);
        assert_eq!(lab.connection.counters().asks, 0, "{method}");
        if method == "currentTime/read" {
            assert!(lab.events.iter().any(|event| matches!(event, Event::TimeWanted(_))));
        } else {
            assert_eq!(lab.sent_one(), refused(method, &json!(1)));
        }
    }
}

#[test]
fn a_sub_agents_request_reaches_the_stream_above_it_though_that_turn_is_not_named_yet() {
    let mut lab = Lab::ready();
    let (turn, reader, _) = lab.start_turn("T");
    let asked = asked_below(&mut lab, turn, reader);
    lab.connection.claim_ask(asked.key, reader).expect("this reader's");
}
