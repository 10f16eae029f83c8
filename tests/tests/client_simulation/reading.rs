//! Streams whose readers give up again and again: what they read in the end is all that there was, once and in order.

use crate::{
    bounded,
    operations::tells_of_end,
    server::{MODELS, script},
    world::{World, assert_tables_are_empty},
};
use serde_json::{Value, json};
use std::{
    cell::RefCell,
    collections::BTreeMap,
    future::{Future, poll_fn},
    pin::pin,
    rc::Rc,
    task::{Context, Poll, Waker},
};
use turnwire_core::{
    client::{Codex, Event, Events, Tree, Turn, TurnSet, Turns},
    connection::Config,
    protocol::{ModelList, ThreadStart, TurnStart, UserInput},
    turn::State,
};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

/// Polls a future so many times, and drops it when it would be polled once more. What it came to, if it did before.
async fn polled<T>(future: impl Future<Output = T>, polls: usize) -> Option<T> {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(None);
        }
        left -= 1;
        future.as_mut().poll(cx).map(Some)
    })
    .await
}

/// How its reader gives up: so often, each time after so many polls.
#[derive(Clone, Copy, Debug)]
struct Wavering {
    times: usize,
    polls: usize,
    /// Whether it is polled though nobody woke it, now and then. Otherwise what it leaves was woken before.
    at_random: bool,
}

impl Wavering {
    /// All that are tried.
    fn all() -> impl Iterator<Item = Self> {
        let times = [1, 3].into_iter();
        times.flat_map(|times| {
            (0..8).flat_map(move |polls| [false, true].map(|at_random| Self { times, polls, at_random }))
        })
    }

    /// What a future comes to that is made anew each time that it was dropped.
    async fn settle<T, S>(self, source: &mut S, mut make: impl AsyncFnMut(&mut S) -> T) -> T {
        for _ in 0..self.times {
            if let Some(found) = polled(make(source), self.polls).await {
                return found;
            }
        }
        make(source).await
    }

    /// Runs a reader to its end.
    fn run<T: 'static>(self, world: &mut World, reader: impl Future<Output = T> + 'static) -> T {
        let (task, slot) = world.ask(reader);
        while !world.is_done(task) {
            if self.at_random && world.rng.one_in(2) && world.poll(task) {
                break;
            }
            assert!(world.step() || world.is_done(task), "quiet, and the reader waits: {self:?}");
        }
        slot.take().expect("it is done")
    }
}

/// What tells of one turn.
enum Reader {
    Events(Events),
    Set(TurnSet),
    Tree(Tree),
    Turn(Turn),
}

impl Reader {
    async fn next(&mut self) -> Option<Event> {
        match self {
            Self::Events(events) => events.next().await,
            Self::Set(set) => set.next().await.map(|(_, event)| event),
            Self::Tree(tree) => tree.next().await.map(|event| event.event),
            Self::Turn(turn) => turn.next().await,
        }
    }

    /// Whether it has an end of its own.
    fn ends(&self) -> bool {
        !matches!(self, Self::Tree(_))
    }
}

/// What was heard of one turn.
#[derive(Debug, Default)]
struct Heard {
    text: String,
    /// How often each item began, and how often it was completed.
    items: BTreeMap<String, (usize, usize)>,
    ends: Vec<State>,
    last_is_end: bool,
}

impl Heard {
    fn hear(&mut self, event: &Event) {
        let item = || event.item_id().expect("an item has an id").to_string();
        match event {
            Event::Delta(delta) => self.text.push_str(&delta.text),
            Event::ItemStarted(_) => self.items.entry(item()).or_default().0 += 1,
            Event::ItemCompleted(_) => self.items.entry(item()).or_default().1 += 1,
            Event::Ended(state) => self.ends.push(*state),
            Event::Gap(_) => panic!("a gap, though the bounds are far"),
            _ => {}
        }
        self.last_is_end = tells_of_end(event);
    }
}

/// The text of all deltas of the turn, in their order.
const TEXT: &str = "I look. one\ntwo\nSo many words, and a few more of them, to be heard once each.";

fn plan() -> TurnPlan {
    let plan = TurnPlan::new().reasoning("I look. ").command("ls", "one\ntwo\n", 0);
    plan.text("So many words, and a few more of them, to be heard once each.").deltas(9)
}

fn read_wavering(wavering: Wavering, make: fn(&Turn, Tree) -> Reader) {
    let script = Script::new().reply_delay(20).started_delay(20).delta_delay(5).turn(plan());
    let mut world = World::new(script, Config::default(), wavering.polls as u64, 40);
    let codex = world.codex();
    let reader = world.block_on(async move {
        let thread = codex.thread_start(ThreadStart::new()).await.expect("a thread");
        let tree = thread.tree();
        make(&thread.turn("Go.").await.expect("a turn"), tree)
    });
    let has_end = reader.ends();
    let heard: Rc<RefCell<Heard>> = Rc::default();
    let into = Rc::clone(&heard);
    wavering.run(&mut world, async move {
        let mut reader = reader;
        while let Some(event) = wavering.settle(&mut reader, async |reader| reader.next().await).await {
            into.borrow_mut().hear(&event);
            if !has_end && tells_of_end(&event) {
                break;
            }
        }
    });
    let heard = heard.take();
    assert_eq!(heard.text, TEXT, "{wavering:?}");
    // What the user said, the thought, the command and the answer.
    assert_eq!(heard.items.len(), 4, "{wavering:?}: {heard:?}");
    assert!(heard.items.values().all(|counts| *counts == (1, 1)), "{wavering:?}: {heard:?}");
    assert!(heard.last_is_end, "{wavering:?}: {heard:?}");
    if has_end {
        assert_eq!(heard.ends, [State::Completed], "{wavering:?}");
    }
    world.run_until_quiet();
    assert_tables_are_empty(&world.codex());
}

#[test]
fn a_reader_of_a_turn_who_gives_up_again_and_again_loses_nothing() {
    bounded(60, || Wavering::all().for_each(|wavering| read_wavering(wavering, |turn, _| Reader::Turn(turn.clone()))));
}

#[test]
fn a_second_reader_of_a_turn_who_gives_up_again_and_again_loses_nothing() {
    bounded(60, || {
        Wavering::all().for_each(|wavering| read_wavering(wavering, |turn, _| Reader::Events(turn.subscribe())));
    });
}

#[test]
fn a_set_whose_reader_gives_up_again_and_again_loses_nothing() {
    bounded(60, || {
        let make = |turn: &Turn, _| Reader::Set(TurnSet::from_iter([turn.clone()]));
        Wavering::all().for_each(|wavering| read_wavering(wavering, make));
    });
}

#[test]
fn a_tree_whose_reader_gives_up_again_and_again_loses_nothing() {
    bounded(60, || Wavering::all().for_each(|wavering| read_wavering(wavering, |_, tree| Reader::Tree(tree))));
}

#[test]
fn a_listener_to_the_session_who_gives_up_again_and_again_loses_nothing() {
    bounded(60, || {
        let said: Vec<String> = (0..20).map(|n| format!("number {n}")).collect();
        let mut rule = Rule::at_start();
        for (n, said) in said.iter().enumerate() {
            // Some come at once, some by themselves.
            rule = rule.delay(if n % 3 == 0 { 0 } else { 10 }).notify("warning", json!({"message": said}));
        }
        for wavering in Wavering::all() {
            // The first of them after the handshake.
            let mut script = Script::new().startup_notices(false);
            script = script
                .rule(Rule { steps: [Rule::at_start().delay(50).steps, rule.steps.clone()].concat(), ..rule.clone() });
            let mut world = World::new(script, Config::default(), wavering.polls as u64, 40);
            let mut events = world.codex().events();
            let wanted = said.len();
            let heard = wavering.run(&mut world, async move {
                let mut heard = Vec::new();
                while heard.len() < wanted {
                    let event = wavering.settle(&mut events, async |events| events.next().await).await;
                    let raw = event.as_ref().and_then(Event::raw).expect("a warning");
                    let params: Value = serde_json::from_str(raw.params_text()).expect("JSON");
                    heard.push(params["message"].as_str().expect("a text").to_owned());
                }
                // There is no more.
                assert!(events.poll_next(&mut Context::from_waker(Waker::noop())).is_pending());
                heard
            });
            assert_eq!(heard, said, "{wavering:?}");
        }
    });
}

#[test]
fn who_waits_for_the_turns_of_others_and_gives_up_again_and_again_misses_none() {
    bounded(60, || {
        for wavering in Wavering::all() {
            let mut world = World::new(script(), Config::default(), wavering.polls as u64, 40);
            let codex = world.codex();
            let thread = world.block_on({
                let codex = codex.clone();
                async move { codex.thread_start(ThreadStart::new()).await.expect("a thread") }
            });
            let turns = thread.turns();
            let id = thread.id().clone();
            let own = codex.clone();
            let starting = world.spawn(async move {
                for _ in 0..3 {
                    let mut events = own.thread(id.clone()).events();
                    drop(own.request(TurnStart::new(id.clone(), [UserInput::text("short")])).await.expect("started"));
                    while !tells_of_end(&events.next().await.expect("an event")) {}
                }
            });
            let texts = wavering.run(&mut world, read_turns(wavering, turns));
            assert_eq!(texts, ["A few words."; 3], "{wavering:?}");
            world.run_until_done(starting);
            world.run_until_quiet();
            assert_tables_are_empty(&codex);
        }
    });
}

/// The texts of the next three turns.
async fn read_turns(wavering: Wavering, mut turns: Turns) -> Vec<String> {
    let mut texts = Vec::new();
    while texts.len() < 3 {
        let turn = wavering.settle(&mut turns, async |turns| turns.next().await).await.expect("a turn");
        let mut text = String::new();
        while let Some(event) = turn.next().await {
            if let Event::Delta(delta) = event {
                text.push_str(&delta.text);
            }
        }
        texts.push(text);
    }
    texts
}

#[test]
fn a_list_whose_reader_gives_up_is_read_on_where_it_was() {
    bounded(60, || {
        let read = |codex: Codex, wavering: Wavering| async move {
            let mut pages = codex.model_pages(ModelList::new().include_hidden(true));
            let mut ids = Vec::new();
            while let Some(model) = wavering.settle(&mut pages, async |pages| pages.next().await).await {
                ids.push(model.expect("a model").id);
            }
            ids
        };
        for wavering in Wavering::all() {
            let mut world = World::new(script(), Config::default(), wavering.polls as u64, 40);
            let codex = world.codex();
            let ids = wavering.run(&mut world, read(codex.clone(), wavering));
            assert_eq!(ids, MODELS, "{wavering:?}");
            world.run_until_quiet();
            assert_tables_are_empty(&codex);
        }
    });
}
