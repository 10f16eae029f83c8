// Scenarios against the scripted server, a fake: a server that is newer than the types. Included once for each runtime.

use crate::support::scripted;
use rt::{
    Event,
    protocol::{SandboxPolicy, Settable, ThreadItem, ThreadStart, ThreadStatusChangedNotification},
};
use serde_json::{Value, json};
use turnwire_testkit::scripted::{Rule, Script};

/// The value with a member that nobody knows in each of its objects.
fn strange(mut value: Value) -> Value {
    match &mut value {
        Value::Object(members) => {
            members.values_mut().for_each(|member| *member = strange(member.take()));
            members.insert("zodiac".into(), json!({"sign": ["pisces"]}));
        }
        Value::Array(entries) => entries.iter_mut().for_each(|entry| *entry = strange(entry.take())),
        _ => {}
    }
    value
}

/// Asserts that the raw form has what nobody knows, at so many places.
fn assert_strange(raw: &str, places: usize) {
    assert_eq!(raw.matches(r#""zodiac":{"sign":["pisces"]}"#).count(), places, "{raw}");
}

scenario! {
    fn dr_01_dr_03_a_turn_of_unknown_words_items_members_and_methods_is_read_to_its_end() {
        let of = |more: Value| {
            let mut params = json!({"threadId": "T", "turnId": "U"});
            params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
            strange(params)
        };
        let turn = |status: &str| json!({"id": "U", "status": status, "items": [], "itemsView": "panorama"});
        let hologram = json!({"item": {"type": "hologram", "id": "h", "depth": 3}});
        let command = json!({"item": {"type": "commandExecution", "id": "c", "command": "ls", "commandActions": [{"type": "juggle", "balls": 5}],
            "cwd": "/", "status": "teleported", "source": "dream"}});
        let encore = json!({"item": {"type": "agentMessage", "id": "e", "text": "Encore.", "phase": "encore"}});
        let message = json!({"item": {"type": "agentMessage", "id": "m", "text": "Hi."}});
        let tokens = json!({"totalTokens": 5, "inputTokens": 3, "cachedInputTokens": 0, "outputTokens": 2, "reasoningOutputTokens": 0});
        let rule = Rule::on("turn/start").reply(strange(json!({"turn": turn("inProgress")})))
            .notify("turn/started", strange(json!({"threadId": "T", "turn": turn("inProgress")})))
            .notify("brand/new", of(json!({"level": 9})))
            .notify("item/started", of(hologram.clone()))
            .notify("item/hologram/delta", of(json!({"itemId": "h", "delta": "~"})))
            .notify("item/completed", of(hologram))
            .notify("thread/status/changed", strange(json!({"threadId": "T", "status": {"type": "levitating"}})))
            .notify("error", of(json!({"willRetry": true, "error": {"message": "odd", "codexErrorInfo": "quantumFlux"}})))
            .notify("item/completed", of(command))
            .notify("item/completed", of(encore))
            .notify("item/agentMessage/delta", of(json!({"itemId": "m", "delta": "Hi."})))
            .notify("item/completed", of(message))
            .notify("thread/tokenUsage/updated", of(json!({"tokenUsage": {"total": tokens, "last": tokens}})))
            .send(json!({"method": "brand/newer", "params": {"threadId": "T", "turnId": "U"}, "zodiac": {"sign": ["aries"]}}))
            .notify("turn/completed", strange(json!({"threadId": "T", "turn": turn("completed")})));
        let server = scripted(&Script::new().rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = codex.thread("T");
        let mut all = thread.events();
        let turn = wait!(thread.turn("Go.")).expect("a turn");
        let mut seen = Vec::new();
        while let Some(event) = wait!(turn.next()) {
            match &event {
                Event::Other(raw) if &*raw.method == "brand/newer" => {}
                Event::Other(raw) if &*raw.method == "turn/completed" => assert_strange(raw.params_text(), 2),
                Event::Other(raw) => assert_strange(raw.params_text(), 1),
                Event::Delta(delta) => assert_strange(delta.raw.as_ref().expect("it has more members").as_str(), 1),
                Event::ItemCompleted(done) if done.item.kind() == "commandExecution" => assert_strange(done.raw.params_text(), 3),
                Event::Started(raw) => assert_strange(raw.params_text(), 2),
                Event::ItemStarted(item) | Event::ItemCompleted(item) => assert_strange(item.raw.params_text(), 2),
                Event::Usage(usage) => assert_strange(usage.raw.params_text(), 4),
                Event::Error(error) => assert_strange(error.raw.params_text(), 2),
                _ => {}
            }
            seen.push(match event {
                Event::Started(_) => "started".to_owned(),
                Event::Other(raw) => raw.method.to_string(),
                Event::ItemStarted(item) => format!("{} began", item.item.kind()),
                Event::ItemCompleted(item) => match item.item {
                    ThreadItem::Unknown(item) => {
                        let raw: Value = item.raw.decode().expect("JSON");
                        format!("{} {} of depth {}", item.kind, item.id.as_ref().expect("its id"), raw["depth"])
                    }
                    ThreadItem::CommandExecution(item) => {
                        let (source, action) = (item.source.expect("a word"), item.command_actions[0].kind().to_owned());
                        format!("{} was {} by {}: {action}", item.command, item.status.as_str(), source.as_str())
                    }
                    ThreadItem::AgentMessage(item) => format!("{} {:?}", item.text, item.phase.map(|phase| phase.as_str().to_owned())),
                    other => panic!("{other:?}"),
                },
                Event::Error(error) => format!("{} {}", error.error.message, error.error.codex_error_info.as_ref().expect("a word").kind()),
                Event::Delta(delta) => format!("{:?} {}", delta.kind, delta.text),
                Event::Usage(usage) => format!("{} tokens", usage.usage.total.total_tokens),
                Event::Ended(state) => format!("{state:?}"),
                other => panic!("{other:?}"),
            });
        }
        assert_eq!(seen, ["started", "brand/new", "hologram began", "item/hologram/delta", "hologram h of depth 3", "odd quantumFlux",
            "ls was teleported by dream: juggle", r#"Encore. Some("encore")"#, "AgentMessage Hi.", "Hi. None", "5 tokens", "brand/newer",
            "turn/completed", "Completed"]);
        let result = wait!(turn.result()).expect("completed");
        assert_eq!((result.final_response.as_deref(), result.status), (Some("Hi."), rt::State::Completed));
        let kinds: Vec<&str> = result.items.iter().map(ThreadItem::kind).collect();
        assert_eq!(kinds, ["hologram", "commandExecution", "agentMessage", "agentMessage"]);
        assert!(result.usage.is_some());
        assert_strange(result.raw.as_ref().expect("the turn as it came").as_str(), 1);
        // And the thread's own news, of a kind that nobody knows.
        let status = loop {
            let event = wait!(all.next()).expect("an event");
            if let Some(changed) = event.notification::<ThreadStatusChangedNotification>() {
                assert_strange(event.raw().expect("as it came").params_text(), 2);
                break changed.status;
            }
        };
        assert_eq!(status.kind(), "levitating");
        let counters = codex.counters();
        assert_eq!((counters.malformed, counters.noise), (0, 0), "{counters:?}");
        assert!(codex.diagnostics().is_empty(), "{:?}", codex.diagnostics());
        wait!(codex.close());
    }
}

scenario! {
    fn dr_01_dr_03_unknown_words_and_members_of_a_reply_and_of_the_sessions_news_are_typed_and_readable() {
        let thread = json!({"id": "T", "sessionId": "S", "preview": "", "ephemeral": false, "modelProvider": "p", "cwd": "/", "createdAt": 1,
            "updatedAt": 2, "status": {"type": "levitating"}, "cliVersion": "9.9.9", "source": "seance", "turns": []});
        let started = json!({"thread": thread, "model": "m", "modelProvider": "p", "cwd": "/", "approvalPolicy": "on-moonlight",
            "approvalsReviewer": "oracle", "sandbox": {"type": "moat", "crocodiles": 7}, "reasoningEffort": "galactic", "serviceTier": "golden"});
        let limits = json!({"rateLimits": {"planType": "platinum", "rateLimitReachedType": "lunar"}});
        let rule = Rule::on("thread/start").notify("account/rateLimits/updated", strange(limits)).reply(strange(started));
        let server = scripted(&Script::new().startup_notices(false).rule(rule));
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let mut events = codex.events();
        let reply = wait!(codex.request(ThreadStart::new())).expect("decoded");
        assert_eq!(reply.approval_policy.kind(), "on-moonlight");
        assert_eq!((reply.approvals_reviewer.as_str(), &*reply.thread.source.kind()), ("oracle", "seance"));
        assert_eq!((reply.reasoning_effort.as_deref(), reply.service_tier.as_deref()), (Some("galactic"), Some("golden")));
        let SandboxPolicy::Unknown(sandbox) = &reply.sandbox else { panic!("{:?}", reply.sandbox) };
        assert_eq!((&*sandbox.kind, sandbox.raw.decode::<Value>().expect("JSON")["crocodiles"].clone()), ("moat", json!(7)));
        assert_strange(sandbox.raw.as_str(), 1);
        let Some(Event::RateLimits(limits)) = wait!(events.next()) else { panic!("the limits") };
        assert_eq!(limits.rate_limits.plan_type.as_ref().expect("a word").as_str(), "platinum");
        assert_eq!(limits.rate_limits.rate_limit_reached_type.as_ref().expect("a word").as_str(), "lunar");
        // The same over the thread's own call, and what it gives is a thread that works.
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        assert_eq!(thread.id().as_str(), "T");
        // As it came, whole.
        let raw = wait!(codex.request_raw("thread/start", json!({}))).expect("answered");
        assert_strange(raw.as_str(), 4);
        wait!(codex.close());
    }
}

scenario! {
    fn dr_05_absent_null_and_a_value_are_three_requests() {
        let server = scripted(&Script::new());
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let thread = wait!(codex.thread_start(ThreadStart::new())).expect("a thread");
        wait!(thread.update_settings(|settings| settings.effort("high"))).expect("updated");
        wait!(thread.update_settings(|settings| settings.effort("high").service_tier(Settable::Null))).expect("updated");
        wait!(thread.update_settings(|settings| settings.effort("high").service_tier("fast"))).expect("updated");
        let sent = server.received_of("thread/settings/update", 3);
        let id = thread.id().as_str();
        assert_eq!(sent, [
            json!({"threadId": id, "effort": "high"}),
            json!({"threadId": id, "effort": "high", "serviceTier": null}),
            json!({"threadId": id, "effort": "high", "serviceTier": "fast"}),
        ]);
        wait!(codex.close());
    }
}

scenario! {
    fn dr_06_a_word_that_the_server_has_retired_is_sent_as_it_is_and_the_refusal_names_it() {
        let refusal = "Invalid request: unknown variant `on-failure`, expected one of `untrusted`, `on-request`, `never`";
        let mut script = Script::new();
        for method in ["thread/start", "turn/start"] {
            script = script.rule(Rule::on(method).when("approvalPolicy", "on-failure").reply_error(-32600, refusal));
        }
        let server = scripted(&script);
        let codex = wait!(rt::spawn(&server.command())).expect("connects");
        let check = |error: &rt::CallError| {
            assert_eq!(error.rpc().and_then(|rpc| rpc.refused_value()), Some("on-failure"), "{error}");
            let text = error.to_string();
            assert!(text.contains("`on-failure`") && text.contains("does not any more") && text.contains("`never`"), "{text}");
            assert!(!error.is_retryable() && !error.is_closed() && !error.may_have_effect(), "{error}");
        };
        check(&wait!(codex.thread_start(ThreadStart::new().approval_policy("on-failure"))).expect_err("retired"));
        // A word that no type has goes through as well, where the server takes it.
        let thread = wait!(codex.thread_start(ThreadStart::new().approval_policy("on-moonlight"))).expect("a thread");
        let request = rt::TurnRequest::new("Go.").with(|params| params.approval_policy("on-failure"));
        let error = wait!(thread.run(request)).expect_err("retired");
        let rt::TurnError::Start(call) = &error else { panic!("{error}") };
        check(call);
        assert!(wait!(thread.run("Go.")).is_ok(), "the thread goes on");
        let sent: Vec<_> = server.received_of("thread/start", 2).iter().map(|params| params["approvalPolicy"].clone()).collect();
        assert_eq!(sent, ["on-failure", "on-moonlight"]);
        assert_eq!(server.received_of("turn/start", 2)[0]["approvalPolicy"], "on-failure");
        wait!(codex.close());
    }
}
