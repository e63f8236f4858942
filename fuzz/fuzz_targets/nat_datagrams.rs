//! Datagrams, fragments and errors of any content: every one is accounted for, every frame that a guest gets is a good
//! one, sockets are those of flows, and every buffer comes back.
#![no_main]

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{IpProtocol, Ipv4Packet, UdpRepr};
use vmlan_frame::{Frame, Instant, MacAddr, Offload, Pool, PoolSizes, offload};
use vmlan_nat::datagrams::{
    Control, DatagramSockets, Datagrams, Drop, Family, OpenError, Origin, QueuedError, Received, SendError,
    Settings, SocketKind, Turn,
};
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::{Plan, Reach};
use vmlan_nat::{Envelope, Packet, Rates};

const GUEST: MacAddr = MacAddr([6, 0, 0, 0, 0, 1]);
const GATEWAY: MacAddr = MacAddr([6, 0, 0, 0, 0, 9]);

#[derive(Default)]
struct Sockets {
    open: BTreeMap<u32, (SocketKind, Family)>,
    came: Option<(SocketAddr, Vec<u8>, Option<u16>)>,
    error: Option<(QueuedError, Vec<u8>)>,
    fails: Option<SendError>,
    refuses: Option<OpenError>,
    last: Option<(u32, SocketAddr)>,
}

impl DatagramSockets for Sockets {
    fn open(&mut self, slot: u32, kind: SocketKind, family: Family) -> Result<(), OpenError> {
        if let Some(refused) = self.refuses.take() {
            return Err(refused);
        }
        assert!(slot < 16 && self.open.insert(slot, (kind, family)).is_none());
        Ok(())
    }

    fn send(&mut self, slot: u32, to: SocketAddr, payload: &[u8], control: Control) -> Result<(), SendError> {
        let (kind, family) = self.open[&slot];
        assert_eq!(family, Family::of(to.ip()));
        assert!(payload.len() <= 65_535 && control.hop_limit > 0 && control.class & 3 == 0);
        assert!(control.segment.is_none_or(|segment| segment > 0 && usize::from(segment) < payload.len()));
        assert!(kind == SocketKind::Udp || payload.len() >= 8 && matches!(payload[0], 8 | 128));
        let ip = to.ip();
        assert!(!ip.is_loopback() && !ip.is_multicast() && !ip.is_unspecified());
        self.last = Some((slot, to));
        self.fails.take().map_or(Ok(()), Err)
    }

    fn receive(&mut self, _: u32, buffer: &mut [u8]) -> Option<Received> {
        let (from, payload, segment) = self.came.take()?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some(Received { len, from, segment, truncated: len < payload.len() })
    }

    fn error(&mut self, _: u32, buffer: &mut [u8]) -> Option<QueuedError> {
        let (error, payload) = self.error.take()?;
        let len = payload.len().min(buffer.len());
        buffer[..len].copy_from_slice(&payload[..len]);
        Some(QueuedError { len, ..error })
    }

    fn close(&mut self, slot: u32) {
        assert!(self.open.remove(&slot).is_some());
    }
}

fn settings() -> Settings {
    Settings {
        gateway_mac: GATEWAY,
        subnet4: Some(Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 }),
        subnet6: Some(Subnet6 { network: "fd00::".parse().unwrap() }),
        mtu: 1500,
        flows: 16,
        udp_per_guest: 6,
        echo_per_guest: 3,
        open_filter: false,
        key: [1, 2],
    }
}

/// An IP packet of a guest with `upper` inside, which may be a fragment.
fn frame(pool: &Pool, which: u8, octets: &[u8]) -> Option<Frame> {
    let (head, rest) = octets.split_first_chunk::<8>()?;
    let (source, to): (IpAddr, IpAddr) = if which & 1 == 0 {
        ([10, 213, 5, 16].into(), [203, 0, 113, head[0] & 3].into())
    } else {
        ("fd00::16".parse().unwrap(), [0x2001, 0xdb8, 0, 0, 0, 0, 0, u16::from(head[0] & 3)].into())
    };
    let is_udp = which & 2 == 0;
    let protocol = match (is_udp, which & 1) {
        (true, _) => IpProtocol::UDP,
        (_, 0) => IpProtocol::ICMP,
        _ => IpProtocol::ICMPV6,
    };
    let envelope = Envelope {
        hop_limit: head[1],
        class: head[2],
        ..Envelope::new(GATEWAY, GUEST, (source, to), protocol)?
    };
    let mut frame = envelope.frame(pool, 8 + rest.len(), |upper, addresses| {
        upper[8..].copy_from_slice(rest);
        if is_udp {
            let port = |octet: u8| 5 * u16::from(octet & 7);
            UdpRepr { source_port: port(head[3]), destination_port: port(head[4]) }.emit(upper, addresses);
        } else {
            let kind = if matches!(addresses, Addresses::V4 { .. }) { 8 } else { 128 };
            upper[..8].copy_from_slice(&[kind, 0, 0, 0, 0, head[3] & 7, 0, 1]);
        }
    })?;
    let octets = frame.make_mut(pool)?;
    if which & 5 == 4 {
        let mut ip = Ipv4Packet::new_checked(&mut octets[14..]).ok()?;
        ip.set_identification(u16::from(head[5] & 3));
        ip.set_fragment(u16::from(head[6]) << 3, head[7] & 1 != 0);
        ip.fill_checksum();
    }
    frame.meta.offload = match which & 0x18 {
        0 => Offload::NONE,
        8 => Offload { flags: Offload::CHECKSUM_VALID, ..Offload::NONE },
        kind => Offload {
            flags: Offload::NEEDS_CHECKSUM,
            gso_type: if kind == 0x10 { 0 } else { Offload::UDP },
            header_len: envelope.header_len() as u16 + 8,
            gso_size: u16::from(head[6]),
            checksum_start: envelope.header_len() as u16 + u16::from(head[7] & 8),
            checksum_offset: 6,
        },
    };
    // As every port does with what comes in.
    frame.meta.offload = offload::validate(frame.octets(), frame.meta.offload).ok()?;
    Some(frame)
}

fuzz_target!(|steps: Vec<(u8, u8, Vec<u8>)>| {
    let settings = settings();
    let plan = Plan { subnet4: settings.subnet4, subnet6: settings.subnet6, ..Plan::default() };
    let mut reach = Reach::new(plan, [3, 4]);
    let pool = Pool::new(PoolSizes { small: 256, large: 4, bulk: 0 });
    let mut sockets = Sockets::default();
    let mut datagrams = Datagrams::new(settings);
    let mut now = Instant::from_secs(1000);
    let mut rates = Rates::new(125_000);
    let mut out = VecDeque::new();
    for (what, which, octets) in steps.iter().take(256) {
        let mut turn = Turn {
            reach: &reach,
            rates: &mut rates,
            now,
            pool: &pool,
            station: &|_| Some((GUEST, 1)),
            out: &mut out,
        };
        match what % 8 {
            0..=2 => {
                let made = if what % 8 == 0 { pool.copy(octets) } else { frame(&pool, *which, octets) };
                let Some(mut frame) = made else { continue };
                frame.meta.ingress = 1 + u16::from(which >> 7);
                let Ok(packet) = Packet::parse(&frame) else { continue };
                if !vmlan_frame::ip::is_station(packet.source()) {
                    continue;
                }
                if packet.fragment.is_none() {
                    let _ = datagrams.take(&mut sockets, &packet, &mut turn);
                } else if let Some(whole) = datagrams.assemble(&packet, now) {
                    let _ = datagrams.take(&mut sockets, &whole.packet(), &mut turn);
                }
                if which & 0x20 == 0 {
                    datagrams.flush(&mut sockets, &mut turn);
                }
            }
            3 | 4 => {
                let Some((slot, from)) = sockets.last.filter(|last| sockets.open.contains_key(&last.0))
                else {
                    continue;
                };
                let mut origin = octets.iter().copied().chain([0; 8]);
                let mut next = || origin.next().unwrap_or(0);
                if what % 8 == 3 {
                    let segment = (which & 1 != 0).then(|| u16::from_be_bytes([next() & 7, next()]));
                    let payload = octets.repeat(1 + usize::from(which >> 4));
                    sockets.came = Some((from, payload, segment));
                } else {
                    let (kind, code, mtu) = (next(), next(), u32::from(next()) << 5);
                    let origin = match which & 3 {
                        0 => Origin::Local { mtu },
                        1 => Origin::Icmpv6 { kind: kind & 7, code: code & 7, mtu },
                        _ => Origin::Icmpv4 { kind: kind & 15, code: code & 15, mtu },
                    };
                    let offender = (which & 4 != 0).then(|| IpAddr::from([next(), next(), next(), next()]));
                    let error = QueuedError { origin, offender, destination: from, len: 0 };
                    sockets.error = Some((error, octets.clone()));
                }
                let _ = datagrams.ready(&mut sockets, slot, 64, &mut turn);
                (sockets.came, sockets.error) = (None, None);
            }
            5 => now = now + Duration::from_millis(u64::from(*which) * 100),
            6 => {
                let failures = [SendError::TooLarge, SendError::Host, SendError::Full, SendError::Other];
                sockets.fails = Some(failures[usize::from(which & 3)]);
                sockets.refuses = (which & 0x40 != 0).then_some(OpenError::Limit);
            }
            _ => match which & 3 {
                0 => datagrams.forget_guest(&mut sockets, 1),
                1 => reach.set_host_addresses([IpAddr::from([203, 0, 113, which >> 6])]),
                2 => datagrams.recheck(&mut sockets, &reach, now),
                _ => datagrams.expire(&mut sockets, now),
            },
        }
        for frame in out.drain(..) {
            assert_eq!((frame.destination(), frame.source()), (Some(GUEST), Some(GATEWAY)));
            let packet = Packet::parse(&frame).expect("a guest gets good packets");
            assert!(packet.ip.len() + 14 == frame.len());
            assert!(frame.meta.offload.is_segmentation() || frame.len() <= 1514);
            let validated = offload::validate(frame.octets(), frame.meta.offload);
            assert_eq!(validated, Ok(frame.meta.offload));
        }
        assert_eq!((pool.out(), datagrams.flows().count()), (0, sockets.open.len()));
    }
    let mut turn =
        Turn { reach: &reach, rates: &mut rates, now, pool: &pool, station: &|_| None, out: &mut out };
    datagrams.flush(&mut sockets, &mut turn);
    datagrams.expire(&mut sockets, now + Duration::from_secs(1000));
    assert!(sockets.open.is_empty() && datagrams.next_deadline().is_none());
    let counts = datagrams.counts();
    let of_fragments = [Drop::FragmentLimit, Drop::FragmentOverlap, Drop::FragmentTimeout];
    let dropped = |reasons: &[Drop]| reasons.iter().map(|reason| counts.dropped(*reason)).sum::<u64>();
    let done = counts.sent + counts.answered + counts.delivered + dropped(&Drop::ALL);
    // What is wrong with a fragment is among the reasons for datagrams too.
    assert!(done >= counts.taken + counts.received + dropped(&of_fragments));
    let fragments = counts.fragments - counts.assembled;
    assert_eq!(done, counts.taken + counts.received + fragments);
});
