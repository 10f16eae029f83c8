//! A fake app-server that streams prepared bytes, as fast as they are taken or at a pace.
//!
//! It knows `initialize`, `thread/start` and `turn/start`, and `replay/big`, which it answers with as many `bytes` of text as
//! the params say. Once as many turns were started as its
//! [`Replay`] says, all of them stream their deltas at once, a line of each in turn; then each ends. Nothing is worked
//! out while it streams, so what is measured is the client.

use serde_json::{Value, json};
use std::{
    io::{self, BufRead, Write},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How many lines are prepared at least; they are written over and over.
const PREPARED: usize = 4096;

/// How many bytes are written at once.
const WRITE: usize = 64 * 1024;

/// What is streamed.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Replay {
    /// How many turns stream at the same time.
    pub turns: usize,
    /// How many deltas there are, all turns together.
    pub deltas: usize,
    /// How long each line of a delta is, in bytes, its end included.
    pub line: usize,
    /// One line each so often, with the time of its writing as its text. `None`: as fast as they are taken.
    pub pace: Option<Duration>,
}

impl Default for Replay {
    fn default() -> Self {
        Self { turns: 1, deltas: 10_000, line: 250, pace: None }
    }
}

impl Replay {
    /// Reads `--turns N`, `--deltas N`, `--line BYTES` and `--pace-us MICROSECONDS`; other arguments are passed over.
    ///
    /// # Errors
    /// When a number is none, or the turns are none.
    pub fn from_arguments(arguments: impl IntoIterator<Item = String>) -> Result<Self, String> {
        let mut replay = Self::default();
        let mut arguments = arguments.into_iter();
        while let Some(argument) = arguments.next() {
            let mut number = || {
                let value = arguments.next().ok_or_else(|| format!("{argument} needs a number"))?;
                value.parse::<usize>().map_err(|_| format!("{argument} {value}: no number"))
            };
            match argument.as_str() {
                "--turns" => replay.turns = number()?,
                "--deltas" => replay.deltas = number()?,
                "--line" => replay.line = number()?,
                "--pace-us" => replay.pace = Some(Duration::from_micros(number()? as u64)),
                _ => {}
            }
        }
        if replay.turns == 0 { Err("--turns 0".into()) } else { Ok(replay) }
    }

    /// The arguments that say the same.
    #[must_use]
    pub fn to_arguments(&self) -> Vec<String> {
        let mut arguments = vec![
            format!("--turns={}", self.turns),
            format!("--deltas={}", self.deltas),
            format!("--line={}", self.line),
        ];
        if let Some(pace) = self.pace {
            arguments.push(format!("--pace-us={}", pace.as_micros()));
        }
        arguments.iter().flat_map(|argument| argument.split('=')).map(String::from).collect()
    }

    /// The id of a thread.
    #[must_use]
    pub fn thread(of: usize) -> String {
        format!("01a20327-c2d1-7790-9481-{of:012x}")
    }

    /// The id of the turn on that thread.
    #[must_use]
    pub fn turn(of: usize) -> String {
        format!("01a20327-c308-7080-9b4f-{of:012x}")
    }

    /// The line of one delta, as servers write it.
    #[must_use]
    pub fn delta(of: usize, text: &str) -> String {
        let (thread, turn) = (Self::thread(of), Self::turn(of));
        format!(
            "{{\"method\":\"item/agentMessage/delta\",\"params\":{{\"threadId\":\"{thread}\",\"turnId\":\"{turn}\",\
             \"itemId\":\"msg_0d5c40e0b1a2{of:06x}\",\"delta\":\"{text}\"}},\"emittedAtMs\":1795349155000}}\n"
        )
    }

    /// How many characters of text a delta has: what is left of its line.
    #[must_use]
    pub fn text_length(&self) -> usize {
        self.line.saturating_sub(Self::delta(0, "").len()).max(1)
    }

    /// All characters of text.
    #[must_use]
    pub fn characters(&self) -> u64 {
        (self.deltas * self.text_length()) as u64
    }

    /// Lines of each turn in turn, all of one length, so that any number of them is a piece of it.
    #[must_use]
    pub fn prepare(&self) -> Vec<u8> {
        let rounds = PREPARED.div_ceil(self.turns);
        let mut bytes = Vec::with_capacity(rounds * self.turns * self.line);
        for n in 0..rounds * self.turns {
            let text: String = format!("word{n:05} and some more ").chars().cycle().take(self.text_length()).collect();
            bytes.extend_from_slice(Self::delta(n % self.turns, &text).as_bytes());
        }
        bytes
    }

    /// Serves one client until it closes its end.
    ///
    /// # Errors
    /// When reading or writing fails.
    pub fn serve(&self, input: impl BufRead, mut output: impl Write) -> io::Result<()> {
        let prepared = self.prepare();
        let mut started = 0;
        for line in input.lines() {
            let Ok(message) = serde_json::from_str::<Value>(&line?) else { continue };
            let Some(id) = message.get("id") else { continue };
            let result = match message["method"].as_str() {
                Some("initialize") => json!({"userAgent": "replay/0.163.0 (Linux) replay", "codexHome": "/h",
                    "platformFamily": "unix", "platformOs": "linux"}),
                Some("thread/start") => json!({"thread": {"id": Self::thread(started)}}),
                Some("turn/start") => {
                    started += 1;
                    // The turn is named after its thread, whatever order they come in.
                    let thread = message["params"]["threadId"].as_str().unwrap_or_default();
                    let of = thread.rsplit('-').next().and_then(|n| usize::from_str_radix(n, 16).ok()).unwrap_or(0);
                    json!({"turn": {"id": Self::turn(of), "status": "inProgress", "items": []}})
                }
                Some("replay/big") => {
                    let bytes = message["params"]["bytes"].as_u64().and_then(|bytes| usize::try_from(bytes).ok());
                    json!({"data": "x".repeat(bytes.unwrap_or(0))})
                }
                _ => json!({}),
            };
            let is_all = started == self.turns;
            writeln!(output, "{}", json!({"id": id, "result": result}))?;
            output.flush()?;
            if is_all {
                started += 1;
                self.stream(&prepared, &mut output)?;
            }
        }
        Ok(())
    }

    fn stream(&self, prepared: &[u8], output: &mut impl Write) -> io::Result<()> {
        for of in 0..self.turns {
            let (thread, id) = (Self::thread(of), Self::turn(of));
            let turn = json!({"id": id, "status": "inProgress", "items": []});
            notify(output, "turn/started", &json!({"threadId": thread, "turn": turn}))?;
        }
        output.flush()?;
        match self.pace {
            Some(pace) => self.stream_at_pace(pace, output)?,
            None => {
                let mut left = self.deltas * prepared.len() / (prepared.len() / self.line_length()).max(1);
                while left > 0 {
                    let block = &prepared[..prepared.len().min(left)];
                    for piece in block.chunks(WRITE) {
                        output.write_all(piece)?;
                    }
                    left -= block.len();
                }
            }
        }
        for of in 0..self.turns {
            let (thread, id) = (Self::thread(of), Self::turn(of));
            let item = json!({"type": "agentMessage", "id": format!("msg_0d5c40e0b1a2{of:06x}"), "text": "the end"});
            notify(output, "item/completed", &json!({"threadId": thread, "turnId": id, "item": item}))?;
            let turn = json!({"id": id, "status": "completed", "items": []});
            notify(output, "turn/completed", &json!({"threadId": thread, "turn": turn}))?;
        }
        output.flush()
    }

    fn stream_at_pace(&self, pace: Duration, output: &mut impl Write) -> io::Result<()> {
        let start = SystemTime::now();
        for n in 0..self.deltas {
            let due = start + pace * u32::try_from(n).unwrap_or(u32::MAX);
            if let Ok(wait) = due.duration_since(SystemTime::now()) {
                thread::sleep(wait);
            }
            output.write_all(Self::delta(n % self.turns, &format!("{:020}", now_nanos())).as_bytes())?;
            output.flush()?;
        }
        Ok(())
    }

    fn line_length(&self) -> usize {
        Self::delta(0, "").len() + self.text_length()
    }
}

fn notify(output: &mut impl Write, method: &str, params: &Value) -> io::Result<()> {
    let line = json!({"method": method, "params": params, "emittedAtMs": 1_795_349_155_000_u64});
    writeln!(output, "{line}")
}

/// The time of day in nanoseconds: what a paced delta says, and what its reader compares it with.
#[must_use]
pub fn now_nanos() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(0)
}
