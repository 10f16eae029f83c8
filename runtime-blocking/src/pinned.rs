//! A server of exactly the version that turnwire was made for, in a folder of its own.
//!
//! [`Installer::install`] fetches it through the package client that the user has, pip or npm, checks it and puts it into a
//! cache folder; [`Command::pinned`](turnwire_core::launch::Command::pinned) starts it from there. Nothing here runs unless it
//! is called: a session that wants a pinned server and finds none fails, and says how to get one.
//!
//! The program `turnwire-install-codex` does the same from the command line.
//!
//! ```no_run
//! use turnwire_blocking::{Command, pinned::Installer};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let program = Installer::new()?.install()?; // at once if it is there already
//! let codex = turnwire_blocking::spawn(&Command::new().pinned())?;
//! # drop((program, codex));
//! # Ok(())
//! # }
//! ```

use crate::process::spawn_patiently;
use std::{
    env,
    ffi::OsString,
    fmt, fs, io,
    path::{Path, PathBuf},
    process::{self, Child, ExitStatus, Stdio},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    thread,
    time::{Duration, Instant},
};
use turnwire_core::launch::{Platform, natives_in_pinned, pinned_folder};

/// The version that is installed.
pub const VERSION: &str = turnwire_core::connection::ServerInfo::NEWEST_TRIED;
/// The variable that names the cache folder.
pub const CACHE_VARIABLE: &str = "TURNWIRE_CACHE";

/// How much of a failed client's words is shown, in bytes.
const SHOWN: usize = 2_000;

/// A package client of the user's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Client {
    /// `npm`, with the package `@openai/codex`.
    Npm,
    /// `python3 -m pip`, with the package `openai-codex-cli-bin`.
    Pip,
}

impl fmt::Display for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Npm => "npm",
            Self::Pip => "pip",
        })
    }
}

/// Why there is no pinned server.
#[derive(Debug)]
#[non_exhaustive]
pub enum InstallError {
    /// The client ran and failed.
    Client {
        /// Which.
        client: Client,
        /// The end of what it said.
        said: String,
    },
    /// The cache folder cannot be used.
    Folder {
        /// The folder.
        path: PathBuf,
        /// The system's error.
        error: io::Error,
    },
    /// Neither pip nor npm is there.
    NoClient,
    /// There is no folder to keep it in: no home folder is known.
    NoFolder,
    /// The client did not come to its end in time, and was stopped.
    TimedOut {
        /// Which.
        client: Client,
        /// How long it was waited for.
        limit: Duration,
    },
    /// What was installed is not the program of that version.
    Wrong {
        /// The client that installed it.
        client: Client,
        /// What the program said of itself, or why it could not be asked.
        said: String,
    },
}

impl fmt::Display for InstallError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client { client, said } => {
                write!(f, "{client} could not install codex {VERSION}; it said: {said}")
            }
            Self::Folder { path, error } => write!(
                f,
                "codex {VERSION} cannot be kept in {}: {error}; name another folder by {CACHE_VARIABLE}",
                path.display()
            ),
            Self::NoClient => write!(
                f,
                "neither `python3 -m pip` nor `npm` is there to install codex {VERSION}; install one of them, or install codex by \
                 other means and set CODEX_BIN to it"
            ),
            Self::NoFolder => {
                write!(f, "no home folder is known to keep codex {VERSION} in: name one by {CACHE_VARIABLE}")
            }
            Self::TimedOut { client, limit } => {
                write!(f, "{client} did not install codex {VERSION} within {limit:.0?}; is there a network?")
            }
            Self::Wrong { client, said } => {
                write!(f, "what {client} installed is not codex {VERSION}: {said}")
            }
        }
    }
}

impl std::error::Error for InstallError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Folder { error, .. } => Some(error),
            _ => None,
        }
    }
}

impl From<InstallError> for crate::Error {
    fn from(error: InstallError) -> Self {
        Self::Other(Arc::new(error))
    }
}

/// Installs the pinned server.
#[derive(Clone, Debug)]
pub struct Installer {
    cache: PathBuf,
    clients: Vec<Client>,
    limit: Duration,
}

impl Installer {
    /// An installer into the user's cache folder: `TURNWIRE_CACHE` if that is set, else `turnwire` in the place that the
    /// system has for such things.
    ///
    /// # Errors
    /// [`InstallError::NoFolder`] if neither is known.
    pub fn new() -> Result<Self, InstallError> {
        cache_folder().map(Self::into_folder).ok_or(InstallError::NoFolder)
    }

    /// An installer into this cache folder. It need not be there yet.
    #[must_use]
    pub fn into_folder(cache: impl Into<PathBuf>) -> Self {
        Self { cache: cache.into(), clients: vec![Client::Pip, Client::Npm], limit: Duration::from_secs(600) }
    }

    /// Uses this client and no other. Without this, pip is tried first, then npm.
    #[must_use]
    pub fn client(mut self, client: Client) -> Self {
        self.clients = vec![client];
        self
    }

    /// Sets how long a client may take. Ten minutes by default.
    #[must_use]
    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    /// The installed program, if it is there. Nothing is started.
    #[must_use]
    pub fn find(&self) -> Option<PathBuf> {
        program_in(&pinned_folder(&self.cache, VERSION))
    }

    /// Installs the server, unless it is there, and returns its program. Blocks for as long as that takes: seconds, and more
    /// with a slow network.
    ///
    /// Others that install at the same time wait for the first, or do the same beside it; what one of them has finished is
    /// used by all. The folder with the program appears whole or not at all.
    ///
    /// # Errors
    /// See [`InstallError`]. With several clients the error is that of the last one that is there. Nothing is left behind.
    pub fn install(&self) -> Result<PathBuf, InstallError> {
        if let Some(program) = self.find() {
            return Ok(program);
        }
        let in_cache = |error| InstallError::Folder { path: self.cache.clone(), error };
        fs::create_dir_all(&self.cache).map_err(in_cache)?;
        let _turn = Turn::wait(&self.cache.join(format!(".lock-{VERSION}"))).map_err(in_cache)?;
        if let Some(program) = self.find() {
            return Ok(program);
        }
        let mut last = InstallError::NoClient;
        for client in &self.clients {
            let folder = Unfinished::new(&self.cache).map_err(in_cache)?;
            match self.install_with(*client, &folder.0) {
                Ok(()) => return self.publish(&folder.0),
                Err(InstallError::NoClient) => {}
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    /// Puts a finished folder into its place, unless somebody else was faster.
    fn publish(&self, unfinished: &Path) -> Result<PathBuf, InstallError> {
        let folder = pinned_folder(&self.cache, VERSION);
        if folder.exists() && self.find().is_none() {
            // Something that is no installation stands in the way.
            let _ = fs::remove_dir_all(&folder);
        }
        let moved = fs::rename(unfinished, &folder);
        match (self.find(), moved) {
            (Some(program), _) => Ok(program),
            (None, Err(error)) => Err(InstallError::Folder { path: folder, error }),
            (None, Ok(())) => Err(InstallError::Folder { path: folder, error: io::ErrorKind::NotFound.into() }),
        }
    }

    fn install_with(&self, client: Client, folder: &Path) -> Result<(), InstallError> {
        let mut command;
        match client {
            Client::Npm => {
                command = process::Command::new(if cfg!(windows) { "npm.cmd" } else { "npm" });
                command.args(["install", "--no-save", "--no-audit", "--no-fund", "--ignore-scripts", "--prefix"]);
                command.arg(folder).arg(format!("@openai/codex@{VERSION}"));
            }
            Client::Pip => {
                command = process::Command::new(if cfg!(windows) { "python" } else { "python3" });
                command.args([
                    "-m",
                    "pip",
                    "install",
                    "--quiet",
                    "--disable-pip-version-check",
                    "--no-deps",
                    "--target",
                ]);
                command.arg(folder).arg(format!("openai-codex-cli-bin=={VERSION}"));
            }
        }
        let log = folder.join(".said");
        let said = fs::File::create(&log).map_err(|error| InstallError::Folder { path: log.clone(), error })?;
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(said);
        let begun = Instant::now();
        let too_long = || InstallError::TimedOut { client, limit: self.limit };
        let mut child = match spawn_patiently(&mut command) {
            Ok(child) => child,
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => {
                return Err(InstallError::NoClient);
            }
            // It is there, so another is not to be taken in its place.
            Err(error) => return Err(InstallError::Client { client, said: error.to_string() }),
        };
        let status = self.wait(&mut child, begun).ok_or_else(too_long)?;
        let said = fs::read(&log).unwrap_or_default();
        let _ = fs::remove_file(&log);
        if !status.success() {
            let said = String::from_utf8_lossy(said.get(said.len().saturating_sub(SHOWN)..).unwrap_or_default());
            if said.contains("No module named pip") {
                return Err(InstallError::NoClient);
            }
            return Err(InstallError::Client { client, said: said.trim().to_owned() });
        }
        let wrong = |said: String| InstallError::Wrong { client, said };
        let program = program_in(folder).ok_or_else(|| wrong("there is no program in the package".into()))?;
        let said = fs::File::create(&log).map_err(|error| InstallError::Folder { path: log.clone(), error })?;
        let mut command = process::Command::new(&program);
        command.arg("--version").stdin(Stdio::null()).stdout(said).stderr(Stdio::null());
        let mut child = spawn_patiently(&mut command).map_err(|error| wrong(error.to_string()))?;
        self.wait(&mut child, begun).ok_or_else(too_long)?;
        let said = String::from_utf8_lossy(&fs::read(&log).unwrap_or_default()).trim().to_owned();
        let _ = fs::remove_file(&log);
        if said.split_whitespace().last() == Some(VERSION) { Ok(()) } else { Err(wrong(format!("it says `{said}`"))) }
    }

    /// Waits for the end of a program. One that takes longer than the limit, since then, is killed.
    fn wait(&self, child: &mut Child, begun: Instant) -> Option<ExitStatus> {
        loop {
            match child.try_wait() {
                Ok(Some(status)) => return Some(status),
                Ok(None) if begun.elapsed() < self.limit => thread::sleep(Duration::from_millis(30)),
                _ => {
                    let _ = child.kill();
                    let _ = child.wait();
                    return None;
                }
            }
        }
    }
}

/// The folder that pinned servers are kept in, by the variables of this process.
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let variable = |name: &str| env::var_os(name).filter(|value: &OsString| !value.is_empty()).map(PathBuf::from);
    if let Some(named) = variable(CACHE_VARIABLE) {
        return std::path::absolute(named).ok();
    }
    let place = if cfg!(windows) {
        variable("LOCALAPPDATA")
    } else if cfg!(target_os = "macos") {
        variable("HOME").map(|home| home.join("Library").join("Caches"))
    } else {
        variable("XDG_CACHE_HOME").or_else(|| variable("HOME").map(|home| home.join(".cache")))
    };
    place.filter(|place| place.is_absolute()).map(|place| place.join("turnwire"))
}

fn program_in(folder: &Path) -> Option<PathBuf> {
    natives_in_pinned(folder, Platform::here()).into_iter().find(|program| program.is_file())
}

/// A folder that is not finished; removed unless it was moved to its place.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(cache: &Path) -> io::Result<Self> {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let number = MADE.fetch_add(1, Ordering::Relaxed);
        let path = cache.join(format!(".installing-{}-{number}", process::id()));
        // Left by a process of the same number that was killed.
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// The right to install now. Where files cannot be locked everybody has it, and the first to finish wins.
struct Turn {
    _file: fs::File,
}

impl Turn {
    fn wait(path: &Path) -> io::Result<Self> {
        let file = fs::File::create(path)?;
        #[cfg(unix)]
        rustix::fs::flock(&file, rustix::fs::FlockOperation::LockExclusive)?;
        Ok(Self { _file: file })
    }
}
