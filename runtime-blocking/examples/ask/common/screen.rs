//! What is shown, and what is to be done next.
//!
//! The answer goes to stdout as it is written; what the agent does on the way goes to stderr, a line each. The screen is
//! told everything that happens and says what the program shall do about it; it never does it itself, because that
//! takes waiting.

use super::{Options, say};
use std::{
    io::{self, IsTerminal, Write},
    process::ExitCode,
    time::Instant,
};
use turnwire_core::{
    client::Event,
    error::{CallError, SteerError, TurnError},
    id::{ItemId, TurnId},
    protocol::{
        AgentMessageItem, CommandExecutionItem, CommandExecutionStatus, FileChangeItem, FileUpdateChange, MessagePhase,
        PatchApplyStatus, PatchChangeKind, ThreadItem,
    },
    turn::{Delta, DeltaKind, InterruptOutcome, State, TurnResult, TurnUsage},
};

/// The status after a second Ctrl-C: what shells give to a program that SIGINT has ended.
const KILLED: u8 = 130;
/// So much of a command is shown.
const COMMAND_CHARS: usize = 120;

/// What can happen while a turn runs.
pub(crate) enum Happening {
    /// The user has pressed Ctrl-C.
    CtrlC,
    /// The turn has an event.
    Event(Box<Event>),
    /// The interrupt was answered.
    Interrupted(Result<InterruptOutcome, CallError>),
    /// The turn has no more events.
    Over,
    /// The steer was answered.
    Steered(Result<TurnId, SteerError>),
}

/// What to do about it.
pub(crate) enum Next {
    /// Get the turn's result.
    Finish,
    /// Interrupt the turn.
    Interrupt,
    /// Close the session, and leave.
    Kill,
    /// Steer the turn with this text.
    Steer(String),
    /// Wait for what happens next.
    Wait,
}

/// The screen.
pub(crate) struct Screen {
    start: Instant,
    /// The text to steer with, until it is handed out.
    steer: Option<String>,
    /// Whether the text was handed out and nothing has come of it yet.
    is_steering: bool,
    is_interrupted: bool,
    /// The message that is being written, and what is shown of it.
    message: Option<(ItemId, String)>,
    /// Whether the cursor stands behind a piece of the answer.
    is_in_line: bool,
    /// The message that is only a remark on the way to the answer.
    remark: Option<ItemId>,
}

impl Screen {
    pub(crate) fn new(options: &Options) -> Self {
        Self {
            start: Instant::now(),
            steer: options.steer(),
            is_steering: false,
            is_interrupted: false,
            message: None,
            is_in_line: false,
            remark: None,
        }
    }

    /// Shows what happened, and says what to do next.
    pub(crate) fn show(&mut self, happening: Happening) -> Next {
        match happening {
            Happening::CtrlC if self.is_interrupted => return Next::Kill,
            Happening::CtrlC => {
                self.is_interrupted = true;
                self.note("interrupting (Ctrl-C again kills)");
                return Next::Interrupt;
            }
            Happening::Event(event) => return self.event(*event),
            Happening::Interrupted(Ok(_)) => {}
            Happening::Interrupted(Err(error)) => self.note(&format!("not interrupted: {error}")),
            Happening::Over => return Next::Finish,
            Happening::Steered(outcome) => {
                self.is_steering = false;
                match outcome {
                    Ok(_) => self.note("steered"),
                    Err(error) => self.note(&format!("not steered: {error}")),
                }
            }
        }
        Next::Wait
    }

    /// Shows how the turn ended.
    pub(crate) fn finish(&mut self, result: Result<TurnResult, TurnError>) -> ExitCode {
        self.end_line();
        if self.is_steering {
            self.note("not steered: the turn ended before the server had answered");
        }
        let (status, report) = match &result {
            Ok(report) => (report.status, Some(report)),
            Err(error) => {
                self.note(&error.to_string());
                (error.report().map_or(State::NotStarted, |report| report.status), error.report())
            }
        };
        // The server's own measure, if it gave one.
        let elapsed = report.and_then(|report| report.duration_ms).map_or(self.start.elapsed().as_secs_f64(), seconds);
        let tokens = tokens(report.and_then(|report| report.usage));
        self.note(&format!("{} after {elapsed:.1} s, {tokens}", word(status)));
        if status == State::Completed { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    /// Shows that nobody waits for the turn's end any more.
    pub(crate) fn killed(&mut self) -> ExitCode {
        self.note("killed");
        ExitCode::from(KILLED)
    }

    fn event(&mut self, event: Event) -> Next {
        let is_running = matches!(event, Event::Started(_) | Event::ItemStarted(_) | Event::Delta(_));
        match event {
            Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => self.piece(&delta),
            Event::Ended(_) => return Next::Finish,
            Event::Error(failed) if failed.will_retry => self.note(&format!("retrying: {}", failed.error.message)),
            Event::ItemCompleted(done) => match done.item {
                ThreadItem::AgentMessage(message) => self.whole(&message),
                ThreadItem::CommandExecution(command) => self.ran(&command),
                ThreadItem::FileChange(change) => self.changed(&change),
                _ => {}
            },
            Event::ItemStarted(begun) => match begun.item {
                ThreadItem::AgentMessage(message) if is_remark(&message) => self.remark = Some(message.id),
                ThreadItem::CommandExecution(command) => self.note(&format!("running: {}", short(&command.command))),
                ThreadItem::FileChange(change) => {
                    change.changes.iter().for_each(|change| self.note(&format!("changing: {}", short(&change.path))));
                }
                _ => {}
            },
            Event::Refused(request) => {
                self.note(&format!("refused: {} (ask approves nothing)", request.notification.method));
            }
            _ => {}
        }
        // Before the turn runs, the server would not take it.
        match self.steer.take_if(|_| is_running) {
            Some(text) => {
                self.is_steering = true;
                Next::Steer(text)
            }
            None => Next::Wait,
        }
    }

    /// A piece of a message.
    fn piece(&mut self, delta: &Delta) {
        if self.remark.as_ref() == Some(&delta.item) {
            return;
        }
        match &mut self.message {
            Some((item, shown)) if *item == delta.item => shown.push_str(&delta.text),
            _ => {
                self.end_line();
                self.message = Some((delta.item.clone(), delta.text.clone()));
            }
        }
        self.write(&delta.text);
    }

    /// A whole message. It counts, and not its pieces: some of them may have been left out.
    fn whole(&mut self, message: &AgentMessageItem) {
        if is_remark(message) {
            self.note(&message.text);
            return;
        }
        let shown = self.message.take().filter(|(item, _)| *item == message.id).map(|(_, shown)| shown);
        match message.text.strip_prefix(shown.as_deref().unwrap_or_default()) {
            Some(rest) => self.write(rest),
            None => {
                self.end_line();
                self.write(&message.text);
            }
        }
        self.end_line();
    }

    fn ran(&mut self, item: &CommandExecutionItem) {
        let command = short(&item.command);
        self.note(&match (&item.status, item.exit_code) {
            (CommandExecutionStatus::Declined, _) => format!("not run: {command} (declined)"),
            (_, Some(code)) => format!("ran: {command} (exit code {code})"),
            (status, None) => format!("ran: {command} ({status})"),
        });
    }

    fn changed(&mut self, item: &FileChangeItem) {
        for change in &item.changes {
            let path = short(&change.path);
            self.note(&match &item.status {
                PatchApplyStatus::Completed => format!("changed: {path} ({})", kind(change)),
                status => format!("not changed: {path} ({status})"),
            });
        }
    }

    /// A piece of the answer. Nobody may read it any more (`ask ... | head`): that ends the output, not the turn.
    fn write(&mut self, text: &str) {
        let mut stdout = io::stdout();
        let _ = stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush());
        if let Some(last) = text.chars().last() {
            self.is_in_line = last != '\n';
        }
    }

    fn end_line(&mut self) {
        if self.is_in_line {
            self.write("\n");
        }
    }

    /// A line on stderr; on a terminal it does not begin in the middle of the answer's.
    fn note(&mut self, line: &str) {
        if self.is_in_line && io::stdout().is_terminal() && io::stderr().is_terminal() {
            self.end_line();
        }
        say(line);
    }
}

/// Whether a message is said on the way to the answer.
fn is_remark(message: &AgentMessageItem) -> bool {
    matches!(message.phase, Some(MessagePhase::Commentary))
}

/// What became of a file.
fn kind(change: &FileUpdateChange) -> String {
    match &change.kind {
        PatchChangeKind::Add => "added".into(),
        PatchChangeKind::Delete => "deleted".into(),
        PatchChangeKind::Update(update) => match &update.move_path {
            Some(path) => format!("moved to {}", short(path)),
            None => "updated".into(),
        },
        other => other.kind().into(),
    }
}

/// A command or path fit for one line.
fn short(text: &str) -> String {
    let mut chars = text.chars().map(|c| if c.is_control() { ' ' } else { c });
    let mut short: String = chars.by_ref().take(COMMAND_CHARS).collect();
    if chars.next().is_some() {
        short.push('…');
    }
    short
}

fn word(status: State) -> &'static str {
    match status {
        State::Completed => "completed",
        State::Failed => "failed",
        State::Interrupted => "interrupted",
        State::Lost => "lost",
        State::NotStarted => "not started",
        State::TimedOut => "timed out",
        _ => "ended in an unknown way",
    }
}

fn seconds(ms: i64) -> f64 {
    std::time::Duration::from_millis(ms.max(0).unsigned_abs()).as_secs_f64()
}

fn tokens(usage: Option<TurnUsage>) -> String {
    match usage {
        Some(TurnUsage { input_tokens, cached_input_tokens, output_tokens, .. }) => {
            format!("tokens: {input_tokens} input ({cached_input_tokens} cached), {output_tokens} output")
        }
        None => "tokens: not reported".into(),
    }
}
