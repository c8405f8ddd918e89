//! Two hosts and their streams, with a peer that may go mad: the property is that of the tests.

#![no_main]

#[path = "../../tests/proto/host.rs"]
mod host;
#[path = "../../tests/proto/memory.rs"]
mod memory;
#[path = "../../tests/proto/script.rs"]
mod script;
#[path = "../../tests/proto/world.rs"]
mod world;

use script::{Script, Step};

const MAX_STEPS: usize = 500;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let steps = bytes.as_chunks::<{ Step::LEN }>().0.iter().take(MAX_STEPS).map(Step::decode).collect();
    script::run(&Script { steps });
});
