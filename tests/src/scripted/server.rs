//! The scripted server as a machine: bytes of the client in, bytes of the server out, time as a number.
//!
//! Owns the reading of lines, the matching of rules and the tracks. What no rule matches it hands to the default brain.
//! Never reads a clock, never does I/O: the module `serve` drives it over pipes.
//!
//! # How to drive it
//!
//! Call `handle_input`, `handle_eof` and the `poll_*` methods with a time that does not go back. A poll hands out a
//! limited piece: poll again until nothing is added. `poll_timeout` says when to poll next. Cutting the input
//! differently, or polling late, does not change what is written, nor the times in it.

use std::collections::BTreeMap;
use std::fmt;
use std::mem;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::brain::Brain;
use super::script::{Rule, Script, Step, Times, Trigger};
use super::stage::{Stage, Task};
use super::template::{self, Scope, UnknownName};
use super::wire::{self, Call, Incoming};
use crate::recorded::{Misfit, misfits_of};

/// What has become of the server. It changes when [`ScriptedServer::poll_output`] has handed out everything before.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// Exited by itself.
    Exited {
        /// The exit code.
        code: i32,
    },
    /// Ended by a signal.
    Killed {
        /// The signal's number.
        signal: i32,
    },
    /// Reads and writes.
    Running,
    /// Runs, with stdout closed.
    StdoutClosed,
}

impl State {
    /// True once the server is gone.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Exited { .. } | Self::Killed { .. })
    }
}

/// One line of the client.
#[derive(Clone, Eq, PartialEq)]
pub struct Received {
    /// When the server dealt with it.
    pub at: Duration,
    /// The line without its newline; bytes that are not UTF-8 are replaced.
    pub line: String,
}

/// Lines hold prompts: their text is shown only to who asks for it.
impl fmt::Debug for Received {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Received(at {:?}, {} bytes)", self.at, self.line.len())
    }
}

/// A running rule.
struct Track {
    rule: usize,
    /// The next step.
    step: usize,
    /// The message that the track works on.
    call: Option<Call>,
    answer: Option<Value>,
    /// The number of that message among those with its trigger.
    count: u64,
    thread: Option<String>,
    turn: Option<String>,
    waiting: Waiting,
    at_eof: bool,
}

enum Waiting {
    ForAnswer(Value),
    ForMethod(String),
    ForTime,
    ToTake(String),
}

/// How much of what was said is kept, in bytes.
const MOST_SAID: usize = 16 << 20;

/// A fake `codex app-server` that plays a [`Script`].
pub struct ScriptedServer {
    stage: Stage,
    brain: Brain,
    rules: Arc<[Rule]>,
    /// Set for each rule that has matched.
    fired: Vec<bool>,
    /// How often each trigger came.
    counts: BTreeMap<String, u64>,
    tracks: BTreeMap<u64, Track>,
    next_track: u64,
    /// Input, dealt with up to `consumed`; there is no newline between `consumed` and `scanned`.
    /// `consumed <= scanned <= input.len()`.
    input: Vec<u8>,
    consumed: usize,
    scanned: usize,
    reading: bool,
    eof: Eof,
    ignore_eof: bool,
    /// The latest answer to each server request.
    answers: Vec<(Value, Value)>,
    received: Vec<Received>,
    ignored: u64,
    /// The beginning of what was written, for [`misfits`](Self::misfits). Length <= `MOST_SAID`.
    said: Vec<u8>,
    state: State,
}

#[derive(PartialEq)]
enum Eof {
    Done,
    NotYet,
    Pending,
}

impl ScriptedServer {
    /// A server at time zero.
    #[must_use]
    pub fn new(mut script: Script) -> Self {
        let rules: Arc<[Rule]> = mem::take(&mut script.rules).into();
        let mut server = Self {
            brain: Brain::new(&script),
            stage: Stage::new(script),
            fired: vec![false; rules.len()],
            rules: Arc::clone(&rules),
            counts: BTreeMap::new(),
            tracks: BTreeMap::new(),
            next_track: 0,
            input: Vec::new(),
            consumed: 0,
            scanned: 0,
            reading: true,
            eof: Eof::NotYet,
            ignore_eof: false,
            answers: Vec::new(),
            received: Vec::new(),
            ignored: 0,
            said: Vec::new(),
            state: State::Running,
        };
        for (index, rule) in rules.iter().enumerate() {
            if rule.trigger == Trigger::Start {
                server.start_track(index, None, None, 1, false);
            }
        }
        server
    }

    /// Bytes from the client.
    ///
    /// While the script does not read they are kept and dealt with at the moment when it reads again.
    pub fn handle_input(&mut self, now: Duration, bytes: &[u8]) {
        self.advance(now);
        if self.eof == Eof::NotYet && !self.stage.is_ending() {
            self.input.extend_from_slice(bytes);
            self.advance(now);
        }
    }

    /// The client has closed its output.
    pub fn handle_eof(&mut self, now: Duration) {
        self.advance(now);
        if self.eof == Eof::NotYet {
            self.eof = Eof::Pending;
            self.advance(now);
        }
    }

    /// Adds the next bytes for stdout that are due by now. Nothing added means nothing due.
    pub fn poll_output(&mut self, now: Duration, out: &mut Vec<u8>) {
        self.advance(now);
        let before = out.len();
        if let Some(end) = self.stage.pull_stdout(out) {
            self.state = end;
        }
        let said = out.get(before..).unwrap_or_default();
        let room = MOST_SAID.saturating_sub(self.said.len()).min(said.len());
        self.said.extend_from_slice(said.get(..room).unwrap_or_default());
    }

    /// All bytes for stdout that are due by now. For tests that want them at once; a flood is then all in memory.
    #[must_use]
    pub fn drain_output(&mut self, now: Duration) -> Vec<u8> {
        let mut out = Vec::new();
        loop {
            let before = out.len();
            self.poll_output(now, &mut out);
            if out.len() == before {
                return out;
            }
        }
    }

    /// Adds the next bytes for stderr that are due by now. Nothing added means nothing due.
    pub fn poll_stderr(&mut self, now: Duration, out: &mut Vec<u8>) {
        self.advance(now);
        self.stage.pull_stderr(out);
    }

    /// The next moment at which something becomes due for stdout, or at which the script goes on. It may be past.
    #[must_use]
    pub fn poll_timeout(&self) -> Option<Duration> {
        if self.stage.has_output() { Some(self.stage.clock) } else { self.stage.next_due() }
    }

    /// What has become of the server.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// False while the script does not read.
    #[must_use]
    pub fn is_reading(&self) -> bool {
        self.reading && !self.stage.is_ending()
    }

    /// All lines of the client that were dealt with, the ignored ones too, empty ones excepted.
    #[must_use]
    pub fn received(&self) -> &[Received] {
        &self.received
    }

    /// The methods of the requests and notifications received, in order.
    #[must_use]
    pub fn received_methods(&self) -> Vec<String> {
        self.received
            .iter()
            .filter_map(|received| match wire::read_line(&received.line) {
                Incoming::Notification(call) | Incoming::Request(call) => Some(call.method),
                Incoming::Answer { .. } | Incoming::Noise => None,
            })
            .collect()
    }

    /// The received line with this index as JSON.
    #[must_use]
    pub fn received_json(&self, index: usize) -> Option<Value> {
        self.received.get(index).and_then(|received| serde_json::from_str(&received.line).ok())
    }

    /// The params of all messages of this method received, in order.
    #[must_use]
    pub fn received_params(&self, method: &str) -> Vec<Value> {
        self.received
            .iter()
            .filter_map(|received| match wire::read_line(&received.line) {
                Incoming::Notification(call) | Incoming::Request(call) if call.method == method => Some(call.params),
                _ => None,
            })
            .collect()
    }

    /// The client's latest answer to the server request with this id, as the whole message.
    #[must_use]
    pub fn received_answer(&self, id: impl Into<Value>) -> Option<&Value> {
        let id = id.into();
        self.answers.iter().find(|(known, _)| *known == id).map(|(_, answer)| answer)
    }

    /// How many lines were ignored because they are no message.
    #[must_use]
    pub fn ignored(&self) -> u64 {
        self.ignored
    }

    /// What this server said that no server would say: methods that no schema has, params and results that do not fit the
    /// types. The number of a [`Misfit`] is that of the server's line. Lines that are no message, and what was said after the
    /// first 16 MiB, are passed over.
    #[must_use]
    pub fn misfits(&self) -> Vec<Misfit> {
        let client = self.received.iter().map(|received| (0, false, received.line.as_bytes()));
        let whole = self.said.iter().rposition(|byte| *byte == b'\n').unwrap_or(0);
        let server = self.said.get(..whole).unwrap_or_default().split(|byte| *byte == b'\n');
        let server = server.zip(1..).map(|(line, number)| (number, true, line));
        // What the client said is there for the methods of its requests only.
        misfits_of(client.chain(server)).into_iter().filter(|misfit| misfit.number > 0).collect()
    }

    /// How many tracks have steps left: zero at the end of a script that was played to its end.
    #[must_use]
    pub fn open_tracks(&self) -> usize {
        self.tracks.len()
    }

    /// Does everything that is due by now, in the order of time: at one moment first what waits, then what was read.
    fn advance(&mut self, now: Duration) {
        while !self.stage.is_ending() {
            let due = self.stage.next_due();
            if due.is_some_and(|due| due <= self.stage.clock) {
                self.run_task();
            } else if self.reading && self.take_line() {
            } else if let Some(due) = due.filter(|due| *due <= now) {
                self.stage.clock = due;
            } else {
                self.stage.clock = self.stage.clock.max(now);
                return;
            }
        }
    }

    fn run_task(&mut self) {
        match self.stage.pop_task() {
            Some(Task::Track(key)) => self.run_track(key),
            Some(Task::Turn(key)) => self.brain.handle_timeout(&mut self.stage, key),
            None => {}
        }
    }

    /// Deals with one line, or with the end of input. False if there is neither.
    fn take_line(&mut self) -> bool {
        let newline = self.input[self.scanned..].iter().position(|&byte| byte == b'\n');
        let line = match newline {
            Some(offset) => {
                let end = self.scanned + offset;
                let line = self.input[self.consumed..end].to_vec();
                self.consumed = end + 1;
                self.scanned = self.consumed;
                line
            }
            None => {
                self.input.drain(..self.consumed);
                self.consumed = 0;
                self.scanned = self.input.len();
                if self.eof != Eof::Pending {
                    return false;
                }
                if self.input.is_empty() {
                    return self.take_eof();
                }
                // The real server reads a last line without newline, too.
                self.scanned = 0;
                mem::take(&mut self.input)
            }
        };
        self.handle_line(line);
        true
    }

    fn take_eof(&mut self) -> bool {
        self.eof = Eof::Done;
        if self.ignore_eof {
            return true;
        }
        let rules = Arc::clone(&self.rules);
        match rules.iter().position(|rule| rule.trigger == Trigger::Eof) {
            Some(index) => {
                let key = self.start_track(index, None, None, 1, true);
                self.run_track(key);
            }
            None => self.stage.end(State::Exited { code: 0 }),
        }
        true
    }

    fn handle_line(&mut self, line: Vec<u8>) {
        let at = self.stage.clock;
        let line = match String::from_utf8(line) {
            Ok(line) => line,
            Err(error) => {
                self.received.push(Received { at, line: String::from_utf8_lossy(error.as_bytes()).into_owned() });
                self.stage.write_stderr(b"Failed reading stdin: stream did not contain valid UTF-8\n");
                self.stage.end(State::Exited { code: 0 });
                return;
            }
        };
        let line = line.strip_suffix('\r').unwrap_or(&line);
        if line.trim().is_empty() {
            return;
        }
        self.received.push(Received { at, line: line.to_owned() });
        match wire::read_line(line) {
            Incoming::Answer { id, answer } => self.handle_answer(id, answer),
            Incoming::Noise => {
                self.ignored += 1;
                let note = format!("turnwire-scripted-server: ignored a line of {} bytes: no message\n", line.len());
                self.stage.write_stderr(note.as_bytes());
            }
            Incoming::Notification(call) | Incoming::Request(call) => self.handle_call(call),
        }
    }

    fn handle_call(&mut self, call: Call) {
        let count = self.count(format!("method {}", call.method));
        let taker = self.tracks.iter().find_map(|(key, track)| match &track.waiting {
            Waiting::ToTake(method) if *method == call.method => Some(*key),
            _ => None,
        });
        let method = call.method.clone();
        if let Some(key) = taker {
            if let Some(track) = self.tracks.get_mut(&key) {
                track.call = Some(call);
                track.count = count;
                track.waiting = Waiting::ForTime;
            }
            self.run_track(key);
        } else {
            match self.matching_rule(&Trigger::Method(method.clone()), count, Some(&call.params)) {
                Some(index) => {
                    let key = self.start_track(index, Some(call), None, count, false);
                    self.run_track(key);
                }
                None => self.brain.handle_call(&mut self.stage, &call),
            }
        }
        self.wake(|waiting| matches!(waiting, Waiting::ForMethod(wanted) if *wanted == method), None);
    }

    fn handle_answer(&mut self, id: Value, answer: Value) {
        let count = self.count(format!("answer {id}"));
        match self.answers.iter_mut().find(|(known, _)| *known == id) {
            Some((_, known)) => *known = answer.clone(),
            None => self.answers.push((id.clone(), answer.clone())),
        }
        match self.matching_rule(&Trigger::Answer(id.clone()), count, None) {
            Some(index) => {
                let key = self.start_track(index, None, Some(answer.clone()), count, false);
                self.run_track(key);
            }
            None => self.brain.handle_answer(&mut self.stage, &id, &answer),
        }
        self.wake(|waiting| matches!(waiting, Waiting::ForAnswer(wanted) if *wanted == id), Some(&answer));
    }

    fn count(&mut self, trigger: String) -> u64 {
        let count = self.counts.entry(trigger).or_insert(0);
        *count += 1;
        *count
    }

    fn matching_rule(&mut self, trigger: &Trigger, count: u64, params: Option<&Value>) -> Option<usize> {
        let rules = Arc::clone(&self.rules);
        let index = rules.iter().enumerate().position(|(index, rule)| {
            let in_time = match rule.times {
                Times::Always => true,
                Times::Nth(n) => n == count,
                Times::Once => !self.fired.get(index).copied().unwrap_or(false),
            };
            let fits = rule.when.iter().all(|(path, wanted)| {
                params.and_then(|params| wire::lookup(params, path)).is_some_and(|value| value == wanted)
            });
            rule.trigger == *trigger && in_time && fits
        })?;
        if let Some(fired) = self.fired.get_mut(index) {
            *fired = true;
        }
        Some(index)
    }

    /// Makes a track that goes on at this moment of time.
    fn start_track(&mut self, rule: usize, call: Option<Call>, answer: Option<Value>, count: u64, at_eof: bool) -> u64 {
        let key = self.next_track;
        self.next_track += 1;
        let waiting = Waiting::ForTime;
        let track = Track { rule, step: 0, call, answer, count, thread: None, turn: None, waiting, at_eof };
        let at_start = track.call.is_none() && track.answer.is_none() && !at_eof;
        self.tracks.insert(key, track);
        if at_start {
            self.stage.schedule(0, Task::Track(key));
        }
        key
    }

    /// Lets the tracks that wait for something go on, once what brought it is dealt with.
    fn wake(&mut self, wanted: impl Fn(&Waiting) -> bool, answer: Option<&Value>) {
        if self.stage.is_ending() {
            return;
        }
        for (key, track) in &mut self.tracks {
            if wanted(&track.waiting) {
                track.waiting = Waiting::ForTime;
                if let Some(answer) = answer {
                    track.answer = Some(answer.clone());
                }
                self.stage.schedule(0, Task::Track(*key));
            }
        }
    }

    /// Runs a track up to its next wait.
    fn run_track(&mut self, key: u64) {
        let Some(mut track) = self.tracks.remove(&key) else { return };
        let rules = Arc::clone(&self.rules);
        let steps = rules.get(track.rule).map_or(&[][..], |rule| &rule.steps);
        while let Some(step) = steps.get(track.step) {
            track.step += 1;
            if let Some(waiting) = self.run_step(key, &mut track, step) {
                track.waiting = waiting;
                self.tracks.insert(key, track);
                return;
            }
            if self.stage.is_ending() {
                self.tracks.clear();
                return;
            }
        }
        if track.at_eof && !self.ignore_eof {
            self.stage.end(State::Exited { code: 0 });
        }
    }

    /// Does one step. Says so if the track has to wait.
    fn run_step(&mut self, key: u64, track: &mut Track, step: &Step) -> Option<Waiting> {
        match step {
            Step::Ask { method, id, params } => {
                self.answers.retain(|(known, _)| known != id);
                let params = self.render(track, params);
                self.stage.write(wire::request(method, id, &params).as_bytes());
            }
            Step::CloseStdout => self.stage.close_stdout(),
            Step::Default => match &track.call {
                Some(call) => self.brain.handle_call(&mut self.stage, call),
                None if track.at_eof => self.stage.end(State::Exited { code: 0 }),
                None => {}
            },
            Step::Delay(ms) => {
                self.stage.schedule(*ms, Task::Track(key));
                return Some(Waiting::ForTime);
            }
            Step::Die(signal) => self.stage.end(State::Killed { signal: *signal }),
            Step::ErrorToId { id, error } => self.refuse(track, id, error),
            Step::Exit(code) => self.stage.end(State::Exited { code: *code }),
            Step::ExpectAnswer(id) => match self.answers.iter().find(|(known, _)| known == id) {
                Some((_, answer)) => track.answer = Some(answer.clone()),
                None => return Some(Waiting::ForAnswer(id.clone())),
            },
            Step::Fill { text, count } => self.stage.fill(text, *count),
            Step::Flood { count, method, params } => {
                let mut scope = TrackScope { track, stage: &mut self.stage, number: None, open_number: true };
                let params = template::render(params, &mut scope);
                self.stage.flood(*count, method.clone(), params);
            }
            Step::IgnoreEof => self.ignore_eof = true,
            Step::IgnoreTerm => {}
            Step::Notify { method, params } => {
                let mut scope = TrackScope::new(track, &mut self.stage);
                let method = template::render_text(method, &mut scope);
                let params = template::render(params, &mut scope);
                self.stage.notify(&method, &params);
            }
            Step::Raw(bytes) => self.stage.write(&bytes.0),
            Step::RawLine(bytes) => {
                self.stage.write(&bytes.0);
                self.stage.write(b"\n");
            }
            Step::Reply(result) => {
                let result = self.render(track, result);
                if let Some(call) = track.call.as_ref().filter(|call| !call.id.is_null()) {
                    self.stage.respond(&call.id, &result);
                    self.brain.handle_scripted_reply(call);
                }
            }
            Step::ReplyError(error) => {
                if let Some(id) = track.call.as_ref().map(|call| call.id.clone()).filter(|id| !id.is_null()) {
                    self.refuse(track, &id, error);
                }
            }
            Step::ReplyToId { id, result } => {
                let id = self.render(track, id);
                let result = self.render(track, result);
                self.stage.respond(&id, &result);
            }
            Step::ResumeReading => self.reading = true,
            Step::Send(message) => {
                let message = self.render(track, message);
                self.stage.write(format!("{message}\n").as_bytes());
            }
            Step::Stderr(bytes) => self.stage.write_stderr(&bytes.0),
            Step::StderrFlood(bytes) => self.stage.flood_stderr(*bytes),
            Step::StopReading => self.reading = false,
            Step::Take(method) => return Some(Waiting::ToTake(method.clone())),
            Step::WaitFor(method) => return Some(Waiting::ForMethod(method.clone())),
        }
        None
    }

    fn refuse(&mut self, track: &mut Track, id: &Value, error: &super::script::ErrorBody) {
        let id = self.render(track, id);
        let mut scope = TrackScope::new(track, &mut self.stage);
        let message = template::render_text(&error.message, &mut scope);
        let data = error.data.as_ref().map(|data| template::render(data, &mut scope));
        self.stage.refuse(&id, error.code, &message, data.as_ref());
    }

    fn render(&mut self, track: &mut Track, template: &Value) -> Value {
        template::render(template, &mut TrackScope::new(track, &mut self.stage))
    }
}

/// The variables of one message of a track.
struct TrackScope<'a> {
    track: &'a mut Track,
    stage: &'a mut Stage,
    /// `$n` is the same everywhere in one message.
    number: Option<u64>,
    /// Leave `$n` as it is.
    open_number: bool,
}

impl<'a> TrackScope<'a> {
    fn new(track: &'a mut Track, stage: &'a mut Stage) -> Self {
        Self { track, stage, number: None, open_number: false }
    }

    fn param(&self, name: &str) -> Option<String> {
        let params = &self.track.call.as_ref()?.params;
        params.get(name).and_then(Value::as_str).filter(|text| !text.is_empty()).map(str::to_owned)
    }
}

impl Scope for TrackScope<'_> {
    fn value(&mut self, name: &str, path: &str) -> Result<Option<Value>, UnknownName> {
        let call = self.track.call.as_ref();
        let whole = match name {
            "answer" => self.track.answer.clone(),
            "count" => Some(Value::from(self.track.count)),
            "id" => call.map(|call| call.id.clone()),
            "method" => call.map(|call| Value::from(call.method.as_str())),
            "n" if self.open_number => return Err(UnknownName),
            "n" => Some(Value::from(*self.number.get_or_insert_with(|| self.stage.new_number()))),
            "new_id" => Some(Value::from(self.stage.new_uuid())),
            "new_thread" => {
                let id = self.stage.new_uuid();
                self.stage.latest_thread = Some(id.clone());
                self.track.thread = Some(id.clone());
                Some(Value::from(id))
            }
            "new_turn" => {
                let id = self.stage.new_uuid();
                self.stage.latest_turn = Some(id.clone());
                self.track.turn = Some(id.clone());
                Some(Value::from(id))
            }
            "now" => Some(Value::from(self.stage.unix_s())),
            "now_ms" => Some(Value::from(self.stage.unix_ms())),
            "params" => call.map(|call| call.params.clone()),
            "thread" => {
                let own = self.track.thread.clone().or_else(|| self.param("threadId"));
                own.or_else(|| self.stage.latest_thread.clone()).map(Value::from)
            }
            "turn" => {
                let own = self.track.turn.clone().or_else(|| self.param("turnId"));
                let own = own.or_else(|| self.param("expectedTurnId"));
                own.or_else(|| self.stage.latest_turn.clone()).map(Value::from)
            }
            "version" => Some(Value::from(self.stage.script.version.as_str())),
            _ => return Err(UnknownName),
        };
        Ok(whole.and_then(|whole| wire::lookup(&whole, path).cloned()))
    }
}
