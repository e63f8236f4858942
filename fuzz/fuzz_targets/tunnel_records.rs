//! Tunnels: every record is one or is refused, messages of the control socket mean what they say, and whatever client
//! and network send, every buffer comes back and the books balance.
#![no_main]

use std::os::fd::OwnedFd;
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, recv, send, socketpair};
use vmlan_drivers::tunnel::message::{Opened, Request, answer, parse_answer};
use vmlan_drivers::tunnel::record::{Family, Form, HEADER, destination, packet_len};
use vmlan_drivers::tunnel::{Host, Interface, Options, Tunnel};
use vmlan_drivers::{Endpoint, Settings};
use vmlan_frame::{Batch, Context, Counters, Direction, Instant, MacAddr, Pool, PoolSizes};
use vmlan_link::{Mtu, Registry};

const MAC: MacAddr = MacAddr([6, 0, 0, 0, 0, 9]);

fuzz_target!(|input: (Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (octets, steps) = input;
    records(&octets);
    messages(&octets);
    traffic(&steps);
});

/// Checks that a record that was read is written as it was.
fn records(octets: &[u8]) {
    for form in [Form::Family, Form::PacketInformation, Form::Bare] {
        let mut record = octets.to_vec();
        match form.read(&mut record) {
            Err(_) => assert_eq!(record, octets),
            Ok(family) => {
                assert_eq!(record[..HEADER], family.header());
                assert_eq!(Family::of_packet(&record[HEADER..]), Some(family));
                let mut scratch = [0; HEADER];
                let written = form.write(&record, &mut scratch).concat();
                assert_eq!(written, octets[HEADER - form.header_len()..]);
                let packet = &record[HEADER..];
                if let Some(len) = packet_len(family, packet) {
                    assert!(len <= packet.len() && destination(family, &packet[..len]).is_some());
                }
            }
        }
    }
}

/// Checks that a message that is understood is written as it was.
fn messages(octets: &[u8]) {
    if let Ok(request) = Request::parse(octets) {
        assert_eq!(request.emit(), octets);
        let answered = answer(Some(&request), Ok(&octets[octets.len().min(4)..]));
        assert!(matches!(parse_answer(&request, &answered), Ok(Ok(_))));
        if let Ok(Err(refusal)) = parse_answer(&request, octets) {
            assert_eq!(answer(Some(&request), Err(refusal))[..4], octets[..4]);
        }
    }
    if let Ok(opened) = Opened::parse(octets) {
        assert_eq!(opened.emit(), octets);
    }
}

/// Each step is a record of the client's or a frame of the network's, after so many seconds.
fn traffic(steps: &[(u8, Vec<u8>)]) {
    let registry = Registry::new(1, || std::time::SystemTime::UNIX_EPOCH);
    let addresses = ["10.0.0.9/24", "fd00::9/64"].map(|text| text.parse().unwrap());
    let options = Options {
        unit: None,
        mtu: Mtu::ETHERNET,
        addresses: addresses
            .iter()
            .map(|own: &vmlan_drivers::tunnel::message::Prefixed| own.address)
            .collect(),
        max_pending: 4.try_into().unwrap(),
    };
    let interface = Interface::create(&registry, options).unwrap();
    let flags = SocketFlags::NONBLOCK | SocketFlags::CLOEXEC;
    let (client, socket): (OwnedFd, OwnedFd) =
        socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
    let host =
        Host { mac: MAC, addresses: addresses.to_vec(), gateways: vec![[10, 0, 0, 1].into()], seed: 0 };
    let tunnel = Tunnel::to_client(socket.into(), &host, interface.clone()).unwrap();
    let counters = Arc::new(Counters::new(1));
    let settings = Settings {
        worker: 0,
        receives: true,
        share: None,
        account: counters.clone().into(),
        backlog: 8,
        longest: 1518,
    };
    let mut queue = tunnel.queue(settings).unwrap();
    let pool = Pool::new(PoolSizes { small: 128, large: 4, bulk: 0 });
    let mut now = Instant::from_nanos(1 << 62);
    let (mut frames, mut batch) = (0, Batch::new());
    for (step, octets) in steps.iter().take(64) {
        now = now + std::time::Duration::from_secs(u64::from(step >> 1));
        let cx = Context { worker: 0, now, pool: &pool };
        if step & 1 == 0 {
            let _ = send(&client, octets, SendFlags::NOSIGNAL);
        } else if !octets.is_empty() && octets.len() <= 1518 {
            frames += 1;
            batch.push(pool.copy(octets).unwrap());
            queue.transmit(&cx, &mut batch).unwrap();
            assert!(batch.is_empty());
        }
        queue.receive(&cx, &mut batch).unwrap();
        for frame in batch.drain() {
            assert!(frame.len() > 14 && frame.source() == Some(MAC));
        }
        let mut record = [0; 2000];
        while let Ok((len, _)) = recv(&client, &mut record, RecvFlags::DONTWAIT) {
            assert!(Form::Family.read(&mut record[..len]).is_ok());
        }
    }
    let waiting = queue.status().waiting as u64;
    let sum = counters.snapshot();
    assert_eq!(sum.tx_frames + sum.dropped_on(Direction::Egress) + waiting, frames);
    assert_eq!(pool.out(), 0);
    interface.close();
    assert!(registry.links().is_empty());
}
