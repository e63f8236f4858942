//! Relative paths of sockets and filters in a file become absolute: they are relative to the directory of the file.

use std::path::Path;

/// Whether the text names a socket file rather than an IP address and port.
pub(super) fn is_path(text: &str) -> bool {
    text.contains('/') || !text.contains(':')
}

/// Why a text is no path here, although it looks like one: it is a notation of other programs. Such a text stays as it
/// is, for the message about it. A path that begins with `./` says that it is meant as it stands, except for variables.
pub(super) fn misunderstood(text: &str) -> Option<&'static str> {
    let is_variable = |(at, _): (usize, &str)| {
        text[at + 1..].starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == '{')
    };
    if text.starts_with('~') {
        Some("`~` is not replaced here; write the whole path")
    } else if text.starts_with('@') {
        Some("sockets without a file (abstract ones) are not supported; write a path")
    } else if text.match_indices('$').any(is_variable) {
        Some("variables are not replaced here; write the whole path")
    } else if is_url(text) {
        Some("it is a URL; write the path alone, or the address and port alone as in 127.0.0.1:7000")
    } else if !text.is_empty() && text.bytes().all(|octet| octet.is_ascii_digit()) {
        Some("it is a number; write an address too, as in 127.0.0.1:7000, or `./` in front when it is a path")
    } else {
        None
    }
}

/// Whether the text begins with a scheme (RFC 3986 3.1) and a slash.
fn is_url(text: &str) -> bool {
    text.split_once(":/").is_some_and(|(scheme, _)| {
        scheme.starts_with(|c: char| c.is_ascii_alphabetic())
            && scheme.bytes().all(|octet| octet.is_ascii_alphanumeric() || b"+-.".contains(&octet))
    })
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
    for program in port.filter.iter_mut().flatten().filter_map(|filter| filter.program.as_mut()) {
        if !program.is_empty()
            && misunderstood(program).is_none()
            && let Some(absolute) = directory.join(&*program).to_str()
        {
            *program = absolute.to_owned();
        }
    }
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
            && misunderstood(text).is_none()
            && let Some(absolute) = directory.join(&*text).to_str()
        {
            *text = absolute.to_owned();
        }
    }
}
