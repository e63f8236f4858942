//! The knowledge of protocols that each kind of medium has: Ethernet, tunnels, loopback.

use vmlan_frame::{BadOffload, Batch, ETHERNET_HEADER, Frame, Meta, Pool, SegmentError, Size, TrafficClass};

use crate::{Address, Error, LinkAddress, ProtocolFamily};

/// The answer of a demultiplexer about a received frame.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Demux {
    /// It belongs to this family.
    Family(ProtocolFamily),
    /// It belongs to none that the medium knows.
    Unknown,
    /// The demultiplexer owns the frame (it took it with [`core::mem::take`]).
    Consumed,
}

/// The link header that the framer makes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The family of what follows it.
    pub family: ProtocolFamily,
    /// The frame type: on Ethernet the EtherType. A family of LLC or SNAP has none; its header follows from it.
    pub frame_type: u16,
    /// The link address of the next hop, where the medium has addresses.
    pub destination: Option<LinkAddress>,
    /// The link's own address.
    pub source: Option<LinkAddress>,
}

/// The stations that a frame is for, by its destination.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Receiver {
    /// This one, or the medium does not tell stations apart.
    Station,
    /// The members of a group.
    Group,
    /// All of the medium.
    Broadcast,
    /// Another one.
    Other,
}

/// A kind of medium: finds a frame's protocol, and makes the link header.
pub trait Media: Send + Sync {
    /// The family of a frame with its link header, without touching it.
    fn family(&self, frame: &Frame) -> Option<ProtocolFamily>;

    /// The family of a received frame. Asked for each frame only when [`Media::consumes`] or somebody needs it.
    fn demux(&self, frame: &mut Frame) -> Demux {
        self.family(frame).map_or(Demux::Unknown, Demux::Family)
    }

    /// True if [`Media::demux`] may take frames for itself; asked once, at attach.
    fn consumes(&self) -> bool {
        false
    }

    /// The stations that a frame with its link header is for, seen from the one that has the address `own`.
    fn receiver(&self, frame: &Frame, own: LinkAddress) -> Receiver {
        let _ = (frame, own);
        Receiver::Station
    }

    /// The traffic class that a received frame asks for.
    fn class(&self, frame: &Frame) -> TrafficClass {
        let _ = frame;
        TrafficClass::BestEffort
    }

    /// The framer: puts the link header in front of `frame`.
    ///
    /// # Errors
    /// [`Error::NoBuffers`] when the pool has none, [`Error::InvalidArgument`] when `header` does not fit the medium,
    /// [`Error::MessageSize`] when the packet is longer than a length field of the medium can say.
    fn prepend(&self, pool: &Pool, frame: &mut Frame, header: &Header) -> Result<(), Error>;

    /// Cuts a frame that asks for segmentation, with its link header, and adds the segments, which ask for nothing, to
    /// `out`; answers how many.
    ///
    /// # Errors
    /// [`SegmentError::NoBuffer`] when the pool has not enough, [`SegmentError::NotValid`] when the request does not
    /// fit the frame; `out` is then as it was.
    fn segment(&self, pool: &Pool, frame: &Frame, out: &mut Batch) -> Result<usize, SegmentError> {
        vmlan_frame::offload::segment(frame, pool, out)
    }

    /// Lets the medium carry `family`.
    ///
    /// # Errors
    /// Attaching the protocol returns the error.
    fn add_protocol(&self, family: ProtocolFamily) -> Result<(), Error>;

    /// Takes back [`Media::add_protocol`].
    fn del_protocol(&self, family: ProtocolFamily) {
        let _ = family;
    }

    /// Checks that the medium can receive `group`, and returns the group's link address.
    ///
    /// # Errors
    /// [`Error::OperationNotSupported`] when the medium knows nothing of it.
    fn check_multicast(&self, group: &Address) -> Result<Option<LinkAddress>, Error>;
}

/// Ethernet (IEEE 802.3 3.2), with EtherTypes, LLC (IEEE 802.2) and SNAP (IEEE 802 9.5). Carries any protocol.
#[derive(Clone, Copy, Default, Debug)]
pub struct Ethernet;

/// The first EtherType (IEEE 802.3 3.2.6).
const FIRST_TYPE: u16 = 0x600;
/// The largest length of an LLC frame. What is between the two means nothing (IEEE 802.3 3.2.6).
const LAST_LENGTH: u16 = 1500;

/// The family of a frame whose LLC header and packet have `len` octets.
#[cold]
fn llc_family(frame: &Frame, len: u16) -> Option<ProtocolFamily> {
    frame.octets().get(ETHERNET_HEADER..)?.get(..usize::from(len)).and_then(ProtocolFamily::of_llc)
}

impl Media for Ethernet {
    /// A frame whose length field says more than there is belongs to no family.
    #[inline]
    fn family(&self, frame: &Frame) -> Option<ProtocolFamily> {
        match frame.ethertype()? {
            ethertype @ FIRST_TYPE.. => Some(ProtocolFamily::from_ethertype(ethertype)),
            len @ ..=LAST_LENGTH => llc_family(frame, len),
            _ => None,
        }
    }

    /// A frame without an address is for nobody, and so for another one.
    #[inline]
    fn receiver(&self, frame: &Frame, own: LinkAddress) -> Receiver {
        match frame.destination() {
            Some(mac) if mac.is_broadcast() => Receiver::Broadcast,
            Some(mac) if mac.is_multicast() => Receiver::Group,
            Some(mac) if mac.0 == *own.octets() => Receiver::Station,
            _ => Receiver::Other,
        }
    }

    fn class(&self, frame: &Frame) -> TrafficClass {
        TrafficClass::of(frame)
    }

    fn prepend(&self, pool: &Pool, frame: &mut Frame, header: &Header) -> Result<(), Error> {
        let mac = |address: Option<LinkAddress>| address.and_then(|address| address.mac());
        let destination = mac(header.destination).ok_or(Error::InvalidArgument)?;
        let source = mac(header.source).ok_or(Error::InvalidArgument)?;
        let mut octets = [0; ETHERNET_HEADER + 8];
        octets[..6].copy_from_slice(&destination.0);
        octets[6..12].copy_from_slice(&source.0);
        let (frame_type, end) = match header.family.llc_header() {
            None => (header.frame_type, ETHERNET_HEADER),
            Some((llc, len)) => {
                octets[ETHERNET_HEADER..].copy_from_slice(&llc);
                let length = u16::try_from(len + frame.len()).ok().filter(|length| *length <= LAST_LENGTH);
                (length.ok_or(Error::MessageSize)?, ETHERNET_HEADER + len)
            }
        };
        octets[12..ETHERNET_HEADER].copy_from_slice(&frame_type.to_be_bytes());
        prepend_octets(pool, frame, &octets[..end])
    }

    fn add_protocol(&self, _: ProtocolFamily) -> Result<(), Error> {
        Ok(())
    }

    /// Group MAC addresses are what they are; IPv4 and IPv6 groups map as in RFC 1112 6.4 and RFC 2464 7.
    fn check_multicast(&self, group: &Address) -> Result<Option<LinkAddress>, Error> {
        use core::net::IpAddr;
        let mac = match group {
            Address::Link(link) => {
                link.mac().filter(|mac| mac.is_multicast()).ok_or(Error::InvalidArgument)?
            }
            Address::Ip(ip) if !ip.is_multicast() => return Err(Error::InvalidArgument),
            Address::Ip(IpAddr::V4(ip)) => {
                let [_, b, c, d] = ip.octets();
                vmlan_frame::MacAddr([0x01, 0x00, 0x5e, b & 0x7f, c, d])
            }
            Address::Ip(IpAddr::V6(ip)) => {
                let [.., a, b, c, d] = ip.octets();
                vmlan_frame::MacAddr([0x33, 0x33, a, b, c, d])
            }
        };
        Ok(Some(mac.into()))
    }
}

/// Media without link addresses whose header is the protocol family in four octets, big-endian.
#[derive(Clone, Copy, Debug)]
pub struct FamilyHeader {
    only_ip: bool,
}

impl FamilyHeader {
    /// Octets of the header.
    pub const LEN: usize = 4;
    /// A user tunnel: carries IPv4 and IPv6 only.
    pub const TUNNEL: FamilyHeader = FamilyHeader { only_ip: true };
    /// Loopback: carries anything.
    pub const LOOPBACK: FamilyHeader = FamilyHeader { only_ip: false };
}

impl Media for FamilyHeader {
    /// A family that contradicts the packet's IP version is unknown.
    #[inline]
    fn family(&self, frame: &Frame) -> Option<ProtocolFamily> {
        let (family, packet) = frame.octets().split_first_chunk::<{ FamilyHeader::LEN }>()?;
        let family = ProtocolFamily(u64::from(u32::from_be_bytes(*family)));
        let version = packet.first().map(|octet| octet >> 4);
        let fits = match family {
            ProtocolFamily::UNSPECIFIED => false,
            ProtocolFamily::INET => version == Some(4),
            ProtocolFamily::INET6 => version == Some(6),
            _ => !self.only_ip,
        };
        fits.then_some(family)
    }

    fn class(&self, frame: &Frame) -> TrafficClass {
        frame.octets().get(FamilyHeader::LEN..).map_or(TrafficClass::BestEffort, TrafficClass::of_packet)
    }

    fn prepend(&self, pool: &Pool, frame: &mut Frame, header: &Header) -> Result<(), Error> {
        let family = u32::try_from(header.family.0).map_err(|_| Error::InvalidArgument)?;
        prepend_octets(pool, frame, &family.to_be_bytes())
    }

    /// Segments are cut behind an Ethernet header, which gives its place to the family again.
    fn segment(&self, pool: &Pool, frame: &Frame, out: &mut Batch) -> Result<usize, SegmentError> {
        const LONGER: usize = ETHERNET_HEADER - FamilyHeader::LEN;
        let ethertype: u16 = match self.family(frame) {
            Some(ProtocolFamily::INET) => 0x0800,
            Some(ProtocolFamily::INET6) => 0x86dd,
            _ => return Err(BadOffload::WrongHeaders.into()),
        };
        let header: [u8; FamilyHeader::LEN] =
            *frame.octets().first_chunk().expect("a frame with a family has the header");
        let mut ethernet = frame.clone();
        ethernet.meta.offload =
            frame.meta.offload.shifted(LONGER as isize).ok_or(BadOffload::HeaderLength)?;
        ethernet.trim_front(FamilyHeader::LEN);
        let mut octets = [0; ETHERNET_HEADER];
        octets[12..].copy_from_slice(&ethertype.to_be_bytes());
        if !ethernet.prepend(pool, &octets) {
            return Err(SegmentError::NoBuffer);
        }
        let before = out.len();
        let made = vmlan_frame::offload::segment(&ethernet, pool, out)?;
        // Several segments can share a buffer, so each is copied.
        let is_complete = out.iter_mut().skip(before).all(|segment| {
            segment.trim_front(ETHERNET_HEADER);
            segment.prepend(pool, &header)
        });
        if is_complete {
            return Ok(made);
        }
        let mut at = 0;
        out.retain(|_| {
            at += 1;
            at <= before
        });
        Err(SegmentError::NoBuffer)
    }

    fn add_protocol(&self, family: ProtocolFamily) -> Result<(), Error> {
        let is_ip = family == ProtocolFamily::INET || family == ProtocolFamily::INET6;
        if is_ip || !self.only_ip { Ok(()) } else { Err(Error::NoProtocolOption) }
    }

    /// Every group is received, and none has a link address.
    fn check_multicast(&self, group: &Address) -> Result<Option<LinkAddress>, Error> {
        match group {
            Address::Ip(ip) if ip.is_multicast() => Ok(None),
            Address::Ip(_) => Err(Error::InvalidArgument),
            Address::Link(_) => Err(Error::OperationNotSupported),
        }
    }
}

fn prepend_octets(pool: &Pool, frame: &mut Frame, header: &[u8]) -> Result<(), Error> {
    *frame = framed(pool, header, frame.octets(), frame.meta).ok_or(Error::NoBuffers)?;
    Ok(())
}

/// Copies a packet to a buffer of its own with `header` in front; positions in its offload request move along. `None`
/// when no buffer is free or large enough.
pub(crate) fn framed(pool: &Pool, header: &[u8], packet: &[u8], mut meta: Meta) -> Option<Frame> {
    let len = header.len() + packet.len();
    let mut buffer = Size::for_octets(len).and_then(|size| pool.take(size))?;
    buffer[..header.len()].copy_from_slice(header);
    buffer[header.len()..len].copy_from_slice(packet);
    if meta.offload != vmlan_frame::Offload::default() {
        let shift = header.len() as u16;
        meta.offload.checksum_start = meta.offload.checksum_start.saturating_add(shift);
        meta.offload.header_len = meta.offload.header_len.saturating_add(shift);
    }
    let mut frame = buffer.into_frame(0..len);
    frame.meta = meta;
    Some(frame)
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::{MacAddr, PoolSizes};

    #[test]
    fn ethernet_families() {
        let pool = Pool::new(PoolSizes::default());
        let family = |ethertype: u16| {
            let mut octets = [0; 60];
            octets[12..14].copy_from_slice(&ethertype.to_be_bytes());
            Ethernet.family(&pool.copy(&octets).unwrap())
        };
        assert_eq!(family(0x0800), Some(ProtocolFamily::INET));
        assert_eq!(family(0x0806), Some(ProtocolFamily::INET));
        assert_eq!(family(0x86dd), Some(ProtocolFamily::INET6));
        assert_eq!(family(0x88cc), Some(ProtocolFamily::from_ethertype(0x88cc)));
        assert_eq!(family(46), Some(ProtocolFamily::from_llc(0, 0)));
        assert_eq!(Ethernet.family(&pool.copy(&[0; 13]).unwrap()), None);
    }

    /// A frame of 60 octets with `len` in its length field and `llc` behind it.
    fn llc_frame(pool: &Pool, len: u16, llc: &[u8]) -> Frame {
        let mut octets = [0; 60];
        octets[12..14].copy_from_slice(&len.to_be_bytes());
        octets[14..][..llc.len()].copy_from_slice(llc);
        pool.copy(&octets).unwrap()
    }

    #[test]
    fn llc_and_snap_families() {
        let pool = Pool::new(PoolSizes::default());
        let stp = ProtocolFamily::from_llc(0x42, 0x42);
        let cdp = ProtocolFamily::from_snap([0, 0, 0x0c], 0x2000);
        let snap = [0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0];
        for (len, llc, expected) in [
            (38, &[0x42, 0x42, 3][..], Some(stp)),
            // A response is of the same family as its command.
            (38, &[0x42, 0x43, 3], Some(stp)),
            (8, &snap, Some(cdp)),
            // The organisation 0 has EtherTypes, behind a header that is not an EtherType's (RFC 1042).
            (46, &[0xaa, 0xaa, 3, 0, 0, 0, 8, 0], Some(ProtocolFamily::from_snap([0; 3], 0x0800))),
            // Too short for SNAP, and no unnumbered information.
            (7, &snap, Some(ProtocolFamily::from_llc(0xaa, 0xaa))),
            (46, &[0xaa, 0xaa, 0xaf, 0, 0, 0x0c, 0x20, 0], Some(ProtocolFamily::from_llc(0xaa, 0xaa))),
            // The length says less than a header, or more than there is.
            (2, &[0x42, 0x42, 3], None),
            (47, &[0x42, 0x42, 3], None),
            // Neither a length nor a type.
            (1501, &[0x42, 0x42, 3], None),
            (0x5ff, &[0x42, 0x42, 3], None),
        ] {
            assert_eq!(Ethernet.family(&llc_frame(&pool, len, llc)), expected, "{len} {llc:02x?}");
        }
        assert_ne!(ProtocolFamily::from_snap([0; 3], 0x0800), ProtocolFamily::INET);
        assert_ne!(ProtocolFamily::from_llc(0, 2), ProtocolFamily::INET);
    }

    #[test]
    fn ethernet_framer_makes_llc_headers() {
        let pool = Pool::new(PoolSizes::default());
        let address = |last| Some(MacAddr([2, 0, 0, 0, 0, last]).into());
        let frame = |family, packet: &[u8]| {
            let mut frame = pool.copy(packet).unwrap();
            let header = Header { family, frame_type: 0, destination: address(1), source: address(2) };
            Ethernet.prepend(&pool, &mut frame, &header).map(|()| frame)
        };
        for (family, header) in [
            (ProtocolFamily::from_llc(0x42, 0x42), &[0, 5, 0x42, 0x42, 3][..]),
            (ProtocolFamily::from_snap([0, 0, 0x0c], 0x2000), &[0, 10, 0xaa, 0xaa, 3, 0, 0, 0x0c, 0x20, 0]),
        ] {
            let made = frame(family, &[7, 8]).unwrap();
            assert_eq!(
                (&made.octets()[12..], Ethernet.family(&made)),
                (&[header, &[7, 8]].concat()[..], Some(family))
            );
        }
        let stp = ProtocolFamily::from_llc(0x42, 0x42);
        assert!(frame(stp, &[0; 1497]).is_ok());
        assert_eq!(frame(stp, &[0; 1498]).err(), Some(Error::MessageSize));
    }

    #[test]
    fn ethernet_framer_moves_offload_positions() {
        let pool = Pool::new(PoolSizes::default());
        let mut frame = pool.copy(&[0x45, 0, 0, 20]).unwrap();
        frame.meta.offload = vmlan_frame::Offload { flags: 1, checksum_start: 20, ..Default::default() };
        let address = |last| Some(MacAddr([2, 0, 0, 0, 0, last]).into());
        let family = ProtocolFamily::INET;
        let header = Header { family, frame_type: 0x0800, destination: address(1), source: address(2) };
        Ethernet.prepend(&pool, &mut frame, &header).unwrap();
        assert_eq!(frame.octets(), [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0, 0x45, 0, 0, 20]);
        assert_eq!(frame.meta.offload.checksum_start, 34);
        let nowhere = Header { destination: None, ..header };
        assert_eq!(Ethernet.prepend(&pool, &mut frame, &nowhere), Err(Error::InvalidArgument));
    }

    #[test]
    fn tunnel_families() {
        let pool = Pool::new(PoolSizes::default());
        let family = |octets: &[u8]| FamilyHeader::TUNNEL.family(&pool.copy(octets).unwrap());
        assert_eq!(family(&[0, 0, 0, 2, 0x45]), Some(ProtocolFamily::INET));
        assert_eq!(family(&[0, 0, 0, 0x1e, 0x60]), Some(ProtocolFamily::INET6));
        assert_eq!(family(&[0, 0, 0, 2, 0x60]), None);
        assert_eq!(family(&[0, 0, 0, 2]), None);
        assert_eq!(family(&[0, 0, 2]), None);
        assert_eq!(family(&[0, 0, 0, 7, 0x45]), None);
        assert_eq!(FamilyHeader::TUNNEL.add_protocol(ProtocolFamily(7)), Err(Error::NoProtocolOption));
        // A family that needs more than the header's four octets.
        let family = ProtocolFamily::from_llc(0x42, 0x42);
        let header = Header { family, frame_type: 0, destination: None, source: None };
        let mut packet = pool.copy(&[7]).unwrap();
        assert_eq!(FamilyHeader::LOOPBACK.prepend(&pool, &mut packet, &header), Err(Error::InvalidArgument));
    }

    #[test]
    fn ethernet_groups() {
        let check = |ip: &str| Ethernet.check_multicast(&Address::Ip(ip.parse().unwrap()));
        let mac = |octets| Ok(Some(LinkAddress::from(MacAddr(octets))));
        assert_eq!(check("239.129.2.3"), mac([1, 0, 0x5e, 1, 2, 3]));
        assert_eq!(check("ff02::1:ff00:1"), mac([0x33, 0x33, 0xff, 0, 0, 1]));
        assert_eq!(check("10.0.0.1"), Err(Error::InvalidArgument));
    }
}
