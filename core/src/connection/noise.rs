//! What stands on a message's line and is no part of it.
//!
//! A launcher script, a shell's start-up file or a wrapper writes to the terminal that it thinks is there: a mark of the
//! byte order, escape sequences that set colours or a title, a progress bar that returns to the line's beginning. Such things
//! need no end of line, and so may stand before or after a message.

use super::{Connection, link::Link};
use crate::{
    envelope::{Envelope, Message, RpcId},
    error::{DisconnectReason, Fault, RpcError},
    time::Time,
    turn::DiagnosticKind,
};

/// How many braces of a line are looked at for the beginning of a message.
const MAX_TRIES: usize = 16;

impl Connection {
    pub(super) fn handle_envelope(
        &mut self,
        now: Time,
        line: &[u8],
        Envelope { message, emitted_at_ms }: Envelope<'_>,
    ) {
        match message {
            Message::Notification { method, params, keys } => {
                self.handle_notification(now, line, &method, params, &keys, emitted_at_ms);
            }
            Message::Request { id, method, params, keys } => {
                self.handle_server_request(now, id, &method, params, &keys);
            }
            Message::Success { id: RpcId::Integer(id), result } => {
                self.handle_response(now, id, Ok(result.into()), line);
            }
            Message::Failure { id: RpcId::Integer(id), error } => {
                self.handle_response(now, id, Err(Fault::Rpc(RpcError::parse(error))), line);
            }
            Message::Success { .. } | Message::Failure { .. } => {
                self.counters.unknown_responses += 1;
                self.diagnose(DiagnosticKind::UnknownResponse, line, line.len() as u64);
            }
        }
    }

    pub(super) fn note_noise(&mut self, noise: &[u8]) {
        self.counters.noise += 1;
        self.diagnose(DiagnosticKind::Noise, noise, noise.len() as u64);
    }

    pub(super) fn note_malformed(&mut self, now: Time, line: &[u8], kind: DiagnosticKind) {
        self.counters.malformed += 1;
        self.diagnose(kind, line, line.len() as u64);
        if self.config.strict {
            let reason = DisconnectReason::Protocol(alloc::format!("a line of {} bytes is no message", line.len()));
            self.drain(now, reason);
            self.finish_link();
        }
    }

    /// Takes a message from a line that has something else on it too. Says whether there was one.
    pub(super) fn handle_within_noise(&mut self, now: Time, line: &[u8]) -> bool {
        let dressed = without_dressing(line).and_then(|found| Some((found, Envelope::parse(found.message).ok()?)));
        // Once the handshake is done, a line with a message somewhere in it is a log of what was said.
        let found = match dressed {
            None if matches!(self.link, Link::Connecting) => answer_after_a_banner(line),
            dressed => dressed,
        };
        let Some((Found { noise, message }, envelope)) = found else { return false };
        self.note_noise(noise);
        self.handle_envelope(now, message, envelope);
        true
    }
}

/// A message on a line, and what else is there: before it, or else after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Found<'a> {
    noise: &'a [u8],
    message: &'a [u8],
}

/// The message that a line is, but for what a terminal does not show.
pub(crate) fn dressed_message(line: &[u8]) -> Option<&[u8]> {
    let Found { message, .. } = without_dressing(line)?;
    Envelope::parse(message).is_ok().then_some(message)
}

/// A banner and the answer that stands after it on its line.
pub(crate) fn banner_and_answer(line: &[u8]) -> Option<(&[u8], &[u8])> {
    answer_after_a_banner(line).map(|(Found { noise, message }, _)| (noise, message))
}

/// An answer that stands at the end of a line: before it a banner that does not end its own.
fn answer_after_a_banner(line: &[u8]) -> Option<(Found<'_>, Envelope<'_>)> {
    let mut at = 0;
    for _ in 0..MAX_TRIES {
        at += memchr::memchr(b'{', line.get(at + 1..)?)? + 1;
        let (noise, message) = line.split_at_checked(at)?;
        match Envelope::parse(message) {
            Ok(envelope) if matches!(envelope.message, Message::Success { .. } | Message::Failure { .. }) => {
                return Some((Found { noise, message }, envelope));
            }
            _ => {}
        }
    }
    None
}

/// What is left of a line without what a terminal would not show, if that looks like an object and is not all of the line.
fn without_dressing(line: &[u8]) -> Option<Found<'_>> {
    let line = line.trim_ascii();
    let mut rest = undressed(line);
    if rest.first() != Some(&b'{') {
        // What a terminal shows of a line begins after the last return in it.
        rest = undressed(rest.get(memchr::memrchr(b'\r', rest)? + 1..)?);
    }
    let (before, rest) = line.split_at_checked(line.len() - rest.len())?;
    let (message, after) = rest.split_at_checked(memchr::memrchr(b'}', rest)? + 1)?;
    let is_dressed = message.len() < line.len() && undressed(after).is_empty();
    (message.first() == Some(&b'{') && is_dressed)
        .then_some(Found { noise: if before.is_empty() { after } else { before }, message })
}

/// The text without what a terminal does not show at its beginning.
fn undressed(mut text: &[u8]) -> &[u8] {
    loop {
        text = match text {
            [0xEF, 0xBB, 0xBF, rest @ ..] => rest,
            [0x1b, b'[', rest @ ..] => after(rest, |byte| (0x40..=0x7e).contains(&byte)),
            // A title and the like ends with a bell, or with ESC and a backslash.
            [0x1b, b']' | b'P' | b'_' | b'^' | b'X', rest @ ..] => {
                let rest = after(rest, |byte| matches!(byte, 0x07 | 0x1b));
                rest.strip_prefix(b"\\").unwrap_or(rest)
            }
            [0x1b, 0x20..=0x2f, _, rest @ ..] | [0x1b, _, rest @ ..] => rest,
            [first, rest @ ..] if first.is_ascii_control() || first.is_ascii_whitespace() => rest,
            _ => return text,
        };
    }
}

/// What comes after the first byte of this kind.
fn after(text: &[u8], is_last: impl Fn(u8) -> bool) -> &[u8] {
    text.iter().position(|byte| is_last(*byte)).and_then(|at| text.get(at + 1..)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_terminal_does_not_show_is_taken_off_on_both_sides() {
        for line in [
            &b"\xef\xbb\xbf{\"a\":1}"[..],
            b"\x1b[32m{\"a\":1}\x1b[0m",
            b"\x1b]0;codex\x07{\"a\":1}",
            b"\x1b]0;codex\x1b\\{\"a\":1}\r",
            b"\x1b(B\x1b[m{\"a\":1}",
            b" 40%\r 80%\r{\"a\":1}",
            b"\x07\0{\"a\":1}",
            b"\x1b[2K\r\x1b[1G{\"a\":1} \x1b[?25h",
        ] {
            let found = without_dressing(line).map(|found| found.message);
            assert_eq!(found, Some(&b"{\"a\":1}"[..]), "{}", line.escape_ascii());
        }
    }

    #[test]
    fn nothing_is_taken_out_of_what_would_be_shown() {
        for line in [
            &b"{\"a\":1}"[..],
            b" {\"a\":1}\r",
            b"log: {\"a\":1}",
            b"{\"a\":1} trailing",
            b"\x1b[32mready\x1b[0m",
            b"\x1b[",
            b"\x1b",
            b"\x1b]0;{\"a\":1}",
            b"\r\r",
            b"",
            b"}",
            b"\x1b[m}",
        ] {
            assert_eq!(without_dressing(line), None, "{}", line.escape_ascii());
        }
    }
}
