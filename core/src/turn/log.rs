//! A queue that several consumers read, each at its own pace.

use crate::turn::{RawEvent, TurnKey};
use alloc::{collections::VecDeque, vec::Vec};
use core::hash::{Hash, Hasher};

/// How much a consumer takes at once, in bytes: what it has taken does not count as unread any more.
const AT_ONCE: usize = 1024 * 1024;

/// How large an empty queue is kept, in events.
const KEEP_EVENTS: usize = 4096;

/// Names a subscription. Local to its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct SubscriptionKey {
    /// Unlike that of any other.
    number: u64,
    /// The turn that is listened to, if it is one: most are, and so it is found without a look at what the key stands for.
    turn: Option<TurnKey>,
}

impl SubscriptionKey {
    pub(crate) const fn new(number: u64, turn: Option<TurnKey>) -> Self {
        Self { number, turn }
    }

    pub(crate) fn turn(self) -> Option<TurnKey> {
        self.turn
    }
}

/// By its number, which is all that the tables of this crate look at.
impl Hash for SubscriptionKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.number.hash(state);
    }
}

/// What a consumer finds.
#[derive(Debug)]
#[non_exhaustive]
pub enum Next {
    /// The next event.
    Event(RawEvent),
    /// No more events will come.
    Finished,
    /// Nothing yet. An edge will say when there is.
    Pending,
}

/// What there is for a consumer after what it took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rest {
    /// More, now.
    Now,
    /// Nothing yet. An edge will say when there is.
    Later,
    /// Nothing ever.
    Never,
}

/// When events are merged and when they are left out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Policy {
    /// Merge a delta into the one before it once so many events wait. `None`: never.
    pub(crate) merge_after: Option<usize>,
    /// Leave out what can be done without once so many bytes wait.
    pub(crate) max_bytes: usize,
}

/// What became of an event, summed over the consumers.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Pushed {
    /// How many found it appended to the event before.
    pub(crate) merged: u64,
    /// How many will find a gap in its place.
    pub(crate) left_out: u64,
}

/// One consumer.
#[derive(Clone, Debug)]
struct Reader {
    key: SubscriptionKey,
    queue: VecDeque<RawEvent>,
    /// The sum of the sizes of `queue`.
    bytes: usize,
    /// Set if and only if the consumer was told that there is something and has not found the end since.
    told: bool,
    /// Whether no more events come for it, though they may for others.
    ended: bool,
}

/// The events of one turn, one thread or one connection, for each consumer until it has read them.
///
/// Each consumer has a queue of its own, so that one that falls behind costs the others nothing.
#[derive(Clone, Debug, Default)]
pub(crate) struct EventLog {
    /// Nearly always there is one, and this is it. Not set: nobody listens.
    first: Option<Reader>,
    others: Vec<Reader>,
    finished: bool,
}

impl EventLog {
    /// Adds a consumer, which will see what comes from now on.
    pub(crate) fn subscribe(&mut self, key: SubscriptionKey) {
        let reader = Reader { key, queue: VecDeque::new(), bytes: 0, told: false, ended: false };
        if self.first.is_none() {
            self.first = Some(reader);
        } else {
            self.others.push(reader);
        }
    }

    /// Removes a consumer and what it had still to read.
    pub(crate) fn unsubscribe(&mut self, key: SubscriptionKey) {
        if self.first.as_ref().is_some_and(|first| first.key == key) {
            self.first = if self.others.is_empty() { None } else { Some(self.others.remove(0)) };
        } else {
            self.others.retain(|reader| reader.key != key);
        }
    }

    /// Adds an event for everybody who listens. Calls `tell` for each consumer that must be told.
    pub(crate) fn push(&mut self, event: RawEvent, policy: Policy, mut tell: impl FnMut(SubscriptionKey)) -> Pushed {
        let mut pushed = Pushed::default();
        if self.finished {
            return pushed;
        }
        let Some(first) = &mut self.first else { return pushed };
        let Some((last, between)) = self.others.split_last_mut() else {
            first.push(event, policy, &mut pushed, &mut tell);
            return pushed;
        };
        for reader in core::iter::once(first).chain(between) {
            reader.push(event.clone(), policy, &mut pushed, &mut tell);
        }
        last.push(event, policy, &mut pushed, &mut tell);
        pushed
    }

    /// Gives those who listen now a last event. Who listens later is not concerned.
    pub(crate) fn end_readers(&mut self, last: RawEvent, policy: Policy, mut tell: impl FnMut(SubscriptionKey)) {
        self.push(last, policy, &mut tell);
        self.readers_mut().for_each(|reader| reader.ended = true);
    }

    /// Says that no more events come, once.
    pub(crate) fn finish(&mut self, mut tell: impl FnMut(SubscriptionKey)) {
        if core::mem::replace(&mut self.finished, true) {
            return;
        }
        self.readers_mut().for_each(|reader| reader.tell(&mut tell));
    }

    /// Takes the next event of a consumer.
    pub(crate) fn next(&mut self, key: SubscriptionKey) -> Next {
        let Some(reader) = self.readers_mut().find(|reader| reader.key == key) else { return Next::Finished };
        match reader.queue.pop_front() {
            Some(event) => {
                reader.bytes = reader.bytes.saturating_sub(event.size());
                Next::Event(event)
            }
            None => {
                reader.told = false;
                let has_ended = reader.ended;
                if self.finished || has_ended { Next::Finished } else { Next::Pending }
            }
        }
    }

    /// How many listen.
    pub(crate) fn readers(&self) -> usize {
        usize::from(self.first.is_some()) + self.others.len()
    }

    /// Appends the events of a consumer to `into`: all of them, or as many as there are within [`AT_ONCE`] and one more.
    pub(crate) fn take(&mut self, key: SubscriptionKey, into: &mut VecDeque<RawEvent>) -> Rest {
        let Some(reader) = self.readers_mut().find(|reader| reader.key == key) else { return Rest::Never };
        if reader.bytes > AT_ONCE {
            let mut bytes = 0;
            while bytes <= AT_ONCE {
                let Some(event) = reader.queue.pop_front() else { break };
                bytes += event.size();
                into.push_back(event);
            }
            reader.bytes = reader.bytes.saturating_sub(bytes);
        } else {
            if into.is_empty() && into.capacity() <= KEEP_EVENTS {
                // Two queues go back and forth, and nothing is moved.
                core::mem::swap(into, &mut reader.queue);
            } else {
                into.append(&mut reader.queue);
            }
            reader.bytes = 0;
        }
        if !reader.queue.is_empty() {
            return Rest::Now;
        }
        reader.told = false;
        let has_ended = reader.ended;
        if self.finished || has_ended { Rest::Never } else { Rest::Later }
    }

    /// Whether nobody listens.
    pub(crate) fn is_unheard(&self) -> bool {
        self.first.is_none()
    }

    /// Bytes held.
    pub(crate) fn bytes(&self) -> usize {
        self.first.iter().chain(&self.others).map(|reader| reader.bytes).sum()
    }

    fn readers_mut(&mut self) -> impl Iterator<Item = &mut Reader> {
        self.first.iter_mut().chain(&mut self.others)
    }
}

impl Reader {
    fn push(&mut self, event: RawEvent, policy: Policy, pushed: &mut Pushed, tell: &mut impl FnMut(SubscriptionKey)) {
        if self.ended {
            return;
        }
        let is_full = self.bytes >= policy.max_bytes;
        if is_full && event.is_best_effort() {
            // What a gap stands for was counted where it was left out.
            pushed.left_out += u64::from(!matches!(event, RawEvent::Gap(_)));
            let count = match &event {
                RawEvent::Delta(delta) => 1 + delta.merged,
                RawEvent::Gap(count) => *count,
                _ => 1,
            };
            match self.queue.back_mut() {
                Some(RawEvent::Gap(left_out)) => *left_out += count,
                _ => self.append(RawEvent::Gap(count), tell),
            }
            return;
        }
        let behind = policy.merge_after.is_some_and(|after| self.queue.len() >= after.max(1));
        if let (true, RawEvent::Delta(delta), Some(RawEvent::Delta(last))) = (behind, &event, self.queue.back_mut()) {
            if last.continues_as(delta) {
                last.text.push_str(&delta.text);
                last.merged += 1 + delta.merged;
                self.bytes += delta.text.len();
                pushed.merged += 1;
                return;
            }
        }
        self.append(event, tell);
    }

    fn append(&mut self, event: RawEvent, tell: &mut impl FnMut(SubscriptionKey)) {
        self.bytes += event.size();
        self.queue.push_back(event);
        self.tell(tell);
    }

    fn tell(&mut self, tell: &mut impl FnMut(SubscriptionKey)) {
        if !core::mem::replace(&mut self.told, true) {
            tell(self.key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::turn::{Delta, DeltaKind, DeltaOrigin, State};
    use alloc::{format, string::String};

    const MERGE_AT_ONCE: Policy = Policy { merge_after: Some(1), max_bytes: 1 << 20 };
    const A: SubscriptionKey = SubscriptionKey::new(1, None);
    const B: SubscriptionKey = SubscriptionKey::new(2, None);

    fn delta(item: &str, text: &str) -> RawEvent {
        RawEvent::Delta(Delta {
            kind: DeltaKind::AgentMessage,
            origin: DeltaOrigin { thread: "T".into(), turn: "U".into(), item: item.into() }.into(),
            index: None,
            text: text.into(),
            merged: 0,
            raw: None,
        })
    }

    fn read(log: &mut EventLog, key: SubscriptionKey) -> Vec<String> {
        let mut seen = Vec::new();
        loop {
            match log.next(key) {
                Next::Event(RawEvent::Delta(delta)) => seen.push(format!("{}:{}", delta.item, delta.text)),
                Next::Event(event) => seen.push(format!("{event:?}")),
                Next::Pending => return seen,
                Next::Finished => {
                    seen.push("finished".into());
                    return seen;
                }
            }
        }
    }

    #[test]
    fn only_adjacent_deltas_of_one_item_merge() {
        let mut log = EventLog::default();
        log.subscribe(A);
        for (item, text) in [("1", "a"), ("1", "b"), ("2", "c"), ("1", "d"), ("1", "e")] {
            log.push(delta(item, text), MERGE_AT_ONCE, |_| {});
        }
        assert_eq!(read(&mut log, A), ["1:ab", "2:c", "1:de"]);
        assert_eq!(log.bytes(), 0);
    }

    #[test]
    fn consumers_read_at_their_own_pace_and_what_one_has_read_is_not_added_to() {
        let mut log = EventLog::default();
        log.subscribe(A);
        log.subscribe(B);
        log.push(delta("1", "a"), MERGE_AT_ONCE, |_| {});
        assert_eq!(read(&mut log, A), ["1:a"]);
        log.push(delta("1", "b"), MERGE_AT_ONCE, |_| {});
        log.push(delta("1", "c"), MERGE_AT_ONCE, |_| {});
        assert_eq!(read(&mut log, A), ["1:bc"]);
        assert_eq!(read(&mut log, B), ["1:abc"]);
    }

    #[test]
    fn past_the_bound_deltas_give_way_to_one_gap_and_ends_are_kept() {
        let mut log = EventLog::default();
        log.subscribe(A);
        let policy = Policy { merge_after: None, max_bytes: 1 };
        assert_eq!(log.push(delta("1", "a"), policy, |_| {}).left_out, 0);
        assert_eq!(log.push(delta("1", "b"), policy, |_| {}).left_out, 1);
        assert_eq!(log.push(delta("1", "c"), policy, |_| {}).left_out, 1);
        assert_eq!(log.push(RawEvent::Ended(State::Completed), policy, |_| {}).left_out, 0);
        log.finish(|_| {});
        assert_eq!(read(&mut log, A), ["1:a", "Gap(2)", "Ended(Completed)", "finished"]);
    }

    #[test]
    fn a_consumer_is_told_once_until_it_has_read_everything() {
        let mut log = EventLog::default();
        log.subscribe(A);
        let mut told = 0;
        for _ in 0..3 {
            log.push(RawEvent::Gap(1), MERGE_AT_ONCE, |_| told += 1);
        }
        assert_eq!(told, 1);
        assert_eq!(read(&mut log, A).len(), 3);
        log.push(RawEvent::Gap(1), MERGE_AT_ONCE, |_| told += 1);
        assert_eq!(told, 2);
    }

    #[test]
    fn what_only_a_departed_consumer_had_to_read_is_freed() {
        let mut log = EventLog::default();
        log.subscribe(A);
        log.subscribe(B);
        log.push(RawEvent::Gap(1), MERGE_AT_ONCE, |_| {});
        log.push(RawEvent::Gap(2), MERGE_AT_ONCE, |_| {});
        assert_eq!(read(&mut log, A).len(), 2);
        assert!(log.bytes() > 0);
        log.unsubscribe(B);
        assert_eq!(log.bytes(), 0);
        log.unsubscribe(A);
        assert_eq!(log.push(RawEvent::Gap(1), MERGE_AT_ONCE, |_| {}), Pushed::default());
        assert_eq!(log.bytes(), 0);
    }
}
