//! What a connection does, as naively as can be: lists that are searched from one end to the other, and no care for speed.
//!
//! It knows the server that behaves: one turn at a time on a thread, nothing for turns that nobody started. Times are
//! milliseconds, wire ids are counted, texts are whatever the test chose.

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Answered,
    Refused,
    TimedOut { sent: bool },
    Disconnected { sent: bool },
    TurnEnded,
}

/// How an interrupt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stopped {
    Acknowledged,
    AlreadyEnded,
    Not(Outcome),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Running,
    Interrupting,
    Completed,
    Failed,
    Interrupted,
    Lost,
    NotStarted,
    TimedOut,
}

impl State {
    pub(crate) fn is_end(self) -> bool {
        !matches!(self, Self::Starting | Self::Running | Self::Interrupting)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Call,
    Start(usize),
    Steer(usize),
    Interrupt(usize),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Waits for the turn's name.
    Held,
    Queued,
    Sent,
    Over,
}

#[derive(Clone, Debug)]
pub(crate) struct Request {
    pub(crate) what: What,
    phase: Phase,
    due: u64,
    /// Nobody wants the outcome.
    abandoned: bool,
    pub(crate) outcome: Option<Outcome>,
}

#[derive(Clone, Debug)]
enum Interrupt {
    Idle,
    Held { until: u64 },
    Sent { request: usize, until: u64 },
    Settled(Stopped),
}

#[derive(Clone, Debug)]
pub(crate) struct Turn {
    pub(crate) thread: usize,
    pub(crate) state: State,
    pub(crate) name: Option<String>,
    start: usize,
    evident: bool,
    over_for_server: bool,
    pub(crate) released: bool,
    interrupt: Interrupt,
    /// Not before this is it interrupted again, after a refusal.
    again_at: u64,
    deadline: Option<u64>,
    /// Came before the name: what, and whether it is the end, with its state.
    parked: Vec<(String, Option<State>)>,
    /// What its reader has still to hear.
    pub(crate) events: Vec<String>,
}

impl Turn {
    pub(crate) fn is_over_for_server(&self) -> bool {
        self.over_for_server
    }
}

pub(crate) const CALL: u64 = 1000;
pub(crate) const REPLY: u64 = 600;
pub(crate) const INTERRUPT: u64 = 300;
const INTERRUPT_PAUSE: u64 = 1_000;
pub(crate) const IN_FLIGHT: usize = 3;

#[derive(Default)]
pub(crate) struct Model {
    pub(crate) now: u64,
    /// By wire id, less two: the first is the handshake's.
    pub(crate) requests: Vec<Request>,
    pub(crate) turns: Vec<Turn>,
    /// What the listeners of each thread have still to hear.
    pub(crate) heard: [Vec<String>; 2],
    /// The ids that were written since the last look.
    pub(crate) written: Vec<u64>,
    pub(crate) closed: bool,
}

/// Commands.
impl Model {
    pub(crate) fn call(&mut self) -> Option<usize> {
        (!self.closed).then(|| self.enter(What::Call, Phase::Queued))
    }

    pub(crate) fn abandon(&mut self, n: usize) {
        let request = &mut self.requests[n];
        request.abandoned = true;
        if request.phase != Phase::Sent {
            request.phase = Phase::Over;
        }
    }

    /// `None`: refused.
    pub(crate) fn start(&mut self, thread: usize, deadline: Option<u64>) -> Option<usize> {
        if self.closed || self.live(thread).is_some() {
            return None;
        }
        let key = self.turns.len();
        let start = self.enter(What::Start(key), Phase::Queued);
        self.turns.push(Turn {
            thread,
            state: State::Starting,
            name: None,
            start,
            evident: false,
            over_for_server: false,
            released: false,
            interrupt: Interrupt::Idle,
            again_at: 0,
            deadline: deadline.map(|limit| self.now + limit),
            parked: Vec::new(),
            events: Vec::new(),
        });
        Some(key)
    }

    /// `None`: the turn is over, or all is.
    pub(crate) fn steer(&mut self, key: usize) -> Option<usize> {
        if self.closed || self.turns[key].state.is_end() {
            return None;
        }
        let phase = if self.turns[key].name.is_some() { Phase::Queued } else { Phase::Held };
        Some(self.enter(What::Steer(key), phase))
    }

    pub(crate) fn interrupt(&mut self, key: usize) {
        let is_end = self.turns[key].state.is_end();
        match self.turns[key].interrupt {
            Interrupt::Idle if is_end => self.turns[key].interrupt = Interrupt::Settled(Stopped::AlreadyEnded),
            Interrupt::Idle => self.hold_interrupt(key),
            Interrupt::Settled(stopped) if may_ask_again(stopped) && !is_end => self.hold_interrupt(key),
            _ => {}
        }
    }

    pub(crate) fn release(&mut self, key: usize) {
        self.turns[key].released = true;
        self.turns[key].events.clear();
        self.take_start_back(key);
    }

    pub(crate) fn close(&mut self) {
        self.closed = true;
        for n in 0..self.requests.len() {
            if self.requests[n].phase != Phase::Over {
                let sent = self.requests[n].phase == Phase::Sent;
                self.finish(n, Outcome::Disconnected { sent });
            }
        }
        for key in 0..self.turns.len() {
            if let Interrupt::Held { .. } | Interrupt::Sent { .. } = self.turns[key].interrupt {
                self.settle(key, Stopped::Not(Outcome::Disconnected { sent: false }));
            }
            self.turns[key].over_for_server = true;
            self.end(key, State::Lost);
        }
    }
}

/// What the server does, and time.
impl Model {
    /// Writes what may be written: the urgent first, while there are fewer than six; others while there are fewer than three
    /// of their own.
    pub(crate) fn write(&mut self) {
        loop {
            let is_urgent = |request: &Request| matches!(request.what, What::Steer(_) | What::Interrupt(_));
            let flying = |urgent: bool| {
                let sent = self.requests.iter().filter(|request| request.phase == Phase::Sent);
                sent.filter(|request| is_urgent(request) == urgent).count()
            };
            let queued = |urgent: bool| {
                let is_next = |request: &Request| request.phase == Phase::Queued && is_urgent(request) == urgent;
                self.requests.iter().position(is_next)
            };
            let urgent = queued(true).filter(|_| flying(false) + flying(true) < 2 * IN_FLIGHT);
            let Some(n) = urgent.or_else(|| queued(false).filter(|_| flying(false) < IN_FLIGHT)) else { return };
            self.requests[n].phase = Phase::Sent;
            self.requests[n].due = self.requests[n].due.min(self.now + REPLY);
            self.written.push(n as u64 + 2);
        }
    }

    /// The requests that the server has and has not answered.
    pub(crate) fn unanswered(&self) -> Vec<usize> {
        (0..self.requests.len()).filter(|n| self.requests[*n].phase == Phase::Sent).collect()
    }

    pub(crate) fn answer(&mut self, n: usize, name: Option<String>) {
        if let (What::Start(key), Some(name), false) = (self.requests[n].what, name.clone(), self.requests[n].abandoned)
        {
            self.requests[n].phase = Phase::Over;
            return self.name_turn(key, name);
        }
        self.finish(n, if name.is_some() { Outcome::Answered } else { Outcome::Refused });
    }

    /// The server says something about a turn of a thread; with a state, its end.
    pub(crate) fn notify(&mut self, thread: usize, what: &str, end: Option<State>) {
        self.heard[thread].push(what.into());
        let Some(key) = self.live(thread) else { return };
        if self.turns[key].name.is_none() {
            self.turns[key].parked.push((what.into(), end));
        } else {
            self.hear(key, what, end);
        }
    }

    pub(crate) fn next_due(&self) -> Option<u64> {
        let open = self.requests.iter().filter(|request| request.phase != Phase::Over);
        let timers = self.turns.iter().flat_map(|turn| {
            let until = match turn.interrupt {
                Interrupt::Held { until } | Interrupt::Sent { until, .. } => Some(until),
                _ => None,
            };
            [turn.deadline, until].into_iter().flatten()
        });
        open.map(|request| request.due).chain(timers).min()
    }

    /// What is due at this moment: requests, then turns.
    pub(crate) fn time_out(&mut self) {
        for n in 0..self.requests.len() {
            if self.requests[n].phase != Phase::Over && self.requests[n].due <= self.now {
                let sent = self.requests[n].phase == Phase::Sent;
                self.finish(n, Outcome::TimedOut { sent });
            }
        }
        for key in 0..self.turns.len() {
            if self.turns[key].deadline.is_some_and(|deadline| deadline <= self.now) {
                let may_ask = match self.turns[key].interrupt {
                    Interrupt::Idle => true,
                    Interrupt::Settled(stopped) => may_ask_again(stopped),
                    _ => false,
                };
                if self.end(key, State::TimedOut) && may_ask {
                    self.hold_interrupt(key);
                }
                self.take_start_back(key);
            }
            let sent = match self.turns[key].interrupt {
                Interrupt::Held { until } if until <= self.now => false,
                Interrupt::Sent { request, until } if until <= self.now => {
                    let sent = self.requests[request].phase == Phase::Sent;
                    self.abandon(request);
                    sent
                }
                _ => continue,
            };
            self.settle(key, Stopped::Not(Outcome::TimedOut { sent }));
        }
    }
}

/// What can be asked.
impl Model {
    pub(crate) fn live(&self, thread: usize) -> Option<usize> {
        self.turns.iter().position(|turn| turn.thread == thread && !turn.over_for_server)
    }

    pub(crate) fn stopped(&self, key: usize) -> Option<Stopped> {
        match self.turns[key].interrupt {
            Interrupt::Settled(stopped) => Some(stopped),
            _ => None,
        }
    }

    /// Requests in the table; those that are done were fetched.
    pub(crate) fn open_requests(&self) -> usize {
        self.requests.iter().filter(|request| request.phase != Phase::Over).count()
    }

    pub(crate) fn is_known(&self, key: usize) -> bool {
        !(self.turns[key].released && self.turns[key].over_for_server)
    }
}

/// What follows from what.
impl Model {
    fn enter(&mut self, what: What, phase: Phase) -> usize {
        self.requests.push(Request { what, phase, due: self.now + CALL, abandoned: false, outcome: None });
        self.requests.len() - 1
    }

    fn finish(&mut self, n: usize, outcome: Outcome) {
        self.requests[n].phase = Phase::Over;
        if self.requests[n].abandoned {
            return;
        }
        match self.requests[n].what {
            What::Call | What::Steer(_) => self.requests[n].outcome = Some(outcome),
            What::Start(key) => {
                self.turns[key].over_for_server = true;
                self.end(key, State::NotStarted);
                // What may run all the same was not stopped.
                let stopped = match outcome {
                    Outcome::TimedOut { sent: true } | Outcome::Disconnected { sent: true } => Stopped::Not(outcome),
                    _ => Stopped::AlreadyEnded,
                };
                // A turn that had ended before its start failed has no fault to speak of.
                let ended_before = self.turns[key].state != State::NotStarted;
                self.settle_open(key, if ended_before { Stopped::AlreadyEnded } else { stopped });
            }
            What::Interrupt(key) => {
                if outcome != Outcome::Answered && self.turns[key].state == State::Interrupting {
                    self.turns[key].state = State::Running;
                }
                let is_answered = outcome == Outcome::Answered;
                self.turns[key].again_at = self.now + INTERRUPT_PAUSE;
                self.settle(key, if is_answered { Stopped::Acknowledged } else { Stopped::Not(outcome) });
            }
        }
    }

    fn name_turn(&mut self, key: usize, name: String) {
        self.turns[key].name = Some(name);
        if self.turns[key].state == State::Starting {
            self.turns[key].state = State::Running;
        }
        for (what, end) in std::mem::take(&mut self.turns[key].parked) {
            self.hear(key, &what, end);
        }
        for request in &mut self.requests {
            if request.what == What::Steer(key) && request.phase == Phase::Held {
                request.phase = Phase::Queued;
            }
        }
        self.send_interrupt(key);
    }

    fn hear(&mut self, key: usize, what: &str, end: Option<State>) {
        let turn = &mut self.turns[key];
        if !turn.state.is_end() && !turn.released {
            turn.events.push(what.into());
        }
        match end {
            Some(state) => {
                turn.over_for_server = true;
                self.end(key, state);
                self.settle_open(key, Stopped::AlreadyEnded);
            }
            None => {
                turn.evident = true;
                let again = matches!(turn.interrupt, Interrupt::Settled(stopped) if may_ask_again(stopped));
                let again = again && self.now >= turn.again_at;
                if turn.state == State::TimedOut && (again || matches!(turn.interrupt, Interrupt::Idle)) {
                    self.hold_interrupt(key);
                }
                self.send_interrupt(key);
            }
        }
    }

    /// Ends a turn here, unless it has. Says whether it does.
    fn end(&mut self, key: usize, state: State) -> bool {
        let turn = &mut self.turns[key];
        if turn.state.is_end() {
            return false;
        }
        turn.state = state;
        turn.deadline = None;
        if !turn.released {
            turn.events.push(format!("{state:?}"));
        }
        for request in &mut self.requests {
            if request.what == What::Steer(key) && request.phase == Phase::Held {
                request.phase = Phase::Over;
                if !request.abandoned {
                    request.outcome = Some(Outcome::TurnEnded);
                }
            }
        }
        true
    }

    fn hold_interrupt(&mut self, key: usize) {
        self.turns[key].interrupt = Interrupt::Held { until: self.now + INTERRUPT };
        self.send_interrupt(key);
    }

    fn send_interrupt(&mut self, key: usize) {
        let Interrupt::Held { until } = self.turns[key].interrupt else { return };
        if self.turns[key].name.is_some() && self.turns[key].evident && !self.turns[key].over_for_server {
            let request = self.enter(What::Interrupt(key), Phase::Queued);
            self.turns[key].interrupt = Interrupt::Sent { request, until };
            if self.turns[key].state == State::Running {
                self.turns[key].state = State::Interrupting;
            }
        }
    }

    fn settle_open(&mut self, key: usize, stopped: Stopped) {
        match self.turns[key].interrupt {
            Interrupt::Sent { request, .. } => self.abandon(request),
            Interrupt::Held { .. } => {}
            _ => return,
        }
        self.settle(key, stopped);
    }

    fn settle(&mut self, key: usize, stopped: Stopped) {
        self.turns[key].interrupt = Interrupt::Settled(stopped);
    }

    /// A start that was not sent and that nobody wants is never sent.
    fn take_start_back(&mut self, key: usize) {
        let turn = &self.turns[key];
        let is_wanted = !turn.released && !turn.state.is_end();
        if !is_wanted && turn.name.is_none() && self.requests[turn.start].phase == Phase::Queued {
            let start = turn.start;
            self.abandon(start);
            self.turns[key].over_for_server = true;
            self.end(key, State::NotStarted);
            self.settle_open(key, Stopped::AlreadyEnded);
        }
    }
}

fn may_ask_again(stopped: Stopped) -> bool {
    match stopped {
        Stopped::Not(Outcome::Refused | Outcome::TurnEnded) => true,
        Stopped::Not(Outcome::TimedOut { sent } | Outcome::Disconnected { sent }) => !sent,
        Stopped::Not(Outcome::Answered) | Stopped::Acknowledged | Stopped::AlreadyEnded => false,
    }
}
