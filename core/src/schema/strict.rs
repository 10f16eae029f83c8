//! Bringing a schema into the strict subset. What cannot be brought there is left as it is, for the linter to find.

use super::{MAX_DEPTH, lint::FORMATS, resolve};
use alloc::{
    borrow::ToOwned,
    string::{String, ToString},
    vec::Vec,
};
use serde_json::{Map, Value, json};

/// Words that say something to people and validators, and nothing to a model in strict mode.
const DROPPED: [&str; 15] = [
    "$comment",
    "$id",
    "contentEncoding",
    "contentMediaType",
    "default",
    "deprecated",
    "examples",
    "maxLength",
    "maxProperties",
    "minLength",
    "minProperties",
    "readOnly",
    "title",
    "uniqueItems",
    "writeOnly",
];

pub(super) fn normalise(root: Value) -> Value {
    let whole = root.clone();
    let mut root = node(root, &whole, 0);
    if let Value::Object(object) = &mut root {
        object.remove("$schema");
        // A root that is a reference to a definition is that definition.
        let target = object.get("$ref").and_then(Value::as_str).filter(|target| *target != "#");
        if let Some(Value::Object(target)) = target.and_then(|target| resolve(&whole, target)) {
            let target = node(Value::Object(target.clone()), &whole, 0);
            object.remove("$ref");
            if let Value::Object(target) = target {
                object.extend(target);
            }
        }
        for table in ["$defs", "definitions"] {
            if let Some(Value::Object(definitions)) = object.get_mut(table) {
                for definition in definitions.values_mut() {
                    *definition = node(definition.take(), &whole, 0);
                }
            }
        }
    }
    root
}

fn node(value: Value, root: &Value, depth: usize) -> Value {
    let mut object = match value {
        Value::Object(object) if depth <= MAX_DEPTH => object,
        other => return other,
    };
    for word in DROPPED {
        object.remove(word);
    }
    rename(&mut object, "oneOf", "anyOf");
    merge_parts(&mut object, root);
    if let Some(constant) = object.remove("const") {
        object.insert("enum".into(), Value::Array([constant].into()));
    }
    name_type(&mut object);
    drop_format(&mut object);
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        for choice in choices.iter_mut() {
            *choice = node(choice.take(), root, depth + 1);
        }
        // Of the words beside a choice only the description has a place there.
        if object.get("type").is_some_and(|_| !object.contains_key("properties")) {
            object.remove("type");
        }
    }
    if let Some(items) = object.get_mut("items") {
        *items = node(items.take(), root, depth + 1);
    }
    if object.contains_key("properties") || has_type(&object, "object") {
        close(&mut object, root, depth);
    }
    wrap_reference(object)
}

fn rename(object: &mut Map<String, Value>, from: &str, to: &str) {
    if !object.contains_key(to) {
        if let Some(value) = object.remove(from) {
            object.insert(to.into(), value);
        }
    }
}

fn has_type(object: &Map<String, Value>, name: &str) -> bool {
    match object.get("type") {
        Some(Value::String(only)) => only == name,
        Some(Value::Array(names)) => names.iter().any(|one| one.as_str() == Some(name)),
        _ => false,
    }
}

/// Makes one object of an object and those it is composed of: `allOf`, and a `$ref` beside properties.
fn merge_parts(object: &mut Map<String, Value>, root: &Value) {
    let mut parts: Vec<Value> = Vec::new();
    if let Some(Value::Array(all)) = object.get("allOf") {
        parts.extend(all.iter().cloned());
    }
    let is_beside = object.contains_key("properties") || !parts.is_empty();
    if let (true, Some(Value::String(_))) = (is_beside, object.get("$ref")) {
        parts.extend(object.get("$ref").map(|target| json!({ "$ref": target })));
    }
    if parts.is_empty() {
        return;
    }
    // One part and nothing else of weight: it is that part.
    if let ([only], false) = (parts.as_slice(), object.contains_key("properties") || object.contains_key("$ref")) {
        if let Value::Object(only) = only {
            let only = only.clone();
            object.remove("allOf");
            for (word, value) in only {
                object.entry(word).or_insert(value);
            }
        }
        return;
    }
    let Some(parts) = parts.iter().map(|part| as_object(part, root)).collect::<Option<Vec<_>>>() else { return };
    // Two that say different things of one key are not made one.
    let mut said: Map<String, Value> = Map::new();
    let lists = core::iter::once(&*object).chain(parts.iter().copied()).filter_map(|part| part.get("properties"));
    for (name, value) in lists.filter_map(Value::as_object).flatten() {
        if said.insert(name.clone(), value.clone()).is_some_and(|before| before != *value) {
            return;
        }
    }
    object.remove("allOf");
    object.remove("$ref");
    object.entry("type").or_insert_with(|| "object".into());
    for part in parts {
        for word in ["properties", "required"] {
            match (object.get_mut(word), part.get(word)) {
                (Some(Value::Object(here)), Some(Value::Object(there))) => {
                    for (name, value) in there {
                        here.entry(name.clone()).or_insert_with(|| value.clone());
                    }
                }
                (Some(Value::Array(here)), Some(Value::Array(there))) => {
                    for name in there {
                        if !here.contains(name) {
                            here.push(name.clone());
                        }
                    }
                }
                (None, Some(there)) => drop(object.insert(word.into(), there.clone())),
                _ => {}
            }
        }
    }
}

/// The plain object that a part is, or refers to.
fn as_object<'a>(part: &'a Value, root: &'a Value) -> Option<&'a Map<String, Value>> {
    let mut part = part.as_object()?;
    // A chain of references that goes on is a circle.
    for _ in 0..8 {
        match part.get("$ref").and_then(Value::as_str) {
            Some(target) => part = resolve(root, target)?.as_object()?,
            None => break,
        }
    }
    let is_plain = has_type(part, "object")
        && !["$ref", "allOf", "anyOf", "oneOf", "patternProperties"].iter().any(|word| part.contains_key(*word))
        && part.get("additionalProperties").is_none_or(|more| more == &Value::Bool(false));
    is_plain.then_some(part)
}

/// Names the type where the values leave no doubt.
fn name_type(object: &mut Map<String, Value>) {
    if object.contains_key("type") {
        return;
    }
    if object.contains_key("properties") && !object.contains_key("anyOf") {
        object.insert("type".into(), "object".into());
        return;
    }
    let Some(Value::Array(values)) = object.get("enum") else { return };
    let mut names: Vec<&str> = Vec::new();
    for value in values {
        let name = match value {
            Value::Null => "null",
            Value::Bool(_) => "boolean",
            Value::Number(number) if number.is_f64() => "number",
            Value::Number(_) => "integer",
            Value::String(_) => "string",
            Value::Array(_) | Value::Object(_) => return,
        };
        if !names.contains(&name) {
            names.push(name);
        }
    }
    let names: Vec<Value> = names.into_iter().map(Value::from).collect();
    match <[Value; 1]>::try_from(names) {
        Ok([only]) => drop(object.insert("type".into(), only)),
        Err(names) => drop(object.insert("type".into(), Value::Array(names))),
    }
}

/// Formats say how wide a number is, which a model does not heed, or what a text looks like.
fn drop_format(object: &mut Map<String, Value>) {
    let is_known = object.get("format").and_then(Value::as_str).is_some_and(|format| FORMATS.contains(&format));
    if !is_known {
        object.remove("format");
    }
}

/// Closes an object and requires all its keys.
fn close(object: &mut Map<String, Value>, root: &Value, depth: usize) {
    // A map from any key to a value has no strict form: it stays open, and is found.
    if object.get("additionalProperties").is_none() {
        object.insert("additionalProperties".into(), Value::Bool(false));
    }
    let required: Vec<String> = object
        .get("required")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .map(ToOwned::to_owned)
        .collect();
    let mut names: Vec<Value> = Vec::new();
    if let Some(Value::Object(properties)) = object.get_mut("properties") {
        for (name, property) in properties.iter_mut() {
            // With a default the key may be missing and not null, so it is wanted.
            let may_be_missing = !required.contains(name) && property.get("default").is_none();
            *property = node(property.take(), root, depth + 1);
            if may_be_missing {
                *property = nullable(property.take(), root);
            }
            names.push(Value::from(name.as_str()));
        }
    } else if !is_map(object) {
        object.insert("properties".into(), Value::Object(Map::new()));
    }
    object.insert("required".into(), Value::Array(names));
}

/// Whether keys that are not named have a place: `additionalProperties` alone, and no properties.
fn is_map(object: &Map<String, Value>) -> bool {
    let has_properties =
        object.get("properties").and_then(Value::as_object).is_some_and(|properties| !properties.is_empty());
    !has_properties && object.get("additionalProperties").is_some_and(|more| more != &Value::Bool(false))
}

fn is_nullable(value: &Value, root: &Value, hops: usize) -> bool {
    let Some(object) = value.as_object() else { return false };
    if let Some(target) = object.get("$ref").and_then(Value::as_str) {
        return hops < 8 && resolve(root, target).is_some_and(|target| is_nullable(target, root, hops + 1));
    }
    let by_choice = |choice: &Value| is_nullable(choice, root, hops + 1);
    has_type(object, "null")
        || object
            .get("anyOf")
            .and_then(Value::as_array)
            .is_some_and(|choices| hops < 8 && choices.iter().any(by_choice))
}

/// Lets a value be null too.
fn nullable(value: Value, root: &Value) -> Value {
    if is_nullable(&value, root, 0) {
        return value;
    }
    let Value::Object(mut object) = value else { return value };
    let is_plain = !object.contains_key("anyOf") && !object.contains_key("$ref");
    if let (true, Some(Value::String(name))) = (is_plain, object.get("type")) {
        let names = json!([name, "null"]);
        object.insert("type".into(), names);
        if let Some(Value::Array(values)) = object.get_mut("enum") {
            values.push(Value::Null);
        }
        return Value::Object(object);
    }
    if let (true, Some(Value::Array(names))) = (is_plain, object.get_mut("type")) {
        names.push("null".into());
        if let Some(Value::Array(values)) = object.get_mut("enum") {
            values.push(Value::Null);
        }
        return Value::Object(object);
    }
    if let Some(Value::Array(choices)) = object.get_mut("anyOf") {
        choices.push(json!({"type": "null"}));
        return Value::Object(object);
    }
    if !object.contains_key("$ref") {
        // Nothing says what it is, which is for the linter to find.
        return Value::Object(object);
    }
    let description = object.remove("description");
    let mut choice = json!({"anyOf": [object, {"type": "null"}]});
    if let (Some(description), Some(choice)) = (description, choice.as_object_mut()) {
        choice.insert("description".to_string(), description);
    }
    choice
}

/// A `$ref` stands alone: a description beside it moves to a choice of one.
fn wrap_reference(mut object: Map<String, Value>) -> Value {
    if object.get("$ref").is_none_or(|target| !target.is_string()) {
        return Value::Object(object);
    }
    let beside = object.keys().all(|word| ["$ref", "description"].contains(&word.as_str()));
    match object.remove("description") {
        Some(description) if beside => json!({"anyOf": [object], "description": description}),
        Some(description) => {
            object.insert("description".into(), description);
            Value::Object(object)
        }
        None => Value::Object(object),
    }
}
