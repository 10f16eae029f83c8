//! The whole client against the replay server, in CPU seconds of its process and as ratios to two floors of the same run.
//!
//! `cargo bench -p turnwire-testkit --bench whole -- [--deltas N] [--turns K] [--runs N] [--latency] [--sleep] [--check]
//! [--json FILE]`
//!
//! Each measurement is a process of its own, which starts the replay server as its child and counts its own CPU time,
//! user and system, from the first delta to the end. That every event and every character arrived is asserted.
//!
//! - floor E: `read_until` and a borrowed envelope `{id, method, params}` with serde_json;
//! - floor T: the same and the delta as a struct of owned strings;
//! - blocking, tokio, smol: the process, the driver, the demultiplexing, typed events out of `turn.next()`, nothing merged. Of
//!   many turns tokio and smol read each in a task of its own, and the blocking client reads all with a `TurnSet`;
//! - threads: the blocking client with a thread for each of the turns, which has no bar: each event wakes a thread.
//!
//! `--latency`: one delta each millisecond, from before its writing to after its reading, beside bare readers that pass
//! lines on to as many threads or tasks. `--sleep`: two million deltas for a consumer that does not read, and the peak of
//! the memory. `--check`: the exit code says whether every bar holds.

#![allow(clippy::print_stdout)] // It is what a bench is for.

#[path = "support/floor.rs"]
mod floor;

use floor::Envelope;
use rustix::time::{ClockId, clock_gettime};
use serde_json::{Value, json};
use std::{
    collections::BTreeMap,
    hint::black_box,
    io::{BufRead, BufReader, Write},
    process::{Child, ChildStdin, ChildStdout, ExitCode, Stdio},
    sync::{OnceLock, mpsc},
    thread,
    time::{Duration, Instant},
};
use turnwire_blocking::{Command, Config, Event, TurnSet};
use turnwire_testkit::replay::{Replay, now_nanos};

const SERVER: &str = env!("CARGO_BIN_EXE_turnwire-replay-server");
const CLIENTS: [&str; 3] = ["blocking", "tokio", "smol"];
/// How else many turns can be read.
const OTHERS: [&str; 1] = ["threads"];

/// How many times floor T a client may take with one turn, and with more.
const BAR_ONE: f64 = 1.0;
const BAR_MANY: f64 = 1.25;
/// How many times the bare reader's latency the median of a client may be.
const BAR_LATENCY: f64 = 1.5;
/// How much more than the text the memory of a sleeping consumer's client may be, in bytes.
const BAR_SLEEP: u64 = 32 << 20;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Count {
    events: u64,
    characters: u64,
    merged: u64,
}

impl Count {
    fn take(&mut self, event: Event) {
        if let Event::Delta(delta) = &event {
            self.events += 1 + delta.merged;
            self.merged += delta.merged;
            self.characters += delta.text.len() as u64;
        }
        black_box(event);
    }

    fn add(self, other: Self) -> Self {
        Self {
            events: self.events + other.events,
            characters: self.characters + other.characters,
            merged: self.merged + other.merged,
        }
    }
}

/// CPU time of this process so far.
fn cpu() -> Duration {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let value = |name: &str| {
        let place = arguments.iter().position(|argument| argument == name)?;
        arguments.get(place + 1).cloned()
    };
    let has = |name: &str| arguments.iter().any(|argument| argument == name);
    if let Some(mode) = value("--child") {
        let replay = Replay::from_arguments(arguments.iter().cloned()).expect("arguments");
        println!("{}", measure(&mode, &replay));
        return ExitCode::SUCCESS;
    }
    let number = |name: &str, default: usize| value(name).map_or(default, |text| text.parse().expect("a number"));
    let mut replay = Replay::default();
    replay.deltas = number("--deltas", 500_000);
    let report = match () {
        () if has("--latency") => latency(replay, number("--deltas", 5_000)),
        () if has("--sleep") => sleeping(replay, number("--deltas", 2_000_000)),
        () => {
            let turns = value("--turns").map(|turns| vec![turns.parse().expect("a number")]);
            throughput(replay, &turns.unwrap_or_else(|| vec![1, 64, 1000]), number("--runs", 3))
        }
    };
    if let Some(file) = value("--json") {
        std::fs::write(file, report.to_string()).expect("the report is written");
    }
    let met = report["rows"].as_array().is_some_and(|rows| rows.iter().all(|row| row["met"] != json!(false)));
    if has("--check") && !met {
        println!("a bar is passed");
        return ExitCode::FAILURE;
    }
    ExitCode::SUCCESS
}

/// Runs a measurement in a process of its own.
fn child(mode: &str, replay: &Replay) -> Value {
    let program = std::env::current_exe().expect("the bench itself");
    let output = std::process::Command::new(program)
        .args(["--child", mode])
        .args(replay.to_arguments())
        .stderr(Stdio::inherit())
        .output()
        .expect("it runs");
    assert!(output.status.success(), "{mode}: {}", output.status);
    serde_json::from_slice(&output.stdout).expect("a report")
}

fn throughput(mut replay: Replay, turns: &[usize], runs: usize) -> Value {
    let mut rows = Vec::new();
    println!(
        "{} deltas in lines of {} bytes, CPU nanoseconds a delta, best of {runs} runs",
        replay.deltas, replay.line
    );
    for turns in turns.iter().copied() {
        replay.turns = turns;
        let clients = CLIENTS.into_iter().chain(OTHERS.into_iter().filter(|_| turns > 1));
        // The floors and the clients take turns, so that what else the machine does falls on all of them.
        let mut best: BTreeMap<&str, f64> = BTreeMap::new();
        for _ in 0..runs {
            for mode in ["floor-e", "floor-t"].into_iter().chain(clients.clone()) {
                let report = child(mode, &replay);
                let nanos = report["cpu"].as_f64().expect("seconds") * 1e9 / replay.deltas as f64;
                assert_eq!(report["events"], json!(replay.deltas), "{mode}");
                assert!(mode == "floor-e" || report["characters"] == json!(replay.characters()), "{mode}: {report}");
                let best = best.entry(mode).or_insert(f64::INFINITY);
                *best = best.min(nanos);
            }
        }
        let (e, t) = (best["floor-e"], best["floor-t"]);
        println!("{turns:>5} turns: floor E {e:.0}, floor T {t:.0}");
        for mode in clients {
            let nanos = best[mode];
            let bar = match turns {
                _ if OTHERS.contains(&mode) => None,
                1 => Some(BAR_ONE),
                _ => Some(BAR_MANY),
            };
            let met = bar.map(|bar| nanos / t <= bar);
            println!(
                "      {mode:>9} {nanos:>5.0}: {:.2} of E, {:.2} of T, bar {bar:?}, met: {met:?}",
                nanos / e,
                nanos / t
            );
            rows.push(json!({"client": mode, "turns": turns, "floor_e": e, "floor_t": t, "nanos": nanos,
                "of_e": nanos / e, "of_t": nanos / t, "bar": bar, "met": met}));
        }
    }
    json!({"kind": "throughput", "deltas": replay.deltas, "line": replay.line, "runs": runs, "rows": rows})
}

fn latency(mut replay: Replay, deltas: usize) -> Value {
    replay.deltas = deltas;
    replay.pace = Some(Duration::from_millis(1));
    let mut rows = Vec::new();
    println!("{deltas} deltas, one each millisecond: microseconds from the server's write to the consumer");
    for mode in CLIENTS {
        let (bare, client) = (child(&format!("bare-{mode}"), &replay), child(mode, &replay));
        let of = |report: &Value, name: &str| report[name].as_f64().expect("microseconds");
        let ratio = of(&client, "median") / of(&bare, "median");
        println!(
            "{mode:>9}: median {:.0}, p99 {:.0}; bare reader {:.0}, {:.0}; ratio {ratio:.2}",
            of(&client, "median"),
            of(&client, "p99"),
            of(&bare, "median"),
            of(&bare, "p99")
        );
        rows.push(json!({"client": mode, "median": client["median"], "p99": client["p99"],
            "bare_median": bare["median"], "bare_p99": bare["p99"], "ratio": ratio, "bar": BAR_LATENCY,
            "met": ratio <= BAR_LATENCY}));
    }
    json!({"kind": "latency", "deltas": deltas, "rows": rows})
}

fn sleeping(mut replay: Replay, deltas: usize) -> Value {
    replay.deltas = deltas;
    let mut rows = Vec::new();
    for mode in CLIENTS {
        let report = child(&format!("sleep-{mode}"), &replay);
        let peak = report["peak"].as_u64().expect("bytes");
        let over = peak.saturating_sub(replay.characters());
        println!(
            "{mode:>9}: {} characters, peak {peak} bytes, {over} over the text, {} merged",
            replay.characters(),
            report["merged"]
        );
        rows.push(json!({"client": mode, "characters": replay.characters(), "peak": peak, "over": over,
            "merged": report["merged"], "bar": BAR_SLEEP, "met": over <= BAR_SLEEP}));
    }
    json!({"kind": "sleep", "deltas": deltas, "rows": rows})
}

/// When the last turn was started, and the CPU time until then.
static START: OnceLock<(Instant, Duration)> = OnceLock::new();

fn all_started() {
    START.get_or_init(|| (Instant::now(), cpu()));
}

/// One measurement, in this process.
fn measure(mode: &str, replay: &Replay) -> Value {
    if replay.pace.is_some() {
        let mut nanos = match mode {
            "bare-blocking" => bare_blocking(replay),
            "bare-tokio" => bare_tokio(replay),
            "bare-smol" => bare_smol(replay),
            "tokio" => runtime().block_on(latencies_tokio(replay)),
            "smol" => smol::block_on(latencies_smol(replay)),
            _ => latencies_blocking(replay),
        };
        // The first are of a process that is still starting.
        let from = nanos.len() / 10;
        nanos.drain(..from);
        nanos.sort_unstable();
        let at = |part: usize| nanos[(nanos.len() - 1) * part / 100] as f64 / 1000.0;
        return json!({"median": at(50), "p99": at(99), "count": nanos.len()});
    }
    let sleep = mode.starts_with("sleep-");
    let count = match mode {
        "floor-e" => floor(replay, false),
        "floor-t" => floor(replay, true),
        "tokio" | "sleep-tokio" => runtime().block_on(run_tokio(replay, sleep)),
        "smol" | "sleep-smol" => smol::block_on(run_smol(replay, sleep)),
        _ => run_blocking(replay, sleep, mode == "threads"),
    };
    if sleep {
        assert_eq!(count.events, replay.deltas as u64, "every delta arrived, merged or not");
        assert_eq!(count.characters, replay.characters(), "every character arrived");
    }
    let seconds = |time: Duration| time.as_secs_f64();
    let (instant, before) = START.get().copied().unwrap_or_else(|| unreachable!("no turn was started"));
    json!({"cpu": seconds(cpu() - before), "wall": seconds(instant.elapsed()), "events": count.events,
        "characters": count.characters, "merged": count.merged, "peak": peak()})
}

/// The most memory that this process has had, in bytes; 0 where the system does not say.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    let kibibytes = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kibibytes.unwrap_or(0) * 1024
}

/// The server as a process that is spoken to by hand, once its turns stream.
struct Bare {
    server: Child,
    _input: ChildStdin,
    output: ChildStdout,
}

impl Bare {
    fn start(replay: &Replay) -> Self {
        let mut server = std::process::Command::new(SERVER)
            .args(replay.to_arguments())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("the server starts");
        let (mut input, output) = (server.stdin.take().expect("piped"), server.stdout.take().expect("piped"));
        for of in 0..replay.turns {
            let params = json!({"threadId": Replay::thread(of)});
            writeln!(input, "{}", json!({"id": of, "method": "turn/start", "params": params})).expect("it reads");
        }
        all_started();
        Self { server, _input: input, output }
    }
}

/// A floor: no client at all.
fn floor(replay: &Replay, typed: bool) -> Count {
    let Bare { mut server, _input, output } = Bare::start(replay);
    let mut reader = BufReader::with_capacity(64 * 1024, output);
    let (mut line, mut count, mut ended) = (Vec::new(), Count::default(), 0);
    while ended < replay.turns && reader.read_until(b'\n', &mut line).expect("it writes") > 0 {
        let envelope: Envelope<'_> = serde_json::from_slice(&line).expect("a message");
        match envelope.method {
            Some("item/agentMessage/delta") => {
                count.events += 1;
                if typed {
                    count.characters += envelope.typed();
                }
            }
            Some("turn/completed") => ended += 1,
            _ => {}
        }
        black_box((envelope.id, envelope.params));
        line.clear();
    }
    drop((_input, reader));
    server.wait().expect("it ends");
    count
}

fn command(replay: &Replay) -> Command {
    Command::new().program(SERVER).extra_args(replay.to_arguments())
}

/// Nothing is merged, and nothing is left out because the consumer is a little behind.
fn config(sleep: bool) -> Config {
    let mut config = Config::default();
    if !sleep {
        config.limits.merge_after = None;
        config.limits.max_unread_bytes = 1 << 30;
    }
    config.limits.max_unread_bytes = config.limits.max_unread_bytes.max(512 << 20);
    config
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime")
}

fn run_blocking(replay: &Replay, sleep: bool, on_threads: bool) -> Count {
    let codex = turnwire_blocking::spawn_with(&command(replay), config(sleep)).expect("it connects");
    let started: Vec<_> =
        (0..replay.turns).map(|of| codex.thread(Replay::thread(of)).turn("go").expect("a turn starts")).collect();
    all_started();
    if sleep {
        started[0].result().expect("it completes");
    }
    let read = |turn: &turnwire_blocking::Turn| {
        let mut count = Count::default();
        turn.events().for_each(|event| count.take(event));
        count
    };
    let count = match &started[..] {
        [turn] => read(turn),
        turns if !on_threads => {
            let mut count = Count::default();
            turns.iter().cloned().collect::<TurnSet>().for_each(|(_, event)| count.take(event));
            count
        }
        turns => thread::scope(|scope| {
            let reader = |turn| thread::Builder::new().stack_size(128 * 1024).spawn_scoped(scope, move || read(turn));
            let readers: Vec<_> = turns.iter().map(|turn| reader(turn).expect("a thread")).collect();
            readers.into_iter().map(|reader| reader.join().expect("it reads")).fold(Count::default(), Count::add)
        }),
    };
    assert_eq!(codex.counters().left_out, 0);
    count
}

async fn run_tokio(replay: &Replay, sleep: bool) -> Count {
    let codex = turnwire_tokio::spawn_with(&command(replay), config(sleep)).await.expect("it connects");
    let mut readers = Vec::new();
    for of in 0..replay.turns {
        let turn = codex.thread(Replay::thread(of)).turn("go").await.expect("a turn starts");
        if of + 1 == replay.turns {
            all_started();
        }
        if sleep {
            turn.result().await.expect("it completes");
        }
        readers.push(tokio::spawn(read(turn)));
    }
    let mut count = Count::default();
    for reader in readers {
        count = count.add(reader.await.expect("it reads"));
    }
    assert_eq!(codex.counters().left_out, 0);
    count
}

async fn run_smol(replay: &Replay, sleep: bool) -> Count {
    let codex = turnwire_smol::spawn_with(&command(replay), config(sleep)).await.expect("it connects");
    let mut readers = Vec::new();
    for of in 0..replay.turns {
        let turn = codex.thread(Replay::thread(of)).turn("go").await.expect("a turn starts");
        if of + 1 == replay.turns {
            all_started();
        }
        if sleep {
            turn.result().await.expect("it completes");
        }
        readers.push(smol::spawn(read(turn)));
    }
    let mut count = Count::default();
    for reader in readers {
        count = count.add(reader.await);
    }
    assert_eq!(codex.counters().left_out, 0);
    count
}

async fn read(turn: turnwire_tokio::Turn) -> Count {
    let mut count = Count::default();
    while let Some(event) = turn.next().await {
        count.take(event);
    }
    count
}

/// How long ago the text of a delta was written, in nanoseconds.
fn age(event: &Event) -> Option<u64> {
    let Event::Delta(delta) = event else { return None };
    age_of(delta.text.as_bytes())
}

fn age_of(digits: &[u8]) -> Option<u64> {
    let written: u64 = std::str::from_utf8(digits).ok()?.parse().ok()?;
    Some(now_nanos().saturating_sub(written))
}

/// The same of a line that nobody takes apart.
fn age_of_line(line: &[u8]) -> Option<u64> {
    let at = memchr::memmem::find(line, b"\"delta\":\"")? + 9;
    age_of(line.get(at..at + 20)?)
}

fn latencies_blocking(replay: &Replay) -> Vec<u64> {
    let codex = turnwire_blocking::spawn(&command(replay)).expect("it connects");
    let turn = codex.thread(Replay::thread(0)).turn("go").expect("a turn starts");
    turn.events().filter_map(|event| age(&event)).collect()
}

async fn latencies_tokio(replay: &Replay) -> Vec<u64> {
    let codex = turnwire_tokio::spawn(&command(replay)).await.expect("it connects");
    let turn = codex.thread(Replay::thread(0)).turn("go").await.expect("a turn starts");
    let mut ages = Vec::new();
    while let Some(event) = turn.next().await {
        ages.extend(age(&event));
    }
    ages
}

async fn latencies_smol(replay: &Replay) -> Vec<u64> {
    let codex = turnwire_smol::spawn(&command(replay)).await.expect("it connects");
    let turn = codex.thread(Replay::thread(0)).turn("go").await.expect("a turn starts");
    let mut ages = Vec::new();
    while let Some(event) = turn.next().await {
        ages.extend(age(&event));
    }
    ages
}

/// A thread that reads and one that consumes: as many as the blocking client has.
fn bare_blocking(replay: &Replay) -> Vec<u64> {
    let Bare { mut server, _input, output } = Bare::start(replay);
    let (to_consumer, from_reader) = mpsc::channel();
    thread::spawn(move || {
        let mut reader = BufReader::with_capacity(64 * 1024, output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
            let _ = to_consumer.send(std::mem::take(&mut line));
        }
    });
    let ages = from_reader.iter().filter_map(|line| age_of_line(&line)).take(replay.deltas).collect();
    drop(_input);
    server.wait().expect("it ends");
    ages
}

/// A task that reads and one that consumes, on one thread.
fn bare_tokio(replay: &Replay) -> Vec<u64> {
    use tokio::io::AsyncBufReadExt;
    let Bare { mut server, _input, output } = Bare::start(replay);
    let ages = runtime().block_on(async {
        let (to_consumer, mut from_reader) = tokio::sync::mpsc::unbounded_channel();
        tokio::spawn(async move {
            let output = tokio::process::ChildStdout::from_std(output).expect("a pipe");
            let mut reader = tokio::io::BufReader::with_capacity(64 * 1024, output);
            let mut line = Vec::new();
            while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
                let _ = to_consumer.send(std::mem::take(&mut line));
            }
        });
        let mut ages = Vec::new();
        while ages.len() < replay.deltas {
            let Some(line) = from_reader.recv().await else { break };
            ages.extend(age_of_line(&line));
        }
        ages
    });
    drop(_input);
    server.wait().expect("it ends");
    ages
}

/// A task that reads on the executor's thread, and a consumer on its own.
fn bare_smol(replay: &Replay) -> Vec<u64> {
    use smol::io::AsyncBufReadExt;
    let Bare { mut server, _input, output } = Bare::start(replay);
    let (to_consumer, from_reader) = smol::channel::unbounded();
    smol::spawn(async move {
        let output = smol::Async::new(output).expect("a pipe");
        let mut reader = smol::io::BufReader::with_capacity(64 * 1024, output);
        let mut line = Vec::new();
        while reader.read_until(b'\n', &mut line).await.is_ok_and(|count| count > 0) {
            let _ = to_consumer.send(std::mem::take(&mut line)).await;
        }
    })
    .detach();
    let ages = smol::block_on(async {
        let mut ages = Vec::new();
        while ages.len() < replay.deltas {
            let Ok(line) = from_reader.recv().await else { break };
            ages.extend(age_of_line(&line));
        }
        ages
    });
    drop(_input);
    server.wait().expect("it ends");
    ages
}
