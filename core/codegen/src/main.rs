//! Writes the protocol types of turnwire-core.
fn main() {}
