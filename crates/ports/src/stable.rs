//! Numbers that are always the same for a name on this machine, where nobody chose one.

use std::hash::Hasher;
use std::path::Path;

use vmlan_frame::MacAddr;

/// Returns a number that follows from these parts alone.
pub(crate) fn number(parts: &[&[u8]]) -> u64 {
    let mut hasher = Fnv(0xcbf2_9ce4_8422_2325);
    for part in parts {
        hasher.write(part);
        hasher.write(&[0]);
    }
    hasher.finish()
}

/// Returns the octets by which this machine is known.
pub(crate) fn machine() -> Vec<u8> {
    std::fs::read(Path::new("/etc/machine-id"))
        .unwrap_or_else(|_| rustix::system::uname().nodename().to_bytes().to_vec())
}

/// Returns a link address for a port: always the same for a port of that name on this machine, and locally
/// administered (IEEE 802-2014 8.2).
pub(crate) fn mac(network: &str, port: &str) -> MacAddr {
    let [.., a, b, c, d, e] = number(&[&machine(), network.as_bytes(), port.as_bytes()]).to_be_bytes();
    MacAddr([0x06, a, b, c, d, e])
}

/// FNV-1a: the same in every version, which the standard library's hasher is not.
struct Fnv(u64);

impl Hasher for Fnv {
    fn write(&mut self, octets: &[u8]) {
        for octet in octets {
            self.0 = (self.0 ^ u64::from(*octet)).wrapping_mul(0x100_0000_01b3);
        }
    }

    fn finish(&self) -> u64 {
        // The last octets mix badly without this.
        (self.0 ^ self.0 >> 32).wrapping_mul(0x9e37_79b9_7f4a_7c15)
    }
}
