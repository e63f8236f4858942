//! One network over several hosts, by the kernel's VXLAN with FRR or with static peers.
//!
//! Four machines: three hosts, and what is between them, a bridge. Host N has the address 192.0.2.N and the guest N,
//! a namespace: `web`, `db` and `app`, with the addresses 10.0.0.N.

use testbed::{require, wait_until};

use crate::machine::{Machine, PATIENCE, needs};
use crate::recipe::{Action, section, steps, text};

const GUESTS: [&str; 3] = ["web", "db", "app"];

/// Three hosts, joined by packets of this many octets, with the network and a guest on each.
struct Lab {
    page: String,
    between: Machine,
    hosts: [Machine; 3],
}

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), tool("bridge"), tool("vtysh"), tool("curl"), file("/usr/lib/frr/bgpd"));
    let page = text(page);
    by_bgp(&mut Lab::new(&page));
    by_static_peers(&mut Lab::new(&page));
}

#[track_caller]
fn by_bgp(lab: &mut Lab) {
    // What the page shows is there before any guest has asked for another.
    lab.follow("## MAC addresses by BGP");
    for number in [2, 3] {
        let line = format!("^52:54:00:00:00:0{number} dst 192.0.2.{number} self extern_learn");
        lab.wait(1, &format!("bridge fdb show dev vxlan0 | grep -q '{line}'"));
    }
    assert_eq!(lab.ping(1, 2), "3 received");

    // Group frames may pass meanwhile, which are few.
    let before = lab.arrived(3);
    let sent = lab.hosts[0].run("ip netns exec web ping -q -c 200 -i 0.002 10.0.0.2");
    assert!(sent.contains(" 200 received"), "{sent}");
    let more = lab.arrived(3) - before;
    assert!(more < 100, "host 3 got {more} frames while 200 requests and answers passed between the others");

    lab.follow("## A guest moves");
    for host in [1, 3] {
        let line = "^52:54:00:00:00:01 *remote *192.0.2.2 ";
        lab.wait(host, &format!("vtysh -c 'show evpn mac vni 100' | grep -q '{line}'"));
    }
    lab.wait_ping(3, 1);
    lab.wait_ping(2, 1);

    silent_guest(lab);
    silent_move(lab);
    overlapping_move(lab);
}

/// A guest whose address the bridge of its host forgot, as it does with age, is found by a frame to all hosts.
#[track_caller]
fn silent_guest(lab: &mut Lab) {
    let db = "52:54:00:00:00:02";
    // Nothing that it says by itself, so that it is silent.
    lab.hosts[1].run("ip netns exec db sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    let app = "ip netns exec app";
    lab.hosts[2].run(&format!("{app} ip neighbour replace 10.0.0.2 lladdr {db} nud permanent dev eth0"));
    lab.hosts[1].run(&forget(db));
    lab.wait(3, &format!("! bridge fdb show dev vxlan0 | grep -q ^{db}"));
    lab.wait_ping(3, 2);
    lab.wait(3, &format!("bridge fdb show dev vxlan0 | grep -q '^{db} dst 192.0.2.2'"));
}

/// A guest that moves and says nothing is found, since its old host forgets it with its port.
#[track_caller]
fn silent_move(lab: &mut Lab) {
    let web = "52:54:00:00:00:01";
    lab.hosts[2]
        .run(&format!("ip netns exec app ip neighbour replace 10.0.0.1 lladdr {web} nud permanent dev eth0"));
    lab.hosts[0].run(
        "ip netns exec web sysctl -qw net.ipv6.conf.all.disable_ipv6=1 net.ipv6.conf.default.disable_ipv6=1",
    );
    lab.wait(3, &format!("bridge fdb show dev vxlan0 | grep -q '^{web} dst 192.0.2.2'"));
    lab.follow("### A live migration");
    lab.hosts[0].run(
        "until ip -n web address show eth0 | grep -q 10.0.0.1; do sleep 0.1; done
        ip -n web neighbour replace 10.0.0.3 lladdr 52:54:00:00:00:03 nud permanent dev eth0",
    );
    lab.wait(3, &format!("! bridge fdb show dev vxlan0 | grep -q '^{web} dst 192.0.2.2'"));
    lab.wait_ping(3, 1);
    lab.wait(3, &format!("bridge fdb show dev vxlan0 | grep -q '^{web} dst 192.0.2.1'"));
    // Nothing of its was dropped for having been heard on the wire.
    let counters = lab.hosts[0].run("vmlan counters lab/web");
    assert!(counters.contains("web") && !counters.contains("contested"), "{counters}");
}

/// A guest that is heard at its new host before its port at the old one is gone: the sequence number tells which is the
/// newer word, and what the old host forgets is not the new place.
#[track_caller]
fn overlapping_move(lab: &mut Lab) {
    let web = "52:54:00:00:00:01";
    lab.hosts[1].run(&format!(
        "vmlan port add lab web interface name=ve-web create=veth mac={web} \\
          peer.name=eth0 peer.netns=web peer.address=10.0.0.1/24 peer.mac={web}
        until ip netns exec web ping -c 1 -W 1 10.0.0.2; do :; done"
    ));
    let there = format!("bridge fdb show dev vxlan0 | grep -q '^{web} dst 192.0.2.2'");
    lab.wait(3, &format!("vtysh -c 'show evpn mac vni 100' | grep -q '^{web} *remote *192.0.2.2 .*0/[1-9]'"));
    lab.wait(1, &there);
    lab.hosts[0].run("vmlan port remove lab/web");
    lab.wait_ping(3, 1);
    lab.wait(1, &there);
}

#[track_caller]
fn by_static_peers(lab: &mut Lab) {
    lab.follow("## Without BGP");
    lab.wait_ping(1, 2);
    lab.wait_ping(3, 1);
    assert_eq!(lab.fill(1500), "1 received");

    lab.set_mtu(1500);
    let long = lab.hosts[0].run("ip netns exec web ping -c 1 -W 2 -M do -s 1472 10.0.0.2 || true");
    assert!(long.contains("From 10.0.0.2") && long.contains("mtu = 1450"), "{long}");
    lab.hosts[0].run("ip -n web route flush cache");

    lab.follow("## The MTU is short");
    let shows = lab.hosts[0].run("ip netns exec web ping -q -c 3 -i 0.2 -W 1 -M do -s 1472 10.0.0.2 || true");
    assert!(shows.contains("100% packet loss") && !shows.contains("errors"), "{shows}");
    lab.wait(1, "vmlan counters lab/trunk | grep -q too_long");
    lab.wait_ping(1, 2);

    lab.follow("### The cure");
    lab.wait(1, "ip -n web link show eth0 | grep -q 'mtu 1450'");
    lab.wait(2, "ip -n db link show eth0 | grep -q 'mtu 1450'");
    wait_until("long packets to arrive", PATIENCE, || lab.fill(1450) == "1 received");
}

/// Commands that let the bridge of a host forget a guest of its network.
fn forget(mac: &str) -> String {
    let device = "DEVICE=$(vmlan trunk lab | sed -n 's/installed *device \\(vmlb[0-9]*\\),.*/\\1/p')";
    format!("{device}\nbridge fdb del {mac} dev $DEVICE master")
}

impl Lab {
    #[track_caller]
    fn new(page: &str) -> Lab {
        let mut between = Machine::new("between");
        let mut hosts = ["h1", "h2", "h3"].map(Machine::new);
        for machine in &mut hosts {
            // FRR writes there.
            machine.run("mount -t tmpfs none /var/tmp");
        }
        between.run("ip link add sw type bridge; ip link set sw up");
        for (host, number) in hosts.iter_mut().zip(1..) {
            host.join("eth0", &between, &format!("e{number}"));
            between.run(&format!("ip link set e{number} mtu 1550 master sw; ip link set e{number} up"));
            let others = (1..=3).filter(|other| *other != number).map(|other| format!("192.0.2.{other}"));
            let others = Vec::from_iter(others).join(" ");
            host.run(&format!(
                "ip link set eth0 mtu 1550 up
                ADDRESS=192.0.2.{number} OTHERS='{others}'
                ip address add $ADDRESS/24 dev eth0"
            ));
        }
        let mut lab = Lab { page: page.to_owned(), between, hosts };
        lab.set_up();
        lab
    }

    /// Does on all hosts what the page does on host 1, each with its own guest.
    #[track_caller]
    fn set_up(&mut self) {
        for step in steps(section(&self.page, "## The hosts")) {
            assert!(step.machines.contains(&"h1".to_owned()), "{step:?}");
            for (host, number) in self.hosts.iter_mut().zip(1..) {
                let own = |text: &str| {
                    let guest = format!("52:54:00:00:00:0{number}");
                    let text = text.replace("web", GUESTS[number - 1]).replace("52:54:00:00:00:01", &guest);
                    text.replace("10.0.0.1", &format!("10.0.0.{number}"))
                };
                let action = match &step.action {
                    Action::Run(commands) => Action::Run(own(commands)),
                    Action::File { name, content } => {
                        Action::File { name: name.clone(), content: own(content) }
                    }
                    Action::Watch { commands, shows } => {
                        Action::Watch { commands: own(commands), shows: own(shows) }
                    }
                };
                host.step(&action);
            }
        }
    }

    #[track_caller]
    fn follow(&mut self, heading: &str) {
        for step in steps(section(&self.page, heading)) {
            for name in &step.machines {
                let host = self.hosts.iter_mut().find(|host| host.name() == name).expect("a host");
                host.step(&step.action);
            }
        }
    }

    /// The MTU of the hosts' network.
    #[track_caller]
    fn set_mtu(&mut self, mtu: u32) {
        for (host, number) in self.hosts.iter_mut().zip(1..) {
            host.run(&format!("ip link set eth0 mtu {mtu}"));
            self.between.run(&format!("ip link set e{number} mtu {mtu}"));
        }
    }

    /// Waits until a command of a host's succeeds.
    #[track_caller]
    fn wait(&mut self, host: usize, condition: &str) {
        let ask = format!("if {condition}; then echo yes; else echo no; fi");
        wait_until(condition, PATIENCE, || self.hosts[host - 1].run(&ask) == "yes\n");
    }

    /// The answers of a guest to another's requests.
    #[track_caller]
    fn ping(&mut self, from: usize, to: usize) -> String {
        self.answers(from, &format!("-c 3 -i 0.2 -W 1 10.0.0.{to}"))
    }

    #[track_caller]
    fn wait_ping(&mut self, from: usize, to: usize) {
        wait_until(&format!("{from} to reach {to}"), PATIENCE, || {
            self.answers(from, &format!("-c 1 -W 1 10.0.0.{to}")) == "1 received"
        });
    }

    /// The answer of `db` to a request of `web` that has so many octets and must not be cut.
    #[track_caller]
    fn fill(&mut self, mtu: u32) -> String {
        self.answers(1, &format!("-c 1 -W 2 -M do -s {} 10.0.0.2", mtu - 28))
    }

    #[track_caller]
    fn answers(&mut self, from: usize, arguments: &str) -> String {
        let guest = GUESTS[from - 1];
        let output = self.hosts[from - 1].run(&format!("ip netns exec {guest} ping -q {arguments} || true"));
        let summary = output.lines().find(|line| line.contains("packets transmitted"));
        let received = summary.and_then(|line| line.split(", ").find(|part| part.ends_with("received")));
        received.unwrap_or("none").to_owned()
    }

    /// The frames that came to a host by VXLAN.
    #[track_caller]
    fn arrived(&mut self, host: usize) -> u64 {
        let count = self.hosts[host - 1].run("cat /sys/class/net/vxlan0/statistics/rx_packets");
        count.trim().parse().expect("a number")
    }
}
