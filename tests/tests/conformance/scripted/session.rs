// Sessions against the scripted server, a fake: lazily started, replaced, cut off. Included once for each runtime.

use crate::support::{self, scripted, series};
use rt::{
    core::{
        error::{Delivery, DisconnectReason, Fault, Phase},
        launch::LaunchError,
    },
    protocol::{ModelList, ThreadStart},
};
use serde_json::{Value, json};
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};
use turnwire_testkit::scripted::{Early, Rule, Script, TurnPlan};

fn restarting() -> rt::Config {
    let mut config = rt::Config::default();
    let policy = rt::RestartPolicy::new().at_most(3, Duration::from_secs(60));
    config.restart = Some(policy.backoff(Duration::from_millis(50), Duration::from_millis(200)));
    config
}

scenario! {
    fn hs_08_twenty_callers_start_one_server_with_one_handshake_and_all_go_on() {
        let server = scripted(&Script::new().reply_delay(20));
        let codex = rt::lazy(&server.command(), rt::Config::default());
        assert!(codex.server().is_none() && codex.counters().requests == 0 && codex.diagnostics().is_empty());
        assert_eq!((codex.generation().number(), server.processes().len()), (1, 0), "looking starts nothing");
        let mut callers: Vec<Joined<bool>> = Vec::new();
        for n in 0..20 {
            callers.push(go!([codex] {
                match n % 4 {
                    0 => wait!(codex.ready()).is_ok(),
                    1 => wait!(codex.models()).is_ok(),
                    2 => wait!(codex.request_raw("thread/loaded/list", json!({}))).is_ok(),
                    _ => {
                        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
                        wait!(thread.run("Hello.")).is_ok()
                    }
                }
            }));
        }
        for caller in callers {
            assert!(join!(caller));
        }
        assert_eq!(server.processes().len(), 1);
        wait!(codex.close());
        let received = server.received();
        let of = |method: &str| received.iter().filter(|line| line["method"] == method).count();
        assert_eq!((of("initialize"), of("initialized"), of("thread/start"), of("turn/start")), (1, 1, 5, 5));
        assert_eq!(received[0]["method"], "initialize", "and it is the first");
        server.assert_gone();
    }
}

scenario! {
    fn hs_08_the_first_event_that_is_waited_for_starts_the_server_too() {
        let hello = Rule::on("initialize").default_reply().notify("hello", json!({}));
        let server = scripted(&Script::new().startup_notices(false).rule(hello));
        let codex = rt::lazy(&server.command(), rt::Config::default());
        let mut events = codex.events();
        let Some(rt::Event::Other(first)) = wait!(events.next()) else { panic!("a notification") };
        assert_eq!(&*first.method, "hello");
        wait!(codex.close());
    }
}

scenario! {
    fn hs_08_a_launch_that_fails_is_told_to_everybody_who_waits_for_it() {
        let codex = rt::lazy(&rt::Command::new().program("/nowhere/codex"), restarting());
        let mut callers: Vec<Joined<rt::CallError>> = Vec::new();
        for _ in 0..5 {
            callers.push(go!([codex] wait!(codex.models()).expect_err("no server")));
        }
        for caller in callers {
            let error = join!(caller);
            let Fault::Disconnected { delivery: Delivery::NotSent, cause } = &error.fault else { panic!("{error}") };
            assert!(matches!(cause.reason(), DisconnectReason::Launch(LaunchError::NotFound { .. })), "{error}");
            assert!(error.to_string().contains("/nowhere/codex"), "{error}");
        }
        let error = wait!(codex.ready()).expect_err("no server");
        assert!(matches!(&error, rt::ConnectError::Launch(LaunchError::NotFound { .. })), "{error}");
        assert_eq!((error.phase(), codex.generation().number()), (Phase::Resolve, 1), "nothing is tried again");
    }
}

scenario! {
    fn hs_08_a_session_that_is_closed_before_its_first_use_starts_nothing() {
        let server = scripted(&Script::new());
        let codex = rt::lazy(&server.command(), rt::Config::default());
        assert_eq!(wait!(codex.close()).reason(), &DisconnectReason::ClosedByCaller);
        assert!(wait!(codex.models()).expect_err("closed").is_closed());
        assert!(server.received().is_empty() && server.processes().is_empty());
        // Closed while it starts: the wait ends, and the process with it.
        let server = scripted(&Script::new().rule(Rule::on("initialize")));
        let codex = rt::lazy(&server.command(), rt::Config::default());
        let waiting = go!([codex] { wait!(codex.ready()).expect_err("closed").to_string() });
        support::eventually(|| !server.processes().is_empty());
        wait!(codex.close());
        assert!(join!(waiting).contains("closed by this program"));
        server.assert_gone();
    }
}

scenario! {
    fn hs_08_a_lazy_handshake_has_its_own_deadline_from_the_first_call_on() {
        let server = scripted(&Script::new().rule(Rule::on("initialize").stderr("waiting for a key\n")));
        let mut config = rt::Config::default();
        config.timeouts.initialize = Duration::from_millis(600);
        let codex = rt::lazy(&server.command(), config);
        std::thread::sleep(Duration::from_millis(700));
        let start = Instant::now();
        let error = wait!(codex.ready()).expect_err("too late");
        assert!(error.is_timeout() && start.elapsed() >= Duration::from_millis(500), "{error} {:?}", start.elapsed());
        assert!(error.stderr_tail().contains("waiting for a key"), "{error}");
        wait!(codex.close());
        server.assert_gone();
    }
}

scenario! {
    fn pr_16_a_server_that_dies_before_it_has_taken_the_turn_is_replaced_and_the_turn_runs_there() {
        let dying = Script::new().rule(Rule::on("turn/start").exit(3));
        let thread_id = "00000000-0000-4000-8000-00000000abcd";
        let next = Script::new().stored_thread(thread_id).turn(TurnPlan::new().text("On the second."));
        let server = series(&[dying.stored_thread(thread_id), next]);
        let codex = wait!(rt::spawn_with(&server.series_command(), restarting())).expect("connects");
        let thread = wait!(codex.thread_resume(rt::protocol::ThreadResume::new(thread_id))).expect("a thread").thread;
        let result = wait!(thread.run("Go.")).expect("runs on the second server");
        assert_eq!(result.final_response.as_deref(), Some("On the second."));
        assert_eq!((codex.generation().number(), thread.generation().number(), server.starts()), (2, 1, 2));
        // The same turn, by the mark that it bears, and no third.
        let (first, second) = (server.received_by(1, "turn/start"), server.received_by(2, "turn/start"));
        assert_eq!((first.len(), second.len()), (1, 1));
        assert!(first[0]["clientUserMessageId"].is_string());
        assert_eq!(first[0], second[0]);
        assert_eq!(server.received_by(2, "thread/resume").len(), 1);
        // The handle of the first server says that it is one; a new one works.
        let stale = wait!(thread.run("Again.")).expect_err("stale");
        assert!(stale.is_closed(), "{stale}");
        let rt::TurnError::Start(call) = &stale else { panic!("{stale}") };
        assert!(matches!(call.fault, Fault::Stale { handle: 1, current: 2, .. }) && call.is_stale(), "{stale}");
        assert!(stale.to_string().contains("server 1") && stale.to_string().contains("server 2"), "{stale}");
        let renewed = codex.thread(thread_id);
        assert_eq!(renewed.generation().number(), 2);
        assert!(wait!(renewed.run("Again.")).is_ok());
        wait!(codex.close());
        assert!(wait!(codex.models()).expect_err("closed for good").is_closed());
        assert_eq!(server.starts(), 2);
        server.assert_gone();
    }
}

scenario! {
    fn pr_16_a_turn_is_not_started_again_where_its_thread_may_do_more_or_asks_less() {
        let told = |sandbox: &str, approvals: &str| json!({
            "thread": {"id": "$params.threadId", "turns": []}, "model": "m", "modelProvider": "p", "cwd": "/w",
            "sandbox": {"type": sandbox}, "approvalPolicy": approvals, "approvalsReviewer": "user"});
        for (sandbox, approvals, may_run) in [
            ("workspaceWrite", "on-request", true),
            ("readOnly", "on-request", true),
            ("dangerFullAccess", "on-request", false),
            ("brandNew", "on-request", false),
            ("workspaceWrite", "never", false),
        ] {
            let turn = json!({"id": "U", "status": "inProgress"});
            let ended = json!({"threadId": "$thread", "turn": {"id": "U", "status": "completed"}});
            let next = Script::new()
                .rule(Rule::on("thread/resume").reply(told(sandbox, approvals)))
                .rule(Rule::on("turn/start").reply(json!({"turn": turn})).notify("turn/completed", ended));
            let dying = Script::new().rule(Rule::on("turn/start").exit(3));
            let server = series(&[dying, next]);
            let codex = wait!(rt::spawn_with(&server.series_command(), restarting())).expect("connects");
            let params = ThreadStart::new().sandbox("workspace-write").approval_policy("on-request");
            let thread = wait!(codex.thread_start(params)).expect("a thread");
            let outcome = wait!(thread.run("Go."));
            let resumed = server.received_by(2, "thread/resume");
            assert_eq!(resumed[0]["sandbox"], "workspace-write", "what it had is said again");
            assert_eq!(resumed[0]["config"]["sandbox_workspace_write.network_access"], false, "and what its mode does not say");
            assert_eq!((&resumed[0]["approvalPolicy"], &resumed[0]["approvalsReviewer"]), (&json!("on-request"), &json!("user")));
            assert_eq!(server.received_by(2, "turn/start").len(), usize::from(may_run), "{sandbox}, {approvals}");
            assert_eq!(outcome.is_ok(), may_run, "{sandbox}, {approvals}: {outcome:?}");
            if let Err(error) = outcome {
                assert!(error.is_closed(), "the end of the server before: {error}");
            }
            wait!(codex.close());
        }
    }
}

scenario! {
    fn pr_16_a_server_that_dies_after_it_has_taken_the_turn_is_a_lost_turn_and_nothing_runs_again() {
        // After the answer; and without an answer, but with an event.
        let answered = Rule::on("turn/start").reply(json!({"turn": {"id": "U", "status": "inProgress"}})).delay(50).exit(3);
        let started = json!({"threadId": "$thread", "turn": {"id": "U", "status": "inProgress"}});
        let heard = Rule::on("turn/start").notify("turn/started", started).exit(3);
        for (rule, is_answered) in [(answered, true), (heard, false)] {
            let server = series(&[Script::new().rule(rule), Script::new().resume_any(true)]);
            let codex = wait!(rt::spawn_with(&server.series_command(), restarting())).expect("connects");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let lost = wait!(thread.run("Go.")).expect_err("lost");
            assert!(lost.is_closed(), "{lost}");
            assert_eq!(matches!(lost, rt::TurnError::Lost { .. }), is_answered, "{lost}");
            assert_eq!((server.starts(), codex.generation().number()), (1, 1), "nobody asked for another server");
            // The next call does.
            assert!(wait!(codex.models()).is_ok());
            assert_eq!((server.starts(), codex.generation().number()), (2, 2));
            assert!(server.received_by(2, "turn/start").is_empty() && server.received_by(2, "thread/resume").is_empty());
            wait!(codex.close());
        }
    }
}

scenario! {
    fn pr_16_a_turn_that_the_history_holds_is_not_started_again_nor_one_whose_thread_is_gone() {
        let known = json!({"thread": {"id": "$params.threadId", "turns": [{"id": "U", "status": "interrupted", "items": [
            {"type": "userMessage", "id": "i", "clientId": "mine", "content": []}]}]}});
        let holding = Script::new().rule(Rule::on("thread/resume").reply(known));
        let gone = Script::new().rule(Rule::on("thread/resume").reply_error(-32600, "no rollout found for thread id"));
        for next in [holding, gone] {
            let server = series(&[Script::new().rule(Rule::on("turn/start").exit(3)), next]);
            let codex = wait!(rt::spawn_with(&server.series_command(), restarting())).expect("connects");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let request = rt::TurnRequest::new("Go.").with(|params| params.client_user_message_id("mine"));
            let error = wait!(thread.run(request)).expect_err("lost");
            let rt::TurnError::Start(call) = &error else { panic!("{error}") };
            let Fault::Disconnected { delivery: Delivery::Sent, cause } = &call.fault else { panic!("{error}") };
            assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(3));
            assert_eq!(server.received_by(2, "thread/resume").len(), 1);
            assert!(server.received_by(2, "turn/start").is_empty());
            wait!(codex.close());
        }
    }
}

scenario! {
    fn pr_16_restarts_are_capped_and_then_calls_fail_with_the_last_end() {
        let server = series(&[Script::new().rule(Rule::on("model/list").exit(9))]);
        let codex = wait!(rt::spawn_with(&server.series_command(), restarting())).expect("connects");
        for generation in 1..=4 {
            wait!(codex.models()).expect_err("dies");
            assert_eq!(codex.generation().number(), generation);
        }
        let start = Instant::now();
        let error = wait!(codex.models()).expect_err("no more");
        assert!(start.elapsed() < Duration::from_secs(1));
        let Fault::Disconnected { delivery: Delivery::NotSent, cause } = &error.fault else { panic!("{error}") };
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(9));
        assert_eq!((server.starts(), codex.generation().number()), (4, 4));
        wait!(codex.close());
        server.assert_gone();
    }
}

scenario! {
    fn pr_16_without_a_policy_nothing_is_started_again() {
        let server = series(&[Script::new().rule(Rule::on("model/list").exit(9))]);
        let codex = wait!(rt::spawn(&server.series_command())).expect("connects");
        for _ in 0..3 {
            assert!(wait!(codex.models()).expect_err("dead").is_closed());
        }
        assert_eq!((server.starts(), codex.generation().number()), (1, 1));
    }
}

scenario! {
    fn pr_11_writing_to_a_dead_server_is_an_error_and_nothing_worse() {
        let server = scripted(&Script::new().rule(Rule::on("deaf").stop_reading()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        // More than a pipe holds, to a server that does not read: it dies while it is being written to.
        let deaf: Joined<()> = go!([codex] { drop(wait!(codex.request_raw("deaf", json!({})))) });
        server.received_of("deaf", 1);
        let mut writers: Vec<Joined<rt::CallError>> = Vec::new();
        for _ in 0..8 {
            writers.push(go!([codex] {
                wait!(codex.request_raw("big", json!({"text": "x".repeat(1 << 20)}))).expect_err("dead")
            }));
        }
        assert!(support::eventually(|| codex.counters().requests == 9));
        support::kill(&server.processes()[0]);
        for writer in writers {
            let error = join!(writer);
            assert!(error.is_closed(), "{error}");
        }
        join!(deaf);
        // And once more, when the death is known.
        assert!(wait!(codex.request_raw("big", json!({"text": "x".repeat(1 << 20)}))).expect_err("dead").is_closed());
        let cause = wait!(codex.closed());
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.signal), Some(9), "{cause}");
    }
}

scenario! {
    fn rq_13_a_request_that_the_server_ignores_ends_at_its_deadline_and_the_message_says_what_it_may_be() {
        let server = scripted(&Script::new().rule(Rule::on("odd").stderr("cannot parse that\n")));
        let mut config = rt::Config::default();
        config.timeouts.reply = Duration::from_millis(300);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let start = Instant::now();
        let error = wait!(codex.request_raw("odd", json!({}))).expect_err("no answer");
        assert!(start.elapsed() < Duration::from_secs(5));
        assert!(matches!(error.fault, Fault::TimedOut { delivery: Delivery::Sent, .. }), "{error}");
        assert!(error.to_string().contains("does not answer input that it cannot parse"), "{error}");
        assert!(error.to_string().ends_with("since its last output: cannot parse that"), "{error}");
        assert!(!format!("{error:?}").contains("cannot parse that"));
        assert!(wait!(codex.models()).is_ok(), "the session lives");
        wait!(codex.close());
    }
}

scenario! {
    fn tu_11_a_status_that_nobody_knows_is_an_outcome_and_no_success() {
        let end = json!({"threadId": "$thread", "turn": {"id": "$turn", "status": "vaporised", "items": []}});
        let turn = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}));
        let server = scripted(&Script::new().rule(turn.notify("turn/completed", end)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let error = wait!(thread.run("Go.")).expect_err("no success");
        assert!(matches!(&error, rt::TurnError::UnknownStatus { status, .. } if &**status == "vaporised"), "{error}");
        wait!(codex.close());
    }
}

scenario! {
    fn st_08_an_interrupt_that_is_never_acknowledged_ends_at_its_bound_and_close_is_the_way_out() {
        let server = scripted(&Script::new().rule(Rule::on("turn/interrupt")).turn(TurnPlan::new().text("On.").hold()));
        let mut config = rt::Config::default();
        config.timeouts.interrupt = Duration::from_millis(400);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let start = Instant::now();
        let error = wait!(turn.interrupt()).expect_err("nobody answers");
        assert!(error.is_timeout() && start.elapsed() < Duration::from_secs(5), "{error}");
        assert!(!turn.state().is_end(), "it may still run");
        wait!(codex.close());
        assert!(wait!(turn.result()).expect_err("lost").is_closed());
        server.assert_gone();
    }
}

scenario! {
    fn fr_07_an_answer_of_64_mebibytes_is_decoded_with_the_defaults() {
        const SIZE: usize = 64 << 20;
        let big = Rule::on("big").raw("{\"id\":2,\"result\":{\"text\":\"").fill("0123456789abcdef", (SIZE / 16) as u64)
            .raw("\"}}\n");
        let server = scripted(&Script::new().rule(big));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let answer = wait!(codex.request_raw("big", json!({}))).expect("decoded");
        assert!(answer.as_str().len() > SIZE, "{}", answer.as_str().len());
        assert!(wait!(codex.models()).is_ok());
        wait!(codex.close());
    }
}

scenario! {
    fn fr_11_six_megabytes_on_stderr_leave_every_answer_alone_and_the_tail_bounded() {
        const CHUNK: u64 = 100_000;
        const CHUNKS: usize = 60;
        // More than a pipe holds each time, and nothing on stdout meanwhile but what is asked for.
        let mut flood = Rule::on("flood");
        for _ in 0..CHUNKS {
            flood = flood.stderr_flood(CHUNK).delay(5);
        }
        let flood = flood.stderr("the flood is over\n").reply(json!({}));
        // And the same in step with requests: each comes right after a chunk.
        let mut steps = Rule::on("steps");
        for _ in 0..CHUNKS {
            steps = steps.stderr_flood(CHUNK).take("step").reply(json!({}));
        }
        let dying = Rule::on("die").stderr("the last word\n").exit(1);
        let server = scripted(&Script::new().rule(flood).rule(steps).rule(dying));
        let mut config = rt::Config::default();
        config.timeouts.reply = support::PATIENCE;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let is_over = Arc::new(AtomicBool::new(false));
        let flooding: Joined<()> = go!([codex, is_over] {
            let outcome = wait!(codex.request_raw("flood", json!({})));
            is_over.store(true, Ordering::Release);
            outcome.expect("the flood came to its end");
        });
        server.received_of("flood", 1);
        let mut answered = 0;
        while !is_over.load(Ordering::Acquire) {
            assert!(!wait!(codex.models()).expect("answered all the while").data.is_empty());
            answered += 1;
        }
        join!(flooding);
        assert!(answered >= 5, "{answered} requests were answered meanwhile");

        let stepping: Joined<bool> = go!([codex] { wait!(codex.request_raw("steps", json!({}))).is_err() });
        server.received_of("steps", 1);
        for _ in 0..CHUNKS {
            wait!(codex.request_raw("step", json!({}))).expect("answered");
        }
        wait!(codex.request_raw("die", json!({}))).expect_err("dead");
        assert!(join!(stepping), "it is never answered");
        let cause = wait!(codex.closed());
        let tail = cause.stderr_tail();
        assert!(tail.len() <= 64 * 1024 && tail.len() > 60 * 1024 && tail.ends_with("the last word\n"), "{}", tail.len());
        assert!(!tail.contains("the flood is over"), "what came before is gone");
    }
}

scenario! {
    fn fr_04_strict_mode_ends_the_session_on_a_malformed_line_with_a_typed_error_for_everybody() {
        let cut = Rule::on("go").raw_line("{\"id\":9,\"resu");
        let server = scripted(&Script::new().rule(cut).turn(TurnPlan::new().hold()));
        let mut config = rt::Config::default();
        config.strict = true;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let error = wait!(codex.request_raw("go", json!({}))).expect_err("over");
        let Fault::Disconnected { cause, .. } = &error.fault else { panic!("{error}") };
        assert!(matches!(cause.reason(), DisconnectReason::Protocol(_)), "{error}");
        assert!(wait!(turn.result()).expect_err("lost").is_closed());
        server.assert_gone();
    }
}

scenario! {
    fn fr_02_odd_bytes_of_every_kind_between_messages_are_skipped_and_counted() {
        // Latin-1, a UTF-16 mark, a code page of old, a progress bar, a bell, a NUL; and lines that end in CRLF.
        let odd: [&[u8]; 6] = [b"Gr\xfc\xdfe", b"\xff\xfeh\0i\0", b"\x8e\x84 \x81ber", b"\x1b[2K\x1b[1G 50%", b"\x07", b"\0"];
        let mut rule = Rule::on("model/list");
        for bytes in odd {
            rule = rule.raw_line(bytes);
        }
        let server = scripted(&Script::new().rule(rule.raw("\r\n{\"id\":2,\"result\":{\"data\":[]}}\r\n")));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert!(wait!(codex.models()).expect("answered").data.is_empty());
        let counters = codex.counters();
        assert_eq!((counters.noise, counters.malformed), (6, 0), "{counters:?}");
        wait!(codex.close());
    }
}

scenario! {
    fn a_peer_that_stops_reading_holds_up_what_is_not_sent_and_only_until_its_deadline() {
        let server = scripted(&Script::new().rule(Rule::on("deaf").stop_reading()));
        let mut config = rt::Config::default();
        config.limits.max_in_flight = 4;
        config.timeouts.call = Duration::from_millis(900);
        config.timeouts.reply = Duration::from_millis(600);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let mut callers: Vec<Joined<rt::CallError>> = Vec::new();
        callers.push(go!([codex] { wait!(codex.request_raw("deaf", json!({}))).expect_err("no answer") }));
        server.received_of("deaf", 1);
        for _ in 0..8 {
            callers.push(go!([codex] {
                wait!(codex.request_raw("x", json!({"text": "x".repeat(100_000)}))).expect_err("no answer")
            }));
        }
        let start = Instant::now();
        for caller in callers {
            assert!(join!(caller).is_timeout());
        }
        assert!(start.elapsed() < Duration::from_secs(10));
        wait!(codex.close());
        server.assert_gone();
    }
}

scenario! {
    fn pr_06_the_error_quotes_what_the_server_said_after_its_last_message() {
        let dying = Rule::on("model/list").stderr("an old warning\n").delay(150).reply(json!({"data": []}));
        let script = Script::new().rule(dying).rule(Rule::on("die").stderr("the reason\n").exit(5));
        let silent = Script::new().rule(Rule::on("model/list").stderr("all that was said\n").delay(150)
            .reply(json!({"data": []}))).rule(Rule::on("die").exit(5));
        for (script, since, quoted) in [(script, "the reason\n", "the reason"), (silent, "", "all that was said")] {
            let server = scripted(&script);
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            wait!(codex.models()).expect("answered");
            let error = wait!(codex.request_raw("die", json!({}))).expect_err("dead");
            let Fault::Disconnected { cause, .. } = &error.fault else { panic!("{error}") };
            assert_eq!(cause.exit().expect("seen").stderr_since_output(), since);
            assert!(cause.stderr_tail().len() > since.len(), "the whole tail is there too");
            assert!(error.to_string().contains(quoted), "{error}");
        }
    }
}
