//! A client as smoltcp's network device.
//!
//! Frames that the medium has no room for wait in a bounded queue. While it holds any, smoltcp is given no frame to
//! fill ([`Device::transmit`]), so that TCP keeps its octets; replies that smoltcp makes while receiving are queued,
//! and dropped when the queue is full: a guest goes on receiving however slow its peer reads. The first error of the
//! client is kept and nothing passes any more.

use std::collections::VecDeque;
use std::io;
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use smoltcp::phy::{self, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use crate::client::{Client, Transmit};
use crate::dhcp::Heard;
use crate::neighbour::Neighbours;

/// Frames that wait for the medium.
const QUEUE: usize = 64;

/// Traffic through a guest's attachment, in frames and octets without FCS.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counters {
    /// Frames received.
    pub rx_frames: u64,
    /// Octets received.
    pub rx_octets: u64,
    /// Frames that the medium took.
    pub tx_frames: u64,
    /// Octets that the medium took.
    pub tx_octets: u64,
    /// Frames dropped instead of sent: the peer was away, or did not read while replies had to be made.
    pub tx_dropped: u64,
}

/// The counters while they count.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rx_frames: AtomicU64,
    rx_octets: AtomicU64,
    tx_frames: AtomicU64,
    tx_octets: AtomicU64,
    tx_dropped: AtomicU64,
}

impl Tally {
    pub(crate) fn read(&self) -> Counters {
        Counters {
            rx_frames: self.rx_frames.load(Relaxed),
            rx_octets: self.rx_octets.load(Relaxed),
            tx_frames: self.tx_frames.load(Relaxed),
            tx_octets: self.tx_octets.load(Relaxed),
            tx_dropped: self.tx_dropped.load(Relaxed),
        }
    }
}

/// The device of one guest.
pub(crate) struct Device {
    frame: Vec<u8>,
    port: Port,
    /// Fed with every frame received.
    pub(crate) neighbours: Neighbours,
    /// The same, in a guest that asks for a lease.
    pub(crate) heard: Option<Heard>,
    mtu: usize,
}

/// The sending half, and what both halves share.
pub(crate) struct Port {
    client: Box<dyn Client>,
    queue: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
    flushed: bool,
    failure: Option<io::Error>,
    tally: Arc<Tally>,
}

impl Device {
    /// `mtu` is that of the interface, without the Ethernet header.
    pub(crate) fn new(client: Box<dyn Client>, mtu: u16, tally: Arc<Tally>) -> Device {
        let port =
            Port { client, queue: VecDeque::new(), spare: Vec::new(), flushed: true, failure: None, tally };
        let mtu = usize::from(mtu) + vmlan_frame::ETHERNET_HEADER;
        Device { frame: Vec::new(), port, neighbours: Neighbours::default(), heard: None, mtu }
    }

    /// Sends a frame that smoltcp did not make.
    pub(crate) fn send(&mut self, frame: Vec<u8>) {
        self.port.send(frame);
    }

    /// Moves what waits on to the medium.
    pub(crate) fn flush(&mut self) {
        self.port.flush();
    }

    /// True if frames or octets wait for the medium.
    pub(crate) fn is_blocked(&self) -> bool {
        !self.port.flushed || !self.port.queue.is_empty()
    }

    /// Takes the error that ended the attachment; later calls return `None`.
    pub(crate) fn take_failure(&mut self) -> Option<io::Error> {
        self.port.failure.take()
    }

    /// As [`Client::descriptors`].
    pub(crate) fn descriptors(&self) -> (BorrowedFd<'_>, Option<BorrowedFd<'_>>) {
        self.port.client.descriptors()
    }
}

impl Port {
    fn send(&mut self, frame: Vec<u8>) {
        if self.queue.is_empty() && self.offer(&frame) {
            self.keep(frame);
        } else if self.queue.len() < QUEUE {
            self.queue.push_back(frame);
        } else {
            self.tally.tx_dropped.fetch_add(1, Relaxed);
            self.keep(frame);
        }
    }

    /// Keeps a buffer for the next frame.
    fn keep(&mut self, frame: Vec<u8>) {
        if self.spare.len() < QUEUE {
            self.spare.push(frame);
        }
    }

    /// Gives a frame to the medium; false when it must wait.
    fn offer(&mut self, frame: &[u8]) -> bool {
        match self.client.transmit(frame) {
            Ok(Transmit::Taken) => {
                self.flushed = false;
                self.tally.tx_frames.fetch_add(1, Relaxed);
                self.tally.tx_octets.fetch_add(frame.len() as u64, Relaxed);
                true
            }
            Ok(Transmit::Full) => false,
            Ok(Transmit::Lost) => {
                self.tally.tx_dropped.fetch_add(1, Relaxed);
                true
            }
            Err(error) => {
                self.failure.get_or_insert(error);
                self.tally.tx_dropped.fetch_add(1, Relaxed);
                true
            }
        }
    }

    fn flush(&mut self) {
        while let Some(frame) = self.queue.pop_front() {
            if !self.offer(&frame) {
                self.queue.push_front(frame);
                break;
            }
            self.keep(frame);
        }
        match self.client.flush() {
            Ok(flushed) => self.flushed = flushed,
            Err(error) => {
                self.failure.get_or_insert(error);
            }
        }
    }
}

impl phy::Device for Device {
    type RxToken<'a> = RxToken<'a>;
    type TxToken<'a> = TxToken<'a>;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'_>, TxToken<'_>)> {
        if self.port.failure.is_some() {
            return None;
        }
        match self.port.client.receive(&mut self.frame) {
            Ok(true) => {
                self.port.tally.rx_frames.fetch_add(1, Relaxed);
                self.port.tally.rx_octets.fetch_add(self.frame.len() as u64, Relaxed);
                self.neighbours.observe(&self.frame);
                if let Some(heard) = &mut self.heard {
                    heard.observe(&self.frame);
                }
                Some((RxToken(&self.frame), TxToken(&mut self.port)))
            }
            Ok(false) => None,
            Err(error) => {
                self.port.failure = Some(error);
                None
            }
        }
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_>> {
        (self.port.queue.is_empty() && self.port.failure.is_none()).then_some(TxToken(&mut self.port))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

/// A received frame.
pub(crate) struct RxToken<'a>(&'a [u8]);

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Leave to send one frame.
pub(crate) struct TxToken<'a>(&'a mut Port);

impl phy::TxToken for TxToken<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = self.0.spare.pop().unwrap_or_default();
        frame.clear();
        frame.resize(length, 0);
        let result = f(&mut frame);
        self.0.send(frame);
        result
    }
}
