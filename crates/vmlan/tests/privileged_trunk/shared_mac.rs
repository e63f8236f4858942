//! A wire that takes frames from the host's MAC address only, as Wi-Fi does.

use testbed::{Iperf, iperf3, ping, require};

use crate::lab::{HOST, Lab, WIRE, v4, v6, wait_trunk};
use crate::support::{Daemon, PATIENCE, assert_balanced, mac};

impl Lab {
    /// From now on the wire drops what does not come from the host's address, and sends to nobody else's.
    #[track_caller]
    pub fn accept_one_address(&self) {
        let rules = format!(
            "table netdev one {{\n chain in {{ type filter hook ingress device eth0 priority 0; policy accept;\n \
             ether saddr != {0} counter drop\n }}\n chain out {{ type filter hook egress device eth0 priority 0; policy accept;\n \
             ether daddr & 01:00:00:00:00:00 == 00:00:00:00:00:00 ether daddr != {0} counter drop\n }}\n}}\n",
            mac(HOST)
        );
        let script = "printf %s \"$1\" | nft -f -";
        self.wire.exec("sh", ["-c", script, "sh", &rules]).expect_success();
    }

    /// Returns the number of packets that the wire dropped.
    #[track_caller]
    pub fn dropped_by_the_wire(&self) -> u64 {
        let rules = self.wire.exec("nft", ["list", "table", "netdev", "one"]).expect_success().stdout;
        let words: Vec<&str> = rules.split_whitespace().collect();
        words
            .windows(2)
            .filter(|pair| pair[0] == "packets")
            .map(|pair| pair[1].parse::<u64>().expect("a number"))
            .sum()
    }
}

#[test]
fn arp_discovery_and_tcp_work_behind_one_address() {
    require!(namespaces(), tool("iperf3"), tool("nft"));
    let lab = Lab::new();
    lab.accept_one_address();
    let daemon = lab.start(&lab.config("shared_mac = \"on\""));
    assert!(daemon.trunk().shared_mac);
    // What is for guests is for the host's address, or for groups.
    wait_trunk(&daemon, "every group", |trunk| {
        trunk.installed.iter().any(|what| what == "eth0 takes every group")
    });
    assert_eq!(lab.promiscuity(), 0);
    lab.all_ping();
    for (from, to) in [(WIRE, 3), (3, WIRE), (HOST, 3), (3, HOST), (HOST, WIRE)] {
        for address in [v4(to), v6(to)] {
            let report = iperf3(lab.netns(from), lab.netns(to), address, Iperf::tcp(1));
            assert!(report.received_octets > 1_000_000, "{from} to {address}: {report:?}");
        }
    }
    // The wire knows the guests by the host's address, and nothing of theirs was seen there.
    let neighbours = lab.wire.ip(["neigh"]).stdout;
    assert!(neighbours.contains(&mac(HOST).to_string()), "{neighbours}");
    assert!(
        !neighbours.contains(&mac(3).to_string()) && !neighbours.contains(&mac(4).to_string()),
        "{neighbours}"
    );
    assert_eq!(lab.dropped_by_the_wire(), 0);
    // What the guests send to groups does not come back from the wire's side.
    let fdb = daemon.fdb("lab");
    for number in [3, 4] {
        let port = format!("guest{number}");
        assert!(
            fdb.iter().any(|entry| entry.mac == mac(number).to_string() && entry.port == port),
            "{fdb:?}"
        );
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_guest_gets_its_address_by_dhcp_behind_one_address() {
    require!(namespaces(), tool("dnsmasq"), tool("busybox"), tool("nft"));
    let lab = Lab::new();
    lab.accept_one_address();
    let config = lab.config("shared_mac = \"on\"");
    let daemon = Daemon::start_within(&lab.host, crate::support::directory(), &config);
    daemon.wait_up(&["guest3", "guest4", "trunk"]);
    let guest = &lab.guests[0];
    guest.configure("t0", &testbed::Interface::new().mac(&mac(3).to_string()));
    let leases = daemon.path("leases").display().to_string();
    let mut server = lab.wire.spawn(
        "dnsmasq",
        [
            "--keep-in-foreground",
            "--log-facility=-",
            "--log-dhcp",
            "--port=0",
            "--interface=eth0",
            "--bind-interfaces",
            "--user=root",
            "--dhcp-range=10.9.0.100,10.9.0.150,1h",
            &format!("--dhcp-leasefile={leases}"),
            "--conf-file=/dev/null",
        ],
    );
    server.wait_for_log("DHCP, IP range", PATIENCE);

    // The client tells the address, which is given to the interface by hand: its own script is not there.
    let script = daemon.path("udhcpc.sh");
    std::fs::write(
        &script,
        "#!/bin/sh\n[ \"$1\" = bound ] && ip address add \"$ip/24\" dev \"$interface\"\nexit 0\n",
    )
    .expect("a file in our own directory");
    guest.exec("chmod", ["755", &script.display().to_string()]).expect_success();
    let client =
        ["udhcpc", "-i", "t0", "-n", "-q", "-f", "-t", "10", "-T", "1", "-s", &script.display().to_string()];
    let answer = guest.exec("busybox", client);
    assert!(answer.success(), "{}{}\n{}", answer.stdout, answer.stderr, server.log());
    let own = guest.ip(["-4", "address", "show", "dev", "t0"]).stdout;
    assert!(own.contains("10.9.0.1"), "{own}\n{}", server.log());

    assert!(guest.reaches(v4(WIRE), PATIENCE));
    assert!(ping(guest, v4(WIRE), 3).all());
    assert!(ping(guest, v4(HOST), 3).all());
    assert_eq!(lab.dropped_by_the_wire(), 0);
    assert_balanced(&daemon);
    daemon.stop();
}
