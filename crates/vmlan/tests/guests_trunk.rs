//! A real machine beside a TAP in a network that is joined to an interface of a host.

mod support;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use testbed::{Interface, Iperf, Netns, Nic, Ping, Vm, ping, require};

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

/// Host, wire and guest, 1 to 3, with the machine, 4, which boots.
fn lab(mtu: u32) -> ([Netns; 3], Daemon, Vm) {
    let [host, wire, guest] = ["host", "wire", "guest"].map(Netns::new);
    host.veth("eth0", &wire, "eth0");
    host.configure("eth0", &interface(1).mtu(mtu));
    wire.configure("eth0", &interface(2).mtu(mtu));
    let config = format!(
        "[network.lab]\nmtu = {mtu}\n[network.lab.trunk]\ninterface = \"eth0\"\n\
         [network.lab.port.machine]\nstream = {{ listen = \"machine.sock\" }}\nmac = \"{}\"\n\
         [network.lab.port.tap]\ntap = {{ name = \"t0\", netns = \"{}\" }}\n",
        mac(4),
        guest.path().display()
    );
    let daemon = Daemon::start_within(&host, directory(), &config);
    daemon.wait_up(&["tap", "trunk"]);
    guest.configure("t0", &interface(3));
    let [v4, v6] = addresses(4);
    let machine = Vm::builder("machine")
        .nic(Nic::stream(&daemon.path("machine.sock"), &mac(4).to_string()))
        .address(&format!("{v4}/24"))
        .address(&format!("{v6}/64"))
        .mtu(mtu)
        .program("iperf3")
        .start();
    ([host, wire, guest], daemon, machine)
}

/// The machine reaches all others.
#[track_caller]
fn reaches_all(machine: &mut Vm) {
    for address in [1, 2, 3].into_iter().flat_map(addresses) {
        assert!(machine.reaches(address, LIMIT), "{address} does not answer\n{}", machine.console());
        let report = machine.ping(address, 3);
        assert!(report.all(), "to {address}: {report:?}");
    }
}

/// TCP passes between the machine and all others, in both directions and families.
#[track_caller]
fn carries_all(machine: &mut Vm, others: &[Netns]) {
    const OCTETS: u64 = 4_000_000;
    for other in others {
        let directions = [Iperf::tcp_octets(OCTETS), Iperf::tcp_octets(OCTETS).reversed()];
        for (address, wanted) in
            addresses(4).into_iter().flat_map(|address| directions.map(|wanted| (address, wanted)))
        {
            let report = machine.iperf3(other, address, wanted);
            assert!(
                report.received_octets > OCTETS / 10,
                "{} and {address}: {wanted:?} {report:?}",
                other.name()
            );
        }
    }
}

#[test]
fn a_machine_reaches_host_and_wire_and_is_reached() {
    require!(namespaces(), qemu(), tool("iperf3"));
    let (others, daemon, mut machine) = lab(1500);
    reaches_all(&mut machine);
    for from in &others {
        for address in addresses(4) {
            assert!(from.reaches(address, PATIENCE), "the machine does not answer {}", from.name());
            let report = ping(from, address, 3);
            assert!(report.all(), "{}: {report:?}", from.name());
        }
    }
    carries_all(&mut machine, &others);
    assert_balanced(&daemon);
    drop(machine);
    daemon.stop();
}

#[test]
fn a_machine_with_jumbo_frames_reaches_host_and_wire_and_is_reached() {
    require!(namespaces(), qemu(), tool("iperf3"));
    let (others, daemon, mut machine) = lab(9000);
    reaches_all(&mut machine);
    for from in &others {
        for address in addresses(4) {
            assert!(from.reaches(address, PATIENCE), "the machine does not answer {}", from.name());
            let report = Ping::filling(address, 3, 9000).run(from);
            assert!(report.all(), "{} to {address}: {report:?}\n{:#?}", from.name(), daemon.ports());
        }
    }
    carries_all(&mut machine, &others);
    assert_balanced(&daemon);
    drop(machine);
    daemon.stop();
}
