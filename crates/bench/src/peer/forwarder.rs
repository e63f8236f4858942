//! Forwarders of questions for names, which ask a server on the host's loopback interface for a guest.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use testbed::Interface;

use super::vmlan;
use crate::row::Programs;
use crate::world::{INTERFACE, World};

/// The server's place on the host.
pub const RESOLVER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 5300);

/// The address that the guest asks.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 1);
const PORT: u16 = 53;

/// A program that puts a guest's questions to a server.
#[derive(Clone, Copy, Debug)]
pub enum Forwarder {
    /// The gateway of vmlan's uplink, behind a TAP.
    Vmlan,
    /// dnsmasq without a cache, behind a veth.
    Dnsmasq,
}

impl Forwarder {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Forwarder::Vmlan => "vmlan",
            Forwarder::Dnsmasq => "dnsmasq",
        }
    }

    /// Programs of others that it needs.
    pub const fn programs(self) -> &'static [&'static str] {
        match self {
            Forwarder::Vmlan => &[],
            Forwarder::Dnsmasq => &["dnsmasq"],
        }
    }

    /// Starts it. Returns the address that the guest asks.
    ///
    /// # Errors
    /// A file that cannot be written.
    ///
    /// # Panics
    /// When a program cannot be started or does not come up; the message shows what it said.
    pub fn join(self, world: &mut World, programs: &Programs) -> anyhow::Result<SocketAddr> {
        match self {
            Forwarder::Vmlan => {
                let directory = world.directory().to_owned();
                let config = format!(
                    "[network.bench.uplink]\nsubnet = \"10.213.5.0/24\"\ndns = {{ servers = [\"{RESOLVER}\"] }}\n\
                     [network.bench.port.guest]\n{}\n",
                    vmlan::tap(&world.a.netns)
                );
                let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
                world.keep(process);
            }
            Forwarder::Dnsmasq => {
                let guest = world.a.netns.name().to_owned();
                let host = world.between();
                host.ip(["link", "add", "a0", "type", "veth", "peer", "name", INTERFACE, "netns", &guest]);
                host.configure("a0", &Interface::new().address(&format!("{GATEWAY}/24")));
                let (server, address) = (
                    format!("--server={}#{}", RESOLVER.ip(), RESOLVER.port()),
                    format!("--listen-address={GATEWAY}"),
                );
                let words =
                    ["--conf-file=/dev/null", "--no-daemon", "--user=root", "--no-resolv", "--no-hosts"];
                let more = ["--cache-size=0", &server, &address, "--bind-interfaces", "--port=53"];
                let process = host.spawn("dnsmasq", words.into_iter().chain(more));
                world.keep(process);
            }
        }
        world.a.netns.configure(INTERFACE, &Interface::new().address("10.213.5.20/24"));
        Ok((GATEWAY, PORT).into())
    }
}
