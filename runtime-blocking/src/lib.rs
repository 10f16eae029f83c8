//! turnwire on plain threads: the client of `turnwire-core` without async.
//!
//! [`spawn`] starts a server and connects to it; [`connect`] takes any reader and writer. The methods are those of the
//! async client, and each blocks the calling thread until it has its outcome. There is no runtime here, hidden or not: a
//! session has a thread that drives it, one that reads and one that writes, and whoever calls sleeps until woken. So it
//! works on any thread, those of an async runtime included.
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
pub mod process;
mod transport;
mod wait;

pub use client::{Codex, Events, SteerOrStart, Thread, Turn, Turns};
pub use turnwire_core::{self as core, exports::*};

use process::{Owner, Process};
use std::{
    io::{Read, Write},
    sync::Arc,
    thread,
};
use transport::ThreadTransport;
use turnwire_core::client::{SystemClock, connect_with_clock};

/// Starts a server and connects to it.
///
/// # Errors
/// When the program is not found or cannot be started, or when the handshake fails. No process is left then. Starting a
/// process blocks the thread for some milliseconds.
pub fn spawn(command: &Command) -> Result<Codex, ConnectError> {
    spawn_with(command, Config::default())
}

/// [`spawn`], with a configuration: the same errors, and the same when it is dropped.
///
/// # Errors
/// As for [`spawn`].
pub fn spawn_with(command: &Command, config: Config) -> Result<Codex, ConnectError> {
    let Process { stdin, stdout, owner, .. } = process::spawn(command)?;
    let connected = start(stdout, stdin, Some(owner.clone()), config);
    if connected.is_err() {
        // Nobody may be there any more to see the closing through, so it is not left to run in the background.
        owner.kill();
        let _ = owner.wait_exit(process::KILL_PATIENCE);
    }
    connected
}

/// Connects over a reader and a writer: a socket, a pipe, an in-memory duplex.
///
/// The thread that reads ends when the reader does: a reader that never ends keeps its thread, though nothing else.
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
    start(reader, writer, None, config)
}

fn start(
    reader: impl Read + Send + 'static,
    writer: impl Write + Send + 'static,
    owner: Option<Owner>,
    config: Config,
) -> Result<Codex, ConnectError> {
    let wire = |error: std::io::Error| ConnectError::Wire(error.to_string());
    let transport = ThreadTransport::new(reader, writer, owner).map_err(wire)?;
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
