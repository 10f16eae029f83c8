//! What a connection said and heard, kept as records: to look at, to send with a bug report, to run again.
//!
//! - A connection with a tap ([`Config::tap`](crate::connection::Config::tap)) keeps every line of both directions as a
//!   [`Record`], in the one order in which it saw them, with what else moved it: ends, timeouts, a closing.
//!   [`Connection::poll_tap`](crate::connection::Connection::poll_tap) takes them.
//! - A [`Recording`] is a list of them, as a file: [the format](#the-file).
//! - The [`Redactor`] takes out whatever is not known to be harmless, and leaves what it takes to see what happened.
//! - A [`Replay`] feeds a recording to a connection, without process or network, and says where it does other than was
//!   recorded.
//!
//! Programs attach a `Recorder` (of the feature `client`) to their `Config` and get a file.
//!
//! # The file
//!
//! JSON lines in UTF-8. The first says what the file is:
//!
//! ```json
//! {"recording":"turnwire","format":1,"turnwire":"0.1.0","redacted":true,"process":true,"strict":false,"timeouts_ns":{"call":120000000000}}
//! ```
//!
//! (`turnwire` is the version that wrote it; the version of the server is in the server's own answer to `initialize`,
//! [`Recording::server_version`]. `process`, `strict` and `timeouts_ns` are what a replay has to know of the configuration.)
//!
//! Each line after it is a record:
//!
//! | member | |
//! |---|---|
//! | `n` | the record's number, from 1 on. Where numbers are missing, records were lost |
//! | `t_ns` | when, in nanoseconds since the start of the connection's clock |
//! | `dir` | `in`: the client wrote it to the server's input. `out`: it came out of the server. `note`: neither |
//! | `line` | the line, without its end |
//! | `hex` | instead of `line`, where the line is not UTF-8 |
//! | `cut` | `true` where the output ended within the line |
//! | `oversized` | the length in bytes of a line that was too long to be kept; `line` is its beginning then |
//! | `note` | what a note says; the table below |
//!
//! | `note` | further members | |
//! |---|---|---|
//! | `abandon` | `request` | the application gave the request of that id up |
//! | `asked` | | the line before it, a request of the server, was offered to the application; without it it was refused at once |
//! | `close` | `within_ns` | the application closed the connection |
//! | `deadline` | `request`, `within_ns` | the `turn/start` of that id was given so long for its turn, from now |
//! | `disconnect` | `reason`, `text` | the transport failed (`io`, `protocol`) or was dropped (`driver_dropped`) |
//! | `eof` | | the server's output ended |
//! | `evidence` | as for `exit` | what was known of a process that had not ended |
//! | `exit` | `code`, `signal`, `forced`, `elapsed_ns`, `closing_ns`, `swept`, `text` | the process ended; `text` is the end of its stderr |
//! | `lost` | `records` | so many records found no room |
//! | `timeout` | | a deadline of the connection had passed, and it was told |
//!
//! Unknown members are passed over, and a note of an unknown kind is kept as a remark. A second header begins a second
//! connection. Files without a header whose lines have `t_ms`, in milliseconds, in place of `n` and `t_ns`, and whose notes have a `line`, are read
//! too: that is how recorded sessions of other clients look.

mod compare;
mod format;
mod redact;
mod replay;
mod rewrite;
#[rustfmt::skip] // As the generator writes them.
mod words;

pub use compare::{Difference, Sameness, difference};
pub use format::{FORMAT, FormatError, Header, Recording};
pub use redact::Redactor;
#[cfg(feature = "tracing")]
pub(crate) use redact::is_method;
pub(crate) use redact::{is_member, is_word};
pub use replay::{Divergence, Replay, Replayed, ReplayedEvent};
pub use rewrite::with_id;

use crate::{error::DisconnectReason, launch::ExitReport, time::Time};
use alloc::{borrow::Cow, boxed::Box, string::String};
use core::{fmt, time::Duration};

/// One thing that moved a connection, or that it did.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record {
    /// Its place in the order in which the connection saw things, from 1 on.
    pub number: u64,
    /// When, on the connection's clock.
    pub at: Time,
    /// What.
    pub step: Step,
}

impl Record {
    /// A record.
    #[must_use]
    pub fn new(number: u64, at: Time, step: Step) -> Self {
        Self { number, at, step }
    }
}

/// What a [`Record`] is about.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Step {
    /// The application gave the request of this id up.
    Abandon {
        /// The id on the wire.
        request: u64,
    },
    /// The request of the server that came just before was offered to the application.
    Asked,
    /// The application closed the connection.
    Close {
        /// How long the server's end may take.
        within: Duration,
    },
    /// The turn that this `turn/start` begins was given so long, from now.
    Deadline {
        /// The id on the wire.
        request: u64,
        /// How long the turn may take.
        within: Duration,
    },
    /// The transport failed, or was dropped.
    Disconnect(DisconnectReason),
    /// The server's output ended.
    Eof,
    /// What was known of the server's process, which had not ended.
    Evidence(ExitReport),
    /// The server's process ended.
    Exit(ExitReport),
    /// So many records were lost here, because nobody took them.
    Lost {
        /// How many.
        records: u64,
    },
    /// A line came from the server.
    Received(Line),
    /// Something that a person or another recorder had to say. It moves nothing.
    Remark(Text),
    /// A line was handed over to be written to the server.
    Sent(Line),
    /// A deadline had passed, and the connection was told the time.
    Timeout,
}

impl Step {
    /// How much memory it is counted for, in bytes.
    #[must_use]
    pub fn size(&self) -> usize {
        core::mem::size_of::<Record>()
            + match self {
                Self::Received(line) | Self::Sent(line) => line.bytes.len(),
                Self::Remark(text) => text.0.len(),
                Self::Exit(report) | Self::Evidence(report) => report.stderr_tail.len(),
                Self::Disconnect(DisconnectReason::Io(text) | DisconnectReason::Protocol(text)) => text.len(),
                _ => 0,
            }
    }
}

/// A line, or what is left of one. `Debug` shows its length only.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Line {
    /// The bytes, without the line end.
    pub bytes: Box<[u8]>,
    /// How much of the line this is.
    pub part: Part,
}

/// How much of a line is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Part {
    /// The output ended within it.
    Cut,
    /// The beginning of a line that was too long, and its length in bytes.
    Head(u64),
    /// All of it.
    Whole,
}

impl Line {
    /// A whole line.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Self {
        Self { bytes: bytes.into(), part: Part::Whole }
    }

    /// The line as text; bytes that are not UTF-8 are replaced.
    #[must_use]
    pub fn text(&self) -> Cow<'_, str> {
        String::from_utf8_lossy(&self.bytes)
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Line({} bytes, {:?})", self.bytes.len(), self.part)
    }
}

/// A text of whoever recorded. `Debug` shows its length only.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Text(pub Box<str>);

impl fmt::Debug for Text {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Text({} bytes)", self.0.len())
    }
}
