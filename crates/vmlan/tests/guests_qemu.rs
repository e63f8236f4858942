//! Real machines: QEMU with the attachments that vmlan has for it.

mod support;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use testbed::{Interface, Iperf, Netns, Nic, Vm, VmBuilder, ping, require};

use support::{Daemon, PATIENCE, assert_balanced, mac};

/// How long a machine that is there may take to answer: it is emulated, beside others.
const LIMIT: Duration = Duration::from_secs(30);

fn v4(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(10, 9, 0, number)
}

fn v6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, number.into())
}

/// Machine `number`, which boots.
fn machine(number: u8, nic: impl FnOnce(&str) -> Nic, netns: Option<&Netns>) -> Vm {
    let builder = builder(number, nic);
    match netns {
        Some(netns) => builder.netns(netns).start(),
        None => builder.start(),
    }
}

/// Machine `number`, before it boots.
fn builder(number: u8, nic: impl FnOnce(&str) -> Nic) -> VmBuilder {
    Vm::builder(&format!("machine{number}"))
        .nic(nic(&mac(number).to_string()))
        .address(&format!("{}/24", v4(number)))
        .address(&format!("{}/64", v6(number)))
}

/// Every request in both families has to be answered, once.
#[track_caller]
fn pings(from: &mut Vm, to: u8) {
    assert!(from.reaches(v4(to), LIMIT), "machine{to} does not answer\n{}", from.console());
    let (in_v4, in_v6) = (from.ping(v4(to), 3), from.ping(v6(to), 3));
    assert!(in_v4.all() && in_v6.all(), "to machine{to}: {in_v4:?} {in_v6:?}");
}

/// QEMU opens a TAP on the same side as vmlan does, so each has a TAP of its own and a bridge of the kernel joins them.
fn bridge(netns: &Netns) {
    netns.ip(["link", "add", "br0", "type", "bridge"]);
    netns.ip(["tuntap", "add", "machine", "mode", "tap", "vnet_hdr"]);
    netns.ip(["link", "set", "machine", "master", "br0", "up"]);
    netns.configure("network", &Interface::new());
    netns.ip(["link", "set", "network", "master", "br0"]);
    netns.ip(["link", "set", "br0", "up"]);
}

#[test]
fn machines_on_stream_datagram_and_tap_reach_each_other_and_come_back() {
    require!(namespaces(), qemu());
    let netns = Netns::new("bridge");
    let config = format!(
        "[network.lab.port.stream]\nstream = {{ listen = \"stream.sock\" }}\n\
         [network.lab.port.datagram]\ndatagram = {{ listen = \"datagram.sock\" }}\n\
         [network.lab.port.tap]\ntap = {{ name = \"network\", netns = \"{}\" }}\n",
        netns.path().display()
    );
    let daemon = Daemon::start(&config);
    daemon.wait_up(&["tap"]);
    bridge(&netns);
    let machines = support::directory();
    let (stream, local, remote) =
        (daemon.path("stream.sock"), machines.path().join("machine2"), daemon.path("datagram.sock"));
    let boot_one = || machine(1, |mac| Nic::stream(&stream, mac), None);
    let boot_two = || machine(2, |mac| Nic::datagram(&local, &remote, mac), None);
    let (mut one, mut two) = (boot_one(), boot_two());
    let mut three = machine(3, |mac| Nic::tap("machine", mac), Some(&netns));

    for (from, to) in [(&mut one, [2, 3]), (&mut two, [3, 1]), (&mut three, [1, 2])] {
        to.into_iter().for_each(|to| pings(from, to));
    }
    assert_balanced(&daemon);

    // Killed and booted again, each finds its network without anybody's help.
    drop(one);
    let mut one = boot_one();
    drop(two);
    let mut two = boot_two();
    pings(&mut one, 3);
    pings(&mut two, 3);
    pings(&mut three, 1);
    pings(&mut three, 2);
    pings(&mut one, 2);
    assert_balanced(&daemon);

    // A new daemon: the machine on the datagram socket and the one on the TAP notice nothing but a gap.
    drop(one);
    let daemon = Daemon::start_in(daemon.kill(), &config);
    daemon.wait_up(&["tap"]);
    netns.ip(["link", "set", "network", "master", "br0"]);
    pings(&mut two, 3);
    pings(&mut three, 2);
    assert_balanced(&daemon);
    drop((two, three));
    daemon.stop();
}

/// fast-path.md case 15.
#[test]
fn case_15_machines_that_open_taps_of_interface_ports_talk_fast_and_come_back() {
    require!(namespaces(), qemu());
    let host = Netns::new("host");
    let port = |number: u8| {
        format!(
            "[network.lab.port.machine{number}]\ninterface = {{ name = \"m{number}\", create = \"tap\" }}\n"
        )
    };
    let daemon = Daemon::start_within(&host, support::directory(), &format!("{}{}", port(1), port(2)));
    let boot = |number: u8| machine(number, |mac| Nic::tap(&format!("m{number}"), mac), Some(&host));
    let (mut one, mut two) = (boot(1), boot(2));
    daemon.wait_up(&["machine1", "machine2"]);
    pings(&mut one, 2);
    let carried = || daemon.port("machine1").fast.expect("an interface port").rx_frames;
    testbed::wait_until("frames that the kernel carries", LIMIT, || {
        let before = carried();
        two.ping(v4(1), 3).all() && carried() > before
    });
    assert!(daemon.port("machine1").peer.expect("who has it open").contains("qemu"));

    drop(one);
    daemon.wait_state("machine1", vmlan_api::PortState::Waiting);
    let mut one = boot(1);
    daemon.wait_up(&["machine1"]);
    pings(&mut one, 2);
    pings(&mut two, 1);
    assert_balanced(&daemon);
    drop((one, two));
    daemon.stop();
}

#[test]
fn a_machine_that_listens_one_on_vde_and_a_trunk() {
    require!(namespaces(), qemu());
    let (ten, twenty) = (Netns::new("ten"), Netns::new("twenty"));
    let tap = |name: &str, netns: &Netns, vlan: u16| {
        format!(
            "[network.lab.port.{name}]\ntap = {{ name = \"t0\", netns = \"{}\" }}\nvlan = {{ access = {vlan} }}\n",
            netns.path().display()
        )
    };
    let machines = support::directory();
    let socket = machines.path().join("machine1");
    let daemon = Daemon::start(&format!(
        "{}{}[network.lab.port.listening]\nstream = {{ connect = \"{}\" }}\n\
         vlan = {{ tagged = [10, 20], native = 1 }}\n\
         [network.lab.port.vde]\nvde = {{ directory = \"lab.vde\" }}\nvlan = {{ access = 1 }}\n",
        tap("ten", &ten, 10),
        tap("twenty", &twenty, 20),
        socket.display()
    ));
    daemon.wait_up(&["ten", "twenty", "vde"]);
    ten.configure(
        "t0",
        &Interface::new().mac("52:54:00:00:00:10").address("10.10.0.10/24").address("fd10::10/64"),
    );
    twenty.configure(
        "t0",
        &Interface::new().mac("52:54:00:00:00:20").address("10.20.0.20/24").address("fd20::20/64"),
    );
    let mut trunk = machine(1, |mac| Nic::stream_listen(&socket, mac), None);
    let mut vde = machine(2, |mac| Nic::vde(&daemon.path("lab.vde"), mac), None);

    // The native VLAN, in which the machine on VDE is.
    pings(&mut trunk, 2);
    pings(&mut vde, 1);

    for vlan in [10, 20] {
        let commands = format!(
            "ip link add link eth0 name eth0.{vlan} type vlan id {vlan} && ip link set eth0.{vlan} up && \
             ip address add 10.{vlan}.0.1/24 dev eth0.{vlan} && ip address add fd{vlan}::1/64 dev eth0.{vlan}"
        );
        let output = trunk.run(&commands);
        assert_eq!(output.status, 0, "{}", output.output);
    }
    for (address, in_v6) in
        [(Ipv4Addr::new(10, 10, 0, 10), "fd10::10"), (Ipv4Addr::new(10, 20, 0, 20), "fd20::20")]
    {
        assert!(trunk.reaches(address, LIMIT), "{address}");
        assert!(trunk.ping(address, 3).all(), "{address}");
        assert!(trunk.ping(in_v6.parse::<Ipv6Addr>().expect("an address"), 3).all(), "{in_v6}");
    }
    // The VLANs are apart: nobody in twenty has an address of ten.
    twenty.ip(["address", "add", "10.10.0.20/24", "dev", "t0"]);
    assert_eq!(ping(&twenty, Ipv4Addr::new(10, 10, 0, 10), 1).received, 0);
    assert_balanced(&daemon);
    drop((trunk, vde));
    testbed::wait_until("the machine's port to go", PATIENCE, || daemon.find_port("vde.0").is_none());
    for left in std::fs::read_dir(daemon.path("lab.vde")).expect("the directory").flatten() {
        // The killed machine's own socket: `.PID-00000`.
        if left.file_name().as_encoded_bytes().starts_with(b".") {
            std::fs::remove_file(left.path()).expect("what a killed machine leaves behind");
        }
    }
    daemon.stop();
}

#[test]
fn a_machine_and_a_tunnel_reach_each_other() {
    require!(namespaces(), qemu(), tool("iperf3"));
    let netns = Netns::new("tunnel");
    let daemon = Daemon::start(
        "[network.lab.port.stream]\nstream = { listen = \"stream.sock\" }\n\
         [network.lab.port.vpn]\n\
         tunnel = { listen = \"vpn.sock\", address = [\"10.9.0.9/24\", \"fd00:9::9/64\"] }\n",
    );
    daemon.wait_up(&["vpn"]);
    let stream = daemon.path("stream.sock");
    let mut one = builder(1, |mac| Nic::stream(&stream, mac)).program("iperf3").start();
    let socket = daemon.path("vpn.sock").display().to_string();
    let mut client = netns.spawn(support::VMLAN, ["tunnel", "connect", &socket]);
    client.wait_for_log("is joined by", PATIENCE);
    pings(&mut one, 9);
    for address in [std::net::IpAddr::from(v4(1)), v6(1).into()] {
        let report = ping(&netns, address, 3);
        assert!(report.all(), "{address}: {report:?}");
        for wanted in [Iperf::tcp(1), Iperf::tcp(1).reversed()] {
            let report = one.iperf3(&netns, address, wanted);
            assert!(report.received_octets > 100_000, "{address}: {report:?}");
        }
    }
    daemon.departs("vpn.0");
    drop(client);
    testbed::wait_until("the port to go", PATIENCE, || daemon.find_port("vpn.0").is_none());
    assert_balanced(&daemon);
    drop(one);
    daemon.stop();
}
