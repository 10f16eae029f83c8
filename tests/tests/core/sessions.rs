//! Sessions whose servers are started late, with a connector that only notes what it is told, and a clock that the test
//! moves.

use std::{
    future::Future,
    pin::{Pin, pin},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};
use turnwire_core::{
    client::{Clock, Connector, Launch, connect_lazily},
    connection::{Config, RestartPolicy},
    error::{ConnectError, Delivery, DisconnectReason, Fault, Phase},
    launch::LaunchError,
    time::Time,
};

#[derive(Clone, Default)]
struct Hands(Arc<AtomicU64>);

impl Clock for Hands {
    fn now(&self) -> Time {
        Time::from_nanos(self.0.load(Ordering::Relaxed))
    }

    fn unix_seconds(&self) -> u64 {
        0
    }
}

impl Hands {
    fn pass(&self, time: Duration) {
        self.0.fetch_add(u64::try_from(time.as_nanos()).expect("short"), Ordering::Relaxed);
    }
}

/// Keeps what it is told to launch.
#[derive(Clone, Default)]
struct Notes(Arc<Mutex<Vec<Launch>>>);

impl Connector for Notes {
    fn launch(&self, launch: Launch) {
        self.0.lock().expect("no poison").push(launch);
    }
}

impl Notes {
    fn take(&self) -> Vec<Launch> {
        std::mem::take(&mut self.0.lock().expect("no poison"))
    }
}

fn poll<F: Future>(future: Pin<&mut F>) -> Poll<F::Output> {
    future.poll(&mut Context::from_waker(Waker::noop()))
}

/// An end that another start may do away with.
fn busy() -> ConnectError {
    let error = LaunchError::Spawn { path: "/x".into(), kind: std::io::ErrorKind::WouldBlock, message: "busy".into() };
    ConnectError::Launch(error)
}

#[test]
fn hs_08_twenty_calls_are_one_launch_and_share_its_failure() {
    let notes = Notes::default();
    let codex = connect_lazily(Config::default(), Arc::new(Hands::default()), notes.clone());
    assert!(codex.server().is_none() && notes.take().is_empty(), "looking launches nothing");
    let mut calls: Vec<_> = (0..20).map(|_| Box::pin(codex.models())).collect();
    assert!(calls.iter_mut().all(|call| poll(call.as_mut()).is_pending()));
    let mut launches = notes.take();
    assert_eq!(launches.len(), 1);
    // The one that began it gives up; the others still wait.
    drop(calls.remove(0));
    let launch = launches.remove(0);
    assert!(launch.is_wanted() && launch.generation().number() == 1);
    launch.fail(busy());
    for call in &mut calls {
        let Poll::Ready(Err(error)) = poll(call.as_mut()) else { panic!("ended") };
        let Fault::Disconnected { cause, .. } = &error.fault else { panic!("{error}") };
        assert!(matches!(cause.reason(), DisconnectReason::Launch(_)), "{error}");
    }
    assert!(notes.take().is_empty(), "without a policy nothing is launched again");
    assert_eq!(codex.counters().requests, 0);
}

#[test]
fn hs_08_a_launch_that_is_dropped_and_one_that_nobody_wants_any_more_end_every_wait() {
    let notes = Notes::default();
    let codex = connect_lazily(Config::default(), Arc::new(Hands::default()), notes.clone());
    let mut ready = pin!(codex.ready());
    assert!(poll(ready.as_mut()).is_pending());
    drop(notes.take());
    let Poll::Ready(Err(error)) = poll(ready.as_mut()) else { panic!("ended") };
    assert!(matches!(&error, ConnectError::Initialize(cause) if *cause.reason() == DisconnectReason::DriverDropped));

    let codex = connect_lazily(Config::default(), Arc::new(Hands::default()), notes.clone());
    let mut models = Box::pin(codex.models());
    assert!(poll(models.as_mut()).is_pending());
    let mut close = Box::pin(codex.close());
    assert!(poll(close.as_mut()).is_pending(), "what is being started is waited for");
    assert!(matches!(poll(models.as_mut()), Poll::Ready(Err(_))), "but what waits for it fails at once");
    let launches = notes.take();
    assert!(!launches[0].is_wanted());
    drop(launches);
    let Poll::Ready(cause) = poll(close.as_mut()) else { panic!("ended") };
    assert_eq!(cause.reason(), &DisconnectReason::ClosedByCaller);

    let codex = connect_lazily(Config::default(), Arc::new(Hands::default()), notes.clone());
    let mut models = Box::pin(codex.models());
    assert!(poll(models.as_mut()).is_pending());
    drop(models);
    drop(codex);
    assert!(!notes.take()[0].is_wanted(), "the last handle is gone");
}

#[test]
fn pr_16_restarts_are_counted_over_a_window_and_wait_longer_each_time() {
    let policy = RestartPolicy::new().backoff(Duration::from_millis(100), Duration::from_millis(350));
    let delays: Vec<u128> = (0..5).map(|restarts| policy.delay(restarts).as_millis()).collect();
    assert_eq!(delays, [0, 100, 200, 350, 350]);
    assert_eq!(policy.delay(usize::MAX), Duration::from_millis(350));

    let (notes, hands) = (Notes::default(), Hands::default());
    let mut config = Config::default();
    config.restart = Some(policy.at_most(2, Duration::from_secs(60)));
    let codex = connect_lazily(config, Arc::new(hands.clone()), notes.clone());
    let mut seen = Vec::new();
    let mut call = || {
        let mut models = Box::pin(codex.models());
        if poll(models.as_mut()).is_pending() {
            for launch in notes.take() {
                seen.push(launch.generation().number());
                launch.fail(busy());
            }
            assert!(matches!(poll(models.as_mut()), Poll::Ready(Err(_))), "it shares the end of what was launched");
        }
        seen.len()
    };
    assert_eq!([call(), call(), call(), call(), call()], [1, 2, 3, 3, 3], "the first, and two restarts");
    hands.pass(Duration::from_secs(61));
    assert_eq!([call(), call(), call()], [4, 5, 5], "and two more when the window has passed");
    assert_eq!((seen, codex.generation().number()), (vec![1, 2, 3, 4, 5], 5));
}

#[test]
fn while_a_server_is_being_started_the_time_of_those_who_wait_is_kept() {
    let (notes, hands) = (Notes::default(), Hands::default());
    let mut config = Config::default();
    config.timeouts.call = Duration::from_secs(1);
    config.timeouts.resolve = Duration::from_secs(9);
    let codex = connect_lazily(config, Arc::new(hands.clone()), notes.clone());
    let mut models = Box::pin(codex.models());
    assert!(poll(models.as_mut()).is_pending());
    let launch = notes.take().remove(0);
    launch.begin(Phase::Resolve);
    let sleep = |pause| {
        let (hands, until) = (hands.clone(), hands.now() + pause);
        std::future::poll_fn(move |_| if hands.now() < until { Poll::Pending } else { Poll::Ready(()) })
    };
    let mut starting = pin!(launch.keep(std::future::pending::<()>(), sleep));
    assert!(poll(starting.as_mut()).is_pending() && poll(models.as_mut()).is_pending());
    hands.pass(Duration::from_secs(2));
    assert!(poll(starting.as_mut()).is_pending());
    let Poll::Ready(Err(error)) = poll(models.as_mut()) else { panic!("at its deadline") };
    assert!(matches!(error.fault, Fault::TimedOut { delivery: Delivery::NotSent, .. }), "{error}");
    let mut ready = pin!(codex.ready());
    assert!(poll(ready.as_mut()).is_pending());
    hands.pass(Duration::from_secs(7));
    assert!(matches!(poll(starting.as_mut()), Poll::Ready(None)), "the time for the start is over");
    let Poll::Ready(Err(error)) = poll(ready.as_mut()) else { panic!("at its deadline") };
    assert!(matches!(error, ConnectError::TimedOut { phase: Phase::Resolve, .. }) && error.is_timeout(), "{error}");
}
