//! The host by proxy: between packets and Ethernet frames stands a link address that vmlan answers for.

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, MutexGuard};

use vmlan_frame::{ETHERNET_HEADER, Frame, Instant, MacAddr, Mutex};
use vmlan_link::resolver::{self, Event, Resolver, Statistics};

use super::message::Prefixed;
use super::record::Family;

/// The settings that a proxy is made with.
#[derive(Clone, Debug)]
pub struct Host {
    /// Its link address.
    pub mac: MacAddr,
    /// The addresses that it answers for, and no others.
    pub addresses: Vec<Prefixed>,
    /// The next hops of packets that leave the networks of the addresses, one a family.
    pub gateways: Vec<IpAddr>,
    /// Where the random parts of times start.
    pub seed: u64,
}

/// A host's resolver, shared by the queues of all workers. It is locked once for a batch, and on the way to the client
/// only when there is something in the batch for it; with one worker nobody ever waits for it.
#[derive(Clone)]
pub(super) struct Proxy {
    pub(super) mac: MacAddr,
    resolver: Arc<Mutex<Resolver>>,
    /// Packets given up that are counted already.
    counted: Arc<AtomicU64>,
    /// Its first address of each family, and the next hop beyond its networks.
    addresses: [Option<IpAddr>; 2],
    gateways: [Option<IpAddr>; 2],
}

impl Proxy {
    /// The addresses are announced and in use at once: they were configured, and whoever else has one is told so.
    pub(super) fn new(host: &Host, now: Instant) -> Result<Proxy, vmlan_link::Error> {
        let options =
            resolver::Options { detect_duplicates: false, seed: host.seed, ..resolver::Options::default() };
        let mut resolver = Resolver::new(host.mac, options);
        for Prefixed { address, prefix } in &host.addresses {
            resolver.add_address(*address, *prefix, now)?;
        }
        host.gateways.iter().for_each(|gateway| resolver.set_gateway(*gateway));
        let first = |addresses: &mut dyn Iterator<Item = IpAddr>| {
            let mut firsts = [None; 2];
            addresses.for_each(|address| {
                firsts[usize::from(address.is_ipv6())].get_or_insert(address);
            });
            firsts
        };
        Ok(Proxy {
            mac: host.mac,
            resolver: Arc::new(Mutex::new(resolver)),
            counted: Arc::default(),
            addresses: first(&mut host.addresses.iter().map(|of| of.address)),
            gateways: first(&mut host.gateways.iter().copied()),
        })
    }

    /// The Ethernet header of a packet from it to `to`.
    pub(super) fn header(&self, to: MacAddr, family: Family) -> [u8; ETHERNET_HEADER] {
        let mut header = [0; ETHERNET_HEADER];
        header[..6].copy_from_slice(&to.0);
        header[6..12].copy_from_slice(&self.mac.0);
        header[12..].copy_from_slice(&family.ethertype().to_be_bytes());
        header
    }

    /// The address from which it speaks itself.
    pub(super) fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses[usize::from(family == Family::V6)]
    }

    /// The next hop of packets that leave its networks.
    pub(super) fn gateway(&self, family: Family) -> Option<IpAddr> {
        self.gateways[usize::from(family == Family::V6)]
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Resolver> {
        self.resolver.lock()
    }

    /// Packets that waited for a next hop and were given up, for any reason, since the last call.
    pub(super) fn newly_given_up(&self, statistics: &Statistics) -> u64 {
        let Statistics { unanswered, replaced, displaced, no_buffer, .. } = statistics;
        let all = unanswered + replaced + displaced + no_buffer;
        all.saturating_sub(self.counted.fetch_max(all, Relaxed))
    }

    /// The addresses that somebody else was heard to use since the last call.
    pub(super) fn conflicts(&self) -> Vec<(IpAddr, MacAddr)> {
        let mut resolver = self.lock();
        let events = std::iter::from_fn(|| resolver.poll_event());
        let conflict = |event| match event {
            Event::Conflict { address, with, .. } => Some((address, with)),
            Event::Assigned(_) => None,
        };
        events.filter_map(conflict).collect()
    }
}

/// The proxy's classes of frames from the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Kind {
    /// It may be a message for the resolver, else a packet of this family if it is one.
    Message(Option<Family>),
    /// A packet for the client.
    Packet(Family),
    /// Nothing for a tunnel.
    Foreign,
}

impl Proxy {
    pub(super) fn kind(&self, frame: &Frame) -> Kind {
        /// Next headers (IANA protocol numbers) that neighbour discovery does not begin with.
        const TCP: u8 = 6;
        const UDP: u8 = 17;
        let octets = frame.octets();
        let (Some(destination), Some(ethertype), None) =
            (frame.destination(), frame.ethertype(), frame.meta.tag)
        else {
            return Kind::Foreign;
        };
        if destination != self.mac && !destination.is_multicast() {
            return Kind::Foreign;
        }
        match Family::from_ethertype(ethertype) {
            None if ethertype == vmlan_frame::wire::EtherType::ARP.0 => Kind::Message(None),
            None => Kind::Foreign,
            Some(Family::V4) => Kind::Packet(Family::V4),
            Some(Family::V6) => match octets.get(ETHERNET_HEADER + 6) {
                Some(&(TCP | UDP)) => Kind::Packet(Family::V6),
                _ => Kind::Message(Some(Family::V6)),
            },
        }
    }
}
