//! turnwire on smol and async-io.
//!
//! [`spawn`] starts a server and connects to it, [`lazy`] does so when it is first needed, and [`connect`] takes any reader
//! and writer. All give a [`Codex`], the client of `turnwire-core`, and leave its driver to a task of smol's global executor. Who has an executor of their own
//! takes [`prepare`], and runs the driver there.
//!
//! ```no_run
//! # fn main() -> Result<(), turnwire_smol::Error> { smol::block_on(async {
//! use turnwire_smol::{Command, DeltaKind, Event, protocol::ThreadStart};
//!
//! let codex = turnwire_smol::spawn(&Command::new()).await?;
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
//! # Ok(()) }) }
//! ```

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

use launcher::{Servers, Started};
use smol::io::{AsyncRead, AsyncWrite};
use std::{future::Future, sync::Arc};
use transport::SmolTransport;
use turnwire_blocking::process;
use turnwire_core::client::{SystemClock, connect_lazily, connect_with_clock};

/// Starts a server and connects to it.
///
/// # Errors
/// When the program is not found or cannot be started, or when the handshake fails. No process is left then; one whose start
/// itself hangs in the system is ended as soon as it is there, in the background.
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
            let gone = async { drop(std::future::poll_fn(|cx| owner.poll_exit(cx)).await) };
            let late = async {
                async_io::Timer::after(process::KILL_PATIENCE).await;
            };
            smol::future::or(gone, late).await;
        }
        return Err(error);
    }
    Ok(codex)
}

/// A session whose server is started by the first call that needs it. Does not wait, and cannot fail: what there is to
/// fail is for that call. Those who come while it starts wait for the same server.
///
/// The server's task runs on smol's global executor.
#[must_use]
pub fn lazy(command: &Command, config: Config) -> Codex {
    let started = Started::default();
    drop(started.take());
    session(command, config, started)
}

fn session(command: &Command, config: Config, started: Started) -> Codex {
    let clock = SystemClock::default();
    connect_lazily(config, Arc::new(clock), Servers::new(command.clone(), clock, started))
}

/// Connects over a reader and a writer: a socket, a pipe, an in-memory duplex.
///
/// # Errors
/// When the handshake fails.
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
    let (codex, driver) = prepare(reader, writer, config);
    smol::spawn(driver).detach();
    codex.ready().await?;
    Ok(codex)
}

/// A session over a reader and a writer, and its driver: to be run, on any executor, until it is done. The handshake
/// begins then; [`Codex::ready`] waits for it.
pub fn prepare<R, W>(
    reader: R,
    writer: W,
    config: Config,
) -> (Codex, impl Future<Output = Disconnect> + Send + Unpin + 'static)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    start(config, |clock| SmolTransport::new(reader, writer, clock, None))
}

fn start<R, W>(
    config: Config,
    transport: impl FnOnce(SystemClock) -> SmolTransport<R, W>,
) -> (Codex, turnwire_core::driver::Driver<SmolTransport<R, W>>)
where
    R: AsyncRead + Send + Unpin + 'static,
    W: AsyncWrite + Send + Unpin + 'static,
{
    let clock = SystemClock::default();
    connect_with_clock(config, transport(clock), Arc::new(clock))
}
