//! A recorded `codex app-server`: `turnwire-recorded-server [--recording FILE] [anything else is ignored]`.
//!
//! It can be named wherever the `codex` executable is named: `app-server` and all other arguments are ignored. The recording
//! comes from `--recording`, else from the file that `TURNWIRE_RECORDING` names. Where what it hears is not what was recorded, it
//! says so on stderr, by record number, at the end. Exit code 64 means a recording that cannot be read; otherwise it is the recorded
//! one.

use std::error::Error;
use std::ffi::OsString;
use std::io::Write;

use turnwire_core::record::Recording;
use turnwire_testkit::recorded::serve_recorded_stdio;

fn main() {
    let code = match recording() {
        Ok(recording) => serve_recorded_stdio(&recording),
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "turnwire-recorded-server: {error}");
            64
        }
    };
    std::process::exit(code);
}

fn recording() -> Result<Recording, Box<dyn Error>> {
    let path = path().ok_or("there is no recording to play: give --recording FILE, or set TURNWIRE_RECORDING")?;
    let text = std::fs::read_to_string(&path)
        .map_err(|error| format!("{}: {error}", std::path::Path::new(&path).display()))?;
    Ok(Recording::parse(&text)?)
}

fn path() -> Option<OsString> {
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        if argument == "--recording" {
            return arguments.next();
        }
    }
    std::env::var_os("TURNWIRE_RECORDING").filter(|path| !path.is_empty())
}
