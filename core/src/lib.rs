//! The core of turnwire.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

#[cfg(feature = "client")]
pub mod client;
pub mod connection;
#[cfg(feature = "client")]
pub mod driver;
pub mod envelope;
pub mod error;
#[cfg(feature = "client")]
pub mod exports;
pub mod frame;
pub mod id;
pub mod json;
pub mod launch;
pub mod protocol;
pub mod time;
pub mod turn;
