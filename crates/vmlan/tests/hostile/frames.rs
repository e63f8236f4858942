//! A guest that sends frames which are well-formed and meant to harm.

use std::time::{Duration, Instant};

use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::{Attachment, ethernet};

use crate::arena::Arena;
use crate::support::{Daemon, PATIENCE, Peer, TYPE, assert_balanced, exchange, mac, meet, numbered};

const BAD: &str = "[network.lab.port.bad]\nstream = { listen = \"bad.sock\" }\n";

/// How long a flood lasts.
const FLOOD: Duration = Duration::from_secs(2);

/// Sends broadcasts as fast as the daemon takes them, and waits until it has taken all.
fn flood(daemon: &Daemon, guest: &mut Peer) {
    let before = daemon.port("bad").counters.rx_frames;
    let end = Instant::now() + FLOOD;
    let mut sent = 0;
    while Instant::now() < end {
        for _ in 0..64 {
            guest.send(MacAddr::BROADCAST);
        }
        sent += 64;
    }
    testbed::wait_until("the flood's end", PATIENCE, || {
        daemon.port("bad").counters.rx_frames == before + sent
    });
}

#[test]
fn a_flood_of_broadcasts_takes_nothing_from_another_vlan() {
    let listener =
        "[network.lab.port.listener]\nstream = { listen = \"listener.sock\" }\nvlan = { access = 66 }\n";
    let arena = Arena::start(&format!("{BAD}vlan = {{ access = 66 }}\n{listener}"));
    let mut guest = arena.stream_guest();
    // One that does not read it, so that its queue is always full.
    let listener = Peer::attach(8, Attachment::Stream { path: arena.path("listener.sock") });
    arena.daemon.wait_up(&["listener"]);
    flood(&arena.daemon, &mut guest);
    drop((guest, listener));
    arena.finish();
}

/// Those who hear the flood have to find room for it: what they lose is counted as lost at their own port, and
/// when it is over all is as before.
#[test]
fn a_flood_of_broadcasts_costs_its_hearers_no_more_than_what_their_queues_do_not_hold() {
    let daemon = Daemon::start(&format!(
        "{BAD}[network.lab.port.one]\nstream = {{ listen = \"one.sock\" }}\n\
         [network.lab.port.two]\ndatagram = {{ listen = \"two.sock\" }}\n"
    ));
    let mut guest = Peer::attach(7, Attachment::Stream { path: daemon.path("bad.sock") });
    let mut one = Peer::attach(1, Attachment::Stream { path: daemon.path("one.sock") });
    let attachment = Attachment::Datagram { local: daemon.path("local"), remote: daemon.path("two.sock") };
    let mut two = Peer::attach(2, attachment);
    daemon.wait_up(&["bad", "one"]);
    // The port of datagrams is there with the first one; an answer before that would have no destination.
    two.send(one.mac);
    daemon.wait_up(&["two"]);
    meet(&mut two, &mut one);

    flood(&daemon, &mut guest);

    for port in ["one", "two"] {
        let counters = daemon.port(port).counters;
        assert!(
            counters.queued <= 1024 && counters.drops.keys().all(|reason| reason == "queue_full"),
            "{counters:?}"
        );
    }
    // Both read what was kept for them; then their queues have room.
    meet(&mut one, &mut two);
    meet(&mut two, &mut one);
    exchange(&mut one, &mut two);
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_flood_to_a_port_that_is_not_there_takes_nothing_from_others() {
    let arena = Arena::start(BAD);
    let mut guest = arena.stream_guest();
    let end = Instant::now() + FLOOD;
    while Instant::now() < end {
        for _ in 0..64 {
            guest.send(guest.mac);
        }
    }
    drop(guest);
    arena.finish();
}

#[test]
fn a_flood_of_addresses_fills_its_own_quota_only() {
    let arena = Arena::start(&format!("{BAD}quota = 100\n[network.lab]\nfdb = {{ size = 512 }}\n"));
    let mut guest = arena.stream_guest();
    for number in 0..20_000_u32 {
        let [_, a, b, c] = number.to_be_bytes();
        let source = MacAddr([0x02, 0x66, 0x66, a, b, c]);
        guest.raw.send_frame(&ethernet(mac(1), source, TYPE, b"flood")).expect("a daemon that reads");
        if number % 1000 == 0 {
            let entries = arena.daemon.fdb("lab");
            let of = |port: &str| entries.iter().filter(|entry| entry.port == port).count();
            assert!(of("bad") <= 100, "{} addresses of the attacker", of("bad"));
            assert_eq!((of("one"), of("two")), (1, 1), "the probe's addresses are there");
        }
    }
    drop(guest);
    arena.finish();
}

#[test]
fn addresses_of_others_cannot_be_forged() {
    let arena = Arena::start(BAD);
    let mut guest = arena.stream_guest();
    let count = 5000;
    for number in 0..count {
        let stolen = if number % 2 == 0 { mac(1) } else { mac(2) };
        guest.raw.send_frame(&numbered(MacAddr::BROADCAST, stolen, number)).expect("a daemon that reads");
    }
    testbed::wait_until("the drops", PATIENCE, || {
        arena.daemon.drops("bad", DropReason::SourceGuard) == u64::from(count)
    });
    drop(guest);
    arena.finish();
}

#[test]
fn a_thief_of_a_learnt_address_is_dropped_while_its_victim_speaks() {
    const TIMES: usize = 20;
    let victim = "[network.lab.port.victim]\nstream = { listen = \"victim.sock\" }\n";
    let arena = Arena::start(&format!("{BAD}{victim}"));
    let mut guest = arena.stream_guest();
    let mut victim = Peer::attach(8, Attachment::Stream { path: arena.path("victim.sock") });
    arena.daemon.wait_up(&["victim"]);
    exchange(&mut guest, &mut victim);
    let stolen = numbered(guest.mac, victim.mac, 0);
    testbed::wait_until("the drops", PATIENCE, || {
        (0..TIMES).for_each(|_| guest.raw.send_frame(&stolen).expect("a daemon that reads"));
        let number = victim.send(guest.mac);
        assert!(guest.hears(number, PATIENCE));
        arena.daemon.drops("bad", DropReason::Contested) >= 50 * TIMES as u64
    });
    exchange(&mut guest, &mut victim);
    drop((guest, victim));
    arena.finish();
}

#[test]
fn frames_of_random_octets_are_sent_or_dropped_with_a_reason() {
    let arena = Arena::start(BAD);
    let mut guest = arena.stream_guest();
    let mut state = 0x2545_f491_4f6c_dd1d_u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..5000 {
        let length = 1 + random() as usize % 200;
        let frame: Vec<u8> = (0..length).map(|_| random() as u8).collect();
        guest.raw.send_frame(&frame).expect("a daemon that reads");
    }
    testbed::wait_until("all to be received", PATIENCE, || {
        arena.daemon.port("bad").counters.rx_frames == 5000
    });
    drop(guest);
    arena.finish();
}

#[test]
fn a_guest_that_comes_and_goes_all_the_time_costs_others_nothing() {
    let arena = Arena::start(BAD);
    for _ in 0..50 {
        let mut guest = Peer::attach(7, Attachment::Stream { path: arena.path("bad.sock") });
        guest.send(MacAddr::BROADCAST);
        drop(guest);
    }
    let mut guest = arena.stream_guest();
    guest.send(MacAddr::BROADCAST);
    drop(guest);
    arena.finish();
}
