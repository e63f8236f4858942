//! The manual pages: the command line as clap knows it, in one page with a section a command, or in a page a command.

use std::path::Path;
use std::{fs, io};

use clap::{Command, CommandFactory};
use clap_mangen::Man;

use crate::args::Arguments;

/// The exit status of every command.
pub const EXIT_STATUS: &str = "0 on success, 1 on failure, 2 when the command line is wrong.";

/// Variables that the program reads.
pub const ENVIRONMENT: [(&str, &str); 4] = [
    ("VMLAN_CONTROL", "Control socket, where --control does not name one."),
    (
        "VMLAN_LOG",
        "What the daemon writes to its log: off, error, warn, info (the default), debug or trace, for all or for a \
         part\n(daemon, dataplane, drivers, link, ports), as in daemon=debug,info.\n\
         Lines of debug and trace are not limited in number.",
    ),
    (
        "NO_COLOR",
        "When it is set and not empty, nothing is coloured; elsewhere than on a terminal nothing is anyhow.",
    ),
    (
        "XDG_RUNTIME_DIR, XDG_CONFIG_HOME",
        "Where the control socket and the configuration file of a user other than root are.",
    ),
];

/// Files that the program uses.
pub const FILES: [(&str, &str); 3] = [
    (
        "/run/vmlan/control.sock",
        "Control socket of root's daemon; HTTP/1.1 with JSON, described in docs/api.md.",
    ),
    (
        "$XDG_RUNTIME_DIR/vmlan/control.sock",
        "Control socket of another user's daemon; /tmp/vmlan-UID/control.sock without the variable.",
    ),
    (
        "/etc/vmlan/vmlan.toml, $XDG_CONFIG_HOME/vmlan/vmlan.toml",
        "Configuration file that `vmlan run` takes when none is named, root's and another user's; ~/.config without \
         the variable.",
    ),
];

/// Command lines that show what can be done.
pub const EXAMPLES: [&str; 7] = [
    "vmlan check vmlan.toml --here",
    "vmlan run vmlan.toml",
    "vmlan port add lab web stream listen=web.sock",
    "vmlan port show lab/web",
    "vmlan top lab",
    "vmlan counters --watch=5 --json",
    "vmlan config > vmlan.toml",
];

const SEE_ALSO: &str =
    "vmlan.toml(5), docs/api.md, docs/drops.md, docs/errors.md, qemu(1), vde_switch(1), tcpdump(8)";

/// The page in roff.
pub fn page() -> io::Result<String> {
    let mut command = Arguments::command().term_width(80).disable_help_subcommand(true);
    command.build();
    let mut page = Vec::new();
    let man = Man::new(command.clone()).manual("vmlan manual");
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    man.render_synopsis_section(&mut page)?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    let mut page = String::from_utf8_lossy(&page).into_owned();
    for subcommand in command.get_subcommands_mut().filter(|subcommand| !subcommand.is_hide_set()) {
        section(&mut page, subcommand);
    }
    closing(&mut page);
    Ok(page)
}

/// Writes the pages into a directory, which is made: vmlan.1 with all, and one for each command, as vmlan-port-add.1.
///
/// # Errors
/// When the directory cannot be made, or a page cannot be written.
pub fn write_pages(directory: &Path) -> io::Result<()> {
    fs::create_dir_all(directory)?;
    fs::write(directory.join("vmlan.1"), page()?)?;
    let mut command = Arguments::command().disable_help_subcommand(true);
    command.build();
    command.get_subcommands().try_for_each(|subcommand| write_page(subcommand, directory))
}

fn write_page(command: &Command, directory: &Path) -> io::Result<()> {
    if command.is_hide_set() {
        return Ok(());
    }
    let man = Man::new(command.clone()).manual("vmlan manual");
    let mut page = Vec::new();
    man.render(&mut page)?;
    page.extend_from_slice(b".SH \"SEE ALSO\"\nvmlan(1), vmlan.toml(5)\n");
    fs::write(directory.join(man.get_filename()), page)?;
    command.get_subcommands().try_for_each(|subcommand| write_page(subcommand, directory))
}

/// The sections that clap does not know.
fn closing(page: &mut String) {
    page.push_str(&format!(".SH \"EXIT STATUS\"\n{EXIT_STATUS}\n"));
    for (title, entries) in [("ENVIRONMENT", &ENVIRONMENT[..]), ("FILES", &FILES[..])] {
        page.push_str(&format!(".SH {title}\n"));
        for (names, text) in entries {
            page.push_str(&format!(".TP\n{}\n{}\n", names.replace('-', "\\-"), text.replace('-', "\\-")));
        }
    }
    let examples: Vec<_> = EXAMPLES.iter().map(|line| line.replace('-', "\\-")).collect();
    page.push_str(&format!(".SH EXAMPLES\n.nf\n{}\n.fi\n", examples.join("\n")));
    page.push_str(&format!(".SH \"SEE ALSO\"\n{SEE_ALSO}\n"));
}

fn section(page: &mut String, command: &mut Command) {
    if command.has_subcommands() && command.is_subcommand_required_set() {
        command.get_subcommands_mut().for_each(|subcommand| section(page, subcommand));
        return;
    }
    let title = command.get_bin_name().unwrap_or(command.get_name()).to_uppercase();
    page.push_str(&format!(".SH \"{title}\"\n.nf\n"));
    for line in command.render_long_help().to_string().trim_end().lines() {
        // A leading dot or quote would be a request to roff.
        let line = line.replace('\\', "\\e").replace('-', "\\-");
        page.push_str(&format!("\\&{}\n", line.trim_end()));
    }
    page.push_str(".fi\n");
    command.get_subcommands_mut().for_each(|subcommand| section(page, subcommand));
}
