//! `struct sockaddr_un` of Linux (unix(7)): a 16-bit family in host order and 108 octets of path.

/// Octets of the structure.
pub(super) const LENGTH: usize = 110;
/// Where the path begins.
pub(super) const PATH: usize = 2;
/// AF_UNIX without a path.
pub(super) const EMPTY: [u8; LENGTH] = {
    let mut octets = [0; LENGTH];
    let family = 1_u16.to_ne_bytes();
    octets[0] = family[0];
    octets[1] = family[1];
    octets
};
