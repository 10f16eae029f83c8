#![no_main]

// The same that proptest runs, with acts that the fuzzer looks for.
#[path = "../../tests/tests/reference_model/both.rs"]
mod both;
#[path = "../../tests/tests/reference_model/model.rs"]
mod model;

libfuzzer_sys::fuzz_target!(|acts: Vec<[u8; 3]>| {
    let acts: Vec<both::Act> = acts.into_iter().map(both::Act::from).collect();
    both::Both::run(&acts);
});
