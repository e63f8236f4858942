//! A guest against the uplink of its network: connections, datagrams, fragments, names and leases without end.

use std::net::Ipv4Addr;
use std::time::Instant;

use anyhow::Context;
use vmlan_api::Flow;

use crate::attack::{Attack, Card, Field, Held};
use crate::daemon::{get, request};
use crate::peers::{flood, stream};
use crate::wire::{self, IPV4, MacAddr, attacker, ethernet, framed};

pub(super) const ALL: &[&dyn Attack] =
    &[&Flood::Connections, &Flood::Datagrams, &Flood::Fragments, &Flood::Names, &Flood::Leases];

const GATEWAY: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 0xfe]);
const GUEST: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 20);
/// The gateway's address, and that of the host's services.
const NAMES: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 1);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 213, 5, 2);
/// The port where nobody listens, so that all of it ends at the host's loopback interface.
const DISCARD: u16 = 9;

/// Different frames that are sent over and over.
const FRAMES: u16 = 4096;

/// A stream guest that sends to the uplink as fast as it can.
enum Flood {
    Connections,
    Datagrams,
    Fragments,
    Names,
    Leases,
}

impl Flood {
    fn frame(&self, number: u16) -> Vec<u8> {
        let from = (GUEST, 1024 + number);
        let packet = match self {
            Flood::Connections => wire::syn(from, (HOST, DISCARD), u32::from(number) << 16),
            Flood::Datagrams => wire::udp(from, (HOST, DISCARD), &[0; 18], false),
            Flood::Fragments => wire::first_fragment(GUEST, HOST, number, 17, &[0; 1024]),
            Flood::Names => wire::udp(from, (NAMES, 53), &wire::question(number), false),
            Flood::Leases => {
                let client = MacAddr([2, 0xba, 0xd1, 0, (number >> 8) as u8, number as u8]);
                return ethernet(MacAddr::BROADCAST, client, IPV4, &wire::dhcp_discover(client));
            }
        };
        ethernet(GATEWAY, attacker(1), IPV4, &packet)
    }
}

impl Attack for Flood {
    fn card(&self) -> Card {
        match self {
            Flood::Connections => {
                Card::new("uplink-connections", "a stream guest opens connections by the uplink")
            }
            Flood::Datagrams => {
                Card::new("uplink-datagrams", "a stream guest sends datagrams by the uplink from 4,096 ports")
            }
            Flood::Fragments => {
                Card::new("uplink-fragments", "a stream guest sends the uplink the beginnings of datagrams")
            }
            Flood::Names => Card::new("uplink-names", "a stream guest asks the uplink for names"),
            Flood::Leases => {
                Card::new("uplink-leases", "a stream guest asks the uplink for leases from 4,096 addresses")
            }
        }
    }

    fn config(&self, _: &Field) -> String {
        format!(
            "[network.lab.uplink]\nsubnet = \"10.213.5.0/24\"\nipv6 = \"off\"\nmac = \"{GATEWAY}\"\n\
             host = [\"{DISCARD}\", \"{DISCARD}/udp\"]\ndns = {{ servers = \"127.0.0.1:{DISCARD}\" }}\n\
             [network.lab.port.x]\nstream = {{ listen = \"x.sock\" }}\n"
        )
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        let guest = stream(&field.path("x.sock")).context("the port x")?;
        let frames: Vec<_> = (0..FRAMES).map(|number| self.frame(number)).collect();
        flood(field, &guest, &framed(&frames))?;
        Ok(Box::new(guest))
    }

    /// Closes what is still open; a mapping lives for minutes.
    fn after(&self, field: &Field) -> anyhow::Result<()> {
        let deadline = Instant::now() + field.patience;
        loop {
            let flows: Vec<Flow> = get(&field.control(), "/v1/networks/lab/flows", field.patience)?;
            if flows.is_empty() || Instant::now() > deadline {
                return Ok(());
            }
            for flow in flows {
                let path = format!("/v1/networks/lab/flows/{}", flow.id);
                // It may have ended by itself.
                let _ = request(&field.control(), "DELETE", &path, None, field.patience);
            }
        }
    }
}
