//! Any bytes, as a trace of page references and as what the importers read: the property is that of the tests of vmmc-traces.

#![no_main]

#[path = "../../../tools/traces/tests/reading/check.rs"]
mod check;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
