use std::path::PathBuf;

/// The directory for what outlives the daemon, as leases do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub enum StateDirectory {
    /// The usual one: a service manager's `STATE_DIRECTORY`, or `vmlan` under `XDG_STATE_HOME`, `/var/lib` for root,
    /// `~/.local/state` for others; none where the environment names none.
    #[default]
    Usual,
    /// This one, which is made when something is kept.
    At(PathBuf),
    /// None: nothing outlives the daemon.
    None,
}

impl StateDirectory {
    /// Its path; none where nothing is kept.
    fn path(&self) -> Option<PathBuf> {
        match self {
            StateDirectory::Usual => usual(),
            StateDirectory::At(path) => Some(path.clone()),
            StateDirectory::None => None,
        }
    }

    /// The file for the positions of a vhost-user port's rings, which has to be in memory; none where nothing is kept.
    #[cfg(target_os = "linux")]
    pub(crate) fn rings_file(&self, place: &crate::Place) -> Option<PathBuf> {
        let directory = match self {
            StateDirectory::Usual => runtime()?,
            StateDirectory::At(path) => path.clone(),
            StateDirectory::None => return None,
        };
        // No name has a colon.
        let extension = vmlan_drivers::vhost_user::checkpoint::EXTENSION;
        Some(directory.join(format!("{}:{}.{extension}", place.network, place.port)))
    }

    /// The file for a network's leases; none where nothing is kept.
    pub(crate) fn lease_file(&self, network: &str) -> Option<PathBuf> {
        Some(self.path()?.join("leases").join(format!("{network}.json")))
    }
}

/// The path in a variable; a relative one counts as none (XDG Base Directory Specification).
fn of(name: &str) -> Option<PathBuf> {
    std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute())
}

/// The directory for what need not outlive the system: the service manager's, the system's for root, the user's.
#[cfg(target_os = "linux")]
fn runtime() -> Option<PathBuf> {
    of("RUNTIME_DIRECTORY").or_else(|| match rustix::process::geteuid().is_root() {
        true => Some(PathBuf::from("/run/vmlan")),
        false => of("XDG_RUNTIME_DIR").map(|directory| directory.join("vmlan")),
    })
}

fn usual() -> Option<PathBuf> {
    // A service manager's directory, the user's, the system's.
    of("STATE_DIRECTORY").or_else(|| {
        let home = || of("HOME").map(|home| home.join(".local/state"));
        let root = || rustix::process::geteuid().is_root().then(|| PathBuf::from("/var/lib"));
        of("XDG_STATE_HOME").or_else(root).or_else(home).map(|state| state.join("vmlan"))
    })
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    #[test]
    fn leases_are_where_they_were_told_to_be_or_nowhere() {
        let at = StateDirectory::At("/state".into());
        assert_eq!(at.lease_file("lab").as_deref(), Some(Path::new("/state/leases/lab.json")));
        assert_eq!(StateDirectory::None.lease_file("lab"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn positions_of_rings_are_where_they_were_told_to_be_or_nowhere() {
        let place = crate::Place { network: "lab".into(), port: "web".into() };
        let at = StateDirectory::At("/state".into());
        assert_eq!(at.rings_file(&place).as_deref(), Some(Path::new("/state/lab:web.rings")));
        assert_eq!(StateDirectory::None.rings_file(&place), None);
    }
}
