//! The connection against a naive model of it, after every step of random scripts that proptest makes small when they fail.
//!
//! `PROPTEST_CASES=100000 cargo test --release -p turnwire-testkit --test reference_model` runs more of them.

mod both;
mod model;

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
