//! The shapes behind a schema: structs, words, mixed words, unions, and the methods that use them.

use crate::{names, schema::Schema};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// What a member holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Type {
    Bool,
    F64,
    I32,
    I64,
    Json,
    List(Box<Type>),
    Map(Box<Type>),
    /// A type of the model.
    Named(String),
    /// A list or map entry that may be null.
    Nullable(Box<Type>),
    /// One string or a list of them.
    OneOrMany,
    /// One of the identifiers of the core.
    Id(&'static str),
    Text,
    U16,
    U32,
    U64,
}

impl core::fmt::Display for Type {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        match self {
            Self::Bool => f.write_str("bool"),
            Self::F64 => f.write_str("f64"),
            Self::I32 => f.write_str("i32"),
            Self::I64 => f.write_str("i64"),
            Self::Id(id) => f.write_str(id),
            Self::Json => f.write_str("json"),
            Self::List(inner) => write!(f, "list of {inner}"),
            Self::Map(inner) => write!(f, "map of {inner}"),
            Self::Named(name) => f.write_str(name),
            Self::Nullable(inner) => write!(f, "{inner} or null"),
            Self::OneOrMany => f.write_str("one or many texts"),
            Self::Text => f.write_str("text"),
            Self::U16 => f.write_str("u16"),
            Self::U32 => f.write_str("u32"),
            Self::U64 => f.write_str("u64"),
        }
    }
}

/// A member of an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Member {
    pub(crate) wire: String,
    pub(crate) kind: Type,
    pub(crate) nullable: bool,
    pub(crate) required: bool,
}

/// A variant of a union.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variant {
    pub(crate) tag: String,
    /// The struct it holds; none when nothing but the tag is there.
    pub(crate) holds: Option<String>,
}

/// One named shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Shape {
    /// Words, and named values: `"word"` or `{"name": value}`.
    Mixed {
        words: Vec<String>,
        values: Vec<(String, Type)>,
    },
    Struct(Vec<Member>),
    Union {
        tag: String,
        variants: Vec<Variant>,
    },
    Words(Vec<String>),
}

/// A method with the type of its parameters (none when they are null).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Method {
    pub(crate) name: String,
    pub(crate) params: Option<String>,
}

/// Everything a schema says.
#[derive(Debug, Default)]
pub(crate) struct Model {
    pub(crate) version: String,
    pub(crate) shapes: BTreeMap<String, Shape>,
    pub(crate) requests: Vec<Method>,
    pub(crate) notifications: Vec<Method>,
    pub(crate) server_requests: Vec<Method>,
    pub(crate) experimental: BTreeSet<String>,
    /// Everything a peer can say, by name: `request M`, `Type.member`, `Type=value`.
    pub(crate) surface: BTreeSet<String>,
    aliases: BTreeMap<String, Type>,
    /// The definitions as they came, while the model is made.
    definitions: Map<String, Value>,
}

const METHODS: [&str; 3] = ["ClientRequest", "ServerNotification", "ServerRequest"];

impl Model {
    pub(crate) fn new(schema: &Schema) -> Self {
        let mut model = Self {
            version: schema.version.clone(),
            experimental: schema.experimental.clone(),
            definitions: schema.definitions.clone(),
            aliases: BTreeMap::from([("RequestId".to_owned(), Type::Id("RequestId"))]),
            ..Self::default()
        };
        for (name, definition) in &schema.definitions {
            if let Some(alias) = alias(name, definition) {
                model.aliases.insert(name.clone(), alias);
            }
        }
        for (name, definition) in &schema.definitions {
            if METHODS.contains(&name.as_str()) {
                let methods = methods(definition);
                match name.as_str() {
                    "ClientRequest" => model.requests = methods,
                    "ServerNotification" => model.notifications = methods,
                    _ => model.server_requests = methods,
                }
            } else if !model.aliases.contains_key(name) {
                model.define(name, definition);
            }
        }
        for (method, params) in names::UNLISTED_NOTIFICATIONS {
            if model.shapes.contains_key(*params) {
                model.notifications.push(Method { name: (*method).to_owned(), params: Some((*params).to_owned()) });
            }
        }
        model.surface = model.named();
        model.definitions = Map::new();
        model
    }

    fn named(&self) -> BTreeSet<String> {
        let mut names = BTreeSet::new();
        for (list, kind) in [
            (&self.requests, "request"),
            (&self.notifications, "notification"),
            (&self.server_requests, "serverRequest"),
        ] {
            names.extend(list.iter().map(|method| format!("{kind} {}", method.name)));
        }
        for (name, shape) in &self.shapes {
            match shape {
                Shape::Struct(members) => names.extend(members.iter().map(|member| format!("{name}.{}", member.wire))),
                Shape::Words(words) => names.extend(words.iter().map(|word| format!("{name}={word}"))),
                Shape::Mixed { words, values } => {
                    names.extend(words.iter().map(|word| format!("{name}={word}")));
                    names.extend(values.iter().map(|(value, _)| format!("{name}={value}")));
                }
                Shape::Union { variants, .. } => {
                    names.extend(variants.iter().map(|variant| format!("{name}={}", variant.tag)));
                }
            }
        }
        names
    }

    /// The members of a struct, if that is what the name stands for.
    pub(crate) fn members(&self, name: &str) -> Option<&[Member]> {
        match self.shapes.get(name) {
            Some(Shape::Struct(members)) => Some(members),
            _ => None,
        }
    }

    /// The types that a shape refers to.
    pub(crate) fn references(&self, name: &str) -> Vec<String> {
        fn of(kind: &Type, into: &mut Vec<String>) {
            match kind {
                Type::Named(name) => into.push(name.clone()),
                Type::List(inner) | Type::Map(inner) | Type::Nullable(inner) => of(inner, into),
                _ => {}
            }
        }
        let mut into = Vec::new();
        match self.shapes.get(name) {
            Some(Shape::Struct(members)) => members.iter().for_each(|member| of(&member.kind, &mut into)),
            Some(Shape::Mixed { values, .. }) => values.iter().for_each(|(_, kind)| of(kind, &mut into)),
            Some(Shape::Union { variants, .. }) => {
                into.extend(variants.iter().filter_map(|variant| variant.holds.clone()))
            }
            Some(Shape::Words(_)) | None => {}
        }
        into
    }

    fn define(&mut self, name: &str, definition: &Value) {
        let empty = Map::new();
        let object = definition.as_object().unwrap_or(&empty);
        let shape = if let Some(alternatives) = alternatives(definition) {
            self.choice(name, alternatives, object)
        } else if let Some(words) = words(definition) {
            Shape::Words(words)
        } else {
            Shape::Struct(self.members_of(name, object, None))
        };
        self.shapes.insert(name.to_owned(), shape);
    }

    fn choice(&mut self, name: &str, alternatives: &[Value], base: &Map<String, Value>) -> Shape {
        if let Some(tag) = tag(alternatives) {
            let variants = alternatives.iter().map(|variant| self.variant(name, &tag, variant, base)).collect();
            return Shape::Union { tag, variants };
        }
        let mut all_words = Vec::new();
        let mut values = Vec::new();
        for alternative in alternatives {
            if let Some(words) = words(alternative) {
                all_words.extend(words);
            } else if let Some((member, schema)) = only_member(alternative) {
                let title = alternative.get("title").and_then(Value::as_str);
                let inner = title.map_or_else(|| format!("{}{name}", names::pascal(member)), str::to_owned);
                let (kind, _) = self.kind(&inner, schema);
                values.push((member.clone(), kind));
            }
        }
        if values.is_empty() && !all_words.is_empty() {
            Shape::Words(all_words)
        } else if all_words.is_empty() && values.is_empty() {
            // Told apart by what is there: every member of every form, required if it is in all.
            let mut forms = Vec::new();
            self.forms(alternatives, &mut forms);
            let mut members: Vec<Member> = Vec::new();
            for form in &forms {
                for member in self.members_of(name, form.as_object().unwrap_or(&Map::new()), None) {
                    match members.iter_mut().find(|known| known.wire == member.wire) {
                        Some(known) => {
                            known.nullable |= member.nullable;
                            if known.kind != member.kind {
                                known.kind = self.common(&known.kind, &member.kind);
                            }
                        }
                        None => members.push(member),
                    }
                }
            }
            for member in &mut members {
                member.required = forms.iter().all(|form| requires(form, &member.wire));
            }
            members.sort_by(|one, other| one.wire.cmp(&other.wire));
            Shape::Struct(members)
        } else {
            Shape::Mixed { words: all_words, values }
        }
    }

    /// The objects behind alternatives that are references to alternatives.
    fn forms(&self, alternatives: &[Value], into: &mut Vec<Value>) {
        for alternative in alternatives {
            let target = alternative.get("$ref").and_then(Value::as_str).and_then(|name| self.definitions.get(name));
            let form = target.unwrap_or(alternative);
            match self::alternatives(form) {
                Some(inner) => self.forms(inner, into),
                None => into.push(form.clone()),
            }
        }
    }

    /// What holds either of two types: text for words, JSON for all else.
    fn common(&self, one: &Type, other: &Type) -> Type {
        let is_word = |kind: &Type| match kind {
            Type::Text => true,
            Type::Named(name) => self.definitions.get(name).is_some_and(|definition| words(definition).is_some()),
            _ => false,
        };
        if is_word(one) && is_word(other) { Type::Text } else { Type::Json }
    }

    fn variant(&mut self, union: &str, tag: &str, variant: &Value, base: &Map<String, Value>) -> Variant {
        let empty = Map::new();
        let object = variant.as_object().unwrap_or(&empty);
        let word = tag_word(variant, tag).unwrap_or_default();
        let mut members = self.members_of(union, object, Some(tag));
        members.extend(self.members_of(union, base, Some(tag)));
        // A choice inside the variant: every member of every form, none required.
        for alternative in alternatives(variant).unwrap_or_default() {
            let inner = alternative.as_object().unwrap_or(&empty);
            for mut member in self.members_of(union, inner, Some(tag)) {
                member.required = false;
                if members.iter().all(|known| known.wire != member.wire) {
                    members.push(member);
                }
            }
        }
        if union == "ThreadItem" {
            members.iter_mut().filter(|member| member.wire == "id").for_each(|member| member.kind = Type::Id("ItemId"));
        }
        if members.is_empty() {
            return Variant { tag: word, holds: None };
        }
        let holds = names::variant_struct(union, &word);
        self.shapes.insert(holds.clone(), Shape::Struct(members));
        Variant { tag: word, holds: Some(holds) }
    }

    fn members_of(&mut self, name: &str, object: &Map<String, Value>, tag: Option<&str>) -> Vec<Member> {
        let Some(Value::Object(properties)) = object.get("properties") else { return Vec::new() };
        let mut members = Vec::new();
        for (wire, schema) in properties {
            if tag == Some(wire.as_str()) {
                continue;
            }
            let (kind, nullable) = self.kind(&format!("{name}{}", names::pascal(wire)), schema);
            let kind = names::id_type(name, wire, &kind).unwrap_or(kind);
            let required = requires(&Value::Object(object.clone()), wire);
            members.push(Member { wire: wire.clone(), kind, nullable, required });
        }
        members
    }

    /// The type of a schema, and whether it may be null. `name` is for a type that has none of its own.
    fn kind(&mut self, name: &str, schema: &Value) -> (Type, bool) {
        let Some(object) = schema.as_object() else { return (Type::Json, false) };
        if let Some(target) = object.get("$ref").and_then(Value::as_str) {
            return (self.aliases.get(target).cloned().unwrap_or_else(|| Type::Named(target.to_owned())), false);
        }
        if let Some([only]) = object.get("allOf").and_then(Value::as_array).map(Vec::as_slice) {
            return self.kind(name, only);
        }
        if let Some(alternatives) = alternatives(schema) {
            let is_null = |value: &&Value| value.get("type").and_then(Value::as_str) == Some("null");
            let rest: Vec<&Value> = alternatives.iter().filter(|value| !is_null(value)).collect();
            if let [only] = rest.as_slice() {
                let (kind, _) = self.kind(name, only);
                return (kind, true);
            }
            self.define(name, schema);
            return (Type::Named(name.to_owned()), false);
        }
        let (word, nullable) = match object.get("type") {
            Some(Value::String(word)) => (word.as_str(), false),
            Some(Value::Array(words)) => {
                let mut rest = words.iter().filter_map(Value::as_str).filter(|word| *word != "null");
                let nullable = words.iter().any(|word| word == "null");
                match (rest.next(), rest.next()) {
                    (Some(only), None) => (only, nullable),
                    _ => return (Type::Json, nullable),
                }
            }
            _ => return (Type::Json, false),
        };
        let format = object.get("format").and_then(Value::as_str).unwrap_or_default();
        let kind = match (word, format) {
            ("string", _) => match words(schema) {
                Some(words) => {
                    self.shapes.insert(name.to_owned(), Shape::Words(words));
                    Type::Named(name.to_owned())
                }
                None => Type::Text,
            },
            ("boolean", _) => Type::Bool,
            ("number", _) => Type::F64,
            ("integer", "int32") => Type::I32,
            ("integer", "uint16") => Type::U16,
            ("integer", "uint32") => Type::U32,
            ("integer", "uint64" | "uint") => Type::U64,
            ("integer", _) => Type::I64,
            ("array", _) => match object.get("items") {
                Some(items) => {
                    let (kind, nullable) = self.kind(&names::singular(name), items);
                    Type::List(Box::new(if nullable { Type::Nullable(Box::new(kind)) } else { kind }))
                }
                None => Type::List(Box::new(Type::Json)),
            },
            ("object", _) if object.contains_key("properties") => {
                let members = self.members_of(name, object, None);
                self.shapes.insert(name.to_owned(), Shape::Struct(members));
                Type::Named(name.to_owned())
            }
            ("object", _) => match object.get("additionalProperties") {
                Some(values) => {
                    let (kind, nullable) = self.kind(name, values);
                    Type::Map(Box::new(if nullable { Type::Nullable(Box::new(kind)) } else { kind }))
                }
                None => Type::Json,
            },
            _ => Type::Json,
        };
        (kind, nullable)
    }
}

/// Types that are another type by a name of their own.
fn alias(name: &str, definition: &Value) -> Option<Type> {
    if let Some(kind) = names::hand_typed(name) {
        return Some(kind);
    }
    let object = definition.as_object()?;
    if alternatives(definition).is_some() || object.contains_key("enum") {
        return None;
    }
    (object.get("type")?.as_str()? == "string").then_some(Type::Text)
}

fn alternatives(schema: &Value) -> Option<&[Value]> {
    schema.get("oneOf").or_else(|| schema.get("anyOf")).and_then(Value::as_array).map(Vec::as_slice)
}

fn words(schema: &Value) -> Option<Vec<String>> {
    let values = schema.get("enum")?.as_array()?;
    Some(values.iter().filter_map(Value::as_str).map(str::to_owned).collect())
}

fn tag_word(variant: &Value, tag: &str) -> Option<String> {
    let property = variant.get("properties")?.get(tag)?;
    match property.get("const") {
        Some(Value::String(word)) => Some(word.clone()),
        _ => match words(property)?.as_slice() {
            [only] => Some(only.clone()),
            _ => None,
        },
    }
}

/// The member that tells every alternative from the others.
fn tag(alternatives: &[Value]) -> Option<String> {
    let first = alternatives.first()?.get("properties")?.as_object()?;
    first.keys().find(|key| alternatives.iter().all(|variant| tag_word(variant, key).is_some())).cloned()
}

/// The one member of `{"name": value}`.
fn only_member(alternative: &Value) -> Option<(&String, &Value)> {
    let properties = alternative.get("properties")?.as_object()?;
    if properties.len() == 1 { properties.iter().next() } else { None }
}

fn requires(schema: &Value, wire: &str) -> bool {
    schema.get("required").and_then(Value::as_array).is_some_and(|required| required.iter().any(|name| name == wire))
}

fn methods(definition: &Value) -> Vec<Method> {
    let variants = alternatives(definition).unwrap_or_default();
    variants
        .iter()
        .filter_map(|variant| {
            let name = tag_word(variant, "method")?;
            let params = variant.get("properties")?.get("params");
            let target = params.and_then(|params| {
                let direct = params.get("$ref");
                let nullable = || alternatives(params)?.iter().find_map(|alternative| alternative.get("$ref"));
                direct.or_else(nullable)?.as_str()
            });
            let params = target.map(|target| target.strip_prefix("Nullable").unwrap_or(target).to_owned());
            Some(Method { name, params })
        })
        .collect()
}
