//! Addresses, paths and known names within a text.

use std::net::{Ipv4Addr, Ipv6Addr};

use super::{Kind, Masker};

/// The longest address in characters: of IPv6 with one of IPv4 in it.
const LONGEST_ADDRESS: usize = 45;

/// Paths that are the same on every machine.
const KNOWN: [&str; 8] = [
    "/dev/net/tun",
    "/dev/vhost-net",
    "/dev/null",
    "/etc/resolv.conf",
    "/etc/vmlan/vmlan.toml",
    "/run/vmlan/control.sock",
    "/proc/sys/net",
    "/sys/fs/bpf",
];

/// Something to replace, or to leave as it is with its `kind` missing.
struct Found {
    octets: usize,
    kind: Option<Kind>,
    /// One form for all ways to write it.
    original: String,
}

impl Masker {
    /// Replaces what is to be in a text.
    pub fn text(&mut self, text: &str) -> String {
        // It has the same octets in the same places.
        let lower = text.to_ascii_lowercase();
        let mut masked = String::with_capacity(text.len());
        let (mut at, mut before) = (0, None);
        while let Some(character) = text[at..].chars().next() {
            let found = self.known(&lower, at, before).into_iter();
            let found = found.chain(address(&lower[at..], before)).chain(path(&text[at..], before));
            // A path goes on behind a known one, and an address behind a name.
            let Some(found) = found.max_by_key(|found| found.octets) else {
                masked.push(character);
                before = Some(character);
                at += character.len_utf8();
                continue;
            };
            let end = at + found.octets;
            match found.kind {
                Some(kind) => masked.push_str(&self.pseudonym(kind, found.original)),
                None => masked.push_str(&text[at..end]),
            }
            before = text[..end].chars().next_back();
            at = end;
        }
        masked
    }

    /// The longest known name that stands here by itself.
    fn known(&self, lower: &str, at: usize, before: Option<char>) -> Option<Found> {
        if before.is_some_and(is_of_word) {
            return None;
        }
        let lengths = self.lengths.get(lower.as_bytes().get(at)?)?;
        lengths.iter().rev().find_map(|length| {
            let name = lower.get(at..at + length)?;
            let goes_on = lower[at + length..].chars().next().is_some_and(is_of_word);
            let kind = self.words.get(name).filter(|_| !goes_on)?;
            Some(Found { octets: *length, kind: Some(*kind), original: name.to_owned() })
        })
    }
}

/// True if there is an address anywhere in the text.
pub fn has_address(text: &str) -> bool {
    let lower = text.to_ascii_lowercase();
    let before = std::iter::once(None).chain(lower.chars().map(Some));
    lower.char_indices().zip(before).any(|((at, _), before)| address(&lower[at..], before).is_some())
}

fn is_of_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The longest address at the beginning of a text in lower case.
fn address(text: &str, before: Option<char>) -> Option<Found> {
    let octets = text.as_bytes();
    let first = *octets.first()?;
    if !(first.is_ascii_hexdigit() || first == b':') {
        return None;
    }
    let is_of_address = |octet: &&u8| octet.is_ascii_hexdigit() || matches!(octet, b':' | b'.');
    let run = octets.iter().take(LONGEST_ADDRESS + 1).take_while(is_of_address).count().min(LONGEST_ADDRESS);
    let count = |sign: u8| octets[..run].iter().filter(|octet| **octet == sign).count();
    let may_be = count(b':') >= 2 || count(b'.') >= 3;
    let ends = (2..=run).rev().filter(|_| may_be);
    mac(octets, before).or_else(|| ends.into_iter().find_map(|end| ip(&text[..end], octets.get(end), before)))
}

/// A MAC address as six numbers with colons or hyphens, or as three with dots.
fn mac(octets: &[u8], before: Option<char>) -> Option<Found> {
    let number =
        |at: usize| octets[at..].iter().take(5).take_while(|octet| octet.is_ascii_hexdigit()).count();
    let separator = *octets.get(number(0))?;
    let (count, digits) = match separator {
        b':' | b'-' => (6, 1..=2),
        b'.' => (3, 4..=4),
        _ => return None,
    };
    let (mut at, mut all) = (0, String::new());
    for place in 0..count {
        if place > 0 {
            if octets.get(at) != Some(&separator) {
                return None;
            }
            at += 1;
        }
        let len = number(at);
        if !digits.contains(&len) {
            return None;
        }
        all.extend(std::iter::repeat_n('0', digits.end() - len));
        all.extend(octets[at..at + len].iter().map(|octet| char::from(*octet)));
        at += len;
    }
    let goes_on = match octets.get(at) {
        Some(octet) if *octet == separator => octets.get(at + 1).is_some_and(u8::is_ascii_hexdigit),
        Some(octet) => octet.is_ascii_alphanumeric(),
        None => false,
    };
    if goes_on || before.is_some_and(char::is_alphanumeric) {
        return None;
    }
    // That to all is nobody's, and so is that of nobody.
    let is_of_one = all != "ffffffffffff" && all != "000000000000";
    Some(Found { octets: at, kind: is_of_one.then_some(Kind::Mac), original: all })
}

fn ip(text: &str, behind: Option<&u8>, before: Option<char>) -> Option<Found> {
    let octets = text.len();
    if let Ok(address) = text.parse::<Ipv4Addr>() {
        let goes_on =
            behind.is_some_and(u8::is_ascii_digit) || before.is_some_and(|before| before.is_ascii_digit());
        let is_of_one = !(address.is_loopback() || address.is_unspecified() || address.is_broadcast());
        let kind = is_of_one.then_some(Kind::Ipv4);
        return (!goes_on).then(|| Found { octets, kind, original: address.to_string() });
    }
    let address = text.parse::<Ipv6Addr>().ok()?;
    // Colons are in other things too, such as `sys::poll`. What could be both, as `a::b`, is replaced.
    let goes_on = behind.is_some_and(|octet| octet.is_ascii_alphanumeric())
        || before.is_some_and(|before| before.is_alphanumeric());
    let is_of_one = !(address.is_loopback() || address.is_unspecified());
    (!goes_on).then(|| Found { octets, kind: is_of_one.then_some(Kind::Ipv6), original: address.to_string() })
}

/// An absolute path, up to what cannot be told from the sentence around it. A known one is found with all that is in
/// it.
fn path(text: &str, before: Option<char>) -> Option<Found> {
    let begins = text.starts_with('/')
        && !before.is_some_and(|before| is_of_word(before) || matches!(before, '-' | ']' | ')' | '*'));
    if !begins {
        return None;
    }
    let is_end = |character: char| {
        character.is_whitespace() || character.is_control() || "\"'`,;()[]{}<>|".contains(character)
    };
    let end = text.find(is_end).unwrap_or(text.len());
    let path = text[..end].trim_end_matches([':', '.', '!', '?']);
    if path.trim_matches('/').is_empty() {
        return None;
    }
    let is_known = KNOWN.iter().any(|known| {
        path.strip_prefix(known)
            .is_some_and(|rest| rest.is_empty() || known.starts_with("/proc") && rest.starts_with('/'))
    });
    Some(Found {
        octets: path.len(),
        kind: (!is_known).then_some(Kind::Path),
        original: path.to_ascii_lowercase(),
    })
}
