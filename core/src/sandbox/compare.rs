//! Which of two sandboxes allows less, as far as that can be proved without touching the disk.

use crate::protocol::{SandboxPolicy, WorkspaceWriteSandboxPolicy};
use alloc::{string::String, vec::Vec};

/// Whether the first policy provably allows no more than the second.
///
/// Read-only allows no more than workspace-write, and that no more than full access; no network no more than network;
/// the same or fewer writable folders no more than those. What is outside of the server's own sandbox, and what this
/// version of turnwire does not know, is comparable with nothing but itself.
///
/// No folder is looked at. So a folder within a writable one does not count as a part of it (it may be a link to
/// elsewhere), and a relative path, or one with `..`, is equal to nothing but the same text.
///
/// ```
/// use turnwire_core::{
///     protocol::{ReadOnlySandboxPolicy, SandboxPolicy, WorkspaceWriteSandboxPolicy},
///     sandbox::is_at_most,
/// };
///
/// let read_only = SandboxPolicy::ReadOnly(ReadOnlySandboxPolicy::new());
/// let project = SandboxPolicy::WorkspaceWrite(WorkspaceWriteSandboxPolicy::new().writable_roots(["/project"]));
/// assert!(is_at_most(&read_only, &project));
/// assert!(!is_at_most(&project, &read_only));
/// ```
#[must_use]
pub fn is_at_most(this: &SandboxPolicy, other: &SandboxPolicy) -> bool {
    use SandboxPolicy::{DangerFullAccess, ReadOnly, WorkspaceWrite};
    match (this, other) {
        (ReadOnly(this), ReadOnly(other)) => at_most(this.network_access, other.network_access),
        (ReadOnly(this), WorkspaceWrite(other)) => at_most(this.network_access, other.network_access),
        (WorkspaceWrite(this), WorkspaceWrite(other)) => workspace_at_most(this, other),
        (ReadOnly(_) | WorkspaceWrite(_) | DangerFullAccess, DangerFullAccess) => true,
        // Comparable with itself alone.
        (this, other) => is_known(this) == is_known(other) && this == other,
    }
}

/// Whether two policies allow the same, as far as that can be proved.
#[must_use]
pub fn is_same(this: &SandboxPolicy, other: &SandboxPolicy) -> bool {
    is_at_most(this, other) && is_at_most(other, this)
}

/// Whether this is what a server says to have in force when it was told that. It may add writable folders that its own
/// settings name, and spells out what was left open.
pub(crate) fn is_echo(said: &SandboxPolicy, told: &SandboxPolicy) -> bool {
    use SandboxPolicy::{ExternalSandbox, WorkspaceWrite};
    match (said, told) {
        (WorkspaceWrite(said), WorkspaceWrite(told)) => {
            let no_roots = |policy: &WorkspaceWriteSandboxPolicy| {
                SandboxPolicy::WorkspaceWrite(WorkspaceWriteSandboxPolicy { writable_roots: None, ..policy.clone() })
            };
            is_same(&no_roots(said), &no_roots(told)) && roots_at_most(told, said)
        }
        (ExternalSandbox(_), ExternalSandbox(_)) => true,
        (said, told) => is_same(said, told),
    }
}

fn is_known(policy: &SandboxPolicy) -> bool {
    matches!(policy, SandboxPolicy::ReadOnly(_) | SandboxPolicy::WorkspaceWrite(_) | SandboxPolicy::DangerFullAccess)
}

/// Absent is no.
fn at_most(this: Option<bool>, other: Option<bool>) -> bool {
    this.unwrap_or(false) <= other.unwrap_or(false)
}

fn workspace_at_most(this: &WorkspaceWriteSandboxPolicy, other: &WorkspaceWriteSandboxPolicy) -> bool {
    at_most(this.network_access, other.network_access)
        && at_most(other.exclude_tmpdir_env_var, this.exclude_tmpdir_env_var)
        && at_most(other.exclude_slash_tmp, this.exclude_slash_tmp)
        && roots_at_most(this, other)
}

fn roots_at_most(this: &WorkspaceWriteSandboxPolicy, other: &WorkspaceWriteSandboxPolicy) -> bool {
    let others = other.writable_roots.as_deref().unwrap_or_default();
    let mut these = this.writable_roots.as_deref().unwrap_or_default().iter();
    these.all(|root| others.iter().any(|other| is_same_root(root, other)))
}

/// Whether two paths are provably the same folder.
pub(super) fn is_same_root(this: &str, other: &str) -> bool {
    this == other || normal(this).is_some_and(|this| normal(other) == Some(this))
}

/// The parts of an absolute path; `None` where the disk would have to be asked.
fn normal(path: &str) -> Option<Vec<&str>> {
    let parts: Vec<&str> = path.strip_prefix('/')?.split('/').filter(|part| !matches!(*part, "" | ".")).collect();
    (!parts.contains(&"..")).then_some(parts)
}

/// Adds folders that are not there yet, in order.
pub(super) fn add_roots(roots: &mut Vec<String>, more: &[String]) {
    for root in more {
        if !roots.iter().any(|known| is_same_root(known, root)) {
            roots.push(root.clone());
        }
    }
}
