//! One line of the protocol in and out: what a client line is, and how the server's lines are written.
//!
//! Owns the envelope (`id`, `method`, `params`, `result`, `error`) and nothing inside it. Never decides what to answer.

use serde::{Deserialize, Deserializer};
use serde_json::Value;

/// What one line of the client turned out to be.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Incoming {
    /// `result` or `error` for a request of the server: the whole object, and its id.
    Answer { id: Value, answer: Value },
    /// Not a JSON-RPC message that the real server would act on. It says nothing about such lines on stdout.
    Noise,
    /// A method without a usable id.
    Notification(Call),
    /// A method with an id.
    Request(Call),
}

/// A request or notification of the client.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Call {
    /// Null for a notification.
    pub(crate) id: Value,
    pub(crate) method: String,
    /// Null when absent.
    pub(crate) params: Value,
}

/// A struct and not a `Value`, because the real server drops lines that name one of these members twice.
#[derive(Deserialize)]
struct Envelope {
    #[serde(default)]
    id: Value,
    #[serde(default)]
    method: Option<String>,
    #[serde(default)]
    params: Value,
    #[serde(default, deserialize_with = "present")]
    result: Option<Value>,
    #[serde(default, deserialize_with = "present")]
    error: Option<Value>,
}

/// Keeps `"result":null` apart from an absent result.
fn present<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Value>, D::Error> {
    Value::deserialize(deserializer).map(Some)
}

/// Reads one line, without its newline.
pub(crate) fn read_line(line: &str) -> Incoming {
    let Ok(envelope) = serde_json::from_str::<Envelope>(line) else { return Incoming::Noise };
    let usable_id = envelope.id.is_string() || envelope.id.as_i64().is_some();
    if let Some(method) = envelope.method {
        let id = if usable_id { envelope.id } else { Value::Null };
        let call = Call { id, method, params: envelope.params };
        return if usable_id { Incoming::Request(call) } else { Incoming::Notification(call) };
    }
    if !usable_id {
        return Incoming::Noise;
    }
    let mut answer = serde_json::Map::new();
    if let Some(result) = envelope.result {
        answer.insert("result".to_owned(), result);
    }
    if let Some(error) = envelope.error {
        answer.insert("error".to_owned(), error);
    }
    if answer.is_empty() {
        return Incoming::Noise;
    }
    answer.insert("id".to_owned(), envelope.id.clone());
    Incoming::Answer { id: envelope.id, answer: Value::Object(answer) }
}

/// A successful response, in the member order of the real server.
pub(crate) fn response(id: &Value, result: &Value) -> String {
    format!("{{\"id\":{id},\"result\":{result}}}\n")
}

/// An error response. The real server writes `error` first, and leaves `data` out when there is none.
pub(crate) fn error_response(id: &Value, code: i64, message: &str, data: Option<&Value>) -> String {
    let message = Value::from(message);
    match data {
        Some(data) => format!("{{\"error\":{{\"code\":{code},\"data\":{data},\"message\":{message}}},\"id\":{id}}}\n"),
        None => format!("{{\"error\":{{\"code\":{code},\"message\":{message}}},\"id\":{id}}}\n"),
    }
}

/// A notification, with `emittedAtMs` unless the played version has none.
pub(crate) fn notification(method: &str, params: &Value, emitted_at_ms: Option<u64>) -> String {
    let method = Value::from(method);
    match emitted_at_ms {
        Some(at) => format!("{{\"method\":{method},\"params\":{params},\"emittedAtMs\":{at}}}\n"),
        None => format!("{{\"method\":{method},\"params\":{params}}}\n"),
    }
}

/// A request of the server.
pub(crate) fn request(method: &str, id: &Value, params: &Value) -> String {
    format!("{{\"method\":{},\"id\":{id},\"params\":{params}}}\n", Value::from(method))
}

/// Looks up `a.b.0` inside a value. The empty path is the value itself.
pub(crate) fn lookup<'a>(value: &'a Value, path: &str) -> Option<&'a Value> {
    path.split('.').filter(|part| !part.is_empty()).try_fold(value, |value, part| match value {
        Value::Array(items) => part.parse::<usize>().ok().and_then(|index| items.get(index)),
        Value::Object(members) => members.get(part),
        _ => None,
    })
}

const BASE64: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// Base64 with padding, so that a script can carry bytes that are not text.
pub(crate) fn base64_encode(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |index: usize| u32::from(chunk.get(index).copied().unwrap_or(0));
        let word = byte(0) << 16 | byte(1) << 8 | byte(2);
        for place in 0..4 {
            let digit = (word >> (18 - 6 * place)) as usize & 63;
            text.push(if place <= chunk.len() { char::from(BASE64[digit]) } else { '=' });
        }
    }
    text
}

/// The inverse of [`base64_encode`]; padding may be missing. `None` for any other character.
pub(crate) fn base64_decode(text: &str) -> Option<Vec<u8>> {
    let text = text.trim_end_matches('=');
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3 + 2);
    let (mut word, mut bits) = (0u32, 0u32);
    for character in text.bytes() {
        let digit = BASE64.iter().position(|&known| known == character)?;
        word = word << 6 | digit as u32;
        bits += 6;
        if bits >= 8 {
            bits -= 8;
            bytes.push((word >> bits) as u8);
            word &= (1 << bits) - 1;
        }
    }
    // A single left-over digit holds less than a byte: such a text was cut.
    if bits == 6 { None } else { Some(bytes) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn lines_are_told_apart_as_the_real_server_does() {
        assert!(matches!(read_line(r#"{"id":1,"method":"x","params":{}}"#), Incoming::Request(_)));
        assert!(matches!(read_line(r#"{"id":"","method":"x"}"#), Incoming::Request(_)));
        for id in ["1.5", "1.0", "null", "true", "{}", "9223372036854775808"] {
            let line = format!(r#"{{"id":{id},"method":"x","params":{{}}}}"#);
            assert!(matches!(read_line(&line), Incoming::Notification(_)), "{line}");
        }
        assert!(matches!(read_line(r#"{"id":0,"result":null}"#), Incoming::Answer { .. }));
        for noise in ["", "hello", "42", "null", "[]", "{}", r#"{"id":1}"#, r#"{"id":1,"id":1,"method":"x"}"#] {
            assert_eq!(read_line(noise), Incoming::Noise, "{noise}");
        }
    }

    #[test]
    fn base64_comes_back_as_it_went() {
        for length in 0..9u8 {
            let bytes: Vec<u8> = (0..length).map(|index| 250u8.wrapping_add(index.wrapping_mul(37))).collect();
            assert_eq!(base64_decode(&base64_encode(&bytes)), Some(bytes));
        }
        assert_eq!(base64_decode("//4="), Some(vec![0xff, 0xfe]));
        assert_eq!(base64_decode("A"), None);
        assert_eq!(base64_decode("a b"), None);
    }

    #[test]
    fn a_path_reaches_into_objects_and_lists() {
        let value = json!({"input": [{"text": "hi"}]});
        assert_eq!(lookup(&value, "input.0.text"), Some(&json!("hi")));
        assert_eq!(lookup(&value, "input.1.text"), None);
        assert_eq!(lookup(&value, ""), Some(&value));
    }
}
