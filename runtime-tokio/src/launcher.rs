//! Starting servers as tokio tasks.

use crate::{clock::TokioClock, transport::TokioTransport};
use std::sync::{Arc, Mutex, PoisonError};
use tokio::runtime::Handle;
use turnwire_blocking::process::{Owner, Process, Starting};
use turnwire_core::{
    client::{Connector, Launch},
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
    clock: TokioClock,
    started: Started,
    /// Where the session was made.
    runtime: Option<Handle>,
}

impl Servers {
    pub(crate) fn new(command: Command, clock: TokioClock, started: Started) -> Self {
        Self { command, clock, started, runtime: Handle::try_current().ok() }
    }
}

impl Connector for Servers {
    fn launch(&self, launch: Launch) {
        let Some(runtime) = self.runtime.clone().or_else(|| Handle::try_current().ok()) else {
            return launch.fail(ConnectError::Wire(crate::NO_RUNTIME.into()));
        };
        let (command, clock, started) = (self.command.clone(), self.clock, self.started.clone());
        drop(runtime.spawn(serve(launch, command, clock, started)));
    }
}

async fn serve(mut launch: Launch, command: Command, clock: TokioClock, started: Started) {
    if !launch.due(tokio::time::sleep).await {
        return;
    }
    launch.begin(Phase::Resolve);
    let starting = Starting::new(command);
    if launch.keep(starting.resolved(), tokio::time::sleep).await.is_none() {
        return;
    }
    launch.begin(Phase::Spawn);
    let Process { stdin, stdout, owner, home, .. } = match launch.keep(starting.process(), tokio::time::sleep).await {
        Some(Ok(process)) => process,
        Some(Err(error)) => return launch.fail(error.into()),
        None => return,
    };
    started.put(&owner);
    if let Some(home) = &home {
        launch.expect_home(home);
    }
    let pipes = tokio::process::ChildStdout::from_std(stdout)
        .and_then(|reader| Ok((reader, tokio::process::ChildStdin::from_std(stdin)?)));
    match pipes {
        Ok((reader, writer)) => drop(launch.drive(TokioTransport::new(reader, writer, clock, Some(owner))).await),
        Err(error) => launch.fail(ConnectError::Wire(error.to_string())),
    }
}
