//! Installs the server that turnwire was made for into turnwire's own cache folder, and prints the path of its program.
//!
//! `turnwire-install-codex [--client pip|npm] [--into FOLDER]`

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a program for the command line")]

use std::process::ExitCode;
use turnwire_blocking::pinned::{Client, Installer, VERSION};

const USAGE: &str = "usage: turnwire-install-codex [--client pip|npm] [--into FOLDER]";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("{message}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let (mut client, mut folder) = (None, None);
    let mut arguments = std::env::args_os().skip(1);
    while let Some(argument) = arguments.next() {
        let mut value = || arguments.next().ok_or_else(|| USAGE.to_owned());
        match argument.to_str() {
            Some("--client") => {
                client = Some(match value()?.to_str() {
                    Some("npm") => Client::Npm,
                    Some("pip") => Client::Pip,
                    _ => return Err(USAGE.into()),
                });
            }
            Some("--into") => folder = Some(value()?),
            _ => return Err(format!("{USAGE}\nInstalls codex {VERSION} through pip or npm, whichever is there.")),
        }
    }
    let mut installer = match folder {
        Some(folder) => Installer::into_folder(folder),
        None => Installer::new().map_err(|error| error.to_string())?,
    };
    if let Some(client) = client {
        installer = installer.client(client);
    }
    let program = installer.install().map_err(|error| error.to_string())?;
    println!("{}", program.display());
    Ok(())
}
