//! `ask`, `ask-tokio` and `ask-smol` as processes, the way a user meets them: against no server at all, the scripted one,
//! and the real one.
//!
//! Every program runs in a cleared environment with an empty `PATH`, and must leave no process behind.

#![cfg(unix)]
#![allow(missing_docs, reason = "a test suite documents itself by the names of its tests")]

use std::{
    ffi::OsStr,
    fs,
    io::{Read, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::{
        Arc, Mutex, OnceLock, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant, SystemTime},
};
use turnwire_testkit::{
    model::{ExecCommand, Gate, Message, Phase, Reply, ScriptedModel, Usage},
    real::{self, RealHome},
    scripted::{Rule, Script, TurnPlan},
};

/// How long anything may take before it counts as hanging.
const PATIENCE: Duration = Duration::from_secs(60);
/// The variable by which the processes of one run are known.
const MARK: &str = "TURNWIRE_EXAMPLE_RUN";
const QUESTION: &str = "What is this?";
const PROGRAMS: [(&str, &str); 3] =
    [("turnwire-blocking", "ask"), ("turnwire-tokio", "ask-tokio"), ("turnwire-smol", "ask-smol")];

/// Those that assert their own outcome. Each is its own fake server, unless it is told to use the real one.
const EXAMPLES: [(&str, &str); 8] = [
    ("turnwire-blocking", "chat"),
    ("turnwire-blocking", "history"),
    ("turnwire-blocking", "stream"),
    ("turnwire-smol", "typed"),
    ("turnwire-tokio", "fan"),
    ("turnwire-tokio", "headless"),
    ("turnwire-tokio", "retry"),
    ("turnwire-tokio", "steer"),
];

/// Each test for each of the programs.
macro_rules! each {
    ($($test:ident)*) => {
        mod ask { $(#[test] fn $test() { super::$test(&super::program("ask")); })* }
        mod ask_tokio { $(#[test] fn $test() { super::$test(&super::program("ask-tokio")); })* }
        mod ask_smol { $(#[test] fn $test() { super::$test(&super::program("ask-smol")); })* }
    };
}

each! {
    without_codex_it_runs_on_the_fake_and_says_so_first
    a_named_program_that_is_bad_is_an_error_and_nothing_stands_in_for_it
    the_answer_is_shown_while_it_is_written
    what_the_agent_does_is_shown_as_it_happens
    what_nobody_approved_is_refused_and_shown
    retries_are_shown_and_a_failed_turn_is_a_failure
    a_server_that_vanishes_is_a_failure
    the_deadline_ends_the_turn
    the_steer_is_answered
    ctrl_c_interrupts_the_turn_and_waits_for_its_end
    a_second_ctrl_c_kills_even_a_server_that_heeds_nothing
    the_options_reach_the_server
    the_prompt_may_come_from_stdin
    a_wrong_command_line_has_a_status_of_its_own
    on_the_real_server_a_turn_streams_and_completes
    on_the_real_server_the_steer_reaches_the_model
    on_the_real_server_ctrl_c_interrupts
    on_the_real_server_the_sandbox_is_the_one_asked_for
}

#[test]
fn lv_06_every_example_asserts_its_own_outcome_on_the_fake_and_says_that_it_is_one() {
    for (_, example) in EXAMPLES {
        let end = Ask::new(&program(example)).run();
        assert_eq!(end.code, Some(0), "{example}: {end:?}");
        let first = end.stderr.lines().next().unwrap_or_default();
        assert_eq!(first, "this asks the scripted server of turnwire's test kit, a fake; --real asks codex itself");
        let wrong = Ask::new(&program(example)).args(["--real", "/no/such/codex"]).run();
        assert_eq!(wrong.code, Some(1), "{example}: {wrong:?}");
        assert!(wrong.stderr.contains("/no/such/codex"), "{example}: {wrong:?}");
    }
}

#[test]
fn lv_06_every_example_asserts_its_own_outcome_on_the_real_server() {
    for (_, example) in EXAMPLES {
        let Some(real) = Real::new("lv_06_every_example_asserts_its_own_outcome_on_the_real_server") else { return };
        real.model.set_default(Reply::text(r#"{"summary":"Nothing to say.","findings":[]}"#));
        let ask =
            real.home.env().into_iter().fold(Ask::new(&program(example)), |ask, (name, value)| ask.env(name, value));
        let end = ask.args(["--real", real.program.to_str().expect("UTF-8")]).run();
        assert_eq!(end.code, Some(0), "{example}: {end:?}");
        assert!(end.stderr.starts_with("this asks codex itself"), "{example}: {end:?}");
    }
}

#[test]
fn the_chat_answers_what_is_typed_and_refuses_where_nobody_is_left_to_say_yes() {
    let end = Ask::new(&program("chat")).stdin("hello\n").run();
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "You said: hello\n"), "{end:?}");
    let end = Ask::new(&program("chat")).stdin("run the test\n").run();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stderr.contains("(declined)") && !end.stderr.contains("all of them passed"), "{end:?}");
}

/// What is typed into a chat, and what it shows: a command that is asked for, a steer, and Ctrl-C once and twice.
#[test]
fn the_chat_asks_steers_and_is_interrupted_on_the_fake() {
    let mut running = Ask::new(&program("chat")).typed().start();
    running.type_line("run the test");
    running.wait_for_stderr("may this run?\n  May I run this outside the sandbox?\n  $ /bin/bash -lc 'cargo test'");
    running.type_line("maybe");
    running.type_line("Yes");
    running.wait_for_stdout("It works.");
    running.type_line("make a note");
    running.wait_for_stderr("may these files be changed?\n--- /workspace/NOTES.md\n  A note.\n");
    running.type_line("n");
    running.wait_for_stderr("(declined)");
    running.wait_for_stdout("Noted.");
    running.type_line("wait for me");
    running.wait_for_stdout("I wait until you say something.");
    running.type_line("go on");
    running.wait_for_stdout("You also said: go on");
    running.type_line("wait for nobody");
    running.wait_for_stdout("You also said: go on\nI wait until you say something.");
    running.signal();
    running.wait_for_stderr("(Interrupted)");
    running.signal();
    let end = running.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stderr.contains("(interrupting; once more to leave)"), "{end:?}");
}

#[test]
fn the_chat_asks_steers_and_is_interrupted_on_the_real_server() {
    let Some(real) = Real::new("the_chat_asks_steers_and_is_interrupted_on_the_real_server") else { return };
    let ask = Ask::new(&program("chat")).args(["--real", real.program.to_str().expect("UTF-8")]).typed();
    let mut running = real.home.env().into_iter().fold(ask, |ask, (name, value)| ask.env(name, value)).start();
    let mut turns = 0;
    for (way, word) in [("accepted", "y"), ("declined", "n")] {
        let target = real.home.work().join(way);
        let command = format!("echo x > {}", target.display());
        real.model.push(Reply::new().exec(ExecCommand::new(command.as_str()).escalated("May I?")));
        real.model.push(Reply::text(format!("It was {way}.")));
        running.type_line("Write it.");
        running.wait_for_stderr(&format!("$ /bin/bash -lc '{command}'\n  in "));
        running.type_line(word);
        running.wait_for_stdout(&format!("It was {way}."));
        turns += 1;
        running.wait_for_turns(turns);
        assert_eq!(target.exists(), word == "y");
    }
    let gate = Gate::new();
    let held = |text: &str| Reply::new().message(Message::new(text).hold(&gate).text(" Done."));
    real.model.push(held("I begin."));
    real.model.push(Reply::text("I heard more."));
    running.type_line("Take your time.");
    running.wait_for_stdout("I begin.");
    running.type_line("More, please.");
    running.wait_for_stderr("(the agent has it)");
    gate.open();
    running.wait_for_stdout("I heard more.");
    // What is typed before the end is for the turn that runs.
    running.wait_for_turns(turns + 1);
    let gate = Gate::new();
    real.model.push(Reply::new().message(Message::new("I wait.").hold(&gate)));
    running.type_line("Wait.");
    running.wait_for_stdout("I wait.");
    running.signal();
    running.wait_for_stderr("(Interrupted)");
    running.signal();
    let end = running.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    gate.open();
}

#[test]
fn the_chat_shows_what_would_move_the_cursor_as_text() {
    let mut running = Ask::new(&program("chat")).typed().start();
    running.type_line("say \u{1b}[2Kthis\rthat \u{202e}siht");
    running.wait_for_stdout("You said: say \u{fffd}[2Kthis\u{fffd}that \u{fffd}siht");
    assert_eq!(running.end().code, Some(0));
}

fn without_codex_it_runs_on_the_fake_and_says_so_first(program: &Path) {
    let end = Ask::new(program).args([QUESTION]).run();
    assert_eq!(end.code, Some(0), "{end:?}");
    let first = end.stderr.lines().next().expect("a line");
    assert_eq!(first, "no codex found: this is the scripted server that ships with turnwire, a fake");
    assert!(end.stderr.contains("npm install -g @openai/codex"), "{end:?}");
    assert!(end.stdout.starts_with("This answer was written beforehand"), "{end:?}");
    assert!(end.stdout.ends_with(".\n") && !end.stdout.ends_with("\n\n"), "{end:?}");
    for line in
        ["running: /bin/bash -lc 'ls'", "ran: /bin/bash -lc 'ls' (exit code 0)", "changed: /workspace/NOTES.md (added)"]
    {
        assert!(end.has_line(line), "{line}: {end:?}");
    }
    assert!(end.last_line().starts_with("completed after "), "{end:?}");
    assert!(end.last_line().ends_with(" s, tokens: 30 input (0 cached), 15 output"), "{end:?}");
}

fn a_named_program_that_is_bad_is_an_error_and_nothing_stands_in_for_it(program: &Path) {
    let folder = Folder::new();
    let plain = folder.0.join("codex");
    fs::write(&plain, "no program").expect("written");
    let plain = plain.to_str().expect("UTF-8");
    let runs = [
        Ask::new(program).args(["--codex", "/no/such/codex", QUESTION]),
        Ask::new(program).args(["--codex", "codex-by-name", QUESTION]),
        Ask::new(program).args(["--codex", "codex-by-name", QUESTION]).env("PATH", ""),
        Ask::new(program).args(["--codex", plain, QUESTION]),
        Ask::new(program).args([QUESTION]).env("CODEX_BIN", "/no/such/codex"),
        Ask::new(program).args([QUESTION]).env("CODEX_BIN", "codex-by-name").env("PATH", ""),
        // There is one in PATH, and it is broken: that is not the same as none.
        Ask::new(program).args([QUESTION]).env("PATH", &folder.0),
    ];
    for run in runs {
        let end = run.run();
        assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""), "{end:?}");
        assert!(!end.stderr.contains("fake") && end.stderr.contains("codex"), "{end:?}");
    }
    // The explicit program comes before the variable.
    let end = Ask::new(program).args(["--codex", SCRIPTED, QUESTION]).env("CODEX_BIN", "/no/such/codex").run();
    assert_eq!((end.code, end.stdout), (Some(0), format!("You said: {QUESTION}\n")));
}

fn the_answer_is_shown_while_it_is_written(program: &Path) {
    let running = Ask::new(program).plays(&Script::new().turn(TurnPlan::new().text("So far.").hold())).start();
    running.wait_for_stdout("So far.");
    running.signal();
    let end = running.end();
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), "So far.\n"), "{end:?}");
}

fn what_the_agent_does_is_shown_as_it_happens(program: &Path) {
    let plan = TurnPlan::new().command("make", "broken\n", 2).file_change("/w/a.txt", "a\n").text("Broken.").hold();
    let running = Ask::new(program).plays(&Script::new().turn(plan)).start();
    running.wait_for_stdout("Broken.");
    let lines = [
        "running: /bin/bash -lc 'make'",
        "ran: /bin/bash -lc 'make' (exit code 2)",
        "changing: /w/a.txt",
        "changed: /w/a.txt (added)",
    ];
    // What came first on one pipe may be read last.
    running.wait_for_stderr(lines[3]);
    assert_eq!(running.stderr().lines().collect::<Vec<_>>(), lines);
    running.signal();
    assert_eq!(running.end().code, Some(1));
}

fn what_nobody_approved_is_refused_and_shown(program: &Path) {
    let plan = TurnPlan::new().command("rm -r /", "", 0).text("I was not allowed.").with_approval();
    let end = Ask::new(program).plays(&Script::new().turn(plan)).run();
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "I was not allowed.\n"), "{end:?}");
    assert!(end.has_line("refused: item/commandExecution/requestApproval (ask approves nothing)"), "{end:?}");
    assert!(end.has_line("not run: /bin/bash -lc 'rm -r /' (declined)"), "{end:?}");
}

fn retries_are_shown_and_a_failed_turn_is_a_failure(program: &Path) {
    let plan = TurnPlan::new().fail("the model is on fire", "other".into(), 2);
    let end = Ask::new(program).plays(&Script::new().turn(plan)).run();
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), ""), "{end:?}");
    assert!(end.has_line("retrying: Reconnecting... 1/2") && end.has_line("retrying: Reconnecting... 2/2"), "{end:?}");
    assert!(end.has_line("the turn failed: the model is on fire"), "{end:?}");
    assert!(end.last_line().starts_with("failed after "), "{end:?}");
    assert!(end.last_line().ends_with("tokens: not reported"), "{end:?}");
}

fn a_server_that_vanishes_is_a_failure(program: &Path) {
    let script = Script::new().rule(Rule::on("turn/start").default_reply().delay(100).exit(3));
    let end = Ask::new(program).plays(&script.turn(TurnPlan::new().text("Half an ans").hold())).run();
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), "Half an ans\n"), "{end:?}");
    assert!(end.stderr.contains("exit status 3"), "{end:?}");
    assert!(end.last_line().starts_with("lost after "), "{end:?}");
}

fn the_deadline_ends_the_turn(program: &Path) {
    let plan = TurnPlan::new().text("Still at it.").hold();
    let end = Ask::new(program).args(["--timeout", "0.6"]).plays(&Script::new().turn(plan)).run();
    assert_eq!((end.code, end.stdout.as_str()), (Some(1), "Still at it.\n"), "{end:?}");
    assert!(end.last_line().starts_with("timed out after "), "{end:?}");
    // The fake has one too.
    let end = Ask::new(program).args(["--timeout", "0.5", QUESTION]).run();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.last_line().starts_with("timed out after 0."), "{end:?}");
}

fn the_steer_is_answered(program: &Path) {
    // Held, so that nothing but the steer lets the turn end.
    let plan = TurnPlan::new().text("A plan.").hold();
    let end = Ask::new(program).args(["--steer", "By train."]).plays(&Script::new().turn(plan)).run();
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "A plan.\nYou also said: By train.\n"), "{end:?}");
    assert!(end.has_line("steered"), "{end:?}");
    let end = Ask::new(program).args([QUESTION, "--steer", "In French."]).run();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.ends_with("\nYou also said: In French.\n"), "{end:?}");
}

fn ctrl_c_interrupts_the_turn_and_waits_for_its_end(program: &Path) {
    let running = Ask::new(program).args([QUESTION]).start();
    running.wait_for_stdout("This answer");
    assert!(!running.processes().is_empty());
    running.signal();
    let end = running.end();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.has_line("interrupting (Ctrl-C again kills)"), "{end:?}");
    assert!(end.last_line().starts_with("interrupted after "), "{end:?}");
    assert!(end.last_line().contains("tokens: "), "{end:?}");
}

fn a_second_ctrl_c_kills_even_a_server_that_heeds_nothing(program: &Path) {
    let script = Script::new().ignore_term(true).rule(Rule::on_eof().ignore_eof()).rule(Rule::on("turn/interrupt"));
    let running = Ask::new(program).plays(&script.turn(TurnPlan::new().text("Never ending.").hold())).start();
    running.wait_for_stdout("Never ending.");
    running.signal();
    running.wait_for_stderr("interrupting");
    thread::sleep(Duration::from_millis(200));
    assert!(!running.stderr().contains("killed"), "one Ctrl-C waits");
    running.signal();
    let start = Instant::now();
    let end = running.end();
    assert_eq!((end.code, end.last_line()), (Some(130), "killed"), "{end:?}");
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
}

fn the_options_reach_the_server(program: &Path) {
    for sandbox in ["read-only", "workspace-write", "danger-full-access"] {
        let folder = Folder::new();
        let log = folder.0.join("log");
        let cwd = folder.0.to_str().expect("UTF-8");
        let args = ["--sandbox", sandbox, "--model", "gpt-none", "--cwd", cwd, "-c", "a.b=\"c=d\"", "-c", "e=5"];
        let end = Ask::new(program).args(args).plays(&Script::new()).env("TURNWIRE_SCRIPTED_LOG", &log).run();
        assert_eq!((end.code, end.stdout), (Some(0), format!("You said: {QUESTION}\n")));
        let log = fs::read_to_string(log).expect("a log");
        let start = log.lines().find(|line| line.contains("\"thread/start\"")).expect("a thread was started");
        for member in [("sandbox", sandbox), ("model", "gpt-none"), ("cwd", cwd)] {
            let member = format!("\"{}\":\"{}\"", member.0, member.1);
            assert!(start.contains(&member), "{member}: {start}");
        }
    }
    // The arguments of the server: seen by a program that does nothing but write them down.
    let folder = Folder::new();
    let (codex, seen) = (folder.0.join("codex"), folder.0.join("seen"));
    fs::write(&codex, format!("#!/bin/sh\nfor arg; do echo \"$arg\"; done > '{}'\n", seen.display())).expect("written");
    fs::set_permissions(&codex, std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("executable");
    let end = Ask::new(program).args(["-c", "a.b=\"c=d\"", "-c", "e=5", QUESTION]).env("PATH", &folder.0).run();
    assert_eq!(end.code, Some(1), "it is no server: {end:?}");
    assert_eq!(fs::read_to_string(seen).expect("it ran"), "app-server\n-c\na.b=\"c=d\"\n-c\ne=5\n");
}

fn the_prompt_may_come_from_stdin(program: &Path) {
    let end = Ask::new(program).args(["--codex", SCRIPTED, "-"]).stdin("From a pipe.").run();
    assert_eq!((end.code, end.stdout), (Some(0), "You said: From a pipe.\n".into()));
    let end = Ask::new(program).args(["several", "--codex", SCRIPTED, "words", "--", "--and", "-"]).run();
    assert_eq!((end.code, end.stdout), (Some(0), "You said: several words --and -\n".into()));
}

fn a_wrong_command_line_has_a_status_of_its_own(program: &Path) {
    let wrong: [(&[&str], &str); 9] = [
        (&[], "what do you want to ask?"),
        (&["--sandbox", "none", "x"], "read-only, workspace-write and danger-full-access"),
        (&["--sandbox"], "--sandbox needs a value"),
        (&["--timeout", "0", "x"], "not a number of seconds"),
        (&["--timeout", "soon", "x"], "not a number of seconds"),
        (&["--cwd", "/no/such/folder", "x"], "no such folder"),
        (&["-c", "key", "x"], "KEY=VALUE"),
        (&["--what", "x"], "no such option: --what"),
        (&["-"], "what do you want to ask?"),
    ];
    for (args, text) in wrong {
        let end = Ask::new(program).words(args).run();
        assert_eq!((end.code, end.stdout.as_str()), (Some(2), ""), "{end:?}");
        assert!(end.stderr.contains(text), "{text}: {end:?}");
    }
    let end = Ask::new(program).args(["--help"]).run();
    assert_eq!((end.code, end.stderr.as_str()), (Some(0), ""), "{end:?}");
    let name = program.file_name().and_then(OsStr::to_str).expect("a name");
    assert!(end.stdout.contains(&format!("Usage: {name} [OPTIONS] PROMPT...")), "{end:?}");
}

fn on_the_real_server_a_turn_streams_and_completes(program: &Path) {
    let Some(real) = Real::new("on_the_real_server_a_turn_streams_and_completes") else { return };
    let gate = Gate::new();
    real.model.push(
        Reply::new()
            .message(Message::new("Let me look.").phase(Phase::Commentary))
            .exec(ExecCommand::new("echo out of the command"))
            .usage(Usage { input: 10, cached_input: 4, output: 5, reasoning_output: 1 }),
    );
    let answer = Message::new("Ünïcode ✓ in several\npieces.").phase(Phase::FinalAnswer).chunk_chars(5).hold(&gate);
    real.model.push(Reply::new().message(answer).usage(Usage {
        input: 20,
        cached_input: 10,
        output: 6,
        reasoning_output: 2,
    }));
    // By CODEX_BIN, and all the other runs by --codex.
    let running = real.ask(program).args([QUESTION]).env("CODEX_BIN", &real.program).start();
    assert!(gate.wait_reached(PATIENCE), "the answer is on its way: {:?}", running.stderr());
    running.wait_for_stdout("Ünïco");
    running.wait_for_stderr("(exit code 0)");
    assert!(running.stderr().lines().any(|line| line.starts_with("running: ") && line.contains("out of the command")));
    gate.open();
    let end = running.end();
    assert_eq!((end.code, end.stdout.as_str()), (Some(0), "Ünïcode ✓ in several\npieces.\n"), "{end:?}");
    assert!(end.has_line("Let me look."), "a remark is not the answer: {end:?}");
    assert!(end.last_line().starts_with("completed after "), "{end:?}");
    assert!(end.last_line().ends_with(" s, tokens: 30 input (14 cached), 11 output"), "{end:?}");
    assert!(!end.stderr.contains("fake"), "{end:?}");
}

fn on_the_real_server_the_steer_reaches_the_model(program: &Path) {
    let Some(real) = Real::new("on_the_real_server_the_steer_reaches_the_model") else { return };
    // The model thinks until it sees the steer. How far it gets with that is the server's affair: a steer as early as
    // this one makes it ask the model again at once.
    let gate = Gate::new();
    let held = gate.clone();
    real.model.on(move |request| {
        Some(match request.has_text("By train.") {
            true => Reply::text("By train, then."),
            false => Reply::new().message(Message::new("Thinking.")).hold(&held),
        })
    });
    let running = real.ask(program).codex(&real.program).args(["--steer", "By train.", "Plan a trip."]).start();
    running.wait_for_stderr("steered");
    gate.open();
    let end = running.end();
    assert_eq!(end.code, Some(0), "{end:?}");
    assert!(end.stdout.ends_with("By train, then.\n"), "{end:?}");
}

fn on_the_real_server_ctrl_c_interrupts(program: &Path) {
    let Some(real) = Real::new("on_the_real_server_ctrl_c_interrupts") else { return };
    let gate = Gate::new();
    real.model.push(Reply::new().message(Message::new("Working on it, for ever.").hold(&gate)));
    let running = real.ask(program).codex(&real.program).args(["Work for ever."]).start();
    running.wait_for_stdout("Working");
    running.signal();
    let end = running.end();
    gate.open();
    assert_eq!(end.code, Some(1), "{end:?}");
    assert!(end.last_line().starts_with("interrupted after "), "{end:?}");
}

fn on_the_real_server_the_sandbox_is_the_one_asked_for(program: &Path) {
    let Some(real) = Real::new("on_the_real_server_the_sandbox_is_the_one_asked_for") else { return };
    for (sandbox, is_made) in [("read-only", false), ("danger-full-access", true)] {
        let file = real.home.work().join(sandbox);
        real.model.push(Reply::new().exec(ExecCommand::new(format!("echo made > '{}'", file.display()))));
        real.model.push(Reply::text("I tried."));
        let ask = real.ask(program).codex(&real.program).args(["--sandbox", sandbox, "Make a file."]);
        let end = ask.run();
        assert_eq!((end.code, end.stdout.as_str()), (Some(0), "I tried.\n"), "{end:?}");
        assert_eq!(file.exists(), is_made, "{sandbox}: {end:?}");
    }
}

/// The scripted server as a program.
const SCRIPTED: &str = env!("CARGO_BIN_EXE_turnwire-scripted-server");

/// The real server's program, a home for it, and a model.
struct Real {
    program: PathBuf,
    home: RealHome,
    model: ScriptedModel,
}

impl Real {
    fn new(test: &str) -> Option<Self> {
        let program = real::find_or_skip(test)?;
        let model = ScriptedModel::start().expect("the model starts");
        let home = RealHome::new(&model.base_url()).expect("a home");
        Some(Self { program, home, model })
    }

    fn ask(&self, program: &Path) -> Ask {
        let ask = Ask::new(program).args(["--cwd", self.home.work().to_str().expect("UTF-8")]);
        self.home.env().into_iter().fold(ask, |ask, (name, value)| ask.env(name, value))
    }
}

/// A run to be.
struct Ask {
    command: Command,
    mark: String,
    stdin: &'static str,
    is_typed: bool,
    folder: Folder,
}

impl Ask {
    fn new(program: &Path) -> Self {
        let folder = Folder::new();
        let mark = folder.0.to_string_lossy().into_owned();
        let empty = folder.0.join("empty");
        fs::create_dir(&empty).expect("a folder");
        let mut command = Command::new(program);
        command.env_clear().env("PATH", empty).env(MARK, &mark);
        Self { command, mark, stdin: "", is_typed: false, folder }
    }

    fn args<const N: usize>(self, args: [&str; N]) -> Self {
        self.words(&args)
    }

    fn words(mut self, args: &[&str]) -> Self {
        self.command.args(args);
        self
    }

    fn codex(mut self, program: &Path) -> Self {
        self.command.arg("--codex").arg(program);
        self
    }

    fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    fn stdin(mut self, text: &'static str) -> Self {
        self.stdin = text;
        self
    }

    /// Leaves the input open, for [`Running::type_line`].
    fn typed(mut self) -> Self {
        self.is_typed = true;
        self
    }

    /// Asks the question of a scripted server.
    fn plays(self, script: &Script) -> Self {
        let path = self.folder.0.join("script.json");
        fs::write(&path, script.to_json()).expect("written");
        self.codex(Path::new(SCRIPTED)).env("TURNWIRE_SCRIPT", path).args([QUESTION])
    }

    fn start(mut self) -> Running {
        self.command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = self.command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        // A program that does not read it may be gone by now.
        let _ = stdin.write_all(self.stdin.as_bytes());
        let stdin = self.is_typed.then_some(stdin);
        let stdout = Heard::listen(child.stdout.take().expect("a pipe"));
        let stderr = Heard::listen(child.stderr.take().expect("a pipe"));
        Running { child, stdin, mark: self.mark, stdout, stderr, _folder: self.folder }
    }

    fn run(self) -> End {
        self.start().end()
    }
}

/// What a pipe has brought so far.
#[derive(Clone)]
struct Heard {
    bytes: Arc<Mutex<Vec<u8>>>,
    is_over: Arc<OnceLock<()>>,
}

impl Heard {
    fn listen(mut pipe: impl Read + Send + 'static) -> Self {
        let heard = Self { bytes: Arc::default(), is_over: Arc::default() };
        let told = heard.clone();
        thread::spawn(move || {
            let mut piece = [0; 4096];
            while let Ok(count @ 1..) = pipe.read(&mut piece) {
                told.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&piece[..count]);
            }
            let _ = told.is_over.set(());
        });
        heard
    }

    fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// A program that runs.
struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    mark: String,
    stdout: Heard,
    stderr: Heard,
    _folder: Folder,
}

impl Running {
    fn type_line(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("the input is open");
        stdin.write_all(format!("{line}\n").as_bytes()).expect("the program reads");
    }

    fn stderr(&self) -> String {
        self.stderr.text()
    }

    fn wait_for_stdout(&self, part: &str) {
        assert!(
            eventually(|| self.stdout.text().contains(part)),
            "no `{part}`: {}{}",
            self.stdout.text(),
            self.stderr()
        );
    }

    /// Until so many turns are over and the chat is ready for the next.
    fn wait_for_turns(&self, count: usize) {
        let seen = eventually(|| self.stderr().matches("(Completed, ").count() >= count);
        assert!(seen, "not {count} turns: {}", self.stderr());
    }

    fn wait_for_stderr(&self, part: &str) {
        assert!(eventually(|| self.stderr().contains(part)), "no `{part}`: {}{}", self.stdout.text(), self.stderr());
    }

    /// What the terminal does for Ctrl-C; the server is in a group of its own and does not see that either.
    fn signal(&self) {
        let status = Command::new("/bin/sh").args(["-c", "kill -INT \"$0\""]).arg(self.child.id().to_string()).status();
        assert!(status.expect("a shell").success());
    }

    /// The living processes of this run. Linux only: elsewhere there seem to be none.
    fn processes(&self) -> Vec<String> {
        let wanted = format!("{MARK}={}", self.mark);
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries
            .filter(|entry| {
                let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
                environment.split(|byte| *byte == 0).any(|variable| variable == wanted.as_bytes())
            })
            .map(|entry| fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default().replace('\0', " "))
            .collect()
    }

    /// Waits for the end, and sees that nothing is left.
    fn end(mut self) -> End {
        drop(self.stdin.take());
        let is_over = eventually(|| matches!(self.child.try_wait(), Ok(Some(_))));
        assert!(is_over, "it hangs: {}{}", self.stdout.text(), self.stderr());
        let left = self.processes();
        assert!(left.is_empty(), "left behind: {left:?}: {}", self.stderr());
        let is_heard = eventually(|| self.stdout.is_over.get().is_some() && self.stderr.is_over.get().is_some());
        assert!(is_heard, "somebody holds its pipes");
        let code = self.child.try_wait().expect("a status").and_then(|status| status.code());
        End { code, stdout: self.stdout.text(), stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only a test that fails gets here with a program that runs.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How a run went.
#[derive(Debug)]
struct End {
    code: Option<i32>,
    stdout: String,
    stderr: String,
}

impl End {
    fn last_line(&self) -> &str {
        self.stderr.lines().last().unwrap_or_default()
    }

    fn has_line(&self, line: &str) -> bool {
        self.stderr.lines().any(|found| found == line)
    }
}

/// A folder that goes away.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("examples-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn eventually(mut truth: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if truth() {
            return true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    false
}

/// The program of this name, built if it is not there or older than its sources.
fn program(name: &str) -> PathBuf {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    let folder = FOLDER.get_or_init(|| {
        let this = std::env::current_exe().expect("this program has a path");
        let profile = this.ancestors().nth(2).expect("it is in PROFILE/deps").to_owned();
        let folder = profile.join("examples");
        let changed = newest(&workspace());
        let is_fresh = |name| {
            let built = folder.join(name).metadata().and_then(|file| file.modified());
            built.is_ok_and(|built| built >= changed)
        };
        if !PROGRAMS.iter().chain(&EXAMPLES).all(|(_, name)| is_fresh(name)) {
            build(&profile);
        }
        folder
    });
    folder.join(name)
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("it is in a workspace").to_owned()
}

/// When the programs' sources last changed.
fn newest(workspace: &Path) -> SystemTime {
    let packages = ["core", "runtime-blocking", "runtime-smol", "runtime-tokio", "tests"];
    let folders =
        packages.iter().flat_map(|package| ["src", "examples"].map(|part| workspace.join(package).join(part)));
    let (mut folders, mut newest) = (folders.collect::<Vec<_>>(), SystemTime::UNIX_EPOCH);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
            let Ok(about) = entry.metadata() else { continue };
            if about.is_dir() {
                folders.push(entry.path());
            } else if let Ok(changed) = about.modified() {
                newest = newest.max(changed);
            }
        }
    }
    newest
}

fn build(profile: &Path) {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.arg("build").current_dir(workspace());
    cargo.arg("--target-dir").arg(profile.parent().expect("it is in the target folder"));
    if profile.ends_with("release") {
        cargo.arg("--release");
    }
    cargo.args(["--features", "turnwire-smol/schemars"]);
    for (package, example) in PROGRAMS.iter().chain(&EXAMPLES) {
        cargo.args(["-p", package, "--example", example]);
    }
    let built = cargo.output().expect("cargo runs");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
}
