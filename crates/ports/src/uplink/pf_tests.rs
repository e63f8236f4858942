use std::net::Ipv4Addr;

use super::*;
use crate::uplink::egress;
use crate::uplink::forward::Transport;

fn plan<'a>(egress: &'a Egress, inward: &'a [Inward]) -> Plan<'a> {
    let subnet = Subnet4 { network: Ipv4Addr::new(10, 213, 5, 0), prefix: 24 };
    let subnet6 = Subnet6 { network: "fd00:1:2:3::".parse().unwrap() };
    Plan {
        device: "feth1",
        subnet: (subnet, Some("en0")),
        subnet6: Some((subnet6, Some("en0"))),
        egress,
        inward,
    }
}

fn inward(transport: Transport, at: &str, guest: &str) -> Inward {
    Inward { transport, at: at.parse().unwrap(), guest: guest.parse().unwrap() }
}

const WHOLE: &str = "\
nat on en0 inet from 10.213.5.0/24 to ! 10.213.5.0/24 -> (en0)
nat on en0 inet6 from fd00:1:2:3::/64 to ! fd00:1:2:3::/64 -> (en0)
rdr pass on ! feth1 inet proto tcp from any to self port 8080 tag vmlan_forwarded -> 10.213.5.16 port 80
rdr pass on ! feth1 inet6 proto udp from any to 2001:db8::2 port 53 tag vmlan_forwarded -> fd00:1:2:3::16 port 53
pass in quick on feth1 inet6 proto icmp6 all icmp6-type { neighbrsol, neighbradv } no state
block drop in quick on feth1 inet from ! 10.213.5.0/24 to any
block drop in quick on feth1 inet6 from ! fd00:1:2:3::/64 to any
block drop in quick on feth1 from any to self
pass in quick on feth1 all keep state
block drop in quick on feth1 all
pass out quick on feth1 all tagged vmlan_forwarded keep state
pass out quick on feth1 from self to any keep state
block drop out quick on feth1 all
";

#[test]
fn a_whole_anchor() {
    let forwards = [
        inward(Transport::Tcp, "0.0.0.0:8080", "10.213.5.16:80"),
        inward(Transport::Udp, "[2001:db8::2]:53", "[fd00:1:2:3::16]:53"),
    ];
    let text = text(&plan(&Egress::All, &forwards));
    assert_eq!(text, WHOLE);
    assert_parses(&text);
}

#[test]
fn what_is_open_decides_on_what_passes() {
    let list = |texts: &[(bool, &str)]| {
        Egress::Rules(texts.iter().map(|(allow, text)| egress::rule(*allow, text).unwrap()).collect())
    };
    let rules = |egress: &Egress| {
        let text = text(&plan(egress, &[]));
        assert_parses(&text);
        let from = text.lines().skip_while(|line| !line.ends_with("to self")).skip(1);
        from.take_while(|line| !line.starts_with("pass out")).map(str::to_owned).collect::<Vec<_>>()
    };
    let closed = "block drop in quick on feth1 all";
    assert_eq!(rules(&Egress::None), [closed]);
    assert_eq!(
        rules(&Egress::Internet),
        [
            "block drop in quick on feth1 inet from any to { 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 }",
            "block drop in quick on feth1 inet6 from any to { fc00::/7, fec0::/10 }",
            "pass in quick on feth1 all keep state",
            closed,
        ]
    );
    let some = list(&[
        (false, "192.168.0.0/16"),
        (true, "203.0.113.7:22/tcp"),
        (true, "[2001:db8::]/32:8000-8010"),
        (true, "*.example.org:443"),
    ]);
    assert_eq!(
        rules(&some),
        [
            "block drop in quick on feth1 inet from any to 192.168.0.0/16",
            "pass in quick on feth1 inet proto tcp from any to 203.0.113.7/32 port 22 keep state",
            "pass in quick on feth1 inet6 proto tcp from any to 2001:db8::/32 port 8000:8010 keep state",
            "pass in quick on feth1 inet6 proto udp from any to 2001:db8::/32 port 8000:8010 keep state",
            closed,
        ]
    );
}

#[test]
fn without_a_way_out_nothing_is_translated() {
    let mut plan = plan(&Egress::All, &[]);
    (plan.subnet.1, plan.subnet6) = (None, None);
    let text = text(&plan);
    assert!(!text.contains("nat ") && text.contains("block drop in quick on feth1 inet6 all\n"), "{text}");
    assert_parses(&text);
}

#[test]
fn the_way_out_is_read_from_what_route_says() {
    let answer = "   route to: default\ndestination: default\n    gateway: 192.168.1.1\n  interface: en0\n      flags: <UP>\n";
    assert_eq!(way_out(answer), Some("en0"));
    for none in
        ["", "route: writing to routing socket: not in table", "  interface: \n", "interface: en0 }\n"]
    {
        assert_eq!(way_out(none), None, "{none}");
    }
}

/// Reads rules by the grammar of pf.conf(5), as much of it as is used.
fn assert_parses(text: &str) {
    let mut filters = false;
    for line in text.lines() {
        let spaced = ["{", "}", ",", "(", ")"]
            .iter()
            .fold(line.to_owned(), |line, sign| line.replace(sign, &format!(" {sign} ")));
        let mut words = Words { left: spaced.split_whitespace().collect(), line };
        let is_translation = words.rule();
        assert!(words.left.is_empty(), "{:?} is left of {line}", words.left);
        assert!(!(is_translation && filters), "translation comes before filters: {line}");
        filters |= !is_translation;
    }
}

struct Words<'a> {
    left: Vec<&'a str>,
    line: &'a str,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> &'a str {
        assert!(!self.left.is_empty(), "{} ends early", self.line);
        self.left.remove(0)
    }

    fn take(&mut self, word: &str) -> bool {
        let is_next = self.left.first() == Some(&word);
        if is_next {
            self.next();
        }
        is_next
    }

    fn expect(&mut self, choice: &[&str]) {
        let word = self.next();
        assert!(choice.contains(&word), "{word} in {}", self.line);
    }

    /// A rule; true for one of translation.
    fn rule(&mut self) -> bool {
        let action = self.next();
        match action {
            "nat" => self.head(false),
            "rdr" => {
                self.take("pass");
                self.head(false);
            }
            "pass" | "block" => {
                if action == "block" {
                    self.expect(&["drop"]);
                }
                self.expect(&["in", "out"]);
                self.head(true);
                self.options();
                return false;
            }
            other => panic!("{other} in {}", self.line),
        }
        if self.take("tag") {
            self.next();
        }
        self.expect(&["->"]);
        if self.take("(") {
            self.interface();
            self.expect(&[")"]);
        } else {
            self.address();
        }
        if self.take("port") {
            self.ports();
        }
        true
    }

    /// The interface, the family, the protocol and the hosts.
    fn head(&mut self, is_filter: bool) {
        if is_filter {
            self.take("quick");
        }
        self.expect(&["on"]);
        self.take("!");
        self.interface();
        let _ = self.take("inet") || self.take("inet6");
        if self.take("proto") {
            self.expect(&["tcp", "udp", "icmp6"]);
        }
        if !self.take("all") {
            for side in ["from", "to"] {
                self.expect(&[side]);
                self.hosts();
            }
        }
    }

    fn interface(&mut self) {
        let name = self.next();
        assert!(name.starts_with(|c: char| c.is_ascii_alphabetic()), "{name} in {}", self.line);
    }

    fn hosts(&mut self) {
        self.take("!");
        if self.take("{") {
            while !self.take("}") {
                self.address();
                self.take(",");
            }
        } else if !self.take("any") && !self.take("self") {
            self.address();
        }
        if self.take("port") {
            self.ports();
        }
    }

    fn address(&mut self) {
        let text = self.next();
        let (address, bits) = text.split_once('/').unwrap_or((text, "0"));
        assert!(address.parse::<IpAddr>().is_ok() && bits.parse::<u8>().is_ok(), "{text} in {}", self.line);
    }

    fn ports(&mut self) {
        let text = self.next();
        assert!(text.split(':').all(|port| port.parse::<u16>().is_ok()), "{text} in {}", self.line);
    }

    fn options(&mut self) {
        if self.take("icmp6-type") {
            self.expect(&["{"]);
            while !self.take("}") {
                self.expect(&["neighbrsol", "neighbradv"]);
                self.take(",");
            }
        }
        if self.take("tagged") {
            self.next();
        }
        if self.take("keep") || self.take("no") {
            self.expect(&["state"]);
        }
    }
}
