//! One lock around one connection, and who is to be woken when something in it is new.
//!
//! Everything that waits waits here, for one thing only: "look again". Wakers are collected under the lock and woken
//! after it is released, so that whoever wakes up at once finds the lock free.

use super::{
    trace,
    waiting::{Wait, WaiterId, Waiters, Waiting},
    watch::Watch,
};
use crate::{
    client::{Clock, Connector, Launch, StartTimings},
    connection::{AlarmKey, Config, Connection, Event, RequestKey, Timeouts},
    driver::Ender,
    error::{CallError, Disconnect},
    json::Json,
    numbers::NumberMap,
    time::Time,
    turn::{RawEvent, Rest, SubscriptionKey, TurnKey},
};
use std::{
    collections::{BTreeMap, VecDeque},
    future::{Future, poll_fn},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

/// Wakers that are woken when this is dropped, in order, and all of them, though one should panic.
struct WakeAll(Vec<Waker>);

impl Drop for WakeAll {
    fn drop(&mut self) {
        struct Rest(std::vec::IntoIter<Waker>);

        impl Drop for Rest {
            fn drop(&mut self) {
                self.0.by_ref().for_each(Waker::wake);
            }
        }

        let mut rest = Rest(std::mem::take(&mut self.0).into_iter());
        rest.0.by_ref().for_each(Waker::wake);
    }
}

/// Numbers the servers of a session, one after the other. A handle knows the one that it came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Generation(pub(crate) u64);

impl Generation {
    /// 1 for the first server of a session, and 1 more for each that took the place of one that died.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }
}

pub(crate) use super::session::Session;

/// A connection that several threads or tasks share.
pub(crate) struct Hub {
    shared: Mutex<Shared>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) watch: Watch,
    /// Whether there is a driver that watches a process. It may outlive the connection.
    has_process: AtomicBool,
    /// The server before, which is waited for together with this one.
    before: Weak<Self>,
    this: Weak<Self>,
}

/// What starts the server of a connection that has none yet.
pub(crate) struct Launcher {
    pub(crate) connector: Arc<dyn Connector>,
    pub(crate) generation: Generation,
    /// How long to wait first.
    pub(crate) delay: Duration,
    /// The server before, which shall be gone first.
    pub(crate) before: Option<Arc<Hub>>,
}

struct Shared {
    connection: Connection,
    /// Who waits for each subscription that somebody has waited for, until it is closed.
    readers: NumberMap<SubscriptionKey, Waiters>,
    /// Who waits for anything else. No entry is empty.
    others: BTreeMap<Wait, Waiters>,
    /// The id that was given out last.
    last_waiter: u64,
    driver: Option<Waker>,
    /// Set if and only if the connection is idle and is to have a server once something is asked of it.
    launcher: Option<Launcher>,
    /// What begins to end the process. Set from when there is one until the connection is over.
    ender: Option<Ender>,
}

impl Hub {
    /// A hub whose driver is about to be polled.
    pub(crate) fn new(config: Config, clock: Arc<dyn Clock>) -> Arc<Self> {
        let connection = Connection::new(clock.now(), config);
        Self::with(connection, clock, None)
    }

    /// A hub that starts its server when something is asked of it.
    pub(crate) fn lazy(config: Config, clock: Arc<dyn Clock>, launcher: Launcher) -> Arc<Self> {
        Self::with(Connection::unstarted(config), clock, Some(launcher))
    }

    fn with(connection: Connection, clock: Arc<dyn Clock>, launcher: Option<Launcher>) -> Arc<Self> {
        let watch = Watch::new(connection.config());
        let before = launcher.as_ref().and_then(|launcher| launcher.before.as_ref()).map(Arc::downgrade);
        Arc::new_cyclic(|this| Self {
            this: this.clone(),
            shared: Mutex::new(Shared {
                connection,
                readers: NumberMap::default(),
                others: BTreeMap::new(),
                last_waiter: 0,
                driver: None,
                launcher,
                ender: None,
            }),
            clock,
            watch,
            has_process: AtomicBool::new(false),
            before: before.unwrap_or_default(),
        })
    }

    /// Starts the server if there is none yet.
    pub(crate) fn begin(&self) {
        let now = self.clock.now();
        let mut shared = self.lock();
        let launcher = shared.begin(now);
        drop(shared);
        self.launch(launcher);
    }

    /// The clock's time.
    pub(crate) fn now(&self) -> Time {
        self.clock.now()
    }

    fn launch(&self, launcher: Option<Launcher>) {
        if let (Some(Launcher { connector, generation, delay, before }), Some(hub)) = (launcher, self.this.upgrade()) {
            connector.launch(Launch::new(hub, generation, delay, before));
        }
    }

    /// Looks at the connection, or changes what neither the driver nor anybody who waits has to hear of.
    pub(crate) fn read<R>(&self, look: impl FnOnce(&mut Connection) -> R) -> R {
        look(&mut self.lock().connection)
    }

    /// Does something to the connection that the driver has to act on.
    pub(crate) fn command<R>(&self, act: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let trace = self.watch.trace_context();
        let traced = |connection: &mut Connection, now| {
            let is_traced = trace.is_some();
            if is_traced {
                connection.set_trace_context(trace);
            }
            let result = act(connection, now);
            if is_traced {
                connection.set_trace_context(None);
            }
            result
        };
        let mut launcher = None;
        let now = self.clock.now();
        let result = self.act(traced, |shared, wakes| {
            wakes.extend(shared.driver.take());
            if shared.connection.wants_begin() {
                launcher = shared.begin(now);
            }
        });
        self.launch(launcher);
        result
    }

    /// Does something to the connection as its driver, who wants to be woken by the next command.
    pub(crate) fn drive<R>(&self, cx: &Context<'_>, act: impl FnOnce(&mut Connection, Time) -> R) -> R {
        let mut replaced = None;
        let result = self.act(act, |shared, _| match &shared.driver {
            Some(known) if known.will_wake(cx.waker()) => {}
            _ => replaced = shared.driver.replace(cx.waker().clone()),
        });
        // Whatever dropping a waker runs, it runs without the lock.
        drop(replaced);
        result
    }

    /// Looks at the connection, and has this one woken if there is nothing yet.
    pub(crate) fn poll<R>(
        &self,
        cx: &Context<'_>,
        wait: Wait,
        id: &WaiterId,
        look: impl FnOnce(&mut Connection) -> Poll<R>,
    ) -> Poll<R> {
        let mut shared = self.lock();
        let found = look(&mut shared.connection);
        let replaced = match &found {
            Poll::Pending => shared.register(wait, id, cx.waker()),
            Poll::Ready(_) => shared.leave(wait, id),
        };
        drop(shared);
        // Whatever dropping a waker runs, it runs without the lock.
        drop(replaced);
        found
    }

    /// Looks at the connection until something is found.
    ///
    /// # Cancel safety
    /// Dropping the future gives up the waiting, and changes nothing else.
    pub(crate) async fn wait<R>(&self, wait: Wait, mut look: impl FnMut(&mut Connection) -> Poll<R>) -> R {
        let waiting = Waiting::new(self, wait);
        poll_fn(|cx| waiting.poll(cx, &mut look)).await
    }

    /// Forgets one who waits.
    pub(crate) fn leave(&self, wait: Wait, id: &WaiterId) {
        if id.get().is_some() {
            let waker = self.lock().leave(wait, id);
            // Whatever dropping a waker runs, it runs without the lock.
            drop(waker);
        }
    }

    /// Fills several mailboxes in one look at the connection.
    pub(crate) fn fill(&self, several: impl FnOnce(&mut Filler<'_>)) {
        // Declared before the lock is taken, so that they are dropped after it is released.
        let mut replaced = Vec::new();
        let mut shared = self.lock();
        several(&mut Filler { shared: &mut shared, replaced: &mut replaced });
    }

    /// Notes that there is a driver, and what it knows of a process, if there is one.
    pub(crate) fn note_driver(self: &Arc<Self>, timings: StartTimings, has_process: bool, ender: Option<Ender>) {
        self.note_start(timings);
        self.has_process.store(has_process, Ordering::Release);
        let mut shared = self.lock();
        shared.ender = ender;
        let ender = shared.due_ender();
        drop(shared);
        if let Some(end) = ender {
            end();
        }
    }

    /// Notes that the driver is done: nobody watches the process any more.
    pub(crate) fn note_gone(&self) {
        if self.has_process.swap(false, Ordering::AcqRel) {
            let waiters = self.lock().others.remove(&Wait::Link);
            drop(WakeAll(waiters.map(|mut waiters| waiters.take().collect()).unwrap_or_default()));
        }
    }

    /// Waits until the connection is over and there is no process any more, or it was given up; and the same for the servers
    /// before.
    ///
    /// # Cancel safety
    /// Dropping the future changes nothing.
    pub(crate) async fn gone(&self) -> Disconnect {
        let cause = self.alone_gone().await;
        let mut before = self.before.upgrade();
        while let Some(hub) = before {
            let _ = hub.alone_gone().await;
            before = hub.before.upgrade();
        }
        cause
    }

    async fn alone_gone(&self) -> Disconnect {
        let look = |connection: &mut Connection| match connection.gone() {
            Some(cause) if !self.has_process.load(Ordering::Acquire) => Poll::Ready(cause),
            _ => Poll::Pending,
        };
        self.wait(Wait::Link, look).await
    }

    /// Forgets all who wait for something that is not to come any more.
    pub(crate) fn forget(&self, wait: Wait) {
        let wakers = self.lock().others.remove(&wait);
        // Whatever dropping a waker runs, it runs without the lock.
        drop(wakers);
    }

    fn act<R>(
        &self,
        act: impl FnOnce(&mut Connection, Time) -> R,
        about_driver: impl FnOnce(&mut Shared, &mut Vec<Waker>),
    ) -> R {
        let now = self.clock.now();
        // Declared before the lock is taken, so that whatever happens they are woken after it is released.
        let mut wakes = WakeAll(Vec::new());
        let mut shared = self.lock();
        let result = act(&mut shared.connection, now);
        about_driver(&mut shared, &mut wakes.0);
        shared.collect(&*self.clock, &mut wakes.0);
        let noticed = self.watch.notice(&shared.connection);
        let ender = shared.due_ender();
        drop(shared);
        self.watch.tell(noticed);
        if let Some(end) = ender {
            end();
        }
        result
    }

    fn lock(&self) -> MutexGuard<'_, Shared> {
        // Nothing panics under this lock; if something did, the tables are still the best knowledge there is.
        self.shared.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Shared {
    /// Takes what is to be done now that the connection is over, once: without the lock, by the caller.
    fn due_ender(&mut self) -> Option<Ender> {
        if self.connection.wants_close_write() { self.ender.take() } else { None }
    }

    /// Begins the handshake of a connection that has no server yet. Returns what is to start one.
    fn begin(&mut self, now: Time) -> Option<Launcher> {
        if !self.connection.is_idle() {
            return None;
        }
        let launcher = self.launcher.take();
        // A start that has to wait, at most for the end of the server before and for its pause, does so out of nobody's time.
        let pause = launcher.as_ref().map_or(Duration::ZERO, |launcher| {
            let has_process = launcher.before.as_ref().is_some_and(|before| before.has_process.load(Ordering::Acquire));
            let Timeouts { drain, close, .. } = self.connection.config().timeouts;
            launcher.delay.saturating_add(if has_process { drain.saturating_add(close) } else { Duration::ZERO })
        });
        self.connection.begin(now + pause);
        launcher
    }

    /// Notes who waits. Returns the waker that it had before.
    fn register(&mut self, wait: Wait, id: &WaiterId, waker: &Waker) -> Option<Waker> {
        let number = id.get().unwrap_or_else(|| {
            self.last_waiter += 1;
            id.set(self.last_waiter);
            self.last_waiter
        });
        let waiters = match wait {
            Wait::Subscription(key) => self.readers.entry(key).or_default(),
            wait => self.others.entry(wait).or_default(),
        };
        waiters.register(number, waker)
    }

    /// Forgets one who waits, and returns its waker.
    fn leave(&mut self, wait: Wait, id: &WaiterId) -> Option<Waker> {
        let number = id.get()?;
        id.set(0);
        if let Wait::Subscription(key) = wait {
            return self.readers.get_mut(&key)?.leave(number);
        }
        let waiters = self.others.get_mut(&wait)?;
        let waker = waiters.leave(number);
        if waiters.is_empty() {
            self.others.remove(&wait);
        }
        waker
    }

    fn collect(&mut self, clock: &dyn Clock, wakes: &mut Vec<Waker>) {
        while let Some(event) = self.connection.poll_event() {
            let wait = match event {
                Event::Alarm(key) => Wait::Alarm(key),
                Event::Asked(key) => Wait::Listener(key),
                Event::AskEnded(key) => Wait::Ask(key),
                Event::Login(key) => Wait::Login(key),
                Event::Closed | Event::Ready => Wait::Link,
                Event::Readable(key) => {
                    if let Some(waiters) = self.readers.get_mut(&key) {
                        wakes.extend(waiters.take());
                    }
                    continue;
                }
                Event::Response(key) => Wait::Response(key),
                Event::TimeWanted(key) => {
                    self.connection.respond_time(key, clock.unix_seconds());
                    continue;
                }
                Event::Turn(key) => Wait::Turn(key),
            };
            if let Some(mut waiters) = self.others.remove(&wait) {
                wakes.extend(waiters.take());
            }
        }
    }
}

/// Waits for the answer to one request. Dropping it gives the request up.
pub(crate) struct Reply {
    pub(crate) session: Arc<Session>,
    /// Set until the answer was fetched.
    key: Option<RequestKey>,
    trace: trace::Request,
}

impl Reply {
    pub(crate) fn new(session: &Arc<Session>, key: RequestKey) -> Self {
        let trace = trace::Request::new(&session.hub, key);
        Self { session: Arc::clone(session), key: Some(key), trace }
    }

    /// What came of the request, without giving it up: for those who fetch more by its key.
    pub(crate) async fn wait(&mut self) -> Result<Json, CallError> {
        poll_fn(|cx| Pin::new(&mut *self).poll(cx)).await
    }
}

impl Future for Reply {
    type Output = Result<Json, CallError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let Some(key) = self.key else { return Poll::Pending };
        let look = |connection: &mut Connection| match connection.take_json(key) {
            Some(outcome) => Poll::Ready(outcome),
            None => Poll::Pending,
        };
        let found = self.session.hub.poll(cx, Wait::Response(key), &WaiterId::sole(), look);
        if let Poll::Ready(outcome) = &found {
            self.trace.ended(outcome);
            self.key = None;
        }
        found
    }
}

impl Drop for Reply {
    fn drop(&mut self) {
        if let Some(key) = self.key {
            let hub = &self.session.hub;
            let mut shared = hub.lock();
            shared.connection.abandon(key);
            let waiters = shared.others.remove(&Wait::Response(key));
            drop(shared);
            drop(waiters);
        }
    }
}

/// Waits for a moment. Ends early when the connection is over. Dropping it takes the alarm back.
pub(crate) struct Alarm {
    session: Arc<Session>,
    key: AlarmKey,
}

impl Alarm {
    pub(crate) fn new(session: &Arc<Session>, after: std::time::Duration) -> Self {
        let key = session.hub.command(|connection, now| connection.alarm(now, now + after));
        Self { session: Arc::clone(session), key }
    }
}

impl Future for Alarm {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let key = self.key;
        self.session.hub.poll(cx, Wait::Alarm(key), &WaiterId::sole(), |connection| {
            if connection.is_alarm_set(key) { Poll::Pending } else { Poll::Ready(()) }
        })
    }
}

impl Drop for Alarm {
    fn drop(&mut self) {
        let mut shared = self.session.hub.lock();
        shared.connection.cancel_alarm(self.key);
        let waiters = shared.others.remove(&Wait::Alarm(self.key));
        drop(shared);
        drop(waiters);
    }
}

/// How a mailbox stands with one who reads several.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Filled {
    /// It has to be looked into by itself: somebody else held it.
    Not,
    /// It has what there was.
    Yes,
    /// It has all that there was, and what comes after that wakes the reader.
    Waiting,
}

/// Fills mailboxes.
pub(crate) struct Filler<'a> {
    shared: &'a mut Shared,
    replaced: &'a mut Vec<Waker>,
}

impl Filler<'_> {
    /// Puts what there is into a mailbox that has nothing, and notes who waits for more.
    pub(crate) fn fill(&mut self, mailbox: &Mutex<Mailbox>, id: &WaiterId, waker: &Waker, filled: &mut Filled) {
        // Who holds it may wait for the lock that is held here.
        let Ok(mut mailbox) = mailbox.try_lock() else {
            *filled = Filled::Not;
            return;
        };
        match mailbox.fill(&mut self.shared.connection) {
            Some(Rest::Later) => {
                self.replaced.extend(self.shared.register(Wait::Subscription(mailbox.key), id, waker));
                *filled = Filled::Waiting;
            }
            Some(Rest::Now | Rest::Never) => *filled = Filled::Yes,
            None if *filled == Filled::Not => *filled = Filled::Yes,
            None => {}
        }
    }
}

/// The reading end of a subscription. Events are taken out several at a time.
pub(crate) struct Mailbox {
    pub(crate) key: SubscriptionKey,
    taken: VecDeque<RawEvent>,
    finished: bool,
}

impl Mailbox {
    pub(crate) fn new(key: SubscriptionKey) -> Self {
        Self { key, taken: VecDeque::new(), finished: false }
    }

    /// The next event, for one of those who wait for it.
    pub(crate) fn poll_next(&mut self, hub: &Hub, cx: &Context<'_>, id: &WaiterId) -> Poll<Option<RawEvent>> {
        if self.taken.is_empty() && !self.finished {
            let mut is_idle = false;
            let filled = hub.poll(cx, Wait::Subscription(self.key), id, |connection| {
                is_idle = connection.is_idle();
                self.fill(connection);
                if self.taken.is_empty() && !self.finished { Poll::Pending } else { Poll::Ready(()) }
            });
            if filled.is_pending() {
                // Nothing will ever come of a server that nobody starts.
                if is_idle {
                    hub.begin();
                }
                return Poll::Pending;
            }
        }
        Poll::Ready(self.taken.pop_front())
    }

    /// The next of the events that were taken out; and whether it was the last of them, so far.
    pub(crate) fn poll_taken(&mut self) -> (Poll<Option<RawEvent>>, bool) {
        match self.taken.pop_front() {
            None if !self.finished => (Poll::Pending, true),
            found => (Poll::Ready(found), self.taken.is_empty() && !self.finished),
        }
    }

    /// Takes out what there is, unless there is something left. Says what comes after, if it looked.
    fn fill(&mut self, connection: &mut Connection) -> Option<Rest> {
        if !self.taken.is_empty() || self.finished {
            return None;
        }
        let rest = connection.take_some(self.key, &mut self.taken);
        self.finished = rest == Rest::Never;
        Some(rest)
    }

    /// What was taken out and not given on.
    pub(crate) fn take_unread(&mut self) -> VecDeque<RawEvent> {
        std::mem::take(&mut self.taken)
    }

    pub(crate) fn close(&mut self, hub: &Hub) {
        // What the reader was asked and has not taken is refused now, and that has to be written.
        hub.command(|connection, _| connection.unsubscribe(self.key));
        let waiters = hub.lock().readers.remove(&self.key);
        drop(waiters);
    }
}

/// Lets go of a turn. Others may hold it too, and wait: whoever waits gives up the own place, and no other.
pub(crate) fn drop_turn(hub: &Hub, key: TurnKey) {
    // The driver may have something to send then.
    hub.command(|connection, now| connection.drop_turn(now, key));
}
