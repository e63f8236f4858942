//! Expressions by tcpdump.

use std::io;
use std::process::{Command, Stdio};

use anyhow::anyhow;

use crate::command::Failure;

/// What makes a program of an expression.
pub const COMPILER: &str = "tcpdump";

/// What tcpdump makes of an expression for Ethernet, in the form of `tcpdump -ddd`.
pub fn compile(expression: &str) -> Result<String, Failure> {
    run("tcpdump", expression)
}

fn run(tcpdump: &str, expression: &str) -> Result<String, Failure> {
    let mut command = Command::new(tcpdump);
    command.args(["-ddd", "-y", "EN10MB", "--", expression]).stdin(Stdio::null());
    let output = command.output().map_err(|error| match error.kind() {
        io::ErrorKind::NotFound => anyhow!(
            "`{expression}` is an expression, and tcpdump, which makes a program of it, is not installed; install it, \
             or do it on another machine: tcpdump -ddd -y EN10MB '{expression}' > FILE, and then -f @FILE"
        ),
        _ => anyhow::Error::new(error).context("tcpdump cannot be run"),
    })?;
    if !output.status.success() {
        let complaint = String::from_utf8_lossy(&output.stderr);
        return Err(Failure::Usage(format!("tcpdump does not take `{expression}`: {}", complaint.trim())));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_tcpdump_the_message_says_what_to_do() {
        match run("/no/such/tcpdump", "icmp") {
            Err(Failure::Failed(error)) => {
                let message = error.to_string();
                assert!(message.contains("tcpdump -ddd -y EN10MB 'icmp' > FILE"), "{message}");
            }
            other => panic!("{other:?}"),
        }
    }
}
