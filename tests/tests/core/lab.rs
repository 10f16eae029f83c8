//! A connection on a bench: what it writes is read as JSON, what it is told is written as JSON, and time is a number.

use serde_json::{Value, json};
use std::time::Duration;
use turnwire_core::{
    connection::{Config, Connection, Event, Scope, TurnOptions},
    launch::{ExitReport, ExitStatus},
    protocol::{TurnStart, UserInput},
    time::Time,
    turn::{Next, RawEvent, SubscriptionKey, TurnKey},
};

pub(crate) struct Lab {
    pub(crate) connection: Connection,
    pub(crate) now: Time,
    pub(crate) events: Vec<Event>,
}

impl Lab {
    /// A connection that has not written anything yet.
    pub(crate) fn new(config: Config) -> Self {
        Self { connection: Connection::new(Time::ZERO, config), now: Time::ZERO, events: Vec::new() }
    }

    /// A connection whose handshake is done.
    pub(crate) fn ready() -> Self {
        Self::ready_with(Config::default())
    }

    pub(crate) fn ready_with(config: Config) -> Self {
        let mut lab = Self::new(config);
        let sent = lab.sent();
        assert_eq!(sent[0]["method"], "initialize");
        lab.say(json!({"id": sent[0]["id"], "result": {"userAgent": "lab/0.163.0 (Linux) lab", "codexHome": "/h",
            "platformFamily": "unix", "platformOs": "linux"}}));
        assert_eq!(lab.sent(), [json!({"method": "initialized"})]);
        lab
    }

    /// Everything that the connection wants to write now, as values; checks that each is one line.
    pub(crate) fn sent(&mut self) -> Vec<Value> {
        let mut bytes = Vec::new();
        while self.connection.poll_transmit(self.now, &mut bytes) {}
        let text = String::from_utf8(bytes).expect("what is written is UTF-8");
        assert!(text.is_empty() || text.ends_with('\n'), "what is written ends with a line end");
        text.lines().map(|line| serde_json::from_str(line).expect("each line is one JSON value")).collect()
    }

    /// The only line that the connection wants to write now.
    pub(crate) fn sent_one(&mut self) -> Value {
        let mut sent = self.sent();
        assert_eq!(sent.len(), 1, "one line, not {sent:?}");
        sent.remove(0)
    }

    pub(crate) fn say(&mut self, message: Value) {
        self.say_bytes(format!("{message}\n").as_bytes());
    }

    pub(crate) fn say_bytes(&mut self, bytes: &[u8]) {
        self.connection.handle_input(self.now, bytes);
        self.collect();
    }

    pub(crate) fn notify(&mut self, method: &str, params: Value) {
        self.say(json!({"method": method, "params": params, "emittedAtMs": 1}));
    }

    pub(crate) fn pass(&mut self, duration: Duration) {
        self.now = self.now + duration;
        self.connection.handle_timeout(self.now);
        self.collect();
    }

    /// Lets time jump to the next deadline; says whether there was one.
    pub(crate) fn jump(&mut self) -> bool {
        let Some(timeout) = self.connection.poll_timeout() else { return false };
        self.now = self.now.max(timeout.at);
        self.connection.handle_timeout(self.now);
        self.collect();
        true
    }

    pub(crate) fn collect(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            self.events.push(event);
        }
    }

    /// A started turn that the server has named, and a reader of it.
    pub(crate) fn turn(&mut self, thread: &str, turn: &str) -> (TurnKey, SubscriptionKey) {
        let (key, reader, id) = self.start_turn(thread);
        self.say(json!({"id": id, "result": {"turn": {"id": turn, "status": "inProgress", "items": []}}}));
        (key, reader)
    }

    /// A turn whose start is written but not answered, a reader of it, and the id to answer.
    pub(crate) fn start_turn(&mut self, thread: &str) -> (TurnKey, SubscriptionKey, Value) {
        let params = TurnStart::new(thread, [UserInput::text("Hello")]);
        let key = self.connection.start_turn(self.now, &params, &TurnOptions::default()).expect("a turn starts");
        let reader = self.connection.subscribe(Scope::Turn(key));
        let line = self.sent_one();
        assert_eq!((&line["method"], &line["params"]["threadId"]), (&json!("turn/start"), &json!(thread)));
        (key, reader, line["id"].clone())
    }

    /// All events that a subscription has now, each in a few words.
    pub(crate) fn read(&mut self, key: SubscriptionKey) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match self.connection.next_event(key) {
                Next::Event(event) => seen.push(describe(&event)),
                Next::Pending => return seen,
                Next::Finished => {
                    seen.push("finished".into());
                    return seen;
                }
                other => panic!("{other:?} is new"),
            }
        }
    }

    /// Asserts that nothing is left in any table but subscriptions.
    pub(crate) fn assert_quiet(&self) {
        let counters = self.connection.counters();
        assert_eq!((counters.requests, counters.turns), (0, 0), "{counters:?}");
    }
}

pub(crate) fn describe(event: &RawEvent) -> String {
    match event {
        RawEvent::Delta(delta) => format!("delta {} {}", delta.item, delta.text),
        RawEvent::Notification(notification) => {
            let params: Value = serde_json::from_str(notification.params_text()).expect("params are JSON");
            match params["item"]["id"].as_str() {
                Some(item) => format!("{} {item}", notification.method),
                None => notification.method.to_string(),
            }
        }
        RawEvent::Ended(state) => format!("ended {state}"),
        RawEvent::Refused(refused) => format!("refused {}", refused.notification.method),
        RawEvent::Diagnostic(diagnostic) => format!("diagnostic {:?}", diagnostic.kind),
        RawEvent::Gap(count) => format!("gap {count}"),
        other => format!("{other:?}"),
    }
}

pub(crate) fn delta(thread: &str, turn: &str, item: &str, text: &str) -> (&'static str, Value) {
    ("item/agentMessage/delta", json!({"threadId": thread, "turnId": turn, "itemId": item, "delta": text}))
}

pub(crate) fn message(id: &str, text: &str, phase: Option<&str>) -> Value {
    json!({"type": "agentMessage", "id": id, "text": text, "phase": phase})
}

pub(crate) fn completed(thread: &str, turn: &str, status: &str) -> (&'static str, Value) {
    let turn = json!({"id": turn, "status": status, "items": [], "itemsView": "notLoaded", "error": null,
        "startedAt": 100, "completedAt": 101, "durationMs": 1234});
    ("turn/completed", json!({"threadId": thread, "turn": turn}))
}

pub(crate) fn usage(thread: &str, turn: &str, total: [i64; 4], last: [i64; 4]) -> (&'static str, Value) {
    let tokens = |[input, cached, output, reasoning]: [i64; 4]| {
        json!({"totalTokens": input + output, "inputTokens": input, "cachedInputTokens": cached,
            "cacheWriteInputTokens": 0, "outputTokens": output, "reasoningOutputTokens": reasoning})
    };
    (
        "thread/tokenUsage/updated",
        json!({"threadId": thread, "turnId": turn,
            "tokenUsage": {"total": tokens(total), "last": tokens(last), "modelContextWindow": 258400}}),
    )
}

/// How a process ended; neither code nor signal: it has not.
pub(crate) fn report(code: Option<i32>, signal: Option<i32>, stderr_tail: &str) -> ExitReport {
    let has_ended = code.is_some() || signal.is_some();
    let mut report = ExitReport::new(has_ended.then(|| ExitStatus::new(code, signal)));
    report.stderr_tail = stderr_tail.into();
    report
}
