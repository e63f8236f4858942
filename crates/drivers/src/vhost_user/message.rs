//! Messages of the vhost-user protocol (QEMU's vhost-user.rst): octets to requests, and answers to octets.
//!
//! A message is a header of 12 octets, three words of 32 bits in the host's order (the request, flags, and the octets
//! that follow), and a body. One table says of each request how long its body is and how many descriptors come with it.
//! Here nothing is known of what came before, and the session decides whether a request is in order.

use vmlan_frame::MacAddr;

/// Octets of the header.
pub const HEADER: usize = 12;

/// Octets of the longest body.
pub const LONGEST: usize = 4096;

/// Regions of one memory table at most.
pub const TABLE_REGIONS: usize = 8;

/// Octets of the longest configuration space.
pub const LONGEST_CONFIG: u32 = 256;

/// Bits 0 and 1 of the flags: the protocol's version.
const VERSION_MASK: u32 = 3;
const VERSION: u32 = 1;

/// The message is an answer.
const REPLY: u32 = 1 << 2;

/// The sender waits for an answer, although the request has none by itself.
const NEED_REPLY: u32 = 1 << 3;

/// In front of a region of [`Kind::AddMemReg`], and of the regions of a table.
const REGION_PREFIX: usize = 8;
const REGION: usize = 32;

/// In front of the octets of a configuration space: offset, size, flags.
const CONFIG_PREFIX: usize = 12;

/// In a word that tells a ring: no descriptor comes along.
const NO_DESCRIPTOR: u64 = 1 << 8;

/// The front end broke the protocol. The text says how, for people to read.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Violation(pub String);

/// Makes a violation of a text with values in it.
macro_rules! violation {
    ($($text:tt)*) => { $crate::vhost_user::message::Violation(format!($($text)*)) };
}
pub(super) use violation;

/// The requests that are understood, by their numbers in the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
#[repr(u32)]
#[allow(missing_docs, reason = "the protocol's own names")]
pub enum Kind {
    GetFeatures = 1,
    SetFeatures = 2,
    SetOwner = 3,
    ResetOwner = 4,
    SetMemTable = 5,
    SetLogBase = 6,
    SetLogFd = 7,
    SetVringNum = 8,
    SetVringAddr = 9,
    SetVringBase = 10,
    GetVringBase = 11,
    SetVringKick = 12,
    SetVringCall = 13,
    SetVringErr = 14,
    GetProtocolFeatures = 15,
    SetProtocolFeatures = 16,
    GetQueueNum = 17,
    SetVringEnable = 18,
    SendRarp = 19,
    NetSetMtu = 20,
    GetConfig = 24,
    SetConfig = 25,
    ResetDevice = 34,
    GetMaxMemSlots = 36,
    AddMemReg = 37,
    RemMemReg = 38,
}

/// The form of one request.
struct Form {
    kind: Kind,
    /// Octets of its body, at least and at most.
    body: (usize, usize),
    /// Descriptors that come along, at least and at most.
    descriptors: (usize, usize),
}

const fn form(kind: Kind, body: (usize, usize), descriptors: (usize, usize)) -> Form {
    Form { kind, body, descriptors }
}

const NOTHING: (usize, usize) = (0, 0);
const WORD: (usize, usize) = (8, 8);

/// Every request that is understood.
static FORMS: [Form; 26] = [
    form(Kind::GetFeatures, NOTHING, (0, 0)),
    form(Kind::SetFeatures, WORD, (0, 0)),
    form(Kind::SetOwner, NOTHING, (0, 0)),
    form(Kind::ResetOwner, NOTHING, (0, 0)),
    form(Kind::SetMemTable, (REGION_PREFIX, REGION_PREFIX + TABLE_REGIONS * REGION), (0, TABLE_REGIONS)),
    form(Kind::SetLogBase, (16, 16), (1, 1)),
    form(Kind::SetLogFd, NOTHING, (1, 1)),
    form(Kind::SetVringNum, WORD, (0, 0)),
    form(Kind::SetVringAddr, (40, 40), (0, 0)),
    form(Kind::SetVringBase, WORD, (0, 0)),
    form(Kind::GetVringBase, WORD, (0, 0)),
    form(Kind::SetVringKick, WORD, (0, 1)),
    form(Kind::SetVringCall, WORD, (0, 1)),
    form(Kind::SetVringErr, WORD, (0, 1)),
    form(Kind::GetProtocolFeatures, NOTHING, (0, 0)),
    form(Kind::SetProtocolFeatures, WORD, (0, 0)),
    form(Kind::GetQueueNum, NOTHING, (0, 0)),
    form(Kind::SetVringEnable, WORD, (0, 0)),
    form(Kind::SendRarp, WORD, (0, 0)),
    form(Kind::NetSetMtu, WORD, (0, 0)),
    form(Kind::GetConfig, (CONFIG_PREFIX, CONFIG_PREFIX + LONGEST_CONFIG as usize), (0, 0)),
    form(Kind::SetConfig, (CONFIG_PREFIX, CONFIG_PREFIX + LONGEST_CONFIG as usize), (0, 0)),
    form(Kind::ResetDevice, NOTHING, (0, 0)),
    form(Kind::GetMaxMemSlots, NOTHING, (0, 0)),
    form(Kind::AddMemReg, (REGION_PREFIX + REGION, REGION_PREFIX + REGION), (1, 1)),
    form(Kind::RemMemReg, (REGION_PREFIX + REGION, REGION_PREFIX + REGION), (0, 1)),
];

impl Kind {
    fn form(self) -> &'static Form {
        FORMS.iter().find(|form| form.kind == self).expect("the table has every request")
    }

    /// True if descriptors may come with the request. With others they are strays, which are closed.
    pub fn takes_descriptors(self) -> bool {
        self.form().descriptors.1 > 0
    }
}

/// A header that was checked: the request is known, and its body has a length that the request can have.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Header {
    /// The request.
    pub kind: Kind,
    /// True if the front end waits for an answer to a request that has none by itself.
    pub needs_reply: bool,
    /// Octets of the body, [`LONGEST`] at most.
    pub size: usize,
}

impl Header {
    /// Reads a header.
    ///
    /// # Errors
    /// Another version, an answer, an unknown request, or a body of the wrong size.
    pub fn parse(octets: &[u8; HEADER]) -> Result<Header, Violation> {
        let mut reader = Reader(octets);
        let [number, flags, size] = [reader.word(), reader.word(), reader.word()];
        if flags & VERSION_MASK != VERSION {
            let version = flags & VERSION_MASK;
            return Err(violation!("the front end speaks version {version} of vhost-user; 1 is understood"));
        }
        if flags & REPLY != 0 {
            return Err(violation!("the front end sent an answer (to request {number}) where none was due"));
        }
        let form = FORMS.iter().find(|form| form.kind as u32 == number);
        let form = form.ok_or_else(|| violation!("request {number} was not offered"))?;
        let (least, most) = form.body;
        match usize::try_from(size) {
            Ok(size) if (least..=most).contains(&size) => {
                Ok(Header { kind: form.kind, needs_reply: flags & NEED_REPLY != 0, size })
            }
            _ => {
                Err(violation!("the body of {:?} has {size} octets; {least} to {most} are right", form.kind))
            }
        }
    }
}

/// A range of guest memory, and where it is in the front end and in its file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RegionDescription {
    /// Its guest physical address.
    pub guest: u64,
    /// Octets.
    pub size: u64,
    /// Its address in the front end.
    pub user: u64,
    /// Octets of the file in front of it.
    pub offset: u64,
}

impl RegionDescription {
    /// The first guest address behind the region.
    ///
    /// # Errors
    /// An empty region, or one that ends beyond the 64 bits of an address or an offset.
    pub fn end(&self) -> Result<u64, Violation> {
        let ends = |start: u64| start.checked_add(self.size);
        match (ends(self.guest), ends(self.user), ends(self.offset)) {
            (Some(end), Some(_), Some(_)) if self.size > 0 => Ok(end),
            (..) => Err(violation!("{self} is empty or ends beyond 2^64")),
        }
    }

    /// True if the regions share guest addresses or addresses in the front end. Both have been checked by
    /// [`RegionDescription::end`].
    pub fn overlaps(&self, other: &RegionDescription) -> bool {
        // Two ranges are apart if one begins behind the other's last octet.
        let meet = |one: u64, another: u64| match one <= another {
            true => another - one < self.size,
            false => one - another < other.size,
        };
        meet(self.guest, other.guest) || meet(self.user, other.user)
    }
}

impl std::fmt::Display for RegionDescription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the memory region of {:#x} octets at guest address {:#x}", self.size, self.guest)
    }
}

/// The places of a ring, as addresses in the front end (virtio 1.3 2.7 and 2.8).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Addresses {
    /// The descriptor table, or the descriptor ring of a packed one.
    pub descriptors: u64,
    /// The area that the driver writes: the available ring.
    pub driver: u64,
    /// The area that the device writes: the used ring.
    pub device: u64,
    /// The guest address that writes to the used ring are logged at, if they are.
    pub log: Option<u64>,
}

/// A request with what belongs to it. Indices of rings are as the front end sent them.
#[derive(Clone, PartialEq, Eq, Debug)]
#[allow(missing_docs, reason = "named as the requests of the protocol")]
pub enum Request {
    GetFeatures,
    SetFeatures(u64),
    SetOwner,
    ResetOwner,
    SetMemTable(Vec<RegionDescription>),
    SetLogBase { size: u64, offset: u64 },
    SetLogFd,
    SetVringNum { index: u32, num: u32 },
    SetVringAddr { index: u32, addresses: Addresses },
    SetVringBase { index: u32, base: u32 },
    GetVringBase { index: u32 },
    SetVringKick { index: u32, has_descriptor: bool },
    SetVringCall { index: u32, has_descriptor: bool },
    SetVringErr { index: u32, has_descriptor: bool },
    GetProtocolFeatures,
    SetProtocolFeatures(u64),
    GetQueueNum,
    SetVringEnable { index: u32, enabled: bool },
    SendRarp(MacAddr),
    NetSetMtu(u64),
    GetConfig { offset: u32, size: u32, flags: u32 },
    SetConfig,
    ResetDevice,
    GetMaxMemSlots,
    AddMemReg(RegionDescription),
    RemMemReg(RegionDescription),
}

impl Request {
    /// Reads the body of a message that `descriptors` descriptors came with. Strays do not count: see
    /// [`Kind::takes_descriptors`].
    ///
    /// # Errors
    /// A value that cannot be, or a number of descriptors that does not fit the request.
    pub fn parse(header: Header, body: &[u8], descriptors: usize) -> Result<Request, Violation> {
        let kind = header.kind;
        let form = kind.form();
        if !(form.body.0..=form.body.1).contains(&body.len()) {
            return Err(violation!("the body of {kind:?} has {} octets", body.len()));
        }
        let (least, most) = form.descriptors;
        if most > 0 && !(least..=most).contains(&descriptors) {
            return Err(wrong_number(kind, descriptors));
        }
        let mut reader = Reader(body);
        Ok(match kind {
            Kind::GetFeatures => Request::GetFeatures,
            Kind::SetFeatures => Request::SetFeatures(reader.long()),
            Kind::SetOwner => Request::SetOwner,
            Kind::ResetOwner => Request::ResetOwner,
            Kind::SetMemTable => Request::SetMemTable(reader.table(descriptors)?),
            Kind::SetLogBase => Request::SetLogBase { size: reader.long(), offset: reader.long() },
            Kind::SetLogFd => Request::SetLogFd,
            Kind::SetVringNum => Request::SetVringNum { index: reader.word(), num: reader.word() },
            Kind::SetVringAddr => {
                let (index, addresses) = reader.addresses();
                Request::SetVringAddr { index, addresses }
            }
            Kind::SetVringBase => Request::SetVringBase { index: reader.word(), base: reader.word() },
            Kind::GetVringBase => Request::GetVringBase { index: reader.word() },
            Kind::SetVringKick | Kind::SetVringCall | Kind::SetVringErr => {
                let (index, has_descriptor) = reader.eventfd();
                if usize::from(has_descriptor) != descriptors {
                    return Err(wrong_number(kind, descriptors));
                }
                match kind {
                    Kind::SetVringKick => Request::SetVringKick { index, has_descriptor },
                    Kind::SetVringCall => Request::SetVringCall { index, has_descriptor },
                    _ => Request::SetVringErr { index, has_descriptor },
                }
            }
            Kind::GetProtocolFeatures => Request::GetProtocolFeatures,
            Kind::SetProtocolFeatures => Request::SetProtocolFeatures(reader.long()),
            Kind::GetQueueNum => Request::GetQueueNum,
            Kind::SetVringEnable => match (reader.word(), reader.word()) {
                (index, enabled @ 0..=1) => Request::SetVringEnable { index, enabled: enabled == 1 },
                (index, other) => {
                    return Err(violation!("ring {index} is enabled by {other}; 0 or 1 is right"));
                }
            },
            Kind::SendRarp => Request::SendRarp(MacAddr::from_slice(body)),
            Kind::NetSetMtu => Request::NetSetMtu(reader.long()),
            Kind::GetConfig => {
                let (offset, size, flags) = (reader.word(), reader.word(), reader.word());
                // Some front ends send room for the answer along, others do not.
                if size > LONGEST_CONFIG || !(reader.0.is_empty() || reader.0.len() == size as usize) {
                    return Err(violation!("GetConfig asks for {size} octets and brings {}", reader.0.len()));
                }
                Request::GetConfig { offset, size, flags }
            }
            Kind::SetConfig => Request::SetConfig,
            Kind::ResetDevice => Request::ResetDevice,
            Kind::GetMaxMemSlots => Request::GetMaxMemSlots,
            Kind::AddMemReg => Request::AddMemReg(reader.single_region()),
            Kind::RemMemReg => Request::RemMemReg(reader.single_region()),
        })
    }
}

fn wrong_number(kind: Kind, descriptors: usize) -> Violation {
    violation!("{descriptors} descriptors came with {kind:?}, which is not the right number")
}

/// The octets that are left to be read. A body's length has been checked before, so none is missing.
struct Reader<'a>(&'a [u8]);

impl Reader<'_> {
    fn array<const N: usize>(&mut self) -> [u8; N] {
        let (taken, rest) = self.0.split_first_chunk::<N>().expect("the length has been checked");
        self.0 = rest;
        *taken
    }

    fn word(&mut self) -> u32 {
        u32::from_ne_bytes(self.array())
    }

    fn long(&mut self) -> u64 {
        u64::from_ne_bytes(self.array())
    }

    fn region(&mut self) -> RegionDescription {
        RegionDescription { guest: self.long(), size: self.long(), user: self.long(), offset: self.long() }
    }

    /// A region behind padding.
    fn single_region(&mut self) -> RegionDescription {
        let _padding = self.long();
        self.region()
    }

    /// As many regions as descriptors came.
    fn table(&mut self, descriptors: usize) -> Result<Vec<RegionDescription>, Violation> {
        let (count, _padding) = (self.word() as usize, self.word());
        if count > TABLE_REGIONS || self.0.len() != count * REGION {
            let octets = self.0.len();
            return Err(violation!("a memory table of {count} regions has {octets} octets of them"));
        }
        if count != descriptors {
            return Err(wrong_number(Kind::SetMemTable, descriptors));
        }
        Ok((0..count).map(|_| self.region()).collect())
    }

    fn addresses(&mut self) -> (u32, Addresses) {
        let (index, flags) = (self.word(), self.word());
        let (descriptors, device, driver, log) = (self.long(), self.long(), self.long(), self.long());
        (index, Addresses { descriptors, driver, device, log: (flags & 1 != 0).then_some(log) })
    }

    /// The index of a ring, and whether a descriptor comes along.
    fn eventfd(&mut self) -> (u32, bool) {
        let word = self.long();
        ((word & 0xff) as u32, word & NO_DESCRIPTOR == 0)
    }
}

/// The octets of an answer.
///
/// # Panics
/// With a body of more than [`LONGEST`] octets.
pub fn answer(kind: Kind, body: &[u8]) -> Vec<u8> {
    assert!(body.len() <= LONGEST, "an answer has at most {LONGEST} octets");
    let header = [kind as u32, VERSION | REPLY, body.len() as u32];
    [&header.map(u32::to_ne_bytes).concat(), body].concat()
}

/// The answer to [`Kind::GetVringBase`].
pub fn answer_base(index: u32, base: u32) -> Vec<u8> {
    answer(Kind::GetVringBase, &[index, base].map(u32::to_ne_bytes).concat())
}

/// The answer to [`Kind::SetLogBase`]: the size and the offset of the log that was taken, and zeros for one that was
/// not. The protocol names no body. QEMU takes any, and front ends with the crate `vhost` wait for this one.
pub fn answer_log((size, offset): (u64, u64)) -> Vec<u8> {
    answer(Kind::SetLogBase, &[size, offset].map(u64::to_ne_bytes).concat())
}

/// The answer to [`Kind::GetConfig`]: the octets from `offset` on, and none of them when there are not so many.
pub fn answer_config(offset: u32, flags: u32, octets: Option<&[u8]>) -> Vec<u8> {
    let Some(octets) = octets else {
        return answer(Kind::GetConfig, &[]);
    };
    let prefix = [offset, octets.len() as u32, flags].map(u32::to_ne_bytes).concat();
    answer(Kind::GetConfig, &[&prefix, octets].concat())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn header(number: u32, flags: u32, size: u32) -> [u8; HEADER] {
        [number, flags, size].map(u32::to_ne_bytes).concat().try_into().unwrap()
    }

    fn parse(kind: Kind, body: &[u8], descriptors: usize) -> Result<Request, Violation> {
        let header = Header::parse(&header(kind as u32, VERSION, body.len() as u32))?;
        Request::parse(header, body, descriptors)
    }

    fn words(words: &[u32]) -> Vec<u8> {
        words.iter().flat_map(|word| word.to_ne_bytes()).collect()
    }

    fn longs(longs: &[u64]) -> Vec<u8> {
        longs.iter().flat_map(|long| long.to_ne_bytes()).collect()
    }

    #[test]
    fn every_request_is_in_the_table_once_and_fits_a_message() {
        for form in &FORMS {
            assert!(std::ptr::eq(form.kind.form(), form), "{:?}", form.kind);
            assert!(form.body.1 <= LONGEST && form.body.0 <= form.body.1);
            let parsed = Header::parse(&header(form.kind as u32, VERSION | NEED_REPLY, form.body.0 as u32));
            assert_eq!(parsed, Ok(Header { kind: form.kind, needs_reply: true, size: form.body.0 }));
        }
    }

    #[test]
    fn case_37_headers_that_cannot_be_are_refused() {
        for (number, flags, size) in [
            (1, 2, 0),
            (1, 0, 0),
            (1, VERSION | REPLY, 0),
            (1, VERSION, 1),
            (2, VERSION, 5000),
            (2, VERSION, u32::MAX),
            (0, VERSION, 0),
            (23, VERSION, 0),
            (u32::MAX, VERSION, 0),
        ] {
            assert!(Header::parse(&header(number, flags, size)).is_err(), "{number} {flags} {size}");
        }
    }

    #[test]
    fn requests_have_their_documented_octets() {
        let region = RegionDescription { guest: 1, size: 2, user: 3, offset: 4 };
        let addresses = Addresses { descriptors: 5, driver: 7, device: 6, log: Some(8) };
        for (kind, body, descriptors, request) in [
            (Kind::SetFeatures, longs(&[1 << 32]), 0, Request::SetFeatures(1 << 32)),
            (
                Kind::SetMemTable,
                [words(&[1, 0]), longs(&[1, 2, 3, 4])].concat(),
                1,
                Request::SetMemTable(vec![region]),
            ),
            (Kind::AddMemReg, longs(&[0, 1, 2, 3, 4]), 1, Request::AddMemReg(region)),
            (Kind::RemMemReg, longs(&[0, 1, 2, 3, 4]), 0, Request::RemMemReg(region)),
            (
                Kind::SetVringAddr,
                [words(&[9, 1]), longs(&[5, 6, 7, 8])].concat(),
                0,
                Request::SetVringAddr { index: 9, addresses },
            ),
            (
                Kind::SetVringKick,
                longs(&[0x103]),
                0,
                Request::SetVringKick { index: 3, has_descriptor: false },
            ),
            (Kind::SetVringCall, longs(&[3]), 1, Request::SetVringCall { index: 3, has_descriptor: true }),
            (Kind::SetVringEnable, words(&[4, 1]), 0, Request::SetVringEnable { index: 4, enabled: true }),
            (Kind::SendRarp, vec![2, 0, 0, 0, 0, 9, 0, 0], 0, Request::SendRarp(MacAddr([2, 0, 0, 0, 0, 9]))),
            (Kind::GetConfig, words(&[0, 60, 1]), 0, Request::GetConfig { offset: 0, size: 60, flags: 1 }),
            (
                Kind::GetConfig,
                [words(&[2, 3, 0]), vec![0; 3]].concat(),
                0,
                Request::GetConfig { offset: 2, size: 3, flags: 0 },
            ),
        ] {
            assert_eq!(parse(kind, &body, descriptors), Ok(request), "{kind:?}");
        }
    }

    #[test]
    fn bodies_that_cannot_be_are_refused() {
        let region = longs(&[1, 2, 3, 4]);
        for (kind, body, descriptors) in [
            (Kind::SetMemTable, [words(&[2, 0]), region.clone()].concat(), 1),
            (Kind::SetMemTable, [words(&[1, 0]), region.clone()].concat(), 0),
            (Kind::SetMemTable, [words(&[1, 0]), region.clone()].concat(), 2),
            (Kind::SetMemTable, words(&[u32::MAX, 0]), 0),
            (Kind::AddMemReg, longs(&[0, 1, 2, 3, 4]), 0),
            (Kind::RemMemReg, longs(&[0, 1, 2, 3, 4]), 2),
            (Kind::SetLogBase, longs(&[1, 0]), 0),
            (Kind::SetVringKick, longs(&[0x100]), 1),
            (Kind::SetVringCall, longs(&[0]), 0),
            (Kind::SetVringErr, longs(&[0]), 253),
            (Kind::SetVringEnable, words(&[0, 2]), 0),
            (Kind::GetConfig, words(&[0, 257, 0]), 0),
            (Kind::GetConfig, [words(&[0, 2, 0]), vec![0]].concat(), 0),
        ] {
            assert!(parse(kind, &body, descriptors).is_err(), "{kind:?} {body:?} {descriptors}");
        }
    }

    #[test]
    fn strays_do_not_change_a_request() {
        assert_eq!(parse(Kind::GetFeatures, &[], 253), Ok(Request::GetFeatures));
        assert!(!Kind::GetFeatures.takes_descriptors());
        assert!(Kind::RemMemReg.takes_descriptors());
    }

    #[test]
    fn answers_have_their_documented_octets() {
        assert_eq!(answer(Kind::GetFeatures, &[1; 8]), [words(&[1, 5, 8]), vec![1; 8]].concat());
        assert_eq!(answer_base(3, 0x0005_0005), words(&[11, 5, 8, 3, 0x0005_0005]));
        assert_eq!(answer_config(2, 1, Some(&[7; 4])), [words(&[24, 5, 16, 2, 4, 1]), vec![7; 4]].concat());
        assert_eq!(answer_config(2, 1, None), words(&[24, 5, 0]));
    }

    #[test]
    fn regions_meet_or_do_not() {
        let region = |guest, user| RegionDescription { guest, size: 0x1000, user, offset: 0 };
        let one = region(0x10000, 0x90000);
        for (guest, user, overlaps) in [
            (0x11000, 0x91000, false),
            (0x10fff, 0x0, true),
            (0xf000, 0x8f000, false),
            (0xf001, 0x0, true),
            (0x0, 0x90fff, true),
            (0x10000, 0x90000, true),
        ] {
            let other = region(guest, user);
            assert_eq!((one.overlaps(&other), other.overlaps(&one)), (overlaps, overlaps), "{other:?}");
        }
    }

    proptest! {
        /// No header and no body is too strange.
        #[test]
        fn any_octets_are_a_request_or_refused(
            number in 0u32..40, flags in prop_oneof![Just(VERSION), any::<u32>()], size in 0u32..300,
            body in prop::collection::vec(any::<u8>(), 0..300), descriptors in 0usize..10,
        ) {
            if let Ok(header) = Header::parse(&header(number, flags, size)) {
                prop_assert!(header.size <= LONGEST);
                let _ = Request::parse(header, &body, descriptors);
                if let Some(body) = body.get(..header.size) {
                    let _ = Request::parse(header, body, descriptors);
                }
            }
        }
    }
}
