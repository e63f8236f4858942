#![forbid(unsafe_code)]
//! The project's documents as a book.
//!
//! `docs/SUMMARY.md` names the pages. They are copied to a directory that is laid out as the tree, so that a page's
//! links are the same in the book as in the repository, and rendered by mdBook. Then every link of what was rendered
//! is followed. Pages that are made of definitions are checked in and compared.

mod drawing;
mod generated;
mod links;
mod pictures;
mod source;

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::{env, fs};

use anyhow::{Context, Result, bail};
use mdbook_driver::MDBook;
use mdbook_driver::config::Config;

const USAGE: &str = "\
Usage: vmlan-book build DIRECTORY    the book, of which every link is followed
       vmlan-book write              the files of the tree that are made of definitions";

/// The configuration of mdBook. Preprocessors are off: what is in a page is not for them.
const CONFIG: &str = r#"
[book]
title = "vmlan"
description = "Networks for virtual machines, from user space"
language = "en"
src = "."

[build]
build-dir = "html"
create-missing = false
use-default-preprocessors = false

[output.html]
default-theme = "light"
preferred-dark-theme = "navy"
smart-punctuation = false
no-section-label = true
additional-css = ["book.css"]

[output.html.fold]
enable = true
level = 0

[output.html.print]
enable = false

[output.html.playground]
copyable = true
runnable = false

[output.html.search]
limit-results = 30
"#;

fn main() -> ExitCode {
    let words: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let result = match words[..] {
        ["build", directory] => generated::check(&root()).and_then(|()| build(Path::new(directory))),
        ["write"] => generated::write(&root()),
        _ => {
            eprintln!("{USAGE}");
            return ExitCode::from(2);
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// The root of the workspace.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// Builds the book in a directory that it makes anew, and checks its links.
fn build(directory: &Path) -> Result<()> {
    if directory.exists() {
        // Nothing but a book is thrown away.
        if !directory.join(source::MARK).exists() {
            bail!("{} is there and is no book: name another directory", directory.display());
        }
        fs::remove_dir_all(directory).with_context(|| format!("cannot remove {}", directory.display()))?;
    }
    let pages = source::write(&root(), directory)?;
    let config: Config = CONFIG.parse()?;
    MDBook::load_with_config(directory, config)?.build()?;
    let html = directory.join("html");
    let checked = links::check(&html)?;
    eprintln!("{} pages, {checked} links: {}", pages, html.join("index.html").display());
    Ok(())
}
