use crate::lab::{Lab, completed, delta, message, usage};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Event, Scope, TurnOptions},
    error::{CallError, SteerError, TurnError},
    protocol::{CodexErrorInfo, TurnStart, UserInput},
    turn::{InterruptOutcome, Next, RawEvent, State, TurnKey, TurnResult, WhenBusy},
};

fn item_completed(lab: &mut Lab, item: Value) {
    lab.notify("item/completed", json!({"threadId": "T", "turnId": "U", "item": item, "completedAtMs": 5}));
}

fn item_started(lab: &mut Lab, item: Value) {
    lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": item, "startedAtMs": 4}));
}

fn end(lab: &mut Lab, status: &str) {
    let (method, params) = completed("T", "U", status);
    lab.notify(method, params);
}

fn started(lab: &mut Lab) {
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
}

fn result(lab: &mut Lab, key: TurnKey) -> Result<TurnResult, TurnError> {
    lab.connection.take_report(key).expect("the turn ended").expect("the turn started").into_result()
}

#[test]
fn tu_01_a_result_has_text_items_usage_timing_and_ids() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    started(&mut lab);
    item_started(&mut lab, message("m1", "", None));
    item_completed(&mut lab, message("m1", "Hello.", None));
    // The thread had used 100 input tokens before; the turn asks the model twice.
    for (total, last) in [([110, 40, 5, 1], [10, 4, 5, 1]), ([130, 50, 11, 2], [20, 10, 6, 1])] {
        let (method, params) = usage("T", "U", total, last);
        lab.notify(method, params);
    }
    end(&mut lab, "completed");
    let result = result(&mut lab, key).expect("completed");
    assert_eq!((result.thread_id.as_str(), result.turn_id.as_ref().map(|id| id.as_str())), ("T", Some("U")));
    assert_eq!((result.status, result.final_response.as_deref()), (State::Completed, Some("Hello.")));
    assert_eq!(result.items.len(), 1);
    assert_eq!((result.started_at, result.completed_at, result.duration_ms), (Some(100), Some(101), Some(1234)));
    let usage = result.usage.expect("reported");
    assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens), (30, 14, 11));
    assert_eq!((usage.reasoning_output_tokens, usage.total_tokens, usage.reports), (2, 41, 2));
    assert_eq!(usage.context_window, Some(258_400));
}

#[test]
fn in_13_without_a_report_there_is_no_usage() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    end(&mut lab, "completed");
    assert!(result(&mut lab, key).expect("completed").usage.is_none());
}

#[test]
fn tu_02_a_stream_begins_with_the_start_and_ends_after_the_end() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    started(&mut lab);
    item_started(&mut lab, message("m", "", None));
    for text in ["He", "llo"] {
        let (method, params) = delta("T", "U", "m", text);
        lab.notify(method, params);
    }
    item_completed(&mut lab, message("m", "Hello", None));
    end(&mut lab, "completed");
    assert_eq!(
        lab.read(reader),
        [
            "turn/started",
            "item/started m",
            "delta m He",
            "delta m llo",
            "item/completed m",
            "turn/completed",
            "ended Completed",
            "finished"
        ]
    );
}

#[test]
fn tu_03_events_before_the_answer_are_delivered_in_order_the_last_one_included() {
    let mut lab = Lab::ready();
    let (key, reader, id) = lab.start_turn("T");
    started(&mut lab);
    let (method, params) = delta("T", "U", "m", "early");
    lab.notify(method, params);
    // Another client's turn on the same thread is not ours.
    let (method, params) = delta("T", "other", "m", "not ours");
    lab.notify(method, params);
    lab.say(json!({"method": "item/fileChange/requestApproval", "id": 0,
        "params": {"threadId": "T", "turnId": "U", "itemId": "f"}}));
    item_completed(&mut lab, message("m", "early", None));
    end(&mut lab, "completed");
    assert!(lab.read(reader).is_empty(), "nothing is known to be ours yet");
    assert_eq!(lab.connection.turn_state(key), Some(State::Starting));
    lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress"}}}));
    assert_eq!(
        lab.read(reader),
        [
            "turn/started",
            "delta m early",
            "refused item/fileChange/requestApproval",
            "item/completed m",
            "turn/completed",
            "ended Completed",
            "finished"
        ]
    );
    assert_eq!(result(&mut lab, key).expect("completed").final_response.as_deref(), Some("early"));
    lab.connection.release_turn(key);
    lab.assert_quiet();
}

#[test]
fn what_is_parked_is_bounded_and_the_end_is_kept() {
    let mut config = Config::default();
    config.limits.max_parked_events = 10;
    let mut lab = Lab::ready_with(config);
    let (_, reader, id) = lab.start_turn("T");
    for n in 0..100 {
        let (method, params) = delta("T", "U", "m", &n.to_string());
        lab.notify(method, params);
    }
    end(&mut lab, "completed");
    lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress"}}}));
    let seen = lab.read(reader);
    assert_eq!(seen.iter().filter(|event| event.starts_with("delta")).count(), 10);
    assert!(seen.contains(&"ended Completed".to_string()), "{seen:?}");
    assert_eq!(lab.connection.counters().left_out, 90);
}

#[test]
fn tu_05_the_final_answer_is_the_message_of_that_phase_in_either_order() {
    for reversed in [false, true] {
        let mut lab = Lab::ready();
        let (key, _) = lab.turn("T", "U");
        let mut messages =
            vec![message("m1", "thinking", Some("commentary")), message("m2", "the answer", Some("final_answer"))];
        if reversed {
            messages.reverse();
        }
        for message in messages {
            item_completed(&mut lab, message);
        }
        end(&mut lab, "completed");
        let result = result(&mut lab, key).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("the answer"), "reversed: {reversed}");
        assert_eq!(result.items.len(), 2);
    }
}

#[test]
fn without_phases_the_last_message_counts_and_commentary_alone_is_no_answer() {
    for (messages, expected) in [
        (vec![message("m1", "first", None), message("m2", "", None)], Some("")),
        (vec![message("m1", "only talk", Some("commentary"))], None),
        (vec![message("m1", "plain", None), message("m2", "talk", Some("commentary"))], Some("plain")),
        (vec![], None),
    ] {
        let mut lab = Lab::ready();
        let (key, _) = lab.turn("T", "U");
        for message in messages {
            item_completed(&mut lab, message);
        }
        end(&mut lab, "completed");
        assert_eq!(result(&mut lab, key).expect("completed").final_response.as_deref(), expected);
    }
}

#[test]
fn tu_07_a_failed_turn_is_an_error_that_keeps_what_was_produced() {
    let mut lab = Lab::ready();
    let (key, reader) = lab.turn("T", "U");
    item_completed(&mut lab, message("m", "so far", None));
    let (method, params) = usage("T", "U", [10, 0, 5, 0], [10, 0, 5, 0]);
    lab.notify(method, params);
    let error = json!({"message": "unexpected status 503", "additionalDetails": null,
        "codexErrorInfo": {"httpConnectionFailed": {"httpStatusCode": 503}}});
    lab.notify("error", json!({"threadId": "T", "turnId": "U", "willRetry": false, "error": error}));
    lab.notify(
        "turn/completed",
        json!({"threadId": "T",
        "turn": {"id": "U", "status": "failed", "items": [], "error": error}}),
    );
    let Err(TurnError::Failed(report)) = result(&mut lab, key) else { panic!("failed") };
    assert_eq!(report.error_message(), Some("unexpected status 503"));
    let info = report.error.as_ref().and_then(|error| error.codex_error_info.as_ref());
    let Some(CodexErrorInfo::HttpConnectionFailed(failed)) = info else { panic!("{info:?}") };
    assert_eq!(failed.http_status_code, Some(503));
    assert_eq!(report.items.len(), 1);
    assert_eq!(report.usage.map(|usage| usage.total_tokens), Some(15));
    assert_eq!(lab.read(reader).last().map(String::as_str), Some("finished"));
}

#[test]
fn tu_08_an_error_that_is_retried_is_progress() {
    let mut lab = Lab::ready();
    let (key, reader) = lab.turn("T", "U");
    lab.notify(
        "error",
        json!({"threadId": "T", "turnId": "U", "willRetry": true,
        "error": {"message": "Reconnecting... 1/2", "codexErrorInfo": null}}),
    );
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    assert_eq!(lab.read(reader), ["error"]);
    item_completed(&mut lab, message("m", "fine", None));
    end(&mut lab, "completed");
    let result = result(&mut lab, key).expect("a success");
    assert!(result.error.is_none());
}

#[test]
fn tu_11_a_status_that_is_unknown_or_missing_is_never_a_success() {
    for (status, told) in
        [(json!("paused"), "paused"), (json!(null), ""), (json!(7), ""), (json!("inProgress"), "inProgress")]
    {
        let mut lab = Lab::ready();
        let (key, _) = lab.turn("T", "U");
        lab.notify("turn/completed", json!({"threadId": "T", "turn": {"id": "U", "status": status, "items": []}}));
        let Err(TurnError::UnknownStatus { status, .. }) = result(&mut lab, key) else { panic!("unknown") };
        assert_eq!(&*status, told);
    }
}

#[test]
fn tu_12_items_come_from_their_completions_in_the_order_of_first_sight() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    item_started(&mut lab, json!({"type": "commandExecution", "id": "c", "command": "ls", "status": "inProgress"}));
    item_started(&mut lab, message("abandoned", "", None));
    let (method, params) = delta("T", "U", "m", "Done");
    lab.notify(method, params);
    item_completed(&mut lab, message("m", "Done.", None));
    item_completed(&mut lab, json!({"type": "commandExecution", "id": "c", "command": "ls", "status": "completed"}));
    end(&mut lab, "completed");
    let result = result(&mut lab, key).expect("completed");
    let ids: Vec<_> = result.items.iter().filter_map(|item| item.id()).map(|id| id.as_str()).collect();
    assert_eq!(ids, ["c", "m"], "an item that was never completed is none");
}

#[test]
fn an_item_that_only_the_end_knows_is_added_once() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    item_completed(&mut lab, message("m1", "seen", None));
    let items = json!([message("m1", "seen", None), message("m2", "only here", None)]);
    lab.notify("turn/completed", json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": items}}));
    let result = result(&mut lab, key).expect("completed");
    assert_eq!((result.items.len(), result.final_response.as_deref()), (2, Some("only here")));
}

#[test]
fn a_second_turn_on_a_thread_is_refused_while_the_first_runs_and_nothing_is_sent() {
    let mut lab = Lab::ready();
    let (_key, _) = lab.turn("T", "U");
    let params = TurnStart::new("T", [UserInput::text("x")]);
    let error = lab.connection.start_turn(lab.now, &params, &TurnOptions::default()).expect_err("busy");
    assert!(matches!(error, TurnError::Busy(thread) if thread == "T"));
    assert!(lab.sent().is_empty());
    end(&mut lab, "completed");
    lab.turn("T", "V");
}

#[test]
fn a_start_that_names_a_turn_already_running_says_that_it_joined() {
    let mut lab = Lab::ready();
    let _reader = lab.connection.subscribe(Scope::Thread("T".into()));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    let params = TurnStart::new("T", [UserInput::text("Hello")]);
    let options = TurnOptions::default().when_busy(WhenBusy::Join);
    let key = lab.connection.start_turn(lab.now, &params, &options).expect("starts");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
    assert!(lab.connection.turn_joined(key));
    end(&mut lab, "completed");
    assert!(result(&mut lab, key).expect("completed").joined);
    let (key, _) = lab.turn("T", "V");
    assert!(!lab.connection.turn_joined(key));
}

#[test]
fn a_start_that_is_refused_has_the_servers_error_and_frees_the_thread() {
    let mut lab = Lab::ready();
    let (key, reader, id) = lab.start_turn("T");
    lab.say(json!({"error": {"code": -32600, "message": "thread not found: T"}, "id": id}));
    assert_eq!(lab.read(reader), ["ended NotStarted", "finished"]);
    let error: CallError = lab.connection.take_report(key).expect("ended").expect_err("not started");
    assert_eq!(error.rpc().map(|rpc| rpc.code), Some(-32600));
    lab.connection.release_turn(key);
    lab.assert_quiet();
    lab.turn("T", "U");
}

#[test]
fn a_start_whose_answer_names_no_turn_is_a_decode_error() {
    let mut lab = Lab::ready();
    let (key, _, id) = lab.start_turn("T");
    lab.say(json!({"id": id, "result": {"turn": {"status": "inProgress"}}}));
    let error = lab.connection.take_report(key).expect("ended").expect_err("no turn");
    assert!(error.to_string().contains("turn.id"), "{error}");
}

#[test]
fn st_01_a_steer_names_the_turn_and_returns_its_id() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    let steer = lab.connection.steer(lab.now, key, vec![UserInput::text("By train.")]).expect("steers");
    let line = lab.sent_one();
    assert_eq!(line["method"], "turn/steer");
    assert_eq!((&line["params"]["threadId"], &line["params"]["expectedTurnId"]), (&json!("T"), &json!("U")));
    assert_eq!(line["params"]["input"][0]["text"], "By train.");
    lab.say(json!({"id": line["id"], "result": {"turnId": "U"}}));
    let id = lab.connection.take_steer(&steer, &"U".into()).expect("answered").expect("taken");
    assert_eq!(id, "U");
}

#[test]
fn a_steer_before_the_turn_is_named_is_held_and_sent_then() {
    let mut lab = Lab::ready();
    let (key, _, id) = lab.start_turn("T");
    let _steer = lab.connection.steer(lab.now, key, vec![UserInput::text("more")]).expect("steers");
    assert!(lab.sent().is_empty());
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    assert_eq!(lab.sent_one()["params"]["expectedTurnId"], "U");
}

#[test]
fn a_steer_of_a_turn_that_is_over_is_told_without_asking() {
    let mut lab = Lab::ready();
    let (key, _, id) = lab.start_turn("T");
    let held = lab.connection.steer(lab.now, key, vec![UserInput::text("more")]).expect("steers");
    lab.say(json!({"error": {"code": -32600, "message": "no"}, "id": id}));
    let outcome = lab.connection.take_steer(&held, &"".into()).expect("has its outcome");
    assert!(matches!(outcome, Err(SteerError::Ended)));
    let again = lab.connection.steer(lab.now, key, vec![UserInput::text("more")]);
    assert!(matches!(again, Err(SteerError::Ended)));
    assert!(lab.sent().is_empty());
}

#[test]
fn st_07_an_interrupt_ends_the_turn_and_the_thread_runs_again() {
    let mut lab = Lab::ready();
    let (key, reader) = lab.turn("T", "U");
    started(&mut lab);
    lab.connection.interrupt(lab.now, key).expect("known");
    let line = lab.sent_one();
    assert_eq!(
        (&line["method"], &line["params"]),
        (&json!("turn/interrupt"), &json!({"threadId": "T", "turnId": "U"}))
    );
    lab.connection.interrupt(lab.now, key).expect("known");
    assert!(lab.sent().is_empty(), "the server never answers a second one");
    lab.say(json!({"id": line["id"], "result": {}}));
    assert_eq!(lab.connection.interrupt_outcome(key).expect("settled").expect("taken"), InterruptOutcome::Acknowledged);
    assert_eq!(lab.connection.turn_state(key), Some(State::Interrupting));
    end(&mut lab, "interrupted");
    assert_eq!(lab.read(reader), ["turn/started", "turn/completed", "ended Interrupted", "finished"]);
    assert_eq!(result(&mut lab, key).expect("interrupted is no error").status, State::Interrupted);
    lab.turn("T", "V");
}

#[test]
fn an_interrupt_is_held_until_there_is_evidence_that_the_turn_runs() {
    let evidence: [fn(&mut Lab); 3] = [
        started,
        |lab| item_started(lab, message("m", "", None)),
        |lab| {
            lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "other", "rootTurnId": "U"}}));
        },
    ];
    for evidence in evidence {
        let mut lab = Lab::ready();
        let (key, _, id) = lab.start_turn("T");
        lab.connection.interrupt(lab.now, key).expect("known");
        lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
        assert!(lab.sent().is_empty(), "sent now, it would be refused and lost");
        evidence(&mut lab);
        assert_eq!(lab.sent_one()["method"], "turn/interrupt");
    }
}

#[test]
fn an_interrupt_that_came_too_early_after_all_is_sent_again_at_the_next_sign_of_life() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    started(&mut lab);
    lab.connection.interrupt(lab.now, key).expect("known");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"error": {"code": -32600, "message": "no active turn to interrupt"}, "id": id}));
    assert!(lab.connection.interrupt_outcome(key).is_none());
    item_started(&mut lab, message("m", "", None));
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
}

#[test]
fn an_interrupt_that_is_refused_as_too_early_each_time_is_sent_again_three_times() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    started(&mut lab);
    lab.connection.interrupt(lab.now, key).expect("known");
    for attempt in 0..=3 {
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"error": {"code": -32600, "message": "no active turn to interrupt"}, "id": id}));
        assert_eq!(lab.connection.interrupt_outcome(key).is_some(), attempt == 3, "{attempt}");
        item_started(&mut lab, message("m", "", None));
    }
    assert!(lab.sent().is_empty());
}

#[test]
fn an_interrupt_that_the_end_overtakes_is_told_apart() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    started(&mut lab);
    lab.connection.interrupt(lab.now, key).expect("known");
    lab.sent();
    end(&mut lab, "completed");
    assert_eq!(lab.connection.interrupt_outcome(key).expect("settled").expect("fine"), InterruptOutcome::AlreadyEnded);
    assert_eq!(result(&mut lab, key).expect("completed").status, State::Completed);
    lab.connection.release_turn(key);
    // The server may still answer the interrupt; it is not waited for longer than any other answer.
    lab.pass(Duration::from_secs(61));
    lab.assert_quiet();
}

#[test]
fn st_08_an_interrupt_that_is_never_acknowledged_ends_at_its_own_bound() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    started(&mut lab);
    lab.connection.interrupt(lab.now, key).expect("known");
    lab.sent();
    lab.pass(Duration::from_secs(31));
    let error = lab.connection.interrupt_outcome(key).expect("settled").expect_err("timed out");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(lab.connection.turn_state(key), Some(State::Interrupting), "the turn is not touched by that");
}

#[test]
fn a_deadline_ends_the_turn_here_stops_it_there_and_keeps_the_thread_busy_until_then() {
    let mut lab = Lab::ready();
    let params = TurnStart::new("T", [UserInput::text("x")]);
    let options = TurnOptions::default().deadline(Duration::from_secs(10));
    let key = lab.connection.start_turn(lab.now, &params, &options).expect("starts");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    started(&mut lab);
    item_completed(&mut lab, message("m", "so far", None));
    lab.pass(Duration::from_secs(10));
    let Err(TurnError::TimedOut { limit, report }) = result(&mut lab, key) else { panic!("timed out") };
    assert_eq!((limit, report.items.len()), (Duration::from_secs(10), 1));
    let interrupt = lab.sent_one();
    assert_eq!(interrupt["method"], "turn/interrupt");
    let busy = lab.connection.start_turn(lab.now, &params, &TurnOptions::default());
    assert!(matches!(busy, Err(TurnError::Busy(_))));
    lab.connection.release_turn(key);
    lab.say(json!({"id": interrupt["id"], "result": {}}));
    end(&mut lab, "interrupted");
    lab.assert_quiet();
    lab.turn("T", "V");
}

#[test]
fn st_12_two_interleaved_turns_get_their_own_events_in_order() {
    let mut lab = Lab::ready();
    let (_, first) = lab.turn("A", "U1");
    let (_, second) = lab.turn("B", "U2");
    for n in 0..20 {
        for (thread, turn) in [("A", "U1"), ("B", "U2")] {
            let (method, params) = delta(thread, turn, "m", &format!("{thread}{n}"));
            lab.notify(method, params);
        }
    }
    for (thread, turn) in [("B", "U2"), ("A", "U1")] {
        let (method, params) = completed(thread, turn, "completed");
        lab.notify(method, params);
    }
    for (reader, name) in [(first, "A"), (second, "B")] {
        let mut expected: Vec<String> = (0..20).map(|n| format!("delta m {name}{n}")).collect();
        expected.extend(["turn/completed", "ended Completed", "finished"].map(String::from));
        assert_eq!(lab.read(reader), expected);
    }
}

#[test]
fn st_13_sixteen_threads_at_once_all_complete_in_their_own_order() {
    let mut lab = Lab::ready();
    let turns: Vec<_> = (0..16).map(|n| lab.turn(&format!("T{n}"), &format!("U{n}"))).collect();
    for step in 0..5 {
        for n in (0..16).rev() {
            let (method, params) = delta(&format!("T{n}"), &format!("U{n}"), "m", &step.to_string());
            lab.notify(method, params);
        }
    }
    for n in 0..16 {
        let (method, params) = completed(&format!("T{n}"), &format!("U{n}"), "completed");
        lab.notify(method, params);
    }
    for (key, reader) in turns {
        let seen = lab.read(reader);
        assert_eq!(seen[..5], ["delta m 0", "delta m 1", "delta m 2", "delta m 3", "delta m 4"]);
        assert!(result(&mut lab, key).is_ok());
        lab.connection.release_turn(key);
    }
    lab.assert_quiet();
}

#[test]
fn st_15_a_request_is_answered_while_a_turn_streams() {
    let mut lab = Lab::ready();
    let (_, _reader) = lab.turn("T", "U");
    let models = lab.connection.request_raw(lab.now, "model/list", &json!({})).expect("queued");
    let id = lab.sent_one()["id"].clone();
    for n in 0..1000 {
        let (method, params) = delta("T", "U", "m", "x");
        lab.notify(method, params);
        if n == 500 {
            lab.say(json!({"id": id, "result": {"data": []}}));
            assert!(lab.events.contains(&Event::Response(models.key())), "no need to read the turn first");
        }
    }
    assert!(lab.connection.take_raw(&models).expect("answered").is_ok());
}

#[test]
fn events_of_a_background_command_after_the_end_go_to_the_thread() {
    let mut lab = Lab::ready();
    let thread = lab.connection.subscribe(Scope::Thread("T".into()));
    let (key, reader) = lab.turn("T", "U");
    end(&mut lab, "completed");
    lab.read(thread);
    lab.notify(
        "item/commandExecution/outputDelta",
        json!({"threadId": "T", "turnId": "U", "itemId": "c", "delta": "late output"}),
    );
    assert_eq!(lab.read(thread), ["delta c late output"]);
    assert_eq!(lab.read(reader), ["turn/completed", "ended Completed", "finished"]);
    assert!(result(&mut lab, key).is_ok());
}

#[test]
fn dr_03_a_delta_with_members_that_nobody_knows_keeps_them() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    lab.notify(
        "item/agentMessage/delta",
        json!({"threadId": "T", "turnId": "U", "itemId": "m", "delta": "x", "brandNew": [1]}),
    );
    let (method, params) = delta("T", "U", "m", "y");
    lab.notify(method, params);
    let raw = |lab: &mut Lab| match lab.connection.next_event(reader) {
        Next::Event(RawEvent::Delta(delta)) => delta.raw,
        other => panic!("{other:?}"),
    };
    assert!(raw(&mut lab).expect("kept").as_str().contains("brandNew"));
    assert!(raw(&mut lab).is_none(), "there is nothing more to know");
}

#[test]
fn bp_05_merged_deltas_are_byte_exact_and_counted() {
    let mut config = Config::default();
    config.limits.merge_after = Some(4);
    let mut lab = Lab::ready_with(config);
    let (_, reader) = lab.turn("T", "U");
    let mut expected = String::new();
    for n in 0..1000 {
        let text = format!("{n} ü🎉 ");
        expected.push_str(&text);
        let (method, params) = delta("T", "U", "m", &text);
        lab.notify(method, params);
    }
    let (mut seen, mut merged, mut text) = (0, 0, String::new());
    while let Next::Event(RawEvent::Delta(delta)) = lab.connection.next_event(reader) {
        seen += 1;
        merged += delta.merged;
        text.push_str(&delta.text);
    }
    assert!(seen <= 5, "{seen} events");
    assert_eq!(text, expected);
    assert_eq!((merged, lab.connection.counters().merged), (1000 - seen, 1000 - seen));
}

#[test]
fn bp_05_only_adjacent_deltas_of_one_item_merge_and_nothing_overtakes_them() {
    let mut config = Config::default();
    config.limits.merge_after = Some(1);
    let mut lab = Lab::ready_with(config);
    let (_, reader) = lab.turn("T", "U");
    for _ in 0..2 {
        for (item, text) in [("a", "1"), ("a", "2"), ("b", "3"), ("b", "4"), ("a", "5")] {
            let (method, params) = delta("T", "U", item, text);
            lab.notify(method, params);
        }
        item_started(&mut lab, message("c", "", None));
    }
    let once = ["delta a 12", "delta b 34", "delta a 5", "item/started c"];
    assert_eq!(lab.read(reader), [once, once].concat());
}
