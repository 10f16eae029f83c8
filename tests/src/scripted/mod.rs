//! A fake `codex app-server` for tests: it plays the server's side of the protocol from a script.
//!
//! [`ScriptedServer`] is a machine without I/O on a virtual clock. It answers like the real server as far as its default
//! brain goes, and in every way a [`Script`] can think of where it says otherwise: events before a reply, delays, garbage,
//! half lines, silence, an end at any step. The same script runs in a test's own loop, over in-memory pipes
//! ([`serve_duplex`]), and as the program `turnwire-scripted-server`, which can stand in for the `codex` executable.
//!
//! It is never more than a fake: its `userAgent`, its notices and its refusals say so. It runs no command, writes no file,
//! talks to no model.
//!
//! ```
//! use std::time::Duration;
//! use turnwire_testkit::scripted::{ScriptedServer, Script, TurnPlan};
//!
//! let mut server = ScriptedServer::new(Script::new().turn(TurnPlan::new().text("Hello!")));
//! let now = Duration::from_millis(3);
//! server.handle_input(now, b"{\"id\":1,\"method\":\"initialize\",\"params\":{\"clientInfo\":{\"name\":\"n\",\"version\":\"1\"}}}\n");
//! let mut out = Vec::new();
//! server.poll_output(now, &mut out);
//! assert!(String::from_utf8_lossy(&out).contains("n/0.163.0 (turnwire-scripted-server; fake)"));
//! ```
#![doc = include_str!("SCRIPTS.md")]

mod brain;
mod methods;
mod pipe;
mod plan;
mod script;
mod serve;
mod server;
mod stage;
mod template;
mod threads;
mod turn;
mod wire;

pub use pipe::{PipeCloser, PipeReader, PipeWriter, duplex, pipe};
pub use plan::{CommandPlan, Early, FailPlan, FileChangePlan, TurnPlan};
pub use script::{Bytes, ErrorBody, Rule, Script, ScriptError, Step, Times, Trigger};
pub use serve::{Serving, serve, serve_duplex, serve_stdio};
pub use server::{Received, ScriptedServer, State};
