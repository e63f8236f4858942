//! Guests over UDP that are silent: another one may have the port.
//!
//! Theory of operation. The port's socket is connected to its guest, so the kernel gives it nothing of others. A guest
//! that has been silent for [`SILENCE`] keeps its port, and what is sent to it goes on, for it may have nothing to say.
//! But a second socket is bound to the same address then, which gets what others send. The first frame in it makes the
//! second socket the port's, with the frame in it; a word of the guest closes it again. Two sockets can have an address
//! only while both say so (`SO_REUSEPORT`), which they do for the moment of binding and only for our own user.

use std::io;
use std::net::SocketAddr;

use rustix::net::{AddressFamily, RecvFlags, SocketType, bind, getsockname, socket, sockopt};
use vmlan_drivers::peer::Message;
use vmlan_drivers::{PeerSocket, inject, unix};
use vmlan_frame::ETHERNET_HEADER;

use super::Allow;
use crate::{Seat, Strangers};

/// Seconds after which a guest that sent nothing yields to another one.
const SILENCE: u32 = 30;

/// Datagrams of others that are looked at in a second.
const LOOKS: usize = 64;

/// How long the guest of a UDP port has been silent, and what others send meanwhile.
pub(super) struct Silence<'a> {
    socket: &'a PeerSocket,
    allow: &'a Allow,
    /// Frames of the port by the last look.
    heard: u64,
    seconds: u32,
    others: Option<PeerSocket>,
}

impl<'a> Silence<'a> {
    /// For the guest that `socket` is connected to; `None` where it is no UDP socket.
    pub(super) fn of(socket: &'a PeerSocket, allow: &'a Allow) -> Option<Silence<'a>> {
        let family = getsockname(socket).ok()?.address_family();
        let inet = matches!(family, AddressFamily::INET | AddressFamily::INET6);
        inet.then_some(Silence { socket, allow, heard: 0, seconds: 0, others: None })
    }

    /// Checks the silence, once a second. Returns the socket that another guest sends to, when that guest has the port
    /// now.
    pub(super) fn tick(&mut self, seat: &Seat, strangers: &mut Strangers) -> Option<PeerSocket> {
        if seat.received() != self.heard {
            self.heard = seat.received();
            self.seconds = 0;
            self.others = None;
            return None;
        }
        self.seconds += 1;
        let silence = if inject::is_wanted("short-silence") { 2 } else { SILENCE };
        if self.seconds < silence {
            return None;
        }
        if self.others.is_none() {
            self.others = second(self.socket)
                .inspect_err(
                    |error| tracing::debug!(port = %seat.place(), "others cannot be listened to: {error}"),
                )
                .ok();
        }
        let has_frame = self.others.as_ref().is_some_and(|others| has_frame(others, self.allow, strangers));
        // Those that were counted are no word of the guest.
        self.heard = seat.received();
        if has_frame { self.others.take() } else { None }
    }
}

/// True if the next datagram is a frame of a guest that may have the port. Others in front of it are dropped and
/// counted.
fn has_frame(socket: &PeerSocket, allow: &Allow, strangers: &mut Strangers) -> bool {
    for _ in 0..LOOKS {
        let mut header = [0; ETHERNET_HEADER];
        let Ok(Message { len, address }) = socket.receive(&mut header, RecvFlags::PEEK) else { return false };
        let address = address.and_then(|address| SocketAddr::try_from(address).ok());
        if len == header.len() && address.is_some_and(|address| allow.admits(address.ip())) {
            return true;
        }
        strangers.count(len);
        // Nothing there is as good as something dropped.
        let _ = socket.receive(&mut [0], RecvFlags::empty());
    }
    false
}

/// A socket at the same address, for what is not from the peer of `first`.
fn second(first: &PeerSocket) -> io::Result<PeerSocket> {
    let address = getsockname(first)?;
    let family = address.address_family();
    let other = socket(family, SocketType::DGRAM, None)?;
    rustix::io::fcntl_setfd(&other, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::ioctl_fionbio(&other, true)?;
    if family == AddressFamily::INET6 {
        sockopt::set_ipv6_v6only(&other, sockopt::ipv6_v6only(first)?)?;
    }
    unix::enlarge(&other);
    sockopt::set_socket_reuseport(first, true)?;
    sockopt::set_socket_reuseport(&other, true)?;
    let bound = bind(&other, &address);
    // Nobody else is to come to this address, and the kernel is to choose by peer only.
    sockopt::set_socket_reuseport(first, false)?;
    sockopt::set_socket_reuseport(&other, false)?;
    bound?;
    Ok(PeerSocket::without_descriptors(other))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::UdpSocket;

    #[test]
    fn the_second_socket_gets_what_others_send_and_the_first_what_its_peer_sends() {
        let (guest, other) =
            (UdpSocket::bind("127.0.0.1:0").unwrap(), UdpSocket::bind("127.0.0.1:0").unwrap());
        let port = UdpSocket::bind("127.0.0.1:0").unwrap();
        let address = port.local_addr().unwrap();
        port.connect(guest.local_addr().unwrap()).unwrap();
        port.set_nonblocking(true).unwrap();
        let first = PeerSocket::without_descriptors(port.into());
        let second = second(&first).unwrap();
        for _ in 0..20 {
            guest.send_to(b"guest", address).unwrap();
            other.send_to(b"other", address).unwrap();
            let receive = |socket: &PeerSocket| {
                let mut octets = [0; 5];
                socket.receive(&mut octets, RecvFlags::empty()).unwrap();
                octets
            };
            assert_eq!((&receive(&first), &receive(&second)), (b"guest", b"other"));
        }
        assert!(UdpSocket::bind(address).is_err(), "the address is in use");
    }
}
