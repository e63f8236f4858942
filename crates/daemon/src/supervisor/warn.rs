//! Lines of the log about what networks report. Each is a place of its own in the log, which has a rate for each port.
//! A port that has left meanwhile has no name, and nothing is said of it.

use vmlan_api::EventKind;

use super::place;

/// Two ports use one address, as the event says in words.
pub(super) fn of_contest(event: &EventKind) {
    if let Some((network, port, words)) = event.clash() {
        tracing::warn!(port = %place(network, port), "{words}");
    }
}

/// A port uses an address of another one, as the event says in words.
pub(super) fn of_conflict(event: &EventKind) {
    if let Some((network, port, words)) = event.clash() {
        tracing::warn!(port = %place(network, port), "{words}");
    }
}

/// A port has as many addresses as it may have.
pub(super) fn of_quota(network: &str, port: Option<String>) {
    let Some(port) = port else { return };
    let port = place(network, &port);
    tracing::warn!(%port, "it has as many addresses as its `quota` allows; raise that if all are its guest's");
}
