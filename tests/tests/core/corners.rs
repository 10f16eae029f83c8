//! What mutants of the core showed that nobody looked at.

use crate::lab::{Lab, completed};
use serde_json::json;
use turnwire_core::{
    connection::Scope,
    error::TurnError,
    frame::Framer,
    turn::{DeltaKind, Next, RawEvent},
};

#[test]
fn each_kind_of_delta_is_known_by_its_method_and_told_with_its_text() {
    let kinds = [
        (DeltaKind::AgentMessage, "item/agentMessage/delta"),
        (DeltaKind::CommandOutput, "item/commandExecution/outputDelta"),
        (DeltaKind::FileChangeOutput, "item/fileChange/outputDelta"),
        (DeltaKind::Plan, "item/plan/delta"),
        (DeltaKind::Reasoning, "item/reasoning/textDelta"),
        (DeltaKind::ReasoningSummary, "item/reasoning/summaryTextDelta"),
    ];
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    for (kind, method) in kinds {
        assert_eq!((kind.method(), DeltaKind::of_method(method)), (method, Some(kind)));
        lab.notify(method, json!({"threadId": "T", "turnId": "U", "itemId": "i", "delta": method}));
        match lab.connection.next_event(reader) {
            Next::Event(RawEvent::Delta(delta)) => assert_eq!((delta.kind, &*delta.text), (kind, method)),
            other => panic!("{method}: {other:?}"),
        }
    }
}

#[test]
fn a_notification_gives_its_params_as_they_came_and_null_where_there_are_none() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Connection);
    lab.say_bytes(b"{\"method\":\"a/b\",\"params\":{\"x\": 1.50}}\n{\"method\":\"c/d\"}\n");
    for expected in ["{\"x\": 1.50}", "null"] {
        match lab.connection.next_event(reader) {
            Next::Event(RawEvent::Notification(notification)) => {
                assert_eq!(notification.params_json().as_str(), expected);
            }
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn every_byte_that_comes_is_counted() {
    let mut lab = Lab::ready();
    let before = lab.connection.counters();
    let line = b"{\"method\":\"a/b\"}\n";
    for piece in line.chunks(5) {
        lab.say_bytes(piece);
    }
    let after = lab.connection.counters();
    assert_eq!((after.bytes - before.bytes, after.lines - before.lines), (line.len() as u64, 1));
}

#[test]
fn a_request_about_another_turn_is_not_told_to_the_turn_of_its_thread() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    for (id, turn) in [(7, "V"), (8, "U")] {
        lab.say(json!({"id": id, "method": "attestation/generate", "params": {"threadId": "T", "turnId": turn}}));
    }
    let mut heard = Vec::new();
    while let Next::Event(event) = lab.connection.next_event(reader) {
        match event {
            RawEvent::Refused(refused) => heard.push(refused.notification.turn.map(|turn| turn.as_str().to_owned())),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(heard, [Some("U".to_owned())]);
}

#[test]
fn a_turn_that_fails_without_saying_why_has_the_last_error_that_was_told() {
    let mut lab = Lab::ready();
    let (turn, _) = lab.turn("T", "U");
    for (text, will_retry) in [("first", false), ("on the way", true)] {
        let params = json!({"threadId": "T", "turnId": "U", "willRetry": will_retry,
            "error": {"message": text, "codexErrorInfo": "other"}});
        lab.notify("error", params);
    }
    let (method, params) = completed("T", "U", "failed");
    lab.notify(method, params);
    let report = lab.connection.take_report(turn).expect("it ended").expect("it started");
    match report.into_result() {
        Err(TurnError::Failed(result)) => assert_eq!(result.error_message(), Some("first")),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_framer_says_how_much_of_an_unfinished_line_it_holds() {
    let mut framer = Framer::new(100);
    for (piece, held) in [("abc", 3), ("de", 5), ("\nx", 1), ("\n", 0)] {
        let mut input = piece.as_bytes();
        while framer.next_frame(&mut input).is_some() {}
        assert_eq!(framer.buffered(), held, "after {piece:?}");
    }
}
