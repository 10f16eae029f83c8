//! Starting servers on threads.

use crate::{
    process::{self, Owner, Process},
    transport::ThreadTransport,
    wait::wait_with,
};
use std::{
    cell::Cell,
    future::poll_fn,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    thread,
    time::{Duration, Instant},
};
use turnwire_core::{
    client::{Connector, Launch, SystemClock},
    error::ConnectError,
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
        let (command, clock, started) = (self.command.clone(), self.clock, self.started.clone());
        // Shared, so that it is still there to be failed if there is no thread.
        let launch = Arc::new(Mutex::new(Some(launch)));
        let take = |launch: &Mutex<Option<Launch>>| launch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let for_thread = Arc::clone(&launch);
        let thread = thread::Builder::new().name("turnwire-driver".into()).spawn(move || {
            if let Some(launch) = take(&for_thread) {
                serve(launch, &command, clock, &started);
            }
        });
        if let Err(error) = thread {
            if let Some(launch) = take(&launch) {
                launch.fail(ConnectError::Wire(error.to_string()));
            }
        }
    }
}

fn serve(mut launch: Launch, command: &Command, clock: SystemClock, started: &Started) {
    let until = Cell::new(None);
    let sleep = |pause: Duration| {
        until.set(Instant::now().checked_add(pause));
        poll_fn(|_| match until.get().is_some_and(|until| Instant::now() < until) {
            true => Poll::Pending,
            false => Poll::Ready(()),
        })
    };
    if !wait_with(launch.due(sleep), || until.get()) {
        return;
    }
    let Process { stdin, stdout, owner, home, .. } = match process::spawn(command) {
        Ok(process) => process,
        Err(error) => return launch.fail(error.into()),
    };
    started.put(&owner);
    if let Some(home) = &home {
        launch.expect_home(home);
    }
    match ThreadTransport::new(stdout, stdin, Some(owner)) {
        Ok(transport) => {
            let deadline = transport.deadline();
            let look_again = move || deadline.get().and_then(|at| clock.instant(at));
            drop(wait_with(launch.drive(transport), look_again));
        }
        Err(error) => launch.fail(ConnectError::Wire(error.to_string())),
    }
}
