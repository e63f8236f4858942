//! Tables that programs and we both read and write, typed by the numbers that they hold.

use std::io;
use std::marker::PhantomData;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;

use super::{
    Create, Element, HASH, MAP_DELETE, MAP_GET_NEXT_KEY, MAP_UPDATE, NO_PREALLOC, bpf, bpf_mut, create, pin,
};

/// Commands, `enum bpf_cmd` of linux/bpf.h.
const MAP_LOOKUP: libc::c_long = 1;
const MAP_LOOKUP_BATCH: libc::c_long = 24;

/// `BPF_MAP_TYPE_ARRAY`, `BPF_MAP_TYPE_PERCPU_ARRAY` and `BPF_MAP_TYPE_ARRAY_OF_MAPS`.
const ARRAY: u32 = 2;
const PER_CPU_ARRAY: u32 = 6;
const ARRAY_OF_TABLES: u32 = 12;

/// `BPF_EXIST`: an entry is changed, and none is made.
const PRESENT: u64 = 2;

/// Entries that are listed by one call, at first.
const BATCH: usize = 1024;

/// `union bpf_attr` of MAP_LOOKUP_BATCH.
#[repr(C)]
struct Batch {
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

mod sealed {
    /// Numbers side by side: of at least four octets, without gaps, and good whatever their bits are.
    pub trait Words: Copy + Default {}
}

use sealed::Words;

impl Words for u32 {}

/// Numbers of a key or a value, which are in the machine's order as programs load and store them.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Numbers<T, const COUNT: usize>(pub [T; COUNT]);

impl<T: Copy + Default, const COUNT: usize> Default for Numbers<T, COUNT> {
    fn default() -> Self {
        const { assert!(COUNT > 0, "a key or a value of no numbers") };
        Numbers([T::default(); COUNT])
    }
}

impl<const COUNT: usize> Words for Numbers<u32, COUNT> {}
impl<const COUNT: usize> Words for Numbers<u64, COUNT> {}

/// The way in which a table keeps its entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// By any key, in memory that is set aside when the table is made.
    Hash,
    /// By any key, in memory that is taken as entries come.
    SparseHash,
    /// By a number below the limit; every entry is there from the start, all zeros, and stays. Its keys are `u32`.
    Array,
}

impl Kind {
    /// The type of map that the kernel has, and its flags.
    fn as_numbers(self) -> (u32, u32) {
        match self {
            Kind::Hash => (HASH, 0),
            Kind::SparseHash => (HASH, NO_PREALLOC),
            Kind::Array => (ARRAY, 0),
        }
    }
}

/// A table from keys to values, each a `u32` or [`Numbers`].
///
/// An entry that is replaced or taken out of a hash may still be in the hands of a program that has looked it up. Its
/// memory may be used for the next key that is put in, and the program then reads the value of that key. [`grace`]
/// between the two prevents it. A value of an array is overwritten in its place, one number after another.
#[derive(Debug)]
pub struct Table<K, V> {
    fd: OwnedFd,
    limit: u32,
    entries: PhantomData<(K, V)>,
}

impl<K: Words, V: Words> Table<K, V> {
    /// Opens the table of this name in a BPF file system; `None` when nothing has it, or something that is no table of
    /// this kind, for these keys and values and this limit.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn open(kind: Kind, limit: u32, path: &Path) -> io::Result<Option<Table<K, V>>> {
        let (map_type, map_flags) = kind.as_numbers();
        let wanted = [map_type, size_of::<K>() as u32, size_of::<V>() as u32, limit, map_flags];
        let opened = pin::open(path)?.filter(|object| pin::is_table(object.as_fd(), wanted));
        Ok(opened.map(|fd| Table { fd, limit, entries: PhantomData }))
    }

    /// Gives the table a name, an absolute path without dots in a BPF file system. It lives while it has one.
    ///
    /// # Errors
    /// `EEXIST` when the name is taken; `EPERM` for a name with a dot, and without the right.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin::pin(self.fd.as_fd(), path)
    }

    /// A table for at most `limit` entries; the kernel shows it under `name`, of letters, digits, `_` and `.`.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF; `ENOMEM` or `E2BIG` when the limit is too high; `EINVAL` for an array whose key is not
    /// one `u32`.
    pub fn new(kind: Kind, name: &str, limit: u32) -> io::Result<Table<K, V>> {
        let (map_type, map_flags) = kind.as_numbers();
        let sizes = [size_of::<K>(), size_of::<V>()];
        let request = Create { map_flags, ..Create::new(map_type, sizes, limit, name) };
        Ok(Table { fd: create(&request)?, limit, entries: PhantomData })
    }

    /// The value of a key.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn get(&self, key: K) -> io::Result<Option<V>> {
        let mut value = V::default();
        let request = Element::new(&self.fd, &raw const key, (&raw mut value).cast_const());
        // SAFETY: MAP_LOOKUP reads one key at `key` and writes one value to the last pointer; the table was made for
        // their sizes, both live through the call, and any bits are a value.
        found(unsafe { bpf(MAP_LOOKUP, &request) }).map(|found| found.then_some(value))
    }

    /// Sets the value of a key, which may be in the table already.
    ///
    /// # Errors
    /// `E2BIG` when the table is full, or for a key beyond an array.
    pub fn put(&self, key: K, value: V) -> io::Result<()> {
        self.update(key, value, 0)
    }

    /// Sets the value of a key that is in the table; false when it is not.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn replace(&self, key: K, value: V) -> io::Result<bool> {
        found(self.update(key, value, PRESENT))
    }

    fn update(&self, key: K, value: V, flags: u64) -> io::Result<()> {
        let request = Element { flags, ..Element::new(&self.fd, &raw const key, &raw const value) };
        // SAFETY: MAP_UPDATE reads one key at `key` and one value at `value`; the table was made for their sizes, and
        // both live through the call.
        unsafe { bpf(MAP_UPDATE, &request) }.map(drop)
    }

    /// Takes a key out of a hash; false when it was not there.
    ///
    /// # Errors
    /// `EINVAL` for an array.
    pub fn remove(&self, key: K) -> io::Result<bool> {
        let request = Element::new(&self.fd, &raw const key, std::ptr::null::<V>());
        // SAFETY: MAP_DELETE reads one key at `key`, which has the size that the table was made for and lives through
        // the call.
        found(unsafe { bpf(MAP_DELETE, &request) })
    }

    /// Keys and values, in no particular order. A key that comes or goes meanwhile may be missing or be there.
    ///
    /// # Errors
    /// Errors of bpf(2).
    pub fn entries(&self) -> io::Result<Vec<(K, V)>> {
        match self.in_batches() {
            // A kernel before Linux 5.6.
            Err(error) if error.raw_os_error() == Some(libc::EINVAL) => self.one_by_one(),
            result => result,
        }
    }

    fn in_batches(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut room = BATCH.min(self.limit as usize).max(1);
        let (mut keys, mut values) = (vec![K::default(); room], vec![V::default(); room]);
        // Where the next call goes on: four octets, which every key has.
        let (mut from, mut to) = (0_u32, 0_u32);
        let mut is_first = true;
        loop {
            let start = if is_first { std::ptr::null() } else { &raw const from };
            let mut request = Batch {
                in_batch: start.expose_provenance() as u64,
                out_batch: (&raw mut to).expose_provenance() as u64,
                keys: keys.as_mut_ptr().expose_provenance() as u64,
                values: values.as_mut_ptr().expose_provenance() as u64,
                count: room as u32,
                map_fd: self.fd.as_raw_fd() as u32,
                elem_flags: 0,
                flags: 0,
            };
            // SAFETY: MAP_LOOKUP_BATCH writes at most `count` keys and values to arrays of `room` each, whose sizes
            // the table was made for, and writes the number of them to `count`. Its place is a `u32` for a hash and a
            // key of one `u32` for an array. All of it lives through the call, and any bits are keys and values.
            let result = unsafe { bpf_mut(MAP_LOOKUP_BATCH, &mut request) };
            // A bucket with more entries than there is room for.
            if result.as_ref().is_err_and(|error| error.raw_os_error() == Some(libc::ENOSPC)) {
                room *= 2;
                keys.resize(room, K::default());
                values.resize(room, V::default());
                continue;
            }
            let more = found(result)?;
            let count = room.min(request.count as usize);
            entries.extend(keys[..count].iter().copied().zip(values[..count].iter().copied()));
            if !more {
                return Ok(entries);
            }
            from = to;
            is_first = false;
        }
    }

    fn one_by_one(&self) -> io::Result<Vec<(K, V)>> {
        let mut entries = Vec::new();
        let mut last: Option<K> = None;
        // A table that changes all the time could be gone through for ever.
        for _ in 0..self.limit {
            let mut next = K::default();
            let last_key = last.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            let request = Element::new(&self.fd, last_key, (&raw mut next).cast_const());
            // SAFETY: MAP_GET_NEXT_KEY reads one key at `key`, or starts anew where that is null, and writes one to
            // the last pointer; both live through the call, and any bits are a key.
            if !found(unsafe { bpf(MAP_GET_NEXT_KEY, &request) })? {
                break;
            }
            if let Some(value) = self.get(next)? {
                entries.push((next, value));
            }
            last = Some(next);
        }
        Ok(entries)
    }
}

impl<K, V> AsFd for Table<K, V> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// An array of which every processor has its own: a program writes to that of the processor that it runs on.
#[derive(Debug)]
pub struct PerCpu<const COUNT: usize> {
    fd: OwnedFd,
    /// Above the number of every processor that there may ever be.
    cpus: usize,
}

impl<const COUNT: usize> PerCpu<COUNT> {
    /// An array of so many values, all zeros; the kernel shows it under `name`.
    ///
    /// # Errors
    /// `EPERM` without CAP_BPF; `ENOMEM` when the limit is too high; errors of reading the list of processors.
    pub fn new(name: &str, limit: u32) -> io::Result<PerCpu<COUNT>> {
        let request = Create::new(PER_CPU_ARRAY, [4, size_of::<[u64; COUNT]>()], limit, name);
        Ok(PerCpu { fd: create(&request)?, cpus: possible_cpus()? })
    }

    /// Opens the array of this name in a BPF file system; `None` when nothing has it, or something that is no array of
    /// these values and this limit.
    ///
    /// # Errors
    /// Errors of bpf(2), and of reading the list of processors.
    pub fn open(limit: u32, path: &Path) -> io::Result<Option<PerCpu<COUNT>>> {
        let wanted = [PER_CPU_ARRAY, 4, size_of::<[u64; COUNT]>() as u32, limit, 0];
        let opened = pin::open(path)?.filter(|object| pin::is_table(object.as_fd(), wanted));
        let cpus = possible_cpus()?;
        Ok(opened.map(|fd| PerCpu { fd, cpus }))
    }

    /// Gives the array a name, as [`Table::pin`] does.
    ///
    /// # Errors
    /// As there.
    pub fn pin(&self, path: &Path) -> io::Result<()> {
        pin::pin(self.fd.as_fd(), path)
    }

    /// The value of each processor, with zeros for numbers that no processor has.
    ///
    /// # Errors
    /// `NotFound` beyond the limit.
    pub fn get(&self, index: u32) -> io::Result<Vec<[u64; COUNT]>> {
        let mut values = vec![[0; COUNT]; self.cpus];
        let request = Element::new(&self.fd, &raw const index, values.as_mut_ptr().cast_const());
        // SAFETY: MAP_LOOKUP reads four octets at `key` and writes one value for each possible processor to the last
        // pointer, where there is room for at least as many; values of `u64` need no rounding up to 8 octets. Both
        // live through the call, and any bits are values.
        unsafe { bpf(MAP_LOOKUP, &request) }.map(|_| values)
    }

    /// Sets the value of every processor to zeros. What a program adds at the same time may stay or be lost.
    ///
    /// # Errors
    /// `E2BIG` beyond the limit.
    pub fn clear(&self, index: u32) -> io::Result<()> {
        let zeros = vec![[0_u64; COUNT]; self.cpus];
        let request = Element::new(&self.fd, &raw const index, zeros.as_ptr());
        // SAFETY: MAP_UPDATE reads four octets at `key` and one value for each possible processor at `value`, where
        // there are at least as many; both live through the call.
        unsafe { bpf(MAP_UPDATE, &request) }.map(drop)
    }
}

impl<const COUNT: usize> AsFd for PerCpu<COUNT> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until every classifier that was running when this was called has ended: none then works with an entry that was
/// taken out of a table before. Those that start meanwhile find the tables as they are.
///
/// A hook runs its programs inside a read section of the kernel's read-copy-update. Both ways end a grace period of it
/// (`synchronize_rcu`), which no read section outlasts that was open when it began: membarrier(2) with
/// `MEMBARRIER_CMD_GLOBAL`, and, where processors without a tick forbid that, an update of a table of tables, after
/// which the kernel waits for the programs that may have the old one. With one processor membarrier returns at once,
/// which is as good: programs run with soft interrupts off, so none is half-way when a process runs.
///
/// # Errors
/// `EPERM` where membarrier cannot be had, and CAP_BPF is missing.
pub fn grace() -> io::Result<()> {
    /// `MEMBARRIER_CMD_GLOBAL` of linux/membarrier.h.
    const GLOBAL: libc::c_int = 1;
    // SAFETY: the call takes numbers and touches no memory.
    match unsafe { libc::syscall(libc::SYS_membarrier, GLOBAL, 0, 0) } {
        0 => Ok(()),
        _ => grace_by_update(),
    }
}

/// Waits by replacing a table in a table, which no program has.
fn grace_by_update() -> io::Result<()> {
    let inner = Table::<u32, u32>::new(Kind::Array, "vmlan_grace", 1)?;
    let inner = inner.fd.as_raw_fd() as u32;
    let request = Create { inner_map_fd: inner, ..Create::new(ARRAY_OF_TABLES, [4, 4], 1, "vmlan_grace") };
    let outer: Table<u32, u32> = Table { fd: create(&request)?, limit: 1, entries: PhantomData };
    outer.put(0, inner)
}

/// False for a key that is not there.
fn found<T>(result: io::Result<T>) -> io::Result<bool> {
    match result {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

/// One more than the highest number of a processor that there may ever be.
fn possible_cpus() -> io::Result<usize> {
    let text = std::fs::read_to_string("/sys/devices/system/cpu/possible")?;
    above_highest(&text).ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "no list of processors"))
}

/// One more than the last number of a list such as `0-3,8-11`, which ascends.
fn above_highest(list: &str) -> Option<usize> {
    let last = list.trim().rsplit([',', '-']).next()?;
    last.parse::<usize>().ok()?.checked_add(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    type Pairs = Table<Numbers<u32, 2>, Numbers<u32, 2>>;

    #[test]
    fn processors_are_counted_by_the_highest() {
        let counts = ["0\n", "0-3\n", "0,2-5", "0-1,8-11", "", "none"].map(above_highest);
        assert_eq!(counts, [Some(1), Some(4), Some(6), Some(12), None, None]);
        assert!(possible_cpus().unwrap() >= 1);
    }

    #[test]
    fn hashes() {
        for kind in [Kind::Hash, Kind::SparseHash] {
            let table = match Pairs::new(kind, "test", 3000) {
                // Without the right, that is all there is to see.
                Err(error) => return assert_eq!(error.raw_os_error(), Some(libc::EPERM)),
                Ok(table) => table,
            };
            assert_eq!(table.entries().unwrap(), []);
            assert!(!table.replace(Numbers([1, 2]), Numbers([3, 4])).unwrap());
            assert!(!table.remove(Numbers([1, 2])).unwrap());
            assert_eq!(table.get(Numbers([1, 2])).unwrap(), None);
            let entry = |n| (Numbers([n, 2]), Numbers([n, n + 1]));
            for (key, value) in (0..3000).map(entry) {
                table.put(key, Numbers([9, 9])).unwrap();
                assert!(table.replace(key, value).unwrap());
            }
            assert_eq!(
                table.put(Numbers([0, 0]), Numbers([0, 0])).unwrap_err().raw_os_error(),
                Some(libc::E2BIG)
            );
            assert_eq!(table.get(Numbers([7, 2])).unwrap(), Some(Numbers([7, 8])));
            for listed in [table.in_batches(), table.one_by_one(), table.entries()] {
                let mut listed = listed.unwrap();
                listed.sort_by_key(|(key, _)| key.0);
                assert_eq!(listed, Vec::from_iter((0..3000).map(entry)));
            }
            assert!(table.remove(Numbers([7, 2])).unwrap());
            assert_eq!(table.entries().unwrap().len(), 2999);
        }
    }

    #[test]
    fn arrays() {
        let Ok(table) = Table::<u32, Numbers<u64, 3>>::new(Kind::Array, "test", 2) else { return };
        table.put(1, Numbers([1, 2, u64::MAX])).unwrap();
        assert_eq!(table.entries().unwrap(), [(0, Numbers([0; 3])), (1, Numbers([1, 2, u64::MAX]))]);
        assert!(table.put(2, Numbers([0; 3])).is_err());
        let array = PerCpu::<5>::new("test", 2).unwrap();
        assert_eq!(array.get(1).unwrap(), vec![[0; 5]; array.cpus]);
        array.clear(1).unwrap();
        assert!(array.get(2).is_err() && array.clear(2).is_err());
    }

    #[test]
    fn both_ways_wait() {
        if Pairs::new(Kind::Hash, "test", 1).is_err() {
            return;
        }
        grace().unwrap();
        grace_by_update().unwrap();
    }
}
