//! A tunnel on the link layer: the interface that a client has for as long as it is connected.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed};

use vmlan_frame::{Account, Batch, Context, DropReason};
use vmlan_link::{
    Address, BridgeGuard, Driver, Error, FamilyHeader, Link, LinkOptions, Media, Mtu, Name, PreOutput,
    Protocol, ProtocolFamily, ProtocolOptions, Registry, Transmit,
};

use super::record::HEADER;

/// Base of the names: unit 1 is `tunnel0`.
const NAME: &str = "tunnel";

/// The families that a tunnel carries.
const FAMILIES: [ProtocolFamily; 2] = [ProtocolFamily::INET, ProtocolFamily::INET6];

/// The settings that a tunnel is made with.
#[derive(Clone, Debug)]
pub struct Options {
    /// The unit; the lowest free one without.
    pub unit: Option<NonZeroU32>,
    /// Octets of the largest packet.
    pub mtu: Mtu,
    /// The addresses that are used through it.
    pub addresses: Vec<IpAddr>,
    /// Records that may wait for the client.
    pub max_pending: NonZeroU32,
}

/// A tunnel: a point-to-point link without link address, which carries IPv4 and IPv6 and is up.
///
/// A client's changes of its settings are made here, from any thread; the data path reads the settings once a batch.
pub struct Interface {
    link: Link,
    account: Account,
    /// The neighbour proxy takes what the link's filters let go on.
    _bridge: BridgeGuard,
    flags: AtomicU32,
    max_pending: AtomicU32,
    own_counts: AtomicBool,
    /// The counts that the client added itself, in the order of [`Statistics`].
    added: [AtomicU64; 6],
}

/// Packets, octets with the record's header, and errors; from the client, then to it.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Statistics {
    /// Records that came from the client, also those that were dropped afterwards.
    pub packets_in: u64,
    /// Their octets.
    pub octets_in: u64,
    /// Records that were none, or could not be taken.
    pub errors_in: u64,
    /// Records sent to the client.
    pub packets_out: u64,
    /// Their octets.
    pub octets_out: u64,
    /// Packets that could not be sent.
    pub errors_out: u64,
}

impl Statistics {
    /// The members in order.
    pub const fn to_array(self) -> [u64; 6] {
        [self.packets_in, self.octets_in, self.errors_in, self.packets_out, self.octets_out, self.errors_out]
    }

    /// From the members in order.
    pub const fn from_array(counts: [u64; 6]) -> Statistics {
        let [packets_in, octets_in, errors_in, packets_out, octets_out, errors_out] = counts;
        Statistics { packets_in, octets_in, errors_in, packets_out, octets_out, errors_out }
    }
}

/// The medium's side of the link.
struct Below;

impl Driver for Below {
    fn media(&self) -> Option<Arc<dyn Media>> {
        Some(Arc::new(FamilyHeader::TUNNEL))
    }
}

/// IPv4 or IPv6 on the link. Packets that come go to the neighbour proxy behind the link.
pub(super) struct Carried;

impl Protocol for Carried {
    fn input(&self, _: &Context<'_>, _: &mut Batch) -> Result<(), Error> {
        Ok(())
    }

    fn pre_output(
        &self,
        _: &Context<'_>,
        _: &mut vmlan_frame::Frame,
        _: &Address,
    ) -> Result<PreOutput, Error> {
        Ok(PreOutput::Send { frame_type: 0, destination: None })
    }
}

impl Interface {
    /// Taps see what is sent, and then it is dropped, with success.
    pub const NO_OUTPUT: u32 = 1 << 0;
    /// Taps see what comes, and then it is dropped, with success.
    pub const NO_INPUT: u32 = 1 << 1;
    /// The least MTU with IPv6 (RFC 8200 5).
    pub const MIN_MTU_IPV6: u32 = 1280;

    /// Makes the link, attaches it with both protocols and the addresses, and brings it up.
    ///
    /// # Errors
    /// `EBUSY` when the unit is taken, `EINVAL` for an MTU below 1280 with IPv6 addresses, and what attaching says.
    pub fn create(registry: &Registry, options: Options) -> Result<Arc<Interface>, Error> {
        check_mtu(options.mtu, options.addresses.iter().any(IpAddr::is_ipv6))?;
        let name = Name::new(NAME, options.unit.map(|unit| unit.get() - 1)).expect("a good name");
        let link = registry.acquire(LinkOptions {
            name,
            mtu: options.mtu,
            classifies: true,
            ..LinkOptions::tunnel(NAME).expect("a good name")
        })?;
        link.attach(Arc::new(Below), None).map_err(|error| match error {
            Error::AlreadyExists => Error::Busy,
            error => error,
        })?;
        match Interface::prepare(&link, &options.addresses) {
            Ok(bridge) => Ok(Arc::new(Interface {
                account: link.account(),
                link,
                _bridge: bridge,
                flags: AtomicU32::new(0),
                max_pending: AtomicU32::new(options.max_pending.get()),
                own_counts: AtomicBool::new(false),
                added: Default::default(),
            })),
            Err(error) => {
                close(&link);
                Err(error)
            }
        }
    }

    fn prepare(link: &Link, addresses: &[IpAddr]) -> Result<BridgeGuard, Error> {
        for family in FAMILIES {
            link.attach_protocol(ProtocolOptions { family, promiscuous: false }, Arc::new(Carried))?;
        }
        addresses.iter().try_for_each(|address| link.add_address(*address))?;
        link.set_flags(vmlan_link::Flags { up: true, promiscuous: false });
        link.attach_bridge()
    }

    /// The link.
    pub fn link(&self) -> &Link {
        &self.link
    }

    /// The unit, from 1 on.
    pub fn unit(&self) -> u32 {
        self.link.name().unit().map_or(0, |unit| unit + 1)
    }

    /// [`Interface::NO_OUTPUT`] and [`Interface::NO_INPUT`].
    pub fn flags(&self) -> u32 {
        self.flags.load(Relaxed)
    }

    /// Changes the flags.
    ///
    /// # Errors
    /// `EINVAL` for others.
    pub fn set_flags(&self, flags: u32) -> Result<(), Error> {
        if flags & !(Interface::NO_OUTPUT | Interface::NO_INPUT) != 0 {
            return Err(Error::InvalidArgument);
        }
        self.flags.store(flags, Relaxed);
        Ok(())
    }

    /// Records that may wait for the client beyond what its socket holds.
    pub fn max_pending(&self) -> u32 {
        self.max_pending.load(Relaxed)
    }

    /// Changes how many records may wait. No more than the port's queue ever do.
    ///
    /// # Errors
    /// `EINVAL` for 0.
    pub fn set_max_pending(&self, records: u32) -> Result<(), Error> {
        let records = NonZeroU32::new(records).ok_or(Error::InvalidArgument)?;
        self.max_pending.store(records.get(), Relaxed);
        Ok(())
    }

    /// Changes the MTU.
    ///
    /// # Errors
    /// `EINVAL` below 68, below 1280 with IPv6 addresses, and beyond 65535.
    pub fn set_mtu(&self, octets: u32) -> Result<(), Error> {
        let mtu = Mtu::new(octets).map_err(|_| Error::InvalidArgument)?;
        check_mtu(mtu, self.link.addresses().iter().any(IpAddr::is_ipv6))?;
        self.link.set_mtu(mtu);
        Ok(())
    }

    /// True if the client adds counts of its own.
    pub fn own_counts(&self) -> bool {
        self.own_counts.load(Relaxed)
    }

    /// Lets the client add counts of its own, or not.
    pub fn set_own_counts(&self, on: bool) {
        self.own_counts.store(on, Relaxed);
    }

    /// Adds what the client counted.
    ///
    /// # Errors
    /// `EPERM` unless [`Interface::set_own_counts`] lets it.
    pub fn add_counts(&self, counts: Statistics) -> Result<(), Error> {
        if !self.own_counts() {
            return Err(Error::NotPermitted);
        }
        for (sum, count) in self.added.iter().zip(counts.to_array()) {
            // It stays where it is rather than begin again.
            let add = |old: u64| Some(old.saturating_add(count));
            let _ = sum.fetch_update(Relaxed, Relaxed, add);
        }
        Ok(())
    }

    /// Returns the sums of the link's counters and the counts that the client added.
    pub fn statistics(&self) -> Statistics {
        let counted = self.link.counters().snapshot();
        let mut sum = [
            counted.rx_frames,
            counted.rx_octets,
            counted.rx_errors,
            counted.tx_frames,
            counted.tx_octets,
            counted.tx_errors,
        ];
        for (sum, added) in sum.iter_mut().zip(&self.added) {
            *sum = sum.saturating_add(added.load(Relaxed));
        }
        Statistics::from_array(sum)
    }

    /// The client's records on their way in: taps, the no-input flag, the link's input. `records` are checked, and hold
    /// on return what goes on.
    pub fn input(&self, cx: &Context<'_>, records: &mut Batch) {
        self.link.input(cx, records);
        if self.flags() & Interface::NO_INPUT != 0 {
            self.account.lose_all(cx, records, DropReason::InputFilter);
        }
    }

    /// Takes packets beyond the MTU out of `records`, and counts them as errors and drops.
    ///
    /// # Errors
    /// `EMSGSIZE` when there was one; the others stay.
    pub fn refuse_oversize(&self, cx: &Context<'_>, records: &mut Batch) -> Result<(), Error> {
        let longest = self.link.mtu().get() as usize + HEADER;
        let before = records.len();
        if records.iter().all(|record| record.len() <= longest) {
            return Ok(());
        }
        records.retain(|record| {
            let fits = record.len() <= longest;
            if !fits {
                self.account.lose(cx, record, DropReason::TooLong);
            }
            fits
        });
        let refused = (before - records.len()) as u64;
        self.link.counters().tx_errors(cx.worker, refused);
        Err(Error::MessageSize)
    }

    /// Records on their way to the client: the MTU, the link's output, taps, the no-output flag, `client`. `records` is
    /// empty on return.
    ///
    /// # Errors
    /// The last of the link's, or `EMSGSIZE` for packets beyond the MTU; the others were sent all the same.
    pub fn output(
        &self,
        cx: &Context<'_>,
        records: &mut Batch,
        client: &mut dyn Transmit,
    ) -> Result<(), Error> {
        let refused = self.refuse_oversize(cx, records);
        let quiet = self.flags() & Interface::NO_OUTPUT != 0;
        let sent = match quiet {
            false => self.link.output(cx, records, client),
            true => self.link.output(cx, records, &mut Nobody { interface: self, cx }),
        };
        sent.and(refused)
    }

    /// Ends the tunnel in order: addresses and protocol of each family, then the link. Whatever is left of it is told
    /// that it is not attached.
    pub fn close(&self) {
        close(&self.link);
    }
}

impl Drop for Interface {
    fn drop(&mut self) {
        self.close();
    }
}

fn close(link: &Link) {
    for family in FAMILIES {
        let of_family = |address: &IpAddr| address.is_ipv6() == (family == ProtocolFamily::INET6);
        for address in link.addresses().into_iter().filter(of_family) {
            // An error: the link is detached already, which purges them.
            let _ = link.remove_address(address);
        }
        let _ = link.detach_protocol(family);
    }
    let _ = link.detach();
}

fn check_mtu(mtu: Mtu, ipv6: bool) -> Result<(), Error> {
    match ipv6 && mtu.get() < Interface::MIN_MTU_IPV6 {
        true => Err(Error::InvalidArgument),
        false => Ok(()),
    }
}

/// Where records go under the no-output flag.
struct Nobody<'a, 'b> {
    interface: &'a Interface,
    cx: &'a Context<'b>,
}

impl Transmit for Nobody<'_, '_> {
    fn transmit(&mut self, batch: &mut Batch) {
        self.interface.account.lose_all(self.cx, batch, DropReason::OutputFilter);
    }
}
