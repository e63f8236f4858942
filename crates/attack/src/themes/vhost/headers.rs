//! Attacks with the octets in front of a frame and at its beginning, which change while the daemon reads them.

use std::io;
use std::time::{Duration, Instant};

use anyhow::Context;
use vmlan_frame::{Offload, offload::validate};

use super::ports;
use crate::attack::{Attack, Card, Field, Held};
use crate::vhost::{
    BUFFERS, FEATURES, FrontEnd, GUEST, HEADER, Kind, Memory, OCTETS, RX, Ring, TX, WRITE, feature, split,
};
use crate::wire::{IPV4, attacker, ethernet, noise, segmented, tcp};

/// Entries of the rings, each with a buffer of its own where frames are received.
const NUM: u16 = 64;
const ROOM: u64 = 8192;

const RINGS: [Ring; 2] = [Ring { index: RX, num: NUM }, Ring { index: TX, num: NUM }];

/// A guest that changes what it sends while it is read: requests that can be carried out and others, headers that fit
/// them and others.
pub(super) struct Flips;

/// A change of a few octets, from the beginning of the virtio-net header, and back.
type Change = (u64, &'static [u8], &'static [u8]);

const FRAME: u64 = HEADER as u64;

/// Each has what was there before as its last part.
const CHANGES: &[Change] = &[
    // No request, and one to cut into datagrams.
    (0, &[0, 0], &[1, 1]),
    (1, &[5], &[1]),
    // Segments of one octet, of none, and longer than the frame.
    (4, &[1, 0], &[0xe8, 3]),
    (4, &[0, 0], &[0xe8, 3]),
    (4, &[0xff, 0xff], &[0xe8, 3]),
    // Headers longer than the frame.
    (2, &[0xff, 0xff], &[54, 0]),
    // A checksum beyond the end, in an address, and around all numbers.
    (6, &[0xff, 0x0f], &[34, 0]),
    (8, &[0xff, 0xff], &[16, 0]),
    (6, &[26, 0, 0, 0], &[34, 0, 16, 0]),
    // Buffers as if it were received.
    (10, &[0xff, 0xff], &[0, 0]),
    // A tag, another type, another version, options, a fragment, another protocol, and a longer TCP header.
    (FRAME + 12, &[0x81, 0], &[8, 0]),
    (FRAME + 12, &[0x86, 0xdd], &[8, 0]),
    (FRAME + 14, &[0x65], &[0x45]),
    (FRAME + 14, &[0x4f], &[0x45]),
    (FRAME + 20, &[0x20, 0], &[0, 0]),
    (FRAME + 23, &[17], &[6]),
    (FRAME + 46, &[0xf0], &[0x50]),
];

impl Flips {
    const FEATURES: u64 = FEATURES | feature::GUEST_CSUM | feature::GUEST_TSO4 | feature::GUEST_ECN;

    /// A guest that receives, and has told where it is.
    fn receiver() -> io::Result<Memory> {
        let memory = Memory::new(OCTETS)?;
        let [rx, tx] = RINGS;
        let buffer =
            |number: u16| split(GUEST + BUFFERS + ROOM * (1 + u64::from(number)), ROOM as u32, WRITE, 0);
        tx.send(&memory, &noise(attacker(0), attacker(1)))?;
        memory.write(rx.descriptor(0), &(0..NUM).flat_map(buffer).collect::<Vec<u8>>())?;
        rx.name_all(&memory)?;
        rx.refill(&memory)?;
        tx.set_available(&memory, 1)?;
        Ok(memory)
    }

    /// A guest that sends segments to it.
    fn sender() -> io::Result<Memory> {
        let memory = Memory::new(OCTETS)?;
        let [rx, tx] = RINGS;
        rx.receive(&memory)?;
        let [from, to] = [5, 6].map(|host| (std::net::Ipv4Addr::new(10, 0, 0, host), 1000));
        let frame = ethernet(attacker(1), attacker(0), IPV4, &tcp(from, to, &[0; 3000]));
        tx.send(&memory, &frame)?;
        let request = segmented(1, 54, 1000, 16, &[0, 0]);
        memory.write(BUFFERS, &request)?;
        tx.refill(&memory)?;
        Ok(memory)
    }

    /// Changes octets of the sender's frame until the attack is over, each at least once.
    fn flip(field: &Field, memory: &Memory) -> io::Result<u64> {
        let mut flips = 0;
        for (number, (offset, wrong, right)) in CHANGES.iter().cycle().enumerate() {
            if number >= CHANGES.len() && field.is_over() {
                break;
            }
            // Often enough that some are in the middle of a read.
            for _ in 0..50 {
                memory.write(BUFFERS + offset, wrong)?;
                memory.write(BUFFERS + offset, right)?;
            }
            flips += 100;
        }
        Ok(flips)
    }

    fn send(field: &Field, front: &FrontEnd, memory: &Memory) -> anyhow::Result<()> {
        let flips = std::thread::scope(|scope| {
            let flipping = scope.spawn(|| Flips::flip(field, memory));
            while !flipping.is_finished() {
                if RINGS[1].refill(memory)? {
                    front.ring(TX);
                }
            }
            flipping.join().expect("it does not panic")
        })?;
        field.note(format!("{flips} changes"));
        // Afterwards it is a right frame.
        let (before, deadline) = (RINGS[1].used(memory)?, Instant::now() + field.patience);
        while RINGS[1].used(memory)? == before {
            if Instant::now() > deadline {
                field.broken("the ring of a guest that changed its headers stands still");
                break;
            }
            RINGS[1].refill(memory)?;
            front.ring(TX);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// Looks at everything that is received until the attack is over: a request has to fit its frame.
    fn receive(field: &Field, front: &FrontEnd, memory: &Memory) -> io::Result<()> {
        let [rx, _] = RINGS;
        let (mut seen, mut requests, mut plain) = (0_u16, 0_u64, 0_u64);
        while !field.is_over() {
            let used = rx.used(memory)?;
            while seen != used {
                let (id, octets) = rx.used_entry(memory, seen)?;
                let octets = memory.read(BUFFERS + ROOM * (1 + u64::from(id)), octets as usize)?;
                seen = seen.wrapping_add(1);
                let Some((header, frame)) = octets.split_at_checked(HEADER) else {
                    field.broken("a frame was received without a header");
                    continue;
                };
                let request = Offload::from_virtio(header.first_chunk().expect("12 octets"));
                if header[10..] != [1, 0] {
                    field.broken(format!("a frame in one buffer says {:?} of buffers", &header[10..]));
                }
                if request == Offload::NONE {
                    plain += 1;
                } else if let Err(error) = validate(frame, request) {
                    field.broken(format!(
                        "a request went out that does not fit its frame: {error}: {request:?}"
                    ));
                } else {
                    requests += 1;
                }
            }
            if rx.refill(memory)? {
                front.ring(RX);
            }
        }
        field.note(format!("{requests} requests and {plain} frames without one were received"));
        Ok(())
    }
}

impl Attack for Flips {
    fn card(&self) -> Card {
        Card::new(
            "vhost-headers",
            "a guest changes requests and headers of its frames while they are read, and another one receives",
        )
        .by(2)
        .at_ports(2)
        .for_at_least(Duration::from_millis(800))
    }

    fn config(&self, _: &Field) -> String {
        ports("c", 2)
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let mut front = FrontEnd::patient(field, &format!("c{number}"))?;
        let memory = if number == 0 { Flips::sender()? } else { Flips::receiver()? };
        front.run(Flips::FEATURES, &memory, RINGS)?;
        match number {
            0 => Flips::send(field, &front, &memory)?,
            _ => Flips::receive(field, &front, &memory)?,
        }
        front.ask(Kind::GetFeatures, &[], &[]).context("a guest with headers that change")?;
        Ok(Box::new((front, memory)))
    }
}
