//! The kernel's own classic BPF: a filter on one end of a pair of Unix datagram sockets.

use std::io::{ErrorKind, Read};

use socket2::{Domain, SockFilter, Socket, Type};
use vmlan_bpf::Instruction;

pub struct Kernel {
    sender: Socket,
    receiver: Socket,
}

impl Kernel {
    pub fn new() -> Kernel {
        let (sender, receiver) = Socket::pair(Domain::UNIX, Type::DGRAM, None).expect("a pair of sockets");
        receiver.set_nonblocking(true).expect("a receiver that does not wait");
        Kernel { sender, receiver }
    }

    /// Replaces the program; answers whether the kernel's checker takes it.
    pub fn attach(&self, instructions: &[Instruction]) -> bool {
        let filters: Vec<SockFilter> = instructions
            .iter()
            .map(|&Instruction { code, jt, jf, k }| SockFilter::new(code, jt, jf, k))
            .collect();
        match self.receiver.attach_filter(&filters) {
            Ok(()) => true,
            Err(error) if error.kind() == ErrorKind::InvalidInput => false,
            Err(error) => panic!("cannot attach a filter of {} instructions: {error}", filters.len()),
        }
    }

    /// How many octets the program keeps of a packet; `None` when it rejects it. A filter runs while the packet is
    /// sent, so nothing has to be waited for.
    pub fn run(&self, packet: &[u8]) -> Option<usize> {
        self.sender.send(packet).expect("a packet sent");
        let mut kept = [0; 4096];
        match (&self.receiver).read(&mut kept) {
            Ok(length) => {
                assert_eq!(kept[..length], packet[..length], "the kernel keeps a packet's beginning");
                Some(length)
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot receive: {error}"),
        }
    }
}

/// Returns how many octets the kernel keeps of a packet of `length` octets when the program answers `answer`; `None`
/// when it drops the packet.
pub fn kept(answer: u32, length: usize) -> Option<usize> {
    (answer != 0).then(|| length.min(answer as usize))
}
