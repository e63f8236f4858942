//! VLAN roles of ports, and what they make of a frame.
//!
//! A network in which no port names a VLAN is transparent: tags pass unchanged and addresses are learnt without regard
//! to them. As soon as one port has a role other than [`VlanRole::Unset`], the network is VLAN-aware, and every port
//! without a role is an access port of VLAN 1: a port that nobody configured cannot tag itself into another VLAN.
//!
//! In a VLAN-aware network a frame that carries a customer tag inside its customer tag is refused: sent on without its
//! outer tag, as on a native VLAN, it would come out in the VLAN of the inner one. Service tags (0x88a8) are payload
//! on trunk ports, and refused on access ports. A priority tag (identifier 0) of either kind is no tag to its receiver,
//! which takes it off and looks at what is behind; so a frame with another tag behind a priority tag is refused too.

use core::fmt;

use vmlan_frame::{DropReason, Frame, VlanId, VlanTag};

/// A set of VLAN identifiers.
#[derive(Clone, PartialEq, Eq)]
pub struct VlanSet {
    bits: Box<[u64; 64]>,
}

impl VlanSet {
    /// The empty set.
    pub fn new() -> VlanSet {
        VlanSet { bits: Box::new([0; 64]) }
    }

    /// Every VLAN from 1 to 4094.
    pub fn all() -> VlanSet {
        (1..=4094).map(|vid| VlanId::new(vid).expect("1 to 4094")).collect()
    }

    /// Adds `vlan`.
    pub fn insert(&mut self, vlan: VlanId) {
        self.bits[usize::from(vlan.get() / 64)] |= 1 << (vlan.get() % 64);
    }

    /// True if `vlan` is in the set.
    #[inline]
    pub fn contains(&self, vlan: VlanId) -> bool {
        self.bits[usize::from(vlan.get() / 64)] >> (vlan.get() % 64) & 1 != 0
    }

    /// The VLANs in ascending order.
    pub fn iter(&self) -> impl Iterator<Item = VlanId> {
        (1..=4094).filter_map(|vid| VlanId::new(vid).ok()).filter(|vlan| self.contains(*vlan))
    }

    /// True if the set has no VLAN.
    pub fn is_empty(&self) -> bool {
        self.bits.iter().all(|word| *word == 0)
    }
}

impl Default for VlanSet {
    fn default() -> Self {
        VlanSet::new()
    }
}

impl FromIterator<VlanId> for VlanSet {
    fn from_iter<I: IntoIterator<Item = VlanId>>(vlans: I) -> VlanSet {
        let mut set = VlanSet::new();
        vlans.into_iter().for_each(|vlan| set.insert(vlan));
        set
    }
}

impl fmt::Debug for VlanSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter()).finish()
    }
}

/// The part of a port in the VLANs of its network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum VlanRole {
    /// Nothing is said: transparent in a network without VLANs, else an access port of VLAN 1.
    #[default]
    Unset,
    /// A member of one VLAN; sends and receives untagged. A priority tag is taken as untagged.
    Access(VlanId),
    /// A member of several VLANs.
    Trunk {
        /// The VLANs that are received and sent with a tag.
        allowed: VlanSet,
        /// The VLAN of frames without a tag, which is sent untagged; without one such frames are dropped.
        native: Option<VlanId>,
    },
}

impl VlanRole {
    /// Returns the membership of a port with this role. `aware` says that a port of the network names a VLAN.
    pub(crate) fn membership(&self, aware: bool) -> Membership {
        match self {
            VlanRole::Unset if !aware => Membership::Transparent,
            VlanRole::Unset => Membership::Access(VlanId::DEFAULT),
            VlanRole::Access(vlan) => Membership::Access(*vlan),
            VlanRole::Trunk { allowed, native } => {
                Membership::Trunk { allowed: allowed.clone(), native: *native }
            }
        }
    }

    /// Returns the role with nothing left unsaid: no role is VLAN 1 in a network that is VLAN-aware.
    pub(crate) fn in_network(&self, aware: bool) -> VlanRole {
        match self {
            VlanRole::Unset if aware => VlanRole::Access(VlanId::DEFAULT),
            role => role.clone(),
        }
    }

    /// The one VLAN of a port that is no trunk; VLAN 1 stands for a network without VLANs too.
    pub(crate) fn access_vlan(&self) -> Option<VlanId> {
        match self {
            VlanRole::Unset => Some(VlanId::DEFAULT),
            VlanRole::Access(vlan) => Some(*vlan),
            VlanRole::Trunk { .. } => None,
        }
    }

    /// True if the network cannot tell two ports of these roles apart when the same address is set for both. Addresses
    /// of trunks are entered for every VLAN at once, so two trunks always overlap.
    pub(crate) fn overlaps(&self, other: &VlanRole) -> bool {
        match (self.access_vlan(), other.access_vlan()) {
            (Some(a), Some(b)) => a == b,
            (Some(vlan), None) => other.membership(true).includes(vlan),
            (None, Some(vlan)) => self.membership(true).includes(vlan),
            (None, None) => true,
        }
    }
}

/// A port's part in the VLANs of its network, once it is known whether the network has any.
#[derive(Debug)]
pub(crate) enum Membership {
    Transparent,
    Access(VlanId),
    Trunk { allowed: VlanSet, native: Option<VlanId> },
}

/// The EtherTypes that announce another tag: customer, service, and the service tag of before the standard.
pub(crate) const TPIDS: [u16; 3] = [VlanTag::TPID, 0x88a8, 0x9100];

/// How many tags may follow inside the frame and still make it longer: service and customer tag.
const NESTED_TAGS: usize = 2;

/// How many tags the octets start with after the addresses, up to those that count.
pub(crate) fn nested_tags(octets: &[u8]) -> usize {
    let tpid_at = |at: usize| octets.get(at..at + 2).map(|tpid| u16::from_be_bytes([tpid[0], tpid[1]]));
    let is_tag = |n: &usize| tpid_at(12 + 4 * n).is_some_and(|tpid| TPIDS.contains(&tpid));
    (0..NESTED_TAGS).take_while(is_tag).count()
}

/// Returns whether one of the frame's tags stands where a receiver finds it as the frame's own VLAN tag: a customer tag
/// behind the outer one, or any tag behind a priority tag.
#[inline]
fn hides_tag(frame: &Frame) -> bool {
    let octets = frame.octets();
    match nested_tags(octets) {
        0 => false,
        count => {
            let is_customer = frame.ethertype() == Some(VlanTag::TPID);
            let is_priority = |vid: u16| vid == 0;
            let behind_priority = frame.meta.tag.is_some_and(|tag| is_priority(tag.vid()));
            is_customer || behind_priority || count > 1 && nested_vid(octets).is_none_or(is_priority)
        }
    }
}

/// Reads the identifier of the first tag among the octets; `None` when it is cut off.
pub(crate) fn nested_vid(octets: &[u8]) -> Option<u16> {
    let tci = octets.get(14..16)?;
    Some(VlanTag { tci: u16::from_be_bytes([tci[0], tci[1]]) }.vid())
}

impl Membership {
    /// The VLAN of a received frame (IEEE 802.1Q-2022 6.9); VLAN 1 in a network without VLANs.
    ///
    /// # Errors
    /// [`DropReason::VlanNotAllowed`] when the port does not take the frame.
    #[inline]
    pub(crate) fn classify(&self, frame: &Frame) -> Result<VlanId, DropReason> {
        let vid = frame.meta.tag.map_or(0, VlanTag::vid);
        let vlan = match self {
            // The identifier 4095 is reserved and never sent.
            Membership::Transparent => (vid != 0xfff).then_some(VlanId::DEFAULT),
            Membership::Access(vlan) => (vid == 0 && nested_tags(frame.octets()) == 0).then_some(*vlan),
            Membership::Trunk { allowed, native } => {
                let tagged = || VlanId::new(vid).ok().filter(|vlan| allowed.contains(*vlan));
                if hides_tag(frame) {
                    None
                } else if vid == 0 {
                    *native
                } else {
                    tagged()
                }
            }
        };
        vlan.ok_or(DropReason::VlanNotAllowed)
    }

    /// The VLAN of frames that the port receives with this tag; in a network without VLANs the tag's own, VLAN 1 for
    /// none.
    pub(crate) fn vlan_of(&self, tag: Option<VlanId>) -> Option<VlanId> {
        match (self, tag) {
            (Membership::Transparent, tag) => Some(tag.unwrap_or(VlanId::DEFAULT)),
            (Membership::Access(vlan), None) => Some(*vlan),
            (Membership::Access(_), Some(_)) => None,
            (Membership::Trunk { native, .. }, None) => *native,
            (Membership::Trunk { allowed, .. }, Some(vlan)) => {
                Some(vlan).filter(|vlan| allowed.contains(*vlan))
            }
        }
    }

    /// True if the port sends frames of `vlan`.
    // Asked for each copy; the compiler leaves it a call where the way of a frame is long.
    #[inline(always)]
    pub(crate) fn includes(&self, vlan: VlanId) -> bool {
        match self {
            Membership::Transparent => true,
            Membership::Access(own) => *own == vlan,
            Membership::Trunk { allowed, native } => *native == Some(vlan) || allowed.contains(vlan),
        }
    }

    /// The tag that a frame of `vlan`, received with `tag`, leaves this port with. The priority goes on where there
    /// is a tag to hold it.
    #[inline]
    pub(crate) fn egress_tag(&self, vlan: VlanId, tag: Option<VlanTag>) -> Option<VlanTag> {
        match self {
            Membership::Transparent => tag,
            Membership::Access(_) => None,
            Membership::Trunk { native, .. } if *native == Some(vlan) => None,
            Membership::Trunk { .. } => Some(tag.unwrap_or_default().with_vid(vlan)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::{Pool, PoolSizes};

    fn vlan(vid: u16) -> VlanId {
        VlanId::new(vid).unwrap()
    }

    fn frame(tci: Option<u16>, inner: &[u8]) -> Frame {
        let mut octets = vec![2; 12];
        octets.extend(inner);
        octets.resize(60, 0);
        let mut frame = Pool::new(PoolSizes::default()).copy(&octets).unwrap();
        frame.meta.tag = tci.map(|tci| VlanTag { tci });
        frame
    }

    fn trunk(native: Option<u16>) -> Membership {
        let allowed = [10, 20].map(vlan).into_iter().collect();
        VlanRole::Trunk { allowed, native: native.map(vlan) }.membership(true)
    }

    #[test]
    fn sets() {
        let set: VlanSet = [1, 63, 64, 4094].map(vlan).into_iter().collect();
        assert_eq!(set.iter().map(VlanId::get).collect::<Vec<_>>(), [1, 63, 64, 4094]);
        assert!(!set.contains(vlan(2)));
        assert!(VlanSet::new().is_empty() && !set.is_empty());
        assert_eq!(VlanSet::all().iter().count(), 4094);
    }

    #[test]
    fn classification() {
        const IPV4: &[u8] = &[0x08, 0x00];
        const CUSTOMER: &[u8] = &[0x81, 0x00, 0, 20, 0x08, 0x00];
        const SERVICE: &[u8] = &[0x88, 0xa8, 0, 20, 0x08, 0x00];
        const PRIORITY: &[u8] = &[0x88, 0xa8, 0xe0, 0];
        const OLD_PRIORITY: &[u8] = &[0x91, 0x00, 0, 0];
        let transparent = || VlanRole::Unset.membership(false);
        let access = || VlanRole::Access(vlan(10)).membership(true);
        let unset = || VlanRole::Unset.membership(true);
        let cases = [
            (transparent(), None, IPV4, Some(1)),
            (transparent(), Some(10), IPV4, Some(1)),
            (transparent(), Some(10), CUSTOMER, Some(1)),
            (transparent(), Some(4095), IPV4, None),
            (unset(), None, IPV4, Some(1)),
            (unset(), Some(1), IPV4, None),
            (access(), None, IPV4, Some(10)),
            (access(), Some(0xe000), IPV4, Some(10)),
            (access(), Some(10), IPV4, None),
            (access(), Some(20), IPV4, None),
            (access(), Some(0xe000), CUSTOMER, None),
            (access(), None, SERVICE, None),
            (trunk(None), None, IPV4, None),
            (trunk(None), Some(0xe000), IPV4, None),
            (trunk(Some(1)), None, IPV4, Some(1)),
            (trunk(Some(1)), Some(0xe000), IPV4, Some(1)),
            (trunk(Some(1)), Some(1), IPV4, None),
            (trunk(Some(1)), Some(0xe000 | 20), IPV4, Some(20)),
            (trunk(Some(1)), Some(30), IPV4, None),
            (trunk(Some(1)), Some(4095), IPV4, None),
            (trunk(Some(1)), Some(10), CUSTOMER, None),
            (trunk(Some(1)), Some(0), CUSTOMER, None),
            (trunk(Some(1)), Some(10), SERVICE, Some(10)),
            (trunk(Some(1)), None, SERVICE, Some(1)),
            // What a receiver finds when it has taken the priority tags off.
            (trunk(Some(1)), Some(0xe000), SERVICE, None),
            (trunk(Some(1)), Some(0), SERVICE, None),
            (trunk(Some(1)), None, &[PRIORITY, CUSTOMER].concat(), None),
            (trunk(Some(1)), Some(10), &[PRIORITY, CUSTOMER].concat(), None),
            (trunk(Some(1)), Some(10), &[PRIORITY, SERVICE].concat(), None),
            (trunk(Some(1)), Some(10), &[PRIORITY, PRIORITY, IPV4].concat(), None),
            (trunk(Some(1)), Some(10), &[OLD_PRIORITY, CUSTOMER].concat(), None),
            (trunk(None), Some(10), &[PRIORITY, CUSTOMER].concat(), None),
            (trunk(Some(1)), Some(10), &[PRIORITY, IPV4].concat(), Some(10)),
            (trunk(Some(1)), Some(10), &[&SERVICE[..4], CUSTOMER].concat(), Some(10)),
            (access(), None, &[PRIORITY, IPV4].concat(), None),
            (unset(), Some(0), &[PRIORITY, CUSTOMER].concat(), None),
            (transparent(), Some(0), &[PRIORITY, CUSTOMER].concat(), Some(1)),
        ];
        for (member, tci, inner, expected) in cases {
            let got = member.classify(&frame(tci, inner)).ok().map(VlanId::get);
            assert_eq!(got, expected, "{member:?} tci {tci:?} inner {inner:x?}");
        }
    }

    #[test]
    fn egress_tags() {
        let voice = Some(VlanTag { tci: 0xa000 });
        let tagged = Some(VlanTag { tci: 0xa00a });
        assert_eq!(Membership::Transparent.egress_tag(vlan(1), tagged), tagged);
        assert_eq!(Membership::Access(vlan(10)).egress_tag(vlan(10), tagged), None);
        assert_eq!(trunk(Some(10)).egress_tag(vlan(10), tagged), None);
        assert_eq!(trunk(None).egress_tag(vlan(10), voice), tagged);
        assert_eq!(trunk(None).egress_tag(vlan(10), None), Some(VlanTag { tci: 10 }));
    }

    #[test]
    fn overlap() {
        let trunk = |native| VlanRole::Trunk { allowed: [vlan(10)].into_iter().collect(), native };
        let access = |vid| VlanRole::Access(vlan(vid));
        assert!(VlanRole::Unset.overlaps(&access(1)));
        assert!(!VlanRole::Unset.overlaps(&access(2)));
        assert!(trunk(None).overlaps(&access(10)) && access(10).overlaps(&trunk(None)));
        assert!(trunk(Some(vlan(1))).overlaps(&VlanRole::Unset));
        assert!(!trunk(None).overlaps(&VlanRole::Unset));
        assert!(trunk(None).overlaps(&trunk(Some(vlan(3)))));
    }

    #[test]
    fn nested_tags_are_counted_up_to_two() {
        let mut octets = vec![0; 12];
        octets.extend([0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3, 8, 0]);
        assert_eq!(nested_tags(&octets), 2);
        assert_eq!(nested_tags(&octets[..17]), 1);
        assert_eq!(nested_tags(&octets[..12]), 0);
    }
}
