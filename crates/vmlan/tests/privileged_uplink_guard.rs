//! An uplink on a host that lacks much and has a network of the guests' addresses.

mod support;

use testbed::{Netns, require, wait_for};

use support::{Daemon, PATIENCE};

/// The notes of the network's uplink.
fn notes(daemon: &Daemon) -> Vec<String> {
    daemon.get::<vmlan_api::Uplink>("/v1/networks/lab/uplink").notes
}

#[test]
fn a_network_of_the_hosts_in_the_guests_subnet_is_noted_and_logged_once() {
    require!(namespaces());
    let netns = Netns::new("overlap");
    netns.ip(["link", "add", "lan0", "type", "veth", "peer", "name", "lan1"]);
    netns.ip(["address", "add", "10.213.69.5/24", "dev", "lan0"]);
    netns.ip(["link", "set", "lan0", "up"]);
    netns.ip(["link", "set", "lan1", "up"]);
    let config = "[network.lab]\nuplink = { subnet = \"10.213.69.0/24\" }\n";
    let daemon = Daemon::start_within(&netns, support::directory(), config);
    daemon.wait_up(&["uplink"]);
    let overlap = "the guests' subnet 10.213.69.0/24 overlaps 10.213.69.5/24 at lan0";
    let note =
        wait_for("the note", PATIENCE, || notes(&daemon).into_iter().find(|note| note.starts_with(overlap)));
    assert!(note.contains("set another `subnet`"), "{note}");
    daemon.wait_for_log(overlap);
    // A route is one of the host's networks too, and an address that comes has the routes looked at again.
    netns.ip(["address", "del", "10.213.69.5/24", "dev", "lan0"]);
    netns.ip(["address", "add", "192.0.2.1/24", "dev", "lan0"]);
    let is_gone = || (!notes(&daemon).iter().any(|note| note.starts_with("the guests'"))).then_some(());
    wait_for("the end of the note", PATIENCE, is_gone);
    netns.ip(["route", "add", "10.213.64.0/20", "via", "192.0.2.2"]);
    netns.ip(["address", "add", "192.0.2.3/24", "dev", "lan0"]);
    wait_for("the note about the route", PATIENCE, || {
        notes(&daemon).into_iter().find(|note| note.contains("overlaps 10.213.64.0/20 at lan0"))
    });
    daemon.wait_for_log(overlap);
    assert_eq!(daemon.log().matches(overlap).count(), 1);
    daemon.stop();
}

#[test]
fn case_63_without_ipv6_resolvers_and_ping_sockets_the_network_works_and_says_so() {
    require!(namespaces(), tool("setpriv"), tool("unshare"), tool("nsenter"));
    let netns = Netns::new("bare");
    let net = format!("--net={}", netns.path().display());
    let script = "mount --bind /dev/null /etc/resolv.conf && exec setpriv --bounding-set=-net_raw \"$@\"";
    let program = ["nsenter", &net, "unshare", "-m", "sh", "-c", script, "sh"];
    let daemon = Daemon::start_by(support::directory(), "[network.lab]\nuplink = {}\n", &program);
    daemon.wait_up(&["uplink"]);
    let notes = notes(&daemon);
    let starts: Vec<_> = notes.iter().filter_map(|note| note.split(':').next()).collect();
    assert_eq!(starts, ["only names of this network resolve", "IPv6 does not leave", "ping does not leave"]);
    let shown = daemon.cli(&["uplink", "lab"]);
    assert!(notes.iter().all(|note| shown.stdout.contains(note.as_str())), "{}", shown.stdout);
    daemon.stop();
}
