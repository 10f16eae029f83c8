//! The reader and the writer against serde_json, on text of every sort.

extern crate std;

use super::{Reader, Wire, encode, read, writer};
use alloc::{
    borrow::ToOwned,
    format,
    string::{String, ToString},
    vec::Vec,
};
use proptest::prelude::*;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;

/// JSON, with white space in all places, escapes of all sorts and keys given twice.
fn json_text() -> impl Strategy<Value = String> {
    let space = || "[ \t\r\n]{0,2}";
    let leaf = prop_oneof![
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("false".to_owned()),
        "-?(0|[1-9][0-9]{0,20})",
        "-?(0|[1-9][0-9]{0,3})(\\.[0-9]{1,5})?([eE][+-]?[0-9]{1,3})?",
        string_text(),
    ];
    leaf.prop_recursive(5, 40, 6, move |inner| {
        prop_oneof![
            (prop::collection::vec((space(), inner.clone(), space()), 0..6), space()).prop_map(|(entries, space)| {
                let entries: Vec<String> = entries.into_iter().map(|(a, entry, b)| format!("{a}{entry}{b}")).collect();
                format!("[{space}{}]", entries.join(","))
            }),
            (prop::collection::vec((space(), string_text(), space(), inner, space()), 0..6), space()).prop_map(
                |(entries, space)| {
                    let entries: Vec<String> =
                        entries.into_iter().map(|(a, key, b, entry, c)| format!("{a}{key}{b}:{c}{entry}{b}")).collect();
                    format!("{{{space}{}}}", entries.join(","))
                }
            ),
        ]
    })
}

fn string_text() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[ -!#-\\[\\]-~]{1,4}",
        "[é漢𝄞\u{7f}\u{2028}]{1,2}",
        "\\\\[\"\\\\/bfnrt]",
        "\\\\u[0-9a-fA-F]{4}",
        Just("\\ud834\\udd1e".to_owned()),
        Just("\\ud834".to_owned()),
        Just("\\udd1e".to_owned()),
    ];
    prop::collection::vec(part, 0..5).prop_map(|parts| format!("\"{}\"", parts.concat()))
}

/// JSON, or what is left of it after a few characters were changed.
fn any_text() -> impl Strategy<Value = String> {
    let edit =
        (any::<prop::sample::Index>(), prop_oneof![Just(None), any::<char>().prop_map(Some), ascii().prop_map(Some)]);
    (json_text(), prop::collection::vec(edit, 0..3)).prop_map(|(text, edits)| {
        let mut symbols: Vec<char> = text.chars().collect();
        for (at, symbol) in edits {
            let at = at.index(symbols.len() + 1);
            match symbol {
                Some(symbol) => symbols.insert(at, symbol),
                None if at < symbols.len() => {
                    symbols.remove(at);
                }
                None => {}
            }
        }
        symbols.into_iter().collect()
    })
}

fn ascii() -> impl Strategy<Value = char> {
    prop::sample::select("{}[]:,\"\\0123456789-+.eEtrufalsn \u{0}\u{1f}".chars().collect::<Vec<char>>())
}

fn same<T: Wire + Default + DeserializeOwned + PartialEq + core::fmt::Debug>(text: &str) {
    let theirs = serde_json::from_str::<T>(text).ok();
    // A null leaves a member at its default; serde_json has no such rule for plain values.
    if text.trim() != "null" {
        assert_eq!(read::<T>(text).ok(), theirs, "{text:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2048, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_reader_passes_what_serde_json_passes(text in any_text()) {
        let mut reader = Reader::new(&text);
        let ours = reader.skip().and_then(|()| reader.finish()).is_ok();
        prop_assert_eq!(ours, serde_json::from_str::<IgnoredAny>(&text).is_ok(), "{:?}", text);
    }

    #[test]
    fn the_reader_reads_plain_values_as_serde_json_does(text in any_text(), string in string_text()) {
        same::<String>(&text);
        same::<String>(&string);
        same::<bool>(&text);
        same::<i32>(&text);
        same::<i64>(&text);
        same::<u16>(&text);
        same::<u32>(&text);
        same::<u64>(&text);
        prop_assert_eq!(
            text.trim() == "null" || read::<f64>(&text).is_ok(),
            text.trim() == "null" || serde_json::from_str::<f64>(&text).is_ok(),
            "{:?}", text
        );
    }

    #[test]
    fn whole_numbers_are_read_as_serde_json_reads_them(text in "-?[0-9]{1,21}") {
        same::<i32>(&text);
        same::<i64>(&text);
        same::<u16>(&text);
        same::<u32>(&text);
        same::<u64>(&text);
    }

    #[test]
    fn what_is_kept_is_kept_to_the_letter(text in json_text()) {
        let kept: crate::json::Json = read(&text).unwrap();
        prop_assert_eq!(kept.as_str(), text.trim());
        prop_assert_eq!(encode(&kept), text.trim());
    }

    #[test]
    fn strings_are_written_as_serde_json_writes_them(text in any::<String>()) {
        prop_assert_eq!(encode(&text), serde_json::to_string(&text).unwrap());
        prop_assert_eq!(read::<String>(&encode(&text)).unwrap(), text);
    }

    #[test]
    fn numbers_come_back_as_they_went(whole in any::<i64>(), large in any::<u64>(), real in any::<f64>()) {
        prop_assert_eq!(read::<i64>(&encode(&whole)).unwrap(), whole);
        prop_assert_eq!(read::<u64>(&encode(&large)).unwrap(), large);
        let text = encode(&real);
        serde_json::from_str::<Value>(&text).unwrap();
        if real.is_finite() {
            prop_assert_eq!(read::<f64>(&text).unwrap(), real);
        } else {
            prop_assert_eq!(text, "null");
        }
    }

    #[test]
    fn hidden_text_does_not_show(text in "[a-z]{6,20} [a-z]{1,9}") {
        prop_assert!(!writer::redacted(&text).contains(&text));
    }
}

#[test]
fn depth_costs_no_stack() {
    let deep = "[".repeat(1_000_000) + &"]".repeat(1_000_000);
    let mut reader = Reader::new(&deep);
    reader.skip().unwrap();
    reader.finish().unwrap();
    assert!(read::<Vec<crate::json::Json>>(&deep).is_ok());
    let nested = "{\"a\":".repeat(200) + "1" + &"}".repeat(200);
    assert_eq!(read::<crate::json::Json>(&nested).unwrap().as_str(), nested.to_string());
}
