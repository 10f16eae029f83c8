//! Every feature of every crate: that it compiles alone, and that what must hold is asked of all of them.

use std::{collections::BTreeMap, fs, path::Path, process::Command};

/// The crates that people depend on, by folder.
const CRATES: [(&str, &str); 5] = [
    ("core", "turnwire-core"),
    ("runtime-blocking", "turnwire-blocking"),
    ("runtime-smol", "turnwire-smol"),
    ("runtime-tokio", "turnwire-tokio"),
    ("tests", "turnwire-testkit"),
];

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// The features of each crate, as its manifest names them.
fn features() -> BTreeMap<&'static str, Vec<String>> {
    let of = |(folder, package): &(&str, &'static str)| {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        let section = manifest.split_once("\n[features]\n").map_or("", |(_, rest)| rest);
        let section = section.split("\n[").next().unwrap_or_default();
        let names = section.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
        (*package, names.map(|(name, _)| name.trim().to_owned()).filter(|name| name != "default").collect())
    };
    CRATES.iter().map(of).collect()
}

#[test]
fn ad_11_what_must_hold_is_asked_of_every_feature_every_example_and_the_oldest_rust() {
    let features = features();
    assert_eq!(features["turnwire-core"], ["client", "std", "stream", "schemars", "tracing", "fuzzing"]);
    assert_eq!(features["turnwire-blocking"], ["schemars", "tracing"]);
    for package in ["turnwire-smol", "turnwire-tokio"] {
        assert_eq!(features[package], ["schemars", "stream", "tracing"], "{package}");
    }
    assert_eq!(features["turnwire-testkit"], ["tracing"]);
    let ci = fs::read_to_string(root().join(".ci/run")).expect("the script");
    for wanted in [
        "cargo test --workspace",
        // All targets: examples, benches and tests too.
        "cargo clippy --workspace --all-targets --all-features -- -D warnings",
        "cargo doc --workspace --no-deps --all-features",
        "cargo test -p turnwire-testkit --test features -- --ignored",
        "cargo test -p turnwire-core --no-default-features",
        "cargo test -p turnwire-testkit --features tracing --test tracing",
        "cargo +1.85.1 check --locked --workspace --all-features",
        "cargo check -p turnwire-core --target wasm32-unknown-unknown",
        "cargo check -p turnwire-core --no-default-features --target wasm32-unknown-unknown",
        "cargo check -p turnwire-blocking -p turnwire-smol -p turnwire-tokio --target x86_64-pc-windows-msvc",
        "cargo check --locked --manifest-path fuzz/Cargo.toml --bins",
    ] {
        assert!(ci.lines().any(|line| line.ends_with(wanted)), "{wanted} is not in .ci/run");
    }
    assert!(ci.contains("RUSTDOCFLAGS=\"-D warnings\" cargo doc"), "documentation without warnings");
    let workspace = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest");
    assert!(workspace.contains("rust-version = \"1.85\"") && workspace.contains("incompatible_msrv = \"deny\""));
    for (folder, package) in CRATES {
        let manifest = fs::read_to_string(root().join(folder).join("Cargo.toml")).expect("a manifest");
        assert!(manifest.contains("rust-version.workspace = true"), "{package}");
        assert!(manifest.contains("[lints]\nworkspace = true"), "{package}");
    }
}

/// Takes minutes where nothing was built before, so `.ci/run` asks for it by name.
#[test]
#[ignore = "checks each crate once for each of its features: cargo test -p turnwire-testkit --test features -- --ignored"]
fn ad_11_each_feature_alone_none_and_all_of_them_compile() {
    for (package, features) in features() {
        check(package, &["--no-default-features"]);
        for feature in &features {
            check(package, &["--no-default-features", "--features", feature]);
        }
        check(package, &["--all-features"]);
    }
}

fn check(package: &str, arguments: &[&str]) {
    let output = Command::new(env!("CARGO"))
        .args(["check", "--quiet", "--locked", "--package", package])
        .args(arguments)
        .env("RUSTFLAGS", "-D warnings")
        // Its own, so that nothing of the usual one is built again because of the flags.
        .env("CARGO_TARGET_DIR", Path::new(env!("CARGO_TARGET_TMPDIR")).join("features"))
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(output.status.success(), "{package} {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
}
