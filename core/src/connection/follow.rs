//! Turns that begin in another way than by `turn/start`: compactions, reviews, and those that a resumed thread is found in.
//!
//! A compaction is not named by the answer to its request. Its turn is the one that starts on the thread after the request
//! was sent and compacts, as its items say; the late events of a turn before it name that turn and are passed over. A review
//! is named by the answer, which may also name a thread of its own. A turn that runs when a thread is resumed is taken over
//! in the moment in which the answer is read, and is given what came before that and is not in the answer, so that no event of
//! it is missed.

use super::{Connection, Event, Lane, Prepared, Purpose, RequestKey, Scope, TurnOptions, turns::TurnTimer};
use crate::{
    envelope::{Envelope, Keys, Message},
    error::{CallError, Delivery, Fault, TurnError},
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{Request, ReviewStart, ThreadCompactStart, ThreadUnsubscribe},
    time::Time,
    turn::{Origin, RawEvent, SubscriptionKey, TurnKey},
};
use alloc::{
    boxed::Box,
    collections::{BTreeSet, VecDeque},
    vec::Vec,
};
use serde::Deserialize;
use serde_json::value::RawValue;

/// What is to be done with an answer beside handing it out.
#[derive(Clone, Debug)]
pub(super) enum After {
    /// Take over the turn that it says to run.
    Resume(ThreadId),
    /// End the streams of the thread, if it says that nothing more comes.
    Unsubscribe(ThreadId),
}

/// What came for turns that are nobody's, while it may still turn out whose they are: while the start of a review on a thread
/// of its own is not answered, for any thread; and while a thread is being resumed, for that one.
#[derive(Clone, Debug, Default)]
pub(super) struct Strays {
    /// How many such reviews there are.
    waiting: usize,
    /// Length <= `Limits::max_parked_events`.
    lines: VecDeque<Stray>,
    /// The sum of the lengths of the lines in `lines`. <= `Limits::max_unread_bytes`.
    bytes: usize,
}

/// A notification, and the thread that it names.
#[derive(Clone, Debug)]
pub(super) struct Stray {
    thread: Option<ThreadId>,
    line: Box<[u8]>,
}

impl Strays {
    /// Keeps those of which this is so, and returns the others.
    fn part(&mut self, keep: impl Fn(&Stray) -> bool) -> VecDeque<Stray> {
        let (kept, others): (VecDeque<_>, VecDeque<_>) =
            core::mem::take(&mut self.lines).into_iter().partition(|stray| keep(stray));
        self.bytes = kept.iter().map(|stray| stray.line.len()).sum();
        self.lines = kept;
        others
    }
}

/// Commands.
impl Connection {
    /// Compacts a thread (`thread/compact/start`). The turn is the compaction's own.
    ///
    /// # Errors
    /// As for [`start_turn`](Self::start_turn).
    pub fn start_compaction(
        &mut self,
        now: Time,
        thread: &ThreadId,
        options: &TurnOptions,
    ) -> Result<TurnKey, TurnError> {
        let request = Prepared::new(&ThreadCompactStart::new(thread.clone())).map_err(TurnError::Start)?;
        self.enter_turn_as(now, thread.clone(), request, options, Origin::Compaction { candidate: None, until: None })
    }

    /// Starts a review (`review/start`). `detached`: it is to run on a thread of its own, which
    /// [`turn_thread`](Self::turn_thread) has once the turn is named, and the given thread may be busy meanwhile.
    ///
    /// # Errors
    /// As for [`start_turn`](Self::start_turn).
    pub fn start_review(
        &mut self,
        now: Time,
        params: &ReviewStart,
        detached: bool,
        options: &TurnOptions,
    ) -> Result<TurnKey, TurnError> {
        let request = Prepared::new(params).map_err(TurnError::Start)?;
        self.enter_review(now, params.thread_id.clone(), request, detached, options)
    }

    /// Starts a review with a `review/start` that is encoded already.
    ///
    /// # Errors
    /// As for [`start_turn`](Self::start_turn).
    pub fn enter_review(
        &mut self,
        now: Time,
        thread: ThreadId,
        request: Prepared,
        detached: bool,
        options: &TurnOptions,
    ) -> Result<TurnKey, TurnError> {
        let origin = if detached { Origin::Detached } else { Origin::Review };
        let key = self.enter_turn_as(now, thread, request, options, origin)?;
        self.strays.waiting += usize::from(detached);
        Ok(key)
    }

    /// Resumes a thread (`thread/resume`). If the answer says that a turn runs there, it is attached to in the same moment;
    /// [`take_attached`](Self::take_attached) has it.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn enter_resume(&mut self, now: Time, thread: ThreadId, request: Prepared) -> Result<RequestKey, CallError> {
        let key = self.enter_as(now, request, Purpose::Call, Lane::Normal)?;
        self.afters.insert(key, After::Resume(thread));
        Ok(key)
    }

    /// Takes the turn that the answer to [`enter_resume`](Self::enter_resume) said to run, once, and a subscription to it.
    /// Both are the caller's to release. None if a turn that is known here runs there.
    pub fn take_attached(&mut self, key: RequestKey) -> Option<(TurnKey, SubscriptionKey)> {
        self.attached.remove(&key)
    }

    /// Asks for no more events of a thread (`thread/unsubscribe`). The subscriptions to it end with the answer.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn enter_unsubscribe(&mut self, now: Time, thread: ThreadId) -> Result<RequestKey, CallError> {
        let request = Prepared::new(&ThreadUnsubscribe::new(thread.clone()))?;
        let key = self.enter_as(now, request, Purpose::Call, Lane::Normal)?;
        self.afters.insert(key, After::Unsubscribe(thread));
        Ok(key)
    }

    /// The thread that a turn runs on.
    #[must_use]
    pub fn turn_thread(&self, key: TurnKey) -> Option<&ThreadId> {
        self.turns.get(&key).map(|turn| &turn.thread)
    }

    /// Whether a turn of this connection runs on the thread, as far as the server has said.
    #[must_use]
    pub fn is_thread_busy(&self, thread: &ThreadId) -> bool {
        self.threads.get(thread).is_some_and(|entry| entry.live.is_some() || !entry.queue.is_empty())
    }
}

/// What follows.
impl Connection {
    /// Does what an answer asks for beside being handed out.
    pub(super) fn handle_after(&mut self, now: Time, key: RequestKey, outcome: &Result<Json, Fault>) {
        if self.requests.delivery(key) != Delivery::Sent {
            // An answer to what was never asked.
            return;
        }
        let Some(after) = self.afters.remove(&key) else { return };
        let strays = match &after {
            After::Resume(thread) => self.strays_of(thread),
            After::Unsubscribe(_) => VecDeque::new(),
        };
        let Ok(json) = outcome else { return };
        match after {
            After::Resume(thread) => {
                if let Some((turn, subscription)) = self.attach_as_answered(now, thread, json, strays) {
                    self.attached.insert(key, (turn, subscription));
                }
            }
            After::Unsubscribe(thread) => {
                // Whatever the status is: nothing comes after it.
                self.end_streams(&thread);
            }
        }
    }

    /// Forgets what was to be done with an answer that nobody waits for any more.
    pub(super) fn forget_after(&mut self, key: RequestKey) {
        match self.afters.get(&key) {
            Some(After::Resume(_)) => {
                self.afters.remove(&key);
                self.drop_strays();
            }
            // One that the server has ends the streams, whoever waits for its answer.
            Some(After::Unsubscribe(_)) if self.requests.delivery(key) == Delivery::NotSent => {
                self.afters.remove(&key);
            }
            _ => {}
        }
        if let Some((turn, subscription)) = self.attached.remove(&key) {
            self.unsubscribe(subscription);
            self.release_turn(turn);
        }
    }

    /// Takes over the turn that the answer to a resume says to run. `strays`: what came before the answer.
    fn attach_as_answered(
        &mut self,
        now: Time,
        thread: ThreadId,
        answer: &Json,
        strays: VecDeque<Stray>,
    ) -> Option<(TurnKey, SubscriptionKey)> {
        let found = RunningTurn::find(answer)?;
        let was_followed = self.threads.get(&thread).is_some_and(|entry| entry.live.is_some());
        let key = self.take_up_turn(now, &thread, &found.id, &TurnOptions::default()).ok()?;
        let subscription = self.subscribe(Scope::Turn(key));
        if let Some(turn) = self.turns.get_mut(&key) {
            for (id, item) in &found.items {
                turn.collect_known(id, item);
            }
        }
        self.handle_evidence_of_turn(now, key);
        if was_followed {
            return Some((key, subscription));
        }
        let known: BTreeSet<&str> = found.items.iter().map(|(id, _)| id.as_str()).collect();
        for Stray { line, .. } in &strays {
            let Ok(Envelope { message: Message::Notification { keys, .. }, .. }) = Envelope::parse(line) else {
                continue;
            };
            // What the answer has is known, and older than the answer.
            let is_known = keys.item().is_some_and(|named| known.contains(named));
            // Of other turns the answer is the later word: they are over.
            let is_its_own = keys.root_turn_id.as_deref() == Some(found.id.as_str())
                || self.turns.get(&key).is_some_and(|turn| keys.turn().is_some_and(|named| turn.is_named(named)));
            if is_its_own && !is_known {
                self.replay_for_turn(now, key, line);
            }
        }
        self.end_if_remembered(key);
        if found.is_idle {
            self.handle_thread_idle(now, key);
        }
        self.start_queued(now);
        Some((key, subscription))
    }

    fn end_streams(&mut self, thread: &ThreadId) {
        let policy = self.policy();
        self.forget_usage(thread.as_str());
        let Some(entry) = self.threads.get_mut(thread) else { return };
        let events = &mut self.events;
        for log in [&mut entry.log, &mut entry.turns_log] {
            log.end_readers(RawEvent::Unsubscribed, policy, |key| events.push_back(Event::Readable(key)));
        }
    }

    /// Keeps what came for a turn that is nobody's, while it may be that of a review or of a resume.
    pub(super) fn note_stray(&mut self, line: &[u8], keys: &Keys<'_>) {
        let is_resumed =
            |after: &After| matches!(after, After::Resume(thread) if Some(thread.as_str()) == keys.thread());
        let is_awaited = self.strays.waiting > 0 || self.afters.values().any(is_resumed);
        if !is_awaited || keys.turn().is_none() {
            return;
        }
        let Strays { lines, bytes, .. } = &mut self.strays;
        let limits = &self.config.limits;
        if lines.len() >= limits.max_parked_events || bytes.saturating_add(line.len()) > limits.max_unread_bytes {
            self.counters.left_out += 1;
            return;
        }
        *bytes += line.len();
        lines.push_back(Stray { thread: keys.thread().map(ThreadId::from), line: line.into() });
    }

    /// Takes what came for turns of a thread that were nobody's.
    fn strays_of(&mut self, thread: &ThreadId) -> VecDeque<Stray> {
        let strays = self.strays.part(|stray| stray.thread.as_ref() != Some(thread));
        self.drop_strays();
        strays
    }

    /// Forgets what nobody waits for any more.
    pub(super) fn drop_strays(&mut self) {
        if self.strays.waiting > 0 || self.strays.lines.is_empty() {
            return;
        }
        let Self { strays, afters, .. } = self;
        let is_resumed = |thread: &ThreadId| {
            afters.values().any(|after| matches!(after, After::Resume(resumed) if resumed == thread))
        };
        drop(strays.part(|stray| stray.thread.as_ref().is_some_and(is_resumed)));
    }

    /// The start of a review on a thread of its own was answered, or will not be.
    pub(super) fn leave_review(&mut self, key: TurnKey) {
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| matches!(turn.origin, Origin::Detached)) else {
            return;
        };
        turn.origin = Origin::Review;
        self.strays.waiting = self.strays.waiting.saturating_sub(1);
        self.drop_strays();
    }

    /// Moves the turn of a review to the thread that the answer names. Returns what may have come for it there before.
    ///
    /// # Errors
    /// When another turn of this connection has that thread: what is said there is that one's.
    pub(super) fn move_review(&mut self, key: TurnKey, answer: Json) -> Result<VecDeque<Stray>, Fault> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer {
            review_thread_id: Option<ThreadId>,
        }
        let Some(turn) = self.turns.get_mut(&key) else { return Ok(VecDeque::new()) };
        let named = answer.decode::<Answer>().ok().and_then(|answer| answer.review_thread_id);
        let named = named.filter(|thread| !thread.as_str().is_empty());
        let thread = named.unwrap_or_else(|| turn.thread.clone());
        let entry = self.threads.entry(thread.clone()).or_default();
        if *entry.live.get_or_insert(key) != key {
            let message = "another turn runs on the thread of the review".into();
            return Err(Fault::Decode { path: "reviewThreadId".into(), message, raw: answer });
        }
        turn.thread = thread.clone();
        let strays = self.strays_of(&thread);
        self.leave_review(key);
        Ok(strays)
    }

    /// Gives the turn of a review what came for it before its name.
    pub(super) fn replay_strays(&mut self, now: Time, key: TurnKey, strays: VecDeque<Stray>) {
        for Stray { line, .. } in strays {
            self.replay_for_turn(now, key, &line);
        }
    }

    /// The request of a compaction was taken. Its turn is to follow.
    pub(super) fn handle_compaction_taken(&mut self, now: Time, key: TurnKey) {
        let until_then = now + self.config.timeouts.reply;
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| turn.id.is_none()) else { return };
        if let Origin::Compaction { until, .. } = &mut turn.origin {
            *until = Some(until_then);
            self.turn_timers.insert((until_then, key, TurnTimer::Naming));
        }
    }

    /// The turn of a compaction has not shown itself.
    pub(super) fn handle_naming_timer(&mut self, now: Time, key: TurnKey) {
        let fault = self.timed_out(Delivery::Sent, self.config.timeouts.reply);
        let Some(turn) = self.turns.get_mut(&key).filter(|turn| turn.id.is_none()) else { return };
        let Origin::Compaction { candidate, .. } = &mut turn.origin else { return };
        if let Some(id) = candidate.take() {
            return self.name_turn(now, key, id);
        }
        let thread = turn.thread.clone();
        let ended = turn.end_unstarted(CallError::new(ThreadCompactStart::METHOD, fault));
        turn.is_over_for_server = true;
        self.drop_parked(Some(now), &thread);
        self.handle_turn_over(key, ended);
    }

    /// Forgets the timer of a compaction whose turn is known, or that is over.
    pub(super) fn stop_naming_timer(&mut self, key: TurnKey) {
        if let Some(Origin::Compaction { until, .. }) = self.turns.get_mut(&key).map(|turn| &mut turn.origin) {
            if let Some(until) = until.take() {
                self.turn_timers.remove(&(until, key, TurnTimer::Naming));
            }
        }
    }
}

/// The turn that a thread is found in when it is resumed.
struct RunningTurn<'a> {
    id: TurnId,
    /// Whether the thread is said to be idle all the same: then the end is on its way, or was missed.
    is_idle: bool,
    items: Vec<(crate::id::ItemId, &'a RawValue)>,
}

impl<'a> RunningTurn<'a> {
    /// Reads the answer to `thread/resume`: the turns of the thread, or a page of them. Only one can run.
    fn find(answer: &'a Json) -> Option<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Answer<'a> {
            #[serde(borrow)]
            thread: Option<&'a RawValue>,
            #[serde(borrow)]
            initial_turns_page: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Turns<'a> {
            #[serde(borrow, alias = "turns")]
            data: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize)]
        struct Turn<'a> {
            id: TurnId,
            #[serde(borrow)]
            status: Option<&'a RawValue>,
            #[serde(borrow)]
            items: Option<Vec<&'a RawValue>>,
        }
        #[derive(Deserialize)]
        struct Item<'a> {
            id: crate::id::ItemId,
            #[serde(borrow)]
            status: Option<&'a RawValue>,
        }
        #[derive(Deserialize)]
        struct Thread {
            status: Status,
        }
        #[derive(Deserialize)]
        struct Status {
            r#type: alloc::string::String,
        }
        fn runs(status: Option<&RawValue>) -> bool {
            status.is_some_and(|status| status.get() == "\"inProgress\"")
        }
        let answer: Answer<'a> = answer.decode().ok()?;
        let thread = answer.thread.and_then(|thread| serde_json::from_str::<Thread>(thread.get()).ok());
        let is_idle = thread.is_some_and(|thread| thread.status.r#type == "idle");
        let lists = [answer.initial_turns_page, answer.thread].into_iter().flatten();
        let turns = lists.filter_map(|list| serde_json::from_str::<Turns<'a>>(list.get()).ok()?.data).flatten();
        let mut turns = turns.filter_map(|turn| serde_json::from_str::<Turn<'a>>(turn.get()).ok());
        let turn = turns.find(|turn| runs(turn.status))?;
        let items = turn.items.unwrap_or_default().into_iter();
        let items = items.filter_map(|raw| {
            let item = serde_json::from_str::<Item<'a>>(raw.get()).ok()?;
            // What is not done yet will be told when it is.
            (!runs(item.status)).then_some((item.id, raw))
        });
        Some(Self { id: turn.id, is_idle, items: items.collect() })
    }
}
