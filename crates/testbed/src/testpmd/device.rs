//! The two ends of a vhost-user socket as DPDK is told about them.

use std::path::{Path, PathBuf};

/// A device of testpmd at a vhost-user socket.
#[derive(Clone, Debug)]
pub struct Device {
    socket: PathBuf,
    /// The guest's MAC address; `None` for a back end.
    mac: Option<String>,
    listens: bool,
    queues: u16,
    options: String,
}

impl Device {
    /// A guest's driver (virtio-user), which connects to a back end's socket.
    pub fn virtio(socket: &Path, mac: &str) -> Self {
        Self::new(socket, Some(mac), false)
    }

    /// The same that listens, and waits for a back end.
    pub fn virtio_listening(socket: &Path, mac: &str) -> Self {
        Self::new(socket, Some(mac), true)
    }

    /// A back end, which listens for a front end.
    pub fn vhost(socket: &Path) -> Self {
        Self::new(socket, None, true)
    }

    /// A back end that connects, again and again, to a front end's socket.
    pub fn vhost_connecting(socket: &Path) -> Self {
        Self::new(socket, None, false)
    }

    fn new(socket: &Path, mac: Option<&str>, listens: bool) -> Self {
        let mac = mac.map(str::to_owned);
        Self { socket: socket.to_owned(), mac, listens, queues: 1, options: String::new() }
    }

    /// So many pairs of queues; 1 when not told.
    pub fn queues(mut self, pairs: u16) -> Self {
        self.queues = pairs;
        self
    }

    /// Packed rings (virtio 1.3, 2.8) instead of split ones; of a driver.
    pub fn packed(self) -> Self {
        self.option("packed_vq=1")
    }

    /// Buffers are used in order (VIRTIO_F_IN_ORDER). It is on when not told.
    pub fn in_order(self, on: bool) -> Self {
        self.option(&format!("in_order={}", u8::from(on)))
    }

    /// A buffer for each frame, instead of several for a long one (VIRTIO_NET_F_MRG_RXBUF is off).
    pub fn without_mergeable_buffers(self) -> Self {
        self.option("mrg_rxbuf=0")
    }

    /// Places of each ring; 256 when not told.
    pub fn queue_size(self, places: u32) -> Self {
        self.option(&format!("queue_size={places}"))
    }

    /// Any other option of the driver, as `NAME=VALUE`.
    pub fn option(mut self, option: &str) -> Self {
        self.options.push(',');
        self.options.push_str(option);
        self
    }

    pub(super) fn queue_pairs(&self) -> u16 {
        self.queues
    }

    pub(super) fn is_back_end(&self) -> bool {
        self.mac.is_none()
    }

    /// The value of `--vdev` for the device with this number among those of its kind.
    pub(super) fn argument(&self, number: usize) -> String {
        let Device { socket, queues, options, .. } = self;
        let socket = socket.display();
        match &self.mac {
            Some(mac) => {
                let server = if self.listens { ",server=1" } else { "" };
                format!("net_virtio_user{number},path={socket},mac={mac},queues={queues}{server}{options}")
            }
            None => {
                let client = if self.listens { "" } else { ",client=1" };
                format!("net_vhost{number},iface={socket},queues={queues}{client}{options}")
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_has_its_driver() {
        let socket = Path::new("/run/s");
        let guest = Device::virtio(socket, "m").queues(2).packed().in_order(false);
        let devices = [
            (guest, "net_virtio_user1,path=/run/s,mac=m,queues=2,packed_vq=1,in_order=0"),
            (Device::virtio_listening(socket, "m"), "net_virtio_user1,path=/run/s,mac=m,queues=1,server=1"),
            (Device::vhost(socket), "net_vhost1,iface=/run/s,queues=1"),
            (Device::vhost_connecting(socket), "net_vhost1,iface=/run/s,queues=1,client=1"),
        ];

        for (device, expected) in devices {
            assert_eq!(device.argument(1), expected);
        }
    }
}
