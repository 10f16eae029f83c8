//! Whether two lines say the same.

use super::redact::is_method;
use alloc::{
    format,
    string::{String, ToString},
};
use serde_json::Value;

/// How much has to be the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sameness {
    /// Members, kinds of value, methods: of redacted lines nothing else is left.
    Shape,
    /// Everything but the id of a request, the order of members, and absence where there is `null`.
    Value,
}

/// Where two lines part.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// Here, as a JSON pointer.
    At(String),
    /// Nowhere.
    None,
}

/// Compares two messages of a client.
#[must_use]
pub fn difference(expected: &[u8], actual: &[u8], sameness: Sameness) -> Difference {
    let parse = |line: &[u8]| serde_json::from_slice::<Value>(line).ok();
    let (Some(mut expected), Some(mut actual)) = (parse(expected), parse(actual)) else {
        return if expected == actual { Difference::None } else { Difference::At(String::new()) };
    };
    // Requests may be numbered differently in another run.
    for message in [&mut expected, &mut actual] {
        if message.get("method").is_some() {
            message.as_object_mut().map(|message| message.remove("id"));
        }
    }
    let mut path = String::new();
    if is_same(&expected, &actual, sameness, &mut path) { Difference::None } else { Difference::At(path) }
}

/// What a line is, in a word or two and without its text.
pub(super) fn name(line: &[u8]) -> String {
    let Ok(message) = serde_json::from_slice::<Value>(line) else { return "no message".to_string() };
    let method = message.get("method").and_then(Value::as_str);
    // What no schema has may be anything.
    let method =
        method.map(|method| if is_method(method) { format!("`{method}`") } else { "an unknown method".to_string() });
    match (method, message.get("error").is_some()) {
        (Some(method), _) => method,
        (None, true) => "an error".to_string(),
        (None, false) => "a result".to_string(),
    }
}

/// Leaves the place of the first difference in `path`.
fn is_same(expected: &Value, actual: &Value, sameness: Sameness, path: &mut String) -> bool {
    let length = path.len();
    let mut step = |name: &str, expected: &Value, actual: &Value| {
        path.push('/');
        path.push_str(&name.replace('~', "~0").replace('/', "~1"));
        let same = is_same(expected, actual, sameness, path);
        if same {
            path.truncate(length);
        }
        same
    };
    match (expected, actual) {
        (Value::Object(expected), Value::Object(actual)) => {
            if sameness == Sameness::Shape && expected.keys().any(|name| name.starts_with("key-")) {
                // Names went too, and no longer say which is which.
                return expected.len() == actual.len();
            }
            let null = Value::Null;
            expected.iter().all(|(name, value)| step(name, value, actual.get(name).unwrap_or(&null)))
                && actual
                    .iter()
                    .filter(|(name, _)| !expected.contains_key(*name))
                    .all(|(name, value)| step(name, &null, value))
        }
        (Value::Array(expected), Value::Array(actual)) => {
            expected.len() == actual.len()
                && expected
                    .iter()
                    .zip(actual)
                    .enumerate()
                    .all(|(at, (expected, actual))| step(&at.to_string(), expected, actual))
        }
        (Value::String(expected), Value::String(actual)) => match sameness {
            Sameness::Value => expected == actual,
            Sameness::Shape => path != "/method" || expected == actual,
        },
        (Value::Number(_), Value::Number(_)) | (Value::Bool(_), Value::Bool(_)) if sameness == Sameness::Shape => true,
        (expected, actual) => expected == actual,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(expected: &str, actual: &str, sameness: Sameness) -> Option<String> {
        match difference(expected.as_bytes(), actual.as_bytes(), sameness) {
            Difference::At(path) => Some(path),
            Difference::None => None,
        }
    }

    #[test]
    fn ids_of_requests_the_order_of_members_and_null_make_no_difference() {
        let (one, two) =
            (r#"{"id":1,"method":"m","params":{"a":1,"b":null}}"#, r#"{"params":{"a":1},"method":"m","id":7}"#);
        assert_eq!(at(one, two, Sameness::Value), None);
        assert_eq!(at(r#"{"id":1,"result":{}}"#, r#"{"id":2,"result":{}}"#, Sameness::Value).as_deref(), Some("/id"));
    }

    #[test]
    fn the_first_difference_is_named_by_its_place() {
        let (one, two) = (r#"{"method":"m","params":{"a/b":[1,"x"]}}"#, r#"{"method":"m","params":{"a/b":[1,"yy"]}}"#);
        assert_eq!(at(one, two, Sameness::Value).as_deref(), Some("/params/a~1b/1"));
        assert_eq!(at(one, two, Sameness::Shape), None);
        let other = r#"{"method":"m","params":{"a/b":[1,2]}}"#;
        assert_eq!(at(one, other, Sameness::Shape).as_deref(), Some("/params/a~1b/1"));
        assert_eq!(at(one, r#"{"method":"n","params":{}}"#, Sameness::Shape).as_deref(), Some("/method"));
    }
}
