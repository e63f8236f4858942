//! Relative paths of sockets and filters in a file become absolute: they are relative to the directory of the file.

use std::path::Path;

use vmlan_api::OneOrMany;
use vmlan_ports::resolve_port;
use vmlan_ports::uplink::forward::resolve as resolve_spec;

/// Makes every relative path of a socket or VDE directory absolute, in forwards too. Programs and namespaces stay.
pub(super) fn resolve(config: &mut vmlan_api::Config, directory: &Path) {
    for network in config.network.values_mut() {
        network.port.values_mut().for_each(|port| resolve_port(port, directory));
        if let Some(uplink) = &mut network.uplink {
            let each = |texts: &mut Option<OneOrMany<String>>, is_forward| {
                let texts = texts.as_mut().map_or(&mut [][..], OneOrMany::as_mut_slice);
                texts.iter_mut().for_each(|text| resolve_spec(text, is_forward, directory));
            };
            each(&mut uplink.forward, true);
            each(&mut uplink.host, false);
        }
    }
}
