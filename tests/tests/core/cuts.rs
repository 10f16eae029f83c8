//! Recorded talks that are cut off: at every byte, with every wait ended.
//!
//! The every-byte test plays a talk anew for each cut, so its time grows with the square of the length. What is too long
//! for a normal run is cut at every line's edge, one byte beside it, and at bytes in between, evenly; with
//! `TURNWIRE_CUTS=every` (and `--release`) all of them are cut at every byte.

use crate::cut::{Pieces, every, numbers, play, talks};
use std::thread;

/// How many bytes may be fed for one talk in a normal run.
const BUDGET: usize = 1 << 20;
/// What is no longer than this is cut at every byte in any run.
const SHORT: usize = 6_000;

#[test]
fn fr_01_a_talk_that_is_cut_at_any_byte_ends_every_wait() {
    let talks = talks();
    let next = std::sync::atomic::AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(talk) = talks.get(next.fetch_add(1, std::sync::atomic::Ordering::Relaxed)) {
                    let length = talk.len();
                    let stride = if every() || length <= SHORT { 1 } else { (length * length / 2 / BUDGET).max(1) };
                    let (edges, mut last) = (talk.edges(), Vec::new());
                    for cut in 0..=length {
                        let is_edge = edges.binary_search(&cut).is_ok();
                        if !is_edge && cut % stride != 0 {
                            continue;
                        }
                        let outcomes = play(talk, cut, Pieces::Lines);
                        // Between two lines' ends nothing that was promised changes, but for a line that lacks only its end.
                        if !is_edge && edges.binary_search(&(cut + 1)).is_err() && last.len() == outcomes.len() {
                            assert_eq!(outcomes, last, "{} at {cut}", talk.name);
                        }
                        last = outcomes;
                    }
                }
            });
        }
    });
}

#[test]
fn fr_01_a_talk_that_is_cut_ends_the_same_however_its_bytes_came() {
    let talks = talks();
    let mut number = numbers(20);
    for talk in talks.iter().filter(|talk| talk.len() < 60_000) {
        let length = talk.len();
        for cut in [number(length), number(length), length] {
            assert_eq!(play(talk, cut, Pieces::Bytes), play(talk, cut, Pieces::Lines), "{} at {cut}", talk.name);
        }
    }
}
