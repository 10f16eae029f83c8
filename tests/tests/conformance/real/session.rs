// Sessions with the real server: late, replaced, isolated, crowded. Included once for each runtime.

use crate::support::{self, real_server};
use serde_json::{Value, json};
use std::time::{Duration, Instant};
use turnwire_testkit::model::{ExecCommand, Gate, Message, Reply};

real_scenario! {
    fn hs_08_twenty_callers_start_one_real_server() {
        let Some(server) = real_server("hs_08_twenty_callers_start_one_real_server") else { return };
        let codex = rt::lazy(&server.command(), rt::Config::default());
        assert!(server.processes().is_empty());
        let mut callers: Vec<Joined<String>> = Vec::new();
        for _ in 0..20 {
            callers.push(go!([codex] {
                wait!(codex.models()).expect("answered");
                wait!(codex.ready()).expect("a server").user_agent
            }));
        }
        let mut agents = Vec::new();
        for caller in callers {
            agents.push(join!(caller));
        }
        assert_eq!((agents.len(), server.servers().len()), (20, 1));
        assert_eq!(codex.server().expect("a server").tried(), rt::Tried::Yes);
        assert!(codex.diagnostics().is_empty(), "{:?}", codex.diagnostics());
        wait!(codex.close());
        assert!(server.processes().is_empty());
    }
}

real_scenario! {
    fn pr_16_a_real_server_that_is_killed_is_replaced_and_goes_on_with_its_threads() {
        let Some(server) = real_server("pr_16_a_real_server_that_is_killed_is_replaced") else { return };
        let mut config = rt::Config::default();
        config.restart = Some(rt::RestartPolicy::new());
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        server.model.push(Reply::text("First."));
        wait!(thread.run("One.")).expect("completed");
        // Killed while nothing runs: the turn was not taken, so it runs on the next server, in the same thread.
        support::kill(&server.servers()[0]);
        server.model.push(Reply::text("Second."));
        let second = wait!(thread.run("Two.")).expect("on the second server");
        assert_eq!(second.final_response.as_deref(), Some("Second."));
        assert_eq!((codex.generation().number(), second.thread_id.as_str()), (2, thread.id().as_str()));
        let requests = server.model.requests();
        let last = requests.last().expect("asked");
        assert!(last.has_text("One.") && last.has_text("Two."), "the history is there");
        assert!(wait!(thread.run("Three.")).expect_err("an old handle").to_string().contains("stale"));
        // Killed in mid-turn: the turn was taken, so it is lost, and runs nowhere else.
        let thread = codex.thread(thread.id().clone());
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working.")).hold(&gate));
        let turn = wait!(thread.turn("Four.")).expect("a turn");
        assert!(gate.wait_reached(support::PATIENCE));
        let asked = server.model.requests().len();
        support::kill(&server.servers()[0]);
        let lost = wait!(turn.result()).expect_err("lost");
        assert!(matches!(lost, rt::TurnError::Lost { .. }), "{lost}");
        assert_eq!(codex.generation().number(), 2, "nothing was started");
        gate.open();
        assert!(wait!(codex.models()).is_ok());
        assert_eq!((codex.generation().number(), server.model.requests().len()), (3, asked));
        wait!(codex.close());
        assert!(server.processes().is_empty());
    }
}

real_scenario! {
    fn pr_11_writing_to_a_real_server_that_was_killed_is_an_error() {
        let Some(server) = real_server("pr_11_writing_to_a_real_server_that_was_killed") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        support::kill(&server.servers()[0]);
        for _ in 0..3 {
            let error = wait!(codex.request_raw("thread/loaded/list", json!({"x": "x".repeat(1 << 20)})));
            assert!(error.expect_err("dead").is_closed());
        }
        assert_eq!(wait!(codex.closed()).exit().and_then(|exit| exit.status).and_then(|status| status.signal), Some(9));
    }
}

real_scenario! {
    fn rq_13_what_the_real_server_cannot_parse_ends_at_the_deadline_and_says_so() {
        let Some(server) = real_server("rq_13_what_the_real_server_cannot_parse") else { return };
        let mut config = rt::Config::default();
        config.timeouts.reply = Duration::from_millis(1500);
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
        // Deeper than the server's parser goes: it drops the line.
        let deep = (0..130).fold(Value::Null, |inner, _| json!([inner]));
        let error = wait!(codex.request_raw("thread/loaded/list", json!({"x": deep}))).expect_err("no answer");
        assert!(error.is_timeout() && error.to_string().contains("cannot parse"), "{error}");
        assert!(wait!(codex.models()).is_ok(), "the session lives");
        wait!(codex.close());
    }
}

real_scenario! {
    fn a_thousand_calls_at_once_are_all_answered_by_the_real_server() {
        let Some(server) = real_server("a_thousand_calls_at_once_are_all_answered") else { return };
        let codex = rt::lazy(&server.command(), rt::Config::default());
        let mut callers: Vec<Joined<bool>> = Vec::new();
        for _ in 0..1_000 {
            callers.push(go!([codex] { wait!(codex.request_raw("thread/loaded/list", json!({}))).is_ok() }));
        }
        let mut answered = 0;
        for caller in callers {
            answered += usize::from(join!(caller));
        }
        assert_eq!(answered, 1_000);
        wait!(codex.close());
    }
}

real_scenario! {
    fn sb_06_with_a_home_of_its_own_the_users_hooks_and_servers_of_tools_are_not_started() {
        let Some(server) = real_server("sb_06_with_a_home_of_its_own") else { return };
        // A user's home with a hook at each turn's end and a server of tools: each leaves a mark when it is started.
        let users = server.home.work().join("user");
        let (hook, tool) = (users.join("hook-ran"), users.join("tool-ran"));
        std::fs::create_dir_all(users.join(".codex")).expect("a home");
        let own = std::fs::read_to_string(server.home.codex_home().join("config.toml")).expect("the settings");
        let evil = format!(
            "notify = [\"/bin/sh\", \"-c\", \"touch '{}'\"]\n{own}\n[mcp_servers.evil]\ncommand = \"/bin/sh\"\nargs = [\"-c\", \"touch '{}'\"]\n",
            hook.display(), tool.display(),
        );
        std::fs::write(users.join(".codex/config.toml"), evil).expect("a configuration");
        let command = server.command().env("HOME", &users);
        for (command, is_isolated) in
            [(command.clone(), true), (command.clone().env_remove("CODEX_HOME"), false)]
        {
            let codex = wait!(rt::spawn(&command)).expect("the server starts");
            assert_eq!(codex.diagnostics().iter().filter(|said| said.kind == rt::DiagnosticKind::OtherHome).count(), 0);
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            assert!(wait!(thread.run("Hello.")).is_ok());
            if is_isolated {
                std::thread::sleep(Duration::from_millis(500));
                assert!(!hook.exists() && !tool.exists(), "neither was started");
            } else {
                // The other way round, so that it is known that they would be.
                assert!(support::eventually(|| hook.exists() && tool.exists()), "{} {}", hook.exists(), tool.exists());
            }
            wait!(codex.close());
        }
    }
}

real_scenario! {
    fn pr_17_the_real_server_runs_in_a_temporary_home_and_reports_it() {
        let Some(server) = real_server("pr_17_the_real_server_runs_in_a_temporary_home") else { return };
        let command = server.command().temporary_home().config_text("model", "gpt-5.5")
            .config_text("model_provider", "mock").config_text("model_providers.mock.name", "mock")
            .config_text("model_providers.mock.base_url", &server.model.base_url())
            .config_text("model_providers.mock.wire_api", "responses")
            .config("model_providers.mock.supports_websockets", "false");
        let codex = wait!(rt::spawn(&command)).expect("the server starts");
        let home = std::path::PathBuf::from(codex.server().expect("a server").codex_home);
        assert!(home.file_name().expect("a name").to_string_lossy().starts_with("turnwire-home-"), "{}", home.display());
        assert!(codex.diagnostics().is_empty(), "it is the one that was asked for: {:?}", codex.diagnostics());
        server.model.push(Reply::text("Anywhere."));
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        assert_eq!(wait!(thread.run("Hello.")).expect("completed").final_response.as_deref(), Some("Anywhere."));
        wait!(codex.close());
        assert!(!home.exists());
    }
}

real_scenario! {
    fn lv_07_a_destructive_command_is_refused_on_the_real_server_where_nobody_answers_for_it() {
        let Some(server) = real_server("lv_07_a_destructive_command_is_refused") else { return };
        let precious = server.home.work().join("precious");
        std::fs::write(&precious, "x").expect("a file");
        let command = ExecCommand::new(format!("rm -f '{}'", precious.display())).escalated("To clean up.");
        server.model.push(Reply::new().exec(command));
        server.model.push(Reply::text("Not done."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let start = Instant::now();
        assert!(wait!(thread.run("Clean up.")).is_ok());
        assert!(start.elapsed() < support::PATIENCE && precious.exists(), "nothing was accepted");
        assert_eq!(codex.counters().refused, 1);
        wait!(codex.close());
    }
}
