//! The client without async: each method waits for the method of the same name.

use crate::wait::wait;
use serde::Serialize;
use std::{borrow::Cow, future::poll_fn};
use turnwire_core::{
    client::{self, Event, Generation, Input, TurnRequest},
    connection::{Counters, ServerInfo},
    error::{CallError, ConnectError, Disconnect, SteerError, TurnError},
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{ModelListResponse, Request, ThreadResume, ThreadStart},
    turn::{Diagnostic, InterruptOutcome, State, TurnResult},
};

/// A session with a Codex server. See [`turnwire_core::client::Codex`].
#[derive(Clone, Debug)]
pub struct Codex {
    inner: client::Codex,
}

impl Codex {
    pub(crate) fn new(inner: client::Codex) -> Self {
        Self { inner }
    }

    /// Waits for the handshake (`initialize`).
    ///
    /// # Errors
    /// When the server refuses, does not answer in time, or ends; then the connection is over.
    pub fn ready(&self) -> Result<ServerInfo, ConnectError> {
        wait(self.inner.ready())
    }

    /// What the server said of itself; `None` before the handshake is done.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        self.inner.server()
    }

    /// Makes any request that there is a type for.
    ///
    /// # Errors
    /// When the server answers with an error, or not in time, or with what does not fit; when the connection is over.
    pub fn request<R: Request>(&self, params: R) -> Result<R::Response, CallError> {
        wait(self.inner.request(params))
    }

    /// Makes any other request.
    ///
    /// # Errors
    /// As for [`request`](Self::request); the result is not decoded.
    pub fn request_raw<P: Serialize>(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: P,
    ) -> Result<Json, CallError> {
        wait(self.inner.request_raw(method, params))
    }

    /// Starts a thread (`thread/start`).
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn thread_start(&self, params: ThreadStart) -> Result<Thread, CallError> {
        wait(self.inner.thread_start(params)).map(Thread::new)
    }

    /// Loads a stored thread and subscribes to it (`thread/resume`).
    ///
    /// # Errors
    /// As for [`request`](Self::request). No thread is ever started instead.
    pub fn thread_resume(&self, params: ThreadResume) -> Result<Thread, CallError> {
        wait(self.inner.thread_resume(params)).map(Thread::new)
    }

    /// A handle to a thread that this connection has started or resumed. Nothing is sent.
    #[must_use]
    pub fn thread(&self, id: impl Into<ThreadId>) -> Thread {
        Thread::new(self.inner.thread(id))
    }

    /// The models that can be chosen (`model/list`): the first page.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    pub fn models(&self) -> Result<ModelListResponse, CallError> {
        wait(self.inner.models())
    }

    /// Listens to what belongs to no thread, or to one that this session has nothing to do with, from now on; and to
    /// diagnostics.
    pub fn events(&self) -> Events {
        Events { inner: self.inner.events() }
    }

    /// The last diagnostics, oldest first.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.inner.diagnostics()
    }

    /// What was counted since the start, and what is held now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.inner.counters()
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.generation()
    }

    /// Closes the session, for all its handles, and waits until the server is gone. What was waiting fails at once.
    ///
    /// For a process: its input is closed; if it does not end by itself it is told to terminate and in the end killed.
    /// The result says which. The wait is bounded by `Timeouts::close`.
    pub fn close(&self) -> Disconnect {
        wait(self.inner.close())
    }

    /// Waits until the connection is over, and says why.
    pub fn closed(&self) -> Disconnect {
        wait(self.inner.closed())
    }
}

/// A thread: a conversation with the agent. See [`turnwire_core::client::Thread`].
#[derive(Clone, Debug)]
pub struct Thread {
    inner: client::Thread,
}

impl Thread {
    fn new(inner: client::Thread) -> Self {
        Self { inner }
    }

    /// The server's name for it.
    #[must_use]
    pub fn id(&self) -> &ThreadId {
        self.inner.id()
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.generation()
    }

    /// The session.
    #[must_use]
    pub fn codex(&self) -> Codex {
        Codex::new(self.inner.codex())
    }

    /// Runs a turn from its start to its end, and says what it produced (`turn/start`).
    ///
    /// Without a deadline in the request, this waits as long as the turn takes.
    ///
    /// # Errors
    /// When the turn does not start, or ends in any other way than completed or interrupted. What it produced is with
    /// the error.
    pub fn run(&self, request: impl Into<TurnRequest>) -> Result<TurnResult, TurnError> {
        wait(self.inner.run(request))
    }

    /// Starts a turn and waits until the server has named it (`turn/start`). Its events are kept for [`Turn::next`] from
    /// the first one on.
    ///
    /// # Errors
    /// When the turn does not start: [`TurnError::Busy`] or [`TurnError::Start`]; or when its deadline passes before the
    /// server has named it: [`TurnError::TimedOut`].
    pub fn turn(&self, request: impl Into<TurnRequest>) -> Result<Turn, TurnError> {
        wait(self.inner.turn(request)).map(|inner| Turn { inner })
    }

    /// Listens to everything about the thread from now on: its own events, and those of its turns, whoever started them.
    pub fn events(&self) -> Events {
        Events { inner: self.inner.events() }
    }
}

/// A turn that the server has taken. See [`turnwire_core::client::Turn`].
#[derive(Clone, Debug)]
pub struct Turn {
    inner: client::Turn,
}

impl Turn {
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

    /// The next event; `None` after the last, which is [`Event::Ended`].
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
        Events { inner: self.inner.subscribe() }
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

/// A stream of events, as an iterator. See [`turnwire_core::client::Events`].
#[derive(Debug)]
#[must_use = "events that nobody reads are kept in memory"]
pub struct Events {
    inner: client::Events,
}

impl Iterator for Events {
    type Item = Event;

    /// The next event; `None` when there will be no more.
    fn next(&mut self) -> Option<Event> {
        wait(poll_fn(|cx| self.inner.poll_next(cx)))
    }
}
