//! Frames that leave more to be done than the driver takes.

use vmlan_frame::offload::finish_checksum;
use vmlan_frame::{Offload, Takes};

use super::*;

const HEADERS: usize = 14 + 20 + 20;

/// A TCP segment over IPv4 in Ethernet that asks for segments of `size` octets of payload.
fn tcp(pool: &Pool, payload: usize, size: u16) -> Frame {
    let mut octets = vec![0; HEADERS + payload];
    octets[..6].copy_from_slice(&MAC.0);
    octets[6] = 2;
    octets[12] = 8;
    octets[14] = 0x45;
    octets[16..18].copy_from_slice(&((HEADERS + payload - 14) as u16).to_be_bytes());
    octets[22..24].copy_from_slice(&[64, 6]);
    // The length of the header, and ACK.
    octets[46..48].copy_from_slice(&[0x50, 0x10]);
    octets[HEADERS..].fill(7);
    let mut frame = pool.copy(&octets).unwrap();
    let header_len = HEADERS as u16;
    let (flags, gso_type) = (Offload::NEEDS_CHECKSUM, Offload::TCPV4);
    frame.meta.offload =
        Offload { flags, gso_type, header_len, gso_size: size, checksum_start: 34, checksum_offset: 16 };
    frame
}

/// The same with its checksum open, and nothing else.
fn unfinished(pool: &Pool) -> Frame {
    let mut frame = tcp(pool, 10, 0);
    frame.meta.offload = Offload { gso_type: 0, header_len: 0, ..frame.meta.offload };
    frame
}

fn larger() -> Worker {
    Worker { pool: Pool::new(PoolSizes { small: 128, large: 8, bulk: 0 }) }
}

fn lengths(wire: &Wire) -> Vec<usize> {
    wire.sent.iter().map(Vec::len).collect()
}

#[test]
fn a_segmentation_frame_is_cut_for_a_link_that_lacks_it() {
    let (registry, worker) = (registry(), larger());
    let link = attached(&registry);
    let tap = Arc::new(Counting::default());
    link.attach_tap(tap.clone()).unwrap();
    let batch =
        || Batch::from_iter([worker.frame(IPV4, 1), tcp(&worker.pool, 2500, 1000), worker.frame(IPV4, 3)]);
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch(), &mut wire), Ok(()));
    assert_eq!(lengths(&wire), [60, HEADERS + 1000, HEADERS + 1000, HEADERS + 500, 60]);
    assert_eq!((wire.calls, worker.pool.out()), (1, 0));
    // Taps see what was handed out, and the books say what became of it.
    assert_eq!((tap.egress.load(SeqCst), link.counters().snapshot().segmented), (3, 2));
    link.set_capabilities(Takes::CHECKSUM | Takes::TSO4);
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch(), &mut wire), Ok(()));
    assert_eq!(lengths(&wire), [60, HEADERS + 2500, 60]);
}

#[test]
fn a_checksum_is_finished_for_a_link_that_lacks_it() {
    let (registry, worker) = (registry(), larger());
    let link = attached(&registry);
    let frame = unfinished(&worker.pool);
    let open = frame.octets().to_vec();
    let mut finished = open.clone();
    finish_checksum(&mut finished, &frame.meta.offload);
    for (capabilities, expected) in [
        (Takes::NONE, &finished),
        (Takes::TSO4 | Takes::TSO6 | Takes::USO, &finished),
        (Takes::CHECKSUM, &open),
        (Takes::ALL, &open),
    ] {
        link.set_capabilities(capabilities);
        let mut wire = Wire::of(&link);
        let mut batch = Batch::from_iter([frame.clone()]);
        assert_eq!(link.output(&worker.cx(), &mut batch, &mut wire), Ok(()));
        assert_eq!(wire.sent, [&expected[..]], "{capabilities:?}");
    }
    // The others that hold the frame keep it as it was.
    assert_eq!(frame.octets(), open);
}

#[test]
fn segments_go_to_the_driver_a_batch_at_a_time() {
    let (registry, worker) = (registry(), larger());
    let link = attached(&registry);
    let mut batch = Batch::from_iter((0..3).map(|_| tcp(&worker.pool, 40 * 64, 64)));
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch, &mut wire), Ok(()));
    assert_eq!((wire.calls, wire.sent.len(), worker.pool.out()), (2, 120, 0));
}

#[test]
fn a_frame_for_whose_segments_no_buffer_is_free_is_dropped_alone() {
    let (registry, worker) = (registry(), larger());
    let link = attached(&registry);
    let mut batch = Batch::from_iter([worker.frame(IPV4, 1), tcp(&worker.pool, 2500, 1000)]);
    let held: Vec<_> = core::iter::from_fn(|| worker.pool.copy(&[0; 60])).collect();
    let more: Vec<_> = core::iter::from_fn(|| worker.pool.copy(&[0; 3000])).collect();
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch, &mut wire), Err(Error::NoBuffers));
    assert_eq!((wire.marks(), dropped(&link, DropReason::NoSendBuffer)), (vec![1], 1));
    drop((held, more));
    assert_eq!(worker.pool.out(), 0);
}

#[test]
fn a_checksum_beyond_the_frame_is_refused() {
    let (registry, worker) = (registry(), larger());
    let link = attached(&registry);
    let refused = |start, offset| {
        let mut frame = unfinished(&worker.pool);
        frame.meta.offload.checksum_start = start;
        frame.meta.offload.checksum_offset = offset;
        let mut batch = Batch::from_iter([frame, worker.frame(IPV4, 1)]);
        let mut wire = Wire::of(&link);
        (link.output(&worker.cx(), &mut batch, &mut wire), wire.marks())
    };
    assert_eq!(refused(u16::MAX, u16::MAX), (Err(Error::MessageSize), vec![1]));
    assert_eq!(refused(HEADERS as u16 + 9, 0), (Err(Error::MessageSize), vec![1]));
    assert_eq!(dropped(&link, DropReason::TooLong), 2);
}

#[test]
fn a_request_that_does_not_fit_counts_as_the_result_wherever_it_is() {
    let (registry, worker, log) = (registry(), larger(), Log::default());
    let link = attached(&registry);
    let refuse_last =
        |mark| if mark == 3 { Verdict::Drop(DropReason::OutputFilter) } else { Verdict::Continue };
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &log, refuse_last)).unwrap();
    // Without its checksum open the segments would have none of their own.
    let mut bad = tcp(&worker.pool, 2500, 1000);
    bad.meta.offload.flags = 0;
    let batch = |frame: &Frame| Batch::from_iter([frame.clone(), worker.frame(IPV4, 3)]);
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch(&bad), &mut wire), Err(Error::MessageSize));
    // Else it is the last frame's.
    let good = tcp(&worker.pool, 2500, 1000);
    let result = link.output(&worker.cx(), &mut batch(&good), &mut wire);
    assert_eq!((result, wire.sent.len()), (Err(Error::Dropped(DropReason::OutputFilter)), 3));
}

#[test]
fn a_tunnel_gets_segments_with_its_own_header() {
    struct Tunnel;
    impl Driver for Tunnel {
        fn media(&self) -> Option<Arc<dyn Media>> {
            Some(Arc::new(FamilyHeader::TUNNEL))
        }
    }
    let (registry, worker) = (registry(), larger());
    let link = registry.acquire(LinkOptions::tunnel("utun").unwrap()).unwrap();
    link.attach(Arc::new(Tunnel), None).unwrap();
    let mut frame = tcp(&worker.pool, 2500, 1000);
    frame.trim_front(14);
    assert!(frame.prepend(&worker.pool, &[0, 0, 0, 2]));
    frame.meta.offload = frame.meta.offload.shifted(-10).unwrap();
    // A family that has no such segments.
    let mut other = frame.clone();
    other.make_mut(&worker.pool).unwrap()[3] = 30;
    let mut wire = Wire::of(&link);
    let mut batch = Batch::from_iter([frame, other]);
    assert_eq!(link.output(&worker.cx(), &mut batch, &mut wire), Err(Error::MessageSize));
    assert_eq!(lengths(&wire), [1044, 1044, 544]);
    let heads: Vec<_> = wire.sent.iter().map(|octets| &octets[..8]).collect();
    assert_eq!(
        heads,
        [[0, 0, 0, 2, 0x45, 0, 4, 16], [0, 0, 0, 2, 0x45, 0, 4, 16], [0, 0, 0, 2, 0x45, 0, 2, 28]]
    );
    assert_eq!(worker.pool.out(), 0);
}
