//! Open vSwitch in user space with guests in VLANs, replaced by a network with the same VLANs.

use testbed::require;

use crate::machine::{Machine, needs};

/// Database and switch, with all that they keep below /run, as Debian's service has them.
const SWITCH: &str = "\
mkdir /run/openvswitch
export OVS_DBDIR=/run/openvswitch OVS_LOGDIR=/run/openvswitch OVS_SYSCONFDIR=/run
ovsdb-tool create /run/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server --remote=punix:/run/openvswitch/db.sock --pidfile --detach -vsyslog:off --log-file
ovs-vsctl --no-wait init
ovs-vswitchd --pidfile --detach -vsyslog:off --log-file
";

/// Requests of `web` within its VLAN, and of `mail` from another one.
const SEEN: &str = "\
ip netns exec web ping -c 3 -i 0.2 -W 1 10.0.0.2
ip netns exec mail ping -c 2 -i 0.2 -W 1 10.0.0.1 || true
";

/// Asks for an address until the guest that has both VLANs has heard it with the tag.
const TAGGED: &str = "\
ip netns exec router tcpdump -Z root -lnei eth0 -c 1 'vlan 20 and arp' > heard 2> /dev/null &
until grep -qs 'vlan 20' heard; do ip netns exec mail ping -c 1 -W 1 10.0.0.9 > /dev/null || true; done
cat heard
";

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), tool("ovs-vswitchd"), tool("ovs-vsctl"), tool("tcpdump"));
    let mut host = Machine::new("host");
    host.run(SWITCH);
    crate::follow(page, &mut [&mut host]);

    let seen = host.run(SEEN);
    assert!(seen.contains("3 packets transmitted, 3 received"), "{seen}");
    assert!(seen.contains("2 packets transmitted, 0 received"), "{seen}");
    let heard = host.run(TAGGED);
    assert!(heard.contains("vlan 20"), "{heard}");
    host.run("ovs-appctl -t ovs-vswitchd exit; ovs-appctl -t ovsdb-server exit");
}
