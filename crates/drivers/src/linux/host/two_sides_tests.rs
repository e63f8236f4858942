use std::os::unix::net::UnixDatagram;

use vmlan_frame::{Instant, Pool, PoolSizes};

use super::*;
use crate::datagram::Socket;

/// Datagram sockets in the place of the two TAPs; the far ends are the sides.
struct Fixture {
    stations: Arc<Stations>,
    pool: Pool,
    counters: Arc<Counters>,
    flows: Flows,
    queue: Box<dyn Queue>,
    host: UnixDatagram,
    wire: UnixDatagram,
}

/// None without the right to tables in the kernel.
fn fixture() -> Option<Fixture> {
    let stations = Arc::new(Stations::new(Box::new(|_, _| false)).ok()?);
    let socket = || {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        theirs.set_nonblocking(true).unwrap();
        (Arc::new(Socket::new(ours.into(), None)) as Arc<dyn Endpoint>, theirs)
    };
    let ((to_host, host), (to_wire, wire)) = (socket(), socket());
    let flows = Flows::new(1);
    let counters = Arc::new(Counters::new(1));
    let settings = Settings::of_test(0, counters.clone(), 4);
    let known = (stations.clone(), Longest::of_mtu(1500));
    let queue = TwoSides::new(to_host, to_wire, known, flows.clone(), 1).queue(settings).unwrap();
    Some(Fixture { stations, pool: Pool::new(PoolSizes::default()), counters, flows, queue, host, wire })
}

impl Fixture {
    fn transmit(&mut self, sides: Sides) {
        self.transmit_long(60, sides);
    }

    fn transmit_long(&mut self, len: usize, sides: Sides) {
        let mut frame = self.pool.copy(&vec![7; len]).unwrap();
        frame.meta.sides = sides;
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        self.queue.transmit(&cx, &mut Batch::from_iter([frame])).unwrap();
    }

    /// How many frames the host and the wire got since the last call.
    fn arrived(&self) -> [usize; 2] {
        [&self.host, &self.wire].map(|end| std::iter::from_fn(|| end.recv(&mut [0; 100]).ok()).count())
    }
}

#[test]
fn a_frame_goes_to_the_sides_that_it_names_and_counts_once() {
    let cases = [
        (Sides::HOST, [1, 0]),
        (Sides::WIRE, [0, 1]),
        (Sides::BOTH, [1, 1]),
        // Whoever knows no sides means the wire.
        (Sides::NONE, [0, 1]),
    ];
    let Some(mut fixture) = fixture() else { return };

    for (sides, arrived) in cases {
        fixture.transmit(sides);
        assert_eq!(fixture.arrived(), arrived, "{sides:?}");
    }

    assert_eq!(fixture.counters.snapshot().tx_frames, 4);
    assert_eq!(fixture.flows.host.snapshot().tx_frames, 2);
    assert_eq!(fixture.flows.wire.snapshot().tx_frames, 3);
    assert_eq!(fixture.pool.out(), 0);
    assert_eq!(fixture.stations.count().unwrap(), 0);
}

#[test]
fn what_is_too_long_for_the_wire_is_counted() {
    let Some(mut fixture) = fixture() else { return };
    for (len, sides, arrived) in [
        (1514, Sides::WIRE, [0, 1]),
        (1515, Sides::WIRE, [0, 0]),
        (1515, Sides::BOTH, [0, 0]),
        // The host takes it as it comes.
        (1515, Sides::HOST, [1, 0]),
    ] {
        fixture.transmit_long(len, sides);
        assert_eq!(fixture.arrived(), arrived, "{len} {sides:?}");
    }
    let counted = fixture.counters.snapshot();
    assert_eq!((counted.tx_frames, counted.dropped(DropReason::TooLong)), (2, 2));
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn a_received_frame_tells_where_it_came_from() {
    let Some(mut fixture) = fixture() else { return };
    fixture.host.send(&[1; 60]).unwrap();
    fixture.wire.send(&[2; 60]).unwrap();

    let mut batch = Batch::new();
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &fixture.pool };
    // First what is said to be there, then whatever is.
    fixture.queue.is_ready(1);
    fixture.queue.receive(&cx, &mut batch).unwrap();
    assert_eq!(batch.len(), 1);
    fixture.queue.receive(&cx, &mut batch).unwrap();

    let mut came: Vec<_> = batch.iter().map(|frame| (frame.octets()[0], frame.meta.sides)).collect();
    came.sort_unstable_by_key(|(first, _)| *first);
    assert_eq!(came, [(1, Sides::HOST), (2, Sides::WIRE)]);
    assert_eq!(fixture.flows.host.snapshot().rx_frames, 1);
}

#[test]
fn room_at_the_host_is_waited_for_by_the_hosts_descriptor() {
    let Some(mut fixture) = fixture() else { return };
    while fixture.queue.status().waiting == 0 {
        fixture.transmit_long(60, Sides::HOST);
    }
    let status = fixture.queue.status();
    let [wire, host] = [0, 1].map(|number| status.waits.interest(number).expect("both are read"));
    assert_eq!((status.retry, wire.write, host.write), (false, false, true));
}
