//! One direction of the simulated wire: bytes in order, each piece due at some time, with an end after the last.

use std::collections::VecDeque;
use std::time::Duration;

use super::rng::Rng;

/// What the wire does to the bytes, within these bounds, as the seed decides. `Default`: nothing but `latency`, which is
/// one millisecond.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Faults {
    /// The least time that each byte takes.
    pub latency: Duration,
    /// What it takes longer at most.
    pub jitter: Duration,
    /// Cut what is written into pieces of random length, one byte included.
    pub split: bool,
    /// Join pieces that are due, so that one read holds the end of one message and the beginning of another.
    pub coalesce: bool,
    /// One write in so many stalls its direction; zero: none.
    pub stall_one_in: u64,
    /// How long such a stall lasts at most.
    pub stall: Duration,
    /// After so many bytes from the server to the client both directions are gone, in the middle of whatever it is.
    pub cut_after: Option<u64>,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            latency: Duration::from_millis(1),
            jitter: Duration::ZERO,
            split: false,
            coalesce: false,
            stall_one_in: 0,
            stall: Duration::ZERO,
            cut_after: None,
        }
    }
}

impl Faults {
    /// Everything that keeps the bytes: pieces, joined pieces, jitter and stalls.
    #[must_use]
    pub fn rough() -> Self {
        Self {
            jitter: Duration::from_millis(20),
            split: true,
            coalesce: true,
            stall_one_in: 25,
            stall: Duration::from_millis(400),
            ..Self::default()
        }
    }

    /// Pieces and joined pieces, at the same times as without them.
    #[must_use]
    pub fn pieces() -> Self {
        Self { split: true, coalesce: true, ..Self::default() }
    }

    /// Sets `cut_after`.
    #[must_use]
    pub fn cut_after(mut self, bytes: u64) -> Self {
        self.cut_after = Some(bytes);
        self
    }
}

/// Which way bytes go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// From the server to the client.
    ToClient,
    /// From the client to the server.
    ToServer,
}

/// What arrives.
pub(super) enum Arrival {
    Bytes(Vec<u8>),
    End,
}

pub(super) struct Lane {
    pieces: VecDeque<(Duration, Vec<u8>)>,
    /// When the end arrives, once there is one. Not before the last piece.
    end: Option<Duration>,
    /// The end has arrived.
    is_over: bool,
    /// Nothing arrives before that.
    stalled_until: Duration,
    /// Due times never go back, since bytes do not overtake each other.
    last_due: Duration,
    /// How many bytes arrived.
    arrived: u64,
    rng: Rng,
}

impl Lane {
    pub(super) fn new(rng: Rng) -> Self {
        Self {
            pieces: VecDeque::new(),
            end: None,
            is_over: false,
            stalled_until: Duration::ZERO,
            last_due: Duration::ZERO,
            arrived: 0,
            rng,
        }
    }

    pub(super) fn write(&mut self, now: Duration, bytes: &[u8], faults: &Faults) {
        if self.end.is_some() || self.is_over {
            return;
        }
        if self.rng.one_in(faults.stall_one_in) {
            let stall = self.rng.up_to(faults.stall);
            self.stall(now, stall);
        }
        let mut rest = bytes;
        while !rest.is_empty() {
            let most = match faults.split {
                false => rest.len(),
                // Mostly pieces of all sizes, now and then byte by byte.
                true if self.rng.one_in(16) => 1,
                true => 1 + self.rng.index(rest.len().min(400)),
            };
            let (piece, after) = rest.split_at(most.min(rest.len()));
            rest = after;
            let due = self.due(now, faults);
            self.pieces.push_back((due, piece.to_vec()));
        }
    }

    pub(super) fn end(&mut self, now: Duration, faults: &Faults) {
        if self.end.is_none() {
            self.end = Some(self.due(now, faults));
        }
    }

    pub(super) fn stall(&mut self, now: Duration, time: Duration) {
        self.stalled_until = self.stalled_until.max(now.saturating_add(time));
    }

    /// Loses what is on its way; the end arrives now.
    pub(super) fn cut(&mut self, now: Duration) {
        self.pieces.clear();
        self.stalled_until = now;
        if !self.is_over {
            self.end = Some(now);
        }
    }

    pub(super) fn next_due(&self) -> Option<Duration> {
        let due = self.pieces.front().map(|(due, _)| *due).or(if self.is_over { None } else { self.end })?;
        Some(due.max(self.stalled_until))
    }

    pub(super) fn arrive(&mut self, now: Duration, faults: &Faults) -> Option<Arrival> {
        if self.next_due().is_none_or(|due| due > now) {
            return None;
        }
        let Some((_, mut bytes)) = self.pieces.pop_front() else {
            self.is_over = true;
            return Some(Arrival::End);
        };
        while faults.coalesce && self.pieces.front().is_some_and(|(due, _)| *due <= now) && !self.rng.one_in(3) {
            bytes.extend(self.pieces.pop_front().into_iter().flat_map(|(_, more)| more));
        }
        self.arrived += bytes.len() as u64;
        Some(Arrival::Bytes(bytes))
    }

    pub(super) fn arrived(&self) -> u64 {
        self.arrived
    }

    fn due(&mut self, now: Duration, faults: &Faults) -> Duration {
        let due = now + faults.latency + self.rng.up_to(faults.jitter);
        self.last_due = self.last_due.max(due);
        self.last_due
    }
}
