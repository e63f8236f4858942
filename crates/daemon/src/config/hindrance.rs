//! Ports of a valid configuration that can never be set up, because the system refuses what they ask for.
//!
//! They cost nothing but themselves: the daemon starts, and the port says why it failed. `vmlan check` says it before.

use api::{Error, ErrorCode};

use super::valid::{Attachment, Tap, TapSource, TunnelSource, ValidConfig};

/// Names that Linux refuses to devices, since they would hide its own directories in /proc/sys/net.
const RESERVED: [&str; 2] = ["all", "default"];

/// Most octets of a TAP's packets: 65535 with the Ethernet header.
const LONGEST_TAP_MTU: usize = 65_521;

/// Everything in a configuration that can never be set up, each with the dotted path of the member at fault.
pub fn hindrances(config: &ValidConfig) -> Vec<Error> {
    let mut found = Vec::new();
    for (network, settings) in config.networks() {
        for (port, table) in &settings.ports {
            let hindrance = match &table.attachment {
                Attachment::Tap(tap) => of_tap(tap, settings.settings.mtu.octets()),
                Attachment::Tunnel(tunnel) => match &tunnel.source {
                    TunnelSource::Device { name, .. } => of_name(name).map(|error| error.within("device")),
                    TunnelSource::Listen { .. } => None,
                },
                _ => None,
            };
            let at = format!("network.{network}.port.{port}.{}", table.attachment.kind().as_str());
            found.extend(hindrance.map(|hindrance| hindrance.at(&at)));
        }
    }
    found
}

/// Why something can never be set up.
pub(crate) struct Hindrance {
    code: ErrorCode,
    key: Option<&'static str>,
    pub(crate) message: String,
}

impl Hindrance {
    fn within(self, key: &'static str) -> Hindrance {
        Hindrance { key: Some(key), ..self }
    }

    fn at(self, path: &str) -> Error {
        let path = self.key.map_or(path.to_owned(), |key| format!("{path}.{key}"));
        Error::at(self.code, path, self.message)
    }
}

/// What keeps a TAP from being set up on a network of this MTU.
pub(crate) fn of_tap(tap: &Tap, mtu: usize) -> Option<Hindrance> {
    let TapSource::Named { name, .. } = &tap.source else { return None };
    if let Some(hindrance) = name.as_deref().and_then(of_name) {
        return Some(hindrance.within("name"));
    }
    (mtu > LONGEST_TAP_MTU).then(|| {
        let message = format!(
            "a TAP takes an MTU of at most {LONGEST_TAP_MTU}, and the network has {mtu}; choose a lower `mtu`"
        );
        Hindrance { code: ErrorCode::OutOfRange, key: None, message }
    })
}

/// What keeps a device from having this name.
pub(crate) fn of_name(name: &str) -> Option<Hindrance> {
    RESERVED.contains(&name).then(|| {
        let message = format!("the kernel keeps the name `{name}` for itself; choose another name");
        Hindrance { code: ErrorCode::BadDeviceName, key: None, message }
    })
}
