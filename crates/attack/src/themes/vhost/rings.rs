//! Attacks with what a guest writes into its rings, and with the descriptors by which both sides ring.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::{Duration, Instant};

use anyhow::Context;
use rustix::event::{EventfdFlags, eventfd};

use super::ports;
use crate::attack::{Attack, Card, Field, Held};
use crate::vhost::{
    BUFFERS, FEATURES, FrontEnd, GUEST, HEADER, INDIRECT, Kind, Memory, NEXT, OCTETS, RX, Ring, TX, USER,
    WRITE, event, feature, longs, packed, split, words,
};
use crate::wire::{MacAddr, attacker, noise};

const NUM: u16 = 256;

const RINGS: [Ring; 2] = [Ring { index: RX, num: NUM }, Ring { index: TX, num: NUM }];

/// Memory with a ring that sends this frame, as often as it is refilled, and one that receives.
fn memory(frame: &[u8]) -> io::Result<Memory> {
    let memory = Memory::new(OCTETS)?;
    let [rx, tx] = RINGS;
    rx.receive(&memory)?;
    rx.refill(&memory)?;
    tx.send(&memory, frame)?;
    Ok(memory)
}

/// Sends and receives at full rate until the end; true if something was sent.
fn flood(field: &Field, front: &FrontEnd, memory: &Memory) -> io::Result<bool> {
    let mut turns = 0;
    while !field.is_over() {
        for ring in RINGS {
            if ring.refill(memory)? {
                turns += 1;
                front.ring(ring.index);
            }
        }
    }
    Ok(turns > 4)
}

/// Guests whose call descriptors are full, and wait for a reader that never comes.
pub(super) struct FullCall;

impl Attack for FullCall {
    fn card(&self) -> Card {
        Card::new("vhost-calls", "guests at full rate, whose calls are blocking eventfds that are full")
            .by(2)
            .at_ports(2)
    }

    fn config(&self, _: &Field) -> String {
        ports("b", 2)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("b{number}")) else {
            return Ok(Box::new(()));
        };
        let memory = memory(&noise(attacker(1 - number), attacker(number)))?;
        front.share(FEATURES, &memory)?;
        for ring in RINGS {
            let call = eventfd(0, EventfdFlags::CLOEXEC)?;
            rustix::io::write(&call, &(u64::MAX - 1).to_ne_bytes())?;
            // Its counter stays up whatever is read of it.
            let kick =
                eventfd(u32::MAX, EventfdFlags::CLOEXEC | EventfdFlags::SEMAPHORE | EventfdFlags::NONBLOCK)?;
            front.start(ring, &kick, &call)?;
            front.kicks.push(kick);
            front.calls.push(call);
        }
        if !flood(field, &front, &memory)? && !field.is_over() {
            field.broken("a guest whose call is full is not served");
        }
        front.wait_up_to(field.patience)?;
        front.ask(Kind::GetFeatures, &[], &[]).context("a guest whose call is full")?;
        Ok(Box::new((front, memory)))
    }
}

/// Kicks without end, with nothing to do behind them.
pub(super) struct Kicks;

impl Attack for Kicks {
    fn card(&self) -> Card {
        Card::new("vhost-kicks", "a guest kicks both of its rings without end, with neither frames nor room")
            .by(2)
            .at_ports(2)
    }

    fn config(&self, _: &Field) -> String {
        ports("k", 2)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("k{number}")) else {
            return Ok(Box::new(()));
        };
        let memory = match number {
            0 => Memory::new(OCTETS)?,
            _ => memory(&noise(MacAddr::BROADCAST, attacker(1)))?,
        };
        front.run(FEATURES, &memory, RINGS)?;
        let mut kicks = 0_u64;
        while !field.is_over() {
            if number == 0 {
                front.ring(TX);
                front.ring(RX);
                kicks += 2;
            } else {
                // What waits for room in the other one's ring.
                let sent = RINGS[1].used(&memory)?;
                RINGS[1].set_available(&memory, sent.wrapping_add(1))?;
                front.ring(TX);
                field.pause(Duration::from_millis(1));
            }
        }
        if kicks > 0 {
            field.note(format!("{kicks} kicks"));
        }
        Ok(Box::new((front, memory)))
    }
}

/// A descriptor: an address, octets, flags, and in a split ring the next one.
type Entry = (u64, u32, u16, u16);

/// Where cases have data and tables of descriptors, and addresses that are nowhere.
const DATA: u64 = GUEST + BUFFERS + 0x1000;
const TABLE: u64 = GUEST + BUFFERS;
const END: u64 = GUEST + OCTETS;

/// Chains that make no sense in rings of either layout: a name, the ring, its descriptors, and those of a table.
const CHAINS: &[(&str, u32, &[Entry], &[Entry])] = &[
    ("a table in a table", TX, &[(TABLE, 16, INDIRECT, 0)], &[(TABLE, 16, INDIRECT, 0)]),
    ("a table and a next one", TX, &[(TABLE, 16, INDIRECT | NEXT, 1), (DATA, 9, 0, 0)], &[(DATA, 100, 0, 0)]),
    ("an empty table", TX, &[(TABLE, 0, INDIRECT, 0)], &[]),
    ("a table and a half", TX, &[(TABLE, 24, INDIRECT, 0)], &[(DATA, 100, 0, 0)]),
    ("a table of 4 GiB", TX, &[(TABLE, 0xffff_fff0, INDIRECT, 0)], &[]),
    ("a table of 257 entries", TX, &[(TABLE, 257 * 16, INDIRECT, 0)], &[]),
    ("a table in no memory", TX, &[(END, 16, INDIRECT, 0)], &[]),
    ("a buffer in no memory", TX, &[(0, 100, 0, 0)], &[]),
    ("a buffer that ends behind the memory", TX, &[(END - 99, 100, 0, 0)], &[]),
    ("a buffer around all addresses", TX, &[(u64::MAX - 50, 100, 0, 0)], &[]),
    ("a piece in no memory", TX, &[(DATA, 50, NEXT, 1), (END, 50, 0, 0)], &[]),
    ("a buffer to be written by the sender's device", TX, &[(DATA, 100, WRITE, 0)], &[]),
    ("a buffer to be read by the receiver's device", RX, &[(DATA, 2000, 0, 0)], &[]),
    ("room in no memory", RX, &[(0, 2000, WRITE, 0)], &[]),
    ("room around all addresses", RX, &[(u64::MAX - 50, 2000, WRITE, 0)], &[]),
];

/// The flag of a descriptor of a packed ring that is available in the first round, and what says that it was used.
const AVAILABLE: u16 = 1 << 7;
const USED: u16 = 1 << 15;

/// Contents of rings that make no sense.
pub(super) struct Nonsense;

/// A front end whose guest writes nonsense, and another one that has something sent to it.
struct Lab<'a> {
    field: &'a Field,
    front: FrontEnd,
    memory: Memory,
    errors: [OwnedFd; 2],
    is_packed: bool,
    sender: FrontEnd,
    sent: Memory,
}

impl Lab<'_> {
    fn new(field: &Field, is_packed: bool) -> anyhow::Result<Lab<'_>> {
        let mut sender = FrontEnd::patient(field, "z1")?;
        let sent = memory(&noise(MacAddr::BROADCAST, attacker(1)))?;
        sender.run(FEATURES, &sent, RINGS)?;
        let mut front = FrontEnd::patient(field, "z0")?;
        let memory = Memory::new(OCTETS)?;
        let features = FEATURES | if is_packed { feature::RING_PACKED } else { 0 };
        front.share(features, &memory)?;
        let errors = [event()?, event()?];
        for (index, error) in (0..).zip(&errors) {
            front.kicks.push(event()?);
            front.calls.push(event()?);
            front.send(Kind::SetVringErr, &longs(&[index]), &[error.as_fd()])?;
        }
        Ok(Lab { field, front, memory, errors, is_packed, sender, sent })
    }

    /// Starts both rings, in which nothing is.
    fn start(&self) -> io::Result<()> {
        self.memory.write(0, &vec![0; BUFFERS as usize + 0x1000])?;
        for ring in RINGS {
            let index = ring.index as usize;
            self.front.start(ring, &self.front.kicks[index], &self.front.calls[index])?;
        }
        self.front.ask(Kind::GetFeatures, &[], &[]).map(drop)
    }

    fn stop(&self) -> io::Result<()> {
        RINGS.into_iter().try_for_each(|ring| self.front.stop(ring.index).map(drop))
    }

    /// Makes descriptors from the first one on available, as one chain.
    fn offer(&self, ring: Ring, entries: &[Entry]) -> io::Result<()> {
        let octets: Vec<u8> = entries
            .iter()
            .flat_map(|(guest, len, flags, next)| match self.is_packed {
                true => packed(*guest, *len, 0, flags | AVAILABLE),
                false => split(*guest, *len, *flags, *next),
            })
            .collect();
        self.memory.write(ring.descriptor(0), &octets)?;
        if self.is_packed { Ok(()) } else { ring.set_available(&self.memory, 1) }
    }

    /// True if a ring's first chain was used.
    fn is_used(&self, ring: Ring) -> io::Result<bool> {
        match self.is_packed {
            true => Ok(self.memory.read_u16(ring.descriptor(0) + 14)? & USED != 0),
            false => Ok(ring.used(&self.memory)? == 1),
        }
    }

    /// Rings, and has a frame sent to the guest, until `is_there`.
    fn until(&self, mut is_there: impl FnMut() -> io::Result<bool>) -> anyhow::Result<bool> {
        let deadline = Instant::now() + self.field.patience;
        while !is_there()? {
            if Instant::now() > deadline {
                return Ok(false);
            }
            // A frame that found no room waits for the other one.
            self.front.ring(TX);
            self.front.ring(RX);
            let next = RINGS[1].used(&self.sent)?.wrapping_add(1);
            RINGS[1].set_available(&self.sent, next)?;
            self.sender.ring(TX);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(true)
    }

    /// A guest that sends one frame as it should is served.
    fn is_served(&self) -> anyhow::Result<()> {
        self.start()?;
        let frame = [&[0; HEADER][..], &noise(attacker(0), attacker(0))].concat();
        self.memory.write(DATA - GUEST, &frame)?;
        self.offer(RINGS[1], &[(DATA, frame.len() as u32, 0, 0)])?;
        if !self.until(|| self.is_used(RINGS[1]))? {
            self.field.broken("a ring that was stopped and started is not mended");
        }
        Ok(())
    }

    /// Starts the rings, has the guest do something to one of them, and waits until that is told to be broken.
    fn breaks(&self, what: &str, index: u32, act: impl FnOnce() -> io::Result<()>) -> anyhow::Result<()> {
        self.start().with_context(|| format!("the start before {what}"))?;
        act().with_context(|| what.to_owned())?;
        let error = &self.errors[index as usize];
        // One that was told is no more.
        let is_told = || Ok(rustix::io::read(error, &mut [0; 8]).is_ok());
        if !self.until(is_told)? {
            self.field.broken(format!("{what} breaks no ring (packed: {})", self.is_packed));
        }
        self.stop().with_context(|| format!("the connection behind {what}"))
    }

    fn chains(&self) -> anyhow::Result<()> {
        for (what, index, entries, table) in CHAINS {
            let ring = RINGS[*index as usize];
            self.breaks(what, *index, || {
                let table = table.iter().flat_map(|(guest, len, flags, next)| match self.is_packed {
                    true => packed(*guest, *len, 0, *flags),
                    false => split(*guest, *len, *flags, *next),
                });
                self.memory.write(TABLE - GUEST, &table.collect::<Vec<u8>>())?;
                self.offer(ring, entries)
            })?;
        }
        let endless: Vec<Entry> = (0..NUM).map(|number| (DATA, 1, NEXT, (number + 1) % NUM)).collect();
        self.breaks("a chain without end", TX, || self.offer(RINGS[1], &endless))
    }

    /// A case of packed rings alone: a chain of a split one may end with a table.
    fn table_behind(&self) -> anyhow::Result<()> {
        let chain = [(DATA, 100, NEXT, 0), (TABLE, 16, INDIRECT, 0)];
        self.breaks("a table behind a buffer", TX, || {
            self.memory.write(TABLE - GUEST, &packed(DATA, 100, 0, 0))?;
            self.offer(RINGS[1], &chain)
        })
    }

    /// Cases of split rings alone.
    fn indices(&self) -> anyhow::Result<()> {
        let [rx, tx] = RINGS;
        let chain = |next: u16| [(DATA, 1, NEXT, next)];
        self.breaks("a chain of one descriptor that goes round", TX, || self.offer(tx, &chain(0)))?;
        self.breaks("a next descriptor that is none", TX, || self.offer(tx, &chain(NUM)))?;
        self.breaks("a head that is none", TX, || {
            self.memory.write(tx.driver() + 4, &NUM.to_le_bytes())?;
            tx.set_available(&self.memory, 1)
        })?;
        for ring in [rx, tx] {
            self.breaks("more than there is room for", ring.index, || {
                ring.set_available(&self.memory, NUM + 1)
            })?;
            self.breaks("an index that goes back", ring.index, || {
                ring.set_available(&self.memory, u16::MAX)
            })?;
        }
        Ok(())
    }

    /// Places that a ring cannot have.
    fn places(&self) -> anyhow::Result<()> {
        let [_, tx] = RINGS;
        let end = USER + OCTETS;
        let [descriptors, device, driver] =
            [tx.descriptor(0), tx.device(), tx.driver()].map(|offset| USER + offset);
        for (what, places) in [
            ("descriptors that are not aligned", [descriptors + 1, device, driver]),
            ("an area of the device that is not aligned", [descriptors, device + 1, driver]),
            ("descriptors in no memory", [0, device, driver]),
            ("an area of the driver behind the memory", [descriptors, device, end]),
            ("descriptors that end behind the memory", [end - 16, device, driver]),
            ("an area around all addresses", [descriptors, u64::MAX - 15, driver]),
        ] {
            self.breaks(what, TX, || {
                let body = [words(&[TX, 0]), longs(&places), longs(&[0])].concat();
                self.front.send(Kind::SetVringAddr, &body, &[])
            })?;
        }
        // The guest has only itself to harm.
        self.start()?;
        let body = [words(&[TX, 0]), longs(&[descriptors; 3]), longs(&[0])].concat();
        self.front.send(Kind::SetVringAddr, &body, &[])?;
        (0..10).for_each(|_| self.front.ring(TX));
        self.stop().context("the connection behind areas in one place")
    }
}

impl Attack for Nonsense {
    fn card(&self) -> Card {
        Card::new("vhost-rings", "guests whose indices, chains, tables, buffers and areas make no sense")
            .at_ports(2)
            .for_at_least(Duration::from_millis(800))
    }

    fn config(&self, _: &Field) -> String {
        ports("z", 2)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut rounds = 0;
        // All of them at least once.
        loop {
            for is_packed in [false, true] {
                let lab = Lab::new(field, is_packed)?;
                lab.is_served()?;
                lab.stop()?;
                lab.chains()?;
                lab.places()?;
                if is_packed {
                    lab.table_behind()?
                } else {
                    lab.indices()?
                }
                lab.is_served()?;
            }
            rounds += 1;
            if field.is_over() {
                break;
            }
        }
        field.note(format!("everything {rounds} times"));
        Ok(Box::new(()))
    }
}

/// Chains that are long and lead to no frame, in all rings that a front end can have.
pub(super) struct Chains;

impl Chains {
    /// Rings of a front end that the daemon receives from.
    const RINGS: u32 = 18;
    const NUM: u16 = 32_768;
    /// Descriptors of a chain, and how far apart they are: none is in the cache when it is read.
    const LENGTH: u16 = 256;
    const STRIDE: u16 = Chains::NUM / Chains::LENGTH;

    /// The descriptors of a ring, of so many octets each, and the entries of its available ring.
    fn contents(octets: u32) -> [Vec<u8>; 2] {
        let descriptor = |number: u16| {
            let next = number.checked_add(Chains::STRIDE).filter(|next| *next < Chains::NUM);
            let flags = if next.is_some() { NEXT } else { 0 };
            split(DATA, octets, flags, next.unwrap_or(0))
        };
        let heads = (0..Chains::NUM).flat_map(|number| (number % Chains::STRIDE).to_le_bytes());
        [(0..Chains::NUM).flat_map(descriptor).collect(), heads.collect()]
    }
}

impl Attack for Chains {
    fn card(&self) -> Card {
        Card::new(
            "vhost-chains",
            "guests fill 18 rings with chains of 256 descriptors, of no octets, one, or 4 GiB",
        )
        .by(3)
        .at_ports(3)
        .for_at_least(Duration::from_millis(1200))
    }

    fn config(&self, _: &Field) -> String {
        ports("h", 3)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("h{number}")) else {
            return Ok(Box::new(()));
        };
        let memory = Memory::new((2 * u64::from(Chains::RINGS)) << 20)?;
        front.share(FEATURES, &memory)?;
        let octets = [0, 1, u32::MAX][number];
        let rings: Vec<Ring> =
            (0..Chains::RINGS).map(|pair| Ring { index: 2 * pair + 1, num: Chains::NUM }).collect();
        let (kick, call) = (event()?, event()?);
        let [descriptors, heads] = Chains::contents(octets);
        for ring in &rings {
            memory.write(ring.descriptor(0), &descriptors)?;
            memory.write(ring.driver() + 4, &heads)?;
            front.start(*ring, &kick, &call)?;
        }
        front.kicks = vec![kick];
        let mut refilled = 0_u64;
        while !field.is_over() {
            for ring in &rings {
                refilled += u64::from(ring.refill(&memory)?);
            }
            front.ring(0);
            field.pause(Duration::from_micros(200));
        }
        field.note(format!("{refilled} refills with chains of {octets} octets each"));
        Ok(Box::new((front, memory)))
    }
}

/// A receiver's buffers that have no room, in thousands.
pub(super) struct Buffers;

impl Attack for Buffers {
    fn card(&self) -> Card {
        Card::new(
            "vhost-buffers",
            "a guest offers thousands of chains of 256 empty buffers, and another one floods it with frames",
        )
        .by(2)
        .at_ports(2)
    }

    fn config(&self, _: &Field) -> String {
        ports("j", 2)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let Some(mut front) = FrontEnd::served(field, &format!("j{number}")) else {
            return Ok(Box::new(()));
        };
        let memory = memory(&noise(attacker(0), attacker(1)))?;
        if number == 1 {
            front.run(FEATURES, &memory, RINGS)?;
            flood(field, &front, &memory)?;
            return Ok(Box::new((front, memory)));
        }
        let rx = Ring { index: RX, num: Chains::NUM };
        let chain: Vec<u8> = (0..Chains::LENGTH)
            .flat_map(|number| match number + 1 {
                Chains::LENGTH => split(DATA, 0, WRITE, 0),
                next => split(DATA, 0, WRITE | NEXT, next),
            })
            .collect();
        memory.write(rx.descriptor(0), &chain)?;
        rx.name_only(&memory, 0)?;
        rx.set_available(&memory, Chains::NUM)?;
        // So that the other one's frames have a way.
        RINGS[1].send(&memory, &noise(MacAddr::BROADCAST, attacker(0)))?;
        RINGS[1].set_available(&memory, 1)?;
        front.run(FEATURES, &memory, [rx, RINGS[1]])?;
        while !field.is_over() {
            front.ring(RX);
            field.pause(Duration::from_millis(1));
        }
        Ok(Box::new((front, memory)))
    }
}
