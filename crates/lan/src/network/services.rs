//! The services of a network as control sees them.

use std::net::IpAddr;
use std::sync::Arc;

use super::{Common, Control, Network};
use crate::guard::Stages;
use crate::guard::services::Services;
use crate::{PortError, PortId, PortPolicy};

/// The services that one port of a network has for the others, which no other guest may offer in its place.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServiceGuard {
    /// The port that has them. The guard holds in the VLANs of that port.
    pub port: PortId,
    /// Its IP addresses, which no other guest may claim.
    pub addresses: Vec<IpAddr>,
    /// True if it serves DHCP. Without, guests whose role it is may do so ([`Roles::dhcp`](crate::Roles::dhcp)).
    pub dhcp: bool,
}

impl Network {
    /// Says which services the network has, in the place of those said before. What other guests send as a DHCP server
    /// or router, and their claims of the services' addresses, are dropped as
    /// [`DropReason::ServiceGuard`](vmlan_frame::DropReason::ServiceGuard). The trunk is no guest: its sides may speak
    /// for others. The guard ends when its port is removed.
    ///
    /// # Errors
    /// When the port is gone.
    pub fn set_services(&self, services: Option<ServiceGuard>) -> Result<(), PortError> {
        let mut control = self.control.lock();
        if let Some(services) = &services {
            control.member(services.port)?;
        }
        if control.services != services {
            control.services = services;
            self.publish(&mut control);
        }
        Ok(())
    }
}

impl Control {
    /// The services for the data path.
    pub(super) fn served(&self) -> Option<Services> {
        let services = self.services.as_ref()?;
        let port = Arc::clone(&self.member(services.port).ok()?.port);
        Some(Services { port, addresses: services.addresses.clone().into() })
    }
}

impl Common {
    /// The stages of one port: a trunk has none, and what has the services is not guarded from itself.
    pub(super) fn stages(self, id: PortId, policy: &PortPolicy, is_trunk: bool) -> Stages {
        match self.services {
            _ if is_trunk => Stages::NONE,
            Some((port, dhcp)) if port != id => {
                let may_serve = policy.roles.dhcp && !dhcp;
                self.stages.with(if may_serve { Stages::SERVICES } else { Stages::DHCP })
            }
            _ => self.stages,
        }
    }
}
