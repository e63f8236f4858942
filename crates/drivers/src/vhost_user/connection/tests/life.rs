//! A connection from its first message to its end.

use super::*;

#[test]
fn case_1_the_order_of_qemu_brings_the_port_up() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    let offered = front_end.ask(Kind::GetFeatures, &[], &[]);
    let protocol = front_end.ask(Kind::GetProtocolFeatures, &[], &[]);
    front_end.send(Kind::SetProtocolFeatures, &longs(&[protocol]), &[]);
    assert_eq!(front_end.ask(Kind::GetQueueNum, &[], &[]), 18);
    assert_eq!(front_end.ask(Kind::GetMaxMemSlots, &[], &[]), 509);
    front_end.send(Kind::SetOwner, &[], &[]);
    assert_eq!(front_end.ask(Kind::GetFeatures, &[], &[]), offered);
    let (calls, errors) = ([event(), event()], [event(), event()]);
    for index in [0, 1] {
        front_end.send(Kind::SetVringCall, &longs(&[index]), &[&calls[index as usize]]);
        front_end.send(Kind::SetVringErr, &longs(&[index]), &[&errors[index as usize]]);
    }
    for (index, enabled) in [(0, 0), (1, 0), (0, 1), (1, 1)] {
        front_end.send(Kind::SetVringEnable, &words(&[index, enabled]), &[]);
    }
    assert_eq!(front_end.ask_whether(Kind::NetSetMtu, &longs(&[1500])), 0);
    front_end.send(Kind::SetFeatures, &longs(&[ACCEPTED]), &[]);
    front_end.share(&memory);
    front_end.start(0, &event());
    assert!(!front_end.wait_for(|state| state.reason.as_ref().unwrap().contains("each direction")).up);
    front_end.start(1, &event());
    front_end.wait_for(|state| state.up);
    // A guest may have slept through our start.
    let mut count = [0; 8];
    for call in &calls {
        testbed::wait_until("a call", SOON, || rustix::io::read(call, &mut count).is_ok());
    }
}

#[test]
fn case_10_a_stopped_ring_answers_where_it_stood_each_time() {
    let mut front_end = FrontEnd::new();
    let memory = memfd(MEMORY);
    set_indices(&memory, 1, 77);
    front_end.run(&memory);
    assert_eq!(front_end.base(1), words(&[1, 77]));
    assert_eq!(front_end.base(1), words(&[1, 77]));
    assert!(!front_end.wait_for(|state| !state.up).announced);
}

#[test]
fn case_12_one_ring_is_reset_and_starts_again() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    front_end.base(0);
    front_end.wait_for(|state| !state.up);
    front_end.start(0, &event());
    front_end.wait_for(|state| state.up);
}

#[test]
fn case_42_a_guest_is_announced_while_rings_are_stopped() {
    let front_end = FrontEnd::new();
    front_end.send(Kind::SendRarp, &[2, 0, 0, 0, 0, 9, 0, 0], &[]);
    assert!(!front_end.wait_for(|state| state.announced).up);
}

#[test]
fn case_43_an_mtu_above_that_of_the_network_is_refused_and_told() {
    let mut front_end = FrontEnd::new();
    front_end.accept();
    assert_eq!(front_end.ask_whether(Kind::NetSetMtu, &longs(&[1501])), 1);
    front_end.wait_for(|state| state.reason.as_ref().is_some_and(|reason| reason.contains("1501")));
}

#[test]
fn a_reset_stops_every_ring() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    assert_eq!(front_end.ask_whether(Kind::ResetDevice, &[]), 0);
    assert!(front_end.wait_for(|state| !state.up).reason.unwrap().contains("features"));
}

#[test]
fn a_front_end_that_leaves_is_told_apart() {
    let front_end = FrontEnd::new();
    let FrontEnd { socket, reports, lingering, device: _device, connection } = front_end;
    drop(socket);
    let ended = reports.iter().find_map(|report| match report {
        Report::Ended(fault) => Some(fault),
        Report::State(_) => None,
    });
    assert!(matches!(ended, Some(Fault::Closed)));
    drop((lingering, connection));
}

#[test]
fn a_connection_that_is_dropped_ends_without_a_report() {
    let mut front_end = FrontEnd::new();
    front_end.run(&memfd(MEMORY));
    drop(front_end.connection.take());
    assert_eq!(front_end.socket.read(&mut [0]).unwrap(), 0);
    front_end.wait_for_threads(0);
    assert!(front_end.reports.iter().all(|report| matches!(report, Report::State(_))));
}

#[test]
fn threads_that_linger_keep_others_from_being_started() {
    let lingering = Lingering::default();
    let presents: Vec<_> = (0..Lingering::MOST).map(|_| lingering.enter().unwrap()).collect();
    let (ours, mut theirs) = UnixStream::pair().unwrap();
    let refused = serve(options(ours, &lingering), |_| {});
    assert_eq!(refused.err().map(|error| error.kind()), Some(io::ErrorKind::Other));
    theirs.set_read_timeout(Some(SOON)).unwrap();
    assert_eq!(theirs.read(&mut [0]).unwrap(), 0);
    drop(presents);
    assert_eq!(lingering.count(), 0);
}
