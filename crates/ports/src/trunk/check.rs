//! The host's interface that a network is joined to: one, in a mode that can do what is asked.

use vmlan_api::{ErrorCode, SharedMac, TrunkHooks, TrunkMode};

use crate::{Trunk, TrunkInterface, Validator, Vlan, join};

/// Octets of an alternative name of an interface (`ALTIFNAMSIZ` without its NUL).
const LONGEST_NAME: usize = 127;

impl Validator {
    /// The trunk of the network `network`, whose table is at `path`.
    pub fn trunk(&mut self, path: &str, network: &str, trunk: &vmlan_api::TrunkConfig) -> Option<Trunk> {
        let before = self.faults.len();
        let interface = match (&trunk.interface, &trunk.bridge) {
            (Some(name), None) => TrunkInterface::Interface(self.interface(&join(path, "interface"), name)?),
            (None, Some(name)) => TrunkInterface::Bridge(self.interface(&join(path, "bridge"), name)?),
            (None, None) => {
                let message =
                    "the trunk has no interface; write `interface = \"eth0\"` or `bridge = \"br0\"`";
                self.fault(ErrorCode::MissingKey, path, message);
                return None;
            }
            (Some(_), Some(_)) => {
                let message = "`interface` and `bridge` exclude each other; keep one of them";
                self.fault(ErrorCode::Conflict, path, message);
                return None;
            }
        };
        let vlan = trunk.vlan.as_ref().map_or(Some(Vlan::None), |vlan| self.vlan(&join(path, "vlan"), vlan));
        let trunk = Trunk {
            interface,
            mode: trunk.mode.unwrap_or_default(),
            hooks: trunk.hooks.unwrap_or_default(),
            host: trunk.host,
            wire: trunk.wire.unwrap_or(true),
            shared_mac: trunk.shared_mac.unwrap_or_default(),
            wait: trunk.wait.unwrap_or(false),
            promiscuous: trunk.promiscuous.unwrap_or_default() == vmlan_api::Promiscuous::Allow,
            vlan: vlan?,
        };
        self.trunk_mode(path, &trunk);
        self.holders.take_interface(path, network, &trunk).map_err(|error| self.faults.push(error)).ok()?;
        (self.faults.len() == before).then_some(trunk)
    }

    /// Checks that the mode can do what the other keys ask for.
    fn trunk_mode(&mut self, path: &str, trunk: &Trunk) {
        let is_bridge = matches!(trunk.interface, TrunkInterface::Bridge(_));
        let mode = trunk.mode.as_str();
        let complaint = match trunk.mode {
            TrunkMode::Bridge if !is_bridge => Some((
                "mode",
                "mode `bridge` makes the network a port of a bridge; name it with `bridge` instead of `interface`"
                    .to_owned(),
            )),
            TrunkMode::Filter | TrunkMode::Packet | TrunkMode::Xdp | TrunkMode::Macvtap if is_bridge => {
                Some(("mode", format!("a bridge cannot be used in mode `{mode}`; leave `mode` away, or name the interface")))
            }
            TrunkMode::Packet | TrunkMode::Xdp | TrunkMode::Macvtap if trunk.host == Some(true) => {
                Some(("host", format!("mode `{mode}` does not reach the host's own stack; write `host = false`, or `mode = \"filter\"`")))
            }
            TrunkMode::Packet | TrunkMode::Xdp | TrunkMode::Macvtap if !trunk.wire => {
                Some(("wire", format!("mode `{mode}` reaches the wire only; write `wire = true`, or `mode = \"filter\"`")))
            }
            mode if trunk.hooks != TrunkHooks::Auto
                && (is_bridge || !matches!(mode, TrunkMode::Auto | TrunkMode::Filter)) =>
            {
                Some(("hooks", "only mode `filter` hangs programs on hooks; leave `hooks` away".to_owned()))
            }
            _ if is_bridge && trunk.shared_mac == SharedMac::On => Some((
                "shared_mac",
                "a bridge takes frames from any address; leave `shared_mac` away, or name the interface".to_owned(),
            )),
            _ if trunk.host == Some(false) && !trunk.wire => Some((
                "wire",
                "a trunk with neither `host` nor `wire` reaches nobody; allow one of them, or remove the trunk"
                    .to_owned(),
            )),
            _ => None,
        };
        if let Some((key, message)) = complaint {
            self.fault(ErrorCode::Conflict, &join(path, key), message);
        }
    }

    fn interface(&mut self, path: &str, name: &str) -> Option<String> {
        self.interface_name(path, name, LONGEST_NAME)?;
        if name.contains('%') {
            let message = format!("`{name}` is no name of an interface that is there; see `ip link`");
            self.fault(ErrorCode::BadDeviceName, path, message);
            return None;
        }
        Some(name.to_owned())
    }
}
