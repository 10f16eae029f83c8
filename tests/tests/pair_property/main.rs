//! Random conversations on random wires: what must hold after every step whatever happens, and that polling changes nothing.
//!
//! Everything comes from one seed. A seed that fails is made small, and then printed with the acts, the troubles and the
//! faults of the wire that are left.
//!
//! `TURNWIRE_SEEDS=1000000 cargo test --release -p turnwire-testkit --test pair_property` runs more of them than the usual
//! few hundred, `TURNWIRE_FIRST_SEED=…` others; `TURNWIRE_SEED=17` runs that one alone, and prints what crossed the wire
//! if it fails.

#![allow(clippy::print_stdout, clippy::print_stderr)] // For who looks at a failure, or asks for many seeds.

mod app;
mod asks;
mod check;
mod plan;

use app::{App, Outcome};
use plan::{Act, Fault, Plan, Trouble};
use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Instant,
};
use turnwire_testkit::sim::{Polling, shrink};

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|value| value.parse::<u64>().expect("a number"))
}

/// Seeds to try.
fn seeds(usual: u64) -> Vec<u64> {
    let first = number("TURNWIRE_FIRST_SEED").unwrap_or(0);
    match number("TURNWIRE_SEED") {
        Some(seed) => vec![seed],
        None => (first..first + number("TURNWIRE_SEEDS").unwrap_or(usual)).collect(),
    }
}

thread_local! {
    static IS_QUIET: std::cell::Cell<bool> = const { std::cell::Cell::new(false) };
}

/// Runs something; what it panicked with, if it did, is not printed but returned.
fn quietly<T>(run: impl FnOnce() -> T) -> Result<T, String> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
    let was_quiet = IS_QUIET.replace(true);
    let outcome = catch_unwind(AssertUnwindSafe(run));
    IS_QUIET.set(was_quiet);
    outcome.map_err(|cause| match cause.downcast::<String>() {
        Ok(text) => *text,
        Err(cause) => cause.downcast::<&str>().map_or_else(|_| "it panicked".into(), |text| (*text).into()),
    })
}

/// Leaves out of a plan what it needs not to fail; `fails` says how it does, if it does.
fn smallest(plan: &Plan, fails: impl Fn(&Plan) -> Option<String>) -> (Plan, String) {
    let mut how = String::new();
    let kept = shrink(plan.parts(), |kept| match fails(&plan.with_parts(kept)) {
        Some(what) => {
            how = what;
            true
        }
        None => false,
    });
    (plan.with_parts(&kept), how)
}

/// Runs a plan; if it fails, makes it small, prints that, and fails.
fn run(plan: &Plan) -> (Outcome, u64) {
    let first = match quietly(|| App::new(plan.clone()).run()) {
        Ok(done) => return done,
        Err(first) => first,
    };
    let (small, how) = smallest(plan, |plan| quietly(|| App::new(plan.clone()).run()).err());
    let Plan { seed, polling, acts, troubles, faults, .. } = &small;
    eprintln!("seed {seed} fails: {first}");
    eprintln!("{} of its {} parts are enough, polled {polling:?}: {how}", small.parts(), plan.parts());
    acts.iter().for_each(|(at, act)| eprintln!("  at {at:?} {act:?}"));
    troubles.iter().for_each(|(delay, trouble)| eprintln!("  server, {delay} ms later: {trouble:?}"));
    eprintln!("  wire: {faults:?}");
    eprintln!("TURNWIRE_SEED={seed} runs it alone, and prints what crosses the wire");
    if number("TURNWIRE_SEED").is_some() {
        let mut app = App::new(small);
        let _ = quietly(|| app.run_through());
        app.print_trace();
    }
    panic!("seed {} fails: {how}", plan.seed);
}

/// What turns and requests came to, counted.
#[derive(Default)]
struct Tally(BTreeMap<String, u64>);

impl Tally {
    fn count(&mut self, outcome: &Outcome) {
        for turn in &outcome.turns {
            *self.0.entry(turn.last().cloned().unwrap_or_default()).or_default() += 1;
            let gaps = turn.iter().filter(|event| event.starts_with("Gap")).count();
            *self.0.entry("Gap".into()).or_default() += gaps as u64;
        }
        for what in outcome.asked.iter().chain(&outcome.steered).chain(&outcome.decided) {
            *self.0.entry(what.split(' ').next().unwrap_or("").into()).or_default() += 1;
        }
    }

    fn of(&self, what: &str) -> u64 {
        self.0.get(what).copied().unwrap_or(0)
    }
}

/// Runs the seeds, some of them twice.
fn run_all(seeds: &[u64]) -> Tally {
    let mut tally = Tally::default();
    for &seed in seeds {
        let plan = Plan::new(seed, true);
        let (outcome, trace) = run(&plan);
        // The same seed gives the same: seen for some of them.
        if seed % 8 == 0 || seeds.len() == 1 {
            let (again, same_trace) = run(&plan);
            assert_eq!(trace, same_trace, "seed {seed}: the same bytes at the same times");
            assert_eq!(outcome, again, "seed {seed}: the same outcome");
        }
        tally.count(&outcome);
    }
    tally
}

#[test]
fn whatever_happens_everything_has_one_outcome_and_nothing_is_left() {
    let began = Instant::now();
    let seeds = seeds(400);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let parts = seeds.chunks(seeds.len().div_ceil(workers).max(1));
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let running: Vec<_> = parts.map(|part| scope.spawn(|| run_all(part))).collect();
        running.into_iter().map(|worker| worker.join().unwrap_or_else(|cause| resume_unwind(cause))).collect()
    });
    let mut tally = Tally::default();
    for (what, count) in tallies.into_iter().flat_map(|tally| tally.0) {
        *tally.0.entry(what).or_default() += count;
    }
    println!("{} seeds in {:?}: {:?}", seeds.len(), began.elapsed(), tally.0);
    // A test that meets only peace proves nothing.
    if seeds.len() >= 300 {
        for wanted in ["Completed", "Interrupted", "Failed", "Lost", "NotStarted", "TimedOut"] {
            let count = tally.of(&format!("Ended({wanted})"));
            assert!(count >= 10, "{wanted} happened {count} times: {:?}", tally.0);
        }
        for wanted in ["answered", "refused", "timed", "disconnected", "steered", "dropped", "ended", "Gap"] {
            assert!(tally.of(wanted) >= 10, "{wanted}: {:?}", tally.0);
        }
        for wanted in ["accept", "decline", "cancel", "too", "failed", "let"] {
            assert!(tally.of(wanted) > 0, "{wanted}: {:?}", tally.0);
        }
    }
}

#[test]
fn the_order_of_polls_never_changes_the_outcome() {
    for seed in seeds(100) {
        // Without approvals: a refusal and an interrupt that fall on one moment are two lines whose order on the wire is
        // decided by whether the first was polled for before the second came to be, and the server's answer by that.
        let mut plan = Plan::new(seed, false);
        // How much waits unread at a moment, and so what is left out, is for the polls to decide; and whether an interrupt that
        // waits for its turn is still sent when the turn ends in the same bytes, and so which interrupt the server refuses.
        if plan.is_tight || plan.refuses_interrupts() {
            continue;
        }
        plan.faults = Vec::new();
        plan.polling = Polling::Eager;
        let expected = run(&plan).0;
        // The pieces differ with the polls, the times do not.
        plan.faults = vec![Fault::Coalesce, Fault::Split];
        for polling in [Polling::Eager, Polling::Lazy, Polling::Nervous, Polling::Random] {
            plan.polling = polling;
            assert_eq!(run(&plan).0, expected, "seed {seed}, {polling:?}");
        }
    }
}

#[test]
fn a_plan_that_fails_shrinks_to_what_matters() {
    // Stands for a fault that takes a turn, a steer after it, and the server's death.
    let fails = |plan: &Plan| {
        let turn = plan.acts.iter().position(|(_, act)| matches!(act, Act::StartTurn { .. }))?;
        let steer = plan.acts.iter().rposition(|(_, act)| matches!(act, Act::Steer { .. }))?;
        let dies = plan.troubles.iter().any(|(_, trouble)| *trouble == Trouble::Die);
        (turn < steer && dies).then(|| "it happened".to_owned())
    };
    let plan = (0..).map(|seed| Plan::new(seed, true)).find(|plan| fails(plan).is_some()).expect("one does");
    let (small, how) = smallest(&plan, fails);
    assert_eq!((small.acts.len(), small.troubles.len(), small.faults.len(), &*how), (2, 1, 0, "it happened"));
    // And what is left runs.
    App::new(small).run();
}

#[test]
fn a_client_that_holds_more_than_it_may_is_found() {
    let is_found = |seed: &u64| {
        let plan = Plan::new(*seed, true);
        let mut config = plan.config.clone();
        config.limits.max_unread_bytes = usize::MAX;
        let how = quietly(|| App::with(plan, config).run_through()).err();
        how.is_some_and(|how| how.contains("bytes are held"))
    };
    let found = (0..400).filter(is_found).count();
    assert!(found >= 3, "{found}");
}

#[test]
fn a_panic_in_a_plan_is_reported_and_not_printed() {
    assert_eq!(quietly(|| panic!("{}", "why")), Err::<(), _>("why".into()));
    assert_eq!(quietly(|| 1), Ok(1));
}
