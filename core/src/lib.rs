//! The core of turnwire: what it takes to drive the Codex agent, but for moving bytes.
//!
//! - [`protocol`]: what is said, as types generated from the server's own schema.
//! - [`frame`], [`envelope`]: bytes to lines, lines to messages.
//! - [`connection`]: who waits for what; the whole protocol as one state machine without I/O.
//! - [`turn`]: one turn from its start to its single end.
//! - [`record`]: what was said, as a file, and a file to be played again.
//! - [`launch`]: what to start and how to end it, as data.
//! - [`client`] and [`driver`], with the feature `client`: the typed API that people use, and the loop that moves bytes over
//!   whatever transport a runtime supplies.
//!
//! Programs take `turnwire-tokio`, `turnwire-smol` or `turnwire-blocking`, which are thin around this. Who has another
//! runtime implements [`driver::Transport`]; who wants neither threads nor futures drives a
//! [`Connection`](connection::Connection) by hand.
//!
//! Without the feature `client` the crate is `no_std` with `alloc`: the compiler itself proves that what is left does no
//! I/O. Time there is a number ([`time::Time`]) that the caller supplies.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "client")]
pub mod client;
pub mod connection;
#[cfg(feature = "client")]
pub mod driver;
pub mod envelope;
pub mod error;
#[cfg(feature = "client")]
pub mod exports;
pub mod frame;
#[cfg(any(test, feature = "fuzzing"))]
#[doc(hidden)]
pub mod fuzzing;
pub mod id;
pub mod json;
pub mod launch;
mod numbers;
pub mod protocol;
#[cfg(doc)]
#[doc = include_str!("../docs/python-parity.md")]
pub mod python_parity {}
pub mod record;
pub mod retry;
pub mod sandbox;
pub mod schema;
pub mod time;
pub mod turn;
