//! Which server a session talks to: the first, or one that took the place of one that died.
//!
//! A [`Supervisor`] is what all handles of a session hold in the end. It owns at most one connection at a time and numbers
//! them. A [`Session`] is one of them, with its number: threads, turns and streams belong to the one that they came from.

use super::{Clock, Connector, Generation, Hub, hub::Launcher, serve::Served};
use crate::{
    connection::{Config, ListenFor, RestartPolicy},
    driver::Transport,
    error::{Disconnect, DisconnectReason},
    time::Time,
};
use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, MutexGuard, PoisonError, Weak},
    time::Duration,
};

/// One server of a session, as handles hold it.
pub(crate) struct Session {
    pub(crate) hub: Arc<Hub>,
    pub(crate) generation: Generation,
    pub(crate) supervisor: Arc<Supervisor>,
}

/// What the handles of a session share. When the last of them is dropped, the connection is closed.
pub(crate) struct Supervisor {
    config: Config,
    clock: Arc<dyn Clock>,
    /// Without one there is no other server than the first.
    connector: Option<Arc<dyn Connector>>,
    current: Mutex<Current>,
}

struct Current {
    hub: Arc<Hub>,
    generation: Generation,
    /// The session of this hub, while any handle holds it.
    session: Weak<Session>,
    /// When there was a restart, the latest last. Length <= `RestartPolicy::max_restarts`.
    restarts: VecDeque<Time>,
    /// The handlers of the application, for every server of the session.
    served: Vec<Weak<Served>>,
    /// Whether the caller has closed the session: then there is no further server.
    is_closed: bool,
}

impl Supervisor {
    /// A session over one transport. There is no other server after it.
    pub(crate) fn over<T: Transport>(
        mut config: Config,
        transport: &T,
        clock: Arc<dyn Clock>,
    ) -> (Arc<Self>, Arc<Hub>) {
        config.expects_exit = transport.expects_exit();
        let hub = Hub::new(config.clone(), Arc::clone(&clock));
        (Self::new(config, clock, None, Arc::clone(&hub)), hub)
    }

    /// A session whose servers come from a connector.
    pub(crate) fn lazy(mut config: Config, clock: Arc<dyn Clock>, connector: Arc<dyn Connector>) -> Arc<Self> {
        // There is no process whose end could be waited for before one was started.
        config.expects_exit = false;
        let launcher = Launcher {
            connector: Arc::clone(&connector),
            generation: Generation(1),
            delay: Duration::ZERO,
            before: None,
        };
        let hub = Hub::lazy(config.clone(), Arc::clone(&clock), launcher);
        Self::new(config, clock, Some(connector), hub)
    }

    fn new(config: Config, clock: Arc<dyn Clock>, connector: Option<Arc<dyn Connector>>, hub: Arc<Hub>) -> Arc<Self> {
        let current = Current {
            hub,
            generation: Generation(1),
            session: Weak::new(),
            restarts: VecDeque::new(),
            served: Vec::new(),
            is_closed: false,
        };
        Arc::new(Self { config, clock, connector, current: Mutex::new(current) })
    }

    /// The server that calls go to now: another than before if that one died and the policy has it replaced. It is not
    /// started before something is asked of it.
    pub(crate) fn renewed(self: &Arc<Self>) -> Arc<Session> {
        let mut current = self.lock();
        let superseded = self.renew(&mut current);
        let session = self.session_of(&mut current);
        let served = current.served();
        drop(current);
        if let Some((old, handle)) = superseded {
            served.iter().for_each(|served| served.wake());
            let current = session.generation;
            old.command(|connection, _| connection.handle_superseded(handle.0, current.0));
        }
        session
    }

    /// The server that calls went to last, whether or not it is still there.
    pub(crate) fn current(self: &Arc<Self>) -> Arc<Session> {
        self.session_of(&mut self.lock())
    }

    /// Whether servers that die may be replaced.
    pub(crate) fn restarts(&self) -> bool {
        self.connector.is_some() && self.config.restart.is_some()
    }

    /// Closes the session for good.
    pub(crate) fn close(&self) {
        let mut current = self.lock();
        current.is_closed = true;
        let hub = Arc::clone(&current.hub);
        let served = current.served();
        drop(current);
        close(&hub);
        served.iter().for_each(|served| served.wake());
    }

    /// Has handlers asked by this server and by those that take its place.
    pub(crate) fn serve(self: &Arc<Self>, wants: ListenFor) -> Arc<Served> {
        let mut current = self.lock();
        let served = Arc::new(Served::new(wants, Arc::downgrade(self)));
        served.listen_to(&current.hub);
        current.served.retain(|served| served.strong_count() > 0);
        current.served.push(Arc::downgrade(&served));
        served
    }

    /// Whether there may be another server after those that were. One too many restarts ago is no end: there may be one more
    /// later.
    pub(crate) fn may_renew(&self) -> bool {
        if !self.restarts() {
            return false;
        }
        let current = self.lock();
        let ending = current.hub.read(|connection| connection.ending());
        !current.is_closed && ending.as_ref().is_none_or(is_a_death)
    }

    /// The seconds of the day's clock.
    pub(crate) fn unix_seconds(&self) -> u64 {
        self.clock.unix_seconds()
    }

    /// Replaces a server that died, and returns it and its number.
    fn renew(&self, current: &mut Current) -> Option<(Arc<Hub>, Generation)> {
        let (Some(policy), Some(connector)) = (&self.config.restart, &self.connector) else { return None };
        let cause = current.hub.read(|connection| connection.ending())?;
        if current.is_closed || !is_a_death(&cause) {
            return None;
        }
        let delay = current.admit(policy, self.clock.now())?;
        let generation = Generation(current.generation.0 + 1);
        let launcher =
            Launcher { connector: Arc::clone(connector), generation, delay, before: Some(Arc::clone(&current.hub)) };
        let hub = Hub::lazy(self.config.clone(), Arc::clone(&self.clock), launcher);
        // What a turn left in force, the next server finds in its store.
        let unrestored = current.hub.read(|connection| connection.unrestored());
        hub.read(|connection| connection.adopt_unrestored(unrestored));
        current.served().iter().for_each(|served| served.listen_to(&hub));
        let old = std::mem::replace(&mut current.hub, hub);
        let handle = std::mem::replace(&mut current.generation, generation);
        current.session = Weak::new();
        Some((old, handle))
    }

    fn session_of(self: &Arc<Self>, current: &mut Current) -> Arc<Session> {
        if let Some(session) = current.session.upgrade() {
            return session;
        }
        let session = Arc::new(Session {
            hub: Arc::clone(&current.hub),
            generation: current.generation,
            supervisor: Arc::clone(self),
        });
        current.session = Arc::downgrade(&session);
        session
    }

    fn lock(&self) -> MutexGuard<'_, Current> {
        // Nothing panics under this lock; if something did, what is there is still the best knowledge.
        self.current.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        let current = self.current.get_mut().unwrap_or_else(PoisonError::into_inner);
        close(&current.hub);
        current.served().iter().for_each(|served| served.wake());
    }
}

impl Current {
    fn served(&self) -> Vec<Arc<Served>> {
        self.served.iter().filter_map(Weak::upgrade).collect()
    }

    /// Whether there may be a restart now, and after which pause. Counts it if so.
    fn admit(&mut self, policy: &RestartPolicy, now: Time) -> Option<Duration> {
        while self.restarts.front().is_some_and(|at| now.since(*at) > policy.window) {
            self.restarts.pop_front();
        }
        let before = self.restarts.len();
        if before >= policy.max_restarts {
            return None;
        }
        self.restarts.push_back(now);
        Some(policy.delay(before))
    }
}

fn close(hub: &Arc<Hub>) {
    hub.command(|connection, now| {
        let within = connection.config().timeouts.close;
        connection.close(now, within);
    });
}

/// Whether a server that ended so may be replaced. Not if this program ended it, nor if another would end the same way.
fn is_a_death(cause: &Disconnect) -> bool {
    match cause.reason() {
        DisconnectReason::ClosedByCaller
        | DisconnectReason::DriverDropped
        | DisconnectReason::InitializeRefused(_)
        | DisconnectReason::Wire(_) => false,
        DisconnectReason::Launch(error) => error.is_retryable(),
        DisconnectReason::Eof
        | DisconnectReason::Exited
        | DisconnectReason::InitializeTimedOut { .. }
        | DisconnectReason::Io(_)
        | DisconnectReason::LaunchTimedOut { .. }
        | DisconnectReason::Protocol(_) => true,
    }
}
