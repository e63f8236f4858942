//! Guests that take what is another's: its address, its port.

use std::io::Write;
use std::net::UdpSocket;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context;

use crate::attack::{Attack, Card, Field, Held};
use crate::peers::{STEP, stream};
use crate::wire::{MacAddr, PROBE, attacker, ethernet, framed, noise};

pub(super) const ALL: &[&dyn Attack] = &[&SlowThief, &UdpPort];

/// The part of its traffic that a victim has to get.
const SHARE: f64 = 0.9;

/// A guest that sends from another's address, seldom enough not to be noticed as moving too often.
struct SlowThief;

/// Frames of probes among what a stream brings, without a look at where frames begin.
fn count(octets: &[u8]) -> usize {
    octets.windows(MARK.len()).filter(|window| *window == MARK).count()
}

/// The payload of the traffic to the victim.
const MARK: &[u8] = b"NUMBERED";

impl SlowThief {
    fn receive(guest: &UnixStream) -> anyhow::Result<usize> {
        let (mut octets, mut counted) = ([0; 16 << 10], 0);
        guest.set_nonblocking(true)?;
        while let Ok(length @ 1..) = std::io::Read::read(&mut &*guest, &mut octets) {
            counted += count(&octets[..length]);
        }
        guest.set_nonblocking(false)?;
        Ok(counted)
    }
}

impl Attack for SlowThief {
    fn card(&self) -> Card {
        Card::new(
            "slow-thief",
            "a guest sends three frames a second from the address of another, which speaks once a second",
        )
        .property()
        .for_at_least(Duration::from_millis(2500))
    }

    fn config(&self, _: &Field) -> String {
        ["p", "v", "x"]
            .map(|name| format!("[network.lab.port.{name}]\nstream = {{ listen = \"{name}.sock\" }}\n"))
            .concat()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let open = |name: &str| stream(&field.path(name)).with_context(|| name.to_owned());
        let (mut sender, mut victim, mut thief) = (open("p.sock")?, open("v.sock")?, open("x.sock")?);
        let (from, to) = (attacker(1), attacker(2));
        victim.write_all(&framed(&[noise(MacAddr::BROADCAST, to)]))?;
        field.pause(Duration::from_millis(100));
        let (mut sent, mut got, mut stolen, mut thefts) = (0, 0, 0, 0);
        let start = Instant::now();
        // The first theft may be a guest that moved. From the victim's next frame on the address is known to be its
        // own.
        let (mut steals, mut speaks) = (start, start + Duration::from_millis(300));
        let mut is_contested = false;
        while !field.is_over() {
            let now = Instant::now();
            if now >= speaks {
                victim.write_all(&framed(&[noise(from, to)]))?;
                speaks = now + Duration::from_secs(1);
                steals = now + Duration::from_millis(20);
                if !is_contested {
                    is_contested = true;
                    std::thread::sleep(Duration::from_millis(100));
                    SlowThief::receive(&victim)?;
                    SlowThief::receive(&thief)?;
                }
            }
            if now >= steals {
                thief.write_all(&framed(&[noise(MacAddr::BROADCAST, to)]))?;
                thefts += 1;
                steals = now + Duration::from_millis(340);
            }
            if is_contested {
                sender.write_all(&framed(&[ethernet(to, from, PROBE, MARK)]))?;
                sent += 1;
            }
            field.pause(Duration::from_millis(5));
            got += SlowThief::receive(&victim)?;
            stolen += SlowThief::receive(&thief)?;
        }
        let deadline = Instant::now() + field.patience;
        while got + stolen < sent && Instant::now() < deadline {
            std::thread::sleep(Duration::from_millis(5));
            got += SlowThief::receive(&victim)?;
            stolen += SlowThief::receive(&thief)?;
        }
        if (got as f64) < SHARE * sent as f64 {
            field.broken(format!(
                "of {sent} frames the victim got {got} and the thief {stolen}, by {thefts} frames"
            ));
        }
        Ok(Box::new((sender, victim, thief)))
    }
}

/// A stranger whose single octet makes it the peer of a UDP port.
struct UdpPort;

/// Where the UDP port is: below those that the kernel gives to any program, one for each process.
fn address() -> std::net::SocketAddr {
    let port = 20_000 + std::process::id() % 12_000;
    ([127, 0, 0, 1], port as u16).into()
}

impl Attack for UdpPort {
    fn card(&self) -> Card {
        Card::new("udp-stranger", "a stranger sends one octet to a UDP port before its guest comes")
            .property()
    }

    fn config(&self, _: &Field) -> String {
        format!("[network.lab.port.u]\ndatagram = {{ listen = \"{}\" }}\n", address())
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let stranger = UdpSocket::bind("127.0.0.1:0")?;
        stranger.send_to(b"x", address())?;
        field.pause(Duration::from_millis(200));
        let guest = UdpSocket::bind("127.0.0.1:0")?;
        guest.connect(address())?;
        guest.set_read_timeout(Some(STEP))?;
        let frame = noise(MacAddr::BROADCAST, attacker(1));
        let deadline = Instant::now() + Duration::from_secs(5);
        let is_peer = || -> anyhow::Result<bool> {
            let ports = field.ports()?;
            let port = ports.iter().find(|port| port.port == "u").context("the port u")?;
            let own = guest.local_addr()?.to_string();
            Ok(port.peer.as_ref().is_some_and(|peer| peer.contains(&own)) && port.counters.rx_frames > 0)
        };
        while !is_peer()? {
            if Instant::now() >= deadline {
                field.broken("the guest does not get its port while the silent stranger is there");
                break;
            }
            // Refused while nobody listens.
            let _ = guest.send(&frame);
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(Box::new((stranger, guest)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_counted_wherever_they_stand() {
        assert_eq!(count(b"xxNUMBEREDyNUMBEREDNUMBER"), 2);
    }
}
