//! The two machines, what is between them, and who turns the crank.

use std::collections::VecDeque;
use std::fmt;
use std::time::Duration;

use turnwire_core::{
    connection::{Config, Connection, Event},
    error::CallError,
    launch::{ExitReport, ExitStatus},
    protocol::Request,
    time::Time,
    turn::{Next, RawEvent, SubscriptionKey},
};

use super::rng::Rng;
use super::wire::{Arrival, Direction, Faults, Lane};
use crate::scripted::{Script, ScriptedServer, State};

/// How many moments a run may take before it counts as endless.
const MAX_MOMENTS: u64 = 2_000_000;
/// How many rounds of exchange one moment may take.
const MAX_ROUNDS: u64 = 200_000;
/// The server's time of day, in Unix seconds: whoever asks gets this.
const UNIX_SECONDS: u64 = 1_795_349_155;

/// When the connection is polled, at each moment of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Polling {
    /// Everything after every input.
    Eager,
    /// Once, after everything that arrives at that moment.
    Lazy,
    /// As Lazy, and many times over, with timeouts that nobody asked for.
    Nervous,
    /// Each poll or none, in any order, as the seed decides; what is left at the end of the moment.
    Random,
}

/// Bytes that arrived on one side.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Crossing {
    /// When.
    pub at: Duration,
    /// Where to.
    pub direction: Direction,
    /// The bytes as they were read; empty for the end.
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Crossing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} {:?} {} bytes", self.at, self.direction, self.bytes.len())
    }
}

/// See [the module](super).
pub struct Pair {
    /// The connection. Commands are given to it directly, at [`Pair::time`]; what they lead to happens when the pair runs.
    pub client: Connection,
    /// The server.
    pub server: ScriptedServer,
    now: Duration,
    seed: u64,
    polling: Polling,
    faults: Faults,
    to_client: Lane,
    to_server: Lane,
    /// When the client is told of the server's end.
    exit: Option<(Duration, ExitReport)>,
    /// The end of the server was seen.
    server_is_over: bool,
    closed_write: bool,
    stderr: Vec<u8>,
    events: VecDeque<Event>,
    trace: Vec<Crossing>,
    rng: Rng,
}

impl Pair {
    /// A pair with the default configuration on a wire without faults.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self::with(script, Config::default(), Faults::default(), 0)
    }

    /// A pair. The configuration is told that a process is to be waited for, since the server has one to report.
    #[must_use]
    pub fn with(script: Script, mut config: Config, faults: Faults, seed: u64) -> Self {
        let mut rng = Rng::new(seed);
        config.expects_exit = true;
        Self {
            client: Connection::new(Time::ZERO, config),
            server: ScriptedServer::new(script),
            now: Duration::ZERO,
            seed,
            polling: Polling::Eager,
            faults,
            to_client: Lane::new(rng.fork()),
            to_server: Lane::new(rng.fork()),
            exit: None,
            server_is_over: false,
            closed_write: false,
            stderr: Vec::new(),
            events: VecDeque::new(),
            trace: Vec::new(),
            rng,
        }
    }

    /// Sets when the connection is polled.
    #[must_use]
    pub fn polling(mut self, polling: Polling) -> Self {
        self.polling = polling;
        self
    }

    /// The time, as the connection takes it.
    #[must_use]
    pub fn time(&self) -> Time {
        Time::from_start(self.now)
    }

    /// The time since the start.
    #[must_use]
    pub fn now(&self) -> Duration {
        self.now
    }

    /// Everything that arrived on either side so far.
    #[must_use]
    pub fn trace(&self) -> &[Crossing] {
        &self.trace
    }

    /// Does all that can happen at this moment, without letting time pass.
    ///
    /// # Panics
    /// When the moment does not end.
    pub fn settle(&mut self) {
        for _ in 0..MAX_ROUNDS {
            if !self.exchange() {
                return;
            }
        }
        self.fail("a moment does not end");
    }

    /// Lets time jump to the next moment at which anything can happen, and does it. False when nothing ever will.
    ///
    /// # Panics
    /// When the moment does not end.
    pub fn step(&mut self) -> bool {
        self.settle();
        let Some(due) = self.next_due() else { return false };
        self.now = self.now.max(due);
        self.settle();
        true
    }

    /// Lets so much time pass.
    ///
    /// # Panics
    /// When it does not end.
    pub fn pass(&mut self, time: Duration) {
        let until = self.now + time;
        self.settle();
        for _ in 0..MAX_MOMENTS {
            if self.next_due().is_none_or(|due| due > until) {
                self.now = until;
                self.settle();
                return;
            }
            self.step();
        }
        self.fail("time does not pass");
    }

    /// As [`step`](Self::step), if the next such moment is not after this one; else time comes to it and this is the last
    /// step, which is what false says.
    ///
    /// # Panics
    /// When the moment does not end.
    pub fn step_until(&mut self, until: Duration) -> bool {
        self.settle();
        if self.next_due().is_some_and(|due| due <= until) {
            return self.step();
        }
        self.now = self.now.max(until);
        self.settle();
        false
    }

    /// Runs until nothing can happen any more without a new command.
    ///
    /// # Panics
    /// When there is always something more.
    pub fn run_until_quiet(&mut self) {
        for _ in 0..MAX_MOMENTS {
            if !self.step() {
                return;
            }
        }
        self.fail("it does not become quiet");
    }

    /// Runs until something is the case. It is asked after each moment.
    ///
    /// # Panics
    /// When everything becomes quiet before, or never.
    pub fn run_until(&mut self, what: &str, mut is_so: impl FnMut(&mut Self) -> bool) {
        for _ in 0..MAX_MOMENTS {
            self.settle();
            if is_so(self) {
                return;
            }
            if !self.step() {
                self.fail(&format!("quiet before {what}"));
            }
        }
        self.fail(&format!("never: {what}"));
    }

    /// Makes a request and runs until it is done.
    ///
    /// # Errors
    /// As the connection says.
    ///
    /// # Panics
    /// When it is never done.
    pub fn call<R: Request>(&mut self, params: &R) -> Result<R::Response, CallError> {
        let pending = self.client.request(self.time(), params)?;
        let mut outcome = None;
        self.run_until(R::METHOD, |pair| {
            outcome = pair.client.take_response(&pending);
            outcome.is_some()
        });
        outcome.unwrap_or_else(|| self.fail("no outcome"))
    }

    /// Closes the connection from this side and runs until everything is quiet.
    ///
    /// # Panics
    /// When the connection is not over then.
    pub fn close(&mut self) {
        let within = self.client.config().timeouts.close;
        self.client.close(self.time(), within);
        self.run_until_quiet();
        if self.client.closed().is_none() {
            self.fail("closed, and not over");
        }
    }

    /// The next edge that the connection has reported.
    pub fn next_edge(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// The edges that the connection has reported and nobody has taken.
    pub fn edges(&self) -> impl Iterator<Item = &Event> {
        self.events.iter()
    }

    /// All events that a subscription has now, and whether it is at its end.
    ///
    /// # Panics
    /// Never; a kind of answer that is not known counts as nothing.
    pub fn read(&mut self, key: SubscriptionKey) -> (Vec<RawEvent>, bool) {
        let mut events = Vec::new();
        loop {
            match self.client.next_event(key) {
                Next::Event(event) => events.push(event),
                Next::Finished => return (events, true),
                _ => return (events, false),
            }
        }
    }

    /// Holds up one direction for so long from now.
    pub fn stall(&mut self, direction: Direction, time: Duration) {
        let now = self.now;
        match direction {
            Direction::ToClient => self.to_client.stall(now, time),
            Direction::ToServer => self.to_server.stall(now, time),
        }
    }

    /// Cuts the wire in both directions now. What was on its way is lost.
    pub fn cut(&mut self) {
        self.to_client.cut(self.now);
        self.to_server.cut(self.now);
    }

    /// Panics, with the seed.
    ///
    /// # Panics
    /// Always.
    pub fn fail(&self, what: &str) -> ! {
        panic!(
            "seed {}, {:?} on, {:?}: {what}; {:?}, next deadline {:?}",
            self.seed,
            self.now,
            self.polling,
            self.client.counters(),
            self.client.poll_timeout(),
        )
    }
}

/// What happens at one moment.
impl Pair {
    fn next_due(&self) -> Option<Duration> {
        let client = self.client.poll_timeout().map(|timeout| Duration::from_nanos(timeout.at.as_nanos()));
        let server = if self.server_is_over { None } else { self.server.poll_timeout() };
        let exit = self.exit.as_ref().map(|(due, _)| *due);
        [client, server, exit, self.to_client.next_due(), self.to_server.next_due()].into_iter().flatten().min()
    }

    /// One round; says whether anything happened.
    fn exchange(&mut self) -> bool {
        match self.polling {
            Polling::Eager => self.poll_client(),
            Polling::Lazy | Polling::Nervous | Polling::Random => {}
        }
        let mut any = self.deliver_to_server() | self.take_from_server();
        any |= self.deliver_to_client();
        any |= self.report_exit();
        match self.polling {
            Polling::Nervous => {
                for _ in 0..3 {
                    self.client.handle_timeout(Time::from_start(self.now));
                    self.poll_client();
                }
            }
            Polling::Random => self.poll_client_at_random(),
            Polling::Eager | Polling::Lazy => {}
        }
        if any {
            return true;
        }
        any |= self.transmit();
        any |= self.time_out();
        any | self.collect_edges()
    }

    fn poll_client(&mut self) {
        self.collect_edges();
        while self.transmit() {}
        self.collect_edges();
    }

    fn poll_client_at_random(&mut self) {
        for _ in 0..self.rng.below(6) {
            match self.rng.below(5) {
                0 => drop(self.transmit()),
                1 => drop(self.collect_edges()),
                2 => self.client.handle_timeout(Time::from_start(self.now)),
                3 => {
                    let _ = (self.client.poll_timeout(), self.client.has_transmit(), self.client.counters());
                }
                _ => {
                    if let Some(event) = self.client.poll_event() {
                        self.note_edge(event);
                    }
                }
            }
        }
    }

    fn transmit(&mut self) -> bool {
        let mut out = Vec::new();
        let promised = self.client.has_transmit();
        let any = self.client.poll_transmit(Time::from_start(self.now), &mut out);
        if any != promised || any == out.is_empty() {
            self.fail("has_transmit, poll_transmit and the bytes do not agree");
        }
        self.to_server.write(self.now, &out, &self.faults);
        if !any && self.client.wants_close_write() && !self.closed_write {
            self.closed_write = true;
            self.to_server.end(self.now, &self.faults);
            return true;
        }
        any
    }

    fn time_out(&mut self) -> bool {
        let now = Time::from_start(self.now);
        let is_due = self.client.poll_timeout().is_some_and(|timeout| timeout.at <= now);
        if is_due {
            self.client.handle_timeout(now);
            if self.client.poll_timeout().is_some_and(|timeout| timeout.at <= now) {
                self.fail("a timeout that was handled is still due");
            }
        }
        is_due
    }

    fn collect_edges(&mut self) -> bool {
        let mut any = false;
        while let Some(event) = self.client.poll_event() {
            any = true;
            self.note_edge(event);
        }
        any
    }

    fn note_edge(&mut self, event: Event) {
        if let Event::TimeWanted(key) = event {
            self.client.respond_time(key, UNIX_SECONDS);
        }
        self.events.push_back(event);
    }

    fn deliver_to_server(&mut self) -> bool {
        let mut any = false;
        while let Some(arrival) = self.to_server.arrive(self.now, &self.faults) {
            any = true;
            let bytes = match arrival {
                Arrival::Bytes(bytes) => {
                    self.server.handle_input(self.now, &bytes);
                    bytes
                }
                Arrival::End => {
                    self.server.handle_eof(self.now);
                    Vec::new()
                }
            };
            self.trace.push(Crossing { at: self.now, direction: Direction::ToServer, bytes });
        }
        any
    }

    fn take_from_server(&mut self) -> bool {
        if self.server_is_over {
            return false;
        }
        let mut out = Vec::new();
        self.server.poll_stderr(self.now, &mut self.stderr);
        self.server.poll_output(self.now, &mut out);
        self.to_client.write(self.now, &out, &self.faults);
        match self.server.state() {
            State::StdoutClosed => self.to_client.end(self.now, &self.faults),
            state if state.is_over() => {
                self.server_is_over = true;
                self.server.poll_stderr(self.now, &mut self.stderr);
                self.to_client.end(self.now, &self.faults);
                let status = match state {
                    State::Exited { code } => ExitStatus::new(Some(code), None),
                    State::Killed { signal } => ExitStatus::new(None, Some(signal)),
                    _ => ExitStatus::new(None, None),
                };
                let mut report = ExitReport::new(Some(status));
                report.stderr_tail = String::from_utf8_lossy(&self.stderr).into();
                report.elapsed = self.now;
                // The end of a process and the end of its output are seen in any order.
                let due = self.now + self.faults.latency + self.rng_of_exit();
                self.exit = Some((due, report));
                return true;
            }
            _ => {}
        }
        !out.is_empty()
    }

    fn rng_of_exit(&mut self) -> Duration {
        // Not from the generator of the polls: how often those draw must not move the exit.
        Rng::new(self.seed ^ 0x6578_6974).up_to(self.faults.jitter)
    }

    fn deliver_to_client(&mut self) -> bool {
        let mut any = false;
        while let Some(arrival) = self.to_client.arrive(self.now, &self.faults) {
            any = true;
            let now = Time::from_start(self.now);
            let bytes = match arrival {
                Arrival::Bytes(mut bytes) => {
                    let is_cut = self.faults.cut_after.is_some_and(|limit| self.to_client.arrived() >= limit);
                    if is_cut {
                        let limit = self.faults.cut_after.take().unwrap_or_default();
                        let surplus = self.to_client.arrived().saturating_sub(limit);
                        let kept = bytes.len().saturating_sub(usize::try_from(surplus).unwrap_or(usize::MAX));
                        bytes.truncate(kept);
                        self.cut();
                    }
                    self.client.handle_input(now, &bytes);
                    bytes
                }
                Arrival::End => {
                    self.client.handle_eof(now);
                    Vec::new()
                }
            };
            self.trace.push(Crossing { at: self.now, direction: Direction::ToClient, bytes });
            match self.polling {
                Polling::Eager => self.poll_client(),
                Polling::Random => self.poll_client_at_random(),
                Polling::Lazy | Polling::Nervous => {}
            }
        }
        any
    }

    fn report_exit(&mut self) -> bool {
        match self.exit.take() {
            Some((due, report)) if due <= self.now => {
                self.client.handle_exit(Time::from_start(self.now), report);
                true
            }
            later => {
                self.exit = later;
                false
            }
        }
    }
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pair")
            .field("now", &self.now)
            .field("seed", &self.seed)
            .field("polling", &self.polling)
            .field("client", &self.client)
            .field("server", &self.server.state())
            .finish_non_exhaustive()
    }
}
