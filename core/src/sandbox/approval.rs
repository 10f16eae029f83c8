//! When the agent must ask before it acts, and who answers.

use crate::protocol::{ApprovalsReviewer, AskForApproval, GranularAskForApproval};

/// When the agent must ask before it acts, and who answers.
///
/// What is not given is not sent, and stays as it is. What is given stays with the thread, on a turn too: the server
/// knows no approval mode for one turn.
///
/// A mode can be any word that the server takes; a word that it does not know (any more), such as `on-failure`, it
/// refuses, and [`RpcError::refused_value`](crate::error::RpcError::refused_value) names it.
#[derive(Clone, Debug, Default, PartialEq)]
#[must_use]
pub struct ApprovalMode {
    policy: Option<AskForApproval>,
    reviewer: Option<ApprovalsReviewer>,
}

impl ApprovalMode {
    /// Nothing that needs an approval is done, and nobody is asked (`never`).
    pub fn deny_all() -> Self {
        Self::never()
    }

    /// The agent asks, and the server's own reviewer answers (`on-request`, `auto_review`).
    pub fn auto_review() -> Self {
        Self::on_request().reviewer(ApprovalsReviewer::AutoReview)
    }

    /// The agent asks when it wants more than it may (`on-request`). Who answers stays as it is with the thread.
    pub fn on_request() -> Self {
        Self::policy(AskForApproval::OnRequest)
    }

    /// The agent asks for everything that is not known to be harmless (`untrusted`).
    pub fn untrusted() -> Self {
        Self::policy(AskForApproval::Untrusted)
    }

    /// The agent never asks (`never`).
    pub fn never() -> Self {
        Self::policy(AskForApproval::Never)
    }

    /// For each kind of question whether the agent asks it. The server takes that with the experimental capability.
    pub fn granular(granular: GranularAskForApproval) -> Self {
        Self::policy(AskForApproval::Granular(granular))
    }

    /// Any policy that there is a word for.
    pub fn policy(policy: impl Into<AskForApproval>) -> Self {
        Self { policy: Some(policy.into()), reviewer: None }
    }

    /// Who answers.
    pub fn reviewer(mut self, reviewer: impl Into<ApprovalsReviewer>) -> Self {
        self.reviewer = Some(reviewer.into());
        self
    }

    /// Sets what is given, and leaves the rest.
    pub(crate) fn apply(self, policy: &mut Option<AskForApproval>, reviewer: &mut Option<ApprovalsReviewer>) {
        if self.policy.is_some() {
            *policy = self.policy;
        }
        if self.reviewer.is_some() {
            *reviewer = self.reviewer;
        }
    }
}
