//! Many turns, read by one.

use super::{Event, Turn};
use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Turns whose events come in one stream, each with its turn: for programs that follow many turns and do not want a task or
/// a thread for each.
///
/// Each turn has its events in their order, and none is kept waiting by another that has many. What is looked at is only what
/// has something new, so a thousand quiet turns cost nothing. A turn leaves the set after its last event, which is
/// [`Event::Ended`].
///
/// The set reads with the turns' own reading position: see [`Turn`].
#[derive(Default)]
pub struct TurnSet {
    /// `None`: the place is free.
    members: Vec<Option<Member>>,
    free: Vec<usize>,
    /// Those that are looked at in this round.
    round: VecDeque<usize>,
    /// Those that had something, and are looked at again in the next one.
    again: VecDeque<usize>,
    woken: Arc<Woken>,
}

struct Member {
    turn: Turn,
    place: Arc<Place>,
    waker: Waker,
}

/// Wakes whoever waits for the set, once for each time that the turn is looked at.
struct Place {
    index: usize,
    /// Whether it is in `Queue::places`, or was taken from there and not looked at yet.
    is_queued: AtomicBool,
    woken: Arc<Woken>,
}

#[derive(Default)]
struct Woken(Mutex<Queue>);

#[derive(Default)]
struct Queue {
    /// The turns that have something new. Each at most once.
    places: VecDeque<usize>,
    waiter: Option<Waker>,
}

impl Woken {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Wake for Place {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        if self.is_queued.swap(true, Ordering::AcqRel) {
            return;
        }
        let mut queue = self.woken.lock();
        queue.places.push_back(self.index);
        let waiter = queue.waiter.take();
        drop(queue);
        if let Some(waiter) = waiter {
            waiter.wake();
        }
    }
}

impl fmt::Debug for TurnSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TurnSet").field("turns", &self.len()).finish_non_exhaustive()
    }
}

impl TurnSet {
    /// A set without turns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a turn. Its events come from where its reading position is.
    pub fn push(&mut self, turn: Turn) {
        let index = self.free.pop().unwrap_or_else(|| {
            self.members.push(None);
            self.members.len() - 1
        });
        let place = Arc::new(Place { index, is_queued: AtomicBool::new(true), woken: Arc::clone(&self.woken) });
        let waker = Waker::from(Arc::clone(&place));
        if let Some(slot) = self.members.get_mut(index) {
            *slot = Some(Member { turn, place, waker });
        }
        self.again.push_back(index);
    }

    /// How many turns there are that have not had their last event.
    #[must_use]
    pub fn len(&self) -> usize {
        self.members.len() - self.free.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The next event of any of the turns, and the turn; `None` when no turn is left.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<(Turn, Event)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next event of any of the turns, for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(Turn, Event)>> {
        loop {
            let Some(index) = self.round.pop_front() else {
                if self.is_empty() {
                    return Poll::Ready(None);
                }
                if self.begin_round(cx) {
                    continue;
                }
                return Poll::Pending;
            };
            let Some(Some(Member { turn, place, waker })) = self.members.get(index) else { continue };
            // From here on it is worth another look if it is woken.
            place.is_queued.store(false, Ordering::Release);
            match turn.poll_next(&mut Context::from_waker(waker)) {
                Poll::Pending => {}
                Poll::Ready(Some(event)) => {
                    place.is_queued.store(true, Ordering::Release);
                    self.again.push_back(index);
                    return Poll::Ready(Some((turn.clone(), event)));
                }
                Poll::Ready(None) => {
                    if let Some(slot) = self.members.get_mut(index) {
                        *slot = None;
                        self.free.push(index);
                    }
                }
            }
        }
    }

    /// Gathers what is to be looked at. Says whether there is anything; if not, the waiter is noted.
    fn begin_round(&mut self, cx: &Context<'_>) -> bool {
        std::mem::swap(&mut self.round, &mut self.again);
        let mut queue = self.woken.lock();
        self.round.append(&mut queue.places);
        let mut replaced = None;
        if self.round.is_empty() && !queue.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker())) {
            replaced = queue.waiter.replace(cx.waker().clone());
        }
        drop(queue);
        // Whatever dropping a waker runs, it runs without the lock.
        drop(replaced);
        !self.round.is_empty()
    }
}

impl Extend<Turn> for TurnSet {
    fn extend<I: IntoIterator<Item = Turn>>(&mut self, turns: I) {
        turns.into_iter().for_each(|turn| self.push(turn));
    }
}

impl FromIterator<Turn> for TurnSet {
    fn from_iter<I: IntoIterator<Item = Turn>>(turns: I) -> Self {
        let mut set = Self::new();
        set.extend(turns);
        set
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for TurnSet {
    type Item = (Turn, Event);

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        TurnSet::poll_next(&mut self, cx)
    }
}
