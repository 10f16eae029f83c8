//! A peer in memory that says what a test pushes, and keeps what the client writes: for all three runtimes.

use serde_json::Value;
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard},
    task::{Context, Poll, Waker},
};

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    /// Nothing more will be said, and nothing is read.
    is_over: bool,
    reader: Option<Waker>,
    /// What the client has written of a line that is not complete.
    written: Vec<u8>,
    /// How many requests it has written, and the id of the last.
    requests: (usize, u64),
}

impl State {
    /// Takes what the client wrote. Each line is read once: a talk may have many, and be played thousands of times.
    fn hear(&mut self, bytes: &[u8]) {
        self.written.extend_from_slice(bytes);
        let Some(end) = self.written.iter().rposition(|byte| *byte == b'\n') else { return };
        for line in self.written[..end].split(|byte| *byte == b'\n') {
            let line: Value = serde_json::from_slice(line).expect("the client writes JSON");
            if let (Some(_), Some(id)) = (line.get("method"), line.get("id")) {
                self.requests = (self.requests.0 + 1, id.as_u64().expect("a number"));
            }
        }
        self.written.drain(..=end);
    }
}

#[derive(Default)]
pub(crate) struct Feed {
    state: Mutex<State>,
    changed: Condvar,
}

impl Feed {
    pub(crate) fn new() -> Arc<Self> {
        Arc::default()
    }

    pub(crate) fn say(&self, bytes: &[u8]) {
        self.change(|state| state.bytes.extend(bytes));
    }

    pub(crate) fn end(&self) {
        self.change(|state| state.is_over = true);
    }

    /// Waits until the client has written so many requests, and returns the id of the last.
    pub(crate) fn wait_for_requests(&self, count: usize) -> u64 {
        let start = std::time::Instant::now();
        let mut state = self.lock();
        loop {
            let (written, last) = state.requests;
            if written >= count {
                return last;
            }
            assert!(start.elapsed() < crate::support::PATIENCE, "{written} of {count} requests were written");
            state = self.changed.wait_timeout(state, crate::support::PATIENCE).expect("no poison").0;
        }
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waker = state.reader.take();
        drop(state);
        self.changed.notify_all();
        waker.into_iter().for_each(Waker::wake);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no poison")
    }
}

fn take(state: &mut State, buffer: &mut [u8]) -> Option<usize> {
    let count = buffer.len().min(state.bytes.len());
    for (to, from) in buffer.iter_mut().zip(state.bytes.drain(..count)) {
        *to = from;
    }
    (count > 0 || state.is_over).then_some(count)
}

pub(crate) struct Reader(Arc<Feed>);
pub(crate) struct Writer(Arc<Feed>);

impl Reader {
    pub(crate) fn of(feed: &Arc<Feed>) -> Self {
        Self(Arc::clone(feed))
    }

    fn poll(&self, cx: &Context<'_>, buffer: &mut [u8]) -> Poll<usize> {
        let mut state = self.0.lock();
        match take(&mut state, buffer) {
            Some(count) => Poll::Ready(count),
            None => {
                state.reader = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

impl Writer {
    pub(crate) fn of(feed: &Arc<Feed>) -> Self {
        Self(Arc::clone(feed))
    }

    fn put(&self, bytes: &[u8]) -> usize {
        self.0.lock().hear(bytes);
        self.0.changed.notify_all();
        bytes.len()
    }
}

impl Read for Reader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        loop {
            match take(&mut state, buffer) {
                Some(count) => return Ok(count),
                None => state = self.0.changed.wait(state).expect("no poison"),
            }
        }
    }
}

impl Write for Writer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(self.put(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl tokio::io::AsyncRead for Reader {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut tokio::io::ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.poll(cx, buffer.initialize_unfilled()).map(|count| {
            buffer.advance(count);
            Ok(())
        })
    }
}

impl smol::io::AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.poll(cx, buffer).map(Ok)
    }
}

impl tokio::io::AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put(bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl smol::io::AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Poll::Ready(Ok(self.put(bytes)))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
