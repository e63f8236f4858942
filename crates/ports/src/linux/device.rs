use std::os::fd::OwnedFd;

use rustix::io::Errno;
use vmlan_drivers::tap::{Device as Medium, set_offloads};
use vmlan_frame::MacAddr;
use vmlan_sys::tap;

use crate::apart::Apart;
use crate::kernel::{Interface, Kernel};

/// The prefix of the names of a trunk's TAPs; the number of the interface follows.
pub(crate) const HOST_TAP: &str = "vmlh";
pub(crate) const WIRE_TAP: &str = "vmlw";
pub(crate) const BRIDGE_TAP: &str = "vmlb";
/// The prefix of the name of a trunk's macvtap.
pub(crate) const MACVTAP: &str = "vmlm";

/// The prefix of the names of interface ports' TAPs.
pub(crate) const INTERFACE_TAP: &str = "vmli";

/// The alias of every device that carries frames of a trunk or an interface port, by which it is told from others that
/// have such a name.
pub(crate) const ALIAS: &str = "vmlan: carries frames of an interface";

/// The longest MTU that a TAP can have.
const LONGEST_MTU: u32 = 65_521;

/// A TAP that carries frames between an interface and the workers, which vanishes when the last descriptor of it is
/// closed.
pub(crate) struct Device {
    pub(crate) name: String,
    pub(crate) index: u32,
}

impl Device {
    /// Makes a TAP for `interface`, with its MAC address and MTU, and brings it up. Answers it with
    /// the medium, which has a queue for each worker and every offload that the kernel knows.
    pub(crate) async fn make(
        kernel: &Kernel,
        prefix: &str,
        interface: &Interface,
        mac: MacAddr,
        workers: usize,
    ) -> Result<(Device, Medium), Apart> {
        let name = format!("{prefix}{}", interface.index);
        // The first makes the device, so that it is never another's. Without an owner, whoever may open /dev/net/tun
        // could take one of several queues.
        let open = |number| -> std::io::Result<OwnedFd> {
            let options = tap::Options { multi_queue: workers > 1, exclusive: number == 0 };
            let (fd, _) = tap::open(&name, options)?;
            if number == 0 {
                tap::set_owner(&fd, tap::ours())?;
            }
            Ok(fd)
        };
        let queues: Result<Vec<OwnedFd>, _> = (0..workers.max(1)).map(open).collect();
        let queues = queues.map_err(|error| not_made(&name, &error))?;
        let made = kernel.interface(&name).await?.ok_or(Apart::Anew)?;
        let device = Device { name, index: made.index };
        silence(&device.name);
        device.set(kernel, interface.mtu, mac).await?;
        kernel.set(device.index, &format!("bring {} up", device.name), |link| link.up()).await?;
        let takes = set_offloads(&queues[0], true).map_err(|error| {
            Apart::Refused(format!("cannot set the offloads of the device {}: {error}", device.name))
        })?;
        Ok((device, Medium::new(queues, takes)))
    }

    /// Brings it up again when somebody set it down; `now` is what it is.
    pub(crate) async fn repair(&self, kernel: &Kernel, now: &Interface) -> Result<(), Apart> {
        if now.up {
            return Ok(());
        }
        tracing::warn!("{} was set down; it is brought up again", self.name);
        Ok(kernel.set(self.index, &format!("bring {} up", self.name), |link| link.up()).await?)
    }

    /// Gives it this MTU.
    pub(crate) async fn set_mtu(&self, kernel: &Kernel, mtu: u32) -> Result<(), Apart> {
        let what = format!("set the MTU of {}", self.name);
        Ok(kernel.set(self.index, &what, |link| link.mtu(mtu.min(LONGEST_MTU))).await?)
    }

    /// Gives it this MTU and address.
    pub(crate) async fn set(&self, kernel: &Kernel, mtu: u32, mac: MacAddr) -> Result<(), Apart> {
        let what = format!("set the MTU and the address of {}", self.name);
        let mtu = mtu.min(LONGEST_MTU);
        Ok(kernel.set(self.index, &what, |link| link.mtu(mtu).address(mac.0.to_vec()).alias(ALIAS)).await?)
    }
}

/// Keeps the host's stack from speaking IPv6 through a device by itself. Where there is no IPv6, there is nothing to
/// turn off.
pub(crate) fn silence(name: &str) {
    let _ = std::fs::write(format!("/proc/sys/net/ipv6/conf/{name}/disable_ipv6"), "1");
}

/// Explains why a TAP was not made.
pub(crate) fn not_made(name: &str, error: &std::io::Error) -> Apart {
    let reason = match Errno::from_io_error(error) {
        Some(Errno::BUSY) => format!(
            "there is one of that name already; stop the program that has it open, or delete it: `ip link delete {name}`"
        ),
        Some(Errno::PERM | Errno::ACCESS) => format!("{error}; run vmlan with CAP_NET_ADMIN"),
        Some(Errno::NOENT | Errno::NODEV | Errno::NXIO) => {
            format!("{error}; load the tun module: `modprobe tun`")
        }
        _ => format!("{error}; see `vmlan doctor`"),
    };
    Apart::Refused(format!("cannot make the device {name}: {reason}"))
}
