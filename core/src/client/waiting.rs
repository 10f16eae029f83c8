//! Who waits for what.
//!
//! Everything that waits has a place, which it gives up when it is dropped. So nobody who waits has to make room for others,
//! and nobody is remembered who waits no more.

use super::Hub;
use crate::{
    connection::{AlarmKey, Connection, ListenerKey, LoginKey, RequestKey, ServerRequestKey},
    turn::{SubscriptionKey, TurnKey},
};
use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicU64, Ordering},
    task::{Context, Poll, Waker},
};

/// What a waiter waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Wait {
    Alarm(AlarmKey),
    Ask(ServerRequestKey),
    Link,
    Listener(ListenerKey),
    Login(LoginKey),
    Response(RequestKey),
    Subscription(SubscriptionKey),
    Turn(TurnKey),
}

/// Who waits for one thing: nearly always one, or nobody just now. Whoever gives up says so, so all that are here wait.
#[derive(Default)]
pub(super) struct Waiters {
    /// Set only if it came when there was no other.
    first: Option<(u64, Waker)>,
    others: BTreeMap<u64, Waker>,
}

impl Waiters {
    /// Notes who waits. Returns the waker that it had before.
    pub(super) fn register(&mut self, id: u64, waker: &Waker) -> Option<Waker> {
        match &mut self.first {
            Some((known, before)) if *known == id => {
                (!before.will_wake(waker)).then(|| std::mem::replace(before, waker.clone()))
            }
            None if self.others.is_empty() => {
                self.first = Some((id, waker.clone()));
                None
            }
            _ => self.others.insert(id, waker.clone()),
        }
    }

    pub(super) fn leave(&mut self, id: u64) -> Option<Waker> {
        match &self.first {
            Some((known, _)) if *known == id => self.first.take().map(|(_, waker)| waker),
            _ => self.others.remove(&id),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.first.is_none() && self.others.is_empty()
    }

    /// All of them, in the order in which they came.
    pub(super) fn take(&mut self) -> impl Iterator<Item = Waker> + use<> {
        let first = self.first.take().into_iter().map(|(_, waker)| waker);
        first.chain(std::mem::take(&mut self.others).into_values())
    }
}

/// Tells one who waits from others who wait for the same. It is given out with the first wait.
#[derive(Debug, Default)]
pub(crate) struct WaiterId(AtomicU64);

impl WaiterId {
    /// That of the only one who can wait for something.
    pub(crate) const fn sole() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }

    /// `None`: it does not wait, or is not known to.
    pub(super) fn get(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|id| *id != 0)
    }

    pub(super) fn set(&self, id: u64) {
        self.0.store(id, Ordering::Relaxed);
    }
}

/// One who waits for one thing, and gives it up when this is dropped.
pub(crate) struct Waiting<'a> {
    hub: &'a Hub,
    wait: Wait,
    pub(crate) id: WaiterId,
}

impl<'a> Waiting<'a> {
    pub(crate) fn new(hub: &'a Hub, wait: Wait) -> Self {
        Self { hub, wait, id: WaiterId::default() }
    }

    pub(crate) fn poll<R>(&self, cx: &Context<'_>, look: impl FnOnce(&mut Connection) -> Poll<R>) -> Poll<R> {
        self.hub.poll(cx, self.wait, &self.id, look)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.hub.leave(self.wait, &self.id);
    }
}
