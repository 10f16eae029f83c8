//! What merging does to what is heard: nothing but the number of pieces.

use crate::{
    bounded,
    world::{World, assert_tables_are_empty},
};
use std::{cell::RefCell, rc::Rc};
use turnwire_core::{client::Event, connection::Config, protocol::ThreadStart};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    sim::Rng,
};

/// One event: a delta as its item and its text, or anything else as its kind.
#[derive(Clone, Debug, PartialEq)]
enum Heard {
    Delta { item: String, text: String, pieces: u64 },
    Other(String),
}

/// What a reader hears of one turn who is kept from reading most of the time.
fn hear(seed: u64, merge_after: Option<usize>) -> (Vec<Heard>, u64) {
    let mut rng = Rng::new(seed);
    let text: String = (0..200).map(|_| *rng.pick(&['a', 'é', '世', '\\', '"', '🎉', '\n']).expect("some")).collect();
    let plan = TurnPlan::new().reasoning("thinking about it").command("ls", "one\ntwo\nthree\n", 0);
    let script = Script::new().turn(plan.text(text).deltas(1 + rng.index(80)));
    let mut config = Config::default();
    config.limits.merge_after = merge_after;
    let mut world = World::new(script, config, seed, 500);
    let codex = world.codex();
    let turn = world.block_on(async move {
        let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
        thread.turn("Go.").await.expect("a turn")
    });
    let heard: Rc<RefCell<Vec<Heard>>> = Rc::default();
    let into = Rc::clone(&heard);
    let task = world.spawn(async move {
        while let Some(event) = turn.next().await {
            into.borrow_mut().push(match event {
                Event::Delta(delta) => Heard::Delta {
                    item: format!("{:?} {}", delta.kind, delta.item),
                    text: delta.text,
                    pieces: delta.merged + 1,
                },
                Event::ItemStarted(item) => Heard::Other(format!("started {}", item.item.kind())),
                Event::ItemCompleted(item) => Heard::Other(format!("completed {}", item.item.kind())),
                Event::Ended(state) => Heard::Other(format!("{state}")),
                Event::Gap(_) => panic!("a gap, though the bounds are far"),
                _ => Heard::Other("other".into()),
            });
        }
    });
    while !world.is_done(task) {
        world.starved = (!world.rng.one_in(9)).then_some(task);
        for _ in 0..20 {
            world.step();
        }
    }
    world.starved = None;
    world.run_until_quiet();
    assert_tables_are_empty(&world.codex());
    let merged = world.codex().counters().merged;
    (heard.take(), merged)
}

/// Adjacent deltas of one item as one.
fn joined(heard: &[Heard]) -> Vec<Heard> {
    let mut all: Vec<Heard> = Vec::new();
    for event in heard {
        match (all.last_mut(), event) {
            (Some(Heard::Delta { item, text, pieces }), Heard::Delta { item: next, text: more, pieces: further })
                if item == next =>
            {
                text.push_str(more);
                *pieces += further;
            }
            _ => all.push(event.clone()),
        }
    }
    all
}

#[test]
fn bp_05_merging_changes_the_number_of_pieces_and_nothing_else() {
    bounded(60, || {
        let mut merged_in_all = 0;
        for seed in 0..40 {
            let (plain, none) = hear(seed, None);
            assert_eq!(none, 0);
            assert!(plain.iter().all(|event| !matches!(event, Heard::Delta { pieces, .. } if *pieces != 1)));
            let (merged, count) = hear(seed, Some(1 + usize::try_from(seed % 5).expect("small")));
            // The same items, the same bytes, the same order, and each piece is accounted for.
            assert_eq!(joined(&merged), joined(&plain), "seed {seed}");
            assert_eq!(plain.len() - merged.len(), usize::try_from(count).expect("small"), "seed {seed}");
            merged_in_all += count;
        }
        assert!(merged_in_all > 100, "{merged_in_all}");
    });
}
