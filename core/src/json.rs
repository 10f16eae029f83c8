//! JSON that is kept as it came.

use alloc::{borrow::ToOwned, boxed::Box, string::String};
use core::fmt;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::value::{RawValue, Value};

/// One JSON value as text, exactly as it was received or built: numbers keep their digits, objects the order of their
/// members.
///
/// Equality is equality of the text. `Debug` prints the length only, because the text may be the user's.
#[derive(Clone, Default)]
pub struct Json(
    /// `None` is `null`, which so costs no allocation.
    Option<Box<RawValue>>,
);

impl Json {
    /// Encodes any value.
    ///
    /// # Errors
    /// When the value has no JSON form, such as a map whose keys are not strings.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, serde_json::Error> {
        serde_json::value::to_raw_value(value).map(Self::from)
    }

    /// Takes text that is one JSON value.
    ///
    /// # Errors
    /// When it is not.
    pub fn parse(text: &str) -> Result<Self, serde_json::Error> {
        RawValue::from_string(text.to_owned()).map(Self::from)
    }

    /// `null`.
    #[must_use]
    pub const fn null() -> Self {
        Self(None)
    }

    /// A string.
    #[must_use]
    pub fn string(text: &str) -> Self {
        Self::from(Value::from(text))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        self.0.as_deref().map_or("null", RawValue::get)
    }

    /// Whether this is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        self.as_str() == "null"
    }

    /// Decodes the value into a type.
    ///
    /// # Errors
    /// When it does not fit.
    pub fn decode<'a, T: Deserialize<'a>>(&'a self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.as_str())
    }

    /// The text, without its wrapping.
    #[must_use]
    pub fn into_string(self) -> String {
        match self.0 {
            Some(raw) => Box::<str>::from(raw).into(),
            None => self.as_str().into(),
        }
    }
}

impl From<&RawValue> for Json {
    fn from(raw: &RawValue) -> Self {
        Self::from(raw.to_owned())
    }
}

impl From<Box<RawValue>> for Json {
    fn from(raw: Box<RawValue>) -> Self {
        Self(Some(raw))
    }
}

impl From<Value> for Json {
    fn from(value: Value) -> Self {
        // A `Value` always has a JSON form.
        Self::encode(&value).unwrap_or_default()
    }
}

impl From<&str> for Json {
    /// The string itself, not the text as JSON; that is [`Json::parse`].
    fn from(text: &str) -> Self {
        Self::string(text)
    }
}

impl PartialEq for Json {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for Json {}

impl fmt::Debug for Json {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Json({} bytes)", self.as_str().len())
    }
}

impl Serialize for Json {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.0 {
            Some(raw) => raw.serialize(serializer),
            None => serializer.serialize_unit(),
        }
    }
}

impl<'de> Deserialize<'de> for Json {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Box::<RawValue>::deserialize(deserializer).map(Self::from)
    }
}
