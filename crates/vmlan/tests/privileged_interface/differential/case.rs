//! The random configurations and frames, and the octets that the frames have.

use proptest::collection::vec;
use proptest::option::weighted;
use proptest::prelude::*;
use proptest::sample::select;
use vmlan_frame::MacAddr;

/// Ports of each network.
pub const PORTS: usize = 5;
/// Addresses of honest guests, those of a port one after another.
pub const ADDRESSES: usize = PORTS * OWN;
/// Addresses of each port's guest.
const OWN: usize = 2;

/// One trial: a configuration of all ports, and frames.
#[derive(Clone, Debug)]
pub struct Case {
    pub ports: Vec<Settings>,
    pub frames: Vec<Sent>,
}

/// The policy of a port.
#[derive(Clone, Debug)]
pub struct Settings {
    pub role: Role,
    /// How many of its guest's addresses are set for the port.
    pub set: usize,
    pub guard: bool,
    pub isolated: bool,
}

#[derive(Clone, Debug)]
pub enum Role {
    Unset,
    Access(u16),
    Trunk { tagged: Vec<u16>, native: Option<u16> },
}

/// A frame of the guest behind a port.
#[derive(Clone, Debug)]
pub struct Sent {
    pub port: usize,
    pub source: Source,
    pub destination: Destination,
    pub tags: Tags,
    pub payload: Payload,
    /// Octets of the frame, which its payload is cut or filled to.
    pub length: usize,
}

#[derive(Clone, Debug)]
pub enum Tags {
    /// As the port has them: a VLAN of its own by choice, with a priority.
    Honest(usize, u16),
    /// Protocol and control information, the outer one first.
    Any(Vec<(u16, u16)>),
}

#[derive(Clone, Copy, Debug)]
pub enum Source {
    /// One of the port's guest.
    Own(usize),
    /// One that is set for a port, if any is.
    Set(usize),
    /// One that nobody sends to.
    Fresh(u8),
    Group,
    Zero,
}

#[derive(Clone, Copy, Debug)]
pub enum Destination {
    Guest(usize),
    Unknown,
    Group,
    Broadcast,
    Reserved(u8),
    Zero,
}

#[derive(Clone, Debug)]
pub enum Payload {
    /// Internet header length in words, what the total length says beyond what there is, the protocol, fragment bits.
    Ipv4 {
        words: u8,
        excess: i32,
        protocol: u8,
        fragment: u16,
    },
    /// The next header, the hop limit, what the payload length says beyond what there is.
    Ipv6 {
        next: u8,
        hops: u8,
        excess: i32,
    },
    /// TCP or, with so many octets of payload a segment, UDP, that is to be cut.
    Large {
        v6: bool,
        udp: bool,
        segment: u16,
        octets: u16,
    },
    Arp,
    /// An EtherType or a length, and whatever follows.
    Other(u16),
}

pub fn case() -> impl Strategy<Value = Case> {
    let frames = vec(sent(), 1..256);
    (ports(), frames).prop_map(|(ports, frames)| Case { ports, frames })
}

fn ports() -> impl Strategy<Value = Vec<Settings>> {
    let of = |role: BoxedStrategy<Role>| {
        let set = prop_oneof![3 => Just(0), 1 => Just(1), 1 => Just(OWN)];
        let settings = (role, set, any::<bool>(), prop::bool::weighted(0.1));
        let settings =
            settings.prop_map(|(role, set, guard, isolated)| Settings { role, set, guard, isolated });
        vec(settings, PORTS)
    };
    prop_oneof![2 => of(Just(Role::Unset).boxed()), 3 => of(role().boxed())]
}

const VLANS: [u16; 3] = [10, 20, 1];

fn role() -> impl Strategy<Value = Role> {
    let trunk = (prop::sample::subsequence(VLANS.to_vec(), 1..=3), weighted(0.6, select(&VLANS[..])));
    prop_oneof![
        2 => select(&[10_u16, 10, 1][..]).prop_map(Role::Access),
        3 => trunk.prop_map(|(tagged, native)| Role::Trunk { tagged, native }),
        1 => Just(Role::Unset),
    ]
}

fn sent() -> impl Strategy<Value = Sent> {
    let source = prop_oneof![
        24 => (0..OWN).prop_map(Source::Own),
        2 => (0..ADDRESSES).prop_map(Source::Set),
        1 => any::<u8>().prop_map(Source::Fresh),
        1 => Just(Source::Group),
        1 => Just(Source::Zero),
    ];
    let destination = prop_oneof![
        24 => (0..ADDRESSES).prop_map(Destination::Guest),
        1 => Just(Destination::Unknown),
        1 => Just(Destination::Group),
        1 => Just(Destination::Broadcast),
        1 => (0..32_u8).prop_map(Destination::Reserved),
        1 => Just(Destination::Zero),
    ];
    let vid = prop_oneof![16 => select(&VLANS[..]), 1 => Just(0_u16), 1 => Just(0xfff), 1 => Just(40)];
    let tci = (vid, 0..16_u16).prop_map(|(vid, priority)| priority << 12 | vid);
    let tag = (prop_oneof![12 => Just(0x8100_u16), 1 => Just(0x88a8), 1 => Just(0x9100)], tci);
    let tags = prop_oneof![
        16 => (0..4_usize, 0..16_u16).prop_map(|(choice, priority)| Tags::Honest(choice, priority)),
        4 => vec(tag, 0..4).prop_map(Tags::Any),
    ];
    let length = prop_oneof![
        2 => 14..80_usize, 4 => 60..600_usize, 2 => 1205..1225_usize, 3 => 1505..1530_usize, 1 => 1990..2020_usize,
    ];
    (0..PORTS, source, destination, tags, payload(), length).prop_map(
        |(port, source, destination, tags, payload, length)| Sent {
            port,
            source,
            destination,
            tags,
            payload,
            length,
        },
    )
}

fn payload() -> impl Strategy<Value = Payload> {
    let excess = || prop_oneof![8 => Just(0), 1 => -40..0_i32, 1 => 1..40_i32];
    let protocol = || prop_oneof![Just(6_u8), Just(17), Just(1), any::<u8>()];
    let ipv4 = (
        prop_oneof![12 => Just(5_u8), 2 => 6..16_u8, 1 => 0..5_u8],
        excess(),
        protocol(),
        prop_oneof![6 => Just(0x4000_u16), 1 => any::<u16>()],
    );
    let next = prop_oneof![4 => Just(6_u8), 4 => Just(17), 2 => Just(58), 1 => Just(44), 1 => any::<u8>()];
    let ipv6 = (next, prop_oneof![4 => Just(64_u8), 1 => Just(255), 1 => any::<u8>()], excess());
    let large = (any::<bool>(), prop::bool::weighted(0.3), 500..1500_u16, 1000..20_000_u16);
    let other = prop_oneof![
        Just(0x88b5_u16),
        Just(0x0806),
        Just(0x8808),
        Just(0x0800),
        Just(0x86dd),
        0..0x600_u16,
        any::<u16>()
    ];
    prop_oneof![
        8 => ipv4.prop_map(|(words, excess, protocol, fragment)| Payload::Ipv4 { words, excess, protocol, fragment }),
        4 => ipv6.prop_map(|(next, hops, excess)| Payload::Ipv6 { next, hops, excess }),
        2 => large.prop_map(|(v6, udp, segment, octets)| Payload::Large { v6, udp, segment, octets }),
        1 => Just(Payload::Arp),
        2 => other.prop_map(Payload::Other),
    ]
}

impl Case {
    /// The addresses that are set for a port, of those of its guest.
    pub fn macs(&self, port: usize) -> std::ops::Range<usize> {
        port * OWN..port * OWN + self.ports[port].set
    }

    /// True if what is set for a port is not learnt at another one. In a VLAN that the port is not in, it is, unless it
    /// is set for every VLAN; and then it would matter which frame comes first.
    fn is_fixed_for(&self, port: usize, other: usize) -> bool {
        let vlan = |port: usize| match self.ports[port].role {
            Role::Unset => Some(1),
            Role::Access(vlan) => Some(vlan),
            Role::Trunk { .. } => None,
        };
        vlan(port).is_none() || vlan(port) == vlan(other)
    }

    /// True if the network has VLANs.
    pub fn is_aware(&self) -> bool {
        self.ports.iter().any(|settings| !matches!(settings.role, Role::Unset))
    }

    /// The addresses that the network has to learn: each with its port, its VLAN, and whether its frames have a tag.
    pub fn learnt(&self) -> Vec<(usize, usize, Option<u16>, bool)> {
        let mut learnt = Vec::new();
        for address in 0..ADDRESSES {
            let port = address / OWN;
            let settings = &self.ports[port];
            if self.macs(port).contains(&address) || (settings.set > 0 && settings.guard) {
                continue;
            }
            match &settings.role {
                Role::Unset => learnt.push((address, port, self.is_aware().then_some(1), false)),
                Role::Access(vlan) => learnt.push((address, port, Some(*vlan), false)),
                Role::Trunk { tagged, native } => {
                    learnt.extend(tagged.iter().map(|vlan| (address, port, Some(*vlan), true)));
                    learnt.extend(native.iter().map(|vlan| (address, port, Some(*vlan), false)));
                }
            }
        }
        learnt
    }
}

/// Address `number` of the case with this number.
pub fn address(case: u16, number: usize) -> MacAddr {
    let [high, low] = case.to_be_bytes();
    MacAddr([0x52, 0x54, high, low, 0, number as u8])
}

/// A frame as it is written: with a virtio-net header of 10 octets.
#[derive(Clone, Debug, Default)]
pub struct Written {
    pub header: [u8; 10],
    pub octets: Vec<u8>,
}

impl Sent {
    fn tags(&self, role: &Role) -> Vec<(u16, u16)> {
        match (&self.tags, role) {
            (Tags::Any(tags), _) => tags.clone(),
            (Tags::Honest(..), Role::Unset | Role::Access(_)) => Vec::new(),
            (Tags::Honest(choice, priority), Role::Trunk { tagged, native }) => match tagged.get(*choice) {
                None if native.is_some() => Vec::new(),
                vlan => vec![(0x8100, priority << 12 | vlan.unwrap_or(&tagged[0]))],
            },
        }
    }

    /// The frame; `number` makes it differ from others.
    pub fn write(&self, case: &Case, of: u16, number: usize) -> Written {
        let source = match self.source {
            Source::Own(own) => address(of, self.port * OWN + own),
            Source::Set(choice) => {
                let is_fixed = |port: &usize| case.is_fixed_for(*port, self.port);
                let set: Vec<_> = (0..PORTS).filter(is_fixed).flat_map(|port| case.macs(port)).collect();
                address(of, set.get(choice % set.len().max(1)).copied().unwrap_or(self.port * OWN))
            }
            // Of its port alone, and nobody sends to it.
            Source::Fresh(choice) => {
                let MacAddr([a, b, c, d, _, _]) = address(of, 0);
                MacAddr([a, b, c, d, 1 + self.port as u8, choice])
            }
            Source::Group => MacAddr([0x53, 0x54, 0, 0, 0, 1]),
            Source::Zero => MacAddr::ZERO,
        };
        let destination = match self.destination {
            Destination::Guest(number) => address(of, number),
            Destination::Unknown => MacAddr([0x52, 0x55, 0, 0, 0, 1]),
            Destination::Group => MacAddr([0x33, 0x33, 0, 0, 0, 1]),
            Destination::Broadcast => MacAddr::BROADCAST,
            Destination::Reserved(last) => MacAddr([0x01, 0x80, 0xc2, 0, 0, last]),
            Destination::Zero => MacAddr::ZERO,
        };
        let mut octets = [destination.0, source.0].concat();
        // The kernel itself drops what is to be cut behind any other tag.
        let is_cut = matches!(self.payload, Payload::Large { .. });
        let mut tags = self.tags(&case.ports[self.port].role);
        if is_cut {
            tags.retain(|(protocol, _)| *protocol == 0x8100);
            tags.truncate(1);
        }
        for (protocol, tci) in &tags {
            octets.extend([protocol.to_be_bytes(), tci.to_be_bytes()].concat());
        }
        // The kernel itself drops a tag without anything behind it.
        let length = match tags.len() {
            0 => self.length,
            tags => self.length.max(18 + 4 * tags),
        };
        let room = length.saturating_sub(octets.len() + 2);
        match self.payload {
            Payload::Ipv4 { words, excess, protocol, fragment } => {
                let total = (room as i32 + excess).clamp(0, 0xffff) as u16;
                octets.extend([8, 0, 0x40 | words, 0]);
                octets.extend(
                    [total.to_be_bytes(), (number as u16).to_be_bytes(), fragment.to_be_bytes()].concat(),
                );
                octets.extend([64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
            }
            Payload::Ipv6 { next, hops, excess } => {
                let rest = (room as i32 - 40 + excess).clamp(0, 0xffff) as u16;
                octets.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
                octets.extend([&rest.to_be_bytes()[..], &[next, hops], &[0xfe; 32], &[135, 0]].concat());
            }
            Payload::Large { v6, udp, segment, octets: count } => {
                return large(octets, [v6, udp], segment, count, number);
            }
            Payload::Arp => {
                octets.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 2]);
                octets.extend(
                    [&source.0[..], &[10, 9, 0, number as u8], &destination.0, &[10, 9, 0, 2]].concat(),
                );
            }
            Payload::Other(ethertype) => octets.extend(ethertype.to_be_bytes()),
        }
        octets.truncate(length);
        let filled = octets.len();
        octets.extend((filled..length).map(|at| (at + number * 7) as u8));
        Written { header: [0; 10], octets }
    }
}

/// A packet that is to be cut, behind the addresses and tags that are there.
fn large(mut octets: Vec<u8>, [v6, udp]: [bool; 2], segment: u16, count: u16, number: usize) -> Written {
    let transport = if udp { 8 } else { 20 };
    let protocol = if udp { 17 } else { 6 };
    let length = transport + count;
    if v6 {
        octets.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        octets.extend([&length.to_be_bytes()[..], &[protocol, 64], &[0xfe; 32]].concat());
    } else {
        octets.extend([8, 0, 0x45, 0]);
        octets.extend([(length + 20).to_be_bytes(), (number as u16).to_be_bytes(), [0x40, 0]].concat());
        octets.extend([64, protocol, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2]);
    }
    let start = octets.len() as u16;
    octets.extend([0x10, 0x01, 0x20, 0x02]);
    if udp {
        octets.extend([&length.to_be_bytes()[..], &[0, 0]].concat());
    } else {
        octets.extend([0, 0, 0, 1, 0, 0, 0, 2, 0x50, 0x10, 1, 0, 0, 0, 0, 0]);
    }
    let headers = octets.len() as u16;
    octets.extend((0..count).map(|at| (usize::from(at) + number * 7) as u8));
    let kind: u8 = match (udp, v6) {
        (true, _) => 5,
        (false, false) => 1,
        (false, true) => 4,
    };
    let numbers = [headers, segment, start, if udp { 6 } else { 16 }];
    let mut header = [0; 10];
    // An open checksum (virtio 1.3 5.1.6).
    header[..2].copy_from_slice(&[1, kind]);
    header[2..].copy_from_slice(&numbers.map(u16::to_le_bytes).concat());
    Written { header, octets }
}
