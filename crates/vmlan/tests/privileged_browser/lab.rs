//! The daemon that the page is to show: two networks with guests that talk, one that breaks a rule, leases, a flow
//! and a trunk.

use std::io::{self, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use testbed::{Interface, Netns, wait_until};
use vmlan_frame::{DropReason, MacAddr};
use vmlan_guest::{Amount, Attachment, Guest, GuestConfig, RawGuest, ethernet};

use crate::support::{Daemon, PATIENCE, TYPE, directory, free_port, mac};

/// Ports of the crowded network.
pub const MANY: usize = 512;
/// The address at which guests reach the services of the host.
const HOST: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 2);

/// The description that a client of a VDE directory gives of itself.
pub const HOSTILE: &str = "<img src=x onerror=document.title='owned'>";

/// A daemon with something to see.
pub struct Lab {
    pub daemon: Daemon,
    chatter: Vec<Chatter>,
    flow: Flow,
    /// A client that chose what is shown of it.
    _hostile: RawGuest,
    _namespaces: [Netns; 2],
}

/// A guest that sends to a service of the host, which reads slowly.
struct Flow {
    stop: Arc<AtomicBool>,
    sink: JoinHandle<()>,
    sender: JoinHandle<()>,
}

/// A guest that sends frames of a kind again and again, and reads what comes.
struct Chatter {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl Chatter {
    /// Sends `frames` every few milliseconds.
    #[track_caller]
    fn start(socket: PathBuf, frames: Vec<Vec<u8>>) -> Chatter {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let raw = RawGuest::attach("chatter", Attachment::Stream { path: socket }, PATIENCE);
        let mut raw = raw.unwrap_or_else(|error| panic!("{error:?}"));
        let thread = std::thread::spawn(move || {
            while !stopped.load(Ordering::Relaxed) {
                // A port that was taken away is none of the guest's business.
                let sent = frames.iter().try_for_each(|frame| raw.send_frame(frame));
                if sent.and_then(|()| raw.drain(64, Duration::from_millis(10))).is_err() {
                    return;
                }
            }
        });
        Chatter { stop, thread }
    }
}

impl Lab {
    #[track_caller]
    pub fn start() -> Lab {
        let namespaces = [Netns::new("host"), Netns::new("wire")];
        let [host, wire] = &namespaces;
        host.veth("eth0", wire, "eth0");
        for (number, netns) in (1..).zip(&namespaces) {
            let address = format!("192.0.2.{number}/24");
            netns.configure("eth0", &Interface::new().mac(&mac(number).to_string()).address(&address));
        }
        host.ip(["link", "set", "lo", "up"]);
        let path = host.path();
        let listener = vmlan_sys::netns::within(&path, || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)))
            .expect("a service");
        let service = listener.local_addr().expect("an address").port();

        let daemon = Daemon::start_within(host, directory(), &configuration(service));
        let guest = |name: &str, number: u8, to: u8, count: usize| {
            let frame = ethernet(mac(to), mac(number), TYPE, &[number; 900]);
            Chatter::start(daemon.path(&format!("{name}.sock")), vec![frame; count])
        };
        let mut chatter = vec![guest("web", 10, 11, 8), guest("db", 11, 10, 2), guest("mail", 12, 11, 1)];
        let stolen = ethernet(mac(11), mac(66), TYPE, &[0; 100]);
        let all = ethernet(MacAddr([0xff; 6]), mac(13), TYPE, &[0; 100]);
        chatter.push(Chatter::start(daemon.path("rogue.sock"), vec![stolen, all]));
        let flow = flow(&daemon, &listener, service);
        daemon.wait_up(&["web", "db", "mail", "rogue", "app"]);
        wait_until("a drop", PATIENCE, || daemon.drops("rogue", DropReason::SourceGuard) > 0);
        let attachment = Attachment::Vde { directory: daemon.path("office.vde") };
        let _hostile = RawGuest::attach(HOSTILE, attachment, PATIENCE).expect("a client");
        daemon.wait_up(&["guests.0"]);
        Lab { daemon, chatter, flow, _hostile, _namespaces: namespaces }
    }

    #[track_caller]
    pub fn stop(self) {
        for Chatter { stop, thread } in self.chatter {
            stop.store(true, Ordering::Relaxed);
            thread.join().expect("a guest");
        }
        self.flow.stop.store(true, Ordering::Relaxed);
        self.flow.sink.join().expect("a service");
        self.flow.sender.join().expect("a guest");
        self.daemon.stop();
    }
}

fn configuration(service: u16) -> String {
    let port = |name: &str, more: &str| {
        format!("[network.lab.port.{name}]\nstream = {{ listen = \"{name}.sock\" }}\n{more}")
    };
    let rogue = mac(13);
    let ports = [
        port("web", ""),
        port("db", ""),
        port("mail", ""),
        port("rogue", &format!("mac = \"{rogue}\"\n")),
        port("app", ""),
        port("spare", ""),
    ];
    format!(
        "[network.lab.uplink]\nsubnet = \"198.51.100.0/24\"\nipv6 = \"off\"\nhost = [\"{service}\"]\n{}\
         [network.office.trunk]\ninterface = \"eth0\"\nmode = \"packet\"\n\
         [network.office.port.desk]\nstream = {{ listen = \"desk.sock\" }}\n\
         [network.office.port.guests]\nvde = {{ directory = \"office.vde\" }}\n",
        ports.concat()
    )
}

/// A guest with a lease and an open flow to a service of the host.
#[track_caller]
fn flow(daemon: &Daemon, listener: &TcpListener, service: u16) -> Flow {
    let attachment = Attachment::Stream { path: daemon.path("app.sock") };
    let guest = Guest::spawn(GuestConfig::new("app", mac(20), attachment).dhcp()).expect("a guest");
    guest.lease(PATIENCE).expect("a lease");
    let sender = std::thread::spawn(move || {
        // It ends with an error when the service does.
        let _ = guest.tcp_send(SocketAddr::from((HOST, service)), Amount::Octets(1 << 40));
    });
    listener.set_nonblocking(true).expect("a listener");
    let accept = || match listener.accept() {
        Ok((stream, _)) => Some(stream),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
        Err(error) => panic!("{error}"),
    };
    let mut stream = testbed::wait_for("the guest's connection", PATIENCE, accept);
    stream.set_nonblocking(false).expect("a connection");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = stop.clone();
    let sink = std::thread::spawn(move || {
        let mut piece = vec![0; 64 * 1024];
        while !stopped.load(Ordering::Relaxed) && stream.read(&mut piece).is_ok_and(|octets| octets > 0) {
            // So that the guest leaves the machine to the browser.
            std::thread::sleep(Duration::from_millis(50));
        }
    });
    Flow { stop, sink, sender }
}

/// A daemon with one network of many ports that wait for their guests, which serves the page itself.
#[track_caller]
pub fn many_ports() -> Daemon {
    let page = format!("[daemon]\nui = \"127.0.0.1:{}\"\n", free_port());
    let port =
        |number| format!("[network.crowd.port.p{number}]\nstream = {{ listen = \"p{number}.sock\" }}\n");
    Daemon::start(&(page + &(0..MANY).map(port).collect::<String>()))
}
