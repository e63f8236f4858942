//! Packets of many protocols, whole and cut off, and captures of them.

const ETHERNET: usize = 14;

fn ethernet(destination: u8, kind: u16, payload: &[u8]) -> Vec<u8> {
    let destination = match destination {
        0xff => [0xff; 6],
        0x01 => [0x01, 0, 0x5e, 0, 0, 0xfb],
        0x33 => [0x33, 0x33, 0, 0, 0, 1],
        last => [0x52, 0x54, 0, 0, 0, last],
    };
    [&destination[..], &[0x52, 0x54, 0, 0, 0, 1], &kind.to_be_bytes(), payload].concat()
}

/// `tag`, then what follows the addresses of `frame`.
fn tagged(protocol: u16, vid: u16, frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &protocol.to_be_bytes(), &vid.to_be_bytes(), &frame[12..]].concat()
}

struct Ipv4 {
    id: u16,
    fragment: u16,
    ttl: u8,
    protocol: u8,
    to: [u8; 4],
    options: &'static [u8],
}

const IPV4: Ipv4 = Ipv4 { id: 1, fragment: 0, ttl: 64, protocol: 17, to: [10, 0, 0, 2], options: &[] };

fn ipv4(header: Ipv4, payload: &[u8]) -> Vec<u8> {
    let Ipv4 { id, fragment, ttl, protocol, to, options } = header;
    let words = 5 + options.len() / 4;
    let total = (words * 4 + payload.len()) as u16;
    let [id, total, fragment] = [id, total, fragment].map(u16::to_be_bytes);
    let start = [&[0x40 | words as u8, 0], &total[..], &id, &fragment, &[ttl, protocol, 0, 0]].concat();
    [&start[..], &[10, 0, 0, 1], &to, options, payload].concat()
}

fn ipv6(next: u8, to: u8, payload: &[u8]) -> Vec<u8> {
    let length = (payload.len() as u16).to_be_bytes();
    let prefix = if to == 1 { [0xff, 2] } else { [0xfd, 0] };
    let address = |prefix: [u8; 2], last: u8| [&prefix[..], &[0; 13], &[last]].concat();
    [&[0x60, 0, 0, 0], &length[..], &[next, 64], &address([0xfd, 0], 1), &address(prefix, to), payload]
        .concat()
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let length = 8 + payload.len() as u16;
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat()
}

fn tcp(from: u16, to: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let rest = [0, 0, 0, 1, 0, 0, 0, 2, 0x60, flags, 0x10, 0, 0, 0, 0, 0, 2, 4, 5, 0xb4];
    [&from.to_be_bytes()[..], &to.to_be_bytes(), &rest, payload].concat()
}

fn whole() -> Vec<Vec<u8>> {
    let data = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9];
    let echo = [8, 0, 0, 0, 0, 1, 0, 1, 5, 5];
    let neighbour = [135, 0, 0, 0, 0, 0, 0, 0];
    let dns = ethernet(2, 0x0800, &ipv4(IPV4, &udp(1024, 53, &data)));
    let ping = ethernet(2, 0x0800, &ipv4(Ipv4 { protocol: 1, id: 2, ..IPV4 }, &echo));
    let web = ethernet(
        2,
        0x0800,
        &ipv4(Ipv4 { protocol: 6, id: 4, ..IPV4 }, &tcp(1500, 80, 0x18, b"GET / HTTP/1.1")),
    );
    let six = ethernet(2, 0x86dd, &ipv6(17, 2, &udp(1024, 53, &data)));
    let llc = |octets: &[u8]| ethernet(0x01, octets.len() as u16, octets);
    let with_options = Ipv4 { protocol: 6, id: 29, ttl: 3, options: &[1, 1, 1, 0, 7, 4, 4, 0], ..IPV4 };
    let spanning_tree = [&[0x01, 0x80, 0xc2, 0, 0, 0], &llc(&[0x42, 0x42, 3, 0, 0, 0, 0, 0])[6..]].concat();
    vec![
        tagged(0x8100, 5, &web),
        tagged(0x8100, 5, &six),
        tagged(0x8100, 0x6005, &dns),
        tagged(0x8100, 6, &dns),
        tagged(0x88a8, 10, &tagged(0x8100, 20, &ping)),
        tagged(0x8100, 10, &tagged(0x8100, 20, &ping)),
        ethernet(2, 0x0800, &ipv4(with_options, &tcp(1500, 80, 0x02, b"GET "))),
        ethernet(3, 0x0800, &ipv4(Ipv4 { protocol: 6, id: 3, ..IPV4 }, &tcp(443, 1500, 0x11, b""))),
        ethernet(2, 0x0800, &ipv4(Ipv4 { fragment: 0x2000, id: 7, ..IPV4 }, &udp(1024, 53, &data))),
        ethernet(2, 0x0800, &ipv4(Ipv4 { fragment: 0x0010, ttl: 1, ..IPV4 }, &data)),
        ethernet(2, 0x0800, &ipv4(Ipv4 { ttl: 0, id: 0xffff, ..IPV4 }, &udp(9, 9, &data))),
        ethernet(2, 0x0800, &ipv4(Ipv4 { protocol: 47, ..IPV4 }, &[0, 0, 8, 0])),
        ethernet(0x01, 0x0800, &ipv4(Ipv4 { to: [224, 0, 0, 251], id: 11, ..IPV4 }, &udp(5353, 5353, &data))),
        ethernet(2, 0x0800, &ipv4(Ipv4 { to: [192, 168, 7, 7], ..IPV4 }, &udp(68, 67, &data))),
        ethernet(2, 0x86dd, &ipv6(6, 2, &tcp(1500, 80, 0x02, b""))),
        ethernet(0x33, 0x86dd, &ipv6(58, 1, &neighbour)),
        ethernet(2, 0x86dd, &ipv6(44, 2, &[&[17, 0, 0, 1, 0, 0, 0, 1][..], &udp(1024, 53, &data)].concat())),
        ethernet(0xff, 0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 1][..], &[10; 20], &[0; 18]].concat()),
        ethernet(1, 0x0806, &[&[0, 1, 8, 0, 6, 4, 0, 2][..], &[10; 20], &[0; 18]].concat()),
        ethernet(0x01, 0x88cc, &[2, 7, 4, 0x52, 0x54, 0, 0, 0, 1]),
        ethernet(2, 0x8847, &[&[0, 0x10, 1, 64][..], &ipv4(IPV4, &udp(1024, 53, &data))].concat()),
        ethernet(
            2,
            0x8864,
            &[&[0x11, 0, 0, 1, 0, 40, 0, 0x21][..], &ipv4(IPV4, &udp(1024, 53, &data))].concat(),
        ),
        spanning_tree,
        llc(&[0xaa, 0xaa, 3, 0, 0, 0, 8, 0]),
        ethernet(2, 0x88b5, &[]),
        vec![0xff; 70],
        vec![0; 70],
        dns,
        ping,
        web,
        six,
    ]
}

/// Every packet whole and cut off in its headers.
pub fn packets() -> Vec<Vec<u8>> {
    let mut packets = whole();
    for packet in whole() {
        for length in
            [1, 13, ETHERNET, 18, 23, 34, 37, 41, 54, 57].into_iter().filter(|&length| length < packet.len())
        {
            packets.push(packet[..length].to_vec());
        }
    }
    packets
}

/// A capture of Ethernet packets whose seconds are their indices (libpcap's savefile format, version 2.4).
pub fn to_pcap(packets: &[Vec<u8>]) -> Vec<u8> {
    let mut capture = Vec::new();
    for word in [0xa1b2_c3d4, 0x0004_0002, 0, 0, 65535, 1u32] {
        capture.extend(word.to_le_bytes());
    }
    for (index, packet) in packets.iter().enumerate() {
        let length = packet.len() as u32;
        for word in [index as u32, 0, length, length] {
            capture.extend(word.to_le_bytes());
        }
        capture.extend(packet);
    }
    capture
}

/// The indices of the packets in a capture that was made of [`to_pcap`]'s.
pub fn from_pcap(capture: &[u8]) -> Vec<usize> {
    let (header, mut records) = capture.split_at(24);
    // tcpdump writes in the host's order.
    assert_eq!(header[..4], 0xa1b2_c3d4u32.to_ne_bytes());
    let mut indices = Vec::new();
    while !records.is_empty() {
        let word = |at: usize| {
            u32::from_ne_bytes(records[at..at + 4].try_into().expect("a record's header")) as usize
        };
        indices.push(word(0));
        records = &records[16 + word(8)..];
    }
    indices
}
