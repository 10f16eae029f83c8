//! How long a turn may say nothing.

use crate::{id::ItemId, time::Time};
use alloc::collections::BTreeSet;
use core::time::Duration;

/// What is known of a turn's silence. The timer is moved lazily: it is only looked at when it fires, and set anew only when
/// it would fire too late.
#[derive(Clone, Debug)]
pub(crate) struct Silence {
    limit: Duration,
    limit_at_work: Duration,
    last: Time,
    /// When the timer fires. `None`: the server has not named the turn yet.
    pub(crate) armed: Option<Time>,
    /// The commands and tools that run.
    tools: BTreeSet<ItemId>,
    /// Whether somebody is asked for something.
    is_asking: bool,
}

impl Silence {
    pub(crate) fn new(limit: Duration, limit_at_work: Duration) -> Self {
        let tools = BTreeSet::new();
        Self { limit, limit_at_work, last: Time::ZERO, armed: None, tools, is_asking: false }
    }

    /// Takes a sign of life.
    pub(crate) fn hear(&mut self, now: Time) {
        self.last = now;
    }

    pub(crate) fn begin(&mut self, item: &str, kind: &str) {
        // What the model itself writes comes in pieces.
        if !matches!(kind, "agentMessage" | "plan" | "reasoning" | "userMessage") {
            self.tools.insert(item.into());
        }
    }

    pub(crate) fn complete(&mut self, item: &str) {
        self.tools.remove(item);
    }

    pub(crate) fn ask(&mut self, is_asking: bool) {
        self.is_asking = is_asking;
    }

    /// How long it may be silent now.
    pub(crate) fn limit(&self) -> Duration {
        if self.tools.is_empty() && !self.is_asking { self.limit } else { self.limit_at_work }
    }

    pub(crate) fn due(&self) -> Time {
        self.last + self.limit()
    }

    /// How long ago the last sign of life was.
    pub(crate) fn age(&self, now: Time) -> Duration {
        now.since(self.last)
    }
}
