//! What is left without groups and without waiting that does not collect. Type-checked for Windows, never run there.
//!
//! On Windows a Job Object stands in for the group: closing its last handle ends every process in it. This program holds
//! that handle, so a server and its children end with the program too, however that ends. What the server starts between its
//! own start and its entry into the job, a matter of microseconds, is not in it.

use super::stderr::Tail;
use std::{
    io::{self, Read},
    process::{Child, ChildStderr, Command},
    sync::{Mutex, PoisonError},
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

pub(super) fn kind(error: &io::Error) -> io::ErrorKind {
    error.kind()
}

pub(super) fn end_now(child: &mut Child) {
    drop(child.kill());
    drop(child.wait());
}

/// The child, and on Windows what it starts. Asking collects the child here, which does no harm: the handle keeps its id from
/// being used again.
pub(super) struct Group {
    /// Taken by whoever ends it.
    job: Mutex<Option<job::Job>>,
    /// Whether there was one: not where there are none, and where the system would not give one.
    has_job: bool,
}

impl Group {
    pub(super) fn of(child: &Child) -> Option<Self> {
        let job = job::of(child);
        Some(Self { has_job: job.is_some(), job: Mutex::new(job) })
    }

    pub(super) fn wait_for_end(&self, ask: impl Fn() -> bool) -> bool {
        while !ask() {
            thread::sleep(ASK_EVERY);
        }
        true
    }

    pub(super) fn has_ended(&self, child: &mut Child) -> bool {
        !matches!(child.try_wait(), Ok(None))
    }

    pub(super) fn terminate(&self) -> bool {
        false
    }

    /// Kills the child and all that is in its job. True if there was one, so that nothing of it is left to run.
    pub(super) fn kill(&self, child: &mut Child) -> bool {
        drop(self.job.lock().unwrap_or_else(PoisonError::into_inner).take());
        drop(child.kill());
        self.has_job
    }

    pub(super) fn wait_until_empty(&self) {}
}

#[cfg(windows)]
mod job {
    use std::{os::windows::io::AsRawHandle, process::Child};

    pub(super) use win32job::Job;

    /// A job with this child in it, which ends all that is in it when it is dropped.
    pub(super) fn of(child: &Child) -> Option<Job> {
        let mut limits = win32job::ExtendedLimitInfo::new();
        limits.limit_kill_on_job_close();
        let job = Job::create_with_limit_info(&limits).ok()?;
        job.assign_process(child.as_raw_handle() as isize).ok()?;
        Some(job)
    }
}

#[cfg(not(windows))]
mod job {
    use std::process::Child;

    /// There are none.
    pub(super) enum Job {}

    pub(super) const fn of(_child: &Child) -> Option<Job> {
        None
    }
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
