//! Lines that begin as lines before them did.
//!
//! While a text streams, one line differs from the next of its turn in the text and the time at its end, and in nothing
//! before it. A [`Reader`] remembers such beginnings with what was found in them. A line that begins with the same bytes
//! has the same there, so only its rest is read. What comes out is what [`Envelope::parse`] would have made of it.

use super::{Envelope, JsonText, Keys, Message, NotAMessage, scan};
use alloc::{borrow::Cow, boxed::Box, vec::Vec};
use core::{hash::BuildHasherDefault, hash::Hasher, ops::Range};
use hashbrown::HashMap;

/// How many beginnings are remembered. That takes 1.3 MiB at the most, and half of it with lines as servers write them.
const MAX_BEGINNINGS: usize = 2048;
/// The longest beginning that is remembered, in bytes.
const MAX_LENGTH: usize = 512;
/// Where in a line its thread is named, at the latest: the beginnings of one thread differ from those of others here.
const TELLING: Range<usize> = 80..104;

/// Reads lines one after the other.
#[derive(Default)]
pub(crate) struct Reader {
    beginnings: Vec<Beginning>,
    /// Places in `beginnings`, by the hash of what is at `TELLING`.
    places: HashMap<u64, usize, BuildHasherDefault<Hashed>>,
    /// The place that fitted last.
    last: usize,
}

/// A line up to the value of `params.delta`.
struct Beginning {
    head: Box<str>,
    method: Range<usize>,
    /// Where the params begin.
    params: usize,
    thread: Option<Range<usize>>,
    turn: Option<Range<usize>>,
    item: Option<Range<usize>>,
}

impl Reader {
    /// Reads one line.
    ///
    /// # Errors
    /// As for [`Envelope::parse`].
    pub(crate) fn parse<'a>(&'a mut self, line: &'a [u8]) -> Result<Envelope<'a>, NotAMessage> {
        let fits = |beginning: &Beginning| line.starts_with(beginning.head.as_bytes());
        let mut place = self.last;
        if !self.beginnings.get(place).is_some_and(fits) {
            let Some(hash) = hash(line) else { return Envelope::parse(line) };
            let known = self.places.get(&hash).copied();
            place = match known.filter(|place| self.beginnings.get(*place).is_some_and(fits)) {
                Some(place) => place,
                None => {
                    let envelope = Envelope::parse(line)?;
                    if let Message::Notification { keys: Keys { delta: Some(_), .. }, .. } = &envelope.message {
                        Beginning::of(line).into_iter().for_each(|beginning| self.remember(hash, known, beginning));
                    }
                    return Ok(envelope);
                }
            };
            self.last = place;
        }
        match self.beginnings.get(place) {
            Some(beginning) => beginning.read_on(line),
            None => Envelope::parse(line),
        }
    }

    fn remember(&mut self, hash: u64, known: Option<usize>, beginning: Beginning) {
        if let Some(slot) = known.and_then(|place| self.beginnings.get_mut(place)) {
            *slot = beginning;
            return;
        }
        if self.beginnings.len() >= MAX_BEGINNINGS {
            self.beginnings.clear();
            self.places.clear();
        }
        self.places.insert(hash, self.beginnings.len());
        self.beginnings.push(beginning);
    }
}

impl Beginning {
    /// The beginning of a line, if it is `{"method":"…","params":{`, ids without escapes, and `"delta":`.
    fn of(line: &[u8]) -> Option<Self> {
        let mut at = 0;
        expect(line, &mut at, b"{\"method\":\"")?;
        let method = text(line, &mut at)?;
        expect(line, &mut at, b",\"params\":")?;
        let params = at;
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
            *id = Some(text(line, &mut at)?);
            expect(line, &mut at, b",")?;
        }
        let head = line.get(..at).filter(|head| head.len() <= MAX_LENGTH)?;
        Some(Self { head: core::str::from_utf8(head).ok()?.into(), method, params, thread, turn, item })
    }

    /// Reads what is left of a line that begins so.
    #[inline]
    fn read_on<'a>(&'a self, line: &'a [u8]) -> Result<Envelope<'a>, NotAMessage> {
        let text = |range: &Range<usize>| self.head.get(range.clone()).map(Cow::Borrowed);
        let id = |range: &Option<Range<usize>>| range.as_ref().and_then(text);
        let keys =
            Keys { thread_id: id(&self.thread), turn_id: id(&self.turn), item_id: id(&self.item), ..Keys::default() };
        if let Some((delta, end, emitted_at_ms)) = usual_rest(line, self.head.len()) {
            let keys = Keys { delta: Some(Cow::Borrowed(delta)), ..keys };
            let params = line.get(self.params..end).map(JsonText);
            let message = Message::Notification { method: text(&self.method).unwrap_or_default(), params, keys };
            return Ok(Envelope { message, emitted_at_ms: Some(emitted_at_ms) });
        }
        let seen = scan::Seen { method: text(&self.method), params: self.params, keys, length: self.head.len() };
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

/// What is hashed is a hash already. Its upper half is the better one, and the table looks at both ends.
#[derive(Default)]
struct Hashed(u64);

impl Hasher for Hashed {
    fn write(&mut self, _: &[u8]) {}

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash ^ hash >> 32;
    }

    fn finish(&self) -> u64 {
        self.0
    }
}
