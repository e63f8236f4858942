//! A peer on a stream socket that breaks the framing, or does not read.

use std::io::Write;
use std::os::unix::net::UnixStream;
use std::time::Duration;

use vmlan_api::{EventKind, PortState};
use vmlan_frame::DropReason;
use vmlan_guest::Attachment;

use crate::arena::{Arena, send_descriptors};
use crate::support::{PATIENCE, Peer, TYPE, numbered};

const BAD: &str = "[network.lab.port.bad]\nstream = { listen = \"bad.sock\" }\nmac = \"52:54:00:00:00:07\"\n";
const OTHER: &str = "[network.lab.port.other]\nstream = { listen = \"other.sock\" }\n";

#[test]
fn a_length_that_no_frame_has_quarantines_the_port_for_a_while() {
    let arena = Arena::start(BAD);
    let mut events = arena.daemon.events();
    for length in [0, 69_633, 1 << 30, u32::MAX] {
        let mut guest = arena.stream_guest();
        guest.raw.send_octets(&u32::to_be_bytes(length)).expect("a connection");
        guest.raw.wait_closed().expect("the connection's end");
        let event = events.expect("the quarantine", |event| matches!(event, EventKind::Quarantined { .. }));
        let EventKind::Quarantined { port, reason, .. } = event else { unreachable!("it was chosen") };
        assert!(port == "bad" && reason.contains(&format!("{length} octets")), "{reason}");
        events.expect(
            "the port back",
            |event| matches!(event, EventKind::PortWaiting { port, .. } if port == "bad"),
        );
    }
    // The next guest is as welcome as the first.
    let mut guest = arena.stream_guest();
    guest.send(vmlan_frame::MacAddr::BROADCAST);
    drop((guest, events));
    arena.finish();
}

#[test]
fn frames_too_short_for_a_header_are_dropped_and_counted() {
    let arena = Arena::start(BAD);
    let mut guest = arena.stream_guest();
    for length in 1_u8..14 {
        guest
            .raw
            .send_octets(&[&[0, 0, 0, length][..], &vec![7; length.into()]].concat())
            .expect("a connection");
    }
    testbed::wait_until("the drops", PATIENCE, || arena.daemon.drops("bad", DropReason::Runt) == 13);
    assert_eq!(arena.daemon.port("bad").state, PortState::Up);
    drop(guest);
    arena.finish();
}

#[test]
fn thousands_of_tiny_frames_at_once_keep_nobody_from_its_turns() {
    let arena = Arena::start(BAD);
    let mut guest = arena.stream_guest();
    let runts = [0, 0, 0, 1, 7].repeat(50_000);
    // From the guest to itself, which goes nowhere.
    let own = numbered(guest.mac, guest.mac, 1);
    let own = [&(own.len() as u32).to_be_bytes()[..], &own].concat().repeat(4000);
    for _ in 0..5 {
        guest.raw.send_octets(&runts).expect("a connection");
        guest.raw.send_octets(&own).expect("a connection");
    }
    testbed::wait_until("the drops", PATIENCE, || {
        let drops = |reason| arena.daemon.drops("bad", reason);
        drops(DropReason::Runt) == 250_000 && drops(DropReason::NoDestination) == 20_000
    });
    assert_eq!(arena.daemon.port("bad").state, PortState::Up);
    drop(guest);
    arena.finish();
}

#[test]
fn half_a_frame_and_then_silence_is_given_up_on() {
    let arena = Arena::start(&format!("{BAD}{OTHER}"));
    let mut events = arena.daemon.events();
    let mut silent = arena.stream_guest();
    let mut slow = Peer::attach(8, Attachment::Stream { path: arena.path("other.sock") });
    silent.raw.send_octets(&[0, 0, 0, 60, 1, 2, 3]).expect("a connection");

    // An octet now and then does not help: the frame as a whole has its time.
    let frame = [&[0, 0, 5, 220][..], &numbered(silent.mac, slow.mac, 1)].concat();
    for octet in frame.iter().cycle() {
        arena.probe.wait(25);
        if slow.raw.send_octets(&[*octet]).is_err() {
            break;
        }
    }
    silent.raw.wait_closed().expect("the connection's end");
    for _ in 0..2 {
        let event = events.expect("the quarantine", |event| matches!(event, EventKind::Quarantined { .. }));
        assert!(matches!(event, EventKind::Quarantined { reason, .. } if reason.contains("half sent")));
    }
    drop((silent, slow, events));
    arena.finish();
}

#[test]
fn a_frame_that_comes_octet_by_octet_is_a_frame_all_the_same() {
    let arena = Arena::start(&format!("{BAD}{OTHER}"));
    let mut guest = arena.stream_guest();
    let mut other = Peer::attach(8, Attachment::Stream { path: arena.path("other.sock") });
    arena.daemon.wait_up(&["other"]);
    for number in 0..5 {
        let frame = numbered(vmlan_frame::MacAddr::BROADCAST, guest.mac, number);
        let octets = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
        for octet in &octets {
            guest.raw.send_octets(&[*octet]).expect("a connection");
            std::thread::yield_now();
        }
        assert!(other.hears(number, PATIENCE));
    }
    drop((guest, other));
    arena.finish();
}

#[test]
fn a_guest_that_does_not_read_loses_its_own_frames_only() {
    let arena = Arena::start(&format!("{BAD}{OTHER}"));
    let mut deaf = arena.stream_guest();
    let mut sender = Peer::attach(8, Attachment::Stream { path: arena.path("other.sock") });
    arena.daemon.wait_up(&["other"]);
    let frame = |number: u32| {
        let mut frame = numbered(deaf.mac, sender.mac, number);
        // Of many lengths, so that writes are cut in two at many places.
        frame.resize(60 + number as usize * 37 % 1400, number as u8);
        frame
    };
    let count = 8000;
    for number in 0..count {
        sender.raw.send_frame(&frame(number)).expect("a daemon that reads");
    }
    let counters = || arena.daemon.port("bad").counters;
    testbed::wait_until("all to be received", PATIENCE, || {
        arena.daemon.port("other").counters.rx_frames == u64::from(count)
    });
    assert!(arena.daemon.drops("bad", DropReason::QueueFull) > 0, "{:?}", counters());
    assert!((1..=1024).contains(&counters().queued), "{:?}", counters());

    // What was taken for it comes whole and in order once it reads, and then what is sent next.
    sender.raw.send_frame(&frame(count)).expect("a daemon that reads");
    let (mut heard, mut last) = (0, None);
    while heard < counters().tx_frames || counters().queued > 0 {
        let Some(came) = deaf.raw.receive(Duration::from_millis(200)).expect("a connection") else {
            continue;
        };
        let number = u32::from_be_bytes([came[14], came[15], came[16], came[17]]);
        assert!(came == frame(number) && last < Some(number), "{number} after {last:?}");
        (heard, last) = (heard + 1, Some(number));
    }
    sender.raw.send_frame(&frame(count + 1)).expect("a daemon that reads");
    assert!(deaf.hears(count + 1, PATIENCE));
    drop((deaf, sender));
    arena.finish();
}

#[test]
fn guests_that_die_in_the_middle_of_a_frame_leave_nothing_behind() {
    let arena = Arena::start(BAD);
    let frame = numbered(vmlan_frame::MacAddr::BROADCAST, crate::support::mac(7), 0);
    let octets = [&(frame.len() as u32).to_be_bytes()[..], &frame].concat();
    for cut in 1..octets.len() {
        let mut guest = UnixStream::connect(arena.path("bad.sock")).expect("a listener");
        guest.write_all(&octets[..cut]).expect("a connection");
    }
    let mut guest = arena.stream_guest();
    guest.send(vmlan_frame::MacAddr::BROADCAST);
    drop(guest);
    arena.finish();
}

#[test]
fn a_thousand_connections_are_turned_away_and_the_port_works_after_them() {
    let arena = Arena::start(BAD);
    let guest = arena.stream_guest();
    connect_often(&arena.path("bad.sock"), 1000);
    // The guest who was there first is there still.
    assert_eq!(arena.daemon.port("bad").state, PortState::Up);
    drop(guest);
    connect_often(&arena.path("bad.sock"), 1000);
    let mut guest = Peer::attach(7, Attachment::Stream { path: arena.path("bad.sock") });
    testbed::wait_until("the guest's frame to be taken", PATIENCE, || {
        // One that came while the last of the thousand was still held was turned away.
        if guest.raw.try_send(&numbered(vmlan_frame::MacAddr::BROADCAST, guest.mac, 0)).is_err()
            || guest.raw.send_frame(&numbered(vmlan_frame::MacAddr::BROADCAST, guest.mac, 0)).is_err()
        {
            guest = Peer::attach(7, Attachment::Stream { path: arena.path("bad.sock") });
        }
        arena.daemon.port("bad").counters.rx_frames > 0
    });
    drop(guest);
    arena.finish();
}

/// Connects as fast as it goes, and leaves at once; where the queue of the listener is full, that attempt is over.
fn connect_often(path: &std::path::Path, times: usize) {
    use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType, connect, socket_with};
    let address = SocketAddrUnix::new(path).expect("a short path");
    let mut held = std::collections::VecDeque::new();
    for _ in 0..times {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None).expect("a socket");
        if connect(&socket, &address).is_ok() {
            held.push_back(socket);
        }
        if held.len() > 100 {
            held.pop_front();
        }
    }
}

#[test]
fn descriptors_that_come_with_the_octets_are_not_kept() {
    let arena = Arena::start(&format!("{BAD}{OTHER}"));
    let mut other = Peer::attach(8, Attachment::Stream { path: arena.path("other.sock") });
    let mut socket = UnixStream::connect(arena.path("bad.sock")).expect("a listener");
    arena.daemon.wait_up(&["bad", "other"]);
    let with_guests = arena.daemon.descriptors();
    for number in 0..100_u32 {
        let frame = vmlan_guest::ethernet(
            vmlan_frame::MacAddr::BROADCAST,
            crate::support::mac(7),
            TYPE,
            &number.to_be_bytes(),
        );
        send_descriptors(&socket, &[&[0, 0, 0, 60][..], &frame].concat());
    }
    // Where descriptors are refused, the frames with them are; the connection is whole all the same.
    let last = numbered(vmlan_frame::MacAddr::BROADCAST, crate::support::mac(7), 1000);
    socket.write_all(&[&[0, 0, 0, 60][..], &last].concat()).expect("a connection");
    assert!(other.hears(1000, PATIENCE));
    testbed::wait_until("nothing to be kept", PATIENCE, || arena.daemon.descriptors() <= with_guests);
    drop((socket, other));
    arena.finish();
}
