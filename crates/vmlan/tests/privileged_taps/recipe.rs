//! The recipes of docs/recipes.md, in namespaces: one stands for the host, one for the internet, one is a guest.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use testbed::{Interface, Netns, require, run, wait_until};

use crate::lab::Guest;
use crate::support::{Daemon, PATIENCE, VMLAN};

/// The commands of a recipe.
fn recipe(name: &str) -> String {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes.md");
    let page = std::fs::read_to_string(page).expect("the page");
    let (_, behind) = page.split_once(&format!("<!-- recipe: {name} -->")).expect(name);
    let (_, inside) = behind.split_once("```sh\n").expect("a block");
    inside.split_once("```").expect("its end").0.to_owned()
}

/// Sets what a DHCP client was told, as udhcpc hands it to its script.
const BOUND: &str = "#!/bin/sh\n[ \"$1\" = bound ] || exit 0\nip address add $ip/$mask dev $interface\n\
                     ip route add default via $router\n";

#[test]
fn guests_get_addresses_and_reach_the_internet_through_this_host() {
    require!(namespaces(), tool("nft"), tool("dnsmasq"), tool("busybox"));
    let (host, internet, guest) = (Netns::new("host"), Netns::new("internet"), Guest::new(1));
    host.veth("eth0", &internet, "eth0");
    host.configure("eth0", &Interface::new().address("192.0.2.1/24"));
    internet.configure("eth0", &Interface::new().address("192.0.2.2/24"));
    let directory = crate::support::directory();
    let daemon = Daemon::start(&guest.port(""));
    daemon.wait_up(&["guest1"]);

    let commands = recipe("router");
    let (set_up, dnsmasq) = commands.trim().rsplit_once('\n').expect("several commands");
    let mut shell = host.command("sh");
    let programs = Path::new(VMLAN).parent().expect("a directory").display();
    let search = format!("{programs}:{}", std::env::var("PATH").expect("a search path"));
    shell.args(["-ec", set_up]).env("PATH", search).env("VMLAN_CONTROL", daemon.control());
    run(shell, PATIENCE).expect_success();
    // Beside the test, so that it ends with it, and without files of the machine's.
    let own =
        ["--keep-in-foreground", "--pid-file=", "--leasefile-ro", "--user=root", "--no-resolv", "--no-hosts"];
    let words: Vec<&str> = dnsmasq.split(' ').skip(1).chain(own).collect();
    let _dnsmasq = host.spawn("dnsmasq", words);

    let script = directory.path().join("bound");
    std::fs::write(&script, BOUND).expect("a script");
    std::fs::set_permissions(&script, PermissionsExt::from_mode(0o755)).expect("a mode");
    guest.netns.ip(["link", "set", "t0", "up"]);
    let script = script.to_str().expect("text");
    let client = ["udhcpc", "-i", "t0", "-n", "-q", "-f", "-t", "20", "-T", "1", "-s", script];
    wait_until("an address by DHCP", PATIENCE, || guest.netns.exec("busybox", client).success());
    let out = std::net::Ipv4Addr::new(192, 0, 2, 2);
    wait_until("an answer from outside", PATIENCE, || testbed::ping(&guest.netns, out, 1).received == 1);
    daemon.cli(&["port", "remove", "lab/this-host"]).expect_success();
    assert!(!host.has_interface("vmlan0"));
    daemon.stop();
}
