//! Allocations an event, at steady state (BP-08): `cargo bench -p turnwire-testkit --bench allocations [-- --json FILE]`.
//!
//! Beyond the text of a delta, which is one, there is to be one at most. It is asserted.

#![allow(clippy::print_stdout)] // It is what a bench is for.

mod support;

use serde_json::json;
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use std::alloc::System;
use support::{connected, core, deltas, recorded};

#[global_allocator]
static MEMORY: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

fn main() {
    let mut rows = Vec::new();
    for (name, turns, bytes) in [
        ("deltas of one turn", 1, deltas(100_000, 1).0),
        ("deltas of 64 turns", 64, deltas(100_000, 64).0),
        ("deltas of 1000 turns", 1000, deltas(100_000, 1000).0),
        ("recorded sessions", 1, recorded().repeat(10)),
    ] {
        let (mut connection, _readers) = connected(turns);
        // Once to fill what is kept.
        core(&mut connection, &bytes);
        let region = Region::new(MEMORY);
        let count = core(&mut connection, &bytes);
        let change = region.change();
        let calls = (change.allocations + change.reallocations) as f64 / count.events as f64;
        println!("{name}: {calls:.3} allocations an event, of {} events", count.events);
        assert!(!name.starts_with("deltas") || calls <= 2.0, "{name}: {calls} allocations an event");
        rows.push(json!({"what": name, "events": count.events, "allocations": calls}));
    }
    let mut arguments = std::env::args();
    if arguments.any(|argument| argument == "--json") {
        let file = arguments.next().expect("a file");
        std::fs::write(file, json!({"kind": "allocations", "rows": rows}).to_string()).expect("the report is written");
    }
}
