//! The documents as a book. The crate `vmlan-book` makes it; it is no part of this one, which is built for every task.

use crate::shell::{Error, cargo, program, run as run_command, target};

/// Builds the book in `target/book` and checks its links; opens it when it is asked to.
///
/// # Errors
/// When the crate cannot be built, a page is missing or has a link that leads nowhere, or nothing opens the book.
pub fn run(open: bool) -> Result<(), Error> {
    let directory = target().join("book");
    let mut build = cargo(["run", "--quiet", "--locked", "--package", "vmlan-book", "--", "build"]);
    run_command(build.arg(&directory))?;
    if !open {
        return Ok(());
    }
    let opener = if cfg!(target_os = "macos") { "open" } else { "xdg-open" };
    run_command(program(opener, []).arg(directory.join("html/index.html")))
}

/// The test that compares the pages on the commands, or writes them when it is asked to. It is the program's own, which
/// alone knows its command line.
const COMMANDS: &str = "the_pages_are_those_of_the_definitions";

/// Writes what is made of definitions.
///
/// # Errors
/// When a crate cannot be built, or a file cannot be written.
pub fn write() -> Result<(), Error> {
    let commands = ["test", "--quiet", "--locked", "-p", "vmlan", "--bin", "vmlan", COMMANDS];
    run_command(&mut cargo(["run", "--quiet", "--locked", "--package", "vmlan-book", "--", "write"]))
        .and(run_command(cargo(commands).env("VMLAN_WRITE_COMMANDS", "1")))
}

/// Tests the crate and builds the book: the tests of the workspace are without it, so that mdBook is built once.
///
/// # Errors
/// When one of both fails.
pub fn check() -> Result<(), Error> {
    run_command(&mut cargo(["test", "--quiet", "--locked", "--package", "vmlan-book"])).and(run(false))
}
