//! A fake `codex app-server` that plays a script: `turnwire-scripted-server [--script FILE] [anything else is ignored]`.
//!
//! It can be named wherever the `codex` executable is named: `app-server` and all other arguments are ignored. The script
//! comes from `--script`, else from the file that `TURNWIRE_SCRIPT` names; without one the default brain plays alone.
//! `TURNWIRE_SCRIPTED_LOG` names a file to which the received lines are appended. Exit code 64 means a script that cannot be
//! read.
//!
//! Two steps need the shell, because the standard library can neither ignore a signal nor close its own stdout: for a
//! script with `ignore_term` the program starts itself again under `trap ''`, and for one with `close_stdout` its output
//! goes through a named pipe and `cat`.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use turnwire_testkit::scripted::{Script, serve_stdio};

fn main() -> ExitCode {
    match start() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "turnwire-scripted-server: {error}");
            ExitCode::from(64)
        }
    }
}

fn start() -> Result<(), Box<dyn Error>> {
    let script = match script_path()? {
        Some(path) => Script::from_file(path)?,
        None => Script::new(),
    };
    let stdout = shell::prepare(&script)?;
    serve_stdio(script, stdout)
}

fn script_path() -> Result<Option<OsString>, Box<dyn Error>> {
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--script" {
            return arguments.next().map(Some).ok_or_else(|| "--script needs a file".into());
        }
    }
    Ok(std::env::var_os("TURNWIRE_SCRIPT").filter(|path| !path.is_empty()))
}

#[cfg(unix)]
mod shell {
    use std::error::Error;
    use std::fs::{self, File};
    use std::io::Write;
    use std::os::unix::process::CommandExt;
    use std::path::PathBuf;
    use std::process::Command;

    use turnwire_testkit::scripted::Script;

    /// Set in the second life of the program. Empty, or the named pipe to write to.
    const AGAIN: &str = "TURNWIRE_SCRIPTED_AGAIN";

    /// Gives the output to write to; the first time it may replace the process by a prepared one of the same id.
    pub(crate) fn prepare(script: &Script) -> Result<Box<dyn Write>, Box<dyn Error>> {
        if let Some(pipe) = std::env::var_os(AGAIN) {
            if pipe.is_empty() {
                return Ok(Box::new(std::io::stdout()));
            }
            let pipe = PathBuf::from(pipe);
            let output = File::options().write(true).open(&pipe)?;
            // Both ends are open now: nobody needs the name any more.
            if let Some(folder) = pipe.parent() {
                fs::remove_dir_all(folder)?;
            }
            return Ok(Box::new(output));
        }
        let (ignore_term, close_stdout) = (script.needs_ignored_term(), script.needs_closable_stdout());
        if !ignore_term && !close_stdout {
            return Ok(Box::new(std::io::stdout()));
        }
        let mut commands = String::from("set -e\n");
        if ignore_term {
            commands.push_str("trap '' TERM\n");
        }
        if close_stdout {
            commands.push_str("d=$(mktemp -d)\nmkfifo \"$d/stdout\"\ncat \"$d/stdout\" &\n");
            commands.push_str(&format!("export {AGAIN}=\"$d/stdout\"\nexec \"$0\" \"$@\" >/dev/null\n"));
        } else {
            commands.push_str(&format!("export {AGAIN}=\nexec \"$0\" \"$@\"\n"));
        }
        let program = std::env::current_exe()?;
        let arguments = std::env::args_os().skip(1);
        Err(Command::new("/bin/sh").arg("-c").arg(commands).arg(program).args(arguments).exec().into())
    }
}

#[cfg(not(unix))]
mod shell {
    use std::error::Error;
    use std::io::Write;

    use turnwire_testkit::scripted::Script;

    pub(crate) fn prepare(script: &Script) -> Result<Box<dyn Write>, Box<dyn Error>> {
        if script.needs_ignored_term() || script.needs_closable_stdout() {
            return Err("ignore_term and close_stdout need a Unix".into());
        }
        Ok(Box::new(std::io::stdout()))
    }
}
