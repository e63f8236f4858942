use std::io;
use std::net::IpAddr;

use rustix::net::{
    AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netdevice, recv, send, socket_with,
};

/// Octets of the header of every message (struct nlmsghdr).
const HEADER: usize = 16;

/// Gives the interface `name` an address of a network with that prefix length. It can be used at once: nobody is asked
/// whether it is in use already (rtnetlink(7), RTM_NEWADDR).
///
/// # Errors
/// `ENODEV` when there is no such interface, `EEXIST` when it has the address, `EPERM` without CAP_NET_ADMIN,
/// `EACCES` or `EOPNOTSUPP` where the address family is turned off.
pub fn add_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    let flags = libc::NLM_F_CREATE | libc::NLM_F_EXCL;
    ask(name, |index| request(libc::RTM_NEWADDR, flags, index, address, prefix))
}

/// Takes an address from the interface `name` (rtnetlink(7), RTM_DELADDR).
///
/// # Errors
/// `ENODEV` when there is no such interface, `EADDRNOTAVAIL` when it has no such address, `EPERM` without
/// CAP_NET_ADMIN.
pub fn remove_address(name: &str, address: IpAddr, prefix: u8) -> io::Result<()> {
    ask(name, |index| request(libc::RTM_DELADDR, 0, index, address, prefix))
}

/// Sends the request about the interface of this name, and waits for the answer.
fn ask(name: &str, request: impl FnOnce(u32) -> Vec<u8>) -> io::Result<()> {
    let index = netdevice::name_to_index(super::control()?, name)?;
    // NETLINK_ROUTE is 0, the protocol of those who name none.
    let socket = socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
    send(&socket, &request(index), SendFlags::empty())?;

    let mut answer = [0; 1024];
    let (len, _) = recv(&socket, &mut answer, RecvFlags::empty())?;
    // The answer to a request with NLM_F_ACK is a struct nlmsgerr: after the header the negated error, or 0.
    match answer[..len].get(HEADER..).and_then(<[u8]>::first_chunk) {
        Some(error) => match i32::from_ne_bytes(*error) {
            0 => Ok(()),
            error => Err(io::Error::from_raw_os_error(error.wrapping_neg())),
        },
        None => Err(io::ErrorKind::UnexpectedEof.into()),
    }
}

fn request(kind: u16, flags: libc::c_int, index: u32, address: IpAddr, prefix: u8) -> Vec<u8> {
    let (family, octets) = match address {
        IpAddr::V4(address) => (libc::AF_INET, address.octets().to_vec()),
        IpAddr::V6(address) => (libc::AF_INET6, address.octets().to_vec()),
    };
    // struct ifaddrmsg: family, prefix, flags, scope, index.
    let mut body = vec![family as u8, prefix, libc::IFA_F_NODAD as u8, libc::RT_SCOPE_UNIVERSE];
    body.extend(index.to_ne_bytes());
    for kind in [libc::IFA_LOCAL, libc::IFA_ADDRESS] {
        // struct rtattr: length with these four octets, type; the values are multiples of four octets long.
        body.extend((4 + octets.len() as u16).to_ne_bytes());
        body.extend(kind.to_ne_bytes());
        body.extend(&octets);
    }
    let flags = libc::NLM_F_REQUEST | libc::NLM_F_ACK | flags;
    let mut message = Vec::with_capacity(HEADER + body.len());
    message.extend(((HEADER + body.len()) as u32).to_ne_bytes());
    message.extend(kind.to_ne_bytes());
    message.extend((flags as u16).to_ne_bytes());
    // Sequence number, and the kernel as receiver.
    message.extend([0; 8]);
    message.extend(body);
    message
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_gets_no_address() {
        let error = add_address("no-such-name", IpAddr::from([10, 0, 0, 1]), 24).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        let error = remove_address("no-such-name", IpAddr::from([10, 0, 0, 1]), 24).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
    }

    #[test]
    fn messages_have_the_length_that_they_tell() {
        for address in [IpAddr::from([10, 0, 0, 1]), IpAddr::from([0xfd00, 0, 0, 0, 0, 0, 0, 1])] {
            let message = request(libc::RTM_NEWADDR, 0, 7, address, 24);
            assert_eq!(message[..4], (message.len() as u32).to_ne_bytes());
            assert_eq!(message.len() % 4, 0);
        }
    }
}
