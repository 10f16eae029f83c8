//! What to start and how to end it, as data.
//!
//! This part owns the description of a server process: which program ([`Program`], [`candidates`]), with which arguments,
//! folder and environment ([`Command`]), how it is brought to its end ([`CloseLadder`]), how that end went
//! ([`ExitReport`]) and why a start came to nothing ([`LaunchError`]).
//!
//! It never touches the disk, starts nothing, waits for nothing and sends no signal: the crates that own processes do
//! that, and hand back the types from here. What needs paths and OS strings exists with the feature `std` only.
//!
//! # Where the program comes from
//!
//! | order | place | when it is bad |
//! |---|---|---|
//! | 1 | the path given to [`Command::program`] | an error; nothing else is tried |
//! | 2 | the variable `CODEX_BIN` of the calling process, if set and not empty | an error; nothing else is tried |
//! | 3 | `codex` in the folders of the calling process's `PATH` | the next folder |
//! | 4 | where installers put it ([`well_known`]) | the next place |
//!
//! [`Command::pinned`] looks at none of these, but only where turnwire's own installer puts the version that turnwire was
//! made for. If what was found is a launcher script of npm, the program that it would start is taken instead
//! ([`natives_of_shim`]).
//!
//! A bare name in place of a path (`codex-nightly`) is looked up in `PATH` under that name, as a shell would do, and never
//! in the current folder. `PATH` entries that are empty or relative are passed over: they would make the program depend on
//! the folder somebody happens to be in.
//!
//! # How it ends
//!
//! ```text
//! stdin closed ── eof_grace ──> terminate the group ── terminate_grace ──> kill the group ── kill_grace ──> report
//! ```
//!
//! Each rung is left as soon as the process is gone. The server itself needs no more than the first: it ends some
//! 60 ms after its stdin, in the middle of a turn too.

#[cfg(feature = "std")]
mod command;
mod config_value;
mod exit;
#[cfg(feature = "std")]
mod places;
#[cfg(feature = "std")]
mod resolve;

#[cfg(feature = "std")]
pub use command::{Command, Environment, Program};
pub use config_value::{ConfigValue, ConfigValueError, DateTime};
pub use exit::{CloseLadder, ExitReport, ExitStatus, Forced};
#[cfg(feature = "std")]
pub use places::{Platform, natives_in_package, natives_in_pinned, natives_of_shim, pinned_folder, well_known};
#[cfg(feature = "std")]
pub use resolve::{CODEX_BIN, Candidate, LaunchError, Obstacle, Origin, Tried, candidates};
