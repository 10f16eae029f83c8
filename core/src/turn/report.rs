//! What a turn came to.

use crate::{
    error::{Disconnect, TurnError},
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    protocol::{self, MessagePhase, ThreadItem, ThreadTokenUsage, TokenUsageBreakdown},
    turn::State,
};
use alloc::{
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, time::Duration};
use hashbrown::HashMap;
use serde::Deserialize;
use serde_json::value::RawValue;

/// The tokens that one turn used.
///
/// The server reports the sum over the whole thread after each call of the model. This is the last such sum minus what
/// the thread had used before the turn's first report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnUsage {
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Those of the input tokens that came from the cache. Not to be added to them.
    pub cached_input_tokens: i64,
    /// Output tokens, reasoning included.
    pub output_tokens: i64,
    /// Those of the output tokens that were reasoning. Not to be added to them.
    pub reasoning_output_tokens: i64,
    /// Input and output together, as the server counts them.
    pub total_tokens: i64,
    /// How many reports there were: one for each call of the model that succeeded.
    pub reports: u32,
    /// How many tokens the model can hold, if the server said so.
    pub context_window: Option<i64>,
}

/// What a turn produced.
#[derive(Clone)]
#[non_exhaustive]
pub struct TurnResult {
    /// The thread.
    pub thread_id: ThreadId,
    /// The turn; `None` if it was lost before the server named it.
    pub turn_id: Option<TurnId>,
    /// How it ended.
    pub status: State,
    /// The items that were completed, in the order in which they were first seen.
    pub items: Vec<ThreadItem>,
    /// The text of the last message in the phase of the final answer; if no message has a phase, of the last message.
    pub final_response: Option<String>,
    /// Tokens used; `None` if the server reported none.
    pub usage: Option<TurnUsage>,
    /// Why it failed, if it did.
    pub error: Option<protocol::TurnError>,
    /// When it started, in Unix seconds.
    pub started_at: Option<i64>,
    /// When it ended, in Unix seconds.
    pub completed_at: Option<i64>,
    /// How long it took, in milliseconds, as the server measured it.
    pub duration_ms: Option<i64>,
    /// Whether the input joined a turn that ran already, so that all of this is that turn's. Known only of turns that began
    /// while this session listened to the thread.
    pub joined: bool,
    /// The `turn` of `turn/completed` as the server wrote it.
    pub raw: Option<Json>,
}

impl TurnResult {
    /// The text of the server's error, if there is one.
    #[must_use]
    pub fn error_message(&self) -> Option<&str> {
        self.error.as_ref().map(|error| error.message.as_str())
    }
}

impl fmt::Debug for TurnResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnResult")
            .field("thread_id", &self.thread_id)
            .field("turn_id", &self.turn_id)
            .field("status", &self.status)
            .field("items", &self.items.len())
            .field("final_response", &self.final_response.as_ref().map(|text| text.len()))
            .field("usage", &self.usage)
            .field("duration_ms", &self.duration_ms)
            .finish_non_exhaustive()
    }
}

/// How a turn ended and what is known of it, before anything is decoded.
#[derive(Debug)]
pub(crate) struct Ending {
    pub(crate) state: State,
    /// Set if and only if `state` is `Lost`.
    pub(crate) cause: Option<Disconnect>,
    /// Set if and only if `state` is `TimedOut`.
    pub(crate) limit: Option<Duration>,
    /// The status as the server wrote it, for `UnknownStatus`.
    pub(crate) status: Box<str>,
    /// The `turn` of `turn/completed`.
    pub(crate) turn: Option<Json>,
}

/// A turn's end with all that was collected. Decoding it is for whoever asked, on their own time.
#[derive(Debug)]
pub struct TurnReport {
    pub(crate) thread: ThreadId,
    pub(crate) id: Option<TurnId>,
    pub(crate) ending: Ending,
    pub(crate) joined: bool,
    pub(crate) collected: Collector,
}

impl TurnReport {
    /// Decodes it.
    ///
    /// # Errors
    /// Anything but a completed or interrupted turn is an error; it holds what the turn produced all the same.
    pub fn into_result(self) -> Result<TurnResult, TurnError> {
        let Self { thread, id, ending, joined, collected } = self;
        let end: EndOfTurn<'_> = ending.turn.as_ref().and_then(|turn| turn.decode().ok()).unwrap_or_default();
        let items = collected.items(end.items);
        let result = TurnResult {
            thread_id: thread,
            turn_id: id,
            status: ending.state,
            final_response: final_response(&items),
            items,
            usage: collected.usage(),
            error: end
                .error
                .and_then(|error| serde_json::from_str(error.get()).ok())
                .or_else(|| collected.last_error.as_ref().and_then(|error| error.decode().ok())),
            started_at: end.started_at.and_then(int),
            completed_at: end.completed_at.and_then(int),
            duration_ms: end.duration_ms.and_then(int),
            joined,
            raw: ending.turn.clone(),
        };
        match (ending.state, ending.cause) {
            (State::Completed | State::Interrupted, _) => Ok(result),
            (State::Failed, _) => Err(TurnError::Failed(Box::new(result))),
            (State::Lost, Some(cause)) => Err(TurnError::Lost { cause, report: Box::new(result) }),
            (State::TimedOut, _) => {
                Err(TurnError::TimedOut { limit: ending.limit.unwrap_or_default(), report: Box::new(result) })
            }
            _ => Err(TurnError::UnknownStatus { status: ending.status, report: Box::new(result) }),
        }
    }
}

/// The members of an ended turn that are read one by one, so that none that does not fit spoils the others.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase")]
struct EndOfTurn<'a> {
    #[serde(borrow)]
    items: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
    #[serde(borrow)]
    started_at: Option<&'a RawValue>,
    #[serde(borrow)]
    completed_at: Option<&'a RawValue>,
    #[serde(borrow)]
    duration_ms: Option<&'a RawValue>,
}

fn int(raw: &RawValue) -> Option<i64> {
    raw.get().parse().ok()
}

fn final_response(items: &[ThreadItem]) -> Option<String> {
    let messages = || {
        items.iter().rev().filter_map(|item| match item {
            ThreadItem::AgentMessage(message) => Some(message),
            _ => None,
        })
    };
    messages()
        .find(|message| matches!(message.phase, Some(MessagePhase::FinalAnswer)))
        .or_else(|| messages().find(|message| message.phase.is_none()))
        .map(|message| message.text.to_string())
}

/// Collects what a turn produces, since the server's last word on it holds next to nothing.
#[derive(Debug, Default)]
pub(crate) struct Collector {
    /// In the order of first sight: the item's JSON once it was completed.
    items: Vec<Option<Json>>,
    places: HashMap<ItemId, usize>,
    first_usage: Option<ThreadTokenUsage>,
    last_usage: Option<ThreadTokenUsage>,
    usage_reports: u32,
    /// The last `error` that the server did not mean to retry.
    last_error: Option<Json>,
}

impl Collector {
    /// Notes that an item was seen.
    pub(crate) fn see(&mut self, id: &str) {
        self.place(id);
    }

    /// Keeps an item in its completed form.
    pub(crate) fn complete(&mut self, id: &str, item: Json) {
        let place = self.place(id);
        if let Some(slot) = self.items.get_mut(place) {
            *slot = Some(item);
        }
    }

    /// Takes a report of tokens.
    pub(crate) fn report_usage(&mut self, usage: ThreadTokenUsage) {
        self.usage_reports += 1;
        if self.first_usage.is_none() {
            self.first_usage = Some(usage.clone());
        }
        self.last_usage = Some(usage);
    }

    /// Keeps the server's error.
    pub(crate) fn fail(&mut self, error: Json) {
        self.last_error = Some(error);
    }

    fn place(&mut self, id: &str) -> usize {
        if let Some(place) = self.places.get(id) {
            return *place;
        }
        let place = self.items.len();
        self.items.push(None);
        self.places.insert(id.into(), place);
        place
    }

    fn usage(&self) -> Option<TurnUsage> {
        let (first, last) = (self.first_usage.as_ref()?, self.last_usage.as_ref()?);
        let of = |pick: fn(&TokenUsageBreakdown) -> i64| {
            let before = pick(&first.total).saturating_sub(pick(&first.last));
            pick(&last.total).saturating_sub(before)
        };
        Some(TurnUsage {
            input_tokens: of(|tokens| tokens.input_tokens),
            cached_input_tokens: of(|tokens| tokens.cached_input_tokens),
            output_tokens: of(|tokens| tokens.output_tokens),
            reasoning_output_tokens: of(|tokens| tokens.reasoning_output_tokens),
            total_tokens: of(|tokens| tokens.total_tokens),
            reports: self.usage_reports,
            context_window: last.model_context_window,
        })
    }

    /// The completed items, and those of the turn's end that were not seen before.
    fn items(&self, at_end: Option<&RawValue>) -> Vec<ThreadItem> {
        let decode = |text: &str| serde_json::from_str::<ThreadItem>(text).ok();
        let mut items: Vec<ThreadItem> = self.items.iter().flatten().filter_map(|item| decode(item.as_str())).collect();
        let at_end: Vec<&RawValue> = at_end.and_then(|raw| serde_json::from_str(raw.get()).ok()).unwrap_or_default();
        for raw in at_end {
            let Some(item) = decode(raw.get()) else { continue };
            let completed_before = item
                .id()
                .and_then(|id| self.places.get(id.as_str()))
                .and_then(|place| self.items.get(*place))
                .is_some_and(Option::is_some);
            if !completed_before {
                items.push(item);
            }
        }
        items
    }
}
