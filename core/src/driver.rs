//! The one loop that moves bytes.
//!
//! A [`Driver`] is a future that owns a [`Transport`]: it reads, writes, keeps time and watches the process, and tells
//! the connection. It is done when the connection is over and the process, if there is one, has ended or was given up. It
//! knows no runtime; a runtime supplies the transport, and something to poll the driver.
//!
//! It reads while it writes, so two peers that both write first do not block each other. Its work in one poll is
//! bounded; then it asks to be polled again, so that others get their turn. What a transport took only in part is kept
//! and written on. Dropping it fails everything that waits.

use crate::{
    client::{Hub, StartTimings},
    connection::TimeoutReason,
    error::{Disconnect, DisconnectReason},
    launch::ExitReport,
    time::Time,
};
use std::{
    fmt,
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// How many bytes are read at once, at first.
const READ_CHUNK: usize = 64 * 1024;

/// How many bytes are read at once from a server that fills what it is given.
const MAX_READ_CHUNK: usize = 256 * 1024;

/// How many rounds one poll may take.
const ROUNDS: usize = 16;

/// How often is read before something is given up for its deadline: what the server has said in time may lie there unread,
/// if whoever polls the driver was late.
const READS_BEFORE_TIMEOUT: usize = 16;

/// What a runtime supplies: two streams of bytes, a timer, and the end of the process if there is one.
///
/// Each method registers the waker of `cx` before it returns `Pending`, as futures do.
pub trait Transport {
    /// Reads into `buffer`; 0 is the end.
    ///
    /// # Errors
    /// Ends the connection.
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>>;

    /// Writes a part of `bytes`, at least one.
    ///
    /// # Errors
    /// Ends the connection, once what the server still has to say was read.
    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>>;

    /// Passes on what was written. Called after each writing until it is ready.
    ///
    /// # Errors
    /// As for [`poll_write`](Self::poll_write).
    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>>;

    /// Closes the writing side, and begins to end the process, if there is one. Called until it is ready; nothing is
    /// written after. Failures are of no interest.
    fn poll_close_write(&mut self, cx: &mut Context<'_>) -> Poll<()>;

    /// Ready at or after this time on the clock of the connection; never, if there is none.
    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: Option<Time>) -> Poll<()>;

    /// Ready once, when the process has ended. Never, if there is none.
    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<ExitReport>;

    /// Whether there is a process.
    fn expects_exit(&self) -> bool;

    /// What is known of the process now, for errors that cannot wait for its end.
    fn evidence(&self) -> Option<ExitReport>;

    /// What begins to end the process, if there is one, from any thread and without waiting. It is called when the connection
    /// is over, whether or not anybody polls the driver then. It must not keep the process alive.
    fn ender(&self) -> Option<Ender> {
        None
    }

    /// How long it took to start the process, if there is one and anybody measured.
    fn start_timings(&self) -> StartTimings {
        StartTimings::default()
    }
}

/// What begins to end a process; see [`Transport::ender`].
pub type Ender = Box<dyn FnOnce() + Send>;

/// Moves the bytes of one connection over one transport. Poll it until it is done.
#[must_use = "nothing moves unless the driver is polled"]
pub struct Driver<T> {
    hub: Arc<Hub>,
    transport: T,
    input: Vec<u8>,
    output: Vec<u8>,
    /// How much of `output` is written. `written <= output.len()`.
    written: usize,
    /// Whether something was written and not flushed.
    unflushed: bool,
    /// Whether the end of the input was told.
    eof: bool,
    exited: bool,
    /// Whether the writing side is closed.
    write_over: bool,
    /// Until when the process may outlive the connection, once that is over.
    gone_by: Option<Time>,
}

impl<T> fmt::Debug for Driver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("unwritten", &(self.output.len() - self.written))
            .field("eof", &self.eof)
            .field("exited", &self.exited)
            .finish_non_exhaustive()
    }
}

impl<T: Transport> Driver<T> {
    pub(crate) fn new(hub: Arc<Hub>, transport: T) -> Self {
        hub.note_driver(transport.start_timings(), transport.expects_exit(), transport.ender());
        Self {
            hub,
            transport,
            input: vec![0; READ_CHUNK],
            output: Vec::new(),
            written: 0,
            unflushed: false,
            eof: false,
            exited: false,
            write_over: false,
            gone_by: None,
        }
    }

    /// One look at everything. Says whether anything moved.
    fn round(&mut self, cx: &mut Context<'_>) -> bool {
        // Each part registers its waker when it finds nothing, so all of them are asked each time.
        let parts = [self.keep_time(cx), self.write(cx), self.read(cx), self.watch(cx)];
        parts.contains(&true)
    }

    fn keep_time(&mut self, cx: &mut Context<'_>) -> bool {
        let (now, next) = self.hub.drive(cx, |connection, now| (now, connection.poll_timeout()));
        let due = match next {
            // The clock is asked first: a runtime's timer may be late, or not there any more.
            Some(next) if next.at <= now => true,
            next => self.transport.poll_deadline(cx, next.map(|next| next.at)).is_ready(),
        };
        if due {
            let _ = (0..READS_BEFORE_TIMEOUT).take_while(|_| self.read(cx)).count();
            let evidence = match next.map(|next| next.reason) {
                Some(TimeoutReason::Drain | TimeoutReason::Request | TimeoutReason::Turn) => self.transport.evidence(),
                _ => None,
            };
            self.hub.drive(cx, |connection, now| {
                if let Some(evidence) = evidence {
                    connection.handle_evidence(evidence);
                }
                connection.handle_timeout(now);
            });
        }
        due
    }

    fn write(&mut self, cx: &mut Context<'_>) -> bool {
        if self.write_over {
            return false;
        }
        let mut moved = false;
        if self.written == self.output.len() {
            self.output.clear();
            self.output.shrink_to(READ_CHUNK);
            self.written = 0;
            let output = &mut self.output;
            moved = self.hub.drive(cx, |connection, now| connection.poll_transmit(now, output));
        }
        if self.hub.drive(cx, |connection, _| connection.wants_close_write()) {
            // What is left unwritten is of no use to anybody any more.
            self.write_over = self.transport.poll_close_write(cx).is_ready();
            return self.write_over;
        }
        let outcome = match self.output.get(self.written..).filter(|rest| !rest.is_empty()) {
            Some(rest) => self.transport.poll_write(cx, rest).map(|outcome| match outcome {
                Ok(0) => Err(io::ErrorKind::WriteZero.into()),
                outcome => outcome,
            }),
            None if self.unflushed => self.transport.poll_flush(cx).map(|outcome| outcome.map(|()| 0)),
            None => return moved,
        };
        match outcome {
            Poll::Pending => return moved,
            Poll::Ready(Ok(count)) => {
                self.unflushed = count > 0;
                self.written = (self.written + count).min(self.output.len());
            }
            Poll::Ready(Err(error)) => {
                let reason = DisconnectReason::Io(format!("writing to the server failed: {error}"));
                self.hub.drive(cx, |connection, now| connection.handle_disconnect(now, reason));
            }
        }
        true
    }

    fn read(&mut self, cx: &mut Context<'_>) -> bool {
        if self.eof {
            return false;
        }
        let count = match self.transport.poll_read(cx, &mut self.input) {
            Poll::Pending => return false,
            Poll::Ready(Ok(count)) => count,
            Poll::Ready(Err(error)) => {
                let reason = DisconnectReason::Io(format!("reading from the server failed: {error}"));
                self.hub.drive(cx, |connection, now| connection.handle_disconnect(now, reason));
                0
            }
        };
        match self.input.get(..count).filter(|bytes| !bytes.is_empty()) {
            Some(bytes) => {
                self.hub.drive(cx, |connection, now| connection.handle_input(now, bytes));
                if count == self.input.len() && count < MAX_READ_CHUNK {
                    self.input = vec![0; MAX_READ_CHUNK];
                }
            }
            None => {
                self.eof = true;
                self.hub.drive(cx, |connection, now| connection.handle_eof(now));
            }
        }
        true
    }

    /// Whether there is no process any more, or none that will end: the connection is over.
    fn is_gone(&mut self, cx: &mut Context<'_>) -> bool {
        if self.exited || !self.transport.expects_exit() {
            return true;
        }
        let now = self.hub.now();
        let within = || {
            self.hub.read(|connection| match connection.closed().map(Disconnect::reason) {
                // It has had its time: the connection was over when that was.
                Some(DisconnectReason::ClosedByCaller) => Duration::ZERO,
                _ => connection.config().timeouts.close,
            })
        };
        let by = *self.gone_by.get_or_insert_with(|| now + within());
        now >= by || self.transport.poll_deadline(cx, Some(by)).is_ready()
    }

    fn watch(&mut self, cx: &mut Context<'_>) -> bool {
        if self.exited {
            return false;
        }
        let Poll::Ready(report) = self.transport.poll_exit(cx) else { return false };
        self.exited = true;
        self.hub.drive(cx, |connection, now| connection.handle_exit(now, report));
        true
    }
}

impl<T: Transport + Unpin> Future for Driver<T> {
    type Output = Disconnect;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Disconnect> {
        let driver = self.get_mut();
        for _ in 0..ROUNDS {
            let moved = driver.round(cx);
            if let Some(cause) = driver.hub.read(|connection| connection.closed().cloned()) {
                if driver.is_gone(cx) {
                    driver.hub.note_gone();
                    return Poll::Ready(cause);
                }
            }
            if !moved {
                return Poll::Pending;
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

impl<T> Drop for Driver<T> {
    fn drop(&mut self) {
        self.hub.command(|connection, now| connection.handle_disconnect(now, DisconnectReason::DriverDropped));
        self.hub.note_gone();
    }
}
