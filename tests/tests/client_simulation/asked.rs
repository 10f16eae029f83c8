//! What the server asks: handlers that call the client on the one thread that there is, and how often each request is answered.

use crate::{
    bounded,
    server::script,
    world::{World, assert_tables_are_empty},
};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    error::Error,
    sync::{Arc, Mutex, OnceLock},
    time::Duration,
};
use turnwire_core::{
    client::{AgentRequest, Codex, Event, Handlers, SteerOrStart, Turn, TurnRequest},
    connection::{AnswerError, Config},
    protocol::{ThreadItem, ThreadStart},
    turn::State,
};
use turnwire_testkit::{
    scripted::{Script, TurnPlan},
    sim::Rng,
};

/// What was noted, in order.
pub(crate) type Log = Arc<Mutex<Vec<String>>>;

pub(crate) fn note(log: &Log, line: String) {
    log.lock().expect("not poisoned").push(line);
}

/// What is noted of a request that took a second answer.
pub(crate) const ANSWERED_TWICE: &str = "answered twice";

/// What came of a handler.
pub(crate) type Handled = Result<(), Box<dyn Error + Send + Sync>>;

/// What somebody who is asked may do.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Manner {
    Accept,
    Decline,
    /// Accepts when some time has passed.
    Wait,
    /// Asks the server something first.
    Call,
    /// Gives the turn that waits more input first.
    Steer,
    /// Has the turn that waits ended, and answers all the same.
    Interrupt,
    /// Answers twice.
    Twice,
    Fail,
    /// Lets go of it without a word.
    Leave,
}

impl Manner {
    pub(crate) const ALL: [Self; 9] = [
        Self::Accept,
        Self::Decline,
        Self::Wait,
        Self::Call,
        Self::Steer,
        Self::Interrupt,
        Self::Twice,
        Self::Fail,
        Self::Leave,
    ];

    pub(crate) fn any(rng: &mut Rng) -> Self {
        *rng.pick(&Self::ALL).expect("some")
    }

    /// Deals with what was asked.
    pub(crate) async fn deal_with(self, asked: AgentRequest, codex: Codex, log: Log) -> Handled {
        let thread = asked.thread_id().cloned().map(|thread| codex.thread(thread));
        let turn = asked.turn_id().cloned();
        match (self, thread, turn) {
            (Self::Wait, ..) => note(&log, format!("waited {}", codex.pause(Duration::from_millis(300)).await)),
            (Self::Call, ..) => note(&log, format!("called {}", codex.models().await.is_ok())),
            (Self::Steer, Some(thread), Some(turn)) => {
                note(&log, format!("steered from a handler {}", thread.steer(turn, "And this.").await.is_ok()));
            }
            (Self::Interrupt, Some(thread), _) => {
                note(&log, format!("stopped from a handler {}", thread.stop().await.is_ok()));
            }
            (Self::Fail, ..) => {
                note(&log, "failed when asked".into());
                return Err("it broke".into());
            }
            (Self::Leave, ..) => return Ok(()),
            _ => {}
        }
        let answer = answer_to(&asked, !matches!(self, Self::Decline));
        note(&log, format!("answered {} {self:?}", answer.is_ok()));
        if matches!(self, Self::Twice) && answer_to(&asked, true).is_ok() {
            // A panic would count as a handler that failed, and be passed over.
            note(&log, ANSWERED_TWICE.into());
        }
        // One that came too late is no failure.
        Ok(answer?)
    }
}

fn answer_to(asked: &AgentRequest, accept: bool) -> Result<(), AnswerError> {
    match (asked, accept) {
        (AgentRequest::Command(command), true) => command.accept(),
        (AgentRequest::Command(command), false) => command.decline(),
        (AgentRequest::FileChange(change), true) => change.accept(),
        (AgentRequest::FileChange(change), false) => change.decline(),
        (other, _) => {
            other.refuse();
            Ok(())
        }
    }
}

/// Handlers for all that is asked, each time in one of the manners, drawn by a generator of their own.
pub(crate) fn handlers(codex: Codex, log: Log, rng: Rng) -> Handlers {
    let rng = Mutex::new(rng);
    Handlers::new().all_others(move |asked| {
        let manner = Manner::any(&mut rng.lock().expect("not poisoned"));
        let (codex, log) = (codex.clone(), Arc::clone(&log));
        async move { manner.deal_with(asked, codex, log).await }
    })
}

/// Sees that each request of the server was answered once at most. `lives`: the session does, and nothing moves any more; then
/// each was answered, unless the server has said that it is settled or that its turn is over. How many there were.
pub(crate) fn assert_answered_once(world: &World, lives: bool) -> usize {
    let mut answers: BTreeMap<String, usize> = BTreeMap::new();
    for line in world.heard() {
        if line.get("method").is_none() {
            *answers.entry(line["id"].to_string()).or_default() += 1;
        }
    }
    let said = world.said();
    let asked: Vec<&Value> =
        said.iter().filter(|line| line.get("method").is_some() && line.get("id").is_some()).collect();
    for request in &asked {
        let id = &request["id"];
        let count = answers.remove(&id.to_string()).unwrap_or(0);
        assert!(count <= 1, "{count} answers to {request}");
        let is_over = said.iter().any(|line| match line["method"].as_str() {
            Some("serverRequest/resolved") => line["params"]["requestId"] == *id,
            Some("turn/completed") => line["params"]["turn"]["id"] == request["params"]["turnId"],
            _ => false,
        });
        assert!(count == 1 || is_over || !lives, "no answer to {request}");
    }
    assert!(answers.is_empty(), "answers to what was never asked: {answers:?}");
    asked.len()
}

/// Runs one turn that asks, with handlers beside it on the same thread, and closes the session. What the turn said in the end,
/// and what the server heard of the answer.
fn run_asked(
    in_flight: usize,
    most: usize,
    make: impl FnOnce(&Codex, Arc<OnceLock<Turn>>) -> Handlers,
) -> (String, Value) {
    let mut config = Config::default();
    config.limits.max_in_flight = in_flight;
    let mut world = World::new(script(), config, 1, most);
    let codex = world.codex();
    let turn = Arc::new(OnceLock::new());
    let serving = world.spawn(codex.serve(make(&codex, Arc::clone(&turn))));
    world.waits_for_several(serving);
    let own = codex.clone();
    let events = world.block_on(async move {
        let thread = own.thread_start(ThreadStart::new()).await.expect("a thread");
        let started = thread.turn("asks").await.expect("a turn");
        turn.set(started.clone()).expect("set once");
        let mut events = Vec::new();
        while let Some(event) = started.next().await {
            events.push(event);
        }
        events
    });
    world.run_until_quiet();
    assert_eq!(assert_answered_once(&world, true), 1);
    assert_eq!(codex.counters().handlers_failed, 0);
    assert!(matches!(events.last(), Some(Event::Ended(State::Completed))), "{:?}", events.last());
    let commands = events.iter().filter_map(|event| match event {
        Event::ItemCompleted(item) => match &item.item {
            ThreadItem::CommandExecution(command) => Some(command.exit_code),
            _ => None,
        },
        _ => None,
    });
    assert_eq!(commands.collect::<Vec<_>>(), [Some(0)], "the command ran");
    let text = events.iter().rev().find_map(|event| match event {
        Event::ItemCompleted(item) => match &item.item {
            ThreadItem::AgentMessage(message) => Some(message.text.clone()),
            _ => None,
        },
        _ => None,
    });
    let answer = world.heard().into_iter().find(|line| line.get("method").is_none()).expect("an answer");
    let own = codex.clone();
    world.block_on(async move { own.close().await });
    world.run_until_quiet();
    assert!(world.open().is_empty(), "{:?} are not done, {serving:?} runs the handlers", world.open());
    assert_tables_are_empty(&codex);
    (text.expect("it said something"), answer["result"]["decision"].clone())
}

/// Does so with one and with eight requests under way at once, and with few and with many bytes that move at once. The command is
/// accepted, and the turn says this.
fn run_asked_in_all_ways(said: &'static str, make: impl Fn(&Codex, Arc<OnceLock<Turn>>) -> Handlers + Send + 'static) {
    bounded(30, move || {
        for (in_flight, most) in [(1, 40), (1, 1 << 16), (8, 40), (8, 1 << 16)] {
            let (text, decision) = run_asked(in_flight, most, &make);
            assert_eq!((&*text, decision), (said, json!("accept")));
        }
    });
}

#[test]
fn a_handler_calls_the_client_and_steers_its_own_turn_before_it_accepts() {
    run_asked_in_all_ways("You also said: And this.", |codex, turn| {
        let codex = codex.clone();
        Handlers::new().command(move |asked| {
            let (codex, turn) = (codex.clone(), Arc::clone(&turn));
            async move {
                let turn = turn.get().expect("it was named before it asked");
                codex.models().await?;
                turn.steer("And this.").await?;
                assert!(codex.pause(Duration::from_millis(20)).await);
                asked.accept()?;
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            }
        })
    });
}

#[test]
fn a_handler_runs_a_whole_turn_on_another_thread_before_it_accepts() {
    run_asked_in_all_ways("Done.", |codex, _| {
        let codex = codex.clone();
        Handlers::new().command(move |asked| {
            let codex = codex.clone();
            async move {
                let thread = codex.thread_start(ThreadStart::new()).await?;
                let result = thread.run("short").await?;
                assert_eq!(result.final_response.as_deref(), Some("A few words."));
                asked.accept()?;
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            }
        })
    });
}

#[test]
fn a_handler_that_says_its_input_to_whatever_runs_finds_its_own_turn() {
    run_asked_in_all_ways("A few words.", |codex, turn| {
        let codex = codex.clone();
        Handlers::new().command(move |asked| {
            let (codex, turn) = (codex.clone(), Arc::clone(&turn));
            async move {
                let done = codex.thread(asked.thread().clone()).steer_or_start("short").await?;
                let own = turn.get().and_then(Turn::id);
                assert!(matches!(done, SteerOrStart::Steered(id) if Some(&id) == own.as_ref()));
                asked.accept()?;
                Ok::<_, Box<dyn Error + Send + Sync>>(())
            }
        })
    });
}

/// Drops a reader right after so many polls, who takes what he is asked and answers when he has asked something himself. Whether
/// he was done before.
fn leave_reader_after(polls: usize) -> bool {
    let plan = TurnPlan::new().command("ls", "one\n", 0).with_approval().text("Done.").deltas(1);
    let mut world = World::new(Script::new().turn(plan), Config::default(), polls as u64, 40);
    let codex = world.codex();
    let own = codex.clone();
    let task = world.spawn(async move {
        let thread = own.thread_start(ThreadStart::new()).await.expect("a thread");
        let turn = thread.turn(TurnRequest::new("Go.").asks_in_stream()).await.expect("a turn");
        while let Some(event) = turn.next().await {
            if let Event::Request(asked) = event {
                drop(own.models().await);
                answer_to(&asked, true).expect("in time");
            }
        }
    });
    for n in 0..polls {
        if n > 0 {
            world.step();
        }
        if world.poll(task) {
            break;
        }
    }
    let is_done = world.is_done(task);
    world.drop_task(task);
    world.run_until_quiet();
    let asked = assert_answered_once(&world, true);
    assert_eq!(asked, world.received("turn/start"), "each turn asks");
    assert_tables_are_empty(&codex);
    is_done
}

#[test]
fn what_a_reader_was_asked_who_is_dropped_at_any_moment_is_answered_once() {
    bounded(60, || {
        let mut polls = 0;
        while !leave_reader_after(polls) {
            polls += 1;
        }
        assert!(polls > 40, "dropped at {polls} points");
    });
}
