//! The typed API.
//!
//! [`Codex`] is a session with a server, [`Thread`] a conversation in it, [`Turn`] one exchange of that. They are
//! handles: cheap to clone, free to go to any thread or task, and owners of nothing but each other. They are written
//! once for every runtime, because all that they ever wait for is a [`Waker`](std::task::Waker); what moves the bytes is
//! the [`Driver`](crate::driver::Driver).
//!
//! Every future here may be dropped at any time. What that means is said with each; nothing is ever half sent.

mod account;
mod answers;
mod approvals;
mod ask;
mod codex;
mod connector;
mod event;
mod handlers;
mod hub;
mod input;
mod options;
mod pages;
mod record;
mod restart;
mod resume;
mod retry;
mod secret;
mod serve;
mod session;
mod thread;
mod thread_calls;
mod thread_turns;
mod threads;
mod tools;
mod trace;
mod tree;
mod turn;
mod turn_request;
mod turn_set;
mod typed;
mod waiting;
mod watch;

pub use account::{AccountError, BrowserLogin, DeviceLogin, LoginError};
pub use answers::{
    ApplyPatchApproval, AttestationRequest, CommandApproval, CurrentTimeRequest, Elicitation, ExecCommandApproval,
    FileChangeApproval, McpToolApproval, PermissionsApproval, TokenRefresh, ToolCall, UnknownRequest, UserInput,
};
pub use approvals::{Approval, Approvals};
pub use ask::{AgentRequest, Ask};
pub use codex::{Codex, connect, connect_with_clock};
pub use connector::{Connector, Launch, connect_lazily};
pub use event::{ErrorEvent, Event, Events, ItemEvent, UsageEvent};
pub use handlers::{HandlerOutcome, Handlers};
pub use hub::Generation;
pub use input::{ExternalMessage, Input};
pub use pages::{PageError, Paged, Pages};
pub use record::{Recorder, Sink};
pub use resume::{Effective, Resume, Resumed, ResumedBy};
pub use secret::{Secret, Tokens};
pub use serve::{Serving, StopServing};
pub use thread::Thread;
pub use thread_calls::Unsubscribed;
pub use thread_turns::{SteerOrStart, Stopped, Turns};
pub use tools::{Tool, ToolArguments, ToolError, ToolFailure, ToolOutput, Tools};
pub use tree::{Tree, TreeEvent};
pub use turn::Turn;
pub use turn_request::TurnRequest;
pub use turn_set::TurnSet;
pub use typed::{Mismatch, Typed, TypedError};
pub use watch::{StartTimings, Timings, TraceSource};

pub(crate) use hub::Hub;

use crate::time::Time;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// Where the client takes the time from.
pub trait Clock: Send + Sync + 'static {
    /// The time since some start. Never goes back.
    fn now(&self) -> Time;

    /// The time of day in Unix seconds, for servers that ask for it.
    fn unix_seconds(&self) -> u64;
}

/// The clocks of the system.
#[derive(Clone, Copy, Debug)]
pub struct SystemClock {
    start: Instant,
}

impl Default for SystemClock {
    fn default() -> Self {
        Self { start: Instant::now() }
    }
}

impl SystemClock {
    /// The instant that a time stands for; `None` if it is too far away to be one.
    #[must_use]
    pub fn instant(&self, time: Time) -> Option<Instant> {
        self.start.checked_add(time.since(Time::ZERO))
    }
}

impl Clock for SystemClock {
    fn now(&self) -> Time {
        Time::from_start(self.start.elapsed())
    }

    fn unix_seconds(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
    }
}
