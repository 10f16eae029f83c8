//! The core of turnwire.
#![cfg_attr(not(feature = "std"), no_std)]

extern crate alloc;

pub mod id;
pub mod json;
pub mod protocol;
