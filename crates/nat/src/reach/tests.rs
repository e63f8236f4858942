use super::*;

const NOW: Instant = Instant::from_secs(1000);
const GUEST: u16 = 3;

fn plan(egress: Egress) -> Plan {
    let service = |protocol, port, target| Service { protocol, port, target };
    Plan {
        subnet4: Some(Subnet4 { network: Ipv4Addr::new(10, 213, 5, 0), prefix: 24 }),
        subnet6: Some(Subnet6 { network: Ipv6Addr::new(0xfd00, 1, 2, 3, 0, 0, 0, 0) }),
        egress,
        services: vec![
            service(IpProtocol::TCP, 22, Target::Loopback(22)),
            service(IpProtocol::UDP, 53, Target::Loopback(5353)),
            service(IpProtocol::TCP, 8000, Target::Path("/run/x.sock".into())),
        ],
        deny_silently: false,
    }
}

fn reach(egress: Egress) -> Reach {
    let mut reach = Reach::new(plan(egress), [1, 2]);
    reach.set_host_addresses(["192.168.1.10", "2001:db8::10"].map(|address| address.parse().unwrap()));
    reach
}

fn to(text: &str) -> SocketAddr {
    text.parse().unwrap_or_else(|_| panic!("{text} is an address with a port"))
}

fn tcp<'a>(reach: &'a Reach, destination: &str) -> Verdict<'a> {
    reach.decide(GUEST, to(destination), IpProtocol::TCP, NOW)
}

fn is_open(reach: &Reach, destination: &str) -> bool {
    matches!(tcp(reach, destination), Verdict::Connect(_))
}

#[test]
fn case_24_nothing_of_the_host_and_its_links_is_reached() {
    let mut reach = reach(Egress::All);
    for never in [
        "127.0.0.1:22",
        "0.0.0.0:22",
        "0.1.2.3:22",
        "[::1]:22",
        "[::]:22",
        "[::ffff:127.0.0.1]:22",
        "[::ffff:0.0.0.0]:22",
        "[64:ff9b::7f00:1]:22",
        "[64:ff9b::c0a8:10a]:22",
        "[::127.0.0.1]:22",
        "169.254.169.254:80",
        "[64:ff9b::a9fe:a9fe]:80",
        "[fe80::2]:22",
        "[febf::1]:22",
        "240.0.0.1:22",
        "192.168.1.10:22",
        "[2001:db8::10]:22",
        "[::ffff:192.168.1.10]:22",
        "10.213.5.7:22",
        "10.213.5.0:22",
        "[fd00:1:2:3::7]:22",
        "[64:ff9b::10.213.5.1]:22",
        "[64:ff9b::10.213.5.2]:22",
    ] {
        assert_eq!(tcp(&reach, never), Verdict::Deny, "{never}");
    }
    for open in ["192.168.1.11:22", "1.1.1.1:443", "[2001:db8::11]:22", "10.213.6.1:22"] {
        assert_eq!(tcp(&reach, open), Verdict::Connect(to(open)), "{open}");
    }
    let before = reach.generation();
    reach.set_host_addresses(["192.168.1.11".parse().unwrap()]);
    assert!(!is_open(&reach, "192.168.1.11:22") && reach.generation() != before);
}

#[test]
fn case_24_host_services_are_opened_one_by_one() {
    let reach = reach(Egress::None);
    let address = |text| Verdict::Host(HostTarget::Address(to(text)));
    for (destination, verdict) in [
        ("10.213.5.2:22", address("127.0.0.1:22")),
        ("[fd00:1:2:3::2]:22", address("[::1]:22")),
        ("10.213.5.2:8000", Verdict::Host(HostTarget::Path(Path::new("/run/x.sock")))),
        ("10.213.5.2:23", Verdict::Closed),
        ("10.213.5.2:53", Verdict::Closed),
        ("10.213.5.1:53", Verdict::Gateway),
        ("[fd00:1:2:3::1]:53", Verdict::Gateway),
        ("[fe80::1]:53", Verdict::Gateway),
    ] {
        assert_eq!(tcp(&reach, destination), verdict, "{destination}");
    }
    let udp = reach.decide(GUEST, to("10.213.5.2:53"), IpProtocol::UDP, NOW);
    assert_eq!(udp, address("127.0.0.1:5353"));
    assert_eq!(reach.decide(GUEST, to("10.213.5.2:0"), IpProtocol::ICMP, NOW), Verdict::Gateway);
}

#[test]
fn groups_get_no_answer() {
    let reach = reach(Egress::All);
    for group in ["224.0.0.251:53", "255.255.255.255:67", "10.213.5.255:9", "[ff02::1]:53"] {
        assert_eq!(tcp(&reach, group), Verdict::Group, "{group}");
    }
}

#[test]
fn addresses_that_stand_for_ipv4_are_connected_to_over_it() {
    let reach = reach(Egress::All);
    for mapped in ["[64:ff9b::203.0.113.7]:443", "[::ffff:203.0.113.7]:443"] {
        assert_eq!(tcp(&reach, mapped), Verdict::Connect(to("203.0.113.7:443")), "{mapped}");
    }
}

#[test]
fn the_internet_has_no_private_ranges() {
    let reach = reach(Egress::Internet);
    for private in
        ["10.1.1.1:1", "172.31.0.1:1", "192.168.9.1:1", "100.64.0.1:1", "[fd12::1]:1", "[64:ff9b::a01:101]:1"]
    {
        assert_eq!(tcp(&reach, private), Verdict::Deny, "{private}");
    }
    for public in ["172.32.0.1:1", "100.128.0.1:1", "[2001:db8::1]:1"] {
        assert!(is_open(&reach, public), "{public}");
    }
}

fn rule(allow: bool, to: To, ports: Option<RangeInclusive<u16>>) -> Rule {
    Rule { allow, to, ports, protocol: None }
}

#[test]
fn the_first_rule_that_matches_decides() {
    let prefix = |text: &str, bits| To::Prefix(text.parse().unwrap(), bits);
    let mut rules = vec![
        rule(false, prefix("192.168.0.0", 16), None),
        rule(true, prefix("203.0.113.7", 32), Some(22..=22)),
        rule(true, prefix("192.168.7.0", 24), None),
        rule(true, prefix("2001:db8::", 32), None),
    ];
    rules[1].protocol = Some(IpProtocol::TCP);
    let reach = reach(Egress::Rules(rules));
    for (destination, open) in [
        ("192.168.7.1:80", false),
        ("203.0.113.7:22", true),
        ("203.0.113.7:23", false),
        ("203.0.113.8:22", false),
        ("[2001:db8::7]:1", true),
        ("[::ffff:203.0.113.7]:22", true),
    ] {
        assert_eq!(is_open(&reach, destination), open, "{destination}");
    }
    assert_eq!(reach.decide(GUEST, to("203.0.113.7:22"), IpProtocol::UDP, NOW), Verdict::Deny);
}

#[test]
fn case_25_a_name_opens_its_addresses_once_they_are_learnt() {
    let names = vec![rule(true, To::Name("*.example.org".into()), Some(443..=443))];
    let mut reach = reach(Egress::Rules(names));
    let learn = |name, address: &str, ttl| Learned {
        ingress: GUEST,
        name,
        address: address.parse().unwrap(),
        ttl: Duration::from_secs(ttl),
    };
    assert!(!is_open(&reach, "203.0.113.7:443"));
    reach.learn(learn("www.example.org", "203.0.113.7", 5), NOW);
    reach.learn(learn("example.org", "203.0.113.8", 300), NOW);
    reach.learn(learn("www.example.org", "64:ff9b::203.0.113.9", 300), NOW);
    assert!(is_open(&reach, "203.0.113.7:443") && is_open(&reach, "203.0.113.9:443"));
    assert!(!is_open(&reach, "203.0.113.7:80"), "another port");
    assert!(!is_open(&reach, "203.0.113.8:443"), "the domain itself is not below it");
    let other = reach.decide(GUEST + 1, to("203.0.113.7:443"), IpProtocol::TCP, NOW);
    assert_eq!(other, Verdict::Deny, "another guest");
    for (seconds, open) in [(59, true), (60, false)] {
        let later = NOW + Duration::from_secs(seconds);
        let verdict = reach.decide(GUEST, to("203.0.113.7:443"), IpProtocol::TCP, later);
        assert_eq!(matches!(verdict, Verdict::Connect(_)), open, "{seconds}");
    }
    assert!(reach.is_name_open(GUEST, "www.example.org") && reach.is_name_open(GUEST, "a.b.example.org"));
    assert!(!reach.is_name_open(GUEST, "example.org") && !reach.is_name_open(GUEST, "badexample.org"));
    reach.forget_port(GUEST);
    assert!(!is_open(&reach, "203.0.113.7:443"));
}

#[test]
fn lists_without_names_leave_names_open() {
    let any = vec![rule(true, To::Name("a.example".into()), None), rule(true, To::Any, None)];
    let prefix = vec![rule(true, To::Prefix([10, 0, 0, 0].into(), 8), None)];
    let denied = vec![rule(false, To::Name("a.example".into()), None)];
    for (egress, open) in [
        (Egress::All, true),
        (Egress::Internet, true),
        (Egress::None, false),
        (Egress::Rules(any), true),
        (Egress::Rules(prefix), true),
        (Egress::Rules(denied), true),
    ] {
        assert_eq!(reach(egress.clone()).is_name_open(GUEST, "b.example"), open, "{egress:?}");
    }
}

#[test]
fn a_port_is_only_stricter_than_its_network() {
    let mut reach = reach(Egress::Internet);
    reach.set_port_egress(GUEST, Some(Egress::All));
    assert!(!is_open(&reach, "192.168.9.1:1") && is_open(&reach, "1.1.1.1:1"));
    reach.set_port_egress(GUEST, Some(Egress::None));
    assert!(!is_open(&reach, "1.1.1.1:1"));
    let other = reach.decide(GUEST + 1, to("1.1.1.1:1"), IpProtocol::TCP, NOW);
    assert!(matches!(other, Verdict::Connect(_)));
    reach.set_port_egress(GUEST, None);
    assert!(is_open(&reach, "1.1.1.1:1"));
}
