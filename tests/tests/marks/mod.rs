//! The messages of the recorded sessions, with marks where texts were.

use serde_json::{Map, Value};
use std::{fs, path::Path};
use turnwire_core::record::{Line, Recording, Redactor, Step};

/// In every text that must not get out.
pub(crate) const MARK: &str = "hunter2";
/// A number that must not get out.
pub(crate) const NUMBER: u64 = 987_654_321;

/// The recorded sessions, by name.
pub(crate) fn recordings() -> Vec<(String, Recording)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut paths: Vec<_> =
        fs::read_dir(folder).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    paths.sort();
    let read = |path: &std::path::PathBuf| {
        let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let recording = Recording::parse(&fs::read_to_string(path).expect("read")).expect(&name);
        (name, recording)
    };
    paths.iter().map(read).collect()
}

/// How much is marked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Marks {
    /// Every text, methods and ids and the words of the protocol included, and every name.
    Everything,
    /// Every text but what the connection routes by and what says which type it is.
    Texts,
}

/// The recording with marks.
pub(crate) fn marked(recording: &Recording, marks: Marks) -> Recording {
    let mut recording = recording.clone();
    for record in &mut recording.records {
        match &mut record.step {
            Step::Received(line) | Step::Sent(line) => {
                let text = match serde_json::from_slice::<Value>(&line.bytes) {
                    Ok(value @ Value::Object(_)) => mark(&value, "", marks).to_string(),
                    _ => format!("{}{MARK}", line.text()),
                };
                *line = Line::new(text.as_bytes());
            }
            Step::Remark(text) => text.0 = MARK.into(),
            _ => {}
        }
    }
    recording
}

/// Whether the text is a word of the protocol where it stands. An unknown word in the place of one is shown as it is.
fn is_word(name: &str, text: &str) -> bool {
    let message = serde_json::json!({"method": "m", "params": {name: text}});
    let redacted = Redactor::default().line(&Line::new(message.to_string().as_bytes()));
    serde_json::from_slice::<Value>(&redacted.bytes).is_ok_and(|redacted| redacted["params"][name] == text)
}

fn mark(value: &Value, name: &str, marks: Marks) -> Value {
    match value {
        Value::String(text) => {
            let is_routing = ["id", "method", "type", "status", "phase", "kind", "userAgent"].contains(&name)
                || name.ends_with("Id")
                || name.ends_with("Ids");
            if marks == Marks::Texts && (is_routing || is_word(name, text)) {
                return value.clone();
            }
            // Beside what was there, and as long as a key.
            Value::from(format!("{text}{MARK}{}", "s".repeat(20)))
        }
        Value::Array(values) => Value::Array(values.iter().map(|value| mark(value, name, marks)).collect()),
        Value::Object(members) => {
            let mut marked: Map<String, Value> =
                members.iter().map(|(name, value)| (name.clone(), mark(value, name, marks))).collect();
            marked.insert(format!("{MARK}-text"), Value::from(MARK));
            marked.insert(format!("{MARK}-number"), Value::from(NUMBER));
            marked.insert(format!("{MARK}-list"), serde_json::json!([NUMBER, MARK, {"text": MARK, "status": MARK}]));
            Value::Object(marked)
        }
        other => other.clone(),
    }
}
