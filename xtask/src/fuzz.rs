//! Fuzzing with cargo-fuzz (libFuzzer), which needs a nightly toolchain.

use std::num::NonZero;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, available_parallelism};

use crate::shell::{Error, capture, cargo, program, root, run as run_command};

/// Runs each target for so many seconds; all targets when none is named.
///
/// # Errors
/// When a tool is missing and cannot be installed, a target does not exist, or a target crashes.
pub fn run(seconds: u32, targets: &[String]) -> Result<(), Error> {
    if !root().join("fuzz/Cargo.toml").exists() {
        return Err(Error::Failed("there is no fuzz/Cargo.toml in the workspace".into()));
    }
    if capture(&mut program("rustup", ["run", "nightly", "rustc", "--version"])).is_none() {
        return Err(Error::Failed(
            "fuzzing needs a nightly toolchain; run `rustup toolchain install nightly`".into(),
        ));
    }
    if capture(&mut cargo(["fuzz", "--version"])).is_none() {
        eprintln!("installing cargo-fuzz");
        run_command(&mut cargo(["install", "cargo-fuzz", "--locked"]))?;
    }
    let list =
        capture(&mut cargo_fuzz(["list"])).ok_or_else(|| Error::Failed("`cargo fuzz list` failed".into()))?;
    let chosen = choose(&list, targets)?;
    // Before any runs, so that none of them waits for another's build.
    match targets {
        [] => run_command(&mut cargo_fuzz(["build"]))?,
        _ => chosen.iter().try_for_each(|target| run_command(&mut cargo_fuzz(["build", target])))?,
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<(), Error> {
        while let Some(target) = chosen.get(next.fetch_add(1, Ordering::Relaxed)) {
            eprintln!("fuzzing {target} for {seconds} s");
            run_command(&mut cargo_fuzz([
                "run",
                target,
                "--",
                &format!("-max_total_time={seconds}"),
                "-verbosity=0",
            ]))?;
        }
        Ok(())
    };
    // Each uses one processor.
    let processors = available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        let workers: Vec<_> = (0..processors).map(|_| scope.spawn(work)).collect();
        workers.into_iter().map(|worker| worker.join().expect("no panic")).collect::<Result<Vec<()>, _>>()
    })?;
    eprintln!("{} fuzz targets ran for {seconds} s each without a crash", chosen.len());
    Ok(())
}

fn choose(list: &str, wanted: &[String]) -> Result<Vec<String>, Error> {
    let known: Vec<String> =
        list.lines().map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect();
    if let Some(unknown) = wanted.iter().find(|target| !known.contains(target)) {
        return Err(Error::Failed(format!(
            "there is no fuzz target {unknown:?}; there are: {}",
            known.join(", ")
        )));
    }
    Ok(if wanted.is_empty() { known } else { wanted.to_vec() })
}

/// By way of rustup, since the cargo that runs this task is that of another toolchain.
fn cargo_fuzz<const N: usize>(arguments: [&str; N]) -> Command {
    let mut command = program("rustup", ["run", "nightly", "cargo", "fuzz"]);
    command.args(arguments);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_means_every_target() {
        assert_eq!(choose("frame\nstream\n", &[]), Ok(vec!["frame".into(), "stream".into()]));
    }

    #[test]
    fn an_unknown_target_is_answered_with_the_known_ones() {
        let Err(Error::Failed(message)) = choose("frame\nstream\n", &["strem".into()]) else {
            panic!("there is no such target")
        };

        assert!(message.contains("\"strem\"") && message.contains("frame, stream"), "{message}");
    }
}
