//! Relative socket paths of a file become absolute: they are relative to the directory of the file.

use std::path::Path;

/// Whether the text names a socket file rather than an IP address and port.
pub(super) fn is_path(text: &str) -> bool {
    text.contains('/') || !text.contains(':')
}

/// Makes every relative path of a socket or VDE directory absolute. Programs and namespaces are left alone.
pub(super) fn resolve(config: &mut api::Config, directory: &Path) {
    config
        .network
        .values_mut()
        .flat_map(|network| network.port.values_mut())
        .for_each(|port| resolve_port(port, directory));
}

/// Makes every relative path of a socket or VDE directory in the port's table absolute, below `directory`.
pub fn resolve_port(port: &mut api::PortConfig, directory: &Path) {
    let stream = port.stream.iter_mut().flat_map(|stream| [&mut stream.listen, &mut stream.connect]);
    let datagram = port
        .datagram
        .iter_mut()
        .flat_map(|datagram| [&mut datagram.listen, &mut datagram.local, &mut datagram.remote]);
    let vde = port.vde.iter_mut().map(|vde| &mut vde.directory);
    let tunnel = port.tunnel.iter_mut().map(|tunnel| &mut tunnel.listen);
    for text in stream.chain(datagram).chain(vde).chain(tunnel).flatten() {
        if is_path(text)
            && !text.is_empty()
            && let Some(absolute) = directory.join(&*text).to_str()
        {
            *text = absolute.to_owned();
        }
    }
}
