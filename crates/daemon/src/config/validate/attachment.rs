//! How a guest is reached: exactly one way, with names and addresses that can work.

mod tunnel;

use std::net::{IpAddr, SocketAddr};
use std::os::fd::RawFd;
use std::path::{Path, PathBuf};

use api::ErrorCode;

use super::{Validator, join, shown};
use crate::config::resolve::{is_path, misunderstood};
use crate::config::valid::{Address, Allow, Attachment, Datagram, Stream, Tap, TapSource, Vde};

/// Octets of a device name (`IFNAMSIZ` without its NUL).
const LONGEST_DEVICE_NAME: usize = 15;
/// What the names of a trunk's devices begin with; a number follows.
const OUR_OWN: [&str; 4] = ["vmlh", "vmlw", "vmlb", "vmlm"];
/// What a VDE switch puts behind its directory at most: `/` and the name of a client's socket.
const LONGEST_VDE_NAME: usize = 24;
/// Where `ip netns` keeps its names.
const NETNS_DIRECTORY: &str = "/run/netns";

impl Validator {
    /// The one attachment of the port whose table is at `path`.
    pub(super) fn attachment(&mut self, path: &str, port: &api::PortConfig) -> Option<Attachment> {
        let tables = [
            port.tap.as_ref().map(|_| api::PortKind::Tap),
            port.stream.as_ref().map(|_| api::PortKind::Stream),
            port.datagram.as_ref().map(|_| api::PortKind::Datagram),
            port.vde.as_ref().map(|_| api::PortKind::Vde),
            port.tunnel.as_ref().map(|_| api::PortKind::Tunnel),
        ];
        let kinds: Vec<_> = tables.into_iter().flatten().collect();
        let [kind] = kinds[..] else {
            self.not_one_attachment(path, &kinds);
            return None;
        };
        let at = join(path, kind.as_str());
        let attachment = match kind {
            api::PortKind::Tap => Attachment::Tap(self.tap(&at, port.tap.as_ref()?)?),
            api::PortKind::Stream => Attachment::Stream(self.stream(&at, port.stream.as_ref()?)?),
            api::PortKind::Datagram => Attachment::Datagram(self.datagram(&at, port.datagram.as_ref()?)?),
            api::PortKind::Vde => Attachment::Vde(self.vde(&at, port.vde.as_ref()?)?),
            api::PortKind::Tunnel => Attachment::Tunnel(self.tunnel(&at, port.tunnel.as_ref()?)?),
            api::PortKind::Trunk => unreachable!("no table of a port has that kind"),
        };
        self.claims.take(path, &attachment).map_err(|error| self.faults.push(error)).ok()?;
        Some(attachment)
    }

    fn not_one_attachment(&mut self, path: &str, kinds: &[api::PortKind]) {
        let quoted = |kinds: &[api::PortKind]| {
            kinds.iter().map(|kind| format!("`{}`", kind.as_str())).collect::<Vec<_>>().join(", ")
        };
        if kinds.is_empty() {
            let message = format!("the port has no attachment; add one of {}", quoted(&api::PortKind::ALL));
            self.fault(ErrorCode::NoAttachment, path, message);
        } else {
            let message = format!("the port has several attachments ({}); keep one", quoted(kinds));
            self.fault(ErrorCode::SeveralAttachments, path, message);
        }
    }

    fn tap(&mut self, path: &str, tap: &api::TapConfig) -> Option<Tap> {
        let setup = self.program(&join(path, "setup"), tap.setup.as_deref());
        let terminate = self.program(&join(path, "terminate"), tap.terminate.as_deref());
        let source = match tap.fd {
            Some(fd) => self.tap_by_descriptor(path, tap, fd),
            None => self.tap_by_name(path, tap),
        };
        let offloads = tap.offloads.unwrap_or(true);
        Some(Tap { source: source?, setup: setup?, offloads, terminate: terminate? })
    }

    fn tap_by_descriptor(&mut self, path: &str, tap: &api::TapConfig, fd: u64) -> Option<TapSource> {
        let alone = tap.name.is_none()
            && tap.owner.is_none()
            && tap.persistent.is_none()
            && tap.netns.is_none()
            && tap.setup.is_none();
        if !alone {
            self.fault(
                ErrorCode::Conflict,
                path,
                "an inherited `fd` goes with `terminate` and `offloads` only; remove the others",
            );
        }
        self.descriptor(&join(path, "fd"), fd).map(TapSource::Fd)
    }

    fn tap_by_name(&mut self, path: &str, tap: &api::TapConfig) -> Option<TapSource> {
        let netns = match &tap.netns {
            Some(text) => Some(self.netns(&join(path, "netns"), text)?),
            None => None,
        };
        let owner = match &tap.owner {
            Some(text) => Some(self.user(&join(path, "owner"), text)?),
            None => None,
        };
        match &tap.name {
            Some(name) => {
                self.device_name(&join(path, "name"), name)?;
            }
            None if tap.setup.is_none() => {
                let message = "the device has no name; add `name` (\"tap%d\" lets the kernel number it), or a \
                               `setup` program that prints it, or an inherited `fd`";
                self.fault(ErrorCode::MissingKey, path, message);
                return None;
            }
            None => {}
        }
        let persistent = tap.persistent.unwrap_or(false);
        Some(TapSource::Named { name: tap.name.clone(), owner, persistent, netns })
    }

    /// The name of a device that may have to be made.
    pub(super) fn device_name(&mut self, path: &str, name: &str) -> Option<()> {
        self.interface_name(path, name, LONGEST_DEVICE_NAME)?;
        if is_our_own(name) {
            let message = format!("`{}` is a name for the devices of trunks; choose another", shown(name));
            return self.refuse(ErrorCode::BadDeviceName, path, message);
        }
        Some(())
    }

    /// The rules of Linux's `dev_valid_name`, and of its patterns: one `%d`.
    pub(super) fn interface_name(&mut self, path: &str, name: &str, longest: usize) -> Option<()> {
        let too_long = format!("is longer than {longest} characters");
        let complaint = if name.is_empty() {
            "is empty"
        } else if name.len() > longest {
            &too_long
        } else if name == "." || name == ".." {
            "is no device name"
        } else if name.contains(|c: char| c == '/' || c == ':' || c.is_whitespace() || c.is_control()) {
            "has a character that device names cannot have (/, :, blanks)"
        } else if name.contains('%') && (name.matches('%').count() > 1 || !name.contains("%d")) {
            "is no pattern that the kernel takes; write one %d"
        } else {
            return Some(());
        };
        self.fault(ErrorCode::BadDeviceName, path, format!("`{}` {complaint}", shown(name)));
        None
    }

    fn netns(&mut self, path: &str, text: &str) -> Option<PathBuf> {
        if text.starts_with('/') && !text.contains('\0') {
            return Some(PathBuf::from(text));
        }
        if text.is_empty() || text == "." || text == ".." || text.contains(['/', '\0']) {
            let message = format!("`{}` is no namespace; write its name or an absolute path", shown(text));
            self.fault(ErrorCode::BadPath, path, message);
            return None;
        }
        Some(Path::new(NETNS_DIRECTORY).join(text))
    }

    fn user(&mut self, path: &str, text: &str) -> Option<u32> {
        if let Ok(uid) = text.parse() {
            return Some(uid);
        }
        let known = if text.contains('\0') { Ok(None) } else { nix::unistd::User::from_name(text) };
        let message = match known {
            Ok(Some(user)) => return Some(user.uid.as_raw()),
            Ok(None) => format!("there is no user `{}`; write the name or number of one", shown(text)),
            Err(error) => format!("user `{}` cannot be looked up ({error}); write the number", shown(text)),
        };
        self.fault(ErrorCode::UnknownUser, path, message);
        None
    }

    /// The outer `None` is a fault.
    fn program(&mut self, path: &str, text: Option<&str>) -> Option<Option<PathBuf>> {
        let Some(text) = text else { return Some(None) };
        let program = Path::new(text);
        let complaint = if !program.is_absolute() || text.contains('\0') {
            "is no absolute path; programs are not searched for".to_owned()
        } else {
            match program.metadata() {
                Err(error) => format!("cannot be run: {error}"),
                Ok(metadata) if !metadata.is_file() => "is no file".to_owned(),
                Ok(_) => match rustix::fs::access(program, rustix::fs::Access::EXEC_OK) {
                    Err(_) => "is not executable; chmod +x it".to_owned(),
                    Ok(()) => return Some(Some(program.to_owned())),
                },
            }
        };
        self.fault(ErrorCode::MissingProgram, path, format!("`{}` {complaint}", shown(text)));
        None
    }

    fn stream(&mut self, path: &str, stream: &api::StreamConfig) -> Option<Stream> {
        if let (None, Some(_)) = (&stream.listen, &stream.allow) {
            return self.refuse(ErrorCode::Conflict, path, "`allow` goes with `listen`; remove it");
        }
        match (&stream.listen, &stream.connect, stream.fd) {
            (Some(listen), None, None) => {
                let (address, allow) = self.listening(path, listen, stream.allow.as_ref())?;
                Some(Stream::Listen(address, allow))
            }
            (None, Some(connect), None) => {
                self.peer_address(&join(path, "connect"), connect).map(Stream::Connect)
            }
            (None, None, Some(fd)) => self.descriptor(&join(path, "fd"), fd).map(Stream::Fd),
            (None, None, None) => self.refuse(ErrorCode::MissingKey, path, "add `listen`, `connect` or `fd`"),
            _ => self.refuse(
                ErrorCode::Conflict,
                path,
                "`listen`, `connect` and `fd` exclude each other; keep one",
            ),
        }
    }

    fn datagram(&mut self, path: &str, datagram: &api::DatagramConfig) -> Option<Datagram> {
        if let (None, Some(_)) = (&datagram.listen, &datagram.allow) {
            return self.refuse(ErrorCode::Conflict, path, "`allow` goes with `listen`; remove it");
        }
        match (&datagram.listen, &datagram.local, &datagram.remote, datagram.fd) {
            (Some(listen), None, None, None) => {
                let (address, allow) = self.listening(path, listen, datagram.allow.as_ref())?;
                Some(Datagram::Listen(address, allow))
            }
            (None, Some(local), Some(remote), None) => {
                let remote = self.peer_address(&join(path, "remote"), remote);
                let local = self.address(&join(path, "local"), local)?;
                let remote = remote?;
                if family(&local) != family(&remote) || local == remote {
                    let message = "`local` and `remote` must be two different addresses of one family: both paths, \
                                   both IPv4 or both IPv6";
                    return self.refuse(ErrorCode::Conflict, path, message);
                }
                Some(Datagram::Pair { local, remote })
            }
            (None, None, None, Some(fd)) => self.descriptor(&join(path, "fd"), fd).map(Datagram::Fd),
            (None, Some(_), None, None) | (None, None, Some(_), None) => self.refuse(
                ErrorCode::MissingKey,
                path,
                "`local` and `remote` go together; add the other one",
            ),
            (None, None, None, None) => {
                self.refuse(ErrorCode::MissingKey, path, "add `listen`, or `local` and `remote`, or `fd`")
            }
            _ => self.refuse(
                ErrorCode::Conflict,
                path,
                "`listen`, `local` with `remote`, and `fd` exclude each other; keep one way",
            ),
        }
    }

    fn vde(&mut self, path: &str, vde: &api::VdeConfig) -> Option<Vde> {
        let Some(text) = &vde.directory else {
            return self.refuse(ErrorCode::MissingKey, path, "the key `directory` is missing");
        };
        let directory_path = join(path, "directory");
        let longest_socket = format!("{}/{}", text.trim_end_matches('/'), "x".repeat(LONGEST_VDE_NAME - 1));
        let fits = self.socket_path(&directory_path, &longest_socket);
        let mode = self.mode(path, vde.mode.as_deref());
        fits?;
        let directory = PathBuf::from(text);
        Some(Vde { directory, mode: mode? })
    }

    /// An address where guests come by themselves, and which of them may.
    fn listening(
        &mut self,
        path: &str,
        listen: &str,
        allow: Option<&api::OneOrMany<String>>,
    ) -> Option<(Address, Allow)> {
        let address = self.address(&join(path, "listen"), listen);
        let Some(texts) = allow else { return Some((address?, Allow::default())) };
        let at = join(path, "allow");
        // An address alone is a network of one.
        let whole = |text: &String| match text.parse::<IpAddr>() {
            Ok(address) => format!("{text}/{}", if address.is_ipv4() { 32 } else { 128 }),
            Err(_) => text.clone(),
        };
        let texts = api::OneOrMany::Many(texts.as_slice().iter().map(whole).collect());
        let networks = self.networks(&at, Some(&texts))?;
        if networks.is_empty() {
            let message = "no address is in an empty list; name networks, or remove `allow`";
            return self.refuse(ErrorCode::OutOfRange, &at, message);
        }
        match address? {
            Address::Unix(_) => {
                let message = "`allow` is for TCP and UDP; who may use a path is a matter of its permissions";
                self.refuse(ErrorCode::Conflict, &at, message)
            }
            inet => Some((inet, Allow::only(networks))),
        }
    }

    /// An address of ours.
    fn address(&mut self, path: &str, text: &str) -> Option<Address> {
        if is_path(text) {
            return self.socket_path(path, text).map(Address::Unix);
        }
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Some(Address::Inet(address));
        }
        if text.starts_with('[') && text.contains('%') {
            let message = format!(
                "the zone in `{}` is a name; write the number of the interface, as in [fe80::1%2]:7000 (`ip link` \
                 shows it)",
                shown(text)
            );
            return self.refuse(ErrorCode::BadAddress, path, message);
        }
        let message = format!(
            "`{}` is no address; write a path, or a numeric address with a port as in 127.0.0.1:7000 or [::1]:7000",
            shown(text)
        );
        self.refuse(ErrorCode::BadAddress, path, message)
    }

    /// An address of the guest's, which must be one that can be sent to.
    fn peer_address(&mut self, path: &str, text: &str) -> Option<Address> {
        let address = self.address(path, text)?;
        match address {
            Address::Inet(inet)
                if inet.port() == 0 || inet.ip().is_unspecified() || inet.ip().is_multicast() =>
            {
                let message = format!("{inet} is no address of one peer; write its own address and port");
                self.refuse(ErrorCode::BadAddress, path, message)
            }
            _ => Some(address),
        }
    }

    /// An absolute path that fits a socket address, as the system itself checks it.
    fn socket_path(&mut self, path: &str, text: &str) -> Option<PathBuf> {
        if text.contains('\0') {
            let message = format!(
                "`{}` has a NUL, which no path has; sockets without a file (abstract ones) are not supported",
                shown(text)
            );
            return self.refuse(ErrorCode::BadPath, path, message);
        }
        if let Some(reason) = misunderstood(text) {
            return self.refuse(ErrorCode::BadPath, path, format!("`{}` is no path: {reason}", shown(text)));
        }
        if !Path::new(text).is_absolute() {
            let message = format!("`{}` is no absolute path", shown(text));
            return self.refuse(ErrorCode::BadPath, path, message);
        }
        if std::os::unix::net::SocketAddr::from_pathname(text).is_err() {
            let message = format!(
                "the path has {} octets, too many for a socket (Linux takes 107, macOS 103); choose a shorter one",
                text.len()
            );
            return self.refuse(ErrorCode::BadPath, path, message);
        }
        Some(PathBuf::from(text))
    }

    fn descriptor(&mut self, path: &str, number: u64) -> Option<RawFd> {
        let Some(fd) = RawFd::try_from(number).ok().filter(|fd| *fd > 2) else {
            let message = format!("{number} is no inherited descriptor; use 3 or more");
            return self.refuse(ErrorCode::OutOfRange, path, message);
        };
        Some(fd)
    }

    pub(super) fn refuse<T>(&mut self, code: ErrorCode, path: &str, message: impl Into<String>) -> Option<T> {
        self.fault(code, path, message);
        None
    }
}

/// Whether a device of this name would be taken for one of a trunk's, and removed.
fn is_our_own(name: &str) -> bool {
    let number = OUR_OWN.iter().find_map(|prefix| name.strip_prefix(prefix));
    number.is_some_and(|number| number == "%d" || number.parse::<u32>().is_ok())
}

/// A number for the address family.
fn family(address: &Address) -> u8 {
    match address {
        Address::Unix(_) => 0,
        Address::Inet(SocketAddr::V4(_)) => 4,
        Address::Inet(SocketAddr::V6(_)) => 6,
    }
}
