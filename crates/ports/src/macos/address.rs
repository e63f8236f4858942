//! Which of the host's addresses count for a trunk.

use std::net::IpAddr;

/// True if `address`, which the host has on the interface `on`, counts for a trunk on `trunk`. A loopback address never
/// counts. A link-local address counts only on its link.
pub(crate) fn counts_for(trunk: &str, on: &str, address: IpAddr) -> bool {
    let is_of_a_link = match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !address.is_loopback() && (!is_of_a_link || trunk == on)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_never_counts_and_link_local_on_its_link_only() {
        let cases = [
            ("en0", "192.0.2.1", true),
            ("en1", "192.0.2.1", true),
            ("lo0", "127.0.0.1", false),
            ("en0", "::1", false),
            ("en0", "169.254.1.1", true),
            ("en1", "169.254.1.1", false),
            ("en0", "fe80::1", true),
            ("en1", "fe80::1", false),
            ("en1", "2001:db8::1", true),
        ];
        for (on, address, expected) in cases {
            assert_eq!(counts_for("en0", on, address.parse().unwrap()), expected, "{address} on {on}");
        }
    }
}
