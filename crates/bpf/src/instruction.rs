/// One instruction as kernels take it (`struct sock_filter`, `struct bpf_insn`): 8 octets in the order of the host.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub struct Instruction {
    /// The operation; see [`code`].
    pub code: u16,
    /// How many instructions to skip when a test holds.
    pub jt: u8,
    /// How many instructions to skip when a test does not hold.
    pub jf: u8,
    /// The constant: operand, offset in the packet, memory slot, or how many instructions to skip.
    pub k: u32,
}

impl Instruction {
    /// An instruction of these fields.
    pub const fn new(code: u16, jt: u8, jf: u8, k: u32) -> Instruction {
        Instruction { code, jt, jf, k }
    }
}

/// The parts of [`Instruction::code`], to be joined with `|` (bpf(4), linux/bpf_common.h).
#[allow(missing_docs, reason = "the names are the interface's; groups have a comment")]
pub mod code {
    // Class, bits 0-2.
    pub const LD: u16 = 0x00;
    pub const LDX: u16 = 0x01;
    pub const ST: u16 = 0x02;
    pub const STX: u16 = 0x03;
    pub const ALU: u16 = 0x04;
    pub const JMP: u16 = 0x05;
    pub const RET: u16 = 0x06;
    pub const MISC: u16 = 0x07;

    // Loads: width, bits 3-4.
    pub const W: u16 = 0x00;
    pub const H: u16 = 0x08;
    pub const B: u16 = 0x10;

    // Loads: from where, bits 5-7.
    pub const IMM: u16 = 0x00;
    pub const ABS: u16 = 0x20;
    pub const IND: u16 = 0x40;
    pub const MEM: u16 = 0x60;
    pub const LEN: u16 = 0x80;
    pub const MSH: u16 = 0xa0;

    // Arithmetic and jumps: the other operand, bit 3. Returns: K or A, bits 3-4.
    pub const K: u16 = 0x00;
    pub const X: u16 = 0x08;
    pub const A: u16 = 0x10;

    // Arithmetic, bits 4-7.
    pub const ADD: u16 = 0x00;
    pub const SUB: u16 = 0x10;
    pub const MUL: u16 = 0x20;
    pub const DIV: u16 = 0x30;
    pub const OR: u16 = 0x40;
    pub const AND: u16 = 0x50;
    pub const LSH: u16 = 0x60;
    pub const RSH: u16 = 0x70;
    pub const NEG: u16 = 0x80;
    pub const MOD: u16 = 0x90;
    pub const XOR: u16 = 0xa0;

    // Jumps, bits 4-7.
    pub const JA: u16 = 0x00;
    pub const JEQ: u16 = 0x10;
    pub const JGT: u16 = 0x20;
    pub const JGE: u16 = 0x30;
    pub const JSET: u16 = 0x40;

    // Miscellaneous, bits 3-7.
    pub const TAX: u16 = 0x00;
    pub const TXA: u16 = 0x80;
}
