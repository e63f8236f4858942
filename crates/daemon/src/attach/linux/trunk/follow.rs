//! What the host's interface is now, as the network has to know it.

use std::net::IpAddr;

use lan::{HostAddress, Network};

/// What became of the interface since it was looked at.
pub(super) enum Followed {
    /// It is there.
    There,
    /// It is not; what to say of it.
    Gone(String),
    /// Another one has its name.
    Another,
}

/// Tells the network which addresses the host has on the interface, in the place of those told before.
pub(super) fn tell_addresses(network: &Network, addresses: Vec<HostAddress>) {
    network.set_host_addresses(addresses.into_iter().filter(|host| counts(host.address)));
}

/// Loopback addresses are nobody's on a network, wherever they stand.
fn counts(address: IpAddr) -> bool {
    !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

/// That there is no such interface, with the names of those that there are.
pub(super) fn not_there(name: &str, others: &[String], was_there: bool) -> String {
    let mut names: Vec<&str> = others.iter().map(String::as_str).filter(|other| *other != "lo").collect();
    names.sort_unstable();
    let others = if names.is_empty() { "none but lo".to_owned() } else { names.join(", ") };
    let what = if was_there { "is gone" } else { "does not exist" };
    format!("the interface {name} {what}; there are: {others}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use lan::{FdbConfig, NetworkConfig};

    #[test]
    fn addresses_come_and_go_and_loopback_is_none() {
        let fdb = FdbConfig::new([1, 2]);
        let network =
            Network::new(NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false });
        let address = |text: &str| HostAddress::from(text.parse::<IpAddr>().expect("an address"));

        tell_addresses(&network, ["10.0.0.1", "127.0.0.1", "::1", "fe80::1"].map(address).to_vec());
        assert_eq!(network.host_addresses(), ["10.0.0.1", "fe80::1"].map(address));

        tell_addresses(&network, vec![address("10.0.0.2")]);
        assert_eq!(network.host_addresses(), [address("10.0.0.2")]);
    }

    /// host-filter.md case 14.
    #[test]
    fn case_14_an_unknown_interface_names_the_ones_that_exist() {
        let others = ["wlan0", "lo", "eth0"].map(str::to_owned);
        let said = not_there("eth7", &others, false);
        assert_eq!(said, "the interface eth7 does not exist; there are: eth0, wlan0");
    }
}
