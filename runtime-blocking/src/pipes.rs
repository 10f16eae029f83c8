//! The driver's transport on the pipes of a process, where one thread can wait for both of them.
//!
//! The thread that drives reads and writes too. Neither blocks: what it finds not to be ready it sleeps on, together with
//! whatever wakes it. So nothing has to be told to stop, and both pipes are closed when the driver is done.

use crate::process::Owner;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::{Errno, ioctl_fionbio, read, write},
};
use std::{
    cell::{Cell, RefCell},
    future::Future,
    io::{self, Read, Write},
    os::{fd::OwnedFd, unix::net::UnixStream},
    pin::pin,
    process::{ChildStdin, ChildStdout},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicU8, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};
use turnwire_core::{
    client::{StartTimings, SystemClock},
    driver::{Ender, Transport},
    launch::ExitReport,
    time::Time,
};

/// What the transport works on, and the thread sleeps on.
struct Pipes {
    stdout: OwnedFd,
    /// `None` once it is closed.
    stdin: RefCell<Option<OwnedFd>>,
    /// Whether nothing was left to read. At its end it never is.
    is_empty: Cell<bool>,
    /// Whether there was no room for what is to be written.
    is_full: Cell<bool>,
    /// When the driver wants to be looked at.
    deadline: Cell<Option<Time>>,
}

/// A [`Transport`] over the pipes of a process, for the thread that [`sleeps`](Bed::sleep) on them.
pub(crate) struct PipeTransport {
    pipes: Rc<Pipes>,
    owner: Owner,
}

/// What the thread sleeps in.
pub(crate) struct Bed {
    pipes: Rc<Pipes>,
    bell: Arc<Bell>,
    /// Where the bell is heard.
    ear: UnixStream,
}

/// Wakes the thread.
struct Bell {
    state: AtomicU8,
    line: UnixStream,
}

/// How long the thread sleeps at the most. Not every system can wait for as long as a deadline may be away.
const LONGEST: Duration = Duration::from_secs(3600);
/// How long the thread pauses where the system cannot wait.
const PAUSE: Duration = Duration::from_millis(5);

/// The thread is awake and looks at everything before it sleeps.
const AWAKE: u8 = 0;
/// The thread sleeps, or is about to: it hears nothing but the bell.
const ASLEEP: u8 = 1;
/// Woken since it last looked.
const WOKEN: u8 = 2;

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.state.swap(WOKEN, Ordering::AcqRel) == ASLEEP {
            // There is room for it: it rings once for each sleep. If nobody hears, nobody sleeps.
            let _ = (&self.line).write(&[0]);
        }
    }
}

/// Takes the pipes of a process, for one thread.
pub(crate) fn take(stdout: ChildStdout, stdin: ChildStdin, owner: Owner) -> io::Result<(PipeTransport, Bed)> {
    let (stdout, stdin) = (OwnedFd::from(stdout), OwnedFd::from(stdin));
    // These ends are ours alone: those of the child are not changed.
    ioctl_fionbio(&stdout, true)?;
    ioctl_fionbio(&stdin, true)?;
    let (line, ear) = UnixStream::pair()?;
    line.set_nonblocking(true)?;
    ear.set_nonblocking(true)?;
    let pipes = Rc::new(Pipes {
        stdout,
        stdin: RefCell::new(Some(stdin)),
        is_empty: Cell::new(false),
        is_full: Cell::new(false),
        deadline: Cell::new(None),
    });
    let bell = Arc::new(Bell { state: AtomicU8::new(AWAKE), line });
    Ok((PipeTransport { pipes: Rc::clone(&pipes), owner }, Bed { pipes, bell, ear }))
}

impl Bed {
    /// Polls the driver until it is done.
    pub(crate) fn drive<F: Future>(self, driver: F, clock: SystemClock) -> F::Output {
        let mut driver = pin!(driver);
        let waker = Waker::from(Arc::clone(&self.bell));
        let mut cx = Context::from_waker(&waker);
        loop {
            if let Poll::Ready(output) = driver.as_mut().poll(&mut cx) {
                return output;
            }
            self.sleep(clock);
        }
    }

    /// Sleeps until the bell rings, a pipe that is waited for is ready, or it is time.
    fn sleep(&self, clock: SystemClock) {
        let Self { pipes, bell, ear } = self;
        let is_woken = bell.state.compare_exchange(AWAKE, ASLEEP, Ordering::AcqRel, Ordering::Acquire).is_err();
        let timeout = match pipes.deadline.get().and_then(|at| clock.instant(at)) {
            // The pipes are looked at all the same: one who is woken again and again still has to read.
            _ if is_woken => Duration::ZERO,
            Some(until) => until.saturating_duration_since(Instant::now()).min(LONGEST),
            None => LONGEST,
        };
        let stdin = pipes.stdin.borrow();
        let is_empty = pipes.is_empty.get();
        let full = stdin.as_ref().filter(|_| pipes.is_full.get());
        // In the place of a pipe that is not waited for, the ear once more.
        let ear_again = || PollFd::new(ear, PollFlags::IN);
        let mut waited = [
            ear_again(),
            if is_empty { PollFd::new(&pipes.stdout, PollFlags::IN) } else { ear_again() },
            full.map_or_else(ear_again, |stdin| PollFd::new(stdin, PollFlags::OUT)),
        ];
        let outcome = poll(&mut waited, Timespec::try_from(timeout).ok().as_ref());
        bell.state.swap(AWAKE, Ordering::AcqRel);
        let [is_rung, is_readable, has_room] = match outcome {
            // Time is up, and whoever calls it over first tries what may have come since.
            Ok(0) => [false, true, true],
            Ok(_) => waited.map(|one| !one.revents().is_empty()),
            Err(Errno::INTR) => [true; 3],
            // The system cannot wait just now. What it would have been waited for is tried instead.
            Err(_) => {
                thread::sleep(PAUSE);
                [true; 3]
            }
        };
        if is_rung {
            let _ = (&*ear).read(&mut [0; 16]);
        }
        if is_readable {
            pipes.is_empty.set(false);
        }
        if has_room {
            pipes.is_full.set(false);
        }
    }
}

/// Calls again what a signal has broken off.
fn unbroken(mut call: impl FnMut() -> Result<usize, Errno>) -> Result<usize, Errno> {
    loop {
        match call() {
            Err(Errno::INTR) => {}
            outcome => return outcome,
        }
    }
}

impl Transport for PipeTransport {
    fn poll_read(&mut self, _: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let Pipes { stdout, is_empty, .. } = &*self.pipes;
        if is_empty.get() {
            return Poll::Pending;
        }
        match unbroken(|| read(stdout, &mut *buffer)) {
            Err(Errno::AGAIN) => {
                is_empty.set(true);
                Poll::Pending
            }
            Err(error) => Poll::Ready(Err(error.into())),
            Ok(count) => {
                // Less than was asked for is all that there was.
                is_empty.set(count > 0 && count < buffer.len());
                if count > 0 {
                    self.owner.note_output();
                }
                Poll::Ready(Ok(count))
            }
        }
    }

    fn poll_write(&mut self, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let Pipes { stdin, is_full, .. } = &*self.pipes;
        let stdin = stdin.borrow();
        let Some(stdin) = &*stdin else { return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())) };
        match unbroken(|| write(stdin, bytes)) {
            Err(Errno::AGAIN) => {
                is_full.set(true);
                Poll::Pending
            }
            outcome => Poll::Ready(outcome.map_err(io::Error::from)),
        }
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        // Nothing is held back.
        Poll::Ready(Ok(()))
    }

    fn poll_close_write(&mut self, _: &mut Context<'_>) -> Poll<()> {
        drop(self.pipes.stdin.take());
        self.owner.close();
        Poll::Ready(())
    }

    fn poll_deadline(&mut self, _: &mut Context<'_>, at: Option<Time>) -> Poll<()> {
        self.pipes.deadline.set(at);
        Poll::Pending
    }

    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<ExitReport> {
        self.owner.poll_exit(cx)
    }

    fn expects_exit(&self) -> bool {
        true
    }

    fn evidence(&self) -> Option<ExitReport> {
        Some(self.owner.evidence())
    }

    fn ender(&self) -> Option<Ender> {
        Some(self.owner.closer())
    }

    fn start_timings(&self) -> StartTimings {
        self.owner.start_timings()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::process::{Process, spawn};
    use std::{future::poll_fn, sync::atomic::AtomicBool};
    use turnwire_core::{client::Clock, launch::Command};

    /// Runs a line of shell, and what is to be done with its pipes until that is ready. Says how often it was polled.
    fn drive(line: &str, mut work: impl FnMut(&mut PipeTransport, &mut Context<'_>) -> Poll<()>) -> usize {
        let command = Command::new().program("/bin/sh").args(["-c", line]);
        let Process { stdin, stdout, owner, .. } = spawn(&command).unwrap();
        let (mut transport, bed) = take(stdout, stdin, owner).unwrap();
        let mut polls = 0;
        let driver = poll_fn(|cx| {
            polls += 1;
            work(&mut transport, cx)
        });
        bed.drive(driver, SystemClock::default());
        polls
    }

    /// Ready after a tenth of a second, woken by another thread.
    fn alarm() -> impl FnMut(&mut Context<'_>) -> Poll<()> {
        let mut rung: Option<Arc<AtomicBool>> = None;
        move |cx| {
            let rung = rung.get_or_insert_with(|| {
                let (rung, waker) = (Arc::new(AtomicBool::new(false)), cx.waker().clone());
                let ringing = Arc::clone(&rung);
                thread::spawn(move || {
                    thread::sleep(Duration::from_millis(100));
                    ringing.store(true, Ordering::Release);
                    waker.wake();
                });
                rung
            });
            if rung.load(Ordering::Acquire) { Poll::Ready(()) } else { Poll::Pending }
        }
    }

    /// Reads to the end of stdout, or as far as there is something.
    fn read_all(transport: &mut PipeTransport, cx: &mut Context<'_>, into: &mut Vec<u8>) -> Poll<()> {
        let mut buffer = [0; 1000];
        loop {
            match transport.poll_read(cx, &mut buffer) {
                Poll::Ready(Ok(0)) => return Poll::Ready(()),
                Poll::Ready(count) => into.extend_from_slice(&buffer[..count.unwrap()]),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    #[test]
    fn an_output_that_is_at_its_end_does_not_keep_the_thread_awake() {
        let (mut is_over, mut alarm) = (false, alarm());
        let polls = drive("echo said; exec >&-; read line", |transport, cx| {
            let mut said = Vec::new();
            is_over = is_over || read_all(transport, cx, &mut said).is_ready();
            if is_over { alarm(cx) } else { Poll::Pending }
        });
        assert!(is_over && polls < 20, "polled {polls} times");
    }

    #[test]
    fn an_output_that_nobody_reads_now_does_not_keep_the_thread_awake() {
        let mut alarm = alarm();
        let polls = drive("echo said; read line", |_, cx| alarm(cx));
        assert!(polls < 20, "polled {polls} times");
    }

    #[test]
    fn a_full_input_is_waited_for_and_everything_arrives() {
        let sent = vec![b'x'; 1 << 20];
        let (mut written, mut waited, mut said) = (0, 0, Vec::new());
        let (mut meanwhile, mut afterwards) = (alarm(), alarm());
        let polls = drive("sleep 0.2; head -c 1048576 | wc -c; exec >&-; read line", |transport, cx| {
            while written < sent.len() {
                match transport.poll_write(cx, &sent[written..]) {
                    Poll::Ready(count) => written += count.unwrap(),
                    Poll::Pending => {
                        waited += 1;
                        // While the other side sleeps, being woken has to be possible too.
                        let _ = meanwhile(cx);
                        return Poll::Pending;
                    }
                }
            }
            if read_all(transport, cx, &mut said).is_ready() { afterwards(cx) } else { Poll::Pending }
        });
        assert_eq!(String::from_utf8(said).unwrap().trim(), "1048576");
        // Each wait is for a page, at the least.
        assert!(waited > 0 && polls < 1000, "waited {waited} times, polled {polls} times");
    }

    #[test]
    fn one_that_is_woken_does_not_sleep_and_one_that_reads_nothing_does_not_block() {
        let mut is_second = false;
        drive("sleep 5", |transport, cx| {
            let ended = read_all(transport, cx, &mut Vec::new());
            assert!(ended.is_pending(), "it was not looked at before the other side ended");
            cx.waker().wake_by_ref();
            if std::mem::replace(&mut is_second, true) { Poll::Ready(()) } else { Poll::Pending }
        });
    }

    #[test]
    fn one_that_is_woken_again_and_again_still_reads() {
        let mut said = Vec::new();
        drive("sleep 0.05; echo said", |transport, cx| {
            cx.waker().wake_by_ref();
            read_all(transport, cx, &mut said)
        });
        assert_eq!(said, b"said\n");
    }

    #[test]
    fn a_deadline_ends_the_sleep_and_a_reader_that_is_gone_is_an_error() {
        let clock = SystemClock::default();
        let (mut said, mut is_refused) = (Vec::new(), false);
        drive("exec <&-; echo closed; sleep 5", |transport, cx| {
            let ended = read_all(transport, cx, &mut said);
            assert!(ended.is_pending(), "it was not looked at in time");
            if said.is_empty() {
                return Poll::Pending;
            }
            // A process that is being started beside this one may hold the other end for a moment.
            while !is_refused {
                match transport.poll_write(cx, b"hello") {
                    Poll::Ready(outcome) => is_refused = outcome.is_err(),
                    Poll::Pending => return Poll::Pending,
                }
            }
            // From here on nothing but the time ends it.
            let at = Time::from_nanos(50_000_000);
            let _ = transport.poll_deadline(cx, Some(at));
            if clock.now() >= at { Poll::Ready(()) } else { Poll::Pending }
        });
        assert!(is_refused);
    }
}
