//! A relay between two TAPs: every frame that one reads is written to the other, and nothing is looked at.
//!
//! It has no switch, no ports, no counters: a switch that moves frames by the same system calls cannot be faster, only come near. It is a
//! program of its own, so that it has its processor time to itself as the others do.

mod plain;
mod ring;

use std::io::Write;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use clap::ValueEnum;
use rustix::process::{Signal, set_parent_process_death_signal};
use sys::{Interest, Poller, Ready};

use crate::world::INTERFACE;

/// What a relay says once both TAPs are there.
pub const READY: &str = "relay is ready";

/// How many frames are moved from one TAP before the other has its turn.
const BATCH: usize = 64;

/// Room for a header of virtio-net, an Ethernet header with a tag and 1500 octets.
const BUFFER: usize = 2048;

/// How frames are moved.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Mechanism {
    /// One system call for each read and each write
    Epoll,
    /// Reads that are armed once, and many writes with one system call
    Uring,
}

impl Mechanism {
    /// The name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Mechanism::Epoll => "epoll",
            Mechanism::Uring => "uring",
        }
    }
}

/// Makes a TAP in each of two namespaces and relays between them until it is killed.
///
/// # Errors
/// When a TAP cannot be made, or is taken away.
pub fn run(mechanism: Mechanism, first: &Path, second: &Path) -> anyhow::Result<()> {
    // Who started us ends us, but may be killed itself.
    set_parent_process_death_signal(Some(Signal::KILL)).context("prctl")?;
    let taps = [open(first)?, open(second)?];
    println!("{READY}");
    std::io::stdout().flush()?;
    match mechanism {
        Mechanism::Epoll => relay(plain::Mover::new(&taps)?, &taps),
        Mechanism::Uring => relay(ring::Mover::new(&taps).context("io_uring is not allowed here")?, &taps),
    }
}

fn open(netns: &Path) -> anyhow::Result<OwnedFd> {
    let made = sys::netns::within(netns, || sys::tap::open(INTERFACE, sys::tap::Options::default()));
    let (tap, _) =
        made.with_context(|| format!("cannot make a TAP {INTERFACE} in namespace {}", netns.display()))?;
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

const READABLE: Interest = Interest { read: true, write: false };
