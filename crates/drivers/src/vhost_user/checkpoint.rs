//! The positions of packed rings, in a file that outlives the daemon.
//!
//! Theory of operation. The position in a packed ring is in no memory of the guest's, and a front end that connects
//! again may say only where the ring was when it started it (QEMU does). So each port has a file of memory with an
//! entry for each ring, mapped as long as the port is there. An entry holds the front end's process, the BASE that the
//! front end sent when the ring was started, the address and the length of its descriptors, and a word with the ring's
//! last turn: where it began, and where it ended.
//!
//! A turn is published in this order, which a process that is killed keeps: the word; the turn's entries of the ring
//! from the last to the second; the first, which shows all to the guest. So when the ring is started again, its
//! position is always the end of the last turn; if the first entry of that turn is not published, the turn is finished
//! first (`packed::finish`). Nothing is sent twice and no buffer is lost; frames that the daemon had are.
//!
//! An entry is believed if all of these hold: the front end is the same process (its number and when it was started),
//! it sends the same BASE as before, and the descriptors are as many at the same address. If BASE is the beginning, the
//! ring may also be one that a guest's driver has set up anew there, as behind a reset while no daemon ran: then it is
//! fresh, and BASE counts, unless a descriptor has the flag that only a device sets first, or the last turn's first
//! entry is as only a device leaves it (`packed::was_used`). Behind an even number of rounds there may be neither, but
//! then the position is the beginning again. Elsewhere it takes chains of several entries that lie on each other just
//! so and were all offered again, or a turn of the whole ring that was cut off: then BASE is wrong, and the guest's
//! driver has to be loaded again.
//!
//! An entry is erased when its ring is stopped in order, since the front end knows the position from then on, and when
//! the front end that started the ring closes the connection. It stays when the daemon is killed or ends, and when the
//! daemon closes the connection. What is in the file is believed no more than what front ends say: each value is
//! checked against the ring. A file that is cut short is noticed as guests' memory is, and counts as empty.

use std::ffi::OsStr;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{
    AtFlags, FileType, FlockOperation, Mode, OFlags, flock, fstat, ftruncate, openat, statat, unlinkat,
};
use rustix::io::Errno;
use vmlan_sys::guest_memory::{Area, Mapping, Refused, Span};

use super::packed::{self, Cursor, LastTurn};
use crate::unix::{Access, Directory, MadeDirectory};

/// The first 8 octets of a file of this form.
const MAGIC: u64 = u64::from_le_bytes(*b"vmlanrg1");

/// Octets of an entry, and of what is before the first: no two workers write to one cache line.
const ENTRY: u64 = 64;

/// The most rings of a port.
const RINGS: usize = 256;

/// Octets of a file: whole pages of every size that there is.
const SIZE: u64 = 64 << 10;

const _: () = assert!(ENTRY * (RINGS as u64 + 1) <= SIZE);

/// Where an entry has what, in octets.
const WORD: usize = 0;
const STARTED: usize = 8;
const ADDRESS: usize = 16;
const NUM_AND_BASE: usize = 24;
/// The process; 0 in an entry that is not used. Written last.
const PROCESS: usize = 32;

/// The end of the names of such files.
pub const EXTENSION: &str = "rings";

/// How often a file is looked for again that was removed meanwhile.
const TRIES: usize = 10;

/// A process, which no later one with its number is taken for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Process {
    pid: u32,
    /// When it was started, in ticks since the system was.
    started: u64,
}

impl Process {
    /// The process with this number; nothing when it is gone, or the system does not show it.
    pub fn of(pid: u32) -> Option<Process> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name in parentheses may have anything in it. Behind it is the third field, and this is the 22nd.
        let (_, fields) = stat.rsplit_once(')')?;
        let started = fields.split_ascii_whitespace().nth(19)?.parse().ok()?;
        Some(Process { pid, started }).filter(|process| process.pid != 0)
    }
}

/// Where a turn began and ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Turn {
    pub(crate) from: Cursor,
    pub(crate) to: Cursor,
    /// Its chains were written to.
    pub(crate) writes: bool,
}

impl Turn {
    /// The state before the first turn.
    pub(crate) fn none(at: Cursor) -> Turn {
        Turn { from: at, to: at, writes: false }
    }

    fn bits(self) -> u64 {
        u64::from(self.from.bits()) | u64::from(self.to.bits()) << 16 | u64::from(self.writes) << 32
    }

    /// Of a ring with `num` entries, if it can be one.
    fn from_bits(bits: u64, num: u16) -> Option<Turn> {
        let (from, to) = (Cursor::from_bits(bits as u16), Cursor::from_bits((bits >> 16) as u16));
        let is_ahead = match from.wrap == to.wrap {
            true => from.index <= to.index,
            false => to.index <= from.index,
        };
        let fits = is_ahead && from.index < num && to.index < num && bits >> 33 == 0;
        fits.then_some(Turn { from, to, writes: bits >> 32 != 0 })
    }
}

/// The word of an entry.
#[derive(Clone)]
pub(crate) struct Word(Area);

impl Word {
    /// Notes a turn that is about to be published.
    #[inline]
    pub(crate) fn store(&self, turn: Turn) {
        self.0.span().store_u64(WORD, turn.bits());
    }
}

/// The file of a port, which no other process has meanwhile. When it is dropped without any entry, it is removed; one
/// of a port that is no more is removed when another port opens its own and the front ends in it are gone.
pub struct Checkpoints {
    mapping: Arc<Mapping>,
    file: OwnedFd,
    directory: Arc<Directory>,
    name: Box<OsStr>,
    /// The directory, if it was made for the file: removed with the last one in it.
    _made: Option<MadeDirectory>,
}

impl Checkpoints {
    /// Opens the file at `path`, or makes it, and its directory.
    ///
    /// # Errors
    /// The file is another's, or on no file system in memory; [`io::ErrorKind::WouldBlock`] when it is in use.
    pub fn open(path: &Path) -> io::Result<Checkpoints> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let parent = path.parent().ok_or(Errno::INVAL)?;
        let opened = Directory::open_or_make(parent, Access::of(crate::unix::ENTERABLE));
        let (directory, made) = opened.map_err(io::Error::other)?;
        if !directory.is_ours_alone() {
            return Err(io::Error::other("its directory is not this user's alone"));
        }
        for other in directory.names()?.iter().filter(|other| *other != name && is_of_rings(other)) {
            // An error: it is in use, or none of ours. It is looked at again with the next port.
            let _ = remove_if_dead(&directory, other);
        }
        for _ in 0..TRIES {
            let Some(file) = lock(&directory, name, OFlags::CREATE)? else { continue };
            let mapping = match Checkpoints::map(&file)? {
                Ok(mapping) => mapping,
                Err(Refused::FileSystem(_)) => {
                    // Nothing can ever be kept in it.
                    unlinkat(&directory, name, AtFlags::empty())?;
                    return Err(io::Error::other(
                        "the file for them is not on tmpfs; let RUNTIME_DIRECTORY or XDG_RUNTIME_DIR name a directory \
                         that is",
                    ));
                }
                Err(refused) => return Err(io::Error::other(refused)),
            };
            let name = name.into();
            let checkpoints = Checkpoints { mapping: Arc::new(mapping), file, directory, name, _made: made };
            checkpoints.initialize();
            return Ok(checkpoints);
        }
        Err(Errno::WOULDBLOCK.into())
    }

    fn map(file: &OwnedFd) -> io::Result<Result<Mapping, Refused>> {
        if fstat(file)?.st_size as u64 != SIZE {
            // All of it is zeros then.
            ftruncate(file, 0)?;
            ftruncate(file, SIZE)?;
        }
        Ok(Mapping::new(file.as_fd(), 0, SIZE))
    }

    /// Empties a file that is new, or has another form.
    fn initialize(&self) {
        let all = self.mapping.span(0, SIZE).expect("it has been mapped");
        if all.load_u64(0) != MAGIC {
            (0..RINGS).for_each(|index| self.area(index).span().store_u64(PROCESS, 0));
            all.store_u64_release(0, MAGIC);
        }
    }

    /// Its place, for messages.
    pub fn path(&self) -> PathBuf {
        self.directory.path().join(&*self.name)
    }

    fn area(&self, index: usize) -> Area {
        let offset = ENTRY * (index as u64 + 1);
        self.mapping.area(offset, ENTRY).expect("there is an entry for every ring")
    }

    /// The entry of a ring that `front_end` starts, which knows it to be at `base`.
    pub(super) fn entry(&self, index: usize, front_end: Process, base: u32) -> Option<Checkpoint> {
        if index >= RINGS || self.mapping.is_poisoned() {
            return None;
        }
        Some(Checkpoint { area: self.area(index), front_end, base })
    }

    fn is_empty(&self) -> bool {
        (0..RINGS).all(|index| self.area(index).span().load_u64(PROCESS) == 0)
    }
}

impl Drop for Checkpoints {
    fn drop(&mut self) {
        if self.is_empty() {
            // It is locked, so nobody else has it.
            let _ = unlinkat(&*self.directory, &*self.name, AtFlags::empty());
        }
        // Explicitly, for a child that inherited the descriptor by a fault would hold the lock.
        let _ = flock(&self.file, FlockOperation::Unlock);
    }
}

fn is_of_rings(name: &OsStr) -> bool {
    Path::new(name).extension().is_some_and(|extension| extension == EXTENSION)
}

/// Opens a file and locks it; nothing if another has taken its name meanwhile.
fn lock(directory: &Directory, name: &OsStr, flags: OFlags) -> io::Result<Option<OwnedFd>> {
    let flags = flags | OFlags::RDWR | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = openat(directory, name, flags, Mode::RUSR | Mode::WUSR)?;
    let stat = fstat(&file)?;
    let is_private = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_uid == rustix::process::geteuid().as_raw()
        && !Mode::from_raw_mode(stat.st_mode).intersects(Mode::RWXG | Mode::RWXO);
    if !is_private {
        return Err(io::Error::other("something else is there, or others can open it"));
    }
    flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    match statat(directory, name, AtFlags::SYMLINK_NOFOLLOW) {
        Ok(there) => Ok(((there.st_dev, there.st_ino) == (stat.st_dev, stat.st_ino)).then_some(file)),
        Err(Errno::NOENT) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// Removes the file of a port that no daemon serves, if all front ends in it are gone.
fn remove_if_dead(directory: &Directory, name: &OsStr) -> io::Result<()> {
    let Some(file) = lock(directory, name, OFlags::empty())? else { return Ok(()) };
    let mut all = vec![0; SIZE as usize];
    let read = rustix::io::pread(&file, &mut all, 0)?;
    let is_alive = |entry: &[u8]| {
        let value = |offset: usize| {
            let octets = entry.get(offset..offset + 8).and_then(|octets| octets.try_into().ok());
            octets.map_or(0, u64::from_le_bytes)
        };
        let pid = u32::try_from(value(PROCESS)).unwrap_or(0);
        pid != 0 && Process::of(pid).is_some_and(|process| process.started == value(STARTED))
    };
    if !all[..read].chunks(ENTRY as usize).skip(1).any(is_alive) {
        unlinkat(directory, name, AtFlags::empty())?;
    }
    Ok(())
}

/// The entry of a ring, and what it is to be compared with.
#[derive(Clone)]
pub struct Checkpoint {
    area: Area,
    front_end: Process,
    /// As the front end sent it.
    base: u32,
}

/// A packed ring that is started.
#[derive(Clone, Copy)]
pub(crate) struct Starting<'a> {
    /// Where the front end has its descriptors.
    pub(crate) address: u64,
    pub(crate) table: Span<'a>,
    pub(crate) num: u16,
    /// Where it begins, unless the entry says otherwise.
    pub(crate) base: Cursor,
}

impl Checkpoint {
    /// The position of the ring, which is noted from then on; and whether the table was written to for that.
    pub(crate) fn begin(&self, ring: Starting<'_>) -> (Cursor, bool) {
        let span = self.area.span();
        let Process { pid, started } = self.front_end;
        let num_and_base = u64::from(ring.num) | u64::from(self.base) << 32;
        let key = [
            (STARTED, started),
            (ADDRESS, ring.address),
            (NUM_AND_BASE, num_and_base),
            (PROCESS, pid.into()),
        ];
        let is_the_rings = key.iter().all(|(offset, value)| span.load_u64(*offset) == *value);
        let believed = is_the_rings.then(|| self.position(ring)).flatten();
        let (position, wrote) = match believed {
            Some((position, last)) => (position, last == LastTurn::Finished),
            None => (ring.base, false),
        };
        if !is_the_rings {
            // An entry that is written in part is none.
            self.erase();
        }
        span.store_u64(WORD, Turn::none(position).bits());
        key.iter().for_each(|(offset, value)| span.store_u64_release(*offset, *value));
        (position, wrote)
    }

    /// The position by the entry, which is of this ring or of one that was in its place.
    fn position(&self, ring: Starting<'_>) -> Option<(Cursor, LastTurn)> {
        let span = self.area.span();
        let turn = Turn::from_bits(span.load_u64(WORD), ring.num)?;
        let may_be_fresh = Cursor::from_bits(self.base as u16) == Cursor::BEGINNING;
        if may_be_fresh && !packed::was_used(ring.table, ring.num, turn) {
            return None;
        }
        match packed::finish(ring.table, ring.num, turn) {
            LastTurn::Unknown => None,
            last => Some((turn.to, last)),
        }
    }

    /// The part that is written with each turn.
    pub(crate) fn word(&self) -> Word {
        Word(self.area.clone())
    }

    /// Forgets the ring.
    pub(crate) fn erase(&self) {
        self.area.span().store_u64_release(PROCESS, 0);
    }
}

#[cfg(test)]
impl Checkpoint {
    /// An entry of no file.
    pub(crate) fn plain(front_end: Process, base: u32) -> Checkpoint {
        let mapping = Arc::new(Mapping::plain(ENTRY as usize));
        Checkpoint { area: mapping.area(0, ENTRY).unwrap(), front_end, base }
    }

    /// The same entry, as another front end or with another BASE.
    pub(crate) fn of(&self, front_end: Process, base: u32) -> Checkpoint {
        Checkpoint { area: self.area.clone(), front_end, base }
    }

    pub(crate) fn set_word(&self, word: u64) {
        self.area.span().store_u64(WORD, word);
    }
}

#[cfg(test)]
#[path = "checkpoint_tests.rs"]
mod tests;
