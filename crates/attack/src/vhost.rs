//! A front end of vhost-user and its guest, as hostile ones are: they say and write what they like.
//!
//! The guest's memory is a memfd that is written by pwrite(2), so that nothing that happens to the file harms this
//! process. Each ring has a MiB of it for its areas, and buffers are behind all of them.

use std::io::{self, IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, SocketType, send, sendmsg, sockopt::Timeout,
    sockopt::set_socket_timeout,
};
use vmlan_api::PortState;
pub(crate) use vmlan_drivers::vhost_user::message::Kind;
pub(crate) use vmlan_drivers::vhost_user::session::{feature, protocol};

use crate::attack::Field;
use crate::peers::{STEP, connect};

/// Descriptors that a message can have along (SCM_MAX_FD).
pub(crate) const MOST: usize = 253;

/// The name that guests' memory has among the mappings of a process.
pub(crate) const MEMORY: &str = "vmlan-attack-guest";

/// The first address of a guest's memory, as the guest and as the front end count.
pub(crate) const GUEST: u64 = 0x10_0000;
pub(crate) const USER: u64 = 0x7f00_0000_0000;

/// Octets of the areas of a ring, and where in them the driver's and the device's are.
const AREAS: u64 = 1 << 20;
const DRIVER: u64 = 0x8_0000;
const DEVICE: u64 = 0xa_0000;

/// Where buffers begin, behind the areas of two rings, and how long the memory is if nothing else is said.
pub(crate) const BUFFERS: u64 = 2 * AREAS;
pub(crate) const OCTETS: u64 = 4 << 20;

/// Octets in front of a frame.
pub(crate) const HEADER: usize = 12;

/// Flags of descriptors.
pub(crate) const NEXT: u16 = 1;
pub(crate) const WRITE: u16 = 2;
pub(crate) const INDIRECT: u16 = 4;

/// The flags of a message: this version, an answer is wanted.
pub(crate) const VERSION: u32 = 1;
pub(crate) const NEED_REPLY: u32 = 1 << 3;

/// The features that a guest takes which does not want others.
pub(crate) const FEATURES: u64 = feature::VERSION_1 | feature::PROTOCOL_FEATURES | feature::MRG_RXBUF;

/// The rings of the first pair: that to the guest, and that from it.
pub(crate) const RX: u32 = 0;
pub(crate) const TX: u32 = 1;

/// Words of 32 bits as octets.
pub(crate) fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

/// Words of 64 bits as octets.
pub(crate) fn longs(longs: &[u64]) -> Vec<u8> {
    longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
}

/// A message as it stands on the socket.
pub(crate) fn message(number: u32, flags: u32, body: &[u8]) -> Vec<u8> {
    [words(&[number, flags, body.len() as u32]), body.to_vec()].concat()
}

/// An eventfd as honest guests have them.
pub(crate) fn event() -> io::Result<OwnedFd> {
    Ok(eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?)
}

/// The memory of a guest.
pub(crate) struct Memory {
    pub(crate) file: OwnedFd,
    pub(crate) octets: u64,
}

impl Memory {
    pub(crate) fn new(octets: u64) -> io::Result<Memory> {
        let file = memfd_create(MEMORY, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, octets)?;
        Ok(Memory { file, octets })
    }

    /// Takes its pages away, or gives it empty ones.
    pub(crate) fn resize(&self, octets: u64) -> io::Result<()> {
        Ok(ftruncate(&self.file, octets)?)
    }

    pub(crate) fn write(&self, offset: u64, octets: &[u8]) -> io::Result<()> {
        rustix::io::pwrite(&self.file, octets, offset)?;
        Ok(())
    }

    pub(crate) fn read(&self, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let mut octets = vec![0; len];
        let read = rustix::io::pread(&self.file, &mut octets, offset)?;
        octets.truncate(read);
        Ok(octets)
    }

    pub(crate) fn read_u16(&self, offset: u64) -> io::Result<u16> {
        let mut octets = [0; 2];
        rustix::io::pread(&self.file, &mut octets, offset)?;
        Ok(u16::from_le_bytes(octets))
    }

    /// A region of all of it, as messages describe it.
    pub(crate) fn region(&self) -> [u64; 4] {
        [GUEST, self.octets, USER, 0]
    }
}

/// A ring in the memory of a guest.
#[derive(Clone, Copy)]
pub(crate) struct Ring {
    pub(crate) index: u32,
    pub(crate) num: u16,
}

impl Ring {
    fn areas(self) -> u64 {
        u64::from(self.index) * AREAS
    }

    /// Where a descriptor is.
    pub(crate) fn descriptor(self, number: u16) -> u64 {
        self.areas() + 16 * u64::from(number)
    }

    /// Where the available ring is, or what the driver of a packed ring wants to hear.
    pub(crate) fn driver(self) -> u64 {
        self.areas() + DRIVER
    }

    /// Where the used ring is, or what the device of a packed ring wants to hear.
    pub(crate) fn device(self) -> u64 {
        self.areas() + DEVICE
    }

    /// The body of the message that tells the ring's places.
    pub(crate) fn addresses(self, log: Option<u64>) -> Vec<u8> {
        let places = [self.areas(), self.device(), self.driver()].map(|offset| USER + offset);
        let log = (u32::from(log.is_some()), log.unwrap_or(0));
        [words(&[self.index, log.0]), longs(&places), longs(&[log.1])].concat()
    }

    /// Names all descriptors in the available ring, each once.
    pub(crate) fn name_all(self, memory: &Memory) -> io::Result<()> {
        let heads: Vec<u8> = (0..self.num).flat_map(u16::to_le_bytes).collect();
        memory.write(self.driver() + 4, &heads)
    }

    /// Names one descriptor in all places of the available ring.
    pub(crate) fn name_only(self, memory: &Memory, head: u16) -> io::Result<()> {
        let heads: Vec<u8> = (0..self.num).flat_map(|_| head.to_le_bytes()).collect();
        memory.write(self.driver() + 4, &heads)
    }

    pub(crate) fn set_available(self, memory: &Memory, index: u16) -> io::Result<()> {
        memory.write(self.driver() + 2, &index.to_le_bytes())
    }

    pub(crate) fn used(self, memory: &Memory) -> io::Result<u16> {
        memory.read_u16(self.device() + 2)
    }

    /// The id and the octets of the used entry with this index.
    pub(crate) fn used_entry(self, memory: &Memory, index: u16) -> io::Result<(u32, u32)> {
        let octets = memory.read(self.device() + 4 + 8 * u64::from(index % self.num), 8)?;
        let word = |at: usize| {
            octets.get(at..).and_then(<[u8]>::first_chunk).map_or(0, |word| u32::from_le_bytes(*word))
        };
        Ok((word(0), word(4)))
    }

    /// Makes everything available again that was used. True if there was something.
    pub(crate) fn refill(self, memory: &Memory) -> io::Result<bool> {
        let wanted = self.used(memory)?.wrapping_add(self.num);
        let is_less = memory.read_u16(self.driver() + 2)? != wanted;
        if is_less {
            self.set_available(memory, wanted)?;
        }
        Ok(is_less)
    }

    /// Gives all descriptors one buffer, in which `frame` is behind its header.
    pub(crate) fn send(self, memory: &Memory, frame: &[u8]) -> io::Result<()> {
        memory.write(BUFFERS, &[&[0; HEADER][..], frame].concat())?;
        let one = split(GUEST + BUFFERS, (HEADER + frame.len()) as u32, 0, 0);
        memory.write(self.descriptor(0), &one.repeat(self.num.into()))?;
        self.name_all(memory)
    }

    /// Gives all descriptors one buffer, in which the device may write whatever it likes.
    pub(crate) fn receive(self, memory: &Memory) -> io::Result<()> {
        let one = split(GUEST + BUFFERS + (1 << 20), 2048, WRITE, 0);
        memory.write(self.descriptor(0), &one.repeat(self.num.into()))?;
        self.name_all(memory)
    }
}

/// A descriptor of a split ring.
pub(crate) fn split(guest: u64, len: u32, flags: u16, next: u16) -> [u8; 16] {
    packed(guest, len, flags, next)
}

/// A descriptor of a packed ring.
pub(crate) fn packed(guest: u64, len: u32, id: u16, flags: u16) -> [u8; 16] {
    let mut octets = [0; 16];
    octets[..8].copy_from_slice(&guest.to_le_bytes());
    octets[8..12].copy_from_slice(&len.to_le_bytes());
    octets[12..14].copy_from_slice(&id.to_le_bytes());
    octets[14..].copy_from_slice(&flags.to_le_bytes());
    octets
}

/// A front end that is connected.
pub(crate) struct FrontEnd {
    pub(crate) socket: UnixStream,
    /// Kicks and calls of the first pair, by their rings' indices.
    pub(crate) kicks: Vec<OwnedFd>,
    pub(crate) calls: Vec<OwnedFd>,
}

impl FrontEnd {
    /// A front end that has not said anything, and may not be served.
    pub(crate) fn connect(path: &Path) -> io::Result<FrontEnd> {
        let socket = UnixStream::from(connect(path, SocketType::STREAM, STEP)?);
        Ok(FrontEnd { socket, kicks: Vec::new(), calls: Vec::new() })
    }

    /// A front end that is served, once the port takes one; nothing when the attack is over before.
    pub(crate) fn served(field: &Field, port: &str) -> Option<FrontEnd> {
        let path = field.path(&format!("{port}.sock"));
        while !field.is_over() {
            if let Ok(front) = FrontEnd::connect(&path)
                && front.is_served(field)
            {
                return Some(front);
            }
            field.pause(Duration::from_millis(20));
        }
        None
    }

    /// Waits for an answer, for as long as the attack goes on.
    fn is_served(&self, field: &Field) -> bool {
        if self.send(Kind::GetFeatures, &[], &[]).is_err() {
            return false;
        }
        loop {
            match self.number() {
                Ok(_) => return true,
                Err(error) if is_late(&error) && !field.is_over() => {}
                Err(_) => return false,
            }
        }
    }

    /// A front end that is served, whatever else goes on.
    pub(crate) fn patient(field: &Field, port: &str) -> anyhow::Result<FrontEnd> {
        let path = field.path(&format!("{port}.sock"));
        let deadline = Instant::now() + field.patience;
        while Instant::now() < deadline {
            let front = FrontEnd::connect(&path).context("a port")?;
            front.wait_up_to(field.patience)?;
            if front.ask(Kind::GetFeatures, &[], &[]).is_ok() {
                return Ok(front);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        bail!("port {port} serves nobody")
    }

    /// Lets answers take so long.
    pub(crate) fn wait_up_to(&self, limit: Duration) -> io::Result<()> {
        Ok(set_socket_timeout(&self.socket, Timeout::Recv, Some(limit))?)
    }

    /// Sends octets with descriptors beside them.
    pub(crate) fn send_octets(&self, octets: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<usize> {
        if descriptors.is_empty() {
            return Ok(send(&self.socket, octets, SendFlags::NOSIGNAL)?);
        }
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        assert!(control.push(SendAncillaryMessage::ScmRights(descriptors)), "there is room for all");
        Ok(sendmsg(&self.socket, &[IoSlice::new(octets)], &mut control, SendFlags::NOSIGNAL)?)
    }

    /// Sends a message.
    pub(crate) fn send(&self, kind: Kind, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        self.send_octets(&message(kind as u32, VERSION, body), descriptors)?;
        Ok(())
    }

    /// Receives an answer.
    pub(crate) fn answer(&self) -> io::Result<Vec<u8>> {
        let mut header = [0; 12];
        (&self.socket).read_exact(&mut header)?;
        let [.., size] = [0, 4, 8].map(|at| u32::from_ne_bytes([0, 1, 2, 3].map(|octet| header[at + octet])));
        let mut body = vec![0; size as usize];
        (&self.socket).read_exact(&mut body)?;
        Ok(body)
    }

    fn number(&self) -> io::Result<u64> {
        let octets = <[u8; 8]>::try_from(self.answer()?).map_err(|_| io::ErrorKind::InvalidData)?;
        Ok(u64::from_ne_bytes(octets))
    }

    /// Sends a message whose answer is a number.
    pub(crate) fn ask(&self, kind: Kind, body: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<u64> {
        self.send(kind, body, descriptors)?;
        self.number()
    }

    /// Stops a ring. Answers where it stands.
    pub(crate) fn stop(&self, index: u32) -> io::Result<Vec<u8>> {
        self.send(Kind::GetVringBase, &words(&[index, 0]), &[])?;
        self.answer()
    }

    /// Accepts features and shares memory.
    pub(crate) fn share(&self, features: u64, memory: &Memory) -> io::Result<()> {
        self.send(Kind::SetFeatures, &longs(&[features]), &[])?;
        let protocol = protocol::MQ
            | protocol::REPLY_ACK
            | protocol::LOG_SHMFD
            | protocol::RARP
            | protocol::CONFIGURE_MEM_SLOTS
            | protocol::RESET_DEVICE;
        self.send(Kind::SetProtocolFeatures, &longs(&[protocol]), &[])?;
        self.set_memory(&[memory.region()], &[memory.file.as_fd()])
    }

    /// Makes these regions the memory.
    pub(crate) fn set_memory(&self, regions: &[[u64; 4]], files: &[BorrowedFd<'_>]) -> io::Result<()> {
        let table: Vec<u8> = regions.iter().flat_map(|region| longs(region)).collect();
        self.send(Kind::SetMemTable, &[words(&[regions.len() as u32, 0]), table].concat(), files)
    }

    /// Starts and enables a ring.
    pub(crate) fn start(&self, ring: Ring, kick: &OwnedFd, call: &OwnedFd) -> io::Result<()> {
        let Ring { index, num } = ring;
        self.send(Kind::SetVringNum, &words(&[index, num.into()]), &[])?;
        // A packed ring begins in its first round.
        self.send(Kind::SetVringBase, &words(&[index, 0x8000]), &[])?;
        self.send(Kind::SetVringAddr, &ring.addresses(None), &[])?;
        self.send(Kind::SetVringCall, &longs(&[index.into()]), &[call.as_fd()])?;
        self.kick(index, kick)?;
        self.send(Kind::SetVringEnable, &words(&[index, 1]), &[])
    }

    /// Sends the message that starts a ring.
    pub(crate) fn kick(&self, index: u32, kick: &OwnedFd) -> io::Result<()> {
        self.send(Kind::SetVringKick, &longs(&[index.into()]), &[kick.as_fd()])
    }

    /// Shares memory, starts both rings of the first pair, and waits until that is done.
    pub(crate) fn run(&mut self, features: u64, memory: &Memory, rings: [Ring; 2]) -> io::Result<()> {
        self.share(features, memory)?;
        self.run_shared(rings)
    }

    /// Starts both rings of the first pair in memory that is shared, and waits until that is done.
    pub(crate) fn run_shared(&mut self, rings: [Ring; 2]) -> io::Result<()> {
        for ring in rings {
            let (kick, call) = (event()?, event()?);
            self.start(ring, &kick, &call)?;
            self.kicks.push(kick);
            self.calls.push(call);
        }
        self.ask(Kind::GetFeatures, &[], &[])?;
        Ok(())
    }

    /// Rings for a ring.
    pub(crate) fn ring(&self, index: u32) {
        // One whose counter is full has rung.
        let _ = rustix::io::write(&self.kicks[index as usize], &1_u64.to_ne_bytes());
    }

    /// True if the other end closes within `limit`. What it answers before is dropped.
    pub(crate) fn is_left(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        let _ = self.wait_up_to(limit.min(STEP));
        let mut octets = [0; 4096];
        while Instant::now() < deadline {
            match (&self.socket).read(&mut octets) {
                Ok(1..) => {}
                Err(error) if is_late(&error) => {}
                Ok(0) | Err(_) => return true,
            }
        }
        false
    }

    /// True if the other end closes within `limit`, although nothing is read of what it says.
    pub(crate) fn is_left_unread(&self, limit: Duration) -> bool {
        let deadline = Instant::now() + limit;
        while Instant::now() < deadline {
            let mut fds = [PollFd::new(&self.socket, PollFlags::empty())];
            if poll(&mut fds, Some(&STEP.try_into().expect("a step is short"))).is_ok_and(|count| count > 0) {
                return true;
            }
        }
        false
    }

    /// Writes octets, in as many pieces as it takes.
    pub(crate) fn write(&self, octets: &[u8]) -> io::Result<()> {
        (&self.socket).write_all(octets)
    }
}

/// True if a call on a socket was not over in time.
fn is_late(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut | io::ErrorKind::Interrupted)
}

/// Waits until the log names a port of the network `lab` beside this text; a promise is broken when it never does.
pub(crate) fn wait_log(field: &Field, port: &str, text: &str, what: &str) {
    let (place, deadline) = (format!("lab/{port}"), Instant::now() + field.patience);
    loop {
        let log = std::fs::read(field.path("log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let said: Vec<&str> = log.lines().filter(|line| names(line, &place)).collect();
        if said.iter().any(|line| line.contains(text)) {
            return;
        }
        if Instant::now() >= deadline {
            field.broken(format!("{what}: the log does not say \"{text}\", but {said:?}"));
            return;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// True if a line has this place, and not one whose name only begins so.
fn names(line: &str, place: &str) -> bool {
    let ends = |rest: &str| !rest.starts_with(|next: char| next.is_ascii_alphanumeric());
    line.match_indices(place).any(|(at, _)| ends(&line[at + place.len()..]))
}

/// Waits until a port has this state; a promise is broken when it never has.
pub(crate) fn wait_state(field: &Field, name: &str, state: PortState) -> anyhow::Result<()> {
    let deadline = Instant::now() + field.patience;
    while field.ports()?.iter().all(|port| port.port != name || port.state != state) {
        if Instant::now() >= deadline {
            field.broken(format!("port {name} does not become {}", state.as_str()));
            break;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}
