use crate::lab::{Lab, completed, delta, message};
use serde_json::json;
use turnwire_core::{connection::Scope, turn::State};

#[test]
fn rt_01_a_childs_turn_within_the_parents_leaves_the_parent_alone() {
    let mut lab = Lab::ready();
    let (key, reader) = lab.turn("parent", "U");
    let say = |lab: &mut Lab, thread: &str, turn: &str, text: &str| {
        let (method, params) = delta(thread, turn, "m", text);
        lab.notify(method, params);
        lab.notify("item/completed", json!({"threadId": thread, "turnId": turn, "item": message("m", text, None)}));
    };
    lab.notify("thread/started", json!({"thread": {"id": "child", "parentThreadId": "parent"}}));
    lab.notify("turn/started", json!({"threadId": "child", "turn": {"id": "C", "status": "inProgress"}}));
    say(&mut lab, "child", "C", "the child speaks");
    let (method, params) = completed("child", "C", "completed");
    lab.notify(method, params);
    // Even under the same turn id, which forked threads share, the thread decides.
    let (method, params) = completed("child", "U", "failed");
    lab.notify(method, params);
    assert_eq!(lab.connection.turn_state(key), Some(State::Running));
    assert_eq!(lab.connection.turn_id(key).map(|id| id.as_str()), Some("U"));
    say(&mut lab, "parent", "U", "the parent speaks");
    let (method, params) = completed("parent", "U", "completed");
    lab.notify(method, params);
    let result = lab.connection.take_report(key).expect("ended").expect("started").into_result().expect("completed");
    assert_eq!((result.final_response.as_deref(), result.items.len()), (Some("the parent speaks"), 1));
    assert_eq!(
        lab.read(reader),
        ["delta m the parent speaks", "item/completed m", "turn/completed", "ended Completed", "finished"]
    );
}

#[test]
fn rt_05_what_names_no_thread_goes_to_the_connection() {
    let mut lab = Lab::ready();
    let connection = lab.connection.subscribe(Scope::Connection);
    let thread = lab.connection.subscribe(Scope::Thread("T".into()));
    let (_, turn) = lab.turn("T", "U");
    lab.notify("account/rateLimits/updated", json!({"rateLimits": {}}));
    lab.notify("brand/new", json!({"anything": [1]}));
    lab.say(json!({"method": "without/params"}));
    lab.notify("warning", json!({"threadId": null, "message": "careful"}));
    lab.notify("thread/status/changed", json!({"threadId": "stranger", "status": {"type": "idle"}}));
    assert_eq!(
        lab.read(connection),
        ["account/rateLimits/updated", "brand/new", "without/params", "warning", "thread/status/changed"]
    );
    assert!(lab.read(thread).is_empty() && lab.read(turn).is_empty());
}

#[test]
fn a_thread_is_told_everything_about_it_whoever_started_the_turn() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Thread("T".into()));
    lab.notify("turn/started", json!({"threadId": "T", "turn": {"id": "goal", "status": "inProgress"}}));
    lab.notify("thread/name/updated", json!({"threadId": "T", "name": "n"}));
    lab.notify("brand/new", json!({"threadId": "T", "turnId": "goal"}));
    let (method, params) = delta("T", "goal", "m", "working");
    lab.notify(method, params);
    let (method, params) = completed("T", "goal", "completed");
    lab.notify(method, params);
    assert_eq!(
        lab.read(reader),
        ["turn/started", "thread/name/updated", "brand/new", "delta m working", "turn/completed"]
    );
}

#[test]
fn dr_11_a_legacy_approval_is_routed_by_its_conversation() {
    let mut lab = Lab::ready();
    let reader = lab.connection.subscribe(Scope::Thread("T".into()));
    lab.say(json!({"method": "execCommandApproval", "id": 4, "params": {"conversationId": "T", "callId": "c"}}));
    assert_eq!(lab.read(reader), ["refused execCommandApproval"]);
    assert_eq!(lab.sent_one(), json!({"id": 4, "result": {"decision": "denied"}}));
}

#[test]
fn every_request_of_the_server_is_refused_in_the_shape_it_expects() {
    let expected = [
        ("item/commandExecution/requestApproval", json!({"result": {"decision": "decline"}})),
        ("item/fileChange/requestApproval", json!({"result": {"decision": "decline"}})),
        ("item/permissions/requestApproval", json!({"result": {"permissions": {}}})),
        ("item/tool/requestUserInput", json!({"result": {"answers": {}}})),
        ("mcpServer/elicitation/request", json!({"result": {"action": "decline"}})),
        ("applyPatchApproval", json!({"result": {"decision": "denied"}})),
        ("execCommandApproval", json!({"result": {"decision": "denied"}})),
    ];
    for (method, answer) in expected {
        let mut lab = Lab::ready();
        let (_, reader) = lab.turn("T", "U");
        lab.say(json!({"method": method, "id": 0, "params": {"threadId": "T", "turnId": "U", "itemId": "i"}}));
        let mut sent = lab.sent_one();
        assert_eq!(sent["id"], 0);
        sent.as_object_mut().expect("an object").remove("id");
        assert_eq!(sent, answer, "{method}");
        assert_eq!(lab.read(reader), [format!("refused {method}")]);
    }
    for (method, code) in
        [("account/chatgptAuthTokens/refresh", -32603), ("attestation/generate", -32603), ("brand/new", -32601)]
    {
        let mut lab = Lab::ready();
        lab.say(json!({"method": method, "id": "x", "params": {}}));
        let sent = lab.sent_one();
        assert_eq!((&sent["id"], &sent["error"]["code"]), (&json!("x"), &json!(code)), "{method}");
    }
    let mut lab = Lab::ready();
    lab.say(json!({"method": "item/tool/call", "id": 1, "params": {"threadId": "T", "turnId": "U"}}));
    assert_eq!(lab.sent_one()["result"]["success"], false);
}

#[test]
fn rt_08_ten_thousand_turns_that_nobody_listened_to_leave_nothing() {
    let mut lab = Lab::ready();
    for n in 0..10_000 {
        let thread = format!("T{}", n % 7);
        let turn = format!("U{n}");
        let (key, reader) = lab.turn(&thread, &turn);
        lab.connection.unsubscribe(reader);
        lab.connection.release_turn(key);
        let (method, params) = delta(&thread, &turn, "m", "text that nobody reads");
        lab.notify(method, params);
        lab.notify("item/completed", json!({"threadId": thread, "turnId": turn, "item": message("m", "text", None)}));
        let (method, params) = completed(&thread, &turn, "completed");
        lab.notify(method, params);
        lab.events.clear();
    }
    lab.assert_quiet();
    let counters = lab.connection.counters();
    assert_eq!((counters.threads, counters.subscriptions, counters.unread_bytes), (0, 0, 0));
}
