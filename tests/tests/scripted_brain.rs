//! The default brain behaves as the real server was seen to behave.

use std::time::Duration;

use serde_json::{Value, json};
use turnwire_testkit::scripted::{Early, Rule, Script, ScriptedServer, State, TurnPlan};

/// What a real server of 0.163.0 wrote: handshake, thread start, and the second turn of that thread.
const RECORDED: &str = r#"[
    {"id":1,"result":{"userAgent":"raw_driver/0.163.0 (Debian 12.0.0; x86_64) unknown (raw_driver; 1.2.3)",
     "codexHome":"/home/user/.codex","platformFamily":"unix","platformOs":"linux"}},
    {"method":"configWarning",
     "params":{"summary":"Codex could not find bubblewrap on PATH.",
     "details":null},"emittedAtMs":1795349267145},
    {"method":"remoteControl/status/changed","params":{"status":"disabled","serverName":"host",
     "installationId":"00000000-0000-4000-8000-000000000000","environmentId":null},"emittedAtMs":1795349267145},
    {"id":2,"result":{"thread":{"id":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "environments":[{"environmentId":"local","cwd":"/workspace","runtimeWorkspaceRoots":["/workspace"]}],
     "extra":null,"sessionId":"01a20327-c2d1-7790-9481-4e4550c5cab5","forkedFromId":null,"parentThreadId":null,
     "preview":"","ephemeral":false,"section":null,"sectionEnteredAt":null,"projectId":null,
     "historyMode":"paginated","modelProvider":"mock","model":"gpt-5.5","reasoningEffort":null,
     "createdAt":1795349267,"updatedAt":1795349267,"recencyAt":1795349267,"status":{"type":"idle"},
     "path":"/home/user/.codex/sessions/rollout-01a20327.jsonl",
     "cwd":"/workspace","cliVersion":"0.163.0","originator":"raw_driver","source":"vscode",
     "canAcceptDirectInput":true,"threadSource":null,"agentNickname":null,"agentRole":null,"gitInfo":null,
     "name":null,"daybreakEnabled":null,"turns":[]},"model":"gpt-5.5","modelProvider":"mock","serviceTier":null,
     "disabledPluginIds":[],"cwd":"/workspace","runtimeWorkspaceRoots":["/workspace"],"instructionSources":[],
     "approvalPolicy":"never","approvalsReviewer":"user","sandbox":{"type":"readOnly","networkAccess":false},
     "activePermissionProfile":null,"reasoningEffort":null,"multiAgentMode":"explicitRequestOnly"}},
    {"method":"thread/started","params":{"thread":{"id":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "environments":[{"environmentId":"local","cwd":"/workspace","runtimeWorkspaceRoots":["/workspace"]}],
     "extra":null,"sessionId":"01a20327-c2d1-7790-9481-4e4550c5cab5","forkedFromId":null,"parentThreadId":null,
     "preview":"","ephemeral":false,"section":null,"sectionEnteredAt":null,"projectId":null,
     "historyMode":"paginated","modelProvider":"mock","model":"gpt-5.5","reasoningEffort":null,
     "createdAt":1795349267,"updatedAt":1795349267,"recencyAt":1795349267,"status":{"type":"idle"},
     "path":"/home/user/.codex/sessions/rollout-01a20327.jsonl",
     "cwd":"/workspace","cliVersion":"0.163.0","originator":"raw_driver","source":"vscode",
     "canAcceptDirectInput":true,"threadSource":null,"agentNickname":null,"agentRole":null,"gitInfo":null,
     "name":null,"daybreakEnabled":null,"turns":[]}},"emittedAtMs":1795349267196},
    {"id":4,"result":{"turn":{"id":"01a20327-c4ea-74a2-af09-0e1db1630f62",
     "rootTurnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","items":[],"itemsView":"notLoaded","status":"inProgress",
     "error":null,"startedAt":null,"completedAt":null,"durationMs":null}}},
    {"method":"thread/status/changed","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "status":{"type":"active","activeFlags":[]}},"emittedAtMs":1795349267696},
    {"method":"turn/started","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turn":{"id":"01a20327-c4ea-74a2-af09-0e1db1630f62","rootTurnId":"01a20327-c4ea-74a2-af09-0e1db1630f62",
     "items":[],"itemsView":"notLoaded","status":"inProgress","error":null,"startedAt":1795349267,
     "completedAt":null,"durationMs":null}},"emittedAtMs":1795349267696},
    {"method":"item/started","params":{"item":{"type":"userMessage","id":"01a20327-c4f7-77c3-abd5-92c0e09c4397",
     "clientId":null,"content":[{"type":"text","text":"Thanks, and now?","text_elements":[]}]},
     "threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5","turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62",
     "startedAtMs":1795349267707},"emittedAtMs":1795349267707},
    {"method":"item/completed","params":{"item":{"type":"userMessage","id":"01a20327-c4f7-77c3-abd5-92c0e09c4397",
     "clientId":null,"content":[{"type":"text","text":"Thanks, and now?","text_elements":[]}]},
     "threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5","turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62",
     "completedAtMs":1795349267707},"emittedAtMs":1795349267709},
    {"method":"item/started","params":{"item":{"type":"agentMessage","id":"msg_173_0","text":"","phase":null,
     "memoryCitation":null,"delivery":null,"questions":null},"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","startedAtMs":1795349267737},"emittedAtMs":1795349267737},
    {"method":"item/agentMessage/delta","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","itemId":"msg_173_0","delta":"Nothi"},
     "emittedAtMs":1795349267737},
    {"method":"item/agentMessage/delta","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","itemId":"msg_173_0","delta":"ng el"},
     "emittedAtMs":1795349267745},
    {"method":"item/agentMessage/delta","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","itemId":"msg_173_0","delta":"se to"},
     "emittedAtMs":1795349267755},
    {"method":"item/agentMessage/delta","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","itemId":"msg_173_0","delta":" do."},
     "emittedAtMs":1795349267766},
    {"method":"item/completed","params":{"item":{"type":"agentMessage","id":"msg_173_0",
     "text":"Nothing else to do.","phase":null,"memoryCitation":null,"delivery":null,"questions":null},
     "threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5","turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62",
     "completedAtMs":1795349267776},"emittedAtMs":1795349267777},
    {"method":"thread/tokenUsage/updated","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turnId":"01a20327-c4ea-74a2-af09-0e1db1630f62","tokenUsage":{"total":{"totalTokens":45,"inputTokens":30,
     "cachedInputTokens":0,"cacheWriteInputTokens":0,"outputTokens":15,"reasoningOutputTokens":0},
     "last":{"totalTokens":15,"inputTokens":10,"cachedInputTokens":0,"cacheWriteInputTokens":0,"outputTokens":5,
     "reasoningOutputTokens":0},"modelContextWindow":258400}},"emittedAtMs":1795349267781},
    {"method":"account/rateLimits/updated","params":{"rateLimits":{"limitId":"codex","limitName":null,
     "normalModelSlug":null,"primary":null,"secondary":null,"credits":null,"individualLimit":null,
     "spendControlReached":null,"planType":null,"rateLimitReachedType":null}},"emittedAtMs":1795349267781},
    {"method":"thread/readState/changed","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "readState":{"firstUnread":{"type":"turn","turnId":"01a20327-c308-7080-9b4f-716295cf80a7"},
     "revision":"a0afe40d-2362-4982-8325-0b5daa68ca7a"}},"emittedAtMs":1795349267809},
    {"method":"thread/status/changed","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "status":{"type":"idle"}},"emittedAtMs":1795349267810},
    {"method":"turn/completed","params":{"threadId":"01a20327-c2d1-7790-9481-4e4550c5cab5",
     "turn":{"id":"01a20327-c4ea-74a2-af09-0e1db1630f62","rootTurnId":"01a20327-c4ea-74a2-af09-0e1db1630f62",
     "items":[{"type":"agentMessage","id":"msg_173_0","text":"Nothing else to do.","phase":null,
     "memoryCitation":null,"delivery":null,"questions":null}],"itemsView":"summary","status":"completed",
     "error":null,"startedAt":1795349267,"completedAt":1795349267,"durationMs":91}},"emittedAtMs":1795349267810}
]"#;

/// A client of the machine: it writes requests and reads all lines that are due.
struct Client {
    server: ScriptedServer,
    now: u64,
    next_id: u64,
    thread: String,
}

impl Client {
    fn new(script: Script) -> Self {
        Self { server: ScriptedServer::new(script), now: 0, next_id: 0, thread: String::new() }
    }

    /// Handshake, and a thread.
    fn with_thread(script: Script) -> Self {
        let mut client = Self::new(script);
        client.initialize();
        let started = client.call("thread/start", json!({}));
        client.thread = started["result"]["thread"]["id"].as_str().expect("a thread id").to_owned();
        client.lines();
        client
    }

    fn initialize(&mut self) -> Value {
        self.call(
            "initialize",
            json!({"clientInfo": {"name": "raw_driver", "title": "Raw driver", "version": "1.2.3"},
                "capabilities": {"experimentalApi": true}}),
        )
    }

    fn write(&mut self, line: &Value) {
        self.server.handle_input(Duration::from_millis(self.now), format!("{line}\n").as_bytes());
    }

    fn request(&mut self, method: &str, params: Value) -> u64 {
        self.next_id += 1;
        self.write(&json!({"id": self.next_id, "method": method, "params": params}));
        self.next_id
    }

    /// The lines that are due now.
    fn lines(&mut self) -> Vec<Value> {
        let out = self.server.drain_output(Duration::from_millis(self.now));
        let text = String::from_utf8(out).expect("UTF-8");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    /// The lines that are due in so many milliseconds from now.
    fn after(&mut self, ms: u64) -> Vec<Value> {
        self.now += ms;
        self.lines()
    }

    /// A request and its reply, which must be due at once. Other lines are dropped.
    fn call(&mut self, method: &str, params: Value) -> Value {
        let id = self.request(method, params);
        let lines = self.lines();
        lines.into_iter().find(|line| line["id"] == id && line.get("method").is_none()).expect("a reply")
    }

    fn start(&mut self, text: &str) -> String {
        let thread = self.thread.clone();
        let reply = self.call("turn/start", json!({"threadId": thread, "input": [{"type": "text", "text": text}]}));
        reply["result"]["turn"]["id"].as_str().unwrap_or_default().to_owned()
    }

    fn steer(&mut self, turn: &str, text: &str) -> Value {
        let input = if text.is_empty() { json!([]) } else { json!([{"type": "text", "text": text}]) };
        let params = json!({"threadId": self.thread, "expectedTurnId": turn, "input": input});
        self.call("turn/steer", params)
    }

    fn interrupt(&mut self, turn: &str) -> Value {
        let params = json!({"threadId": self.thread, "turnId": turn});
        self.call("turn/interrupt", params)
    }
}

/// What a line is about: the method, or what it answers.
fn names(lines: &[Value]) -> Vec<String> {
    lines
        .iter()
        .map(|line| match (line["method"].as_str(), line.get("error")) {
            (Some(method), _) => method.to_owned(),
            (None, None) => format!("reply {}", line["id"]),
            (None, Some(_)) => format!("error {}", line["id"]),
        })
        .collect()
}

fn find<'a>(lines: &'a [Value], method: &str) -> &'a Value {
    lines.iter().find(|line| line["method"] == method).unwrap_or_else(|| panic!("no {method} in {:?}", names(lines)))
}

/// The members and their types; the values only where they are words of the protocol.
fn shape(value: &Value) -> Value {
    const WORDS: &[&str] =
        &["type", "status", "itemsView", "method", "text", "delta", "phase", "historyMode", "source"];
    match value {
        Value::Array(items) => Value::Array(items.iter().map(shape).collect()),
        Value::Bool(_) => json!("bool"),
        Value::Null => Value::Null,
        Value::Number(_) => json!("number"),
        Value::Object(members) => Value::Object(
            members
                .iter()
                .map(|(name, member)| {
                    let word = member.is_string() && WORDS.contains(&name.as_str());
                    (name.clone(), if word { member.clone() } else { shape(member) })
                })
                .collect(),
        ),
        Value::String(_) => json!("string"),
    }
}

#[test]
fn a_plain_turn_has_the_lines_the_order_and_the_members_of_the_recorded_one() {
    let recorded: Vec<Value> = serde_json::from_str(RECORDED).expect("JSON");
    let script = Script::new()
        .turn(TurnPlan::when("Say hello").text("Hello!"))
        .turn(TurnPlan::when("Thanks").text("Nothing else to do.").deltas(4));
    let mut client = Client::new(script);
    client.request(
        "initialize",
        json!({"clientInfo": {"name": "raw_driver", "title": "Raw driver", "version": "1.2.3"},
            "capabilities": {"experimentalApi": true}}),
    );
    let mut played = client.lines();
    client.request("thread/start", json!({"sandbox": "read-only", "approvalPolicy": "never"}));
    let started = client.lines();
    client.thread = started[0]["result"]["thread"]["id"].as_str().expect("a thread id").to_owned();
    played.extend(started);
    client.start("Say hello and explain what you see.");
    client.after(1000);
    let thread = client.thread.clone();
    client.next_id = 3;
    client.request("turn/start", json!({"threadId": thread, "input": [{"type": "text", "text": "Thanks, and now?"}]}));
    played.extend(client.after(1000));

    assert_eq!(names(&played), names(&recorded));
    for (played, recorded) in played.iter().zip(&recorded) {
        let (mut played, mut recorded) = (shape(played), shape(recorded));
        // The deltas of the recorded turn have other bounds.
        if recorded["method"] == "item/agentMessage/delta" {
            played["params"]["delta"] = json!("string");
            recorded["params"]["delta"] = json!("string");
        }
        assert_eq!(played, recorded);
    }
}

#[test]
fn the_deltas_of_an_item_are_its_text_and_come_one_delay_apart() {
    let mut client = Client::with_thread(Script::new().delta_delay(10).turn(TurnPlan::new().text("Ünï ✓").deltas(3)));
    client.start("x");
    let lines = client.after(1000);
    let deltas: Vec<&Value> = lines.iter().filter(|line| line["method"] == "item/agentMessage/delta").collect();
    let text: String = deltas.iter().filter_map(|line| line["params"]["delta"].as_str()).collect();
    assert_eq!((deltas.len(), text.as_str()), (3, "Ünï ✓"));
    let times: Vec<u64> = deltas.iter().filter_map(|line| line["emittedAtMs"].as_u64()).collect();
    assert_eq!((times[1] - times[0], times[2] - times[1]), (10, 10));
    assert_eq!(find(&lines, "turn/completed")["params"]["turn"]["items"][0]["text"], "Ünï ✓");
}

#[test]
fn the_handshake_is_refused_as_the_real_server_does() {
    let mut client = Client::new(Script::new().version("0.170.1"));
    let message = |reply: Value| reply["error"]["message"].as_str().unwrap_or_default().to_owned();
    assert_eq!(message(client.call("thread/loaded/list", json!({}))), "Not initialized");
    assert_eq!(message(client.call("initialize", json!({}))), "Invalid request: missing field `clientInfo`");
    let bad = client.call("initialize", json!({"clientInfo": {"name": "bad\nname", "version": "1"}}));
    assert!(message(bad).starts_with("Invalid clientInfo.name"));
    let good = client.initialize();
    let agent = good["result"]["userAgent"].as_str().unwrap_or_default();
    assert!(agent.starts_with("raw_driver/0.170.1 (turnwire-scripted-server; fake)"), "{agent}");
    assert_eq!(message(client.initialize()), "Already initialized");
    client.write(&json!({"method": "initialized"}));
    assert!(client.lines().is_empty());
    let unknown = message(client.call("no/such", json!({})));
    assert!(unknown.starts_with("Invalid request: unknown variant `no/such`, expected one of `initialize`, "));
    client.next_id += 1;
    client.write(&json!({"id": "text", "method": "thread/loaded/list"}));
    assert_eq!(client.lines()[0]["error"]["message"], "Invalid request: missing field `params`");
    assert_eq!(client.call("config/read", json!({}))["error"]["code"], -32601);
}

#[test]
fn without_the_capability_experimental_methods_and_notifications_are_held_back() {
    let mut client = Client::new(Script::new());
    let opted_out = json!(["thread/started", "item/agentMessage/delta"]);
    client.call(
        "initialize",
        json!({"clientInfo": {"name": "n", "version": "1"}, "capabilities": {"optOutNotificationMethods": opted_out}}),
    );
    let refused = client.call("mock/experimentalMethod", json!({}));
    assert_eq!(refused["error"]["message"], "mock/experimentalMethod requires experimentalApi capability");
    let id = client.request("thread/start", json!({}));
    let lines = client.lines();
    assert_eq!(names(&lines), [format!("reply {id}")]);
    client.thread = lines[0]["result"]["thread"]["id"].as_str().expect("a thread id").to_owned();
    let thread = client.thread.clone();
    let input = json!([{"type": "text", "text": "x"}]);
    client.request("turn/start", json!({"threadId": thread, "input": input, "effort": "high"}));
    let methods = names(&client.after(1000));
    for held_back in ["thread/settings/updated", "thread/readState/changed", "item/agentMessage/delta"] {
        assert!(!methods.contains(&held_back.to_owned()), "{held_back}");
    }
    assert!(methods.contains(&"turn/completed".to_owned()));
}

#[test]
fn events_can_come_before_the_reply_to_turn_start() {
    let input = json!([{"type": "text", "text": "x"}]);
    let positions = |early: Early| {
        let mut client = Client::with_thread(Script::new().early(early).reply_delay(20));
        let thread = client.thread.clone();
        let id = client.request("turn/start", json!({"threadId": thread, "input": input}));
        let lines = names(&client.after(1000));
        let at = |name: &str| lines.iter().position(|line| line == name).unwrap_or_else(|| panic!("no {name}"));
        (at(&format!("reply {id}")), at("turn/started"), at("item/started"), at("turn/completed"))
    };
    let (reply, started, ..) = positions(Early::None);
    assert!(reply < started);
    let (reply, started, item, _) = positions(Early::Started);
    assert!(started < reply && reply < item);
    let (reply, _, _, completed) = positions(Early::Completed);
    assert!(completed < reply);
}

#[test]
fn a_turn_start_on_a_busy_thread_joins_the_running_turn() {
    let mut client = Client::with_thread(Script::new().turn(TurnPlan::when("long").hold()));
    let turn = client.start("long");
    client.after(100);
    let thread = client.thread.clone();
    let other_schema = json!({"threadId": thread, "input": [], "outputSchema": {"type": "object"}});
    let refused = client.call("turn/start", other_schema);
    assert_eq!(refused["error"]["code"], -32603);
    assert_eq!(refused["error"]["message"], "failed to submit turn input: ActiveTurnOutputSchemaMismatch");
    let input = json!([{"type": "text", "text": "also"}]);
    let policy = json!({"type": "dangerFullAccess"});
    let id = client.request(
        "turn/start",
        json!({"threadId": thread, "input": input, "clientUserMessageId": "m-2", "sandboxPolicy": policy}),
    );
    let lines = client.after(100);
    assert_eq!(lines[0]["id"], id);
    assert_eq!(lines[0]["result"]["turn"]["id"], turn.as_str());
    let methods = names(&lines);
    assert!(!methods.contains(&"turn/started".to_owned()));
    assert_eq!(methods.iter().filter(|method| *method == "turn/completed").count(), 1);
    assert_eq!(find(&lines, "thread/settings/updated")["params"]["threadSettings"]["sandboxPolicy"], policy);
    let message = find(&lines, "item/started");
    assert_eq!(message["params"]["item"]["clientId"], "m-2");
    assert_eq!(find(&lines, "turn/completed")["params"]["turn"]["items"][0]["text"], "You also said: also");
}

#[test]
fn a_version_before_0_154_has_the_old_ways() {
    let mut client = Client::with_thread(Script::new().version("0.133.0").turn(TurnPlan::when("long").hold()));
    let turn = client.start("long");
    client.after(100);
    let dead = client.start("also");
    assert_ne!(turn, dead);
    let lines = client.after(100);
    assert!(lines.iter().all(|line| line.get("emittedAtMs").is_none()));
    assert!(!lines.iter().any(|line| line.to_string().contains(&dead)), "nothing names the dead id");
    let completed = &find(&lines, "turn/completed")["params"]["turn"];
    assert_eq!((completed["items"].clone(), completed.get("rootTurnId")), (json!([]), None));
}

#[test]
fn steering_is_accepted_or_refused_with_the_real_texts() {
    let mut client = Client::with_thread(Script::new().turn(TurnPlan::when("trip").text("Thinking.").hold()));
    let turn = client.start("Plan a trip.");
    client.after(100);
    let message = |reply: Value| reply["error"]["message"].as_str().unwrap_or_default().to_owned();
    let other = "01a00000-0000-7000-8000-000000000000";
    let expected = format!("expected active turn id `{other}` but found `{turn}`");
    assert_eq!(message(client.steer(other, "By train.")), expected);
    assert_eq!(message(client.steer("", "By train.")), "expectedTurnId must not be empty");
    assert_eq!(message(client.steer(&turn, "")), "input must not be empty");
    let thread = client.thread.clone();
    let steer = |text: &str| {
        json!({"threadId": thread, "expectedTurnId": turn, "input": [{"type": "text", "text": text}],
            "clientUserMessageId": text})
    };
    let first = client.request("turn/steer", steer("By train."));
    let second = client.request("turn/steer", steer("Two days."));
    let lines = client.after(100);
    let replies: Vec<&Value> = lines.iter().filter(|line| line.get("method").is_none()).collect();
    assert_eq!(replies[0], &json!({"id": first, "result": {"turnId": turn}}));
    assert_eq!(replies[1], &json!({"id": second, "result": {"turnId": turn}}));
    let said: Vec<&Value> = lines
        .iter()
        .filter(|line| line["method"] == "item/completed" && line["params"]["item"]["type"] == "userMessage")
        .map(|line| &line["params"]["item"]["clientId"])
        .collect();
    assert_eq!(said, ["By train.", "Two days."]);
    let items = &find(&lines, "turn/completed")["params"]["turn"]["items"];
    assert_eq!(items[0]["text"], "You also said: By train. Two days.");
    assert_eq!(message(client.steer(&turn, "Too late.")), "no active turn to steer");
}

#[test]
fn interrupting_follows_the_real_rules() {
    let mut client = Client::with_thread(Script::new().turn(TurnPlan::new().hold()));
    let message = |reply: Value| reply["error"]["message"].as_str().unwrap_or_default().to_owned();
    let other = "01a00000-0000-7000-8000-000000000000";
    assert_eq!(message(client.interrupt(other)), "no active turn to interrupt");
    assert_eq!(client.interrupt("")["result"], json!({}));
    // Between the reply and `turn/started` it is refused, and the turn runs on.
    let turn = client.start("Count.");
    assert_eq!(message(client.interrupt(&turn)), "no active turn to interrupt");
    assert_eq!(client.interrupt("")["result"], json!({}));
    assert!(names(&client.after(100)).contains(&"turn/started".to_owned()));
    assert_eq!(message(client.interrupt(other)), format!("expected active turn id {other} but found {turn}"));
    let thread = client.thread.clone();
    let id = client.request("turn/interrupt", json!({"threadId": thread, "turnId": turn}));
    let lines = client.lines();
    let expected = [&format!("reply {id}"), "thread/readState/changed", "thread/status/changed", "turn/completed"];
    assert_eq!(names(&lines), expected);
    let completed = &find(&lines, "turn/completed")["params"]["turn"];
    assert_eq!((&completed["status"], &completed["itemsView"]), (&json!("interrupted"), &json!("notLoaded")));
    assert_eq!(completed["items"], json!([]));
    // A second interrupt of the interrupted turn is answered only with the next good one.
    let unanswered = client.request("turn/interrupt", json!({"threadId": thread, "turnId": turn}));
    assert!(client.after(60_000).is_empty());
    let next = client.start("Count on.");
    client.after(100);
    let id = client.request("turn/interrupt", json!({"threadId": thread, "turnId": next}));
    let lines = names(&client.lines());
    assert_eq!(lines[..2], [format!("reply {unanswered}"), format!("reply {id}")]);
}

#[test]
fn an_interrupt_of_an_unfinished_turn_leaves_its_message_open() {
    let mut client = Client::with_thread(Script::new().delta_delay(10));
    let turn = client.start("a rather long prompt");
    let lines = client.after(20);
    assert!(names(&lines).contains(&"item/agentMessage/delta".to_owned()));
    let id = client.request("turn/interrupt", json!({"threadId": client.thread.clone(), "turnId": turn}));
    let methods = names(&client.after(1000));
    assert_eq!(methods[0], format!("reply {id}"));
    assert_eq!(methods.last().map(String::as_str), Some("turn/completed"));
    assert!(!methods.iter().any(|method| method.starts_with("item/")));
}

#[test]
fn commands_and_file_changes_are_shown_and_asked_about() {
    let plan =
        || TurnPlan::new().command("ls", "a\nb\n", 0).file_change("/workspace/hello.txt", "hello\n").text("Done.");
    let mut client = Client::with_thread(Script::new().turn(plan()));
    client.start("x");
    let methods = names(&client.after(1000));
    let deltas = methods.iter().filter(|method| *method == "item/commandExecution/outputDelta").count();
    assert_eq!(deltas, 2);
    assert!(methods.contains(&"turn/diff/updated".to_owned()));

    for (answer, status) in [
        (json!({"decision": "accept"}), "completed"),
        (json!({"decision": "decline"}), "declined"),
        (json!({}), "failed"),
    ] {
        let mut client =
            Client::with_thread(Script::new().turn(TurnPlan::new().command("ls", "a\n", 0).with_approval()));
        client.start("x");
        let lines = client.after(1000);
        let asked = find(&lines, "item/commandExecution/requestApproval");
        assert_eq!((&asked["id"], lines.last()), (&json!(0), Some(asked)));
        // An answer of another JSON type is no answer.
        client.write(&json!({"id": "0", "result": {"decision": "cancel"}}));
        assert!(client.after(1000).is_empty());
        client.write(&json!({"id": 0, "result": answer}));
        let lines = client.after(1000);
        assert_eq!(lines[0]["method"], "serverRequest/resolved");
        assert_eq!(find(&lines, "item/completed")["params"]["item"]["status"], status);
        assert_eq!(find(&lines, "turn/completed")["params"]["turn"]["status"], "completed");
    }

    let mut client =
        Client::with_thread(Script::new().turn(TurnPlan::new().file_change("/workspace/a", "x\n").with_approval()));
    client.start("x");
    find(&client.after(1000), "item/fileChange/requestApproval");
    client.write(&json!({"id": 0, "result": {"decision": "cancel"}}));
    let lines = client.after(1000);
    assert!(!names(&lines).contains(&"item/completed".to_owned()));
    assert_eq!(find(&lines, "turn/completed")["params"]["turn"]["status"], "interrupted");
}

#[test]
fn an_interrupt_during_a_question_resolves_it_after_the_end_of_the_turn() {
    let plan = TurnPlan::new().command("ls", "", 0).with_approval();
    let mut client = Client::with_thread(Script::new().turn(plan));
    let turn = client.start("x");
    client.after(1000);
    client.request("turn/interrupt", json!({"threadId": client.thread.clone(), "turnId": turn}));
    let methods = names(&client.lines());
    assert_eq!(methods[methods.len() - 2..], ["turn/completed", "serverRequest/resolved"]);
}

#[test]
fn a_failing_turn_announces_its_retries_and_ends_failed() {
    let plan = TurnPlan::when("fail").fail("too much", json!("serverOverloaded"), 2);
    let mut client = Client::with_thread(Script::new().turn(plan));
    client.start("fail");
    let lines = client.after(1000);
    let retries: Vec<&Value> =
        lines.iter().filter(|line| line["method"] == "error").map(|line| &line["params"]["willRetry"]).collect();
    assert_eq!(retries, [true, true, false]);
    let completed = &find(&lines, "turn/completed")["params"]["turn"];
    assert_eq!((&completed["status"], &completed["items"]), (&json!("failed"), &json!([])));
    assert_eq!(completed["error"]["codexErrorInfo"], "serverOverloaded");
    client.start("again");
    assert_eq!(find(&client.after(1000), "turn/completed")["params"]["turn"]["status"], "completed");
}

#[test]
fn threads_can_be_listed_read_named_and_resumed() {
    let stored = "01a00000-0000-7000-8000-0000000000aa";
    let mut client = Client::with_thread(Script::new().stored_thread(stored));
    let first = client.thread.clone();
    let listed = client.call("thread/list", json!({}))["result"]["data"].clone();
    assert_eq!((listed[0]["id"].as_str(), listed.as_array().map(Vec::len)), (Some(stored), Some(1)), "no turn yet");
    client.start("first prompt");
    client.after(1000);
    let second = client.call("thread/start", json!({"sandbox": "workspace-write"}));
    assert_eq!(second["result"]["sandbox"]["type"], "workspaceWrite");
    client.thread = second["result"]["thread"]["id"].as_str().expect("a thread id").to_owned();
    client.start("second prompt");
    client.after(1000);

    let page = client.call("thread/list", json!({"limit": 1, "sortKey": "updated_at"}));
    assert_eq!(page["result"]["data"][0]["preview"], "second prompt");
    let rest = client.call("thread/list", json!({"cursor": page["result"]["nextCursor"]}));
    assert_eq!(rest["result"]["data"][0]["id"], first.as_str());
    assert_eq!(rest["result"]["nextCursor"], Value::Null);

    assert_eq!(client.call("thread/name/set", json!({"threadId": first, "name": "N"}))["result"], json!({}));
    let blank = client.call("thread/name/set", json!({"threadId": first, "name": " "}));
    assert_eq!(blank["error"]["message"], "thread name must not be empty");
    let read = client.call("thread/read", json!({"threadId": first, "includeTurns": true}));
    let thread = &read["result"]["thread"];
    assert_eq!((&thread["name"], &thread["turns"][0]["items"][1]["type"]), (&json!("N"), &json!("agentMessage")));

    let resumed = client.call("thread/resume", json!({"threadId": stored, "excludeTurns": true}));
    assert_eq!(resumed["result"]["thread"]["id"], stored);
    assert_eq!(resumed["result"]["thread"]["turns"], json!([]));
    let unknown = "01a00000-0000-7000-8000-0000000000bb";
    let refused = client.call("thread/resume", json!({"threadId": unknown}));
    assert_eq!(refused["error"]["message"], format!("no rollout found for thread id {unknown}"));
    let refused = client.call("turn/start", json!({"threadId": unknown, "input": []}));
    assert_eq!(refused["error"]["message"], format!("thread not found: {unknown}"));

    let mut client = Client::with_thread(Script::new().resume_any(true));
    let resumed = client.call("thread/resume", json!({"threadId": unknown}));
    assert_eq!(resumed["result"]["thread"]["id"], unknown);
    client.thread = unknown.to_owned();
    client.start("x");
    assert!(names(&client.after(1000)).contains(&"turn/completed".to_owned()));
}

#[test]
fn resuming_a_running_thread_shows_the_turn_and_an_unsubscribed_thread_is_silent() {
    let mut client = Client::with_thread(Script::new().turn(TurnPlan::new().hold()));
    let turn = client.start("x");
    client.after(1000);
    let thread = client.thread.clone();
    let resumed = client.call("thread/resume", json!({"threadId": thread}));
    let shown = &resumed["result"]["thread"]["turns"][0];
    assert_eq!((&shown["id"], &shown["status"]), (&json!(turn), &json!("inProgress")));
    assert_eq!(client.call("thread/unsubscribe", json!({"threadId": thread}))["result"]["status"], "unsubscribed");
    client.interrupt(&turn);
    client.start("y");
    let methods = names(&client.after(1000));
    assert!(methods.contains(&"thread/status/changed".to_owned()));
    assert!(!methods.iter().any(|method| method.starts_with("turn/") || method.starts_with("item/")));
}

#[test]
fn eight_turns_at_once_keep_their_own_order() {
    let mut client = Client::with_thread(Script::new());
    let threads: Vec<String> = (0..8)
        .map(|_| {
            client.call("thread/start", json!({}))["result"]["thread"]["id"].as_str().unwrap_or_default().to_owned()
        })
        .collect();
    for thread in &threads {
        client.request("turn/start", json!({"threadId": thread, "input": [{"type": "text", "text": thread}]}));
        client.now += 1;
    }
    let lines = client.after(1000);
    let of = |thread: &str| {
        let own: Vec<Value> = lines.iter().filter(|line| line["params"]["threadId"] == thread).cloned().collect();
        names(&own)
    };
    let switches =
        lines.windows(2).filter(|pair| pair[0]["params"]["threadId"] != pair[1]["params"]["threadId"]).count();
    assert!(switches > 16, "the threads interleave: {switches}");
    for thread in &threads {
        assert_eq!(of(thread), of(&threads[0]));
        assert_eq!(of(thread).last().map(String::as_str), Some("turn/completed"));
    }
}

#[test]
fn a_rule_can_add_to_what_the_brain_does() {
    let rule = Rule::on("thread/start").notify("warning", json!({"n": "$n"})).default_reply().notify("z", json!({}));
    let mut client = Client::new(Script::new().rule(rule));
    client.initialize();
    let id = client.request("thread/start", json!({}));
    assert_eq!(names(&client.lines()), ["warning", &format!("reply {id}"), "thread/started", "z"]);
}

#[test]
fn bad_lines_are_counted_and_bytes_that_are_not_text_end_the_server() {
    let mut client = Client::with_thread(Script::new());
    let now = Duration::from_millis(client.now);
    client.server.handle_input(now, b"\n  \nhello\n42\n[]\n{}\n{\"id\":102}\n{\"id\":1.5,\"method\":\"x\"}\r\n");
    assert!(client.lines().is_empty());
    assert_eq!(client.server.ignored(), 5);
    assert_eq!(client.call("thread/loaded/list", json!({}))["result"]["nextCursor"], Value::Null);
    client.server.handle_input(now, b"{\"x\":\"\xff\xfe\"}\n");
    client.lines();
    assert_eq!(client.server.state(), State::Exited { code: 0 });
    let mut stderr = Vec::new();
    client.server.poll_stderr(now, &mut stderr);
    assert!(String::from_utf8_lossy(&stderr).contains("Failed reading stdin: stream did not contain valid UTF-8"));
}
