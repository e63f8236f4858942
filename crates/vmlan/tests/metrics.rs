//! The metrics of a running daemon, as text, as Prometheus reads them, and as Grafana asks for them.

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;
use std::fs;
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;

use serde_json::Value;
use testbed::{Process, require, wait_for, wait_until};
use vmlan_api::PortState;
use vmlan_guest::Attachment;

use support::{Daemon, PATIENCE, Peer, directory, exchange, free_port};

/// A daemon with two guests that have talked, which serves metrics at loopback.
struct Lab {
    daemon: Daemon,
    guests: [Peer; 2],
    port: u16,
}

fn config(metrics: u16) -> String {
    format!(
        "daemon = {{ metrics = \"127.0.0.1:{metrics}\" }}\n\
         [network.lab.port.web]\nstream = {{ listen = \"web.sock\" }}\nmac = \"52:54:00:00:00:01\"\n\
         [network.lab.port.db]\nstream = {{ listen = \"db.sock\" }}\n\
         [network.lab.port.away]\nstream = {{ listen = \"away.sock\" }}\n\
         [network.lab.port.guests]\nvde = {{ directory = \"lab.vde\" }}\n"
    )
}

impl Lab {
    #[track_caller]
    fn start() -> Lab {
        let port = free_port();
        let daemon = Daemon::start(&config(port));
        let guest = |number, name: &str| Peer::attach(number, Attachment::Stream { path: daemon.path(name) });
        let mut guests = [guest(1, "web.sock"), guest(2, "db.sock")];
        daemon.wait_up(&["web", "db"]);
        let [web, db] = &mut guests;
        exchange(web, db);
        Lab { daemon, guests, port }
    }

    /// Drops a frame of web's for its source.
    fn forge(&mut self) {
        let forged = support::numbered(self.guests[1].mac, support::mac(9), 0);
        self.guests[0].raw.send_frame(&forged).expect("room for a frame");
    }
}

/// Fetches what an address answers; `None` when nothing listens there.
#[track_caller]
fn fetch(url: &str, arguments: &[&str]) -> Option<String> {
    let mut curl = Command::new("curl");
    curl.args(["--silent", "--show-error", "--noproxy", "*", "--max-time", "15"]).args(arguments).arg(url);
    let output = testbed::run(curl, PATIENCE);
    // 7: nobody listens; 52 and 56: closed before the answer.
    assert!(
        [Some(0), Some(7), Some(52), Some(56)].contains(&output.status.code()),
        "{url}: {}",
        output.stderr
    );
    output.success().then_some(output.stdout)
}

#[track_caller]
fn scrape(port: u16) -> String {
    fetch(&format!("http://127.0.0.1:{port}/metrics"), &[]).expect("a listener")
}

/// The value of the series that is written so.
fn value(text: &str, series: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))?;
    Some(line.parse().unwrap_or_else(|error| panic!("{series}: {error}")))
}

/// The names of all metrics, those of a histogram's samples too.
fn names(text: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').expect("a name and a kind");
        match kind {
            "histogram" => names.extend(["bucket", "sum", "count"].map(|part| format!("{name}_{part}"))),
            _ => _ = names.insert(name.to_owned()),
        }
    }
    names
}

fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../.."))
}

#[test]
fn a_scrape_tells_what_the_interface_tells() {
    require!(tool("curl"));
    let mut lab = Lab::start();
    lab.forge();
    let dropped = r#"vmlan_port_drops_total{network="lab",port="web",direction="rx",reason="source_guard"}"#;
    // What was just gathered is the answer for a moment.
    let text = wait_for("the drop", PATIENCE, || {
        let text = scrape(lab.port);
        (value(&text, dropped) == Some(1.0)).then_some(text)
    });
    for name in ["web", "db"] {
        let counters = lab.daemon.port(name).counters;
        let series = |metric: &str, direction: &str| {
            value(&text, &format!(r#"{metric}{{network="lab",port="{name}",direction="{direction}"}}"#))
        };
        let is_up = f64::from(u8::from(lab.daemon.port(name).state == PortState::Up));
        let up = format!(r#"vmlan_port_up{{network="lab",port="{name}"}}"#);
        assert_eq!(value(&text, &up), Some(is_up), "{text}");
        assert_eq!(series("vmlan_port_frames_total", "rx"), Some(counters.rx_frames as f64), "{text}");
        assert_eq!(series("vmlan_port_frames_total", "tx"), Some(counters.tx_frames as f64), "{text}");
        assert_eq!(series("vmlan_port_bytes_total", "rx"), Some(counters.rx_octets as f64), "{text}");
        let drops: u64 = counters.drops.values().sum();
        assert_eq!(series("vmlan_port_dropped_frames_total", "rx"), Some(drops as f64), "{text}");
    }
    for (series, expected) in [
        (r#"vmlan_port_up{network="lab",port="web"}"#, 1.0),
        (r#"vmlan_port_up{network="lab",port="away"}"#, 0.0),
        (r#"vmlan_port_connections_total{network="lab",port="web"}"#, 1.0),
        (r#"vmlan_port_info{network="lab",port="guests",kind="vde"}"#, 1.0),
        (r#"vmlan_network_ports{network="lab"}"#, 4.0),
        (r#"vmlan_network_fdb_entries{network="lab"}"#, 2.0),
        (r#"vmlan_worker_restarts_total{worker="0"}"#, 0.0),
    ] {
        assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
    }
    let worker =
        |name: &str| value(&text, &format!(r#"vmlan_worker_{name}{{worker="0"}}"#)).expect("a worker");
    let received = lab.daemon.ports().iter().map(|port| port.counters.rx_frames).sum::<u64>();
    assert_eq!(worker("batch_frames_sum"), received as f64, "{text}");
    assert!(
        worker("busy_seconds_total") > 0.0 && worker("turns_total") >= worker("batch_frames_count"),
        "{text}"
    );

    let control = lab.daemon.request("GET", "/metrics", None);
    assert_eq!((control.status, names(&control.body)), (200, names(&text)));
    lab.daemon.stop();
}

#[test]
fn the_documents_explain_every_metric_and_no_other() {
    let daemon = Daemon::start("");
    let text = daemon.request("GET", "/metrics", None).body;
    let document = fs::read_to_string(root().join("docs/metrics.md")).expect("the document");
    let rows = document.lines().filter_map(|line| line.strip_prefix("| `")?.split('`').next());
    let explained: BTreeSet<_> = rows.filter(|name| name.contains("_")).map(str::to_owned).collect();
    let typed = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next());
    assert_eq!(explained, typed.map(str::to_owned).collect());
    daemon.stop();
}

#[test]
fn the_address_comes_goes_and_moves_with_the_configuration() {
    require!(tool("curl"));
    let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
    let busy = taken.local_addr().expect("a bound socket").port();
    let first = free_port();
    let daemon = Daemon::start("");
    let url = |port: u16| format!("http://127.0.0.1:{port}/metrics");
    assert_eq!(fetch(&url(first), &[]), None);

    let apply = |text: &str| {
        daemon.write_config(text);
        daemon.cli(&["apply"])
    };
    let at = |port: u16| format!("daemon = {{ metrics = \"127.0.0.1:{port}\" }}\n");
    apply(&at(first)).expect_success();
    assert!(scrape(first).contains("vmlan_build_info{"));
    // Another address that cannot be had: cause and cure are told, and it is served as soon as it can be.
    let failed = apply(&at(busy));
    let told = failed.stdout.clone() + &failed.stderr;
    assert!(!failed.success() && told.contains("daemon.metrics: cannot listen at 127.0.0.1:"), "{told}");
    assert!(told.contains("or remove the key"), "{told}");
    assert_eq!(fetch(&url(first), &[]), None);
    drop(taken);
    wait_until("metrics at the address that became free", PATIENCE, || fetch(&url(busy), &[]).is_some());

    apply("").expect_success();
    assert_eq!(fetch(&url(busy), &[]), None);
    daemon.stop();
}

#[test]
fn a_metrics_address_for_everybody_is_noted() {
    let directory = directory();
    let check = |address: &str| {
        let file = directory.path().join("vmlan.toml");
        fs::write(&file, format!("daemon = {{ metrics = \"{address}\" }}\n")).expect("our own directory");
        let mut command = Command::new(support::VMLAN);
        command.arg("check").arg(&file);
        let output = testbed::run(command, PATIENCE);
        (output.success(), output.stdout + &output.stderr)
    };
    let (good, text) = check("127.0.0.1:9477");
    assert!(good && !text.contains("everybody"), "{text}");
    let (good, text) = check("0.0.0.0:9477");
    assert!(good && text.contains("daemon.metrics: everybody who reaches this host"), "{text}");
    for bad in ["9477", "localhost:9477", "127.0.0.1:0", "/run/vmlan/metrics.sock"] {
        let (good, text) = check(bad);
        assert!(!good && text.contains("is no address for metrics"), "{bad}: {text}");
    }
}

#[test]
fn promtool_has_no_complaint() {
    require!(tool("curl"), tool("promtool"));
    let mut lab = Lab::start();
    lab.forge();
    let file = lab.daemon.path("scrape");
    fs::write(&file, scrape(lab.port)).expect("our own directory");
    let mut promtool = Command::new("sh");
    promtool.args(["-c", "exec promtool check metrics <\"$0\""]).arg(&file);
    let output = testbed::run(promtool, PATIENCE).expect_success();
    assert_eq!((output.stdout.as_str(), output.stderr.as_str()), ("", ""));
    lab.daemon.stop();
}

/// A Prometheus that scrapes the daemon, with its data in the daemon's directory.
struct Prometheus {
    process: Process,
    port: u16,
}

impl Prometheus {
    #[track_caller]
    fn start(lab: &Lab) -> Prometheus {
        let port = free_port();
        let scraped = format!(
            "global: {{scrape_interval: 500ms, scrape_timeout: 500ms}}\n\
             scrape_configs:\n- job_name: vmlan\n  static_configs: [{{targets: ['127.0.0.1:{}']}}]\n",
            lab.port
        );
        let file = lab.daemon.path("prometheus.yml");
        fs::write(&file, scraped).expect("our own directory");
        let mut command = Command::new("prometheus");
        command.arg(format!("--config.file={}", file.display()));
        command.arg(format!("--storage.tsdb.path={}", lab.daemon.path("tsdb").display()));
        command.arg(format!("--web.listen-address=127.0.0.1:{port}")).arg("--log.level=warn");
        Prometheus { process: Process::spawn(command), port }
    }

    /// Asks for an expression: a list of series with their values.
    #[track_caller]
    fn query(&self, expression: &str) -> Result<Vec<Value>, String> {
        let url = format!("http://127.0.0.1:{}/api/v1/query", self.port);
        let answer = fetch(&url, &["--data-urlencode", &format!("query={expression}")]);
        let Some(answer) = answer else { return Err("nobody answers".to_owned()) };
        let answer: Value = serde_json::from_str(&answer).map_err(|error| format!("{error}: {answer}"))?;
        match (answer["status"].as_str(), answer["data"]["result"].as_array()) {
            (Some("success"), Some(result)) => Ok(result.clone()),
            _ => Err(answer.to_string()),
        }
    }

    #[track_caller]
    fn wait_for(&self, expression: &str, mut during: impl FnMut()) {
        let mut last = Err(String::new());
        let found = testbed::poll_until(PATIENCE, || {
            during();
            last = self.query(expression);
            last.as_ref().is_ok_and(|found| !found.is_empty())
        });
        assert!(found, "{expression}: {last:?}\n{}", self.process.log());
    }
}

#[test]
fn prometheus_scrapes_and_the_dashboard_asks_for_what_there_is() {
    require!(tool("curl"), tool("prometheus"));
    let mut lab = Lab::start();
    lab.forge();
    let prometheus = Prometheus::start(&lab);
    prometheus.wait_for("up{job=\"vmlan\"} == 1", || ());
    let [web, db] = &mut lab.guests;
    let rate = r#"rate(vmlan_port_frames_total{network="lab",port="web",direction="rx"}[10s]) > 0"#;
    prometheus.wait_for(rate, || exchange(web, db));
    prometheus.wait_for(r#"vmlan_port_info{kind="stream"} * on (network, port) vmlan_port_up == 1"#, || ());

    let known = names(&scrape(lab.port));
    let dashboard = fs::read_to_string(root().join("contrib/grafana/vmlan.json")).expect("the dashboard");
    let dashboard: Value = serde_json::from_str(&dashboard).expect("JSON");
    let expressions = expressions(&dashboard);
    let mut asked = BTreeSet::new();
    for expression in &expressions {
        let filled = filled(expression);
        // Traffic goes on, so that each rate has something to show.
        let [web, db] = &mut lab.guests;
        exchange(web, db);
        prometheus.query(&filled).unwrap_or_else(|error| panic!("{filled}: {error}"));
        asked.extend(metrics_in(expression));
    }
    let unknown: Vec<_> = asked.difference(&known).collect();
    assert!(unknown.is_empty(), "the dashboard asks for what there is not: {unknown:?}");
    let missing: Vec<_> = known.difference(&asked).collect();
    assert!(missing.is_empty(), "the dashboard does not show {missing:?}");
    // A panel with nothing in it would be as wrong as one that does not parse.
    for expression in expressions.iter().filter(|expression| !expression.contains("histogram_quantile")) {
        let [web, db] = &mut lab.guests;
        prometheus.wait_for(&filled(expression), || exchange(web, db));
    }
    drop(prometheus);
    lab.daemon.stop();
}

/// The expressions of every panel, after a look at what Grafana needs of the dashboard and each panel.
#[track_caller]
fn expressions(dashboard: &Value) -> Vec<String> {
    assert!(dashboard["schemaVersion"].as_u64().is_some_and(|version| version >= 36));
    assert!(dashboard["title"] == "vmlan" && dashboard["uid"] == "vmlan" && dashboard["id"].is_null());
    let variables = dashboard["templating"]["list"].as_array().expect("variables");
    let names: Vec<_> = variables.iter().filter_map(|variable| variable["name"].as_str()).collect();
    assert_eq!(names, ["datasource", "instance", "network", "port"]);
    let panels = dashboard["panels"].as_array().expect("panels");
    let (mut numbers, mut expressions) = (BTreeSet::new(), Vec::new());
    for panel in panels {
        assert!(numbers.insert(panel["id"].as_u64().expect("a number")), "two panels of one number: {panel}");
        assert!(["timeseries", "stat"].contains(&panel["type"].as_str().unwrap_or_default()), "{panel}");
        assert!(panel["title"].as_str().is_some_and(|title| !title.is_empty()), "{panel}");
        assert_eq!(panel["datasource"]["uid"], "${datasource}", "{panel}");
        let place = ["x", "y", "w", "h"].map(|key| panel["gridPos"][key].as_u64().expect("a place"));
        assert!(place[0] + place[2] <= 24 && place[2] > 0 && place[3] > 0, "{panel}");
        assert!(
            panel["fieldConfig"]["defaults"]["unit"].is_string() && panel["options"].is_object(),
            "{panel}"
        );
        let targets = panel["targets"].as_array().filter(|targets| !targets.is_empty()).expect("targets");
        let letters: BTreeSet<_> = targets.iter().filter_map(|target| target["refId"].as_str()).collect();
        assert_eq!(letters.len(), targets.len(), "{panel}");
        expressions
            .extend(targets.iter().map(|target| target["expr"].as_str().expect("an expression").to_owned()));
    }
    let queries = variables.iter().filter_map(|variable| variable["query"]["query"].as_str());
    let inner =
        |query: &str| query.strip_prefix("label_values(")?.rsplit_once(", ").map(|(of, _)| of.to_owned());
    expressions
        .extend(queries.map(|query| inner(query).unwrap_or_else(|| panic!("{query} asks for no labels"))));
    expressions
}

/// An expression as Grafana asks for it, with everything chosen.
fn filled(expression: &str) -> String {
    let filled = expression.replace("$__rate_interval", "1m");
    let filled =
        ["$instance", "$network", "$port"].iter().fold(filled, |text, name| text.replace(name, ".*"));
    assert!(!filled.contains('$'), "{filled}: a variable that there is not");
    filled
}

/// The names of metrics in an expression.
fn metrics_in(expression: &str) -> impl Iterator<Item = String> {
    let words = expression.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("vmlan_") || word.starts_with("process_")).map(str::to_owned)
}
