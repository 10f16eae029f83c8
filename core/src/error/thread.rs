//! What the server means when it refuses a request about a thread.

use crate::{
    error::{CallError, RpcErrorKind},
    id::ThreadId,
    protocol::{SandboxMode, SandboxPolicy},
};
use core::fmt;

/// What a refusal says about a thread, or about a list of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ThreadFault {
    /// Another process holds the thread.
    ActiveWriter,
    /// The thread is archived: `thread/unarchive` it first.
    Archived,
    /// The cursor of a list is none of the server's.
    InvalidCursor,
    /// What was given as the thread's id can be none.
    InvalidId,
    /// The server does not have the thread in memory. It may be stored: resume it.
    NotLoaded,
    /// No turn has run on the thread yet, so there is nothing of it to be read.
    NotMaterialized,
    /// The server has stored nothing of the thread: it does not exist, or no turn has run on it yet.
    NotStored,
    /// The turn that was named is none of the thread's.
    TurnNotFound,
    /// The thread, or the server, cannot do this.
    Unsupported,
}

/// Which part of a refusal's text says what, in the words of the versions from 0.133 to 0.163. The first that fits counts.
const TEXTS: &[(&str, ThreadFault)] = &[
    ("already has an active writer", ThreadFault::ActiveWriter),
    ("is not materialized yet", ThreadFault::NotMaterialized),
    // Reading the turns of a thread that never ran one, since 0.154.
    ("list_turns is not supported yet", ThreadFault::NotMaterialized),
    ("missing source rollout", ThreadFault::NotMaterialized),
    ("` to unarchive it first", ThreadFault::Archived),
    ("no archived rollout found", ThreadFault::NotStored),
    ("no rollout found for thread id", ThreadFault::NotStored),
    ("thread not loaded", ThreadFault::NotLoaded),
    ("thread not found", ThreadFault::NotLoaded),
    ("turn not found", ThreadFault::TurnNotFound),
    ("invalid cursor", ThreadFault::InvalidCursor),
    ("invalid thread id", ThreadFault::InvalidId),
    ("invalid session id", ThreadFault::InvalidId),
    ("ephemeral thread", ThreadFault::Unsupported),
    ("is not supported", ThreadFault::Unsupported),
    ("are not supported", ThreadFault::Unsupported),
    ("not support", ThreadFault::Unsupported),
];

impl CallError {
    /// What the server's refusal says about a thread. It says so in English only; texts that are not known are none.
    #[must_use]
    pub fn thread_fault(&self) -> Option<ThreadFault> {
        let rpc = self.rpc()?;
        if !matches!(rpc.kind(), RpcErrorKind::InvalidRequest | RpcErrorKind::MethodNotFound | RpcErrorKind::Internal) {
            return None;
        }
        if rpc.refused_value().is_some_and(|value| *value == *self.method) {
            return Some(ThreadFault::Unsupported);
        }
        TEXTS.iter().find(|(text, _)| rpc.message.contains(text)).map(|(_, fault)| *fault)
    }
}

/// A request about a thread did not work. The server's own error is kept where there is one.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ThreadError {
    /// Another process holds the thread, and has to let go of it first. Nothing was done to it. Servers before 0.154 do not
    /// say so, and let two processes write one thread.
    ActiveWriter {
        /// The thread.
        thread: ThreadId,
        /// What the server said.
        error: CallError,
    },
    /// The thread is archived. Unarchive it first (`thread/unarchive`).
    Archived {
        /// The thread.
        thread: ThreadId,
        /// What the server said.
        error: CallError,
    },
    /// A turn of this session runs on the thread. Nothing was sent.
    Busy(ThreadId),
    /// Any other fault of the request.
    Call(CallError),
    /// The server does not have the thread in memory, though it may be stored: resume it.
    NotLoaded {
        /// The thread.
        thread: ThreadId,
        /// What the server said.
        error: CallError,
    },
    /// The server knows no such thread.
    NotFound {
        /// The thread.
        thread: ThreadId,
        /// What the server said.
        error: CallError,
    },
    /// The thread exists and no turn has run on it yet, so there is nothing to resume, fork, archive or read. Whoever
    /// started it runs turns on it as it is.
    NotMaterialized {
        /// The thread.
        thread: ThreadId,
        /// What the server said.
        error: CallError,
    },
    /// The thread was resumed, but it runs under another sandbox than was asked for, and not under a tighter one. It stays
    /// loaded.
    Sandbox {
        /// The thread.
        thread: ThreadId,
        /// What was asked for.
        asked: SandboxMode,
        /// What is in force.
        effective: SandboxPolicy,
    },
    /// The thread cannot do this, such as one that is not stored; or the server cannot.
    Unsupported {
        /// The thread.
        thread: ThreadId,
        /// What the server said.
        error: CallError,
    },
}

impl ThreadError {
    /// Sorts what a request about a thread met. `is_loaded`: whether the server has the thread in memory, as far as that
    /// was asked; it tells a thread that has run no turn from one that does not exist.
    #[must_use]
    pub fn new(thread: ThreadId, error: CallError, is_loaded: bool) -> Self {
        match error.thread_fault() {
            Some(ThreadFault::ActiveWriter) => Self::ActiveWriter { thread, error },
            Some(ThreadFault::Archived) => Self::Archived { thread, error },
            Some(ThreadFault::NotMaterialized) => Self::NotMaterialized { thread, error },
            Some(ThreadFault::NotStored) if is_loaded => Self::NotMaterialized { thread, error },
            Some(ThreadFault::NotStored) => Self::NotFound { thread, error },
            Some(ThreadFault::NotLoaded) => Self::NotLoaded { thread, error },
            Some(ThreadFault::Unsupported) => Self::Unsupported { thread, error },
            Some(ThreadFault::InvalidCursor | ThreadFault::InvalidId | ThreadFault::TurnNotFound) | None => {
                Self::Call(error)
            }
        }
    }

    /// The thread, unless the fault has nothing to do with one.
    #[must_use]
    pub fn thread(&self) -> Option<&ThreadId> {
        match self {
            Self::ActiveWriter { thread, .. }
            | Self::Archived { thread, .. }
            | Self::Busy(thread)
            | Self::NotFound { thread, .. }
            | Self::NotLoaded { thread, .. }
            | Self::NotMaterialized { thread, .. }
            | Self::Sandbox { thread, .. }
            | Self::Unsupported { thread, .. } => Some(thread),
            Self::Call(_) => None,
        }
    }

    /// The fault of the request, if there was one.
    #[must_use]
    pub fn call(&self) -> Option<&CallError> {
        match self {
            Self::ActiveWriter { error, .. }
            | Self::Archived { error, .. }
            | Self::Call(error)
            | Self::NotFound { error, .. }
            | Self::NotLoaded { error, .. }
            | Self::NotMaterialized { error, .. }
            | Self::Unsupported { error, .. } => Some(error),
            Self::Busy(_) | Self::Sandbox { .. } => None,
        }
    }

    /// Whether the same may simply be tried again: it was refused without being executed.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        self.call().is_some_and(CallError::is_retryable)
    }

    /// Whether the request may have done something all the same.
    #[must_use]
    pub fn may_have_effect(&self) -> bool {
        matches!(self, Self::Sandbox { .. }) || self.call().is_some_and(CallError::may_have_effect)
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.call().is_some_and(CallError::is_timeout)
    }

    /// Whether the connection is over.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.call().is_some_and(CallError::is_closed)
    }
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ActiveWriter { thread, .. } => {
                write!(f, "thread {thread} is in use by another process; close it there, or fork the thread")
            }
            Self::Archived { thread, .. } => write!(f, "thread {thread} is archived; unarchive it first"),
            Self::Busy(thread) => {
                write!(f, "thread {thread} runs a turn of this session; wait for its end or interrupt it")
            }
            Self::Call(error) => write!(f, "{error}"),
            Self::NotFound { thread, .. } => write!(f, "there is no thread {thread} on this server"),
            Self::NotLoaded { thread, .. } => write!(f, "thread {thread} is not loaded; resume it, if it is stored"),
            Self::NotMaterialized { thread, .. } => {
                write!(f, "thread {thread} has run no turn yet, so nothing of it is stored; run a turn on it")
            }
            Self::Sandbox { thread, asked, effective } => write!(
                f,
                "thread {thread} was resumed under the sandbox `{}`, though `{asked}` was asked for: a loaded thread \
                 keeps its settings; change them with a settings update",
                effective.kind()
            ),
            Self::Unsupported { thread, error } => write!(f, "thread {thread} cannot do this: {error}"),
        }
    }
}

impl core::error::Error for ThreadError {
    fn source(&self) -> Option<&(dyn core::error::Error + 'static)> {
        self.call().map(|error| error as _)
    }
}

impl From<CallError> for ThreadError {
    fn from(error: CallError) -> Self {
        Self::Call(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Fault, RpcError};
    use alloc::format;

    fn refusal(method: &'static str, code: i64, message: &str) -> CallError {
        CallError::new(method, Fault::Rpc(RpcError::new(code, message)))
    }

    #[test]
    fn th_04_th_08_th_11_the_servers_texts_about_threads_are_told_apart() {
        let id = "01a00000-0000-7000-8000-000000000000";
        for (method, code, message, fault) in [
            ("thread/resume", -32600, format!("no rollout found for thread id {id}"), ThreadFault::NotStored),
            (
                "thread/unarchive",
                -32600,
                format!("no archived rollout found for thread id {id}"),
                ThreadFault::NotStored,
            ),
            ("thread/resume", -32600, format!("thread {id} already has an active writer"), ThreadFault::ActiveWriter),
            (
                "thread/fork",
                -32600,
                format!("session {id} is archived. Run `codex unarchive {id}` to unarchive it first."),
                ThreadFault::Archived,
            ),
            ("thread/read", -32601, "list_turns is not supported yet".into(), ThreadFault::NotMaterialized),
            (
                "thread/turns/list",
                -32600,
                format!(
                    "thread {id} is not materialized yet; thread/turns/list is unavailable before first user message"
                ),
                ThreadFault::NotMaterialized,
            ),
            ("thread/read", -32600, format!("thread not loaded: {id}"), ThreadFault::NotLoaded),
            ("turn/start", -32600, format!("thread not found: {id}"), ThreadFault::NotLoaded),
            ("thread/fork", -32600, format!("turn not found: {id}"), ThreadFault::TurnNotFound),
            ("thread/list", -32600, "invalid cursor: garbage".into(), ThreadFault::InvalidCursor),
            ("thread/read", -32600, "invalid thread id: invalid character".into(), ThreadFault::InvalidId),
            (
                "thread/delete",
                -32600,
                "Invalid request: unknown variant `thread/delete`, expected one of `initialize`".into(),
                ThreadFault::Unsupported,
            ),
            ("thread/read", -32600, "ephemeral threads do not support includeTurns".into(), ThreadFault::Unsupported),
        ] {
            assert_eq!(refusal(method, code, &message).thread_fault(), Some(fault), "{message}");
        }
        assert_eq!(refusal("thread/read", -32600, "the moon is full").thread_fault(), None);
        assert_eq!(refusal("thread/read", -32001, "thread not found").thread_fault(), None, "overload says nothing");
    }

    #[test]
    fn th_08_nothing_stored_is_a_thread_that_never_ran_only_if_the_server_has_it() {
        let error = refusal("thread/resume", -32600, "no rollout found for thread id T");
        let sorted = ThreadError::new("T".into(), error.clone(), true);
        assert!(matches!(&sorted, ThreadError::NotMaterialized { thread, .. } if thread == "T"), "{sorted}");
        assert!(matches!(ThreadError::new("T".into(), error, false), ThreadError::NotFound { .. }));
    }
}
