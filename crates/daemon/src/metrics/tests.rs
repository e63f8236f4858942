use std::collections::BTreeSet;

use super::*;

fn port(name: &str, traffic: Option<Snapshot>) -> PortFacts {
    PortFacts {
        network: "lab".to_owned(),
        port: name.to_owned(),
        kind: PortKind::Tap,
        is_up: true,
        unrest: Unrest { connections: 2, failures: 1 },
        traffic,
    }
}

fn facts(ports: Vec<PortFacts>) -> Facts {
    let network = NetworkFacts {
        name: "lab".to_owned(),
        mtu: 1500,
        ports: ports.len(),
        fdb: FdbTally { entries: 3, moves: 4 },
        fdb_capacity: 8192,
    };
    let worker = Effort { busy: Duration::from_millis(1500), frames: 9, ..Effort::default() };
    Facts { started: Duration::from_secs(7), networks: vec![network], workers: vec![worker], ports }
}

fn samples(text: &str) -> impl Iterator<Item = &str> {
    text.lines().filter(|line| !line.starts_with('#'))
}

#[test]
fn what_was_counted_is_written_with_its_labels() {
    let mut traffic = Snapshot { rx_frames: 5, tx_octets: 640, queued: 6, ..Snapshot::default() };
    traffic.drops[DropReason::NoReceiver] = 10;
    traffic.drops[DropReason::Storm] = 2;
    traffic.drops[DropReason::QueueFull] = 3;

    let text = write(&facts(vec![port("web", Some(traffic))]), Format::Plain);

    for line in [
        "process_start_time_seconds 7.000000000",
        "vmlan_network_fdb_entries{network=\"lab\"} 3",
        "vmlan_network_fdb_moves_total{network=\"lab\"} 4",
        "vmlan_worker_busy_seconds_total{worker=\"0\"} 1.500000000",
        "vmlan_worker_batch_frames_sum{worker=\"0\"} 9",
        "vmlan_port_info{network=\"lab\",port=\"web\",kind=\"tap\"} 1",
        "vmlan_port_frames_total{network=\"lab\",port=\"web\",direction=\"rx\"} 5",
        "vmlan_port_bytes_total{network=\"lab\",port=\"web\",direction=\"tx\"} 640",
        "vmlan_port_queued_frames{network=\"lab\",port=\"web\"} 6",
        "vmlan_port_no_receiver_frames_total{network=\"lab\",port=\"web\"} 10",
        "vmlan_port_dropped_frames_total{network=\"lab\",port=\"web\",direction=\"rx\"} 2",
        "vmlan_port_dropped_frames_total{network=\"lab\",port=\"web\",direction=\"tx\"} 3",
        "vmlan_port_drops_total{network=\"lab\",port=\"web\",direction=\"rx\",reason=\"storm\"} 2",
        "vmlan_port_drops_total{network=\"lab\",port=\"web\",direction=\"tx\",reason=\"queue_full\"} 3",
    ] {
        assert!(samples(&text).any(|sample| sample == line), "{line} is not in\n{text}");
    }
    assert_eq!(samples(&text).filter(|sample| sample.starts_with("vmlan_port_drops_total{")).count(), 2);
}

#[test]
fn a_port_has_no_more_series_than_the_documents_say() {
    let none = samples(&write(&facts(Vec::new()), Format::Plain)).count();
    let series = |traffic| samples(&write(&facts(vec![port("web", traffic)]), Format::Plain)).count() - none;
    let mut worst = Snapshot::default();
    worst.drops.iter_mut().for_each(|count| *count = 1);

    assert_eq!(series(None), 4);
    assert_eq!(series(Some(Snapshot::default())), 15);
    assert_eq!(series(Some(worst)), 15 + 51);
    assert_eq!(none, 2 + 5 + 14);
}

#[test]
fn every_series_is_there_once_and_every_metric_in_one_piece() {
    let ports = || ["a", "b"].map(|name| port(name, Some(Snapshot::default()))).into();
    for format in [Format::Plain, Format::OpenMetrics] {
        let text = write(&facts(ports()), format);
        let series: Vec<_> = samples(&text).filter_map(|line| Some(line.rsplit_once(' ')?.0)).collect();
        assert_eq!(series.iter().collect::<BTreeSet<_>>().len(), series.len(), "{text}");
        let named: Vec<_> = text.lines().filter(|line| line.starts_with("# TYPE ")).collect();
        assert_eq!(named.iter().collect::<BTreeSet<_>>().len(), named.len(), "{text}");
    }
}
