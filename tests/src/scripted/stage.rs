//! What tracks and brain share: the virtual clock, the agenda, the two output queues, the ids.
//!
//! Output is queued in the order in which it came to be, and large output only as its recipe, so that neither the number
//! nor the moment of polls changes what is written. Never reads a clock.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use serde_json::Value;

use super::script::Script;
use super::server::State;
use super::template::{self, Scope, UnknownName};
use super::wire;

/// About how many bytes one poll hands out. A poll gives more only if one piece is larger.
const CHUNK: usize = 64 * 1024;

/// Who wants to go on at some moment.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Task {
    Track(u64),
    Turn(u64),
}

/// A place in the agenda: when, and which of those at that moment.
pub(crate) type Slot = (Duration, u64);

/// A piece of output.
enum Segment {
    Bytes(Vec<u8>),
    /// The end of stdout, or of the server.
    End(State),
    Fill {
        unit: Vec<u8>,
        left: u64,
    },
    Flood {
        count: u64,
        written: u64,
        method: String,
        params: Value,
        emitted_at_ms: Option<u64>,
    },
    /// Numbered log lines.
    Log {
        left: u64,
        line: u64,
    },
}

/// One of stdout and stderr.
#[derive(Default)]
struct Outlet(VecDeque<Segment>);

impl Outlet {
    fn push_bytes(&mut self, bytes: &[u8]) {
        match self.0.back_mut() {
            Some(Segment::Bytes(last)) if last.len() < CHUNK => last.extend_from_slice(bytes),
            _ => self.0.push_back(Segment::Bytes(bytes.to_vec())),
        }
    }

    /// Moves about [`CHUNK`] bytes to `out`. Says so when it comes upon an end.
    fn pull(&mut self, out: &mut Vec<u8>) -> Option<State> {
        let enough = out.len() + CHUNK;
        while out.len() < enough {
            match self.0.front_mut()? {
                Segment::Bytes(bytes) => {
                    out.append(bytes);
                    self.0.pop_front();
                }
                Segment::End(state) => {
                    let state = *state;
                    self.0.pop_front();
                    return Some(state);
                }
                Segment::Fill { left: 0, .. } | Segment::Log { left: 0, .. } => {
                    self.0.pop_front();
                }
                Segment::Fill { unit, left } => {
                    out.extend_from_slice(unit);
                    *left -= 1;
                }
                Segment::Flood { count, written, .. } if count == written => {
                    self.0.pop_front();
                }
                Segment::Flood { written, method, params, emitted_at_ms, .. } => {
                    *written += 1;
                    let params = template::render(params, &mut Numbered(*written));
                    out.extend_from_slice(wire::notification(method, &params, *emitted_at_ms).as_bytes());
                }
                Segment::Log { left, line } => {
                    *line += 1;
                    let text = format!("WARN turnwire-scripted-server: line {line} of a flood of log lines\n");
                    let cut = usize::try_from(*left).map_or(text.len(), |left| left.min(text.len()));
                    out.extend(text.bytes().take(cut));
                    *left -= cut as u64;
                }
            }
        }
        None
    }
}

/// The one variable that is still open when a flood is queued.
struct Numbered(u64);

impl Scope for Numbered {
    fn value(&mut self, name: &str, _path: &str) -> Result<Option<Value>, UnknownName> {
        if name == "n" { Ok(Some(Value::from(self.0))) } else { Err(UnknownName) }
    }
}

/// See the module.
pub(crate) struct Stage {
    pub(crate) script: Script,
    /// Never goes back.
    pub(crate) clock: Duration,
    /// The latest ids of the whole server, for `$thread` and `$turn`.
    pub(crate) latest_thread: Option<String>,
    pub(crate) latest_turn: Option<String>,
    agenda: BTreeMap<Slot, Task>,
    next_place: u64,
    next_id: u64,
    next_number: u64,
    stdout: Outlet,
    stderr: Outlet,
    /// Stdout has its end queued, and takes no more.
    stdout_ended: bool,
    /// The end of the server is queued: nothing happens any more.
    ending: bool,
}

impl Stage {
    pub(crate) fn new(script: Script) -> Self {
        Self {
            script,
            clock: Duration::ZERO,
            latest_thread: None,
            latest_turn: None,
            agenda: BTreeMap::new(),
            next_place: 0,
            next_id: 0,
            next_number: 0,
            stdout: Outlet::default(),
            stderr: Outlet::default(),
            stdout_ended: false,
            ending: false,
        }
    }

    // The agenda.

    pub(crate) fn schedule(&mut self, delay_ms: u64, task: Task) -> Slot {
        let slot = (self.clock.saturating_add(Duration::from_millis(delay_ms)), self.next_place);
        self.next_place += 1;
        self.agenda.insert(slot, task);
        slot
    }

    pub(crate) fn cancel(&mut self, slot: Slot) {
        self.agenda.remove(&slot);
    }

    pub(crate) fn next_due(&self) -> Option<Duration> {
        self.agenda.first_key_value().map(|((due, _), _)| *due)
    }

    pub(crate) fn pop_task(&mut self) -> Option<Task> {
        self.agenda.pop_first().map(|(_, task)| task)
    }

    // Output.

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if !self.stdout_ended {
            self.stdout.push_bytes(bytes);
        }
    }

    pub(crate) fn fill(&mut self, text: &str, count: u64) {
        if text.is_empty() {
            return;
        }
        // Units of a decent size, so that a fill of single characters is not made one by one.
        let per_unit = (1024 / text.len()).max(1);
        let rest = usize::try_from(count % per_unit as u64).unwrap_or(0);
        if !self.stdout_ended {
            let unit = text.repeat(per_unit).into_bytes();
            self.stdout.0.push_back(Segment::Fill { unit, left: count / per_unit as u64 });
        }
        self.write(text.repeat(rest).as_bytes());
    }

    pub(crate) fn flood(&mut self, count: u64, method: String, params: Value) {
        let emitted_at_ms = self.emitted_at_ms();
        if !self.stdout_ended {
            self.stdout.0.push_back(Segment::Flood { count, written: 0, method, params, emitted_at_ms });
        }
    }

    pub(crate) fn notify(&mut self, method: &str, params: &Value) {
        let line = wire::notification(method, params, self.emitted_at_ms());
        self.write(line.as_bytes());
    }

    pub(crate) fn respond(&mut self, id: &Value, result: &Value) {
        self.write(wire::response(id, result).as_bytes());
    }

    pub(crate) fn refuse(&mut self, id: &Value, code: i64, message: &str, data: Option<&Value>) {
        self.write(wire::error_response(id, code, message, data).as_bytes());
    }

    pub(crate) fn write_stderr(&mut self, bytes: &[u8]) {
        if !self.ending {
            self.stderr.push_bytes(bytes);
        }
    }

    pub(crate) fn flood_stderr(&mut self, bytes: u64) {
        if !self.ending {
            self.stderr.0.push_back(Segment::Log { left: bytes, line: 0 });
        }
    }

    pub(crate) fn close_stdout(&mut self) {
        if !self.stdout_ended {
            self.stdout_ended = true;
            self.stdout.0.push_back(Segment::End(State::StdoutClosed));
        }
    }

    /// Queues the end of the server.
    pub(crate) fn end(&mut self, state: State) {
        if !self.ending {
            self.ending = true;
            self.stdout_ended = true;
            self.agenda.clear();
            self.stdout.0.push_back(Segment::End(state));
        }
    }

    pub(crate) fn is_ending(&self) -> bool {
        self.ending
    }

    pub(crate) fn has_output(&self) -> bool {
        !self.stdout.0.is_empty()
    }

    pub(crate) fn pull_stdout(&mut self, out: &mut Vec<u8>) -> Option<State> {
        self.stdout.pull(out)
    }

    pub(crate) fn pull_stderr(&mut self, out: &mut Vec<u8>) {
        self.stderr.pull(out);
    }

    // Time and ids.

    /// The made up wall clock.
    pub(crate) fn unix_ms(&self) -> u64 {
        self.script.unix_start_ms.saturating_add(u64::try_from(self.clock.as_millis()).unwrap_or(u64::MAX))
    }

    pub(crate) fn unix_s(&self) -> u64 {
        self.unix_ms() / 1000
    }

    fn emitted_at_ms(&self) -> Option<u64> {
        (!self.script.is_old()).then(|| self.unix_ms())
    }

    /// A fresh id that looks like a UUIDv7 and is the same in every run.
    pub(crate) fn new_uuid(&mut self) -> String {
        self.next_id += 1;
        format!("01a20327-{:04x}-7000-8000-{:012x}", self.script.id_seed, self.next_id)
    }

    /// The next number of the running count `$n`.
    pub(crate) fn new_number(&mut self) -> u64 {
        self.next_number += 1;
        self.next_number
    }
}
