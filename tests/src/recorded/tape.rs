//! A recording in memory.

use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};
use turnwire_core::record::{FormatError, Recording};

/// What a recorder writes to when a test wants to look at it: `Recorder::to_writer(tape.clone())`. Clones are the same tape.
///
/// ```
/// use std::time::Duration;
/// use turnwire_blocking::{Config, Recorder, protocol::ThreadStart};
/// use turnwire_core::record::{Replay, ReplayedEvent};
/// use turnwire_testkit::{recorded::{Tape, misfits}, scripted::{Script, serve_duplex}};
///
/// let tape = Tape::new();
/// let recorder = Recorder::to_writer(tape.clone()).unredacted(); // a fake server has no secrets
/// let mut config = Config::default();
/// config.recorder = Some(recorder.clone());
/// let (reader, writer, _server) = serve_duplex(Script::new());
/// let codex = turnwire_blocking::connect_with(reader, writer, config).unwrap();
/// let thread = codex.thread_start(ThreadStart::new()).unwrap();
/// thread.run("Hello").unwrap();
/// codex.close();
/// assert!(recorder.wait(Duration::from_secs(10)));
///
/// // The same again, without a server.
/// let recording = tape.recording().unwrap();
/// let mut replay = Replay::new(&recording);
/// let answer = replay.by_ref().find_map(|replayed| match replayed.event {
///     ReplayedEvent::TurnOver { result, .. } => result.ok()?.final_response,
///     _ => None,
/// });
/// assert_eq!(answer.as_deref(), Some("You said: Hello"));
/// while replay.step() {}
/// assert!(replay.divergences().is_empty());
/// assert_eq!(misfits(&recording), [], "what the fake said fits the types");
/// ```
#[derive(Clone, Default)]
pub struct Tape(Arc<Mutex<Vec<u8>>>);

impl fmt::Debug for Tape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tape({} bytes)", self.lock().len())
    }
}

impl Tape {
    /// An empty tape.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was written so far, as text.
    #[must_use]
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.lock()).into_owned()
    }

    /// The first connection that was recorded.
    ///
    /// # Errors
    /// When what was written is no recording.
    pub fn recording(&self) -> Result<Recording, FormatError> {
        Recording::parse(&self.text())
    }

    fn lock(&self) -> MutexGuard<'_, Vec<u8>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Write for Tape {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lock().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
