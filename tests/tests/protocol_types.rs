//! What the protocol's types promise, case by case.

use serde::Deserialize;
use serde_json::{Value, json};
use turnwire_core::protocol::{
    ApplyPatchApprovalParams, AskForApproval, CodexErrorInfo, Entries, ErrorNotification, ExecCommandApprovalParams,
    GetAccountResponse, ItemCompletedNotification, ItemId, Json, ModelListResponse, Request, SandboxPolicy,
    ServerNotification, ServerRequestParams, Settable, SubAgentActivityItem, ThreadFork, ThreadGoalSet, ThreadId,
    ThreadItem, ThreadList, ThreadListResponse, ThreadReadResponse, ThreadSettingsUpdate, ThreadStart,
    ThreadStartResponse, ThreadTokenUsageUpdatedNotification, Turn, TurnCompletedNotification, TurnInterrupt,
    TurnOutline, TurnStart, TurnStatus, TurnSteer, UnknownVariant, UserInput, decode, request_info,
};

fn wire<T: serde::Serialize>(value: &T) -> Value {
    serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap()
}

fn thread(turns: Value) -> Value {
    json!({
        "id": "T", "sessionId": "S", "preview": "p", "ephemeral": false, "modelProvider": "openai", "cwd": "/w",
        "createdAt": 1, "updatedAt": 2, "status": {"type": "idle"}, "cliVersion": "0.163.0", "source": "vscode",
        "turns": turns,
    })
}

#[test]
fn dr_01_unknown_words_in_a_reply_a_notification_and_a_nested_history_item_decode_and_their_raw_value_is_readable() {
    // A reply: the plan.
    let text = r#"{"account":{"type":"chatgpt","email":null,"planType":"platinum"},"requiresOpenaiAuth":true}"#;
    let account: GetAccountResponse = decode(text).unwrap();
    let Some(turnwire_core::protocol::Account::Chatgpt(chatgpt)) = &account.account else { panic!("{account:?}") };
    assert_eq!(chatgpt.plan_type.as_str(), "platinum");
    assert_eq!(wire(&account)["account"]["planType"], "platinum");

    // A notification: the kind of an error, as a word and as an object.
    for info in [json!("gremlins"), json!({"gremlins": {"count": 12345678901234567890_u64}})] {
        let text = json!({
            "threadId": "T", "turnId": "U", "willRetry": false, "error": {"message": "m", "codexErrorInfo": info},
        })
        .to_string();
        let error: ErrorNotification = decode(&text).unwrap();
        let Some(CodexErrorInfo::Unknown(raw)) = &error.error.codex_error_info else { panic!("{error:?}") };
        assert_eq!(raw.decode::<Value>().unwrap(), info);
        assert_eq!(error.error.codex_error_info.as_ref().unwrap().kind(), "gremlins");
        assert_eq!(wire(&error)["error"]["codexErrorInfo"], info);
    }

    // An item in the history of a thread: the kind of an activity, and items of unknown kinds beside it.
    let items = json!([
        {"type": "subAgentActivity", "id": "i1", "kind": "juggled", "agentThreadId": "A", "agentPath": "/a"},
        {"type": "seance", "id": "i2", "ghosts": 3},
        {"type": "seance"},
    ]);
    let turn = json!({"id": "U", "status": "haunted", "items": items, "itemsView": "panorama"});
    let read: ThreadReadResponse = decode(&json!({"thread": thread(json!([turn]))}).to_string()).unwrap();
    let turn = &read.thread.turns[0];
    assert_eq!(turn.status, TurnStatus::Unknown("haunted".into()));
    assert_ne!(turn.status, TurnStatus::Completed);
    let [ThreadItem::SubAgentActivity(SubAgentActivityItem { kind, .. }), ThreadItem::Unknown(ghost), nameless] =
        turn.items.as_slice()
    else {
        panic!("{turn:?}")
    };
    assert_eq!(kind.as_str(), "juggled");
    assert_eq!((ghost.id.as_ref(), &*ghost.kind), (Some(&ItemId::from("i2")), "seance"));
    assert_eq!(ghost.raw.decode::<Value>().unwrap()["ghosts"], 3);
    assert_eq!((nameless.id(), nameless.kind()), (None, "seance"));
    assert_eq!(wire(&read)["thread"]["turns"][0]["items"], items);
    assert_eq!(wire(&read)["thread"]["turns"][0]["status"], "haunted");

    // The source of a thread, as a word and as an object.
    for source in [json!("seance"), json!({"medium": {"name": "Eva"}})] {
        let mut value = thread(json!([]));
        value["source"] = source.clone();
        let read: ThreadReadResponse = decode(&json!({"thread": value}).to_string()).unwrap();
        assert_eq!(read.thread.source.kind(), if source.is_string() { "seance" } else { "medium" });
        assert_eq!(wire(&read)["thread"]["source"], source);
    }

    // A tier and an effort are open words from the start.
    let start = ThreadStart::new().service_tier("warp").model("gpt-99");
    assert_eq!(wire(&start), json!({"serviceTier": "warp", "model": "gpt-99"}));
}

#[test]
fn dr_03_unknown_members_are_ignored_at_every_depth() {
    let mut value = json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": [
        {"type": "agentMessage", "id": "i", "text": "t", "aura": {"colour": [1, 2, {"x": null}]}},
    ], "omens": []}});
    value["zodiac"] = json!("pisces");
    let completed: TurnCompletedNotification = decode(&value.to_string()).unwrap();
    let [ThreadItem::AgentMessage(message)] = completed.turn.items.as_slice() else { panic!("{completed:?}") };
    assert_eq!(message.text, "t");
    assert_eq!(
        wire(&completed),
        json!({"threadId": "T", "turn": {"id": "U", "status": "completed", "items": [
            {"type": "agentMessage", "id": "i", "text": "t"},
        ]}})
    );
}

#[test]
fn dr_05_absent_null_and_a_value_are_three_different_requests() {
    let update = ThreadSettingsUpdate::new("T");
    assert_eq!(serde_json::to_string(&update).unwrap(), r#"{"threadId":"T"}"#);
    let reset = update.clone().service_tier(Settable::Null);
    assert_eq!(serde_json::to_string(&reset).unwrap(), r#"{"serviceTier":null,"threadId":"T"}"#);
    let set = update.clone().service_tier("fast");
    assert_eq!(serde_json::to_string(&set).unwrap(), r#"{"serviceTier":"fast","threadId":"T"}"#);
    for request in [update, reset, set] {
        assert_eq!(decode::<ThreadSettingsUpdate>(&serde_json::to_string(&request).unwrap()).unwrap(), request);
    }
    assert_eq!(
        wire(&ThreadGoalSet::new("T").token_budget(Settable::Null)),
        json!({"threadId": "T", "tokenBudget": null})
    );
    assert_eq!(wire(&ThreadList::new().section_id(Settable::Null).limit(3)), json!({"sectionId": null, "limit": 3}));
    // Everywhere else what is not set is left out.
    assert_eq!(wire(&ThreadStart::new()), json!({}));
}

#[test]
fn dr_06_a_word_that_is_retired_or_unknown_and_a_raw_form_go_to_the_wire_as_they_are() {
    let retired = ThreadStart::new().approval_policy("on-failure");
    assert_eq!(wire(&retired), json!({"approvalPolicy": "on-failure"}));
    let raw = Json::parse(r#"{"granular":{"rules":true,"sandbox_approval":false,"mcp_elicitations":true,"moon":1}}"#);
    let raw = AskForApproval::Unknown(raw.unwrap());
    assert_eq!(wire(&ThreadStart::new().approval_policy(raw))["approvalPolicy"]["granular"]["moon"], 1);
    assert_eq!(wire(&ThreadStart::new().approval_policy("never")), json!({"approvalPolicy": "never"}));
    assert_eq!(AskForApproval::from("never"), AskForApproval::Never);
    let policy = UnknownVariant::parse(r#"{"type":"moat","crocodiles":7}"#).unwrap();
    assert_eq!(&*policy.kind, "moat");
    let turn = TurnStart::new("T", ["x"]).sandbox_policy(SandboxPolicy::Unknown(policy));
    assert_eq!(wire(&turn)["sandboxPolicy"], json!({"type": "moat", "crocodiles": 7}));
}

#[test]
fn dr_11_the_legacy_approvals_name_their_thread_by_another_member() {
    let exec = json!({
        "conversationId": "T", "callId": "c", "command": ["ls"], "cwd": "/w", "parsedCmd": [],
    });
    let exec = ServerRequestParams::decode("execCommandApproval", &exec.to_string()).unwrap();
    let ServerRequestParams::ExecCommandApproval(ExecCommandApprovalParams { conversation_id, .. }) = exec else {
        panic!("{exec:?}")
    };
    assert_eq!(conversation_id, ThreadId::from("T"));
    let patch = json!({"conversationId": "T", "callId": "c", "fileChanges": {}});
    let patch = ServerRequestParams::decode("applyPatchApproval", &patch.to_string()).unwrap();
    let ServerRequestParams::ApplyPatchApproval(ApplyPatchApprovalParams { conversation_id, .. }) = patch else {
        panic!("{patch:?}")
    };
    assert_eq!(conversation_id, ThreadId::from("T"));
}

#[test]
fn rq_12_a_decode_error_names_the_path_of_the_member_and_quotes_nothing() {
    let mut reply = json!({
        "thread": thread(json!([])), "model": "m", "modelProvider": "p", "cwd": "/w", "approvalPolicy": "never",
        "approvalsReviewer": "user", "sandbox": {"type": "readOnly"},
    });
    ThreadStart::decode_response(&reply.to_string()).unwrap();
    reply["thread"]["createdAt"] = json!("the secret of the user");
    for error in [
        ThreadStart::decode_response(&reply.to_string()).unwrap_err(),
        decode::<ThreadStartResponse>(&reply.to_string()).unwrap_err(),
    ] {
        assert_eq!(error.path, "thread.createdAt");
        assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");
    }

    // Inside a type of the caller's the path is that within ours; of a foreign error only the kind is told.
    #[derive(Debug, Deserialize)]
    #[allow(dead_code)]
    struct Mine {
        reply: ThreadStartResponse,
        count: u8,
    }
    let error = decode::<Mine>(&json!({"reply": reply, "count": 1}).to_string()).unwrap_err();
    assert_eq!(error.path, "thread.createdAt");
    let error = decode::<Mine>(r#"{"count": "the secret of the user"}"#).unwrap_err();
    assert!(!format!("{error} {error:?}").contains("secret"), "{error:?}");

    // Keys of open objects are the peer's text.
    let text = r#"{"threadId":"T","config":{"a":1,"the secret":2}}"#;
    decode::<ThreadFork>(text).unwrap();
    let params = r#"{"requestId":{},"threadId":"T"}"#;
    let error = ServerNotification::decode("serverRequest/resolved", params).unwrap_err();
    assert_eq!(error.path, "requestId");
    assert!(decode::<ThreadStartResponse>("{").is_err());
    assert!(ServerNotification::decode("turn/started", "[]").is_err());
    assert!(ServerNotification::decode("no/such", "}").is_err());
}

#[test]
fn only_ids_and_status_are_required_and_a_missing_status_is_an_error() {
    let turn: Turn = decode(r#"{"id":"U","status":"completed"}"#).unwrap();
    assert!(turn.items.is_empty());
    let turn: Turn = decode(r#"{"id":"U","status":"completed","items":null,"startedAt":null}"#).unwrap();
    assert_eq!((turn.items.len(), turn.started_at), (0, None));
    for (text, path) in [
        (r#"{"status":"completed"}"#, "id"),
        (r#"{"id":null,"status":"completed"}"#, "id"),
        (r#"{"id":"U"}"#, "status"),
        (r#"{"id":"U","status":null}"#, "status"),
        (r#"{"id":"U","status":7}"#, "status"),
    ] {
        assert_eq!(decode::<Turn>(text).unwrap_err().path, path);
    }
    // An object that holds an id must be there too, or an empty id would stand for it.
    assert_eq!(decode::<TurnCompletedNotification>(r#"{"threadId":"T"}"#).unwrap_err().path, "turn");
    assert_eq!(decode::<TurnCompletedNotification>(r#"{"threadId":"T","turn":{}}"#).unwrap_err().path, "turn.id");
    // What is known of a turn survives what does not decode.
    let text = r#"{"id":"U","status":"failed","error":"a word"}"#;
    assert_eq!(decode::<Turn>(text).unwrap_err().path, "error");
    let outline: TurnOutline = decode(text).unwrap();
    assert_eq!((outline.id.as_str(), outline.status), ("U", TurnStatus::Failed));
}

#[test]
fn a_bad_entry_of_a_list_costs_itself_and_keeps_its_reason_and_place() {
    let good = thread(json!([]));
    let mut bad = good.clone();
    bad["updatedAt"] = json!("soon");
    let rows = json!([bad, good, 7, good]);
    let list: ThreadListResponse = decode(&json!({"data": rows, "nextCursor": null}).to_string()).unwrap();
    assert_eq!(list.data.len(), 2);
    let places: Vec<_> =
        list.data.undecodable().iter().map(|entry| (entry.index, entry.reason.path.as_str())).collect();
    assert_eq!(places, [(0, "updatedAt"), (2, "")]);
    assert_eq!(wire(&list)["data"], rows);
    let models: ModelListResponse = decode(r#"{"data":[{"nonsense":true}]}"#).unwrap();
    assert_eq!((models.data.len(), models.data.undecodable().len()), (0, 1));

    let items = json!([
        {"type": "agentMessage", "id": "i1", "text": 5},
        {"type": "agentMessage", "id": "i2", "text": "fine"},
        {"id": "i3"},
        "what",
    ]);
    let turn: Turn = decode(&json!({"id": "U", "status": "completed", "items": items}).to_string()).unwrap();
    let [ThreadItem::Undecodable(first), ThreadItem::AgentMessage(_), ThreadItem::Undecodable(third), last] =
        turn.items.as_slice()
    else {
        panic!("{turn:?}")
    };
    assert_eq!(
        (first.id.as_ref().unwrap().as_str(), &*first.kind, first.reason.path.as_str()),
        ("i1", "agentMessage", "text")
    );
    assert_eq!(third.id.as_ref().unwrap().as_str(), "i3");
    assert_eq!(last.id(), None);
    assert_eq!(wire(&turn)["items"], items);
    let entries: Entries<Turn> = vec![turn].into();
    assert!(entries.undecodable().is_empty() && entries.len() == 1);
}

#[test]
fn large_integers_and_token_counts_keep_their_digits() {
    let usage = json!({
        "totalTokens": 9_007_199_254_740_993_i64, "inputTokens": i64::MAX, "cachedInputTokens": 0,
        "outputTokens": i64::MIN, "reasoningOutputTokens": 1,
    });
    let text = json!({
        "threadId": "T", "turnId": "U",
        "tokenUsage": {"total": usage, "last": usage, "modelContextWindow": 9_007_199_254_740_993_i64},
    });
    let usage: ThreadTokenUsageUpdatedNotification = decode(&text.to_string()).unwrap();
    assert_eq!(usage.token_usage.total.total_tokens, 9_007_199_254_740_993);
    assert_eq!((usage.token_usage.last.input_tokens, usage.token_usage.last.output_tokens), (i64::MAX, i64::MIN));
    assert_eq!(wire(&usage), text);
    let too_large = text.to_string().replace(&i64::MAX.to_string(), "9223372036854775808");
    assert!(decode::<ThreadTokenUsageUpdatedNotification>(&too_large).is_err());
    // What no type reads keeps its digits too.
    let item = r#"{"threadId":"T","turnId":"U","item":{"type":"new","id":"i","n":123456789012345678901234567890.10}}"#;
    let completed: ItemCompletedNotification = decode(item).unwrap();
    assert!(serde_json::to_string(&completed).unwrap().contains(r#""n":123456789012345678901234567890.10}"#));
}

#[test]
fn requests_are_built_from_what_they_need_and_what_one_sets() {
    let turn = TurnStart::new("T", ["Say hello.", "Twice."]).model("gpt-5.5").effort("high");
    assert_eq!(
        wire(&turn),
        json!({"threadId": "T", "model": "gpt-5.5", "effort": "high", "input": [
            {"type": "text", "text": "Say hello."}, {"type": "text", "text": "Twice."},
        ]})
    );
    assert_eq!(TurnStart::METHOD, "turn/start");
    let steer = TurnSteer::new("T", "U", [UserInput::text("Stop that.")]);
    assert_eq!(wire(&steer)["expectedTurnId"], "U");
    assert_eq!(wire(&TurnInterrupt::new("T", "U")), json!({"threadId": "T", "turnId": "U"}));
    let config = ThreadStart::new().config([("model_reasoning_effort", "low")]);
    assert_eq!(wire(&config), json!({"config": {"model_reasoning_effort": "low"}}));
    let sandbox = TurnStart::new("T", ["x"]).sandbox_policy(SandboxPolicy::DangerFullAccess);
    assert_eq!(wire(&sandbox)["sandboxPolicy"], json!({"type": "dangerFullAccess"}));
    assert_eq!(wire(&turnwire_core::protocol::AccountLogout::new()), json!({}));
    // A null in an open map says something: it unsets a variable.
    let exec = turnwire_core::protocol::CommandExec::new(["env"]).env([("A", None), ("B", Some("b".to_owned()))]);
    assert_eq!(wire(&exec)["env"], json!({"A": null, "B": "b"}));
}

#[test]
fn hs_11_a_request_tells_which_experimental_members_it_uses() {
    assert!(ThreadStart::new().model("m").experimental_fields().is_empty());
    let start = ThreadStart::new().experimental_raw_events(true).permissions(":workspace");
    assert_eq!(start.experimental_fields(), ["experimentalRawEvents", "permissions"]);
    // A value can be experimental where its member is not.
    let granular: AskForApproval =
        decode(r#"{"granular":{"rules":true,"sandbox_approval":true,"mcp_elicitations":true}}"#).unwrap();
    let start = ThreadStart::new().approval_policy(granular);
    assert_eq!(start.experimental_fields(), ["askForApproval.granular"]);
    let tokens: turnwire_core::protocol::AccountLoginStart =
        decode(r#"{"type":"chatgptAuthTokens","accessToken":"a","chatgptAccountId":"b"}"#).unwrap();
    assert_eq!(tokens.experimental_fields(), ["account/login/start.chatgptAuthTokens"]);
    const { assert!(!ThreadStart::EXPERIMENTAL && ThreadSettingsUpdate::EXPERIMENTAL) };
    assert!(request_info("thread/settings/update").unwrap().experimental);
    assert_eq!(request_info("no/such"), None);
    let experimental = turnwire_core::protocol::CLIENT_REQUESTS.iter().filter(|info| info.experimental).count();
    assert_eq!((turnwire_core::protocol::CLIENT_REQUESTS.len(), experimental), (172, 67));
}

#[test]
fn hs_12_a_request_tells_which_members_need_a_newer_server_and_since_when() {
    assert!(TurnStart::new("T", ["x"]).model("m").newer_fields().is_empty());
    let turn = TurnStart::new("T", ["x"]).service_tier_for_turn("fast").root_turn_id("R");
    assert_eq!(turn.newer_fields(), [("rootTurnId", "0.163.0"), ("serviceTierForTurn", "0.154.0")]);
    // So does a value of a member that is old enough.
    let audio: UserInput = decode(r#"{"type":"audio","url":"data:"}"#).unwrap();
    assert_eq!(TurnStart::new("T", [audio]).newer_fields(), [("userInput.audio", "0.154.0")]);
    assert_eq!(TurnStart::SINCE, None);
    assert_eq!(turnwire_core::protocol::ThreadRevert::SINCE, Some("0.154.0"));
    assert_eq!(request_info("thread/delete").unwrap().since, turnwire_core::protocol::ThreadDelete::SINCE);
}

#[test]
fn every_method_of_the_server_has_a_type_and_an_unknown_one_keeps_what_it_says() {
    assert_eq!((ServerNotification::METHODS.len(), ServerRequestParams::METHODS.len()), (87, 11));
    let unknown = ServerNotification::decode("turn/dreamt", r#"{"sheep":1.50}"#).unwrap();
    let ServerNotification::Unknown { method, params } = &unknown else { panic!("{unknown:?}") };
    assert_eq!((&**method, params.as_str()), ("turn/dreamt", r#"{"sheep":1.50}"#));
    assert_eq!((unknown.method(), unknown.params().as_str()), ("turn/dreamt", r#"{"sheep":1.50}"#));
}

#[test]
fn debug_shows_ids_words_and_numbers_but_no_text_and_no_secret() {
    let login: turnwire_core::protocol::AccountLoginStart =
        decode(r#"{"type":"apiKey","apiKey":"sk-secret"}"#).unwrap();
    let shown = format!("{login:?} {:?}", TurnStart::new("T-1", ["my diary"]));
    assert!(!shown.contains("sk-secret") && !shown.contains("diary"), "{shown}");
    assert!(shown.contains("T-1") && shown.contains("apiKey"), "{shown}");
}
