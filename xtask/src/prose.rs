//! Prose: the lengths of lines in comments and pages, and the first words of doc comments.

use std::fs;

use crate::shell::{Error, capture, program, root};

/// Characters of a line of a comment at most.
const COMMENT: usize = 120;

/// Characters of a line of a page at most.
const PAGE: usize = 160;

/// A summary that begins with one of these says neither what a function does nor what a thing is.
const NO_BEGINNING: [&str; 8] =
    ["What ", "Who ", "Whom ", "Whoever ", "Whether ", "Somebody ", "Nobody ", "Anybody "];

/// Lines told of at most.
const TOLD: usize = 20;

/// Checks all files that git knows.
///
/// # Errors
/// When there are some, or a file cannot be read; names the first of them.
pub fn run() -> Result<(), Error> {
    let Some(files) = capture(&mut program("git", ["ls-files", "*.rs", "*.md"])) else {
        eprintln!("NO GIT: the lengths of lines are not looked at");
        return Ok(());
    };
    let mut troubles = Vec::new();
    for file in files.lines() {
        let Ok(text) = fs::read_to_string(root().join(file)) else {
            // Removed and not committed yet.
            continue;
        };
        let (long, most) = match file.ends_with(".rs") {
            true => (long_comments(&text), COMMENT),
            false => (long_prose(&text), PAGE),
        };
        troubles
            .extend(long.into_iter().map(|line| format!("{file}:{line} is longer than {most} characters")));
        let begins = |line| {
            format!(
                "{file}:{line} begins like a question; begin with a verb for a function, else with a noun"
            )
        };
        if file.ends_with(".rs") {
            troubles.extend(questions(&text).into_iter().map(begins));
        }
    }
    let more = troubles.len().saturating_sub(TOLD);
    troubles.truncate(TOLD);
    if more > 0 {
        troubles.push(format!("and {more} more"));
    }
    if troubles.is_empty() { Ok(()) } else { Err(Error::Failed(troubles.join("\n"))) }
}

/// The numbers of lines of comments that are too long. A row of a table is as long as it has to be.
fn long_comments(text: &str) -> Vec<usize> {
    let is_long = |line: &str| {
        let comment =
            line.trim_start().strip_prefix("//").map(|rest| rest.trim_start_matches(['/', '!', ' ']));
        line.chars().count() > COMMENT && comment.is_some_and(|comment| !comment.starts_with('|'))
    };
    numbered(text).filter(|(_, line)| is_long(line)).map(|(number, _)| number).collect()
}

/// The numbers of lines of prose that are too long: not of tables, headings, pictures, and code.
fn long_prose(text: &str) -> Vec<usize> {
    let mut is_code = false;
    let mut long = Vec::new();
    for (number, line) in numbered(text) {
        is_code ^= line.starts_with("```");
        let is_prose = !is_code && !line.starts_with(['|', '#', '!']) && !line.starts_with("    ");
        if is_prose && line.chars().count() > PAGE {
            long.push(number);
        }
    }
    long
}

/// The numbers of lines of doc comments with one of the beginnings that none may have.
fn questions(text: &str) -> Vec<usize> {
    let is_question = |line: &str| {
        let line = line.trim_start();
        let comment = line.strip_prefix("/// ").or_else(|| line.strip_prefix("//! "));
        comment.is_some_and(|comment| NO_BEGINNING.iter().any(|word| comment.starts_with(word)))
    };
    numbered(text).filter(|(_, line)| is_question(line)).map(|(number, _)| number).collect()
}

fn numbered(text: &str) -> impl Iterator<Item = (usize, &str)> {
    (1..).zip(text.lines())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn comments_are_measured_and_tables_and_code_are_not() {
        let long = "x".repeat(COMMENT);
        let text = format!("//! {long}\nlet x = \"{long}\";\n    /// | {long} |\n// short\n//{long}\n");
        assert_eq!(long_comments(&text), [1, 5]);
    }

    #[test]
    fn doc_comments_that_begin_like_questions_are_found() {
        let text = "//! What it is.\n/// Returns what it is.\n    /// Whether it is.\n// What follows\n/// Whatever.\n";
        assert_eq!(questions(text), [1, 3]);
    }

    #[test]
    fn paragraphs_are_measured_and_tables_and_code_are_not() {
        let long = "x".repeat(PAGE + 1);
        let text = format!("{long}\n| {long} |\n```\n{long}\n```\n- {long}\n# {long}\n");
        assert_eq!(long_prose(&text), [1, 6]);
    }
}
