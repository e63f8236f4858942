//! Memory and its log: what is mapped, what is refused, and what changes while rings run.

use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals};

use super::*;

#[test]
fn case_14_a_ring_without_its_memory_is_broken_until_it_is_kicked_again() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    front_end.run(&memory);
    front_end.send(Kind::RemMemReg, &longs(&[0, 0, MEMORY, USER, 0]), &[]);
    let broken = front_end.wait_for(|state| !state.up).reason.unwrap();
    assert!(broken.contains("ring 0 is broken"), "{broken}");
    front_end.share(&memory);
    for index in [0, 1] {
        front_end.send(Kind::SetVringKick, &longs(&[index]), &[&event()]);
    }
    assert_eq!(front_end.wait_for(|state| state.up).reason, None);
}

#[test]
fn case_30_memory_that_is_cut_short_ends_the_connection() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    front_end.accept();
    front_end.share(&memory);
    front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1]));
    ftruncate(&memory, 0).unwrap();
    front_end.start(0, &event());
    let text = front_end.violation();
    assert!(text.contains("cut short"), "{text}");
}

#[test]
fn case_33_files_that_are_no_memory_are_refused() {
    let writable = memfd(MEMORY);
    let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&writable));
    let read_only = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).unwrap();
    let sealed = memfd(MEMORY);
    fcntl_add_seals(&sealed, SealFlags::WRITE).unwrap();
    let short = memfd(MEMORY - 4096);
    let (pipe, _) = rustix::pipe::pipe().unwrap();
    for file in [read_only, sealed, short, pipe] {
        let front_end = FrontEnd::new();
        front_end.share(&file);
        let text = front_end.violation();
        assert!(text.contains("memfd"), "{text}");
    }
}

#[test]
fn memory_is_sealed_where_that_is_asked_for() {
    let front_end = FrontEnd::with(|options| options.sealed = true);
    front_end.share(&memfd(MEMORY));
    assert!(front_end.violation().contains("sealed"));
    let mut front_end = FrontEnd::with(|options| options.sealed = true);
    let memory = memfd(MEMORY);
    fcntl_add_seals(&memory, SealFlags::SHRINK).unwrap();
    front_end.run(&memory);
}

#[test]
fn memory_has_a_bound() {
    let front_end = FrontEnd::with(|options| options.memory = MEMORY - 1);
    front_end.share(&memfd(MEMORY));
    assert!(front_end.violation().contains("`memory`"));
}

#[test]
fn case_40_a_log_that_is_short_is_refused_and_others_are_swapped() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    front_end.send(Kind::SetFeatures, &longs(&[ACCEPTED | feature::LOG_ALL]), &[]);
    // No whole pages.
    let least = MEMORY / 32_768;
    let log = memfd(least);
    front_end.send(Kind::SetLogBase, &longs(&[least - 1, 0]), &[&log]);
    assert_eq!(front_end.receive(), [0; 16]);
    front_end.wait_for(|state| state.reason.as_ref().is_some_and(|reason| reason.contains("log")));
    for _ in 0..3 {
        front_end.send(Kind::SetLogBase, &longs(&[least, 0]), &[&log]);
        assert_eq!(front_end.receive(), longs(&[least, 0]));
    }
    front_end.send(Kind::SetFeatures, &longs(&[ACCEPTED]), &[]);
    front_end.base(0);
}

#[test]
fn memory_is_replaced_while_rings_run() {
    let mut front_end = FrontEnd::new();
    let (memory, more) = (memfd(MEMORY), memfd(MEMORY));
    front_end.run(&memory);
    let table = [words(&[2, 0]), longs(&[0, MEMORY, USER, 0, MEMORY, MEMORY, 0, 0])].concat();
    front_end.send(Kind::SetMemTable, &table, &[&memory, &more]);
    front_end.send(Kind::RemMemReg, &longs(&[0, MEMORY, MEMORY, 0, 0]), &[&more]);
    assert_eq!(front_end.ask_whether(Kind::SetVringEnable, &words(&[0, 1])), 0);
    assert!(front_end.reports.try_recv().is_err());
}
