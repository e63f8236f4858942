//! Each page of docs/recipes says whether it is run, its row in the list says the same, and so do the tests.

use std::collections::BTreeMap;

use crate::RUN;
use crate::recipe::{directory, steps, text};

/// The beginnings of the line that says so, and the words of the list.
const WORDS: [(&str, &str); 3] = [("**By a test", "test"), ("**By hand", "hand"), ("**Not run", "not run")];

/// The pages but the first one, with the word that each says of itself.
fn pages() -> BTreeMap<String, &'static str> {
    let mut pages = BTreeMap::new();
    for entry in std::fs::read_dir(directory()).expect("the pages") {
        let name = entry.expect("an entry").file_name().into_string().expect("a name");
        if name.ends_with(".md") && name != "README.md" {
            let page = text(&name);
            let says = |line: &str| WORDS.iter().find(|(begin, _)| line.starts_with(begin));
            let word = page.lines().find_map(says);
            let (_, word) = word.unwrap_or_else(|| panic!("{name} does not say whether it is run"));
            pages.insert(name, *word);
        }
    }
    pages
}

#[test]
fn the_list_says_of_every_page_what_the_page_says() {
    let list = text("README.md");
    let mut listed = BTreeMap::new();
    for row in list.lines().filter(|line| line.starts_with("| [")) {
        let cells: Vec<_> = row.trim_matches('|').split(" | ").map(str::trim).collect();
        let page = cells[0].split("](").nth(1).and_then(|link| link.split(')').next()).expect("a link");
        let run = *cells.last().expect("a cell");
        let word = WORDS.iter().find(|(_, word)| *word == run);
        let (_, word) = word.unwrap_or_else(|| panic!("{page}: `{run}` is none of the words"));
        assert_eq!(listed.insert(page.to_owned(), *word), None, "{page} is listed twice");
    }
    assert_eq!(listed, pages());
}

#[test]
fn pages_that_are_run_have_steps_and_others_have_none() {
    for (page, word) in pages() {
        let is_run = word == "test";
        assert_eq!(RUN.contains(&page.as_str()), is_run, "{page} says `{word}`");
        assert_eq!(!steps(&text(&page)).is_empty(), is_run, "{page} says `{word}`");
    }
    assert!(RUN.iter().all(|page| directory().join(page).exists()), "{RUN:?}");
}
