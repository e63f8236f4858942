//! The way out by the host's kernel: a feth pair, its addresses, an anchor of pf and the variables. Built, never run.
//!
//! Theory of operation. The host has the outer end of the pair, with the gateway's addresses; the inner end is read and
//! written by a packet filter's device. The stock /etc/pf.conf evaluates the anchors `com.apple/*`, so that is where
//! the rules are, and pf is kept on by a token of our own. Dropped, all of it goes, the rules first. A process that is
//! killed leaves them: the next one with this network replaces the rules, and `vmlan doctor --clean` takes the inner
//! end away; the outer one, which has the gateway's MAC address instead of our mark, has to be taken away by hand.

use std::io::Write as _;
use std::net::IpAddr;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;
use vmlan_drivers::Endpoint;
use vmlan_drivers::packet_filter::{self, Stations};
use vmlan_frame::Sides;
use vmlan_nat::envelope::GATEWAY_LINK_LOCAL;
use vmlan_nat::reach::Egress;
use vmlan_sys::interface;

use super::Rooms;
use super::forwards::Inward;
use super::pf::{self, Plan};
use crate::macos::{Pair, System};

/// Time between two looks at the ways out.
const LOOK: Duration = Duration::from_secs(30);

/// The variables that the kernel forwards by.
const FORWARDING4: &str = "net.inet.ip.forwarding";
const FORWARDING6: &str = "net.inet6.ip6.forwarding";

/// A network's way out by the kernel.
pub(super) struct Kernel {
    state: Mutex<State>,
    rooms: Rooms,
    endpoint: Arc<dyn Endpoint>,
    // The interfaces go after all that is on them.
    pair: Pair<System>,
}

struct State {
    anchor: Anchor,
    // After the rules, which keep strangers from guests.
    _variables: Vec<Variable>,
    /// The rules' sources, as they were last.
    rules: Option<(Egress, Vec<Inward>)>,
    ways: Ways,
    looked: Option<Instant>,
}

/// The interfaces of the default routes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Ways {
    v4: Option<String>,
    v6: Option<String>,
}

impl Kernel {
    /// Makes the pair and lets the kernel forward; there are no rules yet.
    pub(super) fn open(network: &str, rooms: Rooms, mtu: usize) -> Result<Kernel, String> {
        let explain = |error: &dyn std::fmt::Display| {
            format!("mode `kernel`: {error}; run vmlan as root, or write `mode = \"user\"`")
        };
        let octets = u32::try_from(mtu).unwrap_or(u32::MAX);
        let pair = Pair::make(&System, octets).map_err(|error| explain(&error))?;
        interface::set_mac(pair.outer, rooms.mac.0).map_err(|error| explain(&error))?;
        let outer = pair.outer.as_str();
        let link_local = rooms.subnet6.map(|_| IpAddr::V6(GATEWAY_LINK_LOCAL));
        for address in rooms.hosts(1).chain(link_local) {
            let (family, address) = match address {
                IpAddr::V4(address) => ("inet", format!("{address}/{}", rooms.subnet.prefix)),
                IpAddr::V6(address) if address == GATEWAY_LINK_LOCAL => {
                    ("inet6", format!("{address}%{outer}"))
                }
                IpAddr::V6(address) => ("inet6", address.to_string()),
            };
            let mut words = vec![outer, family, &address, "alias"];
            if family == "inet6" {
                words.extend(["prefixlen", "64"]);
            }
            run("ifconfig", &words, "").map_err(|error| explain(&error))?;
        }
        let opened = packet_filter::open(pair.inner, Stations::everybody(), Sides::NONE, false)
            .map_err(|error| explain(&format!("{error} for {}: {}", pair.inner, error.source)))?;
        let wanted = [Some(FORWARDING4), rooms.subnet6.map(|_| FORWARDING6)];
        let variables = wanted.into_iter().flatten().map(Variable::set).collect::<Result<Vec<_>, _>>();
        let state = State {
            anchor: Anchor::begin(network).map_err(|error| explain(&error))?,
            _variables: variables.map_err(|error| explain(&error))?,
            rules: None,
            ways: Ways::look(),
            looked: None,
        };
        Ok(Kernel { state: Mutex::new(state), rooms, endpoint: Arc::new(opened.device), pair })
    }

    /// The device's name.
    pub(super) fn device(&self) -> &str {
        self.pair.outer.as_str()
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
        state.rules = None;
        self.load(&state, egress, &inward)?;
        state.rules = Some((egress.clone(), inward));
        Ok(())
    }

    /// Others' firewalls are not changed here.
    ///
    /// # Errors
    /// It is wanted.
    pub(super) async fn integrate(&self, wanted: bool) -> Result<(), String> {
        match wanted {
            true => Err("macOS has no firewall that `integrate` knows; remove it from the uplink".to_owned()),
            false => Ok(()),
        }
    }

    /// Follows the default routes, now and then. Answers with what is in the way, when that may have changed.
    ///
    /// # Errors
    /// None in practice.
    pub(super) async fn look(&self) -> Result<Option<Vec<String>>, String> {
        let mut state = self.state.lock().await;
        if state.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return Ok(None);
        }
        state.looked = Some(Instant::now());
        let ways = Ways::look();
        if ways == state.ways {
            return Ok(None);
        }
        state.ways = ways;
        let loaded = match &state.rules {
            Some((egress, inward)) => self.load(&state, egress, inward),
            None => Ok(()),
        };
        Ok(Some(loaded.err().into_iter().collect()))
    }

    fn load(&self, state: &State, egress: &Egress, inward: &[Inward]) -> Result<(), String> {
        let ways = &state.ways;
        state.anchor.load(&pf::text(&Plan {
            device: self.device(),
            subnet: (self.rooms.subnet, ways.v4.as_deref()),
            subnet6: self.rooms.subnet6.map(|subnet| (subnet, ways.v6.as_deref())),
            egress,
            inward,
        }))
    }
}

impl Ways {
    fn look() -> Ways {
        let of = |family: &[&str]| {
            let answer = run("route", &[&["-n", "get"], family, &["default"]].concat(), "").ok()?;
            pf::way_out(&answer).map(str::to_owned)
        };
        Ways { v4: of(&[]), v6: of(&["-inet6"]) }
    }
}

/// A network's anchor of pf, and a token that keeps pf on. Dropped, both go.
struct Anchor {
    name: String,
    token: String,
}

impl Anchor {
    fn begin(network: &str) -> Result<Anchor, String> {
        let answer = run("pfctl", &["-E"], "")?;
        let token = answer.lines().find_map(|line| line.strip_prefix("Token : "));
        let token = token.ok_or_else(|| format!("pfctl -E gives no token: {}", answer.trim()))?;
        Ok(Anchor { name: format!("com.apple/vmlan-{network}"), token: token.trim().to_owned() })
    }

    /// Replaces the rules in one step.
    fn load(&self, text: &str) -> Result<(), String> {
        run("pfctl", &["-q", "-a", &self.name, "-f", "-"], text).map(drop)
    }
}

impl Drop for Anchor {
    fn drop(&mut self) {
        for words in [&["-q", "-a", &self.name, "-F", "all"][..], &["-q", "-X", &self.token]] {
            if let Err(error) = run("pfctl", words, "") {
                tracing::warn!("{error}");
            }
        }
    }
}

/// A variable of the kernel's that was changed. Dropped, it is as before.
struct Variable {
    name: &'static str,
    before: String,
}

impl Variable {
    fn set(name: &'static str) -> Result<Variable, String> {
        let before = run("sysctl", &["-n", name], "")?.trim().to_owned();
        if before != "1" {
            run("sysctl", &["-w", &format!("{name}=1")], "")?;
        }
        Ok(Variable { name, before })
    }
}

impl Drop for Variable {
    fn drop(&mut self) {
        if self.before != "1"
            && let Err(error) = run("sysctl", &["-w", &format!("{}={}", self.name, self.before)], "")
        {
            tracing::warn!("{error}");
        }
    }
}

/// Runs a program of the system's with this input. Returns what it says: pfctl tells its token by standard error.
fn run(program: &str, words: &[&str], input: &str) -> Result<String, String> {
    let explain = |why: &dyn std::fmt::Display| format!("`{program} {}` failed: {why}", words.join(" "));
    let mut child = Command::new(program)
        .args(words)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| explain(&error))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that ends before it has read all says why.
        let _ = stdin.write_all(input.as_bytes());
    }
    let output = child.wait_with_output().map_err(|error| explain(&error))?;
    let [out, err] =
        [&output.stdout, &output.stderr].map(|octets| String::from_utf8_lossy(octets).into_owned());
    match output.status.success() {
        true => Ok(out + &err),
        false => Err(explain(&err.trim())),
    }
}
