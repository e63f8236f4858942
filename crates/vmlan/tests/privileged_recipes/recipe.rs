//! A page of docs/recipes as a list of steps. A comment of the page says what the block of code behind it is:
//!
//! | Comment | Block |
//! |---|---|
//! | `<!-- recipe: run -->` | commands for a shell of the host, which has to succeed |
//! | `<!-- recipe: watch -->` | commands that are run until they write what the next block shows, in form |
//! | `<!-- recipe: file NAME -->` | the content of a file of the host |
//! | `<!-- recipe: … on MACHINE -->` | the same on another machine of the test; `on A and B` on each of them |
//!
//! Every machine has a directory of its own, and one shell for the whole page.

use std::path::{Path, PathBuf};

use crate::page::block;

/// One block of a page, on one machine.
#[derive(Debug, PartialEq, Eq)]
pub struct Step {
    pub machines: Vec<String>,
    pub action: Action,
}

#[derive(Debug, PartialEq, Eq)]
pub enum Action {
    Run(String),
    Watch { commands: String, shows: String },
    File { name: String, content: String },
}

/// Where the pages are.
pub fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/recipes")
}

/// The text of a page.
#[track_caller]
pub fn text(page: &str) -> String {
    let path = directory().join(page);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The part of a page's text from a heading to the next one, of any level.
#[track_caller]
pub fn section<'a>(text: &'a str, heading: &str) -> &'a str {
    let start = text.find(&format!("{heading}\n")).unwrap_or_else(|| panic!("there is no {heading}"));
    let rest = &text[start + heading.len()..];
    rest.find("\n##").map_or(rest, |end| &rest[..end])
}

/// The steps of a page's text.
#[track_caller]
pub fn steps(text: &str) -> Vec<Step> {
    let mut steps = Vec::new();
    let mut rest = text;
    while let Some((_, behind)) = rest.split_once("<!-- recipe: ") {
        let (words, behind) = behind.split_once(" -->").expect("the end of a comment");
        let (what, machine) = words.split_once(" on ").unwrap_or((words, "host"));
        let (content, behind) = block(behind);
        rest = behind;
        let content = content.to_owned();
        let action = match what.split_once(' ') {
            None if what == "run" => Action::Run(content),
            None if what == "watch" => {
                let (shows, behind) = block(rest);
                rest = behind;
                Action::Watch { commands: content, shows: shows.to_owned() }
            }
            Some(("file", name)) => Action::File { name: name.to_owned(), content },
            _ => panic!("there is no such step: {words}"),
        };
        let machines = machine.split(" and ").map(str::to_owned).collect();
        steps.push(Step { machines, action });
    }
    steps
}

#[test]
fn steps_are_read_in_their_order() {
    let text = "# A\n<!-- recipe: file a.toml -->\n```toml\nworkers = 1\n```\nand\n<!-- recipe: run on red and blue -->\n\
                ```sh\ntrue\n```\n```sh\nfalse\n```\n<!-- recipe: watch -->\n```sh\nls\n```\n\n```\na.toml\n```\n";
    let step = |machines: &[&str], action| Step {
        machines: machines.iter().map(|&name| name.to_owned()).collect(),
        action,
    };
    let expected = [
        step(&["host"], Action::File { name: "a.toml".into(), content: "workers = 1\n".into() }),
        step(&["red", "blue"], Action::Run("true\n".into())),
        step(&["host"], Action::Watch { commands: "ls\n".into(), shows: "a.toml\n".into() }),
    ];
    assert_eq!(steps(text), expected);
}

#[test]
fn a_section_ends_at_the_next_heading() {
    let text = "# A\n\n## B\n1\n### C\n2\n## D\n3\n";
    assert_eq!(
        (section(text, "## B"), section(text, "### C"), section(text, "## D")),
        ("\n1", "\n2", "\n3\n")
    );
}
