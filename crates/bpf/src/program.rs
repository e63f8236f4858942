use crate::check::check;
use crate::{CheckError, Disassembly, Instruction, Operation};

/// Instructions that nobody has checked yet; they become a [`ValidProgram`] through [`Program::check`].
///
/// The text form, for `parse` and `to_string`, is that of `tcpdump -ddd`: the number of instructions on the first
/// line, then `code jt jf k` of each on a line, in decimal.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Program(Vec<Instruction>);

impl Program {
    /// The instructions in order.
    pub fn instructions(&self) -> &[Instruction] {
        &self.0
    }

    /// Checks the program by the rules of Linux, less what only a kernel can do (see the crate's documentation).
    ///
    /// It has 1 to 4096 instructions, all known, the last one a return; jumps stay inside; constants neither divide by
    /// 0 nor shift by 32 or more; memory slots are below 16, and loaded only where every path has stored into them.
    ///
    /// # Errors
    /// The first instruction that breaks a rule, and which.
    pub fn check(self) -> Result<ValidProgram, CheckError> {
        let operations = check(&self.0)?;
        Ok(ValidProgram { program: self, operations })
    }
}

impl From<Vec<Instruction>> for Program {
    fn from(instructions: Vec<Instruction>) -> Program {
        Program(instructions)
    }
}

impl FromIterator<Instruction> for Program {
    fn from_iter<I: IntoIterator<Item = Instruction>>(instructions: I) -> Program {
        Program(instructions.into_iter().collect())
    }
}

/// A program that has passed the checker: it ends on every packet, reads nothing outside of it, and Linux takes it.
///
/// Only [`Program::check`] and the [`Builder`](crate::Builder) make one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidProgram {
    program: Program,
    operations: Box<[Operation]>,
}

impl ValidProgram {
    /// The program as it was before the check.
    pub fn program(&self) -> &Program {
        &self.program
    }

    /// The instructions in order, 1 to 4096 of them.
    pub fn instructions(&self) -> &[Instruction] {
        self.program.instructions()
    }

    /// The meaning of each instruction, in order.
    pub fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// The listing in the form of `tcpdump -d`.
    pub fn disassembly(&self) -> Disassembly<'_> {
        Disassembly::new(&self.operations)
    }
}
