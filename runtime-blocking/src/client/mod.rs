//! The client without async: each method waits for the method of the same name.

mod codex;
mod events;
mod observe;
mod thread;
mod tree;
mod turn;

pub use codex::Codex;
pub use events::Events;
pub use thread::Thread;
pub use tree::Tree;
pub use turn::Turn;
