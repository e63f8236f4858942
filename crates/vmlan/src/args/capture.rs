//! Arguments of `capture`.

use std::path::PathBuf;

use clap::Args;
use clap_complete::engine::ArgValueCompleter;

use crate::names;

/// Frames to capture, and where to write them.
#[derive(Debug, Args)]
pub struct CaptureArguments {
    /// Only these: NETWORK or NETWORK/PORT; a VDE port stands for its clients
    #[arg(value_name = "NETWORK[/PORT]", add = ArgValueCompleter::new(names::places))]
    pub ports: Vec<String>,
    /// Write a pcapng file; - is standard output
    #[arg(short, long, value_name = "FILE")]
    pub write: Option<PathBuf>,
    /// Only frames that match: an expression, which tcpdump compiles, or a program as `tcpdump -ddd -y EN10MB` writes
    /// it, or @FILE with one
    #[arg(short, long)]
    pub filter: Option<String>,
    /// Octets kept of each frame [default: all with -w, else 256]
    #[arg(short, long, value_name = "OCTETS", value_parser = clap::value_parser!(u64).range(1..=262_144))]
    pub snaplen: Option<u64>,
    /// Begin another file, FILE with -0001, -0002 … in its name, before one is larger than this: 500K, 10M, 1G
    #[arg(long, value_name = "SIZE", requires = "write", value_parser = size)]
    pub rotate: Option<u64>,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Capture what was dropped, and why, instead of what passes
    ///
    /// That is what the network drops of what ports receive, and what links drop. Drivers and queues only count
    /// (`vmlan counters`).
    #[arg(long)]
    pub drops: bool,
    /// Capture every port in both directions, so that a frame is there once for each port that it passes
    #[arg(long)]
    pub both: bool,
}

/// Octets, with K, M or G for the powers of 1024.
fn size(text: &str) -> Result<u64, String> {
    let (digits, shift) = match text.char_indices().last() {
        Some((at, 'K' | 'k')) => (&text[..at], 10),
        Some((at, 'M' | 'm')) => (&text[..at], 20),
        Some((at, 'G' | 'g')) => (&text[..at], 30),
        _ => (text, 0),
    };
    let octets = digits.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
    octets.filter(|octets| *octets > 0).ok_or_else(|| "write a size as in 500K, 10M or 1G".to_owned())
}

#[cfg(test)]
mod tests {
    use super::size;

    #[test]
    fn sizes_have_suffixes() {
        for (text, octets) in [("1", 1), ("500K", 512_000), ("10m", 10 << 20), ("1G", 1 << 30)] {
            assert_eq!(size(text), Ok(octets), "{text}");
        }
        for text in ["", "0", "K", "-1", "1T", "1.5M", "99999999999G", "é"] {
            assert!(size(text).is_err(), "{text}");
        }
    }
}
