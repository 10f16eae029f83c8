//! Many threads on one session: each waits on its own, gives up now and then, and none is forgotten.
//!
//! This is for what the simulation cannot show, which has one thread. The lock and the wakers are the standard library's, so
//! neither loom nor shuttle can steer them; many threads and a bound of time have to do.

#[allow(dead_code)]
#[path = "conformance/pipe.rs"]
mod pipe;

use std::{
    future::Future,
    pin::pin,
    sync::mpsc,
    task::{Context, Waker},
    thread,
    time::Duration,
};
use turnwire_core::protocol::ThreadStart;
use turnwire_smol::Codex;
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    sim::Rng,
};

const THREADS: u64 = 8;
const ROUNDS: u64 = 60;

/// Polls once and drops.
fn give_up(future: impl Future) {
    let _ = pin!(future).poll(&mut Context::from_waker(Waker::noop()));
}

async fn work(codex: &Codex, seed: u64) {
    let mut rng = Rng::new(seed);
    let mut thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
    for _ in 0..ROUNDS {
        match rng.below(6) {
            0 => give_up(codex.models()),
            1 => assert!(codex.models().await.is_ok()),
            2 => {
                let turn = thread.turn("Go.").await.expect("a turn");
                let mut count = 0;
                while turn.next().await.is_some() {
                    count += 1;
                }
                assert!(count > 0 && turn.result().await.is_ok());
            }
            3 => {
                let result = thread.run("Go.").await.expect("completed");
                assert_eq!(result.final_response.as_deref(), Some("Many hear this."));
            }
            4 => {
                let mut events = thread.events();
                give_up(events.next());
                assert!(thread.run("Go.").await.is_ok());
            }
            _ => {
                // The turn of a start that was given up goes on, and its thread with it.
                give_up(thread.turn("Go."));
                thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
            }
        }
    }
}

#[test]
fn eight_threads_share_a_session_and_nobody_waits_for_ever() {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let plan = TurnPlan::new().text("Many hear this.").deltas(5);
        let (reader, writer) = pipe::scripted(Script::new().turn(plan));
        let (codex, driver) = turnwire_smol::prepare(reader, writer, turnwire_smol::Config::default());
        let driver = thread::spawn(|| smol::block_on(driver));
        thread::scope(|scope| {
            for seed in 0..THREADS {
                let codex = codex.clone();
                scope.spawn(move || smol::block_on(work(&codex, seed)));
            }
        });
        // What was given up ends by itself.
        smol::block_on(async {
            while codex.counters().turns > 0 {
                codex.models().await.expect("models");
            }
        });
        let left = codex.counters();
        assert_eq!((left.requests, left.turns, left.subscriptions, left.unread_bytes), (0, 0, 0, 0), "{left:?}");
        smol::block_on(codex.close());
        drop(codex);
        assert!(driver.join().is_ok());
        let _ = done.send(());
    });
    ended.recv_timeout(Duration::from_secs(90)).expect("somebody waits for ever, or failed");
}
