//! The tables of one network.
//!
//! A program that has looked an entry of a hash up works with the entry's memory, which the kernel may give to the next
//! entry once this one is replaced or taken out. No program may take one entry for another:
//!
//! - A station is never changed in its place, and after one was taken out, none is put in until every program that was
//!   running then has ended ([`vmlan_sys::ebpf::grace`]).
//! - The hash of ports leads to places in an array of records. A record says whose it is, and programs check that. A
//!   port that changes gets a new place; its old one is used again after such a wait. With twice as many places as
//!   ports, one wait serves many changes.
//!
//! Tables may have names in the BPF file system, by which another process takes them over ([`Tables::open`]). They say
//! by themselves all that the process has to know.

use std::collections::{HashMap, HashSet};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::sync::Mutex;

use rustix::time::{ClockId, clock_gettime};
use vmlan_frame::{Instant, MacAddr, VlanId};
use vmlan_sys::ebpf::{Kind, Numbers, PerCpu, Table, grace};

use super::trunk::Side;
use crate::host::programs::key;

/// The decisions of the switch for one network, as [`from_guest`](super::from_guest) asks for it.
pub struct Tables {
    /// The interface that each station is behind, and when the station was heard.
    stations: Table<Numbers<u32, 2>, Numbers<u32, 2>>,
    /// Where each interface has its record.
    ports: Table<u32, u32>,
    records: Table<u32, Record>,
    counts: PerCpu<COUNTS>,
    slots: u32,
    /// Held while something is changed.
    written: Mutex<Written>,
}

type Record = Numbers<u64, RECORD>;

/// Numbers of a record, and the place of each.
const RECORD: usize = ALLOWED + 64;
pub(super) const INDEX: usize = 0;
pub(super) const SLOT: usize = 1;
pub(super) const CARRIER: usize = 2;
pub(super) const FLAGS: usize = 3;
pub(super) const ROLE: usize = 4;
/// The VLAN of frames without a tag, or 0; VLAN 1 for a transparent port, whatever the tag.
pub(super) const VLAN: usize = 5;
pub(super) const LONGEST: usize = 6;
/// A bit for each VLAN that is received and sent with a tag.
pub(super) const ALLOWED: usize = 7;

/// Flags of a record.
pub(super) const HELD: i32 = 1;
pub(super) const ISOLATED: i32 = 2;
pub(super) const PEER: i32 = 4;
pub(super) const SIDE: i32 = 8;
pub(super) const HOST: i32 = 16;
pub(super) const SERVICES: i32 = 32;

/// Roles of a record.
pub(super) const TRANSPARENT: i32 = 0;
pub(super) const ACCESS: i32 = 1;
pub(super) const TRUNK: i32 = 2;

/// Counts of a slot: four for what was received, in the order of [`Passed`], and four for what was sent.
const COUNTS: usize = 8;

/// The unit of [`Station::heard`] as a power of two of nanoseconds: close to a second, and found without a division.
pub(super) const HEARD_UNIT: i32 = 30;

/// A record of what was written, as far as the tables do not tell it fast.
#[derive(Default)]
struct Written {
    /// The place of each port's record.
    places: HashMap<u32, u32>,
    free: Vec<u32>,
    /// Places that a program may still look at.
    retired: Vec<u32>,
    /// How many stations were taken out, and how many had been when a wait began that is over.
    departed: u64,
    settled: u64,
}

/// A port's part in the fast way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Port {
    /// The slot of its counts, below the number of ports that the tables are for.
    pub slot: u32,
    /// The index of the TAP that slow frames go to.
    pub carrier: u32,
    /// Its part in the network's VLANs.
    pub role: Role,
    /// Octets of the longest frame that it takes: with the Ethernet header, without tag and FCS.
    pub longest: u32,
    /// Everything goes slow that comes from it or is for it.
    pub held: bool,
    /// Frames of it that may be a DHCP server's goes slow: UDP from port 67 or 547 or to port 68 or 546, and IPv6 with
    /// extension headers.
    pub services: bool,
    /// Nothing passes between it and another port that is isolated.
    pub isolated: bool,
    /// Frames for it are given to the other end of its veth, which is in another network namespace. Without, they go
    /// out by the interface as any do.
    pub peer: bool,
    /// The side of a trunk that it stands for, by whose number ([`Side::index`]) it is entered; `None` for a guest's.
    pub side: Option<Side>,
}

/// The part of a port in the VLANs of its network.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Role {
    /// The network has none: tags pass unchanged.
    Transparent,
    /// A member of one VLAN, without tags.
    Access(VlanId),
    /// A member of several VLANs.
    Trunk {
        /// A bit for each VLAN that is received and sent with a tag: of VLAN n, bit n % 64 of number n / 64.
        allowed: Box<[u64; 64]>,
        /// The VLAN that is received and sent without one.
        native: Option<VlanId>,
    },
}

/// A name that stations have in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StationKey {
    /// Its address.
    pub mac: MacAddr,
    /// The VLAN in which it is known; VLAN 1 in a network without VLANs. `None`: every VLAN of its port. An entry for
    /// the frame's VLAN goes before one for every VLAN.
    pub vlan: Option<VlanId>,
}

impl StationKey {
    fn to_numbers(self) -> Numbers<u32, 2> {
        let [first, second] = key(self.mac);
        Numbers([first, second | u32::from(self.vlan.map_or(0, VlanId::get)) << 16])
    }

    fn from_numbers(Numbers([first, second]): Numbers<u32, 2>) -> StationKey {
        let ([a, b, c, d], [v, w, e, f]) = (first.to_be_bytes(), second.to_be_bytes());
        StationKey { mac: MacAddr([a, b, c, d, e, f]), vlan: VlanId::new(u16::from_be_bytes([v, w])).ok() }
    }
}

/// A station in the tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Station {
    /// Its address and VLAN.
    pub key: StationKey,
    /// The index of the interface that it is behind.
    pub index: u32,
    /// When a frame of its last went fast, or when it was put in: by the clock of [`Tables::now`].
    pub heard: u32,
}

impl Station {
    /// The start of the unit of time in which it was heard.
    pub fn time(&self) -> Instant {
        Instant::from_nanos(u64::from(self.heard) << HEARD_UNIT)
    }
}

/// Fast frames of one direction.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Passed {
    /// Frames.
    pub frames: u64,
    /// Octets as on the medium: with header and tag, without FCS.
    pub octets: u64,
    /// Segmentation frames among them, and the segments that those stand for.
    pub large: [u64; 2],
}

/// Counts of what a port received and sent by the fast way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Frames of its guest's.
    pub received: Passed,
    /// Frames for its guest.
    pub sent: Passed,
}

impl Tables {
    /// Empty tables for so many stations and ports.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF; `ENOMEM` or `E2BIG` when the numbers are too high.
    pub fn new(stations: u32, ports: u32) -> io::Result<Tables> {
        let places = ports.checked_mul(2).ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Tables {
            stations: Table::new(Kind::SparseHash, "vmlan_stations", stations)?,
            ports: Table::new(Kind::Hash, "vmlan_ports", ports)?,
            records: Table::new(Kind::Array, "vmlan_records", places)?,
            counts: PerCpu::new("vmlan_counts", ports)?,
            slots: ports,
            written: Mutex::new(Written { free: (0..places).rev().collect(), ..Written::default() }),
        })
    }

    /// Opens the tables that have their names in this directory; `None` when they are not all there, or are not for so
    /// many stations and ports.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn open(directory: &Path, stations: u32, ports: u32) -> io::Result<Option<Tables>> {
        let places = ports.checked_mul(2).ok_or(io::ErrorKind::InvalidInput)?;
        let [at_stations, at_ports, at_records, at_counts] = names(directory);
        let opened = (
            Table::open(Kind::SparseHash, stations, &at_stations)?,
            Table::<u32, u32>::open(Kind::Hash, ports, &at_ports)?,
            Table::open(Kind::Array, places, &at_records)?,
            PerCpu::open(ports, &at_counts)?,
        );
        let (Some(stations), Some(ports), Some(records), Some(counts)) = opened else { return Ok(None) };
        let listed: HashMap<u32, u32> = ports.entries()?.into_iter().collect();
        let taken: HashSet<u32> = listed.values().copied().collect();
        let free = (0..places).rev().filter(|place| !taken.contains(place)).collect();
        // What the former process had just taken out may still be looked at.
        let written = Written { places: listed, free, departed: 1, ..Written::default() };
        Ok(Some(Tables { stations, ports, records, counts, slots: places / 2, written: Mutex::new(written) }))
    }

    /// Gives the tables names in this directory of a BPF file system, by which they outlive the process.
    ///
    /// # Errors
    /// `EEXIST` when the names are taken; errors of bpf(2).
    pub fn pin(&self, directory: &Path) -> io::Result<()> {
        let [stations, ports, records, counts] = names(directory);
        self.stations.pin(&stations)?;
        self.ports.pin(&ports)?;
        self.records.pin(&records)?;
        self.counts.pin(&counts)
    }

    /// The ports: the index of each one's interface, and its slot.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn ports(&self) -> io::Result<Vec<(u32, u32)>> {
        let places: Vec<_> = self.lock().places.iter().map(|(index, place)| (*index, *place)).collect();
        let mut ports = Vec::new();
        for (index, place) in places {
            let Some(Numbers(record)) = self.records.get(place)? else { continue };
            if record[INDEX] == u64::from(index) {
                ports.push((index, record[SLOT] as u32));
            }
        }
        Ok(ports)
    }

    /// Enters a port by the index of its interface, or changes it as a whole: a frame finds all of the old or all of
    /// the new. A frame that is looked at now may still go by the old; see [`Tables::settle`].
    ///
    /// # Errors
    /// `InvalidInput` for a slot that there is none of; `E2BIG` when there are too many ports.
    pub fn set_port(&self, index: u32, port: &Port) -> io::Result<()> {
        if port.slot >= self.slots {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut written = self.lock();
        if written.free.is_empty() {
            drop(written);
            self.settle()?;
            written = self.lock();
        }
        let place = written.free.pop().ok_or(io::ErrorKind::StorageFull)?;
        let entered =
            self.records.put(place, record(index, port)).and_then(|()| self.ports.put(index, place));
        if let Err(error) = entered {
            written.free.push(place);
            return Err(error);
        }
        let old = written.places.insert(index, place);
        written.retired.extend(old);
        Ok(())
    }

    /// Takes a port out: every frame that its interface receives from now on is dropped, and what is for it goes slow.
    /// Stations behind it stay. False when it was not there.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn remove_port(&self, index: u32) -> io::Result<bool> {
        let mut written = self.lock();
        let was_there = self.ports.remove(index)?;
        let old = written.places.remove(&index);
        written.retired.extend(old);
        Ok(was_there)
    }

    /// Enters a station behind the interface `index`, heard now. One that is there already is left as it is. One that
    /// is there behind another interface is taken out.
    ///
    /// After a station was taken out, none is entered until programs that may look at that one have ended. `patient`
    /// waits for it, some ten milliseconds, and has whoever changes the tables meanwhile wait too; else the answer is
    /// false, nothing is entered, and it is to be tried again after [`Tables::settle`].
    ///
    /// # Errors
    /// `InvalidInput` for an address that no station has; `E2BIG` when there are too many; errors of [`grace`].
    pub fn put_station(&self, key: StationKey, index: u32, patient: bool) -> io::Result<bool> {
        if !key.mac.is_station() {
            return Err(io::ErrorKind::InvalidInput.into());
        }
        let mut written = self.lock();
        let numbers = key.to_numbers();
        match self.stations.get(numbers)? {
            Some(Numbers([known, _])) if known == index => return Ok(true),
            Some(_) => written.departed += u64::from(self.stations.remove(numbers)?),
            None => {}
        }
        if written.departed != written.settled {
            if !patient {
                return Ok(false);
            }
            grace()?;
            written.settled = written.departed;
        }
        self.stations.put(numbers, Numbers([index, Tables::now()])).map(|()| true)
    }

    /// Takes a station out; false when it was not there. A frame that is looked at now may still go by it; see
    /// [`Tables::settle`].
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn remove_station(&self, key: StationKey) -> io::Result<bool> {
        let mut written = self.lock();
        let was_there = self.stations.remove(key.to_numbers())?;
        written.departed += u64::from(was_there);
        Ok(was_there)
    }

    /// Waits until no frame is looked at that found the tables as they were before the call: from then on none goes by
    /// what was taken out or changed. That takes some milliseconds, so it is to be called once for many changes.
    ///
    /// # Errors
    /// Errors of [`grace`].
    pub fn settle(&self) -> io::Result<()> {
        let (retired, departed) = {
            let mut written = self.lock();
            (std::mem::take(&mut written.retired), written.departed)
        };
        // Nobody waits for this thread meanwhile.
        let waited = grace();
        let mut written = self.lock();
        match waited {
            Ok(()) => {
                written.free.extend(retired);
                written.settled = written.settled.max(departed);
            }
            Err(_) => written.retired.extend(retired),
        }
        waited
    }

    /// The stations, in no particular order.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn stations(&self) -> io::Result<Vec<Station>> {
        let station =
            |(key, Numbers([index, heard]))| Station { key: StationKey::from_numbers(key), index, heard };
        Ok(self.stations.entries()?.into_iter().map(station).collect())
    }

    /// The time by the clock of [`Station::heard`], in units of 2^30 ns since the host was started, its sleep left out.
    pub fn now() -> u32 {
        let now = clock_gettime(ClockId::MonotonicCoarse);
        let nanoseconds = now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64;
        (nanoseconds >> HEARD_UNIT) as u32
    }

    /// The counts of a slot.
    ///
    /// # Errors
    /// `NotFound` for a slot that there is none of.
    pub fn counts(&self, slot: u32) -> io::Result<Counts> {
        let mut sum = [0_u64; COUNTS];
        for of_cpu in self.counts.get(slot)? {
            for (sum, count) in sum.iter_mut().zip(of_cpu) {
                *sum = sum.wrapping_add(count);
            }
        }
        let passed =
            |at: usize| Passed { frames: sum[at], octets: sum[at + 1], large: [sum[at + 2], sum[at + 3]] };
        Ok(Counts { received: passed(0), sent: passed(COUNTS / 2) })
    }

    /// Sets the counts of a slot to zero. To be called while no port has it: a count that goes on may come back.
    ///
    /// # Errors
    /// `E2BIG` for a slot that there is none of.
    pub fn clear_counts(&self, slot: u32) -> io::Result<()> {
        self.counts.clear(slot)
    }

    /// The tables themselves: of stations, ports, records and counts.
    pub(super) fn descriptors(&self) -> [BorrowedFd<'_>; 4] {
        [self.stations.as_fd(), self.ports.as_fd(), self.records.as_fd(), self.counts.as_fd()]
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Written> {
        // What a thread that panicked has written is as good as ever: each change is made in the table first.
        self.written.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

/// The names of the tables. They change with what is in the tables, so that no other version takes those for its own.
fn names(directory: &Path) -> [PathBuf; 4] {
    ["stations-1", "ports-1", "records-1", "counts-1"].map(|name| directory.join(name))
}

/// A port as its record.
fn record(index: u32, port: &Port) -> Record {
    let mut numbers = [0; RECORD];
    let flag = |set: bool, flag: i32| if set { flag as u64 } else { 0 };
    numbers[INDEX] = index.into();
    numbers[SLOT] = port.slot.into();
    numbers[CARRIER] = port.carrier.into();
    numbers[FLAGS] = flag(port.held, HELD) | flag(port.isolated, ISOLATED) | flag(port.peer, PEER);
    numbers[FLAGS] |= flag(port.side.is_some(), SIDE) | flag(port.side == Some(Side::Host), HOST);
    numbers[FLAGS] |= flag(port.services, SERVICES);
    numbers[LONGEST] = port.longest.into();
    let (role, vlan) = match &port.role {
        Role::Transparent => (TRANSPARENT, Some(VlanId::DEFAULT)),
        Role::Access(vlan) => (ACCESS, Some(*vlan)),
        Role::Trunk { allowed, native } => {
            numbers[ALLOWED..].copy_from_slice(&allowed[..]);
            // Neither is a VLAN: a priority tag, and what is reserved.
            numbers[ALLOWED] &= !1;
            numbers[ALLOWED + 63] &= !(1 << 63);
            (TRUNK, *native)
        }
    };
    numbers[ROLE] = role as u64;
    numbers[VLAN] = vlan.map_or(0, VlanId::get).into();
    Numbers(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0x12, 0x34, 0x56]);

    fn station(vlan: Option<u16>) -> StationKey {
        StationKey { mac: MAC, vlan: vlan.map(|vlan| VlanId::new(vlan).unwrap()) }
    }

    fn port(slot: u32) -> Port {
        Port {
            slot,
            carrier: 7,
            role: Role::Transparent,
            longest: 1514,
            held: false,
            services: false,
            isolated: false,
            peer: false,
            side: None,
        }
    }

    #[test]
    fn a_key_is_two_numbers() {
        assert_eq!(station(None).to_numbers().0, [0x5254_0012, 0x3456]);
        assert_eq!(station(Some(0xabc)).to_numbers().0, [0x5254_0012, 0xabc_3456]);
        for key in [station(None), station(Some(1)), station(Some(4094))] {
            assert_eq!(StationKey::from_numbers(key.to_numbers()), key);
        }
    }

    #[test]
    fn a_record_has_what_a_port_is() {
        let vlan = VlanId::new(10).unwrap();
        let trunk = Role::Trunk { allowed: Box::new([u64::MAX; 64]), native: Some(vlan) };
        let Numbers(numbers) = record(3, &Port { role: trunk, held: true, peer: true, ..port(1) });
        assert_eq!(numbers[..ALLOWED], [3, 1, 7, 5, 2, 10, 1514]);
        assert_eq!((numbers[ALLOWED], numbers[RECORD - 1]), (u64::MAX - 1, u64::MAX >> 1));
        let Numbers(numbers) = record(3, &Port { isolated: true, ..port(1) });
        assert_eq!(numbers[..ALLOWED], [3, 1, 7, 2, 0, 1, 1514]);
        let flags =
            |side: Side| record(side.index(3), &Port { side: Some(side), ..port(1) }).0[..=FLAGS].to_vec();
        assert_eq!(flags(Side::Wire), [3, 1, 7, 8]);
        assert_eq!(flags(Side::Host), [0x8000_0003, 1, 7, 24]);
    }

    #[test]
    fn stations_come_move_and_go() {
        let Ok(tables) = Tables::new(2, 1) else { return };
        let known = || {
            let mut known: Vec<_> =
                tables.stations().unwrap().iter().map(|known| (known.key, known.index)).collect();
            known.sort();
            known
        };
        let before = Tables::now();
        for (key, index) in [(None, 5), (Some(9), 6), (Some(9), 6)] {
            assert!(tables.put_station(station(key), index, false).unwrap());
        }
        assert_eq!(known(), [(station(None), 5), (station(Some(9)), 6)]);
        assert!(tables.stations().unwrap().iter().all(|station| station.heard >= before));
        let full = tables.put_station(station(Some(8)), 6, false).unwrap_err();
        assert_eq!(full.kind(), io::ErrorKind::ArgumentListTooLong);
        assert!(!tables.put_station(station(Some(9)), 7, false).unwrap(), "taken out first");
        assert_eq!(known(), [(station(None), 5)]);
        assert!(!tables.put_station(station(Some(9)), 7, false).unwrap(), "still looked at, perhaps");
        tables.settle().unwrap();
        assert!(tables.put_station(station(Some(9)), 7, false).unwrap());
        assert!(tables.remove_station(station(None)).unwrap());
        assert!(!tables.remove_station(station(None)).unwrap());
        assert_eq!(known(), [(station(Some(9)), 7)]);
        assert!(tables.put_station(station(None), 5, true).unwrap());
        for mac in [MacAddr::ZERO, MacAddr::BROADCAST] {
            assert!(tables.put_station(StationKey { mac, vlan: None }, 1, false).is_err());
        }
    }

    #[test]
    fn ports_change_more_often_than_there_are_places() {
        let Ok(tables) = Tables::new(1, 2) else { return };
        for slot in [0, 1, 0, 1, 0] {
            tables.set_port(5, &port(slot)).unwrap();
            tables.set_port(6, &port(slot)).unwrap();
            assert!(tables.set_port(7, &port(slot)).is_err());
            let place = tables.ports.get(5).unwrap().unwrap();
            assert_eq!(tables.records.get(place).unwrap(), Some(record(5, &port(slot))));
        }
        assert!(tables.set_port(5, &port(2)).is_err());
        assert!(tables.remove_port(6).unwrap());
        assert!(!tables.remove_port(6).unwrap());
        tables.set_port(7, &port(0)).unwrap();
        tables.settle().unwrap();
        assert_eq!(tables.counts(1).unwrap(), Counts::default());
        tables.clear_counts(1).unwrap();
        assert!(tables.counts(2).is_err() && tables.clear_counts(2).is_err());
    }
}
