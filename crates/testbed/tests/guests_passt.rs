//! A guest on passt, the way QEMU connects to it: shows that both work, and what a test can expect of passt.

use std::time::Duration;

use testbed::peer::Passt;
use testbed::{Nic, Vm, require};

#[test]
fn a_guest_on_passt_gets_its_address_and_reaches_the_router() {
    require!(namespaces(), qemu(), tool("passt"));
    let directory = tempfile::tempdir().expect("a temporary directory");
    let socket = directory.path().join("passt");
    let _passt = Passt::listen(&socket);
    let mut guest = Vm::builder("guest")
        .nic(Nic::stream(&socket, "52:54:00:00:00:01"))
        .address(&format!("{}/64", Passt::GUEST_V6))
        .start();

    let lease = guest.lease();
    let addresses = guest.run("ip address show dev eth0");
    let v4 = guest.reaches(Passt::ROUTER_V4, Duration::from_secs(30));
    let v6 = guest.reaches(Passt::ROUTER_V6, Duration::from_secs(30));

    assert_eq!(lease.status, 0, "{}", lease.output);
    assert!(addresses.output.contains(&format!("inet {}/24", Passt::GUEST_V4)), "{}", addresses.output);
    assert!(v4 && v6, "IPv4: {v4}, IPv6: {v6}; {}", addresses.output);
}
