//! `struct sockaddr_un` of macOS (sys/un.h): its length, an 8-bit family and 104 octets of path.

/// Octets of the structure.
pub(super) const LENGTH: usize = 106;
/// Where the path begins.
pub(super) const PATH: usize = 2;
/// AF_UNIX without a path.
pub(super) const EMPTY: [u8; LENGTH] = {
    let mut octets = [0; LENGTH];
    octets[0] = LENGTH as u8;
    octets[1] = 1;
    octets
};
