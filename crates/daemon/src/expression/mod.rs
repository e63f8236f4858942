//! Filters as people write them: expressions, which libpcap makes programs of classic BPF of (the library itself with
//! the feature `libpcap`, else tcpdump, which has it), and such programs as text.

#[cfg_attr(feature = "libpcap", path = "libpcap.rs")]
#[cfg_attr(not(feature = "libpcap"), path = "tcpdump.rs")]
mod compiler;

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::{Arc, LazyLock};

use vmlan_bpf::{Program, ValidProgram};
use vmlan_frame::Mutex;

use self::compiler::COMPILER;

/// Octets of a file with a program; the longest program takes a tenth.
const LARGEST: u64 = 1 << 20;

/// Octets of an expression.
const LONGEST: usize = 4096;

/// Programs of expressions that are kept, so that one that is read again is not compiled again.
const KEPT: usize = 1024;

/// A filter cannot be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadFilter {
    /// It is wrong; the message says where.
    #[error("{0}")]
    Wrong(String),
    /// It may be right, and something else is missing or failed; the message says what to do.
    #[error("{0}")]
    Failed(String),
}

/// The program of a file, in the form of `tcpdump -ddd`.
///
/// # Errors
/// The file cannot be read, or holds no program.
pub fn of_file(path: &Path) -> Result<ValidProgram, BadFilter> {
    let mut text = String::new();
    let read = open(path).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    let path = path.display();
    read.map_err(|error| BadFilter::Failed(format!("the filter {path} cannot be read: {error}")))?;
    of_text(&text).map_err(|error| BadFilter::Wrong(format!("the filter in {path}: {error}")))
}

/// Opens a file, and nothing for whose other end one would have to wait.
fn open(path: &Path) -> io::Result<File> {
    let file =
        File::options().read(true).custom_flags(rustix::fs::OFlags::NONBLOCK.bits() as i32).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::other("it is no file")),
    }
}

/// A program in the form of `tcpdump -ddd`.
///
/// # Errors
/// The message names the line or the instruction.
pub fn of_text(text: &str) -> Result<ValidProgram, BadFilter> {
    let program = text.parse::<Program>().map_err(|error| BadFilter::Wrong(error.to_string()))?;
    program.check().map_err(|error| BadFilter::Wrong(error.to_string()))
}

/// True if the text is a program: no expression begins with a number on a line of its own.
pub fn is_program(text: &str) -> bool {
    let first = text.trim_start().lines().next().unwrap_or_default().trim_end();
    first.parse::<u64>().is_ok()
}

/// Compiles an expression for Ethernet, as libpcap does. It may take seconds, where a name has to be looked up.
///
/// # Errors
/// The expression is wrong, or there is nothing to compile it with.
pub fn of_expression(expression: &str) -> Result<Arc<ValidProgram>, BadFilter> {
    static COMPILED: LazyLock<Mutex<HashMap<String, Arc<ValidProgram>>>> = LazyLock::new(Mutex::default);
    let compiled = || COMPILED.lock();
    if expression.trim().is_empty() {
        return Err(BadFilter::Wrong("the filter is empty".into()));
    }
    if expression.len() > LONGEST {
        return Err(BadFilter::Wrong(format!("the filter is longer than {LONGEST} octets")));
    }
    if let Some(program) = compiled().get(expression) {
        return Ok(program.clone());
    }
    let text = compiler::compile(expression)?;
    let program =
        Arc::new(of_text(&text).map_err(|error| {
            BadFilter::Failed(format!("what {COMPILER} made of `{expression}`: {error}"))
        })?);
    let mut known = compiled();
    if known.len() >= KEPT {
        known.clear();
    }
    known.insert(expression.to_owned(), program.clone());
    Ok(program)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_told_from_an_expression() {
        assert!(is_program("\n 2\n6 0 0 60\n6 0 0 0\n"));
        assert!(!is_program("icmp") && !is_program("port 2"));
    }

    #[test]
    fn faults_name_the_line_or_the_instruction() {
        for (text, expected) in [
            ("2\n6 0 0 60\n6 0 x 0", "line 3"),
            ("3\n6 0 0 60", "1 of 3"),
            ("2\n5 0 0 9\n6 0 0 0", "instruction 0"),
        ] {
            let message = of_text(text).expect_err(text).to_string();
            assert!(message.contains(expected), "{text:?}: {message}");
        }
        for path in ["/no/such/file", "/dev/zero", "/"] {
            let message = of_file(Path::new(path)).expect_err("no file").to_string();
            assert!(message.contains(path), "{message}");
        }
        for expression in ["", " ", &"x".repeat(LONGEST + 1)] {
            assert!(matches!(of_expression(expression), Err(BadFilter::Wrong(_))), "{expression}");
        }
    }

    #[test]
    fn a_file_holds_a_program_and_no_expression() {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        std::io::Write::write_all(&mut file, b"1\n6 0 0 7\n").expect("room");
        assert_eq!(of_file(file.path()).expect("a program").run(&[0; 60]), 7);
        std::fs::write(file.path(), "icmp").expect("room");
        let message = of_file(file.path()).expect_err("no program").to_string();
        assert!(message.contains("line 1: `icmp`"), "{message}");
    }
}
