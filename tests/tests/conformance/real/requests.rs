// Scenarios against the real server with a scripted model behind it: the server's requests: approvals, questions, tools. Included once for each runtime.

use crate::support::{real_server, real_server_with};
use serde_json::{Value, json};
use std::sync::{Arc, Mutex};
use turnwire_testkit::model::{ExecCommand, Reply};

const CREATE: &str = "*** Begin Patch\n*** Add File: made.txt\n+made\n*** End Patch\n";
/// An image of one pixel.
const PIXEL: &str = "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGP4z8AAAAMBAQDJ/pLvAAAAAElFTkSuQmCC";
const CHANGE: &str = "*** Begin Patch\n*** Update File: made.txt\n@@\n-made\n+made again\n*** End Patch\n";

real_scenario! {
    fn sr_01_sr_04_a_command_is_accepted_declined_or_cancelled_on_the_real_server() {
        let Some(server) = real_server("sr_01_a_command_is_accepted") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([] |request| {
            let command = request.command().unwrap_or_default().to_owned();
            if command.contains("accepted") {
                request.accept()
            } else if command.contains("declined") {
                request.decline()
            } else {
                request.cancel()
            }
        })));
        for way in ["accepted", "declined", "cancelled"] {
            let target = server.home.work().join(way);
            let command = format!("echo x > {}", target.display());
            server.model.push(Reply::new().exec(ExecCommand::new(command).escalated("May I?")));
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            let turn = wait!(thread.turn("Write it.")).expect("a turn");
            let mut statuses = Vec::new();
            while let Some(event) = wait!(turn.next()) {
                if let rt::Event::ItemCompleted(done) = event {
                    if let rt::protocol::ThreadItem::CommandExecution(item) = done.item {
                        statuses.push(item.status);
                    }
                }
            }
            let state = wait!(turn.result()).expect("ended").status;
            let (status, ended) = match way {
                "accepted" => (rt::protocol::CommandExecutionStatus::Completed, rt::State::Completed),
                "declined" => (rt::protocol::CommandExecutionStatus::Declined, rt::State::Completed),
                _ => (rt::protocol::CommandExecutionStatus::Declined, rt::State::Interrupted),
            };
            assert_eq!((statuses, state), (vec![status], ended), "{way}");
            assert_eq!(target.exists(), way == "accepted", "{way}");
        }
        assert_eq!(codex.counters().asks, 0);
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_04_sr_05_a_file_change_shows_its_changes_and_accepted_for_the_session_asks_no_more() {
        let Some(server) = real_server("sr_04_a_file_change_shows_its_changes") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let _serving = serve!(codex, rt::Handlers::new().file_change(handler!([seen] |request| {
            let changes = request.changes().expect("the item came before");
            let mut seen = seen.lock().unwrap();
            seen.push(changes[0].path.clone());
            if seen.len() == 1 { request.decline() } else { request.accept_for_session() }
        })));
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let target = server.home.work().join("made.txt");
        server.model.push(Reply::new().apply_patch(CREATE));
        server.model.push(Reply::text("Declined."));
        wait!(thread.run("Make it.")).expect("completed");
        assert!(!target.exists(), "declined");
        server.model.push(Reply::new().apply_patch(CREATE));
        server.model.push(Reply::new().apply_patch(CHANGE));
        server.model.push(Reply::text("Made."));
        wait!(thread.run("Make it.")).expect("completed");
        assert_eq!(std::fs::read_to_string(&target).expect("made"), "made again\n");
        let seen = seen.lock().unwrap().clone();
        assert_eq!(seen.len(), 2, "the second change of the session is not asked for: {seen:?}");
        assert!(seen.iter().all(|path| path.ends_with("made.txt")), "{seen:?}");
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_05_an_exec_policy_amendment_is_a_lasting_rule_of_the_real_server() {
        let Some(server) = real_server("sr_05_an_exec_policy_amendment") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let asked = Arc::new(Mutex::new(0));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([asked] |request| {
            *asked.lock().unwrap() += 1;
            let words = request.params().proposed_execpolicy_amendment.clone().expect("proposed");
            request.accept_with_exec_policy(words)
        })));
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        for _ in 0..2 {
            server.model.push(Reply::new().exec(ExecCommand::new("echo lasting").escalated("May I?")));
            server.model.push(Reply::text("Done."));
            wait!(thread.run("Say it.")).expect("completed");
        }
        assert_eq!(*asked.lock().unwrap(), 1);
        let rules = std::fs::read_to_string(server.home.codex_home().join("rules/default.rules")).expect("written");
        assert!(rules.contains("lasting"), "{rules}");
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_06_typed_answers_to_two_questions_reach_the_model_of_the_real_server() {
        let features = |_: &_| "features.default_mode_request_user_input = true\n".to_owned();
        let Some(server) = real_server_with("sr_06_typed_answers", features) else { return };
        let question = |id: &str, options: [&str; 2]| json!({"id": id, "header": id, "question": "Which?",
            "options": options.map(|label| json!({"label": label, "description": "one"}))});
        let questions = json!({"questions": [question("colour", ["Red", "Blue"]), question("size", ["Small", "Large"])]});
        server.model.push(Reply::new().function_call("request_user_input", &questions));
        server.model.push(Reply::text("Thanks."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let _serving = serve!(codex, rt::Handlers::new().user_input(handler!([] |asked| {
            assert_eq!(asked.questions().len(), 2);
            asked.answer([("colour", ["Blue"]), ("size", ["Large"])])
        })));
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        wait!(thread.run("Ask me.")).expect("completed");
        let requests = server.model.requests();
        let outputs = requests.last().expect("asked").tool_outputs();
        assert!(outputs.iter().any(|(_, text)| text.contains("Blue") && text.contains("Large")), "{outputs:?}");
        wait!(codex.close());
    }
}

real_scenario! {
    fn permissions_are_granted_as_asked_or_not_at_all_on_the_real_server() {
        let features = |_: &_| "features.request_permissions_tool = true\n".to_owned();
        let Some(server) = real_server_with("permissions_are_granted", features) else { return };
        let wanted = json!({"reason": "download", "permissions": {"network": {"enabled": true}}});
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        let mut outputs = Vec::new();
        for grants in [true, false] {
            let serving = serve!(codex, rt::Handlers::new().permissions(handler!([] |asked| {
                if grants { asked.accept() } else { asked.decline() }
            })));
            server.model.push(Reply::new().function_call("request_permissions", &wanted));
            server.model.push(Reply::text("Done."));
            wait!(thread.run("Ask.")).expect("completed");
            let requests = server.model.requests();
            let (_, text) = requests.last().expect("asked").tool_outputs().last().cloned().expect("an output");
            outputs.push(text);
            drop(serving);
        }
        assert!(outputs[0].contains("true") && !outputs[1].contains("true"), "{outputs:?}");
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_08_an_mcp_tool_is_approved_as_one_and_what_its_server_asks_is_answered() {
        let program = env!("CARGO_BIN_EXE_turnwire-scripted-mcp");
        let mcp = |_: &_| format!("[mcp_servers.elic]\ncommand = \"{program}\"\n");
        let Some(server) = real_server_with("sr_08_an_mcp_tool_is_approved", mcp) else { return };
        server.model.set_default(Reply::text("Done."));
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
        for approves in [true, false] {
            let serving = serve!(codex, rt::Handlers::new()
                .mcp_tool(handler!([] |asked| {
                    assert_eq!(asked.server_name(), "elic");
                    if approves { asked.accept() } else { asked.decline() }
                }))
                .elicitation(handler!([] |asked| {
                    assert_eq!(asked.message(), "What colour?");
                    asked.accept(json!({"colour": "mauve"}))
                })));
            server.model.push(Reply::new().namespaced_call("mcp__elic", "ask", &json!({"x": "1"})));
            let turn = wait!(thread.turn("Ask it.")).expect("a turn");
            while wait!(turn.next()).is_some() {}
            let requests = server.model.requests();
            let outputs = requests.last().expect("asked").tool_outputs();
            let told = outputs.last().is_some_and(|(_, text)| text.contains("mauve"));
            assert_eq!(told, approves, "{outputs:?}");
            drop(serving);
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_10_a_dynamic_tool_succeeds_and_fails_on_the_real_server_and_the_turn_goes_on() {
        let Some(server) = real_server("sr_10_a_dynamic_tool") else { return };
        let schema = json!({"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]});
        let tool = rt::Tool::new("lookup_ticket", "Looks a ticket up", schema, handler!([] |arguments| {
            let arguments: rt::ToolArguments = arguments;
            let id: Value = arguments.decode()?;
            match id["id"].as_str() {
                Some("T-1") => Ok(rt::ToolOutput::new().text("open since May").image(PIXEL)),
                _ => Err(rt::ToolFailure::new("no such ticket")),
            }
        }));
        let tools = rt::Tools::new([tool]).expect("good");
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let _serving = serve!(codex, rt::Handlers::new().tools(tools.clone()));
        let thread = wait!(codex.thread_start(server.thread_start().tools(&tools))).expect("a thread");
        for (id, expected, success) in [("T-1", "open since May", true), ("T-2", "no such ticket", false)] {
            server.model.push(Reply::new().function_call("lookup_ticket", &json!({"id": id})));
            server.model.push(Reply::text("Found."));
            let turn = wait!(thread.turn("Look it up.")).expect("a turn");
            let mut seen = Vec::new();
            while let Some(event) = wait!(turn.next()) {
                if let rt::Event::ItemCompleted(done) = event {
                    if let rt::protocol::ThreadItem::DynamicToolCall(item) = done.item {
                        seen.push(item.success);
                    }
                }
            }
            assert_eq!(seen, [Some(success)], "{id}");
            assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("Found."));
            let requests = server.model.requests();
            let last = requests.last().expect("asked");
            assert!(last.tools().contains(&"lookup_ticket"));
            let outputs = last.tool_outputs();
            assert!(outputs.iter().any(|(_, text)| text.contains(expected)), "{outputs:?}");
            assert!(last.body().to_string().contains(PIXEL), "the image reaches the model");
        }
        wait!(codex.close());
    }
}

real_scenario! {
    fn sr_13_sr_14_sr_17_a_held_request_is_replayed_settled_and_lost_on_the_real_server() {
        let Some(server) = real_server("sr_13_a_held_request_is_replayed") else { return };
        let codex = wait!(rt::spawn(&server.command())).expect("the server starts");
        let (keep, kept) = std::sync::mpsc::channel::<rt::CommandApproval>();
        let keep = Arc::new(Mutex::new(keep));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([keep] |request| {
            let _ = keep.lock().unwrap().send(request);
        })));
        let next = || kept.recv_timeout(crate::support::PATIENCE).expect("asked");
        for way in ["accepted", "interrupted", "lost"] {
            let target = server.home.work().join(way);
            let command = format!("echo x >> {}", target.display());
            server.model.push(Reply::new().exec(ExecCommand::new(command).escalated("May I?")));
            server.model.set_default(Reply::text("Done."));
            let thread = wait!(codex.thread_start(server.thread_start())).expect("a thread");
            let turn = wait!(thread.turn("Write it.")).expect("a turn");
            let request = next();
            assert_eq!((request.thread_id(), request.turn_id()), (Some(thread.id()), turn.id().as_ref()));
            assert!(request.item_id().is_some() && !target.exists(), "it waits");
            match way {
                "accepted" => {
                    wait!(codex.thread_resume(rt::protocol::ThreadResume::new(thread.id().clone()))).expect("resumed");
                    // It may come after answers to what was asked later.
                    let is_replayed = crate::support::eventually(|| codex.counters().replayed == 1);
                    assert!(is_replayed, "the server sends it again");
                    assert!(kept.try_recv().is_err(), "it is not shown twice");
                    request.accept().expect("open");
                    wait!(turn.result()).expect("completed");
                    // Once: it is appended to.
                    assert_eq!(std::fs::read_to_string(&target).expect("written"), "x\n");
                    assert!(matches!(request.accept(), Err(rt::AnswerError::AlreadyAnswered)));
                }
                "interrupted" => {
                    wait!(turn.interrupt()).expect("taken");
                    assert_eq!(wait!(turn.result()).expect("ended").status, rt::State::Interrupted);
                    assert!(crate::support::eventually(|| !request.is_open()));
                    assert!(matches!(request.accept(), Err(rt::AnswerError::Closed(_))));
                    assert!(!target.exists());
                }
                _ => {
                    wait!(codex.close());
                    let late = request.accept().expect_err("the server is gone");
                    assert!(late.is_closed(), "{late}");
                    assert!(!target.exists());
                }
            }
        }
    }
}
