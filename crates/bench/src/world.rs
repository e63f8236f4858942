//! The two namespaces between which everything is measured.
//!
//! A [`World`] begins with two quiet namespaces that know nothing of each other. A peer joins them: afterwards each has
//! an interface [`INTERFACE`]. [`World::settle`] gives these their addresses, which never have to be asked for, and
//! waits until a packet comes through. Dropping the world ends every process in it and then removes the namespaces.

use std::net::Ipv4Addr;
use std::path::Path;
use std::time::Duration;
use std::{fs, process};

use anyhow::{Context, ensure};
use tempfile::TempDir;
use testbed::{Interface, Netns, Process};

/// The interface that is measured, in both namespaces.
pub const INTERFACE: &str = "t0";

/// The things that every measurement needs.
pub const PROGRAMS: [&str; 4] = ["ip", "ping", "iperf3", "ethtool"];

const JOIN_LIMIT: Duration = Duration::from_secs(15);

/// One of the two namespaces, with the addresses of its interface.
pub struct Host {
    /// The namespace.
    pub netns: Netns,
    /// IPv4 address, in a network of 24 bits.
    pub address: Ipv4Addr,
    /// MAC address of the interface.
    pub mac: [u8; 6],
}

impl Host {
    fn new(hint: &str, address: Ipv4Addr, mac: [u8; 6]) -> Host {
        let netns = Netns::new(hint);
        // Nobody but us sends anything.
        for scope in ["all", "default"] {
            netns.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1");
        }
        Host { netns, address, mac }
    }

    fn settle(&self, other: &Host) {
        let interface = Interface::new().mac(&text(self.mac)).address(&format!("{}/24", self.address));
        self.netns.configure(INTERFACE, &interface);
        let to = other.address.to_string();
        self.netns.ip(["neighbour", "replace", &to, "lladdr", &text(other.mac), "dev", INTERFACE]);
    }
}

/// Two namespaces, and what joins them. Fields are dropped in this order.
pub struct World {
    processes: Vec<Process>,
    directory: TempDir,
    between: Option<Netns>,
    /// The end that sends, connects and asks.
    pub a: Host,
    /// The end that receives, listens and answers.
    pub b: Host,
}

impl World {
    /// Two namespaces that are not joined.
    ///
    /// # Errors
    /// No temporary directory.
    ///
    /// # Panics
    /// Without root.
    pub fn new() -> anyhow::Result<World> {
        let directory = TempDir::with_prefix("vmlan-bench-").context("a temporary directory")?;
        Ok(World {
            processes: Vec::new(),
            directory,
            between: None,
            a: Host::new("a", Ipv4Addr::new(10, 9, 0, 1), [2, 0, 0, 0, 0xaa, 1]),
            b: Host::new("b", Ipv4Addr::new(10, 9, 0, 2), [2, 0, 0, 0, 0xbb, 1]),
        })
    }

    /// A directory for sockets and configuration that lives as long as the world.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Keeps a process that joins the namespaces for as long as the world lives.
    pub fn keep(&mut self, process: Process) {
        self.processes.push(process);
    }

    /// The ids of the processes that join the namespaces; none where the kernel does it.
    pub fn processes(&self) -> impl Iterator<Item = u32> {
        self.processes.iter().map(Process::pid)
    }

    /// A third namespace, which stands for the host that has the switch in it.
    pub fn between(&mut self) -> &Netns {
        self.between.get_or_insert_with(|| Netns::new("between"))
    }

    /// A and B, and the third namespace.
    ///
    /// # Panics
    /// When there is no third one.
    pub fn ends_and_host(&self) -> ([&Host; 2], &Netns) {
        ([&self.a, &self.b], self.between.as_ref().expect("the host was made"))
    }

    /// Brings both interfaces up, with fixed neighbours.
    ///
    /// # Panics
    /// When one of them is not there.
    pub fn address(&self) {
        self.a.settle(&self.b);
        self.b.settle(&self.a);
    }

    /// Brings both interfaces up, with fixed neighbours, and waits until a packet comes through.
    ///
    /// # Errors
    /// When none does.
    ///
    /// # Panics
    /// When one of the interfaces is not there.
    pub fn settle(&mut self) -> anyhow::Result<()> {
        self.address();
        let reached = self.a.netns.reaches(self.b.address, JOIN_LIMIT);
        self.check()?;
        ensure!(reached, "no ping came through in {JOIN_LIMIT:?}{}", self.logs());
        Ok(())
    }

    /// That everything that joins the namespaces is still running.
    ///
    /// # Errors
    /// When something has ended, with what it said.
    pub fn check(&mut self) -> anyhow::Result<()> {
        let all_run = self.processes.iter_mut().all(Process::is_running);
        ensure!(all_run, "a process that joins the namespaces has ended{}", self.logs());
        Ok(())
    }

    /// Has every process end by itself, so that it puts back what it changed on the machine.
    ///
    /// # Panics
    /// When one does not end.
    pub fn end(&mut self) {
        for process in self.processes.drain(..) {
            process.terminate(JOIN_LIMIT);
        }
    }

    fn logs(&self) -> String {
        self.processes.iter().map(|process| format!("\nlog: {}", process.log().trim_end())).collect()
    }
}

/// A MAC address as it is written.
pub fn text(mac: [u8; 6]) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}

/// Removes the namespaces that this process made and that have no guard: Ctrl-C also ends an `ip` that is just making
/// one.
pub fn sweep() {
    let ours = format!("vmlan-{}-", process::id());
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        if let Some(name) = entry.file_name().to_str().filter(|name| name.starts_with(&ours)) {
            // Who made it is ending; what cannot be removed now is removed by the next one who makes namespaces.
            let _ = process::Command::new("ip").args(["netns", "delete", name]).status();
        }
    }
}
