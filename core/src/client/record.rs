//! Writing down what a connection says and hears.
//!
//! The connection only queues records, within its bound. A thread of the recorder takes them out, redacts them and gives
//! them to the sink, so that neither the lock nor whoever reads the server ever waits for a disk.

use super::{Codex, Hub};
use crate::record::{Header, Record, Redactor};
use std::{
    collections::hash_map::RandomState,
    fmt,
    fs::File,
    hash::{BuildHasher, Hasher},
    io::{self, BufWriter, Write},
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
    time::{Duration, Instant},
};

/// A wait that is longer than the clock can count is made of pieces of this length.
const LONGEST: Duration = Duration::from_secs(3600);

/// How many records are taken out under one lock.
const BATCH: usize = 256;

/// Where records go. It is called on a thread of the recorder, under no lock of turnwire's; it may be slow, and may block.
pub trait Sink: Send + 'static {
    /// A connection begins.
    ///
    /// # Errors
    /// Ends the recording of that connection.
    fn begin(&mut self, header: &Header) -> io::Result<()>;

    /// A record of the connection that began last.
    ///
    /// # Errors
    /// Ends the recording of that connection.
    fn record(&mut self, record: &Record) -> io::Result<()>;

    /// There is nothing more for now.
    ///
    /// # Errors
    /// Ends the recording of that connection.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Writes the file format of [`record`](crate::record).
struct Lines<W>(W);

impl<W: Write + Send + 'static> Sink for Lines<W> {
    fn begin(&mut self, header: &Header) -> io::Result<()> {
        writeln!(self.0, "{}", header.to_line())
    }

    fn record(&mut self, record: &Record) -> io::Result<()> {
        writeln!(self.0, "{}", record.to_line())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

/// Records a session. Give it to [`Config::recorder`](crate::connection::Config::recorder), and the recording begins with the
/// handshake; or to [`Codex::record`].
///
/// By default what is written is redacted: see [`Redactor`]. [`unredacted`](Self::unredacted) has to be asked for.
/// A handle: clones write to the same place. Of a session that restarts its server, each connection has a header of its own.
///
/// One connection is recorded at a time. Of two sessions with one recorder, the later one is written when the earlier is
/// over, as far as there was room to keep it until then (`Limits::max_tap_bytes`); give each a recorder of its own.
///
/// ```no_run
/// use turnwire_core::{client::Recorder, connection::Config};
///
/// let mut config = Config::default();
/// config.recorder = Some(Recorder::to_file("session.jsonl")?);
/// # Ok::<(), std::io::Error>(())
/// ```
#[derive(Clone)]
pub struct Recorder {
    shared: Arc<Shared>,
    redactor: Option<Redactor>,
}

struct Shared {
    /// Held by the thread that records a connection, until its end: a file has one at a time.
    turn: Mutex<()>,
    sink: Mutex<Box<dyn Sink>>,
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Connections whose end was not written yet.
    running: usize,
    failure: Option<(io::ErrorKind, String)>,
}

impl fmt::Debug for Recorder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Recorder").field("is_redacted", &self.redactor.is_some()).finish_non_exhaustive()
    }
}

impl Recorder {
    /// A recorder that gives redacted records to a sink of the caller's.
    #[must_use]
    pub fn new(sink: impl Sink) -> Self {
        // Different in every process, and no more random than that: it keeps short ids from being found by trying.
        let seed = RandomState::new().build_hasher().finish();
        let shared = Shared {
            turn: Mutex::default(),
            sink: Mutex::new(Box::new(sink)),
            state: Mutex::default(),
            changed: Condvar::new(),
        };
        Self { shared: Arc::new(shared), redactor: Some(Redactor::with_seed(seed)) }
    }

    /// A recorder that writes JSON lines.
    #[must_use]
    pub fn to_writer(writer: impl Write + Send + 'static) -> Self {
        Self::new(Lines(writer))
    }

    /// A recorder that writes JSON lines to a new file. A file that is there is overwritten.
    ///
    /// # Errors
    /// When the file cannot be made.
    pub fn to_file(path: impl AsRef<Path>) -> io::Result<Self> {
        Ok(Self::to_writer(BufWriter::new(File::create(path)?)))
    }

    /// The same with everything in it: prompts, answers, outputs, paths, environment, tokens and keys.
    #[must_use]
    pub fn unredacted(mut self) -> Self {
        self.redactor = None;
        self
    }

    /// Waits until the end of each recorded connection was written, for at most so long. False if it was not. Blocks the
    /// thread: to be called when the session is closed.
    #[must_use]
    pub fn wait(&self, within: Duration) -> bool {
        let (begin, mut state) = (Instant::now(), lock(&self.shared.state));
        while state.running > 0 {
            let left = within.saturating_sub(begin.elapsed()).min(LONGEST);
            if left.is_zero() {
                return false;
            }
            state = self.shared.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
        true
    }

    /// Why the recording ended before its connection did, if it has.
    #[must_use]
    pub fn failure(&self) -> Option<io::Error> {
        let state = lock(&self.shared.state);
        state.failure.as_ref().map(|(kind, message)| io::Error::new(*kind, message.clone()))
    }

    /// Begins to record a connection. A connection has one recorder; a second is not heard.
    pub(crate) fn attach(&self, hub: &Arc<Hub>) {
        let bell = Arc::new(Bell::default());
        if !hub.set_bell(&bell) {
            return;
        }
        lock(&self.shared.state).running += 1;
        let (recorder, own) = (self.clone(), Arc::clone(hub));
        let started = thread::Builder::new().name("turnwire-recorder".into()).spawn(move || {
            // Whatever the sink does, whoever waits hears of the end.
            let ended = Ended(&recorder);
            let turn = lock(&recorder.shared.turn);
            let run = catch_unwind(AssertUnwindSafe(|| recorder.run(&own, &bell)));
            drop(turn);
            if let Err(error) = run.unwrap_or_else(|_| Err(io::Error::other("the sink panicked"))) {
                own.read(|connection| connection.set_tap(false));
                recorder.fail(&error);
            }
            drop(ended);
        });
        if let Err(error) = started {
            hub.read(|connection| connection.set_tap(false));
            self.fail(&error);
            drop(Ended(self));
        }
    }

    fn fail(&self, error: &io::Error) {
        lock(&self.shared.state).failure.get_or_insert((error.kind(), error.to_string()));
    }

    fn run(&self, hub: &Hub, bell: &Bell) -> io::Result<()> {
        let header = hub.read(|connection| Header::of(connection.config(), self.redactor.is_some()));
        lock(&self.shared.sink).begin(&header)?;
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let (is_over, is_empty) = hub.read_now(|connection, now| {
                while batch.len() < BATCH {
                    match connection.poll_tap(now) {
                        Some(record) => batch.push(record),
                        None => break,
                    }
                }
                (connection.closed().is_some(), !connection.has_tapped())
            });
            let mut sink = lock(&self.shared.sink);
            for record in batch.drain(..) {
                match &self.redactor {
                    Some(redactor) => sink.record(&redactor.record(&record))?,
                    None => sink.record(&record)?,
                }
            }
            if is_empty {
                sink.flush()?;
                drop(sink);
                if is_over {
                    return Ok(());
                }
                bell.wait();
            }
        }
    }
}

/// Says that a connection's recording is over.
struct Ended<'a>(&'a Recorder);

impl Drop for Ended<'_> {
    fn drop(&mut self) {
        lock(&self.0.shared.state).running -= 1;
        self.0.shared.changed.notify_all();
    }
}

/// What the recorder's thread sleeps on.
#[derive(Default)]
pub(crate) struct Bell {
    has_rung: Mutex<bool>,
    rung: Condvar,
}

impl Bell {
    pub(crate) fn ring(&self) {
        *lock(&self.has_rung) = true;
        self.rung.notify_one();
    }

    fn wait(&self) {
        let mut has_rung = lock(&self.has_rung);
        while !*has_rung {
            has_rung = self.rung.wait(has_rung).unwrap_or_else(PoisonError::into_inner);
        }
        *has_rung = false;
    }
}

fn lock<T: ?Sized>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Codex {
    /// Records this connection from now on. What began before is known to a replay only as far as it shows later; to have
    /// all of it, give the recorder to [`Config::recorder`](crate::connection::Config::recorder) instead. A connection has
    /// one recorder: with one already, this does nothing.
    pub fn record(&self, recorder: &Recorder) {
        recorder.attach(&self.session().hub);
    }
}
