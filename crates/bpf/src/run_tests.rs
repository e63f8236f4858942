use proptest::prelude::*;

use crate::code::*;
use crate::{Instruction, Program, ValidProgram};

const PACKET: [u8; 8] = [0x45, 0x81, 0xf2, 0x03, 0x04, 0x05, 0x06, 0x07];

type Line = (u16, u8, u8, u32);

fn program(lines: &[Line]) -> ValidProgram {
    let program: Program = lines.iter().map(|&(code, jt, jf, k)| Instruction::new(code, jt, jf, k)).collect();
    program.check().expect("a valid program")
}

/// A after these instructions on [`PACKET`].
fn a_after(lines: &[Line]) -> u32 {
    program(&[lines, &[(RET | A, 0, 0, 0)]].concat()).run(&PACKET)
}

/// X after these instructions on [`PACKET`].
fn x_after(lines: &[Line]) -> u32 {
    a_after(&[lines, &[(MISC | TXA, 0, 0, 0)]].concat())
}

#[test]
fn loads_of_a() {
    let cases = [
        ((LD | IMM, 0, 0, 0xdead_beef), 0xdead_beef),
        ((LD | LEN, 0, 0, 77), 8),
        ((LD | W | ABS, 0, 0, 0), 0x4581_f203),
        ((LD | W | ABS, 0, 0, 4), 0x0405_0607),
        ((LD | W | ABS, 0, 0, 5), 0),
        ((LD | H | ABS, 0, 0, 1), 0x81f2),
        ((LD | H | ABS, 0, 0, 6), 0x0607),
        ((LD | H | ABS, 0, 0, 7), 0),
        ((LD | B | ABS, 0, 0, 7), 7),
        ((LD | B | ABS, 0, 0, 8), 0),
        ((LD | B | ABS, 0, 0, 0x8000_0000), 0),
        ((LD | W | ABS, 0, 0, 0xffdf_ffff), 0),
    ];

    for (line, expected) in cases {
        assert_eq!(a_after(&[line]), expected, "{line:x?}");
    }
}

#[test]
fn indirect_loads() {
    let cases = [
        (2, (LD | W | IND, 0, 0, 2), 0x0405_0607),
        (2, (LD | H | IND, 0, 0, 0), 0xf203),
        (2, (LD | B | IND, 0, 0, 1), 3),
        (3, (LD | B | IND, 0, 0, u32::MAX), 0xf2),
        (0, (LD | B | IND, 0, 0, u32::MAX), 0),
        (u32::MAX, (LD | B | IND, 0, 0, 1), 0x45),
        (u32::MAX, (LD | W | IND, 0, 0, 0), 0),
        (0x8000_0000, (LD | B | IND, 0, 0, 0x8000_0001), 0x81),
    ];

    for (x, line, expected) in cases {
        assert_eq!(a_after(&[(LDX | IMM, 0, 0, x), line]), expected, "X = {x:#x}, {line:x?}");
    }
}

#[test]
fn loads_of_x() {
    let cases = [
        ((LDX | IMM, 0, 0, 0xdead_beef), 0xdead_beef),
        ((LDX | LEN, 0, 0, 0), 8),
        ((LDX | B | MSH, 0, 0, 0), 20),
        ((LDX | B | MSH, 0, 0, 7), 28),
        ((LDX | B | MSH, 0, 0, 8), 0),
    ];

    for (line, expected) in cases {
        assert_eq!(x_after(&[line]), expected, "{line:x?}");
    }
}

#[test]
fn a_load_outside_ends_the_program_at_once() {
    let accept = (RET | K, 0, 0, 9);

    assert_eq!(program(&[(LD | W | ABS, 0, 0, 4), accept]).run(&PACKET), 9);
    assert_eq!(program(&[(LD | W | ABS, 0, 0, 5), accept]).run(&PACKET), 0);
    assert_eq!(program(&[(LDX | B | MSH, 0, 0, 8), accept]).run(&PACKET), 0);
    assert_eq!(program(&[(LD | B | ABS, 0, 0, 0), accept]).run(&[]), 0);
}

#[test]
fn arithmetic_with_a_constant_and_with_x() {
    let cases = [
        (ADD, 0xffff_fff0, 0x20, 0x10),
        (SUB, 1, 2, u32::MAX),
        (MUL, 0x1_0001, 0x1_0003, 0x0004_0003),
        (DIV, 0xffff_fffe, 2, 0x7fff_ffff),
        (DIV, 5, u32::MAX, 0),
        (MOD, 0xffff_ffff, 0x1_0000, 0xffff),
        (AND, 0xff00_ff00, 0x0ff0_0ff0, 0x0f00_0f00),
        (OR, 0xff00_ff00, 0x0ff0_0ff0, 0xfff0_fff0),
        (XOR, 0xff00_ff00, 0x0ff0_0ff0, 0xf0f0_f0f0),
        (LSH, 0x8000_0001, 1, 2),
        (LSH, 1, 31, 0x8000_0000),
        (RSH, 0x8000_0001, 1, 0x4000_0000),
        (RSH, 0x8000_0000, 31, 1),
    ];

    for (operator, a, b, expected) in cases {
        let constant = [(LD | IMM, 0, 0, a), (ALU | operator | K, 0, 0, b)];
        let register = [(LD | IMM, 0, 0, a), (LDX | IMM, 0, 0, b), (ALU | operator | X, 0, 0, 0)];
        assert_eq!(a_after(&constant), expected, "{operator:#x}: {a:#x} with #{b:#x}");
        assert_eq!(a_after(&register), expected, "{operator:#x}: {a:#x} with X = {b:#x}");
    }
}

#[test]
fn shifts_by_x_take_its_lowest_five_bits() {
    for (operator, expected) in [(LSH, 0x10), (RSH, 0x4)] {
        let lines = [(LD | IMM, 0, 0, 8), (LDX | IMM, 0, 0, 0xffff_ff21), (ALU | operator | X, 0, 0, 0)];
        assert_eq!(a_after(&lines), expected);
    }
}

#[test]
fn division_by_an_x_of_zero_rejects() {
    for operator in [DIV, MOD] {
        let program = program(&[(ALU | operator | X, 0, 0, 0), (RET | K, 0, 0, 9)]);
        assert_eq!(program.run(&PACKET), 0);
    }
}

#[test]
fn negation_and_copies() {
    assert_eq!(a_after(&[(LD | IMM, 0, 0, 1), (ALU | NEG, 0, 0, 0)]), u32::MAX);
    assert_eq!(a_after(&[(LD | IMM, 0, 0, 0), (ALU | NEG, 0, 0, 0)]), 0);
    assert_eq!(x_after(&[(LD | IMM, 0, 0, 7), (MISC | TAX, 0, 0, 0), (LD | IMM, 0, 0, 1)]), 7);
    assert_eq!(a_after(&[]), 0);
    assert_eq!(x_after(&[]), 0);
}

#[test]
fn memory_keeps_both_registers() {
    let lines = [
        (LD | IMM, 0, 0, 3),
        (LDX | IMM, 0, 0, 4),
        (ST, 0, 0, 0),
        (STX, 0, 0, 15),
        (LD | MEM, 0, 0, 15),
        (LDX | MEM, 0, 0, 0),
        (ALU | LSH | X, 0, 0, 0),
    ];

    assert_eq!(a_after(&lines), 4 << 3);
}

#[test]
fn branches() {
    let cases = [
        (JEQ, 5, 5, true),
        (JEQ, 5, 6, false),
        (JGT, 0x8000_0000, 0x7fff_ffff, true),
        (JGT, 5, 5, false),
        (JGE, 5, 5, true),
        (JGE, 0x7fff_ffff, 0x8000_0000, false),
        (JSET, 0b110, 0b011, true),
        (JSET, 0b110, 0b001, false),
    ];

    for (test, a, b, holds) in cases {
        let answers = [(RET | K, 0, 0, 100), (RET | K, 0, 0, 200), (RET | K, 0, 0, 300)];
        let start = [(LD | IMM, 0, 0, a), (LDX | IMM, 0, 0, b)];
        let expected = if holds { 200 } else { 300 };
        for operand in [K, X] {
            let lines = [&start[..], &[(JMP | test | operand, 1, 2, b)], &answers].concat();
            assert_eq!(program(&lines).run(&PACKET), expected, "{test:#x}: {a:#x}, {b:#x}");
        }
    }
}

#[test]
fn jumps_skip() {
    let lines = [(JMP | JA, 0, 0, 1), (RET | K, 0, 0, 1), (RET | K, 0, 0, 2)];

    assert_eq!(program(&lines).run(&PACKET), 2);
}

proptest! {
    #[test]
    fn where_a_packet_is_split_makes_no_difference(
        packet in prop::collection::vec(any::<u8>(), 0..12),
        split in 0usize..12,
        offset in 0u32..14,
        width in prop::sample::select(vec![B, H, W]),
    ) {
        let (head, rest) = packet.split_at(split.min(packet.len()));
        let load = program(&[(LD | width | ABS, 0, 0, offset), (ALU | ADD | K, 0, 0, 1), (RET | A, 0, 0, 0)]);
        let length = program(&[(LD | LEN, 0, 0, 0), (RET | A, 0, 0, 0)]);

        prop_assert_eq!(load.run_split(head, rest), load.run(&packet));
        prop_assert_eq!(length.run_split(head, rest), length.run(&packet));
    }
}
