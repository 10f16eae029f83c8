//! What starts a server when one is wanted.

use super::{Clock, Codex, Generation, Hub, session::Supervisor};
use crate::{
    connection::Config,
    driver::{Driver, Transport},
    error::{ConnectError, DisconnectReason, Phase},
    time::Time,
};
use std::{
    fmt,
    future::{Future, poll_fn},
    path::Path,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

/// Starts servers for a session: one when the session is first used, and one for each that died, if the session has a
/// [`RestartPolicy`](crate::connection::RestartPolicy).
///
/// A runtime's crate implements it; so can a program that has other ways to a server than a child process.
pub trait Connector: Send + Sync + 'static {
    /// Starts one in the background, and returns: a task or a thread gets `launch`, waits for [`Launch::due`], brings up a
    /// transport, and runs the driver that [`Launch::drive`] gives. If that comes to nothing it says so with
    /// [`Launch::fail`].
    ///
    /// It is called without any lock held, on the thread of whoever needs the server first.
    fn launch(&self, launch: Launch);
}

/// A session whose server is started by the first call that needs it. Never waits.
///
/// However many calls come at once, one server is started, and a call that is given up takes nothing from the others. The
/// time of the handshake counts from that first call.
pub fn connect_lazily(config: Config, clock: Arc<dyn Clock>, connector: impl Connector) -> Codex {
    Codex::from_supervisor(Supervisor::lazy(config, clock, Arc::new(connector)))
}

/// The order to start one server. Dropping it says that nothing came of it.
#[must_use = "those who called wait for what comes of it"]
pub struct Launch {
    /// Set until it was used up.
    hub: Option<Arc<Hub>>,
    generation: Generation,
    delay: Duration,
    before: Option<Arc<Hub>>,
}

impl fmt::Debug for Launch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Launch")
            .field("generation", &self.generation)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

impl Launch {
    pub(super) fn new(hub: Arc<Hub>, generation: Generation, delay: Duration, before: Option<Arc<Hub>>) -> Self {
        Self { hub: Some(hub), generation, delay, before }
    }

    /// Which server of the session it is to be.
    #[must_use]
    pub fn generation(&self) -> Generation {
        self.generation
    }

    /// Waits until it is time to start: the server before is gone, its process included, as far as can be waited for, and the
    /// pause between restarts is over. Says whether a server is still wanted. `sleep` is the runtime's.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub async fn due<S: Future<Output = ()>>(&mut self, mut sleep: impl FnMut(Duration) -> S) -> bool {
        if let Some(before) = self.before.take() {
            let _ = self.keep(before.gone(), &mut sleep).await;
        }
        if !self.delay.is_zero() {
            let pause = sleep(self.delay);
            let _ = self.keep(pause, &mut sleep).await;
        }
        if let Some(hub) = &self.hub {
            hub.command(|connection, now| connection.handle_due(now));
        }
        self.is_wanted()
    }

    /// Says that the program is looked for now ([`Phase::Resolve`]), or started ([`Phase::Spawn`]). Each has a time of its own
    /// in [`Timeouts`](crate::connection::Timeouts), which [`keep`](Self::keep) keeps.
    pub fn begin(&self, phase: Phase) {
        if let Some(hub) = &self.hub {
            hub.command(|connection, now| connection.handle_launching(now, phase));
        }
    }

    /// Waits for a part of the work, and meanwhile keeps the time of all who wait for the server: there is no driver yet
    /// to do so. `None` if nobody wants the server any more, or the time for it is over. `sleep` is the runtime's.
    ///
    /// # Cancel safety
    /// Dropping the future drops the work, and changes nothing else.
    pub async fn keep<W: Future, S: Future<Output = ()>>(
        &self,
        work: W,
        mut sleep: impl FnMut(Duration) -> S,
    ) -> Option<W::Output> {
        let mut work = pin!(work);
        // The timer, and when it is set to.
        let mut timer: Option<(Time, Pin<Box<S>>)> = None;
        poll_fn(|cx| {
            loop {
                if self.poll_unwanted(cx).is_ready() {
                    return Poll::Ready(None);
                }
                if let Poll::Ready(output) = work.as_mut().poll(cx) {
                    return Poll::Ready(Some(output));
                }
                let Some(hub) = &self.hub else { return Poll::Ready(None) };
                let now = hub.now();
                let Some(at) = hub.read(|connection| connection.poll_timeout()).map(|next| next.at) else {
                    timer = None;
                    return Poll::Pending;
                };
                if at > now {
                    let set = match &mut timer {
                        Some((set_to, set)) if *set_to == at => set,
                        none => &mut none.insert((at, Box::pin(sleep(at.since(now))))).1,
                    };
                    if set.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    timer = None;
                    if hub.now() < at {
                        // A timer that is early is set once more.
                        continue;
                    }
                }
                hub.command(|connection, now| connection.handle_timeout(now));
            }
        })
        .await
    }

    /// Whether anybody still wants the server: nobody has closed the session meanwhile.
    #[must_use]
    pub fn is_wanted(&self) -> bool {
        self.hub.as_ref().is_some_and(|hub| hub.read(|connection| !connection.wants_close_write()))
    }

    /// Says which home the server was started with, so that another in its handshake is noticed.
    pub fn expect_home(&self, home: &Path) {
        if let (Some(hub), Some(home)) = (&self.hub, home.to_str()) {
            let home = home.to_owned();
            hub.read(|connection| connection.expect_home(home));
        }
    }

    /// Says that no server could be started. Whoever waits fails with this.
    pub fn fail(mut self, error: ConnectError) {
        if let Some(hub) = self.hub.take() {
            let reason = error.into_reason();
            hub.command(|connection, now| connection.handle_launch_failure(now, reason));
        }
    }

    /// Says that there is a transport, and gives what moves its bytes: to be polled until it is done.
    ///
    /// If nobody wants the server any more, the driver ends it.
    pub fn drive<T: Transport>(mut self, transport: T) -> Driver<T> {
        // Only `fail`, which ends this too, takes it.
        let hub =
            self.hub.take().unwrap_or_else(|| Hub::new(Config::default(), Arc::new(super::SystemClock::default())));
        let expects_exit = transport.expects_exit();
        hub.command(|connection, _| connection.handle_launched(expects_exit));
        Driver::new(hub, transport)
    }

    fn poll_unwanted(&self, cx: &Context<'_>) -> Poll<()> {
        let Some(hub) = &self.hub else { return Poll::Ready(()) };
        // In the driver's place: each command wakes it.
        match hub.drive(cx, |connection, _| connection.wants_close_write()) {
            true => Poll::Ready(()),
            false => Poll::Pending,
        }
    }
}

impl Drop for Launch {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.take() {
            hub.command(|connection, now| connection.handle_launch_failure(now, DisconnectReason::DriverDropped));
        }
    }
}
