//! Running the application's handlers, off the path on which the connection is read.

use super::{
    Codex,
    ask::{AgentRequest, Ask},
    handlers::Handlers,
    hub::Hub,
    session::Supervisor,
    tools::Running,
    waiting::{Wait, WaiterId},
};
use crate::connection::{Connection, ListenFor, ListenerKey, NextAsk};
use std::{
    fmt,
    future::Future,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError, Weak,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

impl Codex {
    /// Answers what the server asks with these handlers, from this call on, for as long as the future that it returns lives.
    /// The future is to be polled, as a task of its own (`spawn(codex.serve(handlers))`): it runs the handlers, side by side.
    /// Handlers that nobody runs hold up the agent for [`Timeouts::take_ask`](crate::connection::Timeouts::take_ask), and are
    /// then refused for. It is done when the connection is over, and no further server can come.
    ///
    /// Without this, everything is refused, in the shape that each method expects, but the time of day, which is told. Of several
    /// that are served at once the latest is asked, for the kinds that it has a handler for.
    ///
    /// # Cancel safety
    /// Dropping the future takes the handlers back: those that run are dropped, and what they had not answered is
    /// refused. A request that a handler has given to somebody else stays open.
    pub fn serve(&self, handlers: impl Into<Handlers>) -> Serving {
        let handlers = handlers.into();
        let served = self.session().supervisor.serve(handlers.wants());
        Serving { served, handlers, running: Vec::new() }
    }
}

/// Handlers, as the servers of a session know them.
pub(crate) struct Served {
    wants: ListenFor,
    /// Not the session itself: handlers do not keep it open.
    supervisor: Weak<Supervisor>,
    /// The servers that ask them.
    places: Mutex<Vec<(Arc<Hub>, ListenerKey)>>,
    is_stopped: AtomicBool,
    waker: Arc<Mutex<Option<Waker>>>,
}

impl Served {
    pub(crate) fn new(wants: ListenFor, supervisor: Weak<Supervisor>) -> Self {
        let places = Mutex::default();
        Self { wants, supervisor, places, is_stopped: AtomicBool::new(false), waker: Arc::default() }
    }

    /// Has a server ask, too.
    pub(crate) fn listen_to(&self, hub: &Arc<Hub>) {
        if self.is_stopped.load(Ordering::Acquire) {
            return;
        }
        let wants = self.wants.clone();
        let listener = hub.read(|connection| connection.listen(wants));
        self.places().push((Arc::clone(hub), listener));
        // Who stopped meanwhile may not have found it there.
        if self.is_stopped.load(Ordering::Acquire) {
            self.leave_all();
        }
    }

    pub(crate) fn wake(&self) {
        let waker = self.waker.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn places(&self) -> MutexGuard<'_, Vec<(Arc<Hub>, ListenerKey)>> {
        self.places.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.leave_all();
        self.wake();
    }

    fn leave_all(&self) {
        let places = std::mem::take(&mut *self.places());
        for (hub, listener) in places {
            leave(&hub, listener);
        }
    }

    /// Whether no server will ask any more.
    fn is_over(&self) -> bool {
        let may_come = || self.supervisor.upgrade().is_some_and(|supervisor| supervisor.may_renew());
        // The session locks itself first, so this must not be locked when it is asked.
        let is_left = self.places().is_empty();
        is_left && (self.is_stopped.load(Ordering::Acquire) || !may_come())
    }
}

fn leave(hub: &Arc<Hub>, listener: ListenerKey) {
    hub.command(|connection, _| connection.unlisten(listener));
    hub.forget(Wait::Listener(listener));
}

/// Runs the application's handlers; see [`Codex::serve`]. It does not keep the session open.
#[must_use = "handlers run only while this is polled"]
pub struct Serving {
    served: Arc<Served>,
    handlers: Handlers,
    /// Length <= `Limits::max_asks`, but for handlers that go on after they have answered.
    running: Vec<Task>,
}

impl fmt::Debug for Serving {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serving").field("running", &self.running.len()).finish_non_exhaustive()
    }
}

/// Takes the handlers of a [`Serving`] back from elsewhere.
#[derive(Clone)]
pub struct StopServing {
    served: Arc<Served>,
}

impl fmt::Debug for StopServing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StopServing").finish_non_exhaustive()
    }
}

impl StopServing {
    /// Takes the handlers back; the future is done then.
    pub fn stop(&self) {
        self.served.stop();
    }
}

struct Task {
    handling: Running<bool>,
    flag: Arc<Flag>,
    /// To refuse what a handler that failed has left unanswered, without keeping the request open.
    request: Failing,
}

/// A request that is refused if its handler fails.
struct Failing {
    hub: Arc<Hub>,
    key: crate::connection::ServerRequestKey,
    method: Box<str>,
}

/// Wakes the whole for one of its tasks.
struct Flag {
    woken: AtomicBool,
    whole: Arc<Mutex<Option<Waker>>>,
}

impl Wake for Flag {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.store(true, Ordering::Release);
        let waker = self.whole.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Serving {
    /// What takes the handlers back from elsewhere.
    pub fn stopper(&self) -> StopServing {
        StopServing { served: Arc::clone(&self.served) }
    }

    fn start(&mut self, hub: &Arc<Hub>, ask: Ask) {
        let request = Failing { hub: Arc::clone(hub), key: ask.key(), method: ask.method().into() };
        let handlers = &self.handlers;
        request.guard();
        match catch_unwind(AssertUnwindSafe(|| handlers.start(AgentRequest::new(ask)))) {
            Ok(Some(handling)) => {
                let flag = Arc::new(Flag { woken: AtomicBool::new(true), whole: Arc::clone(&self.served.waker) });
                self.running.push(Task { handling, flag, request });
                // At once: until it was polled, it has not failed, and not done without the request either.
                self.poll_task(self.running.len() - 1);
            }
            // Without a handler, dropping it refuses it.
            Ok(None) => request.unguard(false),
            Err(_) => request.unguard(true),
        }
    }

    /// Drops the handlers that run. What they had not answered is refused.
    fn drop_running(&mut self) {
        for task in self.running.drain(..) {
            drop_quietly(task.handling);
        }
    }

    fn poll_running(&mut self) {
        let mut at = 0;
        while at < self.running.len() {
            if self.poll_task(at) {
                at += 1;
            }
        }
    }

    /// Polls a task that was woken. Says whether it goes on; if not, another has taken its place.
    fn poll_task(&mut self, at: usize) -> bool {
        let Some(task) = self.running.get_mut(at) else { return false };
        if !task.flag.woken.swap(false, Ordering::AcqRel) {
            return true;
        }
        let waker = Waker::from(Arc::clone(&task.flag));
        let mut cx = Context::from_waker(&waker);
        task.request.guard();
        // The code of the application: whatever it does, the others are served.
        let polled = catch_unwind(AssertUnwindSafe(|| task.handling.as_mut().poll(&mut cx)));
        task.request.unguard(matches!(polled, Ok(Poll::Ready(false)) | Err(_)));
        let goes_on = matches!(polled, Ok(Poll::Pending));
        if !goes_on {
            drop_quietly(self.running.swap_remove(at).handling);
        }
        goes_on
    }
}

impl Failing {
    /// The application's code runs now: what it lets go of meanwhile is settled after it, when it is known whether it has failed.
    fn guard(&self) {
        self.hub.read(|connection| connection.guard_ask(self.key));
    }

    /// It has run, for now.
    fn unguard(&self, has_failed: bool) {
        self.hub.command(|connection, _| {
            if has_failed {
                connection.fail_ask(self.key, &self.method);
            }
            connection.unguard_ask(self.key);
        });
    }
}

/// Drops code of the application, which may panic at that.
fn drop_quietly(handling: Running<bool>) {
    let _ = catch_unwind(AssertUnwindSafe(|| drop(handling)));
}

impl Future for Serving {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let serving = self.get_mut();
        let before = serving.served.waker.lock().unwrap_or_else(PoisonError::into_inner).replace(cx.waker().clone());
        // Whatever dropping a waker runs, it runs without the lock.
        drop(before);
        let places = serving.served.places().clone();
        for (hub, listener) in places {
            loop {
                let look = |connection: &mut Connection| match connection.next_ask(listener) {
                    NextAsk::Asked(asked) => Poll::Ready(Some(asked)),
                    NextAsk::Finished => Poll::Ready(None),
                    NextAsk::Pending => Poll::Pending,
                };
                match hub.poll(cx, Wait::Listener(listener), &WaiterId::sole(), look) {
                    Poll::Ready(Some(asked)) => {
                        let ask = Ask::new(&hub, asked);
                        serving.start(&hub, ask);
                    }
                    Poll::Ready(None) => {
                        serving
                            .served
                            .places()
                            .retain(|(place, known)| *known != listener || !Arc::ptr_eq(place, &hub));
                        leave(&hub, listener);
                        break;
                    }
                    Poll::Pending => break,
                }
            }
        }
        if serving.served.is_over() {
            serving.drop_running();
            return Poll::Ready(());
        }
        serving.poll_running();
        Poll::Pending
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.served.stop();
        self.drop_running();
    }
}
