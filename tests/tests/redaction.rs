//! Nothing marked in any message of the recorded sessions gets out: not into a redacted recording, not into `Debug`.

mod marks;

use marks::{MARK, Marks, NUMBER, marked, recordings};
use serde_json::Value;
use std::collections::BTreeSet;
use turnwire_core::{
    client::Event,
    record::{Redactor, Replay, ReplayedEvent, Step},
};

#[test]
fn ob_03_no_text_of_any_message_reaches_a_redacted_recording() {
    let mut methods = BTreeSet::new();
    for (name, recording) in recordings() {
        for marks in [Marks::Everything, Marks::Texts] {
            let marked = marked(&recording, marks);
            let before = marked.to_text();
            assert!(before.contains(MARK) && before.contains(&NUMBER.to_string()), "{name}");
            let after = marked.redacted(&Redactor::with_seed(7)).to_text();
            for secret in [MARK.to_owned(), NUMBER.to_string()] {
                let line = after.lines().find(|line| line.contains(&secret));
                assert_eq!(line, None, "{name}, {marks:?}: {secret}");
            }
        }
        // What is kept is what one has to know.
        let redacted = recording.redacted(&Redactor::default());
        for (before, after) in recording.records.iter().zip(&redacted.records) {
            let (Step::Received(before) | Step::Sent(before), Step::Received(after) | Step::Sent(after)) =
                (&before.step, &after.step)
            else {
                continue;
            };
            let value = |line: &turnwire_core::record::Line| serde_json::from_slice::<Value>(&line.bytes).ok();
            let (Some(before), Some(after)) = (value(before), value(after)) else { continue };
            if let Some(method) = before["method"].as_str().filter(|method| !method.starts_with("no/")) {
                if after["method"] == method {
                    methods.insert(method.to_owned());
                }
            }
            assert_eq!(before["emittedAtMs"], after["emittedAtMs"], "{name}");
            if before["id"].is_number() {
                assert_eq!(before["id"], after["id"], "{name}");
            }
        }
    }
    assert!(methods.len() > 60, "{} methods: {methods:?}", methods.len());
}

#[test]
fn ob_03_no_text_of_any_message_reaches_debug_output() {
    let mut seen = 0;
    for (name, recording) in recordings() {
        let marked = marked(&recording, Marks::Texts);
        let mut shown = format!("{marked:?}");
        let mut replay = Replay::new(&marked).with_threads();
        for replayed in replay.by_ref() {
            seen += 1;
            shown.push_str(&format!("{replayed:?}"));
            match replayed.event {
                ReplayedEvent::Turn { event, .. }
                | ReplayedEvent::Thread(_, event)
                | ReplayedEvent::Connection(event) => {
                    shown.push_str(&format!("{event:?} {:?}", Event::from(event.clone())));
                }
                _ => {}
            }
        }
        shown.push_str(&format!("{replay:?} {:?} {:?}", replay.connection(), replay.divergences()));
        for divergence in replay.divergences() {
            shown.push_str(&divergence.to_string());
        }
        if let Some(at) = shown.find(MARK) {
            let around = shown.get(at.saturating_sub(300)..(at + 20).min(shown.len())).unwrap_or_default();
            panic!("{name}: …{around}…");
        }
    }
    assert!(seen > 1000, "{seen}");
}
