//! Attacks on what all ports for machine monitors have together: places for mappings, and addresses.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use super::ports;
use crate::attack::{Attack, Card, Field, Held};
use crate::vhost::{FEATURES, FrontEnd, GUEST, Kind, Memory, OCTETS, RX, Ring, TX, USER, longs};
use crate::wire::{attacker, noise};

/// Front ends that share their guests' memory in as many regions as there can be, while other guests start.
pub(super) struct Regions;

impl Regions {
    /// The regions of each front end: 509 are the most that one can have, and 4,096 the most that can be mapped.
    const SHARED: [u64; 9] = [509, 509, 509, 509, 509, 509, 509, 509, 24];
    const RINGS: [Ring; 2] = [Ring { index: RX, num: 8 }, Ring { index: TX, num: 8 }];

    /// Shares a file of so many pages, each as a region. False if the other end is not there any more.
    fn share(front: &FrontEnd, memory: &Memory, count: u64) -> anyhow::Result<bool> {
        for number in 0..count {
            // Not beside each other, so that the kernel cannot make one mapping of them.
            let region = [0, GUEST + 8192 * number, 4096, USER + 8192 * number, 4096 * (count - 1 - number)];
            if front.send(Kind::AddMemReg, &longs(&region), &[memory.file.as_fd()]).is_err() {
                return Ok(false);
            }
        }
        // The answer comes when all are there.
        Ok(front.ask(Kind::GetFeatures, &[], &[]).is_ok())
    }

    /// A guest that starts, and sends a few frames.
    fn start(field: &Field) -> anyhow::Result<()> {
        let mut front = FrontEnd::patient(field, "q9")?;
        let memory = Memory::new(OCTETS)?;
        let [rx, tx] = Regions::RINGS;
        rx.receive(&memory)?;
        tx.send(&memory, &noise(attacker(1), attacker(0)))?;
        rx.refill(&memory)?;
        tx.refill(&memory)?;
        if front.run(FEATURES, &memory, Regions::RINGS).is_err() {
            field.broken("a guest that starts beside them is refused");
            return Ok(());
        }
        let deadline = Instant::now() + field.patience;
        while tx.used(&memory)? != tx.num {
            if Instant::now() > deadline {
                field.broken("a guest that starts beside them is not served");
                break;
            }
            front.ring(TX);
            std::thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Attack for Regions {
    fn card(&self) -> Card {
        Card::new(
            "vhost-regions",
            "front ends share thousands of regions, and another guest starts beside them",
        )
        .at_ports(Regions::SHARED.len() + 1)
        .for_at_least(Duration::from_millis(800))
    }

    fn config(&self, _: &Field) -> String {
        ports("q", Regions::SHARED.len() + 1)
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let (mut fronts, mut taken) = (Vec::new(), 0);
        for (number, count) in Regions::SHARED.into_iter().enumerate() {
            let front = FrontEnd::patient(field, &format!("q{number}"))?;
            let memory = Memory::new(4096 * count)?;
            front.share(FEATURES, &Memory::new(4096)?)?;
            front.set_memory(&[], &[])?;
            if Regions::share(&front, &memory, count)? {
                taken += count;
            }
            fronts.push(front);
        }
        let mut started = 0;
        // At least one.
        loop {
            Regions::start(field)?;
            started += 1;
            if field.is_over() {
                break;
            }
        }
        field.note(format!("{taken} regions are shared, beside which {started} guests start"));
        Ok(Box::new(fronts))
    }
}
