//! Expressions by libpcap, which this program is linked with.

use pcap::{Capture, Linktype};

use super::BadFilter;

/// Name of the compiler of expressions.
pub(super) const COMPILER: &str = "libpcap";

/// Compiles an expression for Ethernet with libpcap, into the form of `tcpdump -ddd`.
pub(super) fn compile(expression: &str) -> Result<String, BadFilter> {
    let capture =
        Capture::dead(Linktype::ETHERNET).map_err(|error| BadFilter::Failed(format!("libpcap: {error}")))?;
    let program = capture
        .compile(expression, true)
        .map_err(|error| BadFilter::Wrong(format!("libpcap does not take `{expression}`: {error}")))?;
    let instructions = program.get_instructions();
    let lines: Vec<_> = instructions.iter().map(ToString::to_string).collect();
    Ok(format!("{}\n{}\n", lines.len(), lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_expression_becomes_the_program_that_tcpdump_makes() {
        let text = compile("icmp").expect("an expression");
        // Two loads with their tests, and two returns.
        assert!(text.starts_with("6\n40 0 0 12\n"), "{text}");
        assert!(super::super::of_expression("tcp port 80 and not host 10.0.0.1").is_ok());
    }

    #[test]
    fn a_typing_error_is_told() {
        match compile("tpc port 80") {
            Err(BadFilter::Wrong(message)) => assert!(message.contains("`tpc port 80`"), "{message}"),
            other => panic!("{other:?}"),
        }
        assert!(compile("ip\0").is_err());
    }
}
