//! What is left without groups and without waiting that does not collect. Compiled, not tested.

use super::stderr::Tail;
use std::{
    io::{self, Read},
    process::{Child, ChildStderr, Command},
    thread,
    time::Duration,
};
use turnwire_core::launch::ExitStatus;

/// How often the child is asked whether it has ended.
const ASK_EVERY: Duration = Duration::from_millis(20);

pub(super) fn lead_a_group(_command: &mut Command) {}

pub(super) fn widen(_stdout: &std::process::ChildStdout) {}

pub(super) fn convert(status: std::process::ExitStatus) -> ExitStatus {
    ExitStatus::new(status.code(), None)
}

/// What a failed start means and the system's own words do not say.
pub(super) fn hint(_error: &io::Error) -> &'static str {
    ""
}

pub(super) fn end_now(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// A group of one. Asking collects the child here, which does no harm: the handle keeps its id from being used again.
#[derive(Clone, Copy)]
pub(super) struct Group;

impl Group {
    pub(super) fn of(_child: &Child) -> Option<Self> {
        Some(Self)
    }

    pub(super) fn wait_for_end(self, ask: impl Fn() -> bool) -> bool {
        while !ask() {
            thread::sleep(ASK_EVERY);
        }
        true
    }

    pub(super) fn has_ended(self, child: &mut Child) -> bool {
        !matches!(child.try_wait(), Ok(None))
    }

    pub(super) fn terminate(self) -> bool {
        false
    }

    pub(super) fn kill(self, child: &mut Child) -> bool {
        drop(child.kill());
        // One process was killed, no group.
        false
    }

    pub(super) fn wait_until_empty(self) {}
}

/// The reading end of stderr. It cannot be told to stop: a stray process that holds the other end holds the thread too.
pub(super) struct Drain {
    stderr: ChildStderr,
}

pub(super) struct DrainStop;

impl DrainStop {
    pub(super) fn stop(self) {}
}

impl Drain {
    pub(super) fn new(stderr: ChildStderr) -> io::Result<(Self, DrainStop)> {
        Ok((Self { stderr }, DrainStop))
    }

    pub(super) fn run(mut self, tail: &Tail) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.stderr.read(&mut buffer) {
                Ok(0) => return,
                Ok(n) => tail.push(buffer.get(..n).unwrap_or_default()),
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}
