//! The handle on a process and the threads behind it.

use super::{
    StderrMark,
    home::TemporaryHome,
    stderr::Tail,
    sys::{self, Drain, DrainStop, Group},
};
use std::{
    collections::BTreeMap,
    fmt, io, mem,
    process::{Child, ChildStderr},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use turnwire_core::{
    client::StartTimings,
    driver::Ender,
    launch::{CloseLadder, Command, ExitReport, Forced},
};

/// How long the thread on stderr may take to finish after the process. It takes no time where it can be told to stop.
const DRAIN_BOUND: Duration = Duration::from_millis(500);
/// A wait that is longer than the clock can count is made of pieces of this length.
const LONG_WAIT: Duration = Duration::from_secs(3600);

/// The owner of a running process: a cheap handle that can be cloned and used from any thread.
///
/// Dropping the last clone starts [`close`](Self::close) and returns at once; it never blocks and never panics.
pub struct Owner {
    handle: Arc<Handle>,
    /// The place of this clone among `Life::wakers`. 0: it has none.
    place: AtomicU64,
}

impl Clone for Owner {
    fn clone(&self) -> Self {
        Self { handle: Arc::clone(&self.handle), place: AtomicU64::new(0) }
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        let place = *self.place.get_mut();
        if place != 0 {
            let waker = self.handle.shared.lock().wakers.remove(&place);
            // Whatever dropping a waker runs, it runs without the lock.
            drop(waker);
        }
    }
}

const _: () = {
    const fn is_a_handle<T: Clone + Send + Sync + 'static>() {}
    is_a_handle::<Owner>();
};

/// What all clones share and the threads do not, so that its drop means that the last clone is gone.
struct Handle {
    shared: Arc<Shared>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.end(false);
    }
}

struct Shared {
    pid: u32,
    group: Group,
    ladder: CloseLadder,
    started: Instant,
    timings: StartTimings,
    tail: Arc<Tail>,
    /// Where stderr stood when the process last wrote to stdout, as far as anybody said so.
    output: Mutex<StderrMark>,
    life: Mutex<Life>,
    /// Told when `collected`, `kill_asked` or `report` changes.
    changed: Condvar,
}

/// The lock around this guards the collecting: the child is collected, and signals are sent, only while it is held.
struct Life {
    child: Child,
    /// Set if and only if the child was collected or found to be no longer ours. No signal is sent from then on.
    collected: bool,
    /// The most severe signal sent by us while the child was still running.
    forced: Forced,
    /// Set if and only if somebody asked for the end. Whoever sets it starts the closing thread.
    closing: Option<Instant>,
    kill_asked: bool,
    /// Set once, last of all.
    report: Option<ExitReport>,
    /// At most one of each clone of the handle. A waker is never dropped or woken under the lock: that may run somebody's
    /// drop, which may come back here.
    wakers: BTreeMap<u64, Waker>,
    /// The place in `wakers` that was given out last.
    last_place: u64,
}

impl Owner {
    /// Takes over a child. If its threads cannot be started, the child is killed and collected.
    pub(super) fn start(
        mut child: Child,
        stderr: ChildStderr,
        command: &Command,
        home: Option<TemporaryHome>,
        timings: StartTimings,
    ) -> io::Result<Self> {
        let Some(group) = Group::of(&child) else {
            sys::end_now(&mut child);
            return Err(io::Error::other("the child has an impossible process id"));
        };
        let tail = Arc::new(Tail::new(command.stderr_tail_bytes));
        let drain = Drain::new(stderr).and_then(|(drain, stop)| {
            let tail = tail.clone();
            let thread = named("turnwire-stderr").spawn(move || drain.run(&tail))?;
            Ok((thread, stop))
        });
        let (reader, stop) = match drain {
            Ok(drain) => drain,
            Err(e) => {
                sys::end_now(&mut child);
                return Err(e);
            }
        };
        let shared = Arc::new(Shared {
            pid: child.id(),
            group,
            ladder: command.close_ladder,
            started: Instant::now(),
            timings,
            tail,
            output: Mutex::default(),
            life: Mutex::new(Life {
                child,
                collected: false,
                forced: Forced::No,
                closing: None,
                kill_asked: false,
                report: None,
                wakers: BTreeMap::new(),
                last_place: 0,
            }),
            changed: Condvar::new(),
        });
        let watched = shared.clone();
        if let Err(e) = named("turnwire-watch").spawn(move || watched.watch(reader, stop, home)) {
            let mut life = shared.lock();
            sys::end_now(&mut life.child);
            life.collected = true;
            return Err(e);
        }
        Ok(Self { handle: Arc::new(Handle { shared }), place: AtomicU64::new(0) })
    }

    /// How long it took to find the program and to start it.
    #[must_use]
    pub fn start_timings(&self) -> StartTimings {
        self.handle.shared.timings
    }

    /// Asks for the end, by the rungs of the command's [`CloseLadder`], and returns at once. Asking again changes nothing.
    ///
    /// The first rung is the end of the process's stdin, and that pipe is the caller's: drop it before or right after.
    pub fn close(&self) {
        self.handle.shared.end(false);
    }

    /// What does the same from anywhere, and does not keep the process alive.
    #[must_use]
    pub fn closer(&self) -> Ender {
        let shared = Arc::downgrade(&self.handle.shared);
        Box::new(move || {
            if let Some(shared) = shared.upgrade() {
                shared.end(false);
            }
        })
    }

    /// Kills the process and its group now, and returns at once. May come in the middle of closing.
    pub fn kill(&self) {
        self.handle.shared.end(true);
    }

    /// How the process ended, once it has.
    ///
    /// The waker is woken when it has. Any number of tasks may ask, each with a clone of its own: of one clone the waker that
    /// asked last is woken.
    pub fn poll_exit(&self, cx: &mut Context<'_>) -> Poll<ExitReport> {
        let waker = cx.waker().clone();
        let mut guard = self.handle.shared.lock();
        let life = &mut *guard;
        if let Some(report) = &life.report {
            return Poll::Ready(report.clone());
        }
        let place = match self.place.load(Ordering::Relaxed) {
            0 => {
                life.last_place += 1;
                self.place.store(life.last_place, Ordering::Relaxed);
                life.last_place
            }
            place => place,
        };
        let before = life.wakers.insert(place, waker);
        drop(guard);
        drop(before);
        Poll::Pending
    }

    /// Waits for the end, at most this long, and tells how it went. `None` if the process is still there.
    #[must_use]
    pub fn wait_exit(&self, timeout: Duration) -> Option<ExitReport> {
        let shared = &self.handle.shared;
        let life = shared.wait_while(shared.lock(), timeout, |life| life.report.is_none());
        life.report.clone()
    }

    /// How the process ended, if it has.
    #[must_use]
    pub fn try_exit(&self) -> Option<ExitReport> {
        self.handle.shared.lock().report.clone()
    }

    /// The process id. After the end it may belong to another process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.handle.shared.pid
    }

    /// What is known now: the report of the end if it has come, else a report without a status, with stderr so far.
    #[must_use]
    pub fn evidence(&self) -> ExitReport {
        self.try_exit().unwrap_or_else(|| {
            let mut report = ExitReport::new(None);
            report.elapsed = self.handle.shared.started.elapsed();
            report.stderr_tail = self.stderr_tail().into();
            report.stderr_since_output = self.handle.shared.since_output().into();
            report
        })
    }

    /// The last text that the process wrote to stderr, up to now. At most as many bytes as the command asked for; as each
    /// bad byte is shown as one replacement character, the text may be up to three times as long.
    #[must_use]
    pub fn stderr_tail(&self) -> String {
        self.handle.shared.tail.since(StderrMark::default())
    }

    /// The present position in stderr. Cheap enough to be taken at every line of stdout.
    ///
    /// What the process wrote to stderr shortly before may not have been read yet and then counts as coming after.
    #[must_use]
    pub fn stderr_mark(&self) -> StderrMark {
        self.handle.shared.tail.mark()
    }

    /// Notes that the process has just written to stdout: what it says on stderr from now on may be about its end.
    pub fn note_output(&self) {
        let shared = &self.handle.shared;
        *shared.output.lock().unwrap_or_else(PoisonError::into_inner) = shared.tail.mark();
    }

    /// What the process wrote to stderr after this position, as far as it is still kept.
    #[must_use]
    pub fn stderr_since(&self, mark: StderrMark) -> String {
        self.handle.shared.tail.since(mark)
    }
}

impl fmt::Debug for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.handle.shared;
        f.debug_struct("Owner").field("pid", &shared.pid).field("exit", &self.try_exit()).finish_non_exhaustive()
    }
}

fn named(name: &str) -> thread::Builder {
    thread::Builder::new().name(name.to_owned())
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Life> {
        self.life.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait_while<'a>(
        &'a self,
        mut life: MutexGuard<'a, Life>,
        timeout: Duration,
        mut goes_on: impl FnMut(&Life) -> bool,
    ) -> MutexGuard<'a, Life> {
        let deadline = Instant::now().checked_add(timeout);
        while goes_on(&life) {
            let left = deadline.map_or(LONG_WAIT, |deadline| deadline.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                break;
            }
            life = self.changed.wait_timeout(life, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        life
    }

    /// Kills the group unless the leader has ended already: then the watcher is about to sweep it, and nothing was forced.
    fn kill(&self, life: &mut Life) {
        if !life.collected && !self.group.has_ended(&mut life.child) {
            self.group.kill(&mut life.child);
            life.forced = Forced::Killed;
        }
    }

    /// Tells the group to terminate, unless the leader has ended already.
    fn terminate(&self, life: &mut Life) {
        if !life.collected && !self.group.has_ended(&mut life.child) && self.group.terminate() {
            life.forced = Forced::Terminated;
        }
    }

    /// Asks for the end, from wherever: a close, a kill, a drop.
    fn end(self: &Arc<Self>, now: bool) {
        let mut life = self.lock();
        if life.collected || life.report.is_some() {
            return;
        }
        if now && !life.kill_asked {
            life.kill_asked = true;
            self.kill(&mut life);
            self.changed.notify_all();
        }
        if life.closing.is_some() {
            return;
        }
        life.closing = Some(Instant::now());
        drop(life);
        let closed = self.clone();
        if named("turnwire-close").spawn(move || closed.climb()).is_err() {
            // Without a thread nobody would take the later rungs. The watcher still reports.
            self.kill(&mut self.lock());
        }
    }

    /// The close ladder, on a thread of its own.
    fn climb(&self) {
        let goes_on = |life: &Life| !life.collected && life.report.is_none();
        let patient = |life: &Life| goes_on(life) && !life.kill_asked;
        let mut life = self.wait_while(self.lock(), self.ladder.eof_grace, patient);
        if patient(&life) {
            self.terminate(&mut life);
            life = self.wait_while(life, self.ladder.terminate_grace, patient);
        }
        if !goes_on(&life) {
            return;
        }
        if !life.kill_asked {
            self.kill(&mut life);
        }
        life = self.wait_while(life, self.ladder.kill_grace, goes_on);
        if goes_on(&life) {
            // Stuck inside the kernel. The watcher stays and will collect it, but nobody has to wait for that.
            let report = self.report(&life, Instant::now());
            drop(life);
            self.publish(report);
        }
    }

    /// Waits for the end, sweeps, collects, reports; on a thread of its own.
    fn watch(&self, reader: JoinHandle<()>, stop: DrainStop, home: Option<TemporaryHome>) {
        let ours = self.group.wait_for_end(|| self.group.has_ended(&mut self.lock().child));
        let ended = Instant::now();
        let mut life = self.lock();
        // The leader is a zombie and holds the number of its group, so this cannot hit a stranger. If it is no longer
        // ours, its number may be anybody's.
        let group_swept = ours && self.group.kill(&mut life.child);
        // Never a wait here: it would hold the lock.
        let status = life.child.try_wait().ok().flatten().map(sys::convert);
        life.collected = true;
        drop(life);
        self.changed.notify_all();
        if group_swept {
            self.group.wait_until_empty();
        }
        stop.stop();
        finish(reader);
        // Before the end is told, so that it is gone by then.
        drop(home);
        let life = self.lock();
        let mut report = self.report(&life, ended);
        drop(life);
        report.status = status;
        report.group_swept = group_swept;
        self.publish(report);
    }

    /// The report as far as it is known without the status.
    fn report(&self, life: &Life, ended: Instant) -> ExitReport {
        let mut report = ExitReport::new(None);
        report.forced = life.forced;
        report.elapsed = ended.saturating_duration_since(self.started);
        report.closing = life.closing.map(|since| ended.saturating_duration_since(since));
        report.stderr_tail = self.tail.since(StderrMark::default()).into();
        report.stderr_since_output = self.since_output().into();
        report
    }

    fn since_output(&self) -> String {
        let mark = *self.output.lock().unwrap_or_else(PoisonError::into_inner);
        self.tail.since(mark)
    }

    /// The first report stands.
    fn publish(&self, report: ExitReport) {
        let mut life = self.lock();
        if life.report.is_none() {
            life.report = Some(report);
        }
        let wakers = mem::take(&mut life.wakers);
        drop(life);
        self.changed.notify_all();
        wakers.into_values().for_each(Waker::wake);
    }
}

/// Waits, within a bound, for the thread on stderr.
fn finish(reader: JoinHandle<()>) {
    let end = Instant::now() + DRAIN_BOUND;
    let mut pause = Duration::from_micros(50);
    while !reader.is_finished() && Instant::now() < end {
        thread::sleep(pause);
        pause = (pause * 2).min(Duration::from_millis(5));
    }
    if reader.is_finished() {
        // The only error is its panic, which has been told already.
        drop(reader.join());
    }
}

#[cfg(all(test, unix))]
mod tests {
    use super::*;
    use crate::process::{Process, spawn};

    /// What a process does by itself just before it would have been forced is not put down to force.
    #[test]
    fn a_process_that_has_ended_is_not_signalled_though_it_is_not_collected_yet() {
        let command = Command::new().program("/bin/sh").args(["-c", "read -r line"]);
        let Process { stdin, owner, .. } = spawn(&command).unwrap();
        let shared = &owner.handle.shared;
        // With the lock held here the watcher cannot collect.
        let mut life = shared.lock();
        drop(stdin);
        let end = Instant::now() + Duration::from_secs(20);
        while !shared.group.has_ended(&mut life.child) {
            assert!(Instant::now() < end, "the process does not end");
            thread::sleep(Duration::from_millis(1));
        }
        shared.terminate(&mut life);
        shared.kill(&mut life);
        assert_eq!((life.forced, life.collected), (Forced::No, false));
        drop(life);
        let report = owner.wait_exit(Duration::from_secs(20)).unwrap();
        assert_eq!((report.forced, report.status.and_then(|status| status.code)), (Forced::No, Some(1)));
    }
}
