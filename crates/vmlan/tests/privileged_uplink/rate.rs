//! The rate of an uplink.

use testbed::{Iperf, iperf3, require};
use vmlan_frame::DropReason;

use crate::lab::*;
use crate::support::assert_balanced;

/// Mbit/s.
const RATE: f64 = 50.0;

#[test]
fn a_rate_slows_tcp_down_and_drops_datagrams() {
    require!(namespaces(), tool("iperf3"));
    let world = World::new(1);
    let daemon = world.start_settled(&world.config(&format!("limits = {{ rate = {RATE} }}")));
    let (guest, server) = (&world.guests[0], at(SERVER, 0).ip());
    for wanted in [Iperf::tcp(4), Iperf::tcp(4).reversed()] {
        let report = iperf3(guest, &world.internet, server, wanted);
        let rate = report.bits_per_second / 1e6;
        eprintln!("{rate:.1} Mbit/s, {} repeated, reversed: {}", report.retransmits, wanted.reverse);
        assert!((RATE * 0.6..=RATE * 1.02).contains(&rate), "{report:?}");
        assert!(report.retransmits < 10, "{report:?}");
    }
    assert_eq!(daemon.drops("uplink", DropReason::UplinkRate), 0);
    for wanted in [Iperf::udp(1, 100_000_000), Iperf::udp(1, 100_000_000).reversed()] {
        let report = iperf3(guest, &world.internet, server, wanted);
        eprintln!("{} of {} datagrams lost, reversed: {}", report.lost, report.datagrams, wanted.reverse);
        assert!(report.lost > report.datagrams / 4, "{report:?}");
        assert!(report.lost < report.datagrams * 3 / 4, "{report:?}");
    }
    assert!(daemon.drops("uplink", DropReason::UplinkRate) > 0);
    assert!(uplink(&daemon).drops["rate_limit"] > daemon.drops("uplink", DropReason::UplinkRate));

    daemon.write_config(&world.config(""));
    daemon.cli(&["apply"]).expect_success();
    for wanted in [Iperf::tcp(1), Iperf::tcp(1).reversed()] {
        let report = iperf3(guest, &world.internet, server, wanted);
        assert!(report.bits_per_second / 1e6 > RATE * 2.0, "{report:?}");
    }
    assert_balanced(&daemon);
    daemon.stop();
}
