//! `support`: one archive for a bug report, and a list of what is in it.
//!
//! It is collected first ([`collect`]), then secrets are taken out and, if asked for, addresses, names and paths
//! ([`mask`]), and what is left is written to a file that was not there ([`archive`]). Nothing leaves the machine. All
//! of it is in memory meanwhile, which [`MOST`] bounds.

mod archive;
mod collect;
#[cfg(target_os = "linux")]
mod linux;
#[cfg(target_os = "macos")]
mod macos;
mod mask;
mod secrets;

#[cfg(target_os = "linux")]
use linux as platform;
#[cfg(target_os = "macos")]
use macos as platform;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use self::archive::Part;
use self::collect::{Collector, Form, Found};
use self::mask::{Document, Kind, Masker};
use crate::args::{Output, SupportArguments};
use crate::command::Failure;
use crate::output::{print, print_json};
use crate::table::table;

/// Octets of all files together.
const MOST: usize = 32 << 20;
const README: &str = "README.txt";

/// Collects everything, writes the archive, and lists it.
pub fn run(
    control: anyhow::Result<PathBuf>,
    arguments: &SupportArguments,
    output: Output,
) -> Result<(), Failure> {
    let directory = archive::default_name();
    let to_stdout = arguments.output.as_deref() == Some(Path::new("-"));
    if to_stdout && io::stdout().is_terminal() {
        let message =
            "-o - writes the archive to standard output, which is a terminal; name a file, or a pipe";
        return Err(Failure::Usage(message.to_owned()));
    }
    if to_stdout && output.json {
        return Err(Failure::Usage(
            "--json writes to standard output too; name a file instead of -".to_owned(),
        ));
    }
    // Better now than after all the work.
    let place = match &arguments.output {
        _ if to_stdout => None,
        Some(path) => Some(archive::Place::at(path.clone())?),
        None => Some(archive::Place::usual(&directory)?),
    };
    // One that is not absolute looks like no path.
    let relative = control.as_ref().ok().filter(|control| control.is_relative()).cloned();
    let mut collector = Collector::new(&control);
    collector.collect(control, Duration::from_secs(arguments.seconds));
    collector.done();
    let mut silence = collector.silence().map(str::to_owned);
    let (found, leases) = (collector.found, collector.leases);
    let mut found = cut(found);
    found.iter_mut().for_each(without_secrets);
    if arguments.mask {
        let mut masker = Masker::default();
        seeds(&mut masker);
        relative.iter().for_each(|control| masker.know(Kind::Path, &control.to_string_lossy()));
        found.iter().for_each(|found| learn(&mut masker, found));
        if let Some(leases) = &leases {
            masker.learn(Document::Answer, leases);
        }
        found.iter_mut().for_each(|found| masked(&mut masker, found));
        silence = silence.map(|reason| masker.text(&reason));
    }
    let readme = readme(&found, silence.as_deref(), arguments.mask);
    let mut parts = vec![Part { name: README.to_owned(), content: readme }];
    let contents = found.iter().filter_map(|found| Some((found.name, found.content.as_ref().ok()?)));
    parts.extend(contents.map(|(name, text)| Part { name: name.to_owned(), content: text.clone() }));
    match place {
        Some(place) => {
            let path = place.write(&directory, &parts)?;
            tell(path, &found, &parts, silence, arguments.mask, output)
        }
        None => archive::pack(io::stdout().lock(), &directory, &parts).map_err(|error| match error.kind() {
            io::ErrorKind::BrokenPipe => Failure::OutputClosed,
            _ => anyhow::Error::new(error).context("standard output cannot be written").into(),
        }),
    }
}

/// Leaves out files that would make it all too large.
fn cut(found: Vec<Found>) -> Vec<Found> {
    let mut room = MOST;
    let keep = |mut found: Found| {
        if let Ok(text) = &found.content {
            match room.checked_sub(text.len()) {
                Some(left) => room = left,
                None => found.content = Err(format!("{} octets are too many", text.len())),
            }
        }
        found
    };
    found.into_iter().map(keep).collect()
}

/// Names that no document of ours tells: this host's, and those of its users.
fn seeds(masker: &mut Masker) {
    let node = rustix::system::uname().nodename().to_string_lossy().into_owned();
    masker.know(Kind::Host, &node);
    for (place, _) in node.match_indices('.') {
        masker.know(Kind::Host, &node[..place]);
        masker.know(Kind::Host, &node[place + 1..]);
    }
    platform::users().iter().for_each(|user| masker.know(Kind::User, user));
    for variable in ["USER", "LOGNAME", "SUDO_USER"] {
        std::env::var(variable).iter().for_each(|user| masker.know(Kind::User, user));
    }
}

fn without_secrets(found: &mut Found) {
    let Ok(text) = &found.content else { return };
    found.content = match found.form {
        Form::Configuration => Ok(secrets::mask_file(text)),
        // Our own text, which tells no configuration.
        Form::Text => return,
        Form::Answer => match serde_json::from_str::<Value>(text) {
            Ok(mut value) => {
                secrets::mask(&mut value);
                Ok(pretty(&value))
            }
            Err(error) => Err(format!("the answer is no JSON: {error}")),
        },
        Form::Lines => return,
    };
}

fn learn(masker: &mut Masker, found: &Found) {
    let Ok(text) = &found.content else { return };
    match found.form {
        Form::Text => {}
        Form::Configuration => {
            if let Ok(value) = toml::from_str::<Value>(text) {
                masker.learn(Document::Configuration, &value);
            }
        }
        Form::Answer => {
            if let Ok(value) = serde_json::from_str(text) {
                masker.learn(Document::Answer, &value);
            }
        }
        Form::Lines => lines(text).for_each(|value| masker.learn(Document::Answer, &value)),
    }
}

fn masked(masker: &mut Masker, found: &mut Found) {
    found.content = match (&found.content, found.form) {
        (Err(reason), _) => Err(masker.text(reason)),
        (Ok(text), Form::Text) => Ok(masker.text(text)),
        // Comments are words of the user's, and go.
        (Ok(text), Form::Configuration) => match toml::from_str::<Value>(text) {
            Ok(value) => toml::to_string_pretty(&masker.value(Document::Configuration, value))
                .map_err(|error| masker.text(&error.to_string())),
            Err(_) => Err("it is no TOML, so that it cannot be masked; `vmlan check` shows where".to_owned()),
        },
        (Ok(text), Form::Answer) => match serde_json::from_str(text) {
            Ok(value) => Ok(pretty(&masker.value(Document::Answer, value))),
            Err(error) => Err(format!("the answer is no JSON: {error}")),
        },
        (Ok(text), Form::Lines) => {
            Ok(lines(text).map(|value| format!("{}\n", masker.value(Document::Answer, value))).collect())
        }
    };
}

fn lines(text: &str) -> impl Iterator<Item = Value> {
    text.lines().filter_map(|line| serde_json::from_str(line).ok())
}

fn pretty(value: &Value) -> String {
    // Plain data is written without errors.
    serde_json::to_string_pretty(value).unwrap_or_default() + "\n"
}

fn readme(found: &[Found], silence: Option<&str>, is_masked: bool) -> String {
    let mut text = format!(
        "An archive of `vmlan support` for a bug report, made {}.\n\nSecrets of the configuration are not in it. {}\n\n",
        vmlan_api::Timestamp::now(),
        match is_masked {
            true => {
                "It is masked: MAC and IP addresses, names of hosts and users, and paths are\nreplaced, each everywhere \
                 by the same (mac-1, ip4-2, ip6-3, host-4, user-5, path-6).\nNames of networks, ports and interfaces \
                 stay, and so do addresses that every machine\nhas (loopback, all-zero, broadcast)."
            }
            false =>
                "It is not masked: it has addresses, names and paths of this machine.\nWith --mask they are replaced.",
        }
    );
    for found in found {
        let about = match &found.content {
            Ok(_) => found.about.to_owned(),
            Err(reason) => format!("{}: NOT HERE: {reason}", found.about),
        };
        text.push_str(&format!("{:<28} {}\n", found.name, vmlan_api::escaped(&about)));
    }
    if let Some(silence) = silence {
        text.push_str(&format!("\nNo daemon answers: {}\n", vmlan_api::escaped(silence)));
    }
    text.push_str(
        "\nThe log is not in it: the daemon writes it to standard error, `journalctl -u vmlan` shows\nthat of a service.\n",
    );
    text
}

/// Lists what is in the archive, and says to look at it.
fn tell(
    path: &Path,
    found: &[Found],
    parts: &[Part],
    silence: Option<String>,
    is_masked: bool,
    output: Output,
) -> Result<(), Failure> {
    let octets = std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    if output.json {
        let file = |found: &Found| {
            json!({
                "file": found.name, "about": found.about, "octets": found.content.as_ref().ok().map(String::len),
                "missing": found.content.as_ref().err(),
            })
        };
        let files: Vec<Value> = found.iter().map(file).collect();
        let path = path.display().to_string();
        return print_json(
            &json!({ "archive": path, "octets": octets, "masked": is_masked, "files": files }),
        );
    }
    let row = |found: &Found| match &found.content {
        Ok(text) => vec![found.name.to_owned(), text.len().to_string(), found.about.to_owned()],
        Err(reason) => vec![found.name.to_owned(), "-".to_owned(), format!("not there: {reason}")],
    };
    let mut rows: Vec<_> = found.iter().map(row).collect();
    let own = parts.first().map_or(0, |part| part.content.len());
    rows.insert(
        0,
        vec![README.to_owned(), own.to_string(), "what each file is, and what is missing".to_owned()],
    );
    let mut text = table(&["FILE", "OCTETS", "CONTENT"], &rows);
    if let Some(silence) = silence {
        text.push_str(&format!("\nNo daemon answers: {}\n", vmlan_api::escaped(&silence)));
    }
    let shown = path.display().to_string();
    let shown = vmlan_api::escaped(&shown);
    text.push_str(&format!("\nWritten to {shown} ({octets} octets), which only its owner can read.\n"));
    text.push_str(match is_masked {
        true => "It is masked, but no program knows every name: look at it before you send it.\n",
        false => "It has addresses, names and paths of this machine; --mask replaces them. Look at it before you send it.\n",
    });
    text.push_str(&format!("To look: tar -xzf {shown}\n"));
    print(&text)
}
