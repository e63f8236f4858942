//! Descriptors that come along and take a minute to be closed (SCM_RIGHTS, SO_LINGER), at every socket that takes
//! octets.

use std::net::Ipv4Addr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixListener;
use std::time::Duration;

use anyhow::Context;
use rustix::net::{SocketAddrUnix, SocketType};
use vmlan_drivers::tunnel::message::{Prefixed, Request, option};
use vmlan_guest::client::Client;

use crate::attack::{Attack, Card, Field, Held};
use crate::peers::{Bound, Lingering, STEP, connect, tunnel, vde, vde_request};
use crate::wire::{MacAddr, attacker, framed, noise};

pub(super) const ALL: &[&dyn Attack] = &[
    &Passed::Stream,
    &Passed::Outgoing,
    &Passed::Datagram,
    &Passed::VdeControl,
    &Passed::VdeData,
    &Passed::TunnelControl,
    &Passed::TunnelData,
    &Passed::Control,
];

/// The socket that gets the descriptor.
enum Passed {
    Stream,
    Outgoing,
    Datagram,
    VdeControl,
    VdeData,
    TunnelControl,
    TunnelData,
    Control,
}

/// Connections that linger: those that are ready to be passed, and those that were.
struct Lingerers<'a> {
    field: &'a Field,
    ready: Vec<Lingering>,
    passed: Vec<Lingering>,
}

impl Lingerers<'_> {
    /// Makes all that a try may need: there is no time for it between a connection and what is sent first.
    fn prepare(&mut self) -> anyhow::Result<()> {
        while self.ready.len() < 4 {
            self.ready.push(Lingering::new().context("a lingering connection")?);
        }
        Ok(())
    }

    /// Passes two, one at once (a connection may not be accepted yet) and one a moment later.
    fn pass(&mut self, socket: impl AsFd, octets: &[u8]) {
        for _ in 0..2 {
            let Some(mut lingering) = self.ready.pop() else { return };
            // The daemon may have closed the socket for the first one.
            if lingering.send(&socket, octets).is_ok_and(|is_taken| is_taken) {
                self.field.note("descriptors are taken");
            }
            self.passed.push(lingering);
            self.field.pause(Duration::from_millis(50));
        }
    }
}

impl Passed {
    /// One try; what it returns is kept until the end.
    fn once(&self, lingerers: &mut Lingerers<'_>) -> anyhow::Result<Option<OwnedFd>> {
        lingerers.prepare()?;
        let field = lingerers.field;
        let frame = noise(MacAddr::BROADCAST, attacker(1));
        match self {
            Passed::Stream => {
                let guest = connect(&field.path("s.sock"), SocketType::STREAM, STEP)?;
                lingerers.pass(&guest, &framed(&[frame]));
                Ok(Some(guest))
            }
            Passed::Outgoing => unreachable!("it waits for the daemon"),
            Passed::Datagram => {
                let guest = Bound::new(SocketType::DGRAM, field.path("d.local"))?;
                rustix::net::connect(&guest.socket, &SocketAddrUnix::new(field.path("d.sock"))?)?;
                lingerers.pass(&guest.socket, &frame);
                Ok(None)
            }
            Passed::VdeControl => {
                let local = Bound::new(SocketType::DGRAM, field.path("v.local"))?;
                let client = connect(&field.path("v/ctl"), SocketType::STREAM, STEP)?;
                lingerers.pass(&client, &vde_request(&local.path));
                Ok(Some(client))
            }
            Passed::VdeData => {
                let plug = vde(&field.path("v"), STEP)?;
                lingerers.pass(plug.descriptors().0, &frame);
                Ok(None)
            }
            Passed::TunnelControl => {
                let client = connect(&field.path("t.sock"), SocketType::SEQPACKET, STEP)?;
                let address = Prefixed { address: Ipv4Addr::new(10, 0, 0, 7).into(), prefix: 24 };
                lingerers.pass(&client, &Request::Open { unit: 0, addresses: vec![address] }.emit());
                lingerers.pass(&client, &Request::Get(option::IFNAME).emit());
                Ok(Some(client))
            }
            Passed::TunnelData => {
                let client = tunnel(&field.path("t.sock"), &[Ipv4Addr::new(10, 0, 0, 7)])?;
                let mut record = vec![0, 0, 0, 2, 0x45];
                record.resize(64, 0);
                lingerers.pass(client.data(), &record);
                Ok(None)
            }
            Passed::Control => {
                let client = connect(&field.control(), SocketType::STREAM, STEP)?;
                lingerers.pass(&client, b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n");
                Ok(Some(client))
            }
        }
    }

    /// The daemon connects, again and again, to a guest that passes descriptors.
    fn wait_for_daemon(lingerers: &mut Lingerers<'_>) -> anyhow::Result<()> {
        let field = lingerers.field;
        let path = field.path("o.sock");
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).context("a listener")?;
        listener.set_nonblocking(true)?;
        let octets = framed(&[noise(MacAddr::BROADCAST, attacker(1))]);
        while !field.is_over() {
            lingerers.prepare()?;
            if let Ok((guest, _)) = listener.accept() {
                lingerers.pass(&guest, &octets);
            }
            field.pause(Duration::from_millis(5));
        }
        let _ = std::fs::remove_file(&path);
        Ok(())
    }
}

impl Attack for Passed {
    fn card(&self) -> Card {
        match self {
            Passed::Stream => Card::new(
                "descriptors-stream",
                "a stream guest passes lingering descriptors, before it is accepted too",
            ),
            Passed::Outgoing => Card::new(
                "descriptors-connect",
                "a guest that the daemon connects to passes lingering descriptors",
            ),
            Passed::Datagram => Card::new(
                "descriptors-datagram",
                "a datagram guest passes lingering descriptors, with its first frame too",
            ),
            Passed::VdeControl => {
                Card::new("descriptors-vde", "a client passes lingering descriptors with its VDE request")
            }
            Passed::VdeData => {
                Card::new("descriptors-vde-data", "a VDE client passes lingering descriptors with its frames")
            }
            Passed::TunnelControl => Card::new(
                "descriptors-tunnel",
                "a client passes lingering descriptors with its requests for a tunnel",
            ),
            Passed::TunnelData => Card::new(
                "descriptors-tunnel-data",
                "a tunnel's client passes lingering descriptors with its packets",
            ),
            Passed::Control => Card::new(
                "descriptors-control",
                "a client passes lingering descriptors to the control interface",
            ),
        }
        .churning()
    }

    fn config(&self, _: &Field) -> String {
        "[network.lab.port.s]\nstream = { listen = \"s.sock\" }\n\
         [network.lab.port.o]\nstream = { connect = \"o.sock\" }\n\
         [network.lab.port.d]\ndatagram = { listen = \"d.sock\" }\n\
         [network.lab.port.v]\nvde = { directory = \"v\" }\n\
         [network.lab.port.t]\ntunnel = { listen = \"t.sock\", allow = \"10.0.0.0/24\" }\n"
            .to_owned()
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let mut lingerers = Lingerers { field, ready: Vec::new(), passed: Vec::new() };
        if let Passed::Outgoing = self {
            Passed::wait_for_daemon(&mut lingerers)?;
            return Ok(Box::new(lingerers.passed));
        }
        let mut last = None;
        while !field.is_over() {
            // A listener that does not take more is a defence.
            if let Ok(socket) = self.once(&mut lingerers) {
                last = socket;
            }
            field.pause(Duration::from_millis(50));
        }
        // What lingers is let go of before the sockets that it went through.
        drop(lingerers);
        Ok(Box::new(last))
    }
}
