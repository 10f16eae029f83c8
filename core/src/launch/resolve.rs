//! The order in which places are tried, and the errors of a start.

use super::Program;
use alloc::{borrow::ToOwned, format, string::String, sync::Arc, vec::Vec};
use core::fmt;
use std::{
    ffi::{OsStr, OsString},
    io,
    path::{Component, Path, PathBuf},
};

/// The name of the variable that names the program.
pub const CODEX_BIN: &str = "CODEX_BIN";

/// What Windows itself assumes when `PATHEXT` is empty.
const DEFAULT_PATHEXT: &str = ".COM;.EXE;.BAT;.CMD";

/// Who named a place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The caller, by an explicit program.
    Explicit,
    /// Turnwire's own installer.
    Pinned,
    /// The variable `PATH`.
    SearchPath,
    /// The variable `CODEX_BIN`.
    Variable,
    /// Nobody: it is where installers put it.
    WellKnown,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Explicit => "given explicitly",
            Self::Pinned => "pinned",
            Self::SearchPath => "in PATH",
            Self::Variable => "from CODEX_BIN",
            Self::WellKnown => "where installers put it",
        })
    }
}

/// A place where the program may be.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Candidate {
    /// Who named it.
    pub origin: Origin,
    /// The file.
    pub path: PathBuf,
}

impl Candidate {
    /// A place of the pinned program.
    #[must_use]
    pub const fn pinned(path: PathBuf) -> Self {
        Self { origin: Origin::Pinned, path }
    }
}

/// Why a place did not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Obstacle {
    /// It is a folder or something else that is not a file.
    NotAFile,
    /// It is a file, but may not be executed.
    NotExecutable,
    /// There is nothing of that name.
    Missing,
    /// The system would not say, with this kind of error.
    Unreadable(io::ErrorKind),
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile => f.write_str("not a file"),
            Self::NotExecutable => f.write_str("not executable"),
            Self::Missing => f.write_str("missing"),
            Self::Unreadable(kind) => write!(f, "unreadable: {kind}"),
        }
    }
}

/// A place that was tried, and why it did not do.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Tried {
    /// The place.
    pub candidate: Candidate,
    /// Why it did not do.
    pub obstacle: Obstacle,
}

impl Tried {
    /// A place and its obstacle.
    #[must_use]
    pub const fn new(candidate: Candidate, obstacle: Obstacle) -> Self {
        Self { candidate, obstacle }
    }
}

/// The places to try, in order, from the texts of the three variables. Looks at no disk.
///
/// `codex_bin`, `path` and `pathext` are the values of `CODEX_BIN`, `PATH` and `PATHEXT`. With `pathext` absent a name
/// stands for itself, as on Unix; with it, a name without one of those extensions is tried with each of them, as on
/// Windows (empty means Windows' own default).
///
/// An explicit program, or else a `CODEX_BIN` that is not empty, is the only source if it is there: all candidates then
/// have its origin, and usually there is just one.
#[must_use]
pub fn candidates(
    program: &Program,
    codex_bin: Option<&OsStr>,
    path: Option<&OsStr>,
    pathext: Option<&OsStr>,
) -> Vec<Candidate> {
    let variable = codex_bin.filter(|value| !value.is_empty());
    let (origin, wanted) = match (program, variable) {
        (Program::Explicit(wanted), _) => (Origin::Explicit, wanted.as_path()),
        // It depends on none of these.
        (Program::Pinned, _) => return Vec::new(),
        (Program::Search, Some(wanted)) => (Origin::Variable, Path::new(wanted)),
        (Program::Search, None) => (Origin::SearchPath, Path::new("codex")),
    };
    let extensions = pathext.map(extensions);
    let mut found = Vec::new();
    let mut add = |path: PathBuf| {
        for path in spellings(path, extensions.as_deref()) {
            let candidate = Candidate { origin, path };
            if !found.contains(&candidate) {
                found.push(candidate);
            }
        }
    };
    if is_bare_name(wanted) {
        for folder in std::env::split_paths(path.unwrap_or_default()).filter(|folder| folder.is_absolute()) {
            add(folder.join(wanted));
        }
    } else {
        add(wanted.to_owned());
    }
    found
}

/// Whether this is one plain name, with no folder before or separator after it.
fn is_bare_name(path: &Path) -> bool {
    let mut components = path.components();
    match (components.next(), components.next()) {
        // The comparison sees what `components` hides: `./codex` and `codex/` are paths.
        (Some(Component::Normal(name)), None) => name == path.as_os_str(),
        _ => false,
    }
}

/// The extensions named by a `PATHEXT`, each with its dot.
fn extensions(pathext: &OsStr) -> Vec<String> {
    let text = pathext.to_string_lossy();
    let text = if text.trim().is_empty() { DEFAULT_PATHEXT } else { text.as_ref() };
    text.split(';').map(str::trim).filter(|ext| ext.len() > 1 && ext.starts_with('.')).map(str::to_owned).collect()
}

/// The names under which a file may lie.
fn spellings(path: PathBuf, extensions: Option<&[String]>) -> Vec<PathBuf> {
    let Some(extensions) = extensions else { return Vec::from([path]) };
    let has_one = path.extension().is_some_and(|found| {
        let found = format!(".{}", found.to_string_lossy());
        extensions.iter().any(|ext| ext.eq_ignore_ascii_case(&found))
    });
    if has_one {
        return Vec::from([path]);
    }
    let with = |ext: &String| {
        let mut name = OsString::from(path.as_os_str());
        name.push(ext);
        PathBuf::from(name)
    };
    extensions.iter().map(with).collect()
}

/// Why a process could not be started.
///
/// The text says what happened, where, and what to do next.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum LaunchError {
    /// The program is in none of the places.
    NotFound {
        /// All places that were tried, in order; empty if there was none to try.
        tried: Vec<Tried>,
    },
    /// There is something in its place, but it cannot be executed.
    NotExecutable {
        /// What is there.
        path: PathBuf,
        /// What is wrong with it.
        obstacle: Obstacle,
    },
    /// The system would not start it.
    Spawn {
        /// The program.
        path: PathBuf,
        /// The kind of the system's error.
        kind: io::ErrorKind,
        /// The system's error as text.
        message: Arc<str>,
    },
    /// The server's temporary home could not be made.
    Home {
        /// The folder in which it was to be made.
        path: PathBuf,
        /// The kind of the system's error.
        kind: io::ErrorKind,
    },
    /// The folder to start in is no usable folder.
    WorkingDirectory {
        /// The folder.
        path: PathBuf,
        /// The kind of the system's error.
        kind: io::ErrorKind,
    },
}

impl LaunchError {
    /// Whether the same command may succeed later, with nothing changed: the system was short of something, or the program
    /// was just being written.
    #[must_use]
    pub const fn is_retryable(&self) -> bool {
        use io::ErrorKind as Kind;
        let Self::Spawn { kind, .. } = self else { return false };
        matches!(kind, Kind::ExecutableFileBusy | Kind::Interrupted | Kind::OutOfMemory | Kind::WouldBlock)
    }
}

const INSTALL: &str = "install it with `npm install -g @openai/codex`, or with `pip install openai-codex-cli-bin` and set \
                       CODEX_BIN to the binary in that package; or pass an explicit path";

impl fmt::Display for LaunchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotFound { tried } => write_not_found(f, tried),
            Self::NotExecutable { path, obstacle } => write!(
                f,
                "the codex program {} cannot be executed ({obstacle}): give it execute permission (`chmod +x`), or name \
                 another program by an explicit path or by CODEX_BIN",
                path.display()
            ),
            Self::Spawn { path, kind, message } => {
                write!(f, "could not start the codex program {}: {message}", path.display())?;
                match kind {
                    io::ErrorKind::NotFound => f.write_str(
                        "; the file is there, so what is missing is the interpreter that its first line names, or the \
                         loader of its platform: install that, or give the path of a binary for this machine",
                    ),
                    io::ErrorKind::ExecutableFileBusy => {
                        f.write_str("; another process is writing the file: try again when the installation is over")
                    }
                    io::ErrorKind::InvalidInput => {
                        f.write_str("; an argument or a variable contains a NUL byte, or a variable has a bad name")
                    }
                    io::ErrorKind::OutOfMemory | io::ErrorKind::WouldBlock => {
                        f.write_str("; the system is short of processes, threads or memory: try again later")
                    }
                    _ => Ok(()),
                }
            }
            Self::Home { path, kind } => write!(
                f,
                "cannot make a temporary home for the codex program in {}: {kind}; set TMPDIR to a folder that can be \
                 written to, or give the server a home with `Command::codex_home`",
                path.display()
            ),
            Self::WorkingDirectory { path, kind } => write!(
                f,
                "cannot start the codex program in the folder {}: {kind}; create the folder or choose another",
                path.display()
            ),
        }
    }
}

fn write_not_found(f: &mut fmt::Formatter<'_>, tried: &[Tried]) -> fmt::Result {
    f.write_str("the codex program was not found; tried ")?;
    if tried.is_empty() {
        f.write_str("nothing, as PATH names no folder")?;
    }
    for (i, Tried { candidate, obstacle }) in tried.iter().enumerate() {
        let comma = if i == 0 { "" } else { ", " };
        write!(f, "{comma}{} ({}, {obstacle})", candidate.path.display(), candidate.origin)?;
    }
    match tried.first().map(|tried| tried.candidate.origin) {
        Some(Origin::Explicit) => {
            write!(f, "; a program given explicitly is never replaced by another: correct it, or {INSTALL}")
        }
        Some(Origin::Variable) => {
            write!(f, "; CODEX_BIN is set, so nothing else was tried: correct or unset it, or {INSTALL}")
        }
        Some(Origin::Pinned) => f.write_str(
            "; a pinned program is never replaced by another: install it with the program `turnwire-install-codex`, or with \
             `turnwire_blocking::pinned::Installer`",
        ),
        Some(Origin::SearchPath | Origin::WellKnown) => write!(f, "; CODEX_BIN is not set; {INSTALL}"),
        None => write!(f, "; {INSTALL}"),
    }
}

impl core::error::Error for LaunchError {}

#[cfg(test)]
mod tests;
