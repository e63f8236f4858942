//! Sockets that send frames through an interface as they are (packet(7)).

use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

use rustix::net::{AddressFamily, SocketFlags, SocketType, netdevice, socket_with};

/// Opens a socket whose datagrams are frames for the interface `name` to send, with their Ethernet header. They go
/// to the device at once, past its queueing discipline; nothing is received.
///
/// # Errors
/// `ENODEV` when there is no such interface; `EPERM` without CAP_NET_RAW; what socket(2) and bind(2) say.
pub fn sender(name: &str) -> io::Result<OwnedFd> {
    // Without a protocol it hears nothing.
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let index = netdevice::name_to_index(&fd, name)?;
    let on: libc::c_int = 1;
    // SAFETY: the pointer and the length describe `on`, which lives through the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            size_of_val(&on) as libc::socklen_t,
        )
    };
    check(result)?;
    // SAFETY: sockaddr_ll is plain integers; zero is a valid value of each.
    let mut address: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
    address.sll_family = libc::AF_PACKET as libc::c_ushort;
    address.sll_ifindex = index as libc::c_int;
    // SAFETY: the pointer and the length describe `address`, which lives through the call; the descriptor is open.
    let result = unsafe {
        libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as libc::socklen_t)
    };
    check(result)?;
    Ok(fd)
}

/// Makes the interface with this index promiscuous for as long as the descriptor is open, beside whoever else wants it.
/// `IFF_PROMISC` does not tell; the interface's count of those who want it does.
///
/// # Errors
/// `ENODEV` when there is no such interface; `EPERM` without CAP_NET_RAW.
pub fn promiscuous(index: u32) -> io::Result<OwnedFd> {
    // Without a protocol it hears nothing itself.
    let fd = socket_with(AddressFamily::PACKET, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    let request = libc::packet_mreq {
        mr_ifindex: index as libc::c_int,
        mr_type: libc::PACKET_MR_PROMISC as libc::c_ushort,
        mr_alen: 0,
        mr_address: [0; 8],
    };
    // SAFETY: the pointer and the length describe `request`, which lives through the call; the descriptor is open.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_ADD_MEMBERSHIP,
            (&raw const request).cast(),
            size_of_val(&request) as libc::socklen_t,
        )
    };
    check(result)?;
    Ok(fd)
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
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
