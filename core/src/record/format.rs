//! Recordings as files.

use super::{Line, Part, Record, Redactor, Step, Text};
use crate::{
    connection::{Config, Timeouts},
    error::DisconnectReason,
    launch::{ExitReport, ExitStatus, Forced},
    time::Time,
};
use alloc::{
    borrow::Cow,
    boxed::Box,
    string::{String, ToString},
    vec::Vec,
};
use core::{fmt, time::Duration};
use serde::{Deserialize, Serialize};

/// The version of the format that is written, and the newest that is read.
pub const FORMAT: u32 = 1;

/// What a file says of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Header {
    /// The version of the format; 0 for files without a header.
    pub format: u32,
    /// The version of turnwire that wrote it; empty when it was another program.
    pub turnwire: String,
    /// Whether it was redacted when it was written.
    pub redacted: bool,
    /// Whether the connection knew of a process whose end was to come.
    pub process: Option<bool>,
    /// Whether the connection was strict; see [`Config::strict`](crate::connection::Config::strict).
    pub strict: bool,
    /// The bounds of time that the connection had.
    pub timeouts: Option<Timeouts>,
}

impl Header {
    /// The header of what is written now.
    #[must_use]
    pub fn new(redacted: bool) -> Self {
        Self { format: FORMAT, turnwire: env!("CARGO_PKG_VERSION").into(), redacted, ..Self::none() }
    }

    /// The header of what a connection with this configuration writes now.
    #[must_use]
    pub fn of(config: &Config, redacted: bool) -> Self {
        Self {
            process: Some(config.expects_exit),
            strict: config.strict,
            timeouts: Some(config.timeouts.clone()),
            ..Self::new(redacted)
        }
    }

    /// What stands for the header of a file that has none.
    fn none() -> Self {
        Self { format: 0, turnwire: String::new(), redacted: false, process: None, strict: false, timeouts: None }
    }

    /// The header as a line, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let row = HeaderRow {
            recording: "turnwire".into(),
            format: self.format,
            turnwire: self.turnwire.as_str().into(),
            redacted: self.redacted,
            process: self.process,
            strict: self.strict,
            timeouts_ns: self.timeouts.as_ref().map(TimeoutsRow::of),
        };
        serde_json::to_string(&row).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize)]
struct HeaderRow<'a> {
    #[serde(borrow)]
    recording: Cow<'a, str>,
    format: u32,
    #[serde(borrow, default)]
    turnwire: Cow<'a, str>,
    /// What does not say so is not known to be harmless.
    #[serde(default)]
    redacted: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    process: Option<bool>,
    #[serde(default)]
    strict: bool,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    timeouts_ns: Option<TimeoutsRow>,
}

/// As much of a header as every format has.
#[derive(Deserialize)]
struct NewerRow<'a> {
    #[serde(borrow, rename = "recording")]
    _recording: Cow<'a, str>,
    format: u32,
}

impl HeaderRow<'_> {
    fn into_header(self) -> Header {
        Header {
            format: self.format,
            turnwire: self.turnwire.into_owned(),
            redacted: self.redacted,
            process: self.process,
            strict: self.strict,
            timeouts: self.timeouts_ns.map(|row| row.timeouts()),
        }
    }
}

/// Every one is optional, so that a file of a turnwire that has fewer or more can be read.
#[derive(Serialize, Deserialize)]
struct TimeoutsRow {
    initialize: Option<u64>,
    call: Option<u64>,
    reply: Option<u64>,
    idle: Option<u64>,
    interrupt: Option<u64>,
    close: Option<u64>,
    drain: Option<u64>,
}

impl TimeoutsRow {
    fn of(timeouts: &Timeouts) -> Self {
        Self {
            initialize: Some(in_nanos(timeouts.initialize)),
            call: Some(in_nanos(timeouts.call)),
            reply: Some(in_nanos(timeouts.reply)),
            idle: Some(in_nanos(timeouts.idle)),
            interrupt: Some(in_nanos(timeouts.interrupt)),
            close: Some(in_nanos(timeouts.close)),
            drain: Some(in_nanos(timeouts.drain)),
        }
    }

    fn timeouts(&self) -> Timeouts {
        let mut timeouts = Timeouts::default();
        let set = |to: &mut Duration, nanos: Option<u64>| *to = nanos.map_or(*to, Duration::from_nanos);
        set(&mut timeouts.initialize, self.initialize);
        set(&mut timeouts.call, self.call);
        set(&mut timeouts.reply, self.reply);
        set(&mut timeouts.idle, self.idle);
        set(&mut timeouts.interrupt, self.interrupt);
        set(&mut timeouts.close, self.close);
        set(&mut timeouts.drain, self.drain);
        timeouts
    }
}

/// Why a text is no recording.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormatError {
    /// It begins with a header of a format that is newer than this program.
    Newer {
        /// That format.
        format: u32,
    },
    /// The line of this number, from 1 on, is no record.
    NoRecord {
        /// Which line of the text.
        line: usize,
        /// What is wrong, without what it says.
        problem: Box<str>,
    },
}

impl fmt::Display for FormatError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Newer { format } => write!(f, "the recording has format {format}, and this program knows {FORMAT}"),
            Self::NoRecord { line, problem } => write!(f, "line {line} of the recording is no record: {problem}"),
        }
    }
}

impl core::error::Error for FormatError {}

/// What was recorded of one connection.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recording {
    /// What the file said of itself.
    pub header: Header,
    /// The records, in their order.
    pub records: Vec<Record>,
}

impl Recording {
    /// A recording of what a tap gave.
    #[must_use]
    pub fn new(records: impl IntoIterator<Item = Record>) -> Self {
        Self { header: Header::new(false), records: records.into_iter().collect() }
    }

    /// Reads the first recording of a text.
    ///
    /// # Errors
    /// When the text is none, or of a newer format. An incomplete last line, as a program leaves it that was killed, is
    /// passed over.
    pub fn parse(text: &str) -> Result<Self, FormatError> {
        let empty = || Self { header: Header::none(), records: Vec::new() };
        Ok(Self::parse_all(text)?.into_iter().next().unwrap_or_else(empty))
    }

    /// Reads the first recording of a file. Unlike a text, it may end within a character, as a program leaves it that was
    /// killed.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse), and when a line before the last is not UTF-8.
    pub fn parse_bytes(bytes: &[u8]) -> Result<Self, FormatError> {
        let error = match core::str::from_utf8(bytes) {
            Ok(text) => return Self::parse(text),
            Err(error) => error,
        };
        let (before, after) = bytes.split_at_checked(error.valid_up_to()).unwrap_or((bytes, &[]));
        if after.contains(&b'\n') {
            let line = before.iter().filter(|byte| **byte == b'\n').count() + 1;
            return Err(FormatError::NoRecord { line, problem: "it is not UTF-8".into() });
        }
        Self::parse(core::str::from_utf8(before).unwrap_or_default())
    }

    /// Reads every recording of a text: one for each connection that wrote to it.
    ///
    /// # Errors
    /// As for [`parse`](Self::parse).
    pub fn parse_all(text: &str) -> Result<Vec<Self>, FormatError> {
        let mut found: Vec<Self> = Vec::new();
        let mut lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()).peekable();
        while let Some((at, line)) = lines.next() {
            let is_last = lines.peek().is_none() && !text.ends_with('\n');
            if let Ok(NewerRow { format, .. }) = serde_json::from_str(line) {
                if format > FORMAT {
                    return Err(FormatError::Newer { format });
                }
            }
            if let Ok(row) = serde_json::from_str::<HeaderRow<'_>>(line) {
                found.push(Self { header: row.into_header(), records: Vec::new() });
                continue;
            }
            let row = match serde_json::from_str::<Row<'_>>(line) {
                Ok(row) => row,
                Err(_) if is_last => break,
                Err(error) => {
                    let problem = alloc::format!("{:?} error in column {}", error.classify(), error.column());
                    return Err(FormatError::NoRecord { line: at + 1, problem: problem.into() });
                }
            };
            if found.is_empty() {
                found.push(Self { header: Header::none(), records: Vec::new() });
            }
            let Some(recording) = found.last_mut() else { continue };
            let number =
                row.n.unwrap_or_else(|| recording.records.last().map_or(1, |last| last.number.saturating_add(1)));
            let at_ns = row.t_ns.unwrap_or_else(|| row.t_ms.map_or(0, nanos));
            let step = row.step().map_err(|problem| FormatError::NoRecord { line: at + 1, problem: problem.into() })?;
            recording.records.push(Record::new(number, Time::from_nanos(at_ns), step));
        }
        Ok(found)
    }

    /// The recording as a file.
    #[must_use]
    pub fn to_text(&self) -> String {
        let mut text = self.header.to_line();
        text.push('\n');
        for record in &self.records {
            text.push_str(&record.to_line());
            text.push('\n');
        }
        text
    }

    /// The same, with whatever is not known to be harmless taken out.
    #[must_use]
    pub fn redacted(&self, redactor: &Redactor) -> Self {
        let header = Header { redacted: true, ..self.header.clone() };
        Self { header, records: self.records.iter().map(|record| redactor.record(record)).collect() }
    }

    /// The server's version, from its answer to `initialize`.
    #[must_use]
    pub fn server_version(&self) -> Option<String> {
        #[derive(Deserialize)]
        struct Answer {
            result: Server,
        }
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Server {
            user_agent: String,
        }
        self.records.iter().find_map(|record| {
            let Step::Received(line) = &record.step else { return None };
            let answer: Answer = serde_json::from_slice(&line.bytes).ok()?;
            let (_, rest) = answer.result.user_agent.split_once('/')?;
            Some(rest.split(' ').next().unwrap_or(rest).to_string())
        })
    }
}

fn nanos(millis: f64) -> u64 {
    Duration::try_from_secs_f64(millis / 1000.0)
        .map_or(0, |duration| u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX))
}

fn in_nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Record {
    /// The record as a line of a file, without its end.
    #[must_use]
    pub fn to_line(&self) -> String {
        let row = Row { n: Some(self.number), t_ns: Some(self.at.as_nanos()), ..Row::of(&self.step) };
        serde_json::to_string(&row).unwrap_or_default()
    }
}

#[derive(Serialize, Deserialize, Default)]
#[serde(default)]
struct Row<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    n: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    t_ms: Option<f64>,
    #[serde(borrow)]
    dir: Cow<'a, str>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    note: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cut: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oversized: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    request: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    within_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    records: Option<u64>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    code: Option<i32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signal: Option<i32>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    forced: Option<Cow<'a, str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    elapsed_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    closing_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    swept: Option<bool>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    text: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    line: Option<Cow<'a, str>>,
    #[serde(borrow, skip_serializing_if = "Option::is_none")]
    hex: Option<Cow<'a, str>>,
}

impl<'a> Row<'a> {
    fn of(step: &'a Step) -> Self {
        let note = |note: &'static str| Self { dir: "note".into(), note: Some(note.into()), ..Self::default() };
        match step {
            Step::Received(line) => Self::line("out", line),
            Step::Sent(line) => Self::line("in", line),
            Step::Remark(text) => Self { dir: "note".into(), line: Some((*text.0).into()), ..Self::default() },
            Step::Abandon { request } => Self { request: Some(*request), ..note("abandon") },
            Step::Asked => note("asked"),
            Step::Close { within } => Self { within_ns: Some(in_nanos(*within)), ..note("close") },
            Step::Deadline { request, within } => {
                Self { request: Some(*request), within_ns: Some(in_nanos(*within)), ..note("deadline") }
            }
            Step::Disconnect(reason) => {
                let (reason, text) = match reason {
                    DisconnectReason::DriverDropped => ("driver_dropped", None),
                    DisconnectReason::Protocol(text) => ("protocol", Some(text.as_str())),
                    DisconnectReason::Io(text) => ("io", Some(text.as_str())),
                    _ => ("io", None),
                };
                Self { reason: Some(reason.into()), text: text.map(Into::into), ..note("disconnect") }
            }
            Step::Eof => note("eof"),
            Step::Evidence(report) => Self::report(note("evidence"), report),
            Step::Exit(report) => Self::report(note("exit"), report),
            Step::Lost { records } => Self { records: Some(*records), ..note("lost") },
            Step::Timeout => note("timeout"),
        }
    }

    fn line(dir: &'static str, line: &'a Line) -> Self {
        let row = match core::str::from_utf8(&line.bytes) {
            Ok(text) => Self { line: Some(text.into()), ..Self::default() },
            Err(_) => Self { hex: Some(to_hex(&line.bytes).into()), ..Self::default() },
        };
        let (cut, oversized) = match line.part {
            Part::Whole => (None, None),
            Part::Cut => (Some(true), None),
            Part::Head(length) => (None, Some(length)),
        };
        Self { dir: dir.into(), cut, oversized, ..row }
    }

    fn report(row: Self, report: &'a ExitReport) -> Self {
        Self {
            code: report.status.and_then(|status| status.code),
            signal: report.status.and_then(|status| status.signal),
            forced: match report.forced {
                Forced::No => None,
                Forced::Terminated => Some("terminated".into()),
                Forced::Killed => Some("killed".into()),
            },
            elapsed_ns: Some(in_nanos(report.elapsed)),
            closing_ns: report.closing.map(in_nanos),
            swept: report.group_swept.then_some(true),
            text: Some((&*report.stderr_tail).into()),
            ..row
        }
    }

    fn step(self) -> Result<Step, &'static str> {
        match &*self.dir {
            "in" => Ok(Step::Sent(self.to_line()?)),
            "out" => Ok(Step::Received(self.to_line()?)),
            "note" => Ok(self.to_note()),
            _ => Err("it has no direction"),
        }
    }

    fn to_line(&self) -> Result<Line, &'static str> {
        let bytes = match (&self.line, &self.hex) {
            (Some(line), _) => line.as_bytes().into(),
            (None, Some(hex)) => from_hex(hex).ok_or("its bytes are no hexadecimal digits")?.into(),
            (None, None) => return Err("it has no line"),
        };
        let part = match (self.cut, self.oversized) {
            (Some(true), _) => Part::Cut,
            (_, Some(length)) => Part::Head(length),
            _ => Part::Whole,
        };
        Ok(Line { bytes, part })
    }

    fn to_note(&self) -> Step {
        let within = Duration::from_nanos(self.within_ns.unwrap_or(0));
        let text = || self.text.as_deref().unwrap_or_default();
        match (self.note.as_deref(), self.request) {
            (Some("abandon"), Some(request)) => Step::Abandon { request },
            (Some("asked"), _) => Step::Asked,
            (Some("close"), _) => Step::Close { within },
            (Some("deadline"), Some(request)) => Step::Deadline { request, within },
            (Some("disconnect"), _) => Step::Disconnect(match self.reason.as_deref() {
                Some("driver_dropped") => DisconnectReason::DriverDropped,
                Some("protocol") => DisconnectReason::Protocol(text().into()),
                _ => DisconnectReason::Io(text().into()),
            }),
            (Some("eof"), _) => Step::Eof,
            (Some("evidence"), _) => Step::Evidence(self.to_report()),
            (Some("exit"), _) => Step::Exit(self.to_report()),
            (Some("lost"), _) => Step::Lost { records: self.records.unwrap_or(1) },
            (Some("timeout"), _) => Step::Timeout,
            (note, _) => Step::Remark(Text(self.line.as_deref().or(note).unwrap_or_default().into())),
        }
    }

    fn to_report(&self) -> ExitReport {
        let has_status = self.code.is_some() || self.signal.is_some();
        let mut report = ExitReport::new(has_status.then(|| ExitStatus::new(self.code, self.signal)));
        report.forced = match self.forced.as_deref() {
            Some("terminated") => Forced::Terminated,
            Some("killed") => Forced::Killed,
            _ => Forced::No,
        };
        report.elapsed = Duration::from_nanos(self.elapsed_ns.unwrap_or(0));
        report.closing = self.closing_ns.map(Duration::from_nanos);
        report.group_swept = self.swept.unwrap_or(false);
        report.stderr_tail = self.text.as_deref().unwrap_or_default().into();
        report
    }
}

fn to_hex(bytes: &[u8]) -> String {
    let digit = |nibble: u8| char::from_digit(u32::from(nibble), 16).unwrap_or('0');
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digits: Option<Vec<u8>> =
        text.chars().map(|digit| digit.to_digit(16).and_then(|digit| u8::try_from(digit).ok())).collect();
    let digits = digits?;
    (digits.len() % 2 == 0)
        .then(|| digits.chunks(2).map(|pair| pair.iter().fold(0, |byte, digit| byte << 4 | digit)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps() -> Vec<Step> {
        let mut report = ExitReport::new(Some(ExitStatus::new(None, Some(9))));
        report.forced = Forced::Killed;
        report.closing = Some(Duration::from_millis(3));
        report.stderr_tail = "last \"words\"\n".into();
        report.group_swept = true;
        alloc::vec![
            Step::Sent(Line::new(br#"{"id":1,"method":"initialize"}"#)),
            Step::Received(Line::new("ü \u{1f600} \u{0} \"quoted\" \\".as_bytes())),
            Step::Received(Line::new(b"{\"method\":\"\xff\"}")),
            Step::Received(Line { bytes: b"{\"id".as_slice().into(), part: Part::Cut }),
            Step::Received(Line { bytes: b"{\"id\":1,".as_slice().into(), part: Part::Head(1 << 40) }),
            Step::Received(Line::new(b"")),
            Step::Abandon { request: 7 },
            Step::Asked,
            Step::Close { within: Duration::from_secs(15) },
            Step::Deadline { request: 3, within: Duration::from_nanos(1) },
            Step::Disconnect(DisconnectReason::Io("broken pipe".into())),
            Step::Disconnect(DisconnectReason::Protocol("rude".into())),
            Step::Disconnect(DisconnectReason::DriverDropped),
            Step::Eof,
            Step::Evidence(ExitReport::default()),
            Step::Exit(report),
            Step::Lost { records: 12 },
            Step::Remark(Text("by hand".into())),
            Step::Timeout,
        ]
    }

    #[test]
    fn every_step_is_written_and_read_back_as_it_was() {
        let records = steps().into_iter().enumerate();
        let records = records.map(|(at, step)| Record::new(at as u64 * 2 + 1, Time::from_nanos(at as u64 * 10), step));
        let recording = Recording::new(records);
        let text = recording.to_text();
        assert_eq!(text.lines().count(), recording.records.len() + 1);
        assert_eq!(Recording::parse(&text).expect("a recording"), recording);
    }

    #[test]
    fn a_torn_last_line_is_passed_over_and_other_damage_is_named() {
        let text = Recording::new([Record::new(1, Time::ZERO, Step::Eof)]).to_text();
        let torn = alloc::format!("{text}{{\"n\":2,\"t_ns\":0,\"di");
        assert_eq!(Recording::parse(&torn).expect("a recording").records.len(), 1);
        let damaged = alloc::format!("{text}{{\"n\":2,\"t_ns\":0,\"dir\":\"sideways\"}}\n{text}");
        let error = Recording::parse(&damaged).expect_err("no record");
        assert!(matches!(error, FormatError::NoRecord { line: 3, .. }), "{error}");
        let newer = text.replacen("\"format\":1", "\"format\":2", 1);
        assert_eq!(Recording::parse(&newer), Err(FormatError::Newer { format: 2 }));
        let other = r#"{"recording":"turnwire","format":3,"redacted":"mostly","timeouts_ns":[]}"#;
        assert_eq!(Recording::parse(other), Err(FormatError::Newer { format: 3 }), "whatever else it says");
    }

    #[test]
    fn a_file_that_was_torn_at_any_byte_is_read_as_far_as_it_goes() {
        let line = |number| Record::new(number, Time::ZERO, Step::Received(Line::new("ü \u{1f600} 你".as_bytes())));
        let text = Recording::new([line(1), line(2)]).to_text();
        let ends: Vec<usize> = text.match_indices('\n').map(|(at, _)| at).collect();
        for at in 0..=text.len() {
            let recording = Recording::parse_bytes(&text.as_bytes()[..at]).expect("a recording");
            // A line is whole when only its end is missing.
            let whole = ends.iter().filter(|end| **end <= at).count();
            assert_eq!(recording.records.len(), whole.saturating_sub(1), "{at}");
        }
        let damaged = [text.as_bytes(), b"{\"n\":3,\"\xff\n", text.as_bytes()].concat();
        assert!(matches!(Recording::parse_bytes(&damaged), Err(FormatError::NoRecord { line: 4, .. })));
    }

    #[test]
    fn a_record_without_a_number_follows_the_last_there_can_be() {
        let text =
            "{\"n\":18446744073709551615,\"dir\":\"note\",\"note\":\"eof\"}\n{\"dir\":\"note\",\"note\":\"eof\"}";
        let numbers = Recording::parse(text).expect("a recording").records;
        assert_eq!(numbers.iter().map(|record| record.number).collect::<Vec<_>>(), [u64::MAX, u64::MAX]);
    }

    #[test]
    fn a_second_header_begins_a_second_connection() {
        let text = Recording::new([Record::new(1, Time::ZERO, Step::Eof)]).to_text();
        assert_eq!(Recording::parse_all(&[text.as_str(), &text].concat()).expect("recordings").len(), 2);
    }
}
