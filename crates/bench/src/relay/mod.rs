//! Bare relays: every frame that one side has is given to the other, and nothing is looked at.
//!
//! They have no switch, no ports, no counters: a switch that moves frames by the same system calls cannot be faster,
//! only come near. They are programs of their own, so that they have their processor time to themselves as the others
//! do.

mod datagram;
mod guest;
mod plain;
mod ring;
mod stream;
mod trunk;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use clap::{Subcommand, ValueEnum};
use rustix::process::{Signal, set_parent_process_death_signal};
use vmlan_frame::MacAddr;
use vmlan_sys::{Interest, Poller, Ready};

use crate::world::INTERFACE;

/// The line that a relay prints once both sides are there.
pub const READY: &str = "relay is ready";

/// The TAP between a trunk's relay and the interface. It has to be brought up by whoever starts the relay.
pub const TRUNK_TAP: &str = "trunk0";

/// The TAPs between a relay of two interfaces and these. They have to be brought up by whoever starts the relay.
pub const HOOKED_TAPS: [&str; 2] = ["hooked0", "hooked1"];

/// How many frames are moved from one side before the other has its turn.
const BATCH: usize = 64;

/// Room for a header of virtio-net, an Ethernet header with a tag and 1500 octets.
const BUFFER: usize = 2048;

/// The same for a segment of 64 KiB.
const LARGE_BUFFER: usize = 68 << 10;

/// Checksums, TCP segments with ECN and UDP segments, IPv4 and IPv6 (TUN_F_* of linux/if_tun.h).
const OFFLOADS: u32 = 0x01 | 0x02 | 0x04 | 0x08 | 0x20 | 0x40;

/// The same without UDP segments, which kernels before 6.2 do not have.
const OLD_OFFLOADS: u32 = 0x01 | 0x02 | 0x04 | 0x08;

/// Between what is relayed.
#[derive(Debug, Subcommand)]
pub enum Relay {
    /// A TAP in each of two network namespaces
    Tap {
        /// How frames are moved
        mechanism: Mechanism,
        /// Path of a network namespace
        first: PathBuf,
        /// Path of the other
        second: PathBuf,
        /// Take and give segments of up to 64 KiB and open checksums
        #[arg(long)]
        offloads: bool,
    },
    /// A TAP in one network namespace, and an interface in another by the means of a trunk in mode filter
    Trunk {
        /// How frames are moved
        mechanism: Mechanism,
        /// Path of the guest's network namespace
        guest: PathBuf,
        /// Path of the host's
        host: PathBuf,
        /// The host's interface
        interface: String,
        /// The guest's MAC address
        mac: MacAddr,
        /// The guest talks to the host instead of the wire behind the interface
        #[arg(long)]
        to_host: bool,
        /// Take and give segments of up to 64 KiB and open checksums
        #[arg(long)]
        offloads: bool,
    },
    /// Two interfaces, each by a TAP and the programs of a trunk, with offloads
    Interfaces {
        /// How frames are moved
        mechanism: Mechanism,
        /// Path of the network namespace
        host: PathBuf,
        /// An interface there
        first: String,
        /// The other
        second: String,
        /// The MAC address behind the first
        first_mac: MacAddr,
        /// And behind the other
        second_mac: MacAddr,
    },
    /// Nothing, but a program on what goes out by an interface that leaves everything as it is
    Hook {
        /// Path of the network namespace
        host: PathBuf,
        /// The interface
        interface: String,
    },
    /// Two datagram sockets
    Datagram {
        /// Path of a socket
        first: PathBuf,
        /// Path of the other
        second: PathBuf,
    },
    /// Two stream sockets
    Stream {
        /// Path of a socket
        first: PathBuf,
        /// Path of the other
        second: PathBuf,
    },
    /// A TAP in a network namespace, and a stream socket that another program listens at
    Guest {
        /// Path of the network namespace
        netns: PathBuf,
        /// Path of the socket
        socket: PathBuf,
    },
}

/// How frames are moved between TAPs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mechanism {
    /// One system call for each read and each write
    Epoll,
    /// The same without ever waiting
    Busy,
    /// Reads that are armed once, and many writes with one system call
    Uring,
}

impl Mechanism {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Epoll => "epoll",
            Mechanism::Busy => "busy",
            Mechanism::Uring => "uring",
        }
    }
}

impl Relay {
    /// Relays until it is killed.
    ///
    /// # Errors
    /// When a side cannot be made, or is taken away.
    pub fn run(&self) -> anyhow::Result<()> {
        // Who started us ends us, but may be killed itself.
        set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
        match self {
            Relay::Tap { mechanism, first, second, offloads } => taps(
                *mechanism,
                [open(first, INTERFACE, *offloads)?, open(second, INTERFACE, *offloads)?],
                *offloads,
            ),
            Relay::Trunk { mechanism, guest, host, interface, mac, to_host, offloads } => {
                let guest = open(guest, INTERFACE, *offloads)?;
                let tap = open(host, TRUNK_TAP, *offloads)?;
                let _hooked = trunk::hook(host, (interface, TRUNK_TAP), *mac, *to_host)?;
                taps(*mechanism, [guest, tap], *offloads)
            }
            Relay::Interfaces { mechanism, host, first, second, first_mac, second_mac } => {
                let [one, other] = HOOKED_TAPS;
                let ends = [open(host, one, true)?, open(host, other, true)?];
                // What comes in by one is for who is behind the other.
                let _hooked = [
                    trunk::hook(host, (first, one), *second_mac, false)?,
                    trunk::hook(host, (second, other), *first_mac, false)?,
                ];
                taps(*mechanism, ends, true)
            }
            Relay::Hook { host, interface } => {
                let _hooked = trunk::idle(host, interface)?;
                say_ready()?;
                loop {
                    std::thread::park();
                }
            }
            Relay::Datagram { first, second } => datagram::run(first, second),
            Relay::Stream { first, second } => stream::run(first, second),
            Relay::Guest { netns, socket } => guest::run(open(netns, INTERFACE, false)?, socket),
        }
    }
}

fn say_ready() -> std::io::Result<()> {
    println!("{READY}");
    std::io::stdout().flush()
}

fn taps(mechanism: Mechanism, taps: [OwnedFd; 2], offloads: bool) -> anyhow::Result<()> {
    let buffer = if offloads { LARGE_BUFFER } else { BUFFER };
    say_ready()?;
    match mechanism {
        Mechanism::Epoll => relay(plain::Mover::new(&taps, buffer)?, &taps),
        Mechanism::Busy => {
            let mut mover = plain::Mover::new(&taps, buffer)?;
            loop {
                mover.relay(0)?;
                mover.relay(1)?;
            }
        }
        Mechanism::Uring => {
            relay(ring::Mover::new(&taps, buffer).context("io_uring is not allowed here")?, &taps)
        }
    }
}

fn open(netns: &Path, name: &str, offloads: bool) -> anyhow::Result<OwnedFd> {
    let made =
        vmlan_sys::netns::within(netns, || vmlan_sys::tap::open(name, vmlan_sys::tap::Options::default()));
    let (tap, _) =
        made.with_context(|| format!("cannot make a TAP {name} in namespace {}", netns.display()))?;
    if offloads {
        vmlan_sys::tap::set_offloads(&tap, OFFLOADS)
            .or_else(|_| vmlan_sys::tap::set_offloads(&tap, OLD_OFFLOADS))
            .context("asking for offloads")?;
    }
    Ok(tap)
}

/// Moves frames from one TAP to another.
trait Move {
    /// Registers what tells that there are frames from TAP `i`, with `i` as its token.
    fn watch(&self, poller: &Poller) -> std::io::Result<()>;

    /// Moves at most [`BATCH`] frames from TAP `from` to the other, without waiting.
    fn relay(&mut self, from: usize) -> std::io::Result<()>;
}

fn relay(mut mover: impl Move, taps: &[OwnedFd; 2]) -> anyhow::Result<()> {
    let poller = Poller::new()?;
    mover.watch(&poller)?;
    for from in 0..taps.len() {
        mover.relay(from)?;
    }
    let mut ready: Vec<Ready> = Vec::new();
    loop {
        poller.wait(&mut ready, None::<Duration>)?;
        for event in &ready {
            mover.relay(event.token as usize)?;
        }
    }
}

const READABLE: Interest = Interest::READ;
