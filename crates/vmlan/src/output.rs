//! How answers and errors are written.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde::Serialize;

use crate::client::ClientError;
use crate::command::Failure;

/// Writes a text to stdout.
pub fn print(text: &str) -> Result<(), Failure> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Failure::OutputClosed,
        _ => Failure::Failed(anyhow::Error::new(error).context("the output cannot be written")),
    })
}

/// Writes a value to stdout as JSON.
pub fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(value).map_err(anyhow::Error::new)?;
    print(&(text + "\n"))
}

/// A table with columns as wide as their widest cell, two blanks between them.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let clean =
        |cell: &String| cell.chars().map(|c| if c.is_control() { '?' } else { c }).collect::<String>();
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(rows.iter().map(|row| row.iter().map(clean).collect())).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for row in &rows {
        let line: String = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect();
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// `-` for what is not there.
pub fn or_dash(text: Option<&str>) -> String {
    text.filter(|text| !text.is_empty()).unwrap_or("-").to_owned()
}

/// An error with its causes, the faults of a configuration one a line, and what to do.
pub fn error_text(error: &anyhow::Error) -> String {
    let Some(client) = error.downcast_ref::<ClientError>() else { return format!("{error:#}") };
    let mut text = client.to_string();
    match client {
        ClientError::Refused(error) if !error.details.is_empty() => {
            text = format!("{} errors in the configuration:", error.details.len());
            for fault in &error.details {
                let _ = write!(text, "\n  {fault}");
            }
        }
        _ => {}
    }
    if let Some(hint) = client.hint() {
        let _ = write!(text, "\n{hint}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let rows = [vec!["a".to_owned(), "-".to_owned()], vec!["long\u{1b}".to_owned(), "é".to_owned()]];
        assert_eq!(table(&["X", "YY"], &rows), "X      YY\na      -\nlong?  é\n");
    }

    #[test]
    fn all_faults_of_a_configuration_are_listed() {
        let fault = |field: &str| api::Error::at(api::ErrorCode::BadMac, field, "no MAC address");
        let error = api::Error::from_faults(vec![fault("a"), fault("b")]);
        let text = error_text(&anyhow::Error::new(ClientError::Refused(Box::new(error))));
        assert_eq!(text, "2 errors in the configuration:\n  a: no MAC address\n  b: no MAC address");
    }
}
