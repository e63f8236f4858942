use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

use smoltcp::iface::{Config, Interface, PollIngressSingleResult, PollResult, SocketSet};
use smoltcp::time::Instant as StackTime;
use smoltcp::wire::{EthernetAddress, HardwareAddress, IpAddress, IpCidr};
use vmlan_frame::MacAddr;

use crate::device::Device;
use crate::guest::Identity;
use crate::neighbour::solicitation;
use crate::{Error, Ipv4, Ipv6, Lease};

/// Frames received, and rounds of sending, before others get their turn.
pub(crate) const BATCH: usize = 64;
/// First of the dynamic ports (RFC 6335 6).
const FIRST_PORT: u16 = 49_152;
/// Between two solicitations for the same neighbour.
const SOLICIT_AGAIN: Duration = Duration::from_millis(100);

/// How much faster the stack's clock runs than the real one.
///
/// smoltcp waits a second at least before it sends a lost segment again (RFC 6298 2.4), made for the Internet; here
/// round trips take microseconds, and a segment that a full queue dropped would stop a transfer for longer than the
/// transfer lasts. Ten times faster it waits 100 ms, half of what Linux does. The other times shrink alike:
/// a delayed acknowledgement waits 1 ms, TIME-WAIT lasts 1 s, a silent neighbour is forgotten after 6 s.
pub(crate) const CLOCK_RATE: u32 = 10;

/// One guest's smoltcp interface with its sockets, and what its operations share.
pub(crate) struct Stack {
    pub(crate) name: String,
    pub(crate) interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    pub(crate) device: Device,
    /// How long operations wait without progress.
    pub(crate) timeout: Duration,
    /// Servers of DNS that a lease named.
    pub(crate) servers: Vec<IpAddress>,
    /// The router that a lease named.
    router: Option<Ipv4Addr>,
    mac: MacAddr,
    epoch: Instant,
    port: u16,
    ident: u16,
}

impl Stack {
    pub(crate) fn new(identity: &Identity, timeout: Duration, mut device: Device) -> Stack {
        let mac = identity.mac;
        let seed = RandomState::new().hash_one(mac.0);
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac.0)));
        config.random_seed = seed;
        let mut interface = Interface::new(config, &mut device, StackTime::ZERO);
        interface.update_ip_addrs(|addresses| {
            for address in addresses_of(identity) {
                addresses.push(address).expect("iface-max-addr-count is three");
            }
        });
        Stack {
            name: identity.name.clone(),
            interface,
            sockets: SocketSet::new(Vec::new()),
            device,
            timeout,
            servers: Vec::new(),
            router: None,
            mac,
            epoch: Instant::now(),
            // A guest that is started again must not meet the connections of its former self.
            port: FIRST_PORT + (seed as u16 & 0x3fff),
            ident: (seed >> 16) as u16,
        }
    }

    /// Receives a batch; true when there was anything.
    pub(crate) fn receive(&mut self) -> bool {
        let now = self.now();
        let mut received = 0;
        while received < BATCH
            && self.interface.poll_ingress_single(now, &mut self.device, &mut self.sockets)
                != PollIngressSingleResult::None
        {
            received += 1;
        }
        received > 0
    }

    /// Sends a batch; true when there was anything.
    pub(crate) fn transmit(&mut self) -> bool {
        let now = self.now();
        let mut rounds = 0;
        while rounds < BATCH
            && self.interface.poll_egress(now, &mut self.device, &mut self.sockets) != PollResult::None
        {
            rounds += 1;
        }
        self.device.flush();
        rounds > 0
    }

    /// When the stack has something to do by itself. Nothing, while frames wait for the medium.
    pub(crate) fn wake_at(&mut self) -> Option<Instant> {
        if self.device.is_blocked() {
            return None;
        }
        let now = self.now();
        let delay: Duration = self.interface.poll_delay(now, &self.sockets)?.into();
        Some(Instant::now() + delay / CLOCK_RATE)
    }

    /// The time on the stack's clock.
    fn now(&self) -> StackTime {
        StackTime::from_micros((self.epoch.elapsed() * CLOCK_RATE).as_micros() as i64)
    }

    /// A local port for the next connection.
    pub(crate) fn next_port(&mut self) -> u16 {
        self.port = self.port.checked_add(1).unwrap_or(FIRST_PORT);
        self.port
    }

    /// An ICMP echo identifier.
    pub(crate) fn next_ident(&mut self) -> u16 {
        self.ident = self.ident.wrapping_add(1);
        self.ident
    }

    /// The guest's address that talks to `target`.
    ///
    /// # Errors
    /// [`Error::Unreachable`] when `target` is in none of the guest's prefixes.
    fn source_for(&self, target: IpAddr) -> Result<IpAddr, Error> {
        let wanted = IpAddress::from(target);
        let addresses = self.interface.ip_addrs();
        let source = addresses.iter().find(|own| own.contains_addr(&wanted));
        source
            .map(|own| own.address().into())
            .ok_or_else(|| Error::Unreachable { guest: self.name.clone(), address: target })
    }

    /// The guest's address that talks to `target`, and the neighbour that leads there: `target` itself or the router.
    ///
    /// # Errors
    /// [`Error::Unreachable`].
    fn way_to(&self, target: IpAddr) -> Result<(IpAddr, IpAddr), Error> {
        match (self.source_for(target), target, self.router) {
            (Ok(source), ..) => Ok((source, target)),
            (Err(_), IpAddr::V4(_), Some(router)) => Ok((self.source_for(router.into())?, router.into())),
            (Err(error), ..) => Err(error),
        }
    }

    /// Takes the addresses of a lease, or gives them back.
    pub(crate) fn set_lease(&mut self, lease: Option<&Lease>) {
        self.interface.update_ip_addrs(|addresses| {
            // A guest with a lease has no other IPv4 address.
            addresses.retain(|address| matches!(address, IpCidr::Ipv6(_)));
            if let Some(lease) = lease {
                let address = IpCidr::new(lease.address.into(), lease.prefix);
                addresses.insert(0, address).expect("iface-max-addr-count is three");
            }
        });
        self.router = lease.and_then(|lease| lease.router);
        let routes = self.interface.routes_mut();
        match self.router {
            Some(router) => drop(routes.add_default_ipv4_route(router).expect("there is room for one route")),
            None => drop(routes.remove_default_ipv4_route()),
        }
        let servers = lease.map_or(&[][..], |lease| &lease.servers);
        self.servers = servers.iter().map(|&server| server.into()).collect();
    }

    pub(crate) fn timed_out(&self, operation: String) -> Error {
        Error::Timeout { guest: self.name.clone(), operation, waited: self.timeout }
    }
}

fn addresses_of(identity: &Identity) -> impl Iterator<Item = IpCidr> {
    let v4 = identity.ipv4.map(|Ipv4 { address, prefix }| IpCidr::new(address.into(), prefix));
    let v6 = identity.ipv6.map(|Ipv6 { address, prefix }| IpCidr::new(address.into(), prefix));
    let link_local = v6.map(|_| IpCidr::new(link_local(identity.mac).into(), 64));
    [v4, v6, link_local].into_iter().flatten()
}

/// The link-local address of the modified EUI-64 of `mac` (RFC 4291 2.5.6 and appendix A).
fn link_local(mac: MacAddr) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac.0;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f])
}

/// Asks for the neighbour that leads to an address until it answers.
#[derive(Debug)]
pub(crate) struct Resolver {
    source: IpAddr,
    target: IpAddr,
    again: Option<Instant>,
}

impl Resolver {
    /// # Errors
    /// [`Error::Unreachable`].
    pub(crate) fn new(stack: &Stack, target: IpAddr) -> Result<Resolver, Error> {
        let (source, target) = stack.way_to(target)?;
        Ok(Resolver { source, target, again: None })
    }

    /// True once the neighbour answered; call again at [`Resolver::wake_at`] and when a frame arrived.
    pub(crate) fn poll(&mut self, stack: &mut Stack, now: Instant) -> bool {
        if self.source == self.target || stack.device.neighbours.expect(self.target) {
            return true;
        }
        if self.again.is_none_or(|again| again <= now) {
            self.again = Some(now + SOLICIT_AGAIN);
            if let Some(frame) = solicitation(stack.mac, self.source, self.target) {
                stack.device.send(frame);
            }
        }
        false
    }

    /// When the neighbour is asked again.
    pub(crate) fn wake_at(&self) -> Option<Instant> {
        self.again
    }
}
