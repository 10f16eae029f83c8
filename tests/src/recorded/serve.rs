//! Drivers: they connect a [`RecordedServer`] to pipes.

use super::server::{RecordedServer, State};
use crate::scripted::{PipeReader, PipeWriter, duplex};
use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use turnwire_core::record::{Divergence, Recording};

/// A recorded server that runs on a thread.
///
/// Dropping it does not stop the server, which ends as was recorded or with its input.
#[derive(Debug)]
pub struct Replaying {
    server: Arc<Mutex<RecordedServer>>,
    thread: JoinHandle<()>,
}

impl Replaying {
    /// Looks at the server while it runs.
    pub fn with<T>(&self, look: impl FnOnce(&RecordedServer) -> T) -> T {
        look(&lock(&self.server))
    }

    /// Where the program said other than was recorded, so far. What it did not say at all is known at its end.
    #[must_use]
    pub fn divergences(&self) -> Vec<Divergence> {
        self.with(|server| server.divergences().to_vec())
    }

    /// Waits until the server has ended. False if it still runs after this time.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> bool {
        let start = Instant::now();
        while !self.thread.is_finished() {
            if start.elapsed() >= timeout {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
        true
    }
}

/// Plays a recording over any reader and writer, on a thread of its own.
#[must_use]
pub fn serve_recorded(
    mut reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    recording: Recording,
) -> Replaying {
    let server = Arc::new(Mutex::new(RecordedServer::new(&recording)));
    let own = Arc::clone(&server);
    let thread = thread::spawn(move || run(&own, &mut reader, Some(writer)));
    Replaying { server, thread }
}

/// Plays a recording over an in-memory pipe pair: the client's reader and writer, and the server.
#[must_use]
pub fn recorded_duplex(recording: Recording) -> (PipeReader, PipeWriter, Replaying) {
    let ((client_reader, client_writer), (reader, writer)) = duplex();
    let replaying = serve_recorded(reader, writer, recording);
    (client_reader, client_writer, replaying)
}

/// Plays a recording over the program's own stdin and stdout, tells divergences on stderr, and returns the recorded exit
/// code.
#[must_use]
pub fn serve_recorded_stdio(recording: &Recording) -> i32 {
    let server = Mutex::new(RecordedServer::new(recording));
    run(&server, &mut io::stdin(), Some(io::stdout()));
    let server = lock(&server);
    for divergence in server.divergences() {
        let _ = writeln!(io::stderr(), "turnwire-recorded-server: {divergence}");
    }
    match server.state() {
        State::Exited { code } => code,
        State::Running | State::StdoutClosed => 0,
    }
}

fn run(server: &Mutex<RecordedServer>, reader: &mut impl Read, mut writer: Option<impl Write>) {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let mut out = Vec::new();
        let state = {
            let mut server = lock(server);
            server.poll_output(&mut out);
            server.state()
        };
        if let Some(writer) = writer.as_mut().filter(|_| !out.is_empty()) {
            // Who does not read any more is noticed by the end of what it writes.
            let _ = writer.write_all(&out).and_then(|()| writer.flush());
        }
        match state {
            State::Running => {}
            State::StdoutClosed => writer = None,
            State::Exited { .. } => return,
        }
        match reader.read(&mut buffer) {
            Ok(0) => lock(server).handle_eof(),
            Ok(count) => lock(server).handle_input(buffer.get(..count).unwrap_or_default()),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => lock(server).handle_eof(),
        }
    }
}

fn lock(server: &Mutex<RecordedServer>) -> MutexGuard<'_, RecordedServer> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}
