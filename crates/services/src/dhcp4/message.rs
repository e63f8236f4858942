//! DHCPv4 messages: a client's, read, and a server's, written (RFC 2131 section 2, RFC 2132, RFC 3396).

use std::net::Ipv4Addr;

use vmlan_frame::MacAddr;

/// Octets before the options, the cookie included.
const FIXED: usize = 240;
/// The octets in front of the options (RFC 2131 section 3).
const COOKIE: [u8; 4] = [0x63, 0x82, 0x53, 0x63];
/// Octets of the shortest message, which BOOTP has (RFC 1542 section 2.1).
const SHORTEST: usize = 300;

const SNAME: std::ops::Range<usize> = 44..108;
const FILE: std::ops::Range<usize> = 108..236;

/// The numbers of options.
pub mod option {
    #![allow(missing_docs, reason = "the names are those of RFC 2132 and the IANA registry")]
    pub const PAD: u8 = 0;
    pub const SUBNET_MASK: u8 = 1;
    pub const ROUTER: u8 = 3;
    pub const DNS: u8 = 6;
    pub const HOST_NAME: u8 = 12;
    pub const BOOT_SIZE: u8 = 13;
    pub const DOMAIN: u8 = 15;
    pub const MTU: u8 = 26;
    pub const BROADCAST: u8 = 28;
    pub const NTP: u8 = 42;
    pub const VENDOR: u8 = 43;
    pub const REQUESTED: u8 = 50;
    pub const LEASE_TIME: u8 = 51;
    pub const OVERLOAD: u8 = 52;
    pub const MESSAGE_TYPE: u8 = 53;
    pub const SERVER: u8 = 54;
    pub const PARAMETERS: u8 = 55;
    pub const MESSAGE: u8 = 56;
    pub const MAX_SIZE: u8 = 57;
    pub const RENEWAL: u8 = 58;
    pub const REBINDING: u8 = 59;
    pub const CLASS: u8 = 60;
    pub const CLIENT: u8 = 61;
    pub const BOOT_SERVER: u8 = 66;
    pub const BOOT_FILE: u8 = 67;
    pub const USER_CLASS: u8 = 77;
    pub const RAPID_COMMIT: u8 = 80;
    pub const FQDN: u8 = 81;
    pub const ARCHITECTURE: u8 = 93;
    pub const V6_ONLY: u8 = 108;
    pub const SEARCH: u8 = 119;
    pub const ROUTES: u8 = 121;
    pub const IPXE: u8 = 175;
    pub const END: u8 = 255;
}

/// The kinds of messages (RFC 2132 section 9.6).
pub mod kind {
    #![allow(missing_docs, reason = "the names are those of RFC 2131")]
    pub const DISCOVER: u8 = 1;
    pub const OFFER: u8 = 2;
    pub const REQUEST: u8 = 3;
    pub const DECLINE: u8 = 4;
    pub const ACK: u8 = 5;
    pub const NAK: u8 = 6;
    pub const RELEASE: u8 = 7;
    pub const INFORM: u8 = 8;
}

/// Why a message gets no answer; each is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Refusal {
    /// It is shorter than a message, its options are cut off, or it has no type or a wrong one.
    Malformed,
    /// A BOOTP message: without DHCP's cookie or type.
    Bootp,
    /// It came by a relay.
    Relayed,
    /// It is a server's message.
    Reply,
    /// The hardware is no Ethernet, or its address not the frame's sender.
    Hardware,
    /// The port sent too many.
    Rate,
    /// It is for another server.
    OtherServer,
    /// It names no address where it has to, or one that is not the client's.
    NotTheirs,
    /// No address is left, or the port has as many as it may.
    NoAddress,
}

/// A message of a client.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The kind of message.
    pub kind: u8,
    /// The client's number for the exchange.
    pub xid: u32,
    /// The field `flags`.
    pub flags: u16,
    /// The address that the client has, or none.
    pub ciaddr: Ipv4Addr,
    /// The client's link address.
    pub mac: MacAddr,
    options: Vec<(u8, Vec<u8>)>,
}

impl Request {
    /// Reads a client's message.
    ///
    /// # Errors
    /// [`Refusal`] for what is no message of a client on this link.
    pub fn parse(octets: &[u8]) -> Result<Request, Refusal> {
        if octets.len() < FIXED - COOKIE.len() {
            return Err(Refusal::Malformed);
        }
        let address = |at: usize| Ipv4Addr::from_octets(octets[at..at + 4].try_into().expect("four octets"));
        match octets[0] {
            1 => {}
            2 => return Err(Refusal::Reply),
            _ => return Err(Refusal::Malformed),
        }
        let mac = MacAddr::from_slice(&octets[28..34]);
        if octets[1] != 1 || octets[2] != 6 || !mac.is_station() {
            return Err(Refusal::Hardware);
        }
        if octets[3] != 0 || !address(24).is_unspecified() {
            return Err(Refusal::Relayed);
        }
        if octets.get(FIXED - COOKIE.len()..FIXED) != Some(&COOKIE) {
            return Err(Refusal::Bootp);
        }
        let mut options = Vec::new();
        collect(&octets[FIXED..], &mut options)?;
        // RFC 2131 section 4.1: the field `file` first, then `sname`.
        let overload = find(&options, option::OVERLOAD).and_then(|value| value.first()).copied().unwrap_or(0);
        for (bit, range) in [(1, FILE), (2, SNAME)] {
            if overload & bit != 0 {
                collect(&octets[range], &mut options)?;
            }
        }
        let kind = match find(&options, option::MESSAGE_TYPE) {
            Some(&[kind]) => kind,
            Some(_) => return Err(Refusal::Malformed),
            None => return Err(Refusal::Bootp),
        };
        Ok(Request {
            kind,
            xid: u32::from_be_bytes(octets[4..8].try_into().expect("four octets")),
            flags: u16::from_be_bytes([octets[10], octets[11]]),
            ciaddr: address(12),
            mac,
            options,
        })
    }

    /// The value of an option, with its parts put together (RFC 3396).
    pub fn option(&self, number: u8) -> Option<&[u8]> {
        find(&self.options, number)
    }

    /// The address in an option.
    pub fn address(&self, number: u8) -> Option<Ipv4Addr> {
        Some(Ipv4Addr::from_octets(self.option(number)?.try_into().ok()?))
    }

    /// The 16-bit number that an option begins with.
    pub fn number(&self, number: u8) -> Option<u16> {
        let &[high, low, ..] = self.option(number)? else { return None };
        Some(u16::from_be_bytes([high, low]))
    }

    /// True if the client wants answers by broadcast.
    pub fn wants_broadcast(&self) -> bool {
        self.flags & 0x8000 != 0
    }

    /// The client's identity: its identifier, or its link address in the form of one.
    pub fn client(&self) -> Vec<u8> {
        match self.option(option::CLIENT) {
            Some(identifier) if identifier.len() >= 2 => identifier[..identifier.len().min(255)].to_vec(),
            _ => [&[1], &self.mac.0[..]].concat(),
        }
    }

    /// The client's name, made a label: of option 81 (RFC 4702), or 12.
    pub fn name(&self) -> Option<String> {
        /// The name is in the form of DNS messages.
        const ENCODED: u8 = 4;
        let qualified = self.option(option::FQDN).and_then(|value| match value {
            [flags, _, _, name @ ..] if flags & ENCODED != 0 => {
                let (len, rest) = name.split_first()?;
                crate::name::label_of(rest.get(..usize::from(*len))?)
            }
            [_, _, _, name @ ..] => crate::name::label_of(name),
            _ => None,
        });
        qualified.or_else(|| crate::name::label_of(self.option(option::HOST_NAME)?))
    }
}

fn find(options: &[(u8, Vec<u8>)], number: u8) -> Option<&[u8]> {
    options.iter().find(|(known, _)| *known == number).map(|(_, value)| value.as_slice())
}

/// Adds the options in `octets`; what is there already is continued.
fn collect(mut octets: &[u8], options: &mut Vec<(u8, Vec<u8>)>) -> Result<(), Refusal> {
    loop {
        let Some((&number, rest)) = octets.split_first() else { return Ok(()) };
        octets = match number {
            option::PAD => rest,
            option::END => return Ok(()),
            _ => {
                let (&len, rest) = rest.split_first().ok_or(Refusal::Malformed)?;
                let (value, rest) = rest.split_at_checked(usize::from(len)).ok_or(Refusal::Malformed)?;
                match options.iter_mut().find(|(known, _)| *known == number) {
                    Some((_, parts)) => parts.extend(value),
                    None => options.push((number, value.to_vec())),
                }
                rest
            }
        };
    }
}

/// A message of a server, as it is written.
#[derive(Debug)]
pub(super) struct Writer {
    octets: Vec<u8>,
    most: usize,
}

/// The fields of a server's message that differ between messages.
#[derive(Debug, Clone, Copy)]
pub(super) struct Fields<'a> {
    pub yiaddr: Ipv4Addr,
    pub siaddr: Ipv4Addr,
    pub server_name: &'a str,
    pub file: &'a str,
}

impl Writer {
    /// Begins an answer of at most so many octets.
    pub(super) fn new(request: &Request, ciaddr: Ipv4Addr, fields: &Fields<'_>, most: usize) -> Writer {
        let mut octets = vec![0; FIXED];
        octets[..4].copy_from_slice(&[2, 1, 6, 0]);
        octets[4..8].copy_from_slice(&request.xid.to_be_bytes());
        octets[10..12].copy_from_slice(&request.flags.to_be_bytes());
        octets[12..16].copy_from_slice(&ciaddr.octets());
        octets[16..20].copy_from_slice(&fields.yiaddr.octets());
        octets[20..24].copy_from_slice(&fields.siaddr.octets());
        octets[28..34].copy_from_slice(&request.mac.0);
        // Both end with a 0; what does not fit is told by the option alone.
        for (range, text) in [(SNAME, fields.server_name), (FILE, fields.file)] {
            if text.len() < range.len() {
                octets[range.start..range.start + text.len()].copy_from_slice(text.as_bytes());
            }
        }
        octets[FIXED - COOKIE.len()..].copy_from_slice(&COOKIE);
        Writer { octets, most }
    }

    /// Adds an option, in parts of 255 octets (RFC 3396); one that does not fit any more is left out.
    pub(super) fn push(&mut self, number: u8, value: &[u8]) {
        let parts = value.len().div_ceil(255).max(1);
        if self.octets.len() + value.len() + 2 * parts + 1 > self.most {
            return;
        }
        let mut chunks = value.chunks(255);
        for _ in 0..parts {
            let chunk = chunks.next().unwrap_or_default();
            self.octets.extend([number, chunk.len() as u8]);
            self.octets.extend(chunk);
        }
    }

    /// Ends the message.
    pub(super) fn finish(mut self) -> Vec<u8> {
        self.octets.push(option::END);
        let padded = self.octets.len().max(SHORTEST);
        self.octets.resize(padded, option::PAD);
        self.octets
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in super::super) const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);

    /// A message as a client's program would write it.
    pub(in super::super) fn message(
        mac: MacAddr,
        kind: u8,
        ciaddr: Ipv4Addr,
        options: &[(u8, &[u8])],
    ) -> Vec<u8> {
        let mut octets = vec![0; FIXED];
        octets[..3].copy_from_slice(&[1, 1, 6]);
        octets[4..8].copy_from_slice(&0x1234_5678_u32.to_be_bytes());
        octets[12..16].copy_from_slice(&ciaddr.octets());
        octets[28..34].copy_from_slice(&mac.0);
        octets[236..].copy_from_slice(&COOKIE);
        octets.extend([53, 1, kind]);
        for (number, value) in options {
            octets.extend([*number, value.len() as u8]);
            octets.extend(*value);
        }
        octets.push(255);
        octets
    }

    fn discover(options: &[(u8, &[u8])]) -> Vec<u8> {
        message(MAC, kind::DISCOVER, Ipv4Addr::UNSPECIFIED, options)
    }

    #[test]
    fn options_in_parts_and_in_overloaded_fields_are_put_together() {
        let mut octets = discover(&[(12, b"we"), (52, &[3]), (0, b"")]);
        let end = octets.len() - 1;
        octets[end - 2..].copy_from_slice(&[0, 0, 255]);
        octets[108..114].copy_from_slice(&[12, 1, b'b', 57, 2, 5]);
        octets[114..116].copy_from_slice(&[220, 255]);
        octets[44..49].copy_from_slice(&[12, 2, b'.', b'x', 255]);
        let request = Request::parse(&octets).unwrap();

        assert_eq!(request.option(12), Some(&b"web.x"[..]));
        assert_eq!(request.number(57), Some(1500));
        assert_eq!(request.name().as_deref(), Some("web"));
    }

    #[test]
    fn identities() {
        let client = |options: &[(u8, &[u8])]| Request::parse(&discover(options)).unwrap().client();
        assert_eq!(client(&[]), [1, 0x52, 0x54, 0, 0, 0, 1]);
        assert_eq!(client(&[(61, &[255, 0, 1])]), [255, 0, 1]);
        assert_eq!(client(&[(61, &[1])]), [1, 0x52, 0x54, 0, 0, 0, 1], "RFC 2132 wants two octets");
    }

    #[test]
    fn names() {
        let name = |options: &[(u8, &[u8])]| Request::parse(&discover(options)).unwrap().name();
        assert_eq!(name(&[(12, b"Host")]).as_deref(), Some("host"));
        assert_eq!(name(&[(81, b"\x04\0\0\x04pc-1\x03lan\0"), (12, b"x")]).as_deref(), Some("pc-1"));
        assert_eq!(name(&[(81, b"\x01\0\0PC.lan")]).as_deref(), Some("pc"));
        assert_eq!(name(&[(81, b"\x04\0\0\x09pc")]), None);
        assert_eq!(name(&[(81, b"\x04"), (12, b"x")]).as_deref(), Some("x"));
    }

    #[test]
    fn messages_that_are_not_answered() {
        let good = discover(&[]);
        let with = |at: usize, octet: u8| {
            let mut octets = good.clone();
            octets[at] = octet;
            Request::parse(&octets).map(|request| request.kind)
        };
        assert_eq!(with(0, 1), Ok(kind::DISCOVER));
        assert_eq!(with(0, 2), Err(Refusal::Reply));
        assert_eq!(with(0, 3), Err(Refusal::Malformed));
        assert_eq!(with(1, 6), Err(Refusal::Hardware));
        assert_eq!(with(2, 16), Err(Refusal::Hardware));
        assert_eq!(with(28, 0x53), Err(Refusal::Hardware));
        assert_eq!(with(3, 1), Err(Refusal::Relayed));
        assert_eq!(with(27, 1), Err(Refusal::Relayed));
        assert_eq!(with(236, 0), Err(Refusal::Bootp));
        assert_eq!(with(240, 12), Err(Refusal::Bootp));
        assert_eq!(with(241, 9), Err(Refusal::Malformed));
        for len in 0..good.len() - 1 {
            let expected = match len {
                0..236 => Refusal::Malformed,
                236..=240 => Refusal::Bootp,
                _ => Refusal::Malformed,
            };
            assert_eq!(Request::parse(&good[..len]).unwrap_err(), expected, "{len}");
        }
    }
}
