use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::{Duration, Instant};

use super::*;

const CONTROL: Control = Control { hop_limit: 9, class: 0, dont_fragment: true, segment: None };

struct Fixture {
    poller: Arc<Poller>,
    host: HostDatagrams,
}

impl Fixture {
    fn new() -> Fixture {
        let poller = Arc::new(Poller::new().expect("a descriptor"));
        Fixture { host: HostDatagrams::new(poller.clone(), 8, 1000), poller }
    }

    /// Repeats `call` until it answers something.
    fn wait<T>(&mut self, mut call: impl FnMut(&mut HostDatagrams) -> Option<T>) -> T {
        let end = Instant::now() + Duration::from_secs(20);
        loop {
            if let Some(answer) = call(&mut self.host) {
                return answer;
            }
            assert!(Instant::now() < end, "nothing came in time");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// The slots that are told to be ready, in order.
    fn ready(&self) -> Vec<u32> {
        let mut ready = Vec::new();
        self.poller.wait(&mut ready, Some(Duration::from_secs(20))).expect("a poller");
        let mut slots = Vec::from_iter(ready.iter().filter_map(|ready| slot(ready.token)));
        slots.sort();
        slots
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

fn peer(family: Family) -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind((loopback(family), 0)).expect("a port");
    socket.set_read_timeout(Some(Duration::from_secs(20))).expect("a socket");
    let address = socket.local_addr().expect("a bound socket");
    (socket, address)
}

#[test]
fn tokens_name_slots_and_nothing_else() {
    for number in [0, 1, u32::MAX] {
        assert_eq!(slot(token(number)), Some(number));
    }
    assert_eq!([0, 7, 1 << 63, 3 << 62].map(slot), [None; 4]);
}

#[test]
fn datagrams_go_and_come_and_readiness_is_told() {
    for family in [Family::V4, Family::V6] {
        let mut fixture = Fixture::new();
        let (peer, address) = peer(family);
        fixture.host.open(3, SocketKind::Udp, family).unwrap();
        fixture.host.send(3, address, b"hello", CONTROL).unwrap();
        let mut buffer = [0; 64];
        let (len, from) = peer.recv_from(&mut buffer).unwrap();
        assert_eq!((&buffer[..len], fixture.host.receive(3, &mut [0; 64])), (&b"hello"[..], None));
        peer.send_to(b"hi", from).unwrap();
        assert_eq!(fixture.ready(), [3]);
        let received = fixture.host.receive(3, &mut buffer).unwrap();
        let expected = Received { len: 2, from: address, segment: None, truncated: false };
        assert_eq!((received, &buffer[..2]), (expected, &b"hi"[..]));
        fixture.host.close(3);
        assert_eq!(fixture.host.receive(3, &mut buffer), None);
        fixture.host.open(3, SocketKind::Udp, family).unwrap();
    }
}

#[test]
fn a_run_leaves_in_one_call_or_in_many() {
    let mut fixture = Fixture::new();
    let (peer, address) = peer(Family::V4);
    fixture.host.open(0, SocketKind::Udp, Family::V4).unwrap();
    // 150 datagrams are more than a kernel cuts at once.
    for (len, segment, count) in [(3000, 1200, 3), (150, 1, 150), (1000, 1200, 1)] {
        let control = Control { segment: Some(segment), ..CONTROL };
        fixture.host.send(0, address, &vec![7; len], control).unwrap();
        let came = (0..count).map(|_| peer.recv_from(&mut [0; 2000]).unwrap().0);
        assert_eq!(came.sum::<usize>(), len);
    }
}

#[cfg(target_os = "linux")]
#[test]
fn runs_come_as_runs() {
    let mut fixture = Fixture::new();
    fixture.host.open(0, SocketKind::Udp, Family::V4).unwrap();
    fixture.host.open(1, SocketKind::Udp, Family::V4).unwrap();
    let (peer, address) = peer(Family::V4);
    fixture.host.send(1, address, b"who am I", CONTROL).unwrap();
    let (_, to) = peer.recv_from(&mut [0; 64]).unwrap();
    let to = SocketAddr::new(loopback(Family::V4), to.port());
    fixture.host.send(0, to, &[7; 6000], Control { segment: Some(1200), ..CONTROL }).unwrap();
    let mut buffer = vec![0; 1 << 16];
    let received = fixture.wait(|host| host.receive(1, &mut buffer));
    assert_eq!((received.len, received.segment), (6000, Some(1200)));
}

#[cfg(target_os = "linux")]
#[test]
fn a_closed_port_is_told_and_the_next_datagram_is_not_lost() {
    for family in [Family::V4, Family::V6] {
        let mut fixture = Fixture::new();
        let closed = peer(family).1;
        let (peer, address) = peer(family);
        fixture.host.open(0, SocketKind::Udp, family).unwrap();
        fixture.host.send(0, closed, b"hello", CONTROL).unwrap();
        assert_eq!(fixture.ready(), [0]);
        // It fails what comes next, once.
        assert_eq!(fixture.host.send(0, address, b"second", CONTROL), Err(SendError::Other));
        let mut buffer = [0; 64];
        let error = fixture.host.error(0, &mut buffer).unwrap();
        let origin = match family {
            Family::V4 => Origin::Icmpv4 { kind: 3, code: 3, mtu: 0 },
            Family::V6 => Origin::Icmpv6 { kind: 1, code: 4, mtu: 0 },
        };
        assert_eq!((error.origin, error.destination), (origin, closed));
        assert_eq!((error.offender, &buffer[..error.len]), (Some(closed.ip()), &b"hello"[..]));
        assert_eq!(fixture.host.error(0, &mut buffer), None);
        fixture.host.send(0, address, b"second", CONTROL).unwrap();
        assert_eq!(peer.recv_from(&mut buffer).unwrap().0, 6);
    }
}

#[test]
fn echo_comes_back_to_its_own_socket() {
    for family in [Family::V4, Family::V6] {
        let mut fixture = Fixture::new();
        if let Err(refused) = fixture.host.open(0, SocketKind::Echo, family) {
            eprintln!("SKIPPED: the host gives no echo sockets: {refused:?}");
            continue;
        }
        fixture.host.open(1, SocketKind::Echo, family).unwrap();
        let (request, reply) = if family == Family::V4 { (8, 0) } else { (128, 129) };
        for slot in [0, 1] {
            let message = [request, 0, 0, 0, 0, 7, 0, slot as u8, b'p', b'i', b'n', b'g'];
            fixture.host.send(slot, SocketAddr::new(loopback(family), 0), &message, CONTROL).unwrap();
        }
        for slot in [1, 0] {
            let mut buffer = [0; 128];
            let received = fixture.wait(|host| host.receive(slot, &mut buffer));
            let message = &buffer[..received.len];
            assert_eq!((message[0], &message[6..]), (reply, &[0, slot as u8, b'p', b'i', b'n', b'g'][..]));
            assert_eq!((received.from.ip(), received.len), (loopback(family), 12));
            assert_eq!(fixture.host.receive(slot, &mut buffer), None, "one reply");
        }
    }
}

#[test]
fn replies_are_told_by_their_identifier() {
    let echo = Echo { identifier: 0x1234, has_header: true };
    let mut scratch = Vec::new();
    let request = echo.mark(&[8, 0, 9, 9, 0, 7, 0, 1, b'x'], &mut scratch);
    assert_eq!((request.len(), checksum(request), &request[4..6]), (9, 0, &[0x12, 0x34][..]));
    assert_eq!(echo.mark(&[8], &mut Vec::new()), [8]);
    let message = [0, 0, 0, 0, 0x12, 0x34, 0, 1, b'x'];
    let with = |header: u8, message: &[u8]| {
        let mut buffer = vec![0; 20];
        buffer[0] = header;
        buffer.extend(message);
        let len = echo.unpack(&mut buffer, 20 + message.len(), 0)?;
        Some(buffer[..len].to_vec())
    };
    assert_eq!(with(0x45, &message), Some(message.to_vec()));
    for (header, message) in [
        (0x4f, &message[..]),
        (0x45, &message[..7]),
        (0x45, &[8, 0, 0, 0, 0x12, 0x34, 0, 1]),
        (0x45, &[0; 8]),
    ] {
        assert_eq!(with(header, message), None);
    }
}

#[test]
fn a_listener_is_adopted() {
    let mut fixture = Fixture::new();
    let (listener, address) = peer(Family::V4);
    listener.set_nonblocking(true).unwrap();
    fixture.host.adopt(5, listener.into(), Family::V4).unwrap();
    let (caller, _) = peer(Family::V4);
    caller.send_to(b"question", address).unwrap();
    assert_eq!(fixture.ready(), [5]);
    let received = fixture.host.receive(5, &mut [0; 64]).unwrap();
    fixture.host.send(5, received.from, b"answer", CONTROL).unwrap();
    assert_eq!(caller.recv_from(&mut [0; 64]).unwrap(), (6, address));
    let (other, _) = peer(Family::V4);
    assert!(fixture.host.adopt(99, other.into(), Family::V4).is_err(), "no such slot");
}
