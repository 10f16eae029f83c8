//! How the protocol's types are read and written.
//!
//! Eight hundred types meet the same few dozen shapes, so the work is done by tables rather than by code made for each
//! type: a type lists its members, and one reader and one writer walk the list through [`Wire`], an object-safe trait.
//! Nothing here is generic over a deserializer, which keeps the cost of compiling the protocol small, and nothing
//! buffers a value to look at it twice: a tagged value is scanned for its tag in the borrowed text.
//!
//! The rules for what is read, at every depth:
//! - members that no type knows are skipped; a member given twice is an error;
//! - a missing member, or `null`, is the default of its type, except for ids and status, which must be there;
//! - an unknown word, tag or method is kept and written back as it came (`words!`, `union!`, `mixed!`);
//! - a tagged value that does not fit its type is kept with the reason, and a list keeps its readable entries.
//!
//! This module never reads a clock, does no I/O, and never puts a peer's text into an error or a `Debug` output.

#[macro_use]
mod macros;
mod decode;
mod open;
mod reader;
#[cfg(test)]
mod tests;
mod values;
mod writer;

pub use decode::{DecodeError, decode, encode};
pub use open::{
    Entries, OneOrMany, Settable, UndecodableEntry, UndecodableItem, UndecodableVariant, UnknownItem, UnknownVariant,
};
pub use reader::Reader;
pub use writer::Writer;

pub(crate) use decode::{debug, deserialize, experimental_fields, newer_fields, read, serialize, to_json};
pub(crate) use open::{decode_named, decode_variant, kind_of};
pub(crate) use reader::Outcome;
pub(crate) use values::json;
pub(crate) use writer::{Gate, Word};

/// A value that can be read from and written to the wire.
///
/// Implemented by the types of [`protocol`](crate::protocol) and the values their members have. Use [`decode`] and
/// [`encode`], or serde, which every type of the protocol supports too.
pub trait Wire {
    /// Replaces `self` by what the reader holds.
    #[doc(hidden)]
    fn fill(&mut self, reader: &mut Reader<'_>) -> Result<(), reader::Failure>;

    /// Writes the value; writes nothing at all when it is absent.
    #[doc(hidden)]
    fn put(&self, writer: &mut Writer);
}

/// One row of a type's table of members.
#[derive(Clone, Copy)]
pub(crate) struct Member {
    /// The name on the wire.
    pub(crate) name: &'static str,
    /// Decoding fails without it.
    pub(crate) required: bool,
    /// Sending it needs the experimental capability.
    pub(crate) experimental: bool,
    /// The oldest checked version that knows it, when not all do.
    pub(crate) since: Option<&'static str>,
}
