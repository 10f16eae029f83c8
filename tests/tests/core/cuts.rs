//! Recorded talks that are cut off: at every byte, with every wait ended.
//!
//! A talk is fed byte by byte, and ended on a clone after each. What that comes to grows with the talk's length and with what
//! it leaves in the connection, so in a normal run long talks are ended at every line's edge, one byte beside it, and at bytes
//! in between, evenly; with `TURNWIRE_CUTS=every` (and `--release`) all of them at every byte. What comes of an end at an edge
//! or beside it is compared with a connection that had no past but the talk up to there.

use crate::cut::{Pieces, end_everywhere, every, numbers, play, talks};
use std::{
    sync::atomic::{AtomicUsize, Ordering},
    thread,
};

/// At how many bytes one talk is ended in a normal run, its lines' edges apart.
const CUTS: usize = 500;
/// Which of the ends at an edge or beside it are compared with a connection of their own in a normal run.
const COMPARED: usize = 31;

#[test]
#[allow(clippy::print_stderr, reason = "how much was cut, for whoever asks")]
fn fr_01_a_talk_that_is_cut_at_any_byte_ends_every_wait() {
    let talks = talks();
    let (next, cuts) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                while let Some(talk) = talks.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let stride = if every() { 1 } else { talk.len().div_ceil(CUTS) };
                    let edges = talk.edges();
                    let is_edge = |cut: usize| edges.binary_search(&cut).is_ok();
                    let is_beside = |cut: usize| is_edge(cut + 1) || cut > 0 && is_edge(cut - 1);
                    let mut before = None;
                    let chosen = |cut| is_edge(cut) || is_beside(cut) || cut % stride == 0;
                    end_everywhere(talk, chosen, |cut, outcomes| {
                        cuts.fetch_add(1, Ordering::Relaxed);
                        // Within a line nothing changes of what was promised, but for a line that lacks only its end.
                        if is_edge(cut) || is_beside(cut) {
                            let is_compared = every() || cut % COMPARED == 0;
                            if is_compared && before.as_ref().is_none_or(|(at, _)| *at != cut) {
                                assert_eq!(outcomes, play(talk, cut, Pieces::Lines), "{} at {cut}", talk.name);
                            }
                        } else if let Some((_, before)) = &before {
                            assert_eq!(&outcomes, before, "{} at {cut}", talk.name);
                        }
                        before = Some((cut, outcomes));
                    });
                }
            });
        }
    });
    let (cuts, bytes) = (cuts.into_inner(), talks.iter().map(|talk| talk.len()).sum::<usize>());
    assert!(cuts >= if every() { bytes } else { 20_000 }, "{cuts} cuts of {bytes} bytes");
    eprintln!("{} talks of {bytes} bytes, ended at {cuts} points", talks.len());
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
