//! The one owner of child processes, for programs with a runtime and without one.
//!
//! This part starts a server process from a [`Command`], keeps the last of its stderr, brings it to its end by the
//! [`CloseLadder`](turnwire_core::launch::CloseLadder), collects it, and reports how it ended. It uses threads of its own
//! and nothing of any async runtime, so that an end always arrives: after a close, after a drop, and while a runtime is
//! shutting down. It never looks at what the process says on stdout, never blocks in a drop, and never signals a process
//! id that may already belong to somebody else.
//!
//! # Who holds what
//!
//! [`spawn`] splits a process into three parts. `stdin` and `stdout` are the plain pipes of std, to be read and written by
//! threads or wrapped by a runtime. The [`Owner`] holds the rest. **The first rung of closing is up to the holder of
//! `stdin`**: dropping that pipe is what tells the server to end. While somebody keeps it open, closing just waits
//! `eof_grace` and goes on to the next rung.
//!
//! The pipes are closed on exec (std opens them so), so a sibling started later does not inherit them and cannot keep the
//! server's stdin open.
//!
//! # Threads
//!
//! | name | lives | does |
//! |---|---|---|
//! | `turnwire-start` | until the process is started | looks for the program and starts it, if [`Starting`] was asked |
//! | `turnwire-stderr` | until stderr or the process ends | reads stderr into a bounded ring, so that the process never blocks on it |
//! | `turnwire-watch` | as long as the process | waits for the end, sweeps the group, collects, reports |
//! | `turnwire-close` | while closing | climbs the ladder |
//!
//! # Groups (Unix)
//!
//! The process leads a process group of its own, so a launcher script, the real server and its helpers are signalled
//! together. When the leader has ended, whatever is left in its group is killed *before* the leader is collected: as long
//! as its zombie holds the process id, no stranger can have the group's number. Every signal is sent under the lock
//! that guards the collecting, so none is sent after it.
//!
//! # Limits
//!
//! - A grandchild that left the group (`setsid`, a daemon) cannot be signalled and lives on.
//! - A program that itself is process 1 of a container inherits its server's orphans and must collect them; run it under
//!   an init.
//! - If another part of the program collects children that are not its own (`waitpid(-1)`) or ignores `SIGCHLD`, the
//!   status is unknown and the group is not swept.
//! - A ladder that is under way ends with the program. To leave nothing behind, wait with [`Owner::wait_exit`] before
//!   returning from `main`. A server that heeds the end of its stdin ends all the same, as that pipe closes too.
//! - A terminal's Ctrl-C goes to the foreground group and so does not reach the server by itself.
//! - Where there are no process groups (Windows), the end is found by asking every 20 ms, and there is no terminate rung. What
//!   the server has started is in a Job Object with it, and ends with it or with this program; what it started before it was
//!   put there, within microseconds of its own start, is not. That part was type-checked for Windows and never run there.

mod home;
mod owner;
mod resolve;
mod starting;
mod stderr;
#[cfg_attr(
    not(all(unix, not(any(target_os = "cygwin", target_os = "horizon", target_os = "openbsd", target_os = "redox")))),
    path = "sys_other.rs"
)]
mod sys;

use home::TemporaryHome;
use std::{
    env, fs, io,
    path::{Path, PathBuf},
    process::{self, Child, ChildStdin, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};
use turnwire_core::{
    client::StartTimings,
    launch::{Command, Environment, LaunchError, Obstacle},
};

pub use owner::Owner;
pub use resolve::{resolve, resolve_among};
pub use starting::Starting;
pub use stderr::StderrMark;

/// A program that is being written while it is started fails with "text file busy". In a program with threads the
/// writer can be a process that another thread has just forked, which holds the file until its exec: a matter of
/// milliseconds. So the start is tried this often, with these pauses.
const BUSY_PAUSES: [Duration; 6] = [
    Duration::from_millis(1),
    Duration::from_millis(4),
    Duration::from_millis(10),
    Duration::from_millis(30),
    Duration::from_millis(60),
    Duration::from_millis(100),
];

/// A started process.
#[derive(Debug)]
#[non_exhaustive]
#[must_use = "dropping it ends the process"]
pub struct Process {
    /// What the process reads. Dropping it is the first rung of closing.
    pub stdin: ChildStdin,
    /// What the process writes.
    pub stdout: ChildStdout,
    /// The home that it was started with, if the command names one, as the server will report it.
    pub home: Option<PathBuf>,
    /// Everything else about it.
    pub owner: Owner,
}

/// How long the end of a process may take to be seen after it was killed.
pub const KILL_PATIENCE: std::time::Duration = std::time::Duration::from_secs(2);

/// Starts a process.
///
/// Takes a few milliseconds as a rule, up to 0.2 s more while the program's file is being written, and as long as the disk
/// takes, if that is on a network. [`Starting`] does it on a thread of its own.
///
/// # Errors
///
/// [`LaunchError`] says why nothing was started; in that case nothing is left running.
pub fn spawn(command: &Command) -> Result<Process, LaunchError> {
    spawn_in_steps(command, || ())
}

/// [`spawn`], with a call in between: when the program was found.
fn spawn_in_steps(command: &Command, found: impl FnOnce()) -> Result<Process, LaunchError> {
    let begun = Instant::now();
    let path = resolve(&command.program)?;
    let resolved = Instant::now();
    found();
    if let Some(cwd) = &command.cwd {
        // Without this look, a missing folder would be reported like a missing program.
        check_folder(cwd)?;
    }
    let temporary = if command.temporary_home { Some(TemporaryHome::new()?) } else { None };
    let mut std_command = std_command(&path, command);
    if let Some(home) = &temporary {
        std_command.env("CODEX_HOME", home.path());
    }
    let home = match &temporary {
        Some(home) => Some(home.path().to_owned()),
        // The server reports it with all links followed.
        None => command.home().filter(|home| !home.as_os_str().is_empty()).and_then(|home| fs::canonicalize(home).ok()),
    };
    let mut child = match spawn_patiently(&mut std_command) {
        Ok(child) => child,
        Err(e) => return Err(spawn_error(path, &e)),
    };
    let (Some(stdin), Some(stdout), Some(stderr)) = (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        // Not reachable: all three were asked for above. Should it happen, nothing is left running.
        sys::end_now(&mut child);
        return Err(spawn_error(path, &io::Error::other("the child came without its pipes")));
    };
    sys::widen(&stdout);
    let timings = StartTimings::new(resolved - begun, resolved.elapsed());
    match Owner::start(child, stderr, command, temporary, timings) {
        Ok(owner) => Ok(Process { stdin, stdout, home, owner }),
        Err(e) => Err(spawn_error(path, &e)),
    }
}

/// Starts a program, and again for a while if somebody is still writing it: a process that is being started elsewhere may
/// have inherited the writing end for a moment.
pub(crate) fn spawn_patiently(command: &mut std::process::Command) -> io::Result<Child> {
    let mut pauses = BUSY_PAUSES.iter();
    loop {
        match (command.spawn(), pauses.next()) {
            (Err(e), Some(pause)) if e.kind() == io::ErrorKind::ExecutableFileBusy => thread::sleep(*pause),
            (outcome, _) => return outcome,
        }
    }
}

fn check_folder(path: &Path) -> Result<(), LaunchError> {
    let kind = match path.metadata() {
        Ok(found) if found.is_dir() => return Ok(()),
        Ok(_) => io::ErrorKind::NotADirectory,
        Err(e) => e.kind(),
    };
    Err(LaunchError::WorkingDirectory { path: path.to_owned(), kind })
}

fn std_command(path: &Path, command: &Command) -> process::Command {
    let mut child = process::Command::new(path);
    child.args(command.arguments()).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    if let Some(cwd) = &command.cwd {
        child.current_dir(cwd);
    }
    match &command.environment {
        Environment::AllowList(names) => {
            child.env_clear();
            child.envs(names.iter().filter_map(|name| Some((name, env::var_os(name)?))));
        }
        Environment::Inherit => {}
        // `Cleared`, and what a later version may add: nothing is passed on that was not asked for.
        _ => {
            child.env_clear();
        }
    }
    for (name, value) in &command.variables {
        match value {
            Some(value) => child.env(name, value),
            None => child.env_remove(name),
        };
    }
    if let Some(home) = command.home().filter(|home| home.is_relative() && !home.as_os_str().is_empty()) {
        // The child may start in another folder, where the same words would name another home.
        if let Ok(home) = std::path::absolute(home) {
            child.env("CODEX_HOME", home);
        }
    }
    sys::lead_a_group(&mut child);
    child
}

fn spawn_error(path: PathBuf, error: &io::Error) -> LaunchError {
    if error.kind() == io::ErrorKind::PermissionDenied {
        return LaunchError::NotExecutable { path, obstacle: Obstacle::NotExecutable };
    }
    let message = format!("{error}{}", sys::hint(error));
    LaunchError::Spawn { path, kind: sys::kind(error), message: message.into() }
}
