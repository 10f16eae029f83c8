//! JSON schemas that a model takes in strict mode: made, and checked before anything is sent.
//!
//! The strict subset: the root is an object; every node has a type, an `enum`, an `anyOf` or a `$ref`; every object is
//! closed (`additionalProperties: false`) and requires all its keys, and what may be missing is nullable instead.
//! [`normalise`] brings a schema into this form as far as its meaning allows. [`lint`] says what of a schema is not in it,
//! with the path of each fault. A schema that a model refuses fails its whole turn, so both belong before the start.
//!
//! ```
//! use turnwire_core::{json::Json, schema};
//!
//! let loose = Json::parse(r#"{"type":"object","properties":{"a":{"type":"string"}}}"#).unwrap();
//! let faults = schema::lint(&loose).unwrap_err();
//! assert_eq!(faults.to_string(), "the schema is not strict: `$` is not closed; `$.properties.a` is not required");
//! let strict = schema::normalise(&loose).unwrap();
//! assert!(schema::lint(&strict).is_ok());
//! ```

mod lint;
mod strict;
#[cfg(test)]
mod tests;

use crate::json::Json;
use alloc::{format, string::String, vec, vec::Vec};
use core::fmt;
use serde_json::Value;

/// How deep a schema may be. Deeper ones do not end here, and are nothing for a model.
const MAX_DEPTH: usize = 64;

/// One thing that is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaFault {
    /// Where, from the root `$`: `$.properties.name`.
    pub path: String,
    /// What.
    pub kind: SchemaFaultKind,
}

/// What can be wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum SchemaFaultKind {
    /// The schema has a level too many, or a `$ref` that leads nowhere but to itself.
    Deep,
    /// A `$ref` that names nothing in this schema.
    Dangling,
    /// Not a schema: neither an object, nor where one is expected.
    Malformed,
    /// A key that is not required.
    Optional,
    /// An object that admits keys which are not named.
    Open,
    /// The root is no object. A list or a word has to be put into one.
    Root,
    /// A `$ref` or an `anyOf` with other words beside it.
    Siblings,
    /// Nothing says what type it is.
    Untyped,
    /// A word that the strict subset does not have.
    Unsupported(String),
}

impl fmt::Display for SchemaFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = &self.path;
        match &self.kind {
            SchemaFaultKind::Deep => write!(f, "`{path}` is too deep"),
            SchemaFaultKind::Dangling => write!(f, "`{path}` refers to nothing"),
            SchemaFaultKind::Malformed => write!(f, "`{path}` is no schema"),
            SchemaFaultKind::Optional => write!(f, "`{path}` is not required"),
            SchemaFaultKind::Open => write!(f, "`{path}` is not closed"),
            SchemaFaultKind::Root => write!(f, "`{path}` is no object"),
            SchemaFaultKind::Siblings => write!(f, "`{path}` has more than its `$ref` or `anyOf`"),
            SchemaFaultKind::Untyped => write!(f, "`{path}` has no type"),
            SchemaFaultKind::Unsupported(word) => write!(f, "`{path}` has `{word}`"),
        }
    }
}

/// A schema that is not in the strict subset.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SchemaError {
    /// Each fault, in the order of the schema. Never empty.
    pub faults: Vec<SchemaFault>,
}

impl SchemaError {
    fn one(path: &str, kind: SchemaFaultKind) -> Self {
        Self { faults: vec![SchemaFault { path: path.into(), kind }] }
    }
}

impl fmt::Display for SchemaError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 8;
        f.write_str("the schema is not strict: ")?;
        for (index, fault) in self.faults.iter().take(SHOWN).enumerate() {
            write!(f, "{}{fault}", if index == 0 { "" } else { "; " })?;
        }
        match self.faults.len().saturating_sub(SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl core::error::Error for SchemaError {}

/// Says what of a schema a model would refuse.
///
/// # Errors
/// Every fault with its path.
pub fn lint(schema: &Json) -> Result<(), SchemaError> {
    let value: Value = schema.decode().map_err(|_| SchemaError::one("$", SchemaFaultKind::Malformed))?;
    lint::lint(&value)
}

/// Brings a schema into the strict subset, with the keys of objects in alphabetical order: objects are closed; all keys are
/// required, and those that were not, and have no `default`, may be null instead; `oneOf` becomes `anyOf` and `const` an
/// `enum` of one; words without a meaning there (`title`, `default`, formats of numbers, lengths of texts …) go.
///
/// # Errors
/// What cannot be said in the strict subset: maps, tuples, values of any type, a root that is no object. Nothing is
/// approximated.
pub fn normalise(schema: &Json) -> Result<Json, SchemaError> {
    let value: Value = schema.decode().map_err(|_| SchemaError::one("$", SchemaFaultKind::Malformed))?;
    let value = strict::normalise(value);
    lint::lint(&value)?;
    Ok(Json::from(value))
}

/// The path of a member, readable where its name is.
fn member(path: &str, name: &str) -> String {
    let is_plain = !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_$-".contains(&byte));
    if is_plain { format!("{path}.{name}") } else { format!("{path}[{}]", Value::from(name)) }
}

/// What a `$ref` names: the root, or a definition.
fn resolve<'a>(root: &'a Value, reference: &str) -> Option<&'a Value> {
    root.pointer(reference.strip_prefix('#')?)
}
