//! Looking on.

use super::Codex;
use turnwire_core::client::{Recorder, Timings};

impl Codex {
    /// Records this connection from now on. What began before is known to a replay only as far as it shows later; to have
    /// all of it, give the recorder to [`Config::recorder`](turnwire_core::connection::Config::recorder) instead. A connection has
    /// one recorder: with one already, this does nothing.
    pub fn record(&self, recorder: &Recorder) {
        self.inner.record(recorder);
    }

    /// How long each phase of the connection's beginning took.
    #[must_use]
    pub fn timings(&self) -> Timings {
        self.inner.timings()
    }
}
