//! turnwire on tokio.
//!
//! [`spawn`] starts a server and connects to it, [`lazy`] does so when it is first needed, and [`connect`] takes any reader
//! and writer. All give a [`Codex`], the client of `turnwire-core`, and leave its driver to a tokio task.
//!
//! ```no_run
//! # async fn example() -> Result<(), turnwire_tokio::Error> {
//! use turnwire_tokio::{Command, DeltaKind, Event, protocol::ThreadStart};
//!
//! let codex = turnwire_tokio::spawn(&Command::new()).await?;
//! let thread = codex.thread_start(ThreadStart::new()).await?;
//! let turn = thread.turn("Explain this repository in three bullets.").await?;
//! while let Some(event) = turn.next().await {
//!     match event {
//!         Event::Delta(delta) if delta.kind == DeltaKind::AgentMessage => print!("{}", delta.text),
//!         _ => {}
//!     }
//! }
//! println!("\n{:?}", turn.result().await?.usage);
//! codex.close().await;
//! # Ok(())
//! # }
//! ```
//!
//! The runtime must have its time and, for [`spawn`], its io driver enabled. When the runtime shuts down, everything that
//! waits on a session fails with a typed error, and the server's process ends.
//!
//! Deadlines go by tokio's clock, so a test can pause it and move it on. What it runs against must then live in the same runtime:
//! while everything there waits, a paused clock jumps to the next deadline, and does not wait for a process or a thread.

mod clock;
mod launcher;
mod transport;

pub use turnwire_blocking::pinned;
pub use turnwire_core::{
    self as core,
    client::{
        BrowserLogin, Codex, DeviceLogin, Events, Handlers, Pages, Resumed, Serving, SteerOrStart, StopServing, Thread,
        Tool, Tools, Tree, Turn, TurnSet, Turns,
    },
    exports::*,
};

use clock::TokioClock;
use launcher::{Servers, Started};
use std::{future::Future, sync::Arc};
use tokio::io::{AsyncRead, AsyncWrite};
use transport::TokioTransport;
use turnwire_blocking::process;
use turnwire_core::client::{connect_lazily, connect_with_clock};

/// What is said where there is no runtime.
pub(crate) const NO_RUNTIME: &str = "there is no tokio runtime here to run the server's task";

/// Starts a server and connects to it.
///
/// # Errors
/// When the program is not found or cannot be started, or when the handshake fails. No process is left then; one whose start
/// itself hangs in the system is ended as soon as it is there, in the background. Outside of a tokio runtime it is
/// [`ConnectError::Wire`], which says so. The runtime has to have its I/O and its time enabled.
///
/// # Cancel safety
/// Dropping the future ends the process that it started.
pub async fn spawn(command: &Command) -> Result<Codex, ConnectError> {
    spawn_with(command, Config::default()).await
}

/// [`spawn`], with a configuration: the same errors, and the same when it is dropped.
///
/// # Errors
/// As for [`spawn`].
pub async fn spawn_with(command: &Command, config: Config) -> Result<Codex, ConnectError> {
    let started = Started::default();
    let codex = session(command, config, started.clone());
    let connected = codex.ready().await;
    let owner = started.take();
    if let Err(error) = connected {
        if let Some(owner) = owner {
            // Nobody may be there any more to see the closing through, so it is not left to run in the background.
            owner.kill();
            let gone = std::future::poll_fn(|cx| owner.poll_exit(cx));
            let _ = tokio::time::timeout(process::KILL_PATIENCE, gone).await;
        }
        return Err(error);
    }
    Ok(codex)
}

/// A session whose server is started by the first call that needs it. Does not wait, and cannot fail: what there is to
/// fail is for that call.
///
/// The server's task runs on the runtime in which this is called, or else on that of the first call that needs the server;
/// where there is none, that call fails. Those who come while it starts wait for the same server.
#[must_use]
pub fn lazy(command: &Command, config: Config) -> Codex {
    let started = Started::default();
    drop(started.take());
    session(command, config, started)
}

fn session(command: &Command, config: Config, started: Started) -> Codex {
    let clock = TokioClock::default();
    connect_lazily(config, Arc::new(clock), Servers::new(command.clone(), clock, started))
}

/// Connects over a reader and a writer: a socket, a pipe, an in-memory duplex.
///
/// # Errors
/// When the handshake fails. Outside of a tokio runtime it is [`ConnectError::Wire`], which says so.
///
/// # Cancel safety
/// Dropping the future ends the connection.
pub async fn connect<R, W>(reader: R, writer: W) -> Result<Codex, ConnectError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    connect_with(reader, writer, Config::default()).await
}

/// [`connect`], with a configuration: the same errors, and the same when it is dropped.
///
/// # Errors
/// As for [`connect`].
pub async fn connect_with<R, W>(reader: R, writer: W, config: Config) -> Result<Codex, ConnectError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let Ok(runtime) = tokio::runtime::Handle::try_current() else {
        return Err(ConnectError::Wire(NO_RUNTIME.into()));
    };
    let (codex, driver) = prepare(reader, writer, config);
    drop(runtime.spawn(driver));
    codex.ready().await?;
    Ok(codex)
}

/// A session over a reader and a writer, and its driver: to be run, as a task of a tokio runtime, until it is done. The
/// handshake begins then; [`Codex::ready`] waits for it.
pub fn prepare<R, W>(
    reader: R,
    writer: W,
    config: Config,
) -> (Codex, impl Future<Output = Disconnect> + Send + Unpin + 'static)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let clock = TokioClock::default();
    connect_with_clock(config, TokioTransport::new(reader, writer, clock, None), Arc::new(clock))
}
