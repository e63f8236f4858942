use vmlan_frame::MacAddr;

use super::*;
use crate::dhcp4::tests::settings;

const MAC: MacAddr = MacAddr([0x52, 0x54, 0, 0, 0, 1]);
const NOW: Instant = Instant::from_secs(100);
const DUID: &[u8] = &[0, 3, 0, 1, 0x52, 0x54, 0, 0, 0, 1];

fn ports() -> Ports {
    let mut ports = Ports::default();
    let port = |ingress, addresses| Port {
        ingress,
        name: format!("p{ingress}"),
        mac: Some(MAC),
        addresses,
        egress: None,
        up: true,
    };
    ports.replace([port(1, vec!["fd00:1:2:5::10".parse().unwrap()]), port(2, vec![])]);
    ports
}

fn message(kind: u8, options: &[(u16, &[u8])]) -> Vec<u8> {
    let mut octets = vec![kind, 1, 2, 3];
    for (number, value) in options {
        push(&mut octets, *number, value);
    }
    octets
}

fn ask(ingress: u16, kind: u8, options: &[(u16, &[u8])]) -> Result<Outcome, Refusal> {
    let client = Client { ingress, mac: MAC };
    Server::default().handle(&settings(), &ports(), client, &message(kind, options), NOW)
}

fn server() -> Vec<u8> {
    [&[0, 4][..], &[7; 16]].concat()
}

/// An association with number 9 and addresses.
fn association(list: &[&str]) -> Vec<u8> {
    let mut octets = vec![0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 0, 0];
    for address in list {
        push_address(&mut octets, address.parse().unwrap(), [1, 2]);
    }
    octets
}

fn given(times: &[(&str, [u32; 2])], renewal: [u32; 2], status: Option<u8>) -> Vec<u8> {
    let mut octets = vec![0, 0, 0, 9];
    octets.extend(renewal.map(u32::to_be_bytes).concat());
    for (address, times) in times {
        push_address(&mut octets, address.parse().unwrap(), *times);
    }
    if let Some(status) = status {
        octets.extend([0, 13, 0, 2, 0, status]);
    }
    octets
}

fn found(outcome: &Outcome) -> (u8, Vec<(u16, &[u8])>) {
    assert_eq!(outcome.message[1..4], [1, 2, 3]);
    (outcome.message[0], options(&outcome.message[4..]).unwrap())
}

const SET: &str = "fd00:1:2:5::10";
const TIMES: ([u32; 2], [u32; 2]) = ([43_200, 86_400], [21_600, 34_560]);

#[test]
fn case_54_an_information_request_gets_servers_and_domains() {
    let outcome = ask(2, kind::INFORMATION_REQUEST, &[(6, &[0, 23, 0, 24, 0, 56])]).unwrap();
    let dns: &[u8] = &[0xfd, 0, 0, 1, 0, 2, 0, 5, 0, 0, 0, 0, 0, 0, 0, 1];
    let server = server();
    let expected = vec![(2, &server[..]), (23, dns), (24, b"\x03lab\x08internal\0")];
    assert_eq!(found(&outcome), (kind::REPLY, expected));
}

#[test]
fn case_54_a_set_address_is_advertised_given_and_renewed() {
    let wish = association(&[]);
    let expected = given(&[(SET, TIMES.0)], TIMES.1, None);
    let outcome = ask(1, kind::SOLICIT, &[(1, DUID), (3, &wish)]).unwrap();
    let server = server();
    assert_eq!(found(&outcome), (kind::ADVERTISE, vec![(1, DUID), (2, &server[..]), (3, &expected[..])]));

    let rapid = ask(1, kind::SOLICIT, &[(1, DUID), (3, &wish), (14, &[])]).unwrap();
    assert_eq!((found(&rapid).0, found(&rapid).1.last()), (kind::REPLY, Some(&(14, &[][..]))));

    let outcome = ask(1, kind::REQUEST, &[(1, DUID), (2, &server), (3, &wish)]).unwrap();
    assert_eq!(found(&outcome), (kind::REPLY, vec![(1, DUID), (2, &server[..]), (3, &expected[..])]));

    let had = association(&[SET, "fd00:1:2:5::99"]);
    let expected = given(&[(SET, TIMES.0), ("fd00:1:2:5::99", [0, 0])], TIMES.1, None);
    let outcome = ask(1, kind::RENEW, &[(1, DUID), (2, &server), (3, &had)]).unwrap();
    assert_eq!(found(&outcome).1[2], (3, &expected[..]));
    let outcome = ask(1, kind::REBIND, &[(1, DUID), (3, &had)]).unwrap();
    assert_eq!(found(&outcome).1[2], (3, &expected[..]));
}

#[test]
fn case_54_others_get_no_address() {
    let outcome =
        ask(2, kind::SOLICIT, &[(1, DUID), (3, &association(&[])), (25, &association(&[]))]).unwrap();
    assert_eq!(
        found(&outcome).1[2..],
        [(3, &given(&[], [0, 0], Some(2))[..]), (25, &given(&[], [0, 0], Some(6))[..])]
    );
    let had = association(&["fd00:1:2:5::99"]);
    let outcome = ask(2, kind::RENEW, &[(1, DUID), (2, &server()), (3, &had)]).unwrap();
    assert_eq!(found(&outcome).1[2], (3, &given(&[("fd00:1:2:5::99", [0, 0])], [0, 0], Some(3))[..]));
    assert_eq!(ask(2, kind::REBIND, &[(1, DUID), (3, &had)]), Err(Refusal::Nothing));
}

#[test]
fn confirm_release_and_decline() {
    let status = |outcome: Result<Outcome, Refusal>| found(&outcome.unwrap()).1[2].1[1];
    let here = association(&["fd00:1:2:5::99"]);
    let elsewhere = association(&["fd00:9::1"]);
    assert_eq!(status(ask(1, kind::CONFIRM, &[(1, DUID), (3, &here)])), 0);
    assert_eq!(status(ask(1, kind::CONFIRM, &[(1, DUID), (3, &elsewhere)])), 4);
    assert_eq!(ask(1, kind::CONFIRM, &[(1, DUID), (3, &association(&[]))]), Err(Refusal::Nothing));
    assert_eq!(status(ask(1, kind::RELEASE, &[(1, DUID), (2, &server()), (3, &here)])), 0);
    let declined = ask(1, kind::DECLINE, &[(1, DUID), (2, &server()), (3, &association(&[SET]))]).unwrap();
    assert!(matches!(declined.event, Some(Event::AddressConflict { .. })));
}

#[test]
fn messages_that_are_not_answered() {
    let (server, other, wish) = (server(), [&[0, 4][..], &[8; 16]].concat(), association(&[]));
    for (kind, options, refusal) in [
        (kind::SOLICIT, vec![], Refusal::Malformed),
        (kind::SOLICIT, vec![(1, DUID), (2, &server[..])], Refusal::Malformed),
        (kind::REQUEST, vec![(1, DUID)], Refusal::OtherServer),
        (kind::REQUEST, vec![(1, DUID), (2, &other[..])], Refusal::OtherServer),
        (kind::REQUEST, vec![(2, &server[..])], Refusal::Malformed),
        (kind::INFORMATION_REQUEST, vec![(3, &wish[..])], Refusal::Malformed),
        (kind::INFORMATION_REQUEST, vec![(2, &other[..])], Refusal::OtherServer),
        (kind::ADVERTISE, vec![], Refusal::Kind),
        (kind::REPLY, vec![], Refusal::Kind),
        (12, vec![], Refusal::Kind),
    ] {
        assert_eq!(ask(1, kind, &options), Err(refusal), "{kind} {options:?}");
    }
    let whole = message(kind::SOLICIT, &[(1, DUID), (3, &wish)]);
    let client = Client { ingress: 1, mac: MAC };
    for len in 0..whole.len() {
        let outcome = Server::default().handle(&settings(), &ports(), client, &whole[..len], NOW);
        assert!(outcome.is_err() || len == 4 + 4 + DUID.len(), "{len}");
    }
}

proptest::proptest! {
    #[test]
    fn any_octets_are_answered_or_refused(kind in 0_u8..14, octets: Vec<u8>, ingress in 1_u16..4) {
        let duid = [&[kind, 1, 2, 3, 0, 1, 0, 4, 0, 3, 0, 1][..], &octets].concat();
        let client = Client { ingress, mac: MAC };
        let _ = Server::default().handle(&settings(), &ports(), client, &duid, NOW);
    }
}
