// Scenarios against the real server with a scripted model behind it. Included once for each runtime.

use crate::support::real_server;
use turnwire_testkit::model::{ExecCommand, Gate, Message, Phase, Reply, Usage};

real_scenario! {
    fn lv_01_a_turn_runs_and_streams_and_its_deltas_add_up() {
        let Some(server) = real_server("lv_01_a_turn_runs_and_streams_and_its_deltas_add_up") else { return };
        let answer = "Ünïcode ✓ 你好 🎉 and\nsome more text, so that there is more than one piece.";
        server.model.push(
            Reply::new()
                .message(Message::new("Let me look.").phase(Phase::Commentary))
                .exec(ExecCommand::new("echo out of the command"))
                .usage(Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 1 }),
        );
        server.model.push(
            Reply::new()
                .message(Message::new(answer).phase(Phase::FinalAnswer).chunk_chars(7))
                .usage(Usage { input: 20, cached_input: 10, output: 6, reasoning_output: 2 }),
        );
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        assert_eq!(codex.server().expect("a server").version, Some(server.version()));
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Say hello.")).expect("a turn");
        let (mut text, mut states, mut started, mut completed) = (String::new(), Vec::new(), 0, 0);
        while let Some(event) = wait!(turn.next()) {
            match event {
                rt::Event::Started(_) => started += 1,
                rt::Event::Delta(delta) if delta.kind == rt::DeltaKind::AgentMessage => text.push_str(&delta.text),
                rt::Event::ItemCompleted(_) => completed += 1,
                rt::Event::Ended(state) => states.push(state),
                _ => {}
            }
        }
        assert_eq!(text, format!("Let me look.{answer}"));
        assert_eq!((states, started), (vec![rt::State::Completed], 1));
        // On 0.133.0 the end of a command is sometimes not told within its turn.
        let least = if server.version() == "0.133.0" { 3 } else { 4 };
        assert!(completed >= least, "the prompt, two messages and a command, not {completed}");
        let result = wait!(turn.result()).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some(answer));
        assert_eq!(result.turn_id, turn.id());
        assert!(result.duration_ms.is_some());
        let usage = result.usage.expect("reported");
        assert_eq!((usage.input_tokens, usage.cached_input_tokens, usage.output_tokens, usage.reports), (30, 14, 11, 2));

        // A second turn of the thread is billed alone.
        server.model.push(Reply::text("Again.").usage(Usage { input: 7, cached_input: 0, output: 3, reasoning_output: 0 }));
        let second = wait!(thread.run("And again?")).expect("completed");
        assert_eq!(second.final_response.as_deref(), Some("Again."));
        assert_eq!(second.usage.map(|usage| usage.total_tokens), Some(10));
        let cause = wait!(codex.close());
        let exit = cause.exit().expect("the exit was seen");
        assert_eq!(exit.status.and_then(|status| status.code), Some(0), "{exit:?}");
        assert_eq!(codex.counters().malformed, 0);
    }
}

real_scenario! {
    fn st_01_the_steer_text_is_in_the_next_request_to_the_model() {
        let Some(server) = real_server("st_01_the_steer_text_is_in_the_next_request_to_the_model") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Thinking.")).hold(&gate));
        server.model.push(Reply::text("By train, then."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Plan a trip.")).expect("a turn");
        assert!(gate.wait_reached(crate::support::PATIENCE), "the model is asked");
        let id = wait!(turn.steer("By train, please.")).expect("the steer is taken");
        assert_eq!(Some(id), turn.id());
        gate.open();
        let result = wait!(turn.result()).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("By train, then."));
        let requests = server.model.requests();
        assert!(!requests[0].has_text("By train, please."));
        assert!(requests[1].has_text("By train, please."), "the second request has the steer");
        let late = wait!(turn.steer("Too late.")).expect_err("the turn is over");
        assert!(matches!(late, rt::SteerError::Ended), "{late}");
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_07_an_interrupt_ends_the_turn_and_the_thread_runs_again_on_the_real_server() {
        let Some(server) = real_server("st_07_an_interrupt_ends_the_turn_and_the_thread_runs_again") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().message(Message::new("Working on it.")).hold(&gate));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Work for ever.")).expect("a turn");
        // At once, so most likely before the server would take it: turnwire holds it until it can be taken.
        let outcome = wait!(turn.interrupt()).expect("acknowledged");
        assert_eq!(outcome, rt::InterruptOutcome::Acknowledged);
        let result = wait!(turn.result()).expect("interrupted is no error");
        assert_eq!(result.status, rt::State::Interrupted);
        gate.open();
        assert_eq!(wait!(turn.interrupt()).expect("joins the first"), rt::InterruptOutcome::Acknowledged);
        let next = wait!(thread.run("Something short.")).expect("the thread runs again");
        assert_eq!(next.status, rt::State::Completed);
        wait!(codex.close());
    }
}

real_scenario! {
    fn st_12_two_threads_at_once_on_the_real_server_keep_apart() {
        let Some(server) = real_server("st_12_two_threads_at_once_on_the_real_server_keep_apart") else { return };
        for name in ["apple", "pear"] {
            let text = format!("{name} ").repeat(40);
            let message = Message::new(text).chunk_chars(4).delta_delay(std::time::Duration::from_millis(2));
            server.model.push_for(name, Reply::new().message(message));
        }
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let mut running: Vec<Joined<(String, String)>> = Vec::new();
        for name in ["apple", "pear"] {
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            running.push(go!([thread] {
                let turn = wait!(thread.turn(format!("Say {name}"))).expect("a turn");
                let mut text = String::new();
                while let Some(event) = wait!(turn.next()) {
                    if let rt::Event::Delta(delta) = event {
                        text.push_str(&delta.text);
                    }
                }
                (name.to_string(), text)
            }));
        }
        for handle in running {
            let (name, text) = join!(handle);
            assert_eq!(text, format!("{name} ").repeat(40));
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_07_a_failed_turn_on_the_real_server_is_an_error_and_the_thread_goes_on() {
        let Some(server) = real_server("tu_07_a_failed_turn_on_the_real_server") else { return };
        server.model.push(Reply::http_error(400, "bad_request", "no such thing"));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let error = wait!(thread.run("Fail.")).expect_err("failed");
        let rt::TurnError::Failed(report) = &error else { panic!("{error}") };
        assert!(report.error_message().is_some_and(|message| message.contains("no such thing")), "{error}");
        assert!(wait!(thread.run("Again.")).is_ok());
        wait!(codex.close());
    }
}

real_scenario! {
    fn tu_08_a_retry_on_the_real_server_is_progress() {
        let Some(server) = real_server("tu_08_a_retry_on_the_real_server_is_progress") else { return };
        server.model.push(Reply::http(503, "unavailable"));
        server.model.push(Reply::text("Here I am."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Try.")).expect("a turn");
        let mut retries = 0;
        while let Some(event) = wait!(turn.next()) {
            if let rt::Event::Error(met) = event {
                retries += usize::from(met.will_retry);
            }
        }
        assert_eq!(retries, 1);
        assert_eq!(wait!(turn.result()).expect("a success").final_response.as_deref(), Some("Here I am."));
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_02_without_a_handler_the_real_server_is_refused_and_the_file_is_not_written() {
        let Some(server) = real_server("sr_02_without_a_handler_the_real_server_is_refused") else { return };
        let target = server.home.work().join("forbidden.txt");
        let command = format!("echo gotcha > {}", target.display());
        server.model.push(Reply::new().exec(ExecCommand::new(command).escalated("May I?")));
        server.model.push(Reply::text("I was not allowed."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Write the file.")).expect("a turn");
        let mut refused = Vec::new();
        while let Some(event) = wait!(turn.next()) {
            if let rt::Event::Refused(request) = event {
                refused.push(request.notification.method.to_string());
            }
        }
        assert_eq!(refused, ["item/commandExecution/requestApproval"]);
        assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("I was not allowed."));
        assert!(!target.exists(), "nothing was approved");
        wait!(codex.close());
    }
}

real_scenario! {
    fn pr_01_after_close_the_real_server_is_gone() {
        let Some(server) = real_server("pr_01_after_close_the_real_server_is_gone") else { return };
        let gate = Gate::new();
        server.model.push(Reply::new().hold(&gate));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
            assert!(!server.processes().is_empty(), "the server runs");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let turn = wait!(thread.turn("Wait.")).expect("a turn");
        let cause = wait!(codex.close());
        assert_eq!(cause.exit().and_then(|exit| exit.status).and_then(|status| status.code), Some(0));
        assert!(server.processes().is_empty(), "it is gone, in mid-turn too");
        let lost = wait!(turn.result()).expect_err("lost");
        assert!(lost.is_closed(), "{lost}");
        let refused = wait!(codex.models()).expect_err("closed");
        assert!(refused.is_closed());
        gate.open();
    }
}

real_scenario! {
    fn pr_04_dropping_every_handle_ends_the_real_server() {
        let Some(server) = real_server("pr_04_dropping_every_handle_ends_the_real_server") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        drop(codex);
        assert!(wait!(thread.run("Still there?")).is_ok(), "one handle is enough");
        drop(thread);
        // Dropping does not wait; the process is gone soon after. The runtime has to run for that.
        let codex = wait!(rt::spawn(&server.command())).expect("another server starts");
        assert!(wait!(codex.models()).is_ok());
        wait!(codex.close());
        assert!(crate::support::eventually(|| server.processes().is_empty()), "{:?}", server.processes());
    }
}

real_scenario! {
    fn hs_10_what_is_opted_out_of_does_not_come_from_the_real_server_and_the_rest_does() {
        let Some(server) = real_server("hs_10_what_is_opted_out_of_does_not_come") else { return };
        let mut config = rt::Config::default();
        config.opt_out_notifications = vec!["thread/status/changed".into()];
        for (config, expected) in [(rt::Config::default(), true), (config, false)] {
            let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            let mut events = thread.events();
            wait!(thread.run("Hello.")).expect("completed");
            wait!(codex.close());
            let mut methods = Vec::new();
            loop {
                match wait!(events.next()) {
                    Some(rt::Event::Other(raw) | rt::Event::Started(raw)) => methods.push(raw.method.to_string()),
                    Some(_) => {}
                    None => break,
                }
            }
            assert!(methods.iter().any(|method| method == "turn/started"), "{methods:?}");
            assert_eq!(methods.iter().any(|method| method == "thread/status/changed"), expected, "{methods:?}");
        }
    }
}

real_scenario! {
    fn rq_11_a_raw_call_to_the_real_server_goes_through_and_hs_11_what_is_experimental_does_not_without_the_capability() {
        let Some(server) = real_server("rq_11_a_raw_call_to_the_real_server") else { return };
        let mut config = rt::Config::default();
        config.experimental_api = false;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("the server starts");
        let listed = wait!(codex.request_raw("thread/loaded/list", serde_json::json!({}))).expect("answered");
        assert!(listed.decode::<serde_json::Value>().expect("JSON")["data"].is_array());
        let here = wait!(codex.request(rt::protocol::MemoryReset::new())).expect_err("refused here");
        assert!(matches!(&here.fault, rt::Fault::NeedsExperimental { what } if what == "memory/reset"), "{here}");
        let there = wait!(codex.request_raw("memory/reset", serde_json::json!({}))).expect_err("refused there");
        assert!(there.rpc().is_some_and(|rpc| rpc.message.contains("experimentalApi")), "{there}");
        let unknown = wait!(codex.request_raw("no/such", serde_json::json!({}))).expect_err("unknown");
        assert_eq!(unknown.rpc().and_then(|rpc| rpc.refused_value()), Some("no/such"));
        wait!(codex.close());
    }
}
