//! The client over a transport in memory, on an executor of one thread that a seed steers: futures dropped at any of their
//! await points, handles and the driver dropped in any order, wakes that are neither lost nor doubled nor under the lock.
//!
//! `TURNWIRE_SEEDS=100000 cargo test --release -p turnwire-testkit --test client_simulation` runs more seeds than usual.

#![allow(clippy::print_stderr)] // The seed that fails.

mod crowd;
mod drops;
mod merging;
mod sets;
mod wakes;
mod world;

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

/// Runs something from many seeds, `usual` unless another number is asked for, and names the one that fails. Gives what each came
/// to, and whether they were as many as usual, so that something can be said of all of them.
fn of_seeds<T>(usual: u64, run: impl Fn(u64) -> T) -> (Vec<T>, bool) {
    let number = |name: &str| std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"));
    let seeds = match number("TURNWIRE_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("TURNWIRE_SEEDS").unwrap_or(usual),
    };
    let are_many = seeds.end - seeds.start >= usual;
    let named = |seed| match catch_unwind(AssertUnwindSafe(|| run(seed))) {
        Ok(outcome) => outcome,
        Err(cause) => {
            eprintln!("seed {seed} fails");
            resume_unwind(cause);
        }
    };
    (seeds.map(named).collect(), are_many)
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
