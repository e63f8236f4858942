//! A real machine beside a TAP in a network that is joined to an interface of a host.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use testbed::{Interface, Iperf, Netns, Nic, Vm, ping, require};

use support::{Daemon, PATIENCE, assert_balanced, directory, mac};

/// How long a machine that is there may take to answer: it is emulated, beside others.
const LIMIT: Duration = Duration::from_secs(30);

fn addresses(number: u8) -> [IpAddr; 2] {
    let v6 = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, number.into());
    [Ipv4Addr::new(10, 9, 0, number).into(), v6.into()]
}

fn interface(number: u8) -> Interface {
    let [v4, v6] = addresses(number);
    Interface::new().mac(&mac(number).to_string()).address(&format!("{v4}/24")).address(&format!("{v6}/64"))
}

#[test]
fn a_machine_reaches_host_and_wire_and_is_reached() {
    require!(namespaces(), qemu(), tool("iperf3"));
    let (host, wire, guest) = (Netns::new("host"), Netns::new("wire"), Netns::new("guest"));
    host.veth("eth0", &wire, "eth0");
    host.configure("eth0", &interface(1));
    wire.configure("eth0", &interface(2));
    let config = format!(
        "[network.lab.trunk]\ninterface = \"eth0\"\n\
         [network.lab.port.machine]\nstream = {{ listen = \"machine.sock\" }}\nmac = \"{}\"\n\
         [network.lab.port.tap]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
        mac(4),
        guest.path().display()
    );
    let daemon = Daemon::start_within(&host, directory(), &config);
    daemon.wait_up(&["tap", "trunk"]);
    guest.configure("t0", &interface(3));
    let [v4, v6] = addresses(4);
    let mut machine = Vm::builder("machine")
        .nic(Nic::stream(&daemon.path("machine.sock"), &mac(4).to_string()))
        .address(&format!("{v4}/24"))
        .address(&format!("{v6}/64"))
        .program("iperf3")
        .start();

    for to in [1, 2, 3] {
        for address in addresses(to) {
            assert!(machine.reaches(address, LIMIT), "{address} does not answer\n{}", machine.console());
            let report = machine.ping(address, 3);
            assert!(report.all(), "to {address}: {report:?}");
        }
    }
    for from in [&host, &wire, &guest] {
        for address in addresses(4) {
            assert!(from.reaches(address, PATIENCE), "the machine does not answer {}", from.name());
            let report = ping(from, address, 3);
            assert!(report.all(), "{}: {report:?}", from.name());
        }
    }
    for from in [&host, &wire, &guest] {
        for (address, wanted) in addresses(4).into_iter().zip([Iperf::tcp(1), Iperf::tcp(1).reversed()]) {
            let report = machine.iperf3(from, address, wanted);
            assert!(report.received_octets > 100_000, "{}: {report:?}", from.name());
        }
    }
    assert_balanced(&daemon);
    drop(machine);
    daemon.stop();
}
