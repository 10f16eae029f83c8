//! Many tasks at once, of which some are dropped in the middle, as are handles and now and then the driver.

use crate::{
    asked::{ANSWERED_TWICE, Log, Manner, assert_answered_once, handlers, note},
    bounded, of_seeds, time_for_seeds,
    world::{DRIVER, World, assert_tables_are_empty},
};
use std::{sync::Arc, time::Duration};
use turnwire_core::{
    client::{Approvals, Codex, Event, Handlers, Serving, Thread, Turn, TurnRequest, TurnSet},
    connection::Config,
    protocol::ThreadStart,
};
use turnwire_testkit::{
    scripted::{Early, Rule, Script, TurnPlan},
    sim::Rng,
};

/// How many seeds are run as a rule.
const SEEDS: u64 = 300;

fn script(rng: &mut Rng) -> Script {
    let mut script = Script::new()
        .reply_delay(rng.below(50))
        .started_delay(rng.below(50))
        .delta_delay(rng.below(20))
        .early(*rng.pick(&[Early::None, Early::Started, Early::Completed]).expect("some"));
    for n in 0..12 {
        let mut plan = TurnPlan::when(format!("<{n}>")).text(format!("answer {n}")).deltas(1 + rng.index(12));
        match rng.below(5) {
            0 | 1 => plan = plan.command("ls", "one\ntwo\n", 0).with_approval(),
            2 => plan = plan.file_change("/workspace/new", "One line.\n").with_approval(),
            _ => {}
        }
        if rng.one_in(4) {
            plan = plan.hold();
        }
        script = script.turn(plan);
    }
    if rng.one_in(3) {
        let rule = Rule::at_start().delay(rng.below(1_500));
        script = script.rule(if rng.one_in(2) { rule.die(9) } else { rule.raw("{\"half").exit(1) });
    }
    if rng.one_in(3) {
        script = script.rule(Rule::on("turn/start").nth(1 + rng.below(3)).reply_error(-32001, "Server overloaded"));
    }
    script.rule(Rule::on("never"))
}

/// What an application may do with a thread.
async fn talk(name: usize, codex: Codex, log: Log, mut rng: Rng) {
    let thread = match codex.thread_start(ThreadStart::new()).await {
        Ok(thread) => thread,
        Err(error) => return note(&log, format!("{name} has no thread: {:?}", error.is_closed())),
    };
    // The handle of the session goes, that of the thread stays.
    drop(codex);
    for n in 0..1 + rng.below(3) {
        let prompt = format!("<{}>", rng.below(12));
        let mut request = TurnRequest::new(&*prompt);
        if rng.one_in(4) {
            request = request.deadline(Duration::from_millis(50 + rng.below(900)));
        }
        if rng.one_in(3) {
            request = request.asks_in_stream();
        }
        let outcome = if rng.one_in(3) {
            thread.run(request).await.map(|result| result.status)
        } else {
            stream(name, &thread, request, &log, &mut rng).await
        };
        match outcome {
            Ok(status) => note(&log, format!("{name}.{n} ended {status}")),
            Err(error) => note(&log, format!("{name}.{n} failed {}", error.is_closed())),
        }
    }
}

async fn stream(
    name: usize,
    thread: &Thread,
    request: TurnRequest,
    log: &Log,
    rng: &mut Rng,
) -> Result<turnwire_core::turn::State, turnwire_core::error::TurnError> {
    let turn: Turn = thread.turn(request).await?;
    let act_after = rng.below(8);
    let mut count = 0;
    let mut text = String::new();
    let mut ended = 0;
    let mut set = rng.one_in(3).then(|| TurnSet::from_iter([turn.clone()]));
    while let Some(event) = match &mut set {
        Some(set) => set.next().await.map(|(_, event)| event),
        None => turn.next().await,
    } {
        assert_eq!(ended, 0, "{name}: an event after the end");
        match event {
            Event::Delta(delta) => text.push_str(&delta.text),
            Event::Ended(_) => ended += 1,
            Event::Request(asked) => {
                // It fails on purpose now and then, or comes too late.
                let manner = Manner::any(rng);
                let handled = manner.deal_with(asked, thread.codex(), Arc::clone(log)).await;
                note(log, format!("{name} dealt with a request {}", handled.is_ok()));
            }
            _ => {}
        }
        if count == act_after {
            if rng.one_in(2) {
                let steered = turn.steer("More.").await.is_ok();
                note(log, format!("{name} steered {steered}"));
            } else {
                let interrupted = turn.interrupt().await.is_ok();
                note(log, format!("{name} interrupted {interrupted}"));
            }
        }
        count += 1;
    }
    assert_eq!(ended, 1, "{name}: no end, or several");
    note(log, format!("{name} heard {text:?}"));
    let result = turn.result().await;
    // Whoever asks again hears the same.
    assert_eq!(turn.result().await.is_ok(), result.is_ok());
    result.map(|result| result.status)
}

async fn listen(name: usize, codex: Codex, log: Log) {
    let mut events = codex.events();
    drop(codex);
    let mut count = 0;
    while events.next().await.is_some() {
        count += 1;
    }
    note(&log, format!("{name} heard {count} events"));
}

async fn ask(name: usize, codex: Codex, log: Log) {
    let answer = if name % 3 == 0 { codex.request_raw("never", ()).await.err() } else { codex.models().await.err() };
    note(&log, format!("{name} asked {:?}", answer.map(|error| (error.is_timeout(), error.is_closed()))));
}

/// Handlers that answer in all manners, or leave it to the readers of streams, or say no; now and then taken back.
fn serve(codex: &Codex, log: &Log, rng: &mut Rng) -> Serving {
    let handlers = match rng.below(6) {
        0 => Handlers::from(Approvals::in_stream()),
        1 => Handlers::from(Approvals::deny()),
        2 => Handlers::from(Approvals::accept_for(|asked| asked.words().is_some())),
        _ => handlers(codex.clone(), Arc::clone(log), rng.fork()),
    };
    codex.serve(handlers)
}

/// One seed. What was noted, in order.
fn run(seed: u64) -> Vec<String> {
    let mut rng = Rng::new(seed ^ 0x0063_726f_7764);
    let mut config = Config::default();
    config.limits.max_in_flight = 1 + rng.index(8);
    config.limits.merge_after = if rng.one_in(2) { Some(1 + rng.index(8)) } else { None };
    let most = *rng.pick(&[3, 60, 1 << 16]).expect("some");
    let script = script(&mut rng);
    let mut world = World::new(script, config, seed, most);
    let log = Log::default();
    let codex = world.codex();
    for _ in 0..rng.below(3) {
        let lives = rng.one_in(3).then(|| rng.index(60));
        let serving = world.spawn_for(lives, serve(&codex, &log, &mut rng));
        world.waits_for_several(serving);
    }
    for name in 0..3 + rng.index(6) {
        let lives = rng.one_in(3).then(|| rng.index(30));
        let (codex, log, fork) = (codex.clone(), Arc::clone(&log), rng.fork());
        match rng.below(6) {
            0 => world.spawn_for(lives, listen(name, codex, log)),
            1 | 2 => world.spawn_for(lives, ask(name, codex, log)),
            _ => world.spawn_for(lives, talk(name, codex, log, fork)),
        };
    }
    let driver_dies_at = rng.one_in(8).then(|| rng.below(400));
    let leaves_at = rng.one_in(4).then(|| rng.below(600));
    let mut codex = Some(codex);
    let mut step = 0;
    loop {
        step += 1;
        if driver_dies_at == Some(step) {
            world.drop_task(DRIVER);
        }
        if leaves_at == Some(step) {
            // The application goes: all of its handles and futures, in any order, but not the driver.
            codex = None;
            world.codex = None;
            world.forget_probe();
            while let Some(task) = {
                let open: Vec<_> = world.open().into_iter().filter(|task| *task != DRIVER).collect();
                rng.pick(&open).copied()
            } {
                world.drop_task(task);
            }
        }
        if step % 64 == 0 && world.is_idle() {
            world.assert_no_lost_wake(false);
        }
        if !world.step() {
            break;
        }
    }
    world.assert_no_lost_wake(true);
    // A request that somebody sleeps on would be refused after a day.
    assert!(world.now() < Duration::from_secs(12 * 3600), "{:?} have gone by", world.now());
    let lives = codex.is_some() && !world.is_done(DRIVER) && !world.is_server_over();
    let asked = assert_answered_once(&world, lives);
    note(&log, format!("asked {asked} times"));
    if let Some(codex) = codex {
        // What still waits, waits for a turn that holds, or for the end.
        let (task, _) = world.ask({
            let codex = codex.clone();
            async move { codex.close().await }
        });
        world.run_until_done(task);
        world.run_until_quiet();
        assert!(world.open().is_empty(), "{:?} wait, though all is over", world.open());
        assert_tables_are_empty(&codex);
        assert_answered_once(&world, false);
    } else {
        assert!(world.open().is_empty(), "the last handle is gone, and the driver is not done");
        let is_left_alone = driver_dies_at.is_some() || world.is_server_over();
        assert!(is_left_alone, "the server was not told");
    }
    let log = std::mem::take(&mut *log.lock().expect("not poisoned"));
    assert!(!log.iter().any(|line| line == ANSWERED_TWICE), "a second answer was taken");
    log
}

#[test]
fn in_a_crowd_every_wait_ends_no_wake_is_lost_and_nothing_is_left() {
    bounded(time_for_seeds(SEEDS, 170), || {
        let (said, are_many) = of_seeds(SEEDS, |seed| {
            let log = run(seed);
            if seed % 4 == 0 {
                assert_eq!(run(seed), log, "the same seed, another course");
            }
            // Of what is too much to keep, the first seeds say enough.
            if seed < 20_000 { log.join("\n") } else { String::new() }
        });
        if are_many {
            for wanted in [
                "ended Completed",
                "ended Interrupted",
                "steered true",
                "interrupted true",
                "failed true",
                "answered true Accept",
                "answered true Decline",
                "answered true Wait",
                "answered true Twice",
                "answered false",
                "waited true",
                "called true",
                "steered from a handler true",
                "stopped from a handler true",
                "failed when asked",
                "dealt with a request true",
                "dealt with a request false",
            ] {
                let count: usize = said.iter().map(|said| said.matches(wanted).count()).sum();
                assert!(count >= 10, "{wanted}: {count} times");
            }
        }
    });
}
