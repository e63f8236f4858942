//! Attacks with the memory that is shared: files that are none, that shrink, that are exchanged all the time.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use anyhow::Context;
use rustix::fs::{Mode, OFlags, SealFlags, fcntl_add_seals, fstatfs};
use vmlan_api::PortState;
use vmlan_frame::MacAddr;

use super::ports;
use crate::attack::{Attack, Card, Field, Held};
use crate::vhost::{
    FEATURES, FrontEnd, GUEST, Kind, Memory, NEED_REPLY, OCTETS, RX, Ring, TX, USER, VERSION, feature, longs,
    message, wait_log, wait_state, words,
};
use crate::wire::{attacker, noise};

/// Entries of the rings.
const NUM: u16 = 256;

const RINGS: [Ring; 2] = [Ring { index: RX, num: NUM }, Ring { index: TX, num: NUM }];

/// Memory whose guest sends a frame to this address for ever, and receives.
fn busy(to: MacAddr, from: MacAddr) -> io::Result<Memory> {
    let memory = Memory::new(OCTETS)?;
    let [rx, tx] = RINGS;
    rx.receive(&memory)?;
    tx.send(&memory, &noise(to, from))?;
    rx.refill(&memory)?;
    tx.refill(&memory)?;
    Ok(memory)
}

/// Keeps both rings full for a moment.
fn keep_busy(front: &FrontEnd, memory: &Memory, turns: usize) -> io::Result<()> {
    for _ in 0..turns {
        for ring in RINGS {
            if ring.refill(memory)? {
                front.ring(ring.index);
            }
        }
    }
    Ok(())
}

/// Guests whose memory loses its pages in the middle of their traffic.
pub(super) struct Truncated;

impl Truncated {
    const PORTS: usize = 50;
    const ATTACKERS: usize = 2;
    /// Where a file ends, one time after the other: nowhere, behind the rings, within them, behind a page.
    const ENDS: [u64; 4] = [0, 2 << 20, (1 << 20) + 4096, 4096];
}

impl Attack for Truncated {
    fn card(&self) -> Card {
        Card::new("vhost-truncate", "guests at full rate, whose memory is taken away, again and again")
            .by(Truncated::ATTACKERS)
            .at_ports(Truncated::PORTS)
            .for_at_least(Duration::from_millis(2500))
    }

    fn config(&self, _: &Field) -> String {
        ports("m", Truncated::PORTS)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let own = (number..Truncated::PORTS).step_by(Truncated::ATTACKERS);
        let mut done = 0;
        for (round, port) in own.cycle().enumerate() {
            let Some(mut front) = FrontEnd::served(field, &format!("m{port}")) else { break };
            let from = attacker(port);
            // Mostly to nobody; now and then to all, so that the other attacker's memory is written to.
            let to = if round.is_multiple_of(4) { MacAddr::BROADCAST } else { from };
            let memory = busy(to, from)?;
            if front.run(FEATURES, &memory, RINGS).is_err() {
                continue;
            }
            keep_busy(&front, &memory, 20)?;
            memory.resize(Truncated::ENDS[round % Truncated::ENDS.len()])?;
            front.ring(TX);
            done += 1;
            if round % 8 < 4 {
                // The pages that are there again are empty ones.
                memory.resize(OCTETS)?;
            } else if !front.is_left(field.patience) {
                field.broken("a guest whose memory is gone keeps its connection");
            }
            if field.is_over() {
                break;
            }
        }
        field.note(format!("{done} files were cut short by attacker {number}"));
        Ok(Box::new(()))
    }
}

/// Files and ranges that can be no guest's memory.
pub(super) struct Refused;

/// A case: its name, the text that the log has to have, regions with the place of their file in the list, and files.
struct Case {
    what: &'static str,
    says: &'static str,
    regions: Vec<[u64; 4]>,
    files: Vec<OwnedFd>,
}

/// The same memory, opened again for reading only.
fn read_only(memory: &Memory) -> io::Result<OwnedFd> {
    use std::os::fd::AsRawFd;
    let path = format!("/proc/self/fd/{}", memory.file.as_raw_fd());
    Ok(rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?)
}

fn sealed(seals: SealFlags) -> io::Result<OwnedFd> {
    let memory = Memory::new(OCTETS)?;
    fcntl_add_seals(&memory.file, seals)?;
    Ok(memory.file)
}

/// A file of a disk, if there is a disk.
fn on_disk(field: &Field) -> Option<File> {
    const TMPFS: u64 = 0x0102_1994;
    let places = [field.path("disk"), "/var/tmp/vmlan-attack-disk".into()];
    places.into_iter().find_map(|path| {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(&path).ok()?;
        let _ = std::fs::remove_file(&path);
        file.set_len(OCTETS).ok()?;
        (fstatfs(&file).ok()?.f_type as u64 != TMPFS).then_some(file)
    })
}

impl Refused {
    const CASES: usize = 17;

    fn cases(field: &Field) -> anyhow::Result<Vec<Case>> {
        let whole = [GUEST, OCTETS, USER, 0];
        let memory = || Memory::new(OCTETS).map(|memory| memory.file);
        let mut cases = Vec::new();
        let mut add = |what, says, regions: &[[u64; 4]], files| {
            cases.push(Case { what, says, regions: regions.to_vec(), files });
        };
        if let Some(file) = on_disk(field) {
            add("a file of a disk", "memfd", &[whole], vec![file.into()]);
        }
        add("a read-only file", "memfd with O_RDWR", &[whole], vec![read_only(&Memory::new(OCTETS)?)?]);
        add("a file sealed against writes", "memfd", &[whole], vec![sealed(SealFlags::WRITE)?]);
        add("a file sealed against later writes", "memfd", &[whole], vec![sealed(SealFlags::FUTURE_WRITE)?]);
        add("a socket", "memfd", &[whole], vec![UnixStream::pair()?.0.into()]);
        add(
            "a device",
            "memfd",
            &[whole],
            vec![File::options().read(true).write(true).open("/dev/zero")?.into()],
        );
        add("a region beyond the end", "memfd longer", &[[GUEST, 2 * OCTETS, USER, 0]], vec![memory()?]);
        add("an offset beyond the end", "memfd longer", &[[GUEST, 4096, USER, OCTETS]], vec![memory()?]);
        add("half a page", "align both", &[[GUEST, 4096, USER, 2048]], vec![memory()?]);
        add("a page and a half", "align both", &[[GUEST, 6144, USER, 0]], vec![memory()?]);
        add("an empty region", "empty", &[[GUEST, 0, USER, 0]], vec![memory()?]);
        add("an offset that wraps", "2^64", &[[GUEST, 8192, USER, u64::MAX - 4095]], vec![memory()?]);
        add("an address that wraps", "2^64", &[[u64::MAX - 4095, 8192, USER, 0]], vec![memory()?]);
        let other = GUEST + OCTETS;
        add(
            "the same guest addresses",
            "overlaps",
            &[whole, [other - 4096, 8192, 0, 0]],
            vec![memory()?, memory()?],
        );
        add(
            "the same addresses of the front end",
            "overlaps",
            &[whole, [other, 8192, USER + OCTETS - 4096, 0]],
            vec![memory()?, memory()?],
        );
        for (what, large) in [("two TiB", 2 << 40), ("all addresses of a process", 1 << 47)] {
            add(what, "the key `memory`", &[[GUEST, large, 0, 0]], vec![Memory::new(large)?.file]);
        }
        Ok(cases)
    }
}

impl Attack for Refused {
    fn card(&self) -> Card {
        Card::new(
            "vhost-files",
            "files and ranges of files that can be no guest's memory, and one file twice",
        )
        .property()
        .at_ports(Refused::CASES + 1)
    }

    fn config(&self, _: &Field) -> String {
        ports("f", Refused::CASES + 1)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let cases = Refused::cases(field)?;
        for (number, case) in cases.iter().enumerate() {
            let port = format!("f{number}");
            let front = FrontEnd::patient(field, &port)?;
            let files: Vec<BorrowedFd<'_>> = case.files.iter().map(AsFd::as_fd).collect();
            front.send(Kind::SetFeatures, &longs(&[FEATURES]), &[])?;
            front.set_memory(&case.regions, &files)?;
            if !front.is_left(field.patience) {
                field.broken(format!("{} is taken for memory", case.what));
            }
        }
        for (number, case) in cases.iter().enumerate() {
            wait_log(field, &format!("f{number}"), case.says, case.what);
        }
        let front = FrontEnd::patient(field, &format!("f{}", Refused::CASES))?;
        let memory = Memory::new(OCTETS)?;
        let twice = [memory.region(), [GUEST + OCTETS, OCTETS, USER + OCTETS, 0]];
        front.set_memory(&twice, &[memory.file.as_fd(), memory.file.as_fd()])?;
        if front.ask(Kind::GetFeatures, &[], &[]).is_err() {
            field.broken("one file is refused as two regions");
        }
        Ok(Box::new((front, memory)))
    }
}

/// A guest at full rate whose memory is exchanged, grows and goes away all the time, as front ends may do.
pub(super) struct Replaced;

impl Replaced {
    /// Exchanges all memory for another file.
    fn replace(front: &FrontEnd) -> anyhow::Result<Memory> {
        let memory = busy(attacker(1), attacker(1))?;
        front.set_memory(&[memory.region()], &[memory.file.as_fd()])?;
        Ok(memory)
    }

    /// Takes the memory away under the rings, and mends them.
    fn remove(front: &FrontEnd, memory: &Memory) -> anyhow::Result<()> {
        let region = [&[0], &memory.region()[..]].concat();
        front.send(Kind::RemMemReg, &longs(&region), &[])?;
        front.send(Kind::AddMemReg, &longs(&region), &[memory.file.as_fd()])?;
        for index in [RX, TX] {
            front.kick(index, &front.kicks[index as usize])?;
        }
        Ok(())
    }

    /// Adds other memory, and removes it.
    fn grow(front: &FrontEnd) -> anyhow::Result<()> {
        let other = Memory::new(OCTETS)?;
        let region = longs(&[0, 1 << 40, OCTETS, 1 << 40, 0]);
        front.send(Kind::AddMemReg, &region, &[other.file.as_fd()])?;
        front.send(Kind::RemMemReg, &region, &[])?;
        Ok(())
    }
}

impl Attack for Replaced {
    fn card(&self) -> Card {
        Card::new("vhost-replace", "a guest at full rate whose memory is exchanged and removed all the time")
            .at_ports(1)
    }

    fn config(&self, _: &Field) -> String {
        ports("x", 1)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, "x0") else { return Ok(Box::new(())) };
        let mut memory = busy(attacker(1), attacker(1))?;
        front.run(FEATURES, &memory, RINGS)?;
        let mut round = 0;
        while !field.is_over() {
            match round % 3 {
                0 => memory = Replaced::replace(&front)?,
                1 => Replaced::remove(&front, &memory)?,
                _ => Replaced::grow(&front)?,
            }
            keep_busy(&front, &memory, 5)?;
            round += 1;
        }
        field.note(format!("{round} changes"));
        // All of it was right, so the guest goes on.
        let limit = std::time::Instant::now() + field.patience;
        front.wait_up_to(field.patience)?;
        front.ask(Kind::GetFeatures, &[], &[]).context("the connection behind legal changes")?;
        let before = RINGS[1].used(&memory)?;
        while RINGS[1].used(&memory)? == before {
            if std::time::Instant::now() > limit {
                field.broken("the guest's ring stands still behind changes of its memory");
                break;
            }
            keep_busy(&front, &memory, 1)?;
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(Box::new((front, memory)))
    }
}

/// Logs of changed memory: too short, exchanged all the time, cut short.
pub(super) struct Log;

impl Log {
    /// Octets of the memory, and of a log of it.
    const PLACE: u64 = (GUEST + OCTETS).div_ceil(8 * 4096);
    const PORTS: usize = 4;

    /// Hands a log over. True if the answer is its place, so that it was taken.
    fn is_taken(front: &FrontEnd, log: &Memory, octets: u64) -> io::Result<bool> {
        let place = longs(&[octets, 0]);
        front.send(Kind::SetLogBase, &place, &[log.file.as_fd()])?;
        let answer = front.answer()?;
        Ok(octets > 0 && answer == place)
    }

    fn once(field: &Field, port: &str) -> anyhow::Result<()> {
        let Some(mut front) = FrontEnd::served(field, port) else { return Ok(()) };
        front.wait_up_to(field.patience)?;
        let memory = busy(MacAddr::BROADCAST, attacker(1))?;
        front.run(FEATURES | feature::LOG_ALL, &memory, RINGS).context("a guest that moves")?;
        for octets in [0, 1, Log::PLACE - 1, u64::MAX, 1 << 40] {
            let log = Memory::new(Log::PLACE)?;
            if Log::is_taken(&front, &log, octets).context("a log that is too short")? {
                field.broken(format!("a log of {octets} octets is taken"));
            }
        }
        let mut last = None;
        for _ in 0..20 {
            let log = Memory::new(Log::PLACE)?;
            if !Log::is_taken(&front, &log, Log::PLACE).context("a log")? {
                field.broken("a log that is long enough is refused");
            }
            // The used ring's address in the log is beyond its end.
            front.send(Kind::SetVringAddr, &RINGS[1].addresses(Some(GUEST)), &[])?;
            keep_busy(&front, &memory, 2)?;
            last = Some(log);
        }
        if let Some(log) = &last {
            log.resize(0)?;
        }
        let limit = std::time::Instant::now() + field.patience;
        // Every frame is logged, so the next one finds that out.
        while !front.is_left(Duration::from_millis(20)) {
            if std::time::Instant::now() > limit {
                field.broken("a log that was cut short goes unnoticed");
                break;
            }
            keep_busy(&front, &memory, 2)?;
        }
        Ok(())
    }
}

impl Attack for Log {
    fn card(&self) -> Card {
        Card::new("vhost-log", "a guest at full rate with logs that are too short, exchanged, and cut short")
            .at_ports(Log::PORTS)
    }

    fn config(&self, _: &Field) -> String {
        ports("l", Log::PORTS)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        for port in (0..Log::PORTS).cycle() {
            Log::once(field, &format!("l{port}"))?;
            if field.is_over() {
                break;
            }
        }
        Ok(Box::new(()))
    }
}

/// Front ends that die in the middle of what they say.
pub(super) struct Dying;

impl Dying {
    fn once(front: FrontEnd, way: usize) -> anyhow::Result<()> {
        let memory = Memory::new(8 * OCTETS)?;
        let regions: Vec<[u64; 4]> = (0..8)
            .map(|number| number * OCTETS)
            .map(|offset| [GUEST + offset, OCTETS, USER + offset, offset])
            .collect();
        let files = [memory.file.as_fd(); 8];
        let table: Vec<u8> = regions.iter().flat_map(|region| longs(region)).collect();
        let table = [words(&[8, 0]), table].concat();
        let octets = message(Kind::SetMemTable as u32, VERSION | NEED_REPLY, &table);
        match way {
            // No answer is taken.
            0 => drop(front.send_octets(&octets, &files)),
            1 => {
                front.share(FEATURES, &memory)?;
                drop(front.send_octets(&octets, &files));
            }
            // Half of it, with all files.
            _ => drop(front.send_octets(&octets[..octets.len() / 2], &files)),
        }
        Ok(())
    }
}

impl Attack for Dying {
    fn card(&self) -> Card {
        Card::new("vhost-dying", "front ends that hand memory over and die before it is answered").at_ports(1)
    }

    fn config(&self, _: &Field) -> String {
        ports("y", 1)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut died = 0;
        while let Some(front) = FrontEnd::served(field, "y0") {
            // Its end may be earlier than what it says.
            let _ = Dying::once(front, died % 3);
            died += 1;
        }
        field.note(format!("{died} died"));
        Ok(Box::new(()))
    }

    fn after(&self, field: &Field) -> anyhow::Result<()> {
        let front = FrontEnd::patient(field, "y0")?;
        drop(front);
        wait_state(field, "y0", PortState::Waiting)
    }
}
