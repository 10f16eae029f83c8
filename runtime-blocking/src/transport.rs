//! The driver's transport on threads: one that reads, one that writes.
//!
//! Both block in the system, so they stop when what they read from or write to ends. They let go of everything else as
//! soon as the transport is dropped. The pipes of a process do without them where the system can wait for both: see `pipes`.

use crate::process::Owner;
use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
};
use turnwire_core::{
    client::StartTimings,
    driver::{Ender, Transport},
    launch::ExitReport,
    time::Time,
};

/// How many bytes may be read ahead of the driver, or wait to be written.
const AHEAD: usize = 256 * 1024;
/// How many bytes are read at once.
const CHUNK: usize = 256 * 1024;
/// How many bytes a buffer may have without being used as one: less is copied out of it.
const SMALL: usize = 16 * 1024;
/// No deadline.
const NEVER: u64 = u64::MAX;

/// One direction: bytes that one side puts in and the other takes out.
struct Channel {
    state: Mutex<State>,
    /// Wakes the thread: there is room, or there are bytes, or it is over.
    thread: Condvar,
}

#[derive(Default)]
struct State {
    chunks: VecDeque<Vec<u8>>,
    /// How much of the first chunk is taken.
    taken: usize,
    /// The sum of the lengths of `chunks`, less `taken`.
    bytes: usize,
    /// A buffer that was taken in whole, to be used again.
    spare: Vec<u8>,
    /// The side that puts in is done.
    ended: Option<io::Result<()>>,
    /// The transport is gone.
    abandoned: bool,
    driver: Option<Waker>,
}

impl Channel {
    fn new() -> Arc<Self> {
        Arc::new(Self { state: Mutex::default(), thread: Condvar::new() })
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits, as the thread, while `idle`.
    fn wait_while(&self, mut idle: impl FnMut(&State) -> bool) -> MutexGuard<'_, State> {
        self.thread
            .wait_while(self.lock(), |state| !state.abandoned && idle(state))
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes something, as the thread, that the driver may wait for.
    fn tell_driver(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.lock();
        change(&mut state);
        let waker = state.driver.take();
        drop(state);
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

/// A [`Transport`] over a blocking reader and writer.
pub(crate) struct ThreadTransport {
    input: Arc<Channel>,
    output: Arc<Channel>,
    deadline: Arc<AtomicU64>,
    owner: Option<Owner>,
}

/// When the driver wants to be looked at, as the transport last heard.
#[derive(Clone)]
pub(crate) struct Deadline(Arc<AtomicU64>);

impl Deadline {
    pub(crate) fn get(&self) -> Option<Time> {
        let nanos = self.0.load(Ordering::Relaxed);
        (nanos != NEVER).then(|| Time::from_nanos(nanos))
    }
}

impl ThreadTransport {
    /// Starts the two threads.
    pub(crate) fn new(
        reader: impl Read + Send + 'static,
        writer: impl Write + Send + 'static,
        owner: Option<Owner>,
    ) -> io::Result<Self> {
        let transport =
            Self { input: Channel::new(), output: Channel::new(), deadline: Arc::new(AtomicU64::new(NEVER)), owner };
        let input = Arc::clone(&transport.input);
        thread::Builder::new().name("turnwire-reader".into()).spawn(move || read_all(reader, &input))?;
        let output = Arc::clone(&transport.output);
        thread::Builder::new().name("turnwire-writer".into()).spawn(move || write_all(writer, &output))?;
        Ok(transport)
    }

    pub(crate) fn deadline(&self) -> Deadline {
        Deadline(Arc::clone(&self.deadline))
    }
}

/// Tells the driver of the end of a thread, however it ends.
struct Ending<'a>(&'a Channel);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let panicked = std::thread::panicking();
        self.0.tell_driver(|state| {
            if panicked && !matches!(state.ended, Some(Err(_))) {
                state.ended = Some(Err(io::Error::other("the thread that moves the bytes panicked")));
            }
        });
    }
}

fn read_all(mut reader: impl Read, input: &Channel) {
    let _ending = Ending(input);
    let mut buffer = vec![0; CHUNK];
    loop {
        // A chunk that was given away left nothing behind.
        buffer.resize(CHUNK, 0);
        let outcome = reader.read(&mut buffer);
        match outcome {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Ok(count) if count > 0 => {
                let chunk = if count <= SMALL {
                    buffer.get(..count).unwrap_or_default().to_vec()
                } else {
                    buffer.truncate(count);
                    std::mem::take(&mut buffer)
                };
                let mut state = input.wait_while(|state| state.bytes >= AHEAD);
                if state.abandoned {
                    return;
                }
                if buffer.is_empty() {
                    buffer = std::mem::take(&mut state.spare);
                }
                drop(state);
                input.tell_driver(|state| {
                    state.bytes += chunk.len();
                    state.chunks.push_back(chunk);
                });
            }
            outcome => return input.tell_driver(|state| state.ended = Some(outcome.map(drop))),
        }
    }
}

fn write_all(mut writer: impl Write, output: &Channel) {
    let _ending = Ending(output);
    loop {
        let mut state = output.wait_while(|state| state.chunks.is_empty() && state.ended.is_none());
        if state.abandoned {
            return;
        }
        // What is being written still counts, so that the driver does not run ahead by twice the bound.
        let Some(chunk) = state.chunks.pop_front() else { return };
        drop(state);
        let outcome = writer.write_all(&chunk).and_then(|()| writer.flush());
        output.tell_driver(|state| {
            state.bytes -= chunk.len();
            if outcome.is_err() && state.ended.is_none() {
                state.ended = Some(outcome);
            }
        });
    }
}

impl Transport for ThreadTransport {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut guard = self.input.lock();
        let state = &mut *guard;
        let Some(chunk) = state.chunks.front() else {
            return match state.ended.take() {
                // The end stays, an error is told once.
                Some(Ok(())) => {
                    state.ended = Some(Ok(()));
                    Poll::Ready(Ok(0))
                }
                Some(Err(error)) => {
                    state.ended = Some(Ok(()));
                    Poll::Ready(Err(error))
                }
                None => {
                    state.driver = Some(cx.waker().clone());
                    Poll::Pending
                }
            };
        };
        let rest = chunk.get(state.taken..).unwrap_or_default();
        let count = rest.len().min(buffer.len());
        if let (Some(to), Some(from)) = (buffer.get_mut(..count), rest.get(..count)) {
            to.copy_from_slice(from);
        }
        if count == rest.len() {
            state.taken = 0;
            let taken = state.chunks.pop_front();
            taken.filter(|chunk| chunk.len() > SMALL).into_iter().for_each(|chunk| state.spare = chunk);
        } else {
            state.taken += count;
        }
        state.bytes -= count;
        drop(guard);
        self.input.thread.notify_one();
        if let Some(owner) = &self.owner {
            owner.note_output();
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut state = self.output.lock();
        if let Some(Err(_)) = &state.ended {
            let outcome = state.ended.replace(Ok(()));
            return Poll::Ready(Err(outcome.and_then(Result::err).unwrap_or_else(|| io::ErrorKind::BrokenPipe.into())));
        }
        if state.bytes >= AHEAD {
            state.driver = Some(cx.waker().clone());
            return Poll::Pending;
        }
        state.bytes += bytes.len();
        state.chunks.push_back(bytes.to_vec());
        drop(state);
        self.output.thread.notify_one();
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        // The thread flushes whatever it writes. Failures are waited for here, so that they are told.
        let mut state = self.output.lock();
        match state.ended.take() {
            Some(Err(error)) => {
                state.ended = Some(Ok(()));
                Poll::Ready(Err(error))
            }
            ended if state.bytes == 0 => {
                state.ended = ended;
                Poll::Ready(Ok(()))
            }
            ended => {
                state.ended = ended;
                state.driver = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn poll_close_write(&mut self, _: &mut Context<'_>) -> Poll<()> {
        let mut state = self.output.lock();
        state.ended.get_or_insert(Ok(()));
        drop(state);
        self.output.thread.notify_one();
        if let Some(owner) = &self.owner {
            owner.close();
        }
        Poll::Ready(())
    }

    fn poll_deadline(&mut self, _: &mut Context<'_>, at: Option<Time>) -> Poll<()> {
        // Whoever polls the driver looks at this before it sleeps.
        self.deadline.store(at.map_or(NEVER, Time::as_nanos), Ordering::Relaxed);
        Poll::Pending
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

impl Drop for ThreadTransport {
    fn drop(&mut self) {
        for channel in [&self.input, &self.output] {
            channel.lock().abandoned = true;
            channel.thread.notify_all();
        }
    }
}
