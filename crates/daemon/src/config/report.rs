//! The faults of a configuration file, shown at their places.

use std::fmt;
use std::ops::Range;

use super::fault::Fault;

/// Characters of a line that are shown; of a longer one, those around the fault.
const WIDTH: usize = 100;
/// How many of them stand before the fault when the line is cut.
const LEAD: usize = 40;

/// Why a configuration file was refused: all faults, each with its place and the line itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigErrors {
    file: String,
    faults: Vec<Located>,
}

/// A fault and its place for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// The fault.
    pub error: vmlan_api::Error,
    /// Where it is; `None` where it concerns the file as a whole.
    pub place: Option<Place>,
}

/// A place in a text, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// The line, or the part of it around the fault, without control characters.
    pub text: String,
    /// The characters of `text` at fault.
    pub marked: Range<usize>,
}

impl ConfigErrors {
    pub(super) fn new(file: String, text: &str, faults: Vec<Fault>) -> Self {
        let locate =
            |fault: Fault| Located { place: fault.span.map(|span| place(text, span)), error: fault.error };
        Self { file, faults: faults.into_iter().map(locate).collect() }
    }

    /// A fault of the file as a whole.
    pub(super) fn whole(file: String, error: vmlan_api::Error) -> Self {
        Self { file, faults: vec![Located { error, place: None }] }
    }

    /// The faults in the order of the text; at least one.
    pub fn faults(&self) -> &[Located] {
        &self.faults
    }

    /// The same for a client of the control interface: messages begin with file, line and column.
    pub fn to_api(&self) -> vmlan_api::Error {
        let with_place = |fault: &Located| {
            let message = match &fault.place {
                Some(place) => {
                    format!("{}:{}:{}: {}", self.file, place.line, place.column, fault.error.message)
                }
                None => format!("{}: {}", self.file, fault.error.message),
            };
            vmlan_api::Error { message, ..fault.error.clone() }
        };
        vmlan_api::Error::from_faults(self.faults.iter().map(with_place).collect())
    }
}

impl std::error::Error for ConfigErrors {}

impl fmt::Display for ConfigErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, Located { error, place }) in self.faults.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            writeln!(f, "error: {}", error.message)?;
            let Some(place) = place else {
                writeln!(f, " --> {}", self.file)?;
                continue;
            };
            let margin = " ".repeat(place.line.to_string().len());
            writeln!(f, "{margin}--> {}:{}:{}", self.file, place.line, place.column)?;
            writeln!(f, "{margin} |")?;
            writeln!(f, "{} | {}", place.line, place.text)?;
            let (indent, marks) = (" ".repeat(place.marked.start), "^".repeat(place.marked.len()));
            writeln!(f, "{margin} | {indent}{marks}")?;
        }
        Ok(())
    }
}

/// Where `span` begins, with its line; what goes beyond the line is not marked.
fn place(text: &str, span: Range<usize>) -> Place {
    let start = boundary(text, span.start.min(text.len()));
    let line_start = text[..start].rfind('\n').map_or(0, |newline| newline + 1);
    let line_end = text[start..].find('\n').map_or(text.len(), |newline| start + newline);
    let end = boundary(text, span.end.clamp(start, line_end));

    let column = text[line_start..start].chars().count();
    let first =
        if text[line_start..line_end].chars().count() > WIDTH { column.saturating_sub(LEAD) } else { 0 };
    let visible = |c: char| if c.is_control() { ' ' } else { c };
    let shown: String = text[line_start..line_end].chars().skip(first).take(WIDTH).map(visible).collect();
    let shown_length = shown.chars().count();
    let mark_start = (column - first).min(shown_length);
    let mark_end = (mark_start + text[start..end].chars().count())
        .clamp(mark_start + 1, shown_length.max(mark_start + 1));
    Place {
        line: text[..line_start].matches('\n').count() + 1,
        column: column + 1,
        text: shown.trim_end().to_owned(),
        marked: mark_start..mark_end,
    }
}

/// The last boundary between characters up to `index`, which is within the text.
fn boundary(text: &str, index: usize) -> usize {
    (0..=index).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0)
}
