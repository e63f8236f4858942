use super::*;
use crate::row::{Contestant, Group};

const FIGURES: &[Figure] = &[Figure::RATE, Figure::P99];

fn row(pairs: Pairs, targets: Vec<Target>) -> Row {
    let nobody = |name| Contestant::new(name, &[], |_| Ok(vec![]));
    Row {
        group: Group::Tap,
        name: "tap-x",
        title: "an example",
        figures: FIGURES,
        contestants: ["vmlan", "bridge", "gone"].map(nobody).into(),
        pairs,
        targets,
        measurements: 1.0,
    }
}

fn run(round: u32, contestant: &'static str, value: f64) -> Run {
    let outcome = Outcome::Figures(vec![value, 2.0 * value]);
    Run { round, row: "tap-x", contestant, quiet: Some(Quiet { busy: 0.01 }), outcome }
}

/// The machine is ten times as fast in the second round, vmlan fails in the third, and one is not there at all.
fn uneven(row: Row) -> Report {
    let machine = Machine {
        cpu: "CPU".into(),
        cores: 2,
        memory_gib: 4.0,
        virtual_machine: true,
        kernel: "6.18".into(),
        system_call_ns: 90.0,
        programs: vec!["iperf 3.12".into()],
    };
    let because = |contestant, outcome| Run { round: 3, row: "tap-x", contestant, quiet: None, outcome };
    let runs = vec![
        run(1, "vmlan", 2.0),
        run(1, "bridge", 1.0),
        run(2, "bridge", 10.0),
        Run { quiet: Some(Quiet { busy: 0.5 }), ..run(2, "vmlan", 40.0) },
        run(3, "bridge", 1000.0),
        because("vmlan", Outcome::Failed("no ping came through".into())),
        because("gone", Outcome::Missing("no ovs-vsctl".into())),
    ];
    Report::new(machine, Settings { rounds: 3, seconds: 0.5, long_seconds: 10.0 }, vec![row], runs)
}

fn targets() -> Vec<Target> {
    vec![
        Target::ratio(0, "vmlan", "bridge", 2.5).reaching(3.0),
        Target::ratio(0, "vmlan", "gone", 1.0),
        Target::ratio_at_most(1, "vmlan", "bridge", 1.1),
        Target::absolute(1, "bridge", Bound::AtMost(20.0)),
    ]
}

#[test]
fn ratios_are_made_within_a_round() {
    let report = uneven(row(Pairs::FirstToOthers, vec![]));
    let row = &report.rows[0];

    assert_eq!(report.spread(row, "vmlan", 0).map(|spread| spread.median), Some(21.0));
    assert_eq!(report.spread(row, "bridge", 1).map(|spread| spread.median), Some(20.0));
    assert_eq!(report.ratios(row, "vmlan", "bridge", 0), [2.0, 4.0]);
    assert!(report.ratios(row, "vmlan", "gone", 0).is_empty());
}

#[test]
fn tables_show_everyone_and_what_was_reached() {
    let expected = "\
virtual machine: CPU, 2 cores, 4.0 GiB, Linux 6.18, an empty system call takes 90 ns; iperf 3.12
3 rounds of 0.5 s, 1 of 5 measurements began on a noisy machine

tap-x: TAP to TAP, an example
  figure       who     median   least  most  rounds
  frames Mpps  vmlan   21.0     2.00   40.0  2
               bridge  10.0     1.00   1000  3
               gone    MISSING  -      -     0
  RTT p99 µs   vmlan   42.0     4.00   80.0  2
               bridge  20.0     2.00   2000  3
               gone    MISSING  -      -     0

  figure   ratio           median  target           reached              rounds
  frames   vmlan / bridge  3.00    ≥ 2.5, better 3  yes, the better one  2
           vmlan / gone    -       ≥ 1              NOT MEASURED         0
  RTT p99  vmlan / bridge  3.00    ≤ 1.1            NO                   2
           bridge          20.0    ≤ 20             yes                  3
           vmlan / gone    -                                             0
";

    assert_eq!(uneven(row(Pairs::FirstToOthers, targets())).tables(), expected);
}

#[test]
fn others_are_compared_with_the_first_where_that_has_least_to_do() {
    let report = uneven(row(Pairs::OthersToFirst, vec![]));

    let names: Vec<String> = report.comparisons(&report.rows[0]).iter().map(Comparison::name).collect();

    assert_eq!(names, ["bridge / vmlan", "gone / vmlan", "bridge / vmlan", "gone / vmlan"]);
}

#[test]
fn failures_and_what_is_missing_are_named_with_the_cause() {
    let report = uneven(row(Pairs::FirstToOthers, vec![]));

    assert_eq!(report.failures(), ["tap-x: vmlan failed in round 3: no ping came through"]);
    assert_eq!(report.missing(), ["tap-x: gone: no ovs-vsctl"]);
}

#[test]
fn markdown_has_the_tables_and_the_charts() {
    let markdown = uneven(row(Pairs::FirstToOthers, targets())).markdown(Some(Path::new("docs/charts")));

    for line in [
        "### TAP to TAP",
        "**an example** (`tap-x`)",
        "| frames Mpps | vmlan | 21.0 | 2.00 | 40.0 | 2 |",
        "| RTT p99 | vmlan / bridge | 3.00 | ≤ 1.1 | NO | 2 |",
        "![an example: RTT p99](charts/tap-x-rtt-p99.svg)",
    ] {
        assert!(markdown.lines().any(|there| there == line), "{line}: {markdown}");
    }
}

#[test]
fn json_has_every_figure() {
    let mut octets = Vec::new();
    uneven(row(Pairs::FirstToOthers, targets())).write(&mut octets).expect("room in a vector");
    let json: serde_json::Value = serde_json::from_slice(&octets).expect("JSON");

    assert_eq!(json["machine"]["cpu"], "CPU");
    assert_eq!(json["settings"]["rounds"], 3);
    let row = &json["rows"][0];
    assert_eq!(row["contestants"][0]["medians"][0], 21.0);
    assert_eq!(row["comparisons"][0]["median"], 3.0);
    assert_eq!(row["comparisons"][0]["target"]["at_least"], 2.5);
    assert_eq!(row["comparisons"][2]["reached"], false);
    let runs = &json["runs"];
    assert_eq!(runs.as_array().map(Vec::len), Some(7));
    assert_eq!(runs[3]["noisy"], true);
    assert_eq!(runs[0]["figures"][1], 4.0);
    assert_eq!(runs[5]["error"], "no ping came through");
    assert_eq!(runs[6]["missing"], "no ovs-vsctl");
}

#[test]
fn charts_are_written_for_each_figure() {
    let directory = tempfile::tempdir().expect("a temporary directory");

    uneven(row(Pairs::FirstToOthers, vec![])).draw(directory.path()).expect("charts");

    for file in ["tap-x-frames.svg", "tap-x-rtt-p99.svg"] {
        let svg = std::fs::read_to_string(directory.path().join(file)).expect(file);
        assert!(svg.contains("bridge") && !svg.contains("gone"), "{svg}");
    }
}

#[test]
fn numbers_have_three_digits() {
    let numbers = [None, Some(0.0712), Some(1.234), Some(41.64), Some(1812.4)].map(number);

    assert_eq!(numbers, ["-", "0.071", "1.23", "41.6", "1812"]);
}
