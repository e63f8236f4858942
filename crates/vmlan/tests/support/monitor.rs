//! A machine monitor without a machine: the front end of a vhost-user port, and as much of a guest as fills its rings.

use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vmlan_drivers::vhost_user::message::Kind;
use vmlan_drivers::vhost_user::session::feature;
use vmlan_sys::guest_memory::Mapping;

use super::PATIENCE;

/// Entries of a ring, which are buffers of so many octets.
const NUM: u16 = 16;
const BUFFER: u64 = 2048;

/// Octets of a ring with its buffers, and where in them its parts are. Ring 0 is that to the guest, ring 1 the other.
const RING: u64 = 0x1_0000;
const AVAILABLE: u64 = 0x1000;
const USED: u64 = 0x2000;
const BUFFERS: u64 = 0x4000;

/// Octets in front of a frame.
const HEADER: usize = 12;

/// The flag of a buffer that the device writes to.
const WRITE: u16 = 2;

/// The first address of the guest's memory, as the front end counts. The guest counts from 0.
const USER: u64 = 0x7f00_0000_0000;

/// The memory of a guest, as both see it.
pub struct GuestMemory {
    pub file: OwnedFd,
    mapping: Mapping,
}

impl GuestMemory {
    /// Octets of it: a huge page.
    pub const OCTETS: u64 = 2 << 20;

    /// Its file's name, by which mappings of it are known.
    pub const NAME: &str = "vmlan-test-guest";

    pub fn new() -> GuestMemory {
        GuestMemory::with(MemfdFlags::empty())
    }

    /// A guest's memory in a file with these flags as well.
    #[track_caller]
    pub fn with(flags: MemfdFlags) -> GuestMemory {
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | flags;
        let file = memfd_create(GuestMemory::NAME, flags).expect("a file");
        ftruncate(&file, GuestMemory::OCTETS).expect("its length");
        let mapping = Mapping::new(file.as_fd(), 0, GuestMemory::OCTETS).expect("a mapping");
        GuestMemory { file, mapping }
    }

    /// Makes all buffers of a ring available once more, `len` octets of each.
    fn offer(&self, ring: u64, len: u32, flags: u16) {
        let all = self.mapping.span(0, GuestMemory::OCTETS).expect("all of it");
        let start = ring * RING;
        for number in 0..NUM {
            let (descriptor, head) =
                (start + 16 * u64::from(number), start + AVAILABLE + 4 + 2 * u64::from(number));
            all.store_u64(descriptor as usize, start + BUFFERS + BUFFER * (u64::from(number) % 8));
            all.store_u32(descriptor as usize + 8, len);
            all.store_u16(descriptor as usize + 12, flags);
            all.store_u16(head as usize, number);
        }
        let index = (start + AVAILABLE) as usize + 2;
        all.store_u16_release(index, all.load_u16(index).wrapping_add(NUM));
    }

    /// Lets the guest send a frame, as often as its ring has entries.
    pub fn send(&self, frame: &[u8]) {
        let buffers = self.mapping.span(RING + BUFFERS, 8 * BUFFER).expect("eight of them");
        for number in 0..8 {
            buffers.write((number * BUFFER) as usize, &[&[0; HEADER][..], frame].concat());
        }
        self.offer(1, (HEADER + frame.len()) as u32, 0);
    }

    /// Lets the guest receive as many frames as its ring has entries.
    pub fn receive(&self) {
        self.offer(0, BUFFER as u32, WRITE);
    }

    /// True if all that the guest sent was taken.
    pub fn is_sent(&self) -> bool {
        let all = self.mapping.span(RING, RING).expect("the ring from the guest");
        all.load_u16_acquire(USED as usize + 2) == all.load_u16(AVAILABLE as usize + 2)
    }

    /// Names a descriptor that the ring from the guest does not have.
    pub fn break_ring(&self) {
        let all = self.mapping.span(RING, RING).expect("the ring from the guest");
        let index = AVAILABLE as usize + 2;
        (0..NUM).for_each(|place| all.store_u16(AVAILABLE as usize + 4 + 2 * usize::from(place), NUM));
        all.store_u16_release(index, all.load_u16(index).wrapping_add(1));
    }
}

/// Frames that one call of [`GuestMemory::send`] or [`GuestMemory::receive`] is about.
pub const FRAMES: u64 = NUM as u64;

/// A machine monitor without a machine.
pub struct Monitor {
    pub socket: UnixStream,
    /// Those of both rings, once they run.
    kicks: Vec<OwnedFd>,
}

impl Monitor {
    pub fn new(stream: UnixStream) -> Monitor {
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Monitor { socket: stream, kicks: Vec::new() }
    }

    pub fn connect(path: &Path) -> Monitor {
        Monitor::new(UnixStream::connect(path).expect("a listener"))
    }

    /// Sends a message of this version of the protocol, and perhaps a descriptor along.
    pub fn send(&mut self, version: u32, request: Kind, body: &[u8], passed: Option<&OwnedFd>) {
        assert_eq!(self.try_send(version, request, body, passed), Ok(12 + body.len()));
    }

    /// As [`Monitor::send`], to one that may have closed the connection.
    pub fn try_send(
        &mut self,
        version: u32,
        request: Kind,
        body: &[u8],
        passed: Option<&OwnedFd>,
    ) -> rustix::io::Result<usize> {
        let header = [request as u32, version, body.len() as u32];
        let octets: Vec<u8> = header.into_iter().flat_map(u32::to_ne_bytes).chain(body.to_vec()).collect();
        let passed: Vec<_> = passed.into_iter().map(AsFd::as_fd).collect();
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !passed.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(&passed)));
        }
        sendmsg(&self.socket, &[IoSlice::new(&octets)], &mut control, SendFlags::NOSIGNAL)
    }

    /// Passes a descriptor, and asks for something: a descriptor that did not arrive ends the connection.
    #[track_caller]
    pub fn expect_service(&mut self) {
        let call = eventfd(0, EventfdFlags::empty()).expect("a descriptor");
        self.send(1, Kind::SetVringCall, &0_u64.to_ne_bytes(), Some(&call));
        self.send(1, Kind::GetFeatures, &[], None);
        let mut answer = [0; 20];
        self.socket.read_exact(&mut answer).expect("an answer");
        assert_eq!(answer[..4], (Kind::GetFeatures as u32).to_ne_bytes());
    }

    /// Shares memory, and starts a pair of rings in it.
    pub fn run(&mut self, memory: &GuestMemory) {
        let longs = |longs: &[u64]| longs.iter().flat_map(|long| long.to_ne_bytes()).collect::<Vec<_>>();
        let words = |words: &[u32]| words.iter().flat_map(|word| word.to_ne_bytes()).collect::<Vec<_>>();
        let features = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::MRG_RXBUF;
        self.send(1, Kind::SetFeatures, &longs(&[features]), None);
        let region = longs(&[0, GuestMemory::OCTETS, USER, 0]);
        self.send(1, Kind::SetMemTable, &[words(&[1, 0]), region].concat(), Some(&memory.file));
        for index in [0, 1] {
            let user = USER + RING * u64::from(index);
            let addresses = longs(&[user, user + USED, user + AVAILABLE, 0]);
            let kick = eventfd(0, EventfdFlags::NONBLOCK).expect("a descriptor");
            self.send(1, Kind::SetVringNum, &words(&[index, NUM.into()]), None);
            self.send(1, Kind::SetVringBase, &words(&[index, 0]), None);
            self.send(1, Kind::SetVringAddr, &[words(&[index, 0]), addresses].concat(), None);
            self.send(1, Kind::SetVringKick, &longs(&[index.into()]), Some(&kick));
            self.send(1, Kind::SetVringEnable, &words(&[index, 1]), None);
            self.kicks.push(kick);
        }
    }

    /// Tells the device that the guest sent something, whether it wants to know or not.
    pub fn kick(&self) {
        rustix::io::write(&self.kicks[1], &1_u64.to_ne_bytes()).expect("room in a counter");
    }

    /// Waits for the other end to close.
    #[track_caller]
    pub fn expect_end(mut self) {
        // What was not read may make it a reset.
        let is_reset = |error: &std::io::Error| error.kind() == std::io::ErrorKind::ConnectionReset;
        let end = self.socket.read(&mut [0; 1]);
        assert!(matches!(&end, Ok(0)) || end.is_err_and(|error| is_reset(&error)), "the connection is open");
    }
}
