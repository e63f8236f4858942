//! Listings that are shown again and again (`--watch`).
//!
//! A terminal keeps its state: the newest listing is written over the one before, so nothing has to be put back when
//! the command is ended, in whatever way. Elsewhere listings follow one another.

use std::thread;

use vmlan_api::Timestamp;

use crate::args::{Output, Watch};
use crate::client::ClientError;
use crate::command::Failure;
use crate::output::{Answer, error_text, print_verbatim, tell};
use crate::table::{cut, terminal};

/// Writes what `list` finds, once or again and again.
pub fn show(
    watch: Watch,
    output: Output,
    list: impl Fn(Output) -> Result<Answer, Failure>,
) -> Result<(), Failure> {
    let Some(interval) = watch.watch else { return list(output)?.write() };
    let output = Output { compact: true, ..output };
    // What cannot be asked for at all is an error as ever.
    let mut answer = list(output)?;
    let mut is_first = true;
    loop {
        let time = Timestamp::now().to_string();
        match terminal().filter(|_| !output.json) {
            Some(size) => print_verbatim(&page(&answer, &time, size, is_first))?,
            None if output.json => answer.write()?,
            None => print_verbatim(&format!("{time}\n{}\n", answer.as_str()))?,
        }
        is_first = false;
        answer = loop {
            thread::sleep(interval);
            match list(output) {
                Ok(answer) => break answer,
                Err(failure) => is_lost(failure, terminal().is_some(), output)?,
            }
        };
    }
}

/// Says that the daemon is away; what else fails ends the command.
fn is_lost(failure: Failure, on_terminal: bool, output: Output) -> Result<(), Failure> {
    let Failure::Failed(error) = failure else { return Err(failure) };
    match error.downcast_ref::<ClientError>() {
        Some(ClientError::Unreachable { .. } | ClientError::Closed { .. } | ClientError::Broken { .. }) => {
            let text = error_text(&error);
            let text = text.lines().next().unwrap_or_default();
            if on_terminal && !output.json {
                // The listing below stays.
                let columns = terminal().map_or(80, |(columns, _)| columns);
                let line = format!("trying again: {text}");
                return print_verbatim(&format!("\x1b[s\x1b[H\x1b[2K{}\x1b[u", cut(&line, columns)));
            }
            tell(&format!("trying again: {text}"));
            Ok(())
        }
        _ => Err(Failure::Failed(error)),
    }
}

/// An answer for a terminal of so many columns and lines, written over the one before (ECMA-48: CUP, EL, ED). Lines are
/// erased before they are written: after a line as wide as the terminal its last character would be erased.
fn page(answer: &Answer, time: &str, (columns, rows): (usize, usize), is_first: bool) -> String {
    let mut page = if is_first { "\x1b[2J\x1b[H" } else { "\x1b[H" }.to_owned();
    let mut put = |line: &str| {
        page.push_str("\x1b[2K");
        page.push_str(&cut(line, columns));
        page.push('\n');
    };
    let lines: Vec<_> = answer.as_str().lines().collect();
    // The last line of the terminal stays free, for the cursor is there.
    let room = rows.saturating_sub(2);
    let shown = if lines.len() > room { room.saturating_sub(1) } else { lines.len() };
    put(time);
    lines[..shown].iter().for_each(|line| put(line));
    if shown < lines.len() {
        put(&format!("… {} lines more", lines.len() - shown));
    }
    page.push_str("\x1b[J");
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_fits_the_terminal_and_says_what_is_left_out() {
        let answer = Answer::text("NETWORK  PORT\nlab      web\nlab      db\n");
        let whole =
            "\x1b[2J\x1b[H\x1b[2KT\n\x1b[2KNETWORK  PORT\n\x1b[2Klab      web\n\x1b[2Klab      db\n\x1b[J";
        assert_eq!(page(&answer, "T", (20, 5), true), whole);
        let part = "\x1b[H\x1b[2KT\n\x1b[2KNETWORK  …\n\x1b[2K… 2 lines…\n\x1b[J";
        assert_eq!(page(&answer, "T", (10, 4), false), part);
        assert_eq!(page(&answer, "T", (1, 1), false), "\x1b[H\x1b[2KT\n\x1b[2K…\n\x1b[J");
    }

    #[test]
    fn a_terminal_obeys_nothing_of_an_answer() {
        let answer = Answer::text("a\x1b[2Jb\n");
        assert_eq!(page(&answer, "T", (40, 5), false), "\x1b[H\x1b[2KT\n\x1b[2Ka\\u{1b}[2Jb\n\x1b[J");
    }
}
