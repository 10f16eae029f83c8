//! The command line, and what it means to turnwire.

use super::{say, stand_in};
use std::{
    error::Error,
    ffi::{OsStr, OsString},
    io::{self, Read},
    path::PathBuf,
    time::Duration,
};
use turnwire_core::{
    client::TurnRequest,
    error::ConnectError,
    launch::{CODEX_BIN, CloseLadder, Command, LaunchError},
    protocol::{SandboxMode, ThreadStart},
};

/// What the user asked for.
#[derive(Default)]
pub(crate) struct Options {
    codex: Option<PathBuf>,
    config: Vec<(String, String)>,
    cwd: Option<String>,
    model: Option<String>,
    prompt: String,
    sandbox: Option<SandboxMode>,
    steer: Option<String>,
    timeout: Option<Duration>,
}

pub(super) fn help(name: &str) -> String {
    format!(
        "\
Asks the Codex agent, and shows what it does.

Usage: {name} [OPTIONS] PROMPT...
       {name} [OPTIONS] -             the prompt comes from stdin

Options:
  --model NAME        the model
  --sandbox MODE      what commands may do: read-only, workspace-write or danger-full-access
  --cwd FOLDER        the folder that the agent works in
  --codex PATH        the codex program; else $CODEX_BIN, else `codex` in PATH, else a fake
  --steer TEXT        more input, sent while the agent works
  --timeout SECONDS   stop the turn after so long
  -c KEY=VALUE        override the server's configuration, the value as TOML; may be repeated
  --help              this text

The answer goes to stdout, all else to stderr. Ctrl-C interrupts the turn and waits for its end; again, it kills.
Status: 0 the turn completed, 1 it did not, 2 wrong usage, 130 killed.
"
    )
}

impl Options {
    /// Reads the command line; `None` when it asks for help.
    pub(super) fn from_args(args: impl Iterator<Item = OsString>) -> Result<Option<Self>, String> {
        let mut options = Self::default();
        let mut words = Vec::new();
        let mut args = args;
        let mut are_options_over = false;
        while let Some(arg) = args.next() {
            let word = text(arg)?;
            if are_options_over || word == "-" || !word.starts_with('-') {
                words.push(word);
                continue;
            }
            let mut value = || args.next().ok_or_else(|| format!("{word} needs a value"));
            match word.as_str() {
                "--" => are_options_over = true,
                "--codex" => options.codex = Some(value()?.into()),
                "--cwd" => options.cwd = Some(folder(&value()?)?),
                "--help" | "-h" => return Ok(None),
                "--model" => options.model = Some(text(value()?)?),
                "--sandbox" => options.sandbox = Some(sandbox(&text(value()?)?)?),
                "--steer" => options.steer = Some(text(value()?)?),
                "--timeout" => options.timeout = Some(seconds(&text(value()?)?)?),
                "-c" => options.config.push(override_of(&text(value()?)?)?),
                _ => return Err(format!("no such option: {word}; put `--` before a prompt that begins with a dash")),
            }
        }
        options.prompt = if words == ["-"] { from_stdin()? } else { words.join(" ") };
        if options.prompt.trim().is_empty() {
            return Err("what do you want to ask?".into());
        }
        Ok(Some(options))
    }

    /// The server to start.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new().close_ladder(
            // Someone waits at the terminal. A server that is well needs a tenth of a second.
            CloseLadder::new()
                .eof_grace(Duration::from_secs(1))
                .terminate_grace(Duration::from_millis(500))
                .kill_grace(Duration::from_secs(1)),
        );
        if let Some(path) = &self.codex {
            command = command.program(path);
        }
        for (key, value) in &self.config {
            command = command.config(key, value);
        }
        command
    }

    /// The fake server to start instead, when there simply is no codex. Any other error is given back, and so is this one
    /// when the user said which codex to take: then nothing else will do.
    pub(crate) fn stand_in(&self, error: ConnectError) -> Result<Command, Box<dyn Error>> {
        let is_named = self.codex.is_some() || std::env::var_os(CODEX_BIN).is_some_and(|path| !path.is_empty());
        match error {
            ConnectError::Launch(LaunchError::NotFound { .. }) if !is_named => {
                say(stand_in::NOTICE);
                Ok(self.command().program(stand_in::program()?).env(stand_in::VARIABLE, "1"))
            }
            error => Err(error.into()),
        }
    }

    /// The thread to start.
    pub(crate) fn thread_start(&self) -> ThreadStart {
        let mut start = ThreadStart::new();
        start.cwd.clone_from(&self.cwd);
        start.model.clone_from(&self.model);
        start.sandbox.clone_from(&self.sandbox);
        start
    }

    /// The turn to start.
    pub(crate) fn turn_request(&self) -> TurnRequest {
        let request = TurnRequest::new(self.prompt.as_str());
        match self.timeout {
            Some(timeout) => request.deadline(timeout),
            None => request,
        }
    }

    /// What to steer with.
    pub(super) fn steer(&self) -> Option<String> {
        self.steer.clone()
    }
}

fn text(word: OsString) -> Result<String, String> {
    word.into_string().map_err(|word| format!("not UTF-8: {}", word.to_string_lossy()))
}

/// An absolute path, because the server may run in another folder than this program.
fn folder(path: &OsStr) -> Result<String, String> {
    let shown = path.to_string_lossy();
    let path = std::path::absolute(path).map_err(|error| format!("--cwd {shown}: {error}"))?;
    if !path.is_dir() {
        return Err(format!("--cwd {shown}: no such folder"));
    }
    text(path.into_os_string())
}

fn sandbox(word: &str) -> Result<SandboxMode, String> {
    match SandboxMode::from(word) {
        SandboxMode::Unknown(_) => {
            Err(format!("--sandbox {word}: there are read-only, workspace-write and danger-full-access"))
        }
        known => Ok(known),
    }
}

fn seconds(word: &str) -> Result<Duration, String> {
    let seconds = word.parse().ok().and_then(|seconds| Duration::try_from_secs_f64(seconds).ok());
    seconds.filter(|time| !time.is_zero()).ok_or_else(|| format!("--timeout {word}: not a number of seconds above 0"))
}

fn override_of(word: &str) -> Result<(String, String), String> {
    match word.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.into(), value.into())),
        _ => Err(format!("-c {word}: not of the form KEY=VALUE")),
    }
}

fn from_stdin() -> Result<String, String> {
    let mut prompt = String::new();
    match io::stdin().read_to_string(&mut prompt) {
        Ok(_) => Ok(prompt),
        Err(error) => Err(format!("cannot read the prompt from stdin: {error}")),
    }
}
