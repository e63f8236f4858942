use std::time::Duration;

use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::Egress;

use super::message::tests::{MAC, message};
use super::*;
use crate::settings::{Boot, Dns};
use crate::{Name, packet};

pub(crate) fn settings() -> Settings {
    Settings {
        mac: MacAddr([0x52, 0x54, 0, 0xff, 0, 1]),
        mtu: 1500,
        subnet: Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 },
        subnet6: Some(Subnet6 { network: "fd00:1:2:5::".parse().unwrap() }),
        router: true,
        ipv6_only: false,
        identity: [7; 16],
        dhcp: Some(Dhcp {
            pool: [10, 213, 5, 16].into()..=[10, 213, 5, 250].into(),
            lease: 3600,
            ntp: vec![],
            routes: vec![],
            boot: Boot::default(),
        }),
        dns: Some(Dns {
            domain: Name::parse("lab.internal").unwrap(),
            search: vec![],
            host: false,
            filter_aaaa: false,
        }),
        egress: Egress::All,
    }
}

fn port(ingress: u16, name: &str) -> Port {
    Port { ingress, name: name.into(), mac: None, addresses: vec![], egress: None, up: true }
}

fn mac(number: u8) -> MacAddr {
    MacAddr([0x52, 0x54, 0, 0, 0, number])
}

/// A server, its ports `web` (1) and `db` (2), and a made-up clock.
struct Net {
    settings: Settings,
    ports: Ports,
    leases: Leases,
    server: Server,
    now: Instant,
    wall: u64,
}

impl Net {
    fn new() -> Net {
        let mut ports = Ports::default();
        ports.replace([port(1, "web"), port(2, "db")]);
        Net {
            settings: settings(),
            ports,
            leases: Leases::default(),
            server: Server::default(),
            now: Instant::from_secs(100),
            wall: 1_700_000_000,
        }
    }

    fn with_pool(first: u8, last: u8) -> Net {
        let mut net = Net::new();
        net.dhcp().pool = [10, 213, 5, first].into()..=[10, 213, 5, last].into();
        net
    }

    fn dhcp(&mut self) -> &mut Dhcp {
        self.settings.dhcp.as_mut().unwrap()
    }

    fn pass(&mut self, seconds: u64) -> Vec<Event> {
        self.now = self.now + Duration::from_secs(seconds);
        self.wall += seconds;
        self.leases.expire(self.wall)
    }

    fn send(
        &mut self,
        (ingress, mac): (u16, MacAddr),
        kind: u8,
        ciaddr: Ipv4Addr,
        options: &[(u8, &[u8])],
    ) -> Result<Outcome, Refusal> {
        let octets = message(mac, kind, ciaddr, options);
        let from = Client { ingress, mac };
        self.server.handle(
            (&self.settings, &self.ports, &mut self.leases),
            from,
            &octets,
            self.now,
            self.wall,
        )
    }

    fn discover(&mut self, from: (u16, MacAddr), options: &[(u8, &[u8])]) -> Option<Ipv4Addr> {
        let outcome = self.send(from, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, options).ok()?;
        Some(yiaddr(&outcome.reply?))
    }

    /// Offers and binds.
    fn join(&mut self, from: (u16, MacAddr), options: &[(u8, &[u8])]) -> Ipv4Addr {
        let address = self.discover(from, options).expect("an offer");
        let (octets, gateway) = (address.octets(), self.settings.gateway().octets());
        let asked = [&[(50, &octets[..]), (54, &gateway[..])], options].concat();
        let outcome = self.send(from, kind::REQUEST, Ipv4Addr::UNSPECIFIED, &asked).expect("an answer");
        assert!(outcome.binds && outcome.bound == Some(address));
        let reply = outcome.reply.expect("an answer");
        assert_eq!((kind_of(&reply), yiaddr(&reply)), (kind::ACK, address));
        address
    }

    fn reboot(&mut self, from: (u16, MacAddr), address: [u8; 4]) -> Reply {
        self.send(from, kind::REQUEST, Ipv4Addr::UNSPECIFIED, &[(50, &address)]).unwrap().reply.unwrap()
    }
}

fn yiaddr(reply: &Reply) -> Ipv4Addr {
    Ipv4Addr::from_octets(reply.message[16..20].try_into().unwrap())
}

/// The options of an answer, one by one.
fn options(message: &[u8]) -> Vec<(u8, &[u8])> {
    let mut rest = &message[240..];
    let mut found = Vec::new();
    while rest[0] != 255 {
        let (value, behind) = rest[2..].split_at(usize::from(rest[1]));
        found.push((rest[0], value));
        rest = behind;
    }
    found
}

fn option_of(reply: &Reply, number: u8) -> Option<&[u8]> {
    options(&reply.message).into_iter().find(|(known, _)| *known == number).map(|(_, value)| value)
}

fn kind_of(reply: &Reply) -> u8 {
    option_of(reply, 53).unwrap()[0]
}

const WEB: (u16, MacAddr) = (1, MAC);

#[test]
fn case_42_an_offer_to_the_octet() {
    let mut net = Net::new();
    let asked: &[u8] = &[1, 28, 2, 3, 15, 6, 119, 12, 44, 47, 26, 121, 42];
    let options_of_dhclient: &[(u8, &[u8])] = &[(61, &[255, 1, 2, 3]), (55, asked), (12, b"guest")];
    let outcome = net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, options_of_dhclient).unwrap();
    assert!(!outcome.binds && outcome.events.is_empty());
    let reply = outcome.reply.unwrap();
    let address = yiaddr(&reply);

    assert_eq!((reply.to, reply.destination), (MAC, address));
    assert_eq!(reply.message[..12], [2, 1, 6, 0, 0x12, 0x34, 0x56, 0x78, 0, 0, 0, 0]);
    assert_eq!(reply.message[28..34], MAC.0);
    assert_eq!(
        options(&reply.message),
        [
            (53, &[kind::OFFER][..]),
            (54, &[10, 213, 5, 1]),
            (61, &[255, 1, 2, 3]),
            (51, &3600_u32.to_be_bytes()),
            (58, &1800_u32.to_be_bytes()),
            (59, &3150_u32.to_be_bytes()),
            (1, &[255, 255, 255, 0]),
            (3, &[10, 213, 5, 1]),
            (6, &[10, 213, 5, 1]),
            (28, &[10, 213, 5, 255]),
            (15, b"lab.internal"),
            (119, b"\x03lab\x08internal\0"),
            (12, b"web"),
            (26, &1500_u16.to_be_bytes()),
            (121, &[0, 10, 213, 5, 1]),
        ]
    );
    let frame = reply.frame(&net.settings).unwrap();
    let Some(packet::Packet::Udp { from: 67, to: 68, payload, addresses, .. }) =
        packet::Packet::parse(&frame)
    else {
        panic!("the frame is read back");
    };
    assert_eq!((payload, addresses.destination()), (&reply.message[..], address.into()));
    assert_eq!(frame[..6], MAC.0);
}

#[test]
fn a_short_answer_is_padded_and_broadcast_is_respected() {
    let mut net = Net::new();
    let mut octets = message(MAC, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[]);
    octets[10] = 0x80;
    let from = Client { ingress: 1, mac: MAC };
    let parts = (&net.settings, &net.ports, &mut net.leases);
    let reply = net.server.handle(parts, from, &octets, net.now, net.wall).unwrap().reply.unwrap();

    assert_eq!(reply.message.len(), 300);
    assert_eq!((reply.to, reply.destination), (MacAddr::BROADCAST, Ipv4Addr::BROADCAST));
    assert_eq!(reply.message[10], 0x80);
}

#[test]
fn case_39_option_121_has_the_default_route_again() {
    let octets = options::routes(&[([10, 0, 0, 0].into(), 8)], [10, 213, 5, 1].into());
    assert_eq!(octets, [0x08, 0x0a, 0x0a, 0xd5, 0x05, 0x01, 0x00, 0x0a, 0xd5, 0x05, 0x01]);
    assert_eq!(octets.len(), 0x0b);
}

#[test]
fn case_40_option_119_is_compressed_as_written() {
    let mut net = Net::new();
    net.settings.dns.as_mut().unwrap().search = vec![Name::parse("corp.internal").unwrap()];
    let outcome = net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[(55, &[119])]).unwrap();
    let reply = outcome.reply.unwrap();
    assert_eq!(option_of(&reply, 119), Some(&b"\x03lab\x08internal\0\x04corp\xc0\x04"[..]));
}

#[test]
fn long_options_are_cut_in_parts_and_large_answers_at_what_the_client_takes() {
    let mut net = Net::new();
    let names = (0..8).map(|n| Name::parse(&format!("{}.example{n}", "x".repeat(40))).unwrap());
    net.settings.dns.as_mut().unwrap().search = names.collect();
    let small = net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[(55, &[119, 26])]).unwrap();
    let small = small.reply.unwrap();
    assert_eq!((option_of(&small, 119), option_of(&small, 26)), (None, Some(&[5, 0xdc][..])));

    let size = 1400_u16.to_be_bytes();
    let large = net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[(57, &size), (55, &[119])]).unwrap();
    let large = large.reply.unwrap();
    let parts = Vec::from_iter(
        options(&large.message).into_iter().filter(|(number, _)| *number == 119).map(|(_, v)| v.len()),
    );
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0], 255);
}

#[test]
fn case_43_the_same_client_gets_the_same_address_after_a_restart() {
    let mut net = Net::new();
    let (first, second) = (net.join(WEB, &[]), net.join((2, mac(2)), &[]));
    net.leases = Leases::from_json(&net.leases.to_json()).unwrap();

    assert_ne!(first, second);
    assert_eq!(kind_of(&net.reboot(WEB, first.octets())), kind::ACK);
    assert_eq!(kind_of(&net.reboot((2, mac(3)), first.octets())), kind::NAK);
    assert_eq!(net.discover((2, mac(2)), &[(50, &first.octets())]), Some(second));
}

#[test]
fn case_44_a_lost_file_is_made_up_for_by_init_reboot() {
    let mut net = Net::new();
    let address = net.join(WEB, &[]);
    net.leases = Leases::default();
    assert_eq!(kind_of(&net.reboot(WEB, address.octets())), kind::ACK);
    assert_eq!(net.leases.get(address).unwrap().state, State::Bound);
}

#[test]
fn case_45_a_pool_of_two_and_three_clients() {
    let mut net = Net::with_pool(16, 17);
    let (first, _) = (net.join(WEB, &[]), net.join((1, mac(2)), &[]));
    let outcome = net.send((2, mac(3)), kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[]).unwrap();
    assert_eq!(outcome.reply, None);
    assert_eq!(outcome.events, [Event::PoolExhausted { mac: mac(3), port: "db".into() }]);

    let released = net.send(WEB, kind::RELEASE, first, &[]).unwrap();
    assert!(released.binds && matches!(released.events[..], [Event::LeaseExpired { .. }]));
    assert_eq!(net.join((2, mac(3)), &[]), first);
}

#[test]
fn case_46_an_address_of_elsewhere_is_refused_by_broadcast() {
    let mut net = Net::new();
    let reply = net.reboot(WEB, [192, 168, 1, 7]);
    assert_eq!(kind_of(&reply), kind::NAK);
    assert_eq!((reply.to, reply.destination), (MacAddr::BROADCAST, Ipv4Addr::BROADCAST));
    assert_eq!(options(&reply.message).iter().map(|(n, _)| *n).collect::<Vec<_>>(), [53, 54, 56]);
    for address in [[10, 213, 5, 0], [10, 213, 5, 1], [10, 213, 5, 2], [10, 213, 5, 255], [10, 213, 5, 9]] {
        assert_eq!(kind_of(&net.reboot(WEB, address)), kind::NAK, "{address:?}");
    }
}

#[test]
fn case_47_a_declined_address_is_set_aside() {
    let mut net = Net::with_pool(16, 17);
    let first = net.join(WEB, &[]);
    let outcome = net.send(WEB, kind::DECLINE, Ipv4Addr::UNSPECIFIED, &[(50, &first.octets())]).unwrap();
    let event = Event::AddressConflict { address: first.into(), mac: MAC, port: "web".into() };
    assert_eq!(outcome, Outcome { binds: true, events: vec![event], ..Outcome::default() });

    let other = net.join(WEB, &[]);
    assert_ne!(other, first);
    net.pass(599);
    assert_eq!(net.discover((2, mac(2)), &[]), None);
    net.pass(1);
    assert_eq!(net.discover((2, mac(2)), &[]), Some(first));
    let stranger = net.send((2, mac(9)), kind::DECLINE, Ipv4Addr::UNSPECIFIED, &[(50, &other.octets())]);
    assert_eq!(stranger, Err(Refusal::NotTheirs));
}

#[test]
fn case_48_one_client_identifier_at_two_ports_is_two_clients() {
    let mut net = Net::new();
    let machine: &[(u8, &[u8])] = &[(61, &[255, 9, 9, 9])];
    let (first, second) = (net.join(WEB, machine), net.join((2, mac(2)), machine));
    assert_ne!(first, second);
    assert_eq!((net.join(WEB, machine), net.join((2, mac(2)), machine)), (first, second));

    // A machine that moved: its port is gone.
    let mut net = Net::new();
    let first = net.join(WEB, machine);
    net.ports.down(1);
    assert_eq!(net.join((2, mac(2)), machine), first);
    assert_eq!(net.leases.count("web"), 0);
}

#[test]
fn case_49_a_flood_from_one_port_leaves_others_their_leases() {
    let mut net = Net::new();
    let victim = net.join((2, mac(2)), &[]);
    let mut refused = 0;
    for second in 0..10_u8 {
        for number in 0..100_u8 {
            let from = (1, MacAddr([2, 0, 0, 0, second, number]));
            let outcome = net.send(from, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[]);
            refused += usize::from(outcome == Err(Refusal::Rate));
        }
        net.pass(1);
        let renewed = net.send((2, mac(2)), kind::REQUEST, victim, &[]).unwrap().reply.unwrap();
        assert_eq!(kind_of(&renewed), kind::ACK);
        assert!(net.leases.count("web") <= MOST_EACH);
    }
    assert!(refused >= 480, "{refused}");
    assert_eq!(net.leases.count("web"), MOST_EACH);
}

#[test]
fn case_50_a_set_address_is_the_ports_and_nobody_elses() {
    let mut net = Net::new();
    let set = Ipv4Addr::new(10, 213, 5, 20);
    let addresses = vec![IpAddr::V4(set), "fd00:1:2:5::10".parse().unwrap()];
    net.ports.insert(Port { mac: Some(MAC), addresses, ..port(1, "web") });

    assert_eq!(kind_of(&net.reboot((2, mac(2)), set.octets())), kind::NAK);
    assert_ne!(net.discover((2, mac(2)), &[(50, &set.octets())]), Some(set));
    assert_ne!(net.discover((1, mac(3)), &[]), Some(set), "another machine at the port");
    assert_eq!(net.join(WEB, &[(61, &[255, 1])]), set);
    assert_eq!(net.join(WEB, &[(61, &[255, 2])]), set, "the same machine under another system");
    assert_eq!(net.leases.get(set).unwrap().until - net.wall, 12 * 3600);
    assert_eq!(kind_of(&net.reboot(WEB, [10, 213, 5, 30])), kind::NAK);
    net.ports.down(1);
    assert_eq!(kind_of(&net.reboot((2, mac(2)), set.octets())), kind::NAK);
}

#[test]
fn renewal_is_sent_to_the_address_and_refused_when_another_has_it() {
    let mut net = Net::new();
    let address = net.join(WEB, &[]);
    net.pass(1800);
    let outcome = net.send(WEB, kind::REQUEST, address, &[]).unwrap();
    let reply = outcome.reply.unwrap();
    assert_eq!((kind_of(&reply), reply.to, reply.destination), (kind::ACK, MAC, address));
    assert!(outcome.binds && outcome.events.is_empty(), "a renewal is no new lease");
    assert_eq!(net.leases.get(address).unwrap().until, net.wall + 3600);

    let other = net.send((2, mac(2)), kind::REQUEST, address, &[]).unwrap().reply.unwrap();
    assert_eq!(kind_of(&other), kind::NAK);
}

#[test]
fn a_lease_that_ran_out_is_kept_for_its_client_until_the_rest_is_used() {
    let mut net = Net::with_pool(16, 18);
    let first = net.join(WEB, &[]);
    let events = net.pass(3600);
    assert_eq!(events, [Event::LeaseExpired { address: first, mac: MAC, port: "web".into() }]);
    assert!(net.join((2, mac(2)), &[]) != first && net.join((2, mac(3)), &[]) != first);
    assert_eq!(net.join(WEB, &[]), first, "its own again");
    net.pass(1800);
    net.send(WEB, kind::RELEASE, first, &[]).unwrap();
    assert_eq!(net.join((2, mac(4)), &[]), first, "nothing else is left");
}

#[test]
fn offers_are_held_for_half_a_minute() {
    let mut net = Net::with_pool(16, 16);
    let first = net.discover(WEB, &[]).unwrap();
    net.pass(29);
    assert_eq!(net.discover((2, mac(2)), &[]), None);
    net.pass(1);
    assert_eq!(net.discover((2, mac(2)), &[]), Some(first));
    let other =
        net.send((2, mac(2)), kind::REQUEST, Ipv4Addr::UNSPECIFIED, &[(50, &first.octets()), (54, &[9; 4])]);
    assert_eq!(other, Err(Refusal::OtherServer));
    assert_eq!(net.discover(WEB, &[]), Some(first), "the offer is forgotten");
}

#[test]
fn addresses_in_use_are_not_offered() {
    let mut net = Net::with_pool(16, 17);
    let used = Ipv4Addr::new(10, 213, 5, 16);
    net.leases.heard_mut().note(used.into(), Client { ingress: 2, mac: mac(9) }, net.now);
    assert_eq!(net.discover(WEB, &[(50, &used.octets())]), Some([10, 213, 5, 17].into()));
    assert_eq!(kind_of(&net.reboot(WEB, used.octets())), kind::NAK);
    assert_eq!(kind_of(&net.reboot((2, mac(9)), used.octets())), kind::ACK, "its user may have it");
}

#[test]
fn rapid_commit_and_inform() {
    let mut net = Net::new();
    let outcome = net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[(80, &[])]).unwrap();
    let reply = outcome.reply.unwrap();
    assert!(outcome.binds && kind_of(&reply) == kind::ACK && option_of(&reply, 80) == Some(&[]));

    let outcome = net.send((2, mac(2)), kind::INFORM, [10, 213, 5, 9].into(), &[(55, &[15])]).unwrap();
    let reply = outcome.reply.unwrap();
    assert_eq!((kind_of(&reply), yiaddr(&reply)), (kind::ACK, Ipv4Addr::UNSPECIFIED));
    assert_eq!(reply.destination, Ipv4Addr::new(10, 213, 5, 9));
    assert_eq!((option_of(&reply, 51), option_of(&reply, 15)), (None, Some(&b"lab.internal"[..])));
}

#[test]
fn boot_files_by_architecture_and_for_ipxe() {
    let mut net = Net::new();
    net.dhcp().boot = Boot {
        server: Some("10.213.5.2".into()),
        file: Some("undionly.kpxe".into()),
        architectures: vec![(7, "ipxe.efi".into())],
        ipxe: Some("http://10.213.5.2/boot.ipxe".into()),
        ipxe_options: vec![176, 1, 1],
        ..Boot::default()
    };
    let mut ask = |options: &[(u8, &[u8])]| {
        let options = [&[(55, &[66, 67, 175][..])], options].concat();
        net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &options).unwrap().reply.unwrap()
    };
    let plain = ask(&[(93, &[0, 0])]);
    assert_eq!(option_of(&plain, 67), Some(&b"undionly.kpxe"[..]));
    assert_eq!(option_of(&plain, 66), Some(&b"10.213.5.2"[..]));
    assert_eq!(option_of(&plain, 175), Some(&[176, 1, 1][..]));
    assert_eq!(plain.message[20..24], [10, 213, 5, 2]);
    assert_eq!(plain.message[108..122], *b"undionly.kpxe\0");
    assert_eq!(option_of(&ask(&[(93, &[0, 7])]), 67), Some(&b"ipxe.efi"[..]));
    assert_eq!(option_of(&ask(&[(77, b"iPXE")]), 67), Some(&b"http://10.213.5.2/boot.ipxe"[..]));
    let http = ask(&[(60, b"HTTPClient:Arch:00016:UNDI:003001")]);
    assert_eq!(option_of(&http, 60), Some(&b"HTTPClient"[..]));
}

#[test]
fn settings_that_change_what_is_told() {
    let mut net = Net::new();
    net.settings.router = false;
    net.settings.ipv6_only = true;
    net.dhcp().ntp = vec![[10, 213, 5, 2].into(), "fd00::2".parse().unwrap()];
    let asked: &[(u8, &[u8])] = &[(55, &[108, 42, 121])];
    let reply = net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, asked).unwrap().reply.unwrap();
    assert_eq!((option_of(&reply, 3), option_of(&reply, 121)), (None, None));
    assert_eq!(option_of(&reply, 108), Some(&1800_u32.to_be_bytes()[..]));
    assert_eq!(option_of(&reply, 42), Some(&[10, 213, 5, 2][..]));
    net.settings.dhcp = None;
    assert_eq!(net.send(WEB, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[]), Err(Refusal::OtherServer));
}

#[test]
fn anothers_link_address_is_not_answered() {
    let mut net = Net::new();
    let octets = message(MAC, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, &[]);
    let from = Client { ingress: 1, mac: mac(9) };
    let parts = (&net.settings, &net.ports, &mut net.leases);
    assert_eq!(net.server.handle(parts, from, &octets, net.now, net.wall), Err(Refusal::Hardware));
}

#[test]
fn a_full_table_gives_up_what_ended_first() {
    let mut net = Net::new();
    net.settings.subnet = Subnet4 { network: [10, 0, 0, 0].into(), prefix: 8 };
    net.dhcp().pool = [10, 1, 0, 0].into()..=[10, 1, 255, 255].into();
    for number in 0..crate::leases::MOST as u32 {
        let address = Ipv4Addr::from_bits(0x0a01_0000 + number);
        let ended = Lease {
            address,
            mac: mac(9),
            client: address.octets().to_vec(),
            port: format!("old{}", number / 64),
            name: None,
            since: 0,
            until: 1000 + u64::from(number ^ 5),
            state: State::Ended,
            set: false,
            held: 0,
        };
        net.leases.put(ended);
    }
    net.join(WEB, &[]);
    assert_eq!(net.leases.iter().count(), crate::leases::MOST);
    assert_eq!(net.leases.get([10, 1, 0, 5].into()), None, "the one that ended first");
}

proptest::proptest! {
    #[test]
    fn any_options_are_answered_or_refused(kind in 0_u8..10, options: Vec<(u8, Vec<u8>)>, ciaddr: [u8; 4]) {
        let mut net = Net::new();
        let sent = options.iter().map(|(number, value)| (*number, &value[..value.len().min(255)]));
        let sent = Vec::from_iter(sent);
        if let Ok(Outcome { reply: Some(reply), .. }) = net.send(WEB, kind, ciaddr.into(), &sent) {
            assert!((300..=1472).contains(&reply.message.len()));
            assert_eq!(super::tests::options(&reply.message)[0].0, 53);
        }
    }
}
