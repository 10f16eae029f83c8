//! Lines to messages.
//!
//! An [`Envelope`] is what a line says about itself: response, notification or request, under which id or method, and
//! the keys by which it is routed. The payload stays raw text, borrowed from the line. The meaning of the keys, and what
//! the payload holds, are for others to know.
//!
//! ```
//! use turnwire_core::envelope::{Envelope, Message};
//!
//! let line = br#"{"method":"turn/completed","params":{"threadId":"T","turn":{"id":"U","status":"completed"}}}"#;
//! let envelope = Envelope::parse(line).unwrap();
//! let Message::Notification { method, keys, .. } = envelope.message else { panic!() };
//! assert_eq!((&*method, keys.thread(), keys.turn()), ("turn/completed", Some("T"), Some("U")));
//! ```

mod reader;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod reference;
mod scan;

pub(crate) use reader::Reader;

use crate::json::Json;
use alloc::{borrow::Cow, boxed::Box};
use core::fmt;
use serde::Serialize;
use serde_json::value::RawValue;

/// The id of a JSON-RPC message as its sender wrote it: the integer 7 and the text "7" are two ids.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum RpcId {
    /// A whole number.
    Integer(i64),
    /// Any other JSON value, as its text. Not a legal id, yet it can be given back unchanged.
    Other(Box<str>),
    /// A text.
    Text(Box<str>),
}

impl RpcId {
    pub(crate) fn parse(text: &str) -> Self {
        match text.parse::<i64>() {
            // `-0` is a number of its own in JSON, and would be given back as `0`.
            Ok(number) if text != "-0" => return Self::Integer(number),
            _ => {}
        }
        match serde_json::from_str::<Box<str>>(text) {
            Ok(text) => Self::Text(text),
            Err(_) => Self::Other(text.into()),
        }
    }
}

impl fmt::Debug for RpcId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(number) => write!(f, "{number}"),
            Self::Other(raw) => f.write_str(raw),
            Self::Text(text) => write!(f, "{text:?}"),
        }
    }
}

impl Serialize for RpcId {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Integer(number) => serializer.serialize_i64(*number),
            Self::Text(text) => serializer.serialize_str(text),
            Self::Other(raw) => match serde_json::from_str::<&RawValue>(raw) {
                Ok(raw) => raw.serialize(serializer),
                Err(_) => serializer.serialize_unit(),
            },
        }
    }
}

/// One JSON value as it stands in a line whose grammar was checked.
///
/// `Debug` prints the length only, because the text may be the user's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct JsonText<'a>(
    /// Valid UTF-8, though not at hand as such.
    &'a [u8],
);

impl<'a> JsonText<'a> {
    /// `null`.
    pub(crate) const NULL: JsonText<'static> = JsonText(b"null");

    /// The text, without white space around it.
    #[must_use]
    pub fn get(self) -> &'a str {
        core::str::from_utf8(self.0).unwrap_or_default()
    }

    /// The same as bytes.
    #[must_use]
    pub fn as_bytes(self) -> &'a [u8] {
        self.0
    }

    /// The same for serde, which wants to see for itself that it is JSON.
    fn raw(self) -> Option<&'a RawValue> {
        serde_json::from_slice(self.0).ok()
    }
}

impl fmt::Debug for JsonText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JsonText({} bytes)", self.0.len())
    }
}

impl<'a> From<&'a RawValue> for JsonText<'a> {
    fn from(raw: &'a RawValue) -> Self {
        Self(raw.get().as_bytes())
    }
}

impl From<JsonText<'_>> for Json {
    fn from(text: JsonText<'_>) -> Self {
        text.raw().map(Self::from).unwrap_or_default()
    }
}

/// One message of the peer.
///
/// `Debug` shows ids, methods and lengths, because all else may be the user's text.
#[derive(Debug)]
pub struct Envelope<'a> {
    /// What it is.
    pub message: Message<'a>,
    /// When the server says it sent it, in Unix milliseconds (`emittedAtMs`; since 0.154).
    pub emitted_at_ms: Option<i64>,
}

/// The kinds of message.
pub enum Message<'a> {
    /// An answer with an error.
    Failure {
        /// The id of the request it answers.
        id: RpcId,
        /// The error object.
        error: &'a RawValue,
    },
    /// News that nobody asked for.
    Notification {
        /// Its method.
        method: Cow<'a, str>,
        /// Its params, if there are any.
        params: Option<JsonText<'a>>,
        /// Where it belongs.
        keys: Keys<'a>,
    },
    /// A request of the server, to be answered under the same id.
    Request {
        /// Its id.
        id: RpcId,
        /// Its method.
        method: Cow<'a, str>,
        /// Its params, if there are any.
        params: Option<&'a RawValue>,
        /// Where it belongs.
        keys: Keys<'a>,
    },
    /// An answer with a result.
    Success {
        /// The id of the request it answers.
        id: RpcId,
        /// The result.
        result: &'a RawValue,
    },
}

impl fmt::Debug for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fn text(raw: &RawValue) -> JsonText<'_> {
            raw.into()
        }
        match self {
            Self::Failure { id, error } => {
                f.debug_struct("Failure").field("id", id).field("error", &text(error)).finish()
            }
            Self::Notification { method, params, keys } => {
                let mut shown = f.debug_struct("Notification");
                shown.field("method", method).field("params", params).field("keys", keys).finish()
            }
            Self::Request { id, method, params, keys } => {
                let mut shown = f.debug_struct("Request");
                shown.field("id", id).field("method", method).field("params", &params.map(text));
                shown.field("keys", keys).finish()
            }
            Self::Success { id, result } => {
                f.debug_struct("Success").field("id", id).field("result", &text(result)).finish()
            }
        }
    }
}

/// Why a line is no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NotAMessage {
    /// Nothing but white space.
    Blank,
    /// It looks like a JSON object, but is not one: cut off, garbled or not UTF-8.
    Malformed,
    /// It does not begin like a JSON object: a banner, a log line, an array.
    Noise,
    /// A JSON object with neither a method nor an id with a result or an error.
    Shapeless,
}

impl<'a> Envelope<'a> {
    /// Reads one line.
    ///
    /// # Errors
    /// When the line is no message; the kind says how far it was understood.
    pub fn parse(line: &'a [u8]) -> Result<Self, NotAMessage> {
        let trimmed = line.trim_ascii();
        match trimmed.first() {
            None => return Err(NotAMessage::Blank),
            Some(b'{') => {}
            Some(_) => return Err(NotAMessage::Noise),
        }
        let text = core::str::from_utf8(trimmed).map_err(|_| NotAMessage::Malformed)?;
        Self::of_line(scan::line(text).map_err(|_| NotAMessage::Malformed)?)
    }

    fn of_line(line: scan::Line<'a>) -> Result<Self, NotAMessage> {
        let emitted_at_ms = line.emitted_at_ms;
        let message = match (line.method, line.id) {
            (Some(_), _) if line.has_unreadable_params => return Err(NotAMessage::Malformed),
            (Some(method), None) => Message::Notification { method, params: line.params, keys: line.keys },
            (Some(method), Some(id)) => Message::Request {
                id: RpcId::parse(id.get()),
                method,
                params: line.params.and_then(JsonText::raw),
                keys: line.keys,
            },
            (None, Some(id)) => {
                let id = RpcId::parse(id.get());
                let error = line.error.filter(|error| error.get() != "null");
                match (error.and_then(JsonText::raw), line.result.filter(|_| error.is_none()).and_then(JsonText::raw)) {
                    (Some(error), _) => Message::Failure { id, error },
                    (None, Some(result)) => Message::Success { id, result },
                    (None, None) => return Err(NotAMessage::Shapeless),
                }
            }
            (None, None) => return Err(NotAMessage::Shapeless),
        };
        Ok(Self { message, emitted_at_ms })
    }

    /// Method and id in the head of a request of the server that was too long to be read whole, if they come early enough.
    #[must_use]
    pub fn request_in_head(head: &'a [u8]) -> Option<(&'a str, RpcId)> {
        // Servers write `{"method":..,"id":..,"params":..}`.
        let rest = member(head.trim_ascii_start().strip_prefix(b"{")?, b"\"method\"")?.strip_prefix(b"\"")?;
        let (method, rest) = rest.split_at(memchr::memchr(b'"', rest)?);
        let rest = rest.get(1..)?.trim_ascii_start().strip_prefix(b",")?;
        let rest = member(rest, b"\"id\"")?;
        let (id, rest) = rest.split_at(memchr::memchr(b',', rest)?);
        let id: &RawValue = serde_json::from_slice(id).ok()?;
        let is_whole =
            rest.get(1..)?.trim_ascii_start().starts_with(b"\"params\"") && memchr::memchr(b'\\', method).is_none();
        is_whole.then_some((core::str::from_utf8(method).ok()?, RpcId::parse(id.get())))
    }

    /// The id in the head of a line that was too long to be read whole, if it comes early enough. `None` also when the
    /// line is a request or a notification.
    #[must_use]
    pub fn response_id_in_head(head: &[u8]) -> Option<RpcId> {
        // Servers write `{"id":..,"result":..}`: the id is the first member or not to be found cheaply.
        let rest = member(head.trim_ascii_start().strip_prefix(b"{")?, b"\"id\"")?;
        let end = rest.iter().position(|byte| *byte == b',')?;
        let (id, rest) = rest.split_at(end);
        let id: &RawValue = serde_json::from_slice(id).ok()?;
        let rest = rest.get(1..)?.trim_ascii_start();
        (rest.starts_with(b"\"result\"") || rest.starts_with(b"\"error\"")).then(|| RpcId::parse(id.get()))
    }
}

/// What comes after a name and its colon at the front of the text.
fn member<'t>(text: &'t [u8], name: &[u8]) -> Option<&'t [u8]> {
    Some(text.trim_ascii_start().strip_prefix(name)?.trim_ascii_start().strip_prefix(b":")?.trim_ascii_start())
}

/// By what a notification, a request or a result is routed, and what the hot events hold. Each is `None` when the
/// member is absent or has another type than it should.
///
/// `Debug` shows the ids.
#[derive(Default)]
pub struct Keys<'a> {
    /// `conversationId`: the thread, in legacy requests.
    pub conversation_id: Option<Cow<'a, str>>,
    /// `delta`.
    pub delta: Option<Cow<'a, str>>,
    /// `summaryIndex` or `contentIndex`.
    pub index: Option<i64>,
    /// `itemId`, else `item.id`.
    pub item_id: Option<Cow<'a, str>>,
    /// `requestId`.
    pub request_id: Option<&'a RawValue>,
    /// `threadId`, else `thread.id`.
    pub thread_id: Option<Cow<'a, str>>,
    /// `turn.rootTurnId`.
    pub root_turn_id: Option<Cow<'a, str>>,
    /// `turn.status`, or `status.type` for the state of a thread.
    pub status: Option<Cow<'a, str>>,
    /// `turnId`, else `turn.id`.
    pub turn_id: Option<Cow<'a, str>>,
    /// Whether there is any member beside those named here.
    pub has_others: bool,
}

impl fmt::Debug for Keys<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys")
            .field("thread", &self.thread())
            .field("turn", &self.turn())
            .field("item", &self.item())
            .finish_non_exhaustive()
    }
}

impl<'a> Keys<'a> {
    /// Reads the keys of params or of a result. What is not an object has none.
    #[must_use]
    pub fn of(params: Option<&'a RawValue>) -> Self {
        params.and_then(|raw| scan::keys(raw.get())).unwrap_or_default()
    }

    /// As [`of`](Self::of), of a text that is known to be JSON.
    pub(crate) fn of_text(text: &'a str) -> Self {
        scan::keys(text).unwrap_or_default()
    }

    /// The thread it belongs to, under whichever name it was given.
    #[must_use]
    pub fn thread(&self) -> Option<&str> {
        self.thread_id.as_deref().or(self.conversation_id.as_deref())
    }

    /// The turn it belongs to.
    #[must_use]
    pub fn turn(&self) -> Option<&str> {
        self.turn_id.as_deref()
    }

    /// The item it belongs to.
    #[must_use]
    pub fn item(&self) -> Option<&str> {
        self.item_id.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Message<'_> {
        Envelope::parse(line.as_bytes()).expect("a message").message
    }

    #[test]
    fn the_kinds_of_message_are_told_apart_in_any_order_of_members() {
        assert!(matches!(parse(r#"{"id":1,"result":null}"#), Message::Success { id: RpcId::Integer(1), .. }));
        assert!(matches!(parse(r#"{"error":{"code":1},"id":"1"}"#), Message::Failure { id: RpcId::Text(_), .. }));
        assert!(matches!(parse(r#"{"params":{},"jsonrpc":"2.0","method":"a"}"#), Message::Notification { .. }));
        assert!(matches!(parse(r#"{"id":0,"params":{},"method":"a"}"#), Message::Request { .. }));
    }

    #[test]
    fn what_is_no_message_is_told_apart() {
        let kind = |line: &[u8]| Envelope::parse(line).expect_err("no message");
        assert_eq!(kind(b"  \r"), NotAMessage::Blank);
        assert_eq!(kind(b"\x1b[32mready\x1b[0m"), NotAMessage::Noise);
        assert_eq!(kind(b"[1,2]"), NotAMessage::Noise);
        assert_eq!(kind(b"{\"id\":1,\"resu"), NotAMessage::Malformed);
        assert_eq!(kind(b"{\"method\":\"\xff\"}"), NotAMessage::Malformed);
        assert_eq!(kind(b"{\"id\":1}"), NotAMessage::Shapeless);
        assert_eq!(kind(b"{}"), NotAMessage::Shapeless);
    }

    #[test]
    fn keys_are_found_flat_and_nested_and_wrong_types_are_no_keys() {
        let line = r#"{"method":"m","params":{"turn":{"id":"\u0055","status":"completed","items":[{"id":"x"}]},
            "threadId":7,"thread":{"id":"T"},"item":{"id":"I"},"extra":1}}"#;
        let Message::Notification { keys, .. } = parse(line) else { panic!("a notification") };
        assert_eq!((keys.thread(), keys.turn(), keys.item()), (Some("T"), Some("U"), Some("I")));
        assert_eq!(keys.status.as_deref(), Some("completed"));
        assert!(keys.has_others);
    }

    #[test]
    fn ids_of_other_types_are_kept_as_they_are() {
        for id in ["7", "-1", "-0", r#""7""#, "9223372036854775808", "1.5", r#""a\"b""#] {
            let line = alloc::format!(r#"{{"method":"m","id":{id}}}"#);
            let Message::Request { id: parsed, .. } = parse(&line) else { panic!("a request") };
            assert_eq!(serde_json::to_string(&parsed).expect("encodes"), id);
        }
    }

    #[test]
    fn the_owner_of_an_oversized_response_is_found_in_its_head() {
        let id = |head: &str| Envelope::response_id_in_head(head.as_bytes());
        assert_eq!(id(r#"{"id":12,"result":{"data":"#), Some(RpcId::Integer(12)));
        assert_eq!(id(r#"{"id":"12","result":"#), Some(RpcId::Text("12".into())));
        assert_eq!(id(r#"{"method":"turn/started","params"#), None);
        assert_eq!(id(r#"{"id":12"#), None);
        let request = |head: &'static str| Envelope::request_in_head(head.as_bytes());
        assert_eq!(
            request(r#"{"method":"item/tool/call","id":7,"params":{"a"#),
            Some(("item/tool/call", RpcId::Integer(7)))
        );
        assert_eq!(request(r#"{"method":"turn/started","params":{"id":7,"#), None);
    }
}
