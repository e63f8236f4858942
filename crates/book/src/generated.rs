//! The files of the tree that are made of definitions: the pages on error codes and drop reasons, the web page's drop
//! reasons, and the pictures. They are checked in, so that the repository shows them, and compared.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use serde_json::{Map, json};
use vmlan_api::ErrorCode;
use vmlan_frame::{Direction, DropReason};

use crate::pictures;

/// The line at the top of every page.
const NOTE: &str = "<!-- Made of the definitions in SOURCE by `cargo xtask man`. -->\n\n";

/// Writes all of them below the root of the tree.
///
/// # Errors
/// When a file cannot be written.
pub fn write(root: &Path) -> Result<()> {
    for (file, text) in files()? {
        let path = root.join(&file);
        fs::create_dir_all(path.parent().unwrap_or(root))?;
        fs::write(&path, text).with_context(|| format!("cannot write {file}"))?;
    }
    Ok(())
}

/// Compares all of them with what is below the root of the tree.
///
/// # Errors
/// Names those that are old.
pub fn check(root: &Path) -> Result<()> {
    let mut old = files()?;
    old.retain(|(file, text)| fs::read_to_string(root.join(file)).ok().as_ref() != Some(text));
    let old: Vec<_> = old.into_iter().map(|(file, _)| file).collect();
    if old.is_empty() {
        Ok(())
    } else {
        bail!("not what the definitions say: {}; cargo xtask man", old.join(", "))
    }
}

/// The files with their texts.
fn files() -> Result<Vec<(String, String)>> {
    let pages = [
        ("docs/errors.md".to_owned(), errors()),
        ("docs/drops.md".to_owned(), drops()),
        ("crates/ui/page/drops.json".to_owned(), explained_drops()?),
    ];
    let mut files = Vec::from(pages);
    for (name, picture) in pictures::all() {
        let faults = picture.faults();
        if !faults.is_empty() {
            bail!("the picture {name} cannot be read: {}", faults.join(", "));
        }
        files.push((format!("docs/pictures/{name}.svg"), picture.svg()));
    }
    Ok(files)
}

/// The page on error codes.
fn errors() -> String {
    let mut page = NOTE.replace("SOURCE", "crates/api/src/error_code.rs");
    page.push_str("# Error codes\n\n");
    page.push_str(&wrapped(
        "An error has a code for programs: `code` in an answer of the [control interface](api.md#errors), and in \
         errors of commands with `--json`. Its `message` has the details, its `field` the place. `vmlan explain CODE` \
         says what is here. Symptoms without a code are in [troubleshooting](troubleshooting.md), drop reasons have \
         [their page](drops.md).",
    ));
    page.push('\n');
    let is_about_configuration = |code: &ErrorCode| code.status() == 422;
    let (configuration, requests): (Vec<ErrorCode>, Vec<ErrorCode>) =
        ErrorCode::ALL.iter().copied().partition(is_about_configuration);
    for (title, codes) in [("Requests and changes", requests), ("The configuration", configuration)] {
        page.push_str(&format!("\n## {title}\n"));
        for code in codes {
            let cause = format!("{} Status {}.", code.cause(), code.status());
            entry(&mut page, code.name(), &cause, code.remedy());
        }
    }
    let other = ErrorCode::Other;
    page.push_str("\n## A code that is not here\n");
    entry(&mut page, other.name(), other.cause(), other.remedy());
    page
}

/// The page on drop reasons.
fn drops() -> String {
    let mut page = NOTE.replace("SOURCE", "crates/frame/src/drops.rs");
    page.push_str("# Drop reasons\n\n");
    page.push_str(&wrapped(
        "Every frame that vmlan does not pass on is counted at a port under one of these reasons: `vmlan counters`, \
         `GET /v1/counters`, `vmlan capture --drops`. `vmlan explain REASON` says what is here.",
    ));
    page.push('\n');
    for (direction, title, text) in [
        (Direction::Ingress, "On the way in", "Frames that the port sent to the network."),
        (Direction::Egress, "On the way out", "Copies that were on their way to the port."),
    ] {
        page.push_str(&format!("\n## {title}\n\n{text}\n"));
        for reason in dropping().filter(|reason| reason.direction() == direction) {
            entry(&mut page, reason.name(), reason.meaning(), reason.remedy());
        }
    }
    page.push_str("\n## No drop\n");
    let lone = DropReason::NoReceiver;
    entry(&mut page, lone.name(), lone.meaning(), lone.remedy());
    page.push('\n');
    page.push_str(&wrapped(
        "It is a counter of its own, `no_receiver` beside `drops`, so `DROPS` in `vmlan ports` stays 0 for a lone \
         guest, and `vmlan capture --drops` does not show these frames. The sender's address is learnt all the same.",
    ));
    page.push('\n');
    page
}

/// The drop reasons as the web page reads them, in the order of their names.
fn explained_drops() -> Result<String> {
    let plain = |text: &str| text.replace('`', "");
    let explained: Map<_, _> = dropping()
        .map(|reason| {
            let way = match reason.direction() {
                Direction::Ingress => "in",
                Direction::Egress => "out",
            };
            let explanation =
                json!({ "way": way, "meaning": plain(reason.meaning()), "remedy": plain(reason.remedy()) });
            (reason.name().to_owned(), explanation)
        })
        .collect();
    Ok(serde_json::to_string_pretty(&explained)? + "\n")
}

/// The reasons by which a frame is lost to somebody.
fn dropping() -> impl Iterator<Item = DropReason> {
    DropReason::ALL.iter().copied().filter(|reason| *reason != DropReason::NoReceiver)
}

/// A word with its own heading, which is its anchor.
fn entry(page: &mut String, word: &str, meaning: &str, remedy: &str) {
    let meaning = wrapped(&linked(meaning));
    let remedy = wrapped(&linked(&format!("**What to do:** {remedy}")));
    page.push_str(&format!("\n### `{word}`\n\n{meaning}\n\n{remedy}\n"));
}

/// A text of the definitions whose words for pages, as `docs/api.md#errors`, are links from a page beside these.
fn linked(text: &str) -> String {
    let link = |word: &str| {
        let path = word.trim_end_matches([',', ';', '.', ':']);
        let target = path.strip_prefix("docs/").filter(|path| path.contains(".md"))?;
        let name = target.split('#').next().unwrap_or(target);
        Some(format!("[docs/{name}]({target}){}", &word[path.len()..]))
    };
    text.split(' ').map(|word| link(word).unwrap_or_else(|| word.to_owned())).collect::<Vec<_>>().join(" ")
}

/// A paragraph in lines that are not too long.
fn wrapped(text: &str) -> String {
    /// Characters of a line.
    const MOST: usize = 150;
    let mut lines = vec![String::new()];
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < MOST) {
            Some(line) if line.is_empty() => line.push_str(word),
            Some(line) => line.push_str(&format!(" {word}")),
            None => lines.push(word.to_owned()),
        }
    }
    lines.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_and_reason_has_an_entry_with_a_remedy() {
        let [errors, drops] = [errors(), drops()];
        let of_codes = ErrorCode::ALL.iter().map(|code| (&errors, code.name(), code.cause(), code.remedy()));
        let of_reasons =
            DropReason::ALL.iter().map(|reason| (&drops, reason.name(), reason.meaning(), reason.remedy()));

        for (page, word, meaning, remedy) in of_codes.chain(of_reasons) {
            assert_eq!(page.matches(&format!("\n### `{word}`\n")).count(), 1, "{word}");
            assert!(meaning.len() > 10 && meaning.ends_with('.'), "{word}: {meaning}");
            // `Nothing.` is no remedy: it says why there is nothing to do.
            assert!(remedy.split_whitespace().count() > 1 && remedy.ends_with('.'), "{word}: {remedy}");
        }
    }

    #[test]
    fn words_for_pages_become_links() {
        assert_eq!(
            linked("see docs/api.md; or docs/a.md#b-c. Not docs/x.rs"),
            "see [docs/api.md](api.md); or [docs/a.md](a.md#b-c). Not docs/x.rs"
        );
    }

    #[test]
    fn an_old_file_is_named() {
        let tree = tempfile::tempdir().unwrap();
        write(tree.path()).unwrap();
        check(tree.path()).unwrap();

        fs::write(tree.path().join("docs/drops.md"), "old").unwrap();

        assert!(check(tree.path()).unwrap_err().to_string().contains("docs/drops.md"));
    }
}
