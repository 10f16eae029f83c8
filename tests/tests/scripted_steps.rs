//! Every step of a script, on the virtual clock.

use std::time::Duration;

use serde_json::{Value, json};
use turnwire_testkit::scripted::{Bytes, Rule, Script, ScriptError, ScriptedServer, State, Step, Times, TurnPlan};

fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}

fn server(rules: impl IntoIterator<Item = Rule>) -> ScriptedServer {
    ScriptedServer::new(rules.into_iter().fold(Script::new(), Script::rule))
}

fn send(server: &mut ScriptedServer, at: u64, message: &Value) {
    server.handle_input(ms(at), format!("{message}\n").as_bytes());
}

fn request(server: &mut ScriptedServer, at: u64, id: impl Into<Value>, method: &str, params: Value) {
    send(server, at, &json!({"id": id.into(), "method": method, "params": params}));
}

fn output(server: &mut ScriptedServer, at: u64) -> String {
    String::from_utf8(server.drain_output(ms(at))).expect("UTF-8")
}

/// The lines that are due, without the time in them.
fn lines(server: &mut ScriptedServer, at: u64) -> Vec<Value> {
    let mut lines: Vec<Value> =
        output(server, at).lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    for line in &mut lines {
        line.as_object_mut().expect("an object").remove("emittedAtMs");
    }
    lines
}

/// Everything up to that moment, polled at each moment in turn, with the moments.
fn timed(server: &mut ScriptedServer, until: u64) -> Vec<(u64, String)> {
    let mut seen = Vec::new();
    while let Some(due) = server.poll_timeout().filter(|due| *due <= ms(until)) {
        let mut out = Vec::new();
        server.poll_output(due, &mut out);
        let text = String::from_utf8(out).expect("UTF-8");
        let at = u64::try_from(due.as_millis()).expect("a small number");
        seen.extend(text.lines().map(|line| (at, line.to_owned())));
    }
    seen
}

#[test]
fn ob_06_a_notification_and_a_server_request_can_come_before_the_reply() {
    let rule = Rule::on("thread/start")
        .notify("thread/started", json!({"thread": {"id": "$new_thread"}}))
        .ask("item/tool/call", 0, json!({"threadId": "$thread", "wanted": "$params.cwd"}))
        .expect_answer(0)
        .delay(40)
        .reply(json!({"thread": {"id": "$thread"}, "said": "$answer.result.success"}));
    let mut server = server([rule]);
    request(&mut server, 10, "a", "thread/start", json!({"cwd": "/x"}));
    let before = lines(&mut server, 10);
    let thread = before[0]["params"]["thread"]["id"].clone();
    assert!(thread.is_string());
    let asked = json!({"method": "item/tool/call", "id": 0, "params": {"threadId": thread, "wanted": "/x"}});
    assert_eq!(before[1..], [asked]);
    assert!(server.poll_timeout().is_none(), "it waits for the answer");
    send(&mut server, 100, &json!({"id": 0, "result": {"success": true}}));
    assert!(lines(&mut server, 139).is_empty());
    assert_eq!(server.poll_timeout(), Some(ms(140)));
    assert_eq!(lines(&mut server, 140), [json!({"id": "a", "result": {"thread": {"id": thread}, "said": true}})]);
    assert_eq!(server.received_answer(0), Some(&json!({"id": 0, "result": {"success": true}})));
    assert_eq!(server.open_tracks(), 0);
}

#[test]
fn ob_06_a_delay_holds_up_only_its_own_track() {
    let rules = [
        Rule::on("slow").delay(30).raw_line("slow 30").delay(30).raw_line("slow 60"),
        Rule::on("quick").raw_line("quick 0").delay(20).raw_line("quick 20").delay(20).raw_line("quick 40"),
    ];
    let mut server = server(rules);
    request(&mut server, 0, 1, "slow", json!({}));
    request(&mut server, 0, 2, "quick", json!({}));
    let expected = [(0, "quick 0"), (20, "quick 20"), (30, "slow 30"), (40, "quick 40"), (60, "slow 60")];
    assert_eq!(timed(&mut server, 1000), expected.map(|(at, line)| (at, line.to_owned())));
}

#[test]
fn ob_06_garbage_of_every_kind_goes_out_as_it_is() {
    let rule = Rule::on("x")
        .raw("Welcome!\r\n")
        .raw_line(&[0xff, 0xfe, 0x00])
        .raw("{\"method\":\"cut")
        .delay(5)
        .raw("\",\"params\":{\"a\":\"")
        .fill("ab", 3000)
        .raw_line("\"}}")
        .send(json!([{"id": "$id"}, "$params.none"]));
    let mut server = server([rule]);
    request(&mut server, 0, 7, "x", json!({}));
    let first = server.drain_output(ms(0));
    assert_eq!(first, b"Welcome!\r\n\xff\xfe\x00\n{\"method\":\"cut");
    let second = output(&mut server, 5);
    let filled = "ab".repeat(3000);
    assert_eq!(second, format!("\",\"params\":{{\"a\":\"{filled}\"}}}}\n[{{\"id\":7}},null]\n"));
}

#[test]
fn ob_06_the_server_can_end_at_any_step() {
    let steps = [
        Step::Notify { method: "a".to_owned(), params: json!({}) },
        Step::Raw(Bytes::from("{\"half\":")),
        Step::Delay(10),
        Step::Ask { method: "q".to_owned(), id: json!(0), params: json!({}) },
        Step::RawLine(Bytes::from("}")),
        Step::Reply(json!({})),
    ];
    let play = |rule: Rule| {
        let mut server = server([rule]);
        request(&mut server, 0, 1, "x", json!({}));
        let out = output(&mut server, 100);
        (out, server.state())
    };
    let rule = |count: usize| steps.iter().take(count).cloned().fold(Rule::on("x"), Rule::step);
    let (whole, state) = play(rule(steps.len()));
    assert_eq!(state, State::Running);
    let mut outputs = Vec::new();
    for count in 0..=steps.len() {
        let (out, state) = play(rule(count).exit(3).notify("never", json!({})));
        assert_eq!(state, State::Exited { code: 3 }, "after {count} steps");
        assert!(whole.starts_with(&out), "after {count} steps: {out}");
        assert_eq!(out, play(rule(count)).0);
        outputs.push(out);
        let (_, state) = play(rule(count).die(9));
        assert_eq!(state, State::Killed { signal: 9 });
    }
    assert_eq!(outputs.first().map(String::as_str), Some(""));
    assert_eq!(outputs.last(), Some(&whole));
}

#[test]
fn ob_06_after_the_end_nothing_is_read_or_written() {
    let mut server = server([Rule::on("x").exit(0), Rule::on("y").delay(10).raw_line("late")]);
    request(&mut server, 0, 1, "y", json!({}));
    request(&mut server, 0, 2, "x", json!({}));
    request(&mut server, 0, 3, "y", json!({}));
    assert!(!server.is_reading());
    assert_eq!(server.drain_output(ms(1000)), b"");
    assert_eq!(server.received().len(), 2);
    assert_eq!((server.state(), server.poll_timeout()), (State::Exited { code: 0 }, None));
}

#[test]
fn closing_stdout_keeps_the_server_alive_and_silent() {
    let rule = Rule::on("x").raw_line("last").close_stdout().raw_line("lost").delay(50).exit(4);
    let mut server = server([rule]);
    request(&mut server, 0, 1, "x", json!({}));
    assert_eq!(output(&mut server, 0), "last\n");
    assert_eq!(server.state(), State::StdoutClosed);
    request(&mut server, 20, 2, "y", json!({}));
    assert_eq!(server.received_methods(), ["x", "y"]);
    assert_eq!(output(&mut server, 50), "");
    assert_eq!(server.state(), State::Exited { code: 4 });
}

#[test]
fn errors_and_replies_to_any_id_can_be_sent() {
    let rule = Rule::on("x")
        .reply_error_data(-32001, "busy ${params.who}", json!({"again": "$params.n"}))
        .reply_error(-32603, "twice")
        .reply_to_id(999, json!({}))
        .reply_to_id("$id", json!("third"))
        .error_to_id(Value::Null, -32700, "for nobody");
    let mut server = server([rule]);
    request(&mut server, 0, 5, "x", json!({"who": "Ann", "n": 2}));
    let expected = [
        json!({"id": 5, "error": {"code": -32001, "message": "busy Ann", "data": {"again": 2}}}),
        json!({"id": 5, "error": {"code": -32603, "message": "twice"}}),
        json!({"id": 999, "result": {}}),
        json!({"id": 5, "result": "third"}),
        json!({"id": null, "error": {"code": -32700, "message": "for nobody"}}),
    ];
    assert_eq!(lines(&mut server, 0), expected);
}

#[test]
fn an_answer_is_found_by_its_id_and_type_before_or_after_it_is_waited_for() {
    let rules = [
        Rule::on("x")
            .ask("q", 0, json!({}))
            .ask("q", "0", json!({}))
            .delay(50)
            .expect_answer("0")
            .send(json!("$answer")),
        Rule::on_answer(0).once().raw_line("zero"),
    ];
    let mut server = server(rules);
    request(&mut server, 0, 1, "x", json!({}));
    assert_eq!(lines(&mut server, 0).len(), 2);
    send(&mut server, 10, &json!({"id": 0, "error": {"code": -32601, "message": "no"}}));
    send(&mut server, 11, &json!({"id": 0, "result": {}}));
    assert_eq!(output(&mut server, 20), "zero\n");
    assert!(output(&mut server, 60).is_empty(), "the answer to 0 is not the answer to \"0\"");
    send(&mut server, 70, &json!({"id": "0", "result": null}));
    assert_eq!(lines(&mut server, 70), [json!({"id": "0", "result": null})]);
    // Asked again, the old answer does not count; given while the track sleeps, the new one does.
    request(&mut server, 100, 2, "x", json!({}));
    send(&mut server, 110, &json!({"id": "0", "result": 2}));
    let answer = lines(&mut server, 200).pop();
    assert_eq!(answer, Some(json!({"id": "0", "result": 2})));
    assert_eq!(server.open_tracks(), 0);
}

#[test]
fn a_track_can_wait_for_a_method_or_take_it_over() {
    let conversation = Rule::at_start()
        .take("initialize")
        .reply(json!({"userAgent": "mine"}))
        .take("initialized")
        .wait_for("thread/loaded/list")
        .notify("seen", json!({}))
        .take("x")
        .reply(json!({"n": "$params.n"}));
    let mut server = server([conversation, Rule::on("x").reply(json!("rule"))]);
    let info = json!({"clientInfo": {"name": "n", "version": "1"}});
    request(&mut server, 0, 1, "initialize", info);
    assert_eq!(lines(&mut server, 0), [json!({"id": 1, "result": {"userAgent": "mine"}})]);
    send(&mut server, 0, &json!({"method": "initialized"}));
    request(&mut server, 0, 2, "thread/loaded/list", json!({}));
    let seen = lines(&mut server, 0);
    assert_eq!(seen[0]["result"]["data"], json!([]), "the brain answers, and knows of the handshake");
    assert_eq!(seen[1]["method"], "seen");
    request(&mut server, 0, 3, "x", json!({"n": 1}));
    request(&mut server, 0, 4, "x", json!({"n": 2}));
    assert_eq!(lines(&mut server, 0), [json!({"id": 3, "result": {"n": 1}}), json!({"id": 4, "result": "rule"})]);
}

#[test]
fn rules_match_in_order_by_number_once_or_by_a_member() {
    let rules = [
        Rule::on("x").nth(2).reply(json!("second")),
        Rule::on("x").when("input.0.text", "special").once().reply(json!("special")),
        Rule::on("x").when("input.0.text", "special").reply(json!("again")),
        Rule::on("x").reply(json!({"count": "$count"})),
        Rule::on("x").reply(json!("never")),
    ];
    let mut server = server(rules);
    for (id, text) in ["a", "b", "special", "special", "c"].iter().enumerate() {
        request(&mut server, 0, id, "x", json!({"input": [{"text": text}]}));
    }
    let results: Vec<Value> = lines(&mut server, 0).iter().map(|line| line["result"].clone()).collect();
    assert_eq!(json!(results), json!([{"count": 1}, "second", "special", "again", {"count": 5}]));
}

#[test]
fn the_start_and_the_end_of_input_are_triggers() {
    let mut plain = server([Rule::at_start().raw_line("banner").delay(10).raw_line("later")]);
    assert_eq!(plain.poll_timeout(), Some(ms(0)));
    assert_eq!(output(&mut plain, 10), "banner\nlater\n");
    plain.handle_eof(ms(20));
    assert_eq!(plain.drain_output(ms(20)), b"");
    assert_eq!(plain.state(), State::Exited { code: 0 });

    let mut slow = server([Rule::on_eof().delay(500).raw_line("bye")]);
    slow.handle_eof(ms(0));
    assert_eq!((slow.drain_output(ms(499)), slow.state()), (Vec::new(), State::Running));
    assert_eq!((output(&mut slow, 500).as_str(), slow.state()), ("bye\n", State::Exited { code: 0 }));

    for rule in [Rule::at_start().ignore_eof(), Rule::on_eof().ignore_eof()] {
        let mut deaf = server([rule]);
        deaf.handle_eof(ms(10));
        assert_eq!(deaf.drain_output(ms(100_000)), b"");
        assert_eq!(deaf.state(), State::Running);
    }
}

#[test]
fn a_last_line_without_newline_is_read_at_the_end_of_input() {
    let mut server = server([Rule::on("x").raw_line("read")]);
    server.handle_input(ms(0), b"{\"id\":1,\"method\":\"x\"}");
    assert_eq!(output(&mut server, 0), "");
    server.handle_eof(ms(1));
    assert_eq!(output(&mut server, 1), "read\n");
    assert_eq!(server.state(), State::Exited { code: 0 });
}

#[test]
fn a_server_that_does_not_read_deals_with_its_input_later() {
    let rules = [Rule::on("stop").stop_reading().delay(100).resume_reading(), Rule::on("x").raw_line("x")];
    let mut server = server(rules);
    let piece = b"{\"method\":\"stop\"}\n{\"id\":1,\"method\":\"x\"}\n";
    server.handle_input(ms(0), piece);
    assert!(!server.is_reading());
    request(&mut server, 50, 2, "x", json!({}));
    server.handle_eof(ms(60));
    assert_eq!((output(&mut server, 99).as_str(), server.received().len()), ("", 1));
    assert_eq!(output(&mut server, 100), "x\nx\n");
    assert_eq!(server.received()[1].at, ms(100));
    assert_eq!(server.state(), State::Exited { code: 0 });
}

#[test]
fn a_flood_is_made_while_it_is_read() {
    let many = 200_000;
    let rule = Rule::on("x").flood(many, "item/delta", json!({"n": "$n", "who": "$params.who"})).raw_line("done");
    let mut server = server([rule]);
    request(&mut server, 0, 1, "x", json!({"who": "w"}));
    let (mut out, mut tail, mut count) = (Vec::new(), Vec::new(), 0);
    loop {
        out.clear();
        server.poll_output(ms(0), &mut out);
        if out.is_empty() {
            break;
        }
        assert!(out.len() < 70_000, "one poll stays small: {}", out.len());
        count += out.iter().filter(|&&byte| byte == b'\n').count() as u64;
        tail = out.clone();
    }
    assert_eq!(count, many + 1);
    let tail = String::from_utf8(tail).expect("UTF-8");
    let last: Vec<&str> = tail.lines().rev().take(2).collect();
    assert_eq!(last[0], "done");
    let last: Value = serde_json::from_str(last[1]).expect("JSON");
    assert_eq!(last["params"], json!({"n": many, "who": "w"}));
}

#[test]
fn stderr_is_a_stream_of_its_own() {
    let rule = Rule::on("x").stderr("warn\n").stderr(&[0xff]).stderr_flood(200_000).stderr("end");
    let mut server = server([rule]);
    request(&mut server, 0, 1, "x", json!({}));
    let mut all = Vec::new();
    loop {
        let before = all.len();
        server.poll_stderr(ms(0), &mut all);
        if all.len() == before {
            break;
        }
        assert!(all.len() - before < 70_000);
    }
    assert_eq!(all.len(), 5 + 1 + 200_000 + 3);
    assert!(all.starts_with(b"warn\n\xff") && all.ends_with(b"end"));
    assert_eq!(server.drain_output(ms(0)), b"");
}

#[test]
fn variables_survive_whatever_the_client_left_out() {
    let message = json!({"id": "$id", "a": "$params.a.b.0", "t": "$thread", "u": "$turn", "answer": "$answer.result.x",
        "text": "${params.a}|${method}", "now": "$now_ms", "v": "$version", "n": ["$n", "$n"]});
    let mut server = server([Rule::on("x").send(message)]);
    send(&mut server, 5, &json!({"method": "x"}));
    request(&mut server, 6, 1, "x", json!({"threadId": "T", "turnId": "U", "a": {"b": [null]}}));
    let empty = json!({"id": null, "a": null, "t": null, "u": null, "answer": null, "text": "|x",
        "now": 1_795_349_155_005_u64, "v": "0.163.0", "n": [1, 1]});
    let full = json!({"id": 1, "a": null, "t": "T", "u": "U", "answer": null, "text": "{\"b\":[null]}|x",
        "now": 1_795_349_155_006_u64, "v": "0.163.0", "n": [2, 2]});
    assert_eq!(lines(&mut server, 10), [empty, full]);
}

/// Rules and a client session that use about everything that depends on order.
fn busy_session() -> (Script, Vec<u8>) {
    let script = Script::new()
        .turn(TurnPlan::when("list").command("ls", "a\nb\n", 0).text("Two files."))
        .rule(Rule::on("model/list").delay(3).default_reply())
        .rule(Rule::on("stop").stop_reading().delay(7).resume_reading())
        .rule(Rule::on("x").notify("n", json!({"n": "$n"})).delay(0).raw("half").delay(4).raw_line(" line"));
    let thread = "01a20327-0000-7000-8000-000000000001";
    let start = |id: u64, text: &str| {
        json!({"id": id, "method": "turn/start",
            "params": {"threadId": thread, "input": [{"type": "text", "text": text}]}})
    };
    let messages = [
        json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "n", "version": "1"}}}),
        json!({"method": "initialized"}),
        json!({"id": 2, "method": "thread/start", "params": {}}),
        start(3, "list ✓"),
        json!({"id": 4, "method": "x"}),
        json!({"id": 5, "method": "model/list", "params": {}}),
        start(6, "join"),
        json!({"id": 7, "method": "stop"}),
        json!({"id": 8, "method": "x"}),
        json!("noise"),
        json!({"id": 9, "method": "thread/list", "params": {}}),
    ];
    let mut input = Vec::new();
    for message in messages {
        input.extend_from_slice(format!("{message}\r\n").as_bytes());
    }
    (script, input)
}

#[test]
fn cutting_the_input_differently_changes_nothing() {
    let (script, input) = busy_session();
    let play = |cut: &mut dyn FnMut(usize) -> usize| {
        let mut server = ScriptedServer::new(script.clone());
        let mut at = 0;
        while at < input.len() {
            let end = (at + cut(at).max(1)).min(input.len());
            server.handle_input(ms(1), &input[at..end]);
            at = end;
        }
        let mut out = server.drain_output(ms(1));
        out.extend(server.drain_output(ms(1000)));
        (out, server.received().to_vec(), server.ignored())
    };
    let whole = play(&mut |_| input.len());
    assert!(whole.0.len() > 2000);
    assert_eq!((whole.1.len(), whole.2), (11, 1));
    assert_eq!(play(&mut |_| 1), whole, "byte by byte");
    let mut seed: u64 = 1;
    for round in 0..200 {
        let cut = |_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            usize::try_from(seed >> 58).expect("six bits")
        };
        assert_eq!(play(&mut { cut }), whole, "round {round}");
    }
}

#[test]
fn polling_late_or_often_changes_nothing() {
    let (script, input) = busy_session();
    let play = |step: u64| {
        let mut server = ScriptedServer::new(script.clone());
        server.handle_input(ms(1), &input);
        let mut out = Vec::new();
        for at in (1..=1000).step_by(usize::try_from(step).expect("small")) {
            out.extend(server.drain_output(ms(at)));
        }
        out.extend(server.drain_output(ms(1000)));
        out
    };
    let whole = play(999);
    for step in [1, 2, 7, 100] {
        assert!(play(step) == whole, "polled every {step} ms");
    }
    // The same moments are announced as timeouts.
    let mut server = ScriptedServer::new(script.clone());
    server.handle_input(ms(1), &input);
    let mut out = Vec::new();
    while let Some(due) = server.poll_timeout() {
        server.poll_output(due, &mut out);
    }
    assert!(out == whole, "polled when due");
}

/// A script with every kind of step and every setting that is not the default.
fn everything() -> Script {
    let all = Rule::on("x")
        .nth(3)
        .when("a.b", 1)
        .reply(json!({"a": "$id"}))
        .reply_error(-1, "m")
        .reply_error_data(-1, "m", json!([1]))
        .reply_to_id(1, json!({}))
        .error_to_id("a", -1, "m")
        .notify("n", json!({}))
        .ask("q", 0, json!({}))
        .expect_answer(0)
        .wait_for("w")
        .take("t")
        .delay(5)
        .raw("text")
        .raw(&[0xff, 0x00])
        .raw_line(vec![1, 2])
        .send(json!([]))
        .fill("a", 2)
        .flood(3, "f", json!({"n": "$n"}))
        .stderr("e")
        .stderr_flood(10)
        .stop_reading()
        .resume_reading()
        .close_stdout()
        .ignore_eof()
        .ignore_term()
        .default_reply()
        .die(9)
        .exit(1);
    let plan = TurnPlan::when("p").text("t").deltas(2).phase("final_answer").reasoning("r").command("c", "o", 1);
    Script::new()
        .rule(all)
        .rule(Rule::on_answer(0).once().raw("x"))
        .rule(Rule::at_start())
        .rule(Rule::on_eof())
        .turn(plan.file_change("/f", "c").with_approval().hold())
        .turn(TurnPlan::new().fail("m", json!("other"), 1))
        .version("0.154.0")
        .reply_delay(1)
        .started_delay(2)
        .delta_delay(3)
        .startup_notices(false)
        .stored_thread("01a00000-0000-7000-8000-0000000000aa")
        .resume_any(true)
        .id_seed(7)
        .ignore_term(true)
}

#[test]
fn the_json_form_has_the_power_of_the_builder() -> Result<(), ScriptError> {
    let script = everything();
    assert_eq!(Script::from_json(&script.to_json())?, script);
    let hand_written = r#"{"rules": [
        {"on": "x", "nth": 2, "when": {"input.0.text": "a"}, "steps": [
            {"reply": 1}, {"reply_error": {"code": -1, "message": "m"}}, {"raw": [255, 254]}, {"raw": {"base64": "//4="}},
            {"ask": {"method": "q", "id": "s"}}, {"delay": 3}, "stop_reading", "default", {"exit": 0}]},
        {"on_answer": 0, "once": true, "steps": []}, {"at": "eof", "steps": []}]}"#;
    let read = Script::from_json(hand_written)?;
    let rule = Rule::on("x").nth(2).when("input.0.text", "a").reply(json!(1)).reply_error(-1, "m");
    let rule = rule.raw(&[255, 254]).raw(&[255, 254]).ask("q", "s", Value::Null).delay(3).stop_reading();
    assert_eq!(read.rules[0], rule.default_reply().exit(0));
    assert_eq!(read.rules[1].times, Times::Once);
    Ok(())
}

#[test]
fn a_misspelt_script_is_refused_with_its_place() {
    for (wrong, named) in [
        (r#"{"rulez": []}"#, "rulez"),
        (r#"{"rules": [{"on": "x", "at": "start", "steps": []}]}"#, "exactly one of"),
        (r#"{"rules": [{"steps": []}]}"#, "exactly one of"),
        (r#"{"rules": [{"on": "x", "nth": 0, "steps": []}]}"#, "nth"),
        (r#"{"rules": [{"on": "x", "steps": [{"slumber": 1}]}]}"#, "slumber"),
        (r#"{"rules": [{"on": "x", "steps": [{"raw": [256]}]}]}"#, "bytes are"),
        (r#"{"rules": [{"on": "x", "steps": [{"raw": {"base64": "?"}}]}]}"#, "bytes are"),
        ("{", "line 1"),
    ] {
        let error = Script::from_json(wrong).expect_err(wrong).to_string();
        assert!(error.contains(named), "{error}");
    }
}

#[test]
fn what_a_script_says_that_no_server_would_say_is_found_by_its_line() {
    let script = Script::new()
        .rule(Rule::on("model/list").notify("turn/started", json!({"threadId": 7})).reply(json!({"data": 7})))
        .rule(Rule::on("account/read").raw_line("no message").ask("item/tool/cal", 9, json!({})).default_reply());
    let mut server = ScriptedServer::new(script);
    let now = Duration::ZERO;
    server.handle_input(now, b"{\"id\":1,\"method\":\"model/list\",\"params\":{}}\n");
    server.handle_input(
        now,
        b"{\"id\":2,\"method\":\"account/read\",\"params\":{}}\n{\"id\":3,\"method\":\"my/own\",\"params\":{}}\n",
    );
    assert_eq!(server.misfits(), [], "nothing is said yet");
    drop(server.drain_output(now));
    let found: Vec<_> = server.misfits().iter().map(|misfit| (misfit.number, misfit.method.clone())).collect();
    let expected = [(1, "turn/started"), (2, "model/list"), (4, "item/tool/cal")];
    assert_eq!(found, expected.map(|(number, method)| (number, method.to_owned())));
}
