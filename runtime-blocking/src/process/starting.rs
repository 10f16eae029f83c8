//! Starting a process without waiting for the system on the thread that asks.

use super::{Process, spawn_in_steps};
use std::{
    fmt, io, mem,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    task::{Context, Poll, Waker},
    thread,
};
use turnwire_core::launch::{Command, LaunchError};

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
    outcome: Option<Result<Process, LaunchError>>,
    waker: Option<Waker>,
}

impl Drop for State {
    fn drop(&mut self) {
        self.outcome.take().into_iter().for_each(give_up);
    }
}

/// Ends, at once, a process that nobody waits for any more. It was asked nothing yet, so there is nothing to wait for.
fn give_up(outcome: Result<Process, LaunchError>) {
    if let Ok(process) = outcome {
        process.owner.kill();
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
        let shared = Arc::new(Shared::default());
        let told = Arc::downgrade(&shared);
        let thread = thread::Builder::new().name("turnwire-start".into()).spawn(move || {
            let outcome = spawn_in_steps(&command, || tell(&told, |state| state.is_resolved = true));
            let mut outcome = Some(outcome);
            tell(&told, |state| state.outcome = outcome.take());
            outcome.into_iter().for_each(give_up);
        });
        if let Err(error) = thread {
            let message = format!("there is no thread to start it on: {error}");
            let mut state = shared.lock();
            state.outcome = Some(Err(LaunchError::Spawn {
                path: std::path::PathBuf::new(),
                kind: io::ErrorKind::WouldBlock,
                message: message.into(),
            }));
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
