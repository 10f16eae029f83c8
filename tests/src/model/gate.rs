//! A gate: holds a scripted stream at one exact place until the test opens it.

use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How long a gate holds a stream unless [`Gate::bounded`] says otherwise. Shorter than the idle time after which the
/// server of `real::RealHome` gives a silent stream up, so a forgotten gate shows as the fault that it is.
pub const GATE_BOUND: Duration = Duration::from_secs(30);

/// Holds every stream that reaches it until [`Gate::open`] is called. Clones are the same gate; once open it stays
/// open.
///
/// A gate makes "while the turn runs" a fact and not a race: hold the stream, steer or interrupt, then open. A gate
/// that nobody opens in time cuts its stream and is reported by [`super::ScriptedModel::faults`].
#[derive(Clone, Debug)]
pub struct Gate {
    shared: Arc<Shared>,
    bound: Duration,
}

#[derive(Debug, Default)]
struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    open: bool,
    /// Streams that have come to the gate so far, whether it was open or not. Never decreases.
    reached: usize,
}

impl Default for Gate {
    fn default() -> Self {
        Self::new()
    }
}

impl Gate {
    /// A closed gate that holds a stream for at most [`GATE_BOUND`].
    #[must_use]
    pub fn new() -> Self {
        Self::bounded(GATE_BOUND)
    }

    /// A closed gate that holds a stream for at most `bound`.
    #[must_use]
    pub fn bounded(bound: Duration) -> Self {
        Self { shared: Arc::default(), bound }
    }

    /// Lets every held stream go on, and every later one pass.
    pub fn open(&self) {
        self.state().open = true;
        self.shared.changed.notify_all();
    }

    /// True once [`Gate::open`] was called.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.state().open
    }

    /// Waits until a stream has come to the gate; false if none did within `timeout`. All that the stream scripted
    /// before the gate is written by then, which does not say that the server has read it.
    #[must_use = "false means that no stream came"]
    pub fn wait_reached(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        let mut state = self.state();
        while state.reached == 0 {
            let left = timeout.saturating_sub(start.elapsed());
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    pub(super) fn bound(&self) -> Duration {
        self.bound
    }

    /// Notes the arrival of a stream.
    pub(super) fn arrive(&self) {
        self.state().reached += 1;
        self.shared.changed.notify_all();
    }

    /// Waits at most `slice` for the gate to open; says whether it is open.
    pub(super) fn wait_open(&self, slice: Duration) -> bool {
        let state = self.state();
        if state.open {
            return true;
        }
        self.shared.changed.wait_timeout(state, slice).unwrap_or_else(PoisonError::into_inner).0.open
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.shared.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
