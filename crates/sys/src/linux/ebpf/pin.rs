//! Names for tables and links in the BPF file system, by which they outlive the process that made them.
//!
//! An object that is opened by a name may be of any kind. The kernel is asked of which before anything relies on it.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use super::{bpf, bpf_mut};

/// Commands, `enum bpf_cmd` of linux/bpf.h.
const OBJECT_PIN: libc::c_long = 6;
const OBJECT_GET: libc::c_long = 7;
const OBJECT_INFO: libc::c_long = 15;

/// `BPF_LINK_TYPE_TCX`.
const LINK_OF_TCX: u32 = 11;

/// `union bpf_attr` of OBJECT_PIN and OBJECT_GET.
#[repr(C)]
struct Named {
    path: u64,
    fd: u32,
    flags: u32,
}

/// `union bpf_attr` of OBJECT_INFO.
#[repr(C)]
struct Ask {
    fd: u32,
    octets: u32,
    to: u64,
}

/// Gives the object a name, an absolute path in a BPF file system; no part of it may have a dot.
///
/// # Errors
/// `EEXIST` when the name is taken; `EPERM` for a name with a dot and without the right; `EINVAL` elsewhere than in
/// such a file system.
pub(super) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let request =
        Named { path: path.as_ptr().expose_provenance() as u64, fd: object.as_raw_fd() as u32, flags: 0 };
    // SAFETY: OBJECT_PIN reads text up to its zero at `path`, which lives through the call.
    unsafe { bpf(OBJECT_PIN, &request) }.map(drop)
}

/// Opens what has this name; `None` when nothing has.
///
/// # Errors
/// Errors of bpf(2).
pub(super) fn open(path: &Path) -> io::Result<Option<OwnedFd>> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    let request = Named { path: path.as_ptr().expose_provenance() as u64, fd: 0, flags: 0 };
    // SAFETY: OBJECT_GET reads text up to its zero at `path`, which lives through the call.
    match unsafe { bpf(OBJECT_GET, &request) } {
        // SAFETY: the call has just made this descriptor, and nobody else knows it.
        Ok(fd) => Ok(Some(unsafe { OwnedFd::from_raw_fd(fd) })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The first numbers of what the kernel tells of an object (`struct bpf_map_info`, `struct bpf_link_info`); `None` when
/// it tells fewer, as of another kind of object or where it is old.
fn ask<const COUNT: usize>(object: BorrowedFd<'_>) -> Option<[u32; COUNT]> {
    let mut numbers = [0; COUNT];
    let mut request = Ask {
        fd: object.as_raw_fd() as u32,
        octets: size_of_val(&numbers) as u32,
        to: (&raw mut numbers).expose_provenance() as u64,
    };
    // SAFETY: OBJECT_INFO writes at most `octets` octets to `to`, where there are as many that live through the call,
    // and any bits are a value of them.
    unsafe { bpf_mut(OBJECT_INFO, &mut request) }.ok()?;
    (request.octets as usize >= size_of_val(&numbers)).then_some(numbers)
}

/// True if the object is a table of this type, sizes of keys and values, limit and flags.
pub(super) fn is_table(object: BorrowedFd<'_>, wanted: [u32; 5]) -> bool {
    ask(object).is_some_and(|[map_type, _id, sizes_and_more @ ..]: [u32; 6]| {
        wanted[0] == map_type && wanted[1..] == sizes_and_more
    })
}

/// The interface and the type of attachment of a link of a classifier to an interface's own hook; `None` for any other
/// object. The interface is 0 when it is gone or the link was taken off it.
pub(super) fn place_of(object: BorrowedFd<'_>) -> Option<(u32, u32)> {
    // What a kind of link has of its own begins at a multiple of eight octets.
    let [link_type, _id, _program, _padding, interface, attach_type] = ask(object)?;
    (link_type == LINK_OF_TCX).then_some((interface, attach_type))
}

/// True if the directory is of a BPF file system.
pub fn is_bpf(directory: impl AsFd) -> bool {
    /// `BPF_FS_MAGIC` of linux/magic.h.
    const MAGIC: u32 = 0xcafe_4a11;
    rustix::fs::fstatfs(directory).is_ok_and(|found| found.f_type as u32 == MAGIC)
}

/// Mounts a BPF file system, which only its user may enter.
///
/// # Errors
/// `EPERM` without CAP_SYS_ADMIN; `ENODEV` from a kernel without it; `ENOENT` without the directory.
pub fn mount_bpf(at: &Path) -> io::Result<()> {
    let at = CString::new(at.as_os_str().as_bytes())?;
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: each pointer is to text with a zero at its end, which lives through the call.
    let mounted = unsafe {
        libc::mount(c"bpf".as_ptr(), at.as_ptr(), c"bpf".as_ptr(), flags, c"mode=0700".as_ptr().cast())
    };
    if mounted == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
