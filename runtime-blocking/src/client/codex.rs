//! A session.

use super::{Events, Thread};
use crate::wait::wait;
use serde::Serialize;
use std::borrow::Cow;
use turnwire_core::{
    client::{self, Generation},
    connection::{Counters, ServerInfo},
    error::{CallError, ConnectError, Disconnect},
    id::ThreadId,
    json::Json,
    protocol::{ModelListResponse, Request, ThreadStart},
    turn::Diagnostic,
};

/// A session with a Codex server. See [`turnwire_core::client::Codex`].
#[derive(Clone, Debug)]
pub struct Codex {
    pub(crate) inner: client::Codex,
}

impl Codex {
    pub(crate) fn new(inner: client::Codex) -> Self {
        Self { inner }
    }

    /// Waits for the handshake (`initialize`), and starts the server first if there is none yet.
    ///
    /// # Errors
    /// When there is no server to start, or it refuses, does not answer in time, or ends; then the connection is over.
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
    /// diagnostics. The stream ends with the server of now: after a restart, ask for another.
    pub fn events(&self) -> Events {
        Events::new(self.inner.events())
    }

    /// The last diagnostics, oldest first.
    #[must_use]
    pub fn diagnostics(&self) -> Vec<Diagnostic> {
        self.inner.diagnostics()
    }

    /// What was counted on the connection of now since it began, and what it holds. Another server begins anew; see
    /// [`generation`](Self::generation).
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.inner.counters()
    }

    /// Which server of the session calls went to last: the first, or one that took the place of one that died.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.inner.generation()
    }

    /// Closes the session, for all its handles and for good, and waits until the server is gone. What was waiting fails at
    /// once.
    ///
    /// For a process: its input is closed; if it does not end by itself it is told to terminate and in the end killed.
    /// The result says which. The wait is bounded by `Timeouts::close`; by `Timeouts::drain` beside that, if the
    /// server had ended the connection before.
    pub fn close(&self) -> Disconnect {
        wait(self.inner.close())
    }

    /// Waits until the connection is over, and says why. It does not start a server that was not started yet.
    pub fn closed(&self) -> Disconnect {
        wait(self.inner.closed())
    }
}
