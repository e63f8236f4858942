use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream as StdStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
use tokio::net::UdpSocket;
use tokio::time::timeout;
use vmlan_frame::MacAddr;
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::{Egress, Rule, To};
use vmlan_services::packet::{Packet, icmpv6_frame, udp_frame};
use vmlan_services::settings::{Boot, Dhcp, Dns};
use vmlan_services::{Name, leases};

use super::*;

const GUEST: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const CLIENT: Client = Client { ingress: 1, mac: GUEST };
const GATEWAY: MacAddr = MacAddr([0x52, 0x54, 0, 0xff, 0, 1]);

fn settings() -> Settings {
    Settings {
        mac: GATEWAY,
        mtu: 1500,
        subnet: Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 },
        subnet6: Some(Subnet6 { network: "fd00:1:2:5::".parse().unwrap() }),
        router: true,
        ipv6_only: false,
        identity: [7; 16],
        dhcp: Some(Dhcp {
            pool: [10, 213, 5, 16].into()..=[10, 213, 5, 250].into(),
            lease: 3600,
            ntp: vec![],
            routes: vec![],
            boot: Boot::default(),
        }),
        dns: Some(Dns {
            domain: Name::parse("lab.internal").unwrap(),
            search: vec![],
            host: false,
            filter_aaaa: false,
        }),
        egress: Egress::All,
    }
}

/// A running task, and the other ends of everything that it has.
struct Net {
    handle: Handle,
    channel: OwnedFd,
    streams: mpsc::Sender<(StdStream, Client)>,
    notices: mpsc::UnboundedReceiver<Notice>,
    learned: mpsc::UnboundedReceiver<Learned>,
    bound: mpsc::UnboundedReceiver<(Client, Ipv4Addr)>,
    directory: tempfile::TempDir,
}

fn port() -> Port {
    Port { ingress: 1, name: "web".into(), mac: None, addresses: vec![], egress: None, up: true }
}

/// Starts the task with a file of resolvers that has this text.
fn start_in(directory: tempfile::TempDir, settings: Settings, servers: Servers) -> Net {
    let (ours, theirs) =
        socketpair(AddressFamily::UNIX, SocketType::DGRAM, SocketFlags::empty(), None).unwrap();
    let (streams, receiver) = mpsc::channel(8);
    let (notices, heard_notices) = mpsc::unbounded_channel();
    let (learned, heard_learned) = mpsc::unbounded_channel();
    let (bound, heard_bound) = mpsc::unbounded_channel();
    let setup = Setup {
        config: Config { settings, servers },
        ports: vec![port()],
        lease_file: Some(directory.path().join("leases/lab.json")),
        resolv_conf: directory.path().join("resolv.conf"),
        channel: theirs,
        streams: receiver,
    };
    let callbacks = Callbacks {
        notice: Box::new(move |notice| drop(notices.send(notice))),
        learned: Box::new(move |value, _| drop(learned.send(value))),
        bound: Box::new(move |client, address| {
            let _ = bound.send((client, address));
        }),
    };
    rustix::io::ioctl_fionbio(&ours, true).unwrap();
    let handle = Services::start(setup, callbacks).unwrap();
    Net {
        handle,
        channel: ours,
        streams,
        notices: heard_notices,
        learned: heard_learned,
        bound: heard_bound,
        directory,
    }
}

fn start(settings: Settings, servers: Servers) -> Net {
    start_in(tempfile::tempdir().unwrap(), settings, servers)
}

/// Waits for what must come.
async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(Duration::from_secs(20), what).await.expect("it comes in time")
}

impl Net {
    fn send(&self, frame: &[u8]) {
        let message = [&[0, 1, 0, 0][..], frame].concat();
        rustix::net::send(&self.channel, &message, rustix::net::SendFlags::empty()).unwrap();
    }

    /// The next frame for which `wanted` has a value.
    async fn frame<T>(&self, mut wanted: impl FnMut(u16, &[u8]) -> Option<T>) -> T {
        soon(async {
            let mut buffer = [0; 4096];
            loop {
                match rustix::net::recv(&self.channel, &mut buffer, rustix::net::RecvFlags::empty()) {
                    Ok((len, _)) => {
                        let ingress = u16::from_be_bytes([buffer[0], buffer[1]]);
                        if let Some(value) = wanted(ingress, &buffer[HEADER..len]) {
                            return value;
                        }
                    }
                    Err(_) => tokio::time::sleep(Duration::from_millis(1)).await,
                }
            }
        })
        .await
    }

    /// The payload of the next datagram from a port.
    async fn datagram(&self, from_port: u16) -> Vec<u8> {
        self.frame(|ingress, frame| match Packet::parse(frame) {
            Some(Packet::Udp { from, payload, .. }) if from == from_port => {
                assert_eq!((ingress, &frame[..6]), (1, &GUEST.0[..]));
                Some(payload.to_vec())
            }
            _ => None,
        })
        .await
    }

    fn dhcp(&self, kind: u8, address: Option<Ipv4Addr>) {
        let mut message = vec![0; 240];
        message[..3].copy_from_slice(&[1, 1, 6]);
        message[28..34].copy_from_slice(&GUEST.0);
        message[236..].copy_from_slice(&[0x63, 0x82, 0x53, 0x63]);
        message.extend([53, 1, kind]);
        if let Some(address) = address {
            message.extend([50, 4]);
            message.extend(address.octets());
        }
        message.push(255);
        let addresses = (IpAddr::from([0; 4]), IpAddr::from([255; 4]));
        self.send(&udp_frame(GUEST, MacAddr::BROADCAST, addresses, (68, 67), &message).unwrap());
    }

    async fn dhcp_answer(&self) -> (u8, Ipv4Addr) {
        let message = self.datagram(67).await;
        (message[242], Ipv4Addr::from_octets(message[16..20].try_into().unwrap()))
    }

    fn ask(&self, octets: &[u8]) {
        let addresses = (IpAddr::from([10, 213, 5, 16]), IpAddr::from([10, 213, 5, 1]));
        self.send(&udp_frame(GUEST, GATEWAY, addresses, (4000, 53), octets).unwrap());
    }

    fn write_resolvers(&self, text: &str) {
        let (path, new) = (self.directory.path().join("resolv.conf"), self.directory.path().join("new"));
        std::fs::write(&new, text).unwrap();
        std::fs::rename(new, path).unwrap();
    }
}

fn query(name: &str) -> Vec<u8> {
    let mut octets = vec![0xab, 0xcd, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        octets.push(label.len() as u8);
        octets.extend(label.as_bytes());
    }
    octets.extend([0, 0, 1, 0, 1]);
    octets
}

/// An answer with one address.
fn answer(question: &[u8], address: [u8; 4]) -> Vec<u8> {
    let mut octets = question.to_vec();
    (octets[2], octets[7]) = (0x81, 1);
    octets.extend([0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 9, 0, 4]);
    octets.extend(address);
    octets
}

fn leases_in(path: &Path) -> usize {
    leases::Leases::from_json(&std::fs::read(path).unwrap()).unwrap().iter().count()
}

#[tokio::test]
async fn case_43_a_lease_is_on_disk_before_it_is_acknowledged() {
    let mut net = start(settings(), Servers::Host);
    let path = net.directory.path().join("leases/lab.json");
    net.dhcp(1, None);
    let (2, address) = net.dhcp_answer().await else { panic!("it is an offer") };
    assert!(!path.exists(), "an offer is kept nowhere");
    net.dhcp(3, Some(address));
    assert_eq!(net.dhcp_answer().await, (5, address));
    assert_eq!(net.bound.try_recv(), Ok((CLIENT, address)));
    assert_eq!(leases_in(&path), 1);
    let listed = net.handle.leases().await;
    assert_eq!((listed[0].address, listed[0].port.as_str()), (address.into(), "web"));
    assert!(matches!(net.notices.recv().await, Some(Notice::Event(Event::Lease { .. }))));

    // Killed; another one begins with the file.
    let Net { handle, directory, .. } = net;
    drop(handle);
    let net = start_in(directory, settings(), Servers::Host);
    net.dhcp(3, Some(address));
    assert_eq!(net.dhcp_answer().await, (5, address));
    assert!(net.handle.release(address).await && !net.handle.release(address).await);
    soon(net.handle.farewell()).await;
    assert_eq!(leases_in(&net.directory.path().join("leases/lab.json")), 1, "it is kept for its client");
}

#[tokio::test]
async fn case_44_an_unreadable_file_is_told_and_clients_are_believed() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("leases")).unwrap();
    std::fs::write(directory.path().join("leases/lab.json"), b"{\"version\"").unwrap();
    let mut net = start_in(directory, settings(), Servers::Host);
    assert!(matches!(soon(net.notices.recv()).await, Some(Notice::LeasesUnreadable(_))));
    net.dhcp(3, Some([10, 213, 5, 77].into()));
    assert_eq!(net.dhcp_answer().await, (5, [10, 213, 5, 77].into()));
}

#[tokio::test]
async fn a_file_that_cannot_be_written_is_told_and_guests_are_answered() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join("leases"), b"no directory").unwrap();
    let mut net = start_in(directory, settings(), Servers::Host);
    net.dhcp(3, Some([10, 213, 5, 77].into()));
    assert_eq!(net.dhcp_answer().await.0, 5);
    let unwritten = async { while !matches!(net.notices.recv().await, Some(Notice::LeasesUnwritten(_))) {} };
    soon(unwritten).await;
}

#[tokio::test]
async fn routers_are_advertised_and_solicitations_answered() {
    let net = start(settings(), Servers::Host);
    let is_advert = |frame: &[u8]| frame.get(54) == Some(&134);
    net.frame(|ingress, frame| (ingress == 0 && is_advert(frame)).then_some(())).await;
    net.send(&icmpv6_frame(GUEST, GATEWAY, "ff02::2".parse().unwrap(), &[133, 0, 0, 0, 0, 0, 0, 0]));
    net.frame(|ingress, frame| (ingress == 1 && is_advert(frame) && frame[..6] == GUEST.0).then_some(()))
        .await;

    soon(net.handle.farewell()).await;
    // The lifetimes of the router and of the resolver.
    let is_last = |frame: &[u8]| is_advert(frame) && frame[60..62] == [0, 0] && frame[124..126] == [0, 0];
    net.frame(|ingress, frame| (ingress == 0 && is_last(frame)).then_some(())).await;
}

#[tokio::test]
async fn our_own_names_are_answered_and_others_passed_on() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let net = start(settings(), Servers::Host);
    net.ask(&query("gateway.lab.internal"));
    let own = net.datagram(53).await;
    assert_eq!((&own[..4], &own[own.len() - 4..]), (&[0xab, 0xcd, 0x85, 0x80][..], &[10, 213, 5, 1][..]));
    // There is no file: nothing to ask.
    net.ask(&query("example.org"));
    assert_eq!(net.datagram(53).await[3] & 0xf, 2);
    drop(server);
}

#[tokio::test]
async fn case_58_resolvers_are_followed() {
    let mut net = start(settings(), Servers::Host);
    assert_eq!(net.handle.resolvers().await, []);
    for text in ["127.0.0.53", "192.0.2.1", "2001:db8::1"] {
        net.write_resolvers(&format!("nameserver {text}\n"));
        let expected = vec![SocketAddr::from((text.parse::<IpAddr>().unwrap(), 53))];
        assert_eq!(soon(net.notices.recv()).await, Some(Notice::Resolvers(expected)));
    }
    // Another target of a link, in another directory, and a change there.
    let (link, target) = (net.directory.path().join("link"), net.directory.path().join("run/stub.conf"));
    std::fs::create_dir(net.directory.path().join("run")).unwrap();
    std::fs::write(&target, "nameserver 192.0.2.7\n").unwrap();
    std::os::unix::fs::symlink("run/stub.conf", &link).unwrap();
    std::fs::rename(link, net.directory.path().join("resolv.conf")).unwrap();
    for text in ["192.0.2.7", "192.0.2.8"] {
        std::fs::write(&target, format!("nameserver {text}\n")).unwrap();
        let expected = vec![SocketAddr::from((text.parse::<IpAddr>().unwrap(), 53))];
        let found = async { while net.notices.recv().await != Some(Notice::Resolvers(expected.clone())) {} };
        soon(found).await;
    }
}

#[tokio::test]
async fn case_25_addresses_of_allowed_names_are_told_before_the_guest_gets_them() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let mut settings = settings();
    let to = To::Name("*.example.org".into());
    settings.egress = Egress::Rules(vec![Rule { allow: true, to, ports: None, protocol: None }]);
    let mut net = start(settings, Servers::Fixed(vec![server.local_addr().unwrap()]));
    net.ask(&query("secret.example.net"));
    assert_eq!(net.datagram(53).await[3] & 0xf, 5);

    let asked = query("www.example.org");
    net.ask(&asked);
    let mut buffer = [0; 512];
    let (len, from) = soon(server.recv_from(&mut buffer)).await.unwrap();
    assert_eq!(buffer[2..len], asked[2..], "the first that left is the allowed one, unchanged");
    server.send_to(&answer(&buffer[..len], [203, 0, 113, 7]), from).await.unwrap();
    assert_eq!(net.datagram(53).await, answer(&asked, [203, 0, 113, 7]));
    let learned = net.learned.try_recv().unwrap();
    assert_eq!((learned.ingress, learned.address), (1, IpAddr::from([203, 0, 113, 7])));
    assert!(net.learned.try_recv().is_err());
}

#[tokio::test]
async fn case_57_a_cut_answer_is_passed_on_and_a_long_one_is_cut() {
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let net = start(settings(), Servers::Fixed(vec![server.local_addr().unwrap()]));
    let asked = query("www.example.org");
    for longer in [0, 4000] {
        net.ask(&asked);
        let mut buffer = [0; 512];
        let (len, from) = soon(server.recv_from(&mut buffer)).await.unwrap();
        let mut octets = answer(&buffer[..len], [203, 0, 113, 7]);
        octets.resize(octets.len() + longer, 0);
        octets[2] |= if longer == 0 { 2 } else { 0 };
        server.send_to(&octets, from).await.unwrap();
        let passed = net.datagram(53).await;
        assert_eq!((&passed[..2], passed[2] & 2), (&asked[..2], 2));
        assert!(passed.len() <= 512);
    }
}

#[tokio::test]
async fn the_next_server_is_asked_when_one_refuses() {
    let dead = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
    let net = start(settings(), Servers::Fixed(vec![dead, server.local_addr().unwrap()]));
    net.ask(&query("www.example.org"));
    let mut buffer = [0; 512];
    let (len, from) = soon(server.recv_from(&mut buffer)).await.unwrap();
    server.send_to(&answer(&buffer[..len], [203, 0, 113, 7]), from).await.unwrap();
    assert_eq!(net.datagram(53).await[3] & 0xf, 0);
}

#[tokio::test]
async fn a_dead_server_is_heard_of_at_once() {
    let (heard, mut received) = mpsc::channel(8);
    let address = UdpSocket::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let attempt = vmlan_services::proxy::Attempt { question: 0, number: 0 };
    tokio::spawn(upstream::ask(attempt, address, query("a.example"), heard));
    assert!(soon(received.recv()).await.unwrap().1.is_err());
}

#[tokio::test]
async fn connections_are_served_question_by_question() {
    let net = start(settings(), Servers::Host);
    let (mut ours, theirs) = StdStream::pair().unwrap();
    net.streams.send((theirs, CLIENT)).await.unwrap();
    let asked = tokio::task::spawn_blocking(move || {
        let question = query("gateway.lab.internal");
        let mut codes = Vec::new();
        for question in [question, query("nobody.lab.internal"), query("example.org")] {
            ours.write_all(&(question.len() as u16).to_be_bytes()).unwrap();
            ours.write_all(&question).unwrap();
            let mut len = [0; 2];
            ours.read_exact(&mut len).unwrap();
            let mut answer = vec![0; usize::from(u16::from_be_bytes(len))];
            ours.read_exact(&mut answer).unwrap();
            codes.push(answer[3] & 0xf);
        }
        codes
    });
    assert_eq!(soon(asked).await.unwrap(), [0, 3, 2]);
}

#[tokio::test]
async fn questions_by_tcp_go_by_tcp() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let octets = query("example.org");
    let question = vmlan_services::names::Question::parse(&octets).unwrap();
    let server = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let question = upstream::read(&mut stream, 512).await.unwrap().unwrap();
        upstream::write(&mut stream, &answer(&question, [203, 0, 113, 7])).await.unwrap();
    });
    let answer = soon(upstream::ask_by_tcp(&[address], &question, &octets, 99)).await;
    server.await.unwrap();
    assert_eq!((&answer[..2], &answer[answer.len() - 4..]), (&[0, 99][..], &[203, 0, 113, 7][..]));
}

#[tokio::test]
async fn the_task_ends_with_the_data_path_and_hostile_frames_are_counted() {
    let Net { mut handle, channel, .. } = {
        let net = start(settings(), Servers::Host);
        net.send(&[0; 60]);
        let counted = async { while !net.handle.counts().await.contains(&("malformed", 1)) {} };
        soon(counted).await;
        net
    };
    drop(channel);
    // A datagram socket is heard of when something is sent.
    let config = Config { settings: settings(), servers: Servers::Host };
    handle.update(config).await;
    assert!(matches!(soon(handle.ended()).await, Stopped::Channel(_)));
}
