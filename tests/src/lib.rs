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
//! On tokio and smol the two talk over a pair of sockets:
//!
//! ```
//! use std::{io, os::unix::net::UnixStream};
//! use turnwire_testkit::scripted::{Script, Serving, serve};
//!
//! async fn on_tokio(script: Script) -> io::Result<(turnwire_tokio::Codex, Serving)> {
//!     let (ours, theirs) = UnixStream::pair()?;
//!     let server = serve(theirs.try_clone()?, theirs, script);
//!     ours.set_nonblocking(true)?;
//!     let (reader, writer) = tokio::net::UnixStream::from_std(ours)?.into_split();
//!     Ok((turnwire_tokio::connect(reader, writer).await.map_err(io::Error::other)?, server))
//! }
//!
//! async fn on_smol(script: Script) -> io::Result<(turnwire_smol::Codex, Serving)> {
//!     let (ours, theirs) = UnixStream::pair()?;
//!     let server = serve(theirs.try_clone()?, theirs, script);
//!     let (reader, writer) = smol::io::split(smol::Async::new(ours)?);
//!     Ok((turnwire_smol::connect(reader, writer).await.map_err(io::Error::other)?, server))
//! }
//!
//! # tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(async {
//! assert!(on_tokio(Script::new()).await.unwrap().0.models().await.is_ok());
//! # });
//! # smol::block_on(async {
//! assert!(on_smol(Script::new()).await.unwrap().0.models().await.is_ok());
//! # });
//! ```
//!
//! # Faults
//!
//! A fault is a step of a rule. Here the server says the beginning of an answer, breaks off in the middle of a line, and ends:
//!
//! ```
//! use serde_json::json;
//! use turnwire_blocking::{TurnError, protocol::ThreadStart};
//! use turnwire_testkit::scripted::{Rule, Script, serve_duplex};
//!
//! let delta = json!({"threadId": "$thread", "turnId": "$turn", "itemId": "i", "delta": "Half of an ans"});
//! let script = Script::new().rule(
//!     Rule::on("turn/start")
//!         .reply(json!({"turn": {"id": "$new_turn", "items": [], "status": "inProgress"}}))
//!         .notify("item/agentMessage/delta", delta)
//!         .raw(r#"{"method":"item/agen"#)
//!         .exit(3),
//! );
//! let (reader, writer, _server) = serve_duplex(script);
//! let codex = turnwire_blocking::connect(reader, writer).unwrap();
//! let thread = codex.thread_start(ThreadStart::new()).unwrap();
//! let error = thread.run("Hello").unwrap_err();
//! assert!(matches!(error, TurnError::Lost { .. }), "{error}");
//! ```
//!
//! # A clock that jumps
//!
//! [`sim::Pair`] moves the state machine and the server by one virtual clock; hours of protocol take no time:
//!
//! ```
//! use std::time::Duration;
//! use turnwire_core::{connection::TurnOptions, protocol::{ThreadStart, TurnStart, UserInput}, turn::State};
//! use turnwire_testkit::{scripted::{Script, TurnPlan}, sim::Pair};
//!
//! let mut pair = Pair::new(Script::new().turn(TurnPlan::new().hold()));
//! let thread = pair.call(&ThreadStart::new()).unwrap().thread.id;
//! let params = TurnStart::new(thread, [UserInput::text("Take your time.")]);
//! let options = TurnOptions::default().deadline(Duration::from_secs(3600));
//! let turn = pair.client.start_turn(pair.time(), &params, &options).unwrap();
//! pair.run_until_quiet();
//! assert_eq!(pair.client.turn_state(turn), Some(State::TimedOut));
//! assert!(pair.now() >= Duration::from_secs(3600));
//! ```
//!
//! A whole program on tokio can be tested so too: pause tokio's clock (`#[tokio::test(start_paused = true)]`) and play a
//! [`ScriptedServer`](scripted::ScriptedServer) as a task of the same runtime, as `runtime-tokio/tests/paused.rs` does in twenty
//! lines. A paused clock does not wait for what is outside of its runtime, such as a server on a thread.
//!
//! # Whether a script fits the protocol
//!
//! A script may say anything, and so may be wrong. [`Serving::misfits`](scripted::Serving::misfits) says what of it no server would say:
//!
//! ```
//! use serde_json::json;
//! use turnwire_testkit::scripted::{Rule, Script, serve_duplex};
//!
//! let misspelt = Rule::on("model/list").notify("item/agentMesage/delta", json!({})).default_reply();
//! let (reader, writer, server) = serve_duplex(Script::new().rule(misspelt));
//! let codex = turnwire_blocking::connect(reader, writer).unwrap();
//! codex.models().unwrap();
//! codex.close();
//! let misfits = server.misfits();
//! assert_eq!(misfits.len(), 1);
//! assert_eq!(misfits[0].method, "item/agentMesage/delta");
//! ```
//!
//! # Recording
//!
//! The recorder is turnwire's own: every program can have one. [`recorded::Tape`] keeps what it writes where a test can look
//! at it; its documentation records a session, replays it, and checks it against the types. What is written is
//! redacted unless `Recorder::unredacted` is asked for.
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
