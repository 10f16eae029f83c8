//! What Unix gives: groups, waiting without collecting, a poll on two descriptors.

use super::stderr::Tail;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    process::{
        Pid, Signal, WaitId, WaitIdOptions, getpgid, kill_process, kill_process_group, test_kill_process_group, waitid,
    },
};
use std::{
    io::{self, Read},
    os::unix::{net::UnixStream, process::CommandExt, process::ExitStatusExt},
    process::{Child, ChildStderr, Command},
    thread,
    time::Duration,
};
use turnwire_core::launch::ExitStatus;

/// How long the report is held back, after the leader was collected, for the members of its group that were killed to
/// vanish. They take a few milliseconds; only orphans that process 1 is slow to collect take all of it.
const SWEEP_BOUND: Duration = Duration::from_millis(100);
/// What is still read from stderr after the end. Above what any pipe holds, so nothing that the process wrote is lost; it
/// only stops a stray writer from keeping the thread.
const LAST_BYTES: usize = 1 << 21;

/// How long a thread pauses where the system cannot wait.
const PAUSE: Duration = Duration::from_millis(5);

/// How much a server may write ahead of its reader. The usual 64 KiB make both sides change places more often than they need.
#[cfg(target_os = "linux")]
const PIPE_BYTES: usize = 256 * 1024;

/// Makes room in the pipe that the child writes to, where the system does that.
pub(super) fn widen(_stdout: &std::process::ChildStdout) {
    // Refused for one who has too many of them, and nothing is lost then.
    #[cfg(target_os = "linux")]
    let _ = rustix::pipe::fcntl_setpipe_size(_stdout, PIPE_BYTES);
}

/// The process becomes the leader of a new group, whose number is its own.
pub(super) fn lead_a_group(command: &mut Command) {
    command.process_group(0);
}

pub(super) fn convert(status: std::process::ExitStatus) -> ExitStatus {
    ExitStatus::new(status.code(), status.signal())
}

/// What a failed start means and the system's own words do not say.
pub(super) fn hint(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(code) if code == Errno::NOEXEC.raw_os_error() => {
            "; it is no program for this machine, and no script with a first line such as `#!/bin/sh`: install it again, or \
             give the path of another"
        }
        _ => "",
    }
}

/// The kind of an error of a start. That too many files are open has none of its own in std, and passes.
pub(super) fn kind(error: &io::Error) -> io::ErrorKind {
    let is_short = [Errno::MFILE, Errno::NFILE].map(Errno::raw_os_error).map(Some).contains(&error.raw_os_error());
    if is_short { io::ErrorKind::WouldBlock } else { error.kind() }
}

/// Kills and collects a child that has no owner yet, group and all. Blocks as long as the system takes to kill.
pub(super) fn end_now(child: &mut Child) {
    if let Some(group) = Group::of(child) {
        group.kill(child);
    }
    drop(child.wait());
}

/// A group and its leader. Signals are sent only while the leader is not collected: see the lock in `owner`.
pub(super) struct Group {
    leader: Pid,
}

impl Group {
    pub(super) fn of(child: &Child) -> Option<Self> {
        let leader = i32::try_from(child.id()).ok().and_then(Pid::from_raw)?;
        Some(Self { leader })
    }

    /// Waits until the leader has ended, and leaves it uncollected. False if it is no longer ours to wait for.
    ///
    /// The argument is for systems that can only ask.
    pub(super) fn wait_for_end(&self, _ask: impl Fn() -> bool) -> bool {
        loop {
            match waitid(WaitId::Pid(self.leader), WaitIdOptions::EXITED | WaitIdOptions::NOWAIT) {
                Ok(_) => return true,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }

    /// Whether the leader has ended and waits to be collected, or is no longer ours to ask about.
    pub(super) fn has_ended(&self, _child: &mut Child) -> bool {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT | WaitIdOptions::NOHANG;
        !matches!(waitid(WaitId::Pid(self.leader), options), Ok(None) | Err(Errno::INTR))
    }

    /// Tells all of the group to terminate. False if that could not be said.
    pub(super) fn terminate(&self) -> bool {
        let all = kill_process_group(self.leader, Signal::TERM).is_ok();
        // One that has gone over to another group is still ours, and the group that it joined is not.
        let has_left = getpgid(Some(self.leader)).is_ok_and(|group| group != self.leader);
        (has_left && kill_process(self.leader, Signal::TERM).is_ok()) || all
    }

    /// Kills all of the group. True if nothing of it is left to run.
    pub(super) fn kill(&self, child: &mut Child) -> bool {
        // By itself too: it may have gone over to another group, which is none of ours.
        drop(child.kill());
        match kill_process_group(self.leader, Signal::KILL) {
            Ok(()) | Err(Errno::SRCH) => true,
            // Apple's systems say so of a group that has nothing but zombies.
            Err(Errno::PERM) => cfg!(target_vendor = "apple"),
            Err(_) => false,
        }
    }

    /// Waits, within a bound, until the group is empty. Sends no signal, so it may be asked after the leader was collected.
    pub(super) fn wait_until_empty(&self) {
        let mut pause = Duration::from_micros(250);
        let mut waited = Duration::ZERO;
        // Any other error, too, means that there is nothing to wait for.
        while test_kill_process_group(self.leader).is_ok() && waited < SWEEP_BOUND {
            thread::sleep(pause);
            waited += pause;
            pause = (pause * 2).min(Duration::from_millis(20));
        }
    }
}

/// The reading end of stderr, with a way to say that it is enough.
pub(super) struct Drain {
    stderr: ChildStderr,
    stop: UnixStream,
}

/// Ends the drain once what is in the pipe has been read. Dropping it does so too.
pub(super) struct DrainStop {
    _stop: UnixStream,
}

impl DrainStop {
    pub(super) fn stop(self) {}
}

impl Drain {
    pub(super) fn new(stderr: ChildStderr) -> io::Result<(Self, DrainStop)> {
        let (stop, stopper) = UnixStream::pair()?;
        Ok((Self { stderr, stop }, DrainStop { _stop: stopper }))
    }

    /// Reads until the end of stderr, or until told to stop and nothing is left to read.
    pub(super) fn run(mut self, tail: &Tail) {
        let mut buffer = vec![0; 16 * 1024];
        loop {
            match self.wait() {
                Ready::Stop => break,
                Ready::Stderr => {
                    if self.read(&mut buffer, tail) == 0 {
                        return;
                    }
                }
            }
        }
        let mut left = LAST_BYTES;
        while left > 0 && self.has_more() {
            match self.read(&mut buffer, tail) {
                0 => return,
                n => left = left.saturating_sub(n),
            }
        }
    }

    /// Reads what is there; 0 at the end.
    fn read(&mut self, buffer: &mut [u8], tail: &Tail) -> usize {
        loop {
            match self.stderr.read(buffer) {
                Ok(n) => {
                    tail.push(buffer.get(..n).unwrap_or_default());
                    return n;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return 0,
            }
        }
    }

    /// Waits until told to stop, or until stderr is readable or at its end.
    fn wait(&self) -> Ready {
        let mut both = [PollFd::new(&self.stop, PollFlags::IN), PollFd::new(&self.stderr, PollFlags::IN)];
        loop {
            match poll(&mut both, None) {
                Ok(_) if both.first().is_some_and(|stop| !stop.revents().is_empty()) => return Ready::Stop,
                Ok(_) => return Ready::Stderr,
                Err(Errno::INTR) => {}
                // The system cannot wait just now. A pipe that nobody reads would stop the server.
                Err(_) => thread::sleep(PAUSE),
            }
        }
    }

    /// Whether stderr is readable or at its end right now.
    fn has_more(&self) -> bool {
        let mut one = [PollFd::new(&self.stderr, PollFlags::IN)];
        loop {
            match poll(&mut one, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })) {
                Ok(ready) => return ready > 0,
                Err(Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

enum Ready {
    Stderr,
    Stop,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::stderr::StderrMark;
    use std::{process::Stdio, time::Instant};

    /// Runs this line of shell to its end, and gives its stderr, not yet read.
    fn stderr_of(line: &str) -> ChildStderr {
        let mut child = Command::new("/bin/sh").args(["-c", line]).stderr(Stdio::piped()).spawn().unwrap();
        let stderr = child.stderr.take().unwrap();
        child.wait().unwrap();
        stderr
    }

    #[test]
    fn what_is_in_the_pipe_when_told_to_stop_is_still_read() {
        let (drain, stop) = Drain::new(stderr_of("head -c 50000 /dev/zero | tr '\\0' x >&2; echo end >&2")).unwrap();
        stop.stop();
        let tail = Tail::new(1 << 20);
        drain.run(&tail);
        assert_eq!(tail.since(StderrMark::default()), "x".repeat(50_000) + "end\n");
    }

    #[test]
    fn the_drain_stops_though_a_stray_process_holds_the_other_end() {
        let (drain, stop) = Drain::new(stderr_of("echo said >&2; sleep 8 >/dev/null &")).unwrap();
        stop.stop();
        let (tail, asked) = (Tail::new(100), Instant::now());
        drain.run(&tail);
        assert!(asked.elapsed() < Duration::from_secs(6), "waited for the stray");
        assert_eq!(tail.since(StderrMark::default()), "said\n");
    }
}
