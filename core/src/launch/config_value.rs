//! Values of the server's configuration, written as TOML.

use alloc::{borrow::ToOwned, boxed::Box, format, string::String, vec::Vec};
use core::fmt::{self, Write as _};
use serde::Serialize;

/// A value for [`Command::config_value`](super::Command::config_value), which writes it as TOML on one line.
///
/// ```
/// # use turnwire_core::launch::ConfigValue;
/// let server = ConfigValue::table([
///     ("command", ConfigValue::from("npx")),
///     ("args", ConfigValue::list(["-y", "a \"quoted\" name"])),
///     ("a.dotted key", ConfigValue::from(1.0)),
/// ]);
/// assert_eq!(
///     server.to_string(),
///     r#"{command = "npx", args = ["-y", "a \"quoted\" name"], "a.dotted key" = 1.0}"#
/// );
/// ```
#[derive(Clone, PartialEq)]
#[non_exhaustive]
pub enum ConfigValue {
    /// `true` or `false`.
    Bool(bool),
    /// A date, a time, or both, as TOML has them; see [`ConfigValue::date_time`].
    DateTime(DateTime),
    /// A number with a point. Not a number, and the infinite ones, have their TOML words.
    Float(f64),
    /// A whole number.
    Integer(i64),
    /// An array.
    List(Vec<ConfigValue>),
    /// A table, in this order. Of two entries of one key the last counts.
    Table(Vec<(String, ConfigValue)>),
    /// A text.
    Text(String),
}

/// A date, a time, or both, in the form that TOML has for them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DateTime(Box<str>);

/// What cannot be a value of a TOML configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum ConfigValueError {
    /// It cannot be written as JSON, from which it would be taken.
    Encode(String),
    /// A text that is no date and no time of TOML's.
    NoDateTime,
    /// `null`, which TOML does not have. Where it stands: keys and positions, from the outside in.
    Null(String),
    /// A whole number that is larger than TOML's are. Where it stands.
    TooLarge(String),
}

impl fmt::Display for ConfigValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Encode(message) => write!(f, "the value cannot be encoded: {message}"),
            Self::NoDateTime => f.write_str("the text is no date and no time of TOML's"),
            Self::Null(path) => write!(f, "TOML has no null, and there is one at `{path}`: leave it out"),
            Self::TooLarge(path) => write!(f, "the number at `{path}` is too large for TOML"),
        }
    }
}

impl core::error::Error for ConfigValueError {}

impl ConfigValue {
    /// A table.
    pub fn table<K: Into<String>, V: Into<Self>>(entries: impl IntoIterator<Item = (K, V)>) -> Self {
        Self::Table(entries.into_iter().map(|(key, value)| (key.into(), value.into())).collect())
    }

    /// An array.
    pub fn list<V: Into<Self>>(values: impl IntoIterator<Item = V>) -> Self {
        Self::List(values.into_iter().map(Into::into).collect())
    }

    /// A date, a time, or both: `1979-05-27`, `07:32:00.5`, `1979-05-27T07:32:00Z`, `1979-05-27 07:32:00-07:00`.
    ///
    /// # Errors
    /// When the text is none of these forms.
    pub fn date_time(text: &str) -> Result<Self, ConfigValueError> {
        if is_date_time(text) { Ok(Self::DateTime(DateTime(text.into()))) } else { Err(ConfigValueError::NoDateTime) }
    }

    /// Any value that has a JSON form: structs and maps become tables, members that are `None` must be left out.
    ///
    /// # Errors
    /// When it has no JSON form, holds a `null`, or a whole number that does not fit.
    pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Self, ConfigValueError> {
        let json = serde_json::to_value(value).map_err(|error| ConfigValueError::Encode(format!("{error}")))?;
        from_json(json, &mut String::new())
    }
}

fn from_json(json: serde_json::Value, path: &mut String) -> Result<ConfigValue, ConfigValueError> {
    use serde_json::Value;
    Ok(match json {
        Value::Null => return Err(ConfigValueError::Null(path.clone())),
        Value::Bool(value) => ConfigValue::Bool(value),
        Value::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(integer), _) => ConfigValue::Integer(integer),
            (None, Some(float)) if number.is_f64() => ConfigValue::Float(float),
            _ => return Err(ConfigValueError::TooLarge(path.clone())),
        },
        Value::String(text) => ConfigValue::Text(text),
        Value::Array(values) => {
            let values = values.into_iter().enumerate();
            let values =
                values.map(|(index, value)| within(path, &format!("[{index}]"), |path| from_json(value, path)));
            ConfigValue::List(values.collect::<Result<_, _>>()?)
        }
        Value::Object(entries) => {
            let entries = entries.into_iter().map(|(key, value)| {
                let step = if path.is_empty() { key.clone() } else { format!(".{key}") };
                Ok((key, within(path, &step, |path| from_json(value, path))?))
            });
            ConfigValue::Table(entries.collect::<Result<_, _>>()?)
        }
    })
}

fn within<T>(path: &mut String, step: &str, act: impl FnOnce(&mut String) -> T) -> T {
    let length = path.len();
    path.push_str(step);
    let result = act(path);
    path.truncate(length);
    result
}

/// Whether a text is a date, a time, or both, with digits in their places. Whether such a day exists is for the reader.
fn is_date_time(text: &str) -> bool {
    fn shape(text: &str, pattern: &str) -> bool {
        text.len() == pattern.len()
            && text.bytes().zip(pattern.bytes()).all(|(byte, form)| match form {
                b'0' => byte.is_ascii_digit(),
                form => byte == form,
            })
    }
    fn is_local_time(text: &str) -> bool {
        match text.split_once('.') {
            Some((seconds, part)) => {
                shape(seconds, "00:00:00") && !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit())
            }
            None => shape(text, "00:00:00"),
        }
    }
    fn is_time(text: &str) -> bool {
        if let Some(time) = text.strip_suffix(['Z', 'z']) {
            return is_local_time(time);
        }
        match text.rsplit_once(['+', '-']) {
            Some((time, offset)) => is_local_time(time) && shape(offset, "00:00"),
            None => is_local_time(text),
        }
    }
    match text.split_once(['T', 't', ' ']) {
        Some((date, time)) => shape(date, "0000-00-00") && is_time(time),
        None => shape(text, "0000-00-00") || is_local_time(text),
    }
}

impl fmt::Display for ConfigValue {
    /// TOML on one line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::DateTime(DateTime(text)) => f.write_str(text),
            Self::Float(value) if value.is_nan() => f.write_str("nan"),
            Self::Float(value) if value.is_infinite() => f.write_str(if *value > 0.0 { "inf" } else { "-inf" }),
            // `Debug` has a point or an exponent in every case, and as many digits as it takes to read the same number.
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Integer(value) => write!(f, "{value}"),
            Self::List(values) => {
                f.write_char('[')?;
                for (index, value) in values.iter().enumerate() {
                    write!(f, "{}{value}", if index > 0 { ", " } else { "" })?;
                }
                f.write_char(']')
            }
            Self::Table(entries) => {
                f.write_char('{')?;
                let last = |key: &String| entries.iter().rposition(|(other, _)| other == key);
                let entries = entries.iter().enumerate().filter(|(index, (key, _))| last(key) == Some(*index));
                for (place, (_, (key, value))) in entries.enumerate() {
                    write!(f, "{}{} = {value}", if place > 0 { ", " } else { "" }, toml_key(key))?;
                }
                f.write_char('}')
            }
            Self::Text(text) => f.write_str(&toml_string(text)),
        }
    }
}

impl fmt::Debug for ConfigValue {
    /// The kind only: values may be secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bool(_) => "ConfigValue::Bool",
            Self::DateTime(_) => "ConfigValue::DateTime",
            Self::Float(_) => "ConfigValue::Float",
            Self::Integer(_) => "ConfigValue::Integer",
            Self::List(_) => "ConfigValue::List",
            Self::Table(_) => "ConfigValue::Table",
            Self::Text(_) => "ConfigValue::Text",
        })
    }
}

macro_rules! from {
    ($($type:ty => $variant:ident),*) => {$(
        impl From<$type> for ConfigValue {
            fn from(value: $type) -> Self {
                Self::$variant(value.into())
            }
        }
    )*};
}
from!(bool => Bool, f64 => Float, i64 => Integer, i32 => Integer, u32 => Integer, &str => Text, String => Text);

/// A key of a table: as it stands if TOML allows that, else as a string.
fn toml_key(key: &str) -> String {
    let is_bare =
        !key.is_empty() && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    if is_bare { key.to_owned() } else { toml_string(key) }
}

/// `text` as a TOML basic string, quotes included.
pub(super) fn toml_string(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars() {
        match c {
            '"' => quoted.push_str("\\\""),
            '\\' => quoted.push_str("\\\\"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            c if c.is_control() => quoted.push_str(&format!("\\u{:04X}", u32::from(c))),
            c => quoted.push(c),
        }
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::string::ToString;

    #[test]
    fn values_are_written_so_that_they_stay_what_they_are() {
        for (value, toml) in [
            (ConfigValue::from(true), "true"),
            (ConfigValue::from(-5), "-5"),
            (ConfigValue::from(i64::MIN), "-9223372036854775808"),
            (ConfigValue::from(1.0), "1.0"),
            (ConfigValue::from(0.1), "0.1"),
            (ConfigValue::from(1e300), "1e300"),
            (ConfigValue::from(f64::NAN), "nan"),
            (ConfigValue::from(f64::NEG_INFINITY), "-inf"),
            (ConfigValue::from("true"), "\"true\""),
            (ConfigValue::from("a \"b\" \\ \n\u{7f}é"), "\"a \\\"b\\\" \\\\ \\n\\u007Fé\""),
            (ConfigValue::list::<&str>([]), "[]"),
            (ConfigValue::table::<&str, bool>([]), "{}"),
            (
                ConfigValue::table([("a", 1), ("", 2), ("é", 3), ("x-y_1", 4), ("a", 5)]),
                "{\"\" = 2, \"é\" = 3, x-y_1 = 4, a = 5}",
            ),
            (
                ConfigValue::list([ConfigValue::list([1, 2]), ConfigValue::table([("k", ConfigValue::list(["v"]))])]),
                "[[1, 2], {k = [\"v\"]}]",
            ),
        ] {
            assert_eq!(value.to_string(), toml);
        }
    }

    #[test]
    fn dates_are_known_by_their_form() {
        for text in [
            "1979-05-27",
            "07:32:00",
            "07:32:00.999",
            "1979-05-27T07:32:00Z",
            "1979-05-27 07:32:00.5-07:00",
            "1979-05-27t07:32:00",
        ] {
            assert_eq!(ConfigValue::date_time(text).expect("a date").to_string(), text);
        }
        for text in
            ["", "1979-5-27", "tomorrow", "07:32:00Z", "1979-05-27T", "1979-05-27T07:32", "1979-05-27\"", "07:32:00."]
        {
            assert_eq!(ConfigValue::date_time(text), Err(ConfigValueError::NoDateTime), "{text}");
        }
    }

    #[test]
    fn what_has_a_json_form_is_taken_and_what_toml_lacks_is_named() {
        #[derive(Serialize)]
        struct Server {
            command: &'static str,
            args: Vec<u8>,
            ratio: f64,
            #[serde(skip_serializing_if = "Option::is_none")]
            cwd: Option<&'static str>,
        }
        let server = Server { command: "x", args: Vec::from([1, 2]), ratio: 2.0, cwd: None };
        let value = ConfigValue::encode(&server).expect("a table").to_string();
        for part in ["command = \"x\"", "args = [1, 2]", "ratio = 2.0"] {
            assert!(value.contains(part), "{value}");
        }
        let null = ConfigValue::encode(&[[Some(1), None]]);
        assert_eq!(null, Err(ConfigValueError::Null("[0][1]".into())));
        assert_eq!(ConfigValue::encode(&u64::MAX), Err(ConfigValueError::TooLarge(String::new())));
    }
}
