//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::relay::Relay;

/// Compares vmlan with what else moves frames on this machine; needs root
#[derive(Debug, Parser)]
#[command(name = "vmlan-bench", version, max_term_width = 100, args_conflicts_with_subcommands = true)]
pub struct Arguments {
    /// How many times each is measured
    #[arg(long, value_name = "N", default_value = "5", value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
    /// Only these groups and rows, with commas between them: tap, dgram, stream, scale, fair, host, iface, nat,
    /// vhost, or a row's name [see --list]
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// How long a measurement takes; iperf3 takes whole seconds, rounded up
    #[arg(long, value_name = "S", default_value = "2", value_parser = seconds)]
    pub seconds: Duration,
    /// How long the row scale-memory takes
    #[arg(long, value_name = "S", default_value = "10", value_parser = long)]
    pub long: Duration,
    /// How many seconds a measurement waits at most for a quiet machine
    #[arg(long, value_name = "S", default_value = "5", value_parser = patience)]
    pub patience: Duration,
    /// Write every round's figures, and what the machine is, to this file
    #[arg(long, value_name = "FILE")]
    pub json: Option<PathBuf>,
    /// Write the tables to this file as Markdown
    #[arg(long, value_name = "FILE")]
    pub markdown: Option<PathBuf>,
    /// Draw a chart of each row into this directory, as SVG
    #[arg(long, value_name = "DIRECTORY")]
    pub charts: Option<PathBuf>,
    /// The vmlan to measure [default: the one beside this program]
    #[arg(long, value_name = "PROGRAM")]
    pub vmlan: Option<PathBuf>,
    /// List the rows, and who takes part in them, instead of measuring
    #[arg(long)]
    pub list: bool,
    /// Something else than measuring.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// Something else than measuring.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Relay frames between two of a kind
    #[command(hide = true, subcommand)]
    Relay(Relay),
}

fn seconds(text: &str) -> Result<Duration, String> {
    between(text, 0.05, 60.0)
}

fn long(text: &str) -> Result<Duration, String> {
    between(text, 0.05, 86_400.0)
}

fn patience(text: &str) -> Result<Duration, String> {
    between(text, 0.0, 600.0)
}

fn between(text: &str, least: f64, most: f64) -> Result<Duration, String> {
    let number: f64 = text.parse().map_err(|_| "not a number of seconds".to_owned())?;
    if (least..=most).contains(&number) {
        Ok(Duration::from_secs_f64(number))
    } else {
        Err(format!("must be {least} to {most}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(line: &str) -> Result<Arguments, clap::Error> {
        Arguments::try_parse_from(format!("vmlan-bench {line}").split_whitespace())
    }

    #[test]
    fn without_arguments_all_are_measured() {
        let arguments = parsed("").expect("nothing is needed");

        assert!(arguments.only.is_empty() && !arguments.list);
        assert_eq!((arguments.rounds, arguments.seconds), (5, Duration::from_secs(2)));
    }

    #[test]
    fn names_are_taken_apart() {
        let arguments =
            parsed("--only tap,dgram-64 --rounds 1 --seconds 0.3 --long 600").expect("all is well");

        assert_eq!(arguments.only, ["tap", "dgram-64"]);
        assert_eq!((arguments.rounds, arguments.seconds), (1, Duration::from_millis(300)));
    }

    #[test]
    fn what_cannot_be_measured_is_refused() {
        for line in [
            "--rounds 0",
            "--seconds 0",
            "--seconds nan",
            "--seconds 1e9",
            "--patience -1",
            "relay tap sendfile /a /b",
            "--rounds 2 relay datagram /a /b",
        ] {
            assert!(parsed(line).is_err(), "{line}");
        }
    }
}
