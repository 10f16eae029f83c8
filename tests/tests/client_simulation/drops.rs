//! Every future of the client, dropped after every number of polls.

use crate::{
    bounded, naming,
    operations::{Operation, operations},
    server::script,
    world::{TaskKey, World, assert_tables_are_empty},
};
use std::{cell::Cell, future::Future, rc::Rc, time::Duration};
use turnwire_core::{
    client::{Codex, Turn, TurnRequest},
    connection::Config,
    protocol::ThreadStart,
    turn::{InterruptOutcome, State},
};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

/// How many bytes move at once: so few that no line comes in one piece.
const MOST: usize = 40;

fn a_turn_that_holds(world: &mut World, codex: &Codex) -> Turn {
    let codex = codex.clone();
    world.block_on(async move {
        let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
        thread.turn("long").await.expect("a turn")
    })
}

/// Runs one of them, drops it after so many polls, and uses the session. False when it was done before.
fn drop_after(Operation { make, with_turn, .. }: &Operation, polls: usize) -> bool {
    let mut world = World::new(script(), Config::default(), polls as u64, MOST);
    let codex = world.codex();
    let long = with_turn.then(|| a_turn_that_holds(&mut world, &codex));
    let is_done = Rc::new(Cell::new(false));
    let noted = Rc::clone(&is_done);
    let future = make(codex.clone(), long.clone());
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
    assert_tables_are_empty(&codex);
    !is_done.get()
}

#[test]
fn every_future_can_be_dropped_after_every_number_of_polls() {
    bounded(120, || {
        let mut points = 0;
        for operation in operations() {
            let name = operation.name;
            let mut polls = 0;
            // Those that end when the session does are dropped a number of times.
            let most = if operation.is_endless { 40 } else { 2_000 };
            let drop_at = |polls| naming(&format!("{name} after {polls} polls"), || drop_after(&operation, polls));
            while polls < most && drop_at(polls) {
                polls += 1;
            }
            assert!(polls > 1, "{name} was dropped at {polls} points");
            assert!(polls < most || operation.is_endless, "{name} does not end");
            points += polls;
        }
        assert!(points > 700, "{points}");
    });
}

/// Polls a task so many times, and lets the world move a little in between. Whether it is done.
fn poll_some(world: &mut World, task: TaskKey, polls: usize) -> bool {
    for n in 0..polls {
        if n > 0 {
            world.step();
        }
        if world.poll(task) {
            return true;
        }
    }
    false
}

/// Begins something with a turn that holds, drops it right after so many polls, and sees what became of the turn when nothing
/// moves any more. `late`: the turn runs by then; otherwise it has only just been named.
fn leave_after<F: Future<Output = ()> + 'static>(
    polls: usize,
    late: bool,
    make: impl FnOnce(Turn) -> F,
) -> (World, Turn, bool) {
    let mut world = World::new(script(), Config::default(), polls as u64, MOST);
    let codex = world.codex();
    let turn = a_turn_that_holds(&mut world, &codex);
    if late {
        world.run_until_quiet();
    }
    let task = world.spawn(make(turn.clone()));
    let is_done = poll_some(&mut world, task, polls);
    world.drop_task(task);
    world.run_until_quiet();
    (world, turn, is_done)
}

#[test]
fn an_interrupt_that_was_begun_goes_on_when_its_future_is_dropped() {
    bounded(60, || {
        for late in [false, true] {
            let mut polls = 0;
            loop {
                let interrupt = |turn: Turn| async move { drop(turn.interrupt().await) };
                let (mut world, turn, is_done) = leave_after(polls, late, interrupt);
                if polls == 0 {
                    assert_eq!((world.received("turn/interrupt"), turn.state()), (0, State::Running));
                } else {
                    // Nobody asks again.
                    assert_eq!((world.received("turn/interrupt"), turn.state()), (1, State::Interrupted), "{polls}");
                    let result = world.block_on(async move { turn.result().await });
                    assert_eq!(result.expect("interrupted").status, State::Interrupted);
                    assert_eq!(world.received("turn/interrupt"), 1);
                    assert_tables_are_empty(&world.codex());
                }
                if is_done {
                    break;
                }
                polls += 1;
            }
            assert!(polls > 3, "dropped at {polls} points");
        }
    });
}

#[test]
fn who_has_a_turn_stopped_hears_of_it_though_whoever_ran_it_gave_up_meanwhile() {
    bounded(30, || {
        // One that is named long after its deadline, and can be interrupted only then.
        let unnamed = Script::new().reply_delay(5_000);
        // One whose server takes its time with the interrupt.
        let slow =
            Script::new().turn(TurnPlan::new().hold()).rule(Rule::on("turn/interrupt").delay(5_000).default_reply());
        for (name, script) in [("unnamed", unnamed), ("slow", slow)] {
            // Both are woken when the deadline passes, and either may be the first.
            for seed in 0..20 {
                naming(&format!("{name}, seed {seed}"), || stop_what_times_out(script.clone(), seed));
            }
        }
    });
}

fn stop_what_times_out(script: Script, seed: u64) {
    let mut world = World::new(script, Config::default(), seed, MOST);
    let codex = world.codex();
    let thread = world.block_on({
        let codex = codex.clone();
        async move { codex.thread_start(ThreadStart::new()).await.expect("a thread") }
    });
    let (_, ran) = world.ask({
        let thread = thread.clone();
        async move { thread.run(TurnRequest::new("Go.").deadline(Duration::from_millis(100))).await }
    });
    let (stopping, stopped) = world.ask(async move { thread.stop().await });
    while world.step() {}
    let error = ran.take().expect("the deadline passed").expect_err("in vain");
    assert!(error.is_timeout(), "{error:?}");
    assert_eq!(world.received("turn/interrupt"), 1);
    assert!(world.is_done(stopping), "the server has ended the turn, and who had it stopped waits");
    let stopped = stopped.take().expect("it is done").expect("the server took it");
    assert_eq!(stopped.outcome, InterruptOutcome::Acknowledged);
    world.run_until_quiet();
    assert_tables_are_empty(&codex);
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
            assert_tables_are_empty(&codex);
        }
    });
}
