//! The client without async: each method waits for the method of the same name.

mod codex;
mod events;
mod follow;
mod observe;
mod pages;
mod resume;
mod retry;
mod thread;
mod thread_calls;
mod threads;
mod tree;
mod turn;

pub use codex::Codex;
pub use events::Events;
pub use follow::Follow;
pub use pages::Pages;
pub use resume::Resumed;
pub use thread::Thread;
pub use tree::Tree;
pub use turn::Turn;
