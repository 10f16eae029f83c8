//! An in-memory pipe with the manners of a real one: bounded, blocking, with an end on either side.
//!
//! A reader waits for bytes and sees the end when the writer is gone; a writer waits for room and gets a broken pipe when
//! the reader is gone. Memory is bounded by the capacity. Nothing here wakes by time.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// The capacity of the pipes of [`duplex`], as on Linux.
const CAPACITY: usize = 64 * 1024;

#[derive(Default)]
struct Shared {
    state: Mutex<PipeState>,
    changed: Condvar,
}

#[derive(Default)]
struct PipeState {
    /// At most `capacity` long.
    bytes: VecDeque<u8>,
    capacity: usize,
    reader_gone: bool,
    writer_gone: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, PipeState> {
        // A panic of the other side leaves the state whole: each change is one assignment or one queue call.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(&self, state: MutexGuard<'a, PipeState>) -> MutexGuard<'a, PipeState> {
        self.changed.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, end: End) {
        let mut state = self.lock();
        match end {
            End::Reader => {
                state.reader_gone = true;
                state.bytes.clear();
            }
            End::Writer => state.writer_gone = true,
        }
        drop(state);
        self.changed.notify_all();
    }
}

/// The end that is read. Dropping it breaks the pipe for the writer.
pub struct PipeReader(Arc<Shared>);

/// The end that is written. Dropping it is the end of input for the reader.
pub struct PipeWriter(Arc<Shared>);

/// Closes one end that somebody else owns and may be blocked in, as dropping that end would.
pub struct PipeCloser {
    shared: Arc<Shared>,
    end: End,
}

#[derive(Clone, Copy)]
enum End {
    Reader,
    Writer,
}

/// One pipe that holds at most `capacity` bytes (at least one).
#[must_use]
pub fn pipe(capacity: usize) -> (PipeReader, PipeWriter) {
    let state = PipeState { capacity: capacity.max(1), ..PipeState::default() };
    let shared = Arc::new(Shared { state: Mutex::new(state), changed: Condvar::new() });
    (PipeReader(Arc::clone(&shared)), PipeWriter(shared))
}

/// Two pipes crosswise: what one pair's writer writes, the other pair's reader reads.
#[must_use]
pub fn duplex() -> ((PipeReader, PipeWriter), (PipeReader, PipeWriter)) {
    let (left_reader, right_writer) = pipe(CAPACITY);
    let (right_reader, left_writer) = pipe(CAPACITY);
    ((left_reader, left_writer), (right_reader, right_writer))
}

impl PipeReader {
    /// A handle that closes this end from elsewhere: a blocked read returns the end of input.
    #[must_use]
    pub fn closer(&self) -> PipeCloser {
        PipeCloser { shared: Arc::clone(&self.0), end: End::Reader }
    }
}

impl PipeWriter {
    /// A handle that closes this end from elsewhere: a blocked write returns a broken pipe.
    #[must_use]
    pub fn closer(&self) -> PipeCloser {
        PipeCloser { shared: Arc::clone(&self.0), end: End::Writer }
    }
}

impl PipeCloser {
    /// Closes the end. What was written before is still read.
    pub fn close(&self) {
        self.shared.close(self.end);
    }
}

impl Read for PipeReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        loop {
            if buffer.is_empty() || state.reader_gone {
                return Ok(0);
            }
            if !state.bytes.is_empty() {
                let count = state.bytes.read(buffer)?;
                drop(state);
                self.0.changed.notify_all();
                return Ok(count);
            }
            if state.writer_gone {
                return Ok(0);
            }
            state = self.0.wait(state);
        }
    }
}

impl Write for PipeWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut state = self.0.lock();
        loop {
            if state.reader_gone || state.writer_gone {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            let room = state.capacity.saturating_sub(state.bytes.len());
            if bytes.is_empty() || room > 0 {
                let count = room.min(bytes.len());
                state.bytes.extend(bytes.iter().take(count));
                drop(state);
                self.0.changed.notify_all();
                return Ok(count);
            }
            state = self.0.wait(state);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for PipeReader {
    fn drop(&mut self) {
        self.0.close(End::Reader);
    }
}

impl Drop for PipeWriter {
    fn drop(&mut self) {
        self.0.close(End::Writer);
    }
}
