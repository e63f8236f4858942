//! Forwards and host services as they are written.
//!
//! A forward is `LISTEN=PORT[:NUMBER][/udp]`. `LISTEN` is a number or a range of numbers of this host's, with or
//! without an address in front (`2222`, `127.0.0.1:2222`, `[::1]:8000-8010`), or a path of a Unix socket. `PORT` is the
//! guest's port by name; its number is the same as this host's when it is left out.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// Numbers of a range, at most.
pub const MOST_NUMBERS: usize = 1024;
/// Octets of a forward or a host service.
const LONGEST: usize = 256;
/// The listening addresses of a forward that names none.
const LOOPBACK: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A transport protocol with ports.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Transport {
    /// TCP (RFC 9293).
    #[default]
    Tcp,
    /// UDP (RFC 768).
    Udp,
}

impl Transport {
    /// The name in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }

    /// Takes `/tcp` or `/udp` off the end of a text.
    fn split(text: &str) -> (&str, Transport) {
        match text.rsplit_once('/') {
            Some((rest, "tcp")) => (rest, Self::Tcp),
            Some((rest, "udp")) => (rest, Self::Udp),
            _ => (text, Self::Tcp),
        }
    }
}

/// A way from this host to a guest, as it is written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ForwardSpec {
    /// The place that callers reach.
    pub listen: Listen,
    /// The guest's port in the network, by name.
    pub port: String,
    /// The number at the guest; of a range the first.
    pub number: u16,
    /// The protocol; of a Unix socket TCP.
    pub transport: Transport,
}

/// The place on this host that callers reach.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Listen {
    /// Numbers at an address.
    Inet {
        /// The address; both of loopback without one.
        address: Option<IpAddr>,
        /// The first number.
        first: u16,
        /// The last number, often the first.
        last: u16,
    },
    /// A Unix stream socket.
    Unix(PathBuf),
}

/// Why a text is no forward, no host service, or no rule: a sentence that says what to write.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadSpec(pub(super) String);

pub(super) fn bad<T>(message: impl Into<String>) -> Result<T, BadSpec> {
    Err(BadSpec(message.into()))
}

impl ForwardSpec {
    /// Reads a forward.
    ///
    /// # Errors
    /// [`BadSpec`], with what to write instead.
    pub fn parse(text: &str) -> Result<ForwardSpec, BadSpec> {
        if text.len() > LONGEST {
            return bad(format!("it is longer than {LONGEST} octets"));
        }
        // A path may have a `=`; what is behind the last one has none.
        let Some((listen, target)) = text.rsplit_once('=') else {
            return bad("write LISTEN=PORT, as in 127.0.0.1:2222=web:22");
        };
        let (target, transport) = Transport::split(target);
        let (port, numbers) = match target.split_once(':') {
            Some((port, numbers)) => (port, Some(range(numbers)?)),
            None => (target, None),
        };
        let legal = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
        if port.is_empty() || !port.chars().all(legal) {
            return bad("behind `=` comes the name of a port of the network, as in 2222=web:22");
        }
        let listen = Listen::parse(listen)?;
        let number = match (&listen, numbers) {
            (Listen::Unix(_), _) if transport == Transport::Udp => {
                return bad("a Unix socket takes TCP only; leave `/udp` out");
            }
            (Listen::Unix(_), Some((first, last))) if first == last => first,
            (Listen::Unix(_), _) => return bad("a Unix socket leads to one number: write PATH=PORT:NUMBER"),
            (Listen::Inet { first, .. }, None) => *first,
            (Listen::Inet { first, last, .. }, Some((to, to_last))) => {
                let length = last - first;
                if to_last != to && to_last - to != length {
                    return bad("the two ranges are of different lengths");
                }
                if to.checked_add(length).is_none() {
                    return bad("the guest's range goes beyond 65535");
                }
                to
            }
        };
        Ok(ForwardSpec { listen, port: port.to_owned(), number, transport })
    }

    /// The listening addresses, each with the number at the guest; none for a Unix socket.
    pub fn sockets(&self) -> impl Iterator<Item = (SocketAddr, u16)> {
        let (addresses, numbers) = match &self.listen {
            Listen::Inet { address: Some(address), first, last } => (vec![*address], Some(*first..=*last)),
            Listen::Inet { address: None, first, last } => (LOOPBACK.to_vec(), Some(*first..=*last)),
            Listen::Unix(_) => (Vec::new(), None),
        };
        let number = self.number;
        let at = move |address: IpAddr| {
            let numbers = numbers.clone().into_iter().flatten();
            numbers.zip(number..=u16::MAX).map(move |(own, guests)| (SocketAddr::new(address, own), guests))
        };
        addresses.into_iter().flat_map(at)
    }

    /// True if the forward names no address, so that it does with the one of loopback's that there is.
    pub fn is_default(&self) -> bool {
        matches!(self.listen, Listen::Inet { address: None, .. })
    }

    /// True if both want to listen at one place. A wildcard address is all of its family.
    pub fn overlaps(&self, other: &ForwardSpec) -> bool {
        match (&self.listen, &other.listen) {
            (Listen::Unix(one), Listen::Unix(two)) => one == two,
            (
                Listen::Inet { address: one, first, last },
                Listen::Inet { address: two, first: from, last: to },
            ) => {
                let (one, two) = (places(one), places(two));
                let same = |a: &IpAddr, b: &IpAddr| {
                    a == b || a.is_ipv4() == b.is_ipv4() && (a.is_unspecified() || b.is_unspecified())
                };
                self.transport == other.transport
                    && first <= to
                    && from <= last
                    && one.iter().any(|a| two.iter().any(|b| same(a, b)))
            }
            _ => false,
        }
    }
}

fn places(address: &Option<IpAddr>) -> &[IpAddr] {
    address.as_ref().map_or(&LOOPBACK, std::slice::from_ref)
}

impl Listen {
    fn parse(text: &str) -> Result<Listen, BadSpec> {
        if text.contains('/') {
            return path(text).map(Listen::Unix);
        }
        let (address, numbers) = match text.rsplit_once(':') {
            None => (None, text),
            Some((address, numbers)) => (Some(listening_address(address)?), numbers),
        };
        let (first, last) = range(numbers)?;
        Ok(Listen::Inet { address, first, last })
    }
}

/// A path, absolute or relative, that can be a socket's.
fn path(text: &str) -> Result<PathBuf, BadSpec> {
    if std::os::unix::net::SocketAddr::from_pathname(text).is_err() {
        return bad("the path is too long for a socket (Linux takes 107 octets, macOS 103)");
    }
    Ok(PathBuf::from(text))
}

/// An address in front of a number; those of IPv6 are in brackets.
fn listening_address(text: &str) -> Result<IpAddr, BadSpec> {
    let address = match text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => text.parse::<Ipv4Addr>().ok().map(IpAddr::V4),
    };
    match address {
        Some(address) if address.is_multicast() => bad(format!("{address} is an address of groups")),
        Some(address) => Ok(address),
        None if text.contains(':') => bad("an IPv6 address stands in brackets, as in [::1]:80=web"),
        None => bad("in front of a number comes an address of this host, as in 127.0.0.1:2222=web:22"),
    }
}

/// A number, or the first and last of a range.
pub(super) fn range(text: &str) -> Result<(u16, u16), BadSpec> {
    let number = |text: &str| {
        let digits = !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit());
        digits.then(|| text.parse::<u16>().ok()).flatten().filter(|number| *number > 0)
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (number(first), number(last)) {
        (Some(first), Some(last)) if first > last => bad("the range ends before it begins"),
        (Some(first), Some(last)) if usize::from(last - first) >= MOST_NUMBERS => {
            bad(format!("the range has more than {MOST_NUMBERS} numbers"))
        }
        (Some(first), Some(last)) => Ok((first, last)),
        _ => bad("a port is a number from 1 to 65535, or a range as 8000-8010"),
    }
}

/// A number or range as it is written.
pub(super) struct Numbers(pub(super) RangeInclusive<u16>);

impl fmt::Display for Numbers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.start() == self.0.end() {
            true => write!(f, "{}", self.0.start()),
            false => write!(f, "{}-{}", self.0.start(), self.0.end()),
        }
    }
}

impl fmt::Display for ForwardSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (same, number) = match &self.listen {
            Listen::Unix(path) => {
                write!(f, "{}", path.display())?;
                (false, Numbers(self.number..=self.number))
            }
            Listen::Inet { address, first, last } => {
                match address {
                    None => {}
                    Some(IpAddr::V4(address)) => write!(f, "{address}:")?,
                    Some(IpAddr::V6(address)) => write!(f, "[{address}]:")?,
                }
                write!(f, "{}", Numbers(*first..=*last))?;
                let to = self.number.saturating_add(last - first);
                (*first == self.number, Numbers(self.number..=to))
            }
        };
        write!(f, "={}", self.port)?;
        if !same {
            write!(f, ":{number}")?;
        }
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

impl FromStr for ForwardSpec {
    type Err = BadSpec;

    fn from_str(text: &str) -> Result<ForwardSpec, BadSpec> {
        ForwardSpec::parse(text)
    }
}

/// A service of this host's that guests reach, as it is written: `5432`, `8000=5432`, `8000=/run/x.sock`, `53/udp`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostService {
    /// The number that guests use.
    pub number: u16,
    /// The service itself.
    pub target: HostTarget,
    /// The protocol; of a Unix socket TCP.
    pub transport: Transport,
}

/// The place of a service on this host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostTarget {
    /// A number at the loopback addresses.
    Loopback(u16),
    /// A Unix stream socket.
    Unix(PathBuf),
}

impl HostService {
    /// Reads a host service.
    ///
    /// # Errors
    /// [`BadSpec`], with what to write instead.
    pub fn parse(text: &str) -> Result<HostService, BadSpec> {
        if text.len() > LONGEST {
            return bad(format!("it is longer than {LONGEST} octets"));
        }
        let one = |text: &str| match range(text)? {
            (first, last) if first == last => Ok(first),
            _ => bad("write each number by itself"),
        };
        let (number, target) = text.split_once('=').unwrap_or((text, text));
        // The word behind a path's last slash is a part of the path.
        if text.contains('=') && target.contains('/') && Transport::split(target).0.contains('/') {
            let target = HostTarget::Unix(path(target)?);
            return Ok(HostService { number: one(number)?, target, transport: Transport::Tcp });
        }
        let (target, transport) = Transport::split(target);
        let number = if text.contains('=') { number } else { target };
        let target = HostTarget::Loopback(one(target)?);
        Ok(HostService { number: one(number)?, target, transport })
    }
}

impl fmt::Display for HostService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.target {
            HostTarget::Unix(path) => return write!(f, "{}={}", self.number, path.display()),
            HostTarget::Loopback(target) if *target == self.number => write!(f, "{target}")?,
            HostTarget::Loopback(target) => write!(f, "{}={target}", self.number)?,
        }
        match self.transport {
            Transport::Tcp => Ok(()),
            Transport::Udp => f.write_str("/udp"),
        }
    }
}

/// Makes the path in a forward or host service absolute, below `directory`: what has a `/` in front of the last `=` of
/// a forward, and behind the first of a host service.
pub fn resolve(text: &mut String, is_forward: bool, directory: &Path) {
    let parts = if is_forward { text.rsplit_once('=') } else { text.split_once('=') };
    let Some((left, right)) = parts else { return };
    let absolute = |path: &str| directory.join(path).to_str().map(str::to_owned);
    let resolved = match is_forward {
        true if left.contains('/') => absolute(left).map(|path| format!("{path}={right}")),
        false if Transport::split(right).0.contains('/') => {
            absolute(right).map(|path| format!("{left}={path}"))
        }
        _ => None,
    };
    if let Some(resolved) = resolved {
        *text = resolved;
    }
}

#[cfg(test)]
mod tests;
