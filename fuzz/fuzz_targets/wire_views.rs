//! Every header view, accessor and setter on arbitrary octets.
#![no_main]

#[path = "../../crates/frame/tests/wire_views/every_view.rs"]
mod every_view;

libfuzzer_sys::fuzz_target!(|octets: &[u8]| every_view::look(octets));
