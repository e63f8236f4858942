//! Frames that the wire's kernel leaves to be cut, of kinds that only a packet socket shows.

use std::net::IpAddr;

use testbed::{Iperf, iperf3, require};

use crate::lab::{Lab, WIRE, v4, v6};
use crate::support::assert_balanced;

const PACKET: &str = "mode = \"packet\"";

#[test]
fn frames_of_more_than_64_kib_are_divided() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(PACKET));
    lab.wire.ip(["link", "set", "eth0", "gso_max_size", "200000"]);
    let report = iperf3(lab.netns(WIRE), lab.netns(3), v6(3), Iperf::tcp(1));
    assert!(report.received_octets > 10_000_000, "{report:?}");
    let counters = daemon.port("trunk").counters;
    let refused = ["oversize", "bad_offload", "malformed"].map(|reason| counters.drops.get(reason).copied());
    assert_eq!(refused, [None; 3]);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn tcp_in_a_vxlan_passes() {
    require!(namespaces(), tool("iperf3"));
    let lab = Lab::new();
    let daemon = lab.start(&lab.config(PACKET));
    for (sum, v6_outer) in
        [("noudpcsum", false), ("udpcsum", false), ("udp6zerocsumrx", true), ("noudp6zerocsumtx", true)]
    {
        for (here, there, inner) in [(WIRE, 3, 1), (3, WIRE, 2)] {
            let netns = lab.netns(here);
            let device = if here == WIRE { "eth0" } else { "t0" };
            let [local, remote] =
                [here, there].map(|one| if v6_outer { v6(one) } else { v4(one) }.to_string());
            let vxlan = ["link", "add", "x0", "type", "vxlan", "id", "7", "dstport", "4789", "dev", device];
            netns.ip(vxlan.into_iter().chain(["local", &local, "remote", &remote, sum]));
            netns.ip(["addr", "add", &format!("10.5.0.{inner}/24"), "dev", "x0"]);
            netns.ip(["link", "set", "x0", "up"]);
        }
        for (from, to, inner) in [(WIRE, 3, "10.5.0.2"), (3, WIRE, "10.5.0.1")] {
            let address: IpAddr = inner.parse().expect("an address");
            let report = iperf3(lab.netns(from), lab.netns(to), address, Iperf::tcp(1));
            assert!(report.received_octets > 10_000_000, "{sum} from {from}: {report:?}");
        }
        for number in [WIRE, 3] {
            lab.netns(number).ip(["link", "delete", "x0"]);
        }
    }
    let trunk = daemon.port("trunk").counters;
    assert_eq!(trunk.drops.get("bad_offload"), None, "{trunk:?}");
    assert!(daemon.port("guest3").counters.segmented > 1000, "cut for the guest");
    assert_balanced(&daemon);
    daemon.stop();
}
