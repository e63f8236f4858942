//! Peers whose own address is as long as an address can be, without a NUL behind it, and is no UTF-8.

use std::ffi::OsString;
use std::net::Ipv4Addr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::net::{SendFlags, SocketAddrUnix, SocketType, connect, sendto};

use crate::attack::{Attack, Card, Field, Held};
use crate::peers::{Bound, Honest, datagram_guest, stream_guest, tunnel, vde};
use crate::wire::{MacAddr, attacker, noise};

pub(super) const ALL: &[&dyn Attack] = &[
    &LongestPath::Stream,
    &LongestPath::Datagram,
    &LongestPath::Vde,
    &LongestPath::Tunnel,
    &LongestPath::Control,
];

const PORTS: &str = "[network.lab.port.a]\ndatagram = { listen = \"a.sock\" }\n\
    [network.lab.port.b]\nstream = { listen = \"b.sock\" }\n\
    [network.lab.port.v]\nvde = { directory = \"v\" }\n\
    [network.lab.port.t]\ntunnel = { listen = \"t.sock\", allow = \"10.0.0.0/24\" }\n";

/// Octets of a path that fills an address (unix(7)).
const LONGEST: usize = 108;

/// The listener that is attacked.
enum LongestPath {
    Stream,
    Datagram,
    Vde,
    Tunnel,
    Control,
}

impl LongestPath {
    fn target(&self, field: &Field) -> (PathBuf, SocketType) {
        match self {
            LongestPath::Stream => (field.path("b.sock"), SocketType::STREAM),
            LongestPath::Datagram => (field.path("a.sock"), SocketType::DGRAM),
            LongestPath::Vde => (field.path("v/ctl"), SocketType::STREAM),
            LongestPath::Tunnel => (field.path("t.sock"), SocketType::SEQPACKET),
            LongestPath::Control => (field.control(), SocketType::STREAM),
        }
    }
}

/// A path of 108 octets beside `beside`.
fn longest(beside: &Path, fill: u8) -> PathBuf {
    let mut octets = beside.as_os_str().as_bytes().to_vec();
    octets.push(b'/');
    octets.resize(LONGEST, fill);
    OsString::from_vec(octets).into()
}

impl Attack for LongestPath {
    fn card(&self) -> Card {
        let card = match self {
            LongestPath::Stream => {
                Card::new("longest-path-stream", "the peer of a stream port has a path of 108 octets")
            }
            LongestPath::Datagram => {
                Card::new("longest-path-datagram", "the sender to a datagram port has a path of 108 octets")
            }
            LongestPath::Vde => {
                Card::new("longest-path-vde", "the client of a VDE directory has a path of 108 octets")
            }
            LongestPath::Tunnel => {
                Card::new("longest-path-tunnel", "the client of a tunnel socket has a path of 108 octets")
            }
            LongestPath::Control => {
                Card::new("longest-path-control", "the client of the control socket has a path of 108 octets")
            }
        };
        // Another one that comes afterwards takes its counts along.
        if matches!(self, LongestPath::Tunnel) { card.churning().property() } else { card.property() }
    }

    fn config(&self, _: &Field) -> String {
        PORTS.to_owned()
    }

    fn honest(&self, field: &Field) -> anyhow::Result<Vec<Honest>> {
        let plug = vde(&field.path("v"), field.patience)?;
        let other = tunnel(&field.path("t.sock"), &[Ipv4Addr::new(10, 0, 0, 1)])?;
        Ok(vec![Honest::vde("a VDE client", plug), Honest::tunnel("a tunnel", other)])
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let (target, kind) = self.target(field);
        let target = SocketAddrUnix::new(target)?;
        let fills = [b'x', 0xff, b'\n'];
        for fill in fills.into_iter().cycle().take_while(|_| !field.is_over()) {
            let bound = Bound::new(kind, longest(&field.path(""), fill))?;
            // A listener that is gone is noticed below.
            let _ = match kind {
                SocketType::DGRAM => {
                    let frame = noise(MacAddr::BROADCAST, attacker(1));
                    sendto(&bound.socket, &frame, SendFlags::empty(), &target).map(drop)
                }
                _ => connect(&bound.socket, &target),
            };
            field.pause(Duration::from_millis(30));
        }
        Ok(Box::new(()))
    }

    fn after(&self, field: &Field) -> anyhow::Result<()> {
        let works = match self {
            LongestPath::Stream => stream_guest(&field.path("b.sock"), field.patience).map(drop),
            LongestPath::Datagram => {
                datagram_guest(&field.path("a.local"), &field.path("a.sock"), field.patience).map(drop)
            }
            LongestPath::Vde => vde(&field.path("v"), field.patience).map(drop),
            LongestPath::Tunnel => tunnel(&field.path("t.sock"), &[Ipv4Addr::new(10, 0, 0, 9)])
                .map(drop)
                .map_err(std::io::Error::other),
            LongestPath::Control => field.ports().map(drop).map_err(std::io::Error::other),
        };
        if let Err(error) = works {
            field.broken(format!("no other peer is taken afterwards: {error}"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_fills_an_address() {
        let path = longest(Path::new("/tmp/x"), b'x');

        assert_eq!(path.as_os_str().len(), LONGEST);
        assert!(SocketAddrUnix::new(&path).is_ok());
    }
}
