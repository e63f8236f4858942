use crate::{Address, Arithmetic, Instruction, MEMORY_SLOTS, Operand, Operation, Register, Source, Step};

/// The most instructions of a program, as kernels have it (BPF_MAXINSNS).
pub const MAX_LENGTH: usize = 4096;

/// The lowest packet offset to which Linux gives another meaning (SKF_LL_OFF, -0x200000); no packet is that long.
pub const LINK_HEADER: u32 = 0xffe0_0000;

/// Why a program is refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CheckError {
    /// There is no instruction.
    #[error("the program is empty; it needs at least a return")]
    Empty,
    /// There are this many instructions, more than [`MAX_LENGTH`].
    #[error("the program has {0} instructions, and the most is {MAX_LENGTH}; filter for less at a time")]
    TooLong(usize),
    /// An instruction breaks a rule.
    #[error("instruction {index} (the first is 0) {fault}")]
    Instruction {
        /// Which instruction; the first is 0.
        index: usize,
        /// The rule.
        fault: Fault,
    },
}

/// Which rule an instruction breaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The machine has no such code.
    #[error("has the unknown code {0:#x}; only classic BPF is known")]
    Code(u16),
    /// Division or modulo by a constant 0.
    #[error("divides by the constant 0")]
    Division,
    /// A shift by this constant, which is not below 32.
    #[error("shifts by {0}, which is not below 32")]
    Shift(u32),
    /// There is no such memory slot.
    #[error("uses the memory slot {0}, which is not below {MEMORY_SLOTS}")]
    Slot(u32),
    /// A load from this memory slot, into which not every path has stored before.
    #[error("loads the memory slot {0}, into which not every path has stored before")]
    Unset(u32),
    /// A jump leaves the program.
    #[error("jumps past the end")]
    Jump,
    /// An offset of [`LINK_HEADER`] or more.
    #[error("loads from {0:#x}, which only a kernel can; with tcpdump, compile with -y EN10MB")]
    Ancillary(u32),
    /// The last instruction is no return.
    #[error("is the last one and no return")]
    NoReturn,
}

/// The operations of `instructions`, which keep every rule.
pub(crate) fn check(instructions: &[Instruction]) -> Result<Box<[Operation]>, CheckError> {
    if instructions.is_empty() {
        return Err(CheckError::Empty);
    }
    if instructions.len() > MAX_LENGTH {
        return Err(CheckError::TooLong(instructions.len()));
    }
    let mut operations = Vec::with_capacity(instructions.len());
    for (index, instruction) in instructions.iter().enumerate() {
        let after = instructions.len() - index - 1;
        let operation = Operation::decode(*instruction)
            .ok_or(Fault::Code(instruction.code))
            .and_then(|operation| operation.check(after).map(|()| operation))
            .map_err(|fault| CheckError::Instruction { index, fault })?;
        operations.push(operation);
    }
    check_slots(&operations)?;
    Ok(operations.into())
}

impl Operation {
    /// Looks at everything but what other instructions did; `after` instructions follow this one.
    fn check(self, after: usize) -> Result<(), Fault> {
        let require = |holds: bool, fault: Fault| if holds { Ok(()) } else { Err(fault) };
        match self {
            Operation::Jump(skip) => require((skip as usize) < after, Fault::Jump),
            Operation::Branch { yes, no, .. } => require(usize::from(yes.max(no)) < after, Fault::Jump),
            Operation::Return(_) | Operation::ReturnA => Ok(()),
            Operation::Step(_) if after == 0 => Err(Fault::NoReturn),
            Operation::Step(step) => match step {
                Step::LoadPacket(_, Address::Absolute(offset)) | Step::LoadHeaderLength(offset) => {
                    require(offset < LINK_HEADER, Fault::Ancillary(offset))
                }
                Step::Load(_, Source::Memory(slot)) | Step::Store(_, slot) => {
                    require(slot < MEMORY_SLOTS, Fault::Slot(slot))
                }
                Step::Compute(Arithmetic::Divide | Arithmetic::Modulo, Operand::K(divisor)) => {
                    require(divisor != 0, Fault::Division)
                }
                Step::Compute(Arithmetic::ShiftLeft | Arithmetic::ShiftRight, Operand::K(bits)) => {
                    require(bits < 32, Fault::Shift(bits))
                }
                _ => Ok(()),
            },
        }
    }
}

/// Follows which slots are set, one bit for each, in one pass: jumps only go forward, so every way to an instruction
/// has been seen before it.
///
/// Like Linux it takes the instruction after a return for reachable from there, which refuses a few programs that
/// could do no harm.
fn check_slots(operations: &[Operation]) -> Result<(), CheckError> {
    // What is set on every jump to an instruction that was seen so far.
    let mut at_target = vec![u16::MAX; operations.len()];
    let mut set = 0;
    for (index, operation) in operations.iter().enumerate() {
        set &= at_target[index];
        match *operation {
            Operation::Step(Step::Store(Register::A | Register::X, slot)) => set |= 1 << slot,
            Operation::Step(Step::Load(_, Source::Memory(slot))) if set & 1 << slot == 0 => {
                return Err(CheckError::Instruction { index, fault: Fault::Unset(slot) });
            }
            Operation::Jump(skip) => {
                at_target[index + 1 + skip as usize] &= set;
                set = u16::MAX;
            }
            Operation::Branch { yes, no, .. } => {
                at_target[index + 1 + usize::from(yes)] &= set;
                at_target[index + 1 + usize::from(no)] &= set;
                set = u16::MAX;
            }
            _ => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Program;
    use crate::code::*;

    fn verdict(instructions: &[(u16, u8, u8, u32)]) -> Result<(), CheckError> {
        let program: Program =
            instructions.iter().map(|&(code, jt, jf, k)| Instruction::new(code, jt, jf, k)).collect();
        program.check().map(drop)
    }

    fn fault(index: usize, fault: Fault) -> Result<(), CheckError> {
        Err(CheckError::Instruction { index, fault })
    }

    const END: (u16, u8, u8, u32) = (RET | K, 0, 0, 1);

    #[test]
    fn lengths() {
        let longest = vec![END; MAX_LENGTH];
        let too_long = vec![END; MAX_LENGTH + 1];

        assert_eq!(verdict(&[]), Err(CheckError::Empty));
        assert_eq!(verdict(&[END]), Ok(()));
        assert_eq!(verdict(&longest), Ok(()));
        assert_eq!(verdict(&too_long), Err(CheckError::TooLong(4097)));
    }

    #[test]
    fn one_instruction_and_a_return() {
        let cases = [
            ((LD | IMM, 0, 0, 5), Ok(())),
            ((0x1000, 0, 0, 0), fault(0, Fault::Code(0x1000))),
            ((RET | X, 0, 0, 0), fault(0, Fault::Code(0x0e))),
            ((ALU | DIV | K, 0, 0, 1), Ok(())),
            ((ALU | DIV | K, 0, 0, 0), fault(0, Fault::Division)),
            ((ALU | MOD | K, 0, 0, 0), fault(0, Fault::Division)),
            ((ALU | DIV | X, 0, 0, 0), Ok(())),
            ((ALU | LSH | K, 0, 0, 31), Ok(())),
            ((ALU | LSH | K, 0, 0, 32), fault(0, Fault::Shift(32))),
            ((ALU | RSH | K, 0, 0, u32::MAX), fault(0, Fault::Shift(u32::MAX))),
            ((ALU | RSH | X, 0, 0, 32), Ok(())),
            ((ST, 0, 0, 15), Ok(())),
            ((ST, 0, 0, 16), fault(0, Fault::Slot(16))),
            ((STX, 0, 0, u32::MAX), fault(0, Fault::Slot(u32::MAX))),
            ((LD | MEM, 0, 0, 16), fault(0, Fault::Slot(16))),
            ((LD | MEM, 0, 0, 0), fault(0, Fault::Unset(0))),
            ((JMP | JA, 0, 0, 0), Ok(())),
            ((JMP | JA, 0, 0, 1), fault(0, Fault::Jump)),
            ((JMP | JA, 0, 0, u32::MAX), fault(0, Fault::Jump)),
            ((JMP | JEQ | K, 0, 0, 0), Ok(())),
            ((JMP | JEQ | K, 1, 0, 0), fault(0, Fault::Jump)),
            ((JMP | JEQ | X, 0, 1, 0), fault(0, Fault::Jump)),
            ((LD | W | ABS, 0, 0, LINK_HEADER - 1), Ok(())),
            ((LD | W | ABS, 0, 0, LINK_HEADER), fault(0, Fault::Ancillary(LINK_HEADER))),
            ((LD | B | ABS, 0, 0, 0xffff_f000), fault(0, Fault::Ancillary(0xffff_f000))),
            ((LDX | B | MSH, 0, 0, 0xffff_ffff), fault(0, Fault::Ancillary(0xffff_ffff))),
            ((LD | W | IND, 0, 0, 0xffff_ffff), Ok(())),
        ];

        for (instruction, expected) in cases {
            assert_eq!(verdict(&[instruction, END]), expected, "{instruction:x?}");
        }
    }

    #[test]
    fn the_last_instruction_is_a_return() {
        assert_eq!(verdict(&[END, (LD | IMM, 0, 0, 1)]), fault(1, Fault::NoReturn));
        assert_eq!(verdict(&[(JMP | JA, 0, 0, 0)]), fault(0, Fault::Jump));
        assert_eq!(verdict(&[(RET | A, 0, 0, 0)]), Ok(()));
    }

    #[test]
    fn every_path_stores_before_a_load() {
        let load = (LDX | MEM, 0, 0, 3);
        let store = (ST, 0, 0, 3);

        assert_eq!(verdict(&[store, load, END]), Ok(()));
        // Only one of the branch's ways stores.
        assert_eq!(verdict(&[(JMP | JEQ | K, 0, 1, 0), store, load, END]), fault(2, Fault::Unset(3)));
        // Both do.
        let both = [(JMP | JEQ | K, 0, 2, 0), store, (JMP | JA, 0, 0, 1), store, load, END];
        assert_eq!(verdict(&both), Ok(()));
        // Nothing leads to the load.
        assert_eq!(verdict(&[(JMP | JA, 0, 0, 1), load, END]), Ok(()));
        // Linux takes what follows a return for reachable.
        assert_eq!(verdict(&[END, load, END]), fault(1, Fault::Unset(3)));
    }

    #[test]
    fn messages_name_the_instruction() {
        let error = verdict(&[(LD | IMM, 0, 0, 1), (ALU | DIV, 0, 0, 0), END]).unwrap_err();

        assert_eq!(error.to_string(), "instruction 1 (the first is 0) divides by the constant 0");
    }
}
