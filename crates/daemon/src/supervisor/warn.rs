//! Lines of the log about what networks report. Each is a place of its own in the log, which has a rate for each port.
//! A port that has left meanwhile has no name, and nothing is said of it.

use vmlan_frame::MacAddr;

use super::place;
use vmlan_ports::Place;

/// A port sends from an address that another had first and keeps.
pub(super) fn of_contest(port: &Place, owner: &str, mac: MacAddr) {
    tracing::warn!(
        %port,
        "it sends from {mac}, which port {owner} had first and keeps; set `mac` on the port whose address it is"
    );
}

/// A port uses an address of another one.
pub(super) fn of_conflict(port: &Place, owner: &str, mac: MacAddr, address: &str) {
    tracing::warn!(%port, "{mac} uses {address}, which is that of {owner}; give each its own address");
}

/// A port has as many addresses as it may have.
pub(super) fn of_quota(network: &str, port: Option<String>) {
    let Some(port) = port else { return };
    let port = place(network, &port);
    tracing::warn!(%port, "it has as many addresses as its quota allows");
}
