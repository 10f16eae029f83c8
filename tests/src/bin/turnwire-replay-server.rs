//! A fake `codex app-server` that streams prepared deltas: `turnwire-replay-server [--turns N] [--deltas N] [--line BYTES]
//! [--pace-us MICROSECONDS]`. Other arguments are passed over, so it can be named wherever `codex` is.

use std::{
    fs::File,
    io::{self, Write},
    process::ExitCode,
};
use turnwire_testkit::replay::Replay;

fn main() -> ExitCode {
    match serve() {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever reads may have had enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(io::stderr(), "turnwire-replay-server: {error}");
            ExitCode::from(64)
        }
    }
}

fn serve() -> io::Result<()> {
    let replay = Replay::from_arguments(std::env::args().skip(1)).map_err(io::Error::other)?;
    let input = io::stdin().lock();
    // The standard output of the library looks for line ends in all that passes; a file does not.
    match output() {
        Ok(file) => replay.serve(input, file),
        Err(_) => replay.serve(input, io::stdout().lock()),
    }
}

#[cfg(unix)]
fn output() -> io::Result<File> {
    use std::os::fd::AsFd;
    io::stdout().as_fd().try_clone_to_owned().map(File::from)
}

#[cfg(not(unix))]
fn output() -> io::Result<File> {
    Err(io::ErrorKind::Unsupported.into())
}
