//! The life of a turn as a table.

use core::fmt;

/// Where a turn stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Ended: the server says that it completed.
    Completed,
    /// Ended: the server says that it failed.
    Failed,
    /// Ended: the server says that it was interrupted.
    Interrupted,
    /// It runs, and the server was asked to end it.
    Interrupting,
    /// Ended: the connection is gone.
    Lost,
    /// Ended: the server did not take it, or was never asked.
    NotStarted,
    /// It waits for its thread, and nothing was sent.
    Queued,
    /// The server named it.
    Running,
    /// `turn/start` is on its way.
    Starting,
    /// Ended: a deadline of the caller's passed, the total one or the one of silence.
    TimedOut,
    /// Ended: the server says so with a status that is not known.
    UnknownStatus,
}

impl State {
    /// Whether this is an end. There is no way on from an end.
    #[must_use]
    pub fn is_end(self) -> bool {
        !matches!(self, Self::Queued | Self::Starting | Self::Running | Self::Interrupting)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What moves a turn on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Cause {
    /// The answer to `turn/start` named the turn.
    Accepted,
    /// The caller's deadline passed.
    Deadline,
    /// The connection ended.
    Disconnect,
    /// `turn/completed` with status `completed`.
    EndCompleted,
    /// `turn/completed` with status `failed`.
    EndFailed,
    /// `turn/completed` with status `interrupted`.
    EndInterrupted,
    /// `turn/completed` with any other status, or with none.
    EndUnknown,
    /// `turn/interrupt` was sent.
    Interrupt,
    /// The server refused the interrupt because it saw no such turn running yet, or any more.
    InterruptRefused,
    /// `turn/start` was refused or not answered, or the turn was taken back before it was sent.
    Refused,
    /// The thread was free, and `turn/start` went out.
    Sent,
    /// There was no sign of life for longer than the caller allows.
    Silence,
}

/// Every step that a turn can take. What is not here does not happen: the cause is ignored.
pub const TRANSITIONS: &[(State, Cause, State)] = &[
    (State::Queued, Cause::Sent, State::Starting),
    (State::Queued, Cause::Refused, State::NotStarted),
    (State::Queued, Cause::Deadline, State::TimedOut),
    (State::Starting, Cause::Accepted, State::Running),
    (State::Starting, Cause::Refused, State::NotStarted),
    (State::Starting, Cause::Deadline, State::TimedOut),
    (State::Starting, Cause::Disconnect, State::Lost),
    (State::Running, Cause::Interrupt, State::Interrupting),
    (State::Running, Cause::EndCompleted, State::Completed),
    (State::Running, Cause::EndInterrupted, State::Interrupted),
    (State::Running, Cause::EndFailed, State::Failed),
    (State::Running, Cause::EndUnknown, State::UnknownStatus),
    (State::Running, Cause::Deadline, State::TimedOut),
    (State::Running, Cause::Silence, State::TimedOut),
    (State::Running, Cause::Disconnect, State::Lost),
    (State::Interrupting, Cause::InterruptRefused, State::Running),
    (State::Interrupting, Cause::EndCompleted, State::Completed),
    (State::Interrupting, Cause::EndInterrupted, State::Interrupted),
    (State::Interrupting, Cause::EndFailed, State::Failed),
    (State::Interrupting, Cause::EndUnknown, State::UnknownStatus),
    (State::Interrupting, Cause::Deadline, State::TimedOut),
    (State::Interrupting, Cause::Silence, State::TimedOut),
    (State::Interrupting, Cause::Disconnect, State::Lost),
];

/// Where a cause leads from a state, if anywhere.
#[must_use]
pub fn next(state: State, cause: Cause) -> Option<State> {
    TRANSITIONS.iter().find(|(from, by, _)| *from == state && *by == cause).map(|(_, _, to)| *to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

    fn figure() -> String {
        let mut lines = Vec::new();
        let mut from = None;
        for (state, cause, to) in TRANSITIONS {
            let left = if from == Some(*state) { String::new() } else { format!("{state}") };
            from = Some(*state);
            lines.push(format!("//! {left:<13}--{cause:?}--> {to}", cause = cause));
        }
        lines.join("\n")
    }

    #[test]
    fn the_figure_in_the_documentation_is_the_table() {
        let documentation = include_str!("mod.rs");
        assert!(documentation.contains(&figure()), "the figure should read:\n{}", figure());
    }

    #[test]
    fn no_step_leads_on_from_an_end_and_no_step_stands_twice() {
        let mut seen = BTreeSet::new();
        for (from, cause, _) in TRANSITIONS {
            assert!(!from.is_end(), "{from} is an end");
            assert!(seen.insert(format!("{from:?} {cause:?}")), "{from} {cause:?} stands twice");
        }
        for state in [State::Completed, State::Failed, State::Interrupted, State::Lost, State::NotStarted] {
            assert!(state.is_end());
        }
    }
}
