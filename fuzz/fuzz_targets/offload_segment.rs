//! Frames of every kind with good requests, changed at a few places: what is behind the first checks.
#![no_main]

#[path = "../../crates/frame/tests/offload/flows.rs"]
mod flows;
#[path = "../../crates/frame/tests/offload/hostile.rs"]
mod hostile;
#[path = "../../crates/frame/tests/offload/shape.rs"]
mod shape;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    if let Some((request, octets)) = hostile::almost_good(octets) {
        hostile::check(&octets, request);
    }
});
