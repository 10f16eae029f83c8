//! Bytes to lines.
//!
//! A [`Framer`] cuts what a transport read into frames: one line each, without its ending. It looks at each byte once,
//! so feeding byte by byte costs no more than feeding whole files, and it copies only a line that is spread over
//! several reads. It never looks inside a line.
//!
//! ```
//! use turnwire_core::frame::{Frame, Framer};
//!
//! let mut framer = Framer::new(1024);
//! let mut chunk: &[u8] = b"{\"id\":1}\r\n{\"id\"";
//! assert_eq!(framer.next_frame(&mut chunk), Some(Frame::Line(b"{\"id\":1}")));
//! assert_eq!(framer.next_frame(&mut chunk), None); // the rest waits for its end
//! let mut chunk: &[u8] = b":2}\n";
//! assert_eq!(framer.next_frame(&mut chunk), Some(Frame::Line(b"{\"id\":2}")));
//! ```

use alloc::vec::Vec;

/// How much of a finished line's buffer is kept for the next one, in bytes.
const KEEP_CAPACITY: usize = 64 * 1024;
/// Up to here a line's buffer doubles when it is full, and then it grows by an eighth: its length is not known, and half of
/// a large buffer unused is more than what a line may cost. In bytes.
const DOUBLE_UP_TO: usize = 1024 * 1024;
/// How much of an oversized line is kept, so that its owner can be found, in bytes.
const KEEP_OVERSIZED: usize = 4 * 1024;

/// One line of input.
#[derive(Debug, PartialEq, Eq)]
pub enum Frame<'a> {
    /// A whole line, without `\n` or `\r\n`.
    Line(&'a [u8]),
    /// A line longer than the limit. It was skipped to its end.
    Oversized {
        /// Its first bytes.
        head: &'a [u8],
        /// Its whole length in bytes.
        length: u64,
    },
    /// The input ended inside this line; only [`Framer::finish`] yields it.
    Unfinished(&'a [u8]),
}

/// Cuts a byte stream into lines.
#[derive(Clone)]
pub struct Framer {
    /// The beginning of a line whose end was not seen yet. Length <= `max_line`.
    partial: Vec<u8>,
    /// Set if and only if `partial` was handed out as a frame and is to be cleared first.
    handed_out: bool,
    /// Length so far of a line that passed the limit; then `partial` holds its head only.
    oversized: Option<u64>,
    max_line: usize,
}

impl Framer {
    /// A framer for lines of at most `max_line` bytes.
    #[must_use]
    pub fn new(max_line: usize) -> Self {
        Self { partial: Vec::new(), handed_out: false, oversized: None, max_line }
    }

    /// Takes the next frame from the front of `input`. `None` means that `input` is used up: an unfinished line at its
    /// end was kept.
    pub fn next_frame<'a, 'i: 'a>(&'a mut self, input: &mut &'i [u8]) -> Option<Frame<'a>> {
        self.forget_handed_out();
        let Some(end) = memchr::memchr(b'\n', input) else {
            let rest = core::mem::take(input);
            self.keep(rest);
            return None;
        };
        let (line, rest) = input.split_at(end);
        *input = rest.get(1..).unwrap_or_default();
        if self.partial.is_empty() && self.oversized.is_none() && line.len() <= self.max_line {
            return Some(Frame::Line(without_return(line)));
        }
        self.keep(line);
        self.handed_out = true;
        match self.oversized.take() {
            Some(length) => Some(Frame::Oversized { head: &self.partial, length }),
            None => Some(Frame::Line(without_return(&self.partial))),
        }
    }

    /// Says that no more input comes, and yields what is left.
    pub fn finish(&mut self) -> Option<Frame<'_>> {
        self.forget_handed_out();
        self.handed_out = true;
        match self.oversized.take() {
            Some(length) => Some(Frame::Oversized { head: &self.partial, length }),
            None if self.partial.is_empty() => None,
            None => Some(Frame::Unfinished(without_return(&self.partial))),
        }
    }

    /// Bytes held for an unfinished line.
    #[must_use]
    pub fn buffered(&self) -> usize {
        if self.handed_out { 0 } else { self.partial.len() }
    }

    fn forget_handed_out(&mut self) {
        if self.handed_out {
            self.handed_out = false;
            self.partial.clear();
            self.partial.shrink_to(KEEP_CAPACITY);
        }
    }

    fn keep(&mut self, bytes: &[u8]) {
        match &mut self.oversized {
            Some(length) => *length += bytes.len() as u64,
            None if self.partial.len() + bytes.len() <= self.max_line => {
                let (length, room) = (self.partial.len(), self.partial.capacity() - self.partial.len());
                if length >= DOUBLE_UP_TO && bytes.len() > room {
                    let most = self.max_line.saturating_sub(length);
                    self.partial.reserve_exact(bytes.len().max((length / 8).min(most)));
                }
                self.partial.extend_from_slice(bytes);
            }
            None => {
                self.oversized = Some((self.partial.len() + bytes.len()) as u64);
                let missing = KEEP_OVERSIZED.min(self.max_line).saturating_sub(self.partial.len());
                self.partial.extend_from_slice(bytes.get(..missing.min(bytes.len())).unwrap_or_default());
                self.partial.truncate(KEEP_OVERSIZED);
                self.partial.shrink_to(KEEP_CAPACITY);
            }
        }
    }
}

fn without_return(line: &[u8]) -> &[u8] {
    line.strip_suffix(b"\r").unwrap_or(line)
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::String};

    fn frames(framer: &mut Framer, pieces: &[&[u8]]) -> Vec<String> {
        let mut seen = Vec::new();
        for piece in pieces {
            let mut input = *piece;
            while let Some(frame) = framer.next_frame(&mut input) {
                seen.push(describe(&frame));
            }
        }
        if let Some(frame) = framer.finish() {
            seen.push(describe(&frame));
        }
        seen
    }

    fn describe(frame: &Frame<'_>) -> String {
        match frame {
            Frame::Line(line) => format!("line {}", String::from_utf8_lossy(line)),
            Frame::Oversized { head, length } => format!("oversized {length} {}", String::from_utf8_lossy(head)),
            Frame::Unfinished(line) => format!("unfinished {}", String::from_utf8_lossy(line)),
        }
    }

    #[test]
    fn every_split_into_two_reads_gives_the_same_frames() {
        let text = b"one\r\n\n{\"a\":1}\nthis line is too long\nshort\nrest";
        let whole = frames(&mut Framer::new(12), &[text]);
        assert_eq!(
            whole,
            ["line one", "line ", "line {\"a\":1}", "oversized 21 this line is", "line short", "unfinished rest"]
                .map(String::from)
        );
        for cut in 0..=text.len() {
            let (left, right) = text.split_at(cut);
            assert_eq!(frames(&mut Framer::new(12), &[left, right]), whole, "cut at {cut}");
        }
        let bytes: Vec<&[u8]> = text.chunks(1).collect();
        assert_eq!(frames(&mut Framer::new(12), &bytes), whole);
    }

    #[test]
    fn a_line_of_exactly_the_limit_is_not_oversized() {
        assert_eq!(frames(&mut Framer::new(3), &[b"abc\nabcd\n"]), ["line abc", "oversized 4 abc"].map(String::from));
    }

    #[test]
    fn fr_09_a_line_in_small_pieces_is_copied_a_few_times_and_no_more() {
        // What is copied when the buffer grows; that each byte is searched once shows in `next_frame`.
        let copied = |line: usize| {
            let mut framer = Framer::new(1 << 26);
            let piece = [b'x'; 1024];
            let (mut copied, mut capacity) = (0, 0);
            for _ in 0..line / piece.len() {
                assert!(framer.next_frame(&mut &piece[..]).is_none());
                if framer.partial.capacity() != capacity {
                    capacity = framer.partial.capacity();
                    copied += framer.partial.len();
                }
            }
            assert!(capacity <= line + line / 8 + 1024, "{capacity} bytes for a line of {line}");
            copied
        };
        let (half, whole) = (copied(8 << 20), copied(16 << 20));
        assert!(half > 8 << 20 && whole <= half * 5 / 2, "{half} bytes copied for 8 MiB, {whole} for 16 MiB");
    }

    #[test]
    fn the_buffer_of_a_large_line_is_given_back() {
        let mut framer = Framer::new(1 << 24);
        let large = alloc::vec![b'x'; 1 << 20];
        let mut input: &[u8] = &large;
        assert!(framer.next_frame(&mut input).is_none());
        let mut input: &[u8] = b"\n";
        assert!(framer.next_frame(&mut input).is_some());
        let mut input: &[u8] = b"";
        assert!(framer.next_frame(&mut input).is_none());
        assert!(framer.partial.capacity() <= KEEP_CAPACITY);
    }
}
