use std::io;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use vmlan_frame::{ETHERNET_HEADER, MacAddr};

use crate::client::{Client, Transmit};
use crate::{Attachment, Error, wait};

/// Octets of the shortest Ethernet frame without FCS (IEEE 802.3 4.4.2).
const MIN_FRAME: usize = 60;

/// A peer without a stack: it sends and receives the frames, or the octets, that its owner wants.
///
/// It has no thread. It reads only when asked to, so one that is not asked is a peer that stopped reading.
pub struct RawGuest {
    name: String,
    client: Box<dyn Client>,
    timeout: Duration,
}

impl RawGuest {
    /// Attaches, and gives up after `timeout`, as do all operations that do not name a time of their own.
    ///
    /// # Errors
    /// [`Error::Attach`].
    pub fn attach(name: &str, attachment: Attachment, timeout: Duration) -> Result<RawGuest, Error> {
        let text = attachment.to_string();
        let client = attachment.open(name, Instant::now() + timeout).map_err(|source| Error::Attach {
            guest: name.to_owned(),
            attachment: text,
            source,
        })?;
        Ok(RawGuest { name: name.to_owned(), client, timeout })
    }

    /// Sends a frame, waiting for room in the medium.
    ///
    /// # Errors
    /// [`Error::Timeout`] when the other side does not read or is away, or [`Error::Disconnected`].
    pub fn send_frame(&mut self, frame: &[u8]) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        while !self.try_send(frame)? {
            self.wait(PollFlags::OUT, deadline, "sending a frame")?;
        }
        while !self.client.flush().map_err(|error| self.disconnected(error))? {
            self.wait(PollFlags::OUT, deadline, "sending a frame")?;
        }
        Ok(())
    }

    /// Sends a frame if the medium has room now; false when it has none or lost the frame. On a stream the frame may
    /// wait for the next call that sends.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    pub fn try_send(&mut self, frame: &[u8]) -> Result<bool, Error> {
        let transmitted = self.client.transmit(frame).map_err(|error| self.disconnected(error))?;
        Ok(transmitted == Transmit::Taken)
    }

    /// Writes `octets` past the framing: on a stream as they are, else as one datagram.
    ///
    /// # Errors
    /// As [`RawGuest::send_frame`].
    pub fn send_octets(&mut self, octets: &[u8]) -> Result<(), Error> {
        let deadline = Instant::now() + self.timeout;
        let mut left = octets;
        loop {
            match rustix::io::write(self.client.descriptors().0, left) {
                Ok(written) => left = &left[written..],
                Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR) => {
                    self.wait(PollFlags::OUT, deadline, "sending octets")?;
                    continue;
                }
                Err(error) => return Err(self.disconnected(error.into())),
            }
            if left.is_empty() {
                return Ok(());
            }
        }
    }

    /// The next frame; none when no frame came for `timeout`.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    pub fn receive(&mut self, timeout: Duration) -> Result<Option<Vec<u8>>, Error> {
        let deadline = Instant::now() + timeout;
        let mut frame = Vec::new();
        loop {
            if self.client.receive(&mut frame).map_err(|error| self.disconnected(error))? {
                frame.shrink_to_fit();
                return Ok(Some(frame));
            }
            if Instant::now() >= deadline {
                return Ok(None);
            }
            self.poll(PollFlags::IN, deadline)?;
        }
    }

    /// The first frame that `wanted` accepts; those before it are dropped.
    ///
    /// # Errors
    /// [`Error::Timeout`] or [`Error::Disconnected`].
    pub fn expect(&mut self, mut wanted: impl FnMut(&[u8]) -> bool) -> Result<Vec<u8>, Error> {
        let deadline = Instant::now() + self.timeout;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.receive(left)? {
                Some(frame) if wanted(&frame) => return Ok(frame),
                Some(_) if !left.is_zero() => {}
                _ => return Err(self.timed_out("waiting for a frame")),
            }
        }
    }

    /// Receives frames until `idle` passed without one, at most `limit`.
    ///
    /// # Errors
    /// [`Error::Disconnected`].
    pub fn drain(&mut self, limit: usize, idle: Duration) -> Result<Vec<Vec<u8>>, Error> {
        let mut frames = Vec::new();
        while frames.len() < limit
            && let Some(frame) = self.receive(idle)?
        {
            frames.push(frame);
        }
        Ok(frames)
    }

    /// Waits until the other side has closed the attachment and tells why it is closed; frames still received are
    /// dropped.
    ///
    /// # Errors
    /// [`Error::Timeout`] when it is open still.
    pub fn wait_closed(&mut self) -> Result<String, Error> {
        match self.expect(|_| false) {
            Err(Error::Disconnected { reason, .. }) => Ok(reason),
            Err(error) => Err(error),
            Ok(_) => unreachable!("no frame was wanted"),
        }
    }

    fn wait(&self, flags: PollFlags, deadline: Instant, operation: &str) -> Result<(), Error> {
        if Instant::now() >= deadline {
            return Err(self.timed_out(operation));
        }
        self.poll(flags, deadline)
    }

    fn poll(&self, flags: PollFlags, deadline: Instant) -> Result<(), Error> {
        let (frames, control) = self.client.descriptors();
        let mut descriptors = vec![PollFd::from_borrowed_fd(frames, flags)];
        descriptors.extend(control.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)));
        wait::until(&mut descriptors, Some(deadline)).map_err(|error| self.disconnected(error))
    }

    fn timed_out(&self, operation: &str) -> Error {
        Error::Timeout { guest: self.name.clone(), operation: operation.to_owned(), waited: self.timeout }
    }

    fn disconnected(&self, error: io::Error) -> Error {
        Error::Disconnected { guest: self.name.clone(), reason: error.to_string() }
    }
}

/// An Ethernet frame, padded with zeroes to the 60 octets that the medium wants.
pub fn ethernet(destination: MacAddr, source: MacAddr, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = Vec::with_capacity(MIN_FRAME.max(ETHERNET_HEADER + payload.len()));
    frame.extend_from_slice(&destination.0);
    frame.extend_from_slice(&source.0);
    frame.extend_from_slice(&ether_type.to_be_bytes());
    frame.extend_from_slice(payload);
    frame.resize(frame.len().max(MIN_FRAME), 0);
    frame
}
