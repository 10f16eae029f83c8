//! What a reading of the machine found: sequences that broke a promise, each as it was.

use crate::lab::{Lab, completed, delta, usage};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{AskKind, Config, Event, ListenFor, LoginEnd, NextAsk, Prepared, Scope},
    envelope::Envelope,
    error::{CallError, DisconnectReason, Fault, TurnError},
    protocol::{CustomReviewTarget, FsReadFile, ReviewStart, ThreadResume, TurnStart, UserInput},
    turn::{InterruptOutcome, Next, RawEvent, RefusedWhy, State, TurnKey, TurnOptions, TurnUsage, WhenBusy},
};

fn started(thread: &str, turn: &str, root: &str) -> Value {
    json!({"threadId": thread, "turn": {"id": turn, "rootTurnId": root, "status": "inProgress", "items": []}})
}

fn start(lab: &mut Lab, options: &TurnOptions) -> TurnKey {
    lab.connection.start_turn(lab.now, &TurnStart::new("T", [UserInput::text("Hello")]), options).expect("starts")
}

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Says a notification that the lab has the parts of.
fn said(lab: &mut Lab, (method, params): (&str, Value)) {
    lab.notify(method, params);
}

/// A connection that sends nothing more before one request is answered.
fn narrow() -> Lab {
    let mut config = Config::default();
    config.limits.max_in_flight = 1;
    let mut lab = Lab::ready_with(config);
    let _ = lab.connection.request(lab.now, &FsReadFile::new("/x")).expect("in flight");
    lab.sent();
    lab
}

/// Asks whether a command may run, for a turn of the thread.
fn ask(lab: &mut Lab, turn: &str) {
    let params = json!({"threadId": "T", "turnId": turn, "itemId": "i"});
    lab.say(json!({"id": 0, "method": "item/commandExecution/requestApproval", "params": params}));
}

#[test]
fn a_compaction_past_its_deadline_is_stopped_when_it_shows_itself() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().deadline(seconds(5));
    let key = lab.connection.start_compaction(lab.now, &"T".into(), &options).expect("starts");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {}}));
    lab.pass(seconds(5));
    assert_eq!(lab.connection.turn_state(key), Some(State::TimedOut));
    assert!(lab.connection.is_thread_busy(&"T".into()), "the server runs it");
    lab.notify("turn/started", started("T", "C", "C"));
    let item = json!({"type": "contextCompaction", "id": "c"});
    lab.notify("item/started", json!({"threadId": "T", "turnId": "C", "item": item}));
    let interrupt = lab.sent_one();
    assert_eq!(interrupt["method"], "turn/interrupt");
    lab.say(json!({"id": interrupt["id"], "result": {}}));
    said(&mut lab, completed("T", "C", "interrupted"));
    assert!(!lab.connection.is_thread_busy(&"T".into()));
    lab.connection.release_turn(key);
    assert!(lab.connection.poll_timeout().is_none(), "no timer is left of it");
}

#[test]
fn what_was_asked_while_a_start_waited_is_refused_when_that_start_is_taken_back() {
    for by_deadline in [false, true] {
        let mut lab = narrow();
        let options = TurnOptions::default();
        let key = start(&mut lab, &if by_deadline { options.deadline(seconds(5)) } else { options });
        let reader = lab.connection.subscribe(Scope::Turn(key));
        lab.connection.ask_reader(key, reader, true);
        lab.notify("turn/started", started("T", "X", "X"));
        ask(&mut lab, "X");
        assert!(lab.sent().is_empty(), "it may be this turn's");
        if by_deadline {
            lab.pass(seconds(5));
        } else {
            lab.connection.unsubscribe(reader);
            lab.connection.drop_turn(lab.now, key);
        }
        assert_eq!(lab.sent_one(), json!({"id": 0, "result": {"decision": "decline"}}), "{by_deadline}");
        assert_eq!(lab.connection.counters().asks, 0);
    }
}

#[test]
fn a_start_that_is_taken_back_ends_for_who_listens_and_leaves_nothing_for_the_next() {
    let mut lab = narrow();
    let thread = lab.connection.subscribe(Scope::Thread("T".into()));
    let key = start(&mut lab, &TurnOptions::default());
    let reader = lab.connection.subscribe(Scope::Turn(key));
    assert!(lab.read(reader).is_empty());
    let steer = lab.connection.steer(lab.now, key, vec![UserInput::text("x")]).expect("held");
    said(&mut lab, delta("T", "X", "i", "somebody else's"));
    lab.collect();
    lab.events.clear();
    lab.connection.drop_turn(lab.now, key);
    lab.collect();
    assert!(lab.events.contains(&Event::Readable(reader)) && lab.events.contains(&Event::Response(steer.key())));
    assert_eq!(lab.read(reader), ["ended NotStarted", "finished"]);
    let answer = lab.connection.take_response(&steer).expect("settled");
    assert!(matches!(answer, Err(CallError { fault: Fault::TurnEnded, .. })), "{answer:?}");
    lab.connection.unsubscribe(reader);
    assert_eq!(lab.connection.counters().turns, 0);
    // The next start on the thread was not seen before it was sent.
    let second = start(&mut lab, &TurnOptions::default());
    lab.connection.handle_eof(lab.now);
    assert!(!lab.connection.turn_was_seen(second));
    lab.connection.unsubscribe(thread);
}

#[test]
fn a_turn_that_was_refused_takes_nothing_of_the_next_one_when_it_is_let_go() {
    let mut lab = Lab::ready();
    let (first, _, id) = lab.start_turn("T");
    lab.say(json!({"id": id, "error": {"code": -32600, "message": "no"}}));
    let (_, reader, id) = lab.start_turn("T");
    lab.notify("turn/started", started("T", "U", "U"));
    lab.connection.release_turn(first);
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    assert_eq!(lab.read(reader).len(), 1, "what came before its name");
}

fn usage_of(lab: &mut Lab, key: TurnKey) -> TurnUsage {
    let report = lab.connection.take_report(key).expect("it ended").expect("it started");
    match report.into_result() {
        Ok(result) => result.usage,
        Err(TurnError::TimedOut { report, .. } | TurnError::Lost { report, .. }) => report.usage,
        Err(other) => panic!("{other:?}"),
    }
    .expect("it used tokens")
}

#[test]
fn tokens_that_are_told_under_a_turns_second_name_are_the_turns() {
    let mut lab = Lab::ready();
    let params = ReviewStart::new("T", CustomReviewTarget::new("x"));
    let key = lab.connection.start_review(lab.now, &params, false, &TurnOptions::default()).expect("starts");
    let id = lab.sent_one()["id"].clone();
    let turn = json!({"id": "R", "status": "inProgress", "items": []});
    lab.say(json!({"id": id, "result": {"turn": turn, "reviewThreadId": "T"}}));
    lab.notify("turn/started", started("T", "S", "R"));
    said(&mut lab, usage("T", "S", [100, 0, 10, 0], [100, 0, 10, 0]));
    said(&mut lab, completed("T", "R", "completed"));
    assert_eq!(usage_of(&mut lab, key).input_tokens, 100);

    let turns = lab.connection.subscribe(Scope::Turns("T2".into()));
    lab.notify("turn/started", started("T2", "S2", "R2"));
    let Next::Event(RawEvent::Turn(key)) = lab.connection.next_event(turns) else { panic!("no turn") };
    said(&mut lab, usage("T2", "R2", [100, 0, 10, 0], [100, 0, 10, 0]));
    said(&mut lab, completed("T2", "R2", "completed"));
    assert_eq!(usage_of(&mut lab, key).input_tokens, 100);
}

#[test]
fn what_a_turn_used_that_ended_here_alone_is_a_lower_bound() {
    for is_lost in [false, true] {
        let mut lab = Lab::ready();
        let key = start(&mut lab, &TurnOptions::default().deadline(seconds(5)));
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
        said(&mut lab, usage("T", "U", [100, 0, 10, 0], [100, 0, 10, 0]));
        if is_lost {
            lab.connection.handle_eof(lab.now);
        } else {
            lab.pass(seconds(5));
        }
        let usage = usage_of(&mut lab, key);
        assert!(usage.is_lower_bound && usage.input_tokens == 100, "{usage:?}");
    }
}

#[test]
fn a_turn_that_never_ran_frees_its_thread_with_or_without_a_deadline() {
    for deadline in [None, Some(seconds(5))] {
        let mut config = Config::default();
        config.assume_version = Some("0.133.0".into());
        let mut lab = Lab::ready_with(config);
        let status = |kind: &str| json!({"threadId": "T", "status": {"type": kind, "activeFlags": []}});
        lab.notify("thread/status/changed", status("active"));
        lab.notify("turn/started", started("T", "U1", "U1"));
        let mut options = TurnOptions::default().when_busy(WhenBusy::Join);
        options.deadline = deadline;
        let key = start(&mut lab, &options);
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": {"turn": {"id": "U2"}}}));
        lab.pass(seconds(6));
        lab.notify("thread/status/changed", status("idle"));
        said(&mut lab, completed("T", "U1", "interrupted"));
        while lab.jump() {}
        lab.connection.drop_turn(lab.now, key);
        let again = lab.connection.start_turn(lab.now, &TurnStart::new("T", ["again"]), &TurnOptions::default());
        assert!(again.is_ok(), "{deadline:?}: {again:?}");
    }
}

#[test]
fn the_beginning_of_a_turn_that_is_said_twice_is_there_as_often_as_it_was_said() {
    let mut lab = Lab::ready();
    let turns = lab.connection.subscribe(Scope::Turns("T".into()));
    lab.notify("turn/started", started("T", "X", "X"));
    lab.notify("turn/started", started("T", "X", "X"));
    let Next::Event(RawEvent::Turn(key)) = lab.connection.next_event(turns) else { panic!("no turn") };
    let reader = lab.connection.claim_turn(key).expect("its events");
    assert_eq!(lab.read(reader).len(), 2);
}

#[test]
fn a_reader_of_its_own_has_the_end_though_the_handle_is_gone() {
    for reads_at_once in [false, true] {
        let mut lab = Lab::ready();
        let (key, reader) = lab.turn("T", "U");
        lab.connection.drop_turn(lab.now, key);
        said(&mut lab, delta("T", "U", "i", "one"));
        let mut seen = if reads_at_once { lab.read(reader) } else { Vec::new() };
        lab.events.clear();
        said(&mut lab, completed("T", "U", "completed"));
        lab.collect();
        assert!(!reads_at_once || lab.events.contains(&Event::Readable(reader)));
        seen.extend(lab.read(reader));
        let last: Vec<&str> = seen.iter().rev().take(2).map(String::as_str).collect();
        assert_eq!((seen[0].as_str(), last), ("delta i one", vec!["finished", "ended Completed"]));
        lab.connection.unsubscribe(reader);
        let left = lab.connection.counters();
        assert_eq!((left.turns, left.subscriptions, left.unread_bytes), (0, 0, 0));
    }
}

#[test]
fn a_thread_that_is_active_again_takes_back_that_it_was_idle() {
    let mut lab = Lab::ready();
    let (key, _) = lab.turn("T", "U");
    lab.notify("turn/started", started("T", "U", "U"));
    let status = |kind: &str| json!({"threadId": "T", "status": {"type": kind, "activeFlags": []}});
    lab.notify("thread/status/changed", status("idle"));
    lab.notify("thread/status/changed", status("active"));
    lab.pass(seconds(60));
    said(&mut lab, completed("T", "U", "completed"));
    assert_eq!(lab.connection.turn_state(key), Some(State::Completed));
}

#[test]
fn who_follows_the_turns_of_a_thread_is_told_that_nothing_more_comes_of_it() {
    let mut lab = Lab::ready();
    let turns = lab.connection.subscribe(Scope::Turns("T".into()));
    let key = lab.connection.enter_unsubscribe(lab.now, "T".into()).expect("queued");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"status": "unsubscribed"}}));
    let _ = lab.connection.take_json(key);
    assert_eq!(lab.read(turns).last().map(String::as_str), Some("finished"));
}

#[test]
fn a_server_that_refuses_to_stop_a_turn_is_asked_again_after_a_pause() {
    let mut lab = Lab::ready();
    let key = start(&mut lab, &TurnOptions::default().deadline(seconds(5)));
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    lab.notify("turn/started", started("T", "U", "U"));
    lab.pass(seconds(5));
    let mut asked = 0;
    for _ in 0..3 {
        for _ in 0..100 {
            for line in lab.sent() {
                asked += 1;
                let error = json!({"code": -32001, "message": "Server overloaded; retry later."});
                lab.say(json!({"id": line["id"], "error": error}));
            }
            said(&mut lab, delta("T", "U", "i", "one"));
        }
        lab.pass(seconds(1));
    }
    assert_eq!(asked, 3, "once a second");
    said(&mut lab, delta("T", "U", "i", "one"));
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {}}));
    assert!(matches!(lab.connection.interrupt_outcome(key), Some(Ok(InterruptOutcome::Acknowledged))));
}

#[test]
fn ends_that_wait_for_a_turns_name_have_the_turns_own_among_them() {
    let mut config = Config::default();
    config.limits.max_parked_events = 4;
    config.limits.max_unread_bytes = 1000;
    let mut lab = Lab::ready_with(config);
    let (key, reader, id) = lab.start_turn("T");
    let pad = "x".repeat(100_000);
    for n in 0..30 {
        let turn = json!({"id": format!("V{}", n % 3), "status": "completed", "pad": pad});
        lab.notify("turn/completed", json!({"threadId": "T", "turn": turn}));
    }
    lab.say(json!({"id": id, "result": {"turn": {"id": "V1"}}}));
    assert_eq!(lab.connection.turn_state(key), Some(State::Completed));
    assert_eq!(lab.read(reader).last().map(String::as_str), Some("finished"));
}

#[test]
fn a_long_end_that_comes_before_the_turns_name_is_whole_where_there_is_room() {
    let mut lab = Lab::ready();
    let (key, _, id) = lab.start_turn("T");
    let text = "x".repeat(100_000);
    let item = json!({"type": "agentMessage", "id": "i", "text": text});
    let turn = json!({"id": "U", "status": "completed", "items": [item]});
    lab.notify("turn/completed", json!({"threadId": "T", "turn": turn}));
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    let result = lab.connection.take_report(key).expect("ended").expect("started").into_result().expect("completed");
    assert_eq!(result.final_response, Some(text));
}

#[test]
fn a_name_longer_than_any_servers_keeps_no_thread_busy() {
    let mut lab = Lab::ready();
    lab.notify("turn/started", json!({"threadId": "t", "turn": {"id": "x".repeat(100_000)}}));
    assert!(!lab.connection.is_thread_busy(&"t".into()), "nobody could tell when that one ends");
}

/// Steps, not seconds: what is counted are the lines that a hostile server can have looked at for one of its own.
#[test]
fn many_children_and_many_known_items_are_looked_at_once() {
    let mut lab = Lab::ready();
    let tree = lab.connection.subscribe(Scope::Tree("root".into()));
    for n in 0..1000 {
        said(&mut lab, delta(&format!("child{n}"), "U", "i", "x"));
    }
    let children: Vec<String> = (0..1000).map(|n| format!("child{n}")).collect();
    let item = json!({"type": "collabAgentToolCall", "id": "c", "tool": "spawnAgent", "status": "completed",
        "senderThreadId": "root", "receiverThreadIds": children, "agentsStates": {}});
    lab.notify("item/started", json!({"threadId": "root", "turnId": "U", "item": item}));
    assert_eq!(lab.read(tree).len(), 1001, "what came early of each, and the call");

    let mut lab = Lab::ready();
    let request = Prepared::new(&ThreadResume::new("T")).expect("encodes");
    let key = lab.connection.enter_resume(lab.now, "T".into(), request).expect("queued");
    let id = lab.sent_one()["id"].clone();
    for n in 0..1000 {
        said(&mut lab, delta("T", "U", &format!("i{n}"), "x"));
    }
    let items: Vec<Value> = (500..20_000).map(|n| json!({"type": "x", "id": format!("i{n}")})).collect();
    let turn = json!({"id": "U", "status": "inProgress", "items": items});
    lab.say(json!({"id": id, "result": {"thread": {"id": "T", "turns": [turn]}}}));
    let (_, reader) = lab.connection.take_attached(key).expect("it runs");
    assert_eq!(lab.read(reader).len(), 500, "what the answer has not");
}

#[test]
fn the_debug_of_a_message_shows_no_text() {
    let lines: [&[u8]; 4] = [
        br#"{"method":"item/agentMessage/delta","params":{"threadId":"T","turnId":"U","itemId":"i","delta":"hunter2"}}"#,
        br#"{"id":1,"result":{"text":"hunter2"}}"#,
        br#"{"id":1,"error":{"code":1,"message":"hunter2"}}"#,
        br#"{"id":1,"method":"m","params":{"threadId":"T","text":"hunter2"}}"#,
    ];
    for line in lines {
        let shown = format!("{:?}", Envelope::parse(line).expect("a message"));
        assert!(!shown.contains("hunter2") && shown.contains("bytes"), "{shown}");
    }
}

/// What a start that failed failed with.
fn start_error(lab: &mut Lab, key: TurnKey) -> CallError {
    match lab.connection.take_report(key) {
        Some(Err(error)) => error,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_review_on_a_thread_of_its_own_ends_when_another_turn_has_the_thread_that_its_answer_names() {
    let mut lab = Lab::ready();
    let (own, _, own_id) = lab.start_turn("T");
    lab.say(json!({"id": own_id, "result": {"turn": {"id": "U", "items": []}}}));
    let params = ReviewStart::new("P", CustomReviewTarget::new("x"));
    for (answer, path) in [
        (json!({"reviewThreadId": "T", "turn": {"id": "R", "items": []}}), "reviewThreadId"),
        (json!({"reviewThreadId": "N", "turn": {"items": []}}), "turn.id"),
    ] {
        let key = lab.connection.start_review(lab.now, &params, true, &TurnOptions::default()).expect("starts");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": answer}));
        let error = start_error(&mut lab, key);
        assert_eq!(&*error.method, "review/start");
        assert!(matches!(&error.fault, Fault::Decode { path: named, .. } if **named == *path), "{error:?}");
        assert!(error.may_have_effect(), "the server runs it");
        lab.connection.release_turn(key);
    }
    assert_eq!(lab.connection.turn_state(own), Some(State::Running), "what runs there goes on");
    said(&mut lab, completed("T", "U", "completed"));
    lab.connection.release_turn(own);
    lab.assert_quiet();
    assert_eq!(lab.connection.counters().threads, 0);
}

#[test]
fn what_a_turn_asks_under_its_second_name_comes_to_its_reader() {
    let mut lab = Lab::ready();
    let params = ReviewStart::new("T", CustomReviewTarget::new("x"));
    let key = lab.connection.start_review(lab.now, &params, false, &TurnOptions::default()).expect("starts");
    let id = lab.sent_one()["id"].clone();
    let reader = lab.connection.subscribe(Scope::Turn(key));
    lab.connection.ask_reader(key, reader, true);
    lab.say(json!({"id": id, "result": {"turn": {"id": "R", "items": []}, "reviewThreadId": "T"}}));
    lab.notify("turn/started", started("T", "S", "R"));
    ask(&mut lab, "S");
    assert!(lab.sent().is_empty(), "the reader is asked");
    let asked = std::iter::from_fn(|| match lab.connection.next_event(reader) {
        Next::Event(event) => Some(event),
        _ => None,
    });
    let asked = asked.filter_map(|event| if let RawEvent::Asked(asked) = event { Some(asked) } else { None }).last();
    let asked = asked.expect("it is in the stream");
    assert!(lab.connection.claim_ask(asked.key, reader).is_some());
    said(&mut lab, completed("T", "R", "completed"));
    assert!(!lab.connection.is_ask_open(asked.key), "it ends with the turn");
}

/// A connection whose commands and changes somebody wants to decide about.
fn listening(config: Config) -> (Lab, turnwire_core::connection::ListenerKey) {
    let mut lab = Lab::ready_with(config);
    let mut wants = ListenFor::default();
    wants.kinds = [AskKind::Command, AskKind::FileChange].into();
    let listener = lab.connection.listen(wants);
    (lab, listener)
}

#[test]
fn a_request_that_is_longer_than_a_line_may_be_is_shown_to_nobody_who_could_grant_it() {
    let mut config = Config::default();
    config.limits.max_line = 400;
    let (mut lab, listener) = listening(config);
    let reader = lab.connection.subscribe(Scope::Connection);
    let params = format!("{{\"threadId\":\"T\",\"command\":\"{}\"}}", "x".repeat(1000));
    let method = "item/commandExecution/requestApproval";
    lab.say_bytes(format!("{{\"method\":\"{method}\",\"id\":7,\"params\":{params}}}\n").as_bytes());
    let answer = lab.sent_one();
    assert_eq!((&answer["id"], &answer["result"]["decision"]), (&json!(7), &json!("decline")));
    assert!(matches!(lab.connection.next_ask(listener), NextAsk::Pending));
    let mut events = std::iter::from_fn(|| match lab.connection.next_event(reader) {
        Next::Event(event) => Some(event),
        _ => None,
    });
    assert!(events.any(|event| matches!(event, RawEvent::Refused(refused) if refused.why == RefusedWhy::TooLarge)));
}

#[test]
fn changes_that_many_requests_are_about_stay_within_bounds() {
    let mut config = Config::default();
    config.limits.max_unread_bytes = 100_000;
    let (mut lab, listener) = listening(config);
    let item = json!({"type": "fileChange", "id": "i", "changes": [{"path": "x", "diff": "x".repeat(20_000)}]});
    lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": item}));
    for part in 0..20 {
        let params = json!({"threadId": "T", "turnId": "U", "itemId": "i", "approvalId": part.to_string()});
        lab.say(json!({"id": part, "method": "item/fileChange/requestApproval", "params": params}));
    }
    let mut held = 0;
    while let NextAsk::Asked(asked) = lab.connection.next_ask(listener) {
        held += asked.changes.as_ref().map_or(0, |changes| changes.as_str().len());
        lab.connection.refuse(asked.key);
        lab.connection.release_ask(asked.key);
    }
    assert!((60_000..100_000).contains(&held), "{held}");
    assert_eq!(lab.sent().len(), 20, "those without them were asked too");
    // What they took is given back, and what is too long for all the room there is is refused.
    lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": item}));
    for (id, part) in [(97, "x".repeat(70_000)), (98, String::new()), (99, "x".repeat(100_000))] {
        let params = json!({"threadId": "T", "turnId": "U", "itemId": "i", "approvalId": part});
        lab.say(json!({"id": id, "method": "item/fileChange/requestApproval", "params": params}));
    }
    let asked = std::iter::from_fn(|| match lab.connection.next_ask(listener) {
        NextAsk::Asked(asked) => Some(serde_json::to_string(&asked.id).expect("JSON")),
        _ => None,
    });
    assert_eq!(asked.collect::<Vec<_>>(), ["97", "98"]);
    assert_eq!(lab.sent_one()["id"], 99);
}

#[test]
fn what_the_server_says_of_a_failed_login_is_kept_within_bounds() {
    let mut lab = Lab::ready();
    for name in ["L".to_owned(), "x".repeat(1_000_000)] {
        let params = json!({"loginId": name, "success": false, "error": "é".repeat(100_000)});
        lab.notify("account/login/completed", params);
    }
    let key = lab.connection.watch_login(lab.now, Some("L"), None);
    let Some(LoginEnd::Failed(text)) = lab.connection.login_end(key) else { panic!("it failed") };
    assert_eq!(text.chars().count(), 4096);
    let key = lab.connection.watch_login(lab.now, Some(&*"x".repeat(1_000_000)), None);
    assert!(lab.connection.login_end(key).is_none());
}

#[test]
fn an_interrupt_that_is_refused_at_its_last_moment_is_not_tried_again() {
    let mut config = Config::default();
    config.timeouts.interrupt = seconds(10);
    for (after, is_settled) in [(seconds(10), true), (seconds(10) - Duration::from_nanos(1), false)] {
        let mut lab = Lab::ready_with(config.clone());
        let (key, _, id) = lab.start_turn("T");
        lab.say(json!({"id": id, "result": {"turn": {"id": "U", "items": []}}}));
        lab.notify("turn/started", started("T", "U", "U"));
        lab.connection.interrupt(lab.now, key).expect("known");
        let id = lab.sent_one()["id"].clone();
        // The answer is heard of before the time is.
        lab.now = lab.now + after;
        lab.say(json!({"id": id, "error": {"code": -32600, "message": "no active turn to interrupt"}}));
        assert_eq!(lab.connection.interrupt_outcome(key).is_some(), is_settled, "{after:?}");
    }
}

#[test]
fn what_was_written_to_the_cache_is_part_of_what_a_turn_used_where_the_server_says_so() {
    // The sums over the thread, and what each call of the model wrote. Sometimes a server does not say.
    for (reports, expected) in [
        (vec![Some((20, 20)), Some((30, 10))], Some(30)),
        (vec![None, None], None),
        (vec![Some((520, 20)), None, Some((535, 10))], Some(35)),
        (vec![None, Some((510, 10))], Some(10)),
        (vec![Some((20, 20)), Some((5, 5))], Some(25)),
    ] {
        let mut lab = Lab::ready();
        let (key, _, id) = lab.start_turn("T");
        lab.say(json!({"id": id, "result": {"turn": {"id": "U", "items": []}}}));
        for (n, written) in reports.iter().enumerate() {
            let tokens = |count: usize, written: Option<i64>| {
                let mut tokens = json!({"inputTokens": 10 * count, "cachedInputTokens": 0, "outputTokens": count,
                    "reasoningOutputTokens": 0, "totalTokens": 11 * count});
                if let Some(written) = written {
                    tokens["cacheWriteInputTokens"] = json!(written);
                }
                tokens
            };
            let (total, last) = (written.map(|(sum, _)| sum), written.map(|(_, last)| last));
            let usage = json!({"total": tokens(n + 1, total), "last": tokens(1, last), "modelContextWindow": null});
            // What is said again adds nothing.
            for _ in 0..2 {
                let params = json!({"threadId": "T", "turnId": "U", "tokenUsage": usage});
                lab.notify("thread/tokenUsage/updated", params);
            }
        }
        said(&mut lab, completed("T", "U", "completed"));
        let usage = usage_of(&mut lab, key);
        assert_eq!((usage.input_tokens, usage.is_lower_bound), (10 * reports.len() as i64, false));
        assert_eq!(usage.cache_write_input_tokens, expected, "{reports:?}");
    }
}

#[test]
fn the_time_of_a_handshake_that_began_ahead_of_its_time_counts_from_when_it_is_due() {
    let mut config = Config::default();
    config.timeouts.initialize = seconds(5);
    for due_after in [0, 20, 100] {
        let mut connection = turnwire_core::connection::Connection::unstarted(config.clone());
        let now = |at| turnwire_core::time::Time::ZERO + seconds(at);
        // A server before is waited for, and for at most 100 s.
        connection.begin(now(100));
        connection.handle_due(now(due_after));
        assert_eq!(connection.poll_timeout().map(|timeout| timeout.at), Some(now(due_after + 5)), "{due_after}");
        // It is not made longer by saying so again.
        connection.handle_due(now(due_after + 1));
        assert_eq!(connection.poll_timeout().map(|timeout| timeout.at), Some(now(due_after + 5)));
        connection.handle_timeout(now(due_after + 5));
        let reason = connection.closed().expect("over").reason().clone();
        let DisconnectReason::InitializeTimedOut { elapsed } = reason else { panic!("{reason:?}") };
        assert_eq!(elapsed, seconds(5));
    }
}
