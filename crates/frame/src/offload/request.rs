/// Octets of the virtio-net header in front of every frame, with the number of buffers (virtio 1.3 5.1.6).
pub const VIRTIO_HEADER: usize = 12;

/// The work that the sender left to be done to the frame, in the terms of the virtio-net header (virtio 1.3 5.1.6).
///
/// The default asks for nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Offload {
    /// [`Offload::NEEDS_CHECKSUM`], [`Offload::CHECKSUM_VALID`] or neither.
    pub flags: u8,
    /// One of [`Offload::TCPV4`], [`Offload::TCPV6`], [`Offload::UDP`] and [`Offload::UDP_FRAGMENTS`], maybe with
    /// [`Offload::ECN`]; 0 is no segmentation.
    pub gso_type: u8,
    /// Octets of all headers together; counts in a segmentation request only.
    pub header_len: u16,
    /// Payload octets of each segment; for fragments, of the IP payload.
    pub gso_size: u16,
    /// Where the sum starts, from the frame's start.
    pub checksum_start: u16,
    /// Where the sum goes, from its start.
    pub checksum_offset: u16,
}

impl Offload {
    /// Nothing is left to be done.
    pub const NONE: Offload =
        Offload { flags: 0, gso_type: 0, header_len: 0, gso_size: 0, checksum_start: 0, checksum_offset: 0 };

    /// Flag: the checksum field holds the sum of the pseudo header only (`VIRTIO_NET_HDR_F_NEEDS_CSUM`).
    pub const NEEDS_CHECKSUM: u8 = 1;
    /// Flag: the sender knows that the checksum is right (`VIRTIO_NET_HDR_F_DATA_VALID`).
    pub const CHECKSUM_VALID: u8 = 2;

    /// Type: TCP over IPv4 (`VIRTIO_NET_HDR_GSO_TCPV4`).
    pub const TCPV4: u8 = 1;
    /// Type: a UDP datagram over IPv4, to be cut into IP fragments, "UFO" (`VIRTIO_NET_HDR_GSO_UDP`).
    pub const UDP_FRAGMENTS: u8 = 3;
    /// Type: TCP over IPv6 (`VIRTIO_NET_HDR_GSO_TCPV6`).
    pub const TCPV6: u8 = 4;
    /// Type: UDP, to be cut into datagrams of their own, "USO" (`VIRTIO_NET_HDR_GSO_UDP_L4`).
    pub const UDP: u8 = 5;
    /// Beside a TCP type: the first segment alone says that the congestion window was reduced
    /// (`VIRTIO_NET_HDR_GSO_ECN`).
    pub const ECN: u8 = 0x80;

    /// Beside a type: the segments are those of a packet in a tunnel (VXLAN, Geneve, GRE). It is of our own, as
    /// virtio-net headers say so by the place of the checksum, if at all; no medium takes such frames.
    pub const NESTED: u8 = 0x10;

    /// Reads a virtio-net header as hosts of little-endian order and virtio 1 write it. Nothing is judged: that is
    /// [`validate`](super::validate)'s part.
    #[inline]
    pub const fn from_virtio(header: &[u8; VIRTIO_HEADER]) -> Offload {
        Offload {
            flags: header[0],
            gso_type: header[1],
            header_len: u16::from_le_bytes([header[2], header[3]]),
            gso_size: u16::from_le_bytes([header[4], header[5]]),
            checksum_start: u16::from_le_bytes([header[6], header[7]]),
            checksum_offset: u16::from_le_bytes([header[8], header[9]]),
        }
    }

    /// Writes a virtio-net header; the number of buffers is 0.
    #[inline]
    pub const fn to_virtio(self) -> [u8; VIRTIO_HEADER] {
        let [header_low, header_high] = self.header_len.to_le_bytes();
        let [size_low, size_high] = self.gso_size.to_le_bytes();
        let [start_low, start_high] = self.checksum_start.to_le_bytes();
        let [offset_low, offset_high] = self.checksum_offset.to_le_bytes();
        [
            self.flags,
            self.gso_type,
            header_low,
            header_high,
            size_low,
            size_high,
            start_low,
            start_high,
            offset_low,
            offset_high,
            0,
            0,
        ]
    }

    /// True if nothing is left to be done. A checksum that is known to be valid asks for nothing.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.gso_type == 0 && self.flags & !Offload::CHECKSUM_VALID == 0
    }

    /// True if the frame must be cut into segments before a plain medium takes it.
    #[inline]
    pub const fn is_segmentation(self) -> bool {
        self.gso_type != 0
    }

    /// True if the checksum must be finished before a plain medium takes the frame.
    #[inline]
    pub const fn needs_checksum(self) -> bool {
        self.flags & Offload::NEEDS_CHECKSUM != 0
    }

    /// How many frames of a plain medium a frame of `len` octets with this validated request stands for: at least one.
    #[inline]
    pub const fn segments(self, len: usize) -> usize {
        if !self.is_segmentation() || self.gso_size == 0 {
            return 1;
        }
        // Of a datagram that is cut into fragments, the UDP header is payload as the rest.
        let payload = if self.gso_type == Offload::UDP_FRAGMENTS { 8 } else { 0 };
        let count = (len + payload).saturating_sub(self.header_len as usize).div_ceil(self.gso_size as usize);
        if count == 0 { 1 } else { count }
    }

    /// How many octets the frames have together that a frame of `len` octets with this validated request stands for:
    /// each segment has headers of its own.
    #[inline]
    pub const fn expanded(self, len: usize) -> usize {
        // Of a datagram that is cut into fragments, the first one alone has the UDP header.
        let repeated = if self.gso_type == Offload::UDP_FRAGMENTS { 8 } else { 0 };
        len + (self.segments(len) - 1) * (self.header_len as usize).saturating_sub(repeated)
    }

    /// The request when `by` octets are put in front of the frame, or cut off it when negative: 4 and -4 for a tag.
    /// `None` when a position in use does not fit.
    #[inline]
    pub fn shifted(self, by: isize) -> Option<Offload> {
        let mut shifted = self;
        if self.is_segmentation() {
            // Before validation it is a hint, which may be 0.
            let by = by.max(-(self.header_len as isize));
            shifted.header_len = usize::from(self.header_len).checked_add_signed(by)?.try_into().ok()?;
        }
        if self.needs_checksum() {
            shifted.checksum_start =
                usize::from(self.checksum_start).checked_add_signed(by)?.try_into().ok()?;
        }
        Some(shifted)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const REQUEST: Offload = Offload {
        flags: 1,
        gso_type: 0x81,
        header_len: 0x0102,
        gso_size: 0x0304,
        checksum_start: 0x0506,
        checksum_offset: 0x0708,
    };

    #[test]
    fn virtio_header() {
        let octets = [1, 0x81, 2, 1, 4, 3, 6, 5, 8, 7, 0, 0];
        assert_eq!(REQUEST.to_virtio(), octets);
        assert_eq!(Offload::from_virtio(&octets), REQUEST);
        assert_eq!(Offload::NONE.to_virtio(), [0; VIRTIO_HEADER]);
    }

    #[test]
    fn what_is_asked_for() {
        let valid = Offload { flags: Offload::CHECKSUM_VALID, ..Offload::NONE };
        let sum = Offload { flags: Offload::NEEDS_CHECKSUM, ..Offload::NONE };
        assert!(Offload::NONE.is_none() && valid.is_none() && !valid.needs_checksum());
        assert!(!sum.is_none() && sum.needs_checksum() && !sum.is_segmentation());
        assert!(!REQUEST.is_none() && REQUEST.is_segmentation());
        assert!(!Offload { flags: 4, ..Offload::NONE }.is_none(), "an unknown flag is not nothing");
    }

    #[test]
    fn how_many_frames_it_stands_for() {
        let tcp = Offload { gso_type: Offload::TCPV4, header_len: 54, gso_size: 1000, ..Offload::NONE };
        let fragments = Offload { gso_type: Offload::UDP_FRAGMENTS, header_len: 42, ..tcp };
        let not_validated = Offload { gso_size: 0, ..tcp };
        for (request, len, expected) in [
            (Offload::NONE, 60, 1),
            (tcp, 54 + 1000, 1),
            (tcp, 54 + 1001, 2),
            (tcp, 54 + 2500, 3),
            (fragments, 42 + 1992, 2),
            (fragments, 42 + 1993, 3),
            (tcp, 10, 1),
            (not_validated, 2000, 1),
        ] {
            assert_eq!(request.segments(len), expected, "{request:?} {len}");
        }
    }

    #[test]
    fn every_segment_has_headers() {
        let tcp = Offload { gso_type: Offload::TCPV4, header_len: 54, gso_size: 1000, ..Offload::NONE };
        let fragments = Offload { gso_type: Offload::UDP_FRAGMENTS, header_len: 42, ..tcp };
        for (request, len, expected) in [
            (Offload::NONE, 60, 60),
            (tcp, 54 + 1000, 54 + 1000),
            (tcp, 54 + 2500, 3 * 54 + 2500),
            (fragments, 42 + 1993, 42 + 1993 + 2 * 34),
            (tcp, 10, 10),
        ] {
            assert_eq!(request.expanded(len), expected, "{request:?} {len}");
        }
    }

    #[test]
    fn a_tag_moves_positions() {
        let tagged = REQUEST.shifted(4).unwrap();
        assert_eq!((tagged.header_len, tagged.checksum_start), (0x0106, 0x050a));
        assert_eq!((tagged.gso_size, tagged.checksum_offset), (REQUEST.gso_size, REQUEST.checksum_offset));
        assert_eq!(tagged.shifted(-4), Some(REQUEST));
    }

    #[test]
    fn positions_that_do_not_fit() {
        assert_eq!(Offload { checksum_start: 3, ..REQUEST }.shifted(-4), None);
        assert_eq!(Offload { checksum_start: u16::MAX, ..REQUEST }.shifted(1), None);
        assert_eq!(Offload { header_len: 3, ..REQUEST }.shifted(-4).unwrap().header_len, 0);
        assert_eq!(Offload { header_len: u16::MAX, ..REQUEST }.shifted(1), None);
        assert_eq!(REQUEST.shifted(isize::MAX), None);
        let none = Offload { checksum_start: 3, ..Offload::NONE };
        assert_eq!(none.shifted(-4), Some(none), "what is not in use does not matter");
    }
}
