//! Lines that begin as lines before them did.
//!
//! While a text streams, one line differs from the next of its turn in the text and the time at its end, and in nothing
//! before it. A [`Reader`] remembers such beginnings with what was found in them. A line that begins with the same bytes
//! has the same there, so only its rest is read. What comes out is what [`Envelope::parse`] would have made of it.
//!
//! Whoever reads may leave a note with a beginning: what it found to be done with such lines. From then on
//! [`piece`](Reader::piece) has the note and the text of each, and nothing else has to be looked at.

use super::{Envelope, JsonText, Keys, Message, NotAMessage, scan};
use crate::numbers::NumberMap;
use alloc::{borrow::Cow, boxed::Box, vec::Vec};
use core::ops::Range;

/// How many beginnings are remembered. That takes 1.3 MiB at the most, and half of it with lines as servers write them.
const MAX_BEGINNINGS: usize = 2048;
/// The longest beginning that is remembered, in bytes.
const MAX_LENGTH: usize = 512;
/// Where in a line its thread is named, at the latest: the beginnings of one thread differ from those of others here.
const TELLING: Range<usize> = 80..104;

/// Reads lines one after the other. `N` is the note that may be left with a beginning.
#[derive(Clone)]
pub(crate) struct Reader<N> {
    beginnings: Vec<Beginning<N>>,
    /// Places in `beginnings`, by the hash of what is at `TELLING`.
    places: NumberMap<u64, usize>,
    /// The place that fitted last, or was remembered last.
    last: usize,
}

/// A line up to the value of `params.delta`. There may be a thousand of them, so each is kept small.
#[derive(Clone)]
struct Beginning<N> {
    head: Box<str>,
    /// What whoever reads found to be done with such lines.
    note: Option<N>,
    method: Span,
    /// Where the params begin.
    params: u16,
    thread: Option<Span>,
    turn: Option<Span>,
    item: Option<Span>,
}

/// A part of a beginning.
#[derive(Clone, Copy)]
struct Span {
    from: u16,
    to: u16,
}

impl Span {
    /// `None`: it lies too far behind to be a part of one.
    fn of(range: &Range<usize>) -> Option<Self> {
        Some(Self { from: range.start.try_into().ok()?, to: range.end.try_into().ok()? })
    }

    #[inline]
    fn range(self) -> Range<usize> {
        usize::from(self.from)..usize::from(self.to)
    }
}

impl<N> Default for Reader<N> {
    fn default() -> Self {
        Self { beginnings: Vec::new(), places: NumberMap::default(), last: 0 }
    }
}

impl<N> Reader<N> {
    /// The text of a line that is a piece of text and no more, if it begins as one before it did with which a note was left;
    /// and the note.
    #[inline]
    pub(crate) fn piece<'a>(&'a mut self, line: &'a [u8]) -> Option<(&'a N, &'a str)> {
        self.find(line).ok()?;
        let Beginning { head, note, .. } = self.beginnings.get(self.last)?;
        let note = note.as_ref()?;
        let (text, ..) = usual_rest(line, head.len())?;
        Some((note, text))
    }

    /// Leaves a note with the beginning of a line that was read just now, if it is remembered.
    pub(crate) fn note(&mut self, line: &[u8], note: N) {
        if let Some(beginning) = self.beginnings.get_mut(self.last).filter(|beginning| beginning.fits(line)) {
            beginning.note = Some(note);
        }
    }

    /// Reads one line.
    ///
    /// # Errors
    /// As for [`Envelope::parse`].
    pub(crate) fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<Envelope<'a>, NotAMessage> {
        if let Err(unknown) = self.find(line) {
            let envelope = Envelope::parse(line)?;
            if let Message::Notification { keys: Keys { delta: Some(_), .. }, .. } = &envelope.message {
                if let (Some(Unknown { hash, place }), Some(beginning)) = (unknown, Beginning::of(line)) {
                    self.remember(hash, place, beginning);
                }
            }
            return Ok(envelope);
        }
        match self.beginnings.get(self.last) {
            Some(beginning) => beginning.read_on(line),
            None => Envelope::parse(line),
        }
    }

    /// Finds out how a line begins: afterwards that is at `last`.
    ///
    /// # Errors
    /// When it is not known, where it would be; `None`: it is too short to be.
    #[inline]
    fn find(&mut self, line: &[u8]) -> Result<(), Option<Unknown>> {
        if self.beginnings.get(self.last).is_some_and(|beginning| beginning.fits(line)) {
            return Ok(());
        }
        let hash = hash(line).ok_or(None)?;
        let place = self.places.get(&hash).copied();
        match place.filter(|place| self.beginnings.get(*place).is_some_and(|beginning| beginning.fits(line))) {
            Some(place) => {
                self.last = place;
                Ok(())
            }
            None => Err(Some(Unknown { hash, place })),
        }
    }

    fn remember(&mut self, hash: u64, place: Option<usize>, beginning: Beginning<N>) {
        if let Some((place, slot)) = place.and_then(|place| Some((place, self.beginnings.get_mut(place)?))) {
            *slot = beginning;
            self.last = place;
            return;
        }
        if self.beginnings.len() >= MAX_BEGINNINGS {
            self.beginnings.clear();
            self.places.clear();
        }
        self.last = self.beginnings.len();
        self.places.insert(hash, self.last);
        self.beginnings.push(beginning);
    }
}

/// Where a beginning that is not known belongs.
struct Unknown {
    hash: u64,
    /// Where another with the same hash is.
    place: Option<usize>,
}

impl<N> Beginning<N> {
    #[inline]
    fn fits(&self, line: &[u8]) -> bool {
        line.starts_with(self.head.as_bytes())
    }

    /// The beginning of a line, if it is `{"method":"…","params":{`, ids without escapes, and `"delta":`.
    fn of(line: &[u8]) -> Option<Self> {
        let mut at = 0;
        expect(line, &mut at, b"{\"method\":\"")?;
        let method = Span::of(&text(line, &mut at)?)?;
        expect(line, &mut at, b",\"params\":")?;
        let params = at.try_into().ok()?;
        expect(line, &mut at, b"{")?;
        let (mut thread, mut turn, mut item) = (None, None, None);
        loop {
            expect(line, &mut at, b"\"")?;
            let name = text(line, &mut at)?;
            expect(line, &mut at, b":")?;
            let id = match line.get(name)? {
                b"threadId" => &mut thread,
                b"turnId" => &mut turn,
                b"itemId" => &mut item,
                b"delta" => break,
                _ => return None,
            };
            expect(line, &mut at, b"\"")?;
            *id = Some(Span::of(&text(line, &mut at)?)?);
            expect(line, &mut at, b",")?;
        }
        let head = line.get(..at).filter(|head| head.len() <= MAX_LENGTH)?;
        Some(Self { head: core::str::from_utf8(head).ok()?.into(), note: None, method, params, thread, turn, item })
    }

    /// Reads what is left of a line that begins so.
    #[inline]
    fn read_on<'a>(&'a self, line: &'a [u8]) -> Result<Envelope<'a>, NotAMessage> {
        let text = |span: Span| self.head.get(span.range()).map(Cow::Borrowed);
        let params = usize::from(self.params);
        let keys = Keys {
            thread_id: self.thread.and_then(text),
            turn_id: self.turn.and_then(text),
            item_id: self.item.and_then(text),
            ..Keys::default()
        };
        if let Some((delta, end, emitted_at_ms)) = usual_rest(line, self.head.len()) {
            let keys = Keys { delta: Some(Cow::Borrowed(delta)), ..keys };
            let params = line.get(params..end).map(JsonText);
            let message = Message::Notification { method: text(self.method).unwrap_or_default(), params, keys };
            return Ok(Envelope { message, emitted_at_ms: Some(emitted_at_ms) });
        }
        let seen = scan::Seen { method: text(self.method), params, keys, length: self.head.len() };
        let line = scan::rest_of_line(line.trim_ascii_end(), seen).map_err(|_| NotAMessage::Malformed)?;
        Envelope::of_line(line)
    }
}

/// The rest of a line after its beginning, if it is a text without escapes, the end of the params, the time and the end:
/// the text, where the params end, and the time.
#[inline]
fn usual_rest(line: &[u8], from: usize) -> Option<(&str, usize, i64)> {
    const BETWEEN: &[u8] = b"},\"emittedAtMs\":";
    let mut at = from;
    expect(line, &mut at, b"\"")?;
    let text = text(line, &mut at)?;
    let end = at + 1;
    expect(line, &mut at, BETWEEN)?;
    let digits = line.get(at..)?.strip_suffix(b"}")?;
    let time = scan::short_number(digits).filter(|_| !digits.starts_with(b"0"))?;
    Some((core::str::from_utf8(line.get(text)?).ok()?, end, time))
}

fn expect(line: &[u8], at: &mut usize, piece: &[u8]) -> Option<()> {
    line.get(*at..)?.starts_with(piece).then(|| *at += piece.len())
}

/// A string without escapes, whose first quote is passed.
fn text(line: &[u8], at: &mut usize) -> Option<Range<usize>> {
    let range = *at..scan::special(line, *at);
    *at = range.end;
    expect(line, at, b"\"")?;
    Some(range)
}

/// Tells the lines of one thread from those of others. `None`: too short to tell.
#[inline]
fn hash(line: &[u8]) -> Option<u64> {
    let words = line.get(TELLING)?.chunks_exact(8).filter_map(<[u8]>::first_chunk::<8>);
    let mix = |hash: u64, word: &[u8; 8]| (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(SPREAD);
    Some(words.fold(0, mix))
}

/// An odd number without a pattern: the golden ratio.
const SPREAD: u64 = 0x9e37_79b9_7f4a_7c15;
