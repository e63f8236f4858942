//! Notes on settings that a configuration may have, but that are hardly meant.

use vmlan_ports::too_long;

use super::ValidConfig;

/// Returns the notes on a good configuration, on the host that it is for.
pub fn notes(config: &ValidConfig) -> Vec<String> {
    let on_trunk = |(name, network): (&String, &super::Network)| {
        let interface = network.trunk.as_ref()?.interface.name();
        let note = too_long(interface, (network.settings.mtu.octets(), mtu_of(interface)?))?;
        Some(format!("network {name}: {note}"))
    };
    config.networks().iter().filter_map(on_trunk).collect()
}

/// The MTU of an interface of this host; `None` where there is no such interface, or the system tells it otherwise.
fn mtu_of(interface: &str) -> Option<usize> {
    std::fs::read_to_string(format!("/sys/class/net/{interface}/mtu")).ok()?.trim().parse().ok()
}
