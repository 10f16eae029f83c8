//! Drivers: they connect a [`ScriptedServer`] to pipes and to the real clock.
//!
//! A reader thread hands over one piece of input at a time and only when asked, so that a script that stops reading lets the
//! client's pipe fill up. One loop writes stderr and stdout, blocking: a client that does not drain them stops the
//! server, as it may stop a real one. Owns no behaviour of the protocol.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, SyncSender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::pipe::{PipeCloser, PipeReader, PipeWriter, duplex};
use super::script::Script;
use super::server::{ScriptedServer, State};

/// The loop looks at its stop flag at least so often.
const STOP_CHECK: Duration = Duration::from_millis(50);

/// The bytes of one read; an empty piece is the end of input.
type Piece = Vec<u8>;

/// A scripted server that runs on threads.
///
/// Dropping it does not stop the server, which ends by its script or with its input.
pub struct Serving {
    server: Arc<Mutex<ScriptedServer>>,
    stop: Arc<AtomicBool>,
    /// The server's ends of its pipes, where they are known.
    ends: Arc<[PipeCloser]>,
    thread: JoinHandle<()>,
}

impl Serving {
    /// Looks at the server while it runs.
    pub fn with<T>(&self, look: impl FnOnce(&ScriptedServer) -> T) -> T {
        look(&self.server.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until the server has ended. `None` if it still runs after this time.
    ///
    /// The thread may be blocked in a write that nobody reads, so the wait is on its end, and bounded.
    #[must_use]
    pub fn wait(&self, timeout: Duration) -> Option<State> {
        let start = Instant::now();
        while !self.thread.is_finished() {
            if start.elapsed() >= timeout {
                return None;
            }
            thread::sleep(Duration::from_millis(1));
        }
        Some(self.with(ScriptedServer::state))
    }

    /// Waits until `test` holds for the server. False if it does not within this time.
    #[must_use]
    pub fn wait_until(&self, timeout: Duration, test: impl Fn(&ScriptedServer) -> bool) -> bool {
        let start = Instant::now();
        loop {
            if self.with(&test) {
                return true;
            }
            if start.elapsed() >= timeout {
                return false;
            }
            thread::sleep(Duration::from_millis(1));
        }
    }

    /// What the server said so far that does not fit the protocol: see [`ScriptedServer::misfits`].
    #[must_use]
    pub fn misfits(&self) -> Vec<crate::recorded::Misfit> {
        self.with(ScriptedServer::misfits)
    }

    /// Ends the server from outside, as a kill would. With [`serve_duplex`] its ends of the pipes are closed at once; with
    /// [`serve`] it ends when a write that may be blocked returns.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.ends.iter().for_each(PipeCloser::close);
    }
}

/// Plays a script over any reader and writer, on threads of its own. What it writes to stderr is thrown away.
///
/// The reader is given up when its next read returns after the server's end; [`serve_duplex`] closes it at once.
#[must_use]
pub fn serve(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static, script: Script) -> Serving {
    serve_with(reader, writer, script, [].into())
}

/// Plays a script over an in-memory pipe pair: the client's reader and writer, and the server.
#[must_use]
pub fn serve_duplex(script: Script) -> (PipeReader, PipeWriter, Serving) {
    let ((client_reader, client_writer), (reader, writer)) = duplex();
    let ends = [reader.closer(), writer.closer()].into();
    let serving = serve_with(reader, writer, script, ends);
    (client_reader, client_writer, serving)
}

fn serve_with(
    reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    script: Script,
    ends: Arc<[PipeCloser]>,
) -> Serving {
    let server = Arc::new(Mutex::new(ScriptedServer::new(script)));
    let stop = Arc::new(AtomicBool::new(false));
    let thread = {
        let (server, stop, ends) = (Arc::clone(&server), Arc::clone(&stop), Arc::clone(&ends));
        thread::spawn(move || {
            let input = read_on_thread(reader);
            let mut outputs = Outputs { stdout: Some(writer), stderr: io::sink(), log: None, logged: 0 };
            run(&server, &input, &mut outputs, &stop);
            drop(outputs);
            ends.iter().for_each(PipeCloser::close);
        })
    };
    Serving { server, stop, ends, thread }
}

/// Where a server's output goes.
struct Outputs<O, E> {
    /// `None` once it is closed, by the script or by the client.
    stdout: Option<O>,
    stderr: E,
    log: Option<File>,
    /// So many received lines are in the log.
    logged: usize,
}

impl<O: Write, E: Write> Outputs<O, E> {
    /// Writes everything that is due. What goes wrong with stderr or the log is nobody's business.
    fn write(&mut self, server: &Mutex<ScriptedServer>, now: Duration) {
        let mut piece = Vec::new();
        loop {
            piece.clear();
            lock(server).poll_stderr(now, &mut piece);
            if piece.is_empty() {
                break;
            }
            let _ = self.stderr.write_all(&piece).and_then(|()| self.stderr.flush());
        }
        self.write_log(server);
        loop {
            piece.clear();
            let state = {
                let mut server = lock(server);
                server.poll_output(now, &mut piece);
                server.state()
            };
            if let Some(stdout) = self.stdout.as_mut().filter(|_| !piece.is_empty()) {
                if let Err(error) = stdout.write_all(&piece).and_then(|()| stdout.flush()) {
                    // The real server goes on until its input ends.
                    let _ = writeln!(self.stderr, "Failed to write to stdout: {error}");
                    self.stdout = None;
                }
            }
            if state != State::Running {
                self.stdout = None;
            }
            if piece.is_empty() {
                return;
            }
        }
    }

    /// Appends the lines received since to the log.
    fn write_log(&mut self, server: &Mutex<ScriptedServer>) {
        let Some(log) = &mut self.log else { return };
        let server = lock(server);
        let mut text = String::new();
        for received in server.received().iter().skip(self.logged) {
            text.push_str(&received.line);
            text.push('\n');
        }
        self.logged = server.received().len();
        drop(server);
        let _ = log.write_all(text.as_bytes());
    }
}

fn lock(server: &Mutex<ScriptedServer>) -> std::sync::MutexGuard<'_, ScriptedServer> {
    server.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads on a thread, which blocks until each piece is taken.
fn read_on_thread(mut reader: impl Read + Send + 'static) -> Receiver<Piece> {
    let (sender, receiver): (SyncSender<Piece>, _) = mpsc::sync_channel(0);
    thread::spawn(move || {
        let mut buffer = vec![0; 64 * 1024];
        loop {
            let piece = match reader.read(&mut buffer) {
                Ok(count) => buffer.get(..count).unwrap_or_default().to_vec(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(_) => Vec::new(),
            };
            let is_end = piece.is_empty();
            if sender.send(piece).is_err() || is_end {
                return;
            }
        }
    });
    receiver
}

/// Plays until the server is over or is stopped.
fn run<O: Write, E: Write>(
    server: &Mutex<ScriptedServer>,
    input: &Receiver<Piece>,
    outputs: &mut Outputs<O, E>,
    stop: &AtomicBool,
) {
    let start = Instant::now();
    let mut at_end = false;
    while !stop.load(Ordering::Acquire) {
        outputs.write(server, start.elapsed());
        let (state, reading, due) = {
            let server = lock(server);
            (server.state(), server.is_reading(), server.poll_timeout())
        };
        if state.is_over() {
            return;
        }
        let pause = due.map_or(STOP_CHECK, |due| due.saturating_sub(start.elapsed()).min(STOP_CHECK));
        if !reading || at_end {
            thread::sleep(pause);
            continue;
        }
        match input.recv_timeout(pause) {
            Ok(piece) if piece.is_empty() => at_end = true,
            Ok(piece) => lock(server).handle_input(start.elapsed(), &piece),
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => at_end = true,
        }
        if at_end {
            lock(server).handle_eof(start.elapsed());
        }
    }
}

/// Plays a script over the program's own stdin, stdout and stderr, and ends the program as the script says.
///
/// The lines received are appended to the file that `TURNWIRE_SCRIPTED_LOG` names. `stdout` is what the script may close;
/// see the program.
pub fn serve_stdio(script: Script, stdout: Box<dyn Write>) -> ! {
    let log = std::env::var_os("TURNWIRE_SCRIPTED_LOG");
    let log = log.and_then(|path| OpenOptions::new().create(true).append(true).open(path).ok());
    let server = Mutex::new(ScriptedServer::new(script));
    let input = read_on_thread(io::stdin());
    let mut outputs = Outputs { stdout: Some(stdout), stderr: io::stderr(), log, logged: 0 };
    run(&server, &input, &mut outputs, &AtomicBool::new(false));
    let state = lock(&server).state();
    match state {
        State::Killed { signal } => kill_self(signal),
        State::Exited { code } => std::process::exit(code),
        State::Running | State::StdoutClosed => std::process::exit(0),
    }
}

/// Ends this process by a signal. The standard library has no call for it, the shell has.
fn kill_self(signal: i32) -> ! {
    let command = format!("kill -{signal} {}", std::process::id());
    let _ = std::process::Command::new("/bin/sh").arg("-c").arg(command).status();
    // Only a signal that does not end a process gets here.
    thread::sleep(Duration::from_secs(1));
    std::process::exit(70)
}
