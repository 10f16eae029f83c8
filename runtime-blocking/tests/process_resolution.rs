//! Which program is started, and what is said when none can be.
#![cfg(unix)]

mod process_support;

use process_support::{Folder, LONG, Lines};
use std::{
    fs,
    io::{Seek, Write},
    path::{Path, PathBuf},
    process::Stdio,
    thread,
    time::Duration,
};
use turnwire_blocking::process::{resolve, resolve_among, spawn};
use turnwire_core::launch::{Command, LaunchError, Obstacle, Program, candidates};

fn explicit(path: &Path) -> Program {
    Program::Explicit(path.to_owned())
}

/// Resolves in a process of its own, with these variables: a process with threads must not change its own.
fn resolve_elsewhere(explicit: Option<&Path>, codex_bin: Option<&Path>, path: &str) -> String {
    let mut command = std::process::Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", "the_other_side_of_resolve_elsewhere", "--ignored", "--nocapture"]);
    command.env("PATH", path).env_remove("CODEX_BIN").env_remove("TW_EXPLICIT").stdin(Stdio::null());
    if let Some(value) = codex_bin {
        command.env("CODEX_BIN", value);
    }
    if let Some(value) = explicit {
        command.env("TW_EXPLICIT", value);
    }
    let output = String::from_utf8(command.output().unwrap().stdout).unwrap();
    let (_, answer) = output.split_once("answer: ").unwrap_or_else(|| panic!("no answer in {output}"));
    answer.lines().next().unwrap_or_default().to_owned()
}

#[test]
#[ignore = "run by other tests, in a process with an environment of its own"]
#[allow(clippy::print_stdout, reason = "its output is read by the test that runs it")]
fn the_other_side_of_resolve_elsewhere() {
    let program = std::env::var_os("TW_EXPLICIT").map_or(Program::Search, |path| Program::Explicit(path.into()));
    match resolve(&program) {
        Ok(path) => println!("answer: {}", path.display()),
        Err(e) => println!("answer: {e}"),
    }
}

#[test]
fn pr_12_explicit_comes_before_the_variable_and_the_variable_before_the_search_path() {
    let folder = Folder::new();
    let (given, named) = (folder.script("given", ""), folder.script("named", ""));
    let found = folder.script("codex", "");
    let path = format!("/nowhere:{}", folder.path().display());
    let answer = |path: &PathBuf| path.display().to_string();
    assert_eq!(resolve_elsewhere(Some(&given), Some(&named), &path), answer(&given));
    assert_eq!(resolve_elsewhere(None, Some(&named), &path), answer(&named));
    assert_eq!(resolve_elsewhere(None, None, &path), answer(&found));
    assert_eq!(resolve_elsewhere(None, Some(Path::new("")), &path), answer(&found));
    assert_eq!(resolve_elsewhere(None, Some(Path::new("given")), &path), answer(&given));
}

#[test]
fn pr_12_a_bad_explicit_path_or_variable_does_not_fall_back() {
    let folder = Folder::new();
    let good = folder.script("codex", "");
    let path = folder.path().display().to_string();
    let missing = folder.path().join("missing");
    let said = resolve_elsewhere(Some(&missing), Some(&good), &path);
    assert!(said.contains(&format!("{} (given explicitly, missing)", missing.display())), "{said}");
    let said = resolve_elsewhere(None, Some(&missing), &path);
    assert!(said.contains(&format!("{} (from CODEX_BIN, missing)", missing.display())), "{said}");
    assert!(said.contains("CODEX_BIN is set"), "{said}");
}

#[test]
fn pr_12_when_nothing_is_found_every_place_is_listed() {
    let folder = Folder::new();
    let path = format!("/nowhere:{}:relative", folder.path().display());
    let said = resolve_elsewhere(None, None, &path);
    for place in
        ["/nowhere/codex", &format!("{}/codex", folder.path().display()), "CODEX_BIN is not set", "npm install"]
    {
        assert!(said.contains(place), "{said}");
    }
    assert!(!said.contains("relative"), "{said}");
    assert!(resolve_elsewhere(None, None, "").contains("/codex (where installers put it, missing)"));
}

#[test]
fn in_the_search_path_what_cannot_be_executed_is_passed_over() {
    let (first, second, third) = (Folder::new(), Folder::new(), Folder::new());
    let blocked = first.file("codex", "");
    fs::create_dir(second.path().join("codex")).unwrap();
    let path = |folders: &[&Folder]| std::env::join_paths(folders.iter().map(|folder| folder.path())).unwrap();
    let search = |path: &std::ffi::OsStr| resolve_among(candidates(&Program::Search, None, Some(path), None));
    assert_eq!(
        search(&path(&[&second, &first])),
        Err(LaunchError::NotExecutable { path: blocked, obstacle: Obstacle::NotExecutable })
    );
    let good = third.script("codex", "");
    assert_eq!(search(&path(&[&first, &second, &third])), Ok(good));
    assert!(matches!(search(&path(&[&second])), Err(LaunchError::NotFound { tried }) if tried.len() == 1));
}

#[test]
fn a_relative_path_is_made_absolute_before_the_folder_changes() {
    let target = resolve(&explicit(Path::new("/bin/sh"))).unwrap();
    let up = "../".repeat(std::env::current_dir().unwrap().components().count());
    let relative = PathBuf::from(format!("{up}bin/sh"));
    assert!(resolve(&explicit(&relative)).unwrap().is_absolute());
    let command = Command::new().program(relative).args(["-c", "echo here"]).cwd("/tmp");
    assert_eq!(Lines::of(spawn(&command).unwrap().stdout).next(), "here");
    assert_eq!(target, Path::new("/bin/sh"));
}

#[test]
fn pr_14_each_reason_has_an_error_of_its_own() {
    let folder = Folder::new();
    let error = |path: PathBuf| spawn(&Command::new().program(path)).expect_err("cannot be started");

    assert!(matches!(error(folder.path().join("missing")), LaunchError::NotFound { tried } if tried.len() == 1));
    let blocked = folder.file("blocked", "");
    let said = error(blocked.clone());
    assert_eq!(said, LaunchError::NotExecutable { path: blocked, obstacle: Obstacle::NotExecutable });
    assert!(said.to_string().contains("chmod +x"));
    let said = error(folder.path().to_owned());
    assert_eq!(said, LaunchError::NotExecutable { path: folder.path().to_owned(), obstacle: Obstacle::NotAFile });

    let orphan = folder.script("orphan", "");
    fs::write(&orphan, "#!/nowhere/node\n").unwrap();
    let said = error(orphan).to_string();
    assert!(said.contains("interpreter"), "{said}");

    for content in ["echo a script without a first line", ""] {
        let odd = folder.script("odd", "");
        fs::write(&odd, content).unwrap();
        let said = error(odd).to_string();
        assert!(said.contains("no program for this machine") && said.contains("install it again"), "{said}");
    }
}

#[test]
fn a_missing_folder_to_start_in_is_not_blamed_on_the_program() {
    let folder = Folder::new();
    let file = folder.file("file", "");
    for (cwd, kind) in
        [(folder.path().join("gone"), std::io::ErrorKind::NotFound), (file, std::io::ErrorKind::NotADirectory)]
    {
        let said = spawn(&Command::new().program("/bin/sh").cwd(&cwd)).expect_err("cannot be started");
        assert_eq!(said, LaunchError::WorkingDirectory { path: cwd, kind });
    }
}

#[test]
fn an_argument_with_a_nul_byte_is_an_error_that_says_so() {
    let said = spawn(&Command::new().program("/bin/sh").extra_arg("a\0b")).expect_err("cannot be started");
    assert!(said.to_string().contains("NUL"), "{said}");
}

/// A copy of a real binary: the system lets nobody execute what somebody is writing.
#[test]
fn a_program_that_is_just_being_written_is_tried_again_for_a_moment() {
    let folder = Folder::new();
    let path = folder.path().join("codex");
    fs::copy("/bin/true", &path).unwrap();
    let open = || {
        let mut file = fs::OpenOptions::new().append(true).open(&path).unwrap();
        file.seek(std::io::SeekFrom::End(0)).unwrap();
        file.flush().unwrap();
        file
    };
    let held = open();
    let said = spawn(&Command::new().program(&path)).expect_err("is held for writing all the time");
    assert!(said.is_retryable() && said.to_string().contains("try again"), "{said}");
    let release = thread::spawn(move || {
        thread::sleep(Duration::from_millis(50));
        drop(held);
    });
    let process = spawn(&Command::new().program(&path)).unwrap();
    assert!(process.owner.wait_exit(LONG).unwrap().status.unwrap().is_success());
    release.join().unwrap();
}
