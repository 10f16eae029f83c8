//! Deadlines of silence, what happens when a turn is dropped, threads that are busy, and turns that were not started here.

use crate::lab::{Lab, completed, delta, message, usage};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Running, Scope, TurnOptions},
    error::{CallError, Fault, TurnError},
    protocol::{TurnStart, UserInput},
    turn::{
        DiagnosticKind, DropPolicy, InterruptOutcome, Next, RawEvent, State, SubscriptionKey, TurnKey, TurnResult,
        WhenBusy,
    },
};

const SECOND: Duration = Duration::from_secs(1);

fn start(lab: &mut Lab, options: &TurnOptions) -> Result<TurnKey, TurnError> {
    lab.connection.start_turn(lab.now, &TurnStart::new("T", [UserInput::text("Hello")]), options)
}

/// A turn that the server has named "U" and said to run.
fn running(lab: &mut Lab, options: &TurnOptions) -> TurnKey {
    let key = start(lab, options).expect("starts");
    answer_start(lab, "U");
    begin(lab, "U");
    key
}

fn answer_start(lab: &mut Lab, turn: &str) {
    let line = lab.sent_one();
    assert_eq!(line["method"], "turn/start");
    lab.say(json!({"id": line["id"], "result": {"turn": {"id": turn, "status": "inProgress", "items": []}}}));
}

fn begin(lab: &mut Lab, turn: &str) {
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": turn, "status": "inProgress"}}));
}

fn end(lab: &mut Lab, turn: &str, status: &str) {
    let (method, params) = completed("T", turn, status);
    lab.notify(method, params);
}

fn status(lab: &mut Lab, status: &str, flags: &[&str]) {
    let status = json!({"type": status, "activeFlags": flags});
    lab.notify("thread/status/changed", json!({"threadId": "T", "status": status}));
}

fn item(lab: &mut Lab, method: &str, turn: &str, item: Value) {
    lab.notify(method, json!({"threadId": "T", "turnId": turn, "item": item}));
}

fn tokens(lab: &mut Lab, turn: &str, total: [i64; 4], last: [i64; 4]) {
    let (method, params) = usage("T", turn, total, last);
    lab.notify(method, params);
}

fn result(lab: &mut Lab, key: TurnKey) -> Result<TurnResult, TurnError> {
    lab.connection.take_report(key).expect("the turn ended").expect("the turn started").into_result()
}

fn not_started(lab: &mut Lab, key: TurnKey) -> CallError {
    assert_eq!(lab.connection.turn_state(key), Some(State::NotStarted));
    lab.connection.take_report(key).expect("it ended").expect_err("it did not start")
}

#[test]
fn tu_15_a_silent_server_ends_the_turn_with_the_age_of_its_last_word_and_is_told_to_stop() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default().idle_deadline(5 * SECOND));
    // Every sign of life counts.
    for _ in 0..4 {
        lab.pass(4 * SECOND);
        let (method, params) = delta("T", "U", "m", "x");
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    lab.pass(4 * SECOND);
    assert!(lab.sent().is_empty());
    lab.pass(SECOND);
    let Err(TurnError::IdleTimedOut { limit, age, .. }) = result(&mut lab, key) else { panic!("silence") };
    assert_eq!((limit, age), (5 * SECOND, 5 * SECOND));
    let interrupt = lab.sent_one();
    assert_eq!((&interrupt["method"], &interrupt["params"]["turnId"]), (&json!("turn/interrupt"), &json!("U")));
    assert!(matches!(start(&mut lab, &TurnOptions::default()), Err(TurnError::Busy(_))), "it may run still");
    lab.say(json!({"id": interrupt["id"], "result": {}}));
    end(&mut lab, "U", "interrupted");
    lab.connection.drop_turn(lab.now, key);
    lab.assert_quiet();
    lab.turn("T", "V");
    assert!(lab.connection.poll_timeout().is_none(), "no timer is left");
}

#[test]
fn tu_15_without_an_idle_deadline_the_wait_is_unbounded() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    lab.pass(Duration::from_secs(100_000));
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    assert!(lab.connection.poll_timeout().is_none());
}

#[test]
fn tu_15_a_tool_that_runs_and_an_approval_that_waits_may_be_silent_for_longer() {
    let options = TurnOptions::default().idle_deadline(5 * SECOND);
    let longer = TurnOptions::default().idle_deadline(5 * SECOND).idle_deadline_while_working(20 * SECOND);
    for (options, at_work) in [(&options, 50), (&longer, 20)] {
        let mut lab = Lab::ready();
        let key = running(&mut lab, options);
        item(&mut lab, "item/started", "U", json!({"type": "commandExecution", "id": "c", "status": "inProgress"}));
        lab.pass((at_work - 1) * SECOND);
        assert_eq!(lab.connection.turn_state(key), Some(State::Running));
        item(&mut lab, "item/completed", "U", json!({"type": "commandExecution", "id": "c", "status": "completed"}));
        lab.pass(4 * SECOND);
        assert_eq!(lab.connection.turn_state(key), Some(State::Running));
        status(&mut lab, "active", &["waitingOnApproval"]);
        lab.pass((at_work - 1) * SECOND);
        assert_eq!(lab.connection.turn_state(key), Some(State::Running));
        status(&mut lab, "active", &[]);
        lab.pass(4 * SECOND);
        assert_eq!(lab.connection.turn_state(key), Some(State::Running));
        lab.pass(SECOND);
        assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut), "the usual deadline holds again");
        // And one that never ends its tool.
        let mut lab = Lab::ready();
        let key = running(&mut lab, options);
        item(&mut lab, "item/started", "U", json!({"type": "mcpToolCall", "id": "c", "status": "inProgress"}));
        lab.pass(at_work * SECOND);
        let Err(TurnError::IdleTimedOut { limit, .. }) = result(&mut lab, key) else { panic!("silence") };
        assert_eq!(limit, at_work * SECOND);
    }
}

#[test]
fn tu_17_a_dropped_turn_runs_on_unless_it_is_to_be_interrupted() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    let (other, others_reader) = lab.turn("other", "O");
    lab.connection.drop_turn(lab.now, key);
    assert!(lab.sent().is_empty(), "left running by default");
    let before = lab.connection.counters();
    for _ in 0..1000 {
        let (method, params) = delta("T", "U", "m", "nobody reads this");
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.counters().unread_bytes, before.unread_bytes);
    end(&mut lab, "U", "completed");
    assert_eq!(lab.connection.counters().turns, 1, "the other one");

    let key = running(&mut lab, &TurnOptions::default().on_drop(DropPolicy::Interrupt));
    lab.connection.drop_turn(lab.now, key);
    let interrupt = lab.sent_one();
    assert_eq!((&interrupt["method"], &interrupt["params"]["threadId"]), (&json!("turn/interrupt"), &json!("T")));
    lab.say(json!({"id": interrupt["id"], "result": {}}));
    let (method, params) = delta("T", "U", "m", "still");
    lab.notify(method, params);
    assert!(lab.sent().is_empty(), "once");
    end(&mut lab, "U", "interrupted");
    assert_eq!(lab.connection.turn_state(other), Some(State::Running));
    let (method, params) = delta("other", "O", "m", "mine");
    lab.notify(method, params);
    assert_eq!(lab.read(others_reader), ["delta m mine"]);
    lab.turn("T", "V");
}

#[test]
fn tu_17_a_turn_that_is_dropped_before_there_is_a_sign_of_it_is_interrupted_at_the_first() {
    let mut lab = Lab::ready();
    let key = start(&mut lab, &TurnOptions::default().on_drop(DropPolicy::Interrupt)).expect("starts");
    let line = lab.sent_one();
    lab.connection.drop_turn(lab.now, key);
    lab.say(json!({"id": line["id"], "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
    assert!(lab.sent().is_empty(), "now it would be refused");
    // Later than the interrupt is waited for.
    lab.pass(Duration::from_secs(31));
    begin(&mut lab, "U");
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
    end(&mut lab, "U", "interrupted");
    assert_eq!(lab.connection.counters().turns, 0);
}

#[test]
fn tu_17_a_dropped_start_that_was_not_sent_never_is() {
    let mut config = Config::default();
    config.limits.max_in_flight = 0;
    let mut lab = Lab::ready_with(config);
    let key = start(&mut lab, &TurnOptions::default().on_drop(DropPolicy::Interrupt)).expect("enters");
    assert!(lab.sent().is_empty());
    lab.connection.drop_turn(lab.now, key);
    assert!(lab.sent().is_empty());
    lab.assert_quiet();
    assert!(lab.connection.poll_timeout().is_none());
}

#[test]
fn st_16_starts_on_a_busy_thread_are_refused_or_wait_in_their_order() {
    let mut lab = Lab::ready();
    let queue = TurnOptions::default().when_busy(WhenBusy::Queue);
    running(&mut lab, &queue);
    assert!(matches!(start(&mut lab, &TurnOptions::default()), Err(TurnError::Busy(thread)) if thread == "T"));
    let keys: Vec<TurnKey> = (0..3).map(|_| start(&mut lab, &queue).expect("waits")).collect();
    assert_eq!(keys.iter().map(|key| lab.connection.turn_state(*key)).collect::<Vec<_>>(), [Some(State::Queued); 3]);
    assert_eq!(lab.connection.queued_turns(&"T".into()), 3);
    assert!(lab.sent().is_empty());
    for (n, key) in keys.iter().enumerate() {
        end(&mut lab, if n == 0 { "U" } else { "Q" }, "completed");
        answer_start(&mut lab, "Q");
        assert_eq!(lab.connection.turn_state(*key), Some(State::Running), "the {n}th");
        begin(&mut lab, "Q");
        assert!(lab.sent().is_empty(), "one at a time");
        assert!(matches!(start(&mut lab, &TurnOptions::default()), Err(TurnError::Busy(_))));
    }
    end(&mut lab, "Q", "completed");
    for key in &keys {
        assert_eq!(result(&mut lab, *key).expect("completed").status, State::Completed);
    }
    assert!(start(&mut lab, &TurnOptions::default()).is_ok());
}

#[test]
fn st_16_what_waits_is_bounded_in_number_and_time_and_leaves_when_it_is_dropped() {
    let mut config = Config::default();
    config.limits.max_queued_turns = 2;
    let mut lab = Lab::ready_with(config);
    let queue = TurnOptions::default().when_busy(WhenBusy::Queue);
    let first = running(&mut lab, &queue);
    let late = start(&mut lab, &queue.clone().deadline(10 * SECOND)).expect("waits");
    let dropped = start(&mut lab, &queue).expect("waits");
    assert!(matches!(start(&mut lab, &queue), Err(TurnError::QueueFull { limit: 2 })));
    lab.pass(10 * SECOND);
    let Err(TurnError::TimedOut { limit, .. }) = result(&mut lab, late) else {
        panic!("its deadline counts from the call")
    };
    assert_eq!(limit, 10 * SECOND);
    assert!(lab.sent().is_empty(), "there is nothing to interrupt");
    lab.connection.drop_turn(lab.now, dropped);
    assert_eq!(lab.connection.turn_state(dropped), None);
    let next = start(&mut lab, &queue.clone().deadline(10 * SECOND)).expect("there is room again");
    lab.pass(9 * SECOND);
    end(&mut lab, "U", "completed");
    answer_start(&mut lab, "V");
    begin(&mut lab, "V");
    lab.pass(SECOND);
    assert_eq!(lab.connection.turn_state(next), Some(State::TimedOut), "the wait counts");
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
    assert!(result(&mut lab, first).is_ok());
}

#[test]
fn st_16_what_waits_is_sent_when_the_one_before_could_not_start_and_fails_with_the_connection() {
    let mut lab = Lab::ready();
    let queue = TurnOptions::default().when_busy(WhenBusy::Queue);
    let first = start(&mut lab, &queue).expect("starts");
    let second = start(&mut lab, &queue).expect("waits");
    let third = start(&mut lab, &queue).expect("waits");
    let line = lab.sent_one();
    lab.say(json!({"error": {"code": -32600, "message": "no"}, "id": line["id"]}));
    assert!(not_started(&mut lab, first).rpc().is_some());
    answer_start(&mut lab, "U");
    assert_eq!(lab.connection.turn_state(second), Some(State::Running));
    lab.connection.handle_eof(lab.now);
    let error = not_started(&mut lab, third);
    assert!(error.is_closed() && !error.may_have_effect(), "{error}");
    assert_eq!(lab.connection.turn_state(second), Some(State::Lost));
}

#[test]
fn st_16_a_thread_that_is_busy_for_other_reasons_is_busy() {
    let queue = TurnOptions::default().when_busy(WhenBusy::Queue);
    // A turn of somebody else, or the server's word alone.
    let busy: [fn(&mut Lab); 2] = [|lab| begin(lab, "X"), |lab| status(lab, "active", &[])];
    let free: [fn(&mut Lab); 2] = [|lab| end(lab, "X", "completed"), |lab| status(lab, "idle", &[])];
    for (busy, free) in busy.into_iter().zip(free) {
        let mut lab = Lab::ready();
        busy(&mut lab);
        assert!(matches!(start(&mut lab, &TurnOptions::default()), Err(TurnError::Busy(_))));
        let waiting = start(&mut lab, &queue).expect("waits");
        assert!(lab.sent().is_empty());
        free(&mut lab);
        answer_start(&mut lab, "U");
        assert_eq!(lab.connection.turn_state(waiting), Some(State::Running));
    }
    // A review begins under another name than it ends with.
    let mut lab = Lab::ready();
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "S", "rootTurnId": "R"}}));
    assert!(matches!(start(&mut lab, &TurnOptions::default()), Err(TurnError::Busy(_))));
    end(&mut lab, "R", "completed");
    assert!(start(&mut lab, &TurnOptions::default()).is_ok());
}

#[test]
fn a_turn_that_nobody_holds_can_be_taken_up_again() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    item(&mut lab, "item/completed", "U", message("m1", "before", None));
    lab.connection.drop_turn(lab.now, key);
    let again =
        lab.connection.attach_turn(lab.now, &"T".into(), &"U".into(), &TurnOptions::default()).expect("it runs");
    assert_eq!(again, key);
    item(&mut lab, "item/completed", "U", message("m2", "after", None));
    tokens(&mut lab, "U", [10, 0, 1, 0], [10, 0, 1, 0]);
    end(&mut lab, "U", "completed");
    let result = result(&mut lab, again).expect("completed");
    assert_eq!((result.items.len(), result.final_response.as_deref()), (1, Some("after")));
    assert!(result.usage.expect("reported").is_lower_bound);
}

#[test]
fn two_that_hold_one_turn_both_get_its_result() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    let attach = |lab: &mut Lab| lab.connection.attach_turn(lab.now, &"T".into(), &"U".into(), &TurnOptions::default());
    assert_eq!(attach(&mut lab).expect("it runs"), key);
    end(&mut lab, "U", "completed");
    assert!(result(&mut lab, key).is_ok());
    lab.connection.drop_turn(lab.now, key);
    assert!(result(&mut lab, key).is_ok());
    lab.connection.drop_turn(lab.now, key);
    lab.assert_quiet();
}

#[test]
fn a_turn_of_somebody_else_is_attached_to_and_one_that_has_just_ended_has_ended() {
    let mut lab = Lab::ready();
    begin(&mut lab, "X");
    assert_eq!(lab.connection.withdraw_turns(&"T".into()), Running::Other("X".into()));
    let options = TurnOptions::default().idle_deadline(5 * SECOND);
    let key = lab.connection.attach_turn(lab.now, &"T".into(), &"X".into(), &options).expect("attaches");
    assert!(matches!(start(&mut lab, &TurnOptions::default()), Err(TurnError::Busy(_))));
    lab.connection.interrupt(lab.now, key).expect("known");
    assert_eq!(lab.sent_one()["method"], "turn/interrupt", "it is known to run");
    end(&mut lab, "X", "interrupted");
    assert_eq!(result(&mut lab, key).expect("no error").status, State::Interrupted);
    begin(&mut lab, "Y");
    end(&mut lab, "Y", "completed");
    let key = lab.connection.attach_turn(lab.now, &"T".into(), &"Y".into(), &options).expect("attaches");
    assert_eq!(result(&mut lab, key).expect("completed").duration_ms, Some(1234));
    assert!(lab.connection.poll_timeout().is_some_and(|timeout| timeout.at > lab.now), "the interrupt's answer alone");
}

#[test]
fn turns_that_nobody_asked_for_can_be_followed_from_their_beginning() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Turns("T".into()));
    let other = lab.connection.subscribe(Scope::Turns("T".into()));
    let next = |lab: &mut Lab, reader: SubscriptionKey| match lab.connection.next_event(reader) {
        Next::Event(RawEvent::Turn(key)) => (key, lab.connection.claim_turn(key).expect("one for each")),
        next => panic!("{next:?}"),
    };
    // Ours is none of them.
    let ours = running(&mut lab, &TurnOptions::default());
    end(&mut lab, "U", "completed");
    lab.connection.drop_turn(lab.now, ours);
    assert!(matches!(lab.connection.next_event(reader), Next::Pending));
    // A goal's, and then a review's, which goes on under another name.
    begin(&mut lab, "G");
    item(&mut lab, "item/completed", "G", message("m", "working on it", None));
    end(&mut lab, "G", "completed");
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "S", "rootTurnId": "R"}}));
    item(&mut lab, "item/completed", "R", message("m2", "reviewed", None));
    end(&mut lab, "R", "completed");
    for (named, text) in [("G", "working on it"), ("R", "reviewed")] {
        let (key, events) = next(&mut lab, reader);
        assert_eq!(lab.connection.turn_id(key).map(|id| id.as_str()), Some(named));
        let seen = lab.read(events);
        assert_eq!(seen.last().map(String::as_str), Some("finished"), "{seen:?}");
        let result = result(&mut lab, key).expect("completed");
        assert_eq!((result.final_response.as_deref(), result.joined), (Some(text), false));
        lab.connection.unsubscribe(events);
        lab.connection.drop_turn(lab.now, key);
    }
    // The other reader goes without taking them.
    assert_eq!(lab.connection.counters().turns, 2);
    lab.connection.unsubscribe(other);
    assert_eq!(lab.connection.counters().turns, 0);
    lab.connection.unsubscribe(reader);
    let counters = lab.connection.counters();
    assert_eq!((counters.threads, counters.subscriptions, counters.unread_bytes), (0, 0, 0));
}

#[test]
fn turns_that_are_offered_and_not_taken_are_bounded() {
    let mut config = Config::default();
    config.limits.max_unclaimed_turns = 3;
    let mut lab = Lab::ready_with(config);
    let reader = lab.connection.subscribe(Scope::Turns("T".into()));
    for n in 0..10 {
        begin(&mut lab, &n.to_string());
        end(&mut lab, &n.to_string(), "completed");
    }
    assert_eq!(lab.connection.counters().turns, 3);
    lab.connection.unsubscribe(reader);
    lab.assert_quiet();
}

/// A lab whose server says that it is this old.
fn old(version: &str) -> Lab {
    let mut config = Config::default();
    config.assume_version = Some(version.into());
    Lab::ready_with(config)
}

fn user_message(text: &str) -> Value {
    json!({"type": "userMessage", "id": "u", "content": [{"type": "text", "text": text}]})
}

#[test]
fn a_dead_turn_id_is_given_up_for_the_turn_that_has_the_input() {
    for is_early in [false, true] {
        let mut lab = old("0.133.0");
        let key = start(&mut lab, &TurnOptions::default()).expect("starts");
        let line = lab.sent_one();
        let reply = json!({"id": line["id"], "result": {"turn": {"id": "dead", "status": "inProgress", "items": []}}});
        if !is_early {
            lab.say(reply.clone());
        }
        item(&mut lab, "item/started", "X", user_message("of somebody else"));
        item(&mut lab, "item/started", "X", user_message("Hello"));
        item(&mut lab, "item/completed", "X", message("m", "for both", None));
        if is_early {
            lab.say(reply);
        }
        assert_eq!(lab.connection.turn_id(key).map(|id| id.as_str()), Some("X"), "early: {is_early}");
        assert!(lab.connection.turn_joined(key));
        end(&mut lab, "X", "completed");
        let result = result(&mut lab, key).expect("completed");
        assert_eq!((result.final_response.as_deref(), result.joined), (Some("for both"), true));
    }
}

#[test]
fn a_dead_turn_id_of_which_nothing_is_ever_heard_ends_when_the_thread_is_idle() {
    let mut lab = old("0.133.0");
    let key = start(&mut lab, &TurnOptions::default()).expect("starts");
    answer_start(&mut lab, "dead");
    end(&mut lab, "X", "completed");
    lab.pass(11 * SECOND);
    assert!(matches!(result(&mut lab, key), Err(TurnError::UnknownStatus { .. })));
    // Newer servers name the turn that runs, and a turn there may begin late.
    let mut lab = old("0.163.0");
    let key = start(&mut lab, &TurnOptions::default()).expect("starts");
    answer_start(&mut lab, "U");
    status(&mut lab, "idle", &[]);
    lab.pass(11 * SECOND);
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
}

#[test]
fn st_11_an_interrupt_that_meets_another_turn_names_it() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    lab.connection.interrupt(lab.now, key).expect("known");
    let line = lab.sent_one();
    let message = "expected active turn id U but found X";
    lab.say(json!({"error": {"code": -32600, "message": message}, "id": line["id"]}));
    let error = lab.connection.interrupt_outcome(key).expect("settled").expect_err("refused");
    let Fault::OtherTurn { actual, .. } = &error.fault else { panic!("{error}") };
    assert_eq!((actual.as_str(), error.rpc().map(|rpc| rpc.code)), ("X", Some(-32600)));
    // The thread is stopped by that name.
    let pending = lab.connection.interrupt_other(lab.now, &"T".into(), actual).expect("asks");
    let line = lab.sent_one();
    assert_eq!(line["params"]["turnId"], "X");
    lab.say(json!({"id": line["id"], "result": {}}));
    assert!(lab.connection.take_response(&pending).expect("answered").is_ok());
}

#[test]
fn what_waits_for_a_thread_is_withdrawn_when_the_thread_is_stopped() {
    let mut lab = Lab::ready();
    let queue = TurnOptions::default().when_busy(WhenBusy::Queue);
    let first = running(&mut lab, &queue);
    let waiting = start(&mut lab, &queue).expect("waits");
    assert_eq!(lab.connection.withdraw_turns(&"T".into()), Running::Ours(first));
    let error = not_started(&mut lab, waiting);
    assert!(matches!(error.fault, Fault::Withdrawn) && !error.may_have_effect());
    // So is one that is interrupted before it is sent.
    let waiting = start(&mut lab, &queue).expect("waits");
    lab.connection.interrupt(lab.now, waiting).expect("known");
    let outcome = lab.connection.interrupt_outcome(waiting).expect("settled").expect("fine");
    assert_eq!(outcome, InterruptOutcome::AlreadyEnded);
    not_started(&mut lab, waiting);
    end(&mut lab, "U", "completed");
    assert!(lab.sent().is_empty());
}

#[test]
fn in_11_a_turn_of_three_calls_used_their_sum_and_cached_tokens_are_part_of_it() {
    let mut lab = Lab::ready();
    // What a resumed thread is said to have used is no part of the turn, nor is a repetition of it.
    tokens(&mut lab, "old", [100, 50, 20, 10], [30, 10, 5, 0]);
    let key = running(&mut lab, &TurnOptions::default());
    tokens(&mut lab, "old", [100, 50, 20, 10], [30, 10, 5, 0]);
    for n in 1..=3 {
        tokens(&mut lab, "U", [100 + 10 * n, 50 + 4 * n, 20 + 2 * n, 10 + n], [10, 4, 2, 1]);
    }
    end(&mut lab, "U", "completed");
    let used = result(&mut lab, key).expect("completed").usage.expect("reported");
    assert_eq!((used.input_tokens, used.cached_input_tokens, used.output_tokens), (30, 12, 6));
    assert_eq!((used.total_tokens, used.reports, used.is_lower_bound), (36, 3, false));
}

#[test]
fn in_11_a_compaction_does_not_count_what_came_before_it_and_totals_that_go_down_are_a_lower_bound() {
    // As a real server says it: the turn begins with a repetition, and ends with an estimate of what is left.
    let mut lab = Lab::ready();
    tokens(&mut lab, "before", [20, 0, 10, 0], [10, 0, 5, 0]);
    let key = running(&mut lab, &TurnOptions::default());
    tokens(&mut lab, "U", [20, 0, 10, 0], [10, 0, 5, 0]);
    tokens(&mut lab, "U", [30, 0, 15, 0], [10, 0, 5, 0]);
    tokens(&mut lab, "U", [30, 0, 15, 0], [0, 0, 0, 0]);
    end(&mut lab, "U", "completed");
    let used = result(&mut lab, key).expect("completed").usage.expect("reported");
    assert_eq!((used.total_tokens, used.reports, used.is_lower_bound), (15, 1, false));
    // And a thread that counts anew.
    let key = running(&mut lab, &TurnOptions::default());
    tokens(&mut lab, "U", [40, 0, 20, 0], [10, 0, 5, 0]);
    tokens(&mut lab, "U", [7, 0, 3, 0], [7, 0, 3, 0]);
    end(&mut lab, "U", "completed");
    let used = result(&mut lab, key).expect("completed").usage.expect("reported");
    assert_eq!((used.total_tokens, used.reports, used.is_lower_bound), (25, 2, true));
}

#[test]
fn in_13_a_repetition_of_what_was_known_is_no_report() {
    let mut lab = Lab::ready();
    tokens(&mut lab, "before", [20, 0, 10, 0], [10, 0, 5, 0]);
    let key = running(&mut lab, &TurnOptions::default());
    tokens(&mut lab, "U", [20, 0, 10, 0], [10, 0, 5, 0]);
    end(&mut lab, "U", "failed");
    let Err(TurnError::Failed(report)) = result(&mut lab, key) else { panic!("failed") };
    assert!(report.usage.is_none());
}

#[test]
fn tu_14_the_completed_text_wins_over_deltas_that_do_not_add_up_and_that_is_told() {
    for (pieces, text, is_told) in [
        (vec!["Hel", "lo"], "Hello", false),
        (vec!["Hel"], "Hello", true),
        (vec!["Hel", "la"], "Hello", true),
        (vec![], "Hello", false),
    ] {
        let mut lab = Lab::ready();
        let key = running(&mut lab, &TurnOptions::default());
        item(&mut lab, "item/started", "U", message("m", "", None));
        // Of an item that is given up nothing is expected.
        let (method, params) = delta("T", "U", "abandoned", "Hal");
        lab.notify(method, params);
        for piece in pieces {
            let (method, params) = delta("T", "U", "m", piece);
            lab.notify(method, params);
        }
        item(&mut lab, "item/completed", "U", message("m", text, None));
        end(&mut lab, "U", "completed");
        let result = result(&mut lab, key).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("Hello"));
        assert_eq!(result.open_items, ["abandoned"]);
        let told = lab.connection.diagnostics().filter(|told| told.kind == DiagnosticKind::TextMismatch).count();
        assert_eq!(told, usize::from(is_told));
    }
}

#[test]
fn items_that_were_never_completed_are_named_with_the_end() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    item(&mut lab, "item/started", "U", json!({"type": "commandExecution", "id": "c", "status": "inProgress"}));
    item(&mut lab, "item/started", "U", message("m", "", None));
    item(&mut lab, "item/completed", "U", message("m", "Done.", None));
    end(&mut lab, "U", "completed");
    // What comes of the command in the background is for the thread.
    item(&mut lab, "item/completed", "U", json!({"type": "commandExecution", "id": "c", "status": "completed"}));
    let result = result(&mut lab, key).expect("completed");
    assert_eq!((result.items.len(), result.open_items), (1, vec!["c".into()]));
}

#[test]
fn an_item_that_does_not_decode_is_kept_as_it_came() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default());
    item(&mut lab, "item/completed", "U", json!({"type": "agentMessage", "id": "m", "text": {"not": "a text"}}));
    item(&mut lab, "item/completed", "U", json!({"type": "brandNew", "id": "n", "what": 1}));
    end(&mut lab, "U", "completed");
    let result = result(&mut lab, key).expect("completed");
    let ids: Vec<_> = result.items.iter().filter_map(|item| item.id()).map(|id| id.as_str()).collect();
    assert_eq!(ids, ["m", "n"]);
}

#[test]
fn a_review_that_is_attached_to_is_not_ended_by_the_other_name_under_which_it_begins() {
    for version in ["0.133.0", "0.163.0"] {
        let mut lab = old(version);
        let attached = lab.connection.attach_turn(lab.now, &"T".into(), &"R".into(), &TurnOptions::default());
        let key = attached.expect("attaches");
        item(&mut lab, "item/completed", "R", json!({"type": "enteredReviewMode", "id": "e", "review": "r"}));
        // Only the newer ones say what it belongs to.
        let turn = if version == "0.163.0" { json!({"id": "S", "rootTurnId": "R"}) } else { json!({"id": "S"}) };
        lab.notify("turn/started", json!({"threadId": "T", "turn": turn}));
        assert_eq!(lab.connection.turn_state(key), Some(State::Running), "{version}");
        end(&mut lab, "R", "completed");
        assert!(result(&mut lab, key).is_ok());
    }
}

#[test]
fn a_turn_that_joins_one_that_runs_is_known_to_run_and_is_interrupted_at_once() {
    let mut lab = Lab::ready();
    begin(&mut lab, "X");
    let key = start(&mut lab, &TurnOptions::default().when_busy(WhenBusy::Join)).expect("it joins");
    answer_start(&mut lab, "X");
    assert!(lab.connection.turn_joined(key));
    lab.connection.interrupt(lab.now, key).expect("known");
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
}

#[test]
fn a_sign_of_life_of_a_turn_that_is_over_here_times_its_silence_no_more() {
    let mut lab = Lab::ready();
    let key = running(&mut lab, &TurnOptions::default().idle_deadline(5 * SECOND).deadline(SECOND));
    lab.pass(SECOND);
    assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut));
    let interrupt = lab.sent_one();
    lab.say(json!({"id": interrupt["id"], "result": {}}));
    item(&mut lab, "item/started", "U", message("m", "", None));
    assert!(lab.connection.poll_timeout().is_none());
}

#[test]
fn a_dead_turn_is_given_up_for_its_own_input_only_and_one_that_has_shown_itself_for_none() {
    let mut lab = old("0.133.0");
    let key = start(&mut lab, &TurnOptions::default()).expect("starts");
    answer_start(&mut lab, "dead");
    let named = |lab: &Lab, key| lab.connection.turn_id(key).map(ToString::to_string);
    item(&mut lab, "item/started", "Y", user_message("of somebody else"));
    assert_eq!(named(&lab, key).as_deref(), Some("dead"));
    item(&mut lab, "item/started", "X", user_message("Hello"));
    assert_eq!(named(&lab, key).as_deref(), Some("X"));
    // The same words may be said to another turn.
    let mut lab = old("0.133.0");
    let key = running(&mut lab, &TurnOptions::default());
    item(&mut lab, "item/started", "X", user_message("Hello"));
    assert_eq!(named(&lab, key).as_deref(), Some("U"));
}

#[test]
fn a_start_that_is_taken_back_leaves_those_before_and_after_it_in_their_order() {
    let mut lab = Lab::ready();
    let queue = TurnOptions::default().when_busy(WhenBusy::Queue);
    running(&mut lab, &queue);
    let [first, second, third] = [0; 3].map(|_| start(&mut lab, &queue).expect("waits"));
    lab.connection.interrupt(lab.now, second).expect("known");
    not_started(&mut lab, second);
    for (before, key) in [("U", first), ("Q", third)] {
        end(&mut lab, before, "completed");
        answer_start(&mut lab, "Q");
        assert_eq!(lab.connection.turn_state(key), Some(State::Running));
        begin(&mut lab, "Q");
    }
}

#[test]
fn turns_that_are_offered_and_not_taken_are_bounded_for_each_thread_and_those_that_are_taken_count_no_more() {
    let mut config = Config::default();
    config.limits.max_unclaimed_turns = 1;
    let mut lab = Lab::ready_with(config);
    let [here, there] = ["T", "O"].map(|thread| lab.connection.subscribe(Scope::Turns(thread.into())));
    begin(&mut lab, "first");
    lab.notify("turn/started", json!({"threadId": "O", "turn": {"id": "V", "status": "inProgress"}}));
    for reader in [here, there] {
        let Next::Event(RawEvent::Turn(key)) = lab.connection.next_event(reader) else { panic!("it is offered") };
        lab.connection.claim_turn(key).expect("taken");
    }
    end(&mut lab, "first", "completed");
    begin(&mut lab, "second");
    assert!(matches!(lab.connection.next_event(here), Next::Event(RawEvent::Turn(_))), "the first is held, and taken");
}
