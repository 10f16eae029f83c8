//! One exchange.

use super::{
    Event, Events, Generation,
    hub::{Mailbox, Reply, Session, Wait, release_turn},
    trace,
};
use crate::{
    connection::{Prepared, Scope, TurnOptions, decode_response, steered},
    error::{CallError, SteerError, TurnError},
    id::{ThreadId, TurnId},
    protocol::{TurnStart, TurnSteer, UserInput},
    turn::{InterruptOutcome, State, TurnKey, TurnResult},
};
use std::{
    fmt,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    time::Duration,
};

/// What a turn is started with: an input, and what else there is to say.
///
/// ```
/// # use turnwire_core::client::TurnRequest;
/// # use std::time::Duration;
/// let plain: TurnRequest = "Explain this repository.".into();
/// let bounded = TurnRequest::new("Fix the build.").deadline(Duration::from_secs(600));
/// ```
#[derive(Clone, Debug)]
#[must_use]
pub struct TurnRequest {
    params: TurnStart,
    options: TurnOptions,
}

impl TurnRequest {
    /// A turn with this input.
    pub fn new(input: impl Into<Input>) -> Self {
        Self { params: TurnStart::new("", input.into().0), options: TurnOptions::default() }
    }

    /// How long the turn may take from its start. Past that it ends as timed out, the server is told to stop it, and the
    /// thread stays busy until it has.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.options = self.options.deadline(deadline);
        self
    }

    /// Sets any other params of `turn/start`. Note that overrides of the model, the sandbox and the like stay with the
    /// thread for its later turns.
    pub fn with(mut self, set: impl FnOnce(TurnStart) -> TurnStart) -> Self {
        self.params = set(self.params);
        self
    }
}

impl TurnRequest {
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
}

/// The input of a turn: a text, one item, or several.
#[derive(Clone, Debug, Default)]
pub struct Input(pub(crate) Vec<UserInput>);

impl From<&str> for Input {
    fn from(text: &str) -> Self {
        Self(vec![UserInput::text(text)])
    }
}

impl From<String> for Input {
    fn from(text: String) -> Self {
        Self(vec![UserInput::text(text)])
    }
}

impl From<UserInput> for Input {
    fn from(item: UserInput) -> Self {
        Self(vec![item])
    }
}

impl From<Vec<UserInput>> for Input {
    fn from(items: Vec<UserInput>) -> Self {
        Self(items)
    }
}

impl<T: Into<Input>> From<T> for TurnRequest {
    fn from(input: T) -> Self {
        Self::new(input)
    }
}

/// A turn that the server has taken.
///
/// A handle: clones are the same turn and share one reading position, so that two that call [`next`](Self::next) share
/// the events between them. [`subscribe`](Self::subscribe) makes a reader of its own. When the last clone is dropped the
/// turn runs on; what it produces is not kept here, and its thread stays busy until it ends.
#[derive(Clone)]
pub struct Turn {
    inner: Arc<Inner>,
}

struct Inner {
    session: Arc<Session>,
    key: TurnKey,
    thread: ThreadId,
    /// `None` if nobody asked for events.
    events: Option<Mutex<Mailbox>>,
    result: Mutex<Option<Result<TurnResult, TurnError>>>,
    trace: trace::Turn,
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
        let TurnRequest { mut params, options } = request;
        params.thread_id = thread.clone();
        let request = Prepared::new(&params).map_err(TurnError::Start)?;
        drop(params);
        let (key, events) = session.hub.command(|connection, now| {
            let key = connection.enter_turn(now, thread.clone(), request, &options)?;
            Ok::<_, TurnError>((key, with_events.then(|| connection.subscribe(Scope::Turn(key)))))
        })?;
        // From here on the turn is released on every way out.
        Ok(Self {
            inner: Arc::new(Inner {
                session: Arc::clone(session),
                key,
                thread: thread.clone(),
                events: events.map(|key| Mutex::new(Mailbox::new(key))),
                result: Mutex::new(None),
                trace: trace::Turn::new(&session.hub, thread),
            }),
        })
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
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event, for those who poll.
    pub fn poll_next(&self, cx: &mut Context<'_>) -> Poll<Option<Event>> {
        let Some(events) = &self.inner.events else { return Poll::Ready(None) };
        let mut mailbox = events.lock().unwrap_or_else(PoisonError::into_inner);
        let found = mailbox.poll_next(&self.inner.session.hub, cx);
        drop(mailbox);
        found.map(|event| event.map(Event::from))
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
        poll_fn(|cx| self.poll_result(cx)).await
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
        let Inner { session, key, .. } = &*self.inner;
        let input = input.into().0;
        let pending = session.hub.command(|connection, now| connection.steer(now, *key, input))?;
        let outcome = Reply::new(session, pending.key()).await;
        let expected = self.id().unwrap_or_else(|| "".into());
        steered(outcome.and_then(|json| decode_response::<TurnSteer>(&json)), &expected)
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
        poll_fn(|cx| {
            session.hub.poll(cx, Wait::Turn(*key), |connection| match connection.interrupt_outcome(*key) {
                Some(outcome) => Poll::Ready(outcome),
                None if connection.turn_state(*key).is_none() => Poll::Ready(Ok(InterruptOutcome::AlreadyEnded)),
                None => Poll::Pending,
            })
        })
        .await
    }

    /// Waits until the server has named the turn.
    pub(crate) async fn accepted(&self) -> Result<(), TurnError> {
        let Inner { session, key, .. } = &*self.inner;
        let state = poll_fn(|cx| {
            session.hub.poll(cx, Wait::Turn(*key), |connection| match connection.turn_state(*key) {
                Some(State::Starting) => Poll::Pending,
                state => Poll::Ready(state),
            })
        })
        .await;
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

    fn poll_result(&self, cx: &Context<'_>) -> Poll<Result<TurnResult, TurnError>> {
        let Inner { session, key, result, trace, .. } = &*self.inner;
        let mut result = result.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(result) = &*result {
            return Poll::Ready(result.clone());
        }
        let found = session.hub.poll(cx, Wait::Turn(*key), |connection| match connection.take_report(*key) {
            Some(report) => Poll::Ready(report),
            None => Poll::Pending,
        });
        let Poll::Ready(report) = found else { return Poll::Pending };
        let decoded = match report {
            Ok(report) => report.into_result(),
            Err(error) => Err(TurnError::Start(error)),
        };
        trace.ended(session.hub.read(|connection| connection.turn_state(*key)).unwrap_or(State::Lost));
        *result = Some(decoded.clone());
        Poll::Ready(decoded)
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(events) = &mut self.events {
            events.get_mut().unwrap_or_else(PoisonError::into_inner).close(&self.session.hub);
        }
        release_turn(&self.session.hub, self.key);
    }
}
