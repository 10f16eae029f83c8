//! The client without async: each method waits for the method of the same name.

mod account;
mod codex;
mod events;
mod handlers;
mod observe;
mod options;
mod pages;
mod resume;
mod retry;
mod thread;
mod thread_calls;
mod thread_turns;
mod threads;
mod tools;
mod tree;
mod turn;
mod turn_set;
mod typed;

pub use account::{BrowserLogin, DeviceLogin};
pub use codex::Codex;
pub use events::Events;
pub use handlers::{Handlers, Serving, WaitClosed};
pub use pages::Pages;
pub use resume::Resumed;
pub use thread::Thread;
pub use thread_turns::{SteerOrStart, Turns};
pub use tools::{Tool, Tools};
pub use tree::Tree;
pub use turn::Turn;
pub use turn_set::TurnSet;
