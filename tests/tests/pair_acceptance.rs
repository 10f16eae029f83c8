//! Whole conversations of the connection with the scripted server, on a simulated wire and a virtual clock.

use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Event, Scope, TurnOptions},
    error::{DisconnectReason, Fault},
    id::ThreadId,
    protocol::{ModelList, ThreadStart, TurnStart, UserInput},
    turn::{DiagnosticKind, InterruptOutcome, RawEvent, State, SubscriptionKey, TurnKey},
};
use turnwire_testkit::{
    scripted::{Early, Rule, Script, TurnPlan},
    sim::{Direction, Faults, Pair, Polling},
};

const POLLINGS: [Polling; 4] = [Polling::Eager, Polling::Lazy, Polling::Nervous, Polling::Random];

/// The wires that every test here runs on: a clean one, and one that does what wires do.
fn pairs(script: &Script) -> impl Iterator<Item = Pair> + '_ {
    let wires = [Faults::default(), Faults::pieces(), Faults::rough()];
    wires.into_iter().enumerate().flat_map(move |(n, faults)| {
        POLLINGS.into_iter().map(move |polling| {
            Pair::with(script.clone(), Config::default(), faults.clone(), n as u64 + 1).polling(polling)
        })
    })
}

fn thread(pair: &mut Pair) -> ThreadId {
    pair.call(&ThreadStart::default()).expect("a thread").thread.id
}

fn start(pair: &mut Pair, thread: &ThreadId, prompt: &str) -> (TurnKey, SubscriptionKey) {
    let params = TurnStart::new(thread.clone(), [UserInput::text(prompt)]);
    let key = pair.client.start_turn(pair.time(), &params, &TurnOptions::default()).expect("a turn starts");
    (key, pair.client.subscribe(Scope::Turn(key)))
}

fn text_of(events: &[RawEvent]) -> String {
    let texts = events.iter().filter_map(|event| match event {
        RawEvent::Delta(delta) => Some(delta.text.as_str()),
        _ => None,
    });
    texts.collect()
}

/// Methods of notifications, ends and refusals; deltas that follow each other as one.
fn outline(events: &[RawEvent]) -> Vec<String> {
    let mut seen: Vec<String> = events
        .iter()
        .map(|event| match event {
            RawEvent::Delta(_) => "delta".into(),
            RawEvent::Ended(state) => format!("ended {state}"),
            RawEvent::Notification(notification) => notification.method.to_string(),
            RawEvent::Refused(refused) => format!("refused {}", refused.notification.method),
            other => format!("{other:?}"),
        })
        .collect();
    seen.dedup_by(|next, last| next == "delta" && last == "delta");
    seen
}

fn final_response(pair: &mut Pair, key: TurnKey) -> Option<String> {
    let report = pair.client.take_report(key).expect("a report").expect("it was started");
    report.into_result().expect("it ended well").final_response
}

fn assert_empty(pair: &mut Pair, turns: &[TurnKey], subscriptions: &[SubscriptionKey]) {
    for key in subscriptions {
        pair.client.unsubscribe(*key);
    }
    for key in turns {
        pair.client.release_turn(*key);
    }
    let left = pair.client.counters();
    assert_eq!((left.requests, left.turns, left.threads, left.subscriptions), (0, 0, 0, 0), "{left:?}");
    assert_eq!(left.unread_bytes, 0);
}

const WHOLE_TURN: [&str; 9] = [
    "turn/started",
    "item/started",
    "item/completed",
    "item/started",
    "delta",
    "item/completed",
    "thread/tokenUsage/updated",
    "turn/completed",
    "ended Completed",
];

#[test]
fn hs_01_the_first_line_is_initialize_and_nothing_else_goes_before_its_answer() {
    for mut pair in pairs(&Script::new().rule(Rule::on("initialize").delay(3_000).default_reply())) {
        // A call that is made at once waits.
        let models = pair.client.request(pair.time(), &ModelList::default()).expect("queued");
        pair.pass(Duration::from_secs(2));
        assert_eq!(pair.server.received_methods(), ["initialize"]);
        let params = pair.server.received_params("initialize");
        assert_eq!(params[0]["clientInfo"]["name"], "turnwire");
        assert_eq!(params[0]["clientInfo"]["title"], "turnwire");
        assert!(params[0]["clientInfo"]["version"].is_string());
        assert_eq!(params[0]["capabilities"]["experimentalApi"], true);
        pair.run_until_quiet();
        assert_eq!(pair.server.received_methods(), ["initialize", "initialized", "model/list"]);
        assert!(pair.client.take_response(&models).expect("answered").is_ok());
        let info = pair.client.server().expect("known");
        assert_eq!(info.version.as_deref(), Some("0.163.0"));
        assert!(info.user_agent.starts_with("turnwire/0.163.0 "));
        assert_eq!((info.codex_home.as_str(), info.platform_family.as_str()), ("/home/user/.codex", "unix"));
        assert_eq!(info.platform_os, "linux");
        assert_eq!(pair.next_edge(), Some(Event::Ready));
    }
}

#[test]
fn hs_03_a_server_that_never_answers_initialize_ends_at_the_deadline_with_its_stderr() {
    let script = Script::new().rule(Rule::on("initialize").stderr("waiting for godot\n"));
    for mut pair in pairs(&script) {
        let models = pair.client.request(pair.time(), &ModelList::default()).expect("queued");
        pair.run_until("the end", |pair| pair.client.closed().is_some());
        assert_eq!(pair.now(), pair.client.config().timeouts.initialize);
        let cause = pair.client.closed().expect("closed");
        assert!(matches!(cause.reason(), DisconnectReason::InitializeTimedOut { .. }), "{cause:?}");
        let error = pair.client.take_response(&models).expect("done").expect_err("not answered");
        assert!(error.is_closed());
        pair.run_until_quiet();
        assert!(pair.server.state().is_over(), "its input was closed");
    }
}

#[test]
fn hs_05_a_server_that_exits_before_answering_is_reported_at_once() {
    let script = Script::new().rule(Rule::at_start().delay(40).stderr("bad option\n").exit(2));
    for mut pair in pairs(&script) {
        pair.run_until_quiet();
        let cause = pair.client.closed().expect("closed");
        // On the rough wire the answer to `initialize` is held up and comes after the exit was seen.
        let exit = cause.exit().expect("reported");
        assert!(!pair.client.is_ready());
        assert_eq!(exit.status.and_then(|status| status.code), Some(2));
        assert_eq!(cause.stderr_tail(), "bad option\n");
        assert!(pair.now() < Duration::from_secs(5), "{:?}", pair.now());
    }
}

#[test]
fn tu_02_a_turn_streams_from_its_start_to_its_end_and_then_the_stream_ends() {
    for mut pair in pairs(&Script::new().turn(TurnPlan::new().text("Grüße, 世界! Tab\tand \"quotes\".").deltas(9)))
    {
        let thread = thread(&mut pair);
        let (key, reader) = start(&mut pair, &thread, "Hello");
        pair.run_until_quiet();
        let (events, is_over) = pair.read(reader);
        assert_eq!(outline(&events), WHOLE_TURN);
        assert!(is_over);
        assert_eq!(text_of(&events), "Grüße, 世界! Tab\tand \"quotes\".");
        assert_eq!(pair.client.turn_state(key), Some(State::Completed));
        assert_eq!(final_response(&mut pair, key).as_deref(), Some("Grüße, 世界! Tab\tand \"quotes\"."));
        assert!(pair.client.take_report(key).is_none(), "a report is fetched once");
        assert_empty(&mut pair, &[key], &[reader]);
        pair.close();
    }
}

#[test]
fn tu_03_events_that_come_before_the_reply_are_delivered_in_order() {
    for early in [Early::Started, Early::Completed] {
        let script = Script::new().early(early).reply_delay(200).turn(TurnPlan::new().text("early bird").deltas(5));
        for mut pair in pairs(&script) {
            let thread = thread(&mut pair);
            let (key, reader) = start(&mut pair, &thread, "Hello");
            pair.run_until_quiet();
            let (events, is_over) = pair.read(reader);
            assert_eq!(outline(&events), WHOLE_TURN, "{early:?}");
            assert!(is_over);
            assert_eq!(text_of(&events), "early bird");
            assert_eq!(final_response(&mut pair, key).as_deref(), Some("early bird"));
            assert_empty(&mut pair, &[key], &[reader]);
        }
    }
}

/// A notification and a server request before the reply, a delay, garbage, and after the given number of these an exit.
fn eventful(exit_after: usize) -> Script {
    let steps: [fn(Rule) -> Rule; 7] = [
        |rule| rule.notify("warning", json!({"threadId": "$thread", "message": "one"})),
        |rule| rule.ask("item/tool/call", 7, json!({"threadId": "$thread", "turnId": "early", "tool": "clock"})),
        |rule| rule.expect_answer(7),
        |rule| rule.delay(250),
        |rule| rule.raw_line(&b"\x1b[31mnot json\xff"[..]).raw_line("{\"id\":1,\"resu"),
        |rule| rule.stderr("going\n"),
        |rule| rule.reply(json!({"turn": {"id": "early", "items": [], "status": "inProgress"}})),
    ];
    let mut rule = Rule::on("turn/start");
    for step in steps.into_iter().take(exit_after) {
        rule = step(rule);
    }
    if exit_after < 7 {
        rule = rule.exit(9);
    }
    Script::new().rule(rule)
}

#[test]
fn ob_06_whatever_a_script_does_before_a_reply_reaches_the_connection_and_so_does_an_exit_at_any_step() {
    for steps in 0..=7 {
        for mut pair in pairs(&eventful(steps)) {
            let thread = thread(&mut pair);
            let of_thread = pair.client.subscribe(Scope::Thread(thread.clone()));
            let asked_at = pair.now();
            let (key, reader) = start(&mut pair, &thread, "Hello");
            pair.run_until_quiet();

            let (events, _) = pair.read(of_thread);
            let seen = outline(&events);
            let has = |what: &str| seen.iter().any(|seen| seen == what);
            assert_eq!((has("warning"), has("refused item/tool/call")), (steps >= 1, steps >= 2), "{steps}: {seen:?}");
            if steps >= 3 {
                let answer = pair.server.received_answer(7).expect("the server was answered");
                assert_eq!(answer["result"]["success"], Value::Bool(false));
            }
            let counters = pair.client.counters();
            let garbage = u64::from(steps >= 5);
            assert_eq!((counters.noise, counters.malformed), (garbage, garbage), "{steps}");
            let kinds: Vec<_> = pair.client.diagnostics().map(|diagnostic| diagnostic.kind).collect();
            assert_eq!(kinds.contains(&DiagnosticKind::Noise), steps >= 5);
            if steps >= 4 {
                assert!(pair.now() - asked_at >= Duration::from_millis(250), "the delay passed");
            }
            if steps < 7 {
                assert_eq!(pair.client.turn_state(key), Some(State::NotStarted), "{steps}");
                let error = pair.client.take_report(key).expect("an outcome").expect_err("it did not start");
                assert!(matches!(error.fault, Fault::Disconnected { .. }), "{error:?}");
                let cause = pair.client.closed().expect("closed");
                let status = cause.exit().and_then(|exit| exit.status).expect("a status");
                assert_eq!(status.code, Some(9), "{steps}");
                assert_eq!(cause.stderr_tail(), if steps >= 6 { "going\n" } else { "" });
                assert_eq!(pair.read(reader).0.len(), 1, "only its end");
            } else {
                assert_eq!(pair.client.turn_state(key), Some(State::Running));
                assert_eq!(outline(&pair.read(reader).0), ["refused item/tool/call"]);
                pair.close();
                assert_eq!(pair.client.turn_state(key), Some(State::Lost));
            }
            assert_empty(&mut pair, &[key], &[reader, of_thread]);
        }
    }
}

#[test]
fn st_01_a_steer_reaches_the_running_turn_and_the_model_sees_it() {
    for held in [false, true] {
        let script = Script::new().turn(TurnPlan::when("Hello").text("One.").hold()).reply_delay(100);
        for mut pair in pairs(&script) {
            let thread = thread(&mut pair);
            let (key, reader) = start(&mut pair, &thread, "Hello");
            if !held {
                pair.run_until("the text", |pair| text_of(&pair.read(reader).0).contains('.'));
            }
            // Before the server has named the turn, the steer waits for the name.
            let pending = pair.client.steer(pair.time(), key, vec!["and more".into()]).expect("it runs");
            pair.run_until_quiet();
            let expected = pair.client.turn_id(key).cloned().expect("named");
            let id = pair.client.take_steer(&pending, &expected).expect("answered").expect("taken");
            assert_eq!(id, expected, "the same turn");
            assert_eq!(pair.server.received_params("turn/steer")[0]["input"][0]["text"], "and more");
            let response = final_response(&mut pair, key).expect("a response");
            assert_eq!(response, "You also said: and more");
            assert_empty(&mut pair, &[key], &[reader]);
        }
    }
}

#[test]
fn st_07_an_interrupt_is_held_until_the_turn_runs_and_the_thread_runs_again_afterwards() {
    let script = Script::new().turn(TurnPlan::when("long").text("Once upon").hold()).started_delay(700);
    for mut pair in pairs(&script) {
        let thread = thread(&mut pair);
        let (key, reader) = start(&mut pair, &thread, "a long story");
        pair.run_until("the name", |pair| pair.client.turn_id(key).is_some());
        // The server would refuse it now, and run the turn.
        assert_eq!(pair.client.turn_state(key), Some(State::Running));
        pair.client.interrupt(pair.time(), key).expect("it is known");
        pair.client.interrupt(pair.time(), key).expect("and joins the first");
        pair.settle();
        assert!(pair.client.interrupt_outcome(key).is_none());
        pair.run_until_quiet();
        assert_eq!(pair.client.turn_state(key), Some(State::Interrupted));
        let outcome = pair.client.interrupt_outcome(key).expect("settled").expect("taken");
        assert_eq!(outcome, InterruptOutcome::Acknowledged);
        assert_eq!(pair.server.received_params("turn/interrupt").len(), 1, "asked for once");
        assert_eq!(outline(&pair.read(reader).0).last().map(String::as_str), Some("ended Interrupted"));

        let (next, next_reader) = start(&mut pair, &thread, "short");
        pair.run_until_quiet();
        assert_eq!(final_response(&mut pair, next).as_deref(), Some("You said: short"));
        assert_empty(&mut pair, &[key, next], &[reader, next_reader]);
    }
}

#[test]
fn st_07_an_interrupt_that_was_refused_between_reply_and_start_is_asked_for_again() {
    // Evidence that misleads: the turn shows itself before the server takes interrupts for it. The next sign of life helps.
    let plan = TurnPlan::when("long").text("a text in ten pieces").deltas(10).hold();
    let script = Script::new()
        .delta_delay(400)
        .turn(plan)
        .rule(Rule::on("turn/interrupt").nth(1).reply_error(-32600, "no active turn to interrupt"));
    for mut pair in pairs(&script) {
        let thread = thread(&mut pair);
        let (key, reader) = start(&mut pair, &thread, "long");
        pair.client.interrupt(pair.time(), key).expect("it is known");
        pair.run_until_quiet();
        assert_eq!(pair.server.received_params("turn/interrupt").len(), 2);
        assert_eq!(pair.client.turn_state(key), Some(State::Interrupted));
        assert_empty(&mut pair, &[key], &[reader]);
    }
}

#[test]
fn st_08_an_interrupt_that_is_never_acknowledged_ends_at_its_own_bound() {
    let script = Script::new().turn(TurnPlan::when("long").hold()).rule(Rule::on("turn/interrupt"));
    for mut pair in pairs(&script) {
        let thread = thread(&mut pair);
        let (key, reader) = start(&mut pair, &thread, "long");
        let called = pair.now();
        pair.client.interrupt(pair.time(), key).expect("it is known");
        pair.run_until("its outcome", |pair| pair.client.interrupt_outcome(key).is_some());
        assert_eq!(pair.now() - called, pair.client.config().timeouts.interrupt);
        let error = pair.client.interrupt_outcome(key).expect("settled").expect_err("not taken");
        assert!(error.is_timeout());
        pair.close();
        assert_eq!(pair.client.turn_state(key), Some(State::Lost));
        assert_empty(&mut pair, &[key], &[reader]);
    }
}

#[test]
fn rq_01_a_hundred_answers_in_reverse_order_find_their_callers() {
    let mut rule = Rule::on("echo").nth(100);
    for n in (0..100).rev() {
        // The handshake has id 1.
        rule = rule.reply_to_id(n + 2, json!({"n": n}));
    }
    let script = Script::new().rule(rule).rule(Rule::on("echo"));
    for seed in 0..20 {
        let mut config = Config::default();
        config.limits.max_in_flight = 100;
        let polling = POLLINGS[seed as usize % POLLINGS.len()];
        let mut pair = Pair::with(script.clone(), config, Faults::rough(), seed).polling(polling);
        let ask = |pair: &mut Pair, n: u32| pair.client.request_raw(pair.time(), "echo", &json!({"n": n}));
        let pending: Vec<_> = (0..100).map(|n| ask(&mut pair, n).expect("queued")).collect();
        pair.run_until_quiet();
        for (n, pending) in pending.iter().enumerate() {
            let json = pair.client.take_raw(pending).expect("answered").expect("a result");
            assert_eq!(json.as_str(), json!({"n": n}).to_string());
            assert!(pair.client.take_raw(pending).is_none(), "once");
        }
        assert_empty(&mut pair, &[], &[]);
    }
}

#[test]
fn a_wire_that_is_cut_at_any_byte_leaves_nobody_waiting() {
    let script = Script::new().turn(TurnPlan::new().text("Hello there").deltas(3));
    let whole: usize = {
        let mut pair = Pair::new(script.clone());
        let thread = thread(&mut pair);
        start(&mut pair, &thread, "Hello");
        pair.run_until_quiet();
        let to_client = pair.trace().iter().filter(|crossing| crossing.direction == Direction::ToClient);
        to_client.map(|crossing| crossing.bytes.len()).sum()
    };
    assert!(whole > 1_000, "{whole}");
    for cut in (1..=whole).step_by(7) {
        let faults = Faults::pieces().cut_after(cut as u64);
        let mut pair = Pair::with(script.clone(), Config::default(), faults, cut as u64);
        let Ok(started) = pair.call(&ThreadStart::default()) else {
            pair.run_until_quiet();
            assert!(pair.client.closed().is_some(), "cut at {cut}");
            assert_empty(&mut pair, &[], &[]);
            continue;
        };
        let thread = started.thread.id;
        let params = TurnStart::new(thread, [UserInput::text("Hello")]);
        let Ok(key) = pair.client.start_turn(pair.time(), &params, &TurnOptions::default()) else {
            assert!(pair.client.closed().is_some() || pair.client.wants_close_write(), "cut at {cut}");
            continue;
        };
        let reader = pair.client.subscribe(Scope::Turn(key));
        pair.run_until_quiet();
        assert!(pair.client.closed().is_some(), "cut at {cut}");
        let state = pair.client.turn_state(key).expect("known");
        assert!(state.is_end(), "cut at {cut}: {state}");
        let (events, is_over) = pair.read(reader);
        assert!(is_over && matches!(events.last(), Some(RawEvent::Ended(_))), "cut at {cut}: {events:?}");
        assert!("Hello there".starts_with(&text_of(&events)));
        assert_empty(&mut pair, &[key], &[reader]);
    }
}

#[test]
fn a_stalled_direction_delays_everything_and_loses_nothing() {
    let mut pair = Pair::new(Script::new());
    let thread = thread(&mut pair);
    let (key, reader) = start(&mut pair, &thread, "Hello");
    pair.stall(Direction::ToClient, Duration::from_secs(20));
    pair.pass(Duration::from_secs(19));
    assert_eq!(pair.read(reader).0.len(), 0);
    pair.run_until_quiet();
    assert_eq!(outline(&pair.read(reader).0), WHOLE_TURN);
    assert_empty(&mut pair, &[key], &[reader]);
}

#[test]
fn the_same_seed_gives_the_same_bytes_at_the_same_times() {
    let run = |seed| {
        let mut pair = Pair::with(Script::new(), Config::default(), Faults::rough(), seed);
        let thread = thread(&mut pair);
        start(&mut pair, &thread, "Hello");
        pair.close();
        pair.trace().to_vec()
    };
    assert!(run(1).len() > 20);
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}
