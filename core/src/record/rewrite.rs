//! Giving a message another id.

use alloc::vec::Vec;
use core::ops::Range;
use serde::Deserialize;
use serde_json::value::RawValue;

/// Where the id of a message stands in its line; `None` when the line is no JSON object or has no id.
pub(super) fn id_place(line: &[u8]) -> Option<Range<usize>> {
    #[derive(Deserialize)]
    struct Id<'a> {
        #[serde(borrow)]
        id: &'a RawValue,
    }
    if line.trim_ascii_start().first() != Some(&b'{') {
        return None;
    }
    let id = serde_json::from_slice::<Id<'_>>(line).ok()?.id.get();
    // The text is a part of the line, so where it begins is how far it is from the line's beginning.
    let start = (id.as_ptr() as usize).checked_sub(line.as_ptr() as usize)?;
    let end = start.checked_add(id.len())?;
    (line.get(start..end)? == id.as_bytes()).then_some(start..end)
}

/// The line with another id, given as JSON, and otherwise as it was. `None` when it has no id to replace.
#[must_use]
pub fn with_id(line: &[u8], id: &str) -> Option<Vec<u8>> {
    let place = id_place(line)?;
    let mut changed = line.get(..place.start)?.to_vec();
    changed.extend_from_slice(id.as_bytes());
    changed.extend_from_slice(line.get(place.end..)?);
    Some(changed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_id_of_the_message_itself_changes() {
        let line = br#"{ "params":{"id":"a"}, "id" : "x\"1" ,"method":"m"}"#;
        let changed = with_id(line, "7").expect("it has an id");
        assert_eq!(changed, br#"{ "params":{"id":"a"}, "id" : 7 ,"method":"m"}"#);
        assert_eq!(with_id(br#"{"method":"m","params":{"id":1}}"#, "7"), None);
        assert_eq!(with_id(b"ready", "7"), None);
        assert_eq!(with_id(b"[1]", "7"), None);
    }
}
