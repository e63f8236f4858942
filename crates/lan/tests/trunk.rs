//! The behaviour of a network with a trunk, case by case: guests G1 and G2 with set addresses, the host H, the wire W.
//! The driver takes everything unless a test says otherwise, so that the whole model shows.

mod support;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use support::{Lan, mac};
use vmlan_frame::{Counters, DropReason, Frame, MacAddr, Sides};
use vmlan_lan::{Diversion, PortConfig, PortError, PortId, TrunkConfig, TrunkNotice, TrunkPolicy};

const HOST: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xaa]);
const ROUTER: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xbb]);
const UNKNOWN: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 0xcc]);

/// A receiver or sender of a frame.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Who {
    /// A guest, counted from 1.
    G(usize),
    /// The host.
    H,
    /// The wire.
    W,
}
use Who::{G, H, W};

struct Trunked {
    lan: Lan,
    guests: Vec<(PortId, Arc<Counters>)>,
    trunk: (PortId, Arc<Counters>),
}

fn policy() -> TrunkPolicy {
    TrunkPolicy { macs: vec![HOST], diversion: Diversion::Everything, ..TrunkPolicy::default() }
}

/// A guest's port with the default of the cases.
fn guest(n: u8) -> PortConfig {
    PortConfig { macs: vec![mac(n)], ..PortConfig::new(format!("G{n}"), Arc::new(Counters::new(1))) }
}

fn trunked() -> Trunked {
    trunked_with(policy(), [guest(1), guest(2)])
}

fn trunked_with(policy: TrunkPolicy, guests: impl IntoIterator<Item = PortConfig>) -> Trunked {
    let lan = Lan::new();
    let trunk = lan.trunk(policy);
    let add = |config: PortConfig| {
        let counters = Arc::clone(config.account.counters());
        (lan.port_with(|port| *port = config).0, counters)
    };
    let guests = guests.into_iter().map(add).collect();
    Trunked { lan, guests, trunk }
}

impl Trunked {
    fn frame(&self, from: Who, destination: MacAddr) -> Frame {
        let source = match from {
            G(n) => mac(n as u8),
            H => HOST,
            W => ROUTER,
        };
        self.lan.frame(destination, source)
    }

    /// Sends a frame from `from`, and returns its receivers.
    fn send(&mut self, from: Who, destination: MacAddr) -> BTreeSet<Who> {
        let frame = self.frame(from, destination);
        self.send_frame(from, frame)
    }

    fn send_frame(&mut self, from: Who, mut frame: Frame) -> BTreeSet<Who> {
        let (id, counters) = match from {
            G(n) => self.guests[n - 1].clone(),
            H | W => self.trunk.clone(),
        };
        frame.meta.sides = match from {
            G(_) => Sides::NONE,
            H => Sides::HOST,
            W => Sides::WIRE,
        };
        self.lan.receive((id, &counters), [frame]);
        let mut got = BTreeSet::new();
        for (port, sides, _) in self.lan.copies_beside() {
            if port == self.trunk.0 {
                assert!(!sides.is_empty(), "a frame in the trunk's queue is for somebody");
                let to = [(H, Sides::HOST), (W, Sides::WIRE)]
                    .into_iter()
                    .filter(|(_, side)| sides.contains(*side));
                to.for_each(|(who, _)| assert!(got.insert(who), "once each"));
            } else {
                assert_eq!(sides, Sides::NONE);
                let n = self.guests.iter().position(|(id, _)| *id == port).unwrap();
                assert!(got.insert(G(n + 1)), "once each");
            }
        }
        assert!(!got.contains(&from), "never back to its source");
        // One claim may be held back.
        let held = usize::from(self.lan.forwarder.due().is_some());
        assert_eq!(self.lan.pool.out(), held, "every buffer comes back");
        got
    }

    fn change(&self, change: impl FnOnce(&mut TrunkPolicy)) {
        let mut policy = policy();
        change(&mut policy);
        self.lan.network.update_trunk(self.trunk.0, policy).unwrap();
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.trunk.1.snapshot().dropped(reason)
    }
}

fn who<const N: usize>(who: [Who; N]) -> BTreeSet<Who> {
    who.into()
}

#[test]
fn case_01_guest_to_guest_only() {
    assert_eq!(trunked().send(G(1), mac(2)), who([G(2)]));
}

#[test]
fn case_02_unknown_to_the_wire_and_ports_without_a_set_address() {
    let mut net = trunked_with(policy(), [guest(1), guest(2), PortConfig { macs: vec![], ..guest(3) }]);
    assert_eq!(net.send(G(1), UNKNOWN), who([G(3), W]));
}

#[test]
fn case_03_guest_to_the_host_only() {
    assert_eq!(trunked().send(G(1), HOST), who([H]));
}

#[test]
fn case_04_broadcast_to_guests_host_and_wire() {
    let mut net = trunked();
    assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), H, W]));
    assert_eq!(net.send(G(1), MacAddr([0x33, 0x33, 0, 0, 0, 1])), who([G(2), H, W]));
}

#[test]
fn case_05_wire_to_a_guest_is_consumed() {
    let mut net = trunked();
    assert_eq!(net.send(W, mac(1)), who([G(1)]));
}

#[test]
fn case_06_wire_to_the_host_passes() {
    let mut net = trunked();
    assert_eq!(net.send(W, HOST), who([H]));
    assert_eq!(net.send(H, ROUTER), who([W]));
}

#[test]
fn case_07_host_to_a_guest_is_consumed() {
    let mut net = trunked();
    assert_eq!(net.send(H, mac(2)), who([G(2)]));
}

#[test]
fn case_08_wire_to_a_guest_with_the_host_promiscuous() {
    let mut net = trunked();
    net.change(|policy| policy.promiscuous = Sides::HOST);
    assert_eq!(net.send(W, mac(1)), who([G(1), H]));
}

#[test]
fn case_09_guest_to_guest_with_the_wire_promiscuous() {
    let mut net = trunked();
    net.change(|policy| policy.promiscuous = Sides::WIRE);
    assert_eq!(net.send(G(1), mac(2)), who([G(2), W]));
}

#[test]
fn case_10_a_promiscuous_port_that_sees_the_trunk_gets_wire_to_host() {
    let spy = PortConfig { promiscuous: true, sees_trunk: true, ..guest(2) };
    let mut net = trunked_with(policy(), [guest(1), spy]);
    assert_eq!(net.send(W, HOST), who([G(2), H]));
    assert_eq!(net.send(H, ROUTER), who([G(2), W]));
}

#[test]
fn case_11_a_promiscuous_port_that_does_not_see_the_trunk() {
    let mut net = trunked_with(policy(), [guest(1), PortConfig { promiscuous: true, ..guest(2) }]);
    assert_eq!(net.send(W, HOST), who([H]));
    assert_eq!(net.send(W, UNKNOWN), who([]));
    assert_eq!(net.send(W, mac(1)), who([G(1), G(2)]));
    assert_eq!(net.send(G(1), HOST), who([G(2), H]));
}

#[test]
fn case_12_host_to_unknown_with_the_wire_disabled_is_dropped() {
    let mut net = trunked();
    net.change(|policy| policy.enabled = Sides::HOST);
    assert_eq!(net.send(H, UNKNOWN), who([]));
    assert_eq!(net.dropped(DropReason::NoReceiver), 1);
    // Nor does anything from the wire get in, or out to it.
    assert_eq!(net.send(W, mac(1)), who([]));
    assert_eq!(net.dropped(DropReason::SideDisabled), 1);
    assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), H]));
    assert_eq!(net.send(G(1), UNKNOWN), who([]));
}

#[test]
fn case_13_the_senders_own_address_goes_nowhere() {
    let mut net = trunked();
    assert_eq!(net.send(G(1), mac(1)), who([]));
    assert_eq!(net.send(H, HOST), who([]));
    assert_eq!(net.send(W, ROUTER), who([]));
    assert_eq!(net.dropped(DropReason::NoDestination), 2);
}

#[test]
fn case_14_thirteen_octets_are_no_frame() {
    let mut net = trunked();
    let runt = net.lan.pool.copy(&[2; 13]).unwrap();
    assert_eq!(net.send_frame(W, runt), who([]));
    assert_eq!(net.dropped(DropReason::Runt), 1);
}

#[test]
fn case_15_an_inactive_guest_gets_nothing_from_the_wire() {
    let mut net = trunked();
    net.lan.network.set_active(net.guests[0].0, false).unwrap();
    assert_eq!(net.send(W, mac(1)), who([]));
    assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), H, W]));
}

#[test]
fn case_16_a_port_without_a_set_address_gets_unknown_from_the_wire_only() {
    let mut net = trunked_with(policy(), [guest(1), guest(2), PortConfig { macs: vec![], ..guest(3) }]);
    assert_eq!(net.send(W, HOST), who([H]));
    assert_eq!(net.send(W, UNKNOWN), who([G(3)]));
}

#[test]
fn case_17_a_full_queue_drops_for_that_port_alone() {
    let mut net = trunked();
    net.lan.egress.set_room(net.trunk.0, 1);
    let frames = [MacAddr::BROADCAST; 2].map(|to| net.frame(G(1), to));
    let (g1, counters) = net.guests[0].clone();
    net.lan.receive((g1, &counters), frames);
    let ports = Vec::from_iter(net.lan.copies_beside().into_iter().map(|(port, ..)| port));
    assert_eq!(ports, [net.guests[1].0, net.guests[1].0, net.trunk.0]);
    assert_eq!(net.dropped(DropReason::QueueFull), 1);
}

#[test]
fn a_driver_that_hands_over_copies_keeps_the_originals_on_their_way() {
    for diversion in [Diversion::Nothing, Diversion::Guests] {
        let spy = PortConfig { promiscuous: true, sees_trunk: true, ..guest(2) };
        let mut net = trunked_with(policy(), [guest(1), spy]);
        net.change(|policy| policy.diversion = diversion);
        for (from, to) in
            [(W, HOST), (H, ROUTER), (W, MacAddr::BROADCAST), (H, UNKNOWN), (H, MacAddr::BROADCAST)]
        {
            let got = net.send(from, to);
            assert!(!got.contains(&H) && !got.contains(&W), "{from:?} to {to}: {got:?}");
        }
        assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), H, W]));
        assert_eq!(net.send(W, mac(1)), who([G(1), G(2)]));
    }
}

#[test]
fn what_was_taken_from_a_promiscuous_side_is_sent_there() {
    let mut net = trunked();
    net.change(|policy| (policy.promiscuous, policy.diversion) = (Sides::BOTH, Diversion::Guests));
    assert_eq!(net.send(W, mac(1)), who([G(1), H]));
    assert_eq!(net.send(H, mac(1)), who([G(1), W]));
    net.change(|policy| (policy.promiscuous, policy.diversion) = (Sides::BOTH, Diversion::Nothing));
    assert_eq!(net.send(W, mac(1)), who([G(1)]));
}

#[test]
fn a_side_out_of_the_drivers_reach_gets_nothing() {
    let mut net = trunked();
    net.change(|policy| policy.reaches = Sides::WIRE);
    assert_eq!(net.send(G(1), HOST), who([]));
    assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), W]));
}

#[test]
fn the_side_is_told_by_the_source_when_the_driver_does_not_know() {
    let mut net = trunked();
    let frames = [HOST, ROUTER].map(|source| net.lan.frame(MacAddr::BROADCAST, source));
    let (id, counters) = net.trunk.clone();
    net.lan.receive((id, &counters), frames);
    let to_trunk = net.lan.copies_beside().into_iter().filter(|(port, ..)| *port == id);
    assert_eq!(Vec::from_iter(to_trunk.map(|(_, sides, _)| sides)), [Sides::WIRE, Sides::HOST]);
}

#[test]
fn the_hosts_address_follows_it() {
    let mut net = trunked();
    net.change(|policy| policy.macs = vec![UNKNOWN]);
    assert_eq!(net.send(G(1), UNKNOWN), who([H]));
    assert_eq!(net.send(G(1), HOST), who([W]));
    net.change(|policy| policy.macs = vec![]);
    assert_eq!(net.send(G(1), UNKNOWN), who([W]));
    assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), H, W]));
}

#[test]
fn stations_on_the_wire_are_learnt() {
    let mut net = trunked_with(policy(), [guest(1), PortConfig { macs: vec![], ..guest(2) }]);
    assert_eq!(net.send(G(1), ROUTER), who([G(2), W]));
    net.send(W, mac(1));
    assert_eq!(net.send(G(1), ROUTER), who([W]));
    // What is between stations on the wire is nobody's business.
    assert_eq!(net.send(W, ROUTER), who([]));
}

#[test]
fn nobody_takes_the_hosts_address_or_a_guests() {
    let mut net = trunked_with(policy(), [guest(1), PortConfig { macs: vec![], ..guest(2) }]);
    let (g2, counters) = net.guests[1].clone();
    assert_eq!(net.lan.receivers((g2, &counters), mac(1), HOST), []);
    assert_eq!(counters.snapshot().dropped(DropReason::SourceGuard), 1);
    for (side, source) in [(W, mac(1)), (W, HOST)] {
        let frame = net.lan.frame(MacAddr::BROADCAST, source);
        assert_eq!(net.send_frame(side, frame), who([]), "{source}");
    }
    assert_eq!(net.dropped(DropReason::SourceGuard), 2);
}

/// Every form in which a guest says that another's address is its own, or hides that it does.
#[test]
fn an_address_is_claimed_in_no_form() {
    use std::net::{Ipv4Addr, Ipv6Addr};
    use support::packets::{advertisement, arp, arp_request, solicitation};
    use vmlan_frame::wire::ArpOperation;

    let ip4 = |n| Ipv4Addr::new(10, 0, 0, n);
    let ip6 = |n| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n);
    let all = (MacAddr([0x33, 0x33, 0, 0, 0, 1]), "ff02::1".parse().unwrap());
    let conflict = DropReason::AddressConflict;
    let unclear = DropReason::UnclearClaim;
    // The address of guest 1, and that of the host.
    for n in [1, 200] {
        let (own, theirs) = ((mac(2), ip4(2)), (mac(2), ip4(n)));
        let tagged = |frame: Vec<u8>, tags: &[u8]| [&frame[..12], tags, &frame[12..]].concat();
        let service = |frame| tagged(frame, &[0x88, 0xa8, 0, 0]);
        let mut foreign = arp_request(theirs, ip4(9));
        foreign[22..28].copy_from_slice(&mac(7).0);
        let mut ieee = arp_request(theirs, ip4(9));
        ieee[15] = 6;
        let llc = {
            let claim = arp_request(theirs, ip4(9));
            let header = [0, 36, 0xaa, 0xaa, 3, 0, 0, 0];
            [&claim[..12], &header, &claim[12..]].concat()
        };
        let announcement = advertisement(all, (mac(2), ip6(2)), ip6(n.into()), mac(2));
        let forms: Vec<(&str, Vec<u8>, DropReason)> = vec![
            ("a request", arp_request(theirs, ip4(9)), conflict),
            ("an announcement", arp_request(theirs, theirs.1), conflict),
            ("a reply", arp(mac(1), ArpOperation::REPLY, theirs, (mac(1), ip4(9))), conflict),
            ("another's hardware address", foreign, unclear),
            ("another hardware type", ieee, unclear),
            ("ARP in LLC", llc, unclear),
            ("ARP behind a service priority tag", service(arp_request(theirs, ip4(9))), unclear),
            ("a solicitation", solicitation((mac(2), ip6(n.into())), ip6(9)), conflict),
            ("an advertisement", announcement.clone(), conflict),
            ("one behind a service priority tag", service(announcement), unclear),
            ("one for another's address", advertisement(all, (mac(2), ip6(2)), ip6(2), mac(1)), unclear),
        ];
        for (form, octets, reason) in forms {
            let mut net = trunked();
            net.lan.network.add_host_address(ip4(200).into());
            net.lan.network.add_host_address(ip6(200).into());
            let frame = |net: &Trunked, octets: &[u8]| net.lan.pool.copy(octets).unwrap();
            for honest in [arp_request((mac(1), ip4(1)), ip4(9)), solicitation((mac(1), ip6(1)), ip6(9))] {
                let frame = frame(&net, &honest);
                assert_eq!(net.send_frame(G(1), frame), who([G(2), H, W]));
            }
            let claim = frame(&net, &octets);
            // A guest is asked, and answers; the host need not be.
            let is_asked = n == 1 && reason == conflict;
            let asked = if is_asked { who([G(1)]) } else { who([]) };
            assert_eq!(net.send_frame(G(2), claim), asked, "{form} for {n}");
            if is_asked {
                for answer in [arp_request((mac(1), ip4(1)), ip4(9)), solicitation((mac(1), ip6(1)), ip6(9))]
                {
                    let answer = frame(&net, &answer);
                    net.send_frame(G(1), answer);
                }
                net.lan.decide();
            }
            assert_eq!(net.guests[1].1.snapshot().dropped(reason), 1, "{form} for {n}");
            let honest = frame(&net, &arp_request(own, ip4(9)));
            assert_eq!(net.send_frame(G(2), honest), who([G(1), H, W]), "{form} for {n}");
            // The wire may speak for others.
            let mut wires = octets.clone();
            wires[6..12].copy_from_slice(&ROUTER.0);
            let wires = frame(&net, &wires);
            assert!(!net.send_frame(W, wires).is_empty(), "{form} for {n}");
        }
    }
}

/// A guest without a set address, and one that has the gateway's.
#[test]
fn the_gateways_address_stays_on_the_wire() {
    let ports = [guest(1), PortConfig { macs: vec![], ..guest(2) }];
    let mut net = trunked_with(policy(), ports);
    net.send(W, mac(1));
    let forged = net.lan.frame(mac(1), ROUTER);
    assert_eq!(net.send_frame(G(2), forged), who([]));
    assert_eq!(net.guests[1].1.snapshot().dropped(DropReason::Contested), 1);
    let (port, claimant) = (net.trunk.0, net.guests[1].0);
    let contested = vmlan_lan::Event::Contested { mac: ROUTER, vlan: None, port, claimant };
    assert_eq!(net.lan.network.events().events.last(), Some(&contested));
    assert_eq!(net.send(G(1), ROUTER), who([W]));

    // After ten seconds of silence it may be a guest that migrated; the gateway comes back with its first frame.
    net.lan.now = net.lan.now + std::time::Duration::from_secs(10);
    let forged = net.lan.frame(mac(1), ROUTER);
    assert_eq!(net.send_frame(G(2), forged), who([G(1)]));
    net.send(W, MacAddr::BROADCAST);
    assert_eq!(net.send(G(1), ROUTER), who([W]));
    net.lan.now = net.lan.now + std::time::Duration::from_secs(200);
    let forged = net.lan.frame(mac(1), ROUTER);
    assert_eq!(net.send_frame(G(2), forged), who([]));
    assert_eq!(net.send(G(1), ROUTER), who([W]));
}

#[test]
fn a_guest_that_had_the_gateways_address_first_loses_it() {
    let mut net = trunked_with(policy(), [guest(1), PortConfig { macs: vec![], ..guest(2) }]);
    let forged = net.lan.frame(mac(1), ROUTER);
    assert_eq!(net.send_frame(G(2), forged), who([G(1)]));
    // A group frame may be the guest's own that something reflects.
    assert_eq!(net.send(W, MacAddr::BROADCAST), who([]));
    assert_eq!(net.dropped(DropReason::Contested), 1);
    assert_eq!(net.send(W, mac(1)), who([G(1)]));
    assert_eq!(net.send(G(1), ROUTER), who([W]));
    let forged = net.lan.frame(mac(1), ROUTER);
    assert_eq!(net.send_frame(G(2), forged), who([]));
}

#[test]
fn refused_changes() {
    let net = trunked();
    let network = &net.lan.network;
    let config = |macs| TrunkConfig {
        name: "second".into(),
        policy: TrunkPolicy { macs, ..policy() },
        notify: Arc::new(|_| {}),
        account: Arc::new(Counters::new(1)).into(),
    };
    let taken = PortError::TrunkTaken { port: "second".into(), trunk: "trunk".into() };
    assert_eq!(network.add_trunk(config(vec![])), Err(taken));
    let error =
        network.update_trunk(net.trunk.0, TrunkPolicy { macs: vec![mac(1)], ..policy() }).unwrap_err();
    assert_eq!(
        error.to_string(),
        "port trunk: 52:54:00:00:00:01 is already set for port G1; give each port its own address"
    );
    let port = network.add_port(PortConfig { macs: vec![HOST], ..guest(3) }).unwrap_err();
    assert_eq!(port, PortError::MacTaken { port: "G3".into(), mac: HOST, owner: "trunk".into() });
    assert!(matches!(network.update_trunk(net.guests[0].0, policy()), Err(PortError::OtherKind { .. })));
    let guest = vmlan_lan::PortPolicy::default();
    assert!(matches!(network.update_port(net.trunk.0, guest), Err(PortError::OtherKind { .. })));
    assert!(network.remove_port(net.trunk.0));
    assert_eq!(network.trunk(), None);
    assert!(network.add_trunk(config(vec![mac(1)])).is_err());
    network.add_trunk(config(vec![HOST])).unwrap();
}

#[test]
fn the_first_guest_wants_the_trunk_and_the_last_one_no_more() {
    let lan = Lan::new();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let notify = move |notice| {
        count.fetch_add(usize::from(notice == TrunkNotice::Wanted), SeqCst);
    };
    let counters = Arc::new(Counters::new(1));
    let config = TrunkConfig {
        name: "trunk".into(),
        policy: policy(),
        notify: Arc::new(notify),
        account: counters.into(),
    };
    let trunk = lan.network.add_trunk(config).unwrap();
    lan.network.set_active(trunk, true).unwrap();
    assert!(!lan.network.is_trunk_wanted());
    let ports = [lan.port(&[mac(1)]).0, lan.port(&[mac(2)]).0];
    assert_eq!((lan.network.is_trunk_wanted(), told.load(SeqCst)), (true, 1));
    lan.network.set_active(ports[0], false).unwrap();
    assert_eq!((lan.network.is_trunk_wanted(), told.load(SeqCst)), (true, 1));
    lan.network.remove_port(ports[1]);
    assert_eq!((lan.network.is_trunk_wanted(), told.load(SeqCst)), (false, 2));
}

#[test]
fn the_driver_is_told_which_addresses_to_divert() {
    let mut lan = Lan::new();
    let told = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&told);
    let notify = move |notice| {
        count.fetch_add(usize::from(notice == TrunkNotice::Stations), SeqCst);
    };
    let counters = Arc::new(Counters::new(1));
    let config = TrunkConfig {
        name: "trunk".into(),
        policy: policy(),
        notify: Arc::new(notify),
        account: counters.into(),
    };
    let trunk = lan.network.add_trunk(config).unwrap();
    lan.network.set_active(trunk, true).unwrap();
    let changes = || told.swap(0, SeqCst) > 0;
    assert!(!changes());

    let (g1, _) = lan.port(&[mac(1)]);
    assert!(changes());
    let (g2, c2) = lan.port(&[]);
    lan.receivers((g2, &c2), mac(9), mac(2));
    assert!(changes());
    let stations = lan.network.stations();
    assert_eq!(Vec::from_iter(stations.iter().map(|s| (s.mac, s.port))), [(mac(1), g1), (mac(2), g2)]);

    // A station on the wire is none of them.
    let frame = lan.frame(mac(1), ROUTER);
    lan.receive((trunk, &Counters::new(1)), [frame]);
    assert!(!changes());
    lan.network.remove_port(g2);
    assert!(changes());
    lan.network.age(lan.now);
    assert!(!changes());
    assert_eq!(lan.network.stations().len(), 1);
}

#[test]
fn case_28_a_trunk_that_is_lost_twice_comes_back_twice() {
    let mut net = trunked();
    let (id, _) = net.trunk;
    net.send(W, mac(1));
    for _ in 0..2 {
        net.lan.network.set_active(id, false).unwrap();
        assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2)]));
        assert_eq!(net.send(G(1), ROUTER), who([]));
        net.lan.network.set_active(id, true).unwrap();
        assert_eq!(net.send(G(1), MacAddr::BROADCAST), who([G(2), H, W]));
        assert_eq!(net.send(G(1), ROUTER), who([W]));
        assert_eq!(net.send(W, mac(1)), who([G(1)]));
    }
    for _ in 0..2 {
        assert!(net.lan.network.remove_port(net.trunk.0));
        assert_eq!(net.send(G(1), HOST), who([]));
        net.trunk = net.lan.trunk(policy());
        assert_eq!(net.send(G(1), HOST), who([H]));
    }
}
