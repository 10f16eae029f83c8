//! An in-memory duplex: asynchronous on the client's side, for either runtime, and blocking on the server's.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    pin::Pin,
    sync::{Arc, Condvar, Mutex},
    task::{Context, Poll, Waker},
};
use turnwire_core::record::Recording;
use turnwire_testkit::{
    recorded::{Replaying, serve_recorded},
    scripted::{Script, serve},
};

const CAPACITY: usize = 4096;

#[derive(Default)]
struct State {
    bytes: VecDeque<u8>,
    closed: bool,
    waker: Option<Waker>,
}

/// One direction.
#[derive(Default)]
struct Lane {
    state: Mutex<State>,
    changed: Condvar,
}

impl Lane {
    fn change<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock().expect("no poison");
        let result = change(&mut state);
        let waker = state.waker.take();
        drop(state);
        self.changed.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
        result
    }

    fn poll<R>(&self, cx: &Context<'_>, look: impl FnOnce(&mut State) -> Option<R>) -> Poll<R> {
        let mut state = self.state.lock().expect("no poison");
        match look(&mut state) {
            Some(found) => {
                drop(state);
                self.changed.notify_all();
                Poll::Ready(found)
            }
            None => {
                state.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }
}

fn take(state: &mut State, buffer: &mut [u8]) -> Option<usize> {
    let count = buffer.len().min(state.bytes.len());
    if count == 0 && !state.closed {
        return None;
    }
    for (to, from) in buffer.iter_mut().zip(state.bytes.drain(..count)) {
        *to = from;
    }
    Some(count)
}

fn put(state: &mut State, bytes: &[u8]) -> Option<io::Result<usize>> {
    if state.closed {
        return Some(Err(io::ErrorKind::BrokenPipe.into()));
    }
    let count = bytes.len().min(CAPACITY - state.bytes.len());
    state.bytes.extend(&bytes[..count]);
    (count > 0).then_some(Ok(count))
}

/// The reading end of the client.
pub(crate) struct Reader(Arc<Lane>);
/// The writing end of the client.
pub(crate) struct Writer(Arc<Lane>);
struct ServerReader(Arc<Lane>);
struct ServerWriter(Arc<Lane>);

/// A scripted server behind an in-memory duplex; these are the client's ends.
pub(crate) fn scripted(script: Script) -> (Reader, Writer) {
    let (to_client, to_server) = (Arc::new(Lane::default()), Arc::new(Lane::default()));
    drop(serve(ServerReader(Arc::clone(&to_server)), ServerWriter(Arc::clone(&to_client)), script));
    (Reader(to_client), Writer(to_server))
}

/// A recorded server behind an in-memory duplex; these are the client's ends.
pub(crate) fn replaying(recording: Recording) -> (Reader, Writer, Replaying) {
    let (to_client, to_server) = (Arc::new(Lane::default()), Arc::new(Lane::default()));
    let (reader, writer) = (ServerReader(Arc::clone(&to_server)), ServerWriter(Arc::clone(&to_client)));
    (Reader(to_client), Writer(to_server), serve_recorded(reader, writer, recording))
}

macro_rules! closes_on_drop {
    ($($name:ident),*) => {$(
        impl Drop for $name {
            fn drop(&mut self) {
                self.0.change(|state| state.closed = true);
            }
        }
    )*};
}
closes_on_drop!(Reader, Writer, ServerReader, ServerWriter);

impl Read for ServerReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let state = self.0.state.lock().expect("no poison");
        drop(self.0.changed.wait_while(state, |state| state.bytes.is_empty() && !state.closed).expect("no poison"));
        Ok(self.0.change(|state| take(state, buffer)).unwrap_or(0))
    }
}

impl Write for ServerWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let state = self.0.state.lock().expect("no poison");
        let full = |state: &mut State| state.bytes.len() >= CAPACITY && !state.closed;
        drop(self.0.changed.wait_while(state, full).expect("no poison"));
        self.0.change(|state| put(state, bytes)).unwrap_or(Ok(0))
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
        let found = self.0.poll(cx, |state| take(state, buffer.initialize_unfilled()));
        found.map(|count| {
            buffer.advance(count);
            Ok(())
        })
    }
}

impl tokio::io::AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(cx, |state| put(state, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.change(|state| state.closed = true);
        Poll::Ready(Ok(()))
    }
}

impl smol::io::AsyncRead for Reader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        self.0.poll(cx, |state| take(state, buffer)).map(Ok)
    }
}

impl smol::io::AsyncWrite for Writer {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.0.poll(cx, |state| put(state, bytes))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.change(|state| state.closed = true);
        Poll::Ready(Ok(()))
    }
}
