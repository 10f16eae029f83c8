//! The client over a transport in memory, on an executor of one thread that a seed steers: futures dropped at any of their
//! await points, handles and the driver dropped in any order, wakes that are neither lost nor doubled nor under the lock.
//!
//! `TURNWIRE_SEEDS=100000 cargo test --release -p turnwire-testkit --test client_simulation` runs more seeds than usual.

#![allow(clippy::print_stderr)] // What fails: a seed, or one of many futures.

mod asked;
mod crowd;
mod drops;
mod merging;
mod operations;
mod reading;
mod server;
mod sets;
mod wakes;
mod world;

use std::{
    ops::Range,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// The seeds that are asked for, `usual` many unless it is said otherwise.
fn seeds(usual: u64) -> Range<u64> {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    match number("TURNWIRE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TURNWIRE_SEEDS").unwrap_or(usual),
    }
}

/// For how long the seeds that are asked for may run, in seconds: `enough` for the usual number, and as much again for as many
/// more.
fn time_for_seeds(usual: u64, enough: u64) -> u64 {
    let seeds = seeds(usual);
    (seeds.end - seeds.start).div_ceil(usual).max(1).saturating_mul(enough)
}

/// Runs something from many seeds, `usual` unless another number is asked for, and names the one that fails. Gives what each came
/// to, and whether they were as many as usual, so that something can be said of all of them.
fn of_seeds<T>(usual: u64, run: impl Fn(u64) -> T) -> (Vec<T>, bool) {
    let seeds = seeds(usual);
    let are_many = seeds.end - seeds.start >= usual;
    (seeds.map(|seed| naming(&format!("seed {seed}"), || run(seed))).collect(), are_many)
}

/// Runs something, and names it if it fails.
fn naming<T>(what: &str, run: impl FnOnce() -> T) -> T {
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(outcome) => outcome,
        Err(cause) => {
            eprintln!("{what} fails");
            resume_unwind(cause);
        }
    }
}

/// Runs something on a thread of its own, and fails if it hangs: what runs under a lock that it wants does.
fn bounded(seconds: u64, scenario: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel();
    let worker = std::thread::spawn(move || {
        scenario();
        let _ = done.send(());
    });
    match ended.recv_timeout(Duration::from_secs(seconds)) {
        Ok(()) => {}
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
        Err(RecvTimeoutError::Disconnected) => {
            if let Err(cause) = worker.join() {
                resume_unwind(cause);
            }
        }
    }
}
