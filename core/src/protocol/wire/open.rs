//! What keeps the protocol open: values that no type knows yet, values that do not fit, and values that may be absent,
//! null or there.

use super::{
    DecodeError, Outcome, Reader, Wire, Writer,
    reader::{Failure, tag_of},
    values::json,
};
use crate::{id::ItemId, json::Json};
use alloc::{borrow::Cow, boxed::Box, string::String, vec::Vec};
use core::ops::Deref;

/// A member where leaving it out, sending `null` and sending a value mean three different things.
///
/// For most such members absent keeps what is set, and `null` resets it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Settable<T> {
    /// Left out of the request.
    #[default]
    Absent,
    /// Sent as `null`.
    Null,
    /// Sent as this value.
    Value(T),
}

impl<T> Settable<T> {
    /// The value, if there is one.
    #[must_use]
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Absent | Self::Null => None,
        }
    }

    /// Whether the member is left out.
    #[must_use]
    pub fn is_absent(&self) -> bool {
        matches!(self, Self::Absent)
    }

    /// Whether the member is `null`.
    #[must_use]
    pub fn is_null(&self) -> bool {
        matches!(self, Self::Null)
    }
}

impl<T> From<T> for Settable<T> {
    fn from(value: T) -> Self {
        Self::Value(value)
    }
}

impl From<&str> for Settable<String> {
    fn from(text: &str) -> Self {
        Self::Value(text.into())
    }
}

impl<T: Wire + Default> Wire for Settable<T> {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        *self = if reader.null() {
            Self::Null
        } else {
            let mut value = T::default();
            value.fill(reader)?;
            Self::Value(value)
        };
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        match self {
            Self::Absent => {}
            Self::Null => writer.plain(format_args!("null")),
            Self::Value(value) => value.put(writer),
        }
    }
}

/// One text or several, where the protocol takes either.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OneOrMany {
    /// A list.
    Many(Vec<String>),
    /// One text.
    One(String),
}

impl Default for OneOrMany {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl From<&str> for OneOrMany {
    fn from(text: &str) -> Self {
        Self::One(text.into())
    }
}

impl From<String> for OneOrMany {
    fn from(text: String) -> Self {
        Self::One(text)
    }
}

impl From<Vec<String>> for OneOrMany {
    fn from(texts: Vec<String>) -> Self {
        Self::Many(texts)
    }
}

impl Wire for OneOrMany {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if reader.peek() == Some(b'[') {
            let mut texts = Vec::new();
            texts.fill(reader)?;
            *self = Self::Many(texts);
        } else {
            *self = Self::One(reader.string()?.into_owned());
        }
        Ok(())
    }

    fn put(&self, writer: &mut Writer) {
        match self {
            Self::Many(texts) => texts.put(writer),
            Self::One(text) => text.put(writer),
        }
    }
}

/// A list that was decoded entry by entry: an entry that does not fit costs itself, not the list.
///
/// It dereferences to the entries that did decode, in their order; the others are in
/// [`undecodable`](Self::undecodable). Encoding puts every entry back where it was.
#[derive(Clone, PartialEq)]
pub struct Entries<T> {
    decoded: Vec<T>,
    undecodable: Vec<UndecodableEntry>,
}

/// An entry of a list that does not fit its type.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UndecodableEntry {
    /// Its position in the list as it was sent.
    pub index: usize,
    /// The entry as it came.
    pub raw: Json,
    /// Why it does not fit.
    pub reason: DecodeError,
}

impl<T> Entries<T> {
    /// The entries that did not decode.
    #[must_use]
    pub fn undecodable(&self) -> &[UndecodableEntry] {
        &self.undecodable
    }

    /// The decoded entries, as a vector.
    #[must_use]
    pub fn into_vec(self) -> Vec<T> {
        self.decoded
    }
}

impl<T> Default for Entries<T> {
    fn default() -> Self {
        Self { decoded: Vec::new(), undecodable: Vec::new() }
    }
}

impl<T> Deref for Entries<T> {
    type Target = [T];

    fn deref(&self) -> &[T] {
        &self.decoded
    }
}

impl<T> From<Vec<T>> for Entries<T> {
    fn from(decoded: Vec<T>) -> Self {
        Self { decoded, undecodable: Vec::new() }
    }
}

impl<T> FromIterator<T> for Entries<T> {
    fn from_iter<I: IntoIterator<Item = T>>(entries: I) -> Self {
        Self::from(entries.into_iter().collect::<Vec<T>>())
    }
}

impl<T> IntoIterator for Entries<T> {
    type Item = T;
    type IntoIter = alloc::vec::IntoIter<T>;

    fn into_iter(self) -> Self::IntoIter {
        self.decoded.into_iter()
    }
}

impl<'a, T> IntoIterator for &'a Entries<T> {
    type Item = &'a T;
    type IntoIter = core::slice::Iter<'a, T>;

    fn into_iter(self) -> Self::IntoIter {
        self.decoded.iter()
    }
}

impl<T: core::fmt::Debug> core::fmt::Debug for Entries<T> {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_list().entries(&self.decoded).entries(&self.undecodable).finish()
    }
}

impl<T: Wire + Default> Wire for Entries<T> {
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), Failure> {
        if reader.null() {
            return Ok(());
        }
        reader.array(&mut |reader, index| {
            let raw = reader.raw()?;
            let mut entry = T::default();
            match entry.fill(&mut reader.within(raw)) {
                Ok(()) => self.decoded.push(entry),
                Err(failure) => {
                    self.undecodable.push(UndecodableEntry { index, raw: json(raw)?, reason: failure.into() });
                }
            }
            Ok(())
        })
    }

    fn put(&self, writer: &mut Writer) {
        let mut decoded = self.decoded.iter();
        let mut undecodable = self.undecodable.iter().peekable();
        let mut index = 0;
        writer.array(&mut core::iter::from_fn(|| {
            let next = match undecodable.next_if(|entry| entry.index <= index) {
                Some(entry) => Some(entry as &dyn Wire),
                None => match decoded.next() {
                    Some(entry) => Some(entry as &dyn Wire),
                    None => undecodable.next().map(|entry| entry as &dyn Wire),
                },
            };
            index += 1;
            next
        }));
    }
}

impl Wire for UndecodableEntry {
    fn fill(&mut self, _: &mut Reader<'_>) -> Result<(), Failure> {
        Err(Failure::new("an undecodable entry cannot be read"))
    }

    fn put(&self, writer: &mut Writer) {
        writer.kept("undecodable", "entry", &self.raw);
    }
}

/// How a union keeps a tagged value whose tag it does not know.
pub(crate) trait Unrecognized {
    fn keep(raw: &str, kind: Box<str>) -> Outcome<Self>
    where
        Self: Sized;
}

/// How a union keeps a value that does not fit its variant.
pub(crate) trait Undecoded {
    fn keep(raw: &str, kind: Box<str>, reason: DecodeError) -> Outcome<Self>
    where
        Self: Sized;
}

/// A value with a tag that is not in the schema: newer than this crate, most likely.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnknownVariant {
    /// The tag.
    pub kind: Box<str>,
    /// The whole value, written back as it came.
    pub raw: Json,
}

impl UnknownVariant {
    /// A value that this crate has no variant for, to be sent as it is.
    ///
    /// # Errors
    /// When the text is no JSON object.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        let mut kind = Box::default();
        Reader::new(text).object(|reader, key| {
            if key == "type" && reader.peek() == Some(b'"') {
                kind = Box::from(&*reader.string()?);
                Ok(())
            } else {
                reader.skip()
            }
        })?;
        Ok(Self { kind, raw: json(text)? })
    }
}

impl Default for UnknownVariant {
    fn default() -> Self {
        Self { kind: Box::default(), raw: Json::null() }
    }
}

impl Unrecognized for UnknownVariant {
    fn keep(raw: &str, kind: Box<str>) -> Outcome<Self> {
        Ok(Self { kind, raw: json(raw)? })
    }
}

/// A value that does not fit the type its tag names.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UndecodableVariant {
    /// The tag; empty when there was none.
    pub kind: Box<str>,
    /// The whole value, written back as it came.
    pub raw: Json,
    /// Why it does not fit.
    pub reason: DecodeError,
}

impl Undecoded for UndecodableVariant {
    fn keep(raw: &str, kind: Box<str>, reason: DecodeError) -> Outcome<Self> {
        Ok(Self { kind, raw: json(raw)?, reason })
    }
}

/// An item of a kind that is not in the schema.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UnknownItem {
    /// Its id, if it has one.
    pub id: Option<ItemId>,
    /// Its `type`.
    pub kind: Box<str>,
    /// The whole item, written back as it came.
    pub raw: Json,
}

impl Default for UnknownItem {
    fn default() -> Self {
        Self { id: None, kind: Box::default(), raw: Json::null() }
    }
}

impl Unrecognized for UnknownItem {
    fn keep(raw: &str, kind: Box<str>) -> Outcome<Self> {
        Ok(Self { id: id_of(raw), kind, raw: json(raw)? })
    }
}

/// An item that does not fit the type its kind names.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct UndecodableItem {
    /// Its id, if that much could be read.
    pub id: Option<ItemId>,
    /// Its `type`; empty when there was none.
    pub kind: Box<str>,
    /// The whole item, written back as it came.
    pub raw: Json,
    /// Why it does not fit.
    pub reason: DecodeError,
}

impl Undecoded for UndecodableItem {
    fn keep(raw: &str, kind: Box<str>, reason: DecodeError) -> Outcome<Self> {
        Ok(Self { id: id_of(raw), kind, raw: json(raw)?, reason })
    }
}

fn id_of(raw: &str) -> Option<ItemId> {
    tag_of(raw, "id").ok().flatten().map(|id| ItemId::from(&*id))
}

/// Reads one tagged value: `variant` fills the variant of a known tag and says `None` for an unknown one.
pub(crate) fn decode_variant<T, N: Unrecognized, D: Undecoded>(
    reader: &mut Reader<'_>,
    tag: &str,
    variant: impl FnOnce(&str, &mut Reader<'_>) -> Option<Outcome<T>>,
    unknown: impl FnOnce(N) -> T,
    undecodable: impl FnOnce(D) -> T,
) -> Outcome<T> {
    let (raw, kind) = reader.tagged(tag)?;
    let (kind, reason) = match kind {
        Some(kind) => match variant(&kind, &mut reader.within(raw)) {
            Some(Ok(value)) => return Ok(value),
            Some(Err(failure)) => (Box::from(&*kind), failure),
            None => return N::keep(raw, Box::from(&*kind)).map(unknown),
        },
        None if raw.starts_with('{') => (Box::default(), Failure::new("has no tag")),
        None => (Box::default(), Failure::new("expected an object")),
    };
    D::keep(raw, kind, reason.into()).map(undecodable)
}

/// Reads `{"name": value}` where the name says what the value is. `None` when no known name is there or its value does
/// not fit.
pub(crate) fn decode_named<T>(
    raw: &str,
    mut variant: impl FnMut(&str, &mut Reader<'_>) -> Option<Outcome<T>>,
) -> Option<T> {
    let mut found = None;
    let whole = Reader::new(raw).object(|reader, key| {
        let value = reader.raw()?;
        if found.is_none() {
            found = variant(&key, &mut Reader::new(value));
        }
        Ok(())
    });
    whole.and(found?).ok()
}

/// The word that `raw` is, or the name of its first member.
pub(crate) fn kind_of(raw: &str) -> Cow<'_, str> {
    let mut reader = Reader::new(raw);
    if let Ok(word) = reader.string() {
        return word;
    }
    let mut name = None;
    let whole = Reader::new(raw).object(|reader, key| {
        name.get_or_insert(key);
        reader.skip()
    });
    whole.ok().and(name).unwrap_or_default()
}
