//! Guests that claim addresses of the host's and of others' where a network has a trunk.

use std::io::Write;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use vmlan_guest::client::Client;

use crate::attack::{Attack, Card, Field, Held, Stage};
use crate::peers::{STEP, stream, stream_guest};
use crate::probe::Interface;
use crate::wire::{
    ARP, IPV4, IPV6, MacAddr, SERVICE, VLAN, advertisement, arp, attacker, dhcp_ack, ethernet, framed, noise,
    udp,
};

pub(super) const ALL: &[&dyn Attack] = &[&Claims, &ForgedLease];

const HOST_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const WIRE_MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 2]);
const HOST: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const WIRE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const VICTIM: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 5);
const VICTIM_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 5);
const OTHER_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 9, 0, 0, 0, 0, 0, 6);
const VICTIM_MAC: MacAddr = MacAddr([2, 0xcc, 0, 0, 0, 5]);
/// The source of frames that mark the end of others.
const FENCE: MacAddr = MacAddr([2, 0xcc, 0, 0, 0, 0xff]);

fn ports(settings: &str) -> String {
    format!(
        "[network.lab.trunk]\ninterface = \"eth0\"\n{settings}\n\
         [network.lab.port.v]\nstream = {{ listen = \"v.sock\" }}\n\
         [network.lab.port.x]\nstream = {{ listen = \"x.sock\" }}\n"
    )
}

fn wire(field: &Field) -> anyhow::Result<Interface> {
    let (_, wire) = field.lands.trunk.as_ref().context("the stage has it")?;
    Interface::open_all(wire, "eth0").context("a packet socket on the wire")
}

/// Waits until the trunk is joined.
fn wait_joined(field: &Field) -> anyhow::Result<()> {
    let deadline = Instant::now() + field.patience;
    while !field.ports()?.iter().any(|port| port.port == "trunk" && port.state == vmlan_api::PortState::Up) {
        ensure!(Instant::now() < deadline, "the trunk is not joined");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The victim's port, once it has said which addresses it has.
fn victim(field: &Field) -> anyhow::Result<Box<dyn Client>> {
    let mut guest = stream_guest(&field.path("v.sock"), STEP)?;
    let own = (VICTIM_MAC, VICTIM);
    guest.transmit(&ethernet(MacAddr::BROADCAST, VICTIM_MAC, ARP, &arp(1, own, (MacAddr::ZERO, VICTIM))))?;
    guest.transmit(&ethernet(
        all_nodes(),
        VICTIM_MAC,
        IPV6,
        &advertisement(VICTIM_V6, VICTIM_V6, VICTIM_MAC),
    ))?;
    guest.flush()?;
    Ok(guest)
}

/// The link address of ff02::1.
fn all_nodes() -> MacAddr {
    MacAddr([0x33, 0x33, 0, 0, 0, 1])
}

/// Waits for a frame from `source`; those before it are given to `other`.
fn hears(
    listener: &mut dyn Client,
    source: MacAddr,
    limit: Duration,
    mut other: impl FnMut(&[u8]),
) -> anyhow::Result<bool> {
    let (mut frame, deadline) = (Vec::new(), Instant::now() + limit);
    while Instant::now() < deadline {
        while listener.receive(&mut frame)? {
            if frame.get(6..12) == Some(&source.0[..]) {
                return Ok(true);
            }
            other(&frame);
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(false)
}

/// Claims in ARP and neighbour discovery in forms that a look at the first headers does not see.
struct Claims;

/// A claim: what it is, and the frame from this source.
type Form = (&'static str, fn(MacAddr) -> Vec<u8>);

/// Puts tags with VLAN 0 in front of a frame's type.
fn tagged(frame: Vec<u8>, tags: &[u16]) -> Vec<u8> {
    let mut octets = frame[..12].to_vec();
    for tag in tags {
        octets.extend_from_slice(&tag.to_be_bytes());
        octets.extend_from_slice(&[0, 0]);
    }
    octets.extend_from_slice(&frame[12..]);
    octets
}

fn announcement(own: MacAddr, hardware: MacAddr, address: Ipv4Addr, operation: u8) -> Vec<u8> {
    let message = arp(operation, (hardware, address), (MacAddr::ZERO, address));
    ethernet(MacAddr::BROADCAST, own, ARP, &message)
}

fn neighbour(own: MacAddr, from: Ipv6Addr) -> Vec<u8> {
    ethernet(all_nodes(), own, IPV6, &advertisement(from, VICTIM_V6, own))
}

const FORMS: &[Form] = &[
    ("ARP for the host", |own| announcement(own, own, HOST, 1)),
    ("ARP for the host behind a tag of VLAN 0", |own| tagged(announcement(own, own, HOST, 1), &[VLAN])),
    ("ARP for the host behind two tags of VLAN 0", |own| {
        tagged(announcement(own, own, HOST, 1), &[VLAN, VLAN])
    }),
    ("ARP for the host behind a service tag and a tag", |own| {
        tagged(announcement(own, own, HOST, 1), &[SERVICE, VLAN])
    }),
    ("ARP for the host from another hardware address", |own| announcement(own, attacker(0x900), HOST, 2)),
    ("ARP for a guest", |own| announcement(own, own, VICTIM, 1)),
    ("ARP for a guest behind a tag of VLAN 0", |own| tagged(announcement(own, own, VICTIM, 1), &[VLAN])),
    ("ARP for a guest behind two tags of VLAN 0", |own| {
        tagged(announcement(own, own, VICTIM, 1), &[VLAN, VLAN])
    }),
    ("ARP for a guest behind a service tag and a tag", |own| {
        tagged(announcement(own, own, VICTIM, 1), &[SERVICE, VLAN])
    }),
    ("ARP for a guest from another hardware address", |own| announcement(own, attacker(0x900), VICTIM, 2)),
    ("advertisement from a guest's address", |own| neighbour(own, VICTIM_V6)),
    ("advertisement of a guest's address", |own| neighbour(own, OTHER_V6)),
    ("advertisement of a guest's address behind a tag of VLAN 0", |own| {
        tagged(neighbour(own, OTHER_V6), &[VLAN])
    }),
    ("advertisement of a guest's address behind two tags of VLAN 0", |own| {
        tagged(neighbour(own, OTHER_V6), &[VLAN, VLAN])
    }),
];

impl Attack for Claims {
    fn card(&self) -> Card {
        Card::new(
            "trunk-claims",
            "a guest claims the host's and another guest's addresses, in fourteen forms",
        )
        .property()
        .on(Stage::Trunk)
    }

    fn config(&self, _: &Field) -> String {
        ports("")
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        wait_joined(field)?;
        let mut wire = wire(field)?;
        let mut victim = victim(field)?;
        // What the victim says is heard on the wire: the network knows it then.
        ensure!(hears(&mut wire, VICTIM_MAC, field.patience, |_| {})?, "the wire does not hear the victim");
        let mut guest = stream(&field.path("x.sock")).context("the port x")?;
        let mut frames = Vec::new();
        for (number, (_, form)) in FORMS.iter().enumerate() {
            frames.extend(vec![form(attacker(number)); 3]);
        }
        frames.push(noise(MacAddr::BROADCAST, FENCE));
        guest.write_all(&framed(&frames))?;
        let believed = |frame: &[u8]| {
            let form = FORMS.iter().enumerate().find(|(number, _)| frame[6..12] == attacker(*number).0);
            if let Some((_, (what, _))) = form {
                field.broken(format!("the wire gets {what}"));
            }
        };
        ensure!(
            hears(&mut wire, FENCE, field.patience, believed)?,
            "the wire does not hear the attacker at all"
        );
        let mut frame = Vec::new();
        while victim.receive(&mut frame)? {}
        Ok(Box::new((guest, victim)))
    }
}

/// A guest that acknowledges leases as if it were a DHCP server, where guests share the host's MAC.
struct ForgedLease;

impl ForgedLease {
    /// True if a datagram of the wire's to the victim's address reaches it.
    fn reaches(wire: &Interface, victim: &mut dyn Client, limit: Duration) -> anyhow::Result<bool> {
        let deadline = Instant::now() + limit;
        let datagram = udp((WIRE, 7), (VICTIM, 7), b"MARK", false);
        let mut frame = Vec::new();
        while Instant::now() < deadline {
            wire.send(&ethernet(HOST_MAC, WIRE_MAC, IPV4, &datagram))?;
            std::thread::sleep(Duration::from_millis(20));
            while victim.receive(&mut frame)? {
                if frame.windows(4).any(|window| window == b"MARK") {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

impl Attack for ForgedLease {
    fn card(&self) -> Card {
        Card::new(
            "trunk-forged-lease",
            "a guest forges DHCP acknowledgements where guests share the host's MAC",
        )
        .property()
        .on(Stage::Trunk)
    }

    fn config(&self, _: &Field) -> String {
        ports("shared_mac = \"on\"")
    }

    fn attack(&self, field: &Field, _: usize) -> anyhow::Result<Held> {
        wait_joined(field)?;
        let wire = wire(field)?;
        let mut victim = victim(field)?;
        ensure!(
            ForgedLease::reaches(&wire, &mut *victim, field.patience)?,
            "the victim is not reached from the wire to begin with"
        );
        let mut guest: UnixStream = stream(&field.path("x.sock")).context("the port x")?;
        let own = attacker(1);
        let forms = [
            ("another address for it", VICTIM_MAC, VICTIM, Ipv4Addr::new(10, 9, 0, 77)),
            ("its address for the attacker", own, Ipv4Addr::UNSPECIFIED, VICTIM),
        ];
        for (what, hardware, client, yours) in forms {
            let ack = dhcp_ack(Ipv4Addr::new(10, 9, 0, 66), hardware, client, yours);
            let frames = [ethernet(MacAddr::BROADCAST, own, IPV4, &ack), noise(MacAddr::BROADCAST, FENCE)];
            guest.write_all(&framed(&frames))?;
            // What was sent before that has been seen too.
            ensure!(hears(&mut *victim, FENCE, field.patience, |_| {})?, "the attacker is not heard at all");
            if !ForgedLease::reaches(&wire, &mut *victim, Duration::from_secs(2))? {
                field.broken(format!("a guest is cut off by a forged acknowledgement of {what}"));
                break;
            }
        }
        Ok(Box::new((guest, victim)))
    }
}
