//! How the default brain plays a turn, as data.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What comes before the reply to `turn/start`.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum Early {
    /// The whole turn: the reply comes after `turn/completed`.
    Completed,
    /// Nothing: the reply is first.
    #[default]
    None,
    /// `turn/started`, then the reply.
    Started,
}

/// One turn of the default brain. Everything is optional; an empty plan echoes the prompt.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct TurnPlan {
    /// Plays for prompts that contain this; for every prompt if `None`.
    pub when: Option<String>,
    /// The agent's answer. `None`: `You said: ` and the prompt.
    pub text: Option<String>,
    /// Into how many deltas the answer is cut. `None`: pieces of six characters.
    pub deltas: Option<usize>,
    /// The `phase` of the answer.
    pub phase: Option<String>,
    /// A reasoning item with this summary comes first.
    pub reasoning: Option<String>,
    /// A command runs before the answer.
    pub command: Option<CommandPlan>,
    /// A file is written before the answer.
    pub file_change: Option<FileChangePlan>,
    /// The answer stays open after its last delta until the client interrupts, or steers or joins the turn.
    pub hold: bool,
    /// The turn fails instead of answering.
    pub fail: Option<FailPlan>,
}

impl TurnPlan {
    /// A plan for every prompt.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// A plan for prompts that contain this text.
    #[must_use]
    pub fn when(part: impl Into<String>) -> Self {
        Self { when: Some(part.into()), ..Self::default() }
    }

    /// Sets the answer.
    #[must_use]
    pub fn text(mut self, text: impl Into<String>) -> Self {
        self.text = Some(text.into());
        self
    }

    /// Sets the number of deltas.
    #[must_use]
    pub fn deltas(mut self, count: usize) -> Self {
        self.deltas = Some(count);
        self
    }

    /// Sets the phase.
    #[must_use]
    pub fn phase(mut self, phase: impl Into<String>) -> Self {
        self.phase = Some(phase.into());
        self
    }

    /// Adds a reasoning item.
    #[must_use]
    pub fn reasoning(mut self, summary: impl Into<String>) -> Self {
        self.reasoning = Some(summary.into());
        self
    }

    /// Adds a command with its output and exit code.
    #[must_use]
    pub fn command(mut self, command: impl Into<String>, output: impl Into<String>, exit_code: i32) -> Self {
        self.command = Some(CommandPlan { command: command.into(), output: output.into(), exit_code, approval: false });
        self
    }

    /// Adds a new file.
    #[must_use]
    pub fn file_change(mut self, path: impl Into<String>, content: impl Into<String>) -> Self {
        self.file_change = Some(FileChangePlan { path: path.into(), content: content.into(), approval: false });
        self
    }

    /// The client is asked before the command or the file change of this plan.
    #[must_use]
    pub fn with_approval(mut self) -> Self {
        if let Some(command) = &mut self.command {
            command.approval = true;
        }
        if let Some(change) = &mut self.file_change {
            change.approval = true;
        }
        self
    }

    /// The answer stays open.
    #[must_use]
    pub fn hold(mut self) -> Self {
        self.hold = true;
        self
    }

    /// The turn fails with this message and `codexErrorInfo`, after so many announced retries.
    #[must_use]
    pub fn fail(mut self, message: impl Into<String>, info: Value, retries: u32) -> Self {
        self.fail = Some(FailPlan { message: message.into(), info, retries });
        self
    }
}

/// A command in a turn.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct CommandPlan {
    /// The command line, without the shell around it.
    pub command: String,
    /// What it prints.
    pub output: String,
    /// Its exit code.
    pub exit_code: i32,
    /// Ask the client first.
    pub approval: bool,
}

/// A new file in a turn.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FileChangePlan {
    /// Where.
    pub path: String,
    /// What.
    pub content: String,
    /// Ask the client first.
    pub approval: bool,
}

/// How a turn fails.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
#[serde(default, deny_unknown_fields)]
pub struct FailPlan {
    /// The text for people.
    pub message: String,
    /// The `codexErrorInfo`.
    pub info: Value,
    /// How many `error` notifications with `willRetry: true` come before.
    pub retries: u32,
}
