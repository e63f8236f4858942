//! Which client has which addresses.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use vmlan_drivers::tunnel::message::{Prefixed, Refusal};
use vmlan_frame::Mutex;

use super::TunnelAddresses;
use crate::users::{Full, Place, Places, User};

/// The addresses of one control socket, and which of them are in use.
pub(super) struct Leases {
    offer: TunnelAddresses,
    places: Arc<Places>,
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
    _place: Place,
}

/// That a client gets no addresses.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) refusal: Refusal,
    /// Where it is for what its user has already.
    pub(super) full: Option<Full>,
}

impl From<Refusal> for Refused {
    fn from(refusal: Refusal) -> Refused {
        Refused { refusal, full: None }
    }
}

impl Leases {
    /// `places` makes places for so many clients.
    pub(super) fn new(offer: TunnelAddresses, places: impl FnOnce(usize) -> Arc<Places>) -> Arc<Leases> {
        let clients = match &offer {
            TunnelAddresses::Fixed(_) => 1,
            TunnelAddresses::Chosen { clients, .. } => *clients,
        };
        Arc::new(Leases { offer, places: places(clients), taken: Mutex::default() })
    }

    /// Takes addresses for one client more, of `user`.
    ///
    /// # Errors
    /// `EBUSY` when the one client is there; `ENOBUFS` when all are, or as many as one user may have; `EADDRNOTAVAIL`
    /// for an address that is not the client's to have, or not to choose; `EADDRINUSE`; `EINVAL` without any where they
    /// are chosen.
    pub(super) fn take(self: &Arc<Self>, wanted: &[Prefixed], user: User) -> Result<Lease, Refused> {
        let mut taken = self.taken.lock();
        let addresses = match &self.offer {
            TunnelAddresses::Fixed(_) if taken.clients > 0 => return Err(Refusal::Busy.into()),
            TunnelAddresses::Fixed(own) if wanted.iter().all(|wanted| own.contains(wanted)) => own.clone(),
            TunnelAddresses::Fixed(_) => return Err(Refusal::AddressNotAllowed.into()),
            TunnelAddresses::Chosen { clients, .. } if taken.clients >= *clients => {
                return Err(Refusal::NoRoom.into());
            }
            TunnelAddresses::Chosen { allowed, .. } => {
                chosen(wanted, allowed, &taken.addresses)?;
                wanted.to_vec()
            }
        };
        let full = |full| Refused { refusal: Refusal::NoRoom, full: Some(full) };
        let place = self.places.take(user).map_err(full)?;
        taken.clients += 1;
        taken.addresses.extend(addresses.iter().map(|prefixed| prefixed.address));
        Ok(Lease { leases: self.clone(), addresses, _place: place })
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
        let mut taken = self.leases.taken.lock();
        taken.clients -= 1;
        for Prefixed { address, .. } in &self.addresses {
            taken.addresses.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::users::Resource;

    const USER: User = User::Uid(u32::MAX - 7);

    fn list(texts: &[&str]) -> Vec<Prefixed> {
        texts.iter().map(|text| text.parse().expect("an address")).collect()
    }

    fn offered(offer: TunnelAddresses) -> Arc<Leases> {
        Leases::new(offer, |total| Places::new(Arc::default(), Resource::Ports, total))
    }

    fn refusal(result: Result<Lease, Refused>) -> Option<Refusal> {
        result.err().map(|refused| refused.refusal)
    }

    #[test]
    fn one_client_has_the_ports_addresses() {
        let leases = offered(TunnelAddresses::Fixed(list(&["10.0.0.9/24", "fd00::9/64"])));
        assert_eq!(refusal(leases.take(&list(&["10.0.0.8/24"]), USER)), Some(Refusal::AddressNotAllowed));
        let first = leases.take(&[], USER).expect("free");
        assert_eq!(first.addresses, list(&["10.0.0.9/24", "fd00::9/64"]));
        assert_eq!(refusal(leases.take(&[], USER)), Some(Refusal::Busy));
        drop(first);
        assert!(leases.take(&list(&["10.0.0.9/24"]), USER).is_ok());
    }

    #[test]
    fn clients_choose_within_what_is_allowed() {
        let allowed = list(&["10.0.0.128/25", "fd00::/64"]);
        let leases = offered(TunnelAddresses::Chosen { allowed, clients: 2 });
        let refused = |texts: &[&str]| refusal(leases.take(&list(texts), USER));
        assert_eq!(refused(&[]), Some(Refusal::Invalid));
        assert_eq!(refused(&["10.0.0.127/24"]), Some(Refusal::AddressNotAllowed));
        assert_eq!(refused(&["10.0.0.130/24", "10.0.0.130/25"]), Some(Refusal::AddressInUse));
        let first = leases.take(&list(&["10.0.0.130/24", "fd00::1/64"]), USER).expect("free");
        assert_eq!(refused(&["fd00::1/64"]), Some(Refusal::AddressInUse));
        let _second = leases.take(&list(&["10.0.0.131/24"]), USER).expect("free");
        assert_eq!(refused(&["10.0.0.132/24"]), Some(Refusal::NoRoom));
        drop(first);
        assert_eq!(refused(&["10.0.0.130/24"]), None);
    }

    #[test]
    fn one_user_leaves_tunnels_to_others() {
        let leases = offered(TunnelAddresses::Chosen { allowed: list(&["10.0.0.0/16"]), clients: 64 });
        let take = |number: usize, user| {
            leases.take(&list(&[&format!("10.0.{}.{}/16", number / 200, number % 200)]), user)
        };
        let taken = Vec::from_iter((0..64).map_while(|number| take(number, USER).ok()));
        assert_eq!(taken.len(), 16);
        let refused = take(100, USER).err().expect("it has its part");
        assert!(refused.refusal == Refusal::NoRoom && refused.full.is_some());
        assert!(take(100, User::Uid(0)).is_ok());
        drop(taken);
        assert!(take(100, USER).is_ok());
    }
}
