//! A virtio-net header and a frame as they come from a guest: checked, and what is asked for done.
#![no_main]

#[path = "../../crates/frame/tests/offload/flows.rs"]
mod flows;
#[path = "../../crates/frame/tests/offload/hostile.rs"]
mod hostile;
#[path = "../../crates/frame/tests/offload/shape.rs"]
mod shape;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| {
    if let Some((request, octets)) = hostile::from_virtio(octets) {
        hostile::check(octets, request);
    }
});
