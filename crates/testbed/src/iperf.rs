//! Throughput between two namespaces with iperf3, read from its JSON report.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::netns::Netns;
use crate::process::run;

/// Each server has a port of its own: the last one may not have gone yet.
static NEXT_PORT: AtomicU16 = AtomicU16::new(5201);

/// A port that no server of this process has had.
pub(crate) fn next_port() -> u16 {
    NEXT_PORT.fetch_add(1, Ordering::Relaxed)
}

/// The traffic that iperf3 sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Traffic {
    /// One TCP connection, as fast as it goes.
    Tcp,
    /// UDP datagrams at a fixed rate.
    Udp {
        /// Bits a second of payload.
        bits_per_second: u64,
        /// Payload of a datagram in octets.
        payload: u16,
    },
}

/// When a measurement ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Amount {
    /// After so many seconds.
    Seconds(u32),
    /// After so many octets of payload.
    Octets(u64),
}

/// A measurement to make.
#[derive(Clone, Copy, Debug)]
pub struct Iperf {
    /// The traffic to send.
    pub traffic: Traffic,
    /// How much of it.
    pub amount: Amount,
    /// The server sends and the client receives.
    pub reverse: bool,
    /// TCP's congestion control on both sides; `None` for the system's.
    pub congestion_control: Option<&'static str>,
}

impl Iperf {
    /// TCP from the client to the server.
    pub fn tcp(seconds: u32) -> Self {
        Self {
            traffic: Traffic::Tcp,
            amount: Amount::Seconds(seconds),
            reverse: false,
            congestion_control: None,
        }
    }

    /// So many octets with TCP from the client to the server: quicker, where the rate is not of interest.
    /// When the sender is done the last ones may be in buffers, and are not counted as received.
    pub fn tcp_octets(octets: u64) -> Self {
        Self { amount: Amount::Octets(octets), ..Self::tcp(0) }
    }

    /// UDP in datagrams of 1,200 octets from the client to the server.
    pub fn udp(seconds: u32, bits_per_second: u64) -> Self {
        let traffic = Traffic::Udp { bits_per_second, payload: 1200 };
        Self { traffic, amount: Amount::Seconds(seconds), reverse: false, congestion_control: None }
    }

    /// UDP in datagrams of so many octets, as fast as the client can.
    pub fn udp_flood(seconds: u32, payload: u16) -> Self {
        Self { traffic: Traffic::Udp { bits_per_second: 0, payload }, ..Self::udp(seconds, 0) }
    }

    /// The same the other way: from the server to the client.
    pub fn reversed(self) -> Self {
        Self { reverse: true, ..self }
    }
}

/// The traffic that arrived.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct IperfReport {
    /// Payload octets that the sender sent.
    pub sent_octets: u64,
    /// Payload octets that the receiver received.
    pub received_octets: u64,
    /// Payload bits a second at the receiver.
    pub bits_per_second: f64,
    /// Segments sent again; 0 for UDP and where the receiver made the report.
    pub retransmits: u64,
    /// Datagrams sent; 0 for TCP.
    pub datagrams: u64,
    /// Datagrams lost; 0 for TCP.
    pub lost: u64,
}

impl IperfReport {
    /// Reads iperf3's JSON report.
    ///
    /// # Errors
    /// iperf3's own message, or what is wrong with the report.
    pub fn parse(json: &str) -> Result<Self, String> {
        let report: Value = serde_json::from_str(json).map_err(|error| format!("iperf3 report: {error}"))?;
        if let Some(error) = report.get("error").and_then(Value::as_str) {
            return Err(format!("iperf3: {error}"));
        }
        let end = report.get("end").ok_or("iperf3 report: no \"end\"")?;
        let number =
            |object: &str, name: &str| end.get(object).and_then(|o| o.get(name)).and_then(Value::as_u64);
        let udp = end.get("sum").is_some();
        let missing = |name: &'static str| move || format!("iperf3 report: no {name:?}");
        let (datagrams, lost) =
            (number("sum", "packets").unwrap_or(0), number("sum", "lost_packets").unwrap_or(0));
        let rate =
            |object: &str| end.get(object).and_then(|o| o.get("bits_per_second")).and_then(Value::as_f64);
        let receiver = if udp && number("sum_received", "bytes").is_none() { "sum" } else { "sum_received" };
        let sender = if udp && number("sum_sent", "bytes").is_none() { "sum" } else { "sum_sent" };
        Ok(Self {
            sent_octets: number(sender, "bytes").ok_or_else(missing("sum_sent.bytes"))?,
            received_octets: number(receiver, "bytes").ok_or_else(missing("sum_received.bytes"))?,
            bits_per_second: rate(receiver).ok_or_else(missing("sum_received.bits_per_second"))?,
            retransmits: number("sum_sent", "retransmits").unwrap_or(0),
            datagrams,
            lost,
        })
    }
}

/// Runs an iperf3 server in one namespace and a client in another.
///
/// # Panics
/// When either fails or takes 20 s longer than the measurement.
#[track_caller]
pub fn iperf3(
    client: &Netns,
    server: &Netns,
    server_address: impl Into<IpAddr>,
    wanted: Iperf,
) -> IperfReport {
    let address = server_address.into();
    let port = next_port();
    let (bind, on) = (address.to_string(), port.to_string());
    let mut listener =
        server.spawn("iperf3", ["--server", "--one-off", "--forceflush", "--bind", &bind, "--port", &on]);
    listener.wait_for_log("Server listening", Duration::from_secs(10));
    to_server(client, address, port, wanted)
        .unwrap_or_else(|error| panic!("{error}\nserver: {}", listener.log()))
}

/// Runs an iperf3 server that listens at one address and port, and a client that reaches it by another.
///
/// # Panics
/// When either fails or takes 20 s longer than the measurement.
#[track_caller]
pub fn iperf3_by(
    client: &Netns,
    to: SocketAddr,
    server: &Netns,
    at: SocketAddr,
    wanted: Iperf,
) -> IperfReport {
    let (bind, on) = (at.ip().to_string(), at.port().to_string());
    let mut listener =
        server.spawn("iperf3", ["--server", "--one-off", "--forceflush", "--bind", &bind, "--port", &on]);
    listener.wait_for_log("Server listening", Duration::from_secs(10));
    to_server(client, to.ip(), to.port(), wanted)
        .unwrap_or_else(|error| panic!("{error}\nserver: {}", listener.log()))
}

/// Runs an iperf3 client in a namespace.
///
/// # Errors
/// Returns the report of the client.
pub(crate) fn to_server(
    client: &Netns,
    address: IpAddr,
    port: u16,
    wanted: Iperf,
) -> Result<IperfReport, String> {
    let (address, port) = (address.to_string(), port.to_string());
    let mut command = client.command("iperf3");
    command.args(["--client", &address, "--port", &port, "--json"]);
    match wanted.amount {
        Amount::Seconds(seconds) => command.args(["--time", &seconds.to_string()]),
        Amount::Octets(octets) => command.args(["--bytes", &octets.to_string()]),
    };
    command.args(["--connect-timeout", "5000"]);
    if let Traffic::Udp { bits_per_second, payload } = wanted.traffic {
        command.args(["--udp", "--bitrate", &bits_per_second.to_string(), "--length", &payload.to_string()]);
    }
    if wanted.reverse {
        command.arg("--reverse");
    }
    if let Some(algorithm) = wanted.congestion_control {
        command.args(["--congestion", algorithm]);
    }
    let seconds = match wanted.amount {
        Amount::Seconds(seconds) => seconds,
        Amount::Octets(_) => 0,
    };
    let output = run(command, Duration::from_secs(u64::from(seconds) + 20));
    IperfReport::parse(&output.stdout).map_err(|error| format!("{error}\nclient: {}", output.stderr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tcp_report_is_read() {
        let json = r#"{"start":{},"end":{"streams":[],
            "sum_sent":{"bytes":1000,"bits_per_second":8000.0,"retransmits":2,"sender":true},
            "sum_received":{"bytes":900,"bits_per_second":7200.5,"sender":true}}}"#;

        let report = IperfReport::parse(json).expect("a report");

        let expected = IperfReport {
            sent_octets: 1000,
            received_octets: 900,
            bits_per_second: 7200.5,
            retransmits: 2,
            datagrams: 0,
            lost: 0,
        };
        assert_eq!(report, expected);
    }

    #[test]
    fn a_udp_report_without_both_sums_is_read() {
        let json = r#"{"end":{"sum":{"bytes":2400,"bits_per_second":9600.0,"packets":20,"lost_packets":3}}}"#;

        let report = IperfReport::parse(json).expect("a report");

        assert_eq!((report.received_octets, report.datagrams, report.lost), (2400, 20, 3));
    }

    #[test]
    fn what_is_not_a_report_is_an_error() {
        let cases = [
            (r#"{"start":{},"error":"unable to connect to server"}"#, "iperf3: unable to connect to server"),
            (r#"{"start":{}}"#, "no \"end\""),
            (r#"{"end":{"sum_sent":{"bytes":1}}}"#, "sum_received.bytes"),
            (r#"{"end":{"sum_sent":{"bytes":-1}}}"#, "sum_sent.bytes"),
            ("", "iperf3 report"),
        ];

        for (json, expected) in cases {
            let error = IperfReport::parse(json).expect_err(json);
            assert!(error.contains(expected), "{error}");
        }
    }
}
