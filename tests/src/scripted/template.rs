//! Variables in the JSON of a script.
//!
//! The rules of replacement, and the table of variables that a track knows, are in `SCRIPTS.md`. Missing members become null:
//! a script never fails for something that the client left out.

use serde_json::Value;

/// What the variables stand for.
pub(crate) trait Scope {
    /// The value of a variable, `name` without the `$` and without the path.
    ///
    /// `Err` if there is no variable of that name, `Ok(None)` if it is known and has no value now.
    fn value(&mut self, name: &str, path: &str) -> Result<Option<Value>, UnknownName>;
}

/// The name is no variable: the text stays as it is.
pub(crate) struct UnknownName;

/// Replaces all variables in a value.
pub(crate) fn render(template: &Value, scope: &mut dyn Scope) -> Value {
    match template {
        Value::Array(items) => Value::Array(items.iter().map(|item| render(item, scope)).collect()),
        Value::Object(members) => {
            Value::Object(members.iter().map(|(name, member)| (name.clone(), render(member, scope))).collect())
        }
        Value::String(text) => render_string(text, scope),
        _ => template.clone(),
    }
}

fn render_string(text: &str, scope: &mut dyn Scope) -> Value {
    if let Some(rest) = text.strip_prefix("$$") {
        return Value::String(format!("${rest}"));
    }
    if let Some(variable) = text.strip_prefix('$') {
        if is_variable(variable) {
            let (name, path) = split(variable);
            if let Ok(value) = scope.value(name, path) {
                return value.unwrap_or(Value::Null);
            }
        }
    }
    Value::String(render_text(text, scope))
}

/// Replaces `${…}` in a text.
pub(crate) fn render_text(text: &str, scope: &mut dyn Scope) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("${") {
        out.push_str(before);
        let inside = after.split_once('}').filter(|(variable, _)| is_variable(variable));
        let known = inside.and_then(|(variable, tail)| {
            let (name, path) = split(variable);
            scope.value(name, path).ok().map(|value| (value, tail))
        });
        match known {
            Some((value, tail)) => {
                match value {
                    None | Some(Value::Null) => {}
                    Some(Value::String(text)) => out.push_str(&text),
                    Some(other) => out.push_str(&other.to_string()),
                }
                rest = tail;
            }
            None => {
                out.push_str("${");
                rest = after;
            }
        }
    }
    out.push_str(rest);
    out
}

fn is_variable(text: &str) -> bool {
    text.starts_with(|first: char| first.is_ascii_lowercase())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-' | b'/'))
}

fn split(variable: &str) -> (&str, &str) {
    variable.split_once('.').unwrap_or((variable, ""))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::scripted::wire::lookup;
    use serde_json::json;

    struct Fixed(Value);

    impl Scope for Fixed {
        fn value(&mut self, name: &str, path: &str) -> Result<Option<Value>, UnknownName> {
            let value = self.0.get(name).ok_or(UnknownName)?;
            Ok(lookup(value, path).cloned())
        }
    }

    #[test]
    fn variables_keep_their_type_and_missing_ones_become_null() {
        let mut scope = Fixed(json!({"id": 7, "params": {"a": [{"b": "x"}]}}));
        let template = json!({"id": "$id", "b": "$params.a.0.b", "gone": "$params.z.z", "all": ["$params"], "n": 1});
        let expected = json!({"id": 7, "b": "x", "gone": null, "all": [{"a": [{"b": "x"}]}], "n": 1});
        assert_eq!(render(&template, &mut scope), expected);
    }

    #[test]
    fn text_takes_variables_in_braces_and_leaves_other_dollars_alone() {
        let mut scope = Fixed(json!({"id": 7, "params": {"name": "Ann"}}));
        let cases = [
            ("for ${params.name} (${id}${params.no})", "for Ann (7)"),
            ("$5.00", "$5.00"),
            ("$unknown", "$unknown"),
            ("${unknown} ${", "${unknown} ${"),
            ("$$id", "$id"),
        ];
        for (template, expected) in cases {
            assert_eq!(render(&json!(template), &mut scope), json!(expected));
        }
    }
}
