use core::task::{Poll, Waker};
use std::task::Wake;

use super::*;

#[test]
fn events_run_through_filters_protocols_and_driver() {
    struct Driving(Log);
    impl Driver for Driving {
        fn event(&self, _: &Link, event: &Event) {
            lock(&self.0).push(format!("driver {}", event.code.name()));
        }
    }
    let (registry, log) = (registry(), Log::default());
    let link = acquired(&registry);
    link.attach(Arc::new(Driving(log.clone())), None).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET6), Sink::new("v6", &log)).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &log)).unwrap();
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    logged(&log);
    link.set_mtu(Mtu::new(9000u32).unwrap());
    assert_eq!(logged(&log), ["A mtu_changed", "v6 mtu_changed", "v4 mtu_changed", "driver mtu_changed"]);
    // What changes nothing is no event.
    link.set_mtu(Mtu::new(9000u32).unwrap());
    link.set_carrier(true);
    link.set_flags(Flags::default());
    assert!(logged(&log).is_empty());
}

#[test]
fn every_change_is_posted() {
    let registry = registry();
    let link = acquired(&registry);
    let events = registry.subscribe(32);
    link.set_mtu(Mtu::MAX);
    assert_eq!(codes(&events), [""; 0]);
    link.attach(Arc::new(()), None).unwrap();
    link.set_flags(Flags { up: true, promiscuous: true });
    link.set_carrier(false);
    link.set_carrier(true);
    link.set_address(MAC.into()).unwrap();
    let address = "fe80::1".parse().unwrap();
    link.add_address(address).unwrap();
    assert_eq!(link.add_address(address), Err(Error::AlreadyExists));
    link.remove_address(address).unwrap();
    assert_eq!(link.remove_address(address), Err(Error::InvalidArgument));
    let expected = ["if_attached", "flags_changed", "link_off", "link_on", "link_address_changed"];
    assert_eq!(codes(&events), [&expected[..], &["address_added", "address_removed"]].concat());
    assert_eq!(link.last_change(), Some(SystemTime::UNIX_EPOCH));
}

#[test]
fn a_slow_subscriber_is_told_what_it_lost() {
    let registry = registry();
    let link = attached(&registry);
    let (slow, fast) = (registry.subscribe(2), registry.subscribe(16));
    let change = |mtu: u32| link.set_mtu(Mtu::new(mtu).unwrap());
    (100..105).for_each(change);
    let mtu = |mtu: u32| {
        let code = EventCode::MtuChanged(Mtu::new(mtu).unwrap());
        Some(Notice::Event(Event { index: 1, name: link.name(), code }))
    };
    assert_eq!(slow.try_next(), mtu(100));
    assert_eq!(slow.try_next(), mtu(101));
    // There is room again, behind the gap.
    change(105);
    assert_eq!(slow.try_next(), Some(Notice::Lost(3)));
    assert_eq!(slow.try_next(), mtu(105));
    assert_eq!(slow.try_next(), None);
    assert_eq!(codes(&fast).len(), 6);
    drop(slow);
    change(106);
    assert_eq!(codes(&fast), ["mtu_changed"]);
}

#[test]
fn a_driver_tells_what_it_knows_while_the_link_is_attached() {
    let registry = registry();
    let link = attached(&registry);
    let events = registry.subscribe(4);
    link.post_driver_event(7);
    let name = link.name();
    let expected = Event { index: 1, name, code: EventCode::Driver(7) };
    assert_eq!(events.try_next(), Some(Notice::Event(expected)));
    link.detach().unwrap();
    link.post_driver_event(8);
    assert_eq!(codes(&events), ["if_detaching", "if_detached"]);
}

#[test]
fn a_waiting_task_is_woken() {
    #[derive(Default)]
    struct Counter(AtomicUsize);
    impl Wake for Counter {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let registry = registry();
    let link = attached(&registry);
    let events = registry.subscribe(4);
    let counter = Arc::new(Counter::default());
    let waker = Waker::from(counter.clone());
    let mut cx = core::task::Context::from_waker(&waker);
    assert_eq!(events.poll_next(&mut cx), Poll::Pending);
    link.set_carrier(false);
    link.set_carrier(true);
    assert_eq!(counter.0.load(SeqCst), 1);
    assert!(events.poll_next(&mut cx).is_ready() && events.poll_next(&mut cx).is_ready());
    assert!(events.poll_next(&mut cx).is_pending());
}

#[test]
fn who_hears_of_the_end_can_attach_again() {
    let registry = registry();
    let link = attached(&registry);
    let events = registry.subscribe(8);
    link.detach().unwrap();
    assert_eq!(codes(&events), ["if_detaching", "if_detached"]);
    link.attach(Arc::new(()), None).unwrap();
    assert_eq!(codes(&events), ["if_attached"]);
}
