//! The end of a process: how long each rung of closing may take, and what is known afterwards.

use alloc::sync::Arc;
use core::{fmt, time::Duration};

/// How long each rung of closing a server process may take.
///
/// The rungs in order: stdin is closed and the process may end by itself, its group is told to terminate, its group is
/// killed. So closing takes at most the sum of the three, plus scheduling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CloseLadder {
    /// From the start of closing until the group is told to terminate. 5 s by default.
    pub eof_grace: Duration,
    /// From then until the group is killed. 3 s by default.
    pub terminate_grace: Duration,
    /// From then until the end is reported even though the system has not confirmed it, which happens only to a process
    /// that is stuck inside the kernel. 2 s by default.
    pub kill_grace: Duration,
}

impl CloseLadder {
    /// The default bounds: 5 s, 3 s, 2 s.
    #[must_use]
    pub const fn new() -> Self {
        Self {
            eof_grace: Duration::from_secs(5),
            terminate_grace: Duration::from_secs(3),
            kill_grace: Duration::from_secs(2),
        }
    }

    /// Sets how long the process may take to end by itself.
    #[must_use]
    pub const fn eof_grace(mut self, grace: Duration) -> Self {
        self.eof_grace = grace;
        self
    }

    /// Sets how long the group may take to end after it was told to terminate.
    #[must_use]
    pub const fn terminate_grace(mut self, grace: Duration) -> Self {
        self.terminate_grace = grace;
        self
    }

    /// Sets how long the system may take to confirm a kill.
    #[must_use]
    pub const fn kill_grace(mut self, grace: Duration) -> Self {
        self.kill_grace = grace;
        self
    }

    /// The longest that closing can take by these bounds.
    #[must_use]
    pub const fn total(&self) -> Duration {
        self.eof_grace.saturating_add(self.terminate_grace).saturating_add(self.kill_grace)
    }
}

impl Default for CloseLadder {
    fn default() -> Self {
        Self::new()
    }
}

/// How a process ended: by an exit code, or by a signal.
///
/// The server exits with code 0 whether or not turns were cut off, so success here says nothing about them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct ExitStatus {
    /// The exit code; `None` if a signal ended the process.
    pub code: Option<i32>,
    /// The number of the signal that ended the process, on systems that have signals.
    pub signal: Option<i32>,
}

impl ExitStatus {
    /// A status of these two parts, of which at most one is usually present.
    #[must_use]
    pub const fn new(code: Option<i32>, signal: Option<i32>) -> Self {
        Self { code, signal }
    }

    /// Whether the process exited with code 0.
    #[must_use]
    pub const fn is_success(&self) -> bool {
        matches!(self.code, Some(0))
    }

    /// Whether this is exit code 127, by which a shell or another launcher says that it could not find its program.
    #[must_use]
    pub const fn is_launcher_without_program(&self) -> bool {
        matches!(self.code, Some(127))
    }
}

impl fmt::Display for ExitStatus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.code, self.signal) {
            (Some(code), _) => write!(f, "exit status {code}"),
            (None, Some(signal)) => match signal_name(signal) {
                Some(name) => write!(f, "killed by signal {signal} ({name})"),
                None => write!(f, "killed by signal {signal}"),
            },
            (None, None) => f.write_str("ended without a status"),
        }
    }
}

/// Names of the signals whose numbers are the same on all Unix systems; the others differ and stay numbers.
const fn signal_name(signal: i32) -> Option<&'static str> {
    Some(match signal {
        1 => "SIGHUP",
        2 => "SIGINT",
        3 => "SIGQUIT",
        4 => "SIGILL",
        5 => "SIGTRAP",
        6 => "SIGABRT",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        14 => "SIGALRM",
        15 => "SIGTERM",
        _ => return None,
    })
}

/// What had to be done to end the process.
///
/// The order is that of severity.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Forced {
    /// Nothing: it ended by itself, after its stdin was closed or for reasons of its own. What others did to it, such as a
    /// kill from outside, shows in the status.
    #[default]
    No,
    /// This library told its group to terminate.
    Terminated,
    /// This library killed its group.
    Killed,
}

/// All that is known about the end of a process.
///
/// Debug shows the length of the stderr text, never the text.
#[derive(Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExitReport {
    /// How it ended. `None` if the system would not tell: another part of the program took the status away, or the process
    /// had not vanished [`CloseLadder::kill_grace`] after it was killed.
    pub status: Option<ExitStatus>,
    /// What had to be done to end it.
    pub forced: Forced,
    /// From its start to its end.
    pub elapsed: Duration,
    /// From the first call that asked for its end, or the drop that did so, to its end. `None` if nobody had asked.
    pub closing: Option<Duration>,
    /// The last text on its stderr, bounded by the size that the command asked for.
    pub stderr_tail: Arc<str>,
    /// The part of that text that came after the process had last written to its stdout: what it said about its end, as far
    /// as can be told from two pipes that are read side by side.
    pub stderr_since_output: Arc<str>,
    /// Whether the rest of its process group was killed after it, so that no helper in the group goes on. False where there
    /// are no groups, and where the process was not there to be collected.
    pub group_swept: bool,
}

impl ExitReport {
    /// A report of this status, of an end that nobody forced. The other fields are public.
    #[must_use]
    pub fn new(status: Option<ExitStatus>) -> Self {
        Self { status, ..Self::default() }
    }

    /// The last text on the process's stderr: human text, possibly coloured, possibly empty, never complete by promise.
    #[must_use]
    pub fn stderr_tail(&self) -> &str {
        &self.stderr_tail
    }

    /// What the process wrote to stderr after its last output; see
    /// [`stderr_since_output`](Self::stderr_since_output).
    #[must_use]
    pub fn stderr_since_output(&self) -> &str {
        &self.stderr_since_output
    }

    /// Whether a launcher was started that could not find the program it should run, by its exit code 127.
    #[must_use]
    pub fn is_launcher_without_program(&self) -> bool {
        self.status.is_some_and(|status| status.is_launcher_without_program())
    }
}

impl fmt::Debug for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ExitReport")
            .field("status", &self.status)
            .field("forced", &self.forced)
            .field("elapsed", &self.elapsed)
            .field("closing", &self.closing)
            .field("stderr_tail_len", &self.stderr_tail.len())
            .field("group_swept", &self.group_swept)
            .finish()
    }
}

/// One line without the stderr text, fit for an error message.
impl fmt::Display for ExitReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.status {
            Some(status) => write!(f, "{status}")?,
            None => f.write_str("exit status unknown")?,
        }
        match self.forced {
            Forced::No => {}
            Forced::Terminated => f.write_str(", after it was told to terminate")?,
            Forced::Killed => f.write_str(", after it was killed on request")?,
        }
        if self.is_launcher_without_program() {
            f.write_str(
                ": a launcher was started and could not find the program it should run (an npm launcher needs `node` in \
                 the PATH of the child); give the path of the real codex binary, or repair the installation",
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::ToString};

    #[test]
    fn a_status_reads_as_a_person_would_say_it() {
        assert_eq!(ExitStatus::new(Some(3), None).to_string(), "exit status 3");
        assert_eq!(ExitStatus::new(None, Some(9)).to_string(), "killed by signal 9 (SIGKILL)");
        assert_eq!(ExitStatus::new(None, Some(64)).to_string(), "killed by signal 64");
        assert_eq!(ExitStatus::new(None, None).to_string(), "ended without a status");
    }

    #[test]
    fn only_code_zero_is_success() {
        assert!(ExitStatus::new(Some(0), None).is_success());
        assert!(!ExitStatus::new(Some(1), None).is_success());
        assert!(!ExitStatus::new(None, Some(15)).is_success());
    }

    #[test]
    fn debug_and_display_of_a_report_hold_no_stderr_text() {
        let mut report = ExitReport::new(Some(ExitStatus::new(Some(1), None)));
        report.stderr_tail = "token=hunter2".into();
        assert!(format!("{report:?}").contains("stderr_tail_len: 13"));
        assert!(!format!("{report:?} {report}").contains("hunter2"));
        assert_eq!(report.stderr_tail(), "token=hunter2");
    }

    #[test]
    fn pr_14_exit_code_127_is_told_as_a_launcher_without_its_program() {
        let report = ExitReport::new(Some(ExitStatus::new(Some(127), None)));
        assert!(report.is_launcher_without_program());
        assert!(report.to_string().contains("could not find the program it should run"), "{report}");
        assert!(!ExitReport::new(Some(ExitStatus::new(Some(1), None))).to_string().contains("launcher"));
    }

    #[test]
    fn a_report_says_how_the_end_was_forced() {
        let mut report = ExitReport::new(Some(ExitStatus::new(None, Some(9))));
        report.forced = Forced::Killed;
        assert_eq!(report.to_string(), "killed by signal 9 (SIGKILL), after it was killed on request");
        assert_eq!(ExitReport::default().to_string(), "exit status unknown");
        assert!(Forced::No < Forced::Terminated && Forced::Terminated < Forced::Killed);
    }

    #[test]
    fn the_rungs_of_the_ladder_add_up_without_overflow() {
        assert_eq!(CloseLadder::new().total(), Duration::from_secs(10));
        assert_eq!(CloseLadder::new().eof_grace(Duration::MAX).total(), Duration::MAX);
    }
}
