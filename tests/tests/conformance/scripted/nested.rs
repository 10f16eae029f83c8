// Scenarios against the scripted server, a fake: handlers that use the client themselves before they answer. Included once for each runtime.

use crate::support::{eventually, scripted};
use rt::protocol::{CommandExecutionStatus, ThreadItem, ThreadStart};
use serde_json::json;
use std::sync::{Arc, Mutex, OnceLock};
use turnwire_testkit::scripted::{Script, TurnPlan};

scenario! {
    fn sr_03_a_handler_may_ask_the_server_and_steer_its_own_turn_before_it_accepts() {
        // The command comes when the turn is steered, and then the handler's turn is known to it.
        let script = Script::new().turn(TurnPlan::when("Wait").text("Waiting.").hold())
            .turn(TurnPlan::when("list").command("ls", "a\n", 0).with_approval().text("Listed."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let (steered, said): (Arc<OnceLock<rt::Turn>>, Arc<Mutex<Vec<_>>>) = (Arc::default(), Arc::default());
        let serving = serve!(codex, rt::Handlers::new().command(handler!([codex, thread, steered, said] |request| {
            let turn = steered.get().expect("it is known before it is steered").clone();
            let models = wait!(codex.models()).expect("answered within a handler").data.len();
            let other = wait!(codex.request_raw("thread/loaded/list", json!({}))).expect("answered within a handler");
            let taken_by = wait!(turn.steer("And hurry.")).expect("taken within a handler");
            let is_listed = other.as_str().contains(thread.id().as_str());
            said.lock().unwrap().push((models > 0, is_listed, Some(taken_by) == turn.id(), request.is_open()));
            request.accept()
        })));
        let turn = wait!(thread.turn("Wait.")).expect("a turn");
        steered.set(turn.clone()).expect("it is the first");
        wait!(turn.steer("list")).expect("taken");
        let (mut statuses, mut shown) = (Vec::new(), Vec::new());
        while let Some(event) = wait!(turn.next()) {
            match event {
                rt::Event::ItemCompleted(done) => {
                    if let ThreadItem::CommandExecution(item) = done.item {
                        statuses.push((item.status, item.aggregated_output));
                    }
                }
                rt::Event::Asked(_) => shown.push("asked".to_string()),
                rt::Event::AskEnded(_, end) => shown.push(format!("{end:?}")),
                rt::Event::Refused(request) => shown.push(format!("refused: {:?}", request.why)),
                _ => {}
            }
        }
        assert_eq!(shown, ["asked", r#"Answered("accept")"#]);
        assert_eq!(statuses, [(CommandExecutionStatus::Completed, Some("a\n".to_string()))]);
        assert_eq!(*said.lock().unwrap(), [(true, true, true, true)]);
        let result = wait!(turn.result()).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("You also said: And hurry."));
        drop(serving);
        wait!(codex.close());
        // What the handler asked for came to the server before what it answered.
        let received = server.received();
        let place = |of: &str| received.iter().rposition(|line| line["method"] == of).expect("received");
        let answer = received.iter().position(|line| line.get("method").is_none()).expect("an answer");
        assert!(place("model/list") < answer && place("turn/steer") < answer, "{received:?}");
        server.assert_gone();
    }
}

scenario! {
    fn sr_03_a_handler_may_run_a_turn_of_which_the_same_handler_is_asked() {
        let script = Script::new()
            .turn(TurnPlan::when("outer").command("outer.sh", "o\n", 0).with_approval().text("The outer is done."))
            .turn(TurnPlan::when("inner").command("inner.sh", "i\n", 0).with_approval().text("The inner is done."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let said: Arc<Mutex<Vec<String>>> = Arc::default();
        let serving = serve!(codex, rt::Handlers::new().command(handler!([codex, said] |request| {
            if request.command().is_some_and(|command| command.contains("outer.sh")) {
                let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread within a handler");
                let inner = wait!(thread.run("inner")).expect("a turn within a handler");
                let ran = inner.items.iter().any(|item| matches!(item,
                    ThreadItem::CommandExecution(item) if item.status == CommandExecutionStatus::Completed));
                said.lock().unwrap().push(format!("{} {ran}", inner.final_response.unwrap_or_default()));
            } else {
                said.lock().unwrap().push("asked about the inner".into());
            }
            request.accept()
        })));
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let outer = wait!(thread.run("outer")).expect("completed");
        assert_eq!(outer.final_response.as_deref(), Some("The outer is done."));
        assert!(outer.items.iter().any(|item| matches!(item,
            ThreadItem::CommandExecution(item) if item.status == CommandExecutionStatus::Completed)), "{:?}", outer.items);
        assert_eq!(*said.lock().unwrap(), ["asked about the inner", "The inner is done. true"]);
        let counters = codex.counters();
        assert_eq!((counters.refused, counters.handlers_failed, counters.asks), (0, 0, 0), "{counters:?}");
        drop(serving);
        wait!(codex.close());
        server.assert_gone();
    }
}

scenario! {
    fn sr_14_a_handler_may_interrupt_its_own_turn_and_what_it_answers_then_is_too_late() {
        let script = Script::new().turn(TurnPlan::when("Wait").text("Waiting.").hold())
            .turn(TurnPlan::when("list").command("ls", "a\n", 0).with_approval().text("Listed."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let (running, said): (Arc<OnceLock<rt::Turn>>, Arc<Mutex<Vec<_>>>) = (Arc::default(), Arc::default());
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([running, said] |request| {
            let turn = running.get().expect("it is known before it is steered").clone();
            let outcome = wait!(turn.interrupt());
            wait!(turn.result()).expect("it is interrupted");
            said.lock().unwrap().push((outcome.ok(), request.accept().is_err()));
        })));
        let turn = wait!(thread.turn("Wait.")).expect("a turn");
        running.set(turn.clone()).expect("it is the first");
        wait!(turn.steer("list")).expect("taken");
        assert_eq!(wait!(turn.result()).expect("no error").status, rt::State::Interrupted);
        assert!(eventually(|| said.lock().unwrap().len() == 1), "the handler runs to its end");
        assert_eq!(*said.lock().unwrap(), [(Some(rt::InterruptOutcome::Acknowledged), true)]);
        assert!(!server.received().iter().any(|line| line["result"]["decision"] == "accept"), "nothing is written");
        assert_eq!(wait!(thread.run("Short.")).expect("the thread goes on").status, rt::State::Completed);
        wait!(codex.close());
        server.assert_gone();
    }
}

scenario! {
    fn sr_17_a_handler_may_close_the_session_and_everybody_who_waits_hears_of_it() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Listed.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([codex] |request| {
            wait!(codex.close());
            request.accept()
        })));
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        assert!(wait!(thread.run("Go.")).expect_err("closed").is_closed());
        assert!(wait!(codex.models()).expect_err("closed").is_closed());
        wait!(codex.close());
        server.assert_gone();
        assert!(!server.received().iter().any(|line| line["result"]["decision"] == "accept"), "nothing is written");
    }
}
