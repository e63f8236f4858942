//! The JSON of the interface, to the letter: other people's scripts rely on it.

use serde_json::json;
use vmlan_api::*;

#[test]
fn a_configuration_reads_as_it_is_documented() {
    let text = json!({
        "workers": 2,
        "network": {"lab": {
            "mtu": 1500,
            "fdb": {"size": 1024, "ageing": 60, "static": [{"mac": "52:54:00:00:00:09", "port": "db", "vlan": 10}]},
            "port": {
                "web": {"tap": {"name": "vm-web"}, "mac": "52:54:00:00:00:01"},
                "db": {"stream": {"listen": "/run/vmlan/db.sock"}, "vlan": {"access": 10}},
                "cache": {"datagram": {"listen": "/run/vmlan/cache.sock"}, "guard": "off", "promiscuous": "allow"},
                "guests": {"vde": {"directory": "/run/vmlan/lab.vde"}, "mac": ["52:54:00:00:00:02"]},
            },
        }},
    });
    let config: Config = serde_json::from_value(text.clone()).expect("the documented shape");
    assert_eq!(config.network["lab"].port["db"].vlan.as_ref().and_then(|vlan| vlan.access), Some(10));
    assert_eq!(serde_json::to_value(&config).expect("plain data"), text);
}

#[test]
fn an_uplink_reads_in_every_form() {
    for (uplink, port) in [
        (json!({}), json!({})),
        (
            json!({"dhcp": false, "dns": true, "egress": "none"}),
            json!({"egress": "internet", "address": "::10"}),
        ),
        (
            json!({
                "dhcp": {"pool": "10.0.0.3-10.0.0.9", "boot": {"file": "a.0"}}, "dns": {"servers": "host"},
                "egress": [{"allow": "*"}], "host": "5432", "forward": ["80=web"], "limits": {"flows": 1},
                "vlan": {"access": 10},
            }),
            json!({"egress": [], "address": ["10.0.0.5", "::5"]}),
        ),
    ] {
        let text = json!({"network": {"lab": {"uplink": uplink, "port": {"web": port}}}});
        let config: Config = serde_json::from_value(text.clone()).expect("the documented shape");
        assert_eq!(serde_json::to_value(&config).expect("plain data"), text);
    }
}

#[test]
fn unknown_members_of_a_configuration_are_errors() {
    for text in [
        r#"{"wrokers": 1}"#,
        r#"{"network": {"lab": {"mut": 1}}}"#,
        r#"{"network": {"lab": {"port": {"web": {"tapp": {}}}}}}"#,
        r#"{"network": {"lab": {"port": {"web": {"tap": {"nmae": "x"}}}}}}"#,
        r#"{"network": {"lab": {"uplink": {"dhcp": {"poll": "x"}}}}}"#,
        r#"{"network": {"lab": {"uplink": {"egress": [{"alow": "x"}]}}}}"#,
    ] {
        assert!(serde_json::from_str::<Config>(text).is_err(), "{text}");
    }
}

#[test]
fn a_port_lists_every_member() {
    let port = Port {
        network: "lab".into(),
        port: "web".into(),
        index: Some(1),
        kind: PortKind::Tap,
        state: PortState::Up,
        reason: None,
        address: None,
        peer: None,
        mechanism: None,
        mac: OneOrMany::from_items(vec!["52:54:00:00:00:01".into()]),
        addresses: vec!["10.213.5.10".into()],
        name: Some("web".into()),
        vlan: None,
        mtu: 1500,
        counters: Counters { drops: [("queue_full".into(), 3)].into(), ..Counters::default() },
        fast: None,
        tunnel: None,
        rings: Some(RingCounters { kicks: 5, calls: 4, empty_wakeups: 1, broken_rings: 0, quiesces: 2 }),
    };
    let none = json!({"rx_frames": 0, "rx_octets": 0, "tx_frames": 0, "tx_octets": 0});
    assert_eq!(
        serde_json::to_value(port).expect("plain data"),
        json!({
            "network": "lab", "port": "web", "index": 1, "kind": "tap", "state": "up", "reason": null, "address": null, "peer": null, "mechanism": null,
            "mac": "52:54:00:00:00:01", "addresses": ["10.213.5.10"], "name": "web", "vlan": null, "mtu": 1500,
            "counters": {
                "rx_frames": 0, "rx_octets": 0, "rx_multicasts": 0, "rx_errors": 0,
                "tx_frames": 0, "tx_octets": 0, "tx_multicasts": 0, "tx_errors": 0, "copies": 0, "queued": 0, "no_receiver": 0,
                "rx_large": 0, "rx_large_segments": 0, "tx_large": 0, "tx_large_segments": 0,
                "segmented": 0, "coalesced": 0,
                "classes": {"background": none.clone(), "video": none.clone(), "voice": none},
                "drops": {"queue_full": 3},
            },
            "fast": null, "tunnel": null,
            "rings": {"kicks": 5, "calls": 4, "empty_wakeups": 1, "broken_rings": 0, "quiesces": 2},
        })
    );
}

#[test]
fn an_event_is_one_flat_object() {
    let time: Timestamp = "2026-03-01T12:00:00.250Z".parse().expect("a time");
    let event = Event { time, kind: EventKind::Lost { count: 7 } };
    let text = serde_json::to_value(&event).expect("plain data");
    assert_eq!(text, json!({"time": "2026-03-01T12:00:00.250Z", "event": "lost", "count": 7}));
    assert_eq!(serde_json::from_value::<Event>(text).expect("its own writing"), event);
}

#[test]
fn an_apply_request_is_a_configuration_with_dry_run_beside_it() {
    let request: ApplyRequest =
        serde_json::from_value(json!({"dry_run": true, "network": {"lab": {}}})).expect("an apply request");
    assert!(request.dry_run && request.config.network.contains_key("lab"));
}

#[test]
fn an_unknown_error_code_is_read_as_other() {
    let error: Error = serde_json::from_value(json!({"code": "brand_new", "message": "m", "field": null}))
        .expect("errors of later versions");
    assert_eq!(error.code, ErrorCode::Other);
}

#[test]
fn one_fault_is_reported_as_itself_and_several_as_details() {
    let fault = |field: &str| Error::at(ErrorCode::BadMac, field, "no MAC address");
    assert_eq!(Error::from_faults(vec![fault("a")]), fault("a"));

    let several = Error::from_faults(vec![fault("a"), fault("b")]);
    assert_eq!((several.code, several.field.as_deref()), (ErrorCode::InvalidConfig, Some("a")));
    assert_eq!(several.details, [fault("a"), fault("b")]);
}

/// Reads an example as `T` and writes it again: nothing may be missing on either side.
fn same<T: serde::Serialize + serde::de::DeserializeOwned>(example: &str) {
    let text: serde_json::Value =
        serde_json::from_str(example).unwrap_or_else(|error| panic!("{error}: {example}"));
    let value: T = serde_json::from_value(text.clone()).unwrap_or_else(|error| panic!("{error}: {example}"));
    assert_eq!(serde_json::to_value(value).expect("plain data"), text);
}

#[test]
fn the_examples_of_the_reference_are_complete() {
    let path = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/api.md");
    let text = std::fs::read_to_string(path).expect("the reference");
    let examples: Vec<_> =
        text.split("```json\n").skip(1).filter_map(|rest| Some(rest.split_once("```")?.0)).collect();
    let [
        error,
        status,
        page,
        networks,
        fdb,
        ports,
        filters,
        trunks,
        uplink,
        leases,
        flows,
        forwards,
        counters,
        planned,
        network_added,
        network_removed,
        added,
        changed,
        removed,
        event,
        ended,
    ] = examples[..]
    else {
        panic!("{} examples", examples.len());
    };
    same::<Error>(error);
    same::<Status>(status);
    same::<vmlan_api::WebPage>(page);
    same::<Vec<Network>>(networks);
    same::<Vec<FdbEntry>>(fdb);
    same::<Vec<Port>>(ports);
    same::<Vec<vmlan_api::Filter>>(filters);
    same::<Vec<vmlan_api::Trunk>>(trunks);
    same::<Uplink>(uplink);
    same::<Vec<Lease>>(leases);
    same::<Vec<Flow>>(flows);
    same::<Vec<Forward>>(forwards);
    same::<Vec<PortCounters>>(counters);
    [planned, network_added, network_removed, added, changed, removed]
        .into_iter()
        .for_each(same::<ApplyReport>);
    same::<Event>(event);
    same::<vmlan_api::CaptureEnded>(ended);
}
