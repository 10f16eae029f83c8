// Scenarios against the scripted server, a fake, as a program or in memory. Included once for each runtime.

use crate::support::{self, scripted};
use rt::{
    core::{
        error::{Delivery, DisconnectReason, Fault},
        launch::LaunchError,
        turn::DiagnosticKind,
    },
    protocol::{ModelList, ThreadStart, UserInput},
};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use turnwire_testkit::scripted::{Early, Rule, Script, TurnPlan};

scenario! {
    fn hs_01_connecting_writes_initialize_first_and_initialized_once() {
        let server = scripted(&Script::new());
        let mut config = rt::Config::new("suite", "1.2.3");
        config.client_title = Some("The suite".into());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        wait!(codex.models()).expect("answered");
        let info = codex.server().expect("a server");
        assert_eq!((info.version.as_deref(), info.platform_family.as_str()), (Some("0.163.0"), "unix"));
        assert!(info.user_agent.starts_with("suite/0.163.0") && !info.codex_home.is_empty());
        wait!(codex.close());
        let received = server.received();
        let methods: Vec<&str> = received.iter().filter_map(|line| line["method"].as_str()).collect();
        assert_eq!(methods, ["initialize", "initialized", "model/list"]);
        let client = &received[0]["params"]["clientInfo"];
        assert_eq!(client, &json!({"name": "suite", "title": "The suite", "version": "1.2.3"}));
        assert_eq!(received[0]["params"]["capabilities"]["experimentalApi"], true);
    }
}

scenario! {
    fn hs_03_a_server_that_never_answers_initialize_times_out_with_its_stderr_and_is_gone() {
        let silent = Rule::on("initialize").stderr("waiting for a key\n").ignore_eof();
        let server = scripted(&Script::new().rule(silent));
        let mut config = rt::Config::default();
        config.timeouts.initialize = Duration::from_secs(1);
        let start = Instant::now();
        let error = wait!(rt::spawn_with(&server.command(), config)).expect_err("times out");
        assert!(error.is_timeout(), "{error}");
        assert_eq!(error.phase(), rt::core::error::Phase::Initialize);
        assert!(error.stderr_tail().contains("waiting for a key"), "{error}");
        assert!(server.processes().is_empty(), "gone by the time that the caller hears of it");
        assert!(start.elapsed() < Duration::from_secs(5), "at the deadline, not after the closing: {:?}", start.elapsed());
    }
}

scenario! {
    fn hs_05_an_exit_before_the_answer_is_told_at_once_with_status_and_stderr() {
        let dying = Rule::on("initialize").stderr("error: unexpected argument\n").exit(2);
        let server = scripted(&Script::new().rule(dying));
        let mut config = rt::Config::default();
        config.timeouts.drain = Duration::from_secs(30);
        let start = Instant::now();
        let error = wait!(rt::spawn_with(&server.command(), config)).expect_err("the server is gone");
        assert!(start.elapsed() < Duration::from_secs(10), "at once, not after a time-out: {:?}", start.elapsed());
        let rt::ConnectError::Initialize(cause) = &error else { panic!("{error}") };
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(2));
        assert!(error.to_string().contains("unexpected argument"), "{error}");
        server.assert_gone();
    }
}

scenario! {
    fn hs_06_a_refused_initialize_is_the_servers_error_and_nothing_is_left() {
        let server = scripted(&Script::new().rule(Rule::on("initialize").reply_error(-32600, "bad client name")));
        let error = wait!(rt::spawn(&server.command())).expect_err("refused");
        let rt::ConnectError::Initialize(cause) = &error else { panic!("{error}") };
        assert!(
            matches!(cause.reason(), DisconnectReason::InitializeRefused(rpc) if rpc.message == "bad client name"),
            "{error}"
        );
        server.assert_gone();
    }
}

scenario! {
    fn fr_02_banners_before_the_first_message_are_counted_and_offered() {
        let banner = Rule::at_start().raw("\u{1b}[32mCodex\u{1b}[0m\n\n  \nready to serve\r\n");
        let server = scripted(&Script::new().rule(banner));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert_eq!(codex.counters().noise, 2);
        let kinds: Vec<_> = codex.diagnostics().iter().map(|diagnostic| diagnostic.kind).collect();
        assert_eq!(kinds, [DiagnosticKind::Noise, DiagnosticKind::Noise]);
        wait!(codex.models()).expect("answered");
        wait!(codex.close());
    }
}

scenario! {
    fn fr_04_a_cut_off_line_in_mid_session_is_a_diagnostic() {
        let cut = Rule::on("model/list").raw_line("{\"id\":9,\"resu").raw_line(&b"\xff\xfe{}"[..]).default_reply();
        let server = scripted(&Script::new().rule(cut));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        wait!(codex.models()).expect("answered all the same");
        let counters = codex.counters();
        assert_eq!((counters.malformed, counters.noise), (1, 1), "{counters:?}");
        wait!(codex.close());
    }
}

scenario! {
    fn fr_05_carriage_returns_and_a_last_line_without_an_end() {
        let script = Script::new()
            .rule(Rule::on("first").raw("{\"id\":2,\"result\":1}\r\n"))
            .rule(Rule::on("last").raw("{\"id\":3,\"result\":2}").exit(0));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert_eq!(wait!(codex.request_raw("first", json!({}))).expect("answered").as_str(), "1");
        assert_eq!(wait!(codex.request_raw("last", json!({}))).expect("answered").as_str(), "2");
        assert_eq!(wait!(codex.closed()).exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(0));
    }
}

scenario! {
    fn fr_10_thirty_two_callers_at_once_write_whole_lines_and_the_server_reads_what_they_said() {
        let server = scripted(&Script::new().rule(Rule::on("echo").reply(json!("$params.text"))));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut callers: Vec<Joined<()>> = Vec::new();
        for n in 0..32 {
            callers.push(go!([codex] {
                let text = format!("{n} two\nlines \"quoted\" \\ \0 nul 🎉 {}", "x".repeat(n * 500));
                let said = wait!(codex.request_raw("echo", json!({"text": text}))).expect("answered");
                assert_eq!(said.decode::<String>().expect("a text"), text);
            }));
        }
        for caller in callers {
            join!(caller);
        }
        wait!(codex.close());
        assert_eq!(server.received_of("echo", 32).len(), 32); // each line was one JSON value
    }
}

scenario! {
    fn fr_13_both_sides_write_eight_mebibytes_before_they_read_and_neither_blocks() {
        let flood = Rule::on("big").stop_reading().flood(32 * 1024, "noise", json!({"text": "x".repeat(200)}))
            .resume_reading().reply(json!("done"));
        let server = scripted(&Script::new().rule(flood));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let first = go!([codex] {
            wait!(codex.request_raw("big", json!({}))).expect("answered")
        });
        let second = go!([codex] {
            wait!(codex.request_raw("echo", json!({"text": "y".repeat(8 << 20)}))).expect_err("not known to the fake")
        });
        assert_eq!(join!(first).as_str(), "\"done\"");
        assert!(join!(second).rpc().is_some());
        wait!(codex.close());
    }
}

scenario! {
    fn fr_15_ids_are_answered_as_they_came_and_versions_do_not_matter() {
        let asks = Rule::on("go").ask("item/tool/call", "7", json!({})).expect_answer("7")
            .ask("item/tool/call", 7, json!({})).expect_answer(7)
            .raw_line("{\"jsonrpc\":\"2.0\",\"result\":\"both\",\"id\":2}");
        let server = scripted(&Script::new().rule(asks));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert_eq!(wait!(codex.request_raw("go", json!({}))).expect("answered").as_str(), "\"both\"");
        let answers: Vec<Value> = server.received().iter().filter(|line| line.get("method").is_none())
            .map(|line| line["id"].clone()).collect();
        assert_eq!(answers, [json!("7"), json!(7)]);
        wait!(codex.close());
    }
}

scenario! {
    fn rq_01_a_hundred_answers_in_reverse_order_find_their_callers() {
        // Nothing is answered before the hundredth request; then the last comes first.
        let mut last = Rule::on("echo").nth(100);
        for id in (2..=101).rev() {
            last = last.reply_to_id(id, json!(id));
        }
        let server = scripted(&Script::new().rule(last).rule(Rule::on("echo")));
        let mut config = rt::Config::default();
        config.limits.max_in_flight = 100;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let mut callers: Vec<Joined<(usize, i64)>> = Vec::new();
        for n in 0..100 {
            callers.push(go!([codex] {
                let answer = wait!(codex.request_raw("echo", json!({"n": n}))).expect("answered");
                (n, answer.decode().expect("a number"))
            }));
        }
        let mut answers = Vec::new();
        for caller in callers {
            answers.push(join!(caller));
        }
        wait!(codex.close());
        let received = server.received();
        for (n, id) in answers {
            let asked = received.iter().find(|line| line["id"] == id).expect("the request");
            assert_eq!(asked["params"]["n"], n, "each has the answer to its own request");
        }
    }
}

scenario! {
    fn rq_10_unknown_and_double_answers_are_diagnostics_only() {
        let odd = Rule::on("model/list").reply_to_id(999, json!({})).reply_to_id("2", json!({})).default_reply()
            .reply_to_id("$id", json!("again"));
        let server = scripted(&Script::new().rule(odd));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        wait!(codex.models()).expect("the right answer");
        wait!(codex.models()).expect("and the next");
        assert!(support::eventually(|| {
            let counters = codex.counters();
            counters.unknown_responses == 4 && counters.duplicate == 2
        }), "{:?}", codex.counters());
        wait!(codex.close());
    }
}

scenario! {
    fn rq_11_a_method_without_a_type_goes_through_the_same_deadlines_and_errors() {
        let script = Script::new().rule(Rule::on("brand/new").reply(json!({"answer": 42}))).rule(Rule::on("mute"));
        let server = scripted(&script);
        let mut config = rt::Config::default();
        config.timeouts.reply = Duration::from_millis(300);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let answer = wait!(codex.request_raw("brand/new", json!({"any": 1}))).expect("answered");
        assert_eq!(answer.decode::<Value>().expect("JSON")["answer"], 42);
        let refused = wait!(codex.request_raw("no/such", json!({}))).expect_err("refused");
        assert_eq!((&*refused.method, refused.rpc().map(|rpc| rpc.code)), ("no/such", Some(-32600)));
        let late = wait!(codex.request_raw("mute", json!({}))).expect_err("no answer");
        assert!(late.is_timeout(), "{late}");
        wait!(codex.models()).expect("the session lives");
        wait!(codex.close());
    }
}

scenario! {
    fn tu_01_run_says_text_items_usage_timing_and_ids() {
        let server = scripted(&Script::new().turn(TurnPlan::new().command("ls", "a\n", 0).text("One file.")));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let result = wait!(thread.run("What is here?")).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("One file."));
        assert_eq!((&result.thread_id, result.status), (thread.id(), rt::State::Completed));
        assert!(result.turn_id.is_some() && result.duration_ms.is_some() && result.usage.is_some());
        let kinds: Vec<&str> = result.items.iter().map(|item| item.kind()).collect();
        assert_eq!(kinds, ["userMessage", "commandExecution", "agentMessage"]);
        let empty = wait!(thread.run(Vec::<UserInput>::new())).expect("an empty input runs too");
        assert_eq!(empty.status, rt::State::Completed);
        wait!(codex.close());
        assert_eq!(codex.counters().turns, 0);
    }
}

scenario! {
    fn tu_02_a_stream_goes_from_the_start_to_the_end_and_then_ends() {
        let server = scripted(&Script::new().turn(TurnPlan::new().text("A few words in pieces.").deltas(5)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let (mut order, mut text) = (Vec::new(), String::new());
        while let Some(event) = wait!(turn.next()) {
            let step = match event {
                rt::Event::Started(_) => "started",
                rt::Event::ItemStarted(_) => "item started",
                rt::Event::Delta(delta) => {
                    text.push_str(&delta.text);
                    "delta"
                }
                rt::Event::ItemCompleted(_) => "item completed",
                rt::Event::Ended(_) => "ended",
                _ => continue,
            };
            if order.last() != Some(&step) {
                order.push(step);
            }
        }
        assert_eq!(text, "A few words in pieces.");
        let message = ["item started", "delta", "item completed", "ended"];
        assert_eq!(order, [&["started", "item started", "item completed"][..], &message].concat());
        assert!(wait!(turn.next()).is_none(), "it stays ended");
        wait!(codex.close());
    }
}

scenario! {
    fn tu_03_events_before_the_answer_are_delivered_in_order() {
        for early in [Early::Started, Early::Completed] {
            let server = scripted(&Script::new().early(early).reply_delay(20).turn(TurnPlan::new().text("Early.")));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let turn = wait!(thread.turn("Go.")).expect("a turn");
            let (mut first, mut text) = (None, String::new());
            while let Some(event) = wait!(turn.next()) {
                if let rt::Event::Delta(delta) = &event {
                    text.push_str(&delta.text);
                }
                first.get_or_insert(event);
            }
            assert!(matches!(first, Some(rt::Event::Started(_))), "{early:?}: {first:?}");
            assert_eq!(text, "Early.");
            assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("Early."));
            wait!(codex.close());
        }
    }
}

scenario! {
    fn tu_05_the_final_answer_is_the_message_of_that_phase_in_either_order() {
        let (talk, answer) = (("talk", "commentary"), ("answer", "final_answer"));
        for messages in [[talk, answer], [answer, talk]] {
            let mut turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}));
            for (text, phase) in messages {
                let item = json!({"type": "agentMessage", "id": "$new_id", "text": text, "phase": phase});
                turn = turn.notify("item/completed", json!({"threadId": "$thread", "turnId": "$turn", "item": item}));
            }
            let end = json!({"threadId": "$thread", "turn": {"id": "$turn", "status": "completed", "items": []}});
            let server = scripted(&Script::new().rule(turn.notify("turn/completed", end)));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let result = wait!(thread.run("Go.")).expect("completed");
            assert_eq!(result.final_response.as_deref(), Some("answer"));
            wait!(codex.close());
        }
    }
}

scenario! {
    fn tu_08_a_retried_error_is_progress_and_tu_07_a_failed_turn_is_an_error() {
        let info = json!({"httpConnectionFailed": {"httpStatusCode": 503}});
        let plan = TurnPlan::when("fail").text("So far.").fail("unexpected status 503", info, 2);
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("fail, please")).expect("a turn");
        let (mut retried, mut failed) = (0, 0);
        while let Some(event) = wait!(turn.next()) {
            if let rt::Event::Error(met) = event {
                *(if met.will_retry { &mut retried } else { &mut failed }) += 1;
            }
        }
        assert_eq!((retried, failed), (2, 1));
        let error = wait!(turn.result()).expect_err("failed");
        let rt::TurnError::Failed(report) = &error else { panic!("{error}") };
        assert_eq!(report.error_message(), Some("unexpected status 503"));
        assert!(wait!(thread.run("Fine now?")).is_ok(), "the thread goes on");
        wait!(codex.close());
    }
}

scenario! {
    fn tu_12_items_come_from_their_completions() {
        let turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}))
            .notify("item/started", json!({"threadId": "$thread", "turnId": "$turn",
                "item": {"type": "commandExecution", "id": "c", "command": "ls", "status": "inProgress"}}))
            .notify("item/completed", json!({"threadId": "$thread", "turnId": "$turn",
                "item": {"type": "agentMessage", "id": "m", "text": "Listed."}}))
            .notify("item/completed", json!({"threadId": "$thread", "turnId": "$turn",
                "item": {"type": "commandExecution", "id": "c", "command": "ls", "status": "completed"}}))
            .notify("turn/completed", json!({"threadId": "$thread",
                "turn": {"id": "$turn", "status": "completed", "items": [], "itemsView": "notLoaded"}}));
        let server = scripted(&Script::new().rule(turn));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let result = wait!(thread.run("Go.")).expect("completed");
        let ids: Vec<&str> = result.items.iter().filter_map(|item| item.id()).map(|id| id.as_str()).collect();
        assert_eq!(ids, ["c", "m"]);
        wait!(codex.close());
    }
}

scenario! {
    fn st_01_a_steer_reaches_the_turn_and_st_02_a_late_one_is_told() {
        let server = scripted(&Script::new().turn(TurnPlan::new().text("Thinking.").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Plan a trip.")).expect("a turn");
        let id = wait!(turn.steer("By train.")).expect("taken");
        assert_eq!(Some(id), turn.id());
        let result = wait!(turn.result()).expect("completed");
        assert!(result.final_response.is_some_and(|text| text.contains("By train.")));
        let steer = server.received_of("turn/steer", 1).remove(0);
        assert_eq!(steer["input"][0]["text"], "By train.");
        assert!(matches!(wait!(turn.steer("Late.")), Err(rt::SteerError::Ended)));
        wait!(codex.close());
    }
}

scenario! {
    fn st_07_an_interrupt_right_after_the_start_ends_the_turn_and_the_thread_runs_again() {
        // The server would refuse an interrupt in the time between its answer and the turn's start.
        let plan = TurnPlan::when("for ever").text("Working.").hold();
        let server = scripted(&Script::new().started_delay(200).turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Work for ever.")).expect("a turn");
        let other = go!([turn] {
            wait!(turn.interrupt()).expect("joins")
        });
        assert_eq!(wait!(turn.interrupt()).expect("taken"), rt::InterruptOutcome::Acknowledged);
        assert_eq!(join!(other), rt::InterruptOutcome::Acknowledged);
        assert_eq!(wait!(turn.result()).expect("no error").status, rt::State::Interrupted);
        assert_eq!(wait!(thread.run("Short.")).expect("runs again").status, rt::State::Completed);
        wait!(codex.close());
        assert_eq!(server.received_of("turn/interrupt", 1).len(), 1, "a second one is never answered");
    }
}

scenario! {
    fn st_12_and_st_13_sixteen_threads_at_once_keep_apart_and_overlap() {
        let mut script = Script::new().delta_delay(10);
        for n in 0..16 {
            script = script.turn(TurnPlan::when(format!("<{n}>")).text(format!("[{n}] ").repeat(20)).deltas(20));
        }
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let start = Instant::now();
        let mut running: Vec<Joined<()>> = Vec::new();
        for n in 0..16 {
            running.push(go!([codex] {
                let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
                let turn = wait!(thread.turn(format!("<{n}>"))).expect("a turn");
                let mut text = String::new();
                while let Some(event) = wait!(turn.next()) {
                    if let rt::Event::Delta(delta) = event {
                        text.push_str(&delta.text);
                    }
                }
                assert_eq!(text, format!("[{n}] ").repeat(20));
            }));
        }
        for handle in running {
            join!(handle);
        }
        // One takes 0.2 s; sixteen one after the other would take over 3.
        assert!(start.elapsed() < Duration::from_millis(2500), "{:?}", start.elapsed());
        wait!(codex.close());
    }
}

scenario! {
    fn st_15_models_are_listed_while_a_turn_streams_that_nobody_reads() {
        let plan = TurnPlan::new().text("word ".repeat(2000)).deltas(2000);
        let server = scripted(&Script::new().delta_delay(1).turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let start = Instant::now();
        wait!(codex.models()).expect("answered");
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
        assert!(!turn.state().is_end(), "the turn still runs");
        wait!(codex.close());
    }
}

scenario! {
    fn rt_01_a_childs_turn_within_the_parents_leaves_the_parent_alone() {
        let child = json!({"threadId": "child", "turn": {"id": "C", "status": "completed", "items": []}});
        let parents = json!({"type": "agentMessage", "id": "p", "text": "The parent's."});
        let childs = json!({"type": "agentMessage", "id": "c", "text": "The child's."});
        let turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}))
            .notify("thread/started", json!({"thread": {"id": "child", "parentThreadId": "$thread"}}))
            .notify("turn/started", json!({"threadId": "child", "turn": {"id": "C", "status": "inProgress"}}))
            .notify("item/completed", json!({"threadId": "child", "turnId": "C", "item": childs}))
            .notify("turn/completed", child)
            .notify("turn/completed", json!({"threadId": "child", "turn": {"id": "$turn", "status": "failed"}}))
            .delay(50)
            .notify("item/completed", json!({"threadId": "$thread", "turnId": "$turn", "item": parents}))
            .notify("turn/completed", json!({"threadId": "$thread", "turn": {"id": "$turn", "status": "completed"}}));
        let server = scripted(&Script::new().rule(turn));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let result = wait!(thread.run("Go.")).expect("completed");
        assert_eq!((result.final_response.as_deref(), result.items.len()), (Some("The parent's."), 1));
        wait!(codex.close());
    }
}

scenario! {
    fn rt_05_what_names_no_thread_goes_to_the_session() {
        let rule = Rule::on("go").notify("account/rateLimits/updated", json!({"rateLimits": {}}))
            .notify("brand/new", json!({"x": 1})).reply(json!(1));
        let server = scripted(&Script::new().startup_notices(false).rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut events = codex.events();
        wait!(codex.request_raw("go", json!({}))).expect("answered");
        let mut methods = Vec::new();
        for _ in 0..2 {
            methods.push(match wait!(events.next()).expect("a notification") {
                rt::Event::RateLimits(_) => "account/rateLimits/updated".to_string(),
                rt::Event::Other(raw) => raw.method.to_string(),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(methods, ["account/rateLimits/updated", "brand/new"]);
        wait!(codex.close());
        assert!(wait!(events.next()).is_none(), "the stream ends with the session");
    }
}

scenario! {
    fn pr_01_close_ends_an_idle_server_and_returns_its_status() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert_eq!(server.processes().len(), 1);
        let cause = wait!(codex.close());
        assert_eq!(cause.reason(), &DisconnectReason::ClosedByCaller);
        let exit = cause.exit().expect("seen");
        assert_eq!(exit.status.and_then(|status| status.code), Some(0), "{exit:?}");
        assert_eq!(exit.forced, rt::core::launch::Forced::No);
        assert!(server.processes().is_empty(), "no process and no zombie is left");
        assert_eq!(wait!(codex.close()).reason(), &DisconnectReason::ClosedByCaller, "closing again is fine");
    }
}

scenario! {
    fn pr_02_a_server_that_ignores_everything_is_killed_within_the_bound() {
        let server = scripted(&Script::new().ignore_term(true).rule(Rule::at_start().ignore_eof()));
        let ladder = rt::core::launch::CloseLadder::default()
            .eof_grace(Duration::from_millis(200)).terminate_grace(Duration::from_millis(200));
        let codex = wait!(rt::spawn(&server.command().close_ladder(ladder))).expect("connects");
        let start = Instant::now();
        let cause = wait!(codex.close());
        assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
        let exit = cause.exit().expect("seen");
        assert_eq!(exit.forced, rt::core::launch::Forced::Killed, "{exit:?}");
        assert_eq!(exit.status.and_then(|status| status.signal), Some(9));
        server.assert_gone();
    }
}

scenario! {
    fn pr_03_a_launcher_its_server_and_its_helper_are_gone_after_close_drop_and_failed_start() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.launcher())).expect("connects");
        // The helper may be on its way from the launcher to a program of its own, when it has no environment to be known by.
        assert!(crate::support::eventually(|| server.processes().len() >= 3), "{:?}", server.processes());
        wait!(codex.close());
        server.assert_gone();

        let codex = wait!(rt::spawn(&server.launcher())).expect("connects");
        drop(codex);
        // The handles are gone; the runtime still has to look once, which another session makes it do.
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        wait!(codex.close());
        server.assert_gone();

        let refusing = scripted(&Script::new().rule(Rule::on("initialize").reply_error(-32600, "no")));
        wait!(rt::spawn(&refusing.launcher())).expect_err("refused");
        refusing.assert_gone();
    }
}

scenario! {
    fn pr_06_a_server_killed_in_mid_turn_gives_each_waiter_one_error_with_the_evidence() {
        let dying = Rule::on("die").stderr("panicked at the worst moment\n").delay(30).die(9);
        let script = Script::new().turn(TurnPlan::new().text("Half of").hold()).rule(dying).rule(Rule::on("mute"));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let mute = go!([codex] {
            wait!(codex.request_raw("mute", json!({}))).expect_err("lost")
        });
        server.received_of("mute", 1);
        wait!(codex.request_raw("die", json!({}))).expect_err("lost");
        let error = join!(mute);
        let Fault::Disconnected { delivery: Delivery::Sent, cause } = &error.fault else { panic!("{error}") };
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.signal), Some(9));
        assert!(cause.stderr_tail().contains("worst moment"));
        let mut last = None;
        while let Some(event) = wait!(turn.next()) {
            last = Some(event);
        }
        assert!(matches!(last, Some(rt::Event::Ended(rt::State::Lost))), "{last:?}");
        let lost = wait!(turn.result()).expect_err("lost");
        assert!(matches!(&lost, rt::TurnError::Lost { cause, .. } if cause.stderr_tail().contains("worst moment")), "{lost}");
    }
}

scenario! {
    fn pr_09_calls_after_death_fail_at_once_with_the_original_cause() {
        let server = scripted(&Script::new().rule(Rule::on("die").exit(7)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(codex.request_raw("die", json!({}))).expect_err("lost");
        let start = Instant::now();
        let error = wait!(codex.request(ModelList::new())).expect_err("closed");
        let Fault::Disconnected { delivery: Delivery::NotSent, cause } = &error.fault else { panic!("{error}") };
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(7));
        assert!(wait!(thread.run("x")).expect_err("closed").is_closed());
        assert!(wait!(codex.ready()).is_err());
        assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    }
}

scenario! {
    fn pr_12_an_explicit_program_that_is_missing_is_an_error_that_names_it() {
        let command = rt::Command::new().program("/nowhere/codex");
        let error = wait!(rt::spawn(&command)).expect_err("not there");
        assert!(matches!(&error, rt::ConnectError::Launch(LaunchError::NotFound { tried }) if tried.len() == 1), "{error}");
        assert!(error.to_string().contains("/nowhere/codex"), "{error}");
        assert_eq!(error.phase(), rt::core::error::Phase::Resolve);
    }
}

scenario! {
    fn ad_05_the_blocking_client_works_within_this_runtime() {
        let server = scripted(&Script::new());
        // A runtime that it starts of its own, or a context that it needs, shows on a thread that a runtime runs on: the one
        // that waits for the scenario, and a worker.
        fn run(command: &turnwire_blocking::Command) -> bool {
            let codex = turnwire_blocking::spawn(command).expect("connects");
            let thread = codex.thread_start(ThreadStart::new()).expect("a thread");
            let result = thread.run("Hello.");
            codex.close();
            result.is_ok()
        }
        let command = server.command();
        assert!(run(&command));
        let worker: Joined<bool> = go!([command] run(&command));
        assert!(join!(worker));
    }
}

scenario! {
    fn ad_07_a_full_run_over_an_in_memory_duplex_without_a_process() {
        let script = Script::new().turn(TurnPlan::new().text("In memory.").deltas(4));
        let codex = wait!(connect_in_memory(script)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let mut text = String::new();
        while let Some(event) = wait!(turn.next()) {
            if let rt::Event::Delta(delta) = event {
                text.push_str(&delta.text);
            }
        }
        assert_eq!(text, "In memory.");
        let start = Instant::now();
        let cause = wait!(codex.close());
        assert!(cause.exit().is_none(), "there is no process");
        assert!(start.elapsed() < rt::Config::default().timeouts.close / 2, "and no end of one to wait for");
        assert_eq!(cause.reason(), &DisconnectReason::ClosedByCaller);
    }
}

scenario! {
    fn ob_06_a_script_can_say_what_it_wants_and_when() {
        let rule = Rule::on("go").notify("warning", json!({"message": "first"}))
            .ask("item/commandExecution/requestApproval", 5, json!({"threadId": "x", "turnId": "y"})).expect_answer(5)
            .delay(100).raw_line("garbage").notify("warning", json!({"message": "$answer.result.decision"}))
            .reply(json!("done"));
        let server = scripted(&Script::new().startup_notices(false).rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut events = codex.events();
        let start = Instant::now();
        assert_eq!(wait!(codex.request_raw("go", json!({}))).expect("answered").as_str(), "\"done\"");
        assert!(start.elapsed() >= Duration::from_millis(100));
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(match wait!(events.next()).expect("an event") {
                rt::Event::Other(raw) => raw.params_text().to_string(),
                rt::Event::Refused(refused) => refused.notification.method.to_string(),
                rt::Event::Diagnostic(diagnostic) => diagnostic.head.to_string(),
                event => panic!("{event:?}"),
            });
        }
        let approval = "item/commandExecution/requestApproval";
        assert_eq!(seen, ["{\"message\":\"first\"}", approval, "garbage", "{\"message\":\"decline\"}"]);
        wait!(codex.close());
    }
}

scenario! {
    fn a_dropped_call_or_turn_disturbs_nobody() {
        let script = Script::new().rule(Rule::on("mute")).turn(TurnPlan::when("hold").text("Half").hold());
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("hold")).expect("a turn");
        drop(turn);
        let busy = wait!(thread.run("again")).expect_err("the turn runs on");
        assert!(matches!(busy, rt::TurnError::Busy(_)), "{busy}");
        let other = wait!(codex.thread_start(ThreadStart::new())).expect("another thread");
        assert!(wait!(other.run("Hello.")).is_ok());
        wait!(codex.close());
        let counters = codex.counters();
        assert_eq!((counters.requests, counters.turns, counters.subscriptions), (0, 0, 0), "{counters:?}");
    }
}

scenario! {
    fn a_deadline_ends_the_turn_here_and_there() {
        let server = scripted(&Script::new().turn(TurnPlan::when("hold").text("Half").hold()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let request = rt::TurnRequest::new("hold").deadline(Duration::from_millis(300));
        let start = Instant::now();
        let error = wait!(thread.run(request)).expect_err("too long");
        assert!(matches!(&error, rt::TurnError::TimedOut { .. }) && error.is_timeout(), "{error}");
        assert!(start.elapsed() < Duration::from_secs(5));
        server.received_of("turn/interrupt", 1);
        assert!(support::eventually(|| codex.counters().turns == 0), "the server's end comes too");
        assert!(wait!(thread.run("Again.")).is_ok());
        wait!(codex.close());
    }
}

scenario! {
    fn fr_07_a_reply_of_sixty_four_mebibytes_is_decoded() {
        const SIZE: usize = 64 << 20;
        let server = rt::Command::new().program(env!("CARGO_BIN_EXE_turnwire-replay-server"));
        let codex = wait!(rt::spawn(&server)).expect("connects");
        let reply = wait!(codex.request_raw("replay/big", json!({"bytes": SIZE}))).expect("answered");
        assert_eq!(reply.as_str().len(), SIZE + r#"{"data":""}"#.len());
        // Whatever came before it, the next one is answered.
        wait!(codex.request_raw("replay/big", json!({"bytes": 1}))).expect("answered");
        wait!(codex.close());
    }
}
