//! A client of a tunnel socket: asks for a tunnel, changes its options, sends and receives packets.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, RecvMsg, ReturnFlags, SendFlags,
    SocketType, connect, recvmsg, send, socket,
};

use super::Statistics;
use super::message::{BadMessage, LONGEST, Opened, Prefixed, Refusal, Request, option, parse_answer};
use super::options::statistics;
use super::record::{Family, HEADER, Malformed};
use crate::unix;

/// How long the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Why a client got no tunnel, or no answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection to the tunnel socket failed.
    #[error("cannot connect to the tunnel socket")]
    Connect(#[source] io::Error),
    /// The connection broke.
    #[error("the tunnel's control connection failed")]
    Io(#[source] io::Error),
    /// The daemon closed the connection.
    #[error("the daemon closed the connection")]
    Closed,
    /// The daemon said no.
    #[error("{} ({})", .0, .0.errno_name())]
    Refused(#[source] Refusal),
    /// The program that answers speaks another protocol.
    #[error("what answers is no tunnel socket of vmlan, or of another version")]
    Foreign(#[from] BadMessage),
}

/// A tunnel, for as long as this lives. Every call waits for its answer.
#[derive(Debug)]
pub struct Client {
    control: OwnedFd,
    data: OwnedFd,
    opened: Opened,
}

impl Client {
    /// Connects to the socket at `path` and asks for a tunnel: for `unit`, or for the lowest free one with 0, and for
    /// `addresses`, which are empty where the port has its own.
    ///
    /// # Errors
    /// [`Error`].
    pub fn connect(path: &Path, unit: u32, addresses: &[Prefixed]) -> Result<Client, Error> {
        let connect_error = |error: Errno| Error::Connect(error.into());
        let address = unix::address(path).map_err(|error| Error::Connect(io::Error::other(error)))?;
        let control = socket(AddressFamily::UNIX, SocketType::SEQPACKET, None).map_err(connect_error)?;
        rustix::io::fcntl_setfd(&control, rustix::io::FdFlags::CLOEXEC).map_err(connect_error)?;
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&control, timeout, Some(PATIENCE)).map_err(connect_error)?;
        }
        connect(&control, &address).map_err(connect_error)?;
        let request = Request::Open { unit, addresses: addresses.to_vec() };
        let (value, data) = ask(&control, &request)?;
        let opened = Opened::parse(&value)?;
        Ok(Client { control, data: data.ok_or(BadMessage)?, opened })
    }

    /// Returns the settings that the tunnel was opened with.
    pub fn opened(&self) -> &Opened {
        &self.opened
    }

    /// The data socket: one record each way is one packet. At the end of the tunnel it hangs up.
    pub fn data(&self) -> BorrowedFd<'_> {
        self.data.as_fd()
    }

    /// The control connection, which hangs up at the end of the tunnel too.
    pub fn control(&self) -> BorrowedFd<'_> {
        self.control.as_fd()
    }

    /// The octets of an option (see [`option`]).
    ///
    /// # Errors
    /// [`Error`]; `ENOPROTOOPT` for an option that there is not.
    pub fn get(&self, option: u16) -> Result<Vec<u8>, Error> {
        Ok(ask(&self.control, &Request::Get(option))?.0)
    }

    /// Changes an option.
    ///
    /// # Errors
    /// [`Error`], with what the option refuses.
    pub fn set(&self, option: u16, value: &[u8]) -> Result<(), Error> {
        ask(&self.control, &Request::Set(option, value)).map(drop)
    }

    /// The link's name.
    ///
    /// # Errors
    /// [`Error`].
    pub fn name(&self) -> Result<String, Error> {
        String::from_utf8(self.get(option::IFNAME)?).map_err(|_| Error::Foreign(BadMessage))
    }

    /// Asks for the counts of packets, octets and errors of the tunnel.
    ///
    /// # Errors
    /// [`Error`].
    pub fn statistics(&self) -> Result<Statistics, Error> {
        statistics(&self.get(option::STATISTICS)?).map_err(|_| Error::Foreign(BadMessage))
    }

    /// Sends a packet.
    ///
    /// # Errors
    /// `EMSGSIZE` when it is larger than the MTU was at the start; `InvalidInput` when it is neither IPv4 nor IPv6;
    /// what sendmsg(2) says.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        if packet.len() > self.opened.mtu as usize {
            return Err(Errno::MSGSIZE.into());
        }
        let family = Family::of_packet(packet);
        let header = family
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, Malformed::UnknownFamily))?
            .header();
        self.send_record(&[IoSlice::new(&header), IoSlice::new(packet)])
    }

    /// Sends the pieces as one record, whatever it is.
    ///
    /// # Errors
    /// Errors of sendmsg(2).
    pub fn send_record(&self, pieces: &[IoSlice<'_>]) -> io::Result<()> {
        let mut nothing = rustix::net::SendAncillaryBuffer::default();
        rustix::net::sendmsg(&self.data, pieces, &mut nothing, NO_SIGNAL)?;
        Ok(())
    }

    /// Waits for a packet, writes it to `packet` and answers its length; `None` when the tunnel has ended. Records that
    /// are none are passed over.
    ///
    /// # Errors
    /// `EMSGSIZE` for a packet that `packet` has no room for, which is lost; what recvmsg(2) says.
    pub fn receive(&self, packet: &mut [u8]) -> io::Result<Option<usize>> {
        loop {
            let mut header = [0; HEADER];
            let mut nothing = RecvAncillaryBuffer::default();
            let mut pieces = [IoSliceMut::new(&mut header), IoSliceMut::new(packet)];
            let received = recvmsg(&self.data, &mut pieces, &mut nothing, RecvFlags::empty())?;
            if received.flags.contains(ReturnFlags::TRUNC) {
                return Err(Errno::MSGSIZE.into());
            }
            match received.bytes.checked_sub(HEADER) {
                Some(len) if len > 0 && Family::of_packet(packet).map(Family::header) == Some(header) => {
                    return Ok(Some(len));
                }
                None if received.bytes == 0 => return Ok(None),
                _ => {}
            }
        }
    }

    /// Waits for a record as it is, and answers its length; `None` when the tunnel has ended.
    ///
    /// # Errors
    /// `EMSGSIZE` for a record that `record` has no room for, which is lost; what recv(2) says.
    pub fn receive_record(&self, record: &mut [u8]) -> io::Result<Option<usize>> {
        // The daemon sends no empty records.
        let mut nothing = RecvAncillaryBuffer::default();
        match recvmsg(&self.data, &mut [IoSliceMut::new(record)], &mut nothing, RecvFlags::empty()) {
            Ok(received) if received.flags.contains(ReturnFlags::TRUNC) => Err(Errno::MSGSIZE.into()),
            Ok(RecvMsg { bytes: len, .. }) => Ok(Some(len).filter(|len| *len > 0)),
            Err(Errno::CONNRESET) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

const NO_SIGNAL: SendFlags = vmlan_sys::socket::NO_SIGNAL;

/// Sends a request and waits for the value of its answer, and for the descriptor that came along, if one did.
fn ask(control: &OwnedFd, request: &Request<'_>) -> Result<(Vec<u8>, Option<OwnedFd>), Error> {
    let io = |error: Errno| match error {
        Errno::PIPE | Errno::CONNRESET => Error::Closed,
        error => Error::Io(error.into()),
    };
    send(control, &request.emit(), NO_SIGNAL).map_err(io)?;
    let mut octets = [0; LONGEST + 1];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut ancillary = RecvAncillaryBuffer::new(&mut space);
    let mut pieces = [IoSliceMut::new(&mut octets)];
    let received =
        recvmsg(control, &mut pieces, &mut ancillary, vmlan_sys::socket::CLOSE_ON_EXEC).map_err(io)?;
    let mut descriptor = None;
    for message in ancillary.drain() {
        if let RecvAncillaryMessage::ScmRights(descriptors) = message {
            descriptor = descriptors.into_iter().next().or(descriptor);
        }
    }
    if received.bytes == 0 {
        return Err(Error::Closed);
    }
    let value = parse_answer(request, &octets[..received.bytes])?.map_err(Error::Refused)?;
    Ok((value.to_vec(), descriptor))
}
