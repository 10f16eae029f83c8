//! Recorded sessions with real servers, line by line through the protocol's types.

#![allow(clippy::print_stdout, reason = "counts of what is unknown are for the one who looks")]

use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Map, Value};
use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    fs,
    path::Path,
};
use turnwire_core::protocol::{
    AttestationGenerateResponse, ChatgptAuthTokensRefreshResponse, CommandExecutionRequestApprovalResponse,
    CurrentTimeReadResponse, DecodeError, DynamicToolCallResponse, FileChangeRequestApprovalResponse,
    McpServerElicitationRequestResponse, PermissionsRequestApprovalResponse, Request, RequestVisitor,
    ServerNotification, ServerRequestParams, ToolRequestUserInputResponse, Wire, decode, encode, visit_request,
};

/// A line with what is needed to know its type.
#[derive(Clone, Debug)]
enum Said {
    Notification { method: String },
    Request { method: String },
    Response { method: String },
    ServerRequest { method: String },
    ServerResponse { method: String },
}

#[derive(Clone, Debug)]
struct Line {
    place: String,
    said: Said,
    payload: Value,
}

/// Lines that the recorder sent to be wrong and that the server did not refuse: answers that are none of those offered
/// or lack what they must have, and a member that does not exist.
const MEANT_WRONG: [&str; 4] =
    ["approval_command:128", "dynamic_tool:78", "malformed_input:35", "v0.133.0_approval_command:124"];

/// Every transcript with its server's version and its lines; error replies and noise are left out. `wrong` holds the
/// requests that the server refused or ignored.
struct Transcript {
    name: String,
    version: String,
    lines: Vec<Line>,
    wrong: BTreeSet<String>,
}

fn transcripts() -> Vec<Transcript> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut paths: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "jsonl"));
    paths.sort();
    assert!(paths.len() >= 36, "the transcripts are missing");
    paths.iter().map(|path| transcript(path)).collect()
}

fn transcript(path: &Path) -> Transcript {
    let name = path.file_stem().unwrap().to_string_lossy().into_owned();
    let mut version = String::new();
    let (mut asked, mut asked_by_server) = (BTreeMap::new(), BTreeMap::new());
    let mut lines = Vec::new();
    let mut open: BTreeSet<String> = BTreeSet::new();
    let mut refused = BTreeSet::new();
    for (at, record) in fs::read_to_string(path).unwrap().lines().enumerate() {
        let record: Value = serde_json::from_str(record).unwrap();
        let text = record["line"].as_str().unwrap();
        let place = format!("{name}:{}", at + 1);
        let incoming = match record["dir"].as_str().unwrap() {
            "in" => false,
            "out" => true,
            _ => {
                if version.is_empty() {
                    version = text.trim_start_matches("codex ").split(':').next().unwrap().to_owned();
                }
                continue;
            }
        };
        // What is no JSON object was sent to be wrong; the server writes nothing else.
        let Ok(Value::Object(line)) = serde_json::from_str(text) else {
            assert!(!incoming, "{place}: the server wrote no object");
            continue;
        };
        let id = line.get("id").map(Value::to_string);
        let method = line.get("method").and_then(Value::as_str).map(str::to_owned);
        let said = match (incoming, method, id) {
            (true, Some(method), None) => Said::Notification { method },
            (true, Some(method), Some(id)) => {
                asked_by_server.insert(id, method.clone());
                Said::ServerRequest { method }
            }
            (true, None, Some(id)) => {
                let Some((method, asked_at)) = asked.remove(&id) else {
                    // The recording began after the request.
                    continue;
                };
                open.remove(&asked_at);
                if line.contains_key("error") {
                    refused.insert(asked_at);
                    continue;
                }
                Said::Response { method }
            }
            (false, Some(_), None) => continue,
            (false, Some(method), Some(id)) => {
                asked.insert(id, (method.clone(), place.clone()));
                open.insert(place.clone());
                Said::Request { method }
            }
            (false, None, Some(id)) => match asked_by_server.get(&id) {
                Some(method) if line.contains_key("result") => Said::ServerResponse { method: method.clone() },
                _ => continue,
            },
            (_, None, None) => {
                assert!(!incoming, "{place}: neither method nor id");
                continue;
            }
        };
        let part = match said {
            Said::Response { .. } | Said::ServerResponse { .. } => "result",
            _ => "params",
        };
        let payload = line.get(part).cloned().unwrap_or_else(|| Value::Object(Map::new()));
        lines.push(Line { place, said, payload });
    }
    refused.extend(open);
    refused.extend(MEANT_WRONG.map(str::to_owned));
    assert!(!version.is_empty(), "{name}: no version");
    Transcript { name, version, lines, wrong: refused }
}

/// What became of a payload.
struct Around {
    /// Decoded and encoded again.
    value: Value,
    /// Its `Debug`.
    shown: String,
}

/// Decodes the payload into the type that its method names and encodes it again.
fn around(line: &Line, payload: &Value) -> Result<Around, String> {
    let text = payload.to_string();
    let error = |error: DecodeError| format!("{}: {error}", line.place);
    let unknown = |method: &str| format!("{}: unknown method {method}", line.place);
    match &line.said {
        Said::Notification { method } => match ServerNotification::decode(method, &text).map_err(error)? {
            ServerNotification::Unknown { .. } => Err(unknown(method)),
            known => {
                assert_eq!(known.method(), method);
                Ok(Around { value: known.params().decode().unwrap(), shown: format!("{known:?}") })
            }
        },
        Said::ServerRequest { method } => match ServerRequestParams::decode(method, &text).map_err(error)? {
            ServerRequestParams::Unknown { .. } => Err(unknown(method)),
            known => Ok(Around { value: known.params().decode().unwrap(), shown: format!("{known:?}") }),
        },
        Said::Request { method } => visit_request(method, Params(&text)).ok_or_else(|| unknown(method))?.map_err(error),
        Said::Response { method } => {
            visit_request(method, Answer(&text)).ok_or_else(|| unknown(method))?.map_err(error)
        }
        Said::ServerResponse { method } => match method.as_str() {
            "account/chatgptAuthTokens/refresh" => both::<ChatgptAuthTokensRefreshResponse>(&text),
            "attestation/generate" => both::<AttestationGenerateResponse>(&text),
            "currentTime/read" => both::<CurrentTimeReadResponse>(&text),
            "item/commandExecution/requestApproval" => both::<CommandExecutionRequestApprovalResponse>(&text),
            "item/fileChange/requestApproval" => both::<FileChangeRequestApprovalResponse>(&text),
            "item/permissions/requestApproval" => both::<PermissionsRequestApprovalResponse>(&text),
            "item/tool/call" => both::<DynamicToolCallResponse>(&text),
            "item/tool/requestUserInput" => both::<ToolRequestUserInputResponse>(&text),
            "mcpServer/elicitation/request" => both::<McpServerElicitationRequestResponse>(&text),
            _ => return Err(unknown(method)),
        }
        .map_err(error),
    }
}

/// Both ways through serde, and the same without it.
fn both<T: DeserializeOwned + Serialize + Wire + Debug>(text: &str) -> Result<Around, DecodeError> {
    let value: T = decode(text)?;
    let through_serde = serde_json::to_string(&value).unwrap();
    assert_eq!(through_serde, encode(&value));
    Ok(Around { value: serde_json::from_str(&through_serde).unwrap(), shown: format!("{value:?}") })
}

struct Params<'a>(&'a str);

impl RequestVisitor for Params<'_> {
    type Output = Result<Around, DecodeError>;

    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + DeserializeOwned + Wire + Debug,
        A: DeserializeOwned + Serialize + Wire + Debug,
    {
        both::<R>(self.0)
    }
}

struct Answer<'a>(&'a str);

impl RequestVisitor for Answer<'_> {
    type Output = Result<Around, DecodeError>;

    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + DeserializeOwned + Wire + Debug,
        A: DeserializeOwned + Serialize + Wire + Debug,
    {
        let direct = encode(&R::decode_response(self.0)?);
        let around = both::<A>(self.0)?;
        assert_eq!(serde_json::from_str::<Value>(&direct).unwrap(), around.value);
        Ok(around)
    }
}

/// The members of `before` that `after` lacks, and whatever else differs; null and absent are the same.
fn differences(path: &str, before: &Value, after: &Value, found: &mut BTreeSet<String>) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (key, value) in before {
                match after.get(key) {
                    Some(other) => differences(&format!("{path}.{key}"), value, other, found),
                    None if value.is_null() => {}
                    None => {
                        found.insert(format!("{path}.{key} is unknown"));
                    }
                }
            }
            for (key, value) in after {
                if !before.contains_key(key) && !value.is_null() {
                    found.insert(format!("{path}.{key} was not there"));
                }
            }
        }
        (Value::Array(before), Value::Array(after)) if before.len() == after.len() => {
            for (before, after) in before.iter().zip(after) {
                differences(&format!("{path}[]"), before, after, found);
            }
        }
        _ if before == after => {}
        _ => {
            found.insert(format!("{path} differs"));
        }
    }
}

fn label(said: &Said) -> String {
    match said {
        Said::Notification { method } | Said::ServerRequest { method } | Said::Request { method } => method.clone(),
        Said::Response { method } | Said::ServerResponse { method } => format!("{method} answer"),
    }
}

#[test]
fn dr_09_every_line_of_every_transcript_decodes_and_is_written_back_as_the_same_value() {
    let mut by_version: BTreeMap<String, (usize, BTreeSet<String>)> = BTreeMap::new();
    let mut failures = Vec::new();
    let mut wrong = Vec::new();
    for transcript in transcripts() {
        let (count, unknown) = by_version.entry(transcript.version.clone()).or_default();
        for line in &transcript.lines {
            *count += 1;
            match around(line, &line.payload) {
                Ok(after) => {
                    let mut found = BTreeSet::new();
                    differences(&label(&line.said), &line.payload, &after.value, &mut found);
                    let right = !transcript.wrong.contains(&line.place);
                    assert!(!right || !after.shown.contains("<un"), "{}: {}", line.place, after.shown);
                    if transcript.wrong.contains(&line.place) && !found.is_empty() {
                        wrong.push(format!("{} ({}): {found:?}", line.place, label(&line.said)));
                    } else {
                        unknown.extend(found);
                    }
                }
                Err(error) if transcript.wrong.contains(&line.place) => wrong.push(error),
                Err(error) => failures.push(error),
            }
        }
        println!("{} {}: {} lines", transcript.name, transcript.version, transcript.lines.len());
    }
    for (version, (count, unknown)) in &by_version {
        println!("{version}: {count} lines, {} members unknown to the types: {unknown:#?}", unknown.len());
    }
    println!("sent to be wrong: {wrong:#?}");
    assert!(failures.is_empty(), "{failures:#?}");
    let versions: Vec<&str> = by_version.keys().map(String::as_str).collect();
    assert_eq!(versions, ["0.133.0", "0.144.4", "0.154.0", "0.163.0"]);
    let (count, unknown) = &by_version["0.163.0"];
    assert!(*count > 2000, "only {count} lines");
    assert!(unknown.is_empty(), "{unknown:#?}");
}

/// Every word of every enum in the schema of the pinned server, tags and named values included.
fn words() -> BTreeSet<String> {
    fn collect(value: &Value, words: &mut BTreeSet<String>) {
        match value {
            Value::Object(members) => {
                if let Some(Value::Array(values)) = members.get("enum") {
                    words.extend(values.iter().filter_map(Value::as_str).map(str::to_owned));
                }
                members.values().for_each(|value| collect(value, words));
            }
            Value::Array(values) => values.iter().for_each(|value| collect(value, words)),
            _ => {}
        }
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/codegen/schema/0.163.0.json");
    let schema: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    let mut words = BTreeSet::new();
    collect(&schema["definitions"], &mut words);
    assert!(words.len() > 500);
    words
}

/// Renames every word; those that are tags only if so wished, because an unknown tag hides what is within.
fn renamed(value: &Value, words: &BTreeSet<String>, tags: bool, count: &mut usize) -> Value {
    match value {
        Value::String(text) if words.contains(text) => {
            *count += 1;
            Value::String(format!("{text}FromTomorrow"))
        }
        Value::Array(values) => values.iter().map(|value| renamed(value, words, tags, count)).collect(),
        Value::Object(members) => members
            .iter()
            .map(|(key, value)| {
                let tag = matches!(key.as_str(), "type" | "mode" | "handlerType" | "kind");
                let kept = tag && !tags && value.is_string();
                (key.clone(), if kept { value.clone() } else { renamed(value, words, tags, count) })
            })
            .collect(),
        other => other.clone(),
    }
}

const ADDED: &str = "memberFromTomorrow";

/// Adds a member to every object.
fn widened(value: &Value, count: &mut usize) -> Value {
    match value {
        Value::Array(values) => values.iter().map(|value| widened(value, count)).collect(),
        Value::Object(members) => {
            let mut members: Map<String, Value> =
                members.iter().map(|(key, value)| (key.clone(), widened(value, count))).collect();
            members.insert(ADDED.to_owned(), serde_json::json!({"deep": [1, {"er": "\u{e9}\"\\"}]}));
            *count += 1;
            Value::Object(members)
        }
        other => other.clone(),
    }
}

fn narrowed(value: &Value) -> Value {
    match value {
        Value::Array(values) => values.iter().map(narrowed).collect(),
        Value::Object(members) => {
            members.iter().filter(|(key, _)| *key != ADDED).map(|(key, value)| (key.clone(), narrowed(value))).collect()
        }
        other => other.clone(),
    }
}

/// The lines that were not sent to be wrong.
fn good_lines() -> impl Iterator<Item = Line> {
    transcripts().into_iter().flat_map(|transcript| {
        let wrong = transcript.wrong;
        transcript.lines.into_iter().filter(move |line| !wrong.contains(&line.place))
    })
}

#[test]
fn dr_01_with_every_word_of_every_transcript_renamed_every_line_decodes_and_is_written_back() {
    let words = words();
    for tags in [false, true] {
        let mut count = 0;
        for line in good_lines() {
            let payload = renamed(&line.payload, &words, tags, &mut count);
            let after = around(&line, &payload).unwrap();
            let mut found = BTreeSet::new();
            differences(&line.place, &payload, &after.value, &mut found);
            assert!(found.is_empty(), "{found:?}");
            assert!(!after.shown.contains("<undecodable"), "{}: {}", line.place, after.shown);
        }
        assert!(count > 1500, "only {count} words renamed");
    }
}

#[test]
fn dr_03_with_a_member_added_to_every_object_of_every_transcript_the_types_read_the_same() {
    let mut count = 0;
    for line in good_lines() {
        let after = around(&line, &widened(&line.payload, &mut count)).unwrap();
        assert!(!after.shown.contains("<un"), "{}: {}", line.place, after.shown);
        // What is kept as JSON and what has keys of its own keep the new member, all else drops it.
        let mut found = BTreeSet::new();
        differences(&line.place, &line.payload, &narrowed(&after.value), &mut found);
        assert!(found.is_empty(), "{found:?}");
    }
    assert!(count > 7000, "only {count} objects widened");
}

/// Texts that a user wrote or a model said, roughly: longer strings of several words.
fn texts<'a>(value: &'a Value, into: &mut Vec<&'a str>) {
    match value {
        Value::String(text) if text.len() > 12 && text.contains(' ') => into.push(text),
        Value::Array(values) => values.iter().for_each(|value| texts(value, into)),
        Value::Object(members) => members.values().for_each(|value| texts(value, into)),
        _ => {}
    }
}

#[test]
fn no_text_of_any_transcript_shows_in_debug() {
    let mut count = 0;
    for line in good_lines() {
        let shown = around(&line, &line.payload).unwrap().shown;
        let mut hidden = Vec::new();
        texts(&line.payload, &mut hidden);
        for text in hidden {
            assert!(!shown.contains(text), "{}: {shown}", line.place);
            count += 1;
        }
    }
    assert!(count > 600, "only {count} texts looked for");
}

/// Every value in `value` that is neither an object nor a list, replaced by each of `others` in its turn.
fn damaged(value: &Value, others: &[Value], visit: &mut dyn FnMut(&Value)) {
    fn places(value: &Value, at: &mut Vec<String>, into: &mut Vec<String>) {
        match value {
            Value::Object(members) => members.iter().for_each(|(key, value)| {
                at.push(key.replace('~', "~0").replace('/', "~1"));
                places(value, at, into);
                at.pop();
            }),
            Value::Array(values) => values.iter().enumerate().for_each(|(index, value)| {
                at.push(index.to_string());
                places(value, at, into);
                at.pop();
            }),
            _ => into.push(at.iter().map(|step| format!("/{step}")).collect()),
        }
    }
    let mut found = Vec::new();
    places(value, &mut Vec::new(), &mut found);
    for place in found {
        let mut copy = value.clone();
        for other in others {
            if let Some(target) = copy.pointer_mut(&place) {
                *target = other.clone();
            }
            visit(&copy);
        }
    }
}

#[test]
fn rq_12_whatever_stands_in_for_a_value_decodes_or_fails_with_the_path_to_it() {
    let others = [
        Value::Null,
        Value::Bool(true),
        1.into(),
        (-1.5).into(),
        "x".into(),
        Value::Array(vec![]),
        Value::Object(Map::new()),
    ];
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let (mut fits, mut fails) = (0, 0);
    for line in good_lines() {
        let times = seen.entry(format!("{:?}", line.said)).or_default();
        *times += 1;
        // The first line of each sort stands for all.
        if *times > 1 || line.payload.to_string().len() > 5000 {
            continue;
        }
        damaged(&line.payload, &others, &mut |payload| match around(&line, payload) {
            Ok(after) => {
                let mut found = BTreeSet::new();
                differences(&line.place, payload, &after.value, &mut found);
                // A plain member that is null or not there takes its default.
                found.retain(|difference| difference.ends_with("is unknown"));
                assert!(found.is_empty(), "{found:?}");
                fits += 1;
            }
            Err(error) => {
                let path = error.split('`').nth(1).unwrap_or_default();
                assert!(!path.is_empty(), "{error}");
                fails += 1;
            }
        });
    }
    assert!(fits > 2000 && fails > 2000, "{fits} fit, {fails} fail");
}

#[test]
fn a_line_that_is_cut_off_never_decodes() {
    for line in good_lines().step_by(23) {
        let text = line.payload.to_string();
        let Said::Notification { method } = &line.said else { continue };
        for end in (1..text.len()).filter(|end| text.is_char_boundary(*end)).step_by(7) {
            assert!(ServerNotification::decode(method, &text[..end]).is_err(), "{}: cut at {end}", line.place);
        }
    }
}
