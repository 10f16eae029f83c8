//! Normalising and linting, case by case, and over schemas that are put together at random.

use super::*;
use alloc::string::ToString;
use proptest::prelude::*;
use serde_json::json;

fn normal(schema: Value) -> Result<Value, String> {
    match normalise(&Json::from(schema)) {
        Ok(json) => Ok(json.decode().expect("a value")),
        Err(error) => Err(error.to_string()),
    }
}

fn faults(schema: Value) -> Vec<String> {
    lint(&Json::from(schema)).err().into_iter().flat_map(|error| error.faults).map(|fault| fault.to_string()).collect()
}

#[test]
fn in_09_what_may_be_missing_is_required_and_nullable() {
    let schema = json!({"type": "object", "properties": {
        "text": {"type": ["string", "null"]}, "word": {"type": "string", "enum": ["a"]}, "kind": {"$ref": "#/$defs/Kind"},
        "list": {"anyOf": [{"type": "string"}, {"type": "integer"}]}, "count": {"type": "integer", "default": 0},
        "must": {"type": "boolean"}}, "required": ["must"],
        "$defs": {"Kind": {"type": "object", "properties": {}}}});
    let strict = normal(schema).expect("strict");
    assert_eq!(strict["required"], json!(["count", "kind", "list", "must", "text", "word"]));
    assert_eq!(strict["additionalProperties"], false);
    let properties = &strict["properties"];
    assert_eq!(properties["text"], json!({"type": ["string", "null"]}));
    assert_eq!(properties["word"], json!({"type": ["string", "null"], "enum": ["a", null]}));
    assert_eq!(properties["kind"], json!({"anyOf": [{"$ref": "#/$defs/Kind"}, {"type": "null"}]}));
    assert_eq!(properties["list"], json!({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}));
    assert_eq!(properties["count"], json!({"type": "integer"}), "it has a default that is not null");
    assert_eq!(properties["must"], json!({"type": "boolean"}));
    assert_eq!(strict["$defs"]["Kind"]["additionalProperties"], false);
}

#[test]
fn words_without_a_meaning_go_and_others_change_their_name() {
    let schema = json!({"$schema": "x", "title": "T", "type": "object", "required": ["a", "b", "c", "d"], "properties": {
        "a": {"type": "integer", "format": "uint8", "minimum": 0, "maximum": 255, "title": "A"},
        "b": {"oneOf": [{"const": "x", "description": "An x."}, {"const": "y", "type": "string"}]},
        "c": {"type": "string", "format": "date-time", "minLength": 1},
        "d": {"$ref": "#/$defs/D", "description": "A d."}},
        "$defs": {"D": {"type": "array", "items": {"type": "number", "format": "double"}, "uniqueItems": true}}});
    let strict = normal(schema).expect("strict");
    assert_eq!(strict["properties"]["a"], json!({"type": "integer", "minimum": 0, "maximum": 255}));
    let b = json!({"anyOf": [{"enum": ["x"], "type": "string", "description": "An x."}, {"enum": ["y"], "type": "string"}]});
    assert_eq!(strict["properties"]["b"], b);
    assert_eq!(strict["properties"]["c"], json!({"type": "string", "format": "date-time"}));
    assert_eq!(strict["properties"]["d"], json!({"anyOf": [{"$ref": "#/$defs/D"}], "description": "A d."}));
    assert_eq!(strict["$defs"]["D"], json!({"type": "array", "items": {"type": "number"}}));
    assert!(strict.get("title").is_none() && strict.get("$schema").is_none());
}

#[test]
fn parts_of_an_object_become_one_object() {
    let schema = json!({"type": "object", "required": ["v"], "properties": {"v": {"oneOf": [
        {"type": "object", "properties": {"kind": {"const": "a"}}, "required": ["kind"], "$ref": "#/$defs/A"}]}},
        "$defs": {"A": {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}}});
    let strict = normal(schema).expect("strict");
    let merged = &strict["properties"]["v"]["anyOf"][0];
    assert_eq!(merged["required"], json!(["kind", "n"]));
    assert_eq!(merged["properties"], json!({"kind": {"enum": ["a"], "type": "string"}, "n": {"type": "integer"}}));
    assert!(merged.get("$ref").is_none());
}

#[test]
fn what_has_no_strict_form_is_a_fault_with_its_path() {
    for (schema, expected) in [
        (json!({"type": "array", "items": {"type": "string"}}), "`$` is no object"),
        (
            json!({"type": "object", "properties": {"m": {"type": "object", "additionalProperties": {"type": "string"}}}}),
            "`$.properties.m` is not closed",
        ),
        (json!({"type": "object", "properties": {"any": true}}), "`$.properties.any` has no type"),
        (json!({"type": "object", "properties": {"any": {}}}), "`$.properties.any` has no type"),
        (
            json!({"type": "object", "properties": {"t": {"type": "array", "prefixItems": [{"type": "string"}]}}}),
            "`$.properties.t` has `prefixItems`",
        ),
        (json!({"type": "object", "properties": {"a b": {"$ref": "#/$defs/No"}}}), "refers to nothing"),
        (
            json!({"type": "object", "properties": {"n": {"type": "string", "not": {"type": "null"}}}}),
            "`$.properties.n` has `not`",
        ),
        (json!("text"), "`$` is no object"),
    ] {
        let error = normal(schema).expect_err(expected);
        assert!(error.contains(expected), "{error}");
    }
}

#[test]
fn a_raw_schema_is_linted_with_the_path_of_each_fault() {
    let schema = json!({"type": "object", "additionalProperties": false, "required": ["a"], "properties": {
        "a": {"type": "object", "properties": {"odd name": {"type": "string"}}, "required": []},
        "b": {"type": "array", "items": {"type": "strnig"}}}});
    assert_eq!(
        faults(schema),
        [
            "`$.properties.a` is not closed",
            "`$.properties.a.properties[\"odd name\"]` is not required",
            "`$.properties.b` is not required",
            "`$.properties.b.items` is no schema",
        ]
    );
    assert_eq!(
        faults(json!({"type": "object", "properties": {}, "required": [], "additionalProperties": false})),
        [""; 0]
    );
}

#[test]
fn a_reference_to_no_schema_or_in_a_circle_is_a_fault() {
    let of = |reference: &str, named: Value| {
        faults(json!({"type": "object", "additionalProperties": false, "required": ["a"],
            "properties": {"a": {"$ref": reference}}, "$defs": {"A": named, "B": {"$ref": "#/$defs/A"}}}))
    };
    let text = json!({"type": "string"});
    assert_eq!(of("#/$defs/B", text.clone()), [""; 0]);
    assert_eq!(of("#/$defs/A/type", text.clone()), ["`$.properties.a` refers to nothing"]);
    assert_eq!(of("#/properties/a", text), ["`$.properties.a` refers to nothing"]);
    let circle = of("#/$defs/B", json!({"$ref": "#/$defs/B"}));
    assert_eq!(circle.first().map(String::as_str), Some("`$.properties.a` refers to nothing"));
}

/// The faults of a schema for a member `v` of an object, after what can be done for it was done.
fn faults_of(value: Value) -> Vec<SchemaFault> {
    let whole = json!({"type": "object", "properties": {"v": value}, "required": ["v"]});
    normalise(&Json::from(whole)).err().map(|error| error.faults).unwrap_or_default()
}

#[test]
fn what_would_fit_nothing_or_mean_something_else_is_a_fault() {
    // A struct with a flattened enum: closed twice, no object would fit both.
    let flattened = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "anyOf": [
        {"type": "object", "properties": {"kind": {"const": "x"}}, "required": ["kind"]},
        {"type": "object", "properties": {"kind": {"const": "y"}, "n": {"type": "integer"}}, "required": ["kind", "n"]}]});
    assert!(faults_of(flattened).iter().any(|fault| fault.kind == SchemaFaultKind::Siblings));
    let beside = json!({"anyOf": [{"type": "string"}], "type": "object", "properties": {"q": {"type": "strnig"}}});
    assert!(!faults_of(beside).is_empty());
    // Two parts that say different things of one key.
    let part = |of: &str| json!({"type": "object", "properties": {"b": {"type": of}}, "required": ["b"]});
    let torn = json!({"allOf": [part("string"), part("integer")]});
    assert!(!faults_of(torn).is_empty());
    assert!(faults_of(json!({"allOf": [part("string"), part("string")]})).is_empty());
    // A map beside members.
    let open = json!({"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"], "additionalProperties": true});
    assert!(faults_of(open).iter().any(|fault| fault.kind == SchemaFaultKind::Open));
}

#[test]
fn an_optional_value_of_several_types_may_be_null() {
    let whole = json!({"type": "object", "properties": {"v": {"enum": ["a", 1]}}});
    let schema = normal(whole).expect("strict");
    assert_eq!(schema["properties"]["v"], json!({"type": ["string", "integer", "null"], "enum": ["a", 1, null]}));
}

#[test]
fn a_schema_that_refers_to_itself_ends() {
    let schema = json!({"$ref": "#/$defs/Node", "$defs": {"Node": {"type": "object", "properties": {
        "next": {"anyOf": [{"$ref": "#/$defs/Node"}, {"type": "null"}]}}}}});
    let strict = normal(schema).expect("strict");
    assert_eq!((&strict["type"], &strict["required"]), (&json!("object"), &json!(["next"])));
}

fn schemas() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(json!({"type": "string"})),
        Just(json!({"type": "integer", "format": "int64", "default": 1})),
        Just(json!({"type": ["number", "null"]})),
        Just(json!({"$ref": "#/$defs/D", "description": "d"})),
        Just(json!({"const": 1})),
        Just(json!({"enum": ["a", null]})),
        Just(json!(true)),
    ];
    leaf.prop_recursive(4, 32, 4, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|all| json!({"oneOf": all})),
            proptest::collection::vec(inner.clone(), 0..3).prop_map(|all| json!({"allOf": all})),
            inner.clone().prop_map(|items| json!({"type": "array", "items": items})),
            (proptest::collection::btree_map("[a-c]", inner, 0..3), any::<bool>()).prop_map(|(properties, all)| {
                let required: Vec<&String> = if all { properties.keys().collect() } else { Vec::new() };
                json!({"type": "object", "properties": properties, "required": required})
            }),
        ]
    })
}

proptest! {
    #[test]
    fn what_was_normalised_is_strict_and_stays_as_it_is(inner in schemas()) {
        let schema = json!({"type": "object", "properties": {"v": inner}, "$defs": {"D": {"type": "null"}}});
        if let Ok(strict) = normal(schema) {
            prop_assert_eq!(faults(strict.clone()), Vec::<String>::new());
            prop_assert_eq!(normal(strict.clone()), Ok(strict));
        }
    }
}
