//! The command: program, arguments, folder, environment, and the bounds of its end.

use super::{CloseLadder, ConfigValue, config_value::toml_string};
use alloc::{
    collections::BTreeMap,
    string::{String, ToString},
    vec::Vec,
};
use core::fmt;
use std::{
    ffi::{OsStr, OsString},
    path::{Path, PathBuf},
};

/// The subcommand that speaks the protocol.
const APP_SERVER: &str = "app-server";
/// The variable that names the server's home.
const CODEX_HOME: &str = "CODEX_HOME";

/// Which program to start. See the [module's documentation](super) for the order of the search.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Program {
    /// This one and no other. A bare name is looked up in `PATH`.
    Explicit(PathBuf),
    /// The one of exactly the version that turnwire was made for, from where turnwire's own installer puts it.
    Pinned,
    /// `CODEX_BIN`, then `codex` in `PATH`, then where installers put it.
    #[default]
    Search,
}

/// Which variables of the calling process the child sees, before the command's own are set and removed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Environment {
    /// Those with these names, and no others.
    AllowList(Vec<String>),
    /// None. Note that a launcher script usually needs `PATH`, and a program on Windows `SystemRoot`.
    Cleared,
    /// All.
    #[default]
    Inherit,
}

/// A server process to be started, as data.
///
/// ```
/// # use turnwire_core::launch::{Command, Environment};
/// let command = Command::new()
///     .config("model", "\"gpt-5\"")
///     .environment(Environment::AllowList(vec!["PATH".into(), "LANG".into()]))
///     .env("NO_COLOR", "1")
///     .codex_home("/srv/agent/home");
/// assert_eq!(command.arguments(), ["app-server", "-c", "model=\"gpt-5\""]);
/// ```
///
/// Debug shows names of variables and configuration keys, and counts arguments; it shows no value of any of them. The
/// system is less discreet: arguments, and so configuration values, can be read by every user of the machine, while
/// variables cannot.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Command {
    /// Which program to start.
    pub program: Program,
    /// The arguments, `["app-server"]` by default.
    pub args: Vec<OsString>,
    /// More arguments, after `args` and `config`.
    pub extra_args: Vec<OsString>,
    /// Configuration overrides, in order: of two with the same key the server takes the last.
    pub config: Vec<(String, String)>,
    /// The folder to start in; that of the calling process if `None`.
    pub cwd: Option<PathBuf>,
    /// Which variables of the calling process the child sees.
    pub environment: Environment,
    /// Whether the server gets a home of its own that is made for it and removed after its end.
    pub temporary_home: bool,
    /// Variables to set (`Some`) or to remove (`None`), after `environment` was applied.
    pub variables: BTreeMap<OsString, Option<OsString>>,
    /// The bounds of closing.
    pub close_ladder: CloseLadder,
    /// How many bytes of the child's stderr are kept, counted from its end. 64 KiB by default; 0 keeps nothing.
    pub stderr_tail_bytes: usize,
}

impl Command {
    /// `codex app-server` from wherever it is found, with the environment and in the folder of the calling process.
    #[must_use]
    pub fn new() -> Self {
        Self {
            program: Program::Search,
            args: Vec::from([OsString::from(APP_SERVER)]),
            extra_args: Vec::new(),
            config: Vec::new(),
            cwd: None,
            environment: Environment::Inherit,
            temporary_home: false,
            variables: BTreeMap::new(),
            close_ladder: CloseLadder::new(),
            stderr_tail_bytes: 64 * 1024,
        }
    }

    /// Starts this program and no other. A relative path counts from the calling process's folder, not from
    /// [`cwd`](Self::cwd); a bare name is looked up in `PATH`.
    #[must_use]
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Program::Explicit(path.into());
        self
    }

    /// Starts the server of exactly the version that turnwire was made for, from where turnwire's own installer puts it
    /// (`turnwire_blocking::pinned`, or the program `turnwire-install-codex`), and no other. It is never installed by itself.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.program = Program::Pinned;
        self
    }

    /// Replaces the arguments, `app-server` included. For a launcher that needs words of its own before it
    /// (`npx @openai/codex app-server`).
    #[must_use]
    pub fn args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// Adds an argument after all others.
    #[must_use]
    pub fn extra_arg(mut self, arg: impl Into<OsString>) -> Self {
        self.extra_args.push(arg.into());
        self
    }

    /// Adds arguments after all others.
    #[must_use]
    pub fn extra_args<I>(mut self, args: I) -> Self
    where
        I: IntoIterator,
        I::Item: Into<OsString>,
    {
        self.extra_args.extend(args.into_iter().map(Into::into));
        self
    }

    /// Overrides one value of the server's configuration (`-c key=value`). The key may be a dotted path. The server reads
    /// the value as TOML, and takes it as plain text only if that fails: `true` is a boolean and `5` a number. For text
    /// there is [`config_text`](Self::config_text).
    #[must_use]
    pub fn config(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.config.push((key.into(), value.into()));
        self
    }

    /// Overrides one value of the server's configuration with text, whatever the text looks like.
    #[must_use]
    pub fn config_text(self, key: impl Into<String>, text: &str) -> Self {
        self.config(key, toml_string(text))
    }

    /// Overrides one value of the server's configuration with a value of any kind, written as TOML. The key may be a dotted
    /// path, and the server cuts it at every dot; where a name has dots or other signs of its own, give the table above it as
    /// the value. Of two overrides that touch one table, the later replaces the earlier.
    #[must_use]
    pub fn config_value(self, key: impl Into<String>, value: impl Into<ConfigValue>) -> Self {
        self.config(key, value.into().to_string())
    }

    /// Sets the folder to start in.
    #[must_use]
    pub fn cwd(mut self, path: impl Into<PathBuf>) -> Self {
        self.cwd = Some(path.into());
        self
    }

    /// Sets which variables of the calling process the child sees.
    #[must_use]
    pub fn environment(mut self, environment: Environment) -> Self {
        self.environment = environment;
        self
    }

    /// Sets a variable for the child.
    #[must_use]
    pub fn env(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), Some(value.into()));
        self
    }

    /// Removes a variable from what the child sees.
    #[must_use]
    pub fn env_remove(mut self, name: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), None);
        self
    }

    /// Gives the server a home of its own, by the variable `CODEX_HOME`. The folder must exist and be writable. A relative
    /// path counts from the calling process's folder and is made absolute at the start.
    #[must_use]
    pub fn codex_home(self, path: impl Into<PathBuf>) -> Self {
        self.env(CODEX_HOME, path.into())
    }

    /// Gives the server a home that is made for it, empty and readable by this user alone, and removed when the server has
    /// ended: after a close, after a drop, and after a failed start. It takes the place of a
    /// [`codex_home`](Self::codex_home).
    ///
    /// Nothing of the user's own home is there: no login, no configuration, no hooks, no servers of tools. What the server
    /// needs of them is given by [`config`](Self::config) and [`env`](Self::env).
    #[must_use]
    pub fn temporary_home(mut self) -> Self {
        self.temporary_home = true;
        self
    }

    /// Sets the bounds of closing.
    #[must_use]
    pub fn close_ladder(mut self, ladder: CloseLadder) -> Self {
        self.close_ladder = ladder;
        self
    }

    /// Sets how many bytes of the child's stderr are kept. 0 keeps nothing; stderr is read in any case.
    #[must_use]
    pub fn stderr_tail_bytes(mut self, bytes: usize) -> Self {
        self.stderr_tail_bytes = bytes;
        self
    }

    /// The whole list of arguments for the child, without the program.
    ///
    /// The overrides stand right after the word `app-server`, or after all of `args` if that word is not there. They are
    /// not put before it, though the command line accepts that too: the server drops all overrides before the subcommand
    /// as soon as there is one after it, so one `-c` among the extra arguments would silently undo the others.
    #[must_use]
    pub fn arguments(&self) -> Vec<OsString> {
        let split = self.args.iter().position(|arg| arg == APP_SERVER).map_or(self.args.len(), |at| at + 1);
        let (before, after) = self.args.split_at_checked(split).unwrap_or((&self.args, &[]));
        let mut all = Vec::with_capacity(self.args.len() + 2 * self.config.len() + self.extra_args.len());
        all.extend_from_slice(before);
        for (key, value) in &self.config {
            all.push(OsString::from("-c"));
            all.push(OsString::from(format!("{key}={value}")));
        }
        all.extend_from_slice(after);
        all.extend_from_slice(&self.extra_args);
        all
    }

    /// The home that this command sets for the server, as given; `None` if it sets none.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.variables.get(OsStr::new(CODEX_HOME))?.as_deref().map(Path::new)
    }
}

impl Default for Command {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let keys: Vec<&String> = self.config.iter().map(|(key, _)| key).collect();
        let set: Vec<&OsString> = self.variables.iter().filter(|(_, v)| v.is_some()).map(|(name, _)| name).collect();
        let removed: Vec<&OsString> =
            self.variables.iter().filter(|(_, v)| v.is_none()).map(|(name, _)| name).collect();
        f.debug_struct("Command")
            .field("program", &self.program)
            .field("args_len", &self.args.len())
            .field("extra_args_len", &self.extra_args.len())
            .field("config_keys", &keys)
            .field("cwd", &self.cwd)
            .field("environment", &self.environment)
            .field("temporary_home", &self.temporary_home)
            .field("variables_set", &set)
            .field("variables_removed", &removed)
            .field("close_ladder", &self.close_ladder)
            .field("stderr_tail_bytes", &self.stderr_tail_bytes)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overrides_stand_right_after_the_subcommand() {
        let command = Command::new().config("a.b", "1").config("c", "true").extra_args(["--enable", "x"]);
        assert_eq!(command.arguments(), ["app-server", "-c", "a.b=1", "-c", "c=true", "--enable", "x"]);
        let command = Command::new().args(["@openai/codex", "app-server", "--stdio"]).config("c", "1").extra_arg("z");
        assert_eq!(command.arguments(), ["@openai/codex", "app-server", "-c", "c=1", "--stdio", "z"]);
        assert_eq!(Command::new().args(["x", "y"]).config("c", "1").arguments(), ["x", "y", "-c", "c=1"]);
        assert_eq!(Command::new().args([""; 0]).arguments(), [""; 0]);
    }

    #[test]
    fn text_is_quoted_so_that_it_stays_text() {
        let command = Command::new().config_text("k", "say \"5\\\"\n\u{7}\u{e9}");
        assert_eq!(command.config[0].1, "\"say \\\"5\\\\\\\"\\n\\u0007\u{e9}\"");
        assert_eq!(Command::new().config_text("k", "true").config[0].1, "\"true\"");
    }

    #[test]
    fn debug_shows_names_but_no_values() {
        let command = Command::new()
            .args(["s1-secret"])
            .extra_arg("s2-secret")
            .config("model_provider", "s3-secret")
            .env("OPENAI_API_KEY", "s4-secret")
            .env_remove("HTTP_PROXY");
        let shown = format!("{command:?}");
        assert!(!shown.contains("secret"), "{shown}");
        for name in ["model_provider", "OPENAI_API_KEY", "HTTP_PROXY"] {
            assert!(shown.contains(name), "{shown}");
        }
    }

    #[test]
    fn the_last_word_on_a_variable_counts() {
        let command = Command::new().codex_home("/a").env_remove("X").env("X", "1");
        assert_eq!(command.home(), Some(Path::new("/a")));
        assert_eq!(command.variables.get(OsStr::new("X")), Some(&Some("1".into())));
        assert_eq!(command.codex_home("/b").env_remove("CODEX_HOME").home(), None);
        assert_eq!(Command::new().home(), None);
    }
}
