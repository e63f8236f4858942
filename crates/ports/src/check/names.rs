use std::path::{Path, PathBuf};

use vmlan_api::ErrorCode;

use super::{Validator, shown};

/// Octets of a device name (`IFNAMSIZ` without its NUL).
const LONGEST_DEVICE_NAME: usize = 15;
/// The prefixes of the names of devices that belong to trunks and interface ports; a number follows.
const OUR_OWN: [&str; 5] = ["vmlh", "vmlw", "vmlb", "vmlm", "vmli"];
/// Where `ip netns` keeps its names.
const NETNS_DIRECTORY: &str = "/run/netns";

impl Validator {
    /// The name of a device that may have to be made.
    pub fn device_name(&mut self, path: &str, name: &str) -> Option<()> {
        self.interface_name(path, name, LONGEST_DEVICE_NAME)?;
        if is_our_own(name) {
            let message = format!("`{}` is a name for devices of vmlan's own; choose another", shown(name));
            return self.refuse(ErrorCode::BadDeviceName, path, message);
        }
        Some(())
    }

    /// The rules of Linux's `dev_valid_name`, and of its patterns: one `%d`.
    pub fn interface_name(&mut self, path: &str, name: &str, longest: usize) -> Option<()> {
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

    /// The file of a network namespace, which is given or has this name for `ip netns`.
    pub fn netns(&mut self, path: &str, text: &str) -> Option<PathBuf> {
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
}

/// True if a device of this name would be taken for one of our own, and removed.
fn is_our_own(name: &str) -> bool {
    let number = OUR_OWN.iter().find_map(|prefix| name.strip_prefix(prefix));
    number.is_some_and(|number| number == "%d" || number.parse::<u32>().is_ok())
}
