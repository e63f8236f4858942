use std::alloc::Layout;
use std::error::Error;
use std::ffi::c_void;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::ptr::NonNull;
use std::sync::Arc;

use rustix::fs::{FileType, OFlags, SealFlags, fcntl_get_seals, fcntl_getfl, fstat, fstatfs};
use rustix::io::Errno;
use rustix::mm::{Advice, MapFlags, ProtFlags, madvise, mmap, mmap_anonymous, munmap};

use super::guard::{self, Place};
use super::span::{Area, Span};

/// File systems whose files are memory: the numbers of linux/magic.h.
const TMPFS: u64 = 0x0102_1994;
const HUGETLBFS: u64 = 0x9584_58f6;

/// Mappings of this size and more are aligned to it, so that transparent huge pages fit (octets).
const HUGE: usize = 2 << 20;

/// The reason why a descriptor is not mapped as a guest's memory.
#[derive(Debug)]
pub enum Refused {
    /// The descriptor is no regular file.
    NotAFile,
    /// The file system is neither tmpfs nor hugetlbfs; its number in linux/magic.h.
    FileSystem(u64),
    /// The descriptor is not open for reading and writing.
    NotWritable,
    /// The file is sealed against writing (`F_SEAL_WRITE`, `F_SEAL_FUTURE_WRITE`).
    Sealed,
    /// The size is 0.
    Empty,
    /// The offset or the size is no multiple of the file's pages; all in octets.
    Unaligned {
        /// The first octet in the file.
        offset: u64,
        /// Octets from there.
        size: u64,
        /// Octets of a page of the file.
        page: u64,
    },
    /// The range ends beyond the file's end, or beyond every number; all in octets.
    Beyond {
        /// The first octet in the file.
        offset: u64,
        /// Octets from there.
        size: u64,
        /// Octets of the file.
        file: u64,
    },
    /// The process has as many mappings already as the guard can watch.
    Full,
    /// A system call failed.
    System(&'static str, io::Error),
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Refused::NotAFile => f.write_str(
                "the guest's memory is no file; give the guest a memfd (QEMU: memory-backend-memfd)",
            ),
            Refused::FileSystem(magic) => write!(
                f,
                "the guest's memory is a file on a file system (0x{magic:x}) where an access can block or fail; use a \
                 memfd (QEMU: memory-backend-memfd), or a file on tmpfs or hugetlbfs"
            ),
            Refused::NotWritable => f.write_str(
                "the guest's memory is not open for reading and writing; open the memfd with O_RDWR",
            ),
            Refused::Sealed => f.write_str(
                "the guest's memory is sealed against writing; make the memfd without F_SEAL_WRITE and \
                 F_SEAL_FUTURE_WRITE",
            ),
            Refused::Empty => f.write_str(
                "a region of the guest's memory has 0 octets; give it a part of the memfd that has some",
            ),
            Refused::Unaligned { offset, size, page } => write!(
                f,
                "offset {offset} and size {size} of a region are no multiples of the {page} octets of a page of the \
                 memfd; align both"
            ),
            Refused::Beyond { offset, size, file } => write!(
                f,
                "a region of {size} octets from {offset} ends beyond the memfd, which has {file}; make the memfd longer"
            ),
            Refused::Full => write!(
                f,
                "{} regions of guests' memory are mapped already, which is the most; give each guest one memfd, or \
                 remove guests",
                guard::PLACES
            ),
            Refused::System(call, _) => write!(
                f,
                "the memfd of the guest's memory cannot be mapped: {call} failed; look at RLIMIT_AS, vm.max_map_count \
                 and the memory that is free"
            ),
        }
    }
}

impl Error for Refused {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Refused::System(_, error) => Some(error),
            _ => None,
        }
    }
}

/// Makes an error of a failed call.
fn system(call: &'static str) -> impl Fn(Errno) -> Refused {
    move |error| Refused::System(call, error.into())
}

/// A shared mapping of a guest's memory file, with pages on both sides that nothing may access. An access beyond the
/// end that the file has by then does not end the process: it poisons the mapping.
#[derive(Debug)]
pub struct Mapping {
    start: NonNull<u8>,
    len: usize,
    backing: Backing,
}

#[derive(Debug)]
enum Backing {
    File { place: Place, sealed: bool, _reservation: Reservation },
    Plain(Layout),
}

// SAFETY: a mapping belongs to the process and not to a thread, and is given back by whichever thread drops it.
unsafe impl Send for Mapping {}
// SAFETY: a shared one gives out spans only, whose accesses are atomic or instructions of their own.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `size` octets of a file from `offset`, both multiples of its pages. The descriptor may be closed after.
    /// Dropping the mapping can take long: if nothing else has the file any more, all its memory is freed.
    ///
    /// # Errors
    /// The texts of [`Refused`] say what is wrong with the file, and what to do.
    pub fn new(file: BorrowedFd<'_>, offset: u64, size: u64) -> Result<Mapping, Refused> {
        let checked = Checked::new(file)?;
        if !size.is_multiple_of(checked.page) {
            return Err(Refused::Unaligned { offset, size, page: checked.page });
        }
        checked.map(file, offset, size)
    }

    /// Maps `size` octets of a file from `offset` as [`Mapping::new`] does, but the size need not be a multiple of the
    /// file's pages: a log of dirty pages has as many octets as it needs (vhost-user.rst, "Migration").
    ///
    /// # Errors
    /// As [`Mapping::new`].
    pub fn of_log(file: BorrowedFd<'_>, offset: u64, size: u64) -> Result<Mapping, Refused> {
        Checked::new(file)?.map(file, offset, size)
    }

    /// Makes plain memory of this process, zeroed, for tests of code that walks guest memory. The octets are aligned to
    /// 4,096.
    ///
    /// # Panics
    /// Without memory.
    pub fn plain(size: usize) -> Mapping {
        let layout = Layout::from_size_align(size.max(1), 4096).expect("the size is less than isize::MAX");
        // SAFETY: the layout has at least one octet.
        let start = unsafe { std::alloc::alloc_zeroed(layout) };
        let start = NonNull::new(start).expect("there is memory");
        Mapping { start, len: size, backing: Backing::Plain(layout) }
    }

    /// Octets of the mapping.
    #[expect(clippy::len_without_is_empty, reason = "a mapping of a file has at least one octet")]
    pub fn len(&self) -> usize {
        self.len
    }

    /// True if an access met a page that the file does not have any more. From then on all octets are memory of this
    /// process, zeros at first, and the guest sees nothing of it.
    pub fn is_poisoned(&self) -> bool {
        match &self.backing {
            Backing::File { place, .. } => place.is_poisoned(),
            Backing::Plain(_) => false,
        }
    }

    /// True if the file could not be made shorter when it was mapped (`F_SEAL_SHRINK`). Holes are possible all the
    /// same.
    pub fn is_sealed(&self) -> bool {
        matches!(self.backing, Backing::File { sealed: true, .. })
    }

    /// The `len` octets from `offset`; nothing when they are not all inside.
    #[inline]
    pub fn span(&self, offset: u64, len: u64) -> Option<Span<'_>> {
        let (offset, len) = (usize::try_from(offset).ok()?, usize::try_from(len).ok()?);
        // SAFETY: all octets of the mapping are mapped for as long as it is borrowed.
        unsafe { Span::new(self.start, self.len) }.slice(offset, len)
    }

    /// The `len` octets from `offset`, which keep the mapping; nothing when they are not all inside.
    pub fn area(self: &Arc<Self>, offset: u64, len: u64) -> Option<Area> {
        Area::new(self, offset, len)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        match &self.backing {
            // The guard forgets the mapping before the reservation, a field, is given back.
            Backing::File { place, .. } => place.withdraw(),
            // SAFETY: `plain` allocated it with this layout, and no span outlives the mapping.
            Backing::Plain(layout) => unsafe { std::alloc::dealloc(self.start.as_ptr(), *layout) },
        }
    }
}

/// The properties of a file that can be a guest's memory.
struct Checked {
    /// Octets of a page: of a huge one on hugetlbfs.
    page: u64,
    /// Octets.
    len: u64,
    sealed: bool,
}

impl Checked {
    fn new(file: BorrowedFd<'_>) -> Result<Checked, Refused> {
        let stat = fstat(file).map_err(system("fstat"))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return Err(Refused::NotAFile);
        }
        let system_of = fstatfs(file).map_err(system("fstatfs"))?;
        let magic = system_of.f_type as u64 & 0xffff_ffff;
        if ![TMPFS, HUGETLBFS].contains(&magic) {
            return Err(Refused::FileSystem(magic));
        }
        let flags = fcntl_getfl(file).map_err(system("fcntl"))?;
        if flags & OFlags::RWMODE != OFlags::RDWR {
            return Err(Refused::NotWritable);
        }
        let seals = match fcntl_get_seals(file) {
            // Without support for seals there are none.
            Err(Errno::INVAL) => SealFlags::empty(),
            seals => seals.map_err(system("fcntl"))?,
        };
        if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
            return Err(Refused::Sealed);
        }
        // The size of a page, where st_blksize can be that of a transparent huge page, which nothing is aligned to.
        let page = system_of.f_bsize as u64;
        Ok(Checked { page, len: stat.st_size as u64, sealed: seals.contains(SealFlags::SHRINK) })
    }

    fn map(&self, file: BorrowedFd<'_>, offset: u64, size: u64) -> Result<Mapping, Refused> {
        let page = self.page;
        let beyond = || Refused::Beyond { offset, size, file: self.len };
        if size == 0 {
            return Err(Refused::Empty);
        }
        if !offset.is_multiple_of(page) {
            return Err(Refused::Unaligned { offset, size, page });
        }
        if offset.checked_add(size).is_none_or(|end| end > self.len) {
            return Err(beyond());
        }
        // Neither overflows: the file has the octets, and a file has less than 2^63.
        let len = usize::try_from(size).map_err(|_| beyond())?;
        let mapped = usize::try_from(size.next_multiple_of(page)).map_err(|_| beyond())?;

        guard::install().map_err(|error| Refused::System("sigaction", error))?;
        let place = guard::TABLE.claim().ok_or(Refused::Full)?;
        let reservation = Reservation::new(mapped, page as usize)?;
        let start = reservation.map(file, offset, mapped)?;
        place.publish(start.expose_provenance().get(), mapped, page as usize);
        let backing = Backing::File { place, sealed: self.sealed, _reservation: reservation };
        Ok(Mapping { start, len, backing })
    }
}

/// Addresses that nothing else is mapped at, with at least one page more on each side of the mapping in it.
#[derive(Debug)]
struct Reservation {
    address: NonNull<c_void>,
    len: usize,
    /// Of the first octet that is to be mapped.
    start: NonNull<u8>,
}

impl Reservation {
    fn new(mapped: usize, page: usize) -> Result<Reservation, Refused> {
        let alignment = if mapped >= HUGE { page.max(HUGE) } else { page };
        let too_long = || Refused::System("mmap", io::ErrorKind::OutOfMemory.into());
        let len = mapped.checked_add(2 * page + alignment).ok_or_else(too_long)?;
        let flags = MapFlags::PRIVATE | MapFlags::NORESERVE;
        // SAFETY: no address is asked for, so nothing that is mapped already changes.
        let address = unsafe { mmap_anonymous(std::ptr::null_mut(), len, ProtFlags::empty(), flags) };
        let address = NonNull::new(address.map_err(system("mmap"))?).ok_or_else(too_long)?;
        let first = address.addr().get() + page;
        let guard = page + (first.next_multiple_of(alignment) - first);
        // SAFETY: the guard is less than a page and the alignment together, so it ends within the reservation.
        let start = unsafe { address.cast::<u8>().add(guard) };
        Ok(Reservation { address, len, start })
    }

    /// Maps `len` octets of the file into it, for which it was made.
    fn map(&self, file: BorrowedFd<'_>, offset: u64, len: usize) -> Result<NonNull<u8>, Refused> {
        let start = self.start.as_ptr().cast();
        let access = ProtFlags::READ | ProtFlags::WRITE;
        let flags = MapFlags::SHARED | MapFlags::FIXED | MapFlags::NORESERVE;
        // SAFETY: the reservation has so many octets from `start`, and nothing uses them yet.
        unsafe { mmap(start, len, access, flags, file.as_fd(), offset) }.map_err(system("mmap"))?;
        // A dump of this process does not hold guests' memory, and no child gets it.
        for advice in [Advice::LinuxDontDump, Advice::LinuxDontFork] {
            // SAFETY: neither changes what is in memory.
            unsafe { madvise(start, len, advice) }.map_err(system("madvise"))?;
        }
        Ok(self.start)
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        // SAFETY: the addresses are ours, with what is mapped in them, and no span outlives its mapping.
        let _ = unsafe { munmap(self.address.as_ptr(), self.len) };
    }
}
