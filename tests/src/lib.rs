//! What it takes to test a program that drives the Codex agent, without the agent. For `[dev-dependencies]`.
//!
//! - [`scripted`]: a fake app-server that plays a script, as a machine on a virtual clock, over in-memory pipes, or as a
//!   program in place of `codex`. Faults are steps of a script: garbage, half lines, delays, silence, a full pipe, an exit.
//! - [`recorded`]: a recorded app-server that says again what it said; a tape to record on; and a check that what was said fits the
//!   types of the protocol.
//! - [`sim`]: the connection against the scripted server on a simulated wire that splits, delays, stalls and cuts, on one virtual
//!   clock, from one seed.
//! - [`stand_in`]: a program that is its own fake server, as the examples are.
//! - [`model`]: a fake model behind a real server: a local endpoint that streams what a test tells it to.
//! - [`real`]: finding the real server, and giving it a home where it disturbs nothing and nobody disturbs it.
//! - [`replay`]: a fake app-server that streams prepared bytes, for benches.
//!
//! # A scripted server
//!
//! ```
//! use turnwire_blocking::protocol::ThreadStart;
//! use turnwire_testkit::scripted::{Rule, Script, TurnPlan, serve_duplex};
//!
//! let script = Script::new()
//!     .turn(TurnPlan::when("tests").command("cargo test", "ok", 0).with_approval().text("I was not allowed to."))
//!     .rule(Rule::on("model/list").reply_error(-32001, "Server overloaded"));
//! let (reader, writer, server) = serve_duplex(script);
//!
//! // The program under test.
//! let codex = turnwire_blocking::connect(reader, writer).unwrap();
//! let thread = codex.thread_start(ThreadStart::new()).unwrap();
//! let result = thread.run("Run the tests.").unwrap();
//! assert_eq!(result.final_response.as_deref(), Some("I was not allowed to."));
//! assert!(codex.models().unwrap_err().is_retryable());
//! codex.close();
//!
//! // What it said to the server.
//! assert_eq!(server.with(|server| server.received_params("turn/start").len()), 1);
//! ```
//!
//! # Recording
//!
//! The recorder is turnwire's own: every program can have one. [`recorded::Tape`] keeps what it writes where a test can look
//! at it; its documentation records a session, replays it, and checks it against the types. What is written is
//! redacted unless [`unredacted`](turnwire_core::record) is asked for by name.
//!
//! # Replaying
//!
//! A [`Replay`](turnwire_core::record::Replay) lives through a recording without a program: what turnwire itself makes of it. To run a
//! program against a recording, put [`recorded::recorded_duplex`] or the program `turnwire-recorded-server` in the server's place; the
//! documentation of [`recorded`] does. Both say where something else is written than was recorded, by record number.

pub mod model;
pub mod real;
pub mod recorded;
pub mod replay;
pub mod scripted;
pub mod sim;
pub mod stand_in;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
