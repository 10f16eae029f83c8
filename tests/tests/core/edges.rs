//! What mutants of the core showed at its bounds: the last that fits, the first that does not, and what is remembered.

use crate::lab::{Lab, completed, delta, message, usage};
use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{AskKind, Asked, Config, Event, ListenFor, ListenerKey, NextAsk, Scope},
    error::{Fault, SteerError, TurnError},
    json::Json,
    protocol::{CustomReviewTarget, FsReadFile, ReviewStart, TurnStart, UserInput},
    turn::{DropPolicy, Next, RawEvent, RefusedWhy, State, TurnOptions, WhenBusy},
};

const FILES: &str = "item/fileChange/requestApproval";

fn listen(lab: &mut Lab, kinds: &[AskKind]) -> ListenerKey {
    let mut wants = ListenFor::default();
    wants.kinds = kinds.iter().copied().collect();
    lab.connection.listen(wants)
}

fn take(lab: &mut Lab, listener: ListenerKey) -> Option<Asked> {
    match lab.connection.next_ask(listener) {
        NextAsk::Asked(asked) => Some(asked),
        _ => None,
    }
}

fn ask(lab: &mut Lab, id: u32, method: &str, thread: &str, turn: &str) {
    let params = json!({"threadId": thread, "turnId": turn, "itemId": "i"});
    lab.say(json!({"id": id, "method": method, "params": params}));
}

/// The changes of a file, said of an item.
fn changing(lab: &mut Lab, thread: &str, item: &str, changes: &Value) {
    let item = json!({"type": "fileChange", "id": item, "status": "inProgress", "changes": changes});
    lab.notify("item/started", json!({"threadId": thread, "turnId": "U", "item": item}));
}

#[test]
fn what_is_handed_over_at_once_is_some_tens_of_kilobytes_whatever_is_in_the_buffer_already() {
    let mut config = Config::default();
    config.limits.max_in_flight = 100;
    let mut lab = Lab::ready_with(config);
    for _ in 0..60 {
        let _ = lab.connection.request(lab.now, &FsReadFile::new("/".repeat(4_000))).expect("it waits");
    }
    let mut out = vec![b'x'; 1 << 20];
    let mut pieces = Vec::new();
    loop {
        let before = out.len();
        if !lab.connection.poll_transmit(lab.now, &mut out) {
            break;
        }
        pieces.push(out.len() - before);
    }
    assert!(pieces.iter().all(|piece| *piece < 64 * 1024 + 5_000), "{pieces:?}");
    assert!(pieces.iter().sum::<usize>() > 60 * 4_000 && pieces.len() < 6, "{pieces:?}");
}

#[test]
fn requests_that_are_open_may_hold_as_many_bytes_as_the_bound_and_no_more() {
    let mut lab = Lab::ready();
    let listener = listen(&mut lab, &[AskKind::FileChange]);
    ask(&mut lab, 10, FILES, "T", "U");
    let length = take(&mut lab, listener).expect("it is asked").request.params.len();
    let mut config = Config::default();
    config.limits.max_unread_bytes = 2 * length;
    let mut lab = Lab::ready_with(config);
    let listener = listen(&mut lab, &[AskKind::FileChange]);
    for id in [10, 11, 12] {
        ask(&mut lab, id, FILES, "T", "U");
    }
    assert_eq!((lab.connection.counters().asks, lab.connection.counters().refused), (2, 1));
    // What is answered makes room.
    let asked = take(&mut lab, listener).expect("it is asked");
    lab.connection.respond(asked.key, Ok(Json::parse(r#"{"decision":"decline"}"#).expect("JSON"))).expect("open");
    lab.connection.release_ask(asked.key);
    ask(&mut lab, 13, FILES, "T", "U");
    assert_eq!((lab.connection.counters().asks, lab.connection.counters().refused), (2, 1));
}

#[test]
fn an_id_that_stands_for_another_request_ends_the_one_before() {
    for (method, thread, turn, is_same) in [
        (FILES, "T", "U", true),
        ("item/commandExecution/requestApproval", "T", "U", false),
        (FILES, "S", "U", false),
        (FILES, "T", "V", false),
    ] {
        let mut lab = Lab::ready();
        let listener = listen(&mut lab, &[AskKind::FileChange, AskKind::Command]);
        ask(&mut lab, 7, FILES, "T", "U");
        take(&mut lab, listener).expect("the first");
        ask(&mut lab, 7, method, thread, turn);
        assert_eq!(take(&mut lab, listener).is_none(), is_same, "{method} {thread} {turn}");
        assert_eq!(lab.connection.counters().replayed, u64::from(is_same));
    }
}

#[test]
fn as_many_answers_are_remembered_as_requests_may_be_open() {
    let mut config = Config::default();
    config.limits.max_asks = 2;
    let mut lab = Lab::ready_with(config);
    let listener = listen(&mut lab, &[AskKind::FileChange]);
    for id in [1, 2, 3] {
        ask(&mut lab, id, FILES, "T", "U");
        let asked = take(&mut lab, listener).expect("it is asked");
        lab.connection.refuse(asked.key);
        lab.connection.release_ask(asked.key);
    }
    // The first is forgotten, and the others are the same requests still.
    for (id, replayed) in [(3, 1), (2, 2), (1, 2)] {
        ask(&mut lab, id, FILES, "T", "U");
        assert_eq!(lab.connection.counters().replayed, replayed, "{id}");
    }
}

#[test]
fn a_tool_call_goes_to_who_registered_tools_and_a_decision_to_who_reads_the_turn() {
    for (method, goes_to_stream) in [("item/tool/call", false), (FILES, true)] {
        let mut lab = Lab::ready();
        let (turn, reader) = lab.turn("T", "U");
        lab.connection.ask_reader(turn, reader, true);
        let listener = listen(&mut lab, &[AskKind::ToolCall, AskKind::FileChange]);
        ask(&mut lab, 7, method, "T", "U");
        assert_eq!(take(&mut lab, listener).is_none(), goes_to_stream, "{method}");
        // The stream shows it in any case.
        let Next::Event(RawEvent::Asked(shown)) = lab.connection.next_event(reader) else { panic!("{method}") };
        assert_eq!(lab.connection.claim_ask(shown.key, reader).is_some(), goes_to_stream, "{method}");
    }
}

#[test]
fn the_changes_of_items_are_kept_up_to_the_bounds_and_for_their_own_item_only() {
    let changes = json!([{"path": "/a", "diff": "+", "kind": {"type": "add"}}]);
    let length = changes.to_string().len();
    // How many of four are kept: by their number, by their bytes.
    for (max_asks, max_bytes, kept) in [(2, 1 << 20, 2), (100, 4 * length, 4), (100, 4 * length - 1, 3)] {
        let mut config = Config::default();
        config.limits.max_asks = max_asks;
        config.limits.max_unread_bytes = max_bytes;
        let mut lab = Lab::ready_with(config);
        for item in ["1", "2", "3", "4"] {
            changing(&mut lab, "T", item, &changes);
        }
        // The last is over, which makes room for a request.
        let item = json!({"type": "fileChange", "id": "4", "status": "completed"});
        lab.notify("item/completed", json!({"threadId": "T", "turnId": "U", "item": item}));
        let listener = listen(&mut lab, &[AskKind::FileChange]);
        let mut known = 0;
        for item in ["1", "2", "3"] {
            let params = json!({"threadId": "T", "turnId": "U", "itemId": item});
            lab.say(json!({"id": item, "method": FILES, "params": params}));
            let asked = take(&mut lab, listener).expect("it is asked");
            known += usize::from(asked.changes.is_some());
            lab.connection.refuse(asked.key);
            lab.connection.release_ask(asked.key);
        }
        assert_eq!(known + 1, kept, "{max_asks} {max_bytes}");
    }
    // One item's end forgets its own changes: not those of another item, and not those of another thread.
    let mut lab = Lab::ready();
    for (thread, item) in [("T", "1"), ("T", "2"), ("S", "1")] {
        changing(&mut lab, thread, item, &changes);
    }
    let item = json!({"type": "fileChange", "id": "1", "status": "completed"});
    lab.notify("item/completed", json!({"threadId": "T", "turnId": "U", "item": item}));
    let listener = listen(&mut lab, &[AskKind::FileChange]);
    for (id, thread, item, expected) in [(1, "T", "1", false), (2, "T", "2", true), (3, "S", "1", true)] {
        let params = json!({"threadId": thread, "turnId": "U", "itemId": item});
        lab.say(json!({"id": id, "method": FILES, "params": params}));
        let asked = take(&mut lab, listener).expect("it is asked");
        assert_eq!(asked.changes.is_some(), expected, "{thread} {item}");
    }
}

#[test]
fn what_comes_for_a_review_on_a_thread_of_its_own_before_its_answer_is_kept_within_the_bounds() {
    let line = |text: &str| {
        let (method, params) = delta("N", "R", "i", text);
        json!({"method": method, "params": params})
    };
    let length = line("a").to_string().len();
    for (max_events, max_bytes, kept) in [(2, 1 << 20, 2), (100, 2 * length, 2), (100, 2 * length - 1, 1)] {
        let mut config = Config::default();
        config.limits.max_parked_events = max_events;
        config.limits.max_unread_bytes = max_bytes;
        config.limits.merge_after = None;
        let mut lab = Lab::ready_with(config);
        let params = ReviewStart::new("T", CustomReviewTarget::new("Look."));
        let turn = lab.connection.start_review(lab.now, &params, true, &TurnOptions::default()).expect("it starts");
        let id = lab.sent_one()["id"].clone();
        for text in ["a", "b", "c"] {
            lab.say(line(text));
        }
        assert_eq!(lab.connection.counters().left_out, 3 - kept, "{max_events} {max_bytes}");
        let reader = lab.connection.subscribe(Scope::Turn(turn));
        let named = json!({"id": "R", "status": "inProgress", "items": []});
        lab.say(json!({"id": id, "result": {"reviewThreadId": "N", "turn": named}}));
        let deltas = lab.read(reader).into_iter().filter(|event| event.starts_with("delta")).count();
        assert_eq!(deltas as u64, kept);
    }
}

#[test]
fn nothing_of_a_turn_that_was_refused_comes_in_the_next_turn_of_its_thread() {
    let mut lab = Lab::ready();
    // Somebody listens, so the thread is not forgotten in between.
    lab.connection.subscribe(Scope::Thread("T".into()));
    let (_, _, id) = lab.start_turn("T");
    let (method, params) = delta("T", "U", "i", "of the first");
    lab.notify(method, params);
    lab.say(json!({"id": id, "error": {"code": -32603, "message": "no"}}));
    let (_, reader, id) = lab.start_turn("T");
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    assert_eq!(lab.read(reader), [] as [&str; 0]);
}

#[test]
fn a_turn_that_runs_out_of_time_while_it_waits_for_its_thread_leaves_nothing() {
    let mut lab = Lab::ready();
    let (first, _) = lab.turn("T", "U");
    let options = TurnOptions::default().when_busy(WhenBusy::Queue).deadline(Duration::from_secs(5));
    let params = TurnStart::new("T", [UserInput::text("Later.")]);
    let waiting = lab.connection.start_turn(lab.now, &params, &options).expect("it waits");
    assert_eq!(lab.connection.turn_state(waiting), Some(State::Queued));
    lab.pass(Duration::from_secs(5));
    assert_eq!(lab.connection.turn_state(waiting), Some(State::TimedOut));
    lab.connection.release_turn(waiting);
    assert_eq!(lab.connection.counters().turns, 1, "the server never knew of it");
    let (method, params) = completed("T", "U", "completed");
    lab.notify(method, params);
    lab.connection.release_turn(first);
    lab.assert_quiet();
}

#[test]
fn a_notification_is_read_as_what_its_method_says_only() {
    use turnwire_core::protocol::{ItemCompletedNotification, ItemStartedNotification};
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    lab.notify("item/completed", json!({"threadId": "T", "turnId": "U", "item": message("m", "text", None)}));
    let Next::Event(RawEvent::Notification(event)) = lab.connection.next_event(reader) else { panic!("it came") };
    assert!(event.decode::<ItemCompletedNotification>().is_some());
    assert!(event.decode::<ItemStartedNotification>().is_none());
}

#[test]
fn what_an_event_counts_for_grows_with_what_it_holds() {
    let mut lab = Lab::ready();
    let (_, reader) = lab.turn("T", "U");
    let size = |lab: &mut Lab| {
        let Next::Event(event) = lab.connection.next_event(reader) else { panic!("it came") };
        event.size()
    };
    let mut sizes = Vec::new();
    for length in [1, 101] {
        let text = "x".repeat(length);
        let delta = |extra: bool| {
            let mut params = json!({"threadId": "T", "turnId": "U", "itemId": "i", "delta": text});
            if extra {
                params["extra"] = json!("y");
            }
            params
        };
        lab.notify("item/agentMessage/delta", delta(false));
        let plain = size(&mut lab);
        lab.notify("item/agentMessage/delta", delta(true));
        // Kept as it came, and as text.
        let raw = size(&mut lab) - delta(true).to_string().len();
        assert_eq!(raw, plain);
        lab.notify(&text, json!({"threadId": "T", "turnId": "U"}));
        let method = size(&mut lab);
        lab.notify("a", json!({"threadId": "T", "turnId": "U", "text": text}));
        let params = size(&mut lab);
        lab.say(json!({"id": length, "method": text, "params": {"threadId": "T", "turnId": "U", "text": text}}));
        let refused = size(&mut lab);
        sizes.push([plain, method, params, refused]);
    }
    let grown: Vec<usize> = sizes[1].iter().zip(sizes[0]).map(|(long, short)| long - short).collect();
    assert_eq!(grown, [100, 100, 100, 200]);
    // Ids are shared, unless they are longer than ids are.
    let (short, long) = ("i".repeat(100), "i".repeat(1_000));
    let of_item = |lab: &mut Lab, item: &str| {
        let (method, params) = delta("T", "U", item, "x");
        lab.notify(method, params);
        size(lab)
    };
    assert_eq!(of_item(&mut lab, &short), sizes[0][0]);
    assert_eq!(of_item(&mut lab, &long), sizes[0][0] + 1_000 + 2 - 3 * 64);
}

#[test]
fn a_request_counts_for_the_changes_that_it_is_about_if_those_are_known() {
    let mut lab = Lab::ready();
    let (key, reader) = lab.turn("S", "U");
    lab.connection.ask_reader(key, reader, true);
    let changes = json!([{"path": "/w/a.txt", "kind": {"type": "add"}, "diff": "x\n"}]);
    let of_request = |lab: &mut Lab, id| {
        ask(lab, id, FILES, "S", "U");
        let mut events = std::iter::from_fn(|| match lab.connection.next_event(reader) {
            Next::Event(event) => Some(event),
            _ => None,
        });
        let asked = events.find(|event| matches!(event, RawEvent::Asked(_))).expect("it is offered");
        asked.size()
    };
    let unknown = of_request(&mut lab, 1);
    changing(&mut lab, "S", "i", &changes);
    assert_eq!(of_request(&mut lab, 2), unknown + changes.to_string().len());
}

#[test]
fn a_child_is_known_by_the_turn_that_it_runs_for_whoever_started_that() {
    let mut lab = Lab::ready();
    // Nobody here has to do with either.
    for (thread, turn) in [("O", "W"), ("P", "U")] {
        lab.notify("turn/started", json!({"threadId": thread, "turn": {"id": turn, "status": "inProgress"}}));
    }
    lab.notify("turn/started", json!({"threadId": "C", "turn": {"id": "V", "rootTurnId": "U"}}));
    assert_eq!(lab.connection.parent_of("C").map(ToString::to_string), Some("P".to_owned()));
    let (_, _) = lab.turn("T", "X");
    lab.notify("turn/started", json!({"threadId": "D", "turn": {"id": "Y", "rootTurnId": "X"}}));
    assert_eq!(lab.connection.parent_of("D").map(ToString::to_string), Some("T".to_owned()));
}

#[test]
fn a_word_of_the_model_about_its_agents_is_certain_when_it_made_them_and_a_hint_otherwise() {
    let call = |tool: &str, sender: &str| {
        json!({"type": "collabAgentToolCall", "id": "c", "tool": tool, "status": "completed",
            "senderThreadId": sender, "receiverThreadIds": ["C"], "agentsStates": {}})
    };
    let activity = |kind: &str| json!({"type": "subAgentActivity", "id": "a", "kind": kind, "agentThreadId": "C", "agentPath": "/a"});
    for (thread, item, is_certain) in [
        ("P", call("spawnAgent", "P"), true),
        ("P", call("wait", "P"), false),
        ("P", activity("started"), true),
        ("P", activity("interacted"), false),
    ] {
        let mut lab = Lab::ready();
        lab.notify("item/completed", json!({"threadId": thread, "turnId": "U", "item": item}));
        lab.notify("thread/started", json!({"thread": {"id": "C", "parentThreadId": "Q"}}));
        let parent = if is_certain { "P" } else { "Q" };
        assert_eq!(lab.connection.parent_of("C").map(ToString::to_string).as_deref(), Some(parent), "{item}");
    }
}

#[test]
fn a_turn_that_only_the_models_words_come_from_is_silent_sooner_than_one_with_a_tool_at_work() {
    for (kind, is_at_work) in [("agentMessage", false), ("commandExecution", true)] {
        let mut lab = Lab::ready();
        let options = TurnOptions::default()
            .idle_deadline(Duration::from_secs(10))
            .idle_deadline_while_working(Duration::from_secs(100));
        let params = TurnStart::new("T", [UserInput::text("Go.")]);
        let turn = lab.connection.start_turn(lab.now, &params, &options).expect("it starts");
        let id = lab.sent_one()["id"].clone();
        lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
        let item = json!({"type": kind, "id": "i", "command": "x", "text": "", "status": "inProgress"});
        lab.notify("item/started", json!({"threadId": "T", "turnId": "U", "item": item}));
        lab.pass(Duration::from_secs(50));
        assert_eq!(lab.connection.turn_state(turn) == Some(State::TimedOut), !is_at_work, "{kind}");
    }
}

#[test]
fn logins_that_are_waited_for_are_counted_and_end_in_their_own_time() {
    let mut lab = Lab::ready();
    let quick = lab.connection.watch_login(lab.now, Some("L"), Some(Duration::from_secs(5)));
    let slow = lab.connection.watch_login(lab.now, Some("M"), Some(Duration::from_secs(60)));
    assert_eq!(lab.connection.counters().logins, 2);
    lab.pass(Duration::from_secs(5));
    assert!(lab.connection.login_end(quick).is_some() && lab.connection.login_end(slow).is_none());
    lab.pass(Duration::from_secs(55));
    assert!(lab.connection.login_end(slow).is_some());
}

#[test]
fn a_newer_server_whose_review_names_no_root_has_begun_another_turn() {
    for (version, is_same) in [("0.162.9", true), ("0.163.0", false)] {
        let mut config = Config::default();
        config.assume_version = Some(version.into());
        let mut lab = Lab::ready_with(config);
        let turn = lab
            .connection
            .attach_turn(lab.now, &"T".into(), &"U".into(), &TurnOptions::default())
            .expect("nothing else runs there");
        lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "V", "status": "inProgress"}}));
        assert_eq!(lab.connection.turn_state(turn) == Some(State::Running), is_same, "{version}");
    }
}

#[test]
fn what_counts_for_more_than_a_delta_may_fill_the_whole_bound_before_a_turns_name() {
    let line = |item: &str| {
        let params = json!({"threadId": "T", "turnId": "U", "item": message(item, "", None)});
        json!({"method": "item/completed", "params": params})
    };
    let length = line("1").to_string().len();
    for (max_events, max_bytes, kept) in [(1, 1 << 20, 2), (100, 3 * length, 3), (100, 3 * length - 1, 2)] {
        let mut config = Config::default();
        config.limits.max_parked_events = max_events;
        config.limits.max_unread_bytes = max_bytes;
        let mut lab = Lab::ready_with(config);
        let (_, reader, id) = lab.start_turn("T");
        for item in ["1", "2", "3", "4"] {
            lab.say(line(item));
        }
        lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
        assert_eq!(lab.connection.counters().left_out, 4 - kept, "{max_events} {max_bytes}");
        // The reader's bound is the same, and what it gets there is never left out.
        let heard = lab.read(reader);
        assert_eq!(heard.iter().filter(|event| event.starts_with("item/completed")).count() as u64, kept);
        let gap = heard.iter().find_map(|event| event.strip_prefix("gap ")).expect("a gap");
        assert_eq!(gap.parse(), Ok(4 - kept));
    }
}

#[test]
fn what_is_left_out_for_a_follower_of_a_tree_is_counted() {
    let mut config = Config::default();
    config.limits.merge_after = None;
    config.limits.max_unread_bytes = 1;
    let mut lab = Lab::ready_with(config);
    lab.connection.subscribe(Scope::Tree("P".into()));
    for text in ["a", "b", "c"] {
        let (method, params) = delta("P", "U", "i", text);
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.counters().left_out, 2);
}

#[test]
fn a_request_for_the_time_of_day_that_nobody_takes_is_answered_by_the_clock_up_to_a_bound() {
    let mut lab = Lab::ready();
    let listener = listen(&mut lab, &[AskKind::CurrentTime]);
    for id in 0..65 {
        ask(&mut lab, 100 + id, "currentTime/read", "T", "U");
    }
    lab.connection.unlisten(listener);
    lab.collect();
    let wanted = lab.events.iter().filter(|event| matches!(event, Event::TimeWanted(_))).count();
    assert_eq!(wanted, 64);
    let refused = lab.sent_one();
    assert_eq!((&refused["id"], &refused["error"]["code"]), (&json!(164), &json!(-32603)));
}

#[test]
fn a_turns_reader_is_offered_what_is_the_turns_and_only_if_it_wants_requests() {
    for (at_all_events, turn, is_offered) in [(true, "U", true), (false, "U", false), (true, "V", false)] {
        let mut lab = Lab::ready();
        let (key, reader) = lab.turn("T", "U");
        lab.connection.ask_reader(key, reader, at_all_events);
        ask(&mut lab, 7, FILES, "T", turn);
        let refused = lab.sent();
        assert_eq!(refused.is_empty(), is_offered, "{at_all_events} {turn}: {refused:?}");
    }
    // A request without a turn is not that of a turn that is not named yet.
    let mut lab = Lab::ready();
    let (key, reader, _) = lab.start_turn("T");
    lab.connection.ask_reader(key, reader, true);
    lab.say(json!({"id": 7, "method": FILES, "params": {"threadId": "T", "itemId": "i"}}));
    assert_eq!(lab.sent_one()["result"], json!({"decision": "decline"}));
}

#[test]
fn an_id_is_free_again_once_the_server_has_said_that_its_request_is_resolved() {
    let mut lab = Lab::ready();
    let listener = listen(&mut lab, &[AskKind::FileChange]);
    for id in [7, 8] {
        ask(&mut lab, id, FILES, "T", "U");
        let asked = take(&mut lab, listener).expect("it is asked");
        lab.connection.refuse(asked.key);
        lab.connection.release_ask(asked.key);
    }
    lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 7}));
    ask(&mut lab, 8, FILES, "T", "U");
    assert!(take(&mut lab, listener).is_none(), "still the same");
    ask(&mut lab, 7, FILES, "T", "U");
    assert!(take(&mut lab, listener).is_some(), "another");
}

#[test]
fn a_late_answer_is_told_from_one_to_what_is_closed_otherwise() {
    for is_late in [true, false] {
        let mut lab = Lab::ready();
        let listener = listen(&mut lab, &[AskKind::FileChange]);
        ask(&mut lab, 7, FILES, "T", "U");
        let asked = take(&mut lab, listener).expect("it is asked");
        if is_late {
            lab.pass(lab.connection.config().timeouts.ask);
        } else {
            lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 7}));
        }
        let answer = Json::parse(r#"{"decision":"accept"}"#).expect("JSON");
        let error = lab.connection.respond(asked.key, Ok(answer)).expect_err("it is over");
        assert_eq!((error.is_timeout(), error.is_closed()), (is_late, false));
    }
}

#[test]
fn a_thread_is_busy_with_what_runs_and_with_what_waits() {
    let mut lab = Lab::ready();
    lab.connection.subscribe(Scope::Thread("T".into()));
    assert!(!lab.connection.is_thread_busy(&"T".into()), "it is looked at");
    // Somebody else's turn runs, and two of ours wait.
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "V", "status": "inProgress"}}));
    let options = TurnOptions::default().when_busy(WhenBusy::Queue);
    let params = TurnStart::new("T", [UserInput::text("Later.")]);
    let [first, second] = [0, 1].map(|_| lab.connection.start_turn(lab.now, &params, &options).expect("it waits"));
    assert!(lab.connection.is_thread_busy(&"T".into()));
    lab.connection.interrupt(lab.now, first).expect("it is there");
    assert_eq!(lab.connection.turn_state(first), Some(State::NotStarted));
    assert_eq!((lab.connection.turn_state(second), lab.connection.queued_turns(&"T".into())), (Some(State::Queued), 1));
}

#[test]
fn joining_is_for_turns_of_others_and_a_turn_of_ones_own_is_busy() {
    let mut lab = Lab::ready();
    lab.turn("T", "U");
    let params = TurnStart::new("T", [UserInput::text("More.")]);
    let options = TurnOptions::default().when_busy(WhenBusy::Join);
    assert!(matches!(lab.connection.start_turn(lab.now, &params, &options), Err(TurnError::Busy(_))));
    lab.notify("turn/started", json!({"threadId": "O", "turn": {"id": "V", "status": "inProgress"}}));
    let params = TurnStart::new("O", [UserInput::text("More.")]);
    lab.connection.start_turn(lab.now, &params, &options).expect("it joins");
}

#[test]
fn a_turn_with_two_holders_is_not_stopped_by_the_first_that_leaves() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().on_drop(DropPolicy::Interrupt);
    let attach = |lab: &mut Lab| lab.connection.attach_turn(lab.now, &"T".into(), &"U".into(), &options);
    let turn = attach(&mut lab).expect("it runs there");
    assert_eq!(attach(&mut lab).expect("it is known"), turn);
    lab.connection.drop_turn(lab.now, turn);
    assert!(lab.sent().is_empty(), "somebody holds it still");
    lab.connection.drop_turn(lab.now, turn);
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
}

#[test]
fn a_turn_that_is_interrupted_already_is_not_interrupted_again_for_its_silence() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().idle_deadline(Duration::from_secs(2));
    let params = TurnStart::new("T", [UserInput::text("Go.")]);
    let turn = lab.connection.start_turn(lab.now, &params, &options).expect("it starts");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "U", "status": "inProgress"}}));
    lab.connection.interrupt(lab.now, turn).expect("it is there");
    assert_eq!(lab.sent_one()["method"], "turn/interrupt");
    lab.pass(Duration::from_secs(2));
    assert_eq!(lab.connection.turn_state(turn), Some(State::TimedOut));
    assert!(lab.sent().is_empty());
}

#[test]
fn a_steer_that_is_refused_says_why_and_not_that_the_turn_ended() {
    let mut lab = Lab::ready();
    let (turn, _) = lab.turn("T", "U");
    let steer = lab.connection.steer(lab.now, turn, vec![UserInput::text("More.")]).expect("it steers");
    let id = lab.sent_one()["id"].clone();
    lab.say(json!({"id": id, "error": {"code": -32603, "message": "out of paper"}}));
    let error = lab.connection.take_steer(&steer, &"U".into()).expect("answered").expect_err("refused");
    assert!(!matches!(error, SteerError::Ended) && error.to_string().contains("out of paper"), "{error}");
}

#[test]
fn a_turn_that_cannot_be_started_leaves_no_event_behind_and_takes_none_away() {
    let mut config = Config::default();
    config.limits.max_queued_requests = 1;
    config.limits.max_in_flight = 1;
    let mut lab = Lab::ready_with(config);
    let _running = lab.connection.request(lab.now, &FsReadFile::new("/x")).expect("it is sent");
    lab.sent();
    let given_up = lab.connection.request(lab.now, &FsReadFile::new("/y")).expect("it waits");
    lab.connection.alarm(lab.now, lab.now);
    lab.connection.handle_timeout(lab.now);
    let params = TurnStart::new("T", [UserInput::text("Go.")]);
    let refused = lab.connection.start_turn(lab.now, &params, &TurnOptions::default());
    assert!(matches!(refused, Err(TurnError::Start(_))), "{refused:?}");
    lab.collect();
    let is_of_turn = |event: &&Event| matches!(event, Event::Turn(_));
    assert!(!lab.events.iter().any(|event| is_of_turn(&event)), "{:?}", lab.events);
    assert!(lab.events.iter().any(|event| matches!(event, Event::Alarm(_))), "{:?}", lab.events);
    assert_eq!(lab.connection.counters().turns, 0);
    lab.connection.abandon(given_up.key());
}

#[test]
fn what_is_refused_is_refused_at_once_and_not_when_it_is_let_go() {
    let mut lab = Lab::ready();
    let listener = listen(&mut lab, &[AskKind::FileChange]);
    ask(&mut lab, 7, FILES, "T", "U");
    let asked = take(&mut lab, listener).expect("it is asked");
    lab.connection.refuse(asked.key);
    assert_eq!(lab.sent_one()["result"], json!({"decision": "decline"}));
    lab.connection.release_ask(asked.key);
    assert!(lab.sent().is_empty());
}

#[test]
fn a_turn_of_which_nothing_is_heard_but_its_name_is_silent_from_then_on() {
    let mut lab = Lab::ready();
    let options = TurnOptions::default().idle_deadline(Duration::from_secs(10));
    let params = TurnStart::new("T", [UserInput::text("Go.")]);
    let turn = lab.connection.start_turn(lab.now, &params, &options).expect("it starts");
    let id = lab.sent_one()["id"].clone();
    lab.pass(Duration::from_secs(8));
    lab.say(json!({"id": id, "result": {"turn": {"id": "U"}}}));
    lab.pass(Duration::from_secs(9));
    assert_ne!(lab.connection.turn_state(turn), Some(State::TimedOut));
    lab.pass(Duration::from_secs(1));
    assert_eq!(lab.connection.turn_state(turn), Some(State::TimedOut));
}

#[test]
fn a_server_of_just_the_version_that_is_needed_is_new_enough() {
    let params = TurnStart::new("T", [UserInput::text("x")]).service_tier_for_turn("fast");
    for (version, is_enough) in [("0.153.9", false), ("0.154.0", true)] {
        let mut config = Config::default();
        config.assume_version = Some(version.into());
        let mut lab = Lab::ready_with(config);
        let started = lab.connection.start_turn(lab.now, &params, &TurnOptions::default());
        assert_eq!(started.is_ok(), is_enough, "{version}");
    }
}

#[test]
fn the_usage_of_a_turn_that_was_attached_to_is_a_lower_bound() {
    let mut lab = Lab::ready();
    let turn = lab
        .connection
        .attach_turn(lab.now, &"T".into(), &"U".into(), &TurnOptions::default())
        .expect("nothing else runs there");
    let (method, params) = usage("T", "U", [100, 0, 10, 0], [10, 0, 1, 0]);
    lab.notify(method, params);
    let (method, params) = completed("T", "U", "completed");
    lab.notify(method, params);
    let result = lab.connection.take_report(turn).expect("over").expect("started").into_result().expect("completed");
    assert!(result.usage.expect("it was told").is_lower_bound);
}

#[test]
fn a_handle_of_a_server_that_was_replaced_says_so() {
    let mut lab = Lab::ready();
    lab.connection.handle_eof(lab.now);
    lab.connection.handle_superseded(1, 2);
    let error = lab.connection.request(lab.now, &FsReadFile::new("/x")).expect_err("it is over");
    assert!(matches!(error.fault, Fault::Stale { handle: 1, current: 2, .. }), "{error}");
}

#[test]
fn what_is_shown_for_debugging_has_a_name_and_no_text() {
    let mut lab = Lab::ready();
    lab.say_bytes(b"noise of hunter2\n");
    let login = lab.connection.watch_login(lab.now, Some("L"), None);
    lab.notify("account/login/completed", json!({"loginId": "L", "success": false, "error": "hunter2"}));
    let shown = [
        ("Connection", format!("{:?}", lab.connection)),
        ("Diagnostic", format!("{:?}", lab.connection.diagnostics().next().expect("noise"))),
        ("Failed", format!("{:?}", lab.connection.login_end(login).expect("it ended"))),
        ("nobody answered in time", RefusedWhy::Deadline.to_string()),
    ];
    for (name, text) in shown {
        assert!(text.contains(name) && !text.contains("hunter2"), "{name}: {text}");
    }
}
