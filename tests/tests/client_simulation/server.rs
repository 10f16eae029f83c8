//! A server that answers whatever the futures of the client ask of it, and takes its time.

use serde_json::{Value, json};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

/// A thread that can be resumed, one that another process holds at first, and one that does not exist.
pub(crate) const STORED: &str = "01a00000-0000-7000-8000-000000000001";
pub(crate) const WRITTEN: &str = "01a00000-0000-7000-8000-000000000002";
pub(crate) const ABSENT: &str = "01a00000-0000-7000-8000-000000000003";

pub(crate) fn script() -> Script {
    let script = Script::new()
        .reply_delay(20)
        .started_delay(20)
        .delta_delay(5)
        .stored_thread(STORED)
        .stored_thread(WRITTEN)
        .turn(TurnPlan::when("short").text("A few words.").deltas(3))
        .turn(TurnPlan::when("long").text("More of them").deltas(2).hold())
        .turn(TurnPlan::when("typed").text("{\"count\":3}").deltas(2))
        .turn(TurnPlan::when("asks").command("ls", "one\ntwo\n", 0).with_approval().text("Done.").deltas(2));
    let busy = Rule::on("thread/resume").when("threadId", WRITTEN).nth(1);
    let script = script
        .rule(busy.reply_error(-32600, format!("thread {WRITTEN} already has an active writer")))
        .rule(Rule::on("thread/list").nth(1).reply_error(-32001, "Server overloaded"));
    with_logins(with_pages(with_reviews(script)))
}

/// A compaction and reviews, each of which is a turn.
fn with_reviews(script: Script) -> Script {
    // The first of a turn makes its id, and what comes after names it.
    let turn = |id: &str, status: &str| {
        let turn = json!({"id": id, "rootTurnId": "$turn", "status": status, "items": []});
        json!({"threadId": "$thread", "turn": turn})
    };
    let item = json!({"threadId": "$thread", "turnId": "$turn", "item": {"type": "contextCompaction", "id": "c"}});
    let compaction = Rule::on("thread/compact/start")
        .reply(json!({}))
        .delay(10)
        .notify("turn/started", turn("$new_turn", "inProgress"))
        .notify("item/started", item.clone())
        .delay(10)
        .notify("item/completed", item)
        .notify("turn/completed", turn("$turn", "completed"));
    let review = |delivery: &str, thread: &str| {
        let taken = json!({"reviewThreadId": thread, "turn": {"id": "$new_turn", "status": "inProgress", "items": []}});
        Rule::on("review/start")
            .when("delivery", delivery)
            .delay(10)
            .reply(taken)
            .notify("turn/started", turn("$turn", "inProgress"))
            .delay(10)
            .notify("turn/completed", turn("$turn", "completed"))
    };
    script.rule(compaction).rule(review("inline", "$thread")).rule(review("detached", "$new_thread"))
}

/// The models that are on the two pages of [`with_pages`], by their ids.
pub(crate) const MODELS: [&str; 3] = ["first", "second", "third"];

/// A list of models in two pages, for those who want the hidden ones too.
fn with_pages(script: Script) -> Script {
    let model = |id: &str| {
        json!({
            "id": id, "model": id, "displayName": id, "description": id, "hidden": true, "isDefault": false,
            "defaultReasoningEffort": "medium", "supportedReasoningEfforts": [], "inputModalities": ["text"],
            "serviceTiers": [], "supportsPersonality": false, "upgrade": null,
        })
    };
    let page = |ids: &[&str], next: Value| {
        let models: Vec<Value> = ids.iter().map(|id| model(id)).collect();
        json!({"data": models, "nextCursor": next})
    };
    let second = Rule::on("model/list").when("cursor", "two").delay(5).reply(page(&MODELS[2..], Value::Null));
    let first = Rule::on("model/list").when("includeHidden", true).delay(5).reply(page(&MODELS[..2], json!("two")));
    script.rule(second).rule(first)
}

/// Logins that work after a while.
fn with_logins(script: Script) -> Script {
    let login = |kind: &str, id: Value| {
        let begun = json!({"type": kind, "loginId": id, "authUrl": "https://x.invalid"});
        let ended = json!({"loginId": id, "success": true, "error": null});
        let rule = Rule::on("account/login/start").when("type", kind).reply(begun);
        rule.delay(30).notify("account/login/completed", ended)
    };
    script.rule(login("apiKey", Value::Null)).rule(login("chatgpt", json!("L")))
}
