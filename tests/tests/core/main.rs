//! The pure core, line by line: no process, no thread, no clock but the one that the test moves.

#![allow(missing_docs, reason = "a test suite documents itself by the names of its tests")]
#![allow(clippy::print_stderr, reason = "how much was cut, for who wants all of it")]

mod asked_oddly;
mod asks;
mod backpressure;
mod corners;
#[path = "../cut/mod.rs"]
mod cut;
mod cuts;
mod edges;
mod found;
mod framing;
mod handshake;
mod kin;
mod lab;
mod logins;
mod loss;
mod odd;
mod pieces;
mod record;
mod requests;
mod routing;
mod sandbox;
mod sessions;
mod threads;
mod turn_options;
mod turns;
