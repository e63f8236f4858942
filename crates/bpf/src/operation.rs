use crate::Instruction;
use crate::code::*;

/// How many memory slots the machine has.
pub const MEMORY_SLOTS: u32 = 16;

/// The meaning of an instruction: the typed form of [`Instruction`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operation {
    /// Do this, then go on with the next instruction.
    Step(Step),
    /// Skip so many instructions (`ja`).
    Jump(u32),
    /// Compare A with the operand and skip `yes` or `no` instructions (`jeq`, `jgt`, `jge`, `jset`).
    Branch {
        /// The comparison that has to hold.
        test: Test,
        /// The value that A is compared with.
        operand: Operand,
        /// How many instructions to skip when it holds.
        yes: u8,
        /// How many instructions to skip when it does not.
        no: u8,
    },
    /// End with this answer, in octets to keep (`ret #k`).
    Return(u32),
    /// End with A as the answer (`ret a`).
    ReturnA,
}

/// An operation after which the next instruction follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Load A from the packet (`ld`, `ldh`, `ldb`).
    LoadPacket(Width, Address),
    /// X = 4 × (lowest four bits of the octet at this offset): the length of an IPv4 header (`ldxb 4*([k]&0xf)`).
    LoadHeaderLength(u32),
    /// Load a register from elsewhere (`ld`, `ldx`).
    Load(Register, Source),
    /// Store a register in a memory slot (`st`, `stx`).
    Store(Register, u32),
    /// A = A with the operand (`add`, `sub` …).
    Compute(Arithmetic, Operand),
    /// A = -A (`neg`).
    Negate,
    /// X = A (`tax`).
    CopyAToX,
    /// A = X (`txa`).
    CopyXToA,
}

/// How many octets a packet load takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Width {
    /// Four octets.
    Word,
    /// Two octets.
    Half,
    /// One octet.
    Byte,
}

/// Where in the packet a load begins, in octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Address {
    /// At this offset.
    Absolute(u32),
    /// At X plus this offset, modulo 2^32.
    Indirect(u32),
}

/// One of the two registers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Register {
    /// The accumulator.
    A,
    /// The index register.
    X,
}

/// A source of a register's value other than the packet's octets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A constant.
    Constant(u32),
    /// The packet's length in octets.
    Length,
    /// A memory slot.
    Memory(u32),
}

/// The right-hand side of arithmetic and tests.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Operand {
    /// A constant.
    K(u32),
    /// The index register.
    X,
}

/// Arithmetic on unsigned 32-bit numbers, which wraps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "named after what they do")]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    And,
    Or,
    Xor,
    ShiftLeft,
    ShiftRight,
}

/// A branch's test of A against its operand, as unsigned numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// A is equal to it.
    Equal,
    /// A is greater.
    Greater,
    /// A is greater or equal.
    GreaterOrEqual,
    /// They have a bit in common.
    AnyBit,
}

impl Operation {
    /// Decodes `instruction`; `None` when the machine has no such code. Ignores fields that the code does not use, and
    /// applies no other rule of the checker.
    pub fn decode(instruction: Instruction) -> Option<Operation> {
        let Instruction { code, jt, jf, k } = instruction;
        match code & 0x07 {
            ALU => Step::decode_arithmetic(code, k).map(Operation::Step),
            JMP if code == JMP | JA => Some(Operation::Jump(k)),
            JMP => {
                let test = Test::ALL.into_iter().find(|test| code & !X == JMP | test.code())?;
                Some(Operation::Branch { test, operand: Operand::decode(code, k), yes: jt, no: jf })
            }
            RET if code == RET | K => Some(Operation::Return(k)),
            RET if code == RET | A => Some(Operation::ReturnA),
            RET => None,
            _ => Step::decode_move(code, k).map(Operation::Step),
        }
    }
}

impl Step {
    fn decode_arithmetic(code: u16, k: u32) -> Option<Step> {
        if code == ALU | NEG {
            return Some(Step::Negate);
        }
        let operator = Arithmetic::ALL.into_iter().find(|operator| code & !X == ALU | operator.code())?;
        Some(Step::Compute(operator, Operand::decode(code, k)))
    }

    fn decode_move(code: u16, k: u32) -> Option<Step> {
        const LDX_MSH: u16 = LDX | B | MSH;
        const TAX_CODE: u16 = MISC | TAX;
        const TXA_CODE: u16 = MISC | TXA;
        match code {
            LDX_MSH => return Some(Step::LoadHeaderLength(k)),
            ST => return Some(Step::Store(Register::A, k)),
            STX => return Some(Step::Store(Register::X, k)),
            TAX_CODE => return Some(Step::CopyAToX),
            TXA_CODE => return Some(Step::CopyXToA),
            _ => {}
        }
        for (class, register) in [(LD, Register::A), (LDX, Register::X)] {
            for source in [Source::Constant(k), Source::Length, Source::Memory(k)] {
                if code == class | W | source.code() {
                    return Some(Step::Load(register, source));
                }
            }
        }
        for width in [Width::Word, Width::Half, Width::Byte] {
            for address in [Address::Absolute(k), Address::Indirect(k)] {
                if code == LD | width.code() | address.code() {
                    return Some(Step::LoadPacket(width, address));
                }
            }
        }
        None
    }
}

impl From<Operation> for Instruction {
    fn from(operation: Operation) -> Instruction {
        match operation {
            Operation::Step(step) => step.into(),
            Operation::Jump(skip) => Instruction::new(JMP | JA, 0, 0, skip),
            Operation::Branch { test, operand, yes, no } => {
                Instruction::new(JMP | test.code() | operand.code(), yes, no, operand.k())
            }
            Operation::Return(octets) => Instruction::new(RET | K, 0, 0, octets),
            Operation::ReturnA => Instruction::new(RET | A, 0, 0, 0),
        }
    }
}

impl From<Step> for Instruction {
    fn from(step: Step) -> Instruction {
        let (code, k) = match step {
            Step::LoadPacket(width, address) => {
                let (Address::Absolute(k) | Address::Indirect(k)) = address;
                (LD | width.code() | address.code(), k)
            }
            Step::LoadHeaderLength(offset) => (LDX | B | MSH, offset),
            Step::Load(register, source) => {
                let k = match source {
                    Source::Constant(k) | Source::Memory(k) => k,
                    Source::Length => 0,
                };
                let class = match register {
                    Register::A => LD,
                    Register::X => LDX,
                };
                (class | W | source.code(), k)
            }
            Step::Store(Register::A, slot) => (ST, slot),
            Step::Store(Register::X, slot) => (STX, slot),
            Step::Compute(operator, operand) => (ALU | operator.code() | operand.code(), operand.k()),
            Step::Negate => (ALU | NEG, 0),
            Step::CopyAToX => (MISC | TAX, 0),
            Step::CopyXToA => (MISC | TXA, 0),
        };
        Instruction::new(code, 0, 0, k)
    }
}

impl Width {
    fn code(self) -> u16 {
        match self {
            Width::Word => W,
            Width::Half => H,
            Width::Byte => B,
        }
    }
}

impl Address {
    fn code(self) -> u16 {
        match self {
            Address::Absolute(_) => ABS,
            Address::Indirect(_) => IND,
        }
    }
}

impl Source {
    fn code(self) -> u16 {
        match self {
            Source::Constant(_) => IMM,
            Source::Length => LEN,
            Source::Memory(_) => MEM,
        }
    }
}

impl Operand {
    fn decode(code: u16, k: u32) -> Operand {
        if code & X != 0 { Operand::X } else { Operand::K(k) }
    }

    fn code(self) -> u16 {
        match self {
            Operand::K(_) => K,
            Operand::X => X,
        }
    }

    fn k(self) -> u32 {
        match self {
            Operand::K(k) => k,
            Operand::X => 0,
        }
    }
}

impl Arithmetic {
    const ALL: [Arithmetic; 10] = [
        Arithmetic::Add,
        Arithmetic::Subtract,
        Arithmetic::Multiply,
        Arithmetic::Divide,
        Arithmetic::Modulo,
        Arithmetic::And,
        Arithmetic::Or,
        Arithmetic::Xor,
        Arithmetic::ShiftLeft,
        Arithmetic::ShiftRight,
    ];

    fn code(self) -> u16 {
        match self {
            Arithmetic::Add => ADD,
            Arithmetic::Subtract => SUB,
            Arithmetic::Multiply => MUL,
            Arithmetic::Divide => DIV,
            Arithmetic::Modulo => MOD,
            Arithmetic::And => AND,
            Arithmetic::Or => OR,
            Arithmetic::Xor => XOR,
            Arithmetic::ShiftLeft => LSH,
            Arithmetic::ShiftRight => RSH,
        }
    }
}

impl Test {
    const ALL: [Test; 4] = [Test::Equal, Test::Greater, Test::GreaterOrEqual, Test::AnyBit];

    fn code(self) -> u16 {
        match self {
            Test::Equal => JEQ,
            Test::Greater => JGT,
            Test::GreaterOrEqual => JGE,
            Test::AnyBit => JSET,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The codes that Linux knows (`chk_code_allowed` in net/core/filter.c).
    const KNOWN: [u16; 47] = [
        0x00, 0x20, 0x28, 0x30, 0x40, 0x48, 0x50, 0x60, 0x80, // ld
        0x01, 0x61, 0x81, 0xb1, // ldx
        0x02, 0x03, // st, stx
        0x04, 0x0c, 0x14, 0x1c, 0x24, 0x2c, 0x34, 0x3c, 0x44, 0x4c, 0x54,
        0x5c, // add sub mul div or and
        0x64, 0x6c, 0x74, 0x7c, 0x84, 0x94, 0x9c, 0xa4, 0xac, // lsh rsh neg mod xor
        0x05, 0x15, 0x1d, 0x25, 0x2d, 0x35, 0x3d, 0x45, 0x4d, // jumps
        0x06, 0x16, // ret
    ];

    #[test]
    fn exactly_the_known_codes_decode_and_encode_again() {
        let mut known: Vec<u16> = [&KNOWN[..], &[0x07, 0x87]].concat();
        known.sort_unstable();

        let decoded: Vec<u16> = (0..=u16::MAX)
            .filter_map(|code| Operation::decode(Instruction::new(code, 1, 2, 3)))
            .map(|operation| Instruction::from(operation).code)
            .collect();

        assert_eq!(decoded, known);
    }

    #[test]
    fn used_fields_survive() {
        let branch = Instruction::new(JMP | JGE | K, 7, 9, 0xdead_beef);
        let store = Instruction::new(STX, 0, 0, 15);

        for instruction in [branch, store] {
            assert_eq!(Operation::decode(instruction).map(Instruction::from), Some(instruction));
        }
    }
}
