//! System calls and the ABI of Linux and macOS: the only crate with unsafe code, and without decisions.
//!
//! Other crates use rustix directly for the calls that it offers safely; this crate has the calls that rustix lacks.
//! One function is one system call or one thing that the system should offer as one. Platforms are chosen by file.

pub mod address;
pub mod darwin;
pub mod inet;
mod inherited;
mod poll;

#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "linux")]
use linux as platform;

#[cfg(target_os = "macos")]
mod macos;
#[cfg(target_os = "macos")]
use macos as platform;

pub use inherited::{disinherit, inherit, inherit_all};
#[cfg(target_os = "linux")]
pub use linux::eventfd::is_eventfd;
#[cfg(target_os = "linux")]
pub use linux::tun as tunnel;
#[cfg(target_os = "linux")]
pub use linux::{bell, ebpf, guest_memory, netdev, netns, packet, tap, xdp};
#[cfg(target_os = "macos")]
pub use macos::utun as tunnel;
#[cfg(target_os = "macos")]
pub use macos::{bpf, bridge, feth, interface, kernel_events};
pub use platform::datagrams;
pub use platform::poller::Poller;
pub use platform::priority;
pub use platform::rights;
pub use platform::socket;
pub use platform::waker::Waker;
pub use poll::{Interest, Ready};

use rustix::time::{ClockId, clock_gettime};

/// Has memory of a MiB and more come from the system and go back to it when it is freed, for as long as the process
/// lives. The C library does so at first, and stops doing it for sizes of which it saw one freed; what it keeps at the
/// end of a thread's memory then, not even malloc_trim(3) reaches (mallopt(3)).
pub fn map_large_memory() {
    // SAFETY: it changes numbers of the allocator; nothing that is in use moves.
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, 1 << 20);
    }
}

/// Nanoseconds of the monotonic clock. It does not count while the machine sleeps.
pub fn monotonic_nanos() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    // The monotonic clock starts at boot, so both parts are positive and fit.
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
