//! The namespaces and measuring helpers, tried on another project's switch.

use std::net::{Ipv4Addr, Ipv6Addr};

use testbed::{Interface, Iperf, Netns, Ping, iperf3, peer, ping, require};

const B_V4: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const B_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 2);

#[test]
fn two_namespaces_on_a_vde_switch() {
    require!(namespaces(), tool("iperf3"), tool("vde_switch"), tool("vde_plug2tap"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let control = directory.path().join("switch");
    let _switch = peer::vde_switch(&control);
    let (a, b) = (Netns::new("a"), Netns::new("b"));
    let _plug_a = peer::vde_plug2tap(&a, &control, "t0");
    let _plug_b = peer::vde_plug2tap(&b, &control, "t0");
    a.configure(
        "t0",
        &Interface::new().mac("52:54:00:00:00:01").address("10.9.0.1/24").address("fd00:9::1/64"),
    );
    b.configure(
        "t0",
        &Interface::new().mac("52:54:00:00:00:02").address("10.9.0.2/24").address("fd00:9::2/64"),
    );

    let v4 = ping(&a, B_V4, 3);
    let v6 = ping(&a, B_V6, 3);
    let too_large = Ping::filling(B_V4.into(), 1, 1501).run(&a);
    let filling = Ping::filling(B_V4.into(), 1, 1500).run(&a);
    let tcp = iperf3(&a, &b, B_V4, Iperf::tcp(1));
    let back = iperf3(&a, &b, B_V6, Iperf::tcp(1).reversed());
    let udp = iperf3(&a, &b, B_V4, Iperf::udp(1, 8_000_000));

    assert!(v4.all() && v6.all() && filling.all(), "{v4:?} {v6:?} {filling:?}");
    assert_eq!(too_large.received, 0);
    assert!(tcp.received_octets > 0 && back.received_octets > 0, "{tcp:?} {back:?}");
    assert!(udp.datagrams > 0 && udp.lost < udp.datagrams, "{udp:?}");
}
