//! The way out by the host's kernel: a device, its addresses, the rules and the variables.

mod blocked;
mod device;
mod integrate;
mod ledger;
mod nft;
mod routes;
mod sysctl;

use std::sync::Arc;

use tokio::sync::Mutex;
use tokio::time::{Duration, Instant};
use vmlan_drivers::Endpoint;
use vmlan_nat::reach::Egress;

use super::Rooms;
use super::forwards::Inward;
use super::rules::Plan;
use crate::stable;

/// Time between two looks at other programs' rules and at the ways out.
const LOOK: Duration = Duration::from_secs(30);

/// The same where rules of ours are to be in others' firewalls, which lose them when they start anew.
const LOOK_AFTER_OURS: Duration = Duration::from_secs(5);

/// A network's way out by the kernel. Dropped, it goes: the table with its program, and the variables.
pub(super) struct Kernel {
    rooms: Rooms,
    names: Names,
    state: Mutex<State>,
    endpoint: Arc<dyn Endpoint>,
}

/// The names that the kernel knows an uplink by.
struct Names {
    table: String,
    device: String,
}

struct State {
    // The table goes before what it needs.
    table: nft::Table,
    variables: sysctl::Held,
    integration: integrate::Integration,
    /// Others' firewalls are to let the guests through.
    integrates: bool,
    generation: u64,
    /// The rules' sources, as they were last.
    rules: Option<(Egress, Vec<Inward>)>,
    looked: Option<Instant>,
    notes: Vec<String>,
}

impl Names {
    fn of(network: &str) -> Names {
        /// Octets of a device's name.
        const LONGEST: usize = 15;
        let device = format!("vmu-{network}");
        let device = match device.len() <= LONGEST {
            true => device,
            false => format!("vmu-{:010x}", stable::number(&[network.as_bytes()]) & 0xff_ffff_ffff),
        };
        Names { table: format!("vmlan_{network}"), device }
    }
}

impl Kernel {
    /// Makes the device and starts the program for the rules, of which there are none yet.
    pub(super) fn open(network: &str, rooms: Rooms, mtu: usize) -> Result<Kernel, String> {
        let names = Names::of(network);
        if !vmlan_sys::rights::over_interfaces() {
            return Err(
                "mode `kernel` needs CAP_NET_ADMIN: run vmlan as root, or write `mode = \"user\"`".into()
            );
        }
        routes::check(&rooms)?;
        // It is there once, so it keeps another daemon from the same variables and table too.
        let device = device::make(&names.device, &rooms, mtu)?;
        let variables = sysctl::Held::begin(network)?;
        variables.need(&routes::variables(&names.device, rooms.subnet6.is_some(), sysctl::get))?;
        let state = State {
            table: nft::Table::start()?,
            variables,
            integration: integrate::Integration::begin(network, &names.device)?,
            integrates: false,
            generation: 0,
            rules: None,
            looked: None,
            notes: Vec::new(),
        };
        Ok(Kernel { rooms, names, state: Mutex::new(state), endpoint: Arc::new(device) })
    }

    /// The device's name.
    pub(super) fn device(&self) -> &str {
        &self.names.device
    }

    /// The device.
    pub(super) fn endpoint(&self) -> Arc<dyn Endpoint> {
        self.endpoint.clone()
    }

    /// Makes the rules those of what is open and of the forwards.
    ///
    /// # Errors
    /// The kernel did not take them; the ones before hold.
    pub(super) async fn update(&self, egress: &Egress, inward: Vec<Inward>) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if state.rules.as_ref().is_some_and(|(old, forwards)| old == egress && *forwards == inward) {
            return Ok(());
        }
        state.generation += 1;
        state.rules = None;
        let plan = Plan {
            table: &self.names.table,
            device: &self.names.device,
            subnet: self.rooms.subnet,
            subnet6: self.rooms.subnet6,
            egress,
            inward: &inward,
            generation: state.generation,
        };
        state.table.replace(&plan).await?;
        state.rules = Some((egress.clone(), inward));
        Ok(())
    }

    /// Has others' firewalls let the guests through, or leaves them alone.
    ///
    /// # Errors
    /// Rules of ours are not removed.
    pub(super) async fn integrate(&self, wanted: bool) -> Result<(), String> {
        let mut state = self.state.lock().await;
        if state.integrates == wanted {
            return Ok(());
        }
        state.integrates = wanted;
        state.looked = None;
        if wanted { Ok(()) } else { state.integration.undo() }
    }

    /// Looks at the host, now and then. Answers with what is in the way, when that has changed.
    ///
    /// # Errors
    /// The table is gone.
    pub(super) async fn look(&self) -> Result<Option<Vec<String>>, String> {
        let mut state = self.state.lock().await;
        if !state.table.is_there() {
            return Err("nft has ended, and the rules with it".to_owned());
        }
        let pause = if state.integrates { LOOK_AFTER_OURS } else { LOOK };
        if state.looked.is_some_and(|at| at.elapsed() < pause) {
            return Ok(None);
        }
        state.looked = Some(Instant::now());
        let mut notes = Vec::new();
        let wanted = routes::variables(&self.names.device, self.rooms.subnet6.is_some(), sysctl::get);
        notes.extend(state.variables.need(&wanted).err());
        let mut blockers = self.blockers().await;
        if state.integrates {
            let (cured, failed) = cure(&state.integration, &blockers).await;
            notes.extend(failed);
            if cured {
                blockers = self.blockers().await;
            }
        }
        blockers.dedup_by(|one, other| one.owner == other.owner);
        notes.extend(blockers.iter().map(blocked::Blocker::note));
        let changed = notes != state.notes;
        state.notes.clone_from(&notes);
        Ok(changed.then_some(notes))
    }

    async fn blockers(&self) -> Vec<blocked::Blocker> {
        let device = &self.names.device;
        let mut found = match nft::output("nft", &["-j", "list", "ruleset"]).await {
            Ok(listing) => blocked::in_nft(&listing, device),
            Err(error) => {
                tracing::debug!("the host's rules cannot be listed: {error}");
                Vec::new()
            }
        };
        for (family, tables, program) in [
            ("ip", "/proc/net/ip_tables_names", "iptables-legacy-save"),
            ("ip6", "/proc/net/ip6_tables_names", "ip6tables-legacy-save"),
        ] {
            // Only to list tables that are not there would make them.
            if std::fs::read_to_string(tables).is_ok_and(|names| names.lines().any(|name| name == "filter"))
                && let Ok(listing) = nft::output(program, &["-t", "filter"]).await
            {
                found.extend(blocked::in_legacy(&listing, family, device));
            }
        }
        found.sort();
        found
    }
}

/// Has the firewalls in the way let the guests through. Returns whether one does now, and why others do not.
async fn cure(integration: &integrate::Integration, blockers: &[blocked::Blocker]) -> (bool, Vec<String>) {
    let (mut cured, mut failed) = (false, Vec::new());
    for blocker in blockers {
        match integration.cure(blocker).await {
            Ok(is_cured) => cured |= is_cured,
            Err(reason) => {
                failed.push(format!(
                    "`integrate` cannot have {} let the guests through: {reason}",
                    blocker.owner
                ));
            }
        }
    }
    (cured, failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_fit_and_stay_the_same() {
        assert_eq!(Names::of("lab").device, "vmu-lab");
        assert_eq!(Names::of("lab").table, "vmlan_lab");
        let long = Names::of("a-network-with-a-long-name");
        assert_eq!(long.device.len(), 14);
        assert_eq!(long.device, Names::of("a-network-with-a-long-name").device);
        assert_ne!(long.device, Names::of("a-network-with-a-long-namf").device);
    }
}
