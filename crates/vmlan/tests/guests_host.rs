//! A real machine as the host: its kernel has VLAN interfaces and bonds, which the one that runs the tests may lack.
//!
//! Host, wire and guest are network namespaces of the machine, and vmlan runs in it; only commands pass its console.

mod support;

use std::time::Duration;

use testbed::{GuestOutput, IperfReport, PingReport, Vm, VmBuilder, poll_until, require};

/// How long something in an emulated machine may take, beside others.
const LIMIT: Duration = Duration::from_secs(30);

/// The namespaces; each has its place in this list, counted from 1, in its addresses.
const NAMES: [&str; 4] = ["host", "wire", "guest", "other"];

/// Functions that all commands begin with. `ip` is iproute2's, not busybox's. `plain` gives an interface of a namespace
/// its addresses with this number, `tagged` makes VLAN 10 on it, and `untagged` gives it those of VLAN 10 instead.
const FUNCTIONS: &str = "\
ip() {
    /bin/ip \"$@\"
}
plain() {
    ip -n $1 link set $2 address 52:54:00:00:00:0$3 up &&
    ip -n $1 address add 10.9.0.$3/24 dev $2 &&
    ip -n $1 address add fd00:9::$3/64 dev $2 nodad
}
tagged() {
    ip -n $1 link add link $2 name $2.10 type vlan id 10 &&
    ip -n $1 link set $2.10 up &&
    ip -n $1 address add 10.10.0.$3/24 dev $2.10 &&
    ip -n $1 address add fd00:10::$3/64 dev $2.10 nodad
}
untagged() {
    ip -n $1 address flush dev $2 scope global &&
    ip -n $1 address add 10.10.0.$3/24 dev $2 &&
    ip -n $1 address add fd00:10::$3/64 dev $2 nodad
}
";

/// The host is the namespace that the machine began with.
const NAMESPACES: &str = "\
set -e
for name in wire guest other; do
    ip netns add $name
    ip -n $name link set lo up
done
ln -s /proc/1/ns/net /run/netns/host
";

/// Host and wire are joined by a cable, with VLAN 10 on it.
const CABLE: &str = "\
ip link add eth0 mtu $mtu type veth peer name eth0 mtu $mtu netns wire
plain host eth0 1
plain wire eth0 2
tagged host eth0 1
tagged wire eth0 2
";

/// The host has two cables to a bridge on the wire, of which it uses one at a time.
const BOND: &str = "\
ip link add lag0 type bond mode active-backup miimon 50
ip -n wire link add eth0 type bridge
for number in 0 1; do
    ip link add slave$number type veth peer name port$number netns wire
    ip link set slave$number master lag0
    ip -n wire link set port$number master eth0 up
done
plain host lag0 1
plain wire eth0 2
tagged host lag0 1
tagged wire eth0 2
";

/// The host has two cables to the wire and uses both (IEEE 802.1AX).
const AGGREGATE: &str = "\
options='type bond mode 802.3ad miimon 50 lacp_rate fast'
ip link add lag0 $options
ip -n wire link add eth0 $options
for number in 0 1; do
    ip link add slave$number type veth peer name port$number netns wire
    ip link set slave$number master lag0
    ip -n wire link set port$number master eth0
done
plain host lag0 1
plain wire eth0 2
tagged host lag0 1
tagged wire eth0 2
";

/// Succeeds once each end says of both cables that it sends and receives by them, and has heard the other say so:
/// before, either may send by one that the other does not listen to.
const AGGREGATED: &str = "[ $(grep -c 'port state: 63' /proc/net/bonding/lag0) = 4 ]";

/// The command that shows the trunk.
const TRUNK: &str = "vmlan trunk lab --json --control /run/vmlan.sock";

/// A LAN that is reached with addresses of one kind.
#[derive(Clone, Copy, Debug)]
enum Lan {
    Plain,
    Vlan10,
}

impl Lan {
    fn addresses(self, number: usize) -> [String; 2] {
        match self {
            Lan::Plain => [format!("10.9.0.{number}"), format!("fd00:9::{number}")],
            Lan::Vlan10 => [format!("10.10.0.{number}"), format!("fd00:10::{number}")],
        }
    }
}

struct Host {
    vm: Vm,
    /// Measurements so far; each has a port and a log of its own.
    measured: u16,
}

impl Host {
    /// [`Host::boot_in`] mode `filter`.
    #[track_caller]
    fn boot(setup: &str, interface: &str, mtu: u32, settings: [&str; 3]) -> Host {
        let mut host = Self::boot_in("filter", setup, interface, mtu, settings);
        assert!(host.must("/bin/tc qdisc show").contains("clsact"));
        host
    }

    /// Boots a machine, sets it up, and starts vmlan in it, with a trunk in this mode on this interface and two guests;
    /// the last argument is further settings of these three.
    #[track_caller]
    fn boot_in(mode: &str, setup: &str, interface: &str, mtu: u32, [trunk, guest, other]: [&str; 3]) -> Host {
        let config = format!(
            "[network.lab]\nmtu = {mtu}\n\
             [network.lab.trunk]\ninterface = \"{interface}\"\nmode = \"{mode}\"\n{trunk}\n\
             [network.lab.port.guest]\ntap = {{ name = \"t0\", netns = \"/run/netns/guest\" }}\n{guest}\n\
             [network.lab.port.other]\ntap = {{ name = \"t0\", netns = \"/run/netns/other\" }}\n{other}\n"
        );
        let mut host = Host::start(&format!("mtu={mtu}\n{NAMESPACES}{setup}"), &config);
        for guest in ["guest", "other"] {
            host.wait_for(&format!("ip -n {guest} link show dev t0"));
        }
        host.must("plain guest t0 3 && plain other t0 4");
        host.wait_for(&format!("{TRUNK} | grep '\"active\": *true'"));
        host
    }

    /// Boots a machine, sets it up, and starts vmlan in it.
    #[track_caller]
    fn start(setup: &str, config: &str) -> Host {
        let builder =
            ["ip", "tc", "iperf3", support::VMLAN].into_iter().fold(Vm::builder("host"), VmBuilder::program);
        let vm = builder
            .host()
            .memory(512)
            .file("/functions", FUNCTIONS)
            .file("/setup", setup)
            .file("/vmlan.toml", config)
            .start();
        let mut host = Host { vm, measured: 0 };
        host.must(". /setup");
        host.start_vmlan();
        host
    }

    #[track_caller]
    fn start_vmlan(&mut self) {
        self.must("vmlan run --config /vmlan.toml --control /run/vmlan.sock > /run/vmlan.log 2>&1 & echo $! > /run/vmlan.pid");
    }

    #[track_caller]
    fn run(&mut self, command: &str) -> GuestOutput {
        self.vm.run(&format!(". /functions; {command}"))
    }

    /// Runs a command that has to succeed, and returns its output.
    #[track_caller]
    fn must(&mut self, command: &str) -> String {
        let answer = self.run(command);
        assert_eq!(answer.status, 0, "{command}: {}\n{}", answer.output, self.log());
        answer.output
    }

    #[track_caller]
    fn wait_for(&mut self, command: &str) {
        let succeeds = poll_until(LIMIT, || self.run(command).status == 0);
        assert!(succeeds, "{command}: {}\n{}", self.run(command).output, self.log());
    }

    fn log(&mut self) -> String {
        self.vm.run("cat /run/vmlan.log").output
    }

    /// Every one pings every other in both families; each request has to be answered, once.
    #[track_caller]
    fn all_ping(&mut self, lan: Lan, names: &[&str]) {
        for from in names {
            let others = (1..).zip(NAMES).filter(|(_, to)| to != from && names.contains(to));
            let addresses: Vec<String> = others.flat_map(|(number, _)| lan.addresses(number)).collect();
            let pings = |options: &str| {
                let ping = |to: &String| format!("ping -q -i 0.05 -W 2 {options} {to}");
                let all: Vec<String> = addresses.iter().map(ping).collect();
                format!("ip netns exec {from} sh -c '{}'", all.join(" && "))
            };
            self.wait_for(&pings("-c 1"));
            let output = self.must(&pings("-c 3"));
            let reports = output.lines().filter_map(PingReport::parse).filter(PingReport::all);
            assert_eq!(reports.count(), addresses.len(), "{from} to {addresses:?}: {output}");
        }
    }

    /// 4 MiB of TCP pass in each direction, one in each family.
    #[track_caller]
    fn carry(&mut self, lan: Lan, from: &str, to: usize) {
        for (address, options) in lan.addresses(to).into_iter().zip(["--bytes 4M", "--bytes 4M --reverse"]) {
            self.carry_one(from, NAMES[to - 1], &address, options);
        }
    }

    /// TCP passes between a client, with these options of iperf3's, and a server with this address.
    #[track_caller]
    fn carry_one(&mut self, from: &str, server: &str, address: &str, options: &str) {
        self.measured += 1;
        let (port, log) = (5200 + self.measured, format!("/run/iperf3.{}", self.measured));
        let serve = format!("ip netns exec {server} iperf3 --server --one-off --forceflush --port {port}");
        self.must(&format!("{serve} > {log} 2>&1 &"));
        self.wait_for(&format!("grep listening {log}"));
        let client = format!("ip netns exec {from} iperf3 --client {address} --port {port} --json {options}");
        let report = IperfReport::parse(&self.must(&client)).unwrap_or_else(|error| panic!("{error}"));
        // The last ones may be in buffers when the sender is done.
        assert!(report.received_octets > 400_000, "{from} to {address}: {report:?}");
    }

    /// A tunnel of the kernel's between wire and guest, with addresses of its own, 10.11.0.2 and 10.11.0.3.
    #[track_caller]
    fn tunnel(&mut self, kind: &str, options: &str) {
        let family = usize::from(kind.starts_with("ip6"));
        for (netns, device, number, other) in [("wire", "eth0", 2, 3), ("guest", "t0", 3, 2)] {
            let [local, remote] = [number, other].map(|number| Lan::Plain.addresses(number)[family].clone());
            // Geneve sends from the address that the route tells.
            let ends = match kind {
                "geneve" => format!("remote {remote}"),
                _ => format!("local {local} remote {remote} dev {device}"),
            };
            self.must(&format!(
                "ip -n {netns} link add x0 type {kind} {ends} {options} && ip -n {netns} link set x0 up && \
                 ip -n {netns} address add 10.11.0.{number}/24 dev x0"
            ));
        }
    }

    /// Frames that vmlan has taken from host and wire.
    #[track_caller]
    fn diverted(&mut self) -> u64 {
        let json = self.must(TRUNK);
        let trunks: Vec<vmlan_api::Trunk> =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        trunks.iter().map(|trunk| trunk.host.rx_frames + trunk.wire.rx_frames).sum()
    }

    #[track_caller]
    fn port(&mut self, name: &str) -> vmlan_api::Port {
        let json = self.must("vmlan ports lab --json --control /run/vmlan.sock");
        let ports: Vec<vmlan_api::Port> =
            serde_json::from_str(&json).unwrap_or_else(|error| panic!("{error}: {json}"));
        ports.into_iter().find(|one| one.port == name).expect("the port")
    }

    /// Returns how many frames a port dropped for this reason.
    #[track_caller]
    fn drops(&mut self, port: &str, reason: &str) -> u64 {
        self.port(port).counters.drops.get(reason).copied().unwrap_or(0)
    }

    /// Ends vmlan, which leaves the machine as it was.
    #[track_caller]
    fn stop(mut self) {
        self.must("kill $(cat /run/vmlan.pid)");
        self.wait_for("! kill -0 $(cat /run/vmlan.pid)");
        let log = self.log();
        assert!(!log.contains("panicked"), "{log}");
        assert!(!self.must("/bin/tc qdisc show").contains("clsact"));
    }
}

#[test]
fn a_trunk_on_an_interface_with_a_vlan_interface() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let mut host = Host::boot(CABLE, "eth0", 9000, [""; 3]);
    host.must("tagged guest t0 3 && tagged other t0 4");
    for lan in [Lan::Plain, Lan::Vlan10] {
        host.all_ping(lan, &NAMES);
        host.carry(lan, "guest", 1);
        host.carry(lan, "guest", 2);
        host.carry(lan, "guest", 4);
        // What host and wire say to each other stays in the kernel, whatever VLAN it is in.
        let before = host.diverted();
        host.carry(lan, "host", 2);
        let diverted = host.diverted() - before;
        assert!(diverted < 100, "{lan:?}: {diverted} frames");
    }
    host.stop();
}

#[test]
fn a_trunk_on_a_vlan_interface() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let mut host = Host::boot(CABLE, "eth0.10", 1500, [""; 3]);
    // The guests are in the VLAN without knowing it.
    host.must("untagged guest t0 3 && untagged other t0 4");
    host.all_ping(Lan::Vlan10, &NAMES);
    host.all_ping(Lan::Plain, &["host", "wire"]);
    host.carry(Lan::Vlan10, "guest", 1);
    host.carry(Lan::Vlan10, "guest", 2);
    host.carry(Lan::Plain, "host", 2);
    host.stop();
}

#[test]
fn a_guest_whose_port_is_in_a_vlan_of_the_hosts() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let roles = ["vlan = { tagged = [10], native = 1 }", "vlan = { access = 1 }", "vlan = { access = 10 }"];
    let mut host = Host::boot(CABLE, "eth0", 1500, roles);
    host.must("untagged other t0 4");
    host.all_ping(Lan::Plain, &["host", "wire", "guest"]);
    host.all_ping(Lan::Vlan10, &["host", "wire", "other"]);
    for to in [1, 2] {
        host.carry(Lan::Plain, "guest", to);
        host.carry(Lan::Vlan10, "other", to);
    }
    host.stop();
}

#[test]
fn a_trunk_on_a_bond() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let mut host = Host::boot(BOND, "lag0", 1500, [""; 3]);
    host.must("tagged guest t0 3 && tagged other t0 4");
    let active =
        |host: &mut Host| host.must("cat /sys/class/net/lag0/bonding/active_slave").trim().to_owned();
    for lan in [Lan::Plain, Lan::Vlan10] {
        host.all_ping(lan, &NAMES);
    }
    let first = active(&mut host);
    host.must(&format!("ip link set {first} down"));
    host.wait_for(&format!("grep slave /sys/class/net/lag0/bonding/active_slave | grep -v {first}"));
    for lan in [Lan::Plain, Lan::Vlan10] {
        host.all_ping(lan, &NAMES);
    }
    host.carry(Lan::Plain, "guest", 2);
    host.stop();
}

#[test]
fn a_trunk_on_a_bond_that_uses_all_its_members() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let mut host = Host::boot(AGGREGATE, "lag0", 1500, [""; 3]);
    host.must("tagged guest t0 3 && tagged other t0 4");
    host.wait_for(AGGREGATED);
    for lan in [Lan::Plain, Lan::Vlan10] {
        host.all_ping(lan, &NAMES);
        host.carry(lan, "guest", 2);
    }
    host.carry(Lan::Plain, "guest", 1);
    host.must("ip link set slave0 down");
    for (end, bond) in [("host", "lag0"), ("wire", "eth0")] {
        host.wait_for(&format!("ip netns exec {end} grep 'Number of ports: 1' /proc/net/bonding/{bond}"));
    }
    for lan in [Lan::Plain, Lan::Vlan10] {
        host.all_ping(lan, &NAMES);
    }
    host.stop();
}

#[test]
fn a_trunk_on_a_vlan_interface_of_a_bond() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let mut host = Host::boot(AGGREGATE, "lag0.10", 1500, [""; 3]);
    host.must("untagged guest t0 3 && untagged other t0 4");
    host.wait_for(AGGREGATED);
    host.all_ping(Lan::Vlan10, &NAMES);
    host.all_ping(Lan::Plain, &["host", "wire"]);
    host.carry(Lan::Vlan10, "guest", 1);
    host.carry(Lan::Vlan10, "guest", 2);
    host.stop();
}

#[test]
fn tunnels_of_the_kernels_pass_a_trunk_that_sees_their_segments_uncut() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let mut host = Host::boot_in("packet", CABLE, "eth0", 1500, [""; 3]);
    host.all_ping(Lan::Plain, &["wire", "guest"]);
    let kinds = [("geneve", "id 7"), ("gre", ""), ("gretap", ""), ("ipip", ""), ("ip6tnl", "mode ipip6")];
    for (kind, options) in kinds {
        host.tunnel(kind, options);
        for (from, to, address) in [("wire", "guest", "10.11.0.3"), ("guest", "wire", "10.11.0.2")] {
            host.wait_for(&format!("ip netns exec {from} ping -c 1 -W 2 {address}"));
            host.carry_one(from, to, address, "--bytes 1M");
        }
        host.must("ip -n wire link delete x0; ip -n guest link delete x0");
        assert_eq!(host.drops("trunk", "bad_offload"), 0, "{kind}");
    }
    host.stop();
}

/// fast-path.md case 17: the machine's kernel is older than the hooks that hold names.
#[test]
fn interface_ports_go_fast_by_filters_of_traffic_control() {
    require!(qemu(), tool("ip"), tool("tc"), tool("iperf3"));
    let port = |name: &str, number: usize| {
        let [v4, v6] = Lan::Plain.addresses(number);
        format!(
            "[network.lab.port.{name}]\ninterface = {{ name = \"ve{number}\", create = \"veth\", peer = {{ name = \"t0\", \
             netns = \"{name}\", address = [\"{v4}/24\", \"{v6}/64\"] }} }}\n"
        )
    };
    let config = format!("{}{}", port("guest", 3), port("other", 4));
    let mut host = Host::start(NAMESPACES, &config);
    for round in ["first", "after a kill"] {
        host.all_ping(Lan::Plain, &["guest", "other"]);
        host.carry(Lan::Plain, "guest", 4);
        let fast = host.port("guest").fast.expect("an interface port");
        // The kernel cuts nothing, so one frame has many octets.
        assert!(fast.rx_frames > 20, "{round}: {fast:?}");
        assert!(fast.unpinned.is_some_and(|why| why.contains("Linux 6.6")), "{round}");
        let filters = host.must("/bin/tc filter show dev ve3 ingress; /bin/tc filter show dev ve3 egress");
        assert!(filters.contains("vmlan_from") && filters.contains("vmlan_to"), "{filters}");
        if round == "first" {
            host.must("kill -9 $(cat /run/vmlan.pid)");
            host.wait_for("! kill -0 $(cat /run/vmlan.pid)");
            host.start_vmlan();
            host.wait_for("vmlan ports lab --json --control /run/vmlan.sock | grep '\"up\"'");
        }
    }
    host.stop();
}
