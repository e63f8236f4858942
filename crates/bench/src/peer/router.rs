//! Ways of a guest to a server behind the host, by the host's kernel: it routes and translates.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use anyhow::ensure;
use testbed::Interface;

use super::{bridge, vmlan};
use crate::measure::is_reached;
use crate::row::Programs;
use crate::world::{INTERFACE, World};

/// The server's place, in the second namespace.
pub const BEHIND: SocketAddr = SocketAddr::new(IpAddr::V4(SERVER), 5201);

const SERVER: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);
/// The gateway of the guest.
const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 1);

const START_LIMIT: Duration = Duration::from_secs(20);

/// Masquerading and its filter, as libvirt has them for a network of its own.
const RULES: &str = "\
table ip bench {
    chain forward {
        type filter hook forward priority filter; policy accept;
        ip daddr 10.213.5.0/24 oif br0 ct state established,related accept
        ip saddr 10.213.5.0/24 iif br0 accept
        oif br0 reject
        iif br0 reject
    }
    chain postrouting {
        type nat hook postrouting priority srcnat;
        ip saddr 10.213.5.0/24 ip daddr != 10.213.5.0/24 masquerade
    }
}
";

/// A way to the host's kernel.
#[derive(Clone, Copy, Debug)]
pub enum Router {
    /// vmlan's uplink in mode `kernel`, the guest behind a TAP with offloads.
    Vmlan,
    /// A Linux bridge, the guest behind a veth with offloads.
    Bridge,
}

impl Router {
    /// The name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Router::Vmlan => "vmlan-kernel",
            Router::Bridge => "bridge-nat",
        }
    }

    /// Joins the first namespace to the host and the second, which stands for the rest of the world.
    ///
    /// # Errors
    /// The second one is not reached, or a file cannot be written.
    ///
    /// # Panics
    /// When a program cannot be started or does not come up; the message shows what it said.
    pub fn join(self, world: &mut World, programs: &Programs) -> anyhow::Result<()> {
        let directory = world.directory().to_owned();
        let (guest, server) = (world.a.netns.name().to_owned(), world.b.netns.name().to_owned());
        let host = world.between();
        let [inner, outer] = bridge::PORTS;
        host.ip(["link", "add", outer, "type", "veth", "peer", "name", INTERFACE, "netns", &server]);
        host.configure(outer, &Interface::new().address("198.51.100.1/24"));
        world.b.netns.configure(INTERFACE, &Interface::new().address(&format!("{SERVER}/24")));
        let host = world.between();
        host.ip(["route", "add", "default", "via", &SERVER.to_string()]);
        match self {
            Router::Vmlan => {
                let config = format!(
                    "[network.bench.uplink]\nmode = \"kernel\"\nsubnet = \"10.213.5.0/24\"\n\
                     [network.bench.port.guest]\n{}\n",
                    vmlan::tap(&world.a.netns)
                );
                let process = vmlan::start(programs, &directory, &config, Some(world.between()))?;
                world.keep(process);
            }
            Router::Bridge => {
                host.ip(["link", "add", inner, "type", "veth", "peer", "name", INTERFACE, "netns", &guest]);
                host.ip(["link", "set", inner, "up"]);
                host.ip(["link", "add", "br0", "type", "bridge"]);
                host.ip(["link", "set", inner, "master", "br0"]);
                host.configure("br0", &Interface::new().address(&format!("{GATEWAY}/24")));
                host.sysctl("net.ipv4.ip_forward", "1");
                let rules = vmlan::write(&directory, "rules.nft", RULES)?;
                host.exec("nft", ["-f".as_ref(), rules.as_os_str()]).expect_success();
            }
        }
        world.a.netns.configure(INTERFACE, &Interface::new().address("10.213.5.20/24"));
        world.a.netns.ip(["route", "add", "default", "via", &GATEWAY.to_string()]);
        let reached = is_reached(&world.a.netns, BEHIND, &world.b.netns, BEHIND, START_LIMIT);
        world.check()?;
        ensure!(reached, "the guest does not reach {BEHIND}");
        Ok(())
    }
}
