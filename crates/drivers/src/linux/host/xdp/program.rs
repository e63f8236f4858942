//! The program that hands frames to the sockets, in extended BPF.
//!
//! It takes only what it knows to be complete in the octets that it sees, and where it gains: frames to a guest that
//! fit a chunk, lie in one buffer, have no tag held aside, and carry UDP, ICMP or no IP at all. Everything else goes
//! on its way to the host's stack and the packet socket, which knows of tags, of checksums that are still open and of
//! segments that were merged: TCP is faster merged than one segment at a time.

use std::os::fd::AsFd;

use vmlan_frame::wire::{EtherType, IpProtocol};

use crate::host::assembler::{Assembler, Label, R0, R1, R2, R3, R4, R5, R6, R7, STACK, When, Width};
use crate::host::programs::{IPV4, IPV6, KEY, look_up, store_key};

/// The function of the kernel's that tells of a tag held aside.
pub const TAG_FUNCTION: &str = "bpf_xdp_metadata_rx_vlan_tag";

/// The properties of an interface and its sockets that the program is made for.
#[derive(Clone, Copy, Debug)]
pub struct Wanted {
    /// Octets of the longest frame that a socket takes.
    pub longest: usize,
    /// The number of [`TAG_FUNCTION`], see [`function`](super::function).
    pub tag_function: u32,
    /// True if the interface holds tags aside: then a driver that does not tell of them cannot be trusted.
    pub strips_tags: bool,
}

/// Where `struct xdp_md` has what the program asks for (linux/bpf.h).
const DATA: i16 = 0;
const DATA_END: i16 = 4;
const QUEUE: i16 = 16;

/// Octets that the program looks at: a tag, and an IP header up to its protocol.
const LOOKED_AT: i32 = 28;

const VLAN: i32 = EtherType::CUSTOMER_TAG.0 as i32;
const SERVICE_VLAN: i32 = EtherType::SERVICE_TAG.0 as i32;
const ICMP: i32 = IpProtocol::ICMP.0 as i32;
const UDP: i32 = IpProtocol::UDP.0 as i32;
const ICMPV6: i32 = IpProtocol::ICMPV6.0 as i32;

/// `-ENODATA`: no tag was held aside; `-EOPNOTSUPP`: the driver does not tell.
const NO_TAG: i32 = -61;
const UNTOLD: i32 = -95;

/// `XDP_PASS`: on to the host's stack.
const PASS: i32 = 2;

/// Numbers of helper functions.
const REDIRECT: i32 = 51;
const LENGTH: i32 = 188;

/// The program for guests in `guests`, keyed by [`key`](super::super::programs::key), and for the sockets in `sockets`.
pub fn divert(guests: impl AsFd, sockets: impl AsFd, wanted: Wanted) -> Vec<u64> {
    let mut program = Assembler::default();
    let [leave, tagged, known] = std::array::from_fn(|_| program.label());
    program.copy(R6, R1);
    no_tag_aside(&mut program, wanted, leave);
    in_one_buffer(&mut program, wanted.longest as i32, leave);
    program.load(Width::Half, R4, R7, 12);
    program.decode(R4, Width::Half);
    program.branch(When::Equal, R4, VLAN, tagged);
    knows_payload(&mut program, 14, [known, leave]);
    program.place(tagged);
    program.load(Width::Half, R4, R7, 16);
    program.decode(R4, Width::Half);
    program.branch(When::Equal, R4, VLAN, leave);
    knows_payload(&mut program, 18, [known, leave]);
    program.place(known);
    store_key(&mut program, R7);
    look_up(&mut program, guests.as_fd(), KEY);
    program.branch_null(R0, leave);

    program.table(R1, sockets.as_fd());
    program.load(Width::Word, R2, R6, QUEUE);
    // A queue without a socket passes its frames on.
    program.set(R3, PASS);
    program.call(REDIRECT);
    program.exit();
    program.place(leave);
    program.set(R0, PASS);
    program.exit();
    program.finish()
}

/// Leaves frames that have a tag held aside, or may have one.
fn no_tag_aside(program: &mut Assembler, wanted: Wanted, leave: Label) {
    let places = [(R2, -8), (R3, -4)];
    program.copy(R1, R6);
    for (register, place) in places {
        program.store_number(STACK, place, 0);
        program.copy(register, STACK);
        program.add(register, place.into());
    }
    program.call_typed(wanted.tag_function);
    if wanted.strips_tags {
        return program.branch(When::NotEqual, R0, NO_TAG, leave);
    }
    let told = program.label();
    program.branch(When::Equal, R0, NO_TAG, told);
    program.branch(When::NotEqual, R0, UNTOLD, leave);
    program.place(told);
}

/// Leaves frames that are too long, too short or in several buffers; `R7` leads to the octets then.
fn in_one_buffer(program: &mut Assembler, longest: i32, leave: Label) {
    program.copy(R1, R6);
    program.call(LENGTH);
    // As 64 bits and without a sign: the length bounds a pointer below.
    program.branch_beyond(R0, longest, leave);
    program.load(Width::Word, R7, R6, DATA);
    program.load(Width::Word, R3, R6, DATA_END);
    program.copy(R4, R7);
    program.add(R4, LOOKED_AT);
    program.branch_above(R4, R3, leave);
    program.copy(R4, R7);
    program.add_register(R4, R0);
    program.branch_above(R4, R3, leave);
}

/// Goes on where the EtherType, in `R4`, and the protocol, for an IP header at `at`, are among those that are taken.
fn knows_payload(program: &mut Assembler, at: i16, [known, leave]: [Label; 2]) {
    let [ipv6, udp] = std::array::from_fn(|_| program.label());
    program.branch(When::Equal, R4, SERVICE_VLAN, leave);
    program.branch(When::Equal, R4, IPV6, ipv6);
    program.branch(When::NotEqual, R4, IPV4, known);
    program.load(Width::Octet, R5, R7, at + 9);
    program.branch(When::Equal, R5, ICMP, known);
    program.jump(udp);
    program.place(ipv6);
    program.load(Width::Octet, R5, R7, at + 6);
    program.branch(When::Equal, R5, ICMPV6, known);
    program.place(udp);
    program.branch(When::Equal, R5, UDP, known);
    program.jump(leave);
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;

    use super::*;
    use crate::host::xdp::function;
    use rustix::net::netdevice;
    use vmlan_sys::ebpf::{Set, Sockets, attach_xdp, load_xdp};

    /// A TAP in a namespace of its own stands for an interface whose driver runs programs.
    #[test]
    fn the_kernel_takes_the_program() {
        let (Ok(guests), Ok(sockets), Ok(types), Ok(namespace)) = (
            Set::<2>::new("test", 1),
            Sockets::new("test", 4),
            std::fs::read("/sys/kernel/btf/vmlinux"),
            vmlan_sys::netns::create(),
        ) else {
            // Without the right, or on an older kernel, there is nothing to be seen.
            return;
        };
        let tag_function = function(&types, TAG_FUNCTION).expect("the kernel tells of tags");
        let path = format!("/proc/self/fd/{}", namespace.as_raw_fd());
        let loaded = vmlan_sys::netns::within(path.as_ref(), || {
            let (tap, name) = vmlan_sys::tap::open("xdp0", vmlan_sys::tap::Options::default())?;
            let index = netdevice::name_to_index(vmlan_sys::packet::promiscuous(1)?, &name)?;
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
