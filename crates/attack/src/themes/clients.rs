//! Clients in great numbers, of one user.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::net::{SendFlags, SocketAddrUnix, SocketType, send};

use crate::attack::{Attack, Card, Field, Held, Stage};
use crate::peers::{Bound, become_nobody, tunnel, vde, vde_ask, without_waiting};
use crate::wire::{MacAddr, attacker, noise, udp};

pub(super) const ALL: &[&dyn Attack] = &[&ManyPlugs, &ManyTunnels];

/// Most plugs of one user.
const PLUGS: usize = 1024;
/// Refusals in a row after which no more is tried.
const REFUSALS: usize = 10;

/// Clients that are opened before all that there are send again.
const AT_ONCE: usize = 8;

/// A plug and its control connection, when the switch gives one.
fn plug(field: &Field, number: usize) -> anyhow::Result<Option<(Bound, OwnedFd)>> {
    let local = Bound::new(SocketType::DGRAM, field.temporary(number))?;
    let Ok(Some((control, path))) = vde_ask(&field.path("v"), &local.path) else { return Ok(None) };
    let to = SocketAddrUnix::new(path)?;
    if rustix::net::connect(&local.socket, &to).is_err() {
        return Ok(None);
    }
    without_waiting(&local.socket)?;
    Ok(Some((local, control)))
}

/// One user's plugs in a VDE directory, each of which broadcasts.
struct ManyPlugs;

impl Attack for ManyPlugs {
    fn card(&self) -> Card {
        Card::new(
            "many-plugs",
            "another user opens up to 1,024 plugs in a VDE directory, and all of them broadcast",
        )
        .on(Stage::Users)
        .for_at_least(Duration::from_millis(400))
        .churning()
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.v]\nvde = { directory = \"v\", mode = \"0666\" }\n".to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        become_nobody()?;
        let (mut plugs, mut refusals) = (Vec::new(), 0);
        while !field.is_over() {
            for _ in 0..AT_ONCE {
                if plugs.len() == PLUGS || refusals == REFUSALS || field.is_over() {
                    break;
                }
                match plug(field, plugs.len())? {
                    Some(plug) => {
                        plugs.push(plug);
                        refusals = 0;
                    }
                    None => refusals += 1,
                }
            }
            for (number, (local, _)) in plugs.iter().enumerate() {
                let frame = noise(MacAddr::BROADCAST, attacker(number));
                let _ = send(&local.socket, &frame, SendFlags::NOSIGNAL);
            }
            if plugs.is_empty() {
                field.pause(Duration::from_millis(20));
            }
        }
        field.note(format!("{} plugs", plugs.len()));
        Ok(Box::new(plugs))
    }

    fn during(&self, field: &Field) -> anyhow::Result<()> {
        if let Err(error) = vde(&field.path("v"), field.patience) {
            field.broken(format!("another user gets no plug meanwhile: {error}"));
        }
        Ok(())
    }
}

/// One user's tunnels, each of which broadcasts.
struct ManyTunnels;

impl Attack for ManyTunnels {
    fn card(&self) -> Card {
        Card::new("many-tunnels", "another user opens as many tunnels as it can, and all of them broadcast")
            .on(Stage::Users)
            .for_at_least(Duration::from_millis(400))
            .churning()
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.t]\ntunnel = { listen = \"t.sock\", allow = \"10.0.0.0/24\", mode = \"0666\" }\n"
            .to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        become_nobody()?;
        let (mut tunnels, mut refusals, mut numbers) = (Vec::new(), 0, 2..=250_u8);
        while !field.is_over() {
            for number in numbers.by_ref().take(AT_ONCE) {
                if refusals == REFUSALS || field.is_over() {
                    break;
                }
                match tunnel(&field.path("t.sock"), &[Ipv4Addr::new(10, 0, 0, number)]) {
                    Ok(tunnel) => {
                        without_waiting(tunnel.data())?;
                        tunnels.push((number, tunnel));
                        refusals = 0;
                    }
                    Err(_) => refusals += 1,
                }
            }
            for (number, tunnel) in &tunnels {
                let from = (Ipv4Addr::new(10, 0, 0, *number), 1);
                let _ = tunnel.send(&udp(from, (Ipv4Addr::BROADCAST, 2), &[0; 20], false));
            }
            if tunnels.is_empty() {
                field.pause(Duration::from_millis(20));
            }
        }
        field.note(format!("{} tunnels", tunnels.len()));
        Ok(Box::new(tunnels))
    }

    fn during(&self, field: &Field) -> anyhow::Result<()> {
        if let Err(error) = tunnel(&field.path("t.sock"), &[Ipv4Addr::new(10, 0, 0, 1)]) {
            field.broken(format!("another user gets no tunnel meanwhile: {error}"));
        }
        Ok(())
    }
}
