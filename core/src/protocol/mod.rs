//! What is said: every request, notification, server request and item of the protocol as a Rust type.
//!
//! The types are generated from the schema that the server prints of itself, one file for each area, and are all
//! reachable from here. What they have in common is written by hand: how they are read and written ([`wire`]), the
//! traits below, and the shortcuts for the types one meets every day.
//!
//! A request is a type that knows its method and what answers it:
//!
//! ```
//! use turnwire_core::protocol::{Request, ThreadList, ThreadListResponse, TurnStart};
//!
//! let list = ThreadList::new().limit(20);
//! assert_eq!(ThreadList::METHOD, "thread/list");
//! assert_eq!(serde_json::to_string(&list).unwrap(), r#"{"limit":20}"#);
//!
//! let answer: ThreadListResponse = ThreadList::decode_response(r#"{"data":[],"nextCursor":null}"#).unwrap();
//! assert!(answer.data.is_empty());
//!
//! let turn = TurnStart::new("thread-1", ["Say hello."]).model("gpt-5.5");
//! assert!(turn.experimental_fields().is_empty());
//! ```
//!
//! Unless said otherwise, times named `..At` are Unix seconds, `..AtMs` Unix milliseconds, and durations named `..Ms`
//! milliseconds. Types that a server sends grow with every release: they cannot be built with a literal, only decoded,
//! or taken from `Default` and changed. "Since" names the oldest of the servers 0.133.0, 0.144.4, 0.154.0 and 0.163.0
//! that knows a thing; without it all four do.

#[macro_use]
pub mod wire;

#[rustfmt::skip] // As the generator writes them.
mod areas;
mod everyday;

pub use crate::{
    id::{ItemId, RequestId, ThreadId, TurnId},
    json::Json,
};
pub use areas::*;
pub use everyday::TurnOutline;
pub use wire::{
    DecodeError, Entries, OneOrMany, Settable, UndecodableEntry, UndecodableItem, UndecodableVariant, UnknownItem,
    UnknownVariant, Wire, decode, encode,
};

use alloc::vec::Vec;
use core::fmt::Debug;
use serde::{Serialize, de::DeserializeOwned};

/// A request of the client: the parameters, which know their method and what answers them.
pub trait Request: Serialize {
    /// The method on the wire.
    const METHOD: &'static str;
    /// Whether the server takes it only with the experimental capability.
    const EXPERIMENTAL: bool = false;
    /// The oldest checked server that has it; `None` when all have.
    const SINCE: Option<&'static str> = None;

    /// What a successful reply decodes into.
    type Response: DeserializeOwned;

    /// Decodes a successful reply's result.
    ///
    /// # Errors
    /// When it does not fit [`Self::Response`].
    fn decode_response(text: &str) -> Result<Self::Response, DecodeError> {
        decode(text)
    }

    /// The members in use, at any depth, that the server takes only with the experimental capability.
    fn experimental_fields(&self) -> Vec<&'static str> {
        Vec::new()
    }

    /// The members in use, at any depth, that not every checked server knows, each with the oldest that does.
    fn newer_fields(&self) -> Vec<(&'static str, &'static str)> {
        Vec::new()
    }
}

/// A notification of the server.
pub trait Notification: DeserializeOwned {
    /// The method on the wire.
    const METHOD: &'static str;
    /// Whether it is sent only to clients with the experimental capability.
    const EXPERIMENTAL: bool = false;
}

/// A request of the server: the parameters, which know their method and what must answer them.
pub trait ServerRequest: DeserializeOwned {
    /// The method on the wire.
    const METHOD: &'static str;
    /// Whether it is sent only to clients with the experimental capability.
    const EXPERIMENTAL: bool = false;
    /// The result that the server expects.
    type Response: Serialize;
}

/// What is known of a request by its method alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct MethodInfo {
    /// The method on the wire.
    pub method: &'static str,
    /// Whether the server takes it only with the experimental capability.
    pub experimental: bool,
    /// The oldest checked server that has it; `None` when all have.
    pub since: Option<&'static str>,
}

/// What is known of a request; nothing of a method that is not in the schema.
#[must_use]
pub fn request_info(method: &str) -> Option<&'static MethodInfo> {
    CLIENT_REQUESTS.iter().find(|info| info.method == method)
}

/// What [`visit_request`] calls with the type of a request and of what answers it.
pub trait RequestVisitor {
    /// What comes of it.
    type Output;

    /// Called once.
    fn visit<R, A>(self) -> Self::Output
    where
        R: Request<Response = A> + DeserializeOwned + Wire + Debug,
        A: DeserializeOwned + Serialize + Wire + Debug;
}
