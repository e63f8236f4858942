use std::os::unix::net::UnixDatagram;

use vmlan_frame::{Counters, Frame, Instant, PoolSizes, VlanId};

use super::*;
use crate::test_segments::segments;

const TAKES: Takes = Takes::ALL;

/// A queue whose device is one end of a pair of sockets: it keeps frames apart and refuses none, as a TAP does.
struct Fixture {
    pool: Pool,
    counters: Arc<Counters>,
    queue: Box<dyn Queue>,
    kernel: UnixDatagram,
}

impl Fixture {
    fn new(takes: Takes, sizes: PoolSizes) -> Fixture {
        let (ours, kernel) = UnixDatagram::pair().unwrap();
        ours.set_nonblocking(true).unwrap();
        let counters = Arc::new(Counters::new(1));
        let settings = Settings::of_test(0, counters.clone(), 4);
        let queue = Device::new(vec![ours.into()], takes).queue(settings).unwrap();
        Fixture { pool: Pool::new(sizes), counters, queue, kernel }
    }

    fn send(&self, request: Offload, frame: &[u8]) {
        self.kernel.send(&[&request.to_virtio()[..], frame].concat()).unwrap();
    }

    fn receive(&mut self) -> Batch {
        let mut batch = Batch::new();
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        assert_eq!(self.queue.receive(&cx, &mut batch).unwrap(), Progress::Done);
        batch
    }

    fn transmit(&mut self, mut batch: Batch) {
        let cx = Context { worker: 0, now: Instant::ZERO, pool: &self.pool };
        self.queue.transmit(&cx, &mut batch).unwrap();
        assert!(batch.is_empty());
    }

    fn sent(&self) -> Vec<u8> {
        let mut octets = vec![0; 70_000];
        let len = self.kernel.recv(&mut octets).unwrap();
        octets.truncate(len);
        octets
    }

    fn dropped(&self, reason: DropReason) -> u64 {
        self.counters.snapshot().dropped(reason)
    }
}

fn tagged(frame: &[u8]) -> Vec<u8> {
    [&frame[..12], &[0x81, 0, 0, 10], &frame[12..]].concat()
}

#[test]
fn large_and_small_frames_come_whole_in_buffers_that_fit() {
    let mut fixture = Fixture::new(TAKES, PoolSizes { small: 8, large: 3, bulk: 0 });
    let (frame, request) = segments(60_000);
    fixture.send(Offload::NONE, &frame[..60]);
    fixture.send(request, &frame);
    fixture.send(Offload::NONE, &frame[..1514]);
    // On both sides of where the small buffer ends.
    for octets in 2030..2045 {
        let (frame, request) = segments(octets - 54);
        fixture.send(request, &frame);
        fixture.send(request, &frame);
        let batch = fixture.receive();
        assert_eq!(batch.iter().last().unwrap().octets(), frame, "{octets}");
        if octets == 2030 {
            let lengths: Vec<_> = batch.iter().map(Frame::len).collect();
            assert_eq!(lengths, [60, 60_054, 1514, 2030, 2030]);
            assert!(fixture.pool.free(Size::Large) == 2 && fixture.pool.free(Size::Small) == 4);
        }
    }
    assert_eq!(fixture.pool.out(), 0);
}

#[test]
fn a_request_counts_from_behind_the_tag_inside_and_before_it_outside() {
    let mut fixture = Fixture::new(TAKES, PoolSizes::default());
    let (frame, request) = segments(3000);
    let outside = request.shifted(4).unwrap();
    fixture.send(outside, &tagged(&frame));
    let batch = fixture.receive();
    let got = batch.iter().next().unwrap();
    assert_eq!((got.octets(), got.meta.offload), (&frame[..], request));
    assert_eq!(got.meta.tag, Some(VlanTag::new(VlanId::new(10).unwrap())));
    fixture.transmit(batch);
    assert_eq!(fixture.sent(), [&outside.to_virtio()[..], &tagged(&frame)].concat());
    let counters = fixture.counters.snapshot();
    assert_eq!((counters.tx_frames, counters.tx_large), (1, [1, 3]));
}

#[test]
fn case_3_a_request_that_contradicts_its_frame_is_dropped_alone() {
    let mut fixture = Fixture::new(TAKES, PoolSizes::default());
    let (frame, request) = segments(3000);
    let sum = Offload { flags: Offload::NEEDS_CHECKSUM, ..Offload::NONE };
    let wrong = [
        Offload { gso_size: 0, ..request },
        Offload { gso_type: Offload::TCPV6, ..request },
        Offload { gso_type: 2, ..request },
        Offload { flags: 4, ..Offload::NONE },
        Offload { checksum_start: u16::MAX, ..sum },
        Offload { checksum_start: 3054, checksum_offset: 0, ..sum },
    ];
    for request in wrong {
        fixture.send(request, &frame);
    }
    fixture.send(Offload { checksum_start: 3, ..sum }, &tagged(&frame));
    fixture.send(request, &frame);
    assert_eq!(fixture.receive().len(), 1);
    assert_eq!(fixture.dropped(DropReason::BadOffload), wrong.len() as u64 + 1);
    assert_eq!(fixture.counters.snapshot().rx_frames, wrong.len() as u64 + 1, "the link counts the good one");
}

#[test]
fn what_is_no_frame_is_dropped_and_the_next_comes() {
    for takes in [TAKES, Takes::NONE] {
        let mut fixture = Fixture::new(takes, PoolSizes::default());
        fixture.kernel.send(&[0; HEADER - 1]).unwrap();
        fixture.send(Offload::NONE, &[1; 70_000]);
        fixture.send(Offload::NONE, &[2; 60]);
        assert_eq!(fixture.receive().iter().map(Frame::len).collect::<Vec<_>>(), [60]);
        assert_eq!((fixture.dropped(DropReason::Malformed), fixture.dropped(DropReason::Oversize)), (1, 1));
        assert_eq!(fixture.pool.out(), 0);
    }
}

#[test]
fn what_a_guest_says_of_a_checksum_is_not_passed_on() {
    let mut fixture = Fixture::new(TAKES, PoolSizes::default());
    fixture.send(Offload { flags: Offload::CHECKSUM_VALID, ..Offload::NONE }, &[1; 60]);
    let batch = fixture.receive();
    assert_eq!(batch.iter().next().unwrap().meta.offload, Offload::NONE);
}

#[test]
fn case_5_a_medium_without_room_loses_the_newest_and_stays() {
    let mut fixture = Fixture::new(TAKES, PoolSizes::default());
    let mut taken = 0;
    while fixture.dropped(DropReason::QueueFull) == 0 {
        let batch = (0..16).map(|_| fixture.pool.copy(&[1; 1000]).unwrap()).collect();
        fixture.transmit(batch);
        taken = fixture.counters.snapshot().tx_frames;
    }
    (0..taken).for_each(|_| drop(fixture.sent()));
    let frame = fixture.pool.copy(&[2; 60]).unwrap();
    fixture.transmit(Batch::from_iter([frame]));
    assert_eq!(fixture.sent()[HEADER..], [2; 60]);
}

#[test]
fn without_a_buffer_nothing_is_read() {
    let mut fixture = Fixture::new(TAKES, PoolSizes { small: 1, large: 1, bulk: 0 });
    fixture.send(Offload::NONE, &[1; 60]);
    fixture.send(Offload::NONE, &[2; 60]);
    let first = fixture.receive();
    assert_eq!((first.len(), fixture.receive().len()), (1, 0));
    drop(first);
    assert_eq!(fixture.receive().iter().next().unwrap().octets(), [2; 60]);
}
