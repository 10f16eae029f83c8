//! One turn, from its start to its single end.
//!
//! A turn has a local name, its [`TurnKey`], before the server has named it; it collects what the server says about it;
//! it ends once. It never waits and never sends: the connection moves it, by the table in [`table`]:
//!
//! ```text
//! Queued       --Sent--> Starting
//!              --Refused--> NotStarted
//!              --Deadline--> TimedOut
//! Starting     --Accepted--> Running
//!              --Refused--> NotStarted
//!              --Deadline--> TimedOut
//!              --Disconnect--> Lost
//! Running      --Interrupt--> Interrupting
//!              --EndCompleted--> Completed
//!              --EndInterrupted--> Interrupted
//!              --EndFailed--> Failed
//!              --EndUnknown--> UnknownStatus
//!              --Deadline--> TimedOut
//!              --Silence--> TimedOut
//!              --Disconnect--> Lost
//! Interrupting --InterruptRefused--> Running
//!              --EndCompleted--> Completed
//!              --EndInterrupted--> Interrupted
//!              --EndFailed--> Failed
//!              --EndUnknown--> UnknownStatus
//!              --Deadline--> TimedOut
//!              --Silence--> TimedOut
//!              --Disconnect--> Lost
//! ```
//!
//! What arrives about a turn before the answer to its `turn/start` is parked by the connection and replayed in order.
//! `turn/started` is never required. A local end, such as a deadline, is not the server's: the thread stays busy until
//! the server has ended the turn too. A turn that is attached to, because it runs already, begins as `Running`.

mod event;
mod input;
mod log;
mod options;
mod report;
mod silence;
mod steer;
pub mod table;
mod written;

pub use event::{
    Delta, DeltaKind, DeltaOrigin, Diagnostic, DiagnosticKind, RawEvent, RawNotification, Refused, RefusedWhy,
};
pub use input::{InputError, MAX_INPUT_CHARS};
pub use log::{Next, SubscriptionKey};
pub use options::{DropPolicy, TurnOptions, WhenBusy};
pub use report::{TurnReport, TurnResult, TurnUsage};
pub(crate) use steer::says_no_active_turn;
pub use steer::steer_error;
pub use table::{Cause, State};

#[cfg(feature = "client")]
pub(crate) use input::{NO_REMOTE_IMAGES_SINCE, check_input, has_remote_image};
pub(crate) use log::{EventLog, Policy, Rest};
pub(crate) use report::{Collector, Ending};
pub(crate) use silence::Silence;
pub(crate) use steer::actual_turn;
pub(crate) use written::{Written, kind_of_item, mark_of_input, mark_of_message};

use crate::{
    connection::{Prepared, RequestKey},
    envelope::{JsonText, Keys},
    error::{CallError, Disconnect, Fault},
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    protocol::{ThreadTokenUsage, TokenUsageBreakdown, UserInput},
    time::Time,
};
use alloc::{boxed::Box, sync::Arc, vec::Vec};
use core::time::Duration;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Names a turn locally, from before its start until it is released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TurnKey(pub(crate) u64);

/// What became of an interrupt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InterruptOutcome {
    /// The server took it. The turn ends soon, most likely as interrupted.
    Acknowledged,
    /// The turn was over before the server took it.
    AlreadyEnded,
}

/// How far the interrupt of a turn is. The server is asked again only when it has certainly not taken it, because a second
/// one is never answered.
#[derive(Clone, Debug)]
pub(crate) enum Interrupt {
    /// Nobody asked.
    Idle,
    /// Asked for, but there is no evidence yet that the turn runs: sent now, it would be refused and lost.
    Held { until: Time },
    /// Sent, not answered.
    Sent { request: RequestKey, until: Time },
    /// Answered, refused or overtaken by the end.
    Settled(Result<InterruptOutcome, Box<CallError>>),
}

impl Interrupt {
    /// Whether the server may be asked: nobody has, or it has certainly not taken it.
    pub(crate) fn may_ask(&self) -> bool {
        match self {
            Self::Idle => true,
            Self::Settled(Err(error)) => match &error.fault {
                Fault::Rpc(_) | Fault::OtherTurn { .. } => true,
                _ => !error.may_have_effect(),
            },
            Self::Held { .. } | Self::Sent { .. } | Self::Settled(Ok(_)) => false,
        }
    }
}

/// How a turn begins.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    /// It was found running, or begun by somebody else.
    Attached,
    /// `thread/compact/start`, whose answer does not name the turn.
    Compaction {
        /// A turn that began on the thread since, and may be it.
        candidate: Option<TurnId>,
        /// Until when the turn is waited for, since the request was taken. Then there is a timer of this.
        until: Option<Time>,
    },
    /// `review/start` on a thread of its own, which the answer names.
    Detached,
    /// `review/start`, whose answer names the turn. The server announces it under another id.
    Review,
    /// `turn/start`, whose answer names the turn.
    Start,
}

impl Origin {
    /// Whether the server has taken the request, and its answer does not name the turn.
    pub(crate) fn is_taken(&self) -> bool {
        matches!(self, Self::Compaction { until: Some(_), .. })
    }
}

/// A turn.
///
/// What each piece of text has to do with comes first, and stays side by side: with a thousand turns, what a line costs is
/// how many lines of the cache have to be fetched for it.
#[derive(Clone, Debug)]
#[repr(C)]
pub(crate) struct Turn {
    /// Where the last delta belongs. Its turn is `id`.
    last_origin: Option<Arc<DeltaOrigin>>,
    pub(crate) log: EventLog,
    /// The text that its messages should have when they are completed.
    pub(crate) written: Written,
    state: State,
    /// Whether anything proved that the turn runs on the server.
    pub(crate) is_evident: bool,
    /// Whether nothing more is to be expected from the server about this turn's end.
    pub(crate) is_over_for_server: bool,
    /// How many may still ask for its result. A released turn collects nothing.
    pub(crate) holders: u32,
    /// How long it may be silent, if that is bounded.
    pub(crate) silence: Option<Box<Silence>>,
    /// Until when the end is waited for since the thread was said to be idle. Then there is a timer of this.
    pub(crate) idle_until: Option<Time>,
    pub(crate) interrupt: Interrupt,
    pub(crate) origin: Origin,
    /// The request that starts it; `None` while it waits, and for a turn that was attached to.
    pub(crate) start: Option<RequestKey>,
    /// What is to be sent when the thread is free. Set if and only if the state is `Queued`.
    pub(crate) queued: Option<(Prepared, TurnOptions)>,
    pub(crate) thread: ThreadId,
    pub(crate) id: Option<TurnId>,
    /// Another name under which it will go on, from the first event that has it.
    pub(crate) alias: Option<TurnId>,
    /// Another name under which the server said that it runs. Events come under either.
    pub(crate) also: Option<TurnId>,
    /// What is done when the last of them goes.
    pub(crate) on_drop: DropPolicy,
    /// Whether it is to be stopped as soon as it can be, though nobody may wait for that.
    pub(crate) wants_stop: bool,
    /// Whether something of it may have been missed.
    pub(crate) is_partial: bool,
    /// What its input says, for servers that name a turn of their own and use the input in another.
    pub(crate) input_mark: Option<u64>,
    /// Readers that were made when it was found, for those who follow the turns of its thread.
    pub(crate) unclaimed: Vec<SubscriptionKey>,
    pub(crate) joined: bool,
    /// Whether something was heard of it, or of another turn on its thread, though its start was never answered.
    pub(crate) was_seen: bool,
    /// The turn that ran on the thread when this one was started, as far as was known.
    pub(crate) running_before: Option<TurnId>,
    collected: Collector,
    ending: Option<Ending>,
    /// Set if and only if the state is `NotStarted`.
    pub(crate) start_fault: Option<CallError>,
    /// Steers that wait for the turn's id.
    pub(crate) held_steers: Vec<(RequestKey, Vec<UserInput>)>,
    pub(crate) deadline: Option<(Time, Duration)>,
    /// How often the server has refused the interrupt as too early.
    pub(crate) interrupt_refusals: u32,
    /// Not before this is the server asked again, by this connection's own accord, to stop it.
    pub(crate) interrupt_again: Option<Time>,
}

impl Turn {
    /// A turn whose start waits for its thread.
    pub(crate) fn queued(
        now: Time,
        thread: ThreadId,
        request: Prepared,
        options: &TurnOptions,
        origin: Origin,
    ) -> Self {
        Self { origin, queued: Some((request, options.clone())), ..Self::new(now, thread, State::Queued, options) }
    }

    /// A turn that runs already.
    pub(crate) fn attached(now: Time, thread: ThreadId, id: TurnId, options: &TurnOptions) -> Self {
        Self { id: Some(id), is_evident: true, is_partial: true, ..Self::new(now, thread, State::Running, options) }
    }

    fn new(now: Time, thread: ThreadId, state: State, options: &TurnOptions) -> Self {
        Self {
            origin: Origin::Attached,
            start: None,
            queued: None,
            thread,
            id: None,
            alias: None,
            also: None,
            state,
            is_evident: false,
            is_over_for_server: false,
            holders: 1,
            on_drop: options.on_drop,
            wants_stop: false,
            is_partial: false,
            input_mark: None,
            unclaimed: Vec::new(),
            written: Written::default(),
            joined: false,
            was_seen: false,
            running_before: None,
            log: EventLog::default(),
            collected: Collector::default(),
            ending: None,
            start_fault: None,
            interrupt: Interrupt::Idle,
            held_steers: Vec::new(),
            deadline: options.deadline.map(|limit| (now + limit, limit)),
            silence: options
                .idle_deadline
                .map(|limit| Box::new(Silence::new(limit, options.idle_deadline_at_work(limit)))),
            idle_until: None,
            interrupt_refusals: 0,
            interrupt_again: None,
            last_origin: None,
        }
    }

    /// Whether anybody may still ask for its result.
    pub(crate) fn is_held(&self) -> bool {
        self.holders > 0
    }

    /// Whether this is one of the names that the server has for it.
    pub(crate) fn is_named(&self, name: &str) -> bool {
        [&self.id, &self.also].into_iter().flatten().any(|id| id == name)
    }

    /// The turn's id, if it is a compaction that is not known by name yet and this is what shows which turn it is: a turn
    /// that began since, and compacts; or does not end well, and so cannot show more.
    pub(crate) fn shows_itself(
        &mut self,
        method: &str,
        keys: &Keys<'_>,
        params: Option<JsonText<'_>>,
    ) -> Option<TurnId> {
        let Origin::Compaction { candidate, .. } = &mut self.origin else { return None };
        let named = keys.turn()?;
        if method == "turn/started" {
            if self.running_before.as_ref().is_none_or(|before| before != named) {
                *candidate = Some(named.into());
            }
            return None;
        }
        let id = candidate.clone().filter(|candidate| candidate == named)?;
        match method {
            "item/started" | "item/completed" => {
                let item = params.and_then(|params| member(params, Member::Item))?;
                compacts(item).then_some(id)
            }
            "turn/completed" if keys.status.as_deref() == Some("completed") => {
                *candidate = None;
                None
            }
            "turn/completed" => Some(id),
            _ => None,
        }
    }

    /// Keeps an item that was done before the turn was attached to.
    pub(crate) fn collect_known(&mut self, id: &ItemId, item: &RawValue) {
        self.collected.complete(Some(id.as_str()), item.into());
    }

    pub(crate) fn state(&self) -> State {
        self.state
    }

    /// Moves on, if the table knows a way. Says whether it does.
    pub(crate) fn advance(&mut self, cause: Cause) -> bool {
        match table::next(self.state, cause) {
            Some(state) => {
                self.state = state;
                true
            }
            None => false,
        }
    }

    /// Reads what a notification says about the turn's outcome.
    pub(crate) fn collect(&mut self, method: &str, item: Option<&str>, params: JsonText<'_>) {
        if !self.is_held() || self.state.is_end() {
            return;
        }
        match method {
            "item/completed" => {
                if let Some(raw) = member(params, Member::Item) {
                    self.collected.complete(item, raw.into());
                }
            }
            "item/started" => {
                if let Some(id) = item {
                    self.collected.begin(id);
                }
            }
            "thread/tokenUsage/updated" => {
                let usage = member(params, Member::TokenUsage);
                if let Some(usage) = usage.and_then(|raw| serde_json::from_str::<ThreadTokenUsage>(raw.get()).ok()) {
                    self.collected.report_usage(usage);
                }
            }
            "error" => {
                let will_retry = member(params, Member::WillRetry).is_some_and(|raw| raw.get() == "true");
                if let (false, Some(error)) = (will_retry, member(params, Member::Error)) {
                    self.collected.fail(error.into());
                }
            }
            _ => {
                if let Some(id) = item {
                    self.collected.see(id);
                }
            }
        }
    }

    /// Takes a piece of an item. Only those of messages and plans add up to something that is told again.
    #[inline]
    pub(crate) fn note_text(&mut self, kind: DeltaKind, item: &ItemId, text: &str) {
        if let DeltaKind::AgentMessage | DeltaKind::Plan = kind {
            self.written.add(item, text);
        }
    }

    /// Compares a completed message with its pieces. Says whether they do not fit.
    pub(crate) fn is_other_text(&mut self, item: &str, params: JsonText<'_>) -> bool {
        written::text_of_item(params).is_some_and(|text| !self.written.is_text(item, &text))
    }

    /// Where a delta of the item belongs, shared with the delta before if that is the same. `None`: the turn is not named.
    pub(crate) fn origin_of(&mut self, item: &str) -> Option<Arc<DeltaOrigin>> {
        if let Some(last) = self.last_origin.as_ref().filter(|last| last.item == item) {
            return Some(Arc::clone(last));
        }
        if self.is_held() && !self.state.is_end() {
            self.collected.see(item);
        }
        let turn = self.id.clone()?;
        let origin = Arc::new(DeltaOrigin { thread: self.thread.clone(), turn, item: item.into() });
        self.last_origin = Some(Arc::clone(&origin));
        Some(origin)
    }

    /// Where its last delta belongs.
    pub(crate) fn origin(&self) -> Option<&Arc<DeltaOrigin>> {
        self.last_origin.as_ref()
    }

    /// Whether a further delta of its last item is that and no more: everything else that one could tell is known.
    #[inline]
    pub(crate) fn goes_on_with(&self, origin: &Arc<DeltaOrigin>) -> bool {
        self.last_origin.as_ref().is_some_and(|last| Arc::ptr_eq(last, origin))
            && self.is_unmoved_by_evidence()
            && !self.is_over_for_server
    }

    /// The server's name for it, or another than before.
    pub(crate) fn set_id(&mut self, id: TurnId) {
        self.last_origin = None;
        self.id = Some(id);
    }

    /// Whether a sign that it runs changes nothing any more: most events are no more than that.
    pub(crate) fn is_unmoved_by_evidence(&self) -> bool {
        self.is_evident
            && self.idle_until.is_none()
            && self.silence.is_none()
            && matches!(self.interrupt, Interrupt::Idle)
            && self.state != State::TimedOut
    }

    /// Ends as the server says.
    pub(crate) fn end_by_server(&mut self, status: Option<&str>, params: JsonText<'_>) -> bool {
        self.is_over_for_server = true;
        let cause = match status {
            Some("completed") => Cause::EndCompleted,
            Some("interrupted") => Cause::EndInterrupted,
            Some("failed") => Cause::EndFailed,
            _ => Cause::EndUnknown,
        };
        let turn = member(params, Member::Turn).map(Json::from);
        self.end(cause, Ending { status: status.unwrap_or_default().into(), turn, ..Ending::default() })
    }

    /// Ends because the connection did.
    pub(crate) fn end_by_loss(&mut self, cause: Disconnect) -> bool {
        self.is_over_for_server = true;
        self.end(Cause::Disconnect, Ending { cause: Some(cause), ..Ending::default() })
    }

    /// Ends for the caller, though not for the server.
    pub(crate) fn end_by_deadline(&mut self) -> bool {
        let limit = self.deadline.map(|(_, limit)| limit);
        self.is_over_for_server |= self.state == State::Queued;
        self.end(Cause::Deadline, Ending { limit, ..Ending::default() })
    }

    /// Ends for the caller, though not for the server, because nothing was heard of it for so long.
    pub(crate) fn end_by_silence(&mut self, limit: Duration, age: Duration) -> bool {
        self.end(Cause::Silence, Ending { limit: Some(limit), age: Some(age), ..Ending::default() })
    }

    /// Ends before it began.
    pub(crate) fn end_unstarted(&mut self, fault: CallError) -> bool {
        self.is_over_for_server = true;
        if !self.advance(Cause::Refused) {
            return false;
        }
        self.start_fault = Some(fault);
        true
    }

    fn end(&mut self, cause: Cause, ending: Ending) -> bool {
        if !self.advance(cause) {
            return false;
        }
        self.ending = Some(Ending { state: self.state, ..ending });
        true
    }

    /// Takes the report of an ended turn. `None` before its end and when it was taken already.
    pub(crate) fn take_report(&mut self) -> Option<TurnReport> {
        // Whoever else holds it will ask too.
        let (ending, collected) = match self.holders {
            0 | 1 => (self.ending.take()?, core::mem::take(&mut self.collected)),
            _ => (self.ending.clone()?, self.collected.clone()),
        };
        let (thread, id, joined) = (self.thread.clone(), self.id.clone(), self.joined);
        Some(TurnReport { thread, id, ending, joined, is_partial: self.is_partial || joined, collected })
    }

    /// What the thread had used before, if that is known and the turn has not reported yet.
    pub(crate) fn set_usage_before(&mut self, total: &TokenUsageBreakdown) {
        self.collected.set_usage_before(total);
    }

    /// Forgets what only the application would have asked for.
    pub(crate) fn release(&mut self) {
        self.holders = self.holders.saturating_sub(1);
        if self.holders == 0 {
            self.collected = Collector::default();
            self.ending = None;
        }
    }

    /// Bytes held in unread events.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.log.bytes()
    }
}

impl Default for Ending {
    fn default() -> Self {
        Self { state: State::Lost, cause: None, limit: None, age: None, status: Box::default(), turn: None }
    }
}

/// Whether an item is that of a compaction.
fn compacts(item: &RawValue) -> bool {
    #[derive(Deserialize)]
    struct Item<'a> {
        #[serde(borrow, rename = "type")]
        kind: Option<&'a RawValue>,
    }
    let item: Result<Item<'_>, _> = serde_json::from_str(item.get());
    item.is_ok_and(|item| item.kind.is_some_and(|kind| kind.get() == "\"contextCompaction\""))
}

/// The members of params that the machine itself looks into.
#[derive(Clone, Copy, PartialEq, Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Member {
    Error,
    Item,
    TokenUsage,
    Turn,
    WillRetry,
    #[serde(other)]
    Other,
}

/// One member of an object, as it stands.
fn member(params: JsonText<'_>, wanted: Member) -> Option<&RawValue> {
    struct Find(Member);

    impl<'de> serde::de::Visitor<'de> for Find {
        type Value = Option<&'de RawValue>;

        fn expecting(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<A: serde::de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut found = None;
            while let Some(key) = map.next_key::<Member>()? {
                let value = map.next_value()?;
                if key == self.0 {
                    found = Some(value);
                }
            }
            Ok(found)
        }
    }

    let mut deserializer = serde_json::Deserializer::from_str(params.get());
    serde::Deserializer::deserialize_map(&mut deserializer, Find(wanted)).ok().flatten()
}
