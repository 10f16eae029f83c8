//! The clock that the timers of the runtime go by.

use tokio::time::Instant;
use turnwire_core::{
    client::{Clock, SystemClock},
    time::Time,
};

/// tokio's own: the system's, but where a test has paused it or moved it on. A deadline by any other clock would never come
/// in such a runtime, and a timer for it would fire again and again.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TokioClock {
    start: Instant,
    system: SystemClock,
}

impl Default for TokioClock {
    fn default() -> Self {
        Self { start: Instant::now(), system: SystemClock::default() }
    }
}

impl TokioClock {
    /// The instant that a time stands for; `None` if it is too far away to be one.
    pub(crate) fn instant(&self, time: Time) -> Option<Instant> {
        self.start.checked_add(time.since(Time::ZERO))
    }
}

impl Clock for TokioClock {
    fn now(&self) -> Time {
        Time::from_start(self.start.elapsed())
    }

    fn unix_seconds(&self) -> u64 {
        self.system.unix_seconds()
    }
}
