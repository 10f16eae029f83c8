//! What mutants of the core showed that nobody looked at.

use crate::lab::{Lab, completed, delta, report};
use serde_json::json;
use std::{collections::VecDeque, time::Duration};
use turnwire_core::{
    connection::{AskKind, Config, Connection, Event, Running, Scope, Tried},
    error::{DisconnectReason, TurnError},
    frame::Framer,
    protocol::ModelList,
    time::Time,
    turn::{DeltaKind, DiagnosticKind, Next, RawEvent},
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

/// The handshake's answer, of a server of this version.
fn hello(version: &str) -> Vec<u8> {
    let result = json!({"userAgent": format!("lab/{version} (Linux)"), "codexHome": "/h", "platformFamily": "unix",
        "platformOs": "linux"});
    format!("{}\n", json!({"id": 1, "result": result})).into_bytes()
}

fn diagnosed(connection: &Connection) -> Vec<DiagnosticKind> {
    connection.diagnostics().map(|diagnostic| diagnostic.kind).collect()
}

#[test]
fn a_connection_without_a_server_wants_one_when_there_is_work_and_until_it_has_begun() {
    let later = Time::ZERO + Duration::from_secs(1);
    let work: [&dyn Fn(&mut Connection); 3] = [
        &|connection| drop(connection.request(Time::ZERO, &ModelList::new()).expect("it waits")),
        &|connection| connection.notify("a/b", &json!({})).expect("it waits"),
        &|connection| _ = connection.alarm(Time::ZERO, later),
    ];
    for work in work {
        let mut connection = Connection::unstarted(Config::default());
        assert!(connection.is_idle() && !connection.wants_begin(), "nothing is asked of it");
        work(&mut connection);
        assert!(connection.is_idle() && connection.wants_begin());
        connection.begin(Time::ZERO);
        assert!(!connection.is_idle() && !connection.wants_begin(), "it has begun");
    }
}

#[test]
fn whether_an_exit_is_waited_for_is_known_when_the_server_is_launched() {
    for expects_exit in [false, true] {
        let mut connection = Connection::unstarted(Config::default());
        connection.begin(Time::ZERO);
        connection.handle_launched(expects_exit);
        connection.handle_eof(Time::ZERO);
        assert_eq!(connection.closed().is_none(), expects_exit);
        assert_eq!(connection.ending().map(|cause| cause.reason().clone()), Some(DisconnectReason::Eof));

        // Closed while it was launched: what is there to be ended is waited for.
        let mut connection = Connection::unstarted(Config::default());
        connection.begin(Time::ZERO);
        assert!(connection.ending().is_none());
        connection.close(Time::ZERO, Duration::from_secs(1));
        assert!(connection.closed().is_none() && connection.ending().is_some());
        connection.handle_launched(expects_exit);
        assert_eq!(connection.closed().is_none(), expects_exit);
    }
}

#[test]
fn a_home_that_was_named_while_it_connected_is_compared_with_the_servers() {
    for (home, expected) in [("/h", vec![]), ("/other", vec![DiagnosticKind::OtherHome])] {
        let mut connection = Connection::new(Time::ZERO, Config::default());
        connection.expect_home(home.into());
        connection.poll_transmit(Time::ZERO, &mut Vec::new());
        connection.handle_input(Time::ZERO, &hello("0.163.0"));
        assert_eq!(diagnosed(&connection), expected, "{home}");
    }
}

#[test]
fn a_server_is_tried_from_the_oldest_version_to_any_of_the_newest_ones_fixes() {
    let versions = [
        ("0.132.9", Tried::Older),
        ("0.133.0", Tried::Yes),
        ("0.163.0", Tried::Yes),
        ("0.163.9", Tried::Yes),
        ("0.164.0", Tried::Newer),
        ("1.0.0", Tried::Newer),
        ("dev", Tried::Unknown),
    ];
    for (version, expected) in versions {
        let mut connection = Connection::new(Time::ZERO, Config::default());
        connection.poll_transmit(Time::ZERO, &mut Vec::new());
        connection.handle_input(Time::ZERO, &hello(version));
        assert_eq!(connection.server().expect("it is ready").tried(), expected, "{version}");
        let is_told = diagnosed(&connection) == [DiagnosticKind::UntriedVersion];
        assert_eq!(is_told, expected != Tried::Yes, "{version}");
    }
}

#[test]
fn the_configuration_can_be_read_as_it_was_given() {
    let mut config = Config::default();
    config.limits.max_line = 12_345;
    assert_eq!(Lab::ready_with(config).connection.config().limits.max_line, 12_345);
}

#[test]
fn an_answer_to_what_was_given_up_is_late_whether_or_not_its_end_was_fetched() {
    let mut lab = Lab::ready();
    let models = lab.connection.request(lab.now, &ModelList::new()).expect("it is sent");
    let id = lab.sent_one()["id"].clone();
    lab.pass(lab.connection.config().timeouts.reply);
    lab.say(json!({"id": id, "result": {}}));
    let counters = lab.connection.counters();
    assert_eq!((counters.late, counters.duplicate), (1, 0), "it ran out of time");
    assert!(lab.connection.take_response(&models).expect("it has ended").is_err());

    let models = lab.connection.request(lab.now, &ModelList::new()).expect("it is sent");
    let id = lab.sent_one()["id"].clone();
    lab.connection.abandon(models.key());
    lab.say(json!({"id": id, "result": {}}));
    let counters = lab.connection.counters();
    assert_eq!((counters.late, counters.duplicate), (2, 0), "nobody wants it any more");
    lab.assert_quiet();
}

#[test]
fn the_last_256_requests_that_ran_out_of_time_are_remembered() {
    let mut config = Config::default();
    config.limits.max_in_flight = 300;
    let mut lab = Lab::ready_with(config);
    for _ in 0..257 {
        let _ = lab.connection.request(lab.now, &ModelList::new()).expect("it is sent");
    }
    let ids: Vec<_> = lab.sent().into_iter().map(|line| line["id"].clone()).collect();
    lab.pass(lab.connection.config().timeouts.reply);
    let ended: Vec<_> = lab.events.drain(..).collect();
    for event in ended {
        if let Event::Response(key) = event {
            assert!(lab.connection.take_json(key).expect("it has ended").is_err());
        }
    }
    for (place, expected) in [(0, (0, 1)), (1, (1, 1)), (256, (2, 1))] {
        lab.say(json!({"id": ids[place], "result": {}}));
        let counters = lab.connection.counters();
        assert_eq!((counters.late, counters.duplicate), expected, "the answer to number {place}");
    }
}

#[test]
fn a_turn_whose_start_was_never_answered_was_seen_if_anything_came_for_its_thread() {
    let mut crammed = Config::default();
    crammed.limits.max_parked_events = 0;
    for (config, says, expected) in
        [(Config::default(), false, false), (Config::default(), true, true), (crammed, true, true)]
    {
        let mut lab = Lab::ready_with(config);
        let (turn, _, id) = lab.start_turn("T");
        if says {
            let (method, params) = delta("T", "U", "i", "text");
            lab.notify(method, params);
        }
        lab.say(json!({"id": id, "error": {"code": -32603, "message": "no"}}));
        assert_eq!(lab.connection.turn_was_seen(turn), expected);
    }
    let mut lab = Lab::ready();
    let (turn, _) = lab.turn("T", "U");
    assert!(lab.connection.turn_was_seen(turn), "the server has named it");
}

#[test]
fn deltas_that_come_before_a_turns_name_fill_half_of_the_bound_and_no_more() {
    let line = |text: &str| {
        let (method, params) = delta("T", "U", "i", text);
        json!({"method": method, "params": params})
    };
    // As long as what the connection sees: without the line's end.
    let length = line("a").to_string().len();
    for (bound, expected) in
        [(4 * length, vec!["delta i a", "delta i b", "gap 1"]), (4 * length - 1, vec!["delta i a", "gap 2"])]
    {
        let mut config = Config::default();
        config.limits.max_unread_bytes = bound;
        config.limits.merge_after = None;
        let mut lab = Lab::ready_with(config);
        let (_, reader, id) = lab.start_turn("T");
        for text in ["a", "b", "c"] {
            lab.say(line(text));
        }
        lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
        let heard: Vec<_> = lab.read(reader).into_iter().take(expected.len()).collect();
        assert_eq!(heard, expected, "{bound}");
    }
}

#[test]
fn a_delta_shows_its_size_and_not_its_text() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    let (method, params) = delta("T", "U", "item", "secret");
    lab.notify(method, params);
    let Next::Event(event) = lab.connection.next_event(reader) else { panic!("it came") };
    let shown = format!("{event:?}");
    assert!(shown.contains("6 bytes") && shown.contains("item") && !shown.contains("secret"), "{shown}");
    let models = lab.connection.request(lab.now, &ModelList::new()).expect("it is sent");
    assert_eq!(format!("{models:?}"), "Pending(3)");
}

#[test]
fn what_is_merged_and_left_out_for_a_follower_of_a_tree_is_counted() {
    let mut config = Config::default();
    config.limits.merge_after = Some(1);
    let mut lab = Lab::ready_with(config);
    lab.connection.subscribe(Scope::Tree("P".into()));
    for text in ["a", "b", "c"] {
        let (method, params) = delta("P", "U", "i", text);
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.counters().merged, 2);
}

#[test]
fn what_comes_from_threads_that_may_be_a_trees_is_kept_up_to_the_bound_in_bytes() {
    let stray = |lab: &mut Lab| {
        let (method, params) = delta("stranger", "V", "i", "text");
        lab.notify(method, params);
    };
    let following = |bound: Option<usize>| {
        let mut config = Config::default();
        config.limits.max_unread_bytes = bound.unwrap_or(config.limits.max_unread_bytes);
        let mut lab = Lab::ready_with(config);
        lab.connection.subscribe(Scope::Tree("P".into()));
        lab
    };
    let mut lab = following(None);
    stray(&mut lab);
    let each = lab.connection.counters().unread_bytes;
    let mut lab = following(Some(2 * each));
    for left_out in [0, 0, 1, 2] {
        stray(&mut lab);
        assert_eq!(lab.connection.counters().left_out, left_out);
    }
    assert_eq!(lab.connection.counters().unread_bytes, 2 * each);
}

#[test]
fn an_exit_is_the_cause_that_is_shown_while_the_last_words_are_waited_for() {
    let mut config = Config::default();
    config.expects_exit = true;
    let mut lab = Lab::ready_with(config);
    lab.connection.handle_exit(lab.now, report(Some(3), None, "gone"));
    assert!(lab.connection.closed().is_none(), "its output may not be at its end");
    let cause = lab.connection.ending().expect("it is ending");
    assert_eq!(cause.reason(), &DisconnectReason::Exited);
    assert_eq!(cause.exit().and_then(|exit| exit.status.as_ref()).and_then(|status| status.code), Some(3));
}

#[test]
fn each_kind_of_request_is_known_by_its_method() {
    let methods = [
        "applyPatchApproval",
        "attestation/generate",
        "item/commandExecution/requestApproval",
        "currentTime/read",
        "mcpServer/elicitation/request",
        "execCommandApproval",
        "item/fileChange/requestApproval",
        "item/permissions/requestApproval",
        "account/chatgptAuthTokens/refresh",
        "item/tool/call",
        "something/else",
        "item/tool/requestUserInput",
    ];
    assert_eq!(methods.map(AskKind::of_method), AskKind::ALL);
}

#[test]
fn the_http_status_is_found_in_each_error_that_has_one() {
    for (kind, expected) in [
        ("httpConnectionFailed", Some(503)),
        ("responseStreamConnectionFailed", Some(503)),
        ("responseStreamDisconnected", Some(503)),
        ("responseTooManyFailedAttempts", Some(503)),
        ("somethingElse", None),
    ] {
        let mut lab = Lab::ready();
        let (turn, _) = lab.turn("T", "U");
        let error = json!({"message": "no", "codexErrorInfo": {kind: {"httpStatusCode": 503}}});
        let ended = json!({"id": "U", "status": "failed", "items": [], "error": error});
        lab.notify("turn/completed", json!({"threadId": "T", "turn": ended}));
        let report = lab.connection.take_report(turn).expect("it ended").expect("it started");
        let Err(TurnError::Failed(result)) = report.into_result() else { panic!("{kind}") };
        assert_eq!(result.http_status(), expected, "{kind}");
    }
}

#[test]
fn the_method_of_a_request_is_known_until_its_answer_is_fetched() {
    let mut lab = Lab::ready();
    let models = lab.connection.request(lab.now, &ModelList::new()).expect("it is sent");
    assert_eq!(lab.connection.method_of(models.key()).as_deref(), Some("model/list"));
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"data": [], "nextCursor": null}}));
    lab.connection.take_response(&models).expect("it is there").expect("it fits");
    assert_eq!(lab.connection.method_of(models.key()), None);
}

#[test]
fn what_runs_on_a_thread_is_known_whoever_started_it() {
    let mut lab = Lab::ready();
    let (own, other, idle) = ("T".into(), "O".into(), "I".into());
    let (turn, _) = lab.turn("T", "U");
    lab.notify("turn/started", json!({"threadId": "O", "turn": {"id": "V", "status": "inProgress", "items": []}}));
    assert_eq!(lab.connection.running(&own), Some(Running::Ours(turn)));
    assert_eq!(lab.connection.running(&other), Some(Running::Other("V".into())));
    assert_eq!(lab.connection.running(&idle), None);
    let ids = [&own, &other, &idle].map(|thread| lab.connection.running_turn(thread).map(ToString::to_string));
    assert_eq!(ids, [Some("U".to_owned()), Some("V".to_owned()), None]);
    // That a thread is busy is said of turns of this connection only.
    assert_eq!([&own, &other, &idle].map(|thread| lab.connection.is_thread_busy(thread)), [true, false, false]);
    for (thread, turn) in [("T", "U"), ("O", "V")] {
        let (method, params) = completed(thread, turn, "completed");
        lab.notify(method, params);
    }
    assert_eq!([&own, &other].map(|thread| lab.connection.running(thread)), [None, None]);
    assert_eq!([&own, &other].map(|thread| lab.connection.is_thread_busy(thread)), [false, false]);
}

#[test]
fn the_threads_that_are_held_are_counted() {
    let mut lab = Lab::ready();
    let one = lab.connection.subscribe(Scope::Thread("A".into()));
    lab.connection.subscribe(Scope::Thread("B".into()));
    assert_eq!(lab.connection.counters().threads, 2);
    lab.connection.unsubscribe(one);
    assert_eq!(lab.connection.counters().threads, 1);
}

#[test]
fn answers_that_wait_for_a_server_that_does_not_read_may_be_as_many_as_the_bound_and_no_more() {
    let ask = |lab: &mut Lab, id: u32| {
        let params = json!({"threadId": "T", "turnId": "U", "itemId": "i"});
        lab.say(json!({"id": id, "method": "item/fileChange/requestApproval", "params": params}));
    };
    let mut lab = Lab::ready();
    ask(&mut lab, 10);
    let mut out = Vec::new();
    lab.connection.poll_transmit(lab.now, &mut out);
    let mut config = Config::default();
    config.limits.max_unsent_bytes = 2 * out.len();
    let mut lab = Lab::ready_with(config);
    ask(&mut lab, 10);
    ask(&mut lab, 11);
    assert!(lab.connection.ending().is_none(), "just as many");
    ask(&mut lab, 12);
    assert!(matches!(lab.connection.ending().map(|cause| cause.reason().clone()), Some(DisconnectReason::Protocol(_))));
}

#[test]
fn many_events_are_taken_at_once_up_to_a_mebibyte_and_the_end_comes_with_the_last() {
    let text = "x".repeat(400_000);
    let mut config = Config::default();
    config.limits.merge_after = None;
    let mut lab = Lab::ready_with(config);
    let (_, reader) = lab.turn("T", "U");
    for _ in 0..5 {
        let (method, params) = delta("T", "U", "i", &text);
        lab.notify(method, params);
    }
    let (method, params) = completed("T", "U", "completed");
    lab.notify(method, params);
    let (mut into, mut taken) = (VecDeque::new(), Vec::new());
    let mut held = lab.connection.counters().unread_bytes;
    loop {
        let is_over = lab.connection.take_events(reader, &mut into);
        taken.push(into.len());
        held -= into.drain(..).map(|event| event.size()).sum::<usize>();
        assert_eq!(lab.connection.counters().unread_bytes, held, "what was taken is not held any more");
        if is_over {
            break;
        }
    }
    // Three pieces pass the mebibyte; then come two, `turn/completed` and the end.
    assert_eq!((taken, held), (vec![3, 4], 0));
}
