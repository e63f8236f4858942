//! Huge pages that the kernel does not have any more.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags, fallocate, fcntl_add_seals, memfd_create};
use testbed::testpmd::HugePages;
use testbed::{require, wait_until};
use vmlan_api::PortState;
use vmlan_frame::MacAddr;
use vmlan_guest::Attachment;

use crate::lab::{Listens, config, socket};
use crate::support::{
    Daemon, FRAMES, GuestMemory, Monitor, PATIENCE, Peer, assert_balanced, exchange, mac, numbered,
};

/// Frames that one guest sends another at least while a third one loses its memory.
const EXCHANGED: u32 = 2_000;

/// The file cannot be made shorter, and yet an access to it fails.
#[test]
fn case_31_a_sealed_guest_whose_huge_pages_are_gone_ends_alone() {
    require!(root());
    let _pages = HugePages::reserve(2).expect("huge pages");
    let huge = MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let ports = "[network.lab.port.other]\nstream = { listen = \"other.sock\" }\n";
    let mut daemon = Daemon::start(&format!("{}{ports}", config(Listens::Port, "")));
    let [mut one, mut other] = [(8, "raw"), (9, "other")].map(|(number, port)| {
        Peer::attach(number, Attachment::Stream { path: daemon.path(&format!("{port}.sock")) })
    });
    daemon.wait_up(&["raw", "other"]);
    // From here on what goes to them is no flood.
    exchange(&mut one, &mut other);
    let guest = GuestMemory::with(huge);
    fcntl_add_seals(&guest.file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL).expect("seals");
    guest.receive();
    guest.send(&numbered(MacAddr::BROADCAST, mac(1), u32::MAX));
    let mut monitor = Monitor::connect(&socket(&daemon, "a"));
    monitor.run(&guest);
    daemon.wait_up(&["a"]);
    wait_until("the guest's frames", PATIENCE, || daemon.port("a").counters.rx_frames == FRAMES);
    let mechanism = daemon.port("a").mechanism.expect("how frames are moved");
    assert!(mechanism.contains("sealed"), "{mechanism}");

    let over = Arc::new(AtomicBool::new(false));
    let told = over.clone();
    let traffic = thread::spawn(move || {
        let mut number = 0;
        while number < EXCHANGED || !told.load(Ordering::Relaxed) {
            one.raw.send_frame(&numbered(other.mac, one.mac, number)).expect("room for a frame");
            assert!(other.hears(number, PATIENCE), "frame {number} was lost");
            number += 1;
        }
    });
    let mut pool = Pool::default();
    // Those of others, which may be many.
    pool.take_all();
    // One may become free anywhere meanwhile.
    wait_until("the guest's end", PATIENCE, || {
        let hole = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
        fallocate(&guest.file, hole, 0, GuestMemory::OCTETS).expect("a hole");
        pool.take_all();
        monitor.kick();
        has_left(&monitor)
    });
    monitor.expect_end();
    over.store(true, Ordering::Relaxed);
    traffic.join().expect("nothing is lost");
    assert!(daemon.is_running());
    daemon.wait_state("a", PortState::Waiting);
    assert_balanced(&daemon);

    // The next guest finds a port as before.
    drop((pool, guest));
    let guest = GuestMemory::with(huge);
    let mut monitor = Monitor::connect(&socket(&daemon, "a"));
    monitor.run(&guest);
    daemon.wait_up(&["a"]);
    daemon.stop();
}

/// True if the other end has closed, or is about to.
fn has_left(monitor: &Monitor) -> bool {
    let mut fds = [PollFd::new(&monitor.socket, PollFlags::empty())];
    poll(&mut fds, Some(&Timespec::default())).expect("a socket") > 0
}

/// The huge pages of the machine, as far as they were taken; given back on drop.
struct Pool {
    file: OwnedFd,
    pages: u64,
}

impl Pool {
    /// Takes all that are free.
    fn take_all(&mut self) {
        let size = GuestMemory::OCTETS;
        while fallocate(&self.file, FallocateFlags::empty(), self.pages * size, size).is_ok() {
            self.pages += 1;
        }
    }
}

impl Default for Pool {
    fn default() -> Pool {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        Pool { file: memfd_create("pool", flags).expect("a file"), pages: 0 }
    }
}
