use core::fmt;
use core::str::FromStr;

use crate::{Instruction, MAX_LENGTH, Program, ValidProgram};

/// The text is no program in the form of `tcpdump -ddd`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: {fault}")]
pub struct ParseError {
    /// Which line; the first is 1.
    pub line: usize,
    /// The fault in that line.
    pub fault: LineFault,
}

/// A fault in a line of a program's text.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LineFault {
    /// The line with the number of instructions is something else.
    #[error("`{0}` is no number of instructions; give what `tcpdump -ddd -y EN10MB` prints")]
    Count(String),
    /// The number of instructions is above [`MAX_LENGTH`].
    #[error("{0} instructions are too many; the most is {MAX_LENGTH}")]
    TooLong(u64),
    /// The line is no instruction.
    #[error("`{0}` is no instruction; write four decimal numbers, code jt jf k, as `tcpdump -ddd` does")]
    Instruction(String),
    /// There are more instructions than the first line says.
    #[error(
        "more than the {0} instructions that the first line announces; correct the number or remove the rest"
    )]
    Surplus(usize),
    /// The text ends before all instructions are there.
    #[error("the text ends after {found} of {announced} instructions; it was cut off or the number is wrong")]
    Short {
        /// How many instructions the first line announces.
        announced: usize,
        /// How many there are.
        found: usize,
    },
}

impl FromStr for Program {
    type Err = ParseError;

    /// Reads what `tcpdump -ddd` prints. Blank lines, and space around numbers, are skipped.
    fn from_str(text: &str) -> Result<Program, ParseError> {
        let at = |line: usize, fault: LineFault| ParseError { line, fault };
        let mut last = 1;
        let mut lines = text
            .lines()
            .zip(1..)
            .map(|(line, number)| (number, line.trim()))
            .filter(|(_, line)| !line.is_empty());

        let (number, line) = lines.next().ok_or_else(|| at(1, LineFault::Count(String::new())))?;
        let announced: u64 = line.parse().map_err(|_| at(number, LineFault::Count(excerpt(line))))?;
        let announced = usize::try_from(announced)
            .ok()
            .filter(|&length| length <= MAX_LENGTH)
            .ok_or_else(|| at(number, LineFault::TooLong(announced)))?;

        let mut instructions = Vec::with_capacity(announced);
        for (number, line) in lines {
            if instructions.len() == announced {
                return Err(at(number, LineFault::Surplus(announced)));
            }
            let instruction =
                instruction(line).ok_or_else(|| at(number, LineFault::Instruction(excerpt(line))))?;
            instructions.push(instruction);
            last = number;
        }
        if instructions.len() < announced {
            return Err(at(last, LineFault::Short { announced, found: instructions.len() }));
        }
        Ok(instructions.into())
    }
}

fn instruction(line: &str) -> Option<Instruction> {
    let mut fields = line.split_ascii_whitespace();
    let instruction = Instruction {
        code: fields.next()?.parse().ok()?,
        jt: fields.next()?.parse().ok()?,
        jf: fields.next()?.parse().ok()?,
        k: fields.next()?.parse().ok()?,
    };
    fields.next().is_none().then_some(instruction)
}

/// As much of a hostile line as a message can bear.
fn excerpt(line: &str) -> String {
    line.chars().take(40).collect()
}

impl fmt::Display for Program {
    /// Writes what `tcpdump -ddd` would, with a line feed after every line.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}", self.instructions().len())?;
        for Instruction { code, jt, jf, k } in self.instructions() {
            writeln!(f, "{code} {jt} {jf} {k}")?;
        }
        Ok(())
    }
}

impl fmt::Display for ValidProgram {
    /// Writes the program as [`Program`] does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.program().fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_tcpdump_writes() {
        let text = "4\n40 0 0 12\n21 0 1 2054\n6 0 0 262144\n6 0 0 0\n";

        let program: Program = text.parse().unwrap();

        assert_eq!(program.instructions()[1], Instruction::new(21, 0, 1, 2054));
        assert_eq!(program.to_string(), text);
        assert_eq!("\r\n 4\r\n40 0 0\t12\n\n21 0 1 2054\n6 0 0 262144\n6 0 0 0".parse(), Ok(program));
    }

    #[test]
    fn errors_name_the_line() {
        let long = "x".repeat(1000);
        let cases = [
            ("", 1, LineFault::Count(String::new())),
            ("ip", 1, LineFault::Count("ip".into())),
            ("-1", 1, LineFault::Count("-1".into())),
            (&long, 1, LineFault::Count("x".repeat(40))),
            ("4097", 1, LineFault::TooLong(4097)),
            ("18446744073709551615", 1, LineFault::TooLong(u64::MAX)),
            ("1\n6 0 0", 2, LineFault::Instruction("6 0 0".into())),
            ("1\n\n6 0 0 0 0", 3, LineFault::Instruction("6 0 0 0 0".into())),
            ("1\n6 256 0 0", 2, LineFault::Instruction("6 256 0 0".into())),
            ("1\n65536 0 0 0", 2, LineFault::Instruction("65536 0 0 0".into())),
            ("1\n6 0 0 4294967296", 2, LineFault::Instruction("6 0 0 4294967296".into())),
            ("1\n6 0 0 0\n6 0 0 0", 3, LineFault::Surplus(1)),
            ("2\n6 0 0 0\n\n", 2, LineFault::Short { announced: 2, found: 1 }),
            ("2\n", 1, LineFault::Short { announced: 2, found: 0 }),
        ];

        for (text, line, fault) in cases {
            assert_eq!(text.parse::<Program>(), Err(ParseError { line, fault }), "{text:.20}");
        }
        let error = "1\n6 0 0".parse::<Program>().unwrap_err();
        assert!(error.to_string().starts_with("line 2: `6 0 0` is no instruction"), "{error}");
    }

    proptest! {
        #[test]
        fn round_trip(fields in prop::collection::vec(any::<(u16, u8, u8, u32)>(), 0..50)) {
            let program: Program =
                fields.into_iter().map(|(code, jt, jf, k)| Instruction::new(code, jt, jf, k)).collect();

            prop_assert_eq!(program.to_string().parse(), Ok(program));
        }

        #[test]
        fn no_text_panics(text in "[0-9 \n\\PC]{0,200}") {
            let _ = text.parse::<Program>();
        }
    }
}
