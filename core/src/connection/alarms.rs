//! Alarms: waiting for a moment, on the clock that the connection is told.
//!
//! They are what a wait between two attempts is made of, without a runtime's timer. Each belongs to somebody who waits, so
//! there are as many as there are waiting callers.

use super::{Connection, Event};
use crate::time::Time;
use alloc::collections::{BTreeMap, BTreeSet};

/// Names an alarm. Local to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AlarmKey(u64);

/// The alarms that have not rung.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarms {
    next: u64,
    by_time: BTreeSet<(Time, AlarmKey)>,
    times: BTreeMap<AlarmKey, Time>,
}

impl Alarms {
    pub(super) fn next_due(&self) -> Option<Time> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// Takes the first alarm of those that are due.
    fn pop(&mut self, now: Time) -> Option<AlarmKey> {
        let (at, key) = *self.by_time.first()?;
        if at > now {
            return None;
        }
        self.by_time.remove(&(at, key));
        self.times.remove(&key);
        Some(key)
    }
}

/// Commands: alarms.
impl Connection {
    /// Sets an alarm: [`Event::Alarm`] comes at that time, or as soon as the connection is over.
    pub fn alarm(&mut self, now: Time, at: Time) -> AlarmKey {
        let key = AlarmKey(self.alarms.next);
        self.alarms.next += 1;
        if at <= now || self.link.is_over() {
            self.events.push_back(Event::Alarm(key));
            return key;
        }
        self.alarms.by_time.insert((at, key));
        self.alarms.times.insert(key, at);
        key
    }

    /// Takes an alarm back. One that has rung, or was taken back, is no matter.
    pub fn cancel_alarm(&mut self, key: AlarmKey) {
        if let Some(at) = self.alarms.times.remove(&key) {
            self.alarms.by_time.remove(&(at, key));
        }
    }

    /// Whether an alarm has still to ring.
    #[must_use]
    pub fn is_alarm_set(&self, key: AlarmKey) -> bool {
        self.alarms.times.contains_key(&key)
    }

    /// Rings what is due.
    pub(super) fn ring_alarms(&mut self, now: Time) {
        while let Some(key) = self.alarms.pop(now) {
            self.events.push_back(Event::Alarm(key));
        }
    }
}
