//! What it takes to test a program that drives the Codex agent, without the agent.
//!
//! - [`scripted`]: a fake app-server that plays a script, as a machine on a virtual clock, over in-memory pipes, or as a
//!   program in place of `codex`.
//! - [`model`]: a fake model behind a real server: a local endpoint that streams what a test tells it to.
//! - [`sim`]: the connection against that server on a simulated wire, on one virtual clock, from one seed.
//! - [`replay`]: a fake app-server that streams prepared bytes, for benches.
//! - [`real`]: finding the real server, and giving it a home where it disturbs nothing and nobody disturbs it.

pub mod model;
pub mod real;
pub mod replay;
pub mod scripted;
pub mod sim;

/// The examples of the README, compiled.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
