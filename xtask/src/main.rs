#![forbid(unsafe_code)]
//! Development tasks: tests with what they need, the whole check, fuzzing, the macOS build, the benchmark, the attacks.
//!
//! Progress and messages go to standard error; what a tool prints stays where the tool prints it. The exit status
//! is 0, 1 when a task failed, 2 for a command line that is not understood.

mod alone;
mod attack;
mod bench;
mod book;
mod ci;
mod debian;
mod dependencies;
mod features;
mod fuzz;
mod links;
mod macos;
mod man;
mod openapi;
mod packages;
mod processors;
mod prose;
mod shell;
mod test;
mod version;

use std::env;
use std::process::ExitCode;

use shell::Error;

const USAGE: &str = "\
Usage: cargo xtask <TASK>

Tasks:
  test [--quick] [-- ARGS]        run all tests; as root, install with apt what they need.
                                  --quick leaves out tests that need root, QEMU or other programs;
                                  ARGS go to the test runner, for example a part of a test's name
  ci [STEP...]                    the whole check: format, version, clippy, features, dependencies, docs,
                                  book, package, macos, processors, debian, fuzz, test
  fuzz [--seconds N] [TARGET...]  fuzz each target (default: all, 60 s each)
  openapi                         write the description of the control interface, crates/api/openapi.json
  man                             write what is made of definitions: the manual page vmlan.toml(5), the pages on commands, error
                                  codes and drop reasons, the web page's drop reasons, and the pictures
  book [--open]                   build the documents as a book, target/book/html/index.html, and check its links
  package [--arch amd64|arm64] [--profile PROFILE] [--binary FILE] [--version V]
                                  make the Debian package, of a release build unless told otherwise
  package --test                  install the package of a development build in a machine, and try it there
  macos                           build and link for aarch64-apple-darwin
  bench [--only tap,dgram,stream,scale,fair,host] [--rounds N] [--seconds S] [--long S] [--patience S]
        [--json FILE] [--markdown FILE] [--charts DIRECTORY] [--list]
                                  compare vmlan with Open vSwitch, VDE, a Linux bridge and bare relays on this
                                  machine; needs root, installs with apt what it can, see docs/benchmark.md
  attack [--only NAME,...] [--rounds N] [--seconds S] [--limit X] [--json FILE] [--markdown FILE] [--list]
                                  attack a vmlan beside honest guests, and measure what these suffer; as root with
                                  TAPs, trunks and attackers of another user
";

/// The task that the command line asks for.
#[derive(Debug, PartialEq, Eq)]
enum Task {
    Help,
    Test { quick: bool, runner_arguments: Vec<String> },
    Ci { steps: Vec<ci::Step> },
    Fuzz { seconds: u32, targets: Vec<String> },
    Book { open: bool },
    Macos,
    Man,
    Openapi,
    Package(debian::Task),
    Bench { arguments: Vec<String> },
    Attack { arguments: Vec<String> },
}

fn main() -> ExitCode {
    let result = parse(env::args().skip(1).collect()).and_then(run);
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Error::Usage(message)) => {
            eprint!("error: {message}\n\n{USAGE}");
            ExitCode::from(2)
        }
        Err(Error::Failed(message)) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

fn run(task: Task) -> Result<(), Error> {
    match task {
        Task::Help => print!("{USAGE}"),
        Task::Test { quick, runner_arguments } => test::run(quick, false, &runner_arguments)?,
        Task::Ci { steps } => ci::run(&steps)?,
        Task::Fuzz { seconds, targets } => fuzz::run(seconds, &targets)?,
        Task::Book { open } => book::run(open)?,
        Task::Macos => macos::run()?,
        Task::Man => man::write().and(book::write())?,
        Task::Openapi => openapi::write()?,
        Task::Package(package) => debian::perform(&package)?,
        Task::Bench { arguments } => bench::run(&arguments)?,
        Task::Attack { arguments } => attack::run(&arguments)?,
    }
    Ok(())
}

fn parse(arguments: Vec<String>) -> Result<Task, Error> {
    let mut words = arguments.into_iter();
    let task = words.next().ok_or_else(|| Error::Usage("which task?".into()))?;
    let rest: Vec<String> = words.collect();
    match task.as_str() {
        "test" => parse_test(rest),
        "ci" => {
            let steps = rest.iter().map(|word| ci::Step::from_name(word)).collect::<Result<Vec<_>, _>>()?;
            Ok(Task::Ci { steps: if steps.is_empty() { ci::Step::ALL.to_vec() } else { steps } })
        }
        "fuzz" => parse_fuzz(rest),
        "package" => debian::parse(rest).map(Task::Package),
        "bench" => bench::check(&rest).map(|()| Task::Bench { arguments: rest }),
        "attack" => attack::check(&rest).map(|()| Task::Attack { arguments: rest }),
        "book" if rest.iter().all(|word| word == "--open") => Ok(Task::Book { open: !rest.is_empty() }),
        "man" if rest.is_empty() => Ok(Task::Man),
        "openapi" if rest.is_empty() => Ok(Task::Openapi),
        "macos" if rest.is_empty() => Ok(Task::Macos),
        "help" | "--help" | "-h" => Ok(Task::Help),
        "macos" | "man" | "openapi" => Err(Error::Usage(format!("{task} takes no arguments"))),
        "book" => Err(Error::Usage("book takes --open and nothing else".into())),
        other => Err(Error::Usage(format!("there is no task {other:?}"))),
    }
}

fn parse_test(words: Vec<String>) -> Result<Task, Error> {
    let mut quick = false;
    let mut words = words.into_iter();
    for word in words.by_ref() {
        match word.as_str() {
            "--quick" => quick = true,
            "--" => break,
            other => {
                return Err(Error::Usage(format!(
                    "test does not know {other:?}; arguments of the runner go after --"
                )));
            }
        }
    }
    Ok(Task::Test { quick, runner_arguments: words.collect() })
}

fn parse_fuzz(words: Vec<String>) -> Result<Task, Error> {
    let mut seconds = 60;
    let mut targets = Vec::new();
    let mut words = words.into_iter();
    while let Some(word) = words.next() {
        if word == "--seconds" {
            let number = words.next().and_then(|number| number.parse().ok()).filter(|number| *number > 0);
            seconds = number.ok_or_else(|| Error::Usage("--seconds wants a number above 0".into()))?;
        } else if word.starts_with('-') {
            return Err(Error::Usage(format!("fuzz does not know {word:?}")));
        } else {
            targets.push(word);
        }
    }
    Ok(Task::Fuzz { seconds, targets })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Task, Error> {
        parse(line.split_whitespace().map(str::to_owned).collect())
    }

    #[test]
    fn command_lines_are_understood() {
        let cases = [
            ("test", Task::Test { quick: false, runner_arguments: vec![] }),
            (
                "test --quick -- -p x",
                Task::Test { quick: true, runner_arguments: vec!["-p".into(), "x".into()] },
            ),
            ("ci", Task::Ci { steps: ci::Step::ALL.to_vec() }),
            ("ci docs clippy", Task::Ci { steps: vec![ci::Step::Docs, ci::Step::Clippy] }),
            ("fuzz", Task::Fuzz { seconds: 60, targets: vec![] }),
            ("fuzz --seconds 5 a b", Task::Fuzz { seconds: 5, targets: vec!["a".into(), "b".into()] }),
            ("macos", Task::Macos),
            ("book", Task::Book { open: false }),
            ("book --open", Task::Book { open: true }),
            ("openapi", Task::Openapi),
            ("package", Task::Package(debian::Task::Make(debian::Package::default()))),
            ("bench", Task::Bench { arguments: vec![] }),
            ("bench --list", Task::Bench { arguments: vec!["--list".into()] }),
            (
                "bench --rounds 1 --only=tap,dgram",
                Task::Bench { arguments: vec!["--rounds".into(), "1".into(), "--only=tap,dgram".into()] },
            ),
            (
                "attack --only frames --limit=3",
                Task::Attack { arguments: vec!["--only".into(), "frames".into(), "--limit=3".into()] },
            ),
            ("--help", Task::Help),
        ];

        for (line, expected) in cases {
            assert_eq!(parsed(line), Ok(expected), "{line}");
        }
    }

    #[test]
    fn what_is_not_understood_is_a_usage_error() {
        for line in [
            "",
            "tset",
            "test quick",
            "ci everything",
            "fuzz --seconds",
            "fuzz --seconds 0",
            "fuzz -x",
            "macos x",
            "book x",
            "openapi x",
            "package x",
            "bench 5",
            "bench --round 5",
            "bench --rounds",
            "bench --rounds --json",
            "attack frames",
            "attack --charts x",
            "attack --only",
        ] {
            assert!(matches!(parsed(line), Err(Error::Usage(_))), "{line}");
        }
    }
}
