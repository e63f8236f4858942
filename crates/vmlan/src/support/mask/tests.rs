//! Tests of masking: examples, and the property that no original is left.

use std::net::{Ipv4Addr, Ipv6Addr};

use proptest::prelude::*;
use serde_json::json;

use super::*;

#[test]
fn what_looks_like_an_address_or_a_path_is_replaced() {
    for (text, wanted) in [
        ("52:54:00:12:34:56 is 52-54-00-12-34-56", "mac-1 is mac-1"),
        ("52:54:00:AB:CD:EF,52:54:00:ab:cd:ef", "mac-1,mac-1"),
        ("ether src 5254.00ab.cdef or 52:54:0:ab:cd:ef", "ether src mac-1 or mac-1"),
        ("0:1:2:3:4:5:6:7", "ip6-1"),
        ("10.0.0.1/24 10.0.0.2:80 10.0.0.1-10.0.0.2.", "ip4-1/24 ip4-2:80 ip4-1-ip4-2."),
        ("[fd00::1]:53 FD00:0::1/64 fe80::1%eth0", "[ip6-1]:53 ip6-1/64 ip6-2%eth0"),
        ("::ffff:10.1.2.3", "ip6-1"),
        ("127.0.0.1 ::1 :: 0.0.0.0/0 ff:ff:ff:ff:ff:ff", "127.0.0.1 ::1 :: 0.0.0.0/0 ff:ff:ff:ff:ff:ff"),
        ("2026-03-01T13:00:00.000Z 1.2.3 x::y std::fs", "2026-03-01T13:00:00.000Z 1.2.3 x::y std::fs"),
        ("/home/alice/vm.sock: No such file", "path-1: No such file"),
        ("path=/a/b,server=on '/a/b' unix:/a/b.", "path=path-1,server=on 'path-1' unix:path-1."),
        ("lab/web, and/or / // 1/2", "lab/web, and/or / // 1/2"),
        ("/dev/net/tun /etc/resolv.conf /etc/resolv.conf.alice", "/dev/net/tun /etc/resolv.conf path-1"),
        ("", ""),
    ] {
        assert_eq!(Masker::default().text(text), wanted, "{text}");
    }
}

#[test]
fn names_are_replaced_wherever_they_stand_alone() {
    let mut masker = Masker::default();
    let config = json!({"network": {"lab": {
        "uplink": {"dns": {"domain": "Lab.example", "servers": ["10.0.0.1", "ns.example"]}},
        "port": {"gitea": {"stream": {"listen": "my web.sock", "owner": "alice"}, "rate": 5}},
    }}});
    masker.learn(Document::Configuration, &config);
    masker.learn(Document::Answer, &json!([{"name": "gitea", "peer": "uid 5 (bob the vm)", "state": "up"}]));
    let masked = masker.value(Document::Configuration, config).to_string();
    for original in ["lab.example", "Lab.example", "ns.example", "gitea", "alice", "my web", "10.0.0.1"] {
        assert!(!masked.contains(original), "{original}: {masked}");
    }
    assert!(masked.contains(r#""rate":5"#) && masked.contains(r#""lab":"#), "{masked}");
    let text = masker.text("gitea.lab.example and GITEA of bob the vm at my web.sock; giteas, alicent");
    assert_eq!(text, "host-1.host-2 and host-1 of user-2 at path-1; giteas, alicent");
}

#[test]
fn a_peer_that_writes_parentheses_is_masked_as_well() {
    let mut masker = Masker::default();
    masker.learn(Document::Answer, &json!({"peer": "uid 5 (ab) alice.private-host (cd) 52540000aabb zeta)"}));
    let text =
        masker.text("uid 5 (ab) alice.private-host (cd) 52540000aabb zeta) and zeta of alice.private-host");
    assert_eq!(text, "uid 5 (user-1) and user-2 of user-3");
}

#[test]
fn a_guest_that_is_called_as_a_word_of_ours_makes_nothing_unreadable() {
    let mut masker = Masker::default();
    let ports = json!([{"name": "stream", "kind": "stream", "state": "up", "mtu": 1500}, {"name": "1500", "mtu": 1500}]);
    masker.learn(Document::Answer, &ports);
    let masked = masker.value(Document::Answer, ports);
    assert_eq!(masked[0]["name"], "host-1");
    assert_eq!((&masked[0]["kind"], &masked[0]["mtu"]), (&json!("stream"), &json!(1500)));
}

#[test]
fn two_ports_that_differ_in_case_only_both_stay() {
    let mut masker = Masker::default();
    masker.know(Kind::Host, "web");
    let masked = masker.value(Document::Answer, json!({"port": {"Web": 1, "web": 2}}));
    assert_eq!(masked["port"].as_object().map(|ports| ports.len()), Some(2));
}

/// Words that can stand between what is masked.
fn filler() -> impl Strategy<Value = String> {
    prop_oneof!["[ \"',;()\\[\\]={}]{1,3}", " [a-z]{1,8} ", Just(" é/ ".to_owned()), Just("\n".to_owned())]
}

proptest! {
    #[test]
    fn no_original_is_left_and_the_same_gets_the_same(
        parts in proptest::collection::vec(
            (any::<[u8; 6]>(), any::<[u8; 4]>(), any::<u128>(), "/[a-z0-9.-]{0,8}/x[a-zé0-9]{3,12}", filler()), 1..8,
        ),
        name in "zq[a-z]{4,12}",
    ) {
        let mut originals = vec![name.clone()];
        let mut text = String::new();
        for (mac, v4, v6, path, filler) in &parts {
            let mac = mac.map(|octet| format!("{octet:02x}")).join(":");
            let (v4, v6) = (Ipv4Addr::from(*v4), Ipv6Addr::from(*v6));
            prop_assume!(!(v4.is_loopback() || v4.is_unspecified() || v4.is_broadcast()));
            prop_assume!(!(v6.is_loopback() || v6.is_unspecified()));
            prop_assume!(mac != "ff:ff:ff:ff:ff:ff" && mac != "00:00:00:00:00:00");
            let all = [mac, v4.to_string(), v6.to_string(), path.clone()];
            for original in &all {
                text.push_str(filler);
                // After a letter a slash begins no path, and a digit no address of its own.
                text.push_str(&format!(" {original} {name} {original} "));
            }
            originals.extend(all);
        }
        let mut masker = Masker::default();
        masker.know(Kind::Host, &name);
        let masked = masker.text(&text);
        for original in &originals {
            prop_assert!(!masked.contains(original.as_str()), "{original} in {masked}");
        }
        let words: Vec<&str> = masked.split_whitespace().collect();
        let pairs = words.windows(3).filter(|words| words[1] == "host-1").count();
        let alike = words.windows(3).filter(|words| words[1] == "host-1" && words[0] == words[2]).count();
        prop_assert_eq!((pairs, alike), (parts.len() * 4, parts.len() * 4));
        // The same text again, by itself, has the same pseudonyms.
        prop_assert_eq!(masker.text(&text), masked);
    }

    #[test]
    fn nothing_makes_it_panic(text in ".*", name in ".{0,12}") {
        let mut masker = Masker::default();
        masker.know(Kind::Path, &name);
        let _ = masker.text(&text);
        let _ = masker.value(Document::Answer, json!({"peer": text, "port": {name: text}}));
    }
}
