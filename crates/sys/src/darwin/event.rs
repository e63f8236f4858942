//! Messages of the kernel's event socket (sys/kern_event.h, net/net_kev.h): one a read.

use super::number::*;
use super::{InterfaceName, field, word};

/// Octets of a message's header (struct kern_event_msg without its data).
pub const HEADER: usize = 24;
/// More octets than any message of the network has.
pub const LONGEST: usize = 1024;

const VENDOR: usize = 4;
const CLASS: usize = 8;
const SUBCLASS: usize = 12;
const CODE: usize = 20;
// In the data (struct net_event_data).
const UNIT: usize = HEADER + 4;
const FAMILY: usize = HEADER + 8;

/// Something happened to an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Event {
    /// The interface's name.
    pub interface: InterfaceName,
    /// The change of the interface.
    pub change: Change,
}

/// A kind of change of an interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Change {
    /// It has come to be.
    Attached,
    /// It goes or has gone.
    Detached,
    /// Its flags changed: up, running, promiscuous.
    Flags,
    /// Its MTU changed.
    Mtu,
    /// It has a carrier.
    LinkOn,
    /// It has lost its carrier.
    LinkOff,
    /// Its MAC address changed.
    LinkAddress,
    /// An IPv4 or IPv6 address came, changed or went.
    Addresses,
    /// Something else of the data link layer.
    Other,
}

/// A message that is shorter than it has to be, or says so, or names no interface.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BadMessage;

/// Parses the message in `octets`, one read; `None` when it is not about an interface.
///
/// # Errors
/// [`BadMessage`].
pub fn parse(octets: &[u8]) -> Result<Option<Event>, BadMessage> {
    let total = word(octets, 0).ok_or(BadMessage)? as usize;
    let message = octets.get(..total).filter(|message| message.len() >= HEADER).ok_or(BadMessage)?;
    let value = |at| word(message, at).ok_or(BadMessage);
    if value(VENDOR)? != KEV_VENDOR_APPLE || value(CLASS)? != KEV_NETWORK_CLASS {
        return Ok(None);
    }
    let change = match value(SUBCLASS)? {
        KEV_DL_SUBCLASS => change(value(CODE)?),
        KEV_INET_SUBCLASS | KEV_INET6_SUBCLASS => Change::Addresses,
        _ => return Ok(None),
    };
    let family: [u8; 16] = field(message, FAMILY).ok_or(BadMessage)?;
    let interface = InterfaceName::of_unit(&family, value(UNIT)?).ok_or(BadMessage)?;
    Ok(Some(Event { interface, change }))
}

fn change(code: u32) -> Change {
    match code {
        KEV_DL_SIFFLAGS => Change::Flags,
        KEV_DL_SIFMTU => Change::Mtu,
        KEV_DL_IF_ATTACHED => Change::Attached,
        KEV_DL_IF_DETACHING | KEV_DL_IF_DETACHED => Change::Detached,
        KEV_DL_LINK_OFF => Change::LinkOff,
        KEV_DL_LINK_ON => Change::LinkOn,
        KEV_DL_LINK_ADDRESS_CHANGED => Change::LinkAddress,
        _ => Change::Other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(words: [u32; 5], unit: u32, family: &[u8; 16]) -> Vec<u8> {
        let [vendor, class, subclass, id, code] = words;
        let words = [48, vendor, class, subclass, id, code, 0, unit];
        [&words.map(u32::to_ne_bytes).concat()[..], family].concat()
    }

    const FETH: &[u8; 16] = b"feth\0\0\0\0\0\0\0\0\0\0\0\0";

    #[test]
    fn events_of_the_data_link_layer_and_of_addresses() {
        let cases = [
            (KEV_DL_SUBCLASS, 1, Change::Flags),
            (KEV_DL_SUBCLASS, 3, Change::Mtu),
            (KEV_DL_SUBCLASS, 9, Change::Attached),
            (KEV_DL_SUBCLASS, 10, Change::Detached),
            (KEV_DL_SUBCLASS, 11, Change::Detached),
            (KEV_DL_SUBCLASS, 12, Change::LinkOff),
            (KEV_DL_SUBCLASS, 13, Change::LinkOn),
            (KEV_DL_SUBCLASS, 16, Change::LinkAddress),
            (KEV_DL_SUBCLASS, 26, Change::Other),
            (KEV_INET_SUBCLASS, 1, Change::Addresses),
            (KEV_INET6_SUBCLASS, 3, Change::Addresses),
        ];
        for (subclass, code, change) in cases {
            let interface = InterfaceName::new("feth3").unwrap();
            let octets = message([1, 1, subclass, 9, code], 3, FETH);
            assert_eq!(parse(&octets), Ok(Some(Event { interface, change })), "{subclass} {code}");
        }
    }

    #[test]
    fn events_of_others_are_passed_over() {
        for words in [[2, 1, 2, 0, 1], [1, 2, 2, 0, 1], [1, 1, 3, 0, 1]] {
            assert_eq!(parse(&message(words, 3, FETH)), Ok(None), "{words:?}");
        }
    }

    #[test]
    fn what_is_too_short_or_says_so_is_refused() {
        let whole = message([1, 1, KEV_DL_SUBCLASS, 0, 1], 3, FETH);
        (0..whole.len()).for_each(|len| assert_eq!(parse(&whole[..len]), Err(BadMessage), "{len}"));
        for total in [0, 23, 47, 49, u32::MAX] {
            let mut octets = whole.clone();
            octets[..4].copy_from_slice(&total.to_ne_bytes());
            assert_eq!(parse(&octets), Err(BadMessage), "{total}");
        }
    }

    #[test]
    fn a_name_that_is_none_is_refused() {
        for (unit, family) in [(0, &[0; 16]), (u32::MAX, b"fifteen-octets-\0"), (0, &[0xff; 16])] {
            let octets = message([1, 1, KEV_DL_SUBCLASS, 0, 1], unit, family);
            assert_eq!(parse(&octets), Err(BadMessage), "{family:?}");
        }
    }

    #[test]
    fn octets_behind_the_message_do_not_matter() {
        let mut octets = message([1, 1, KEV_DL_SUBCLASS, 0, 1], 3, FETH);
        octets.extend([0xff; 30]);
        assert!(matches!(parse(&octets), Ok(Some(_))));
    }
}
