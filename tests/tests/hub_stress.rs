//! Many threads on one session: each waits on its own, gives up now and then, and none is forgotten.
//!
//! This is for what the simulation cannot show, which has one thread. The lock and the wakers are the standard library's, so
//! neither loom nor shuttle can steer them; many threads and a bound of time have to do.

#[allow(dead_code)]
#[path = "conformance/pipe.rs"]
mod pipe;

use std::{
    future::{Future, poll_fn},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Context, Wake, Waker},
    thread,
    time::Duration,
};
use turnwire_core::protocol::ThreadStart;
use turnwire_smol::{Codex, Event};
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

/// A waker that counts, and says whether somebody still keeps it.
#[derive(Default)]
struct Counting(AtomicUsize);

impl Wake for Counting {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

type Waits = Pin<Box<dyn Future<Output = bool> + Send>>;

#[test]
fn hundreds_wait_for_the_same_each_is_woken_once_and_who_gives_up_is_forgotten() {
    let (done, ended) = mpsc::channel();
    thread::spawn(move || {
        let (reader, writer) = pipe::scripted(Script::new().turn(TurnPlan::new().text("Half").hold()));
        let (codex, driver) = turnwire_smol::prepare(reader, writer, turnwire_smol::Config::default());
        let driver = thread::spawn(|| smol::block_on(driver));
        let turn = smol::block_on(async {
            let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
            let turn = thread.turn("Go.").await.expect("a turn");
            while !matches!(turn.next().await, Some(Event::Delta(_))) {}
            turn
        });
        // What there is still to read of a turn that goes on for ever.
        smol::block_on(smol::future::or(async { while turn.next().await.is_some() {} }, async {
            smol::Timer::after(Duration::from_millis(300)).await;
        }));
        for kind in ["closed", "result", "next", "polled"] {
            let wait = |_| -> Waits {
                let (codex, turn) = (codex.clone(), turn.clone());
                match kind {
                    "closed" => Box::pin(async move { !codex.closed().await.to_string().is_empty() }),
                    "result" => Box::pin(async move { turn.result().await.is_err() }),
                    // Two turn up for each event of the end: what matters is that all of them come to know the end.
                    "next" => Box::pin(async move {
                        while turn.next().await.is_some() {}
                        true
                    }),
                    _ => Box::pin(async move {
                        while poll_fn(|cx| turn.poll_next(cx)).await.is_some() {}
                        true
                    }),
                }
            };
            let counts: Vec<Arc<Counting>> = (0..300).map(|_| Arc::default()).collect();
            let mut waits: Vec<Waits> = (0..300).map(wait).collect();
            for (count, wait) in counts.iter().zip(&mut waits) {
                let waker = Waker::from(Arc::clone(count));
                assert!(wait.as_mut().poll(&mut Context::from_waker(&waker)).is_pending(), "{kind}");
            }
            thread::sleep(Duration::from_millis(100));
            // One who had to make room for another would be woken.
            let woken = counts.iter().filter(|count| count.0.load(Ordering::SeqCst) > 0).count();
            assert_eq!(woken, 0, "{kind}: nothing has happened");
            waits.truncate(150);
            let kept = counts[150..].iter().filter(|count| Arc::strong_count(count) > 1).count();
            assert_eq!(kept, 0, "{kind}: they have given up");
            if kind == "polled" {
                smol::block_on(codex.close());
                for (count, wait) in counts.iter().zip(waits) {
                    assert!(count.0.load(Ordering::SeqCst) > 0, "it is woken by the end");
                    assert!(smol::block_on(wait));
                }
                assert!(counts[150..].iter().all(|count| count.0.load(Ordering::SeqCst) == 0));
            }
        }
        drop((turn, codex));
        driver.join().expect("no panic");
        done.send(()).expect("somebody waits");
    });
    ended.recv_timeout(Duration::from_secs(60)).expect("nobody waits for ever");
}
