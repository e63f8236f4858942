//! Segmentation of what a tunnel carries, and the checksum of SCTP.

use vmlan_frame::checksum::checksum;
use vmlan_frame::offload::{BadOffload, Takes, finish_checksum, segment, segment_partial, validate};
use vmlan_frame::wire::{EtherType, IpProtocol};
use vmlan_frame::{Batch, Offload};

use crate::shape::*;

/// A tunnel: over IPv6, in UDP with this port, and whether with a checksum; else GRE.
#[derive(Clone, Copy, Debug)]
struct Outer {
    v6: bool,
    udp: bool,
    sum: bool,
}

impl Outer {
    fn len(self) -> u16 {
        14 + if self.v6 { 40 } else { 20 } + if self.udp { 16 } else { 4 }
    }

    /// The frame around an inner one.
    fn around(self, inner: &[u8], index: usize) -> Vec<u8> {
        let (protocol, mut payload) = match self.udp {
            false => (47, [&[0, 0, 0x65, 0x58], inner].concat()),
            true => {
                let length = (16 + inner.len() as u16).to_be_bytes();
                let vxlan = [8, 0, 0, 0, 0, 0, 7, 0];
                (17, [&[0xc0, 1, 0x12, 0xb5], &length[..], &[0, 0], &vxlan, inner].concat())
            }
        };
        if self.udp && self.sum {
            let addresses = if self.v6 { V6 } else { V4 };
            let pseudo = addresses.pseudo_header(IpProtocol::UDP, payload.len() as u32);
            let sum = pseudo.add_octets(&payload).udp_checksum();
            payload[6..8].copy_from_slice(&sum.to_be_bytes());
        }
        let length = payload.len() as u16;
        if self.v6 {
            let mut header = vec![0x60, 0, 0, 0, (length >> 8) as u8, length as u8, protocol, 64];
            header.extend(TCP6.whole(&[])[22..54].iter());
            return ethernet(&[], EtherType::IPV6, &[header, payload].concat());
        }
        let [total, identification] =
            [length + 20, 0xffff_u16.wrapping_add(index as u16)].map(u16::to_be_bytes);
        let mut header = [&[0x45, 0][..], &total, &identification, &[0, 0, 64, protocol, 0, 0]].concat();
        header.extend(TCP4.whole(&[])[26..34].iter());
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        ethernet(&[], EtherType::IPV4, &[header, payload].concat())
    }

    fn request(self, shape: Shape, mss: u16) -> Offload {
        let inner = shape.request(mss);
        let len = self.len();
        Offload { header_len: inner.header_len + len, checksum_start: inner.checksum_start + len, ..inner }
    }
}

const TUNNELS: [Outer; 5] = [
    Outer { v6: false, udp: true, sum: false },
    Outer { v6: false, udp: true, sum: true },
    Outer { v6: true, udp: true, sum: true },
    Outer { v6: false, udp: false, sum: false },
    Outer { v6: true, udp: false, sum: false },
];

#[test]
fn segments_in_a_tunnel_have_the_headers_of_both() {
    for tunnel in TUNNELS {
        for shape in [TCP4, TCP6, Shape { tcp_options: TIMESTAMPS, ..TCP4 }, UDP4, UDP6] {
            let payload = payload(20_000);
            let octets = tunnel.around(&shape.unfinished(&payload), 0);
            let request = tunnel.request(shape, 1001);
            let good = validate(&octets, request).unwrap();
            assert_eq!(good, Offload { gso_type: request.gso_type | Offload::NESTED, ..request });
            assert!(!Takes::ALL.takes(good), "no medium is to cut it");
            let inner = shape.segments(&payload, 1001);
            let expected: Vec<Vec<u8>> =
                inner.iter().enumerate().map(|(index, inner)| tunnel.around(inner, index)).collect();
            let pool = pool();
            let whole = with_request(&pool, &octets, request);
            let (mut complete, mut partial) = (Batch::new(), Batch::new());
            assert_eq!(segment(&whole, &pool, &mut complete), Ok(20));
            assert_eq!(segment_partial(&whole, &pool, &mut partial), Ok(20));
            for (index, expected) in expected.iter().enumerate() {
                let complete = complete.iter().nth(index).unwrap().octets();
                assert!(complete == expected, "{tunnel:?} {shape:?} {index}");
                let partial = partial.iter().nth(index).unwrap();
                let mut octets = partial.octets().to_vec();
                let request = validate(&octets, partial.meta.offload).unwrap();
                finish_checksum(&mut octets, &request);
                assert!(octets == *expected, "{tunnel:?} {shape:?} {index} finished");
            }
        }
    }
}

#[test]
fn what_is_no_packet_in_a_tunnel_is_refused() {
    let tunnel = TUNNELS[0];
    let octets = tunnel.around(&TCP4.unfinished(&payload(3000)), 0);
    let request = tunnel.request(TCP4, 1000);
    let wrong = |at: usize, octet: u8| {
        let mut octets = octets.clone();
        octets[at] = octet;
        validate(&octets, request)
    };
    // Of the inner packet version, length, fragment and protocol, and the length of the outer UDP header.
    for (at, octet) in [(64, 0x55), (67, 0), (70, 0x20), (73, 17), (39, 0)] {
        assert_eq!(wrong(at, octet), Err(BadOffload::WrongHeaders), "{at}");
    }
    let elsewhere = Offload { checksum_start: request.checksum_start + 4, ..request };
    assert_eq!(validate(&octets, elsewhere), Err(BadOffload::WrongHeaders));
    // GRE with a number, which every segment would have to have of its own.
    let tunnel = TUNNELS[3];
    let mut octets = tunnel.around(&TCP4.unfinished(&payload(3000)), 0);
    octets[34] = 0x10;
    assert_eq!(validate(&octets, tunnel.request(TCP4, 1000)), Err(BadOffload::WrongHeaders));
    // What is in no tunnel says of no tunnel.
    let (octets, request) = (TCP4.unfinished(&payload(3000)), TCP4.request(1000));
    let request = Offload { gso_type: request.gso_type | Offload::NESTED, ..request };
    assert_eq!(validate(&octets, request), Err(BadOffload::UnknownType(request.gso_type)));
}

/// Of the packet below with 0 in the field, computed bit by bit.
const CRC: u32 = 0xd85a_3ca5;

#[test]
fn the_checksum_of_sctp_is_another_one() {
    let mut octets = TCP4.whole(&payload(2));
    octets[23] = 132;
    octets.truncate(34);
    octets.extend([0x0b, 0x59, 0x0b, 0x59, 0, 0, 0, 0x2a, 0xaa, 0xbb, 0xcc, 0xdd]);
    octets.extend([3, 0, 0, 10, 1, 2, 3, 4, 5, 6]);
    octets[16..18].copy_from_slice(&42_u16.to_be_bytes());
    let request =
        Offload { flags: Offload::NEEDS_CHECKSUM, checksum_start: 34, checksum_offset: 8, ..Offload::NONE };
    assert_eq!(validate(&octets, request), Ok(request));
    assert!(!Takes::ALL.takes(request), "no medium is to finish it");
    let before = octets.clone();
    finish_checksum(&mut octets, &request);
    assert_eq!(octets[42..46], CRC.to_le_bytes());
    assert!(octets[..42] == before[..42] && octets[46..] == before[46..]);
    for (checksum_start, checksum_offset) in [(34, 10), (38, 8), (34, 16)] {
        let elsewhere = Offload { checksum_start, checksum_offset, ..request };
        assert_eq!(validate(&octets, elsewhere), Err(BadOffload::ChecksumPlace));
    }
    octets.truncate(45);
    octets[16..18].copy_from_slice(&31_u16.to_be_bytes());
    assert_eq!(validate(&octets, request), Err(BadOffload::ChecksumPlace));
}
