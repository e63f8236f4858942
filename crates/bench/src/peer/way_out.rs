//! Ways out for one guest: a namespace that has nothing but a TAP, of the way out itself or of a relay that speaks to
//! its socket as a virtual machine does.
//!
//! Each carries what the guest sends to one address to the loopback interface of the host, which is another namespace:
//! so nothing else is measured.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::ensure;
use testbed::{Interface, Process};

use super::{start_relay, vmlan};
use crate::measure::is_reached;
use crate::row::Programs;
use crate::world::{INTERFACE, World};

/// The server's port, on both sides.
const PORT: u16 = 5201;

/// The server's place on the host.
pub const SERVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);

/// A program that gives a guest a way out.
#[derive(Clone, Copy, Debug)]
pub enum WayOut {
    /// vmlan, with or without the offloads of the TAP.
    Vmlan { mtu: u32, offloads: bool },
    /// slirp4netns, which is libslirp for namespaces.
    Slirp { mtu: u32 },
    /// pasta, which is passt for namespaces.
    Pasta { mtu: u32 },
    /// A stream port of vmlan's, as QEMU uses it.
    VmlanStream { mtu: u32 },
    /// passt at a stream socket.
    Passt { mtu: u32 },
}

/// The host's address on its way out, and the next hop, which is nobody.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
const ROUTER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

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
            WayOut::Pasta { mtu: 1500 } => "pasta-1500",
            WayOut::Pasta { .. } => "pasta-65520",
            WayOut::VmlanStream { .. } => "vmlan-stream",
            WayOut::Passt { .. } => "passt",
        }
    }

    /// Programs of others that it needs.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            WayOut::Vmlan { .. } | WayOut::VmlanStream { .. } => &[],
            WayOut::Slirp { .. } => &["slirp4netns"],
            WayOut::Pasta { .. } => &["pasta"],
            WayOut::Passt { .. } => &["passt"],
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
        host.configure("up0", &Interface::new().address(&format!("{HOST}/24")));
        host.ip(["route", "add", "default", "via", &ROUTER.to_string()]);
        let address = match self {
            WayOut::Vmlan { mtu, offloads } => {
                let port = format!("{}, offloads = {offloads} }}", tap(world));
                vmlan(world, programs, mtu, &port)?;
                configure(world, mtu, "10.213.5.20/24")
            }
            WayOut::Slirp { mtu } => slirp(world, mtu),
            WayOut::Pasta { mtu } => pasta(world, mtu),
            WayOut::VmlanStream { mtu } => {
                vmlan(world, programs, mtu, "stream = { listen = \"guest.sock\" }")?;
                relay(world, programs);
                configure(world, mtu, "10.213.5.20/24")
            }
            WayOut::Passt { mtu } => {
                passt(world, mtu)?;
                relay(world, programs);
                configure(world, mtu, &format!("{HOST}/24"));
                ROUTER
            }
        };
        let to = (address, PORT).into();
        // Echo is not carried by all of them, where the system permits no ping sockets.
        let ([guest, _], host) = world.ends_and_host();
        let reached = is_reached(&guest.netns, to, host, SERVER, START_LIMIT);
        world.check()?;
        ensure!(reached, "the guest does not reach {to}");
        Ok(to)
    }
}

fn vmlan(world: &mut World, programs: &Programs, mtu: u32, port: &str) -> anyhow::Result<()> {
    let directory = world.directory().to_owned();
    let config = format!(
        "[network.bench]\nmtu = {mtu}\nuplink = {{ subnet = \"10.213.5.0/24\", host = [\"{PORT}\", \"{PORT}/udp\"], \
         limits = {{ new_per_second = 1000000, flows = 65536 }} }}\n\
         [network.bench.port.guest]\n{port}\n"
    );
    let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
    world.keep(process);
    Ok(())
}

/// The beginning of a TAP's table.
fn tap(world: &World) -> String {
    format!("tap = {{ name = \"{INTERFACE}\", netns = \"{}\"", world.a.netns.path().display())
}

/// Gives the guest its address. Returns that of vmlan's host services.
fn configure(world: &World, mtu: u32, address: &str) -> Ipv4Addr {
    world.a.netns.configure(INTERFACE, &Interface::new().mtu(mtu).address(address));
    Ipv4Addr::new(10, 213, 5, 2)
}

/// The guest's TAP, and what joins it to the socket.
fn relay(world: &mut World, programs: &Programs) {
    let words = ["guest".into(), world.a.netns.path().into(), socket(world).into()];
    let relay = start_relay(&programs.bench, &words);
    world.keep(relay);
}

/// The socket that a guest connects to.
fn socket(world: &World) -> PathBuf {
    world.directory().join("guest.sock")
}

fn slirp(world: &mut World, mtu: u32) -> Ipv4Addr {
    let guest = world.a.netns.path().display().to_string();
    let mtu = format!("--mtu={mtu}");
    let arguments = ["--configure", &mtu, "--netns-type=path", &guest, INTERFACE];
    let process: Process = world.between().spawn("slirp4netns", arguments);
    world.keep(process);
    Ipv4Addr::new(10, 0, 2, 2)
}

/// Gives the guest the host's own address, and has the router's stand for the host's loopback interface.
fn pasta(world: &mut World, mtu: u32) -> Ipv4Addr {
    let guest = world.a.netns.path().display().to_string();
    let mtu = mtu.to_string();
    let mut words = vec!["--foreground", "--runas", "0", "--netns-only", "--config-net", "-I", INTERFACE];
    words.extend(["--mtu", &mtu, "-t", "none", "-u", "none", "-T", "none", "-U", "none", "--netns", &guest]);
    let process = world.between().spawn("pasta", words);
    world.keep(process);
    ROUTER
}

/// The same at a socket.
fn passt(world: &mut World, mtu: u32) -> anyhow::Result<()> {
    let path = socket(world);
    let (mtu, at) = (mtu.to_string(), path.display().to_string());
    let words = ["--foreground", "--runas", "0", "--mtu", &mtu, "--socket", &at];
    let process = world.between().spawn("passt", words);
    world.keep(process);
    let is_there = testbed::poll_until(START_LIMIT, || path.exists());
    world.check()?;
    ensure!(is_there, "passt made no socket at {at}");
    Ok(())
}
