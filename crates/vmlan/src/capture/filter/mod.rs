//! The filter of a capture: a program of classic BPF as text, or an expression that libpcap makes one of: the library
//! itself with the feature `libpcap`, else tcpdump, which has it.

#[cfg_attr(feature = "libpcap", path = "libpcap.rs")]
#[cfg_attr(not(feature = "libpcap"), path = "tcpdump.rs")]
mod expression;

use std::fs::File;
use std::io::Read;

use anyhow::{Context, anyhow};
use bpf::Program;

use self::expression::{COMPILER, compile};
use crate::command::Failure;

/// Octets of a filter's file; the longest program takes a tenth.
const LARGEST: u64 = 1 << 20;

/// The checked program of `-f`, in the form of `tcpdump -ddd`: `@FILE`, a program, or an expression.
pub fn program(filter: &str) -> Result<String, Failure> {
    if let Some(path) = filter.strip_prefix('@') {
        let mut text = String::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
        read.with_context(|| format!("the filter {path} cannot be read"))?;
        return checked(&text).map_err(|error| Failure::Usage(format!("the filter in {path}: {error}")));
    }
    if filter.trim().is_empty() {
        return Err(Failure::Usage("the filter is empty; leave -f away to capture everything".into()));
    }
    // No expression begins with a number on a line of its own.
    let first = filter.trim_start().lines().next().unwrap_or_default().trim_end();
    if first.parse::<u64>().is_ok() {
        return checked(filter).map_err(|error| Failure::Usage(format!("the filter: {error}")));
    }
    let text = compile(filter)?;
    checked(&text).map_err(|error| Failure::Failed(anyhow!("what {COMPILER} made of `{filter}`: {error}")))
}

/// The program as it travels; an error names the line or the instruction.
fn checked(text: &str) -> Result<String, String> {
    let program = text.parse::<Program>().map_err(|error| error.to_string())?;
    program.check().map(|program| program.to_string()).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn complaint(result: Result<String, Failure>) -> String {
        match result {
            Err(Failure::Usage(message)) => message,
            Err(Failure::Failed(error)) => format!("{error:#}"),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn a_program_is_taken_as_it_is() {
        let text = "2\n6 0 0 60\n6 0 0 0\n";
        assert_eq!(program(&format!("\n {text}")).expect("a program"), text);
    }

    #[test]
    fn faults_name_the_line_or_the_instruction() {
        for (filter, expected) in [
            ("2\n6 0 0 60\n6 0 x 0", "line 3"),
            ("3\n6 0 0 60", "1 of 3"),
            ("2\n5 0 0 9\n6 0 0 0", "instruction 0"),
            ("", "empty"),
            ("@/no/such/file", "/no/such/file"),
        ] {
            let message = complaint(program(filter));
            assert!(message.contains(expected), "{filter:?}: {message}");
        }
    }

    #[test]
    fn a_file_holds_a_program_and_no_expression() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, b"1\n6 0 0 7\n").expect("room");
        let argument = format!("@{}", file.path().display());
        assert_eq!(program(&argument).expect("a program"), "1\n6 0 0 7\n");
        std::fs::write(file.path(), "icmp").expect("room");
        assert!(complaint(program(&argument)).contains("line 1: `icmp`"));
    }
}
