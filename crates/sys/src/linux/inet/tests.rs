use std::net::UdpSocket;
use std::time::{Duration, Instant};

use super::*;

const HEADERS: Headers = Headers { hop_limit: 9, class: 0x20, segment: None };

/// Repeats `call` until it does not answer "would block".
fn wait<T>(mut call: impl FnMut() -> io::Result<T>) -> T {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && Instant::now() < end => {
                std::thread::sleep(Duration::from_millis(1));
            }
            result => return result.expect("a result in time"),
        }
    }
}

fn loopback(version: Version, port: u16) -> SocketAddr {
    let ip = match version {
        Version::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Version::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(ip, port)
}

/// A bound socket and its address.
fn bound(version: Version) -> (OwnedFd, SocketAddr) {
    let socket = udp(version).unwrap();
    let address = SocketAddr::try_from(rustix::net::getsockname(&socket).unwrap()).unwrap();
    assert_ne!(address.port(), 0);
    (socket, loopback(version, address.port()))
}

#[test]
fn datagrams_go_and_come() {
    for version in [Version::V4, Version::V6] {
        let ((near, near_address), (far, far_address)) = (bound(version), bound(version));
        send(&near, far_address, b"hello", HEADERS).unwrap();
        let mut buffer = [0; 16];
        let arrived = wait(|| receive(&far, &mut buffer));
        assert_eq!(
            (&buffer[..arrived.len], arrived.from, arrived.truncated),
            (&b"hello"[..], near_address, false)
        );
        send(&near, far_address, &[7; 20], HEADERS).unwrap();
        let arrived = wait(|| receive(&far, &mut buffer));
        assert_eq!((arrived.len, arrived.truncated), (16, true));
        assert_eq!(receive(&far, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(receive_error(&far, &mut buffer).unwrap_err().kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn headers_are_those_that_were_asked_for() {
    let (near, _) = bound(Version::V4);
    let (far, far_address) = bound(Version::V4);
    let on: libc::c_int = 1;
    set_option(&far, libc::SOL_IP, libc::IP_RECVTTL, &on).unwrap();
    set_option(&far, libc::SOL_IP, libc::IP_RECVTOS, &on).unwrap();
    send(&near, far_address, b"hello", HEADERS).unwrap();
    let mut seen = Vec::new();
    let mut buffer = [0; 16];
    wait(|| {
        receive_message(&far, &mut buffer, &mut Address::none(), 0, |_, kind, value| {
            seen.push((kind, value[0]))
        })
    });
    assert_eq!(seen, [(libc::IP_TTL, 9), (libc::IP_TOS, 0x20)]);
}

#[test]
fn a_run_is_cut_and_comes_as_a_run() {
    for version in [Version::V4, Version::V6] {
        let ((near, _), (far, far_address)) = (bound(version), bound(version));
        let payload = Vec::from_iter((0..6000u32).map(|octet| octet as u8));
        send(&near, far_address, &payload, Headers { segment: Some(1200), ..HEADERS }).unwrap();
        let mut came = Vec::new();
        while came.len() < payload.len() {
            let mut buffer = [0; 1 << 16];
            let arrived = wait(|| receive(&far, &mut buffer));
            assert!(arrived.segment == Some(1200) || arrived.len == 1200, "{arrived:?}");
            came.extend_from_slice(&buffer[..arrived.len]);
        }
        assert_eq!(came, payload);
    }
}

#[test]
fn a_closed_port_is_told_with_the_datagram() {
    for version in [Version::V4, Version::V6] {
        let (near, _) = bound(version);
        let closed = bound(version).1;
        send(&near, closed, b"hello", HEADERS).unwrap();
        let mut buffer = [0; 64];
        let error = wait(|| receive_error(&near, &mut buffer));
        let (origin, kind, code) = match version {
            Version::V4 => (ErrorOrigin::Icmpv4, 3, 3),
            Version::V6 => (ErrorOrigin::Icmpv6, 1, 4),
        };
        assert_eq!((error.origin, error.kind, error.code), (origin, kind, code));
        assert_eq!((error.errno, error.destination), (libc::ECONNREFUSED, closed));
        assert_eq!((error.offender, &buffer[..error.len]), (Some(closed.ip()), &b"hello"[..]));
    }
}

#[test]
fn what_is_too_large_is_told_with_the_mtu() {
    for version in [Version::V4, Version::V6] {
        let (near, address) = bound(version);
        set_dont_fragment(&near, version, true).unwrap();
        // Loopback's MTU is one more than the longest packet's length, so only what is no packet is too large for it.
        let error = send(&near, address, &[0; 65_530], HEADERS).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EMSGSIZE));
        set_dont_fragment(&near, version, false).unwrap();
        send(&near, address, &[0; 60_000], HEADERS).unwrap();
    }
}

#[test]
fn echo_comes_back_where_the_host_permits_it() {
    for version in [Version::V4, Version::V6] {
        let kind = if version == Version::V4 { 8 } else { 128 };
        let mut message = [kind, 0, 0, 0, 0x12, 0x34, 0, 1, b'p', b'i', b'n', b'g'];
        for (socket, is_raw) in [(ping(version), false), (raw(version), true)] {
            let Ok(socket) = socket else {
                eprintln!("SKIPPED: {version:?}, raw {is_raw}: {}", socket.unwrap_err());
                continue;
            };
            let sum = internet_sum(&message);
            message[2..4].copy_from_slice(&sum.to_be_bytes());
            send(&socket, loopback(version, 0), &message, HEADERS).unwrap();
            let mut buffer = [0; 128];
            let arrived = wait(|| receive(&socket, &mut buffer));
            let ip = if is_raw && version == Version::V4 { 20 } else { 0 };
            assert_eq!(arrived.from.ip(), loopback(version, 0).ip());
            assert_eq!(buffer[ip], if version == Version::V4 { 0 } else { 129 });
            assert_eq!(buffer[ip + 6..arrived.len], message[6..]);
            message[2..4].fill(0);
        }
    }
}

/// The Internet checksum (RFC 1071).
fn internet_sum(octets: &[u8]) -> u16 {
    let sum: u32 = octets.chunks(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]]))).sum();
    !((sum & 0xffff) + (sum >> 16)) as u16
}

#[test]
fn numbers_are_those_of_std() {
    // Std's sockets meet ours at the same addresses.
    let other = UdpSocket::bind("127.0.0.1:0").unwrap();
    let (near, near_address) = bound(Version::V4);
    send(&near, other.local_addr().unwrap(), b"hello", HEADERS).unwrap();
    let mut buffer = [0; 16];
    assert_eq!(other.recv_from(&mut buffer).unwrap(), (5, near_address));
}
