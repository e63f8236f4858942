use core::fmt;
use core::ops::BitOr;

use super::Offload;

/// The set of offloads that a medium takes as they are, without our doing them first.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub struct Takes(u8);

impl Takes {
    /// Finished frames only.
    pub const NONE: Takes = Takes(0);
    /// Frames whose checksum is partial.
    pub const CHECKSUM: Takes = Takes(1 << 0);
    /// Segmentation of TCP over IPv4.
    pub const TSO4: Takes = Takes(1 << 1);
    /// Segmentation of TCP over IPv6.
    pub const TSO6: Takes = Takes(1 << 2);
    /// Segmentation of TCP whose first segment says that the congestion window was reduced.
    pub const ECN: Takes = Takes(1 << 3);
    /// Segmentation of UDP into datagrams, over IPv4 and IPv6.
    pub const USO: Takes = Takes(1 << 4);
    /// Fragmentation of UDP over IPv4.
    pub const UFO: Takes = Takes(1 << 5);
    /// Every kind of request.
    pub const ALL: Takes = Takes((1 << 6) - 1);
    /// No request: the medium is no better off with one large frame than with the small ones that it is made of.
    pub const APART: Takes = Takes(1 << 6);

    /// The set as bits.
    #[inline]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// The set that has these bits; others are none's.
    #[inline]
    pub const fn from_bits(bits: u8) -> Takes {
        Takes(bits & (Takes::ALL.0 | Takes::APART.0))
    }

    /// True if the set has all of `others`.
    #[inline]
    pub const fn contains(self, others: Takes) -> bool {
        self.0 & others.0 == others.0
    }

    /// True if the set is empty.
    #[inline]
    pub const fn is_none(self) -> bool {
        self.0 == 0
    }

    /// Those that are in both sets.
    #[inline]
    #[must_use]
    pub const fn and(self, others: Takes) -> Takes {
        Takes(self.0 & others.0)
    }

    /// Returns the set that a medium needs to take frames with this request as they are. `None` for a type that no
    /// medium takes.
    #[inline]
    pub const fn needed(request: Offload) -> Option<Takes> {
        // Their media's kernels would finish another sum than SCTP's.
        let is_sctp = request.checksum_offset as usize == super::layout::SCTP_CHECKSUM;
        if request.needs_checksum() && !request.is_segmentation() && is_sctp {
            return None;
        }
        let segmentation = match request.gso_type & !Offload::ECN {
            0 => Takes::NONE,
            Offload::TCPV4 => Takes::TSO4,
            Offload::TCPV6 => Takes::TSO6,
            Offload::UDP => Takes::USO,
            Offload::UDP_FRAGMENTS => Takes::UFO,
            _ => return None,
        };
        let ecn = if request.gso_type & Offload::ECN != 0 { Takes::ECN } else { Takes::NONE };
        let checksum = if request.needs_checksum() { Takes::CHECKSUM } else { Takes::NONE };
        Some(Takes(segmentation.0 | ecn.0 | checksum.0))
    }

    /// True if a frame with this request, which has been validated, goes out as it is.
    #[inline]
    pub const fn takes(self, request: Offload) -> bool {
        match Takes::needed(request) {
            Some(needed) => self.contains(needed),
            None => false,
        }
    }
}

impl BitOr for Takes {
    type Output = Takes;

    #[inline]
    fn bitor(self, other: Takes) -> Takes {
        Takes(self.0 | other.0)
    }
}

impl fmt::Display for Takes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const NAMES: [(Takes, &str); 6] = [
            (Takes::CHECKSUM, "checksum"),
            (Takes::TSO4, "tso4"),
            (Takes::TSO6, "tso6"),
            (Takes::ECN, "ecn"),
            (Takes::USO, "uso"),
            (Takes::UFO, "ufo"),
        ];
        if self.is_none() {
            return f.write_str("none");
        }
        let mut separator = "";
        for (_, name) in NAMES.iter().filter(|(one, _)| self.contains(*one)) {
            write!(f, "{separator}{name}")?;
            separator = " ";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(flags: u8, gso_type: u8) -> Offload {
        Offload { flags, gso_type, ..Offload::NONE }
    }

    #[test]
    fn what_goes_out_as_it_is() {
        let tso4 = Takes::CHECKSUM | Takes::TSO4;
        let ecn = Offload::TCPV4 | Offload::ECN;
        for (takes, flags, gso_type, expected) in [
            (Takes::NONE, 0, 0, true),
            (Takes::NONE, Offload::CHECKSUM_VALID, 0, true),
            (Takes::NONE, Offload::NEEDS_CHECKSUM, 0, false),
            (Takes::CHECKSUM, Offload::NEEDS_CHECKSUM, 0, true),
            (Takes::CHECKSUM, Offload::NEEDS_CHECKSUM, Offload::TCPV4, false),
            (tso4, Offload::NEEDS_CHECKSUM, Offload::TCPV4, true),
            (tso4, Offload::NEEDS_CHECKSUM, ecn, false),
            (tso4 | Takes::ECN, Offload::NEEDS_CHECKSUM, ecn, true),
            (tso4, Offload::NEEDS_CHECKSUM, Offload::TCPV6, false),
            (tso4, Offload::NEEDS_CHECKSUM, Offload::UDP, false),
            (Takes::UFO, 0, Offload::UDP_FRAGMENTS, true),
            (Takes::ALL, Offload::NEEDS_CHECKSUM, Offload::UDP, true),
            (Takes::ALL, Offload::NEEDS_CHECKSUM, 2, false),
        ] {
            assert_eq!(takes.takes(request(flags, gso_type)), expected, "{takes:?} {flags} {gso_type}");
        }
    }

    #[test]
    fn names() {
        assert_eq!((Takes::CHECKSUM | Takes::USO).to_string(), "checksum uso");
        assert_eq!(Takes::NONE.to_string(), "none");
    }

    #[test]
    fn sets() {
        assert!(Takes::ALL.contains(Takes::USO | Takes::ECN) && !Takes::TSO4.contains(Takes::TSO6));
        assert_eq!((Takes::TSO4 | Takes::TSO6).and(Takes::TSO6 | Takes::USO), Takes::TSO6);
    }
}
