//! The modes of trunks that this process may use on this machine (docs/trunk.md).

use std::io;

use rustix::thread::CapabilitySet;
use vmlan_drivers::host::programs;
use vmlan_sys::{ebpf, packet, rights};

use crate::doctor::{Check, Level, Subject};

/// Versions of Linux: the first whose interfaces have hooks of their own (tcx), and the first for mode `xdp`.
const TCX: (u32, u32) = (6, 6);
const XDP: (u32, u32) = (6, 8);

/// Tries what each mode is made of, on no interface.
pub fn check() -> Check {
    let version = version(&rustix::system::uname().release().to_string_lossy());
    let needs = Needs {
        net_admin: rights::over_interfaces(),
        // Root's rights to everything were those of observing too before there was a name for them.
        perfmon: rights::has(CapabilitySet::PERFMON) || rights::has(CapabilitySet::SYS_ADMIN),
        packet_socket: packet::sender("lo").map(drop),
        program: ebpf::load_classifier("vmlan_doctor", &programs::idle()).map(drop),
        version,
    };
    needs.judge()
}

/// Findings about the needs of the modes.
struct Needs {
    net_admin: bool,
    perfmon: bool,
    packet_socket: io::Result<()>,
    program: io::Result<()>,
    version: (u32, u32),
}

impl Needs {
    fn judge(&self) -> Check {
        let Needs { version, .. } = *self;
        let missing = |present: bool, what: &str| (!present).then(|| what.to_owned());
        let failed = |tried: &io::Result<()>, right: &str, what: &str| match tried {
            Ok(()) => None,
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => Some(right.to_owned()),
            Err(error) => Some(format!("{what} ({error})")),
        };
        let net_admin = || missing(self.net_admin, "CAP_NET_ADMIN");
        let socket = || failed(&self.packet_socket, "CAP_NET_RAW", "packet sockets");
        let program = || failed(&self.program, "CAP_BPF", "BPF programs");
        let newer = format!("Linux {}.{}", XDP.0, XDP.1);
        let hooks = if version >= TCX { "filter (tcx)" } else { "filter (clsact)" };
        let modes = [
            (hooks, vec![net_admin(), socket(), program()]),
            ("packet", vec![socket()]),
            (
                "xdp",
                vec![
                    net_admin(),
                    socket(),
                    program(),
                    missing(self.perfmon, "CAP_PERFMON"),
                    missing(version >= XDP, &newer),
                ],
            ),
            ("macvtap", vec![net_admin()]),
            ("bridge", vec![net_admin()]),
        ];
        let modes =
            modes.map(|(mode, missing)| (mode, missing.into_iter().flatten().collect::<Vec<_>>().join(", ")));
        let allowed: Vec<_> =
            modes.iter().filter(|(_, missing)| missing.is_empty()).map(|(mode, _)| *mode).collect();
        let lacking: Vec<_> = modes
            .iter()
            .filter(|(_, missing)| !missing.is_empty())
            .map(|(mode, missing)| format!("{mode} lacks {missing}"))
            .collect();
        let value = if allowed.is_empty() { "none".to_owned() } else { allowed.join(", ") };
        let lacks = lacking.join("; ");
        let hint = match lacks.contains("CAP_") {
            true => Some(format!("run vmlan as root for more: {lacks}")),
            false => (!lacks.is_empty()).then_some(lacks),
        };
        // `xdp` is for those who ask for it; the others are what `auto` chooses from.
        let others = lacking.iter().any(|lacking| !lacking.starts_with("xdp"));
        Check { check: Subject::Trunk, status: if others { Level::Warn } else { Level::Ok }, value, hint }
    }
}

/// The first two numbers of a kernel's release.
fn version(release: &str) -> (u32, u32) {
    let mut numbers = release.split(|c: char| !c.is_ascii_digit()).map(|part| part.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all() -> Needs {
        Needs { net_admin: true, perfmon: true, packet_socket: Ok(()), program: Ok(()), version: (6, 18) }
    }

    fn denied() -> io::Result<()> {
        Err(io::ErrorKind::PermissionDenied.into())
    }

    #[test]
    fn modes_that_lack_something_are_told_with_what() {
        let check = all().judge();
        assert_eq!(
            (check.status, check.value.as_str()),
            (Level::Ok, "filter (tcx), packet, xdp, macvtap, bridge")
        );
        assert_eq!(check.hint, None);
        for (needs, value, hint) in [
            (
                Needs { version: (6, 1), ..all() },
                "filter (clsact), packet, macvtap, bridge",
                "xdp lacks Linux 6.8",
            ),
            (
                Needs { program: denied(), ..all() },
                "packet, macvtap, bridge",
                "filter (tcx) lacks CAP_BPF; xdp",
            ),
            (Needs { packet_socket: denied(), ..all() }, "macvtap, bridge", "packet lacks CAP_NET_RAW;"),
            (Needs { net_admin: false, ..all() }, "packet", "macvtap lacks CAP_NET_ADMIN"),
        ] {
            let check = needs.judge();
            assert_eq!(check.value, value);
            assert!(check.hint.as_ref().is_some_and(|found| found.contains(hint)), "{check:?}");
            assert_eq!(check.status == Level::Ok, value.contains("filter"), "{check:?}");
        }
        let absent = Needs { program: Err(io::ErrorKind::Unsupported.into()), ..all() }.judge();
        assert!(absent.hint.is_some_and(|hint| hint.starts_with("filter (tcx) lacks BPF programs (")));
        let nothing = Needs { net_admin: false, packet_socket: denied(), ..all() };
        assert_eq!(nothing.judge().value, "none");
    }

    #[test]
    fn releases_are_read_by_their_first_two_numbers() {
        assert_eq!(version("6.18.0-rc1+deb13-amd64"), (6, 18));
        assert_eq!(version("6.8"), (6, 8));
        assert_eq!(version("strange"), (0, 0));
    }
}
