//! Segments to the guest.

use vmlan_frame::checksum::Addresses;
use vmlan_frame::wire::{IpProtocol, TcpFlags, TcpRepr, TcpSegment};
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, Offload, Pool};

use super::flow::{Flow, flag};
use crate::envelope::Envelope;

/// Octets of the headers in front of the payload, at most: Ethernet, IPv6, TCP without options.
const HEADERS: usize = ETHERNET_HEADER + 40 + TcpRepr::MIN_HEADER_LEN;

/// The place of the checksum in a TCP header (RFC 9293 section 3.1).
const CHECKSUM: u16 = 16;

/// The numbers and flags of one segment.
#[derive(Debug, Clone, Copy)]
pub(super) struct Segment {
    pub(super) sequence: u32,
    pub(super) acknowledgement: u32,
    pub(super) flags: TcpFlags,
    pub(super) window: u16,
}

/// The envelope of a flow's segments.
pub(super) fn envelope(flow: &Flow, gateway: MacAddr) -> Envelope {
    let (other, guest) = (flow.key.other(), flow.key.guest());
    Envelope::new(flow.mac, gateway, (other.ip(), guest.ip()), IpProtocol::TCP)
        .expect("a flow has one family")
}

fn repr<'a>(flow: &Flow, segment: &Segment, options: &'a [u8]) -> TcpRepr<'a> {
    TcpRepr {
        source_port: flow.key.other_port,
        destination_port: flow.key.guest_port,
        sequence: segment.sequence,
        acknowledgement: segment.acknowledgement,
        flags: segment.flags,
        window: segment.window,
        urgent: 0,
        options,
    }
}

/// A segment without data. `None` without a buffer.
pub(super) fn bare(
    flow: &Flow,
    gateway: MacAddr,
    segment: &Segment,
    options: &[u8],
    pool: &Pool,
) -> Option<Frame> {
    let header = repr(flow, segment, options);
    envelope(flow, gateway)
        .frame(pool, header.header_len(), |octets, addresses| header.emit(octets, addresses))
}

/// The options of SYN and SYN/ACK: the largest segment and, where the guest does it, the scale.
pub(super) fn syn_options(mss: u16, flow: &Flow, out: &mut [u8; 8]) -> usize {
    let [high, low] = mss.to_be_bytes();
    *out = [2, 4, high, low, 1, 3, 3, flow.rcv_scale];
    if flow.has(flag::SCALES) { 8 } else { 4 }
}

/// Puts headers in front of the payload in `frame`, in place where no other handle to its buffer is left. Its checksum
/// is left open, and its segmentation where it is more than one segment. False without a buffer; the frame is as it was
/// then.
pub(super) fn prepend(
    frame: &mut Frame,
    flow: &Flow,
    gateway: MacAddr,
    segment: &Segment,
    pool: &Pool,
) -> bool {
    let payload = frame.len();
    let envelope = envelope(flow, gateway);
    let start = envelope.header_len();
    let end = start + TcpRepr::MIN_HEADER_LEN;
    let mut headers = [0; HEADERS];
    envelope.emit(&mut headers, TcpRepr::MIN_HEADER_LEN + payload);
    let tcp = &mut headers[start..end];
    repr(flow, segment, &[]).emit(tcp, &envelope.addresses);
    let length = (TcpRepr::MIN_HEADER_LEN + payload) as u32;
    let sum = envelope.addresses.pseudo_header(IpProtocol::TCP, length).fold();
    TcpSegment::new_checked(tcp).expect("a header was written").set_checksum(sum);
    if !frame.prepend(pool, &headers[..end]) {
        return false;
    }
    let segments = payload > usize::from(flow.mss);
    let kind =
        if matches!(envelope.addresses, Addresses::V4 { .. }) { Offload::TCPV4 } else { Offload::TCPV6 };
    frame.meta.offload = Offload {
        flags: Offload::NEEDS_CHECKSUM,
        gso_type: if segments { kind } else { 0 },
        header_len: if segments { end as u16 } else { 0 },
        gso_size: if segments { flow.mss } else { 0 },
        checksum_start: start as u16,
        checksum_offset: CHECKSUM,
    };
    true
}

/// Takes the headers off again.
pub(super) fn strip(frame: &mut Frame, payload: usize) {
    frame.trim_front(frame.len() - payload);
    frame.meta.offload = Offload::NONE;
}

/// The answer to a segment that belongs to no flow (RFC 9293 section 3.10.7.1); `None` for a reset, or without a
/// buffer.
pub(super) fn reset_for(
    tcp: &TcpSegment<&[u8]>,
    (mac, gateway): (MacAddr, MacAddr),
    addresses: &Addresses,
    pool: &Pool,
) -> Option<Frame> {
    let flags = tcp.flags();
    if flags.contains(TcpFlags::RST) {
        return None;
    }
    let count = |flag| u32::from(flags.contains(flag));
    let length = tcp.payload().len() as u32 + count(TcpFlags::SYN) + count(TcpFlags::FIN);
    let (sequence, acknowledgement, answer) = if flags.contains(TcpFlags::ACK) {
        (tcp.acknowledgement(), 0, TcpFlags::RST)
    } else {
        (0, tcp.sequence().wrapping_add(length), TcpFlags::RST | TcpFlags::ACK)
    };
    let header = TcpRepr {
        source_port: tcp.destination_port(),
        destination_port: tcp.source_port(),
        sequence,
        acknowledgement,
        flags: answer,
        window: 0,
        urgent: 0,
        options: &[],
    };
    let back = (addresses.destination(), addresses.source());
    Envelope::new(mac, gateway, back, IpProtocol::TCP)?.frame(
        pool,
        header.header_len(),
        |octets, addresses| header.emit(octets, addresses),
    )
}
