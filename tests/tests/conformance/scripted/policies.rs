// Scenarios against the scripted server, a fake: who decides, handlers that misbehave, and requests that do. Included once for
// each runtime.

use crate::support::{eventually, scripted};
use rt::protocol::ThreadStart;
use serde_json::{Value, json};
use std::{collections::BTreeMap, sync::{Arc, Mutex, atomic::{AtomicUsize, Ordering}, mpsc}, time::Duration};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

/// A server that asks all this as soon as a thread is named.
fn asking_all(asked: &[(&str, Value, Value)]) -> Script {
    let mut rule = Rule::on("thread/name/set").reply(json!({}));
    for (method, id, params) in asked {
        rule = rule.ask(*method, id.clone(), params.clone());
    }
    Script::new().rule(rule)
}

/// The answers that the server has, by id, as soon as there are so many.
fn answers(server: &crate::support::Scripted, count: usize) -> BTreeMap<String, Vec<Value>> {
    let mut found: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    let is_there = eventually(|| {
        found.clear();
        for line in server.received().into_iter().filter(|line| line.get("method").is_none()) {
            found.entry(line["id"].to_string()).or_default().push(line);
        }
        found.len() >= count
    });
    assert!(is_there, "{} answers of {count}", found.len());
    found
}

scenario! {
    fn sr_02_a_policy_holds_against_older_handlers_and_against_all_others() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval().text("Done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        let asked = Arc::new(AtomicUsize::new(0));
        let _older = serve!(codex, rt::Handlers::new().command(handler!([asked] |request| {
            asked.fetch_add(1, Ordering::Relaxed);
            request.accept()
        })));
        for policy in [rt::Approvals::deny(), rt::Approvals::in_stream()] {
            let others = handler!([asked] |request| {
                let request: rt::AgentRequest = request;
                asked.fetch_add(1, Ordering::Relaxed);
                request.answer_raw(&json!({"decision": "accept"}))
            });
            let serving = serve!(codex, rt::Handlers::new().approvals(policy.clone()).all_others(others));
            // Nobody reads the stream of a turn that is run.
            wait!(thread.run("Go.")).expect("completed");
            assert_eq!(asked.load(Ordering::Relaxed), 0, "{policy:?}");
            drop(serving);
        }
        assert_eq!(codex.counters().refused, 2);
        for line in server.received().into_iter().filter(|line| line.get("method").is_none()) {
            assert_eq!(line["result"], json!({"decision": "decline"}));
        }
        // Without them the older one is asked again. It takes a moment until the newer are gone.
        assert!(eventually(|| codex.counters().refused == 2));
        wait!(codex.close());
    }
}

scenario! {
    fn sr_02_what_does_not_fit_its_type_is_granted_by_no_handler() {
        let methods = [
            "item/commandExecution/requestApproval", "item/fileChange/requestApproval", "item/permissions/requestApproval",
            "item/tool/requestUserInput", "mcpServer/elicitation/request", "item/tool/call",
            "applyPatchApproval", "execCommandApproval", "brand/new",
        ];
        let mut asked = Vec::new();
        for method in methods {
            for params in [json!({}), json!(null), json!([1]), json!("x"), json!({"threadId": 7, "turnId": {}, "itemId": []})] {
                // Ids of every kind, some of which no server should have.
                let id = match asked.len() % 5 {
                    0 => json!(asked.len()),
                    1 => json!(-7 - asked.len() as i64),
                    2 => json!(u64::MAX - asked.len() as u64),
                    3 => json!(asked.len().to_string()),
                    _ => json!(asked.len() as f64 + 0.5),
                };
                asked.push((method, id, params));
            }
        }
        let server = scripted(&asking_all(&asked));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let handlers = rt::Handlers::new()
            .command(handler!([] |request| request.accept()))
            .file_change(handler!([] |request| request.accept()))
            .permissions(handler!([] |request| request.accept()))
            .user_input(handler!([] |request| request.answer([("a", ["b"])])))
            .elicitation(handler!([] |request| request.accept(json!({}))))
            .mcp_tool(handler!([] |request| request.accept()))
            .tool_call(handler!([] |request| request.answer("done")))
            .apply_patch(handler!([] |request| request.accept()))
            .exec_command(handler!([] |request| request.accept()));
        let _serving = serve!(codex, handlers);
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let answers = answers(&server, asked.len());
        for (method, id, params) in &asked {
            let given = &answers[&id.to_string()];
            assert_eq!(given.len(), 1, "{method} {id} {params}: {given:?}");
            let result = &given[0]["result"];
            let is_refused = match *method {
                "item/commandExecution/requestApproval" | "item/fileChange/requestApproval" => result["decision"] == "decline",
                "applyPatchApproval" | "execCommandApproval" => result["decision"] == "denied",
                "item/permissions/requestApproval" => *result == json!({"permissions": {}}),
                "item/tool/requestUserInput" => *result == json!({"answers": {}}),
                "mcpServer/elicitation/request" => *result == json!({"action": "decline"}),
                "item/tool/call" => result["success"] == false,
                _ => given[0]["error"]["code"].is_i64(),
            };
            assert!(is_refused, "{method} {id} {params}: {}", given[0]);
        }
        assert_eq!(codex.counters().asks, 0);
        wait!(codex.close());
    }
}

scenario! {
    fn sr_08_an_approval_of_a_tool_is_one_whatever_else_stands_beside_it() {
        let params = |meta: Value| json!({"threadId": "T", "turnId": null, "serverName": "s", "message": "m", "mode": "form",
            "requestedSchema": {"type": "object", "properties": {}}, "_meta": meta});
        let kind = |kind: Value| json!({"codex_approval_kind": kind, "tool_description": 7, "persist": {}, "tool_params": [1]});
        let asked = [
            ("mcpServer/elicitation/request", json!(0), params(kind(json!("mcp_tool_call")))),
            ("mcpServer/elicitation/request", json!(1), params(json!({"codex_approval_kind": "mcp_tool_call"}))),
            ("mcpServer/elicitation/request", json!(2), params(kind(json!(7)))),
            ("mcpServer/elicitation/request", json!(3), params(kind(json!("brand_new")))),
            ("mcpServer/elicitation/request", json!(4), params(json!([]))),
        ];
        let server = scripted(&asking_all(&asked));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let handlers = rt::Handlers::new().elicitation(handler!([] |asked| asked.cancel())).mcp_tool(handler!([] |asked| {
            assert!(asked.description().is_none() && asked.persist().is_empty());
            asked.decline()
        }));
        let _serving = serve!(codex, handlers);
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let answers = answers(&server, asked.len());
        let actions: Vec<&Value> = answers.values().map(|given| &given[0]["result"]["action"]).collect();
        assert_eq!(actions, ["decline", "decline", "cancel", "cancel", "cancel"]);
        wait!(codex.close());
    }
}

scenario! {
    fn sr_03_a_handler_that_never_returns_costs_its_request_and_nothing_else() {
        let plan = TurnPlan::new().command("ls", "a\n", 0).with_approval()
            .file_change("/w/a.txt", "x").with_approval().text("Done.");
        let server = scripted(&Script::new().turn(plan));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let handlers = rt::Handlers::new()
            .command(handler!([] |request| {
                let _kept: rt::CommandApproval = request;
                never!()
            }))
            .file_change(handler!([] |request| request.accept()))
            .deadline(rt::AskKind::Command, Duration::from_millis(200));
        let _serving = serve!(codex, handlers);
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        for _ in 0..2 {
            let turn = wait!(thread.turn("Go.")).expect("a turn");
            let mut ends = Vec::new();
            while let Some(event) = wait!(turn.next()) {
                match event {
                    rt::Event::Refused(refused) => ends.push(format!("{:?}", refused.why)),
                    rt::Event::AskEnded(_, end) => ends.push(format!("{end:?}")),
                    _ => {}
                }
            }
            assert_eq!(ends, ["Deadline", r#"Answered("accept")"#]);
        }
        wait!(codex.close());
    }
}

scenario! {
    fn sr_17_requests_that_are_answered_and_dropped_while_the_server_goes_end_once_each() {
        let asked: Vec<(&str, Value, Value)> = (0..200)
            .map(|id| ("item/commandExecution/requestApproval", json!(id), json!({"threadId": "T", "turnId": "U",
                "itemId": format!("i{id}"), "startedAtMs": 1, "command": "ls"})))
            .collect();
        let server = scripted(&asking_all(&asked));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (keep, kept) = mpsc::channel::<rt::CommandApproval>();
        let keep = Arc::new(Mutex::new(keep));
        let serving = serve!(codex, rt::Handlers::new().command(handler!([keep] |request| {
            let _ = keep.lock().unwrap().send(request);
        })));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let requests: Vec<rt::CommandApproval> =
            (0..asked.len()).map(|_| kept.recv_timeout(crate::support::PATIENCE).expect("asked")).collect();
        // Two want to answer the same: while the server reads, and while it goes.
        let contest = |requests: &[rt::CommandApproval]| {
            let (first, second) = (requests.to_vec(), requests.to_vec());
            [
                std::thread::spawn(move || first.iter().filter(|request| request.accept().is_ok()).count()),
                std::thread::spawn(move || second.iter().filter(|request| request.decline().is_ok()).count()),
            ]
        };
        let (early, late) = requests.split_at(asked.len() / 2);
        let won = contest(early).map(|thread| thread.join().expect("no panic"));
        assert_eq!(won.into_iter().sum::<usize>(), early.len());
        assert_eq!(answers(&server, early.len()).len(), early.len());
        let threads = contest(late);
        wait!(codex.close());
        let won = threads.map(|thread| thread.join().expect("no panic"));
        assert!(won.into_iter().sum::<usize>() <= late.len());
        for (id, given) in answers(&server, early.len()) {
            assert_eq!(given.len(), 1, "{id}");
        }
        drop(requests);
        drop(serving);
        assert_eq!(codex.counters().asks, 0);
    }
}

scenario! {
    fn sr_03_while_the_server_does_not_read_answers_wait_and_none_is_lost() {
        let count = 400;
        let mut rule = Rule::on("thread/name/set").stop_reading().reply(json!({}));
        for id in 0..count {
            rule = rule.ask("item/tool/call", id, json!({"threadId": "T", "turnId": "U", "callId": format!("c{id}"),
                "tool": "big", "arguments": {}}));
        }
        let server = scripted(&Script::new().rule(rule.delay(300).resume_reading()));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let _serving = serve!(codex, rt::Handlers::new().tool_call(handler!([] |call| call.answer("x".repeat(2_000)))));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let answers = answers(&server, count);
        assert!(answers.values().all(|given| given.len() == 1 && given[0]["result"]["success"] == true));
        assert_eq!((codex.counters().asks, codex.counters().refused), (0, 0));
        wait!(codex.close());
    }
}

scenario! {
    fn sr_04_a_predicate_is_shown_every_name_that_a_change_touches_and_nothing_that_asks_for_more() {
        let changes = |id: u64, changes: Value, root: Value| ("applyPatchApproval", json!(id),
            json!({"conversationId": "T", "callId": "c", "fileChanges": changes, "reason": null, "grantRoot": root}));
        let command = |id: u64, command: Value| ("execCommandApproval", json!(id),
            json!({"conversationId": "T", "callId": "c", "command": command, "cwd": "/w", "reason": null, "parsedCmd": []}));
        let update = |to: Value| json!({"type": "update", "unified_diff": "", "move_path": to});
        let asked = [
            command(0, json!(["cargo", "test", "it's here"])),
            command(1, json!(["rm", "-rf", "/"])),
            changes(2, json!({"/w/a": {"type": "add", "content": "x"}, "/w/b": update(json!("/w/c"))}), json!(null)),
            changes(3, json!({"/w/a": update(json!("/etc/passwd"))}), json!(null)),
            changes(4, json!({"/w/a": {"type": "delete", "content": "x"}}), json!("/w")),
            changes(5, json!({"/w/a": {"type": "brand_new"}}), json!(null)),
            changes(6, json!({}), json!(null)),
        ];
        let server = scripted(&asking_all(&asked));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let shown: Arc<Mutex<Vec<String>>> = Arc::default();
        let note = Arc::clone(&shown);
        let _serving = serve!(codex, rt::Handlers::new().approvals(rt::Approvals::accept_for(move |approval| {
            let words = approval.words().unwrap_or_default();
            let folder = approval.cwd.clone().unwrap_or_default();
            note.lock().expect("no poison").push(format!("{words:?} {folder} {:?}", approval.paths));
            let is_test = words.starts_with(&["cargo".into(), "test".into()]);
            is_test || words.is_empty() && approval.paths.iter().all(|path| path.starts_with("/w/"))
        })));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let answers = answers(&server, asked.len());
        let approved: Vec<bool> = answers.values().map(|given| given[0]["result"]["decision"] == "approved").collect();
        assert_eq!(approved, [true, false, true, false, false, false, false], "{answers:?}");
        assert!(answers.values().all(|given| given.len() == 1), "one answer each: {answers:?}");
        assert!(answers.values().skip(3).all(|given| given[0]["result"]["decision"] != "approved"));
        let mut shown = shown.lock().expect("no poison").clone();
        shown.sort();
        assert_eq!(shown, [
            r#"["cargo", "test", "it's here"] /w []"#,
            r#"["rm", "-rf", "/"] /w []"#,
            r#"[]  ["/w/a", "/etc/passwd"]"#,
            r#"[]  ["/w/a", "/w/b", "/w/c"]"#,
        ]);
        wait!(codex.close());
    }
}

scenario! {
    fn sr_04_a_file_that_would_be_moved_is_shown_with_its_new_name() {
        let change = |to: &str| json!({"threadId": "$thread", "turnId": "$turn", "item": {"type": "fileChange", "id": "f",
            "status": "inProgress",
            "changes": [{"path": "/w/a", "diff": "", "kind": {"type": "update", "move_path": to}}]}});
        let ask = json!({"threadId": "$thread", "turnId": "$turn", "itemId": "f", "reason": null, "startedAtMs": 1});
        let turn = |to: &str, nth: u64| Rule::on("turn/start").nth(nth)
            .reply(json!({"turn": {"id": "$new_turn", "status": "inProgress"}}))
            .notify("item/started", change(to))
            .ask("item/fileChange/requestApproval", json!(nth), ask.clone());
        let server = scripted(&Script::new().rule(turn("/w/b", 1)).rule(turn("/etc/cron.d/b", 2)));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let policy = rt::Approvals::accept_for(|approval| approval.paths.iter().all(|path| path.starts_with("/w/")));
        let _serving = serve!(codex, rt::Handlers::new().approvals(policy));
        for (nth, decision) in [(1, "accept"), (2, "decline")] {
            let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
            let _turn = wait!(thread.turn("Move it.")).expect("a turn");
            assert_eq!(answers(&server, nth)[&nth.to_string()][0]["result"]["decision"], decision);
        }
        wait!(codex.close());
    }
}

scenario! {
    fn sr_13_who_holds_a_request_learns_how_it_ended_and_may_refuse_it() {
        let server = scripted(&asking_all(&[("brand/new", json!("r"), json!({"threadId": "T"}))]));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let (tell, told) = mpsc::channel();
        let _serving = serve!(codex, rt::Handlers::new().all_others(handler!([tell] |request| {
            let request: rt::AgentRequest = request;
            let before = format!("{:?}", request.end());
            request.refuse();
            let ends = (format!("{:?}", ended!(request)), format!("{:?}", request.end()));
            let _ = tell.send((request.method().to_owned(), before, ends));
            request.answer_raw(&json!({}))
        })));
        wait!(codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"}))).expect("named");
        let answers = answers(&server, 1);
        assert_eq!(answers.values().next().map(|given| (given.len(), given[0].get("result"))), Some((1, None)));
        let (method, before, (end, again)) = told.recv_timeout(Duration::from_secs(20)).expect("the handler was asked");
        assert_eq!((method.as_str(), before.as_str()), ("brand/new", "None"));
        assert!(end.contains("Refused") && again == format!("Some({end})"), "{end} {again}");
        wait!(codex.close());
    }
}
