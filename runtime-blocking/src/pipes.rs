//! The driver's transport on the pipes of a process, where one thread can wait for both of them.
//!
//! The thread that drives reads and writes too. Neither blocks: what it finds not to be ready it sleeps on, together with
//! whatever wakes it. So nothing has to be told to stop, and both pipes are closed as soon as the transport is dropped.

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
    driver::Transport,
    launch::ExitReport,
    time::Time,
};

/// What the transport works on, and the thread sleeps on.
struct Pipes {
    stdout: OwnedFd,
    /// `None` once it is closed.
    stdin: RefCell<Option<OwnedFd>>,
    reading: Cell<Reading>,
    /// Whether there was no room for what is to be written.
    is_full: Cell<bool>,
    /// When the driver wants to be looked at.
    deadline: Cell<Option<Time>>,
}

/// What is known of stdout.
#[derive(Clone, Copy, PartialEq)]
enum Reading {
    /// It is empty, as far as is known.
    Empty,
    /// There may be something to read.
    MayHave,
    /// It is at its end, which the system would report for ever.
    Over,
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
        reading: Cell::new(Reading::MayHave),
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
            _ if is_woken => Some(Timespec::default()),
            Some(until) => Timespec::try_from(until.saturating_duration_since(Instant::now())).ok(),
            None => None,
        };
        let stdin = pipes.stdin.borrow();
        let waits_for_stdout = pipes.reading.get() == Reading::Empty;
        let full = stdin.as_ref().filter(|_| pipes.is_full.get());
        // In the place of a pipe that is not waited for, the ear once more.
        let ear_again = || PollFd::new(ear, PollFlags::IN);
        let mut waited = [
            ear_again(),
            if waits_for_stdout { PollFd::new(&pipes.stdout, PollFlags::IN) } else { ear_again() },
            full.map_or_else(ear_again, |stdin| PollFd::new(stdin, PollFlags::OUT)),
        ];
        let outcome = poll(&mut waited, timeout.as_ref());
        bell.state.swap(AWAKE, Ordering::AcqRel);
        let [is_rung, is_readable, has_room] = match outcome {
            Ok(_) => waited.map(|one| !one.revents().is_empty()),
            Err(Errno::INTR) => [false; 3],
            // The system cannot wait just now. What it would have been waited for is tried instead.
            Err(_) => {
                thread::sleep(PAUSE);
                [true; 3]
            }
        };
        if is_rung {
            let _ = (&*ear).read(&mut [0; 16]);
        }
        if waits_for_stdout && is_readable {
            pipes.reading.set(Reading::MayHave);
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
        let Pipes { stdout, reading, .. } = &*self.pipes;
        if reading.get() == Reading::Empty {
            return Poll::Pending;
        }
        let outcome = unbroken(|| read(stdout, &mut *buffer));
        reading.set(match outcome {
            Ok(0) => Reading::Over,
            Ok(count) if count == buffer.len() => Reading::MayHave,
            // Less than was asked for is all that there was.
            Ok(_) | Err(Errno::AGAIN) => Reading::Empty,
            Err(_) => Reading::Over,
        });
        match outcome {
            Err(Errno::AGAIN) => Poll::Pending,
            Err(error) => Poll::Ready(Err(error.into())),
            Ok(count) => {
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

    fn start_timings(&self) -> StartTimings {
        self.owner.start_timings()
    }
}
