//! The real server for the tests that need it: where it is, and a home of its own for each of them.
//!
//! This part finds an installed `codex` program and writes the folders and settings it runs with. It never starts one
//! (it only prepares a [`Command`]), never installs one, and never reads the settings of the person who runs the
//! tests.
//!
//! # Where the program is looked for
//!
//! 1. `TURNWIRE_CODEX`: the path of the program. If it is set and wrong, that is an error and not a reason to skip;
//! 2. `<workspace>/target/codex-0.163.0/lib/python3*/site-packages/codex_cli_bin/bin/codex`, and the same below
//!    `$CARGO_TARGET_DIR`. It gets there by
//!
//! ```text
//! python3 -m venv target/codex-0.163.0
//! target/codex-0.163.0/bin/pip install openai-codex-cli-bin==0.163.0
//! ```
//!
//! A program that happens to be on `PATH` is not used: the tests are about a version that is known.
//!
//! # Tests that need it
//!
//! ```no_run
//! use turnwire_testkit::{model::ScriptedModel, real};
//!
//! # fn main() -> std::io::Result<()> {
//! let Some(codex) = real::find_or_skip("a_turn_completes") else { return Ok(()) };
//! let model = ScriptedModel::start()?;
//! let home = real::RealHome::new(&model.base_url())?;
//! let server = home.command(&codex).spawn()?;
//! # drop(server);
//! # Ok(())
//! # }
//! ```
//!
//! Without the program such a test says `SKIPPED` on stderr and passes; with `TURNWIRE_REQUIRE_REAL=1` it fails.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The version of the server that these tests are written for.
pub const VERSION: &str = "0.163.0";
/// The variable that names the program.
pub const PROGRAM_VARIABLE: &str = "TURNWIRE_CODEX";
/// The variable that, set to `1`, turns a skipped test into a failed one.
pub const REQUIRE_VARIABLE: &str = "TURNWIRE_REQUIRE_REAL";

/// Where the wheel keeps the program, below `site-packages`.
const IN_PACKAGES: &str = "codex_cli_bin/bin/codex";

/// Why there is no real server to test with.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Missing {
    /// Nothing is installed where the tests look.
    NotInstalled {
        /// The version that was looked for.
        version: String,
        /// The folders that would hold it.
        looked_in: Vec<PathBuf>,
    },
    /// `TURNWIRE_CODEX` is set, but not to a file.
    NotAFile {
        /// What it is set to.
        path: PathBuf,
    },
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotInstalled { version, looked_in } => {
                write!(f, "no codex {version} in ")?;
                for (index, folder) in looked_in.iter().enumerate() {
                    write!(f, "{}{}", if index == 0 { "" } else { " or " }, folder.display())?;
                }
                let folder = looked_in.first().map_or(Path::new(""), PathBuf::as_path).display();
                write!(f, "; install it with: python3 -m venv {folder} && ")?;
                write!(f, "{folder}/bin/pip install openai-codex-cli-bin=={version}")?;
                write!(f, "; or set {PROGRAM_VARIABLE} to the path of a codex program")
            }
            Self::NotAFile { path } => {
                write!(f, "{PROGRAM_VARIABLE} is set to {}, which is not a file", path.display())
            }
        }
    }
}

impl std::error::Error for Missing {}

/// The real server of [`VERSION`], or the one that `TURNWIRE_CODEX` names, of whatever version.
///
/// # Errors
/// There is none; the error says what to do.
pub fn find() -> Result<PathBuf, Missing> {
    match std::env::var_os(PROGRAM_VARIABLE) {
        Some(path) if !path.is_empty() => named(PathBuf::from(path)),
        _ => find_version(VERSION),
    }
}

/// The real server of a given version, installed as [described](self) with that version in both places.
/// `TURNWIRE_CODEX` is not looked at.
///
/// # Errors
/// It is not installed.
pub fn find_version(version: &str) -> Result<PathBuf, Missing> {
    let looked_in = install_folders(version);
    match looked_in.iter().find_map(|folder| program_in(folder)) {
        Some(program) => Ok(program),
        None => Err(Missing::NotInstalled { version: version.to_owned(), looked_in }),
    }
}

/// True if `TURNWIRE_REQUIRE_REAL` is set to `1`: a real-server test must then not be skipped.
#[must_use]
pub fn required() -> bool {
    std::env::var_os(REQUIRE_VARIABLE).is_some_and(|value| value == "1")
}

/// As [`find`]; without a server it says on stderr that `test_name` is skipped, why, and what to do.
///
/// # Panics
/// There is no server although one is [`required`], or `TURNWIRE_CODEX` names something that is not a file.
#[must_use = "None means that the test must return"]
pub fn find_or_skip(test_name: &str) -> Option<PathBuf> {
    match find() {
        Ok(program) => Some(program),
        Err(missing) => {
            let asked_for = matches!(missing, Missing::NotAFile { .. });
            assert!(!asked_for && !required(), "{test_name} needs a real server: {missing}");
            // Not eprintln: the test harness would swallow it, and a skip must be seen. One write, so that lines of
            // concurrent tests do not mix.
            drop(io::stderr().write_all(format!("SKIPPED {test_name}: {missing}\n").as_bytes()));
            None
        }
    }
}

fn named(path: PathBuf) -> Result<PathBuf, Missing> {
    if path.is_file() { Ok(path) } else { Err(Missing::NotAFile { path }) }
}

/// Never empty.
fn install_folders(version: &str) -> Vec<PathBuf> {
    let name = format!("codex-{version}");
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut folders = vec![package.parent().unwrap_or(package).join("target").join(&name)];
    if let Some(target) = std::env::var_os("CARGO_TARGET_DIR").filter(|target| !target.is_empty()) {
        let folder = PathBuf::from(target).join(&name);
        if !folders.contains(&folder) {
            folders.push(folder);
        }
    }
    folders
}

fn program_in(venv: &Path) -> Option<PathBuf> {
    let mut pythons: Vec<PathBuf> = fs::read_dir(venv.join("lib")).ok()?.flatten().map(|entry| entry.path()).collect();
    pythons.sort();
    pythons
        .into_iter()
        .filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("python3")))
        .map(|python| python.join("site-packages").join(IN_PACKAGES))
        .find(|program| program.is_file())
}

/// A temporary home for one real server: `CODEX_HOME` with settings for a scripted model, a `HOME`, and a folder to
/// work in. Nobody else uses it. Dropping removes it, so drop it after the server has ended.
///
/// The settings: the model name `gpt-5.5` (the server knows its tools), no quick retries of a request, two retries of a
/// stream, no WebSocket, and nothing that asks the network. Sandbox and approval policy are the server's
/// defaults (read-only, on-request) until `thread/start` says otherwise.
#[derive(Debug)]
pub struct RealHome {
    root: PathBuf,
}

impl RealHome {
    /// A home whose only model provider is at `base_url`, see [`crate::model::ScriptedModel::base_url`].
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn new(base_url: &str) -> io::Result<Self> {
        Self::with_config(base_url, "")
    }

    /// As [`RealHome::new`] with more TOML. `more` stands after the top-level keys and before the first table: it may
    /// hold top-level keys that are not set here, dotted keys, and then tables.
    ///
    /// # Errors
    /// The folders cannot be made.
    pub fn with_config(base_url: &str, more: &str) -> io::Result<Self> {
        let home = Self { root: unique_folder()? };
        for folder in [home.codex_home(), home.home(), home.work(), home.temp()] {
            private_folder(&folder)?;
        }
        fs::write(home.codex_home().join("config.toml"), config(base_url, more))?;
        Ok(home)
    }

    /// The folder that `CODEX_HOME` names: settings, rules, stored threads.
    #[must_use]
    pub fn codex_home(&self) -> PathBuf {
        self.root.join("codex")
    }

    /// The folder to work in: the `cwd` of threads. Empty at first.
    #[must_use]
    pub fn work(&self) -> PathBuf {
        self.root.join("work")
    }

    /// The whole environment of the server: start it with these variables and no others, as [`RealHome::command`] does.
    /// Where the environment is inherited instead, remove [`RealHome::env_to_remove`] as well.
    #[must_use]
    pub fn env(&self) -> Vec<(OsString, OsString)> {
        let path = std::env::var_os("PATH").unwrap_or_else(|| OsString::from("/usr/local/bin:/usr/bin:/bin"));
        let values: [(&str, OsString); 8] = [
            ("CODEX_HOME", self.codex_home().into()),
            ("HOME", self.home().into()),
            ("LANG", "C.UTF-8".into()),
            // The stderr of the server is coloured even in a pipe.
            ("NO_COLOR", "1".into()),
            ("NO_PROXY", "127.0.0.1".into()),
            ("PATH", path),
            ("RUST_LOG", "warn".into()),
            ("TMPDIR", self.temp().into()),
        ];
        values.into_iter().map(|(name, value)| (name.into(), value)).collect()
    }

    /// The variables of this process that would change what the server does: keys, other homes, proxies.
    #[must_use]
    pub fn env_to_remove(&self) -> Vec<OsString> {
        let set = self.env();
        let names = std::env::vars_os().map(|(name, _)| name);
        names.filter(|name| leaks(name) && !set.iter().any(|(known, _)| known == name)).collect()
    }

    /// `PROGRAM app-server` in the work folder with exactly the environment [`RealHome::env`]. Not started; pipes are
    /// up to the caller.
    #[must_use]
    pub fn command(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command.arg("app-server").current_dir(self.work()).env_clear().envs(self.env());
        command
    }

    /// What `HOME` names: empty.
    fn home(&self) -> PathBuf {
        self.root.join("home")
    }

    fn temp(&self) -> PathBuf {
        self.root.join("tmp")
    }
}

impl Drop for RealHome {
    fn drop(&mut self) {
        // A server that is just ending may still write a file: try again for a while, then leave the rest.
        for _ in 0..40 {
            match fs::remove_dir_all(&self.root) {
                Ok(()) => return,
                Err(error) if error.kind() == io::ErrorKind::NotFound => return,
                Err(_) => std::thread::sleep(Duration::from_millis(25)),
            }
        }
    }
}

fn leaks(name: &OsStr) -> bool {
    let name = name.to_string_lossy().to_ascii_uppercase();
    let begins = ["CODEX_", "OPENAI_", "XDG_", "RUST_LOG", "LOG_FORMAT"];
    begins.iter().any(|start| name.starts_with(start)) || name.ends_with("_PROXY")
}

fn config(base_url: &str, more: &str) -> String {
    format!(
        r#"# Written by the test kit of turnwire: a scripted model and nothing outside this machine.
model = "gpt-5.5"
model_provider = "mock"
check_for_update_on_startup = false
{more}
[model_providers.mock]
name = "mock"
base_url = {}
wire_api = "responses"
supports_websockets = false
request_max_retries = 0
stream_max_retries = 2
stream_idle_timeout_ms = 60000
"#,
        toml_string(base_url)
    )
}

/// A TOML basic string.
fn toml_string(text: &str) -> String {
    let mut out = String::from("\"");
    for char in text.chars() {
        match char {
            '"' | '\\' => out.extend(['\\', char]),
            control if control.is_control() => out.push_str(&format!("\\u{:04X}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

/// Makes a folder that did not exist before, below the temporary folder of the system.
fn unique_folder() -> io::Result<PathBuf> {
    static MADE: AtomicU32 = AtomicU32::new(0);
    let parent = std::env::temp_dir();
    let mut last = io::Error::other("no name was tried");
    for _ in 0..100 {
        let nanos = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.subsec_nanos());
        let count = MADE.fetch_add(1, Ordering::Relaxed);
        let folder = parent.join(format!("turnwire-real-{}-{count}-{nanos:08x}", std::process::id()));
        match private_folder(&folder) {
            Ok(()) => return Ok(folder),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

/// Makes a folder for this user alone; an error if it exists.
fn private_folder(path: &Path) -> io::Result<()> {
    let mut builder = fs::DirBuilder::new();
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_in_a_venv_of_any_python_3() {
        let home = RealHome::new("http://127.0.0.1:1/v1").unwrap();
        let venv = home.work();
        assert_eq!(program_in(&venv), None);
        let bin = venv.join("lib/python3.12/site-packages/codex_cli_bin/bin");
        fs::create_dir_all(&bin).unwrap();
        assert_eq!(program_in(&venv), None);
        fs::write(bin.join("codex"), "").unwrap();
        assert_eq!(program_in(&venv), Some(bin.join("codex")));
    }

    #[test]
    fn a_named_program_that_is_no_file_is_an_error_that_names_the_variable() {
        let missing = named(PathBuf::from("/no/such/codex")).unwrap_err();
        assert_eq!(missing.to_string(), "TURNWIRE_CODEX is set to /no/such/codex, which is not a file");
    }

    #[test]
    fn what_is_not_installed_is_reported_with_the_commands_that_install_it() {
        let text = find_version("0.0.0-none").unwrap_err().to_string();
        assert!(text.contains("target/codex-0.0.0-none"), "{text}");
        assert!(text.contains("pip install openai-codex-cli-bin==0.0.0-none"), "{text}");
        assert!(text.contains("TURNWIRE_CODEX"), "{text}");
    }

    #[test]
    fn two_homes_share_nothing_and_are_removed_on_drop() {
        let (one, two) = (RealHome::new("http://a/v1").unwrap(), RealHome::new("http://b/v1").unwrap());
        assert_ne!(one.root, two.root);
        let (root, settings) = (one.root.clone(), two.codex_home().join("config.toml"));
        assert!(root.join("codex/config.toml").is_file());
        drop(one);
        assert!(!root.exists());
        assert!(fs::read_to_string(settings).unwrap().contains("base_url = \"http://b/v1\""));
    }

    #[test]
    fn the_environment_is_whole_and_points_into_the_home() {
        let home = RealHome::new("http://127.0.0.1:1/v1").unwrap();
        for name in ["CODEX_HOME", "HOME", "TMPDIR"] {
            let (_, value) = home.env().into_iter().find(|(key, _)| key == name).unwrap();
            assert!(Path::new(&value).starts_with(&home.root) && Path::new(&value).is_dir(), "{name}");
        }
        for name in ["OPENAI_API_KEY", "CODEX_API_KEY", "XDG_CONFIG_HOME", "https_proxy"] {
            assert!(leaks(OsStr::new(name)), "{name}");
        }
        assert!(!leaks(OsStr::new("PATH")));
    }

    #[test]
    fn a_url_cannot_break_out_of_its_toml_string() {
        assert_eq!(toml_string("a\"b\\c\nd"), r#""a\"b\\c\u000Ad""#);
    }
}
