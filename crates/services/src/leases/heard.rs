//! Addresses that guests were heard to use.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use vmlan_frame::{Instant, MacAddr};

use super::{MOST, MOST_EACH};
use crate::Client;

/// The time for which what was heard holds.
const REMEMBERED: Duration = Duration::from_secs(600);

/// Addresses that guests were heard to use, each with the guest that used it last.
#[derive(Debug, Default)]
pub struct Heard {
    addresses: BTreeMap<IpAddr, (Client, Instant)>,
    each: BTreeMap<u16, usize>,
}

impl Heard {
    /// Notes that a guest uses an address. What is too much for a port, or for all, is not noted.
    pub fn note(&mut self, address: IpAddr, client: Client, now: Instant) {
        if let Some((known, at)) = self.addresses.get_mut(&address).filter(|(known, _)| *known == client) {
            (*known, *at) = (client, now);
            return;
        }
        if self.addresses.len() >= MOST || self.of(client.ingress) >= MOST_EACH {
            self.forget_old(now);
        }
        self.remove(address);
        if self.addresses.len() < MOST && self.of(client.ingress) < MOST_EACH {
            self.addresses.insert(address, (client, now));
            *self.each.entry(client.ingress).or_default() += 1;
        }
    }

    /// Forgets the addresses of a port.
    pub fn forget(&mut self, ingress: u16) {
        self.addresses.retain(|_, (client, _)| client.ingress != ingress);
        self.each.remove(&ingress);
    }

    /// True if another guest than the one with `mac` was heard to use the address lately.
    pub fn is_anothers(&self, address: IpAddr, mac: MacAddr, now: Instant) -> bool {
        let heard = self.addresses.get(&address);
        heard.is_some_and(|(client, at)| client.mac != mac && now.since(*at) < REMEMBERED)
    }

    /// The addresses heard lately.
    pub fn iter(&self, now: Instant) -> impl Iterator<Item = (IpAddr, Client)> {
        let lately = self.addresses.iter().filter(move |(_, (_, at))| now.since(*at) < REMEMBERED);
        lately.map(|(address, (client, _))| (*address, *client))
    }

    fn of(&self, ingress: u16) -> usize {
        self.each.get(&ingress).copied().unwrap_or(0)
    }

    fn remove(&mut self, address: IpAddr) {
        if let Some((client, _)) = self.addresses.remove(&address)
            && let Some(count) = self.each.get_mut(&client.ingress)
        {
            *count -= 1;
        }
    }

    fn forget_old(&mut self, now: Instant) {
        let old = self.addresses.iter().filter(|(_, (_, at))| now.since(*at) >= REMEMBERED);
        for address in Vec::from_iter(old.map(|(address, _)| *address)) {
            self.remove(address);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_port_takes_no_more_than_its_part() {
        let client = |ingress| Client { ingress, mac: MacAddr([2, 0, 0, 0, 0, ingress as u8]) };
        let mut heard = Heard::default();
        let now = Instant::from_secs(1000);
        for number in 0..200 {
            heard.note([10, 0, 0, number].into(), client(1), now);
        }
        heard.note([10, 0, 1, 1].into(), client(2), now);

        assert_eq!(heard.iter(now).count(), MOST_EACH + 1);
        assert!(heard.is_anothers([10, 0, 0, 1].into(), client(2).mac, now));
        assert!(!heard.is_anothers([10, 0, 0, 1].into(), client(1).mac, now));
        let later = now + REMEMBERED;
        assert!(!heard.is_anothers([10, 0, 0, 1].into(), client(2).mac, later));
        heard.note([10, 0, 0, 201].into(), client(1), later);
        assert_eq!(heard.iter(later).count(), 1);
        heard.forget(1);
        assert_eq!(heard.iter(later).count(), 0);
    }
}
