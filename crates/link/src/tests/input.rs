use vmlan_frame::TrafficClass;

use super::*;

/// A medium like Ethernet whose demultiplexer takes frames marked 1 and fails for those marked 2.
struct Picky;

impl Media for Picky {
    fn family(&self, frame: &Frame) -> Option<ProtocolFamily> {
        Ethernet.family(frame)
    }

    fn demux(&self, frame: &mut Frame) -> Demux {
        match mark(frame) {
            1 => {
                drop(core::mem::take(frame));
                Demux::Consumed
            }
            2 => Demux::Unknown,
            _ => Ethernet.demux(frame),
        }
    }

    fn consumes(&self) -> bool {
        true
    }

    fn prepend(&self, pool: &Pool, frame: &mut Frame, header: &Header) -> Result<(), Error> {
        Ethernet.prepend(pool, frame, header)
    }

    fn add_protocol(&self, family: ProtocolFamily) -> Result<(), Error> {
        Ethernet.add_protocol(family)
    }

    fn check_multicast(&self, group: &Address) -> Result<Option<LinkAddress>, Error> {
        Ethernet.check_multicast(group)
    }
}

impl Driver for Picky {
    fn media(&self) -> Option<Arc<dyn Media>> {
        Some(Arc::new(Picky))
    }
}

fn picky(registry: &Registry) -> Link {
    let link = acquired(registry);
    link.attach(Arc::new(Picky), None).unwrap();
    link
}

#[test]
fn case_18_promiscuous_frame_reaches_filters_only() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &log)).unwrap();
    let nosy = ProtocolOptions { family: ProtocolFamily::INET6, promiscuous: true };
    link.attach_protocol(nosy, Sink::new("v6", &log)).unwrap();
    logged(&log);
    let mut batch = Batch::from_iter([worker.frame(IPV4, 4), worker.frame(IPV6, 6)]);
    batch.iter_mut().for_each(|frame| frame.meta.promiscuous = true);
    link.input(&worker.cx(), &mut batch);
    assert_eq!(logged(&log), ["A in 4", "A in 6", "v6 [6]"]);
    assert_eq!((dropped(&link, DropReason::NoProtocol), worker.pool.out()), (1, 0));
}

#[test]
fn a_frame_for_another_station_is_for_protocols_that_asked_for_it() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let nosy = ProtocolOptions { family: ProtocolFamily::INET6, promiscuous: true };
    link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &log)).unwrap();
    link.attach_protocol(nosy, Sink::new("v6", &log)).unwrap();
    link.set_flags(Flags { up: true, promiscuous: true });
    logged(&log);
    let other = MacAddr([2, 0, 0, 0, 0, 0x77]);
    let to = |mac: MacAddr, ethertype, mark| {
        let mut frame = worker.frame(ethertype, mark);
        frame.make_mut(&worker.pool).unwrap()[..6].copy_from_slice(&mac.0);
        frame
    };
    let frames = [
        to(other, IPV4, 1),
        to(MAC, IPV4, 2),
        to(MacAddr::BROADCAST, IPV4, 3),
        to(MacAddr([1, 0, 0x5e, 0, 0, 1]), IPV4, 4),
        to(other, IPV6, 5),
    ];
    link.input(&worker.cx(), &mut Batch::from_iter(frames.clone()));
    assert_eq!(logged(&log), ["v4 [2, 3, 4]", "v6 [5]"]);
    assert_eq!(dropped(&link, DropReason::NoProtocol), 1);
    // The address that counts is the one that the link has now.
    link.set_address(other.into()).unwrap();
    logged(&log);
    link.input(&worker.cx(), &mut Batch::from_iter(frames.clone()));
    assert_eq!(logged(&log), ["v4 [1, 3, 4]", "v6 [5]"]);
    // A network gets every frame, and none is marked.
    let _bridge = link.attach_bridge().unwrap();
    let mut batch = Batch::from_iter(frames);
    link.input(&worker.cx(), &mut batch);
    assert!(batch.len() == 5 && batch.iter().all(|frame| !frame.meta.promiscuous));
}

#[test]
fn case_19_demultiplexer_consumes() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = picky(&registry);
    let _bridge = link.attach_bridge().unwrap();
    let mut batch = Batch::from_iter([worker.frame(IPV4, 1)]);
    link.input(&worker.cx(), &mut batch);
    assert!(batch.is_empty());
    let tap = Arc::new(Counting::default());
    link.attach_tap(tap.clone()).unwrap();
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    link.input(&worker.cx(), &mut Batch::from_iter([worker.frame(IPV4, 1)]));
    assert_eq!((logged(&log), tap.ingress.load(SeqCst)), (vec![], 0));
    assert_eq!((dropped(&link, DropReason::Consumed), worker.pool.out()), (2, 0));
}

#[test]
fn case_20_demultiplexer_error() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = picky(&registry);
    let ipv4 = FilterOptions { protocol: Some(ProtocolFamily::INET), ..FilterOptions::new("v4") };
    link.attach_filter(ipv4, Probe::passing("v4", &log)).unwrap();
    link.attach_filter(FilterOptions::new("any"), Probe::passing("any", &log)).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("sink", &log)).unwrap();
    logged(&log);
    link.input(&worker.cx(), &mut Batch::from_iter([worker.frame(IPV4, 2)]));
    assert_eq!(logged(&log), ["any in 2"]);
    assert_eq!((dropped(&link, DropReason::NoProtocol), worker.pool.out()), (1, 0));
}

#[test]
fn case_21_multicast_is_counted_though_a_filter_drops_it() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let drop_all = |_| Verdict::Drop(DropReason::InputFilter);
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &log, drop_all)).unwrap();
    let broadcast = worker.pool.copy(&[0xff; 60]).unwrap();
    link.input(&worker.cx(), &mut Batch::from_iter([broadcast, worker.frame(IPV4, 1)]));
    let sum = link.counters().snapshot();
    assert_eq!((sum.rx_frames, sum.rx_multicasts, sum.dropped(DropReason::InputFilter)), (2, 1, 2));
}

/// A link with both IP protocols.
fn dual(registry: &Registry, log: &Log, refuses: Option<u8>) -> Link {
    let link = attached(registry);
    let v4 = Arc::new(Sink { name: "v4", log: log.clone(), refuses });
    link.attach_protocol(protocol(ProtocolFamily::INET), v4).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET6), Sink::new("v6", log)).unwrap();
    logged(log);
    link
}

#[test]
fn case_22_consecutive_frames_of_one_protocol_are_one_batch() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = dual(&registry, &log, None);
    let types = [IPV4, IPV4, IPV4, IPV6, IPV4];
    let mut batch = Batch::from_iter(types.into_iter().zip(1..).map(|(kind, mark)| worker.frame(kind, mark)));
    link.input(&worker.cx(), &mut batch);
    assert_eq!(logged(&log), ["v4 [1, 2, 3]", "v6 [4]", "v4 [5]"]);
    assert_eq!((batch.len(), worker.pool.out(), dropped(&link, DropReason::Consumed)), (0, 0, 5));
}

#[test]
fn case_23_dropped_frame_does_not_break_the_run() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = dual(&registry, &log, None);
    let middle = |mark| if mark == 2 { Verdict::Drop(DropReason::InputFilter) } else { Verdict::Continue };
    link.attach_filter(FilterOptions::new("A"), Probe::deciding("A", &Log::default(), middle)).unwrap();
    link.input(&worker.cx(), &mut worker.frames(3));
    assert_eq!(logged(&log), ["v4 [1, 3]"]);
}

#[test]
fn case_24_per_frame_error_frees_that_frame_only() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let took = log.clone();
    let per_frame = PerFrame(move |_: &Context<'_>, frame: &mut Frame| {
        if mark(frame) == 2 {
            return Err(Error::Io);
        }
        took.lock().push(format!("took {} with {} octets", mark(frame), frame.len()));
        Ok(())
    });
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(per_frame)).unwrap();
    link.input(&worker.cx(), &mut worker.frames(3));
    assert_eq!(logged(&log), ["took 1 with 60 octets", "took 3 with 60 octets"]);
    assert_eq!((dropped(&link, DropReason::ProtocolError), dropped(&link, DropReason::Consumed)), (1, 2));
    assert_eq!(worker.pool.out(), 0);
}

#[test]
fn case_25_batch_error_frees_the_rest_once() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = dual(&registry, &log, Some(2));
    link.input(&worker.cx(), &mut worker.frames(3));
    assert_eq!(logged(&log), ["v4 [1, 2, 3]"]);
    assert_eq!((dropped(&link, DropReason::ProtocolError), dropped(&link, DropReason::Consumed)), (2, 1));
    assert_eq!(worker.pool.out(), 0);
}

#[test]
fn case_26_best_effort_is_not_counted_by_class() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let mut batch = worker.frames(2);
    batch.iter_mut().last().unwrap().meta.class = TrafficClass::Video;
    link.input(&worker.cx(), &mut batch);
    assert_eq!(link.counters().snapshot().rx_classes, [[0, 0], [1, 60], [0, 0]]);
}

#[test]
fn classes_are_assigned_where_that_is_wanted() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let bridge = link.attach_bridge().unwrap();
    let receive = || {
        let mut octets = [0; 60];
        octets[12..16].copy_from_slice(&[0x08, 0x00, 0x45, 46 << 2]);
        let mut batch = Batch::from_iter((0..3).map(|_| worker.pool.copy(&octets).unwrap()));
        let mut frames = batch.iter_mut();
        frames.next().unwrap().meta.class = TrafficClass::Video;
        frames.next().unwrap().meta.tag = Some(vmlan_frame::VlanTag { tci: 1 << 13 | 5 });
        link.input(&worker.cx(), &mut batch);
        Vec::from_iter(batch.iter().map(|frame| frame.meta.class))
    };
    assert_eq!(receive(), [TrafficClass::Video, TrafficClass::BestEffort, TrafficClass::BestEffort]);
    link.set_classifies(true);
    let classified = [TrafficClass::Video, TrafficClass::Background, TrafficClass::Voice];
    assert_eq!((receive(), link.classifies()), (classified.to_vec(), true));
    assert_eq!(link.counters().snapshot().rx_classes, [[1, 64], [2, 120], [1, 60]]);
    // It stays from one attach to the next.
    drop(bridge);
    link.detach().unwrap();
    link.attach(Arc::new(()), None).unwrap();
    let _bridge = link.attach_bridge().unwrap();
    assert_eq!(receive(), classified);
    link.set_classifies(false);
    assert_eq!(receive()[2], TrafficClass::BestEffort);
}

#[test]
fn a_network_takes_what_the_filters_leave() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = dual(&registry, &log, None);
    let bridge = link.attach_bridge().unwrap();
    assert_eq!(link.attach_bridge().err(), Some(Error::Busy));
    let mut batch = worker.frames(3);
    batch.iter_mut().for_each(|frame| frame.meta.promiscuous = true);
    link.input(&worker.cx(), &mut batch);
    assert_eq!((marks(&batch), logged(&log)), (vec![1, 2, 3], vec![]));
    assert_eq!(link.counters().snapshot().dropped_on(vmlan_frame::Direction::Ingress), 0);
    drop(bridge);
    link.input(&worker.cx(), &mut worker.frames(1));
    assert_eq!(logged(&log), ["v4 [1]"]);
    assert!(link.attach_bridge().is_ok());
}

#[test]
fn nested_input_keeps_runs_apart() {
    struct Tunnelled(Link, Log);
    impl Protocol for Tunnelled {
        fn input(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
            self.1.lock().push(format!("{:?}", marks(batch)));
            // What stands inside goes up again, once.
            let mut inner = Batch::from_iter(batch.drain().filter(|frame| mark(frame) == 1));
            inner.iter_mut().for_each(|frame| *frame.make_mut(cx.pool).unwrap().last_mut().unwrap() = 9);
            self.0.input(cx, &mut inner);
            Ok(())
        }
    }
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(Tunnelled(link.clone(), log.clone())))
        .unwrap();
    let mut batch = Batch::from_iter([worker.frame(IPV4, 1), worker.frame(IPV6, 2), worker.frame(IPV4, 3)]);
    link.input(&worker.cx(), &mut batch);
    assert_eq!(logged(&log), ["[1, 3]", "[9]"]);
    assert_eq!(worker.pool.out(), 0);
    link.detach().unwrap();
}
