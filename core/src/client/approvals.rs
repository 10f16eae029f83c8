//! Policies: who decides about commands and changes, in one line.

use super::{
    answers::{ApplyPatchApproval, CommandApproval, ExecCommandApproval, FileChangeApproval},
    ask::AgentRequest,
};
use crate::protocol::CommandExecutionApprovalKind;
use std::{fmt, sync::Arc};

/// What a predicate is asked about: a command that wants to run, or files that want to be changed.
///
/// What asks for more than that (another permission beside, a host on the network, a lasting grant for a folder, changes that
/// are not known) is never shown to a predicate: it is declined.
#[non_exhaustive]
pub struct Approval {
    /// The command line as the server shows it, with the shell around it. `None` for changes.
    pub command: Option<String>,
    /// The folder that the command would run in.
    pub cwd: Option<String>,
    /// The files that would be changed, the new names of those that move included. Empty for a command.
    pub paths: Vec<String>,
    /// The request itself.
    pub request: AgentRequest,
}

impl fmt::Debug for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Approval").field("request", &self.request).finish_non_exhaustive()
    }
}

impl Approval {
    /// The command as words, without the shell around it: `["cargo", "test"]`. `None` if there is no command, or one that is
    /// more than words: one with a variable, a pipe, a redirection, a second command, a wildcard. There is at least one word.
    /// So what runs is what the first word names; what the words after it make of that is for the rule to know.
    #[must_use]
    pub fn words(&self) -> Option<Vec<String>> {
        words(self.command.as_deref()?)
    }

    fn of_command(request: &CommandApproval) -> Option<Self> {
        let params = request.params();
        let is_command = matches!(params.kind, None | Some(CommandExecutionApprovalKind::Command));
        let is_more = params.additional_permissions.is_some() || params.network_approval_context.is_some();
        if !is_command || is_more {
            return None;
        }
        Some(Self {
            command: Some(params.command.clone()?),
            cwd: params.cwd.clone(),
            paths: Vec::new(),
            request: AgentRequest::Command(request.clone()),
        })
    }

    fn of_changes(request: &FileChangeApproval) -> Option<Self> {
        if request.params().grant_root.is_some() {
            return None;
        }
        let changes = request.changes().filter(|changes| !changes.is_empty())?;
        let mut paths = Vec::new();
        for change in changes {
            paths.push(change.path);
            match change.kind {
                crate::protocol::PatchChangeKind::Add | crate::protocol::PatchChangeKind::Delete => {}
                crate::protocol::PatchChangeKind::Update(update) => paths.extend(update.move_path),
                // A kind that is not known may touch what is not named.
                _ => return None,
            }
        }
        Some(Self { command: None, cwd: None, paths, request: AgentRequest::FileChange(request.clone()) })
    }

    fn of_legacy_command(request: &ExecCommandApproval) -> Self {
        let params = request.params();
        Self {
            command: Some(quoted(&params.command)),
            cwd: Some(params.cwd.clone()),
            paths: Vec::new(),
            request: AgentRequest::ExecCommand(request.clone()),
        }
    }

    fn of_legacy_changes(request: &ApplyPatchApproval) -> Option<Self> {
        let params = request.params();
        if params.grant_root.is_some() || params.file_changes.is_empty() {
            return None;
        }
        let mut paths: Vec<String> = params.file_changes.keys().cloned().collect();
        for change in params.file_changes.values() {
            match change {
                crate::protocol::FileChange::Add(_) | crate::protocol::FileChange::Delete(_) => {}
                crate::protocol::FileChange::Update(update) => paths.extend(update.move_path.clone()),
                _ => return None,
            }
        }
        Some(Self { command: None, cwd: None, paths, request: AgentRequest::ApplyPatch(request.clone()) })
    }
}

/// Who decides whether commands may run and files may be changed. Of what else the server asks, this says nothing.
///
/// ```
/// # use turnwire_core::client::Approvals;
/// let one_command = Approvals::accept_for(|asked| asked.words().is_some_and(|words| words == ["git", "status"]));
/// ```
///
/// A rule that looks at the first words only also takes what may come after them: `git` has options that name a program to
/// run, and so have most tools.
#[derive(Clone, Default)]
pub struct Approvals {
    pub(crate) policy: Policy,
}

#[derive(Clone, Default)]
pub(crate) enum Policy {
    AcceptFor(Arc<dyn Fn(&Approval) -> bool + Send + Sync>),
    #[default]
    Deny,
    InStream,
}

impl fmt::Debug for Approvals {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.policy {
            Policy::AcceptFor(_) => "Approvals::accept_for(..)",
            Policy::Deny => "Approvals::deny()",
            Policy::InStream => "Approvals::in_stream()",
        })
    }
}

impl Approvals {
    /// Nobody: all are declined. The default.
    #[must_use]
    pub fn deny() -> Self {
        Self::default()
    }

    /// A predicate: what it says yes to is accepted, once; all else is declined. It is quick, because while it runs no other
    /// request is handled. One that panics has said no.
    pub fn accept_for(predicate: impl Fn(&Approval) -> bool + Send + Sync + 'static) -> Self {
        Self { policy: Policy::AcceptFor(Arc::new(predicate)) }
    }

    /// Whoever reads the streams of turns: every turn's requests come as `Event::Request` there. A turn whose stream nobody
    /// reads, because it was started with `run` or by another client, has nobody, and all are declined.
    #[must_use]
    pub fn in_stream() -> Self {
        Self { policy: Policy::InStream }
    }
}

/// Decides, and answers.
pub(crate) fn decide(predicate: &(dyn Fn(&Approval) -> bool + Send + Sync), request: &AgentRequest) {
    let approval = match request {
        AgentRequest::ApplyPatch(request) => Approval::of_legacy_changes(request),
        AgentRequest::Command(request) => Approval::of_command(request),
        AgentRequest::ExecCommand(request) => Some(Approval::of_legacy_command(request)),
        AgentRequest::FileChange(request) => Approval::of_changes(request),
        _ => None,
    };
    let accepted = approval.is_some_and(|approval| predicate(&approval));
    // It may be over by now, and then there is nothing to answer.
    let _ = match (request, accepted) {
        (AgentRequest::ApplyPatch(request), true) => request.accept(),
        (AgentRequest::Command(request), true) => request.accept(),
        (AgentRequest::ExecCommand(request), true) => request.accept(),
        (AgentRequest::FileChange(request), true) => request.accept(),
        (AgentRequest::ApplyPatch(request), false) => request.decline(),
        (AgentRequest::Command(request), false) => request.decline(),
        (AgentRequest::ExecCommand(request), false) => request.decline(),
        (AgentRequest::FileChange(request), false) => request.decline(),
        (request, _) => {
            request.refuse();
            Ok(())
        }
    };
}

/// Words as one line that reads as them.
fn quoted(words: &[String]) -> String {
    let quoted: Vec<String> = words.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
    quoted.join(" ")
}

/// A command line as words, the shell around it taken off.
fn words(line: &str) -> Option<Vec<String>> {
    let words = split(line)?;
    let words = match words.as_slice() {
        [shell, flag, script] if is_shell(shell) && matches!(&**flag, "-c" | "-lc" | "-ic" | "-lic") => split(script)?,
        [shell, ..] if is_shell(shell) => return None,
        _ => words,
    };
    (!words.is_empty()).then_some(words)
}

/// Whether a word is a shell of the system. One of that name elsewhere may be the agent's own work, and do anything.
fn is_shell(word: &str) -> bool {
    const FOLDERS: [&str; 5] =
        ["/bin", "/opt/homebrew/bin", "/run/current-system/sw/bin", "/usr/bin", "/usr/local/bin"];
    let (folder, name) = word.rsplit_once('/').unwrap_or(("/bin", word));
    FOLDERS.contains(&folder) && matches!(name, "bash" | "dash" | "ksh" | "sh" | "zsh")
}

/// The words of a line of shell that is nothing but words.
fn split(line: &str) -> Option<Vec<String>> {
    let (mut words, mut word) = (Vec::new(), None::<String>);
    let mut characters = line.chars();
    while let Some(character) = characters.next() {
        match character {
            ' ' | '\t' => words.extend(word.take()),
            '\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '\'' => break,
                        inner => word.push(inner),
                    }
                }
            }
            '"' => {
                let word = word.get_or_insert_default();
                loop {
                    match characters.next()? {
                        '"' => break,
                        '$' | '`' | '!' => return None,
                        '\\' => match characters.next()? {
                            inner @ ('"' | '\\' | '$' | '`') => word.push(inner),
                            _ => return None,
                        },
                        inner => word.push(inner),
                    }
                }
            }
            '\\' => match characters.next()? {
                // Between quoted parts a quote stands like this.
                inner @ ('\'' | '"' | '\\' | ' ') => word.get_or_insert_default().push(inner),
                _ => return None,
            },
            // Words that a shell would not take as they stand.
            ';' | '&' | '|' | '<' | '>' | '$' | '`' | '(' | ')' | '{' | '}' | '*' | '?' | '[' | ']' | '~' | '#'
            | '!' | '^' => return None,
            '=' if words.is_empty() => return None,
            other if other.is_control() => return None,
            other => word.get_or_insert_default().push(other),
        }
    }
    words.extend(word);
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::{quoted, words};

    #[test]
    fn a_command_is_words_only_if_it_is_nothing_but_words() {
        let of = |line: &str| words(line).map(|words| words.join("|"));
        assert_eq!(of("/bin/bash -lc 'cargo test -p core'").as_deref(), Some("cargo|test|-p|core"));
        assert_eq!(of("cargo test").as_deref(), Some("cargo|test"));
        assert_eq!(of(r#"bash -lc "echo \"a b\"""#).as_deref(), Some("echo|a b"));
        assert_eq!(of(r"bash -lc 'echo '\''a b'\'''").as_deref(), Some("echo|a b"));
        for more in [
            "bash -lc 'cargo test; rm -rf /'",
            "bash -lc 'cargo test && rm x'",
            "bash -lc 'cargo test > x'",
            "bash -lc 'cargo $(rm x)'",
            "bash -lc \"cargo `rm x`\"",
            "bash -lc 'cargo test\nrm x'",
            "bash -lc 'PATH=/tmp cargo test'",
            "bash -lc 'cargo test' extra",
            "bash script.sh",
            "bash -lc 'rm *'",
            "/usr/bin/zsh script.sh",
            "echo 'open",
            "bash",
            "bash -c ''",
            "",
        ] {
            assert_eq!(of(more), None, "{more}");
        }
        // A program of that name is no shell, and what it makes of its words is not known.
        assert_eq!(of("/workspace/bash -lc 'cargo test'").as_deref(), Some("/workspace/bash|-lc|cargo test"));
        assert_eq!(of("./sh -c 'cargo test'").as_deref(), Some("./sh|-c|cargo test"));
        let odd = ["echo".to_owned(), "it's; $x".to_owned()];
        assert_eq!(words(&quoted(&odd)).expect("words"), odd);
    }
}
