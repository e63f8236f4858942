//! Batches of several flows: cutting what was merged gives the very same frames.
#![no_main]

#[path = "../../crates/frame/tests/offload/flows.rs"]
mod flows;
#[path = "../../crates/frame/tests/offload/hostile.rs"]
mod hostile;
#[path = "../../crates/frame/tests/offload/shape.rs"]
mod shape;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    flows::gives_it_back(&flows::generated(&hostile::steps(octets)), vmlan_frame::Takes::ALL);
});
