//! What a turn came to.

use crate::{
    error::{Disconnect, TurnError},
    id::{ItemId, ThreadId, TurnId},
    json::Json,
    protocol::{self, CodexErrorInfo, MessagePhase, ThreadItem, ThreadTokenUsage, TokenUsageBreakdown},
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
/// the thread had used before the turn: the sum that was last reported for it then, or else the turn's first sum without
/// the call that it was reported for. What a server repeats of earlier turns, when a thread is resumed or compacted, is so
/// not counted.
///
/// Sub-agents have turns of their own, which report what they used: see `Thread::tree`. A turn that failed, timed out or was
/// lost has used tokens too, which its error has: `TurnError::report`. Past a deadline the server's turn may use more until it
/// is stopped; the events of its thread tell. A start that was sent and not answered may have used what nobody reports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TurnUsage {
    /// Input tokens, cached ones included.
    pub input_tokens: i64,
    /// Those of the input tokens that came from the cache. Not to be added to them.
    pub cached_input_tokens: i64,
    /// Those of the input tokens that were written to the cache. Not to be added to them. `None` if the server does not say,
    /// as old ones do not.
    pub cache_write_input_tokens: Option<i64>,
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
    /// Whether the turn may have used more than this: it ended here alone, by a deadline or with the connection; it was
    /// attached to or joined while it ran; its events had a gap; or the sums of its thread went down, as they may when a
    /// thread is compacted.
    pub is_lower_bound: bool,
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
    /// The items that were seen and never completed: what the model began and gave up, and what an interrupt cut off. A
    /// command that goes on in the background is among them; what comes of it later is for the thread's events.
    pub open_items: Vec<ItemId>,
    /// The text of the last message in the phase of the final answer; if there is none, of the last message without a phase;
    /// if there is none either, nothing. An empty text is a text.
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

    /// What kind of error it was, if the server said so.
    #[must_use]
    pub fn error_info(&self) -> Option<&CodexErrorInfo> {
        self.error.as_ref()?.codex_error_info.as_ref()
    }

    /// With what HTTP status the model's server refused, if that was it and the server passed it on.
    #[must_use]
    pub fn http_status(&self) -> Option<u16> {
        match self.error_info()? {
            CodexErrorInfo::HttpConnectionFailed(info) => info.http_status_code,
            CodexErrorInfo::ResponseStreamConnectionFailed(info) => info.http_status_code,
            CodexErrorInfo::ResponseStreamDisconnected(info) => info.http_status_code,
            CodexErrorInfo::ResponseTooManyFailedAttempts(info) => info.http_status_code,
            _ => None,
        }
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
#[derive(Clone, Debug)]
pub(crate) struct Ending {
    pub(crate) state: State,
    /// Set if and only if `state` is `Lost`.
    pub(crate) cause: Option<Disconnect>,
    /// Set if and only if `state` is `TimedOut`.
    pub(crate) limit: Option<Duration>,
    /// Set if and only if `state` is `TimedOut` because of silence: how long there was no sign of life.
    pub(crate) age: Option<Duration>,
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
    /// Whether something of the turn may have been missed.
    pub(crate) is_partial: bool,
    pub(crate) collected: Collector,
}

impl TurnReport {
    /// Decodes it.
    ///
    /// # Errors
    /// Anything but a completed or interrupted turn is an error; it holds what the turn produced all the same.
    pub fn into_result(self) -> Result<TurnResult, TurnError> {
        let Self { thread, id, ending, joined, is_partial, collected } = self;
        let end: EndOfTurn<'_> = ending.turn.as_ref().and_then(|turn| turn.decode().ok()).unwrap_or_default();
        let items = collected.items(end.items);
        let result = TurnResult {
            thread_id: thread,
            turn_id: id,
            status: ending.state,
            final_response: final_response(&items),
            items,
            open_items: collected.open_items(),
            // The server's turn goes on after an end that is only this side's.
            usage: collected.usage(is_partial || matches!(ending.state, State::TimedOut | State::Lost)),
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
                let (limit, report) = (ending.limit.unwrap_or_default(), Box::new(result));
                Err(match ending.age {
                    Some(age) => TurnError::IdleTimedOut { limit, age, report },
                    None => TurnError::TimedOut { limit, report },
                })
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
#[derive(Clone, Debug, Default)]
pub(crate) struct Collector {
    /// In the order of first sight: the item's JSON once it was completed.
    items: Vec<Option<Json>>,
    places: HashMap<ItemId, usize>,
    usage: UsageSum,
    /// The last `error` that the server did not mean to retry.
    last_error: Option<Json>,
}

impl Collector {
    /// Notes that an item was seen.
    pub(crate) fn see(&mut self, id: &str) {
        self.place(id);
    }

    /// Notes that an item began. If one of that name was completed before, this is another: servers pass on the names that
    /// a model gives, and nothing says that they are unique.
    pub(crate) fn begin(&mut self, id: &str) {
        let place = self.place(id);
        if self.items.get(place).is_some_and(Option::is_some) {
            self.places.insert(id.into(), self.items.len());
            self.items.push(None);
        }
    }

    /// Keeps an item in its completed form.
    pub(crate) fn complete(&mut self, id: Option<&str>, item: Json) {
        let Some(id) = id else { return self.items.push(Some(item)) };
        let place = self.place(id);
        if let Some(slot) = self.items.get_mut(place) {
            *slot = Some(item);
        }
    }

    /// Takes a report of tokens.
    pub(crate) fn report_usage(&mut self, usage: ThreadTokenUsage) {
        self.usage.report(&usage);
    }

    /// Takes what the thread had used before, unless the turn has reported already.
    pub(crate) fn set_usage_before(&mut self, total: &TokenUsageBreakdown) {
        if self.usage.reports == 0 {
            self.usage.before = Some(Tokens::of(total));
            self.usage.written_sum = total.cache_write_input_tokens;
        }
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

    fn usage(&self, is_partial: bool) -> Option<TurnUsage> {
        let mut usage = self.usage.usage()?;
        usage.is_lower_bound |= is_partial;
        Some(usage)
    }

    /// The items that were seen and not completed, in the order of first sight.
    fn open_items(&self) -> Vec<ItemId> {
        let is_open = |place: usize| self.items.get(place).is_some_and(Option::is_none);
        let mut open: Vec<(usize, &ItemId)> =
            self.places.iter().map(|(id, place)| (*place, id)).filter(|(place, _)| is_open(*place)).collect();
        open.sort_unstable();
        open.into_iter().map(|(_, id)| id.clone()).collect()
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

/// The counts of one report.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tokens([i64; 5]);

impl Tokens {
    fn of(tokens: &TokenUsageBreakdown) -> Self {
        Self([
            tokens.input_tokens,
            tokens.cached_input_tokens,
            tokens.output_tokens,
            tokens.reasoning_output_tokens,
            tokens.total_tokens,
        ])
    }

    fn each(self, other: Self, with: fn(i64, i64) -> i64) -> Self {
        let mut sum = self;
        for (mine, other) in sum.0.iter_mut().zip(other.0) {
            *mine = with(*mine, other);
        }
        sum
    }

    fn minus(self, other: Self) -> Self {
        self.each(other, |mine, other| mine.saturating_sub(other).max(0))
    }

    fn plus(self, other: Self) -> Self {
        self.each(other, i64::saturating_add)
    }

    fn is_below(self, other: Self) -> bool {
        self.0.iter().zip(other.0).any(|(mine, other)| *mine < other)
    }
}

/// Adds up what a turn used, from sums over its thread.
#[derive(Clone, Copy, Debug, Default)]
struct UsageSum {
    /// What the thread had used before, as far as is known.
    before: Option<Tokens>,
    /// The sum that was last reported.
    last: Option<Tokens>,
    used: Tokens,
    reports: u32,
    went_down: bool,
    /// What was written to the cache, apart, because not every server says it: by the turn, and the sum over the thread.
    written: Option<i64>,
    written_sum: Option<i64>,
    context_window: Option<i64>,
}

impl UsageSum {
    fn report(&mut self, usage: &ThreadTokenUsage) {
        let total = Tokens::of(&usage.total);
        let by_itself = total.minus(Tokens::of(&usage.last));
        self.context_window = usage.model_context_window;
        let known = self.last.or(self.before);
        let before = match known {
            Some(known) if total.is_below(known) => {
                self.went_down = true;
                by_itself
            }
            Some(known) => known,
            None => by_itself,
        };
        self.last = Some(total);
        // A sum that was known already is a repetition: a compaction begins with one.
        let is_news = total != before;
        if is_news {
            self.reports += 1;
            self.used = self.used.plus(total.minus(before));
        }
        self.report_written(usage, is_news);
    }

    fn report_written(&mut self, usage: &ThreadTokenUsage, is_news: bool) {
        let Some(sum) = usage.total.cache_write_input_tokens else { return };
        let by_itself = sum.saturating_sub(usage.last.cache_write_input_tokens.unwrap_or(0));
        let before = self.written_sum.filter(|known| *known <= sum).unwrap_or(by_itself);
        self.written_sum = Some(sum);
        if is_news {
            let more = sum.saturating_sub(before).max(0);
            self.written = Some(self.written.unwrap_or(0).saturating_add(more));
        }
    }

    fn usage(&self) -> Option<TurnUsage> {
        let Tokens([input_tokens, cached_input_tokens, output_tokens, reasoning_output_tokens, total_tokens]) =
            self.used;
        (self.reports > 0).then_some(TurnUsage {
            input_tokens,
            cached_input_tokens,
            cache_write_input_tokens: self.written,
            output_tokens,
            reasoning_output_tokens,
            total_tokens,
            reports: self.reports,
            context_window: self.context_window,
            is_lower_bound: self.went_down,
        })
    }
}
