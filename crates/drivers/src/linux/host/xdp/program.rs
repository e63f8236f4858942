//! The program that hands frames to the sockets, in extended BPF (instructions as in [`programs`](super::super::programs)).
//!
//! It takes only what it knows to be complete in the octets that it sees, and where it gains: frames to a guest that
//! fit a chunk, lie in one buffer, have no tag held aside, and carry UDP, ICMP or no IP at all. Everything else goes
//! on its way to the host's stack and the packet socket, which knows of tags, of checksums that are still open and of
//! segments that were merged: TCP is faster merged than one segment at a time.

use std::os::fd::{AsFd, AsRawFd};

use super::super::programs::{EXIT, instruction, set_to, store};

/// The function of the kernel's that tells of a tag held aside.
pub const TAG_FUNCTION: &str = "bpf_xdp_metadata_rx_vlan_tag";

/// What the program is made for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Octets of the longest frame that a socket takes.
    pub longest: usize,
    /// The number of [`TAG_FUNCTION`], see [`function`](super::function).
    pub tag_function: u32,
    /// Whether the interface holds tags aside, so that a driver that does not tell of them cannot be trusted.
    pub strips_tags: bool,
}

/// Where `struct xdp_md` has what the program asks for (linux/bpf.h).
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const QUEUE: i16 = 16;

/// Octets that the program looks at: a tag, and an IP header up to its protocol.
const LOOKED_AT: i32 = 28;

const VLAN: i32 = 0x8100;
const SERVICE_VLAN: i32 = 0x88a8;
const IPV4: i32 = 0x0800;
const IPV6: i32 = 0x86dd;
const ICMP: i32 = 1;
const UDP: i32 = 17;
const ICMPV6: i32 = 58;

/// `-ENODATA`: no tag was held aside; `-EOPNOTSUPP`: the driver does not tell.
const NO_TAG: i32 = -61;
const UNTOLD: i32 = -95;

/// `XDP_PASS`: on to the host's stack.
const PASS: i32 = 2;

/// Numbers of helper functions.
const LOOK_UP: i32 = 1;
const REDIRECT: i32 = 51;
const LENGTH: i32 = 188;

/// The program for guests in `guests`, keyed by [`key`](super::super::programs::key), and for the sockets in `sockets`.
pub fn divert(guests: impl AsFd, sockets: impl AsFd, wanted: Wanted) -> Vec<u64> {
    let mut code = Code::default();
    // The context, where calls leave it alone.
    code.add(instruction(0xbf, 6, 1, 0, 0));
    no_tag_aside(&mut code, wanted);
    in_one_buffer(&mut code, wanted.longest as i32);
    code.add(half(4, 2, 12));
    code.add(as_number(4, 16));
    let tagged = code.jump(EQUAL, 4, VLAN);
    knows_payload(&mut code, 14);
    let known = code.jump(ALWAYS, 0, 0);
    code.land(tagged);
    code.add(half(4, 2, 16));
    code.add(as_number(4, 16));
    code.leave_if(EQUAL, 4, VLAN);
    knows_payload(&mut code, 18);
    code.land(known);
    is_for_guest(&mut code, guests.as_fd().as_raw_fd());

    code.extend(table(1, sockets.as_fd().as_raw_fd()));
    code.add(load(2, 6, QUEUE));
    // A queue without a socket passes its frames on.
    code.add(set_to(3, PASS));
    code.add(call(REDIRECT));
    code.add(EXIT);
    code.finish()
}

/// Leaves frames that have a tag held aside, or may have one.
fn no_tag_aside(code: &mut Code, wanted: Wanted) {
    code.add(instruction(0x7a, 10, 0, -8, 0));
    for (register, offset) in [(2, -8), (3, -4)] {
        code.add(instruction(0xbf, register, 10, 0, 0));
        code.add(instruction(0x07, register, 0, 0, offset));
    }
    code.add(instruction(0x85, 0, 2, 0, wanted.tag_function as i32));
    if wanted.strips_tags {
        return code.leave_if(NOT_EQUAL, 0, NO_TAG);
    }
    let told = code.jump(EQUAL, 0, NO_TAG);
    code.leave_if(NOT_EQUAL, 0, UNTOLD);
    code.land(told);
}

/// Leaves frames that are too long, too short or in several buffers; r2 leads to the octets then.
fn in_one_buffer(code: &mut Code, longest: i32) {
    code.add(instruction(0xbf, 1, 6, 0, 0));
    code.add(call(LENGTH));
    // As 64 bits and without a sign: the length bounds a pointer below.
    code.leave(instruction(0x25, 0, 0, 0, longest));
    code.add(load(2, 6, DATA));
    code.add(load(3, 6, DATA_END));
    for addend in [instruction(0x07, 4, 0, 0, LOOKED_AT), instruction(0x0f, 4, 0, 0, 0)] {
        code.add(instruction(0xbf, 4, 2, 0, 0));
        code.add(addend);
        code.leave(instruction(0x2d, 4, 3, 0, 0));
    }
}

/// Leaves frames whose EtherType, in r4, and protocol, for an IP header at `at`, are not among those that it takes.
fn knows_payload(code: &mut Code, at: i16) {
    code.leave_if(EQUAL, 4, SERVICE_VLAN);
    let not_ipv4 = code.jump(NOT_EQUAL, 4, IPV4);
    code.add(octet(5, 2, at + 9));
    let icmp = code.jump(EQUAL, 5, ICMP);
    code.leave_if(NOT_EQUAL, 5, UDP);
    let udp = code.jump(ALWAYS, 0, 0);
    code.land(not_ipv4);
    let not_ip = code.jump(NOT_EQUAL, 4, IPV6);
    code.add(octet(5, 2, at + 6));
    let icmpv6 = code.jump(EQUAL, 5, ICMPV6);
    code.leave_if(NOT_EQUAL, 5, UDP);
    for known in [icmp, udp, not_ip, icmpv6] {
        code.land(known);
    }
}

/// Leaves frames for others.
fn is_for_guest(code: &mut Code, guests: i32) {
    // By halves, which every processor loads from where they are.
    code.extend([half(1, 2, 0), as_number(1, 16), instruction(0x67, 1, 0, 0, 16)]);
    code.extend([half(3, 2, 2), as_number(3, 16), instruction(0x4f, 1, 3, 0, 0), store(10, -8, 1)]);
    code.extend([half(1, 2, 4), as_number(1, 16), store(10, -4, 1)]);
    code.extend(table(1, guests));
    code.extend([instruction(0xbf, 2, 10, 0, 0), instruction(0x07, 2, 0, 0, -8), call(LOOK_UP)]);
    // A pointer, so all 64 bits of it.
    code.leave(instruction(0x15, 0, 0, 0, 0));
}

/// Comparisons of 32 bits with a number, and none.
const EQUAL: u8 = 0x16;
const NOT_EQUAL: u8 = 0x56;
const ALWAYS: u8 = 0x05;

/// Instructions whose jumps find their targets as these come.
#[derive(Default)]
struct Code {
    instructions: Vec<u64>,
    /// Jumps to the end, where the frame is left.
    leaves: Vec<usize>,
}

impl Code {
    fn add(&mut self, one: u64) {
        self.instructions.push(one);
    }

    fn extend(&mut self, some: impl IntoIterator<Item = u64>) {
        self.instructions.extend(some);
    }

    /// Jumps to where the answer lands.
    fn jump(&mut self, comparison: u8, register: u8, number: i32) -> usize {
        self.add(instruction(comparison, register, 0, 0, number));
        self.instructions.len() - 1
    }

    fn leave_if(&mut self, comparison: u8, register: u8, number: i32) {
        let jump = self.jump(comparison, register, number);
        self.leaves.push(jump);
    }

    /// Leaves the frame by this jump.
    fn leave(&mut self, jump: u64) {
        self.leaves.push(self.instructions.len());
        self.add(jump);
    }

    /// Lets a jump lead here.
    fn land(&mut self, jump: usize) {
        let distance = (self.instructions.len() - jump - 1) as i16;
        self.instructions[jump] |= instruction(0, 0, 0, distance, 0);
    }

    fn finish(mut self) -> Vec<u64> {
        for jump in std::mem::take(&mut self.leaves) {
            self.land(jump);
        }
        self.extend([set_to(0, PASS), EXIT]);
        self.instructions
    }
}

/// A table by its descriptor, as two instructions of which the first says that the number is one.
fn table(register: u8, fd: i32) -> [u64; 2] {
    [instruction(0x18, register, 1, 0, fd), 0]
}

fn call(helper: i32) -> u64 {
    instruction(0x85, 0, 0, 0, helper)
}

/// A word of the context.
fn load(register: u8, from: u8, offset: i16) -> u64 {
    instruction(0x61, register, from, offset, 0)
}

fn half(register: u8, from: u8, offset: i16) -> u64 {
    instruction(0x69, register, from, offset, 0)
}

fn octet(register: u8, from: u8, offset: i16) -> u64 {
    instruction(0x71, register, from, offset, 0)
}

/// What was loaded as it stands on the wire, as a number of so many bits.
fn as_number(register: u8, bits: i32) -> u64 {
    instruction(0xdc, register, 0, 0, bits)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::xdp::function;
    use rustix::net::netdevice;
    use sys::ebpf::{Set, Sockets, attach_xdp, load_xdp};

    /// A TAP in a namespace of its own stands for an interface whose driver runs programs.
    #[test]
    fn the_kernel_takes_the_program() {
        let (Ok(guests), Ok(sockets), Ok(types), Ok(namespace)) = (
            Set::<2>::new("test", 1),
            Sockets::new("test", 4),
            std::fs::read("/sys/kernel/btf/vmlinux"),
            sys::netns::create(),
        ) else {
            // Without the right, or on an older kernel, there is nothing to be seen.
            return;
        };
        let tag_function = function(&types, TAG_FUNCTION).expect("the kernel tells of tags");
        let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        let loaded = sys::netns::within(path.as_ref(), || {
            let (tap, name) = sys::tap::open("xdp0", sys::tap::Options::default())?;
            let index = netdevice::name_to_index(sys::packet::promiscuous(1)?, &name)?;
            for strips_tags in [false, true] {
                let wanted = Wanted { longest: 1792, tag_function, strips_tags };
                let program = load_xdp("test", index, &divert(&guests, &sockets, wanted))?;
                drop(attach_xdp(&program, index)?);
            }
            Ok(tap)
        });
        loaded.unwrap();
    }
}
