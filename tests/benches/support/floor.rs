//! What the floors make of a line: the least that any client does.

use serde::Deserialize;
use serde_json::value::RawValue;
use std::hint::black_box;

/// Floor E: what a line says about itself, borrowed from it.
#[derive(Deserialize)]
pub(crate) struct Envelope<'a> {
    pub(crate) id: Option<i64>,
    #[serde(borrow)]
    pub(crate) method: Option<&'a str>,
    #[serde(borrow)]
    pub(crate) params: Option<&'a RawValue>,
}

/// Floor T: the same, and a piece of text as its own.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Delta {
    thread_id: String,
    turn_id: String,
    item_id: String,
    delta: String,
}

impl Envelope<'_> {
    /// Reads a piece of text out of the params, and says how long it is.
    #[inline]
    pub(crate) fn typed(&self) -> u64 {
        let params = self.params.expect("params").get();
        let delta: Delta = serde_json::from_str(params).expect("a delta");
        let length = delta.delta.len() as u64;
        black_box((delta.thread_id, delta.turn_id, delta.item_id, delta.delta));
        length
    }
}
