//! The programs of filter mode, in extended BPF.
//!
//! The interface has one at each hook, which looks at what comes in from the wire or goes out from the host
//! ([`divert`]); the trunk's TAPs have one that hands what we write to the interface ([`inject`]). They do so
//! themselves ("direct action", tc-bpf(8)) and leave every other frame to whoever is next. A frame that carries
//! [`MARK`] is one that was written to a side and comes past again on its way: it is left alone, without its mark from
//! there on.
//!
//! Guests' addresses are in a hash table ([`vmlan_sys::ebpf::Set`], keyed by [`key`]), so what a frame of the host's
//! costs does not depend on how many guests there are. What a frame of the host's meets comes first and is short.
//!
//! Packet offsets are from the start of the Ethernet header, on both hooks; a tag that the kernel holds aside is not
//! among the octets.

use std::net::IpAddr;
use std::os::fd::BorrowedFd;

use vmlan_frame::wire::EtherType;
use vmlan_frame::{ETHERNET_HEADER, MacAddr};

use super::assembler::{Assembler, Label, R0, R1, R2, R3, R4, R6, R7, R8, Register, STACK, When, Width};
use super::fast::{FromSide, from_side};

/// The mark of frames that we put into a side ("vmlt" in ASCII), until the interface's program has seen it.
pub const MARK: u32 = 0x766d_6c74;

/// Where a packet has its EtherType and its destination, and the EtherTypes that are asked for (RFC 791, 826, 8200).
pub(super) const ETHERTYPE: i16 = 12;
const IPV4_DESTINATION: i32 = 14 + 16;
const IPV6_DESTINATION: i32 = 14 + 24;
const ARP_TARGET: i32 = 14 + 24;
pub(super) const IPV4: i32 = EtherType::IPV4.0 as i32;
pub(super) const IPV6: i32 = EtherType::IPV6.0 as i32;
const ARP: i32 = EtherType::ARP.0 as i32;

/// Members of `struct __sk_buff` (linux/bpf.h).
const PACKET_TYPE: i16 = 4;
pub(super) const PACKET_MARK: i16 = 8;
pub(super) const DATA: i16 = 76;
pub(super) const DATA_END: i16 = 80;

/// Packet types of linux/if_packet.h: a unicast frame for this host, and one for another station.
const THIS_HOST: i32 = 0;
const OTHER_HOST: i32 = 3;

/// The return value of a program that leaves a frame to the next one: `TCX_NEXT`, `TC_ACT_UNSPEC`.
pub(super) const LEAVE: i32 = -1;

/// The kernel's functions (`enum bpf_func_id`).
const MAP_LOOKUP: i32 = 1;
const MAP_UPDATE: i32 = 2;
const CLONE_REDIRECT: i32 = 13;
pub(super) const REDIRECT: i32 = 23;
pub(super) const LOAD_BYTES: i32 = 26;

/// `BPF_NOEXIST`: an entry is made, and none is changed.
const NEW_ENTRY: i32 = 1;

/// How many of the host's frames for an address that no guest is known to have are copied, until the table of those is
/// emptied: a guest that is there answers the first. The host's frames for stations on the wire are not told from
/// these.
const UNHEARD_COPIES: i32 = 16;

/// `BPF_F_INGRESS`: the other interface receives the frame instead of sending it.
pub(super) const RECEIVE: i32 = 1;

/// An address as the table has it: its first four octets and its last two, each as a number.
pub fn key(mac: MacAddr) -> [u32; 2] {
    let number = mac.to_u64();
    [(number >> 16) as u32, number as u32 & 0xffff]
}

/// An IP address as the table has it: its octets as they are in a packet, IPv4 as IPv6 has it within itself
/// (RFC 4291 2.5.5.2).
pub fn address_key(address: IpAddr) -> [u32; 4] {
    let address = match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    };
    let mut words = [0; 4];
    for (word, octets) in words.iter_mut().zip(address.octets().as_chunks().0) {
        *word = u32::from_ne_bytes(*octets);
    }
    words
}

/// The frames to divert from a hook of the interface. Frames for guests are diverted, and copies of frames for groups.
#[derive(Clone, Copy, Debug)]
pub struct Divert<'a> {
    /// The index of the TAP that it is diverted to.
    pub to: u32,
    /// The table of guests, by [`key`].
    pub guests: BorrowedFd<'a>,
    /// The hook is where frames come in from the wire.
    pub from_wire: bool,
    /// The table of the IP addresses of guests that share the host's MAC address, by [`address_key`]: what comes for
    /// one of them is diverted, and copied what an access point sent to the host alone although it is for a group.
    pub shared: Option<BorrowedFd<'a>>,
    /// Copies of unicast frames that came in and are not for the host.
    pub unknown: bool,
    /// Copies of the first frames that go out for an address which is not among the guests; the table counts them, by
    /// [`key`].
    pub unheard: Option<BorrowedFd<'a>>,
    /// Copies of everything.
    pub everything: bool,
}

/// The program that diverts so. What it would divert goes `fast` where that is said and the tables have it so.
pub fn divert(wanted: &Divert<'_>, fast: Option<FromSide<'_>>) -> Vec<u64> {
    let mut program = Assembler::default();
    let [leave, take, copy, host, ours] = std::array::from_fn(|_| program.label());
    let otherwise = if wanted.everything { copy } else { leave };
    program.copy(R6, R1);
    program.load(Width::Word, R2, R6, PACKET_MARK);
    program.branch(When::Equal, R2, MARK as i32, ours);
    // The header is never apart from the packet's first octets, but the kernel wants to see that asked.
    program.load(Width::Word, R7, R6, DATA);
    program.load(Width::Word, R3, R6, DATA_END);
    program.copy(R2, R7);
    program.add(R2, ETHERNET_HEADER as i32);
    program.branch_above(R2, R3, leave);
    program.load(Width::Octet, R2, R7, 0);
    program.branch(When::AnyBit, R2, 1, copy);
    if wanted.from_wire {
        program.load(Width::Word, R8, R6, PACKET_TYPE);
        program.branch(When::Equal, R8, THIS_HOST, host);
    }
    store_key(&mut program, R7);
    look_up(&mut program, wanted.guests, KEY);
    let unknown = program.label();
    program.branch_null(R0, unknown);
    program.jump(take);
    program.place(unknown);
    if wanted.from_wire && wanted.unknown {
        program.branch(When::Equal, R8, OTHER_HOST, copy);
    }
    match wanted.unheard.filter(|_| !wanted.everything) {
        Some(unheard) => copy_first(&mut program, unheard, [copy, otherwise]),
        None => program.jump(otherwise),
    }
    // The kernel refuses what is never reached.
    if wanted.from_wire {
        program.place(host);
        if let Some(addresses) = wanted.shared {
            divert_shared(&mut program, addresses, [take, copy, otherwise]);
        }
        program.jump(otherwise);
    }
    program.place(take);
    if let Some(FromSide { tables, index, side }) = fast {
        let slow = program.label();
        from_side(&mut program, tables, (index, side), slow);
        program.place(slow);
    }
    program.set(R1, wanted.to as i32);
    program.set(R2, 0);
    program.call(REDIRECT);
    program.exit();
    program.place(copy);
    program.copy(R1, R6);
    program.set(R2, wanted.to as i32);
    program.set(R3, 0);
    program.call(CLONE_REDIRECT);
    program.jump(leave);
    program.place(ours);
    take_mark_off(&mut program, R6);
    program.place(leave);
    program.set(R0, LEAVE);
    program.exit();
    program.finish()
}

/// Goes to `copy` with the first frames for the address whose key is on the stack, and to `otherwise` with the others,
/// and when the table is full. Processors that count at the same time may miss one.
fn copy_first(program: &mut Assembler, unheard: BorrowedFd<'_>, [copy, otherwise]: [Label; 2]) {
    let first = program.label();
    look_up(program, unheard, KEY);
    program.branch_null(R0, first);
    program.load(Width::Word, R1, R0, 0);
    program.branch(When::AtLeast, R1, UNHEARD_COPIES, otherwise);
    program.add(R1, 1);
    program.store(R0, 0, R1);
    program.jump(copy);
    program.place(first);
    program.store_number(STACK, KEY - 4, 1);
    program.table(R1, unheard);
    program.copy(R2, STACK);
    program.add(R2, KEY.into());
    program.copy(R3, STACK);
    program.add(R3, i32::from(KEY) - 4);
    program.set(R4, NEW_ENTRY);
    program.call(MAP_UPDATE);
    program.branch(When::NotEqual, R0, 0, otherwise);
    program.jump(copy);
}

/// The program for a hook from which nothing is diverted: it takes [`MARK`] off.
pub fn unmark() -> Vec<u64> {
    let mut program = Assembler::default();
    let leave = program.label();
    program.load(Width::Word, R2, R1, PACKET_MARK);
    program.branch(When::NotEqual, R2, MARK as i32, leave);
    take_mark_off(&mut program, R1);
    program.place(leave);
    program.set(R0, LEAVE);
    program.exit();
    program.finish()
}

/// Takes the mark off the frame at `context`. The host forwards a packet with the mark that it came with, and may
/// answer with it or keep it for a connection: such a frame is the host's, and one with the mark would not be looked
/// at.
pub(super) fn take_mark_off(program: &mut Assembler, context: Register) {
    program.set(R2, 0);
    program.store(context, PACKET_MARK, R2);
}

/// Looks at a frame for the host's MAC address: it is a guest's when its IP destination, or ARP target, is, and
/// everybody's when that is a group.
fn divert_shared(program: &mut Assembler, addresses: BorrowedFd<'_>, [take, copy, otherwise]: [Label; 3]) {
    let [ipv6, arp, look] = std::array::from_fn(|_| program.label());
    program.load(Width::Half, R8, R7, ETHERTYPE);
    program.decode(R8, Width::Half);
    program.branch(When::Equal, R8, IPV6, ipv6);
    program.store_number(STACK, -16, 0);
    program.store_number(STACK, -12, 0);
    program.store_number(STACK, -8, i32::from_ne_bytes([0, 0, 0xff, 0xff]));
    program.set(R2, ARP_TARGET);
    program.branch(When::Equal, R8, ARP, arp);
    program.branch(When::NotEqual, R8, IPV4, otherwise);
    program.set(R2, IPV4_DESTINATION);
    program.place(arp);
    load_packet(program, (-4, 4), otherwise);
    program.jump(look);
    program.place(ipv6);
    program.set(R2, IPV6_DESTINATION);
    load_packet(program, (-16, 16), otherwise);
    program.place(look);
    look_up(program, addresses, -16);
    let nobodys = program.label();
    program.branch_null(R0, nobodys);
    program.jump(take);
    program.place(nobodys);
    let wrapped = program.label();
    program.load(Width::Octet, R2, STACK, -16);
    program.branch(When::Equal, R8, IPV6, wrapped);
    program.branch(When::Equal, R8, ARP, otherwise);
    // 224.0.0.0/4, and what is above: 255.255.255.255.
    program.load(Width::Octet, R2, STACK, -4);
    program.branch(When::AtLeast, R2, 224, copy);
    program.jump(otherwise);
    program.place(wrapped);
    program.branch(When::Equal, R2, 0xff, copy);
}

/// So many octets of the packet, from the offset in `R2`, to this place of the stack; to `short` where there are none.
fn load_packet(program: &mut Assembler, (place, octets): (i32, i32), short: Label) {
    program.copy(R1, R6);
    program.copy(R3, STACK);
    program.add(R3, place);
    program.set(R4, octets);
    program.call(LOAD_BYTES);
    program.branch(When::NotEqual, R0, 0, short);
}

/// Where on the stack a station's key is.
pub(super) const KEY: i16 = -8;

/// The [`key`] of the destination, of the frame that `packet` leads to, to its place of the stack; changes the first
/// three registers.
pub(super) fn store_key(program: &mut Assembler, packet: Register) {
    load_key(program, packet, 0);
    program.store(STACK, KEY + 4, R1);
}

/// The first word of the [`key`] of the address at this offset of a frame to its place of the stack, and the second to
/// `R1`. By halves, which every processor loads from where they are; changes `R3` too.
pub(super) fn load_key(program: &mut Assembler, packet: Register, offset: i16) {
    program.load(Width::Half, R1, packet, offset);
    program.decode(R1, Width::Half);
    program.load(Width::Half, R3, packet, offset + 2);
    program.decode(R3, Width::Half);
    program.shift_and_join(R1, 16, R3);
    program.store(STACK, KEY, R1);
    program.load(Width::Half, R1, packet, offset + 4);
    program.decode(R1, Width::Half);
}

/// `R0` = what the table has for the key at this place of the stack.
pub(super) fn look_up(program: &mut Assembler, table: BorrowedFd<'_>, place: i16) {
    program.table(R1, table);
    program.copy(R2, STACK);
    program.add(R2, place.into());
    program.call(MAP_LOOKUP);
}

/// The side of an interface that frames are put into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The host's own stack, as if the interface had received them.
    Host,
    /// The wire.
    Wire,
}

/// The program that puts each frame into a side of the interface `index`, marked.
pub fn inject(index: u32, side: Side) -> Vec<u64> {
    let mut program = Assembler::default();
    program.set(R2, MARK as i32);
    program.store(R1, PACKET_MARK, R2);
    program.set(R1, index as i32);
    program.set(R2, if side == Side::Host { RECEIVE } else { 0 });
    program.call(REDIRECT);
    program.exit();
    program.finish()
}

/// The program that leaves every frame to the next one: what the others are measured against.
pub fn idle() -> Vec<u64> {
    let mut program = Assembler::default();
    program.set(R0, LEAVE);
    program.exit();
    program.finish()
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use super::*;
    use crate::host::fast::Tables;
    use vmlan_sys::ebpf::{Set, load_classifier};

    #[test]
    fn the_kernel_takes_every_program() {
        let set = match Set::<2>::new("test", 1) {
            // Without the right, there is nothing to be seen.
            Err(error) => return assert_eq!(error.raw_os_error(), Some(1)),
            Ok(set) => set,
        };
        let addresses = Set::<4>::new("test", 1).unwrap();
        let tables = Tables::new(16, 4).unwrap();
        let guests = set.as_fd();
        let flags = [false, true];
        for (from_wire, unknown, everything) in
            flags.iter().flat_map(|a| flags.iter().flat_map(move |b| flags.map(|c| (*a, *b, c))))
        {
            for (shared, unheard) in [(None, None), (Some(addresses.as_fd()), None), (None, Some(guests))] {
                let wanted = Divert { to: 1, guests, from_wire, shared, unknown, unheard, everything };
                let side = if from_wire { Side::Wire } else { Side::Host };
                for fast in [None, Some(FromSide { tables: &tables, index: 1, side })] {
                    load_classifier("test", &divert(&wanted, fast))
                        .unwrap_or_else(|error| panic!("{wanted:?} {}: {error}", fast.is_some()));
                }
            }
        }
        load_classifier("test", &idle()).unwrap();
        load_classifier("test", &unmark()).unwrap();
        for side in [Side::Host, Side::Wire] {
            load_classifier("test", &inject(1, side)).unwrap();
        }
    }

    #[test]
    fn an_address_is_two_numbers() {
        assert_eq!(key("52:54:00:12:34:56".parse().unwrap()), [0x5254_0012, 0x3456]);
    }

    #[test]
    fn an_ip_address_is_its_octets() {
        let octets = |address: &str| address_key(address.parse().unwrap()).map(u32::to_ne_bytes).concat();
        assert_eq!(octets("10.9.0.3"), [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 10, 9, 0, 3]);
        assert_eq!(octets("fd00::3")[..2], [0xfd, 0]);
    }
}
