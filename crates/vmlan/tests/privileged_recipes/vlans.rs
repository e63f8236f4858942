//! A machine of QEMU that routes between the VLANs of two namespaces.

use testbed::require;

use crate::guest;
use crate::machine::{Machine, needs};

#[track_caller]
pub fn follow(page: &str) {
    require!(needs(), qemu());
    let mut host = Machine::new("host");
    guest::write_system(&host.work());

    crate::follow(page, &mut [&mut host]);

    // The page's outputs are compared without their numbers, of which these two matter.
    let ping = host.run("ip netns exec web ping -c 1 10.0.20.2");
    assert!(ping.contains(" ttl=63 "), "{ping}");
    let fdb = host.run("vmlan fdb lab");
    let words = fdb.lines().map(|line| line.split_whitespace().take(3).collect::<Vec<_>>().join(" "));
    let mut places: Vec<_> = words.filter(|line| line.starts_with("52:54:00:00:00:0")).collect();
    places.sort();
    let expected = ["01 - router", "02 10 web", "03 20 db"];
    assert_eq!(places, expected.map(|place| format!("52:54:00:00:00:{place}")));
    // Without the router there is no way, also for one that takes an address of the other VLAN's.
    host.run("kill %2; ip -n web address add 10.0.20.3/24 dev eth0");
    host.run("! ip netns exec web ping -c 1 -W 1 -I 10.0.20.3 10.0.20.2");
}
