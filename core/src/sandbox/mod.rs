//! What commands may touch, and when the agent must ask: presets, how they are written, and how they compare.
//!
//! Pure data. A [`Sandbox`] says what is wanted; on a thread it becomes a mode, a word of the server's, on a turn a
//! policy, which is merged with what the thread allows. [`is_at_most`] says which of two policies allows less. Who keeps
//! what a thread's own sandbox is, and restores it after a turn with another, is the
//! [`Connection`](crate::connection::Connection).

mod approval;
mod compare;

pub use approval::ApprovalMode;
pub(crate) use compare::is_echo;
pub use compare::{is_at_most, is_same};

use crate::{
    json::Json,
    protocol::{
        ExternalSandboxSandboxPolicy, ReadOnlySandboxPolicy, SandboxMode, SandboxPolicy, ThreadFork, ThreadResume,
        ThreadStart, WorkspaceWriteSandboxPolicy,
    },
};
use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
use core::fmt;

/// What commands may touch.
///
/// ```
/// use turnwire_core::{protocol::ThreadStart, sandbox::Sandbox};
///
/// let thread = ThreadStart::new().with_sandbox(&Sandbox::workspace_write().writable_root("/data"));
/// assert_eq!(
///     serde_json::to_string(&thread).unwrap(),
///     r#"{"config":{"sandbox_workspace_write.writable_roots":["/data"]},"sandbox":"workspace-write"}"#
/// );
/// ```
#[derive(Clone, PartialEq)]
#[must_use]
pub struct Sandbox {
    level: Level,
    writable_roots: Vec<String>,
    network: Option<bool>,
    exclude_tmpdir: Option<bool>,
    exclude_slash_tmp: Option<bool>,
    replaces: bool,
    may_relax: bool,
}

#[derive(Clone, PartialEq)]
enum Level {
    External,
    FullAccess,
    Policy(Box<SandboxPolicy>),
    ReadOnly,
    WorkspaceWrite,
}

/// Making one.
impl Sandbox {
    fn of(level: Level) -> Self {
        Self {
            level,
            writable_roots: Vec::new(),
            network: None,
            exclude_tmpdir: None,
            exclude_slash_tmp: None,
            replaces: false,
            may_relax: false,
        }
    }

    /// Commands may read and not write.
    pub fn read_only() -> Self {
        Self::of(Level::ReadOnly)
    }

    /// Commands may write below the working folder, in the writable folders, and in the folders for temporary files
    /// unless these are excluded.
    pub fn workspace_write() -> Self {
        Self::of(Level::WorkspaceWrite)
    }

    /// Commands may do what the server's process may do.
    pub fn full_access() -> Self {
        Self::of(Level::FullAccess)
    }

    /// The server runs within a sandbox of somebody else's and makes none. For turns: the server has no mode of that
    /// name for a thread, and refuses it.
    pub fn external() -> Self {
        Self::of(Level::External)
    }

    /// A writable folder beside the working folder. The server takes absolute paths only.
    pub fn writable_root(mut self, root: impl Into<String>) -> Self {
        self.writable_roots.push(root.into());
        self
    }

    /// Whether commands may use the network.
    pub fn network(mut self, allowed: bool) -> Self {
        self.network = Some(allowed);
        self
    }

    /// Whether the folder that `TMPDIR` names is excluded from what is writable.
    pub fn exclude_tmpdir(mut self, exclude: bool) -> Self {
        self.exclude_tmpdir = Some(exclude);
        self
    }

    /// Whether `/tmp` is excluded from what is writable.
    pub fn exclude_slash_tmp(mut self, exclude: bool) -> Self {
        self.exclude_slash_tmp = Some(exclude);
        self
    }

    /// For a turn: takes nothing over from the thread. Otherwise the writable folders of the thread stay writable with
    /// workspace-write, and network and exclusions are as with the thread where nothing is said of them. Folders that the
    /// server's own settings name are added by the server in any case.
    pub fn replace(mut self) -> Self {
        self.replaces = true;
        self
    }

    /// For a turn: may allow more than the thread's own sandbox, or what cannot be proved to allow no more.
    pub fn allow_relaxing(mut self) -> Self {
        self.may_relax = true;
        self
    }
}

impl From<SandboxPolicy> for Sandbox {
    /// Exactly this policy: for a turn it is not merged with anything.
    fn from(policy: SandboxPolicy) -> Self {
        Self::of(Level::Policy(Box::new(policy)))
    }
}

/// Reading it.
impl Sandbox {
    /// Whether it may allow more than the thread's own.
    #[must_use]
    pub fn may_relax(&self) -> bool {
        self.may_relax
    }

    /// The word for a thread. For what has no word, one that the server refuses.
    #[must_use]
    pub fn mode(&self) -> SandboxMode {
        match &self.level {
            Level::ReadOnly => SandboxMode::ReadOnly,
            Level::WorkspaceWrite => SandboxMode::WorkspaceWrite,
            Level::FullAccess => SandboxMode::DangerFullAccess,
            Level::External => SandboxMode::from("external-sandbox"),
            Level::Policy(policy) => match &**policy {
                SandboxPolicy::ReadOnly(_) => SandboxMode::ReadOnly,
                SandboxPolicy::WorkspaceWrite(_) => SandboxMode::WorkspaceWrite,
                SandboxPolicy::DangerFullAccess => SandboxMode::DangerFullAccess,
                SandboxPolicy::ExternalSandbox(_) => SandboxMode::from("external-sandbox"),
                other => SandboxMode::from(other.kind()),
            },
        }
    }

    /// The settings of the server that a mode does not say, for a thread.
    fn config(&self) -> BTreeMap<String, Json> {
        let mut config = BTreeMap::new();
        let policy = match &self.level {
            Level::WorkspaceWrite => self.as_workspace_write(),
            Level::Policy(policy) => match &**policy {
                SandboxPolicy::WorkspaceWrite(policy) => policy.clone(),
                _ => return config,
            },
            _ => return config,
        };
        let mut set = |name: &str, value: Option<Json>| {
            if let Some(value) = value {
                config.insert(["sandbox_workspace_write.", name].concat(), value);
            }
        };
        let json = |flag: Option<bool>| flag.map(|flag| Json::from(serde_json::Value::from(flag)));
        set("exclude_slash_tmp", json(policy.exclude_slash_tmp));
        set("exclude_tmpdir_env_var", json(policy.exclude_tmpdir_env_var));
        set("network_access", json(policy.network_access));
        set("writable_roots", policy.writable_roots.map(|roots| Json::from(serde_json::Value::from(roots))));
        config
    }

    /// The policy for a turn of a thread whose own is this. `None`: it is not known, and nothing is taken over from it.
    #[must_use]
    pub fn policy(&self, own: Option<&SandboxPolicy>) -> SandboxPolicy {
        let own = own.filter(|_| !self.replaces);
        let network = match own {
            Some(SandboxPolicy::ReadOnly(own)) => own.network_access,
            Some(SandboxPolicy::WorkspaceWrite(own)) => own.network_access,
            _ => None,
        };
        match &self.level {
            Level::Policy(policy) => (**policy).clone(),
            Level::FullAccess => SandboxPolicy::DangerFullAccess,
            Level::External => {
                let word = |allowed: bool| if allowed { "enabled" } else { "restricted" };
                let mut policy = ExternalSandboxSandboxPolicy::new();
                policy.network_access = self.network.map(|allowed| word(allowed).into());
                SandboxPolicy::ExternalSandbox(policy)
            }
            Level::ReadOnly => {
                let mut policy = ReadOnlySandboxPolicy::new();
                policy.network_access = self.network.or(network);
                SandboxPolicy::ReadOnly(policy)
            }
            Level::WorkspaceWrite => {
                let mut policy = self.as_workspace_write();
                policy.network_access = policy.network_access.or(network);
                if let Some(SandboxPolicy::WorkspaceWrite(own)) = own {
                    let mut roots = own.writable_roots.clone().unwrap_or_default();
                    compare::add_roots(&mut roots, &self.writable_roots);
                    policy.writable_roots = Some(roots);
                    policy.exclude_tmpdir_env_var = policy.exclude_tmpdir_env_var.or(own.exclude_tmpdir_env_var);
                    policy.exclude_slash_tmp = policy.exclude_slash_tmp.or(own.exclude_slash_tmp);
                }
                SandboxPolicy::WorkspaceWrite(policy)
            }
        }
    }

    fn as_workspace_write(&self) -> WorkspaceWriteSandboxPolicy {
        let mut policy = WorkspaceWriteSandboxPolicy::new();
        policy.network_access = self.network;
        policy.exclude_tmpdir_env_var = self.exclude_tmpdir;
        policy.exclude_slash_tmp = self.exclude_slash_tmp;
        policy.writable_roots = (!self.writable_roots.is_empty()).then(|| self.writable_roots.clone());
        policy
    }
}

impl fmt::Debug for Sandbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sandbox")
            .field("mode", &self.mode().as_str())
            .field("writable_roots", &self.writable_roots.len())
            .field("network", &self.network)
            .field("replaces", &self.replaces)
            .field("may_relax", &self.may_relax)
            .finish_non_exhaustive()
    }
}

/// Whether a thread whose sandbox was asked for by a mode got one that is no looser. `None`: that cannot be told.
pub(crate) fn is_within_mode(policy: &SandboxPolicy, mode: &SandboxMode) -> Option<bool> {
    use SandboxPolicy::{DangerFullAccess, ExternalSandbox, ReadOnly, WorkspaceWrite};
    match mode {
        SandboxMode::ReadOnly => Some(matches!(policy, ReadOnly(_))),
        SandboxMode::WorkspaceWrite => Some(matches!(policy, ReadOnly(_) | WorkspaceWrite(_))),
        SandboxMode::DangerFullAccess => {
            matches!(policy, ReadOnly(_) | WorkspaceWrite(_) | DangerFullAccess | ExternalSandbox(_)).then_some(true)
        }
        SandboxMode::Unknown(_) => None,
    }
}

macro_rules! on_threads {
    ($($params:ident)*) => {$(
        impl $params {
            /// Sets the sandbox of the thread: the mode, and what the mode does not say as settings of the server
            /// (`config`). For the network, only workspace-write has such a setting.
            pub fn with_sandbox(mut self, sandbox: &Sandbox) -> Self {
                let config = sandbox.config();
                if !config.is_empty() {
                    self.config.get_or_insert_default().extend(config);
                }
                self.sandbox(sandbox.mode())
            }

            /// Sets when the agent must ask, and who answers (`approvalPolicy`, `approvalsReviewer`).
            pub fn approval_mode(mut self, mode: ApprovalMode) -> Self {
                mode.apply(&mut self.approval_policy, &mut self.approvals_reviewer);
                self
            }
        }
    )*};
}

on_threads! { ThreadFork ThreadResume ThreadStart }

#[cfg(test)]
mod tests;
