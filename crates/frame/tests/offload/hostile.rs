//! The rules that must hold of any frame with any request. Shared with the fuzz targets.

#![allow(dead_code, reason = "everyone uses a part of it")]

use vmlan_frame::checksum::{Addresses, Sum};
use vmlan_frame::offload::{
    MAX_HEADERS, MAX_MADE, MAX_SEGMENTS, Takes, VIRTIO_HEADER, finish_checksum, open_checksum, segment,
    segment_partial, validate,
};
use vmlan_frame::wire::{Headers, IpProtocol, Ipv4Packet, Ipv6Packet, Network, Upper};
use vmlan_frame::{Batch, Frame, Offload, Pool, PoolSizes};

use crate::flows::{Step, Twist};
use crate::shape::*;

thread_local! {
    /// Making a pool takes longer than all that is done with it.
    static POOL: Pool = Pool::new(PoolSizes { small: 600, large: 3, bulk: 1 });
}

/// A virtio-net header and a frame, as they come from a guest.
pub fn from_virtio(octets: &[u8]) -> Option<(Offload, &[u8])> {
    let (header, octets) = octets.split_first_chunk::<VIRTIO_HEADER>()?;
    Some((Offload::from_virtio(header), octets))
}

/// A good frame and request of a shape that `octets` choose, then changed at places that they choose; in this way what
/// is behind the first checks is reached.
pub fn almost_good(octets: &[u8]) -> Option<(Offload, Vec<u8>)> {
    let ([kind, options, len_high, len_low, size_high, size_low], changes) =
        octets.split_first_chunk::<6>().map(|(head, rest)| (*head, rest))?;
    let shape = Shape {
        v6: kind & 1 != 0,
        udp: kind & 2 != 0,
        tunnel: kind & 4 != 0,
        tags: if kind & 8 != 0 { QINQ } else { &[] },
        extensions: usize::from(options & 7),
        ip_options: if options & 8 != 0 { PADDING_OPTIONS } else { &[] },
        tcp_options: if options & 16 != 0 { TIMESTAMPS } else { &[] },
        dont_fragment: options & 32 != 0,
        identification: if options & 64 != 0 { 0 } else { 0xfffe },
        ..TCP4
    };
    let len = usize::from(u16::from_be_bytes([len_high, len_low])) % 8000;
    let mut request = shape.request(u16::from_be_bytes([size_high, size_low]) % 8192);
    if kind & 0x30 == 0x30 && shape.udp {
        request.gso_type = Offload::UDP_FRAGMENTS;
    }
    if kind & 0xc0 == 0xc0 {
        request.gso_type = 0;
    }
    let mut frame = shape.unfinished(&payload(len));
    let mut header = request.to_virtio();
    for change in changes.as_chunks::<3>().0.iter().take(8) {
        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
        // The first octets are changed most often, as they are the headers.
        match at % 4 {
            0 => header[at / 4 % VIRTIO_HEADER] = change[2],
            _ => {
                let at = 12 + at / 4 % 120;
                if let Some(octet) = frame.get_mut(at) {
                    *octet = change[2];
                }
            }
        }
    }
    Some((Offload::from_virtio(&header), frame))
}

/// Steps for [`generated`](crate::flows::generated).
pub fn steps(octets: &[u8]) -> Vec<Step> {
    let step = |[flow, len, twist, argument]: &[u8; 4]| Step {
        flow: usize::from(flow % 6),
        len: [0, 1, 100, 511, 512, 513, 600, 600, 1000, 1000, 1001, 1448][usize::from(len % 12)],
        times: usize::from(len / 12 % 6) + 1,
        twist: match twist % 32 {
            0 => Twist::Hole,
            1 => Twist::Skip,
            2..5 => Twist::Flags(u16::from(*argument)),
            5 => Twist::Ttl,
            6 => Twist::Options,
            7..10 => Twist::Corrupt(usize::from(*argument) + 12),
            10 => Twist::Corrupt(usize::from(*argument) * 6),
            11 => Twist::Pad,
            12 => Twist::Tag,
            13 => Twist::Valid,
            14 => Twist::Fragment,
            _ => Twist::None,
        },
    };
    octets.as_chunks::<4>().0.iter().take(64).map(step).collect()
}

/// Checks that an open checksum, once found, is a good request and is finished for good.
fn check_open(octets: &[u8]) {
    let Some(open) = open_checksum(octets) else { return };
    assert_eq!(validate(octets, open), Ok(open));
    let mut finished = octets.to_vec();
    finish_checksum(&mut finished, &open);
    if let Some(open) = open_checksum(&finished) {
        let before = finished.clone();
        finish_checksum(&mut finished, &open);
        assert_eq!(finished, before);
    }
}

/// Checks a request, and does what it asks for if it is good. Answers whether it is.
///
/// # Panics
/// When something is not as it must be.
pub fn check(octets: &[u8], request: Offload) -> bool {
    let pool = POOL.with(Pool::clone);
    check_open(octets);
    let Ok(good) = validate(octets, request) else {
        // Nothing may happen by a request that was not validated, either.
        if let Some(frame) = plain(&pool, octets, request) {
            assert!(segment(&frame, &pool, &mut Batch::new()).is_err());
        }
        finish_checksum(&mut octets.to_vec(), &request);
        return false;
    };
    assert_eq!(validate(octets, good), Ok(good));
    let is_sctp = !good.is_segmentation() && good.checksum_offset == 8;
    assert!(Takes::ALL.takes(good) || is_sctp || good.gso_type & Offload::NESTED != 0);
    if let Some(tagged) = good.shifted(4) {
        assert_eq!(tagged.shifted(-4), Some(good));
    }
    if good.is_segmentation() {
        let frame = plain(&pool, octets, good).expect("an IP packet fits a buffer");
        check_segments(&pool, &frame);
        assert_eq!(frame.octets(), octets);
        drop(frame);
        assert_eq!(pool.out(), 0);
    } else if good.needs_checksum() {
        check_finished(octets, good);
    } else {
        assert!(good.is_none());
    }
    true
}

fn plain(pool: &Pool, octets: &[u8], request: Offload) -> Option<Frame> {
    let mut frame = pool.copy(octets)?;
    frame.meta.offload = request;
    Some(frame)
}

/// Finishing changes two octets behind the network header, and makes the sum right.
fn check_finished(octets: &[u8], request: Offload) {
    let start = usize::from(request.checksum_start);
    let field = start + usize::from(request.checksum_offset);
    let mut finished = octets.to_vec();
    finish_checksum(&mut finished, &request);
    assert!(field >= 14 && field + 2 <= octets.len());
    let end = if request.checksum_offset == 8 { octets.len().min(field + 4) } else { field + 2 };
    assert!(finished[..field] == octets[..field] && finished[end..] == octets[end..]);
    if request.checksum_offset == 8 {
        return;
    }
    // What stood in the field was the pseudo header's sum.
    let pseudo = u16::from_be_bytes([octets[field], octets[field + 1]]);
    if request.checksum_offset.is_multiple_of(2) {
        let sum = Sum::new().add_octets(&finished[start..]).add_word(pseudo);
        assert!(sum.is_valid());
    }
}

fn check_segments(pool: &Pool, whole: &Frame) {
    let request = whole.meta.offload;
    let (headers, size) = (usize::from(request.header_len), usize::from(request.gso_size));
    assert!(headers <= MAX_HEADERS && headers < whole.len() && size > 0);
    let (mut complete, mut partial) = (Batch::new(), Batch::new());
    let count = segment(whole, pool, &mut complete).expect("validated, and enough buffers");
    assert_eq!(segment_partial(whole, pool, &mut partial), Ok(count));
    assert!((1..=MAX_SEGMENTS).contains(&count));
    assert!(complete.iter().map(Frame::len).sum::<usize>() <= MAX_MADE);
    let later_fragment = request.gso_type == Offload::UDP_FRAGMENTS && !request.needs_checksum();
    assert!(later_fragment || request.segments(whole.len()) == count);
    assert_eq!((complete.len(), partial.len()), (count, count));

    let fragments = request.gso_type == Offload::UDP_FRAGMENTS;
    let first = complete.iter().next().expect("at least one");
    // Of a datagram that is cut into fragments the UDP header is payload; a later fragment has none.
    assert!(first.len() - size == headers || fragments && first.len() - size == headers - 8);
    let headers = first.len() - size;
    let payload: Vec<u8> = complete.iter().flat_map(|frame| frame.octets()[headers..].to_vec()).collect();
    let differs = payload.iter().zip(&whole.octets()[headers..]).filter(|(a, b)| a != b).count();
    // Of a datagram in fragments, the checksum is in what is cut.
    assert!(payload.len() == whole.len() - headers && differs <= if fragments { 2 } else { 0 });
    for (index, (complete, partial)) in complete.iter().zip(&partial).enumerate() {
        let expected = if index + 1 < count { headers + size } else { whole.len() - size * index };
        assert_eq!(complete.len(), expected);
        assert!(complete.meta.offload.is_none());
        check_checksums(complete.octets(), fragments);
        let request = partial.meta.offload;
        assert_eq!(validate(partial.octets(), request), Ok(request));
        let mut finished = partial.octets().to_vec();
        finish_checksum(&mut finished, &request);
        assert!(same_but_zero(&finished, complete.octets(), request));
    }
}

/// True if two frames are the same, except that 0 may stand for 0xffff in the checksum.
fn same_but_zero(a: &[u8], b: &[u8], request: Offload) -> bool {
    let field = usize::from(request.checksum_start) + usize::from(request.checksum_offset);
    a == b
        || a[field..field + 2] == [0xff; 2]
            && b[field..field + 2] == [0; 2]
            && a[..field] == b[..field]
            && a[field + 2..] == b[field + 2..]
}

/// The headers of a finished segment add up, as far as a plain reading of them finds them.
fn check_checksums(octets: &[u8], fragment: bool) {
    let headers = Headers::parse(octets);
    assert_eq!(headers.network_end, octets.len());
    let packet = &octets[headers.network_offset()..];
    let addresses: Addresses = if headers.network == Network::Ipv4 {
        let packet = Ipv4Packet::new_checked(packet).expect("it was parsed");
        assert!(packet.verify_checksum());
        packet.addresses()
    } else {
        let packet = Ipv6Packet::new_checked(packet).expect("it was parsed");
        // With extension headers, there may be another final receiver.
        if packet.extension_headers().count > 0 {
            return;
        }
        packet.addresses()
    };
    if let Upper::Header { protocol: protocol @ (IpProtocol::TCP | IpProtocol::UDP), offset } = headers.upper
        && !fragment
    {
        let transport = &octets[offset..];
        let pseudo = addresses.pseudo_header(protocol, transport.len() as u32);
        assert!(pseudo.add_octets(transport).is_valid());
    }
}
