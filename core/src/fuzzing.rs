//! What the fuzz targets do with their bytes, here so that plain tests can do the same.
//!
//! Each body panics when something does not hold, and does nothing else. Not part of the public API.

mod transcript;
mod typed;

pub use transcript::transcript;
pub use typed::typed;

use crate::{
    connection::{
        AskKind, Asked, Config, Connection, Event, ListenFor, ListenerKey, NextAsk, Pending, Raw, RequestKey, Scope,
        ServerRequestKey, TurnOptions,
    },
    envelope::{Envelope, JsonText, Keys, Message, NotAMessage, RpcId},
    error::{DisconnectReason, RpcError},
    frame::{Frame, Framer},
    json::Json,
    launch::{ExitReport, ExitStatus},
    protocol::{TurnStart, TurnSteer, UserInput},
    time::Time,
    turn::{Next, RawEvent, SubscriptionKey, TurnKey},
};
use alloc::{
    borrow::ToOwned,
    collections::BTreeMap,
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::time::Duration;
use serde_json::{Value, value::RawValue};

/// The frames of the input do not depend on how it is cut.
///
/// The first byte is the limit of a line, the second decides the cuts, the rest is the input.
pub fn framer(data: &[u8]) {
    let [limit, cut, input @ ..] = data else { return };
    let limit = usize::from(*limit);
    let whole = frames(limit, &[input]);
    let mut pieces = Vec::new();
    let (mut rest, mut size) = (input, usize::from(*cut));
    while !rest.is_empty() {
        size = (size * 7 + 1) % 23;
        let (piece, after) = rest.split_at(size.min(rest.len()));
        pieces.push(piece);
        rest = after;
    }
    assert_eq!(frames(limit, &pieces), whole, "cut into {} pieces", pieces.len());
    let bytes: Vec<&[u8]> = input.chunks(1).collect();
    assert_eq!(frames(limit, &bytes), whole, "byte by byte");
    let ends = input.iter().filter(|byte| **byte == b'\n').count();
    assert_eq!(whole.iter().filter(|(_, is_ended, _)| *is_ended).count(), ends, "one frame for each line end");
}

/// Kept bytes, whether the line had an end, and the length if it was oversized.
fn frames(limit: usize, pieces: &[&[u8]]) -> Vec<(Vec<u8>, bool, Option<u64>)> {
    let mut framer = Framer::new(limit);
    let mut seen = Vec::new();
    let mut note = |frame: Frame<'_>, is_last: bool| match frame {
        Frame::Line(line) => {
            assert!(!is_last && line.len() <= limit && !line.contains(&b'\n'));
            seen.push((line.to_vec(), true, None));
        }
        Frame::Oversized { head, length } => {
            assert!(length > limit as u64 && head.len() <= limit);
            seen.push((head.to_vec(), !is_last, Some(length)));
        }
        Frame::Unfinished(line) => {
            assert!(is_last && line.len() <= limit);
            seen.push((line.to_vec(), false, None));
        }
    };
    for piece in pieces {
        let mut input = *piece;
        while let Some(frame) = framer.next_frame(&mut input) {
            note(frame, false);
        }
        assert!(input.is_empty() && framer.buffered() <= limit);
    }
    if let Some(frame) = framer.finish() {
        note(frame, true);
    }
    seen
}

/// What a line is said to be agrees with what a JSON parser that knows nothing of messages makes of it.
pub fn envelope(line: &[u8]) {
    let _ = Envelope::response_id_in_head(line);
    let parsed = Envelope::parse(line);
    let trimmed = line.trim_ascii();
    match &parsed {
        Err(NotAMessage::Blank) => return assert!(trimmed.is_empty()),
        Err(NotAMessage::Noise) => return assert!(!trimmed.is_empty() && trimmed.first() != Some(&b'{')),
        _ => assert_eq!(trimmed.first(), Some(&b'{')),
    }
    let value: Result<Value, _> = serde_json::from_slice(trimmed);
    let value = match (value, &parsed) {
        (Ok(value), parsed) => {
            assert!(!matches!(parsed, Err(NotAMessage::Malformed)), "an object is called malformed");
            value
        }
        (Err(_), Err(_)) => return,
        (Err(error), Ok(_)) => {
            // What is not looked into is checked for its grammar alone, on purpose: these are not errors of the grammar.
            let text = error.to_string();
            let is_lenient = ["recursion limit", "number out of range", "surrogate", "unexpected end of hex escape"]
                .iter()
                .any(|known| text.contains(known));
            return assert!(is_lenient, "no JSON is called a message: {text}");
        }
    };
    let id = value.get("id");
    let method = value.get("method").and_then(Value::as_str);
    let error = value.get("error").filter(|error| !error.is_null());
    let Ok(envelope) = parsed else {
        let has_outcome = error.is_some() || value.get("result").is_some();
        return assert!(method.is_none() && !(id.is_some() && has_outcome), "a message is called shapeless");
    };
    assert_eq!(envelope.emitted_at_ms.filter(|at| *at != 0), int(value.get("emittedAtMs")).filter(|at| *at != 0));
    match envelope.message {
        Message::Request { id: parsed, method: named, params, keys } => {
            assert_eq!((method, params.is_some()), (Some(&*named), value.get("params").is_some()));
            check_id(&parsed, id);
            check_keys(&keys, params.map(RawValue::get), value.get("params"));
        }
        Message::Notification { method: named, params, keys } => {
            assert_eq!((method, id, params.is_some()), (Some(&*named), None, value.get("params").is_some()));
            check_keys(&keys, params.map(JsonText::get), value.get("params"));
        }
        Message::Failure { id: parsed, error: raw } => {
            assert!(method.is_none());
            assert_eq!(serde_json::from_str::<Value>(raw.get()).ok().as_ref(), error);
            check_id(&parsed, id);
        }
        Message::Success { id: parsed, result } => {
            assert!(method.is_none() && error.is_none());
            assert_eq!(serde_json::from_str::<Value>(result.get()).ok().as_ref(), value.get("result"));
            check_id(&parsed, id);
        }
    }
}

/// The scanner of lines accepts what serde_json accepts, and finds what serde finds.
///
/// The data is a line as it is, and also decides one that looks more like JSON than chance would make it.
pub fn scan(data: &[u8]) {
    crate::envelope::reference::check(data);
    crate::envelope::reference::check(&jsonish(data));
}

/// Lines that begin alike are read as each alone.
///
/// The data is such lines as it is. It also decides about lines that share the beginning of a delta, more or less.
pub fn reader(data: &[u8]) {
    crate::envelope::reference::check_all(data.split(|byte| *byte == b'\n'));
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for piece in data.chunks(12) {
        let [pick, rest @ ..] = piece else { continue };
        const METHODS: [&str; 4] =
            ["item/agentMessage/delta", "m", "item/\u{e9}/delta", "item/agentMessage/delt\\u0061"];
        let method = METHODS.get(usize::from(pick & 3)).copied().unwrap_or_default();
        let thread = ["01a20327-c2d1-7790-9481-4e4550c5cab5", "T", "01a20327-c2d1-7790-9481-4e4550c5cab6"]
            .get(usize::from(pick >> 2 & 3))
            .copied()
            .unwrap_or("\\ud800");
        let turn = if pick & 0x10 == 0 { "01a20327-c308-7080-9b4f-716295cf80a7" } else { "U" };
        let item = if pick & 0x20 == 0 { "\"msg_171_1\"" } else { "{}" };
        let mut line = Vec::from(
            alloc::format!(
                "{{\"method\":\"{method}\",\"params\":{{\"threadId\":\"{thread}\",\"turnId\":\"{turn}\",\"itemId\":{item},\"delta\":"
            )
            .as_bytes(),
        );
        // What ends it is an object whose first member lacks its name.
        let end = jsonish(rest);
        match end.iter().position(|byte| *byte == b':').filter(|_| pick & 0x40 == 0) {
            Some(colon) => line.extend_from_slice(end.get(colon + 1..).unwrap_or_default()),
            None => line.extend_from_slice(b"\"some \xc3\xa9 text\""),
        }
        if pick & 0x80 == 0 {
            line.extend_from_slice(b"},\"emittedAtMs\":1795349155000");
        }
        line.extend_from_slice(b"}");
        lines.push(line);
    }
    // Twice, so that each beginning has been seen when its line comes again.
    crate::envelope::reference::check_all(lines.iter().chain(&lines).map(Vec::as_slice));
}

/// Text that is nearly always a message or close to one. Each byte of the data decides about one piece of it.
#[must_use]
pub fn jsonish(data: &[u8]) -> Vec<u8> {
    const TOP: [&str; 8] = ["method", "params", "id", "result", "error", "emittedAtMs", "jsonrpc", "\\u0069d"];
    const NAMES: [&str; 20] = [
        "threadId",
        "turnId",
        "itemId",
        "delta",
        "contentIndex",
        "summaryIndex",
        "conversationId",
        "requestId",
        "item",
        "status",
        "thread",
        "turn",
        "id",
        "type",
        "rootTurnId",
        "other",
        "",
        "d\\u0065lta",
        "\\ud800",
        "a\tb",
    ];
    const VALUES: [&str; 40] = [
        "\"T\"",
        "\"item/agentMessage/delta\"",
        "\"\"",
        "\"a\\nb\"",
        "\"\\ud83d\\ude00\"",
        "\"\\ud800\"",
        "\"\\udc00x\"",
        "\"\\u12g4\"",
        "\"\\x\"",
        "\"caf\u{e9} \u{1f600} and some more of it\"",
        "\"\u{7f}\u{80}\"",
        "\"\u{1}\"",
        "0",
        "-0",
        "7",
        "1795349155000",
        "01",
        "-",
        "1.",
        "1.5",
        "1e5",
        "1E+400",
        "-1.0e-7",
        ".5",
        "9223372036854775807",
        "9223372036854775808",
        "-9223372036854775808",
        "true",
        "false",
        "null",
        "nul",
        "[]",
        "[1,[2,{\"a\":[]}]]",
        "[1,]",
        "{}",
        "{\"id\":\"x\",\"id\":\"y\"}",
        "{\"a\":{\"b\":{}},\"status\":\"completed\"}",
        "[[[[[[[[[[]]]]]]]]]]",
        "\"",
        "",
    ];
    const BETWEEN: [&str; 4] = ["", " ", "\t\r", "\n  "];
    let mut bytes = data.iter().copied();
    let mut out = Vec::from(*b"{");
    // What is open, innermost last: whether it is an object.
    let mut open = vec![true];
    let mut is_first = true;
    while let Some(byte) = bytes.next() {
        let Some(in_object) = open.last().copied() else { break };
        let pick = bytes.next().unwrap_or(0);
        if byte & 0xf8 == 0xf8 {
            out.extend_from_slice(if in_object { b"}" } else { b"]" });
            open.pop();
            is_first = false;
            continue;
        }
        if !core::mem::replace(&mut is_first, false) {
            out.push(b',');
        }
        out.extend_from_slice(BETWEEN.get(usize::from(pick >> 5)).copied().unwrap_or_default().as_bytes());
        if in_object {
            let names = if open.len() == 1 { &TOP[..] } else { &NAMES[..] };
            let name = names.get(usize::from(byte & 0x1f) % names.len()).copied().unwrap_or_default();
            out.push(b'"');
            out.extend_from_slice(name.as_bytes());
            out.extend_from_slice(b"\":");
        }
        match byte >> 5 {
            0..=1 if open.len() < 200 => {
                open.push(byte & 0x20 == 0);
                out.push(if byte & 0x20 == 0 { b'{' } else { b'[' });
                is_first = true;
            }
            _ => {
                let value = VALUES.get(usize::from(pick) % VALUES.len()).copied().unwrap_or_default();
                out.extend_from_slice(value.as_bytes());
            }
        }
        out.extend_from_slice(BETWEEN.get(usize::from(byte & 7)).copied().unwrap_or_default().as_bytes());
    }
    for in_object in open.into_iter().rev() {
        out.push(if in_object { b'}' } else { b']' });
    }
    out
}

fn int(value: Option<&Value>) -> Option<i64> {
    value.and_then(Value::as_i64)
}

/// An id can be given back as it came.
fn check_id(parsed: &RpcId, id: Option<&Value>) {
    let text = serde_json::to_string(parsed);
    let back: Option<Value> = text.ok().and_then(|text| serde_json::from_str(&text).ok());
    assert_eq!(back.as_ref(), id, "{parsed:?}");
}

fn check_keys(keys: &Keys<'_>, raw: Option<&str>, params: Option<&Value>) {
    let Some(Value::Object(params)) = params else {
        return assert!(keys.thread().is_none() && keys.turn().is_none() && keys.item().is_none());
    };
    // Members given twice have an order that a map does not know.
    if raw.is_some_and(has_doubles) {
        return;
    }
    let text = |path: &[&str]| -> Option<&str> {
        let (first, rest) = path.split_first()?;
        rest.iter().try_fold(params.get(*first)?, |value, name| value.get(name))?.as_str()
    };
    assert_eq!(keys.thread_id.as_deref(), text(&["threadId"]).or_else(|| text(&["thread", "id"])));
    assert_eq!(keys.conversation_id.as_deref(), text(&["conversationId"]));
    assert_eq!(keys.turn(), text(&["turnId"]).or_else(|| text(&["turn", "id"])));
    assert_eq!(keys.item(), text(&["itemId"]).or_else(|| text(&["item", "id"])));
    assert_eq!(keys.root_turn_id.as_deref(), text(&["turn", "rootTurnId"]));
    assert_eq!(keys.status.as_deref(), text(&["status", "type"]).or_else(|| text(&["turn", "status"])));
    assert_eq!(keys.delta.as_deref(), text(&["delta"]));
    assert_eq!(keys.request_id.is_some(), params.contains_key("requestId"));
    if !(params.contains_key("contentIndex") && params.contains_key("summaryIndex")) {
        let index = params.get("contentIndex").or_else(|| params.get("summaryIndex"));
        assert_eq!(keys.index.filter(|index| *index != 0), int(index).filter(|index| *index != 0));
    }
    const KNOWN: [&str; 8] =
        ["conversationId", "contentIndex", "delta", "itemId", "requestId", "summaryIndex", "threadId", "turnId"];
    assert_eq!(keys.has_others, params.keys().any(|name| !KNOWN.contains(&name.as_str())));
}

/// Whether an object at any of the two levels that are looked into may name a member twice: counted roughly, by what a
/// parse into pairs and one into a map give.
fn has_doubles(text: &str) -> bool {
    struct Pairs(Vec<(String, Value)>);

    impl<'de> serde::Deserialize<'de> for Pairs {
        fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            struct Visit;

            impl<'de> serde::de::Visitor<'de> for Visit {
                type Value = Pairs;

                fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                    f.write_str("an object")
                }

                fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Pairs, A::Error> {
                    let mut pairs = Vec::new();
                    while let Some((name, value)) = map.next_entry::<String, &'de RawValue>()? {
                        let inner = serde_json::from_str::<Pairs>(value.get());
                        let doubled = inner.is_ok_and(|inner| inner.is_doubled());
                        pairs.push((name, Value::Bool(doubled)));
                    }
                    Ok(Pairs(pairs))
                }
            }

            deserializer.deserialize_map(Visit)
        }
    }

    impl Pairs {
        fn is_doubled(&self) -> bool {
            let names: BTreeMap<&str, ()> = self.0.iter().map(|(name, _)| (name.as_str(), ())).collect();
            names.len() < self.0.len() || self.0.iter().any(|(_, doubled)| *doubled == Value::Bool(true))
        }
    }

    serde_json::from_str::<Pairs>(text).is_ok_and(|pairs| pairs.is_doubled())
}

/// Whether an object at any depth names a member twice.
fn has_doubled_names(text: &str) -> bool {
    fn names(value: &Value) -> usize {
        match value {
            Value::Array(values) => values.iter().map(names).sum(),
            Value::Object(members) => members.len() + members.values().map(names).sum::<usize>(),
            _ => 0,
        }
    }
    // Each member has one colon outside its strings.
    let (mut colons, mut in_string, mut is_escaped) = (0, false, false);
    for byte in text.bytes() {
        match byte {
            _ if is_escaped => is_escaped = false,
            b'\\' if in_string => is_escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => colons += 1,
            _ => {}
        }
    }
    serde_json::from_str::<Value>(text).is_ok_and(|value| names(&value) < colons)
}

/// A connection survives any bytes and any commands, holds no more than it may, and after its end owes nobody anything.
///
/// The data is a row of operations, one byte each with what it needs after it; see the body. Text after an operation
/// that takes a line goes up to the next line end.
pub fn connection(data: &[u8]) {
    let mut bench = Bench::new();
    let mut rest = data;
    while let Some((operation, after)) = rest.split_first() {
        rest = after;
        let mut byte = || match rest.split_first() {
            Some((byte, after)) => {
                rest = after;
                *byte
            }
            None => 0,
        };
        match operation {
            // Most bytes are the beginning of a line as it came from a server.
            b'=' => {
                let length = usize::from(byte()).min(rest.len());
                let (piece, after) = rest.split_at(length);
                rest = after;
                bench.connection.handle_input(bench.now, piece);
            }
            b'+' => bench.pass(Duration::from_millis(u64::from(byte()) * 40)),
            b'*' => bench.pass(Duration::from_secs(u64::from(byte()))),
            b'r' => bench.request(),
            b't' => bench.start_turn(byte()),
            b's' => bench.steer(byte()),
            b'i' => bench.interrupt(byte()),
            b'l' => bench.release(byte()),
            b'a' => bench.abandon(byte()),
            b'u' => bench.subscribe(byte()),
            b'q' => bench.listen(byte()),
            b'k' => bench.decide(byte()),
            b'p' => bench.poll(byte()),
            b'e' => bench.connection.handle_eof(bench.now),
            b'x' => {
                let report = ExitReport::new(Some(ExitStatus::new(Some(i32::from(byte())), None)));
                bench.connection.handle_exit(bench.now, report);
            }
            b'c' => bench.connection.close(bench.now, Duration::from_millis(u64::from(byte()))),
            b'd' => bench.connection.handle_disconnect(bench.now, DisconnectReason::Io("fuzz".into())),
            _ => {
                let line = rest.split_inclusive(|byte| *byte == b'\n').next().unwrap_or_default();
                let mut whole = vec![*operation];
                whole.extend_from_slice(line);
                rest = rest.get(line.len()..).unwrap_or_default();
                bench.connection.handle_input(bench.now, &whole);
            }
        }
        bench.check_limits();
    }
    bench.finish();
}

/// Small limits, so that few bytes reach them.
fn small() -> Config {
    let mut config = Config::default();
    let limits = &mut config.limits;
    limits.max_line = 4096;
    limits.max_in_flight = 4;
    limits.max_queued_requests = 8;
    limits.max_parked_events = 16;
    limits.merge_after = Some(4);
    limits.max_unread_bytes = 4096;
    limits.max_diagnostics = 4;
    limits.max_asks = 6;
    limits.max_unsent_bytes = 8192;
    config
}

struct Bench {
    connection: Connection,
    now: Time,
    open: Vec<Pending<Raw>>,
    steers: Vec<Pending<TurnSteer>>,
    turns: Vec<(TurnKey, Option<SubscriptionKey>)>,
    readers: Vec<SubscriptionKey>,
    listeners: Vec<ListenerKey>,
    held: Vec<Asked>,
    /// What the readers of turns were shown of the server's requests.
    shown: Vec<(ServerRequestKey, SubscriptionKey)>,
    had: BTreeMap<ServerRequestKey, ()>,
    done: BTreeMap<RequestKey, u32>,
    is_closed: bool,
    ends: BTreeMap<SubscriptionKey, u32>,
}

impl Bench {
    fn new() -> Self {
        Self {
            connection: Connection::new(Time::ZERO, small()),
            now: Time::ZERO,
            open: Vec::new(),
            steers: Vec::new(),
            turns: Vec::new(),
            readers: Vec::new(),
            listeners: Vec::new(),
            held: Vec::new(),
            shown: Vec::new(),
            had: BTreeMap::new(),
            done: BTreeMap::new(),
            is_closed: false,
            ends: BTreeMap::new(),
        }
    }

    fn pass(&mut self, time: Duration) {
        self.now = self.now + time;
        self.connection.handle_timeout(self.now);
        let next = self.connection.poll_timeout();
        assert!(next.is_none_or(|next| next.at > self.now), "what was due is still due");
    }

    fn request(&mut self) {
        if let Ok(pending) = self.connection.request_raw(self.now, "m", &()) {
            self.open.push(pending);
        }
    }

    fn start_turn(&mut self, byte: u8) {
        let thread = ["T", "A", "B"].get(usize::from(byte % 3)).copied().unwrap_or("T");
        let options = match byte & 0x80 {
            0 => TurnOptions::default(),
            _ => TurnOptions::default().deadline(Duration::from_millis(u64::from(byte))),
        };
        let params = TurnStart::new(thread, [UserInput::text("x")]);
        if let Ok(key) = self.connection.start_turn(self.now, &params, &options) {
            let reader = (byte & 0x40 == 0).then(|| self.connection.subscribe(Scope::Turn(key)));
            if let Some(reader) = reader.filter(|_| byte & 0x20 != 0) {
                self.connection.ask_reader(key, reader, byte & 0x10 != 0);
            }
            self.turns.push((key, reader));
        }
    }

    fn turn(&self, byte: u8) -> Option<TurnKey> {
        self.turns.get(usize::from(byte).checked_rem(self.turns.len())?).map(|(key, _)| *key)
    }

    fn steer(&mut self, byte: u8) {
        let Some(key) = self.turn(byte) else { return };
        if let Ok(pending) = self.connection.steer(self.now, key, vec!["y".into()]) {
            self.steers.push(pending);
        }
    }

    fn interrupt(&mut self, byte: u8) {
        let Some(key) = self.turn(byte) else { return };
        let known = self.connection.turn_state(key).is_some();
        assert_eq!(self.connection.interrupt(self.now, key).is_ok(), known);
    }

    fn release(&mut self, byte: u8) {
        let Some(place) = usize::from(byte).checked_rem(self.turns.len()) else { return };
        let (key, reader) = self.turns.remove(place);
        if let Some(reader) = reader {
            self.connection.unsubscribe(reader);
        }
        self.connection.release_turn(key);
    }

    fn abandon(&mut self, byte: u8) {
        let Some(place) = usize::from(byte).checked_rem(self.open.len()) else { return };
        let pending = self.open.remove(place);
        self.connection.abandon(pending.key());
    }

    fn subscribe(&mut self, byte: u8) {
        let scope = if byte % 2 == 0 { Scope::Connection } else { Scope::Thread("T".into()) };
        if self.readers.len() < 8 {
            self.readers.push(self.connection.subscribe(scope));
        } else if let Some(key) = self.readers.pop() {
            self.connection.unsubscribe(key);
        }
    }

    /// Says what is answered, or no more.
    fn listen(&mut self, byte: u8) {
        if byte & 0x80 != 0 || self.listeners.len() >= 3 {
            let Some(listener) = self.listeners.pop() else { return };
            self.connection.unlisten(listener);
            assert!(matches!(self.connection.next_ask(listener), NextAsk::Finished));
            return;
        }
        let mut wants = ListenFor { in_stream: byte & 1 != 0, ..ListenFor::default() };
        let kinds = if byte & 2 == 0 { &mut wants.kinds } else { &mut wants.refused };
        kinds.extend(AskKind::ALL);
        if byte & 4 != 0 {
            let limit = Duration::from_millis(u64::from(byte) * 10);
            wants.deadlines.extend(AskKind::ALL.map(|kind| (kind, limit)));
        }
        self.listeners.push(self.connection.listen(wants));
    }

    /// Takes what the server asks, and does something with one of its requests.
    fn decide(&mut self, byte: u8) {
        for listener in &self.listeners {
            while let NextAsk::Asked(asked) = self.connection.next_ask(*listener) {
                assert!(self.had.insert(asked.key, ()).is_none(), "{:?} is given to two", asked.key);
                self.held.push(asked);
            }
        }
        for (key, reader) in core::mem::take(&mut self.shown) {
            if let Some(asked) = self.connection.claim_ask(key, reader) {
                assert!(self.had.insert(key, ()).is_none(), "{key:?} is given to two");
                self.held.push(asked);
            }
        }
        let Some(place) = usize::from(byte / 8).checked_rem(self.held.len()) else { return };
        let key = self.held.remove(place).key;
        let is_open = self.connection.is_ask_open(key);
        match byte % 8 {
            0 | 1 => {
                let answer = || Ok(Json::from(serde_json::json!({"decision": "accept"})));
                assert_eq!(self.connection.respond(key, answer()).is_ok(), is_open, "{key:?}");
                assert!(self.connection.respond(key, answer()).is_err(), "{key:?} takes two answers");
            }
            2 => {
                let answer = RpcError::new(-1, "no");
                assert_eq!(self.connection.respond(key, Err(answer)).is_ok(), is_open, "{key:?}");
            }
            3 => self.connection.fail_ask(key, "m"),
            4 => self.connection.refuse(key),
            _ => {}
        }
        self.connection.release_ask(key);
        assert!(!self.connection.is_ask_open(key) && self.connection.ask_end(key).is_none(), "{key:?} is still there");
    }

    fn poll(&mut self, byte: u8) {
        if byte & 1 == 0 {
            let mut out = Vec::new();
            let promised = self.connection.has_transmit();
            assert_eq!(self.connection.poll_transmit(self.now, &mut out), promised);
            assert_eq!(out.is_empty(), !promised);
            assert!(out.is_empty() || out.ends_with(b"\n"));
            for line in out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
                // For its grammar alone: an id goes back as it came, and may be a number that no type holds.
                let is_json = serde_json::from_slice::<&RawValue>(line).is_ok();
                assert!(is_json && line.starts_with(b"{"), "what is written is no JSON object");
            }
        }
        if byte & 2 == 0 {
            self.edges();
        }
        if byte & 4 == 0 {
            let readers: Vec<SubscriptionKey> =
                self.readers.iter().copied().chain(self.turns.iter().filter_map(|(_, reader)| *reader)).collect();
            for key in readers {
                self.read(key);
            }
        }
    }

    fn edges(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Closed => {
                    assert!(!self.is_closed, "closed twice");
                    self.is_closed = true;
                }
                Event::Response(key) => {
                    let times = self.done.entry(key).or_default();
                    *times += 1;
                    assert_eq!(*times, 1, "{key:?} is done twice");
                }
                Event::TimeWanted(key) => self.connection.respond_time(key, 1),
                Event::Alarm(_) | Event::Asked(_) | Event::AskEnded(_) | Event::Login(_) => {}
                Event::Readable(_) | Event::Ready | Event::Turn(_) => {}
            }
        }
    }

    fn read(&mut self, key: SubscriptionKey) {
        loop {
            match self.connection.next_event(key) {
                Next::Event(event) => {
                    assert!(!self.ends.contains_key(&key), "an event after the end");
                    match event {
                        RawEvent::Ended(_) => drop(self.ends.insert(key, 1)),
                        RawEvent::Asked(asked) => self.shown.push((asked.key, key)),
                        _ => {}
                    }
                }
                Next::Finished | Next::Pending => return,
            }
        }
    }

    /// What is held is bounded, apart from what is promised to be kept: that is bounded by what was received.
    fn check_limits(&mut self) {
        let counters = self.connection.counters();
        assert!(self.connection.diagnostics().count() <= 4);
        // A handshake, what waits, what is in flight, what is done, turns and their interrupts and steers.
        let asked = self.open.len() + self.steers.len() + 2 * self.turns.len() + 64;
        assert!(counters.requests <= asked + 256, "{counters:?}");
        assert!(counters.subscriptions <= self.readers.len() + self.turns.len());
        assert!(counters.asks <= self.held.len() + self.connection.config().limits.max_asks, "{counters:?}");
        let line = usize::try_from(counters.bytes).unwrap_or(usize::MAX);
        let copies = counters.subscriptions + self.turns.len() + 2;
        let per_line = 4 * core::mem::size_of::<RawEvent>() * (usize::try_from(counters.lines).unwrap_or(0) + 4);
        assert!(counters.unread_bytes <= copies.saturating_mul(line.saturating_add(per_line)), "{counters:?}");
    }

    /// Ends it, and asks everybody.
    fn finish(mut self) {
        self.connection.close(self.now, Duration::from_secs(1));
        self.pass(Duration::from_secs(2));
        // The end may have begun before, with a later bound.
        self.pass(Duration::from_secs(60));
        assert!(self.connection.closed().is_some(), "it does not end");
        assert!(self.connection.poll_timeout().is_none(), "a deadline after the end");
        assert!(!self.connection.has_transmit(), "something to send after the end");
        self.edges();
        assert!(self.is_closed, "nobody was told");
        for pending in &self.open {
            assert!(self.connection.take_raw(pending).is_some(), "{pending:?} has no outcome");
            assert!(self.connection.take_raw(pending).is_none(), "{pending:?} has two");
        }
        for pending in &self.steers {
            assert!(self.connection.take_response(pending).is_some(), "{pending:?} has no outcome");
        }
        for (key, reader) in core::mem::take(&mut self.turns) {
            let state = self.connection.turn_state(key);
            assert!(state.is_some_and(|state| state.is_end()), "{key:?} has not ended: {state:?}");
            match self.connection.take_report(key) {
                Some(report) => drop(report.map(crate::turn::TurnReport::into_result)),
                None => panic!("{key:?} has no report"),
            }
            assert!(self.connection.take_report(key).is_none(), "{key:?} has two reports");
            if let Some(reader) = reader {
                self.read(reader);
                assert!(self.ends.contains_key(&reader), "{key:?} has no last event");
                assert!(matches!(self.connection.next_event(reader), Next::Finished));
                self.connection.unsubscribe(reader);
            }
            self.connection.release_turn(key);
        }
        for asked in core::mem::take(&mut self.held) {
            assert!(!self.connection.is_ask_open(asked.key), "{:?} is open after the end", asked.key);
            self.connection.release_ask(asked.key);
        }
        for listener in core::mem::take(&mut self.listeners) {
            assert!(matches!(self.connection.next_ask(listener), NextAsk::Finished), "{listener:?} has not ended");
            self.connection.unlisten(listener);
        }
        for key in core::mem::take(&mut self.readers) {
            self.read(key);
            assert!(matches!(self.connection.next_event(key), Next::Finished));
            self.connection.unsubscribe(key);
        }
        let left = self.connection.counters();
        let tables = (left.requests, left.turns, left.threads, left.subscriptions, left.unread_bytes, left.asks);
        assert_eq!(tables, (0, 0, 0, 0, 0, 0), "{left:?}");
    }
}

/// What a target does with its bytes.
pub type Body = fn(&[u8]);

/// The bodies by the names of their targets, for whoever replays a corpus.
pub const BODIES: [(&str, Body); 7] = [
    ("connection", connection),
    ("envelope", envelope),
    ("framer", framer),
    ("reader", reader),
    ("scan", scan),
    ("transcript", transcript),
    ("typed", typed),
];

/// One mutation of an input, decided by the seed: bytes changed, cut, doubled or taken from another input.
#[must_use]
pub fn mutate(input: &[u8], other: &[u8], seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut next = |bound: usize| {
        state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        usize::try_from((state >> 33) ^ (state >> 47)).unwrap_or(0).checked_rem(bound).unwrap_or(0)
    };
    let mut bytes = input.to_owned();
    for _ in 0..=next(6) {
        let at = next(bytes.len() + 1);
        let to = at + next(bytes.len() - at + 1).min(64);
        match next(6) {
            0 => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte ^= 1 << next(8);
                }
            }
            1 => drop(bytes.drain(at..to)),
            2 => {
                let piece = bytes.get(at..to).unwrap_or_default().to_vec();
                bytes.splice(at..at, piece);
            }
            3 => {
                let from = next(other.len() + 1);
                let piece = other.get(from..(from + next(64)).min(other.len())).unwrap_or_default();
                bytes.splice(at..at, piece.iter().copied());
            }
            4 => {
                const PIECES: [&[u8]; 12] =
                    [b"\n", b"\r\n", b"\"", b"\\", b"\\ud800", b"{", b"}", b"null", b"1e999", b"-0", b"\xff", b"[[[["];
                bytes.splice(at..at, PIECES.get(next(PIECES.len())).copied().unwrap_or_default().iter().copied());
            }
            _ => {
                if let Some(byte) = bytes.get_mut(at) {
                    *byte = u8::try_from(next(256)).unwrap_or(0);
                }
            }
        }
    }
    bytes
}
