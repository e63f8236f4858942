//! How long a small packet takes there and back.
//!
//! One thread sends a UDP datagram and waits for it, another sends back what comes; both stay on one processor. What is
//! measured runs on another, as a switch beside a busy guest does, or on the same one. In the former case a processor
//! wakes another four times for a round trip, which in a virtual machine takes longer than all else; in the latter only
//! the work counts.

use std::io;
use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::SMALL;
use super::processors::{Placement, place, stay_on_first};
use crate::report::quantile;
use crate::world::{Host, World};

/// A small frame has so many octets of UDP payload.
pub(super) const PAYLOAD: usize = SMALL - 14 - 20 - 8;

const PORT: u16 = 7000;

const WARM_UP: u64 = 200;
const COUNT: u64 = 2_000;

/// After which a packet counts as lost.
const LOSS: Duration = Duration::from_millis(200);

/// With more than so many lost packets the figures would say nothing.
const MOST_LOST: u64 = 20;

/// Round-trip times of packets of 64 octets.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct RoundTrip {
    /// Median in microseconds.
    pub p50_us: f64,
    /// The time that one in a hundred takes or more, in microseconds.
    pub p99_us: f64,
}

/// Sends 2,000 packets from A to B and back, one after another.
///
/// # Errors
/// When more than a few are lost, or a socket fails.
pub fn round_trip(world: &World, placement: Placement) -> anyhow::Result<RoundTrip> {
    for process in world.processes() {
        place(process, placement).context("choosing processors")?;
    }
    let [a, b] = sockets(&world.a, &world.b)?;
    let stop = AtomicBool::new(false);
    let times = thread::scope(|scope| {
        let echo = scope.spawn(|| echo(&b, &stop));
        let asker = scope.spawn(|| ask(&a));
        let asked = asker.join().expect("the asker does not panic");
        stop.store(true, Ordering::Relaxed);
        echo.join().expect("the echo does not panic").context("answering")?;
        asked
    })?;
    let micros = |share| quantile(&times, share).unwrap_or(f64::NAN);
    Ok(RoundTrip { p50_us: micros(0.5), p99_us: micros(0.99) })
}

/// A UDP socket in each of two namespaces, connected to each other.
pub(super) fn sockets(a: &Host, b: &Host) -> anyhow::Result<[UdpSocket; 2]> {
    let socket = |host: &Host, to: &Host| {
        let make = || {
            let socket = UdpSocket::bind((host.address, PORT))?;
            socket.connect((to.address, PORT))?;
            Ok(socket)
        };
        vmlan_sys::netns::within(&host.netns.path(), make)
            .with_context(|| format!("a UDP socket in namespace {}", host.netns.name()))
    };
    Ok([socket(a, b)?, socket(b, a)?])
}

/// Sends back what comes, until `stop`.
fn echo(socket: &UdpSocket, stop: &AtomicBool) -> io::Result<()> {
    stay_on_first()?;
    socket.set_read_timeout(Some(LOSS))?;
    let mut buffer = [0; PAYLOAD];
    while !stop.load(Ordering::Relaxed) {
        match socket.recv(&mut buffer) {
            Ok(len) => drop(socket.send(&buffer[..len])?),
            Err(error) if is_passing(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Round-trip times in microseconds.
fn ask(socket: &UdpSocket) -> anyhow::Result<Vec<f64>> {
    stay_on_first()?;
    socket.set_read_timeout(Some(LOSS))?;
    let mut times = Vec::with_capacity(COUNT as usize);
    let mut lost = 0;
    for number in 0..WARM_UP + COUNT {
        let mut packet = [0; PAYLOAD];
        packet[..8].copy_from_slice(&number.to_be_bytes());
        let start = Instant::now();
        socket.send(&packet).context("asking")?;
        if !returns(socket, &packet).context("asking")? {
            lost += 1;
            if lost > MOST_LOST {
                bail!("{lost} of {} packets did not return within {LOSS:?}", number + 1);
            }
        } else if number >= WARM_UP {
            times.push(start.elapsed().as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

/// True if this very packet returns in time; ones that were given up on before may come first.
fn returns(socket: &UdpSocket, packet: &[u8; PAYLOAD]) -> io::Result<bool> {
    let mut buffer = [0; PAYLOAD];
    loop {
        match socket.recv(&mut buffer) {
            Ok(_) if buffer == *packet => return Ok(true),
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if is_passing(&error) => return Ok(false),
            Err(error) => return Err(error),
        }
    }
}

fn is_passing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_given_up_on_is_not_taken_for_its_successor() {
        let [ours, theirs] = [(); 2].map(|()| UdpSocket::bind("127.0.0.1:0").expect("a socket"));
        ours.connect(theirs.local_addr().expect("bound")).expect("a peer");
        theirs.connect(ours.local_addr().expect("bound")).expect("a peer");
        ours.set_read_timeout(Some(Duration::from_millis(10))).expect("a socket");
        let (late, wanted, missing) = ([1; PAYLOAD], [2; PAYLOAD], [3; PAYLOAD]);

        theirs.send(&late).expect("sent");
        theirs.send(&wanted).expect("sent");

        assert!(returns(&ours, &wanted).expect("a socket"));
        assert!(!returns(&ours, &missing).expect("a socket"));
    }
}
