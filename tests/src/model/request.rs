//! What the server asked the scripted model.

use std::fmt;
use std::sync::Arc;

use serde_json::Value;

/// One `POST /responses` as it came. Clones share the body.
#[derive(Clone)]
pub struct ModelRequest {
    inner: Arc<Inner>,
}

struct Inner {
    number: usize,
    headers: Vec<(String, String)>,
    body: Value,
}

impl ModelRequest {
    pub(super) fn new(number: usize, headers: Vec<(String, String)>, body: Value) -> Self {
        Self { inner: Arc::new(Inner { number, headers, body }) }
    }

    /// The place of this request among all that this model got, from 0.
    #[must_use]
    pub fn number(&self) -> usize {
        self.inner.number
    }

    /// The JSON body.
    #[must_use]
    pub fn body(&self) -> &Value {
        &self.inner.body
    }

    /// The first header of that name, in any case of letters.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        let found = self.inner.headers.iter().find(|(key, _)| key.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    /// The model's name.
    #[must_use]
    pub fn model(&self) -> &str {
        self.body().get("model").and_then(Value::as_str).unwrap_or_default()
    }

    /// The cache key of the conversation. The server sends its thread id here, so that this tells concurrent threads
    /// apart.
    #[must_use]
    pub fn conversation(&self) -> &str {
        self.body().get("prompt_cache_key").and_then(Value::as_str).unwrap_or_default()
    }

    /// The items of the conversation so far.
    #[must_use]
    pub fn input(&self) -> &[Value] {
        self.body().get("input").and_then(Value::as_array).map_or(&[], Vec::as_slice)
    }

    /// The texts of all messages of the user, oldest first. The server speaks as the user too (the description of its
    /// environment, for instance), so look for a text rather than at a position.
    #[must_use]
    pub fn texts(&self) -> Vec<&str> {
        let messages = self.input().iter().filter(|item| is(item, "type", "message") && is(item, "role", "user"));
        let parts = messages.filter_map(|item| item.get("content")?.as_array()).flatten();
        parts.filter_map(|part| part.get("text")?.as_str()).collect()
    }

    /// The last text of the user; empty if there is none.
    #[must_use]
    pub fn last_text(&self) -> &str {
        self.texts().last().copied().unwrap_or_default()
    }

    /// True if some message of the user contains `text`.
    #[must_use]
    pub fn has_text(&self, text: &str) -> bool {
        self.texts().iter().any(|one| one.contains(text))
    }

    /// What the tools of earlier calls returned, oldest first: the id of the call and the output as text (an output
    /// that is not a string is given as JSON).
    #[must_use]
    pub fn tool_outputs(&self) -> Vec<(&str, String)> {
        let outputs = self
            .input()
            .iter()
            .filter(|item| is(item, "type", "function_call_output") || is(item, "type", "custom_tool_call_output"));
        let pairs = outputs.map(|item| {
            let call_id = item.get("call_id").and_then(Value::as_str).unwrap_or_default();
            let output = match item.get("output") {
                Some(Value::String(text)) => text.clone(),
                Some(other) => other.to_string(),
                None => String::new(),
            };
            (call_id, output)
        });
        pairs.collect()
    }

    /// The names of the tools on offer.
    #[must_use]
    pub fn tools(&self) -> Vec<&str> {
        let tools = self.body().get("tools").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
        tools.iter().filter_map(|tool| tool.get("name")?.as_str()).collect()
    }
}

/// Lengths only: the body holds what the user said, the headers may hold keys.
impl fmt::Debug for ModelRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ModelRequest")
            .field("number", &self.number())
            .field("headers", &self.inner.headers.len())
            .field("input_items", &self.input().len())
            .finish_non_exhaustive()
    }
}

fn is(item: &Value, key: &str, expected: &str) -> bool {
    item.get(key).and_then(Value::as_str) == Some(expected)
}
