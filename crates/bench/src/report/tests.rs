use super::*;

/// All figures of a run from one number.
fn run(round: u32, peer: Peer, value: f64) -> Run {
    let tcp = Tcp { gbit_per_s: value, retransmits: 0 };
    let rate = PacketRate { received_mpps: value, sent_mpps: 1.0 };
    let round_trip = RoundTrip { p50_us: value, p99_us: 2.0 * value, lost: 0 };
    let figures = Figures {
        tcp: Sample { value: tcp, busy_before: 0.01, noisy: false },
        rate: Sample { value: rate, busy_before: 0.01, noisy: false },
        round_trip: Sample { value: round_trip, busy_before: 0.5, noisy: true },
        round_trip_one_cpu: Sample { value: round_trip, busy_before: 0.01, noisy: false },
    };
    Run { round, peer, figures: Ok(figures) }
}

fn report(runs: Vec<Run>) -> Report {
    let machine = Machine { cpu: "CPU".into(), cores: 2, kernel: "6.18".into() };
    Report::new(machine, Settings { rounds: 3, seconds: 0.5 }, runs)
}

/// The machine is ten times as fast in the second round, and vmlan fails in the third.
fn uneven() -> Report {
    report(vec![
        run(1, Peer::Vmlan, 2.0),
        run(1, Peer::Bridge, 1.0),
        run(2, Peer::Bridge, 10.0),
        run(2, Peer::Vmlan, 40.0),
        run(3, Peer::Bridge, 1000.0),
        Run { round: 3, peer: Peer::Vmlan, figures: Err("no ping came through".into()) },
    ])
}

#[test]
fn ratios_are_made_within_a_round() {
    let report = uneven();

    assert_eq!(report.median(Peer::Vmlan, Metric::Tcp), Some(21.0));
    assert_eq!(report.median(Peer::Bridge, Metric::RoundTripTail), Some(20.0));
    assert_eq!(report.ratio(Peer::Vmlan, Peer::Bridge, Metric::Rate), Some(3.0));
    assert_eq!(report.ratio(Peer::Vmlan, Peer::VdeSwitch, Metric::Rate), None);
}

#[test]
fn tables_show_who_was_measured() {
    let expected = "\
CPU, 2 cores, Linux 6.18
rounds: 3, seconds: 0.5, 5 of 20 measurements began on a noisy machine

median  TCP Gbit/s  64 octets Mpps  RTT p50 µs  RTT p99 µs  one CPU p50 µs  rounds
vmlan         21.0            21.0        21.0        42.0            21.0       2
bridge        10.0            10.0        10.0        20.0            10.0       3

median ratio    TCP Gbit/s  64 octets Mpps  RTT p50 µs  RTT p99 µs  one CPU p50 µs  rounds
vmlan / bridge        3.00            3.00        3.00        3.00            3.00       2
";

    assert_eq!(uneven().tables(), expected);
}

#[test]
fn without_vmlan_there_are_no_ratios_and_without_success_no_figures() {
    let failed = Run { round: 1, peer: Peer::RelayUring, figures: Err("no io_uring".into()) };
    let report = report(vec![failed]);

    let tables = report.tables();

    assert!(tables.contains("relay-uring           -"), "{tables}");
    assert!(!tables.contains("ratio"), "{tables}");
}

#[test]
fn failures_name_peer_round_and_cause() {
    let failures: Vec<String> = uneven().failures().collect();

    assert_eq!(failures, ["vmlan failed in round 3: no ping came through"]);
}

#[test]
fn json_has_every_figure() {
    let mut octets = Vec::new();
    uneven().write(&mut octets).expect("room in a vector");

    let json: serde_json::Value = serde_json::from_slice(&octets).expect("JSON");

    assert_eq!(json["machine"]["cpu"], "CPU");
    assert_eq!(json["settings"]["rounds"], 3);
    assert_eq!(json["medians"][0]["peer"], "vmlan");
    assert_eq!(json["medians"][0]["median"]["tcp_gbit_per_s"], 21.0);
    assert_eq!(json["ratios"][0]["to"], "bridge");
    assert_eq!(json["ratios"][0]["median"]["rtt_p99_us"], 3.0);
    assert_eq!(json["runs"].as_array().map(Vec::len), Some(6));
    assert_eq!(json["runs"][0]["peer"], "vmlan");
    assert_eq!(json["runs"][0]["figures"]["rate"]["received_mpps"], 2.0);
    assert_eq!(json["runs"][0]["figures"]["round_trip"]["noisy"], true);
    assert_eq!(json["runs"][5]["figures"], serde_json::Value::Null);
    assert_eq!(json["runs"][5]["error"], "no ping came through");
}

#[test]
fn numbers_have_three_digits() {
    let numbers = [None, Some(0.0712), Some(1.234), Some(41.64), Some(1812.4)].map(number);

    assert_eq!(numbers, ["-", "0.071", "1.23", "41.6", "1812"]);
}
