//! What can be said of a turn beside its params.

use crate::{protocol::TurnStart, sandbox::Sandbox};
use alloc::string::String;
use core::time::Duration;

/// How much longer than usual a turn may be silent while it works or waits for an answer, unless something else is said.
const AT_WORK: u32 = 10;

/// What a start does on a thread that is busy.
///
/// A server does not refuse a start there: it puts the input into the turn that runs, and the newer ones answer with that
/// turn's name. So whether a thread is busy is decided here, by what the server says of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum WhenBusy {
    /// It fails with `TurnError::Busy`, and nothing is sent.
    #[default]
    Refuse,
    /// It waits until the thread is free, in the order of the calls. Its deadline counts from the call. At most
    /// `Limits::max_queued_turns` may wait for one thread.
    Queue,
    /// If the turn that runs was not started here, it is sent all the same, to have the server put the input into that turn;
    /// the turn then says that it joined. It fails as with `Refuse` if the turn was started here: that one can be steered.
    Join,
}

/// What happens to a turn that runs when its last handle is dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DropPolicy {
    /// It runs on. What it produces is not kept here, and its thread stays busy until it ends.
    #[default]
    LeaveRunning,
    /// The server is asked once to end it (`turn/interrupt`), as soon as there is evidence that it runs.
    Interrupt,
}

/// What can be said of a turn beside its params.
#[derive(Clone, Debug, Default)]
#[non_exhaustive]
pub struct TurnOptions {
    /// How long the turn may take from the call. Past that it ends as timed out, and the server is told to stop it.
    /// `None`: as long as it takes, which may be for ever.
    pub deadline: Option<Duration>,
    /// How long the server may say nothing about the turn once it has named it. Past that it ends as timed out, and the
    /// server is told to stop it. `None`: as long as it likes, which may be for ever.
    pub idle_deadline: Option<Duration>,
    /// The same while a command or another tool runs, or while somebody is asked for an approval or an answer: there is
    /// nothing to say then. `None`: ten times `idle_deadline`.
    pub idle_deadline_at_work: Option<Duration>,
    /// What happens when its last handle is dropped.
    pub on_drop: DropPolicy,
    /// What a start does on a thread that is busy.
    pub when_busy: WhenBusy,
    /// What commands may touch in this turn. `None`: what the thread allows.
    pub sandbox: Option<Sandbox>,
    /// Whether the turn's sandbox may allow more than the thread's own.
    pub may_relax: bool,
    /// The permission profile in the params.
    pub(crate) profile: Option<String>,
    /// Whether the params say other folders to work in.
    pub(crate) moves_roots: bool,
}

impl TurnOptions {
    /// Sets the deadline.
    #[must_use]
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = Some(deadline);
        self
    }

    /// Sets the deadline of silence.
    #[must_use]
    pub fn idle_deadline(mut self, deadline: Duration) -> Self {
        self.idle_deadline = Some(deadline);
        self
    }

    /// Sets the deadline of silence while a tool runs or somebody is asked.
    #[must_use]
    pub fn idle_deadline_while_working(mut self, deadline: Duration) -> Self {
        self.idle_deadline_at_work = Some(deadline);
        self
    }

    /// Sets what happens when the last handle is dropped.
    #[must_use]
    pub fn on_drop(mut self, policy: DropPolicy) -> Self {
        self.on_drop = policy;
        self
    }

    /// Sets what a start does on a thread that is busy.
    #[must_use]
    pub fn when_busy(mut self, when: WhenBusy) -> Self {
        self.when_busy = when;
        self
    }

    /// Takes what the params of a start say of the sandbox, so that it is looked after.
    pub(crate) fn take_sandbox(&mut self, params: &mut TurnStart) {
        if let Some(policy) = params.sandbox_policy.take() {
            self.sandbox.get_or_insert_with(|| Sandbox::from(policy));
        }
        self.profile.clone_from(&params.permissions);
        self.moves_roots =
            params.cwd.is_some() || params.runtime_workspace_roots.is_some() || params.environments.is_some();
    }

    pub(crate) fn idle_deadline_at_work(&self, usual: Duration) -> Duration {
        self.idle_deadline_at_work.unwrap_or_else(|| usual.saturating_mul(AT_WORK))
    }
}
