//! Datagrams of a guest over routers: the errors of the way back, and what fits through.
#![cfg(target_os = "linux")]

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use testbed::{Netns, require};
use vmlan_drivers::uplink::datagrams::{HostDatagrams, slot};
use vmlan_frame::wire::{EchoRepr, IpProtocol, UdpRepr};
use vmlan_frame::{Frame, MacAddr, Pool, PoolSizes};
use vmlan_nat::datagrams::{Datagrams, Drop, Settings, Turn};
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::{Plan, Reach};
use vmlan_nat::{Envelope, Packet, Rates};
use vmlan_sys::{Poller, netns};

const GUEST_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const GATEWAY_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]);
const PATIENCE: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().expect("an address")
}

/// The host (`near`), a router, and a server behind it whose link has an MTU of 1400.
struct Internet {
    near: Netns,
    _router: Netns,
    far: Netns,
}

impl Internet {
    #[track_caller]
    fn new() -> Internet {
        let (near, router, far) = (Netns::new("near"), Netns::new("router"), Netns::new("far"));
        near.veth("wan", &router, "lan");
        router.veth("wan", &far, "lan");
        for (netns, interface, addresses) in [
            (&near, "wan", ["198.51.100.2/24", "2001:db8:1::2/64"]),
            (&router, "lan", ["198.51.100.1/24", "2001:db8:1::1/64"]),
            (&router, "wan", ["203.0.113.1/24", "2001:db8:2::1/64"]),
            (&far, "lan", ["203.0.113.7/24", "2001:db8:2::7/64"]),
        ] {
            netns.ip(["link", "set", interface, "up"]);
            for address in addresses {
                netns.ip(["address", "add", address, "dev", interface, "nodad"]);
            }
        }
        router.sysctl("net.ipv4.ip_forward", "1");
        router.sysctl("net.ipv6.conf.all.forwarding", "1");
        for (netns, via4, via6) in
            [(&near, "198.51.100.1", "2001:db8:1::1"), (&far, "203.0.113.1", "2001:db8:2::1")]
        {
            netns.ip(["route", "add", "default", "via", via4]);
            netns.ip(["-6", "route", "add", "default", "via", via6]);
        }
        router.ip(["link", "set", "wan", "mtu", "1400"]);
        far.ip(["link", "set", "lan", "mtu", "1400"]);
        Internet { near, _router: router, far }
    }

    /// A socket of the server's, at port 7000 of an address.
    #[track_caller]
    fn server(&self, address: &'static str) -> UdpSocket {
        let bind = || {
            let socket = UdpSocket::bind((ip(address), 7000))?;
            socket.set_read_timeout(Some(PATIENCE))?;
            Ok(socket)
        };
        netns::within(&self.far.path(), bind).expect("a port")
    }
}

/// A guest and its uplink, in the thread's network namespace.
struct Uplink {
    reach: Reach,
    rates: Rates,
    pool: Pool,
    poller: Arc<Poller>,
    host: HostDatagrams,
    datagrams: Datagrams,
    out: VecDeque<Frame>,
}

impl Uplink {
    fn new() -> Uplink {
        let subnet4 = Some(Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 });
        let subnet6 = Some(Subnet6 { network: "fd00:1:2:3::".parse().expect("an address") });
        let plan = Plan { subnet4, subnet6, ..Plan::default() };
        let poller = Arc::new(Poller::new().expect("a descriptor"));
        Uplink {
            reach: Reach::new(plan, [1, 2]),
            rates: Rates::default(),
            pool: Pool::new(PoolSizes { small: 256, large: 4, bulk: 0 }),
            host: HostDatagrams::new(poller.clone(), 64, 7),
            poller,
            datagrams: Datagrams::new(Settings {
                gateway_mac: GATEWAY_MAC,
                subnet4,
                subnet6,
                mtu: 1500,
                flows: 64,
                udp_per_guest: 32,
                echo_per_guest: 8,
                open_filter: false,
                key: [3, 4],
            }),
            out: VecDeque::new(),
        }
    }

    fn take(&mut self, frame: &Frame) {
        self.take_packet(&Packet::parse(frame).expect("a good packet"));
    }

    fn take_packet(&mut self, packet: &Packet<'_>) {
        let now = vmlan_frame::Instant::from_nanos(vmlan_sys::monotonic_nanos());
        let Uplink { reach, rates, pool, host, datagrams, out, .. } = self;
        let mut turn = Turn { reach, rates, now, pool, station: &|_| None, out };
        // Counted as well, which the test looks at.
        let _ = datagrams.take(host, packet, &mut turn);
        datagrams.flush(host, &mut turn);
    }

    /// Waits for the next frame to the guest.
    #[track_caller]
    fn next(&mut self) -> Frame {
        let end = Instant::now() + PATIENCE;
        let mut ready = Vec::new();
        while self.out.is_empty() {
            assert!(Instant::now() < end, "nothing came: {:?}", self.datagrams.counts());
            self.poller.wait(&mut ready, Some(Duration::from_millis(100))).expect("a poller");
            let now = vmlan_frame::Instant::from_nanos(vmlan_sys::monotonic_nanos());
            let Uplink { reach, rates, pool, host, datagrams, out, .. } = self;
            let mut turn = Turn { reach, rates, now, pool, station: &|_| None, out };
            for slot in ready.iter().filter_map(|ready| slot(ready.token)) {
                while datagrams.ready(host, slot, 64, &mut turn) {}
            }
        }
        self.out.pop_front().expect("a frame")
    }

    fn guest(&self, to: IpAddr) -> IpAddr {
        if to.is_ipv4() { ip("10.213.5.16") } else { ip("fd00:1:2:3::16") }
    }

    fn envelope(&self, to: IpAddr, protocol: IpProtocol, hop_limit: u8) -> Envelope {
        let envelope = Envelope::new(GATEWAY_MAC, GUEST_MAC, (self.guest(to), to), protocol);
        Envelope { hop_limit, ..envelope.expect("one family") }
    }

    fn udp(&self, to: &str, len: usize, hop_limit: u8) -> Frame {
        let to: SocketAddr = to.parse().expect("an address and a port");
        let envelope = self.envelope(to.ip(), IpProtocol::UDP, hop_limit);
        let frame = envelope.frame(&self.pool, UdpRepr::HEADER_LEN + len, |octets, addresses| {
            octets[UdpRepr::HEADER_LEN..].fill(7);
            UdpRepr { source_port: 4000, destination_port: to.port() }.emit(octets, addresses);
        });
        of_guest(frame)
    }

    fn echo(&self, to: &str, hop_limit: u8) -> Frame {
        let to = ip(to);
        let protocol = if to.is_ipv4() { IpProtocol::ICMP } else { IpProtocol::ICMPV6 };
        let echo = EchoRepr { reply: false, identifier: 77, sequence: 5 };
        let envelope = self.envelope(to, protocol, hop_limit);
        let frame = envelope.frame(&self.pool, EchoRepr::HEADER_LEN + 4, |octets, addresses| {
            octets[EchoRepr::HEADER_LEN..].copy_from_slice(b"ping");
            if to.is_ipv4() { echo.emit_v4(octets) } else { echo.emit_v6(octets, addresses) }
        });
        of_guest(frame)
    }
}

fn of_guest(frame: Option<Frame>) -> Frame {
    let mut frame = frame.expect("a buffer");
    frame.meta.ingress = 1;
    frame
}

/// Sender, type and code of a message of ICMP, and what it quotes.
fn message(frame: &Frame) -> (IpAddr, u8, u8, Vec<u8>) {
    let packet = Packet::parse(frame).expect("a good packet");
    (packet.source(), packet.upper[0], packet.upper[1], packet.upper[8..].to_vec())
}

#[test]
fn case_34_traceroute_sees_gateway_router_and_target() {
    require!(namespaces());
    let internet = Internet::new();
    netns::within(&internet.near.path(), || {
        for (server, gateway, router, exceeded, unreachable) in [
            ("203.0.113.7", "10.213.5.1", "198.51.100.1", (11, 0), (3, 3)),
            ("2001:db8:2::7", "fd00:1:2:3::1", "2001:db8:1::1", (3, 0), (1, 4)),
        ] {
            let mut uplink = Uplink::new();
            let to = SocketAddr::new(ip(server), 33_434).to_string();
            for (hop_limit, from, expected) in
                [(1, gateway, exceeded), (2, router, exceeded), (3, server, unreachable)]
            {
                let probe = uplink.udp(&to, 32, hop_limit);
                uplink.take(&probe);
                let (sender, kind, code, quoted) = message(&uplink.next());
                assert_eq!((sender, (kind, code)), (ip(from), expected), "UDP, {hop_limit} to {server}");
                let ports = quoted.len() - 40;
                assert_eq!(quoted[ports..ports + 4], [0x0f, 0xa0, 0x82, 0x9a]);
            }
            for (hop_limit, from, expected) in [(1, gateway, exceeded), (2, router, exceeded)] {
                let probe = uplink.echo(server, hop_limit);
                uplink.take(&probe);
                let (sender, kind, code, quoted) = message(&uplink.next());
                assert_eq!((sender, (kind, code)), (ip(from), expected), "echo, {hop_limit} to {server}");
                assert_eq!(quoted[quoted.len() - 12..], probe.octets()[probe.len() - 12..]);
            }
            let probe = uplink.echo(server, 3);
            uplink.take(&probe);
            let (sender, kind, _, data) = message(&uplink.next());
            let reply = if ip(server).is_ipv4() { 0 } else { 129 };
            assert_eq!((sender, kind, &data[..]), (ip(server), reply, &b"ping"[..]));
        }
        Ok(())
    })
    .expect("a namespace");
}

#[test]
fn case_32_large_datagrams_are_whole_both_ways() {
    require!(namespaces());
    let internet = Internet::new();
    let servers = ["203.0.113.7", "2001:db8:2::7"].map(|address| internet.server(address));
    netns::within(&internet.near.path(), || {
        for server in &servers {
            let mut uplink = Uplink::new();
            let frame = uplink.udp(&server.local_addr()?.to_string(), 60_000, 64);
            // As a packet that came in fragments.
            let packet = Packet { dont_fragment: false, ..Packet::parse(&frame).expect("a good packet") };
            uplink.take_packet(&packet);
            if packet.source().is_ipv6() {
                // No router fragments IPv6, so the host first has to be told of the MTU.
                let told = uplink.next();
                assert_eq!(Packet::parse(&told).expect("a good packet").upper[..2], [2, 0]);
                uplink.take_packet(&packet);
            }
            let mut buffer = vec![0; 1 << 16];
            let (len, from) = server.recv_from(&mut buffer)?;
            assert_eq!((len, &buffer[..len]), (60_000, &[7; 60_000][..]));
            server.send_to(&buffer[..len], from)?;
            let end = Instant::now() + PATIENCE;
            let now = vmlan_frame::Instant::ZERO;
            let whole = loop {
                let fragment = uplink.next();
                assert!(fragment.len() <= 1514 && Instant::now() < end);
                let packet = Packet::parse(&fragment).expect("a good packet");
                if let Some(whole) = uplink.datagrams.assemble(&packet, now) {
                    break whole;
                }
            };
            assert_eq!(whole.packet().upper[UdpRepr::HEADER_LEN..], [7; 60_000]);
        }
        Ok(())
    })
    .expect("a namespace");
}

#[test]
fn case_35_the_mtu_of_a_path_is_told_and_then_kept() {
    require!(namespaces());
    let internet = Internet::new();
    let servers = ["203.0.113.7", "2001:db8:2::7"].map(|address| internet.server(address));
    netns::within(&internet.near.path(), || {
        for (server, headers, too_big) in [(&servers[0], 28, (3, 4)), (&servers[1], 48, (2, 0))] {
            let mut uplink = Uplink::new();
            let to = server.local_addr()?.to_string();
            // The router tells the first time, the host itself the second.
            for _ in 0..2 {
                let big = uplink.udp(&to, 1500 - headers, 64);
                uplink.take(&big);
                let told = uplink.next();
                let packet = Packet::parse(&told).expect("a good packet");
                assert_eq!((packet.upper[0], packet.upper[1]), too_big);
                assert_eq!(packet.upper[6..8], 1400u16.to_be_bytes());
                thread::sleep(Duration::from_millis(10));
            }
            assert_eq!(uplink.datagrams.counts().dropped(Drop::TooBig), 1);
            let fits = uplink.udp(&to, 1400 - headers, 64);
            uplink.take(&fits);
            let (len, from) = server.recv_from(&mut [0; 2000])?;
            assert_eq!(len, 1400 - headers);
            server.send_to(b"answer", from)?;
            let answer = uplink.next();
            let packet = Packet::parse(&answer).expect("a good packet");
            assert_eq!((packet.source(), &packet.upper[8..]), (server.local_addr()?.ip(), &b"answer"[..]));
        }
        Ok(())
    })
    .expect("a namespace");
}

#[test]
fn a_host_that_permits_ping_sockets_has_no_raw_ones() {
    require!(namespaces());
    let internet = Internet::new();
    internet.near.sysctl("net.ipv4.ping_group_range", "0 2147483647");
    netns::within(&internet.near.path(), || {
        for server in ["203.0.113.7", "2001:db8:2::7"] {
            let mut uplink = Uplink::new();
            for hop_limit in [2, 64] {
                let probe = uplink.echo(server, hop_limit);
                uplink.take(&probe);
                let (sender, kind, _, quoted) = message(&uplink.next());
                let replies = [0, 129].contains(&kind);
                assert_eq!((replies, sender == ip(server)), (hop_limit == 64, hop_limit == 64));
                let tail = if replies { 4 } else { 12 };
                assert_eq!(quoted[quoted.len() - tail..], probe.octets()[probe.len() - tail..]);
            }
        }
        let raw = std::fs::read_to_string("/proc/thread-self/net/raw")?;
        assert_eq!(raw.lines().count(), 1, "{raw}");
        Ok(())
    })
    .expect("a namespace");
}
