//! What happens, in types.

use super::{
    ask::{AgentRequest, Ask},
    hub::{Hub, Mailbox, Session},
    waiting::WaiterId,
};
use crate::{
    connection::{AskEnd, Asked, Scope},
    id::{ItemId, ThreadId, TurnId},
    protocol::{
        AccountRateLimitsUpdatedNotification, AccountUpdatedNotification, ErrorNotification, ItemCompletedNotification,
        ItemStartedNotification, Notification, ThreadItem, ThreadTokenUsage, ThreadTokenUsageUpdatedNotification,
        TurnError, TurnStartedNotification,
    },
    turn::{Delta, Diagnostic, RawEvent, RawNotification, Refused, State, SubscriptionKey},
};
use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

/// One event of a turn, a thread or a session.
///
/// Most events are pieces of text, and each is moved a few times on its way. So what is larger is in a box.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The login changed (`account/updated`).
    Account(AccountUpdatedNotification),
    /// The server asks something that somebody here may answer, though not whoever reads this.
    Asked(Box<Asked>),
    /// What the server asked was answered, or is closed. A refusal is [`Refused`](Self::Refused).
    AskEnded(Box<Asked>, AskEnd),
    /// A piece of text of an item that is being written.
    Delta(Delta),
    /// Something about the connection that its owner may want to know. Only from [`Codex::events`](super::Codex::events).
    Diagnostic(Diagnostic),
    /// The turn ended so. The last event of a turn; [`Turn::result`](super::Turn::result) has the rest.
    Ended(State),
    /// The server met an error (`error`).
    Error(Box<ErrorEvent>),
    /// So many events were left out here, because nobody read and the bound of memory was reached.
    Gap(u64),
    /// An item is done (`item/completed`). It replaces what was known of it.
    ItemCompleted(Box<ItemEvent>),
    /// An item began (`item/started`). Not every one is completed.
    ItemStarted(Box<ItemEvent>),
    /// The account's limits changed (`account/rateLimits/updated`).
    RateLimits(Box<AccountRateLimitsUpdatedNotification>),
    /// The server asks something, and whoever reads this is to answer; see
    /// [`TurnRequest::asks_in_stream`](super::TurnRequest::asks_in_stream). Dropped, it is refused.
    Request(AgentRequest),
    /// Anything else that the server said.
    Other(RawNotification),
    /// A request of the server was refused; [`Refused::why`](crate::turn::Refused::why) says why.
    Refused(Box<Refused>),
    /// The turn runs (`turn/started`).
    Started(RawNotification),
    /// This session asked for no more events of the thread (`thread/unsubscribe`). The last event of the streams of a thread
    /// that were open then.
    Unsubscribed,
    /// Tokens were used (`thread/tokenUsage/updated`): sums over the whole thread.
    Usage(Box<UsageEvent>),
}

/// As large as what there is most of, and no larger.
const _: () = assert!(size_of::<Event>() <= size_of::<RawEvent>() + size_of::<usize>(), "an event is moved often");

/// An error that the server met.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ErrorEvent {
    /// The error.
    pub error: TurnError,
    /// Whether the server tries again: then this is progress, and the turn goes on.
    pub will_retry: bool,
    /// As it came.
    pub raw: RawNotification,
}

/// An item that began or is done.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ItemEvent {
    /// The item.
    pub item: ThreadItem,
    /// As it came, with thread, turn and time.
    pub raw: RawNotification,
}

/// A report of tokens.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct UsageEvent {
    /// The tokens.
    pub usage: ThreadTokenUsage,
    /// As it came.
    pub raw: RawNotification,
}

impl From<RawEvent> for Event {
    fn from(event: RawEvent) -> Self {
        match event {
            RawEvent::Asked(asked) => Self::Asked(asked),
            RawEvent::AskEnded(asked, end) => Self::AskEnded(asked, end),
            RawEvent::Delta(delta) => Self::Delta(delta),
            RawEvent::Diagnostic(diagnostic) => Self::Diagnostic(diagnostic),
            RawEvent::Ended(state) => Self::Ended(state),
            RawEvent::Gap(count) => Self::Gap(count),
            RawEvent::Notification(raw) => Self::typed(raw),
            RawEvent::Refused(refused) => Self::Refused(refused),
            RawEvent::Unsubscribed => Self::Unsubscribed,
            // Only from the one kind of subscription that is not read as events.
            RawEvent::Turn(_) => Self::Gap(0),
        }
    }
}

impl Event {
    /// The thread it is about, if it names one; for a sub-agent this is the child's.
    ///
    /// There is none with [`Account`](Self::Account) and [`RateLimits`](Self::RateLimits), which are about no thread, nor with
    /// [`Diagnostic`](Self::Diagnostic), [`Ended`](Self::Ended), [`Gap`](Self::Gap) and [`Unsubscribed`](Self::Unsubscribed),
    /// which are about the stream that they are read from. A [`TurnSet`](super::TurnSet) and a [`Tree`](super::Tree) say of
    /// each event whose it is.
    #[must_use]
    pub fn thread_id(&self) -> Option<&ThreadId> {
        match self {
            Self::Delta(delta) => Some(&delta.thread),
            Self::Request(request) => request.thread_id(),
            event => event.raw()?.thread.as_ref(),
        }
    }

    /// The turn it is about, if it names one. There is none with the variants that [`thread_id`](Self::thread_id) names, and
    /// with what is about a thread as a whole.
    #[must_use]
    pub fn turn_id(&self) -> Option<&TurnId> {
        match self {
            Self::Delta(delta) => Some(&delta.turn),
            Self::Request(request) => request.turn_id(),
            event => event.raw()?.turn.as_ref(),
        }
    }

    /// The item it is about, if it names one: with [`Delta`](Self::Delta), [`ItemStarted`](Self::ItemStarted) and
    /// [`ItemCompleted`](Self::ItemCompleted) always, but for an item that does not decode; with requests of the server and
    /// what else it said where they have one. For [`Other`](Self::Other) and [`Refused`](Self::Refused) it is read out of the
    /// params at each call.
    #[must_use]
    pub fn item_id(&self) -> Option<ItemId> {
        match self {
            Self::Asked(asked) | Self::AskEnded(asked, _) => asked.item.clone(),
            Self::Delta(delta) => Some(delta.item.clone()),
            Self::ItemCompleted(event) | Self::ItemStarted(event) => match event.item.id() {
                Some(id) => Some(id.clone()),
                None => event.raw.item(),
            },
            Self::Request(request) => request.item_id().cloned(),
            Self::Other(raw) => raw.item(),
            Self::Refused(refused) => refused.notification.item(),
            Self::Account(_)
            | Self::Diagnostic(_)
            | Self::Ended(_)
            | Self::Error(_)
            | Self::Gap(_)
            | Self::RateLimits(_)
            | Self::Started(_)
            | Self::Unsubscribed
            | Self::Usage(_) => None,
        }
    }

    /// What the server said, as it came; `None` where it is in a form of this library alone.
    #[must_use]
    pub fn raw(&self) -> Option<&RawNotification> {
        match self {
            Self::Error(error) => Some(&error.raw),
            Self::ItemCompleted(item) | Self::ItemStarted(item) => Some(&item.raw),
            Self::Other(raw) | Self::Started(raw) => Some(raw),
            Self::Usage(usage) => Some(&usage.raw),
            Self::Refused(refused) => Some(&refused.notification),
            Self::Asked(asked) | Self::AskEnded(asked, _) => Some(&asked.request),
            Self::Account(_)
            | Self::Delta(_)
            | Self::Diagnostic(_)
            | Self::Ended(_)
            | Self::Gap(_)
            | Self::RateLimits(_)
            | Self::Request(_)
            | Self::Unsubscribed => None,
        }
    }

    /// What the server said as a type of its own, if it is of that type and fits it. For whatever has no variant here:
    /// changes of the plan ([`TurnPlanUpdatedNotification`](crate::protocol::TurnPlanUpdatedNotification)) and of the diff,
    /// patches that are being written, models that were rerouted, verifications, moderation, warnings of the guardian …
    ///
    /// ```
    /// # use turnwire_core::{client::Event, protocol::TurnPlanUpdatedNotification};
    /// fn show(event: &Event) {
    ///     if let Some(plan) = event.notification::<TurnPlanUpdatedNotification>() {
    ///         println!("{} steps", plan.plan.len());
    ///     }
    /// }
    /// ```
    #[must_use]
    pub fn notification<N: Notification>(&self) -> Option<N> {
        self.raw()?.decode()
    }

    /// As [`From`], but what the server asks is taken if it is for this reader.
    pub(crate) fn for_reader(event: RawEvent, hub: &Arc<Hub>, reader: SubscriptionKey) -> Self {
        if let RawEvent::Asked(asked) = &event {
            let claimed = hub.read(|connection| connection.claim_ask(asked.key, reader));
            if let Some(asked) = claimed {
                return Self::Request(AgentRequest::new(Ask::new(hub, asked)));
            }
        }
        event.into()
    }

    /// What does not fit its type stays as it came.
    fn typed(raw: RawNotification) -> Self {
        fn read<N: Notification>(raw: &RawNotification) -> Option<N> {
            raw.decode()
        }
        if &*raw.method == TurnStartedNotification::METHOD {
            return Self::Started(raw);
        }
        if let Some(ItemStartedNotification { item, .. }) = read(&raw) {
            return Self::ItemStarted(Box::new(ItemEvent { item, raw }));
        }
        if let Some(ItemCompletedNotification { item, .. }) = read(&raw) {
            return Self::ItemCompleted(Box::new(ItemEvent { item, raw }));
        }
        if let Some(ThreadTokenUsageUpdatedNotification { token_usage: usage, .. }) = read(&raw) {
            return Self::Usage(Box::new(UsageEvent { usage, raw }));
        }
        if let Some(ErrorNotification { error, will_retry, .. }) = read(&raw) {
            return Self::Error(Box::new(ErrorEvent { error, will_retry, raw }));
        }
        if let Some(updated) = read(&raw) {
            return Self::RateLimits(Box::new(updated));
        }
        if let Some(updated) = read(&raw) {
            return Self::Account(updated);
        }
        Self::Other(raw)
    }
}

/// A stream of events.
///
/// It sees what comes from the moment of its making on. A consumer that falls behind finds adjacent deltas of one item
/// merged into one. Past `Limits::max_unread_bytes` what can be done without is left out, and an [`Event::Gap`] says how much;
/// items, token counts, errors, refusals and endings are kept.
#[must_use = "events that nobody reads are kept in memory"]
pub struct Events {
    session: Arc<Session>,
    mailbox: Mailbox,
}

impl fmt::Debug for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Events").finish_non_exhaustive()
    }
}

impl Events {
    pub(crate) fn new(session: &Arc<Session>, scope: Scope) -> Self {
        let key = session.hub.read(|connection| connection.subscribe(scope));
        Self { session: Arc::clone(session), mailbox: Mailbox::new(key) }
    }

    /// The next event; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Event> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.mailbox.poll_next(&self.session.hub, cx, &WaiterId::sole()).map(|event| event.map(Event::from))
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.mailbox.close(&self.session.hub);
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Events {
    type Item = Event;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Events::poll_next(&mut self, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        envelope::RpcId,
        turn::{DeltaKind, DeltaOrigin, DiagnosticKind, RefusedWhy},
    };

    fn raw(method: &str, params: &str, turn: Option<&str>) -> RawNotification {
        RawNotification {
            method: method.into(),
            params: params.to_owned().into(),
            emitted_at_ms: None,
            thread: Some("T".into()),
            turn: turn.map(TurnId::from),
        }
    }

    fn said(method: &str, params: &str) -> Event {
        RawEvent::Notification(raw(method, params, Some("U"))).into()
    }

    fn refused(params: &str) -> Event {
        let notification = raw("item/commandExecution/requestApproval", params, Some("U"));
        RawEvent::Refused(Box::new(Refused { id: RpcId::Integer(7), notification, why: RefusedWhy::NobodyAsked }))
            .into()
    }

    #[test]
    fn an_event_says_which_thread_turn_and_item_it_is_about() {
        let message = r#"{"threadId":"T","turnId":"U","item":{"type":"agentMessage","id":"I","text":""}}"#;
        let odd = r#"{"threadId":"T","turnId":"U","item":{"type":"agentMessage","id":"I","text":5}}"#;
        let origin = DeltaOrigin { thread: "T".into(), turn: "U".into(), item: "I".into() };
        let delta = Delta {
            kind: DeltaKind::AgentMessage,
            origin: Arc::new(origin),
            index: None,
            text: "a".into(),
            merged: 0,
            raw: None,
        };
        for event in [
            RawEvent::Delta(delta).into(),
            said("item/started", message),
            said("item/completed", message),
            said("item/completed", odd),
            said("item/fileChange/patchUpdated", r#"{"threadId":"T","turnId":"U","itemId":"I","changes":[]}"#),
            refused(r#"{"threadId":"T","turnId":"U","itemId":"I"}"#),
        ] {
            assert!(event.thread_id().is_some_and(|id| *id == "T"), "{event:?}");
            assert!(event.turn_id().is_some_and(|id| *id == "U"), "{event:?}");
            assert!(event.item_id().is_some_and(|id| id == "I"), "{event:?}");
        }
        let tokens =
            r#"{"totalTokens":1,"inputTokens":1,"cachedInputTokens":0,"outputTokens":0,"reasoningOutputTokens":0}"#;
        let usage = format!(r#"{{"threadId":"T","turnId":"U","tokenUsage":{{"total":{tokens},"last":{tokens}}}}}"#);
        for event in [
            said("turn/started", r#"{"threadId":"T","turn":{"id":"U"}}"#),
            said("turn/plan/updated", r#"{"threadId":"T","turnId":"U","plan":[]}"#),
            said("error", r#"{"threadId":"T","turnId":"U","willRetry":true,"error":{"message":"m"}}"#),
            said("thread/tokenUsage/updated", &usage),
            refused(r#"{"threadId":"T","turnId":"U"}"#),
        ] {
            assert!(event.thread_id().is_some_and(|id| *id == "T"), "{event:?}");
            assert!(event.turn_id().is_some_and(|id| *id == "U"), "{event:?}");
            assert_eq!(event.item_id(), None, "{event:?}");
        }
        let whole = Event::from(RawEvent::Notification(raw("thread/closed", r#"{"threadId":"T"}"#, None)));
        assert!(whole.thread_id().is_some_and(|id| *id == "T") && whole.turn_id().is_none());
    }

    #[test]
    fn what_is_about_a_stream_or_an_account_names_no_thread() {
        let diagnostic = Diagnostic { kind: DiagnosticKind::Noise, head: "noise".into(), length: 5 };
        for event in [
            Event::Account(AccountUpdatedNotification::default()),
            RawEvent::Diagnostic(diagnostic).into(),
            RawEvent::Ended(State::Completed).into(),
            RawEvent::Gap(3).into(),
            RawEvent::Unsubscribed.into(),
        ] {
            assert_eq!((event.thread_id(), event.turn_id(), event.item_id()), (None, None, None), "{event:?}");
        }
    }
}
