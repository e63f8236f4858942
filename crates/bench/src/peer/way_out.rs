//! Ways out for one guest: a namespace that has nothing but a TAP.
//!
//! Each carries what the guest sends to one address to the loopback interface of the host, which is another namespace:
//! so nothing else is measured.

use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use testbed::{Interface, Process};

use super::vmlan;
use crate::measure::is_reached;
use crate::row::Programs;
use crate::world::{INTERFACE, World};

/// The port of the server, on both sides.
pub const PORT: u16 = 5201;

/// A program that gives a guest a way out.
#[derive(Clone, Copy, Debug)]
pub enum WayOut {
    /// vmlan, with or without the offloads of the TAP.
    Vmlan { mtu: u32, offloads: bool },
    /// slirp4netns, which is libslirp for namespaces.
    Slirp { mtu: u32 },
}

const START_LIMIT: Duration = Duration::from_secs(20);

impl WayOut {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            WayOut::Vmlan { mtu: 1500, offloads: true } => "vmlan",
            WayOut::Vmlan { mtu: 1500, .. } => "vmlan-plain",
            WayOut::Vmlan { .. } => "vmlan-65520",
            WayOut::Slirp { mtu: 1500 } => "slirp4netns-1500",
            WayOut::Slirp { .. } => "slirp4netns-65520",
        }
    }

    /// Programs of others that it needs.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            WayOut::Vmlan { .. } => &[],
            WayOut::Slirp { .. } => &["slirp4netns"],
        }
    }

    /// Starts it. Returns the address by which the guest reaches the host's loopback interface.
    ///
    /// # Errors
    /// It does not come up.
    pub fn join(self, world: &mut World, programs: &Programs) -> anyhow::Result<SocketAddr> {
        // A way out that asks what the host has needs something to find.
        let host = world.between();
        host.ip(["link", "set", "lo", "up"]);
        host.ip(["link", "add", "up0", "type", "veth", "peer", "name", "up1"]);
        host.configure("up1", &Interface::new());
        host.configure("up0", &Interface::new().address("198.51.100.1/24"));
        host.ip(["route", "add", "default", "via", "198.51.100.2"]);
        let address = match self {
            WayOut::Vmlan { mtu, offloads } => vmlan(world, programs, mtu, offloads)?,
            WayOut::Slirp { mtu } => slirp(world, mtu),
        };
        let to = (address, PORT).into();
        // Echo is not carried by all of them, where the system permits no ping sockets.
        let reached = is_reached(&world.a.netns, to, START_LIMIT);
        world.check()?;
        ensure!(reached, "the guest does not reach {to}");
        Ok(to)
    }
}

fn vmlan(world: &mut World, programs: &Programs, mtu: u32, offloads: bool) -> anyhow::Result<Ipv4Addr> {
    let directory = world.directory().to_owned();
    let guest = world.a.netns.path();
    let config = format!(
        "[network.bench]\nmtu = {mtu}\nuplink = {{ subnet = \"10.213.5.0/24\", host = [\"{PORT}\", \"{PORT}/udp\"], \
         limits = {{ new_per_second = 1000000, flows = 65536 }} }}\n\
         [network.bench.port.guest]\ntap = {{ name = \"{INTERFACE}\", netns = \"{}\", offloads = {offloads} }}\n",
        guest.display()
    );
    let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
    world.keep(process);
    let interface = Interface::new().mtu(mtu).address("10.213.5.20/24");
    world.a.netns.configure(INTERFACE, &interface);
    Ok(Ipv4Addr::new(10, 213, 5, 2))
}

fn slirp(world: &mut World, mtu: u32) -> Ipv4Addr {
    let guest = world.a.netns.path().display().to_string();
    let mtu = format!("--mtu={mtu}");
    let arguments = ["--configure", &mtu, "--netns-type=path", &guest, INTERFACE];
    let process: Process = world.between().spawn("slirp4netns", arguments);
    world.keep(process);
    Ipv4Addr::new(10, 0, 2, 2)
}
