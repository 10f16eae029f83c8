//! Tables whose keys are numbers that come one after the other, or hashes: they need no hashing, and look-ups are most of
//! what is done with them. Their order means nothing; who walks through one sorts first.

use core::hash::{BuildHasherDefault, Hasher};
use hashbrown::HashMap;

/// A table by such keys.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<ByNumber>>;

/// Spreads the one number that is written to it.
#[derive(Default)]
pub(crate) struct ByNumber(u64);

impl Hasher for ByNumber {
    fn write(&mut self, _: &[u8]) {}

    #[inline]
    fn write_u64(&mut self, number: u64) {
        // The table looks at both ends of it.
        self.0 = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ self.0 >> 32
    }
}
