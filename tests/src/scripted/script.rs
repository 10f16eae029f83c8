//! What the scripted server shall do, as data: a builder and a JSON form of equal power.
//!
//! A [`Script`] is an ordered list of [`Rule`]s and the settings of the default brain. A rule is a trigger and a list of
//! [`Step`]s. The first rule that matches a message of the client takes it, and its steps run as a track of their own: a
//! track that waits or delays holds up no other. What no rule matches goes to the default brain; the step
//! [`Step::Default`] hands the triggering message to it in the middle of a track.
//!
//! ```
//! use serde_json::json;
//! use turnwire_testkit::scripted::{Rule, Script};
//!
//! let built = Script::new().rule(
//!     Rule::on("thread/start").nth(2).notify("warning", json!({"message": "slow"})).delay(20).default_reply(),
//! );
//! let read = Script::from_json(r#"{"rules": [{"on": "thread/start", "nth": 2, "steps": [
//!     {"notify": {"method": "warning", "params": {"message": "slow"}}}, {"delay": 20}, "default"]}]}"#)?;
//! assert_eq!(built, read);
//! assert_eq!(Script::from_json(&built.to_json())?, built);
//! # Ok::<(), turnwire_testkit::scripted::ScriptError>(())
//! ```

use std::fmt;
use std::path::Path;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;

use super::plan::{Early, TurnPlan};
use super::wire;

/// A script that could not be read.
#[derive(Debug)]
pub struct ScriptError(String);

impl fmt::Display for ScriptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a script of the scripted app-server: {}", self.0)
    }
}

impl std::error::Error for ScriptError {}

/// The whole behaviour of one scripted server.
///
/// In JSON every member is optional and unknown members are refused, so that a misspelt one is not silently without effect.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct Script {
    /// The rules, in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// Turn plans, in the order in which they are tried: the first whose `when` is part of the prompt is played.
    pub turns: Vec<TurnPlan>,
    /// The version in `userAgent` and `cliVersion`. A version below 0.154 also has the old ways: no `emittedAtMs`, no
    /// `rootTurnId`, no items in `turn/completed`, a dead id for `turn/start` on a busy thread.
    pub version: String,
    /// Milliseconds between `turn/start` and its reply.
    pub reply_delay: u64,
    /// Milliseconds between the reply to `turn/start` and `turn/started`: the gap in which an interrupt is refused.
    pub started_delay: u64,
    /// Milliseconds before each text delta.
    pub delta_delay: u64,
    /// What comes before the reply to `turn/start`.
    pub early: Early,
    /// Send the two notices that the real server sends after `initialize`.
    pub startup_notices: bool,
    /// Threads that exist, not loaded, from the beginning; they can be resumed.
    pub stored_threads: Vec<String>,
    /// `thread/resume` of any id that looks like a UUID works, as if an earlier process had stored that thread.
    pub resume_any: bool,
    /// The model of new threads that name none.
    pub model: String,
    /// The working folder of new threads that name none.
    pub cwd: String,
    /// Part of every generated id, so that two servers can be given different ids.
    pub id_seed: u16,
    /// Unix milliseconds at the server's time zero. Fixed by default, so that output can be compared.
    pub unix_start_ms: u64,
    /// SIGTERM does nothing (program only; same as having [`Step::IgnoreTerm`] anywhere).
    pub ignore_term: bool,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            rules: Vec::new(),
            turns: Vec::new(),
            version: "0.163.0".to_owned(),
            reply_delay: 0,
            started_delay: 5,
            delta_delay: 1,
            early: Early::None,
            startup_notices: true,
            stored_threads: Vec::new(),
            resume_any: false,
            model: "gpt-5.5".to_owned(),
            cwd: "/workspace".to_owned(),
            id_seed: 0,
            unix_start_ms: 1_795_349_155_000,
            ignore_term: false,
        }
    }
}

impl Script {
    /// A script without rules: only the default brain.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Reads the JSON form.
    ///
    /// # Errors
    /// The text is not JSON, or not a script: the message names line and column.
    pub fn from_json(text: &str) -> Result<Self, ScriptError> {
        serde_json::from_str(text).map_err(|error| ScriptError(error.to_string()))
    }

    /// Reads the JSON form from a file.
    ///
    /// # Errors
    /// The file cannot be read, or as for [`Script::from_json`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ScriptError> {
        let path = path.as_ref();
        let text = std::fs::read_to_string(path)
            .map_err(|error| ScriptError(format!("cannot read {}: {error}", path.display())))?;
        Self::from_json(&text)
    }

    /// The JSON form, for the program `turnwire-scripted-server`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default()
    }

    /// Adds a rule, after those that are there.
    #[must_use]
    pub fn rule(mut self, rule: Rule) -> Self {
        self.rules.push(rule);
        self
    }

    /// Adds a turn plan, after those that are there.
    #[must_use]
    pub fn turn(mut self, plan: TurnPlan) -> Self {
        self.turns.push(plan);
        self
    }

    /// Sets [`Script::version`].
    #[must_use]
    pub fn version(mut self, version: impl Into<String>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets [`Script::reply_delay`], in milliseconds.
    #[must_use]
    pub fn reply_delay(mut self, ms: u64) -> Self {
        self.reply_delay = ms;
        self
    }

    /// Sets [`Script::started_delay`], in milliseconds.
    #[must_use]
    pub fn started_delay(mut self, ms: u64) -> Self {
        self.started_delay = ms;
        self
    }

    /// Sets [`Script::delta_delay`], in milliseconds.
    #[must_use]
    pub fn delta_delay(mut self, ms: u64) -> Self {
        self.delta_delay = ms;
        self
    }

    /// Sets [`Script::early`].
    #[must_use]
    pub fn early(mut self, early: Early) -> Self {
        self.early = early;
        self
    }

    /// Sets [`Script::startup_notices`].
    #[must_use]
    pub fn startup_notices(mut self, send: bool) -> Self {
        self.startup_notices = send;
        self
    }

    /// Adds to [`Script::stored_threads`].
    #[must_use]
    pub fn stored_thread(mut self, id: impl Into<String>) -> Self {
        self.stored_threads.push(id.into());
        self
    }

    /// Sets [`Script::resume_any`].
    #[must_use]
    pub fn resume_any(mut self, allow: bool) -> Self {
        self.resume_any = allow;
        self
    }

    /// Sets [`Script::id_seed`].
    #[must_use]
    pub fn id_seed(mut self, seed: u16) -> Self {
        self.id_seed = seed;
        self
    }

    /// Sets [`Script::ignore_term`].
    #[must_use]
    pub fn ignore_term(mut self, ignore: bool) -> Self {
        self.ignore_term = ignore;
        self
    }

    /// The program has to ignore SIGTERM: it was set, or a step says so.
    #[must_use]
    pub fn needs_ignored_term(&self) -> bool {
        self.ignore_term || self.has_step(&Step::IgnoreTerm)
    }

    /// The program needs an output that it can close.
    #[must_use]
    pub fn needs_closable_stdout(&self) -> bool {
        self.has_step(&Step::CloseStdout)
    }

    fn has_step(&self, step: &Step) -> bool {
        self.rules.iter().any(|rule| rule.steps.contains(step))
    }

    /// The ways of the versions before 0.154.
    pub(crate) fn is_old(&self) -> bool {
        let mut numbers = self.version.split('.').map(|part| part.parse::<u64>().unwrap_or(u64::MAX));
        matches!((numbers.next(), numbers.next()), (Some(0), Some(minor)) if minor < 154)
    }
}

/// What starts a track.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub enum Trigger {
    /// The client's answer (result or error) to the server request with this id, of the same JSON type.
    Answer(Value),
    /// The end of the client's output. Replaces the default, which is to exit with code 0 at once; when the steps are done
    /// and none of them was [`Step::IgnoreEof`], the server exits with 0.
    Eof,
    /// A request or notification of this method.
    Method(String),
    /// Time zero.
    Start,
}

/// How often a rule may match.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum Times {
    /// Each time.
    Always,
    /// Only for the message that is the nth with this trigger since the start, counted from 1.
    Nth(u64),
    /// The first time that everything else fits.
    Once,
}

/// A trigger and what then happens.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(try_from = "RuleForm", into = "RuleForm")]
pub struct Rule {
    /// What starts the steps.
    pub trigger: Trigger,
    /// How often.
    pub times: Times,
    /// Members of the params (paths such as `input.0.text`) and the values that they must have.
    pub when: Vec<(String, Value)>,
    /// What happens, in order.
    pub steps: Vec<Step>,
}

impl Rule {
    fn new(trigger: Trigger) -> Self {
        Self { trigger, times: Times::Always, when: Vec::new(), steps: Vec::new() }
    }

    /// A rule for each request or notification of this method.
    #[must_use]
    pub fn on(method: impl Into<String>) -> Self {
        Self::new(Trigger::Method(method.into()))
    }

    /// A rule for the client's answer to the server request `id`.
    #[must_use]
    pub fn on_answer(id: impl Into<Value>) -> Self {
        Self::new(Trigger::Answer(id.into()))
    }

    /// A rule for time zero.
    #[must_use]
    pub fn at_start() -> Self {
        Self::new(Trigger::Start)
    }

    /// A rule for the end of the client's output.
    #[must_use]
    pub fn on_eof() -> Self {
        Self::new(Trigger::Eof)
    }

    /// Only for the nth message with this trigger, counted from 1.
    #[must_use]
    pub fn nth(mut self, n: u64) -> Self {
        self.times = Times::Nth(n);
        self
    }

    /// Only once.
    #[must_use]
    pub fn once(mut self) -> Self {
        self.times = Times::Once;
        self
    }

    /// Only if the member of the params at `path` has this value.
    #[must_use]
    pub fn when(mut self, path: impl Into<String>, value: impl Into<Value>) -> Self {
        self.when.push((path.into(), value.into()));
        self
    }

    /// Adds any step.
    #[must_use]
    pub fn step(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    /// Adds [`Step::Reply`].
    #[must_use]
    pub fn reply(self, result: Value) -> Self {
        self.step(Step::Reply(result))
    }

    /// Adds [`Step::ReplyError`] without data.
    #[must_use]
    pub fn reply_error(self, code: i64, message: impl Into<String>) -> Self {
        self.step(Step::ReplyError(ErrorBody { code, message: message.into(), data: None }))
    }

    /// Adds [`Step::ReplyError`] with data.
    #[must_use]
    pub fn reply_error_data(self, code: i64, message: impl Into<String>, data: Value) -> Self {
        self.step(Step::ReplyError(ErrorBody { code, message: message.into(), data: Some(data) }))
    }

    /// Adds [`Step::ReplyToId`].
    #[must_use]
    pub fn reply_to_id(self, id: impl Into<Value>, result: Value) -> Self {
        self.step(Step::ReplyToId { id: id.into(), result })
    }

    /// Adds [`Step::ErrorToId`].
    #[must_use]
    pub fn error_to_id(self, id: impl Into<Value>, code: i64, message: impl Into<String>) -> Self {
        self.step(Step::ErrorToId { id: id.into(), error: ErrorBody { code, message: message.into(), data: None } })
    }

    /// Adds [`Step::Notify`].
    #[must_use]
    pub fn notify(self, method: impl Into<String>, params: Value) -> Self {
        self.step(Step::Notify { method: method.into(), params })
    }

    /// Adds [`Step::Ask`].
    #[must_use]
    pub fn ask(self, method: impl Into<String>, id: impl Into<Value>, params: Value) -> Self {
        self.step(Step::Ask { method: method.into(), id: id.into(), params })
    }

    /// Adds [`Step::ExpectAnswer`].
    #[must_use]
    pub fn expect_answer(self, id: impl Into<Value>) -> Self {
        self.step(Step::ExpectAnswer(id.into()))
    }

    /// Adds [`Step::WaitFor`].
    #[must_use]
    pub fn wait_for(self, method: impl Into<String>) -> Self {
        self.step(Step::WaitFor(method.into()))
    }

    /// Adds [`Step::Take`].
    #[must_use]
    pub fn take(self, method: impl Into<String>) -> Self {
        self.step(Step::Take(method.into()))
    }

    /// Adds [`Step::Delay`], in milliseconds.
    #[must_use]
    pub fn delay(self, ms: u64) -> Self {
        self.step(Step::Delay(ms))
    }

    /// Adds [`Step::Raw`].
    #[must_use]
    pub fn raw(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Raw(bytes.into()))
    }

    /// Adds [`Step::RawLine`].
    #[must_use]
    pub fn raw_line(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::RawLine(bytes.into()))
    }

    /// Adds [`Step::Send`].
    #[must_use]
    pub fn send(self, message: Value) -> Self {
        self.step(Step::Send(message))
    }

    /// Adds [`Step::Fill`].
    #[must_use]
    pub fn fill(self, text: impl Into<String>, count: u64) -> Self {
        self.step(Step::Fill { text: text.into(), count })
    }

    /// Adds [`Step::Flood`].
    #[must_use]
    pub fn flood(self, count: u64, method: impl Into<String>, params: Value) -> Self {
        self.step(Step::Flood { count, method: method.into(), params })
    }

    /// Adds [`Step::Stderr`].
    #[must_use]
    pub fn stderr(self, bytes: impl Into<Bytes>) -> Self {
        self.step(Step::Stderr(bytes.into()))
    }

    /// Adds [`Step::StderrFlood`].
    #[must_use]
    pub fn stderr_flood(self, bytes: u64) -> Self {
        self.step(Step::StderrFlood(bytes))
    }

    /// Adds [`Step::StopReading`].
    #[must_use]
    pub fn stop_reading(self) -> Self {
        self.step(Step::StopReading)
    }

    /// Adds [`Step::ResumeReading`].
    #[must_use]
    pub fn resume_reading(self) -> Self {
        self.step(Step::ResumeReading)
    }

    /// Adds [`Step::CloseStdout`].
    #[must_use]
    pub fn close_stdout(self) -> Self {
        self.step(Step::CloseStdout)
    }

    /// Adds [`Step::Exit`].
    #[must_use]
    pub fn exit(self, code: i32) -> Self {
        self.step(Step::Exit(code))
    }

    /// Adds [`Step::Die`].
    #[must_use]
    pub fn die(self, signal: i32) -> Self {
        self.step(Step::Die(signal))
    }

    /// Adds [`Step::IgnoreEof`].
    #[must_use]
    pub fn ignore_eof(self) -> Self {
        self.step(Step::IgnoreEof)
    }

    /// Adds [`Step::IgnoreTerm`].
    #[must_use]
    pub fn ignore_term(self) -> Self {
        self.step(Step::IgnoreTerm)
    }

    /// Adds [`Step::Default`].
    #[must_use]
    pub fn default_reply(self) -> Self {
        self.step(Step::Default)
    }
}

/// One step of a track. JSON values of messages may hold variables, see the module `scripted`.
///
/// In JSON a step is an object with one member, the step's name in snake case (`{"delay": 20}`), or just the name if it
/// takes nothing (`"stop_reading"`).
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
#[non_exhaustive]
pub enum Step {
    /// Sends a request of the server. Forgets an earlier answer to this id.
    Ask {
        /// The method, as it stands.
        method: String,
        /// The id, of any JSON type.
        id: Value,
        /// The params.
        #[serde(default)]
        params: Value,
    },
    /// Closes stdout, after what was sent before; later output is thrown away.
    CloseStdout,
    /// Hands the request or notification that the track works on to the default brain. In a track started by the end of
    /// input: exits with code 0.
    Default,
    /// Waits this many milliseconds.
    Delay(u64),
    /// The server is killed by this signal number, after what was sent before. The pure form reports it; the program does it.
    Die(i32),
    /// An error response with any id, whether somebody waits for it or not.
    ErrorToId {
        /// The id, of any JSON type.
        id: Value,
        /// The error.
        error: ErrorBody,
    },
    /// Exits with this code, after what was sent before.
    Exit(i32),
    /// Waits until the client has answered the server request with this id; `$answer` is the answer.
    ExpectAnswer(Value),
    /// The text, so many times, without newline: for lines of any length. Made while it is read, not kept in memory.
    Fill {
        /// What is repeated, as it stands.
        text: String,
        /// How often.
        count: u64,
    },
    /// So many notifications in one go. Made while they are read, not kept in memory.
    Flood {
        /// How many.
        count: u64,
        /// The method.
        method: String,
        /// The params; `$n` is the number of the message, from 1.
        #[serde(default)]
        params: Value,
    },
    /// From now on the end of input does not end the server.
    IgnoreEof,
    /// SIGTERM does nothing. Program only, and there it holds from the beginning, wherever the step stands.
    IgnoreTerm,
    /// Sends a notification.
    Notify {
        /// The method, in which `${…}` is replaced.
        method: String,
        /// The params.
        #[serde(default)]
        params: Value,
    },
    /// Writes bytes to stdout as they are: garbage, banners, half a line, bytes that are not UTF-8.
    Raw(Bytes),
    /// Writes bytes and a newline.
    RawLine(Bytes),
    /// Answers the request that the track works on. Does nothing in a track that works on none.
    Reply(Value),
    /// Refuses the request that the track works on.
    ReplyError(ErrorBody),
    /// A response with any id, whether somebody waits for it or not.
    ReplyToId {
        /// The id, of any JSON type.
        id: Value,
        /// The result.
        result: Value,
    },
    /// Reads on, beginning with what has come meanwhile.
    ResumeReading,
    /// Writes any JSON value as a line.
    Send(Value),
    /// Writes to stderr.
    Stderr(Bytes),
    /// Writes so many bytes of log lines to stderr. Made while they are read.
    StderrFlood(u64),
    /// Stops reading input: the program's stdin pipe fills up.
    StopReading,
    /// Waits for the next message of this method and takes it over: neither rules nor brain see it, and `$id` and `$params`
    /// mean it from now on.
    Take(String),
    /// Waits until the client has sent a message of this method, which is dealt with as usual before the track goes on.
    WaitFor(String),
}

/// The error of an error response.
#[derive(Clone, Debug, Deserialize, PartialEq, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// The JSON-RPC error code.
    pub code: i64,
    /// The text, in which `${…}` is replaced.
    pub message: String,
    /// More, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data: Option<Value>,
}

/// Bytes of a script: in JSON a text, a list of numbers, or `{"base64": ".."}`.
#[derive(Clone, Default, PartialEq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Bytes({} bytes)", self.0.len())
    }
}

impl From<&str> for Bytes {
    fn from(text: &str) -> Self {
        Self(text.as_bytes().to_vec())
    }
}

impl From<String> for Bytes {
    fn from(text: String) -> Self {
        Self(text.into_bytes())
    }
}

impl From<Vec<u8>> for Bytes {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for Bytes {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Bytes {
    fn from(bytes: &[u8; N]) -> Self {
        Self(bytes.to_vec())
    }
}

impl Serialize for Bytes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match std::str::from_utf8(&self.0) {
            Ok(text) => serializer.serialize_str(text),
            Err(_) => serializer.collect_map([("base64", wire::base64_encode(&self.0))]),
        }
    }
}

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let wrong =
            || serde::de::Error::custom("bytes are a text, a list of numbers below 256, or {\"base64\": \"..\"}");
        match Value::deserialize(deserializer)? {
            Value::String(text) => Ok(Self(text.into_bytes())),
            Value::Array(numbers) => {
                let byte = |number: Value| number.as_u64().and_then(|number| u8::try_from(number).ok());
                numbers.into_iter().map(byte).collect::<Option<_>>().map(Self).ok_or_else(wrong)
            }
            Value::Object(members) if members.len() == 1 => {
                let text = members.get("base64").and_then(Value::as_str);
                text.and_then(wire::base64_decode).map(Self).ok_or_else(wrong)
            }
            _ => Err(wrong()),
        }
    }
}

/// The JSON form of a rule: flat, because that reads better than the nested types.
#[derive(Default, Deserialize, Serialize)]
#[serde(default, deny_unknown_fields)]
struct RuleForm {
    #[serde(skip_serializing_if = "Option::is_none")]
    on: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    on_answer: Option<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    nth: Option<u64>,
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    once: bool,
    #[serde(skip_serializing_if = "serde_json::Map::is_empty")]
    when: serde_json::Map<String, Value>,
    steps: Vec<Step>,
}

impl TryFrom<RuleForm> for Rule {
    type Error = String;

    fn try_from(form: RuleForm) -> Result<Self, String> {
        let trigger = match (form.on, form.on_answer, form.at.as_deref()) {
            (Some(method), None, None) => Trigger::Method(method),
            (None, Some(id), None) => Trigger::Answer(id),
            (None, None, Some("start")) => Trigger::Start,
            (None, None, Some("eof")) => Trigger::Eof,
            _ => return Err("a rule has exactly one of on, on_answer, at (\"start\" or \"eof\")".to_owned()),
        };
        let times = match (form.nth, form.once) {
            (None, false) => Times::Always,
            (None, true) => Times::Once,
            (Some(n), false) if n > 0 => Times::Nth(n),
            _ => return Err("a rule has at most one of nth (from 1) and once".to_owned()),
        };
        Ok(Self { trigger, times, when: form.when.into_iter().collect(), steps: form.steps })
    }
}

impl From<Rule> for RuleForm {
    fn from(rule: Rule) -> Self {
        let mut form = Self { when: rule.when.into_iter().collect(), steps: rule.steps, ..Self::default() };
        match rule.trigger {
            Trigger::Answer(id) => form.on_answer = Some(id),
            Trigger::Eof => form.at = Some("eof".to_owned()),
            Trigger::Method(method) => form.on = Some(method),
            Trigger::Start => form.at = Some("start".to_owned()),
        }
        match rule.times {
            Times::Always => {}
            Times::Nth(n) => form.nth = Some(n),
            Times::Once => form.once = true,
        }
        form
    }
}
