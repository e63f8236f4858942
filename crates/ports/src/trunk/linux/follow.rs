//! The present state of the host's interface, as the network has to know it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use vmlan_frame::MacAddr;
use vmlan_lan::{HostAddress, Network, SharedAddress};

/// The state of the interface, compared with the last look.
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

/// A guest's address that the host has on an interface which has nothing to do with the trunk's.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(super) struct Twice {
    pub(super) address: IpAddr,
    pub(super) mac: MacAddr,
    /// By its index.
    pub(super) interface: u32,
}

/// The guests' addresses that are `elsewhere` as well, on interfaces of these indices. Addresses of a link's own are
/// not among them: another link may have the same.
pub(super) fn twice(
    elsewhere: impl IntoIterator<Item = (u32, IpAddr)>,
    guests: impl IntoIterator<Item = SharedAddress>,
) -> BTreeSet<Twice> {
    let by_address = elsewhere.into_iter().map(|(interface, address)| (address, interface));
    let elsewhere: BTreeMap<IpAddr, u32> = by_address.filter(|(address, _)| !is_of_link(*address)).collect();
    let of = |SharedAddress { address, mac, .. }: SharedAddress| {
        Some(Twice { address, mac, interface: *elsewhere.get(&address)? })
    };
    guests.into_iter().filter_map(of).collect()
}

fn is_of_link(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
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
    use std::sync::Arc;

    use vmlan_frame::Counters;
    use vmlan_lan::{FdbConfig, NetworkConfig, PortConfig};

    use super::*;

    #[test]
    fn an_address_that_the_host_has_elsewhere_is_told_unless_it_is_of_its_link() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let all = ["10.9.0.1", "169.254.0.1", "fd00::1", "fe80::1", "10.9.0.2"].map(address);
        let elsewhere = all[..4].iter().map(|address| (7, *address));
        let mac = MacAddr([2, 0, 0, 0, 0, 1]);
        let network = Network::new(NetworkConfig {
            name: "lab".into(),
            mtu: 1500,
            fdb: FdbConfig::new([1, 2]),
            pass_reserved: false,
        });
        let port = network.add_port(PortConfig::new("a", Arc::new(Counters::new(1)))).expect("a port");
        let guests = all.map(|address| SharedAddress { address, vlan: None, port, mac });
        let found: Vec<_> = twice(elsewhere, guests).into_iter().map(|twice| twice.address).collect();
        assert_eq!(found, [all[0], all[2]]);
    }

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
