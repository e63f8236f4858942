//! The resolvers that the host uses, read from its file and followed.

use std::io::Read;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::sync::watch::Sender;
use tokio::time::{sleep, timeout};

use super::watch::{Watch, scope_of};

/// Octets of the file that are read.
const LONGEST: u64 = 64 * 1024;
/// Servers that are asked, as in resolv.conf(5).
const MOST: usize = 3;
/// The time after which the file is read again, whatever was told.
const REREAD: Duration = Duration::from_secs(30);
/// The time for which changes are gathered.
const SETTLE: Duration = Duration::from_millis(20);

/// Reads the servers that the file names; none if it cannot be read.
pub(super) fn read(path: &Path) -> Vec<SocketAddr> {
    let mut text = Vec::new();
    let read = std::fs::File::open(path).and_then(|file| file.take(LONGEST).read_to_end(&mut text));
    if let Err(error) = read {
        tracing::debug!(path = %path.display(), "the host's resolvers cannot be read: {error}");
    }
    parse(&String::from_utf8_lossy(&text))
}

fn parse(text: &str) -> Vec<SocketAddr> {
    let servers = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        (words.next() == Some("nameserver")).then(|| words.next()).flatten()
    });
    servers.filter_map(address).take(MOST).collect()
}

/// An address as in the file, with a scope behind `%`.
fn address(text: &str) -> Option<SocketAddr> {
    const PORT: u16 = vmlan_services::packet::DNS;
    let (address, scope) =
        text.split_once('%').map_or((text, None), |(address, scope)| (address, Some(scope)));
    match (address.parse().ok()?, scope) {
        (IpAddr::V6(address), Some(scope)) => {
            let scope = scope.parse().ok().or_else(|| scope_of(scope))?;
            Some(SocketAddrV6::new(address, PORT, 0, scope).into())
        }
        (address, _) => Some((address, PORT).into()),
    }
}

/// Follows the file until the receiver is gone.
pub(super) async fn follow(path: PathBuf, servers: Sender<Vec<SocketAddr>>) {
    loop {
        // Before reading, so that no change falls between.
        let mut watch = Watch::new(&path);
        let (for_reader, reader) = (path.clone(), tokio::task::spawn_blocking);
        let Ok(found) = reader(move || read(&for_reader)).await else { return };
        servers.send_if_modified(|known| {
            let is_new = *known != found;
            *known = found;
            is_new
        });
        tokio::select! {
            () = servers.closed() => return,
            _ = timeout(REREAD, watch.changed()) => sleep(SETTLE).await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_of_a_file() {
        let text = "# made by hand\nsearch a b\n nameserver  127.0.0.53 \nnameserver fe80::1%7\n\
                    nameserver\nnameserver x\nnameserver 2001:db8::1 # first\nnameserver 192.0.2.1\n";
        let expected =
            ["127.0.0.53:53", "[fe80::1%7]:53", "[2001:db8::1]:53"].map(|text| text.parse().unwrap());
        assert_eq!(parse(text), expected);
        assert_eq!(parse(""), []);
        assert_eq!(parse("nameserver fe80::1%no-such-interface"), []);
    }
}
