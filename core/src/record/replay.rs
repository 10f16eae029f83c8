//! Feeding a recording to a connection.

use super::{
    Line, Part, Record, Recording, Redactor, Step,
    compare::{Difference, Sameness, difference},
    redact::is_member,
    with_id,
};
use crate::{
    connection::{
        AskKind, Config, Connection, Event, ListenFor, NextAsk, Prepared, RequestKey, Scope, ServerRequestKey,
        TurnOptions, refusals,
    },
    envelope::{Envelope, Message, RpcId},
    error::{CallError, Disconnect, RpcError, TurnError},
    id::{ThreadId, TurnId},
    json::Json,
    time::Time,
    turn::{Next, RawEvent, SubscriptionKey, TurnKey, TurnResult},
};
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet, VecDeque},
    string::{String, ToString},
    vec,
    vec::Vec,
};
use core::fmt;
use serde::Deserialize;
use serde_json::{Value, value::RawValue};

/// How much of a line that was too long is made again, in bytes.
const MAX_AGAIN: u64 = 1 << 30;

/// A connection that lives through a recording: without process, network or clock.
///
/// What the server said is fed to it as it came. What the application did is read off what it sent: for each recorded
/// request the same request is made when its turn comes, and turns are started, interrupted and timed out as such. What the
/// connection writes is compared with what was recorded; where the two differ, a [`Divergence`] says how. Before a recording that
/// begins after the handshake, a handshake is made up.
///
/// It yields what the connection has to tell: the events of each turn that was started, of the connection, and of each
/// thread if that [is wanted](Self::with_threads); what came of each request and each turn; and the end. Deltas are not merged.
///
/// ```
/// use turnwire_core::record::{Recording, Replay, ReplayedEvent};
///
/// let recording = Recording::parse(concat!(
///     r#"{"n":1,"t_ns":0,"dir":"in","line":"{\"id\":1,\"method\":\"initialize\",\"params\":{\"clientInfo\":{\"name\":\"me\",\"version\":\"1\"}}}"}"#,
///     "\n",
///     r#"{"n":2,"t_ns":5,"dir":"out","line":"{\"id\":1,\"result\":{\"userAgent\":\"me/0.163.0\"}}"}"#,
///     "\n",
/// ))?;
/// let mut replay = Replay::new(&recording);
/// assert!(matches!(replay.next().unwrap().event, ReplayedEvent::Ready));
/// assert!(replay.next().is_none());
/// # Ok::<(), turnwire_core::record::FormatError>(())
/// ```
#[derive(Debug)]
pub struct Replay {
    connection: Connection,
    records: VecDeque<Record>,
    sameness: Sameness,
    number: u64,
    now: Time,
    /// The ids of requests as they were recorded, and what they are here.
    ids: BTreeMap<String, Open>,
    /// Lines that the connection wrote and that no record has matched yet.
    written: VecDeque<Box<[u8]>>,
    /// How many of them were written before another that a record has matched.
    overtaken: usize,
    /// Whether the recording goes on to an end. Otherwise what it does not show may be what it lacks.
    has_end: bool,
    /// How many records were played.
    played: usize,
    /// The places of the server's requests that the application must have been asked: it did not answer with the refusal.
    answered: BTreeSet<usize>,
    /// The requests of the server that the application has, by their ids.
    asks: BTreeMap<RpcId, ServerRequestKey>,
    /// When the turns are to end that were given a deadline, by the id of their start.
    deadlines: BTreeMap<u64, Time>,
    turns: Vec<ReplayedTurn>,
    readers: BTreeMap<SubscriptionKey, Reader>,
    with_threads: bool,
    divergences: Vec<Divergence>,
    lost: u64,
    events: VecDeque<Replayed>,
    is_finished: bool,
}

#[derive(Debug)]
struct Open {
    key: RequestKey,
    method: Box<str>,
}

#[derive(Debug)]
struct ReplayedTurn {
    key: TurnKey,
    is_over: bool,
}

#[derive(Debug, Clone)]
enum Reader {
    Connection,
    Thread(ThreadId),
    Turn(usize),
}

/// Something that a replayed connection had to tell.
#[derive(Debug)]
#[non_exhaustive]
pub struct Replayed {
    /// The number of the record that led to it.
    pub number: u64,
    /// What.
    pub event: ReplayedEvent,
}

/// What a replayed connection has to tell.
#[derive(Debug)]
#[non_exhaustive]
pub enum ReplayedEvent {
    /// The connection is over.
    Closed(Disconnect),
    /// What belongs to no thread that anybody had to do with.
    Connection(RawEvent),
    /// The handshake succeeded.
    Ready,
    /// A request is done that was neither the start of a turn nor its interrupt.
    Response {
        /// Its method.
        method: Box<str>,
        /// What came of it.
        outcome: Result<Json, CallError>,
    },
    /// An event of a thread; only [if wanted](Replay::with_threads).
    Thread(ThreadId, RawEvent),
    /// An event of a turn.
    Turn {
        /// Which of the turns that were started, from 0 on.
        turn: usize,
        /// The event.
        event: RawEvent,
    },
    /// A turn is over, or was not started.
    TurnOver {
        /// Which of the turns that were started, from 0 on.
        turn: usize,
        /// What it produced.
        result: Box<Result<TurnResult, TurnError>>,
    },
}

/// A place where what is written is not what was recorded.
///
/// `Debug` and `Display` show no text of the two lines: methods, lengths, and where in the JSON they part.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Divergence {
    /// The record at which it was seen.
    pub number: u64,
    /// The line that was recorded; `None` when more is written than was recorded.
    pub expected: Option<Line>,
    /// The line that is written; `None` when none is.
    pub actual: Option<Line>,
    /// Where the two part, as a JSON pointer with the names as they are; empty when one of them is missing or they part at the root.
    pub path: String,
}

impl Divergence {
    /// A divergence.
    #[must_use]
    pub fn new(number: u64, expected: Option<&[u8]>, actual: Option<&[u8]>, path: impl Into<String>) -> Self {
        Self { number, expected: expected.map(Line::new), actual: actual.map(Line::new), path: path.into() }
    }
}

impl fmt::Display for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let show = |f: &mut fmt::Formatter<'_>, line: &Option<Line>| match line {
            Some(line) => write!(f, "{} ({} bytes)", super::compare::name(&line.bytes), line.bytes.len()),
            None => f.write_str("nothing"),
        };
        write!(f, "record {}: expected ", self.number)?;
        show(f, &self.expected)?;
        f.write_str(", found ")?;
        show(f, &self.actual)?;
        if self.path.is_empty() {
            return Ok(());
        }
        f.write_str("; they part at ")?;
        // A name that no schema has may be anything: a path, a variable of the environment.
        for step in self.path.split('/').skip(1) {
            let is_harmless = is_member(step) || (step.len() < 8 && step.bytes().all(|byte| byte.is_ascii_digit()));
            write!(f, "/{}", if is_harmless { step } else { "*" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Divergence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Divergence({self})")
    }
}

/// What a recorded line of the client is.
#[derive(Deserialize, Default)]
#[serde(default)]
struct Said<'a> {
    #[serde(borrow)]
    id: Option<&'a RawValue>,
    method: Option<String>,
    #[serde(borrow)]
    params: Option<&'a RawValue>,
    #[serde(borrow)]
    result: Option<&'a RawValue>,
    #[serde(borrow)]
    error: Option<&'a RawValue>,
}

impl Replay {
    /// A replay with the configuration that the recording shows: the client's name and capabilities, the bounds of time.
    #[must_use]
    pub fn new(recording: &Recording) -> Self {
        Self::with_config(recording, config_of(recording))
    }

    /// A replay with a configuration of the caller's: to see what a recorded server would do to another one.
    #[must_use]
    pub fn with_config(recording: &Recording, mut config: Config) -> Self {
        config.tap = false;
        let start = recording.records.first().map_or(Time::ZERO, |record| record.at);
        let mut deadlines = BTreeMap::new();
        for record in &recording.records {
            if let Step::Deadline { request, within } = record.step {
                deadlines.insert(request, record.at + within);
            }
        }
        let mut replay = Self {
            connection: Connection::new(start, config),
            records: recording.records.iter().cloned().collect(),
            sameness: if recording.header.redacted { Sameness::Shape } else { Sameness::Value },
            number: 0,
            now: start,
            ids: BTreeMap::new(),
            written: VecDeque::new(),
            overtaken: 0,
            has_end: recording.records.iter().any(|record| is_end(&record.step)),
            played: 0,
            answered: answered(recording),
            asks: BTreeMap::new(),
            deadlines,
            turns: Vec::new(),
            readers: BTreeMap::new(),
            with_threads: false,
            divergences: Vec::new(),
            lost: 0,
            events: VecDeque::new(),
            is_finished: false,
        };
        let is_opening = |record: &Record| matches!(&record.step, Step::Sent(line) if opening(line).is_some());
        if !recording.records.iter().any(is_opening) {
            replay.pretend_handshake();
        }
        let key = replay.connection.subscribe(Scope::Connection);
        replay.readers.insert(key, Reader::Connection);
        replay
    }

    /// Listens to each thread too, from the first time that it is named. Then what belongs to a thread is told there, and
    /// no longer with the connection.
    #[must_use]
    pub fn with_threads(mut self) -> Self {
        self.with_threads = true;
        self
    }

    /// Plays the next record. False after the last.
    pub fn step(&mut self) -> bool {
        let Some(record) = self.records.pop_front() else {
            self.finish();
            return false;
        };
        self.number = record.number;
        // Files of other recorders need not be monotone; clocks are.
        self.now = self.now.max(record.at);
        let now = self.now;
        match record.step {
            Step::Received(line) => {
                let is_asked = self.records.front().is_some_and(|next| next.step == Step::Asked);
                if is_asked || self.answered.contains(&self.played) {
                    self.receive_for_application(&line);
                } else {
                    self.receive(&line);
                }
            }
            Step::Sent(line) => self.send(&line),
            Step::Abandon { request } => {
                if let Some(open) = self.ids.get(&request.to_string()) {
                    self.connection.abandon(open.key);
                }
            }
            Step::Close { within } => self.connection.close(now, within),
            Step::Disconnect(reason) => self.connection.handle_disconnect(now, reason),
            Step::Eof => {
                // Nothing is, any more, afterwards.
                self.write();
                self.connection.handle_eof(now);
            }
            Step::Evidence(report) => self.connection.handle_evidence(report),
            Step::Exit(report) => self.connection.handle_exit(now, report),
            Step::Timeout => self.connection.handle_timeout(now),
            Step::Lost { records } => self.lost += records,
            Step::Asked | Step::Deadline { .. } | Step::Remark(_) => {}
        }
        self.played += 1;
        self.collect();
        true
    }

    /// Where what was written is not what was recorded, so far.
    #[must_use]
    pub fn divergences(&self) -> &[Divergence] {
        &self.divergences
    }

    /// How many records the recording lacks, because they were lost when it was made. With any, it shows less than was.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.lost
    }

    /// The connection, as it stands.
    #[must_use]
    pub fn connection(&self) -> &Connection {
        &self.connection
    }

    /// For a recording that begins later: what was before must have gone well.
    fn pretend_handshake(&mut self) {
        self.write();
        let answer = br#"{"id":1,"result":{"userAgent":"unknown"}}"#;
        self.connection.handle_input(self.now, &[answer.as_slice(), b"\n"].concat());
        self.write();
        self.written.clear();
        while self.connection.poll_event().is_some() {}
    }

    fn finish(&mut self) {
        if core::mem::replace(&mut self.is_finished, true) {
            return;
        }
        self.write();
        let mut missing = core::mem::take(&mut self.written);
        if !self.has_end {
            missing.truncate(self.overtaken);
        }
        for line in missing {
            self.divergences.push(Divergence::new(self.number, None, Some(&line), ""));
        }
    }

    fn receive(&mut self, line: &Line) {
        let mut bytes = self.with_own_id(line);
        if self.with_threads {
            if let Ok(Envelope {
                message: Message::Notification { keys, .. } | Message::Request { keys, .. }, ..
            }) = Envelope::parse(&bytes)
            {
                let thread = keys.thread().map(ThreadId::from);
                self.listen_to(thread);
            } else if let Some(thread) = thread_in_result(&bytes) {
                self.listen_to(Some(thread));
            }
        }
        let mut missing = 0;
        if let Part::Head(length) = line.part {
            missing = length.min(MAX_AGAIN).saturating_sub(bytes.len() as u64);
        }
        if missing == 0 && line.part != Part::Cut {
            bytes.push(b'\n');
        }
        self.connection.handle_input(self.now, &bytes);
        while missing > 0 {
            let piece = vec![b' '; usize::try_from(missing.min(64 * 1024)).unwrap_or(1)];
            missing -= piece.len() as u64;
            self.connection.handle_input(self.now, &piece);
            if missing == 0 {
                self.connection.handle_input(self.now, b"\n");
            }
        }
    }

    /// A request of the server that the application was asked to answer.
    fn receive_for_application(&mut self, line: &Line) {
        let wants = ListenFor { kinds: AskKind::ALL.into(), ..ListenFor::default() };
        let listener = self.connection.listen(wants);
        self.receive(line);
        while let NextAsk::Asked(asked) = self.connection.next_ask(listener) {
            self.asks.insert(asked.id, asked.key);
        }
        self.connection.unlisten(listener);
    }

    /// An answer under the id that its request has here.
    fn with_own_id(&self, line: &Line) -> Vec<u8> {
        /// No request will ever have it.
        const NOBODYS: &str = "9223372036854775807";
        let head = || matches!(line.part, Part::Head(_)).then(|| Envelope::response_id_in_head(&line.bytes)).flatten();
        let id = match Envelope::parse(&line.bytes) {
            Ok(Envelope { message: Message::Success { id, .. } | Message::Failure { id, .. }, .. }) => Some(id),
            _ => head(),
        };
        let Some(id) = id.as_ref().and_then(|id| serde_json::to_string(id).ok()) else { return line.bytes.to_vec() };
        let own = self.ids.get(&id).map(|open| open.key.0.to_string());
        let own = match &own {
            Some(own) => own,
            None if id.parse::<i64>().is_ok() => NOBODYS,
            None => return line.bytes.to_vec(),
        };
        if own == id {
            return line.bytes.to_vec();
        }
        let in_head = || line.text().replacen(&id, own, 1).into_bytes();
        with_id(&line.bytes, own).unwrap_or_else(in_head)
    }

    fn send(&mut self, line: &Line) {
        self.write();
        let Ok(said) = serde_json::from_slice::<Said<'_>>(&line.bytes) else {
            // Another client may have written anything.
            self.divergences.push(Divergence::new(self.number, Some(&line.bytes), None, ""));
            return;
        };
        if !self.is_written(line, &said) {
            self.act(&said);
            self.write();
            if !self.is_written(line, &said) {
                self.divergences.push(Divergence::new(self.number, Some(&line.bytes), None, ""));
            }
        }
    }

    /// Looks for a recorded line among those that the connection has written, and takes it out.
    fn is_written(&mut self, line: &Line, said: &Said<'_>) -> bool {
        let of = |written: &[u8]| serde_json::from_slice::<Said<'_>>(written).ok().map(|own| own.is_like(said));
        let sameness = self.sameness;
        let like: Vec<usize> =
            (0..self.written.len()).filter(|at| self.written.get(*at).and_then(|own| of(own)) == Some(true)).collect();
        let same = |at: &&usize| {
            self.written.get(**at).is_some_and(|own| difference(&line.bytes, own, sameness) == Difference::None)
        };
        let Some(at) = like.iter().find(same).or(like.first()).copied() else { return false };
        let Some(own) = self.written.remove(at) else { return false };
        self.overtaken = if at < self.overtaken { self.overtaken - 1 } else { at };
        if let Difference::At(path) = difference(&line.bytes, &own, sameness) {
            self.divergences.push(Divergence::new(self.number, Some(&line.bytes), Some(&own), path));
        }
        let key = serde_json::from_slice::<Said<'_>>(&own).ok().and_then(|own| own.id?.get().parse().ok());
        if let (Some(id), Some(method), Some(key)) = (said.id, &said.method, key) {
            self.ids.insert(id.get().into(), Open { key: RequestKey(key), method: method.as_str().into() });
        }
        true
    }

    /// Does what the application must have done.
    fn act(&mut self, said: &Said<'_>) {
        let now = self.now;
        let params = said.params.unwrap_or(RawValue::NULL);
        match (&said.method, said.id) {
            (Some(method), None) => drop(self.connection.notify(method, params)),
            (Some(method), Some(id)) => {
                let is_turn = match method.as_str() {
                    "turn/start" => self.start_turn(id, params),
                    "turn/interrupt" => self.interrupt(params),
                    _ => false,
                };
                if is_turn {
                    return;
                }
                let entered =
                    Prepared::raw(method.clone(), params).and_then(|request| self.connection.enter(now, request));
                if let Ok(key) = entered {
                    self.ids.insert(id.get().into(), Open { key, method: method.as_str().into() });
                }
            }
            (None, Some(id)) => {
                let asked = parse_id(id).and_then(|id| self.asks.remove(&id));
                if let Some(asked) = asked {
                    return self.answer(asked, said);
                }
                #[derive(Deserialize)]
                #[serde(rename_all = "camelCase")]
                struct Clock {
                    current_time_at: u64,
                }
                let clock = said.result.and_then(|result| serde_json::from_str::<Clock>(result.get()).ok());
                let key = parse_id(id).and_then(|id| self.connection.time_wanted_by(&id));
                if let (Some(clock), Some(key)) = (clock, key) {
                    self.connection.respond_time(key, clock.current_time_at);
                }
            }
            (None, None) => {}
        }
    }

    /// Answers as the application did. Nothing is written, which shows, if it is over already.
    fn answer(&mut self, asked: ServerRequestKey, said: &Said<'_>) {
        let answer = match (said.result, said.error) {
            (Some(result), _) => Ok(Json::from(result)),
            (None, Some(error)) => Err(RpcError::parse(error)),
            (None, None) => Ok(Json::null()),
        };
        drop(self.connection.respond(asked, answer));
    }

    /// False when there is no such turn to be had: then it is a request like others.
    fn start_turn(&mut self, id: &RawValue, params: &RawValue) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Start {
            thread_id: String,
        }
        let Ok(Start { thread_id }) = serde_json::from_str(params.get()) else { return false };
        let thread = ThreadId::from(thread_id.as_str());
        let mut options = TurnOptions::default();
        let until = id.get().parse().ok().and_then(|id| self.deadlines.get(&id));
        options.deadline = until.map(|until| until.since(self.now));
        let Ok(request) = Prepared::raw("turn/start", params) else { return false };
        if self.with_threads {
            self.listen_to(Some(thread.clone()));
        }
        let Ok(key) = self.connection.enter_turn(self.now, thread, request, &options) else { return false };
        let reader = self.connection.subscribe(Scope::Turn(key));
        self.readers.insert(reader, Reader::Turn(self.turns.len()));
        self.turns.push(ReplayedTurn { key, is_over: false });
        if let Some(start) = self.connection.start_of(key) {
            self.ids.insert(id.get().into(), Open { key: start, method: "turn/start".into() });
        }
        true
    }

    fn interrupt(&mut self, params: &RawValue) -> bool {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Interrupt {
            turn_id: String,
        }
        let Ok(Interrupt { turn_id }) = serde_json::from_str(params.get()) else { return false };
        let turn_id = TurnId::from(turn_id.as_str());
        let mut turns = self.turns.iter().filter(|turn| !turn.is_over);
        let Some(turn) = turns.find(|turn| self.connection.turn_id(turn.key) == Some(&turn_id)) else { return false };
        self.connection.interrupt(self.now, turn.key).is_ok()
    }

    fn listen_to(&mut self, thread: Option<ThreadId>) {
        let Some(thread) = thread else { return };
        let is_known = |reader: &Reader| matches!(reader, Reader::Thread(known) if *known == thread);
        if !self.readers.values().any(is_known) {
            let key = self.connection.subscribe(Scope::Thread(thread.clone()));
            self.readers.insert(key, Reader::Thread(thread));
        }
    }

    /// Takes what the connection wants to write.
    fn write(&mut self) {
        let mut out = Vec::new();
        while self.connection.poll_transmit(self.now, &mut out) {}
        self.written.extend(out.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).map(Into::into));
    }

    /// Takes what the connection has to tell.
    fn collect(&mut self) {
        while let Some(event) = self.connection.poll_event() {
            match event {
                Event::Ready => self.tell(ReplayedEvent::Ready),
                Event::Response(key) => {
                    let method = self.ids.values().find(|open| open.key == key).map(|open| open.method.clone());
                    if let Some(outcome) = self.connection.take_json(key) {
                        self.tell(ReplayedEvent::Response { method: method.unwrap_or_default(), outcome });
                    }
                }
                Event::Readable(key) => {
                    if let Some(reader) = self.readers.get(&key).cloned() {
                        self.read(key, &reader);
                    }
                }
                Event::Closed => {
                    if let Some(cause) = self.connection.closed().cloned() {
                        self.tell(ReplayedEvent::Closed(cause));
                    }
                }
                Event::AskEnded(key) => {
                    // The application has no more use for it either.
                    self.asks.retain(|_, asked| *asked != key);
                    self.connection.release_ask(key);
                }
                Event::Alarm(_) | Event::Asked(_) | Event::Login(_) | Event::TimeWanted(_) | Event::Turn(_) => {}
            }
        }
        for turn in 0..self.turns.len() {
            let Some(ReplayedTurn { key, is_over: false }) = self.turns.get(turn) else { continue };
            let Some(report) = self.connection.take_report(*key) else { continue };
            let result = report.map_err(TurnError::Start).and_then(|report| report.into_result());
            if let Some(turn) = self.turns.get_mut(turn) {
                turn.is_over = true;
            }
            self.tell(ReplayedEvent::TurnOver { turn, result: Box::new(result) });
        }
    }

    fn read(&mut self, key: SubscriptionKey, reader: &Reader) {
        while let Next::Event(event) = self.connection.next_event(key) {
            self.tell(match reader {
                Reader::Connection => ReplayedEvent::Connection(event),
                Reader::Thread(thread) => ReplayedEvent::Thread(thread.clone(), event),
                Reader::Turn(turn) => ReplayedEvent::Turn { turn: *turn, event },
            });
        }
    }

    fn tell(&mut self, event: ReplayedEvent) {
        self.events.push_back(Replayed { number: self.number, event });
    }
}

impl Iterator for Replay {
    type Item = Replayed;

    /// Plays until there is something to tell.
    fn next(&mut self) -> Option<Replayed> {
        while self.events.is_empty() {
            if !self.step() {
                break;
            }
        }
        self.events.pop_front()
    }
}

impl Said<'_> {
    /// Whether it is the same request, notification or answer, whatever is in it.
    fn is_like(&self, other: &Said<'_>) -> bool {
        let id = |said: &Self| said.id.map(|id| id.get().to_string());
        match (&self.method, &other.method) {
            (Some(own), Some(other_method)) => own == other_method && self.id.is_some() == other.id.is_some(),
            (None, None) => self.id.is_some() && id(self) == other.id.map(|id| id.get().to_string()),
            _ => false,
        }
    }
}

fn is_end(step: &Step) -> bool {
    matches!(step, Step::Close { .. } | Step::Disconnect(_) | Step::Eof | Step::Exit(_))
}

/// The places of the server's requests whose recorded answer is not the refusal that they get at once where nobody answers.
fn answered(recording: &Recording) -> BTreeSet<usize> {
    // From the end on: the next answer under each id.
    let mut answers: BTreeMap<RpcId, &Line> = BTreeMap::new();
    let mut found = BTreeSet::new();
    let mut is_last = true;
    for (at, record) in recording.records.iter().enumerate().rev() {
        match &record.step {
            Step::Sent(line) => {
                is_last = false;
                if let Ok(Envelope { message: Message::Success { id, .. } | Message::Failure { id, .. }, .. }) =
                    Envelope::parse(&line.bytes)
                {
                    answers.insert(id, line);
                }
            }
            Step::Received(line) => {
                if let Ok(Envelope { message: Message::Request { id, method, .. }, .. }) = Envelope::parse(&line.bytes)
                {
                    let is_answered = match answers.remove(&id) {
                        Some(answer) => !is_refusal(&method, answer, recording.header.redacted),
                        // Something else was written, so a refusal would have been.
                        None => !is_last,
                    };
                    if is_answered {
                        found.insert(at);
                    }
                }
            }
            _ => {}
        }
    }
    found
}

/// Whether an answer is the one that the request gets where nobody answers.
fn is_refusal(method: &str, answer: &Line, is_redacted: bool) -> bool {
    #[derive(Deserialize, Default, PartialEq)]
    struct Answer {
        result: Option<Value>,
        error: Option<Failure>,
    }
    #[derive(Deserialize, PartialEq)]
    struct Failure {
        code: i64,
        message: String,
    }
    let refusal = match refusals::refusal(method) {
        refusals::Refusal::Error(RpcError { code, message, .. }) => {
            serde_json::json!({ "error": { "code": code, "message": message } }).to_string()
        }
        refusals::Refusal::Result(result) => alloc::format!("{{\"result\":{result}}}"),
        // Told by whoever is there.
        refusals::Refusal::Time => return true,
    };
    let mut refusal = Line::new(refusal.as_bytes());
    if is_redacted {
        refusal = Redactor::default().line(&refusal);
    }
    let read = |line: &Line| serde_json::from_slice::<Answer>(&line.bytes).unwrap_or_default();
    read(answer) == read(&refusal)
}

/// The thread that a `thread/start` or the like has brought.
fn thread_in_result(line: &[u8]) -> Option<ThreadId> {
    #[derive(Deserialize)]
    struct Answer {
        result: Started,
    }
    #[derive(Deserialize)]
    struct Started {
        thread: Named,
    }
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let answer: Answer = serde_json::from_slice(line).ok()?;
    Some(ThreadId::from(answer.result.thread.id.as_str()))
}

/// What is in a line that is an `initialize`.
fn opening(line: &Line) -> Option<Opening> {
    let said: Said<'_> = serde_json::from_slice(&line.bytes).ok()?;
    (said.method.as_deref() == Some("initialize")).then(|| serde_json::from_slice(&line.bytes).unwrap_or_default())
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Opening {
    params: Params,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Params {
    client_info: Client,
    capabilities: Option<Capabilities>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Client {
    name: String,
    title: Option<String>,
    version: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Capabilities {
    experimental_api: bool,
    opt_out_notification_methods: Option<Vec<String>>,
}

/// The configuration of the client that was recorded, as far as it shows.
fn config_of(recording: &Recording) -> Config {
    let mut config = Config::default();
    let header = &recording.header;
    let has_exit = || recording.records.iter().any(|record| matches!(record.step, Step::Exit(_)));
    config.expects_exit = header.process.unwrap_or_else(has_exit);
    config.strict = header.strict;
    if let Some(timeouts) = &header.timeouts {
        config.timeouts = timeouts.clone();
    }
    // What was sent was sent; how it had to wait shows in when.
    config.limits.max_in_flight = usize::MAX;
    config.limits.merge_after = None;
    let heads = recording.records.iter().filter_map(|record| match &record.step {
        Step::Received(Line { part: Part::Head(length), .. }) => usize::try_from((*length).min(MAX_AGAIN)).ok(),
        _ => None,
    });
    if let Some(shortest) = heads.min() {
        config.limits.max_line = shortest.saturating_sub(1);
    }
    let opening = recording.records.iter().find_map(|record| match &record.step {
        Step::Sent(line) => opening(line),
        _ => None,
    });
    if let Some(Opening { params: Params { client_info, capabilities } }) = opening {
        config.client_name = client_info.name;
        config.client_title = client_info.title;
        config.client_version = client_info.version;
        let capabilities = capabilities.unwrap_or_default();
        config.experimental_api = capabilities.experimental_api;
        config.opt_out_notifications = capabilities.opt_out_notification_methods.unwrap_or_default();
    }
    config
}

/// The id of an answer, as it is known of the request.
fn parse_id(id: &RawValue) -> Option<RpcId> {
    let line = alloc::format!("{{\"id\":{},\"result\":null}}", id.get());
    match Envelope::parse(line.as_bytes()) {
        Ok(Envelope { message: Message::Success { id, .. }, .. }) => Some(id),
        _ => None,
    }
}
