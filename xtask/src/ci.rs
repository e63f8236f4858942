//! The whole check, the same by hand and in CI.

use std::time::{Duration, Instant};

use crate::shell::{Error, cargo, is_root, run as run_command};
use crate::{
    alone, book, debian, dependencies, features, fuzz, links, macos, man, processors, prose, test, version,
};

/// Long enough to find what a change broke, short enough for every push.
const FUZZ_SECONDS: u32 = 10;

/// A part of the check.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Formatting.
    Format,
    /// The declared version of Rust builds all.
    Version,
    /// Lints; also that the lock file is up to date.
    Clippy,
    /// Each feature alone, and none.
    Features,
    /// Licences, sources and versions of dependencies.
    Dependencies,
    /// Documentation without warnings, pages without dead links, and lines of prose that are not too long.
    Docs,
    /// The documents as a book, in which every link leads somewhere.
    Book,
    /// Every crate that others may use can be packaged, and the packages are whole.
    Package,
    /// Type-check for macOS.
    Macos,
    /// Type-check for other processors.
    Processors,
    /// The Debian package, installed and tried in a machine of its own.
    Debian,
    /// Each fuzz target for a short time.
    Fuzz,
    /// All tests; as root, one that cannot run fails.
    Test,
}

impl Step {
    /// All of them. The tests come last, so that their closing line stands at the end.
    pub const ALL: [Self; 13] = [
        Self::Format,
        Self::Version,
        Self::Clippy,
        Self::Features,
        Self::Dependencies,
        Self::Docs,
        Self::Book,
        Self::Package,
        Self::Macos,
        Self::Processors,
        Self::Debian,
        Self::Fuzz,
        Self::Test,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Format => "format",
            Self::Version => "version",
            Self::Clippy => "clippy",
            Self::Features => "features",
            Self::Dependencies => "dependencies",
            Self::Docs => "docs",
            Self::Book => "book",
            Self::Package => "package",
            Self::Macos => "macos",
            Self::Processors => "processors",
            Self::Debian => "debian",
            Self::Fuzz => "fuzz",
            Self::Test => "test",
        }
    }

    /// The step of this name.
    ///
    /// # Errors
    /// When there is none.
    pub fn from_name(name: &str) -> Result<Self, Error> {
        Self::ALL
            .into_iter()
            .find(|step| step.name() == name)
            .ok_or_else(|| Error::Usage(format!("there is no step {name:?}")))
    }

    fn run(self) -> Result<(), Error> {
        match self {
            Self::Format => run_command(&mut cargo(["fmt", "--all", "--check"]))
                .and(run_command(&mut cargo(["fmt", "--manifest-path", "fuzz/Cargo.toml", "--check"]))),
            Self::Version => version::run(),
            Self::Clippy => run_command(&mut cargo([
                "clippy",
                "--locked",
                "--workspace",
                "--all-targets",
                "--",
                "-D",
                "warnings",
            ])),
            Self::Features => features::run(),
            Self::Dependencies => dependencies::run(),
            Self::Docs => links::run().and(prose::run()).and(man::check()).and(run_command(
                cargo(["doc", "--workspace", "--no-deps"]).env("RUSTDOCFLAGS", "-D warnings"),
            )),
            Self::Book => book::check(),
            Self::Package => alone::run(),
            Self::Macos => macos::run(),
            Self::Processors => processors::run(),
            Self::Debian => debian::check(),
            Self::Fuzz => fuzz::run(FUZZ_SECONDS, &[]),
            Self::Test => test::run(false, is_root(), &[]),
        }
    }
}

/// Runs the steps, all of them even when one fails, and closes with a line for each.
///
/// # Errors
/// When a step failed; names it.
pub fn run(steps: &[Step]) -> Result<(), Error> {
    let mut done: Vec<(Step, Duration, Result<(), Error>)> = Vec::new();
    for step in steps {
        eprintln!("\n=== {} ===", step.name());
        let start = Instant::now();
        let result = step.run();
        if let Err(Error::Failed(message) | Error::Usage(message)) = &result {
            eprintln!("error: {message}");
        }
        eprintln!("--- {}: {} after {:.1} s", step.name(), word(&result), start.elapsed().as_secs_f32());
        done.push((*step, start.elapsed(), result));
    }
    eprintln!("\n=== summary ===");
    for (step, elapsed, result) in &done {
        eprintln!("{:12} {:>7.1} s  {}", step.name(), elapsed.as_secs_f32(), word(result));
    }
    let failed: Vec<&str> =
        done.iter().filter(|(_, _, result)| result.is_err()).map(|(step, ..)| step.name()).collect();
    if failed.is_empty() { Ok(()) } else { Err(Error::Failed(format!("failed: {}", failed.join(", ")))) }
}

fn word(result: &Result<(), Error>) -> &'static str {
    if result.is_ok() { "ok" } else { "FAILED" }
}
