//! Dividing frames of more than 64 KiB ("BIG TCP") into segmentation frames that a medium can carry.
//!
//! Linux lets an interface have packets of up to 512 KiB whose IP header cannot tell their length (`gso_max_size`,
//! `gro_max_size`): it is 0 over IPv4, and over IPv6 0 with a jumbo payload option (RFC 2675) in front of TCP. Nobody
//! but such an interface knows them, so they are divided on entry, at multiples of the segment size: the segments on a
//! wire are the very same.

use super::layout::Ip;
use super::{BadOffload, MAX_MADE, MAX_SEGMENTS, Offload, SegmentError, validate};
use crate::checksum::checksum;
use crate::wire::field::{array, put_u16, u16_at};
use crate::wire::{EtherType, IpProtocol, TCP_CHECKSUM, TcpFlags, VlanTags};
use crate::{Batch, Pool, Size};

/// Most octets of an IP packet.
const MAX_PACKET: usize = 65_535;

/// Octets of an extension header with nothing but a jumbo payload option.
const JUMBO: usize = 8;

/// Where the headers of a long frame are.
struct Headers {
    network: usize,
    is_v4: bool,
    /// Octets up to the transport header, and of the jumbo payload option in front of that.
    transport: usize,
    jumbo: usize,
    /// The first octet of the payload.
    payload: usize,
}

/// Divides a frame of TCP that is longer than an IP packet, and adds the parts to `out` with requests of their own;
/// answers how many. Each lies in a large buffer of `pool`, and has neither tag nor timestamp beside it.
///
/// # Errors
/// [`SegmentError::NoBuffer`] when `pool` has not enough buffers; [`SegmentError::NotValid`] when the frame is no
/// such one, or its request contradicts it.
pub fn divide(octets: &[u8], request: Offload, pool: &Pool, out: &mut Batch) -> Result<usize, SegmentError> {
    let headers = Headers::parse(octets).ok_or(BadOffload::WrongHeaders)?;
    headers.check(octets, request)?;
    let Headers { network, jumbo, payload, .. } = headers;
    let (len, mss) = (payload - jumbo, usize::from(request.gso_size));
    let segments = [(MAX_PACKET + network - len) / mss, MAX_SEGMENTS, MAX_MADE / (len + mss)];
    let segments = segments.into_iter().min().unwrap_or(0);
    if segments == 0 {
        return Err(BadOffload::SegmentSize(request.gso_size).into());
    }
    let parts = octets[payload..].chunks(segments * mss);
    let count = parts.len();
    if pool.free(Size::Large) < count {
        return Err(SegmentError::NoBuffer);
    }
    for (index, part) in parts.enumerate() {
        let mut buffer = pool.take(Size::Large).expect("the free buffers have been counted");
        let (before, end) = (headers.transport, len + part.len());
        buffer[..before].copy_from_slice(&octets[..before]);
        buffer[before..len].copy_from_slice(&octets[before + jumbo..payload]);
        buffer[len..end].copy_from_slice(part);
        headers.patch(&mut buffer[..end], index * segments, (index == 0, index + 1 == count), mss);
        let gso_type = if index == 0 { request.gso_type } else { request.gso_type & !Offload::ECN };
        let request = Offload {
            flags: Offload::NEEDS_CHECKSUM,
            gso_type,
            header_len: len as u16,
            gso_size: mss.min(part.len()) as u16,
            checksum_start: before as u16,
            checksum_offset: TCP_CHECKSUM as u16,
        };
        let request = validate(&buffer[..end], request)?;
        let mut frame = buffer.into_frame(0..end);
        frame.meta.offload = request;
        out.push(frame);
    }
    Ok(count)
}

/// Into how many parts a frame of `len` octets is divided at most, where its segments are no smaller than usual.
pub fn parts(len: usize) -> usize {
    // The headers of each, and what is left of a segment.
    len.div_ceil(MAX_PACKET - 9 * 1024)
}

impl Headers {
    fn parse(octets: &[u8]) -> Option<Headers> {
        let tags = VlanTags::parse(octets).ok()?;
        let network = tags.network_offset();
        let packet = octets.get(network..)?;
        let is_v4 = tags.ethertype() == EtherType::IPV4;
        let (transport, jumbo) = match tags.ethertype() {
            EtherType::IPV4 => v4(packet)?,
            EtherType::IPV6 => v6(packet)?,
            _ => return None,
        };
        let transport = network + transport;
        let tcp = octets.get(transport + jumbo..)?;
        let tcp_len = 4 * usize::from(tcp.get(12)? >> 4);
        if tcp_len < 20 || tcp_len >= tcp.len() {
            return None;
        }
        Some(Headers { network, is_v4, transport, jumbo, payload: transport + jumbo + tcp_len })
    }

    fn check(&self, octets: &[u8], request: Offload) -> Result<(), BadOffload> {
        let kind = if self.is_v4 { Offload::TCPV4 } else { Offload::TCPV6 };
        if request.gso_type & !Offload::ECN != kind {
            return Err(BadOffload::WrongHeaders);
        }
        if request.flags & Offload::NEEDS_CHECKSUM == 0 {
            return Err(BadOffload::MissingChecksum);
        }
        let place = (usize::from(request.checksum_start), usize::from(request.checksum_offset));
        if place != (self.transport + self.jumbo, TCP_CHECKSUM) {
            return Err(BadOffload::ChecksumPlace);
        }
        if request.gso_size == 0 || usize::from(request.gso_size) > octets.len() - self.payload {
            return Err(BadOffload::SegmentSize(request.gso_size));
        }
        Ok(())
    }

    /// Patches the headers of a part that begins with segment `index` of the whole frame; whether it is the first and
    /// the last part.
    fn patch(&self, part: &mut [u8], index: usize, (first, last): (bool, bool), mss: usize) {
        let (network, transport) = (self.network, self.transport);
        let length = part.len() - network;
        let ip = if self.is_v4 {
            // Its length fits 16 bits; identifications wrap.
            put_u16(part, network + 2, length as u16);
            let (identification, flags) = (u16_at(part, network + 4), u16_at(part, network + 6));
            let step = if flags & 0x4000 != 0 && identification == 0 { 0 } else { index as u16 };
            put_u16(part, network + 4, identification.wrapping_add(step));
            put_u16(part, network + 10, 0);
            let sum = checksum(&part[network..transport]);
            put_u16(part, network + 10, sum);
            Ip::V4 { at: network }
        } else {
            put_u16(part, network + 4, (length - 40) as u16);
            part[network + 6] = IpProtocol::TCP.0;
            Ip::V6 { at: network }
        };
        let pseudo = ip.pseudo_header(part, IpProtocol::TCP).add_word((part.len() - transport) as u16).fold();
        let tcp = &mut part[transport..];
        // Sequence numbers wrap.
        let sequence = u32::from_be_bytes(array(tcp, 4)).wrapping_add((index * mss) as u32);
        tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
        let ends = if last { 0 } else { (TcpFlags::FIN | TcpFlags::PSH).0 };
        let begins = if first { 0 } else { TcpFlags::CWR.0 };
        let flags = u16_at(tcp, 12) & !(ends | begins);
        put_u16(tcp, 12, flags);
        put_u16(tcp, TCP_CHECKSUM, pseudo);
    }
}

/// Where TCP begins in an IPv4 packet, whose length may be that of all octets.
fn v4(packet: &[u8]) -> Option<(usize, usize)> {
    let header = packet.first_chunk::<20>()?;
    let len = 4 * usize::from(header[0] & 0xf);
    let total = usize::from(u16_at(header, 2));
    // The whole packet and no fragment of one.
    let is_whole = (total == 0 || total == packet.len()) && u16_at(header, 6) & 0x3fff == 0;
    let is_tcp = header[0] >> 4 == 4 && len >= 20 && header[9] == IpProtocol::TCP.0;
    (is_whole && is_tcp).then_some((len, 0))
}

/// The same for IPv6, and the octets of the jumbo payload option in front of it.
fn v6(packet: &[u8]) -> Option<(usize, usize)> {
    let header = packet.first_chunk::<48>()?;
    if header[0] >> 4 != 6 {
        return None;
    }
    let (length, rest) = (usize::from(u16_at(header, 4)), packet.len() - 40);
    if header[6] == IpProtocol::TCP.0 {
        return (length == 0 || length == rest).then_some((40, 0));
    }
    let option: [u8; JUMBO] = array(header, 40);
    let is_jumbo = length == 0
        && header[6] == IpProtocol::HOP_BY_HOP.0
        && option[..4] == [IpProtocol::TCP.0, 0, 0xc2, 4]
        && u32::from_be_bytes(array(&option, 4)) as usize == rest;
    is_jumbo.then_some((40, JUMBO))
}
