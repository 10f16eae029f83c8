//! Writing JSON text, and the two other things that a walk over a value's members is good for: a description for
//! `Debug` that holds no text of a user, and the list of gated members that are in use.

use super::{Member, Reader, Wire, reader::Failure};
use crate::json::Json;
use alloc::{string::String, vec::Vec};
use core::fmt::Write as _;

/// A member or variant in use that not every server takes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Gate {
    pub(crate) name: &'static str,
    pub(crate) experimental: bool,
    pub(crate) since: Option<&'static str>,
}

/// Text being written. Opaque; see [`Wire`].
#[derive(Debug, Default)]
pub struct Writer {
    out: String,
    /// Strings become their lengths.
    redacted: bool,
    /// Written first into the next object.
    tag: Option<(&'static str, &'static str)>,
    gates: Option<Vec<Gate>>,
}

/// The text of a value.
pub(crate) fn text(value: &dyn Wire) -> String {
    let mut writer = Writer::default();
    value.put(&mut writer);
    writer.out
}

/// The value with its strings replaced by their lengths.
pub(crate) fn redacted(value: &dyn Wire) -> String {
    let mut writer = Writer { redacted: true, ..Writer::default() };
    value.put(&mut writer);
    writer.out
}

/// The gated members in use, at any depth.
pub(crate) fn gates(value: &dyn Wire) -> Vec<Gate> {
    let mut writer = Writer { redacted: true, gates: Some(Vec::new()), ..Writer::default() };
    value.put(&mut writer);
    writer.gates.unwrap_or_default()
}

impl Writer {
    /// JSON text that is known to be whole.
    pub(crate) fn raw(&mut self, text: &str) {
        if self.redacted {
            let _ = write!(self.out, "<{} bytes of json>", text.len());
        } else {
            self.out.push_str(text);
        }
    }

    /// Text that is nobody's secret: numbers, literals.
    pub(crate) fn plain(&mut self, text: core::fmt::Arguments<'_>) {
        let _ = self.out.write_fmt(text);
    }

    /// A string.
    pub(crate) fn string(&mut self, text: &str) {
        if self.redacted {
            let _ = write!(self.out, "<{} bytes>", text.len());
        } else {
            self.word(text);
        }
    }

    /// A string that may be shown: an id, or a word of the protocol.
    pub(crate) fn word(&mut self, text: &str) {
        self.out.push('"');
        let mut start = 0;
        for (at, byte) in text.bytes().enumerate() {
            let escape = match byte {
                b'"' => "\\\"",
                b'\\' => "\\\\",
                b'\n' => "\\n",
                b'\r' => "\\r",
                b'\t' => "\\t",
                0x08 => "\\b",
                0x0c => "\\f",
                0..0x20 => "",
                _ => continue,
            };
            self.out.push_str(text.get(start..at).unwrap_or_default());
            if escape.is_empty() {
                let _ = write!(self.out, "\\u{byte:04x}");
            } else {
                self.out.push_str(escape);
            }
            start = at + 1;
        }
        self.out.push_str(text.get(start..).unwrap_or_default());
        self.out.push('"');
    }

    /// Notes the use of something gated.
    pub(crate) fn gate(&mut self, gate: Gate) {
        if let Some(gates) = &mut self.gates {
            gates.push(gate);
        }
    }

    /// An object of a union: the tag goes first.
    pub(crate) fn tagged(&mut self, tag: &'static str, kind: &'static str, value: &dyn Wire) {
        self.tag = Some((tag, kind));
        value.put(self);
        self.tag = None;
    }

    fn begin(&mut self) -> bool {
        self.out.push('{');
        let tag = self.tag.take();
        if let Some((tag, kind)) = tag {
            self.word(tag);
            self.out.push(':');
            self.word(kind);
        }
        tag.is_none()
    }

    fn entry(&mut self, first: &mut bool, shown: bool, key: &str, value: &dyn Wire) -> bool {
        let before = self.out.len();
        if !*first {
            self.out.push(',');
        }
        if shown {
            self.word(key);
        } else {
            self.string(key);
        }
        self.out.push(':');
        let empty = self.out.len();
        value.put(self);
        let written = self.out.len() > empty;
        if written {
            *first = false;
        } else {
            self.out.truncate(before);
        }
        written
    }

    /// Writes a type's members: `fields` stands in the order of `table`. Absent members are left out.
    pub(crate) fn members(&mut self, table: &[Member], fields: &[&dyn Wire]) {
        let mut first = self.begin();
        for (member, field) in table.iter().zip(fields) {
            let written = self.entry(&mut first, true, member.name, *field);
            if written && (member.experimental || member.since.is_some()) {
                self.gate(Gate { name: member.name, experimental: member.experimental, since: member.since });
            }
        }
        self.out.push('}');
    }

    /// One entry of an object: `{"key": value}`.
    pub(crate) fn single(&mut self, key: &str, value: &dyn Wire) {
        self.out.push('{');
        self.entry(&mut true, true, key, value);
        self.out.push('}');
    }

    /// An object whose keys are text.
    pub(crate) fn map<'a>(&mut self, entries: &mut dyn Iterator<Item = (&'a str, &'a dyn Wire)>) {
        let mut first = self.begin();
        for (key, value) in entries {
            if !self.entry(&mut first, false, key, value) {
                self.entry(&mut first, false, key, &Json::null());
            }
        }
        self.out.push('}');
    }

    /// A list.
    pub(crate) fn array(&mut self, entries: &mut dyn Iterator<Item = &dyn Wire>) {
        self.out.push('[');
        let mut first = true;
        for entry in entries {
            if !first {
                self.out.push(',');
            }
            first = false;
            let before = self.out.len();
            entry.put(self);
            if self.out.len() == before {
                self.out.push_str("null");
            }
        }
        self.out.push(']');
    }

    /// A value that was kept as it came; when text is hidden, `why` it was kept and its kind describe it.
    pub(crate) fn kept(&mut self, why: &str, kind: &str, raw: &Json) {
        if self.redacted {
            let _ = write!(self.out, "<{why} {kind}: {} bytes of json>", raw.as_str().len());
        } else {
            self.out.push_str(raw.as_str());
        }
    }
}

/// A word that a table knows.
pub(crate) struct Word(pub(crate) &'static str);

impl Wire for Word {
    fn fill(&mut self, _: &mut Reader<'_>) -> Result<(), Failure> {
        Err(Failure::new("a fixed word cannot be read"))
    }

    fn put(&self, writer: &mut Writer) {
        writer.word(self.0);
    }
}
