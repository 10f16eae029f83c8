//! A session.

use super::{
    Clock, Events, Generation, Hub, SystemClock, Thread,
    hub::{Closed, Reply, Session, Wait},
};
use crate::{
    connection::{Config, Counters, Prepared, Scope, ServerInfo, decode_response},
    driver::{Driver, Transport},
    error::{CallError, ConnectError, Disconnect},
    id::ThreadId,
    json::Json,
    protocol::{ModelList, ModelListResponse, Request, ThreadStart},
    turn::Diagnostic,
};
use serde::Serialize;
use std::{borrow::Cow, fmt, future::poll_fn, sync::Arc, task::Poll};

/// Connects over a transport. The handshake begins when the driver is first polled; [`Codex::ready`] waits for it.
///
/// Whoever calls this must see to it that the driver is polled until it is done: as a task, or on a thread.
pub fn connect<T: Transport>(config: Config, transport: T) -> (Codex, Driver<T>) {
    connect_with_clock(config, transport, Arc::new(SystemClock::default()))
}

/// Connects over a transport, with a clock of the caller's.
pub fn connect_with_clock<T: Transport>(mut config: Config, transport: T, clock: Arc<dyn Clock>) -> (Codex, Driver<T>) {
    config.expects_exit = transport.expects_exit();
    let hub = Arc::new(Hub::new(config, clock));
    let session = Arc::new(Session { hub: Arc::clone(&hub), generation: Generation(1) });
    (Codex { session }, Driver::new(hub, transport))
}

/// A session with a Codex server.
///
/// When the last handle of a session is dropped, threads and turns included, the session is closed: the server's input
/// ends, and a process that was started for it is ended too. Dropping never blocks.
#[derive(Clone)]
pub struct Codex {
    session: Arc<Session>,
}

impl fmt::Debug for Codex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codex").field("generation", &self.session.generation).finish_non_exhaustive()
    }
}

impl Codex {
    pub(crate) fn of(session: &Arc<Session>) -> Self {
        Self { session: Arc::clone(session) }
    }

    /// The connection that calls go over.
    pub(crate) fn session(&self) -> &Arc<Session> {
        &self.session
    }

    /// Waits for the handshake (`initialize`).
    ///
    /// # Errors
    /// When the server refuses, does not answer in time, or ends; then the connection is over.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) -> Result<ServerInfo, ConnectError> {
        let hub = &self.session().hub;
        poll_fn(|cx| {
            hub.poll(cx, Wait::Link, |connection| match (connection.server(), connection.closed()) {
                (_, Some(cause)) => Poll::Ready(Err(ConnectError::Initialize(cause.clone()))),
                (Some(server), None) => Poll::Ready(Ok(server.clone())),
                (None, None) => Poll::Pending,
            })
        })
        .await
    }

    /// What the server said of itself; `None` before the handshake is done.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        self.session().hub.read(|connection| connection.server().cloned())
    }

    /// Makes any request that there is a type for.
    ///
    /// # Errors
    /// When the server answers with an error, or not in time, or with what does not fit; when the connection is over.
    ///
    /// # Cancel safety
    /// Dropping the future gives the request up: it is not sent if it was not yet, and its answer is ignored otherwise.
    pub async fn request<R: Request>(&self, params: R) -> Result<R::Response, CallError> {
        // Encoding runs the code of the params' type, so it is done before any lock is taken.
        let request = Prepared::new(&params)?;
        drop(params);
        let key = self.session().hub.command(|connection, now| connection.enter(now, request))?;
        let json = Reply::new(self.session(), key).await?;
        decode_response::<R>(&json)
    }

    /// Makes any other request.
    ///
    /// # Errors
    /// As for [`request`](Self::request); the result is not decoded.
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn request_raw<P: Serialize>(
        &self,
        method: impl Into<Cow<'static, str>>,
        params: P,
    ) -> Result<Json, CallError> {
        let request = Prepared::raw(method, &params)?;
        drop(params);
        let key = self.session().hub.command(|connection, now| connection.enter(now, request))?;
        Reply::new(self.session(), key).await
    }

    /// Starts a thread (`thread/start`).
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request): a thread whose start was already sent comes into being, and no handle has it.
    pub async fn thread_start(&self, params: ThreadStart) -> Result<Thread, CallError> {
        let response = self.request(params).await?;
        Ok(self.thread(response.thread.id))
    }

    /// A handle to a thread that this connection has started or resumed. Nothing is sent.
    #[must_use]
    pub fn thread(&self, id: impl Into<ThreadId>) -> Thread {
        Thread::new(Arc::clone(self.session()), id.into())
    }

    /// The models that can be chosen (`model/list`): the first page.
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request).
    pub async fn models(&self) -> Result<ModelListResponse, CallError> {
        self.request(ModelList::default()).await
    }

    /// Listens to what belongs to no thread, or to one that this session has nothing to do with, from now on; and to
    /// diagnostics.
    pub fn events(&self) -> Events {
        Events::new(self.session(), Scope::Connection)
    }

    /// The last diagnostics, oldest first.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.session().hub.read(|connection| connection.diagnostics().cloned().collect())
    }

    /// What was counted since the start, and what is held now.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.session().hub.read(|connection| connection.counters())
    }

    /// Which server of the session this handle belongs to.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.session().generation
    }

    /// Closes the session, for all its handles, and waits until the server is gone. What was waiting fails at once.
    ///
    /// For a process: its input is closed; if it does not end by itself it is told to terminate and in the end killed.
    /// The result says which. The wait is bounded by `Timeouts::close`.
    ///
    /// # Cancel safety
    /// The closing goes on when the future is dropped.
    pub async fn close(&self) -> Disconnect {
        self.session().close();
        self.closed().await
    }

    /// Waits until the connection is over, and says why.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> Disconnect {
        Closed(&self.session().hub).await
    }
}
