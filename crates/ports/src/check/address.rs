use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};

use vmlan_api::{ErrorCode, OneOrMany};
use vmlan_drivers::tunnel::Interface;
use vmlan_drivers::tunnel::message::{BadPrefixed, MOST_ADDRESSES, Prefixed};

use super::{Validator, join, shown};
use crate::KINDS;
use crate::kind::Surroundings;

/// Where a socket is.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Address {
    /// A Unix socket: an absolute path that fits a socket address.
    Unix(PathBuf),
    /// An IP socket.
    Inet(SocketAddr),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => path.display().fmt(f),
            Self::Inet(address) => address.fmt(f),
        }
    }
}

/// Which addresses a guest may have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allow(Option<Vec<Prefixed>>);

impl Allow {
    /// Only those in one of `networks`.
    pub fn only(networks: Vec<Prefixed>) -> Allow {
        Allow(Some(networks))
    }

    /// True if a guest may have `address`. An IPv4 address mapped to IPv6 counts as the IPv4 address.
    pub fn admits(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        self.0.as_ref().is_none_or(|networks| networks.iter().any(|network| network.contains(address)))
    }
}

impl Validator {
    /// An address where guests come by themselves, and which of them may.
    pub fn listening(
        &mut self,
        path: &str,
        listen: &str,
        allow: Option<&OneOrMany<String>>,
    ) -> Option<(Address, Allow)> {
        let address = self.address(&join(path, "listen"), listen);
        let Some(texts) = allow else {
            let address = address?;
            if let Address::Inet(inet) = address {
                self.note_reach(path, inet, &Allow::default());
            }
            return Some((address, Allow::default()));
        };
        let at = join(path, "allow");
        // An address alone is a network of one.
        let whole = |text: &String| match text.parse::<IpAddr>() {
            Ok(address) => format!("{text}/{}", if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => text.clone(),
        };
        let texts = OneOrMany::Many(texts.as_slice().iter().map(whole).collect());
        let networks = self.networks(&at, Some(&texts))?;
        if networks.is_empty() {
            let message = "no address is in an empty list; name networks, or remove `allow`";
            return self.refuse(ErrorCode::OutOfRange, &at, message);
        }
        match address? {
            Address::Unix(_) => {
                let message = "`allow` is for TCP and UDP; who may use a path is a matter of its permissions";
                self.refuse(ErrorCode::Conflict, &at, message)
            }
            Address::Inet(inet) => {
                let allow = Allow::only(networks);
                self.note_reach(path, inet, &allow);
                Some((Address::Inet(inet), allow))
            }
        }
    }

    /// An address of ours.
    pub fn address(&mut self, path: &str, text: &str) -> Option<Address> {
        if is_path(text) {
            return self.socket_path(path, text).map(Address::Unix);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Address::Inet(address));
        }
        if text.starts_with('[') && text.contains('%') {
            let message = format!(
                "the zone in `{}` is a name; write the number of the interface, as in [fe80::1%2]:7000 (`ip link` \
                 shows it)",
                shown(text)
            );
            return self.refuse(ErrorCode::BadAddress, path, message);
        }
        let message = format!(
            "`{}` is no address; write a path, or a numeric address with a port as in 127.0.0.1:7000 or [::1]:7000",
            shown(text)
        );
        self.refuse(ErrorCode::BadAddress, path, message)
    }

    /// An address of the guest's, which must be one that can be sent to.
    pub fn peer_address(&mut self, path: &str, text: &str) -> Option<Address> {
        let address = self.address(path, text)?;
        match address {
            Address::Inet(inet)
                if inet.port() == 0 || inet.ip().is_unspecified() || inet.ip().is_multicast() =>
            {
                let message = format!("{inet} is no address of one peer; write its own address and port");
                self.refuse(ErrorCode::BadAddress, path, message)
            }
            _ => Some(address),
        }
    }

    /// An absolute path that fits a socket address, as the system itself checks it.
    pub fn socket_path(&mut self, path: &str, text: &str) -> Option<PathBuf> {
        if text.contains('\0') {
            let message = format!(
                "`{}` has a NUL, which no path has; sockets without a file (abstract ones) are not supported",
                shown(text)
            );
            return self.refuse(ErrorCode::BadPath, path, message);
        }
        if let Some(reason) = misunderstood(text) {
            return self.refuse(ErrorCode::BadPath, path, format!("`{}` is no path: {reason}", shown(text)));
        }
        if !Path::new(text).is_absolute() {
            let message = format!("`{}` is no absolute path", shown(text));
            return self.refuse(ErrorCode::BadPath, path, message);
        }
        if std::os::unix::net::SocketAddr::from_pathname(text).is_err() {
            let message = format!(
                "the path has {} octets, too many for a socket (Linux takes 107, macOS 103); choose a shorter one",
                text.len()
            );
            return self.refuse(ErrorCode::BadPath, path, message);
        }
        Some(PathBuf::from(text))
    }

    /// Addresses of hosts.
    pub fn addresses(&mut self, path: &str, texts: Option<&OneOrMany<String>>) -> Option<Vec<Prefixed>> {
        let addresses = self.networks(path, texts)?;
        for (index, Prefixed { address, .. }) in addresses.iter().enumerate() {
            if !is_host(*address) {
                let message = format!("{address} is no address of one host; choose another");
                return self.refuse(ErrorCode::BadAddress, path, message);
            }
            if addresses[..index].iter().any(|other| other.address == *address) {
                return self.refuse(ErrorCode::Conflict, path, format!("{address} is there twice"));
            }
        }
        Some(addresses)
    }

    /// Gives the port whose table is at `path` these addresses in its network, which no other port of ours may have.
    pub(crate) fn hosts(&mut self, at: &str, path: &str, addresses: &[Prefixed], network: &mut Surroundings) {
        for Prefixed { address, .. } in addresses {
            if let Some(owner) = network.hosts.insert(*address, path.to_owned()) {
                let message = format!("{address} is that of {owner} already; choose another");
                self.fault(ErrorCode::DuplicateAttachment, at, message);
            }
        }
    }

    /// Checks that an MTU is large enough for the addresses (RFC 8200 5).
    pub(crate) fn fits_ipv6(&mut self, at: &str, mtu: u64, addresses: &[Prefixed]) {
        if mtu < u64::from(Interface::MIN_MTU_IPV6) && addresses.iter().any(|own| own.address.is_ipv6()) {
            let message =
                format!("an MTU of {mtu} octets is too small for IPv6; use 1280 or more, or IPv4 only");
            self.fault(ErrorCode::OutOfRange, at, message);
        }
    }

    /// Addresses with prefixes, none where nothing is said.
    pub fn networks(&mut self, path: &str, texts: Option<&OneOrMany<String>>) -> Option<Vec<Prefixed>> {
        self.prefixed(path, texts, str::parse)
    }

    /// The same, where an address without a prefix stands for itself.
    pub fn addresses_or_networks(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
    ) -> Option<Vec<Prefixed>> {
        let alone = |address: IpAddr| Prefixed { address, prefix: if address.is_ipv4() { 32 } else { 128 } };
        self.prefixed(path, texts, |text| text.parse().map(alone).or_else(|_| text.parse()))
    }

    fn prefixed(
        &mut self,
        path: &str,
        texts: Option<&OneOrMany<String>>,
        parse: impl Fn(&str) -> Result<Prefixed, BadPrefixed>,
    ) -> Option<Vec<Prefixed>> {
        let texts = texts.map_or(&[][..], OneOrMany::as_slice);
        if texts.len() > MOST_ADDRESSES {
            let message = format!("{} are too many; use at most {MOST_ADDRESSES}", texts.len());
            return self.refuse(ErrorCode::OutOfRange, path, message);
        }
        let mut list = Vec::with_capacity(texts.len());
        for text in texts {
            match parse(text) {
                Ok(prefixed) => list.push(prefixed),
                Err(error) => {
                    let message = format!("`{}` is no such address: {error}", shown(text));
                    return self.refuse(ErrorCode::BadAddress, path, message);
                }
            }
        }
        Some(list)
    }
}

/// A number for the address family.
pub fn family(address: &Address) -> u8 {
    match address {
        Address::Unix(_) => 0,
        Address::Inet(SocketAddr::V4(_)) => 4,
        Address::Inet(SocketAddr::V6(_)) => 6,
    }
}

/// True if the address can be that of one host.
pub fn is_host(address: IpAddr) -> bool {
    let broadcast = matches!(address, IpAddr::V4(address) if address.is_broadcast());
    !(broadcast || address.is_unspecified() || address.is_multicast() || address.is_loopback())
}

/// True if the text names a socket file rather than an IP address and port.
fn is_path(text: &str) -> bool {
    text.contains('/') || !text.contains(':')
}

/// Why a text is no path here, although it looks like one: it is a notation of other programs. Such a text stays as it
/// is, for the message about it. A path that begins with `./` says that it is meant as it stands, except for variables.
pub fn misunderstood(text: &str) -> Option<&'static str> {
    let is_variable = |(at, _): (usize, &str)| {
        text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{')
    };
    if text.starts_with('~') {
        Some("`~` is not replaced here; write the whole path")
    } else if text.starts_with('@') {
        Some("sockets without a file (abstract ones) are not supported; write a path")
    } else if text.match_indices('$').any(is_variable) {
        Some("variables are not replaced here; write the whole path")
    } else if is_url(text) {
        Some("it is a URL; write the path alone, or the address and port alone as in 127.0.0.1:7000")
    } else if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        Some("it is a number; write an address too, as in 127.0.0.1:7000, or `./` in front when it is a path")
    } else {
        None
    }
}

/// True if the text begins with a scheme (RFC 3986 3.1) and a slash.
fn is_url(text: &str) -> bool {
    text.split_once(":/").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
    })
}

/// Makes every relative path of a socket, a VDE directory or a filter in the port's table absolute, below
/// `directory`. A text that is none stays as it is, for the message about it.
pub fn resolve_port(port: &mut vmlan_api::PortConfig, directory: &Path) {
    for program in port.filter.iter_mut().flatten().filter_map(|filter| filter.program.as_mut()) {
        if !program.is_empty()
            && misunderstood(program).is_none()
            && let Some(absolute) = directory.join(&*program).to_str()
        {
            *program = absolute.to_owned();
        }
    }
    for entry in KINDS {
        for text in (entry.paths)(port).into_iter().flatten() {
            if is_path(text)
                && !text.is_empty()
                && misunderstood(text).is_none()
                && let Some(absolute) = directory.join(&*text).to_str()
            {
                *text = absolute.to_owned();
            }
        }
    }
}
