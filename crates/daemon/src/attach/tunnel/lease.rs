//! Which client has which addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use drivers::tunnel::message::{Prefixed, Refusal};

use crate::config::TunnelAddresses;

/// The addresses of one control socket, and which of them are in use.
pub(super) struct Leases {
    offer: TunnelAddresses,
    taken: Mutex<Taken>,
}

#[derive(Default)]
struct Taken {
    clients: usize,
    addresses: BTreeSet<IpAddr>,
}

/// The addresses of one client, given back when dropped.
pub(super) struct Lease {
    leases: Arc<Leases>,
    pub(super) addresses: Vec<Prefixed>,
}

impl Leases {
    pub(super) fn new(offer: TunnelAddresses) -> Arc<Leases> {
        Arc::new(Leases { offer, taken: Mutex::default() })
    }

    /// Takes addresses for one client more.
    ///
    /// # Errors
    /// `EBUSY` when the one client is there; `ENOBUFS` when all are; `EADDRNOTAVAIL` for an address that is not the
    /// client's to have, or not to choose; `EADDRINUSE`; `EINVAL` without any where they are chosen.
    pub(super) fn take(self: &Arc<Self>, wanted: &[Prefixed]) -> Result<Lease, Refusal> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let addresses = match &self.offer {
            TunnelAddresses::Fixed(_) if taken.clients > 0 => return Err(Refusal::Busy),
            TunnelAddresses::Fixed(own) if wanted.iter().all(|wanted| own.contains(wanted)) => own.clone(),
            TunnelAddresses::Fixed(_) => return Err(Refusal::AddressNotAllowed),
            TunnelAddresses::Chosen { clients, .. } if taken.clients >= *clients => {
                return Err(Refusal::NoRoom);
            }
            TunnelAddresses::Chosen { allowed, .. } => {
                chosen(wanted, allowed, &taken.addresses)?;
                wanted.to_vec()
            }
        };
        taken.clients += 1;
        taken.addresses.extend(addresses.iter().map(|prefixed| prefixed.address));
        Ok(Lease { leases: self.clone(), addresses })
    }
}

fn chosen(wanted: &[Prefixed], allowed: &[Prefixed], taken: &BTreeSet<IpAddr>) -> Result<(), Refusal> {
    if wanted.is_empty() {
        return Err(Refusal::Invalid);
    }
    for (index, Prefixed { address, .. }) in wanted.iter().enumerate() {
        if !allowed.iter().any(|network| network.contains(*address)) {
            return Err(Refusal::AddressNotAllowed);
        }
        if taken.contains(address) || wanted[..index].iter().any(|other| other.address == *address) {
            return Err(Refusal::AddressInUse);
        }
    }
    Ok(())
}

impl Drop for Lease {
    fn drop(&mut self) {
        let mut taken = self.leases.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.clients -= 1;
        for Prefixed { address, .. } in &self.addresses {
            taken.addresses.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(texts: &[&str]) -> Vec<Prefixed> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    #[test]
    fn one_client_has_the_ports_addresses() {
        let leases = Leases::new(TunnelAddresses::Fixed(list(&["10.0.0.9/24", "fd00::9/64"])));
        assert_eq!(leases.take(&list(&["10.0.0.8/24"])).err(), Some(Refusal::AddressNotAllowed));
        let first = leases.take(&[]).expect("free");
        assert_eq!(first.addresses, list(&["10.0.0.9/24", "fd00::9/64"]));
        assert_eq!(leases.take(&[]).err(), Some(Refusal::Busy));
        drop(first);
        assert!(leases.take(&list(&["10.0.0.9/24"])).is_ok());
    }

    #[test]
    fn clients_choose_within_what_is_allowed() {
        let allowed = list(&["10.0.0.128/25", "fd00::/64"]);
        let leases = Leases::new(TunnelAddresses::Chosen { allowed, clients: 2 });
        let refused = |texts: &[&str]| leases.take(&list(texts)).err();
        assert_eq!(refused(&[]), Some(Refusal::Invalid));
        assert_eq!(refused(&["10.0.0.127/24"]), Some(Refusal::AddressNotAllowed));
        assert_eq!(refused(&["10.0.0.130/24", "10.0.0.130/25"]), Some(Refusal::AddressInUse));
        let first = leases.take(&list(&["10.0.0.130/24", "fd00::1/64"])).expect("free");
        assert_eq!(refused(&["fd00::1/64"]), Some(Refusal::AddressInUse));
        let _second = leases.take(&list(&["10.0.0.131/24"])).expect("free");
        assert_eq!(refused(&["10.0.0.132/24"]), Some(Refusal::NoRoom));
        drop(first);
        assert_eq!(refused(&["10.0.0.130/24"]), None);
    }
}
