//! What each crate pulls in, asked of cargo itself.

use std::{collections::BTreeSet, process::Command};

/// The crates that a package is built with, its own tests and examples aside.
fn tree(package: &str, features: &[&str]) -> BTreeSet<String> {
    let mut cargo = Command::new(env!("CARGO"));
    cargo.args(["tree", "--edges", "normal", "--prefix", "none", "--format", "{p}", "--locked", "--package", package]);
    cargo.args(features).current_dir(env!("CARGO_MANIFEST_DIR"));
    let output = cargo.output().expect("cargo runs");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let names: BTreeSet<String> = text
        .lines()
        .filter_map(|line| line.split(' ').next())
        .filter(|name| !name.is_empty())
        .map(String::from)
        .collect();
    assert!(names.contains(package), "{names:?}");
    names
}

const RUNTIMES: [&str; 12] = [
    "tokio",
    "mio",
    "async-io",
    "async-executor",
    "async-std",
    "smol",
    "polling",
    "futures",
    "rustix",
    "libc",
    "socket2",
    "turnwire-blocking",
];

#[test]
fn ad_02_the_core_has_no_runtime_and_does_no_input_or_output() {
    for features in [&[][..], &["--no-default-features"], &["--all-features"]] {
        let names = tree("turnwire-core", features);
        for forbidden in RUNTIMES {
            assert!(!names.contains(forbidden), "{forbidden} is in the tree of the core with {features:?}: {names:?}");
        }
        for wanted in ["serde", "serde_json", "bytes", "memchr"] {
            assert!(names.contains(wanted), "{wanted} is not in {names:?}");
        }
    }
    // What it names itself, and no more.
    let manifest = include_str!("../../core/Cargo.toml");
    let (_, dependencies) = manifest.split_once("[dependencies]").expect("dependencies");
    let dependencies = dependencies.split("\n[").next().unwrap_or_default();
    let own: Vec<&str> = dependencies
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty() && !name.starts_with('#'))
        .collect();
    assert_eq!(own, ["bytes", "futures-core", "hashbrown", "memchr", "schemars", "serde", "serde_json", "tracing"]);
}

#[test]
fn ob_01_there_is_no_tracing_in_any_tree_unless_its_feature_is_on() {
    for package in ["turnwire-core", "turnwire-blocking", "turnwire-smol", "turnwire-tokio"] {
        let without = tree(package, &[]);
        assert!(!without.iter().any(|name| name.starts_with("tracing")), "{package}: {without:?}");
        let with = tree(package, &["--features", "tracing"]);
        assert!(with.contains("tracing"), "{package}: {with:?}");
    }
}

#[test]
fn ad_02_there_is_no_tokio_beside_smol_and_no_runtime_at_all_in_the_blocking_client() {
    let smol = tree("turnwire-smol", &[]);
    assert!(!smol.contains("tokio") && !smol.contains("mio"), "{smol:?}");
    let blocking = tree("turnwire-blocking", &[]);
    for forbidden in ["tokio", "mio", "smol", "async-io", "polling", "futures", "futures-executor"] {
        assert!(!blocking.contains(forbidden), "{forbidden} is in {blocking:?}");
    }
    let tokio = tree("turnwire-tokio", &[]);
    assert!(!tokio.contains("smol") && !tokio.contains("async-io"), "{tokio:?}");
}
