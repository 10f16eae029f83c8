//! What a turn is started with beside its input: what it may touch, when it must ask, and the form of its answer.

use super::{Thread, TurnRequest};
use crate::{
    connection::KnownSettings,
    sandbox::{ApprovalMode, Sandbox},
};

impl TurnRequest {
    /// What commands may touch in this turn (`sandboxPolicy`). The thread's next turn has the thread's own sandbox again,
    /// whoever starts it.
    ///
    /// The policy is merged with the thread's own: see [`Sandbox::replace`]. It may allow less than the thread's own. A
    /// start with one that may allow more fails with [`TurnError::Relaxes`](crate::error::TurnError::Relaxes), and so does one
    /// on a thread whose own sandbox is not known because this session has neither started nor resumed it;
    /// [`Sandbox::allow_relaxing`] permits both.
    ///
    /// On the wire a sandbox that is given with a turn stays with the thread. The thread's own is restored with
    /// `thread/settings/update`, which needs the experimental capability, and carried by every start until that is done. If
    /// it cannot be restored, a diagnostic says so:
    /// [`DiagnosticKind::SandboxNotRestored`](crate::turn::DiagnosticKind::SandboxNotRestored).
    pub fn sandbox(mut self, sandbox: impl Into<Sandbox>) -> Self {
        self.options.sandbox = Some(sandbox.into());
        self
    }

    /// The sandbox of the turn, however it is given, may allow more than the thread's own.
    pub fn allow_relaxing(mut self) -> Self {
        self.options.may_relax = true;
        self
    }

    /// When the agent must ask, and who answers (`approvalPolicy`, `approvalsReviewer`). This stays with the thread for
    /// its later turns.
    pub fn approval_mode(mut self, mode: ApprovalMode) -> Self {
        mode.apply(&mut self.params.approval_policy, &mut self.params.approvals_reviewer);
        self
    }
}

impl Thread {
    /// What the server has told this session of the thread's settings; `None` if nothing, because the session has neither
    /// started nor resumed it. Nothing is sent.
    #[must_use]
    pub fn known_settings(&self) -> Option<KnownSettings> {
        self.session().hub.read(|connection| connection.thread_settings(self.id()))
    }
}
