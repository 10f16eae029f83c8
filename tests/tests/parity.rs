//! The client without async has every method of the async one, and no method of its own but what iterators need.

use std::collections::BTreeSet;

/// The names of the public methods in the source of a handle.
fn methods(source: &str, handle: &str) -> BTreeSet<String> {
    let start = source.find(&format!("\nimpl {handle} {{\n")).unwrap_or_else(|| panic!("there is an impl of {handle}"));
    let body = &source[start + 1..];
    let body = &body[..body.find("\n}\n").expect("its end")];
    let name = |line: &str| {
        let rest = line.trim_start().strip_prefix("pub ")?;
        let rest = rest.strip_prefix("async ").unwrap_or(rest).strip_prefix("fn ")?;
        rest.split(['(', '<']).next().map(String::from)
    };
    let found: BTreeSet<String> = body.lines().filter_map(name).collect();
    assert!(found.len() > 3, "{handle} has methods: {found:?}");
    found
}

#[test]
fn ad_01_a_public_method_exists_in_both_flavours_or_in_none() {
    let blocking = include_str!("../../runtime-blocking/src/client.rs");
    for (handle, source) in [
        ("Codex", include_str!("../../core/src/client/codex.rs")),
        ("Thread", include_str!("../../core/src/client/thread.rs")),
        ("Turn", include_str!("../../core/src/client/turn.rs")),
    ] {
        let mut with_async = methods(source, handle);
        let mut without = methods(blocking, handle);
        // For those who poll, which is what blocking is not; and the iterator over what `next` yields.
        with_async.remove("poll_next");
        if handle == "Turn" {
            assert!(without.remove("events"));
        }
        assert_eq!(with_async, without, "{handle}");
    }
}
