//! The order of the measurements.
//!
//! In each round everyone in every row is measured once, row by row, so that whatever changes from minute to minute
//! changes for all in a row alike, and each round begins every row with another one. Who fails in a round is left out
//! of that round and tried again in the next; what is missing on this machine is not tried again. A request to end is
//! looked at between measurements.

use std::env;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::ensure;

use crate::progress::Progress;
use crate::report::{Outcome, Run, number};
use crate::row::{Contestant, Figure, Row, Setting, Unavailable};
use testbed::attempt::attempt;
use testbed::interrupt;

/// Namespaces, programs and waiting for a quiet machine take about so long for each.
const OVERHEAD: Duration = Duration::from_millis(2500);

/// Runs all rounds, or those until the user has enough.
pub fn run(rows: &[Row], rounds: u32, setting: &Setting) -> Vec<Run> {
    let total: usize = rows.iter().map(|row| row.contestants.len()).sum();
    let guess = guess(rows, setting) / total.max(1) as u32;
    let mut progress = Progress::new(rounds * total as u32, guess);
    let mut runs: Vec<Run> = Vec::new();
    for round in 1..=rounds {
        for row in rows {
            for contestant in order(&row.contestants, round) {
                let what = format!("round {round} of {rounds}, {}, {}", row.name, contestant.name);
                eprint!("{} {what}: ", progress.prefix());
                // Only for the eye; a closed standard error shall not end the measurement.
                let _ = io::stderr().flush();
                let known = runs.iter().find(|run| {
                    run.row == row.name
                        && run.contestant == contestant.name
                        && matches!(run.outcome, Outcome::Missing(_))
                });
                let outcome = match known {
                    Some(run) => run.outcome.clone(),
                    None => measure(row, contestant, setting),
                };
                // What Ctrl-C broke did not fail.
                if interrupt::requested() {
                    return runs;
                }
                let quiet = setting.take_quiet();
                eprintln!("{}", told(&outcome, row.figures));
                progress.advance(1);
                runs.push(Run { round, row: row.name, contestant: contestant.name, quiet, outcome });
            }
        }
    }
    runs
}

/// How long a round takes, roughly.
pub fn guess(rows: &[Row], setting: &Setting) -> Duration {
    let measured = |row: &Row| match row.name {
        "scale-memory" => setting.long,
        _ => setting.duration.mul_f64(row.measurements),
    };
    rows.iter().map(|row| (OVERHEAD + measured(row)) * row.contestants.len() as u32).sum()
}

fn measure(row: &Row, contestant: &Contestant, setting: &Setting) -> Outcome {
    let missing: Vec<&str> = contestant.needs.iter().copied().filter(|program| !is_there(program)).collect();
    if !missing.is_empty() {
        return Outcome::Missing(format!("no {}", missing.join(", ")));
    }
    let figures = attempt(|| {
        let figures = contestant.measure(setting)?;
        ensure!(
            figures.len() == row.figures.len(),
            "{} figures instead of {}",
            figures.len(),
            row.figures.len()
        );
        Ok(figures)
    });
    figures.map_or_else(
        |error| match error.downcast_ref::<Unavailable>() {
            Some(Unavailable(why)) => Outcome::Missing(why.clone()),
            None => Outcome::Failed(format!("{error:#}")),
        },
        Outcome::Figures,
    )
}

/// True if a program is in `PATH`.
pub fn is_there(program: &str) -> bool {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path).any(|directory| directory.join(program).is_file())
}

fn told(outcome: &Outcome, figures: &[Figure]) -> String {
    match outcome {
        Outcome::Figures(values) => {
            let told = |(figure, value): (&Figure, &f64)| {
                format!("{} {} {}", figure.name, number(Some(*value)), figure.unit)
            };
            figures.iter().zip(values).map(told).collect::<Vec<_>>().join(", ")
        }
        Outcome::Missing(why) => format!("MISSING: {why}"),
        Outcome::Failed(why) => format!("FAILED\nerror: {why}"),
    }
}

/// Each round begins with another one, since the first may find the machine otherwise than the last.
fn order<T>(all: &[T], round: u32) -> impl Iterator<Item = &T> {
    let (before, after) = all.split_at((round as usize - 1) % all.len().max(1));
    after.iter().chain(before)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row::{Group, Pairs, Programs};

    fn contestant(name: &'static str, needs: &[&'static str], good: bool) -> Contestant {
        Contestant::new(name, needs, move |_| {
            ensure!(good, "no ping came through");
            Ok(vec![2.0])
        })
    }

    fn setting() -> Setting {
        let programs = Programs { bench: "/bench".into(), vmlan: "/vmlan".into() };
        Setting::new(programs, Duration::from_secs(1), Duration::from_secs(1), Duration::ZERO)
    }

    #[test]
    fn each_round_begins_with_another_one() {
        let first: Vec<_> = (1..=4).map(|round| order(&["a", "b", "c"], round).next()).collect();

        assert_eq!(first, [Some(&"a"), Some(&"b"), Some(&"c"), Some(&"a")]);
        assert!(order(&["a", "b", "c"], 2).eq(&["b", "c", "a"]));
    }

    #[test]
    fn who_fails_or_is_missing_does_not_stop_the_others() {
        let contestants = vec![
            contestant("bad", &[], false),
            contestant("gone", &["no-such-program"], true),
            contestant("good", &["sh"], true),
        ];
        let row = Row {
            group: Group::Tap,
            name: "tap-x",
            title: "x",
            figures: &[Figure::TCP],
            contestants,
            pairs: Pairs::FirstToOthers,
            targets: vec![],
            measurements: 1.0,
        };

        let runs = run(&[row], 2, &setting());

        let of = |name: &str| -> Vec<_> {
            runs.iter().filter(|run| run.contestant == name).map(|run| run.outcome.clone()).collect()
        };
        assert_eq!(of("bad"), vec![Outcome::Failed("no ping came through".into()); 2]);
        assert_eq!(of("gone"), vec![Outcome::Missing("no no-such-program".into()); 2]);
        assert_eq!(of("good"), vec![Outcome::Figures(vec![2.0]); 2]);
    }
}
