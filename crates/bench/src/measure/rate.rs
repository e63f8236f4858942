//! How many of the smallest packets come through.
//!
//! A thread sends frames of 64 octets as fast as it can, 64 with a system call, past A's protocol stack where that
//! would be slower than what is measured. What arrives is counted where it leaves what is measured: at B's interface,
//! before its protocol stack, which ignores it.

use std::io;
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::io::Errno;
use vmlan_sys::datagrams;

use super::counter::Counter;
use super::processors::stay_on_first;
use super::{SMALL, frame, ip_frame, round_trip};
use crate::world::{INTERFACE, World};
use testbed::interrupt;

/// Until caches, queues and the scheduler have settled.
const WARM_UP: Duration = Duration::from_millis(200);

/// Packets of 64 octets in one direction.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct PacketRate {
    /// Received, in 10⁶ packets a second.
    pub received_mpps: f64,
    /// Taken by A's interface, in 10⁶ packets a second.
    pub sent_mpps: f64,
}

/// Sends from A to B past A's protocol stack and traffic control, and counts for so long after a warm-up.
///
/// # Errors
/// When nothing arrives, or a socket fails.
pub fn packet_rate(world: &World, duration: Duration) -> anyhow::Result<PacketRate> {
    rate(world, past_the_stack(world)?, &frame(world.b.mac, world.a.mac, SMALL), duration)
}

/// The same with frames of UDP over IPv4, with a tag of this VLAN where there is one. They are for an IP
/// address that B does not have, so its protocol stack drops them.
///
/// # Errors
/// When nothing arrives, or a socket fails.
pub fn ip_rate(world: &World, vlan: Option<u16>, duration: Duration) -> anyhow::Result<PacketRate> {
    let mut octets = ip_frame(world.b.mac, world.a.mac, SMALL);
    if let Some(vlan) = vlan {
        let [high, low] = vlan.to_be_bytes();
        octets.splice(12..12, [0x81, 0x00, high, low]);
    }
    rate(world, past_the_stack(world)?, &octets, duration)
}

/// A socket that sends by A's interface, past its protocol stack and traffic control.
fn past_the_stack(world: &World) -> anyhow::Result<impl AsFd + Send + Sync + use<>> {
    vmlan_sys::netns::within(&world.a.netns.path(), || vmlan_sys::packet::sender(INTERFACE))
        .with_context(|| format!("a packet socket in namespace {}", world.a.netns.name()))
}

/// The same through A's protocol stack and traffic control, as A's own programs send: UDP in frames of 64 octets.
///
/// # Errors
/// When nothing arrives, or a socket fails.
pub fn udp_rate(world: &World, duration: Duration) -> anyhow::Result<PacketRate> {
    // B's socket reads nothing; without it, B would answer that there is none.
    let [source, _sink] = round_trip::sockets(&world.a, &world.b)?;
    rate(world, source, &[0; round_trip::PAYLOAD], duration)
}

fn rate(
    world: &World,
    source: impl AsFd + Send + Sync,
    octets: &[u8],
    duration: Duration,
) -> anyhow::Result<PacketRate> {
    let mut counter = Counter::of(&world.b)?;
    let (sent, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    let rate = thread::scope(|scope| {
        let sender = scope.spawn(|| flood(&source, octets, &sent, &stop));
        let rate = count(&sent, &mut counter, duration);
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender does not panic").context("sending")?;
        rate.context("counting")
    })?;
    ensure!(rate.received_mpps > 0.0, "no packet came through");
    Ok(rate)
}

fn count(sent: &AtomicU64, received: &mut Counter, duration: Duration) -> io::Result<PacketRate> {
    let mut look =
        || Ok::<_, io::Error>((Instant::now(), sent.load(Ordering::Relaxed), received.received()?));
    thread::sleep(WARM_UP);
    let before = look()?;
    interrupt::sleep(duration);
    let after = look()?;
    let micros = (after.0 - before.0).as_secs_f64() * 1e6;
    Ok(PacketRate {
        received_mpps: after.2.saturating_sub(before.2) as f64 / micros,
        sent_mpps: after.1.saturating_sub(before.1) as f64 / micros,
    })
}

fn flood(socket: impl AsFd, frame: &[u8], sent: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    stay_on_first()?;
    while !stop.load(Ordering::Relaxed) {
        match datagrams::send(&socket, datagrams::LIMIT, |_| [frame, &[], &[]]) {
            Ok(count) => drop(sent.fetch_add(count as u64, Ordering::Relaxed)),
            Err(error) => match Errno::from_io_error(&error) {
                // No room in the interface: what is measured is slower.
                Some(Errno::AGAIN | Errno::NOBUFS) => thread::yield_now(),
                _ => return Err(error),
            },
        }
    }
    Ok(())
}
