//! Servers that do what no server was seen to do: each turn ends all the same, and is given what is its own.

use crate::lab::{Lab, completed, delta, message, usage};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Prepared, Scope},
    error::TurnError,
    protocol::{ThreadItem, ThreadResume},
    turn::{InterruptOutcome, State, SubscriptionKey, TurnKey, TurnResult},
};

/// Longer than `Timeouts::idle`, and shorter than `Timeouts::reply`.
const MOMENT: Duration = Duration::from_secs(15);

fn begin(lab: &mut Lab, turn: &str, root: &str) {
    lab.notify(
        "turn/started",
        json!({"threadId": "T", "turn": {"id": turn, "rootTurnId": root, "status": "inProgress"}}),
    );
}

fn end(lab: &mut Lab, turn: &str) {
    let (method, params) = completed("T", turn, "completed");
    lab.notify(method, params);
}

fn item(lab: &mut Lab, method: &str, turn: &str, item: Value) {
    lab.notify(method, json!({"threadId": "T", "turnId": turn, "item": item}));
}

fn says(lab: &mut Lab, status: &str) {
    lab.notify("thread/status/changed", json!({"threadId": "T", "status": {"type": status}}));
}

fn tokens(lab: &mut Lab, turn: &str, total: [i64; 4], last: [i64; 4]) {
    let (method, params) = usage("T", turn, total, last);
    lab.notify(method, params);
}

fn running(lab: &mut Lab) -> TurnKey {
    let (key, _) = lab.turn("T", "U");
    begin(lab, "U", "U");
    key
}

fn state(lab: &Lab, key: TurnKey) -> State {
    lab.connection.turn_state(key).expect("it is held")
}

fn result(lab: &mut Lab, key: TurnKey) -> Result<TurnResult, TurnError> {
    lab.connection.take_report(key).expect("the turn ended").expect("the turn started").into_result()
}

fn texts(items: &[ThreadItem]) -> Vec<String> {
    let text = |item: &ThreadItem| match item {
        ThreadItem::AgentMessage(message) => format!("{} {}", message.id, message.text),
        item => format!("{} {}", item.kind(), item.id().map_or("-", |id| id.as_str())),
    };
    items.iter().map(text).collect()
}

/// Whether the turn and its thread are done with: the turn ended without a status, and another may start.
fn assert_over(lab: &mut Lab, key: TurnKey, case: &str) {
    assert_eq!(state(lab, key), State::UnknownStatus, "{case}");
    assert!(matches!(result(lab, key), Err(TurnError::UnknownStatus { .. })), "{case}");
    lab.connection.release_turn(key);
    let (key, _) = lab.turn("T", "next");
    lab.connection.release_turn(key);
}

#[test]
fn a_turn_whose_thread_is_gone_ends() {
    for gone in ["thread/archived", "thread/closed", "thread/deleted", "notLoaded", "systemError"] {
        let mut lab = Lab::ready();
        let key = running(&mut lab);
        if gone.starts_with("thread/") {
            lab.notify(gone, json!({"threadId": "T"}));
        } else {
            says(&mut lab, gone);
        }
        assert_eq!(state(&lab, key), State::Running, "{gone}: its end may be on its way");
        lab.pass(MOMENT);
        assert_over(&mut lab, key, gone);
    }
    // Of one that there was no sign of there will be none.
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    lab.notify("thread/deleted", json!({"threadId": "T"}));
    lab.pass(MOMENT);
    assert_over(&mut lab, key, "unheard");
    // A sign of life, or the end itself, counts for more.
    let mut lab = Lab::ready();
    let key = running(&mut lab);
    says(&mut lab, "notLoaded");
    item(&mut lab, "item/started", "U", message("m", "", None));
    lab.pass(MOMENT);
    assert_eq!(state(&lab, key), State::Running);
    lab.notify("thread/deleted", json!({"threadId": "T"}));
    end(&mut lab, "U");
    assert_eq!(state(&lab, key), State::Completed);
}

#[test]
fn a_turn_that_timed_out_here_is_over_when_its_thread_is_gone() {
    let mut lab = Lab::ready();
    let options = turnwire_core::connection::TurnOptions::default().deadline(Duration::from_secs(1));
    let params = turnwire_core::protocol::TurnStart::new("T", [turnwire_core::protocol::UserInput::text("Hello")]);
    let key = lab.connection.start_turn(lab.now, &params, &options).expect("starts");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    lab.pass(MOMENT);
    assert_eq!(state(&lab, key), State::TimedOut);
    assert!(lab.connection.is_thread_busy(&"T".into()));
    lab.notify("thread/closed", json!({"threadId": "T"}));
    assert!(!lab.connection.is_thread_busy(&"T".into()));
}

#[test]
fn tu_12_items_of_one_name_are_all_kept_and_so_are_those_without_a_name() {
    let mut lab = Lab::ready();
    let key = running(&mut lab);
    for text in ["first", "second"] {
        item(&mut lab, "item/started", "U", message("m", "", None));
        let (method, params) = delta("T", "U", "m", text);
        lab.notify(method, params);
        item(&mut lab, "item/completed", "U", message("m", text, None));
    }
    // The same word again is the same item.
    item(&mut lab, "item/completed", "U", message("m", "second", None));
    item(&mut lab, "item/completed", "U", json!({"type": "hologram", "shape": 1}));
    item(&mut lab, "item/completed", "U", json!({"type": "commandExecution", "id": "c", "command": 7}));
    item(&mut lab, "item/started", "U", message("m", "", None));
    end(&mut lab, "U");
    let result = result(&mut lab, key).expect("completed");
    assert_eq!(texts(&result.items), ["m first", "m second", "hologram -", "commandExecution c"]);
    assert_eq!(result.final_response.as_deref(), Some("second"));
    assert_eq!(result.open_items, ["m"]);
}

#[test]
fn tu_03_what_nobody_knows_may_come_before_the_answer() {
    let mut lab = Lab::ready();
    let (key, reader, id) = lab.start_turn("T");
    item(&mut lab, "item/started", "U", json!({"type": "hologram", "id": "h"}));
    lab.notify("hologram/rotated", json!({"threadId": "T", "turnId": "U", "itemId": "h", "delta": "x"}));
    lab.notify("hologram/rotated", json!({"threadId": "T", "turn": 7}));
    item(&mut lab, "item/completed", "U", json!({"type": "hologram", "id": "h"}));
    lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress"}}}));
    end(&mut lab, "U");
    let seen = lab.read(reader);
    assert_eq!(seen[..3], ["item/started h", "hologram/rotated", "item/completed h"]);
    assert_eq!(texts(&result(&mut lab, key).expect("completed").items), ["hologram h"]);
}

#[test]
fn tu_a_turn_of_which_nothing_is_heard_after_another_ended_does_not_last_for_ever() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    begin(&mut lab, "V", "V");
    end(&mut lab, "V");
    says(&mut lab, "idle");
    lab.pass(MOMENT);
    assert_eq!(state(&lab, key), State::Running, "a slow server is waited for");
    lab.pass(Duration::from_secs(60));
    assert_over(&mut lab, key, "never heard of");
}

#[test]
fn tu_a_turn_ends_though_its_end_bears_a_name_that_nobody_was_told() {
    let mut lab = Lab::ready();
    let key = running(&mut lab);
    end(&mut lab, "V");
    assert_eq!(state(&lab, key), State::Running);
    lab.pass(MOMENT);
    assert_over(&mut lab, key, "another name");
    // An end that comes twice or late is that of the turn before.
    let mut lab = Lab::ready();
    let (first, _) = lab.turn("T", "first");
    end(&mut lab, "first");
    lab.connection.release_turn(first);
    let key = running(&mut lab);
    end(&mut lab, "first");
    lab.pass(MOMENT * 100);
    assert_eq!(state(&lab, key), State::Running);
}

#[test]
fn tu_a_turn_that_is_said_to_run_under_a_second_name_has_what_comes_under_either() {
    let mut lab = Lab::ready();
    let (key, reader) = lab.turn("T", "U");
    begin(&mut lab, "S", "U");
    item(&mut lab, "item/completed", "S", message("a", "One", None));
    item(&mut lab, "item/completed", "U", message("b", "Two", None));
    lab.say(json!({"method": "item/fileChange/requestApproval", "id": 0,
        "params": {"threadId": "T", "turnId": "S", "itemId": "f"}}));
    end(&mut lab, "S");
    let result = result(&mut lab, key).expect("completed");
    assert_eq!(texts(&result.items), ["a One", "b Two"]);
    assert_eq!(result.turn_id.as_ref().map(|id| id.as_str()), Some("U"));
    assert!(lab.read(reader).contains(&"refused item/fileChange/requestApproval".into()));
}

#[test]
fn st_07_a_refused_interrupt_of_a_turn_that_had_begun_is_settled_though_its_end_is_lost() {
    for is_idle in [true, false] {
        let mut lab = Lab::ready();
        let key = running(&mut lab);
        lab.connection.interrupt(lab.now, key).expect("held");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "error": {"code": -32600, "message": "no active turn to interrupt"}}));
        if is_idle {
            says(&mut lab, "idle");
        }
        lab.pass(MOMENT);
        assert!(matches!(lab.connection.interrupt_outcome(key), Some(Ok(InterruptOutcome::AlreadyEnded))));
        assert_over(&mut lab, key, "lost");
    }
}

#[test]
fn in_11_what_others_used_while_the_thread_was_not_listened_to_is_not_billed_to_the_next_turn() {
    let mut lab = Lab::ready();
    let key = running(&mut lab);
    tokens(&mut lab, "U", [10, 0, 1, 0], [10, 0, 1, 0]);
    end(&mut lab, "U");
    lab.connection.release_turn(key);
    let left = lab.connection.enter_unsubscribe(lab.now, "T".into()).expect("entered");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"status": "unsubscribed"}}));
    assert!(lab.connection.take_json(left).expect("answered").is_ok());
    let (key, _) = lab.turn("T", "V");
    tokens(&mut lab, "V", [1020, 0, 2, 0], [10, 0, 1, 0]);
    end(&mut lab, "V");
    let usage = result(&mut lab, key).expect("completed").usage.expect("reported");
    assert_eq!((usage.input_tokens, usage.output_tokens, usage.is_lower_bound), (10, 1, false));
}

/// A thread that is being resumed, and the id to answer.
fn resuming(lab: &mut Lab) -> (turnwire_core::connection::RequestKey, Value) {
    let request = Prepared::new(&ThreadResume::new("T")).expect("encoded");
    let key = lab.connection.enter_resume(lab.now, "T".into(), request).expect("entered");
    (key, lab.sent_one()["id"].clone())
}

fn found_running(id: &Value, status: &str) -> Value {
    let turn = json!({"id": "U", "status": "inProgress", "items": [message("a", "One", Some("commentary"))]});
    json!({"id": id, "result": {"thread": {"id": "T", "status": {"type": status}, "turns": [turn]}}})
}

#[test]
fn rt_07_nothing_is_missed_of_a_turn_whose_events_race_the_answer_to_the_resume() {
    let events: [fn(&mut Lab); 4] = [
        |lab| item(lab, "item/completed", "U", message("a", "One", Some("commentary"))),
        |lab| item(lab, "item/started", "U", message("b", "", None)),
        |lab| item(lab, "item/completed", "U", message("b", "Two", Some("final_answer"))),
        |lab| end(lab, "U"),
    ];
    for early in 0..=events.len() {
        for is_listening in [false, true] {
            let mut lab = Lab::ready();
            let reader: Option<SubscriptionKey> =
                is_listening.then(|| lab.connection.subscribe(Scope::Thread("T".into())));
            let (key, id) = resuming(&mut lab);
            events[..early].iter().for_each(|event| event(&mut lab));
            // Of other turns and other threads it is not.
            item(&mut lab, "item/completed", "before", message("x", "Old", None));
            let (method, params) = completed("other", "U", "failed");
            lab.notify(method, params);
            lab.say(found_running(&id, "active"));
            events[early..].iter().for_each(|event| event(&mut lab));
            let (turn, _) = lab.connection.take_attached(key).expect("attached");
            let result = result(&mut lab, turn).expect("completed");
            assert_eq!(texts(&result.items), ["a One", "b Two"], "{early} {is_listening}");
            assert_eq!(result.final_response.as_deref(), Some("Two"));
            lab.connection.release_turn(turn);
            reader.into_iter().for_each(|reader| lab.connection.unsubscribe(reader));
            assert_eq!(lab.connection.counters().threads, 0);
        }
    }
}

#[test]
fn rt_07_turns_that_came_and_went_before_the_answer_to_a_resume_end_nothing_that_it_says_to_run() {
    let began = |lab: &mut Lab, turn: &str| {
        let params =
            json!({"threadId": "T", "turn": {"id": turn, "rootTurnId": turn, "status": "inProgress", "items": []}});
        lab.notify("turn/started", params);
    };
    let mut lab = Lab::ready();
    let (other, other_id) = {
        let request = Prepared::new(&ThreadResume::new("other")).expect("encoded");
        let key = lab.connection.enter_resume(lab.now, "other".into(), request).expect("entered");
        (key, lab.sent_one()["id"].clone())
    };
    let (key, id) = resuming(&mut lab);
    began(&mut lab, "V");
    end(&mut lab, "V");
    began(&mut lab, "U");
    lab.say(found_running(&id, "active"));
    let (turn, _) = lab.connection.take_attached(key).expect("attached");
    assert_eq!(state(&lab, turn), State::Running);
    lab.pass(MOMENT);
    assert_eq!(state(&lab, turn), State::Running, "nobody has ended it");
    end(&mut lab, "U");
    assert_eq!(state(&lab, turn), State::Completed);
    lab.connection.release_turn(turn);
    // Of a thread that was answered nothing is kept for the next time, though another is still being resumed.
    began(&mut lab, "W");
    end(&mut lab, "W");
    let (key, id) = resuming(&mut lab);
    began(&mut lab, "U");
    lab.say(found_running(&id, "active"));
    let (turn, _) = lab.connection.take_attached(key).expect("attached");
    lab.pass(MOMENT);
    assert_eq!(state(&lab, turn), State::Running);
    lab.connection.release_turn(turn);
    lab.say(json!({"id": other_id, "result": {"thread": {"id": "other", "turns": []}}}));
    assert!(lab.connection.take_attached(other).is_none());
}

#[test]
fn rt_07_a_turn_that_a_thread_is_found_in_which_is_idle_all_the_same_ends() {
    let mut lab = Lab::ready();
    let (key, id) = resuming(&mut lab);
    lab.say(found_running(&id, "idle"));
    let (turn, _) = lab.connection.take_attached(key).expect("attached");
    assert_eq!(state(&lab, turn), State::Running, "its end may be on its way");
    lab.pass(MOMENT);
    assert_over(&mut lab, turn, "idle");
}
