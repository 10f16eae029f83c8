//! The driver's transport on async-io.

use async_io::Timer;
use smol::io::{AsyncRead, AsyncWrite};
use std::{
    future::Future,
    io,
    pin::Pin,
    task::{Context, Poll},
};
use turnwire_blocking::process::Owner;
use turnwire_core::{
    client::{StartTimings, SystemClock},
    driver::{Ender, Transport},
    launch::ExitReport,
    time::Time,
};

pub(crate) struct SmolTransport<R, W> {
    reader: R,
    /// `None` once it is closed.
    writer: Option<W>,
    clock: SystemClock,
    /// The timer and what it is set to.
    timer: Option<(Time, Timer)>,
    owner: Option<Owner>,
}

impl<R, W> SmolTransport<R, W> {
    pub(crate) fn new(reader: R, writer: W, clock: SystemClock, owner: Option<Owner>) -> Self {
        Self { reader, writer: Some(writer), clock, timer: None, owner }
    }
}

impl<R: AsyncRead + Unpin, W: AsyncWrite + Unpin> Transport for SmolTransport<R, W> {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let read = Pin::new(&mut self.reader).poll_read(cx, buffer);
        if let (Poll::Ready(Ok(1..)), Some(owner)) = (&read, &self.owner) {
            owner.note_output();
        }
        read
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_write(cx, bytes),
            None => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.writer {
            Some(writer) => Pin::new(writer).poll_flush(cx),
            None => Poll::Ready(Ok(())),
        }
    }

    fn poll_close_write(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Some(owner) = &self.owner {
            owner.close();
        }
        let closed = match &mut self.writer {
            // Half of a duplex that is merely dropped may keep the other side waiting for more.
            Some(writer) => Pin::new(writer).poll_close(cx).map(drop),
            None => Poll::Ready(()),
        };
        if closed.is_ready() {
            self.writer = None;
        }
        closed
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: Option<Time>) -> Poll<()> {
        let Some((at, instant)) = at.and_then(|at| Some((at, self.clock.instant(at)?))) else {
            self.timer = None;
            return Poll::Pending;
        };
        let timer = match &mut self.timer {
            Some((set_to, timer)) => {
                if *set_to != at {
                    *set_to = at;
                    timer.set_at(instant);
                }
                timer
            }
            none => &mut none.insert((at, Timer::at(instant))).1,
        };
        Pin::new(timer).poll(cx).map(drop)
    }

    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<ExitReport> {
        match &self.owner {
            Some(owner) => owner.poll_exit(cx),
            None => Poll::Pending,
        }
    }

    fn expects_exit(&self) -> bool {
        self.owner.is_some()
    }

    fn evidence(&self) -> Option<ExitReport> {
        self.owner.as_ref().map(Owner::evidence)
    }

    fn ender(&self) -> Option<Ender> {
        self.owner.as_ref().map(Owner::closer)
    }

    fn start_timings(&self) -> StartTimings {
        self.owner.as_ref().map(Owner::start_timings).unwrap_or_default()
    }
}
