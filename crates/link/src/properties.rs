//! The properties of a link, and the changes to them: the record's fields as calls on the handle.

use core::net::IpAddr;
use core::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::SystemTime;

use crate::chain::CLASSIFIED;
use crate::gate::Phase;
use crate::link::Settings;
use crate::{Error, EventCode, Flags, Kind, Link, LinkAddress, LinkFamily, Mtu, Name};
use vmlan_frame::{Counters, Takes};

impl Link {
    /// How many addresses of protocols a link has at most.
    pub const MAX_ADDRESSES: usize = 256;

    /// The name; its unit is chosen at attach when none was asked for.
    pub fn name(&self) -> Name {
        self.record().settings().name
    }

    /// The index; `None` until the first attach.
    pub fn index(&self) -> Option<u32> {
        self.record().index()
    }

    /// The family.
    pub fn family(&self) -> LinkFamily {
        self.record().family
    }

    /// The kind of medium.
    pub fn kind(&self) -> Kind {
        self.record().settings().kind
    }

    /// Returns the id that makes a link that comes back the same link.
    pub fn unique_id(&self) -> Option<&[u8]> {
        self.record().unique_id.as_deref()
    }

    /// True if the record was used before, by a link with the same unique id.
    pub fn is_recycled(&self) -> bool {
        self.record().settings().recycled
    }

    /// True if the link is attached and not being detached.
    #[inline]
    pub fn is_attached(&self) -> bool {
        self.record().gate.phase() == Phase::Open
    }

    /// True if a detach has begun and not ended.
    pub fn is_detaching(&self) -> bool {
        self.record().gate.phase() == Phase::Closing
    }

    /// How many I/O references are out, callbacks of hooks included.
    pub fn references(&self) -> u64 {
        self.record().gate.inside()
    }

    /// The counters.
    #[inline]
    pub fn counters(&self) -> &Arc<Counters> {
        &self.record().counters
    }

    /// Wall clock of the last attach, detach, address or state change.
    pub fn last_change(&self) -> Option<SystemTime> {
        self.record().settings().last_change
    }

    /// The MTU, without the link header.
    #[inline]
    pub fn mtu(&self) -> Mtu {
        Mtu::new(self.record().mtu.load(Relaxed)).expect("only valid values are stored")
    }

    /// Changes the MTU.
    pub fn set_mtu(&self, mtu: Mtu) {
        self.change_quietly(|_| {
            let before = self.record().mtu.swap(mtu.get(), Relaxed);
            (before != mtu.get()).then_some(EventCode::MtuChanged(mtu))
        });
    }

    /// Octets of the link header.
    pub fn header_len(&self) -> u16 {
        self.record().settings().header_len
    }

    /// Bits a second; 0 when it means nothing.
    pub fn baud_rate(&self) -> u64 {
        self.record().settings().baud_rate
    }

    /// Changes the baud rate, when the medium came up at another one.
    pub fn set_baud_rate(&self, baud_rate: u64) {
        self.record().settings().baud_rate = baud_rate;
    }

    /// Offload requests that the driver takes as they are.
    #[inline]
    pub fn capabilities(&self) -> Takes {
        self.record().capabilities()
    }

    /// Changes that. With [`Takes::ALL`] the driver, or what stands before it, translates whatever its medium lacks.
    pub fn set_capabilities(&self, capabilities: Takes) {
        self.record().capabilities.store(capabilities.bits(), Relaxed);
    }

    /// True if received frames get their traffic class.
    pub fn classifies(&self) -> bool {
        self.record().settings().classifies
    }

    /// Has [`Link::input`] give every received frame that the driver left at best effort the class that it asks for
    /// ([`TrafficClass::of`](vmlan_frame::TrafficClass::of) says which), before it is counted and before anybody sees
    /// it.
    ///
    /// It is off at first, because it reads each frame, and a network forwards without it. Turn it on for links whose
    /// classes are counted, or on whose frames somebody decides by class.
    pub fn set_classifies(&self, on: bool) {
        let mut settings = self.record().settings();
        settings.classifies = on;
        self.record().gate.set_flags(CLASSIFIED, if on { CLASSIFIED } else { 0 });
    }

    /// The link address.
    pub fn address(&self) -> Option<LinkAddress> {
        self.record().settings().address
    }

    /// Changes the link address.
    ///
    /// # Errors
    /// `EINVAL` when it has another length than the first one.
    pub fn set_address(&self, address: LinkAddress) -> Result<(), Error> {
        self.change_settings(|settings| {
            if settings.address == Some(address) {
                return Ok(None);
            }
            settings.set_address(Some(address))?;
            self.record().set_plan_address(address);
            self.touch(settings);
            Ok(Some(EventCode::LinkAddressChanged))
        })
    }

    /// The flags.
    pub fn flags(&self) -> Flags {
        self.record().settings().flags
    }

    /// Changes the flags.
    pub fn set_flags(&self, flags: Flags) {
        self.change_quietly(|settings| {
            if settings.flags == flags {
                return None;
            }
            settings.flags = flags;
            self.touch(settings);
            Some(EventCode::FlagsChanged)
        });
    }

    /// True if the medium is there.
    pub fn carrier(&self) -> bool {
        self.record().settings().carrier
    }

    /// Says whether the medium is there; true at first.
    pub fn set_carrier(&self, carrier: bool) {
        self.change_quietly(|settings| {
            if settings.carrier == carrier {
                return None;
            }
            settings.carrier = carrier;
            self.touch(settings);
            Some(if carrier { EventCode::LinkOn } else { EventCode::LinkOff })
        });
    }

    /// Tells filters, protocols and subscribers something that the driver knows, when the link is attached.
    pub fn post_driver_event(&self, number: u32) {
        self.change_quietly(|_| Some(EventCode::Driver(number)));
    }

    /// As [`Link::change_settings`], for a change that cannot fail.
    fn change_quietly(&self, change: impl FnOnce(&mut Settings) -> Option<EventCode>) {
        self.change_settings(|settings| Ok(change(settings))).expect("the change does not fail");
    }

    /// The addresses of protocols on this link, in the order in which they were added.
    pub fn addresses(&self) -> Vec<IpAddr> {
        self.record().settings().addresses.clone()
    }

    /// Adds an address of a protocol.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `EEXIST` when the address is there, `ENOBUFS` beyond
    /// [`Link::MAX_ADDRESSES`].
    pub fn add_address(&self, address: IpAddr) -> Result<(), Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        self.change_settings(|settings| {
            if settings.addresses.contains(&address) {
                return Err(Error::AlreadyExists);
            }
            if settings.addresses.len() >= Link::MAX_ADDRESSES {
                return Err(Error::NoBuffers);
            }
            settings.addresses.push(address);
            self.touch(settings);
            Ok(Some(EventCode::AddressAdded(address)))
        })
    }

    /// Removes an address of a protocol.
    ///
    /// # Errors
    /// `ENXIO` when the link is not attached, `EINVAL` when the address is not there.
    pub fn remove_address(&self, address: IpAddr) -> Result<(), Error> {
        let _inside = self.io_ref().ok_or(Error::NotAttached)?;
        self.change_settings(|settings| {
            let at = settings.addresses.iter().position(|other| *other == address);
            settings.addresses.remove(at.ok_or(Error::InvalidArgument)?);
            self.touch(settings);
            Ok(Some(EventCode::AddressRemoved(address)))
        })
    }
}
