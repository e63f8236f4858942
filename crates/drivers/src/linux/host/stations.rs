use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use vmlan_frame::{ETHERNET_HEADER, Frame, MacAddr, VlanId};
use vmlan_sys::ebpf::Set;

use super::programs::{address_key, key};

/// Tells whether an address is behind a guest's port now; called by workers, so it must not wait.
pub type IsStation = Box<dyn Fn(MacAddr, Option<VlanId>) -> bool + Send + Sync>;

/// The guests whose frames the kernel diverts to the network.
///
/// Control brings them to what the network knows. Between two times, a worker that has a frame of a new guest to send
/// enters that guest itself: an answer may come before the frame's write has returned.
pub struct Stations {
    set: Set<2>,
    /// Their IP addresses, where they share the host's MAC address.
    addresses: Set<4>,
    /// Addresses that the host sends to and that are nobody's of these.
    unheard: Set<2>,
    is_station: IsStation,
    /// Raised when one leaves, so that workers forget whom they have seen.
    departures: AtomicU64,
}

impl Stations {
    /// How many there are at most.
    pub const LIMIT: u32 = 65_536;

    /// How many addresses are looked for at a time that no guest is known to have.
    const UNHEARD: u32 = 4096;

    /// Makes an empty table of guests.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF.
    pub fn new(is_station: IsStation) -> io::Result<Stations> {
        let set = Set::new("vmlan_guests", Stations::LIMIT)?;
        let addresses = Set::new("vmlan_addresses", Stations::LIMIT)?;
        let unheard = Set::new("vmlan_unheard", Stations::UNHEARD)?;
        Ok(Stations { set, addresses, unheard, is_station, departures: AtomicU64::new(0) })
    }

    /// Replaces the table by the addresses that `wanted` returns. The table is read before `wanted` is called. So an
    /// address that a worker enters meanwhile stays, and `wanted` knows every address that was entered before. Returns
    /// the number of addresses without room in the table.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn set<I: IntoIterator<Item = MacAddr>>(&self, wanted: impl FnOnce() -> I) -> io::Result<usize> {
        let present = self.set.keys()?;
        let (departed, left_out) = bring_to(&self.set, present, wanted().into_iter().map(key).collect())?;
        if departed {
            self.departures.fetch_add(1, Ordering::Release);
        }
        Ok(left_out)
    }

    /// Enters one, if there is room, before a frame from it leaves that no worker sees.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn enter(&self, mac: MacAddr) -> io::Result<()> {
        self.set.insert(key(mac))
    }

    /// How often [`Stations::set`] took some out. One that it took out may be there again meanwhile.
    pub fn departures(&self) -> u64 {
        self.departures.load(Ordering::Acquire)
    }

    /// Replaces the table of the stations' IP addresses by `wanted`. Returns the number of addresses without room.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn set_addresses(&self, wanted: impl IntoIterator<Item = IpAddr>) -> io::Result<usize> {
        let present = self.addresses.keys()?;
        let brought = bring_to(&self.addresses, present, wanted.into_iter().map(address_key).collect());
        brought.map(|(_, left_out)| left_out)
    }

    /// The table of their MAC addresses, as [`divert`](super::programs::divert) looks into it.
    pub fn guests(&self) -> BorrowedFd<'_> {
        self.set.as_fd()
    }

    /// The table of their IP addresses.
    pub fn addresses(&self) -> BorrowedFd<'_> {
        self.addresses.as_fd()
    }

    /// The table in which [`divert`](super::programs::divert) counts the frames that it copies for addresses which are
    /// nobody's of these.
    pub fn unheard(&self) -> BorrowedFd<'_> {
        self.unheard.as_fd()
    }

    /// Has frames for such addresses copied again.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn look_again(&self) -> io::Result<()> {
        self.unheard.keys()?.into_iter().try_for_each(|key| self.unheard.remove(key))
    }

    /// Counts the stations.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn count(&self) -> io::Result<usize> {
        Ok(self.set.keys()?.len())
    }
}

/// Makes `wanted` what is in the table, where `present` was, as far as there is room; answers whether something was
/// taken out, and how many are left out.
fn bring_to<const WORDS: usize>(
    set: &Set<WORDS>,
    present: Vec<[u32; WORDS]>,
    wanted: BTreeSet<[u32; WORDS]>,
) -> io::Result<(bool, usize)> {
    let present = BTreeSet::from_iter(present);
    let mut departed = false;
    for gone in present.difference(&wanted) {
        set.remove(*gone)?;
        departed = true;
    }
    let mut new = wanted.difference(&present);
    while let Some(next) = new.next() {
        match set.insert(*next) {
            Ok(()) => {}
            Err(error) if Errno::from_io_error(&error) == Some(Errno::TOOBIG) => {
                return Ok((departed, 1 + new.count()));
            }
            Err(error) => return Err(error),
        }
    }
    Ok((departed, 0))
}

/// How many addresses a worker remembers to have dealt with.
const REMEMBERED: usize = 256;

/// The senders that a worker has dealt with, so that it asks once for a sender and not for every frame.
pub(super) struct Memo {
    stations: Arc<Stations>,
    departures: u64,
    /// Each at a place that follows from it; zero is no station's address.
    seen: Box<[u64; REMEMBERED]>,
}

impl Memo {
    pub(super) fn new(stations: Arc<Stations>) -> Memo {
        Memo { stations, departures: 0, seen: Box::new([0; REMEMBERED]) }
    }

    /// Forgets everybody when somebody left. To be called before each batch.
    pub(super) fn catch_up(&mut self) {
        let departures = self.stations.departures();
        if departures != self.departures {
            self.departures = departures;
            self.seen.fill(0);
        }
    }

    /// Makes sure that frames for the sender of `frame` are diverted.
    #[inline]
    pub(super) fn admit(&mut self, frame: &Frame) {
        let octets = frame.octets();
        if octets.len() < ETHERNET_HEADER {
            return;
        }
        let source = MacAddr::from_slice(&octets[6..]);
        let number = source.to_u64();
        // The last octets differ where the first name the maker.
        let place = (number ^ number >> 8 ^ number >> 16) as usize % REMEMBERED;
        if self.seen[place] != number {
            let vlan = frame.meta.tag.and_then(|tag| VlanId::new(tag.vid()).ok());
            if (self.stations.is_station)(source, vlan) {
                self.seen[place] = number;
                // Full: control says so.
                let _ = self.stations.set.insert(key(source));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use vmlan_frame::{Pool, PoolSizes};

    const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const STRANGER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);

    /// Returns the keys of the stations that the kernel has been told; none where it may not be told.
    fn told(stations: &Stations) -> Vec<[u32; 2]> {
        stations.set.keys().unwrap()
    }

    #[test]
    fn a_worker_enters_guests_and_nobody_else() {
        let Ok(stations) = Stations::new(Box::new(|mac, _| mac == GUEST)) else { return };
        let stations = Arc::new(stations);
        let mut memo = Memo::new(stations.clone());
        let pool = Pool::new(PoolSizes::default());
        let frame_of = |source: MacAddr| {
            let mut octets = [0; 60];
            octets[6..12].copy_from_slice(&source.0);
            pool.copy(&octets).unwrap()
        };

        memo.admit(&frame_of(STRANGER));
        memo.admit(&frame_of(GUEST));
        assert_eq!(told(&stations), [key(GUEST)]);

        // Control takes it out, and it comes back with its next frame.
        stations.set(|| []).unwrap();
        assert!(told(&stations).is_empty());
        memo.catch_up();
        memo.admit(&frame_of(GUEST));
        assert_eq!(told(&stations), [key(GUEST)]);
        assert_eq!(stations.count().unwrap(), 1);
    }

    #[test]
    fn what_there_is_no_room_for_is_left_out() {
        let Ok(set) = Set::<2>::new("test", 4) else { return };
        let keys = |range: std::ops::Range<u32>| range.map(|n| [n, 0]).collect();
        assert_eq!(bring_to(&set, Vec::new(), keys(0..7)).unwrap(), (false, 3));
        assert_eq!(bring_to(&set, set.keys().unwrap(), keys(2..6)).unwrap(), (true, 0));
        assert_eq!(set.keys().unwrap().len(), 4);
    }

    #[test]
    fn control_brings_them_to_what_the_network_knows() {
        let Ok(stations) = Stations::new(Box::new(|_, _| false)) else { return };
        stations.set(|| [GUEST, STRANGER]).unwrap();
        stations.set(|| [STRANGER]).unwrap();
        assert_eq!(told(&stations), [key(STRANGER)]);
        // One that a worker enters while control looks at what the network knows.
        let late = || {
            stations.set.insert(key(GUEST)).unwrap();
            [STRANGER]
        };
        stations.set(late).unwrap();
        assert_eq!(stations.count().unwrap(), 2);
    }
}
