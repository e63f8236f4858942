//! Guests on a wire that takes frames from one address only, as Wi-Fi does: they share the host's.
//!
//! Theory of operation. What a guest sends to the wire leaves with the host's address as its source, in the Ethernet
//! header and wherever ARP, neighbour discovery and DHCP say it again ([`outward`]). What comes from the wire for the
//! host's address is for a guest when it is for one of the guest's IP addresses, which are learnt from what guests say
//! (`claims`) and from what DHCP servers lease them ([`lessons`]); it gets the guest's address back ([`inward`]). Wi-Fi
//! also sends groups wrapped into unicast frames; those get their group address back. Guests and the host see each
//! other's true addresses.
//!
//! Nothing malformed is edited except for its source address, nothing is read beyond a header's own length, and every
//! walk ends. A frame whose octets are shared is copied before it is edited, so that nobody else sees the edit.
//!
//! Frames that went to the wire may come back to the trunk with the host's address as their source, since the driver
//! cannot tell them from the host's own; [`Echoes`] recognises them.

mod dhcp;
mod echo;
mod inward;
mod lessons;
mod outward;

pub(crate) use self::dhcp::Dhcp;
pub(crate) use self::echo::Echoes;
pub(crate) use self::inward::{Inward, inward, readdress};
pub(crate) use self::lessons::{lesson_of_host, lesson_of_wire};
pub(crate) use self::outward::outward;
