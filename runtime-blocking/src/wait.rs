//! Waiting for a future on the thread that one is on.
//!
//! This is no runtime: nothing is scheduled. The thread sleeps until the one thing that it waits for wakes it. It does not
//! sleep by parking, because the thread may be that of an executor which parks, and whose wake-ups must not be eaten.

use std::{
    cell::Cell,
    future::Future,
    pin::pin,
    sync::{Arc, Condvar, Mutex, PoisonError},
    task::{Context, Poll, Wake, Waker},
    time::Instant,
};

#[derive(Default)]
struct Signal {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq)]
enum State {
    /// The thread sleeps, so that it costs a call of the system to wake it.
    Asleep,
    #[default]
    Awake,
    /// Woken since it last looked.
    Woken,
}

impl Wake for Signal {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *state, State::Woken);
        drop(state);
        if before == State::Asleep {
            self.changed.notify_one();
        }
    }
}

impl Signal {
    fn sleep(&self, until: Option<Instant>) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if *state == State::Awake {
            *state = State::Asleep;
        }
        let asleep = |state: &mut State| *state == State::Asleep;
        let mut state = match until {
            None => self.changed.wait_while(state, asleep).unwrap_or_else(PoisonError::into_inner),
            Some(until) => {
                let timeout = until.saturating_duration_since(Instant::now());
                self.changed.wait_timeout_while(state, timeout, asleep).unwrap_or_else(PoisonError::into_inner).0
            }
        };
        *state = State::Awake;
    }
}

/// Waits for a future, for as long as it takes.
pub(crate) fn wait<F: Future>(future: F) -> F::Output {
    wait_with(future, || None)
}

/// Waits for a future, and looks at it again at the instant that it names, if any.
pub(crate) fn wait_with<F: Future>(future: F, look_again: impl Fn() -> Option<Instant>) -> F::Output {
    thread_local! {
        /// A signal that nobody on this thread waits for. A late wake-up of an earlier wait is one look too many, no more.
        static SPARE: Cell<Option<(Arc<Signal>, Waker)>> = const { Cell::new(None) };
    }
    let mut future = pin!(future);
    let (signal, waker) = SPARE.try_with(Cell::take).ok().flatten().unwrap_or_else(|| {
        let signal = Arc::new(Signal::default());
        (Arc::clone(&signal), Waker::from(signal))
    });
    let mut cx = Context::from_waker(&waker);
    loop {
        if let Poll::Ready(output) = future.as_mut().poll(&mut cx) {
            let _ = SPARE.try_with(|spare| spare.set(Some((signal, waker))));
            return output;
        }
        signal.sleep(look_again());
    }
}
