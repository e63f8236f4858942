use std::time::Duration;

use anyhow::Context;
use vmlan_guest::{Guest, Ping};

use super::host::{Family, Host};

/// Echo requests for each round-trip time that is told.
pub const ECHO_REQUESTS: u16 = 20;
/// From one to the next.
const INTERVAL: Duration = Duration::from_millis(1);
/// How long each transfer sends.
pub const TRANSFER: Duration = Duration::from_millis(300);

/// Round-trip times from one to another.
pub struct RoundTrips {
    pub from: String,
    pub to: String,
    /// None where one of them lacks the family.
    pub ipv4: Option<Spread>,
    pub ipv6: Option<Spread>,
}

/// How times are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Spread {
    pub least: Duration,
    pub median: Duration,
    pub most: Duration,
}

impl Spread {
    /// Of any number of times but none.
    fn of(mut times: Vec<Duration>) -> Option<Spread> {
        times.sort_unstable();
        let (least, most) = (*times.first()?, *times.last()?);
        Some(Spread { least, median: times[times.len() / 2], most })
    }
}

/// A transfer from one to another, where all that was sent arrived.
pub struct Throughput {
    pub from: String,
    pub to: String,
    pub family: Family,
    pub octets: u64,
    pub elapsed: Duration,
}

/// Pings in both families.
///
/// # Errors
/// When a reply is missing.
pub fn ping(from: &Guest, to: &dyn Host) -> anyhow::Result<RoundTrips> {
    let spread = |family| {
        let Some(address) = to.address(family) else { return Ok(None) };
        let what = || format!("{} pings {} over {family}", from.name(), to.name());
        let ping = Ping { count: ECHO_REQUESTS, interval: INTERVAL, ..Ping::default() };
        let report = from.ping(address, ping).with_context(what)?;
        let (sent, received, corrupt) = (report.sent, report.received, report.corrupt);
        anyhow::ensure!(
            report.is_complete() && corrupt == 0,
            "{}: {received} of {sent} echo requests were answered, {corrupt} more with other octets",
            what()
        );
        Ok(Spread::of(report.rtts))
    };
    let (ipv4, ipv6) = (spread(Family::Ipv4)?, spread(Family::Ipv6)?);
    Ok(RoundTrips { from: from.name().to_owned(), to: to.name().to_owned(), ipv4, ipv6 })
}

/// Sends TCP for [`TRANSFER`].
///
/// # Errors
/// When something does not arrive, or not as it was sent.
pub fn transfer(from: &dyn Host, to: &dyn Host, family: Family) -> anyhow::Result<Throughput> {
    let what = || format!("{} sends TCP to {} over {family}", from.name(), to.name());
    let taking = to.take(family).with_context(what)?;
    let sent = from.send(taking.address, TRANSFER).with_context(what)?;
    let taken = (taking.wait)().with_context(what)?;
    anyhow::ensure!(taken.corrupt == 0, "{}: other octets arrived than were sent", what());
    anyhow::ensure!(
        taken.octets == sent.octets && sent.octets > 0,
        "{}: {} octets were sent, {} arrived",
        what(),
        sent.octets,
        taken.octets
    );
    let (from, to) = (from.name().to_owned(), to.name().to_owned());
    Ok(Throughput { from, to, family, octets: sent.octets, elapsed: sent.elapsed })
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, SocketAddr};
    use std::os::unix::net::UnixStream;

    use vmlan_frame::MacAddr;
    use vmlan_guest::{Attachment, GuestConfig, TransferReport};

    use super::*;
    use crate::demo::host::Taking;

    /// A host that is not there.
    struct Absent;

    impl Host for Absent {
        fn name(&self) -> &str {
            "absent"
        }

        fn address(&self, family: Family) -> Option<IpAddr> {
            (family == Family::Ipv4).then_some(IpAddr::from([192, 0, 2, 9]))
        }

        fn take(&self, _: Family) -> anyhow::Result<Taking<'_>> {
            let address = SocketAddr::from(([192, 0, 2, 9], 5001));
            Ok(Taking { address, wait: Box::new(|| anyhow::bail!("nothing arrived")) })
        }

        fn send(&self, _: SocketAddr, _: Duration) -> anyhow::Result<TransferReport> {
            Ok(TransferReport { octets: 0, elapsed: Duration::ZERO })
        }
    }

    #[test]
    fn a_host_that_does_not_answer_is_named() {
        let (guest, _other_end) = UnixStream::pair().expect("a socket pair");
        let mac = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
        let config = GuestConfig::new("web", mac, Attachment::StreamFd(guest.into()));
        let config = config.ipv4([192, 0, 2, 1].into(), 24);
        let config = GuestConfig { timeout: Duration::from_millis(50), ..config };
        let guest = Guest::spawn(config).expect("a guest");

        let told = ping(&guest, &Absent).err().map(|error| format!("{error:#}"));
        let lost = transfer(&Absent, &Absent, Family::Ipv4).err().map(|error| format!("{error:#}"));

        let expected =
            "web pings absent over IPv4: 0 of 20 echo requests were answered, 0 more with other octets";
        assert_eq!(told.as_deref(), Some(expected));
        assert_eq!(lost.as_deref(), Some("absent sends TCP to absent over IPv4: nothing arrived"));
    }

    #[test]
    fn the_spread_of_times() {
        let times = |millis: &[u64]| millis.iter().copied().map(Duration::from_millis).collect();
        let [one, two, nine] = [1, 2, 9].map(Duration::from_millis);

        assert_eq!(Spread::of(times(&[9, 1, 2])), Some(Spread { least: one, median: two, most: nine }));
        assert_eq!(Spread::of(times(&[2])), Some(Spread { least: two, median: two, most: two }));
        assert_eq!(Spread::of(times(&[])), None);
    }
}
