//! Starting a process without waiting for the system on the thread that asks.

use super::{Process, spawn_in_steps};
use std::{
    fmt, io, mem,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
};
use turnwire_core::launch::{Command, LaunchError};

/// How many starts that were given up may still wait for the system before no other is begun. Each has a thread, which
/// cannot be called back; a disk that hangs would gather more and more of them.
const MAX_GIVEN_UP: usize = 64;

/// How many there are, in this program. One is counted from when it is given up until its thread ends.
static GIVEN_UP: AtomicUsize = AtomicUsize::new(0);

/// A process that is being started, on a thread of its own: looking for a program and starting it are calls of the system
/// that take as long as the disk behind them.
///
/// Dropping it gives the start up. If a process comes of it all the same, it is ended at once.
pub struct Starting {
    shared: Arc<Shared>,
}

impl fmt::Debug for Starting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Starting").field("is_resolved", &self.shared.lock().is_resolved).finish_non_exhaustive()
    }
}

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    is_resolved: bool,
    /// Whether the thread has said what came of it, or there was none.
    is_over: bool,
    outcome: Option<Result<Process, LaunchError>>,
    waker: Option<Waker>,
    /// Where it is counted if it is given up.
    given_up: Arc<Count>,
}

/// Counts a start among those that were given up, once, until this is dropped.
#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn up(&self) {
        if self.0.swap(1, Ordering::AcqRel) == 0 {
            GIVEN_UP.fetch_add(1, Ordering::AcqRel);
        }
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        GIVEN_UP.fetch_sub(*self.0.get_mut(), Ordering::AcqRel);
    }
}

impl Drop for State {
    fn drop(&mut self) {
        if !self.is_over {
            self.given_up.up();
        }
        self.outcome.take().into_iter().for_each(give_up);
    }
}

/// Ends, at once, a process that nobody waits for any more. It was asked nothing yet, so there is nothing to wait for.
fn give_up(outcome: Result<Process, LaunchError>) {
    if let Ok(process) = outcome {
        process.owner.kill();
    }
}

impl State {
    fn fail(&mut self, message: &str) {
        self.is_over = true;
        let (path, kind) = (std::path::PathBuf::new(), io::ErrorKind::WouldBlock);
        self.outcome = Some(Err(LaunchError::Spawn { path, kind, message: message.into() }));
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Changes something that is waited for, unless nobody waits any more.
fn tell(shared: &Weak<Shared>, change: impl FnOnce(&mut State)) {
    // Whoever drops the last of these gives the process up with it: here too, if the start was given up just now.
    let Some(shared) = shared.upgrade() else { return };
    let mut state = shared.lock();
    change(&mut state);
    let waker = mem::take(&mut state.waker);
    drop(state);
    if let Some(waker) = waker {
        waker.wake();
    }
}

impl Starting {
    /// Begins to start a process, and returns at once.
    #[must_use]
    pub fn new(command: Command) -> Self {
        Self::with(move |resolved| spawn_in_steps(&command, resolved))
    }

    fn with<S>(start: S) -> Self
    where
        S: FnOnce(&mut dyn FnMut()) -> Result<Process, LaunchError> + Send + 'static,
    {
        let shared = Arc::new(Shared::default());
        let stuck = GIVEN_UP.load(Ordering::Acquire);
        if stuck >= MAX_GIVEN_UP {
            shared.lock().fail(&format!("{stuck} earlier starts still wait for the system; is a disk hanging?"));
            return Self { shared };
        }
        let (told, count) = (Arc::downgrade(&shared), Arc::clone(&shared.lock().given_up));
        let thread = thread::Builder::new().name("turnwire-start".into()).spawn(move || {
            let mut outcome = Some(start(&mut || tell(&told, |state| state.is_resolved = true)));
            tell(&told, |state| {
                state.is_over = true;
                state.outcome = outcome.take();
            });
            outcome.into_iter().for_each(give_up);
            drop(count);
        });
        if let Err(error) = thread {
            shared.lock().fail(&format!("there is no thread to start it on: {error}"));
        }
        Self { shared }
    }

    /// Waits until the program was found, or was not.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn resolved(&self) {
        std::future::poll_fn(|cx| self.poll(cx, |state| (state.is_resolved || state.outcome.is_some()).then_some(())))
            .await;
    }

    /// Waits for the process. To be asked for once: there is no second.
    ///
    /// # Errors
    /// As for [`spawn`](super::spawn).
    ///
    /// # Cancel safety
    /// Dropping the future gives the start up.
    pub async fn process(self) -> Result<Process, LaunchError> {
        std::future::poll_fn(|cx| self.poll(cx, |state| state.outcome.take())).await
    }

    fn poll<R>(&self, cx: &Context<'_>, look: impl FnOnce(&mut State) -> Option<R>) -> Poll<R> {
        let mut state = self.shared.lock();
        if let Some(found) = look(&mut state) {
            return Poll::Ready(found);
        }
        let before = state.waker.replace(cx.waker().clone());
        drop(state);
        // Whatever dropping a waker runs, it runs without the lock.
        drop(before);
        Poll::Pending
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{
        sync::mpsc::{Receiver, Sender, channel},
        time::{Duration, Instant},
    };

    /// A start that waits for the system until its sender is dropped.
    fn stuck() -> (Sender<()>, Starting) {
        let (release, held): (_, Receiver<()>) = channel();
        let starting = Starting::with(move |_| {
            let _ = held.recv();
            Err(LaunchError::Spawn { path: "p".into(), kind: io::ErrorKind::NotFound, message: "late".into() })
        });
        (release, starting)
    }

    fn outcome(starting: &Starting) -> Option<String> {
        starting.shared.lock().outcome.as_ref().map(|outcome| format!("{:?}", outcome.as_ref().err()))
    }

    #[test]
    fn starts_that_were_given_up_and_hang_keep_others_from_being_begun_until_they_end() {
        let mut held: Vec<_> = (0..MAX_GIVEN_UP).map(|_| stuck()).collect();
        let (release, next) = stuck();
        assert!(outcome(&next).is_none(), "none of them was given up");
        drop((release, next));
        let releases: Vec<_> = held.drain(..).map(|(release, _starting)| release).collect();
        let (_release, refused) = stuck();
        assert!(outcome(&refused).is_some_and(|said| said.contains("wait for the system")));
        drop(releases);
        let start = Instant::now();
        while GIVEN_UP.load(Ordering::Acquire) > 0 && start.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(2));
        }
        let (_release, begun) = stuck();
        assert!(outcome(&begun).is_none());
    }
}
