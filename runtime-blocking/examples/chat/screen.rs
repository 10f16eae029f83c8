//! What the chat shows: the agent's words on stdout, all else on stderr.

use std::io::{self, Write};
use turnwire_blocking::{
    DeltaKind, Event, ItemId, TurnError, TurnResult,
    protocol::{FileUpdateChange, ThreadItem},
};

pub(crate) struct Screen {
    /// The message whose pieces were shown last.
    message: Option<ItemId>,
    /// Whether the line on stdout is a message's, without its end.
    is_in_message: bool,
    /// Whether the line is one on which the user is to write.
    is_asking: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        Self { message: None, is_in_message: false, is_asking: false }
    }

    pub(crate) fn prompt(&mut self) {
        self.is_asking = true;
        let _ = write!(io::stderr(), "> ").and_then(|()| io::stderr().flush());
    }

    /// The user has written a line, and its end with it.
    pub(crate) fn typed(&mut self) {
        self.is_asking = false;
    }

    /// A question to the user, and a place for the answer.
    pub(crate) fn ask(&mut self, question: &str) {
        self.say(question);
        self.is_asking = true;
        let _ = write!(io::stderr(), "? ").and_then(|()| io::stderr().flush());
    }

    /// A line for the user. If nobody reads it, that is no failure of the program.
    pub(crate) fn say(&mut self, line: &str) {
        self.end_message();
        self.end_asking();
        let _ = writeln!(io::stderr(), "{}", plain(line));
    }

    pub(crate) fn show(&mut self, event: &Event) {
        match event {
            Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => {
                let item = &delta.origin.item;
                if self.message.as_ref() != Some(item) {
                    self.end_message();
                    self.message = Some(item.clone());
                }
                self.end_asking();
                self.is_in_message = true;
                let _ = write!(io::stdout(), "{}", plain(&delta.text)).and_then(|()| io::stdout().flush());
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
                    let _ = writeln!(io::stdout(), "{}", plain(&message.text));
                }
                // Something else may have been said in between; what was shown of it is not shown again.
                ThreadItem::AgentMessage(_) => self.end_message(),
                _ => {}
            },
            Event::Error(failed) if failed.will_retry => self.say(&format!("again: {}", failed.error.message)),
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

    /// What follows stands on a line of its own.
    pub(crate) fn end_asking(&mut self) {
        if std::mem::take(&mut self.is_asking) {
            let _ = writeln!(io::stderr());
        }
    }

    fn end_message(&mut self) {
        if std::mem::take(&mut self.is_in_message) {
            let _ = writeln!(io::stdout());
        }
    }
}

/// A text that the terminal takes as text. A command, a file or an answer may hold what would move the cursor or change
/// colours, and so show the user something else than what he says yes to.
fn plain(text: &str) -> String {
    let shown = |character: char| match character {
        '\n' | '\t' => character,
        // These reorder what stands beside them.
        '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => '\u{fffd}',
        _ if character.is_control() => '\u{fffd}',
        _ => character,
    };
    text.replace("\r\n", "\n").chars().map(shown).collect()
}

/// A change as the agent shows it: the new text of a new file, a unified diff of another.
pub(crate) fn diff(change: &FileUpdateChange) -> String {
    let text: String = change.diff.lines().map(|line| format!("  {line}\n")).collect();
    format!("--- {}\n{text}", change.path)
}
