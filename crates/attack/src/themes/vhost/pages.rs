//! Attacks with the pages of the memory that is shared: there are none, each access needs a new one, or the daemon is
//! the last that has them.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::fs::{
    FallocateFlags, MemfdFlags, Mode, OFlags, SealFlags, fallocate, fcntl_add_seals, ftruncate, memfd_create,
    openat,
};
use rustix::mount::{
    FsMountFlags, FsOpenFlags, MountAttrFlags, fsconfig_create, fsconfig_set_string, fsmount, fsopen,
};

use super::ports;
use crate::attack::{Attack, Card, Field, Held, Stage};
use crate::daemon::get;
use crate::vhost::{
    BUFFERS, FEATURES, FrontEnd, GUEST, Kind, MEMORY, Memory, OCTETS, RX, Ring, TX, USER, WRITE, longs, split,
};
use crate::wire::{MacAddr, attacker, noise};

const NUM: u16 = 256;

const RINGS: [Ring; 2] = [Ring { index: RX, num: NUM }, Ring { index: TX, num: NUM }];

/// Memory whose guest broadcasts.
fn broadcasting(from: usize) -> io::Result<Memory> {
    let memory = Memory::new(OCTETS)?;
    let [rx, tx] = RINGS;
    rx.receive(&memory)?;
    tx.send(&memory, &noise(MacAddr::BROADCAST, attacker(from)))?;
    rx.refill(&memory)?;
    tx.refill(&memory)?;
    Ok(memory)
}

fn keep_busy(front: &FrontEnd, memory: &Memory) -> io::Result<()> {
    for ring in RINGS {
        if ring.refill(memory)? {
            front.ring(ring.index);
        }
    }
    Ok(())
}

/// Guests with buffers in files that have no pages and get none, although nobody makes them shorter.
pub(super) enum Holes {
    /// Huge pages of which the system has none, in a file that is sealed.
    Huge,
    /// A file system in memory that is full.
    Full,
}

/// Addresses of the file without pages, as the guest and as the front end count.
const HOLE: [u64; 2] = [GUEST + (1 << 40), USER + (1 << 40)];

impl Holes {
    /// The name of the port that is attacked from; another one sends to it.
    fn name(&self) -> &'static str {
        match self {
            Holes::Huge => "e",
            Holes::Full => "v",
        }
    }

    /// Octets of the largest huge pages of which the system has none: those that others are least likely to ask for
    /// meanwhile.
    fn unavailable() -> Option<u64> {
        let sizes = fs::read_dir("/sys/kernel/mm/hugepages").ok()?;
        let none = sizes.flatten().filter_map(|size| {
            let has_none = ["nr_hugepages", "nr_overcommit_hugepages"].iter().all(|name| {
                fs::read_to_string(size.path().join(name)).is_ok_and(|text| text.trim_end() == "0")
            });
            let name = size.file_name();
            let kib = name.to_str()?.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()?;
            has_none.then_some(kib << 10)
        });
        none.max()
    }

    /// A file without pages, and its octets; nothing where the system has pages for all.
    fn file(&self) -> anyhow::Result<Option<(OwnedFd, u64)>> {
        match self {
            Holes::Huge => {
                let Some(octets) = Holes::unavailable() else { return Ok(None) };
                // The size of its pages is said by its logarithm (memfd_create(2)).
                let size = MemfdFlags::from_bits_retain(octets.ilog2() << 26);
                let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB | size;
                let file = memfd_create(MEMORY, flags).context("a file of huge pages")?;
                ftruncate(&file, octets)?;
                fcntl_add_seals(&file, SealFlags::SHRINK)?;
                Ok(Some((file, octets)))
            }
            Holes::Full => {
                let system = fsopen("tmpfs", FsOpenFlags::FSOPEN_CLOEXEC).context("a file system")?;
                fsconfig_set_string(system.as_fd(), "size", OCTETS.to_string())?;
                fsconfig_create(system.as_fd())?;
                // Nowhere in the tree, so that it goes with its last descriptor.
                let root = fsmount(system.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, MountAttrFlags::empty())?;
                let open = |name: &str| {
                    let flags = OFlags::CREATE | OFlags::RDWR | OFlags::CLOEXEC;
                    openat(&root, name, flags, Mode::RUSR | Mode::WUSR)
                };
                let (file, rest) = (open(MEMORY)?, open("rest")?);
                ftruncate(&file, OCTETS)?;
                fallocate(&rest, FallocateFlags::empty(), 0, OCTETS).context("all of a file system")?;
                Ok(Some((file, OCTETS)))
            }
        }
    }

    /// Starts a guest that reads from the file, or writes to it, and waits until its connection is over.
    fn once(&self, field: &Field, sender: (&FrontEnd, &Memory), round: usize) -> anyhow::Result<bool> {
        let Some((file, octets)) = self.file()? else { return Ok(false) };
        let mut front = FrontEnd::patient(field, &format!("{}0", self.name()))?;
        let memory = broadcasting(0)?;
        fcntl_add_seals(&memory.file, SealFlags::SHRINK)?;
        let [rx, tx] = RINGS;
        // In the middle of the file.
        let (ring, flags) = if round.is_multiple_of(2) { (tx, 0) } else { (rx, WRITE) };
        let one = split(HOLE[0] + octets / 2, 1000, flags, 0);
        memory.write(ring.descriptor(0), &one.repeat(NUM.into()))?;
        front.share(FEATURES, &memory)?;
        let region = longs(&[0, HOLE[0], octets, HOLE[1], 0]);
        front.send(Kind::AddMemReg, &region, &[file.as_fd()])?;
        drop(file);
        // It may be over as soon as the first ring runs.
        let _ = front.run_shared(RINGS);
        let deadline = Instant::now() + field.patience;
        while !front.is_left(Duration::from_millis(20)) {
            if Instant::now() > deadline {
                field.broken("a guest whose memory has no pages keeps its connection");
                break;
            }
            for index in 0..front.kicks.len() {
                front.ring(index as u32);
            }
            // Frames that it sent before its ring was enabled were dropped, and nobody has looked at them.
            keep_busy(&front, &memory)?;
            keep_busy(sender.0, sender.1)?;
        }
        Ok(true)
    }
}

impl Attack for Holes {
    fn card(&self) -> Card {
        let card = match self {
            Holes::Huge => Card::new(
                "vhost-holes",
                "guests with buffers in sealed files of huge pages that there are none of",
            ),
            Holes::Full => {
                Card::new("vhost-full", "guests with buffers in files of a file system that is full")
                    .on(Stage::Users)
            }
        };
        card.at_ports(2).for_at_least(Duration::from_millis(2500))
    }

    fn config(&self, _: &Field) -> String {
        match self {
            // Seals do not help.
            Holes::Huge => ports(self.name(), 2).replace(" }", ", sealed = true }"),
            Holes::Full => ports(self.name(), 2),
        }
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut sender = FrontEnd::patient(field, &format!("{}1", self.name()))?;
        let sent = broadcasting(1)?;
        fcntl_add_seals(&sent.file, SealFlags::SHRINK)?;
        sender.run(FEATURES, &sent, RINGS)?;
        let mut rounds = 0;
        // One that reads and one that writes at least.
        while rounds < 2 || !field.is_over() {
            if !self.once(field, (&sender, &sent), rounds)? {
                eprintln!("SKIPPED: the system has huge pages of every size");
                break;
            }
            rounds += 1;
        }
        field.note(format!("{rounds} guests"));
        sender.wait_up_to(field.patience)?;
        sender.ask(Kind::GetFeatures, &[], &[]).context("the guest that sends to them")?;
        Ok(Box::new((sender, sent)))
    }
}

/// A guest whose memory loses its pages behind each frame, so that a worker has to get each one anew.
pub(super) struct Sparse;

impl Sparse {
    /// Page faults that show that the attack takes place.
    const FAULTS: u64 = 1000;
    /// Octets of memory, in which each buffer has a page of its own.
    const OCTETS: u64 = BUFFERS + 4096 * (NUM as u64);

    /// Page faults of the daemon so far that took no disk (`minflt`, proc_pid_stat(5)).
    fn faults(pid: u32) -> anyhow::Result<u64> {
        let text = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"))?;
        // Behind the name, which ends with the last bracket.
        let rest = text.rsplit_once(')').map(|(_, rest)| rest);
        rest.and_then(|rest| rest.split_whitespace().nth(7)?.parse().ok()).context("page faults")
    }

    fn receiver() -> io::Result<Memory> {
        let memory = Memory::new(Sparse::OCTETS)?;
        let [rx, tx] = RINGS;
        let buffer = |number: u16| split(GUEST + BUFFERS + 4096 * u64::from(number), 4096, WRITE, 0);
        memory.write(rx.descriptor(0), &(0..NUM).flat_map(buffer).collect::<Vec<u8>>())?;
        rx.name_all(&memory)?;
        rx.refill(&memory)?;
        // Zeros, from where there is no page either.
        let zeros = split(GUEST + BUFFERS, 1000, 0, 0);
        memory.write(tx.descriptor(0), &zeros.repeat(NUM.into()))?;
        tx.name_all(&memory)?;
        tx.refill(&memory)?;
        Ok(memory)
    }
}

impl Attack for Sparse {
    fn card(&self) -> Card {
        Card::new(
            "vhost-sparse",
            "a guest whose memory loses its pages behind each frame, and another floods it",
        )
        .by(2)
        .at_ports(2)
    }

    fn config(&self, _: &Field) -> String {
        ports("s", 2)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("s{number}")) else {
            return Ok(Box::new(()));
        };
        front.wait_up_to(field.patience)?;
        let memory = if number == 0 { Sparse::receiver()? } else { broadcasting(1)? };
        front.run(FEATURES, &memory, RINGS)?;
        let mut holes = 0_u64;
        while !field.is_over() {
            if number == 0 {
                let flags = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                fallocate(&memory.file, flags, BUFFERS, Sparse::OCTETS - BUFFERS)?;
                holes += 1;
            }
            keep_busy(&front, &memory)?;
        }
        if number == 0 {
            field.note(format!("its pages were taken {holes} times"));
        }
        front.ask(Kind::GetFeatures, &[], &[]).context("a guest with little memory")?;
        Ok(Box::new((front, memory)))
    }

    fn during(&self, field: &Field) -> anyhow::Result<()> {
        let status: vmlan_api::Status = get(&field.control(), "/v1/status", field.patience)?;
        let (before, deadline) = (Sparse::faults(status.pid)?, Instant::now() + field.patience);
        while Sparse::faults(status.pid)? < before + Sparse::FAULTS {
            if Instant::now() > deadline {
                field.broken("the daemon's stores into memory without pages do not show as its page faults");
                break;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }
}

/// Front ends that leave much memory behind, which the daemon is then the last to have and has to give back.
pub(super) struct Last;

impl Last {
    const OCTETS: u64 = 64 << 20;
}

impl Attack for Last {
    fn card(&self) -> Card {
        Card::new("vhost-last", "guests at full rate leave memory behind that the daemon is the last to have")
            .at_ports(1)
    }

    fn config(&self, _: &Field) -> String {
        ports("o", 1)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut left = 0;
        // Once at the end of the connection, and once while it goes on, at least.
        while left < 2 || !field.is_over() {
            let mut front = FrontEnd::patient(field, "o0")?;
            let memory = broadcasting(0)?;
            ftruncate(&memory.file, Last::OCTETS)?;
            fallocate(&memory.file, FallocateFlags::empty(), 0, Last::OCTETS)?;
            let memory = Memory { octets: Last::OCTETS, ..memory };
            front.run(FEATURES, &memory, RINGS)?;
            (0..20).try_for_each(|_| keep_busy(&front, &memory))?;
            if left % 2 == 1 {
                let other = broadcasting(0)?;
                front.set_memory(&[other.region()], &[other.file.as_fd()])?;
                drop(memory);
                front.ask(Kind::GetFeatures, &[], &[])?;
            }
            left += 1;
        }
        field.note(format!("{left} times {} MiB were left behind", Last::OCTETS >> 20));
        Ok(Box::new(()))
    }
}
