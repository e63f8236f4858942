use crate::{
    Address, Arithmetic, MEMORY_SLOTS, Operand, Operation, Register, Source, Step, Test, ValidProgram, Width,
};

impl ValidProgram {
    /// Runs the program on a packet, and answers how many of its octets to keep; 0 rejects it.
    ///
    /// `packet` begins with the Ethernet header and has no FCS. Takes at most one step for each instruction, and
    /// allocates nothing.
    pub fn run(&self, packet: &[u8]) -> u32 {
        execute(self.operations(), packet)
    }

    /// Like [`ValidProgram::run`], on the packet that is `head` followed by `rest`.
    ///
    /// For frames whose 802.1Q tag lies beside them: `head` is addresses and tag, `rest` begins with the EtherType.
    pub fn run_split(&self, head: &[u8], rest: &[u8]) -> u32 {
        execute(self.operations(), (head, rest))
    }
}

/// A packet to load from.
trait Octets: Copy {
    fn length(self) -> usize;

    /// The `N` octets from `at` on; `None` when not all of them are inside.
    fn octets<const N: usize>(self, at: usize) -> Option<[u8; N]>;
}

impl Octets for &[u8] {
    #[inline]
    fn length(self) -> usize {
        self.len()
    }

    #[inline]
    fn octets<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }
}

impl Octets for (&[u8], &[u8]) {
    fn length(self) -> usize {
        self.0.len() + self.1.len()
    }

    fn octets<const N: usize>(self, at: usize) -> Option<[u8; N]> {
        let (head, rest) = self;
        if let Some(in_rest) = at.checked_sub(head.len()) {
            return rest.octets(in_rest);
        }
        let mut octets = [0; N];
        for (octet, source) in octets.iter_mut().zip(at..) {
            *octet = *head.get(source).or_else(|| rest.get(source - head.len()))?;
        }
        Some(octets)
    }
}

/// Runs what the checker has passed: slots are below 16, shifts by constants below 32, and control never leaves
/// `operations`, since jumps stay inside and the last one is a return.
fn execute(operations: &[Operation], packet: impl Octets) -> u32 {
    let mut machine = Machine { a: 0, x: 0, memory: [0; MEMORY_SLOTS as usize] };
    let mut at = 0;
    loop {
        let operation = operations[at];
        at += 1;
        match operation {
            Operation::Step(step) => {
                if machine.step(step, packet).is_none() {
                    return 0;
                }
            }
            Operation::Jump(skip) => at += skip as usize,
            Operation::Branch { test, operand, yes, no } => {
                at += usize::from(if machine.holds(test, operand) { yes } else { no });
            }
            Operation::Return(octets) => return octets,
            Operation::ReturnA => return machine.a,
        }
    }
}

struct Machine {
    a: u32,
    x: u32,
    memory: [u32; MEMORY_SLOTS as usize],
}

impl Machine {
    /// `None` rejects the packet.
    #[inline]
    fn step(&mut self, step: Step, packet: impl Octets) -> Option<()> {
        match step {
            Step::LoadPacket(width, address) => {
                let at = match address {
                    Address::Absolute(offset) => offset,
                    Address::Indirect(offset) => self.x.wrapping_add(offset),
                } as usize;
                self.a = match width {
                    Width::Word => u32::from_be_bytes(packet.octets(at)?),
                    Width::Half => u16::from_be_bytes(packet.octets(at)?).into(),
                    Width::Byte => u8::from_be_bytes(packet.octets(at)?).into(),
                };
            }
            Step::LoadHeaderLength(offset) => {
                let [octet] = packet.octets(offset as usize)?;
                self.x = u32::from(octet & 0xf) * 4;
            }
            Step::Load(register, source) => {
                let value = match source {
                    Source::Constant(value) => value,
                    Source::Length => u32::try_from(packet.length()).unwrap_or(u32::MAX),
                    Source::Memory(slot) => self.memory[slot as usize],
                };
                match register {
                    Register::A => self.a = value,
                    Register::X => self.x = value,
                }
            }
            Step::Store(Register::A, slot) => self.memory[slot as usize] = self.a,
            Step::Store(Register::X, slot) => self.memory[slot as usize] = self.x,
            Step::Compute(operator, operand) => self.a = compute(operator, self.a, self.value(operand))?,
            Step::Negate => self.a = self.a.wrapping_neg(),
            Step::CopyAToX => self.x = self.a,
            Step::CopyXToA => self.a = self.x,
        }
        Some(())
    }

    #[inline]
    fn holds(&self, test: Test, operand: Operand) -> bool {
        let value = self.value(operand);
        match test {
            Test::Equal => self.a == value,
            Test::Greater => self.a > value,
            Test::GreaterOrEqual => self.a >= value,
            Test::AnyBit => self.a & value != 0,
        }
    }

    #[inline]
    fn value(&self, operand: Operand) -> u32 {
        match operand {
            Operand::K(constant) => constant,
            Operand::X => self.x,
        }
    }
}

/// `None` for division by 0. Shifts take the lowest 5 bits of `b`, as Linux has it for X.
#[inline]
fn compute(operator: Arithmetic, a: u32, b: u32) -> Option<u32> {
    Some(match operator {
        Arithmetic::Add => a.wrapping_add(b),
        Arithmetic::Subtract => a.wrapping_sub(b),
        Arithmetic::Multiply => a.wrapping_mul(b),
        Arithmetic::Divide => a.checked_div(b)?,
        Arithmetic::Modulo => a.checked_rem(b)?,
        Arithmetic::And => a & b,
        Arithmetic::Or => a | b,
        Arithmetic::Xor => a ^ b,
        Arithmetic::ShiftLeft => a.wrapping_shl(b),
        Arithmetic::ShiftRight => a.wrapping_shr(b),
    })
}

#[cfg(test)]
#[path = "run_tests.rs"]
mod tests;
