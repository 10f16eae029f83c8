//! Many turns, read by one.

use super::{
    Event, Turn,
    hub::{Filled, Filler},
};
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

/// How many turns are looked at under one lock. Whoever has something to say to the connection waits no longer than that.
const AT_ONCE: usize = 64;

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
    /// Those whose turn it is, each once.
    round: VecDeque<usize>,
    /// How many at its front have what there was for them.
    filled: usize,
    /// Those that may have more, and come again in the next round.
    again: VecDeque<usize>,
    woken: Arc<Woken>,
}

struct Member {
    turn: Turn,
    place: Arc<Place>,
    waker: Waker,
    filled: Filled,
    /// Whether it is in `round` or `again`.
    is_due: bool,
}

/// Wakes whoever waits for the set, once for each time that it gathers what is new.
struct Place {
    index: usize,
    /// Whether it is in `Queue::places`, or about to be.
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
        let place = Arc::new(Place { index, is_queued: AtomicBool::new(false), woken: Arc::clone(&self.woken) });
        let waker = Waker::from(Arc::clone(&place));
        if let Some(slot) = self.members.get_mut(index) {
            *slot = Some(Member { turn, place, waker, filled: Filled::Not, is_due: true });
        }
        self.again.push_back(index);
    }

    /// Takes a turn out, and gives it back; `None` if it is not there. What it has still to read is read with its handles.
    pub fn remove(&mut self, turn: &Turn) -> Option<Turn> {
        let is_meant = |member: &Option<Member>| member.as_ref().is_some_and(|member| member.turn == *turn);
        let index = self.members.iter().position(is_meant)?;
        let member = self.members.get_mut(index)?.take()?;
        self.free.push(index);
        if let Some(at) = self.round.iter().position(|due| *due == index) {
            self.round.remove(at);
            self.filled -= usize::from(at < self.filled);
        }
        self.again.retain(|due| *due != index);
        // With the handle of the set goes what the set has woken.
        Some(member.turn.clone())
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
            if self.filled == 0 {
                self.fill();
            }
            let Some(index) = self.round.pop_front() else {
                if self.is_empty() {
                    return Poll::Ready(None);
                }
                if self.begin_round(cx) {
                    continue;
                }
                return Poll::Pending;
            };
            self.filled = self.filled.saturating_sub(1);
            let Some(Some(member)) = self.members.get_mut(index) else { continue };
            member.is_due = false;
            let (found, is_last) = match member.filled {
                Filled::Not => (member.turn.poll_next(&mut Context::from_waker(&member.waker)), false),
                Filled::Yes | Filled::Waiting => member.turn.poll_taken(),
            };
            let is_awaited = match &found {
                Poll::Ready(None) => {
                    if let Some(slot) = self.members.get_mut(index) {
                        *slot = None;
                        self.free.push(index);
                    }
                    continue;
                }
                // Somebody else may have read what it had.
                Poll::Pending => member.filled != Filled::Yes,
                Poll::Ready(Some(_)) => is_last && member.filled == Filled::Waiting,
            };
            if !is_awaited {
                member.is_due = true;
                self.again.push_back(index);
            }
            if let Poll::Ready(Some(event)) = found {
                return Poll::Ready(Some((member.turn.clone(), event)));
            }
        }
    }

    /// Gathers those whose turn it is next. Says whether there are any; if not, the waiter is noted.
    fn begin_round(&mut self, cx: &Context<'_>) -> bool {
        std::mem::swap(&mut self.round, &mut self.again);
        let mut queue = self.woken.lock();
        for index in queue.places.drain(..) {
            let Some(Some(member)) = self.members.get_mut(index) else { continue };
            // From here on it is worth another look if it is woken.
            member.place.is_queued.store(false, Ordering::Release);
            member.filled = Filled::Yes;
            if !std::mem::replace(&mut member.is_due, true) {
                self.round.push_back(index);
            }
        }
        let mut replaced = None;
        if self.round.is_empty() && !queue.waiter.as_ref().is_some_and(|waiter| waiter.will_wake(cx.waker())) {
            replaced = queue.waiter.replace(cx.waker().clone());
        }
        drop(queue);
        // Whatever dropping a waker runs, it runs without the lock.
        drop(replaced);
        !self.round.is_empty()
    }

    /// Gives the next of those whose turn it is what there is for them: as many as are of one session.
    fn fill(&mut self) {
        let Self { members, round, filled, .. } = self;
        let session = round.front().and_then(|index| members.get(*index)?.as_ref()?.turn.reading());
        // One that cannot be read is at its end, and is found to be.
        let Some(session) = session.map(|(session, ..)| Arc::clone(session)) else { return };
        session.hub.fill(|filler: &mut Filler<'_>| {
            for index in round.iter().take(AT_ONCE) {
                let Some(Some(Member { turn, waker, filled: how, .. })) = members.get_mut(*index) else { break };
                let Some((_, mailbox, id)) = turn.reading().filter(|(of, ..)| Arc::ptr_eq(of, &session)) else { break };
                filler.fill(mailbox, id, waker, how);
                *filled += 1;
            }
        });
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
