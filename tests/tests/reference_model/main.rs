//! The connection against a naive model of it, after every step of random scripts that proptest makes small when they fail.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p turnwire-testkit --test reference_model` runs more of them.

mod both;
mod model;

use arbitrary::{Arbitrary, Unstructured};
use both::{Act, Both};
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig {
        cases: std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(600),
        max_shrink_iters: 20_000,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn the_connection_does_what_a_naive_model_does(
        acts in prop::collection::vec(any::<[u8; 3]>().prop_map(Act::from), 0..160),
    ) {
        Both::run(&acts);
    }
}

#[test]
fn the_corpus_of_the_fuzz_target_passes() {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../fuzz/corpus/reference");
    let mut count = 0;
    for entry in std::fs::read_dir(folder).expect("the corpus") {
        let bytes = std::fs::read(entry.expect("readable").path()).expect("readable");
        let acts = Vec::<[u8; 3]>::arbitrary_take_rest(Unstructured::new(&bytes)).expect("acts");
        Both::run(&acts.into_iter().map(Act::from).collect::<Vec<_>>());
        count += 1;
    }
    assert!(count >= 15, "{count} inputs");
}
