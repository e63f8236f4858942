//! The sides of a trunk as ports of the fast way: its host's stack and its wire.
//!
//! Both are behind one interface. Frames of either come by at one of the interface's hooks, where the programs of mode
//! `filter` hang ([`programs::divert`](crate::host::programs::divert)): they have found a frame to be a guest's already
//! when they ask the tables, so what is nobody's of the guests pays nothing for the fast way. What goes to a side is
//! marked as what the workers write is, and those programs leave it alone by that.

use super::Tables;
pub use crate::host::programs::Side;

/// The bit of a number in the tables that stands for the host's side of an interface. The numbers of interfaces are
/// positive ones of 32 bits with a sign.
pub(super) const HOST_SIDE: u32 = 1 << 31;

impl Side {
    /// The number that this side of the interface `index` has in the tables, where interfaces of guests have their own.
    pub fn index(self, index: u32) -> u32 {
        match self {
            Side::Host => index | HOST_SIDE,
            Side::Wire => index,
        }
    }
}

/// The fast way of frames from one side of a trunk to guests.
#[derive(Clone, Copy)]
pub struct FromSide<'a> {
    /// The tables of the network.
    pub tables: &'a Tables,
    /// The index of the trunk's interface.
    pub index: u32,
    /// Where the frames are from.
    pub side: Side,
}
