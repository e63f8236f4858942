//! Sockets that see and send the frames of an interface as they are (packet(7)).

mod ring;

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

pub use ring::{Place, Ring, SLOT, SLOTS, Slot};

use super::socket::{Plain, check, set_option, set_option_with_addresses};

/// Opens a socket whose datagrams are frames for the interface `name` to send, with their Ethernet header. They go
/// to the device at once, past its queueing discipline; nothing is received.
///
/// # Errors
/// `ENODEV` when there is no such interface; `EPERM` without CAP_NET_RAW; what socket(2) and bind(2) say.
pub fn sender(name: &str) -> io::Result<OwnedFd> {
    // Without a protocol it hears nothing.
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let index = netdevice::name_to_index(&fd, name)?;
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_QDISC_BYPASS, &(1 as libc::c_int))?;
    // SAFETY: sockaddr_ll is plain integers; zero is a valid value of each.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_ifindex = index as libc::c_int;
    bind(&fd, &address)?;
    Ok(fd)
}

/// Octets of the virtio-net header in front of every frame of a [`listener`] (virtio 1.3 5.1.6, without the number of
/// buffers).
pub const HEADER: usize = 10;

/// An instruction of classic BPF: code, two jumps, constant (struct sock_filter).
pub type Instruction = (u16, u8, u8, u32);

/// Opens a socket that gets a copy of what the interface with this index receives from now on, as far as the program
/// `filter` keeps it, and that sends through it. Frames have a virtio-net header of [`HEADER`] octets in front, so that
/// checksums and segmentation can be left open; what the host itself sends is not seen. Nothing waits.
/// [`Ring::listener`] opens one that receives cheaply.
///
/// # Errors
/// `ENODEV` when there is no such interface; `EPERM` without CAP_NET_RAW; `EINVAL` for a program that is none.
pub fn listener(index: u32, filter: &[Instruction]) -> io::Result<OwnedFd> {
    let fd = deaf(filter)?;
    listen(&fd, index)?;
    Ok(fd)
}

/// A socket as [`listener`] makes them, without an interface.
fn deaf(filter: &[Instruction]) -> io::Result<OwnedFd> {
    // Without a protocol it hears nothing until it is bound.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, flags, None)?;
    set_filter(&fd, filter)?;
    for option in [libc::PACKET_VNET_HDR, libc::PACKET_IGNORE_OUTGOING] {
        set_option(&fd, libc::SOL_PACKET, option, &(1 as libc::c_int))?;
    }
    Ok(fd)
}

/// Binds such a socket.
fn listen(fd: &OwnedFd, index: u32) -> io::Result<()> {
    // SAFETY: sockaddr_ll is plain integers; zero is a valid value of each.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_ifindex = index as libc::c_int;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    bind(fd, &address)
}

/// Gives a socket another filter, in the place of the one that it has.
///
/// # Errors
/// `EINVAL` for a program that is none.
pub fn set_filter(fd: impl AsFd, filter: &[Instruction]) -> io::Result<()> {
    let instruction = |&(code, jt, jf, k): &Instruction| libc::sock_filter { code, jt, jf, k };
    let mut instructions: Vec<libc::sock_filter> = filter.iter().map(instruction).collect();
    let len = u16::try_from(instructions.len()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let program = libc::sock_fprog { len, filter: instructions.as_mut_ptr() };
    // SAFETY: the program is so long, and is copied by the call.
    unsafe { set_option_with_addresses(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program) }
}

/// Makes the interface with this index promiscuous for as long as the descriptor is open, beside whoever else wants it.
/// `IFF_PROMISC` does not tell; the interface's count of those who want it does.
///
/// # Errors
/// `ENODEV` when there is no such interface; `EPERM` without CAP_NET_RAW.
pub fn promiscuous(index: u32) -> io::Result<OwnedFd> {
    member(index, libc::PACKET_MR_PROMISC)
}

/// Has the interface with this index take every group for as long as the descriptor is open.
///
/// # Errors
/// As [`promiscuous`].
pub fn all_groups(index: u32) -> io::Result<OwnedFd> {
    member(index, libc::PACKET_MR_ALLMULTI)
}

fn member(index: u32, kind: libc::c_int) -> io::Result<OwnedFd> {
    // Without a protocol it hears nothing itself.
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let request = libc::packet_mreq {
        mr_ifindex: index as libc::c_int,
        mr_type: kind as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    set_option(&fd, libc::SOL_PACKET, libc::PACKET_ADD_MEMBERSHIP, &request)?;
    Ok(fd)
}

// SAFETY: integers that are no addresses.
unsafe impl Plain for libc::packet_mreq {}

fn bind(fd: &OwnedFd, address: &libc::sockaddr_ll) -> io::Result<()> {
    let length = size_of_val(address) as libc::socklen_t;
    // SAFETY: the pointer and the length describe `address`, which lives through the call; the descriptor is open.
    check(unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), length) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_no_sender_on_an_interface_that_is_not_there() {
        let error = sender("no-such-name").unwrap_err();
        // Without the right to such sockets nobody looks for the interface.
        assert!([libc::ENODEV, libc::EPERM].map(Some).contains(&error.raw_os_error()), "{error}");
    }
}
