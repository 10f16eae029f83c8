//! What is kept of everything that a connection says and hears, when it is asked to.
//!
//! Records are queued here until the outside takes them with [`Connection::poll_tap`]. The queue is bounded by
//! [`Limits::max_tap_bytes`](super::Limits::max_tap_bytes): what finds no room is counted, and a record says where it is
//! missing.

use super::{Connection, RequestKey, ServerRequestKey};
use crate::{
    envelope::RpcId,
    frame::Frame,
    record::{Line, Part, Record, Step},
    time::Time,
    turn::TurnKey,
};
use alloc::{boxed::Box, collections::VecDeque};

#[derive(Clone)]
pub(super) struct Tap {
    queue: VecDeque<Record>,
    /// The sum of the sizes of `queue`.
    bytes: usize,
    max_bytes: usize,
    /// The number of the next record. Lost records have numbers too.
    next: u64,
    /// When the last record was made: the time of those that come without one.
    last: Time,
    /// Records that found no room since the last that did.
    missing: u64,
    /// Records that found no room at all.
    lost: u64,
}

impl Tap {
    pub(super) fn new(max_bytes: usize) -> Box<Self> {
        Box::new(Self { queue: VecDeque::new(), bytes: 0, max_bytes, next: 1, last: Time::ZERO, missing: 0, lost: 0 })
    }

    pub(super) fn lost(&self) -> u64 {
        self.lost
    }

    fn push(&mut self, at: Time, step: Step) {
        self.last = at;
        let size = step.size();
        if self.bytes.saturating_add(size) > self.max_bytes {
            self.next += 1;
            self.missing += 1;
            self.lost += 1;
            return;
        }
        self.tell_missing(at);
        self.append(at, step, size);
    }

    fn tell_missing(&mut self, at: Time) {
        if self.missing > 0 {
            let step = Step::Lost { records: core::mem::take(&mut self.missing) };
            let size = step.size();
            self.append(at, step, size);
        }
    }

    fn append(&mut self, at: Time, step: Step, size: usize) {
        self.queue.push_back(Record::new(self.next, at, step));
        self.next += 1;
        self.bytes += size;
    }

    fn pop(&mut self, now: Time) -> Option<Record> {
        if self.queue.is_empty() {
            // Nothing may follow that would say so.
            self.tell_missing(now);
        }
        let record = self.queue.pop_front()?;
        self.bytes = self.bytes.saturating_sub(record.step.size());
        Some(record)
    }
}

impl Connection {
    /// Begins or ceases to keep what is said and heard; see [`Config::tap`](super::Config::tap). What was kept and not
    /// taken is forgotten when it ceases.
    pub fn set_tap(&mut self, on: bool) {
        match (on, &self.tap) {
            (true, None) => self.tap = Some(Tap::new(self.config.limits.max_tap_bytes)),
            (false, _) => self.tap = None,
            (true, Some(_)) => {}
        }
    }

    /// The next record, in the order in which things were seen; `None` when there is none now.
    pub fn poll_tap(&mut self, now: Time) -> Option<Record> {
        self.tap.as_mut()?.pop(now)
    }

    /// Whether [`poll_tap`](Self::poll_tap) would yield anything.
    #[must_use]
    pub fn has_tapped(&self) -> bool {
        self.tap.as_ref().is_some_and(|tap| !tap.queue.is_empty() || tap.missing > 0)
    }

    /// The request for the time of day that has this id.
    pub(crate) fn time_wanted_by(&self, id: &RpcId) -> Option<ServerRequestKey> {
        self.time_wanted.iter().find(|(_, asked)| *asked == id).map(|(key, _)| *key)
    }

    /// The request that starts a turn.
    pub(crate) fn start_of(&self, turn: TurnKey) -> Option<RequestKey> {
        self.turns.get(&turn)?.start
    }

    /// Keeps a step, if anybody wants it and it is not too late to change anything. What it costs to make it is paid only then.
    #[inline]
    pub(super) fn tap(&mut self, now: Time, step: impl FnOnce() -> Step) {
        if let (Some(tap), None) = (&mut self.tap, self.link.closed()) {
            tap.push(now, step());
        }
    }

    /// Keeps a step of which nobody said when it was.
    pub(super) fn tap_untimed(&mut self, step: impl FnOnce() -> Step) {
        if let (Some(tap), None) = (&mut self.tap, self.link.closed()) {
            tap.push(tap.last, step());
        }
    }

    #[inline]
    pub(super) fn tap_frame(&mut self, now: Time, frame: &Frame<'_>) {
        self.tap(now, || {
            let (bytes, part) = match *frame {
                Frame::Line(line) => (line, Part::Whole),
                Frame::Unfinished(line) => (line, Part::Cut),
                Frame::Oversized { head, length } => (head, Part::Head(length)),
            };
            Step::Received(Line { bytes: bytes.into(), part })
        });
    }

    /// Keeps the line that was appended to what is to be written, from `start` on.
    #[inline]
    pub(super) fn tap_sent(&mut self, now: Time, out: &[u8], start: usize) {
        self.tap(now, || {
            let line = out.get(start..).unwrap_or_default();
            Step::Sent(Line::new(line.strip_suffix(b"\n").unwrap_or(line)))
        });
    }
}
