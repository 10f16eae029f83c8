//! The client without async: each method waits for the method of the same name.

mod account;
mod codex;
mod events;
mod handlers;
mod observe;
mod options;
mod thread;
mod thread_turns;
mod tools;
mod tree;
mod turn;
mod typed;

pub use account::{BrowserLogin, DeviceLogin};
pub use codex::Codex;
pub use events::Events;
pub use handlers::{Handlers, Serving, WaitClosed};
pub use thread::Thread;
pub use thread_turns::{SteerOrStart, Turns};
pub use tools::{Tool, Tools};
pub use tree::Tree;
pub use turn::Turn;
