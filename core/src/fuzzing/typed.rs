//! The typed readers against JSON that knows no types.

use crate::protocol::{
    DecodeError, Request, RequestVisitor, ServerNotification, ServerRequestParams, Wire, decode, encode, visit_request,
};
use alloc::{
    format,
    string::{String, ToString},
};
use core::fmt::Debug;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

/// What a typed reader takes is JSON, means the same as the JSON, is written back as what it was, and does so for good.
///
/// The first byte says what it is (`n` a notification, `s` a request of the server, `p` the params of a request, any
/// other its answer), the rest of the first line is the method, and the rest of the input the payload.
pub fn typed(data: &[u8]) {
    let Ok(text) = core::str::from_utf8(data) else { return };
    let Some((head, payload)) = text.split_once('\n') else { return };
    let Some(kind) = head.chars().next() else { return };
    let method = &head[kind.len_utf8()..];
    let written = match kind {
        'n' => notification(method, payload),
        's' => server_request(method, payload),
        'p' => visit_request(method, Params(payload)).flatten(),
        _ => visit_request(method, Answer(payload)).flatten(),
    };
    let Some(written) = written else { return };
    assert!(serde_json::from_str::<&RawValue>(payload).is_ok(), "no JSON, and yet it was read");
    // A few things are JSON by their grammar alone: numbers out of range, halves of surrogates. There is no value of them.
    let Ok(before) = serde_json::from_str::<Value>(payload) else { return };
    if super::has_doubled_names(payload) {
        return;
    }
    let after: Value = match serde_json::from_str(&written) {
        Ok(value) => value,
        Err(error) => panic!("what is written is no JSON: {error}"),
    };
    compare(method, &before, &after);
}

/// Encodes, reads that, encodes that: the same.
fn settled<T>(method: &str, value: &T, encode: impl Fn(&T) -> String, read: impl Fn(&str) -> Option<T>) -> String {
    let once = encode(value);
    let Some(again) = read(&once) else { panic!("{method}: what it wrote is not read again") };
    assert_eq!(encode(&again), once, "{method}: what was read again is written otherwise");
    once
}

fn notification(method: &str, payload: &str) -> Option<String> {
    let value = ServerNotification::decode(method, payload).ok()?;
    let _ = format!("{value:?}");
    assert_eq!(value.method(), method);
    let text = |value: &ServerNotification| value.params().as_str().to_string();
    Some(settled(method, &value, text, |text| ServerNotification::decode(method, text).ok()))
}

fn server_request(method: &str, payload: &str) -> Option<String> {
    let value = ServerRequestParams::decode(method, payload).ok()?;
    let _ = format!("{value:?}");
    let text = |value: &ServerRequestParams| value.params().as_str().to_string();
    Some(settled(method, &value, text, |text| ServerRequestParams::decode(method, text).ok()))
}

struct Params<'a>(&'a str);
struct Answer<'a>(&'a str);

impl RequestVisitor for Params<'_> {
    type Output = Option<String>;

    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + DeserializeOwned + Wire + Debug,
        A: DeserializeOwned + Serialize + Wire + Debug,
    {
        both::<R>(R::METHOD, self.0)
    }
}

impl RequestVisitor for Answer<'_> {
    type Output = Option<String>;

    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + DeserializeOwned + Wire + Debug,
        A: DeserializeOwned + Serialize + Wire + Debug,
    {
        let direct = R::decode_response(self.0);
        let through: Result<A, DecodeError> = decode(self.0);
        assert_eq!(direct.is_ok(), through.is_ok(), "{}: two ways to read it differ", R::METHOD);
        both::<A>(R::METHOD, self.0)
    }
}

fn both<T: DeserializeOwned + Serialize + Wire + Debug>(method: &str, payload: &str) -> Option<String> {
    let value: T = decode(payload).ok()?;
    let _ = format!("{value:?}");
    let through_serde = serde_json::to_string(&value);
    assert_eq!(through_serde.ok(), Some(encode(&value)), "{method}: serde writes it otherwise");
    Some(settled(method, &value, |value: &T| encode(value), |text| decode(text).ok()))
}

/// Whatever is written was there, and is what it was; members that no type knows may be gone, and what may be left out
/// may stand with its default.
fn compare(path: &str, before: &Value, after: &Value) {
    match (before, after) {
        (Value::Object(before), Value::Object(after)) => {
            for (name, after) in after {
                match before.get(name) {
                    Some(before) => compare(&format!("{path}.{name}"), before, after),
                    None => assert!(is_plain(after), "{path}.{name} comes from nowhere"),
                }
            }
        }
        (Value::Array(before), Value::Array(after)) => {
            assert_eq!(before.len(), after.len(), "{path}: entries came or went");
            for (before, after) in before.iter().zip(after) {
                compare(path, before, after);
            }
        }
        (Value::Null, after) => assert!(is_plain(after), "{path}: null becomes something"),
        (Value::Number(before), Value::Number(after)) => assert_eq!(before.as_f64(), after.as_f64(), "{path}"),
        (before, after) => assert_eq!(before, after, "{path}"),
    }
}

/// Whether it says nothing: what a member has that was not given.
fn is_plain(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Bool(value) => !value,
        Value::Number(value) => value.as_f64() == Some(0.0),
        Value::String(value) => value.is_empty(),
        Value::Array(value) => value.is_empty(),
        Value::Object(value) => value.values().all(is_plain),
    }
}
