//! Two laptops on one LAN, which is a bridge with a DHCP server in a namespace of its own.

use testbed::require;

use crate::guest;
use crate::machine::{Machine, needs};

/// The LAN's switch and router.
const LAN: &str = "\
ip link add br0 type bridge
ip address add 192.0.2.1/24 dev br0
for interface in eth1 eth2 br0; do ip link set $interface up; done
for interface in eth1 eth2; do ip link set $interface master br0; done
dnsmasq --interface=br0 --bind-interfaces --except-interface=lo --port=0 --user=root --no-hosts \
  --dhcp-range=192.0.2.100,192.0.2.199,1h --dhcp-authoritative \
  --dhcp-host=52:54:00:00:00:01,192.0.2.101 --dhcp-host=52:54:00:00:00:02,192.0.2.102
";

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), tool("dnsmasq"), qemu());
    let [mut lan, mut first, mut second] = ["lan", "laptop1", "laptop2"].map(Machine::new);
    lan.join("eth1", &first, "eth0");
    lan.join("eth2", &second, "eth0");
    lan.run(LAN);
    first.run("ip address add 192.0.2.11/24 dev eth0; ip link set eth0 up");
    second.run("ip link add br0 type bridge; ip link set eth0 master br0; ip link set eth0 up");
    second.run("ip address add 192.0.2.12/24 dev br0; ip link set br0 up");
    for laptop in [&first, &second] {
        guest::write_system(&laptop.work());
    }

    crate::follow(page, &mut [&mut first, &mut second]);

    // The other way round, from the LAN and from a laptop to the other one's machine.
    lan.run("ping -c 3 -i 0.2 192.0.2.101; ping -c 3 -i 0.2 192.0.2.102");
    first.run("ping -c 3 -i 0.2 192.0.2.102");
    second.run("ping -c 3 -i 0.2 192.0.2.101");
}
