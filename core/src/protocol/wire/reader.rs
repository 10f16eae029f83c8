//! Reading JSON text.
//!
//! The reader accepts what serde_json accepts: it skips a value exactly when `IgnoredAny` would, and decodes a string,
//! number or boolean exactly when serde_json would decode one into the same type. A test compares the two on generated
//! text. Its errors name what was expected and where, never what was found.

use super::{Member, Wire};
use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};
use core::fmt::Write as _;

/// As deep as serde_json reads.
const MAX_DEPTH: u8 = 127;

/// One step towards a value, outermost last while an error travels up.
#[derive(Debug)]
pub(crate) enum Step {
    /// An entry of an object whose keys are the peer's: its position only.
    Entry(usize),
    /// An entry of a list.
    Index(usize),
    /// A member by its name in the protocol.
    Name(&'static str),
}

/// Why a value could not be read, and where.
#[derive(Debug)]
pub(crate) struct Fault {
    pub(crate) steps: Vec<Step>,
    pub(crate) message: &'static str,
}

impl Fault {
    /// The path in the manner of `thread.turns[3].id`.
    pub(crate) fn path(&self) -> String {
        let mut path = String::new();
        for step in self.steps.iter().rev() {
            // Writing to a string cannot fail.
            let _ = match step {
                Step::Entry(at) => write!(path, "{{{at}}}"),
                Step::Index(at) => write!(path, "[{at}]"),
                Step::Name(name) if path.is_empty() => write!(path, "{name}"),
                Step::Name(name) => write!(path, ".{name}"),
            };
        }
        path
    }
}

/// A [`Fault`] on its way up: one pointer, so that success stays cheap.
#[doc(hidden)]
#[derive(Debug)]
pub struct Failure(pub(crate) Box<Fault>);

impl Failure {
    #[cold]
    pub(crate) fn new(message: &'static str) -> Self {
        Self(Box::new(Fault { steps: Vec::new(), message }))
    }

    #[cold]
    pub(crate) fn at(mut self, step: Step) -> Self {
        self.0.steps.push(step);
        self
    }
}

pub(crate) type Outcome<T = ()> = Result<T, Failure>;

/// Text being read. Opaque; see [`Wire`].
#[derive(Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
    depth: u8,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        Self { text, at: 0, depth: 0 }
    }

    /// A reader of a part of the text this one has already passed.
    pub(crate) fn within<'b>(&self, part: &'b str) -> Reader<'b> {
        Reader { text: part, at: 0, depth: self.depth }
    }

    fn byte(&self) -> Option<u8> {
        self.text.as_bytes().get(self.at).copied()
    }

    /// The first byte of the next token.
    pub(crate) fn peek(&mut self) -> Option<u8> {
        while let Some(byte) = self.byte() {
            if !matches!(byte, b' ' | b'\n' | b'\t' | b'\r') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    fn eat(&mut self, byte: u8) -> bool {
        let found = self.peek() == Some(byte);
        if found {
            self.at += 1;
        }
        found
    }

    fn literal(&mut self, word: &str) -> bool {
        self.peek();
        let found = self.text.as_bytes().get(self.at..).is_some_and(|rest| rest.starts_with(word.as_bytes()));
        if found {
            self.at += word.len();
        }
        found
    }

    /// Passes a `null`, if it is next.
    pub(crate) fn null(&mut self) -> bool {
        self.peek() == Some(b'n') && self.literal("null")
    }

    /// Whether only white space is left.
    pub(crate) fn finish(&mut self) -> Outcome {
        if self.peek().is_none() { Ok(()) } else { Err(Failure::new("more text after the value")) }
    }

    pub(crate) fn boolean(&mut self) -> Outcome<bool> {
        if self.literal("true") {
            Ok(true)
        } else if self.literal("false") {
            Ok(false)
        } else {
            Err(Failure::new("expected true or false"))
        }
    }

    /// The text of a number, and whether it is an integer.
    pub(crate) fn number(&mut self) -> Outcome<(&'a str, bool)> {
        self.peek();
        let start = self.at;
        let integer = self.skip_number()?;
        let text = self.text.get(start..self.at).ok_or_else(|| Failure::new("expected a number"))?;
        Ok((text, integer))
    }

    fn digits(&mut self) -> Outcome {
        let start = self.at;
        while matches!(self.byte(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(Failure::new("expected a number")) }
    }

    fn skip_number(&mut self) -> Outcome<bool> {
        if self.byte() == Some(b'-') {
            self.at += 1;
        }
        if self.byte() == Some(b'0') {
            self.at += 1;
            if matches!(self.byte(), Some(b'0'..=b'9')) {
                return Err(Failure::new("a number begins with zero"));
            }
        } else {
            self.digits()?;
        }
        let mut integer = true;
        if self.byte() == Some(b'.') {
            integer = false;
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.byte(), Some(b'e' | b'E')) {
            integer = false;
            self.at += 1;
            if matches!(self.byte(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(integer)
    }

    /// Passes the plain part of a string: up to the next quote, backslash or control character.
    fn plain(&mut self) -> &'a str {
        let start = self.at;
        let rest = self.text.as_bytes().get(start..).unwrap_or_default();
        let length = rest.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20).unwrap_or(rest.len());
        self.at = start + length;
        self.text.get(start..self.at).unwrap_or_default()
    }

    fn hex4(&mut self) -> Outcome<u16> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4);
        let value = digits.and_then(|digits| {
            digits.iter().try_fold(0_u16, |value, &digit| {
                let digit = char::from(digit).to_digit(16)?;
                Some(value << 4 | u16::try_from(digit).ok()?)
            })
        });
        self.at += 4;
        value.ok_or_else(|| Failure::new("a bad escape in a string"))
    }

    fn skip_string(&mut self) -> Outcome {
        if !self.eat(b'"') {
            return Err(Failure::new("expected a string"));
        }
        loop {
            self.plain();
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(());
                }
                Some(b'\\') => {
                    self.at += 1;
                    let escape = self.byte();
                    self.at += 1;
                    match escape {
                        Some(b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't') => {}
                        Some(b'u') => {
                            self.hex4()?;
                        }
                        _ => return Err(Failure::new("a bad escape in a string")),
                    }
                }
                Some(_) => return Err(Failure::new("a control character in a string")),
                None => return Err(Failure::new("the text ends inside a string")),
            }
        }
    }

    /// A string, borrowed when it has no escapes.
    pub(crate) fn string(&mut self) -> Outcome<Cow<'a, str>> {
        if !self.eat(b'"') {
            return Err(Failure::new("expected a string"));
        }
        let plain = self.plain();
        if self.byte() == Some(b'"') {
            self.at += 1;
            return Ok(Cow::Borrowed(plain));
        }
        let mut text = String::from(plain);
        loop {
            match self.byte() {
                Some(b'"') => {
                    self.at += 1;
                    return Ok(Cow::Owned(text));
                }
                Some(b'\\') => {
                    self.at += 1;
                    text.push(self.escape()?);
                }
                Some(_) => return Err(Failure::new("a control character in a string")),
                None => return Err(Failure::new("the text ends inside a string")),
            }
            text.push_str(self.plain());
        }
    }

    fn escape(&mut self) -> Outcome<char> {
        let escape = self.byte();
        self.at += 1;
        Ok(match escape {
            Some(byte @ (b'"' | b'\\' | b'/')) => char::from(byte),
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(b'n') => '\n',
            Some(b'r') => '\r',
            Some(b't') => '\t',
            Some(b'u') => {
                let first = self.hex4()?;
                let second = if (0xD800..0xDC00).contains(&first) {
                    if self.byte() != Some(b'\\') {
                        return Err(Failure::new("half a surrogate pair in a string"));
                    }
                    self.at += 1;
                    if self.byte() != Some(b'u') {
                        return Err(Failure::new("half a surrogate pair in a string"));
                    }
                    self.at += 1;
                    Some(self.hex4()?)
                } else {
                    None
                };
                let units = core::iter::once(first).chain(second);
                match char::decode_utf16(units).next() {
                    Some(Ok(symbol)) => symbol,
                    _ => return Err(Failure::new("half a surrogate pair in a string")),
                }
            }
            _ => return Err(Failure::new("a bad escape in a string")),
        })
    }

    /// Passes one value of any kind and any depth.
    pub(crate) fn skip(&mut self) -> Outcome {
        // What closes the containers that are open: no recursion, so that depth costs a byte each.
        let mut open = Vec::new();
        loop {
            match self.peek() {
                Some(b'"') => self.skip_string()?,
                Some(b'-' | b'0'..=b'9') => {
                    self.skip_number()?;
                }
                Some(b't') if self.literal("true") => {}
                Some(b'f') if self.literal("false") => {}
                Some(b'n') if self.literal("null") => {}
                Some(b'[') => {
                    self.at += 1;
                    if !self.eat(b']') {
                        open.push(b']');
                        continue;
                    }
                }
                Some(b'{') => {
                    self.at += 1;
                    if !self.eat(b'}') {
                        open.push(b'}');
                        self.skip_key()?;
                        continue;
                    }
                }
                _ => return Err(Failure::new("expected a value")),
            }
            loop {
                let Some(&close) = open.last() else { return Ok(()) };
                if self.eat(close) {
                    open.pop();
                } else if self.eat(b',') {
                    if close == b'}' {
                        self.skip_key()?;
                    }
                    break;
                } else {
                    return Err(Failure::new("expected a comma or an end"));
                }
            }
        }
    }

    fn skip_key(&mut self) -> Outcome {
        self.peek();
        self.skip_string()?;
        if self.eat(b':') { Ok(()) } else { Err(Failure::new("expected a colon")) }
    }

    /// The text of the next value.
    pub(crate) fn raw(&mut self) -> Outcome<&'a str> {
        self.peek();
        let start = self.at;
        self.skip()?;
        self.text.get(start..self.at).ok_or_else(|| Failure::new("expected a value"))
    }

    /// The text of the next value with that of its member `tag`, when the one is an object and the other a string; of
    /// several, the last.
    pub(crate) fn tagged(&mut self, tag: &str) -> Outcome<(&'a str, Option<Cow<'a, str>>)> {
        if self.peek() != Some(b'{') {
            return Ok((self.raw()?, None));
        }
        let start = self.at;
        let mut found = None;
        self.object(|reader, key| {
            if key == tag && reader.peek() == Some(b'"') {
                // The value is known to be a string, so that it can only fail to be a sound one: then it is no tag.
                let value = reader.raw()?;
                found = Reader::new(value).string().ok().or(found.take());
                Ok(())
            } else {
                reader.skip()
            }
        })?;
        let raw = self.text.get(start..self.at).ok_or_else(|| Failure::new("expected a value"))?;
        Ok((raw, found))
    }

    fn enter(&mut self) -> Outcome {
        self.depth += 1;
        if self.depth > MAX_DEPTH { Err(Failure::new("nested too deeply")) } else { Ok(()) }
    }

    /// Walks an object. The callback must pass each value.
    pub(crate) fn object(&mut self, mut visit: impl FnMut(&mut Self, Cow<'a, str>) -> Outcome) -> Outcome {
        self.object_dyn(&mut visit)
    }

    fn object_dyn(&mut self, visit: &mut dyn FnMut(&mut Self, Cow<'a, str>) -> Outcome) -> Outcome {
        if !self.eat(b'{') {
            return Err(Failure::new("expected an object"));
        }
        self.enter()?;
        if !self.eat(b'}') {
            loop {
                self.peek();
                let key = self.string()?;
                if !self.eat(b':') {
                    return Err(Failure::new("expected a colon"));
                }
                visit(self, key)?;
                if self.eat(b'}') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(Failure::new("expected a comma or an end"));
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Walks a list. The callback must pass each value.
    pub(crate) fn array(&mut self, visit: &mut dyn FnMut(&mut Self, usize) -> Outcome) -> Outcome {
        if !self.eat(b'[') {
            return Err(Failure::new("expected a list"));
        }
        self.enter()?;
        if !self.eat(b']') {
            let mut index = 0;
            loop {
                visit(self, index).map_err(|failure| failure.at(Step::Index(index)))?;
                index += 1;
                if self.eat(b']') {
                    break;
                }
                if !self.eat(b',') {
                    return Err(Failure::new("expected a comma or an end"));
                }
            }
        }
        self.depth -= 1;
        Ok(())
    }

    /// Reads an object into the members of a type: `fields` stands in the order of `table`.
    pub(crate) fn members(&mut self, table: &[Member], fields: &mut [&mut dyn Wire]) -> Outcome {
        debug_assert!(table.len() <= 128 && table.len() == fields.len());
        let mut seen = 0_u128;
        // Peers write members in a fixed order, mostly that of the table: look from the last hit onwards first.
        let mut next = 0;
        if !self.null() {
            self.object(|reader, key| {
                let (before, after) = table.split_at(next.min(table.len()));
                let Some(at) = after
                    .iter()
                    .position(|member| member.name == key)
                    .map(|at| at + before.len())
                    .or_else(|| before.iter().position(|member| member.name == key))
                else {
                    return reader.skip();
                };
                next = at + 1;
                let (Some(member), Some(field)) = (table.get(at), fields.get_mut(at)) else {
                    return reader.skip();
                };
                let name = || Step::Name(member.name);
                if seen >> at & 1 == 1 {
                    return Err(Failure::new("given twice").at(name()));
                }
                seen |= 1 << at;
                if member.required && reader.peek() == Some(b'n') {
                    return Err(Failure::new("must not be null").at(name()));
                }
                field.fill(reader).map_err(|failure| failure.at(name()))
            })?;
        }
        match table.iter().enumerate().find(|(at, member)| member.required && seen >> at & 1 == 0) {
            Some((_, member)) => Err(Failure::new("missing").at(Step::Name(member.name))),
            None => Ok(()),
        }
    }
}

/// The value of the member `tag` of the object `raw`, when that is a string; of several, the last.
pub(crate) fn tag_of<'a>(raw: &'a str, tag: &str) -> Outcome<Option<Cow<'a, str>>> {
    Reader::new(raw).tagged(tag).map(|(_, tag)| tag)
}
