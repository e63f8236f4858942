//! A switch inside a virtual machine monitor: two guests at socket pairs, in the framing of QEMU's `-netdev stream`.

use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::sync::{Arc, mpsc};
use std::time::{Duration, SystemTime};

use vmlan_dataplane::{Done, Options, Plane, PortSetup};
use vmlan_drivers::{PeerSocket, stream};
use vmlan_frame::Takes;
use vmlan_lan::{FdbConfig, Network, NetworkConfig, PortConfig};
use vmlan_link::{BridgeGuard, LinkOptions, Registry};

/// Joins a guest's socket to a network; the port stays for as long as the guard.
fn plug(
    (plane, registry, network): (&Plane, &Registry, &Arc<Network>),
    name: &str,
    socket: UnixStream,
) -> Result<BridgeGuard, Box<dyn Error>> {
    socket.set_nonblocking(true)?;
    // The data plane brings every frame into the form that a port takes, so its link takes all.
    let options = LinkOptions { capabilities: Takes::ALL, ..LinkOptions::ethernet("port")? };
    let link = registry.acquire(options)?;
    link.attach(Arc::new(()), None)?;
    let bridge = link.attach_bridge()?;
    let id = network.add_port(PortConfig::new(name, link.account()))?;
    let setup = PortSetup { network: network.clone(), id, link, backlog: 1024, share: None, longest: 1518 };
    let key = plane.add_port(&setup);
    let (tell, told) = mpsc::channel();
    let endpoint = Arc::new(stream::Socket::new(PeerSocket::from_birth(socket.into())));
    let done = Done::new(move || tell.send(()).expect("somebody waits"));
    let attachment = plane.connect(key, endpoint, done);
    told.recv()?;
    network.set_active(id, true)?;
    plane.open(key, attachment);
    Ok(bridge)
}

fn main() -> Result<(), Box<dyn Error>> {
    // In earnest, numbers that nobody can guess: who knows them can choose addresses that collide.
    let fdb = FdbConfig::new([1, 2]);
    let network = Network::new(NetworkConfig { name: "lab".into(), mtu: 1500, fdb, pass_reserved: false });
    let plane = Plane::start(Options::default(), |notice| eprintln!("{notice:?}"))?;
    let registry = Registry::new(plane.workers(), SystemTime::now);
    let ((ours, mut one), (theirs, mut two)) = (UnixStream::pair()?, UnixStream::pair()?);
    let everything = (&plane, &registry, &network);
    let ports = [plug(everything, "one", ours)?, plug(everything, "two", theirs)?];

    // Guest one greets everybody: a length, then a frame.
    let greeting = [&[0xff; 6][..], &[0x52, 0x54, 0, 0, 0, 1], &[0x88, 0xb5], b"hello, everybody"].concat();
    one.write_all(&[&(greeting.len() as u32).to_be_bytes(), &greeting[..]].concat())?;
    let mut heard = vec![0; 4 + greeting.len()];
    two.read_exact(&mut heard)?;
    println!("guest two hears: {}", String::from_utf8_lossy(&heard[4 + 14..]));
    for port in &ports {
        let counted = port.link().counters().snapshot();
        println!("{}: {} in, {} out", port.link().name(), counted.rx_frames, counted.tx_frames);
    }
    plane.stop(Duration::from_secs(1));
    Ok(())
}
