// Scenarios against the scripted server, a fake: the server's requests: approvals, questions, tools. Included once for each runtime.

use crate::support::{eventually, scripted};
use rt::protocol::ThreadStart;
use serde_json::{Value, json};
use std::{sync::{Arc, Mutex, mpsc}, time::Duration};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

/// A server that asks this as soon as a thread is named, and keeps what it is answered.
fn asking(method: &str, params: Value) -> Script {
    let rule = Rule::on("thread/name/set").reply(json!({})).ask(method, 5, params).expect_answer(5);
    Script::new().rule(rule.notify("told", json!({"answer": "$answer"})))
}

/// What the server was answered.
fn told(server: &crate::support::Scripted, id: Value) -> Vec<Value> {
    let mut found = Vec::new();
    eventually(|| {
        found = server.received().into_iter().filter(|line| line.get("method").is_none() && line["id"] == id).collect();
        !found.is_empty()
    });
    found
}

scenario! {
    fn sr_02_without_handlers_no_method_known_or_not_is_granted_anything() {
        let methods = [
            "item/commandExecution/requestApproval", "item/fileChange/requestApproval", "item/permissions/requestApproval",
            "item/tool/requestUserInput", "mcpServer/elicitation/request", "item/tool/call",
            "account/chatgptAuthTokens/refresh", "attestation/generate", "applyPatchApproval", "execCommandApproval",
            "currentTime/read", "brand/new",
        ];
        let mut rule = Rule::on("thread/name/set").reply(json!({}));
        for (id, method) in methods.iter().enumerate() {
            rule = rule.ask(*method, id, json!({"threadId": "T", "turnId": "U", "itemId": "i"}));
        }
        let server = scripted(&Script::new().rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        for (id, method) in methods.iter().enumerate() {
            let answers = told(&server, json!(id));
            assert_eq!(answers.len(), 1, "{method}");
            let result = &answers[0]["result"];
            match *method {
                "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => {
                    assert_eq!(result["decision"], "decline");
                }
                "applyPatchApproval" | "execCommandApproval" => assert_eq!(result["decision"], "denied"),
                "item/permissions/requestApproval" => assert_eq!(result["permissions"], json!({})),
                "item/tool/requestUserInput" => assert_eq!(result["answers"], json!({})),
                "mcpServer/elicitation/request" => assert_eq!(result["action"], "decline"),
                "item/tool/call" => assert_eq!(result["success"], false),
                "currentTime/read" => assert!(result["currentTimeAt"].as_u64().is_some_and(|at| at > 1_700_000_000)),
                _ => assert!(answers[0]["error"]["code"].is_i64(), "{method}: {}", answers[0]),
            }
        }
        wait!(codex.close());
    }
}

scenario! {
    fn sr_01_a_handler_accepts_a_command_and_the_turn_goes_on() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Listed.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (seen, asked) = mpsc::channel();
        let seen = Arc::new(Mutex::new(seen));
        let handlers = rt::Handlers::new().command(handler!([seen] |request| {
            let said = (request.command().map(str::to_owned), request.thread().clone(), request.turn_id().cloned());
            seen.lock().unwrap().send(said).unwrap();
            request.accept()
        }));
        let serving = serve!(codex, handlers);
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let (mut statuses, mut shown) = (Vec::new(), Vec::new());
        while let Some(event) = wait!(turn.next()) {
            match event {
                rt::Event::ItemCompleted(done) => statuses.push(done.item.kind().to_string()),
                rt::Event::Asked(asked) => shown.push(format!("asked {:?}", asked.kind)),
                rt::Event::AskEnded(_, end) => shown.push(format!("{end:?}")),
                rt::Event::Refused(_) => shown.push("refused".into()),
                _ => {}
            }
        }
        assert!(statuses.iter().any(|kind| kind == "commandExecution"), "{statuses:?}");
        assert_eq!(shown, ["asked Command", r#"Answered("accept")"#]);
        let (command, of, in_turn) = asked.recv().expect("asked");
        assert!(command.is_some_and(|command| command.contains("ls")));
        assert_eq!((&of, in_turn), (thread.id(), turn.id()));
        assert_eq!(codex.counters().asks, 0);
        drop(serving);
        wait!(codex.close());
    }
}

scenario! {
    fn sr_03_an_answer_from_elsewhere_and_later_counts_and_meanwhile_all_else_flows() {
        let plan = TurnPlan::when("slow").command("ls", "a\n", 0).with_approval().text("Listed.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (keep, kept) = mpsc::channel();
        let keep = Arc::new(Mutex::new(keep));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([keep] |request| {
            keep.lock().unwrap().send(request).unwrap();
        })));
        let slow = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(slow.turn("slow")).expect("a turn");
        let request: rt::CommandApproval = kept.recv_timeout(crate::support::PATIENCE).expect("asked");
        let other = wait!(codex.thread_start(ThreadStart::new())).expect("another thread");
        let result = wait!(other.run("quick")).expect("its turn runs meanwhile");
        assert_eq!(result.final_response.as_deref(), Some("You said: quick"));
        assert!(request.is_open());
        let answered = join!(go!([request] request.accept()));
        answered.expect("in time");
        assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("Listed."));
        assert!(matches!(request.accept(), Err(rt::AnswerError::AlreadyAnswered)));
        wait!(codex.close());
    }
}

scenario! {
    fn requests_in_the_stream_of_a_turn_are_answered_there_or_refused() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        for accepts in [true, false] {
            let turn = wait!(thread.turn(rt::TurnRequest::new("Go.").asks_in_stream())).expect("a turn");
            let mut statuses = Vec::new();
            while let Some(event) = wait!(turn.next()) {
                match event {
                    rt::Event::Request(rt::AgentRequest::Command(request)) if accepts => request.accept().expect("open"),
                    rt::Event::Request(request) => drop(request),
                    rt::Event::ItemCompleted(done) => {
                        if let rt::protocol::ThreadItem::CommandExecution(item) = done.item {
                            statuses.push(item.status);
                        }
                    }
                    _ => {}
                }
            }
            let expected = match accepts {
                true => rt::protocol::CommandExecutionStatus::Completed,
                false => rt::protocol::CommandExecutionStatus::Declined,
            };
            assert_eq!(statuses, [expected]);
        }
        // A turn whose stream nobody reads has nobody to ask.
        let result = wait!(thread.run(rt::TurnRequest::new("Go.").asks_in_stream())).expect("completed");
        assert_eq!(result.final_response.as_deref(), Some("Done."));
        // And for all turns at once.
        let _serving = serve!(codex, rt::Approvals::in_stream());
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let mut asked = 0;
        while let Some(event) = wait!(turn.next()) {
            if let rt::Event::Request(_) = event {
                asked += 1;
            }
        }
        assert_eq!(asked, 1);
        wait!(codex.close());
    }
}

scenario! {
    fn a_predicate_accepts_what_it_knows_and_nothing_else() {
        let script = Script::new()
            .turn(TurnPlan::when("list").command("ls -la", "a\n", 0).with_approval().text("Listed."))
            .turn(TurnPlan::when("sneak").command("ls; rm x", "a\n", 0).with_approval().text("Sneaked."))
            .turn(TurnPlan::when("write").file_change("/workspace/a.txt", "x").with_approval().text("Written."))
            .turn(TurnPlan::when("outside").file_change("/etc/a.txt", "x").with_approval().text("Written."));
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let policy = rt::Approvals::accept_for(|asked| match asked.command {
            Some(_) => asked.words().is_some_and(|words| words[0] == "ls"),
            None => asked.paths.iter().all(|path| path.starts_with("/workspace/")),
        });
        let _serving = serve!(codex, policy);
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let mut ends = Vec::new();
        for prompt in ["list", "sneak", "write", "outside"] {
            let turn = wait!(thread.turn(prompt)).expect("a turn");
            while let Some(event) = wait!(turn.next()) {
                if let rt::Event::AskEnded(_, rt::AskEnd::Answered(word)) = event {
                    ends.push(format!("{prompt} {word}"));
                }
            }
        }
        assert_eq!(ends, ["list accept", "sneak decline", "write accept", "outside decline"]);
        wait!(codex.close());
    }
}

scenario! {
    fn a_handler_that_fails_or_panics_is_a_refusal_and_the_connection_lives() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        for way in 0..2 {
            let serving = serve!(codex, rt::Handlers::new().command(handler!([] |_request| {
                assert!(way == 0, "this handler panics");
                Err::<(), Box<dyn std::error::Error + Send + Sync>>("this one fails".into())
            })));
            let turn = wait!(thread.turn("Go.")).expect("a turn");
            let mut refused = Vec::new();
            while let Some(event) = wait!(turn.next()) {
                if let rt::Event::Refused(request) = event {
                    refused.push(request.why);
                }
            }
            // On a thread the handler has let go of the request before anybody can know that it failed.
            let on_threads = module_path!().contains("on_threads");
            let why = if on_threads { rt::RefusedWhy::Unhandled } else { rt::RefusedWhy::HandlerFailed };
            assert_eq!(refused, [why], "{way}");
            let failed = |codex: &rt::Codex| {
                let all = codex.diagnostics().into_iter();
                let failed = all.filter(|found| found.kind == rt::core::turn::DiagnosticKind::HandlerFailed);
                failed.filter(|found| &*found.head == "item/commandExecution/requestApproval").count() as u64
            };
            assert!(eventually(|| failed(&codex) == way + 1), "{:?}", codex.diagnostics());
            assert_eq!(wait!(turn.result()).expect("completed").final_response.as_deref(), Some("Done."));
            assert!(eventually(|| codex.counters().handlers_failed == way + 1));
            drop(serving);
        }
        wait!(codex.close());
    }
}

scenario! {
    fn an_event_says_whose_it_is_and_so_does_a_request() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let mut all = thread.events();
        let turn = wait!(thread.turn(rt::TurnRequest::new("Go.").asks_in_stream())).expect("a turn");
        let (mut count, mut item) = (0, None);
        while let Some(event) = wait!(turn.next()) {
            count += 1;
            if matches!(event, rt::Event::Ended(_)) {
                assert_eq!((event.thread_id(), event.turn_id(), event.item_id()), (None, None, None));
                continue;
            }
            assert_eq!(event.thread_id(), Some(thread.id()), "{event:?}");
            assert!(event.turn_id().is_some_and(|id| Some(id) == turn.id().as_ref()), "{event:?}");
            if let rt::Event::Request(rt::AgentRequest::Command(request)) = &event {
                item = Some(request.item().clone());
                assert_eq!(event.item_id(), item);
                request.accept().expect("open");
            }
        }
        assert!(count > 5, "{count}");
        wait!(codex.close());
        let mut of_the_request = Vec::new();
        while let Some(event) = wait!(all.next()) {
            if matches!(event, rt::Event::Asked(_) | rt::Event::AskEnded(..)) {
                assert_eq!(event.thread_id(), Some(thread.id()), "{event:?}");
                of_the_request.push(event.item_id());
            }
        }
        assert_eq!(of_the_request, [item.clone(), item]);
    }
}

/// An error of the application: no error by its type, but one can be made of it.
struct Report(&'static str);

impl From<Report> for Box<dyn std::error::Error + Send + Sync> {
    fn from(report: Report) -> Self {
        report.0.into()
    }
}

scenario! {
    fn a_handler_may_end_with_an_error_of_the_application_and_what_that_says_goes_nowhere() {
        const MARK: &str = "what-the-handler-says";
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let (mut of_all, mut of_the_thread) = (codex.events(), thread.events());
        // It keeps the request, so that it is refused because its handler failed, and not because nobody has it.
        let kept = Arc::new(Mutex::new(Vec::new()));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([kept] |request| {
            kept.lock().unwrap().push(request);
            Err::<(), _>(Report(MARK))
        })));
        wait!(thread.run("Go.")).expect("completed");
        assert!(eventually(|| codex.counters().handlers_failed == 1));
        wait!(codex.close());
        let mut events = Vec::new();
        while let Some(event) = wait!(of_all.next()) {
            events.push(event);
        }
        while let Some(event) = wait!(of_the_thread.next()) {
            events.push(event);
        }
        let (mut diagnosed, mut refused) = (Vec::new(), Vec::new());
        for event in events {
            assert!(!format!("{event:?}").contains(MARK), "{event:?}");
            match event {
                rt::Event::Diagnostic(diagnostic) => diagnosed.push(diagnostic.head),
                rt::Event::Refused(request) => refused.push(request.why),
                _ => {}
            }
        }
        assert!(diagnosed.iter().any(|head| &**head == "item/commandExecution/requestApproval"), "{diagnosed:?}");
        assert!(!diagnosed.iter().any(|head| head.contains(MARK)), "{diagnosed:?}");
        assert_eq!(refused, [rt::RefusedWhy::HandlerFailed]);
        assert!(!server.received().iter().any(|line| line.to_string().contains(MARK)));
    }
}

scenario! {
    fn sr_14_a_request_that_an_interrupt_settles_is_closed_and_a_late_answer_writes_nothing() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval();
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (keep, kept) = mpsc::channel();
        let keep = Arc::new(Mutex::new(keep));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([keep] |request| {
            keep.lock().unwrap().send(request).unwrap();
        })));
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let request: rt::CommandApproval = kept.recv_timeout(crate::support::PATIENCE).expect("asked");
        wait!(turn.interrupt()).expect("taken");
        wait!(turn.result()).expect("interrupted");
        assert!(eventually(|| !request.is_open()));
        let late = request.accept().expect_err("too late");
        assert!(matches!(late, rt::AnswerError::Closed(rt::AskEnd::TurnEnded | rt::AskEnd::Resolved)), "{late}");
        wait!(codex.models()).expect("the connection lives");
        let answers = server.received().into_iter().filter(|line| line.get("method").is_none()).count();
        assert_eq!(answers, 0, "nothing was written");
        wait!(codex.close());
    }
}

scenario! {
    fn sr_17_an_answer_after_the_server_is_gone_is_a_typed_error() {
        let ask = json!({"threadId": "T", "turnId": "U", "itemId": "i", "command": "ls"});
        let server = scripted(&asking("item/commandExecution/requestApproval", ask));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (keep, kept) = mpsc::channel();
        let keep = Arc::new(Mutex::new(keep));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([keep] |request| {
            keep.lock().unwrap().send(request).unwrap();
        })));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let request: rt::CommandApproval = kept.recv_timeout(crate::support::PATIENCE).expect("asked");
        wait!(codex.close());
        let late = request.accept().expect_err("closed");
        assert!(late.is_closed(), "{late}");
        assert!(!request.is_open());
    }
}

scenario! {
    fn sr_06_questions_are_typed_and_so_are_their_answers() {
        let option = |label: &str| json!({"label": label, "description": ""});
        let server = scripted(&asking("item/tool/requestUserInput", json!({
            "threadId": "T", "turnId": "U", "itemId": "i", "questions": [
                {"id": "colour", "header": "Colour", "question": "Which?", "options": [option("Red"), option("Blue")]},
                {"id": "name", "header": "Name", "question": "Whose?", "isOther": true, "options": null},
            ]})));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let _serving = serve!(codex, rt::Handlers::new().user_input(handler!([] |asked| {
            let answers: Vec<(String, Vec<String>)> = asked.questions().iter().map(|question| {
                let first = question.options.as_ref().and_then(|options| options.first());
                (question.id.clone(), vec![first.map_or("Ada".to_owned(), |option| option.label.clone())])
            }).collect();
            asked.answer(answers)
        })));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let expected = json!({"answers": {"colour": {"answers": ["Red"]}, "name": {"answers": ["Ada"]}}});
        assert_eq!(told(&server, json!(5))[0]["result"], expected);
        wait!(codex.close());
    }
}

scenario! {
    fn sr_08_an_elicitation_by_form_or_page_is_typed_and_one_for_a_tool_is_shown_as_that() {
        let base = |more: Value| {
            let mut params = json!({"threadId": "T", "turnId": null, "serverName": "s", "message": "m"});
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        };
        let schema = json!({"type": "object", "properties": {}});
        let asked = [
            (base(json!({"mode": "form", "_meta": null, "requestedSchema": schema})), json!({"action": "accept", "content": {"a": 1}})),
            (base(json!({"mode": "url", "url": "https://x.invalid", "elicitationId": "e"})), json!({"action": "cancel"})),
            (
                base(json!({"mode": "form", "requestedSchema": schema, "_meta": {"codex_approval_kind": "mcp_tool_call",
                    "persist": ["session", "always"], "tool_description": "d", "tool_params": {"x": "1"}}})),
                json!({"_meta": {"persist": "session"}, "action": "accept", "content": {}}),
            ),
        ];
        for (params, expected) in asked {
            let server = scripted(&asking("mcpServer/elicitation/request", params));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let handlers = rt::Handlers::new()
                .elicitation(handler!([] |asked| match asked.url() {
                    Some(_) => asked.cancel(),
                    None => asked.accept(json!({"a": 1})),
                }))
                .mcp_tool(handler!([] |asked| {
                    assert_eq!((asked.server_name(), asked.description()), ("s", Some("d")));
                    assert_eq!(asked.arguments().as_str(), r#"{"x":"1"}"#);
                    assert_eq!(asked.persist(), ["session", "always"]);
                    asked.accept_for_session()
                }));
            let _serving = serve!(codex, handlers);
            wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
            assert_eq!(told(&server, json!(5))[0]["result"], expected);
            wait!(codex.close());
        }
    }
}

scenario! {
    fn sr_05_the_further_decisions_are_written_as_the_schema_has_them() {
        let params = json!({"threadId": "T", "turnId": "U", "itemId": "i", "command": "curl x", "cwd": "/w"});
        let expected = [
            json!({"decision": "acceptForSession"}),
            json!({"decision": {"acceptWithExecpolicyAmendment": {"execpolicy_amendment": ["curl"]}}}),
            json!({"decision": {"applyNetworkPolicyAmendment": {"network_policy_amendment": {"action": "allow", "host": "x"}}}}),
            json!({"decision": "cancel"}),
        ];
        for (way, expected) in expected.into_iter().enumerate() {
            let server = scripted(&asking("item/commandExecution/requestApproval", params.clone()));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let _serving = serve!(codex, rt::Handlers::new().command(handler!([] |request| match way {
                0 => request.accept_for_session(),
                1 => request.accept_with_exec_policy(["curl"]),
                2 => request.accept_with_network_policy(
                    rt::protocol::NetworkPolicyAmendment::new(rt::protocol::NetworkPolicyRuleAction::Allow, "x"),
                ),
                _ => request.cancel(),
            })));
            wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
            assert_eq!(told(&server, json!(5))[0]["result"], expected);
            wait!(codex.close());
        }
    }
}

scenario! {
    fn sr_10_a_tool_gives_text_and_image_or_fails_and_an_unknown_one_fails() {
        #[derive(serde::Deserialize, schemars::JsonSchema)]
        struct Lookup {
            id: u32,
        }
        let tools = || rt::Tools::new([
            rt::Tool::new("shout", "Shouts", json!({"type": "object"}), handler!([] |arguments| {
                let arguments: rt::ToolArguments = arguments;
                let value: Value = arguments.decode()?;
                let word = value["word"].as_str().ok_or(rt::ToolFailure::new("no word"))?.to_uppercase();
                Ok::<_, rt::ToolFailure>(rt::ToolOutput::new().text(word).image("data:image/png;base64,AA=="))
            })),
            rt::Tool::typed("lookup", "Looks up", handler!([] |lookup| {
                let Lookup { id } = lookup;
                if id == 0 { Err("no such id") } else { Ok(format!("ticket {id}")) }
            })),
        ]).expect("good tools");
        let text = |text: &str| json!({"type": "inputText", "text": text});
        let image = json!({"type": "inputImage", "imageUrl": "data:image/png;base64,AA=="});
        let cases = [
            ("shout", json!({"word": "hey"}), json!({"contentItems": [text("HEY"), image], "success": true})),
            ("shout", json!({}), json!({"contentItems": [text("no word")], "success": false})),
            ("lookup", json!({"id": 4}), json!({"contentItems": [text("ticket 4")], "success": true})),
            ("lookup", json!({"id": 0}), json!({"contentItems": [text("no such id")], "success": false})),
            ("other", json!({}), json!({"contentItems": [text("This client has no tool `other`.")], "success": false})),
        ];
        for (tool, arguments, expected) in cases {
            let params = json!({"threadId": "T", "turnId": "U", "callId": "c", "tool": tool, "namespace": null, "arguments": arguments});
            let server = scripted(&asking("item/tool/call", params));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let _serving = serve!(codex, rt::Handlers::new().tools(tools()));
            wait!(codex.thread_start(ThreadStart::new().tools(&tools()))).expect("a thread");
            wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
            assert_eq!(told(&server, json!(5))[0]["result"], expected);
            let offered = server.received_of("thread/start", 1)[0]["dynamicTools"].clone();
            assert_eq!(offered.as_array().map(Vec::len), Some(2), "{offered}");
            assert!(offered[0]["inputSchema"]["properties"]["id"].is_object(), "{offered}");
            wait!(codex.close());
        }
        for name in ["", "a b", "mcp__x", "ü"] {
            let tool = rt::Tool::new(name, "", json!({"type": "object"}), handler!([] |_arguments| Ok::<_, String>("")));
            assert!(rt::Tools::new([tool]).is_err(), "{name}");
        }
    }
}

scenario! {
    fn sr_19_a_new_token_is_supplied_and_is_in_no_debug_text() {
        let secret = "tok-very-secret";
        let params = json!({"reason": "unauthorized", "previousAccountId": "acc"});
        for supplies in [true, false] {
            let server = scripted(&asking("account/chatgptAuthTokens/refresh", params.clone()));
            let codex = wait!(rt::spawn(&server.command())).expect("connects");
            let _serving = serve!(codex, rt::Handlers::new().token_refresh(handler!([] |asked| {
                let tokens = rt::Tokens::new("acc", secret).plan_type("plus");
                assert!(!format!("{tokens:?} {asked:?}").contains(secret));
                if supplies { asked.answer(&tokens) } else { asked.fail("none left") }
            })));
            let mut events = codex.events();
            wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
            let answer = &told(&server, json!(5))[0];
            if supplies {
                let expected = json!({"accessToken": secret, "chatgptAccountId": "acc", "chatgptPlanType": "plus"});
                assert_eq!(answer["result"], expected);
            } else {
                assert_eq!(answer["error"]["code"], -32603);
            }
            wait!(codex.close());
            let mut shown = String::new();
            let mut is_over = false;
            while !is_over {
                let event = wait!(events.next());
                is_over = event.is_none();
                shown.push_str(&format!("{event:?}"));
            }
            assert!(!shown.contains(secret));
        }
    }
}

scenario! {
    fn sr_13_a_replay_after_a_resume_is_the_same_request() {
        let params = json!({"threadId": "T", "turnId": "U", "itemId": "i", "command": "ls"});
        let again = Rule::on("thread/name/set").nth(2).ask("item/commandExecution/requestApproval", 5, params.clone()).reply(json!({}));
        let script = asking("item/commandExecution/requestApproval", params);
        let server = scripted(&Script::new().rule(again).rule(script.rules[0].clone()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (keep, kept) = mpsc::channel();
        let keep = Arc::new(Mutex::new(keep));
        let _serving = serve!(codex, rt::Handlers::new().command(handler!([keep] |request| {
            keep.lock().unwrap().send(request).unwrap();
        })));
        for _ in 0..2 {
            wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        }
        let request: rt::CommandApproval = kept.recv_timeout(crate::support::PATIENCE).expect("asked");
        // In order on one pipe: when this is answered, the replay was read.
        wait!(codex.models()).expect("answered");
        assert!(kept.try_recv().is_err(), "not shown twice");
        assert_eq!(codex.counters().replayed, 1);
        request.accept().expect("open");
        wait!(codex.models()).expect("answered");
        assert_eq!(told(&server, json!(5)).len(), 1, "one answer");
        wait!(codex.close());
    }
}

scenario! {
    fn sr_20_an_attestation_is_what_the_handler_says_and_the_server_is_told_that_there_is_one() {
        let server = scripted(&asking("attestation/generate", json!({})));
        let mut config = rt::Config::default();
        config.request_attestation = true;
        let codex = wait!(rt::spawn_with(&server.command(), config)).expect("connects");
        let _serving = serve!(codex, rt::Handlers::new().attestation(handler!([] |asked| {
            asked.answer(&rt::Secret::new("v1.opaque"))
        })));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        assert_eq!(told(&server, json!(5))[0]["result"], json!({"token": "v1.opaque"}));
        assert_eq!(server.received_of("initialize", 1)[0]["capabilities"]["requestAttestation"], true);
        wait!(codex.close());
    }
}
