// What hangs or misleads other clients, row by row: here each ends, with a typed outcome. Included once for each runtime.

use crate::support::{self, scripted};
use rt::{core::error::{DisconnectReason, Fault}, core::turn::DiagnosticKind, protocol::{ThreadResume, ThreadStart}};
use serde_json::json;
use std::time::{Duration, Instant};
use turnwire_testkit::scripted::{Early, Rule, Script, TurnPlan};

scenario! {
    fn lv_07_no_answer_to_initialize_is_a_timeout_of_that_phase() {
        let server = scripted(&Script::new().rule(Rule::on("initialize")));
        let mut config = rt::Config::default();
        config.timeouts.initialize = Duration::from_millis(500);
        let error = wait!(rt::spawn_with(&server.command(), config)).expect_err("no answer");
        assert!(error.is_timeout() && error.phase() == rt::core::error::Phase::Initialize, "{error}");
        server.assert_gone();
    }
}

scenario! {
    fn lv_07_a_line_that_is_no_json_and_one_of_invalid_utf_8_are_passed_over_in_mid_turn() {
        let noise = Rule::on("model/list").raw_line("WARN something is up").raw_line(&b"\xc3\x28 \xff\xfe"[..])
            .raw_line(&b"{\"method\":\"warning\",\"params\":{\"message\":\"\xff\"}}"[..]).default_reply();
        let server = scripted(&Script::new().rule(noise).turn(TurnPlan::new().text("Still here.")));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert!(wait!(codex.models()).is_ok());
        let counters = codex.counters();
        assert_eq!((counters.noise, counters.malformed), (2, 1), "{counters:?}");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        assert_eq!(wait!(thread.run("Go.")).expect("completed").final_response.as_deref(), Some("Still here."));
        wait!(codex.close());
    }
}

scenario! {
    fn lv_07_a_bad_byte_on_stderr_and_300_kilobytes_after_it_block_nobody() {
        let loud = Rule::on("model/list").stderr(&b"bad \xff\xc3 byte\n"[..]).stderr_flood(300_000).default_reply();
        let server = scripted(&Script::new().rule(loud).rule(Rule::on("die").stderr("the end\n").exit(4)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        for _ in 0..3 {
            assert!(wait!(codex.models()).is_ok());
        }
        assert!(wait!(codex.request_raw("die", json!({}))).expect_err("dead").is_closed());
        assert!(wait!(codex.closed()).stderr_tail().ends_with("the end\n"));
    }
}

scenario! {
    fn lv_07_a_lost_end_of_a_turn_is_found_by_the_idle_thread_or_by_the_deadline_and_is_no_success() {
        let item = json!({"type": "agentMessage", "id": "m", "text": "Done."});
        let idle = json!({"threadId": "$thread", "status": {"type": "idle"}});
        let lost = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}))
            .notify("item/completed", json!({"threadId": "$thread", "turnId": "$turn", "item": item}));
        for (rule, is_idle) in [(lost.clone().notify("thread/status/changed", idle), true), (lost, false)] {
            let server = scripted(&Script::new().rule(rule));
            let mut config = rt::Config::default();
            config.timeouts.idle = Duration::from_millis(200);
            let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let request = rt::TurnRequest::new("Go.").deadline(Duration::from_millis(1500));
            let start = Instant::now();
            let error = wait!(thread.run(request)).expect_err("no success");
            assert!(start.elapsed() < Duration::from_secs(10));
            let ended = match &error {
                rt::TurnError::UnknownStatus { .. } => is_idle,
                rt::TurnError::TimedOut { .. } => !is_idle,
                _ => false,
            };
            assert!(ended && error.report().is_some_and(|report| report.items.len() == 1), "{error}");
            wait!(codex.close());
        }
    }
}

scenario! {
    fn lv_07_a_turn_that_completes_before_its_start_is_answered_is_completed() {
        let server = scripted(&Script::new().early(Early::Completed).reply_delay(50).turn(TurnPlan::new().text("Quick.")));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        for _ in 0..3 {
            assert_eq!(wait!(thread.run("Go.")).expect("completed").final_response.as_deref(), Some("Quick."));
        }
        wait!(codex.close());
    }
}

scenario! {
    fn lv_07_an_unknown_status_and_an_unknown_kind_of_error_are_typed_outcomes() {
        let error = json!({"message": "odd", "codexErrorInfo": {"quantumFlux": {"level": 9}}});
        for (status, error) in [("evaporated", json!(null)), ("failed", error)] {
            let turn = json!({"id": "$turn", "status": status, "items": [], "error": error});
            let rule = Rule::on("turn/start").reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}))
                .notify("turn/completed", json!({"threadId": "$thread", "turn": turn}));
            let server = scripted(&Script::new().rule(rule));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            match wait!(thread.run("Go.")).expect_err("no success") {
                rt::TurnError::UnknownStatus { status, .. } => assert_eq!(&*status, "evaporated"),
                rt::TurnError::Failed(report) => assert_eq!(report.error_message(), Some("odd")),
                other => panic!("{other}"),
            }
            wait!(codex.close());
        }
    }
}

scenario! {
    fn lv_07_the_servers_own_overload_error_is_retryable_and_had_no_effect() {
        let full = Rule::on("model/list").once().reply_error(-32001, "Server overloaded; retry later.");
        let server = scripted(&Script::new().rule(full));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let error = wait!(codex.models()).expect_err("overloaded");
        assert!(error.is_retryable() && !error.may_have_effect() && !error.is_closed(), "{error}");
        assert!(wait!(codex.models()).is_ok());
        wait!(codex.close());
    }
}

scenario! {
    fn lv_07_an_unknown_item_in_the_history_of_a_resumed_thread_does_no_harm() {
        let items = json!([{"type": "hologram", "id": "h", "depth": 3}, {"type": "agentMessage", "id": "m", "text": "Old."}]);
        let rule = Rule::on("thread/resume").when("threadId", "T").reply(json!({"thread": {"id": "T", "sessionId": "T", "status": {"type": "idle"}, "turns": [
            {"id": "U", "status": "completed", "items": items}]}, "model": "m", "modelProvider": "p", "cwd": "/",
            "approvalPolicy": "on-request", "sandbox": {"type": "readOnly"}}));
        let server = scripted(&Script::new().rule(rule).stored_thread("T"));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let resumed = wait!(codex.request(ThreadResume::new("T"))).expect("decoded");
        let turns = &resumed.thread.turns;
        assert_eq!(turns.iter().map(|turn| turn.items.len()).sum::<usize>(), 2, "the unknown one is kept");
        let thread = wait!(codex.thread_resume(ThreadResume::new("T"))).expect("resumed").thread;
        assert_eq!(thread.id().as_str(), "T");
        wait!(codex.close());
    }
}

scenario! {
    fn lv_07_a_destructive_command_is_refused_where_nobody_answers_for_it() {
        let plan = TurnPlan::new().command("rm -rf /", "", 0).with_approval().text("Not done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        assert!(wait!(thread.run("Clean up.")).is_ok());
        let received = server.received();
        let answers: Vec<_> = received.iter().filter(|line| line.get("method").is_none()).collect();
        assert_eq!(answers.len(), 1);
        assert_eq!(answers[0]["result"]["decision"], "decline", "never an accept");
        assert_eq!(codex.counters().refused, 1);
        wait!(codex.close());
    }
}

scenario! {
    fn pr_17_another_home_than_the_one_that_was_asked_for_is_a_diagnostic() {
        let odd = json!({"userAgent": "x/0.163.0 (Linux)", "codexHome": "/home/user/.codex", "platformFamily": "unix",
            "platformOs": "linux"});
        let asked = std::env::temp_dir();
        let server = scripted(&Script::new().rule(Rule::on("initialize").reply(odd)));
        let codex = wait!(rt::spawn(&server.command().codex_home(&asked))).expect("connects");
        let said = codex.diagnostics();
        assert_eq!(said.iter().map(|said| said.kind).collect::<Vec<_>>(), [DiagnosticKind::OtherHome]);
        assert!(said[0].head.contains("/home/user/.codex"), "{}", said[0].head);
        wait!(codex.close());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        assert!(codex.diagnostics().is_empty(), "nothing was asked for");
        wait!(codex.close());
    }
}

scenario! {
    fn a_version_that_was_not_tried_is_a_diagnostic_and_no_obstacle() {
        for (version, expected) in [("0.163.7", rt::Tried::Yes), ("0.140.0", rt::Tried::Yes), ("0.99.0", rt::Tried::Older),
            ("0.164.0", rt::Tried::Newer), ("1.0.0", rt::Tried::Newer), ("dev", rt::Tried::Unknown)] {
            let server = scripted(&Script::new().version(version));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            assert_eq!(codex.server().expect("a server").tried(), expected, "{version}");
            let said = codex.diagnostics();
            let is_said = said.iter().any(|said| said.kind == DiagnosticKind::UntriedVersion);
            assert_eq!(is_said, expected != rt::Tried::Yes, "{version}");
            wait!(codex.close());
        }
    }
}

scenario! {
    fn pr_17_a_temporary_home_is_there_while_the_server_is_and_gone_with_it() {
        let home = Rule::on("initialize").default_reply();
        let server = scripted(&Script::new().rule(home));
        let homes = || {
            let begins = format!("turnwire-home-{}-", std::process::id());
            let entries = std::fs::read_dir(std::env::temp_dir()).expect("a folder").flatten();
            entries.map(|entry| entry.file_name().to_string_lossy().into_owned())
                .filter(|name| name.starts_with(&begins)).collect::<std::collections::BTreeSet<_>>()
        };
        let home_of = |pid: &str| {
            let environment = std::fs::read_to_string(format!("/proc/{pid}/environ")).expect("Linux");
            let home = environment.split('\0').find_map(|entry| entry.strip_prefix("CODEX_HOME="));
            std::path::PathBuf::from(home.expect("a home"))
        };
        let codex = wait!(rt::spawn(&server.command().temporary_home())).expect("connects");
        let home = home_of(&server.processes()[0]);
        assert!(home.is_dir() && homes().contains(&*home.file_name().expect("a name").to_string_lossy()));
        std::fs::write(home.join("state"), "x").expect("writable");
        wait!(codex.close());
        assert!(!home.exists(), "gone by the end of the close");
        let codex = wait!(rt::spawn(&server.command().temporary_home())).expect("connects");
        let home = home_of(&server.processes()[0]);
        drop(codex);
        // The runtime has to run for a drop to be seen.
        let other = wait!(rt::spawn(&server.command())).expect("connects");
        wait!(other.close());
        assert!(support::eventually(|| !home.exists()), "gone after a drop");
    }
}
