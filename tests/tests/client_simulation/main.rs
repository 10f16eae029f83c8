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
    sync::mpsc::{self, RecvTimeoutError},
    time::Duration,
};

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
                std::panic::resume_unwind(cause);
            }
        }
    }
}
