//! Frames from one TAP to another, as machine monitors move them: one system call a frame.
//!
//! A thread writes to one TAP, another reads the other. What is measured runs where the writer does, which is in the
//! kernel, or anywhere.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, read, write};
use testbed::{Netns, interrupt};
use vmlan_sys::tap::{self, HEADER, offload};

use super::processors::stay_on_first;
use super::{SMALL, ip_frame};

const WARM_UP: Duration = Duration::from_millis(200);
const JOIN_LIMIT: Duration = Duration::from_secs(15);
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 50_000_000 };

/// Octets of a segmentation frame, and of the payload of each of its segments.
const LARGE: usize = 14 + 20 + 20 + 40 * 1448;
const SEGMENT: u16 = 1448;

/// Moves frames of 64 octets from the first of the TAPs to the second; those that arrive, in 10⁶ a second.
///
/// # Errors
/// When nothing arrives, or a TAP fails.
pub fn small_frames(
    netns: &Netns,
    taps: [&str; 2],
    macs: [[u8; 6]; 2],
    duration: Duration,
) -> anyhow::Result<f64> {
    let mut frame = vec![0; HEADER];
    frame.extend(ip_frame(macs[1], macs[0], SMALL));
    Ok(flow(netns, taps, macs, &frame, duration)? / 1e6)
}

/// Moves segmentation frames of TCP over IPv4, of 40 segments each; the payload that arrives, in 10⁹ bits a second.
///
/// # Errors
/// As [`small_frames`].
pub fn large_frames(
    netns: &Netns,
    taps: [&str; 2],
    macs: [[u8; 6]; 2],
    duration: Duration,
) -> anyhow::Result<f64> {
    let frame = large(macs);
    let payload = (LARGE - 54) as f64 * 8.0;
    Ok(flow(netns, taps, macs, &frame, duration)? * payload / 1e9)
}

/// With its virtio-net header (virtio 1.3 5.1.6): the checksum is open, and 40 segments are to be made of it.
fn large([from, to]: [[u8; 6]; 2]) -> Vec<u8> {
    let mut frame = ip_frame(to, from, LARGE);
    frame[23] = 6;
    // TCP: a header of 20 octets, and ACK (RFC 9293 3.1).
    frame[34 + 12] = 5 << 4;
    frame[34 + 13] = 0x10;
    frame[24..26].copy_from_slice(&[0, 0]);
    let sum: u32 =
        frame[14..34].as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    frame[24..26].copy_from_slice(&(!(folded as u16)).to_be_bytes());
    let mut octets = vec![1, 1];
    for number in [54, SEGMENT, 34, 16, 0] {
        octets.extend(u16::to_le_bytes(number));
    }
    octets.extend(frame);
    octets
}

fn open(netns: &Netns, name: &str) -> anyhow::Result<OwnedFd> {
    let opened = vmlan_sys::netns::within(&netns.path(), || {
        let (fd, _) = tap::open(name, tap::Options::default())?;
        tap::set_offloads(&fd, offload::CHECKSUM | offload::TSO4 | offload::TSO6)?;
        Ok(fd)
    });
    let fd = opened.with_context(|| format!("opening the TAP {name}"))?;
    netns.ip(["link", "set", name, "up"]);
    Ok(fd)
}

/// Frames a second that arrive.
fn flow(
    netns: &Netns,
    taps: [&str; 2],
    [mac, peer]: [[u8; 6]; 2],
    frame: &[u8],
    duration: Duration,
) -> anyhow::Result<f64> {
    let [from, to] = [open(netns, taps[0])?, open(netns, taps[1])?];
    let mut hello = vec![0; HEADER];
    hello.extend(ip_frame(mac, peer, SMALL));
    // Until both are known, and what may be moved by the kernel is.
    let start = Instant::now();
    while start.elapsed() < Duration::from_millis(500) || !drain(&from)? {
        ensure!(start.elapsed() < JOIN_LIMIT, "no frame came through in {JOIN_LIMIT:?}");
        let _ = write(&to, &hello);
        let _ = write(&from, frame);
        thread::sleep(Duration::from_millis(20));
    }
    drain(&to)?;
    let (received, stop) = (AtomicU64::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        let receiver = scope.spawn(|| receive(&to, &received, &stop));
        let sender = scope.spawn(|| send(&from, frame, &stop));
        thread::sleep(WARM_UP);
        let look = || (Instant::now(), received.load(Ordering::Relaxed));
        let before = look();
        interrupt::sleep(duration);
        let after = look();
        stop.store(true, Ordering::Relaxed);
        sender.join().expect("the sender does not panic").context("writing")?;
        receiver.join().expect("the receiver does not panic").context("reading")?;
        ensure!(after.1 > before.1, "no frame came through");
        Ok((after.1 - before.1) as f64 / (after.0 - before.0).as_secs_f64())
    })
}

fn send(tap: &OwnedFd, frame: &[u8], stop: &AtomicBool) -> io::Result<()> {
    stay_on_first()?;
    while !stop.load(Ordering::Relaxed) {
        match write(tap, frame) {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn receive(tap: &OwnedFd, received: &AtomicU64, stop: &AtomicBool) -> io::Result<()> {
    let mut buffer = vec![0; HEADER + (64 << 10) + 64];
    while !stop.load(Ordering::Relaxed) {
        match read(tap, &mut buffer[..]) {
            Ok(_) => drop(received.fetch_add(1, Ordering::Relaxed)),
            Err(Errno::AGAIN) => match poll(&mut [PollFd::new(&tap.as_fd(), PollFlags::IN)], Some(&LOOK)) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            },
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Throws away what waits; true if there was something.
fn drain(tap: &OwnedFd) -> io::Result<bool> {
    let mut buffer = vec![0; HEADER + (64 << 10) + 64];
    let mut any = false;
    loop {
        match read(tap, &mut buffer[..]) {
            Ok(_) => any = true,
            Err(Errno::AGAIN) => return Ok(any),
            Err(error) => return Err(error.into()),
        }
    }
}
