//! How fast lines go through the connection, in CPU time and as ratios to two floors of the same run.
//!
//! `cargo bench -p turnwire-testkit --bench throughput -- [--lines N] [--turns K] [--runs N] [--mixed MEBIBYTES] [--only
//! core|floor-e|floor-t] [--check] [--json FILE]`. That every event and every character arrived is asserted.
//!
//! - floor E: a loop over line ends and a borrowed envelope `{id, method, params}` with serde_json;
//! - floor T: the same and the delta as a struct of owned strings;
//! - core: `Connection::handle_input` in reads of 64 KiB, and every subscription drained after each read;
//! - mixed (BP-08): what servers wrote in the recorded sessions, and as many bytes of deltas, over and over.
//!
//! `--only` runs one of them once, for callgrind. `--check`: the exit code says whether the bars hold.

#![allow(clippy::print_stdout)] // It is what a bench is for.

mod support;

use serde_json::json;
use std::{process::ExitCode, time::Duration};
use support::{Count, connected, core, cpu, deltas, floor_e, floor_t, recorded};

/// How many times floor E the core may take.
const BAR: f64 = 0.6;

fn timed(run: impl FnOnce() -> Count) -> (Duration, Count) {
    let start = cpu();
    let count = run();
    (cpu() - start, count)
}

fn run_core(bytes: &[u8], turns: usize) -> (Duration, Count) {
    let (mut connection, _readers) = connected(turns);
    let (took, count) = timed(|| core(&mut connection, bytes));
    assert_eq!((connection.counters().left_out, connection.counters().unread_bytes), (0, 0));
    (took, count)
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let number = |name: &str| value(name).map(|text| text.parse::<usize>().expect("a number"));
    let lines = number("--lines").unwrap_or(200_000);
    let runs = number("--runs").unwrap_or(5);
    let turns = number("--turns").map_or(vec![1, 64, 1000], |turns| vec![turns]);
    if let Some(only) = value("--only") {
        let (bytes, _) = deltas(lines, turns[0]);
        let count = match only.as_str() {
            "floor-e" => floor_e(&bytes),
            "floor-t" => floor_t(&bytes),
            // Not timed: under valgrind the clock of rustix is out of bounds.
            _ => core(&mut connected(turns[0]).0, &bytes),
        };
        assert_eq!(count.events, lines as u64);
        return ExitCode::SUCCESS;
    }

    let mut rows = Vec::new();
    println!("{lines} deltas, CPU nanoseconds a line, best of {runs} runs");
    for turns in turns {
        let (bytes, characters) = deltas(lines, turns);
        let all = Count { events: lines as u64, characters };
        let mut best = [Duration::MAX; 3];
        for _ in 0..runs {
            let of = [timed(|| floor_e(&bytes)), timed(|| floor_t(&bytes)), run_core(&bytes, turns)];
            assert_eq!((of[0].1.events, of[1].1, of[2].1), (all.events, all, all));
            best = [0, 1, 2].map(|n| best[n].min(of[n].0));
        }
        let [e, t, core] = best.map(|took| took.as_secs_f64() * 1e9 / lines as f64);
        let met = core / e <= BAR;
        println!(
            "{turns:>5} turns: floor E {e:.0}, floor T {t:.0}, core {core:.0}: {:.2} of E, {:.2} of T, bar {BAR} of E, met: {met}",
            core / e,
            core / t
        );
        rows.push(
            json!({"turns": turns, "floor_e": e, "floor_t": t, "nanos": core, "of_e": core / e, "of_t": core / t,
            "bar": BAR, "met": met}),
        );
    }

    let mebibytes = number("--mixed").unwrap_or(1024);
    let mut block = recorded();
    let as_much = deltas(block.len() / 250, 64).0;
    block.extend_from_slice(&as_much);
    let rounds = (mebibytes << 20).div_ceil(block.len());
    let (mut connection, _readers) = connected(64);
    let (took, count) = timed(|| {
        (0..rounds).fold(Count::default(), |sum, _| {
            let count = core(&mut connection, &block);
            Count { events: sum.events + count.events, characters: sum.characters + count.characters }
        })
    });
    let bytes = (rounds * block.len()) as f64;
    let (rate, nanos) = (bytes / 1e6 / took.as_secs_f64(), took.as_secs_f64() * 1e9 / count.events as f64);
    println!("mixed: {:.0} MB and {} events, {rate:.0} MB/s, {nanos:.0} ns an event", bytes / 1e6, count.events);
    let mixed = json!({"bytes": bytes, "events": count.events, "mb_per_second": rate, "nanos": nanos});

    let met = rows.iter().all(|row| row["met"] == json!(true));
    if let Some(file) = value("--json") {
        let report = json!({"kind": "core", "lines": lines, "runs": runs, "rows": rows, "mixed": mixed});
        std::fs::write(file, report.to_string()).expect("the report is written");
    }
    if arguments.iter().any(|argument| argument == "--check") && !met {
        println!("a bar is passed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}
