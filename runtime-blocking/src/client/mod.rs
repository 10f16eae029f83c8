//! The client without async: each method waits for the method of the same name.

mod codex;
mod events;
mod observe;
mod options;
mod thread;
mod thread_turns;
mod tree;
mod turn;
mod typed;

pub use codex::Codex;
pub use events::Events;
pub use thread::Thread;
pub use thread_turns::{SteerOrStart, Turns};
pub use tree::Tree;
pub use turn::Turn;
