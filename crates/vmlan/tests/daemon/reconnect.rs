//! Guests, listeners and the daemon itself go and come back, and the network is there again by itself.

use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::time::Duration;

use testbed::{wait_for, wait_until};
use vmlan_api::PortState;
use vmlan_guest::Attachment;

use crate::support::{Daemon, Peer, assert_balanced, directory, exchange, free_port, meet, reach};

/// How long a guest that came back may be without its network: a second, and what a busy machine adds.
const BACK: Duration = Duration::from_secs(5);

/// An anchor beside one port, whose guest comes several times.
fn come_and_go(port: &str, mut attach: impl FnMut(&Daemon) -> Attachment) {
    let daemon = Daemon::start(&format!(
        "[network.lab.port.anchor]\nstream = {{ listen = \"anchor.sock\" }}\n[network.lab.port.guest]\n{port}\n"
    ));
    let mut anchor = Peer::attach(1, Attachment::Stream { path: daemon.path("anchor.sock") });
    daemon.wait_up(&["anchor"]);
    for round in 0..3 {
        let mut guest = Peer::attach(2, attach(&daemon));
        assert!(reach(&mut guest, &mut anchor, BACK), "round {round}: {:#?}", daemon.ports());
        assert!(reach(&mut anchor, &mut guest, BACK), "round {round}: {:#?}", daemon.ports());
        assert_eq!(daemon.port("guest").state, PortState::Up);
    }
    assert_balanced(&daemon);
    daemon.stop();
}

#[test]
fn a_stream_guest_comes_back() {
    come_and_go("stream = { listen = \"guest.sock\" }", |daemon| Attachment::Stream {
        path: daemon.path("guest.sock"),
    });
}

#[test]
fn a_tcp_guest_comes_back() {
    let port = free_port();
    come_and_go(&format!("stream = {{ listen = \"127.0.0.1:{port}\" }}"), |_| {
        Attachment::StreamFd(TcpStream::connect(("127.0.0.1", port)).expect("a listener").into())
    });
}

#[test]
fn a_stream_guest_that_listens_comes_back() {
    let directory = directory();
    let path = directory.path().join("guest");
    come_and_go(&format!("stream = {{ connect = \"{}\" }}", path.display()), |_| Attachment::StreamListen {
        path: path.clone(),
    });
}

#[test]
fn a_tcp_guest_that_listens_comes_back() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let address = listener.local_addr().expect("an address");
    come_and_go(&format!("stream = {{ connect = \"{address}\" }}"), |_| {
        Attachment::StreamFd(listener.accept().expect("the daemon's connection").0.into())
    });
}

#[test]
fn a_datagram_guest_comes_back() {
    come_and_go("datagram = { listen = \"guest.sock\" }", |daemon| Attachment::Datagram {
        local: daemon.path("local"),
        remote: daemon.path("guest.sock"),
    });
}

#[test]
fn a_datagram_guest_comes_back_at_another_path() {
    let mut number = 0;
    come_and_go("datagram = { listen = \"guest.sock\" }", |daemon| {
        number += 1;
        Attachment::Datagram {
            local: daemon.path(&format!("local{number}")),
            remote: daemon.path("guest.sock"),
        }
    });
}

#[test]
fn a_datagram_guest_at_a_known_path_comes_back() {
    let directory = directory();
    let path = directory.path().join("guest");
    let port = format!("datagram = {{ local = \"local.sock\", remote = \"{}\" }}", path.display());
    come_and_go(&port, |daemon| Attachment::Datagram {
        local: path.clone(),
        remote: daemon.path("local.sock"),
    });
}

#[test]
fn a_udp_guest_at_a_known_address_comes_back() {
    let (ours, theirs) = (free_port(), free_port());
    let port = format!("datagram = {{ local = \"127.0.0.1:{ours}\", remote = \"127.0.0.1:{theirs}\" }}");
    come_and_go(&port, |_| {
        // A program that another test starts at this moment holds the old guest's socket until it runs.
        let socket = wait_for("the port to be free", BACK, || UdpSocket::bind(("127.0.0.1", theirs)).ok());
        socket.connect(("127.0.0.1", ours)).expect("an address");
        Attachment::Fd(socket.into())
    });
}

#[test]
fn a_vde_guest_comes_back() {
    let daemon = Daemon::start(
        "[network.lab.port.anchor]\nstream = { listen = \"anchor.sock\" }\n\
         [network.lab.port.guests]\nvde = { directory = \"lab.vde\" }\n",
    );
    let mut anchor = Peer::attach(1, Attachment::Stream { path: daemon.path("anchor.sock") });
    daemon.wait_up(&["anchor"]);
    for _ in 0..3 {
        let mut guest = Peer::attach(2, Attachment::Vde { directory: daemon.path("lab.vde") });
        meet(&mut guest, &mut anchor);
        daemon.departs("guests.0");
        drop(guest);
        wait_until("the port to go", BACK, || daemon.find_port("guests.0").is_none());
    }
    assert_balanced(&daemon);
    daemon.stop();
}

/// A guest whose path stays behind when it dies, as that of a machine monitor that was killed.
fn mortal(local: &Path, remote: &Path) -> Attachment {
    let socket = UnixDatagram::bind(local).expect("a free path");
    socket.connect(remote).expect("the daemon's socket");
    Attachment::Fd(socket.into())
}

#[test]
fn a_datagram_guest_that_died_without_a_word_is_replaced_though_nobody_sends() {
    let daemon = Daemon::start(
        "[network.lab.port.anchor]\nstream = { listen = \"anchor.sock\" }\n\
         [network.lab.port.guest]\ndatagram = { listen = \"guest.sock\" }\n",
    );
    let mut anchor = Peer::attach(1, Attachment::Stream { path: daemon.path("anchor.sock") });
    daemon.wait_up(&["anchor"]);
    let (local, remote) = (daemon.path("local"), daemon.path("guest.sock"));
    let mut guest = Peer::attach(2, mortal(&local, &remote));
    meet(&mut guest, &mut anchor);

    drop(guest);
    // The socket refuses everybody but the dead guest until the daemon has noticed: attaching waits for that.
    let mut guest = Peer::attach(2, Attachment::Datagram { local: local.clone(), remote: remote.clone() });
    exchange_in_time(&daemon, &mut guest, &mut anchor);

    // It goes and its path goes with it; the next one has the path of the first.
    drop(guest);
    let mut guest = Peer::attach(2, Attachment::Datagram { local, remote });
    exchange_in_time(&daemon, &mut guest, &mut anchor);
    assert_balanced(&daemon);
    daemon.stop();
}

/// The guest speaks first: until then the daemon cannot know of it.
fn exchange_in_time(daemon: &Daemon, guest: &mut Peer, anchor: &mut Peer) {
    assert!(reach(guest, anchor, BACK), "{:#?}\n{}", daemon.ports(), daemon.log());
    assert!(reach(anchor, guest, BACK), "{:#?}\n{}", daemon.ports(), daemon.log());
}

#[test]
fn a_datagram_guest_that_died_is_noticed_though_nobody_comes() {
    let daemon = Daemon::start("[network.lab.port.guest]\ndatagram = { listen = \"guest.sock\" }\n");
    for leaves_its_path in [true, false] {
        let (local, remote) = (daemon.path("local"), daemon.path("guest.sock"));
        let attachment = match leaves_its_path {
            true => mortal(&local, &remote),
            false => Attachment::Datagram { local: local.clone(), remote },
        };
        let mut guest = Peer::attach(2, attachment);
        guest.send(vmlan_frame::MacAddr::BROADCAST);
        daemon.wait_up(&["guest"]);

        drop(guest);

        daemon.wait_state("guest", PortState::Waiting);
        assert_eq!(local.exists(), leaves_its_path);
        if leaves_its_path {
            std::fs::remove_file(local).expect("the path that was left");
        }
    }
    daemon.stop();
}

#[test]
fn guests_survive_the_daemon() {
    let config = "[network.lab.port.one]\ndatagram = { listen = \"one.sock\" }\n\
                  [network.lab.port.two]\nstream = { connect = \"two.sock\" }\n";
    let daemon = Daemon::start(config);
    let attachment = Attachment::Datagram { local: daemon.path("local"), remote: daemon.path("one.sock") };
    let mut one = Peer::attach(1, attachment);
    let mut two = Peer::attach(2, Attachment::StreamListen { path: daemon.path("two.sock") });
    meet(&mut one, &mut two);

    // Killed, it leaves its sockets behind; the next one takes the guest up again, who did nothing but go on sending.
    let daemon = Daemon::start_in(daemon.kill(), config);
    let mut two = Peer::attach(2, Attachment::StreamListen { path: daemon.path("two.sock") });
    exchange_in_time(&daemon, &mut one, &mut two);

    assert_balanced(&daemon);
    drop((one, two));
    let daemon = Daemon::start_in(daemon.stop(), config);
    let attachment = Attachment::Datagram { local: daemon.path("local"), remote: daemon.path("one.sock") };
    let mut one = Peer::attach(1, attachment);
    let mut two = Peer::attach(2, Attachment::StreamListen { path: daemon.path("two.sock") });
    meet(&mut one, &mut two);
    exchange(&mut two, &mut one);
    assert_balanced(&daemon);
}

#[test]
fn the_log_has_a_line_for_a_guest_that_comes_or_goes_and_for_a_port_that_works_again() {
    let daemon = Daemon::start("[network.lab.port.guest]\nstream = { listen = \"late/guest.sock\" }\n");
    daemon.wait_state("guest", PortState::Failed);
    let lines = |what: &str| {
        let log = daemon.log();
        log.lines().filter(|line| line.contains(" INFO port lab/guest: ") && line.contains(what)).count()
    };
    assert_eq!(lines(""), 0, "{}", daemon.log());

    std::fs::create_dir(daemon.path("late")).expect("our own directory");
    daemon.wait_for_log("port lab/guest: works again; no guest is there yet");
    let guest = Peer::attach(2, Attachment::Stream { path: daemon.path("late/guest.sock") });
    daemon.wait_for_log(&format!("port lab/guest: connected: pid {}, uid", std::process::id()));
    daemon.wait_up(&["guest"]);
    drop(guest);
    daemon.wait_for_log(": the guest closed the connection");
    daemon.wait_state("guest", PortState::Waiting);
    let counts = ["works again", " connected: ", "disconnected: ", ""].map(lines);
    assert_eq!(counts, [1, 1, 1, 3], "{}", daemon.log());
    daemon.stop();
}
