//! The parts one by one, with criterion: `cargo bench -p turnwire-testkit --bench parts`.
//!
//! For comparing one change with another on one machine; the ratios to the floors are in `throughput` and `whole`.

#![allow(missing_docs, reason = "criterion's macros write functions without")]

mod support;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use std::hint::black_box;
use support::{connected, core, deltas, floor_e, floor_t, lines, recorded};
use turnwire_blocking::Command;
use turnwire_core::{envelope::Envelope, frame::Framer};
use turnwire_testkit::replay::Replay;

const DELTAS: usize = 10_000;

fn framer(criterion: &mut Criterion) {
    let (bytes, _) = deltas(DELTAS, 1);
    let mut group = criterion.benchmark_group("framer");
    group.throughput(Throughput::Bytes(bytes.len() as u64));
    for read in [1024, 64 * 1024] {
        group.bench_function(format!("reads of {read}"), |bencher| {
            bencher.iter(|| {
                let mut framer = Framer::new(1 << 20);
                for mut piece in bytes.chunks(read) {
                    while let Some(frame) = framer.next_frame(&mut piece) {
                        black_box(frame);
                    }
                }
            });
        });
    }
}

fn envelope(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("envelope");
    for (name, bytes) in [("deltas", deltas(DELTAS, 1).0), ("recorded", recorded())] {
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(name, |bencher| {
            bencher.iter(|| lines(&bytes).for_each(|line| drop(black_box(Envelope::parse(line)))));
        });
    }
}

fn machine(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("machine");
    group.throughput(Throughput::Elements(DELTAS as u64));
    for turns in [1, 64, 1000] {
        let (bytes, _) = deltas(DELTAS, turns);
        let (mut connection, _readers) = connected(turns);
        group.bench_function(format!("{turns} turns"), |bencher| bencher.iter(|| core(&mut connection, &bytes)));
    }
    let (bytes, _) = deltas(DELTAS, 1);
    group.bench_function("floor E", |bencher| bencher.iter(|| floor_e(&bytes)));
    group.bench_function("floor T", |bencher| bencher.iter(|| floor_t(&bytes)));
}

fn whole(criterion: &mut Criterion) {
    let mut replay = Replay::default();
    replay.deltas = DELTAS;
    let server = Command::new().program(env!("CARGO_BIN_EXE_turnwire-replay-server")).extra_args(replay.to_arguments());
    let mut group = criterion.benchmark_group("whole client, process and all");
    group.throughput(Throughput::Elements(DELTAS as u64)).sample_size(20);
    group.bench_function("blocking", |bencher| {
        bencher.iter(|| {
            let codex = turnwire_blocking::spawn(&server).expect("it connects");
            let turn = codex.thread(Replay::thread(0)).turn("go").expect("a turn starts");
            turn.events().for_each(|event| drop(black_box(event)));
            codex.close()
        });
    });
}

criterion_group!(parts, framer, envelope, machine, whole);
criterion_main!(parts);
