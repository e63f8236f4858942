//! The programs, in extended BPF.
//!
//! Registers: `R6` is the frame's context, `R7` the record of the port that it came from. `R8` is the packet until the
//! destination is known, and then the record of that port. `R9` is the frame's VLAN. Nothing changes the frame before
//! all is decided, so what goes slow is what came.

use vmlan_frame::{ETHERNET_HEADER, VlanTag};

use super::tables::{
    ACCESS, ALLOWED, CARRIER, FLAGS, HEARD_UNIT, HELD, HOST, INDEX, ISOLATED, LONGEST, PEER, ROLE, SERVICES,
    SIDE, SLOT, TRUNK, Tables, VLAN,
};
use super::trunk::{HOST_SIDE, Side};
use crate::host::assembler::{
    Assembler, Label, R0, R1, R2, R3, R4, R6, R7, R8, R9, Register, STACK, When, Width,
};
use crate::host::programs::{
    DATA, DATA_END, ETHERTYPE, IPV4, IPV6, KEY, LEAVE, LOAD_BYTES, MARK, PACKET_MARK, RECEIVE, REDIRECT,
    load_key, look_up, take_mark_off,
};

/// Members of `struct __sk_buff` (linux/bpf.h).
const LENGTH_OF: i16 = 0;
const VLAN_PRESENT: i16 = 20;
const VLAN_TCI: i16 = 24;
const VLAN_PROTOCOL: i16 = 28;
const INTERFACE: i16 = 40;
const SEGMENT_SIZE: i16 = 176;

/// The return value of a program that drops a frame: `TCX_DROP`, `TC_ACT_SHOT`.
const DROP: i32 = 2;

/// The kernel's functions (`enum bpf_func_id`).
const VLAN_PUSH: i32 = 18;
const VLAN_POP: i32 = 19;
const CHANGE_TYPE: i32 = 32;
const REDIRECT_PEER: i32 = 155;
const COARSE_TIME: i32 = 160;

/// `PACKET_HOST` of linux/if_packet.h.
const THIS_HOST: i32 = 0;

/// The EtherType of a customer tag as the kernel has it in a number: the octets of the packet.
const CUSTOMER_TAG: i32 = VlanTag::TPID.to_be() as i32;

/// Where a frame has its source, and the members of its IP header (RFC 791, RFC 8200).
const SOURCE_ADDRESS: i16 = 6;
const VERSION: i16 = 14;
const IPV4_PROTOCOL: i16 = 14 + 9;
const IPV6_NEXT_HEADER: i16 = 14 + 6;
const IPV6_PAYLOAD: i16 = 14 + 4;
const IPV6_HOP_LIMIT: i16 = 14 + 7;
const IPV4_END: i32 = 14 + 20;
const IPV6_END: i32 = 14 + 40;
const TCP: i32 = 6;
const UDP: i32 = 17;
const ICMPV6: i32 = 58;
/// Extension headers of IPv6 (RFC 8200 section 4): hop-by-hop options, routing, fragment, authentication, destination
/// options, mobility, HIP, Shim6.
const EXTENSION_HEADERS: [i32; 8] = [0, 43, 44, 51, 60, 135, 139, 140];
/// UDP ports of DHCP (RFC 2131 section 4.1, RFC 8415 section 7.2): of servers, and of clients.
const SERVER_PORTS: [i32; 2] = [67, 547];
const CLIENT_PORTS: [i32; 2] = [68, 546];
/// Where a TCP header says how long it is (RFC 9293), and octets of a UDP header.
const TCP_DATA_OFFSET: i32 = 12;
const UDP_HEADER: i32 = 8;

/// Places of the stack, below [`KEY`]. Octets of the frame, or of its longest segment.
const LENGTH: i16 = -16;
/// Segments that the frame stands for; 0 for a frame that is none.
const SEGMENTS: i16 = -24;
/// Octets of the longest frame of the source port's for segments whose headers are not known for sure; else 0.
const AT_MOST: i16 = -32;
/// The entry of the source.
const SOURCE: i16 = -40;
/// Octets that are counted as received.
const RECEIVED: i16 = -48;
/// One octet of the packet, or the ports of a datagram.
const OCTET: i16 = -56;

/// Where a number of a record is.
const fn at(number: usize) -> i16 {
    8 * number as i16
}

/// Members of a station's entry.
const BEHIND: i16 = 0;
const HEARD: i16 = 4;

/// Where a slot's counts of received frames start, and those of sent frames.
const COUNTS_RECEIVED: i16 = 0;
const COUNTS_SENT: i16 = 32;

/// The program for what guests send: for the ingress hook of every interface port of the network.
///
/// It drops what comes from an interface without a port, and what it cannot tag for want of memory.
pub fn from_guest(tables: &Tables) -> Vec<u64> {
    let mut program = Assembler::default();
    let [slow, drop] = std::array::from_fn(|_| program.label());
    program.copy(R6, R1);
    program.load(Width::Word, R7, R6, INTERFACE);
    load_record(&mut program, R7, tables, drop);
    forward(&mut program, tables, true, [slow, drop]);
    program.place(slow);
    program.load(Width::Double, R1, R7, at(CARRIER));
    program.set(R2, 0);
    program.call(REDIRECT);
    program.exit();
    program.place(drop);
    program.set(R0, DROP);
    program.exit();
    program.finish()
}

/// Forwards a frame of the trunk's that is for a guest, when the tables say that it may go so, and ends the program
/// then; to `slow` otherwise, with `R6` as it was and the others changed. The frame is that of the context in `R6`, at
/// the hook of the interface `index` where frames of this side come by.
pub(in crate::host) fn from_side(
    program: &mut Assembler,
    tables: &Tables,
    (index, side): (u32, Side),
    slow: Label,
) {
    let drop = program.label();
    program.set(R7, side.index(index) as i32);
    load_record(program, R7, tables, slow);
    // Only where frames come in can they be given to the other end of a veth.
    forward(program, tables, side == Side::Wire, [slow, drop]);
    program.place(drop);
    program.set(R0, DROP);
    program.exit();
}

/// Forwards the frame that came from the port with the record in `R7`, and ends the program. To `slow` when a worker
/// has to see it, with the frame as it came; to `drop` when there is no memory to change its tag.
fn forward(program: &mut Assembler, tables: &Tables, comes_in: bool, [slow, drop]: [Label; 2]) {
    program.load(Width::Double, R1, R7, at(FLAGS));
    program.branch(When::AnyBit, R1, HELD, slow);
    measure(program, slow);
    classify(program, slow);

    look_up_station(program, tables, SOURCE_ADDRESS, slow);
    program.load(Width::Word, R1, R0, BEHIND);
    program.load(Width::Double, R2, R7, at(INDEX));
    program.branch_different(R1, R2, slow);
    program.store_whole(STACK, SOURCE, R0);

    look_up_station(program, tables, 0, slow);
    program.load(Width::Word, R8, R0, BEHIND);
    program.load(Width::Double, R2, R7, at(INDEX));
    program.branch_same(R8, R2, slow);
    load_record(program, R8, tables, slow);
    program.load(Width::Double, R1, R8, at(FLAGS));
    program.branch(When::AnyBit, R1, HELD, slow);
    program.load(Width::Double, R2, R7, at(FLAGS));
    program.mask_by(R1, R2);
    // From one side of the trunk to the other frames go by themselves.
    program.branch(When::AnyBit, R1, ISOLATED | SIDE, slow);
    program.load(Width::Double, R2, R8, at(LONGEST));
    for octets in [LENGTH, AT_MOST] {
        program.load(Width::Double, R1, STACK, octets);
        program.branch_above(R1, R2, slow);
    }

    load_octets(program, R1);
    program.store_whole(STACK, RECEIVED, R1);
    change_tag(program, [slow, drop]);
    stamp(program);
    program.load(Width::Double, R9, STACK, RECEIVED);
    count(program, tables, R7, COUNTS_RECEIVED);
    load_octets(program, R9);
    count(program, tables, R8, COUNTS_SENT);
    deliver(program, comes_in);
}

/// The program for what goes to a guest, for the egress hook of its interface: it takes the mark off what carries it,
/// and drops the rest, which is the host's own.
pub fn to_guest() -> Vec<u64> {
    let mut program = Assembler::default();
    let drop = program.label();
    program.load(Width::Word, R2, R1, PACKET_MARK);
    program.branch(When::NotEqual, R2, MARK as i32, drop);
    take_mark_off(&mut program, R1);
    program.set(R0, LEAVE);
    program.exit();
    program.place(drop);
    program.set(R0, DROP);
    program.exit();
    program.finish()
}

/// `index` = the record of the port whose interface, or side of one, has the index in it.
fn load_record(program: &mut Assembler, index: Register, tables: &Tables, missing: Label) {
    let [_, ports, records, _] = tables.descriptors();
    program.store(STACK, KEY, index);
    look_up(program, ports, KEY);
    program.branch_null(R0, missing);
    program.load(Width::Word, R1, R0, 0);
    program.store(STACK, KEY, R1);
    look_up(program, records, KEY);
    program.branch_null(R0, missing);
    // The entry of the hash may have become another port's meanwhile.
    program.load(Width::Double, R1, R0, at(INDEX));
    program.branch_different(R1, index, missing);
    program.copy(index, R0);
}

/// Looks at the headers: `R8` = the packet, and what is known of its length goes to the stack. To `slow` with all but
/// unicast IP, and with what neighbour discovery is.
fn measure(program: &mut Assembler, slow: Label) {
    let [ipv6, known, datagram, counted, plain] = std::array::from_fn(|_| program.label());
    program.load(Width::Word, R8, R6, DATA);
    program.load(Width::Word, R3, R6, DATA_END);
    require_octets(program, ETHERNET_HEADER as i32, slow);
    // No group is in the table of stations, but most of what is for one ends here.
    program.load(Width::Octet, R2, R8, 0);
    program.branch(When::AnyBit, R2, 1, slow);
    program.load(Width::Half, R2, R8, ETHERTYPE);
    program.decode(R2, Width::Half);
    program.branch(When::Equal, R2, IPV6, ipv6);
    program.branch(When::NotEqual, R2, IPV4, slow);

    require_octets(program, IPV4_END, slow);
    program.load(Width::Octet, R9, R8, VERSION);
    program.branch(When::Below, R9, 0x45, slow);
    program.branch(When::AtLeast, R9, 0x50, slow);
    program.mask(R9, 0xf);
    program.shift_up(R9, 2);
    program.add(R9, ETHERNET_HEADER as i32);
    program.load(Width::Octet, R4, R8, IPV4_PROTOCOL);
    program.jump(known);

    program.place(ipv6);
    require_octets(program, IPV6_END, slow);
    program.load(Width::Octet, R2, R8, VERSION);
    program.branch(When::Below, R2, 0x60, slow);
    program.branch(When::AtLeast, R2, 0x70, slow);
    program.load(Width::Octet, R2, R8, IPV6_HOP_LIMIT);
    program.branch(When::Equal, R2, 255, slow);
    // A packet that claims more octets than there are is nothing that the switch passes everywhere.
    program.load(Width::Half, R2, R8, IPV6_PAYLOAD);
    program.decode(R2, Width::Half);
    program.add(R2, IPV6_END);
    program.load(Width::Word, R1, R6, LENGTH_OF);
    program.branch_above(R2, R1, slow);
    program.load(Width::Octet, R4, R8, IPV6_NEXT_HEADER);
    program.branch(When::Equal, R4, ICMPV6, slow);
    program.set(R9, IPV6_END);

    // R9: the offset of the next header, R4: its kind.
    program.place(known);
    hold_services(program, slow);
    program.store_whole_number(STACK, SEGMENTS, 0);
    program.store_whole_number(STACK, AT_MOST, 0);
    program.load(Width::Word, R2, R6, LENGTH_OF);
    program.store_whole(STACK, LENGTH, R2);
    program.load(Width::Word, R1, R6, SEGMENT_SIZE);
    program.branch_null(R1, plain);
    program.branch(When::Equal, R4, UDP, datagram);
    program.branch(When::NotEqual, R4, TCP, slow);
    program.copy(R1, R6);
    program.copy(R2, R9);
    program.add(R2, TCP_DATA_OFFSET);
    program.copy(R3, STACK);
    program.add(R3, OCTET.into());
    program.set(R4, 1);
    program.call(LOAD_BYTES);
    program.branch_some(R0, slow);
    // In units of four octets, in the upper half.
    program.load(Width::Octet, R2, STACK, OCTET);
    program.mask(R2, 0xf0);
    program.shift_down(R2, 2);
    program.add_register(R9, R2);
    program.jump(counted);
    // What is in a tunnel by UDP has more headers than are looked at: for that, the port has to take what the source
    // port takes.
    program.place(datagram);
    program.add(R9, UDP_HEADER);
    program.load(Width::Double, R2, R7, at(LONGEST));
    program.store_whole(STACK, AT_MOST, R2);

    program.place(counted);
    program.load(Width::Word, R1, R6, SEGMENT_SIZE);
    program.load(Width::Word, R2, R6, LENGTH_OF);
    program.branch_above(R9, R2, slow);
    program.subtract_register(R2, R9);
    program.add_register(R9, R1);
    program.store_whole(STACK, LENGTH, R9);
    program.branch_null(R2, slow);
    program.add_register(R2, R1);
    program.add(R2, -1);
    program.divide_by(R2, R1);
    program.store_whole(STACK, SEGMENTS, R2);
    program.place(plain);
}

/// To `slow` with what may be a DHCP server's, of a port whose network has to see it. `R9` is the offset of the next
/// header, `R4` its kind; both stay.
fn hold_services(program: &mut Assembler, slow: Label) {
    let [datagram, done] = std::array::from_fn(|_| program.label());
    program.load(Width::Double, R1, R7, at(FLAGS));
    program.mask(R1, SERVICES);
    program.branch_null(R1, done);
    program.branch(When::Equal, R4, UDP, datagram);
    for kind in EXTENSION_HEADERS {
        program.branch(When::Equal, R4, kind, slow);
    }
    program.jump(done);
    // The first octets of a later fragment are no ports, and go slow when they look so.
    program.place(datagram);
    program.copy(R1, R6);
    program.copy(R2, R9);
    program.copy(R3, STACK);
    program.add(R3, OCTET.into());
    program.set(R4, 4);
    program.call(LOAD_BYTES);
    program.branch_some(R0, slow);
    for (place, ports) in [(OCTET, SERVER_PORTS), (OCTET + 2, CLIENT_PORTS)] {
        program.load(Width::Half, R1, STACK, place);
        program.decode(R1, Width::Half);
        for port in ports {
            program.branch(When::Equal, R1, port, slow);
        }
    }
    program.set(R4, UDP);
    program.place(done);
}

/// To `slow` when the packet's first octets, as many as said, are not together before `R3`.
fn require_octets(program: &mut Assembler, octets: i32, slow: Label) {
    program.copy(R2, R8);
    program.add(R2, octets);
    program.branch_above(R2, R3, slow);
}

/// `R9` = the VLAN of the frame by the role of its port; to `slow` when the port may not send in it, and for a priority
/// tag.
fn classify(program: &mut Assembler, slow: Label) {
    let [tagged, trunk, known] = std::array::from_fn(|_| program.label());
    program.load(Width::Word, R1, R6, VLAN_PRESENT);
    program.load(Width::Double, R2, R7, at(ROLE));
    program.load(Width::Double, R9, R7, at(VLAN));
    program.branch_some(R1, tagged);
    program.branch_null(R9, slow);
    program.jump(known);

    program.place(tagged);
    program.branch(When::Equal, R2, ACCESS, slow);
    program.load(Width::Word, R1, R6, VLAN_PROTOCOL);
    program.branch(When::NotEqual, R1, CUSTOMER_TAG, slow);
    program.load(Width::Word, R1, R6, VLAN_TCI);
    program.mask(R1, 0xfff);
    program.branch(When::Equal, R2, TRUNK, trunk);
    program.branch(When::Equal, R1, 0xfff, slow);
    program.jump(known);
    program.place(trunk);
    program.copy(R9, R1);
    require_allowed(program, R7, slow);
    program.place(known);
}

/// To `otherwise` when the VLAN in `R9` is not one that the record's port has with a tag.
fn require_allowed(program: &mut Assembler, record: Register, otherwise: Label) {
    program.copy(R2, R9);
    program.mask(R2, 0xfff);
    program.shift_down(R2, 6);
    program.shift_up(R2, 3);
    program.copy(R1, record);
    program.add_register(R1, R2);
    program.load(Width::Double, R1, R1, at(ALLOWED));
    program.copy(R2, R9);
    program.mask(R2, 0x3f);
    program.shift_down_by(R1, R2);
    program.mask(R1, 1);
    program.branch_null(R1, otherwise);
}

/// `R0` = the entry of the station whose address is at this offset of the packet, in the frame's VLAN or, failing that,
/// in every VLAN.
fn look_up_station(program: &mut Assembler, tables: &Tables, offset: i16, missing: Label) {
    let [stations, ..] = tables.descriptors();
    let found = program.label();
    load_key(program, R8, offset);
    program.copy(R2, R9);
    program.shift_and_join(R2, 16, R1);
    program.store(STACK, KEY + 4, R2);
    look_up(program, stations, KEY);
    program.branch_some(R0, found);
    program.load(Width::Word, R1, STACK, KEY + 4);
    program.mask(R1, 0xffff);
    program.store(STACK, KEY + 4, R1);
    look_up(program, stations, KEY);
    program.branch_null(R0, missing);
    program.place(found);
}

/// Gives the frame the tag that the destination's port sends it with; to `slow` when that port is not in the VLAN.
fn change_tag(program: &mut Assembler, [slow, drop]: [Label; 2]) {
    let [transparent, trunk, untagged, ready] = std::array::from_fn(|_| program.label());
    program.load(Width::Double, R1, R7, at(ROLE));
    program.load(Width::Double, R2, R8, at(ROLE));
    program.load(Width::Double, R3, R8, at(VLAN));
    program.branch_null(R1, transparent);
    program.branch_null(R2, slow);
    program.branch(When::Equal, R2, TRUNK, trunk);
    program.branch_different(R3, R9, slow);
    program.jump(untagged);

    program.place(transparent);
    program.branch_some(R2, slow);
    program.jump(ready);

    program.place(trunk);
    program.branch_same(R3, R9, untagged);
    require_allowed(program, R8, slow);
    // One that is there names the VLAN already, and keeps its priority.
    program.load(Width::Word, R1, R6, VLAN_PRESENT);
    program.branch_some(R1, ready);
    program.copy(R1, R6);
    program.set(R2, CUSTOMER_TAG);
    program.copy(R3, R9);
    program.call(VLAN_PUSH);
    program.branch_some(R0, drop);
    program.jump(ready);

    program.place(untagged);
    program.load(Width::Word, R1, R6, VLAN_PRESENT);
    program.branch_null(R1, ready);
    program.copy(R1, R6);
    program.call(VLAN_POP);
    program.branch_some(R0, drop);
    program.place(ready);
}

/// `register` = the octets of the frame, with its tag; changes `R2`.
fn load_octets(program: &mut Assembler, register: Register) {
    program.load(Width::Word, register, R6, LENGTH_OF);
    program.load(Width::Word, R2, R6, VLAN_PRESENT);
    program.shift_up(R2, 2);
    program.add_register(register, R2);
}

/// Writes down that the source was heard, once in a unit of time.
fn stamp(program: &mut Assembler) {
    let [late, done] = std::array::from_fn(|_| program.label());
    program.call(COARSE_TIME);
    program.shift_down(R0, HEARD_UNIT);
    program.load(Width::Double, R1, STACK, SOURCE);
    program.load(Width::Word, R2, R1, HEARD);
    program.branch_above(R0, R2, late);
    program.jump(done);
    program.place(late);
    program.store(R1, HEARD, R0);
    program.place(done);
}

/// Counts a frame of `R9` octets for the port. Nothing else runs on this processor that counts, so the additions need
/// not be atomic.
fn count(program: &mut Assembler, tables: &Tables, record: Register, side: i16) {
    let [.., counts] = tables.descriptors();
    let done = program.label();
    program.load(Width::Double, R1, record, at(SLOT));
    program.store(STACK, KEY, R1);
    look_up(program, counts, KEY);
    program.branch_null(R0, done);
    increase(program, side, None);
    increase(program, side + 8, Some(R9));
    program.load(Width::Double, R2, STACK, SEGMENTS);
    program.branch_null(R2, done);
    increase(program, side + 16, None);
    increase(program, side + 24, Some(R2));
    program.place(done);
}

/// Adds to the count at this offset of `R0`: one, or what is in a register. Changes `R1`.
fn increase(program: &mut Assembler, offset: i16, by: Option<Register>) {
    program.load(Width::Double, R1, R0, offset);
    match by {
        Some(register) => program.add_register(R1, register),
        None => program.add(R1, 1),
    }
    program.store_whole(R0, offset, R1);
}

/// Sends the frame by the destination's interface, or has that receive it for the host's side of a trunk, or hands it
/// to that one's other end, which has no program of ours to take a mark off. A packet that is not for the host end is
/// none for the other end either until it is said to be. `comes_in` says that frames come in at this hook: elsewhere
/// none can be handed to an other end, and all are sent.
fn deliver(program: &mut Assembler, comes_in: bool) {
    let [peer, host] = std::array::from_fn(|_| program.label());
    if comes_in {
        program.load(Width::Double, R1, R8, at(FLAGS));
        program.branch(When::AnyBit, R1, PEER, peer);
    }
    program.set(R2, MARK as i32);
    program.store(R6, PACKET_MARK, R2);
    program.load(Width::Double, R1, R8, at(FLAGS));
    program.branch(When::AnyBit, R1, HOST, host);
    program.load(Width::Double, R1, R8, at(INDEX));
    program.set(R2, 0);
    program.call(REDIRECT);
    program.exit();
    program.place(host);
    program.load(Width::Double, R1, R8, at(INDEX));
    program.mask(R1, !HOST_SIDE as i32);
    program.set(R2, RECEIVE);
    program.call(REDIRECT);
    program.exit();
    if !comes_in {
        return;
    }
    program.place(peer);
    take_mark_off(program, R6);
    program.copy(R1, R6);
    program.set(R2, THIS_HOST);
    program.call(CHANGE_TYPE);
    program.load(Width::Double, R1, R8, at(INDEX));
    program.set(R2, 0);
    program.call(REDIRECT_PEER);
    program.exit();
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_sys::ebpf::load_classifier;

    #[test]
    fn the_kernel_takes_both() {
        // Without the right, there is nothing to be seen.
        let Ok(tables) = Tables::new(16, 4) else { return };
        load_classifier("from_guest", &from_guest(&tables)).unwrap();
        load_classifier("to_guest", &to_guest()).unwrap();
    }
}
