#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| turnwire_core::fuzzing::reader(data));
