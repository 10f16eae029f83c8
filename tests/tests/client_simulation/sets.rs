//! Many turns that are read through a set, which is now and then dropped or passed by.

use crate::{
    bounded, of_seeds, time_for_seeds,
    world::{World, assert_tables_are_empty},
};
use std::{
    cell::Cell,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use turnwire_core::{
    client::{Codex, Event, Turn, TurnSet},
    connection::Config,
    protocol::ThreadStart,
    turn::State,
};
use turnwire_testkit::{
    scripted::{Rule, Script, TurnPlan},
    sim::Rng,
};

/// How many seeds are run as a rule.
const SEEDS: u64 = 200;

/// One of the turns, and what was heard of it.
struct Followed {
    turn: Turn,
    answer: String,
    text: String,
    end: Option<State>,
}

impl Followed {
    fn hear(&mut self, event: Event) {
        assert_eq!(self.end, None, "an event after the end: {event:?}");
        match event {
            Event::Delta(delta) => self.text.push_str(&delta.text),
            Event::Ended(state) => self.end = Some(state),
            Event::Gap(_) => panic!("a gap, though the bounds are far"),
            _ => {}
        }
    }
}

fn answer(n: usize) -> String {
    (0..20).map(|word| format!("{n}.{word} ")).collect()
}

/// Follows several turns to their ends, in every way that there is. How many completed.
async fn follow(codex: Codex, mut rng: Rng) -> usize {
    let mut followed: Vec<Followed> = Vec::new();
    let mut set = TurnSet::new();
    let wanted = 1 + rng.index(12);
    let mut begun = 0;
    loop {
        if begun < wanted && (followed.is_empty() || rng.one_in(3)) {
            begun += 1;
            let Ok(thread) = codex.thread_start(ThreadStart::new()).await else { continue };
            let n = rng.index(6);
            let Ok(turn) = thread.turn(format!("<{n}>")).await else { continue };
            set.push(turn.clone());
            followed.push(Followed { turn, answer: answer(n), text: String::new(), end: None });
            continue;
        }
        match rng.below(12) {
            // Somebody else reads, and does not wait.
            0 | 1 => {
                let some = rng.index(followed.len().max(1));
                let Some(one) = followed.get_mut(some) else { break };
                let found = one.turn.poll_next(&mut Context::from_waker(Waker::noop()));
                if let Poll::Ready(Some(event)) = found {
                    one.hear(event);
                }
            }
            // What the set had taken is the turns' still.
            2 => set = followed.iter().filter(|one| one.end.is_none()).map(|one| one.turn.clone()).collect(),
            _ => match set.next().await {
                Some((turn, event)) => {
                    let one = followed.iter_mut().find(|one| one.turn.thread_id() == turn.thread_id());
                    one.expect("one of them").hear(event);
                }
                None if begun == wanted => break,
                None => {}
            },
        }
    }
    assert!(set.is_empty());
    for one in &followed {
        match one.end.expect("a turn has an end") {
            State::Completed => assert_eq!(one.text, one.answer),
            _ => assert!(one.answer.starts_with(&one.text), "{:?} of {:?}", one.text, one.answer),
        }
    }
    followed.iter().filter(|one| one.end == Some(State::Completed)).count()
}

/// One seed. How many turns completed.
fn run(seed: u64) -> usize {
    let mut rng = Rng::new(seed ^ 0x0073_6574_7300);
    let mut script = Script::new().delta_delay(rng.below(20));
    for n in 0..6 {
        script = script.turn(TurnPlan::when(format!("<{n}>")).text(answer(n)).deltas(1 + rng.index(30)));
    }
    if rng.one_in(4) {
        script = script.rule(Rule::at_start().delay(rng.below(600)).die(9));
    }
    let mut config = Config::default();
    config.limits.merge_after = if rng.one_in(2) { Some(1 + rng.index(8)) } else { None };
    let most = *rng.pick(&[40, 700, 1 << 16]).expect("some");
    let mut world = World::new(script, config, seed, most);
    let completed = Rc::new(Cell::new(0));
    let mut followers = Vec::new();
    for _ in 0..1 + rng.index(2) {
        let (codex, completed, fork) = (world.codex(), Rc::clone(&completed), rng.fork());
        followers.push(world.spawn(async move {
            let count = follow(codex, fork).await;
            completed.set(completed.get() + count);
        }));
    }
    let mut step = 0;
    while followers.iter().any(|follower| !world.is_done(*follower)) {
        // Somebody who comes to his turn late has more to read at once.
        let late = rng.one_in(2).then(|| followers.first().copied()).flatten();
        world.starved = late.filter(|late| !world.is_done(*late));
        for _ in 0..rng.below(30) {
            step += 1;
            world.step();
        }
        world.starved = None;
        world.step();
        if world.is_idle() {
            world.assert_no_lost_wake(false);
        }
        assert!(step < 1_000_000, "it does not end");
    }
    world.run_until_quiet();
    assert_tables_are_empty(&world.codex());
    completed.get()
}

#[test]
fn whoever_reads_many_turns_through_a_set_hears_all_of_each_in_order_and_sleeps_while_there_is_nothing() {
    bounded(time_for_seeds(SEEDS, 170), || {
        let (completed, are_many) = of_seeds(SEEDS, run);
        assert!(!are_many || completed.iter().sum::<usize>() >= completed.len(), "{completed:?}");
    });
}
