use core::net::IpAddr;

use super::*;

/// An IPv4 that writes down the ARP messages that it is to send.
struct Arping(Log);

impl Protocol for Arping {
    fn input(&self, _: &Context<'_>, _: &mut Batch) -> Result<(), Error> {
        Ok(())
    }

    fn send_arp(&self, link: &Link, arp: &Arp) -> Result<(), Error> {
        let sender = arp.sender.map_or("nobody".into(), |sender| sender.to_string());
        // The link address is worth a word when it is not the link's own.
        let other = arp.sender_link.filter(|address| Some(*address) != link.address());
        let at = other.map_or(String::new(), |address| format!(" at {address:?}"));
        self.0.lock().push(format!("{} {sender}{at} asks for {}", link.name(), arp.target));
        Ok(())
    }

    fn resolve_multicast(&self, group: &Address) -> Result<LinkAddress, Error> {
        match group {
            Address::Ip(ip) if ip.is_multicast() => Ok(MacAddr([1, 0, 0x5e, 0, 0, 7]).into()),
            Address::Ip(_) => Ok(MAC.into()),
            Address::Link(_) => Err(Error::OperationNotSupported),
        }
    }
}

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn request(sender: Option<&str>, target: &str) -> Arp {
    Arp {
        operation: ArpOperation::Request,
        sender_link: None,
        sender: sender.map(ip),
        target_link: None,
        target: ip(target),
    }
}

fn arping(registry: &Registry, log: &Log, address: &str, marked: bool) -> Link {
    let link = attached(registry);
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(Arping(log.clone()))).unwrap();
    link.add_address(ip("fe80::1")).unwrap();
    if !address.is_empty() {
        link.add_address(ip(address)).unwrap();
    }
    link.set_link_local_arp(marked);
    link
}

#[test]
fn case_40_link_local_arp() {
    let (registry, log) = (registry(), Log::default());
    let own = arping(&registry, &log, "10.0.0.1", true);
    let _second = arping(&registry, &log, "10.0.1.1", true);
    let _unmarked = arping(&registry, &log, "10.0.2.1", false);
    let _without_address = arping(&registry, &log, "", true);

    let everywhere = ["test0 10.0.0.1 asks for 169.254.1.1", "test1 10.0.1.1 asks for 169.254.1.1"];
    own.send_arp(&request(Some("10.0.0.1"), "169.254.1.1")).unwrap();
    assert_eq!(logged(&log), everywhere);
    own.send_arp(&request(None, "169.254.1.1")).unwrap();
    assert_eq!(logged(&log), everywhere);
    // An announcement, and what is not link-local, stays on its link.
    own.send_arp(&request(Some("169.254.1.1"), "169.254.1.1")).unwrap();
    assert_eq!(logged(&log), ["test0 169.254.1.1 asks for 169.254.1.1"]);
    own.send_arp(&request(None, "10.0.0.2")).unwrap();
    assert_eq!(logged(&log), ["test0 nobody asks for 10.0.0.2"]);
}

#[test]
fn each_link_sends_a_pair_of_addresses_that_is_its_own() {
    let (registry, log) = (registry(), Log::default());
    let first = arping(&registry, &log, "10.0.0.1", true);
    let second = arping(&registry, &log, "10.0.1.1", true);
    first.set_address(MacAddr([2, 0, 0, 0, 0, 7]).into()).unwrap();
    first.add_address(ip("169.254.7.7")).unwrap();
    // A second address of the link that has it stays the sender there.
    second.send_arp(&request(Some("169.254.7.7"), "169.254.1.1")).unwrap();
    let asked = ["test0 169.254.7.7 asks for 169.254.1.1", "test1 10.0.1.1 asks for 169.254.1.1"];
    assert_eq!(logged(&log), asked);
    // A link address of the caller's goes out on the caller's link only, and with the caller's address only.
    let named = |sender| Arp {
        sender_link: Some(MacAddr([2, 0, 0, 0, 0, 9]).into()),
        ..request(Some(sender), "169.254.1.1")
    };
    first.send_arp(&named("169.254.7.7")).unwrap();
    assert_eq!(logged(&log), ["test0 169.254.7.7 at 02:00:00:00:00:09 asks for 169.254.1.1", asked[1]]);
    first.send_arp(&named("10.0.9.9")).unwrap();
    assert_eq!(logged(&log), ["test0 10.0.0.1 asks for 169.254.1.1", asked[1]]);
}

#[test]
fn a_probe_stays_on_its_link_and_names_no_sender() {
    let (registry, log) = (registry(), Log::default());
    let link = arping(&registry, &log, "10.0.0.1", true);
    let _second = arping(&registry, &log, "10.0.1.1", true);
    link.send_arp(&request(Some("0.0.0.0"), "169.254.1.1")).unwrap();
    assert_eq!(logged(&log), ["test0 0.0.0.0 asks for 169.254.1.1"]);
}

#[test]
fn arp_needs_one_family_and_a_protocol() {
    let (registry, log) = (registry(), Log::default());
    let link = arping(&registry, &log, "10.0.0.1", false);
    assert_eq!(link.send_arp(&request(Some("fe80::1"), "10.0.0.2")), Err(Error::InvalidArgument));
    assert_eq!(link.send_arp(&request(None, "fe80::2")), Err(Error::NotSupported));
    // No link is marked.
    assert_eq!(link.send_arp(&request(None, "169.254.1.1")), Err(Error::NotSupported));
    link.attach_protocol(protocol(ProtocolFamily::INET6), Sink::new("v6", &log)).unwrap();
    assert_eq!(link.send_arp(&request(None, "fe80::2")), Err(Error::NotSupported));
}

#[test]
fn multicast_is_resolved_by_the_protocol_then_the_medium() {
    let (registry, log) = (registry(), Log::default());
    let link = arping(&registry, &log, "10.0.0.1", false);
    let resolve = |text: &str| link.resolve_multicast(&Address::Ip(ip(text)));
    let mac = |octets| Ok(Some(LinkAddress::from(MacAddr(octets))));
    assert_eq!(resolve("224.0.0.1"), mac([1, 0, 0x5e, 0, 0, 7]));
    // The medium refuses the protocol's answer: it is no group.
    assert_eq!(resolve("10.0.0.1"), Err(Error::InvalidArgument));
    // No protocol: the medium answers itself.
    assert_eq!(resolve("ff02::1"), mac([0x33, 0x33, 0, 0, 0, 1]));
}
