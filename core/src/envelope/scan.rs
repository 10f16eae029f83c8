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
    let mut scanner = Scanner { text, at: 0 };
    let mut line = Line::default();
    scanner.members(|scanner, name| {
        match &*name.text().ok_or(Bad)? {
            "method" => line.method = scanner.text()?,
            "params" => {
                line.keys = Keys::default();
                line.has_unreadable_params = false;
                let from = scanner.at;
                if scanner.peek() == Some(b'{') {
                    line.has_unreadable_params = !scanner.keys(&mut line.keys)?;
                } else {
                    scanner.skip()?;
                }
                line.params = Some(scanner.since(from));
            }
            "emittedAtMs" => line.emitted_at_ms = scanner.int()?,
            "id" => line.id = Some(scanner.value()?),
            "result" => line.result = Some(scanner.value()?),
            "error" => line.error = Some(scanner.value()?),
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    scanner.skip_space();
    if scanner.at == text.len() { Ok(line) } else { Err(Bad) }
}

/// Reads the keys of an object. `None` if it cannot be read through.
pub(super) fn keys(text: &str) -> Option<Keys<'_>> {
    let mut scanner = Scanner { text, at: 0 };
    let mut keys = Keys::default();
    scanner.keys(&mut keys).is_ok_and(|is_readable| is_readable).then_some(keys)
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
    #[inline]
    fn peek(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    #[inline]
    fn since(&self, from: usize) -> JsonText<'a> {
        JsonText(self.text.get(from..self.at).unwrap_or_default())
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

    /// Reads an object: at each of its members calls `member` with the name, at the beginning of the value.
    #[inline]
    fn members(&mut self, mut member: impl FnMut(&mut Self, Quoted<'a>) -> Result<(), Bad>) -> Result<(), Bad> {
        if self.peek() != Some(b'{') {
            return Err(Bad);
        }
        self.at += 1;
        let mut next = self.take()?;
        if next == b'}' {
            return Ok(());
        }
        loop {
            if next != b'"' {
                return Err(Bad);
            }
            let name = self.quoted()?;
            if self.take()? != b':' {
                return Err(Bad);
            }
            self.skip_space();
            member(self, name)?;
            match self.take()? {
                b',' => next = self.take()?,
                b'}' => return Ok(()),
                _ => return Err(Bad),
            }
        }
    }

    /// Reads the keys of an object. Says whether every name in it is a text.
    fn keys(&mut self, keys: &mut Keys<'a>) -> Result<bool, Bad> {
        let mut is_readable = true;
        let (mut item, mut thread, mut turn, mut state) = (None, None, None, None);
        self.members(|scanner, name| {
            let Some(name) = name.text() else {
                is_readable = false;
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
                "item" => item = Some(scanner.named()?),
                "status" => state = Some(scanner.named()?),
                "thread" => thread = Some(scanner.named()?),
                "turn" => turn = Some(scanner.named()?),
                _ => {
                    keys.has_others = true;
                    scanner.skip()?;
                }
            }
            Ok(())
        })?;
        if let Some(item) = item {
            keys.has_others = true;
            keys.item_id = keys.item_id.take().or(item.id);
        }
        if let Some(thread) = thread {
            keys.has_others = true;
            keys.thread_id = keys.thread_id.take().or(thread.id);
        }
        if let Some(state) = state {
            keys.has_others = true;
            keys.status = state.kind;
        }
        if let Some(turn) = turn {
            keys.has_others = true;
            keys.turn_id = keys.turn_id.take().or(turn.id);
            keys.root_turn_id = turn.root_turn_id;
            keys.status = keys.status.take().or(turn.status);
        }
        Ok(is_readable)
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
        Ok(self.value()?.get().parse().ok())
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
fn special(bytes: &[u8], mut at: usize) -> usize {
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
