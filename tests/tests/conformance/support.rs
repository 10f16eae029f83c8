//! What the scenarios share: patience with a bound, and servers to talk to.

use serde_json::Value;
use std::{
    any::Any,
    fs, panic,
    path::PathBuf,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::{Duration, Instant},
};
use turnwire_blocking::{
    Command, Event, TurnError, TurnResult,
    core::{
        launch::{CloseLadder, Environment},
        record::{Recording, Replay, ReplayedEvent},
    },
    protocol::ThreadStart,
};
use turnwire_testkit::{
    model::ScriptedModel,
    real::{self, RealHome},
    scripted::Script,
};

/// How long a scenario may take before it counts as hanging.
const BOUND: Duration = Duration::from_secs(90);
/// How long one step may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Runs a scenario, and fails it if it hangs.
pub(crate) fn bounded(name: &str, scenario: impl FnOnce() + Send + 'static) {
    let (done, ended) = mpsc::channel::<Result<(), Box<dyn Any + Send>>>();
    let run = move || {
        let outcome = panic::catch_unwind(panic::AssertUnwindSafe(scenario));
        let _ = done.send(outcome);
    };
    thread::Builder::new().name(name.into()).spawn(run).expect("a thread");
    // The long form of the cuts takes its time.
    let bound = if crate::cut::every() { 60 * BOUND } else { BOUND };
    match ended.recv_timeout(bound) {
        Ok(Ok(())) => {}
        Ok(Err(panic)) => panic::resume_unwind(panic),
        Err(RecvTimeoutError::Timeout) => panic!("{name} hangs"),
        Err(RecvTimeoutError::Disconnected) => panic!("{name} vanished"),
    }
}

/// Whether something becomes true before patience ends.
pub(crate) fn eventually(mut truth: impl FnMut() -> bool) -> bool {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        if truth() {
            return true;
        }
        thread::sleep(Duration::from_millis(10));
    }
    false
}

/// Does something to a value when it is dropped.
pub(crate) struct OnDrop<T>(pub(crate) Option<T>, pub(crate) fn(T));

impl<T> Drop for OnDrop<T> {
    fn drop(&mut self) {
        self.0.take().into_iter().for_each(self.1);
    }
}

/// Keeps the other scenarios of this program from a login in the browser.
///
/// All real servers of a machine listen for the browser on one port, and who begins a login there has the server that
/// listens already give up its own.
pub(crate) fn only_login() -> MutexGuard<'static, ()> {
    static LOGIN: Mutex<()> = Mutex::new(());
    LOGIN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The real server with a scripted model and a home of its own.
pub(crate) struct RealServer {
    program: PathBuf,
    pub(crate) home: RealHome,
    pub(crate) model: ScriptedModel,
}

/// `None` when there is no real server and none is required.
pub(crate) fn real_server(name: &str) -> Option<RealServer> {
    let program = real::find_or_skip(name)?;
    let model = ScriptedModel::start().expect("the model starts");
    let home = RealHome::new(&model.base_url()).expect("a home");
    Some(RealServer { program, home, model })
}

/// As [`real_server`], with more settings: see [`RealHome::with_config`].
pub(crate) fn real_server_with(name: &str, more: impl Fn(&ScriptedModel) -> String) -> Option<RealServer> {
    let program = real::find_or_skip(name)?;
    let model = ScriptedModel::start().expect("the model starts");
    let home = RealHome::with_config(&model.base_url(), &more(&model)).expect("a home");
    Some(RealServer { program, home, model })
}

impl RealServer {
    /// The version that the program says it is: "codex-cli 0.163.0".
    pub(crate) fn version(&self) -> String {
        let output = std::process::Command::new(&self.program).arg("--version").output().expect("it runs");
        let text = String::from_utf8(output.stdout).expect("UTF-8");
        text.split_whitespace().last().expect("a version").to_string()
    }

    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new().program(&self.program).cwd(self.home.work()).environment(Environment::Cleared);
        for (name, value) in self.home.env() {
            command = command.env(name, value);
        }
        command
    }

    pub(crate) fn thread_start(&self) -> ThreadStart {
        ThreadStart::new()
    }

    /// The servers themselves: those of the processes that this one started.
    pub(crate) fn servers(&self) -> Vec<String> {
        let is_child = |pid: &String| {
            let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
            let parent = stat.rsplit(") ").next().and_then(|rest| rest.split(' ').nth(1)).map(str::to_owned);
            parent == Some(std::process::id().to_string())
        };
        self.processes().into_iter().filter(is_child).collect()
    }

    /// The processes that run with this server's home.
    pub(crate) fn processes(&self) -> Vec<String> {
        processes_with(&format!("CODEX_HOME={}", self.home.codex_home().display()))
    }
}

/// The processes, zombies aside, that have this in their environment. Linux only: elsewhere there are none.
pub(crate) fn processes_with(variable: &str) -> Vec<String> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let mut found = Vec::new();
    for entry in entries.flatten() {
        let Ok(environment) = fs::read(entry.path().join("environ")) else { continue };
        if environment.split(|byte| *byte == 0).any(|entry| entry == variable.as_bytes()) {
            found.push(entry.file_name().to_string_lossy().into_owned());
        }
    }
    found
}

/// A scripted server as a program, in place of `codex`.
pub(crate) struct Scripted {
    folder: PathBuf,
    mark: String,
}

static NUMBER: AtomicUsize = AtomicUsize::new(0);

pub(crate) fn scripted(script: &Script) -> Scripted {
    let mark = format!("turnwire-conformance-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    let folder = std::env::temp_dir().join(&mark);
    fs::create_dir(&folder).expect("a new folder");
    fs::write(folder.join("script.json"), script.to_json()).expect("a script");
    Scripted { folder, mark }
}

impl Scripted {
    pub(crate) fn command(&self) -> Command {
        Command::new()
            .program(env!("CARGO_BIN_EXE_turnwire-scripted-server"))
            .env("TURNWIRE_SCRIPT", self.folder.join("script.json"))
            .env("TURNWIRE_SCRIPTED_LOG", self.folder.join("received"))
            .env("TURNWIRE_MARK", &self.mark)
    }

    /// A launcher that starts the server with a helper beside it and waits for the server.
    pub(crate) fn launcher(&self) -> Command {
        let path = self.folder.join("launcher");
        let server = env!("CARGO_BIN_EXE_turnwire-scripted-server");
        // The helper takes no part in the talk, as the helpers of real servers do not.
        let script = format!("#!/bin/sh\nsleep 300 </dev/null >/dev/null 2>&1 &\n\"{server}\" \"$@\"\n");
        fs::write(&path, script).expect("a launcher");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        self.command().program(path)
    }

    /// What the server has received so far.
    pub(crate) fn received(&self) -> Vec<Value> {
        self.lines_of("received")
    }

    /// The whole lines of a log that the server writes. It may be writing the next.
    fn lines_of(&self, log: &str) -> Vec<Value> {
        let mut bytes = fs::read(self.folder.join(log)).unwrap_or_default();
        bytes.truncate(bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1));
        let lines = bytes.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        lines.map(|line| serde_json::from_slice(line).expect("each line is one JSON value")).collect()
    }

    /// The params of the requests of one method that the server has received, once there are so many.
    pub(crate) fn received_of(&self, method: &str, at_least: usize) -> Vec<Value> {
        let mut found = Vec::new();
        let came = eventually(|| {
            let lines = self.received().into_iter();
            found = lines.filter(|line| line["method"] == method).map(|line| line["params"].clone()).collect();
            found.len() >= at_least
        });
        assert!(came, "{at_least} of `{method}`, not {}", found.len());
        found
    }

    pub(crate) fn processes(&self) -> Vec<String> {
        processes_with(&format!("TURNWIRE_MARK={}", self.mark))
    }

    /// Asserts that no process of this server is left, after a moment.
    pub(crate) fn assert_gone(&self) {
        assert!(eventually(|| self.processes().is_empty()), "left: {:?}", self.processes());
    }
}

/// A program that plays another script each time it is started; the last one from then on.
pub(crate) fn series(scripts: &[Script]) -> Scripted {
    let server = scripted(&Script::new());
    for (number, script) in scripts.iter().enumerate() {
        fs::write(server.folder.join(format!("script-{}.json", number + 1)), script.to_json()).expect("a script");
    }
    server
}

impl Scripted {
    /// The command of a [`series`].
    pub(crate) fn series_command(&self) -> Command {
        let (folder, program) = (self.folder.display(), env!("CARGO_BIN_EXE_turnwire-scripted-server"));
        let launcher = self.folder.join("series");
        let text = format!(
            "#!/bin/sh\nn=1\nwhile ! mkdir '{folder}/start-'$n 2>/dev/null; do n=$((n+1)); done\n\
             export TURNWIRE_SCRIPTED_LOG='{folder}/received-'$n\n\
             while [ ! -e '{folder}/script-'$n.json ]; do n=$((n-1)); done\n\
             TURNWIRE_SCRIPT='{folder}/script-'$n.json exec '{program}' \"$@\"\n"
        );
        fs::write(&launcher, text).expect("a launcher");
        #[cfg(unix)]
        {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&launcher, fs::Permissions::from_mode(0o755)).expect("executable");
        }
        Command::new().program(launcher).env("TURNWIRE_MARK", &self.mark)
    }

    /// How often a [`series`] was started.
    pub(crate) fn starts(&self) -> usize {
        let entries = fs::read_dir(&self.folder).expect("the folder").flatten();
        entries.filter(|entry| entry.file_name().to_string_lossy().starts_with("start-")).count()
    }

    /// What the server of this start of a [`series`] has received of a method.
    pub(crate) fn received_by(&self, start: usize, method: &str) -> Vec<Value> {
        let lines = self.lines_of(&format!("received-{start}")).into_iter();
        lines.filter(|line| line["method"] == method).map(|line| line["params"].clone()).collect()
    }
}

/// A server that is a few lines of shell: `hello` takes the handshake. For what no script of the kit can do.
pub(crate) fn shell(body: &str) -> Scripted {
    let server = scripted(&Script::new());
    let reply = r#"{"id":1,"result":{"userAgent":"x/0.163.0 (Linux)","codexHome":"/","platformFamily":"unix","platformOs":"linux"}}"#;
    let hello = format!("hello() {{ read -r line; printf '%s\\n' '{reply}'; read -r line; }}");
    fs::write(server.folder.join("shell"), format!("#!/bin/sh\n{hello}\n{body}\n")).expect("a script");
    make_executable(&server.folder.join("shell"));
    server
}

pub(crate) fn make_executable(path: &std::path::Path) {
    #[cfg(unix)]
    {
        use std::os::unix::fs::PermissionsExt;
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).expect("executable");
    }
    let _ = path;
}

impl Scripted {
    /// The command of a [`shell`], which is ended in half a second.
    pub(crate) fn shell_command(&self) -> Command {
        let short = Duration::from_millis(200);
        let ladder = CloseLadder::new().eof_grace(short).terminate_grace(short);
        self.command().program(self.folder.join("shell")).close_ladder(ladder)
    }

    /// A path in the server's folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

/// Kills a process, without a word.
pub(crate) fn kill(pid: &str) {
    let killed = std::process::Command::new("kill").args(["-9", pid]).status().expect("kill is there");
    assert!(killed.success());
}

impl Drop for Scripted {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// What a program saw of the turns of a session: each event with everything in it, each turn's end with its result.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct TypedEvents {
    pub(crate) events: Vec<String>,
    shapes: Vec<String>,
}

impl TypedEvents {
    pub(crate) fn live(&mut self, event: &Event) {
        let (whole, shape) = match event {
            Event::Delta(delta) => (
                format!("{delta:?} {} {}", delta.text, delta.thread),
                format!("Delta {:?} {:?} {}", delta.kind, delta.index, delta.text.chars().count()),
            ),
            Event::ItemStarted(item) | Event::ItemCompleted(item) => {
                (format!("{event:?} {}", item.raw.params_text()), format!("{} {}", item.raw.method, item.item.kind()))
            }
            Event::Usage(usage) => (format!("{event:?} {}", usage.raw.params_text()), format!("{:?}", usage.usage)),
            Event::Error(failed) => (failed.raw.params_text().to_owned(), format!("Error {}", failed.will_retry)),
            Event::Other(raw) | Event::Started(raw) => {
                (format!("{raw:?} {}", raw.params_text()), raw.method.to_string())
            }
            Event::Refused(refused) => (
                format!(
                    "Refused {:?} {} {}",
                    refused.id,
                    refused.notification.method,
                    refused.notification.params_text()
                ),
                format!("Refused {}", refused.notification.method),
            ),
            other => (format!("{other:?}"), format!("{other:?}")),
        };
        self.events.push(whole);
        self.shapes.push(shape);
    }

    pub(crate) fn over(&mut self, result: &Result<TurnResult, TurnError>) {
        let (whole, shape) = match result {
            Ok(result) => (
                format!(
                    "{:?} {:?} {:?} {} items",
                    result.status,
                    result.final_response,
                    result.usage,
                    result.items.len()
                ),
                format!("{:?} {:?} {} items", result.status, result.usage, result.items.len()),
            ),
            Err(error) => (error.to_string(), "an error".to_owned()),
        };
        self.events.push(whole);
        self.shapes.push(shape);
    }

    /// Asserts that a replay of the recording gives the same, whole.
    pub(crate) fn assert_replayed(&self, recording: &Recording) {
        assert!(self.events.len() > 5, "there is something to compare");
        assert_eq!(Self::of(recording).events, self.events);
    }

    /// Asserts that a replay of the recording gives the same but for texts and ids.
    pub(crate) fn assert_replayed_in_shape(&self, recording: &Recording) {
        assert_eq!(Self::of(recording).shapes, self.shapes);
    }

    fn of(recording: &Recording) -> Self {
        let mut seen = Self::default();
        let mut replay = Replay::new(recording);
        for replayed in replay.by_ref() {
            match replayed.event {
                ReplayedEvent::Turn { event, .. } => seen.live(&Event::from(event)),
                ReplayedEvent::TurnOver { result, .. } => seen.over(&result),
                _ => {}
            }
        }
        assert_eq!(replay.divergences(), []);
        seen
    }
}
