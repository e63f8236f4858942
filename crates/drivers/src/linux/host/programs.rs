//! The classifiers of filter mode, in extended BPF.
//!
//! Each answers "this frame" or "not this one" to traffic control, which then carries out the filter's actions
//! (tc-bpf(8)). A frame that carries [`MARK`] is one that was written to a side and comes past again on its way: none
//! of the classifiers takes it. Guests' addresses are in a hash table ([`sys::ebpf::Set`], keyed by [`key`]), so what a
//! frame of the host's costs does not depend on how many guests there are.
//!
//! Packet offsets are from the start of the Ethernet header, on both hooks; a tag that the kernel holds aside is not
//! among the octets (RFC 9669 5.5 for the loads).

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd};

use frame::MacAddr;

/// The mark of frames that we put into a side ("vmlt" in ASCII): as `fwmark` the host's rules can see it.
pub const MARK: u32 = 0x766d_6c74;

/// Where a packet has its EtherType and its addresses, and the EtherTypes that are asked for (RFC 791, 826, 8200).
const ETHERTYPE: i32 = 12;
const IPV4_DESTINATION: i32 = 14 + 16;
const IPV6_DESTINATION: i32 = 14 + 24;
const ARP_TARGET: i32 = 14 + 24;
const IPV4: i32 = 0x0800;
const IPV6: i32 = 0x86dd;
const ARP: i32 = 0x0806;

/// Where `struct __sk_buff` has its mark and its packet type (linux/bpf.h).
const MARK_AT: i16 = 8;
const PACKET_TYPE_AT: i16 = 4;
/// `PACKET_OTHERHOST`: a unicast frame for another station.
const OTHER_HOST: i32 = 3;

/// What a classifier answers: -1 takes the frame with the class that the filter names, 0 does not.
const TAKE: i32 = -1;
const LEAVE: i32 = 0;

/// An address as the table has it: its first four octets and its last two, each as a number.
pub fn key(mac: MacAddr) -> [u32; 2] {
    let number = mac.to_u64();
    [(number >> 16) as u32, number as u32 & 0xffff]
}

/// An IP address as the table has it: IPv4 as IPv6 has it within itself (RFC 4291 2.5.5.2).
pub fn address_key(address: IpAddr) -> [u32; 4] {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let number = u128::from(address);
    [96, 64, 32, 0].map(|shift| (number >> shift) as u32)
}

/// Takes frames to one of the guests in `set`.
pub fn guests(set: impl AsFd) -> Vec<u64> {
    let fd = set.as_fd().as_raw_fd();
    let mut program = unmarked(12);
    program.extend([load_packet(WORD, 0), store(10, -8, 0), load_packet(HALF, 4), store(10, -4, 0)]);
    program.extend(take_if_among(fd, -8));
    program
}

/// Takes the frame when the key at this place of the stack is in the table of the descriptor `fd`. What skips all but the
/// last two instructions leaves the frame.
fn take_if_among(fd: i32, key: i32) -> [u64; 10] {
    [
        // The table, as two instructions of which the first says that the number is a descriptor.
        instruction(0x18, 1, 1, 0, fd),
        0,
        instruction(0xbf, 2, 10, 0, 0),
        instruction(0x07, 2, 0, 0, key),
        // bpf_map_lookup_elem
        instruction(0x85, 0, 0, 0, 1),
        skip_if_equal(0, 0, 2),
        set_to(0, TAKE),
        EXIT,
        // The branches of `unmarked` and of the lookup end here.
        set_to(0, LEAVE),
        EXIT,
    ]
}

/// Takes frames to the host's MAC address whose IP destination, or ARP target, is one of the guests in `set`: on a wire
/// where they share that address.
pub fn addressees(set: impl AsFd) -> Vec<u64> {
    let fd = set.as_fd().as_raw_fd();
    let mut program = unmarked(32);
    program.extend([
        instruction(0x61, 2, 6, PACKET_TYPE_AT, 0),
        // To this host, or none of ours.
        instruction(0x56, 2, 0, 30, 0),
        load_packet(HALF, ETHERTYPE),
        skip_if_equal(0, IPV6, 12),
        set_to(2, 0),
        store(10, -16, 2),
        store(10, -12, 2),
        set_to(2, 0xffff),
        store(10, -8, 2),
        skip_if_equal(0, IPV4, 3),
        instruction(0x56, 0, 0, 21, ARP),
        load_packet(WORD, ARP_TARGET),
        skip(1),
        load_packet(WORD, IPV4_DESTINATION),
        store(10, -4, 0),
        skip(8),
        load_packet(WORD, IPV6_DESTINATION),
        store(10, -16, 0),
        load_packet(WORD, IPV6_DESTINATION + 4),
        store(10, -12, 0),
        load_packet(WORD, IPV6_DESTINATION + 8),
        store(10, -8, 0),
        load_packet(WORD, IPV6_DESTINATION + 12),
        store(10, -4, 0),
    ]);
    program.extend(take_if_among(fd, -16));
    program
}

/// Takes frames to the host's MAC address whose IP destination is a group: some access points send groups so.
pub fn wrapped() -> Vec<u64> {
    let mut program = unmarked(13);
    program.extend([
        instruction(0x61, 2, 6, PACKET_TYPE_AT, 0),
        instruction(0x56, 2, 0, 11, 0),
        load_packet(HALF, ETHERTYPE),
        skip_if_equal(0, IPV6, 5),
        instruction(0x56, 0, 0, 8, IPV4),
        load_packet(BYTE, IPV4_DESTINATION),
        // 224.0.0.0/4, and what is above: 255.255.255.255.
        instruction(0xa6, 0, 0, 6, 224),
        set_to(0, TAKE),
        EXIT,
        load_packet(BYTE, IPV6_DESTINATION),
        instruction(0x56, 0, 0, 2, 0xff),
        set_to(0, TAKE),
        EXIT,
        set_to(0, LEAVE),
        EXIT,
    ]);
    program
}

/// Takes frames to a group.
pub fn groups() -> Vec<u64> {
    let mut program = unmarked(4);
    program.extend([
        load_packet(BYTE, 0),
        // r0 &= 1, the group bit
        instruction(0x57, 0, 0, 0, 1),
        // r0 = -r0
        instruction(0x84, 0, 0, 0, 0),
        EXIT,
        set_to(0, LEAVE),
        EXIT,
    ]);
    program
}

/// Takes frames that are for neither this host nor a group.
pub fn others() -> Vec<u64> {
    let mut program = unmarked(4);
    program.extend([
        instruction(0x61, 2, 6, PACKET_TYPE_AT, 0),
        instruction(0x56, 2, 0, 2, OTHER_HOST),
        set_to(0, TAKE),
        EXIT,
        set_to(0, LEAVE),
        EXIT,
    ]);
    program
}

/// Takes every frame.
pub fn everything() -> Vec<u64> {
    let mut program = unmarked(2);
    program.extend([set_to(0, TAKE), EXIT, set_to(0, LEAVE), EXIT]);
    program
}

/// Takes every frame, and marks it.
pub fn mark() -> Vec<u64> {
    vec![set_to(2, MARK as i32), store_at(1, MARK_AT, 2), set_to(0, TAKE), EXIT]
}

/// Skips the `skip` instructions that follow when the frame is marked. The context is in r6 then, where packet loads want it.
fn unmarked(skip: i16) -> Vec<u64> {
    vec![
        instruction(0xbf, 6, 1, 0, 0),
        instruction(0x61, 2, 6, MARK_AT, 0),
        // A comparison of 32 bits, so that the mark is not extended by its sign.
        instruction(0x16, 2, 0, skip, MARK as i32),
    ]
}

const EXIT: u64 = 0x95;
const WORD: u8 = 0x00;
const HALF: u8 = 0x08;
const BYTE: u8 = 0x10;

/// r0 = the octets of the packet at `offset`, as a number.
fn load_packet(size: u8, offset: i32) -> u64 {
    instruction(0x20 | size, 0, 0, 0, offset)
}

/// 32 bits of register `from` to the memory at register `base`.
fn store(base: u8, offset: i16, from: u8) -> u64 {
    store_at(base, offset, from)
}

fn store_at(base: u8, offset: i16, from: u8) -> u64 {
    instruction(0x63, base, from, offset, 0)
}

/// A register as 32 bits.
fn set_to(register: u8, number: i32) -> u64 {
    instruction(0xb4, register, 0, 0, number)
}

fn skip(instructions: i16) -> u64 {
    instruction(0x05, 0, 0, instructions, 0)
}

fn skip_if_equal(register: u8, number: i32, skip: i16) -> u64 {
    instruction(0x15, register, 0, skip, number)
}

/// One instruction as it lies in memory: code, registers, offset, number.
fn instruction(code: u8, to: u8, from: u8, offset: i16, number: i32) -> u64 {
    let registers = if cfg!(target_endian = "little") { from << 4 | to } else { to << 4 | from };
    let [o0, o1] = offset.to_ne_bytes();
    let [n0, n1, n2, n3] = number.to_ne_bytes();
    u64::from_ne_bytes([code, registers, o0, o1, n0, n1, n2, n3])
}

#[cfg(test)]
mod tests {
    use super::*;
    use sys::ebpf::{Set, load_classifier};

    #[test]
    fn the_kernel_takes_every_classifier() {
        let set = match Set::<2>::new("test", 1) {
            // Without the right, there is nothing to be seen.
            Err(error) => return assert_eq!(error.raw_os_error(), Some(1)),
            Ok(set) => set,
        };
        let addresses = Set::<4>::new("test", 1).unwrap();
        let programs =
            [guests(&set), addressees(&addresses), wrapped(), groups(), others(), everything(), mark()];
        for program in programs {
            load_classifier("test", &program).unwrap();
        }
    }

    #[test]
    fn an_address_is_two_numbers() {
        assert_eq!(key("52:54:00:12:34:56".parse().unwrap()), [0x5254_0012, 0x3456]);
    }
}
