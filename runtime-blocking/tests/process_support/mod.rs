//! Scripts in folders of their own, and bounded waits, for the tests of processes.
#![allow(dead_code, reason = "each test binary uses its part")]

use std::{
    fs,
    io::{BufRead, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::ChildStdout,
    sync::{
        atomic::{AtomicU32, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};
use turnwire_blocking::process::{Process, spawn};
use turnwire_core::launch::{CloseLadder, Command};

/// Longer than anything here takes, on a busy machine too.
pub(crate) const LONG: Duration = Duration::from_secs(20);

/// A folder that is removed at the end.
pub(crate) struct Folder(PathBuf);

impl Folder {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("turnwire-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Writes an executable shell script.
    pub(crate) fn script(&self, name: &str, body: &str) -> PathBuf {
        let path = self.file(name, &format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    /// Writes a file that may not be executed.
    pub(crate) fn file(&self, name: &str, content: &str) -> PathBuf {
        let path = self.0.join(name);
        fs::write(&path, content).unwrap();
        path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        drop(fs::remove_dir_all(&self.0));
    }
}

/// Short graces, so that a test of all rungs takes less than a second.
pub(crate) fn ladder() -> CloseLadder {
    CloseLadder::new()
        .eof_grace(Duration::from_millis(200))
        .terminate_grace(Duration::from_millis(200))
        .kill_grace(Duration::from_secs(5))
}

pub(crate) fn start(program: &Path) -> Process {
    spawn(&Command::new().program(program).close_ladder(ladder())).unwrap()
}

/// The lines of a process's stdout, read by a thread so that waiting for one is bounded.
pub(crate) struct Lines(mpsc::Receiver<String>);

impl Lines {
    pub(crate) fn of(stdout: ChildStdout) -> Self {
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines() {
                let Ok(line) = line else { return };
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Self(receiver)
    }

    pub(crate) fn next(&self) -> String {
        self.0.recv_timeout(LONG).expect("a line in time")
    }

    /// Waits for the end of stdout.
    pub(crate) fn end(&self) {
        assert_eq!(self.0.recv_timeout(LONG), Err(mpsc::RecvTimeoutError::Disconnected));
    }

    /// The number after this word, on the next line.
    pub(crate) fn pid(&self, word: &str) -> u32 {
        let line = self.next();
        let number = line.strip_prefix(word).unwrap_or_else(|| panic!("{word} expected, not {line}"));
        number.trim().parse().unwrap()
    }
}

/// Whether a process is there at all, as a zombie too.
pub(crate) fn exists(pid: u32) -> bool {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::test_kill_process(pid).is_ok()
}

/// Whether a process runs. A zombie does not; whose duty it is to collect an orphan is not for these tests to say.
pub(crate) fn is_running(pid: u32) -> bool {
    if !exists(pid) {
        return false;
    }
    match fs::read_to_string(format!("/proc/{pid}/stat")) {
        Ok(stat) => !stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with(['Z', 'X'])),
        Err(_) => !Path::new("/proc/self").exists(),
    }
}

/// Waits until this holds, and fails if it does not in time.
pub(crate) fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + LONG;
    while !holds() {
        assert!(Instant::now() < end, "not in time: {what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// Ends a process that left its group, on purpose of a test. It must still run.
pub(crate) fn end_stray(pid: u32) {
    assert!(is_running(pid), "the stray did not leave the group");
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
