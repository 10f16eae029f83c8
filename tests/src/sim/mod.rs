//! The connection against the scripted server, on a simulated wire and one virtual clock.
//!
//! A [`Pair`] owns a [`Connection`](turnwire_core::connection::Connection), a
//! [`ScriptedServer`](crate::scripted::ScriptedServer), and the two directions between them. It does what a driver
//! and an operating system do, and no more: it moves bytes, reports ends, calls timeouts. It decides nothing that the
//! connection decides. Its clock jumps to the next moment at which anything can happen, so that minutes of protocol
//! take no time, and everything that is random comes from one seed: the same seed gives the same bytes at the same times.
//!
//! ```
//! use turnwire_core::{connection::TurnOptions, protocol::{ThreadStart, TurnStart, UserInput}, turn::State};
//! use turnwire_testkit::{scripted::Script, sim::{Faults, Pair}};
//!
//! let mut pair = Pair::with(Script::new(), Default::default(), Faults::rough(), 42);
//! let thread = pair.call(&ThreadStart::default()).unwrap().thread.id;
//! let params = TurnStart::new(thread, [UserInput::text("Hello")]);
//! let turn = pair.client.start_turn(pair.time(), &params, &TurnOptions::default()).unwrap();
//! pair.run_until_quiet();
//! assert_eq!(pair.client.turn_state(turn), Some(State::Completed));
//! ```

mod pair;
mod rng;
mod shrink;
mod wire;

pub use pair::{Crossing, Pair, Polling};
pub use rng::Rng;
pub use shrink::shrink;
pub use wire::{Direction, Faults};
