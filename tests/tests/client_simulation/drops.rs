//! Every future of the client, dropped after every number of polls.

use crate::{bounded, world::World};
use std::{cell::Cell, future::Future, pin::Pin, rc::Rc};
use turnwire_core::{
    client::{Codex, Turn},
    connection::Config,
    protocol::ThreadStart,
};
use turnwire_testkit::scripted::{Script, TurnPlan};

type Boxed = Pin<Box<dyn Future<Output = ()>>>;
/// Its name, whether a turn that holds runs beside it, and what it is.
type Operation = (&'static str, bool, fn(Codex, Option<Turn>) -> Boxed);

fn script() -> Script {
    Script::new()
        .reply_delay(20)
        .started_delay(20)
        .delta_delay(5)
        .turn(TurnPlan::when("short").text("A few words.").deltas(3))
        .turn(TurnPlan::when("long").text("More of them").deltas(2).hold())
}

/// How many bytes move at once: so few that no line comes in one piece.
const MOST: usize = 40;

/// What may be dropped.
fn operations() -> Vec<Operation> {
    fn turn(turn: Option<Turn>) -> Turn {
        turn.expect("a turn that holds")
    }
    vec![
        ("ready", false, |codex, _| Box::pin(async move { drop(codex.ready().await) })),
        ("request", false, |codex, _| Box::pin(async move { drop(codex.models().await) })),
        ("request_raw", false, |codex, _| Box::pin(async move { drop(codex.request_raw("model/list", ()).await) })),
        ("thread_start", false, |codex, _| Box::pin(async move { drop(codex.thread_start(ThreadStart::new()).await) })),
        ("run", false, |codex, _| {
            Box::pin(async move {
                let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
                drop(thread.run("short").await);
            })
        }),
        ("turn, next, result", false, |codex, _| {
            Box::pin(async move {
                let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
                let mut events = thread.events();
                let turn = thread.turn("short").await.expect("a turn");
                while turn.next().await.is_some() {}
                drop(events.next().await);
                drop(turn.result().await);
            })
        }),
        ("a second reader", true, |_, long| {
            Box::pin(async move {
                let mut events = turn(long).subscribe();
                drop(events.next().await);
            })
        }),
        ("steer", true, |_, long| Box::pin(async move { drop(turn(long).steer("And this.").await) })),
        ("interrupt", true, |_, long| Box::pin(async move { drop(turn(long).interrupt().await) })),
        ("result", true, |_, long| Box::pin(async move { drop(turn(long).result().await) })),
        ("closed", false, |codex, _| Box::pin(async move { drop(codex.closed().await) })),
        ("events", false, |codex, _| {
            Box::pin(async move {
                let mut events = codex.events();
                while events.next().await.is_some() {}
            })
        }),
    ]
}

/// Runs one of them, drops it after so many polls, and uses the session. False when it was done before.
fn drop_after(what: fn(Codex, Option<Turn>) -> Boxed, with_turn: bool, polls: usize) -> bool {
    let mut world = World::new(script(), Config::default(), polls as u64, MOST);
    let codex = world.codex();
    let long = with_turn.then(|| {
        let codex = codex.clone();
        world.block_on(async move {
            let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
            thread.turn("long").await.expect("a turn")
        })
    });
    let is_done = Rc::new(Cell::new(false));
    let noted = Rc::clone(&is_done);
    let future = what(codex.clone(), long.clone());
    let task = world.spawn(async move {
        future.await;
        noted.set(true);
    });
    for _ in 0..polls {
        // Polled whether woken or not, and the world moves a little in between.
        if world.poll(task) {
            break;
        }
        world.step();
    }
    world.drop_task(task);
    // The session is as good as before.
    let answers = world.block_on({
        let codex = codex.clone();
        async move { codex.models().await }
    });
    assert!(answers.is_ok(), "{answers:?}");
    let result = world.block_on({
        let codex = codex.clone();
        async move { codex.thread_start(ThreadStart::new()).await.expect("a thread").run("short").await }
    });
    assert_eq!(result.expect("completed").final_response.as_deref(), Some("A few words."));
    if let Some(long) = long {
        drop(world.block_on(async move { long.interrupt().await }));
    }
    world.run_until_quiet();
    let left = codex.counters();
    let tables = (left.requests, left.turns, left.threads, left.subscriptions, left.unread_bytes);
    assert_eq!(tables, (0, 0, 0, 0, 0), "{left:?}");
    !is_done.get()
}

#[test]
fn every_future_can_be_dropped_after_every_number_of_polls() {
    bounded(120, || {
        let mut points = 0;
        for (name, with_turn, what) in operations() {
            let mut polls = 0;
            // Those that end when the session does are dropped a number of times.
            let most = if ["closed", "events", "result"].contains(&name) { 40 } else { 2_000 };
            while polls < most && drop_after(what, with_turn, polls) {
                polls += 1;
            }
            assert!(polls > 1, "{name} was dropped at {polls} points");
            points += polls;
        }
        assert!(points > 200, "{points}");
    });
}

#[test]
fn closing_goes_on_when_its_future_is_dropped() {
    bounded(60, || {
        for polls in 1..60 {
            let mut world = World::new(script(), Config::default(), polls as u64, MOST);
            let codex = world.codex();
            world.block_on({
                let codex = codex.clone();
                async move { codex.ready().await.expect("ready") }
            });
            let task = world.spawn({
                let codex = codex.clone();
                async move { drop(codex.close().await) }
            });
            for _ in 0..polls {
                if world.poll(task) {
                    break;
                }
                world.step();
            }
            world.drop_task(task);
            world.block_on({
                let codex = codex.clone();
                async move { codex.closed().await }
            });
            world.run_until_quiet();
            assert!(world.is_server_over() && world.open().is_empty());
        }
    });
}
