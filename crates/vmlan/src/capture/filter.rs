//! The filter of a capture.

use std::path::Path;

use vmlan_daemon::expression::{self, BadFilter};

use crate::command::Failure;

/// The checked program of `-f`, in the form of `tcpdump -ddd`: `@FILE`, a program, or an expression.
pub fn program(filter: &str) -> Result<String, Failure> {
    if filter.trim().is_empty() {
        return Err(Failure::Usage("the filter is empty; leave -f away to capture everything".into()));
    }
    let program = if let Some(path) = filter.strip_prefix('@') {
        expression::of_file(Path::new(path)).map(|program| program.to_string())
    } else if expression::is_program(filter) {
        expression::of_text(filter)
            .map(|program| program.to_string())
            .map_err(|error| BadFilter::Wrong(format!("the filter: {error}")))
    } else {
        expression::of_expression(filter).map(|program| program.to_string())
    };
    program.map_err(|error| match error {
        BadFilter::Wrong(message) => Failure::Usage(message),
        BadFilter::Failed(message) => Failure::Failed(anyhow::anyhow!(message)),
    })
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
    fn faults_name_the_place() {
        for (filter, expected) in [
            ("2\n6 0 0 60\n6 0 x 0", "line 3"),
            ("3\n6 0 0 60", "1 of 3"),
            ("", "empty"),
            ("@/no/such/file", "/no/such/file"),
        ] {
            let message = complaint(program(filter));
            assert!(message.contains(expected), "{filter:?}: {message}");
        }
    }
}
