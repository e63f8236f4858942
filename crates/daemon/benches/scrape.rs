//! The time that control needs for a scrape of metrics of a daemon with 512 ports, in both notations. Workers have no
//! part in it.
#![allow(missing_docs, reason = "the macros of criterion make public functions")]

use std::fmt::Write;

use criterion::{Criterion, criterion_group, criterion_main};
use vmlan_daemon::StateDirectory;
use vmlan_daemon::config;
use vmlan_daemon::embedded::Embedded;
use vmlan_daemon::metrics::Format;

const PORTS: usize = 512;

fn scrape(criterion: &mut Criterion) {
    let directory = tempfile::tempdir().expect("a directory");
    let mut text = String::new();
    for number in 0..PORTS {
        let network = number % 4;
        writeln!(
            text,
            "[network.lab{network}.port.guest{number}]\nstream = {{ listen = \"{number}.sock\" }}"
        )
        .expect("text takes everything");
    }
    let config = config::parse(&text, "bench", Some(directory.path())).expect("a good configuration");
    let (daemon, report) = Embedded::start(config, StateDirectory::None).expect("a daemon");
    assert_eq!(report.failed(), 0, "{report:?}");
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    let handle = daemon.handle().clone();

    let mut group = criterion.benchmark_group("scrape-512-ports");
    for (name, format) in [("text", Format::Plain), ("openmetrics", Format::OpenMetrics)] {
        let scrape = || runtime.block_on(handle.metrics(format)).expect("a running daemon");
        let series = scrape().lines().filter(|line| !line.starts_with('#')).count();
        eprintln!("{name}: {series} series in {} octets", scrape().len());
        group.bench_function(name, |bencher| bencher.iter(scrape));
    }
    group.finish();
    daemon.stop();
}

criterion_group!(benches, scrape);
criterion_main!(benches);
