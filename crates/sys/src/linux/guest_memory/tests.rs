use std::os::fd::{AsFd, OwnedFd};
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
};
use rustix::net::{AddressFamily, SocketType, socket};

use super::*;

const PAGE: u64 = 4096;

/// A memfd of so many octets.
fn memfd(octets: u64) -> OwnedFd {
    let file = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&file, octets).unwrap();
    file
}

fn whole(mapping: &Mapping) -> Span<'_> {
    mapping.span(0, mapping.len() as u64).unwrap()
}

/// True in the process that [`in_a_child`] starts.
fn is_child() -> bool {
    std::env::var_os("VMLAN_CHILD").is_some()
}

/// Runs the test of this name alone, in a process of its own.
fn in_a_child(name: &str) -> (ExitStatus, String) {
    let test = format!("linux::guest_memory::tests::{name}");
    let output = Command::new(std::env::current_exe().unwrap())
        .args([&test, "--exact", "--nocapture"])
        .env("VMLAN_CHILD", "1")
        .output()
        .unwrap();
    let text = [output.stdout, output.stderr].map(|octets| String::from_utf8_lossy(&octets).into_owned());
    (output.status, text.concat())
}

/// Keeps this process from leaving a dump when it ends by a signal.
fn leave_no_dump() {
    let none = rustix::process::Rlimit { current: Some(0), maximum: Some(0) };
    rustix::process::setrlimit(rustix::process::Resource::Core, none).unwrap();
}

/// The signal that ended a process.
fn signal_of(status: ExitStatus) -> Option<i32> {
    std::os::unix::process::ExitStatusExt::signal(&status)
}

#[test]
fn two_mappings_of_a_file_see_the_same_octets() {
    let file = memfd(1 << 20);
    let one = Arc::new(Mapping::new(file.as_fd(), 0, 1 << 20).unwrap());
    let other = Mapping::new(file.as_fd(), PAGE, PAGE).unwrap();
    let area = one.area(PAGE, 100).unwrap();
    area.span().store_u64(3, 0x1122_3344_5566_7788);
    assert_eq!(whole(&other).load_u32(7), 0x1122_3344);
    assert!(!area.is_poisoned() && !one.is_sealed());
}

#[test]
fn an_area_keeps_its_mapping_and_a_mapping_its_file() {
    let mapping = Arc::new(Mapping::new(memfd(PAGE).as_fd(), 0, PAGE).unwrap());
    let area = mapping.area(8, 8).unwrap();
    drop(mapping);
    area.span().store_u32(4, 7);
    assert_eq!((area.len(), area.clone().span().load_u64(0)), (8, 7 << 32));
}

#[test]
fn seals_against_shortening_are_seen() {
    let file = memfd(PAGE);
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    assert!(Mapping::new(file.as_fd(), 0, PAGE).unwrap().is_sealed());
    assert!(!Mapping::plain(100).is_sealed());
}

#[test]
fn a_range_is_inside_or_none() {
    let mapping = Arc::new(Mapping::plain(100));
    let cases = [
        (0, 100, true),
        (100, 0, true),
        (99, 1, true),
        (0, 101, false),
        (100, 1, false),
        (101, 0, false),
        (u64::MAX, 1, false),
        (1, u64::MAX, false),
        (u64::MAX, u64::MAX, false),
    ];
    for (offset, len, is_inside) in cases {
        assert_eq!(mapping.span(offset, len).is_some(), is_inside, "{offset} {len}");
        assert_eq!(mapping.area(offset, len).is_some(), is_inside, "{offset} {len}");
        let slice = whole(&mapping).slice(offset as usize, len as usize);
        assert_eq!(slice.is_some(), is_inside, "{offset} {len}");
    }
    let inner = mapping.span(10, 20).unwrap().slice(5, 15).unwrap();
    assert_eq!(inner.len(), 15);
    assert!(inner.slice(5, 11).is_none());
}

#[test]
fn accesses_beyond_a_range_panic() {
    let mapping = Mapping::plain(100);
    let span = mapping.span(10, 10).unwrap();
    let beyond: [&(dyn Fn(usize) + Sync); 11] = [
        &|offset| _ = span.load_u8(offset + 9),
        &|offset| _ = span.load_u16(offset + 8),
        &|offset| _ = span.load_u16_acquire(offset + 8),
        &|offset| _ = span.load_u32(offset + 6),
        &|offset| _ = span.load_u64(offset + 2),
        &|offset| span.store_u16(offset + 8, 0),
        &|offset| span.store_u16_release(offset + 8, 0),
        &|offset| span.store_u64(offset + 2, 0),
        &|offset| span.set_bits(offset + 9, 1),
        &|offset| span.read(offset + 7, &mut [0; 3]),
        &|offset| span.write(offset + 7, &[0; 3]),
    ];
    for (number, access) in beyond.iter().enumerate() {
        access(0);
        for offset in [1, 3, usize::MAX - 1] {
            let access = std::panic::AssertUnwindSafe(|| access(offset));
            assert!(std::panic::catch_unwind(access).is_err(), "{number} {offset}");
        }
    }
    span.prefetch(usize::MAX);
    span.prefetch_for_write(10);
}

#[test]
fn values_are_little_endian_and_need_no_alignment() {
    let mapping = Mapping::plain(64);
    let span = whole(&mapping);
    assert!(span.is_aligned(4096) && !span.slice(2, 2).unwrap().is_aligned(4));
    for offset in 0..8 {
        span.store_u64(offset, 0x0807_0605_0403_0201);
        let mut octets = [0; 8];
        span.read(offset, &mut octets);
        assert_eq!(octets, [1, 2, 3, 4, 5, 6, 7, 8]);
        assert_eq!(span.load_u64(offset), 0x0807_0605_0403_0201);
        assert_eq!(
            (span.load_u8(offset + 7), span.load_u16(offset), span.load_u32(offset)),
            (8, 0x201, 0x403_0201)
        );
        span.store_u16(offset, 0xa1a2);
        span.store_u16_release(offset + 2, 0xb1b2);
        span.store_u32(offset + 4, 0xc1c2_c3c4);
        assert_eq!(span.load_u64(offset), 0xc1c2_c3c4_b1b2_a1a2);
        assert_eq!(span.load_u16_acquire(offset + 1), 0xb2a1);
    }
    span.store_u16(0, 0x4020);
    span.set_bits(0, 0x81);
    assert_eq!(span.load_u16(0), 0x40a1);
}

/// The n-th octet of a pattern that does not come again after a power of two.
fn octet(n: usize) -> u8 {
    (n * 7 + n / 251) as u8
}

#[test]
fn copies_are_right_to_the_octet_and_touch_nothing_beside() {
    const ROOM: usize = 16;
    let lengths: Vec<usize> = match cfg!(miri) {
        true => (0..40).chain([63, 64, 65, 257, 600]).collect(),
        false => (0..=600).chain([1514, 4096, 65_000]).collect(),
    };
    let mapping = Mapping::plain(65_000 + 4 * ROOM);
    let span = whole(&mapping);
    for len in lengths {
        for (there, here) in [(0, 0), (1, 0), (0, 3), (5, 5), (7, 2), (15, 9)] {
            // Into guest memory.
            let from: Vec<u8> = (0..here + len).map(octet).collect();
            let area = len + 2 * ROOM;
            span.write(0, &vec![0xee; area]);
            span.write(there, &from[here..]);
            let mut after = vec![0; area];
            (0..area).for_each(|at| after[at] = span.load_u8(at));
            assert_eq!(after[there..there + len], from[here..], "{len} octets to {there} from {here}");
            assert!(after[..there].iter().chain(&after[there + len..]).all(|&octet| octet == 0xee), "{len}");
            // And out of it.
            let mut into = vec![0xdd; here + len + ROOM];
            span.read(there, &mut into[here..here + len]);
            assert_eq!(into[here..here + len], from[here..], "{len} octets from {there} to {here}");
            assert!(into[..here].iter().chain(&into[here + len..]).all(|&octet| octet == 0xdd), "{len}");
        }
    }
}

#[test]
fn a_copy_may_end_at_the_last_octet_of_a_mapping() {
    let file = memfd(2 * PAGE);
    let mapping = Mapping::new(file.as_fd(), 0, 2 * PAGE).unwrap();
    let span = whole(&mapping);
    for len in (0..=600).chain([1514]) {
        let octets = vec![octet(len); len];
        span.write(span.len() - len, &octets);
        let mut back = vec![0; len];
        span.read(span.len() - len, &mut back);
        assert_eq!(back, octets);
    }
    assert!(!mapping.is_poisoned());
}

#[test]
fn a_release_and_an_acquire_order_what_is_before_and_after() {
    let mapping = Mapping::plain(PAGE as usize);
    let span = whole(&mapping);
    let rounds = if cfg!(miri) { 20 } else { 5_000 };
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for round in 1..=rounds {
                while span.load_u16_acquire(64) != round {
                    std::thread::yield_now();
                }
                assert_eq!(span.load_u16(0), round);
                span.store_u16_release(128, round);
            }
        });
        for round in 1..=rounds {
            span.store_u16(0, round);
            span.store_u16_release(64, round);
            while span.load_u16_acquire(128) != round {
                std::thread::yield_now();
            }
        }
    });
}

#[test]
fn bits_that_several_threads_set_are_all_set() {
    let mapping = Mapping::plain(1000);
    let span = whole(&mapping);
    std::thread::scope(|scope| {
        for bit in 0..4 {
            scope.spawn(move || (0..1000).for_each(|offset| span.set_bits(offset, 1 << bit)));
        }
    });
    assert!((0..1000).all(|offset| span.load_u8(offset) == 0x0f));
}

// Files that are refused.

/// The reason why a file is refused.
fn refusal(file: impl AsFd, offset: u64, size: u64) -> Refused {
    let refused = Mapping::new(file.as_fd(), offset, size).unwrap_err();
    assert!(refused.to_string().contains("memfd"), "{refused}");
    refused
}

#[test]
fn case_33_a_file_that_can_block_or_fail_is_refused() {
    let on_disk = tempfile::tempfile_in("/var/tmp").unwrap();
    on_disk.set_len(PAGE).unwrap();
    let of_the_kernel = std::fs::File::options().read(true).write(true).open("/proc/self/comm").unwrap();
    for file in [on_disk, of_the_kernel] {
        let refused = refusal(&file, 0, PAGE);
        assert!(matches!(refused, Refused::FileSystem(_)), "{refused}");
        assert!(refused.to_string().contains("tmpfs or hugetlbfs"), "{refused}");
    }
}

#[test]
fn case_33_a_memfd_that_is_not_writable_is_refused() {
    use std::os::fd::AsRawFd;
    let file = memfd(PAGE);
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    for flags in [OFlags::RDONLY, OFlags::WRONLY] {
        let limited = rustix::fs::open(&path, flags | OFlags::CLOEXEC, Mode::empty()).unwrap();
        let refused = refusal(&limited, 0, PAGE);
        assert!(matches!(refused, Refused::NotWritable), "{refused}");
        assert!(refused.to_string().contains("O_RDWR"), "{refused}");
    }
}

#[test]
fn case_33_a_memfd_that_is_sealed_against_writing_is_refused() {
    for seal in [SealFlags::WRITE, SealFlags::FUTURE_WRITE] {
        let file = memfd(PAGE);
        fcntl_add_seals(&file, seal).unwrap();
        let refused = refusal(&file, 0, PAGE);
        assert!(matches!(refused, Refused::Sealed), "{refused}");
        assert!(refused.to_string().contains("F_SEAL_WRITE"), "{refused}");
    }
}

#[test]
fn case_16_a_range_beyond_the_end_or_beyond_all_numbers_is_refused() {
    let file = memfd(4 * PAGE);
    let beyond = [
        (0, 5 * PAGE),
        (4 * PAGE, PAGE),
        (3 * PAGE, 2 * PAGE),
        (u64::MAX - PAGE + 1, PAGE),
        (u64::MAX - PAGE + 1, 2 * PAGE),
        (PAGE, u64::MAX - PAGE + 1),
        (0, 1 << 47),
    ];
    for (offset, size) in beyond {
        let refused = refusal(&file, offset, size);
        assert!(matches!(refused, Refused::Beyond { file: 16_384, .. }), "{offset} {size}: {refused}");
    }
    Mapping::new(file.as_fd(), 3 * PAGE, PAGE).unwrap();
}

#[test]
fn a_range_without_octets_or_alignment_is_refused() {
    let file = memfd(4 * PAGE);
    let refused = refusal(&file, 0, 0);
    assert!(matches!(refused, Refused::Empty), "{refused}");
    for (offset, size) in [(1, PAGE), (PAGE / 2, PAGE), (0, PAGE - 1), (0, 1), (PAGE, 2 * PAGE + 8)] {
        let refused = refusal(&file, offset, size);
        assert!(matches!(refused, Refused::Unaligned { page: PAGE, .. }), "{offset} {size}: {refused}");
    }
}

#[test]
fn a_descriptor_that_is_no_file_is_refused() {
    let others = [
        socket(AddressFamily::UNIX, SocketType::STREAM, None).unwrap(),
        rustix::pipe::pipe().unwrap().0,
        eventfd(0, EventfdFlags::CLOEXEC).unwrap(),
        rustix::fs::open("/dev/zero", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty()).unwrap(),
        rustix::fs::open("/dev/shm", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap(),
    ];
    for fd in others {
        let refused = refusal(&fd, 0, PAGE);
        assert!(matches!(refused, Refused::NotAFile), "{fd:?}: {refused}");
    }
}

#[test]
fn a_log_may_end_within_a_page() {
    let file = memfd(3200);
    let log = Mapping::of_log(file.as_fd(), 0, 3200).unwrap();
    assert_eq!(log.len(), 3200);
    whole(&log).set_bits(3199, 0x80);
    assert!(log.span(3199, 2).is_none());
    assert!(matches!(Mapping::of_log(file.as_fd(), 0, 3201), Err(Refused::Beyond { .. })));
}

// Pages that are taken away.

#[test]
fn case_30_a_file_that_is_truncated_poisons_its_mapping_and_no_other() {
    let neighbour_file = memfd(PAGE);
    let neighbour = Mapping::new(neighbour_file.as_fd(), 0, PAGE).unwrap();
    whole(&neighbour).store_u64(0, 42);
    let len = 64 * PAGE;
    for round in 0..100 {
        let file = memfd(len);
        let mapping = Mapping::new(file.as_fd(), 0, len).unwrap();
        let is_over = AtomicBool::new(false);
        let span = whole(&mapping);
        let accesses: [&(dyn Fn(usize) + Sync); 5] = [
            &|at| span.write(at, &[1; 1514]),
            &|at| span.read(at, &mut [0; 1514]),
            &|at| span.store_u64(at, span.load_u64(at + 8)),
            &|at| span.set_bits(at, 1),
            &|at| span.write(at, &[1; 200]),
        ];
        std::thread::scope(|scope| {
            let is_over = &is_over;
            for access in accesses {
                scope.spawn(move || {
                    let mut at = 0;
                    while !is_over.load(Ordering::Relaxed) {
                        at = (at + 4099) % (len as usize - 2000);
                        access(at);
                    }
                });
            }
            std::thread::sleep(std::time::Duration::from_micros(200));
            assert!(!mapping.is_poisoned());
            ftruncate(&file, 0).unwrap();
            while !mapping.is_poisoned() {
                std::thread::yield_now();
            }
            is_over.store(true, Ordering::Relaxed);
        });
        // Memory of our own by now, all of it.
        span.store_u16(span.len() - 2, 0x1234);
        assert_eq!(span.load_u16(span.len() - 2), 0x1234, "round {round}");
        whole(&neighbour).store_u64(8, round);
    }
    assert!(!neighbour.is_poisoned());
    let again = Mapping::new(neighbour_file.as_fd(), 0, PAGE).unwrap();
    assert_eq!((whole(&again).load_u64(0), whole(&again).load_u64(8)), (42, 99));
    assert!(!again.is_poisoned(), "a place that was poisoned once is as good as new");
}

#[test]
fn what_is_read_of_a_page_that_is_gone_is_zero() {
    let file = memfd(2 * PAGE);
    let mapping = Mapping::new(file.as_fd(), 0, 2 * PAGE).unwrap();
    let span = whole(&mapping);
    span.write(0, &vec![0xff; 2 * PAGE as usize]);
    ftruncate(&file, PAGE).unwrap();
    assert_eq!(span.load_u64(0), u64::MAX, "the first page is there as before");
    assert!(!mapping.is_poisoned());
    let mut octets = [0xff; 600];
    span.read(PAGE as usize - 300, &mut octets);
    assert!(mapping.is_poisoned());
    assert_eq!(octets[300..], [0; 300]);
    assert_eq!(span.load_u64(0), 0, "all of the mapping is replaced");
}

/// A memfd of huge pages, mapped; nothing where the machine has none to spare.
fn huge(pages: u64) -> Option<(OwnedFd, Mapping, u64)> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
    let file = memfd_create("huge", flags).ok()?;
    let len = pages << 21;
    ftruncate(&file, len).ok()?;
    let mapping = Mapping::new(file.as_fd(), 0, len).unwrap();
    Some((file, mapping, len))
}

#[test]
fn case_31_a_huge_page_that_the_pool_cannot_give_poisons_the_mapping() {
    // Without pages in the pool the first access fails, and so it does in a hole that was filled before.
    let Some((file, mapping, len)) = huge(1 << 12) else {
        eprintln!("SKIPPED: the kernel has no huge pages");
        return;
    };
    fcntl_add_seals(&file, SealFlags::SHRINK).unwrap();
    assert!(whole(&mapping).is_aligned(1 << 21));
    for at in (0..len).step_by(1 << 21) {
        whole(&mapping).store_u64(at as usize + 8, 1);
        if mapping.is_poisoned() {
            break;
        }
    }
    fallocate(&file, FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE, 0, len).unwrap();
    assert!(mapping.is_poisoned());
    whole(&mapping).store_u64(len as usize - 8, 1);
    let refused = Mapping::new(file.as_fd(), PAGE, PAGE).unwrap_err();
    assert!(matches!(refused, Refused::Unaligned { page: 0x20_0000, .. }), "{refused}");
}

#[test]
fn case_32_a_bus_error_outside_of_mappings_ends_the_process_as_before() {
    if is_child() {
        leave_no_dump();
        let file = memfd(PAGE);
        let guarded = Mapping::new(file.as_fd(), 0, PAGE).unwrap();
        let access = rustix::mm::ProtFlags::READ;
        let flags = rustix::mm::MapFlags::SHARED;
        // SAFETY: no address is asked for, so nothing that is mapped already changes.
        let other = unsafe { rustix::mm::mmap(std::ptr::null_mut(), 4096, access, flags, &file, 0) }.unwrap();
        ftruncate(&file, 0).unwrap();
        whole(&guarded).store_u64(0, 1);
        assert!(guarded.is_poisoned());
        println!("the guarded one was survived");
        // SAFETY: it is mapped, though there is nothing, which is what the test is about.
        let octet = unsafe { other.cast::<u8>().read_volatile() };
        println!("the other one was survived too: {octet}");
        return;
    }
    let (status, text) = in_a_child("case_32_a_bus_error_outside_of_mappings_ends_the_process_as_before");
    assert_eq!(signal_of(status), Some(libc::SIGBUS), "{text}");
    assert!(text.contains("the guarded one was survived") && !text.contains("survived too"), "{text}");
}

#[test]
fn a_bus_error_that_is_sent_does_what_it_did() {
    if is_child() {
        leave_no_dump();
        guard::install().unwrap();
        // SAFETY: it sends a signal, which ends this process.
        unsafe { libc::raise(libc::SIGBUS) };
        // The handler of the standard library takes the first for an access that comes again.
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    let (status, text) = in_a_child("a_bus_error_that_is_sent_does_what_it_did");
    assert_eq!(signal_of(status), Some(libc::SIGBUS), "{text}");
}

#[test]
fn without_an_earlier_handler_a_bus_error_that_is_sent_ends_the_process() {
    if is_child() {
        leave_no_dump();
        // SAFETY: it takes the handler of the standard library away, which nothing here needs.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        guard::install().unwrap();
        // SAFETY: it sends a signal, which ends this process.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    let (status, text) = in_a_child("without_an_earlier_handler_a_bus_error_that_is_sent_ends_the_process");
    assert_eq!(signal_of(status), Some(libc::SIGBUS), "{text}");
}

#[test]
fn a_stack_that_overflows_is_still_told() {
    #[expect(unconditional_recursion, reason = "it is the test")]
    fn overflow(depth: usize) -> usize {
        std::hint::black_box(overflow(std::hint::black_box(depth + 1)) + 1)
    }
    if is_child() {
        leave_no_dump();
        guard::install().unwrap();
        guard::install().unwrap();
        overflow(0);
        return;
    }
    let (status, text) = in_a_child("a_stack_that_overflows_is_still_told");
    assert_eq!(signal_of(status), Some(libc::SIGABRT), "{text}");
    assert!(text.contains("has overflowed its stack"), "{text}");
}

#[test]
fn a_handler_of_another_library_is_called_too() {
    if is_child() {
        extern "C" fn theirs(_: i32) {
            // SAFETY: it ends the process, from everywhere.
            unsafe { libc::_exit(77) };
        }
        // SAFETY: the handler may be called at any time.
        unsafe { libc::signal(libc::SIGBUS, theirs as extern "C" fn(i32) as libc::sighandler_t) };
        guard::install().unwrap();
        // SAFETY: it sends a signal.
        unsafe { libc::raise(libc::SIGBUS) };
        return;
    }
    let (status, text) = in_a_child("a_handler_of_another_library_is_called_too");
    assert_eq!(status.code(), Some(77), "{text}");
}

#[test]
fn a_mapping_more_than_there_are_places_is_refused() {
    if is_child() {
        let file = memfd(PAGE);
        let map = || Mapping::new(file.as_fd(), 0, PAGE);
        let mut mappings: Vec<Mapping> = (0..guard::PLACES).map(|_| map().unwrap()).collect();
        for _ in 0..3 {
            let refused = map().unwrap_err();
            assert!(matches!(refused, Refused::Full), "{refused}");
            assert!(
                refused.to_string().contains("4096") && refused.to_string().contains("memfd"),
                "{refused}"
            );
            // A place that is given back is another's then.
            mappings.swap_remove(1000);
            mappings.push(map().unwrap());
        }
        ftruncate(&file, 0).unwrap();
        let last = mappings.last().unwrap();
        whole(last).store_u16(0, 1);
        assert_eq!(mappings.iter().filter(|mapping| mapping.is_poisoned()).count(), 1);
        assert!(last.is_poisoned());
        return;
    }
    let (status, text) = in_a_child("a_mapping_more_than_there_are_places_is_refused");
    assert!(status.success(), "{text}");
}

#[test]
fn a_mapping_is_gone_when_it_is_dropped() {
    if is_child() {
        let mapped = || std::fs::read_to_string("/proc/self/maps").unwrap().matches("memfd:guest").count();
        let file = memfd(8 << 20);
        let mapping = Mapping::new(file.as_fd(), 4 << 20, 4 << 20).unwrap();
        let other = Mapping::new(file.as_fd(), 0, PAGE).unwrap();
        assert_eq!(mapped(), 2);
        assert!(whole(&mapping).is_aligned(2 << 20));
        drop((mapping, other));
        assert_eq!(mapped(), 0);
        return;
    }
    let (status, text) = in_a_child("a_mapping_is_gone_when_it_is_dropped");
    assert!(status.success(), "{text}");
}
