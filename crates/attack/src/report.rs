//! Outcomes as a table for a terminal, as Markdown and as JSON.

use std::io::{self, Write};

use serde::Serialize;

use crate::arena::{Outcome, Suffered};

/// The outcomes of a run, and what has to be known to read them.
#[derive(Debug, Serialize)]
pub struct Report {
    /// The machine, and how it was divided.
    pub machine: String,
    /// The largest factor of the quiet p99.
    pub limit: f64,
    /// Rounds of quiet and attack.
    pub rounds: u32,
    /// The length of each, in seconds.
    pub seconds: f64,
    /// An outcome for each attack.
    pub outcomes: Vec<Outcome>,
}

const HEAD: [&str; 9] = [
    "Attack",
    "Probe",
    "Quiet p50/p99 µs",
    "Attack p50/p99 µs",
    "Factor",
    "Lost",
    "Memory",
    "Log/s",
    "Verdict",
];

impl Report {
    /// Tells whether every promise holds.
    pub fn holds(&self) -> bool {
        self.outcomes.iter().all(Outcome::holds)
    }

    /// The table, with columns as wide as what is in them.
    pub fn table(&self) -> String {
        let rows = self.rows();
        let width = |column: usize| {
            let cells = rows.iter().map(|row| row[column].as_str()).chain([HEAD[column]]);
            cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
        let line = |cells: &mut dyn Iterator<Item = &str>| {
            let padded = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
            padded.collect::<Vec<_>>().join("  ").trim_end().to_owned() + "\n"
        };
        let mut text = line(&mut HEAD.into_iter());
        for row in &rows {
            text.push_str(&line(&mut row.iter().map(String::as_str)));
        }
        text
    }

    /// The table for a document, with the machine above it.
    pub fn markdown(&self) -> String {
        let mut text = format!(
            "{}; {} rounds of {} s of quiet and of attack, medians over the rounds.\n\n| {} |\n|{}\n",
            self.machine,
            self.rounds,
            self.seconds,
            HEAD.join(" | "),
            "---|".repeat(HEAD.len())
        );
        for row in self.rows() {
            let cells: Vec<String> = row.iter().map(|cell| cell.replace('|', "\\|")).collect();
            text.push_str(&format!("| {} |\n", cells.join(" | ")));
        }
        text
    }

    /// Writes everything.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, file: &mut impl Write) -> io::Result<()> {
        serde_json::to_writer_pretty(&mut *file, self)?;
        writeln!(file)
    }

    /// A row for each probe of each attack.
    fn rows(&self) -> Vec<[String; 9]> {
        self.outcomes.iter().flat_map(rows).collect()
    }
}

fn rows(outcome: &Outcome) -> Vec<[String; 9]> {
    let verdict = verdict(outcome);
    let name = outcome.name.to_owned();
    if outcome.suffered.is_empty() {
        let mut row = [const { String::new() }; 9];
        (row[0], row[8]) = (name, verdict);
        return vec![row];
    }
    let row = |(number, suffered): (usize, &Suffered)| {
        let Suffered { probe, quiet, attack } = suffered;
        let is_first = number == 0;
        let first = |text: String| if is_first { text } else { String::new() };
        let (pair, factor) = if outcome.is_timed {
            let pair = |p50: f64, p99: f64| format!("{p50:.0} / {p99:.0}");
            ([pair(quiet.p50, quiet.p99), pair(attack.p50, attack.p99)], format!("{:.2}", suffered.factor()))
        } else {
            ([String::from("-"), String::from("-")], String::from("-"))
        };
        let [quiet, during] = pair;
        [
            first(name.clone()),
            (*probe).to_owned(),
            quiet,
            during,
            factor,
            attack.lost.to_string(),
            first(format!("{:+.1} MiB", outcome.memory as f64 / 1024.0)),
            first(format!("{:.1}", outcome.lines)),
            first(verdict.clone()),
        ]
    };
    outcome.suffered.iter().enumerate().map(row).collect()
}

/// The verdict in words.
fn verdict(outcome: &Outcome) -> String {
    match &outcome.failed {
        Some(failure) => format!("NOT RUN: {failure}").replace('\n', "; "),
        None if outcome.broken.is_empty() => "holds".to_owned(),
        None => format!("BROKEN: {}", outcome.broken.join("; ")),
    }
}

/// One line about an outcome, for the progress.
pub fn line(outcome: &Outcome) -> String {
    let figures = outcome.suffered.iter().filter(|_| outcome.is_timed).map(|suffered| {
        format!("{} p99 {:.0} -> {:.0} us; ", suffered.probe, suffered.quiet.p99, suffered.attack.p99)
    });
    let notes = match outcome.notes.as_slice() {
        [] => String::new(),
        notes => format!(" ({})", notes.join(", ")),
    };
    format!("{}{}{notes}", figures.collect::<String>(), verdict(outcome))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::probe::Figures;

    fn report() -> Report {
        let figures = |p99| Figures { sent: 10, p50: 50.0, p99, ..Figures::default() };
        let outcome = Outcome {
            name: "broadcasts",
            about: "",
            is_timed: true,
            suffered: vec![Suffered { probe: "sockets", quiet: figures(100.0), attack: figures(150.0) }],
            memory: 512,
            lines: 0.0,
            answer: 1.0,
            balanced: Some(true),
            unread: 0,
            broken: Vec::new(),
            notes: Vec::new(),
            failed: None,
        };
        let mut other = Outcome { name: "other", suffered: Vec::new(), ..outcome.clone() };
        other.failed = Some("no root".into());
        Report {
            machine: "2 processors".into(),
            limit: 2.0,
            rounds: 3,
            seconds: 1.0,
            outcomes: vec![outcome, other],
        }
    }

    #[test]
    fn an_attack_is_a_row_with_its_factor_and_its_verdict() {
        let text = report().table();

        let line = text.lines().nth(1).expect("a row");
        assert!(line.starts_with("broadcasts") && line.contains("1.50") && line.ends_with("holds"), "{text}");
        assert!(text.lines().nth(2).is_some_and(|line| line.ends_with("NOT RUN: no root")), "{text}");
    }

    #[test]
    fn one_that_was_not_run_does_not_hold() {
        assert!(!report().holds());
    }

    #[test]
    fn markdown_has_as_many_cells_in_every_row() {
        let text = report().markdown();

        let rows = text.lines().filter(|line| line.starts_with('|'));
        assert!(rows.map(|line| line.matches('|').count()).all(|count| count == HEAD.len() + 1), "{text}");
    }
}
