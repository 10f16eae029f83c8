//! One exchange.

use super::{
    Event, Events, Generation, Input, TurnRequest,
    hub::{Mailbox, Session, drop_turn},
    thread_turns::steer_ours,
    trace,
    waiting::{Wait, WaiterId, Waiting},
};
use crate::{
    connection::{Connection, Prepared, Scope},
    error::{CallError, Fault, SteerError, TurnError},
    id::{ThreadId, TurnId},
    turn::{InputError, InterruptOutcome, NO_REMOTE_IMAGES_SINCE, State, SubscriptionKey, TurnKey, TurnResult},
};
use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
};

/// A turn that the server has taken.
///
/// A handle: clones are the same turn and share one reading position, so that two that call [`next`](Self::next) share
/// the events between them. That position begins with the first event of the turn, or for a turn that was attached to with
/// the first one after that. [`subscribe`](Self::subscribe) makes a reader of its own, which begins where the turn is then.
///
/// When the last clone is dropped before the end, what happens is what the request's
/// [`on_drop`](super::TurnRequest::on_drop) says: unless told otherwise the turn runs on. What it produces is not kept here
/// then, and its thread stays busy until it ends; [`Thread::stop`](super::Thread::stop) still ends it, and
/// [`Thread::attach`](super::Thread::attach) takes it up again.
pub struct Turn {
    inner: Arc<Inner>,
    /// Who waits for events by polling this handle.
    poller: WaiterId,
}

impl Clone for Turn {
    fn clone(&self) -> Self {
        Self { inner: Arc::clone(&self.inner), poller: WaiterId::default() }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        if let Some(Reading { key, .. }) = &self.inner.events {
            self.inner.session.hub.leave(Wait::Subscription(*key), &self.poller);
        }
    }
}

/// Handles are equal if they are of the same turn.
impl PartialEq for Turn {
    fn eq(&self, other: &Self) -> bool {
        self.inner.key == other.inner.key && Arc::ptr_eq(&self.inner.session.hub, &other.inner.session.hub)
    }
}

impl Eq for Turn {}

struct Inner {
    session: Arc<Session>,
    key: TurnKey,
    thread: ThreadId,
    /// `None` if nobody asked for events.
    events: Option<Reading>,
    result: Mutex<Option<Result<TurnResult, TurnError>>>,
    trace: trace::Turn,
}

/// The reading position that all clones share.
struct Reading {
    key: SubscriptionKey,
    mailbox: Mutex<Mailbox>,
}

impl fmt::Debug for Turn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turn").field("thread", &self.inner.thread).field("id", &self.id()).finish_non_exhaustive()
    }
}

impl Turn {
    /// Starts a turn and waits until the server has named it.
    pub(crate) async fn start(
        session: &Arc<Session>,
        thread: &ThreadId,
        request: TurnRequest,
        with_events: bool,
    ) -> Result<Self, TurnError> {
        let turn = Self::enter(session, thread, request, with_events)?;
        turn.accepted().await?;
        Ok(turn)
    }

    /// Starts a turn.
    pub(crate) fn enter(
        session: &Arc<Session>,
        thread: &ThreadId,
        request: TurnRequest,
        with_events: bool,
    ) -> Result<Self, TurnError> {
        request.check().map_err(TurnError::Input)?;
        let has_remote_image = request.has_remote_image();
        let TurnRequest { mut params, mut options, asks_in_stream, .. } = request;
        params.thread_id = thread.clone();
        options.take_sandbox(&mut params);
        let request = Prepared::new(&params).map_err(TurnError::Start)?;
        drop(params);
        let (key, events) = session.hub.command(|connection, now| {
            if has_remote_image && !connection.may_be_older_than(NO_REMOTE_IMAGES_SINCE) {
                return Err(TurnError::Input(InputError::RemoteImage));
            }
            let key = connection.enter_turn(now, thread.clone(), request, &options)?;
            let events = with_events.then(|| connection.subscribe(Scope::Turn(key)));
            if let Some(reader) = events {
                connection.ask_reader(key, reader, asks_in_stream);
            }
            Ok::<_, TurnError>((key, events))
        })?;
        // From here on the turn is released on every way out.
        Ok(Self::of(session, key, thread, events))
    }

    /// The handle to a turn that is held, which lets go of it when it is dropped.
    pub(super) fn of(session: &Arc<Session>, key: TurnKey, thread: &ThreadId, events: Option<SubscriptionKey>) -> Self {
        Self {
            inner: Arc::new(Inner {
                session: Arc::clone(session),
                key,
                trace: trace::Turn::new(&session.hub, thread),
                thread: thread.clone(),
                events: events.map(|key| Reading { key, mailbox: Mutex::new(Mailbox::new(key)) }),
                result: Mutex::new(None),
            }),
            poller: WaiterId::default(),
        }
    }

    /// Waits until the server has named the turn, and its thread if that is another.
    pub(super) async fn named(mut self) -> Result<Self, TurnError> {
        self.accepted().await?;
        let key = self.inner.key;
        let thread = self.inner.session.hub.read(|connection| connection.turn_thread(key).cloned());
        // Nobody else has the handle yet.
        if let (Some(thread), Some(inner)) = (thread, Arc::get_mut(&mut self.inner)) {
            inner.thread = thread;
        }
        Ok(self)
    }

    pub(super) fn parts(&self) -> (&Arc<Session>, TurnKey) {
        (&self.inner.session, self.inner.key)
    }

    /// Whether anything was heard of it, though its start may never have been answered.
    pub(crate) fn was_seen(&self) -> bool {
        let Inner { session, key, .. } = &*self.inner;
        session.hub.read(|connection| connection.turn_was_seen(*key))
    }

    /// The server's name for it.
    #[must_use]
    pub fn id(&self) -> Option<TurnId> {
        let Inner { session, key, .. } = &*self.inner;
        session.hub.read(|connection| connection.turn_id(*key).cloned())
    }

    /// The thread that it belongs to.
    #[must_use]
    pub fn thread_id(&self) -> &ThreadId {
        &self.inner.thread
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.session.generation
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        let Inner { session, key, .. } = &*self.inner;
        session.hub.read(|connection| connection.turn_state(*key)).unwrap_or(State::Lost)
    }

    /// Whether the input joined a turn that ran already, so that its events, its end and its tokens are that turn's. That is
    /// known only of turns that began while this session listened to the thread; of others this says no.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        let Inner { session, key, .. } = &*self.inner;
        session.hub.read(|connection| connection.turn_joined(*key))
    }

    /// The next event; `None` after the last, which is [`Event::Ended`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&self) -> Option<Event> {
        let reading = self.inner.events.as_ref()?;
        let waiting = Waiting::new(&self.inner.session.hub, Wait::Subscription(reading.key));
        poll_fn(|cx| self.inner.poll_event(cx, &waiting.id)).await
    }

    /// The next event, for those who poll. Each handle has the waker of its latest poll woken; clones are polled independently
    /// of each other.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        self.inner.poll_event(cx, &self.poller)
    }

    /// The session, and the reading position that all clones share, if it has one; and who polls this handle.
    pub(super) fn reading(&self) -> Option<(&Arc<Session>, &Mutex<Mailbox>, &WaiterId)> {
        Some((&self.inner.session, &self.inner.events.as_ref()?.mailbox, &self.poller))
    }

    /// The next of the events that were taken out for it; and whether it was the last of them, so far.
    pub(super) fn poll_taken(&self) -> (Poll<Option<Event>>, bool) {
        let Some(Reading { key, mailbox }) = &self.inner.events else { return (Poll::Ready(None), false) };
        let (found, is_last) = mailbox.lock().unwrap_or_else(PoisonError::into_inner).poll_taken();
        (found.map(|event| event.map(|event| Event::for_reader(event, &self.inner.session.hub, *key))), is_last)
    }

    /// A reader of its own, for what comes from now on.
    pub fn subscribe(&self) -> Events {
        Events::new(&self.inner.session, Scope::Turn(self.inner.key))
    }

    /// Waits for the end and says what the turn produced. May be called again, and by several.
    ///
    /// # Errors
    /// When the turn ends in any other way than completed or interrupted. What it produced is with the error.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn result(&self) -> Result<TurnResult, TurnError> {
        let waiting = Waiting::new(&self.inner.session.hub, Wait::Turn(self.inner.key));
        poll_fn(|cx| self.inner.poll_result(cx, &waiting)).await
    }

    /// Gives the running turn more input (`turn/steer`), and returns the id of the turn that took it.
    ///
    /// # Errors
    /// [`SteerError::Ended`] when the turn is over, and others; then the input was not taken, unless it is a
    /// [`SteerError::Call`] whose delivery is `Sent`.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the input sent.
    pub async fn steer(&self, input: impl Into<Input>) -> Result<TurnId, SteerError> {
        let input = input.into().for_steering().map_err(SteerError::Input)?;
        steer_ours(&self.inner.session, self.inner.key, input).await
    }

    /// Asks the server to end the turn (`turn/interrupt`) and waits until it has taken that. The end itself comes as
    /// [`Event::Ended`] and in [`result`](Self::result). Calls join: the server is asked once.
    ///
    /// # Errors
    /// When the server refuses, does not answer within `Timeouts::interrupt`, or the connection ends.
    ///
    /// # Cancel safety
    /// The interrupt goes on when the future is dropped.
    pub async fn interrupt(&self) -> Result<InterruptOutcome, CallError> {
        let Inner { session, key, .. } = &*self.inner;
        // The turn is not released while this handle lives, so it is known.
        let _ = session.hub.command(|connection, now| connection.interrupt(now, *key));
        interrupted(session, *key).await
    }

    /// Waits until the server has named the turn.
    pub(crate) async fn accepted(&self) -> Result<(), TurnError> {
        let Inner { session, key, .. } = &*self.inner;
        let is_named = |connection: &mut Connection| match connection.turn_state(*key) {
            Some(State::Queued | State::Starting) => Poll::Pending,
            state => Poll::Ready(state),
        };
        let state = session.hub.wait(Wait::Turn(*key), is_named).await;
        self.inner.trace.named(self.id().as_ref());
        match state {
            // Whatever else it is, an end included, is for events and result to tell.
            Some(State::Running | State::Interrupting | State::Completed | State::Failed | State::Interrupted) => {
                Ok(())
            }
            Some(State::UnknownStatus) => Ok(()),
            _ => self.result().await.map(drop),
        }
    }
}

impl Inner {
    /// The next event, for one of those who wait for it.
    fn poll_event(&self, cx: &Context<'_>, id: &WaiterId) -> Poll<Option<Event>> {
        let Some(Reading { key, mailbox }) = &self.events else { return Poll::Ready(None) };
        let found = mailbox.lock().unwrap_or_else(PoisonError::into_inner).poll_next(&self.session.hub, cx, id);
        found.map(|event| event.map(|event| Event::for_reader(event, &self.session.hub, *key)))
    }

    fn poll_result(&self, cx: &Context<'_>, waiting: &Waiting<'_>) -> Poll<Result<TurnResult, TurnError>> {
        let Self { session, key, result, trace, .. } = self;
        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = &*result {
            return Poll::Ready(result.clone());
        }
        let found = waiting.poll(cx, |connection| match connection.take_report(*key) {
            Some(report) => Poll::Ready(report),
            None => Poll::Pending,
        });
        let Poll::Ready(report) = found else { return Poll::Pending };
        let decoded = match report {
            Ok(report) => report.into_result(),
            Err(CallError { fault: Fault::Relaxes(relaxation), .. }) => Err(TurnError::Relaxes(relaxation)),
            Err(error) => Err(InputError::of(&error).map_or(TurnError::Start(error), TurnError::Input)),
        };
        trace.ended(session.hub.read(|connection| connection.turn_state(*key)).unwrap_or(State::Lost));
        *result = Some(decoded.clone());
        Poll::Ready(decoded)
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Turn {
    type Item = Event;

    fn poll_next(self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        Turn::poll_next(&self, cx)
    }
}

/// What came of the interrupt of a turn that is held.
pub(super) async fn interrupted(session: &Session, key: TurnKey) -> Result<InterruptOutcome, CallError> {
    let look = |connection: &mut Connection| match connection.interrupt_outcome(key) {
        Some(outcome) => Poll::Ready(outcome),
        None if connection.turn_state(key).is_none() => Poll::Ready(Ok(InterruptOutcome::AlreadyEnded)),
        None => Poll::Pending,
    };
    session.hub.wait(Wait::Turn(key), look).await
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(events) = &mut self.events {
            events.mailbox.get_mut().unwrap_or_else(PoisonError::into_inner).close(&self.session.hub);
        }
        drop_turn(&self.session.hub, self.key);
    }
}
