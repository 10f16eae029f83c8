//! turnwire on tokio.
//!
//! [`spawn`] starts a server and connects to it; [`connect`] takes any reader and writer. Both give a [`Codex`], the
//! client of `turnwire-core`, and leave its driver to a tokio task.
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

mod transport;

pub use turnwire_core::{
    self as core,
    client::{Codex, Events, SteerOrStart, Thread, Turn, Turns},
    exports::*,
};

use std::sync::Arc;
use tokio::io::{AsyncRead, AsyncWrite};
use transport::TokioTransport;
use turnwire_blocking::process::{self, Process};
use turnwire_core::client::{SystemClock, connect_with_clock};

/// Starts a server and connects to it.
///
/// # Errors
/// When the program is not found or cannot be started, or when the handshake fails. No process is left then. Starting a
/// process blocks the thread for some milliseconds.
///
/// # Cancel safety
/// Dropping the future ends the process that it started.
///
/// # Panics
/// Outside of a tokio runtime.
pub async fn spawn(command: &Command) -> Result<Codex, ConnectError> {
    spawn_with(command, Config::default()).await
}

/// [`spawn`], with a configuration: the same errors, and the same when it is dropped.
///
/// # Errors
/// As for [`spawn`].
///
/// # Panics
/// As for [`spawn`].
pub async fn spawn_with(command: &Command, config: Config) -> Result<Codex, ConnectError> {
    let Process { stdin, stdout, owner, .. } = process::spawn(command)?;
    let wire = |error: std::io::Error| ConnectError::Wire(error.to_string());
    let reader = tokio::process::ChildStdout::from_std(stdout).map_err(wire)?;
    let writer = tokio::process::ChildStdin::from_std(stdin).map_err(wire)?;
    let transport = |clock| TokioTransport::new(reader, writer, clock, Some(owner.clone()));
    let connected = start(config, transport).await;
    if connected.is_err() {
        // Nobody may be there any more to see the closing through, so it is not left to run in the background.
        owner.kill();
        let gone = std::future::poll_fn(|cx| owner.poll_exit(cx));
        let _ = tokio::time::timeout(process::KILL_PATIENCE, gone).await;
    }
    connected
}

/// Connects over a reader and a writer: a socket, a pipe, an in-memory duplex.
///
/// # Errors
/// When the handshake fails.
///
/// # Cancel safety
/// Dropping the future ends the connection.
///
/// # Panics
/// Outside of a tokio runtime.
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
///
/// # Panics
/// As for [`connect`].
pub async fn connect_with<R, W>(reader: R, writer: W, config: Config) -> Result<Codex, ConnectError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    start(config, |clock| TokioTransport::new(reader, writer, clock, None)).await
}

async fn start<R, W>(
    config: Config,
    transport: impl FnOnce(SystemClock) -> TokioTransport<R, W>,
) -> Result<Codex, ConnectError>
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let clock = SystemClock::default();
    let (codex, driver) = connect_with_clock(config, transport(clock), Arc::new(clock));
    drop(tokio::spawn(driver));
    codex.ready().await?;
    Ok(codex)
}
