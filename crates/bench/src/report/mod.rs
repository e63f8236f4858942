//! The results: medians, ratios, targets reached, every figure.
//!
//! Figures of different rounds are never divided by each other: the same program differs by a third from one minute to
//! the next. A ratio is made within each round, and its median over the rounds is told.

mod charts;
mod statistics;
mod table;

pub use statistics::quantile;

use std::io::{self, Write};
use std::path::Path;

use serde::{Serialize, Serializer};

use crate::machine::{Machine, Quiet};
use crate::row::{Bound, Figure, Pairs, Row, Target};
use statistics::{Spread, median};
use table::{Style, Table};

/// How the measurements were made.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Settings {
    /// How many times each was measured.
    pub rounds: u32,
    /// How long a measurement took.
    pub seconds: f64,
    /// How long the long run took.
    pub long_seconds: f64,
}

/// The outcome of measuring one candidate.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The row's figures, in order.
    Figures(Vec<f64>),
    /// This machine cannot do it, and why.
    Missing(String),
    /// It should have worked.
    Failed(String),
}

/// Someone in a row in a round.
#[derive(Debug)]
pub struct Run {
    /// Counted from 1.
    pub round: u32,
    /// The row's name.
    pub row: &'static str,
    /// The candidate that was measured.
    pub contestant: &'static str,
    /// How busy the machine was just before, when it came to that.
    pub quiet: Option<Quiet>,
    /// The outcome.
    pub outcome: Outcome,
}

impl Serialize for Run {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let (figures, missing, error) = match &self.outcome {
            Outcome::Figures(figures) => (Some(figures), None, None),
            Outcome::Missing(why) => (None, Some(why), None),
            Outcome::Failed(why) => (None, None, Some(why)),
        };
        let run = serde_json::json!({
            "round": self.round,
            "row": self.row,
            "contestant": self.contestant,
            "figures": figures,
            "missing": missing,
            "error": error,
            "busy_before": self.quiet.map(|quiet| quiet.busy),
            "noisy": self.quiet.is_some_and(Quiet::is_noisy),
        });
        run.serialize(serializer)
    }
}

/// A figure by itself or divided by another's, over the rounds.
struct Comparison {
    figure: usize,
    of: &'static str,
    to: Option<&'static str>,
    target: Option<Target>,
    median: Option<f64>,
    rounds: usize,
}

impl Comparison {
    fn name(&self) -> String {
        self.to.map_or_else(|| self.of.to_owned(), |to| format!("{} / {to}", self.of))
    }

    fn wanted(&self) -> String {
        let Some(target) = self.target else { return String::new() };
        let bound = match target.bound {
            Bound::AtLeast(bound) => format!("≥ {bound}"),
            Bound::AtMost(bound) => format!("≤ {bound}"),
        };
        target.reach.map_or(bound.clone(), |reach| format!("{bound}, better {reach}"))
    }

    /// True if the target is reached; `None` without a target or without figures.
    fn reached(&self) -> Option<bool> {
        Some(self.target?.bound.holds(self.median?))
    }

    fn verdict(&self) -> &'static str {
        let better = self.target.and_then(|target| target.reach).zip(self.median);
        match (self.target, self.reached()) {
            (None, _) => "",
            (Some(_), None) => "NOT MEASURED",
            (Some(_), Some(false)) => "NO",
            (Some(_), Some(true)) if better.is_some_and(|(reach, median)| median >= reach) => {
                "yes, the better one"
            }
            (Some(_), Some(true)) => "yes",
        }
    }
}

/// All that was measured.
pub struct Report {
    machine: Machine,
    settings: Settings,
    rows: Vec<Row>,
    runs: Vec<Run>,
}

impl Report {
    /// Of these runs of these rows.
    pub fn new(machine: Machine, settings: Settings, rows: Vec<Row>, runs: Vec<Run>) -> Report {
        Report { machine, settings, rows, runs }
    }

    /// True if nobody was measured or tried.
    pub fn is_empty(&self) -> bool {
        self.runs.is_empty()
    }

    /// One message for each run that failed.
    pub fn failures(&self) -> Vec<String> {
        let failed = |run: &Run| match &run.outcome {
            Outcome::Failed(why) => {
                Some(format!("{}: {} failed in round {}: {why}", run.row, run.contestant, run.round))
            }
            Outcome::Figures(_) | Outcome::Missing(_) => None,
        };
        self.runs.iter().filter_map(failed).collect()
    }

    /// One message for each who could not be measured on this machine.
    pub fn missing(&self) -> Vec<String> {
        let missing = |run: &Run| match &run.outcome {
            Outcome::Missing(why) => Some(format!("{}: {}: {why}", run.row, run.contestant)),
            Outcome::Figures(_) | Outcome::Failed(_) => None,
        };
        let mut messages: Vec<String> = self.runs.iter().filter_map(missing).collect();
        messages.sort_unstable();
        messages.dedup();
        messages
    }

    /// Tables of medians and ratios, for a person.
    pub fn tables(&self) -> String {
        let mut text = format!("{}\n{}\n", self.machine.line(), self.conditions());
        for row in self.tried() {
            let [medians, ratios] = self.row_tables(row);
            text += &format!("\n{}: {}, {}\n", row.name, row.group.title(), row.title);
            text += &medians.to_text(Style::Plain);
            if !ratios.is_empty() {
                text.push('\n');
                text += &ratios.to_text(Style::Plain);
            }
        }
        text
    }

    /// The same as Markdown for a document beside the directory `charts`, which has the charts, when there is one.
    pub fn markdown(&self, charts: Option<&Path>) -> String {
        let mut text = format!("{}.\n{}.\n", self.machine.line(), self.conditions());
        let mut group = None;
        for row in self.tried() {
            if group.replace(row.group) != Some(row.group) {
                text += &format!("\n### {}\n", row.group.title());
            }
            text += &format!("\n**{}** (`{}`)\n", row.title, row.name);
            for table in self.row_tables(row).iter().filter(|table| !table.is_empty()) {
                text.push('\n');
                text += &table.to_text(Style::Markdown);
            }
            let Some(directory) = charts.and_then(Path::file_name).and_then(|name| name.to_str()) else {
                continue;
            };
            for (figure, file) in charts::files(row) {
                text += &format!("\n![{}: {}]({directory}/{file})\n", row.title, figure.name);
            }
        }
        text
    }

    /// A chart of each figure of each row, as SVG files in `directory`.
    ///
    /// # Errors
    /// When one cannot be written.
    pub fn draw(&self, directory: &Path) -> anyhow::Result<()> {
        for row in self.tried() {
            for (number, (figure, file)) in charts::files(row).into_iter().enumerate() {
                let spread = |name| Some((name, self.spread(row, name, number)?));
                let bars: Vec<_> = row.contestants.iter().filter_map(|one| spread(one.name)).collect();
                charts::draw(&directory.join(file), row.title, figure, &bars)?;
            }
        }
        Ok(())
    }

    /// Everything as JSON.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let rows: Vec<_> = self.tried().map(|row| self.row_json(row)).collect();
        let report = serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "machine": self.machine,
            "settings": self.settings,
            "rows": rows,
            "runs": self.runs,
        });
        serde_json::to_writer_pretty(&mut *to, &report)?;
        to.write_all(b"\n")?;
        to.flush()
    }

    fn row_json(&self, row: &Row) -> serde_json::Value {
        let medians = |name| -> Vec<_> {
            (0..row.figures.len())
                .map(|figure| self.spread(row, name, figure).map(|spread| spread.median))
                .collect()
        };
        let contestants: Vec<_> = row
            .contestants
            .iter()
            .map(|one| serde_json::json!({ "name": one.name, "medians": medians(one.name) }))
            .collect();
        let comparisons: Vec<_> = self
            .comparisons(row)
            .iter()
            .map(|one| {
                serde_json::json!({
                    "figure": row.figures[one.figure].name,
                    "of": one.of,
                    "to": one.to,
                    "median": one.median,
                    "rounds": one.rounds,
                    "target": one.target.map(|target| target.bound),
                    "better": one.target.and_then(|target| target.reach),
                    "reached": one.reached(),
                })
            })
            .collect();
        serde_json::json!({
            "group": row.group,
            "name": row.name,
            "title": row.title,
            "figures": row.figures,
            "contestants": contestants,
            "comparisons": comparisons,
        })
    }

    fn conditions(&self) -> String {
        let Settings { rounds, seconds, .. } = self.settings;
        let measured = self.runs.iter().filter_map(|run| run.quiet).count();
        let noisy = self.runs.iter().filter_map(|run| run.quiet).filter(|quiet| quiet.is_noisy()).count();
        format!("{rounds} rounds of {seconds} s, {noisy} of {measured} measurements began on a noisy machine")
    }

    fn row_tables(&self, row: &Row) -> [Table; 2] {
        let mut medians = Table::new(["figure", "who", "median", "least", "most", "rounds"]);
        for (number, figure) in row.figures.iter().enumerate() {
            for one in &row.contestants {
                let spread = self.spread(row, one.name, number);
                let of = |value: fn(&Spread) -> f64| self::number(spread.as_ref().map(value));
                let median = spread
                    .as_ref()
                    .map_or_else(|| self.why_not(row, one.name), |s| self::number(Some(s.median)));
                let rounds = spread.as_ref().map_or(0, |spread| spread.count).to_string();
                let name = format!("{} {}", figure.name, figure.unit);
                medians.row([name, one.name.to_owned(), median, of(|s| s.least), of(|s| s.most), rounds]);
            }
        }
        let mut ratios = Table::new(["figure", "ratio", "median", "target", "reached", "rounds"]);
        for one in self.comparisons(row) {
            let figure = row.figures[one.figure].name.to_owned();
            let verdict = one.verdict().to_owned();
            ratios.row([
                figure,
                one.name(),
                number(one.median),
                one.wanted(),
                verdict,
                one.rounds.to_string(),
            ]);
        }
        [medians, ratios]
    }

    /// Why someone has no figures.
    fn why_not(&self, row: &Row, name: &str) -> String {
        let outcome = self.runs_of(row, name).map(|run| &run.outcome).next();
        match outcome {
            Some(Outcome::Missing(_)) => "MISSING",
            Some(Outcome::Failed(_)) => "FAILED",
            Some(Outcome::Figures(_)) | None => "-",
        }
        .to_owned()
    }

    /// The rows in which somebody was measured or tried.
    fn tried(&self) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(|row| self.runs.iter().any(|run| run.row == row.name))
    }

    fn runs_of<'a>(&'a self, row: &'a Row, name: &'a str) -> impl Iterator<Item = &'a Run> {
        self.runs.iter().filter(move |run| run.row == row.name && run.contestant == name)
    }

    /// By round.
    fn figures<'a>(
        &'a self,
        row: &'a Row,
        name: &'a str,
        figure: usize,
    ) -> impl Iterator<Item = (u32, f64)> + 'a {
        self.runs_of(row, name).filter_map(move |run| match &run.outcome {
            Outcome::Figures(figures) => Some((run.round, *figures.get(figure)?)),
            Outcome::Missing(_) | Outcome::Failed(_) => None,
        })
    }

    fn spread(&self, row: &Row, name: &str, figure: usize) -> Option<Spread> {
        Spread::of(self.figures(row, name, figure).map(|(_, value)| value))
    }

    /// Within each round in which there are both.
    fn ratios(&self, row: &Row, of: &str, to: &str, figure: usize) -> Vec<f64> {
        let ratio = |(round, value): (u32, f64)| {
            let (_, other) = self.figures(row, to, figure).find(|(other, _)| *other == round)?;
            Some(value / other)
        };
        self.figures(row, of, figure).filter_map(ratio).collect()
    }

    /// Rows with a target first, then the others.
    fn comparisons(&self, row: &Row) -> Vec<Comparison> {
        let compare = |figure, of, to: Option<&'static str>, target| {
            let values = match to {
                Some(to) => self.ratios(row, of, to, figure),
                None => self.figures(row, of, figure).map(|(_, value)| value).collect(),
            };
            Comparison { figure, of, to, target, rounds: values.len(), median: median(values.into_iter()) }
        };
        let mut all: Vec<Comparison> = row
            .targets
            .iter()
            .map(|target| compare(target.figure, target.of, target.to, Some(*target)))
            .collect();
        let Some((first, others)) = row.contestants.split_first() else { return all };
        for figure in 0..row.figures.len() {
            for other in others {
                let (of, to) = match row.pairs {
                    Pairs::FirstToOthers => (first.name, other.name),
                    Pairs::OthersToFirst => (other.name, first.name),
                };
                let known = all.iter().any(|one| one.figure == figure && (one.of, one.to) == (of, Some(to)));
                if !known {
                    all.push(compare(figure, of, Some(to), None));
                }
            }
        }
        all
    }
}

/// With about three digits that mean something.
pub fn number(value: Option<f64>) -> String {
    match value {
        None => "-".to_owned(),
        Some(value) if value >= 100.0 => format!("{value:.0}"),
        Some(value) if value >= 10.0 => format!("{value:.1}"),
        Some(value) if value >= 1.0 => format!("{value:.2}"),
        Some(value) => format!("{value:.3}"),
    }
}

/// The name of a figure as part of a file's name.
fn slug(figure: &Figure) -> String {
    figure.name.to_lowercase().replace(' ', "-")
}

#[cfg(test)]
mod tests;
