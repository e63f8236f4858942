//! Bridges of the system (bridge(4)): who is a member.

use std::io;

use super::control::driver;
use crate::darwin::InterfaceName;
use crate::darwin::number::*;
use crate::darwin::request::{Member, Members};

/// How many members are listed at most; the kernel knows no more for one bridge by default.
const LIMIT: usize = 256;

/// Makes `member` a member of `bridge`.
///
/// # Errors
/// `ENXIO` when there is no such bridge; `ENOENT` when there is no such member; `EEXIST` when it is one already;
/// `EBUSY` when it is one of another bridge; `EINVAL` when its kind or its MTU is not the bridge's.
pub fn add(bridge: InterfaceName, member: InterfaceName) -> io::Result<()> {
    // SAFETY: the command takes a Member, which is octets and numbers without any address, and only reads it.
    unsafe { driver(SIOCSDRVSPEC, bridge, BRDGADD, &mut Member::new(member)) }
}

/// Takes `member` out of `bridge`.
///
/// # Errors
/// `ENXIO` when there is no such bridge; `ENOENT` when it is no member.
pub fn delete(bridge: InterfaceName, member: InterfaceName) -> io::Result<()> {
    // SAFETY: as for `add`.
    unsafe { driver(SIOCSDRVSPEC, bridge, BRDGDEL, &mut Member::new(member)) }
}

/// The members of `bridge`.
///
/// # Errors
/// `ENXIO` when there is no such bridge; `EINVAL` or `EOPNOTSUPP` when it is no bridge.
pub fn members(bridge: InterfaceName) -> io::Result<Vec<InterfaceName>> {
    let mut members = vec![Member::NONE; LIMIT];
    let octets = size_of_val(&members[..]) as u32;
    let mut argument = Members { len: octets, data: members.as_mut_ptr() as u64 };
    // SAFETY: the command takes a Members and writes at most its `len` octets, those of `members`, to its address,
    // and any octets are a Member; it writes to `len` how many it wrote.
    unsafe { driver(SIOCGDRVSPEC, bridge, BRDGGIFS, &mut argument) }?;
    let count = argument.len.min(octets) as usize / size_of::<Member>();
    Ok(members[..count].iter().filter_map(Member::name).collect())
}
