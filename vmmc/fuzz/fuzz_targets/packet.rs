//! Any bytes, in any pieces, through every parser: the property is that of the tests.

#![no_main]

#[path = "../../tests/simulated/parse.rs"]
mod parse;

libfuzzer_sys::fuzz_target!(|packet: parse::Packet| parse::check(&packet));
