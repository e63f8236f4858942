use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use super::measure::{RoundTrips, Spread, Throughput};
use super::uplink::Step;
use super::{CAPTURE, Results};
use crate::table::table;

/// Everything that was found, for a person to read.
pub fn text(results: &Results, left_out: &[String], capture: &Path, elapsed: Duration) -> String {
    let mut text = String::new();
    let mut section = |title: &str, body: String| {
        let _ = write!(text, "\n{title}\n{body}");
    };
    section("Ports, as the network sees them: RX came from the guest, TX went to it", ports(&results.ports));
    section("Uplink: addresses, names and a way out for guests that have nothing set", steps(&results.steps));
    section("Round trips in microseconds: least / median / most", round_trips(&results.round_trips));
    section("TCP", throughputs(&results.throughputs));
    text.push('\n');
    let pings = results.round_trips.iter().flat_map(|trips| [trips.ipv4, trips.ipv6]).flatten().count();
    let transfers = results.throughputs.len();
    let _ = writeln!(
        text,
        "Everything arrived: all replies of {pings} pings, every octet of {transfers} transfers."
    );
    let _ = writeln!(text, "The books balance: {}.", results.books);
    for left_out in left_out {
        let _ = writeln!(text, "Left out: {left_out}.");
    }
    let (frames, lost) = (grouped(results.capture.frames), grouped(results.capture.lost));
    let _ = writeln!(
        text,
        "The first {frames} frames, {} octets of each, are captured ({lost} lost) in\n  {path}\nand this shows them:\n  \
         tshark -r {path}        or: wireshark {path}",
        CAPTURE.snaplen,
        path = capture.display(),
    );
    let _ = writeln!(
        text,
        "Done in {:.1} s. That file stays; everything else is gone again.",
        elapsed.as_secs_f64()
    );
    text
}

fn ports(ports: &[vmlan_api::Port]) -> String {
    let carries = |port: &&vmlan_api::Port| port.peer.is_some();
    let rows = ports.iter().filter(carries).map(|port| {
        let counters = &port.counters;
        let numbers = [counters.rx_frames, counters.rx_octets, counters.tx_frames, counters.tx_octets];
        let drops = counters.drops.iter().map(|(reason, count)| format!("{} {reason}", grouped(*count)));
        let drops = drops.collect::<Vec<_>>().join(", ");
        let mut row = vec![port.port.clone(), port.kind.as_str().to_owned()];
        row.extend(numbers.map(grouped));
        row.push(if drops.is_empty() { "none".to_owned() } else { drops });
        row
    });
    let head = ["PORT", "KIND", "RX FRAMES", "RX OCTETS", "TX FRAMES", "TX OCTETS", "DROPS"];
    aligned(head, rows.collect(), 2..6)
}

fn steps(steps: &[Step]) -> String {
    let row = |step: &Step| {
        let milliseconds = format!("{:.1}", step.elapsed.as_secs_f64() * 1e3);
        vec![step.from.clone(), step.wants.clone(), step.gets.clone(), milliseconds]
    };
    aligned(["FROM", "WANTS", "GETS", "MS"], steps.iter().map(row).collect(), 3..4)
}

fn round_trips(round_trips: &[RoundTrips]) -> String {
    let spread = |spread: &Option<Spread>| match spread {
        Some(Spread { least, median, most }) => {
            [least, median, most].map(|time| format!("{:>5}", time.as_micros())).join(" / ")
        }
        None => "-".to_owned(),
    };
    let row = |trips: &RoundTrips| {
        vec![trips.from.clone(), trips.to.clone(), spread(&trips.ipv4), spread(&trips.ipv6)]
    };
    aligned(["FROM", "TO", "IPV4", "IPV6"], round_trips.iter().map(row).collect(), 2..4)
}

fn throughputs(throughputs: &[Throughput]) -> String {
    let row = |transfer: &Throughput| {
        let rate = transfer.octets as f64 * 8.0 / transfer.elapsed.as_secs_f64().max(f64::MIN_POSITIVE) / 1e9;
        let (from, to, family) = (transfer.from.clone(), transfer.to.clone(), transfer.family.to_string());
        vec![from, to, family, format!("{rate:.2}"), grouped(transfer.octets), "0".to_owned()]
    };
    let head = ["FROM", "TO", "OVER", "GBIT/S", "OCTETS", "CORRUPT"];
    aligned(head, throughputs.iter().map(row).collect(), 3..6)
}

/// A table whose columns in `numeric` end at the right.
fn aligned<const N: usize>(
    head: [&str; N],
    mut rows: Vec<Vec<String>>,
    numeric: std::ops::Range<usize>,
) -> String {
    let mut head = head.map(str::to_owned);
    for column in numeric {
        let cells = rows.iter().map(|row| &row[column]).chain([&head[column]]);
        let width = cells.map(|cell| cell.chars().count()).max().unwrap_or(0);
        for cell in rows.iter_mut().map(|row| &mut row[column]).chain([&mut head[column]]) {
            *cell = format!("{cell:>width$}");
        }
    }
    let lines = table(&head.each_ref().map(String::as_str), &rows);
    lines.lines().map(|line| format!("  {line}\n")).collect()
}

/// A number with a comma before every three digits.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let groups = digits.as_bytes().rchunks(3).rev().map(String::from_utf8_lossy);
    groups.collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_stand_in_groups() {
        let numbers = [0, 999, 1000, 1_234_567];
        assert_eq!(numbers.map(grouped), ["0", "999", "1,000", "1,234,567"]);
    }

    #[test]
    fn numbers_end_at_the_right() {
        let rows = vec![vec!["a".to_owned(), "5".to_owned()], vec!["b".to_owned(), "12345".to_owned()]];
        assert_eq!(aligned(["X", "N"], rows, 1..2), "  X      N\n  a      5\n  b  12345\n");
    }
}
