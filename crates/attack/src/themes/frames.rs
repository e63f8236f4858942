//! Frames: too many, to everybody, from everybody, too short, in pieces.

use std::io::Write;
use std::os::unix::net::UnixDatagram;
use std::time::Duration;

use anyhow::Context;

use crate::attack::{Attack, Card, Field, Held};
use crate::peers::{STEP, discard, flood, stream};
use crate::probe;
use crate::wire::{MacAddr, attacker, framed, noise};

pub(super) const ALL: &[&dyn Attack] = &[
    &Flood::Broadcasts,
    &Flood::Sources,
    &Flood::Unknown,
    &Flood::Runts,
    &Flood::Victim,
    &TinyWrites,
    &HalfFrames,
    &Anonymous,
];

const PORT: &str = "[network.lab.port.x]\nstream = { listen = \"x.sock\" }\n";

/// A stream guest that sends small frames as fast as it can.
enum Flood {
    Broadcasts,
    Sources,
    Unknown,
    Runts,
    Victim,
}

impl Flood {
    fn octets(&self) -> Vec<u8> {
        let own = attacker(1);
        let source = |number: u32| {
            let [_, a, b, c] = number.to_be_bytes();
            noise(MacAddr::BROADCAST, MacAddr([2, 0xf0, a, b, c, 0]))
        };
        match self {
            Flood::Broadcasts => framed(&vec![noise(MacAddr::BROADCAST, own); 1000]),
            Flood::Sources => framed(&(0..4096).map(source).collect::<Vec<_>>()),
            Flood::Unknown => framed(&vec![noise(MacAddr([2, 9, 9, 9, 9, 9]), own); 1000]),
            Flood::Runts => framed(&vec![vec![0]; 20_000]),
            Flood::Victim => framed(&vec![noise(probe::mac(1, 1), own); 1000]),
        }
    }
}

impl Attack for Flood {
    fn card(&self) -> Card {
        match self {
            Flood::Broadcasts => {
                Card::new("broadcasts", "a stream guest sends broadcasts of 60 octets as fast as it can")
            }
            Flood::Sources => {
                Card::new("mac-flood", "a stream guest sends broadcasts from 4,096 source addresses")
            }
            Flood::Unknown => Card::new(
                "unknown-unicast",
                "a stream guest sends frames of 60 octets to an address that nobody has",
            ),
            Flood::Runts => Card::new("runts", "a stream guest sends frames of 1 octet as fast as it can"),
            Flood::Victim => {
                Card::new("victim", "a stream guest sends frames of 60 octets to one of the probe's guests")
            }
        }
    }

    fn config(&self, _: &Field) -> String {
        PORT.to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let guest = stream(&field.path("x.sock")).context("the port x")?;
        flood(field, &guest, &self.octets())?;
        Ok(Box::new(guest))
    }
}

/// A stream guest that writes a few octets at a time.
struct TinyWrites;

impl Attack for TinyWrites {
    fn card(&self) -> Card {
        Card::new("tiny-writes", "a stream guest sends its frames in writes of 1 to 5 octets")
    }

    fn config(&self, _: &Field) -> String {
        PORT.to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut guest = stream(&field.path("x.sock")).context("the port x")?;
        let octets = framed(&[noise(attacker(2), attacker(1))]);
        let mut lengths = (1..=5).cycle();
        while !field.is_over() {
            let mut left = &octets[..];
            while !left.is_empty() && !field.is_over() {
                let length = lengths.next().unwrap_or(1).min(left.len());
                guest.write_all(&left[..length]).context("a few octets")?;
                left = &left[length..];
            }
        }
        guest.set_nonblocking(true)?;
        discard(&guest)?;
        Ok(Box::new(guest))
    }
}

/// Stream guests that leave in the middle of a frame.
struct HalfFrames;

impl Attack for HalfFrames {
    fn card(&self) -> Card {
        Card::new("half-frames", "stream guests connect, send half a frame and leave, as often as they can")
            .by(2)
    }

    fn config(&self, _: &Field) -> String {
        PORT.to_owned()
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let octets = framed(&vec![noise(MacAddr::BROADCAST, attacker(number)); 3]);
        while !field.is_over() {
            // The port takes one guest at a time, and may want a pause between two.
            let Ok(mut guest) = stream(&field.path("x.sock")) else {
                field.pause(Duration::from_millis(1));
                continue;
            };
            let _ = guest.write_all(&octets[..octets.len() - 30]);
        }
        Ok(Box::new(()))
    }
}

/// Datagrams of a client that has no address.
struct Anonymous;

impl Attack for Anonymous {
    fn card(&self) -> Card {
        Card::new(
            "anonymous-datagrams",
            "a client without an address sends datagrams to a datagram port as fast as it can",
        )
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.d]\ndatagram = { listen = \"d.sock\" }\n".to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let socket = UnixDatagram::unbound()?;
        socket.set_write_timeout(Some(STEP))?;
        let frame = noise(MacAddr::BROADCAST, attacker(1));
        let to = field.path("d.sock");
        while !field.is_over() {
            // A full queue is waited for; a port that refuses is asked again.
            if socket.send_to(&frame, &to).is_err() {
                field.pause(Duration::from_millis(1));
            }
        }
        Ok(Box::new(socket))
    }
}
