//! One exchange.

use super::Events;
use crate::wait::wait;
use turnwire_core::{
    client::{self, Event, Generation, Input},
    error::{CallError, SteerError, TurnError},
    id::{ThreadId, TurnId},
    turn::{InterruptOutcome, State, TurnResult},
};

/// A turn that the server has taken. See [`turnwire_core::client::Turn`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Turn {
    pub(crate) inner: client::Turn,
}

impl Turn {
    pub(crate) fn new(inner: client::Turn) -> Self {
        Self { inner }
    }

    /// The server's name for it.
    #[must_use]
    pub fn id(&self) -> Option<TurnId> {
        self.inner.id()
    }

    /// The thread that it belongs to.
    #[must_use]
    pub fn thread_id(&self) -> &ThreadId {
        self.inner.thread_id()
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.generation()
    }

    /// Where it stands.
    #[must_use]
    pub fn state(&self) -> State {
        self.inner.state()
    }

    /// Whether the input joined a turn that ran already, so that its events, its end and its tokens are that turn's. That is
    /// known only of turns that began while this session listened to the thread; of others this says no.
    #[must_use]
    pub fn has_joined(&self) -> bool {
        self.inner.has_joined()
    }

    /// The next event; `None` after the last, which is [`Event::Ended`]. Blocks until there is one; another thread that
    /// interrupts the turn or closes the session ends that.
    #[must_use]
    pub fn next(&self) -> Option<Event> {
        wait(self.inner.next())
    }

    /// The events as an iterator: the same as calling [`next`](Self::next) again and again.
    pub fn events(&self) -> impl Iterator<Item = Event> + use<'_> {
        std::iter::from_fn(|| self.next())
    }

    /// A reader of its own, for what comes from now on.
    pub fn subscribe(&self) -> Events {
        Events::new(self.inner.subscribe())
    }

    /// Waits for the end and says what the turn produced. May be called again, and by several.
    ///
    /// # Errors
    /// When the turn ends in any other way than completed or interrupted. What it produced is with the error.
    pub fn result(&self) -> Result<TurnResult, TurnError> {
        wait(self.inner.result())
    }

    /// Gives the running turn more input (`turn/steer`), and returns the id of the turn that took it.
    ///
    /// # Errors
    /// [`SteerError::Ended`] when the turn is over, and others; then the input was not taken, unless it is a
    /// [`SteerError::Call`] whose delivery is `Sent`.
    pub fn steer(&self, input: impl Into<Input>) -> Result<TurnId, SteerError> {
        wait(self.inner.steer(input))
    }

    /// Asks the server to end the turn (`turn/interrupt`) and waits until it has taken that. The end itself comes as
    /// [`Event::Ended`] and in [`result`](Self::result). Calls join: the server is asked once.
    ///
    /// # Errors
    /// When the server refuses, does not answer within `Timeouts::interrupt`, or the connection ends.
    pub fn interrupt(&self) -> Result<InterruptOutcome, CallError> {
        wait(self.inner.interrupt())
    }
}
