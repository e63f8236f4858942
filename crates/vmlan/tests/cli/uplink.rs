//! `uplink`, `leases`, `flows` and `forward`.

use vmlan_daemon::handle::UplinkQuery;

use super::*;

/// Answers as the uplink of the network `lab` would.
pub(super) fn answer(query: UplinkQuery, tell: &mpsc::Sender<String>) {
    let told = |text: String| drop(tell.send(text));
    match query {
        UplinkQuery::Status { reply, .. } => drop(reply.send(Ok(vec![uplink()]))),
        UplinkQuery::Leases { network, reply } => {
            told(format!("leases {network:?}"));
            drop(reply.send(Ok(vec![lease()])));
        }
        UplinkQuery::Flows { network, port, reply } => {
            told(format!("flows {network:?} {port:?}"));
            drop(reply.send(Ok(vec![flow()])));
        }
        UplinkQuery::Forwards { reply, .. } => drop(reply.send(Ok(vec![forward()]))),
        UplinkQuery::Release { network, address, reply } => {
            told(format!("release {network} {address}"));
            drop(reply.send(Ok(lease())));
        }
        UplinkQuery::CloseFlow { network, id, reply } => {
            told(format!("close {network} {id}"));
            drop(reply.send(Ok(flow())));
        }
        UplinkQuery::AddForward { network, forward: text, reply } if network == "lab" => {
            told(format!("forward {network} {text}"));
            drop(reply.send(Ok(forward())));
        }
        UplinkQuery::AddForward { network, reply, .. } => {
            drop(reply.send(Err(vmlan_api::Error::unknown_network(&network, ["lab", "office"]))));
        }
        UplinkQuery::RemoveForward { network, id, reply } => {
            told(format!("remove forward {network} {id}"));
            drop(reply.send(Ok(forward())));
        }
        other => panic!("{other:?}"),
    }
}

fn uplink() -> vmlan_api::Uplink {
    vmlan_api::Uplink {
        network: "lab".into(),
        state: vmlan_api::PortState::Up,
        mac: "06:00:00:00:00:01".into(),
        gateway: vec!["10.213.5.1/24".into(), "fd00:1::1/64".into()],
        host: vec!["10.213.5.2".into()],
        host_services: vec!["5432".into()],
        pool: Some("10.213.5.16-10.213.5.250".into()),
        pool_size: 235,
        leases: 1,
        domain: Some("lab.internal".into()),
        resolvers: vec!["127.0.0.53".into()],
        egress: vec!["deny 192.168.0.0/16".into(), "allow *".into()],
        kept_octets: 5 << 20,
        notes: vec!["ping sockets are refused: sysctl net.ipv4.ping_group_range".into()],
        drops: [("spoofed_source".to_owned(), 3)].into(),
        ..Default::default()
    }
}

fn lease() -> vmlan_api::Lease {
    vmlan_api::Lease {
        network: "lab".into(),
        address: "10.213.5.16".into(),
        mac: "52:54:00:00:00:01".into(),
        port: Some("web".into()),
        name: Some("www".into()),
        until: Some("2020-01-01T00:00:00.000Z".parse().expect("a time")),
        source: vmlan_api::LeaseSource::Dynamic,
    }
}

fn flow() -> vmlan_api::Flow {
    vmlan_api::Flow {
        network: "lab".into(),
        id: 7,
        protocol: "tcp".into(),
        direction: vmlan_api::FlowDirection::Out,
        port: "web".into(),
        guest: "10.213.5.16:40000".into(),
        peer: Some("192.0.2.1:443".into()),
        state: "open".into(),
        rx_octets: 812,
        tx_octets: 5 << 20,
        kept_octets: 0,
        age_seconds: 185.0,
        idle_seconds: 0.5,
    }
}

fn forward() -> vmlan_api::Forward {
    vmlan_api::Forward {
        network: "lab".into(),
        id: 1,
        spec: "2222=web:22".into(),
        listen: vec!["127.0.0.1:2222".into(), "[::1]:2222".into()],
        protocol: "tcp".into(),
        port: "web".into(),
        configured: true,
        reason: None,
        calls: 4,
    }
}

#[test]
fn listings_of_uplinks_are_tables_or_json() {
    let daemon = Daemon::start();
    for (arguments, words, member) in [
        (
            &["uplink"][..],
            &[
                "10.213.5.1/24, fd00:1::1/64",
                "1 of 235",
                "PORT.lab.internal",
                "127.0.0.53",
                "5432 at 10.213.5.2",
                "deny 192.168.0.0/16; allow *",
                "spoofed_source=3",
                "ping_group_range",
                "among guests only",
            ][..],
            "gateway",
        ),
        (&["leases"], &["10.213.5.16", "www", "web", "52:54:00:00:00:01", "ended", "dynamic"], "source"),
        (&["leases", "lab"], &["ADDRESS"], "address"),
        (&["flows", "lab/web"], &["7", "tcp", "out", "192.0.2.1:443", "812", "5.0M", "3m 5s"], "peer"),
        (&["forward", "list"], &["2222=web:22", "configuration", "listening", "4"], "spec"),
    ] {
        let output = daemon.vmlan(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let table = text(&output.stdout);
        words.iter().for_each(|word| assert!(table.contains(word), "{word} is missing in\n{table}"));
        let value = json_of(&daemon.vmlan(&[arguments, &["--json"]].concat()));
        assert!(value[0].get(member).is_some(), "{member} is missing in {value}");
    }
}

#[test]
fn what_an_uplink_carries_is_changed() {
    let daemon = Daemon::start();
    let here = std::env::current_dir().expect("a directory");
    let path = format!("forward lab {}/./db.sock=web:5432", here.display());
    for (arguments, asked, said) in [
        (&["flows", "lab/web"][..], "flows Some(\"lab\") Some(\"web\")", "GUEST"),
        (&["flows", "lab"], "flows Some(\"lab\") None", "GUEST"),
        (&["leases", "release", "lab", "10.213.5.16"], "release lab 10.213.5.16", "10.213.5.16 is free"),
        (&["flows", "close", "lab", "7"], "close lab 7", "ended: tcp 10.213.5.16:40000 192.0.2.1:443"),
        (
            &["forward", "add", "lab", "2222=web:22"],
            "forward lab 2222=web:22",
            "forward 1: 127.0.0.1:2222 and [::1]:2222 (tcp) leads to lab/web",
        ),
        (&["forward", "add", "lab", "./db.sock=web:5432"], &path, "leads to"),
        (&["forward", "remove", "lab", "1"], "remove forward lab 1", "no longer leads"),
    ] {
        let output = daemon.vmlan(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        assert_eq!(daemon.asked.recv().ok().as_deref(), Some(asked));
        assert!(text(&output.stdout).contains(said), "{output:?}");
    }
}

#[test]
fn a_misspelt_network_is_told_with_the_one_that_was_meant() {
    let daemon = Daemon::start();
    let output = daemon.vmlan(&["forward", "add", "ofice", "80=web"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(text(&output.stderr).contains("there is no network ofice, did you mean office?"), "{output:?}");
    let output = daemon.vmlan(&["leases", "release", "lab", "web"]);
    assert_eq!(output.status.code(), Some(2), "{output:?}");
}
