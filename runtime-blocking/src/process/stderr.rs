//! The last of a process's stderr, in a bounded ring.
//!
//! One thread reads, whatever happens, so the process never blocks on stderr; everybody else only looks.

use std::{
    collections::VecDeque,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

/// A position in a process's stderr, to ask later for what came after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct StderrMark(u64);

/// The ring. Invariant: `ring.len() <= limit`, and the last byte of the ring is byte `total - 1` of stderr.
pub(super) struct Tail {
    ring: Mutex<VecDeque<u8>>,
    limit: usize,
    /// Bytes read so far. Written under the lock of the ring; read without it for marks.
    total: AtomicU64,
}

impl Tail {
    pub(super) fn new(limit: usize) -> Self {
        Self { ring: Mutex::new(VecDeque::new()), limit, total: AtomicU64::new(0) }
    }

    pub(super) fn push(&self, bytes: &[u8]) {
        let mut ring = self.lock();
        let kept = bytes.get(bytes.len().saturating_sub(self.limit)..).unwrap_or_default();
        let room = self.limit - kept.len();
        if ring.len() > room {
            let surplus = ring.len() - room;
            ring.drain(..surplus);
        }
        ring.extend(kept);
        self.total.fetch_add(bytes.len() as u64, Ordering::Release);
    }

    pub(super) fn mark(&self) -> StderrMark {
        StderrMark(self.total.load(Ordering::Acquire))
    }

    /// What came after the mark, as far as it is still kept, with bad UTF-8 replaced.
    pub(super) fn since(&self, mark: StderrMark) -> String {
        let ring = self.lock();
        let total = self.total.load(Ordering::Acquire);
        let wanted = usize::try_from(total.saturating_sub(mark.0)).unwrap_or(usize::MAX);
        let skip = ring.len().saturating_sub(wanted);
        let mut bytes: Vec<u8> = ring.range(skip..).copied().collect();
        drop(ring);
        // A cut in the middle of a character is the ring's doing, not the process's: leave the rest of that character out.
        if total > bytes.len() as u64 {
            let torn = bytes.iter().take(3).take_while(|byte| **byte & 0xC0 == 0x80).count();
            bytes.drain(..torn);
        }
        String::from_utf8_lossy(&bytes).into_owned()
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<u8>> {
        self.ring.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_keeps_the_last_bytes_and_no_more() {
        let tail = Tail::new(5);
        for chunk in ["ab", "cde", "f", "", "gh"] {
            tail.push(chunk.as_bytes());
            assert!(tail.lock().len() <= 5);
        }
        assert_eq!(tail.since(StderrMark(0)), "defgh");
        tail.push(b"0123456789");
        assert_eq!(tail.since(StderrMark(0)), "56789");
    }

    #[test]
    fn a_ring_of_size_zero_keeps_nothing_but_counts() {
        let tail = Tail::new(0);
        tail.push(b"abc");
        assert_eq!(tail.since(StderrMark(0)), "");
        assert_eq!(tail.mark(), StderrMark(3));
    }

    #[test]
    fn what_came_after_a_mark_is_told_as_far_as_it_is_kept() {
        let tail = Tail::new(6);
        tail.push(b"one.");
        let mark = tail.mark();
        assert_eq!(tail.since(mark), "");
        tail.push(b"two");
        assert_eq!(tail.since(mark), "two");
        tail.push(b"three");
        assert_eq!(tail.since(mark), "othree");
        assert_eq!(tail.since(tail.mark()), "");
    }

    #[test]
    fn a_character_torn_by_the_bound_is_left_out_and_bad_bytes_are_replaced() {
        let tail = Tail::new(4);
        tail.push("\u{20ac}ab".as_bytes());
        tail.push(b"c");
        assert_eq!(tail.since(StderrMark(0)), "abc");
        tail.push(b"\xff\xfeok");
        assert_eq!(tail.since(StderrMark(0)), "\u{fffd}\u{fffd}ok");
        let whole = Tail::new(4);
        whole.push(b"\x80a");
        assert_eq!(whole.since(StderrMark(0)), "\u{fffd}a");
    }
}
