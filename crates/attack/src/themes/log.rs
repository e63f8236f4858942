//! Things that a peer does again and again, each of which may be worth a line of log.

use std::io::Write;
use std::net::Ipv4Addr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context;
use rustix::net::{SendFlags, SocketType, send};

use crate::attack::{Attack, Card, Field, Held, Start};
use crate::daemon::get;
use crate::peers::{Bound, discard, stream, tunnel, vde_ask};
use crate::themes::FORGED;
use crate::wire::{ARP, MacAddr, arp, attacker, ethernet, framed, noise};

pub(super) const ALL: &[&dyn Attack] =
    &[&DeadSockets, &JoinsAndLeaves, &Violations, &MovingAddresses, &Claims, &LineFeed, &StoppedReader];

const SWITCH: &str = "[network.lab.port.v]\nvde = { directory = \"v\" }\n";
const STREAM: &str = "[network.lab.port.x]\nstream = { listen = \"x.sock\" }\n";
/// Addresses of a tunnel that are claimed.
const ADDRESSES: std::ops::RangeInclusive<u8> = 1..=16;

/// Asks a switch for a port whose frames go to a socket that is gone.
fn ask_for_dead(field: &Field, path: PathBuf) -> anyhow::Result<()> {
    let mut kept = path.clone().into_os_string();
    kept.push(".k");
    let kept = PathBuf::from(kept);
    // The name stays while the socket goes.
    let bound = Bound::new(SocketType::DGRAM, path)?;
    std::fs::rename(&bound.path, &kept)?;
    drop(bound);
    let _ = vde_ask(&field.path("v"), &kept);
    std::fs::remove_file(kept)?;
    Ok(())
}

/// VDE requests with the path of a socket that nobody has.
struct DeadSockets;

impl Attack for DeadSockets {
    fn card(&self) -> Card {
        Card::new(
            "log-dead-sockets",
            "a client asks a VDE switch again and again for a port whose socket is dead",
        )
        .churning()
    }

    fn config(&self, _: &Field) -> String {
        SWITCH.to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        while !field.is_over() {
            ask_for_dead(field, field.temporary(1))?;
        }
        Ok(Box::new(()))
    }
}

/// Plugs that come, say something and go.
struct JoinsAndLeaves;

impl Attack for JoinsAndLeaves {
    fn card(&self) -> Card {
        Card::new("log-joins", "VDE clients join, send a frame and leave, as often as they can")
            .by(2)
            .churning()
    }

    fn config(&self, _: &Field) -> String {
        SWITCH.to_owned()
    }

    fn attack(&self, field: &Field, number: usize) -> anyhow::Result<Held> {
        let mut source = 0_u32;
        while !field.is_over() {
            let local = Bound::new(SocketType::DGRAM, field.temporary(number))?;
            let Ok(Some((_control, path))) = vde_ask(&field.path("v"), &local.path) else {
                field.pause(Duration::from_millis(2));
                continue;
            };
            let [a, b, c, d] = source.to_be_bytes();
            source += 1;
            let frame = noise(MacAddr::BROADCAST, MacAddr([2, number as u8, a, b, c, d]));
            let to = rustix::net::SocketAddrUnix::new(path)?;
            if rustix::net::connect(&local.socket, &to).is_ok() {
                let _ = send(&local.socket, &frame, SendFlags::NOSIGNAL | SendFlags::DONTWAIT);
            }
        }
        Ok(Box::new(()))
    }
}

/// Stream guests that announce a frame of no octets.
struct Violations;

impl Attack for Violations {
    fn card(&self) -> Card {
        Card::new("log-violations", "stream guests connect and break the protocol, as often as they can")
    }

    fn config(&self, _: &Field) -> String {
        STREAM.to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        while !field.is_over() {
            if let Ok(mut guest) = stream(&field.path("x.sock")) {
                let _ = guest.write_all(&[0; 4]);
            }
            field.pause(Duration::from_millis(2));
        }
        Ok(Box::new(()))
    }
}

/// Two guests that send from the same addresses in turns.
struct MovingAddresses;

impl Attack for MovingAddresses {
    fn card(&self) -> Card {
        Card::new("log-moves", "two guests send from the same twenty addresses in turns")
    }

    fn config(&self, _: &Field) -> String {
        format!("{STREAM}[network.lab.port.y]\nstream = {{ listen = \"y.sock\" }}\n")
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut guests: Vec<UnixStream> = Vec::new();
        for name in ["x.sock", "y.sock"] {
            guests.push(stream(&field.path(name)).context(name)?);
        }
        let frames =
            framed(&(0..20).map(|number| noise(MacAddr::BROADCAST, attacker(number))).collect::<Vec<_>>());
        while !field.is_over() {
            for guest in &mut guests {
                guest.write_all(&frames)?;
                guest.set_nonblocking(true)?;
                discard(guest)?;
                guest.set_nonblocking(false)?;
                field.pause(Duration::from_millis(2));
            }
        }
        Ok(Box::new(guests))
    }
}

/// A guest that claims the addresses of a tunnel.
struct Claims;

impl Attack for Claims {
    fn card(&self) -> Card {
        Card::new("log-claims", "a guest claims the sixteen addresses of a tunnel by ARP, again and again")
    }

    fn config(&self, _: &Field) -> String {
        format!("{STREAM}[network.lab.port.t]\ntunnel = {{ listen = \"t.sock\", allow = \"10.0.0.0/24\" }}\n")
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let addresses: Vec<_> = ADDRESSES.map(|number| Ipv4Addr::new(10, 0, 0, number)).collect();
        let tunnel = tunnel(&field.path("t.sock"), &addresses).context("a tunnel")?;
        let mut guest = stream(&field.path("x.sock")).context("the port x")?;
        let own = attacker(1);
        let claim = |address: &Ipv4Addr| {
            ethernet(MacAddr::BROADCAST, own, ARP, &arp(1, (own, *address), (MacAddr::ZERO, *address)))
        };
        let frames = framed(&addresses.iter().map(claim).collect::<Vec<_>>());
        while !field.is_over() {
            guest.write_all(&frames)?;
            guest.set_nonblocking(true)?;
            discard(&guest)?;
            guest.set_nonblocking(false)?;
            field.pause(Duration::from_millis(20));
        }
        Ok(Box::new((guest, tunnel)))
    }
}

/// A path with a line feed, behind which stands what looks like a line of the log.
struct LineFeed;

impl Attack for LineFeed {
    fn card(&self) -> Card {
        Card::new(
            "log-line-feed",
            "the path of a VDE client's socket has a line feed and a forged line of log",
        )
        .property()
        .churning()
    }

    fn config(&self, _: &Field) -> String {
        SWITCH.to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut path = field.temporary(1).into_os_string();
        path.push(format!("\n{FORGED}"));
        for _ in 0..3 {
            ask_for_dead(field, path.clone().into())?;
            let alive = Bound::new(SocketType::DGRAM, path.clone().into())?;
            drop(vde_ask(&field.path("v"), &alive.path));
        }
        Ok(Box::new(()))
    }
}

/// A log that nothing reads.
struct StoppedReader;

impl Attack for StoppedReader {
    fn card(&self) -> Card {
        Card::new(
            "log-stopped-reader",
            "the reader of the log is stopped while peers cause lines; control and SIGTERM work",
        )
        .property()
        .started(Start::StoppedLog)
        .for_at_least(Duration::from_secs(1))
        .churning()
    }

    fn config(&self, _: &Field) -> String {
        SWITCH.to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        while !field.is_over() {
            // A daemon that hangs refuses.
            let _ = ask_for_dead(field, field.temporary(1));
        }
        Ok(Box::new(()))
    }

    fn during(&self, field: &Field) -> anyhow::Result<()> {
        if let Err(error) = get::<vmlan_api::Status>(&field.control(), "/v1/status", field.patience) {
            field.broken(format!("the control interface hangs: {error:#}"));
        }
        Ok(())
    }
}
