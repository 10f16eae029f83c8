//! The fuzz targets without a fuzzer: their corpora, and mutations of them, through the same bodies.
//!
//! `TURNWIRE_MUTATIONS=200000` asks for more mutations of each input than the usual hundred.

#![allow(clippy::print_stderr)] // The input that fails, as nothing else has it.

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};
use turnwire_core::fuzzing::{self, BODIES, Body};

fn corpus(target: &str) -> Vec<(String, Vec<u8>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz/corpus").join(target);
    let mut inputs: Vec<(String, Vec<u8>)> = fs::read_dir(&folder)
        .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
        .map(|entry| {
            let path = entry.expect("readable").path();
            let name = path.file_name().expect("a name").to_string_lossy().into_owned();
            (name, fs::read(&path).expect("readable"))
        })
        .collect();
    // The order of a folder is nobody's promise.
    inputs.sort();
    inputs
}

fn run(target: &str, body: Body, name: &str, input: &[u8]) {
    if let Err(cause) = catch_unwind(AssertUnwindSafe(|| body(input))) {
        eprintln!("{target}, {name}: {:?}", String::from_utf8_lossy(input));
        eprintln!("as bytes: {input:?}");
        std::panic::resume_unwind(cause);
    }
}

/// Each target has a program, a body, a corpus and a line in the table.
#[test]
fn the_targets_are_the_same_everywhere() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("../fuzz");
    // That of `reference` is in a test of its own.
    let mut bodies: Vec<&str> = BODIES.iter().map(|(target, _)| *target).chain(["reference"]).collect();
    bodies.sort_unstable();
    let names = |folder: &str, end: &str| {
        let entries = fs::read_dir(fuzz.join(folder)).expect("a folder");
        let names = entries.map(|entry| entry.expect("readable").file_name().to_string_lossy().into_owned());
        let mut names: Vec<String> = names.map(|name| name.trim_end_matches(end).to_owned()).collect();
        names.sort();
        names
    };
    assert_eq!(names("fuzz_targets", ".rs"), bodies);
    assert_eq!(names("corpus", ""), bodies);
    let text = |name: &str| fs::read_to_string(fuzz.join(name)).expect("a text");
    let (manifest, table) = (text("Cargo.toml"), text("README.md"));
    assert_eq!(manifest.matches("[[bin]]").count(), bodies.len());
    for target in bodies {
        assert!(manifest.contains(&format!("name = \"{target}\"\npath = \"fuzz_targets/{target}.rs\"")), "{target}");
        assert!(table.contains(&format!("\n| `{target}` | ")), "{target}");
    }
}

#[test]
fn every_input_of_every_corpus_passes() {
    for (target, body) in BODIES {
        let inputs = corpus(target);
        assert!(inputs.len() >= 15, "{target} has {} inputs", inputs.len());
        for (name, input) in &inputs {
            run(target, body, name, input);
        }
    }
}

#[test]
fn mutations_of_the_corpora_pass() {
    let count = std::env::var("TURNWIRE_MUTATIONS").map_or(100, |value| value.parse().expect("a number"));
    for (target, body) in BODIES {
        let inputs = corpus(target);
        for (place, (name, input)) in inputs.iter().enumerate() {
            for n in 0..count {
                let seed = (place as u64) << 32 | n;
                let (_, other) = &inputs[(place + 1 + seed as usize * 7) % inputs.len()];
                let once = fuzzing::mutate(input, other, seed);
                run(target, body, &format!("{name}, seed {seed}"), &once);
            }
        }
    }
}

#[test]
fn the_scanner_finds_what_serde_finds_in_every_recorded_line() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("transcripts");
    let mut lines = 0;
    for entry in fs::read_dir(&folder).expect("transcripts") {
        let text = fs::read(entry.expect("readable").path()).expect("readable");
        for line in text.split(|byte| *byte == b'\n') {
            // A recorded line wraps what went over the wire; that is looked at too.
            run("scan", fuzzing::scan, "a recorded line", line);
            let Ok(record) = serde_json::from_slice::<serde_json::Value>(line) else { continue };
            for inner in record.as_object().into_iter().flat_map(|members| members.values()) {
                run("scan", fuzzing::scan, "a recorded message", inner.to_string().as_bytes());
                lines += 1;
            }
        }
    }
    assert!(lines > 1000, "{lines} messages");
}

#[test]
fn the_scanner_finds_what_serde_finds_in_what_is_made_up() {
    let count: u64 = std::env::var("TURNWIRE_MUTATIONS").map_or(100, |value| value.parse().expect("a number"));
    let (mut state, mut messages) = (7_u64, 0);
    for n in 0..count * 100 {
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(n | 1);
            (state >> 33) as u8
        };
        let length = usize::from(next()) % 48;
        let data: Vec<u8> = (0..length).map(|_| next()).collect();
        run("scan", fuzzing::scan, &format!("number {n}"), &data);
        let line = fuzzing::jsonish(&data);
        messages += usize::from(serde_json::from_slice::<serde_json::Value>(&line).is_ok());
        let changed = fuzzing::mutate(&line, &data, n);
        run("scan", fuzzing::scan, &format!("number {n}, changed"), &changed);
    }
    assert!(messages as u64 > count * 20, "{messages} of {} are JSON", count * 100);
}

#[test]
fn mutations_are_decided_by_the_seed_and_differ() {
    let mutations: Vec<Vec<u8>> = (0..50).map(|seed| fuzzing::mutate(b"abcdefgh", b"uvwxyz", seed)).collect();
    let again: Vec<Vec<u8>> = (0..50).map(|seed| fuzzing::mutate(b"abcdefgh", b"uvwxyz", seed)).collect();
    assert_eq!(mutations, again);
    let mut different = mutations;
    different.sort();
    different.dedup();
    assert!(different.len() > 25, "{}", different.len());
}
