//! Anything that can arrive on a live link, between real traffic: the property is that of the tests.

#![no_main]

#[path = "../../tests/simulated/siege/mod.rs"]
mod siege;
#[allow(dead_code)] // the tests use all of it
#[path = "../../tests/simulated/world.rs"]
mod world;

libfuzzer_sys::fuzz_target!(|siege: siege::Siege| siege::run(&siege));
