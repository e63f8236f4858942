//! Tells the program from which commit it is built, in `VMLAN_COMMIT`.
//!
//! In order: the variable of the same name, for distributors; what `cargo package` wrote into the crate; git, where the
//! crate lies in its own repository. Nothing is fetched, and a build without any of them knows no commit.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the crate is in its repository.
const PLACE: &str = "crates/vmlan/";
/// Crates beside it that are for tests and measurements.
const OTHERS: [&str; 4] = ["attack", "bench", "testbed", "uring"];
/// Digits of a commit that are shown.
const DIGITS: usize = 12;
const VARIABLE: &str = "VMLAN_COMMIT";

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-env-changed={VARIABLE}");
    let commit = std::env::var(VARIABLE).ok().filter(|commit| is_plain(commit));
    let commit = commit.or_else(of_package).or_else(of_repository);
    println!("cargo::rustc-env={VARIABLE}={}", commit.as_deref().unwrap_or("unknown"));
}

/// True for a word that is safe in a line of a version.
fn is_plain(commit: &str) -> bool {
    let is_allowed = |octet: u8| octet.is_ascii_alphanumeric() || b"-._+".contains(&octet);
    !commit.is_empty() && commit.len() <= 80 && commit.bytes().all(is_allowed)
}

/// The commit that `cargo package` noted, in a file whose form is cargo's.
fn of_package() -> Option<String> {
    const FILE: &str = ".cargo_vcs_info.json";
    let text = std::fs::read_to_string(FILE).ok()?;
    println!("cargo::rerun-if-changed={FILE}");
    let (_, behind) = text.split_once("\"sha1\"")?;
    let digits = behind.split('"').nth(1)?;
    let is_dirty = behind
        .split_once("\"dirty\"")
        .is_some_and(|(_, rest)| rest.trim_start_matches([':', ' ']).starts_with("true"));
    shown(digits, is_dirty)
}

fn of_repository() -> Option<String> {
    // A copy of the crate within another repository is not of that one's commit.
    if git(&["rev-parse", "--show-prefix"])? != PLACE {
        return None;
    }
    let head = git(&["rev-parse", "HEAD"])?;
    // A commit or another branch changes the first or the second. An edited source has a time of its own; the index is
    // not looked at, since `git status` writes it.
    for file in ["HEAD", "logs/HEAD"] {
        // Cargo would take a missing file for one that always changes.
        if let Some(path) = git(&["rev-parse", "--git-path", file]).filter(|path| Path::new(path).exists()) {
            println!("cargo::rerun-if-changed={path}");
        }
    }
    for source in ["src", "Cargo.toml", "../../Cargo.lock"] {
        println!("cargo::rerun-if-changed={source}");
    }
    // What the program is not built from would have it built again for nothing.
    let is_part = |path: &PathBuf| !OTHERS.iter().any(|other| path.ends_with(format!("{other}/src")));
    let others =
        std::fs::read_dir("..").into_iter().flatten().flatten().map(|entry| entry.path().join("src"));
    others
        .filter(|path| path.is_dir())
        .filter(is_part)
        .for_each(|path| println!("cargo::rerun-if-changed={}", path.display()));
    let changes = git(&["status", "--porcelain", "--untracked-files=no"])?;
    shown(&head, !changes.is_empty())
}

fn shown(digits: &str, is_dirty: bool) -> Option<String> {
    let short = digits.get(..DIGITS).filter(|short| short.bytes().all(|octet| octet.is_ascii_hexdigit()))?;
    Some(format!("{short}{}", if is_dirty { "-dirty" } else { "" }))
}

/// Runs git, which writes nothing. Returns its output.
fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").arg("--no-optional-locks").args(arguments).output().ok()?;
    output.status.success().then_some(())?;
    Some(String::from_utf8(output.stdout).ok()?.trim().to_owned())
}
