use std::net::IpAddr;

use vmlan_frame::MacAddr;
use vmlan_nat::reach::{Egress, Rule, To};

use super::message::tests::query;
use super::message::{Answer, IN, Section, kind};
use super::*;
use crate::Port;
use crate::dhcp4::tests::settings;
use crate::leases::{Lease, State};

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const CLIENT: Client = Client { ingress: 1, mac: MAC };
const NOW: Instant = Instant::from_secs(1000);

struct Net {
    settings: Settings,
    ports: Ports,
    leases: Leases,
}

fn lease(number: u8, port: &str, name: Option<&str>, since: u64) -> Lease {
    Lease {
        address: [10, 213, 5, number].into(),
        mac: MacAddr([0x52, 0x54, 0, 0, 0, number]),
        client: vec![number, number],
        port: port.into(),
        name: name.map(Into::into),
        since,
        until: 1 << 40,
        state: State::Bound,
        set: false,
        held: 0,
    }
}

impl Net {
    /// Port `web` with set addresses, `db` with a lease, `empty` without; guests that call themselves `web` and `nas`.
    fn new() -> Net {
        let port = |ingress, name: &str, addresses: &[&str]| Port {
            ingress,
            name: name.into(),
            mac: None,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
            egress: None,
            up: true,
        };
        let mut ports = Ports::default();
        ports.replace([
            port(1, "web", &["10.213.5.10", "fd00:1:2:5::10"]),
            port(2, "db", &[]),
            port(3, "empty", &[]),
            port(4, "many", &[]),
        ]);
        let mut leases = Leases::default();
        for lease in [
            lease(20, "db", None, 1),
            lease(21, "many", Some("web"), 1),
            lease(22, "many", Some("nas"), 3),
            lease(23, "many", Some("nas"), 2),
        ] {
            leases.put(lease);
        }
        let slaac = "fd00:1:2:5:5054:ff:fe00:14".parse().unwrap();
        leases.heard_mut().note(slaac, Client { ingress: 2, mac: MacAddr([0x52, 0x54, 0, 0, 0, 20]) }, NOW);
        Net { settings: settings(), ports, leases }
    }

    fn decide(&self, octets: &[u8]) -> Verdict {
        decide((&self.settings, &self.ports, &self.leases), CLIENT, octets, Some(1472), NOW)
    }

    /// The result code, the answers' addresses or pointer, and the number of records of authority.
    fn ask(&self, name: &str, kind: u16) -> (u8, Vec<IpAddr>, u8) {
        let octets = query(name, kind, IN, None);
        let Verdict::Answer(answer) = self.decide(&octets) else { panic!("{name} is passed on") };
        let question = Question::parse(&octets).unwrap();
        assert!(question.is_answered_by(question.id, &answer));
        let addresses = question.addresses(&answer).into_iter().map(|(address, ttl)| {
            assert_eq!(ttl, 5);
            address
        });
        (answer[3] & 0xf, addresses.collect(), answer[9])
    }

    fn pointer(&self, name: &str) -> Option<String> {
        let octets = query(name, kind::PTR, IN, None);
        let Verdict::Answer(answer) = self.decide(&octets) else { panic!("{name} is passed on") };
        (answer[7] == 1).then(|| Name::take(&answer[octets.len() + 12..]).unwrap().0.to_string())
    }

    fn is_asked(&self, name: &str) -> bool {
        matches!(self.decide(&query(name, kind::A, IN, None)), Verdict::Ask(_))
    }
}

fn addresses(texts: &[&str]) -> Vec<IpAddr> {
    texts.iter().map(|text| text.parse().unwrap()).collect()
}

#[test]
fn case_55_names_of_the_zone() {
    let net = Net::new();
    for (name, kind, expected) in [
        ("web.lab.internal", kind::A, (0, addresses(&["10.213.5.10"]), 0)),
        ("WEB.lab.Internal", kind::AAAA, (0, addresses(&["fd00:1:2:5::10"]), 0)),
        ("web.lab.internal", kind::ANY, (0, addresses(&["10.213.5.10", "fd00:1:2:5::10"]), 0)),
        ("web", kind::A, (0, addresses(&["10.213.5.10"]), 0)),
        ("db.lab.internal", kind::A, (0, addresses(&["10.213.5.20"]), 0)),
        ("db.lab.internal", kind::AAAA, (0, addresses(&["fd00:1:2:5:5054:ff:fe00:14"]), 0)),
        ("empty.lab.internal", kind::AAAA, (0, vec![], 1)),
        ("web.lab.internal", kind::SOA, (0, vec![], 1)),
        ("gateway.lab.internal", kind::A, (0, addresses(&["10.213.5.1"]), 0)),
        ("gateway.lab.internal", kind::AAAA, (0, addresses(&["fd00:1:2:5::1"]), 0)),
        ("host.lab.internal", kind::A, (3, vec![], 1)),
        ("nobody.lab.internal", kind::A, (3, vec![], 1)),
        ("a.web.lab.internal", kind::A, (3, vec![], 1)),
        ("lab.internal", kind::A, (0, vec![], 1)),
        ("lab.internal", kind::SOA, (0, vec![], 0)),
        ("web.lab.internal", kind::AXFR, (5, vec![], 0)),
        ("printer.local", kind::A, (5, vec![], 0)),
    ] {
        assert_eq!(net.ask(name, kind), expected, "{name} {kind}");
    }
    assert!(net.is_asked("example.org") && net.is_asked("internal") && net.is_asked("nobody"));
    assert!(net.is_asked("use-application-dns.net"));
}

#[test]
fn the_host_has_a_name_when_something_of_it_is_open() {
    let mut net = Net::new();
    net.settings.dns.as_mut().unwrap().host = true;
    assert_eq!(net.ask("host.lab.internal", kind::A).1, addresses(&["10.213.5.2"]));
    assert_eq!(net.pointer("2.5.213.10.in-addr.arpa").as_deref(), Some("host.lab.internal"));
}

#[test]
fn case_55_without_ipv6_there_is_no_error_and_an_soa() {
    let mut net = Net::new();
    net.settings.subnet6 = None;
    assert_eq!(net.ask("db.lab.internal", kind::AAAA), (0, vec![], 1));
    assert_eq!(net.ask("gateway.lab.internal", kind::AAAA), (0, vec![], 1));
}

#[test]
fn case_55_pointers_of_both_families() {
    let net = Net::new();
    let v6 = |digits: &str| format!("{digits}.5.0.0.0.2.0.0.0.1.0.0.0.0.0.d.f.ip6.arpa");
    for (name, expected) in [
        ("1.5.213.10.in-addr.arpa".to_owned(), Some("gateway.lab.internal")),
        ("10.5.213.10.in-addr.arpa".to_owned(), Some("web.lab.internal")),
        ("20.5.213.10.in-addr.arpa".to_owned(), Some("db.lab.internal")),
        ("22.5.213.10.in-addr.arpa".to_owned(), Some("many.lab.internal")),
        ("23.5.213.10.in-addr.arpa".to_owned(), Some("nas.lab.internal")),
        ("21.5.213.10.in-addr.arpa".to_owned(), None),
        ("99.5.213.10.in-addr.arpa".to_owned(), None),
        ("5.213.10.in-addr.arpa".to_owned(), None),
        (v6("0.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0"), Some("web.lab.internal")),
        (v6("4.1.0.0.0.0.e.f.f.f.0.0.4.5.0.5"), Some("db.lab.internal")),
        (v6("9.1.0.0.0.0.0.0.0.0.0.0.0.0.0.0"), None),
    ] {
        assert_eq!(net.pointer(&name).as_deref(), expected, "{name}");
    }
    assert_eq!(net.ask("99.5.213.10.in-addr.arpa", kind::PTR), (3, vec![], 1));
    assert_eq!(net.ask("5.213.10.in-addr.arpa", kind::PTR), (0, vec![], 1));
    for name in [
        "213.10.in-addr.arpa",
        "1.6.213.10.in-addr.arpa",
        "001.5.213.10.in-addr.arpa",
        "x.5.213.10.in-addr.arpa",
    ] {
        assert!(net.is_asked(name), "{name}");
    }
}

#[test]
fn case_56_a_ports_name_wins_and_the_first_client_keeps_its() {
    let net = Net::new();
    assert_eq!(net.ask("web.lab.internal", kind::A).1, addresses(&["10.213.5.10"]));
    assert_eq!(net.ask("nas.lab.internal", kind::A).1, addresses(&["10.213.5.23"]));
    assert_eq!(net.ask("many.lab.internal", kind::A).1, addresses(&["10.213.5.22"]));
}

#[test]
fn case_57_what_is_not_of_the_zone_is_passed_on() {
    let net = Net::new();
    for (name, kind, class) in [
        ("example.org", kind::A, IN),
        ("example.org", 65, IN),
        ("example.org", 257, IN),
        ("version.bind", 16, 3),
    ] {
        let octets = query(name, kind, class, Some(4096));
        let Verdict::Ask(question) = net.decide(&octets) else { panic!("{name} is asked for") };
        assert_eq!((question.kind, question.class), (kind, class));

        let mut answer = Answer::new(&question, Code::NoError, false);
        answer.push(Section::Answer, None, kind, 9, &[7; 100]);
        let mut from_resolver = answer.finish(4096);
        from_resolver[..2].copy_from_slice(&[9, 9]);
        let passed = pass_on(&net.settings, &question, from_resolver.clone(), Some(1472));
        assert_eq!(passed[..2], octets[..2]);
        assert_eq!(passed[2..], from_resolver[2..]);
        assert!(pass_on(&net.settings, &question, vec![0x80; 1473], Some(1472)).len() < 100);
        assert_eq!(pass_on(&net.settings, &question, vec![0x80; 1473], None).len(), 1473);
    }
}

#[test]
fn case_25_names_that_are_not_on_the_list_are_refused() {
    let mut net = Net::new();
    let to = To::Name("*.example.org".into());
    net.settings.egress = Egress::Rules(vec![Rule { allow: true, to, ports: None, protocol: None }]);
    assert!(net.is_asked("www.example.org"));
    assert_eq!(net.ask("secret.attacker.example", kind::A), (5, vec![], 0));
    assert_eq!(net.ask("web.lab.internal", kind::A).0, 0, "our own names are nobody else's to hear");

    let octets = query("www.example.org", kind::A, IN, None);
    let question = Question::parse(&octets).unwrap();
    let mut answer = Answer::new(&question, Code::NoError, false);
    answer.push(Section::Answer, None, kind::A, 10, &[203, 0, 113, 7]);
    answer.push(Section::Answer, None, kind::A, 300, &[203, 0, 113, 8]);
    let learned = learned(&net.settings, &net.ports, CLIENT, &question, &answer.finish(512), NOW);
    let seen = learned.iter().map(|learned| (learned.address, learned.until.since(NOW).as_secs()));
    assert_eq!(seen.collect::<Vec<_>>(), [([203, 0, 113, 7].into(), 60), ([203, 0, 113, 8].into(), 300)]);

    net.ports.insert(Port { egress: Some(Egress::None), ..net.ports.get(1).unwrap().clone() });
    assert_eq!(net.ask("www.example.org", kind::A), (5, vec![], 0));
}

#[test]
fn aaaa_is_taken_out_only_where_it_is_wanted() {
    let mut net = Net::new();
    let octets = query("example.org", kind::AAAA, IN, None);
    let question = Question::parse(&octets).unwrap();
    let mut answer = Answer::new(&question, Code::NoError, false);
    answer.push(Section::Answer, None, kind::AAAA, 9, &[7; 16]);
    let answer = answer.finish(512);
    assert_eq!(pass_on(&net.settings, &question, answer.clone(), Some(1472)), answer);
    net.settings.subnet6 = None;
    assert_eq!(pass_on(&net.settings, &question, answer.clone(), Some(1472)), answer);
    net.settings.dns.as_mut().unwrap().filter_aaaa = true;
    assert_eq!(pass_on(&net.settings, &question, answer, Some(1472))[3..8], [0x80, 0, 1, 0, 0]);
}

#[test]
fn a_later_version_of_edns_is_answered_for_our_names() {
    let net = Net::new();
    let mut octets = query("web.lab.internal", kind::A, IN, Some(4096));
    let version = octets.len() - 5;
    octets[version] = 1;
    let Verdict::Answer(answer) = net.decide(&octets) else { panic!("it is our name") };
    assert_eq!((answer[3] & 0xf, answer[answer.len() - 6]), (0, 1));
}

proptest::proptest! {
    #[test]
    fn any_octets_get_an_answer_to_the_question_or_none(octets: Vec<u8>, cut: usize, name in "[a-c.]{0,300}") {
        let net = Net::new();
        let whole = query(&format!("{name}.lab.internal"), kind::A, IN, Some(512));
        for octets in [&octets[..], &whole[..cut % (whole.len() + 1)]] {
            if let Verdict::Answer(answer) = net.decide(octets) {
                assert!(answer.len() <= 512 && answer[..2] == octets[..2] && answer[2] & 0x80 != 0);
            }
        }
    }
}
