//! A session.

use super::{
    Clock, Events, Generation, SystemClock, Thread,
    hub::{Reply, Session},
    session::Supervisor,
    threads::ask,
    waiting::Wait,
};
use crate::{
    connection::{Config, Connection, Counters, Prepared, Scope, ServerInfo, decode_response},
    driver::{Driver, Transport},
    error::{CallError, ConnectError, Disconnect},
    id::ThreadId,
    json::Json,
    protocol::{ModelList, ModelListResponse, Request, ThreadStart},
    turn::Diagnostic,
};
use serde::Serialize;
use std::{borrow::Cow, fmt, sync::Arc, task::Poll};

/// Connects over a transport. The handshake begins when the driver is first polled; [`Codex::ready`] waits for it.
///
/// Whoever calls this must see to it that the driver is polled until it is done: as a task, or on a thread.
pub fn connect<T: Transport>(config: Config, transport: T) -> (Codex, Driver<T>) {
    connect_with_clock(config, transport, Arc::new(SystemClock::default()))
}

/// Connects over a transport, with a clock of the caller's.
pub fn connect_with_clock<T: Transport>(config: Config, transport: T, clock: Arc<dyn Clock>) -> (Codex, Driver<T>) {
    let (supervisor, hub) = Supervisor::over(config, &transport, clock);
    (Codex { supervisor }, Driver::new(hub, transport))
}

/// A session with a Codex server.
///
/// A session that was made lazily has no server before the first call that needs one: [`ready`](Self::ready), a request, a
/// turn, the next event of a stream. With a [`RestartPolicy`](crate::connection::RestartPolicy) in its configuration a
/// server that died is replaced by the next such call on this handle; [`generation`](Self::generation) then rises. Threads,
/// turns and streams stay with the server that they came from, and say so once it was replaced
/// ([`Fault::Stale`](crate::error::Fault::Stale)).
///
/// When the last handle of a session is dropped, threads and turns included, the session is closed: the server's input
/// ends, and a process that was started for it is ended too. Dropping never blocks.
#[derive(Clone)]
pub struct Codex {
    supervisor: Arc<Supervisor>,
}

impl fmt::Debug for Codex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Codex").field("generation", &self.generation()).finish_non_exhaustive()
    }
}

impl Codex {
    pub(crate) fn of(session: &Arc<Session>) -> Self {
        Self::from_supervisor(Arc::clone(&session.supervisor))
    }

    pub(crate) fn from_supervisor(supervisor: Arc<Supervisor>) -> Self {
        Self { supervisor }
    }

    /// The connection that calls go over. If its server died and is to be replaced, that of its successor, which the first
    /// request will start.
    pub(crate) fn session(&self) -> Arc<Session> {
        self.supervisor.renewed()
    }

    /// The connection that calls went over last: for looking only.
    pub(super) fn latest(&self) -> Arc<Session> {
        self.supervisor.current()
    }

    /// Waits for the handshake (`initialize`), and starts the server first if there is none yet.
    ///
    /// # Errors
    /// When there is no server to start, or it refuses, does not answer in time, or ends; then the connection is over.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn ready(&self) -> Result<ServerInfo, ConnectError> {
        let session = self.session();
        let hub = &session.hub;
        hub.begin();
        hub.wait(Wait::Link, |connection| match (connection.server(), connection.closed()) {
            (_, Some(cause)) => Poll::Ready(Err(ConnectError::of(cause.clone()))),
            (Some(server), None) => Poll::Ready(Ok(server.clone())),
            (None, None) => Poll::Pending,
        })
        .await
    }

    /// What the server said of itself; `None` before the handshake is done.
    #[must_use]
    pub fn server(&self) -> Option<ServerInfo> {
        self.latest().hub.read(|connection| connection.server().cloned())
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
        let session = self.session();
        let key = session.hub.command(|connection, now| connection.enter(now, request))?;
        let json = Reply::new(&session, key).await?;
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
        let session = self.session();
        let key = session.hub.command(|connection, now| connection.enter(now, request))?;
        Reply::new(&session, key).await
    }

    /// Starts a thread (`thread/start`).
    ///
    /// # Errors
    /// As for [`request`](Self::request).
    ///
    /// # Cancel safety
    /// As for [`request`](Self::request): a thread whose start was already sent comes into being, and no handle has it.
    pub async fn thread_start(&self, params: ThreadStart) -> Result<Thread, CallError> {
        // The thread is that server's, whoever has taken its place when the answer is heard of.
        let session = self.session();
        let response = ask(&session, params).await?;
        Ok(Thread::new(session, response.thread.id))
    }

    /// A handle to a thread that this connection has started or resumed. Nothing is sent.
    #[must_use]
    pub fn thread(&self, id: impl Into<ThreadId>) -> Thread {
        Thread::new(self.session(), id.into())
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
    /// diagnostics. The stream ends with the server of now: after a restart, ask for another.
    pub fn events(&self) -> Events {
        Events::new(&self.session(), Scope::Connection)
    }

    /// The last diagnostics, oldest first.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.latest().hub.read(|connection| connection.diagnostics().cloned().collect())
    }

    /// What was counted on the connection of now since it began, and what it holds. Another server begins anew; see
    /// [`generation`](Self::generation).
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.latest().hub.read(|connection| connection.counters())
    }

    /// Which server of the session calls went to last: the first, or one that took the place of one that died.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.latest().generation
    }

    /// Closes the session, for all its handles and for good, and waits until the server is gone. What was waiting fails at
    /// once.
    ///
    /// For a process: its input is closed; if it does not end by itself it is told to terminate and in the end killed.
    /// The result says which. The wait is bounded by `Timeouts::close`; by `Timeouts::drain` beside that, if the server had ended
    /// the connection before. It needs that whatever runs the driver of this session goes on running: the runtime that it was
    /// made in.
    ///
    /// # Cancel safety
    /// The closing goes on when the future is dropped.
    pub async fn close(&self) -> Disconnect {
        self.supervisor.close();
        self.latest().hub.gone().await
    }

    /// Waits until the connection is over, and says why. It does not start a server that was not started yet, and does not wait
    /// for a process that is slow to end; [`close`](Self::close) does.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn closed(&self) -> Disconnect {
        let session = self.latest();
        let look = |connection: &mut Connection| match connection.closed() {
            Some(cause) => Poll::Ready(cause.clone()),
            None => Poll::Pending,
        };
        session.hub.wait(Wait::Link, look).await
    }
}
