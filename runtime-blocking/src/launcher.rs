//! Starting servers on threads.

#[cfg(unix)]
use crate::pipes;
#[cfg(not(unix))]
use crate::transport::ThreadTransport;
use crate::{
    process::{Owner, Process, Starting},
    wait::wait_with,
};
use std::{
    cell::RefCell,
    collections::BTreeSet,
    future::Future,
    pin::Pin,
    sync::{Arc, Mutex, PoisonError},
    task::{Context, Poll},
    thread,
    time::{Duration, Instant},
};
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
        let (command, clock, started) = (self.command.clone(), self.clock, self.started.clone());
        // Shared, so that it is still there to be failed if there is no thread.
        let launch = Arc::new(Mutex::new(Some(launch)));
        let take = |launch: &Mutex<Option<Launch>>| launch.lock().unwrap_or_else(PoisonError::into_inner).take();
        let for_thread = Arc::clone(&launch);
        let thread = thread::Builder::new().name("turnwire-driver".into()).spawn(move || {
            if let Some(launch) = take(&for_thread) {
                serve(launch, command, clock, &started);
            }
        });
        if let Err(error) = thread {
            if let Some(launch) = take(&launch) {
                launch.fail(ConnectError::Wire(error.to_string()));
            }
        }
    }
}

/// A pause on a thread that looks again at the earliest of its alarms.
struct Sleep<'a> {
    /// `None`: longer than the clock can count.
    until: Option<Instant>,
    alarms: &'a RefCell<BTreeSet<Instant>>,
}

impl Future for Sleep<'_> {
    type Output = ();

    fn poll(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<()> {
        let Some(until) = self.until else { return Poll::Pending };
        let mut alarms = self.alarms.borrow_mut();
        if Instant::now() < until {
            alarms.insert(until);
            return Poll::Pending;
        }
        alarms.remove(&until);
        Poll::Ready(())
    }
}

impl Drop for Sleep<'_> {
    fn drop(&mut self) {
        if let Some(until) = self.until {
            self.alarms.borrow_mut().remove(&until);
        }
    }
}

fn serve(mut launch: Launch, command: Command, clock: SystemClock, started: &Started) {
    // When the thread has to look again: the earliest of what is slept for.
    let alarms = RefCell::new(BTreeSet::new());
    let sleep = |pause: Duration| Sleep { until: Instant::now().checked_add(pause), alarms: &alarms };
    let look_again = || alarms.borrow().first().copied();
    if !wait_with(launch.due(sleep), look_again) {
        return;
    }
    launch.begin(Phase::Resolve);
    let starting = Starting::new(command);
    if wait_with(launch.keep(starting.resolved(), sleep), look_again).is_none() {
        return;
    }
    launch.begin(Phase::Spawn);
    let started_process = wait_with(launch.keep(starting.process(), sleep), look_again);
    let Process { stdin, stdout, owner, home, .. } = match started_process {
        Some(Ok(process)) => process,
        Some(Err(error)) => return launch.fail(error.into()),
        None => return,
    };
    started.put(&owner);
    if let Some(home) = &home {
        launch.expect_home(home);
    }
    #[cfg(unix)]
    let outcome =
        pipes::take(stdout, stdin, owner).map(|(transport, bed)| (transport, |driver| bed.drive(driver, clock)));
    #[cfg(not(unix))]
    let outcome = ThreadTransport::new(stdout, stdin, Some(owner)).map(|transport| {
        let deadline = transport.deadline();
        (transport, move |driver| wait_with(driver, || deadline.get().and_then(|at| clock.instant(at))))
    });
    match outcome {
        Ok((transport, drive)) => drop(drive(launch.drive(transport))),
        Err(error) => launch.fail(ConnectError::Wire(error.to_string())),
    }
}
