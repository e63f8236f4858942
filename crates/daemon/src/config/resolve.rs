//! Relative paths of sockets and filters in a file become absolute: they are relative to the directory of the file.

use std::path::Path;

use vmlan_ports::resolve_port;

/// Makes every relative path of a socket or VDE directory absolute. Programs and namespaces are left alone.
pub(super) fn resolve(config: &mut vmlan_api::Config, directory: &Path) {
    config
        .network
        .values_mut()
        .flat_map(|network| network.port.values_mut())
        .for_each(|port| resolve_port(port, directory));
}
