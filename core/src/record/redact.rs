//! Taking out of a recording whatever is not known to be harmless.

use super::{Line, Part, Record, Step, Text, words::MEMBERS};
use crate::{
    connection::noise,
    envelope::{Envelope, RpcId},
    error::DisconnectReason,
    launch::ExitReport,
};
use alloc::{
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};

/// A name, what may stand below it, and the words among that.
pub(super) type Member = (&'static str, u8, &'static [&'static str]);

/// A number may stand there.
pub(super) const NUMBER: u8 = 1;
/// A boolean may stand there.
pub(super) const BOOL: u8 = 2;
/// Below it stands what the schema knows nothing of.
pub(super) const OPAQUE: u8 = 4;

/// Members of messages that the servers' schemas take for granted.
const FRAMING: [Member; 9] = [
    ("code", NUMBER, &[]),
    ("data", 0, &[]),
    ("emittedAtMs", NUMBER, &[]),
    ("error", 0, &[]),
    ("id", NUMBER, &[]),
    ("jsonrpc", 0, &["2.0"]),
    ("method", 0, &["initialized"]),
    ("params", 0, &[]),
    ("result", 0, &[]),
];

/// Ids that the server makes up and routes by. Where they look like a UUID, they stay.
const KEPT_IDS: [&str; 21] = [
    "agentThreadId",
    "ancestorThreadId",
    "approvalId",
    "beforeThreadId",
    "beforeTurnId",
    "callId",
    "conversationId",
    "expectedTurnId",
    "forkedFromId",
    "id",
    "itemId",
    "itemIds",
    "lastTurnId",
    "parentThreadId",
    "receiverThreadIds",
    "requestId",
    "reviewThreadId",
    "rootTurnId",
    "senderThreadId",
    "threadId",
    "turnId",
];

/// Names below which there are known members in one message, and whatever anybody likes in another: a form's answers, what a
/// tool returns, a setting's value.
const MIXED: [&str; 6] = ["content", "details", "input", "output", "result", "value"];

/// Takes texts out of messages and leaves their structure.
///
/// What stays is listed, and everything else goes: the names of members that a server's schema knows; under such a
/// name, the words that the schema itself spells out for it (methods, kinds, statuses, policies), numbers and booleans where the schema has them; the
/// ids of messages; UUIDs that threads, turns, items and requests are named by. Other ids become `id-` and a hash, so that
/// what belonged together still does. Every other text becomes as many `x` as it had characters; below members that
/// anybody may fill, numbers become 0 and names hashes. Where that depends on the message, and in messages whose method is not known,
/// numbers become 0 too, and an `id` a hash; the names that are known stay. Of the version of the server nothing is taken out.
///
/// Of the errors that a server tells apart by their text only, those that this crate knows keep that text.
///
/// ```
/// use turnwire_core::record::{Line, Redactor};
///
/// let line = br#"{"method":"item/agentMessage/delta","params":{"itemId":"i-1","delta":"my secret","secret":{"pin":42}}}"#;
/// let line = Redactor::default().line(&Line::new(line));
/// assert!(line.text().starts_with(r#"{"method":"item/agentMessage/delta","params":{"itemId":"id-"#));
/// assert!(line.text().contains(r#""delta":"xxxxxxxxx""#));
/// assert!(!line.text().contains("secret") && !line.text().contains("42"));
/// ```
#[derive(Clone, Default)]
pub struct Redactor {
    seed: u64,
}

impl fmt::Debug for Redactor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Redactor").finish_non_exhaustive()
    }
}

impl Redactor {
    /// A redactor whose hashes depend on a seed: without it nobody can find out a short id by trying.
    #[must_use]
    pub fn with_seed(seed: u64) -> Self {
        Self { seed }
    }

    /// The record without what is not known to be harmless.
    #[must_use]
    pub fn record(&self, record: &Record) -> Record {
        let report =
            |report: &ExitReport| ExitReport { stderr_tail: blank(&report.stderr_tail).into(), ..report.clone() };
        let step = match &record.step {
            Step::Received(line) => Step::Received(self.line(line)),
            Step::Sent(line) => Step::Sent(self.line(line)),
            Step::Remark(text) => Step::Remark(Text(blank(&text.0).into())),
            Step::Exit(exit) => Step::Exit(report(exit)),
            Step::Evidence(evidence) => Step::Evidence(report(evidence)),
            Step::Disconnect(reason) => Step::Disconnect(match reason {
                DisconnectReason::DriverDropped => DisconnectReason::DriverDropped,
                DisconnectReason::Protocol(text) => DisconnectReason::Protocol(blank(text)),
                DisconnectReason::Io(text) => DisconnectReason::Io(blank(text)),
                // Nobody reports the others from outside.
                _ => DisconnectReason::Io(String::new()),
            }),
            Step::Abandon { .. }
            | Step::Asked
            | Step::Close { .. }
            | Step::Deadline { .. }
            | Step::Eof
            | Step::Lost { .. }
            | Step::Timeout => record.step.clone(),
        };
        Record { step, ..record.clone() }
    }

    /// The line without what is not known to be harmless. What is no message stays none, of the same kind.
    #[must_use]
    pub fn line(&self, line: &Line) -> Line {
        let text = match line.part {
            Part::Head(_) => self.head(&line.bytes),
            Part::Whole | Part::Cut => {
                let message = self.message(&line.bytes).or_else(|| self.within_noise(&line.bytes));
                message.unwrap_or_else(|| shapeless(&line.bytes))
            }
        };
        Line { bytes: text.into_bytes().into(), part: line.part }
    }

    /// `None` when it is no JSON object.
    fn message(&self, line: &[u8]) -> Option<String> {
        let trimmed = line.trim_ascii();
        if trimmed.first() != Some(&b'{') {
            return None;
        }
        let mut out = String::with_capacity(trimmed.len());
        let mut deserializer = serde_json::Deserializer::from_slice(trimmed);
        let below = Below { redactor: self, out: &mut out, member: None, place: Place::Message };
        below.deserialize(&mut deserializer).ok()?;
        deserializer.end().ok()?;
        Some(out)
    }

    /// A message with something else on its line, as such a one: a connection finds it there.
    fn within_noise(&self, line: &[u8]) -> Option<String> {
        if let Some(message) = noise::dressed_message(line) {
            return Some(alloc::format!("\u{feff}{}", self.message(message)?));
        }
        let (banner, answer) = noise::banner_and_answer(line)?;
        Some(shapeless(banner) + &self.message(answer)?)
    }

    /// The beginning of a line that was too long: whose it is, and no more.
    fn head(&self, head: &[u8]) -> String {
        let id = |id: &RpcId| match id {
            RpcId::Integer(id) => id.to_string(),
            RpcId::Text(text) => quoted(&self.id(text)),
            RpcId::Other(_) => "null".into(),
        };
        let mut text = if let Some((method, request)) = Envelope::request_in_head(head) {
            let method = if is_word("method", method) { method.into() } else { blank(method) };
            alloc::format!("{{\"method\":{},\"id\":{},\"params\":", quoted(&method), id(&request))
        } else if let Some(response) = Envelope::response_id_in_head(head) {
            alloc::format!("{{\"id\":{},\"result\":", id(&response))
        } else {
            return shapeless(head);
        };
        let length = text.len();
        text.extend(core::iter::repeat_n('x', head.len().saturating_sub(length)));
        text
    }

    /// What stands for an id.
    fn id(&self, id: &str) -> String {
        if is_uuid(id) { id.into() } else { alloc::format!("id-{:016x}", self.hash(id)) }
    }

    fn hash(&self, text: &str) -> u64 {
        // FNV-1a, and then mixed so that every byte of the seed and the text touches every bit.
        let mut hash = 0xcbf2_9ce4_8422_2325 ^ self.seed;
        for byte in text.bytes() {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
        }
        hash ^= hash >> 33;
        hash = (hash ^ self.seed.rotate_left(32)).wrapping_mul(0xff51_afd7_ed55_8ccd);
        hash ^= hash >> 33;
        hash = hash.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
        hash ^ hash >> 33
    }
}

/// Where in a message something stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// It is the message.
    Message,
    /// It is the error object of a response.
    Error,
    /// Below something whose members are known.
    Known,
    /// Below something that has known members in some messages.
    Mixed,
    /// Below something that anybody may fill.
    Opaque,
}

/// Writes a value without what is not known to be harmless.
struct Below<'a> {
    redactor: &'a Redactor,
    out: &'a mut String,
    /// The member that it stands under, lists in between or not.
    member: Option<&'a Member>,
    place: Place,
}

impl Below<'_> {
    fn may_be(&self, flag: u8) -> bool {
        let is_typed = !matches!(self.place, Place::Mixed | Place::Opaque);
        is_typed && self.member.is_some_and(|(_, flags, _)| flags & flag != 0)
    }

    fn text(&self, text: &str) -> String {
        let name = self.member.map_or("", |(name, ..)| *name);
        if self.place == Place::Opaque {
            return blank(text);
        }
        if is_word(name, text) {
            return text.into();
        }
        match name {
            "userAgent" => user_agent(text),
            "message" if self.place == Place::Error => known_error(text, self.redactor),
            "id" if self.place == Place::Mixed => alloc::format!("id-{:016x}", self.redactor.hash(text)),
            _ if KEPT_IDS.contains(&name) => self.redactor.id(text),
            _ if name.ends_with("Id") || name.ends_with("Ids") => {
                alloc::format!("id-{:016x}", self.redactor.hash(text))
            }
            _ => blank(text),
        }
    }
}

impl<'de> DeserializeSeed<'de> for Below<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Below<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, value: bool) -> Result<(), E> {
        self.out.push_str(if value && self.may_be(BOOL) { "true" } else { "false" });
        Ok(())
    }

    fn visit_i64<E>(self, value: i64) -> Result<(), E> {
        let value = if self.may_be(NUMBER) { value } else { 0 };
        self.out.push_str(&value.to_string());
        Ok(())
    }

    fn visit_u64<E>(self, value: u64) -> Result<(), E> {
        let value = if self.may_be(NUMBER) { value } else { 0 };
        self.out.push_str(&value.to_string());
        Ok(())
    }

    fn visit_f64<E>(self, value: f64) -> Result<(), E> {
        let value = if self.may_be(NUMBER) { value } else { 0.0 };
        self.out.push_str(&serde_json::to_string(&value).unwrap_or_else(|_| "0.0".into()));
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        self.out.push_str("null");
        Ok(())
    }

    fn visit_str<E>(self, value: &str) -> Result<(), E> {
        let text = self.text(value);
        self.out.push_str(&quoted(&text));
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        let Self { redactor, out, member, place } = self;
        out.push('[');
        let mut is_first = true;
        loop {
            let end = out.len();
            if !is_first {
                out.push(',');
            }
            if seq.next_element_seed(Below { redactor, out, member, place })?.is_none() {
                out.truncate(end);
                break;
            }
            is_first = false;
        }
        out.push(']');
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Self { redactor, out, place: here, .. } = self;
        out.push('{');
        let (mut is_first, mut is_known_method) = (true, false);
        while let Some(name) = map.next_key::<String>()? {
            if !is_first {
                out.push(',');
            }
            is_first = false;
            let framing = matches!(here, Place::Message | Place::Error).then(|| framing(&name)).flatten();
            let member = match here {
                Place::Opaque => None,
                _ => framing.or_else(|| member(&name)),
            };
            match member {
                Some((name, ..)) => out.push_str(&quoted(name)),
                None if here == Place::Known && is_uuid(&name) => out.push_str(&quoted(&name)),
                None => out.push_str(&alloc::format!("\"key-{:016x}\"", redactor.hash(&name))),
            }
            out.push(':');
            let place = match (here, member) {
                (Place::Message, Some(("error", ..))) | (Place::Error, Some(("message", ..))) => Place::Error,
                (Place::Error, Some(("data", ..))) => Place::Mixed,
                (Place::Message, Some(("params", ..))) if !is_known_method => Place::Mixed,
                (Place::Opaque, _) => Place::Opaque,
                (_, Some((_, flags, _))) if framing.is_none() && flags & OPAQUE != 0 => Place::Opaque,
                (Place::Mixed, Some(_)) => Place::Mixed,
                (_, Some((name, ..))) if framing.is_none() && MIXED.contains(name) => Place::Mixed,
                (_, Some(_)) => Place::Known,
                // The key of a map of threads: what stands below has a type.
                (Place::Known, None) if is_uuid(&name) => Place::Known,
                (_, None) => Place::Opaque,
            };
            let begin = out.len();
            map.next_value_seed(Below { redactor, out, member, place })?;
            if here == Place::Message && name == "method" {
                // What is not known is blanked.
                let written = out.get(begin..).unwrap_or_default();
                is_known_method = is_method(written.trim_matches('"'));
            }
        }
        out.push('}');
        Ok(())
    }
}

fn member(name: &str) -> Option<&'static Member> {
    let at = MEMBERS.binary_search_by(|(known, ..)| (*known).cmp(name)).ok()?;
    MEMBERS.get(at)
}

fn framing(name: &str) -> Option<&'static Member> {
    FRAMING.iter().find(|(known, ..)| *known == name)
}

/// Whether a schema spells this word out for this member.
pub(crate) fn is_word(name: &str, word: &str) -> bool {
    let spells = |found: Option<&Member>| found.is_some_and(|(.., words)| words.contains(&word));
    spells(member(name)) || spells(framing(name))
}

/// Whether a schema knows this method.
pub(crate) fn is_method(method: &str) -> bool {
    is_word("method", method)
}

/// Whether a schema knows a member of this name.
pub(crate) fn is_member(name: &str) -> bool {
    member(name).is_some() || framing(name).is_some()
}

/// As many `x` as the text has characters.
fn blank(text: &str) -> String {
    core::iter::repeat_n('x', text.chars().count()).collect()
}

fn quoted(text: &str) -> String {
    serde_json::to_string(text).unwrap_or_else(|_| "\"\"".into())
}

/// What is no message, as what is no message for the same reason.
fn shapeless(line: &[u8]) -> String {
    let trimmed = line.trim_ascii();
    if trimmed.is_empty() {
        return String::new();
    }
    let characters = String::from_utf8_lossy(trimmed).chars().count();
    let first = if trimmed.first() == Some(&b'{') { '{' } else { 'x' };
    core::iter::once(first).chain(core::iter::repeat_n('x', characters - 1)).collect()
}

fn is_uuid(text: &str) -> bool {
    text.len() == 36
        && text.bytes().enumerate().all(|(at, byte)| match at {
            8 | 13 | 18 | 23 => byte == b'-',
            _ => byte.is_ascii_hexdigit(),
        })
}

/// `name/version (…) …`: only the version is anything that one has to know.
fn user_agent(text: &str) -> String {
    let Some((name, rest)) = text.split_once('/') else { return blank(text) };
    let version = rest.split(' ').next().unwrap_or_default();
    let is_version = version.len() <= 32
        && version.starts_with(|first: char| first.is_ascii_digit())
        && version
            .split('.')
            .all(|part| !part.is_empty() && part.len() <= 6 && part.bytes().all(|byte| byte.is_ascii_digit()));
    if !is_version {
        return blank(text);
    }
    let after = rest.get(version.len()..).unwrap_or_default();
    let after =
        if after.is_empty() { String::new() } else { alloc::format!(" {}", blank(after.get(1..).unwrap_or_default())) };
    alloc::format!("{}/{version}{after}", blank(name))
}

/// The texts by which the server tells its refusals of steers apart, without what is in them.
fn known_error(text: &str, redactor: &Redactor) -> String {
    const NONE: &str = "no active turn to steer";
    const EXPECTED: &str = "expected active turn id `";
    const FOUND: &str = "` but found `";
    if text == NONE {
        return NONE.into();
    }
    let kinds: Vec<&str> =
        ["review", "compact"].into_iter().filter(|kind| text == alloc::format!("cannot steer a {kind} turn")).collect();
    if !kinds.is_empty() {
        return text.into();
    }
    let mismatch = text.strip_prefix(EXPECTED).and_then(|rest| rest.strip_suffix('`')?.split_once(FOUND));
    match mismatch {
        Some((expected, found)) => alloc::format!("{EXPECTED}{}{FOUND}{}`", redactor.id(expected), redactor.id(found)),
        None => blank(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redacted(line: &str) -> String {
        Redactor::default().line(&Line::new(line.as_bytes())).text().into_owned()
    }

    #[test]
    fn the_table_is_sorted_and_names_are_found_in_it() {
        assert!(MEMBERS.windows(2).all(|pair| pair[0].0 < pair[1].0));
        assert!(is_word("method", "turn/start") && is_word("method", "initialized") && is_word("status", "completed"));
        assert!(!is_word("text", "completed"));
    }

    #[test]
    fn words_stay_under_their_own_name_only() {
        let line = r#"{"method":"turn/completed","params":{"threadId":"completed","turn":{"status":"completed","items":[],"durationMs":12}}}"#;
        let line = redacted(line);
        assert!(line.contains(r#""status":"completed","items":[],"durationMs":12"#), "{line}");
        assert_eq!(line.matches("completed").count(), 2, "{line}");
    }

    #[test]
    fn what_anybody_may_fill_keeps_its_form_and_nothing_else() {
        let line = r#"{"id":"a","method":"item/tool/call","params":{"arguments":{"status":"completed","pin":[1,2.5,true,null],"id":"x"}}}"#;
        let line = redacted(line);
        let value: serde_json::Value = serde_json::from_str(&line).expect("JSON");
        let arguments = value["params"]["arguments"].as_object().expect("an object");
        assert!(arguments.keys().all(|name| name.starts_with("key-")) && arguments.len() == 3, "{line}");
        assert!(arguments.values().any(|value| *value == serde_json::json!([0, 0.0, false, null])), "{line}");
        assert!(!line.contains("completed"), "{line}");
    }

    #[test]
    fn ids_that_were_equal_are_equal_and_uuids_of_threads_stay() {
        let uuid = "019b3c4e-0000-7000-8000-000000000001";
        let line = redacted(&alloc::format!(
            r#"{{"method":"x","params":{{"threadId":"{uuid}","turnId":"u","itemId":"u","accountId":"{uuid}"}}}}"#
        ));
        assert!(line.contains(&alloc::format!(r#""threadId":"{uuid}""#)), "{line}");
        assert_eq!(line.matches(uuid).count(), 1, "{line}");
        let id = line.split("\"turnId\":\"").nth(1).and_then(|rest| rest.split('"').next()).expect("an id");
        assert!(line.contains(&alloc::format!(r#""itemId":"{id}""#)), "{line}");
        let other = Redactor::with_seed(7).line(&Line::new(br#"{"id":"u","result":{}}"#));
        assert!(!other.text().contains(id));
    }

    #[test]
    fn the_id_of_a_request_stays_where_another_message_names_it() {
        for id in ["12", "\"twelve\""] {
            let request = redacted(&alloc::format!(r#"{{"id":{id},"method":"item/tool/call","params":{{}}}}"#));
            let line =
                alloc::format!(r#"{{"method":"serverRequest/resolved","params":{{"threadId":"t","requestId":{id}}}}}"#);
            let resolved = redacted(&line);
            let id = request.split("\"id\":").nth(1).and_then(|rest| rest.split(',').next()).expect("an id");
            assert!(resolved.contains(&alloc::format!("\"requestId\":{id}")), "{request} {resolved}");
        }
    }

    #[test]
    fn what_is_no_message_stays_none_of_the_same_kind() {
        assert_eq!(redacted("my banner"), "xxxxxxxxx");
        assert_eq!(redacted("{\"text\":\"mine"), "{xxxxxxxxxxxx");
        assert_eq!(redacted("  "), "");
        assert_eq!(redacted("[1,\"mine\"]"), "xxxxxxxxxx");
        let head = Line { bytes: br#"{"id":12,"result":{"data":"mine"#.as_slice().into(), part: Part::Head(1 << 20) };
        let head = Redactor::default().line(&head);
        assert_eq!(Envelope::response_id_in_head(&head.bytes), Some(RpcId::Integer(12)));
        assert!(!head.text().contains("mine"));
    }

    #[test]
    fn of_the_user_agent_the_version_stays() {
        assert_eq!(user_agent("me/0.163.0 (Linux)"), "xx/0.163.0 xxxxxxx");
        assert_eq!(user_agent("me/0.163.0"), "xx/0.163.0");
        assert_eq!(user_agent("me/1.token.0 x"), "xxxxxxxxxxxxxx");
    }

    #[test]
    fn known_refusals_of_a_steer_keep_their_text() {
        let line = r#"{"id":1,"error":{"code":-32600,"message":"no active turn to steer","data":null}}"#;
        assert_eq!(redacted(line), line);
        let line =
            redacted(r#"{"id":1,"error":{"code":-32600,"message":"expected active turn id `a` but found `b`"}}"#);
        assert!(line.contains("` but found `id-"), "{line}");
        let line = redacted(r#"{"id":1,"error":{"code":-32600,"message":"no such file: /home/me"}}"#);
        assert!(!line.contains("home"), "{line}");
    }

    #[test]
    fn what_anybody_may_fill_in_one_message_keeps_no_number_and_no_id_in_any() {
        let secret = "3fa85f64-5717-4562-b3fc-2c963f66afa6";
        for line in [
            r#"{"id":1,"result":{"action":"accept","content":{"code":482913,"value":482913,"id":"SECRET","pin":482913}}}"#,
            r#"{"method":"item/completed","params":{"item":{"type":"mcpToolCall","id":"i","result":{"content":[{"type":"text","text":"x","balance":482913,"value":482913,"code":482913,"position":482913}]}}}}"#,
            r#"{"id":1,"method":"config/value/write","params":{"keyPath":"a","value":482913}}"#,
            r#"{"id":1,"method":"config/value/write","params":{"keyPath":"a","value":{"code":482913,"port":482913}}}"#,
            r#"{"id":1,"error":{"code":-32600,"message":"no","data":{"code":482913,"id":"SECRET","SECRET":1}}}"#,
            r#"{"method":"brand/new","params":{"code":482913,"SECRET":0,"value":[482913],"id":"SECRET"}}"#,
        ] {
            let line = Line::new(line.replace("SECRET", secret).as_bytes());
            let text = Redactor::default().line(&line).text().into_owned();
            assert!(!text.contains("482913") && !text.contains(secret), "{text}");
        }
        // What the machine tells by it stays.
        let error = br#"{"id":7,"error":{"code":-32600,"message":"no","data":{"codexErrorInfo":"serverOverloaded"}}}"#;
        let text = Redactor::default().line(&Line::new(error)).text().into_owned();
        assert!(
            text.contains("-32600") && text.contains("\"serverOverloaded\"") && text.contains("\"id\":7"),
            "{text}"
        );
    }
}
