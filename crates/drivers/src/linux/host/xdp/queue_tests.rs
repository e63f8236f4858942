use std::os::unix::net::UnixDatagram;
use std::sync::Arc;

use vmlan_frame::{Counters, Instant, Pool, PoolSizes};

use super::*;
use crate::datagram::Socket;
use crate::queue::Endpoint;

/// A datagram socket in the place of the packet socket, and no lanes.
fn queue(hears_packet: bool) -> (XdpQueue, UnixDatagram) {
    let (ours, theirs) = UnixDatagram::pair().unwrap();
    let settings = Settings {
        worker: 0,
        receives: hears_packet,
        account: Arc::new(Counters::new(1)).into(),
        backlog: 4,
        share: None,
        longest: 1518,
    };
    let packet = Socket::new(ours.into(), None).queue(settings.clone()).unwrap();
    (XdpQueue::new(Vec::new(), packet, hears_packet, &settings).unwrap(), theirs)
}

#[test]
fn a_full_packet_socket_is_waited_for_and_not_asked_again_and_again() {
    for hears_packet in [true, false] {
        let (mut queue, _theirs) = queue(hears_packet);
        let pool = Pool::new(PoolSizes { small: 64, large: 4, bulk: 1 });
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
        while queue.status().waiting == 0 {
            let mut batch = Batch::new();
            batch.push(pool.copy(&[2; 60]).unwrap());
            queue.transmit(&cx, &mut batch).unwrap();
        }
        let status = queue.status();
        let room = status.waits.interest(1).expect("the packet socket's");
        assert_eq!((status.retry, room.write, room.read), (false, true, hears_packet));
    }
}

#[test]
fn the_packet_socket_is_read_when_it_is_the_one_that_is_ready() {
    let (mut queue, theirs) = queue(true);
    let pool = Pool::new(PoolSizes { small: 64, large: 4, bulk: 1 });
    let cx = Context { worker: 0, now: Instant::ZERO, pool: &pool };
    theirs.send(&[2; 60]).unwrap();
    let mut batch = Batch::new();
    queue.is_ready(0);
    queue.receive(&cx, &mut batch).unwrap();
    assert!(batch.is_empty());
    queue.is_ready(1);
    queue.receive(&cx, &mut batch).unwrap();
    assert_eq!(batch.len(), 1);
}
