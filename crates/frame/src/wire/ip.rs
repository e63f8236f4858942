use core::fmt;

/// A protocol number, the same for IPv4's protocol and IPv6's next header field (IANA protocol numbers).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IpProtocol(pub u8);

impl IpProtocol {
    /// IPv6 hop-by-hop options (RFC 8200 section 4.3).
    pub const HOP_BY_HOP: IpProtocol = IpProtocol(0);
    /// ICMP for IPv4 (RFC 792).
    pub const ICMP: IpProtocol = IpProtocol(1);
    /// IGMP (RFC 9776).
    pub const IGMP: IpProtocol = IpProtocol(2);
    /// IPv4 in IP (RFC 2003).
    pub const IPV4: IpProtocol = IpProtocol(4);
    /// TCP (RFC 9293).
    pub const TCP: IpProtocol = IpProtocol(6);
    /// UDP (RFC 768).
    pub const UDP: IpProtocol = IpProtocol(17);
    /// IPv6 in IP (RFC 2473).
    pub const IPV6: IpProtocol = IpProtocol(41);
    /// IPv6 routing header (RFC 8200 section 4.4).
    pub const ROUTING: IpProtocol = IpProtocol(43);
    /// IPv6 fragment header (RFC 8200 section 4.5).
    pub const FRAGMENT: IpProtocol = IpProtocol(44);
    /// Encapsulating security payload; what follows is encrypted (RFC 4303).
    pub const ESP: IpProtocol = IpProtocol(50);
    /// Authentication header (RFC 4302).
    pub const AUTHENTICATION: IpProtocol = IpProtocol(51);
    /// ICMP for IPv6 (RFC 4443).
    pub const ICMPV6: IpProtocol = IpProtocol(58);
    /// Nothing follows (RFC 8200 section 4.7).
    pub const NO_NEXT_HEADER: IpProtocol = IpProtocol(59);
    /// IPv6 destination options (RFC 8200 section 4.6).
    pub const DESTINATION_OPTIONS: IpProtocol = IpProtocol(60);
    /// SCTP (RFC 9260).
    pub const SCTP: IpProtocol = IpProtocol(132);
    /// IPv6 mobility header (RFC 6275).
    pub const MOBILITY: IpProtocol = IpProtocol(135);
    /// Host identity protocol (RFC 7401).
    pub const HIP: IpProtocol = IpProtocol(139);
    /// Shim6 (RFC 5533).
    pub const SHIM6: IpProtocol = IpProtocol(140);
}

impl fmt::Display for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for IpProtocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Where a fragment belongs in its packet (RFC 791 section 3.1, RFC 8200 section 4.5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fragment {
    /// Octets of the packet's fragmentable part before this fragment, a multiple of 8.
    pub offset: u16,
    /// True if more fragments follow.
    pub more: bool,
    /// The number that all fragments of one packet share; 16 bits of it for IPv4.
    pub identification: u32,
}

impl Fragment {
    /// True if the upper-layer header, if any, is in this fragment.
    #[inline]
    pub const fn is_first(&self) -> bool {
        self.offset == 0
    }
}

/// The content of an IP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Upper {
    /// No upper-layer header: no IP packet, or one that ends with "no next header".
    Absent,
    /// The header of an upper-layer protocol.
    Header {
        /// Whose header it is.
        protocol: IpProtocol,
        /// Where it starts, in octets.
        offset: usize,
    },
    /// A fragment that is not its packet's first: payload from the middle.
    LaterFragment {
        /// The protocol that the packet's fragmentable part starts with: maybe another extension header.
        protocol: IpProtocol,
        /// Where the fragment's payload starts, in octets.
        offset: usize,
    },
    /// It cannot be told, see the reason; a guard should drop such packets (RFC 7113 section 3).
    Undecidable(Undecidable),
}

/// Why it cannot be told what an IP packet carries.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Undecidable {
    /// The octets, or this first fragment, end before the upper-layer header does (RFC 7112 section 5).
    #[error("ends before the upper-layer header does")]
    Truncated,
    /// More extension headers than are followed.
    #[error("more extension headers than are followed")]
    TooMany,
    /// Longer extension headers than are followed.
    #[error("longer extension headers than are followed")]
    TooLong,
    /// Hop-by-hop options that are not the first extension header (RFC 8200 section 4.1).
    #[error("hop-by-hop options that are not the first extension header")]
    Misplaced,
    /// A fragment of a fragment.
    #[error("a second fragment header")]
    Repeated,
}
