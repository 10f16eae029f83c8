//! One pass over a line: its grammar, and what the members that matter hold.
//!
//! It accepts exactly what serde_json accepts when it reads borrowed raw values and passes over the rest, and it finds
//! the same: see `reference.rs`, and the tests that hold the two against each other. Values that nobody looks into are
//! checked for their grammar alone, however deep they are nested.

use super::{JsonText, Keys};
use alloc::{borrow::Cow, string::String, vec::Vec};

/// It is no JSON.
#[derive(Debug)]
pub(super) struct Bad;

/// The members of the top level. `null` is a value here, and absent is `None`. The last of several of one name counts.
#[derive(Default)]
pub(super) struct Line<'a> {
    pub(super) id: Option<JsonText<'a>>,
    pub(super) method: Option<Cow<'a, str>>,
    pub(super) params: Option<JsonText<'a>>,
    pub(super) result: Option<JsonText<'a>>,
    pub(super) error: Option<JsonText<'a>>,
    pub(super) emitted_at_ms: Option<i64>,
    /// The keys of `params`.
    pub(super) keys: Keys<'a>,
    /// Whether `params` has a member whose name is no text, such as half a character.
    pub(super) has_unreadable_params: bool,
}

/// Reads a whole line.
pub(super) fn line(text: &str) -> Result<Line<'_>, Bad> {
    let mut scanner = Scanner::new(text);
    let mut line = Line::default();
    scanner.members(|scanner, name| line.member(scanner, name))?;
    scanner.end()?;
    Ok(line)
}

/// What is known of a line up to the value of `params.delta`. There are no other members there than those named here.
pub(super) struct Seen<'a> {
    pub(super) method: Option<Cow<'a, str>>,
    /// Where the params begin.
    pub(super) params: usize,
    pub(super) keys: Keys<'a>,
    /// How long it is.
    pub(super) length: usize,
}

/// Reads on where `seen` ends.
pub(super) fn rest_of_line<'a>(line: &'a [u8], seen: Seen<'a>) -> Result<Line<'a>, Bad> {
    let rest = line.get(seen.length..).and_then(|rest| core::str::from_utf8(rest).ok()).ok_or(Bad)?;
    let mut scanner = Scanner::new(rest);
    let mut read = Line { method: seen.method, keys: seen.keys, ..Line::default() };
    let (keys, mut nested) = (&mut read.keys, Nested::default());
    scanner.skip_space();
    keys.delta = scanner.text()?;
    scanner.rest_of_members(|scanner, name| nested.member(keys, scanner, name))?;
    read.has_unreadable_params = !nested.finish(keys);
    read.params = line.get(seen.params..seen.length + scanner.at).map(JsonText);
    scanner.rest_of_members(|scanner, name| read.member(scanner, name))?;
    scanner.end()?;
    Ok(read)
}

/// Reads the keys of an object. `None` if it cannot be read through.
pub(super) fn keys(text: &str) -> Option<Keys<'_>> {
    let mut keys = Keys::default();
    Scanner::new(text).keys(&mut keys).is_ok_and(|is_readable| is_readable).then_some(keys)
}

impl<'a> Line<'a> {
    #[inline]
    fn member(&mut self, scanner: &mut Scanner<'a>, name: Quoted<'a>) -> Result<(), Bad> {
        match &*name.text().ok_or(Bad)? {
            "method" => self.method = scanner.text()?,
            "params" => {
                let from = scanner.at;
                self.keys = Keys::default();
                self.has_unreadable_params = false;
                match scanner.peek() {
                    Some(b'{') => self.has_unreadable_params = !scanner.keys(&mut self.keys)?,
                    _ => scanner.skip()?,
                }
                self.params = Some(scanner.since(from));
            }
            "emittedAtMs" => self.emitted_at_ms = scanner.int()?,
            "id" => self.id = Some(scanner.value()?),
            "result" => self.result = Some(scanner.value()?),
            "error" => self.error = Some(scanner.value()?),
            _ => scanner.skip()?,
        }
        Ok(())
    }
}

/// What was found beside the keys in an object in which keys are looked for.
#[derive(Default)]
struct Nested<'a> {
    item: Option<Named<'a>>,
    state: Option<Named<'a>>,
    thread: Option<Named<'a>>,
    turn: Option<Named<'a>>,
    /// Whether there is a name that is no text.
    is_unreadable: bool,
}

impl<'a> Nested<'a> {
    #[inline]
    fn member(&mut self, keys: &mut Keys<'a>, scanner: &mut Scanner<'a>, name: Quoted<'a>) -> Result<(), Bad> {
        let Some(name) = name.text() else {
            self.is_unreadable = true;
            return scanner.skip();
        };
        match &*name {
            "threadId" => keys.thread_id = scanner.text()?,
            "turnId" => keys.turn_id = scanner.text()?,
            "itemId" => keys.item_id = scanner.text()?,
            "delta" => keys.delta = scanner.text()?,
            "contentIndex" | "summaryIndex" => keys.index = scanner.int()?,
            "conversationId" => keys.conversation_id = scanner.text()?,
            "requestId" => keys.request_id = scanner.value()?.raw(),
            "item" => self.item = Some(scanner.named()?),
            "status" => self.state = Some(scanner.named()?),
            "thread" => self.thread = Some(scanner.named()?),
            "turn" => self.turn = Some(scanner.named()?),
            _ => {
                keys.has_others = true;
                scanner.skip()?;
            }
        }
        Ok(())
    }

    /// Adds to the keys what was found. Says whether every name is a text.
    fn finish(self, keys: &mut Keys<'a>) -> bool {
        let Self { item, state, thread, turn, is_unreadable } = self;
        keys.has_others |= item.is_some() || state.is_some() || thread.is_some() || turn.is_some();
        if let Some(item) = item {
            keys.item_id = keys.item_id.take().or(item.id);
        }
        if let Some(thread) = thread {
            keys.thread_id = keys.thread_id.take().or(thread.id);
        }
        if let Some(state) = state {
            keys.status = state.kind;
        }
        if let Some(turn) = turn {
            keys.turn_id = keys.turn_id.take().or(turn.id);
            keys.root_turn_id = turn.root_turn_id;
            keys.status = keys.status.take().or(turn.status);
        }
        !is_unreadable
    }
}

/// A string as it stands, without its quotes.
struct Quoted<'a> {
    inner: &'a str,
    has_escapes: bool,
}

impl<'a> Quoted<'a> {
    /// What it says; `None` if that is no text, such as half a character.
    #[inline]
    fn text(&self) -> Option<Cow<'a, str>> {
        if self.has_escapes { self.unescaped().map(Cow::Owned) } else { Some(Cow::Borrowed(self.inner)) }
    }

    #[cold]
    fn unescaped(&self) -> Option<String> {
        let mut quoted = String::with_capacity(self.inner.len() + 2);
        quoted.push('"');
        quoted.push_str(self.inner);
        quoted.push('"');
        serde_json::from_str(&quoted).ok()
    }
}

/// What is read of a nested `turn`, `thread`, `item` or `status`, whatever else it holds.
#[derive(Default)]
struct Named<'a> {
    id: Option<Cow<'a, str>>,
    kind: Option<Cow<'a, str>>,
    root_turn_id: Option<Cow<'a, str>>,
    status: Option<Cow<'a, str>>,
}

struct Scanner<'a> {
    text: &'a str,
    /// `at <= text.len()`, at the beginning of a character.
    at: usize,
}

impl<'a> Scanner<'a> {
    fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn since(&self, from: usize) -> JsonText<'a> {
        JsonText(self.text.as_bytes().get(from..self.at).unwrap_or_default())
    }

    #[inline]
    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.peek() {
            self.at += 1;
        }
    }

    /// The next byte that is no space, taken.
    #[inline]
    fn take(&mut self) -> Result<u8, Bad> {
        self.skip_space();
        let byte = self.peek().ok_or(Bad)?;
        self.at += 1;
        Ok(byte)
    }

    /// The end of the text, but for white space.
    fn end(&mut self) -> Result<(), Bad> {
        self.skip_space();
        if self.at == self.text.len() { Ok(()) } else { Err(Bad) }
    }

    /// Reads an object: at each of its members calls `read` with the name, at the beginning of the value.
    #[inline]
    fn members(&mut self, mut read: impl FnMut(&mut Self, Quoted<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        if self.peek() != Some(b'{') {
            return Err(Bad);
        }
        self.at += 1;
        self.skip_space();
        if self.peek() == Some(b'}') {
            self.at += 1;
            return Ok(());
        }
        self.member(&mut read)?;
        self.rest_of_members(read)
    }

    /// Reads what is left of an object after the value of a member.
    #[inline]
    fn rest_of_members(&mut self, mut read: impl FnMut(&mut Self, Quoted<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        loop {
            match self.take()? {
                b',' => self.member(&mut read)?,
                b'}' => return Ok(()),
                _ => return Err(Bad),
            }
        }
    }

    #[inline]
    fn member(&mut self, read: &mut impl FnMut(&mut Self, Quoted<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        if self.take()? != b'"' {
            return Err(Bad);
        }
        let name = self.quoted()?;
        if self.take()? != b':' {
            return Err(Bad);
        }
        self.skip_space();
        read(self, name)
    }

    /// Reads the keys of an object. Says whether every name in it is a text.
    fn keys(&mut self, keys: &mut Keys<'a>) -> Result<bool, Bad> {
        let mut nested = Nested::default();
        self.members(|scanner, name| nested.member(keys, scanner, name))?;
        Ok(nested.finish(keys))
    }

    /// Reads an object that keys are looked for in; anything else has none.
    fn named(&mut self) -> Result<Named<'a>, Bad> {
        if self.peek() != Some(b'{') {
            self.skip()?;
            return Ok(Named::default());
        }
        let mut is_readable = true;
        let mut named = Named::default();
        self.members(|scanner, name| {
            let Some(name) = name.text() else {
                is_readable = false;
                return scanner.skip();
            };
            match &*name {
                "id" => named.id = scanner.text()?,
                "rootTurnId" => named.root_turn_id = scanner.text()?,
                "status" => named.status = scanner.text()?,
                "type" => named.kind = scanner.text()?,
                _ => scanner.skip()?,
            }
            Ok(())
        })?;
        Ok(if is_readable { named } else { Named::default() })
    }

    /// Reads a value, and says what it is if it is a text.
    #[inline]
    fn text(&mut self) -> Result<Option<Cow<'a, str>>, Bad> {
        if self.peek() == Some(b'"') {
            self.at += 1;
            return Ok(self.quoted()?.text());
        }
        self.skip()?;
        Ok(None)
    }

    /// Reads a value, and says what it is if it is a whole number.
    #[inline]
    fn int(&mut self) -> Result<Option<i64>, Bad> {
        Ok(whole(self.value()?.as_bytes()))
    }

    /// Reads a value.
    #[inline]
    fn value(&mut self) -> Result<JsonText<'a>, Bad> {
        let from = self.at;
        self.skip()?;
        Ok(self.since(from))
    }

    /// Reads a string, whose first quote is taken.
    #[inline]
    fn quoted(&mut self) -> Result<Quoted<'a>, Bad> {
        let from = self.at;
        let mut has_escapes = false;
        loop {
            let end = special(self.text.as_bytes(), self.at);
            match self.text.as_bytes().get(end) {
                Some(b'"') => {
                    self.at = end + 1;
                    let inner = self.text.get(from..end).unwrap_or_default();
                    return Ok(Quoted { inner, has_escapes });
                }
                Some(b'\\') => {
                    has_escapes = true;
                    self.at = end;
                    self.skip_escape()?;
                }
                _ => return Err(Bad),
            }
        }
    }

    /// Passes over an escape. Halves of characters pass here: whoever wants the text finds out.
    fn skip_escape(&mut self) -> Result<(), Bad> {
        let rest = self.text.as_bytes().get(self.at + 1..).unwrap_or_default();
        self.at += match rest {
            [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => 2,
            [b'u', a, b, c, d, ..] if [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit) => 6,
            _ => return Err(Bad),
        };
        Ok(())
    }

    /// Passes over a value.
    fn skip(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(b'{' | b'[') => self.skip_nested(),
            _ => self.skip_flat(),
        }
    }

    /// Passes over a value that is neither an array nor an object.
    #[inline]
    fn skip_flat(&mut self) -> Result<(), Bad> {
        match self.peek() {
            Some(b'"') => {
                self.at += 1;
                self.quoted().map(drop)
            }
            Some(b'0'..=b'9' | b'-') => self.skip_number(),
            Some(b't') => self.skip_word("true"),
            Some(b'f') => self.skip_word("false"),
            Some(b'n') => self.skip_word("null"),
            _ => Err(Bad),
        }
    }

    /// Passes over an array or an object, without recursion.
    fn skip_nested(&mut self) -> Result<(), Bad> {
        let mut open = Nesting::default();
        loop {
            // At the beginning of a value.
            match self.peek() {
                Some(b'{') => {
                    self.at += 1;
                    open.push(true);
                }
                Some(b'[') => {
                    self.at += 1;
                    open.push(false);
                }
                _ => {
                    self.skip_flat()?;
                    if self.skip_ends(&mut open, true)? {
                        return Ok(());
                    }
                    continue;
                }
            }
            if self.skip_ends(&mut open, false)? {
                return Ok(());
            }
        }
    }

    /// Passes over what is between two values: ends of arrays and objects, a comma, the name of a member. Says whether
    /// all that was open is closed.
    fn skip_ends(&mut self, open: &mut Nesting, mut after_value: bool) -> Result<bool, Bad> {
        loop {
            self.skip_space();
            match self.peek() {
                Some(b',') if after_value => {
                    self.at += 1;
                    self.skip_space();
                    break;
                }
                Some(b']') if !open.in_object() => {}
                Some(b'}') if open.in_object() => {}
                Some(_) if !after_value => break,
                _ => return Err(Bad),
            }
            self.at += 1;
            after_value = true;
            if open.pop() {
                return Ok(true);
            }
        }
        if open.in_object() {
            if self.take()? != b'"' {
                return Err(Bad);
            }
            self.quoted()?;
            if self.take()? != b':' {
                return Err(Bad);
            }
            self.skip_space();
        }
        Ok(false)
    }

    fn skip_word(&mut self, word: &str) -> Result<(), Bad> {
        let rest = self.text.as_bytes().get(self.at..).unwrap_or_default();
        if !rest.starts_with(word.as_bytes()) {
            return Err(Bad);
        }
        self.at += word.len();
        Ok(())
    }

    fn skip_number(&mut self) -> Result<(), Bad> {
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        match self.peek() {
            // Nothing may follow a leading zero; if a digit does, whoever reads on finds no comma there.
            Some(b'0') => self.at += 1,
            Some(b'1'..=b'9') => self.skip_digits(),
            _ => return Err(Bad),
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.expect_digits()?;
        }
        if let Some(b'e' | b'E') = self.peek() {
            self.at += 1;
            if let Some(b'+' | b'-') = self.peek() {
                self.at += 1;
            }
            self.expect_digits()?;
        }
        Ok(())
    }

    fn expect_digits(&mut self) -> Result<(), Bad> {
        let from = self.at;
        self.skip_digits();
        if self.at > from { Ok(()) } else { Err(Bad) }
    }

    #[inline]
    fn skip_digits(&mut self) {
        while let Some(b'0'..=b'9') = self.peek() {
            self.at += 1;
        }
    }
}

/// A whole number as JSON writes it.
#[inline]
pub(super) fn whole(digits: &[u8]) -> Option<i64> {
    short_number(digits).or_else(|| core::str::from_utf8(digits).ok()?.parse().ok())
}

/// One to eighteen digits as a number: so many never overflow.
#[inline]
pub(super) fn short_number(digits: &[u8]) -> Option<i64> {
    if !matches!(digits.len(), 1..=18) {
        return None;
    }
    let (mut number, mut highest) = (0_i64, 0);
    for digit in digits {
        let digit = digit.wrapping_sub(b'0');
        highest = digit.max(highest);
        // What is no digit may be too large; then the sum is not wanted.
        number = i64::wrapping_add(i64::wrapping_mul(number, 10), i64::from(digit));
    }
    (highest <= 9).then_some(number)
}

/// What is open: one bit for each level, set for an object.
#[derive(Default)]
struct Nesting {
    bits: u64,
    /// How many bits count. At most 64.
    depth: u32,
    /// Full words of levels further out.
    outer: Vec<u64>,
}

impl Nesting {
    fn push(&mut self, is_object: bool) {
        if self.depth == u64::BITS {
            self.outer.push(self.bits);
            self.depth = 0;
        }
        self.bits = self.bits << 1 | u64::from(is_object);
        self.depth += 1;
    }

    /// Closes a level. Says whether it was the last.
    fn pop(&mut self) -> bool {
        self.bits >>= 1;
        self.depth = self.depth.saturating_sub(1);
        if self.depth > 0 {
            return false;
        }
        match self.outer.pop() {
            Some(bits) => {
                self.bits = bits;
                self.depth = u64::BITS;
                false
            }
            None => true,
        }
    }

    fn in_object(&self) -> bool {
        self.bits & 1 == 1
    }
}

const ONES: u64 = u64::MAX / 255;
const TOPS: u64 = ONES << 7;

/// Where the next byte is that ends the plain part of a string: a quote, a backslash or a control character. The length
/// of the text, if there is none.
#[inline]
pub(super) fn special(bytes: &[u8], mut at: usize) -> usize {
    while let Some(chunk) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let word = u64::from_le_bytes(*chunk);
        // A byte's top bit is set where the byte is small enough. Borrows only spoil bytes after the first.
        let quote = word ^ (ONES * b'"' as u64);
        let backslash = word ^ (ONES * b'\\' as u64);
        let found = (quote.wrapping_sub(ONES) & !quote
            | backslash.wrapping_sub(ONES) & !backslash
            | word.wrapping_sub(ONES * 0x20) & !word)
            & TOPS;
        if found != 0 {
            return at + (found.trailing_zeros() / 8) as usize;
        }
        at += 8;
    }
    let rest = bytes.get(at..).unwrap_or_default();
    at + rest.iter().position(|byte| matches!(byte, b'"' | b'\\' | 0..=0x1f)).unwrap_or(rest.len())
}
