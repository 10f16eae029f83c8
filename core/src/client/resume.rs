//! Taking a thread up again.

use super::{
    Codex, Thread, Turn,
    hub::Reply,
    session::Session,
    threads::{about, ask, sort},
};
use crate::{
    connection::{Prepared, decode_response},
    error::ThreadError,
    id::ThreadId,
    protocol::{
        self, ApprovalsReviewer, AskForApproval, SandboxMode, SandboxPolicy, SortDirection, ThreadFork,
        ThreadForkResponse, ThreadResume, ThreadResumeInitialTurnsPageParams, ThreadResumeResponse, ThreadStart,
        ThreadStartResponse,
    },
};
use std::{sync::Arc, time::Duration};

/// How long to wait before asking again whether another process has let go of a thread: at first, and at most.
const WRITER_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// Which thread to resume, under which settings, and what to do if that is not possible.
///
/// Unless something else is asked for by name, a thread that cannot be resumed is an error, and nothing else is done.
///
/// ```
/// # use turnwire_core::{client::Resume, protocol::{SandboxMode, ThreadStart}};
/// # use std::time::Duration;
/// let plain = Resume::new("01a00000-0000-7000-8000-000000000000");
/// let patient = Resume::new("01a00000-0000-7000-8000-000000000000")
///     .with(|params| params.sandbox(SandboxMode::WorkspaceWrite))
///     .wait_for_writer(Duration::from_secs(20))
///     .or_start(ThreadStart::new());
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct Resume {
    params: ThreadResume,
    wait: Option<Duration>,
    or_fork: bool,
    or_start: Option<ThreadStart>,
}

impl From<ThreadResume> for Resume {
    fn from(params: ThreadResume) -> Self {
        Self { params, wait: None, or_fork: false, or_start: None }
    }
}

impl Resume {
    /// Resumes this thread, and nothing else.
    pub fn new(thread: impl Into<ThreadId>) -> Self {
        ThreadResume::new(thread).into()
    }

    /// Sets params of `thread/resume`.
    ///
    /// Settings count only if the thread is not loaded yet: a loaded one keeps its own. Of a thread that is not, the server
    /// restores full access and read-only, but not a sandbox that lets the workspace be written to: say so again.
    pub fn with(mut self, set: impl FnOnce(ThreadResume) -> ThreadResume) -> Self {
        self.params = set(self.params);
        self
    }

    /// Asks for all turns of the thread with the answer. Without this they are left out where the server allows it, and
    /// [`Thread::history`] has them page by page.
    pub fn include_turns(mut self) -> Self {
        self.params.exclude_turns = Some(false);
        self
    }

    /// If another process holds the thread, asks again until it has let go, but not longer than this.
    pub fn wait_for_writer(mut self, within: Duration) -> Self {
        self.wait = Some(within);
        self
    }

    /// If another process holds the thread, and after the wait if there is one, forks it instead (`thread/fork`), with the
    /// settings that both requests know.
    pub fn or_fork(mut self) -> Self {
        self.or_fork = true;
        self
    }

    /// If there is nothing to resume, because no such thread is stored, starts a new one instead (`thread/start`). For no
    /// other reason.
    pub fn or_start(mut self, start: ThreadStart) -> Self {
        self.or_start = Some(start);
        self
    }
}

/// How [`Codex::thread_resume`] came by its thread.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ResumedBy {
    /// A copy of it was made, because it was in use elsewhere and [`Resume::or_fork`] said so.
    Forking,
    /// It was resumed.
    Resuming,
    /// A new one was started, because there was none and [`Resume::or_start`] said so.
    Starting,
}

/// The settings that are in force on a thread.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Effective {
    /// Who is asked, and when.
    pub approval_policy: AskForApproval,
    /// Who answers.
    pub approvals_reviewer: ApprovalsReviewer,
    /// The folder that commands run in.
    pub cwd: String,
    /// The model.
    pub model: String,
    /// Where the model is.
    pub model_provider: String,
    /// How much the model thinks, if that is set.
    pub reasoning_effort: Option<String>,
    /// What commands may touch.
    pub sandbox: SandboxPolicy,
    /// The service tier, if one is set.
    pub service_tier: Option<String>,
}

macro_rules! effective {
    ($($response:ident),*) => {$(
        impl From<&$response> for Effective {
            fn from(response: &$response) -> Self {
                Self {
                    approval_policy: response.approval_policy.clone(),
                    approvals_reviewer: response.approvals_reviewer.clone(),
                    cwd: response.cwd.clone(),
                    model: response.model.clone(),
                    model_provider: response.model_provider.clone(),
                    reasoning_effort: response.reasoning_effort.clone(),
                    sandbox: response.sandbox.clone(),
                    service_tier: response.service_tier.clone(),
                }
            }
        }
    )*};
}
effective!(ThreadForkResponse, ThreadResumeResponse, ThreadStartResponse);

/// A thread that was taken up again, and how.
#[derive(Debug)]
#[non_exhaustive]
pub struct Resumed {
    /// The thread.
    pub thread: Thread,
    /// How it was come by.
    pub by: ResumedBy,
    /// The settings in force.
    pub settings: Effective,
    /// The sandbox that was asked for, if the one in force is another: a tighter one, because a looser one is an error.
    pub sandbox_not_taken: Option<SandboxMode>,
    /// The turn that runs on it, with its events from now on. It was started by somebody else, or before this session.
    pub running: Option<Turn>,
    /// What the server says of the thread, its turns included if they were asked for.
    pub info: protocol::Thread,
}

impl Codex {
    /// Takes a stored thread up again, or takes part in a loaded one (`thread/resume`). If a turn runs on it,
    /// [`Resumed::running`] is that turn.
    ///
    /// # Errors
    /// [`ThreadError::NotMaterialized`] when the thread is there and has run no turn; [`ThreadError::NotFound`] when there
    /// is none; [`ThreadError::ActiveWriter`] when another process holds it; [`ThreadError::Archived`] until it is
    /// unarchived; [`ThreadError::Sandbox`] when it runs under a sandbox that is looser than the one asked for, or cannot
    /// be compared with it; and others. No thread is ever started or forked instead unless [`Resume`] says so.
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request): the server may have loaded the thread.
    pub async fn thread_resume(&self, resume: impl Into<Resume>) -> Result<Resumed, ThreadError> {
        let Resume { params, wait, or_fork, or_start } = resume.into();
        let mut left = wait.unwrap_or_default();
        let mut delay = WRITER_WAITS.0;
        let error = loop {
            match self.resume_once(params.clone()).await {
                Err(ThreadError::ActiveWriter { .. }) if !left.is_zero() => {
                    let next = delay.min(left);
                    left = left.saturating_sub(next);
                    delay = delay.saturating_mul(2).min(WRITER_WAITS.1);
                    // If the connection ends meanwhile, the next attempt says so.
                    self.pause(next).await;
                }
                Err(error) => break error,
                Ok(resumed) => return Ok(resumed),
            }
        };
        match (error, or_start) {
            (ThreadError::ActiveWriter { .. }, _) if or_fork => self.fork_instead(params).await,
            (ThreadError::NotMaterialized { .. } | ThreadError::NotFound { .. }, Some(start)) => {
                let session = self.session();
                let response = ask(&session, start).await?;
                let settings = Effective::from(&response);
                Ok(resumed(&session, ResumedBy::Starting, settings, response.thread, None))
            }
            (error, _) => Err(error),
        }
    }

    async fn resume_once(&self, mut params: ThreadResume) -> Result<Resumed, ThreadError> {
        let thread = params.thread_id.clone();
        let asked = params.sandbox.clone();
        // What the server can do is known then. If there is none, the request says so.
        let _ = self.ready().await;
        let session = &self.session();
        if params.exclude_turns.is_none() {
            // Without the turns, a page of the latest one says whether it runs. Servers that have no such page send all.
            let pages = session.hub.read(|connection| connection.takes_experimental("initialTurnsPage", "0.144.4"));
            params.exclude_turns = pages.then_some(true);
        }
        if params.exclude_turns == Some(true) && params.initial_turns_page.is_none() {
            let pages = session.hub.read(|connection| connection.takes_experimental("initialTurnsPage", "0.144.4"));
            let latest = || ThreadResumeInitialTurnsPageParams::new().limit(1).sort_direction(SortDirection::Desc);
            params.initial_turns_page = pages.then(latest);
        }
        let request = Prepared::new(&params)?;
        drop(params);
        let key = session.hub.command(|connection, now| connection.enter_resume(now, thread.clone(), request))?;
        // While this lives, the turn that is found running is let go with it.
        let mut reply = Reply::new(session, key);
        let outcome = reply.wait().await;
        let running = session.hub.read(|connection| connection.take_attached(key));
        drop(reply);
        let running = running.map(|(turn, events)| Turn::of(session, turn, &thread, Some(events)));
        let response = match outcome.and_then(|json| decode_response::<ThreadResume>(&json)) {
            Ok(response) => response,
            Err(error) => return Err(sort(session, &thread, error).await),
        };
        let settings = Effective::from(&response);
        let mut resumed = resumed(session, ResumedBy::Resuming, settings, response.thread, running);
        if let Some(asked) = asked {
            match compare(&asked, &resumed.settings.sandbox) {
                Sandboxes::Same => {}
                Sandboxes::Tighter => resumed.sandbox_not_taken = Some(asked),
                Sandboxes::Looser => {
                    return Err(ThreadError::Sandbox { thread, asked, effective: resumed.settings.sandbox });
                }
            }
        }
        Ok(resumed)
    }

    async fn fork_instead(&self, params: ThreadResume) -> Result<Resumed, ThreadError> {
        let thread = params.thread_id.clone();
        let mut fork = ThreadFork::new(thread.clone()).exclude_turns(true);
        fork.approval_policy = params.approval_policy;
        fork.approvals_reviewer = params.approvals_reviewer;
        fork.base_instructions = params.base_instructions;
        fork.config = params.config;
        fork.cwd = params.cwd;
        fork.developer_instructions = params.developer_instructions;
        fork.model = params.model;
        fork.model_provider = params.model_provider;
        fork.permissions = params.permissions;
        fork.runtime_workspace_roots = params.runtime_workspace_roots;
        fork.sandbox = params.sandbox;
        fork.service_tier = params.service_tier;
        let session = self.session();
        let response = about(&session, &thread, fork).await?;
        let settings = Effective::from(&response);
        Ok(resumed(&session, ResumedBy::Forking, settings, response.thread, None))
    }
}

fn resumed(
    session: &Arc<Session>,
    by: ResumedBy,
    settings: Effective,
    info: protocol::Thread,
    running: Option<Turn>,
) -> Resumed {
    let thread = Thread::new(Arc::clone(session), info.id.clone());
    Resumed { thread, by, settings, sandbox_not_taken: None, running, info }
}

/// A sandbox in force beside the one that was asked for.
#[derive(Debug, PartialEq)]
enum Sandboxes {
    /// Looser, or not to be compared.
    Looser,
    Same,
    Tighter,
}

fn compare(asked: &SandboxMode, effective: &SandboxPolicy) -> Sandboxes {
    let rank = |mode: &SandboxMode| match mode {
        SandboxMode::ReadOnly => Some(0),
        SandboxMode::WorkspaceWrite => Some(1),
        SandboxMode::DangerFullAccess => Some(2),
        SandboxMode::Unknown(_) => None,
    };
    let actual = match effective {
        SandboxPolicy::ReadOnly(_) => Some(0),
        SandboxPolicy::WorkspaceWrite(_) => Some(1),
        SandboxPolicy::DangerFullAccess => Some(2),
        _ => None,
    };
    match (rank(asked), actual) {
        (Some(asked), Some(actual)) if asked == actual => Sandboxes::Same,
        (Some(asked), Some(actual)) if actual < asked => Sandboxes::Tighter,
        _ => Sandboxes::Looser,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn th_a_sandbox_in_force_is_the_same_or_tighter_or_it_is_looser() {
        let read_only = SandboxPolicy::ReadOnly(Default::default());
        let workspace = SandboxPolicy::WorkspaceWrite(Default::default());
        let full = SandboxPolicy::DangerFullAccess;
        assert_eq!(compare(&SandboxMode::ReadOnly, &read_only), Sandboxes::Same);
        assert_eq!(compare(&SandboxMode::WorkspaceWrite, &read_only), Sandboxes::Tighter);
        assert_eq!(compare(&SandboxMode::WorkspaceWrite, &full), Sandboxes::Looser);
        assert_eq!(compare(&SandboxMode::ReadOnly, &workspace), Sandboxes::Looser);
        assert_eq!(compare(&SandboxMode::from("some-new-one"), &read_only), Sandboxes::Looser, "nothing proves it");
        assert_eq!(compare(&SandboxMode::DangerFullAccess, &SandboxPolicy::default()), Sandboxes::Looser);
    }
}
