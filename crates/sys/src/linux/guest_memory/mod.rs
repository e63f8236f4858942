//! Memory of a guest: a file that another process has as well, mapped for this one.
//!
//! Theory of operation. A [`Mapping`] is made of a memory file once it has passed the checks: a file on tmpfs or
//! hugetlbfs (a memfd is one), open for reading and writing, and long enough. Ranges of it are [`Span`]s, or [`Area`]s
//! where they have to keep the mapping alive; both were checked to be inside. The guest changes its memory at any time,
//! so no reference to it ever exists: every access is an atomic one or an instruction of its own, and a value that
//! matters is read once and checked after.
//!
//! The process that made the file can take pages away from under the mapping: by ftruncate(2), or by a hole that the
//! pool of huge pages cannot fill any more. An access to such a page raises SIGBUS. A handler of that signal looks the
//! address up in a table of all mappings. If it is there, the handler marks the mapping as poisoned, puts zeros in the
//! place of all of it, and the access goes on. If it is not, the signal means what it meant before. So a worker looks
//! at [`Mapping::is_poisoned`] after it has read, before it believes what it read. Nothing on the fast path costs more
//! for this.

#[cfg(target_endian = "big")]
compile_error!("values in guest memory are little endian, as those of the host have to be");

mod access;
mod guard;
mod mapping;
mod span;

pub use guard::{PLACES, faults};
pub use mapping::{Mapping, Refused};
pub use span::{Area, Span, fence};

#[cfg(test)]
mod tests;
