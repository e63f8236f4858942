use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::OwnedFd;

use testbed::{Interface, Iperf, Netns, Ping, iperf3, ping, wait_until};
use vmlan_guest::Attachment;

use crate::support::{Daemon, PATIENCE, Peer, directory, mac};

/// The numbers of host and wire; guests have those above.
pub const HOST: u8 = 1;
pub const WIRE: u8 = 2;

pub fn v4(number: u8) -> IpAddr {
    Ipv4Addr::new(10, 9, 0, number).into()
}

pub fn v6(number: u8) -> IpAddr {
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, number.into()).into()
}

/// Lines of a trunk's table: its programs are filters of traffic control.
pub const CLSACT: &str = "hooks = \"clsact\"";

/// A host and a wire that are joined by a cable, `eth0` at both ends, and two guests, 3 and 4.
pub struct Lab {
    pub host: Netns,
    pub wire: Netns,
    pub guests: [Netns; 2],
}

pub fn interface(number: u8) -> Interface {
    Interface::new()
        .mac(&mac(number).to_string())
        .address(&format!("{}/24", v4(number)))
        .address(&format!("{}/64", v6(number)))
}

/// A socket that sends frames as they are, from `eth0` of a namespace.
#[track_caller]
pub fn sender(netns: &Netns) -> OwnedFd {
    vmlan_sys::netns::within(&netns.path(), || vmlan_sys::packet::sender("eth0")).expect("a sender")
}

impl Lab {
    #[track_caller]
    pub fn new() -> Lab {
        let guests = ["guest3", "guest4"].map(Netns::new);
        let lab = Lab { host: Netns::new("host"), wire: Netns::new("wire"), guests };
        lab.plug();
        lab
    }

    /// Connects host and wire.
    #[track_caller]
    pub fn plug(&self) {
        self.host.veth("eth0", &self.wire, "eth0");
        self.host.configure("eth0", &interface(HOST));
        self.wire.configure("eth0", &interface(WIRE));
    }

    /// The ports of both guests.
    pub fn ports(&self) -> String {
        let port = |(number, netns): (u8, &Netns)| {
            format!(
                "[network.lab.port.guest{number}]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
                netns.path().display()
            )
        };
        (3..).zip(&self.guests).map(port).collect()
    }

    /// A trunk on the host's `eth0`, with further lines of its table.
    pub fn config(&self, settings: &str) -> String {
        format!("[network.lab.trunk]\ninterface = \"eth0\"\n{settings}\n{}", self.ports())
    }

    /// A daemon on the host, with the guests configured.
    #[track_caller]
    pub fn start(&self, config: &str) -> Daemon {
        let daemon = Daemon::start_within(&self.host, directory(), config);
        self.configure(&daemon);
        daemon
    }

    /// The same with a trunk of these settings, the guests, and guest 9, whose frames the test makes itself.
    #[track_caller]
    pub fn start_with_raw(&self, settings: &str) -> (Daemon, Peer) {
        let port = "[network.lab.port.raw]\nstream = { listen = \"raw.sock\" }\n";
        let daemon = self.start(&format!("{}{port}", self.config(settings)));
        let raw = Peer::attach(9, Attachment::Stream { path: daemon.path("raw.sock") });
        daemon.wait_up(&["raw"]);
        (daemon, raw)
    }

    #[track_caller]
    pub fn configure(&self, daemon: &Daemon) {
        daemon.wait_up(&["guest3", "guest4", "trunk"]);
        for (number, netns) in (3..).zip(&self.guests) {
            netns.configure("t0", &interface(number));
        }
    }

    pub fn netns(&self, number: u8) -> &Netns {
        match number {
            HOST => &self.host,
            WIRE => &self.wire,
            guest => &self.guests[usize::from(guest) - 3],
        }
    }

    /// Every one pings every other in both families; each request has to be answered, once.
    #[track_caller]
    pub fn all_ping(&self) {
        for from in 1..=4 {
            for to in (1..=4).filter(|to| *to != from) {
                self.pings(from, to);
            }
        }
    }

    #[track_caller]
    pub fn pings(&self, from: u8, to: u8) {
        for address in [v4(to), v6(to)] {
            assert!(self.netns(from).reaches(address, PATIENCE), "{from} does not reach {address}");
            let report = ping(self.netns(from), address, 3);
            assert!(report.all(), "{from} to {address}: {report:?}");
        }
    }

    /// TCP passes between every two, in both directions and families.
    #[track_caller]
    pub fn all_carry(&self) {
        const OCTETS: u64 = 10_000_000;
        let pairs = (1..=4).flat_map(|from| (from + 1..=4).map(move |to| (from, to)));
        for (from, to) in pairs {
            for address in [v4(to), v6(to)] {
                for wanted in [Iperf::tcp_octets(OCTETS), Iperf::tcp_octets(OCTETS).reversed()] {
                    let report = iperf3(self.netns(from), self.netns(to), address, wanted);
                    assert!(
                        report.received_octets > OCTETS / 10,
                        "{from} and {address}: {wanted:?} {report:?}"
                    );
                }
            }
        }
    }

    /// UDP passes from one to the other and back.
    #[track_caller]
    pub fn datagrams(&self, from: u8, to: u8) {
        for (address, wanted) in
            [(v4(to), Iperf::udp(1, 10_000_000)), (v6(to), Iperf::udp(1, 10_000_000).reversed())]
        {
            let report = iperf3(self.netns(from), self.netns(to), address, wanted);
            // A busy machine may be late to take some.
            let few = report.lost * 10 <= report.datagrams;
            assert!(report.datagrams > 100 && few, "{from} and {address}: {report:?}");
        }
    }

    /// Packets that fill this MTU pass whole.
    #[track_caller]
    pub fn fill(&self, from: u8, to: u8, mtu: u32) {
        for address in [v4(to), v6(to)] {
            let report = Ping::filling(address, 3, mtu).run(self.netns(from));
            assert!(report.all(), "{from} to {address} with {mtu} octets: {report:?}");
        }
    }

    /// Returns the filters of traffic control on the host's `eth0`.
    pub fn filters(&self) -> String {
        let hook = |hook| self.host.exec("tc", ["filter", "show", "dev", "eth0", hook]).stdout;
        format!("{}{}", hook("ingress"), hook("egress"))
    }

    /// How many filters of vmlan's are there.
    pub fn own_filters(&self) -> usize {
        self.filters().lines().filter(|line| line.contains(" handle ") && line.contains(" vmlan_")).count()
    }

    /// The numbers of the links that hold programs of the daemon's on hooks of the host's `eth0`.
    pub fn links(&self, daemon: &Daemon) -> Vec<u32> {
        let index = self.host.exec("cat", ["/sys/class/net/eth0/ifindex"]).stdout;
        let held =
            std::fs::read_dir(format!("/proc/{}/fdinfo", daemon.pid())).expect("the daemon's descriptors");
        let described = held.flatten().filter_map(|entry| std::fs::read_to_string(entry.path()).ok());
        described
            .filter_map(|text| {
                let member = |name: &str| {
                    text.lines().find_map(|line| line.strip_prefix(name)).map(|rest| rest.trim().to_owned())
                };
                let is_ours = member("link_type:")? == "tcx" && member("ifindex:")? == index.trim();
                is_ours.then(|| member("link_id:")?.parse().ok()).flatten()
            })
            .collect()
    }

    /// The line that `ip -d link` has about the promiscuity of the host's `eth0`.
    pub fn promiscuity(&self) -> u32 {
        let details = self.host.ip(["-d", "link", "show", "dev", "eth0"]).stdout;
        let (_, rest) = details.split_once("promiscuity ").expect("a number");
        rest.split_whitespace().next().and_then(|number| number.parse().ok()).expect("a number")
    }
}

/// Waits until the trunk says that this is so.
#[track_caller]
pub fn wait_trunk(daemon: &Daemon, what: &str, mut wanted: impl FnMut(&vmlan_api::Trunk) -> bool) {
    wait_until(what, PATIENCE, || wanted(&daemon.trunk()));
}
