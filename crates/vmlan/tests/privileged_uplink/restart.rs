//! A daemon that ended, and hosts that lack what others have.

use std::fs;

use testbed::{Interface, require, wait_until};

use crate::dhcp::{Client, holds};
use crate::lab::*;
use crate::support::{PATIENCE, assert_balanced, directory};

#[test]
fn leases_outlive_the_daemon() {
    require!(namespaces(), tool("busybox"), tool("dhclient"));
    let world = World::new(3);
    let ports: String = (0..3).map(|number| world.port(number, "")).collect();
    let config = world.uplink("") + &ports;

    // Case 43.
    let daemon = world.start(&config);
    world.plug();
    let clients = [Client::new(), Client::new(), Client::new()];
    clients[0].udhcpc(&world.guests[0]).expect_success();
    clients[1].dhclient(&world.guests[1], &["-4"]).expect_success();
    let first = [
        clients[0].seen().get("ip").cloned().expect("an address"),
        clients[1].seen().get("new_ip_address").cloned().expect("an address"),
    ];
    let directory = daemon.kill();
    let daemon = world.start_in(directory, &config, "true");
    world.plug();
    clients[2].udhcpc(&world.guests[2]).expect_success();
    let third = clients[2].seen().get("ip").cloned().expect("an address");
    assert!(!first.contains(&third), "{first:?}, {third}");
    fs::remove_file(clients[0].path("out")).expect("our own file");
    clients[0].udhcpc(&world.guests[0]).expect_success();
    assert_eq!(clients[0].seen().get("ip"), Some(&first[0]));
    fs::remove_file(clients[1].path("out")).expect("our own file");
    clients[1].dhclient(&world.guests[1], &["-4"]).expect_success();
    assert_eq!(clients[1].seen().get("new_ip_address"), Some(&first[1]));

    // Case 44.
    let directory = daemon.kill();
    let file = directory.path().join("state/vmlan/leases/lab.json");
    let whole = fs::read(&file).expect("the leases");
    fs::write(&file, &whole[..whole.len() / 2]).expect("our own file");
    let daemon = world.start_in(directory, &config, "true");
    world.plug();
    daemon.wait_for_log("WARN");
    assert!(
        file.with_extension("json.bad").exists() || file.with_extension("bad").exists(),
        "{}",
        daemon.log()
    );
    fs::remove_file(clients[1].path("out")).expect("our own file");
    let output = clients[1].dhclient(&world.guests[1], &["-4"]).expect_success();
    assert_eq!(clients[1].seen().get("new_ip_address"), Some(&first[1]));
    assert!(!output.stderr.contains("DHCPDISCOVER"), "it is asked for again: {}", output.stderr);
    wait_until("the file", PATIENCE, || holds(&file, &first[1]));
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn case_63_a_host_may_lack_ipv6_and_resolvers() {
    require!(namespaces(), tool("dig"));
    let world = World::new(1);
    for scope in ["all", "default", "lo"] {
        world.host.sysctl(&format!("net.ipv6.conf.{scope}.disable_ipv6"), "1");
    }
    fs::remove_file(world.etc.path().join("resolv.conf")).expect("our own file");
    let daemon = world.start_in(directory(), &world.config("forward = [\"2222=g0:22\"]"), "true");
    world.guests[0].configure("t0", &Interface::new());
    world.settle();
    let guest = &world.guests[0];
    let listener = world.listen(&at(SERVER, 80).to_string());
    let (mut near, mut far) = join(guest, at(SERVER, 80), &listener);
    talk(&mut near, &mut far);
    assert!(testbed::ping(guest, at(SERVER, 0).ip(), 1).all());
    dial(guest, at(SERVER6, 80)).expect_err("no way");
    let name = |name: &str| {
        let server = format!("@{GATEWAY}");
        guest.exec("dig", ["+time=8", "+tries=1", &server, name, "A"]).stdout
    };
    assert!(name("www.example.org").contains("SERVFAIL"), "{}", name("www.example.org"));
    assert!(name("g0.lab.internal").contains(&v4(0)));
    let inside = listen(guest, "0.0.0.0:22");
    let mut far = dial(&world.host, at("127.0.0.1", 2222)).expect("a connection");
    let (mut near, _) = accept(&inside);
    talk(&mut near, &mut far);
    let state = uplink(&daemon);
    assert!(!state.ipv6_route && state.resolvers.is_empty(), "{state:#?}");
    assert_balanced(&daemon);
    daemon.stop();
}
