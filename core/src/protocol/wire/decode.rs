//! From text to values and back, and the bridge to serde.

use super::{Reader, Wire, reader::Failure, writer};
use crate::json::Json;
use alloc::{borrow::ToOwned, boxed::Box, format, string::String, vec::Vec};
use core::{error, fmt};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de::DeserializeOwned, de::Error as _, ser::Error as _};
use serde_json::value::RawValue;

/// Text that does not fit the type it was decoded into.
///
/// Holds names of the protocol and positions, never the text itself, so it may be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct DecodeError {
    /// Where: member names and positions from the outermost value on, like `thread.turns[3].id`. Keys of open objects
    /// are the peer's text, so their position stands instead: `{2}`. Empty when the value as a whole does not fit.
    pub path: String,
    /// What was expected.
    pub message: String,
}

/// Marks a [`DecodeError`] inside the message of a serde error, which has no other place for it.
const MARKS: [char; 3] = ['\u{1}', '\u{2}', '\u{3}'];

impl DecodeError {
    /// Reads back what [`deserialize`] packed. Any other message may quote the peer, so only its kind is kept.
    fn unpack(error: &serde_json::Error) -> Self {
        let [start, middle, end] = MARKS;
        let text = format!("{error}");
        let packed = text.split_once(start).and_then(|(_, rest)| rest.split_once(end)).and_then(|(packed, _)| {
            packed.split_once(middle).map(|(path, message)| Self { path: path.to_owned(), message: message.to_owned() })
        });
        packed.unwrap_or_else(|| Self {
            path: String::new(),
            message: format!("{:?} error at line {} column {}", error.classify(), error.line(), error.column()),
        })
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() { f.write_str(&self.message) } else { write!(f, "`{}`: {}", self.path, self.message) }
    }
}

impl error::Error for DecodeError {}

impl From<Failure> for DecodeError {
    fn from(Failure(fault): Failure) -> Self {
        Self { path: fault.path(), message: fault.message.to_owned() }
    }
}

/// Decodes JSON text into a type of the protocol, or any other type that serde can make.
///
/// # Errors
/// When the text is not one JSON value or does not fit; for the protocol's types the error names the place.
pub fn decode<T: DeserializeOwned>(text: &str) -> Result<T, DecodeError> {
    serde_json::from_str(text).map_err(|error| DecodeError::unpack(&error))
}

/// The JSON text of a value of the protocol, without going through serde.
#[must_use]
pub fn encode(value: &dyn Wire) -> String {
    writer::text(value)
}

/// Decodes without serde.
pub(crate) fn read<T: Wire + Default>(text: &str) -> Result<T, DecodeError> {
    let mut value = T::default();
    let mut reader = Reader::new(text);
    value.fill(&mut reader).and_then(|()| reader.finish())?;
    Ok(value)
}

/// `Deserialize` of every type of the protocol: the raw text is captured first, then read.
pub(crate) fn deserialize<'de, T: Wire + Default, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    let raw = Box::<RawValue>::deserialize(deserializer)?;
    read(raw.get()).map_err(|DecodeError { path, message }| {
        let [start, middle, end] = MARKS;
        D::Error::custom(format_args!("{start}{path}{middle}{message}{end}"))
    })
}

/// `Serialize` of every type of the protocol.
pub(crate) fn serialize<S: Serializer>(value: &dyn Wire, serializer: S) -> Result<S::Ok, S::Error> {
    let raw = RawValue::from_string(writer::text(value)).map_err(S::Error::custom)?;
    raw.serialize(serializer)
}

/// `Debug` of every type of the protocol: its JSON with lengths in place of text.
pub(crate) fn debug(name: &str, value: &dyn Wire, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    write!(f, "{name} {}", writer::redacted(value))
}

/// The names of the experimental members in use.
pub(crate) fn experimental_fields(value: &dyn Wire) -> Vec<&'static str> {
    writer::gates(value).iter().filter(|gate| gate.experimental).map(|gate| gate.name).collect()
}

/// The members in use that not every checked server knows, with the version that brought them.
pub(crate) fn newer_fields(value: &dyn Wire) -> Vec<(&'static str, &'static str)> {
    writer::gates(value).iter().filter_map(|gate| Some((gate.name, gate.since?))).collect()
}

/// The value as JSON that is kept.
pub(crate) fn to_json(value: &dyn Wire) -> Json {
    Json::parse(&writer::text(value)).unwrap_or_default()
}
