//! What a thread runs, whoever started it: following it, steering it and stopping it.

use super::{
    Input, Thread, Turn, TurnRequest,
    hub::{Mailbox, Reply, Session},
    restart::start_turn,
    turn::interrupted,
    waiting::WaiterId,
};
use crate::{
    connection::{Prepared, Running, Scope, decode_response, other_turn, steered},
    error::{CallError, Error, Fault, SteerError, TurnError},
    id::{ThreadId, TurnId},
    json::Json,
    protocol::{Request, ThreadGoalGet, ThreadGoalSet, ThreadGoalStatus, TurnSteer, UserInput},
    turn::{InterruptOutcome, RawEvent, TurnKey, TurnOptions, WhenBusy},
};
use std::{
    fmt,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll},
};

/// How often a start is tried again when somebody else was quicker.
const MAX_ATTEMPTS: u32 = 3;

/// What [`Thread::stop`] came to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stopped {
    /// The turn that the server was asked to end. `None` if none was known to run: then it was asked to end whatever
    /// runs there, and took that.
    pub turn: Option<TurnId>,
    /// Whether the server took it, or nothing ran any more.
    pub outcome: InterruptOutcome,
    /// Whether the thread had an active goal, which is paused now.
    pub goal_paused: bool,
}

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
        self.session().hub.read(|connection| connection.running_turn(self.id()).cloned())
    }

    /// How many starts wait here for the thread to be free ([`WhenBusy::Queue`]).
    #[must_use]
    pub fn queued_turns(&self) -> usize {
        self.session().hub.read(|connection| connection.queued_turns(self.id()))
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
        self.attach_with(turn, &TurnOptions::default())
    }

    /// [`attach`](Self::attach) with deadlines, which count from now on, and a drop policy.
    ///
    /// # Errors
    /// As for [`attach`](Self::attach).
    pub fn attach_with(&self, turn: impl Into<TurnId>, options: &TurnOptions) -> Result<Turn, TurnError> {
        let turn = turn.into();
        let (key, events) = self.session().hub.command(|connection, now| {
            let key = connection.attach_turn(now, self.id(), &turn, options)?;
            Ok::<_, TurnError>((key, connection.subscribe(Scope::Turn(key))))
        })?;
        Ok(Turn::of(self.session(), key, self.id(), Some(events)))
    }

    /// The turns that begin on the thread from now on and were not started by this session: those of goals, reviews,
    /// compactions and shell commands, from the server's own queue, and of other clients.
    pub fn turns(&self) -> Turns {
        let key = self.session().hub.read(|connection| connection.subscribe(Scope::Turns(self.id().clone())));
        Turns { session: Arc::clone(self.session()), thread: self.id().clone(), mailbox: Mailbox::new(key) }
    }

    /// Gives a turn that runs on the thread more input (`turn/steer`), whoever started it, and returns the id of the turn
    /// that took it.
    ///
    /// # Errors
    /// As for [`Turn::steer`].
    ///
    /// # Cancel safety
    /// Dropping the future may leave the input sent.
    pub async fn steer(&self, turn: impl Into<TurnId>, input: impl Into<Input>) -> Result<TurnId, SteerError> {
        let input = input.into().for_steering().map_err(SteerError::Input)?;
        steer_other(self.session(), TurnSteer::new(self.id().clone(), turn.into(), input)).await
    }

    /// Gives the input to the turn that runs (`turn/steer`), or starts one with it (`turn/start`): one of the two, once. If
    /// another turn runs than was known, that one is tried, once. When the turn ends at that moment the start waits for its
    /// end. What the request says beside its input is for the start.
    ///
    /// # Errors
    /// What steering or starting fails with. A steer of which it is not known whether it arrived is an error, and nothing is
    /// started then; a turn that takes no input, such as a review, is one too.
    ///
    /// # Cancel safety
    /// Dropping the future may leave the input sent.
    pub async fn steer_or_start(&self, request: impl Into<TurnRequest>) -> Result<SteerOrStart, Error> {
        let request = request.into();
        request.check().map_err(|fault| Error::Turn(TurnError::Input(fault)))?;
        let mut attempts = 0;
        loop {
            let (is_running, steered) = self.try_to_steer(self.session(), &request).await?;
            if let Some(turn) = steered {
                return Ok(SteerOrStart::Steered(turn));
            }
            let mut start = request.clone();
            if is_running {
                // It is over, though its end may still be on its way.
                start.options.when_busy = WhenBusy::Queue;
            }
            match start_turn(self.session(), self.id(), start, true).await {
                Ok(turn) => return Ok(SteerOrStart::Started(turn)),
                // Another turn began in between, and nothing was sent.
                Err(TurnError::Busy(_)) if attempts < MAX_ATTEMPTS => attempts += 1,
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Stops what runs on the thread, whoever started it: pauses its goal if that is active (`thread/goal/set`), takes back
    /// the starts that wait here, and has the server end the turn that runs (`turn/interrupt`). If the server says that
    /// another turn runs than was known, that one is ended instead. Each of the steps is bounded by `Timeouts`, and the
    /// turn's end itself is not waited for.
    ///
    /// # Errors
    /// When the server refuses, does not answer in time, or the connection ends. What could be done is done all the same.
    ///
    /// # Cancel safety
    /// What was begun goes on when the future is dropped; what was not is not.
    pub async fn stop(&self) -> Result<Stopped, CallError> {
        let session = self.session();
        // First of all, or what ends is followed by the next.
        session.hub.command(|connection, _| connection.withdraw_turns(self.id()));
        let goal = self.pause_goal().await;
        let running = session.hub.command(|connection, now| {
            let running = connection.withdraw_turns(self.id());
            let (running, is_held) = match running {
                // Taken up, it is asked to end once, however many ask; and its end ends the wait.
                Running::Other(turn) => match connection.attach_turn(now, self.id(), &turn, &TurnOptions::default()) {
                    Ok(key) => (Running::Ours(key), true),
                    Err(_) => (Running::Other(turn), false),
                },
                running => (running, false),
            };
            if let Running::Ours(key) = running {
                if !is_held {
                    connection.hold_turn(key);
                }
                // It is known: it was found just now.
                let _ = connection.interrupt(now, key);
            }
            running
        });
        let (turn, outcome) = match running {
            Running::Ours(key) => {
                let held = Held { session, key };
                let outcome = held.interrupted().await;
                let turn = session.hub.read(|connection| connection.turn_id(key).cloned());
                (turn, outcome)
            }
            Running::Other(turn) => {
                let outcome = interrupt_other(session, self.id(), &turn).await;
                (Some(turn), outcome)
            }
            Running::Unknown => (None, interrupt_other(session, self.id(), &"".into()).await),
        };
        let (turn, outcome) = match outcome {
            Err(CallError { fault: Fault::OtherTurn { actual, .. }, .. }) => {
                let outcome = interrupt_other(session, self.id(), &actual).await?;
                (Some(actual), outcome)
            }
            outcome => (turn, outcome?),
        };
        Ok(Stopped { turn, outcome, goal_paused: goal? })
    }

    /// Pauses the thread's goal if it is active. A thread that can have none has none.
    async fn pause_goal(&self) -> Result<bool, CallError> {
        let goal = match call(self.session(), ThreadGoalGet::new(self.id().clone())).await {
            Ok(response) => response.goal,
            Err(error) => match error.fault {
                Fault::Rpc(_) | Fault::NeedsNewer { .. } | Fault::NeedsExperimental { .. } => None,
                _ => return Err(error),
            },
        };
        if !goal.is_some_and(|goal| goal.status == ThreadGoalStatus::Active) {
            return Ok(false);
        }
        let set = ThreadGoalSet::new(self.id().clone()).status(ThreadGoalStatus::Paused);
        call(self.session(), set).await.map(|_| true)
    }

    /// Whether a turn was running, and the one that took the input.
    async fn try_to_steer(
        &self,
        session: &Arc<Session>,
        request: &TurnRequest,
    ) -> Result<(bool, Option<TurnId>), SteerError> {
        let input = || -> Result<Vec<UserInput>, SteerError> {
            if request.params.tool_output.is_some() {
                return Err(SteerError::Input(crate::turn::InputError::NotForSteering));
            }
            Ok(request.params.input.clone())
        };
        let Some(live) = session.hub.read(|connection| connection.running(self.id())) else {
            return Ok((false, None));
        };
        let first = match live {
            Running::Ours(key) => steer_ours(session, key, input()?).await,
            Running::Other(turn) => {
                let mut steer = TurnSteer::new(self.id().clone(), turn, input()?);
                steer.client_user_message_id = request.params.client_user_message_id.clone();
                steer_other(session, steer).await
            }
            Running::Unknown => return Ok((false, None)),
        };
        let outcome = match first {
            Err(SteerError::Mismatch { actual, .. }) => {
                let mut steer = TurnSteer::new(self.id().clone(), actual, input()?);
                steer.client_user_message_id = request.params.client_user_message_id.clone();
                steer_other(session, steer).await
            }
            outcome => outcome,
        };
        match outcome {
            Ok(turn) => Ok((true, Some(turn))),
            Err(SteerError::Ended) => Ok((true, None)),
            Err(error) => Err(error),
        }
    }
}

impl Turn {
    /// Gives the running turn more input, as [`steer`](Self::steer); and if the server says that another turn runs on the
    /// thread by now, that one, once. Returns the id of the turn that took it.
    ///
    /// # Errors
    /// As for [`steer`](Self::steer).
    ///
    /// # Cancel safety
    /// Dropping the future may leave the input sent.
    pub async fn steer_or_next(&self, input: impl Into<Input>) -> Result<TurnId, SteerError> {
        let input = input.into().for_steering().map_err(SteerError::Input)?;
        let (session, key) = self.parts();
        match steer_ours(session, key, input.clone()).await {
            Err(SteerError::Mismatch { actual, .. }) => {
                steer_other(session, TurnSteer::new(self.thread_id().clone(), actual, input)).await
            }
            outcome => outcome,
        }
    }
}

/// A turn that is held for as long as its interrupt is waited for.
struct Held<'a> {
    session: &'a Arc<Session>,
    key: TurnKey,
}

impl Held<'_> {
    async fn interrupted(&self) -> Result<InterruptOutcome, CallError> {
        interrupted(self.session, self.key).await
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        self.session.hub.command(|connection, now| connection.drop_turn(now, self.key));
    }
}

/// Makes a request over the thread's own connection.
async fn call<R: Request>(session: &Arc<Session>, params: R) -> Result<R::Response, CallError> {
    let request = Prepared::new(&params)?;
    drop(params);
    let key = session.hub.command(|connection, now| connection.enter(now, request))?;
    decode_response::<R>(&Reply::new(session, key).await?)
}

/// Has a turn ended that is not ours.
async fn interrupt_other(
    session: &Arc<Session>,
    thread: &ThreadId,
    turn: &TurnId,
) -> Result<InterruptOutcome, CallError> {
    let pending = session.hub.command(|connection, now| connection.interrupt_other(now, thread, turn))?;
    match Reply::new(session, pending.key()).await {
        Ok(_) => Ok(InterruptOutcome::Acknowledged),
        Err(error) if crate::turn::says_no_active_turn(&error) => Ok(InterruptOutcome::AlreadyEnded),
        Err(error) => Err(other_turn(error)),
    }
}

pub(super) async fn steer_ours(
    session: &Arc<Session>,
    key: TurnKey,
    input: Vec<UserInput>,
) -> Result<TurnId, SteerError> {
    let pending = session.hub.command(|connection, now| connection.steer(now, key, input))?;
    let outcome = Reply::new(session, pending.key()).await;
    let expected = session.hub.read(|connection| connection.turn_id(key).cloned());
    take_steered(outcome, &expected.unwrap_or_else(|| "".into()))
}

async fn steer_other(session: &Arc<Session>, steer: TurnSteer) -> Result<TurnId, SteerError> {
    let expected = steer.expected_turn_id.clone();
    let request = Prepared::new(&steer).map_err(SteerError::Call)?;
    drop(steer);
    let key = session.hub.command(|connection, now| connection.enter_urgent(now, request)).map_err(SteerError::Call)?;
    take_steered(Reply::new(session, key).await, &expected)
}

fn take_steered(outcome: Result<Json, CallError>, expected: &TurnId) -> Result<TurnId, SteerError> {
    steered(outcome.and_then(|json| decode_response::<TurnSteer>(&json)), expected)
}

/// The turns of a thread that were not started here, each from its beginning.
///
/// A turn that was offered and not taken is followed in memory, within `Limits::max_unread_bytes`, until it is taken or this
/// is dropped. Of those beyond `Limits::max_unclaimed_turns` nothing is told.
#[must_use = "turns that nobody takes are kept in memory"]
pub struct Turns {
    session: Arc<Session>,
    thread: ThreadId,
    mailbox: Mailbox,
}

impl fmt::Debug for Turns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Turns").field("thread", &self.thread).finish_non_exhaustive()
    }
}

impl Turns {
    /// The next turn; `None` when there will be no more.
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Option<Turn> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// The next turn, for those who poll.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        loop {
            match self.mailbox.poll_next(&self.session.hub, cx, &WaiterId::sole()) {
                Poll::Ready(Some(RawEvent::Turn(key))) => {
                    let events = self.session.hub.read(|connection| connection.claim_turn(key));
                    return Poll::Ready(Some(Turn::of(&self.session, key, &self.thread, events)));
                }
                Poll::Ready(Some(_)) => {}
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => return Poll::Pending,
            }
        }
    }
}

#[cfg(feature = "stream")]
impl futures_core::Stream for Turns {
    type Item = Turn;

    fn poll_next(mut self: std::pin::Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Turn>> {
        Turns::poll_next(&mut self, cx)
    }
}

impl Drop for Turns {
    fn drop(&mut self) {
        for event in self.mailbox.take_unread() {
            if let RawEvent::Turn(key) = event {
                let events = self.session.hub.read(|connection| connection.claim_turn(key));
                drop(Turn::of(&self.session, key, &self.thread, events));
            }
        }
        self.mailbox.close(&self.session.hub);
    }
}
