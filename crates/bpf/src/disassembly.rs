use core::fmt;

use crate::{Address, Arithmetic, Operand, Operation, Register, Source, Step, Test, Width};

/// A program's listing in the form of `tcpdump -d`, for `to_string`.
#[derive(Clone, Copy, Debug)]
pub struct Disassembly<'a>(&'a [Operation]);

impl<'a> Disassembly<'a> {
    pub(crate) fn new(operations: &'a [Operation]) -> Disassembly<'a> {
        Disassembly(operations)
    }
}

impl fmt::Display for Disassembly<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, operation) in self.0.iter().enumerate() {
            let next = index + 1;
            write!(f, "({index:03}) ")?;
            match *operation {
                Operation::Step(step) => line(f, step)?,
                Operation::Jump(skip) => write!(f, "{:<8} {}", "ja", next + skip as usize)?,
                Operation::Branch { test, operand, yes, no } => {
                    let operand = match operand {
                        Operand::K(k) => format!("#{k:#x}"),
                        Operand::X => "x".into(),
                    };
                    let (yes, no) = (next + usize::from(yes), next + usize::from(no));
                    write!(f, "{:<8} {operand:<16} jt {yes}\tjf {no}", test.mnemonic())?;
                }
                Operation::Return(octets) => write!(f, "{:<8} #{octets}", "ret")?,
                Operation::ReturnA => write!(f, "{:<8} ", "ret")?,
            }
            writeln!(f)?;
        }
        Ok(())
    }
}

fn line(f: &mut fmt::Formatter<'_>, step: Step) -> fmt::Result {
    match step {
        Step::LoadPacket(width, address) => {
            let mnemonic = match width {
                Width::Word => "ld",
                Width::Half => "ldh",
                Width::Byte => "ldb",
            };
            match address {
                Address::Absolute(offset) => write!(f, "{mnemonic:<8} [{offset}]"),
                Address::Indirect(offset) => write!(f, "{mnemonic:<8} [x + {}]", offset as i32),
            }
        }
        Step::LoadHeaderLength(offset) => write!(f, "{:<8} 4*([{offset}]&0xf)", "ldxb"),
        Step::Load(register, source) => {
            let mnemonic = match register {
                Register::A => "ld",
                Register::X => "ldx",
            };
            match source {
                Source::Constant(k) => write!(f, "{mnemonic:<8} #{k:#x}"),
                Source::Length => write!(f, "{mnemonic:<8} #pktlen"),
                Source::Memory(slot) => write!(f, "{mnemonic:<8} M[{slot}]"),
            }
        }
        Step::Store(Register::A, slot) => write!(f, "{:<8} M[{slot}]", "st"),
        Step::Store(Register::X, slot) => write!(f, "{:<8} M[{slot}]", "stx"),
        Step::Compute(operator, operand) => {
            let mnemonic = operator.mnemonic();
            match (operand, operator) {
                (Operand::X, _) => write!(f, "{mnemonic:<8} x"),
                (Operand::K(k), Arithmetic::And | Arithmetic::Or | Arithmetic::Xor) => {
                    write!(f, "{mnemonic:<8} #{k:#x}")
                }
                (Operand::K(k), _) => write!(f, "{mnemonic:<8} #{k}"),
            }
        }
        Step::Negate => write!(f, "{:<8} ", "neg"),
        Step::CopyAToX => write!(f, "{:<8} ", "tax"),
        Step::CopyXToA => write!(f, "{:<8} ", "txa"),
    }
}

impl Test {
    fn mnemonic(self) -> &'static str {
        match self {
            Test::Equal => "jeq",
            Test::Greater => "jgt",
            Test::GreaterOrEqual => "jge",
            Test::AnyBit => "jset",
        }
    }
}

impl Arithmetic {
    fn mnemonic(self) -> &'static str {
        match self {
            Arithmetic::Add => "add",
            Arithmetic::Subtract => "sub",
            Arithmetic::Multiply => "mul",
            Arithmetic::Divide => "div",
            Arithmetic::Modulo => "mod",
            Arithmetic::And => "and",
            Arithmetic::Or => "or",
            Arithmetic::Xor => "xor",
            Arithmetic::ShiftLeft => "lsh",
            Arithmetic::ShiftRight => "rsh",
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::Program;

    #[test]
    fn looks_like_the_tools() {
        let text = "5\n40 0 0 12\n21 0 2 2048\n84 0 0 15\n22 0 0 0\n6 0 0 4294967295\n";

        let program = text.parse::<Program>().unwrap().check().unwrap();

        let listing = "(000) ldh      [12]\n\
                       (001) jeq      #0x800           jt 2\tjf 4\n\
                       (002) and      #0xf\n\
                       (003) ret      \n\
                       (004) ret      #4294967295\n";
        assert_eq!(program.disassembly().to_string(), listing);
    }
}
