//! A user that runs a great number of clients: they have together what one user may have.

use std::io::Read;
use std::time::{Duration, Instant};

use vmlan_drivers::tunnel::client::Client;
use vmlan_frame::MacAddr;
use vmlan_guest::{Attachment, ethernet};

use crate::arena::Arena;
use crate::support::{PATIENCE, Peer, TYPE};

/// How many clients the user may have, and has.
const CLIENTS: usize = 64;
/// Floods a second that they may send together.
const STORM: u64 = 500;
/// How long they flood.
const FLOOD: Duration = Duration::from_secs(2);
/// Octets of a frame: so many that backlogs are soon full.
const LONG: usize = 1400;
/// Resident memory that they may cost while none of them reads, in KiB: 1 MiB for what waits, 16 KiB of each, and what
/// else a port has. With a whole backlog for each it would be 32 MiB.
const COST: u64 = 16 << 10;

#[track_caller]
fn client(arena: &Arena) -> Peer {
    Peer::attach(8, Attachment::Vde { directory: arena.path("bad.vde") })
}

fn ports(arena: &Arena) -> Vec<vmlan_api::Port> {
    arena.daemon.ports().into_iter().filter(|port| port.port.starts_with("bad.")).collect()
}

#[test]
fn many_clients_of_one_user_flood_learn_and_hold_as_much_as_one() {
    let arena = Arena::start(&format!(
        "[network.lab.port.bad]\nvde = {{ directory = \"bad.vde\" }}\nstorm = {STORM}\n\
         [limits.user]\nports = {CLIENTS}\naddresses = 100\nbacklog = 1\n"
    ));
    let before = arena.daemon.resident();
    let mut clients: Vec<Peer> = (0..CLIENTS).map(|_| client(&arena)).collect();
    testbed::wait_until("all clients to have a port", PATIENCE, || ports(&arena).len() == CLIENTS);
    refuses_another(&arena);

    let begin = Instant::now();
    let (mut number, mut sent) = (0_u8, 0);
    while begin.elapsed() < FLOOD {
        for (client, of) in clients.iter_mut().zip(0..) {
            // Each has sixteen addresses of its own.
            let source = MacAddr([0x02, 0x66, 0x66, 0, of, number % 16]);
            let frame = ethernet(MacAddr::BROADCAST, source, TYPE, &[0; LONG]);
            sent += u64::from(matches!(client.raw.try_send(&frame), Ok(true)));
        }
        number = number.wrapping_add(1);
    }
    testbed::wait_until("the flood's end", PATIENCE, || {
        ports(&arena).iter().map(|port| port.counters.rx_frames).sum::<u64>() == sent
    });
    // What was received last is on its way by then.
    arena.probe.wait(100);
    let copies: u64 = ports(&arena).iter().map(|port| port.counters.copies).sum();
    // The other clients and the probe's guests get one each.
    let passed = copies / (CLIENTS as u64 + 1);
    let most = 128 + STORM * (begin.elapsed().as_secs() + 1);
    assert!(passed <= most, "{passed} floods passed; {most} may");
    assert!(passed > 128, "{passed} floods passed");
    let learnt = arena.daemon.fdb("lab").into_iter().filter(|entry| entry.port.starts_with("bad.")).count();
    assert!(learnt <= 100, "{learnt} addresses");
    let now = arena.daemon.resident();
    assert!(now <= before + COST, "{now} KiB resident; {before} KiB before");

    // The log does not tell of every drop.
    let refused = arena.daemon.log().lines().filter(|line| line.contains("refused")).count();
    assert!(refused <= 8, "{refused} lines");
    leave(&arena, clients);
    leave(&arena, client(&arena));
    arena.finish();
}

/// Clients beyond the limit find their connection closed.
#[track_caller]
fn refuses_another(arena: &Arena) {
    for _ in 0..50 {
        let mut stream =
            std::os::unix::net::UnixStream::connect(arena.path("bad.vde/ctl")).expect("the switch");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        assert!(matches!(stream.read(&mut [0; 1]), Ok(0) | Err(_)), "an answer came");
    }
    assert_eq!(ports(arena).len(), CLIENTS);
}

/// Lets all clients go, whose ports are counted up to their last frame.
#[track_caller]
fn leave<T>(arena: &Arena, clients: T) {
    ports(arena).iter().for_each(|port| arena.daemon.departs(&port.port));
    drop(clients);
    testbed::wait_until("the ports to go", PATIENCE, || ports(arena).is_empty());
}

#[test]
fn tunnels_of_one_user_leave_places_to_others() {
    let arena = Arena::start(
        "[network.other.port.bad]\ntunnel = { listen = \"bad.sock\", allow = \"10.9.0.0/16\", clients = 16 }\n\
         [limits.user]\nports = 5\n",
    );
    let path = arena.path("bad.sock");
    let connect = |number: usize| {
        Client::connect(&path, 0, &[format!("10.9.0.{}/16", number + 1).parse().expect("an address")])
    };
    let clients: Vec<Client> = (0..5).map(|number| connect(number).expect("a tunnel")).collect();
    for number in 5..40 {
        let Err(refused) = connect(number) else { panic!("there is a tunnel too many") };
        assert!(refused.to_string().contains("no room"), "{refused}");
    }
    leave(&arena, clients);
    arena.finish();
}
