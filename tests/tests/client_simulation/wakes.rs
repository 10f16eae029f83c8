//! One edge, one wake.

use crate::{
    bounded,
    world::{DRIVER, World, assert_tables_are_empty},
};
use turnwire_core::{connection::Config, protocol::ThreadStart};
use turnwire_testkit::scripted::{Script, TurnPlan};

#[test]
fn an_answer_wakes_who_waits_for_it_once() {
    bounded(30, || {
        let mut world = World::new(Script::new(), Config::default(), 1, 7);
        let codex = world.codex();
        world.block_on({
            let codex = codex.clone();
            async move { codex.ready().await.expect("ready") }
        });
        let task = world.spawn(async move { drop(codex.models().await) });
        assert!(!world.poll(task));
        assert_eq!(world.counts(task), (0, 1));
        // Others are busy: it is not polled when it is woken.
        world.starved = Some(task);
        world.run_until_quiet();
        assert_eq!(world.counts(task), (1, 1));
        world.starved = None;
        world.run_until_done(task);
        assert_tables_are_empty(&world.codex());
    });
}

#[test]
fn a_thousand_events_wake_a_reader_who_sleeps_once() {
    bounded(30, || {
        let plan = TurnPlan::new().text("x".repeat(1000)).deltas(1000);
        let mut world = World::new(Script::new().turn(plan), Config::default(), 2, 4096);
        let codex = world.codex();
        let turn = world.block_on(async move {
            let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
            thread.turn("Go.").await.expect("a turn")
        });
        let task = world.spawn(async move { while turn.next().await.is_some() {} });
        // Until it has read what there was.
        while world.counts(task).1 == 0 || !world.poll(task) && world.counts(task).1 < 3 {
            world.step();
        }
        let (before, _) = world.counts(task);
        world.starved = Some(task);
        world.run_until_quiet();
        assert!(world.counts(task).0 <= before + 1, "{:?}, {before} before", world.counts(task));
        world.starved = None;
        world.run_until_done(task);
        assert_tables_are_empty(&world.codex());
    });
}

#[test]
fn a_hundred_commands_wake_a_driver_who_sleeps_once() {
    bounded(30, || {
        let mut world = World::new(Script::new(), Config::default(), 3, 4096);
        let codex = world.codex();
        world.block_on({
            let codex = codex.clone();
            async move { codex.ready().await.expect("ready") }
        });
        world.run_until_quiet();
        let (before, _) = world.counts(DRIVER);
        world.starved = Some(DRIVER);
        let tasks: Vec<_> = (0..100)
            .map(|_| {
                let codex = codex.clone();
                world.spawn(async move { drop(codex.models().await) })
            })
            .collect();
        for task in &tasks {
            world.poll(*task);
        }
        assert_eq!(world.counts(DRIVER).0, before + 1);
        world.starved = None;
        for task in tasks {
            world.run_until_done(task);
        }
        world.run_until_quiet();
        assert_tables_are_empty(&codex);
    });
}

#[test]
fn rt_08_of_turns_that_nobody_listened_to_nothing_is_kept() {
    bounded(100, || {
        let script = Script::new().turn(TurnPlan::new().text("Nobody reads this.").deltas(2));
        let mut world = World::new(script, Config::default(), 4, 1 << 16);
        let codex = world.codex();
        let thread = world.block_on({
            let codex = codex.clone();
            async move { codex.thread_start(ThreadStart::new()).await.expect("a thread") }
        });
        let mut most = 0;
        for n in 0..2_000 {
            let turn = world.block_on({
                let thread = thread.clone();
                async move { thread.turn("Go.").await.expect("a turn") }
            });
            // Dropped at once, read or not.
            if n % 2 == 0 {
                drop(world.block_on({
                    let turn = turn.clone();
                    async move { turn.next().await }
                }));
            }
            drop(turn);
            while world.step() {}
            world.forget_tasks();
            most = most.max(codex.counters().unread_bytes);
        }
        assert_tables_are_empty(&codex);
        assert!(most < 1 << 20, "at most {most}");
    });
}
