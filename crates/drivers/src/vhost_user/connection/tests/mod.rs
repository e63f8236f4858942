//! Connections with front ends that send whatever a test wants.

mod hostile;
mod life;
mod memory;
mod traffic;

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, channel};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};

use super::super::message::{HEADER, Kind};
use super::super::session::{feature, protocol};
use super::*;

/// Far more than anything here takes.
const SOON: Duration = Duration::from_secs(20);

const MEMORY: u64 = 4 << 20;
const USER: u64 = 0x7f00_0000_0000;
const NUM: u32 = 256;

const ACCEPTED: u64 = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::MRG_RXBUF;

fn offer() -> Offer {
    Offer {
        pairs: 8,
        packed: true,
        offloads: true,
        config: ConfigOffer::Auto,
        mac: Some(MacAddr([2, 0, 0, 0, 0, 7])),
        mtu: 1500,
    }
}

fn memfd(octets: u64) -> OwnedFd {
    let fd = memfd_create("guest", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    ftruncate(&fd, octets).unwrap();
    fd
}

fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).unwrap()
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

fn message(number: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    [words(&[number, flags, body.len() as u32]), body.to_vec()].concat()
}

fn send_octets(socket: &UnixStream, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !descriptors.is_empty() {
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)));
    }
    // The other end may be closed already.
    let _ = sendmsg(socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL);
}

/// The other end of a connection.
struct FrontEnd {
    socket: UnixStream,
    reports: Receiver<Report>,
    lingering: Lingering,
    device: Arc<dyn Endpoint>,
    connection: Option<Connection>,
}

fn options(socket: UnixStream, lingering: &Lingering) -> Options {
    Options {
        socket: socket.into(),
        offer: offer(),
        memory: 1 << 30,
        sealed: false,
        workers: 1,
        lingering: lingering.clone(),
        counters: RingCounters::new(1),
        checkpoints: None,
    }
}

impl FrontEnd {
    fn new() -> FrontEnd {
        FrontEnd::with(|_| {})
    }

    fn with(change: impl FnOnce(&mut Options)) -> FrontEnd {
        let (ours, theirs) = UnixStream::pair().unwrap();
        FrontEnd::over(ours, theirs, change)
    }

    fn over(ours: UnixStream, theirs: UnixStream, change: impl FnOnce(&mut Options)) -> FrontEnd {
        ours.set_read_timeout(Some(SOON)).unwrap();
        let lingering = Lingering::default();
        let mut options = options(theirs, &lingering);
        change(&mut options);
        let (sender, reports) = channel();
        let report = move |report| drop(sender.send(report));
        let (device, connection) = serve(options, report).unwrap();
        connection.admit();
        FrontEnd { socket: ours, reports, lingering, device, connection: Some(connection) }
    }

    fn send_octets(&self, octets: &[u8], descriptors: &[BorrowedFd<'_>]) {
        send_octets(&self.socket, octets, descriptors);
    }

    fn send(&self, kind: Kind, body: &[u8], descriptors: &[&OwnedFd]) {
        let descriptors: Vec<_> = descriptors.iter().map(|fd| fd.as_fd()).collect();
        self.send_octets(&message(kind as u32, 1, body), &descriptors);
    }

    fn receive(&mut self) -> Vec<u8> {
        let mut header = [0; HEADER];
        self.socket.read_exact(&mut header).unwrap();
        let size = u32::from_ne_bytes(header[8..].try_into().unwrap());
        let mut body = vec![0; size as usize];
        self.socket.read_exact(&mut body).unwrap();
        body
    }

    /// Sends a request that is answered with a number.
    fn ask(&mut self, kind: Kind, body: &[u8], descriptors: &[&OwnedFd]) -> u64 {
        self.send(kind, body, descriptors);
        u64::from_ne_bytes(self.receive().try_into().unwrap())
    }

    /// Sends a request whose answer is waited for, as a front end may with all of them.
    fn ask_whether(&mut self, kind: Kind, body: &[u8]) -> u64 {
        self.send_octets(&message(kind as u32, 1 | 8, body), &[]);
        u64::from_ne_bytes(self.receive().try_into().unwrap())
    }

    fn base(&mut self, index: u32) -> Vec<u8> {
        self.send(Kind::GetVringBase, &words(&[index, 0]), &[]);
        self.receive()
    }

    /// Waits for a state.
    fn wait_for(&self, wanted: impl Fn(&State) -> bool) -> State {
        loop {
            match self.reports.recv_timeout(SOON).unwrap() {
                Report::State(state) if wanted(&state) => return state,
                Report::State(_) => {}
                Report::Ended(fault) => panic!("it ended: {fault:?}"),
            }
        }
    }

    /// Waits for the end, and returns what it was told to be.
    fn end(&self) -> Fault {
        loop {
            if let Report::Ended(fault) = self.reports.recv_timeout(SOON).unwrap() {
                return fault;
            }
        }
    }

    /// Waits for the end, which is the front end's fault.
    fn violation(&self) -> String {
        match self.end() {
            Fault::Violation(text) => text,
            other => panic!("no violation: {other:?}"),
        }
    }

    fn accept(&mut self) {
        self.send(Kind::SetFeatures, &longs(&[ACCEPTED]), &[]);
        self.send(Kind::SetProtocolFeatures, &longs(&[protocol::REPLY_ACK]), &[]);
    }

    fn share(&self, memory: &OwnedFd) {
        self.send(Kind::AddMemReg, &longs(&[0, 0, MEMORY, USER, 0]), &[memory]);
    }

    /// Sets a ring up and starts it. Its areas lie in a quarter of a MiB.
    fn start(&self, index: u32, kick: &OwnedFd) {
        let user = USER + u64::from(index) * (256 << 10);
        self.send(Kind::SetVringNum, &words(&[index, NUM]), &[]);
        self.send(Kind::SetVringBase, &words(&[index, 0]), &[]);
        let addresses = longs(&[user, user + 0x2_0000, user + 0x1_0000, 0]);
        self.send(Kind::SetVringAddr, &[words(&[index, 0]), addresses].concat(), &[]);
        self.send(Kind::SetVringKick, &longs(&[index.into()]), &[kick]);
    }

    /// Memory, and one pair of rings that are started and enabled.
    fn run(&mut self, memory: &OwnedFd) {
        self.accept();
        self.share(memory);
        for index in [0, 1] {
            self.send(Kind::SetVringEnable, &words(&[index, 1]), &[]);
            self.start(index, &event());
        }
        assert_eq!(self.wait_for(|state| state.up).reason, None);
    }

    fn wait_for_threads(&self, count: usize) {
        testbed::wait_until("threads to end", SOON, || self.lingering.count() == count);
    }
}

/// Writes the index of a used ring, and of the available one.
fn set_indices(memory: &OwnedFd, index: u64, value: u16) {
    let ring = index * (256 << 10);
    for area in [0x1_0000, 0x2_0000] {
        rustix::io::pwrite(memory, &value.to_le_bytes(), ring + area + 2).unwrap();
    }
}
