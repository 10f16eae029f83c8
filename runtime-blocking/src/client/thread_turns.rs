//! What a thread runs, whoever started it: following it, steering it and stopping it.

use super::{Thread, Turn};
use crate::wait::wait;
use std::future::poll_fn;
use turnwire_core::{
    client::{self, Input, Stopped, TurnRequest},
    error::{CallError, Error, SteerError, TurnError},
    id::TurnId,
    turn::TurnOptions,
};

/// What [`Thread::steer_or_start`] did with the input.
#[derive(Clone, Debug)]
pub enum SteerOrStart {
    /// A turn was running, and this one has taken the input.
    Steered(TurnId),
    /// A turn was started with it.
    Started(Turn),
}

impl Thread {
    /// The turn that runs on the thread, whoever started it, as far as the server has said so.
    #[must_use]
    pub fn running_turn(&self) -> Option<TurnId> {
        self.inner.running_turn()
    }

    /// How many starts wait here for the thread to be free ([`WhenBusy::Queue`](turnwire_core::turn::WhenBusy::Queue)).
    #[must_use]
    pub fn queued_turns(&self) -> usize {
        self.inner.queued_turns()
    }

    /// Takes up a turn that runs on the thread already, whoever started it: somebody else, a goal, a review, or this program,
    /// which has dropped its handles. Nothing is sent, but a session that has no server gets one. What the turn does is seen from
    /// now on, so the items in its result may not be all, and its usage is a lower bound. If the turn never ran, or ended long
    /// ago, nothing is ever heard of it.
    ///
    /// # Errors
    /// [`TurnError::Busy`] when another turn of this session runs on the thread or is being started there, and
    /// [`TurnError::Start`] when the connection is over.
    pub fn attach(&self, turn: impl Into<TurnId>) -> Result<Turn, TurnError> {
        self.inner.attach(turn).map(Turn::new)
    }

    /// [`attach`](Self::attach) with deadlines, which count from now on, and a drop policy.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_with(&self, turn: impl Into<TurnId>, options: &TurnOptions) -> Result<Turn, TurnError> {
        self.inner.attach_with(turn, options).map(Turn::new)
    }

    /// The turns that begin on the thread from now on and were not started by this session: those of goals, reviews,
    /// compactions and shell commands, from the server's own queue, and of other clients.
    pub fn turns(&self) -> Turns {
        Turns { inner: self.inner.turns() }
    }

    /// Gives a turn that runs on the thread more input (`turn/steer`), whoever started it, and returns the id of the turn
    /// that took it.
    ///
    /// # Errors
    /// As for [`Turn::steer`].
    pub fn steer(&self, turn: impl Into<TurnId>, input: impl Into<Input>) -> Result<TurnId, SteerError> {
        wait(self.inner.steer(turn, input))
    }

    /// Gives the input to the turn that runs (`turn/steer`), or starts one with it (`turn/start`): one of the two, once. If
    /// another turn runs than was known, that one is tried, once. When the turn ends at that moment the start waits for its
    /// end. What the request says beside its input is for the start.
    ///
    /// # Errors
    /// What steering or starting fails with. A steer of which it is not known whether it arrived is an error, and nothing is
    /// started then; a turn that takes no input, such as a review, is one too.
    pub fn steer_or_start(&self, request: impl Into<TurnRequest>) -> Result<SteerOrStart, Error> {
        Ok(match wait(self.inner.steer_or_start(request))? {
            client::SteerOrStart::Started(turn) => SteerOrStart::Started(Turn::new(turn)),
            client::SteerOrStart::Steered(turn) => SteerOrStart::Steered(turn),
        })
    }

    /// Stops what runs on the thread, whoever started it: pauses its goal if that is active (`thread/goal/set`), takes back
    /// the starts that wait here, and has the server end the turn that runs (`turn/interrupt`). If the server says that
    /// another turn runs than was known, that one is ended instead. Each of the steps is bounded by `Timeouts`, and the
    /// turn's end itself is not waited for.
    ///
    /// # Errors
    /// When the server refuses, does not answer in time, or the connection ends. What could be done is done all the same.
    pub fn stop(&self) -> Result<Stopped, CallError> {
        wait(self.inner.stop())
    }
}

impl Turn {
    /// Gives the running turn more input, as [`steer`](Self::steer); and if the server says that another turn runs on the
    /// thread by now, that one, once. Returns the id of the turn that took it.
    ///
    /// # Errors
    /// As for [`steer`](Self::steer).
    pub fn steer_or_next(&self, input: impl Into<Input>) -> Result<TurnId, SteerError> {
        wait(self.inner.steer_or_next(input))
    }
}

/// The turns of a thread that were not started here, as an iterator. See [`turnwire_core::client::Turns`].
#[derive(Debug)]
#[must_use = "turns that nobody takes are kept in memory"]
pub struct Turns {
    inner: client::Turns,
}

impl Iterator for Turns {
    type Item = Turn;

    /// The next turn; `None` when there will be no more.
    fn next(&mut self) -> Option<Turn> {
        wait(poll_fn(|cx| self.inner.poll_next(cx))).map(Turn::new)
    }
}
