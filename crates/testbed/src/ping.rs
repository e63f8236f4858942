//! Echo requests from a namespace, and the summary that ping programs print.

use std::net::IpAddr;
use std::time::Duration;

use crate::netns::Netns;
use crate::process::run;
use crate::wait::poll_until;

/// The outcome of a run of ping.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PingReport {
    /// Requests sent.
    pub sent: u32,
    /// Requests answered.
    pub received: u32,
    /// Further answers to a request that was answered already.
    pub duplicates: u32,
}

impl PingReport {
    /// True if every request was answered exactly once.
    pub fn all(&self) -> bool {
        self.sent > 0 && self.received == self.sent && self.duplicates == 0
    }

    /// Reads the summary line of iputils' or busybox's ping; `None` when there is none.
    pub fn parse(output: &str) -> Option<Self> {
        let summary = output.lines().find(|line| line.contains("packets transmitted"))?;
        let mut report = Self::default();
        for clause in summary.split(',') {
            let mut words = clause.split_whitespace();
            let Some(number) = words.next().and_then(|word| word.trim_start_matches('+').parse().ok()) else {
                continue;
            };
            match words.last() {
                Some("transmitted") => report.sent = number,
                Some("received") => report.received = number,
                Some("duplicates") => report.duplicates = number,
                _ => {}
            }
        }
        Some(report)
    }
}

/// Echo requests to send.
#[derive(Clone, Copy, Debug)]
pub struct Ping {
    /// Where to.
    pub to: IpAddr,
    /// How many.
    pub count: u32,
    /// ICMP payload in octets.
    pub payload: u32,
    /// Forbid fragmentation on the way, so that the request must fit the MTU.
    pub dont_fragment: bool,
}

impl Ping {
    /// Requests of 56 octets that may be fragmented.
    pub fn new(to: IpAddr, count: u32) -> Self {
        Self { to, count, payload: 56, dont_fragment: false }
    }

    /// Requests that fill an MTU to the last octet and must not be fragmented.
    ///
    /// # Panics
    /// When the MTU has no room for the IP and ICMP headers.
    pub fn filling(to: IpAddr, count: u32, mtu: u32) -> Self {
        let headers = if to.is_ipv4() { 20 + 8 } else { 40 + 8 };
        let payload = mtu.checked_sub(headers).expect("the MTU is larger than the headers");
        Self { to, count, payload, dont_fragment: true }
    }

    /// Sends the requests from a namespace, all at once, and waits for 1 s for what is not answered yet.
    ///
    /// # Panics
    /// When ping prints no summary.
    #[track_caller]
    pub fn run(&self, from: &Netns) -> PingReport {
        let mut command = from.command("ping");
        // Once something was answered, ping waits for the rest as long as from one request to the next, whatever else
        // it is told.
        command.args(["-n", "-q", "-i", "1", "-W", "1", "-l", &self.count.to_string()]);
        command.args(["-c", &self.count.to_string(), "-s", &self.payload.to_string()]);
        if self.dont_fragment {
            command.args(["-M", "do"]);
        }
        command.arg(self.to.to_string());
        let limit = Duration::from_secs(10) + Duration::from_secs(1) * self.count;
        let output = run(command, limit);
        PingReport::parse(&output.stdout)
            .unwrap_or_else(|| panic!("ping printed no summary: {}{}", output.stdout, output.stderr))
    }
}

/// Pings an IPv4 or IPv6 address from a namespace; `count` requests at once.
#[track_caller]
pub fn ping(from: &Netns, to: impl Into<IpAddr>, count: u32) -> PingReport {
    Ping::new(to.into(), count).run(from)
}

impl Netns {
    /// Pings once at a time until an answer comes (true) or `limit` has passed (false).
    pub fn reaches(&self, to: impl Into<IpAddr>, limit: Duration) -> bool {
        let to = to.into();
        poll_until(limit, || ping(self, to, 1).received == 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(sent: u32, received: u32, duplicates: u32) -> Option<PingReport> {
        Some(PingReport { sent, received, duplicates })
    }

    #[test]
    fn summaries_of_both_programs_are_read() {
        let cases = [
            (
                "PING x\n\n--- x ping statistics ---\n3 packets transmitted, 3 received, 0% packet loss, time 102ms\nrtt min/avg/max/mdev = 0.0/0.1/0.2/0.0 ms\n",
                report(3, 3, 0),
            ),
            ("4 packets transmitted, 0 received, +4 errors, 100% packet loss, time 3ms", report(4, 0, 0)),
            ("2 packets transmitted, 2 received, +5 duplicates, 0% packet loss, time 1ms", report(2, 2, 5)),
            (
                "--- 10.9.0.1 ping statistics ---\n3 packets transmitted, 2 packets received, 33% packet loss\n",
                report(3, 2, 0),
            ),
            ("3 packets transmitted, 3 packets received, 1 duplicates, 0% packet loss\n", report(3, 3, 1)),
            ("ping: connect: Network is unreachable\n", None),
            ("", None),
        ];

        for (output, expected) in cases {
            assert_eq!(PingReport::parse(output), expected, "{output}");
        }
    }

    #[test]
    fn all_means_each_request_once() {
        let answers = [(3, 3, 0), (3, 2, 0), (3, 3, 1), (0, 0, 0)]
            .map(|(sent, received, duplicates)| PingReport { sent, received, duplicates }.all());

        assert_eq!(answers, [true, false, false, false]);
    }

    #[test]
    fn filling_leaves_room_for_the_headers() {
        let to_v4 = Ping::filling([10, 0, 0, 1].into(), 1, 1500);
        let to_v6 = Ping::filling(std::net::Ipv6Addr::LOCALHOST.into(), 1, 1500);

        assert_eq!((to_v4.payload, to_v6.payload), (1472, 1452));
    }
}
