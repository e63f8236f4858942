//! Claims of addresses that another guest was heard to have: the former owner is asked before they are believed.
//!
//! Theory of operation. An address moves between guests when a virtual address fails over or a guest is made anew, and
//! whoever takes it over says so, often only once. A hostile guest says the same. The one who knows is the guest that
//! had the address: so the claim is held back, and the owner's port alone gets a probe as of a host that wants to know
//! whether the address is free (RFC 5227 section 2.1.1, RFC 4862 section 5.4.2), which the owner answers where it still
//! has the address. An answer, or anything else that the owner says of the address within [`PATIENCE`], ends the matter
//! and the claim is a conflict; without one the address moves and the claim goes on its way.
//!
//! The probe comes from the claimant's hardware address, so the answer also tells the claimant. The claims that a
//! worker holds back are few, and those of a port fewer; an address is asked about once a second.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use vmlan_frame::checksum::Addresses;
use vmlan_frame::ip::solicited_node;
use vmlan_frame::wire::{ArpRepr, EtherType, Ipv6Repr, NeighborSolicitRepr};
use vmlan_frame::{ETHERNET_HEADER, Frame, Instant, MacAddr};

use super::addresses::{Key, Owner};
use crate::PortId;

/// How long the owner of an address may take to answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(1);

/// Claims that a worker holds back, in one network, and those of a port among them.
const MOST: usize = 32;
const MOST_OF_PORT: usize = 4;

/// A claim that is held back.
pub(crate) struct Challenge {
    pub(crate) key: Key,
    /// The owner of the address when it was claimed.
    pub(crate) owner: Owner,
    /// The port of the claimant.
    pub(crate) port: PortId,
    /// The claim.
    pub(crate) frame: Frame,
    due: Instant,
}

/// The claims that a worker holds back, oldest first.
#[derive(Default)]
pub(crate) struct Challenges {
    waiting: Vec<Challenge>,
}

impl Challenges {
    /// True if another claim of that port may be held back.
    pub(crate) fn has_room(&self, port: PortId) -> bool {
        let of_port = self.waiting.iter().filter(|challenge| challenge.port == port).count();
        self.waiting.len() < MOST && of_port < MOST_OF_PORT
    }

    /// Holds the claim `frame` of that port on an address and its owner back from `now` on.
    pub(crate) fn hold(&mut self, (key, owner): (Key, Owner), port: PortId, frame: Frame, now: Instant) {
        // Few claims are ever held, so room is made with the first.
        self.waiting.reserve(MOST.saturating_sub(self.waiting.len()));
        self.waiting.push(Challenge { key, owner, port, frame, due: now + PATIENCE });
    }

    /// When the oldest is to be decided.
    pub(crate) fn due(&self) -> Option<Instant> {
        self.waiting.first().map(|challenge| challenge.due)
    }

    /// The oldest, when its time has come.
    pub(crate) fn next(&mut self, now: Instant) -> Option<Challenge> {
        let is_due = self.due().is_some_and(|due| due <= now);
        is_due.then(|| self.waiting.remove(0))
    }
}

/// Writes the question whether `address` is free to the octets of a frame, from `asker` to `owner`; answers its length.
/// `None` when there is no room for it.
pub(crate) fn ask(octets: &mut [u8], asker: MacAddr, owner: MacAddr, address: IpAddr) -> Option<usize> {
    let len = ETHERNET_HEADER
        + match address {
            IpAddr::V4(_) => ArpRepr::LEN,
            IpAddr::V6(target) => Ipv6Repr::HEADER_LEN + solicitation(target).message_len(),
        };
    let (header, payload) = octets.get_mut(..len)?.split_at_mut(ETHERNET_HEADER);
    header[..6].copy_from_slice(&owner.0);
    header[6..12].copy_from_slice(&asker.0);
    let ethertype = match address {
        IpAddr::V4(address) => {
            ArpRepr::request(asker, Ipv4Addr::UNSPECIFIED, address).emit(payload);
            EtherType::ARP
        }
        IpAddr::V6(address) => {
            solicit(payload, address);
            EtherType::IPV6
        }
    };
    header[12..].copy_from_slice(&ethertype.0.to_be_bytes());
    Some(len)
}

/// Writes a neighbour solicitation as of a host that wants to have `target` (RFC 4861 section 4.3).
fn solicit(packet: &mut [u8], target: Ipv6Addr) {
    let (header, message) = packet.split_at_mut(Ipv6Repr::HEADER_LEN);
    let (source, destination) = (Ipv6Addr::UNSPECIFIED, solicited_node(target));
    Ipv6Repr::ndp(source, destination, message.len()).emit(header);
    let ends = Addresses::V6 { source, destination };
    solicitation(target).emit(message, &ends);
}

fn solicitation(target: Ipv6Addr) -> NeighborSolicitRepr {
    NeighborSolicitRepr { target, source_link_layer: None }
}
