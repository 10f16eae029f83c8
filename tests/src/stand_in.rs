//! A program that runs on any machine: where it is not told to use the real server, it is its own fake.
//!
//! The examples of turnwire are made so. Started plainly, such a program starts itself a second time, as the scripted
//! server, and talks to that over pipes as it would to codex. With `--real` it uses the codex that is installed, or the one
//! whose path follows.
//!
//! ```no_run
//! use turnwire_testkit::{scripted::{Script, TurnPlan}, stand_in};
//!
//! fn main() -> std::process::ExitCode {
//!     let script = Script::new().turn(TurnPlan::new().text("Forty-two."));
//!     stand_in::main("my-example", script, |server| {
//!         let codex = turnwire_blocking::spawn(server.command())?;
//!         let result = codex.thread_start(Default::default())?.run("What is it?")?;
//!         assert!(server.is_real() || result.final_response.as_deref() == Some("Forty-two."));
//!         codex.close();
//!         Ok(())
//!     })
//! }
//! ```

use crate::scripted::{Script, serve_stdio};
use std::{
    error::Error,
    ffi::OsString,
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};
use turnwire_core::launch::Command;

/// Set for the program in its second life.
const VARIABLE: &str = "TURNWIRE_STAND_IN";

/// The status for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// What the program is to talk to.
#[derive(Debug)]
pub struct Server {
    command: Command,
    is_real: bool,
    arguments: Vec<OsString>,
}

impl Server {
    /// How it is started.
    #[must_use]
    pub fn command(&self) -> &Command {
        &self.command
    }

    /// Whether it is codex. What a real model answers cannot be foretold.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.is_real
    }

    /// The arguments of the program that are its own.
    #[must_use]
    pub fn arguments(&self) -> &[OsString] {
        &self.arguments
    }
}

/// The whole of a program: the fake server in its second life, else whatever `program` is.
///
/// A failure of `program` is said on stderr and makes the status 1.
pub fn main(name: &str, script: Script, program: impl FnOnce(&Server) -> Result<(), Box<dyn Error>>) -> ExitCode {
    if std::env::var_os(VARIABLE).is_some() {
        serve_stdio(script, Box::new(io::stdout()));
    }
    let server = match server(std::env::args_os().skip(1)) {
        Ok(server) => server,
        Err(wrong) => {
            say(&format!("{name}: {wrong}\nusage: {name} [--real [CODEX]]"));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    say(if server.is_real {
        "this asks codex itself, and the model that it is set up for"
    } else {
        "this asks the scripted server of turnwire's test kit, a fake; --real asks codex itself"
    });
    match program(&server) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{name}: {error}"));
            ExitCode::FAILURE
        }
    }
}

fn server(arguments: impl Iterator<Item = OsString>) -> Result<Server, String> {
    let mut arguments: Vec<OsString> = arguments.collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--real") {
        arguments.remove(place);
        let is_path = |argument: &OsString| !argument.to_string_lossy().starts_with('-');
        let command = match arguments.get(place).is_some_and(is_path) {
            true => Command::new().program(PathBuf::from(arguments.remove(place))),
            false => Command::new(),
        };
        return Ok(Server { command, is_real: true, arguments });
    }
    let itself = std::env::current_exe().map_err(|error| format!("this program cannot be found again: {error}"))?;
    let command = Command::new().program(itself).env(VARIABLE, "1");
    Ok(Server { command, is_real: false, arguments })
}

/// A line on stderr. It is for people: if nobody reads it, that is no failure of the program.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
