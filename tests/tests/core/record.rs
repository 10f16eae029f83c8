//! The tap, recordings, and what a replay makes of them.

use crate::{
    asks::everything,
    lab::{Lab, completed, delta},
};
use serde_json::{Value, json};
use std::{fs, path::Path, time::Duration};
use turnwire_core::{
    connection::{AskEnd, AskKind, Config, Connection, Event, NextAsk, Scope, TraceContext, TurnOptions},
    error::{DisconnectReason, RpcError, TurnError},
    json::Json,
    protocol::{ModelList, ThreadStart, TurnStart, UserInput},
    record::{FORMAT, Part, Record, Recording, Redactor, Replay, Replayed, ReplayedEvent, Step},
    time::Time,
    turn::{Next, RawEvent, State, SubscriptionKey, TurnResult},
};
use turnwire_testkit::{
    scripted::{Rule, Script, TurnPlan},
    sim::{Faults, Pair},
};

fn tapped() -> Config {
    let mut config = Config::default();
    config.tap = true;
    config
}

fn records(connection: &mut Connection, now: Time) -> Vec<Record> {
    let next = || {
        let has_tapped = connection.has_tapped();
        let record = connection.poll_tap(now);
        assert_eq!(has_tapped, record.is_some(), "what wakes a recorder is what it finds");
        record
    };
    std::iter::from_fn(next).collect()
}

fn outline(records: &[Record]) -> Vec<String> {
    let method = |text: &str| {
        let value: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
        value["method"].as_str().unwrap_or("-").to_owned()
    };
    let describe = |record: &Record| match &record.step {
        Step::Sent(line) => format!("> {}", method(&line.text())),
        Step::Received(line) if line.part == Part::Whole => format!("< {}", method(&line.text())),
        step => format!("{step:?}"),
    };
    records.iter().map(describe).collect()
}

/// An event with everything that is in it.
fn whole(event: &RawEvent) -> String {
    match event {
        RawEvent::Delta(delta) => format!(
            "delta {:?} {} {} {} {:?} {} {:?}",
            delta.kind,
            delta.thread,
            delta.turn,
            delta.item,
            delta.index,
            delta.text,
            delta.raw.as_ref().map(|raw| raw.as_str().to_owned())
        ),
        RawEvent::Notification(notification) => format!(
            "{} {} {:?} {:?} {:?}",
            notification.method,
            notification.params_text(),
            notification.emitted_at_ms,
            notification.thread,
            notification.turn
        ),
        RawEvent::Refused(refused) => {
            format!("refused {:?} {} {}", refused.id, refused.notification.method, refused.notification.params_text())
        }
        RawEvent::Diagnostic(diagnostic) => {
            format!("{:?} {} {}", diagnostic.kind, diagnostic.length, diagnostic.head)
        }
        other => format!("{other:?}"),
    }
}

/// An event without what a redactor takes out.
fn shape(event: &RawEvent) -> String {
    match event {
        RawEvent::Delta(delta) => format!("delta {:?} {:?} {}", delta.kind, delta.index, delta.text.chars().count()),
        RawEvent::Notification(notification) => format!("{} {:?}", notification.method, notification.emitted_at_ms),
        RawEvent::Diagnostic(diagnostic) => format!("{:?}", diagnostic.kind),
        RawEvent::AskEnded(asked, AskEnd::Answered(_)) => format!("answered {}", asked.request.method),
        other => asking(other).unwrap_or_else(|| format!("{other:?}")),
    }
}

/// What is asked of the application, and what becomes of it.
fn asking(event: &RawEvent) -> Option<String> {
    match event {
        RawEvent::Asked(asked) => Some(format!("asked {}", asked.request.method)),
        RawEvent::AskEnded(asked, end) => Some(format!("ended {} {end:?}", asked.request.method)),
        RawEvent::Refused(refused) => Some(format!("refused {}", refused.notification.method)),
        _ => None,
    }
}

/// A replayed event, whatever kind it is of, without what a redactor takes out.
fn told(replayed: &Replayed) -> Option<String> {
    match &replayed.event {
        ReplayedEvent::Turn { turn, event } => Some(format!("turn {turn}: {}", shape(event))),
        ReplayedEvent::TurnOver { turn, result } => Some(format!("turn {turn} over: {}", state(result))),
        ReplayedEvent::Connection(event) => Some(shape(event)),
        ReplayedEvent::Response { method, outcome } => Some(format!("{method} {}", outcome.is_ok())),
        _ => None,
    }
}

fn of_turn(replayed: &[Replayed], wanted: usize, describe: fn(&RawEvent) -> String) -> Vec<String> {
    let of = |replayed: &Replayed| match &replayed.event {
        ReplayedEvent::Turn { turn, event } if *turn == wanted => Some(describe(event)),
        _ => None,
    };
    replayed.iter().filter_map(of).collect()
}

fn result_of(replayed: &[Replayed], wanted: usize) -> &Result<TurnResult, TurnError> {
    let of =
        |replayed: &'_ Replayed| matches!(&replayed.event, ReplayedEvent::TurnOver { turn, .. } if *turn == wanted);
    match replayed.iter().find(|replayed| of(replayed)).map(|replayed| &replayed.event) {
        Some(ReplayedEvent::TurnOver { result, .. }) => result,
        _ => panic!("turn {wanted} is over"),
    }
}

#[test]
fn ob_03_the_tap_keeps_both_directions_in_the_order_of_the_machine_numbered_and_timed() {
    let mut lab = Lab::ready_with(tapped());
    lab.now = Time::from_nanos(1_000);
    let models = lab.connection.request(lab.now, &ModelList::new()).expect("entered");
    lab.notify("thread/started", json!({"thread": {"id": "T"}}));
    lab.sent();
    lab.now = Time::from_nanos(2_000);
    // Two lines in one read, and one in two.
    lab.say_bytes(b"{\"method\":\"a\"}\nbanner\n{\"id\":2,");
    lab.now = Time::from_nanos(3_000);
    lab.say_bytes(b"\"result\":{\"data\":[]}}\r\n{\"meth");
    lab.connection.take_response(&models).expect("answered").expect("decodes");
    lab.connection.handle_eof(lab.now);
    let records = records(&mut lab.connection, lab.now);
    assert_eq!(
        outline(&records),
        [
            "> initialize",
            "< -",
            "> initialized",
            "< thread/started",
            "> model/list",
            "< a",
            "< -",
            "< -",
            "Received(Line(6 bytes, Cut))",
            "Eof",
        ]
    );
    let numbers: Vec<u64> = records.iter().map(|record| record.number).collect();
    assert_eq!(numbers, (1..=10).collect::<Vec<u64>>());
    let times: Vec<u64> = records.iter().map(|record| record.at.as_nanos()).collect();
    assert_eq!(times, [0, 0, 0, 1_000, 1_000, 2_000, 2_000, 3_000, 3_000, 3_000]);
    let Step::Received(line) = &records[7].step else { panic!("a line") };
    assert_eq!(&*line.text(), r#"{"id":2,"result":{"data":[]}}"#, "whole, and without its end");
}

#[test]
fn ob_03_what_else_moves_the_machine_is_kept_too() {
    let mut lab = Lab::ready_with(tapped());
    let params = TurnStart::new("T", [UserInput::text("Hello")]);
    let options = TurnOptions::default().deadline(Duration::from_secs(5));
    lab.connection.start_turn(lab.now, &params, &options).expect("a turn");
    let models = lab.connection.request(lab.now, &ModelList::new()).expect("entered");
    lab.sent();
    lab.connection.abandon(models.key());
    lab.pass(Duration::from_secs(1));
    lab.pass(Duration::from_secs(4));
    lab.connection.handle_disconnect(lab.now, DisconnectReason::Io("broken pipe".into()));
    lab.connection.close(lab.now, Duration::from_secs(15));
    let seen = outline(&records(&mut lab.connection, lab.now));
    assert_eq!(
        seen[3..],
        [
            "Deadline { request: 2, within: 5s }",
            "> turn/start",
            "> model/list",
            "Abandon { request: 3 }",
            "Timeout",
            "Disconnect(Io(\"broken pipe\"))",
        ],
        "a time at which nothing was due is no timeout, and what is over is not closed"
    );
}

#[test]
fn ob_03_a_tap_past_its_bound_loses_records_and_says_where_and_how_many() {
    let mut config = tapped();
    config.limits.max_tap_bytes = 4_000;
    let mut lab = Lab::ready_with(config);
    for n in 0..100 {
        lab.notify("m", json!({"n": n, "text": "x".repeat(100)}));
    }
    let lost = lab.connection.counters().tap_lost;
    assert!(lost > 50, "{lost}");
    let kept = records(&mut lab.connection, lab.now);
    assert!(kept.iter().map(|record| record.step.size()).sum::<usize>() < 4_200);
    let last = kept.last().expect("a record");
    assert_eq!(last.step, Step::Lost { records: lost }, "nothing came after it that could have said so");
    lab.notify("after", json!({}));
    let after = records(&mut lab.connection, lab.now);
    assert_eq!(outline(&after), ["< after"]);
    assert_eq!(after[0].number, last.number + 1);
    assert_eq!(last.number, kept[kept.len() - 2].number + lost + 1, "what was lost had numbers");
}

#[test]
fn ob_03_a_record_that_just_fits_is_kept() {
    let kept = |max: usize| {
        let mut config = tapped();
        config.limits.max_tap_bytes = max;
        let mut lab = Lab::ready_with(config);
        records(&mut lab.connection, lab.now);
        lab.notify("m", json!({"text": "x".repeat(1_000)}));
        let size = records(&mut lab.connection, lab.now).first().map(|record| record.step.size());
        size.filter(|size| *size > 1_000)
    };
    let size = kept(1 << 20).expect("there is room");
    assert_eq!((kept(size), kept(size - 1)), (Some(size), None));
}

#[test]
fn ob_03_without_a_tap_nothing_is_kept() {
    let mut lab = Lab::ready();
    lab.notify("m", json!({}));
    assert!(!lab.connection.has_tapped() && lab.connection.poll_tap(lab.now).is_none());
    lab.connection.set_tap(true);
    lab.notify("n", json!({}));
    assert_eq!(outline(&records(&mut lab.connection, lab.now)), ["< n"]);
}

/// What a program saw of a session.
struct Seen {
    recording: Recording,
    turns: Vec<Vec<String>>,
    shapes: Vec<Vec<String>>,
    results: Vec<Result<TurnResult, TurnError>>,
    connection: Vec<String>,
}

fn read_all(pair: &mut Pair, key: SubscriptionKey) -> (Vec<String>, Vec<String>) {
    let (events, _) = pair.read(key);
    (events.iter().map(whole).collect(), events.iter().map(shape).collect())
}

/// A session with everything that a replay has to make again.
fn session(faults: Faults, seed: u64) -> Seen {
    let script = Script::new()
        .turn(TurnPlan::when("approve").command("rm -rf /", "gone", 0).with_approval().text("I was not allowed to."))
        .turn(TurnPlan::when("hold").hold())
        .turn(TurnPlan::when("think").reasoning("Let me see.").text("Ünïcode ✓ 你好 🎉, in several pieces of text."))
        .rule(Rule::on("model/list").raw_line("my banner").default_reply())
        .delta_delay(3)
        .reply_delay(2);
    let mut config = tapped();
    config.limits.merge_after = None;
    let mut pair = Pair::with(script, config, faults, seed);
    let connection = pair.client.subscribe(Scope::Connection);
    let threads: Vec<_> = (0..3).map(|_| pair.call(&ThreadStart::default()).expect("a thread").thread.id).collect();
    let mut readers = Vec::new();
    let mut keys = Vec::new();
    let mut start = |pair: &mut Pair, thread: usize, prompt: &str, options: &TurnOptions| {
        let params = TurnStart::new(threads[thread].clone(), [UserInput::text(prompt)]);
        let key = pair.client.start_turn(pair.time(), &params, options).expect("a turn starts");
        readers.push(pair.client.subscribe(Scope::Turn(key)));
        keys.push(key);
        key
    };
    // Three at once, and one of them past its deadline.
    start(&mut pair, 0, "please approve", &TurnOptions::default());
    start(&mut pair, 1, "please hold", &TurnOptions::default().deadline(Duration::from_secs(3)));
    start(&mut pair, 2, "please think", &TurnOptions::default());
    pair.run_until_quiet();
    let held = start(&mut pair, 0, "please hold again", &TurnOptions::default());
    pair.pass(Duration::from_millis(100));
    pair.client.interrupt(pair.time(), held).expect("the turn is there");
    pair.run_until_quiet();
    pair.call(&ModelList::new()).expect("answered");
    let given_up = pair.client.request(pair.time(), &ModelList::new()).expect("entered");
    pair.settle();
    pair.client.abandon(given_up.key());
    pair.run_until_quiet();
    pair.close();
    let now = pair.time();
    let mut recording = Recording::new(records(&mut pair.client, now));
    recording.header = turnwire_core::record::Header::of(pair.client.config(), false);
    let (turns, shapes) = readers.iter().map(|reader| read_all(&mut pair, *reader)).unzip();
    let results = keys.iter().map(|key| {
        let report = pair.client.take_report(*key).expect("a report");
        report.map_err(TurnError::Start).and_then(|report| report.into_result())
    });
    let results = results.collect();
    let connection = read_all(&mut pair, connection).0;
    Seen { recording, turns, shapes, results, connection }
}

fn state(result: &Result<TurnResult, TurnError>) -> String {
    match result {
        Ok(result) => format!("{:?} {:?}", result.status, result.usage),
        Err(error) => format!("error {}", error.is_timeout()),
    }
}

#[test]
fn ob_04_a_recorded_session_replays_to_the_same_events_without_a_server() {
    for (seed, faults) in [(1, Faults::default()), (2, Faults::pieces()), (3, Faults::rough()), (4, Faults::rough())] {
        let seen = session(faults, seed);
        assert_eq!(seen.turns.len(), 4);
        assert!(seen.turns.iter().all(|events| events.last().is_some_and(|last| last.starts_with("Ended("))));
        assert!(seen.turns[0].iter().any(|event| event.starts_with("refused")), "{:?}", seen.shapes[0]);
        assert_eq!(seen.recording.server_version().as_deref(), Some("0.163.0"));
        // Through the file, as a bug report would come.
        let recording = Recording::parse(&seen.recording.to_text()).expect("a recording");
        assert_eq!(recording, seen.recording);
        let mut replay = Replay::new(&recording);
        let replayed: Vec<Replayed> = replay.by_ref().collect();
        assert!(replay.divergences().is_empty(), "seed {seed}: {:?}", replay.divergences());
        for (turn, events) in seen.turns.iter().enumerate() {
            assert_eq!(&of_turn(&replayed, turn, whole), events, "seed {seed}, turn {turn}");
            let result = result_of(&replayed, turn);
            assert_eq!(state(result), state(&seen.results[turn]), "seed {seed}, turn {turn}");
            if let (Ok(own), Ok(recorded)) = (result, &seen.results[turn]) {
                assert_eq!(own.final_response, recorded.final_response);
                assert_eq!((&own.thread_id, &own.turn_id), (&recorded.thread_id, &recorded.turn_id));
            }
        }
        let of_connection = replayed.iter().filter_map(|replayed| match &replayed.event {
            ReplayedEvent::Connection(event) => Some(whole(event)),
            _ => None,
        });
        assert_eq!(of_connection.collect::<Vec<_>>(), seen.connection, "seed {seed}");
        let Some(ReplayedEvent::Closed(cause)) = replayed.last().map(|replayed| &replayed.event) else {
            panic!("the end is last")
        };
        assert_eq!(*cause.reason(), DisconnectReason::ClosedByCaller);
        assert!(cause.exit().is_some());
    }
}

#[test]
fn ob_04_a_redacted_recording_replays_to_the_same_shapes() {
    let seen = session(Faults::rough(), 5);
    let redacted = seen.recording.redacted(&Redactor::with_seed(9));
    let text = redacted.to_text();
    for secret in ["rm -rf", "allowed", "Ünïcode", "approve", "banner", "Let me see"] {
        assert!(seen.recording.to_text().contains(secret) && !text.contains(secret), "{secret}");
    }
    let recording = Recording::parse(&text).expect("a recording");
    assert!(recording.header.redacted && recording.header.format == FORMAT);
    assert_eq!(recording.server_version().as_deref(), Some("0.163.0"));
    let mut replay = Replay::new(&recording);
    let replayed: Vec<Replayed> = replay.by_ref().collect();
    assert!(replay.divergences().is_empty(), "{:?}", replay.divergences());
    for (turn, events) in seen.shapes.iter().enumerate() {
        assert_eq!(&of_turn(&replayed, turn, shape), events, "turn {turn}");
        assert_eq!(state(result_of(&replayed, turn)), state(&seen.results[turn]), "turn {turn}");
    }
}

#[test]
fn ob_04_a_replay_says_where_what_is_written_is_not_what_was_recorded() {
    let mut lab = Lab::ready_with(tapped());
    lab.turn("T", "U");
    lab.say(json!({"id": 7, "method": "item/commandExecution/requestApproval",
        "params": {"threadId": "T", "turnId": "U", "itemId": "I"}}));
    lab.sent();
    lab.notify(completed("T", "U", "completed").0, completed("T", "U", "completed").1);
    let records = records(&mut lab.connection, lab.now);
    let text = Recording::new(records).to_text();
    assert!(text.contains("decline"), "{text}");
    let play = |text: &str| {
        let mut replay = Replay::new(&Recording::parse(text).expect("a recording"));
        assert!(replay.by_ref().count() > 0);
        replay.divergences().to_vec()
    };
    assert_eq!(play(&text), []);
    // Another program says another name.
    let mut config = Config::default();
    config.client_name = "somebody else".into();
    let mut replay = Replay::with_config(&Recording::parse(&text).expect("a recording"), config);
    assert!(replay.by_ref().count() > 0);
    let [divergence] = replay.divergences() else { panic!("{:?}", replay.divergences()) };
    assert_eq!((divergence.number, divergence.path.as_str()), (1, "/params/clientInfo/name"));
    assert!(divergence.actual.as_ref().is_some_and(|line| line.text().contains("somebody else")));
    assert!(divergence.expected.as_ref().is_some_and(|line| !line.text().contains("somebody else")));
    let shown = format!("{divergence} {divergence:?}");
    assert!(shown.contains("record 1") && !shown.contains("somebody"), "places, and no text: {shown}");
    // Another program had not answered; a recording that was cut off may only lack it.
    let without: Vec<&str> = text.lines().filter(|line| !line.contains("decline")).collect();
    assert_eq!(play(&(without.join("\n") + "\n")), []);
    let eof = r#"{"n":10,"t_ns":0,"dir":"note","note":"eof"}"#;
    let found = play(&format!("{}\n{eof}\n", without.join("\n")));
    assert!(matches!(found.as_slice(), [divergence] if divergence.expected.is_none()), "{found:?}");
    // Another program had said more at the start.
    let found = play(&text.replacen("\\\"capabilities\\\":{", "\\\"capabilities\\\":{\\\"mood\\\":1,", 1));
    let [divergence] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!((divergence.number, divergence.path.as_str()), (1, "/params/capabilities/mood"));
}

#[test]
fn ob_04_what_the_application_was_asked_and_answered_is_asked_and_answered_again() {
    let mut lab = Lab::ready_with(tapped());
    let (_, reader) = lab.turn("T", "U");
    let mut wants = everything();
    wants.kinds.remove(&AskKind::Permissions);
    let listener = lab.connection.listen(wants);
    let asked: [(Value, &str); 7] = [
        (json!(1), "item/commandExecution/requestApproval"),
        (json!("two"), "item/fileChange/requestApproval"),
        (json!(3), "item/tool/call"),
        (json!(4), "item/permissions/requestApproval"),
        (json!(5), "item/commandExecution/requestApproval"),
        (json!(6), "item/tool/requestUserInput"),
        (json!(7), "item/commandExecution/requestApproval"),
    ];
    for (id, method) in asked {
        let params = json!({"threadId": "T", "turnId": "U", "itemId": format!("i{id}"), "callId": "c"});
        lab.say(json!({"id": id, "method": method, "params": params}));
    }
    let mut keys = Vec::new();
    while let NextAsk::Asked(asked) = lab.connection.next_ask(listener) {
        keys.push(asked.key);
    }
    lab.sent();
    let [command, files, tool, declined, open, resolved] = keys.as_slice().try_into().expect("one is refused at once");
    let answer = |lab: &mut Lab, key, answer| {
        lab.pass(Duration::from_secs(1));
        lab.connection.respond(key, answer).expect("open");
        lab.sent();
    };
    answer(&mut lab, files, Ok(Json::from(json!({"decision": "acceptForSession"}))));
    answer(&mut lab, command, Ok(Json::from(json!({"decision": "accept"}))));
    answer(&mut lab, tool, Err(RpcError::new(-32603, "my tool is out of order")));
    // The same words as where nobody answers, but somebody did.
    answer(&mut lab, declined, Ok(Json::from(json!({"decision": "decline"}))));
    lab.notify("serverRequest/resolved", json!({"threadId": "T", "requestId": 6}));
    lab.notify(completed("T", "U", "completed").0, completed("T", "U", "completed").1);
    assert!(!lab.connection.is_ask_open(open) && !lab.connection.is_ask_open(resolved));
    let mut seen = Vec::new();
    while let Next::Event(event) = lab.connection.next_event(reader) {
        seen.extend(asking(&event));
    }
    assert_eq!(seen.iter().filter(|event| event.starts_with("asked")).count(), 6, "{seen:?}");
    assert_eq!(seen.iter().filter(|event| event.starts_with("ended")).count(), 6, "{seen:?}");

    let whole = Recording::new(records(&mut lab.connection, lab.now));
    let redacted = whole.redacted(&Redactor::with_seed(3));
    assert!(!redacted.to_text().contains("out of order"));
    for recording in [whole, redacted] {
        let recording = Recording::parse(&recording.to_text()).expect("a recording");
        let mut replay = Replay::new(&recording);
        let replayed: Vec<Replayed> = replay.by_ref().collect();
        assert!(replay.divergences().is_empty(), "{:?}", replay.divergences());
        let again = replayed.iter().filter_map(|replayed| match &replayed.event {
            ReplayedEvent::Turn { event, .. } => asking(event),
            _ => None,
        });
        assert_eq!(again.collect::<Vec<_>>(), seen);
        assert_eq!(replay.connection().counters().asks, 0);
    }
}

#[test]
fn ob_04_a_message_with_a_banner_or_a_dressing_is_one_in_a_redacted_recording_too() {
    let initialize = json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "me", "version": "1"}}});
    let ready = json!({"id": 1, "result": {"userAgent": "me/0.163.0"}});
    let started = json!({"method": "thread/started", "params": {"thread": {"id": "T", "preview": "my secret"}}});
    let line = |dir: &str, line: String| json!({"t_ms": 1, "dir": dir, "line": line}).to_string();
    let text = [
        line("in", initialize.to_string()),
        line("out", format!("my secret banner > {ready}")),
        line("out", format!("\u{1b}]0;my secret\u{7}\u{1b}[0m{started}\u{1b}[0m")),
        line("out", format!("my secret log of {started}")),
    ];
    let whole = Recording::parse(&text.join("\n")).expect("a recording");
    let redacted = whole.redacted(&Redactor::with_seed(4));
    assert!(!redacted.to_text().contains("secret"), "{}", redacted.to_text());
    for recording in [whole, redacted] {
        let mut replay = Replay::new(&recording);
        let replayed: Vec<Replayed> = replay.by_ref().collect();
        assert!(replayed.iter().any(|replayed| matches!(replayed.event, ReplayedEvent::Ready)), "{replayed:?}");
        let told: Vec<String> = replayed.iter().filter_map(told).collect();
        assert_eq!(told, ["Noise", "Noise", "thread/started None", "Noise"]);
    }
}

#[test]
fn ob_04_a_recording_that_was_cut_off_replays_as_far_as_it_goes() {
    let seen = session(Faults::rough(), 6);
    let whole: Vec<String> = Replay::new(&seen.recording).filter_map(|replayed| told(&replayed)).collect();
    for redactor in [None, Some(Redactor::with_seed(1))] {
        for count in 0..seen.recording.records.len() {
            let mut recording = seen.recording.clone();
            recording.records.truncate(count);
            if let Some(redactor) = &redactor {
                recording = recording.redacted(redactor);
            }
            let mut replay = Replay::new(&recording);
            let told: Vec<String> = replay.by_ref().filter_map(|replayed| told(&replayed)).collect();
            assert_eq!(told, whole[..told.len()], "after {count}");
            assert_eq!(replay.divergences(), [], "after {count}");
        }
    }
}

#[test]
fn ob_04_a_recording_of_another_client_says_by_its_answers_what_was_granted() {
    let line = |dir: &str, line: Value| json!({"t_ms": 1, "dir": dir, "line": line.to_string()}).to_string();
    let ask = |id: u32| {
        line(
            "out",
            json!({"id": id, "method": "item/commandExecution/requestApproval",
            "params": {"threadId": "T", "turnId": "U", "itemId": "i"}}),
        )
    };
    let text = [
        ask(1),
        line("in", json!({"id": 1, "result": {"decision": "accept"}})),
        ask(2),
        line("in", json!({"id": 2, "result": {"decision": "decline"}})),
    ];
    let mut replay = Replay::new(&Recording::parse(&text.join("\n")).expect("a recording"));
    let seen: Vec<String> = replay
        .by_ref()
        .filter_map(|replayed| match &replayed.event {
            ReplayedEvent::Connection(event) => asking(event),
            _ => None,
        })
        .collect();
    let method = "item/commandExecution/requestApproval";
    let ended = format!("ended {method} Answered(\"accept\")");
    assert_eq!(seen, [format!("asked {method}"), ended, format!("refused {method}")]);
    assert!(replay.divergences().is_empty(), "{:?}", replay.divergences());
}

#[test]
fn ob_04_ids_of_another_run_are_mapped() {
    let mut lab = Lab::ready_with(tapped());
    let (key, reader) = lab.turn("T", "U");
    let (method, params) = delta("T", "U", "I", "text");
    lab.notify(method, params);
    lab.notify(completed("T", "U", "completed").0, completed("T", "U", "completed").1);
    assert_eq!(lab.connection.turn_state(key), Some(State::Completed));
    let seen = lab.read(reader);
    let text = Recording::new(records(&mut lab.connection, lab.now)).to_text();
    let renumbered = text.replace("\\\"id\\\":2,", "\\\"id\\\":\\\"start-of-turn\\\",");
    assert_ne!(renumbered, text);
    let mut replay = Replay::new(&Recording::parse(&renumbered).expect("a recording"));
    let replayed: Vec<Replayed> = replay.by_ref().collect();
    assert_eq!(replay.divergences(), []);
    assert_eq!(of_turn(&replayed, 0, crate::lab::describe), &seen[..seen.len() - 1]);
}

#[test]
fn ob_04_the_recorded_sessions_of_every_server_version_replay_the_same_whole_and_redacted() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut turns_seen = 0;
    for path in fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()) {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let recording = Recording::parse(&fs::read_to_string(&path).expect("read")).expect(&name);
        assert_eq!((recording.header.format, recording.header.redacted), (0, false), "{name}");
        assert!(recording.records.len() > 3, "{name}");
        let redacted = recording.redacted(&Redactor::default());
        let again = Recording::parse(&redacted.to_text()).expect(&name);
        let mut whole_run = Replay::new(&recording).with_threads();
        let first: Vec<Replayed> = whole_run.by_ref().collect();
        let second: Vec<Replayed> = Replay::new(&recording).with_threads().collect();
        let mut redacted_run = Replay::new(&again).with_threads();
        let third: Vec<Replayed> = redacted_run.by_ref().collect();
        let outline = |replayed: &[Replayed], describe: fn(&RawEvent) -> String| -> Vec<String> {
            let each = |replayed: &Replayed| {
                let event = match &replayed.event {
                    ReplayedEvent::Turn { turn, event } => format!("turn {turn}: {}", describe(event)),
                    ReplayedEvent::Thread(_, event) => format!("thread: {}", describe(event)),
                    ReplayedEvent::Connection(event) => format!("connection: {}", describe(event)),
                    ReplayedEvent::TurnOver { turn, result } => format!("turn {turn} over: {}", state(result)),
                    ReplayedEvent::Response { method, outcome } => {
                        let failed =
                            outcome.as_ref().err().map(|error| (error.is_closed(), error.rpc().map(|rpc| rpc.code)));
                        // What no schema knows is taken out.
                        let is_known = turnwire_core::protocol::request_info(method).is_some();
                        format!("{}: {failed:?}", if is_known { method } else { "unknown" })
                    }
                    other => format!("{:?}", std::mem::discriminant(other)),
                };
                format!("{} {event}", replayed.number)
            };
            replayed.iter().map(each).collect()
        };
        assert_eq!(outline(&first, whole), outline(&second, whole), "{name}: a replay is not the same twice");
        assert_eq!(outline(&first, shape), outline(&third, shape), "{name}: redacting changes what happens");
        turns_seen += first.iter().filter(|replayed| matches!(replayed.event, ReplayedEvent::TurnOver { .. })).count();
        match name.as_str() {
            // Clients that did on purpose what turnwire does not, and one that says more of itself.
            "handshake_errors" | "malformed_input" | "external_auth" => {}
            // Of two requests, one is answered twice and one when it is over.
            name if name.ends_with("approval_command") => {
                assert_eq!(whole_run.divergences().len(), 2, "{name}: {:?}", whole_run.divergences())
            }
            // The second of two interrupts.
            "interrupt" => assert_eq!(whole_run.divergences().len(), 1, "{name}: {:?}", whole_run.divergences()),
            _ => assert_eq!(whole_run.divergences().len(), 0, "{name}: {:?}", whole_run.divergences()),
        }
    }
    assert!(turns_seen > 30, "{turns_seen}");
}

#[test]
fn ob_02_requests_carry_a_trace_context_only_when_they_are_told_to() {
    let mut lab = Lab::ready();
    lab.connection.request(lab.now, &ModelList::new()).map(drop).expect("entered");
    assert!(lab.sent_one().get("trace").is_none());
    let parent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    lab.connection.set_trace_context(Some(TraceContext::new(parent).tracestate("a=b")));
    let (_, _, _) = {
        lab.connection.request(lab.now, &ModelList::new()).map(drop).expect("entered");
        let line = lab.sent_one();
        assert_eq!(line["trace"], json!({"traceparent": parent, "tracestate": "a=b"}));
        let params = TurnStart::new("T", [UserInput::text("Hello")]);
        lab.connection.start_turn(lab.now, &params, &TurnOptions::default()).expect("a turn");
        let line = lab.sent_one();
        assert_eq!(line["trace"]["traceparent"], parent);
        assert!(line["params"].get("trace").is_none());
        ((), (), ())
    };
    lab.connection.set_trace_context(None);
    lab.connection.request(lab.now, &ModelList::new()).map(drop).expect("entered");
    assert!(lab.sent_one().get("trace").is_none());
}

#[test]
fn ob_08_the_counters_say_what_is_pending_queued_merged_left_out_late_and_unknown() {
    let mut config = Config::default();
    config.limits.max_in_flight = 2;
    config.limits.merge_after = Some(1);
    let mut lab = Lab::ready_with(config);
    let pending: Vec<_> =
        (0..5).map(|_| lab.connection.request(lab.now, &ModelList::new()).expect("entered")).collect();
    let sent = lab.sent();
    let counters = lab.connection.counters();
    assert_eq!((counters.requests, counters.pending, counters.queued), (5, 2, 3));
    lab.say(json!({"id": sent[0]["id"], "result": {"data": []}}));
    let counters = lab.connection.counters();
    assert_eq!((counters.requests, counters.pending, counters.queued), (5, 1, 3), "one is done and not fetched");
    lab.connection.take_response(&pending[0]).expect("done").expect("decodes");
    lab.connection.abandon(pending[1].key());
    lab.say(json!({"id": sent[1]["id"], "result": {"data": []}}));
    lab.say(json!({"id": 4711, "result": {}}));
    lab.say(json!({"id": sent[0]["id"], "result": {}}));
    lab.say_bytes(b"banner\n{\"broken\n");
    let counters = lab.connection.counters();
    assert_eq!((counters.late, counters.unknown_responses, counters.duplicate), (1, 1, 1));
    assert_eq!((counters.noise, counters.malformed), (1, 1));
    assert_eq!(lab.connection.diagnosed(), 5);
    for key in &pending[2..] {
        lab.connection.abandon(key.key());
    }
    let mut config = Config::default();
    config.limits.merge_after = Some(1);
    config.limits.max_unread_bytes = 1;
    let mut lab = Lab::ready_with(config);
    lab.turn("T", "U");
    for text in ["a", "b", "c"] {
        let (method, params) = delta("T", "U", "I", text);
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.counters().left_out, 2);
    let mut config = Config::default();
    config.limits.merge_after = Some(1);
    let mut lab = Lab::ready_with(config);
    lab.turn("T", "U");
    for text in ["a", "b", "c"] {
        let (method, params) = delta("T", "U", "I", text);
        lab.notify(method, params);
    }
    assert_eq!(lab.connection.counters().merged, 2);
}

#[test]
fn ob_09_the_handshake_is_timed_from_the_hand_over_to_the_answer() {
    let mut lab = Lab::new(Config::default());
    lab.now = lab.now + Duration::from_secs(3);
    let id = lab.sent_one()["id"].clone();
    assert_eq!(lab.connection.handshake_took(), None);
    lab.now = lab.now + Duration::from_millis(250);
    lab.say(json!({"id": id, "result": {"userAgent": "lab/0.163.0"}}));
    lab.now = lab.now + Duration::from_secs(9);
    lab.notify("m", json!({}));
    assert_eq!(lab.connection.handshake_took(), Some(Duration::from_millis(250)));
}

#[test]
fn ob_04_a_time_of_day_that_was_told_is_told_again_to_the_request_that_asked() {
    let mut lab = Lab::ready_with(tapped());
    for id in [7, 8] {
        lab.say(json!({"id": id, "method": "currentTime/read", "params": {"threadId": "T"}}));
    }
    let wanted = |event: &Event| if let Event::TimeWanted(key) = event { Some(*key) } else { None };
    let wanted: Vec<_> = lab.events.iter().filter_map(wanted).collect();
    for (key, seconds) in wanted.into_iter().rev().zip([100, 200]) {
        lab.connection.respond_time(key, seconds);
    }
    let told: Vec<_> = lab.sent().iter().map(|line| (line["id"].clone(), line["result"].clone())).collect();
    let time = |seconds: u64| json!({"currentTimeAt": seconds});
    assert_eq!(told, [(json!(8), time(100)), (json!(7), time(200))]);
    let mut replay = Replay::new(&Recording::new(records(&mut lab.connection, lab.now)));
    assert!(replay.by_ref().count() > 0);
    assert_eq!(replay.divergences(), []);
}

#[test]
fn ob_04_a_turn_that_another_client_would_start_later_has_its_recorded_answer_all_the_same() {
    let mut lab = Lab::ready_with(tapped());
    let list = |lab: &mut Lab| {
        lab.connection.request(lab.now, &ModelList::new()).map(drop).expect("entered");
        lab.sent_one()["id"].clone()
    };
    let first = list(&mut lab);
    let (_, _, start) = lab.start_turn("T");
    lab.say(json!({"id": first, "result": {"data": []}}));
    list(&mut lab);
    lab.say(json!({"id": start, "result": {"turn": {"id": "U", "status": "inProgress", "items": []}}}));
    lab.notify(completed("T", "U", "completed").0, completed("T", "U", "completed").1);
    let mut config = Config::default();
    config.limits.max_in_flight = 1;
    let recording = Recording::new(records(&mut lab.connection, lab.now));
    let mut replay = Replay::with_config(&recording, config);
    let replayed: Vec<Replayed> = replay.by_ref().collect();
    assert!(!replay.divergences().is_empty(), "it has waited");
    assert!(result_of(&replayed, 0).is_ok());
}
