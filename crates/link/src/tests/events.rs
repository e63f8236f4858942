use core::task::{Poll, Waker};
use std::sync::mpsc;
use std::task::Wake;
use std::thread;
use std::time::Duration;

use super::*;

const DEADLINE: Duration = Duration::from_secs(20);

#[test]
fn events_run_through_filters_protocols_and_driver() {
    struct Driving(Log);
    impl Driver for Driving {
        fn event(&self, _: &Link, event: &Event) {
            self.0.lock().push(format!("driver {}", event.code.name()));
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

/// A filter that does something at the first event, and then writes the event down.
struct Acting<F> {
    log: Log,
    act: Mutex<Option<F>>,
}

impl<F: FnOnce(&Link) + Send> Filter for Acting<F> {
    fn event(&self, link: &Link, event: &Event) {
        let act = self.act.lock().take();
        if let Some(act) = act {
            act(link);
        }
        self.log.lock().push(format!("acting {}", event.code.name()));
    }
}

fn acting<F: FnOnce(&Link) + Send + 'static>(link: &Link, log: &Log, act: F) {
    let filter = Acting { log: log.clone(), act: Mutex::new(Some(act)) };
    link.attach_filter(FilterOptions::new("acting"), Arc::new(filter)).unwrap();
}

#[test]
fn an_event_of_another_thread_comes_after_the_one_that_is_being_told() {
    let (registry, log) = (registry(), Log::default());
    let link = attached(&registry);
    let events = registry.subscribe(8);
    let (entered, is_entered) = mpsc::channel();
    let (tell, go_on) = mpsc::channel();
    acting(&link, &log, move |_| {
        entered.send(()).unwrap();
        go_on.recv_timeout(DEADLINE).unwrap();
    });
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    thread::scope(|scope| {
        scope.spawn(|| link.set_carrier(false));
        is_entered.recv_timeout(DEADLINE).unwrap();
        // Neither waits nor overtakes.
        link.set_carrier(true);
        assert!(link.carrier() && logged(&log).is_empty());
        tell.send(()).unwrap();
    });
    assert_eq!(logged(&log), ["acting link_off", "A link_off", "acting link_on", "A link_on"]);
    assert_eq!(codes(&events), ["link_off", "link_on"]);
}

#[test]
fn an_event_posted_from_an_event_comes_after_it_for_everybody() {
    let (registry, log) = (registry(), Log::default());
    let link = attached(&registry);
    acting(&link, &log, |link| link.set_flags(Flags { up: true, promiscuous: false }));
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    link.set_carrier(false);
    let expected = ["acting link_off", "A link_off", "acting flags_changed", "A flags_changed"];
    assert_eq!(logged(&log), expected);
}

#[test]
fn events_that_wait_for_a_busy_hook_are_bounded_and_those_of_life_are_kept() {
    let (registry, log) = (registry(), Log::default());
    let link = attached(&registry);
    let events = registry.subscribe(2000);
    acting(&link, &log, |link| {
        (0..1500).for_each(|number| link.post_driver_event(number));
        link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &Log::default())).unwrap();
    });
    link.set_carrier(false);
    assert_eq!(logged(&log).last().unwrap(), "acting proto_attached");
    let seen = codes(&events);
    assert_eq!((seen.len(), &seen[..3]), (1 + 1 + 1024 + 1, &["link_off", "lost", "driver"][..]));
}

#[test]
fn every_subscriber_hears_the_events_of_a_link_in_the_order_of_its_changes() {
    let registry = registry();
    let link = attached(&registry);
    let events = registry.subscribe(1 << 12);
    let log = Log::default();
    link.attach_filter(FilterOptions::new("A"), Probe::passing("A", &log)).unwrap();
    thread::scope(|scope| {
        // Fewer together than may wait, so that none is lost however the threads run.
        for _ in 0..3 {
            scope.spawn(|| (0..300).for_each(|round| link.set_carrier(round % 2 == 0)));
        }
    });
    let seen = codes(&events);
    // A change that changes something follows one the other way.
    assert!(seen.windows(2).all(|pair| pair[0] != pair[1]));
    let told: Vec<_> = seen.iter().map(|code| format!("A {code}")).collect();
    assert_eq!(logged(&log), told);
}

#[test]
fn a_waiting_task_is_woken_for_an_end_that_a_worker_left() {
    struct Gone(Link);
    impl Filter for Gone {
        fn input(&self, _: &Context<'_>, _: &mut Frame) -> Verdict {
            self.0.detach().unwrap();
            Verdict::Continue
        }
    }
    struct Nothing;
    impl Wake for Nothing {
        fn wake(self: Arc<Self>) {}
    }
    let (registry, worker) = (registry(), Worker::new());
    let link = attached(&registry);
    link.attach_filter(FilterOptions::new("gone"), Arc::new(Gone(link.clone()))).unwrap();
    let events = registry.subscribe(4);
    let waker = Waker::from(Arc::new(Nothing));
    let mut cx = core::task::Context::from_waker(&waker);
    assert!(events.poll_next(&mut cx).is_pending());
    link.input(&worker.cx(), &mut worker.frames(1));
    assert!(events.poll_next(&mut cx).is_ready());
    assert!(!link.is_detaching());
    let Poll::Ready(Notice::Event(event)) = events.poll_next(&mut cx) else { panic!("the end is told") };
    assert_eq!(event.code, EventCode::Detached);
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
