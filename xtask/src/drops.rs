//! The drop reasons that the web page explains, made of the page on them, so that there is one text.

use std::fs;

use serde_json::{Map, json};

use crate::shell::{Error, root};

/// The page that they are made of, and their file.
const SOURCE: &str = "docs/drops.md";
const FILE: &str = "crates/ui/page/drops.json";

/// Writes the file.
///
/// # Errors
/// When a file cannot be read or written.
pub fn write() -> Result<(), Error> {
    fs::write(root().join(FILE), reasons()?).map_err(|error| Error::Failed(format!("{FILE}: {error}")))
}

/// Compares the file with its source.
///
/// # Errors
/// When it is old.
pub fn check() -> Result<(), Error> {
    match fs::read_to_string(root().join(FILE)) {
        Ok(stored) if stored == reasons()? => Ok(()),
        _ => Err(Error::Failed(format!("{FILE} is not what {SOURCE} says: cargo xtask man"))),
    }
}

fn reasons() -> Result<String, Error> {
    let source = fs::read_to_string(root().join(SOURCE));
    let source = source.map_err(|error| Error::Failed(format!("{SOURCE}: {error}")))?;
    // What counts no drop stands behind this.
    let drops = source.split("\n## No drop").next().unwrap_or_default();
    let reasons: Map<_, _> = drops.lines().filter_map(reason).collect();
    let text = serde_json::to_string_pretty(&reasons);
    text.map(|text| text + "\n").map_err(|error| Error::Failed(format!("{FILE}: {error}")))
}

/// A row of the table that explains a reason.
fn reason(line: &str) -> Option<(String, serde_json::Value)> {
    let cells = line.strip_prefix("| `")?.strip_suffix(" |")?;
    let mut cells = cells.split(" | ");
    let reason = cells.next()?.strip_suffix('`')?;
    let (way, meaning, remedy) = (cells.next()?, cells.next()?, cells.next()?);
    let plain = |text: &str| text.replace('`', "");
    Some((reason.to_owned(), json!({ "way": way, "meaning": plain(meaning), "remedy": plain(remedy) })))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_a_reason_with_its_cure() {
        let row = "| `runt` | in | Shorter than 14 octets. | Look at `tap0`. |";
        let told = json!({ "way": "in", "meaning": "Shorter than 14 octets.", "remedy": "Look at tap0." });

        assert_eq!(reason(row), Some(("runt".to_owned(), told)));
        assert_eq!(reason("| Reason | Way | Meaning | What to do |"), None);
        assert_eq!(reason("|---|---|---|---|"), None);
    }
}
