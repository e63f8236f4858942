//! The cost of walking the rings of a guest: frames of 64 and 1,514 octets in batches of 64, out of a ring and into
//! another one, of both layouts.
//!
//! `cargo bench -p vmlan-drivers --bench vhost` prints two figures a frame: nanoseconds, the least of many slices of a
//! run; and instructions, which callgrind counts. Without valgrind the latter are left out. The guest's part, a new
//! index or new flags, is not among them.

#[cfg(target_os = "linux")]
#[path = "vhost/linux.rs"]
mod linux;

fn main() {
    #[cfg(target_os = "linux")]
    linux::main();
}
