//! What `ask` is on every runtime: its command line ([`options`]), what it shows ([`screen`]), and the fake server that
//! stands in where there is no codex ([`stand_in`]). Nothing here waits, starts a thread or knows of a runtime.

mod options;
mod screen;
mod stand_in;

pub(crate) use options::Options;
pub(crate) use screen::{Happening, Next, Screen};

use std::{
    error::Error,
    io::{self, Write},
    process::ExitCode,
};

/// How the program ends: with a status, or with an error, which it says.
pub(crate) type Outcome = Result<ExitCode, Box<dyn Error>>;

/// The status for a wrong command line.
const WRONG_USAGE: u8 = 2;

/// The whole program, but for the part that needs a runtime.
pub(crate) fn run(name: &str, ask: impl FnOnce(&Options) -> Outcome) -> ExitCode {
    if stand_in::is_wanted() {
        stand_in::serve();
    }
    let options = match Options::from_args(std::env::args_os().skip(1)) {
        Ok(Some(options)) => options,
        Ok(None) => {
            let _ = io::stdout().write_all(options::help(name).as_bytes());
            return ExitCode::SUCCESS;
        }
        Err(wrong) => {
            say(&format!("{name}: {wrong}\nTry `{name} --help`."));
            return ExitCode::from(WRONG_USAGE);
        }
    };
    ask(&options).unwrap_or_else(|error| {
        say(&format!("{name}: {error}"));
        ExitCode::FAILURE
    })
}

/// A line on stderr. It is for people: if nobody reads it, that is no failure of the program.
fn say(line: &str) {
    let _ = writeln!(io::stderr(), "{line}");
}
