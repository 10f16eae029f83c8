//! One thread, one clock that jumps, one scripted server in memory, and an executor that a seed steers.
//!
//! Nothing here is a runtime's: futures are polled when they were woken, in an order that the seed decides, and at any
//! moment any of them can be dropped. When nobody is woken the server says what it has to say; when it has nothing, time
//! jumps; and when there is nothing to wait for, the world is quiet. A future that would be ready then, though nobody woke
//! it, has lost its wake.

use serde_json::Value;
use std::{
    cell::RefCell,
    collections::VecDeque,
    future::Future,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
    time::Duration,
};
use turnwire_core::{
    client::{Clock, Codex, connect_with_clock},
    connection::Config,
    driver::Transport,
    launch::{ExitReport, ExitStatus},
    time::Time,
};
use turnwire_testkit::{
    scripted::{Script, ScriptedServer},
    sim::Rng,
};

/// A clock that moves when the world says so.
#[derive(Default)]
struct Jumping(AtomicU64);

impl Clock for Jumping {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::SeqCst))
    }

    fn unix_seconds(&self) -> u64 {
        1_795_349_155
    }
}

/// The server, and what is between it and the transport.
struct Wire {
    server: ScriptedServer,
    clock: Arc<Jumping>,
    to_client: VecDeque<u8>,
    /// The server's output is over once `to_client` is read.
    is_over: bool,
    exit_told: bool,
    reader: Option<Waker>,
    writer: Option<Waker>,
    deadline: Option<(Time, Waker)>,
    exit: Option<Waker>,
    /// The most bytes that one read or write moves.
    most: usize,
    /// How many writes were put off in a row.
    put_off: u32,
    written: u64,
    /// All that the server has said.
    said: Vec<u8>,
    rng: Rng,
}

impl Wire {
    fn now(&self) -> Duration {
        self.clock.now().since(Time::ZERO)
    }

    /// Takes what the server has to say now, and wakes who waits for it.
    fn listen(&mut self) -> Vec<Waker> {
        let mut said = Vec::new();
        let now = self.now();
        self.server.poll_output(now, &mut said);
        let was_over = self.is_over;
        self.is_over |= self.server.state().is_over();
        let mut wakers = Vec::new();
        if !said.is_empty() || self.is_over != was_over {
            wakers.extend(self.reader.take());
        }
        if self.is_over && !was_over {
            wakers.extend(self.exit.take());
        }
        self.said.extend_from_slice(&said);
        self.to_client.extend(said);
        wakers
    }
}

pub(crate) struct InMemory(Arc<Mutex<Wire>>);

impl Transport for InMemory {
    fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock().expect("not poisoned");
        if wire.to_client.is_empty() {
            if wire.is_over {
                return Poll::Ready(Ok(0));
            }
            wire.reader = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let most = wire.most.min(wire.to_client.len()).min(buffer.len());
        let count = 1 + wire.rng.index(most);
        for (place, byte) in buffer.iter_mut().zip(wire.to_client.drain(..count)) {
            *place = byte;
        }
        Poll::Ready(Ok(count))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut wire = self.0.lock().expect("not poisoned");
        if wire.is_over {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        // Now and then the pipe is full, and has room a moment later.
        if wire.put_off < 2 && wire.rng.one_in(4) {
            wire.put_off += 1;
            wire.writer = Some(cx.waker().clone());
            return Poll::Pending;
        }
        wire.put_off = 0;
        let most = wire.most.min(bytes.len());
        let count = 1 + wire.rng.index(most);
        let now = wire.now();
        wire.server.handle_input(now, &bytes[..count]);
        wire.written += count as u64;
        Poll::Ready(Ok(count))
    }

    fn poll_flush(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_close_write(&mut self, _: &mut Context<'_>) -> Poll<()> {
        let mut wire = self.0.lock().expect("not poisoned");
        let now = wire.now();
        wire.server.handle_eof(now);
        Poll::Ready(())
    }

    fn poll_deadline(&mut self, cx: &mut Context<'_>, at: Option<Time>) -> Poll<()> {
        let mut wire = self.0.lock().expect("not poisoned");
        wire.deadline = None;
        match at {
            Some(at) if at <= wire.clock.now() => Poll::Ready(()),
            Some(at) => {
                wire.deadline = Some((at, cx.waker().clone()));
                Poll::Pending
            }
            None => Poll::Pending,
        }
    }

    fn poll_exit(&mut self, cx: &mut Context<'_>) -> Poll<ExitReport> {
        let mut wire = self.0.lock().expect("not poisoned");
        if wire.is_over && !wire.exit_told {
            wire.exit_told = true;
            return Poll::Ready(ExitReport::new(Some(ExitStatus::new(Some(0), None))));
        }
        wire.exit = Some(cx.waker().clone());
        Poll::Pending
    }

    fn expects_exit(&self) -> bool {
        true
    }

    fn evidence(&self) -> Option<ExitReport> {
        None
    }
}

/// A waker that counts, and that calls the session when it is woken: under the session's lock that would hang.
pub(crate) struct Flag {
    is_woken: AtomicBool,
    wakes: AtomicUsize,
    probe: Arc<Mutex<Option<Codex>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if let Ok(probe) = self.probe.try_lock() {
            if let Some(codex) = &*probe {
                let _ = codex.counters();
            }
        }
        self.is_woken.store(true, Ordering::SeqCst);
        self.wakes.fetch_add(1, Ordering::SeqCst);
    }
}

struct Task {
    future: Pin<Box<dyn Future<Output = ()>>>,
    flag: Arc<Flag>,
    waker: Waker,
    polls: usize,
    /// After so many polls it is dropped.
    lives: Option<usize>,
    /// It waits for one thing at a time, and so is woken no more often than polled.
    waits_for_one: bool,
}

/// Names a task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TaskKey(usize);

pub(crate) struct World {
    pub(crate) codex: Option<Codex>,
    pub(crate) rng: Rng,
    clock: Arc<Jumping>,
    wire: Arc<Mutex<Wire>>,
    probe: Arc<Mutex<Option<Codex>>>,
    tasks: Vec<Option<Task>>,
    /// What is not polled for now, though woken.
    pub(crate) starved: Option<TaskKey>,
    pub(crate) steps: u64,
}

/// The driver is the first task.
pub(crate) const DRIVER: TaskKey = TaskKey(0);

impl World {
    /// `most`: how many bytes one read or write moves at most.
    pub(crate) fn new(script: Script, config: Config, seed: u64, most: usize) -> Self {
        let mut rng = Rng::new(seed);
        let clock = Arc::new(Jumping::default());
        let wire = Wire {
            server: ScriptedServer::new(script),
            clock: Arc::clone(&clock),
            to_client: VecDeque::new(),
            is_over: false,
            exit_told: false,
            reader: None,
            writer: None,
            deadline: None,
            exit: None,
            most,
            put_off: 0,
            written: 0,
            said: Vec::new(),
            rng: rng.fork(),
        };
        let wire = Arc::new(Mutex::new(wire));
        let clock_of_client: Arc<dyn Clock> = Arc::<Jumping>::clone(&clock);
        let (codex, driver) = connect_with_clock(config, InMemory(Arc::clone(&wire)), clock_of_client);
        let probe = Arc::new(Mutex::new(Some(codex.clone())));
        let mut world =
            Self { codex: Some(codex), rng, clock, wire, probe, tasks: Vec::new(), starved: None, steps: 0 };
        world.spawn(async move { drop(driver.await) });
        world
    }

    pub(crate) fn codex(&self) -> Codex {
        self.codex.clone().expect("a handle is left")
    }

    pub(crate) fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> TaskKey {
        self.spawn_for(None, future)
    }

    /// A task that is dropped after so many polls.
    pub(crate) fn spawn_for(&mut self, lives: Option<usize>, future: impl Future<Output = ()> + 'static) -> TaskKey {
        let flag = Flag { is_woken: AtomicBool::new(true), wakes: AtomicUsize::new(0), probe: Arc::clone(&self.probe) };
        let flag = Arc::new(flag);
        let waker = Waker::from(Arc::clone(&flag));
        self.tasks.push(Some(Task { future: Box::pin(future), flag, waker, polls: 0, lives, waits_for_one: true }));
        TaskKey(self.tasks.len() - 1)
    }

    /// Says that a task waits for several things at once, each of which may wake it: the handlers that it runs.
    pub(crate) fn waits_for_several(&mut self, key: TaskKey) {
        if let Some(task) = &mut self.tasks[key.0] {
            task.waits_for_one = false;
        }
    }

    pub(crate) fn is_done(&self, key: TaskKey) -> bool {
        self.tasks[key.0].is_none()
    }

    pub(crate) fn drop_task(&mut self, key: TaskKey) {
        drop(self.tasks[key.0].take());
    }

    /// The tasks that are not done, the driver included.
    pub(crate) fn open(&self) -> Vec<TaskKey> {
        (0..self.tasks.len()).filter(|n| self.tasks[*n].is_some()).map(TaskKey).collect()
    }

    /// How often a task was woken and polled.
    pub(crate) fn counts(&self, key: TaskKey) -> (usize, usize) {
        self.tasks[key.0].as_ref().map_or((0, 0), |task| (task.flag.wakes.load(Ordering::SeqCst), task.polls))
    }

    /// From now on no waker calls the session, and none of them holds it.
    pub(crate) fn forget_probe(&self) {
        let probe = self.probe.lock().expect("not poisoned").take();
        drop(probe);
    }

    /// Polls a task, woken or not. Says whether it is done.
    pub(crate) fn poll(&mut self, key: TaskKey) -> bool {
        let Some(mut task) = self.tasks[key.0].take() else { return true };
        if task.lives.is_some_and(|lives| task.polls >= lives) {
            return true;
        }
        task.flag.is_woken.store(false, Ordering::SeqCst);
        task.polls += 1;
        if task.future.as_mut().poll(&mut Context::from_waker(&task.waker)).is_ready() {
            let (wakes, polls) = (task.flag.wakes.load(Ordering::SeqCst), task.polls);
            // Each poll asks to be woken for one thing, and that happens once.
            assert!(
                key == DRIVER || !task.waits_for_one || wakes <= polls,
                "{key:?} was woken {wakes} times for {polls} polls"
            );
            return true;
        }
        self.tasks[key.0] = Some(task);
        false
    }

    fn woken(&self) -> Vec<TaskKey> {
        let woken = |key: &TaskKey| {
            let task = self.tasks[key.0].as_ref();
            Some(*key) != self.starved && task.is_some_and(|task| task.flag.is_woken.load(Ordering::SeqCst))
        };
        self.open().into_iter().filter(woken).collect()
    }

    /// Does one thing. False when there is nothing to do and nothing to wait for.
    pub(crate) fn step(&mut self) -> bool {
        self.steps += 1;
        assert!(self.steps < 4_000_000, "it does not become quiet");
        let woken = self.woken();
        if let Some(key) = self.rng.pick(&woken).copied() {
            self.poll(key);
            return true;
        }
        let mut wire = self.wire.lock().expect("not poisoned");
        let mut wakers = wire.listen();
        wakers.extend(wire.writer.take());
        if wakers.is_empty() {
            let server = if wire.is_over { None } else { wire.server.poll_timeout() };
            let server = server.map(Time::from_start);
            let deadline = wire.deadline.as_ref().map(|(at, _)| *at);
            let Some(next) = [server, deadline].into_iter().flatten().min() else { return false };
            let now = next.max(self.clock.now());
            self.clock.0.store(now.as_nanos(), Ordering::SeqCst);
            if deadline.is_some_and(|at| at <= now) {
                wakers.extend(wire.deadline.take().map(|(_, waker)| waker));
            }
            wakers.extend(wire.listen());
        }
        drop(wire);
        wakers.into_iter().for_each(Waker::wake);
        true
    }

    /// Goes on until nothing can happen any more, and sees that nobody sleeps who would have something to do.
    pub(crate) fn run_until_quiet(&mut self) {
        while self.step() {}
        self.assert_no_lost_wake(true);
    }

    /// Goes on until the task is done.
    pub(crate) fn run_until_done(&mut self, key: TaskKey) {
        while !self.is_done(key) {
            assert!(self.step() || self.is_done(key), "quiet, and {key:?} waits");
        }
    }

    /// Runs a future to its end.
    pub(crate) fn block_on<T: 'static>(&mut self, future: impl Future<Output = T> + 'static) -> T {
        let (key, slot) = self.ask(future);
        self.run_until_done(key);
        slot.borrow_mut().take().expect("it is done")
    }

    /// A task whose result goes into a slot.
    pub(crate) fn ask<T: 'static>(
        &mut self,
        future: impl Future<Output = T> + 'static,
    ) -> (TaskKey, Rc<RefCell<Option<T>>>) {
        let slot: Rc<RefCell<Option<T>>> = Rc::default();
        let into = Rc::clone(&slot);
        let key = self.spawn(async move {
            let found = future.await;
            *into.borrow_mut() = Some(found);
        });
        (key, slot)
    }

    /// Polls everybody who was not woken. Nobody may be ready. `all`: the driver too; it may not move anything, unless the
    /// wire is about to wake it.
    pub(crate) fn assert_no_lost_wake(&mut self, all: bool) {
        let written = self.wire.lock().expect("not poisoned").written;
        for key in self.open() {
            if Some(key) == self.starved || (key == DRIVER && !all) {
                continue;
            }
            // A poll that finds something is ready without having been woken.
            let lives = self.tasks[key.0].as_mut().and_then(|task| task.lives.take());
            assert!(!self.poll(key), "{key:?} is ready, and nobody woke it");
            if let Some(task) = &mut self.tasks[key.0] {
                task.lives = lives.map(|lives| lives + 1);
            }
        }
        assert!(self.woken().is_empty(), "polling who was not woken woke {:?}", self.woken());
        let moved = self.wire.lock().expect("not poisoned").written - written;
        assert_eq!(moved, 0, "polling who was not woken moved bytes");
    }

    /// Whether nobody is woken: what is ready now, and was not woken, has lost its wake.
    pub(crate) fn is_idle(&self) -> bool {
        self.woken().is_empty()
    }

    /// Forgets the tasks that are done; the driver keeps its name.
    pub(crate) fn forget_tasks(&mut self) {
        let mut tasks = std::mem::take(&mut self.tasks);
        let driver = tasks.swap_remove(0);
        assert!(tasks.iter().all(Option::is_none), "somebody waits");
        self.tasks = vec![driver];
    }

    /// How many requests of a method the server got.
    pub(crate) fn received(&self, method: &str) -> usize {
        let wire = self.wire.lock().expect("not poisoned");
        wire.server.received_methods().iter().filter(|received| *received == method).count()
    }

    /// All lines that the server got, in order.
    pub(crate) fn heard(&self) -> Vec<Value> {
        let wire = self.wire.lock().expect("not poisoned");
        (0..wire.server.received().len()).filter_map(|n| wire.server.received_json(n)).collect()
    }

    /// All whole lines of JSON that the server said, in order.
    pub(crate) fn said(&self) -> Vec<Value> {
        let wire = self.wire.lock().expect("not poisoned");
        wire.said.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect()
    }

    /// The time of the world since its beginning.
    pub(crate) fn now(&self) -> Duration {
        self.clock.now().since(Time::ZERO)
    }

    pub(crate) fn is_server_over(&self) -> bool {
        self.wire.lock().expect("not poisoned").is_over
    }
}

/// Sees that nothing is left in any table of the session.
pub(crate) fn assert_tables_are_empty(codex: &Codex) {
    let left = codex.counters();
    let tables = [
        ("asks", left.asks),
        ("logins", left.logins),
        ("requests", left.requests),
        ("pending", left.pending),
        ("queued", left.queued),
        ("turns", left.turns),
        ("threads", left.threads),
        ("subscriptions", left.subscriptions),
        ("unread_bytes", left.unread_bytes),
    ];
    let full: Vec<_> = tables.into_iter().filter(|(_, count)| *count != 0).collect();
    assert!(full.is_empty(), "{full:?} are left");
}
