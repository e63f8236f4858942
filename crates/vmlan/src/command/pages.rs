//! The pages on the commands, below docs/commands, made of the command line as clap knows it, and the one on doctor's
//! findings; by a test.

use std::fs;
use std::path::Path;

use clap::{Arg, Command, CommandFactory};

use super::man::{ENVIRONMENT, EXAMPLES, EXIT_STATUS, FILES};
use crate::args::Arguments;
use crate::doctor::Subject;

/// The place of the pages in the tree.
const DIRECTORY: &str = "docs/commands";

/// The page that lists the others.
const INDEX: &str = "README.md";

/// The page on doctor's findings.
const FINDINGS: &str = "../findings.md";

/// The lines at the top of every page.
const NOTE: &str = "<!-- Made of the command line's definitions by `cargo xtask man`. -->\n\n";

#[test]
fn the_pages_are_those_of_the_definitions() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..").join(DIRECTORY);
    let pages = pages();
    let mut stored: Vec<_> = fs::read_dir(&directory).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries.map(|entry| entry.expect("an entry").file_name().into_string().expect("a name")).collect()
        },
    );
    stored.retain(|name| pages.iter().all(|(page, _)| page != name));
    if std::env::var_os("VMLAN_WRITE_COMMANDS").is_some() {
        fs::create_dir_all(&directory).expect("a directory");
        for (name, text) in &pages {
            fs::write(directory.join(name), text).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        for name in &stored {
            fs::remove_file(directory.join(name)).unwrap_or_else(|error| panic!("{name}: {error}"));
        }
        return;
    }
    for (name, text) in &pages {
        let found = fs::read_to_string(directory.join(name)).unwrap_or_default();
        assert!(found == *text, "{DIRECTORY}/{name} is old: cargo xtask man");
    }
    assert!(stored.is_empty(), "no command is explained by {stored:?} in {DIRECTORY}: cargo xtask man");
}

/// The pages with their names.
fn pages() -> Vec<(String, String)> {
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    let visible = || command.get_subcommands().filter(|command| !command.is_hide_set());
    let mut index = format!(
        "{NOTE}# Commands\n\nOne page a command, each with what `vmlan COMMAND --help` says; `vmlan man` writes the \
         same as a manual page.\n\n| Command | Does |\n|---|---|\n"
    );
    for command in visible() {
        let name = command.get_name();
        index.push_str(&format!("| [`vmlan {name}`]({name}.md) | {} |\n", cell(&summary(command))));
    }
    index.push_str("\n## Options of every command\n\n");
    index.push_str(&options(&command, true));
    index.push_str(&format!("\n## Exit status\n\n{EXIT_STATUS}\n"));
    for (title, entries) in [("Environment", &ENVIRONMENT[..]), ("Files", &FILES[..])] {
        index.push_str(&format!("\n## {title}\n\n| Name | Meaning |\n|---|---|\n"));
        for (names, text) in entries {
            let names: Vec<_> = names.split(", ").map(|name| format!("`{name}`")).collect();
            index.push_str(&format!("| {} | {} |\n", names.join(", "), cell(text)));
        }
    }
    index.push_str(&format!("\n## Examples\n\n```sh\n{}\n```\n", EXAMPLES.join("\n")));
    let page = |command: &Command| {
        let mut text = NOTE.to_owned();
        section(&mut text, command, 1);
        (format!("{}.md", command.get_name()), text)
    };
    let others = [(INDEX.to_owned(), index), (FINDINGS.to_owned(), findings())];
    others.into_iter().chain(visible().map(page)).collect()
}

/// The page on doctor's findings. Of the words for pages in them it makes links.
fn findings() -> String {
    let mut page =
        "<!-- Made of the definitions in crates/vmlan/src/doctor/subject.rs by `cargo xtask man`. -->\n\n\
                    # Findings of doctor\n\n"
            .to_owned();
    page.push_str(&wrapped(
        "`vmlan doctor` looks at these things, one a line: whether each is well, what it found, and, where there is \
         something to do, the line that does it. `vmlan explain CHECK` says what is here.",
    ));
    page.push('\n');
    let linked = |text: &str| {
        let words = text.split(' ').map(|word| match word.strip_prefix("docs/") {
            Some(target) => format!("[docs/{}]({target})", target.split('#').next().unwrap_or(target)),
            None => word.to_owned(),
        });
        wrapped(&words.collect::<Vec<_>>().join(" "))
    };
    for subject in Subject::ALL {
        let remedy = linked(&format!("**What to do:** {}", subject.remedy()));
        page.push_str(&format!("\n## `{}`\n\n{}\n\n{remedy}\n", subject.name(), linked(subject.meaning())));
    }
    page
}

/// A command and its subcommands.
fn section(page: &mut String, command: &Command, level: usize) {
    let name = command.get_bin_name().unwrap_or(command.get_name());
    page.push_str(&format!("{} `{name}`\n\n", "#".repeat(level)));
    let about = command.get_long_about().or(command.get_about()).map(ToString::to_string);
    page.push_str(&format!("{}\n", paragraphs(&about.unwrap_or_default())));
    let usage = command.clone().render_usage().to_string();
    page.push_str(&format!("\n```text\n{}\n```\n", usage.trim_start_matches("Usage: ").trim_end()));
    let arguments: Vec<_> =
        command.get_positionals().filter(|argument| !argument.is_hide_set()).map(row).collect();
    if !arguments.is_empty() {
        page.push_str(&format!("\n| Argument | Meaning |\n|---|---|\n{}", arguments.concat()));
    }
    let options = options(command, false);
    if !options.is_empty() {
        page.push_str(&format!("\n{options}"));
    }
    if let Some(after) = command.get_after_long_help().or(command.get_after_help()) {
        page.push_str(&format!("\n```text\n{}\n```\n", after.to_string().trim_end()));
    }
    for command in command.get_subcommands().filter(|command| !command.is_hide_set()) {
        page.push('\n');
        section(page, command, level + 1);
    }
}

/// The table of a command's options: of those that every command has, or of its own; empty without any.
fn options(command: &Command, global: bool) -> String {
    let is_general = |argument: &Arg| {
        argument.is_global_set() || ["help", "version"].contains(&argument.get_id().as_str())
    };
    let rows: String = command
        .get_opts()
        .chain(
            command
                .get_arguments()
                .filter(|argument| !argument.is_positional() && !argument.get_action().takes_values()),
        )
        .filter(|argument| is_general(argument) == global && !argument.is_hide_set())
        .map(row)
        .collect();
    if rows.is_empty() { rows } else { format!("| Option | Meaning |\n|---|---|\n{rows}") }
}

/// A row about an argument, with its values and its default.
fn row(argument: &Arg) -> String {
    let mut meaning =
        argument.get_long_help().or(argument.get_help()).map(ToString::to_string).unwrap_or_default();
    let values: Vec<_> = argument
        .get_possible_values()
        .iter()
        .filter(|value| !value.is_hide_set())
        .map(|value| format!("`{}`", value.get_name()))
        .collect();
    if argument.get_action().takes_values() && !values.is_empty() && !argument.is_hide_possible_values_set() {
        meaning.push_str(&format!(". One of {}", values.join(", ")));
    }
    let defaults: Vec<_> =
        argument.get_default_values().iter().map(|value| format!("`{}`", value.to_string_lossy())).collect();
    if argument.get_action().takes_values() && !defaults.is_empty() && !argument.is_hide_default_value_set() {
        meaning.push_str(&format!(". Default: {}", defaults.join(" ")));
    }
    if let Some(variable) = argument.get_env() {
        meaning.push_str(&format!(". Variable: `{}`", variable.to_string_lossy()));
    }
    let short = argument.get_short().map(|short| format!("`-{short}`, ")).unwrap_or_default();
    format!("| {short}`{}` | {} |\n", argument.to_string().replace('|', "\\|"), cell(&meaning))
}

fn summary(command: &Command) -> String {
    command.get_about().map(ToString::to_string).unwrap_or_default()
}

/// Text as a cell of a table, in which a paragraph ends with a full stop.
fn cell(text: &str) -> String {
    let text = text.replace(".\n\n", "\n\n").replace("\n\n", ". ");
    markdown(&text).replace('|', "\\|").split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Text as paragraphs.
fn paragraphs(text: &str) -> String {
    let paragraphs = text.split("\n\n").map(|paragraph| wrapped(&markdown(paragraph)));
    paragraphs.collect::<Vec<_>>().join("\n\n")
}

/// A paragraph in lines that are not too long.
fn wrapped(text: &str) -> String {
    /// Characters of a line.
    const MOST: usize = 120;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        let line = lines.last_mut().expect("a line");
        if line.is_empty() {
            line.push_str(word);
        } else if line.chars().count() + 1 + word.chars().count() <= MOST {
            line.push_str(&format!(" {word}"));
        } else {
            lines.push(word.to_owned());
        }
    }
    lines.join("\n")
}

/// Text whose signs mean nothing in Markdown but for backticks.
fn markdown(text: &str) -> String {
    let mut is_code = false;
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        is_code ^= c == '`';
        if !is_code && matches!(c, '<' | '>' | '*' | '_' | '[' | ']' | '\\') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}

#[test]
fn signs_of_markdown_are_text_but_in_code() {
    assert_eq!(markdown("a_b `c_d` <e>"), "a\\_b `c_d` \\<e\\>");
    assert_eq!(cell("a | b\n  c\n\nD"), "a \\| b c. D");
}
