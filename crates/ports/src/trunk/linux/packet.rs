//! Mode `packet`: frames of the wire are read and written beside the host's own stack.
//!
//! A packet socket gets copies of what the interface receives for guests and for groups, by a program of classic BPF
//! that is set before the socket hears anything, and again whenever guests come or go. The host's stack gets the frames
//! as well, and drops those for guests as another station's. What guests send goes to the wire only: the host itself
//! is not reached in this mode.

use std::collections::BTreeSet;
use std::future::ready;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use vmlan_api::TrunkMode;
use vmlan_bpf::{Address, Builder, Operand, Step, Test, ValidProgram, WHOLE_PACKET, Width};
use vmlan_drivers::host::{BySource, PacketSocket};
use vmlan_drivers::{Endpoint, Flows};
use vmlan_frame::{MacAddr, Sides};
use vmlan_lan::Diversion;
use vmlan_sys::packet::Ring;

use super::medium::{Attempt, Medium, attempt};
use crate::Seat;
use crate::apart::Apart;
use crate::kernel::{Interface, Kernel, KernelError};

/// A packet socket and its filter: the set-up of mode `packet`, and a part of mode `xdp`.
pub(super) struct Listening {
    socket: Arc<OwnedFd>,
    host: MacAddr,
    /// The frames that the filter lets through now.
    kept: Kept,
    shared_mac: bool,
}

/// The frames that a filter keeps.
#[derive(Clone, PartialEq, Eq, Default)]
struct Kept {
    guests: BTreeSet<MacAddr>,
    /// Frames for addresses that nobody is known to have, and all.
    wants: (bool, bool),
}

impl Listening {
    /// Opens the socket.
    pub(super) fn open(
        interface: &Interface,
        mac: MacAddr,
        shared_mac: bool,
    ) -> Result<(Listening, Arc<dyn Endpoint>), Apart> {
        let kept = Kept::default();
        let filter = instructions(&program(&kept, mac, shared_mac)?);
        let ring = Ring::listener(interface.index, &filter).map_err(|error| {
            KernelError::new(format!("open a packet socket with a receive ring on {}", interface.name), error)
        })?;
        let (socket, medium) = (ring.socket().clone(), PacketSocket::new(ring));
        Ok((Listening { socket, host: mac, kept, shared_mac }, Arc::new(medium)))
    }

    /// Follows the interface's address.
    pub(super) fn resize(&mut self, mac: MacAddr) -> Result<(), Apart> {
        self.host = mac;
        self.set_filter()
    }

    /// Lets frames for these guests through.
    pub(super) fn sync(&mut self, seat: &Seat) -> Result<(), Apart> {
        let guests = seat.network().stations().into_iter().map(|guest| guest.mac).collect();
        self.keep(Kept { guests, wants: self.kept.wants })
    }

    /// Lets through what the ports want.
    pub(super) fn divert(&mut self, wants: (bool, bool)) -> Result<(), Apart> {
        self.keep(Kept { guests: self.kept.guests.clone(), wants })
    }

    /// The addresses that are a guest's on the wire, whoever else claims the host's; none where guests share that, and
    /// it is for the network to say whose a frame is.
    pub(super) fn guests(&self) -> impl Iterator<Item = MacAddr> {
        self.kept.guests.iter().copied().filter(|guest| !self.shared_mac && *guest != self.host)
    }

    fn keep(&mut self, kept: Kept) -> Result<(), Apart> {
        if kept == self.kept {
            return Ok(());
        }
        self.kept = kept;
        self.set_filter()
    }

    fn set_filter(&self) -> Result<(), Apart> {
        let filter = instructions(&program(&self.kept, self.host, self.shared_mac)?);
        let set = vmlan_sys::packet::set_filter(&self.socket, &filter);
        set.map_err(|error| KernelError::new("set the filter of the packet socket", error).into())
    }

    /// Writes down what there is to be seen.
    pub(super) fn describe(&self, interface: &Interface, report: &mut vmlan_api::Trunk) {
        report.stations = self.kept.guests.len() as u64;
        report.installed.push(format!("a packet socket with a filter on {}", interface.name));
    }
}

/// The set-up of mode `packet`.
pub(super) struct Packet(Listening);

impl Packet {
    /// Opens the socket.
    pub(super) fn make(
        interface: &Interface,
        mac: MacAddr,
        shared_mac: bool,
        flows: Flows,
    ) -> Result<(Packet, Arc<dyn Endpoint>), Apart> {
        let (listening, medium) = Listening::open(interface, mac, shared_mac)?;
        Ok((Packet(listening), Arc::new(BySource::of_wire(medium, flows))))
    }
}

impl Medium for Packet {
    fn mode(&self) -> TrunkMode {
        TrunkMode::Packet
    }

    fn reach(&self) -> (Diversion, Sides) {
        (Diversion::Nothing, Sides::WIRE)
    }

    fn needs_more(&self) -> bool {
        true
    }

    fn resize<'a>(&'a mut self, _: &'a Kernel, _: &'a Interface, mac: MacAddr) -> Attempt<'a> {
        attempt(ready(self.0.resize(mac)))
    }

    fn sync(&mut self, seat: &Seat) -> Result<bool, Apart> {
        self.0.sync(seat).map(|()| true)
    }

    fn divert<'a>(&'a mut self, _: &'a Kernel, _: &'a Interface, seat: &'a Seat) -> Attempt<'a> {
        attempt(ready(self.0.divert(seat.wants())))
    }

    fn describe(&self, interface: &Interface, report: &mut vmlan_api::Trunk) {
        self.0.describe(interface, report);
    }
}

/// The program that keeps these frames.
fn program(kept: &Kept, host: MacAddr, shared_mac: bool) -> Result<ValidProgram, Apart> {
    let failed =
        |error: vmlan_bpf::BuildError| Apart::Refused(format!("no filter for the packet socket: {error}"));
    // Guests that share the host's address are found by their IP addresses, which the network looks at.
    if kept.wants.1 || shared_mac {
        return everything().map_err(failed);
    }
    if kept.wants.0 {
        return all_but(host).map_err(failed);
    }
    match vmlan_bpf::destinations(kept.guests.iter().copied()) {
        Ok(program) => Ok(program),
        // Too many for a program: the network drops what is for nobody.
        Err(_) => all_but(host).map_err(failed),
    }
}

fn everything() -> Result<ValidProgram, vmlan_bpf::BuildError> {
    let mut builder = Builder::new();
    builder.answer(WHOLE_PACKET);
    builder.finish()
}

/// Keeps frames whose destination is not `mac`.
fn all_but(mac: MacAddr) -> Result<ValidProgram, vmlan_bpf::BuildError> {
    let number = mac.to_u64();
    let mut builder = Builder::new();
    let (low, keep, drop) = (builder.label(), builder.label(), builder.label());
    builder.step(Step::LoadPacket(Width::Word, Address::Absolute(0)));
    builder.branch(Test::Equal, Operand::K((number >> 16) as u32), low, keep);
    builder.place(low);
    builder.step(Step::LoadPacket(Width::Half, Address::Absolute(4)));
    builder.branch(Test::Equal, Operand::K(number as u32 & 0xffff), drop, keep);
    builder.place(keep);
    builder.answer(WHOLE_PACKET);
    builder.place(drop);
    builder.answer(0);
    builder.finish()
}

fn instructions(program: &ValidProgram) -> Vec<vmlan_sys::packet::Instruction> {
    program.instructions().iter().map(|one| (one.code, one.jt, one.jf, one.k)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const HOST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
    const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
    const OTHER: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 3]);

    #[test]
    fn filters_keep_what_is_wanted() {
        let none = (false, false);
        let cases = [
            (none, false, [GUEST, MacAddr::BROADCAST].as_slice(), [HOST, OTHER].as_slice()),
            ((true, false), false, &[GUEST, OTHER, MacAddr::BROADCAST], &[HOST]),
            ((true, true), false, &[GUEST, OTHER, HOST, MacAddr::BROADCAST], &[]),
            (none, true, &[HOST, MacAddr::BROADCAST], &[]),
        ];
        for (wants, shared_mac, kept, dropped) in cases {
            let wanted = Kept { guests: BTreeSet::from([GUEST]), wants };
            let Ok(program) = program(&wanted, HOST, shared_mac) else { panic!("a program for {wants:?}") };
            let keeps = |mac: &MacAddr| program.run(&[&mac.0[..], &[0; 54]].concat()) > 0;
            assert!(kept.iter().all(keeps), "{wants:?}");
            assert!(!dropped.iter().any(keeps), "{wants:?}");
        }
    }
}
