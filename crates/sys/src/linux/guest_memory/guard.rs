//! The handler of SIGBUS, and the table of mappings that it looks addresses up in.
//!
//! A place of the table is free, claimed, or live. The state is the low two bits of a number that also counts changes,
//! so that the handler sees when a place changed while it read it. It passes such a place over: the mapping that it was
//! interrupted at is in use, and its place does not change meanwhile.

use std::ffi::c_void;
use std::io;
use std::os::raw::c_int;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering, fence};

use rustix::mm::{MapFlags, ProtFlags, mmap_anonymous};

/// Mappings that there can be at most.
pub const PLACES: usize = 4096;

/// All mappings of files.
pub(super) static TABLE: Table<PLACES> = Table::new();

/// How often the handler replaced a mapping.
static FAULTS: AtomicU64 = AtomicU64::new(0);

/// How often a mapping of this process was poisoned: as long as it is the same, there is none to look for.
#[inline]
pub fn faults() -> u64 {
    // As for `Place::is_poisoned`.
    fence(Ordering::Acquire);
    FAULTS.load(Ordering::Relaxed)
}

const FREE: usize = 0;
const CLAIMED: usize = 1;
const LIVE: usize = 2;
const STATES: usize = 4;

#[derive(Debug)]
struct Entry {
    /// The state, and STATES times the number of its changes.
    state: AtomicUsize,
    /// Address.
    start: AtomicUsize,
    /// Octets.
    len: AtomicUsize,
    /// Octets of a page.
    page: AtomicUsize,
    poisoned: AtomicBool,
}

impl Entry {
    const fn new() -> Entry {
        Entry {
            state: AtomicUsize::new(FREE),
            start: AtomicUsize::new(0),
            len: AtomicUsize::new(0),
            page: AtomicUsize::new(1),
            poisoned: AtomicBool::new(false),
        }
    }

    /// Changes the state, by the thread that has the place.
    fn change(&self, to: usize) {
        let now = self.state.load(Ordering::Relaxed);
        self.state.store(next(now, to), Ordering::Release);
    }

    /// The mapping, if this is the one that the address is in.
    fn find(&self, address: usize) -> Option<Found<'_>> {
        let state = self.state.load(Ordering::Acquire);
        if state % STATES != LIVE {
            return None;
        }
        let start = self.start.load(Ordering::Relaxed);
        let len = self.len.load(Ordering::Relaxed);
        let page = self.page.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let is_whole = self.state.load(Ordering::Relaxed) == state;
        (is_whole && address.wrapping_sub(start) < len).then_some(Found { start, len, page, entry: self })
    }
}

fn next(state: usize, to: usize) -> usize {
    (state / STATES).wrapping_add(1).wrapping_mul(STATES) + to
}

/// A mapping that an address is in.
struct Found<'a> {
    start: usize,
    len: usize,
    page: usize,
    entry: &'a Entry,
}

/// Places for mappings, without locks.
pub(super) struct Table<const N: usize> {
    entries: [Entry; N],
}

impl<const N: usize> Table<N> {
    pub(super) const fn new() -> Table<N> {
        Table { entries: [const { Entry::new() }; N] }
    }

    /// Takes a free place; nothing when there is none.
    pub(super) fn claim(&'static self) -> Option<Place> {
        let is_taken = |entry: &&Entry| {
            let state = entry.state.load(Ordering::Relaxed);
            let (acquire, relaxed) = (Ordering::Acquire, Ordering::Relaxed);
            state % STATES == FREE
                && entry.state.compare_exchange(state, next(state, CLAIMED), acquire, relaxed).is_ok()
        };
        let entry = self.entries.iter().find(is_taken)?;
        entry.poisoned.store(false, Ordering::Relaxed);
        Some(Place { entry })
    }

    /// The mapping that an address is in.
    fn find(&self, address: usize) -> Option<Found<'_>> {
        self.entries.iter().find_map(|entry| entry.find(address))
    }
}

/// A place of a table, for one mapping. Dropping it makes the place free.
#[derive(Debug)]
pub(super) struct Place {
    entry: &'static Entry,
}

impl Place {
    /// Has the handler answer for `len` octets from this address, in pages of `page` octets.
    pub(super) fn publish(&self, start: usize, len: usize, page: usize) {
        // The state said already that the place is none; the handler must not see what follows before that.
        fence(Ordering::Release);
        self.entry.start.store(start, Ordering::Relaxed);
        self.entry.len.store(len, Ordering::Relaxed);
        self.entry.page.store(page, Ordering::Relaxed);
        self.entry.change(LIVE);
    }

    /// Has the handler forget the mapping.
    pub(super) fn withdraw(&self) {
        self.entry.change(CLAIMED);
    }

    /// True if the handler replaced the mapping.
    #[inline]
    pub(super) fn is_poisoned(&self) -> bool {
        // Zeros that were read before this were put there after the mark.
        fence(Ordering::Acquire);
        self.entry.poisoned.load(Ordering::Relaxed)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.entry.change(FREE);
    }
}

/// Installs the handler, the first time.
///
/// # Errors
/// Errors of sigaction(2).
pub(super) fn install() -> io::Result<()> {
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();
    let install = || {
        PREVIOUS.get_or_init(|| exchange(None).unwrap_or(DEFAULT));
        let mut ours = DEFAULT;
        let handler: extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void) = handle;
        ours.sa_sigaction = handler as libc::sighandler_t;
        // On the thread's own stack for signals, where it has one: the earlier handler looks for overflows of stacks.
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        exchange(Some(&ours)).map(drop).map_err(|error| error.raw_os_error().unwrap_or(libc::EINVAL))
    };
    (*INSTALLED.get_or_init(install)).map_err(io::Error::from_raw_os_error)
}

/// The action that SIGBUS had before.
static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();

/// The end of the process.
// SAFETY: sigaction is plain integers and an optional function; zero is a valid value of each.
const DEFAULT: libc::sigaction = unsafe { std::mem::zeroed() };

/// Sets the action of SIGBUS, or leaves it; answers the action before.
fn exchange(action: Option<&libc::sigaction>) -> io::Result<libc::sigaction> {
    let mut previous = DEFAULT;
    let action = action.map_or(std::ptr::null(), std::ptr::from_ref);
    // SAFETY: both are null or valid, and the handler may run in every thread at every time.
    match unsafe { libc::sigaction(libc::SIGBUS, action, &mut previous) } {
        0 => Ok(previous),
        _ => Err(io::Error::last_os_error()),
    }
}

/// The handler of SIGBUS. It takes no lock, allocates nothing, and leaves errno as it is.
extern "C" fn handle(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: with SA_SIGINFO the kernel gives a valid one.
    let code = unsafe { (*info).si_code };
    // Signals of kill(2) have codes up to 0, and no address.
    if code > 0 {
        // SAFETY: as above, and the kernel's own codes of SIGBUS have an address.
        let address = unsafe { (*info).si_addr() }.addr();
        if let Some(found) = TABLE.find(address)
            && replace(&found, address)
        {
            return;
        }
    }
    pass_on(signal, info, context, code);
}

/// Marks the mapping as poisoned and puts zeros in its place. False when the kernel does not let it.
fn replace(found: &Found<'_>, address: usize) -> bool {
    // First the mark: a thread that reads a zero sees it.
    found.entry.poisoned.store(true, Ordering::SeqCst);
    FAULTS.fetch_add(1, Ordering::SeqCst);
    // All of it at once takes less than page by page, and is the only way with huge pages. Where memory is never
    // promised twice, a large one can fail, and a page does not.
    let page = address - address % found.page;
    zero(found.start, found.len) || zero(page, found.page)
}

/// Maps zeros of our own at these addresses.
fn zero(start: usize, len: usize) -> bool {
    let access = ProtFlags::READ | ProtFlags::WRITE;
    let flags = MapFlags::PRIVATE | MapFlags::FIXED | MapFlags::NORESERVE;
    let address = std::ptr::with_exposed_provenance_mut(start);
    // SAFETY: the addresses are of a mapping that a thread is in the middle of an access to, so it is not given back
    // meanwhile. Nothing refers to its octets, which may change at any time.
    unsafe { mmap_anonymous(address, len, access, flags) }.is_ok()
}

/// Does what would have been done without this handler.
fn pass_on(signal: c_int, info: *mut libc::siginfo_t, context: *mut c_void, code: c_int) {
    let previous = PREVIOUS.get().copied().unwrap_or(DEFAULT);
    match previous.sa_sigaction {
        libc::SIG_IGN if code <= 0 => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // The access is repeated when this returns, and ends the process then. A signal that was sent is not.
            let _ = exchange(Some(&DEFAULT));
            if code <= 0 {
                // SAFETY: raise(3) may be called in handlers; the signal waits until this one returns.
                unsafe { libc::raise(signal) };
            }
        }
        handler if previous.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void);
            // SAFETY: with SA_SIGINFO it is a function of this type.
            let handler = unsafe { std::mem::transmute::<libc::sighandler_t, Handler>(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: without SA_SIGINFO it is a function of this type.
            let handler = unsafe { std::mem::transmute::<libc::sighandler_t, extern "C" fn(c_int)>(handler) };
            handler(signal);
        }
    }
}
