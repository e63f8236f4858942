//! Requests about uplinks.

use super::*;

/// Answers as the uplink of a network `lab` would.
pub(super) fn answer(query: UplinkQuery, tell: &mpsc::UnboundedSender<String>) {
    let told = |text: String| drop(tell.send(text));
    match query {
        UplinkQuery::Status { network: Some(network), reply } if network != "lab" => {
            let message = format!("network {network} has no uplink");
            drop(reply.send(Err(vmlan_api::Error::new(vmlan_api::ErrorCode::NotFound, message))));
        }
        UplinkQuery::Status { reply, .. } => drop(reply.send(Ok(vec![uplink()]))),
        UplinkQuery::Leases { reply, .. } => drop(reply.send(Ok(vec![lease()]))),
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
        UplinkQuery::AddForward { network, forward: text, reply } => {
            told(format!("forward {network} {text}"));
            drop(reply.send(Ok(forward())));
        }
        UplinkQuery::RemoveForward { network, id, reply } => {
            told(format!("no forward {network} {id}"));
            drop(reply.send(Ok(forward())));
        }
    }
}

fn uplink() -> vmlan_api::Uplink {
    vmlan_api::Uplink { network: "lab".into(), ..Default::default() }
}

fn lease() -> vmlan_api::Lease {
    vmlan_api::Lease {
        network: "lab".into(),
        address: "10.213.5.16".into(),
        mac: "52:54:00:00:00:01".into(),
        port: Some("web".into()),
        name: None,
        until: None,
        source: vmlan_api::LeaseSource::Set,
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
        rx_octets: 1,
        tx_octets: 2,
        kept_octets: 0,
        age_seconds: 1.5,
        idle_seconds: 0.5,
    }
}

fn forward() -> vmlan_api::Forward {
    vmlan_api::Forward {
        network: "lab".into(),
        id: 1,
        spec: "2222=web:22".into(),
        listen: vec!["127.0.0.1:2222".into()],
        protocol: "tcp".into(),
        port: "web".into(),
        configured: false,
        reason: None,
        calls: 0,
    }
}

#[tokio::test]
async fn listings_of_uplinks_answer_with_their_json() {
    let daemon = start(Limits::default());
    for (path, expected) in [
        ("/v1/networks/lab/uplink", json!(uplink())),
        ("/v1/uplinks", json!([uplink()])),
        ("/v1/uplinks?network=lab", json!([uplink()])),
        ("/v1/networks/lab/leases", json!([lease()])),
        ("/v1/leases?network=lab", json!([lease()])),
        ("/v1/networks/lab/flows", json!([flow()])),
        ("/v1/flows", json!([flow()])),
        ("/v1/networks/lab/forwards", json!([forward()])),
        ("/v1/forwards", json!([forward()])),
    ] {
        assert_eq!(daemon.ask("GET", path, "").await, (200, expected), "{path}");
    }
}

#[tokio::test]
async fn changes_of_an_uplink_reach_it_and_are_answered_with_what_changed() {
    let mut daemon = start(Limits::default());
    let add = r#"{"forward": "2222=web:22"}"#;
    for (method, path, body, asked, expected) in [
        ("GET", "/v1/networks/lab/flows?port=web", "", r#"flows Some("lab") Some("web")"#, json!([flow()])),
        ("POST", "/v1/networks/lab/forwards", add, "forward lab 2222=web:22", json!(forward())),
        ("DELETE", "/v1/networks/lab/forwards/1", "", "no forward lab 1", json!(forward())),
        ("DELETE", "/v1/networks/lab/leases/fd00::10", "", "release lab fd00::10", json!(lease())),
        ("DELETE", "/v1/networks/lab/flows/7", "", "close lab 7", json!(flow())),
    ] {
        assert_eq!(daemon.ask(method, path, body).await, (200, expected), "{method} {path}");
        assert_eq!(daemon.asked().await, asked);
    }
}

#[tokio::test]
async fn faults_of_requests_about_uplinks_are_named() {
    let daemon = start(Limits::default());
    for (method, path, body, status, code) in [
        ("GET", "/v1/networks/none/uplink", "", 404, "not_found"),
        ("GET", "/v1/flows?port=web", "", 400, "bad_request"),
        ("GET", "/v1/networks/lab/leases?port=web", "", 400, "bad_request"),
        ("DELETE", "/v1/networks/lab/leases/web", "", 400, "bad_request"),
        ("DELETE", "/v1/networks/lab/flows/x", "", 400, "bad_request"),
        ("DELETE", "/v1/networks/lab/forwards", "", 405, "method_not_allowed"),
        ("POST", "/v1/networks/lab/forwards", "", 400, "bad_json"),
        ("POST", "/v1/networks/lab/forwards", r#"{"forward": 1}"#, 422, "wrong_type"),
        ("POST", "/v1/networks/lab/forwards", r#"{"foward": "80=web"}"#, 422, "wrong_type"),
    ] {
        let (got, body) = daemon.ask(method, path, body).await;
        assert_eq!((got, &body["code"]), (status, &json!(code)), "{method} {path}: {body}");
    }
}
