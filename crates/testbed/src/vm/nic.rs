//! A guest's network interfaces as QEMU (7.2 and later) is told about them.

use std::path::{Path, PathBuf};

/// How one network interface of a guest is attached.
#[derive(Clone, Debug)]
pub struct Nic {
    mac: String,
    backend: Backend,
    /// Pairs of queues, if it is not left to QEMU.
    queues: Option<u16>,
    options: String,
}

#[derive(Clone, Debug)]
enum Backend {
    StreamConnect(PathBuf),
    StreamListen(PathBuf),
    Datagram { local: PathBuf, remote: PathBuf },
    Tap(String),
    Vde(PathBuf),
    VhostUser { socket: PathBuf, listens: bool },
}

impl Nic {
    /// A stream socket that someone else listens on. QEMU 7.2 connects once, when it starts, and not again: the
    /// listener must be there before the guest.
    pub fn stream(listener: &Path, mac: &str) -> Self {
        Self::new(mac, Backend::StreamConnect(listener.to_owned()))
    }

    /// A stream socket that QEMU listens on.
    pub fn stream_listen(path: &Path, mac: &str) -> Self {
        Self::new(mac, Backend::StreamListen(path.to_owned()))
    }

    /// Datagram sockets: QEMU binds `local` and sends to `remote`, which may appear later.
    pub fn datagram(local: &Path, remote: &Path, mac: &str) -> Self {
        Self::new(mac, Backend::Datagram { local: local.to_owned(), remote: remote.to_owned() })
    }

    /// A TAP interface that exists; use it with [`VmBuilder::netns`](super::VmBuilder::netns) where it is in a
    /// namespace.
    pub fn tap(interface: &str, mac: &str) -> Self {
        Self::new(mac, Backend::Tap(interface.to_owned()))
    }

    /// A port of the VDE switch whose directory this is.
    pub fn vde(directory: &Path, mac: &str) -> Self {
        Self::new(mac, Backend::Vde(directory.to_owned()))
    }

    /// A vhost-user back end that listens, to which QEMU connects again each second. The guest's memory is shared.
    pub fn vhost_user(listener: &Path, mac: &str) -> Self {
        Self::new(mac, Backend::VhostUser { socket: listener.to_owned(), listens: false })
    }

    /// A vhost-user socket on which QEMU listens; the guest starts when a back end has connected.
    pub fn vhost_user_listen(path: &Path, mac: &str) -> Self {
        Self::new(mac, Backend::VhostUser { socket: path.to_owned(), listens: true })
    }

    /// A further option of the guest's device, as `packed=on`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(',');
        self.options.push_str(option);
        self
    }

    /// So many pairs of queues, of a vhost-user port. The guest uses as many as it has processors.
    pub fn queues(mut self, pairs: u16) -> Self {
        self.queues = Some(pairs);
        self.option("mq=on")
    }

    fn new(mac: &str, backend: Backend) -> Self {
        Self { mac: mac.to_owned(), backend, queues: None, options: String::new() }
    }

    /// True if the other end works in the guest's memory, which then has to be a file.
    pub(super) fn shares_memory(&self) -> bool {
        matches!(self.backend, Backend::VhostUser { .. })
    }

    /// QEMU's arguments for the interface with this number.
    pub(crate) fn arguments(&self, number: usize) -> Vec<String> {
        let id = format!("net{number}");
        let netdev = match &self.backend {
            Backend::StreamConnect(path) => {
                format!("stream,id={id},server=off,addr.type=unix,addr.path={}", value(path))
            }
            Backend::StreamListen(path) => {
                format!("stream,id={id},server=on,addr.type=unix,addr.path={}", value(path))
            }
            Backend::Datagram { local, remote } => format!(
                "dgram,id={id},local.type=unix,local.path={},remote.type=unix,remote.path={}",
                value(local),
                value(remote)
            ),
            Backend::Tap(name) => format!("tap,id={id},ifname={name},script=no,downscript=no"),
            Backend::Vde(directory) => format!("vde,id={id},sock={}", value(directory)),
            Backend::VhostUser { .. } => {
                let queues = self.queues.map(|pairs| format!(",queues={pairs}")).unwrap_or_default();
                format!("vhost-user,id={id},chardev=back{number}{queues}")
            }
        };
        let mut device = format!("virtio-net-pci,netdev={id},mac={}{}", self.mac, self.options);
        let mut words = Vec::new();
        if let Backend::VhostUser { socket, listens } = &self.backend {
            let how = if *listens { "server=on" } else { "reconnect=1" };
            words.push("-chardev".into());
            words.push(format!("socket,id=back{number},path={},{how}", value(socket)));
            // QEMU 7.2 crashes under emulation with one interrupt for each queue.
            device.push_str(",vectors=0");
        }
        words.extend(["-netdev".into(), netdev, "-device".into(), device]);
        words
    }
}

/// QEMU separates options with commas; one inside a value is written twice.
fn value(path: &Path) -> String {
    path.to_string_lossy().replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_back_end_is_behind_a_socket_of_its_own() {
        let socket = Path::new("/run/s");
        let device = "virtio-net-pci,netdev=net1,mac=m,packed=on,vectors=0";

        let connecting = Nic::vhost_user(socket, "m").option("packed=on").arguments(1);
        let listening = Nic::vhost_user_listen(socket, "m").option("packed=on").arguments(1);

        let several = Nic::vhost_user(socket, "m").queues(3).arguments(1);

        assert_eq!(several[3], "vhost-user,id=net1,chardev=back1,queues=3");
        assert_eq!(several[5], "virtio-net-pci,netdev=net1,mac=m,mq=on,vectors=0");
        let netdev = ["-netdev", "vhost-user,id=net1,chardev=back1", "-device", device];
        assert_eq!(connecting[..2], ["-chardev", "socket,id=back1,path=/run/s,reconnect=1"]);
        assert_eq!(listening[..2], ["-chardev", "socket,id=back1,path=/run/s,server=on"]);
        assert_eq!(
            (&connecting[2..], &listening[2..]),
            (netdev.map(str::to_owned).as_slice(), netdev.map(str::to_owned).as_slice())
        );
    }

    #[test]
    fn each_attachment_has_its_netdev() {
        let (a, b) = (Path::new("/run/a"), Path::new("/run/b,c"));
        let nics = [
            (Nic::stream(a, "m"), "stream,id=net1,server=off,addr.type=unix,addr.path=/run/a"),
            (Nic::stream_listen(a, "m"), "stream,id=net1,server=on,addr.type=unix,addr.path=/run/a"),
            (
                Nic::datagram(a, b, "m"),
                "dgram,id=net1,local.type=unix,local.path=/run/a,remote.type=unix,remote.path=/run/b,,c",
            ),
            (Nic::tap("t0", "m"), "tap,id=net1,ifname=t0,script=no,downscript=no"),
            (Nic::vde(a, "m"), "vde,id=net1,sock=/run/a"),
        ];

        for (nic, expected) in nics {
            let arguments = nic.arguments(1);
            assert_eq!(arguments, ["-netdev", expected, "-device", "virtio-net-pci,netdev=net1,mac=m"]);
        }
    }
}
