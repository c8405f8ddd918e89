//! Any bytes as what a peer writes into slots: the property is that of the tests.

#![no_main]

#[path = "../../tests/proto/parse.rs"]
mod parse;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| parse::check(bytes));
