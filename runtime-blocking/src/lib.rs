//! turnwire on plain threads: the client of `turnwire-core` without async.
//!
//! [`spawn`] starts a server and connects to it, [`lazy`] does so when it is first needed, and [`connect`] takes any reader
//! and writer. The methods are those of the
//! async client, and each blocks the calling thread until it has its outcome. There is no runtime here, hidden or not: a
//! session has a thread that drives it, and whoever calls sleeps until woken. Over a
//! reader and a writer two more threads read and write for it, and so for a process on systems where one thread cannot wait for
//! both pipes. So it works on any thread, those of an
//! async runtime included.
//!
//! ```no_run
//! # fn main() -> Result<(), turnwire_blocking::Error> {
//! use turnwire_blocking::{Command, DeltaKind, Event, protocol::ThreadStart};
//!
//! let codex = turnwire_blocking::spawn(&Command::new())?;
//! let thread = codex.thread_start(ThreadStart::new())?;
//! let turn = thread.turn("Explain this repository in three bullets.")?;
//! for event in turn.events() {
//!     match event {
//!         Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => print!("{}", delta.text),
//!         _ => {}
//!     }
//! }
//! println!("\n{:?}", turn.result()?.usage);
//! codex.close();
//! # Ok(())
//! # }
//! ```

mod client;
mod launcher;
pub mod pinned;
#[cfg(unix)]
mod pipes;
pub mod process;
mod transport;
mod wait;

pub use client::{
    BrowserLogin, Codex, DeviceLogin, Events, Handlers, Pages, Resumed, Serving, SteerOrStart, Thread, Tool, Tools,
    Tree, Turn, TurnSet, Turns, WaitClosed,
};
pub use turnwire_core::{self as core, client::StopServing, exports::*};

use launcher::{Servers, Started};
use std::{
    io::{Read, Write},
    sync::Arc,
    thread,
};
use transport::ThreadTransport;
use turnwire_core::client::{SystemClock, connect_lazily, connect_with_clock};

/// Starts a server and connects to it.
///
/// # Errors
/// When the program is not found or cannot be started, or when the handshake fails. No process is left then; one whose start
/// itself hangs in the system is ended as soon as it is there, in the background.
pub fn spawn(command: &Command) -> Result<Codex, ConnectError> {
    spawn_with(command, Config::default())
}

/// [`spawn`], with a configuration: the same errors, and the same when it is dropped.
///
/// # Errors
/// As for [`spawn`].
pub fn spawn_with(command: &Command, config: Config) -> Result<Codex, ConnectError> {
    let started = Started::default();
    let codex = session(command, config, started.clone());
    let connected = codex.ready();
    let owner = started.take();
    if let Err(error) = connected {
        if let Some(owner) = owner {
            // Nobody may be there any more to see the closing through, so it is not left to run in the background.
            owner.kill();
            let _ = owner.wait_exit(process::KILL_PATIENCE);
        }
        return Err(error);
    }
    Ok(codex)
}

/// A session whose server is started by the first call that needs it. Does not wait, and cannot fail: what there is to
/// fail is for that call. Those who come while it starts wait for the same server.
#[must_use]
pub fn lazy(command: &Command, config: Config) -> Codex {
    let started = Started::default();
    drop(started.take());
    session(command, config, started)
}

fn session(command: &Command, config: Config, started: Started) -> Codex {
    let clock = SystemClock::default();
    Codex::new(connect_lazily(config, Arc::new(clock), Servers::new(command.clone(), clock, started)))
}

/// Connects over a reader and a writer: a socket, a pipe, an in-memory duplex.
///
/// A thread reads and another writes, and what blocks in either cannot be told to stop from outside. When the session is over the
/// writer is dropped as soon as it does not block, the reader with the end of what it reads. So of a socket whose two halves are clones
/// the peer sees no end before it ends itself: keep a third clone, and shut that down after [`Codex::close`].
///
/// # Errors
/// When the handshake fails.
pub fn connect(reader: impl Read + Send + 'static, writer: impl Write + Send + 'static) -> Result<Codex, ConnectError> {
    connect_with(reader, writer, Config::default())
}

/// [`connect`], with a configuration: the same errors, and the same when it is dropped.
///
/// # Errors
/// As for [`connect`].
pub fn connect_with(
    reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    config: Config,
) -> Result<Codex, ConnectError> {
    let wire = |error: std::io::Error| ConnectError::Wire(error.to_string());
    let transport = ThreadTransport::new(reader, writer, None).map_err(wire)?;
    let deadline = transport.deadline();
    let clock = SystemClock::default();
    let (codex, driver) = connect_with_clock(config, transport, Arc::new(clock));
    let look_again = move || deadline.get().and_then(|at| clock.instant(at));
    thread::Builder::new()
        .name("turnwire-driver".into())
        .spawn(move || drop(wait::wait_with(driver, look_again)))
        .map_err(wire)?;
    let codex = Codex::new(codex);
    codex.ready()?;
    Ok(codex)
}
