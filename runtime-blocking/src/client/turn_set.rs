//! Many turns, read by one.

use super::Turn;
use crate::wait::wait;
use std::future::poll_fn;
use turnwire_core::client::{self, Event};

/// Turns whose events come in one iterator, each with its turn: a thread can follow a thousand of them. See
/// [`turnwire_core::client::TurnSet`].
#[derive(Debug, Default)]
pub struct TurnSet {
    inner: client::TurnSet,
}

impl TurnSet {
    /// A set without turns.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a turn. Its events come from where its reading position is.
    pub fn push(&mut self, turn: Turn) {
        self.inner.push(turn.inner);
    }

    /// Takes a turn out, and gives it back; `None` if it is not there. What it has still to read is read with its handles.
    pub fn remove(&mut self, turn: &Turn) -> Option<Turn> {
        self.inner.remove(&turn.inner).map(Turn::new)
    }

    /// How many turns there are that have not had their last event.
    #[must_use]
    pub fn len(&self) -> usize {
        self.inner.len()
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.inner.is_empty()
    }
}

impl Iterator for TurnSet {
    type Item = (Turn, Event);

    /// The next event of any of the turns, and the turn; `None` when no turn is left.
    fn next(&mut self) -> Option<Self::Item> {
        wait(poll_fn(|cx| self.inner.poll_next(cx))).map(|(turn, event)| (Turn::new(turn), event))
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
