//! Starting servers as tasks of smol's global executor.

use crate::transport::SmolTransport;
use std::{
    io,
    process::{ChildStdin, ChildStdout},
    sync::{Arc, Mutex, PoisonError},
};
use turnwire_blocking::process::{Owner, Process, Starting};
use turnwire_core::{
    client::{Connector, Launch, SystemClock},
    error::{ConnectError, Phase},
    launch::Command,
};

/// The process that was started first, for as long as somebody may have to wait for its end. To hold it longer would keep
/// it alive.
#[derive(Clone)]
pub(crate) struct Started(Arc<Mutex<Option<Option<Owner>>>>);

impl Default for Started {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(None))))
    }
}

impl Started {
    /// Takes it, and asks for no further one.
    pub(crate) fn take(&self) -> Option<Owner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take().flatten()
    }

    fn put(&self, owner: &Owner) {
        if let Some(wanted) = &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            *wanted = Some(owner.clone());
        }
    }
}

/// Starts a process of one command whenever a session wants a server.
pub(crate) struct Servers {
    command: Command,
    clock: SystemClock,
    started: Started,
}

impl Servers {
    pub(crate) fn new(command: Command, clock: SystemClock, started: Started) -> Self {
        Self { command, clock, started }
    }
}

impl Connector for Servers {
    fn launch(&self, launch: Launch) {
        smol::spawn(serve(launch, self.command.clone(), self.clock, self.started.clone())).detach();
    }
}

async fn serve(mut launch: Launch, command: Command, clock: SystemClock, started: Started) {
    let sleep = |pause| async move {
        async_io::Timer::after(pause).await;
    };
    if !launch.due(sleep).await {
        return;
    }
    launch.begin(Phase::Resolve);
    let starting = Starting::new(command);
    if launch.keep(starting.resolved(), sleep).await.is_none() {
        return;
    }
    launch.begin(Phase::Spawn);
    let Process { stdin, stdout, owner, home, .. } = match launch.keep(starting.process(), sleep).await {
        Some(Ok(process)) => process,
        Some(Err(error)) => return launch.fail(error.into()),
        None => return,
    };
    started.put(&owner);
    if let Some(home) = &home {
        launch.expect_home(home);
    }
    match pipes(stdout, stdin) {
        Ok((reader, writer)) => drop(launch.drive(SmolTransport::new(reader, writer, clock, Some(owner))).await),
        Err(error) => launch.fail(ConnectError::Wire(error.to_string())),
    }
}

#[cfg(unix)]
fn pipes(
    stdout: ChildStdout,
    stdin: ChildStdin,
) -> io::Result<(async_io::Async<ChildStdout>, async_io::Async<ChildStdin>)> {
    Ok((async_io::Async::new(stdout)?, async_io::Async::new(stdin)?))
}

/// Elsewhere a pipe cannot be polled: threads of smol's pool read and write it.
#[cfg(not(unix))]
fn pipes(
    stdout: ChildStdout,
    stdin: ChildStdin,
) -> io::Result<(smol::Unblock<ChildStdout>, smol::Unblock<ChildStdin>)> {
    Ok((smol::Unblock::new(stdout), smol::Unblock::new(stdin)))
}
