//! A bridge between a TAP that frames are written into and one that takes no offloads.

use std::cell::Cell;
use std::io;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use testbed::{Interface, Netns};
use vmlan_frame::Frame;
use vmlan_frame::offload::VIRTIO_HEADER;
use vmlan_sys::tap;

/// Whose frames are looked at; the kernel may send others.
pub const SOURCE: [u8; 6] = [2, 0, 0, 0, 0, 1];

const PATIENCE: Duration = Duration::from_secs(10);

/// The EtherType of marks (IEEE Std 802, local experimental 1).
const MARK: [u8; 2] = [0x88, 0xb5];

pub struct Lab {
    input: OwnedFd,
    output: OwnedFd,
    /// How many marks were sent, so that no two are the same.
    marks: Cell<u32>,
    /// Removed last.
    _netns: Netns,
}

impl Lab {
    /// Sets it up and waits until frames come through.
    pub fn new() -> Lab {
        let netns = Netns::new("offloads");
        let open = |name: &'static str| {
            let open = || tap::open(name, tap::Options::default());
            vmlan_sys::netns::within(&netns.path(), open).expect("a TAP in the namespace").0
        };
        let (input, output) = (open("in"), open("out"));
        netns.ip(["link", "add", "bridge", "type", "bridge", "stp_state", "0", "mcast_snooping", "0"]);
        for name in ["bridge", "in", "out"] {
            netns.ip(["link", "set", "dev", name, "addrgenmode", "none"]);
        }
        for name in ["in", "out"] {
            netns.ip(["link", "set", "dev", name, "master", "bridge"]);
            netns.configure(name, &Interface::new());
        }
        netns.configure("bridge", &Interface::new());
        let lab = Lab { input, output, marks: Cell::new(0), _netns: netns };
        testbed::wait_until("frames through the bridge", PATIENCE, || {
            lab.mark();
            lab.read(Duration::from_millis(100)).is_some()
        });
        // More than the first of those may have come through.
        lab.drain();
        lab
    }

    /// Writes the frame with its request, and reads what comes out on the other side because of it.
    #[track_caller]
    pub fn through(&self, frame: &Frame) -> Vec<Vec<u8>> {
        self.write(&frame.meta.offload.to_virtio(), frame.octets());
        self.drain()
    }

    /// Reads all that was written before.
    #[track_caller]
    fn drain(&self) -> Vec<Vec<u8>> {
        let mark = self.mark();
        let mut frames = Vec::new();
        loop {
            let octets = self.read(PATIENCE).expect("the mark comes through");
            if octets == mark {
                return frames;
            }
            frames.push(octets);
        }
    }

    /// Sends a frame that shows, when it comes out, that all before it came.
    #[track_caller]
    fn mark(&self) -> Vec<u8> {
        self.marks.set(self.marks.get() + 1);
        let number = self.marks.get().to_be_bytes();
        let octets = [&[2, 0, 0, 0, 0, 2], &SOURCE[..], &MARK, &number, &[0; 42]].concat();
        self.write(&[0; VIRTIO_HEADER], &octets);
        octets
    }

    #[track_caller]
    fn write(&self, header: &[u8; VIRTIO_HEADER], octets: &[u8]) {
        let written = rustix::io::write(&self.input, &[&header[..], octets].concat());
        assert_eq!(written, Ok(header.len() + octets.len()));
    }

    /// The next frame from our source address, if one comes in time. Nothing is left to be done to it.
    fn read(&self, patience: Duration) -> Option<Vec<u8>> {
        let deadline = Instant::now() + patience;
        let mut buffer = vec![0; VIRTIO_HEADER + (64 << 10)];
        loop {
            match rustix::io::read(&self.output, &mut buffer[..]) {
                Ok(len) => {
                    let (header, octets) = buffer[..len].split_at(VIRTIO_HEADER);
                    if octets[6..12] == SOURCE {
                        assert_eq!((header[0] & 1, header[1]), (0, 0), "the kernel finished it");
                        return Some(octets.to_vec());
                    }
                }
                Err(Errno::AGAIN) => {
                    let left = deadline.checked_duration_since(Instant::now())?;
                    let left = Timespec::try_from(left).expect("a short time");
                    match poll(&mut [PollFd::new(&self.output, PollFlags::IN)], Some(&left)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => panic!("poll: {}", io::Error::from(error)),
                    }
                }
                Err(error) => panic!("reading the TAP: {}", io::Error::from(error)),
            }
        }
    }
}
