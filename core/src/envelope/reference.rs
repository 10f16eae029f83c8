//! What [`scan`](super::scan) is to find, found with serde: slower, and plainer.

use super::{Envelope, JsonText, Keys, Message, NotAMessage, Reader, RpcId};
use alloc::{borrow::Cow, string::String};
use core::fmt;
use serde::{
    Deserialize,
    de::{Deserializer, IgnoredAny, MapAccess, Visitor},
};
use serde_json::value::RawValue;

/// Reads one line, as [`Envelope::parse`] does.
pub(crate) fn parse(line: &[u8]) -> Result<Envelope<'_>, NotAMessage> {
    let trimmed = line.trim_ascii();
    match trimmed.first() {
        None => return Err(NotAMessage::Blank),
        Some(b'{') => {}
        Some(_) => return Err(NotAMessage::Noise),
    }
    let text = core::str::from_utf8(trimmed).map_err(|_| NotAMessage::Malformed)?;
    let wire: Wire<'_> = serde_json::from_str(text).map_err(|_| NotAMessage::Malformed)?;
    let message = match (wire.method, wire.id, wire.result, wire.error) {
        (Some(method), Some(id), _, _) => {
            let keys = keys(wire.params).ok_or(NotAMessage::Malformed)?;
            Message::Request { id: RpcId::parse(id.get()), method, params: wire.params, keys }
        }
        (Some(method), None, _, _) => {
            let keys = keys(wire.params).ok_or(NotAMessage::Malformed)?;
            Message::Notification { method, params: wire.params.map(JsonText::from), keys }
        }
        (None, Some(id), _, Some(error)) if error.get() != "null" => {
            Message::Failure { id: RpcId::parse(id.get()), error }
        }
        (None, Some(id), Some(result), _) => Message::Success { id: RpcId::parse(id.get()), result },
        _ => return Err(NotAMessage::Shapeless),
    };
    Ok(Envelope { message, emitted_at_ms: wire.emitted_at_ms })
}

/// The keys of params or of a result; `None` if there is an object that cannot be read through, such as one with half a
/// character in a name.
pub(crate) fn keys(params: Option<&RawValue>) -> Option<Keys<'_>> {
    match params {
        Some(raw) if raw.get().starts_with('{') => serde_json::from_str(raw.get()).ok(),
        _ => Some(Keys::default()),
    }
}

/// All that an envelope says, for comparing.
type Said<'a> = (&'static str, Option<&'a RpcId>, &'a str, Option<&'a str>, Option<Found<'a>>, Option<i64>);

/// All that keys say, for comparing.
type Found<'a> = ([Option<&'a str>; 8], Option<i64>, bool);

pub(crate) fn found<'k>(keys: &'k Keys<'_>) -> Found<'k> {
    let Keys {
        conversation_id,
        delta,
        index,
        item_id,
        request_id,
        thread_id,
        root_turn_id,
        status,
        turn_id,
        has_others,
    } = keys;
    let texts = [conversation_id, delta, item_id, thread_id, root_turn_id, status, turn_id].map(Option::as_deref);
    let [a, b, c, d, e, f, g] = texts;
    ([a, b, c, d, e, f, g, request_id.map(RawValue::get)], *index, *has_others)
}

fn said<'e>(envelope: &'e Envelope<'_>) -> Said<'e> {
    let at = envelope.emitted_at_ms;
    match &envelope.message {
        Message::Failure { id, error } => ("failure", Some(id), "", Some(error.get()), None, at),
        Message::Notification { method, params, keys } => {
            ("notification", None, method, params.map(JsonText::get), Some(found(keys)), at)
        }
        Message::Request { id, method, params, keys } => {
            ("request", Some(id), method, params.map(RawValue::get), Some(found(keys)), at)
        }
        Message::Success { id, result } => ("success", Some(id), "", Some(result.get()), None, at),
    }
}

/// Panics unless all ways to read a line find the same in it.
pub(crate) fn check(line: &[u8]) {
    compare(line, Envelope::parse(line));
}

/// Panics unless lines that are read one after the other are read as each alone.
pub(crate) fn check_all<'l>(lines: impl IntoIterator<Item = &'l [u8]>) {
    let mut reader = Reader::<()>::default();
    for line in lines {
        compare(line, reader.parse(line));
    }
}

fn compare(line: &[u8], scanned: Result<Envelope<'_>, NotAMessage>) {
    let read = parse(line);
    assert_eq!(
        scanned.as_ref().map(said),
        read.as_ref().map(said),
        "scanned and read: {:?}",
        String::from_utf8_lossy(line)
    );
    // Borrowed or copied is a part of it: a text without escapes costs no allocation.
    if let (Ok(Message::Notification { keys, .. }), Ok(Message::Notification { keys: other, .. })) =
        (scanned.map(|envelope| envelope.message), read.map(|envelope| envelope.message))
    {
        let is_borrowed = |text: &Option<Cow<'_, str>>| matches!(text, Some(Cow::Borrowed(_)));
        assert_eq!(is_borrowed(&keys.delta), is_borrowed(&other.delta));
        assert_eq!(is_borrowed(&keys.thread_id), is_borrowed(&other.thread_id));
    }
}

/// The members of the top level, as they stand. `null` is a value here, and absent is `None`.
#[derive(Default)]
struct Wire<'a> {
    id: Option<&'a RawValue>,
    method: Option<Cow<'a, str>>,
    params: Option<&'a RawValue>,
    result: Option<&'a RawValue>,
    error: Option<&'a RawValue>,
    emitted_at_ms: Option<i64>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum WireKey {
    Id,
    Method,
    Params,
    Result,
    Error,
    EmittedAtMs,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Wire<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct WireVisitor;

        impl<'de> Visitor<'de> for WireVisitor {
            type Value = Wire<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a message")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut wire = Wire::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        WireKey::Id => wire.id = Some(map.next_value()?),
                        WireKey::Method => wire.method = text(map.next_value()?),
                        WireKey::Params => wire.params = Some(map.next_value()?),
                        WireKey::Result => wire.result = Some(map.next_value()?),
                        WireKey::Error => wire.error = Some(map.next_value()?),
                        WireKey::EmittedAtMs => wire.emitted_at_ms = int(map.next_value()?),
                        WireKey::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(wire)
            }
        }

        deserializer.deserialize_map(WireVisitor)
    }
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum ParamKey {
    ConversationId,
    ContentIndex,
    Delta,
    Item,
    ItemId,
    RequestId,
    Status,
    SummaryIndex,
    Thread,
    ThreadId,
    Turn,
    TurnId,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Keys<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct KeysVisitor;

        impl<'de> Visitor<'de> for KeysVisitor {
            type Value = Keys<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut keys = Keys::default();
                let (mut item, mut thread, mut turn, mut state) = (None, None, None, None);
                while let Some(key) = map.next_key()? {
                    match key {
                        ParamKey::ConversationId => keys.conversation_id = text(map.next_value()?),
                        ParamKey::ContentIndex | ParamKey::SummaryIndex => keys.index = int(map.next_value()?),
                        ParamKey::Delta => keys.delta = text(map.next_value()?),
                        ParamKey::Item => item = Some(named(map.next_value()?)),
                        ParamKey::ItemId => keys.item_id = text(map.next_value()?),
                        ParamKey::RequestId => keys.request_id = Some(map.next_value()?),
                        ParamKey::Status => state = Some(named(map.next_value()?)),
                        ParamKey::Thread => thread = Some(named(map.next_value()?)),
                        ParamKey::ThreadId => keys.thread_id = text(map.next_value()?),
                        ParamKey::Turn => turn = Some(named(map.next_value()?)),
                        ParamKey::TurnId => keys.turn_id = text(map.next_value()?),
                        ParamKey::Other => {
                            keys.has_others = true;
                            map.next_value::<IgnoredAny>()?;
                        }
                    }
                }
                keys.has_others |= item.is_some() || thread.is_some() || turn.is_some() || state.is_some();
                keys.item_id = keys.item_id.or(item.and_then(|item| item.id));
                keys.thread_id = keys.thread_id.or(thread.and_then(|thread| thread.id));
                keys.status = state.and_then(|state| state.kind);
                if let Some(turn) = turn {
                    keys.turn_id = keys.turn_id.or(turn.id);
                    keys.root_turn_id = turn.root_turn_id;
                    keys.status = keys.status.or(turn.status);
                }
                Ok(keys)
            }
        }

        deserializer.deserialize_map(KeysVisitor)
    }
}

/// What is read of a nested `turn`, `thread`, `item` or `status`, whatever else it holds.
#[derive(Default)]
struct Named<'a> {
    id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    root_turn_id: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
}

#[derive(Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum NamedKey {
    Id,
    RootTurnId,
    Status,
    Type,
    #[serde(other)]
    Other,
}

impl<'de> Deserialize<'de> for Named<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NamedVisitor;

        impl<'de> Visitor<'de> for NamedVisitor {
            type Value = Named<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut named = Named::default();
                while let Some(key) = map.next_key()? {
                    match key {
                        NamedKey::Id => named.id = text(map.next_value()?),
                        NamedKey::RootTurnId => named.root_turn_id = text(map.next_value()?),
                        NamedKey::Status => named.status = text(map.next_value()?),
                        NamedKey::Type => named.kind = text(map.next_value()?),
                        NamedKey::Other => drop(map.next_value::<IgnoredAny>()?),
                    }
                }
                Ok(named)
            }
        }

        deserializer.deserialize_map(NamedVisitor)
    }
}

/// The members of an object that a key is looked for in; anything else has none.
fn named(raw: &RawValue) -> Named<'_> {
    serde_json::from_str(raw.get()).unwrap_or_default()
}

/// The value, if it is a text.
fn text(raw: &RawValue) -> Option<Cow<'_, str>> {
    let inner = raw.get().strip_prefix('"')?.strip_suffix('"')?;
    if memchr::memchr(b'\\', inner.as_bytes()).is_none() {
        return Some(Cow::Borrowed(inner));
    }
    serde_json::from_str::<String>(raw.get()).ok().map(Cow::Owned)
}

/// The value, if it is a whole number.
fn int(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    const RICH: &[u8] = b" {\"method\" : \"item/x\\n\",\"params\":{\"threadId\":\"T\",\"turn\":{\"id\":\"\\u0055\",\"status\":\
\"completed\",\"items\":[{\"id\":\"x\"},[],{}]},\"item\":{\"id\":7},\"delta\":\"caf\xc3\xa9 \\ud83d\\ude00 and more than eight\",\
\"contentIndex\":-12,\"x\":[1.5e-7,true,false,null,\"\"]},\"emittedAtMs\":1795349155000,\"id\":\"7\"} ";

    #[test]
    fn both_ways_to_read_a_line_agree_whatever_is_done_to_it() {
        check(RICH);
        for at in 0..=RICH.len() {
            let (head, tail) = RICH.split_at(at);
            check(head);
            check(tail);
            for byte in 0..=u8::MAX {
                let mut changed = RICH.to_vec();
                changed.insert(at, byte);
                check(&changed);
                if let Some(there) = changed.get_mut(at + 1) {
                    *there = byte;
                    changed.remove(at);
                    check(&changed);
                }
            }
            for from in 0..at {
                let mut cut = Vec::from(RICH.get(..from).unwrap_or_default());
                cut.extend_from_slice(tail);
                check(&cut);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn both_ways_agree_on_what_is_close_to_a_message(data in prop::collection::vec(any::<u8>(), 0..60)) {
            crate::fuzzing::scan(&data);
        }

        #[test]
        fn keys_are_the_same_on_their_own(data in prop::collection::vec(any::<u8>(), 0..60)) {
            let text = crate::fuzzing::jsonish(&data);
            if let Ok(raw) = serde_json::from_slice::<&RawValue>(&text) {
                let (scanned, read) = (Keys::of(Some(raw)), keys(Some(raw)).unwrap_or_default());
                prop_assert_eq!(found(&scanned), found(&read));
            }
        }
    }
}
