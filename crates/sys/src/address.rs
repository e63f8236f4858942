//! Addresses of Unix sockets as the kernel gives and takes them.
//!
//! A path may fill all octets that an address has for one. The kernel then gives an address that is an octet longer
//! than it takes, without a NUL inside, and the libraries' decoders panic at it. So only what is here looks into them.

use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use rustix::net::{AddressFamily, SocketAddrAny};

/// Octets in front of the path.
const PATH: usize = std::mem::offset_of!(libc::sockaddr_un, sun_path);

/// Octets of the longest address that bind and connect take.
const LONGEST: usize = size_of::<libc::sockaddr_un>();

fn octets(address: &SocketAddrAny) -> &[u8] {
    // SAFETY: of the address's storage the first `addr_len` octets are initialized, which is the type's invariant, and
    // they live as long as the borrow.
    unsafe { std::slice::from_raw_parts(address.as_ptr().cast(), address.addr_len() as usize) }
}

/// The octets of the path of a Unix socket's address, if it has one.
pub fn unix_path(address: &SocketAddrAny) -> Option<&[u8]> {
    if address.address_family() != AddressFamily::UNIX {
        return None;
    }
    let path = octets(address).get(PATH..)?;
    let path = path.split(|octet| *octet == 0).next()?;
    (!path.is_empty()).then_some(path)
}

/// The address of the Unix socket at `path`; `None` when the path is empty, has a NUL or is too long.
pub fn of_unix_path(path: &Path) -> Option<SocketAddrAny> {
    let path = path.as_os_str().as_bytes();
    let len = PATH + path.len();
    if path.is_empty() || path.contains(&0) || len > LONGEST {
        return None;
    }
    // SAFETY: an address is integers only, for which zero is a value.
    let mut address: libc::sockaddr_un = unsafe { std::mem::zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    for (to, octet) in address.sun_path.iter_mut().zip(path) {
        *to = *octet as libc::c_char;
    }
    // SAFETY: `address` is a Unix socket's address whose first `len` octets are set, and no longer than itself.
    Some(unsafe { SocketAddrAny::read(std::ptr::from_ref(&address).cast(), len as _) })
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::net::{RecvFlags, SendFlags, SocketType, bind, connect, recvfrom, sendto, socket};
    use std::os::unix::ffi::OsStringExt;

    #[test]
    fn paths_of_every_length_and_octet_go_there_and_back() {
        let directory = tempfile::tempdir().unwrap();
        let receiver = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
        let to = of_unix_path(&directory.path().join("to")).unwrap();
        bind(&receiver, &to).unwrap();
        let prefix = directory.path().as_os_str().len() + 1;
        for length in [prefix + 1, LONGEST - PATH - 1, LONGEST - PATH] {
            let mut path = directory.path().join("").into_os_string().into_vec();
            // Not UTF-8.
            path.resize(length, 0xff);
            let path = Path::new(std::ffi::OsStr::from_bytes(&path));
            let sender = socket(AddressFamily::UNIX, SocketType::DGRAM, None).unwrap();
            let from = of_unix_path(path).unwrap();
            if bind(&sender, &from).is_err() && cfg!(target_os = "macos") {
                // Its file systems take only UTF-8.
                continue;
            }
            sendto(&sender, b"x", SendFlags::empty(), &to).unwrap();
            let (_, _, address) = recvfrom(&receiver, &mut [0; 4], RecvFlags::empty()).unwrap();
            let came = unix_path(address.as_ref().unwrap()).unwrap();
            assert_eq!(came, path.as_os_str().as_bytes(), "{length}");
            connect(&receiver, &of_unix_path(path).unwrap()).unwrap();
            rustix::net::connect_unspec(&receiver).unwrap();
        }
        assert!(of_unix_path(Path::new(&"x".repeat(LONGEST - PATH + 1))).is_none());
        assert!(of_unix_path(Path::new("")).is_none() && of_unix_path(Path::new("a\0")).is_none());
    }
}
