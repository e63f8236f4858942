//! Media that carry records: the control socket's data socket, a Linux TUN, a macOS utun.

use std::io::{self, IoSlice};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

use rustix::io::Errno;
use vmlan_frame::{DropReason, Entry, Frame, Pool, Size, WriteBuf};
use vmlan_sys::datagrams::{self, LIMIT, Passed, Received};

use super::carrier;
use super::record::{Form, HEADER};
use crate::{Fault, PeerSocket};

/// Octets left free in front of a record, so that its header can become an Ethernet header in place.
const HEADROOM: usize = vmlan_frame::ETHERNET_HEADER - HEADER;

/// A medium of records.
#[derive(Clone)]
pub(super) struct Medium {
    fd: Arc<PeerSocket>,
    form: Form,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    /// A socket with a peer: many records a call.
    Socket,
    /// A device of the kernel: one record a call.
    Device,
}

/// How far a medium got with records that are to be sent.
#[derive(Clone, Copy, Default)]
pub(super) struct Sent {
    /// Records that it took, from the front.
    pub(super) taken: usize,
    /// Why it will never take the next one.
    pub(super) refused: Option<DropReason>,
    /// It takes no more now.
    pub(super) full: bool,
}

/// The result of a read: a record whose header is not checked yet, or the length of a record that did not fit.
pub(super) enum Read {
    Record(Unchecked),
    TooLong(u64),
}

/// Octets of a record in a buffer, as the medium wrote them.
pub(super) struct Unchecked {
    buffer: WriteBuf,
    end: usize,
}

impl Unchecked {
    /// Octets of the record.
    pub(super) fn octets(&self) -> u64 {
        (self.end - HEADROOM) as u64
    }

    /// The record in the form of the link layer; or how many octets are no record.
    pub(super) fn check(mut self, form: Form) -> Result<Frame, u64> {
        match form.read(&mut self.buffer[HEADROOM..self.end]) {
            Ok(_) => Ok(self.buffer.into_frame(HEADROOM..self.end)),
            Err(_) => Err(self.octets()),
        }
    }
}

/// A buffer from the place on where a record is read to.
struct Behind(WriteBuf);

impl Deref for Behind {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0[HEADROOM..]
    }
}

impl DerefMut for Behind {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0[HEADROOM..]
    }
}

/// The buffers of a read; empty between calls, and kept for their memory.
#[derive(Default)]
pub(super) struct Room {
    buffers: Vec<Behind>,
    passed: Passed,
}

impl Medium {
    /// Gives the device a carrier, or takes it away; a socket has none.
    pub(super) fn set_carrier(&self, carrier: bool) -> io::Result<()> {
        match self.kind {
            Kind::Device => carrier::set(&*self.fd, carrier),
            Kind::Socket => Ok(()),
        }
    }

    pub(super) fn socket(fd: PeerSocket) -> Medium {
        Medium { fd: Arc::new(fd), form: Form::Family, kind: Kind::Socket }
    }

    pub(super) fn device(fd: OwnedFd, form: Form) -> Medium {
        Medium { fd: Arc::new(PeerSocket::without_descriptors(fd)), form, kind: Kind::Device }
    }

    pub(super) fn form(&self) -> Form {
        self.form
    }

    /// The size of buffer that holds every packet of `mtu` octets, and shows of a longer one that it is.
    pub(super) fn size(mtu: usize) -> Size {
        Size::for_octets(HEADROOM + HEADER + mtu + 1).unwrap_or(Size::Large)
    }

    /// Reads records without waiting, at most so many, into buffers of that size, and hands them to `take`.
    pub(super) fn receive(
        &self,
        pool: &Pool,
        limits: (Size, usize),
        room: &mut Room,
        take: impl FnMut(Read),
    ) -> Result<(), Fault> {
        match self.kind {
            Kind::Socket => self.receive_many(pool, limits, room, take),
            Kind::Device => self.receive_each(pool, limits, take),
        }
    }

    fn receive_many(
        &self,
        pool: &Pool,
        (size, most): (Size, usize),
        Room { buffers, passed }: &mut Room,
        mut take: impl FnMut(Read),
    ) -> Result<(), Fault> {
        buffers.extend((0..most.min(LIMIT)).map_while(|_| pool.take(size)).map(Behind));
        if buffers.is_empty() {
            return Ok(());
        }
        let mut received = [Received::default(); LIMIT];
        let result = self.fd.receive_many(buffers, &mut received, passed);
        let came = match &result {
            Ok(came) => *came,
            Err(_) => 0,
        };
        let mut over = false;
        for (behind, received) in buffers.drain(..).zip(&received[..came]) {
            // The end of the connection reads as an empty record, again and again.
            over = over || received.len == 0 && vmlan_sys::socket::is_over(&self.fd);
            if over {
                break;
            }
            take(match received.truncated {
                true => Read::TooLong(received.len as u64),
                false => Read::Record(Unchecked { buffer: behind.0, end: HEADROOM + received.len }),
            });
        }
        match result {
            _ if over => Err(Fault::Closed),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(Fault::of_socket(error)),
            _ => Ok(()),
        }
    }

    fn receive_each(
        &self,
        pool: &Pool,
        (size, most): (Size, usize),
        mut take: impl FnMut(Read),
    ) -> Result<(), Fault> {
        let start = HEADROOM + HEADER - self.form.header_len();
        for _ in 0..most {
            let Some(mut buffer) = pool.take(size) else { return Ok(()) };
            match rustix::io::read(&self.fd, &mut buffer[start..]) {
                Ok(len) if start + len == buffer.len() => take(Read::TooLong(len as u64)),
                Ok(len) => take(Read::Record(Unchecked { buffer, end: start + len })),
                Err(Errno::AGAIN | Errno::INTR) => return Ok(()),
                Err(error) if vmlan_sys::tunnel::is_gone(error) => return Err(Fault::Gone),
                Err(error) => return Err(Fault::Io(error.into())),
            }
        }
        Ok(())
    }

    /// Sends records of the link layer, from the front, without waiting.
    pub(super) fn send(&self, records: &[Entry<'_>]) -> Result<Sent, Fault> {
        match self.kind {
            Kind::Socket => self.send_many(records),
            Kind::Device => self.send_first(records),
        }
    }

    fn send_many(&self, records: &[Entry<'_>]) -> Result<Sent, Fault> {
        match datagrams::send(&self.fd, records.len(), |i| [records[i].octets, &[], &[]]) {
            Ok(taken) => Ok(Sent { taken, ..Sent::default() }),
            Err(error) => match Errno::from_io_error(&error) {
                Some(Errno::AGAIN) => Ok(Sent { full: true, ..Sent::default() }),
                Some(Errno::MSGSIZE) => Ok(Sent { refused: Some(DropReason::TooLong), ..Sent::default() }),
                Some(Errno::NOBUFS | Errno::NOMEM) => {
                    Ok(Sent { refused: Some(DropReason::TransmitError), ..Sent::default() })
                }
                _ => Err(Fault::of_socket(error)),
            },
        }
    }

    /// One record after the other until one is refused; a device that is full drops it, and nothing waits.
    fn send_first(&self, records: &[Entry<'_>]) -> Result<Sent, Fault> {
        for (taken, record) in records.iter().enumerate() {
            let mut scratch = [0; HEADER];
            let slices = self.form.write(record.octets, &mut scratch).map(IoSlice::new);
            let used = usize::from(slices[0].is_empty());
            let refused = match rustix::io::retry_on_intr(|| rustix::io::writev(&self.fd, &slices[used..])) {
                Ok(_) => continue,
                Err(error) if vmlan_sys::tunnel::is_gone(error) => return Err(Fault::Gone),
                Err(Errno::AGAIN | Errno::NOBUFS) => DropReason::QueueFull,
                // The device is down (EIO), or it refuses this packet.
                Err(_) => DropReason::TransmitError,
            };
            return Ok(Sent { taken, refused: Some(refused), full: false });
        }
        Ok(Sent { taken: records.len(), ..Sent::default() })
    }
}

impl AsFd for Medium {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
