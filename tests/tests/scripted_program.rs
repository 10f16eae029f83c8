//! The program `turnwire-scripted-server` as a real process. Every wait is bounded, every process is ended.
#![cfg(unix)]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use turnwire_testkit::scripted::{Rule, Script, TurnPlan};

const LONG: Duration = Duration::from_secs(20);
const SIGKILL: i32 = 9;
const SIGTERM: i32 = 15;

/// A folder that is removed at the end of the test.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!("turnwire-scripted-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir(&path).expect("a fresh folder");
        Self(path)
    }

    fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

struct Server {
    child: Child,
    stdin: Option<ChildStdin>,
    /// Lines of stdout; disconnected at its end.
    lines: Receiver<Vec<u8>>,
    _folder: Folder,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn command(script: Option<&Path>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_turnwire-scripted-server"));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    command.env_remove("TURNWIRE_SCRIPT").env_remove("TURNWIRE_SCRIPTED_LOG");
    if let Some(script) = script {
        command.arg("--script").arg(script);
    }
    command.args(["app-server", "-c", "model=x"]);
    command
}

impl Server {
    fn new(script: &Script) -> Self {
        Self::with(script, |_| ())
    }

    fn with(script: &Script, change: impl FnOnce(&mut Command)) -> Self {
        let folder = Folder::new();
        let path = folder.file("script.json");
        fs::write(&path, script.to_json()).expect("a file");
        let mut command = command(Some(&path));
        change(&mut command);
        let mut child = command.spawn().expect("the program starts");
        let stdin = child.stdin.take();
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, lines) = mpsc::channel();
        thread::spawn(move || {
            let mut line = Vec::new();
            while stdout.read_until(b'\n', &mut line).is_ok_and(|count| count > 0) {
                if sender.send(std::mem::take(&mut line)).is_err() {
                    return;
                }
            }
        });
        Self { child, stdin, lines, _folder: folder }
    }

    fn send(&mut self, message: &Value) {
        let stdin = self.stdin.as_mut().expect("open");
        writeln!(stdin, "{message}").and_then(|()| stdin.flush()).expect("the server reads");
    }

    fn line(&self) -> Vec<u8> {
        self.lines.recv_timeout(LONG).expect("a line in time")
    }

    fn json(&self) -> Value {
        serde_json::from_slice(&self.line()).expect("JSON")
    }

    fn wait_for(&self, fits: impl Fn(&Value) -> bool) -> Value {
        loop {
            let line = self.json();
            if fits(&line) {
                return line;
            }
        }
    }

    fn expect_end_of_stdout(&self) {
        assert_eq!(self.lines.recv_timeout(LONG), Err(RecvTimeoutError::Disconnected));
    }

    fn wait(&mut self) -> ExitStatus {
        let start = Instant::now();
        while start.elapsed() < LONG {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status;
            }
            thread::sleep(Duration::from_millis(2));
        }
        panic!("the server did not end");
    }

    fn is_alive_after(&mut self, pause: Duration) -> bool {
        thread::sleep(pause);
        self.child.try_wait().expect("a child").is_none()
    }

    fn signal(&self, signal: i32) {
        let kill = format!("kill -{signal} {}", self.child.id());
        let status = Command::new("/bin/sh").arg("-c").arg(kill).status().expect("a shell");
        assert!(status.success());
    }

    fn handshake(&mut self) -> Value {
        self.send(&json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "n", "version": "1"}}}));
        let reply = self.json();
        self.send(&json!({"method": "initialized"}));
        reply
    }
}

#[test]
fn the_program_plays_a_turn_and_ends_with_its_input() {
    let folder = Folder::new();
    let log = folder.file("log");
    let script = Script::new().turn(TurnPlan::when("hello").text("Hi.")).delta_delay(2);
    let mut server = Server::with(&script, |command| {
        command.env("TURNWIRE_SCRIPTED_LOG", &log);
    });
    let agent = server.handshake()["result"]["userAgent"].as_str().expect("a text").to_owned();
    assert!(agent.starts_with("n/0.163.0 (turnwire-scripted-server; fake)"), "{agent}");
    server.send(&json!({"id": 2, "method": "thread/start", "params": {}}));
    let thread = server.wait_for(|line| line["id"] == 2)["result"]["thread"]["id"].clone();
    let input = json!([{"type": "text", "text": "hello"}]);
    server.send(&json!({"id": 3, "method": "turn/start", "params": {"threadId": thread, "input": input}}));
    let completed = server.wait_for(|line| line["method"] == "turn/completed");
    assert_eq!(completed["params"]["turn"]["items"][0]["text"], "Hi.");
    server.stdin = None;
    server.expect_end_of_stdout();
    assert_eq!(server.wait().code(), Some(0));
    let logged = fs::read_to_string(&log).expect("a log");
    let methods: Vec<Value> =
        logged.lines().map(|line| serde_json::from_str::<Value>(line).expect("JSON")["method"].clone()).collect();
    assert_eq!(methods, ["initialize", "initialized", "thread/start", "turn/start"]);
}

#[test]
fn the_script_can_come_from_the_environment_and_none_is_fine() {
    let folder = Folder::new();
    let path = folder.file("script.json");
    fs::write(&path, r#"{"version": "1.2.3"}"#).expect("a file");
    for (variable, version) in [(Some(&path), "n/1.2.3 "), (None, "n/0.163.0 ")] {
        let mut command = command(None);
        if let Some(path) = variable {
            command.env("TURNWIRE_SCRIPT", path);
        }
        let mut child = command.spawn().expect("the program starts");
        let mut stdin = child.stdin.take().expect("a pipe");
        let line = json!({"id": 1, "method": "initialize", "params": {"clientInfo": {"name": "n", "version": "1"}}});
        writeln!(stdin, "{line}").expect("the server reads");
        let mut stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        let (sender, receiver) = mpsc::channel();
        thread::spawn(move || {
            let mut line = String::new();
            stdout.read_line(&mut line).map(|_| sender.send(line))
        });
        let line = receiver.recv_timeout(LONG);
        child.kill().expect("a child");
        child.wait().expect("a child");
        assert!(line.expect("a reply in time").contains(version));
    }
}

#[test]
fn a_script_that_cannot_be_read_is_exit_code_64() {
    let folder = Folder::new();
    let path = folder.file("script.json");
    fs::write(&path, r#"{"rules": 5}"#).expect("a file");
    for script in [path, folder.file("missing")] {
        let output = command(Some(&script)).stderr(Stdio::piped()).stdin(Stdio::null()).output().expect("a program");
        assert_eq!(output.status.code(), Some(64));
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(stderr.starts_with("turnwire-scripted-server: not a script"), "{stderr}");
    }
}

#[test]
fn ob_06_the_program_can_exit_in_the_middle_of_a_line() {
    let rule = Rule::on("x").notify("a", json!({})).delay(20).raw(&[0xff, b'{']).exit(3);
    let mut server = Server::new(&Script::new().rule(rule));
    server.send(&json!({"id": 1, "method": "x"}));
    assert_eq!(server.json()["method"], "a");
    assert_eq!(server.line(), [0xff, b'{']);
    server.expect_end_of_stdout();
    assert_eq!(server.wait().code(), Some(3));
}

#[test]
fn ob_06_the_program_can_kill_itself() {
    let mut server = Server::new(&Script::new().rule(Rule::on("x").raw_line("last").die(SIGKILL)));
    server.send(&json!({"method": "x"}));
    assert_eq!(server.line(), b"last\n");
    assert_eq!(server.wait().signal(), Some(SIGKILL));
}

#[test]
fn the_program_can_close_its_stdout_and_live_on() {
    let rule = Rule::on("x").raw_line("last").close_stdout();
    let mut server = Server::new(&Script::new().rule(rule).rule(Rule::on("y").exit(5)));
    server.send(&json!({"method": "x"}));
    assert_eq!(server.line(), b"last\n");
    server.expect_end_of_stdout();
    assert!(server.is_alive_after(Duration::from_millis(100)));
    server.send(&json!({"method": "y"}));
    assert_eq!(server.wait().code(), Some(5));
}

#[test]
fn sigterm_ends_the_program_unless_the_script_ignores_it() {
    let mut server = Server::new(&Script::new());
    server.handshake();
    server.signal(SIGTERM);
    assert_eq!(server.wait().signal(), Some(SIGTERM));

    for script in [Script::new().rule(Rule::at_start().ignore_term()), Script::new().ignore_term(true)] {
        let mut server = Server::new(&script.rule(Rule::at_start().ignore_eof()));
        server.handshake();
        server.signal(SIGTERM);
        server.stdin = None;
        assert!(server.is_alive_after(Duration::from_millis(200)), "neither SIGTERM nor EOF ends it");
        server.signal(SIGKILL);
        assert_eq!(server.wait().signal(), Some(SIGKILL));
    }
}

#[test]
fn a_program_that_does_not_read_lets_the_pipe_fill_up() {
    let script = Script::new().rule(Rule::on("x").raw_line("stopped").stop_reading().delay(1500).resume_reading());
    let mut server = Server::new(&script);
    server.send(&json!({"method": "x"}));
    assert_eq!(server.line(), b"stopped\n");
    let mut stdin = server.stdin.take().expect("open");
    let (sender, done) = mpsc::channel();
    thread::spawn(move || {
        let result = stdin.write_all("y\n".repeat(512 * 1024).as_bytes());
        sender.send(result.is_ok())
    });
    assert!(done.recv_timeout(Duration::from_millis(100)).is_err(), "a megabyte fits in no pipe");
    assert_eq!(done.recv_timeout(LONG), Ok(true));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_flood_on_stderr_holds_up_stdout_until_it_is_read() {
    let script = Script::new().rule(Rule::at_start().stderr_flood(1_000_000).stderr("end").raw_line("after"));
    let mut server = Server::with(&script, |command| {
        command.stderr(Stdio::piped());
    });
    assert_eq!(server.lines.recv_timeout(Duration::from_millis(200)), Err(RecvTimeoutError::Timeout));
    let mut stderr = server.child.stderr.take().expect("a pipe");
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        let mut all = Vec::new();
        stderr.read_to_end(&mut all).map(|_| sender.send(all))
    });
    assert_eq!(server.line(), b"after\n");
    server.stdin = None;
    let all = receiver.recv_timeout(LONG).expect("the end of stderr");
    assert_eq!(all.len(), 1_000_003);
    assert!(all.ends_with(b"end"));
    assert_eq!(server.wait().code(), Some(0));
}

#[test]
fn a_client_that_closes_its_input_does_not_end_the_program() {
    let folder = Folder::new();
    let path = folder.file("script.json");
    fs::write(&path, Script::new().rule(Rule::on("x").raw_line("y")).to_json()).expect("a file");
    let mut child = command(Some(&path)).spawn().expect("the program starts");
    drop(child.stdout.take());
    let mut stdin = child.stdin.take().expect("a pipe");
    for _ in 0..3 {
        writeln!(stdin, "{}", json!({"method": "x"})).expect("the server reads on");
        thread::sleep(Duration::from_millis(50));
    }
    let alive = child.try_wait().expect("a child").is_none();
    drop(stdin);
    let start = Instant::now();
    let mut status = None;
    while status.is_none() && start.elapsed() < LONG {
        status = child.try_wait().expect("a child");
        thread::sleep(Duration::from_millis(2));
    }
    let _ = child.kill();
    let _ = child.wait();
    assert!(alive);
    assert_eq!(status.and_then(|status| status.code()), Some(0));
}
