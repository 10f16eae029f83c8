//! One turn, from its start to its single end.
//!
//! A turn has a local name, its [`TurnKey`], before the server has named it; it collects what the server says about it;
//! it ends once. It never waits and never sends: the connection moves it, by the table in [`table`]:
//!
//! ```text
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
//!              --Disconnect--> Lost
//! Interrupting --InterruptRefused--> Running
//!              --EndCompleted--> Completed
//!              --EndInterrupted--> Interrupted
//!              --EndFailed--> Failed
//!              --EndUnknown--> UnknownStatus
//!              --Deadline--> TimedOut
//!              --Disconnect--> Lost
//! ```
//!
//! What arrives about a turn before the answer to its `turn/start` is parked by the connection and replayed in order.
//! `turn/started` is never required. A local end, such as a deadline, is not the server's: the thread stays busy until
//! the server has ended the turn too.

mod event;
mod log;
mod report;
mod steer;
pub mod table;

pub use event::{Delta, DeltaKind, Diagnostic, DiagnosticKind, RawEvent, RawNotification, Refused};
pub use log::{Next, SubscriptionKey};
pub use report::{TurnReport, TurnResult, TurnUsage};
pub(crate) use steer::says_no_active_turn;
pub use steer::steer_error;
pub use table::{Cause, State};

pub(crate) use log::{EventLog, Policy};
pub(crate) use report::{Collector, Ending};

use crate::{
    connection::RequestKey,
    envelope::JsonText,
    error::{CallError, Disconnect, Fault},
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    protocol::{ThreadTokenUsage, UserInput},
    time::Time,
};
use alloc::{boxed::Box, vec::Vec};
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
#[derive(Debug)]
pub(crate) enum Interrupt {
    /// Nobody asked.
    Idle,
    /// Asked for, but there is no evidence yet that the turn runs: sent now, it would be refused and lost.
    Held { until: Time },
    /// Sent, not answered.
    Sent { request: RequestKey, until: Time },
    /// Answered, refused or overtaken by the end.
    Settled(Result<InterruptOutcome, CallError>),
}

impl Interrupt {
    /// Whether the server may be asked: nobody has, or it has certainly not taken it.
    pub(crate) fn may_ask(&self) -> bool {
        match self {
            Self::Idle => true,
            Self::Settled(Err(error)) => match &error.fault {
                Fault::Rpc(_) => true,
                _ => !error.may_have_effect(),
            },
            Self::Held { .. } | Self::Sent { .. } | Self::Settled(Ok(_)) => false,
        }
    }
}

/// A turn.
#[derive(Debug)]
pub(crate) struct Turn {
    /// The request that starts it.
    pub(crate) start: RequestKey,
    pub(crate) thread: ThreadId,
    pub(crate) id: Option<TurnId>,
    state: State,
    /// Whether anything proved that the turn runs on the server.
    pub(crate) is_evident: bool,
    /// Whether nothing more is to be expected from the server about this turn's end.
    pub(crate) is_over_for_server: bool,
    /// Whether the application may still ask for its result. A released turn collects nothing.
    pub(crate) is_held: bool,
    pub(crate) joined: bool,
    /// Whether something was heard of it, or of another turn on its thread, though its start was never answered.
    pub(crate) was_seen: bool,
    /// The turn that ran on the thread when this one was started, as far as was known.
    pub(crate) running_before: Option<TurnId>,
    pub(crate) log: EventLog,
    collected: Collector,
    ending: Option<Ending>,
    /// Set if and only if the state is `NotStarted`.
    pub(crate) start_fault: Option<CallError>,
    pub(crate) interrupt: Interrupt,
    /// Steers that wait for the turn's id.
    pub(crate) held_steers: Vec<(RequestKey, Vec<UserInput>)>,
    pub(crate) deadline: Option<(Time, Duration)>,
    /// Until when the end is waited for since the thread was said to be idle. Then there is a timer of this.
    pub(crate) idle_until: Option<Time>,
    /// How often the server has refused the interrupt as too early.
    pub(crate) interrupt_refusals: u32,
    last_item: Option<ItemId>,
}

impl Turn {
    pub(crate) fn new(thread: ThreadId, start: RequestKey, deadline: Option<(Time, Duration)>) -> Self {
        Self {
            start,
            thread,
            id: None,
            state: State::Starting,
            is_evident: false,
            is_over_for_server: false,
            is_held: true,
            joined: false,
            was_seen: false,
            running_before: None,
            log: EventLog::default(),
            collected: Collector::default(),
            ending: None,
            start_fault: None,
            interrupt: Interrupt::Idle,
            held_steers: Vec::new(),
            deadline,
            idle_until: None,
            interrupt_refusals: 0,
            last_item: None,
        }
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
        if !self.is_held || self.state.is_end() {
            return;
        }
        match method {
            "item/completed" => {
                if let (Some(id), Some(item)) = (item, member(params, Member::Item)) {
                    self.collected.complete(id, item.into());
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

    /// The item's id, shared with the event before if it is the same.
    pub(crate) fn intern_item(&mut self, id: &str) -> ItemId {
        match &self.last_item {
            Some(last) if last == id => last.clone(),
            _ => {
                let item = ItemId::from(id);
                if self.is_held && !self.state.is_end() {
                    self.collected.see(id);
                }
                self.last_item = Some(item.clone());
                item
            }
        }
    }

    /// Whether a sign that it runs changes nothing any more: most events are no more than that.
    pub(crate) fn is_unmoved_by_evidence(&self) -> bool {
        self.is_evident
            && self.idle_until.is_none()
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
        self.end(Cause::Deadline, Ending { limit, ..Ending::default() })
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
        Some(TurnReport {
            thread: self.thread.clone(),
            id: self.id.clone(),
            ending: self.ending.take()?,
            joined: self.joined,
            collected: core::mem::take(&mut self.collected),
        })
    }

    /// Forgets what only the application would have asked for.
    pub(crate) fn release(&mut self) {
        self.is_held = false;
        self.collected = Collector::default();
        self.ending = None;
    }

    /// Bytes held in unread events.
    pub(crate) fn unread_bytes(&self) -> usize {
        self.log.bytes()
    }
}

impl Default for Ending {
    fn default() -> Self {
        Self { state: State::Lost, cause: None, limit: None, status: Box::default(), turn: None }
    }
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
