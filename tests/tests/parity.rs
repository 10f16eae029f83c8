//! The client without async has every method of the async one, and no method of its own but what iterators need.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// The names of the public methods of each type, in all the sources below a folder.
fn methods(folder: &str) -> BTreeMap<String, BTreeSet<String>> {
    let mut found: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for source in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(folder)) {
        let source = fs::read_to_string(source).expect("a source file is read");
        let mut of: Option<String> = None;
        for line in source.lines() {
            if let Some(header) = line.strip_prefix("impl") {
                let header = header.split_once("> ").map_or(header, |(_, rest)| rest);
                let name = header.trim_start().split([' ', '<', '{']).next().unwrap_or_default();
                of = (!header.contains(" for ")).then(|| name.to_owned());
            } else if line == "}" {
                of = None;
            }
            let (Some(of), Some(rest)) = (&of, line.strip_prefix("    pub ")) else { continue };
            let rest = rest.strip_prefix("const ").unwrap_or(rest);
            let rest = rest.strip_prefix("async ").unwrap_or(rest);
            let name = rest.strip_prefix("fn ").and_then(|rest| rest.split(['(', '<']).next());
            if let Some(name) = name {
                found.entry(of.clone()).or_default().insert(name.to_owned());
            }
        }
    }
    found
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("the folder is there").map(|entry| entry.expect("an entry").path());
    let (folders, files): (Vec<_>, Vec<_>) = entries.partition(|path| path.is_dir());
    files.into_iter().chain(folders.iter().flat_map(|folder| sources(folder))).collect()
}

#[test]
fn ad_01_a_public_method_exists_in_both_flavours_or_in_none() {
    let (mut with_async, mut without) = (methods("core/src/client"), methods("runtime-blocking/src/client"));
    for handle in ["Codex", "Thread", "Turn"] {
        assert!(without.get(handle).is_some_and(|methods| methods.len() > 3), "{handle} has methods: {without:?}");
    }
    // The iterator over what `next` yields.
    assert!(without.get_mut("Turn").is_some_and(|methods| methods.remove("events")));
    for (handle, without) in &without {
        let with_async = with_async.get_mut(handle).unwrap_or_else(|| panic!("there is an async {handle}"));
        // For those who poll, which is what blocking is not; an iterator's `next` is its trait's.
        with_async.remove("poll_next");
        if !without.contains("next") {
            with_async.remove("next");
        }
        assert_eq!(with_async, without, "{handle}");
    }
}
