//! Frames from one TAP to another, as machine monitors move them: one system call a frame.
//!
//! A thread writes to one TAP, another reads the other. What is measured runs where the writer does, which is in the
//! kernel, or anywhere.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::Ordering;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rustix::event::PollFlags;
use rustix::io::{Errno, read, write};
use testbed::Netns;
use vmlan_sys::tap::{self, HEADER, offload};

use super::flow::{State, run, wait};
use super::processors::stay_on_first;
use super::{SMALL, ip_frame, seal};

const JOIN_LIMIT: Duration = Duration::from_secs(15);

/// Room for a virtio-net header and a frame of 64 KiB.
const BUFFER: usize = HEADER + (64 << 10) + 64;

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
    flow(netns, taps, macs, &frame, duration)
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
    Ok(flow(netns, taps, macs, &frame, duration)? * payload / 1e3)
}

/// With its virtio-net header (virtio 1.3 5.1.6): the checksum is open, and 40 segments are to be made of it.
fn large([from, to]: [[u8; 6]; 2]) -> Vec<u8> {
    let mut frame = ip_frame(to, from, LARGE);
    frame[23] = 6;
    // TCP: a header of 20 octets, and ACK (RFC 9293 3.1).
    frame[34 + 12] = 5 << 4;
    frame[34 + 13] = 0x10;
    seal(&mut frame);
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

/// Frames that arrive, in 10⁶ a second.
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
    let rate = run(|state| send(&from, frame, state), |state| receive(&to, state), 0, duration)?;
    Ok(rate.received_mpps)
}

fn send(tap: &OwnedFd, frame: &[u8], state: &State) -> io::Result<()> {
    stay_on_first()?;
    while state.goes_on() {
        match write(tap, frame) {
            Ok(_) | Err(Errno::AGAIN | Errno::NOBUFS) => {}
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

fn receive(tap: &OwnedFd, state: &State) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    while state.goes_on() {
        match read(tap, &mut buffer[..]) {
            Ok(_) => drop(state.received.fetch_add(1, Ordering::Relaxed)),
            Err(Errno::AGAIN) => wait(tap, PollFlags::IN)?,
            Err(error) => return Err(error.into()),
        }
    }
    Ok(())
}

/// Throws away what waits; true if there was something.
fn drain(tap: &OwnedFd) -> io::Result<bool> {
    let mut buffer = vec![0; BUFFER];
    let mut any = false;
    loop {
        match read(tap, &mut buffer[..]) {
            Ok(_) => any = true,
            Err(Errno::AGAIN) => return Ok(any),
            Err(error) => return Err(error.into()),
        }
    }
}
