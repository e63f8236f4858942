//! A host that is its guests' router: another machine stands for the internet, a namespace of the host for a guest.

use testbed::require;

use crate::machine::{Machine, needs};

/// A guest that asks for its address by DHCP, and goes out by the router that it is told of.
const GUEST: &str = r#"
cat > bound << 'EOF'
#!/bin/sh
[ "$1" = bound ] || exit 0
ip address add $ip/$mask dev $interface
ip route add default via $router
EOF
chmod 755 bound
ip netns add guest
vmlan port add lab guest tap name=t0 netns=guest
ip -n guest link set t0 up
ip netns exec guest busybox udhcpc -i t0 -n -q -f -t 20 -T 1 -s ./bound
until ip netns exec guest ping -c 1 -W 1 192.0.2.2; do :; done
"#;

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), tool("nft"), tool("dnsmasq"), tool("busybox"));
    let (mut host, mut internet) = (Machine::new("host"), Machine::new("internet"));
    host.join("eth0", &internet, "eth0");
    host.run("ip address add 192.0.2.1/24 dev eth0; ip link set eth0 up");
    internet.run("ip address add 192.0.2.2/24 dev eth0; ip link set eth0 up");

    crate::follow(page, &mut [&mut host]);

    let seen = host.run(GUEST);
    assert!(seen.contains("1 received"), "{seen}");
    host.run("vmlan port remove lab/this-host; ! ip link show vmlan0");
}
