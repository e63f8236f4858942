//! The control protocol of a tunnel socket: one message a record, each answered by one (docs/tunnel.md). Pure.
//!
//! Numbers are unsigned, most significant octet first. A request is a version, an operation, an option and a value; an
//! answer is the version, the operation with its highest bit set, an error and a value.

use std::net::IpAddr;

use vmlan_frame::MacAddr;

/// The version that this is.
pub const VERSION: u8 = 1;
/// Octets of the longest message.
pub const LONGEST: usize = 1024;
/// Addresses, and gateways, in one message at most.
pub const MOST_ADDRESSES: usize = 16;

/// Octets before the value.
const HEADER: usize = 4;
const ANSWER: u8 = 0x80;

/// An address with the bits of its network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Prefixed {
    /// The address.
    pub address: IpAddr,
    /// Bits of the network part.
    pub prefix: u8,
}

/// A client's request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Request<'a> {
    /// A tunnel; the first request, and only once.
    Open {
        /// The unit, or 0 for the lowest free one.
        unit: u32,
        /// The addresses wanted; none where the port has its own.
        addresses: Vec<Prefixed>,
    },
    /// The value of an option.
    Get(u16),
    /// Another value for an option.
    Set(u16, &'a [u8]),
}

/// The numbers of the options.
pub mod option {
    /// Four octets: bit 0 no output, bit 1 no input. Setting it takes a privileged client.
    pub const FLAGS: u16 = 1;
    /// The link's name, as text. Cannot be set.
    pub const IFNAME: u16 = 2;
    /// Six times eight octets: packets, octets and errors from the client, then to it. Setting adds, where own counts
    /// are on.
    pub const STATISTICS: u16 = 3;
    /// Four octets: 1 when the client adds counts of its own, else 0.
    pub const OWN_COUNTS: u16 = 4;
    /// Four octets: records that may wait for the client.
    pub const MAX_PENDING: u16 = 5;
    /// Four octets: the MTU.
    pub const MTU: u16 = 6;
}

/// Why a request failed, numbered as in Linux on every system.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[repr(u16)]
pub enum Refusal {
    /// EPERM.
    #[error("not permitted")]
    NotPermitted = 1,
    /// EBUSY.
    #[error("the unit is taken, or the port has its client already")]
    Busy = 16,
    /// EINVAL.
    #[error("the request or its value is invalid")]
    Invalid = 22,
    /// EMSGSIZE.
    #[error("the value has the wrong size")]
    WrongSize = 90,
    /// ENOPROTOOPT.
    #[error("there is no such option")]
    NoSuchOption = 92,
    /// EADDRINUSE.
    #[error("another client has the address")]
    AddressInUse = 98,
    /// EADDRNOTAVAIL.
    #[error("the address is not one that the port allows")]
    AddressNotAllowed = 99,
    /// ENOBUFS.
    #[error("there is no room for another tunnel")]
    NoRoom = 105,
    /// EISCONN.
    #[error("the tunnel is open already")]
    AlreadyOpen = 106,
    /// ENOTCONN.
    #[error("no tunnel is open yet")]
    NotOpen = 107,
}

impl Refusal {
    const ALL: [Refusal; 10] = [
        Refusal::NotPermitted,
        Refusal::Busy,
        Refusal::Invalid,
        Refusal::WrongSize,
        Refusal::NoSuchOption,
        Refusal::AddressInUse,
        Refusal::AddressNotAllowed,
        Refusal::NoRoom,
        Refusal::AlreadyOpen,
        Refusal::NotOpen,
    ];

    /// The name of the errno.
    pub const fn errno_name(self) -> &'static str {
        match self {
            Refusal::NotPermitted => "EPERM",
            Refusal::Busy => "EBUSY",
            Refusal::Invalid => "EINVAL",
            Refusal::WrongSize => "EMSGSIZE",
            Refusal::NoSuchOption => "ENOPROTOOPT",
            Refusal::AddressInUse => "EADDRINUSE",
            Refusal::AddressNotAllowed => "EADDRNOTAVAIL",
            Refusal::NoRoom => "ENOBUFS",
            Refusal::AlreadyOpen => "EISCONN",
            Refusal::NotOpen => "ENOTCONN",
        }
    }

    /// Translates an error of the link layer to a refusal for the client.
    pub fn of_link(error: vmlan_link::Error) -> Refusal {
        match error {
            vmlan_link::Error::Busy => Refusal::Busy,
            vmlan_link::Error::NoBuffers => Refusal::NoRoom,
            vmlan_link::Error::NotPermitted => Refusal::NotPermitted,
            vmlan_link::Error::NotAttached => Refusal::NotOpen,
            _ => Refusal::Invalid,
        }
    }
}

/// The answer to a client whose tunnel is open; the data socket comes along with it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Opened {
    /// The unit: the link is `tunnel` and one less.
    pub unit: u32,
    /// The MTU.
    pub mtu: u32,
    /// The link address that the tunnel has on its network.
    pub mac: MacAddr,
    /// Its addresses.
    pub addresses: Vec<Prefixed>,
    /// The next hops of packets that leave the networks of the addresses.
    pub gateways: Vec<IpAddr>,
}

/// The octets are no message.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the message is cut, of another version, or of an unknown kind")]
pub struct BadMessage;

impl Request<'_> {
    /// Reads a request.
    ///
    /// # Errors
    /// [`BadMessage`]; it is answered with `EINVAL`.
    pub fn parse(octets: &[u8]) -> Result<Request<'_>, BadMessage> {
        if octets.len() > LONGEST {
            return Err(BadMessage);
        }
        let mut reader = Reader(octets);
        let (version, operation, option) = (reader.octet()?, reader.octet()?, reader.word()?);
        match (version, operation) {
            (VERSION, 1) if option == 0 => {
                let unit = reader.long()?;
                let addresses = reader.list(Reader::prefixed)?;
                reader.end()?;
                Ok(Request::Open { unit, addresses })
            }
            (VERSION, 2) => reader.end().map(|()| Request::Get(option)),
            (VERSION, 3) => Ok(Request::Set(option, reader.0)),
            _ => Err(BadMessage),
        }
    }

    /// The octets of the request.
    ///
    /// # Panics
    /// With more than [`MOST_ADDRESSES`] addresses.
    pub fn emit(&self) -> Vec<u8> {
        let header = |operation, option: u16| [&[VERSION, operation], &option.to_be_bytes()[..]].concat();
        match self {
            Request::Open { unit, addresses } => {
                let mut octets = header(1, 0);
                octets.extend(unit.to_be_bytes());
                emit_list(&mut octets, addresses, emit_prefixed);
                octets
            }
            Request::Get(option) => header(2, *option),
            Request::Set(option, value) => [&header(3, *option), *value].concat(),
        }
    }

    /// The number of the operation, as an answer repeats it.
    const fn operation(&self) -> u8 {
        match self {
            Request::Open { .. } => 1,
            Request::Get(_) => 2,
            Request::Set(..) => 3,
        }
    }
}

/// The octets of the answer to `request`, or to what was none.
pub fn answer(request: Option<&Request<'_>>, result: Result<&[u8], Refusal>) -> Vec<u8> {
    let operation = request.map_or(0, Request::operation) | ANSWER;
    let (error, value) = match result {
        Ok(value) => (0, value),
        Err(refusal) => (refusal as u16, &[][..]),
    };
    [&[VERSION, operation], &error.to_be_bytes()[..], value].concat()
}

/// The value of the answer to `request`; the inner error is what the other end said.
///
/// # Errors
/// [`BadMessage`] when it is no answer to it.
pub fn parse_answer<'a>(
    request: &Request<'_>,
    octets: &'a [u8],
) -> Result<Result<&'a [u8], Refusal>, BadMessage> {
    let (header, value) = octets.split_first_chunk::<HEADER>().ok_or(BadMessage)?;
    let [version, operation, error @ ..] = *header;
    if version != VERSION || operation != request.operation() | ANSWER || octets.len() > LONGEST {
        return Err(BadMessage);
    }
    match u16::from_be_bytes(error) {
        0 => Ok(Ok(value)),
        error => {
            let known = Refusal::ALL.into_iter().find(|refusal| *refusal as u16 == error);
            Ok(Err(known.ok_or(BadMessage)?))
        }
    }
}

impl Opened {
    /// Reads the value of the answer to [`Request::Open`].
    ///
    /// # Errors
    /// [`BadMessage`].
    pub fn parse(value: &[u8]) -> Result<Opened, BadMessage> {
        let mut reader = Reader(value);
        let (unit, mtu, mac) = (reader.long()?, reader.long()?, MacAddr(reader.array()?));
        let addresses = reader.list(Reader::prefixed)?;
        let gateways = reader.list(Reader::address)?;
        reader.end()?;
        Ok(Opened { unit, mtu, mac, addresses, gateways })
    }

    /// The octets of the value.
    ///
    /// # Panics
    /// With more than [`MOST_ADDRESSES`] addresses or gateways.
    pub fn emit(&self) -> Vec<u8> {
        let mut octets = Vec::new();
        octets.extend(self.unit.to_be_bytes());
        octets.extend(self.mtu.to_be_bytes());
        octets.extend(self.mac.0);
        emit_list(&mut octets, &self.addresses, emit_prefixed);
        emit_list(&mut octets, &self.gateways, emit_address);
        octets
    }
}

/// The octets that are left to be read.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadMessage> {
        let (taken, rest) = self.0.split_first_chunk::<N>().ok_or(BadMessage)?;
        self.0 = rest;
        Ok(*taken)
    }

    fn octet(&mut self) -> Result<u8, BadMessage> {
        Ok(self.array::<1>()?[0])
    }

    fn word(&mut self) -> Result<u16, BadMessage> {
        Ok(u16::from_be_bytes(self.array()?))
    }

    fn long(&mut self) -> Result<u32, BadMessage> {
        Ok(u32::from_be_bytes(self.array()?))
    }

    /// A number of elements in one octet, and the elements.
    fn list<T>(&mut self, element: fn(&mut Self) -> Result<T, BadMessage>) -> Result<Vec<T>, BadMessage> {
        let count = usize::from(self.octet()?);
        if count > MOST_ADDRESSES {
            return Err(BadMessage);
        }
        (0..count).map(|_| element(self)).collect()
    }

    /// The IP version in one octet, and the address.
    fn address(&mut self) -> Result<IpAddr, BadMessage> {
        match self.octet()? {
            4 => Ok(self.array::<4>()?.into()),
            6 => Ok(self.array::<16>()?.into()),
            _ => Err(BadMessage),
        }
    }

    /// An address, and the bits of its network in one octet.
    fn prefixed(&mut self) -> Result<Prefixed, BadMessage> {
        let (address, prefix) = (self.address()?, self.octet()?);
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits { Err(BadMessage) } else { Ok(Prefixed { address, prefix }) }
    }

    fn end(&self) -> Result<(), BadMessage> {
        if self.0.is_empty() { Ok(()) } else { Err(BadMessage) }
    }
}

fn emit_list<T>(octets: &mut Vec<u8>, list: &[T], element: fn(&mut Vec<u8>, &T)) {
    assert!(list.len() <= MOST_ADDRESSES, "a message has room for {MOST_ADDRESSES}");
    octets.push(list.len() as u8);
    list.iter().for_each(|item| element(octets, item));
}

fn emit_address(octets: &mut Vec<u8>, address: &IpAddr) {
    match address {
        IpAddr::V4(address) => {
            octets.push(4);
            octets.extend(address.octets());
        }
        IpAddr::V6(address) => {
            octets.push(6);
            octets.extend(address.octets());
        }
    }
}

fn emit_prefixed(octets: &mut Vec<u8>, prefixed: &Prefixed) {
    emit_address(octets, &prefixed.address);
    octets.push(prefixed.prefix);
}

impl std::fmt::Display for Prefixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.address, self.prefix)
    }
}

/// The text is no address with a prefix length.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("write an address and the bits of its network, as in 10.0.0.9/24 or fd00::9/64")]
pub struct BadPrefixed;

impl std::str::FromStr for Prefixed {
    type Err = BadPrefixed;

    fn from_str(text: &str) -> Result<Prefixed, BadPrefixed> {
        let (address, prefix) = text.split_once('/').ok_or(BadPrefixed)?;
        let address: IpAddr = address.parse().map_err(|_| BadPrefixed)?;
        let prefix: u8 = prefix.parse().map_err(|_| BadPrefixed)?;
        let bits = if address.is_ipv4() { 32 } else { 128 };
        if prefix > bits { Err(BadPrefixed) } else { Ok(Prefixed { address, prefix }) }
    }
}

impl Prefixed {
    /// True if `other` is in this network.
    pub fn contains(&self, other: IpAddr) -> bool {
        vmlan_frame::ip::begin_alike(self.address, other, self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn prefixed(text: &str) -> Prefixed {
        text.parse().unwrap()
    }

    #[test]
    fn messages_have_their_documented_octets() {
        let open = Request::Open { unit: 3, addresses: vec![prefixed("10.0.0.9/24")] };
        assert_eq!(open.emit(), [1, 1, 0, 0, 0, 0, 0, 3, 1, 4, 10, 0, 0, 9, 24]);
        assert_eq!(Request::Get(option::IFNAME).emit(), [1, 2, 0, 2]);
        assert_eq!(Request::Set(option::FLAGS, &[0, 0, 0, 1]).emit(), [1, 3, 0, 1, 0, 0, 0, 1]);
        assert_eq!(answer(Some(&open), Err(Refusal::Busy)), [1, 0x81, 0, 16]);
        assert_eq!(answer(None, Err(Refusal::Invalid)), [1, 0x80, 0, 22]);
        assert_eq!(answer(Some(&Request::Get(2)), Ok(b"tunnel0")), *b"\x01\x82\x00\x00tunnel0");
    }

    #[test]
    fn what_is_no_request_is_refused() {
        let mut many = vec![1, 1, 0, 0, 0, 0, 0, 0, 17];
        (0..17).for_each(|last| many.extend([4, 10, 0, 0, last, 24]));
        for octets in [
            &[][..],
            &[1, 2, 0],
            &[2, 2, 0, 1],
            &[1, 9, 0, 0],
            &[1, 1, 0, 1, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0, 0, 0, 0, 0, 0, 0],
            &[1, 1, 0, 0, 0, 0, 0, 0, 1, 4, 10, 0, 0, 9],
            &[1, 1, 0, 0, 0, 0, 0, 0, 1, 4, 10, 0, 0, 9, 33],
            &[1, 1, 0, 0, 0, 0, 0, 0, 1, 5, 10, 0, 0, 9, 24],
            &[1, 2, 0, 1, 0],
            &many,
            &[1; LONGEST + 1],
        ] {
            assert_eq!(Request::parse(octets), Err(BadMessage), "{octets:?}");
        }
    }

    #[test]
    fn answers_belong_to_their_request() {
        let get = Request::Get(option::MTU);
        let answered = answer(Some(&get), Ok(&[0, 0, 5, 220]));
        assert_eq!(parse_answer(&get, &answered), Ok(Ok(&[0, 0, 5, 220][..])));
        assert_eq!(parse_answer(&Request::Set(option::MTU, &[]), &answered), Err(BadMessage));
        for refusal in Refusal::ALL {
            assert_eq!(parse_answer(&get, &answer(Some(&get), Err(refusal))), Ok(Err(refusal)));
        }
        assert_eq!(parse_answer(&get, &[1, 0x82, 0xff, 0xff]), Err(BadMessage));
    }

    #[test]
    fn networks_and_their_addresses() {
        for (network, inside, outside) in [
            ("10.0.0.9/24", "10.0.0.255", "10.0.1.0"),
            ("10.0.0.9/32", "10.0.0.9", "10.0.0.8"),
            ("10.0.0.9/0", "192.0.2.1", "fd00::1"),
            ("fd00::9/64", "fd00::ffff", "fd00:0:0:1::"),
            ("::/0", "fd00::1", "10.0.0.1"),
        ] {
            let network = prefixed(network);
            assert!(
                network.contains(inside.parse().unwrap()) && !network.contains(outside.parse().unwrap()),
                "{network}"
            );
        }
        for text in ["10.0.0.9", "10.0.0.9/33", "fd00::/129", "x/1", "10.0.0.9/", "10.0.0.9/-1"] {
            assert_eq!(text.parse::<Prefixed>(), Err(BadPrefixed), "{text}");
        }
    }

    fn addresses() -> impl Strategy<Value = Vec<Prefixed>> {
        let v4 =
            (any::<[u8; 4]>(), 0..=32u8).prop_map(|(ip, prefix)| Prefixed { address: ip.into(), prefix });
        let v6 =
            (any::<[u8; 16]>(), 0..=128u8).prop_map(|(ip, prefix)| Prefixed { address: ip.into(), prefix });
        prop::collection::vec(prop_oneof![v4, v6], 0..=MOST_ADDRESSES)
    }

    proptest! {
        /// An emitted message is parsed as the message that it was.
        #[test]
        fn emitted_messages_are_read(unit in any::<u32>(), mac in any::<[u8; 6]>(), addresses in addresses()) {
            let request = Request::Open { unit, addresses: addresses.clone() };
            let octets = request.emit();
            prop_assert_eq!(Request::parse(&octets), Ok(request));
            let gateways = addresses.iter().map(|prefixed| prefixed.address).collect();
            let opened = Opened { unit, mtu: 1500, mac: MacAddr(mac), addresses, gateways };
            let octets = opened.emit();
            prop_assert!(octets.len() <= LONGEST - HEADER);
            prop_assert_eq!(Opened::parse(&octets), Ok(opened));
        }
    }
}
