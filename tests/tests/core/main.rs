//! The pure core, line by line: no process, no thread, no clock but the one that the test moves.

#![allow(missing_docs, reason = "a test suite documents itself by the names of its tests")]

mod corners;
#[path = "../cut/mod.rs"]
mod cut;
mod cuts;
mod framing;
mod handshake;
mod kin;
mod lab;
mod loss;
mod record;
mod requests;
mod routing;
mod turns;
