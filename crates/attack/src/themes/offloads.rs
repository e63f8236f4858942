//! Large frames that the network has to cut.

use std::net::Ipv4Addr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use vmlan_frame::{Direction, DropReason};

use crate::attack::{Attack, Card, Field, Held, Stage};
use crate::probe::Interface;
use crate::wire::{IPV4, MacAddr, NOISE, attacker, ethernet, segmented, tcp, udp};

pub(super) const ALL: &[&dyn Attack] = &[&Broadcasts::Tcp, &Broadcasts::Udp];

const FROM: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 5), 1000);
const TO: (Ipv4Addr, u16) = (Ipv4Addr::new(10, 0, 0, 255), 2000);
/// Broadcasts a second that a guest may cause at another, a half more than a port may send.
const MOST: f64 = 30_000.0;

/// Broadcasts of 60 KiB, to be cut to 512 octets.
enum Broadcasts {
    Tcp,
    Udp,
}

impl Attack for Broadcasts {
    fn card(&self) -> Card {
        let card = match self {
            Broadcasts::Tcp => {
                Card::new("gso-tcp", "a TAP guest broadcasts TCP segments of 64 KB to be cut to 512 octets")
            }
            Broadcasts::Udp => {
                Card::new("gso-udp", "a TAP guest broadcasts UDP datagrams of 60 KB to be cut to 512 octets")
            }
        };
        card.on(Stage::Tap)
    }

    fn config(&self, field: &Field) -> String {
        let netns = field.lands.tap.as_ref().expect("the stage has it");
        format!("[network.lab.port.z]\ntap = {{ name = \"z0\", netns = \"{}\" }}\n", netns.path().display())
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let netns = field.lands.tap.as_ref().expect("the stage has it");
        netns.configure("z0", &testbed::Interface::new());
        let interface = Interface::open(netns, "z0", NOISE).context("a packet socket")?;
        let frame = |packet: &[u8]| ethernet(MacAddr::BROADCAST, attacker(1), IPV4, packet);
        let octets = match self {
            Broadcasts::Tcp => segmented(1, 54, 512, 16, &frame(&tcp(FROM, TO, &vec![0; 64_000]))),
            Broadcasts::Udp => segmented(5, 42, 512, 6, &frame(&udp(FROM, TO, &vec![0; 60_000], true))),
        };
        let (mut sent, mut refusal) = (0_u64, None);
        while !field.is_over() {
            match interface.send_raw(&octets) {
                Ok(()) => sent += 1,
                // The device's queue is full.
                Err(error) => {
                    refusal = Some(error);
                    field.pause(Duration::from_micros(100));
                }
            }
        }
        ensure!(sent > 0, "no frame was taken by the device: {refusal:?}");
        Ok(Box::new(interface))
    }

    fn during(&self, field: &Field) -> anyhow::Result<()> {
        let reached = || -> anyhow::Result<u64> {
            let ports = field.ports()?;
            let port = ports.iter().find(|port| port.port == "one").context("the probe's port")?;
            let dropped = DropReason::ALL
                .iter()
                .filter(|reason| reason.direction() == Direction::Egress)
                .filter_map(|reason| port.counters.drops.get(reason.name()))
                .sum::<u64>();
            Ok(port.counters.tx_frames + port.counters.queued + dropped)
        };
        let (start, before) = (Instant::now(), reached()?);
        field.pause(Duration::from_millis(500));
        // The probe's own frames are a thousand a second.
        let rate = (reached()? - before) as f64 / start.elapsed().as_secs_f64() - 1000.0;
        if rate > MOST {
            field.broken(format!("{rate:.0} broadcasts a second for each guest"));
        }
        Ok(())
    }
}
