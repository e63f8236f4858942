//! Peers without a stack.

mod support;

use std::os::unix::net::{UnixDatagram, UnixStream};
use std::time::Duration;

use support::{PATIENCE, datagram_ends, eventually, ipv4, mac, spawn, spawn_both};
use vmlan_frame::MacAddr;
use vmlan_guest::client::MAX_FRAME;
use vmlan_guest::{Attachment, Error, Ping, RawGuest, ethernet};

const TYPE: u16 = 0x88b5;

fn raw(name: &str, attachment: Attachment) -> RawGuest {
    RawGuest::attach(name, attachment, PATIENCE).unwrap()
}

fn stream_pair() -> (RawGuest, RawGuest) {
    let (one, other) = UnixStream::pair().unwrap();
    (raw("one", Attachment::StreamFd(one.into())), raw("other", Attachment::StreamFd(other.into())))
}

#[test]
fn frames_of_all_sizes_pass_unchanged() {
    let (stream, stream_peer) = stream_pair();
    let (fd, fd_peer) = UnixDatagram::pair().unwrap();
    let descriptor = (raw("one", Attachment::Fd(fd.into())), raw("other", Attachment::Fd(fd_peer.into())));
    for (mut one, mut other) in [(stream, stream_peer), descriptor] {
        for length in [1, 13, 60, 1514, 9014, MAX_FRAME] {
            let frame: Vec<u8> = (0..length).map(|i| i as u8).collect();
            one.send_frame(&frame).unwrap();
            assert_eq!(other.receive(PATIENCE).unwrap().unwrap(), frame);
        }
        let too_large = vec![0; MAX_FRAME + 1];
        assert!(!one.try_send(&too_large).unwrap() && !one.try_send(&[]).unwrap());
        assert_eq!(other.receive(Duration::ZERO).unwrap(), None);
    }
}

#[test]
fn a_stream_may_be_split_at_any_octet() {
    let (mut one, mut other) = stream_pair();
    let frame = ethernet(mac(2), mac(1), TYPE, b"split");
    let mut octets = Vec::new();
    for _ in 0..2 {
        octets.extend_from_slice(&(frame.len() as u32).to_be_bytes());
        octets.extend_from_slice(&frame);
    }
    for cut in 1..octets.len() {
        one.send_octets(&octets[..cut]).unwrap();
        let early = other.drain(2, Duration::ZERO).unwrap();
        one.send_octets(&octets[cut..]).unwrap();
        let late = other.drain(2 - early.len(), PATIENCE).unwrap();
        assert_eq!([early, late].concat(), [frame.clone(), frame.clone()], "cut at {cut}");
    }
}

#[test]
fn a_length_that_no_frame_has_ends_the_stream() {
    for length in [0, MAX_FRAME as u32 + 1, u32::MAX] {
        let (mut one, mut other) = stream_pair();
        one.send_octets(&length.to_be_bytes()).unwrap();
        let reason = other.wait_closed().unwrap();
        assert!(reason.contains(&length.to_string()), "{reason}");
    }
}

#[test]
fn a_peer_that_goes_away_in_the_middle_of_a_frame_closes_the_stream() {
    let (mut one, mut other) = stream_pair();
    one.send_octets(&[0, 0, 0, 60, 1, 2, 3]).unwrap();
    drop(one);
    assert!(other.wait_closed().unwrap().contains("closed"));
}

#[test]
fn a_peer_that_does_not_read_fills_the_medium() {
    let (mut one, mut other) = stream_pair();
    let frame = ethernet(mac(2), mac(1), TYPE, &[7; 1400]);
    let mut sent = 0;
    while one.try_send(&frame).unwrap() {
        sent += 1;
        assert!(sent < 100_000, "a socket's buffer is bounded");
    }
    let received = other.drain(10, PATIENCE).unwrap();
    assert_eq!(received, vec![frame; 10]);
}

#[test]
fn the_frame_looked_for_is_found_among_others() {
    let (mut one, mut other) = stream_pair();
    for payload in [b"first", b"third", b"other"] {
        one.send_frame(&ethernet(MacAddr::BROADCAST, mac(1), TYPE, payload)).unwrap();
    }
    let found = other.expect(|frame| frame[14..].starts_with(b"third")).unwrap();
    assert_eq!((found.len(), &found[..14]), (60, &ethernet(MacAddr::BROADCAST, mac(1), TYPE, b"")[..14]));
    assert_eq!(other.drain(5, Duration::ZERO).unwrap().len(), 1);
}

#[test]
fn a_guest_goes_on_receiving_when_its_peer_does_not_read() {
    const CHUNK: u64 = 1000;
    let (socket, peer) = UnixStream::pair().unwrap();
    let one = spawn(1, Attachment::StreamFd(socket.into()));
    let mut peer = raw("peer", Attachment::StreamFd(peer.into()));
    // Who has 10.77.0.1? Tell 10.77.0.2.
    let mut request = vec![0, 1, 8, 0, 6, 4, 0, 1];
    request.extend_from_slice(&mac(2).0);
    request.extend_from_slice(&ipv4(2).octets());
    request.extend_from_slice(&[0; 6]);
    request.extend_from_slice(&ipv4(1).octets());
    let request = ethernet(MacAddr::BROADCAST, mac(2), 0x0806, &request);
    let framed = [&(request.len() as u32).to_be_bytes()[..], &request].concat().repeat(CHUNK as usize);

    let mut asked = 0;
    eventually("a reply is dropped", || {
        peer.send_octets(&framed).unwrap();
        asked += CHUNK;
        one.counters().tx_dropped > 0
    });
    eventually("all are received", || one.counters().rx_frames == asked);

    let mut answers = 0;
    eventually("every reply that was not dropped arrives", || {
        answers += peer.drain(10_000, Duration::ZERO).unwrap().len() as u64;
        answers + one.counters().tx_dropped == asked
    });
    assert_eq!(one.counters().tx_frames, answers);
}

#[test]
fn a_client_with_its_own_hello_is_heard() {
    let directory = tempfile::tempdir().unwrap();
    let (one, other) = datagram_ends(directory.path());
    let (mut one, mut other) = std::thread::scope(|scope| {
        let one = scope.spawn(|| raw("one", one));
        let other = raw("other", other);
        (one.join().unwrap(), other)
    });
    one.send_octets(b"VFKT").unwrap();
    assert_eq!(other.receive(PATIENCE).unwrap().unwrap(), b"VFKT");
}

#[test]
fn a_second_client_finds_the_listener_gone() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("stream");
    let attachment = Attachment::Stream { path: path.clone() };
    let (one, other) = spawn_both(Attachment::StreamListen { path: path.clone() }, attachment);
    assert!(other.ping(ipv4(1).into(), Ping::default()).unwrap().is_complete());

    let again = RawGuest::attach("late", Attachment::Stream { path }, Duration::ZERO);
    assert!(matches!(again.err(), Some(Error::Attach { .. })));
    drop(one);
}

#[test]
fn echo_replies_that_come_all_at_once_are_all_received() {
    const COUNT: u16 = 60;
    let (socket, peer) = UnixStream::pair().unwrap();
    let one = spawn(1, Attachment::StreamFd(socket.into()));
    let mut peer = raw("peer", Attachment::StreamFd(peer.into()));
    let ping = Ping { count: COUNT, interval: Duration::ZERO, ..Ping::default() };
    let report = std::thread::scope(|scope| {
        let report = scope.spawn(|| one.ping(ipv4(2).into(), ping));
        // Who has 10.77.0.2? It is at this address.
        let question = peer.expect(|frame| frame[12..14] == [8, 6]).unwrap();
        let answer =
            [&[0, 1, 8, 0, 6, 4, 0, 2], &mac(2).0[..], &question[38..42], &question[22..32]].concat();
        peer.send_frame(&ethernet(mac(1), mac(2), 0x0806, &answer)).unwrap();
        let mut replies = Vec::new();
        for _ in 0..COUNT {
            // A request becomes its reply by exchanged addresses and another type, for which its checksum makes up.
            let mut reply = peer.expect(|frame| frame[12..14] == [8, 0] && frame[34] == 8).unwrap();
            let request = reply.clone();
            reply[..6].copy_from_slice(&request[6..12]);
            reply[6..12].copy_from_slice(&request[..6]);
            reply[26..30].copy_from_slice(&request[30..34]);
            reply[30..34].copy_from_slice(&request[26..30]);
            reply[34] = 0;
            let sum = u32::from(u16::from_be_bytes([request[36], request[37]])) + 0x800;
            reply[36..38].copy_from_slice(&(((sum & 0xffff) + (sum >> 16)) as u16).to_be_bytes());
            replies.extend_from_slice(&(reply.len() as u32).to_be_bytes());
            replies.extend_from_slice(&reply);
        }
        peer.send_octets(&replies).unwrap();
        report.join().unwrap().unwrap()
    });
    assert_eq!((report.received, report.corrupt), (COUNT, 0));
}
