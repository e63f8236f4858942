use vmlan_frame::{Offload, Takes, TrafficClass, Witness};

use super::*;

/// A protocol whose `pre_output` decides by the packet's mark.
struct Resolver(fn(u8) -> Result<PreOutput, Error>);

const NEXT_HOP: MacAddr = MacAddr([0x02, 0, 0, 0, 0, 9]);

fn send() -> Result<PreOutput, Error> {
    Ok(PreOutput::Send { frame_type: IPV4, destination: Some(NEXT_HOP.into()) })
}

impl Protocol for Resolver {
    fn input(&self, _: &Context<'_>, _: &mut Batch) -> Result<(), Error> {
        Ok(())
    }

    fn pre_output(&self, _: &Context<'_>, packet: &mut Frame, _: &Address) -> Result<PreOutput, Error> {
        let decided = (self.0)(mark(packet));
        if decided == Ok(PreOutput::Consumed) {
            drop(core::mem::take(packet));
        }
        decided
    }
}

fn resolving(registry: &Registry, decide: fn(u8) -> Result<PreOutput, Error>) -> Link {
    let link = attached(registry);
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(Resolver(decide))).unwrap();
    link
}

/// Sends packets marked 1 to 3.
fn output_packets(link: &Link, worker: &Worker, wire: &mut Wire) -> Result<(), Error> {
    let mut batch = Batch::from_iter((1..=3).map(|mark| worker.pool.copy(&[0x45, 0, mark]).unwrap()));
    let destination = Address::Ip("10.0.0.1".parse().unwrap());
    let result = link.output_protocol(&worker.cx(), ProtocolFamily::INET, &destination, &mut batch, wire);
    assert_eq!((batch.len(), worker.pool.out()), (0, 0));
    result
}

#[test]
fn framed_output_puts_the_header_in_front() {
    let (registry, worker) = (registry(), Worker::new());
    let link = resolving(&registry, |_| send());
    let mut wire = Wire::of(&link);
    assert_eq!(output_packets(&link, &worker, &mut wire), Ok(()));
    assert_eq!(wire.sent[0], [2, 0, 0, 0, 0, 9, 2, 0, 0, 0, 0, 1, 8, 0, 0x45, 0, 1]);
    assert_eq!((wire.calls, wire.sent.len()), (1, 3));
}

#[test]
fn output_of_a_protocol_that_is_not_attached() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let mut wire = Wire::of(&link);
    assert_eq!(output_packets(&link, &worker, &mut wire), Err(Error::NotAttached));
    assert_eq!((wire.calls, dropped(&link, DropReason::LinkDetached)), (0, 3));
}

#[test]
fn case_27_pre_output_consumes_all() {
    let (registry, worker) = (registry(), Worker::new());
    let link = resolving(&registry, |_| Ok(PreOutput::Consumed));
    let mut wire = Wire::of(&link);
    assert_eq!(output_packets(&link, &worker, &mut wire), Ok(()));
    assert_eq!((wire.calls, dropped(&link, DropReason::OutputConsumed)), (0, 3));
}

#[test]
fn case_28_pre_output_error_after_consumed() {
    let (registry, worker) = (registry(), Worker::new());
    let link = resolving(&registry, |mark| match mark {
        1 => Ok(PreOutput::Consumed),
        2 => Err(Error::Io),
        _ => send(),
    });
    let mut wire = Wire::of(&link);
    assert_eq!(output_packets(&link, &worker, &mut wire), Err(Error::Io));
    assert_eq!((wire.calls, dropped(&link, DropReason::OutputError)), (0, 2));
}

#[test]
fn framer_error_drops_that_frame_only() {
    let (registry, worker) = (registry(), Worker::new());
    let link = resolving(&registry, |mark| match mark {
        2 => Ok(PreOutput::Send { frame_type: IPV4, destination: None }),
        _ => send(),
    });
    let mut wire = Wire::of(&link);
    assert_eq!(output_packets(&link, &worker, &mut wire), Ok(()));
    assert_eq!((wire.marks(), dropped(&link, DropReason::OutputError)), (vec![1, 3], 1));
}

fn output_with(decide: fn(u8) -> Verdict) -> (Result<(), Error>, Vec<u8>, u64) {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &log, decide)).unwrap();
    let mut wire = Wire::of(&link);
    let result = link.output(&worker.cx(), &mut worker.frames(3), &mut wire);
    assert_eq!(worker.pool.out(), 0);
    (result, wire.marks(), dropped(&link, DropReason::OutputFilter))
}

const REFUSED: Verdict = Verdict::Drop(DropReason::OutputFilter);

#[test]
fn case_29_filter_error_on_the_middle_frame() {
    let outcome = output_with(|mark| if mark == 2 { REFUSED } else { Verdict::Continue });
    assert_eq!(outcome, (Ok(()), vec![1, 3], 1));
}

#[test]
fn case_30_filter_error_on_the_last_frame() {
    let outcome = output_with(|mark| if mark == 3 { REFUSED } else { Verdict::Continue });
    assert_eq!(outcome, (Err(Error::Dropped(DropReason::OutputFilter)), vec![1, 2], 1));
}

#[test]
fn case_31_segmentation_that_cannot_be_met() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let batch = || {
        let mut batch = worker.frames(4);
        let types = [0, 1, 0x84, 3];
        for (frame, gso_type) in batch.iter_mut().zip(types) {
            frame.meta.offload = Offload { gso_type, gso_size: 1000, ..Offload::default() };
        }
        batch
    };
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch(), &mut wire), Err(Error::MessageSize));
    assert_eq!((wire.marks(), dropped(&link, DropReason::TooLong)), (vec![1], 3));
    link.set_capabilities(Takes::CHECKSUM | Takes::TSO4);
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch(), &mut wire), Err(Error::MessageSize));
    assert_eq!((wire.marks(), dropped(&link, DropReason::TooLong)), (vec![1, 2], 5));
    // Later frames that are sent do not hide it.
    link.set_capabilities(Takes::ALL);
    let mut wire = Wire::of(&link);
    assert_eq!(link.output(&worker.cx(), &mut batch(), &mut wire), Ok(()));
    assert_eq!((wire.marks().len(), worker.pool.out()), (4, 0));
}

#[test]
fn case_32_a_list_is_one_driver_call() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let mut batch = worker.frames(4);
    batch.iter_mut().for_each(|frame| frame.meta.class = TrafficClass::Voice);
    let mut wire = Wire::of(&link);
    link.output(&worker.cx(), &mut batch, &mut wire).unwrap();
    assert_eq!((wire.calls, link.counters().snapshot().tx_classes), (1, [[0, 0], [0, 0], [4, 240]]));
}

#[test]
fn case_33_raw_output_has_filters_and_no_framer() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = resolving(&registry, |_| Err(Error::Io));
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    let frame = worker.frame(IPV4, 1);
    let octets = frame.octets().to_vec();
    let mut wire = Wire::of(&link);
    link.output(&worker.cx(), &mut Batch::from_iter([frame]), &mut wire).unwrap();
    assert_eq!((wire.sent, logged(&log)), (vec![octets], vec!["A out 1".into()]));
}

#[test]
fn taps_see_input_before_and_output_after_the_filters() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let drop_all = |_| REFUSED;
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &log, drop_all)).unwrap();
    let tap = Arc::new(Counting::default());
    let id = link.attach_tap(tap.clone()).unwrap();
    link.input(&worker.cx(), &mut worker.frames(2));
    let _ = link.output(&worker.cx(), &mut worker.frames(2), &mut Wire::of(&link));
    assert_eq!((tap.ingress.load(SeqCst), tap.egress.load(SeqCst), tap.dropped.load(SeqCst)), (2, 0, 4));
    link.detach_tap(id).unwrap();
    assert_eq!(link.detach_tap(id), Err(Error::InvalidArgument));
    link.input(&worker.cx(), &mut worker.frames(2));
    assert_eq!((tap.ingress.load(SeqCst), tap.ended.load(SeqCst)), (2, 0));
}

#[test]
fn what_others_lose_of_a_link_is_counted_and_shown_to_its_taps() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let account = link.account();
    let tap = Arc::new(Counting::default());
    let seen = || (tap.dropped.load(SeqCst), dropped(&link, DropReason::SourceGuard), account.is_present());
    let lose = || account.lose(&worker.cx(), &worker.frame(IPV4, 1), DropReason::SourceGuard);
    lose();
    assert_eq!(seen(), (0, 1, false));
    let id = link.attach_tap(tap.clone()).unwrap();
    lose();
    assert_eq!(seen(), (1, 2, true));
    link.detach_tap(id).unwrap();
    lose();
    assert_eq!(seen(), (1, 3, false));
    link.attach_tap(tap.clone()).unwrap();
    link.detach().unwrap();
    lose();
    assert_eq!(seen(), (1, 4, false));
}

#[test]
fn an_account_does_not_hold_its_link() {
    let (registry, worker) = (registry(), Worker::new());
    let options =
        LinkOptions { unique_id: Some(b"lab/web".to_vec()), ..LinkOptions::ethernet("port").unwrap() };
    let first = registry.acquire(options.clone()).unwrap();
    let account = first.account();
    assert!(registry.acquire(options.clone()).is_err());
    drop(first);

    let second = registry.acquire(options).unwrap();
    second.attach(Arc::new(()), None).unwrap();
    let tap = Arc::new(Counting::default());
    second.attach_tap(tap.clone()).unwrap();
    account.lose(&worker.cx(), &worker.frame(IPV4, 1), DropReason::SourceGuard);
    assert_eq!(tap.dropped.load(SeqCst), 0, "the account is of the former use");
}

#[test]
fn what_a_driver_leaves_and_what_finds_no_protocol_is_shown_too() {
    struct Lazy;
    impl Transmit for Lazy {
        fn transmit(&mut self, batch: &mut Batch) {
            batch.drain_front(1);
        }
    }
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let tap = Arc::new(Counting::default());
    link.attach_tap(tap.clone()).unwrap();
    link.output(&worker.cx(), &mut worker.frames(3), &mut Lazy).unwrap();
    assert_eq!((tap.dropped.load(SeqCst), dropped(&link, DropReason::TransmitError)), (2, 2));

    let to = Address::Link(LinkAddress::from(MacAddr::BROADCAST));
    let sent =
        link.output_protocol(&worker.cx(), ProtocolFamily::INET, &to, &mut worker.frames(1), &mut Lazy);
    assert_eq!(sent, Err(Error::NotAttached));
    assert_eq!((tap.dropped.load(SeqCst), dropped(&link, DropReason::LinkDetached)), (3, 1));
}

#[test]
fn what_a_driver_leaves_is_freed_and_counted() {
    struct Lazy;
    impl Transmit for Lazy {
        fn transmit(&mut self, batch: &mut Batch) {
            drop(batch.drain_front(1));
        }
    }
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let mut batch = worker.frames(3);
    link.output(&worker.cx(), &mut batch, &mut Lazy).unwrap();
    assert_eq!((batch.len(), worker.pool.out(), dropped(&link, DropReason::TransmitError)), (0, 0, 2));
}

/// A protocol whose packets are all broadcasts, or none, and that writes down what it receives.
struct Shouting(MacAddr, Log);

impl Protocol for Shouting {
    fn input(&self, _: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        self.1.lock().push(format!("{:?}", marks(batch)));
        Ok(())
    }

    fn pre_output(&self, _: &Context<'_>, _: &mut Frame, _: &Address) -> Result<PreOutput, Error> {
        Ok(PreOutput::Send { frame_type: IPV4, destination: Some(self.0.into()) })
    }
}

/// Sends three packets of a protocol to `destination`; the marks that wait in the queue then, and what is received.
fn heard(destination: MacAddr, prepare: impl FnOnce(&Link)) -> (Vec<u8>, Vec<String>) {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(Shouting(destination, log.clone())))
        .unwrap();
    prepare(&link);
    let mut wire = Wire::of(&link);
    output_packets(&link, &worker, &mut wire).unwrap();
    assert_eq!(wire.marks(), [1, 2, 3]);
    let mut batch = Batch::new();
    link.dequeue(&worker.cx(), &mut batch);
    let waiting = marks(&batch);
    link.input(&worker.cx(), &mut batch);
    (waiting, logged(&log))
}

#[test]
fn own_broadcasts_come_back_to_the_links_protocols() {
    let read = |link: &Link| link.set_reader(core::task::Waker::noop().clone()).unwrap();
    assert_eq!(heard(MacAddr::BROADCAST, read), (vec![1, 2, 3], vec!["[1, 2, 3]".into()]));
    let nothing = (vec![], vec![]);
    // A multicast comes back within the protocol, and what is for another station does not.
    assert_eq!(heard(MacAddr([1, 0, 0x5e, 0, 0, 1]), read), nothing);
    assert_eq!(heard(NEXT_HOP, read), nothing);
    // Nothing would take it out of the queue.
    assert_eq!(heard(MacAddr::BROADCAST, |_| {}), nothing);
}

#[test]
fn own_broadcasts_do_not_come_back_to_a_network() {
    let mut bridge = None;
    let read = |link: &Link| {
        link.set_reader(core::task::Waker::noop().clone()).unwrap();
        bridge = link.attach_bridge().ok();
    };
    assert_eq!(heard(MacAddr::BROADCAST, read), (vec![], vec![]));
    assert!(bridge.is_some());
}
