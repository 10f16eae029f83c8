//! The core of turnwire.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod connection;
pub mod envelope;
pub mod error;
pub mod frame;
pub mod id;
pub mod json;
pub mod launch;
pub mod protocol;
pub mod time;
pub mod turn;
