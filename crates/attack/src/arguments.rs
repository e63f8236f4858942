//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::Parser;

/// Attacks a vmlan of its own beside honest guests, and measures what these suffer
#[derive(Debug, Parser)]
#[command(name = "vmlan-attack", version, max_term_width = 100)]
pub struct Arguments {
    /// How many times quiet and attack are measured, in turns
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Only these themes and attacks, with commas between them [see --list]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How long each quiet and each attack takes
    #[arg(long, value_name = "S", default_value = "1", value_parser = seconds)]
    pub seconds: Duration,
    /// Largest p99 during an attack, in units of the quiet one [default: 1.25, or 2 on two processors]
    #[arg(long, value_name = "X", value_parser = factor)]
    pub limit: Option<f64>,
    /// Write all figures to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the table to this file as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// The vmlan to attack [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    pub vmlan: Option<PathBuf>,
    /// List the attacks instead of running them
    #[arg(long)]
    pub list: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    between(text, 0.05, 600.0).map(Duration::from_secs_f64)
}

fn factor(text: &str) -> Result<f64, String> {
    between(text, 1.0, 1e6)
}

fn between(text: &str, least: f64, most: f64) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if (least..=most).contains(&number) { Ok(number) } else { Err(format!("must be {least} to {most}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(format!("vmlan-attack {line}").split_whitespace())
    }

    #[test]
    fn options_are_understood() {
        let arguments =
            parsed("--only frames,slow-thief --rounds 2 --seconds 0.5 --limit 3").expect("options");

        assert_eq!(arguments.only, ["frames", "slow-thief"]);
        assert_eq!((arguments.rounds, arguments.limit), (2, Some(3.0)));
        assert_eq!(arguments.seconds, Duration::from_millis(500));
    }

    #[test]
    fn what_makes_no_sense_is_refused() {
        for line in
            ["--rounds 0", "--seconds 0", "--seconds nan", "--limit 0.5", "--limit x", "frames", "--ony x"]
        {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
