//! The recorded server as a machine: bytes in, bytes out, no clock.

use serde_json::Value;
use std::{
    collections::{BTreeMap, VecDeque},
    fmt,
};
use turnwire_core::{
    frame::{Frame, Framer},
    record::{Difference, Divergence, Line, Part, Recording, Sameness, Step, difference, with_id},
};

/// What has become of the server.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
#[non_exhaustive]
pub enum State {
    /// It ended as was recorded, or because its input did.
    Exited {
        /// The exit code; 0 where none was recorded.
        code: i32,
    },
    /// It reads and writes.
    Running,
    /// It runs, and has closed its output.
    StdoutClosed,
}

enum Play {
    /// The client sends this.
    Expect {
        number: u64,
        line: Line,
    },
    /// The client ends the server's input.
    ExpectEnd,
    Say(Line),
    CloseStdout,
    Exit(i32),
}

/// See [the module](super).
pub struct RecordedServer {
    /// What is still to come, in its order. What the client has sent ahead of it is taken out.
    plays: VecDeque<Play>,
    sameness: Sameness,
    framer: Framer,
    /// The ids of the program's requests, by the recorded ones; both as JSON.
    ids: BTreeMap<String, String>,
    out: Vec<u8>,
    /// What the next poll hands out before `out`: refusals.
    state: State,
    at_end: bool,
    number: u64,
    divergences: Vec<Divergence>,
}

impl fmt::Debug for RecordedServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordedServer")
            .field("left", &self.plays.len())
            .field("state", &self.state)
            .field("divergences", &self.divergences)
            .finish_non_exhaustive()
    }
}

impl RecordedServer {
    /// A server that plays this recording.
    #[must_use]
    pub fn new(recording: &Recording) -> Self {
        let play = |record: &turnwire_core::record::Record| match &record.step {
            Step::Sent(line) => Some(Play::Expect { number: record.number, line: line.clone() }),
            Step::Received(line) => Some(Play::Say(line.clone())),
            Step::Close { .. } => Some(Play::ExpectEnd),
            Step::Eof => Some(Play::CloseStdout),
            Step::Exit(report) => Some(Play::Exit(
                report.status.and_then(|status| status.code.or(status.signal.map(|n| 128 + n))).unwrap_or(0),
            )),
            _ => None,
        };
        let mut server = Self {
            plays: recording.records.iter().filter_map(play).collect(),
            sameness: if recording.header.redacted { Sameness::Shape } else { Sameness::Value },
            framer: Framer::new(usize::MAX),
            ids: BTreeMap::new(),
            out: Vec::new(),
            state: State::Running,
            at_end: false,
            number: 0,
            divergences: Vec::new(),
        };
        server.play();
        server
    }

    /// Takes bytes that the program wrote, cut anywhere.
    pub fn handle_input(&mut self, mut bytes: &[u8]) {
        let mut framer = std::mem::replace(&mut self.framer, Framer::new(0));
        while let Some(frame) = framer.next_frame(&mut bytes) {
            if let Frame::Line(line) = frame {
                self.handle_line(line);
            }
        }
        self.framer = framer;
    }

    /// Takes the end of the program's output. What was recorded and did not come is a divergence each.
    pub fn handle_eof(&mut self) {
        if std::mem::replace(&mut self.at_end, true) {
            return;
        }
        self.play();
        let missing = self.plays.iter().filter_map(|play| match play {
            Play::Expect { number, line } => Some(Divergence::new(*number, Some(&line.bytes), None, "")),
            _ => None,
        });
        self.divergences.extend(missing);
        let exit = self.plays.iter().find_map(|play| match play {
            Play::Exit(code) => Some(*code),
            _ => None,
        });
        if !matches!(self.state, State::Exited { .. }) {
            self.state = State::Exited { code: exit.unwrap_or(0) };
        }
        self.plays.clear();
    }

    /// Appends what the server writes now.
    pub fn poll_output(&mut self, out: &mut Vec<u8>) {
        out.append(&mut self.out);
    }

    /// What has become of it.
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether all that was recorded has happened.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.plays.is_empty()
    }

    /// Where the program said other than was recorded, so far.
    #[must_use]
    pub fn divergences(&self) -> &[Divergence] {
        &self.divergences
    }

    fn handle_line(&mut self, line: &[u8]) {
        if matches!(self.state, State::Exited { .. }) {
            return;
        }
        let said = Said::of(line);
        let found = self.find(line, &said);
        let Some(Play::Expect { number, line: expected }) = found.and_then(|at| self.plays.remove(at)) else {
            self.divergences.push(Divergence::new(self.number, None, Some(line), ""));
            if let Said { method: Some(_), id: Some(id) } = &said {
                self.out.extend_from_slice(
                    format!(
                        "{{\"id\":{id},\"error\":{{\"code\":-32603,\"message\":\"this is not in the recording\"}}}}\n"
                    )
                    .as_bytes(),
                );
            }
            return;
        };
        self.number = self.number.max(number);
        if let Difference::At(path) = difference(&expected.bytes, line, self.sameness) {
            // The time of day is another one every day.
            if path != "/result/currentTimeAt" {
                self.divergences.push(Divergence::new(number, Some(&expected.bytes), Some(line), path));
            }
        }
        if let (Some(recorded), Said { method: Some(_), id: Some(id) }) = (Said::of(&expected.bytes).id, said) {
            self.ids.insert(recorded, id);
        }
        self.play();
    }

    /// Which of the expected lines this is: of those of its kind one that is the same, or else the first.
    fn find(&self, line: &[u8], said: &Said) -> Option<usize> {
        let mut like = self.plays.iter().enumerate().filter_map(|(at, play)| match play {
            Play::Expect { line, .. } if Said::of(&line.bytes).is_like(said) => Some((at, line)),
            _ => None,
        });
        let first = like.next()?;
        let is_same =
            |(_, expected): &(usize, &Line)| difference(&expected.bytes, line, self.sameness) == Difference::None;
        if is_same(&first) {
            return Some(first.0);
        }
        Some(like.find(is_same).unwrap_or(first).0)
    }

    /// Does what can be done before the client says more.
    fn play(&mut self) {
        loop {
            match self.plays.front() {
                None | Some(Play::Expect { .. }) => return,
                Some(Play::ExpectEnd) if !self.at_end => return,
                Some(_) => {}
            }
            match self.plays.pop_front() {
                Some(Play::Say(line)) => self.say(&line),
                Some(Play::CloseStdout) => self.state = State::StdoutClosed,
                Some(Play::Exit(code)) => {
                    self.state = State::Exited { code };
                    return;
                }
                _ => {}
            }
        }
    }

    fn say(&mut self, line: &Line) {
        if self.state != State::Running {
            return;
        }
        let said = Said::of(&line.bytes);
        let own = said.id.filter(|_| said.method.is_none()).and_then(|id| self.ids.get(&id));
        let rewritten = own.and_then(|own| with_id(&line.bytes, own));
        self.out.extend_from_slice(rewritten.as_deref().unwrap_or(&line.bytes));
        if let Part::Head(length) = line.part {
            // What was too long to be kept is too long again.
            let missing = usize::try_from(length.min(1 << 28)).unwrap_or(0).saturating_sub(line.bytes.len());
            self.out.resize(self.out.len() + missing, b' ');
        }
        if line.part != Part::Cut {
            self.out.push(b'\n');
        }
    }
}

/// What a line is.
struct Said {
    method: Option<String>,
    /// As JSON.
    id: Option<String>,
}

impl Said {
    fn of(line: &[u8]) -> Self {
        let value: Value = serde_json::from_slice(line).unwrap_or_default();
        Self {
            method: value.get("method").and_then(Value::as_str).map(str::to_owned),
            id: value.get("id").map(Value::to_string),
        }
    }

    fn is_like(&self, other: &Self) -> bool {
        match (&self.method, &other.method) {
            (Some(own), Some(others)) => own == others && self.id.is_some() == other.id.is_some(),
            (None, None) => self.id.is_some() && self.id == other.id,
            _ => false,
        }
    }
}
