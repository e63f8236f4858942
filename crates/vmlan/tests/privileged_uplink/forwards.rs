//! Forwards: callers of the host that guests serve.

use std::io::ErrorKind;

use testbed::{Netns, poll_until, require, wait_until};
use vmlan_api::Forward;

use crate::lab::*;
use crate::support::{Daemon, PATIENCE, assert_balanced};

#[test]
fn callers_reach_guests_by_forwards() {
    require!(namespaces());
    let world = World::new(2);
    let forwards = "forward = [\"0.0.0.0:2222=g0:22\", \"2223=g1:22\", \"0.0.0.0:5300=g0:53/udp\"]";
    let daemon = world.start_settled(&world.config(forwards));
    case_19_a_guest_sees_its_caller(&world);
    case_20_a_guest_that_is_not_there_refuses(&world);
    case_21_an_occupied_place_is_an_error_of_apply(&world, &daemon);
    case_22_flows_end_with_their_forward(&world, &daemon);
    case_23_a_range_is_had_whole_or_not_at_all(&world, &daemon);
    assert_balanced(&daemon);
    daemon.stop();
}

fn list(daemon: &Daemon) -> Vec<Forward> {
    daemon.get("/v1/networks/lab/forwards")
}

fn case_19_a_guest_sees_its_caller(world: &World) {
    let listener = listen(&world.guests[0], "0.0.0.0:22");
    let far = dial_from(&world.internet, at(SERVER, 5555), at(HOST, 2222)).expect("a connection");
    let (near, from) = accept(&listener);
    assert_eq!(from, at(SERVER, 5555));
    let (mut near, mut far) = (near, far);
    talk(&mut near, &mut far);
    let mut local = dial(&world.host, at("127.0.0.1", 2222)).expect("a connection");
    let (mut near, from) = accept(&listener);
    assert_eq!(from.ip(), at(GATEWAY, 0).ip());
    talk(&mut near, &mut local);

    let guest = udp(&world.guests[0], "0.0.0.0:53");
    let caller = udp(&world.internet, &at(SERVER, 5556).to_string());
    caller.connect(at(HOST, 5300)).expect("an address");
    caller.send(b"question").expect("a datagram");
    let (_, from) = guest.recv_from(&mut [0; 99]).expect("the question");
    assert_eq!(from, at(SERVER, 5556));
    guest.send_to(b"answer", from).expect("a datagram");
    assert_eq!(caller.recv(&mut [0; 99]).expect("the answer"), 6);
}

/// The host takes the call; then comes the end of it.
fn is_refused(from: &Netns, port: u16) -> bool {
    match dial(from, at("127.0.0.1", port)) {
        Ok(mut stream) => {
            read_error(&mut stream).is_some_and(|error| error.kind() == ErrorKind::ConnectionReset)
        }
        Err(error) => error.kind() == ErrorKind::ConnectionReset,
    }
}

fn case_20_a_guest_that_is_not_there_refuses(world: &World) {
    let guest = &world.guests[1];
    assert!(is_refused(&world.host, 2223), "nothing listens there");
    guest.ip(["link", "set", "t0", "down"]);
    assert!(poll_until(PATIENCE, || is_refused(&world.host, 2223)), "the guest is away");
    world.settle_again(1);
    let listener = listen(guest, "0.0.0.0:22");
    let (mut far, mut near) = call_until_answered(&world.host, 2223, &listener);
    talk(&mut near, &mut far);
}

/// Calls until the listener has the call.
fn call_until_answered(
    from: &Netns,
    port: u16,
    listener: &std::net::TcpListener,
) -> (std::net::TcpStream, std::net::TcpStream) {
    listener.set_nonblocking(true).expect("a socket");
    testbed::wait_for("an answer", PATIENCE, || {
        let far = dial(from, at("127.0.0.1", port)).ok()?;
        let mut near = None;
        poll_until(PATIENCE / 10, || {
            near = listener.accept().ok();
            near.is_some()
        });
        let (near, _) = near?;
        near.set_nonblocking(false).expect("a socket");
        Some((far, near))
    })
}

fn case_21_an_occupied_place_is_an_error_of_apply(world: &World, daemon: &Daemon) {
    let _taken = listen(&world.host, "127.0.0.1:3333");
    let forwards = "forward = [\"0.0.0.0:2222=g0:22\", \"2223=g1:22\", \"3333=g0:22\", \"2224=g0:24\"]";
    daemon.write_config(&world.config(forwards));
    let output = daemon.cli(&["apply"]);
    let all = output.stdout.clone() + &output.stderr;
    assert!(!output.success() && all.contains("127.0.0.1:3333 is in use by"), "{all}");
    let listener = listen(&world.guests[0], "0.0.0.0:24");
    let (mut far, mut near) = call_until_answered(&world.host, 2224, &listener);
    talk(&mut near, &mut far);
    let rows = list(daemon);
    let without: Vec<&str> =
        rows.iter().filter(|row| row.reason.is_some()).map(|row| row.spec.as_str()).collect();
    assert_eq!((rows.len(), without), (4, vec!["3333=g0:22"]), "{rows:?}");
}

fn case_22_flows_end_with_their_forward(world: &World, daemon: &Daemon) {
    let listener = listen(&world.guests[0], "0.0.0.0:25");
    daemon.cli(&["forward", "add", "lab", "2225=g0:25"]).expect_success();
    let (mut far, mut near) = call_until_answered(&world.host, 2225, &listener);
    talk(&mut near, &mut far);
    let id = list(daemon).iter().find(|row| row.spec == "2225=g0:25").expect("the forward").id;
    daemon.cli(&["forward", "remove", "lab", &id.to_string()]).expect_success();
    expect_reset(&mut near);
    expect_reset(&mut far);
    wait_until("the listener's end", PATIENCE, || {
        dial(&world.host, at("127.0.0.1", 2225))
            .is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
    });
}

fn case_23_a_range_is_had_whole_or_not_at_all(world: &World, daemon: &Daemon) {
    let taken = listen(&world.host, "127.0.0.1:8005");
    let before = list(daemon).len();
    let output = daemon.cli(&["forward", "add", "lab", "8000-8010=g0"]);
    assert!(!output.success() && output.stderr.contains("127.0.0.1:8005"), "{}", output.stderr);
    assert_eq!(list(daemon).len(), before);
    let error = dial(&world.host, at("127.0.0.1", 8000)).expect_err("nothing listens");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused, "{error}");
    drop(taken);
    daemon.cli(&["forward", "add", "lab", "8000-8010=g0"]).expect_success();
    let listener = listen(&world.guests[0], "0.0.0.0:8010");
    let (mut far, mut near) = call_until_answered(&world.host, 8010, &listener);
    talk(&mut near, &mut far);
}
