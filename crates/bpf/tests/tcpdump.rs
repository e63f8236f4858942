#![cfg(target_os = "linux")]
//! Programs that tcpdump compiled, against the kernel and against what tcpdump itself makes of the packets.

#[path = "support/packets.rs"]
mod packets;
mod support;

use std::io::Write;
use std::process::{Command, Stdio};

use packets::packets;
use support::{Kernel, kept};
use vmlan_bpf::{CheckError, Fault, Program};

const EXPRESSIONS: [&str; 66] = [
    "arp",
    "ip",
    "ip6",
    "tcp",
    "udp",
    "icmp",
    "icmp6",
    "not ip and not ip6",
    "ether host 52:54:00:00:00:01",
    "ether src 52:54:00:00:00:01",
    "ether dst 52:54:00:00:00:02 or ether dst 52:54:00:00:00:03",
    "ether broadcast",
    "ether multicast",
    "ip multicast",
    "ip6 multicast",
    "ether proto 0x88cc",
    "ether proto 0x0806 and not ether broadcast",
    "stp",
    "llc",
    "mpls",
    "vlan",
    "not vlan",
    "vlan 5",
    "vlan 5 and ip6",
    "vlan 5 and tcp port 80",
    "vlan 10 and vlan 20 and icmp",
    "pppoes and ip",
    "host 10.0.0.1",
    "src host 10.0.0.1 and dst host 10.0.0.2",
    "host fd00::1",
    "dst host fd00::2 and udp",
    "net 10.0.0.0/8",
    "not net 10.0.0.0/30",
    "src net fd00::/64",
    "ip proto 47",
    "ip6 proto 58",
    "proto 17",
    "port 53",
    "tcp port 80",
    "src port 1024",
    "dst portrange 50-90",
    "tcp portrange 1000-2000 and not port 443",
    "host 10.0.0.1 and (port 53 or port 80) and not icmp",
    "len > 60",
    "greater 60",
    "less 64",
    "ether[0] & 1 = 1",
    "ether[12:2] = 0x88cc",
    "ether[6:4] ^ ether[0:4] = 0",
    "ip[0] & 0xf > 5",
    "ip[6:2] & 0x1fff != 0",
    "ip[6:2] & 0x3fff = 0 and tcp",
    "ip[8] < 5",
    "ip[2:2] - ((ip[0] & 0xf) << 2) > 30",
    "ip[4:2] % 3 = 1",
    "ip[4:2] / 7 * 3 | 1 = 13",
    "-ip[4:2] = 0xffffffff",
    "len / ip[8] > 1",
    "len >> (ip[4:2] & 3) > 20",
    "tcp[tcpflags] & (tcp-syn|tcp-fin) != 0",
    "tcp[13] = 2",
    "tcp[((tcp[12] & 0xf0) >> 2):4] = 0x47455420",
    "udp[8:4] = 0x00010203",
    "udp[ip[4:2]] = 3",
    "icmp[icmptype] = icmp-echo",
    "ip6[6] = 17 and ip6[40:2] = 1024",
];

/// tcpdump's output; `input` is a capture for it to read.
fn tcpdump(arguments: &[&str], input: &[u8]) -> Vec<u8> {
    let mut child = Command::new("tcpdump")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("tcpdump starts");
    let mut stdin = child.stdin.take().expect("a pipe to tcpdump");
    // All of it fits in the pipe, so tcpdump's own output cannot block it. Without need of it tcpdump does not read.
    let _ = stdin.write_all(input);
    drop(stdin);
    let output = child.wait_with_output().expect("tcpdump ends");
    assert!(output.status.success(), "tcpdump {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

fn text(octets: Vec<u8>) -> String {
    String::from_utf8(octets).expect("text from tcpdump")
}

#[test]
fn compiled_expressions_do_the_same_everywhere() {
    testbed::require!(tool("tcpdump"));
    let kernel = Kernel::new();
    let packets = packets();
    let capture = packets::to_pcap(&packets);
    assert!(capture.len() < 60_000, "the capture has to fit in a pipe");

    let mut decisive = 0;
    for expression in EXPRESSIONS {
        let program: Program =
            text(tcpdump(&["-ddd", "-y", "EN10MB", "--", expression], &[])).parse().expect(expression);
        let program = program.check().expect(expression);

        assert_eq!(
            program.disassembly().to_string(),
            text(tcpdump(&["-d", "-y", "EN10MB", "--", expression], &[])),
            "{expression}"
        );
        assert!(kernel.attach(program.instructions()), "{expression}");
        let mut accepted = Vec::new();
        for (index, packet) in packets.iter().enumerate() {
            let answer = program.run(packet);
            assert_eq!(kept(answer, packet.len()), kernel.run(packet), "{expression}: {packet:x?}");
            if answer != 0 {
                accepted.push(index);
            }
        }
        let chosen = packets::from_pcap(&tcpdump(&["-n", "-r", "-", "-w", "-", "--", expression], &capture));
        assert_eq!(accepted, chosen, "{expression}");
        decisive += usize::from(!accepted.is_empty() && accepted.len() < packets.len());
    }
    assert_eq!(decisive, EXPRESSIONS.len(), "each expression has packets that it accepts and rejects");
}

#[test]
fn a_loop_is_refused_as_the_kernel_does() {
    testbed::require!(tool("tcpdump"));

    let program: Program =
        text(tcpdump(&["-ddd", "-y", "EN10MB", "--", "ip6 protochain 6"], &[])).parse().expect("a program");

    assert!(!Kernel::new().attach(program.instructions()));
    let refused = program.check();
    assert!(matches!(refused, Err(CheckError::Instruction { fault: Fault::Jump, .. })), "{refused:?}");
}
