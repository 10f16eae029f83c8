//! What of a schema is not in the strict subset.

use super::{MAX_DEPTH, SchemaError, SchemaFault, SchemaFaultKind, member, resolve};
use alloc::{format, string::String, vec::Vec};
use serde_json::{Map, Value};

/// The words that a node may have, whatever its type.
const WORDS: [&str; 22] = [
    "$defs",
    "$ref",
    "additionalProperties",
    "anyOf",
    "const",
    "definitions",
    "description",
    "enum",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "items",
    "maxItems",
    "maximum",
    "minItems",
    "minimum",
    "multipleOf",
    "pattern",
    "properties",
    "required",
    "title",
    "type",
];

pub(super) const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// The formats of texts that a model knows.
pub(super) const FORMATS: [&str; 9] =
    ["date", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "time", "uuid"];

pub(super) fn lint(root: &Value) -> Result<(), SchemaError> {
    let mut linter = Linter { root, faults: Vec::new() };
    let is_object = root.get("type").and_then(Value::as_str) == Some("object") && root.get("anyOf").is_none();
    if !is_object {
        linter.fault("$", SchemaFaultKind::Root);
    }
    linter.node("$", root, 0);
    for table in ["$defs", "definitions"] {
        let Some(definitions) = root.get(table) else { continue };
        let path = member("$", table);
        let Some(definitions) = definitions.as_object() else {
            linter.fault(&path, SchemaFaultKind::Malformed);
            continue;
        };
        for (name, definition) in definitions {
            linter.node(&member(&path, name), definition, 0);
        }
    }
    match linter.faults {
        faults if faults.is_empty() => Ok(()),
        faults => Err(SchemaError { faults }),
    }
}

struct Linter<'a> {
    root: &'a Value,
    faults: Vec<SchemaFault>,
}

impl Linter<'_> {
    fn fault(&mut self, path: &str, kind: SchemaFaultKind) {
        self.faults.push(SchemaFault { path: path.into(), kind });
    }

    fn node(&mut self, path: &str, node: &Value, depth: usize) {
        if depth > MAX_DEPTH {
            return self.fault(path, SchemaFaultKind::Deep);
        }
        let node = match node {
            Value::Object(node) => node,
            Value::Bool(true) => return self.fault(path, SchemaFaultKind::Untyped),
            _ => return self.fault(path, SchemaFaultKind::Malformed),
        };
        for word in node.keys() {
            let is_known = WORDS.contains(&word.as_str()) || (path == "$" && word == "$schema");
            if !is_known {
                self.fault(path, SchemaFaultKind::Unsupported(word.clone()));
            }
        }
        if let Some(reference) = node.get("$ref") {
            return self.reference(path, node, reference);
        }
        if let Some(choices) = node.get("anyOf") {
            // What else there is would hold together with each choice, and a closed object fits no other closed object.
            let has_more = node.keys().any(|word| !["anyOf", "description"].contains(&&**word));
            if has_more && path != "$" {
                self.fault(path, SchemaFaultKind::Siblings);
            }
            match choices.as_array().filter(|choices| !choices.is_empty()) {
                Some(choices) => {
                    for (index, choice) in choices.iter().enumerate() {
                        self.node(&format!("{path}.anyOf[{index}]"), choice, depth + 1);
                    }
                }
                None => self.fault(path, SchemaFaultKind::Malformed),
            }
            return;
        }
        let types = self.types(path, node);
        if let Some(format) = node.get("format") {
            if !format.as_str().is_some_and(|format| FORMATS.contains(&format)) {
                self.fault(path, SchemaFaultKind::Unsupported("format".into()));
            }
        }
        if types.iter().any(|name| name == "object") {
            self.object(path, node, depth);
        }
        if types.iter().any(|name| name == "array") {
            match node.get("items") {
                Some(items) => self.node(&format!("{path}.items"), items, depth + 1),
                None => self.fault(&format!("{path}.items"), SchemaFaultKind::Untyped),
            }
        }
    }

    fn types(&mut self, path: &str, node: &Map<String, Value>) -> Vec<String> {
        let names: Option<Vec<String>> = match node.get("type") {
            Some(Value::String(name)) => Some([name.clone()].into()),
            Some(Value::Array(names)) if !names.is_empty() => {
                names.iter().map(|name| name.as_str().map(String::from)).collect()
            }
            Some(_) => None,
            None => {
                self.fault(path, SchemaFaultKind::Untyped);
                return Vec::new();
            }
        };
        let known = names.filter(|names| names.iter().all(|name| TYPES.contains(&name.as_str())));
        known.unwrap_or_else(|| {
            self.fault(path, SchemaFaultKind::Malformed);
            Vec::new()
        })
    }

    fn reference(&mut self, path: &str, node: &Map<String, Value>, reference: &Value) {
        let has_more =
            node.keys().any(|word| !(word == "$ref" || path == "$" && ["$defs", "$schema"].contains(&&**word)));
        if has_more {
            self.fault(path, SchemaFaultKind::Siblings);
        }
        if !self.leads_to_schema(reference) {
            self.fault(path, SchemaFaultKind::Dangling);
        }
    }

    /// Whether a reference leads to a schema that says something: not to a mere value, and not in a circle.
    fn leads_to_schema(&self, reference: &Value) -> bool {
        let mut reference = reference;
        for _ in 0..MAX_DEPTH {
            let target = reference.as_str().and_then(|reference| resolve(self.root, reference));
            let Some(target) = target.and_then(Value::as_object) else { return false };
            match target.get("$ref") {
                Some(next) => reference = next,
                None => return true,
            }
        }
        false
    }

    fn object(&mut self, path: &str, node: &Map<String, Value>, depth: usize) {
        if node.get("additionalProperties") != Some(&Value::Bool(false)) {
            self.fault(path, SchemaFaultKind::Open);
        }
        let none = Map::new();
        let properties = match node.get("properties") {
            Some(Value::Object(properties)) => properties,
            Some(_) => return self.fault(path, SchemaFaultKind::Malformed),
            None => &none,
        };
        let required: Vec<&str> =
            node.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
        if required.iter().any(|name| !properties.contains_key(*name)) {
            self.fault(path, SchemaFaultKind::Malformed);
        }
        for (name, property) in properties {
            let path = member(&format!("{path}.properties"), name);
            if !required.contains(&name.as_str()) {
                self.fault(&path, SchemaFaultKind::Optional);
            }
            self.node(&path, property, depth + 1);
        }
    }
}
