use super::*;

/// A driver whose medium is missing, and one whose end is written down.
struct Unplumbed;

impl Driver for Unplumbed {
    fn media(&self) -> Option<Arc<dyn Media>> {
        None
    }
}

struct Logged(Log);

impl Driver for Logged {
    fn event(&self, _: &Link, event: &Event) {
        self.0.lock().push(format!("driver {}", event.code.name()));
    }

    fn set_multicasts(&self, groups: &[LinkAddress]) {
        self.0.lock().push(format!("groups {groups:?}"));
    }

    fn detached(&self) {
        self.0.lock().push("driver detached".into());
    }
}

fn with_id(registry: &Registry, id: &[u8]) -> Result<Link, Error> {
    let options = LinkOptions::ethernet("test").unwrap();
    registry.acquire(LinkOptions { unique_id: Some(id.to_vec()), ..options })
}

#[test]
fn case_01_attach_twice() {
    let registry = registry();
    let link = attached(&registry);
    assert_eq!(link.attach(Arc::new(()), None), Err(Error::AlreadyExists));
    assert_eq!(Error::AlreadyExists.errno_name(), "EEXIST");
    assert!(link.is_attached());
}

#[test]
fn case_02_no_add_protocol_then_mended() {
    let registry = registry();
    let link = acquired(&registry);
    assert_eq!(link.attach(Arc::new(Unplumbed), None), Err(Error::NoDevice));
    assert!(!link.is_attached() && link.index().is_none() && registry.links().is_empty());
    assert_eq!(link.attach(Arc::new(()), None), Ok(()));
}

#[test]
fn case_03_address_length() {
    let registry = registry();
    let link = attached(&registry);
    link.detach().unwrap();
    let eight = LinkAddress::new(&[2; 8]).unwrap();
    assert_eq!(link.attach(Arc::new(()), Some(eight)), Err(Error::InvalidArgument));
    assert_eq!(link.attach(Arc::new(()), Some(MAC.into())), Ok(()));
    assert_eq!(link.set_address(eight), Err(Error::InvalidArgument));
    assert_eq!(link.address(), Some(MAC.into()));
}

#[test]
fn case_04_attach_again_zeroes_counters_and_keeps_the_mtu() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let index = link.index();
    link.set_mtu(Mtu::new(9000u32).unwrap());
    link.input(&worker.cx(), &mut worker.frames(3));
    assert_eq!(link.counters().snapshot().rx_frames, 3);
    link.detach().unwrap();
    link.attach(Arc::new(()), None).unwrap();
    assert_eq!(link.counters().snapshot(), Snapshot::default());
    assert_eq!((link.mtu().get(), link.header_len(), link.index()), (9000, 14, index));
}

#[test]
fn case_05_second_detach() {
    let registry = registry();
    let link = attached(&registry);
    {
        let _reference = link.io_ref().unwrap();
        assert_eq!(link.detach(), Ok(()));
        assert_eq!(link.detach(), Err(Error::InvalidArgument));
        assert_eq!(link.attach(Arc::new(()), None), Err(Error::Busy));
    }
    assert_eq!(link.detach(), Err(Error::InvalidArgument));
}

#[test]
fn case_06_a_reference_delays_the_end() {
    let registry = registry();
    let (stuck, other) = (attached(&registry), attached(&registry));
    let events = registry.subscribe(16);
    let reference = stuck.io_ref().unwrap();
    stuck.detach().unwrap();
    assert_eq!(codes(&events), ["if_detaching"]);
    assert!(stuck.is_detaching() && stuck.io_ref().is_none());
    // Another link's end does not wait for this one's.
    other.detach().unwrap();
    assert_eq!(codes(&events), ["if_detaching", "if_detached"]);
    drop(reference);
    assert_eq!(codes(&events), ["if_detached"]);
    assert!(!stuck.is_detaching());
}

#[test]
fn case_07_output_while_detaching() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let _reference = link.io_ref().unwrap();
    link.detach().unwrap();
    let (mut batch, mut wire) = (worker.frames(2), Wire::of(&link));
    assert_eq!(link.output(&worker.cx(), &mut batch, &mut wire), Err(Error::NotAttached));
    assert_eq!((batch.len(), wire.calls, worker.pool.out()), (0, 0, 0));
    assert_eq!(dropped(&link, DropReason::LinkDetached), 2);
}

#[test]
fn case_08_unique_id_in_use() {
    let registry = registry();
    let link = with_id(&registry, b"a").unwrap();
    assert_eq!(with_id(&registry, b"a").unwrap_err(), Error::Busy);
    link.attach(Arc::new(()), None).unwrap();
    drop(link);
    // The registry still has it.
    assert_eq!(with_id(&registry, b"a").unwrap_err(), Error::Busy);
    assert!(with_id(&registry, b"b").is_ok());
    assert_eq!(with_id(&registry, &[0; 256]).unwrap_err(), Error::InvalidArgument);
}

#[test]
fn case_09_idle_unique_id_is_recycled() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let group = LinkAddress::from(MacAddr([1, 0, 0x5e, 0, 0, 1]));
    let first = with_id(&registry, b"a").unwrap();
    first.attach(Arc::new(()), None).unwrap();
    first.join_multicast(group).unwrap();
    first.join_multicast(group).unwrap();
    let index = first.index();
    assert!(!first.is_recycled());
    first.detach().unwrap();
    let other = attached(&registry);
    drop(first);

    let second = with_id(&registry, b"a").unwrap();
    assert!(second.is_recycled() && index.is_some() && second.index() == index);
    assert_ne!(other.index(), index);
    second.attach(Arc::new(Logged(log.clone())), None).unwrap();
    assert_eq!(logged(&log), ["driver if_attached"]);
    // The first frame restores the membership, later ones do not.
    second.input(&worker.cx(), &mut worker.frames(1));
    second.input(&worker.cx(), &mut worker.frames(1));
    assert_eq!(logged(&log), ["groups [01:00:5e:00:00:01]"]);
    second.leave_multicast(group).unwrap();
    assert_eq!((second.multicasts(), logged(&log)), (vec![group], vec![]));
    second.leave_multicast(group).unwrap();
    assert_eq!(logged(&log), ["groups []"]);
}

#[test]
fn case_10_without_unique_id_records_are_distinct() {
    let registry = registry();
    let (a, b) = (attached(&registry), attached(&registry));
    assert_ne!(a.index(), b.index());
    assert_eq!((a.name().to_string(), b.name().to_string()), ("test0".into(), "test1".into()));
    drop(a);
    assert!(!acquired(&registry).is_recycled());
}

#[test]
fn a_name_is_free_again_when_the_detach_begins() {
    let registry = registry();
    let options =
        LinkOptions { name: Name::new("tap", Some(3)).unwrap(), ..LinkOptions::ethernet("x").unwrap() };
    let (a, b) = (registry.acquire(options.clone()).unwrap(), registry.acquire(options).unwrap());
    a.attach(Arc::new(()), None).unwrap();
    assert_eq!(b.attach(Arc::new(()), None), Err(Error::AlreadyExists));
    assert_eq!(registry.find("tap3").map(|link| link.index()), Some(a.index()));
    let _reference = a.io_ref().unwrap();
    a.detach().unwrap();
    assert!(registry.find("tap3").is_none() && registry.by_index(a.index().unwrap()).is_none());
    b.attach(Arc::new(()), None).unwrap();
    assert_eq!(registry.links().len(), 1);
    // The late end of the first must not unregister the second.
    drop(_reference);
    assert!(registry.find("tap3").is_some());
}

#[test]
fn indices_of_records_that_are_gone_are_used_again() {
    let registry = registry();
    for _ in 0..Registry::MAX_INDEX + 3 {
        let link = attached(&registry);
        link.detach().unwrap();
    }
    assert_eq!(attached(&registry).index(), Some(4));
}

#[test]
fn idle_records_are_bounded() {
    let registry = registry();
    for i in 0..=Registry::MAX_IDLE {
        drop(with_id(&registry, &i.to_be_bytes()).unwrap());
    }
    assert!(!with_id(&registry, &0usize.to_be_bytes()).unwrap().is_recycled());
    assert!(with_id(&registry, &Registry::MAX_IDLE.to_be_bytes()).unwrap().is_recycled());
}

#[test]
fn phase_two_ends_everything_in_order() {
    let (registry, log) = (registry(), Log::default());
    let link = acquired(&registry);
    link.attach(Arc::new(Logged(log.clone())), None).unwrap();
    link.attach_filter(FilterOptions::new("a"), Probe::passing("a", &log)).unwrap();
    link.attach_filter(FilterOptions::new("b"), Probe::passing("b", &log)).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &log)).unwrap();
    link.add_address("10.0.0.1".parse().unwrap()).unwrap();
    let tap = Arc::new(Counting::default());
    link.attach_tap(tap.clone()).unwrap();
    link.set_flags(Flags { up: true, promiscuous: false });
    logged(&log);
    let events = registry.subscribe(16);
    link.detach().unwrap();
    let seen_by_all = |code: &str| ["a", "b", "v4", "driver"].map(|who| format!("{who} {code}"));
    let mut expected = Vec::from(seen_by_all("if_detaching"));
    expected.extend(seen_by_all("flags_changed"));
    expected.extend(
        ["a detached", "b detached", "v4 address_removed", "driver address_removed"].map(String::from),
    );
    expected.extend(["v4 detached", "driver proto_detached", "driver detached"].map(String::from));
    assert_eq!(logged(&log), expected);
    let posted = ["if_detaching", "flags_changed", "address_removed", "proto_detached", "if_detached"];
    assert_eq!(codes(&events), posted);
    assert_eq!(tap.ended.load(SeqCst), 1);
    assert!(!link.flags().up && link.addresses().is_empty());
}

#[test]
fn a_tap_hears_of_the_end_when_nobody_is_inside_any_more() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    let tap = Arc::new(Counting::default());
    link.attach_tap(tap.clone()).unwrap();
    let taps = link.taps().expect("the tap");
    link.detach().unwrap();
    // What a worker had in hand is still shown.
    taps.dropped(&worker.cx(), &worker.frame(IPV4, 1), DropReason::NoDestination);
    assert_eq!(tap.ended.load(SeqCst), 0);
    assert!(link.taps().is_none());
    drop(taps);
    // The thread that had them moves frames.
    assert!(tap.ended.load(SeqCst) == 0 && link.is_detaching());
    registry.settle();
    assert_eq!(tap.ended.load(SeqCst), 1);
}

#[test]
fn a_kept_handle_answers_after_detach() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let filter = link.attach_filter(FilterOptions::new("a"), Probe::passing("a", &log)).unwrap();
    let bridge = link.attach_bridge().unwrap();
    link.detach().unwrap();
    let gone = Err(Error::NotAttached);
    assert_eq!(link.attach_filter(FilterOptions::new("b"), Probe::passing("b", &log)), gone.map(|()| filter));
    assert_eq!(link.detach_filter(filter), Err(Error::InvalidArgument));
    assert_eq!(link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &log)), gone);
    assert_eq!(link.detach_protocol(ProtocolFamily::INET), gone);
    assert_eq!(link.attach_bridge().err(), Some(Error::NotAttached));
    assert_eq!(link.attach_tap(Arc::new(Counting::default())).err(), Some(Error::NotAttached));
    let mut request = Request { code: 1, family: ProtocolFamily::UNSPECIFIED, data: &mut () };
    assert_eq!(link.control(&mut request), Err(Error::OperationNotSupported));
    let mut batch = worker.frames(2);
    link.input(&worker.cx(), &mut batch);
    assert!(batch.is_empty());
    assert_eq!((dropped(&link, DropReason::NotAttached), link.counters().snapshot().rx_frames), (2, 2));
    link.set_mtu(Mtu::MIN);
    link.set_carrier(false);
    drop(registry);
    assert_eq!(link.attach(Arc::new(()), None), Err(Error::NoBuffers));
    drop(bridge);
}

#[test]
fn a_link_detached_from_its_own_filter_ends_after_the_batch() {
    struct Detaching(Link, Log);
    impl Filter for Detaching {
        fn input(&self, _: &Context<'_>, _: &mut Frame) -> Verdict {
            let _ = self.0.detach();
            Verdict::Continue
        }
        fn detached(&self) {
            self.1.lock().push(format!("detached with {} inside", self.0.references()));
        }
    }
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    link.attach_filter(FilterOptions::new("a"), Arc::new(Detaching(link.clone(), log.clone()))).unwrap();
    let events = registry.subscribe(4);
    link.input(&worker.cx(), &mut worker.frames(2));
    assert!(logged(&log).is_empty() && link.is_detaching());
    assert_eq!(codes(&events), ["if_detaching", "if_detached"]);
    assert_eq!(logged(&log), ["detached with 0 inside"]);
    assert!(!link.is_attached() && !link.is_detaching());
    assert_eq!(worker.pool.out(), 0);
}

#[test]
fn waiting_frames_are_freed_and_counted_at_the_end() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    link.enqueue(&worker.cx(), &mut worker.frames(3));
    assert_eq!(worker.pool.out(), 0);
    let mut batch = Batch::new();
    link.dequeue(&worker.cx(), &mut batch);
    assert_eq!(marks(&batch), [1, 2, 3]);
    link.enqueue(&worker.cx(), &mut batch);
    link.detach().unwrap();
    link.enqueue(&worker.cx(), &mut worker.frames(1));
    assert_eq!((dropped(&link, DropReason::InputQueue), dropped(&link, DropReason::NotAttached)), (3, 1));
    assert_eq!((link.counters().snapshot().rx_frames, link.counters().snapshot().rx_octets), (4, 240));
}

#[test]
fn a_full_queue_drops_the_newest() {
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    for _ in 0..6 {
        link.enqueue(&worker.cx(), &mut worker.frames(100));
    }
    assert_eq!(dropped(&link, DropReason::InputQueue), 600 - 512);
    let mut batch = Batch::new();
    link.dequeue(&worker.cx(), &mut batch);
    assert_eq!(batch.len(), Batch::LIMIT);
}

#[test]
fn ethernet_links_are_spread_over_workers() {
    let registry = registry();
    let workers: Vec<_> = [attached(&registry), attached(&registry)].iter().map(Link::worker).collect();
    assert_eq!(workers, [0, 1]);
    let tunnel = registry.acquire(LinkOptions::tunnel("utun").unwrap()).unwrap();
    tunnel.attach(Arc::new(()), None).unwrap();
    assert_eq!(tunnel.worker(), 0);
}
