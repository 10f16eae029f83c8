//! The table of the official Python SDK misses nothing of it, and names nothing here that does not exist.

use std::{collections::BTreeSet, fs, path::Path};

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The rows of the table: the Python item, and all that is said of it.
fn rows(table: &str) -> Vec<(String, String)> {
    let rows = table.lines().filter_map(|line| line.strip_prefix("| `"));
    rows.filter_map(|row| row.split_once("` | ")).map(|(item, rest)| (item.to_owned(), rest.to_owned())).collect()
}

/// The name of an item without the mark of the asynchronous classes, which share the rows of the others.
fn shared(item: &str) -> String {
    let without = item.strip_prefix("Async").unwrap_or(item);
    if item.contains("__a") { item.to_owned() } else { without.to_owned() }
}

#[test]
fn every_public_item_of_the_python_sdk_has_a_row_and_no_other_has() {
    let items = read("core/codegen/python/items-0.163.0.txt");
    let items: BTreeSet<String> = items.lines().map(shared).collect();
    assert!(items.len() > 150, "the list is read: {}", items.len());
    let table = read("core/docs/python-parity.md");
    let rows: Vec<String> = rows(&table).into_iter().map(|(item, _)| item).collect();
    let unique: BTreeSet<String> = rows.iter().cloned().collect();
    assert_eq!(unique.len(), rows.len(), "no item has two rows");
    let missing: Vec<&String> = items.difference(&unique).collect();
    let unknown: Vec<&String> = unique.difference(&items).collect();
    assert!(missing.is_empty() && unknown.is_empty(), "missing: {missing:?}; unknown: {unknown:?}");
}

#[test]
fn every_row_says_what_stands_for_the_item() {
    for (item, rest) in rows(&read("core/docs/python-parity.md")) {
        let cells: Vec<&str> = rest.split(" | ").map(str::trim).collect();
        assert!(cells.len() >= 2 && !cells[0].is_empty() && !cells[1].is_empty(), "{item}: {rest}");
    }
}

/// The names in code of the second and third column that are methods: `Type::name`.
fn named(rest: &str) -> Vec<(String, String)> {
    let columns: Vec<&str> = rest.split(" | ").take(2).collect();
    let columns = columns.join(" ");
    let code = columns.split('`').skip(1).step_by(2);
    let names = code.filter_map(|code| {
        let (of, rest) = code.split_once("::")?;
        let name: String = rest.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect();
        Some((of.to_owned(), name))
    });
    names.filter(|(of, name)| of != "protocol" && name.starts_with(char::is_lowercase)).collect()
}

#[test]
fn every_method_that_the_table_names_exists() {
    let mut sources = String::new();
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("../core/src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                folders.push(path);
            } else {
                sources.push_str(&fs::read_to_string(path).expect("a source file"));
            }
        }
    }
    let mut absent = BTreeSet::new();
    for (item, rest) in rows(&read("core/docs/python-parity.md")) {
        for (of, name) in named(&rest) {
            // A function, a member of a type, or a setter that a macro makes of a member.
            let exists = ["fn ", "pub "].iter().any(|before| {
                let name = format!("{before}{name}");
                sources.match_indices(&name).any(|(at, _)| sources[at + name.len()..].starts_with(['(', '<', ':']))
            });
            if !exists {
                absent.insert(format!("{of}::{name} ({item})"));
            }
        }
    }
    assert!(absent.is_empty(), "{absent:#?}");
}
