//! Real processes from start to end: closing, dropping, killing, launchers with helpers, stderr.
#![cfg(unix)]

mod process_support;

use process_support::{Folder, LONG, Lines, end_stray, eventually, exists, is_running, ladder, start};
use std::{
    future::{Future, poll_fn},
    io::Write,
    path::PathBuf,
    pin::pin,
    process::ChildStdin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    thread,
    time::{Duration, Instant},
};
use turnwire_blocking::process::{Owner, Process, StderrMark, spawn};
use turnwire_core::launch::{CloseLadder, Command, Environment, ExitStatus, Forced};

/// Answers every line; ends with its stdin.
const ECHO: &str = "while read -r line; do echo \"got $line\"; done";
/// Heeds neither the end of its stdin nor the signal to terminate.
const STUBBORN: &str = "trap '' TERM; echo ready; while :; do sleep 0.05; done";
/// Heeds the signal only.
const DEAF: &str = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.05; done";

const fn code(code: i32) -> Option<ExitStatus> {
    Some(ExitStatus::new(Some(code), None))
}

const fn signal(signal: i32) -> Option<ExitStatus> {
    Some(ExitStatus::new(None, Some(signal)))
}

#[test]
fn pr_01_an_idle_server_ends_with_its_stdin_and_is_collected() {
    let folder = Folder::new();
    let Process { mut stdin, stdout, owner, .. } = start(&folder.script("codex", ECHO));
    let lines = Lines::of(stdout);
    stdin.write_all(b"hello\n").unwrap();
    assert_eq!(lines.next(), "got hello");
    assert!(owner.try_exit().is_none());
    assert!(exists(owner.pid()));

    owner.close();
    drop(stdin);
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!((report.status, report.forced), (code(0), Forced::No));
    assert!(report.group_swept);
    assert!(report.closing.unwrap() <= report.elapsed);
    assert!(!exists(owner.pid()), "a zombie is left");
    lines.end();
    assert_eq!(owner.try_exit(), Some(report.clone()));
    owner.close();
    owner.kill();
    assert_eq!(owner.wait_exit(Duration::ZERO), Some(report));
}

#[test]
fn pr_02_a_server_that_ignores_eof_and_terminate_is_killed_within_the_bound() {
    let folder = Folder::new();
    let Process { stdin, stdout, owner, .. } = start(&folder.script("codex", STUBBORN));
    let lines = Lines::of(stdout);
    assert_eq!(lines.next(), "ready");
    drop(stdin);
    let asked = Instant::now();
    owner.close();
    assert!(asked.elapsed() < Duration::from_millis(150), "close waited");
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!((report.status, report.forced), (signal(9), Forced::Killed));
    let closing = report.closing.unwrap();
    assert!(closing >= Duration::from_millis(400), "a rung was left out: {closing:?}");
    assert!(closing < ladder().total(), "{closing:?}");
    assert!(!exists(owner.pid()));
    lines.end();
}

#[test]
fn pr_02_a_server_that_has_gone_over_to_another_group_is_ended_all_the_same() {
    if !std::path::Path::new("/usr/bin/perl").exists() {
        return;
    }
    let folder = Folder::new();
    for (heeds, status, forced) in
        [("'DEFAULT'", signal(15), Forced::Terminated), ("'IGNORE'", signal(9), Forced::Killed)]
    {
        let program = folder.script("codex", "");
        // Into the group of this test, which must not be signalled.
        let text = format!(
            "#!/usr/bin/perl\n$SIG{{TERM}} = {heeds}; setpgrp(0, getpgrp(getppid())) or die; $| = 1;\n\
             print getpgrp(0) == $$ ? \"stayed\\n\" : \"left\\n\"; sleep 1 while 1;\n"
        );
        std::fs::write(&program, text).unwrap();
        let Process { stdin, stdout, owner, .. } = start(&program);
        assert_eq!(Lines::of(stdout).next(), "left");
        drop(stdin);
        owner.close();
        let report = owner.wait_exit(LONG).unwrap();
        assert_eq!((report.status, report.forced), (status, forced));
        assert!(!exists(owner.pid()));
    }
}

#[test]
fn a_server_that_heeds_only_the_signal_is_reported_as_terminated() {
    let folder = Folder::new();
    let Process { stdin, stdout, owner, .. } = start(&folder.script("codex", DEAF));
    assert_eq!(Lines::of(stdout).next(), "ready");
    drop(stdin);
    owner.close();
    owner.close();
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!((report.status, report.forced), (code(7), Forced::Terminated));
}

#[test]
fn a_stdin_that_somebody_keeps_open_only_costs_the_first_rung() {
    let folder = Folder::new();
    let Process { stdin, owner, .. } = start(&folder.script("codex", ECHO));
    owner.close();
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!((report.status, report.forced), (signal(15), Forced::Terminated));
    drop(stdin);
}

#[test]
fn a_kill_skips_the_rungs_that_are_left() {
    let folder = Folder::new();
    let slow = CloseLadder::new().eof_grace(Duration::from_secs(600)).terminate_grace(Duration::from_secs(600));
    let command = Command::new().program(folder.script("codex", STUBBORN)).close_ladder(slow);
    for close_first in [false, true] {
        let Process { stdout, owner, .. } = spawn(&command).unwrap();
        assert_eq!(Lines::of(stdout).next(), "ready");
        if close_first {
            owner.close();
            assert!(owner.wait_exit(Duration::from_millis(50)).is_none());
        }
        owner.kill();
        let report = owner.wait_exit(LONG).unwrap();
        assert_eq!((report.status, report.forced), (signal(9), Forced::Killed));
        assert!(!exists(owner.pid()));
    }
}

#[test]
fn an_end_that_the_system_does_not_confirm_in_time_is_reported_without_a_status() {
    let folder = Folder::new();
    let hasty = ladder().kill_grace(Duration::ZERO);
    let process = spawn(&Command::new().program(folder.script("codex", STUBBORN)).close_ladder(hasty)).unwrap();
    let lines = Lines::of(process.stdout);
    assert_eq!(lines.next(), "ready");
    process.owner.kill();
    let report = process.owner.wait_exit(LONG).unwrap();
    assert!(report.status.is_none() || report.status == signal(9), "{report:?}");
    assert_eq!(report.forced, Forced::Killed);
    eventually("it is collected all the same", || !exists(process.owner.pid()));
    lines.end();
    assert_eq!(process.owner.try_exit(), Some(report), "the first report stands");
}

#[test]
fn a_status_that_another_part_of_the_program_takes_away_is_not_waited_for() {
    let folder = Folder::new();
    let Process { stdin, owner, .. } = start(&folder.script("codex", ECHO));
    let pid = rustix::process::Pid::from_raw(i32::try_from(owner.pid()).unwrap()).unwrap();
    let thief = thread::spawn(move || {
        let _ = rustix::process::waitpid(Some(pid), rustix::process::WaitOptions::empty());
    });
    drop(stdin);
    // Which of the two is first, the system decides.
    let report = owner.wait_exit(LONG).unwrap();
    assert!(report.status.is_none() || report.status == code(0), "{report:?}");
    thief.join().unwrap();
}

/// A launcher, the server, and a helper that heeds nothing and keeps stdout open.
struct Three {
    stdin: ChildStdin,
    owner: Owner,
    lines: Lines,
    ids: [u32; 3],
}

/// The launcher is this line of shell; `$dir` is the folder with the scripts `server` and `helper`.
fn start_three(folder: &Folder, launch: &str) -> Three {
    let dir = folder.path().display();
    folder.script("helper", "trap '' TERM; echo \"helper $$\"; while :; do sleep 0.05; done");
    folder.script("server", &format!("echo \"server $$\"; {dir}/helper & while read -r line; do :; done"));
    let Process { stdin, stdout, owner, .. } = start(&folder.script("codex", &format!("dir={dir}; {launch}")));
    let lines = Lines::of(stdout);
    let ids = [owner.pid(), lines.pid("server "), lines.pid("helper ")];
    Three { stdin, owner, lines, ids }
}

const FORKS: &str = "exec 3<&0; \"$dir/server\" <&3 & wait $!";
const EXECS: &str = "exec \"$dir/server\"";
const GIVES_UP: &str = "exec 3<&0; \"$dir/server\" <&3 & sleep 0.3; exit 3";

#[test]
fn pr_03_none_of_launcher_server_and_helper_is_left_after_a_close() {
    for launch in [FORKS, EXECS] {
        let folder = Folder::new();
        let Three { stdin, owner, lines, ids } = start_three(&folder, launch);
        assert!(ids.iter().all(|id| is_running(*id)));
        assert_eq!(ids[0] == ids[1], launch == EXECS);
        drop(stdin);
        owner.close();
        let report = owner.wait_exit(LONG).unwrap();
        // The server left by itself; its helper would not have, and was swept.
        assert_eq!((report.status, report.forced, report.group_swept), (code(0), Forced::No, true));
        eventually("all three gone", || !ids.iter().any(|id| is_running(*id)));
        lines.end();
    }
}

#[test]
fn pr_03_none_of_launcher_server_and_helper_is_left_after_a_drop() {
    for launch in [FORKS, EXECS] {
        let folder = Folder::new();
        let Three { stdin, owner, lines, ids } = start_three(&folder, launch);
        drop((stdin, owner));
        eventually("all three gone", || !ids.iter().any(|id| is_running(*id)));
        lines.end();
        eventually("the leader collected", || !exists(ids[0]));
    }
}

#[test]
fn pr_03_none_of_launcher_server_and_helper_is_left_after_a_failed_start() {
    // The launcher gives up by itself: its server and helper must not outlive it.
    let folder = Folder::new();
    let Three { stdin, owner, lines, ids } = start_three(&folder, GIVES_UP);
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!((report.status, report.forced, report.closing), (code(3), Forced::No, None));
    eventually("all three gone", || !ids.iter().any(|id| is_running(*id)));
    lines.end();
    drop(stdin);

    // The server never says what is expected of it, and the starter gives up.
    let folder = Folder::new();
    let Three { stdin, owner, lines, ids } = start_three(&folder, FORKS);
    owner.kill();
    drop((stdin, owner));
    eventually("all three gone", || !ids.iter().any(|id| is_running(*id)));
    lines.end();
}

#[test]
fn pr_04_a_drop_without_close_ends_the_process_and_does_not_block() {
    let folder = Folder::new();
    for body in [ECHO, STUBBORN] {
        let Process { stdin, stdout, owner, .. } = start(&folder.script("codex", body));
        let lines = Lines::of(stdout);
        let (pid, clone) = (owner.pid(), owner.clone());
        if body == STUBBORN {
            assert_eq!(lines.next(), "ready");
        }
        drop(owner);
        assert!(clone.wait_exit(Duration::from_millis(300)).is_none(), "the drop of a clone is no end");
        let asked = Instant::now();
        drop((stdin, clone));
        assert!(asked.elapsed() < Duration::from_millis(150), "the drop waited");
        eventually("the process is gone and collected", || !exists(pid));
    }
}

#[test]
fn pr_04_a_drop_in_a_thread_that_panics_ends_the_process() {
    let folder = Folder::new();
    let process = start(&folder.script("codex", STUBBORN));
    let pid = process.owner.pid();
    let thread = thread::spawn(move || {
        let _process = process;
        std::panic::resume_unwind(Box::new("on purpose"));
    });
    assert!(thread.join().is_err());
    eventually("the process is gone and collected", || !exists(pid));
}

#[test]
fn pr_06_a_kill_from_outside_is_reported_with_its_signal_and_the_stderr_since_the_mark() {
    let folder = Folder::new();
    let body = "echo early >&2; echo ready; read -r line; echo 'last words' >&2; kill -KILL $$";
    let Process { mut stdin, stdout, owner, .. } = start(&folder.script("codex", body));
    let lines = Lines::of(stdout);
    assert_eq!(lines.next(), "ready");
    eventually("stderr is read", || owner.stderr_tail() == "early\n");
    let mark = owner.stderr_mark();
    assert_eq!(owner.stderr_since(mark), "");
    stdin.write_all(b"go\n").unwrap();
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!((report.status, report.forced, report.closing), (signal(9), Forced::No, None));
    assert_eq!(report.to_string(), "killed by signal 9 (SIGKILL)");
    assert_eq!(report.stderr_tail(), "early\nlast words\n");
    assert_eq!(owner.stderr_since(mark), "last words\n");
    assert_eq!(owner.stderr_since(StderrMark::default()), report.stderr_tail());
    lines.end();
}

#[test]
fn pr_14_exit_code_127_of_a_launcher_is_recognised() {
    let folder = Folder::new();
    let process = start(&folder.script("codex", "exec turnwire-there-is-no-such-program"));
    let report = process.owner.wait_exit(LONG).unwrap();
    assert!(report.is_launcher_without_program(), "{report:?}");
    assert!(report.stderr_tail().contains("turnwire-there-is-no-such-program"), "{}", report.stderr_tail());
}

#[test]
fn fr_11_a_flood_on_stderr_neither_blocks_the_process_nor_grows_the_tail() {
    let folder = Folder::new();
    let body = "head -c 4000000 /dev/zero | tr '\\0' x >&2; echo ready; read -r line; echo \"got $line\"";
    let command = Command::new().program(folder.script("codex", body)).close_ladder(ladder()).stderr_tail_bytes(1000);
    let Process { mut stdin, stdout, owner, .. } = spawn(&command).unwrap();
    let lines = Lines::of(stdout);
    assert_eq!(lines.next(), "ready");
    stdin.write_all(b"on\n").unwrap();
    assert_eq!(lines.next(), "got on");
    let report = owner.wait_exit(LONG).unwrap();
    assert_eq!(report.stderr_tail(), "x".repeat(1000));
    assert_ne!(owner.stderr_mark(), StderrMark::default());
}

#[test]
fn bad_utf_8_on_stderr_is_replaced_and_the_rest_is_kept() {
    let folder = Folder::new();
    let process = start(&folder.script("codex", "printf 'a\\377\\376b\\303\\251\\n' >&2"));
    let report = process.owner.wait_exit(LONG).unwrap();
    assert_eq!(report.stderr_tail(), "a\u{fffd}\u{fffd}b\u{e9}\n");
}

#[test]
fn a_process_that_closes_its_stderr_goes_on() {
    let folder = Folder::new();
    let Process { mut stdin, stdout, owner, .. } = start(&folder.script("codex", &format!("exec 2>&-; {ECHO}")));
    stdin.write_all(b"a\n").unwrap();
    assert_eq!(Lines::of(stdout).next(), "got a");
    drop(stdin);
    assert_eq!(owner.wait_exit(LONG).unwrap().status, code(0));
}

#[test]
fn a_grandchild_that_left_the_group_does_not_delay_the_report() {
    let folder = Folder::new();
    let process = start(&folder.script("codex", "setsid sleep 20 & echo $!; echo bye >&2; sleep 0.2"));
    let stray = Lines::of(process.stdout).pid("");
    let report = process.owner.wait_exit(Duration::from_secs(3)).expect("the report waits for a stray's stderr");
    assert_eq!((report.status, report.stderr_tail()), (code(0), "bye\n"));
    assert!(report.elapsed < Duration::from_secs(3));
    // Nothing of ours may end it, so this test does.
    end_stray(stray);
}

#[test]
fn a_sibling_started_later_does_not_hold_the_pipes_open() {
    let folder = Folder::new();
    let first = start(&folder.script("first", ECHO));
    let second = start(&folder.script("second", STUBBORN));
    let lines = Lines::of(first.stdout);
    drop(first.stdin);
    assert_eq!(first.owner.wait_exit(LONG).unwrap().status, code(0));
    lines.end();
    assert!(second.owner.try_exit().is_none());
}

struct Count(AtomicUsize);

impl Wake for Count {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

#[test]
fn every_task_that_waits_for_the_end_is_woken() {
    let folder = Folder::new();
    let Process { stdin, owner, .. } = start(&folder.script("codex", ECHO));
    let counts: Vec<Arc<Count>> = (0..100).map(|_| Arc::new(Count(AtomicUsize::new(0)))).collect();
    let mut owners: Vec<Owner> = counts.iter().map(|_| owner.clone()).collect();
    for _ in 0..3 {
        for (count, owner) in counts.iter().zip(&owners) {
            let waker = Waker::from(count.clone());
            assert!(owner.poll_exit(&mut Context::from_waker(&waker)).is_pending());
        }
    }
    // Who lets go of its clone waits no longer.
    owners.truncate(60);
    let (waiting, gone) = counts.split_at(60);
    assert!(gone.iter().all(|count| Arc::strong_count(count) == 1));
    assert!(counts.iter().all(|count| count.0.load(Ordering::SeqCst) == 0), "nothing has happened yet");
    drop(stdin);
    let report = owner.wait_exit(LONG).unwrap();
    eventually("all are woken", || waiting.iter().all(|count| count.0.load(Ordering::SeqCst) == 1));
    assert!(gone.iter().all(|count| count.0.load(Ordering::SeqCst) == 0));
    let mut after = pin!(poll_fn(|cx| owner.poll_exit(cx)));
    assert_eq!(after.as_mut().poll(&mut Context::from_waker(Waker::noop())), Poll::Ready(report));
}

/// Holds a process. Its last reference may be the waker's.
struct Holder(Owner);

impl Wake for Holder {
    fn wake(self: Arc<Self>) {}
}

#[test]
fn an_owner_that_only_its_own_waker_holds_is_dropped_without_a_deadlock() {
    let folder = Folder::new();
    let process = start(&folder.script("codex", ECHO));
    let pid = process.owner.pid();
    let holder = Arc::new(Holder(process.owner));
    let waker = Waker::from(holder.clone());
    assert!(holder.0.poll_exit(&mut Context::from_waker(&waker)).is_pending());
    drop((waker, holder));
    drop(process.stdin);
    eventually("the process is gone and collected", || !exists(pid));
}

/// The child sees its environment as `env` prints it.
fn environment_of(command: Command) -> Vec<String> {
    let process = spawn(&command.program("/usr/bin/env").args([""; 0])).unwrap();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut { process.stdout }, &mut text).unwrap();
    assert_eq!(process.owner.wait_exit(LONG).unwrap().status, code(0));
    text.lines().map(str::to_owned).collect()
}

#[test]
fn pr_17_the_child_sees_exactly_the_environment_that_was_asked_for() {
    let set = |command: Command| command.env("TW_SET", "1").env_remove("CARGO_PKG_NAME").codex_home("homes/a");
    let home = format!("CODEX_HOME={}", std::path::absolute("homes/a").unwrap().display());
    let own = |name: &str| format!("{name}={}", std::env::var(name).unwrap());

    let mut cleared = environment_of(set(Command::new().environment(Environment::Cleared)));
    cleared.sort();
    assert_eq!(cleared, [home.clone(), "TW_SET=1".into()]);

    let names = ["CARGO_PKG_NAME", "CARGO_PKG_VERSION", "TW_NOT_SET"].map(String::from).to_vec();
    let mut listed = environment_of(set(Command::new().environment(Environment::AllowList(names))));
    listed.sort();
    assert_eq!(listed, [own("CARGO_PKG_VERSION"), home.clone(), "TW_SET=1".into()]);

    let inherited = environment_of(set(Command::new()));
    assert!([own("CARGO_PKG_VERSION"), own("PATH"), home, "TW_SET=1".into()].iter().all(|var| inherited.contains(var)));
    assert!(!inherited.iter().any(|var| var.starts_with("CARGO_PKG_NAME=")));
}

#[test]
fn the_child_starts_in_the_folder_and_with_the_arguments_that_were_asked_for() {
    let folder = Folder::new();
    let program = folder.script("codex", "pwd -P; echo \"$@\"");
    let cwd = std::fs::canonicalize(folder.path()).unwrap();
    let process = spawn(&Command::new().program(program).cwd(&cwd).config("a", "1").extra_arg("--x")).unwrap();
    let lines = Lines::of(process.stdout);
    assert_eq!(PathBuf::from(lines.next()), cwd);
    assert_eq!(lines.next(), "app-server -c a=1 --x");
}
