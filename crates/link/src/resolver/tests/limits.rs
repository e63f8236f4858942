//! Bounds under floods, and the property that they always hold.

use proptest::prelude::*;

use super::*;

fn target(i: u32) -> String {
    format!("10.0.{}.{}", i / 200, i % 200 + 2)
}

/// A host on 10.0.0.0/16 with little room.
fn small(neighbours: usize) -> Host {
    let options = Options {
        neighbours,
        waiting: 10,
        waiting_octets: 100,
        requests_per_second: 4,
        detect_duplicates: false,
        ..Options::default()
    };
    let mut host = Host::with(options);
    host.resolver.add_address(ip("10.0.255.1"), 16, host.now).unwrap();
    assert_eq!(host.announced(), 2);
    host
}

/// Packets that waited and wait no longer.
fn accounted(statistics: &Statistics) -> u64 {
    let Statistics { sent, unanswered, replaced, displaced, no_buffer, .. } = *statistics;
    sent + unanswered + replaced + displaced + no_buffer
}

#[test]
fn the_oldest_packet_of_a_neighbour_goes_first() {
    let mut host = Host::new();
    for mark in 1..=5 {
        assert_eq!(host.send("10.0.0.2", mark), Resolution::Waiting);
    }
    host.sent();
    host.hear(B, answer("10.0.0.2"));
    assert_eq!(host.sent(), ["b: packet 3", "b: packet 4", "b: packet 5"]);
    assert_eq!(host.resolver.statistics().replaced, 2);
}

#[test]
fn no_more_packets_wait_than_there_is_room_for() {
    let mut host = small(100);
    let packet = host.pool.copy(&[0x45; 40]).unwrap();
    let mut send = |to: &str| host.resolver.send(ip(to), &packet, host.now);
    assert_eq!(send("10.0.0.2"), Resolution::Waiting);
    assert_eq!(send("10.0.0.3"), Resolution::Waiting);
    assert_eq!(send("10.0.0.4"), Resolution::Refused(Refusal::NoRoom));
    assert_eq!((host.resolver.waiting(), host.resolver.statistics().no_room), ((2, 80), 1));
    let mut host = small(100);
    for i in 0..10 {
        assert_eq!(host.send(&target(i), 1), Resolution::Waiting);
    }
    assert_eq!(host.send(&target(10), 1), Resolution::Refused(Refusal::NoRoom));
    assert_eq!(host.resolver.waiting(), (10, 30));
}

#[test]
fn a_flood_keeps_to_the_pace() {
    let mut host = small(8);
    let mut sent = Vec::new();
    for i in 0..400 {
        host.send(&target(i), 1);
        sent.extend(host.sent());
        host.now = host.now + Duration::from_millis(10);
    }
    // A second's worth at once, and 4 s at the rate.
    assert!((16..=20).contains(&sent.len()), "{}", sent.len());
    assert_eq!(host.resolver.neighbours().count(), 8);
    assert_eq!(host.resolver.statistics().requests, sent.len() as u64);
}

#[test]
fn the_next_request_is_announced_when_the_pace_allows_it() {
    let mut host = small(8);
    for i in 0..6 {
        host.send(&target(i), 1);
    }
    assert_eq!(host.sent().len(), 4);
    let due = host.resolver.poll_timeout().unwrap();
    assert_eq!(due, host.now + Duration::from_millis(250));
    host.now = due;
    assert_eq!(host.sent().len(), 1);
}

#[test]
fn a_flood_does_not_displace_neighbours_in_use() {
    let mut host = small(8);
    host.send("10.0.0.2", 1);
    host.sent();
    host.hear(B, answer("10.0.0.2"));
    host.sent();
    for i in 1..400 {
        host.send(&target(i), 1);
    }
    assert_eq!(host.send("10.0.0.2", 1), Resolution::Send(B));
    let statistics = host.resolver.statistics();
    assert_eq!(accounted(&statistics) + host.resolver.waiting().0 as u64, 400);
}

#[test]
fn answers_to_a_flood_of_requests_are_bounded() {
    let mut host = Host::new();
    for _ in 0..1000 {
        host.hear(B, request(B, "10.0.0.2", "10.0.0.1"));
    }
    assert_eq!(host.sent().len(), Resolver::MESSAGES);
    let statistics = host.resolver.statistics();
    assert_eq!((statistics.answers, statistics.messages_lost), (128, 872));
}

#[test]
fn events_are_bounded() {
    let mut host = Host::new();
    for _ in 0..200 {
        host.after(10).hear(C, Message::announcement(C, ip("10.0.0.1")));
    }
    assert_eq!(host.events().len(), Resolver::EVENTS);
}

#[test]
fn without_buffers_nothing_is_sent_and_all_is_counted() {
    let mut host = Host::new();
    host.send("10.0.0.2", 1);
    host.send("10.0.0.3", 1);
    host.sent();
    host.hear(B, answer("10.0.0.2"));
    host.after(1);
    let taken: Vec<_> = core::iter::from_fn(|| host.pool.take(vmlan_frame::Size::Small)).collect();
    assert!(host.sent().is_empty());
    let statistics = host.resolver.statistics();
    assert_eq!((statistics.no_buffer, statistics.messages_lost), (1, 1));
    drop(taken);
    assert_eq!(host.pool.out(), 0);
}

/// Something that happens to a host.
#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Send(u8, u8),
    Hear(u8, u8, u8),
    Garbage(Vec<u8>),
    Spoiled(u8, usize, u8),
    Confirm(u8),
    Poll,
    Address(bool, u8),
    Move(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u64..12_000).prop_map(Step::Wait),
        8 => (0u8..24, any::<u8>()).prop_map(|(to, mark)| Step::Send(to, mark)),
        8 => (0u8..5, 0u8..24, 0u8..3).prop_map(|(kind, who, mac)| Step::Hear(kind, who, mac)),
        2 => prop::collection::vec(any::<u8>(), 0..120).prop_map(Step::Garbage),
        4 => (0u8..24, 0usize..90, any::<u8>()).prop_map(|(who, at, value)| Step::Spoiled(who, at, value)),
        1 => (0u8..24).prop_map(Step::Confirm),
        4 => Just(Step::Poll),
        1 => (any::<bool>(), 0u8..24).prop_map(|(add, who)| Step::Address(add, who)),
        1 => any::<bool>().prop_map(Step::Move),
    ]
}

fn someone(i: u8) -> IpAddr {
    if i.is_multiple_of(2) { ip(&format!("10.0.0.{}", i + 1)) } else { ip(&format!("fd00::{:x}", i)) }
}

impl Host {
    /// Does a step; how many packets began to wait.
    fn step(&mut self, step: Step) -> u64 {
        match step {
            Step::Wait(millis) => self.now = self.now + Duration::from_millis(millis),
            Step::Send(to, mark) => {
                return u64::from(self.send(&someone(to).to_string(), mark) == Resolution::Waiting);
            }
            Step::Hear(kind, who, mac) => {
                let (mac, own) =
                    ([A, B, C][mac as usize], if who.is_multiple_of(2) { "10.0.0.1" } else { "fd00::1" });
                let who = someone(who);
                let message = match kind {
                    0 => answer_from(mac, &who.to_string()),
                    1 => request(mac, &who.to_string(), own),
                    2 => Message::announcement(mac, who),
                    3 => Message::request(mac, None, who, None).unwrap(),
                    _ => request(mac, own, &who.to_string()),
                };
                let frame = message.emit(mac, &self.pool).unwrap();
                self.resolver.handle(&frame, self.now);
            }
            Step::Garbage(octets) => {
                let frame = self.pool.copy(&octets).unwrap();
                self.resolver.handle(&frame, self.now);
            }
            Step::Spoiled(who, at, value) => {
                let message = answer(&someone(who).to_string());
                let mut octets = message.emit(B, &self.pool).unwrap().octets().to_vec();
                let at = at % octets.len();
                octets[at] = value;
                let frame = self.pool.copy(&octets).unwrap();
                self.resolver.handle(&frame, self.now);
            }
            Step::Confirm(who) => self.resolver.confirm(someone(who), self.now),
            Step::Poll => drop(self.sent_octets()),
            Step::Address(true, who) => drop(self.resolver.add_address(someone(who), 24, self.now)),
            Step::Address(false, who) => drop(self.resolver.remove_address(someone(who))),
            Step::Move(back) => self.resolver.set_link_address(if back { A } else { B }),
        }
        0
    }

    fn sent_octets(&mut self) -> usize {
        let next = || self.resolver.poll_transmit(self.now, &self.pool).map(|frame| frame.len());
        core::iter::from_fn(next).sum()
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    #[test]
    fn bounds_hold_and_every_packet_is_accounted_for(
        detect_duplicates in any::<bool>(),
        steps in prop::collection::vec(step(), 1..120),
    ) {
        let options = Options {
            neighbours: 6,
            waiting: 9,
            waiting_octets: 24,
            requests_per_second: 5,
            detect_duplicates,
            ..Options::default()
        };
        let mut host = Host::with(options);
        let mut waited = 0;
        for step in steps {
            waited += host.step(step);
            let (packets, octets) = host.resolver.waiting();
            prop_assert!(packets <= 9 && octets <= 24);
            prop_assert!(host.resolver.neighbours().count() <= 6);
            prop_assert!(host.resolver.messages.len() <= Resolver::MESSAGES);
            prop_assert_eq!(waited, accounted(&host.resolver.statistics()) + packets as u64);
            prop_assert_eq!(host.pool.out(), 0);
        }
        // Left alone it comes to rest, with nothing waiting.
        let mut rounds = 0;
        while let Some(due) = host.resolver.poll_timeout() {
            host.now = host.now.max(due);
            host.sent_octets();
            rounds += 1;
            prop_assert!(rounds < 1000);
        }
        prop_assert_eq!((host.resolver.waiting(), host.resolver.neighbours().count()), ((0, 0), 0));
        prop_assert_eq!(waited, accounted(&host.resolver.statistics()));
        prop_assert_eq!(host.pool.out(), 0);
    }

    #[test]
    fn arbitrary_frames_never_panic(octets in prop::collection::vec(any::<u8>(), 0..200), ethertype in 0usize..3) {
        let mut host = Host::new();
        let mut octets = octets;
        if let Some(field) = octets.get_mut(12..14) {
            field.copy_from_slice(&[[0x08, 0x06], [0x86, 0xdd], [0x08, 0x00]][ethertype]);
        }
        let frame = host.pool.copy(&octets).unwrap();
        host.resolver.handle(&frame, host.now);
        prop_assert_eq!(host.resolver.neighbours().count(), 0);
    }

    #[test]
    fn arbitrary_neighbour_messages_never_panic(
        solicits in any::<bool>(),
        body in prop::collection::vec(any::<u8>(), 3..80),
    ) {
        let mut host = Host::new();
        host.send("fd00::2", 1);
        let template = answer("fd00::2").emit(B, &host.pool).unwrap();
        let mut octets = template.octets()[..validity::ICMP].to_vec();
        octets.extend([if solicits { 135 } else { 136 }, 0, 0, 0]);
        octets.extend(&body);
        octets[ETHERNET_HEADER + 5] = 4 + body.len() as u8;
        validity::mend(&mut octets);
        let frame = host.pool.copy(&octets).unwrap();
        prop_assert!(host.resolver.handle(&frame, host.now));
        prop_assert_eq!(host.resolver.neighbours().count(), 1);
    }
}
