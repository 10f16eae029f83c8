//! What a turn is started with.

use super::{Input, input::wire_path};
use crate::{
    json::Json,
    protocol::{Personality, ReasoningSummary, Settable, TurnStart},
    turn::{DropPolicy, InputError, TurnOptions, WhenBusy, has_remote_image},
};
use std::{path::Path, time::Duration};

/// What a turn is started with: an input, and what else there is to say.
///
/// Words such as a model, an effort or a personality are passed through, known or not: what the server does not know it
/// says, or ignores. What is set here stays with the thread for its later turns, except where it says otherwise.
///
/// ```
/// # use turnwire_core::client::TurnRequest;
/// # use std::time::Duration;
/// let plain: TurnRequest = "Explain this repository.".into();
/// let bounded = TurnRequest::new("Fix the build.").effort("high").deadline(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TurnRequest {
    pub(super) params: TurnStart,
    pub(super) options: TurnOptions,
    pub(super) fault: Option<InputError>,
    pub(super) asks_in_stream: bool,
}

impl TurnRequest {
    /// A turn with this input.
    pub fn new(input: impl Into<Input>) -> Self {
        let input = input.into();
        let fault = input.check().err();
        let mut params = TurnStart::new("", input.items);
        params.tool_output = input.tool_output;
        Self { params, options: TurnOptions::default(), fault, asks_in_stream: false }
    }

    /// How long the turn may take from the call, a wait for the thread included. Past that it ends as timed out, the server
    /// is told to stop it, and the thread stays busy until it has. Without it, a turn may take for ever.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options = self.options.deadline(deadline);
        self
    }

    /// Has what the server asks in this turn, and in those of its sub-agents, come as
    /// [`Event::Request`](super::Event::Request) from [`Turn::next`](super::Turn::next): whoever reads the turn answers. It
    /// holds for approvals and questions, and for tools that have no handler. What is not taken before the last clone of the
    /// turn is dropped is refused.
    pub fn asks_in_stream(mut self) -> Self {
        self.asks_in_stream = true;
        self
    }

    /// How long the server may say nothing about the turn, from its answer to `turn/start` on. Past that the turn ends as
    /// [`IdleTimedOut`](crate::error::TurnError::IdleTimedOut), the server is told to stop it, and the thread stays busy
    /// until it has. While a command or another tool runs, or somebody is asked for an approval or an answer, it is ten
    /// times as long, or [`idle_deadline_while_working`](Self::idle_deadline_while_working). Without it, a server may be
    /// silent for ever.
    pub fn idle_deadline(mut self, deadline: Duration) -> Self {
        self.options = self.options.idle_deadline(deadline);
        self
    }

    /// The idle deadline while a command or another tool runs, or somebody is asked. Only with
    /// [`idle_deadline`](Self::idle_deadline).
    pub fn idle_deadline_while_working(mut self, deadline: Duration) -> Self {
        self.options = self.options.idle_deadline_while_working(deadline);
        self
    }

    /// What happens to the turn when its last handle is dropped before its end.
    pub fn on_drop(mut self, policy: DropPolicy) -> Self {
        self.options = self.options.on_drop(policy);
        self
    }

    /// What the start does on a thread that is busy.
    pub fn when_busy(mut self, when: WhenBusy) -> Self {
        self.options = self.options.when_busy(when);
        self
    }

    /// The directory that the agent works in. A relative one is made absolute against this program's.
    pub fn cwd(mut self, cwd: impl AsRef<Path>) -> Self {
        match wire_path(cwd.as_ref()) {
            Ok(cwd) => self.params.cwd = Some(cwd),
            Err(fault) => drop(self.fault.get_or_insert(fault)),
        }
        self
    }

    /// How hard the model thinks: `low`, `medium`, `high` or any other word that the model knows.
    pub fn effort(self, effort: impl Into<String>) -> Self {
        self.with(|params| params.effort(effort))
    }

    /// The model.
    pub fn model(self, model: impl Into<String>) -> Self {
        self.with(|params| params.model(model))
    }

    /// The JSON schema that the final answer must fit (`outputSchema`). For this turn only. It is passed on as it is, and the
    /// server does not check it; [`schema::lint`](crate::schema::lint) says what a model would refuse of it.
    pub fn output_schema(self, schema: impl Into<Json>) -> Self {
        self.with(|params| params.output_schema(schema))
    }

    /// The manner of the agent.
    pub fn personality(self, personality: impl Into<Personality>) -> Self {
        self.with(|params| params.personality(personality))
    }

    /// The service tier.
    pub fn service_tier(self, tier: impl Into<String>) -> Self {
        self.with(|params| params.service_tier(Settable::Value(tier.into())))
    }

    /// The service tier of this turn only (since 0.154).
    pub fn service_tier_for_turn(self, tier: impl Into<String>) -> Self {
        self.with(|params| params.service_tier_for_turn(tier))
    }

    /// What caused the turn (`turnTrigger`; since 0.154).
    pub fn source(self, source: impl Into<String>) -> Self {
        self.with(|params| params.turn_trigger(source))
    }

    /// How the model's reasoning is summarised.
    pub fn summary(self, summary: impl Into<ReasoningSummary>) -> Self {
        self.with(|params| params.summary(summary))
    }

    /// The application's own name for the input, which comes back as `clientId` of the user's message (since 0.144).
    pub fn client_user_message_id(self, id: impl Into<String>) -> Self {
        self.with(|params| params.client_user_message_id(id))
    }

    /// Sets any other params of `turn/start`. Note that overrides of the model, the sandbox and the like stay with the
    /// thread for its later turns.
    pub fn with(mut self, set: impl FnOnce(TurnStart) -> TurnStart) -> Self {
        self.params = set(self.params);
        self
    }

    /// With a mark by which the turn can be found in a history, and the mark: the caller's own, if there is one.
    pub(super) fn marked(mut self, new: impl FnOnce() -> String) -> (Self, Option<String>) {
        let mark = self.params.client_user_message_id.get_or_insert_with(new).clone();
        (self, Some(mark))
    }

    /// With so much less time.
    pub(super) fn shortened(mut self, by: Duration) -> Self {
        self.options.deadline = self.options.deadline.map(|deadline| deadline.saturating_sub(by));
        self
    }

    /// What is wrong with it, as far as that can be said without knowing the server.
    pub(super) fn check(&self) -> Result<(), InputError> {
        self.fault.clone().map_or(Ok(()), Err)?;
        crate::turn::check_input(&self.params.input, self.params.tool_output.as_ref())
    }

    pub(super) fn has_remote_image(&self) -> bool {
        has_remote_image(&self.params.input)
    }
}

impl<T: Into<Input>> From<T> for TurnRequest {
    fn from(input: T) -> Self {
        Self::new(input)
    }
}
