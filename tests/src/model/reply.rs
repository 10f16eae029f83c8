//! What the scripted model answers: a reply is a list of steps, written in order.
//!
//! This file owns the script as data. It opens no socket and knows no time but the pauses it is told; `play.rs` acts
//! it out.

use std::fmt;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::gate::Gate;

/// Characters per text delta unless [`Message::chunk_chars`] says otherwise.
pub const CHUNK_CHARS: usize = 8;

/// One answer to one request: a stream of events, or an HTTP error.
///
/// ```
/// use turnwire_testkit::model::{ExecCommand, Gate, Message, Phase, Reply, Usage};
///
/// let gate = Gate::new();
/// let reply = Reply::new()
///     .reasoning("Look first.")
///     .message(Message::new("I will list the files.").phase(Phase::Commentary))
///     .hold(&gate)
///     .exec(ExecCommand::new("ls -la"))
///     .usage(Usage { input: 100, cached_input: 40, output: 20, reasoning_output: 5 });
/// # drop(reply);
/// ```
#[derive(Clone)]
#[must_use = "a reply does nothing until it is given to the model"]
pub struct Reply {
    pub(super) kind: Kind,
    pub(super) headers: Vec<(String, String)>,
}

#[derive(Clone)]
pub(super) enum Kind {
    Http { status: u16, body: String },
    Stream { steps: Vec<Step>, usage: Usage },
}

/// One step of a stream. The first of `Cut`, `Failed` and `Incomplete` ends it; without one it ends as completed.
#[derive(Clone)]
pub(super) enum Step {
    CustomCall { name: String, input: String },
    Cut,
    Event(Value),
    Failed { code: String, message: String },
    FunctionCall { name: String, namespace: Option<String>, arguments: String },
    Hold(Gate),
    Incomplete { reason: String },
    Message(Message),
    Pause(Duration),
    Reasoning(String),
}

impl Default for Reply {
    fn default() -> Self {
        Self::new()
    }
}

impl Reply {
    /// A stream that says nothing and completes.
    pub fn new() -> Self {
        Self { kind: Kind::Stream { steps: Vec::new(), usage: Usage::default() }, headers: Vec::new() }
    }

    /// A stream of one message without a phase.
    pub fn text(text: impl Into<String>) -> Self {
        Self::new().message(Message::new(text))
    }

    /// An HTTP response of that status in place of a stream, for example 400, 429 or 503. The body is sent as it is,
    /// as JSON. Steps and usage given to such a reply are ignored.
    pub fn http(status: u16, body: impl Into<String>) -> Self {
        Self { kind: Kind::Http { status, body: body.into() }, headers: Vec::new() }
    }

    /// An HTTP error with a body in the form the API uses: `{"error":{"code","message","type"}}`.
    pub fn http_error(status: u16, code: &str, message: &str) -> Self {
        Self::http(status, json!({"error": {"code": code, "message": message, "type": code}}).to_string())
    }

    /// Adds an HTTP header to the response, for example `retry-after`. Name and value must be fit for HTTP.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The token counts that the completed stream reports. Default: 10 in, 5 out.
    pub fn usage(mut self, figures: Usage) -> Self {
        if let Kind::Stream { usage, .. } = &mut self.kind {
            *usage = figures;
        }
        self
    }

    /// A message of the agent.
    pub fn message(self, message: Message) -> Self {
        self.step(Step::Message(message))
    }

    /// A message of phase commentary.
    pub fn commentary(self, text: impl Into<String>) -> Self {
        self.message(Message::new(text).phase(Phase::Commentary))
    }

    /// A message of phase final answer.
    pub fn final_answer(self, text: impl Into<String>) -> Self {
        self.message(Message::new(text).phase(Phase::FinalAnswer))
    }

    /// A reasoning item with this summary, sent in deltas of [`CHUNK_CHARS`].
    pub fn reasoning(self, summary: impl Into<String>) -> Self {
        self.step(Step::Reasoning(summary.into()))
    }

    /// A call of the tool `exec_command`.
    pub fn exec(self, command: ExecCommand) -> Self {
        self.function_call("exec_command", &Value::Object(command.arguments))
    }

    /// A call of any function tool: a built-in one, or a dynamic tool of the client.
    pub fn function_call(self, name: impl Into<String>, arguments: &Value) -> Self {
        self.function_call_text(name, arguments.to_string())
    }

    /// A function call whose arguments are sent as they are, JSON or not.
    pub fn function_call_text(self, name: impl Into<String>, arguments: impl Into<String>) -> Self {
        self.step(Step::FunctionCall { name: name.into(), namespace: None, arguments: arguments.into() })
    }

    /// A call of a tool that was declared inside a namespace.
    pub fn namespaced_call(self, namespace: impl Into<String>, name: impl Into<String>, arguments: &Value) -> Self {
        let (namespace, arguments) = (Some(namespace.into()), arguments.to_string());
        self.step(Step::FunctionCall { name: name.into(), namespace, arguments })
    }

    /// A call of a free-form tool.
    pub fn custom_call(self, name: impl Into<String>, input: impl Into<String>) -> Self {
        self.step(Step::CustomCall { name: name.into(), input: input.into() })
    }

    /// A call of `apply_patch` with the text of a patch (`*** Begin Patch` to `*** End Patch`).
    pub fn apply_patch(self, patch: impl Into<String>) -> Self {
        self.custom_call("apply_patch", patch)
    }

    /// Stops between items until the gate opens. [`Message::hold`] does it inside a message.
    pub fn hold(self, gate: &Gate) -> Self {
        self.step(Step::Hold(gate.clone()))
    }

    /// Writes nothing for this long.
    pub fn pause(self, time: Duration) -> Self {
        self.step(Step::Pause(time))
    }

    /// Ends the stream with `response.failed` and this code, for example `context_length_exceeded`.
    pub fn failed(self, code: impl Into<String>, message: impl Into<String>) -> Self {
        self.step(Step::Failed { code: code.into(), message: message.into() })
    }

    /// Ends the stream with `response.incomplete` for this reason, for example `max_output_tokens`.
    pub fn incomplete(self, reason: impl Into<String>) -> Self {
        self.step(Step::Incomplete { reason: reason.into() })
    }

    /// Closes the connection between two items, without the end of the stream. [`Message::cut`] does it inside a
    /// message.
    pub fn cut(self) -> Self {
        self.step(Step::Cut)
    }

    /// Writes one event as it is. Its `type` becomes the event's name. For what this type does not know.
    pub fn event(self, event: Value) -> Self {
        self.step(Step::Event(event))
    }

    fn step(mut self, step: Step) -> Self {
        if let Kind::Stream { steps, .. } = &mut self.kind {
            steps.push(step);
        }
        self
    }
}

impl fmt::Debug for Reply {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Http { status, body } => {
                f.debug_struct("Http").field("status", status).field("body_len", &body.len()).finish()
            }
            Kind::Stream { steps, usage } => {
                f.debug_struct("Stream").field("steps", &steps.len()).field("usage", usage).finish()
            }
        }
    }
}

/// One message of the agent: texts, pauses and gates in order, sent as deltas and then as a whole.
#[derive(Clone)]
#[must_use = "a message does nothing until it is part of a reply"]
pub struct Message {
    pub(super) pieces: Vec<Piece>,
    pub(super) phase: Option<Phase>,
    /// At least 1.
    pub(super) chunk_chars: usize,
    pub(super) delta_delay: Duration,
}

#[derive(Clone)]
pub(super) enum Piece {
    Cut,
    Hold(Gate),
    Pause(Duration),
    Text(String),
}

impl Message {
    /// A message that begins with this text, without a phase.
    pub fn new(text: impl Into<String>) -> Self {
        let pieces = vec![Piece::Text(text.into())];
        Self { pieces, phase: None, chunk_chars: CHUNK_CHARS, delta_delay: Duration::ZERO }
    }

    /// Says whether this is commentary or the final answer.
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phase = Some(phase);
        self
    }

    /// The most characters of one delta; 0 counts as 1. A piece of text always begins a new delta.
    pub fn chunk_chars(mut self, chars: usize) -> Self {
        self.chunk_chars = chars.max(1);
        self
    }

    /// The wait before each delta: a slow stream.
    pub fn delta_delay(mut self, delay: Duration) -> Self {
        self.delta_delay = delay;
        self
    }

    /// More text.
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.pieces.push(Piece::Text(text.into()));
        self
    }

    /// Stops here, inside the item, until the gate opens.
    pub fn hold(mut self, gate: &Gate) -> Self {
        self.pieces.push(Piece::Hold(gate.clone()));
        self
    }

    /// Writes nothing for this long.
    pub fn pause(mut self, time: Duration) -> Self {
        self.pieces.push(Piece::Pause(time));
        self
    }

    /// Closes the connection here, inside the item.
    pub fn cut(mut self) -> Self {
        self.pieces.push(Piece::Cut);
        self
    }

    /// The whole text.
    pub(super) fn full_text(&self) -> String {
        let texts = self.pieces.iter().filter_map(|piece| match piece {
            Piece::Text(text) => Some(text.as_str()),
            Piece::Cut | Piece::Hold(_) | Piece::Pause(_) => None,
        });
        texts.collect()
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("pieces", &self.pieces.len())
            .field("phase", &self.phase)
            .finish_non_exhaustive()
    }
}

/// What part of the turn a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Phase {
    /// Said on the way.
    Commentary,
    /// The answer.
    FinalAnswer,
}

impl Phase {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Self::Commentary => "commentary",
            Self::FinalAnswer => "final_answer",
        }
    }
}

/// The arguments of one `exec_command` call.
#[derive(Clone)]
#[must_use = "a command does nothing until it is part of a reply"]
pub struct ExecCommand {
    arguments: Map<String, Value>,
}

impl ExecCommand {
    /// Runs `cmd` in the shell, inside the sandbox of the thread.
    pub fn new(cmd: impl Into<String>) -> Self {
        let mut arguments = Map::new();
        arguments.insert("cmd".to_owned(), Value::String(cmd.into()));
        Self { arguments }
    }

    /// Asks to leave the sandbox. Under the approval policies `on-request` and `untrusted` the server then asks its
    /// client, with `justification` as the reason.
    pub fn escalated(self, justification: impl Into<String>) -> Self {
        self.argument("sandbox_permissions", json!("require_escalated"))
            .argument("justification", Value::String(justification.into()))
    }

    /// How long the tool waits for the command before it goes on in the background, in ms.
    pub fn yield_time_ms(self, ms: u64) -> Self {
        self.argument("yield_time_ms", json!(ms))
    }

    /// Sets any other argument.
    pub fn argument(mut self, name: &str, value: Value) -> Self {
        self.arguments.insert(name.to_owned(), value);
        self
    }
}

impl fmt::Debug for ExecCommand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExecCommand").field("arguments", &self.arguments.len()).finish()
    }
}

/// The token counts of one model request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Usage {
    /// All input tokens, the cached ones included.
    pub input: u64,
    /// Input tokens that came from the cache.
    pub cached_input: u64,
    /// All output tokens, those of reasoning included.
    pub output: u64,
    /// Output tokens spent on reasoning.
    pub reasoning_output: u64,
}

impl Default for Usage {
    fn default() -> Self {
        Self { input: 10, cached_input: 0, output: 5, reasoning_output: 0 }
    }
}

impl Usage {
    /// Input and output together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.input.saturating_add(self.output)
    }

    pub(super) fn to_json(self) -> Value {
        json!({
            "input_tokens": self.input,
            "input_tokens_details": {"cached_tokens": self.cached_input},
            "output_tokens": self.output,
            "output_tokens_details": {"reasoning_tokens": self.reasoning_output},
            "total_tokens": self.total(),
        })
    }
}
