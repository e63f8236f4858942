//! DNS: any octets of a guest get an answer to their question that fits, or none; any octets of a resolver are an
//! answer to what was asked or are ignored; and every question that waits ends.
#![no_main]

use core::time::Duration;

use libfuzzer_sys::fuzz_target;
use vmlan_frame::{Instant, MacAddr};
use vmlan_nat::envelope::{Subnet4, Subnet6};
use vmlan_nat::reach::{Egress, Rule, To};
use vmlan_services::names::{Verdict, decide, learned, pass_on};
use vmlan_services::proxy::{Action, Asker, Proxy};
use vmlan_services::settings::Dns;
use vmlan_services::{Client, Leases, Name, Port, Ports, Settings};

const CLIENT: Client = Client { ingress: 1, mac: MacAddr([0x52, 0x54, 0, 0, 0, 1]) };
const ROOM: usize = 1472;

fn settings(filter_aaaa: bool) -> Settings {
    let rule = |to| Rule { allow: true, to, ports: None, protocol: None };
    let subnet6 = Subnet6 { network: "fd00:1:2:5::".parse().unwrap() };
    Settings {
        mac: MacAddr([0x52, 0x54, 0, 0xff, 0, 1]),
        mtu: 1500,
        subnet: Subnet4 { network: [10, 213, 5, 0].into(), prefix: 24 },
        subnet6: (!filter_aaaa).then_some(subnet6),
        router: true,
        ipv6_only: false,
        identity: [7; 16],
        dhcp: None,
        dns: Some(Dns { domain: Name::parse("lab").unwrap(), search: vec![], host: true, filter_aaaa }),
        egress: Egress::Rules(vec![rule(To::Name("*.a".into())), rule(To::Any)]),
    }
}

fuzz_target!(|input: (bool, Vec<u8>, Vec<(u8, Vec<u8>)>)| {
    let (filter_aaaa, question, steps) = input;
    let (settings, mut ports, leases) = (settings(filter_aaaa), Ports::default(), Leases::default());
    let addresses = vec![[10, 213, 5, 10].into(), "fd00:1:2:5::10".parse().unwrap()];
    ports.insert(Port { ingress: 1, name: "a".into(), mac: None, addresses, egress: None, up: true });
    let mut now = Instant::from_secs(1);
    let mut proxy = Proxy::default();
    let mut number = 0_u16;
    let mut random = || {
        number = number.wrapping_add(1);
        number
    };
    match decide((&settings, &ports, &leases), CLIENT, &question, Some(ROOM), now) {
        Verdict::Ignore => return,
        Verdict::Answer(answer) => {
            assert!(answer.len() <= ROOM && answer[..2] == question[..2] && answer[2] & 0x80 != 0);
            return;
        }
        Verdict::Ask(parsed) => {
            let from = ([10, 213, 5, 10], 4000).into();
            let asker = Asker { client: CLIENT, from, to: [10, 213, 5, 1].into() };
            let servers = [([192, 0, 2, 1], 53).into(), ([192, 0, 2, 2], 53).into()];
            proxy.ask(asker, parsed, &question, &servers, now, &mut random);
        }
    }
    let mut asked = Vec::new();
    let mut answers = 0;
    for (what, octets) in steps.iter().take(64).chain([&(1, vec![]); 4]) {
        while let Some(action) = proxy.poll_action() {
            match action {
                Action::Ask { attempt, message, .. } => {
                    assert_eq!(message[2..], question[2..]);
                    asked.push((attempt, message));
                }
                Action::Close { .. } => {}
                Action::Answer { question: parsed, message, .. } => {
                    answers += 1;
                    let _ = learned(&settings, &ports, CLIENT, &parsed, &message, now);
                    let passed = pass_on(&settings, &parsed, message, Some(ROOM));
                    assert!(passed[..2] == question[..2] && passed[2] & 0x80 != 0);
                    assert!(passed.len() <= ROOM);
                }
            }
        }
        let Some((attempt, message)) = asked.get(usize::from(what >> 4) % asked.len().max(1)) else {
            continue;
        };
        match what & 3 {
            0 => proxy.received(*attempt, octets, now, &mut random),
            1 => {
                now = now + Duration::from_secs(2);
                proxy.expire(now, &mut random);
            }
            2 => proxy.failed(*attempt, now, &mut random),
            _ => {
                // The question back, as an answer with something behind it.
                let mut answer = [&message[..], octets].concat();
                answer[2] |= 0x80;
                proxy.received(*attempt, &answer, now, &mut random);
            }
        }
    }
    assert!(proxy.is_empty() && answers <= 1);
});
