#![cfg(target_os = "linux")]
//! The checker and the interpreter against those of the kernel, on random programs and packets.

mod support;

use std::cell::Cell;

use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::TestRunner;
use support::{Kernel, kept};
use vmlan_bpf::code::*;
use vmlan_bpf::{Instruction, LINK_HEADER, Program};
use vmlan_frame::MacAddr;

const PROGRAMS: u32 = 5000;

/// A random instruction. What it names, from targets to constants, is made right for its place in [`program`], most of
/// the time.
#[derive(Clone, Debug)]
struct Draft {
    code: u16,
    k: u32,
    targets: [usize; 2],
    careless: bool,
}

/// All codes, those of loads with an offset less often, since they mostly end a program.
fn codes() -> Vec<u16> {
    let loads =
        [LD | W | ABS, LD | H | ABS, LD | B | ABS, LD | W | IND, LD | H | IND, LD | B | IND, LDX | B | MSH];
    let set = [LD | IMM, LD | LEN, LDX | IMM, LDX | LEN, MISC | TAX, MISC | TXA, ALU | NEG];
    let memory = [ST, ST, ST, STX, STX, STX, LD | MEM, LDX | MEM];
    let arithmetic = [ADD, SUB, MUL, DIV, OR, AND, LSH, RSH, MOD, XOR].map(|operator| ALU | operator);
    let branches = [JEQ, JGT, JGE, JSET].map(|test| JMP | test);
    let mut codes = [&loads[..], &set, &set, &memory, &[JMP | JA, RET | K, RET | A]].concat();
    codes.extend([&arithmetic[..], &branches].concat().into_iter().flat_map(|code| [code | K, code | X]));
    codes
}

fn draft() -> impl Strategy<Value = Draft> {
    (select(codes()), 0..8u8, any::<u32>(), any::<u32>()).prop_map(|(code, kind, value, chance)| {
        let k = match kind {
            0..4 => value % 40,
            4 => value % 1500,
            5 => value,
            6 => 1 << (value % 32),
            _ => (value % 64).wrapping_sub(32) ^ value & 1 << 31,
        };
        let careless = chance % 64 == 0;
        let code = if careless && chance & 64 != 0 { value as u16 & 0xff } else { code };
        Draft { code, k, targets: [chance >> 8, chance >> 20].map(|random| random as usize), careless }
    })
}

/// A program that ends in a digest of A, 0 to 1023 octets, so that packets which are longer show what A was.
fn program() -> impl Strategy<Value = Vec<Instruction>> {
    let digest = [(ALU | MUL | K, 0x9e37_79b1), (ALU | RSH | K, 22), (RET | A, 0)]
        .map(|(code, k)| Instruction::new(code, 0, 0, k));
    prop::collection::vec(draft(), 0..40).prop_map(move |drafts| {
        let length = drafts.len() + digest.len();
        let place = |(index, draft): (usize, Draft)| {
            let after = (length - index - 1).min(if draft.careless { 256 } else { 6 });
            let [jt, jf] = draft.targets.map(|target| (target % after) as u8);
            let k = match draft.code {
                _ if draft.careless => draft.k,
                // A constant offset beyond this means something else to the kernel.
                code if code & !(W | H | B) == LD | ABS || code == LDX | B | MSH => {
                    draft.k.min(LINK_HEADER - 1)
                }
                code if code == ST || code == STX || code & !1 == LD | MEM => draft.k % 3,
                code if code == ALU | DIV | K || code == ALU | MOD | K => draft.k.max(1),
                code if code == ALU | LSH | K || code == ALU | RSH | K => draft.k % 32,
                code if code == JMP | JA => jt.into(),
                _ => draft.k,
            };
            Instruction::new(draft.code, jt, jf, k)
        };
        drafts.into_iter().enumerate().map(place).chain(digest).collect()
    })
}

/// Short packets, which loads leave, and long ones, which show all of a digest; some have small octets only.
fn packet() -> impl Strategy<Value = Vec<u8>> {
    let length = prop_oneof![0..48usize, 1024..1100usize];
    (length, any::<u64>(), select(vec![0xff, 3])).prop_map(|(length, seed, mask)| {
        let octet = |at: u64| (seed.wrapping_add(at).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 40) as u8 & mask;
        (0..length as u64).map(octet).collect()
    })
}

/// True if an instruction loads from an offset to which only the kernel gives a meaning.
fn is_ancillary(instruction: &Instruction) -> bool {
    let code = instruction.code;
    (code & !(H | B) == LD | ABS || code == LDX | B | MSH) && instruction.k >= LINK_HEADER
}

/// How often the cases came out which way.
#[derive(Debug, Default)]
struct Tally {
    valid: Cell<u32>,
    refused: Cell<u32>,
    rejecting: Cell<u32>,
    cutting: Cell<u32>,
}

fn count(cell: &Cell<u32>) {
    cell.set(cell.get() + 1);
}

#[test]
fn programs_do_what_they_do_in_the_kernel() {
    let kernel = Kernel::new();
    let tally = Tally::default();
    let config = ProptestConfig { cases: PROGRAMS, failure_persistence: None, ..ProptestConfig::default() };
    let inputs = (program(), prop::collection::vec(packet(), 4));

    let result = TestRunner::new(config).run(&inputs, |(instructions, packets)| {
        let checked = Program::from(instructions.clone()).check();
        if instructions.iter().any(is_ancillary) {
            prop_assert!(checked.is_err());
            return Ok(());
        }
        prop_assert_eq!(kernel.attach(&instructions), checked.is_ok(), "the checker says {:?}", checked);
        let Ok(program) = checked else {
            count(&tally.refused);
            return Ok(());
        };
        count(&tally.valid);
        for packet in packets {
            let answer = program.run(&packet);
            prop_assert_eq!(
                kept(answer, packet.len()),
                kernel.run(&packet),
                "the answer is {} to {:x?}",
                answer,
                packet
            );
            count(if answer == 0 { &tally.rejecting } else { &tally.cutting });
        }
        Ok(())
    });

    result.unwrap_or_else(|failure| panic!("{failure}"));
    // Otherwise the programs show nothing.
    let enough = PROGRAMS / 10;
    for cell in [&tally.valid, &tally.refused, &tally.rejecting, &tally.cutting] {
        assert!(cell.get() >= enough, "{tally:?}");
    }
}

#[test]
fn every_code_is_known_to_both() {
    let kernel = Kernel::new();

    for code in 0..=u16::MAX {
        let instructions =
            [Instruction::new(ST, 0, 0, 1), Instruction::new(code, 0, 0, 1), Instruction::new(RET, 0, 0, 1)];
        // A jump needs something to skip.
        let instructions = [&instructions[..], &instructions[2..]].concat();
        let ours = Program::from(instructions.clone()).check().is_ok();
        assert_eq!(kernel.attach(&instructions), ours, "{code:#x}");
    }
}

#[test]
fn the_mac_set_program_filters_in_the_kernel() {
    let kernel = Kernel::new();
    let members =
        [[0x52, 0x54, 0, 0x12, 0x34, 0x56], [2, 0, 0, 0, 0, 1], [2, 0, 0, 0xff, 0xff, 0xff]].map(MacAddr);
    let program = vmlan_bpf::destinations(members).expect("a program for three addresses");
    let mut frame = [0; 60];

    assert!(kernel.attach(program.instructions()));
    for (first, last, expected) in [(0x52, 0x56, Some(60)), (0x52, 0x57, None), (0x53, 0x57, Some(60))] {
        frame[..6].copy_from_slice(&[first, 0x54, 0, 0x12, 0x34, last]);
        assert_eq!(kernel.run(&frame), expected, "{frame:x?}");
        assert_eq!(kept(program.run(&frame), frame.len()), expected, "{frame:x?}");
    }
}
