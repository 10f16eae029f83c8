//! Keys, tokens, codes and answers of users: in no `Debug`, no error, no diagnostic and no recording, whatever type holds them.

use serde_json::{Value, json};
use std::{fmt::Debug, sync::mpsc, time::Duration};
use turnwire_blocking::{
    AgentRequest, Command, Config, Event, Handlers, Recorder, Secret, Tokens, ToolOutput,
    protocol::{self, ThreadStart},
};
use turnwire_testkit::{
    recorded::Tape,
    scripted::{Rule, Script, serve_duplex},
};

const MARK: &str = "hunter2";

fn shown(value: &impl Debug) {
    let text = format!("{value:?} {value:#?}");
    assert!(!text.contains(MARK), "{} shows it: {text}", std::any::type_name_of_val(value));
}

#[test]
fn what_holds_a_secret_does_not_show_it() {
    let secret = Secret::new(MARK);
    shown(&secret);
    shown(&Tokens::new("acc", MARK));
    shown(&protocol::ApiKeyLoginAccountParams::new(MARK));
    shown(&protocol::AccountLoginStart::ApiKey(protocol::ApiKeyLoginAccountParams::new(MARK)));
    let tokens = protocol::ChatgptAuthTokensLoginAccountParams::new("acc", MARK);
    shown(&tokens);
    shown(&protocol::AccountLoginStart::ChatgptAuthTokens(tokens));
    shown(&protocol::ChatgptAuthTokensRefreshResponse::new("acc", MARK));
    shown(&protocol::AttestationGenerateResponse::new(MARK));
    shown(&protocol::ToolRequestUserInputAnswer::new([MARK]));
    shown(&ToolOutput::from(MARK));
    shown(&Command::new().env("OPENAI_API_KEY", MARK).args([MARK]).config_text("model_providers.x.key", MARK));
    for answer in [
        json!({"type": "chatgpt", "loginId": "L", "authUrl": format!("https://x.invalid/{MARK}")}),
        json!({"type": "chatgptDeviceCode", "loginId": "L", "verificationUrl": MARK, "userCode": MARK}),
        json!({"type": "brandNew", "token": MARK}),
    ] {
        let answer: protocol::LoginAccountResponse = serde_json::from_value(answer).expect("an answer");
        shown(&answer);
    }
}

/// Requests of every kind with the mark in every text that is not an id.
fn asked() -> Vec<(&'static str, Value)> {
    let ids =
        json!({"threadId": "T", "turnId": "U", "itemId": "i", "callId": "c", "conversationId": "T", "startedAtMs": 1});
    let with = |more: Value| {
        let mut params = ids.clone();
        params.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        params
    };
    let form = json!({"type": "object", "properties": {MARK: {"type": "string", "title": MARK}}});
    vec![
        ("item/commandExecution/requestApproval", with(json!({"command": MARK, "cwd": MARK, "reason": MARK}))),
        ("item/fileChange/requestApproval", with(json!({"reason": MARK, "grantRoot": MARK}))),
        (
            "item/permissions/requestApproval",
            with(json!({"reason": MARK, "cwd": MARK, "permissions": {"fileSystem": {"write": [MARK]}}})),
        ),
        (
            "item/tool/requestUserInput",
            with(json!({"questions": [{"id": MARK, "header": MARK, "question": MARK, "isSecret": true,
            "options": [{"label": MARK, "description": MARK}]}]})),
        ),
        (
            "mcpServer/elicitation/request",
            with(json!({"mode": "form", "serverName": MARK, "message": MARK, "requestedSchema": form})),
        ),
        (
            "mcpServer/elicitation/request",
            with(json!({"mode": "url", "serverName": MARK, "message": MARK, "url": MARK, "elicitationId": "e"})),
        ),
        (
            "mcpServer/elicitation/request",
            with(json!({"mode": "form", "serverName": MARK, "message": MARK, "requestedSchema": form,
            "_meta": {"codex_approval_kind": "mcp_tool_call", "tool_description": MARK, "tool_params": {MARK: MARK}, "persist": [MARK]}})),
        ),
        ("item/tool/call", with(json!({"tool": MARK, "namespace": MARK, "arguments": {MARK: MARK}}))),
        ("account/chatgptAuthTokens/refresh", json!({"reason": "unauthorized", "previousAccountId": MARK})),
        ("attestation/generate", json!({})),
        ("applyPatchApproval", with(json!({"fileChanges": {MARK: {"type": "add", "content": MARK}}, "reason": MARK}))),
        ("execCommandApproval", with(json!({"command": [MARK], "cwd": MARK, "reason": MARK, "parsedCmd": []}))),
        ("brand/new", with(json!({"text": MARK}))),
    ]
}

/// Answers with secrets, where there are any.
fn answer(request: &AgentRequest) {
    let outcome = match request {
        AgentRequest::TokenRefresh(asked) => asked.answer(&Tokens::new(MARK, MARK)),
        AgentRequest::Attestation(asked) => asked.answer(&Secret::new(MARK)),
        AgentRequest::UserInput(asked) => asked.answer([(MARK, [MARK])]),
        AgentRequest::Elicitation(asked) => asked.accept(json!({MARK: MARK})),
        AgentRequest::McpTool(asked) => asked.accept_for_session(),
        AgentRequest::ToolCall(asked) => asked.answer(MARK),
        AgentRequest::Command(asked) => asked.accept_with_exec_policy([MARK]),
        other => other.answer_raw(&json!({"text": MARK})),
    };
    assert!(outcome.is_ok(), "open: {outcome:?}");
    shown(&outcome);
    let late = request.answer_raw(&json!({"text": MARK})).expect_err("answered");
    shown(&late);
    shown(&request.end());
    assert!(!late.to_string().contains(MARK));
}

#[test]
fn nothing_that_is_asked_answered_or_logged_in_with_is_shown_or_recorded() {
    let mut rule = Rule::on("thread/name/set").reply(json!({}));
    let all = asked();
    for (id, (method, params)) in all.iter().enumerate() {
        rule = rule.ask(*method, id, params.clone());
    }
    let quote = format!("Incorrect API key provided: {MARK}");
    let start = || Rule::on("account/login/start");
    let script = Script::new()
        .rule(rule)
        .rule(
            start()
                .nth(1)
                .reply(json!({"type": "apiKey"}))
                .notify("account/login/completed", json!({"loginId": null, "success": true, "error": null})),
        )
        .rule(start().nth(2).reply_error_data(-32600, quote.clone(), json!({"key": MARK})))
        .rule(
            start()
                .nth(3)
                .reply(json!({"type": "chatgptAuthTokens"}))
                .notify("account/login/completed", json!({"loginId": null, "success": false, "error": quote})),
        )
        .rule(
            start()
                .nth(4)
                .reply(json!({"type": "chatgpt", "loginId": "L", "authUrl": format!("https://x.invalid/{MARK}")})),
        )
        .rule(
            start()
                .reply(json!({"type": "chatgptDeviceCode", "loginId": "M", "verificationUrl": MARK, "userCode": MARK})),
        );
    let tape = Tape::new();
    let recorder = Recorder::to_writer(tape.clone());
    let mut config = Config::default();
    config.recorder = Some(recorder.clone());
    config.request_attestation = true;
    let (reader, writer, _server) = serve_duplex(script);
    let codex = turnwire_blocking::connect_with(reader, writer, config).expect("connects");
    let events = codex.events();

    codex.login_api_key(MARK).expect("taken");
    let mut errors = vec![codex.login_api_key(MARK).expect_err("refused")];
    errors.push(codex.login_tokens(Tokens::new("acc", MARK)).expect_err("failed"));
    for error in &errors {
        shown(error);
        assert!(!error.to_string().contains(MARK), "{error}");
    }
    let (browser, device) = (codex.login_browser().expect("begun"), codex.login_device_code().expect("begun"));
    assert!(browser.auth_url().contains(MARK) && device.user_code() == MARK);
    shown(&browser);
    shown(&device);

    let (seen, kinds) = mpsc::channel();
    let everything = move |request: AgentRequest| {
        shown(&request);
        shown(&*request);
        answer(&request);
        let _ = seen.send(request.kind());
    };
    let attests = |request: turnwire_blocking::AttestationRequest| request.answer(&Secret::new(MARK));
    let _serving = codex.serve(Handlers::new().attestation(attests).all_others(everything));
    codex.thread_start(ThreadStart::new()).expect("a thread");
    codex.request_raw("thread/name/set", json!({"threadId": "T", "name": "n"})).expect("named");
    for _ in 1..all.len() {
        kinds.recv_timeout(Duration::from_secs(30)).expect("each is asked, and shows nothing");
    }
    let start = std::time::Instant::now();
    while codex.counters().asks > 0 {
        assert!(start.elapsed() < Duration::from_secs(30));
        std::thread::sleep(Duration::from_millis(5));
    }
    shown(&codex);
    shown(&codex.counters());
    assert_eq!(codex.counters().handlers_failed, 0);
    codex.close();
    drop((codex, browser, device));
    let mut count = 0;
    for event in events {
        count += 1;
        shown(&event);
        if let Event::Diagnostic(diagnostic) = &event {
            shown(diagnostic);
        }
    }
    assert!(count > all.len(), "{count}");
    assert!(recorder.wait(Duration::from_secs(30)));
    let text = tape.text();
    assert!(text.contains("account/login/start") && text.contains("requestUserInput"), "it is recorded");
    let line = text.lines().find(|line| line.contains(MARK));
    assert_eq!(line, None);
}
