use vmlan_frame::{DropReason, ETHERNET_HEADER, Frame, MacAddr, VLAN_TAG, VlanId};

use crate::port::Port;
use crate::port_table::PortTable;
use crate::vlan;

/// The facts about an admitted frame that forwarding needs.
pub(super) struct Header {
    pub(super) destination: MacAddr,
    pub(super) source: MacAddr,
    /// VLAN 1 in a network without VLANs.
    pub(super) vlan: VlanId,
}

impl Header {
    /// The source in its VLAN.
    #[inline]
    pub(super) fn sender(&self) -> (MacAddr, VlanId) {
        (self.source, self.vlan)
    }
}

/// The EtherType of MAC control frames, PAUSE among them (IEEE 802.3 annex 31A).
const MAC_CONTROL: u16 = 0x8808;

/// The destination of PAUSE frames (IEEE 802.3 annex 31B).
const PAUSE: MacAddr = MacAddr([0x01, 0x80, 0xc2, 0x00, 0x00, 0x01]);

/// Decides what the frame alone and the policy of the port that received it decide: length, addresses, the port's
/// source guard, VLAN; in this order.
#[inline]
pub(super) fn admit(frame: &Frame, from: &Port, ports: &PortTable) -> Result<Header, DropReason> {
    let octets = frame.octets();
    if octets.len() < ETHERNET_HEADER {
        return Err(DropReason::Runt);
    }
    if octets.len() > ports.frame_limit && is_oversize(frame, ports.frame_limit) {
        return Err(DropReason::Oversize);
    }
    let destination = MacAddr::from_slice(octets);
    let source = MacAddr::from_slice(&octets[6..]);
    if !source.is_station() {
        return Err(DropReason::BadSource);
    }
    if destination.is_multicast() && is_refused_group(destination, frame, ports.pass_reserved) {
        return Err(DropReason::ReservedAddress);
    }
    if from.guard && !from.macs.contains(&source) {
        return Err(DropReason::SourceGuard);
    }
    let vlan = from.vlan.classify(frame)?;
    Ok(Header { destination, source, vlan })
}

/// True if a frame above the limit exceeds it without its nested tags too. Of a segmentation frame, which may be cut
/// when it leaves, the segments count. Its request was checked where the frame came in.
#[cold]
fn is_oversize(frame: &Frame, limit: usize) -> bool {
    let nested = VLAN_TAG * vlan::nested_tags(frame.octets());
    let offload = &frame.meta.offload;
    let longest = match offload.is_segmentation() {
        true => usize::from(offload.header_len) + usize::from(offload.gso_size),
        false => frame.len(),
    };
    longest > limit.saturating_add(nested)
}

#[inline]
fn is_refused_group(destination: MacAddr, frame: &Frame, pass_reserved: bool) -> bool {
    let is_pause = || destination == PAUSE && frame.ethertype() == Some(MAC_CONTROL);
    destination.is_reserved_group() && (!pass_reserved || is_pause())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{PortId, VlanRole};
    use std::sync::Arc;
    use vmlan_frame::{Counters, Offload, Pool, PoolSizes, SecondaryMap, VlanTag};

    const OWN: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const OTHER: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);

    fn port(guard: bool, vlan: VlanRole) -> Port {
        Port {
            id: PortId::new(0, 0),
            active: true,
            enabled: true,
            macs: [OWN].into(),
            guard,
            vlan: vlan.membership(vlan != VlanRole::Unset),
            promiscuous: false,
            sees_trunk: false,
            isolated: false,
            roles: crate::Roles::default(),
            floating: [].into(),
            stages: crate::guard::Stages::NONE,
            limits: crate::Limits::default(),
            shared: None,
            account: Arc::new(Counters::new(1)).into(),
        }
    }

    fn octets(destination: MacAddr, source: MacAddr, rest: &[u8], len: usize) -> Vec<u8> {
        let mut octets = [&destination.0[..], &source.0, rest].concat();
        octets.resize(len, 0);
        octets
    }

    fn admitted(
        port: &Port,
        octets: &[u8],
        pass_reserved: bool,
        change: fn(&mut Frame),
    ) -> Option<DropReason> {
        let mut frame = Pool::new(PoolSizes::default()).copy(octets).unwrap();
        change(&mut frame);
        admit(
            &frame,
            port,
            &PortTable::new(0, 1500, pass_reserved, SecondaryMap::new(), None, [].into(), None),
        )
        .err()
    }

    #[test]
    fn lengths() {
        const SERVICE: &[u8] = &[0x88, 0xa8, 0, 1, 0x81, 0, 0, 2, 0x81, 0, 0, 3];
        let port = port(false, VlanRole::Unset);
        let of = |rest: &[u8], len, change| admitted(&port, &octets(OTHER, OWN, rest, len), false, change);
        let plain = |_: &mut Frame| {};
        assert_eq!(of(&[8, 0], 13, plain), Some(DropReason::Runt));
        assert_eq!(of(&[8, 0], 14, plain), None);
        assert_eq!(of(&[8, 0], 1514, plain), None);
        assert_eq!(of(&[8, 0], 1514, |frame| frame.meta.tag = Some(VlanTag { tci: 5 })), None);
        assert_eq!(of(&[8, 0], 1515, plain), Some(DropReason::Oversize));
        assert_eq!(of(&SERVICE[..4], 1518, plain), None);
        assert_eq!(of(&SERVICE[..4], 1519, plain), Some(DropReason::Oversize));
        assert_eq!(of(SERVICE, 1522, plain), None);
        assert_eq!(of(SERVICE, 1523, plain), Some(DropReason::Oversize));
        let segmentation = |frame: &mut Frame| {
            frame.meta.offload =
                Offload { gso_type: 1, header_len: 54, gso_size: 1460, ..Offload::default() };
        };
        assert_eq!(of(&[8, 0], 60_000, segmentation), None);
        let long_segments = |frame: &mut Frame| {
            frame.meta.offload =
                Offload { gso_type: 1, header_len: 54, gso_size: 1461, ..Offload::default() };
        };
        assert_eq!(of(&[8, 0], 60_000, long_segments), Some(DropReason::Oversize));
    }

    #[test]
    fn addresses() {
        let reserved = |last| MacAddr([0x01, 0x80, 0xc2, 0, 0, last]);
        let cases = [
            (OTHER, OWN, 0x0800, false, None),
            (OTHER, MacAddr::ZERO, 0x0800, false, Some(DropReason::BadSource)),
            (OTHER, MacAddr([3, 0, 0, 0, 0, 1]), 0x0800, false, Some(DropReason::BadSource)),
            (MacAddr::BROADCAST, OWN, 0x0800, false, None),
            (reserved(0), OWN, 0x0026, false, Some(DropReason::ReservedAddress)),
            (reserved(0), OWN, 0x0026, true, None),
            (reserved(0x0f), OWN, 0x88cc, false, Some(DropReason::ReservedAddress)),
            (reserved(0x10), OWN, 0x88cc, false, None),
            (reserved(1), OWN, 0x8808, true, Some(DropReason::ReservedAddress)),
            (reserved(1), OWN, 0x8809, true, None),
            (OTHER, OTHER, 0x0800, false, Some(DropReason::SourceGuard)),
        ];
        let port = port(true, VlanRole::Unset);
        for (destination, source, ethertype, pass, expected) in cases {
            let octets = octets(destination, source, &u16::to_be_bytes(ethertype), 60);
            assert_eq!(admitted(&port, &octets, pass, |_| {}), expected, "{source} to {destination}");
        }
    }

    #[test]
    fn the_first_reason_is_the_one_that_counts() {
        let port = port(true, VlanRole::Access(VlanId::DEFAULT));
        let tag = |frame: &mut Frame| frame.meta.tag = Some(VlanTag { tci: 7 });
        let bpdu = MacAddr([0x01, 0x80, 0xc2, 0, 0, 0]);
        let of = |octets: Vec<u8>| admitted(&port, &octets, false, tag);
        assert_eq!(of(octets(bpdu, MacAddr::BROADCAST, &[], 2000)), Some(DropReason::Oversize));
        assert_eq!(of(octets(bpdu, MacAddr::BROADCAST, &[], 60)), Some(DropReason::BadSource));
        assert_eq!(of(octets(bpdu, OTHER, &[], 60)), Some(DropReason::ReservedAddress));
        assert_eq!(of(octets(OTHER, OTHER, &[], 60)), Some(DropReason::SourceGuard));
        assert_eq!(of(octets(OTHER, OWN, &[], 60)), Some(DropReason::VlanNotAllowed));
    }
}
