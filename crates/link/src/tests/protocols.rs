use super::*;

#[test]
fn case_38_duplicate_and_absent() {
    let (registry, log) = (registry(), Log::default());
    let link = attached(&registry);
    let attach = |family| link.attach_protocol(protocol(family), Sink::new("p", &log));
    assert_eq!(attach(ProtocolFamily::UNSPECIFIED), Err(Error::InvalidArgument));
    assert_eq!(attach(ProtocolFamily::INET), Ok(()));
    assert_eq!(attach(ProtocolFamily::INET), Err(Error::AlreadyExists));
    assert_eq!(link.protocols(), [ProtocolFamily::INET]);
    assert_eq!(link.detach_protocol(ProtocolFamily::INET6), Err(Error::NotAttached));
    assert_eq!(link.detach_protocol(ProtocolFamily::UNSPECIFIED), Err(Error::InvalidArgument));
    assert_eq!(link.detach_protocol(ProtocolFamily::INET), Ok(()));
    assert_eq!(link.detach_protocol(ProtocolFamily::INET), Err(Error::NotAttached));
}

#[test]
fn the_medium_may_refuse_a_protocol() {
    struct Tunnel;
    impl Driver for Tunnel {
        fn media(&self) -> Option<Arc<dyn Media>> {
            Some(Arc::new(FamilyHeader::TUNNEL))
        }
    }
    let (registry, log) = (registry(), Log::default());
    let link = registry.acquire(LinkOptions::tunnel("utun").unwrap()).unwrap();
    link.attach(Arc::new(Tunnel), None).unwrap();
    let lldp = protocol(ProtocolFamily::from_ethertype(0x88cc));
    assert_eq!(link.attach_protocol(lldp, Sink::new("lldp", &log)), Err(Error::NoProtocolOption));
    assert!(link.protocols().is_empty());
}

/// A protocol that detaches itself while it is used.
struct Leaving(Link, Log);

impl Protocol for Leaving {
    fn input(&self, cx: &Context<'_>, batch: &mut Batch) -> Result<(), Error> {
        self.1.lock().push(format!("{:?}", marks(batch)));
        self.0.detach_protocol(ProtocolFamily::INET).unwrap();
        // The next input does not find it any more.
        self.0.input(cx, batch);
        let mut sent = Batch::default();
        let destination = Address::Ip("10.0.0.1".parse().unwrap());
        let mut wire = Wire::of(&self.0);
        let result = self.0.output_protocol(cx, ProtocolFamily::INET, &destination, &mut sent, &mut wire);
        assert_eq!(result, Err(Error::NotAttached));
        self.1.lock().push("use ends".into());
        Ok(())
    }

    fn detached(&self) {
        self.1.lock().push("detached".into());
    }
}

#[test]
fn case_39_detach_with_a_use_in_flight() {
    let (registry, worker, log) = (registry(), Worker::new(), Log::default());
    let link = attached(&registry);
    let events = registry.subscribe(16);
    link.attach_protocol(protocol(ProtocolFamily::INET), Arc::new(Leaving(link.clone(), log.clone())))
        .unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET6), Sink::new("v6", &log)).unwrap();
    logged(&log);
    link.input(&worker.cx(), &mut worker.frames(2));
    // A thread that moves frames leaves the end to the control side, and the link waits for it.
    assert_eq!((logged(&log), link.references()), (vec!["[1, 2]".into(), "use ends".into()], 1));
    registry.settle();
    assert_eq!((logged(&log), link.references()), (vec!["detached".into(), "v6 proto_detached".into()], 0));
    assert_eq!(codes(&events), ["proto_attached", "proto_attached", "proto_detached"]);
    assert_eq!((dropped(&link, DropReason::NoProtocol), worker.pool.out()), (2, 0));
}

#[test]
fn protocol_events_carry_the_number_left() {
    let (registry, log) = (registry(), Log::default());
    let link = attached(&registry);
    let events = registry.subscribe(16);
    link.attach_protocol(protocol(ProtocolFamily::INET), Sink::new("v4", &log)).unwrap();
    link.attach_protocol(protocol(ProtocolFamily::INET6), Sink::new("v6", &log)).unwrap();
    link.detach_protocol(ProtocolFamily::INET).unwrap();
    link.detach_protocol(ProtocolFamily::INET6).unwrap();
    let code = |notice| match notice {
        Notice::Event(event) => event.code,
        Notice::Lost(count) => panic!("{count} lost"),
    };
    let codes: Vec<_> = core::iter::from_fn(|| events.try_next()).map(code).collect();
    let (v4, v6) = (ProtocolFamily::INET, ProtocolFamily::INET6);
    let attached = [EventCode::ProtocolAttached(v4, 1), EventCode::ProtocolAttached(v6, 2)];
    let detached = [EventCode::ProtocolDetached(v4, 1), EventCode::ProtocolDetached(v6, 0)];
    assert_eq!(codes, [attached, detached].concat());
}
