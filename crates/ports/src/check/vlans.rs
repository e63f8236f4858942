use std::collections::BTreeSet;

use vmlan_api::ErrorCode;
use vmlan_frame::{MacAddr, VlanId};

use super::{Validator, join, shown};
use crate::settings::Vlan;

impl Validator {
    /// The address of one station.
    pub fn mac(&mut self, path: &str, text: &str) -> Option<MacAddr> {
        let Ok(mac) = text.parse::<MacAddr>() else {
            let message = format!(
                "`{}` is no MAC address; write six pairs of hexadecimal digits as in 52:54:00:12:34:56",
                shown(text)
            );
            self.fault(ErrorCode::BadMac, path, message);
            return None;
        };
        if !mac.is_station() {
            let kind =
                if mac.is_multicast() { "a group address (the first octet is odd)" } else { "no address" };
            self.fault(
                ErrorCode::BadMac,
                path,
                format!("{mac} is {kind}; a guest needs an address of its own"),
            );
            return None;
        }
        Some(mac)
    }

    /// A role in VLANs.
    pub fn vlan(&mut self, path: &str, vlan: &vmlan_api::VlanConfig) -> Option<Vlan> {
        match (vlan.access, &vlan.tagged, vlan.native) {
            (Some(access), None, None) => self.vlan_id(&join(path, "access"), access).map(Vlan::Access),
            (None, Some(tagged), native) => {
                let tagged_path = join(path, "tagged");
                if tagged.is_empty() {
                    self.fault(
                        ErrorCode::OutOfRange,
                        &tagged_path,
                        "the list of VLANs is empty; name at least one",
                    );
                }
                let each = tagged.iter().enumerate();
                let allowed: BTreeSet<_> = each
                    .filter_map(|(index, number)| self.vlan_id(&format!("{tagged_path}[{index}]"), *number))
                    .collect();
                let native = native.and_then(|number| self.vlan_id(&join(path, "native"), number));
                Some(Vlan::Trunk { allowed, native })
            }
            (None, None, Some(_)) => {
                self.fault(
                    ErrorCode::MissingKey,
                    path,
                    "`native` stands beside `tagged`; add `tagged = [N, …]`, or write `access = N`",
                );
                None
            }
            (None, None, None) => {
                self.fault(
                    ErrorCode::MissingKey,
                    path,
                    "write { access = N } or { tagged = [N, …], native = N }",
                );
                None
            }
            (Some(_), _, _) => {
                self.fault(
                    ErrorCode::Conflict,
                    path,
                    "`access` excludes `tagged` and `native`; keep one of them",
                );
                None
            }
        }
    }

    /// A VLAN.
    pub fn vlan_id(&mut self, path: &str, number: u64) -> Option<VlanId> {
        let id = u16::try_from(number).ok().and_then(|number| VlanId::new(number).ok());
        if id.is_none() {
            self.fault(ErrorCode::OutOfRange, path, format!("{number} is no VLAN; use 1 to 4094"));
        }
        id
    }
}
