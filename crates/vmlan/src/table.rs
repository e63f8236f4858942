//! Tables, and texts that fit a number of columns of a terminal.

use std::borrow::Cow;
use std::io::{self, IsTerminal as _};

use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Columns that a column of a table keeps, however narrow the terminal is.
const NARROWEST: usize = 4;
/// Blanks between columns.
const GAP: usize = 2;

/// The columns and lines of the terminal that is standard output; none where it is no terminal.
pub fn terminal() -> Option<(usize, usize)> {
    let stdout = io::stdout();
    if !stdout.is_terminal() {
        return None;
    }
    let size = rustix::termios::tcgetwinsize(&stdout).ok()?;
    // A terminal that does not know its size says 0.
    (size.ws_col > 0 && size.ws_row > 0).then(|| (size.ws_col.into(), size.ws_row.into()))
}

/// A table with columns as wide as their widest cell, two blanks between them. On a terminal the widest columns are cut
/// until the table fits.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    lay_out(head, rows, terminal().map(|(columns, _)| columns))
}

/// The same for a terminal with so many columns, or for none, where nothing is cut.
pub fn lay_out(head: &[&str], rows: &[Vec<String>], limit: Option<usize>) -> String {
    let clean = |cell: &String| vmlan_api::escaped(cell).into_owned();
    let head: Vec<String> = head.iter().map(|title| (*title).to_owned()).collect();
    let rows: Vec<Vec<String>> =
        std::iter::once(head).chain(rows.iter().map(|row| row.iter().map(clean).collect())).collect();
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width()).max().unwrap_or(0)
    };
    let mut widths: Vec<usize> = (0..columns).map(width).collect();
    if let Some(limit) = limit {
        narrow(&mut widths, limit);
    }
    let mut text = String::new();
    for row in &rows {
        let line: String =
            row.iter().zip(&widths).map(|(cell, width)| padded(cell, *width) + &" ".repeat(GAP)).collect();
        match limit {
            Some(limit) => text.push_str(cut(line.trim_end(), limit).trim_end()),
            None => text.push_str(line.trim_end()),
        }
        text.push('\n');
    }
    text
}

/// Makes the widest columns narrower until all of them fit `limit`, or none can be narrower.
fn narrow(widths: &mut [usize], limit: usize) {
    for width in &mut *widths {
        *width = (*width).min(limit);
    }
    let gaps = GAP * widths.len().saturating_sub(1);
    while widths.iter().sum::<usize>() + gaps > limit {
        match widths.iter_mut().max() {
            Some(widest) if *widest > NARROWEST => *widest -= 1,
            _ => return,
        }
    }
}

/// `text` in exactly so many columns: with blanks behind it, or cut.
pub fn padded(text: &str, columns: usize) -> String {
    let mut text = cut(text, columns).into_owned();
    text.push_str(&" ".repeat(columns.saturating_sub(text.width())));
    text
}

/// `text` in at most so many columns; `…` stands for what is cut off.
pub fn cut(text: &str, columns: usize) -> Cow<'_, str> {
    if text.width() <= columns {
        return Cow::Borrowed(text);
    }
    let Some(room) = columns.checked_sub(1) else { return Cow::Borrowed("") };
    let mut taken = 0;
    let fits = |character: &char| {
        taken += character.width().unwrap_or(0);
        taken <= room
    };
    let mut short: String = text.chars().take_while(fits).collect();
    short.push('…');
    Cow::Owned(short)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cells(cells: &[&str]) -> Vec<String> {
        cells.iter().map(|cell| (*cell).to_owned()).collect()
    }

    #[test]
    fn columns_are_aligned_and_nothing_trails() {
        let rows = [cells(&["a", "-"]), cells(&["long\u{1b}", "é"])];
        assert_eq!(lay_out(&["X", "YY"], &rows, None), "X           YY\na           -\nlong\\u{1b}  é\n");
    }

    #[test]
    fn a_terminal_obeys_no_cell() {
        let peer = "uid 5 (red\u{1b}[2J\u{9b}1m\u{202e}\nFAKE  ROW\u{e0041})";
        let shown = r"uid 5 (red\u{1b}[2J\u{9b}1m\u{202e}\nFAKE  ROW\u{e0041})";
        assert_eq!(lay_out(&["PEER"], &[cells(&[peer])], None), format!("PEER\n{shown}\n"));
    }

    #[test]
    fn the_widest_columns_are_cut_to_fit_and_only_on_a_terminal() {
        let rows = [cells(&["lab", "web", "at /a/very/long/path/to/a/socket"])];
        let head = ["NETWORK", "PORT", "PEER"];
        let whole = "NETWORK  PORT  PEER\nlab      web   at /a/very/long/path/to/a/socket\n";
        assert_eq!(lay_out(&head, &rows, None), whole);
        assert_eq!(lay_out(&head, &rows, Some(80)), whole);
        let narrow = "NETWORK  PORT  PEER\nlab      web   at /a/very/long…\n";
        assert_eq!(lay_out(&head, &rows, Some(31)), narrow);
    }

    #[test]
    fn no_line_is_wider_than_the_terminal() {
        let rows = [cells(&["世界世界世界世界", "é", &"x".repeat(5_000), "12345678901234567890"])];
        for limit in 1..120 {
            let table = lay_out(&["NETWORK", "PORT", "PEER", "RX OCTETS"], &rows, Some(limit));
            assert!(table.lines().all(|line| line.width() <= limit), "{limit}: {table}");
        }
    }

    #[test]
    fn what_is_cut_says_so() {
        for (columns, text) in [(0, ""), (1, "…"), (2, "…"), (3, "世…"), (4, "世界")] {
            assert_eq!(cut("世界", columns), text);
        }
        assert_eq!(padded("世界", 4), "世界");
        assert_eq!(padded("世界", 2), "… ");
    }
}
