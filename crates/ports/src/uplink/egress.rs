//! The part of the world that guests may reach, as it is written.
//!
//! The addresses of a rule are `ADDRESSES[:NUMBERS][/tcp|/udp]`. `ADDRESSES` is an IP address, a prefix, a name, `*.`
//! with a name for all below it, or `*` for all; what is of IPv6 stands in brackets where numbers follow.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vmlan_frame::wire::IpProtocol;
use vmlan_nat::reach::{Rule, To};

use super::forward::{BadSpec, Numbers, bad, range};

/// Private ranges, as `vmlan_nat::reach` knows them (RFC 1918, RFC 6598; RFC 4193, RFC 3879), as nftables and pf write
/// sets.
pub(super) const PRIVATE4: &str = "{ 10.0.0.0/8, 100.64.0.0/10, 172.16.0.0/12, 192.168.0.0/16 }";
pub(super) const PRIVATE6: &str = "{ fc00::/7, fec0::/10 }";

/// Octets of the addresses of a rule.
const LONGEST: usize = 300;
/// Octets of a name, without a final dot (RFC 1035 2.3.4).
const LONGEST_NAME: usize = 253;

/// Reads the addresses of a rule that allows or denies them.
///
/// # Errors
/// [`BadSpec`], with what to write instead.
pub fn rule(allow: bool, text: &str) -> Result<Rule, BadSpec> {
    if text.len() > LONGEST {
        return bad(format!("it is longer than {LONGEST} octets"));
    }
    let (rest, protocol) = match text.rsplit_once('/') {
        Some((rest, "tcp")) => (rest, Some(IpProtocol::TCP)),
        Some((rest, "udp")) => (rest, Some(IpProtocol::UDP)),
        _ => (text, None),
    };
    let (addresses, numbers) = split(rest)?;
    // A range of a rule is no list of sockets, and may be long.
    let ports = match numbers {
        Some(numbers) => Some(long_range(numbers)?),
        None => None,
    };
    Ok(Rule { allow, to: to(addresses)?, ports, protocol })
}

/// Parts the addresses from the numbers behind them.
fn split(text: &str) -> Result<(&str, Option<&str>), BadSpec> {
    if text.starts_with('[') {
        let Some(end) = text.find(']') else { return bad("a `]` is missing") };
        // A prefix's length stands behind the bracket.
        return match text[end..].find(':') {
            Some(colon) => Ok((&text[..end + colon], Some(&text[end + colon + 1..]))),
            None => Ok((text, None)),
        };
    }
    match text.matches(':').count() {
        0 => Ok((text, None)),
        1 => Ok(text.split_once(':').map_or((text, None), |(addresses, numbers)| (addresses, Some(numbers)))),
        // An IPv6 address, with nothing behind it.
        _ => Ok((text, None)),
    }
}

fn long_range(text: &str) -> Result<std::ops::RangeInclusive<u16>, BadSpec> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let ((first, _), (last, _)) = (range(first)?, range(last)?);
    match first <= last {
        true => Ok(first..=last),
        false => bad("the range ends before it begins"),
    }
}

fn to(text: &str) -> Result<To, BadSpec> {
    if text == "*" {
        return Ok(To::Any);
    }
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    let inner = address.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let parsed = match inner {
        Some(inner) => inner.parse::<Ipv6Addr>().ok().map(IpAddr::V6),
        None => address.parse::<IpAddr>().ok(),
    };
    match (parsed, bits) {
        (Some(address), None) => Ok(To::Prefix(address, whole(address))),
        (Some(address), Some(bits)) => prefix(address, bits),
        (None, _) if inner.is_some() || address.contains(':') => bad("it is no IPv6 address"),
        (None, Some(_)) => bad("a name has no `/` behind it but /tcp and /udp"),
        (None, None) => name(text).map(To::Name),
    }
}

fn whole(address: IpAddr) -> u8 {
    if address.is_ipv4() { 32 } else { 128 }
}

fn prefix(address: IpAddr, bits: &str) -> Result<To, BadSpec> {
    let digits = !bits.is_empty() && bits.len() <= 3 && bits.bytes().all(|octet| octet.is_ascii_digit());
    let bits = digits.then(|| bits.parse::<u8>().ok()).flatten().filter(|bits| *bits <= whole(address));
    let Some(bits) = bits else {
        return bad(format!("behind `/` comes a number from 0 to {}, or tcp or udp", whole(address)));
    };
    let network = masked(address, bits);
    match network == address {
        true => Ok(To::Prefix(address, bits)),
        false => bad(format!("{address} has bits behind the first {bits}; write {network}/{bits}")),
    }
}

/// The address with nothing behind its first bits.
pub(super) fn masked(address: IpAddr, bits: u8) -> IpAddr {
    let bits = u32::from(bits);
    match address {
        IpAddr::V4(address) => {
            let mask = u32::MAX.checked_shl(32 - bits.min(32)).unwrap_or(0);
            Ipv4Addr::from_bits(address.to_bits() & mask).into()
        }
        IpAddr::V6(address) => {
            let mask = u128::MAX.checked_shl(128 - bits.min(128)).unwrap_or(0);
            Ipv6Addr::from_bits(address.to_bits() & mask).into()
        }
    }
}

/// A name in lower case without a final dot, with or without `*.` in front.
fn name(text: &str) -> Result<String, BadSpec> {
    let name = text.strip_suffix('.').unwrap_or(text).to_ascii_lowercase();
    let own = name.strip_prefix("*.").unwrap_or(&name);
    match is_name(own) {
        true => Ok(name),
        false => bad(
            "it is no address and no name; write as in 203.0.113.7:22/tcp, 192.168.0.0/16, [2001:db8::]/32, \
             *.example.org:443",
        ),
    }
}

/// True if the text is a name of hosts (RFC 1123 2.1), in lower case. One whose last label is a number would be taken
/// for an address elsewhere.
pub(super) fn is_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.bytes().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == b'-' || c == b'_')
    };
    let last = text.rsplit('.').next().unwrap_or_default();
    text.len() <= LONGEST_NAME
        && text.split('.').all(is_label)
        && !last.bytes().all(|octet| octet.is_ascii_digit())
}

/// The addresses of a rule as they are written; [`rule`] reads them again.
#[derive(Debug, Clone, Copy)]
pub struct Spec<'r>(pub &'r Rule);

impl fmt::Display for Spec<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Rule { to, ports, protocol, .. } = self.0;
        match to {
            To::Any => f.write_str("*")?,
            To::Name(name) => f.write_str(name)?,
            To::Prefix(IpAddr::V4(address), bits) => {
                write!(f, "{address}")?;
                bits_unless_whole(f, *bits, 32)?;
            }
            To::Prefix(IpAddr::V6(address), bits) => {
                write!(f, "[{address}]")?;
                bits_unless_whole(f, *bits, 128)?;
            }
        }
        if let Some(ports) = ports {
            write!(f, ":{}", Numbers(ports.clone()))?;
        }
        match *protocol {
            Some(IpProtocol::TCP) => f.write_str("/tcp"),
            Some(IpProtocol::UDP) => f.write_str("/udp"),
            _ => Ok(()),
        }
    }
}

fn bits_unless_whole(f: &mut fmt::Formatter<'_>, bits: u8, whole: u8) -> fmt::Result {
    if bits == whole { Ok(()) } else { write!(f, "/{bits}") }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn every_form_of_a_rule_is_read_and_printed() {
        let prefix = |text: &str, bits| To::Prefix(text.parse().expect("an address"), bits);
        let (tcp, udp) = (Some(IpProtocol::TCP), Some(IpProtocol::UDP));
        for (text, to, ports, protocol) in [
            ("*.example.org:443", To::Name("*.example.org".into()), Some(443..=443), None),
            ("example.org", To::Name("example.org".into()), None, None),
            ("203.0.113.7:22/tcp", prefix("203.0.113.7", 32), Some(22..=22), tcp),
            ("203.0.113.7/udp", prefix("203.0.113.7", 32), None, udp),
            ("192.168.0.0/16", prefix("192.168.0.0", 16), None, None),
            ("192.168.0.0/16:1-65535/tcp", prefix("192.168.0.0", 16), Some(1..=65535), tcp),
            ("[2001:db8::]/32", prefix("2001:db8::", 32), None, None),
            ("[2001:db8::]/32:443", prefix("2001:db8::", 32), Some(443..=443), None),
            ("[2001:db8::1]:53/udp", prefix("2001:db8::1", 128), Some(53..=53), udp),
            ("0.0.0.0/0", prefix("0.0.0.0", 0), None, None),
            ("*", To::Any, None, None),
            ("*:53/udp", To::Any, Some(53..=53), udp),
        ] {
            let wanted = Rule { allow: true, to, ports, protocol };
            assert_eq!(rule(true, text), Ok(wanted.clone()), "{text}");
            assert_eq!(Spec(&wanted).to_string(), text);
        }
        assert_eq!(rule(false, "2001:db8::/32"), rule(false, "[2001:db8::]/32"));
        assert_eq!(rule(false, "2001:db8::1"), rule(false, "[2001:db8::1]"));
        assert_eq!(rule(false, "Example.ORG."), rule(false, "example.org"));
    }

    #[test]
    fn what_is_no_rule_says_what_to_write() {
        for (text, complaint) in [
            ("", "no address and no name"),
            ("192.168.0.5/16", "write 192.168.0.0/16"),
            ("192.168.0.0/33", "from 0 to 32"),
            ("192.168.0.0/", "from 0 to 32"),
            ("[2001:db8::1]/32", "write 2001:db8::/32"),
            ("[2001:db8::", "`]` is missing"),
            ("[10.0.0.1]:80", "no IPv6 address"),
            ("10.0.0", "no address and no name"),
            ("10.0.0.256", "no address and no name"),
            ("*.*.example.org", "no address and no name"),
            ("exa mple.org", "no address and no name"),
            ("example.org/24", "a name has no `/`"),
            ("example.org:0", "from 1 to 65535"),
            ("example.org:9-8", "ends before it begins"),
            ("example.org:", "from 1 to 65535"),
        ] {
            let error = rule(true, text).expect_err(text).to_string();
            assert!(error.contains(complaint), "{text}: {error}");
        }
        assert!(rule(true, &"a".repeat(400)).is_err());
    }

    proptest! {
        #[test]
        fn what_is_read_is_printed_and_read_alike(
            text in "(\\*\\.)?([a-z0-9.:/\\[\\]-]{0,24}|\\[?[0-9a-f:]{2,8}\\]?/[0-9]{1,3})(:[0-9-]{1,6})?(/tcp|/udp)?|\\PC{0,40}",
            allow: bool,
        ) {
            if let Ok(read) = rule(allow, &text) {
                prop_assert_eq!(rule(allow, &Spec(&read).to_string()), Ok(read));
            }
        }

        #[test]
        fn prefixes_of_every_length_are_printed_and_read_alike(address: IpAddr, bits in 0..=128_u8) {
            let bits = bits.min(whole(address));
            let wanted = Rule { allow: false, to: To::Prefix(masked(address, bits), bits), ports: None, protocol: None };
            prop_assert_eq!(rule(false, &Spec(&wanted).to_string()), Ok(wanted));
        }
    }
}
