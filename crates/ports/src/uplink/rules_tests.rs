use std::net::Ipv4Addr;

use super::*;
use crate::uplink::egress;
use crate::uplink::forward::Transport;

fn plan<'a>(egress: &'a Egress, inward: &'a [Inward]) -> Plan<'a> {
    Plan {
        table: "vmlan_lab",
        device: "vmu-lab",
        subnet: Subnet4 { network: Ipv4Addr::new(10, 213, 5, 0), prefix: 24 },
        subnet6: Some(Subnet6 { network: "fd00:1:2:3::".parse().unwrap() }),
        egress,
        inward,
        generation: 7,
    }
}

const WHOLE: &str = r#"table inet vmlan_lab { flags owner; }
flush table inet vmlan_lab
table inet vmlan_lab {
	flags owner;
	chain to_guests {
		tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu;
		ct state established,related accept;
		ct status dnat accept;
		drop;
	}
	chain from_guests {
		oifname "vmu-lab" drop;
		ct state invalid drop;
		tcp flags & (syn | rst) == syn tcp option maxseg size set rt mtu;
		ct direction reply ct state established,related accept;
		ct state related accept;
		ip saddr != 10.213.5.0/24 drop;
		ip6 saddr != fd00:1:2:3::/64 drop;
		accept;
		drop;
	}
	chain to_host {
		ct state established,related accept;
		icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept;
		drop;
	}
	chain prerouting {
		type nat hook prerouting priority dstnat; policy accept;
		iifname != "vmu-lab" ip saddr != 169.254.0.0/16 fib daddr type local tcp dport 8080 dnat ip to 10.213.5.16:80;
		iifname != "vmu-lab" ip6 saddr != fe80::/10 ip6 daddr 2001:db8::2 udp dport 53 dnat ip6 to [fd00:1:2:3::16]:53;
	}
	chain postrouting {
		type nat hook postrouting priority srcnat; policy accept;
		ip saddr 10.213.5.0/24 ip daddr != 10.213.5.0/24 oifname != "vmu-lab" masquerade;
		ip6 saddr fd00:1:2:3::/64 ip6 daddr != fd00:1:2:3::/64 oifname != "vmu-lab" masquerade;
	}
	chain forward {
		type filter hook forward priority filter; policy accept;
		iifname "vmu-lab" jump from_guests;
		oifname "vmu-lab" jump to_guests;
	}
	chain input {
		type filter hook input priority filter; policy accept;
		iifname "vmu-lab" jump to_host;
	}
	chain generation {
		return comment "rules 7";
	}
}
"#;

fn inward() -> [Inward; 2] {
    let inward = |transport, at: &str, guest: &str| Inward {
        transport,
        at: at.parse().unwrap(),
        guest: guest.parse().unwrap(),
    };
    [
        inward(Transport::Tcp, "0.0.0.0:8080", "10.213.5.16:80"),
        inward(Transport::Udp, "[2001:db8::2]:53", "[fd00:1:2:3::16]:53"),
    ]
}

#[test]
fn the_whole_table() {
    assert_eq!(text(&plan(&Egress::All, &inward())), WHOLE);
    let line =
        in_one_line("table inet t { flags owner; }\nflush table inet t\ntable inet t {\n\tflags owner;\n}\n");
    assert_eq!(line, "table inet t { flags owner; }; flush table inet t; table inet t { flags owner; }; \n");
    let whole = in_one_line(WHOLE);
    assert_eq!(whole.matches('\n').count(), 1);
    assert!(whole.contains("chain to_guests { tcp flags"), "{whole}");
}

/// The rules from guests, behind those about their addresses.
fn policy(egress: &Egress) -> Vec<String> {
    from_guests(&plan(egress, &[])).split_off(7)
}

#[test]
fn what_is_open_to_guests() {
    let list = |lines: &[(bool, &str)]| {
        Egress::Rules(lines.iter().map(|(allow, text)| egress::rule(*allow, text).unwrap()).collect())
    };
    assert_eq!(policy(&Egress::All), ["accept", "drop"]);
    assert_eq!(policy(&Egress::None), ["drop"]);
    let internet = policy(&Egress::Internet);
    assert!(internet[0].contains("172.16.0.0/12") && internet[1].contains("fc00::/7"), "{internet:?}");
    assert_eq!(internet[2..], ["accept", "drop"]);
    for (allow, text, expected) in [
        (false, "192.168.0.0/16", "ip daddr 192.168.0.0/16 drop"),
        (true, "203.0.113.7:22/tcp", "ip daddr 203.0.113.7/32 tcp dport 22 accept"),
        (true, "[2001:db8::]/32:1000-2000/udp", "ip6 daddr 2001:db8::/32 udp dport 1000-2000 accept"),
        (true, "*:53", "meta l4proto { tcp, udp } th dport 53 accept"),
        (false, "*/udp", "meta l4proto udp drop"),
        (true, "*", "accept"),
    ] {
        assert_eq!(policy(&list(&[(allow, text)])), [expected, "drop"], "{text}");
    }
    assert_eq!(policy(&list(&[(true, "*.example.org")])), ["drop"], "a name is no address");
}

/// Has nft read the text, and change nothing.
fn nft_takes(text: &str) -> Result<(), String> {
    use std::io::Write as _;
    use std::process::{Command, Stdio};
    // In a namespace of its own, where no rules are.
    let mut child = Command::new("unshare")
        .args(["--net", "nft", "-c", "-f", "-"])
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| error.to_string())?;
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.success() { Ok(()) } else { Err(complaint) }
}

#[test]
fn nft_takes_every_rule() {
    if let Err(why) = nft_takes("table inet t { flags owner; }\n") {
        eprintln!("SKIPPED: nft does not work here: {why}");
        return;
    }
    let lines =
        ["192.168.0.0/16", "203.0.113.7:22/tcp", "[2001:db8::]/32:1000-2000/udp", "*:53", "*/udp", "*"];
    let list = Egress::Rules(lines.iter().map(|text| egress::rule(true, text).unwrap()).collect());
    for egress in [Egress::All, Egress::Internet, Egress::None, list] {
        let text = text(&plan(&egress, &inward()));
        nft_takes(&text).unwrap_or_else(|why| panic!("{why}\n{text}"));
        nft_takes(&in_one_line(&text)).unwrap();
    }
}

#[test]
fn a_network_without_ipv6_lets_none_out() {
    let plan = Plan { subnet6: None, ..plan(&Egress::All, &[]) };
    let text = text(&plan);
    assert!(text.contains("meta nfproto ipv6 drop"), "{text}");
    assert!(!text.contains("ip6 "), "{text}");
}
