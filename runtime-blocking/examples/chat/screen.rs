//! What the chat shows: the agent's words on stdout, all else on stderr.

use std::io::{self, Write};
use turnwire_blocking::{
    DeltaKind, Event, ItemId, TurnError, TurnResult,
    protocol::{FileUpdateChange, ThreadItem},
};

pub(crate) struct Screen {
    /// The message that is being written.
    message: Option<ItemId>,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { message: None }
    }

    pub(crate) fn prompt(&mut self) {
        let _ = write!(io::stderr(), "> ").and_then(|()| io::stderr().flush());
    }

    /// A question to the user, and a place for the answer.
    pub(crate) fn ask(&mut self, question: &str) {
        self.say(question);
        let _ = write!(io::stderr(), "? ").and_then(|()| io::stderr().flush());
    }

    /// A line for the user. If nobody reads it, that is no failure of the program.
    pub(crate) fn say(&mut self, line: &str) {
        self.end_message();
        let _ = writeln!(io::stderr(), "{line}");
    }

    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => {
                let item = &delta.origin.item;
                if self.message.as_ref() != Some(item) {
                    self.end_message();
                    self.message = Some(item.clone());
                }
                let _ = write!(io::stdout(), "{}", delta.text).and_then(|()| io::stdout().flush());
            }
            Event::ItemStarted(started) => {
                if let ThreadItem::CommandExecution(command) = &started.item {
                    self.say(&format!("$ {}", command.command));
                }
            }
            Event::ItemCompleted(completed) => match &completed.item {
                ThreadItem::CommandExecution(command) => {
                    let output = command.aggregated_output.as_deref().unwrap_or_default().trim_end();
                    self.say(&format!("{output}\n({})", command.status));
                }
                ThreadItem::FileChange(change) => {
                    let changes: String = change.changes.iter().map(diff).collect();
                    self.say(&format!("{changes}({})", change.status));
                }
                // Its pieces are shown already, unless there were none.
                ThreadItem::AgentMessage(message) if self.message.as_ref() != Some(&message.id) => {
                    self.end_message();
                    let _ = writeln!(io::stdout(), "{}", message.text);
                }
                ThreadItem::AgentMessage(_) => self.end_message(),
                _ => {}
            },
            Event::Error { error, will_retry: true, .. } => self.say(&format!("again: {}", error.message)),
            Event::Refused(refused) => self.say(&format!("refused: {}", refused.notification.method)),
            _ => {}
        }
    }

    pub(crate) fn finish(&mut self, result: Result<TurnResult, TurnError>) {
        match result {
            Ok(result) => {
                let tokens = result.usage.map_or(String::new(), |usage| format!(", {} tokens", usage.total_tokens));
                self.say(&format!("({}{tokens})", result.status));
            }
            Err(error) => self.say(&format!("({error})")),
        }
    }

    fn end_message(&mut self) {
        if self.message.take().is_some() {
            let _ = writeln!(io::stdout());
        }
    }
}

/// A change as the agent shows it: the new text of a new file, a unified diff of another.
pub(crate) fn diff(change: &FileUpdateChange) -> String {
    let text: String = change.diff.lines().map(|line| format!("  {line}\n")).collect();
    format!("--- {}\n{text}", change.path)
}
