//! Two real guests joined directly, without anything in between: shows that the guests themselves work.

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use testbed::{Nic, Vm, require};

const LIMIT: Duration = Duration::from_secs(30);

#[test]
fn guests_on_one_datagram_pair_reach_each_other() {
    require!(qemu());
    let directory = tempfile::tempdir().expect("a temporary directory");
    let (a, b) = (directory.path().join("a"), directory.path().join("b"));
    let mut first = Vm::builder("first")
        .nic(Nic::datagram(&a, &b, "52:54:00:00:00:01"))
        .address("10.9.0.1/24")
        .address("fd00:9::1/64")
        .start();
    let mut second = Vm::builder("second")
        .nic(Nic::datagram(&b, &a, "52:54:00:00:00:02"))
        .address("10.9.0.2/24")
        .address("fd00:9::2/64")
        .mtu(1400)
        .start();
    second.wait_ready();

    assert!(first.reaches(Ipv4Addr::new(10, 9, 0, 2), LIMIT), "{}", first.console());
    let v4 = first.ping(Ipv4Addr::new(10, 9, 0, 2), 3);
    let v6 = second.ping("fd00:9::1".parse::<Ipv6Addr>().expect("an address"), 3);
    let link = second.run("cat /sys/class/net/eth0/mtu /sys/class/net/eth0/address");
    let failing = second.run("ls /no/such/file");

    let tagged = |host: u8| {
        format!(
            "ip link add link eth0 name eth0.10 type vlan id 10 && ip link set eth0.10 up && \
             ip address add 10.10.0.{host}/24 dev eth0.10"
        )
    };
    let vlans = [first.run(&tagged(1)), second.run(&tagged(2))];
    let through_vlan = first.ping(Ipv4Addr::new(10, 10, 0, 2), 3);

    assert!(v4.all() && v6.all(), "{v4:?} {v6:?}");
    assert!(through_vlan.all(), "{through_vlan:?} {vlans:?}");
    assert_eq!(link.output, "1400\n52:54:00:00:00:02\n");
    assert!(failing.status != 0 && failing.output.contains("No such file"), "{failing:?}");
}

#[test]
fn what_a_command_leaves_running_may_end_at_any_time() {
    require!(qemu());
    let mut guest = Vm::builder("guest").start();

    // The guest has the first octets of a line before the last ones: something has to end in between.
    for step in 0..100 {
        let left = guest.run(&format!("usleep {} &", step * 200));
        let answer = guest.run("echo here");
        assert_eq!((left.status, answer.output.as_str()), (0, "here\n"));
    }
}
