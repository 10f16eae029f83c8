//! Installing the pinned server: through stand-ins for pip and npm, fakes that write a small script, and once for real.
#![cfg(unix)]

mod process_support;

use process_support::Folder;
use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    thread,
    time::Duration,
};
use turnwire_blocking::{
    pinned::{Client, Installer, VERSION},
    process::resolve,
};
use turnwire_core::launch::{Platform, Program, natives_in_pinned};

/// What a stand-in does: notes that it was called, and puts a program of this version where the real client would.
fn writes(version: &str, into: &str) -> String {
    format!(
        "echo call >> \"$CALLS\"\nfor last; do case \"$previous\" in --target|--prefix) folder=\"$last\";; esac; previous=\"$last\"; \
         done\nsleep 0.1\nprogram=\"$folder/{into}\"\nmkdir -p \"$(dirname \"$program\")\"\n\
         printf '#!/bin/sh\\necho codex-cli {version}\\n' > \"$program\"\nchmod +x \"$program\"\n"
    )
}

const IN_WHEEL: &str = "codex_cli_bin/bin/codex";

fn in_npm() -> String {
    let all = natives_in_pinned(Path::new(""), Platform::here());
    all[1].display().to_string()
}

/// The installer's program, with stand-ins for the clients and nothing else of theirs in reach.
fn install(folder: &Folder, arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-install-codex"));
    command.args(arguments).env_clear().env("TURNWIRE_CACHE", folder.path().join("cache"));
    // What the stand-ins themselves need is named by its place.
    command.env("PATH", format!("{}:/usr/bin:/bin", folder.path().display())).env("CALLS", folder.path().join("calls"));
    command.output().unwrap()
}

/// Only stand-ins, not even the tools of the system.
fn install_with_nothing_around(folder: &Folder) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-install-codex"));
    command.env_clear().env("TURNWIRE_CACHE", folder.path().join("cache")).env("PATH", folder.path());
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn program(output: &Output) -> PathBuf {
    assert!(output.status.success(), "{}", said(output));
    String::from_utf8_lossy(&output.stdout).trim().into()
}

/// What is in the cache but for the lock.
fn kept(folder: &Folder) -> Vec<String> {
    let entries = fs::read_dir(folder.path().join("cache")).unwrap().flatten();
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect();
    names.retain(|name| !name.starts_with(".lock"));
    names
}

#[test]
fn it_is_installed_once_and_then_found() {
    let folder = Folder::new();
    folder.script("python3", &writes(VERSION, IN_WHEEL));
    let first = program(&install(&folder, &[]));
    assert_eq!(first, folder.path().join("cache").join(format!("codex-{VERSION}")).join(IN_WHEEL));
    assert_eq!(program(&install(&folder, &[])), first);
    assert_eq!(fs::read_to_string(folder.path().join("calls")).unwrap().lines().count(), 1);
    assert_eq!(kept(&folder), [format!("codex-{VERSION}")]);
    assert_eq!(Installer::into_folder(folder.path().join("cache")).find(), Some(first));
}

#[test]
fn many_at_once_end_with_one_installation() {
    let folder = Folder::new();
    folder.script("python3", &writes(VERSION, IN_WHEEL));
    thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| program(&install(&folder, &[])));
        }
    });
    assert_eq!(fs::read_to_string(folder.path().join("calls")).unwrap().lines().count(), 1);
    assert_eq!(kept(&folder), [format!("codex-{VERSION}")]);
}

#[test]
fn npm_is_used_where_pip_is_not() {
    let folder = Folder::new();
    folder.script("python3", "echo '/usr/bin/python3: No module named pip' >&2; exit 1");
    folder.script("npm", &writes(VERSION, &in_npm()));
    assert!(program(&install(&folder, &[])).ends_with(in_npm()));
}

#[test]
fn a_client_that_somebody_is_still_writing_is_waited_for_and_no_other_is_taken() {
    let folder = Folder::new();
    let script = folder.script("python3", &writes(VERSION, IN_WHEEL));
    folder.script("npm", "echo npm >> \"$CALLS\"; exit 1");
    // As a process would hold it that was forked while it was written.
    let writing = fs::OpenOptions::new().append(true).open(script).unwrap();
    let installing = thread::scope(|scope| {
        let installing = scope.spawn(|| install(&folder, &[]));
        thread::sleep(Duration::from_millis(30));
        drop(writing);
        installing.join().unwrap()
    });
    assert!(program(&installing).ends_with(IN_WHEEL));
    assert_eq!(fs::read_to_string(folder.path().join("calls")).unwrap().trim(), "call");
}

#[test]
fn another_version_is_refused_and_nothing_is_left() {
    let folder = Folder::new();
    folder.script("python3", &writes("0.1.2", IN_WHEEL));
    let output = install(&folder, &["--client", "pip"]);
    assert!(!output.status.success() && said(&output).contains("it says `codex-cli 0.1.2`"), "{}", said(&output));
    assert!(kept(&folder).is_empty(), "{:?}", kept(&folder));
}

#[test]
fn a_client_that_fails_is_quoted_and_one_that_is_not_there_is_named() {
    let folder = Folder::new();
    folder.script("python3", "echo 'ERROR: no route to the index' >&2; exit 1");
    let output = install(&folder, &["--client", "pip"]);
    assert!(said(&output).contains("pip could not install") && said(&output).contains("no route"), "{}", said(&output));
    assert!(kept(&folder).is_empty());
    let folder = Folder::new();
    let output = install_with_nothing_around(&folder);
    assert!(said(&output).contains("neither `python3 -m pip` nor `npm`"), "{}", said(&output));
    assert!(!install(&folder, &["--client", "yarn"]).status.success());
}

#[test]
#[ignore = "run by other tests, in a process with an environment of its own"]
#[allow(clippy::print_stdout, reason = "its output is read by the test that runs it")]
fn the_other_side_of_pinned() {
    match resolve(&Program::Pinned) {
        Ok(path) => println!("answer: {}", path.display()),
        Err(e) => println!("answer: {e}"),
    }
}

#[test]
fn a_pinned_command_takes_what_was_installed_and_nothing_else() {
    let folder = Folder::new();
    folder.script("codex", "");
    let answer = || {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "the_other_side_of_pinned", "--ignored", "--nocapture"]);
        command.env("PATH", folder.path()).env("CODEX_BIN", folder.path().join("codex"));
        command.env("TURNWIRE_CACHE", folder.path().join("cache"));
        let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
        output.split_once("answer: ").unwrap().1.lines().next().unwrap().to_owned()
    };
    let missing = answer();
    assert!(missing.contains("turnwire-install-codex") && missing.contains("(pinned, missing)"), "{missing}");
    folder.script("python3", &writes(VERSION, IN_WHEEL));
    let installed = program(&install(&folder, &[]));
    assert_eq!(answer(), installed.display().to_string());
}

#[test]
fn pr_12_a_launcher_of_npm_is_unwrapped_to_the_program_that_it_would_start() {
    let folder = Folder::new();
    let package = folder.path().join("lib/node_modules/@openai/codex");
    fs::create_dir_all(package.join("bin")).unwrap();
    fs::write(package.join("bin/codex.js"), "#!/usr/bin/env node\n").unwrap();
    fs::set_permissions(package.join("bin/codex.js"), std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let shim = folder.path().join("codex");
    std::os::unix::fs::symlink(package.join("bin/codex.js"), &shim).unwrap();
    let explicit = Program::Explicit(shim.clone());
    assert_eq!(resolve(&explicit).unwrap(), shim, "without the program there is only the launcher");
    let native = turnwire_core::launch::natives_in_package(&package, Platform::here()).remove(1);
    fs::create_dir_all(native.parent().unwrap()).unwrap();
    fs::write(&native, "#!/bin/sh\n").unwrap();
    fs::set_permissions(&native, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    assert_eq!(resolve(&explicit).unwrap().canonicalize().unwrap(), native.canonicalize().unwrap());
}

/// Fetches some 140 MB the first time; later runs find it. Only where the real server is required.
#[test]
fn the_real_client_installs_the_real_server() {
    if std::env::var_os("TURNWIRE_REQUIRE_REAL").is_none_or(|value| value != "1") {
        return;
    }
    let installer = Installer::into_folder(Path::new(env!("CARGO_TARGET_TMPDIR")).join("pinned")).client(Client::Pip);
    let program = installer.install().expect("pip and its index are there");
    let output = Command::new(&program).arg("--version").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), format!("codex-cli {VERSION}"));
    assert_eq!(installer.install().expect("found"), program);
}
