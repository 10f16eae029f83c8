//! Threads: turns that begin in other ways than by `turn/start`, subscriptions that end, alarms, overload.

use crate::lab::{Lab, delta};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Event, Prepared, Scope, TimeoutReason, TurnOptions},
    error::{CallError, Fault, RpcError, TurnError},
    protocol::{CustomReviewTarget, ModelList, ReviewStart, ThreadResume},
    retry::{Overload, Retry},
    turn::{State, TurnKey, WhenBusy},
};

fn started(thread: &str, turn: &str) -> Value {
    json!({"threadId": thread, "turn": {"id": turn, "rootTurnId": turn, "status": "inProgress", "items": []}})
}

fn completed(thread: &str, turn: &str, status: &str) -> Value {
    json!({"threadId": thread, "turn": {"id": turn, "status": status, "items": []}})
}

fn compaction_item(thread: &str, turn: &str) -> Value {
    json!({"threadId": thread, "turnId": turn, "item": {"type": "contextCompaction", "id": "c"}})
}

/// A compaction whose request was taken.
fn compacting(lab: &mut Lab) -> TurnKey {
    let key = lab.connection.start_compaction(lab.now, &"T".into(), &TurnOptions::default()).expect("it starts");
    let line = lab.sent_one();
    assert_eq!((&line["method"], &line["params"]), (&json!("thread/compact/start"), &json!({"threadId": "T"})));
    lab.say(json!({"id": line["id"], "result": {}}));
    assert_eq!(lab.connection.turn_state(key), Some(State::Starting), "the answer does not name it");
    key
}

#[test]
fn th_19_a_compaction_ends_with_its_own_turn_and_not_with_what_is_late_of_another() {
    let mut lab = Lab::ready();
    let (earlier, _) = lab.turn("T", "U1");
    lab.notify("turn/started", started("T", "U1"));
    lab.notify("turn/completed", completed("T", "U1", "completed"));
    lab.connection.release_turn(earlier);
    let key = compacting(&mut lab);
    // The earlier turn had compacted too, and its last words are late.
    lab.notify("item/completed", compaction_item("T", "U1"));
    lab.notify("turn/completed", completed("T", "U1", "completed"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Starting));
    // A turn of a goal comes first, and compacts nothing.
    lab.notify("turn/started", started("T", "G"));
    let message = json!({"threadId": "T", "turnId": "G", "item": {"type": "agentMessage", "id": "m", "text": "Hi"}});
    lab.notify("item/completed", message);
    lab.notify("item/completed", compaction_item("T", "U1"));
    lab.notify("turn/completed", completed("T", "G", "completed"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Starting));
    lab.notify("turn/started", started("T", "C"));
    lab.notify("item/started", compaction_item("T", "C"));
    assert_eq!(lab.connection.turn_id(key).map(|id| id.as_str()), Some("C"));
    let busy = lab.connection.start_compaction(lab.now, &"T".into(), &TurnOptions::default());
    assert!(matches!(busy, Err(TurnError::Busy(_))), "the thread is busy with it");
    lab.notify("item/completed", compaction_item("T", "C"));
    lab.notify("turn/completed", completed("T", "C", "completed"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Completed));
    let report = lab.connection.take_report(key).expect("ended").expect("started").into_result().expect("completed");
    assert_eq!(report.items.len(), 1);
    lab.connection.release_turn(key);
    lab.assert_quiet();
    assert_eq!(lab.connection.poll_timeout(), None, "no timer is left");
}

#[test]
fn th_19_a_compaction_that_fails_before_it_shows_more_is_known_by_its_end() {
    let mut lab = Lab::ready();
    let key = compacting(&mut lab);
    lab.notify("turn/started", started("T", "C"));
    lab.notify("turn/completed", completed("T", "C", "failed"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Failed));
}

#[test]
fn th_19_a_compaction_whose_turn_never_comes_ends_at_its_deadline() {
    let mut lab = Lab::ready();
    let key = compacting(&mut lab);
    let reply = lab.connection.config().timeouts.reply;
    lab.pass(reply);
    assert_eq!(lab.connection.turn_state(key), Some(State::NotStarted));
    let fault = lab.connection.take_report(key).expect("over").expect_err("it did not start");
    assert!(fault.is_timeout() && fault.may_have_effect(), "{fault}");
    lab.connection.release_turn(key);
    lab.assert_quiet();
}

#[test]
fn th_19_a_compaction_that_nobody_waits_for_keeps_the_thread_busy_until_it_ends() {
    let mut lab = Lab::ready();
    let key = compacting(&mut lab);
    lab.connection.release_turn(key);
    assert!(lab.connection.is_thread_busy(&"T".into()));
    lab.notify("turn/started", started("T", "C"));
    lab.notify("item/started", compaction_item("T", "C"));
    lab.notify("turn/completed", completed("T", "C", "completed"));
    assert!(!lab.connection.is_thread_busy(&"T".into()));
    lab.assert_quiet();
    assert_eq!(lab.connection.poll_timeout(), None);
}

fn resuming(lab: &mut Lab) -> (turnwire_core::connection::RequestKey, Value) {
    let request = Prepared::new(&ThreadResume::new("T").exclude_turns(true)).expect("JSON");
    let key = lab.connection.enter_resume(lab.now, "T".into(), request).expect("entered");
    let id = lab.sent_one()["id"].clone();
    (key, id)
}

fn running_page() -> Value {
    json!({"thread": {"id": "T", "turns": []}, "initialTurnsPage": {"data": [{"id": "U", "status": "inProgress",
        "items": [{"type": "userMessage", "id": "m", "content": []}]}]}})
}

#[test]
fn rt_07_a_turn_that_a_resumed_thread_is_found_in_is_taken_over_without_a_gap() {
    let mut lab = Lab::ready();
    let (request, id) = resuming(&mut lab);
    let (method, params) = delta("T", "U", "a", "on ");
    // In one piece, so that nobody can act between the answer and what follows it.
    let lines = [
        json!({"id": id, "result": running_page()}),
        json!({"method": method, "params": params}),
        json!({"method": "item/completed", "params": {"threadId": "T", "turnId": "U",
            "item": {"type": "agentMessage", "id": "a", "text": "on it", "phase": null}}}),
        json!({"method": "turn/completed", "params": completed("T", "U", "completed")}),
    ];
    lab.say_bytes(lines.map(|line| format!("{line}\n")).concat().as_bytes());
    assert!(lab.connection.take_json(request).expect("answered").is_ok());
    let (turn, reader) = lab.connection.take_attached(request).expect("a turn runs");
    assert_eq!(lab.read(reader), ["delta a on ", "item/completed a", "turn/completed", "ended Completed", "finished"]);
    let report = lab.connection.take_report(turn).expect("ended").expect("ran").into_result().expect("completed");
    assert_eq!(report.items.len(), 2, "what was done before is known too");
    assert_eq!(report.final_response.as_deref(), Some("on it"));
    lab.connection.unsubscribe(reader);
    lab.connection.release_turn(turn);
    lab.assert_quiet();
}

#[test]
fn rt_07_a_resume_that_was_given_up_leaves_no_turn() {
    for answered_first in [true, false] {
        let mut lab = Lab::ready();
        let (request, id) = resuming(&mut lab);
        let answer = json!({"id": id, "result": running_page()});
        if answered_first {
            lab.say(answer);
            assert!(lab.connection.take_json(request).is_some());
            lab.connection.abandon(request);
            lab.notify("turn/completed", completed("T", "U", "completed"));
        } else {
            lab.connection.abandon(request);
            lab.say(answer);
        }
        assert_eq!(lab.connection.take_attached(request), None);
        lab.assert_quiet();
        assert_eq!(lab.connection.counters().subscriptions, 0);
        assert!(!lab.connection.is_thread_busy(&"T".into()));
    }
}

#[test]
fn rt_07_an_attached_turn_is_interrupted_at_once_and_keeps_the_thread_busy() {
    let mut lab = Lab::ready();
    let (request, id) = resuming(&mut lab);
    lab.say(json!({"id": id, "result": {"thread": {"id": "T", "turns": [{"id": "V", "status": "completed"},
        {"id": "U", "status": "inProgress"}]}}}));
    let (turn, _) = lab.connection.take_attached(request).expect("a turn runs");
    lab.connection.interrupt(lab.now, turn).expect("known");
    let line = lab.sent_one();
    assert_eq!((&line["method"], &line["params"]["turnId"]), (&json!("turn/interrupt"), &json!("U")));
    assert!(matches!(
        lab.connection.attach_turn(lab.now, &"T".into(), &"V".into(), &TurnOptions::default()),
        Err(TurnError::Busy(_))
    ));
}

fn review(lab: &mut Lab, detached: bool) -> (TurnKey, Value) {
    let params = ReviewStart::new("T", CustomReviewTarget::new("Look."));
    let options = TurnOptions::default();
    let key = lab.connection.start_review(lab.now, &params, detached, &options).expect("it starts");
    let line = lab.sent_one();
    assert_eq!(line["method"], "review/start");
    (key, line["id"].clone())
}

#[test]
fn tu_21_an_inline_review_ends_under_the_id_that_its_answer_names() {
    let mut lab = Lab::ready();
    let (key, id) = review(&mut lab, false);
    lab.say(
        json!({"id": id, "result": {"reviewThreadId": "T", "turn": {"id": "R", "status": "inProgress", "items": []}}}),
    );
    let item = json!({"type": "enteredReviewMode", "id": "i", "review": "Look."});
    lab.notify("item/started", json!({"threadId": "T", "turnId": "R", "item": item}));
    // It is announced under another id, which has no end of its own. Older servers do not say what it belongs to.
    for root in [json!("R"), Value::Null] {
        let turn = json!({"id": "S", "rootTurnId": root, "status": "inProgress", "items": []});
        lab.notify("turn/started", json!({"threadId": "T", "turn": turn}));
    }
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    lab.notify("turn/completed", completed("T", "R", "completed"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Completed));
    lab.connection.release_turn(key);
    lab.assert_quiet();
}

#[test]
fn tu_21_a_detached_review_is_followed_on_its_own_thread_from_its_first_event() {
    let mut lab = Lab::ready();
    // The thread is busy with a turn that the server has not named yet.
    let (own, _, own_id) = lab.start_turn("T");
    lab.notify("turn/started", started("T", "U"));
    let (key, id) = review(&mut lab, true);
    let reader = lab.connection.subscribe(Scope::Turn(key));
    lab.notify("turn/started", started("N", "R"));
    lab.notify("turn/started", started("X", "other"));
    lab.say(
        json!({"id": id, "result": {"reviewThreadId": "N", "turn": {"id": "R", "status": "inProgress", "items": []}}}),
    );
    assert_eq!(lab.connection.turn_thread(key).map(|thread| thread.as_str()), Some("N"));
    lab.notify("turn/completed", completed("N", "R", "completed"));
    assert_eq!(lab.read(reader), ["turn/started", "turn/completed", "ended Completed", "finished"]);
    // The thread's own turn has not lost what came for it.
    lab.say(json!({"id": own_id, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
    lab.connection.interrupt(lab.now, own).expect("known");
    assert_eq!(lab.sent_one()["params"]["turnId"], "U", "its turn/started was kept as evidence");
    lab.notify("turn/completed", completed("T", "U", "completed"));
    for turn in [own, key] {
        lab.connection.release_turn(turn);
    }
    assert_eq!(lab.connection.counters().turns, 0);
}

#[test]
fn tu_21_a_detached_review_that_is_refused_leaves_nothing() {
    let mut lab = Lab::ready();
    let (key, id) = review(&mut lab, true);
    lab.notify("turn/started", started("N", "R"));
    lab.say(
        json!({"id": id, "error": {"code": -32600, "message": "paginated threads do not support detached review"}}),
    );
    assert_eq!(lab.connection.turn_state(key), Some(State::NotStarted));
    lab.connection.release_turn(key);
    lab.assert_quiet();
    assert_eq!(lab.connection.counters().threads, 0);
}

#[test]
fn th_17_the_streams_of_an_unsubscribed_thread_end_and_later_ones_do_not() {
    let mut lab = Lab::ready();
    let before = lab.connection.subscribe(Scope::Thread("T".into()));
    let elsewhere = lab.connection.subscribe(Scope::Thread("other".into()));
    lab.notify("thread/name/updated", json!({"threadId": "T"}));
    let key = lab.connection.enter_unsubscribe(lab.now, "T".into()).expect("entered");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"status": "unsubscribed"}}));
    assert!(lab.connection.take_json(key).expect("answered").is_ok());
    let after = lab.connection.subscribe(Scope::Thread("T".into()));
    lab.notify("thread/name/updated", json!({"threadId": "T"}));
    assert_eq!(lab.read(before), ["thread/name/updated", "Unsubscribed", "finished"]);
    assert_eq!(lab.read(after), ["thread/name/updated"]);
    assert_eq!(lab.read(elsewhere), [""; 0]);
}

#[test]
fn th_17_a_refused_unsubscribe_ends_no_stream_and_one_that_nobody_waits_for_does() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Thread("T".into()));
    let key = lab.connection.enter_unsubscribe(lab.now, "T".into()).expect("entered");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "error": {"code": -32001, "message": "Server overloaded; retry later."}}));
    assert!(lab.connection.take_json(key).expect("answered").is_err());
    assert_eq!(lab.read(reader), [""; 0]);
    let key = lab.connection.enter_unsubscribe(lab.now, "T".into()).expect("entered");
    let id = lab.sent_one()["id"].clone();
    lab.connection.abandon(key);
    lab.say(json!({"id": id, "result": {"status": "unsubscribed"}}));
    assert_eq!(lab.read(reader), ["Unsubscribed", "finished"]);
}

#[test]
fn rq_07_an_alarm_rings_at_its_time_or_with_the_end_and_one_that_was_taken_back_does_not() {
    let mut lab = Lab::ready();
    let second = Duration::from_secs(1);
    let early = lab.connection.alarm(lab.now, lab.now + second);
    let late = lab.connection.alarm(lab.now, lab.now + second * 5);
    let never = lab.connection.alarm(lab.now, lab.now + second * 2);
    lab.connection.cancel_alarm(never);
    let timeout = lab.connection.poll_timeout().expect("a timer");
    assert_eq!((timeout.at, timeout.reason), (lab.now + second, TimeoutReason::Alarm));
    lab.pass(second);
    assert_eq!(lab.events.iter().filter(|event| **event == Event::Alarm(early)).count(), 1);
    assert!(!lab.connection.is_alarm_set(early) && lab.connection.is_alarm_set(late));
    assert_eq!(lab.connection.poll_timeout().map(|timeout| timeout.at), Some(lab.now + second * 4));
    lab.connection.close(lab.now, second);
    lab.collect();
    assert!(lab.events.contains(&Event::Alarm(late)), "nobody waits for what cannot be any more");
    assert!(!lab.events.contains(&Event::Alarm(never)));
    let after = lab.connection.alarm(lab.now, lab.now + second);
    lab.collect();
    assert!(lab.events.contains(&Event::Alarm(after)));
}

#[test]
fn rq_05_overload_is_known_in_all_its_spellings() {
    let error = |code: i64, data: Value| -> CallError {
        let mut lab = Lab::ready_with(Config::default());
        let pending = lab.connection.request(lab.now, &ModelList::new()).expect("entered");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "error": {"code": code, "message": "Server overloaded; retry later.", "data": data}}));
        lab.connection.take_response(&pending).expect("answered").expect_err("refused")
    };
    for (code, data) in [
        (-32001, Value::Null),
        (-32050, json!("server_overloaded")),
        (-32000, json!({"codexErrorInfo": "serverOverloaded"})),
        (-32603, json!({"codex_error_info": {"reason": "server_overloaded"}})),
    ] {
        let error = error(code, data.clone());
        assert!(error.is_retryable(), "{code} {data}");
        assert_eq!(error.overload(), Overload::Refused);
    }
    for (code, data) in [(-32050, Value::Null), (-32600, json!("my note on server_overloaded")), (-32603, json!({}))] {
        assert!(!error(code, data.clone()).is_retryable(), "{code} {data}");
    }
    let without_data = RpcError::new(-32001, "Server overloaded; retry later.");
    assert!(without_data.is_overload());
    assert!(!matches!(error(-32001, Value::Null).fault, Fault::TimedOut { .. }));
}

#[test]
fn th_19_a_compaction_that_joins_a_turn_which_runs_is_the_turn_that_begins_after_it() {
    let mut lab = Lab::ready();
    lab.notify("turn/started", started("T", "X"));
    let options = TurnOptions::default().when_busy(WhenBusy::Join);
    let key = lab.connection.start_compaction(lab.now, &"T".into(), &options).expect("it starts");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {}}));
    // That one ran before, however often the server says that it begins.
    lab.notify("turn/started", started("T", "X"));
    lab.notify("item/completed", compaction_item("T", "X"));
    assert_eq!(lab.connection.turn_id(key), None);
    lab.notify("turn/started", started("T", "C"));
    lab.notify("item/started", compaction_item("T", "C"));
    assert_eq!(lab.connection.turn_id(key).map(|id| id.as_str()), Some("C"));
}

#[test]
fn tu_21_what_came_for_a_detached_review_stays_while_another_is_answered_and_a_resume_is_given_up() {
    let mut lab = Lab::ready();
    let (_, other) = review(&mut lab, true);
    let (key, id) = review(&mut lab, true);
    let reader = lab.connection.subscribe(Scope::Turn(key));
    lab.notify("turn/started", started("N", "R"));
    let (resume, _) = resuming(&mut lab);
    lab.connection.abandon(resume);
    let answer = |thread: &str, turn: &str| json!({"reviewThreadId": thread, "turn": {"id": turn, "items": []}});
    lab.say(json!({"id": other, "result": answer("M", "Q")}));
    lab.say(json!({"id": id, "result": answer("N", "R")}));
    assert_eq!(lab.read(reader), ["turn/started"]);
}
